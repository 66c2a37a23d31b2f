//! The bytes of one simulated file: what readers see, what is durable, and the writes in between.
//!
//! A write moves through three states:
//!
//! ```text
//! in flight   submitted, not completed      a crash may land any subset of its sectors, or garble one
//! volatile    completed, not yet synced     readers see it; a crash keeps any subset of its sectors
//! durable     synced, or completed `dsync`  a crash keeps it
//! ```
//!
//! The length is apart from the data: an extension is volatile until it is synced, and a crash may keep the bytes and
//! lose the length. Invariant: `durable` plus `volatile` in order equals `current`, except after a failed sync, which
//! drops volatile writes for good while readers go on seeing them (R3).

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::rng::Rng;
use crate::types::PAGE_BYTES;

/// The unit in which a device tears a write, in bytes.
pub const SECTOR_BYTES: usize = 512;

const PAGE: u64 = PAGE_BYTES as u64;

/// A length or offset known to be that of bytes in memory.
pub(super) fn to_usize(n: u64) -> usize {
    usize::try_from(n).expect("bytes held in memory are counted by usize")
}

/// A sparse array of bytes. Pages are shared between clones until written, and a page of zeros is not stored.
#[derive(Debug, Clone, Default)]
pub(super) struct Content {
    pages: BTreeMap<u64, Rc<[u8; PAGE_BYTES]>>,
    /// Length in bytes. Bytes may be stored beyond it; they are not seen unless it grows over them.
    pub(super) bytes: u64,
}

impl Content {
    /// Up to `len` bytes from `position`, fewer at the end.
    pub(super) fn read(&self, position: u64, len: usize) -> Vec<u8> {
        let end = self.bytes.min(position.saturating_add(len as u64));
        let mut out = vec![0; to_usize(end.saturating_sub(position))];
        if out.is_empty() {
            return out;
        }
        for (&index, page) in self.pages.range(position / PAGE..end.div_ceil(PAGE)) {
            let (start, stop) = ((index * PAGE).max(position), ((index + 1) * PAGE).min(end));
            let from = &page[to_usize(start - index * PAGE)..to_usize(stop - index * PAGE)];
            out[to_usize(start - position)..to_usize(stop - position)].copy_from_slice(from);
        }
        out
    }

    /// Stores `data` at `position` and leaves the length alone.
    pub(super) fn write(&mut self, position: u64, data: &[u8]) {
        let mut at = position;
        let mut rest = data;
        while !rest.is_empty() {
            let (index, offset) = (at / PAGE, to_usize(at % PAGE));
            let (head, tail) = rest.split_at(rest.len().min(PAGE_BYTES - offset));
            self.write_in_page(index, offset, head);
            at += head.len() as u64;
            rest = tail;
        }
    }

    /// Stores `data` at `position`, sharing the pages in which `other` holds the same bytes.
    fn write_like(&mut self, other: &Self, position: u64, data: &[u8]) {
        let mut at = position;
        for chunk in data.chunks(PAGE_BYTES) {
            match other.pages.get(&(at / PAGE)) {
                Some(page) if at.is_multiple_of(PAGE) && **page == *chunk => {
                    self.pages.insert(at / PAGE, Rc::clone(page));
                }
                _ => self.write(at, chunk),
            }
            at += chunk.len() as u64;
        }
    }

    fn write_in_page(&mut self, index: u64, offset: usize, data: &[u8]) {
        let zeros = data.iter().all(|&b| b == 0);
        if zeros && (data.len() == PAGE_BYTES || !self.pages.contains_key(&index)) {
            self.pages.remove(&index);
            return;
        }
        let page = self
            .pages
            .entry(index)
            .or_insert_with(|| Rc::new([0; PAGE_BYTES]));
        Rc::make_mut(page)[offset..offset + data.len()].copy_from_slice(data);
    }

    /// Sets the length and forgets whatever lies beyond it.
    pub(super) fn cut_to(&mut self, bytes: u64) {
        self.bytes = bytes;
        self.pages.split_off(&bytes.div_ceil(PAGE));
        let offset = to_usize(bytes % PAGE);
        if let Some(page) = self.pages.get_mut(&(bytes / PAGE)) {
            Rc::make_mut(page)[offset..].fill(0);
        }
    }
}

/// One write, or what is left of it.
#[derive(Debug, Clone)]
pub(super) struct Record {
    pub(super) position: u64,
    pub(super) data: Rc<[u8]>,
    /// Made durable by its completion.
    pub(super) durable: bool,
    /// The second write of [`super::Mutant::RewriteAcked`], which a crash garbles readily.
    pub(super) fragile: bool,
}

impl Record {
    pub(super) fn end(&self) -> u64 {
        self.position + self.data.len() as u64
    }

    /// What remains of this record outside `start..end`, in order.
    fn outside(&self, start: u64, end: u64) -> Vec<Self> {
        if self.end() <= start || self.position >= end {
            return vec![self.clone()];
        }
        let mut left = Vec::new();
        if self.position < start {
            let data = self.data[..to_usize(start - self.position)].into();
            left.push(Self { data, ..*self });
        }
        if self.end() > end {
            let data = self.data[to_usize(end - self.position)..].into();
            left.push(Self {
                position: end,
                data,
                ..*self
            });
        }
        left
    }
}

/// A simulated file.
#[derive(Debug, Clone, Default)]
pub(super) struct FileNode {
    /// What readers see.
    pub(super) current: Content,
    /// What a crash cannot take.
    pub(super) durable: Content,
    /// Completed writes that are not durable, with the sequence of their completion, ascending.
    pub(super) volatile: Vec<(u64, Record)>,
    /// Lengths reached by completed operations that are not durable, with the sequence of their completion.
    pub(super) lengths: Vec<(u64, u64)>,
    /// Submitted writes by their operation's number.
    pub(super) in_flight: BTreeMap<u64, Record>,
    /// The first so many pages are reserved by `allocate`.
    pub(super) reserved_pages: u64,
    /// Pages that hold room beyond the reserved ones.
    allocated: BTreeSet<u64>,
    /// Open handles.
    pub(super) open: u32,
}

impl FileNode {
    /// A new file, opened by its creator.
    pub(super) fn opened() -> Self {
        Self {
            open: 1,
            ..Self::default()
        }
    }

    /// Makes `bytes` the whole content, all durable.
    pub(super) fn replace(&mut self, bytes: &[u8]) {
        self.durable.cut_to(0);
        self.durable.write(0, bytes);
        self.durable.bytes = bytes.len() as u64;
        self.settle_at_durable();
    }

    /// Makes the durable content the only one, as after a restart.
    pub(super) fn settle_at_durable(&mut self) {
        let bytes = self.durable.bytes;
        self.durable.cut_to(bytes);
        self.current = self.durable.clone();
        self.volatile.clear();
        self.lengths.clear();
        self.in_flight.clear();
        self.reserved_pages = self.reserved_pages.min(bytes / PAGE);
        // Zero pages are not stored, so room is taken for the whole length: never less than a real disk would hold.
        self.allocated = (self.reserved_pages..bytes.div_ceil(PAGE)).collect();
    }

    /// Pages of room this file takes.
    pub(super) fn pages(&self) -> u64 {
        self.reserved_pages + self.allocated.len() as u64
    }

    /// Of the pages in `start..end`, how many still need room.
    pub(super) fn missing_pages(&self, start: u64, end: u64) -> u64 {
        let start = start.max(self.reserved_pages);
        if start >= end {
            return 0;
        }
        end - start - self.allocated.range(start..end).count() as u64
    }

    /// Takes room for as many leading pages of `start..end` as `free_pages` allows; how many pages are usable.
    pub(super) fn take_pages(&mut self, start: u64, end: u64, mut free_pages: u64) -> u64 {
        for page in start..end {
            if page < self.reserved_pages || self.allocated.contains(&page) {
                continue;
            }
            if free_pages == 0 {
                return page - start;
            }
            free_pages -= 1;
            self.allocated.insert(page);
        }
        end - start
    }

    /// Reserves the first `pages` pages; the caller has checked that there is room.
    pub(super) fn reserve(&mut self, pages: u64) {
        self.reserved_pages = self.reserved_pages.max(pages);
        self.allocated = self.allocated.split_off(&self.reserved_pages);
    }

    /// What a read finds: completed writes, and of overlapping writes in flight any sectors at all.
    pub(super) fn read(&self, position: u64, len: usize, rng: &mut Rng) -> Vec<u8> {
        let mut out = self.current.read(position, len);
        let end = position + out.len() as u64;
        for record in self.in_flight.values() {
            for (at, sector) in sectors(record) {
                if at >= position && at + (sector.len() as u64) <= end && rng.coin() {
                    out[to_usize(at - position)..][..sector.len()].copy_from_slice(sector);
                }
            }
        }
        out
    }

    /// Completes the write of operation `op`; `sequence` is that of the completion.
    pub(super) fn complete(&mut self, op: u64, sequence: u64) {
        let record = self.in_flight.remove(&op).expect("a write completes once");
        self.current.write(record.position, &record.data);
        let end = record.end();
        let extends = end > self.current.bytes;
        self.current.bytes = self.current.bytes.max(end);
        if record.durable {
            self.harden(&record);
        } else {
            if extends {
                self.lengths.push((sequence, end));
            }
            self.volatile.push((sequence, record));
        }
    }

    /// Grows the file without data; volatile like any extension.
    pub(super) fn extend(&mut self, bytes: u64, sequence: u64) {
        if bytes > self.current.bytes {
            self.current.bytes = bytes;
            self.lengths.push((sequence, bytes));
        }
    }

    /// Makes one write durable. An older volatile write to the same place can no longer come back over it.
    fn harden(&mut self, record: &Record) {
        let (start, end) = (record.position, record.end());
        self.durable.write_like(&self.current, start, &record.data);
        self.durable.bytes = self.durable.bytes.max(end);
        let older = std::mem::take(&mut self.volatile);
        for (sequence, old) in older {
            self.volatile
                .extend(old.outside(start, end).into_iter().map(|part| (sequence, part)));
        }
    }

    /// A sync that was submitted when the next completion would have been `mark`: what completed before is durable.
    pub(super) fn sync(&mut self, mark: u64) {
        let split = self.volatile.partition_point(|(sequence, _)| *sequence < mark);
        for (_, record) in self.volatile.drain(..split) {
            self.durable
                .write_like(&self.current, record.position, &record.data);
        }
        for &(sequence, bytes) in &self.lengths {
            if sequence < mark {
                self.durable.bytes = self.durable.bytes.max(bytes);
            }
        }
        self.lengths.retain(|(sequence, _)| *sequence >= mark);
    }

    /// A sync that failed: what it was to make durable never will be, whatever later syncs say (R3).
    pub(super) fn fail_sync(&mut self, mark: u64) {
        self.volatile.retain(|(sequence, _)| *sequence >= mark);
        self.lengths.retain(|(sequence, _)| *sequence >= mark);
    }
}

/// The sectors of a write, each with its position.
pub(super) fn sectors(record: &Record) -> impl Iterator<Item = (u64, &[u8])> {
    let position = record.position;
    record
        .data
        .chunks(SECTOR_BYTES)
        .enumerate()
        .map(move |(index, sector)| (position + (index * SECTOR_BYTES) as u64, sector))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_agrees_with_a_plain_vector() {
        let mut rng = Rng::new(11);
        let (mut content, mut model) = (Content::default(), vec![0_u8; 40_000]);
        content.bytes = 40_000;
        for round in 0..500 {
            let start = rng.index(30_000);
            let len = rng.index(9_000);
            let mut data = vec![0; len];
            if rng.chance(2, 3) {
                rng.fill(&mut data);
            }
            content.write(start as u64, &data);
            model[start..start + len].copy_from_slice(&data);
            let from = rng.index(40_000);
            let want = &model[from..(from + 5_000).min(40_000)];
            assert_eq!(content.read(from as u64, 5_000), want, "round {round}");
        }
        content.cut_to(12_345);
        content.bytes = 40_000;
        model[12_345..].fill(0);
        assert_eq!(content.read(0, 40_000), model);
        assert!(content.read(40_000, 10).is_empty());
    }

    #[test]
    fn a_page_of_zeros_takes_no_memory() {
        let mut content = Content::default();
        content.write(0, &[0; 4 * PAGE_BYTES]);
        assert!(content.pages.is_empty());
        content.write(PAGE, &[1; PAGE_BYTES]);
        content.write(PAGE, &[0; PAGE_BYTES]);
        assert!(content.pages.is_empty());
    }

    #[test]
    fn a_durable_write_is_not_undone_by_an_older_volatile_one() {
        let mut node = FileNode::default();
        let record = |byte: u8, durable| Record {
            position: 0,
            data: vec![byte; 3 * PAGE_BYTES].into(),
            durable,
            fragile: false,
        };
        node.in_flight.insert(1, record(1, false));
        node.complete(1, 1);
        let middle = Record {
            position: PAGE,
            data: vec![2; PAGE_BYTES].into(),
            ..record(0, true)
        };
        node.in_flight.insert(2, middle);
        node.complete(2, 2);
        let left: Vec<(u64, usize)> = node
            .volatile
            .iter()
            .map(|(_, r)| (r.position, r.data.len()))
            .collect();
        assert_eq!(left, [(0, PAGE_BYTES), (2 * PAGE, PAGE_BYTES)]);
        node.sync(3);
        let found = node.durable.read(0, 3 * PAGE_BYTES);
        assert_eq!(found, node.current.read(0, 3 * PAGE_BYTES));
    }

    #[test]
    fn room_is_counted_once_per_page() {
        let mut node = FileNode::default();
        assert_eq!(node.missing_pages(0, 4), 4);
        assert_eq!(node.take_pages(0, 4, 3), 3);
        assert_eq!(node.missing_pages(0, 4), 1);
        node.reserve(2);
        assert_eq!(
            (node.pages(), node.missing_pages(0, 2), node.missing_pages(1, 6)),
            (3, 0, 3)
        );
        node.reserve(8);
        assert_eq!((node.pages(), node.missing_pages(0, 8)), (8, 0));
    }
}
