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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merge::visible::{Sight, Visible};
    use crate::types::MAX_SEQUENCE;

    fn entry(key: &[u8], sequence: Sequence, kind: Kind) -> Entry<'_> {
        Entry {
            key,
            sequence,
            kind,
            value: b"",
        }
    }

    fn decisions(snapshots: &[Sequence], below: &[(&[u8], &[u8])], versions: &[(Sequence, Kind)]) -> String {
        let below = below.iter().map(|(smallest, largest)| KeyRange {
            smallest: smallest.to_vec(),
            largest: largest.to_vec(),
        });
        let mut retain = Retain::new(snapshots.to_vec(), below.collect());
        let decide = |&(sequence, kind): &(Sequence, Kind)| match retain.decide(&entry(b"k", sequence, kind))
        {
            Decision::Keep => 'k',
            Decision::Drop(DropReason::Shadowed) => 's',
            Decision::Drop(DropReason::TombstoneAtBottom) => 't',
        };
        versions.iter().map(decide).collect()
    }

    use Kind::{Put, Tombstone};

    #[test]
    fn without_snapshots_only_the_newest_version_stays() {
        assert_eq!(decisions(&[], &[], &[(9, Put), (7, Put), (3, Tombstone)]), "kss");
    }

    #[test]
    fn each_stripe_keeps_its_newest() {
        assert_eq!(
            decisions(
                &[5, 7],
                &[],
                &[(9, Put), (8, Put), (7, Put), (6, Put), (5, Put), (4, Put)]
            ),
            "ksksks"
        );
        assert_eq!(
            decisions(&[5, 5, 5], &[], &[(6, Put), (5, Put)]),
            "kk",
            "a snapshot sees its own sequence"
        );
    }

    #[test]
    fn a_tombstone_goes_at_the_bottom_with_all_it_hides() {
        assert_eq!(decisions(&[], &[], &[(9, Tombstone), (7, Put)]), "ts");
        assert_eq!(decisions(&[9, 20], &[], &[(9, Tombstone), (7, Put)]), "ts");
    }

    #[test]
    fn a_tombstone_that_a_snapshot_does_not_see_stays_even_at_the_bottom() {
        assert_eq!(decisions(&[8], &[], &[(9, Tombstone), (7, Put)]), "kk");
    }

    #[test]
    fn a_tombstone_stays_exactly_where_a_deeper_table_may_hold_its_key() {
        let dead = [(9, Tombstone)];
        assert_eq!(decisions(&[], &[(b"a", b"k")], &dead), "k");
        assert_eq!(decisions(&[], &[(b"k", b"z")], &dead), "k");
        assert_eq!(decisions(&[], &[(b"m", b"z"), (b"a", b"c")], &dead), "t");
        assert_eq!(
            decisions(&[], &[(b"a", b"c"), (b"b", b"l"), (b"a", b"b")], &dead),
            "k"
        );
    }

    #[test]
    fn r16_the_tally_accounts_for_every_entry() {
        let mut retain = Retain::new(vec![5], Vec::new());
        for (sequence, kind) in [(9, Tombstone), (8, Put), (5, Put), (4, Put)] {
            retain.decide(&entry(b"a", sequence, kind));
        }
        retain.decide(&entry(b"b", 3, Tombstone));
        let tally = retain.tally();
        assert_eq!(
            tally,
            Tally {
                kept: 2,
                kept_tombstones: 1,
                shadowed: 2,
                tombstones_at_bottom: 1
            }
        );
        assert_eq!(tally.total(), 5);
    }

    type Stored = Vec<(Vec<u8>, Sequence, Kind)>;

    /// What a reader at `sequence` sees of a sorted stream.
    fn seen(stream: &Stored, sequence: Sequence) -> Vec<(Vec<u8>, Sequence)> {
        let mut visible = Visible::new(sequence, 0);
        let shown = stream
            .iter()
            .filter(|(key, at, kind)| visible.judge(&entry(key, *at, *kind)) == Sight::Show(b""));
        shown.map(|(key, at, _)| (key.clone(), *at)).collect()
    }

    proptest::proptest! {
        /// Whatever is dropped, every snapshot and the newest reader see the same as before, over what lies deeper too.
        #[test]
        fn no_reader_sees_a_difference(
            versions in proptest::collection::btree_map(0_u64..60, (0_u8..6, proptest::bool::ANY), 0..40),
            deeper in proptest::collection::btree_set(0_u8..6, 0..4),
            snapshots in proptest::collection::vec(0_u64..60, 0..5),
        ) {
            let key = |k: u8| vec![b'k', k];
            let kind = |put| if put { Put } else { Tombstone };
            let mut input: Stored =
                versions.iter().map(|(&at, &(k, put))| (key(k), at + 10, kind(put))).collect();
            input.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
            // Deeper tables hold older versions; their ranges are all the compaction knows of them.
            let below: Stored = deeper.iter().map(|&k| (key(k), 1 + u64::from(k), Put)).collect();
            let ranges = below.iter().map(|(k, ..)| KeyRange { smallest: k.clone(), largest: k.clone() }).collect();
            let snapshots: Vec<_> = snapshots.iter().map(|at| at + 10).collect();
            let mut retain = Retain::new(snapshots.clone(), ranges);
            let output: Stored = input
                .iter()
                .filter(|(key, at, kind)| retain.decide(&entry(key, *at, *kind)) == Decision::Keep)
                .cloned()
                .collect();
            let with_below = |stream: &Stored| {
                let mut all = stream.clone();
                all.extend(below.iter().cloned());
                all.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
                all
            };
            let (before, after) = (with_below(&input), with_below(&output));
            for reader in snapshots.iter().copied().chain([MAX_SEQUENCE]) {
                proptest::prop_assert_eq!(seen(&before, reader), seen(&after, reader), "reader at {}", reader);
            }
            proptest::prop_assert_eq!(retain.tally().total(), input.len() as u64);
            proptest::prop_assert_eq!(retain.tally().kept, output.len() as u64);
            // Nothing that no reader needs is kept: at most one version per key and stripe.
            let stripe = |at: u64| snapshots.iter().filter(|&&snapshot| snapshot < at).collect::<std::collections::BTreeSet<_>>().len();
            let stripes: std::collections::BTreeSet<_> =
                output.iter().map(|(key, at, _)| (key.clone(), stripe(*at))).collect();
            proptest::prop_assert_eq!(stripes.len(), output.len());
        }
    }
}
