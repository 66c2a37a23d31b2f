//! An index block made ready for searching: which of its entries answers for a key.
//!
//! A binary search over the entries themselves would touch two cache lines a step. So the eight bytes of each key after
//! what all keys share (their *heads*) lie side by side, as numbers that compare like the keys. Only among equal heads
//! are keys compared. The handles are decoded once. Both cost 16 bytes for each 4 KiB that the index covers.

use super::block::{Block, bound_of};
use super::entries::common_prefix;
use super::format::FormatError;
use crate::types::{Sequence, internal_order};

/// A handle in the value of an index entry.
pub(crate) trait Handle: Copy {
    /// Decodes it; `None` where it is malformed or impossible.
    fn decode(value: &[u8]) -> Option<Self>;
    /// Its first page.
    fn page(self) -> u32;
    /// The page after its last; decoding checked that there is one.
    fn end_page(self) -> u32;
}

/// The index. See the [module](self).
#[derive(Debug)]
pub(crate) struct SearchIndex<H> {
    block: Block,
    prefix: Box<[u8]>,
    heads: Box<[u64]>,
    handles: Box<[H]>,
}

/// The first eight bytes, zeros where there are fewer: `a < b` by heads implies `a < b` by bytes.
#[inline]
pub(crate) fn head_of(key: &[u8]) -> u64 {
    match key.first_chunk::<8>() {
        Some(bytes) => u64::from_be_bytes(*bytes),
        None => {
            let mut bytes = [0; 8];
            bytes[..key.len()].copy_from_slice(key);
            u64::from_be_bytes(bytes)
        }
    }
}

impl<H: Handle> SearchIndex<H> {
    /// Checks that every entry is a restart point with a handle, that keys ascend, and that handles follow each other
    /// without a gap.
    pub(crate) fn new(block: Block) -> Result<Self, FormatError> {
        const BAD: FormatError = FormatError::Malformed("the index is malformed");
        let entry = |index: usize| block.entry_at(block.restart(index)).ok_or(BAD);
        let entries = block.restarts();
        let (first, last) = (entry(0)?, entry(entries.checked_sub(1).ok_or(BAD)?)?);
        let (first, last) = (block.bytes_at(first.delta), block.bytes_at(last.delta));
        let prefix: Box<[u8]> = first[..common_prefix(first, last)].into();
        let mut heads = Vec::with_capacity(entries);
        let mut handles: Vec<H> = Vec::with_capacity(entries);
        let mut previous: Option<(&[u8], u64)> = None;
        for index in 0..entries {
            let entry = entry(index)?;
            let key = block.bytes_at(entry.delta);
            let handle = H::decode(block.bytes_at(entry.value)).ok_or(BAD)?;
            let ascends =
                previous.is_none_or(|previous| internal_order(previous, (key, entry.trailer)).is_lt());
            let adjacent = handles
                .last()
                .is_none_or(|before| before.end_page() == handle.page());
            if !ascends || !adjacent {
                return Err(BAD);
            }
            previous = Some((key, entry.trailer));
            heads.push(head_of(key.strip_prefix(&*prefix).ok_or(BAD)?));
            handles.push(handle);
        }
        let (heads, handles) = (heads.into(), handles.into());
        Ok(Self {
            block,
            prefix,
            heads,
            handles,
        })
    }

    /// The number of the first entry that is not before (`key`, `at`); `None` where all are.
    #[inline]
    pub(crate) fn search(&self, key: &[u8], at: Sequence) -> Option<usize> {
        let shared = self.prefix.len();
        let found = match key.get(..shared) {
            Some(start) if *start == *self.prefix => self.search_after_prefix(&key[shared..], key, at),
            // Every key has the prefix: all are above the wanted one, or all below it.
            _ if *key < *self.prefix => 0,
            _ => self.heads.len(),
        };
        (found < self.heads.len()).then_some(found)
    }

    #[inline]
    fn search_after_prefix(&self, rest: &[u8], key: &[u8], at: Sequence) -> usize {
        let head = head_of(rest);
        let low = self.heads.partition_point(|&h| h < head);
        if self.heads.get(low) != Some(&head) {
            return low;
        }
        let high = low + self.heads[low..].partition_point(|&h| h == head);
        self.block.search_restarts_in(low..high, key, bound_of(at))
    }

    /// The handle of the entry with this number.
    #[inline]
    pub(crate) fn handle(&self, number: usize) -> H {
        self.handles[number]
    }

    /// All handles, in key order; at least one.
    pub(crate) fn handles(&self) -> &[H] {
        &self.handles
    }

    /// Bytes of memory held.
    pub(crate) fn held_bytes(&self) -> usize {
        let arrays = size_of_val::<[u64]>(&self.heads) + size_of_val::<[H]>(&self.handles);
        self.block.held_bytes() + self.prefix.len() + arrays
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sstable::entries::EntriesWriter;
    use crate::sstable::format::BlockType;
    use crate::types::MAX_SEQUENCE;

    #[derive(Debug, Clone, Copy)]
    struct Numbered(u32);

    impl Handle for Numbered {
        fn decode(value: &[u8]) -> Option<Self> {
            value.try_into().ok().map(|bytes| Self(u32::from_le_bytes(bytes)))
        }
        fn page(self) -> u32 {
            self.0
        }
        fn end_page(self) -> u32 {
            self.0 + 1
        }
    }

    fn index_of(keys: &[(&[u8], u64)]) -> Result<SearchIndex<Numbered>, FormatError> {
        let mut writer = EntriesWriter::new(1);
        for (number, (key, trailer)) in (0_u32..).zip(keys) {
            writer.push(0, key, *trailer, &number.to_le_bytes());
        }
        let mut payload = Vec::new();
        let restarts = writer.finish_into(&mut payload);
        SearchIndex::new(Block::from_payload(payload, restarts, BlockType::Index).unwrap())
    }

    #[test]
    fn a_search_finds_what_a_walk_finds() {
        let long = b"prefix-and-more-that-all-heads-share".as_slice();
        let groups: [&[&[u8]]; 5] = [
            &[
                b"",
                b"\0",
                b"\0\0",
                b"a",
                b"a\0",
                b"aa",
                b"aaaaaaaa",
                b"aaaaaaaa\0",
                b"aaaaaaaab",
                b"b",
            ],
            &[b"k1", b"k2", b"k3"],
            &[b"same"],
            &[b"pre", b"prefix", b"prefix\xff", b"prefiy"],
            &[
                long,
                b"prefix-and-more-that-all-heads-share\0",
                b"prefix-and-more-that-all-heads-shares",
            ],
        ];
        for keys in groups {
            let entries: Vec<(&[u8], u64)> = keys
                .iter()
                .flat_map(|key| [(*key, (9 << 8) | 1), (*key, 4 << 8)])
                .collect();
            let index = index_of(&entries).unwrap();
            let wanted = groups
                .iter()
                .copied()
                .flatten()
                .copied()
                .chain([b"zz".as_slice(), b"pref", b"k"]);
            for key in wanted {
                for at in [0, 3, 4, 5, 9, MAX_SEQUENCE] {
                    let walk = entries
                        .iter()
                        .position(|e| internal_order(*e, (key, bound_of(at))).is_ge());
                    assert_eq!(index.search(key, at), walk, "{key:?} at {at} in {keys:?}");
                }
            }
        }
    }

    #[test]
    fn keys_out_of_order_are_refused() {
        assert!(index_of(&[(b"b", 0), (b"a", 0)]).is_err());
        assert!(index_of(&[(b"a", 0), (b"a", 0)]).is_err());
        assert!(index_of(&[(b"a", 0), (b"a", 256)]).is_err());
    }
}
