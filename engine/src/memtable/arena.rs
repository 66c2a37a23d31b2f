//! Where a memtable's entries live: chunks that grow at their end and never move.
//!
//! One record, at a multiple of 8 bytes from the start of its chunk:
//!
//! ```text
//! offset size
//!      0    8  trailer: sequence << 8 | kind; the sequence of a record that is only prepared is 0
//!      8    4  key bytes
//!     12    4  value bytes
//!     16    n  key
//!   16+n    m  value
//!              zeros up to the next multiple of 8
//! ```
//!
//! Integers are in the machine's order: a record never leaves memory. An [`Address`] packs the chunk's number and the
//! record's offset into 32 bits, half of what a pointer would take in every slot of the index.

use std::cmp::Ordering;

use super::prefetch;
use crate::types::{Entry, internal_order, unpack_trailer};

/// Records start at multiples of this many bytes, so that 32 bits reach far enough.
const UNIT_BYTES: usize = 8;
/// Bits of an address that say where in its chunk a record starts, in units.
const UNIT_BITS: u32 = 17;
/// Bytes of a full-sized chunk.
const CHUNK_BYTES: usize = UNIT_BYTES << UNIT_BITS;
/// Bytes of the first chunk. Chunks double from here, so that a shard that takes few writes holds little memory.
const FIRST_CHUNK_BYTES: usize = 64 << 10;
/// A record above this gets a chunk of its own, so that at most an eighth of a chunk is left unused at its end.
const OWN_CHUNK_BYTES: usize = CHUNK_BYTES / 8;
/// How many chunks an address can name: 32 GiB of small records, 4 GiB in the worst case.
const MAX_CHUNKS: usize = 1 << (32 - UNIT_BITS);
/// Bytes of a record that are fetched at once: more lines than that the processor brings by itself, once it sees them read
/// in order.
const FETCHED_BYTES: usize = 384;
/// Bytes of a record before its key.
const HEADER_BYTES: usize = 16;

/// Where a record is: chunk number in the high bits, units from the chunk's start in the low ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Address(u32);

impl Address {
    fn new(chunk: usize, offset: usize) -> Self {
        assert!(
            chunk < MAX_CHUNKS,
            "the memtable's addresses are used up: flush it sooner"
        );
        debug_assert!(offset < CHUNK_BYTES && offset.is_multiple_of(UNIT_BYTES));
        #[expect(clippy::cast_possible_truncation, reason = "both parts were just bounded")]
        Self(((chunk << UNIT_BITS) | (offset / UNIT_BYTES)) as u32)
    }

    fn chunk(self) -> usize {
        (self.0 >> UNIT_BITS) as usize
    }

    fn offset(self) -> usize {
        (self.0 & ((1 << UNIT_BITS) - 1)) as usize * UNIT_BYTES
    }
}

/// What a search looks for: a key and a packed trailer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target<'a> {
    pub(super) key: &'a [u8],
    pub(super) trailer: u64,
}

/// The chunks and the records in them.
#[derive(Debug, Default)]
pub(super) struct Arena {
    /// Each is allocated once, at the capacity it keeps.
    chunks: Vec<Vec<u8>>,
    /// The chunk that small records go to; it exists once a small record does.
    filling: usize,
    /// Sum of the chunks' capacities.
    chunk_bytes: usize,
    /// Sum of their lengths.
    used_bytes: usize,
}

impl Arena {
    /// Memory held, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.chunk_bytes + self.chunks.capacity() * size_of::<Vec<u8>>()
    }

    /// Bytes of the records, without what the chunks have room for yet.
    pub(super) fn used_bytes(&self) -> usize {
        self.used_bytes
    }

    /// Copies an entry in and says where it is.
    pub(super) fn append(&mut self, trailer: u64, key: &[u8], value: &[u8]) -> Address {
        let bytes = (HEADER_BYTES + key.len() + value.len()).next_multiple_of(UNIT_BYTES);
        let number = self.chunk_for(bytes);
        let chunk = &mut self.chunks[number];
        let offset = chunk.len();
        assert!(chunk.capacity() - offset >= bytes, "a chunk never moves");
        let mut header = [0; HEADER_BYTES];
        header[..8].copy_from_slice(&trailer.to_ne_bytes());
        header[8..12].copy_from_slice(&length(key).to_ne_bytes());
        header[12..].copy_from_slice(&length(value).to_ne_bytes());
        chunk.extend_from_slice(&header);
        chunk.extend_from_slice(key);
        chunk.extend_from_slice(value);
        chunk.resize(offset + bytes, 0);
        self.used_bytes += bytes;
        Address::new(number, offset)
    }

    /// The number of a chunk with room for `bytes` more.
    fn chunk_for(&mut self, bytes: usize) -> usize {
        if let Some(chunk) = self.chunks.get(self.filling)
            && chunk.capacity() - chunk.len() >= bytes
        {
            return self.filling;
        }
        let own = bytes > OWN_CHUNK_BYTES;
        let chunk_bytes = if own {
            bytes
        } else {
            self.chunk_bytes.clamp(FIRST_CHUNK_BYTES.max(bytes), CHUNK_BYTES)
        };
        let number = self.chunks.len();
        assert!(
            number < MAX_CHUNKS,
            "the memtable's addresses are used up: flush it sooner"
        );
        let chunk = Vec::with_capacity(chunk_bytes);
        self.chunk_bytes += chunk.capacity();
        self.chunks.push(chunk);
        if !own {
            self.filling = number;
        }
        number
    }

    /// The record from its header on, and the two lengths in that header.
    fn record(&self, address: Address) -> (&[u8], usize, usize) {
        let record = &self.chunks[address.chunk()][address.offset()..];
        let lengths = &record[8..HEADER_BYTES];
        let key = u32::from_ne_bytes([lengths[0], lengths[1], lengths[2], lengths[3]]);
        let value = u32::from_ne_bytes([lengths[4], lengths[5], lengths[6], lengths[7]]);
        (record, key as usize, value as usize)
    }

    /// Has the start of a record brought near: whoever compares its key nearly always copies its value next, and the lines
    /// of it come together then instead of one after the other.
    pub(super) fn fetch(&self, address: Address) {
        let record = &self.chunks[address.chunk()][address.offset()..];
        prefetch::fetch(&record[..record.len().min(FETCHED_BYTES)]);
    }

    /// The packed trailer of a record.
    pub(super) fn trailer(&self, address: Address) -> u64 {
        let (record, ..) = self.record(address);
        u64::from_ne_bytes(*record.first_chunk().expect("a record starts with its trailer"))
    }

    /// Gives a record that is in no index yet another trailer.
    pub(super) fn set_trailer(&mut self, address: Address, trailer: u64) {
        let record = &mut self.chunks[address.chunk()][address.offset()..];
        record[..8].copy_from_slice(&trailer.to_ne_bytes());
    }

    /// The key of a record.
    pub(super) fn key(&self, address: Address) -> &[u8] {
        let (record, key, _) = self.record(address);
        &record[HEADER_BYTES..][..key]
    }

    /// A whole record as an entry.
    pub(super) fn entry(&self, address: Address) -> Entry<'_> {
        let (record, key, value) = self.record(address);
        let trailer = self.trailer(address);
        let (sequence, kind) = unpack_trailer(trailer).expect("append packed a kind this version knows");
        let (key, rest) = record[HEADER_BYTES..].split_at(key);
        Entry {
            key,
            sequence,
            kind,
            value: &rest[..value],
        }
    }

    /// How a record stands to `target` in internal order.
    pub(super) fn order(&self, address: Address, target: Target<'_>) -> Ordering {
        internal_order(
            (self.key(address), self.trailer(address)),
            (target.key, target.trailer),
        )
    }
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("keys and values are bounded far below 4 GiB")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Kind, MAX_KEY_BYTES, MAX_VALUE_BYTES, pack_trailer};

    #[test]
    fn records_read_back_at_every_size_around_a_chunk() {
        let mut arena = Arena::default();
        let sizes = [
            0,
            1,
            7,
            8,
            9,
            OWN_CHUNK_BYTES - 17,
            OWN_CHUNK_BYTES - 16,
            OWN_CHUNK_BYTES,
            CHUNK_BYTES - 16,
            CHUNK_BYTES,
            MAX_VALUE_BYTES,
        ];
        let key = |i: u8| vec![i; usize::from(i) * 31 % 70];
        let value = |i: u8, bytes: usize| vec![0x80 | i; bytes];
        let put = |i: u8| pack_trailer(u64::from(i), Kind::Put);
        let at: Vec<_> = (0..)
            .zip(sizes)
            .map(|(i, n)| arena.append(put(i), &key(i), &value(i, n)))
            .collect();
        for ((i, n), at) in (0..).zip(sizes).zip(at) {
            let entry = arena.entry(at);
            assert_eq!(
                (entry.key, entry.sequence, entry.kind),
                (&*key(i), u64::from(i), Kind::Put)
            );
            assert!(entry.value == value(i, n), "value of {n} bytes");
        }
        let key = vec![1; MAX_KEY_BYTES];
        let at = arena.append(put(1), &key, b"v");
        assert!(arena.key(at) == key);
    }

    #[test]
    fn a_large_record_leaves_the_chunk_being_filled_in_use() {
        let mut arena = Arena::default();
        let a = arena.append(0, b"a", b"");
        arena.append(0, b"large", &vec![0; CHUNK_BYTES]);
        let b = arena.append(0, b"b", b"");
        assert_eq!(a.chunk(), b.chunk());
    }

    #[test]
    fn chunks_start_small_and_their_capacity_is_what_is_counted() {
        let mut arena = Arena::default();
        assert_eq!(arena.bytes(), 0);
        for _ in 0..10_000 {
            arena.append(0, &[1; 100], &[2; 300]);
            let held: usize = arena.chunks.iter().map(Vec::capacity).sum();
            assert_eq!(held, arena.chunk_bytes);
        }
        assert_eq!(arena.chunks[0].capacity(), FIRST_CHUNK_BYTES);
        assert!(arena.chunks.iter().all(|chunk| chunk.capacity() <= CHUNK_BYTES));
        let stored = 10_000 * 416;
        assert!(
            arena.bytes() < stored + CHUNK_BYTES + stored / 50,
            "{} for {stored}",
            arena.bytes()
        );
    }
}
