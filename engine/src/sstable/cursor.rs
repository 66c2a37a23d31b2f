//! Walks a table's entries in internal order. Owned: it holds its table, and nothing borrows from anything else.
//!
//! The hot path is synchronous and allocates nothing: [`TableCursor::advance`] decodes the next entry of the block at
//! hand into a reusable key buffer, and the value stays in the block. Only at the end of what is in memory does it say
//! [`Step::NeedBlock`]; then [`TableCursor::load`] brings more, from the cache or the device, and moves on. Failures of
//! any step are reported by that `load`, again and again until the next seek.
//!
//! A *scan* goes through the cache with read-ahead that grows; a *sequential* cursor, for compaction, reads large chunks
//! past the cache with one always in flight, and parses blocks in place. Both check that entries come in strict internal
//! order, and a walk over a whole table that it held as many entries as it says (R16).

use std::cmp::Ordering;
use std::rc::Rc;

use super::block::{Block, bound_of};
use super::feed::Feed;
use super::format::{BlockHandle, BlockType};
use super::index::{Partition, PartitionHandle};
use super::table::{BlockCache, Cached, Located, Table, damaged};
use crate::error::{Error, Result};
use crate::io::Io;
use crate::merge::Step;
use crate::types::{Entry, Kind, PAGE_BYTES, Sequence, unpack_trailer};

/// The block being walked.
enum Current {
    /// Shared with the cache.
    Shared(Rc<Block>),
    /// The cursor's own, whose memory each next block reuses.
    Own(Block),
}

impl Current {
    #[inline]
    fn get(&self) -> &Block {
        match self {
            Self::Shared(block) => block,
            Self::Own(block) => block,
        }
    }
}

/// What `load` must do before the cursor can move on.
#[derive(Debug, Clone)]
enum Wanted {
    /// The block at `next_offset`.
    Next,
    /// Find the block for the target through this partition of the index.
    Seek(PartitionHandle),
    /// Report this.
    Failed(Error),
}

/// A cursor over one table, owned. After a seek or an `advance`, `NeedBlock` asks for a [`TableCursor::load`].
pub struct TableCursor<I: Io> {
    table: Rc<Table<I>>,
    feed: Feed<I>,
    sequential: bool,
    block: Current,
    /// Where the entry after the current one starts in `block`.
    position: usize,
    /// Where the block after `block` starts in the file.
    next_offset: u64,
    /// Its length where the index told.
    known_bytes: Option<usize>,
    wanted: Wanted,
    step: Step,
    /// Entries before this internal key are passed over after a seek. `None` once the first was found.
    target: Option<u64>,
    target_key: Vec<u8>,
    /// Entries met since the start of the table; `None` after a seek.
    counted: Option<u64>,
    key: Vec<u8>,
    /// Whether `key` is that of an entry before the next one, whose order must hold.
    key_is_previous: bool,
    trailer: u64,
    sequence: Sequence,
    kind: Kind,
    value: std::ops::Range<usize>,
}

impl<I: Io> std::fmt::Debug for TableCursor<I> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TableCursor")
            .field("table", &self.table.identity())
            .field("step", &self.step)
            .field("next_offset", &self.next_offset)
            .finish_non_exhaustive()
    }
}

impl<I: Io> TableCursor<I> {
    /// A cursor for scans, through the cache. It stands nowhere until a seek.
    pub fn scan(table: Rc<Table<I>>) -> Self {
        Self::new(table, Feed::growing(), false)
    }

    /// A cursor for compaction, past the cache. It stands nowhere until a seek.
    pub fn sequential(table: Rc<Table<I>>) -> Self {
        Self::new(table, Feed::sequential(), true)
    }

    fn new(table: Rc<Table<I>>, feed: Feed<I>, sequential: bool) -> Self {
        Self {
            table,
            feed,
            sequential,
            block: Current::Own(Block::default()),
            position: 0,
            next_offset: 0,
            known_bytes: None,
            wanted: Wanted::Next,
            step: Step::End,
            target: None,
            target_key: Vec::new(),
            counted: None,
            key: Vec::new(),
            key_is_previous: false,
            trailer: 0,
            sequence: 0,
            kind: Kind::Tombstone,
            value: 0..0,
        }
    }

    /// The table walked.
    pub fn table(&self) -> &Rc<Table<I>> {
        &self.table
    }

    /// Moves to the first entry of the table.
    pub fn seek_to_first(&mut self) -> Step {
        self.leave();
        self.counted = Some(0);
        self.go_to(0, None)
    }

    /// Moves to the first entry that is not before `key` as a read at `at` sees it: of `key` itself, entries newer than
    /// `at` are passed over. `MAX_SEQUENCE` starts at the newest.
    pub fn seek(&mut self, key: &[u8], at: Sequence) -> Step {
        self.leave();
        self.target_key.clear();
        self.target_key.extend_from_slice(key);
        self.target = Some(bound_of(at));
        match self.table.locate_seek(key, at) {
            Located::Block(handle) => self.go_to(handle.offset(), Some(handle.bytes())),
            Located::Absent | Located::Filtered => self.set(Step::End),
            Located::NeedPartition(partition) => {
                self.wanted = Wanted::Seek(partition);
                self.set(Step::NeedBlock)
            }
        }
    }

    fn leave(&mut self) {
        self.block = Current::Own(
            match std::mem::replace(&mut self.block, Current::Own(Block::default())) {
                Current::Own(block) => block,
                Current::Shared(_) => Block::default(),
            },
        );
        self.position = usize::MAX;
        self.target = None;
        self.counted = None;
        self.key_is_previous = false;
        self.feed.restart();
    }

    fn go_to(&mut self, offset: u64, known_bytes: Option<usize>) -> Step {
        self.next_offset = offset;
        self.known_bytes = known_bytes;
        self.wanted = Wanted::Next;
        self.set(Step::NeedBlock)
    }

    fn set(&mut self, step: Step) -> Step {
        self.step = step;
        step
    }

    fn fail(&mut self, error: Error) -> Step {
        self.wanted = Wanted::Failed(error);
        self.set(Step::NeedBlock)
    }

    /// The entry the cursor stands on.
    #[inline]
    pub fn current(&self) -> Option<Entry<'_>> {
        if self.step != Step::Ready {
            return None;
        }
        Some(Entry {
            key: &self.key,
            sequence: self.sequence,
            kind: self.kind,
            value: self.block.get().bytes_at(self.value.clone()),
        })
    }

    /// Where the cursor stands.
    pub fn step(&self) -> Step {
        self.step
    }

    /// Moves to the next entry. Where the cursor does not stand on one, it says so and stays.
    #[inline]
    pub fn advance(&mut self) -> Step {
        if self.step != Step::Ready {
            return self.step;
        }
        self.move_on()
    }

    /// Decodes on from `position`, over block ends where the feed has the next block at hand.
    fn move_on(&mut self) -> Step {
        loop {
            while let Some(entry) = self.block.get().entry_at(self.position) {
                let block = self.block.get();
                let delta = block.bytes_at(entry.delta.clone());
                let in_order = match delta.cmp(&self.key[entry.shared.min(self.key.len())..]) {
                    Ordering::Greater => true,
                    Ordering::Equal => entry.trailer < self.trailer,
                    Ordering::Less => false,
                };
                if self.key_is_previous && !in_order {
                    return self.fail_at_block("the entries are not in order");
                }
                self.key.truncate(entry.shared);
                self.key.extend_from_slice(delta);
                self.position = entry.next();
                self.trailer = entry.trailer;
                self.key_is_previous = true;
                if let Some(counted) = &mut self.counted {
                    *counted += 1;
                }
                if self.target.is_some_and(|bound| self.is_before_target(bound)) {
                    continue;
                }
                self.target = None;
                let (sequence, kind) =
                    unpack_trailer(entry.trailer).expect("every kind was checked when the block was opened");
                (self.sequence, self.kind, self.value) = (sequence, kind, entry.value);
                return self.set(Step::Ready);
            }
            if self.next_offset >= self.table.data_end() {
                return self.end();
            }
            self.wanted = Wanted::Next;
            if !self.sequential || !self.open_own_block() {
                return self.set(Step::NeedBlock);
            }
        }
    }

    #[inline]
    fn is_before_target(&self, bound: u64) -> bool {
        match self.key.as_slice().cmp(&self.target_key) {
            Ordering::Less => true,
            Ordering::Equal => self.trailer > bound,
            Ordering::Greater => false,
        }
    }

    fn end(&mut self) -> Step {
        let expected = self.table.properties().entries;
        match self.counted {
            Some(counted) if counted != expected => {
                let cause = format!("the table holds {counted} entries, expected {expected}");
                let error = Error::corruption("reading blocks in order", self.table.path(), None, cause);
                self.fail(error)
            }
            _ => self.set(Step::End),
        }
    }

    fn fail_at_block(&mut self, cause: &'static str) -> Step {
        let pages = u64::from(self.block.get().pages());
        let offset = self.next_offset - pages * PAGE_BYTES as u64;
        let cause = super::format::FormatError::Malformed(cause);
        let error = damaged(
            "reading blocks in order".into(),
            self.table.path(),
            offset,
            &cause,
        );
        self.fail(error)
    }

    /// Opens the next block into the cursor's own memory, if the feed has it. A failure is left in `wanted`.
    fn open_own_block(&mut self) -> bool {
        let Some((handle, bytes)) = self.feed.block_at(self.next_offset) else {
            return false;
        };
        if !matches!(self.block, Current::Own(_)) {
            self.block = Current::Own(Block::default());
        }
        let Current::Own(block) = &mut self.block else {
            return false;
        };
        match block.reopen(bytes, self.table.seal(), handle, BlockType::Data) {
            Ok(()) => {
                self.enter(handle);
                true
            }
            Err(error) => {
                let doing = "reading blocks in order".to_owned();
                let error = damaged(doing, self.table.path(), handle.offset(), &error);
                self.fail(error);
                false
            }
        }
    }

    /// Stands before the first entry of the block just opened, or before the last restart point below the target.
    fn enter(&mut self, handle: BlockHandle) {
        self.next_offset = handle.offset() + handle.bytes() as u64;
        self.known_bytes = None;
        self.position = 0;
        if let Some(bound) = self.target {
            self.position = self.block.get().seek_restart(&self.target_key, bound);
            // The entries passed over were not seen, so the first one met has no predecessor to compare with.
            self.key_is_previous = false;
        }
        if !self.key_is_previous {
            self.key.clear();
        }
    }

    /// Brings what the cursor needs and moves on: afterwards it stands on an entry or past the last. A scan takes blocks
    /// from the cache and leaves there what it read; without a cache, and always when sequential, it reads past it.
    /// Where nothing is needed it does nothing.
    ///
    /// # Errors
    /// `Corruption` naming file, offset and cause, `Io`; the same again if called again without a seek.
    pub async fn load(&mut self, cache: Option<&BlockCache>) -> Result<Step> {
        while self.step == Step::NeedBlock {
            if let Err(error) = self.load_once(cache).await {
                self.wanted = Wanted::Failed(error.clone());
                return Err(error);
            }
        }
        Ok(self.step)
    }

    /// What [`TableCursor::load`] does, as far as the cache has it or a read ahead has brought it: `NeedBlock` where the
    /// device must be asked, and for a failure. For scans.
    pub(crate) fn load_resident(&mut self, cache: &BlockCache) -> Step {
        assert!(!self.sequential, "a sequential cursor reads past the cache");
        while self.step == Step::NeedBlock && (self.take_cached(cache) || self.take_ahead(cache)) {}
        self.step
    }

    /// Takes the next step from the cache; `false` where what it needs is not there.
    fn take_cached(&mut self, cache: &BlockCache) -> bool {
        let number = self.table.identity().number;
        match &self.wanted {
            Wanted::Failed(_) => false,
            &Wanted::Seek(handle) => {
                let Some(Cached::Partition(partition)) = cache.get(number, handle.page) else {
                    return false;
                };
                self.seek_in(&partition);
                true
            }
            Wanted::Next => {
                let page = self.next_page();
                let Some(Cached::Block(block)) = cache.get(number, page) else {
                    return false;
                };
                let pages = block.pages();
                self.block = Current::Shared(block);
                self.enter(BlockHandle { page, pages });
                self.move_on();
                true
            }
        }
    }

    /// Takes the next block from what was read ahead and leaves it in the cache; `false` where it is not there, or failed.
    fn take_ahead(&mut self, cache: &BlockCache) -> bool {
        if !matches!(self.wanted, Wanted::Next) {
            return false;
        }
        let Some((handle, bytes)) = self.feed.block_at(self.next_offset) else {
            return false;
        };
        match self.table.parse_block(bytes, handle) {
            Ok(block) => {
                let number = self.table.identity().number;
                cache.insert(number, handle.page, Cached::Block(Rc::clone(&block)));
                self.block = Current::Shared(block);
                self.enter(handle);
                self.move_on();
                true
            }
            Err(error) => {
                self.fail(error);
                false
            }
        }
    }

    fn next_page(&self) -> u32 {
        u32::try_from(self.next_offset / PAGE_BYTES as u64).expect("a table is far below 16 TiB")
    }

    async fn load_once(&mut self, cache: Option<&BlockCache>) -> Result<()> {
        let cache = cache.filter(|_| !self.sequential);
        if cache.is_some_and(|cache| self.take_cached(cache) || self.take_ahead(cache)) {
            return Ok(());
        }
        match &self.wanted {
            Wanted::Failed(error) => return Err(error.clone()),
            &Wanted::Seek(partition) => {
                let partition = match cache {
                    Some(cache) => self.table.load_partition(partition, cache).await?,
                    None => self.table.read_partition(partition).await?,
                };
                self.seek_in(&partition);
                return Ok(());
            }
            Wanted::Next => {}
        }
        if self.feed.block_at(self.next_offset).is_none() {
            self.feed
                .fill(&self.table, self.next_offset, self.known_bytes)
                .await?;
        }
        // With a cache the next round takes it from the feed.
        if cache.is_none() && self.open_own_block() {
            self.move_on();
        }
        Ok(())
    }

    /// Finds the block of a seek through a partition that is not pinned; at the end where the table ends before the
    /// target.
    fn seek_in(&mut self, partition: &Partition) {
        let bound = self.target.expect("a seek has a target");
        match partition.search(&self.target_key, bound >> 8) {
            Some(handle) => self.go_to(handle.offset(), Some(handle.bytes())),
            None => self.set(Step::End),
        };
    }
}
