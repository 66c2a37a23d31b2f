//! What a run found, as it is stored: one JSON file a run, complete enough that every table, chart and comparison is made
//! from it and from nothing else.
//!
//! [`Run`] → engines → repeats → phases → groups. Latencies are whole histograms (nanoseconds, relative error below 1 %),
//! so that a percentile nobody asked for when it was measured can still be told.

pub mod latency;

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::engines::{Counters, Fairness};
use crate::error::BenchError;
use crate::spec::Spec;
use crate::workload::OpKind;

pub use latency::Latency;

/// Version of the file's shape: raised whenever a reader of the old one would misread the new one.
pub const FORMAT: u32 = 1;

/// One run, as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// [`FORMAT`] when it was written.
    pub format: u32,
    /// Where and when.
    pub environment: Environment,
    /// What was done.
    pub spec: Spec,
    /// Each engine, in the order measured.
    pub engines: Vec<EngineRun>,
    /// True where the user interrupted it: what is there was measured, the rest was not.
    pub interrupted: bool,
}

/// Where and when a run was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// UTC, `YYYY-MM-DD HH:MM`.
    pub date: String,
    /// Processor and number of cores.
    pub processor: String,
    /// Kernel release.
    pub kernel: String,
    /// Type and device of the filesystem that holds the databases.
    pub filesystem: String,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Load averages when the run began: another program's load spoils figures.
    pub load: String,
    /// Commit of the checkout that the bench was built in, with `+` where files differ from it.
    pub commit: String,
    /// The command line.
    pub command: String,
    /// How memory was limited, or why it was not.
    pub memory_limit: String,
}

/// One engine's part of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EngineRun {
    /// The adapter's name, such as `corelane` or `fjall`.
    pub engine: String,
    /// What it was given.
    pub fairness: Fairness,
    /// Each repeat, on a fresh database.
    pub repeats: Vec<Repeat>,
}

/// One repeat.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Repeat {
    /// Its phases, in order.
    pub phases: Vec<PhaseResult>,
    /// Entries that the closing walk over the whole database found and checked; `None` where it was interrupted.
    pub verified_entries: Option<u64>,
}

/// One phase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PhaseResult {
    /// The phase's name in the spec.
    pub name: String,
    /// Seconds that were measured, warm-up left out.
    pub seconds: f64,
    /// Each group of callers, in the spec's order.
    pub groups: Vec<GroupResult>,
    /// Time cut into windows of equal length.
    pub windows: Vec<Window>,
    /// Whether it was steady, and from when.
    pub steady: Steady,
    /// What it cost.
    pub cost: Cost,
    /// The raw device beside it, where the phase is bound by the device.
    pub device: Option<BesideDevice>,
}

/// What a group of callers did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GroupResult {
    /// The group's name in the spec.
    pub name: String,
    /// Operations that were measured.
    pub operations: u64,
    /// Operations a second.
    pub rate: f64,
    /// Each kind of operation that occurred.
    pub kinds: Vec<KindResult>,
    /// Of an open loop: how well the schedule was kept.
    pub schedule: Option<Schedule>,
}

/// Latencies of one kind of operation, in nanoseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KindResult {
    /// Which kind.
    pub kind: OpKind,
    /// From the actual start to the end.
    pub service: Latency,
    /// From the intended start to the end: what a user waits. In a closed loop the same as `service`.
    pub response: Latency,
}

/// How well an open loop kept its schedule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// Operations a second that were asked for.
    pub asked_rate: f64,
    /// How late the generator itself began an operation while a caller was free, in nanoseconds: time that is not the
    /// engine's fault.
    pub lag: Latency,
    /// Empty where the schedule was kept; else why the figures must not be used.
    pub invalid: Option<String>,
}

/// What happened in one window of time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// Seconds from the begin of the measured part to the window's begin.
    pub start_s: f64,
    /// Its length in seconds.
    pub length_s: f64,
    /// Operations of each group that ended in it, in the spec's order.
    pub operations: Vec<u64>,
    /// Response times of the first group's operations that ended in it: p50, p99 and the largest, in nanoseconds; `None`
    /// where nothing ended.
    pub response_ns: Option<[u64; 3]>,
    /// What the engine counted in it.
    pub counters: Counters,
    /// Bytes that the process sent to the device in it, by the kernel's count.
    pub written_bytes: Option<u64>,
    /// Processor seconds of the process in it.
    pub cpu_seconds: f64,
}

/// Whether a phase reached a steady state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Steady {
    /// Seconds from the begin of the measured part from which on it was steady; `None`: it never was.
    pub from_s: Option<f64>,
    /// Why it is held to be steady or not, in words.
    pub why: String,
}

/// What a phase cost, beside time.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Processor seconds of the process (of the server too, where there is one), by the kernel's count.
    pub cpu_seconds: f64,
    /// The most memory resident at once, in bytes.
    pub peak_bytes: u64,
    /// What the engine counted in the phase.
    pub counters: Counters,
    /// Bytes that the process sent to the device, by `/proc/self/io`.
    pub process_written_bytes: Option<u64>,
    /// Bytes that the process read from the device, by `/proc/self/io`.
    pub process_read_bytes: Option<u64>,
    /// Bytes written to the device meanwhile, by anyone, by `/proc/diskstats`.
    pub device_written_bytes: Option<u64>,
    /// Bytes read from it.
    pub device_read_bytes: Option<u64>,
    /// Share of the time that the device had work, 0 to 1.
    pub device_utilisation: Option<f64>,
    /// Bytes that the database's files occupy at the end.
    pub occupied_bytes: u64,
    /// Bytes of keys and values that are in it at the end.
    pub live_bytes: u64,
}

/// The raw device loop beside a phase: the same work without an engine, just before it and just after.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BesideDevice {
    /// What the loop did, in words: pattern, block size, depth.
    pub what: String,
    /// Engine operations that one device operation stands for: the writes of a group, the reads of a get.
    pub operations_per_io: f64,
    /// Its operations a second before.
    pub before: f64,
    /// Its operations a second after.
    pub after: f64,
    /// Its latencies before and after together, in nanoseconds.
    pub latency: Latency,
}

impl BesideDevice {
    /// How far the device itself drifted between the two, as a share of their mean.
    pub fn drift(&self) -> f64 {
        2.0 * (self.after - self.before).abs() / (self.after + self.before)
    }

    /// The share of the device's speed that the engine reached.
    pub fn ratio(&self, engine_rate: f64) -> f64 {
        engine_rate / (self.operations_per_io * (self.after + self.before) / 2.0)
    }
}

impl Run {
    /// Reads a stored run.
    ///
    /// # Errors
    /// Naming the file: it cannot be read, it is no run, or it was written by a newer bench.
    pub fn load(path: &Path) -> Result<Self, BenchError> {
        let text = std::fs::read(path).map_err(|e| BenchError::file("reading", path, e))?;
        let run: Self =
            serde_json::from_slice(&text).map_err(|e| BenchError::file("reading the run in", path, e))?;
        if run.format != FORMAT {
            let words = format!("it has format {}, this bench reads {FORMAT}", run.format);
            return Err(BenchError::file("reading the run in", path, words));
        }
        Ok(run)
    }

    /// Stores it, whole or not at all: written beside its place first, then renamed.
    ///
    /// # Errors
    /// Naming the file.
    pub fn store(&self, path: &Path) -> Result<(), BenchError> {
        let text = serde_json::to_vec(self).map_err(|e| BenchError::bug(format!("writing JSON: {e}")))?;
        write_whole(path, &text)
    }
}

/// Writes a file beside its place, then renames it, so that a reader never sees a half.
///
/// # Errors
/// Naming the file.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), BenchError> {
    let beside = path.with_extension("part");
    std::fs::write(&beside, bytes)
        .and_then(|()| std::fs::rename(&beside, path))
        .map_err(|e| BenchError::file("writing", path, e))
}

/// Whether a result can be stored at a path: found out before minutes of measuring, not after.
///
/// # Errors
/// Naming the directory.
pub fn can_store(path: &Path) -> Result<(), BenchError> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    let dir = dir.unwrap_or(Path::new("."));
    tempfile::tempfile_in(dir)
        .map(|_probe| ())
        .map_err(|e| BenchError::file("results cannot be stored in", dir, e))
}
