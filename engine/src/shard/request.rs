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
use crate::types::{Content, Direction, Durability, Sequence, is_expired};

/// What a shard holds for a key at the moment of the look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found<'a> {
    /// The value; `None` where the key is not there, or has expired.
    pub value: Option<&'a [u8]>,
    /// When it ends, in ms since the Unix epoch; `None` for never. Only with a value.
    pub expires_ms: Option<u64>,
    /// The sequence of the key's newest entry, a tombstone's included. Where there is none, that of the newest tombstone of
    /// any key that a merge has dropped since open; 0 before the first. `MAX_SEQUENCE` for an entry that is staged and has
    /// none yet.
    ///
    /// While the database stays open, a key whose version is the same as before has not been written in between. The
    /// reverse does not hold: merges and expiry may change the version of a key that nobody writes.
    pub version: Sequence,
    /// The shard's clock at this look (ms since the Unix epoch): the same that decided whether the value has expired.
    pub now_ms: u64,
}

impl<'a> Found<'a> {
    /// What a shard says at `now_ms` where its newest entry of the key, written at `version`, has this content.
    pub(crate) fn at(now_ms: u64, version: Sequence, content: Option<Content<'a>>) -> Self {
        let over = |content: &Content<'_>| content.expires_ms.is_some_and(|at| is_expired(at, now_ms));
        let content = content.filter(|content| !over(content));
        Self {
            value: content.map(|content| content.value),
            expires_ms: content.and_then(|content| content.expires_ms),
            version,
            now_ms,
        }
    }
}

/// What `update` decided for its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// The key gets this value, which never ends.
    Put(Vec<u8>),
    /// The key gets this value up to a time, in ms since the Unix epoch.
    PutUntil(Vec<u8>, u64),
    /// The key is removed.
    Delete,
    /// The key stays as it is; nothing is written.
    Keep,
}

/// Decides the next value of a key from its present one. Runs once, on the core that owns the key, with nothing
/// between the look and the decision.
pub type UpdateFn = Box<dyn FnOnce(Found<'_>) -> Decision + Send>;

/// Looks at a key on the core that owns it, so that only what the caller wants of a value travels. Any function of what was
/// found is one.
pub trait Look: Send {
    /// Whether a block of `block_bytes` is to be read from the device, which may hold the key: asked before every long one,
    /// of which a value with a block of its own is about all. Where it is not, the look is not run, and its request is
    /// answered all the same.
    fn wants(&mut self, block_bytes: usize) -> bool {
        let _any_length = block_bytes;
        true
    }

    /// Looks at what was found.
    fn run(self: Box<Self>, found: Found<'_>);
}

impl<F: FnOnce(Found<'_>) + Send> Look for F {
    fn run(self: Box<Self>, found: Found<'_>) {
        (*self)(found);
    }
}

/// A look on its way to the core that owns its key.
pub type LookFn = Box<dyn Look>;

/// Decides what to write from the present values of several keys, given in the order asked for. Runs once, on the core
/// that owns them, with nothing between the looks and the decision. What it writes are keys of the same shard.
pub type TransactFn = Box<dyn FnOnce(&[Found<'_>]) -> Batch + Send>;

/// One request to one shard.
pub enum Op {
    /// The value of a key at a snapshot, or now.
    Get {
        /// The key.
        key: Vec<u8>,
        /// The snapshot to read at; `None` for what is published now.
        at: Option<Sequence>,
    },
    /// Looks at what is published for a key now; a read.
    Look {
        /// The key.
        key: Vec<u8>,
        /// What looks.
        look: LookFn,
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
    /// Reads several keys, seeing every write staged before it, decides, and applies one batch atomically. All keys, read
    /// and written, belong to the shard that is asked.
    Transact {
        /// The keys to read.
        keys: Vec<Vec<u8>>,
        /// What decides.
        apply: TransactFn,
        /// Whether it may write. One that only reads is run where no write would be let in, and its batch is empty.
        writes: bool,
        /// When it is acknowledged.
        durability: Durability,
    },
    /// One page of a range in key order, or in the reverse of it.
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
        match self {
            Self::Write { .. } | Self::Update { .. } => true,
            Self::Transact { writes, .. } => *writes,
            Self::Get { .. }
            | Self::Look { .. }
            | Self::Scan(_)
            | Self::Count
            | Self::Flush
            | Self::Compact
            | Self::Stats => false,
        }
    }
}

impl fmt::Debug for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Get { .. } => "Get",
            Self::Look { .. } => "Look",
            Self::Write { .. } => "Write",
            Self::Update { .. } => "Update",
            Self::Transact { .. } => "Transact",
            Self::Scan(_) => "Scan",
            Self::Count => "Count",
            Self::Flush => "Flush",
            Self::Compact => "Compact",
            Self::Stats => "Stats",
        })
    }
}

/// A range to read, in ascending or descending order of keys, with its bounds on the answer.
#[derive(Debug, Clone)]
pub struct ScanRange {
    /// The lower end: where a scan starts, or a reverse one stops.
    pub start: Bound<Vec<u8>>,
    /// The upper end: where a scan stops, or a reverse one starts.
    pub end: Bound<Vec<u8>>,
    /// Keys descend, from `end` to `start`.
    pub reverse: bool,
    /// At most this many entries.
    pub limit: usize,
    /// Stop after the entry that brings keys and values to this many bytes.
    pub bytes_limit: usize,
    /// Leave the values out.
    pub keys_only: bool,
    /// The snapshot to read at; `None` for what is published now.
    pub at: Option<Sequence>,
}

impl ScanRange {
    /// Which way it is walked.
    pub(crate) fn direction(&self) -> Direction {
        if self.reverse {
            Direction::Backwards
        } else {
            Direction::Forwards
        }
    }

    /// Leaves what lies behind `key` in the order of the scan: the range of the page after one whose
    /// [`resume`](Page::resume) it is.
    pub fn go_on_after(&mut self, key: Vec<u8>) {
        if self.reverse {
            self.end = Bound::Excluded(key);
        } else {
            self.start = Bound::Excluded(key);
        }
    }
}

/// What a shard answers; each request has one kind of answer.
#[derive(Debug, Clone)]
pub enum Answer {
    /// To `Get`.
    Value(Option<Vec<u8>>),
    /// To `Write`, `Update` and `Transact`: acknowledged at the durability asked for. The sequence is that of the last
    /// operation, 0 where nothing was written.
    Written(Sequence),
    /// To `Scan`.
    Page(Page),
    /// To `Count`.
    Count(u64),
    /// To `Look`, `Flush` and `Compact`.
    Done,
    /// To `Stats`.
    Stats(Box<ShardStats>),
}

/// A request's outcome.
pub type Outcome = Result<Answer>;
