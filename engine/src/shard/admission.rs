//! Who may stage now, and how long the others wait.
//!
//! 1. A shard that takes no writes says why.
//! 2. At a hard limit (staged bytes, memtables, L0) a writer waits until the shard says that there is room.
//! 3. While compaction is behind, writers take turns by one clock of the shard ([`stall::Clock`]): each starts when those
//!    before it have been paid for, so that together they are as slow as one of them would be.
//!
//! What a write costs is paid by those after it, so what an update turns out to write can be charged once it is known.
//! Writers that wait are counted apart from other work and bounded ([`crate::shard::host`]); beyond that they are told.

use std::pin::pin;
use std::time::Duration;

use futures_util::future::select;

use crate::compaction::stall::Stall;
use crate::error::Result;
use crate::io::Io;
use crate::shard::Shard;
use crate::shard::measure::micros;
use crate::shard::stats::StallCause;

/// Delays below this are let pass: a timer cannot keep them, and the curve has hardly begun. They are not lost: the clock
/// goes on, and the next writer finds it further ahead.
const SHORTEST_DELAY: Duration = Duration::from_micros(10);

impl<I: Io> Shard<I> {
    /// Whether a batch of this size may be staged now; it is charged for then.
    ///
    /// # Errors
    /// The shard's health, where it takes no writes.
    pub fn admitted_now(&self, batch_bytes: usize) -> Result<bool> {
        if self.must_wait(batch_bytes)? {
            return Ok(false);
        }
        let Some((cost, _)) = self.cost(batch_bytes) else {
            return Ok(true);
        };
        let (now, mut clock) = (self.io.now(), self.clock.get());
        let free = clock.wait(now) < SHORTEST_DELAY;
        if free {
            clock.book(now, cost);
            self.clock.set(clock);
        }
        Ok(free)
    }

    /// Waits until a batch of this size may be staged.
    ///
    /// # Errors
    /// The shard's health; `Closed`; `Busy` where too many wait already.
    pub(crate) async fn admitted(&self, batch_bytes: usize) -> Result<()> {
        if self.admitted_now(batch_bytes)? {
            return Ok(());
        }
        let _place = self.config.host.wait_as_writer(batch_bytes)?;
        let mut turn = None;
        loop {
            let (room, pressure) = (self.room.wait(), self.compact_work.wait());
            if let Some(cause) = self.wait_cause(batch_bytes)? {
                self.check_open()?;
                self.counters.waits.add(1);
                self.stalled(cause, room).await;
                continue;
            }
            // Nobody waits for a turn once the pressure is gone.
            let Some((cost, cause)) = self.cost(batch_bytes) else {
                return Ok(());
            };
            let now = self.io.now();
            let turn = *turn.get_or_insert_with(|| self.book(now, cost));
            let left = turn.saturating_sub(now);
            if left < SHORTEST_DELAY {
                return Ok(());
            }
            self.check_open()?;
            self.stalled(cause, select(pin!(pressure), pin!(self.io.sleep(left))))
                .await;
        }
    }

    /// Charges for bytes that were admitted without being known; whoever writes next pays for them in time.
    pub(crate) fn charge(&self, bytes: usize) {
        if let Some((cost, _)) = self.cost(bytes) {
            let mut clock = self.clock.get();
            clock.book(self.io.now(), cost);
            self.clock.set(clock);
        }
    }

    /// Waits, and counts the time as lost to `cause`.
    async fn stalled<T>(&self, cause: StallCause, waiting: impl Future<Output = T>) -> T {
        let began = self.io.now();
        let waited = waiting.await;
        let took = self.io.now().saturating_sub(began);
        self.counters.stalled_us[cause as usize].add(micros(took));
        waited
    }

    /// Whether a hard limit keeps a batch of this size from being staged now.
    ///
    /// # Errors
    /// The shard's health, where it takes no writes; what keeps flushes from making room.
    pub(crate) fn must_wait(&self, batch_bytes: usize) -> Result<bool> {
        self.wait_cause(batch_bytes).map(|cause| cause.is_some())
    }

    /// Which hard limit keeps a batch of this size from being staged now.
    fn wait_cause(&self, batch_bytes: usize) -> Result<Option<StallCause>> {
        self.health.check()?;
        if !self.fits_staging(batch_bytes) {
            return Ok(Some(StallCause::Log));
        }
        // A memtable is rotated only when a group is sealed. While a device write hangs none is, and what enters the
        // memtable at once must not grow it without end.
        if self.memory.active_used_bytes() >= self.tuning().memtable_limit_bytes() {
            let error = self.flush_error.borrow().clone();
            return error.map_or(Ok(Some(StallCause::Log)), Err);
        }
        match self.stall() {
            // Nobody knows when the device will be well again: a caller who is told can decide.
            Stall::Wait(reason) => self.why_it_lasts(reason).map_or(Ok(Some(reason.into())), Err),
            _ => Ok(None),
        }
    }

    /// What holds writers back now, in words; empty while nothing does.
    pub(crate) fn stall_in_words(&self) -> String {
        let (used, limit) = (
            self.memory.active_used_bytes(),
            self.tuning().memtable_limit_bytes(),
        );
        match self.stall() {
            Stall::Slow { reason, .. } | Stall::Wait(reason) => reason.to_string(),
            Stall::None if used >= limit => {
                format!(
                    "the log is behind: the memtable holds {used} of at most {limit} bytes and waits for a group"
                )
            }
            Stall::None if self.staging_is_full() => {
                let limit = self.tuning().staged_bytes;
                format!(
                    "the log is behind: a group of at most {limit} bytes is full and waits for the one before it"
                )
            }
            Stall::None => String::new(),
        }
    }

    /// The time that these bytes take of the shard's clock, and by what writers are slowed; `None` while nobody is.
    fn cost(&self, bytes: usize) -> Option<(Duration, StallCause)> {
        let stall = self.stall();
        if let Stall::Slow { reason, .. } = stall {
            return Some((stall.delay(bytes, &self.stall_options()), reason.into()));
        }
        self.clock.take();
        None
    }

    /// This writer's turn.
    fn book(&self, now: Duration, cost: Duration) -> Duration {
        let mut clock = self.clock.get();
        let turn = clock.book(now, cost);
        self.clock.set(clock);
        let waits = turn.saturating_sub(now).as_micros();
        self.counters
            .delayed_us
            .add(u64::try_from(waits).unwrap_or(u64::MAX));
        turn
    }
}
