//! What is asked: streams of operations, their keys, values and starts, all from a seed and nothing else.
//!
//! Pure. A group of `n` callers has `n` streams; stream `s` of a seed is the same operations on every engine and every
//! machine, which a test holds to the byte. An engine whose callers sit on cores runs every stream on every core and lets
//! each core take the operations whose keys it owns, so the union is the same again.

pub mod arrivals;
pub mod choose;
pub mod fingerprint;
pub mod keys;
pub mod math;
pub mod rng;
pub mod sizes;
pub mod stream;
pub mod values;
pub mod zipf;

use serde::{Deserialize, Serialize};

/// Kinds of operations, as tables and results name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OpKind {
    /// A get of a key that exists.
    Read,
    /// A get of a key that was never written.
    ReadMissing,
    /// A put of a new key.
    Insert,
    /// A put of a key that exists.
    Update,
    /// A get and a put of one key.
    ReadModifyWrite,
    /// A delete.
    Delete,
    /// A scan.
    Scan,
}

impl OpKind {
    /// All of them, in the order of tables.
    pub const ALL: [Self; 7] = [
        Self::Read,
        Self::ReadMissing,
        Self::Insert,
        Self::Update,
        Self::ReadModifyWrite,
        Self::Delete,
        Self::Scan,
    ];

    /// Its place in [`OpKind::ALL`].
    pub fn place(self) -> usize {
        self as usize
    }

    /// Its name, as results spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::ReadMissing => "read-missing",
            Self::Insert => "insert",
            Self::Update => "update",
            Self::ReadModifyWrite => "read-modify-write",
            Self::Delete => "delete",
            Self::Scan => "scan",
        }
    }
}

/// One operation of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Op {
    /// What is done.
    pub kind: OpKind,
    /// Index of the key it is done to, or that a scan starts at.
    pub index: u64,
    /// Tells this write's value from others of the same key; 0 for a load's, unused by reads.
    pub version: u64,
    /// Entries of a scan; 0 for the others.
    pub entries: u32,
    /// What a read of this key must find.
    pub expect: Expect,
}

/// What a read must find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// A value of this key.
    Present,
    /// Nothing.
    Absent,
    /// A value of this key or nothing: something deletes in this run.
    Either,
}
