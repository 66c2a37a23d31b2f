//! What the server counts of itself: `INFO`, `SLOWLOG`, `LATENCY` and `/metrics` are made of it.
//!
//! ```text
//! core       what one core counts: connections, each command's calls, failures and latencies, errors by code
//! totals     all cores at one moment, as plain data
//! histogram  latencies in fixed buckets: pure
//! errors     errors by code: pure
//! rates      rates of now from samples: pure
//! slow       the slow log;  cause: why a round took long, in words: pure
//! ```
//!
//! Each core writes its own counts, once per round of a connection; nobody waits for anybody. `CONFIG RESETSTAT` does not
//! touch them: it remembers what they were, and `INFO` tells what came since. Metrics tell all since the start.

pub mod cause;
pub mod core;
pub mod errors;
pub mod histogram;
pub mod rates;
pub mod slow;
pub mod totals;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use self::core::{CommandNumber, CoreCounts, CoreTelemetry, Counter};
pub use errors::Errors;
pub use histogram::Histogram;
pub use rates::{Rates, Sample};
pub use slow::{SlowEntry, SlowLog};
pub use totals::{CommandTotals, Totals};

use rates::Samples;

/// What the process counts.
#[derive(Debug)]
pub struct Telemetry {
    cores: Box<[CoreTelemetry]>,
    commands: usize,
    slow: SlowLog,
    tracking: AtomicBool,
    samples: Mutex<Samples>,
    /// The totals at the last reset; `None` before the first.
    baseline: Mutex<Option<Totals>>,
}

impl Telemetry {
    /// For `cores` cores and a table of `commands` commands.
    pub fn new(cores: usize, commands: usize) -> Self {
        Self {
            cores: (0..cores).map(|_| CoreTelemetry::new(commands)).collect(),
            commands,
            slow: SlowLog::default(),
            tracking: AtomicBool::new(true),
            samples: Mutex::default(),
            baseline: Mutex::default(),
        }
    }

    /// What one core counts; only that core may add to it.
    pub fn core(&self, core: usize) -> &CoreTelemetry {
        &self.cores[core]
    }

    /// The slow log.
    pub fn slow(&self) -> &SlowLog {
        &self.slow
    }

    /// Whether latencies per command are shown (`latency-tracking`). They are counted either way: a histogram costs one
    /// addition.
    pub fn shows_latencies(&self) -> bool {
        self.tracking.load(Ordering::Relaxed)
    }

    /// Sets whether latencies per command are shown.
    pub fn show_latencies(&self, show: bool) {
        self.tracking.store(show, Ordering::Relaxed);
    }

    /// One count over all cores, since the start.
    pub fn total(&self, count: impl Fn(&CoreCounts) -> &Counter) -> u64 {
        self.cores.iter().map(|core| count(&core.counts).get()).sum()
    }

    /// Everything since the start.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals {
            connections: self.total(|c| &c.connections),
            rejected_connections: self.total(|c| &c.rejected),
            commands: self.total(|c| &c.commands),
            failed_commands: self.total(|c| &c.errors),
            received_bytes: self.total(|c| &c.received_bytes),
            sent_bytes: self.total(|c| &c.sent_bytes),
            hits: self.total(|c| &c.hits),
            misses: self.total(|c| &c.misses),
            by_command: vec![CommandTotals::default(); self.commands],
            errors: Errors::default(),
        };
        for core in &self.cores {
            core.add_commands(&mut totals.by_command);
            core.add_errors(&mut totals.errors);
        }
        totals
    }

    /// Everything since the last reset, or the start.
    pub fn since_reset(&self) -> Totals {
        let mut totals = self.totals();
        if let Some(baseline) = &*lock(&self.baseline) {
            totals.subtract(baseline);
        }
        totals
    }

    /// Makes [`Telemetry::since_reset`] begin now.
    pub fn reset(&self) {
        *lock(&self.baseline) = Some(self.totals());
    }

    /// Takes a sample for [`Telemetry::rates`]; to be called now and then, and before the rates are asked for.
    pub fn sample(&self, now: Duration) {
        lock(&self.samples).take(Sample {
            at: now,
            commands: self.total(|c| &c.commands),
            received_bytes: self.total(|c| &c.received_bytes),
            sent_bytes: self.total(|c| &c.sent_bytes),
        });
    }

    /// The rates of the latest samples.
    pub fn rates(&self) -> Rates {
        lock(&self.samples).rates()
    }
}

/// Neither is held while anything can panic but an allocation, and both stay whole then.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_of_all_cores_add_up_and_a_reset_begins_anew() {
        let telemetry = Telemetry::new(2, 3);
        let ms = Duration::from_millis(1);
        telemetry
            .core(0)
            .round(&[(0, false), (0, false), (2, true), (0, false)], ms);
        telemetry.core(1).round(&[(0, true), (77, false)], 2 * ms);
        telemetry.core(1).rejected(1);
        telemetry.core(1).counts.commands.add(2);
        let mut errors = Errors::default();
        errors.note("WRONGTYPE x");
        telemetry.core(0).errors(&errors);
        telemetry.core(1).errors(&errors);
        let totals = telemetry.totals();
        let first = &totals.by_command[0];
        assert_eq!((first.calls, first.failed, first.latency_us), (4, 1, 5000));
        assert_eq!(
            (first.latencies.count(), first.latencies.percentile_us(100.0)),
            (4, 2047)
        );
        assert_eq!((totals.by_command[2].calls, totals.by_command[2].failed), (1, 1));
        assert_eq!(
            (totals.by_command[1].calls, totals.by_command[1].rejected),
            (0, 1)
        );
        assert_eq!(totals.errors.seen().collect::<Vec<_>>(), [("WRONGTYPE", 2)]);
        assert_eq!(telemetry.since_reset(), totals);
        telemetry.reset();
        telemetry.core(0).round(&[(1, false)], ms);
        let since = telemetry.since_reset();
        assert_eq!(
            (since.commands, since.errors.total(), since.by_command[0].calls),
            (0, 0, 0)
        );
        assert_eq!(since.by_command[1].calls, 1);
        assert_eq!(
            telemetry.totals().by_command[0].calls,
            4,
            "metrics do not go back"
        );
    }
}
