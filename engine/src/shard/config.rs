//! What a shard is told at open: its place, and how it is tuned. Plain data, validated once by the builder.

use std::fmt;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::shard::host::Host;
use crate::shard::sequence::Commits;
use crate::sstable::Compression;

/// Which shard this is and where it lives.
#[derive(Debug, Clone)]
pub struct Place {
    /// Random identity of the database, in every file of it.
    pub database: u64,
    /// This shard's number.
    pub shard: u16,
    /// Its directory.
    pub dir: PathBuf,
}

/// How a shard is tuned for this process. Nothing here changes what is already stored.
#[derive(Debug, Clone)]
pub struct Tuning {
    /// A memtable of this size is written out as a table, in bytes per shard.
    pub memtable_bytes: usize,
    /// Immutables that may wait to be flushed before writers must wait, per shard.
    pub max_immutables: usize,
    /// Block cache, in bytes per shard.
    pub cache_bytes: usize,
    /// Size of a WAL segment in bytes.
    pub segment_bytes: u64,
    /// A `Buffered` write is on disk after this many bytes of its shard have followed it...
    pub buffered_bytes: usize,
    /// ...or after this long, whichever is first.
    pub buffered_lag: Duration,
    /// Bytes that may be staged in one shard and not yet logged; writers wait beyond it.
    pub staged_bytes: usize,
    /// What the long values that reads have at once on their way from the device may take, in bytes per shard; one alone may
    /// be longer.
    pub long_reads_bytes: usize,
    /// Compression of tables below level 1.
    pub compression: Compression,
    /// Bits of filter per key.
    pub filter_bits_per_key: u32,
    /// Target size of one table in bytes.
    pub table_bytes: u64,
    /// Whether compaction runs by itself.
    pub auto_compact: bool,
    /// A manifest longer than this is written anew, in bytes.
    pub manifest_bytes: u64,
    /// Whether a clean close writes memtables out as tables, so that the next open has no log to replay. It costs the time
    /// of that flush at the close. Entries that are in no log are always written out.
    pub flush_on_close: bool,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            memtable_bytes: 64 << 20,
            max_immutables: 3,
            cache_bytes: 128 << 20,
            segment_bytes: 64 << 20,
            buffered_bytes: 512 << 10,
            buffered_lag: Duration::from_millis(20),
            staged_bytes: 4 << 20,
            long_reads_bytes: 64 << 20,
            compression: Compression::Lz4,
            filter_bits_per_key: 10,
            table_bytes: 64 << 20,
            auto_compact: true,
            manifest_bytes: 1 << 20,
            flush_on_close: false,
        }
    }
}

/// The largest `memtable_bytes`: a memtable's addresses may be used up after 4 GiB, and it is let grow beyond its size.
pub const MAX_MEMTABLE_BYTES: usize = 2 << 30;

/// No memtable grows further, so that what is staged still fits its addresses.
const MEMTABLE_LIMIT_BYTES: usize = 3 << 30;

impl Tuning {
    /// Size in bytes at which a memtable takes nothing more until it is rotated: twice the size at which it should be.
    pub(crate) fn memtable_limit_bytes(&self) -> usize {
        (2 * self.memtable_bytes).min(MEMTABLE_LIMIT_BYTES)
    }
}

/// Who knows which shard a key belongs to. What a transaction writes is seen only once it has decided, on the shard, and
/// must be held against this there.
#[derive(Clone)]
pub struct Owner(Rc<ShardOf>);

type ShardOf = dyn Fn(&[u8]) -> u16;

impl Owner {
    /// Asks `shard_of`, which must always answer the same for a key.
    pub fn new(shard_of: impl Fn(&[u8]) -> u16 + 'static) -> Self {
        Self(Rc::new(shard_of))
    }

    /// The number of the shard that `key` belongs to.
    pub fn of(&self, key: &[u8]) -> u16 {
        (self.0)(key)
    }
}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Owner")
    }
}

/// Everything a shard is opened with.
#[derive(Debug, Clone)]
pub struct ShardConfig {
    /// Which shard, and where.
    pub place: Place,
    /// How it is tuned.
    pub tuning: Tuning,
    /// The process-wide commit counter.
    pub commits: Arc<Commits>,
    /// The core that hosts it, shared with its neighbours there.
    pub host: Rc<Host>,
    /// Which shard a key belongs to.
    pub owner: Owner,
}
