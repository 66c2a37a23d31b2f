//! One shard: the state of one core, and everything that is done to it.
//!
//! - [`admission`]: who may stage now, and how long the others wait.
//! - [`write`]: stage → seal → device write → apply → publish → acknowledge. [`log`] is the device-write step, and
//!   [`prepare`] what is done meanwhile.
//! - [`update`]: read-modify-write of one key or several, in the order of staging. [`clock`]: the time that values end by.
//! - [`read`] and [`scan`] (in [`page`]s): memtable → immutables → L0 → one table a level. [`read_room`]: what large blocks
//!   may take meanwhile.
//! - [`flush`] and [`compact`]: immutables become tables, tables are merged; [`install`] makes each durable, then
//!   visible, then deletes what nobody needs.
//! - [`recover`]: create, open, close.
//! - [`stats`]: what is counted meanwhile, sizes and times as [`histogram`]s.
//!
//! A shard is `!Send` and owned by one executor. State is behind cells; no borrow is held across an await. Six kinds
//! of tasks run beside the requests: the commit loop (owns the WAL), the prepare loop, the flush loop, merges, maintenance,
//! and the clock's.

pub mod admission;
pub mod batch;
pub(crate) mod caller;
pub mod clock;
pub mod compact;
pub mod config;
pub mod flush;
pub mod gate;
pub mod group;
pub mod health;
pub mod histogram;
pub mod host;
pub mod install;
pub mod live;
pub mod log;
mod measure;
pub mod memory;
pub mod page;
pub mod prepare;
mod reach;
pub mod read;
pub mod read_room;
pub mod recover;
pub mod request;
pub mod scan;
pub mod sequence;
pub mod sources;
pub mod stats;
pub mod update;
pub mod write;

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::Rc;

pub use write::Begun;

use crate::compaction::stall::{self, Pressure, Stall};
use crate::error::{Error, Result};
use crate::io::Io;
use crate::shard::clock::ExpiryClock;
use crate::shard::compact::Merging;
use crate::shard::config::{ShardConfig, Tuning};
use crate::shard::gate::{Checkout, Gate};
use crate::shard::health::Health;
use crate::shard::live::LiveVersion;
use crate::shard::log::Segments;
use crate::shard::memory::Memory;
use crate::shard::prepare::Preparing;
use crate::shard::read_room::ReadRoom;
use crate::shard::stats::{Counter, Counters, ShardStats};
use crate::shard::write::Staging;
use crate::sstable::{BlockCache, Table};
use crate::types::{Sequence, table_file_name};
use crate::version::Manifest;

/// One shard. See the [module](self).
pub struct Shard<I: Io> {
    io: I,
    config: ShardConfig,
    health: Health,
    staging: Staging,
    /// What of entering the group in flight into the memtable is done ahead.
    preparing: Preparing,
    /// The time that decides what has expired.
    time: ExpiryClock,
    /// Whose turn it is to write while compaction is behind.
    clock: Cell<stall::Clock>,
    memory: Memory,
    live: RefCell<Rc<LiveVersion<I>>>,
    /// Versions installed so far: changes whenever entries may have moved from memory to tables.
    installs: Cell<u64>,
    /// The newest sequence of a key of which flushes and merges may have left no entry since open.
    newest_forgotten: Cell<Sequence>,
    cache: Rc<BlockCache>,
    /// What reads may hold of large blocks at once.
    read_room: ReadRoom,
    manifest: Checkout<Manifest<I>>,
    next_file: Cell<u64>,
    segments: Segments<I>,
    merging: Merging,
    /// Flushes given up and tried again.
    flush_failures: Cell<u64>,
    /// Why the last flush was given up; `None` once one succeeded.
    flush_error: RefCell<Option<Error>>,
    /// Tables that left the version; their files go once no reader holds them.
    obsolete: RefCell<Vec<Rc<Table<I>>>>,
    counters: Counters,
    torn_tail_bytes: u64,
    replayed_batches: u64,
    /// What recovery found torn was cut off. Until then no group is written, and no room that somebody finds lifts that.
    mended: Cell<bool>,
    closing: Cell<bool>,
    /// The database is closing: nobody is kept waiting for room, a flush or a merge any more.
    winding_down: Cell<bool>,
    /// The first failure met while closing.
    close_error: RefCell<Option<Error>>,
    /// Background tasks that have not ended.
    tasks: Cell<usize>,
    /// Opened for: a group may be due.
    work: Gate,
    /// Opened for: there may be room to stage.
    room: Gate,
    /// Opened for: an immutable may be flushed, or was.
    flush_work: Gate,
    /// Opened for: a merge may be due, or has ended.
    compact_work: Gate,
    /// Opened for: files may be deleted, or a segment prepared.
    upkeep: Gate,
    /// Opened for: the time may have to be recorded.
    clock_work: Gate,
    /// Opened for: a task has ended.
    task_ended: Gate,
}

impl<I: Io> Shard<I> {
    /// This shard's number.
    pub fn number(&self) -> u16 {
        self.config.place.shard
    }

    /// Lets the core do what is more urgent, where its task has had its time.
    pub(crate) async fn make_way(&self) {
        if self.io.should_yield() {
            self.io.yield_now().await;
        }
    }

    /// The version that reads start on now.
    pub fn live(&self) -> Rc<LiveVersion<I>> {
        Rc::clone(&self.live.borrow())
    }

    fn tuning(&self) -> &Tuning {
        &self.config.tuning
    }

    fn take_file_number(&self) -> u64 {
        let number = self.next_file.get();
        self.next_file.set(number + 1);
        number
    }

    fn table_path(&self, number: u64) -> PathBuf {
        self.config.place.dir.join(table_file_name(number))
    }

    /// What presses on writers now.
    fn pressure(&self) -> Pressure {
        #[expect(clippy::cast_precision_loss, reason = "a fill is a rough measure")]
        let active_fill = self.memory.active_used_bytes() as f64 / self.tuning().memtable_bytes as f64;
        Pressure {
            immutables: self.memory.immutables(),
            active_fill: active_fill.min(1.0),
            // Nobody waits for merges that only come when they are asked for.
            level0_tables: if self.tuning().auto_compact {
                self.live.borrow().tables[0].len()
            } else {
                0
            },
            debt_bytes: self.merging.debt_bytes(),
        }
    }

    fn stall(&self) -> Stall {
        stall::decide(&self.pressure(), &self.stall_options())
    }

    fn stall_options(&self) -> stall::StallOptions {
        stall::StallOptions {
            immutables_max: self.tuning().max_immutables,
            ..Default::default()
        }
    }

    /// Tells everybody who waits for room, a flush, a merge or a segment that the database is closing.
    pub(crate) fn wind_down(&self) {
        self.winding_down.set(true);
        self.open_all_gates();
    }

    /// Ends all writing after a failure of unknown outcome, and wakes everybody who waits for what will not come.
    pub(crate) fn poison(&self, error: &Error) {
        self.health.poison(error);
        self.open_all_gates();
    }

    /// An error once the database is closing.
    fn check_open(&self) -> Result<()> {
        if self.winding_down.get() {
            Err(health::closed())
        } else {
            Ok(())
        }
    }

    fn open_all_gates(&self) {
        for gate in [
            &self.work,
            self.preparing.work(),
            &self.room,
            &self.flush_work,
            &self.compact_work,
            &self.upkeep,
            &self.clock_work,
        ] {
            gate.open();
        }
    }

    /// Runs a background task of this shard and counts it until it ends.
    fn spawn_task(self: &Rc<Self>, class: crate::io::Class, task: impl Future<Output = ()> + 'static) {
        let shard = Rc::clone(self);
        shard.tasks.set(shard.tasks.get() + 1);
        self.io.spawn(class, async move {
            task.await;
            shard.tasks.set(shard.tasks.get() - 1);
            shard.task_ended.open();
        });
    }

    /// State and counts at this moment.
    pub fn stats(&self) -> ShardStats {
        let counters = &self.counters;
        let live = self.live();
        let levels = 0..live.tables.len();
        let wal = self.segments.counts();
        let (cache, shares) = (self.cache.stats(), self.config.host.given());
        ShardStats {
            shard: self.number(),
            core: self.config.host.core(),
            held: self.io.held(),
            class_times: self.io.class_times(),
            health: self.health.in_words(),
            stall: self.stall_in_words(),
            operations: counters.operations.get(),
            prepared_operations: counters.prepared_operations.get(),
            user_bytes: counters.user_bytes.get(),
            memtable_bytes: self.memory.active_bytes() as u64,
            immutables: self.memory.immutables() as u64,
            immutable_bytes: self.memory.immutable_bytes() as u64,
            wal_writes: counters.wal_writes.get(),
            wal_bytes: counters.wal_bytes.get(),
            wal_batches: counters.wal_batches.get(),
            wal_segments: wal,
            wal_disk_bytes: wal * self.tuning().segment_bytes,
            group_batches: counters.group_batches.get(),
            group_bytes: counters.group_bytes.get(),
            wal_write_us: counters.wal_write_us.get(),
            flushes: counters.flushes.get(),
            flush_bytes: counters.flush_bytes.get(),
            flush_ms: counters.flush_ms.get(),
            compactions: counters.compactions.get(),
            moves: counters.moves.get(),
            compaction_read_bytes: counters.compaction_read_bytes.get(),
            compaction_written_bytes: counters.compaction_written_bytes.get(),
            compaction_ms: counters.compaction_ms.get(),
            flush_shares: shares.map_or(0, |shares| shares.flush),
            level0_shares: shares.map_or(0, |shares| shares.level0),
            compaction_shares: shares.map_or(0, |shares| shares.compaction),
            compaction_debt_bytes: self.merging.debt_bytes(),
            expired_dropped: counters.expired_dropped.get(),
            job_failures: counters.job_failures.get(),
            last_job_error: self.merging.last_error(),
            failing_job: self.failing_job(),
            level_tables: levels
                .clone()
                .map(|level| live.tables[level].len() as u64)
                .collect(),
            level_bytes: levels.map(|level| live.version.level_bytes(level)).collect(),
            table_entries: live.version.total_entries(),
            gets_from_memory: counters.gets_from_memory.get(),
            gets_from_cache: counters.gets_from_cache.get(),
            gets_from_device: counters.gets_from_device.get(),
            gets_absent: counters.gets_absent.get(),
            block_reads: counters.block_reads.get(),
            device_read_us: counters.device_read_us.get(),
            filter_useful: counters.filter_useful.get(),
            filter_false_positives: counters.filter_false_positives.get(),
            read_errors: counters.read_errors.get(),
            cache_bytes: cache.held_bytes,
            cache_capacity_bytes: cache.capacity_bytes,
            cache_hits: cache.hits,
            cache_misses: cache.misses,
            cache_inserted_bytes: cache.inserted_bytes,
            cache_evictions: cache.evictions,
            delayed_us: counters.delayed_us.get(),
            waits: counters.waits.get(),
            stalled_us: counters.stalled_us.each_ref().map(Counter::get),
            torn_tail_bytes: self.torn_tail_bytes,
            replayed_batches: self.replayed_batches,
        }
    }
}
