//! Looks at the engine, the process and the device once a window while callers run, and ends the job when it is stopped.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::cost::Usage;
use crate::cost::disk::{Disk, DiskUsage};
use crate::engines::{Counters, Engine};
use crate::load::job::Job;
use crate::load::recorder::WindowRecord;
use crate::result::Window;
use crate::run::Watch;

/// How soon an interruption is seen.
const LOOK: Duration = Duration::from_millis(20);

/// Everything that was counted at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    /// Seconds from the begin of the measured part.
    at: f64,
    /// What the engine counted.
    pub counters: Counters,
    /// What the kernel counted for the process, and the server where there is one.
    pub usage: Usage,
    /// What it counted for the device; `None` where there is no single one.
    pub disk: Option<DiskUsage>,
}

/// Takes readings.
pub struct Sampler<'a> {
    engine: &'a dyn Engine,
    disk: Option<&'a Disk>,
    job: &'a Job,
    watch: &'a Watch,
}

impl<'a> Sampler<'a> {
    /// Of an engine on a device while a job runs.
    pub fn new(engine: &'a dyn Engine, disk: Option<&'a Disk>, job: &'a Job, watch: &'a Watch) -> Self {
        Self {
            engine,
            disk,
            job,
            watch,
        }
    }

    /// Counts everything now.
    pub fn read(&self) -> Reading {
        let own = Usage::now();
        let server = self.engine.server().and_then(|pid| Usage::of(pid).ok());
        let from = self.job.measured_from();
        Reading {
            at: Instant::now().saturating_duration_since(from).as_secs_f64(),
            counters: self.engine.counters(),
            usage: server.map_or(own, |server| own.with(&server)),
            disk: self.disk.and_then(|disk| disk.usage().ok()),
        }
    }

    /// Takes a reading at the begin of the measured part and at the end of each window, until `done`.
    pub fn run(&self, done: &AtomicBool) -> Vec<Reading> {
        let (from, window) = (self.job.measured_from(), self.job.recorder().window());
        let mut readings = Vec::new();
        let mut due = from;
        while !done.load(Ordering::Acquire) {
            if self.watch.stop.asked() {
                self.job.stop();
            }
            let now = Instant::now();
            if now >= due {
                readings.push(self.read());
                due += window;
                self.watch.bar.tick();
            } else {
                std::thread::sleep((due - now).min(LOOK));
            }
        }
        readings.push(self.read());
        readings
    }
}

/// Puts what was counted beside what callers recorded, window by window.
pub fn windows(
    readings: &[Reading],
    mut records: Vec<WindowRecord>,
    length: Duration,
    groups: usize,
) -> Vec<Window> {
    let length_s = length.as_secs_f64();
    let whole = readings
        .windows(2)
        .filter(|pair| pair[1].at - pair[0].at >= length_s / 2.0);
    let mut windows = Vec::new();
    for (place, pair) in whole.enumerate() {
        let record = records.get_mut(place).map(std::mem::take).unwrap_or_default();
        let [then, now] = [&pair[0], &pair[1]];
        let mut operations = record.operations;
        operations.resize(groups, 0);
        let spread = |p| record.response.percentile_ns(p).or(record.response.max_ns());
        windows.push(Window {
            start_s: place as f64 * length_s,
            length_s: (now.at - then.at).min(length_s),
            operations,
            response_ns: record
                .response
                .median_ns()
                .and_then(|median| Some([median, spread(0.99)?, record.response.max_ns()?])),
            counters: between(&then.counters, &now.counters),
            written_bytes: now.usage.since(&then.usage).written_bytes,
            cpu_seconds: now.usage.since(&then.usage).cpu_seconds,
        });
    }
    windows
}

/// What was counted between two readings; gauges (debt, tables) as they are at the second.
pub fn between(then: &Counters, now: &Counters) -> Counters {
    let less = |then: Option<u64>, now: Option<u64>| Some(now?.saturating_sub(then?));
    Counters {
        user_bytes: less(then.user_bytes, now.user_bytes),
        log_bytes: less(then.log_bytes, now.log_bytes),
        log_writes: less(then.log_writes, now.log_writes),
        log_batches: less(then.log_batches, now.log_batches),
        flush_bytes: less(then.flush_bytes, now.flush_bytes),
        compaction_bytes: less(then.compaction_bytes, now.compaction_bytes),
        compactions: less(then.compactions, now.compactions),
        debt_bytes: now.debt_bytes,
        table_bytes: now.table_bytes,
        block_reads: less(then.block_reads, now.block_reads),
        delayed_us: less(then.delayed_us, now.delayed_us),
    }
}
