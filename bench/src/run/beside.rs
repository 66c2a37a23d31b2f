//! The raw device beside a phase that it bounds: the same pattern without an engine, right before and right after.
//!
//! - A group that only writes, durably: overwrites of whole groups with `O_DSYNC`, one at a time in a file of each core.
//!   The size is what a group of as many waiting callers needs; how many writes a group carried is what the engine counted.
//! - A group that only reads: random 4 KiB reads with as many under way as there are callers. It is told where the engine
//!   did read the device, and scaled by how many reads an operation took.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::device::{self, Figure, Pattern, Stop, Target};
use crate::engines::Counters;
use crate::error::BenchError;
use crate::result::{BesideDevice, GroupResult};
use crate::spec::{Durability, Group, Phase, Spec};

/// How long the raw loop runs, each time.
const TIME: Duration = Duration::from_millis(1500);
/// As large as a segment of the log.
const LOG_BYTES: u64 = 64 << 20;
/// The file that reads go to is no larger than this: reads of a larger one are no slower on flash.
const MOST_DATA_BYTES: u64 = 4 << 30;
/// Reads of the device, for each operation, below which a phase is not bound by it.
const LEAST_READS: f64 = 0.05;
/// What a write takes in a log beside its key and value, in bytes, about.
const RECORD_OVERHEAD: u64 = 32;
/// The unit of direct I/O here.
const PAGE_BYTES: u32 = 4096;

/// The preconditioned files.
#[derive(Debug)]
pub struct Device {
    logs: Vec<Target>,
    data: Option<Target>,
    entry_bytes: u64,
    files: Vec<PathBuf>,
}

/// What was measured before a phase.
#[derive(Debug)]
pub struct Before<'a> {
    device: &'a Device,
    work: Work,
    figure: Figure,
}

#[derive(Debug, Clone, Copy)]
enum Work {
    Groups { mean_bytes: f64, files: usize },
    Reads { depth: u32, threads: u32 },
}

impl Device {
    /// Prepares the files that a spec's phases need.
    ///
    /// # Errors
    /// The operating system's.
    pub fn prepare(dir: &Path, spec: &Spec) -> Result<Self, BenchError> {
        let groups = || spec.phases.iter().map(|phase| &phase.groups[0]);
        let (least, most) = spec.values.bytes.bounds();
        let entry_bytes = u64::from(spec.keys.bytes) + u64::from(least.midpoint(most));
        let mut device = Self {
            logs: Vec::new(),
            data: None,
            entry_bytes,
            files: Vec::new(),
        };
        if groups().any(writes_durably) {
            for core in 0..spec.engine.cores {
                let path = dir.join(format!("corelane-bench-raw-log-{core}"));
                device.files.push(path.clone());
                device.logs.push(Target::make(&path, LOG_BYTES)?);
            }
        }
        if groups().any(only_reads) {
            let path = dir.join("corelane-bench-raw-data");
            device.files.push(path.clone());
            let bytes = (spec.keys.count * entry_bytes).clamp(LOG_BYTES, MOST_DATA_BYTES);
            device.data = Some(Target::make(&path, bytes)?);
        }
        Ok(device)
    }

    /// Measures the device before a phase, if it may be bound by it.
    ///
    /// # Errors
    /// The operating system's.
    pub fn before(&self, phase: &Phase, stop: &Stop) -> Result<Option<Before<'_>>, BenchError> {
        let group = &phase.groups[0];
        let callers = group.load.callers();
        let work = if writes_durably(group) {
            // One caller keeps one log busy, however many there are.
            let files = self.logs.len().min(callers as usize);
            let waiting = u64::from(callers).div_ceil(files as u64);
            let bytes = waiting * (self.entry_bytes + RECORD_OVERHEAD);
            Work::Groups {
                mean_bytes: bytes as f64,
                files,
            }
        } else if only_reads(group) {
            Work::Reads {
                depth: callers.min(256),
                threads: threads(callers),
            }
        } else {
            return Ok(None);
        };
        let figure = self.run(work, stop)?;
        Ok(Some(Before {
            device: self,
            work,
            figure,
        }))
    }

    fn run(&self, work: Work, stop: &Stop) -> Result<Figure, BenchError> {
        match work {
            Work::Groups { mean_bytes, files } => {
                device::wal_groups(&self.logs[..files], mean_bytes, TIME, stop)
            }
            Work::Reads { depth, threads } => {
                let target = self.data.as_ref().expect("it was prepared for phases that read");
                let pattern = Pattern {
                    threads,
                    ..Pattern::random_reads(PAGE_BYTES, depth)
                };
                device::run(&pattern, target, TIME, stop)
            }
        }
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        for file in &self.files {
            // It is in the user's directory: what cannot be removed is seen there.
            let _kept = std::fs::remove_file(file);
        }
    }
}

impl Before<'_> {
    /// Measures the device again; `None` where the phase turned out not to be bound by it.
    ///
    /// # Errors
    /// The operating system's.
    pub fn after(
        self,
        group: &GroupResult,
        counters: &Counters,
        stop: &Stop,
    ) -> Result<Option<BesideDevice>, BenchError> {
        let Some(operations_per_io) = self.operations_per_io(group, counters) else {
            return Ok(None);
        };
        let again = self.device.run(self.work, stop)?;
        let mut latency = self.figure.service.clone();
        latency.merge(&again.service);
        Ok(Some(BesideDevice {
            what: self.words(),
            operations_per_io,
            before: self.figure.rate(),
            after: again.rate(),
            latency,
        }))
    }

    fn operations_per_io(&self, group: &GroupResult, counters: &Counters) -> Option<f64> {
        match self.work {
            Work::Groups { .. } => {
                let (writes, batches) = (counters.log_writes?, counters.log_batches?);
                (writes > 0).then(|| batches as f64 / writes as f64)
            }
            Work::Reads { .. } => {
                let reads = counters.block_reads? as f64 / group.operations.max(1) as f64;
                (reads >= LEAST_READS).then(|| 1.0 / reads)
            }
        }
    }

    fn words(&self) -> String {
        match self.work {
            Work::Groups { mean_bytes, files } => format!(
                "O_DSYNC overwrites of {mean_bytes:.0} bytes in whole pages, one at a time in each of {files} files"
            ),
            Work::Reads { depth, threads } => {
                format!("random 4 KiB reads, {depth} under way from {threads} threads")
            }
        }
    }
}

fn writes_durably(group: &Group) -> bool {
    let writes = group.mix.insert + group.mix.update + group.mix.delete;
    group.durability == Durability::Sync && writes > 1.0 - 1e-9
}

fn only_reads(group: &Group) -> bool {
    group.mix.read > 1.0 - 1e-9
}

/// No more threads than callers, nor than cores.
fn threads(callers: u32) -> u32 {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    callers.min(u32::try_from(cores).unwrap_or(u32::MAX))
}
