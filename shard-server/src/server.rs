//! What all connections of the process share: settings, limits, the register of clients, telemetry, scan cursors, the way
//! to end it.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use corelane::api::Durability;

use crate::auth::{Auth, Denied, User};
use crate::clients::{Arrival, Client, Registry};
use crate::cluster::Topology;
use crate::command::table;
use crate::config::Limits;
use crate::cursors::Cursors;
use crate::telemetry::{CoreCounts, Telemetry};
use crate::tls::Tls;

/// What was decided at the start and is shown by `INFO` and `CONFIG GET`.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where to listen; port 0 lets the kernel choose.
    pub address: SocketAddr,
    /// Where the data is.
    pub data_dir: PathBuf,
    /// When writes are acknowledged.
    pub durability: Durability,
    /// Most clients at once, until somebody says otherwise.
    pub max_clients: usize,
    /// How many cores serve.
    pub cores: usize,
}

/// Where clients come in with TLS.
#[derive(Debug)]
pub struct TlsDoor {
    /// Certificates and keys.
    pub tls: Arc<Tls>,
    /// The common address; its port is chosen.
    pub address: SocketAddr,
    /// Whether it is there instead of the one in clear text.
    pub only: bool,
}

/// The ports of single cores.
#[derive(Debug)]
struct Ports {
    first_port: u16,
    announce_host: Option<String>,
    opened: Box<[OnceLock<SocketAddr>]>,
}

/// The process as its connections see it.
pub struct Server {
    /// What was decided at the start.
    pub settings: Settings,
    address: OnceLock<SocketAddr>,
    telemetry: Telemetry,
    limits: Limits,
    max_clients: AtomicUsize,
    idle_ms: AtomicU64,
    registry: Registry,
    auth: Auth,
    tls: Option<TlsDoor>,
    cluster: Option<Ports>,
    topology: OnceLock<Topology>,
    now_ms: AtomicU64,
    cursors: Mutex<Cursors>,
    /// The time of each shard as its core last told it, in ms since the Unix epoch: a shard's never goes back.
    clocks: OnceLock<Box<[AtomicU64]>>,
    started: OnceLock<Duration>,
    stopping: AtomicBool,
    stop: Box<dyn Fn() + Send + Sync>,
}

/// A client's place under the limit and in the register; given back when dropped.
pub struct Seat {
    server: Arc<Server>,
    client: Arc<Client>,
}

impl Seat {
    /// The process.
    pub fn server(&self) -> &Arc<Server> {
        &self.server
    }

    /// The client.
    pub fn client(&self) -> &Arc<Client> {
        &self.client
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.server.registry.leave(&self.client);
    }
}

impl Server {
    /// A server that has not begun to listen. `stop` asks the process to end, as SIGTERM does.
    pub fn new(settings: Settings, stop: impl Fn() + Send + Sync + 'static) -> Self {
        let telemetry = Telemetry::new(settings.cores, table::ALL.len());
        let limits = Limits {
            clients: settings.max_clients,
            ..Limits::default()
        };
        Self {
            registry: Registry::new(settings.cores),
            settings,
            address: OnceLock::new(),
            telemetry,
            max_clients: AtomicUsize::new(limits.clients),
            idle_ms: AtomicU64::new(limits.idle_ms),
            limits,
            auth: Auth::open(),
            tls: None,
            cluster: None,
            topology: OnceLock::new(),
            now_ms: AtomicU64::new(0),
            cursors: Mutex::default(),
            clocks: OnceLock::new(),
            started: OnceLock::new(),
            stopping: AtomicBool::new(false),
            stop: Box::new(stop),
        }
    }

    /// Where the server listens, once it does.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address.get().copied()
    }

    /// Says where the first core listens, and when that was; the others follow it there.
    pub fn listening(&self, address: SocketAddr, now: Duration) {
        self.address.get_or_init(|| address);
        self.started.get_or_init(|| now);
    }

    /// How long the server has listened.
    pub fn uptime(&self, now: Duration) -> Duration {
        now.saturating_sub(self.started.get().copied().unwrap_or(now))
    }

    /// Says what time it is on a shard, one of so many, in ms since the Unix epoch.
    pub fn tell_clock(&self, shards: usize, shard: u16, now_ms: u64) {
        let clocks = self
            .clocks
            .get_or_init(|| (0..shards).map(|_| AtomicU64::new(0)).collect());
        if let Some(clock) = clocks.get(usize::from(shard)) {
            clock.fetch_max(now_ms, Ordering::Relaxed);
        }
    }

    /// The time that a shard's ends are counted from, for another core than its own: as the shard last told it, or as the
    /// machine's clock says where that is later. A clock that was set back, while the server ran or while it was down, so
    /// does not make what is written now end at once (R18).
    pub fn shard_ms(&self, shard: u16, wall_ms: u64) -> u64 {
        let told = self
            .clocks
            .get()
            .and_then(|clocks| clocks.get(usize::from(shard)));
        told.map_or(wall_ms, |told| told.load(Ordering::Relaxed).max(wall_ms))
    }

    /// What the server counts of itself.
    pub fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }

    /// The counts of one core.
    pub fn counts(&self, core: usize) -> &CoreCounts {
        &self.telemetry.core(core).counts
    }

    /// The same with a door for TLS.
    #[must_use]
    pub fn with_tls(mut self, tls: TlsDoor) -> Self {
        self.tls = Some(tls);
        self
    }

    /// The door for TLS, if there is one.
    pub fn tls(&self) -> Option<&TlsDoor> {
        self.tls.as_ref()
    }

    /// The same with a port for each core.
    #[must_use]
    pub fn with_cluster(mut self, first_port: u16, announce_host: Option<String>) -> Self {
        self.cluster = Some(Ports {
            first_port,
            announce_host,
            opened: (0..self.settings.cores).map(|_| OnceLock::new()).collect(),
        });
        self
    }

    /// Whether each core has a port of its own.
    pub fn is_cluster(&self) -> bool {
        self.cluster.is_some()
    }

    /// The port of a core alone, 0 where the kernel chooses; `None` where it has none. Without a first port they follow
    /// the common one.
    pub fn own_port(&self, core: usize) -> Option<u16> {
        let first = match self.cluster.as_ref()?.first_port {
            0 if self.settings.address.port() == 0 => return Some(0),
            0 => self.settings.address.port().saturating_add(1),
            first => first,
        };
        Some(first.saturating_add(u16::try_from(core).unwrap_or(u16::MAX)))
    }

    /// Says where a core listens alone, and which slots are whose; once all do, the topology is known.
    pub fn opened_own(&self, core: usize, address: SocketAddr, slots: &[(Range<u16>, usize)]) {
        let Some(ports) = &self.cluster else { return };
        ports.opened[core].get_or_init(|| address);
        let all: Option<Vec<_>> = ports.opened.iter().map(|port| port.get().copied()).collect();
        if let Some(all) = all {
            self.topology
                .get_or_init(|| Topology::new(&all, slots, ports.announce_host.as_deref()));
        }
    }

    /// Which core has which slots; `None` where cores have no ports of their own, or not all have opened them yet.
    pub fn topology(&self) -> Option<&Topology> {
        self.topology.get()
    }

    /// The same with these users.
    #[must_use]
    pub fn with_auth(mut self, auth: Auth) -> Self {
        self.auth = auth;
        self
    }

    /// Who may do what.
    pub fn auth(&self) -> &Auth {
        &self.auth
    }

    /// The same with other limits.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.max_clients = AtomicUsize::new(limits.clients);
        self.idle_ms = AtomicU64::new(limits.idle_ms);
        self.limits = limits;
        self
    }

    /// The limits. Those that change while the server runs are as they were at the start: see [`Server::max_clients`]
    /// and [`Server::idle_ms`].
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Most clients at once.
    pub fn max_clients(&self) -> usize {
        self.max_clients.load(Ordering::Relaxed)
    }

    /// Changes how many clients there may be at once; those there already stay.
    pub fn set_max_clients(&self, clients: usize) {
        self.max_clients.store(clients, Ordering::Relaxed);
    }

    /// A client that sends nothing for so long is disconnected; 0 for never.
    pub fn idle_ms(&self) -> u64 {
        self.idle_ms.load(Ordering::Relaxed)
    }

    /// Changes for how long a client may be silent; 0 for ever.
    pub fn set_idle_ms(&self, idle_ms: u64) {
        self.idle_ms.store(idle_ms, Ordering::Relaxed);
    }

    /// The process's clock as the cores last told it, some 100 ms late at most: for limits and ages in seconds.
    pub fn now_ms(&self) -> u64 {
        self.now_ms.load(Ordering::Relaxed)
    }

    /// Notes that a client at `peer` was wrong about who it is; how often clients of there were lately.
    pub fn failed_auth(&self, peer: IpAddr) -> u32 {
        self.auth.note_failure(peer, Duration::from_millis(self.now_ms()))
    }

    /// Who of those at `peer` proves by `secret` to be `name`. Where nobody looked at the secret that is told late, by `sleep`,
    /// and after another try: a crowd of clients with one secret waits for one check of it.
    ///
    /// # Errors
    /// As [`Auth::verify`].
    pub async fn verify<S: Future<Output = ()>>(
        &self,
        name: &[u8],
        secret: &[u8],
        peer: IpAddr,
        sleep: impl FnOnce(Duration) -> S,
    ) -> Result<Arc<User>, Denied> {
        let verified = self.auth.verify(name, secret, peer).await;
        if !verified.as_ref().is_err_and(Denied::is_unchecked) {
            return verified;
        }
        let now = Duration::from_millis(self.now_ms());
        sleep(self.auth.delay_unchecked(peer, now)).await;
        self.auth.verify(name, secret, peer).await
    }

    /// Says what time it is on the process's clock.
    pub fn tell_time(&self, now_ms: u64) {
        self.now_ms.fetch_max(now_ms, Ordering::Relaxed);
    }

    /// All clients.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// A place for one more client; `None` at the limit.
    pub fn admit(self: &Arc<Self>, arrival: Arrival) -> Option<Seat> {
        let client = self.registry.enter(arrival, self.max_clients())?;
        Some(Seat {
            server: Arc::clone(self),
            client,
        })
    }

    /// How many clients are connected.
    pub fn clients(&self) -> usize {
        self.registry.count()
    }

    /// The places of all scans. Held for a look-up, never over an await; nothing on the data path takes it.
    pub fn cursors(&self) -> MutexGuard<'_, Cursors> {
        // A panic while it was held cannot leave the table half changed in a way that matters: places are hints.
        self.cursors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the process to drain and end; once, however many clients ask, because a second signal would cut the drain
    /// short.
    pub fn stop(&self) {
        if !self.stopping.swap(true, Ordering::AcqRel) {
            (self.stop)();
        }
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// Every `SHUTDOWN` raised SIGTERM, and the second one in the process ends it at once: two clients that asked for a
    /// clean end got none.
    #[test]
    fn however_many_ask_the_process_is_asked_to_end_once() {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let settings = Settings {
            address: ([127, 0, 0, 1], 0).into(),
            data_dir: PathBuf::new(),
            durability: Durability::Sync,
            max_clients: 1,
            cores: 1,
        };
        let server = Server::new(settings, move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        for _ in 0..3 {
            server.stop();
        }
        assert_eq!(asked.load(Ordering::Relaxed), 1);
    }
}
