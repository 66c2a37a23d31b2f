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

    fn index(&mut self, n: usize) -> usize {
        usize::try_from(self.below(n as u64)).unwrap()
    }
}

/// Keys that are hard on the heads: each shape draws from a small space, so versions and near-ties abound.
fn key(shape: u64, random: &mut Random) -> Vec<u8> {
    let n = random.below(300);
    match shape {
        0 => random.next().to_be_bytes().repeat(2),
        1 => format!("user:tenant-{:04}:{n:012}", n % 3).into_bytes(),
        // Prefixes of each other, of zeros: heads padded with zeros tie.
        2 => vec![0; random.index(40)],
        3 => vec![0xff; random.index(40)],
        // Any string over the two extreme bytes and one between.
        4 => (0..random.below(14))
            .map(|_| [0x00, 0xff, b'a'][random.index(3)])
            .collect(),
        // Equal 8-byte heads, told apart behind them.
        5 => [b"same-head-".as_slice(), &n.to_be_bytes()].concat(),
        // Long prefixes that part late.
        6 => [vec![b'p'; 1000 + random.index(7)], n.to_le_bytes().to_vec()].concat(),
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

/// Everything from `position` back to the first entry.
fn walk_back<'a>(table: &'a Memtable, mut position: Position) -> impl Iterator<Item = Entry<'a>> {
    std::iter::from_fn(move || {
        let entry = table.entry(&position)?;
        table.previous(&mut position);
        Some(entry)
    })
}

/// Everything below `key`, backwards.
fn model_below<'a>(model: &'a Model, key: &[u8]) -> impl Iterator<Item = Entry<'a>> {
    model
        .range(..(key.to_vec(), Reverse(u64::MAX)))
        .rev()
        .map(entry_of)
}

fn assert_same(table: &Memtable, model: &Model, context: &str) {
    assert!(
        walk(table, table.first()).eq(model.iter().map(entry_of)),
        "{context}: iteration"
    );
    assert!(
        walk_back(table, table.last()).eq(model.iter().rev().map(entry_of)),
        "{context}: iteration backwards"
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
            assert_eq!(
                table.entry(&table.seek_below(&probe)),
                model_below(&model, &probe).next(),
                "{context}, step {step}: seek below"
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
            let value = vec![step.to_le_bytes()[0]; random.index(50)];
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
            let index = random.index(held.len());
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
fn positions_held_across_inserts_walk_backwards_over_all_that_is_there() {
    let steps = if cfg!(miri) { 300 } else { 4000 };
    for seed in 0..if cfg!(miri) { 2 } else { 16 } {
        let mut random = Random(seed ^ 0xbac);
        let (mut table, mut model) = (Memtable::new(), Model::new());
        let mut held: Vec<Position> = vec![table.last()];
        assert_eq!(table.entry(&held[0]), None, "an empty memtable has no last entry");
        for step in 0..steps {
            let key = key(seed % 8, &mut random);
            add(&mut table, &mut model, &key, step, Kind::Put, &step.to_le_bytes());
            let index = random.index(held.len());
            let position = &mut held[index];
            let Some(at) = table.entry(position) else {
                table.previous(position);
                assert_eq!(table.entry(position), None, "seed {seed}: the end stays the end");
                *position = table.last();
                continue;
            };
            let mut before = model
                .range(..(at.key.to_vec(), Reverse(at.trailer())))
                .map(entry_of);
            table.previous(position);
            assert_eq!(
                table.entry(position),
                before.next_back(),
                "seed {seed}, step {step}: the one before is the one before"
            );
            if held.len() < 50 {
                held.push(table.seek_below(&key));
            }
        }
        for position in held {
            let Some(at) = table.entry(&position) else {
                continue;
            };
            let range = ..=(at.key.to_vec(), Reverse(at.trailer()));
            assert!(
                walk_back(&table, position).eq(model.range(range).rev().map(entry_of)),
                "seed {seed}"
            );
        }
    }
}

/// A workload that writes the same keys again and again made a tree of all their versions, ten times as large as of the
/// keys: a read went through more cache misses for versions that nobody could ask for.
#[test]
fn versions_that_nobody_wants_leave_the_tree_and_no_newest_one_is_lost() {
    for shape in 0..8 {
        let mut random = Random(shape);
        let (mut table, mut newest) = (Memtable::new(), BTreeMap::<Vec<u8>, Sequence>::new());
        let mut kept = Vec::new();
        for sequence in 1..4000 {
            let key = key(shape, &mut random);
            if random.below(20) == 0 {
                // A version that somebody may still want, and the newest on top of it.
                kept.extend(newest.get(&key).map(|&older| (key.clone(), older)));
                table.insert(&key, sequence, Kind::Put, &sequence.to_le_bytes());
            } else {
                kept.retain(|(k, older)| *k != key || newest[&key] != *older);
                table.insert_over(&key, sequence, Kind::Put, &sequence.to_le_bytes());
            }
            newest.insert(key, sequence);
        }
        for (key, &sequence) in &newest {
            let entry = table.get(key, MAX_SEQUENCE).unwrap();
            assert_eq!(
                (entry.sequence, entry.value),
                (sequence, sequence.to_le_bytes().as_slice())
            );
        }
        for (key, sequence) in &kept {
            assert_eq!(
                table.get(key, *sequence).unwrap().sequence,
                *sequence,
                "shape {shape}"
            );
        }
        let walked: Vec<_> = walk(&table, table.first()).collect();
        assert_eq!(walked.len(), table.len());
        let in_order = |pair: &[Entry<'_>]| {
            (pair[0].key, Reverse(pair[0].sequence)) < (pair[1].key, Reverse(pair[1].sequence))
        };
        assert!(walked.windows(2).all(in_order), "shape {shape}");
        let mut back: Vec<_> = walk_back(&table, table.last()).collect();
        back.reverse();
        assert_eq!(back, walked, "shape {shape}");
        // Beside the newest and those that are wanted: one a leaf's border at most.
        let leaves = table.len() / (node::SLOTS / 4) + 1;
        let wanted = newest.len() + kept.len() + 200 + leaves;
        assert!(
            table.len() <= wanted,
            "shape {shape}: {} of {wanted}",
            table.len()
        );
    }
}

#[test]
fn a_position_at_a_version_that_was_replaced_still_shows_it_and_goes_on_behind_it() {
    let mut table = Memtable::new();
    for (sequence, key) in (1..).zip(["a", "b", "c"]) {
        table.insert(key.as_bytes(), sequence, Kind::Put, b"old");
    }
    let mut position = table.seek(b"b", MAX_SEQUENCE);
    table.insert_over(b"b", 4, Kind::Put, b"new");
    for n in 5..200 {
        table.insert_over(format!("b{n}").as_bytes(), n, Kind::Put, b"");
    }
    assert_eq!(table.entry(&position).unwrap().value, b"old");
    table.next(&mut position);
    assert_eq!(table.entry(&position).unwrap().key, b"b10");
    assert_eq!(table.get(b"b", MAX_SEQUENCE).unwrap().value, b"new");
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
        assert_eq!(entry.kind == Kind::Tombstone, entry.sequence.is_multiple_of(30));
    }
    assert_eq!(table.get(b"k", MAX_SEQUENCE).unwrap().sequence, 10_000);
    assert_eq!(table.get(b"", MAX_SEQUENCE), None);
    assert_eq!(table.get(b"k\0", MAX_SEQUENCE), None);
}

#[test]
fn a_full_leaf_splits_right_wherever_the_insert_and_the_run_before_it_are() {
    let slots = i32::try_from(node::SLOTS).unwrap();
    for index in 0..=slots {
        // A run of 20 inserts that ends just below or just above `index`, or none.
        let below: Vec<_> = (index - 20..index).filter(|&n| n >= 0).collect();
        let above: Vec<_> = (index..index + 20).rev().filter(|&n| n < slots).collect();
        for run in [below, above, Vec::new()] {
            let (mut table, mut model) = (Memtable::new(), Model::new());
            let rest = (0..slots).filter(|n| !run.contains(n));
            let odd = rest.chain(run.iter().copied()).map(|n| 2 * n + 1);
            for (sequence, n) in (1..).zip(odd.chain([2 * index, 2 * index])) {
                let key = format!("shared prefix {n:04}");
                add(
                    &mut table,
                    &mut model,
                    key.as_bytes(),
                    sequence,
                    Kind::Put,
                    &sequence.to_le_bytes(),
                );
            }
            let context = format!("index {index}, run {run:?}");
            assert_same(&table, &model, &context);
            for (key, _) in model.keys() {
                assert_eq!(
                    table.get(key, MAX_SEQUENCE),
                    model_seek(&model, key, MAX_SEQUENCE),
                    "{context}"
                );
            }
        }
    }
}

#[test]
fn a_leaf_that_starts_anew_forgets_the_prefix_of_the_one_it_split_from() {
    let (mut table, mut model) = (Memtable::new(), Model::new());
    let full = (0..node::SLOTS).rev().map(|n| format!("bbbb{n:04}"));
    // The first of these is as long as the prefix that the full leaf skips, and goes alone into the lower half.
    let below = ["aaaa", "aaab", "aaac"].map(str::to_owned);
    for (sequence, key) in (1..).zip(full.chain(below)) {
        add(&mut table, &mut model, key.as_bytes(), sequence, Kind::Put, b"");
    }
    assert_same(&table, &model, "below");
}

/// The `n`th of keys that close in on a gap from both sides, `each` from one side and then from the other.
fn into_a_gap(n: u64, each: u64) -> String {
    format!(
        "{:012}",
        if (n / each).is_multiple_of(2) {
            n
        } else {
            90_000 - n
        }
    )
}

#[test]
fn runs_fill_their_leaves_and_no_order_of_inserts_leaves_them_near_empty() {
    type Pattern = (&'static str, fn(u64) -> String, f64);
    let patterns: [Pattern; 8] = [
        ("ascending", |n| format!("{n:012}"), 1.1),
        ("descending", |n| format!("{:012}", 90_000 - n), 1.1),
        ("one key over and over", |_| "counter".to_owned(), 1.1),
        ("ten ascending streams", |n| format!("{}:{n:012}", n % 10), 1.2),
        ("random", |n| format!("{:016x}", Random(n).next()), 1.6),
        ("into a gap", |n| into_a_gap(n, 1), 2.3),
        ("into a gap by fives", |n| into_a_gap(n, 5), 2.3),
        ("into a gap by twenties", |n| into_a_gap(n, 20), 3.0),
    ];
    let full = size_of::<node::Slots>() as f64 / node::SLOTS as f64;
    for (pattern, key, most) in patterns {
        let mut table = Memtable::new();
        for n in 0..40_000 {
            table.insert(key(n).as_bytes(), n, Kind::Put, b"");
        }
        let found = table.tree.bytes() as f64 / table.len() as f64;
        assert!(
            found <= full * most,
            "{pattern}: {found:.1} bytes of index an entry, full leaves take {full:.1}"
        );
    }
}

#[test]
fn bytes_are_what_was_stored_and_a_few_percent() {
    let (mut table, mut stored, mut random) = (Memtable::new(), 0, Random(5));
    assert!(
        table.bytes() < 32 << 10,
        "an empty memtable holds {}",
        table.bytes()
    );
    for sequence in 1..=40_000 {
        table.insert(
            &random.next().to_be_bytes().repeat(2),
            sequence,
            Kind::Put,
            &[1; 400],
        );
        stored += 16 + 400;
    }
    let (least, most) = (stored, stored * 113 / 100 + (1 << 20));
    assert!(
        (least..=most).contains(&table.bytes()),
        "{} for {stored} stored",
        table.bytes()
    );
    let before = table.bytes();
    table.insert(b"large", 50_000, Kind::Put, &vec![1; 5 << 20]);
    assert!(
        (5 << 20..(5 << 20) + 4096).contains(&(table.bytes() - before)),
        "a large value is counted as such"
    );
}

#[test]
fn the_longest_key_and_value_are_stored_whole() {
    let mut table = Memtable::new();
    let (key, value) = (vec![0xfe; MAX_KEY_BYTES], vec![0x11; MAX_VALUE_BYTES]);
    table.insert(&key[1..], 1, Kind::Put, b"shorter");
    table.insert(&key, 2, Kind::Put, &value);
    table.insert(b"", 3, Kind::Put, b"");
    let found = table.get(&key, 2).unwrap();
    assert!(found.key == key && found.value == value);
    assert_eq!(table.get(&key[1..], 2).unwrap().value, b"shorter");
    assert_eq!(table.get(b"", 3).unwrap().value, b"");
    assert!(
        walk(&table, table.first())
            .map(|entry| entry.sequence)
            .eq([3, 1, 2])
    );
}

#[test]
fn an_entry_that_is_there_already_is_refused_at_every_place_and_kind() {
    let mut table = Memtable::new();
    let last = 3 * node::SLOTS as u64;
    for sequence in 1..=last {
        table.insert(
            b"k",
            sequence,
            if sequence % 2 == 0 {
                Kind::Put
            } else {
                Kind::Tombstone
            },
            b"",
        );
    }
    for sequence in 1..=last {
        for kind in [Kind::Put, Kind::Tombstone] {
            let again = std::panic::AssertUnwindSafe(|| table.insert(b"k", sequence, kind, b""));
            assert!(
                std::panic::catch_unwind(again).is_err(),
                "sequence {sequence}, {kind:?}"
            );
        }
    }
    assert_eq!(
        walk(&table, table.first()).count() as u64,
        last,
        "a refused entry leaves no trace"
    );
}

#[test]
#[should_panic(expected = "a key has at most")]
fn a_key_over_the_limit_is_refused() {
    Memtable::new().insert(&vec![0; MAX_KEY_BYTES + 1], 1, Kind::Put, b"");
}

#[test]
#[should_panic(expected = "a tombstone has no value")]
fn a_tombstone_with_a_value_is_refused() {
    Memtable::new().insert(b"k", 1, Kind::Tombstone, b"v");
}

/// A memtable counted as full what it held, its first chunk of 64 KiB included: one of 64 KiB was full with one entry.
#[test]
fn what_is_used_grows_with_the_entries_and_stays_below_what_is_held() {
    let mut table = Memtable::new();
    let mut before = table.used_bytes();
    assert!(before < 4096, "an empty one has {before} bytes");
    for n in 0..2000_u64 {
        let value = vec![1; (n % 700) as usize];
        table.insert(&n.to_be_bytes(), n + 1, Kind::Put, &value);
        let grown = table.used_bytes() - before;
        assert!(
            grown >= 24 + value.len() && grown < 24 + value.len() + 8192,
            "{grown}"
        );
        before = table.used_bytes();
        assert!(before <= table.bytes());
    }
    assert!(before > 2000 * 370 && before < 2000 * 470, "{before}");
}

/// What is to be written to two memtables: to one whole, to the other out of what was prepared there.
struct Pending {
    key: Vec<u8>,
    kind: Kind,
    value: Vec<u8>,
    prepared: Prepared,
}

fn draw_kind(random: &mut Random) -> (Kind, Vec<u8>) {
    let kind = [Kind::Put, Kind::Put, Kind::PutUntil, Kind::Tombstone][random.index(4)];
    let bytes = match kind {
        Kind::Tombstone => 0,
        Kind::Put => random.index(60),
        Kind::PutUntil => crate::types::EXPIRY_BYTES + random.index(60),
    };
    (kind, vec![random.next().to_le_bytes()[0]; bytes])
}

fn insert_into(
    table: &mut Memtable,
    (key, kind, value): (&[u8], Kind, &[u8]),
    sequence: Sequence,
    over: bool,
) {
    if over {
        table.insert_over(key, sequence, kind, value);
    } else {
        table.insert(key, sequence, kind, value);
    }
}

fn assert_alike(table: &Memtable, plain: &Memtable, context: &str) {
    assert!(
        walk(table, table.first()).eq(walk(plain, plain.first())),
        "{context}: iteration"
    );
    assert!(
        walk_back(table, table.last()).eq(walk_back(plain, plain.last())),
        "{context}: iteration backwards"
    );
    let counts = |table: &Memtable| (table.len(), table.smallest_sequence(), table.largest_sequence());
    assert_eq!(counts(table), counts(plain), "{context}");
}

/// The same look into both, anywhere.
fn assert_look_alike(tables: [&Memtable; 2], probe: &[u8], at: Sequence, context: &str) {
    let [prepared, plain] = tables.map(|table| {
        (
            table.get(probe, at),
            table.entry(&table.seek(probe, at)),
            table.entry(&table.seek_below(probe)),
            table.entry(&table.first()),
            table.entry(&table.last()),
        )
    });
    assert_eq!(prepared, plain, "{context}: a look");
}

#[test]
fn what_is_prepared_and_inserted_later_is_as_if_it_were_inserted_then() {
    let steps = if cfg!(miri) { 300 } else { 4000 };
    for seed in 0..if cfg!(miri) { 2 } else { 24 } {
        let context = format!("seed {seed}");
        let mut random = Random(seed ^ 0xa4ead);
        let (mut table, mut plain) = (Memtable::new(), Memtable::new());
        let mut pending = std::collections::VecDeque::new();
        let mut held = [table.first(), plain.first()];
        for sequence in 1..=steps {
            let key = key(seed % 8, &mut random);
            let over = random.below(3) > 0;
            let (kind, value) = draw_kind(&mut random);
            match random.below(16) {
                0..8 => {
                    let prepared = table.prepare(&key, kind, &value);
                    assert_eq!(table.prepared_key(&prepared), key);
                    pending.push_back(Pending {
                        key,
                        kind,
                        value,
                        prepared,
                    });
                }
                8..14 => {
                    if let Some(Pending {
                        key,
                        kind,
                        value,
                        prepared,
                    }) = pending.pop_front()
                    {
                        table.insert_prepared(prepared, sequence, over);
                        insert_into(&mut plain, (&key, kind, &value), sequence, over);
                    }
                }
                14 => {
                    for table in [&mut table, &mut plain] {
                        insert_into(table, (&key, kind, &value), sequence, over);
                    }
                }
                // A group that failed: what was prepared of it is forgotten.
                _ => pending.truncate(random.index(pending.len() + 1)),
            }
            let (probe, at) = (self::key(seed % 8, &mut random), random.below(steps * 2));
            assert_look_alike([&table, &plain], &probe, at, &context);
            for (table, position) in [&table, &plain].into_iter().zip(&mut held) {
                if table.entry(position).is_none() || at % 40 == 0 {
                    *position = table.seek(&probe, at);
                } else if at % 2 == 0 {
                    table.next(position);
                } else {
                    table.previous(position);
                }
            }
            assert_eq!(
                table.entry(&held[0]),
                plain.entry(&held[1]),
                "{context}: a position held across inserts"
            );
        }
        assert!(table.len() > 100 || cfg!(miri), "{context}: {}", table.len());
        assert_alike(&table, &plain, &context);
    }
}

#[test]
fn what_is_only_prepared_is_in_no_read_no_walk_and_no_count_but_takes_room() {
    let mut table = Memtable::new();
    let prepared: Vec<_> = (0..200_u64)
        .map(|n| table.prepare(&n.to_be_bytes(), Kind::Put, b"value"))
        .collect();
    assert!(table.is_empty() && table.smallest_sequence().is_none() && table.largest_sequence().is_none());
    for position in [
        table.first(),
        table.last(),
        table.seek(b"", MAX_SEQUENCE),
        table.seek_below(&[0xff]),
    ] {
        assert_eq!(table.entry(&position), None);
    }
    assert_eq!(table.get(&7_u64.to_be_bytes(), MAX_SEQUENCE), None);
    let used_bytes = table.used_bytes();
    assert!(used_bytes >= Memtable::new().used_bytes() + 200 * 24);
    for (sequence, prepared) in (1..).zip(prepared).take(100) {
        table.insert_prepared(prepared, sequence, true);
    }
    assert_eq!(
        (table.len(), table.largest_sequence()),
        (100, Some(100)),
        "the others were dropped, and are nowhere"
    );
    assert_eq!(walk(&table, table.first()).count(), 100);
    assert_eq!(walk_back(&table, table.last()).count(), 100);
}

#[test]
fn a_prepared_version_takes_the_place_of_the_one_below_it_only_if_it_may() {
    let mut table = Memtable::new();
    table.insert(b"key", 1, Kind::Put, b"old");
    let both = [b"new".as_slice(), b"newer"].map(|value| table.prepare(b"key", Kind::Put, value));
    let [new, newer] = both;
    table.insert_prepared(new, 2, false);
    assert_eq!(
        table.get(b"key", 1).map(|entry| entry.value),
        Some(b"old".as_slice())
    );
    table.insert_prepared(newer, 3, true);
    assert_eq!(table.get(b"key", 2).map(|entry| entry.sequence), Some(1));
    assert_eq!(
        table.get(b"key", 3).map(|entry| entry.value),
        Some(b"newer".as_slice())
    );
    assert_eq!(table.len(), 2);
}

#[test]
#[should_panic(expected = "a prepared entry is inserted once")]
fn a_prepared_entry_is_not_inserted_twice() {
    let mut table = Memtable::new();
    let prepared = table.prepare(b"key", Kind::Put, b"value");
    let again = Prepared {
        record: prepared.record,
        leaf: prepared.leaf,
    };
    table.insert_prepared(prepared, 1, false);
    table.insert_prepared(again, 2, false);
}

#[test]
#[should_panic(expected = "sequence 1 of this key is in the memtable already")]
fn a_prepared_entry_takes_no_sequence_that_its_key_has() {
    let mut table = Memtable::new();
    let prepared = table.prepare(b"key", Kind::Tombstone, b"");
    table.insert(b"key", 1, Kind::Put, b"value");
    table.insert_prepared(prepared, 1, false);
}

#[test]
#[should_panic(expected = "nothing is committed at 0")]
fn a_prepared_entry_is_not_inserted_at_the_sequence_of_none() {
    let mut table = Memtable::new();
    let prepared = table.prepare(b"key", Kind::Put, b"value");
    table.insert_prepared(prepared, 0, false);
}

#[test]
#[should_panic(expected = "a key has at most")]
fn limits_hold_where_an_entry_is_prepared() {
    Memtable::new().prepare(&vec![0; MAX_KEY_BYTES + 1], Kind::Put, b"");
}

/// A way into a leaf is the way that goes down from the root, or none. A leaf that was guessed wrongly would put an entry
/// where no read finds it.
#[test]
fn a_way_into_a_leaf_is_the_way_from_the_root() {
    let mut random = Random(7);
    let mut table = Memtable::new();
    // Versions of few keys, too, so that some of a key lie on either side of a leaf's border.
    for sequence in 1..=if cfg!(miri) { 400 } else { 6000 } {
        let shape = random.below(8);
        table.insert(&key(shape, &mut random), sequence, Kind::Put, b"");
    }
    let (mut stepped, mut refused) = (0, 0);
    for _ in 0..if cfg!(miri) { 20 } else { 2000 } {
        let shape = random.below(8);
        let key = key(shape, &mut random);
        let target = seek_target(&key, random.below(7000));
        let whole = table.tree.descend(&table.arena, target);
        for leaf in whole.leaf().saturating_sub(2)..table.tree.leaves().min(whole.leaf() + 3) {
            match table.tree.step_into(&table.arena, leaf, target) {
                Some(path) => {
                    assert_eq!((path.leaf(), path.rank()), (whole.leaf(), whole.rank()));
                    stepped += 1;
                }
                None => {
                    let within = leaf == whole.leaf() && table.tree.is_within(&whole);
                    assert!(
                        !within,
                        "a leaf with room takes what is between two of its records"
                    );
                    refused += 1;
                }
            }
        }
    }
    assert!(stepped > 0 && refused > 0, "{stepped} and {refused}");
}
