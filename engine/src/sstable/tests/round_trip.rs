//! Every entry, by lookup at every sequence and by walking, equals a model.

use super::*;
use crate::merge::Step;
use crate::types::{MAX_SEQUENCE, MAX_VALUE_BYTES};

fn model_get(entries: &[Owned], key: &[u8], at: Sequence) -> Option<Owned> {
    entries.iter().find(|e| e.key == key && e.sequence <= at).cloned()
}

/// Checks lookups of `keys` at `sequences`, walks from the start and from every key, pinned and not.
fn check(
    entries: &[Owned],
    options: &TableOptions,
    keys: &[Vec<u8>],
    sequences: &[Sequence],
) -> TableSummary {
    let (bytes, summary) = build(entries, options);
    assert_eq!(summary.entries, entries.len() as u64);
    assert_eq!(summary.smallest, entries[0].key);
    assert_eq!(summary.largest, entries[entries.len() - 1].key);
    for pin in [true, false] {
        let table = open(bytes.clone(), pin).unwrap();
        let cache = BlockCache::new(1 << 20);
        assert_eq!(table.properties().entries, summary.entries);
        for key in keys {
            for &at in sequences {
                let expected = model_get(entries, key, at);
                assert_eq!(
                    lookup(&table, &cache, key, at).unwrap(),
                    expected,
                    "{key:x?} at {at}, pin {pin}"
                );
            }
        }
        let mut sequential = TableCursor::sequential(Rc::clone(&table));
        let mut scan = TableCursor::scan(Rc::clone(&table));
        sequential.seek_to_first();
        assert_eq!(drain(&mut sequential, None).unwrap(), entries);
        scan.seek_to_first();
        assert_eq!(drain(&mut scan, Some(&cache)).unwrap(), entries);
        scan.seek_to_first();
        assert_eq!(drain(&mut scan, None).unwrap(), entries, "without a cache");
        check_back(entries, &table, keys);
        for (i, key) in keys.iter().enumerate() {
            let at = sequences[i % sequences.len()];
            let start = entries.partition_point(|e| e.key < *key || (e.key == *key && e.sequence > at));
            let cursors: [(&mut TableCursor<MemoryIo>, _); 2] =
                [(&mut scan, Some(&cache)), (&mut sequential, None)];
            for (cursor, cache) in cursors {
                cursor.seek(key, at);
                let mut got = Vec::new();
                let mut step = block_on(cursor.load(cache)).unwrap();
                while step == Step::Ready && got.len() < 40 {
                    got.push(Owned::of(cursor.current().unwrap()));
                    step = cursor.advance();
                    if step == Step::NeedBlock {
                        step = block_on(cursor.load(cache)).unwrap();
                    }
                }
                let expected = &entries[start..entries.len().min(start + 40)];
                assert_eq!(got, expected, "from {key:x?} at {at}, pin {pin}");
            }
        }
    }
    summary
}

/// Checks walks backwards, from the end and from below every key.
fn check_back(entries: &[Owned], table: &Rc<Table<MemoryIo>>, keys: &[Vec<u8>]) {
    for cache in [Some(&BlockCache::new(1 << 20)), None] {
        let mut back = BackCursor::scan(Rc::clone(table));
        back.seek_to_last();
        assert!(
            drain_back(&mut back, cache)
                .unwrap()
                .iter()
                .eq(entries.iter().rev())
        );
        for key in keys {
            back.seek_below(key);
            let below = entries[..entries.partition_point(|e| e.key < *key)].iter().rev();
            let mut step = block_on(back.load(cache)).unwrap();
            // As far as some blocks: a walk over all from every key would take long.
            for entry in below.map(Some).chain([None]).take(40) {
                assert_eq!(back.current().map(Owned::of).as_ref(), entry, "below {key:x?}");
                assert_eq!(step == Step::Ready, entry.is_some());
                back.advance();
                step = block_on(back.load(cache)).unwrap();
            }
        }
    }
}

fn all_options() -> Vec<TableOptions> {
    let mut out = Vec::new();
    for compression in [Compression::None, Compression::Lz4] {
        for filter_bits_per_key in [0, 10] {
            for block_bytes in [PAGE_BYTES, 4 * PAGE_BYTES] {
                out.push(TableOptions {
                    compression,
                    filter_bits_per_key,
                    block_bytes,
                    ..TableOptions::default()
                });
            }
        }
    }
    out
}

fn random_entries(rng: &mut Rng) -> Vec<Owned> {
    let count = 1 + rng.below(600);
    let key_kind = rng.below(4);
    let value_bound = [1, 30, 500, 6000][rng.below(4)];
    let mut entries = Vec::new();
    for _ in 0..count {
        let key = match key_kind {
            0 => format!("user{:06}", rng.below(300)).into_bytes(),
            1 => vec![b'a'; rng.below(40)],
            2 => {
                let len = rng.below(5);
                rng.bytes(len)
            }
            _ => {
                let len = rng.below(300);
                let mut key = vec![7; len];
                key.extend_from_slice(&rng.bytes(2));
                key
            }
        };
        let sequence = 1 + rng.next() % 50;
        let len = rng.below(value_bound);
        entries.push(match rng.below(6) {
            0 => Owned::tombstone(key, sequence),
            1..=3 => Owned::put(key, sequence, rng.bytes(len)),
            _ => Owned::put(key, sequence, b"compressible ".repeat(len / 13)),
        });
    }
    in_order(entries)
}

#[test]
fn every_lookup_at_every_sequence_and_every_walk_equals_the_model() {
    for seed in 0..24 {
        let mut rng = Rng(seed);
        let entries = random_entries(&mut rng);
        let mut keys: Vec<Vec<u8>> = entries.iter().map(|e| e.key.clone()).collect();
        keys.dedup();
        let mut others = Vec::new();
        for key in &keys {
            others.push([key.as_slice(), &[0]].concat());
            others.push(key[..key.len().saturating_sub(1)].to_vec());
            let mut above = key.clone();
            if let Some(last) = above.last_mut() {
                *last = last.wrapping_add(1);
            }
            others.push(above);
        }
        keys.extend(others);
        keys.truncate(900);
        let options = &all_options()[rng.below(8)];
        println!("seed {seed}: {} entries, {options:?}", entries.len());
        check(&entries, options, &keys, &[0, 1, 10, 25, 26, 50, MAX_SEQUENCE]);
    }
}

#[test]
fn versions_of_one_key_may_span_blocks_and_partitions() {
    let mut entries = vec![Owned::put(*b"a", 5, *b"before"), Owned::put(*b"c", 5, *b"after")];
    // Long keys fill an index partition after some dozen blocks, so these versions span several partitions.
    let key = [b"b".as_slice(), &[b'x'; 200]].concat();
    for sequence in 1..=2000 {
        entries.push(match sequence % 5 {
            0 => Owned::tombstone(key.clone(), sequence),
            _ => Owned::put(key.clone(), sequence, sequence.to_string().repeat(60)),
        });
    }
    let entries = in_order(entries);
    let sequences: Vec<Sequence> = (0..=2001)
        .step_by(7)
        .chain([1999, 2000, 2001, MAX_SEQUENCE])
        .collect();
    let keys = [
        b"a".to_vec(),
        key.clone(),
        b"b".to_vec(),
        b"c".to_vec(),
        [key.as_slice(), b"y"].concat(),
    ];
    for options in all_options() {
        let summary = check(&entries, &options, &keys, &sequences);
        if options == TableOptions::default() {
            assert!(summary.partitions >= 3, "{summary:?}");
        }
    }
}

#[test]
fn empty_keys_and_values_longest_keys_and_big_values_come_back() {
    let mut rng = Rng(9);
    let entries = in_order(vec![
        Owned::put(*b"", 9, *b""),
        Owned::tombstone(*b"", 7),
        Owned::put(*b"", 3, *b"old"),
        Owned::put(vec![b'k'; 64 * 1024], 4, rng.bytes(5000)),
        Owned::put(vec![b'k'; 64 * 1024 - 1], 4, *b""),
        Owned::put([vec![b'k'; 64 * 1024 - 1], vec![b'l']].concat(), 4, *b"x"),
        Owned::put(*b"big", 4, rng.bytes(3 << 20)),
        Owned::put(*b"big-and-flat", 4, vec![0; 1 << 20]),
        Owned::put(*b"flat", 4, vec![0; 100_000]),
        Owned::put(*b"zz", 4, *b"last"),
    ]);
    let keys: Vec<Vec<u8>> = entries
        .iter()
        .map(|e| e.key.clone())
        .chain([b"k".to_vec(), b"zzz".to_vec()])
        .collect();
    for options in all_options() {
        check(&entries, &options, &keys, &[0, 3, 4, 8, MAX_SEQUENCE]);
    }
}

#[test]
fn the_longest_value_comes_back() {
    let entries = [Owned::put(*b"k", 1, vec![0xa5; MAX_VALUE_BYTES])];
    let (bytes, _) = build(&entries, &TableOptions::default());
    let table = open(bytes, true).unwrap();
    let mut cursor = TableCursor::sequential(Rc::clone(&table));
    cursor.seek_to_first();
    assert_eq!(drain(&mut cursor, None).unwrap(), entries);
    assert_eq!(
        lookup(&table, &BlockCache::new(0), b"k", 1).unwrap().as_ref(),
        Some(&entries[0])
    );
}

#[test]
fn a_lookup_of_a_pinned_table_costs_one_read_and_of_a_cached_block_none() {
    let entries: Vec<Owned> = (0..5000_u32)
        .map(|n| Owned::put(format!("key{n:08}"), u64::from(n), vec![7; 400]))
        .collect();
    let (bytes, summary) = build(&entries, &TableOptions::default());
    let io = machine_with(bytes);
    let cache = BlockCache::new(1 << 24);
    for (pin, expected) in [(true, 1), (false, 2)] {
        let table = block_on(Table::open(&io, path(), IDENTITY, summary.bytes, pin)).unwrap();
        let before = io.reads();
        assert!(
            lookup(&table, &cache, b"key00001234", MAX_SEQUENCE)
                .unwrap()
                .is_some()
        );
        assert_eq!(io.reads() - before, expected, "pin {pin}");
        assert!(
            lookup(&table, &cache, b"key00001234", MAX_SEQUENCE)
                .unwrap()
                .is_some()
        );
        assert!(
            lookup(&table, &cache, b"key00001234x", MAX_SEQUENCE)
                .unwrap()
                .is_none()
        );
        assert_eq!(io.reads() - before, expected, "pin {pin}");
        cache.remove_table(IDENTITY.number);
    }
}

#[test]
fn a_sequential_walk_reads_in_large_chunks_and_a_scan_grows_into_them() {
    let entries: Vec<Owned> = (0..20_000_u32)
        .map(|n| Owned::put(format!("key{n:08}"), u64::from(n), vec![7; 400]))
        .collect();
    let (bytes, summary) = build(&entries, &TableOptions::default());
    let io = machine_with(bytes);
    let table = Rc::new(block_on(Table::open(&io, path(), IDENTITY, summary.bytes, true)).unwrap());
    let mut cursor = TableCursor::sequential(Rc::clone(&table));
    let before = io.reads();
    cursor.seek_to_first();
    assert_eq!(drain(&mut cursor, None).unwrap().len(), entries.len());
    let chunks = summary.data_bytes.div_ceil(256 * 1024);
    assert_eq!(io.reads() - before, chunks);

    let cache = BlockCache::new(1 << 26);
    let mut scan = TableCursor::scan(Rc::clone(&table));
    let before = io.reads();
    scan.seek(b"key00000005", MAX_SEQUENCE);
    assert_eq!(block_on(scan.load(Some(&cache))).unwrap(), Step::Ready);
    assert_eq!(io.reads() - before, 1, "the first read brings one block");
    drain(&mut scan, Some(&cache)).unwrap();
    let reads = io.reads() - before;
    assert!(reads <= summary.data_bytes / (64 * 1024) + 6, "{reads} reads");
    let before = io.reads();
    scan.seek(b"key00000005", MAX_SEQUENCE);
    drain(&mut scan, Some(&cache)).unwrap();
    assert_eq!(io.reads(), before, "the second scan is served by the cache");
}

#[test]
fn blocks_take_one_page_each_and_compression_fills_them_well() {
    let mut rng = Rng(4);
    let half = |rng: &mut Rng| [rng.bytes(200), vec![0; 200]].concat();
    let entries: Vec<Owned> = (0..20_000_u32)
        .map(|n| Owned::put(format!("key{n:08}"), 1, half(&mut rng)))
        .collect();
    let raw = build(&entries, &text_options(Compression::None)).1;
    let lz4 = build(&entries, &text_options(Compression::Lz4)).1;
    assert_eq!(raw.data_bytes, raw.data_blocks * 4096);
    assert!(raw.data_bytes < raw.raw_bytes * 112 / 100, "{raw:?}");
    assert_eq!(
        lz4.data_bytes,
        lz4.data_blocks * 4096,
        "every compressed block fits its page"
    );
    assert!(
        lz4.data_bytes < raw.data_bytes * 62 / 100,
        "{} of {}",
        lz4.data_bytes,
        raw.data_bytes
    );

    let noise: Vec<Owned> = (0..5000_u32)
        .map(|n| Owned::put(format!("{n:08}"), 1, rng.bytes(400)))
        .collect();
    let raw = build(&noise, &text_options(Compression::None)).1;
    let lz4 = build(&noise, &text_options(Compression::Lz4)).1;
    assert!(
        lz4.data_blocks <= raw.data_blocks + 2,
        "noise is stored raw, as full as without compression"
    );
}

#[test]
fn the_estimate_of_the_final_size_is_close_at_every_moment() {
    let options = TableOptions::default();
    let entries: Vec<Owned> = (0..3000_u32)
        .map(|n| Owned::put(format!("key{n:08}"), 1, vec![7; n as usize % 300]))
        .collect();
    for count in [1, 10, 500, 3000] {
        let mut builder = TableBuilder::new(IDENTITY, &options);
        entries[..count]
            .iter()
            .for_each(|entry| builder.add(entry.entry()));
        let estimated = builder.estimated_bytes();
        let actual = builder.finish().bytes;
        assert!(
            estimated.abs_diff(actual) <= 4 * PAGE_BYTES as u64,
            "{count}: {estimated} for {actual}"
        );
    }
}

#[test]
#[should_panic(expected = "strict internal order")]
fn an_entry_out_of_order_is_refused() {
    let entries = [Owned::put(*b"k", 1, *b""), Owned::put(*b"k", 2, *b"")];
    build(&entries, &TableOptions::default());
}
