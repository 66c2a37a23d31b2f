//! The memtable beside what it was chosen over, under one trait: one thread, 400-byte values, three shapes of key.
//!
//! `cargo bench -p corelane --bench memtable [-- FILTER]`; names are `operation/shape/entries/structure`. The figures
//! that decided are in the head of `src/memtable/mod.rs`.
//!
//! `BTreeMap` and crossbeam's `SkipMap` own their keys as one string, the complemented sequence behind the key, which
//! sorts right because all keys of a run have one length. `SkipList` is an arena skip list with 32-bit links and key
//! heads in its nodes.

use std::cell::LazyCell;
use std::collections::BTreeMap;
use std::hint::black_box;
use std::ops::Bound;

use corelane::memtable::Memtable;
use corelane::types::{Kind, MAX_SEQUENCE};
use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use crossbeam_skiplist::SkipMap;

const VALUE_BYTES: usize = 400;
/// Lookups per measured iteration.
const LOOKUPS: usize = 200_000;

/// CPU time of this thread, to tell structures apart on a machine that others use too. The kernel brings it up to date
/// at its ticks, 4 ms apart, so a measured iteration takes much longer than that.
struct CpuTime;

impl Measurement for CpuTime {
    type Intermediate = u64;
    type Value = u64;

    fn start(&self) -> u64 {
        let stat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux keeps this file");
        let time_ns = stat
            .split(' ')
            .next()
            .expect("its first field is the time on the CPU, in ns");
        time_ns.parse().expect("a number")
    }

    fn end(&self, start: u64) -> u64 {
        self.start() - start
    }

    fn add(&self, a: &u64, b: &u64) -> u64 {
        a + b
    }

    fn zero(&self) -> u64 {
        0
    }

    #[expect(clippy::cast_precision_loss, reason = "far below 2^53 ns")]
    fn to_f64(&self, value: &u64) -> f64 {
        *value as f64
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}

/// What every candidate can do.
trait Table {
    const NAME: &'static str;
    fn new() -> Self;
    fn insert(&mut self, key: &[u8], sequence: u64, value: &[u8]);
    /// The first byte of the newest value of `key`.
    fn get(&self, key: &[u8]) -> Option<u8>;
    /// Visits every entry in order and returns a sum over a byte of each key and value.
    fn scan(&self) -> usize;
}

impl Table for Memtable {
    const NAME: &'static str = "memtable";

    fn new() -> Self {
        Self::new()
    }

    fn insert(&mut self, key: &[u8], sequence: u64, value: &[u8]) {
        self.insert(key, sequence, Kind::Put, value);
    }

    fn get(&self, key: &[u8]) -> Option<u8> {
        self.get(key, MAX_SEQUENCE).map(|entry| entry.value[0])
    }

    fn scan(&self) -> usize {
        let mut sum = 0;
        let mut position = self.first();
        while let Some(entry) = self.entry(&position) {
            sum += touch(entry.key, entry.value);
            self.next(&mut position);
        }
        sum
    }
}

fn touch(key: &[u8], value: &[u8]) -> usize {
    usize::from(key[0]) + usize::from(value[0])
}

/// `key` and, behind it, what makes the newest of it sort first.
fn owned_key(key: &[u8], sequence: u64) -> Box<[u8]> {
    [key, &(!sequence).to_be_bytes()].concat().into()
}

/// The same, not allocated, for the newest version.
fn with_probe<T>(key: &[u8], run: impl FnOnce(&[u8]) -> T) -> T {
    let mut probe = [0; 64];
    probe[..key.len()].copy_from_slice(key);
    run(&probe[..key.len() + 8])
}

type Owned = Box<[u8]>;

impl Table for BTreeMap<Owned, Owned> {
    const NAME: &'static str = "BTreeMap";

    fn new() -> Self {
        Self::new()
    }

    fn insert(&mut self, key: &[u8], sequence: u64, value: &[u8]) {
        self.insert(owned_key(key, sequence), value.into());
    }

    fn get(&self, key: &[u8]) -> Option<u8> {
        with_probe(key, |probe| {
            let range = (Bound::Included(probe), Bound::Unbounded);
            self.range::<[u8], _>(range)
                .next()
                .filter(|(found, _)| found.starts_with(key))
                .map(|(_, value)| value[0])
        })
    }

    fn scan(&self) -> usize {
        self.iter().map(|(key, value)| touch(key, value)).sum()
    }
}

impl Table for SkipMap<Owned, Owned> {
    const NAME: &'static str = "crossbeam-skiplist";

    fn new() -> Self {
        Self::new()
    }

    fn insert(&mut self, key: &[u8], sequence: u64, value: &[u8]) {
        SkipMap::insert(self, owned_key(key, sequence), value.into());
    }

    fn get(&self, key: &[u8]) -> Option<u8> {
        with_probe(key, |probe| {
            self.lower_bound(Bound::Included(probe))
                .filter(|found| found.key().starts_with(key))
                .map(|found| found.value()[0])
        })
    }

    fn scan(&self) -> usize {
        self.iter().map(|entry| touch(entry.key(), entry.value())).sum()
    }
}

/// A skip list over an append-only arena, links 32 bits wide, branching 4, each node beside its key's head.
struct SkipList {
    chunks: Vec<Vec<u8>>,
    /// By node number: head of the key, chunk and offset of the record, where its links start.
    nodes: Vec<(u64, u32, u32, u32)>,
    links: Vec<u32>,
    height: usize,
    seed: u64,
}

impl SkipList {
    const MAX_HEIGHT: usize = 12;

    /// The record of a node: sequence, key length, key, value.
    fn record(&self, node: u32) -> &[u8] {
        let (_, chunk, offset, _) = self.nodes[node as usize];
        &self.chunks[chunk as usize][offset as usize..]
    }

    fn sequence(&self, node: u32) -> u64 {
        u64::from_be_bytes(
            *self
                .record(node)
                .first_chunk()
                .expect("a record starts with its sequence"),
        )
    }

    fn key(&self, node: u32) -> &[u8] {
        let record = self.record(node);
        &record[10..][..usize::from(u16::from_be_bytes([record[8], record[9]]))]
    }

    fn value(&self, node: u32) -> &[u8] {
        &self.record(node)[10 + self.key(node).len()..][..VALUE_BYTES]
    }

    fn head(key: &[u8]) -> u64 {
        u64::from_be_bytes(*key.first_chunk().expect("the bench's keys have 8 bytes and more"))
    }

    /// The last node before `(key, sequence)` on each level; node 0 is the list's start.
    fn before(&self, key: &[u8], sequence: u64) -> [u32; Self::MAX_HEIGHT] {
        let head = Self::head(key);
        let mut path = [0; Self::MAX_HEIGHT];
        let mut node = 0_u32;
        for level in (0..self.height).rev() {
            loop {
                let next = self.next(node, level);
                let is_before = next != 0
                    && match self.nodes[next as usize].0.cmp(&head) {
                        std::cmp::Ordering::Equal => {
                            (self.key(next), !self.sequence(next)) < (key, !sequence)
                        }
                        order => order.is_lt(),
                    };
                if !is_before {
                    break;
                }
                node = next;
            }
            path[level] = node;
        }
        path
    }

    fn next(&self, node: u32, level: usize) -> u32 {
        self.links[self.nodes[node as usize].3 as usize + level]
    }
}

impl Table for SkipList {
    const NAME: &'static str = "arena skip list";

    fn new() -> Self {
        let nodes = vec![(0, 0, 0, 0)];
        Self {
            chunks: Vec::new(),
            nodes,
            links: vec![0; Self::MAX_HEIGHT],
            height: 1,
            seed: 1,
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "the bench's sizes are small")]
    fn insert(&mut self, key: &[u8], sequence: u64, value: &[u8]) {
        let path = self.before(key, sequence);
        let bytes = 10 + key.len() + value.len();
        if self
            .chunks
            .last()
            .is_none_or(|chunk| chunk.capacity() - chunk.len() < bytes)
        {
            self.chunks.push(Vec::with_capacity(1 << 20));
        }
        let number = self.chunks.len() - 1;
        let chunk = &mut self.chunks[number];
        let offset = chunk.len();
        chunk.extend_from_slice(&sequence.to_be_bytes());
        chunk.extend_from_slice(&(key.len() as u16).to_be_bytes());
        chunk.extend_from_slice(key);
        chunk.extend_from_slice(value);
        self.seed = self
            .seed
            .wrapping_mul(0x5851_f42d_4c95_7f2d)
            .wrapping_add(0x1405_7b7e_f767_814f);
        let height = (1 + (self.seed >> 32).trailing_zeros() as usize / 2).min(Self::MAX_HEIGHT);
        self.height = self.height.max(height);
        let node = self.nodes.len() as u32;
        self.nodes.push((
            Self::head(key),
            number as u32,
            offset as u32,
            self.links.len() as u32,
        ));
        for (level, &before) in path.iter().enumerate().take(height) {
            let link = self.nodes[before as usize].3 as usize + level;
            self.links.push(self.links[link]);
            self.links[link] = node;
        }
    }

    fn get(&self, key: &[u8]) -> Option<u8> {
        let node = self.next(self.before(key, u64::MAX)[0], 0);
        (node != 0 && self.key(node) == key).then(|| self.value(node)[0])
    }

    fn scan(&self) -> usize {
        let mut sum = 0;
        let mut node = self.next(0, 0);
        while node != 0 {
            sum += touch(self.key(node), self.value(node));
            node = self.next(node, 0);
        }
        sum
    }
}

/// SplitMix64's finalizer: a random-looking bijection, so that keys never repeat.
fn scramble(n: u64) -> u64 {
    let z = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A shape of key and how to make the `n`th of it.
type Shape = (&'static str, fn(u64) -> Vec<u8>);

const SHAPES: [Shape; 3] = [
    ("random", |n| {
        [scramble(n), scramble(!n)].map(u64::to_be_bytes).concat()
    }),
    // 10^12 possible ids in random order behind 17 shared bytes; a few collide and become versions.
    ("prefixed", |n| {
        format!("user:tenant-0042:{:012}", scramble(n) % 1_000_000_000_000).into_bytes()
    }),
    ("sequential", |n| format!("user:tenant-0042:{n:012}").into_bytes()),
];

fn build<T: Table>(keys: &[Vec<u8>], value: &[u8]) -> T {
    let mut table = T::new();
    for (sequence, key) in (1..).zip(keys) {
        table.insert(key, sequence, value);
    }
    table
}

fn measure<T: Table>(criterion: &mut Criterion<CpuTime>, shape: Shape, entries: u64) {
    let (name, key) = shape;
    let value = [7; VALUE_BYTES];
    // Keys 2n are stored, 2n + 1 are the misses between them.
    let keys: Vec<_> = (0..entries).map(|n| key(2 * n)).collect();
    let lookups = |odd: u64| -> Vec<_> {
        (0..LOOKUPS as u64)
            .map(|n| key(2 * (scramble(n) % entries) + odd))
            .collect()
    };
    let mut group =
        |operation: &str, elements: u64, run: &mut dyn FnMut(&mut criterion::Bencher<'_, CpuTime>)| {
            let mut group = criterion.benchmark_group(format!("{operation}/{name}/{entries}"));
            group.sample_size(10).throughput(Throughput::Elements(elements));
            group.bench_function(BenchmarkId::from_parameter(T::NAME), run);
        };
    group("insert", entries, &mut |b| {
        b.iter_batched(
            || (),
            |()| build::<T>(&keys, black_box(&value)),
            BatchSize::PerIteration,
        );
    });
    // Built only if the filter leaves something that reads it.
    let table = LazyCell::new(|| build::<T>(&keys, &value));
    for (operation, probes) in [("hit", lookups(0)), ("miss", lookups(1))] {
        group(operation, LOOKUPS as u64, &mut |b| {
            let table = &*table;
            b.iter(|| probes.iter().filter(|key| table.get(key).is_some()).count());
        });
    }
    group("scan", entries, &mut |b| {
        let table = &*table;
        b.iter(|| table.scan());
    });
}

fn all(criterion: &mut Criterion<CpuTime>) {
    for entries in [150_000, 1_000_000] {
        for shape in SHAPES {
            measure::<Memtable>(criterion, shape, entries);
            measure::<BTreeMap<Owned, Owned>>(criterion, shape, entries);
            measure::<SkipMap<Owned, Owned>>(criterion, shape, entries);
            measure::<SkipList>(criterion, shape, entries);
        }
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(CpuTime);
    targets = all
}
criterion_main!(benches);
