//! What a shard can be asked, and what it answers: the messages that travel between threads and cores.
//!
//! Requests own their bytes, because they cross cores. A batch arrives already encoded and checked ([`Batch`]), so that
//! staging it is one copy and the encoding costs the caller's core.

use std::fmt;
use std::ops::Bound;

use crate::error::Result;
use crate::shard::batch::Batch;
use crate::shard::page::Page;
use crate::shard::stats::ShardStats;
use crate::types::{Durability, Sequence};

/// What `update` decided for its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// The key gets this value.
    Put(Vec<u8>),
    /// The key is removed.
    Delete,
    /// The key stays as it is; nothing is written.
    Keep,
}

/// Decides the next value of a key from its present one. Runs once, on the core that owns the key, with nothing
/// between the look and the decision.
pub type UpdateFn = Box<dyn FnOnce(Option<&[u8]>) -> Decision + Send>;

/// One request to one shard.
pub enum Op {
    /// The value of a key at a snapshot, or now.
    Get {
        /// The key.
        key: Vec<u8>,
        /// The snapshot to read at; `None` for what is published now.
        at: Option<Sequence>,
    },
    /// Applies a batch atomically; all its keys belong to the shard that is asked.
    Write {
        /// The operations.
        batch: Batch,
        /// When it is acknowledged.
        durability: Durability,
    },
    /// Reads, decides and writes one key, seeing every write staged before it.
    Update {
        /// The key.
        key: Vec<u8>,
        /// What decides.
        apply: UpdateFn,
        /// When it is acknowledged.
        durability: Durability,
    },
    /// One page of a range in key order.
    Scan(ScanRange),
    /// The number of live keys, by walking them all.
    Count,
    /// Writes the memtable out as a table and waits for it.
    Flush,
    /// Merges every level down until each key has one place, and waits for it.
    Compact,
    /// Counters and gauges.
    Stats,
}

impl Op {
    /// Whether it may change what is stored.
    pub fn writes(&self) -> bool {
        matches!(self, Self::Write { .. } | Self::Update { .. })
    }
}

impl fmt::Debug for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Get { .. } => "Get",
            Self::Write { .. } => "Write",
            Self::Update { .. } => "Update",
            Self::Scan(_) => "Scan",
            Self::Count => "Count",
            Self::Flush => "Flush",
            Self::Compact => "Compact",
            Self::Stats => "Stats",
        })
    }
}

/// A forward range to read, with its bounds on the answer.
#[derive(Debug, Clone)]
pub struct ScanRange {
    /// Where to start.
    pub start: Bound<Vec<u8>>,
    /// Where to stop.
    pub end: Bound<Vec<u8>>,
    /// At most this many entries.
    pub limit: usize,
    /// Stop after the entry that brings keys and values to this many bytes.
    pub bytes_limit: usize,
    /// Leave the values out.
    pub keys_only: bool,
    /// The snapshot to read at; `None` for what is published now.
    pub at: Option<Sequence>,
}

/// What a shard answers; each request has one kind of answer.
#[derive(Debug, Clone)]
pub enum Answer {
    /// To `Get`.
    Value(Option<Vec<u8>>),
    /// To `Write` and `Update`: acknowledged at the durability asked for. The sequence is that of the last operation,
    /// 0 where an update kept its key.
    Written(Sequence),
    /// To `Scan`.
    Page(Page),
    /// To `Count`.
    Count(u64),
    /// To `Flush` and `Compact`.
    Done,
    /// To `Stats`.
    Stats(Box<ShardStats>),
}

/// A request's outcome.
pub type Outcome = Result<Answer>;
