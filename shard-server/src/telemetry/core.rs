//! What one core counts. Only that core writes, so that an addition is a load and a store without a locked
//! instruction; anybody reads, a moment late at worst. Each core's counts are on cache lines of their own.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::errors::Errors;
use super::histogram::{BUCKETS, Histogram, bucket_of};
use super::totals::CommandTotals;

/// A command's place in `command::table::ALL`.
pub type CommandNumber = u16;

/// A counter with one writer.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Counts so many more. Only the core that it belongs to may.
    pub fn add(&self, n: u64) {
        // One writer: nothing is lost between the load and the store.
        self.0.store(self.get().wrapping_add(n), Ordering::Relaxed);
    }

    /// How many were counted.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counts of one core's connections and commands as a whole.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct CoreCounts {
    /// Connections accepted.
    pub connections: Counter,
    /// Connections turned away at the limit.
    pub rejected: Counter,
    /// Commands run.
    pub commands: Counter,
    /// Commands answered with an error.
    pub errors: Counter,
    /// Bytes received.
    pub received_bytes: Counter,
    /// Bytes sent.
    pub sent_bytes: Counter,
    /// Lookups by commands that found their key.
    pub hits: Counter,
    /// Lookups by commands that did not.
    pub misses: Counter,
}

/// What is counted of one command.
#[derive(Debug)]
struct CommandCounts {
    calls: Counter,
    failed: Counter,
    rejected: Counter,
    latency_us: Counter,
    latencies: [Counter; BUCKETS],
}

impl Default for CommandCounts {
    fn default() -> Self {
        Self {
            calls: Counter::default(),
            failed: Counter::default(),
            rejected: Counter::default(),
            latency_us: Counter::default(),
            latencies: [const { Counter(AtomicU64::new(0)) }; BUCKETS],
        }
    }
}

/// Everything that one core counts.
#[derive(Debug)]
pub struct CoreTelemetry {
    /// Its connections, and its commands as a whole.
    pub counts: CoreCounts,
    commands: Box<[CommandCounts]>,
    errors: [Counter; Errors::CODES.len()],
}

impl CoreTelemetry {
    /// Counts for a table of `commands` commands.
    pub(super) fn new(commands: usize) -> Self {
        Self {
            counts: CoreCounts::default(),
            commands: (0..commands).map(|_| CommandCounts::default()).collect(),
            errors: [const { Counter(AtomicU64::new(0)) }; Errors::CODES.len()],
        }
    }

    /// Counts the commands of a round, each with whether it was answered by an error. All were answered together, so
    /// that each took what the round took: what its client waited for it.
    pub fn round(&self, commands: &[(CommandNumber, bool)], latency: Duration) {
        let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        let bucket = bucket_of(us);
        // Pipelines repeat themselves: equal neighbours are counted at once.
        for same in commands.chunk_by(|a, b| a == b) {
            let ((command, failed), n) = (same[0], same.len() as u64);
            let Some(counts) = self.commands.get(usize::from(command)) else {
                continue;
            };
            counts.calls.add(n);
            counts.latency_us.add(us.saturating_mul(n));
            counts.latencies[bucket].add(n);
            if failed {
                counts.failed.add(n);
            }
        }
    }

    /// Counts a command that was refused before it was run: a wrong number of arguments, no permission.
    pub fn rejected(&self, command: CommandNumber) {
        if let Some(counts) = self.commands.get(usize::from(command)) {
            counts.rejected.add(1);
        }
    }

    /// Counts errors that were answered.
    pub fn errors(&self, errors: &Errors) {
        for (counter, &n) in self.errors.iter().zip(errors.counts()) {
            if n > 0 {
                counter.add(n);
            }
        }
    }

    /// Adds what was counted of each command to `totals`, which are in the same order.
    pub(super) fn add_commands(&self, totals: &mut [CommandTotals]) {
        for (counts, total) in self.commands.iter().zip(totals) {
            total.calls += counts.calls.get();
            total.failed += counts.failed.get();
            total.rejected += counts.rejected.get();
            total.latency_us = total.latency_us.saturating_add(counts.latency_us.get());
            let mut latencies = Histogram::default();
            let filled = counts.latencies.iter().map(Counter::get).enumerate();
            filled.for_each(|(bucket, n)| latencies.add(bucket, n));
            total.latencies.merge(&latencies);
        }
    }

    /// Adds what was counted of errors to `totals`.
    pub(super) fn add_errors(&self, totals: &mut Errors) {
        totals.add(self.errors.each_ref().map(Counter::get));
    }
}
