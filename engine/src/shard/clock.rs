//! The clock that expiry goes by: it never goes back, whatever the machine's does (R18).
//!
//! Time is the largest of the machine's wall clock, of what this shard has seen of it since open, and of what the manifest
//! last recorded. It is only asked for where an entry ends at all, so a shard without such entries never looks.

use std::cell::Cell;

use crate::io::Io;
use crate::shard::Shard;

/// What a shard knows of the time. Milliseconds since the Unix epoch.
#[derive(Debug, Default)]
pub struct ExpiryClock {
    seen_ms: Cell<u64>,
}

impl ExpiryClock {
    /// The time, given what the machine says.
    pub fn read(&self, wall_ms: u64) -> u64 {
        let now_ms = self.seen_ms.get().max(wall_ms);
        self.seen_ms.set(now_ms);
        now_ms
    }
}

impl<I: Io> Shard<I> {
    /// The time that decides what has expired, in ms since the Unix epoch.
    pub fn now_ms(&self) -> u64 {
        self.time.read(self.io.wall_clock_ms())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r18_time_does_not_go_back() {
        let clock = ExpiryClock::default();
        let seen: Vec<_> = [5, 3, 9, 8].map(|wall| clock.read(wall)).into();
        assert_eq!(seen, [5, 5, 9, 9]);
    }
}
