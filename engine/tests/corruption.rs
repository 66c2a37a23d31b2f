//! Every byte of a small database is damaged in turn: the answer is the right value or an error that names the file and
//! the offset; never a panic, a wrong value or silent absence (R7, R11, R13, R15).
//!
//! The database has everything in it: tables at two levels, a manifest of several edits, a WAL over several segments
//! with a batch larger than a frame, a superblock; two shards, closed cleanly. Each case damages a fork of that disk,
//! opens it, and reads every key and the whole range.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and looks at files itself"
)]

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::{Path, PathBuf};

use corelane::api::slots::SlotTable;
use corelane::api::{Batch, Db, Durability, Options};
use corelane::codec::frame;
use corelane::io::sim::{Rng, SimDisk, run};
use corelane::types::PAGE_BYTES;
use corelane::{Error, ErrorKind, wal};
use corelane_testing::{DIR, open, small};
use xxhash_rust::xxh3::xxh3_64;

const SHARDS: u16 = 2;

/// Everything that must be there.
type Model = BTreeMap<Vec<u8>, Vec<u8>>;

fn options() -> Options {
    let mut options = small(1, SHARDS);
    options.tuning.auto_compact = false;
    options.tuning.memtable_bytes = 1 << 20;
    options.tuning.manifest_bytes = 16 << 10;
    options
}

/// A key of this shard.
fn key(shard: u16, number: u32) -> Vec<u8> {
    let slots = SlotTable::contiguous(SHARDS);
    let tag = (0..100_u32)
        .map(|n| format!("{{t{n}}}"))
        .find(|tag| slots.shard_of_key(tag.as_bytes()) == shard)
        .unwrap();
    format!("{tag}{number:04}").into_bytes()
}

async fn write(db: &Db, model: &mut Model, shard: u16, puts: impl Iterator<Item = (u32, Option<Vec<u8>>)>) {
    let mut batch = Batch::new();
    for (number, value) in puts {
        let key = key(shard, number);
        match value {
            Some(value) => {
                batch.put(&key, &value).unwrap();
                model.insert(key, value);
            }
            None => {
                batch.delete(&key).unwrap();
                model.remove(&key);
            }
        }
    }
    db.write(batch, Durability::Sync).await.unwrap();
}

/// The database, and what is in it. `clean`: closed, or left as it is when the process dies.
fn database(clean: bool) -> (SimDisk, Model) {
    let disk = SimDisk::new();
    let model = run(1, &disk, 1, |machine| async move {
        let db = open(&machine, options()).await.unwrap();
        let mut model = Model::new();
        let mut rng = Rng::new(5);
        let mut noise = |bytes: usize| {
            let mut noise = vec![0; bytes];
            rng.fill(&mut noise);
            noise
        };
        for shard in 0..SHARDS {
            let puts: Vec<_> = (0..40).map(|n| (n, Some(noise(90)))).collect();
            write(&db, &mut model, shard, puts.into_iter()).await;
        }
        db.compact().await.unwrap();
        for shard in 0..SHARDS {
            let puts: Vec<_> = (0..40)
                .step_by(3)
                .map(|n| (n, (n % 2 == 0).then(|| noise(90))))
                .collect();
            write(&db, &mut model, shard, puts.into_iter()).await;
        }
        db.flush().await.unwrap();
        for shard in 0..SHARDS {
            write(&db, &mut model, shard, [(50, Some(noise(20)))].into_iter()).await;
            write(&db, &mut model, shard, [(51, Some(noise(60_000)))].into_iter()).await;
            write(
                &db,
                &mut model,
                shard,
                [(1, None), (52, Some(noise(5000)))].into_iter(),
            )
            .await;
            write(&db, &mut model, shard, [(53, Some(Vec::new()))].into_iter()).await;
        }
        let stats = db.stats().await.unwrap();
        for shard in &stats.shards {
            assert!(
                shard.level_tables.iter().filter(|&&tables| tables > 0).count() == 2,
                "tables at two levels"
            );
        }
        if clean {
            db.close().await.unwrap();
        }
        model
    });
    (disk, model.unwrap())
}

/// Opens the disk and reads everything. `Err` is the first error met; wrong values and absence panic.
fn check(disk: &SimDisk, model: &Model, case: &str) -> Result<u64, Error> {
    run(2, disk, 1, |machine| async move {
        machine.set_step_limit(2_000_000);
        let db = open(&machine, options()).await?;
        let mut first_error = Ok(());
        for (key, value) in model {
            match db.get(key).await {
                Ok(found) => assert!(found.as_ref() == Some(value), "{case}: a wrong value of {key:?}"),
                Err(error) => first_error = first_error.and(Err(error)),
            }
        }
        for shard in 0..SHARDS {
            for number in [1, 3, 9, 60] {
                match db.get(&key(shard, number)).await {
                    Ok(found) => assert_eq!(found, None, "{case}: a phantom"),
                    Err(error) => first_error = first_error.and(Err(error)),
                }
            }
        }
        match db.scan(Bound::Unbounded, Bound::Unbounded, 10_000).await {
            Ok(page) => assert!(page.entries.into_iter().eq(model.clone()), "{case}: a wrong scan"),
            Err(error) => first_error = first_error.and(Err(error)),
        }
        match db.scan_back(Bound::Unbounded, Bound::Unbounded, 10_000).await {
            Ok(page) => assert!(
                page.entries.into_iter().rev().eq(model.clone()),
                "{case}: a wrong scan backwards"
            ),
            Err(error) => first_error = first_error.and(Err(error)),
        }
        let torn = db.stats().await?.total(|shard| shard.torn_tail_bytes);
        let closed = db.close().await;
        first_error?;
        closed?;
        Ok(torn)
    })
    .unwrap()
}

/// Damages a fork and checks it: right, or an error naming this file and an offset within it.
fn damaged(disk: &SimDisk, model: &Model, file: &Path, case: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let bad = disk.fork();
    bad.corrupt(file, change);
    if let Err(error) = check(&bad, model, case) {
        let located = error.file() == Some(file) && error.offset().is_some();
        let kind = matches!(
            error.kind(),
            ErrorKind::Corruption | ErrorKind::Incompatible | ErrorKind::Io
        );
        assert!(located && kind, "{case}: {error}");
    }
}

fn files(disk: &SimDisk, extension: &str, shard: u16) -> Vec<PathBuf> {
    let dir = shard_dir(shard);
    let matches =
        |path: &PathBuf| path.starts_with(&dir) && path.extension().unwrap_or_default() == extension;
    disk.files().into_iter().filter(matches).collect()
}

fn shard_dir(shard: u16) -> PathBuf {
    Path::new(DIR).join(format!("shard-{shard:04}"))
}

fn flip_each(disk: &SimDisk, model: &Model, file: &Path, places: impl Iterator<Item = usize>) {
    for at in places {
        let case = format!("{} byte {at}", file.display());
        damaged(disk, model, file, &case, |bytes| bytes[at] ^= 1 << (at % 8));
    }
}

#[test]
fn r7_what_was_closed_cleanly_opens_whole_and_without_a_torn_tail() {
    let (disk, model) = database(true);
    assert_eq!(check(&disk, &model, "untouched").unwrap(), 0);
    assert_eq!(check(&disk, &model, "opened again").unwrap(), 0);
}

#[test]
fn r15_every_flipped_byte_of_the_superblock_is_refused() {
    let (disk, model) = database(true);
    let file = Path::new(DIR).join("superblock");
    for at in 0..PAGE_BYTES {
        let bad = disk.fork();
        bad.corrupt(&file, |bytes| bytes[at] ^= 1 << (at % 8));
        let error = check(&bad, &model, &format!("superblock byte {at}")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corruption, "byte {at}: {error}");
        assert_eq!((error.file(), error.offset()), (Some(file.as_path()), Some(0)));
    }
}

#[test]
fn r15_every_flipped_byte_of_every_table_is_found_or_harmless() {
    let (disk, model) = database(true);
    let tables = files(&disk, "sst", 0);
    assert!(tables.len() >= 2, "tables at two levels");
    for file in tables {
        let bytes = disk.read(&file).unwrap();
        // Long runs of zeros are padding: their ends and some of their middle stand for them.
        let places =
            (0..bytes.len()).filter(|&at| bytes[at] != 0 || at % 61 == 0 || near_content(&bytes, at));
        flip_each(&disk, &model, &file, places);
    }
}

#[test]
fn r7_every_flipped_byte_of_the_manifest_is_found_or_harmless() {
    let (disk, model) = database(true);
    let file = shard_dir(0).join("manifest");
    let bytes = disk.read(&file).unwrap();
    let places = (0..bytes.len()).filter(|&at| bytes[at] != 0 || at % 61 == 0 || near_content(&bytes, at));
    flip_each(&disk, &model, &file, places);
}

/// Whether a byte that is not zero lies within eight of this one.
fn near_content(bytes: &[u8], at: usize) -> bool {
    let around = at.saturating_sub(8)..(at + 8).min(bytes.len());
    bytes[around].iter().any(|&b| b != 0)
}

/// Where frames start in a segment and how long their payloads are, in bytes of the file.
fn frames(segment: &[u8]) -> Vec<(usize, usize)> {
    let mut frames = Vec::new();
    let mut at = PAGE_BYTES;
    while let Some(bytes) = segment.get(at..).and_then(frame::claimed_bytes) {
        let payload = u32::from_le_bytes(segment[at + 12..at + 16].try_into().unwrap());
        frames.push((at, payload as usize));
        at += bytes;
    }
    frames
}

/// The segments that the log of this shard is read from, and the floor.
fn log(disk: &SimDisk, shard: u16) -> Vec<PathBuf> {
    let used = |path: &PathBuf| !frames(&disk.read(path).unwrap()).is_empty();
    files(disk, "wal", shard).into_iter().filter(used).collect()
}

/// Whether byte `at` of a segment is looked at one by one: headers, the first bytes of payloads, their ends, and the
/// first padding behind them. The bulk of a payload is under one checksum and is flipped through the replay alone, below.
fn is_edge(frames: &[(usize, usize)], at: usize) -> bool {
    at < 80
        || frames.iter().any(|&(start, payload)| {
            let end = start + frame::HEADER_BYTES + payload;
            (start..start + frame::HEADER_BYTES + 16).contains(&at)
                || (end.max(16) - 16..end + 8).contains(&at)
        })
}

#[test]
fn r7_every_flipped_byte_of_the_wal_is_found_or_harmless() {
    let (disk, model) = database(true);
    let segments = log(&disk, 0);
    assert!(segments.len() >= 2, "several segments");
    for file in segments {
        let bytes = disk.read(&file).unwrap();
        let frames = frames(&bytes);
        let places = (0..bytes.len()).filter(|&at| at % 127 == 0 || is_edge(&frames, at));
        flip_each(&disk, &model, &file, places);
    }
}

/// What the replay of shard 0 gives: its batches, or where it found damage.
fn replay(disk: &SimDisk, owner: wal::Owner, floor: (u64, u64)) -> Result<Vec<Vec<u8>>, Error> {
    let answer = run(3, disk, 1, |machine| async move {
        let mut batches = Vec::new();
        let io = machine.core(0);
        wal::recover(&io, &shard_dir(0), owner, floor.0, floor.1, |_, batch| {
            batches.push(batch.to_vec());
            Ok(())
        })
        .await?;
        Ok(batches)
    });
    answer.unwrap()
}

#[test]
fn r7_every_flipped_byte_of_the_wal_is_located_to_its_frame() {
    let (disk, _) = database(true);
    let segments = log(&disk, 0);
    let first = disk.read(&segments[0]).unwrap();
    let owner = wal::Owner {
        database: u64::from_le_bytes(first[16..24].try_into().unwrap()),
        shard: 0,
    };
    let number = u64::from_le_bytes(first[32..40].try_into().unwrap());
    // From the first frame of the first segment on, so that every frame counts.
    let floor = (
        number,
        u64::from_le_bytes(first[PAGE_BYTES + 32..PAGE_BYTES + 40].try_into().unwrap()),
    );
    let good = replay(&disk, owner, floor).unwrap();
    assert!(
        good.iter().any(|batch| batch.len() > 60_000),
        "a batch larger than a frame"
    );
    for file in segments {
        let bytes = disk.read(&file).unwrap();
        let frames = frames(&bytes);
        let used = frames
            .last()
            .map_or(0, |&(at, payload)| at + frame::framed_bytes(payload));
        for at in (0..used).chain((used..bytes.len()).step_by(37)) {
            let bad = disk.fork();
            bad.corrupt(&file, |bytes| bytes[at] ^= 1 << (at % 8));
            match replay(&bad, owner, floor) {
                Ok(batches) => assert!(batches == good, "{} byte {at}", file.display()),
                Err(error) => {
                    let of_frame = frames.iter().rev().find(|(start, _)| *start <= at);
                    let expected = of_frame.map_or(0, |(start, _)| *start as u64);
                    assert_eq!(error.kind(), ErrorKind::Corruption, "byte {at}: {error}");
                    assert_eq!(error.file(), Some(file.as_path()), "byte {at}: {error}");
                    assert_eq!(error.offset(), Some(expected), "byte {at}: {error}");
                }
            }
        }
    }
}

/// Every file that belongs to shard 0, and the superblock.
fn every_file(disk: &SimDisk) -> Vec<PathBuf> {
    let mut all = files(disk, "sst", 0);
    all.extend(files(disk, "wal", 0));
    all.push(shard_dir(0).join("manifest"));
    all.push(Path::new(DIR).join("superblock"));
    all
}

#[test]
fn r7_cut_zeroed_and_swapped_pages_are_found_or_harmless() {
    let (disk, model) = database(true);
    for file in every_file(&disk) {
        let good = disk.read(&file).unwrap();
        let pages = good.len() / PAGE_BYTES;
        let page = |n: usize| n * PAGE_BYTES..(n + 1) * PAGE_BYTES;
        let name = file.display();
        for n in 0..pages {
            damaged(&disk, &model, &file, &format!("{name} cut at page {n}"), |b| {
                b.truncate(n * PAGE_BYTES);
            });
            damaged(&disk, &model, &file, &format!("{name} page {n} zeroed"), |b| {
                b[page(n)].fill(0)
            });
            damaged(&disk, &model, &file, &format!("{name} page {n} all ones"), |b| {
                b[page(n)].fill(0xff);
            });
            for other in 0..n {
                damaged(
                    &disk,
                    &model,
                    &file,
                    &format!("{name} pages {other} and {n} swapped"),
                    |b| {
                        b[page(n)].copy_from_slice(&good[page(other)]);
                        b[page(other)].copy_from_slice(&good[page(n)]);
                    },
                );
                damaged(
                    &disk,
                    &model,
                    &file,
                    &format!("{name} page {other} also at {n}"),
                    |b| {
                        b[page(n)].copy_from_slice(&good[page(other)]);
                    },
                );
            }
        }
        damaged(&disk, &model, &file, &format!("{name} one page longer"), |b| {
            b.resize(b.len() + PAGE_BYTES, 0);
        });
    }
}

/// The file of shard 1 with the same name, or the nearest to it.
fn twin(disk: &SimDisk, file: &Path) -> Option<Vec<u8>> {
    let name = file.file_name()?;
    disk.read(shard_dir(1).join(name))
}

#[test]
fn r15_pages_and_files_of_another_shard_are_refused() {
    let (disk, model) = database(true);
    let mut twins = 0;
    for file in every_file(&disk) {
        let Some(other) = twin(&disk, &file) else { continue };
        twins += 1;
        let name = file.display();
        let pages = (disk.read(&file).unwrap().len() / PAGE_BYTES).min(other.len() / PAGE_BYTES);
        for n in 0..pages {
            let page = n * PAGE_BYTES..(n + 1) * PAGE_BYTES;
            damaged(
                &disk,
                &model,
                &file,
                &format!("{name} page {n} of shard 1"),
                |b| {
                    b[page.clone()].copy_from_slice(&other[page.clone()]);
                },
            );
        }
        let bad = disk.fork();
        bad.write(&file, &other);
        let whole = check(&bad, &model, &format!("{name} of shard 1"));
        if let Err(error) = whole {
            assert_eq!(error.file(), Some(file.as_path()), "{error}");
            assert_eq!(error.kind(), ErrorKind::Corruption, "{error}");
            assert!(error.offset().is_some(), "{error}");
        }
    }
    assert!(twins >= 4, "the shards have files of the same names");
}

#[test]
fn r11_a_missing_file_refuses_to_open_by_name() {
    let (disk, model) = database(true);
    let needed = log(&disk, 0);
    for file in every_file(&disk) {
        let bad = disk.fork();
        bad.remove(&file);
        let before = snapshot(&bad);
        let result = check(&bad, &model, &format!("{} removed", file.display()));
        let spare = file.extension().is_some_and(|e| e == "wal") && !needed.contains(&file);
        if spare {
            result.unwrap();
            continue;
        }
        let error = result.unwrap_err();
        assert_eq!(error.file(), Some(file.as_path()), "{error}");
        assert!(snapshot(&bad) == before, "something was written although {error}");
    }
}

/// Every file and its bytes, without the lock file.
fn snapshot(disk: &SimDisk) -> BTreeMap<PathBuf, Vec<u8>> {
    disk.files()
        .into_iter()
        .filter(|path| !path.ends_with("lock"))
        .map(|path| {
            let bytes = disk.read(&path).unwrap();
            (path, bytes)
        })
        .collect()
}

/// Gives the header of a file another version or feature bit and a checksum that holds.
fn make_newer(name: &str, bytes: &mut [u8], feature: bool) {
    let (version_at, feature_at) = (
        8,
        if name == "manifest" || name.ends_with(".sst") {
            16
        } else {
            12
        },
    );
    let start = if name.ends_with(".sst") {
        bytes.len() - PAGE_BYTES
    } else {
        0
    };
    let header = &mut bytes[start..];
    if feature {
        header[feature_at] = 0x40;
    } else {
        header[version_at] = 7;
    }
    if name == "superblock" {
        header[40..48].fill(0);
        let sum = xxh3_64(header);
        header[40..48].copy_from_slice(&sum.to_le_bytes());
    } else if name == "manifest" {
        let mut crc = crc32fast::Hasher::new();
        crc.update(&header[..12]);
        crc.update(&header[16..64]);
        header[12..16].copy_from_slice(&crc.finalize().to_le_bytes());
    } else if name.ends_with(".wal") {
        let crc = crc32fast::hash(&header[..60]);
        header[60..64].copy_from_slice(&crc.to_le_bytes());
    } else {
        let sum = xxh3_64(&header[..120]);
        header[120..128].copy_from_slice(&sum.to_le_bytes());
    }
}

/// Shards recovered each on their own: one with nothing wrong sealed its torn tail and swept its orphans although
/// another could not be opened by this version at all.
#[test]
fn r13_a_newer_version_or_feature_in_any_file_is_refused_before_any_write() {
    let (disk, model) = database(false);
    // Shard 0 has things to mend at open: they must stay as they are when shard 1 is refused.
    disk.write(shard_dir(0).join("00000999.sst"), &[1; PAGE_BYTES]);
    disk.write(shard_dir(0).join("manifest.new"), &[1; PAGE_BYTES]);
    let last = log(&disk, 0).pop().unwrap();
    disk.corrupt(&last, |bytes| {
        let (at, payload) = *frames(bytes).last().unwrap();
        let tail = at + frame::framed_bytes(payload);
        bytes[tail..tail + 512].fill(0xab);
    });
    let mut newer = vec![Path::new(DIR).join("superblock"), shard_dir(1).join("manifest")];
    newer.extend(files(&disk, "sst", 1));
    newer.extend(log(&disk, 1));
    for file in newer {
        let name = file.file_name().unwrap().to_str().unwrap();
        for feature in [false, true] {
            let bad = disk.fork();
            bad.corrupt(&file, |bytes| make_newer(name, bytes, feature));
            let before = snapshot(&bad);
            let error = check(&bad, &model, name).unwrap_err();
            let text = error.to_string();
            assert_eq!(error.kind(), ErrorKind::Incompatible, "{text}");
            assert_eq!(error.file(), Some(file.as_path()), "{text}");
            if feature {
                assert!(text.contains("feature") && text.contains("0x40"), "{text}");
            } else {
                assert!(text.contains("version 7") && text.contains('1'), "{text}");
            }
            for (path, bytes) in snapshot(&bad) {
                assert!(
                    before.get(&path) == Some(&bytes),
                    "{} was written: {text}",
                    path.display()
                );
            }
            assert_eq!(snapshot(&bad).len(), before.len(), "a file went although {text}");
        }
    }
    assert!(
        check(&disk, &model, "as it was").unwrap() > 0,
        "the torn tail is reported"
    );
}

#[test]
fn r7_a_torn_tail_alone_recovers_and_is_reported() {
    let (disk, model) = database(false);
    let last = log(&disk, 0).pop().unwrap();
    let (at, payload) = *frames(&disk.read(&last).unwrap()).last().unwrap();
    let tail = at + frame::framed_bytes(payload);
    for torn_bytes in [1, 512, 513, 4096, 5000, 9000] {
        let torn = disk.fork();
        let mut rng = Rng::new(torn_bytes as u64);
        torn.corrupt(&last, |bytes| {
            let end = bytes.len().min(tail + torn_bytes);
            rng.fill(&mut bytes[tail..end]);
        });
        let reported = check(&torn, &model, &format!("{torn_bytes} torn bytes")).unwrap();
        assert!(reported > 0, "{torn_bytes} torn bytes are reported");
        assert_eq!(
            check(&torn, &model, "opened again").unwrap(),
            0,
            "the tail was cut off for good"
        );
    }
}

/// A memtable that the replay fills becomes an immutable and is flushed in the midst of it all; damage must be found
/// all the same, and what was found sound must still be there after writes and another open.
#[test]
fn r8_after_damage_that_was_harmless_the_database_goes_on_for_good() {
    let (disk, model) = database(true);
    let mut opened = 0;
    for file in every_file(&disk) {
        let bytes = disk.read(&file).unwrap();
        for at in (0..bytes.len()).step_by(1021) {
            let bad = disk.fork();
            bad.corrupt(&file, |bytes| bytes[at] ^= 1 << (at % 8));
            let case = format!("{} byte {at}", file.display());
            if check(&bad, &model, &case).is_err() {
                continue;
            }
            opened += 1;
            let mut model = model.clone();
            run(4, &bad, 1, |machine| {
                let model = &mut model;
                async move {
                    let mut options = options();
                    options.tuning.memtable_bytes = 128 << 10;
                    let db = open(&machine, options).await.unwrap();
                    for shard in 0..SHARDS {
                        write(&db, model, shard, (70..75).map(|n| (n, Some(vec![7; 3000])))).await;
                    }
                    // No close: the process dies here.
                }
            })
            .unwrap();
            check(&bad, &model, &case).unwrap_or_else(|error| panic!("{case}: {error}"));
        }
    }
    assert!(opened > 20, "{opened} cases were harmless");
}
