//! The slots of one tree node: record addresses in internal order, each beside its key's head.
//!
//! A *head* is eight bytes of the key as a big-endian integer, so that one integer comparison decides nearly every
//! step of a search and the record itself, a cache miss away, is read only on a tie (the "poor man's normalized keys"
//! of Graefe, *Modern B-Tree Techniques*, 2011, section 3.4; "heads" in LeanStore). Keys with a long common prefix
//! would all tie, so a node skips the bytes that all its keys share and takes the heads behind them. The skip is what
//! the keys present share, not what their fences do: so the root and the rightmost nodes have one too. A key that
//! does not share the prefix makes the node shorten its skip and read its heads anew.
//!
//! Invariants: `heads` and `records` are in step and in internal order; every key in the node starts with the
//! `skip` bytes that the first one starts with, and each head holds the (up to) 8 bytes after those, zero-padded. A
//! lower head is a lower key; equal heads say nothing.

use std::cmp::Ordering;

use super::arena::{Address, Arena, Target};

/// Slots of a node.
pub(super) const SLOTS: usize = 64;

/// Heads of one cache line.
const LINE_HEADS: usize = 8;

/// Skips are multiples of this many bytes: a node whose range moves a little need not read its heads anew each time,
/// and random keys, told apart by their first bytes, have no prefix to compare at all.
const SKIP_STEP_BYTES: usize = 4;

/// A prefix up to this long is kept in the node, so that comparing with it costs no cache miss.
const PREFIX_BYTES: usize = 32;

/// Inserts side by side, in one direction, that make a run. A node splits unevenly only in a run, and a split ends it,
/// so that no order of inserts can leave a node behind for every few records.
const RUN_INSERTS: i16 = 16;

/// Up to [`SLOTS`] record addresses, with their heads. A node starts with a cache line, and with these.
#[derive(Debug, Clone)]
#[repr(C)]
pub(super) struct Slots {
    heads: [u64; SLOTS],
    records: [Address; SLOTS],
    len: u16,
    /// Where the last insert went.
    last_insert: u16,
    /// How many inserts up to the last went each just above the one before; negative, just below.
    run: i16,
    /// Bytes at the start of every key here that are the same, and not in the heads.
    skip: u32,
    /// Those bytes, if they fit; else they are read from the first record.
    prefix: [u8; PREFIX_BYTES],
}

impl Default for Slots {
    fn default() -> Self {
        Self {
            heads: [0; SLOTS],
            records: [Address::default(); SLOTS],
            len: 0,
            last_insert: 0,
            run: 0,
            skip: 0,
            prefix: [0; PREFIX_BYTES],
        }
    }
}

/// The (up to) 8 bytes of `key` after the first `skip`, as an integer that sorts like them.
fn head(key: &[u8], skip: usize) -> u64 {
    let rest = key.get(skip..).unwrap_or(&[]);
    if let Some(bytes) = rest.first_chunk() {
        return u64::from_be_bytes(*bytes);
    }
    let mut bytes = [0; 8];
    bytes[..rest.len()].copy_from_slice(rest);
    u64::from_be_bytes(bytes)
}

/// The skip for keys that share what `a` and `b` do.
fn shared_skip(a: &[u8], b: &[u8]) -> usize {
    let shared = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    shared - shared % SKIP_STEP_BYTES
}

/// How many of the ascending `heads` are lower than `head`.
///
/// A binary search waits for each of its cache misses before it knows the next. Here the last heads of all lines are
/// compared, which the processor fetches at once; then the heads of the one line that is left.
fn lower_than(heads: &[u64], head: u64) -> usize {
    let lines = heads.chunks_exact(LINE_HEADS);
    let below = lines.filter(|line| line[LINE_HEADS - 1] < head).count() * LINE_HEADS;
    let line = heads[below..].iter().take(LINE_HEADS);
    below + line.filter(|&&h| h < head).count()
}

impl Slots {
    pub(super) fn len(&self) -> usize {
        usize::from(self.len)
    }

    pub(super) fn is_full(&self) -> bool {
        self.len() == SLOTS
    }

    /// The record in slot `index`; `None` behind the last.
    pub(super) fn record(&self, index: usize) -> Option<Address> {
        self.records[..self.len()].get(index).copied()
    }

    /// The record in slot `index` if it may have this key; `None` is certain and costs no cache miss.
    pub(super) fn record_if(&self, index: usize, key: &[u8]) -> Option<Address> {
        (self.heads[index] == head(key, self.skip())).then(|| self.records[index])
    }

    /// The first record. The node is not empty.
    pub(super) fn least(&self) -> Address {
        assert!(self.len > 0, "a split leaves a record on either side");
        self.records[0]
    }

    fn skip(&self) -> usize {
        self.skip as usize
    }

    /// The bytes that all keys here start with and that the heads leave out.
    fn prefix<'a>(&'a self, arena: &'a Arena) -> &'a [u8] {
        let skip = self.skip();
        self.prefix
            .get(..skip)
            .unwrap_or_else(|| &arena.key(self.records[0])[..skip])
    }

    /// How many records here are at or before `target` in internal order.
    pub(super) fn rank(&self, arena: &Arena, target: Target<'_>) -> usize {
        if self.skip > 0 {
            let start = &target.key[..target.key.len().min(self.skip())];
            match start.cmp(self.prefix(arena)) {
                Ordering::Less => return 0,
                Ordering::Greater => return self.len(),
                Ordering::Equal => {}
            }
        }
        let head = head(target.key, self.skip());
        let heads = &self.heads[..self.len()];
        let low = lower_than(heads, head);
        // Of the versions of one key the newest is first, and a read of the newest as well as an insert goes before it:
        // nearly always the first tie decides, and the other versions, a cache miss each, are not looked at.
        let first_tie = heads.get(low) == Some(&head);
        if first_tie {
            arena.fetch(self.records[low]);
        }
        if !first_tie || arena.order(self.records[low], target) == Ordering::Greater {
            return low;
        }
        let tied = heads[low..].partition_point(|&h| h == head);
        let tied = &self.records[low..low + tied];
        low + tied.partition_point(|&record| arena.order(record, target) != Ordering::Greater)
    }

    /// Puts `record` in slot `index`, moving those behind up by one.
    pub(super) fn insert(&mut self, arena: &Arena, index: usize, record: Address) {
        let len = self.len();
        assert!(index <= len && len < SLOTS, "a full node is split first");
        let key = arena.key(record);
        self.admit(arena, key);
        self.heads.copy_within(index..len, index + 1);
        self.records.copy_within(index..len, index + 1);
        self.heads[index] = head(key, self.skip());
        self.records[index] = record;
        self.len += 1;
        self.run = match self.direction(index) {
            0 => 0,
            1 => self.run.max(0) + 1,
            _ => self.run.min(0) - 1,
        };
        #[expect(clippy::cast_possible_truncation, reason = "below SLOTS")]
        {
            self.last_insert = index as u16;
        }
    }

    /// Puts `record`, which has the same key and sorts at the same place, where another is.
    pub(super) fn replace(&mut self, index: usize, record: Address) {
        assert!(index < self.len(), "there is a record there");
        self.records[index] = record;
    }

    /// 1 if an insert at `index` goes just above the last one, -1 if just below, else 0.
    fn direction(&self, index: usize) -> i16 {
        let last = usize::from(self.last_insert);
        i16::from(index == last + 1) - i16::from(index == last)
    }

    /// Puts `record`, which sorts no higher than the first, in its place.
    pub(super) fn lower_least(&mut self, arena: &Arena, record: Address) {
        let key = arena.key(record);
        self.admit(arena, key);
        self.heads[0] = head(key, self.skip());
        self.records[0] = record;
    }

    /// Shortens the skip to what `key` shares with the keys here.
    fn admit(&mut self, arena: &Arena, key: &[u8]) {
        if self.len == 0 {
            self.set_skip(arena, key, shared_skip(key, key));
        } else if self.skip > 0 && !key.starts_with(self.prefix(arena)) {
            self.set_skip(arena, key, shared_skip(key, self.prefix(arena)));
        }
    }

    /// Where to split this full node for an insert at `index`: there, if it continues a run (a sequential load then
    /// leaves full nodes behind), else in the middle.
    pub(super) fn split_point(&self, index: usize) -> usize {
        let continues = self.run * self.direction(index) >= RUN_INSERTS;
        if continues { index } else { SLOTS / 2 }
    }

    /// Moves the records from slot `at` on into a new node.
    pub(super) fn split_off(&mut self, arena: &Arena, at: usize) -> Self {
        let len = self.len();
        let mut right = Self {
            skip: self.skip,
            prefix: self.prefix,
            ..Self::default()
        };
        right.heads[..len - at].copy_from_slice(&self.heads[at..len]);
        right.records[..len - at].copy_from_slice(&self.records[at..len]);
        #[expect(clippy::cast_possible_truncation, reason = "at most SLOTS")]
        {
            right.len = (len - at) as u16;
            self.len = at as u16;
        }
        self.run = 0;
        self.refit(arena);
        right.refit(arena);
        right
    }

    /// Lengthens the skip to what the keys still here share.
    fn refit(&mut self, arena: &Arena) {
        let records = &self.records[..self.len()];
        let (Some(&first), Some(&last)) = (records.first(), records.last()) else {
            self.skip = 0;
            return;
        };
        let first = arena.key(first);
        self.set_skip(arena, first, shared_skip(first, arena.key(last)));
    }

    /// Skips the first `skip` bytes of `key`, which all keys here share with it.
    fn set_skip(&mut self, arena: &Arena, key: &[u8], skip: usize) {
        if skip == self.skip() {
            return;
        }
        self.skip = u32::try_from(skip).expect("a key's length is bounded far below 4 GiB");
        if let Some(prefix) = self.prefix.get_mut(..skip) {
            prefix.copy_from_slice(&key[..skip]);
        }
        let len = self.len();
        for (slot, &record) in self.heads[..len].iter_mut().zip(&self.records) {
            *slot = head(arena.key(record), skip);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn lines_are_searched_as_the_whole_is(
            mut heads in prop::collection::vec(0_u64..40, 0..=SLOTS),
            head in 0_u64..42,
        ) {
            heads.sort_unstable();
            prop_assert_eq!(lower_than(&heads, head), heads.partition_point(|&h| h < head));
        }
    }
}
