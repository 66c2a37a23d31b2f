//! What all cores have counted, at one moment: plain data.

use super::errors::Errors;
use super::histogram::Histogram;

/// What was counted of one command.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommandTotals {
    /// How often it ran.
    pub calls: u64,
    /// How often it was answered by an error.
    pub failed: u64,
    /// How often it was refused before it ran.
    pub rejected: u64,
    /// The latencies of all calls together, in microseconds. Commands of a pipeline wait at the same time, so that this
    /// may be more than the time that has passed.
    pub latency_us: u64,
    /// The latency of each call.
    pub latencies: Histogram,
}

/// What was counted since the start, or since the last `CONFIG RESETSTAT`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totals {
    /// Connections accepted.
    pub connections: u64,
    /// Connections turned away at the limit.
    pub rejected_connections: u64,
    /// Commands run.
    pub commands: u64,
    /// Commands answered with an error.
    pub failed_commands: u64,
    /// Bytes received.
    pub received_bytes: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Lookups that found their key.
    pub hits: u64,
    /// Lookups that did not.
    pub misses: u64,
    /// Each command, in the order of the command table.
    pub by_command: Vec<CommandTotals>,
    /// Errors by code.
    pub errors: Errors,
}

impl Totals {
    /// Takes away what had been counted at an earlier moment.
    pub fn subtract(&mut self, earlier: &Self) {
        for (count, then) in [
            (&mut self.connections, earlier.connections),
            (&mut self.rejected_connections, earlier.rejected_connections),
            (&mut self.commands, earlier.commands),
            (&mut self.failed_commands, earlier.failed_commands),
            (&mut self.received_bytes, earlier.received_bytes),
            (&mut self.sent_bytes, earlier.sent_bytes),
            (&mut self.hits, earlier.hits),
            (&mut self.misses, earlier.misses),
        ] {
            *count = count.saturating_sub(then);
        }
        for (command, then) in self.by_command.iter_mut().zip(&earlier.by_command) {
            command.calls = command.calls.saturating_sub(then.calls);
            command.failed = command.failed.saturating_sub(then.failed);
            command.rejected = command.rejected.saturating_sub(then.rejected);
            command.latency_us = command.latency_us.saturating_sub(then.latency_us);
            command.latencies.subtract(&then.latencies);
        }
        self.errors.subtract(&earlier.errors);
    }
}
