//! A source of a merge over tables: one table, or a run of disjoint tables of one level walked one behind the other.
//!
//! Stepping is synchronous; where a block is missing, or the next table begins, the driver awaits [`LoadSource::load`].

use std::future::Future;
use std::rc::Rc;

use crate::error::Result;
use crate::io::Io;
use crate::merge::{Source, Step};
use crate::sstable::{BlockCache, Table, TableCursor};
use crate::types::{Entry, Sequence};

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
}

/// A run of tables as one source.
pub struct Run<I: Io> {
    /// Those not begun yet, last first.
    waiting: Vec<Rc<Table<I>>>,
    cursor: Option<TableCursor<I>>,
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

    /// The part of `tables` from `key` on, as a read at `at` sees it.
    pub fn from(tables: Vec<Rc<Table<I>>>, key: &[u8], at: Sequence, reading: Reading) -> Self {
        let mut run = Self::over(tables, reading);
        if let Some(table) = run.waiting.pop() {
            let mut cursor = run.cursor_over(table);
            cursor.seek(key, at);
            run.cursor = Some(cursor);
        }
        run
    }

    fn over(mut tables: Vec<Rc<Table<I>>>, reading: Reading) -> Self {
        tables.reverse();
        Self {
            waiting: tables,
            cursor: None,
            reading,
        }
    }

    fn cursor_over(&self, table: Rc<Table<I>>) -> TableCursor<I> {
        match self.reading {
            Reading::Sequential => TableCursor::sequential(table),
            Reading::Cached(_) => TableCursor::scan(table),
        }
    }

    /// What [`LoadSource::load`] does, as far as the cache has what is asked for; `false` where the device must be asked.
    pub(crate) fn load_resident(&mut self) -> bool {
        let Reading::Cached(cache) = &self.reading else {
            return false;
        };
        let cache = Rc::clone(cache);
        while let Some(cursor) = self.cursor.as_mut() {
            match cursor.load_cached(&cache) {
                Step::NeedBlock => return false,
                Step::Ready => return true,
                // A seek may stand behind a table's last entry: the run goes on in the next table.
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
        let mut cursor = self.cursor_over(table);
        let step = cursor.seek_to_first();
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
            let step = match &self.reading {
                Reading::Sequential => cursor.load(None).await?,
                Reading::Cached(cache) => cursor.load(Some(cache)).await?,
            };
            // A seek may stand behind a table's last entry: the run goes on in the next table.
            if step != Step::End || self.begin_next() == Step::End {
                break;
            }
        }
        Ok(())
    }
}
