//! Connections: made, used from both ends at once, ended.

use std::cell::Cell;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::join;

use super::super::{Class, Io, Listener, Stream};
use super::until;

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// A listener and both ends of one connection to it.
async fn connected<I: Io>(io: &I) -> (I::Listener, I::Stream, I::Stream) {
    let listener = io.listen(LOOPBACK).await.expect("listening");
    let address = listener.local_addr().expect("an address");
    assert_ne!(address.port(), 0, "a port was chosen");
    let (client, server) = join(io.connect(address), listener.accept()).await;
    let (client, server) = (client.expect("connecting"), server.expect("accepting"));
    assert_eq!(client.peer_addr().expect("a peer"), address);
    assert!(server.peer_addr().expect("a peer").ip().is_loopback());
    (listener, client, server)
}

async fn receive<S: Stream>(stream: &S, bytes: usize) -> Vec<u8> {
    let mut all = Vec::new();
    while all.len() < bytes {
        let part = stream.recv().await.expect("receiving");
        assert!(
            !part.is_empty(),
            "the peer ended after {} of {bytes} bytes",
            all.len()
        );
        all.extend_from_slice(&part);
    }
    all
}

/// Connect, accept, echo, several at a time.
pub async fn sockets<I: Io>(io: I) {
    let (listener, client, server) = connected(&io).await;
    let batch = vec![b"one".to_vec(), Vec::new(), b"two".to_vec()];
    let (sent, back) = client.send(batch.clone()).await;
    sent.expect("sending");
    assert_eq!(back, batch, "a send gives its buffers back");
    assert_eq!(receive(&server, 6).await, b"onetwo", "a batch arrives in order");
    server.send(vec![b"three".to_vec()]).await.0.expect("answering");
    assert_eq!(receive(&client, 5).await, b"three");

    let address = listener.local_addr().expect("an address");
    for round in 0..3_u8 {
        let (client, server) = join(io.connect(address), listener.accept()).await;
        let (client, server) = (client.expect("connecting"), server.expect("accepting"));
        client.send(vec![vec![round; 10]]).await.0.expect("sending");
        assert_eq!(receive(&server, 10).await, [round; 10], "connections do not mix");
    }
    drop(listener);
    let refused = io.connect(address).await;
    assert_eq!(
        refused.err().map(|error| error.kind()),
        Some(ErrorKind::ConnectionRefused)
    );
}

/// Several cores listen on one address; here one does twice.
pub async fn listeners<I: Io>(io: I) {
    let first = io.listen(LOOPBACK).await.expect("listening");
    let address = first.local_addr().expect("an address");
    let second = io.listen(address).await.expect("listening once more");
    assert_eq!(second.local_addr().expect("an address"), address);
    drop(first);
    let (client, server) = join(io.connect(address), second.accept()).await;
    client
        .expect("connecting")
        .send(vec![vec![1]])
        .await
        .0
        .expect("sending");
    assert_eq!(receive(&server.expect("accepting"), 1).await, [1]);
}

/// More than any buffer holds, both ways at once, from tasks that share a stream.
pub async fn under_load<I: Io>(io: I) {
    const BYTES: usize = 8 << 20;
    let (_listener, client, server) = connected(&io).await;
    let pattern =
        |from: usize, len: usize| -> Vec<u8> { (0_u8..251).cycle().skip(from % 251).take(len).collect() };
    let send = |stream: I::Stream| async move {
        let mut at = 0;
        while at < BYTES {
            let batch: Vec<Vec<u8>> = (0..4).map(|part| pattern(at + part * 65_536, 65_536)).collect();
            stream.send(batch).await.0.expect("sending");
            at += 4 * 65_536;
        }
    };
    let check = |stream: I::Stream| async move {
        let mut at = 0;
        while at < BYTES {
            let part = stream.recv().await.expect("receiving");
            assert!(!part.is_empty(), "the stream ended at {at}");
            assert!(*part == *pattern(at, part.len()), "bytes at {at} are those sent");
            at += part.len();
        }
        assert_eq!(at, BYTES);
    };
    let there = join(send(client.clone()), check(server.clone()));
    let back = join(send(server.clone()), check(client.clone()));
    join(there, back).await;
}

/// A sender whose bytes nobody reads is held back, and goes on when they are read.
pub async fn back_pressure<I: Io>(io: I) {
    /// Far more than sockets hold.
    const BYTES: usize = 64 << 20;
    const BATCH_BYTES: usize = 100_000;
    let (_listener, client, server) = connected(&io).await;
    let (sent, ended) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(false)));
    let (sends, ends) = (Rc::clone(&sent), Rc::clone(&ended));
    io.spawn(Class::Foreground, async move {
        while sends.get() < BYTES && client.send(vec![vec![1; BATCH_BYTES]]).await.0.is_ok() {
            sends.set(sends.get() + BATCH_BYTES);
        }
        ends.set(true);
    });
    let mut received = receive(&server, 1).await.len();
    let mut last = usize::MAX;
    while last != sent.get() {
        last = sent.get();
        io.sleep(Duration::from_millis(50)).await;
    }
    assert!(last < BYTES, "{last} bytes went nowhere");
    while sent.get() == last {
        received += server.recv().await.expect("receiving").len();
    }
    assert!(
        received <= sent.get() + BATCH_BYTES,
        "no more comes than was sent"
    );
    drop(server);
    until(&io, "sending to nobody fails", || ended.get()).await;
}

/// What nobody waits for any more harms nobody: the connection brings what comes to whoever asks next.
pub async fn dropped_futures<I: Io>(io: I) {
    let (listener, client, server) = connected(&io).await;
    for round in 0..8_u8 {
        let mut receives = Box::pin(server.recv());
        assert!(
            futures_util::poll!(&mut receives).is_pending(),
            "nothing was sent"
        );
        drop(receives);
        client.send(vec![vec![round; 10]]).await.0.expect("sending");
        assert_eq!(receive(&server, 10).await, [round; 10]);
        let mut accepts = Box::pin(listener.accept());
        assert!(
            futures_util::poll!(&mut accepts).is_pending(),
            "nobody has connected"
        );
        drop(accepts);
    }
    let address = listener.local_addr().expect("an address");
    let (other, accepted) = join(io.connect(address), listener.accept()).await;
    other
        .expect("connecting")
        .send(vec![vec![9]])
        .await
        .0
        .expect("sending");
    assert_eq!(receive(&accepted.expect("accepting"), 1).await, [9]);
}

/// How a connection ends.
pub async fn ends<I: Io>(io: I) {
    // What was sent before the end arrives before it.
    let (_listener, client, server) = connected(&io).await;
    client.send(vec![vec![1; 1000]]).await.0.expect("sending");
    client.shutdown().await.expect("shutting down");
    assert_eq!(receive(&server, 1000).await, vec![1; 1000]);
    assert!(server.recv().await.expect("the end is no error").is_empty());
    assert!(
        client.send(vec![vec![2]]).await.0.is_err(),
        "nothing is sent after a shutdown"
    );

    // A shutdown completes a receive that another task waits in.
    let (_listener, client, _server) = connected(&io).await;
    let ended = Rc::new(Cell::new(false));
    let (waiting, flag) = (client.clone(), Rc::clone(&ended));
    io.spawn(Class::Foreground, async move {
        let end = waiting.recv().await;
        assert!(end.map_or(true, |bytes| bytes.is_empty()), "nothing was sent");
        flag.set(true);
    });
    io.sleep(Duration::from_millis(2)).await;
    assert!(!ended.get(), "a receive waits for bytes");
    client.shutdown().await.expect("shutting down");
    until(&io, "the pending receive completes", || ended.get()).await;

    // Dropping an end is an end too.
    let (_listener, client, server) = connected(&io).await;
    drop(client);
    assert!(server.recv().await.map_or(true, |bytes| bytes.is_empty()));
}
