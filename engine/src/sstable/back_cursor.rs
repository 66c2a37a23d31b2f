//! Walks a table's entries in the reverse of internal order, for scans. Owned like [`super::TableCursor`], and used alike:
//! after a seek or an `advance`, `NeedBlock` asks for a [`BackCursor::load`].
//!
//! Entries are prefix-compressed forwards, so the way back is taken in steps of one *interval*, the entries from one restart
//! point to the next: it is decoded forwards into a small buffer and handed out from its end. Then comes the interval before
//! it, then the last of the block before (as the partition of the index tells, for blocks do not say where the one before
//! them starts), then the last block of the partition before. Blocks come through the cache; from the device they are read
//! with those before them, one at first and then twice as much each time, up to [`SCAN_BYTES_MAX`].
//!
//! Every entry is checked to lie before the one met before it, within an interval, across intervals and across blocks, and
//! a walk over a whole table to have met as many entries as it says (R16). Failures of any step are reported by `load`,
//! again and again until the next seek.

use std::ops::Range;
use std::rc::Rc;

use super::block::Block;
use super::entries::RESTART_INTERVAL;
use super::feed::SCAN_BYTES_MAX;
use super::format::{BlockHandle, FormatError};
use super::index::Partition;
use super::table::{BlockCache, Cached, Table, Window, damaged, read_exactly};
use crate::error::{Error, Result};
use crate::io::Io;
use crate::merge::Step;
use crate::types::{Entry, internal_order, unpack_trailer};

const DOING: &str = "reading blocks backwards";

/// What `load` must do before the cursor can move on.
#[derive(Debug, Clone)]
enum Wanted {
    /// Bring the partition `partition_number`.
    Partition,
    /// Bring the block `block_number` of the partition at hand.
    Block,
    /// Report this.
    Failed(Error),
}

/// One decoded entry: its key in the interval's buffer, its value in the block.
#[derive(Debug, Clone)]
struct Decoded {
    key: Range<usize>,
    trailer: u64,
    value: Range<usize>,
}

/// The decoded entries of one interval, in internal order.
#[derive(Debug, Default)]
struct Interval {
    /// The keys one behind the other: at most [`RESTART_INTERVAL`] of them.
    keys: Vec<u8>,
    entries: Vec<Decoded>,
}

impl Interval {
    fn internal_key(&self, index: usize) -> Option<(&[u8], u64)> {
        let entry = self.entries.get(index)?;
        Some((&self.keys[entry.key.clone()], entry.trailer))
    }

    /// Decodes interval `number` of `block`. The block's own check has seen to it that every entry can be decoded.
    fn decode(&mut self, block: &Block, number: usize) -> std::result::Result<(), &'static str> {
        self.keys.clear();
        self.entries.clear();
        let mut position = block.restart(number);
        let end = (number + 1 < block.restarts()).then(|| block.restart(number + 1));
        let mut previous = 0..0;
        while end != Some(position)
            && let Some(entry) = block.entry_at(position)
        {
            if self.entries.len() == RESTART_INTERVAL {
                return Err("there are too many entries from one restart point to the next");
            }
            let start = self.keys.len();
            self.keys
                .extend_from_within(previous.start..previous.start + entry.shared);
            self.keys.extend_from_slice(block.bytes_at(entry.delta.clone()));
            previous = start..self.keys.len();
            position = entry.next();
            self.entries.push(Decoded {
                key: previous.clone(),
                trailer: entry.trailer,
                value: entry.value,
            });
            if let Some(before) = self.entries.len().checked_sub(2)
                && !ascends(self.internal_key(before), self.internal_key(before + 1))
            {
                return Err("the entries are not in order");
            }
        }
        Ok(())
    }

    /// Leaves out the entries whose keys are not below `key`.
    fn keep_below(&mut self, key: &[u8]) {
        let keys = &self.keys;
        let below = self
            .entries
            .partition_point(|entry| &keys[entry.key.clone()] < key);
        self.entries.truncate(below);
    }
}

/// Whether `a` comes before `b` in internal order, where there are both.
fn ascends(a: Option<(&[u8], u64)>, b: Option<(&[u8], u64)>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => internal_order(a, b).is_lt(),
        _ => true,
    }
}

/// A cursor that runs backwards over one table, owned. See the [module](self).
pub struct BackCursor<I: Io> {
    table: Rc<Table<I>>,
    window: Option<Window<I::File>>,
    next_read_bytes: usize,
    wanted: Wanted,
    step: Step,
    /// Entries whose keys are not below this are left out. `None` once the block of the seek was entered.
    below: Option<Vec<u8>>,
    partition: Option<Rc<Partition>>,
    partition_number: usize,
    block_number: usize,
    block: Rc<Block>,
    /// Intervals of `block` that are not decoded yet: those before the one at hand.
    intervals_left: usize,
    /// What is left of the interval at hand; the cursor stands on its last entry.
    interval: Interval,
    /// The first entry of the interval before the one at hand: what is met now must lie before it.
    bound: Option<(Vec<u8>, u64)>,
    /// Entries met since the end of the table; `None` after a seek to a key.
    counted: Option<u64>,
}

impl<I: Io> std::fmt::Debug for BackCursor<I> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BackCursor")
            .field("table", &self.table.identity())
            .field("step", &self.step)
            .field("partition_number", &self.partition_number)
            .field("block_number", &self.block_number)
            .finish_non_exhaustive()
    }
}

impl<I: Io> BackCursor<I> {
    /// A cursor for scans. It stands nowhere until a seek.
    pub fn scan(table: Rc<Table<I>>) -> Self {
        Self {
            table,
            window: None,
            next_read_bytes: 0,
            wanted: Wanted::Partition,
            step: Step::End,
            below: None,
            partition: None,
            partition_number: 0,
            block_number: 0,
            block: Rc::new(Block::default()),
            intervals_left: 0,
            interval: Interval::default(),
            bound: None,
            counted: None,
        }
    }

    /// Moves to the last entry of the table.
    pub fn seek_to_last(&mut self) -> Step {
        self.leave();
        self.counted = Some(0);
        self.go_to_partition(self.table.partitions() - 1)
    }

    /// Moves to the last entry whose key is below `key`: the oldest version of the largest of those keys.
    pub fn seek_below(&mut self, key: &[u8]) -> Step {
        self.leave();
        self.below = Some(key.to_vec());
        self.go_to_partition(self.table.partition_towards(key))
    }

    fn leave(&mut self) {
        self.next_read_bytes = 0;
        self.below = None;
        self.bound = None;
        self.counted = None;
    }

    /// Where the cursor stands.
    pub fn step(&self) -> Step {
        self.step
    }

    fn set(&mut self, step: Step) -> Step {
        self.step = step;
        step
    }

    /// The entry the cursor stands on.
    #[inline]
    pub fn current(&self) -> Option<Entry<'_>> {
        if self.step != Step::Ready {
            return None;
        }
        let entry = self.interval.entries.last()?;
        let (sequence, kind) =
            unpack_trailer(entry.trailer).expect("every kind was checked when the block was opened");
        Some(Entry {
            key: &self.interval.keys[entry.key.clone()],
            sequence,
            kind,
            value: self.block.bytes_at(entry.value.clone()),
        })
    }

    /// Moves to the entry before. Where the cursor does not stand on one, it says so and stays.
    #[inline]
    pub fn advance(&mut self) -> Step {
        if self.step != Step::Ready {
            return self.step;
        }
        self.interval.entries.pop();
        if self.interval.entries.is_empty() {
            return self.move_on();
        }
        Step::Ready
    }

    /// Decodes the interval before, or asks for the block before.
    fn move_on(&mut self) -> Step {
        while let Some(number) = self.intervals_left.checked_sub(1) {
            self.intervals_left = number;
            if let Err(cause) = self.take_interval(number) {
                let error = damaged(
                    DOING.into(),
                    self.table.path(),
                    self.block_handle().offset(),
                    &FormatError::Malformed(cause),
                );
                self.wanted = Wanted::Failed(error);
                return self.set(Step::NeedBlock);
            }
            if !self.interval.entries.is_empty() {
                return self.set(Step::Ready);
            }
        }
        self.below = None;
        if let Some(number) = self.block_number.checked_sub(1) {
            return self.go_to_block(number);
        }
        match self.partition_number.checked_sub(1) {
            Some(number) => self.go_to_partition(number),
            None => self.end(),
        }
    }

    fn take_interval(&mut self, number: usize) -> std::result::Result<(), &'static str> {
        self.interval.decode(&self.block, number)?;
        let last = self.interval.entries.len().checked_sub(1);
        let last = last.and_then(|last| self.interval.internal_key(last));
        let bound = self
            .bound
            .as_ref()
            .map(|(key, trailer)| (key.as_slice(), *trailer));
        if !ascends(last, bound) {
            return Err("the entries are not in order");
        }
        if let Some((key, trailer)) = self.interval.internal_key(0) {
            let (bound, bound_trailer) = self.bound.get_or_insert_default();
            bound.clear();
            bound.extend_from_slice(key);
            *bound_trailer = trailer;
        }
        if let Some(counted) = &mut self.counted {
            *counted += self.interval.entries.len() as u64;
        }
        if let Some(below) = &self.below {
            self.interval.keep_below(below);
        }
        Ok(())
    }

    fn end(&mut self) -> Step {
        let expected = self.table.properties().entries;
        match self.counted {
            Some(counted) if counted != expected => {
                let cause = format!("the table holds {counted} entries, expected {expected}");
                let error = Error::corruption(DOING, self.table.path(), None, cause);
                self.wanted = Wanted::Failed(error);
                self.set(Step::NeedBlock)
            }
            _ => self.set(Step::End),
        }
    }

    fn go_to_partition(&mut self, number: usize) -> Step {
        self.partition_number = number;
        match self.table.pinned_partition(number) {
            Some(partition) => self.enter_partition(partition),
            None => {
                self.wanted = Wanted::Partition;
                self.set(Step::NeedBlock)
            }
        }
    }

    fn enter_partition(&mut self, partition: Rc<Partition>) -> Step {
        let number = match &self.below {
            Some(key) => partition.block_towards(key),
            None => partition.blocks().len() - 1,
        };
        self.partition = Some(partition);
        self.go_to_block(number)
    }

    fn go_to_block(&mut self, number: usize) -> Step {
        self.block_number = number;
        self.wanted = Wanted::Block;
        self.set(Step::NeedBlock)
    }

    fn blocks(&self) -> &[BlockHandle] {
        let partition = self.partition.as_ref();
        partition
            .expect("a block is gone to in a partition at hand")
            .blocks()
    }

    fn block_handle(&self) -> BlockHandle {
        self.blocks()[self.block_number]
    }

    fn enter_block(&mut self, block: Rc<Block>) {
        self.intervals_left = match &self.below {
            Some(key) => block.restarts_below(key),
            None => block.restarts(),
        };
        self.block = block;
        self.move_on();
    }

    /// Brings what the cursor needs and moves on: afterwards it stands on an entry or is at the end. Blocks are taken from
    /// the cache, and those read are left there; without one the cursor reads past it. Where nothing is needed it does
    /// nothing.
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

    /// What [`BackCursor::load`] does, as far as the cache has it or a read ahead has brought it: `NeedBlock` where the
    /// device must be asked, and for a failure.
    pub(crate) fn load_resident(&mut self, cache: &BlockCache) -> Step {
        while self.step == Step::NeedBlock && (self.take_cached(cache) || self.take_ahead(Some(cache))) {}
        self.step
    }

    /// Takes the next step from the cache; `false` where what it needs is not there.
    fn take_cached(&mut self, cache: &BlockCache) -> bool {
        let table = self.table.identity().number;
        match &self.wanted {
            Wanted::Failed(_) => false,
            Wanted::Partition => {
                let page = self.table.partition_handle(self.partition_number).page;
                let Some(Cached::Partition(partition)) = cache.get(table, page) else {
                    return false;
                };
                self.enter_partition(partition);
                true
            }
            Wanted::Block => {
                let Some(Cached::Block(block)) = cache.get(table, self.block_handle().page) else {
                    return false;
                };
                self.enter_block(block);
                true
            }
        }
    }

    /// Takes the wanted block from what was read and leaves it in the cache; `false` where it is not there, or failed.
    fn take_ahead(&mut self, cache: Option<&BlockCache>) -> bool {
        if !matches!(self.wanted, Wanted::Block) {
            return false;
        }
        let handle = self.block_handle();
        let Some(bytes) = self.window.as_ref().and_then(|window| window.block(handle)) else {
            return false;
        };
        match self.table.parse_block(bytes, handle) {
            Ok(block) => {
                if let Some(cache) = cache {
                    let number = self.table.identity().number;
                    cache.insert(number, handle.page, Cached::Block(Rc::clone(&block)));
                }
                self.enter_block(block);
                true
            }
            Err(error) => {
                self.wanted = Wanted::Failed(error);
                false
            }
        }
    }

    async fn load_once(&mut self, cache: Option<&BlockCache>) -> Result<()> {
        if cache.is_some_and(|cache| self.take_cached(cache)) || self.take_ahead(cache) {
            return Ok(());
        }
        match &self.wanted {
            Wanted::Failed(error) => return Err(error.clone()),
            Wanted::Partition => {
                let handle = self.table.partition_handle(self.partition_number);
                let partition = match cache {
                    Some(cache) => self.table.load_partition(handle, cache).await?,
                    None => self.table.read_partition(handle).await?,
                };
                self.enter_partition(partition);
            }
            // The next round takes it from what was read.
            Wanted::Block => self.read_back().await?,
        }
        Ok(())
    }

    /// Reads the wanted block, and as many whole blocks of its partition before it as the habit grown so far says.
    async fn read_back(&mut self) -> Result<()> {
        self.window = None;
        let blocks = &self.blocks()[..=self.block_number];
        let last = self.block_handle();
        let end = last.offset() + last.bytes() as u64;
        let wanted_bytes = self.next_read_bytes.max(last.bytes());
        let first = blocks.partition_point(|block| end - block.offset() > wanted_bytes as u64);
        let start = blocks[first].offset();
        let bytes = usize::try_from(end - start).expect("at most what was wanted");
        self.next_read_bytes = (wanted_bytes * 2).min(SCAN_BYTES_MAX);
        let (file, path) = (self.table.file(), self.table.path());
        self.window = Some(read_exactly(file, path, DOING, start, bytes).await?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sstable::entries::{EntriesWriter, common_prefix};
    use crate::sstable::format::BlockType;
    use crate::types::{Kind, pack_trailer};

    fn block_of(interval: usize, keys: &[(&str, u64)]) -> Block {
        let mut writer = EntriesWriter::new(interval);
        let mut previous = "";
        for (key, sequence) in keys {
            let shared = writer.shared(common_prefix(previous.as_bytes(), key.as_bytes()));
            let trailer = pack_trailer(*sequence, Kind::Put);
            writer.push(shared, key.as_bytes(), trailer, b"v");
            previous = key;
        }
        let mut payload = Vec::new();
        let restarts = writer.finish_into(&mut payload);
        Block::from_payload(payload, restarts, BlockType::Data).unwrap()
    }

    #[test]
    fn an_interval_decodes_to_its_entries_and_keeps_those_below_a_key() {
        let keys = [("", 1), ("aa", 2), ("aab", 9), ("aab", 3), ("aac", 1), ("b", 4)];
        let block = block_of(4, &keys);
        let mut interval = Interval::default();
        for (number, expected) in [(1, &keys[4..]), (0, &keys[..4])] {
            interval.decode(&block, number).unwrap();
            let found: Vec<_> = (0..interval.entries.len())
                .map(|index| interval.internal_key(index).unwrap())
                .collect();
            let trailer = |sequence| pack_trailer(sequence, Kind::Put);
            let expected: Vec<_> = expected
                .iter()
                .map(|&(key, sequence)| (key.as_bytes(), trailer(sequence)))
                .collect();
            assert_eq!(found, expected);
        }
        interval.keep_below(b"aab");
        assert_eq!(interval.entries.len(), 2);
    }

    #[test]
    fn an_interval_out_of_order_or_over_its_length_is_refused() {
        let decode = |block: &Block| Interval::default().decode(block, 0);
        let out_of_order = [("b", 1), ("a", 1)];
        let equal = [("a", 1), ("a", 1)];
        let oldest_first = [("a", 1), ("a", 2)];
        for keys in [out_of_order, equal, oldest_first] {
            assert_eq!(decode(&block_of(4, &keys)), Err("the entries are not in order"));
        }
        let many: Vec<_> = (1..=RESTART_INTERVAL as u64 + 1)
            .rev()
            .map(|n| ("k", n))
            .collect();
        assert_eq!(decode(&block_of(RESTART_INTERVAL, &many)), Ok(()));
        assert!(decode(&block_of(2 * RESTART_INTERVAL, &many)).is_err());
    }
}
