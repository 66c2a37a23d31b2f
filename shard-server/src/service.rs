//! The server on one core: its listeners, its connections, and their end.
//!
//! 1. The first core binds the common addresses, in clear text, in TLS or both; the others bind the same ones
//!    (`SO_REUSEPORT`), so that the kernel spreads connections over the cores and a chosen port (0) is the same for all.
//!    Where it is asked for, each core also opens a port that is its alone (`cluster`).
//! 2. Each accepts until the database closes, whatever errors an accept ends with ([`accept`]), and sweeps its clients.
//! 3. Then it stops listening, lets commands under way finish, and after a bound cuts off clients that do not read.
//! 4. It waits for the other cores before it returns: their last commands may need this core's shards.

use std::future::poll_fn;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::time::Duration;

use corelane::api::{Core, Service};
use corelane::io::{Class, ClassTimes, Io, Listener, Stream};
use futures_util::future::{Either, join, join_all, select};
use rustls::ServerConfig;

use crate::accept::accept;
use crate::clients::of_core::SWEEP_EVERY;
use crate::clients::{Arrival, Clients};
use crate::connection;
use crate::pace::Pace;
use crate::server::Server;
use crate::tls::socket::Socket;
use crate::tls::stream::TlsStream;
use crate::tls::turns::Turns;

/// Between two looks at something another core does: only while starting and ending.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// From this length on it is told that a task kept its core, if none of its class had for so long lately: longer than others of the
/// machine commonly have a processor at once.
const TOLD_STALL: Duration = Duration::from_millis(50);

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
    /// Cores that have told the time of their shards.
    clocks: Arc<AtomicUsize>,
    drained: Arc<AtomicUsize>,
}

impl RespService {
    /// For `server`; each core says on `started` that it listens, or why it does not.
    pub fn new(server: Arc<Server>, started: Sender<Started>) -> Self {
        Self {
            server,
            started,
            clocks: Arc::default(),
            drained: Arc::default(),
        }
    }

    /// Tells the other cores what time it is on the shards of this one.
    fn tell_clocks<I: Io>(&self, core: &Core<I>) {
        let shards = core.shards();
        for shard in (0..u16::MAX).take(shards) {
            if let Some(now_ms) = core.clock_of(shard) {
                self.server.tell_clock(shards, shard, now_ms);
            }
        }
    }

    /// Opens this core's doors; `None` where that failed or the database closes already.
    async fn open<I: Io>(&self, core: &Core<I>) -> Option<Vec<Door<I::Listener>>> {
        let opened = self.try_open(core).await;
        // Whoever started the server may have given up on it.
        match opened {
            Ok(doors) => {
                let common = doors.first()?.address;
                self.server.listening(common, core.io().now());
                let _gone = self.started.send(Ok(common));
                Some(doors)
            }
            Err(why) => {
                let _gone = self.started.send(Err(why));
                None
            }
        }
    }

    /// The common doors first. Empty where the database closes already.
    async fn try_open<I: Io>(&self, core: &Core<I>) -> Result<Vec<Door<I::Listener>>, String> {
        let Some(common) = self.common_address(core).await else {
            return Ok(Vec::new());
        };
        let tls = self.server.tls();
        let only = tls.is_some_and(|tls| tls.only);
        let mut doors = vec![Door::open(core, common, only, false).await?];
        if let Some(tls) = tls.filter(|tls| !tls.only) {
            doors.push(Door::open(core, tls.address, true, false).await?);
        }
        if let Some(port) = self.server.own_port(core.index()) {
            let door = Door::open(core, SocketAddr::new(common.ip(), port), only, true).await?;
            self.server
                .opened_own(core.index(), door.address, &core.slot_ranges());
            doors.push(door);
        }
        Ok(doors)
    }

    /// The first common address: the first core opens it as it is configured, the others follow it there.
    async fn common_address<I: Io>(&self, core: &Core<I>) -> Option<SocketAddr> {
        if core.index() == 0 {
            // Before the first client: what it writes to a shard of another core must be counted from that shard's time.
            while self.clocks.load(Ordering::Acquire) < core.cores() {
                if core.is_closing() {
                    return None;
                }
                core.io().sleep(LOOK_AGAIN).await;
            }
            let tls = self.server.tls().filter(|tls| tls.only);
            return Some(tls.map_or(self.server.settings.address, |tls| tls.address));
        }
        loop {
            match self.server.address() {
                Some(address) => return Some(address),
                None if core.is_closing() => return None,
                None => core.io().sleep(LOOK_AGAIN).await,
            }
        }
    }

    /// Accepts clients at one door until the database closes.
    async fn accept<I: Io>(&self, core: &Core<I>, door: &Door<I::Listener>, shared: &Rc<Shared<I::Stream>>) {
        let welcome = |stream| self.welcome(core, door, stream, shared);
        accept(core.io(), &door.listener, &door.pace, core.closing(), welcome).await;
    }

    /// Sweeps this core's clients and tells its shards' time until the database closes; the first core also samples what the rates of now are made of.
    async fn sweep<I: Io>(&self, core: &Core<I>, clients: &Clients<Socket<I::Stream>>) {
        let mut closing = pin!(core.closing());
        let mut before = core.io().class_times();
        while !core.is_closing() {
            let now = core.io().class_times();
            tell_stalls(core.index(), before, now);
            before = now;
            clients.sweep(&self.server, core.index(), now_ms(core)).await;
            self.tell_clocks(core);
            if core.index() == 0 {
                self.server.telemetry().sample(core.io().now());
            }
            select(pin!(core.io().sleep(SWEEP_EVERY)), closing.as_mut()).await;
        }
    }

    fn welcome<I: Io>(
        &self,
        core: &Core<I>,
        door: &Door<I::Listener>,
        stream: I::Stream,
        shared: &Rc<Shared<I::Stream>>,
    ) {
        let server = Arc::clone(&self.server);
        let counts = server.counts(core.index());
        counts.connections.add(1);
        let arrival = Arrival {
            // One that has left already is served all the same: its first receive says so.
            address: stream.peer_addr().unwrap_or(NOWHERE),
            local_address: door.address,
            core: core.index(),
            now_ms: now_ms(core),
            own_core: door.own_core,
        };
        door.pace.taken(core.io().now());
        let tls = server.tls().filter(|_| door.tls).map(|door| door.tls.current());
        let (core, shared, pace) = (core.clone(), Rc::clone(shared), Rc::clone(&door.pace));
        core.io().clone().spawn(Class::Foreground, async move {
            meet(&server, &core, &shared, (stream, tls), arrival, &pace).await;
        });
    }

    /// Ends this core's connections, and waits for those of the others.
    async fn drain<I: Io>(&self, core: &Core<I>, clients: &Clients<Socket<I::Stream>>) {
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

/// What the connections of one core share.
struct Shared<T> {
    clients: Rc<Clients<Socket<T>>>,
    handshakes: Turns,
}

impl<T: Stream> Default for Shared<T> {
    fn default() -> Self {
        Self {
            clients: Rc::default(),
            handshakes: Turns::default(),
        }
    }
}

/// One listener.
struct Door<L> {
    listener: L,
    address: SocketAddr,
    tls: bool,
    /// Whether it is this core's alone.
    own_core: bool,
    pace: Rc<Pace>,
}

impl<L: Listener> Door<L> {
    async fn open<I: Io<Listener = L>>(
        core: &Core<I>,
        address: SocketAddr,
        tls: bool,
        own_core: bool,
    ) -> Result<Self, String> {
        let listening = match core.io().listen(address).await {
            Ok(listener) => listener.local_addr().map(|address| (listener, address)),
            Err(error) => Err(error),
        };
        match listening {
            Ok((listener, address)) => Ok(Self {
                listener,
                address,
                tls,
                own_core,
                pace: Rc::default(),
            }),
            Err(error) => Err(format!("listening on {address}: {error}")),
        }
    }
}

/// Serves a connection to its end; `tls` is what is shown where it speaks that.
async fn meet<I: Io>(
    server: &Arc<Server>,
    core: &Core<I>,
    shared: &Shared<I::Stream>,
    (stream, tls): (I::Stream, Option<Arc<ServerConfig>>),
    arrival: Arrival,
    pace: &Pace,
) {
    let Some(seat) = server.admit(arrival) else {
        server.counts(core.index()).rejected.add(1);
        turn_away(&stream, tls.is_some()).await;
        return;
    };
    let socket = match tls {
        None => Socket::Plain(stream),
        Some(config) => {
            let within = Duration::from_millis(server.limits().unknown_ms);
            match shake_hands(core.io(), &shared.handshakes, stream, config, within).await {
                Ok(stream) => Socket::Tls(stream),
                Err(ended) => {
                    // Who was late may have waited for its turn, which is this side's fault.
                    if ended == Ended::Late {
                        pace.served();
                    }
                    return;
                }
            }
        }
    };
    let client = Arc::clone(seat.client());
    let mut serving = pin!(connection::serve(
        socket,
        seat,
        core.clone(),
        Rc::clone(&shared.clients)
    ));
    let mut served = false;
    poll_fn(|cx| {
        let polled = serving.as_mut().poll(cx);
        if !served && client.was_served() {
            served = true;
            pace.served();
        }
        polled
    })
    .await;
}

/// Tells a client that there is no room for it; one that expects TLS would not understand the words.
async fn turn_away<T: Stream>(stream: &T, tls: bool) {
    if !tls {
        // A client that left does not wait for the words.
        let _gone = stream.send(vec![TOO_MANY.to_vec()]).await;
    }
    let _gone = stream.shutdown().await;
}

/// Why a handshake has ended, and its connection with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// The client left, or there was no agreement.
    Failed,
    /// The time was over.
    Late,
}

/// Shakes hands within a time.
async fn shake_hands<I: Io>(
    io: &I,
    turns: &Turns,
    stream: I::Stream,
    config: Arc<ServerConfig>,
    within: Duration,
) -> Result<TlsStream<I::Stream>, Ended> {
    let (ended, why) = {
        // Gone before the socket is shut down: a turn, or a place in the line for one, is not held meanwhile.
        let shaking = pin!(TlsStream::accept(io, turns, stream.clone(), config));
        match select(shaking, pin!(io.sleep(within))).await {
            Either::Left((Ok(stream), _)) => return Ok(stream),
            Either::Left((Err(error), _)) => (Ended::Failed, error.to_string()),
            Either::Right(_) => (Ended::Late, format!("not done within {} ms", within.as_millis())),
        }
    };
    tracing::debug!(peer = ?stream.peer_addr().ok(), why, "TLS handshake failed");
    // An error means that the client has gone by itself.
    let _gone = stream.shutdown().await;
    Err(ended)
}

/// Tells which classes kept the core for longer than they had lately.
fn tell_stalls(core: usize, before: Option<ClassTimes>, now: Option<ClassTimes>) {
    let (Some(before), Some(now)) = (before, now) else {
        return;
    };
    for (class, longest) in now.records(&before, TOLD_STALL) {
        let kept_us = u64::try_from(longest.as_micros()).unwrap_or(u64::MAX);
        let class = class.name();
        tracing::warn!(
            core,
            class,
            kept_us,
            "a task of this class kept its core, or the machine stopped it, for longer than any lately"
        );
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
        self.tell_clocks(&core);
        self.clocks.fetch_add(1, Ordering::AcqRel);
        let shared = Rc::<Shared<I::Stream>>::default();
        match self.open(&core).await {
            Some(doors) => {
                let accepting = join_all(doors.iter().map(|door| self.accept(&core, door, &shared)));
                join(accepting, self.sweep(&core, &shared.clients)).await;
            }
            None => core.closing().await,
        }
        self.drain(&core, &shared.clients).await;
    }
}
