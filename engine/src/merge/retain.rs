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
//!
//! A value whose time has passed says what a tombstone says, to snapshots too, because expiry goes by the clock. It is
//! treated as one: dropped where a tombstone would be, elsewhere turned into one. Whoever relies on the outcome records the
//! time that it was decided by, for a clock that goes back must not bring back the rest of what had expired.

use crate::types::{Entry, Kind, Sequence, is_expired};

/// Why an entry is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// A newer version of its key hides it from every reader.
    Shadowed,
    /// It is a tombstone and there is nothing left for it to hide.
    TombstoneAtBottom,
    /// Its time has passed and there is nothing left for it to hide.
    Expired,
}

/// What becomes of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Decision {
    /// It goes to the output.
    Keep,
    /// A tombstone of its sequence goes to the output in its place.
    Bury,
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
    /// Entries kept, as they were or as tombstones.
    pub kept: u64,
    /// Tombstones among them.
    pub kept_tombstones: u64,
    /// Values among them that became tombstones because they had expired.
    pub buried: u64,
    /// Entries dropped as shadowed.
    pub shadowed: u64,
    /// Tombstones dropped at the bottom.
    pub tombstones_at_bottom: u64,
    /// Expired values dropped like them.
    pub expired: u64,
    /// The newest sequence among those two: of such a key nothing may be left that tells when it was written. 0 for none.
    pub newest_forgotten: Sequence,
}

impl Tally {
    /// All entries decided on.
    pub fn total(&self) -> u64 {
        self.kept + self.shadowed + self.tombstones_at_bottom + self.expired
    }
}

/// Decides over a stream in internal order, entry by entry.
#[derive(Debug)]
pub struct Retain {
    /// What decides what has expired, in ms since the Unix epoch.
    now_ms: u64,
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
    /// of its whole range has none. Neither needs to be sorted. `now_ms` is the time (since the Unix epoch) that decides
    /// what has expired.
    ///
    /// Snapshots taken later need not be told: they see the newest version of every key in tables, which is kept.
    pub fn new(mut snapshots: Vec<Sequence>, older_below: Vec<KeyRange>, now_ms: u64) -> Self {
        snapshots.sort_unstable();
        snapshots.dedup();
        Self {
            now_ms,
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
        let dead = self.death_of(entry);
        if let Some(reason) = dead
            && stripe == 0
            && !self.may_be_below(entry.key)
        {
            match reason {
                DropReason::Expired => self.tally.expired += 1,
                _ => self.tally.tombstones_at_bottom += 1,
            }
            self.tally.newest_forgotten = self.tally.newest_forgotten.max(entry.sequence);
            return Decision::Drop(reason);
        }
        self.tally.kept += 1;
        self.tally.kept_tombstones += u64::from(dead.is_some());
        if dead == Some(DropReason::Expired) {
            self.tally.buried += 1;
            return Decision::Bury;
        }
        Decision::Keep
    }

    /// Why an entry says that its key is not there; `None` where it says that it is.
    fn death_of(&self, entry: &Entry<'_>) -> Option<DropReason> {
        match entry.kind {
            Kind::Put => None,
            Kind::Tombstone => Some(DropReason::TombstoneAtBottom),
            Kind::PutUntil => {
                let expires_ms = entry.content().and_then(|content| content.expires_ms);
                expires_ms
                    .is_some_and(|at| is_expired(at, self.now_ms))
                    .then_some(DropReason::Expired)
            }
        }
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

    const NOW_MS: u64 = 1000;
    /// Stored values that have ended, and that have not.
    const OVER: &[u8] = &999_u64.to_le_bytes();
    const LASTING: &[u8] = &1000_u64.to_le_bytes();

    /// An entry; a put with an expiry has ended where its sequence is odd.
    fn entry(key: &[u8], sequence: Sequence, kind: Kind) -> Entry<'_> {
        let value = match kind {
            PutUntil if sequence % 2 == 1 => OVER,
            PutUntil => LASTING,
            Put | Tombstone => b"",
        };
        Entry {
            key,
            sequence,
            kind,
            value,
        }
    }

    fn decisions(snapshots: &[Sequence], below: &[(&[u8], &[u8])], versions: &[(Sequence, Kind)]) -> String {
        let below = below.iter().map(|(smallest, largest)| KeyRange {
            smallest: smallest.to_vec(),
            largest: largest.to_vec(),
        });
        let mut retain = Retain::new(snapshots.to_vec(), below.collect(), NOW_MS);
        let decide = |&(sequence, kind): &(Sequence, Kind)| match retain.decide(&entry(b"k", sequence, kind))
        {
            Decision::Keep => 'k',
            Decision::Bury => 'b',
            Decision::Drop(DropReason::Expired) => 'x',
            Decision::Drop(DropReason::Shadowed) => 's',
            Decision::Drop(DropReason::TombstoneAtBottom) => 't',
        };
        versions.iter().map(decide).collect()
    }

    use Kind::{Put, PutUntil, Tombstone};

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
    fn an_expired_value_goes_like_a_tombstone_and_hides_like_one() {
        let over = [(9, PutUntil), (7, Put)];
        assert_eq!(decisions(&[], &[], &over), "xs");
        assert_eq!(decisions(&[], &[(b"a", b"z")], &over), "bs");
        assert_eq!(decisions(&[8], &[], &over), "bk", "a snapshot does not see it");
        assert_eq!(
            decisions(&[], &[], &[(8, PutUntil), (7, Put)]),
            "ks",
            "its time has not passed"
        );
        assert_eq!(decisions(&[8], &[], &[(9, Put), (7, PutUntil)]), "kx");
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
        let mut retain = Retain::new(vec![5], Vec::new(), NOW_MS);
        for (sequence, kind) in [(9, PutUntil), (8, Put), (5, Put), (4, Put)] {
            retain.decide(&entry(b"a", sequence, kind));
        }
        retain.decide(&entry(b"b", 3, Tombstone));
        retain.decide(&entry(b"c", 3, PutUntil));
        let tally = retain.tally();
        assert_eq!(
            tally,
            Tally {
                kept: 2,
                kept_tombstones: 1,
                buried: 1,
                shadowed: 2,
                tombstones_at_bottom: 1,
                expired: 1,
                newest_forgotten: 3
            }
        );
        assert_eq!(tally.total(), 6);
    }

    type Stored = Vec<(Vec<u8>, Sequence, Kind)>;

    /// What a reader at `sequence` sees of a sorted stream.
    fn seen(stream: &Stored, sequence: Sequence) -> Vec<(Vec<u8>, Sequence)> {
        let mut visible = Visible::new(sequence, NOW_MS);
        let shown = stream
            .iter()
            .filter(|(key, at, kind)| matches!(visible.judge(&entry(key, *at, *kind)), Sight::Show(_)));
        shown.map(|(key, at, _)| (key.clone(), *at)).collect()
    }

    proptest::proptest! {
        /// Whatever is dropped, every snapshot and the newest reader see the same as before, over what lies deeper too.
        #[test]
        fn no_reader_sees_a_difference(
            versions in proptest::collection::btree_map(0_u64..60, (0_u8..6, 0_u8..4), 0..40),
            deeper in proptest::collection::btree_set(0_u8..6, 0..4),
            snapshots in proptest::collection::vec(0_u64..60, 0..5),
        ) {
            let key = |k: u8| vec![b'k', k];
            let kind = |n| [Tombstone, Put, PutUntil, PutUntil][usize::from(n)];
            let mut input: Stored =
                versions.iter().map(|(&at, &(k, n))| (key(k), at + 10, kind(n))).collect();
            input.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
            // Deeper tables hold older versions; their ranges are all the compaction knows of them.
            let below: Stored = deeper.iter().map(|&k| (key(k), 1 + u64::from(k), Put)).collect();
            let ranges = below.iter().map(|(k, ..)| KeyRange { smallest: k.clone(), largest: k.clone() }).collect();
            let snapshots: Vec<_> = snapshots.iter().map(|at| at + 10).collect();
            let mut retain = Retain::new(snapshots.clone(), ranges, NOW_MS);
            let output: Stored = input
                .iter()
                .filter_map(|(key, at, kind)| match retain.decide(&entry(key, *at, *kind)) {
                    Decision::Keep => Some((key.clone(), *at, *kind)),
                    Decision::Bury => Some((key.clone(), *at, Tombstone)),
                    Decision::Drop(_) => None,
                })
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
