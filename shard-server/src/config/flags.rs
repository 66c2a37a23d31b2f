//! The flags of `serve`: the topmost layer. A flag that is not given sets nothing, so that the layers below show.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::keys::find;
use super::layers::{Loaded, Place, Setting};

/// The environment variable that names the configuration file where `--config` does not.
const FILE_VARIABLE: &str = "CORELANE_CONFIG";

/// The flags of `serve`, as typed.
#[derive(Debug, Clone, Default, Args)]
pub struct ServeFlags {
    /// Configuration file (TOML); `corelane config default` prints one with every key [default: CORELANE_CONFIG, if set].
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Directory of the data; created if it is not there [default: ./corelane-data].
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Address to listen on; one beyond this machine needs users in the configuration [default: 127.0.0.1].
    #[arg(long, value_name = "ADDRESS")]
    bind: Option<String>,
    /// Port to listen on; 0 lets the kernel choose [default: 7379].
    #[arg(long)]
    port: Option<String>,
    /// Cores to run on, such as `0-1` or `0,2-3` [default: all that this process may use].
    #[arg(long, value_name = "LIST")]
    cores: Option<String>,
    /// What carries the cores [default: auto, the best that the kernel offers].
    #[arg(long, value_enum)]
    runtime: Option<RuntimeFlag>,
    /// Number of shards, fixed when the data is created [default: one a core].
    #[arg(long, value_name = "N")]
    shards: Option<String>,
    /// When a write is acknowledged: once on stable storage, once staged for it, or never logged [default: sync].
    #[arg(long, value_enum)]
    durability: Option<DurabilityFlag>,
    /// Block cache in MiB, over all shards [default: 256].
    #[arg(long, value_name = "MIB")]
    cache_mib: Option<String>,
    /// Size in MiB at which a shard's memtable is written out as a table [default: 64].
    #[arg(long, value_name = "MIB")]
    memtable_mib: Option<String>,
    /// Most clients at once; more are turned away [default: 1000].
    #[arg(long, value_name = "N")]
    max_clients: Option<String>,
    /// Have each core listen on a port of its own, too, by the Redis Cluster protocol [default: no].
    #[arg(long)]
    cluster: bool,
    /// Port of the HTTP plane; 0 lets the kernel choose [default: 7380, if it is free].
    #[arg(long, value_name = "PORT")]
    admin_port: Option<String>,
    /// No HTTP plane: no REST, metrics or health.
    #[arg(long, conflicts_with = "admin_port")]
    no_admin: bool,
    /// How much is logged: error, warn, info, debug or trace [default: info].
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum DurabilityFlag {
    Sync,
    Buffered,
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum RuntimeFlag {
    Auto,
    Uring,
    Glommio,
}

impl ServeFlags {
    /// What they set.
    pub fn settings(&self) -> Vec<Setting> {
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.to_string_lossy().into_owned());
        [
            ("--data-dir", "storage.data_dir", path(&self.data_dir)),
            ("--bind", "server.bind", self.bind.clone()),
            ("--port", "server.port", self.port.clone()),
            ("--cores", "server.cores", self.cores.clone()),
            ("--runtime", "server.runtime", self.runtime.map(word)),
            ("--shards", "storage.shards", self.shards.clone()),
            ("--durability", "storage.durability", self.durability.map(word)),
            ("--cache-mib", "storage.cache_mib", self.cache_mib.clone()),
            (
                "--memtable-mib",
                "storage.memtable_mib",
                self.memtable_mib.clone(),
            ),
            ("--max-clients", "limits.clients", self.max_clients.clone()),
            (
                "--cluster",
                "cluster.enabled",
                self.cluster.then(|| "true".to_owned()),
            ),
            ("--admin-port", "admin.port", self.admin_port.clone()),
            (
                "--no-admin",
                "admin.enabled",
                self.no_admin.then(|| "false".to_owned()),
            ),
            ("--log-level", "log.level", self.log_level.clone()),
        ]
        .into_iter()
        .filter_map(|(flag, name, text)| {
            let key = find(name).expect("every flag sets a key of the manual, as a test checks");
            Some(Setting {
                name: name.to_owned(),
                value: key.kind.read(&text?),
                place: Place::Flag(flag),
            })
        })
        .collect()
    }

    /// All layers as one, with the process's environment.
    ///
    /// # Errors
    /// As for [`Loaded::load`].
    pub fn load(&self) -> Result<Loaded, String> {
        let named = std::env::var_os(FILE_VARIABLE).map(PathBuf::from);
        let file = self.config.clone().or(named);
        Loaded::load(file.as_deref(), environment(), self.settings())
    }
}

/// The word that stands for a choice, on the command line as in the configuration.
#[expect(clippy::needless_pass_by_value, reason = "a choice is a small copy")]
fn word(choice: impl ValueEnum) -> String {
    let value = choice.to_possible_value().expect("no choice is left out");
    value.get_name().to_owned()
}

/// The environment's variables that are text.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}
