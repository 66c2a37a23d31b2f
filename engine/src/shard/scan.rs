//! Range reads of one shard: memtables, L0 and one run a level, merged, as of one sequence.
//!
//! A page holds on to the memtables and the version it began with, so a flush or merge meanwhile takes nothing from
//! under it. Between pages only the resume key is kept.

use std::ops::Bound;
use std::rc::Rc;
use std::time::Duration;

use crate::compaction::run::{LoadSource, Reading, Run};
use crate::error::Result;
use crate::io::Io;
use crate::merge::{Merge, Progress, Sight, Visible};
use crate::shard::Shard;
use crate::shard::request::{Page, ScanRange};
use crate::shard::sources::{MemtableSource, ShardSource};
use crate::types::{MAX_SEQUENCE, Sequence};

/// The longest a scan holds its core between yields.
const SLICE: Duration = Duration::from_micros(200);
/// Entries between looks at the clock.
const ENTRIES_PER_LOOK: u32 = 64;

impl<I: Io> Shard<I> {
    /// One page of a range.
    ///
    /// # Errors
    /// `Io` or `Corruption` naming the table and the offset.
    pub async fn scan(&self, range: ScanRange) -> Result<Page> {
        let mut page = Page::default();
        if range.limit == 0 {
            return Ok(page);
        }
        // Without a snapshot of the caller's, the page is as of now: it holds what it reads, so none is registered.
        let at = range.at.unwrap_or_else(|| self.config.commits.last());
        let start: &[u8] = match &range.start {
            Bound::Included(key) | Bound::Excluded(key) => key,
            Bound::Unbounded => &[],
        };
        let mut merge = Merge::new(self.scan_sources(start));
        let mut visible = Visible::new(at);
        let (mut bytes, mut looks, mut slice_began) = (0, 0, self.io.now());
        loop {
            match merge.progress() {
                Progress::Ready => {}
                Progress::Blocked(source) => {
                    merge.sources_mut()[source].load().await?;
                    merge.refilled(source);
                    continue;
                }
                Progress::End => return Ok(page),
            }
            let entry = merge.current().expect("a ready merge has an entry");
            if is_past(&range.end, entry.key) {
                return Ok(page);
            }
            let wanted = !matches!(&range.start, Bound::Excluded(key) if key == entry.key);
            if wanted && visible.judge(&entry) == Sight::Show {
                // A full page is only cut once there is one entry more: then the range is known to go on.
                if page.entries.len() >= range.limit || bytes >= range.bytes_limit {
                    page.resume = page.entries.last().map(|(key, _)| key.clone());
                    return Ok(page);
                }
                bytes += entry.key.len() + entry.value.len();
                let value = if range.keys_only {
                    Vec::new()
                } else {
                    entry.value.to_vec()
                };
                page.entries.push((entry.key.to_vec(), value));
            }
            merge.advance();
            looks += 1;
            if looks >= ENTRIES_PER_LOOK {
                looks = 0;
                if self.io.now().saturating_sub(slice_began) >= SLICE {
                    self.io.yield_now().await;
                    slice_began = self.io.now();
                }
            }
        }
    }

    fn scan_sources(&self, start: &[u8]) -> Vec<ShardSource<I>> {
        // From the key's newest version on: what is too new for the reader is passed over by `Visible`.
        const FROM: Sequence = MAX_SEQUENCE;
        let mut sources: Vec<_> = self
            .memory
            .newest_first()
            .into_iter()
            .map(|memtable| ShardSource::Memory(MemtableSource::from(memtable, start, FROM)))
            .collect();
        let live = self.live();
        let reading = || Reading::Cached(Rc::clone(&self.cache));
        for table in &live.tables[0] {
            if table.properties().largest.as_slice() >= start {
                let tables = vec![Rc::clone(table)];
                sources.push(ShardSource::Tables(Run::from(tables, start, FROM, reading())));
            }
        }
        for tables in &live.tables[1..] {
            let first = tables.partition_point(|table| table.properties().largest.as_slice() < start);
            if first < tables.len() {
                let tables = tables[first..].to_vec();
                sources.push(ShardSource::Tables(Run::from(tables, start, FROM, reading())));
            }
        }
        sources
    }
}

fn is_past(end: &Bound<Vec<u8>>, key: &[u8]) -> bool {
    match end {
        Bound::Included(end) => key > end.as_slice(),
        Bound::Excluded(end) => key >= end.as_slice(),
        Bound::Unbounded => false,
    }
}
