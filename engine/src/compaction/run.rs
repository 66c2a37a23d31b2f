//! A source of a merge over tables: one table, or a run of disjoint tables of one level walked one behind the other, or
//! for a scan that runs backwards one before the other.
//!
//! Stepping is synchronous; where a block is missing, or the next table begins, the driver awaits [`LoadSource::load`].

use std::future::Future;
use std::rc::Rc;

use crate::error::Result;
use crate::io::Io;
use crate::merge::{Source, Step};
use crate::sstable::{BackCursor, BlockCache, Table, TableCursor};
use crate::types::{Entry, MAX_SEQUENCE};

/// A source whose missing block can be brought.
pub trait LoadSource: Source {
    /// Brings what [`Step::NeedBlock`] asked for; afterwards the source stands on an entry or is at its end.
    ///
    /// # Errors
    /// `Io` or `Corruption` naming the table and the offset.
    fn load(&mut self) -> impl Future<Output = Result<()>>;
}

/// How a run is read.
#[derive(Debug, Clone)]
pub enum Reading {
    /// For a merge: large reads past the cache.
    Sequential,
    /// For a scan: through this cache, with growing read-ahead.
    Cached(Rc<BlockCache>),
    /// The same backwards.
    Backwards(Rc<BlockCache>),
}

impl Reading {
    fn cache(&self) -> Option<&Rc<BlockCache>> {
        match self {
            Self::Sequential => None,
            Self::Cached(cache) | Self::Backwards(cache) => Some(cache),
        }
    }
}

/// The walk through the table at hand.
enum Cursor<I: Io> {
    Forwards(TableCursor<I>),
    Backwards(BackCursor<I>),
}

impl<I: Io> std::fmt::Debug for Cursor<I> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Forwards(cursor) => cursor.fmt(f),
            Self::Backwards(cursor) => cursor.fmt(f),
        }
    }
}

impl<I: Io> Cursor<I> {
    fn over(table: Rc<Table<I>>, reading: &Reading) -> Self {
        match reading {
            Reading::Sequential => Self::Forwards(TableCursor::sequential(table)),
            Reading::Cached(_) => Self::Forwards(TableCursor::scan(table)),
            Reading::Backwards(_) => Self::Backwards(BackCursor::scan(table)),
        }
    }

    /// Moves to the entry that a walk of the whole table begins with.
    fn seek_to_start(&mut self) -> Step {
        match self {
            Self::Forwards(cursor) => cursor.seek_to_first(),
            Self::Backwards(cursor) => cursor.seek_to_last(),
        }
    }

    /// Moves to the entry that a walk from `key` begins with: forwards its newest version, backwards what lies below it.
    fn seek(&mut self, key: &[u8]) -> Step {
        match self {
            Self::Forwards(cursor) => cursor.seek(key, MAX_SEQUENCE),
            Self::Backwards(cursor) => cursor.seek_below(key),
        }
    }

    #[inline]
    fn current(&self) -> Option<Entry<'_>> {
        match self {
            Self::Forwards(cursor) => cursor.current(),
            Self::Backwards(cursor) => cursor.current(),
        }
    }

    #[inline]
    fn advance(&mut self) -> Step {
        match self {
            Self::Forwards(cursor) => cursor.advance(),
            Self::Backwards(cursor) => cursor.advance(),
        }
    }

    async fn load(&mut self, cache: Option<&BlockCache>) -> Result<Step> {
        match self {
            Self::Forwards(cursor) => cursor.load(cache).await,
            Self::Backwards(cursor) => cursor.load(cache).await,
        }
    }

    fn load_resident(&mut self, cache: &BlockCache) -> Step {
        match self {
            Self::Forwards(cursor) => cursor.load_resident(cache),
            Self::Backwards(cursor) => cursor.load_resident(cache),
        }
    }
}

/// A run of tables as one source.
pub struct Run<I: Io> {
    /// Those not begun yet, the next one last.
    waiting: Vec<Rc<Table<I>>>,
    cursor: Option<Cursor<I>>,
    reading: Reading,
}

impl<I: Io> std::fmt::Debug for Run<I> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Run")
            .field("waiting", &self.waiting.len())
            .field("cursor", &self.cursor)
            .finish()
    }
}

impl<I: Io> Run<I> {
    /// The whole of `tables`, which are disjoint and ascending.
    pub fn whole(tables: Vec<Rc<Table<I>>>, reading: Reading) -> Self {
        let mut run = Self::over(tables, reading);
        run.begin_next();
        run
    }

    /// The part of `tables`, which are disjoint and ascending, from `key` on: forwards that key and what is above it,
    /// backwards what is below it.
    pub fn from(tables: Vec<Rc<Table<I>>>, key: &[u8], reading: Reading) -> Self {
        let mut run = Self::over(tables, reading);
        if let Some(table) = run.waiting.pop() {
            let mut cursor = Cursor::over(table, &run.reading);
            cursor.seek(key);
            run.cursor = Some(cursor);
        }
        run
    }

    fn over(mut tables: Vec<Rc<Table<I>>>, reading: Reading) -> Self {
        if !matches!(reading, Reading::Backwards(_)) {
            tables.reverse();
        }
        Self {
            waiting: tables,
            cursor: None,
            reading,
        }
    }

    /// What [`LoadSource::load`] does, as far as memory has what is asked for; `false` where the device must be asked.
    pub(crate) fn load_resident(&mut self) -> bool {
        let Some(cache) = self.reading.cache().map(Rc::clone) else {
            return false;
        };
        while let Some(cursor) = self.cursor.as_mut() {
            match cursor.load_resident(&cache) {
                Step::NeedBlock => return false,
                Step::Ready => return true,
                // A seek may stand behind the last entry of its table: the run goes on in the next.
                Step::End => self.begin_next(),
            };
        }
        true
    }

    fn begin_next(&mut self) -> Step {
        let Some(table) = self.waiting.pop() else {
            self.cursor = None;
            return Step::End;
        };
        let mut cursor = Cursor::over(table, &self.reading);
        let step = cursor.seek_to_start();
        self.cursor = Some(cursor);
        step
    }
}

impl<I: Io> Source for Run<I> {
    #[inline]
    fn current(&self) -> Option<Entry<'_>> {
        self.cursor.as_ref()?.current()
    }

    #[inline]
    fn advance(&mut self) -> Step {
        let Some(cursor) = self.cursor.as_mut() else {
            return Step::End;
        };
        match cursor.advance() {
            Step::End => self.begin_next(),
            step => step,
        }
    }
}

impl<I: Io> LoadSource for Run<I> {
    async fn load(&mut self) -> Result<()> {
        while let Some(cursor) = self.cursor.as_mut() {
            let step = cursor.load(self.reading.cache().map(Rc::as_ref)).await?;
            // A seek may stand behind the last entry of its table: the run goes on in the next.
            if step != Step::End || self.begin_next() == Step::End {
                break;
            }
        }
        Ok(())
    }
}
