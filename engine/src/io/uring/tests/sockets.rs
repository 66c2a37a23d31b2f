//! Sockets: peers that reset, do not read, or send faster than they are read; and buffers that run out.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::super::buffers::RECV_BYTES;
use super::*;

/// Receives so many bytes, all of them the same.
async fn receive(stream: &UringStream, bytes: usize, byte: u8) {
    let mut received = 0;
    while received < bytes {
        let more = stream.recv().await.unwrap();
        assert!(!more.is_empty() && more.iter().all(|&other| other == byte));
        received += more.len();
    }
    assert_eq!(received, bytes);
}

/// A connection from a plain thread's socket.
async fn from_outside(io: &UringIo) -> (TcpStream, UringStream) {
    let listener = io.listen(LOOPBACK.parse().unwrap()).await.unwrap();
    let outside = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (outside, listener.accept().await.unwrap())
}

/// Connections that keep what they have received, which is too much to be copied, until all buffers of the ring are out.
async fn take_all_buffers(io: &UringIo) -> (Vec<(UringStream, UringStream)>, Vec<RecvBuf>) {
    let all = u64::from(super::buffers::RECV_BUFFERS);
    let (mut pairs, mut kept) = (Vec::new(), Vec::new());
    while held(io).receive_buffers < all {
        let (client, server) = connected(io).await;
        for _ in 0..4 {
            client.send(vec![vec![7; 5000]]).await.0.unwrap();
            kept.push(server.recv().await.unwrap());
        }
        pairs.push((client, server));
        assert!(kept.len() as u64 <= 2 * all, "buffers of the ring are used");
    }
    (pairs, kept)
}

/// Connections that the kernel holds ready for whoever listens on an address of IPv4 (proc(5), `/proc/net/tcp`).
fn waiting_at(address: SocketAddr) -> usize {
    const LISTENS: &str = "0A";
    let port = format!(":{:04X}", address.port());
    let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let listener = sockets
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    let mut listener = listener.filter(|fields| fields[1].ends_with(&port) && fields[3] == LISTENS);
    let queues = listener.next().expect("somebody listens there")[4];
    usize::from_str_radix(queues.split_once(':').unwrap().1, 16).unwrap()
}

/// The kernel accepted whatever waited, a thousand connections at once, before it could be told that this was enough: it took
/// a core for some ms, and what it had taken was ours to hold.
#[test]
fn those_whom_nobody_has_asked_for_wait_in_the_kernel() {
    const CROWD: usize = 100;
    on_core(|io, _| async move {
        let listener = io.listen(LOOPBACK.parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let crowd: Vec<_> = (0..CROWD).map(|_| TcpStream::connect(address).unwrap()).collect();
        for left in (0..CROWD).rev() {
            let _accepted = listener.accept().await.unwrap();
            io.sleep(Duration::from_millis(1)).await;
            assert_eq!(waiting_at(address), left);
        }
        drop(crowd);
    });
}

#[test]
fn a_reset_is_an_error_once_and_then_the_end() {
    on_core(|io, _| async move {
        let (mut outside, server) = from_outside(&io).await;
        // Closing with bytes unread resets.
        server.send(vec![vec![1; 100]]).await.0.unwrap();
        io.sleep(Duration::from_millis(5)).await;
        outside.write_all(b"x").unwrap();
        assert_eq!(*server.recv().await.unwrap(), *b"x");
        drop(outside);
        let error = server.recv().await.err().map(|error| error.kind());
        assert_eq!(error, Some(io::ErrorKind::ConnectionReset));
        assert!(server.recv().await.unwrap().is_empty());
        let (sent, back) = server.send(vec![vec![1; 100]]).await;
        assert!(sent.is_err() && back == [vec![1; 100]]);
    });
}

#[test]
fn a_sender_whose_bytes_nobody_reads_is_held_back_and_takes_few_buffers() {
    on_core(|io, _| async move {
        let (client, server) = connected(&io).await;
        let sent = Rc::new(Cell::new(0_usize));
        let (sends, sending) = (Rc::clone(&sent), client.clone());
        io.spawn(Class::Foreground, async move {
            for _ in 0..640 {
                sending.send(vec![vec![1; 100_000]]).await.0.unwrap();
                sends.set(sends.get() + 100_000);
            }
        });
        let first = server.recv().await.unwrap();
        // What the sockets and a few buffers hold; the sender has come to a stop.
        let mut last = usize::MAX;
        while last != sent.get() {
            last = sent.get();
            io.sleep(Duration::from_millis(50)).await;
        }
        assert!(last < 64_000_000, "{last} bytes went nowhere");
        let out = held(&io).receive_buffers;
        assert!(out <= 32, "{out} buffers for a connection that nobody reads");
        let mut received = first.len();
        drop(first);
        while received < 64_000_000 {
            received += server.recv().await.unwrap().len();
        }
        assert_eq!(received, 64_000_000);
    });
}

/// What 32 clients who read nothing had asked for was copied in one entry into the kernel, 5 to 15 ms, and everybody else of the
/// core waited for that.
#[test]
fn who_sends_much_lets_others_go_between() {
    const MUCH_BYTES: usize = 1 << 20;
    on_core(|io, _| async move {
        let mut greedy = Vec::new();
        for _ in 0..40 {
            greedy.push(connected(&io).await);
        }
        let small = connected(&io).await;
        let senders: Vec<_> = greedy.iter().map(|(sender, _)| sender.clone()).collect();
        io.spawn(Class::Foreground, async move {
            let sends = senders
                .iter()
                .map(|sender| sender.send(vec![vec![7; MUCH_BYTES]]));
            assert!(join_all(sends).await.iter().all(|(sent, _)| sent.is_ok()));
        });
        while io.0.reactor.waiting() == 0 {
            io.yield_now().await;
        }
        small.0.send(vec![vec![1; 400]]).await.0.unwrap();
        assert_eq!(small.1.recv().await.unwrap().len(), 400);
        assert!(io.0.reactor.waiting() > 0, "it did not wait for them");
        join_all(
            greedy
                .iter()
                .map(|(_, receiver)| receive(receiver, MUCH_BYTES, 7)),
        )
        .await;
        assert_eq!(io.0.reactor.waiting(), 0);
    });
}

/// The kernel copied up to a mebibyte of each who sent much, in one entry.
#[test]
fn of_who_sends_much_a_buffer_is_taken_at_a_time() {
    // What a new connection takes in before it is read from.
    const AT_ONCE: usize = RECV_BYTES + RECV_BYTES / 2;
    on_core(|io, _| async move {
        let (mut outside, server) = from_outside(&io).await;
        outside.write_all(&[1; AT_ONCE]).unwrap();
        for expected in [RECV_BYTES, AT_ONCE - RECV_BYTES] {
            let bytes = server.recv().await.unwrap();
            assert!(bytes.len() == expected && bytes.iter().all(|&byte| byte == 1));
            assert_eq!(held(&io).receive_buffers, 1, "the one that is read");
        }
        for round in 2..5_u8 {
            outside.write_all(&[round; 10]).unwrap();
            assert_eq!(*server.recv().await.unwrap(), [round; 10]);
            outside.write_all(&[round; AT_ONCE]).unwrap();
            receive(&server, AT_ONCE, round).await;
        }
    });
}

/// A receive into memory of its own, which is shorter, counted as brief however much there was.
#[test]
fn who_sends_much_is_not_brief_where_buffers_are_short() {
    const WAITING_BYTES: usize = RECV_BYTES + 10_000;
    const MUCH_BYTES: usize = 10 * RECV_BYTES;
    on_core(|io, _| async move {
        let (mut outside, server) = from_outside(&io).await;
        let taken = take_all_buffers(&io).await;
        outside.write_all(&[5; WAITING_BYTES]).unwrap();
        let first = server.recv().await.unwrap();
        assert!(first.len() < RECV_BYTES, "memory of its own");
        let left = WAITING_BYTES - first.len();
        drop((taken, first));
        while held(&io).receive_buffers > 0 {
            io.yield_now().await;
        }
        let next = server.recv().await.unwrap();
        assert_eq!((next.len(), held(&io).receive_buffers), (RECV_BYTES, 1));
        outside.write_all(&[5; MUCH_BYTES]).unwrap();
        receive(&server, left - next.len() + MUCH_BYTES, 5).await;
    });
}

/// When every buffer of the ring is out, a receive failed with ENOBUFS, and nobody armed it again.
#[test]
fn whoever_waits_for_bytes_gets_them_when_all_buffers_are_out() {
    on_core(|io, _| async move {
        let (pairs, kept) = take_all_buffers(&io).await;
        let new = connected(&io).await;
        // Those whose receive is armed already find none either.
        for (client, server) in pairs.iter().take(10).chain([&new]) {
            for round in 0..3_u8 {
                client.send(vec![vec![round; 20_000]]).await.0.unwrap();
                receive(server, 20_000, round).await;
            }
        }
        let whole = kept.iter().flat_map(|bytes| bytes.iter());
        assert!(whole.clone().all(|&byte| byte == 7), "nobody wrote into them");
        drop(kept);
        let (client, server) = &pairs[0];
        client.send(vec![vec![9; 10]]).await.0.unwrap();
        assert_eq!(*server.recv().await.unwrap(), [9; 10]);
    });
}

/// Each client that waited for an answer kept a buffer of 32 KiB for its few bytes, so that from the 257th on all others
/// received one by one, into memory that was cleared for each.
#[test]
fn small_commands_of_a_crowd_that_waits_leave_buffers_for_others() {
    on_core(|io, _| async move {
        let listener = io.listen(LOOPBACK.parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let all = u64::from(super::buffers::RECV_BUFFERS);
        let (mut kept, mut pairs) = (Vec::new(), Vec::new());
        for n in 0..2 * all {
            let (client, server) = join(io.connect(address), listener.accept()).await;
            let (client, server) = (client.unwrap(), server.unwrap());
            client.send(vec![n.to_be_bytes().to_vec()]).await.0.unwrap();
            kept.push(server.recv().await.unwrap());
            pairs.push((client, server));
            let out = held(&io).receive_buffers;
            assert!(out < all, "all buffers are out, for {} clients", pairs.len());
        }
        for (n, bytes) in (0..2 * all).zip(&kept) {
            assert_eq!(**bytes, n.to_be_bytes());
        }
        assert!(
            held(&io).receive_buffers > 0,
            "and none is copied while there are plenty"
        );
    });
}

#[test]
fn a_thousand_connections_from_outside_are_each_answered() {
    on_core(|io, _| async move {
        let listener = io.listen(LOOPBACK.parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let outside = std::thread::spawn(move || {
            let mut streams: Vec<TcpStream> =
                (0..1000).map(|_| TcpStream::connect(address).unwrap()).collect();
            for (stream, n) in streams.iter_mut().zip(0_u32..) {
                stream.write_all(&n.to_be_bytes()).unwrap();
            }
            for (stream, n) in streams.iter_mut().zip(0_u32..) {
                let mut answer = [0; 4];
                stream.read_exact(&mut answer).unwrap();
                assert_eq!(u32::from_be_bytes(answer), n + 1);
            }
        });
        let served = Rc::new(Cell::new(0));
        for _ in 0..1000 {
            let (stream, served) = (listener.accept().await.unwrap(), Rc::clone(&served));
            io.spawn(Class::Foreground, async move {
                let mut request = Vec::new();
                while request.len() < 4 {
                    request.extend_from_slice(&stream.recv().await.unwrap());
                }
                let n = u32::from_be_bytes(request.try_into().unwrap());
                stream.send(vec![(n + 1).to_be_bytes().to_vec()]).await.0.unwrap();
                assert!(stream.recv().await.map_or(true, |bytes| bytes.is_empty()));
                served.set(served.get() + 1);
            });
        }
        while served.get() < 1000 {
            io.sleep(Duration::from_millis(1)).await;
        }
        outside.join().unwrap();
    });
}

/// A send that is given up while its peer does not read would hold its buffers, and the socket, for ever.
#[test]
fn a_send_that_is_given_up_ends() {
    on_core(|io, _| async move {
        let (client, server) = connected(&io).await;
        let mut send = Box::pin(client.send(vec![vec![1; 32 << 20]]));
        let _begun = futures_util::poll!(&mut send);
        io.sleep(Duration::from_millis(5)).await;
        let with_send = held(&io).operations;
        drop(send);
        for _ in 0..1000 {
            if held(&io).operations < with_send {
                break;
            }
            io.sleep(Duration::from_millis(1)).await;
        }
        assert!(held(&io).operations < with_send, "it goes on for ever");
        drop(server);
    });
}

#[test]
fn connections_over_ipv6_work_where_it_is_there() {
    on_core(|io, _| async move {
        let Ok(listener) = io.listen("[::1]:0".parse().unwrap()).await else {
            return;
        };
        let address = listener.local_addr().unwrap();
        let (client, server) = join(io.connect(address), listener.accept()).await;
        let (client, server) = (client.unwrap(), server.unwrap());
        assert_eq!(client.peer_addr().unwrap(), address);
        client.send(vec![b"six".to_vec()]).await.0.unwrap();
        assert_eq!(*server.recv().await.unwrap(), *b"six");
    });
}
