//! What a compaction keeps of a merged stream.
//!
//! Live snapshots cut the versions of a key into stripes: the versions that the same snapshots see first. In each
//! stripe only the newest can ever be read, so the rest is dropped as shadowed (RocksDB's `CompactionIterator` with its
//! earliest visible snapshot is the model). A tombstone goes too, if nothing is left for it to hide:
//! - no table deeper than the output may hold its key, and
//! - every live snapshot sees it, so that all older versions of its key are in its own stripe and go with it.
//!
//! A tombstone that some snapshot does not see is kept even at the bottom: below it an older version may be kept for
//! that snapshot, and without the tombstone newer readers would see it.

use crate::types::{Entry, Kind, Sequence};

/// Why an entry is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// A newer version of its key hides it from every reader.
    Shadowed,
    /// It is a tombstone and there is nothing left for it to hide.
    TombstoneAtBottom,
}

/// What becomes of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Decision {
    /// It goes to the output.
    Keep,
    /// It does not.
    Drop(DropReason),
}

/// A range of user keys, both ends inclusive.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyRange {
    /// The smallest key.
    pub smallest: Vec<u8>,
    /// The largest key.
    pub largest: Vec<u8>,
}

/// What went where, for the check that nothing was lost: entries in = kept + dropped, by reason (rule R16).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Entries kept.
    pub kept: u64,
    /// Tombstones among them.
    pub kept_tombstones: u64,
    /// Entries dropped as shadowed.
    pub shadowed: u64,
    /// Tombstones dropped at the bottom.
    pub tombstones_at_bottom: u64,
}

impl Tally {
    /// All entries decided on.
    pub fn total(&self) -> u64 {
        self.kept + self.shadowed + self.tombstones_at_bottom
    }
}

/// Decides over a stream in internal order, entry by entry.
#[derive(Debug)]
pub struct Retain {
    /// Ascending, without repeats.
    snapshots: Vec<Sequence>,
    /// Ascending and disjoint; those wholly before the current key are passed.
    older_below: Vec<KeyRange>,
    passed: usize,
    key: Vec<u8>,
    /// The stripe of the last entry of `key`; `None` before the first entry of all.
    stripe: Option<usize>,
    tally: Tally,
}

impl Retain {
    /// For an output under these live snapshots, with tables of these key ranges deeper than it. An output at the bottom
    /// of its whole range has none. Neither needs to be sorted.
    ///
    /// Snapshots taken later need not be told: they see the newest version of every key in tables, which is kept.
    pub fn new(mut snapshots: Vec<Sequence>, older_below: Vec<KeyRange>) -> Self {
        snapshots.sort_unstable();
        snapshots.dedup();
        Self {
            snapshots,
            older_below: union(older_below),
            passed: 0,
            key: Vec::new(),
            stripe: None,
            tally: Tally::default(),
        }
    }

    /// What becomes of `entry`, the next one of the stream.
    pub fn decide(&mut self, entry: &Entry<'_>) -> Decision {
        // The stripe of an entry: how many snapshots are too old to see it.
        let stripe = self
            .snapshots
            .partition_point(|&snapshot| snapshot < entry.sequence);
        let same_key = self.stripe.is_some() && self.key == entry.key;
        if same_key && self.stripe == Some(stripe) {
            self.tally.shadowed += 1;
            return Decision::Drop(DropReason::Shadowed);
        }
        if !same_key {
            debug_assert!(
                self.stripe.is_none() || self.key.as_slice() < entry.key,
                "keys ascend"
            );
            self.key.clear();
            self.key.extend_from_slice(entry.key);
        }
        debug_assert!(
            !same_key || Some(stripe) < self.stripe,
            "of one key the newest comes first"
        );
        self.stripe = Some(stripe);
        if entry.kind == Kind::Tombstone && stripe == 0 && !self.may_be_below(entry.key) {
            self.tally.tombstones_at_bottom += 1;
            return Decision::Drop(DropReason::TombstoneAtBottom);
        }
        self.tally.kept += 1;
        self.tally.kept_tombstones += u64::from(entry.kind == Kind::Tombstone);
        Decision::Keep
    }

    /// What was decided so far.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// Whether a deeper table may hold `key`. Keys ascend, so ranges are passed for good.
    fn may_be_below(&mut self, key: &[u8]) -> bool {
        while self
            .older_below
            .get(self.passed)
            .is_some_and(|range| range.largest.as_slice() < key)
        {
            self.passed += 1;
        }
        self.older_below
            .get(self.passed)
            .is_some_and(|range| range.smallest.as_slice() <= key)
    }
}

/// The same keys as disjoint ranges, ascending.
fn union(mut ranges: Vec<KeyRange>) -> Vec<KeyRange> {
    ranges.sort_unstable();
    let mut out: Vec<KeyRange> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match out.last_mut() {
            Some(last) if range.smallest <= last.largest => {
                if range.largest > last.largest {
                    last.largest = range.largest;
                }
            }
            _ => out.push(range),
        }
    }
    out
}
