//! How fast tables are built, walked and looked up in, without a device: `cargo bench -p corelane --bench sstable`.
//!
//! Entries are a 16-byte key and a 400-byte value, as in the project's load figures. The file lies in memory, so a walk
//! pays one copy of its bytes where a device would fill the buffer.

use std::hint::black_box;
use std::path::PathBuf;
use std::rc::Rc;

use corelane::merge::Step;
use corelane::sstable::{
    Block, BlockCache, BlockHandle, Compression, Located, Table, TableBuilder, TableCursor, TableIdentity,
    TableOptions, key_hash,
};
use corelane::types::{Entry, Kind, MAX_SEQUENCE};
// The machine in memory names these as its own crate's.
use corelane::{io, types};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use futures_lite::future::block_on;

#[expect(dead_code, reason = "the tests that share it also inject faults")]
#[path = "../src/sstable/tests/memory_io.rs"]
mod memory_io;

use memory_io::MemoryIo;

const ENTRIES: u64 = 100_000;
const IDENTITY: TableIdentity = TableIdentity {
    database: 1,
    shard: 0,
    number: 7,
};

fn key(number: u64) -> [u8; 16] {
    let mut key = *b"user000000000000";
    let digits = format!("{number:012}");
    key[4..].copy_from_slice(digits.as_bytes());
    key
}

/// Values that LZ4 shrinks to about a half.
fn values() -> Vec<[u8; 400]> {
    let mut state = 1_u64;
    let mut value = || {
        let mut bytes = [b'x'; 400];
        for byte in bytes.iter_mut().step_by(2).take(100) {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *byte = state.to_be_bytes()[0];
        }
        bytes
    };
    (0..256).map(|_| value()).collect()
}

fn build(keys: &[[u8; 16]], values: &[[u8; 400]], options: &TableOptions, out: &mut Vec<u8>) {
    let mut builder = TableBuilder::new(IDENTITY, options);
    let mut chunk = vec![0; 512 * 1024];
    for (number, key) in keys.iter().enumerate() {
        let value = &values[number % values.len()];
        builder.add(Entry {
            key,
            sequence: 9,
            kind: Kind::Put,
            value,
        });
        if builder.ready_bytes() >= chunk.len() {
            let bytes = builder.take(&mut chunk);
            out.extend_from_slice(&chunk[..bytes]);
        }
    }
    builder.finish();
    while builder.ready_bytes() > 0 {
        let bytes = builder.take(&mut chunk);
        out.extend_from_slice(&chunk[..bytes]);
    }
}

fn open(bytes: Vec<u8>) -> Rc<Table<MemoryIo>> {
    let io = MemoryIo::default();
    let path = PathBuf::from("bench.sst");
    let length = bytes.len() as u64;
    io.put(&path, bytes);
    Rc::new(block_on(Table::open(&io, path, IDENTITY, length, true)).expect("the table is whole"))
}

fn walk(cursor: &mut TableCursor<MemoryIo>, cache: Option<&BlockCache>) -> u64 {
    let (mut entries, mut bytes) = (0, 0);
    let mut step = cursor.seek_to_first();
    loop {
        match step {
            Step::NeedBlock => step = block_on(cursor.load(cache)).expect("the table is whole"),
            Step::End => break,
            Step::Ready => {
                let entry = cursor.current().expect("it is ready");
                bytes += entry.value.len();
                entries += 1;
                step = cursor.advance();
            }
        }
    }
    black_box(bytes);
    entries
}

fn building_and_walking(c: &mut Criterion) {
    let keys: Vec<[u8; 16]> = (0..ENTRIES).map(|n| key(2 * n)).collect();
    let values = values();
    let mut group = c.benchmark_group("table");
    group.throughput(Throughput::Elements(ENTRIES)).sample_size(20);
    for (name, compression) in [("none", Compression::None), ("lz4", Compression::Lz4)] {
        let options = TableOptions {
            compression,
            ..TableOptions::default()
        };
        let mut out = Vec::new();
        build(&keys, &values, &options, &mut out);
        group.bench_function(format!("build/{name}"), |b| {
            b.iter(|| {
                out.clear();
                build(&keys, &values, &options, &mut out);
            });
        });
        let table = open(out);
        let mut cursor = TableCursor::sequential(Rc::clone(&table));
        group.bench_function(format!("sequential/{name}"), |b| {
            b.iter(|| assert_eq!(walk(&mut cursor, None), ENTRIES));
        });
        let cache = BlockCache::new(256 << 20);
        let mut cursor = TableCursor::scan(table);
        walk(&mut cursor, Some(&cache));
        group.bench_function(format!("scan_cached/{name}"), |b| {
            b.iter(|| assert_eq!(walk(&mut cursor, Some(&cache)), ENTRIES));
        });
    }
    group.finish();
}

/// Some keys that a table of [`ENTRIES`] even numbers holds (`odd` 0) or lacks (1), at random.
fn some_keys(odd: u64) -> Vec<[u8; 16]> {
    let mut state = 1_u64;
    let mut random = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) % ENTRIES
    };
    (0..4096).map(|_| key(2 * random() + odd)).collect()
}

fn locate(table: &Table<MemoryIo>, cache: &BlockCache, key: &[u8]) -> Option<BlockHandle> {
    match table.locate(key, key_hash(key), MAX_SEQUENCE, cache) {
        Located::Block(handle) => Some(handle),
        _ => None,
    }
}

fn looking_up(c: &mut Criterion) {
    let keys: Vec<[u8; 16]> = (0..ENTRIES).map(|n| key(2 * n)).collect();
    let mut out = Vec::new();
    build(&keys, &values(), &TableOptions::default(), &mut out);
    let table = open(out);
    let cache = BlockCache::new(256 << 20);
    walk(&mut TableCursor::scan(Rc::clone(&table)), Some(&cache));
    let (present, absent) = (some_keys(0), some_keys(1));
    let blocks: Vec<Rc<Block>> = present
        .iter()
        .map(|key| locate(&table, &cache, key).expect("the key is there"))
        .map(|handle| table.cached_block(handle, &cache).expect("it was walked"))
        .collect();
    let mut group = c.benchmark_group("lookup");
    group.throughput(Throughput::Elements(present.len() as u64));
    group.bench_function("hit_cached", |b| {
        b.iter(|| {
            for key in &present {
                let handle = locate(&table, &cache, key).expect("the key is there");
                let block = table.cached_block(handle, &cache).expect("it was walked");
                assert!(block.get(key, MAX_SEQUENCE).is_some());
            }
        });
    });
    group.bench_function("locate_present", |b| {
        b.iter(|| {
            present
                .iter()
                .filter(|key| locate(&table, &cache, *key).is_some())
                .count()
        });
    });
    group.bench_function("locate_absent", |b| {
        b.iter(|| {
            absent
                .iter()
                .filter(|key| locate(&table, &cache, *key).is_none())
                .count()
        });
    });
    group.bench_function("get_in_cold_block", |b| {
        b.iter(|| {
            blocks
                .iter()
                .zip(&present)
                .filter(|(block, key)| block.get(*key, MAX_SEQUENCE).is_some())
                .count()
        });
    });
    group.bench_function("get_in_block_at_hand", |b| {
        b.iter(|| {
            present
                .iter()
                .filter(|_| blocks[7].get(black_box(&present[7]), MAX_SEQUENCE).is_some())
                .count()
        });
    });
    group.finish();
}

criterion_group!(benches, building_and_walking, looking_up);
criterion_main!(benches);
