//! The memtable against a model: a sorted map of everything inserted.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::*;

type Model = BTreeMap<(Vec<u8>, Reverse<u64>), Vec<u8>>;

/// SplitMix64: small, seeded, the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// Keys that are hard on the heads: each shape draws from a small space, so versions and near-ties abound.
fn key(shape: u64, random: &mut Random) -> Vec<u8> {
    let n = random.below(300);
    match shape {
        0 => random.next().to_be_bytes().repeat(2),
        1 => format!("user:tenant-{:04}:{n:012}", n % 3).into_bytes(),
        // Prefixes of each other, of zeros: heads padded with zeros tie.
        2 => vec![0; random.below(40) as usize],
        3 => vec![0xff; random.below(40) as usize],
        // Any string over the two extreme bytes and one between.
        4 => (0..random.below(14))
            .map(|_| [0x00, 0xff, b'a'][random.below(3) as usize])
            .collect(),
        // Equal 8-byte heads, told apart behind them.
        5 => [b"same-head-".as_slice(), &n.to_be_bytes()].concat(),
        // Long prefixes that part late.
        6 => [vec![b'p'; 1000 + (n % 7) as usize], n.to_le_bytes().to_vec()].concat(),
        _ => {
            let any = random.below(7);
            key(any, random)
        }
    }
}

fn entry_of<'a>(((key, Reverse(trailer)), value): (&'a (Vec<u8>, Reverse<u64>), &'a Vec<u8>)) -> Entry<'a> {
    let (sequence, kind) = crate::types::unpack_trailer(*trailer).unwrap();
    Entry {
        key,
        sequence,
        kind,
        value,
    }
}

fn model_seek<'a>(model: &'a Model, key: &[u8], at: Sequence) -> Option<Entry<'a>> {
    model
        .range((key.to_vec(), Reverse((at << 8) | 0xff))..)
        .next()
        .map(entry_of)
}

/// Everything from `position` on.
fn walk<'a>(table: &'a Memtable, mut position: Position) -> impl Iterator<Item = Entry<'a>> {
    std::iter::from_fn(move || {
        let entry = table.entry(&position)?;
        table.next(&mut position);
        Some(entry)
    })
}

fn assert_same(table: &Memtable, model: &Model, context: &str) {
    assert!(
        walk(table, table.first()).eq(model.iter().map(entry_of)),
        "{context}: iteration"
    );
    assert_eq!(table.len(), model.len(), "{context}");
    assert_eq!(table.is_empty(), model.is_empty(), "{context}");
    let sequences = || model.keys().map(|(_, Reverse(trailer))| trailer >> 8);
    assert_eq!(table.smallest_sequence(), sequences().min(), "{context}");
    assert_eq!(table.largest_sequence(), sequences().max(), "{context}");
}

fn add(table: &mut Memtable, model: &mut Model, key: &[u8], sequence: Sequence, kind: Kind, value: &[u8]) {
    table.insert(key, sequence, kind, value);
    model.insert(
        (key.to_vec(), Reverse(pack_trailer(sequence, kind))),
        value.to_vec(),
    );
}

#[test]
fn random_operations_agree_with_a_sorted_map() {
    let steps = if cfg!(miri) { 400 } else { 5000 };
    for seed in 0..if cfg!(miri) { 2 } else { 24 } {
        let context = format!("seed {seed}");
        let mut random = Random(seed);
        let (mut table, mut model) = (Memtable::new(), Model::new());
        for step in 0..steps {
            let probe = key(seed % 8, &mut random);
            let at = random.below(steps * 2);
            let seen = model_seek(&model, &probe, at);
            let position = table.seek(&probe, at);
            assert_eq!(table.entry(&position), seen, "{context}, step {step}: seek");
            assert_eq!(
                table.get(&probe, at),
                seen.filter(|e| e.key == probe),
                "{context}, step {step}: get"
            );
            let key = key(seed % 8, &mut random);
            // Every step its own sequence, but not in order.
            let sequence = (step * 2) ^ random.below(2) ^ 0x155;
            let sequence = if seed % 2 == 0 { step } else { sequence };
            let taken = [Kind::Put, Kind::Tombstone]
                .map(|kind| (key.clone(), Reverse(pack_trailer(sequence, kind))))
                .iter()
                .any(|at| model.contains_key(at));
            if taken {
                continue;
            }
            let value = vec![step as u8; random.below(50) as usize];
            if random.below(5) == 0 {
                add(&mut table, &mut model, &key, sequence, Kind::Tombstone, b"");
            } else {
                add(&mut table, &mut model, &key, sequence, Kind::Put, &value);
            }
        }
        assert_same(&table, &model, &context);
    }
}

#[test]
fn positions_held_across_inserts_skip_nothing_that_was_there() {
    let steps = if cfg!(miri) { 300 } else { 4000 };
    for seed in 0..if cfg!(miri) { 2 } else { 16 } {
        let mut random = Random(seed ^ 0xfeed);
        let (mut table, mut model) = (Memtable::new(), Model::new());
        // Each held position, with the entry it is at.
        let mut held: Vec<Position> = vec![table.first()];
        assert_eq!(table.entry(&held[0]), None);
        for step in 0..steps {
            let key = key(seed % 8, &mut random);
            add(&mut table, &mut model, &key, step, Kind::Put, &step.to_le_bytes());
            let index = random.below(held.len() as u64) as usize;
            let position = &mut held[index];
            let Some(before) = table.entry(position) else {
                // The end stays the end.
                table.next(position);
                assert_eq!(table.entry(position), None, "seed {seed}, step {step}");
                *position = table.first();
                continue;
            };
            let range = (before.key.to_vec(), Reverse(before.trailer()));
            let mut ahead = model.range(range..).map(entry_of);
            assert_eq!(
                Some(before),
                ahead.next(),
                "seed {seed}, step {step}: it stays at its entry"
            );
            table.next(position);
            assert_eq!(
                table.entry(position),
                ahead.next(),
                "seed {seed}, step {step}: the next is the next"
            );
            if held.len() < 50 {
                held.push(table.seek(&key, step));
            }
        }
        for position in held {
            let Some(at) = table.entry(&position) else {
                continue;
            };
            let range = (at.key.to_vec(), Reverse(at.trailer()));
            assert!(
                walk(&table, position).eq(model.range(range..).map(entry_of)),
                "seed {seed}"
            );
        }
    }
}

#[test]
fn of_one_key_a_read_sees_the_newest_at_or_below_its_sequence() {
    let mut table = Memtable::new();
    for sequence in (10..=10_000).step_by(10) {
        let kind = if sequence % 30 == 0 {
            Kind::Tombstone
        } else {
            Kind::Put
        };
        table.insert(b"k", sequence, kind, if kind == Kind::Put { b"v" } else { b"" });
    }
    assert_eq!(table.get(b"k", 9), None);
    for at in 10..10_100 {
        let entry = table.get(b"k", at).unwrap();
        assert_eq!(entry.sequence, (at / 10 * 10).min(10_000));
        assert_eq!(entry.kind == Kind::Tombstone, entry.sequence % 30 == 0);
    }
    assert_eq!(table.get(b"k", MAX_SEQUENCE).unwrap().sequence, 10_000);
    assert_eq!(table.get(b"", MAX_SEQUENCE), None);
    assert_eq!(table.get(b"k\0", MAX_SEQUENCE), None);
}
