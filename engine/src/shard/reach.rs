//! What a scan reads: the memtables, and the tables whose keys reach into its range, as sources that stand at the range's
//! first entry in the direction of the scan.
//!
//! A table that lies wholly outside the range is left out, so that no block of it is read.

use std::borrow::Cow;
use std::ops::Bound;
use std::rc::Rc;

use crate::compaction::run::{Reading, Run};
use crate::io::Io;
use crate::shard::Shard;
use crate::shard::memory::SharedMemtable;
use crate::shard::request::ScanRange;
use crate::shard::sources::{MemtableSource, ShardSource};
use crate::sstable::Table;
use crate::types::Direction;

/// The keys of a range: from the first on, and below the second.
struct Reach<'a> {
    direction: Direction,
    /// No key of the range is below this.
    from: &'a [u8],
    /// All keys of the range are below this; `None` where nothing bounds them.
    below: Option<Cow<'a, [u8]>>,
}

impl<'a> Reach<'a> {
    fn of(range: &'a ScanRange) -> Self {
        let from: &[u8] = match &range.start {
            Bound::Included(key) | Bound::Excluded(key) => key,
            Bound::Unbounded => &[],
        };
        let below = match &range.end {
            // The first key above this one.
            Bound::Included(key) => Some([key, &[0][..]].concat().into()),
            Bound::Excluded(key) => Some(key.into()),
            Bound::Unbounded => None,
        };
        Self {
            direction: range.direction(),
            from,
            below,
        }
    }

    fn is_above(&self, key: &[u8]) -> bool {
        self.below.as_deref().is_some_and(|below| key >= below)
    }

    /// The tables of these, disjoint and ascending, that reach into the range.
    fn touched<'t, I: Io>(&self, tables: &'t [Rc<Table<I>>]) -> &'t [Rc<Table<I>>] {
        let first = tables.partition_point(|table| table.properties().largest.as_slice() < self.from);
        let end = tables.partition_point(|table| !self.is_above(&table.properties().smallest));
        // A range may end before it starts.
        tables.get(first..end).unwrap_or_default()
    }

    fn in_memory<I: Io>(&self, memtable: SharedMemtable) -> ShardSource<I> {
        ShardSource::Memory(match self.direction {
            Direction::Forwards => MemtableSource::from(memtable, self.from),
            Direction::Backwards => MemtableSource::back(memtable, self.below.as_deref()),
        })
    }
}

impl<I: Io> Shard<I> {
    /// The sources of a scan of `range`.
    pub(super) fn scan_sources(&self, range: &ScanRange) -> Vec<ShardSource<I>> {
        let reach = Reach::of(range);
        let memtables = self.memory.newest_first().into_iter();
        let mut sources: Vec<_> = memtables.map(|memtable| reach.in_memory(memtable)).collect();
        let live = self.live();
        let (level0, levels) = live.tables.split_first().expect("a version has seven levels");
        let runs = level0.chunks(1).chain(levels.iter().map(Vec::as_slice));
        sources.extend(runs.filter_map(|tables| self.run_over(reach.touched(tables), &reach)));
        sources
    }

    fn run_over(&self, tables: &[Rc<Table<I>>], reach: &Reach<'_>) -> Option<ShardSource<I>> {
        if tables.is_empty() {
            return None;
        }
        let (tables, cache) = (tables.to_vec(), Rc::clone(&self.cache));
        let run = match (reach.direction, &reach.below) {
            (Direction::Forwards, _) => Run::from(tables, reach.from, Reading::Cached(cache)),
            (Direction::Backwards, Some(below)) => Run::from(tables, below, Reading::Backwards(cache)),
            (Direction::Backwards, None) => Run::whole(tables, Reading::Backwards(cache)),
        };
        Some(ShardSource::Tables(run))
    }
}
