//! Sockets: segments, delays, back pressure, resets. How a connection works at all is the conformance suite's.

use std::cell::Cell;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::join;

use super::*;
use crate::io::sim::{SimMachine, SimStream};
use crate::io::{Class, Listener, Stream};

async fn connected(machine: &SimMachine) -> (SimStream, SimStream) {
    let address: SocketAddr = "127.0.0.1:6379".parse().unwrap();
    let listener = machine.core(0).listen(address).await.unwrap();
    let (client, server) = join(machine.core(1).connect(address), listener.accept()).await;
    (client.unwrap(), server.unwrap())
}

#[test]
fn bytes_arrive_in_order_cut_at_any_place() {
    let found = outcomes(|seed| {
        run(seed, &SimDisk::new(), 2, |machine| async move {
            let (client, server) = connected(&machine).await;
            client.send(vec![b"abcd".to_vec()]).await.0.unwrap();
            let (mut all, mut cuts) = (Vec::new(), Vec::new());
            while all.len() < 4 {
                let part = server.recv().await.unwrap();
                all.extend_from_slice(&part);
                cuts.push(part.len());
            }
            assert_eq!(all, b"abcd");
            cuts
        })
    });
    assert_eq!(found.len(), 8, "every way to cut four bytes: {found:?}");
}

#[test]
fn a_sender_waits_while_nobody_receives() {
    run(1, &SimDisk::new(), 2, |machine| async move {
        let (client, server) = connected(&machine).await;
        let sent = Rc::new(Cell::new(false));
        let flag = Rc::clone(&sent);
        machine.core(1).spawn(Class::Foreground, async move {
            client.send(vec![vec![7; 1 << 20]]).await.0.unwrap();
            flag.set(true);
        });
        machine.core(0).sleep(Duration::from_secs(10)).await;
        assert!(!sent.get(), "a mebibyte does not fit into a connection");
        let mut received = 0;
        while received < 1 << 20 {
            received += server.recv().await.unwrap().len();
        }
        machine.core(0).yield_now().await;
        assert!(sent.get());
    });
}

#[test]
fn a_reset_fails_both_ends_and_those_who_wait() {
    run(1, &SimDisk::new(), 2, |machine| async move {
        let (client, server) = connected(&machine).await;
        let (waiting, control) = (client.clone(), machine.clone());
        let reset = async move {
            control.core(0).sleep(Duration::from_millis(1)).await;
            control.reset_connections(|address| address.port() == 1);
            control.core(0).sleep(Duration::from_millis(1)).await;
            control.reset_connections(|address| address.port() == 6379);
        };
        let (received, ()) = join(waiting.recv(), reset).await;
        assert_eq!(received.unwrap_err().kind(), ErrorKind::ConnectionReset);
        for end in [client, server] {
            assert_eq!(end.recv().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
            assert_eq!(
                end.send(vec![vec![1]]).await.0.unwrap_err().kind(),
                ErrorKind::ConnectionReset
            );
        }
    });
}

#[test]
fn sending_to_an_end_that_is_gone_is_an_error() {
    run(1, &SimDisk::new(), 2, |machine| async move {
        let (client, server) = connected(&machine).await;
        drop(server);
        assert_eq!(
            client.send(vec![vec![1]]).await.0.unwrap_err().kind(),
            ErrorKind::BrokenPipe
        );
        assert!(client.recv().await.unwrap().is_empty());
    });
}

#[test]
fn several_listeners_on_one_address_share_its_connections() {
    let found = outcomes(|seed| {
        run(seed, &SimDisk::new(), 2, |machine| async move {
            let address: SocketAddr = "0.0.0.0:7000".parse().unwrap();
            let accepted = Rc::new(Cell::new(None));
            for core in 0..2 {
                let (io, accepted) = (machine.core(core), Rc::clone(&accepted));
                let listener = io.listen(address).await.unwrap();
                io.spawn(Class::Foreground, async move {
                    let _stream = listener.accept().await.unwrap();
                    accepted.set(Some(core));
                });
            }
            machine
                .core(0)
                .connect("127.0.0.1:7000".parse().unwrap())
                .await
                .unwrap();
            machine.core(0).sleep(Duration::from_millis(1)).await;
            accepted.get().unwrap()
        })
    });
    assert_eq!(found, BTreeSet::from([Some(0), Some(1)]));
}
