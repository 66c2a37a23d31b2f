//! Flags as they are typed, and what they come to: a checked spec and a list of engines.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use corelane::api::Runtime;

use crate::error::BenchError;
use crate::run::Open;
use crate::run::choice::EngineChoice;
use crate::run::sweep::Target;
use crate::spec::scale::Scale;
use crate::spec::{self, Arrival, Durability, EngineOptions, Load, Spec};

/// Which workload, and how large.
#[derive(Debug, Args)]
pub struct Workload {
    /// A preset (see `corelane-bench presets`), or the path of a TOML spec.
    pub workload: String,
    /// Entries to load.
    #[arg(long)]
    pub entries: Option<u64>,
    /// Seconds of each timed phase.
    #[arg(long)]
    pub seconds: Option<f64>,
    /// Seconds of warm-up before each timed phase.
    #[arg(long)]
    pub warmup: Option<f64>,
    /// Callers of groups for which the preset does not say how many.
    #[arg(long)]
    pub callers: Option<u32>,
    /// Bytes of a value.
    #[arg(long)]
    pub value_bytes: Option<u32>,
    /// Compressible share of a value, 0 to 1.
    #[arg(long)]
    pub compressible: Option<f64>,
    /// When writes are answered for which the preset does not say.
    #[arg(long)]
    pub durability: Option<DurabilityArg>,
    /// Times that each engine runs the whole; comparisons need several.
    #[arg(long)]
    pub repeats: Option<u32>,
    /// Where random numbers begin.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Block cache of a database in MiB.
    #[arg(long)]
    pub cache_mib: Option<u64>,
    /// Memtables of a database in MiB.
    #[arg(long)]
    pub memtable_mib: Option<u64>,
    /// Cores that an engine may use.
    #[arg(long)]
    pub cores: Option<u16>,
    /// Memory limit of the whole run in MiB, page cache included, by a control group.
    #[arg(long)]
    pub memory_limit: Option<u64>,
}

/// When a write is answered.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum DurabilityArg {
    /// On stable storage.
    Sync,
    /// Accepted.
    Buffered,
}

/// Where databases go, and to whom the work is given.
#[derive(Debug, Args)]
pub struct Place {
    /// Directory for databases, on the device in question; each is removed when it was measured.
    #[arg(long, default_value = ".")]
    pub dir: PathBuf,
    /// corelane, corelane-handle, fjall, redb, rocksdb, lmdb, resp=HOST:PORT; the first two with a runtime of their own where
    /// one is named, as in corelane=glommio.
    #[arg(long, value_delimiter = ',', default_value = "corelane,fjall,redb")]
    pub engines: Vec<EngineChoice>,
    /// What carries the engine's cores where it is not named with it: auto, uring, glommio.
    #[arg(long, default_value_t = Runtime::Auto)]
    pub runtime: Runtime,
    /// Empties a RESP server before each repeat, by FLUSHALL.
    #[arg(long)]
    pub resp_flush: bool,
    /// Leaves the raw device out.
    #[arg(long)]
    pub no_device: bool,
}

/// Flags of `run`.
#[derive(Debug, Args)]
pub struct Run {
    #[command(flatten)]
    pub workload: Workload,
    #[command(flatten)]
    pub place: Place,
    /// Open loop: operations a second of each phase's first group, instead of a closed loop.
    #[arg(long)]
    pub rate: Option<f64>,
    /// How the starts of an open loop are spaced.
    #[arg(long, default_value = "poisson")]
    pub arrival: ArrivalArg,
    /// Stores the run here as JSON, and its HTML report beside it.
    #[arg(long)]
    pub out: Option<PathBuf>,
}

/// How the starts of an open loop are spaced.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum ArrivalArg {
    /// Evenly.
    Fixed,
    /// As independent users arrive.
    Poisson,
}

/// Flags of `sweep`.
#[derive(Debug, Args)]
pub struct Sweep {
    #[command(flatten)]
    pub workload: Workload,
    #[command(flatten)]
    pub place: Place,
    /// The target, such as `p99.9<=1ms`.
    #[arg(long, default_value = "p99.9<=1ms")]
    pub target: Target,
    /// Stores the steps here as JSON, and the HTML report beside it.
    #[arg(long)]
    pub out: Option<PathBuf>,
}

/// Flags of `suite`.
#[derive(Debug, Args)]
pub struct Suite {
    /// `quick`: ten minutes at most; `full`: the sizes of the published tables.
    pub which: Which,
    #[command(flatten)]
    pub place: Place,
    /// Directory for the results.
    #[arg(long, default_value = "bench-results")]
    pub out: PathBuf,
    /// Entries to load, instead of the suite's.
    #[arg(long)]
    pub entries: Option<u64>,
    /// Seconds of each timed phase, instead of the suite's.
    #[arg(long)]
    pub seconds: Option<f64>,
    /// Times that each engine runs the whole, instead of the suite's.
    #[arg(long)]
    pub repeats: Option<u32>,
}

/// Which suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Which {
    /// Ten minutes at most.
    Quick,
    /// The sizes of the published tables.
    Full,
}

/// Flags of `compare`.
#[derive(Debug, Args)]
pub struct Compare {
    /// A stored run.
    pub a: PathBuf,
    /// Another, of the same spec; left out, two engines of the first are compared.
    pub b: Option<PathBuf>,
    /// Two engines of one run, such as `fjall,corelane`.
    #[arg(long, value_delimiter = ',', conflicts_with = "b")]
    pub engines: Vec<String>,
}

/// Flags of `report`.
#[derive(Debug, Args)]
pub struct Report {
    /// Stored runs.
    #[arg(required = true)]
    pub runs: Vec<PathBuf>,
    /// Writes the HTML report here.
    #[arg(long)]
    pub html: Option<PathBuf>,
    /// Prints markdown tables instead of those for a terminal.
    #[arg(long)]
    pub markdown: bool,
}

impl Workload {
    /// The spec that it names, checked.
    ///
    /// # Errors
    /// It cannot be read, there is no such preset, or it makes no sense.
    pub fn spec(&self) -> Result<Spec, BenchError> {
        let mut spec = if Path::new(&self.workload)
            .extension()
            .is_some_and(|end| end == "toml")
        {
            self.read_file()?
        } else {
            let preset = spec::preset(&self.workload, &self.scale());
            preset.ok_or_else(|| {
                let words = format!(
                    "`{}` is neither a preset nor a .toml file\n{}",
                    self.workload,
                    presets()
                );
                BenchError::usage(words)
            })?
        };
        self.change(&mut spec);
        spec.check()
            .map_err(|e| BenchError::usage(format!("the workload {}: {e}", self.workload)))?;
        Ok(spec)
    }

    fn read_file(&self) -> Result<Spec, BenchError> {
        let path = Path::new(&self.workload);
        let sizes = [
            ("--entries", self.entries.is_some()),
            ("--seconds", self.seconds.is_some()),
            ("--warmup", self.warmup.is_some()),
            ("--callers", self.callers.is_some()),
            ("--value-bytes", self.value_bytes.is_some()),
            ("--compressible", self.compressible.is_some()),
            ("--durability", self.durability.is_some()),
        ];
        if let Some((flag, _)) = sizes.into_iter().find(|(_, given)| *given) {
            let words = format!("{flag} belongs to presets; {} says it itself", path.display());
            return Err(BenchError::usage(words));
        }
        let text =
            std::fs::read_to_string(path).map_err(|e| BenchError::file("reading the spec", path, e))?;
        Spec::parse(&text).map_err(|e| BenchError::file("reading the spec", path, e))
    }

    fn scale(&self) -> Scale {
        let default = Scale::default();
        Scale {
            entries: self.entries.unwrap_or(default.entries),
            seconds: self.seconds.unwrap_or(default.seconds),
            warmup_seconds: self.warmup.unwrap_or(default.warmup_seconds),
            callers: self.callers.unwrap_or(default.callers),
            value_bytes: self.value_bytes,
            compressible: self.compressible,
            durability: self.durability.map_or(default.durability, |given| match given {
                DurabilityArg::Sync => Durability::Sync,
                DurabilityArg::Buffered => Durability::Buffered,
            }),
            engine: engine(),
            ..default
        }
    }

    /// What can be changed of a preset and of a file alike.
    fn change(&self, spec: &mut Spec) {
        let mib = |mib: u64| mib << 20;
        spec.repeats = self.repeats.unwrap_or(spec.repeats);
        spec.seed = self.seed.unwrap_or(spec.seed);
        let engine = &mut spec.engine;
        engine.cache_bytes = self.cache_mib.map_or(engine.cache_bytes, mib);
        engine.memtable_bytes = self.memtable_mib.map_or(engine.memtable_bytes, mib);
        engine.cores = self.cores.unwrap_or(engine.cores);
        engine.memory_limit_bytes = self.memory_limit.map(mib).or(engine.memory_limit_bytes);
    }
}

/// What engines are given here: the default, on all cores of this machine.
pub fn engine() -> EngineOptions {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    EngineOptions {
        cores: u16::try_from(cores).unwrap_or(u16::MAX),
        ..EngineOptions::default()
    }
}

impl Place {
    /// The engines, and whether servers are emptied.
    pub fn engines(&self) -> Vec<Box<dyn Open>> {
        let boxed = |engine: EngineChoice| -> Box<dyn Open> {
            let engine = engine.on(self.runtime);
            Box::new(if self.resp_flush { engine.flushed() } else { engine })
        };
        self.engines.iter().cloned().map(boxed).collect()
    }
}

impl Run {
    /// The spec, its first groups in an open loop where a rate was given.
    ///
    /// # Errors
    /// As [`Workload::spec`].
    pub fn spec(&self) -> Result<Spec, BenchError> {
        let mut spec = self.workload.spec()?;
        let Some(rate) = self.rate else {
            return Ok(spec);
        };
        let arrival = match self.arrival {
            ArrivalArg::Fixed => Arrival::Fixed,
            ArrivalArg::Poisson => Arrival::Poisson,
        };
        // The load is bound by its operations, and stays as it is.
        for phase in spec
            .phases
            .iter_mut()
            .filter(|phase| phase.until.operations.is_none())
        {
            let callers = phase.groups[0].load.callers();
            phase.groups[0].load = Load::Open {
                callers,
                rate,
                arrival,
            };
        }
        spec.check()
            .map_err(|e| BenchError::usage(format!("--rate {rate}: {e}")))?;
        Ok(spec)
    }
}

/// All presets, a family a line.
pub fn presets() -> String {
    let all: Vec<&str> = spec::preset_names().collect();
    format!("presets: {}", all.join(" "))
}
