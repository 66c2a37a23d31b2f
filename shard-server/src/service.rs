//! The server on one core: its listener, its connections, and their end.
//!
//! 1. The first core binds the address; the others bind the same one (`SO_REUSEPORT`), so that the kernel spreads
//!    connections over the cores and a chosen port (0) is the same for all.
//! 2. Each accepts until the database closes, whatever errors an accept ends with ([`accept`]), and sweeps its clients.
//! 3. Then it stops listening, lets commands under way finish, and after a bound cuts off clients that do not read.
//! 4. It waits for the other cores before it returns: their last commands may need this core's shards.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::time::Duration;

use corelane::api::{Core, Service};
use corelane::io::{Class, Io, Listener, Stream};
use futures_util::future::join;

use crate::accept::accept;
use crate::clients::of_core::SWEEP_EVERY;
use crate::clients::{Arrival, Clients};
use crate::connection;
use crate::server::Server;

/// Between two looks at something another core does: only while starting and ending.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// Looks (each [`LOOK_AGAIN`] apart) for which commands under way may take to finish once the server drains.
const DRAIN_LOOKS: u32 = 5_000;

/// Looks for which connections that were cut off may take to end.
const CUT_OFF_LOOKS: u32 = 1_000;

/// What a client is told for whom there is no room, as Redis says it.
const TOO_MANY: &[u8] = b"-ERR max number of clients reached\r\n";

/// The address of a client that has gone before it could be asked.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

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
        let welcome = |stream| self.welcome(core, stream, clients);
        accept(core.io(), &listener, core.closing(), welcome).await;
    }

    /// Sweeps this core's clients until the database closes.
    async fn sweep<I: Io>(&self, core: &Core<I>, clients: &Clients<I::Stream>) {
        while !core.is_closing() {
            clients.sweep(&self.server, core.index(), now_ms(core)).await;
            core.io().sleep(SWEEP_EVERY).await;
        }
    }

    fn welcome<I: Io>(&self, core: &Core<I>, stream: I::Stream, clients: &Rc<Clients<I::Stream>>) {
        let server = Arc::clone(&self.server);
        let counts = server.counts(core.index());
        counts.connections.fetch_add(1, Ordering::Relaxed);
        // One that has left already is served all the same: its first receive says so.
        let address = stream.peer_addr().unwrap_or(NOWHERE);
        let arrival = Arrival {
            address,
            local_address: server.address().unwrap_or(server.settings.address),
            core: core.index(),
            now_ms: now_ms(core),
        };
        let (store, clients) = (core.clone(), Rc::clone(clients));
        core.io().spawn(Class::Foreground, async move {
            match server.admit(arrival) {
                Some(seat) => connection::serve(stream, seat, store, clients).await,
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

/// The process's clock.
fn now_ms<I: Io>(core: &Core<I>) -> u64 {
    u64::try_from(core.io().now().as_millis()).unwrap_or(u64::MAX)
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
            Some(listener) => {
                let accepting = self.accept(&core, listener, &clients);
                join(accepting, self.sweep(&core, &clients)).await;
            }
            None => core.closing().await,
        }
        self.drain(&core, &clients).await;
    }
}
