//! What clients may make the server hold or do, and for how long.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use corelane::io::sim::{self, SimDisk, SimIo};
use corelane::io::{Class, Io as _, Stream};

use super::auth::with_users;
use crate::clients::{Client, Clients, Reason};
use crate::config::Limits;
use crate::connection::serve;
use crate::server::Server;
use crate::testing::{MemoryStore, arrival, command, server};

/// A socket that stays open until it is shut, whose client may be deaf.
#[derive(Clone, Default)]
pub(super) struct Open(Rc<Inner>);

#[derive(Default)]
struct Inner {
    incoming: RefCell<VecDeque<Vec<u8>>>,
    heard: RefCell<Vec<u8>>,
    deaf: Cell<bool>,
    shut: Cell<bool>,
    waiting: RefCell<Vec<Waker>>,
}

impl Open {
    pub(super) fn say(&self, bytes: &[u8]) {
        self.0.incoming.borrow_mut().push_back(bytes.to_vec());
        self.wake();
    }

    pub(super) fn heard(&self) -> String {
        String::from_utf8_lossy(&self.0.heard.take()).into_owned()
    }

    fn wake(&self) {
        self.0.waiting.borrow_mut().drain(..).for_each(Waker::wake);
    }

    async fn until<R>(&self, ready: impl Fn(&Inner) -> Option<R>) -> R {
        poll_fn(|cx| match ready(&self.0) {
            Some(result) => Poll::Ready(result),
            None => {
                self.0.waiting.borrow_mut().push(cx.waker().clone());
                Poll::Pending
            }
        })
        .await
    }
}

impl Stream for Open {
    type RecvBuf = Vec<u8>;

    async fn recv(&self) -> io::Result<Vec<u8>> {
        let next = |inner: &Inner| match inner.shut.get() {
            true => Some(Vec::new()),
            false => inner.incoming.borrow_mut().pop_front(),
        };
        Ok(self.until(next).await)
    }

    async fn send(&self, batch: Vec<Vec<u8>>) -> (io::Result<()>, Vec<Vec<u8>>) {
        let taken = |inner: &Inner| (inner.shut.get() || !inner.deaf.get()).then(|| inner.shut.get());
        if self.until(taken).await {
            return (Err(io::ErrorKind::BrokenPipe.into()), batch);
        }
        self.0.heard.borrow_mut().extend(batch.concat());
        (Ok(()), batch)
    }

    async fn shutdown(&self) -> io::Result<()> {
        self.0.shut.set(true);
        self.wake();
        Ok(())
    }

    fn peer_addr(&self) -> io::Result<SocketAddr> {
        Ok(([127, 0, 0, 1], 1).into())
    }
}

/// One core that serves some clients.
pub(super) struct Core {
    io: SimIo,
    pub(super) server: Arc<Server>,
    pub(super) store: MemoryStore,
    clients: Rc<Clients<Open>>,
}

impl Core {
    /// Runs `test` on a core of `server`, and then ends its clients.
    pub(super) fn run(server: Server, test: impl AsyncFnOnce(&Self)) {
        sim::run(1, &SimDisk::new(), 1, async |machine| {
            let core = Self {
                io: machine.core(0),
                server: Arc::new(server),
                store: MemoryStore::default(),
                clients: Rc::default(),
            };
            test(&core).await;
            core.clients.cut_off().await;
            core.rest().await;
            assert!(core.clients.is_empty() && core.server.clients() == 0);
            assert_eq!(
                core.server.registry().held_bytes(),
                0,
                "what was held is accounted for"
            );
        })
        .expect("the power stays on");
    }

    pub(super) fn client(&self) -> (Open, Arc<Client>) {
        let socket = Open::default();
        let seat = self.server.admit(arrival()).expect("there is room");
        let client = Arc::clone(seat.client());
        let serving = serve(socket.clone(), seat, self.store.clone(), Rc::clone(&self.clients));
        self.io.spawn(Class::Foreground, serving);
        (socket, client)
    }

    /// Lets the connections do all that they can.
    pub(super) async fn rest(&self) {
        self.io.sleep(Duration::from_millis(1)).await;
    }

    /// As many sweeps as it takes to judge everybody, at this moment.
    pub(super) async fn sweep(&self, now_ms: u64) {
        for _ in 0..20 {
            self.clients.sweep(&self.server, 0, now_ms).await;
        }
        self.rest().await;
    }
}

fn with(limits: Limits) -> Server {
    server().with_limits(limits)
}

#[test]
fn a_silent_client_goes_after_its_time_and_a_talking_one_stays() {
    Core::run(server(), async |core| {
        core.server.set_idle_ms(1000);
        let ((silent, one), (talking, other)) = (core.client(), core.client());
        core.sweep(900).await;
        talking.say(b"PING\r\n");
        core.rest().await;
        core.sweep(1001).await;
        assert_eq!((one.doomed(), other.doomed()), (Some(Reason::Idle), None));
        assert!(silent.0.shut.get() && !talking.0.shut.get());
        assert_eq!(core.server.clients(), 1);
    });
}

#[test]
fn a_deaf_client_is_slowed_and_then_ended_and_holds_up_nobody() {
    let limits = Limits {
        output_stalled_ms: 1000,
        ..Limits::default()
    };
    Core::run(with(limits), async |core| {
        let ((deaf, one), (well, _)) = (core.client(), core.client());
        deaf.0.deaf.set(true);
        deaf.say(b"PING\r\n");
        deaf.say(b"SET a 1\r\n");
        core.rest().await;
        assert_eq!(one.waiting_bytes(), 7, "one round waits");
        assert_eq!(deaf.0.incoming.borrow().len(), 1, "nothing more is read");
        core.sweep(1000).await;
        assert!(!deaf.0.shut.get());
        well.say(b"GET a\r\n");
        core.rest().await;
        assert_eq!(well.heard(), "$-1\r\n");
        core.sweep(1001).await;
        assert_eq!(one.doomed(), Some(Reason::Stalled));
        assert!(deaf.0.shut.get() && core.server.clients() == 1);
    });
}

#[test]
fn who_has_not_said_who_they_are_is_bounded_in_time_and_bytes_both_ways() {
    let limits = Limits {
        unknown_ms: 1000,
        unknown_input_bytes: 20,
        unknown_output_bytes: 6,
        ..Limits::default()
    };
    Core::run(with_users(limits), async |core| {
        let ((_slow, slow), (talks, talker)) = (core.client(), core.client());
        let ((asks, asker), (greedy, other)) = (core.client(), core.client());
        talks.say(&[b'x'; 21]);
        asks.say(b"QUIT\r\n");
        greedy.say(b"RESET\r\n");
        core.rest().await;
        assert_eq!(talker.doomed(), Some(Reason::UnknownInput));
        assert_eq!(
            (asks.heard().as_str(), asker.doomed()),
            ("+OK\r\n", None),
            "five bytes may wait"
        );
        assert_eq!(
            (greedy.heard().as_str(), other.doomed()),
            ("", Some(Reason::UnknownOutput))
        );
        core.sweep(1000).await;
        assert_eq!(slow.doomed(), None);
        core.sweep(1001).await;
        assert_eq!(slow.doomed(), Some(Reason::Unknown));
    });
}

#[test]
fn far_too_many_answers_end_a_client_that_does_not_read_them_and_no_other() {
    let limits = Limits {
        output_hard_bytes: 100_000,
        ..Limits::default()
    };
    Core::run(with(limits), async |core| {
        core.store.put(b"a", &vec![b'v'; 700_000]);
        let ((reads, one), (deaf, other)) = (core.client(), core.client());
        deaf.0.deaf.set(true);
        for socket in [&reads, &deaf] {
            socket.say(&command(&[b"MGET", b"a", b"a", b"a"]));
        }
        core.rest().await;
        core.sweep(1000).await;
        assert_eq!((one.doomed(), other.doomed()), (None, None));
        core.sweep(1001).await;
        assert_eq!(other.doomed(), Some(Reason::OutputHard));
        assert_eq!((reads.heard().len(), one.doomed()), (4 + 3 * 700_011, None));
    });
}

#[test]
fn over_the_cap_of_all_clients_the_one_that_holds_most_goes() {
    let limits = Limits {
        clients_bytes: 3 << 20,
        ..Limits::default()
    };
    Core::run(with(limits), async |core| {
        let clients: Vec<_> = (0..3).map(|_| core.client()).collect();
        let part = |bytes| {
            let mut part = b"*2\r\n$3\r\nGET\r\n$60000000\r\n".to_vec();
            part.resize(bytes, b'x');
            part
        };
        for ((socket, _), bytes) in clients.iter().zip([400_000, 1_500_000, 700_000]) {
            socket.say(&part(bytes));
        }
        core.rest().await;
        assert!(clients.iter().all(|(_, client)| client.doomed().is_none()));
        clients[0].0.say(&part(900_000));
        core.rest().await;
        core.sweep(0).await;
        let doomed: Vec<_> = clients.iter().map(|(_, client)| client.doomed()).collect();
        assert_eq!(doomed, [None, Some(Reason::Memory), None]);
        assert!(core.server.registry().held_bytes() <= 3 << 20);
    });
}

/// A thousand clients that had each once sent or read much kept a megabyte of empty buffers each until they left.
#[test]
fn a_client_that_waits_holds_no_buffers() {
    Core::run(server(), async |core| {
        core.store.put(b"big", &vec![b'v'; 300_000]);
        let (socket, client) = core.client();
        for piece in command(&[b"SET", b"big", &vec![b'w'; 300_000]]).chunks(10_000) {
            socket.say(piece);
        }
        core.rest().await;
        socket.say(&command(&[b"GET", b"big"]));
        socket.say(b"*1\r\n");
        core.rest().await;
        assert_eq!(socket.heard().len(), 5 + 300_011);
        assert!(client.held_bytes() < 32 * 1024, "{} bytes", client.held_bytes());
        assert_eq!(client.input_bytes(), 4, "the start of a command is kept");
    });
}
