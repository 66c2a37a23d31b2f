//! Range reads of one shard: memtables, L0 and one run a level, merged, as of one sequence.
//!
//! A page holds on to the memtables and the version it began with, so a flush or merge meanwhile takes nothing from
//! under it. Between pages only the resume key is kept. What is in memory is walked without awaiting; a page that is there
//! whole needs no task. Backwards everything is the same but for the order: there the versions of a key come oldest first,
//! and the newest visible one is held back until the next key has come ([`Latest`]).
//!
//! Over two shards a scan of 100 from cache spends about 100 µs of processor time where one shard alone spends 29: the rest is
//! the message to the other core and back, in the kernel (membarrier when a core parks, the wake-up, task switches; by
//! `perf record`). It shrinks with what a runtime's messages cost, and with how long an idle core polls.

use std::ops::Bound;
use std::time::Duration;

use crate::compaction::run::LoadSource;
use crate::error::Result;
use crate::io::Io;
use crate::merge::{Latest, Merge, Offer, Progress, Sight, Visible};
use crate::shard::Shard;
use crate::shard::memory::Scanning;
use crate::shard::page::{Entries, Page};
use crate::shard::request::ScanRange;
use crate::shard::sources::ShardSource;
use crate::types::{Direction, Entry};

/// The longest a scan holds its core between yields.
const SLICE: Duration = Duration::from_micros(200);
/// Entries between looks at the clock.
const ENTRIES_PER_LOOK: u32 = 64;

/// A page under way. See the [module](self).
pub struct Scan<I: Io> {
    _scanning: Scanning,
    merge: Merge<ShardSource<I>>,
    /// For a scan backwards.
    latest: Option<Latest>,
    filling: Filling,
}

/// The page that is being filled.
struct Filling {
    range: ScanRange,
    visible: Visible,
    page: Page,
    bytes: usize,
}

/// What became of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Took {
    /// It is on the page, or not to be seen: the next one may come.
    More,
    /// It belongs on the page after this one, or lies behind the range: this page is whole.
    Enough,
}

/// Where a page under way stands.
enum Walked {
    /// It is whole.
    Done,
    /// This source needs the device.
    Blocked(usize),
    /// It is time to look at the clock.
    Paused,
}

impl<I: Io> Shard<I> {
    /// One page of a range.
    ///
    /// # Errors
    /// `Io` or `Corruption` naming the table and the offset.
    pub async fn scan(&self, range: ScanRange) -> Result<Page> {
        self.finish_scan(Box::new(self.begin_scan(range))).await
    }

    /// A page of a range if it takes one slice at most and no device; else what is there of it, to be
    /// [finished](Shard::finish_scan).
    pub fn scan_resident(&self, range: ScanRange) -> std::result::Result<Page, Box<Scan<I>>> {
        let (mut scan, began) = (Box::new(self.begin_scan(range)), self.io.now());
        loop {
            match scan.walk() {
                Walked::Done => return Ok(self.end_scan(*scan)),
                Walked::Paused if self.io.now().saturating_sub(began) < SLICE => {}
                Walked::Paused | Walked::Blocked(_) => return Err(scan),
            }
        }
    }

    fn begin_scan(&self, range: ScanRange) -> Scan<I> {
        // Without a snapshot of the caller's, the page is as of now: it holds what it reads, so none is registered. It says
        // that it scans before it knows as of when.
        let scanning = self.memory.scan();
        let at = range.at.unwrap_or_else(|| self.config.commits.last());
        let sources = if range.limit == 0 {
            Vec::new()
        } else {
            self.scan_sources(&range)
        };
        let direction = range.direction();
        Scan {
            _scanning: scanning,
            merge: Merge::towards(direction, sources),
            latest: (direction == Direction::Backwards).then(|| Latest::new(at)),
            filling: Filling {
                visible: Visible::new(at, self.now_ms()),
                page: Page {
                    entries: Entries::expecting(range.limit),
                    resume: None,
                },
                bytes: 0,
                range,
            },
        }
    }

    /// Walks a page to its end.
    ///
    /// # Errors
    /// As for [`Shard::scan`].
    pub async fn finish_scan(&self, mut scan: Box<Scan<I>>) -> Result<Page> {
        let mut slice_began = self.io.now();
        loop {
            match scan.walk() {
                Walked::Done => return Ok(self.end_scan(*scan)),
                Walked::Blocked(source) => {
                    self.timed_read(scan.merge.sources_mut()[source].load()).await?;
                    scan.merge.refilled(source);
                }
                Walked::Paused => {
                    if self.io.now().saturating_sub(slice_began) >= SLICE {
                        self.io.yield_now().await;
                        slice_began = self.io.now();
                    }
                }
            }
        }
    }

    fn end_scan(&self, scan: Scan<I>) -> Page {
        if let Some(expires_ms) = scan.filling.visible.latest_expired_ms() {
            self.note_expired(expires_ms);
        }
        scan.filling.page
    }
}

impl<I: Io> Scan<I> {
    /// Goes on as far as memory reaches, for a bounded number of entries.
    fn walk(&mut self) -> Walked {
        for _ in 0..ENTRIES_PER_LOOK {
            while let Progress::Blocked(source) = self.merge.progress() {
                if !self.merge.sources_mut()[source].load_resident() {
                    return Walked::Blocked(source);
                }
                self.merge.refilled(source);
            }
            let entry = self.merge.current();
            let took = match &mut self.latest {
                None => self.filling.take(entry),
                Some(latest) => self.filling.take_back(entry, latest),
            };
            if took == Took::Enough {
                return Walked::Done;
            }
            self.merge.advance();
        }
        Walked::Paused
    }
}

impl Filling {
    /// Takes the next entry of a stream that runs forwards; `None` at its end.
    fn take(&mut self, entry: Option<Entry<'_>>) -> Took {
        let Some(entry) = entry.filter(|entry| !is_above(&self.range.end, entry.key)) else {
            return Took::Enough;
        };
        if matches!(&self.range.start, Bound::Excluded(key) if key == entry.key) {
            return Took::More;
        }
        self.show(&entry)
    }

    /// Takes the next entry of a stream that runs backwards; `None` at its end.
    fn take_back(&mut self, entry: Option<Entry<'_>>, latest: &mut Latest) -> Took {
        let entry = entry.filter(|entry| !is_below(&self.range.start, entry.key));
        if let Some(entry) = &entry
            && latest.offer(entry) == Offer::Taken
        {
            return Took::More;
        }
        let shown = latest.held().map_or(Took::More, |held| self.show(&held));
        latest.release();
        match entry {
            Some(entry) if shown == Took::More => {
                latest.offer(&entry);
                Took::More
            }
            _ => Took::Enough,
        }
    }

    /// Puts an entry on the page if it is to be seen.
    fn show(&mut self, entry: &Entry<'_>) -> Took {
        let Sight::Show(value) = self.visible.judge(entry) else {
            return Took::More;
        };
        let entries = &mut self.page.entries;
        // A full page is only cut once there is one entry more: then the range is known to go on.
        if entries.len() >= self.range.limit || self.bytes >= self.range.bytes_limit {
            self.page.resume = entries.last().map(|(key, _)| key.to_vec());
            return Took::Enough;
        }
        self.bytes += entry.key.len() + value.len();
        let value = if self.range.keys_only { &[] } else { value };
        entries.push(entry.key, value);
        Took::More
    }
}

fn is_above(end: &Bound<Vec<u8>>, key: &[u8]) -> bool {
    match end {
        Bound::Included(end) => key > end.as_slice(),
        Bound::Excluded(end) => key >= end.as_slice(),
        Bound::Unbounded => false,
    }
}

fn is_below(start: &Bound<Vec<u8>>, key: &[u8]) -> bool {
    match start {
        Bound::Included(start) => key < start.as_slice(),
        Bound::Excluded(start) => key <= start.as_slice(),
        Bound::Unbounded => false,
    }
}
