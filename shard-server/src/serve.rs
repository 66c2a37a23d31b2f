//! The life of the server process: open, say where, wait for a signal, drain, close.

use std::fmt::Display;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc;
use std::time::Duration;

use corelane::api::Db;
use corelane::io::checks;
use corelane::io::cores::available_cores;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::{flag, low_level};

use crate::admin::{self, Plane, Running, access};
use crate::auth::Auth;
use crate::config::admin::DEFAULT_PORT;
use crate::config::storage::Durability;
use crate::config::{Config, Limits, Loaded};
use crate::descriptors::{self, Others};
use crate::log;
use crate::server::{Server, Settings, TlsDoor};
use crate::service::RespService;
use crate::tls::Tls;
use crate::watchdog::{self, Watchdog};

/// Runs the server until SIGTERM, SIGINT or `SHUTDOWN`, then drains and closes it. A second signal while it drains ends
/// the process at once, with status 1. SIGHUP makes it read its certificates again.
///
/// # Errors
/// Why it did not start, or did not close cleanly, in words for an operator.
pub fn serve(loaded: &Loaded) -> Result<(), String> {
    let config = &loaded.config;
    let _writing = log::start(&config.log)?;
    let address = config.server.address();
    let mut signals = end_signals().map_err(|error| format!("listening for signals: {error}"))?;
    let cores = config.server.core_list()?.unwrap_or_else(available_cores);
    let limits = Limits {
        clients: clients(config, cores.len())?,
        ..config.limits.clone()
    };
    let memlock_falls_short = check_machine(&config.storage.data_dir, cores.len())?;
    let settings = Settings {
        address,
        data_dir: config.storage.data_dir.clone(),
        durability: config.storage.durability.into(),
        max_clients: limits.clients,
        cores: cores.len(),
    };
    let server = Arc::new(with_doors(settings, config)?.with_limits(limits));
    refuse_used(&server)?;
    let (started, starts) = mpsc::channel();
    let db = open(config, &cores, RespService::new(Arc::clone(&server), started))?;
    let listening = starts
        .iter()
        .take(cores.len())
        .collect::<Result<Vec<_>, _>>()
        .and_then(|_| start_admin(loaded, &db, &server, memlock_falls_short));
    let admin = match listening {
        Ok(admin) => admin,
        Err(why) => {
            // The reason for not starting is the one to tell.
            let _second = db.blocking().close();
            return Err(why);
        }
    };
    announce(config, &cores, &server, &db, admin.as_ref());
    let watchdog = Watchdog::start(&db)?;
    if let Some(admin) = &admin {
        admin.plane().set_ready(true);
    }
    watchdog::ready();
    let signal = end_signal(&mut signals, &server, admin.as_ref());
    drop(watchdog);
    drain(signal, &db, admin)
}

/// How many clients are let in: as many as are configured, and as descriptors allow.
fn clients(config: &Config, cores: usize) -> Result<usize, String> {
    let shards = config.storage.shards.map_or(cores, usize::from);
    let others = Others::look(&config.storage.data_dir, shards, cores, config.admin.enabled);
    let limit = descriptors::raise_limit();
    let clients = descriptors::clients_that_fit(config.limits.clients, limit, &others)?;
    descriptors::make_room(clients as u64 + others.files(), limit);
    Ok(clients)
}

/// Starts the admin plane; `None` where there is none: because it is off, or because its port, which nobody asked for, is
/// somebody else's.
fn start_admin(
    loaded: &Loaded,
    db: &Db,
    server: &Arc<Server>,
    memlock_falls_short: bool,
) -> Result<Option<Running>, String> {
    let config = &loaded.config;
    if !config.admin.enabled {
        return Ok(None);
    }
    let plane = Arc::new(Plane::new(
        db.clone(),
        Arc::clone(server),
        config.admin.clone(),
        access::for_server(server),
        memlock_falls_short,
    ));
    let port = config.admin.port.unwrap_or(DEFAULT_PORT);
    let address = SocketAddr::new(config.admin.bind, port);
    match TcpListener::bind(address) {
        Ok(listener) => admin::start(plane, listener, &config.tls).map(Some),
        Err(error) if error.kind() == ErrorKind::AddrInUse && config.admin.port.is_none() => {
            say(format_args!(
                "warning: the admin plane: listening on {address}: {error}; going on without it: no REST, metrics or \
                 health; to mend it: --admin-port, or --no-admin"
            ));
            Ok(None)
        }
        Err(error) => Err(format!("the admin plane: listening on {address}: {error}")),
    }
}

/// Ends everything in order: nobody is sent here any more, clients are drained, the database closes, and only then does
/// the plane go that told all of it.
fn drain(signal: i32, db: &Db, admin: Option<Running>) -> Result<(), String> {
    watchdog::stopping();
    if let Some(admin) = &admin {
        admin.plane().set_ready(false);
    }
    let name = low_level::signal_name(signal).unwrap_or("a signal");
    say(format_args!("{name}: draining"));
    tracing::info!(signal = name, "draining");
    let closed = db.blocking().close();
    if let Some(admin) = admin {
        admin.stop();
    }
    closed.map_err(|error| format!("closing the database: {error}"))?;
    say("closed");
    Ok(())
}

/// How long a listener on this machine may take to take a connection, before nobody is taken to be there.
const PROBE: Duration = Duration::from_secs(1);

/// The server with its users and all the ways in.
fn with_doors(settings: Settings, config: &Config) -> Result<Server, String> {
    let mut server = Server::new(settings, || {
        // The signal is one that this process listens for, so that raising it cannot fail.
        let _listened_for = low_level::raise(SIGTERM);
    })
    .with_auth(Auth::new(&config.users)?);
    if config.tls.port != 0 {
        server = server.with_tls(TlsDoor {
            tls: Arc::new(Tls::load(config.tls.clone())?),
            address: SocketAddr::new(config.server.bind, config.tls.port),
            only: config.tls.only,
        });
    }
    if config.cluster.enabled {
        server = server.with_cluster(config.cluster.first_port, config.cluster.announce_host.clone());
        let last = server.own_port(server.settings.cores.saturating_sub(1));
        if last == Some(u16::MAX) {
            return Err(format!(
                "cluster.first_port: {} cores need as many ports below {}; choose a smaller one",
                server.settings.cores,
                u16::MAX
            ));
        }
    }
    Ok(server)
}

/// Waits for a signal that ends the process; SIGHUP has the certificates of both planes read again.
fn end_signal(signals: &mut Signals, server: &Server, admin: Option<&Running>) -> i32 {
    for signal in signals.forever() {
        if signal != SIGHUP {
            return signal;
        }
        let planes = [
            server.tls().map(|door| door.tls.reload()),
            admin.map(Running::reload),
        ];
        for outcome in planes.into_iter().flatten() {
            match outcome {
                Ok(()) => tracing::info!("certificates were read again"),
                Err(why) => tracing::error!(why, "certificates were not read again; the old ones stay"),
            }
        }
    }
    SIGTERM
}

/// Refuses addresses on which somebody listens already. The cores share theirs (`SO_REUSEPORT`), which would let a
/// second server of the same user share it too, and the kernel deal its clients to either. It asks by connecting:
/// binding without sharing would also be refused for connections of a server that has just ended.
fn refuse_used(server: &Server) -> Result<(), String> {
    let common = server.settings.address;
    let plain = server.tls().is_none_or(|tls| !tls.only).then_some(common);
    let tls = server.tls().map(|tls| tls.address);
    let own = (0..server.settings.cores)
        .filter_map(|core| server.own_port(core))
        .map(|port| SocketAddr::new(common.ip(), port));
    for address in plain.into_iter().chain(tls).chain(own) {
        if address.port() != 0 && TcpStream::connect_timeout(&address, PROBE).is_ok() {
            return Err(format!(
                "listening on {address}: somebody listens there already; choose another address with --bind or --port"
            ));
        }
    }
    Ok(())
}

/// Checks without which no database can be opened here; the others cost speed or comfort.
pub(crate) const NEEDED: [&str; 3] = ["kernel", "io_uring", "direct I/O"];
/// The check of the limit on locked memory, which health tells again.
const MEMLOCK: &str = "locked memory";

/// Looks at the machine: says what will hurt, refuses to start over what cannot work.
/// Whether less memory may be locked than the rings want to.
fn check_machine(data_dir: &Path, cores: usize) -> Result<bool, String> {
    let mut missing = Vec::new();
    let mut memlock_falls_short = false;
    for check in checks::check_machine(data_dir, cores) {
        match check.ok {
            true => {}
            false if NEEDED.contains(&check.name) => missing.push(check.to_string()),
            false => {
                memlock_falls_short |= check.name == MEMLOCK;
                say(format_args!("warning: {check}"));
            }
        }
    }
    if missing.is_empty() {
        Ok(memlock_falls_short)
    } else {
        Err(missing.join("\n  "))
    }
}

/// Signals that end the process: the first is waited for, a second one does not wait.
fn end_signals() -> std::io::Result<Signals> {
    let ending = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        // In this order the first signal finds the flag unset, then sets it.
        flag::register_conditional_shutdown(signal, 1, Arc::clone(&ending))?;
        flag::register(signal, Arc::clone(&ending))?;
    }
    Signals::new([SIGTERM, SIGINT, SIGHUP])
}

fn open(config: &Config, cores: &[usize], service: RespService) -> Result<Db, String> {
    let storage = &config.storage;
    let mut builder = Db::builder(&storage.data_dir)
        .cores(cores.to_vec())
        .runtime(config.server.runtime.into())
        .spin(config.server.spin())
        .durability(storage.durability.into())
        .cache_bytes(storage.cache_bytes())
        .memtable_bytes(storage.memtable_bytes())
        // A restart serves at once: nobody waits for a replay.
        .tuning(|tuning| tuning.flush_on_close = true);
    if let Some(shards) = storage.shards {
        builder = builder.shards(shards);
    }
    builder
        .service(service)
        .open_blocking()
        .map_err(|error| error.to_string())
}

fn announce(config: &Config, cores: &[usize], server: &Server, db: &Db, admin: Option<&Running>) {
    let address = server.address().unwrap_or(config.server.address());
    let shards = db.blocking().stats().map_or(0, |stats| stats.shards.len());
    let durability = match config.storage.durability {
        Durability::Sync => "sync: a write is answered once it is on stable storage",
        Durability::Buffered => "buffered: a write is answered before it is on stable storage",
        Durability::None => "none: writes are not logged; a crash loses those since the last flush",
    };
    say(format_args!(
        "corelane {} listens on {address}",
        env!("CARGO_PKG_VERSION")
    ));
    say(format_args!(
        "  data        {}",
        config.storage.data_dir.display()
    ));
    if let Some(tls) = server.tls().filter(|tls| !tls.only) {
        say(format_args!("  TLS         {}", tls.address));
    }
    for (core, node) in server
        .topology()
        .iter()
        .flat_map(|all| all.nodes().iter().enumerate())
    {
        say(format_args!("  core {core}      {}:{}", node.host, node.port));
    }
    say(format_args!("  cores       {cores:?}, shards {shards}"));
    if let Some(choice) = db.runtime() {
        say(format_args!("  runtime     {}: {}", choice.runtime, choice.why));
    }
    say(format_args!("  durability  {durability}"));
    say(format_args!(
        "  talk to it  redis-cli -h {} -p {}",
        address.ip(),
        address.port()
    ));
    if let Some(admin) = admin {
        let scheme = if config.admin.tls { "https" } else { "http" };
        say(format_args!("  admin       {scheme}://{}", admin.address));
    }
    say("  end it      Ctrl-C, or SIGTERM");
}

/// One line on standard output; a reader that has gone away does not matter.
pub(crate) fn say(line: impl Display) {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    let _gone = writeln!(out, "{line}").and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_needed_is_among_what_is_checked() {
        let checks = checks::check_machine(Path::new("."), 1);
        for name in NEEDED.into_iter().chain([MEMLOCK]) {
            assert!(checks.iter().any(|check| check.name == name), "{name}");
        }
    }
}
