//! The process-wide commit counter, and the registry of snapshots that hold compaction back.
//!
//! A group takes its numbers with one `fetch_add` and enters its memtable with no await between, so on its own core it
//! appears at once, and a load of the counter is a snapshot over all shards: a number that was taken before the load is
//! in its memtable before its core can answer any request that carries the snapshot.
//!
//! A snapshot registers before it takes its number: it first claims a slot with the counter's present value, which can
//! only be lower, and then loads the counter. A compaction loads the counter and then reads the slots. Whichever way
//! the two interleave (all sequentially consistent), the compaction either sees the slot, or the snapshot's number is
//! at least the counter that the compaction loaded, whose newest versions it keeps anyway.
//!
//! A group asks the same more cheaply, whether there is any snapshot at all, once it has its numbers: one that is counted
//! later has a number at least as high as all of the group's.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::error::{Error, ErrorKind, Result};
use crate::types::{MAX_SEQUENCE, Sequence};

/// How many snapshots may be live at once in one process: each scan over shards holds one for a page. A compaction
/// reads them all once per job, so the bound is generous and still costs nothing.
const SNAPSHOT_SLOTS: usize = 1024;

/// The commit counter and the snapshots taken from it.
#[derive(Debug)]
pub struct Commits {
    last: AtomicU64,
    /// How many snapshots are live, or about to be.
    live: AtomicUsize,
    /// 0 is a free slot; no snapshot needs 0, because nothing is committed at it.
    slots: Box<[AtomicU64]>,
}

impl Default for Commits {
    fn default() -> Self {
        Self {
            last: AtomicU64::new(1),
            live: AtomicUsize::new(0),
            slots: (0..SNAPSHOT_SLOTS).map(|_| AtomicU64::new(0)).collect(),
        }
    }
}

impl Commits {
    /// Takes `count` numbers; returns the first.
    ///
    /// # Panics
    /// When 2^56 numbers have been taken, which at 100 million a second is 22 years.
    pub fn take(&self, count: u64) -> Sequence {
        let first = self.last.fetch_add(count, Ordering::SeqCst) + 1;
        assert!(first + count <= MAX_SEQUENCE, "commit sequences are exhausted");
        first
    }

    /// The last number taken: what a snapshot taken now sees.
    pub fn last(&self) -> Sequence {
        self.last.load(Ordering::SeqCst)
    }

    /// Makes the counter at least `sequence`, which a recovering shard found on disk.
    pub fn at_least(&self, sequence: Sequence) {
        self.last.fetch_max(sequence, Ordering::SeqCst);
    }

    /// Whether a snapshot is live that may see less than all numbers taken so far by the calling thread.
    pub fn has_live_snapshots(&self) -> bool {
        self.live.load(Ordering::SeqCst) > 0
    }

    /// The snapshots that must still find what they see, ascending, without duplicates. What is visible at the counter
    /// itself is always kept and is not listed.
    pub fn live_snapshots(&self) -> Vec<Sequence> {
        // The counter is loaded before the slots are read: see the module's head.
        let _ordered_first = self.last();
        let mut live: Vec<_> = self
            .slots
            .iter()
            .map(|slot| slot.load(Ordering::SeqCst))
            .filter(|&s| s != 0)
            .collect();
        live.sort_unstable();
        live.dedup();
        live
    }
}

/// A registered snapshot: while it lives, no compaction drops what it sees.
#[derive(Debug)]
pub struct Snapshot {
    commits: Arc<Commits>,
    slot: usize,
    sequence: Sequence,
}

impl Snapshot {
    /// Takes a snapshot over all shards.
    ///
    /// # Errors
    /// [`ErrorKind::Busy`] when 1,024 snapshots are live.
    pub fn take(commits: &Arc<Commits>) -> Result<Self> {
        commits.live.fetch_add(1, Ordering::SeqCst);
        let claim = commits.last();
        for (slot, cell) in commits.slots.iter().enumerate() {
            if cell
                .compare_exchange(0, claim, Ordering::SeqCst, Ordering::SeqCst)
                .is_ok()
            {
                let sequence = commits.last();
                cell.store(sequence, Ordering::SeqCst);
                return Ok(Self {
                    commits: Arc::clone(commits),
                    slot,
                    sequence,
                });
            }
        }
        commits.live.fetch_sub(1, Ordering::SeqCst);
        Err(Error::new(
            ErrorKind::Busy,
            "taking a snapshot",
            format!("{SNAPSHOT_SLOTS} snapshots are live, the most there may be"),
        ))
    }

    /// What it sees: every entry committed at this sequence or before.
    pub fn sequence(&self) -> Sequence {
        self.sequence
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        self.commits.slots[self.slot].store(0, Ordering::SeqCst);
        self.commits.live.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_taken_once_and_a_snapshot_sees_those_before_it() {
        let commits = Arc::new(Commits::default());
        let first = commits.take(3);
        assert_eq!(commits.take(1), first + 3);
        let snapshot = Snapshot::take(&commits).unwrap();
        assert_eq!(snapshot.sequence(), first + 3);
        assert_eq!(commits.live_snapshots(), vec![first + 3]);
        assert!(commits.has_live_snapshots());
        drop(snapshot);
        assert_eq!(commits.live_snapshots(), Vec::<Sequence>::new());
        assert!(!commits.has_live_snapshots());
    }

    #[test]
    fn the_bound_on_snapshots_is_an_error_and_dropping_one_makes_room() {
        let commits = Arc::new(Commits::default());
        let mut held: Vec<_> = (0..SNAPSHOT_SLOTS)
            .map(|_| Snapshot::take(&commits).unwrap())
            .collect();
        assert_eq!(Snapshot::take(&commits).unwrap_err().kind(), ErrorKind::Busy);
        held.pop();
        assert!(Snapshot::take(&commits).is_ok());
        drop(held);
        assert!(!commits.has_live_snapshots(), "one that was refused is not live");
    }

    #[test]
    fn a_snapshot_is_seen_or_is_newer_than_the_counter_a_compaction_loaded() {
        let commits = Arc::new(Commits::default());
        let taker = Arc::clone(&commits);
        let thread = std::thread::Builder::new().spawn(move || {
            for _ in 0..20_000 {
                let before = taker.last();
                let snapshot = Snapshot::take(&taker).unwrap();
                assert!(snapshot.sequence() >= before);
                taker.take(1);
            }
        });
        for _ in 0..20_000 {
            let counter = commits.last();
            // Any slot seen must be a number that existed; a slot not seen belongs to a later snapshot.
            for sequence in commits.live_snapshots() {
                assert!(sequence >= 1 && sequence <= commits.last());
            }
            assert!(commits.last() >= counter);
        }
        thread.unwrap().join().unwrap();
    }
}
