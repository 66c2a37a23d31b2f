//! Sorted entries in one payload: how they are written, and how one is decoded. Data and index blocks share it.
//!
//! ```text
//! payload := entry* | restart u32 *              the block header counts the restarts
//! entry   := shared varint | unshared varint | value length varint
//!          | the last `unshared` bytes of the key | trailer u64 (sequence << 8 | kind) | value
//! ```
//!
//! `shared` is how many bytes the key has in common with the one before it. Every [`RESTART_INTERVAL`]th entry of a
//! data block, and every entry of an index, is a restart point: it shares nothing, and its offset is in the array at
//! the end, for a binary search. LevelDB's `table/block_builder.cc` is the model.

use std::cmp::Ordering;
use std::ops::Range;

use crate::codec::varint;

/// Entries from one restart point of a data block to the next.
pub(crate) const RESTART_INTERVAL: usize = 16;

/// How many leading bytes two keys have in common.
#[inline]
pub(crate) fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    let mut at = 0;
    for (x, y) in a.as_chunks::<8>().0.iter().zip(b.as_chunks::<8>().0) {
        let differing = u64::from_le_bytes(*x) ^ u64::from_le_bytes(*y);
        if differing != 0 {
            return at + differing.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    at + a[at..].iter().zip(&b[at..]).take_while(|(x, y)| x == y).count()
}

/// The order of two keys whose common prefix is known.
#[inline]
pub(crate) fn order_after(common: usize, a: &[u8], b: &[u8]) -> Ordering {
    match (a.get(common), b.get(common)) {
        (Some(x), Some(y)) => x.cmp(y),
        (x, y) => x.is_some().cmp(&y.is_some()),
    }
}

/// One decoded entry, as places in the payload; it borrows nothing, so a cursor can keep it.
#[derive(Debug, Clone)]
pub(crate) struct RawEntry {
    pub(crate) shared: usize,
    pub(crate) delta: Range<usize>,
    pub(crate) trailer: u64,
    pub(crate) value: Range<usize>,
}

impl RawEntry {
    /// Where the next entry starts.
    #[inline]
    pub(crate) fn next(&self) -> usize {
        self.value.end
    }
}

/// Decodes the entry at `position` of `entries` (the payload without its restart array). `None` where it does not fit,
/// which includes the very end.
#[inline]
pub(crate) fn decode(entries: &[u8], position: usize) -> Option<RawEntry> {
    let mut rest = entries.get(position..)?;
    let shared = usize::try_from(varint::take(&mut rest)?).ok()?;
    let unshared = usize::try_from(varint::take(&mut rest)?).ok()?;
    let value_bytes = usize::try_from(varint::take(&mut rest)?).ok()?;
    let start = entries.len() - rest.len();
    let (_, after) = rest.split_at_checked(unshared)?;
    let (trailer, after) = after.split_first_chunk::<8>()?;
    if value_bytes > after.len() {
        return None;
    }
    let delta = start..start + unshared;
    let value = delta.end + 8..delta.end + 8 + value_bytes;
    Some(RawEntry {
        shared,
        delta,
        trailer: u64::from_le_bytes(*trailer),
        value,
    })
}

/// Collects the entries of one block.
#[derive(Debug, Default)]
pub(crate) struct EntriesWriter {
    entries: Vec<u8>,
    restarts: Vec<u32>,
    count: usize,
    interval: usize,
}

impl EntriesWriter {
    /// A writer that makes every `interval`th entry a restart point.
    pub(crate) fn new(interval: usize) -> Self {
        assert!(interval > 0, "the first entry is always a restart point");
        Self {
            interval,
            ..Self::default()
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Entries so far.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Length of the payload so far, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.entries.len() + 4 * self.restarts.len()
    }

    /// How much of the `common` prefix with the key before the next entry will share: nothing at a restart point.
    #[inline]
    pub(crate) fn shared(&self, common: usize) -> usize {
        if self.count.is_multiple_of(self.interval) {
            0
        } else {
            common
        }
    }

    /// Length of the payload if this entry were added.
    #[inline]
    pub(crate) fn bytes_with(&self, shared: usize, key_bytes: usize, value_bytes: usize) -> usize {
        let unshared = key_bytes - shared;
        let restart = if self.count.is_multiple_of(self.interval) {
            4
        } else {
            0
        };
        let lengths = varint::encoded_bytes(shared as u64)
            + varint::encoded_bytes(unshared as u64)
            + varint::encoded_bytes(value_bytes as u64);
        self.bytes() + restart + lengths + unshared + 8 + value_bytes
    }

    /// Adds an entry; `shared` is what [`EntriesWriter::shared`] gave.
    #[inline]
    pub(crate) fn push(&mut self, shared: usize, key: &[u8], trailer: u64, value: &[u8]) {
        if self.count.is_multiple_of(self.interval) {
            assert_eq!(shared, 0, "a restart point shares nothing");
            self.restarts
                .push(u32::try_from(self.entries.len()).expect("a block is far below 4 GiB"));
        }
        let delta = &key[shared..];
        varint::put(&mut self.entries, shared as u64);
        varint::put(&mut self.entries, delta.len() as u64);
        varint::put(&mut self.entries, value.len() as u64);
        self.entries.extend_from_slice(delta);
        self.entries.extend_from_slice(&trailer.to_le_bytes());
        self.entries.extend_from_slice(value);
        self.count += 1;
    }

    /// The first key; `None` where there is no entry.
    pub(crate) fn first_key(&self) -> Option<&[u8]> {
        decode(&self.entries, 0).map(|entry| &self.entries[entry.delta])
    }

    /// Appends the payload to `out`.
    pub(crate) fn copy_into(&self, out: &mut Vec<u8>) {
        out.reserve(self.bytes());
        out.extend_from_slice(&self.entries);
        for restart in &self.restarts {
            out.extend_from_slice(&restart.to_le_bytes());
        }
    }

    /// Appends the payload to `out` and empties the writer, which keeps its allocations. Returns the restart count.
    pub(crate) fn finish_into(&mut self, out: &mut Vec<u8>) -> u32 {
        self.copy_into(out);
        let restarts = u32::try_from(self.restarts.len()).expect("fewer restarts than bytes");
        self.entries.clear();
        self.restarts.clear();
        self.count = 0;
        restarts
    }

    /// Keeps the leading entries whose payload is at most `payload_bytes` long (one at the least) and moves the others
    /// to `rest`, which must be empty. Returns the last internal key kept, if any entry was moved.
    pub(crate) fn split(&mut self, payload_bytes: usize, rest: &mut Self) -> Option<(Vec<u8>, u64)> {
        assert!(rest.is_empty(), "what is moved becomes the start of a block");
        let mut key: Vec<u8> = Vec::new();
        let mut last: Option<(Vec<u8>, u64)> = None;
        let (mut position, mut kept, mut kept_end) = (0, 0_usize, 0);
        let mut previous_trailer = 0;
        while let Some(entry) = decode(&self.entries, position) {
            let restarts = (kept + 1).div_ceil(self.interval);
            let fits = entry.next() + 4 * restarts <= payload_bytes;
            if last.is_none() && (fits || kept == 0) {
                (kept, kept_end) = (kept + 1, entry.next());
            } else if last.is_none() {
                last = Some((key.clone(), previous_trailer));
            }
            let common = entry.shared;
            key.truncate(common);
            key.extend_from_slice(&self.entries[entry.delta.clone()]);
            if last.is_some() {
                let shared = rest.shared(common);
                rest.push(shared, &key, entry.trailer, &self.entries[entry.value.clone()]);
            }
            previous_trailer = entry.trailer;
            position = entry.next();
        }
        if last.is_some() {
            self.entries.truncate(kept_end);
            self.restarts.truncate(kept.div_ceil(self.interval));
            self.count = kept;
        }
        last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_common_prefix_is_exact_at_every_length() {
        let base: Vec<u8> = (0..40).collect();
        for length in 0..40 {
            for differing in 0..length {
                let mut other = base[..length].to_vec();
                other[differing] ^= 0x80;
                assert_eq!(common_prefix(&base, &other), differing);
                assert_eq!(common_prefix(&other, &base), differing);
                assert_eq!(order_after(differing, &base, &other), base.as_slice().cmp(&other));
            }
            assert_eq!(common_prefix(&base, &base[..length]), length);
            assert_eq!(order_after(length, &base, &base[..length]), Ordering::Greater);
        }
        assert_eq!(order_after(40, &base, &base), Ordering::Equal);
    }

    fn collect(writer: &EntriesWriter) -> Vec<(Vec<u8>, u64, Vec<u8>)> {
        let (mut position, mut key, mut out) = (0, Vec::new(), Vec::new());
        while let Some(entry) = decode(&writer.entries, position) {
            key.truncate(entry.shared);
            key.extend_from_slice(&writer.entries[entry.delta.clone()]);
            out.push((
                key.clone(),
                entry.trailer,
                writer.entries[entry.value.clone()].to_vec(),
            ));
            position = entry.next();
        }
        assert_eq!(position, writer.entries.len());
        out
    }

    fn sample(entries: usize) -> EntriesWriter {
        let mut writer = EntriesWriter::new(RESTART_INTERVAL);
        let mut last = Vec::new();
        for n in 0..entries {
            let key = format!("key{:05}", n / 2).into_bytes();
            let shared = writer.shared(common_prefix(&last, &key));
            let expected = writer.bytes_with(shared, key.len(), n % 7);
            writer.push(shared, &key, 1000 - n as u64, &vec![7; n % 7]);
            assert_eq!(
                writer.bytes(),
                expected,
                "the size is known before the entry is added"
            );
            last = key;
        }
        writer
    }

    #[test]
    fn a_split_keeps_every_entry_in_order_and_both_parts_are_whole() {
        let all = collect(&sample(50));
        for payload_bytes in 0..sample(50).bytes() + 10 {
            let (mut head, mut tail) = (sample(50), EntriesWriter::new(RESTART_INTERVAL));
            let last = head.split(payload_bytes, &mut tail);
            assert!(head.count() == 1 || head.bytes() <= payload_bytes);
            let mut joined = collect(&head);
            assert_eq!(last.is_some(), !tail.is_empty());
            if let Some((key, trailer)) = last {
                let end = joined.last().unwrap();
                assert_eq!((&key, trailer), (&end.0, end.1));
                assert_eq!(tail.first_key(), Some(collect(&tail)[0].0.as_slice()));
            }
            for part in [&head, &tail] {
                assert_eq!(part.restarts.len(), part.count().div_ceil(RESTART_INTERVAL));
                assert_eq!(collect(part).len(), part.count());
            }
            joined.extend(collect(&tail));
            assert_eq!(joined, all, "split at {payload_bytes}");
        }
    }
}
