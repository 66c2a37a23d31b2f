//! How long the device and the background work take: a clock read before and one after, and the time into a histogram.
//!
//! Only what succeeded is counted: a failure's time says nothing about the device's speed, and is told by its error.

use std::time::Duration;

use crate::error::Result;
use crate::io::Io;
use crate::shard::Shard;

/// A time in whole microseconds.
pub(crate) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

impl<I: Io> Shard<I> {
    /// Waits for a read of the device and counts how long it took.
    ///
    /// # Errors
    /// The read's own.
    pub(crate) async fn timed_read<T>(&self, read: impl Future<Output = Result<T>>) -> Result<T> {
        let began = self.io.now();
        let read = read.await?;
        let took = self.io.now().saturating_sub(began);
        self.counters.device_read_us.record(micros(took));
        Ok(read)
    }

    /// Waits for a write of the log, counts it and how long it took, and returns its bytes.
    ///
    /// # Errors
    /// The write's own.
    pub(crate) async fn timed_write(&self, write: impl Future<Output = Result<u64>>) -> Result<u64> {
        let began = self.io.now();
        let bytes = write.await?;
        let took = self.io.now().saturating_sub(began);
        self.counters.wal_write_us.record(micros(took));
        self.counters.wal_writes.add(1);
        self.counters.wal_bytes.add(bytes);
        Ok(bytes)
    }

    /// Milliseconds since then.
    pub(crate) fn ms_since(&self, began: Duration) -> u64 {
        let took = self.io.now().saturating_sub(began).as_millis();
        u64::try_from(took).unwrap_or(u64::MAX)
    }
}
