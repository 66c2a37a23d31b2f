//! The server on one core: its listener, its connections, and their end.
//!
//! 1. The first core binds the address; the others bind the same one (`SO_REUSEPORT`), so that the kernel spreads
//!    connections over the cores and a chosen port (0) is the same for all.
//! 2. Each accepts until the database closes. An error of one accept (a client that left, no descriptors left) costs a
//!    pause, never the loop.
//! 3. Then it stops listening, lets commands under way finish, and after a bound cuts off clients that do not read.
//! 4. It waits for the other cores before it returns: their last commands may need this core's shards.

use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::time::Duration;

use corelane::api::{Core, Service};
use corelane::io::{Class, Io, Listener, Stream};
use futures_util::future::{Either, select};

use crate::connection::{self, Clients};
use crate::server::Server;

/// Between two looks at something another core does: only while starting and ending.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// After an accept failed: long enough for descriptors to come back, short enough for nobody to notice.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// Looks (each [`LOOK_AGAIN`] apart) for which commands under way may take to finish once the server drains.
const DRAIN_LOOKS: u32 = 5_000;

/// Looks for which connections that were cut off may take to end.
const CUT_OFF_LOOKS: u32 = 1_000;

/// What a client is told for whom there is no room, as Redis says it.
const TOO_MANY: &[u8] = b"-ERR max number of clients reached\r\n";

/// Whether a core has begun to listen, and where.
pub type Started = Result<SocketAddr, String>;

/// The server, as the database runs it on each core.
#[derive(Clone)]
pub struct RespService {
    server: Arc<Server>,
    started: Sender<Started>,
    drained: Arc<AtomicUsize>,
}

impl RespService {
    /// For `server`; each core says on `started` that it listens, or why it does not.
    pub fn new(server: Arc<Server>, started: Sender<Started>) -> Self {
        Self {
            server,
            started,
            drained: Arc::default(),
        }
    }

    /// Listens on this core; `None` where that failed or the database closes already.
    async fn listen<I: Io>(&self, core: &Core<I>) -> Option<I::Listener> {
        let address = if core.index() == 0 {
            self.server.settings.address
        } else {
            loop {
                match self.server.address() {
                    Some(address) => break address,
                    None if core.is_closing() => return None,
                    None => core.io().sleep(LOOK_AGAIN).await,
                }
            }
        };
        let listening = match core.io().listen(address).await {
            Ok(listener) => listener.local_addr().map(|address| (listener, address)),
            Err(error) => Err(error),
        };
        // Whoever started the server may have given up on it.
        match listening {
            Ok((listener, address)) => {
                self.server.listening(address, core.io().now());
                let _gone = self.started.send(Ok(address));
                Some(listener)
            }
            Err(error) => {
                let _gone = self.started.send(Err(format!("listening on {address}: {error}")));
                None
            }
        }
    }

    /// Accepts clients until the database closes.
    async fn accept<I: Io>(&self, core: &Core<I>, listener: I::Listener, clients: &Rc<Clients<I::Stream>>) {
        let mut closing = pin!(core.closing());
        loop {
            match select(pin!(listener.accept()), closing.as_mut()).await {
                Either::Right(_) => return,
                Either::Left((Ok(stream), _)) => self.welcome(core, stream, clients),
                Either::Left((Err(_), _)) => core.io().sleep(ACCEPT_PAUSE).await,
            }
        }
    }

    fn welcome<I: Io>(&self, core: &Core<I>, stream: I::Stream, clients: &Rc<Clients<I::Stream>>) {
        let server = Arc::clone(&self.server);
        let counts = server.counts(core.index());
        counts.connections.fetch_add(1, Ordering::Relaxed);
        let (store, clients) = (core.clone(), Rc::clone(clients));
        core.io().spawn(Class::Foreground, async move {
            match server.admit() {
                Some(seat) => connection::serve(stream, seat.id, store, Arc::clone(&server), clients).await,
                None => {
                    server
                        .counts(store.index())
                        .rejected
                        .fetch_add(1, Ordering::Relaxed);
                    // A client that left does not wait for the words.
                    let _gone = stream.send(vec![TOO_MANY.to_vec()]).await;
                    let _gone = stream.shutdown().await;
                }
            }
        });
    }

    /// Ends this core's connections, and waits for those of the others.
    async fn drain<I: Io>(&self, core: &Core<I>, clients: &Clients<I::Stream>) {
        clients.begin_closing().await;
        if !look(core, DRAIN_LOOKS, || clients.is_empty()).await {
            clients.cut_off().await;
            look(core, CUT_OFF_LOOKS, || clients.is_empty()).await;
        }
        self.drained.fetch_add(1, Ordering::AcqRel);
        look(core, DRAIN_LOOKS + 2 * CUT_OFF_LOOKS, || {
            self.drained.load(Ordering::Acquire) >= core.cores()
        })
        .await;
    }
}

/// Looks again and again until something holds or the looks are used up; whether it held.
async fn look<I: Io>(core: &Core<I>, looks: u32, holds: impl Fn() -> bool) -> bool {
    for _ in 0..looks {
        if holds() {
            return true;
        }
        core.io().sleep(LOOK_AGAIN).await;
    }
    holds()
}

impl Service for RespService {
    async fn run<I: Io>(self, core: Core<I>) {
        let clients = Rc::new(Clients::default());
        match self.listen(&core).await {
            Some(listener) => self.accept(&core, listener, &clients).await,
            None => core.closing().await,
        }
        self.drain(&core, &clients).await;
    }
}
