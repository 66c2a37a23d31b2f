//! What a shard counts, and the report made of it.

use std::cell::Cell;

use crate::compaction::stall::Reason;
use crate::io::{ClassTimes, Held};
use crate::shard::histogram::{Histogram, Recorder};

/// A counter of one core: no atomics, because nobody else touches it.
#[derive(Debug, Default)]
pub struct Counter(Cell<u64>);

impl Counter {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.set(self.0.get().wrapping_add(n));
    }

    /// The count so far.
    pub fn get(&self) -> u64 {
        self.0.get()
    }
}

/// What holds writers back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StallCause {
    /// Memtables are filled faster than they are flushed.
    Memtables,
    /// Tables reach L0 faster than they are merged.
    Level0,
    /// The levels below are behind.
    Debt,
    /// The log is behind: what is staged, or what entered the memtable ahead of it, has reached its bound.
    Log,
}

impl StallCause {
    /// How many there are.
    pub const COUNT: usize = 4;

    /// All of them, each at its place in [`ShardStats::stalled_us`].
    pub const ALL: [Self; Self::COUNT] = [Self::Memtables, Self::Level0, Self::Debt, Self::Log];

    /// One word for it, for a label.
    pub fn word(self) -> &'static str {
        match self {
            Self::Memtables => "memtables",
            Self::Level0 => "level0",
            Self::Debt => "debt",
            Self::Log => "log",
        }
    }
}

impl From<Reason> for StallCause {
    fn from(reason: Reason) -> Self {
        match reason {
            Reason::Memtables { .. } => Self::Memtables,
            Reason::Level0 { .. } => Self::Level0,
            Reason::Debt { .. } => Self::Debt,
        }
    }
}

/// Everything a shard counts since it was opened.
#[derive(Debug, Default)]
pub struct Counters {
    /// Operations that entered the memtable.
    pub operations: Counter,
    /// Those of them that had been prepared while the device wrote their group.
    pub prepared_operations: Counter,
    /// Their keys' and values' bytes.
    pub user_bytes: Counter,
    /// Device writes of the WAL.
    pub wal_writes: Counter,
    /// Bytes of them, padding included.
    pub wal_bytes: Counter,
    /// Batches that those writes carried.
    pub wal_batches: Counter,
    /// Memtables written out as tables.
    pub flushes: Counter,
    /// Bytes of those tables.
    pub flush_bytes: Counter,
    /// Merges done.
    pub compactions: Counter,
    /// Tables moved down without being rewritten.
    pub moves: Counter,
    /// Bytes that merges read.
    pub compaction_read_bytes: Counter,
    /// Bytes that merges wrote.
    pub compaction_written_bytes: Counter,
    /// Values that flushes and merges gave up because their time had passed.
    pub expired_dropped: Counter,
    /// Flushes and merges given up and tried again later.
    pub job_failures: Counter,
    /// Lookups answered by a memtable.
    pub gets_from_memory: Counter,
    /// Lookups answered by cached blocks.
    pub gets_from_cache: Counter,
    /// Lookups that read the device.
    pub gets_from_device: Counter,
    /// Lookups of keys that no table holds.
    pub gets_absent: Counter,
    /// Blocks read for lookups.
    pub block_reads: Counter,
    /// Tables that a lookup did not look into because their filter said no.
    pub filter_useful: Counter,
    /// Blocks looked into in vain: the filter had said maybe.
    pub filter_false_positives: Counter,
    /// Reads that failed.
    pub read_errors: Counter,
    /// Time that writers were delayed because of compaction debt, in microseconds.
    pub delayed_us: Counter,
    /// Writes that had to wait for a hard limit.
    pub waits: Counter,
    /// Time that writers spent waiting, by what for, in microseconds; see [`ShardStats::stalled_us`].
    pub stalled_us: [Counter; StallCause::COUNT],
    /// Batches of each group.
    pub group_batches: Recorder,
    /// Bytes of each group as written, padding included.
    pub group_bytes: Recorder,
    /// Each device write of the log, in microseconds.
    pub wal_write_us: Recorder,
    /// Each read of the device for a lookup or a scan, in microseconds.
    pub device_read_us: Recorder,
    /// Each flush, in milliseconds.
    pub flush_ms: Recorder,
    /// Each merge, in milliseconds.
    pub compaction_ms: Recorder,
}

/// A shard's state and counts at one moment. Counts are since open; bytes are bytes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ShardStats {
    /// The shard's number.
    pub shard: u16,
    /// The core of this database that hosts it, from 0.
    pub core: usize,
    /// What that core holds, all of its shards together; `None` where the runtime does not count it.
    pub held: Option<Held>,
    /// What each class of tasks has had of that core; `None` where the runtime does not count it.
    pub class_times: Option<ClassTimes>,
    /// Whether it takes writes, in words.
    pub health: String,
    /// Why writers are delayed, in words; empty when they are not.
    pub stall: String,
    /// Operations that entered the memtable.
    pub operations: u64,
    /// Those of them that had been copied in while the device wrote their group.
    pub prepared_operations: u64,
    /// Their keys' and values' bytes.
    pub user_bytes: u64,
    /// Bytes in the active memtable.
    pub memtable_bytes: u64,
    /// Immutables waiting for a flush.
    pub immutables: u64,
    /// Bytes in them.
    pub immutable_bytes: u64,
    /// Device writes of the WAL.
    pub wal_writes: u64,
    /// Bytes of them, padding included.
    pub wal_bytes: u64,
    /// Batches that those writes carried.
    pub wal_batches: u64,
    /// WAL segments on disk, spares included.
    pub wal_segments: u64,
    /// Bytes of them, each counted at the size that segments are made with now.
    pub wal_disk_bytes: u64,
    /// How many batches went to the device together; a group counts once a frame of it was written.
    pub group_batches: Histogram,
    /// Bytes of those groups as written, padding included.
    pub group_bytes: Histogram,
    /// How long each device write of the log took, in microseconds.
    pub wal_write_us: Histogram,
    /// Memtables written out.
    pub flushes: u64,
    /// Bytes of their tables.
    pub flush_bytes: u64,
    /// How long each took, from its first entry to its table being visible, in milliseconds.
    pub flush_ms: Histogram,
    /// Merges done.
    pub compactions: u64,
    /// Tables moved without being rewritten.
    pub moves: u64,
    /// Bytes that merges read.
    pub compaction_read_bytes: u64,
    /// Bytes that merges wrote.
    pub compaction_written_bytes: u64,
    /// How long each merge took, in milliseconds.
    pub compaction_ms: Histogram,
    /// The weight of flushes on this shard's core now, 1 to 1000 (0 before anything was written); shared by its shards.
    pub flush_shares: u32,
    /// The same of merges out of L0.
    pub level0_shares: u32,
    /// The same of the merges below.
    pub compaction_shares: u32,
    /// Bytes that merges have yet to write until every level fits its room.
    pub compaction_debt_bytes: u64,
    /// Values that flushes and merges gave up because their time had passed, those included of which a tombstone stays.
    pub expired_dropped: u64,
    /// Flushes and merges given up and tried again.
    pub job_failures: u64,
    /// Why the last of them was given up; empty when none was.
    pub last_job_error: String,
    /// Why flushes or merges fail now; empty once one of the kind that failed has succeeded again.
    pub failing_job: String,
    /// Tables per level.
    pub level_tables: Vec<u64>,
    /// Bytes per level.
    pub level_bytes: Vec<u64>,
    /// Entries in all tables, older versions and tombstones included.
    pub table_entries: u64,
    /// Lookups answered by a memtable.
    pub gets_from_memory: u64,
    /// Lookups answered by cached blocks.
    pub gets_from_cache: u64,
    /// Lookups that read the device.
    pub gets_from_device: u64,
    /// Lookups of keys that no table holds.
    pub gets_absent: u64,
    /// Blocks read for lookups.
    pub block_reads: u64,
    /// How long each read of the device took that a lookup or a scan waited for, in microseconds. A scan's may bring
    /// several blocks.
    pub device_read_us: Histogram,
    /// Tables that a lookup did not look into because their filter said no.
    pub filter_useful: u64,
    /// Blocks looked into in vain.
    pub filter_false_positives: u64,
    /// Reads that failed.
    pub read_errors: u64,
    /// Bytes in the block cache.
    pub cache_bytes: u64,
    /// The bound on them.
    pub cache_capacity_bytes: u64,
    /// Lookups of blocks that the cache held, for gets and scans alike.
    pub cache_hits: u64,
    /// Lookups of blocks that it did not hold.
    pub cache_misses: u64,
    /// Bytes of blocks put into it.
    pub cache_inserted_bytes: u64,
    /// Blocks pushed out of it by others.
    pub cache_evictions: u64,
    /// Time that writers were delayed, in microseconds.
    pub delayed_us: u64,
    /// Writes that had to wait for a hard limit.
    pub waits: u64,
    /// Time that writers spent waiting for a hard limit or their turn, by [`StallCause`], in microseconds: each writer's own
    /// time, so that ten who wait for a second count ten.
    pub stalled_us: [u64; StallCause::COUNT],
    /// What recovery dropped behind the last whole group of the WAL, in bytes: 0 after a clean close.
    pub torn_tail_bytes: u64,
    /// Batches that the open put back into memtables from the WAL: 0 after a close that flushed.
    pub replayed_batches: u64,
}

impl ShardStats {
    /// Bytes written to the device for each byte the user wrote: WAL, flushes and merges. 0 before the first write.
    pub fn write_amplification(&self) -> f64 {
        ratio(
            self.wal_bytes + self.flush_bytes + self.compaction_written_bytes,
            self.user_bytes,
        )
    }

    /// The same without the WAL, as RocksDB counts it.
    pub fn tree_write_amplification(&self) -> f64 {
        ratio(self.flush_bytes + self.compaction_written_bytes, self.user_bytes)
    }

    /// Bytes of all tables.
    pub fn table_bytes(&self) -> u64 {
        self.level_bytes.iter().sum()
    }
}

#[expect(clippy::cast_precision_loss, reason = "a ratio for people to read")]
fn ratio(written: u64, by_user: u64) -> f64 {
    if by_user == 0 {
        0.0
    } else {
        written as f64 / by_user as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_of_a_stall_has_its_own_place_and_word() {
        for (place, cause) in StallCause::ALL.into_iter().enumerate() {
            assert_eq!(cause as usize, place);
            let same = StallCause::ALL
                .iter()
                .filter(|other| other.word() == cause.word());
            assert_eq!(same.count(), 1);
        }
        let reasons = [
            Reason::Memtables { now: 1, max: 2 },
            Reason::Level0 { now: 1, max: 2 },
            Reason::Debt { now: 1, full: 2 },
        ];
        assert_eq!(reasons.map(StallCause::from)[..], StallCause::ALL[..3]);
    }
}
