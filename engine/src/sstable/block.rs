//! A block in memory: verified, decompressed, and its structure checked once, so that lookups need no error path.
//!
//! A point lookup begins behind the last anchor that is before it (`anchors.rs`; or at a restart point, where no anchor
//! helps) and is a walk from there that assembles no key: it carries how many bytes of the wanted key the previous entry matched. An entry that shares more
//! than that with its predecessor is on the same side of the wanted key and is skipped unread.

use std::cmp::Ordering;
use std::ops::Range;

use super::anchors::Anchors;
use super::entries::{self, RawEntry, common_prefix, order_after};
use super::format::{BlockHandle, BlockType, FormatError, Seal, unseal_block};
use crate::types::{EXPIRY_BYTES, Entry, MAX_KEY_BYTES, MAX_VALUE_BYTES, Sequence, unpack_trailer};

/// The longest value of any entry, in bytes.
const MAX_STORED_BYTES: usize = MAX_VALUE_BYTES + EXPIRY_BYTES;

/// The trailer at which a read at `at` starts: entries of the key with a smaller or equal one are visible.
#[inline]
pub(crate) fn bound_of(at: Sequence) -> u64 {
    (at << 8) | 0xff
}

/// The entries of one data or index block.
#[derive(Debug, Default)]
pub struct Block {
    payload: Vec<u8>,
    entries_end: usize,
    restarts: usize,
    pages: u32,
    /// None while a block is only walked through, as by a compaction.
    anchors: Anchors,
}

impl Block {
    /// Checks and takes the block that fills `bytes` and lies at `handle` of the table with this seal.
    pub(crate) fn open(
        bytes: &[u8],
        seal: Seal,
        handle: BlockHandle,
        block_type: BlockType,
    ) -> Result<Self, FormatError> {
        let mut block = Self::default();
        block.reopen(bytes, seal, handle, block_type)?;
        if block_type == BlockType::Data {
            block.anchors = block.collect_anchors();
        }
        Ok(block)
    }

    fn collect_anchors(&self) -> Anchors {
        let mut position = 0;
        Anchors::build(std::iter::from_fn(|| {
            let (start, entry) = (position, self.entry_at(position)?);
            position = entry.next();
            Some((start, position, entry.shared, &self.payload[entry.delta]))
        }))
    }

    /// The same into this block, reusing its memory, for a walk and not for lookups. After an error it holds nothing.
    pub(crate) fn reopen(
        &mut self,
        bytes: &[u8],
        seal: Seal,
        handle: BlockHandle,
        block_type: BlockType,
    ) -> Result<(), FormatError> {
        let unsealed = unseal_block(bytes, seal, handle.offset(), block_type)?;
        let unpacked = unsealed.unpack_into(&mut self.payload);
        self.anchors = Anchors::default();
        self.pages = handle.pages;
        let checked = unpacked.and_then(|()| self.check(unsealed.count, block_type == BlockType::Data));
        if checked.is_err() {
            *self = Self::default();
        }
        checked
    }

    #[cfg(test)]
    pub(crate) fn from_payload(
        payload: Vec<u8>,
        restarts: u32,
        block_type: BlockType,
    ) -> Result<Self, FormatError> {
        let mut block = Self {
            payload,
            pages: 1,
            ..Self::default()
        };
        block.check(restarts, block_type == BlockType::Data)?;
        block.anchors = block.collect_anchors();
        Ok(block)
    }

    /// Walks all entries once. What holds afterwards: every restart offset starts an entry that shares nothing, the
    /// entries fill their part of the payload exactly, no key shares more than its predecessor has, and every length
    /// and kind is one that this version knows.
    fn check(&mut self, restarts: u32, sparse: bool) -> Result<(), FormatError> {
        const BAD_RESTARTS: FormatError = FormatError::Malformed("the block's restart points are impossible");
        const BAD_ENTRY: FormatError = FormatError::Malformed("an entry of the block is malformed");
        let restarts = restarts as usize;
        let array_bytes = restarts.checked_mul(4).ok_or(BAD_RESTARTS)?;
        self.entries_end = self.payload.len().checked_sub(array_bytes).ok_or(BAD_RESTARTS)?;
        self.restarts = restarts;
        let (mut position, mut key_bytes, mut met) = (0, 0, 0);
        while position < self.entries_end {
            let entry = self.entry_at(position).ok_or(BAD_ENTRY)?;
            if met < restarts && self.restart(met) == position {
                met += 1;
                key_bytes = 0;
            } else if position == 0 || !sparse {
                return Err(BAD_RESTARTS);
            }
            if entry.shared > key_bytes {
                return Err(BAD_ENTRY);
            }
            key_bytes = entry.shared + entry.delta.len();
            let (_, kind) = unpack_trailer(entry.trailer).ok_or(BAD_ENTRY)?;
            // What an index says of a key is a place, whatever the kind of the key's entry.
            let admitted = !sparse || kind.admits(entry.value.len());
            if !admitted || key_bytes > MAX_KEY_BYTES || entry.value.len() > MAX_STORED_BYTES {
                return Err(BAD_ENTRY);
            }
            position = entry.next();
        }
        if met != restarts || restarts == 0 {
            return Err(BAD_RESTARTS);
        }
        Ok(())
    }

    /// The newest entry of `key` that a read at `at` sees. `None` where this block holds none.
    ///
    /// A tombstone is an entry. The key of the result borrows from the argument.
    pub fn get<'a>(&'a self, key: &'a [u8], at: Sequence) -> Option<Entry<'a>> {
        let bound = bound_of(at);
        // `matched`: how many bytes of `key` the previous entry matched, that entry being before the one sought.
        let anchored = self.anchors.start(key);
        let (mut position, mut matched) = anchored.unwrap_or_else(|| (self.seek_restart(key, bound), 0));
        loop {
            let entry = self.entry_at(position)?;
            if entry.shared <= matched {
                let delta = &self.payload[entry.delta.clone()];
                let wanted = &key[entry.shared..];
                let common = common_prefix(delta, wanted);
                match order_after(common, delta, wanted) {
                    Ordering::Less => {}
                    Ordering::Equal if entry.trailer > bound => {}
                    Ordering::Equal => return Some(self.found(key, &entry)),
                    Ordering::Greater => return None,
                }
                matched = entry.shared + common;
            }
            position = entry.next();
        }
    }

    fn found<'a>(&'a self, key: &'a [u8], entry: &RawEntry) -> Entry<'a> {
        let (sequence, kind) =
            unpack_trailer(entry.trailer).expect("every kind was checked when the block was opened");
        Entry {
            key,
            sequence,
            kind,
            value: &self.payload[entry.value.clone()],
        }
    }

    /// Pages that the block takes on disk.
    pub(crate) fn pages(&self) -> u32 {
        self.pages
    }

    /// Bytes of memory held.
    pub(crate) fn held_bytes(&self) -> usize {
        self.payload.capacity() + self.anchors.held_bytes() + size_of::<Self>()
    }

    /// How many restart points there are; in an index, how many entries.
    pub(crate) fn restarts(&self) -> usize {
        self.restarts
    }

    /// Where the entry of restart point `index` starts.
    #[inline]
    pub(crate) fn restart(&self, index: usize) -> usize {
        let at = self.entries_end + 4 * index;
        let bytes = self.payload[at..]
            .first_chunk::<4>()
            .expect("the array's length was checked");
        u32::from_le_bytes(*bytes) as usize
    }

    /// The entry that starts at `position`; `None` at the end.
    #[inline]
    pub(crate) fn entry_at(&self, position: usize) -> Option<RawEntry> {
        entries::decode(&self.payload[..self.entries_end], position)
    }

    /// The bytes at a place that a [`RawEntry`] of this block names.
    #[inline]
    pub(crate) fn bytes_at(&self, range: Range<usize>) -> &[u8] {
        &self.payload[range]
    }

    /// Whether the internal key of restart point `index` comes before (`key`, `bound`).
    #[inline]
    fn restart_is_before(&self, index: usize, key: &[u8], bound: u64) -> bool {
        let entry = self
            .entry_at(self.restart(index))
            .expect("restart points were checked when the block was opened");
        match self.payload[entry.delta.clone()].cmp(key) {
            Ordering::Less => true,
            Ordering::Equal => entry.trailer > bound,
            Ordering::Greater => false,
        }
    }

    /// The first restart point within `range` that is not before (`key`, `bound`); the range's end where all are.
    #[inline]
    pub(crate) fn search_restarts_in(&self, range: Range<usize>, key: &[u8], bound: u64) -> usize {
        let (mut low, mut high) = (range.start, range.end);
        while low < high {
            let middle = low.midpoint(high);
            if self.restart_is_before(middle, key, bound) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// How many restart points have keys below `key`: the last of them is where a walk meets the last such entry.
    pub(crate) fn restarts_below(&self, key: &[u8]) -> usize {
        // No entry of `key` comes before its newest possible version.
        self.search_restarts_in(0..self.restarts, key, u64::MAX)
    }

    /// Where a walk must start to meet the first entry that is not before (`key`, `bound`): at the last restart point
    /// that is before it, or else at the first.
    #[inline]
    pub(crate) fn seek_restart(&self, key: &[u8], bound: u64) -> usize {
        // Blocks of larger values have one restart point, and nothing to search.
        if self.restarts <= 1 {
            return 0;
        }
        match self.search_restarts_in(0..self.restarts, key, bound) {
            0 => 0,
            after => self.restart(after - 1),
        }
    }
}
