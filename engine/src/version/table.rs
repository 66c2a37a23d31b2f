//! What a shard knows of one SSTable without opening it.

use crate::types::{MAX_KEY_BYTES, MAX_SEQUENCE, Sequence};

/// One SSTable as the manifest records it. It does not say at which level the table is: that is the version's part, so
/// that a trivial move shares the same metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableMeta {
    /// The file's number, unique in its shard, from 1.
    pub number: u64,
    /// Length of the file in bytes.
    pub bytes: u64,
    /// Entries in it, tombstones included; at least 1.
    pub entries: u64,
    /// How many of the entries are tombstones.
    pub tombstones: u64,
    /// The smallest user key, inclusive.
    pub smallest: Vec<u8>,
    /// The largest user key, inclusive.
    pub largest: Vec<u8>,
    /// The smallest sequence in it.
    pub smallest_sequence: Sequence,
    /// The largest sequence in it.
    pub largest_sequence: Sequence,
    /// The keyspace its keys belong to; 0 until keyspaces exist.
    pub keyspace: u32,
}

impl TableMeta {
    /// Whether any key of `smallest..=largest` may be in this table.
    pub fn overlaps(&self, smallest: &[u8], largest: &[u8]) -> bool {
        self.smallest.as_slice() <= largest && smallest <= self.largest.as_slice()
    }

    /// Whether `key` lies within this table's range.
    pub fn covers(&self, key: &[u8]) -> bool {
        self.overlaps(key, key)
    }

    /// The first rule that these numbers break, in words; `None` for a table that can exist.
    pub fn flaw(&self) -> Option<&'static str> {
        if self.number == 0 {
            Some("its number is 0")
        } else if self.entries == 0 {
            Some("it has no entries")
        } else if self.tombstones > self.entries {
            Some("it has more tombstones than entries")
        } else if self.smallest > self.largest {
            Some("its smallest key is above its largest")
        } else if self.smallest.len() > MAX_KEY_BYTES || self.largest.len() > MAX_KEY_BYTES {
            Some("a key is longer than the limit")
        } else if self.smallest_sequence > self.largest_sequence {
            Some("its smallest sequence is above its largest")
        } else if self.largest_sequence > MAX_SEQUENCE {
            Some("a sequence is above the limit")
        } else if self.keyspace != 0 {
            Some("it belongs to a keyspace, which this version does not know")
        } else {
            None
        }
    }
}
