//! Every byte flipped, every truncation, every swap of pages: the right value or a located error, never anything else.

use super::*;
use crate::error::{Error, ErrorKind};
use crate::sstable::format::BlockType;
use crate::types::MAX_SEQUENCE;

/// Small, yet with several data blocks (one of two pages), several partitions and compressed blocks.
fn sample() -> (Vec<Owned>, Vec<u8>) {
    let mut rng = Rng(3);
    let mut entries = Vec::new();
    for n in 0..24_u64 {
        let key = [format!("k{n:02}").into_bytes(), vec![b'.'; 300]].concat();
        let value = if n % 2 == 0 {
            rng.bytes(700)
        } else {
            b"text ".repeat(200)
        };
        entries.push(Owned::put(key, 10 + n, value));
    }
    entries.push(Owned::put(*b"m", 3, rng.bytes(5000)));
    let options = TableOptions {
        compression: Compression::Lz4,
        ..TableOptions::default()
    };
    let (bytes, summary) = build(&entries, &options);
    assert!(summary.data_blocks >= 4 && summary.bytes < 80_000, "{summary:?}");
    (entries, bytes)
}

fn assert_located(error: &Error, what: &str) {
    assert!(
        matches!(error.kind(), ErrorKind::Corruption | ErrorKind::Incompatible),
        "{what}: {error}"
    );
    assert_eq!(error.file(), Some(path().as_path()), "{what}: {error}");
}

/// Reads everything in every way. Returns how many ways failed; whatever did not must be right.
fn read_all(entries: &[Owned], bytes: &[u8], what: &str) -> usize {
    let mut failures = 0;
    for pin in [true, false] {
        let table = match open(bytes.to_vec(), pin) {
            Ok(table) => table,
            Err(error) => {
                assert_located(&error, what);
                failures += 1;
                continue;
            }
        };
        let cache = BlockCache::new(1 << 20);
        for entry in entries {
            match lookup(&table, &cache, &entry.key, MAX_SEQUENCE) {
                Ok(found) => assert_eq!(found.as_ref(), Some(entry), "{what}"),
                Err(error) => {
                    assert_located(&error, what);
                    failures += 1;
                }
            }
            let absent = [entry.key.as_slice(), b"?"].concat();
            match lookup(&table, &cache, &absent, MAX_SEQUENCE) {
                Ok(found) => assert_eq!(found, None, "{what}"),
                Err(error) => assert_located(&error, what),
            }
        }
        for mut cursor in [
            TableCursor::sequential(Rc::clone(&table)),
            TableCursor::scan(Rc::clone(&table)),
        ] {
            cursor.seek_to_first();
            match drain(&mut cursor, Some(&cache)) {
                Ok(found) => assert_eq!(found, entries, "{what}"),
                Err(error) => {
                    assert_located(&error, what);
                    assert!(cursor.current().is_none());
                    assert!(block_on(cursor.load(Some(&cache))).is_err(), "the failure stays");
                    failures += 1;
                }
            }
        }
        // Through a cache of its own: what the walks above have left would spare it the file.
        let cache = BlockCache::new(1 << 20);
        let mut back = BackCursor::scan(table);
        back.seek_to_last();
        match drain_back(&mut back, Some(&cache)) {
            Ok(found) => assert!(found.iter().eq(entries.iter().rev()), "{what}"),
            Err(error) => {
                assert_located(&error, what);
                assert!(back.current().is_none());
                assert!(block_on(back.load(Some(&cache))).is_err(), "the failure stays");
                failures += 1;
            }
        }
    }
    failures
}

#[test]
fn r15_every_flipped_byte_is_harmless_padding_or_a_located_error() {
    let (entries, bytes) = sample();
    assert_eq!(read_all(&entries, &bytes, "untouched"), 0);
    let mut caught = 0;
    for at in 0..bytes.len() {
        let mut bad = bytes.clone();
        bad[at] ^= 1 << (at % 8);
        let failures = read_all(&entries, &bad, &format!("byte {at} flipped"));
        let page = at / PAGE_BYTES * PAGE_BYTES;
        let is_padding = bytes[at] == 0 && bytes[at..page + PAGE_BYTES].iter().all(|&b| b == 0);
        assert!(failures > 0 || is_padding, "byte {at} flipped unnoticed");
        caught += usize::from(failures > 0);
    }
    assert!(
        caught > bytes.len() / 3,
        "{caught} of {} flips were caught",
        bytes.len()
    );
}

#[test]
fn r15_every_swap_and_every_stale_copy_of_a_page_is_an_error() {
    let (entries, bytes) = sample();
    let pages = bytes.len() / PAGE_BYTES;
    let page = |n: usize| n * PAGE_BYTES..(n + 1) * PAGE_BYTES;
    for a in 0..pages {
        for b in a + 1..pages {
            let mut bad = bytes.clone();
            bad[page(a)].copy_from_slice(&bytes[page(b)]);
            bad[page(b)].copy_from_slice(&bytes[page(a)]);
            assert!(read_all(&entries, &bad, &format!("pages {a} and {b} swapped")) > 0);
        }
        let mut zeroed = bytes.clone();
        zeroed[page(a)].fill(0);
        assert!(read_all(&entries, &zeroed, &format!("page {a} zeroed")) > 0);
    }
    // The same entries under another number: every page alike but for its checksum.
    let other = TableIdentity {
        number: 41,
        ..IDENTITY
    };
    let options = TableOptions {
        compression: Compression::Lz4,
        ..TableOptions::default()
    };
    let mut builder = TableBuilder::new(other, &options);
    entries.iter().for_each(|entry| builder.add(entry.entry()));
    builder.finish();
    let mut stale = vec![0; builder.ready_bytes()];
    builder.take(&mut stale);
    assert_eq!(stale.len(), bytes.len());
    for n in 0..pages {
        let mut bad = bytes.clone();
        bad[page(n)].copy_from_slice(&stale[page(n)]);
        // A later page of a block is covered by the checksum at the block's start, and may be the same in both.
        let same = stale[page(n)] == bytes[page(n)];
        assert_eq!(
            read_all(&entries, &bad, &format!("page {n} of another table")) == 0,
            same
        );
    }
    let error = open(stale, true).unwrap_err();
    assert!(error.to_string().contains("table 41"), "{error}");
}

#[test]
fn every_truncation_and_extension_is_refused_at_open() {
    let (_, bytes) = sample();
    for pages in 0..bytes.len() / PAGE_BYTES {
        let short = bytes[..pages * PAGE_BYTES].to_vec();
        assert_located(
            &open(short.clone(), true).unwrap_err(),
            "truncated, length unknown",
        );
        let io = machine_with(short);
        let error = block_on(Table::open(&io, path(), IDENTITY, bytes.len() as u64, true)).unwrap_err();
        assert_located(&error, "truncated");
    }
    let mut long = bytes.clone();
    long.resize(bytes.len() + PAGE_BYTES, 0);
    assert_located(&open(long, true).unwrap_err(), "extended");
    assert_located(
        &open(bytes[..bytes.len() - 1].to_vec(), true).unwrap_err(),
        "cut inside a page",
    );
}

#[test]
fn a_file_that_loses_its_end_while_open_gives_located_errors() {
    let (entries, bytes) = sample();
    let io = machine_with(bytes.clone());
    let table = Rc::new(block_on(Table::open(&io, path(), IDENTITY, bytes.len() as u64, true)).unwrap());
    block_on(async {
        let file = crate::io::Io::open(&io, &path(), crate::io::OpenOptions::WRITE)
            .await
            .unwrap();
        file.truncate(PAGE_BYTES);
    });
    let last = &entries[entries.len() - 1];
    assert_located(
        &lookup(&table, &BlockCache::new(0), &last.key, MAX_SEQUENCE).unwrap_err(),
        "lookup",
    );
    let mut cursor = TableCursor::sequential(table);
    cursor.seek_to_first();
    assert_located(&drain(&mut cursor, None).unwrap_err(), "walk");
}

#[test]
fn every_failing_read_is_an_error_that_names_its_place_and_the_next_try_succeeds() {
    let (entries, bytes) = sample();
    let read_everything = |io: &MemoryIo, pin| -> Result<()> {
        let table = Rc::new(block_on(Table::open(
            io,
            path(),
            IDENTITY,
            bytes.len() as u64,
            pin,
        ))?);
        let cache = BlockCache::new(1 << 20);
        for mut cursor in [
            TableCursor::sequential(Rc::clone(&table)),
            TableCursor::scan(Rc::clone(&table)),
        ] {
            cursor.seek(&entries[1].key, MAX_SEQUENCE);
            assert_eq!(drain(&mut cursor, Some(&cache))?, entries[1..]);
        }
        let mut back = BackCursor::scan(Rc::clone(&table));
        back.seek_below(&entries[20].key);
        let found = drain_back(&mut back, Some(&BlockCache::new(1 << 20)))?;
        assert!(found.iter().eq(entries[..20].iter().rev()));
        for entry in &entries {
            assert_eq!(
                lookup(&table, &cache, &entry.key, MAX_SEQUENCE)?.as_ref(),
                Some(entry)
            );
        }
        Ok(())
    };
    for pin in [true, false] {
        let clean = machine_with(bytes.clone());
        read_everything(&clean, pin).unwrap();
        assert!(clean.reads() >= 5, "{} reads", clean.reads());
        for number in 0..clean.reads() {
            let io = machine_with(bytes.clone());
            io.fail_read(number);
            let error = read_everything(&io, pin).unwrap_err();
            assert_eq!(
                (error.kind(), error.file()),
                (ErrorKind::Io, Some(path().as_path())),
                "read {number}"
            );
            assert!(error.offset().is_some(), "read {number}: {error}");
            read_everything(&io, pin).unwrap();
        }
    }
}

/// A page of an older file of the same identity has a right checksum at its place; only the order of keys tells.
#[test]
fn r16_a_walk_backwards_refuses_blocks_that_are_not_in_order() {
    let table_of = |prefix: &str| {
        let key = |n: u64| format!("{prefix}{n:02}");
        let entries: Vec<_> = (0..40_u64).map(|n| Owned::put(key(n), 5, vec![7; 300])).collect();
        build(&entries, &TableOptions::default()).0
    };
    let whole = table_of("k");
    for other in [table_of("a"), table_of("z")] {
        for page in 1..3 {
            let mut bad = whole.clone();
            let place = page * PAGE_BYTES..(page + 1) * PAGE_BYTES;
            bad[place.clone()].copy_from_slice(&other[place]);
            let mut back = BackCursor::scan(open(bad, true).unwrap());
            back.seek_to_last();
            let error = drain_back(&mut back, None).unwrap_err();
            assert_located(&error, "another page");
            assert!(error.to_string().contains("not in order"), "{error}");
        }
    }
}

#[test]
fn r17_decoders_refuse_random_bytes_without_panicking() {
    let mut rng = Rng(5);
    for _ in 0..200_000 {
        let len = rng.below(200);
        let mut bytes = rng.bytes(len);
        if rng.below(2) == 0 {
            // Small numbers make plausible lengths.
            bytes.iter_mut().for_each(|byte| *byte %= 5);
        }
        let restarts = u32::try_from(rng.below(4)).unwrap();
        if let Ok(block) = Block::from_payload(bytes.clone(), restarts, BlockType::Data) {
            // A block that passes its check must serve any lookup.
            for key in [b"".as_slice(), &[0], &[1, 2], &bytes[..len.min(9)]] {
                block.get(key, 3);
                block.get(key, MAX_SEQUENCE);
            }
        }
        let _ = super::super::filter::Filter::decode(&bytes, restarts);
        let _ = super::super::properties::Properties::decode(&bytes);
        let _ = super::super::format::decode_footer(&bytes, IDENTITY, 4096);
        let _ = super::super::format::claimed_bytes(&bytes);
    }
}
