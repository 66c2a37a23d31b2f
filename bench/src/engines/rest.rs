//! When a tree is at rest: nothing waits, and nothing was flushed or merged for a while.

use std::time::{Duration, Instant};

use crate::error::BenchError;

/// The tree is at rest once nothing was flushed or merged for so long.
const REST: Duration = Duration::from_millis(500);
/// A tree that is not at rest by then never will be.
const LIMIT: Duration = Duration::from_secs(1800);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);

/// Watches an engine come to rest.
pub struct Rest {
    engine: &'static str,
    begun: Instant,
    since: Instant,
    done: u64,
}

impl Rest {
    /// Begins to watch.
    pub fn new(engine: &'static str) -> Self {
        let begun = Instant::now();
        Self {
            engine,
            begun,
            since: begun,
            done: 0,
        }
    }

    /// Whether it is at rest; else waits a little. `busy`: work waits or is under way; `done`: jobs done so far.
    ///
    /// # Errors
    /// That it did not come to rest in half an hour.
    pub fn reached(&mut self, busy: bool, done: u64) -> Result<bool, BenchError> {
        if busy || done != self.done {
            (self.done, self.since) = (done, Instant::now());
        } else if self.since.elapsed() >= REST {
            return Ok(true);
        }
        if self.begun.elapsed() > LIMIT {
            let words = format!("its compaction has not come to rest in {} s", LIMIT.as_secs());
            return Err(BenchError::engine(&format!("waiting for {}", self.engine), words));
        }
        std::thread::sleep(LOOK);
        Ok(false)
    }
}
