//! Tables as a whole: what was written is what is read, by every way of reading, whole or damaged.

mod damage;
mod golden;
mod memory_io;
mod round_trip;
mod writing;

use crate::merge::Step;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use futures_lite::future::block_on;

use self::memory_io::MemoryIo;
use super::*;
use crate::error::Result;
use crate::types::{Entry, Kind, PAGE_BYTES, Sequence};

const IDENTITY: TableIdentity = TableIdentity {
    database: 0x1122_3344_5566_7788,
    shard: 3,
    number: 42,
};

fn path() -> PathBuf {
    PathBuf::from("shard-0003/00000042.sst")
}

/// An owned entry.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Owned {
    key: Vec<u8>,
    sequence: Sequence,
    kind: Kind,
    value: Vec<u8>,
}

impl Owned {
    fn put(key: impl Into<Vec<u8>>, sequence: Sequence, value: impl Into<Vec<u8>>) -> Self {
        Self {
            key: key.into(),
            sequence,
            kind: Kind::Put,
            value: value.into(),
        }
    }

    fn tombstone(key: impl Into<Vec<u8>>, sequence: Sequence) -> Self {
        Self {
            key: key.into(),
            sequence,
            kind: Kind::Tombstone,
            value: Vec::new(),
        }
    }

    fn of(entry: Entry<'_>) -> Self {
        Self {
            key: entry.key.to_vec(),
            sequence: entry.sequence,
            kind: entry.kind,
            value: entry.value.to_vec(),
        }
    }

    fn entry(&self) -> Entry<'_> {
        Entry {
            key: &self.key,
            sequence: self.sequence,
            kind: self.kind,
            value: &self.value,
        }
    }
}

/// Sorts into internal order; of two entries with one key and sequence the first stays.
fn in_order(mut entries: Vec<Owned>) -> Vec<Owned> {
    entries.sort_by(|a, b| a.key.cmp(&b.key).then(b.sequence.cmp(&a.sequence)));
    entries.dedup_by(|a, b| a.key == b.key && a.sequence == b.sequence);
    entries
}

/// A small seeded generator (SplitMix64), so that a failure names one number.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    #[expect(clippy::cast_possible_truncation, reason = "test sizes")]
    fn below(&mut self, bound: u64) -> usize {
        (self.next() % bound) as usize
    }

    #[expect(clippy::cast_possible_truncation, reason = "a byte at random")]
    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }
}

fn build(entries: &[Owned], options: &TableOptions) -> (Vec<u8>, TableSummary) {
    let mut builder = TableBuilder::new(IDENTITY, options);
    for entry in entries {
        builder.add(entry.entry());
    }
    let summary = builder.finish();
    let mut bytes = vec![0; builder.ready_bytes()];
    assert_eq!(builder.take(&mut bytes), bytes.len());
    assert_eq!(bytes.len() as u64, summary.bytes);
    (bytes, summary)
}

fn machine_with(bytes: Vec<u8>) -> MemoryIo {
    let io = MemoryIo::default();
    io.put(&path(), bytes);
    io
}

fn open(bytes: Vec<u8>, pin: bool) -> Result<Rc<Table<MemoryIo>>> {
    let expected = bytes.len() as u64;
    let io = machine_with(bytes);
    block_on(Table::open(&io, path(), IDENTITY, expected, pin)).map(Rc::new)
}

/// A lookup as the shard does it.
fn lookup(table: &Table<MemoryIo>, cache: &BlockCache, key: &[u8], at: Sequence) -> Result<Option<Owned>> {
    let hash = key_hash(key);
    let mut located = table.locate(key, hash, at, cache);
    if let Located::NeedPartition(handle) = located {
        let partition = block_on(table.load_partition(handle, cache))?;
        located = table.locate_in(&partition, key, hash, at);
    }
    match located {
        Located::Absent | Located::Filtered => Ok(None),
        Located::Block(handle) => Ok(block_on(table.block(handle, cache))?.get(key, at).map(Owned::of)),
        Located::NeedPartition(_) => panic!("a loaded partition answers"),
    }
}

/// Everything from where a seek put the cursor to the end.
fn drain(cursor: &mut TableCursor<MemoryIo>, cache: Option<&BlockCache>) -> Result<Vec<Owned>> {
    let mut out = Vec::new();
    let mut step = cursor.step();
    loop {
        match step {
            Step::NeedBlock => step = block_on(cursor.load(cache))?,
            Step::End => return Ok(out),
            Step::Ready => {
                out.push(Owned::of(cursor.current().expect("it is ready")));
                step = cursor.advance();
            }
        }
    }
}

/// Everything from where a seek put the cursor back to the first entry.
fn drain_back(cursor: &mut BackCursor<MemoryIo>, cache: Option<&BlockCache>) -> Result<Vec<Owned>> {
    let mut out = Vec::new();
    let mut step = cursor.step();
    loop {
        match step {
            Step::NeedBlock => {
                assert!(cursor.current().is_none(), "a cursor that waits shows nothing");
                step = block_on(cursor.load(cache))?;
            }
            Step::End => return Ok(out),
            Step::Ready => {
                out.push(Owned::of(cursor.current().expect("it is ready")));
                step = cursor.advance();
            }
        }
    }
}

fn text_options(compression: Compression) -> TableOptions {
    TableOptions {
        compression,
        ..TableOptions::default()
    }
}
