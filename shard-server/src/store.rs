//! What the server asks of the engine, as one trait: a core of the engine answers in production, a map in tests.
//!
//! It is the surface of [`corelane::api::Core`] that a connection needs, and adds nothing to it.

use std::time::Duration;

use corelane::Result;
use corelane::api::{Core, Found, Op, Outcome, Page, ScanRange, Stats};
use corelane::io::Io;

/// One core's door to the whole database. Cheap to clone; stays on its core.
pub trait Store: Clone + 'static {
    /// The number of this core, from 0.
    fn core(&self) -> usize;
    /// The shard that owns a key.
    fn shard_of(&self, key: &[u8]) -> u16;
    /// Looks at a key where this core owns it and memory holds it; `None` otherwise.
    fn look_resident<R>(&self, key: &[u8], look: impl FnOnce(Found<'_>) -> R) -> Option<R>;
    /// As [`Store::look_resident`], at the value alone: that needs no clock where the value never ends.
    fn get_resident<R>(&self, key: &[u8], look: impl FnOnce(Option<&[u8]>) -> R) -> Option<R> {
        self.look_resident(key, |found| look(found.value))
    }
    /// Runs requests, in order for each shard, and answers in the order of the requests.
    fn execute(&self, ops: Vec<(u16, Op)>) -> impl Future<Output = Vec<Outcome>>;
    /// One page of a range over all shards, in key order.
    fn scan(&self, range: ScanRange) -> impl Future<Output = Result<Page>>;
    /// How many keys there are, by walking them.
    fn count(&self) -> impl Future<Output = Result<u64>>;
    /// Every shard's counts.
    fn stats(&self) -> impl Future<Output = Result<Stats>>;
    /// Time since an arbitrary start.
    fn now(&self) -> Duration;
    /// When the running task was polled, which the core remembers.
    fn polled_at(&self) -> Duration {
        self.now()
    }
    /// Time since the Unix epoch in milliseconds, as the machine's clock has it.
    fn wall_clock_ms(&self) -> u64;
    /// The time that decides what has ended in a shard, in ms since the Unix epoch; `None` for one of another core.
    fn clock_of(&self, shard: u16) -> Option<u64>;
    /// What holds a shard's writers back now, in words; empty where nothing does. `None` for one of another core.
    fn stall_of(&self, shard: u16) -> Option<String>;
    /// A number by chance.
    fn random_u64(&self) -> u64;
    /// Waits.
    fn sleep(&self, length: Duration) -> impl Future<Output = ()>;
    /// Whether the database is closing.
    fn is_closing(&self) -> bool;
    /// Whether something more urgent waits for this core.
    fn should_yield(&self) -> bool;
    /// Lets it run.
    fn yield_now(&self) -> impl Future<Output = ()>;
}

impl<I: Io> Store for Core<I> {
    fn core(&self) -> usize {
        self.index()
    }

    fn shard_of(&self, key: &[u8]) -> u16 {
        Self::shard_of(self, key)
    }

    fn look_resident<R>(&self, key: &[u8], look: impl FnOnce(Found<'_>) -> R) -> Option<R> {
        Self::look_resident(self, key, look)
    }

    fn get_resident<R>(&self, key: &[u8], look: impl FnOnce(Option<&[u8]>) -> R) -> Option<R> {
        Self::get_resident(self, key, look)
    }

    async fn execute(&self, ops: Vec<(u16, Op)>) -> Vec<Outcome> {
        Self::execute(self, ops).await
    }

    async fn scan(&self, range: ScanRange) -> Result<Page> {
        Self::scan(self, range).await
    }

    async fn count(&self) -> Result<u64> {
        Self::count(self).await
    }

    async fn stats(&self) -> Result<Stats> {
        Self::stats(self).await
    }

    fn now(&self) -> Duration {
        self.io().now()
    }

    fn polled_at(&self) -> Duration {
        self.io().polled_at()
    }

    fn wall_clock_ms(&self) -> u64 {
        self.io().wall_clock_ms()
    }

    fn clock_of(&self, shard: u16) -> Option<u64> {
        Self::clock_of(self, shard)
    }

    fn stall_of(&self, shard: u16) -> Option<String> {
        Self::stall_of(self, shard)
    }

    fn random_u64(&self) -> u64 {
        self.io().random_u64()
    }

    async fn sleep(&self, length: Duration) {
        self.io().sleep(length).await;
    }

    fn is_closing(&self) -> bool {
        Self::is_closing(self)
    }

    fn should_yield(&self) -> bool {
        self.io().should_yield()
    }

    async fn yield_now(&self) {
        self.io().yield_now().await;
    }
}
