//! One page of a scan: entries in key order or in the reverse of it, in few buffers.
//!
//! A page of small entries made of two allocations each would cost more than reading them. So keys and values lie one
//! behind the other in chunks, and a span a piece says where. Merging the pages of several shards moves chunks and orders
//! spans; no byte of an entry is copied again.
//!
//! Invariant: every span lies within its chunk. A chunk never grows beyond what it was made for, which is [`CHUNK_BYTES`]
//! or one entry, so places in it fit 32 bits.

use std::fmt;

use crate::types::Direction;

/// The most that a chunk is made for, unless one entry is longer: below what the allocator would map and unmap each time.
const CHUNK_BYTES: usize = 64 * 1024;
/// A chunk is made for at least so many entries like the one that needs it.
const ENTRIES_AHEAD: usize = 8;

/// One page of a scan.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// Keys and values in the order of the scan; values are empty in a scan of keys only.
    pub entries: Entries,
    /// The last key given, behind which the next page starts: the excluded start of its range, or in a reverse scan its
    /// excluded end. `None` when the range is exhausted.
    pub resume: Option<Vec<u8>>,
}

/// Where an entry lies: its key at `start` of the chunk, its value right behind.
#[derive(Debug, Clone, Copy)]
struct Span {
    chunk: u32,
    start: u32,
    key_bytes: u32,
    value_bytes: u32,
}

/// Keys with their values. See the [module](self).
#[derive(Clone, Default)]
pub struct Entries {
    chunks: Vec<Vec<u8>>,
    spans: Vec<Span>,
    expected: usize,
}

impl Entries {
    /// None yet, and room made for so many as they come.
    pub(crate) fn expecting(entries: usize) -> Self {
        Self {
            expected: entries,
            ..Self::default()
        }
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// The key and value of entry `index`.
    pub fn get(&self, index: usize) -> Option<(&[u8], &[u8])> {
        self.spans.get(index).map(|span| self.at(span))
    }

    /// The last entry.
    pub fn last(&self) -> Option<(&[u8], &[u8])> {
        self.spans.last().map(|span| self.at(span))
    }

    /// Every key with its value, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&[u8], &[u8])> + ExactSizeIterator {
        self.spans.iter().map(|span| self.at(span))
    }

    /// Adds an entry behind the last.
    ///
    /// # Panics
    /// If it is 4 GiB long or longer.
    pub fn push(&mut self, key: &[u8], value: &[u8]) {
        let bytes = key.len() + value.len();
        let fits = self
            .chunks
            .last()
            .is_some_and(|chunk| chunk.capacity() - chunk.len() >= bytes);
        if !fits {
            let ahead = self.expected.saturating_sub(self.len()).max(ENTRIES_AHEAD);
            let room = bytes.saturating_mul(ahead).min(CHUNK_BYTES).max(bytes);
            self.chunks.push(Vec::with_capacity(room));
            self.spans.reserve(ahead.min(CHUNK_BYTES / size_of::<Span>()));
        }
        let number = self.chunks.len() - 1;
        let chunk = &mut self.chunks[number];
        let place = |bytes| u32::try_from(bytes).expect("a chunk is one entry long, or far below 4 GiB");
        self.spans.push(Span {
            chunk: place(number),
            start: place(chunk.len()),
            key_bytes: place(key.len()),
            value_bytes: place(value.len()),
        });
        chunk.extend_from_slice(key);
        chunk.extend_from_slice(value);
    }

    /// Moves the entries of `other` behind the last.
    pub(crate) fn append(&mut self, other: Self) {
        if self.is_empty() {
            *self = other;
            return;
        }
        let before = u32::try_from(self.chunks.len()).expect("a page has few chunks");
        self.chunks.extend(other.chunks);
        self.spans.extend(other.spans.into_iter().map(|span| Span {
            chunk: span.chunk + before,
            ..span
        }));
    }

    /// Orders entries that are a few runs in `direction` by their keys.
    pub(crate) fn sort(&mut self, direction: Direction) {
        let chunks = &self.chunks;
        // The stable sort finds the runs and merges them.
        self.spans
            .sort_by(|a, b| direction.order(key_of(chunks, a).cmp(key_of(chunks, b))));
    }

    /// Keeps the first `entries`.
    pub(crate) fn truncate(&mut self, entries: usize) {
        self.spans.truncate(entries);
    }

    /// How many of the entries, which are in order in `direction`, have keys up to `last`.
    pub(crate) fn count_up_to(&self, last: &[u8], direction: Direction) -> usize {
        self.spans
            .partition_point(|span| direction.order(key_of(&self.chunks, span).cmp(last)).is_le())
    }

    /// Bytes of all keys and values.
    pub fn bytes(&self) -> usize {
        self.spans
            .iter()
            .map(|span| span.key_bytes as usize + span.value_bytes as usize)
            .sum()
    }

    fn at(&self, span: &Span) -> (&[u8], &[u8]) {
        let start = span.start as usize;
        let whole =
            &self.chunks[span.chunk as usize][start..][..(span.key_bytes + span.value_bytes) as usize];
        whole.split_at(span.key_bytes as usize)
    }
}

fn key_of<'a>(chunks: &'a [Vec<u8>], span: &Span) -> &'a [u8] {
    &chunks[span.chunk as usize][span.start as usize..][..span.key_bytes as usize]
}

impl fmt::Debug for Entries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl PartialEq for Entries {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Entries {}

impl IntoIterator for Entries {
    type Item = (Vec<u8>, Vec<u8>);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    /// Each entry copied out.
    fn into_iter(self) -> Self::IntoIter {
        let owned: Vec<_> = self
            .iter()
            .map(|(key, value)| (key.to_vec(), value.to_vec()))
            .collect();
        owned.into_iter()
    }
}

impl<K: AsRef<[u8]>, V: AsRef<[u8]>> FromIterator<(K, V)> for Entries {
    fn from_iter<T: IntoIterator<Item = (K, V)>>(iter: T) -> Self {
        let mut entries = Self::default();
        for (key, value) in iter {
            entries.push(key.as_ref(), value.as_ref());
        }
        entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Owned = Vec<(Vec<u8>, Vec<u8>)>;

    fn numbered(numbers: impl Iterator<Item = u32>, value_bytes: usize) -> Owned {
        numbers
            .map(|n| (n.to_be_bytes().to_vec(), vec![7; value_bytes + (n % 3) as usize]))
            .collect()
    }

    #[test]
    fn what_was_pushed_is_there_over_any_number_of_chunks() {
        for (expected, value_bytes) in [(0, 0), (1, 400), (10_000, 400), (3, 3 * CHUNK_BYTES)] {
            let wanted = numbered(0..40, value_bytes);
            let mut entries = Entries::expecting(expected);
            for (key, value) in &wanted {
                entries.push(key, value);
            }
            assert_eq!(entries.len(), 40);
            assert_eq!(
                entries.bytes(),
                wanted.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>()
            );
            assert_eq!(entries.last(), entries.get(39));
            assert_eq!(entries.get(40), None);
            assert_eq!(entries.clone().into_iter().collect::<Owned>(), wanted);
        }
    }

    #[test]
    fn appended_runs_sort_into_one() {
        let mut entries = Entries::default();
        for start in 0..3 {
            entries.append(numbered((start..300).step_by(3), 100).into_iter().collect());
        }
        entries.sort(Direction::Forwards);
        assert_eq!(entries, numbered(0..300, 100).into_iter().collect());
        assert_eq!(
            entries.count_up_to(&150_u32.to_be_bytes(), Direction::Forwards),
            151
        );
        entries.sort(Direction::Backwards);
        assert_eq!(entries, numbered((0..300).rev(), 100).into_iter().collect());
        assert_eq!(
            entries.count_up_to(&150_u32.to_be_bytes(), Direction::Backwards),
            150
        );
        entries.truncate(2);
        assert_eq!(entries, numbered((298..300).rev(), 100).into_iter().collect());
    }
}
