//! TLS over the simulator's sockets, which cut and delay what is sent as they like.

use std::cell::RefCell;
use std::io::{Read as _, Write as _};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use corelane::io::sim::{self, SimDisk, SimIo, SimMachine, SimStream};
use corelane::io::{Class, Io as _, Listener as _, Stream as _};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig};

use crate::clients::Clients;
use crate::connection::serve;
use crate::testing::{MemoryStore, Script, arrival, server};
use crate::tls::server_config;
use crate::tls::stream::TlsStream;
use crate::tls::tests::made;
use crate::tls::turns::Turns;

/// Seeds, each with its own cuts and delays.
const SEEDS: u64 = 20;

/// What the server shows, and a client that trusts it.
fn both_sides() -> (Arc<ServerConfig>, ClientConnection) {
    let (cert, key) = made();
    let name = std::path::Path::new("test.pem");
    let config = server_config((name, cert.as_bytes()), (name, key.as_bytes()), None).unwrap();
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(cert.as_bytes()).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = "localhost".try_into().unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
    // What is said before the hands were shaken waits in the session.
    client.set_buffer_limit(None);
    (Arc::new(config), client)
}

/// A client of the library, over a simulated socket.
struct Peer {
    stream: SimStream,
    session: ClientConnection,
    heard: Vec<u8>,
}

impl Peer {
    async fn flush(&mut self) {
        let mut records = Vec::new();
        while self.session.wants_write() {
            self.session.write_tls(&mut records).unwrap();
        }
        if !records.is_empty() {
            // A server that has ended does not listen any more.
            let _gone = self.stream.send(vec![records]).await;
        }
    }

    async fn say(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(16 * 1024) {
            self.session.writer().write_all(part).unwrap();
            self.flush().await;
        }
    }

    /// What the server says until there are `bytes` bytes of it, or its end.
    async fn hear(&mut self, bytes: usize) -> Vec<u8> {
        while self.heard.len() < bytes {
            let Ok(received) = self.stream.recv().await else {
                break;
            };
            if received.is_empty() {
                break;
            }
            let mut sealed = &received[..];
            while !sealed.is_empty() {
                self.session.read_tls(&mut sealed).unwrap();
                let state = self.session.process_new_packets().unwrap();
                let mut opened = vec![0; state.plaintext_bytes_to_read()];
                self.session.reader().read_exact(&mut opened).unwrap();
                self.heard.extend(opened);
            }
            self.flush().await;
        }
        std::mem::take(&mut self.heard)
    }
}

/// Connects a socket of core 1 to core 0.
async fn connected(machine: &SimMachine) -> (SimIo, SimStream, SimStream) {
    let io = machine.core(0);
    let listener = io.listen(([127, 0, 0, 1], 0).into()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let client = machine.core(1).connect(address).await.unwrap();
    let server = listener.accept().await.unwrap();
    (io, server, client)
}

#[test]
fn what_either_side_says_arrives_whole_and_an_end_is_an_end() {
    for seed in 0..SEEDS {
        sim::run(seed, &SimDisk::new(), 2, async |machine| {
            let (io, below, client) = connected(&machine).await;
            let (config, session) = both_sides();
            let got = Rc::new(RefCell::new(None));
            let into = Rc::clone(&got);
            io.clone().spawn(Class::Foreground, async move {
                let stream = TlsStream::accept(&io, &Turns::default(), below, config)
                    .await
                    .unwrap();
                let mut got = Vec::new();
                while got.len() < 300_000 {
                    let received = stream.recv().await.unwrap();
                    assert!(!received.is_empty(), "it ends only when the client says so");
                    got.extend(received);
                }
                let batch = vec![
                    got[..10].to_vec(),
                    got.clone(),
                    Vec::new(),
                    got[..70_000].to_vec(),
                ];
                let (sent, batch) = stream.send(batch).await;
                sent.unwrap();
                assert_eq!(batch.len(), 4, "buffers come back");
                assert_eq!(stream.recv().await.unwrap(), b"", "the client has closed");
                stream.shutdown().await.unwrap();
                *into.borrow_mut() = Some(got);
            });
            let mut peer = Peer {
                stream: client,
                session,
                heard: Vec::new(),
            };
            let said: Vec<u8> = (0..300_000_u32).map(|n| n.to_le_bytes()[1]).collect();
            peer.say(&said).await;
            let heard = peer.hear(370_010).await;
            assert!(heard == [&said[..10], &said, &said[..70_000]].concat());
            peer.session.send_close_notify();
            peer.flush().await;
            assert_eq!(peer.hear(1).await, b"", "the server has closed");
            assert!(got.borrow().as_ref() == Some(&said));
        })
        .expect("the power stays on");
    }
}

#[test]
fn a_connection_is_served_in_tls_as_in_clear_text() {
    sim::run(7, &SimDisk::new(), 2, async |machine| {
        let (io, below, client) = connected(&machine).await;
        let (config, session) = both_sides();
        let server = Arc::new(server());
        let seat = server.admit(arrival()).unwrap();
        let store = MemoryStore::default();
        let clients = Rc::new(Clients::default());
        let serving = Rc::clone(&clients);
        io.clone().spawn(Class::Foreground, async move {
            let stream = TlsStream::accept(&io, &Turns::default(), below, config)
                .await
                .unwrap();
            serve(stream, seat, store, serving).await;
        });
        let mut peer = Peer {
            stream: client,
            session,
            heard: Vec::new(),
        };
        peer.say(b"SET a 1\r\nGET a\r\n").await;
        assert_eq!(peer.hear(12).await, b"+OK\r\n$1\r\n1\r\n");
        clients.begin_closing().await;
        assert_eq!(peer.hear(1).await, b"");
        assert!(clients.is_empty() && server.clients() == 0);
    })
    .expect("the power stays on");
}

#[test]
fn who_speaks_no_tls_is_told_so_in_tls_and_leaves_nothing() {
    let hello = [
        b"PING\r\n".to_vec(),
        vec![0x16; 40_000],
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        Vec::new(),
    ];
    for (seed, said) in (0..).zip(hello) {
        sim::run(seed, &SimDisk::new(), 2, async |machine| {
            let (io, below, client) = connected(&machine).await;
            let (config, _) = both_sides();
            let refused = Rc::new(RefCell::new(false));
            let into = Rc::clone(&refused);
            let shaking = io.clone();
            io.spawn(Class::Foreground, async move {
                let turns = Turns::default();
                let accepted = TlsStream::accept(&shaking, &turns, below.clone(), config).await;
                *into.borrow_mut() = accepted.is_err();
                let _gone = below.shutdown().await;
            });
            if said.is_empty() {
                client.shutdown().await.unwrap();
            } else {
                // The server may end before it has read all of it.
                let _gone = client.send(vec![said]).await;
            }
            while client.recv().await.is_ok_and(|heard| !heard.is_empty()) {}
            io.sleep(Duration::from_millis(5)).await;
            assert!(*refused.borrow());
        })
        .expect("the power stays on");
    }
}

/// A crowd had its handshakes computed one behind the other, some tenths of a ms each, before those inside had their turn: a
/// thousand that came at once held all others for as many. The end of a handshake is not told apart from its begin here:
/// these clients say hello and leave.
#[test]
fn a_crowd_that_shakes_hands_leaves_everybody_else_a_turn_between_two() {
    const CROWD: usize = 200;
    sim::run(1, &SimDisk::new(), 1, async |machine| {
        let io = machine.core(0);
        let (config, mut client) = both_sides();
        let mut hello = Vec::new();
        client.write_tls(&mut hello).unwrap();
        let turns = Rc::new(Turns::default());
        let crowd: Vec<_> = (0..CROWD).map(|_| Script::new([hello.clone()])).collect();
        for script in &crowd {
            let (below, config, turns, own) =
                (script.clone(), Arc::clone(&config), Rc::clone(&turns), io.clone());
            io.spawn(Class::Foreground, async move {
                let left = TlsStream::accept(&own, &turns, below, config).await;
                assert!(left.is_err());
            });
        }
        let (mut answered, mut most_at_once) = (0, 0);
        while answered < CROWD {
            io.yield_now().await;
            let now = crowd.iter().filter(|script| script.sends() > 0).count();
            most_at_once = most_at_once.max(now - answered);
            answered = now;
        }
        // The simulated core draws who is next, so that others may have several turns in a row.
        assert!(most_at_once <= CROWD / 10, "{most_at_once}");
    })
    .expect("the power stays on");
}
