//! What a shard's merges read: memtables and runs of tables, as one type.

use crate::compaction::run::{LoadSource, Run};
use crate::error::Result;
use crate::io::Io;
use crate::memtable::Position;
use crate::merge::{Source, Step};
use crate::shard::memory::SharedMemtable;
use crate::types::{Direction, Entry, Kind, MAX_SEQUENCE, Sequence};

/// A walk through a memtable that may grow meanwhile. It copies the entry it stands on, so that no borrow of the
/// memtable outlives a step.
#[derive(Debug)]
pub struct MemtableSource {
    memtable: SharedMemtable,
    direction: Direction,
    position: Position,
    live: bool,
    key: Vec<u8>,
    value: Vec<u8>,
    sequence: Sequence,
    kind: Kind,
}

impl MemtableSource {
    /// From the first entry to the last.
    pub fn whole(memtable: SharedMemtable) -> Self {
        let position = memtable.borrow().first();
        Self::at(memtable, Direction::Forwards, position)
    }

    /// From `key` on: that key and what is above it.
    pub fn from(memtable: SharedMemtable, key: &[u8]) -> Self {
        let position = memtable.borrow().seek(key, MAX_SEQUENCE);
        Self::at(memtable, Direction::Forwards, position)
    }

    /// Backwards, from the last entry whose key is below `key`; from the last of all where there is no such bound.
    pub fn back(memtable: SharedMemtable, below: Option<&[u8]>) -> Self {
        let position = match below {
            Some(key) => memtable.borrow().seek_below(key),
            None => memtable.borrow().last(),
        };
        Self::at(memtable, Direction::Backwards, position)
    }

    fn at(memtable: SharedMemtable, direction: Direction, position: Position) -> Self {
        let mut source = Self {
            memtable,
            direction,
            position,
            live: false,
            key: Vec::new(),
            value: Vec::new(),
            sequence: 0,
            kind: Kind::Tombstone,
        };
        source.copy();
        source
    }

    fn copy(&mut self) {
        let memtable = self.memtable.borrow();
        let entry = memtable.entry(&self.position);
        self.live = entry.is_some();
        if let Some(entry) = entry {
            self.key.clear();
            self.key.extend_from_slice(entry.key);
            self.value.clear();
            self.value.extend_from_slice(entry.value);
            (self.sequence, self.kind) = (entry.sequence, entry.kind);
        }
    }
}

impl Source for MemtableSource {
    fn current(&self) -> Option<Entry<'_>> {
        self.live.then_some(Entry {
            key: &self.key,
            sequence: self.sequence,
            kind: self.kind,
            value: &self.value,
        })
    }

    fn advance(&mut self) -> Step {
        if !self.live {
            return Step::End;
        }
        match self.direction {
            Direction::Forwards => self.memtable.borrow().next(&mut self.position),
            Direction::Backwards => self.memtable.borrow().previous(&mut self.position),
        }
        self.copy();
        if self.live { Step::Ready } else { Step::End }
    }
}

impl LoadSource for MemtableSource {
    async fn load(&mut self) -> Result<()> {
        Ok(())
    }
}

/// A memtable or a run of tables.
#[expect(clippy::large_enum_variant, reason = "a merge has a dozen sources, made once")]
#[derive(Debug)]
pub enum ShardSource<I: Io> {
    /// In memory.
    Memory(MemtableSource),
    /// On the device.
    Tables(Run<I>),
}

impl<I: Io> Source for ShardSource<I> {
    #[inline]
    fn current(&self) -> Option<Entry<'_>> {
        match self {
            Self::Memory(source) => source.current(),
            Self::Tables(run) => run.current(),
        }
    }

    #[inline]
    fn advance(&mut self) -> Step {
        match self {
            Self::Memory(source) => source.advance(),
            Self::Tables(run) => run.advance(),
        }
    }
}

impl<I: Io> ShardSource<I> {
    /// Brings what is asked for if it is in memory; `false` where the device must be asked.
    pub(crate) fn load_resident(&mut self) -> bool {
        match self {
            Self::Memory(_) => true,
            Self::Tables(run) => run.load_resident(),
        }
    }
}

impl<I: Io> LoadSource for ShardSource<I> {
    async fn load(&mut self) -> Result<()> {
        match self {
            Self::Memory(source) => source.load().await,
            Self::Tables(run) => run.load().await,
        }
    }
}
