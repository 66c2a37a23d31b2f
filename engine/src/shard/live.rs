//! The live version of a shard: which tables make it up, opened, and the search of one key through them.
//!
//! Readers hold the `Rc` of the version they started on; files of tables that left it are deleted once no reader
//! holds them. The search is a pure walk that asks for blocks: whoever drives it reads them, so that a lookup that
//! finds everything in memory never awaits.

use std::rc::Rc;

use crate::io::Io;
use crate::shard::stats::Counters;
use crate::sstable::{Block, BlockCache, BlockHandle, Located, Partition, PartitionHandle, Table, key_hash};
use crate::types::Sequence;
use crate::version::{LEVELS, TableMeta, Version};

/// A version with its tables open, in the same places as their metadata.
#[derive(Debug)]
pub struct LiveVersion<I: Io> {
    /// The metadata.
    pub version: Version,
    /// The open tables: `tables[level][i]` is `version.level(level)[i]`.
    pub tables: [Vec<Rc<Table<I>>>; LEVELS],
}

impl<I: Io> LiveVersion<I> {
    /// Pairs each table of `version` with its reader.
    ///
    /// # Panics
    /// If `find` does not know a table: whoever builds a version has opened its tables.
    pub fn new(version: Version, find: impl Fn(u64) -> Option<Rc<Table<I>>>) -> Self {
        let open =
            |number| find(number).expect("every table of a version is open before the version is installed");
        let tables = std::array::from_fn(|level| {
            version
                .level(level)
                .iter()
                .map(|meta| open(meta.number))
                .collect()
        });
        Self { version, tables }
    }

    /// Every open table.
    pub fn all_tables(&self) -> impl Iterator<Item = &Rc<Table<I>>> {
        self.tables.iter().flatten()
    }
}

/// One key's walk through the tables: L0 newest first, then one table a level.
#[derive(Debug)]
pub struct Search<I: Io> {
    live: Rc<LiveVersion<I>>,
    hash: u64,
    at: Sequence,
    level: usize,
    index: usize,
    /// The partition that the candidate asked for, once it was read.
    partition: Option<Rc<Partition>>,
    /// Tables that their filter ruled out.
    filtered: u64,
    /// Blocks that were named, and looked into in vain where the walk went on.
    named: u64,
}

/// What the walk needs or found next.
pub enum Next<I: Io> {
    /// A block in memory that may hold the key.
    Look(Rc<Block>),
    /// A block that may hold the key, to be read from the device.
    Read(Rc<Table<I>>, BlockHandle),
    /// A partition of a table's index and filter, to be read and [supplied](Search::supply).
    ReadPartition(Rc<Table<I>>, PartitionHandle),
    /// No table holds the key.
    Nowhere,
}

impl<I: Io> Search<I> {
    /// Starts a walk for `key` as of `at`.
    pub fn new(live: Rc<LiveVersion<I>>, key: &[u8], at: Sequence) -> Self {
        Self {
            live,
            hash: key_hash(key),
            at,
            level: 0,
            index: 0,
            partition: None,
            filtered: 0,
            named: 0,
        }
    }

    /// The next step. After `Look` or `Read` the walk stands behind that table; after `ReadPartition` still before it.
    pub fn step(&mut self, key: &[u8], cache: &BlockCache) -> Next<I> {
        while let Some(table) = self.candidate(key) {
            let located = match self.partition.take() {
                Some(partition) => table.locate_in(&partition, key, self.hash, self.at),
                None => table.locate(key, self.hash, self.at, cache),
            };
            match located {
                Located::Absent => self.index += 1,
                Located::Filtered => {
                    self.filtered += 1;
                    self.index += 1;
                }
                Located::NeedPartition(handle) => return Next::ReadPartition(table, handle),
                Located::Block(handle) => {
                    self.index += 1;
                    self.named += 1;
                    return match table.cached_block(handle, cache) {
                        Some(block) => Next::Look(block),
                        None => Next::Read(table, handle),
                    };
                }
            }
        }
        Next::Nowhere
    }

    /// Gives the partition that the last step asked for.
    pub fn supply(&mut self, partition: Rc<Partition>) {
        self.partition = Some(partition);
    }

    /// Counts what the filters did for a walk that has ended, `found` in the last block named or nowhere.
    pub fn count_into(&self, counters: &Counters, found: bool) {
        counters.filter_useful.add(self.filtered);
        counters.filter_false_positives.add(self.named - u64::from(found));
    }

    fn candidate(&mut self, key: &[u8]) -> Option<Rc<Table<I>>> {
        while self.level < LEVELS {
            if self.level == 0 {
                if let Some(table) = self.live.tables[0].get(self.index) {
                    return Some(Rc::clone(table));
                }
            } else if self.index == 0
                && let Some(at) = position_of(self.live.version.level(self.level), key)
            {
                return Some(Rc::clone(&self.live.tables[self.level][at]));
            }
            self.level += 1;
            self.index = 0;
        }
        None
    }
}

/// Which table of a sorted level may hold `key`.
fn position_of(level: &[Rc<TableMeta>], key: &[u8]) -> Option<usize> {
    let at = level.partition_point(|table| table.largest.as_slice() < key);
    level
        .get(at)
        .is_some_and(|table| table.smallest.as_slice() <= key)
        .then_some(at)
}
