//! The two-level index: which partition, and within it which data block, answers for a key.
//!
//! ```text
//! top index  entry per partition   last internal key -> page varint | filter pages varint | index pages varint
//! partition  filter block (none at 0 bits a key), then index block, adjacent: one device read brings both
//! index      entry per data block  last internal key -> page varint | pages varint
//! ```
//!
//! An entry carries the LAST internal key of what it stands for, so the first entry that is not before (key, at) names
//! the only block that can hold the answer, even where the versions of one key span blocks or partitions. Between
//! differing user keys the last key may be replaced by a shorter one that still separates both sides. A partition's
//! filter covers exactly the keys of its blocks; a key whose versions span partitions is in both filters.

use std::rc::Rc;

use super::block::Block;
use super::entries::{EntriesWriter, common_prefix};
use super::filter::Filter;
use super::format::{
    BlockHandle, BlockParts, BlockType, Compression, FormatError, Seal, padded_pages, seal_block,
    unseal_block,
};
use super::search::{Handle, SearchIndex};
use crate::codec::varint;
use crate::types::{MAX_SEQUENCE, PAGE_BYTES, Sequence};

/// A short internal key that is not before (`last`, `trailer`) and before every entry of `next`.
pub(crate) fn separator(last: &[u8], trailer: u64, next: Option<&[u8]>) -> (Vec<u8>, u64) {
    let unchanged = || (last.to_vec(), trailer);
    let Some(next) = next else { return unchanged() };
    assert!(last <= next, "blocks are in key order");
    let common = common_prefix(last, next);
    // One more byte of `next` than both share is above `last`. It must stay below `next`, and be worth it.
    if common + 1 < next.len() && common + 1 < last.len() {
        return (next[..=common].to_vec(), 0);
    }
    unchanged()
}

/// A filled partition, waiting for its place in the file.
#[derive(Debug)]
pub(crate) struct FilledPartition {
    last_key: Vec<u8>,
    last_trailer: u64,
    index: Vec<u8>,
    blocks: u32,
    filter: Option<Filter>,
}

/// Collects index entries and key hashes into partitions.
#[derive(Debug)]
pub(crate) struct IndexWriter {
    room_bytes: usize,
    filter_bits_per_key: u32,
    index: EntriesWriter,
    hashes: Vec<u64>,
    last: (Vec<u8>, u64),
    filled: Vec<FilledPartition>,
    held_bytes: usize,
}

impl IndexWriter {
    pub(crate) fn new(room_bytes: usize, filter_bits_per_key: u32) -> Self {
        Self {
            room_bytes,
            filter_bits_per_key,
            index: EntriesWriter::new(1),
            hashes: Vec::new(),
            last: (Vec::new(), 0),
            filled: Vec::new(),
            held_bytes: 0,
        }
    }

    /// Adds the data block at `handle`, whose entries have the given key hashes and lie at or before `last`.
    pub(crate) fn add(
        &mut self,
        last: (Vec<u8>, u64),
        handle: BlockHandle,
        hashes: impl Iterator<Item = u64>,
    ) {
        let mut value = Vec::with_capacity(2 * varint::MAX_BYTES);
        varint::put(&mut value, u64::from(handle.page));
        varint::put(&mut value, u64::from(handle.pages));
        if !self.index.is_empty() && self.index.bytes_with(0, last.0.len(), value.len()) > self.room_bytes {
            self.close_partition();
        }
        self.index.push(0, &last.0, last.1, &value);
        self.last = last;
        for hash in hashes {
            // Versions of one key follow each other, and count once.
            if self.hashes.last() != Some(&hash) {
                self.hashes.push(hash);
            }
        }
    }

    fn close_partition(&mut self) {
        let mut index = Vec::new();
        let blocks = self.index.finish_into(&mut index);
        let bits = self.filter_bits_per_key;
        let filter = (bits > 0).then(|| Filter::build(&self.hashes, bits));
        self.hashes.clear();
        self.held_bytes += index.len() + filter.as_ref().map_or(0, Filter::held_bytes);
        let (last_key, last_trailer) = std::mem::take(&mut self.last);
        self.filled.push(FilledPartition {
            last_key,
            last_trailer,
            index,
            blocks,
            filter,
        });
    }

    /// About how many bytes the partitions will take on disk.
    pub(crate) fn estimated_bytes(&self) -> usize {
        let filter = self.hashes.len() * self.filter_bits_per_key as usize / 8;
        self.held_bytes + self.index.bytes() + filter + 2 * PAGE_BYTES * (self.filled.len() + 1)
    }

    /// Closes the last partition and hands all of them over, in key order.
    pub(crate) fn finish(&mut self) -> Vec<FilledPartition> {
        if !self.index.is_empty() {
            self.close_partition();
        }
        std::mem::take(&mut self.filled)
    }
}

impl FilledPartition {
    /// Appends the partition to `out` for `page` of the file and enters it in the top index. Returns its pages.
    pub(crate) fn seal_into(&self, out: &mut Vec<u8>, seal: Seal, page: u32, top: &mut EntriesWriter) -> u32 {
        let start = out.len();
        let offset = |out: &Vec<u8>| u64::from(page) * PAGE_BYTES as u64 + (out.len() - start) as u64;
        let mut filter_pages = 0;
        if let Some(filter) = &self.filter {
            let payload = filter.encode();
            let parts = raw_parts(BlockType::Filter, &payload, filter.lines());
            let at = offset(out);
            seal_block(out, seal, at, parts);
            filter_pages = padded_pages(payload.len());
        }
        let at = offset(out);
        seal_block(
            out,
            seal,
            at,
            raw_parts(BlockType::Index, &self.index, self.blocks),
        );
        let mut value = Vec::with_capacity(3 * varint::MAX_BYTES);
        varint::put(&mut value, u64::from(page));
        varint::put(&mut value, filter_pages as u64);
        varint::put(&mut value, padded_pages(self.index.len()) as u64);
        top.push(0, &self.last_key, self.last_trailer, &value);
        u32::try_from((out.len() - start) / PAGE_BYTES).expect("a table is far below 16 TiB")
    }
}

/// An uncompressed block of this payload.
pub(crate) fn raw_parts(block_type: BlockType, payload: &[u8], count: u32) -> BlockParts<'_> {
    BlockParts {
        block_type,
        compression: Compression::None,
        stored: payload,
        raw_bytes: payload.len(),
        count,
    }
}

/// Where a partition lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionHandle {
    pub(crate) page: u32,
    pub(crate) filter_pages: u32,
    pub(crate) index_pages: u32,
}

impl PartitionHandle {
    /// Both blocks of the partition as one place, for one read.
    pub(crate) fn whole(self) -> BlockHandle {
        BlockHandle {
            page: self.page,
            pages: self.filter_pages + self.index_pages,
        }
    }
}

impl Handle for PartitionHandle {
    fn decode(mut value: &[u8]) -> Option<Self> {
        let mut take = || u32::try_from(varint::take(&mut value)?).ok();
        let handle = Self {
            page: take()?,
            filter_pages: take()?,
            index_pages: take()?,
        };
        let pages = handle.filter_pages.checked_add(handle.index_pages)?;
        handle.page.checked_add(pages)?;
        (value.is_empty() && handle.index_pages > 0).then_some(handle)
    }

    fn page(self) -> u32 {
        self.page
    }

    fn end_page(self) -> u32 {
        self.page + self.filter_pages + self.index_pages
    }
}

impl Handle for BlockHandle {
    fn decode(mut value: &[u8]) -> Option<Self> {
        let mut take = || u32::try_from(varint::take(&mut value)?).ok();
        let handle = Self {
            page: take()?,
            pages: take()?,
        };
        handle.page.checked_add(handle.pages)?;
        (value.is_empty() && handle.pages > 0).then_some(handle)
    }

    fn page(self) -> u32 {
        self.page
    }

    fn end_page(self) -> u32 {
        self.page + self.pages
    }
}

/// The top index in memory.
pub(crate) type TopIndex = SearchIndex<PartitionHandle>;

/// Takes the top index, whose partitions must fill the pages from `first_page` to `end_page`.
pub(crate) fn open_top_index(block: Block, first_page: u32, end_page: u32) -> Result<TopIndex, FormatError> {
    let top = TopIndex::new(block)?;
    let (first, last) = (top.handles().first(), top.handles().last());
    if first.map(|h| h.page) != Some(first_page) || last.map(|h| h.end_page()) != Some(end_page) {
        return Err(FormatError::Malformed(
            "the partitions do not fill their part of the file",
        ));
    }
    Ok(top)
}

/// One partition in memory: the filter of its keys, and the index of its blocks.
#[derive(Debug)]
pub struct Partition {
    filter: Option<Filter>,
    index: SearchIndex<BlockHandle>,
}

impl Partition {
    /// Checks and takes both blocks from `bytes`, which lie at `handle`; their data lies below page `data_pages`.
    /// An error comes with the offset in the file of the block at fault.
    pub(crate) fn open(
        bytes: &[u8],
        seal: Seal,
        handle: PartitionHandle,
        data_pages: u32,
    ) -> Result<Rc<Self>, (u64, FormatError)> {
        assert_eq!(
            bytes.len(),
            handle.whole().bytes(),
            "the whole partition was read"
        );
        let (filter_bytes, index_bytes) = bytes.split_at(handle.filter_pages as usize * PAGE_BYTES);
        let offset = handle.whole().offset();
        let filter = match filter_bytes {
            [] => None,
            bytes => Some(open_filter(bytes, seal, offset).map_err(|error| (offset, error))?),
        };
        let at = BlockHandle {
            page: handle.page + handle.filter_pages,
            pages: handle.index_pages,
        };
        let index = open_index(index_bytes, seal, at, data_pages).map_err(|error| (at.offset(), error))?;
        Ok(Rc::new(Self { filter, index }))
    }

    /// Whether the filter lets this key hash pass.
    #[inline]
    pub(crate) fn may_contain(&self, hash: u64) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter.may_contain(hash))
    }

    /// The block that answers for (`key`, `at`); `None` where the partition ends before it.
    #[inline]
    pub(crate) fn search(&self, key: &[u8], at: Sequence) -> Option<BlockHandle> {
        self.index.search(key, at).map(|number| self.index.handle(number))
    }

    /// The data blocks of the partition, in the order of the file; at least one.
    pub(crate) fn blocks(&self) -> &[BlockHandle] {
        self.index.handles()
    }

    /// The number of the block in which a walk backwards meets the last entry with a key below `key`, or else turns to the
    /// one before.
    pub(crate) fn block_towards(&self, key: &[u8]) -> usize {
        self.index
            .search(key, MAX_SEQUENCE)
            .unwrap_or(self.blocks().len() - 1)
    }

    /// Bytes of memory held.
    pub(crate) fn held_bytes(&self) -> usize {
        self.index.held_bytes() + self.filter.as_ref().map_or(0, Filter::held_bytes) + size_of::<Self>()
    }
}

fn open_filter(bytes: &[u8], seal: Seal, offset: u64) -> Result<Filter, FormatError> {
    let unsealed = unseal_block(bytes, seal, offset, BlockType::Filter)?;
    let mut payload = Vec::new();
    unsealed.unpack_into(&mut payload)?;
    Filter::decode(&payload, unsealed.count)
}

fn open_index(
    bytes: &[u8],
    seal: Seal,
    at: BlockHandle,
    data_pages: u32,
) -> Result<SearchIndex<BlockHandle>, FormatError> {
    let index = SearchIndex::<BlockHandle>::new(Block::open(bytes, seal, at, BlockType::Index)?)?;
    // Handles follow each other, so the last is the farthest.
    if index
        .handles()
        .last()
        .is_none_or(|last| last.end_page() > data_pages)
    {
        return Err(FormatError::Malformed("the index points past the data"));
    }
    Ok(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_separator_separates_and_is_no_longer_than_the_last_key() {
        let keys: [&[u8]; 9] = [
            b"",
            b"a",
            b"aa",
            b"aaa",
            b"ab",
            b"abc",
            b"abcdef",
            b"abd",
            b"b\xff\xff",
        ];
        for (i, last) in keys.iter().enumerate() {
            for next in &keys[i..] {
                let (key, trailer) = separator(last, 77, Some(next));
                assert!(key.len() <= last.len());
                let not_before_last = key.as_slice() > *last || (key.as_slice() == *last && trailer == 77);
                let before_next = key.as_slice() < *next || last == next || key.as_slice() == *last;
                assert!(not_before_last && before_next, "{last:?} {next:?} -> {key:?}");
            }
            assert_eq!(separator(last, 77, None), (last.to_vec(), 77));
        }
        assert_eq!(separator(b"alpha-1", 9, Some(b"beta-1")), (b"b".to_vec(), 0));
    }
}
