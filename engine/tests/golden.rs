//! Format version 1 of every file, pinned byte for byte, and still read by the code that opens a database (R13).
//!
//! A change that breaks these breaks every stored database: it needs a new format version. The manifest and the table have
//! their golden files beside the code that writes them; here are the WAL segment, the superblock, and one whole database
//! as it was written, which must open for ever. `CORELANE_WRITE_GOLDEN=1` writes the files anew.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and looks at files itself"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "golden files are in the source tree, not in a database"
)]

use std::fs;
use std::ops::Bound;
use std::path::{Path, PathBuf};

use corelane::api::slots::SlotTable;
use corelane::api::superblock::Superblock;
use corelane::api::{Batch, Durability, Options};
use corelane::codec::batch;
use corelane::codec::frame::{self, Frame, FrameKind, Identity, framed_bytes};
use corelane::io::Io;
use corelane::io::sim::{SimDisk, run};
use corelane::types::{PAGE_BYTES, segment_file_name};
use corelane::wal::payload::{Seal, push_batch};
use corelane::wal::segment::Header;
use corelane::wal::{self, Owner, TailState};
use corelane_testing::{DIR, open, small};

const DAY_MS: u64 = 86_400_000;

const OWNER: Owner = Owner {
    database: 0xfeed_f00d_dead_beef,
    shard: 3,
};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
}

/// Compares with the stored file, or stores it.
fn pinned(name: &str, bytes: &[u8]) {
    let path = golden(name);
    if std::env::var_os("CORELANE_WRITE_GOLDEN").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
    }
    let stored = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(stored.len(), bytes.len(), "{name}");
    let differing = stored.iter().zip(bytes).position(|(a, b)| a != b);
    assert_eq!(differing, None, "{name}: the first differing byte");
}

fn header(number: u64, salt: u64, pages: u64) -> Header {
    Header {
        owner: OWNER,
        number,
        salt,
        bytes: pages * PAGE_BYTES as u64,
    }
}

/// A segment with these frames behind its header, numbered from `first`.
fn segment(header: &Header, first: u64, frames: &[(FrameKind, Vec<u8>)]) -> Vec<u8> {
    let mut file = vec![0; usize::try_from(header.bytes).unwrap()];
    file[..PAGE_BYTES].copy_from_slice(&header.encode());
    let identity = Identity {
        shard: OWNER.shard,
        salt: header.salt,
    };
    let mut at = PAGE_BYTES;
    for (number, (kind, payload)) in (first..).zip(frames) {
        let end = at + framed_bytes(payload.len());
        let frame = Frame {
            kind: *kind,
            number,
            durable: number - 1,
            payload,
        };
        frame::encode(&mut file[at..end], identity, at as u64, frame);
        at = end;
    }
    file
}

fn group(batches: &[Vec<u8>]) -> Vec<u8> {
    let mut payload = Vec::new();
    for batch in batches {
        push_batch(&mut payload, batch);
    }
    payload
}

/// The batches of the golden log, in order: every kind of operation, the empty key and value, and one in three parts over
/// the end of a segment.
fn batches() -> Vec<Vec<u8>> {
    let mut small = Vec::new();
    batch::push_put(&mut small, b"key", b"value");
    batch::push_put(&mut small, b"", b"the empty key");
    batch::push_put(&mut small, b"empty value", b"");
    let mut gone = Vec::new();
    batch::push_tombstone(&mut gone, b"key");
    let mut large = Vec::new();
    let value: Vec<u8> = (0..14_000_u32).map(|n| (n * n % 251) as u8).collect();
    batch::push_put(&mut large, b"large", &value);
    vec![small, gone, large]
}

fn golden_log() -> [(u64, Vec<u8>); 2] {
    let all = batches();
    let (first, second) = (
        header(7, 0x0123_4567_89ab_cdef, 16),
        header(8, 0xfedc_ba98_7654_3210, 16),
    );
    let seal = Seal {
        next_segment: 8,
        next_salt: second.salt,
        continues: true,
    };
    let large = &all[2];
    let frames = [
        (FrameKind::Group, group(&all[..2])),
        (FrameKind::Group, group(&all[1..2])),
        (FrameKind::First, large[..5000].to_vec()),
        (FrameKind::Seal, seal.encode().to_vec()),
    ];
    let one = segment(&first, 1, &frames);
    let frames = [
        (FrameKind::Middle, large[5000..10_000].to_vec()),
        (FrameKind::Last, large[10_000..].to_vec()),
        (FrameKind::Mark, Vec::new()),
    ];
    [(7, one), (8, segment(&second, 5, &frames))]
}

#[test]
fn r13_the_wal_of_version_1_is_written_byte_for_byte_as_ever() {
    for (number, bytes) in golden_log() {
        pinned(&format!("wal-v1-{number}"), &bytes);
    }
}

#[test]
fn r13_the_wal_of_version_1_is_read_as_ever() {
    let disk = SimDisk::new();
    for number in [7, 8] {
        let bytes = fs::read(golden(&format!("wal-v1-{number}"))).unwrap();
        disk.write(Path::new("/log").join(segment_file_name(number)), &bytes);
    }
    let (recovered, found) = run(1, &disk, 1, |machine| async move {
        let mut found = Vec::new();
        let io = machine.core(0);
        let recovered = wal::recover(&io, Path::new("/log"), OWNER, 7, 1, |frame, batch| {
            found.push((frame, batch.to_vec()));
            Ok(())
        })
        .await
        .unwrap();
        (recovered, found)
    })
    .unwrap();
    let all = batches();
    let expected = [
        (1, all[0].clone()),
        (1, all[1].clone()),
        (2, all[1].clone()),
        (3, all[2].clone()),
    ];
    assert!(found == expected);
    assert_eq!((recovered.segment.number, recovered.next_frame), (8, 8));
    assert_eq!(recovered.tail, TailState::Untouched);
}

fn superblock() -> Superblock {
    Superblock {
        database: OWNER.database,
        created_ms: 1_795_000_000_000,
        slots: SlotTable::contiguous(5),
    }
}

#[test]
fn r13_the_superblock_of_version_1_is_written_and_read_as_ever() {
    pinned("superblock-v1", &superblock().encode());
    let stored = fs::read(golden("superblock-v1")).unwrap();
    assert_eq!(Superblock::decode(&stored), Ok(superblock()));
}

fn options() -> Options {
    let mut options = small(1, 2);
    options.tuning.memtable_bytes = 1 << 20;
    options.tuning.manifest_bytes = 16 << 10;
    options.tuning.auto_compact = false;
    options
}

/// The disk of a stored database.
fn disk_of(stored: &Path) -> SimDisk {
    let disk = SimDisk::new();
    for entry in fs::read_dir(stored).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().replace('+', "/");
        let mut bytes = fs::read(&path).unwrap();
        // Zeros at the end are not stored; the length is, behind the name.
        let (name, length) = name.rsplit_once('@').unwrap();
        bytes.resize(length.parse().unwrap(), 0);
        disk.write(Path::new(DIR).join(name), &bytes);
    }
    disk
}

/// A database written by an earlier build opens with everything in it. It is stored as it was, not made again: what
/// bytes a build writes may change within a format version, what it reads may not.
#[test]
fn r13_a_whole_database_of_version_1_opens_as_ever() {
    let stored = golden("database-v1");
    if std::env::var_os("CORELANE_WRITE_GOLDEN").is_some() {
        write_database(&stored);
    }
    let disk = disk_of(&stored);
    run(2, &disk, 1, |machine| async move {
        let db = open(&machine, options()).await.unwrap();
        let page = db.scan(Bound::Unbounded, Bound::Unbounded, 1000).await.unwrap();
        let expected = contents();
        assert_eq!(page.entries.len(), expected.len());
        for (key, value) in expected {
            assert_eq!(db.get(&key).await.unwrap(), Some(value), "{key:?}");
        }
        assert_eq!(db.stats().await.unwrap().total(|shard| shard.torn_tail_bytes), 0);
        db.put(b"new", b"written by a later build").await.unwrap();
        db.compact().await.unwrap();
        db.close().await.unwrap();
    })
    .unwrap();
}

/// What is in the golden database: in tables of two levels, and in the log.
fn contents() -> Vec<(Vec<u8>, Vec<u8>)> {
    (0..60_u8)
        .filter(|n| n % 7 != 3)
        .map(|n| (vec![b'k', n], vec![if n % 5 == 0 { 200 } else { n }; 100]))
        .collect()
}

/// A database with values that end, in a table and in the log, and the time in its manifest.
#[test]
fn r13_a_database_with_values_that_end_opens_as_ever() {
    const LONG: u64 = 10_000 * DAY_MS;
    let stored = golden("database-v1-expiry");
    if std::env::var_os("CORELANE_WRITE_GOLDEN").is_some() {
        let disk = SimDisk::new();
        run(1, &disk, 1, |machine| async move {
            let db = open(&machine, options()).await.unwrap();
            let now_ms = machine.core(0).wall_clock_ms();
            for (place, n) in [("table", 0), ("log", 1)] {
                for (name, ends_ms) in [("soon", now_ms + DAY_MS), ("late", now_ms + LONG + n)] {
                    let key = format!("{place} {name}");
                    db.put_until(key.as_bytes(), b"value", ends_ms).await.unwrap();
                }
                if place == "table" {
                    db.flush().await.unwrap();
                }
            }
            machine.jump_wall_clock(2 * i64::try_from(DAY_MS).unwrap());
            db.close().await.unwrap();
        })
        .unwrap();
        store(&disk, &stored);
    }
    run(2, &disk_of(&stored), 1, |machine| async move {
        // The simulator's clock starts two days before the time in the manifest.
        let now_ms = machine.core(0).wall_clock_ms();
        let db = open(&machine, options()).await.unwrap();
        for place in ["table", "log"] {
            let soon = format!("{place} soon");
            assert_eq!(db.get(soon.as_bytes()).await.unwrap(), None);
            let late = format!("{place} late");
            assert_eq!(db.get(late.as_bytes()).await.unwrap(), Some(b"value".to_vec()));
            let ends_ms = db.expiry(late.as_bytes()).await.unwrap().flatten().unwrap();
            assert!(ends_ms >= now_ms + LONG - DAY_MS);
        }
        db.close().await.unwrap();
    })
    .unwrap();
}

fn write_database(stored: &Path) {
    let disk = SimDisk::new();
    run(1, &disk, 1, |machine| async move {
        let db = open(&machine, options()).await.unwrap();
        for n in 0..60_u8 {
            db.put(&[b'k', n], &[n; 100]).await.unwrap();
        }
        db.compact().await.unwrap();
        for n in (0..60_u8).filter(|n| n % 7 == 3) {
            let mut batch = Batch::new();
            batch.delete(&[b'k', n]).unwrap();
            db.write(batch, Durability::Buffered).await.unwrap();
        }
        db.flush().await.unwrap();
        for n in (0..60_u8).filter(|n| n % 5 == 0 && n % 7 != 3) {
            db.put(&[b'k', n], &[200; 100]).await.unwrap();
        }
        db.close().await.unwrap();
    })
    .unwrap();
    store(&disk, stored);
}

fn store(disk: &SimDisk, stored: &Path) {
    let _fresh = fs::remove_dir_all(stored);
    fs::create_dir_all(stored).unwrap();
    for path in disk.files() {
        let bytes = disk.read(&path).unwrap();
        let used = bytes.iter().rposition(|&b| b != 0).map_or(0, |last| last + 1);
        let name = path
            .strip_prefix(DIR)
            .unwrap()
            .to_str()
            .unwrap()
            .replace('/', "+");
        if name != "lock" {
            fs::write(stored.join(format!("{name}@{}", bytes.len())), &bytes[..used]).unwrap();
        }
    }
}
