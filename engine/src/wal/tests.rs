//! The log on the simulated disk: what a crash, a recycled file or damage leaves, and what recovery makes of it.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use super::payload::push_batch;
use super::{Owner, Prepared, Recovered, TailState, Writer, prepare, recover, reopen};
use crate::codec::frame::{self, Frame, FrameKind, Identity, framed_bytes};
use crate::error::{Error, ErrorKind, Result};
use crate::io::sim::{Failure, Fault, OpKind, SimDisk, SimIo, run};
use crate::io::{Io, OpenOptions};
use crate::types::{PAGE_BYTES, parse_numbered_name, segment_file_name};
use crate::wal::segment::{FIRST_FRAME, Header};

const DIR: &str = "/log";
const OWNER: Owner = Owner {
    database: 0xdb,
    shard: 3,
};
const SEGMENT_BYTES: u64 = 64 << 10;

fn disk() -> SimDisk {
    let disk = SimDisk::new();
    disk.create_dir_all(DIR);
    disk
}

fn path(segment: u64) -> PathBuf {
    Path::new(DIR).join(segment_file_name(segment))
}

async fn fresh(io: &SimIo, number: u64) -> Prepared<SimIo> {
    prepare(io, Path::new(DIR), OWNER, number, SEGMENT_BYTES, None)
        .await
        .unwrap()
}

async fn recycled(io: &SimIo, number: u64, old: u64) -> Prepared<SimIo> {
    prepare(io, Path::new(DIR), OWNER, number, SEGMENT_BYTES, Some(old))
        .await
        .unwrap()
}

fn group(batches: &[&[u8]]) -> Vec<u8> {
    let mut payload = Vec::new();
    for batch in batches {
        push_batch(&mut payload, batch);
    }
    payload
}

async fn put(writer: &mut Writer<SimIo>, batch: &[u8]) {
    writer.write_group(&group(&[batch])).await.unwrap();
}

/// As [`put`], in another segment where this one is full.
async fn put_on(io: &SimIo, writer: &mut Writer<SimIo>, batch: &[u8]) {
    if writer.room() < group(&[batch]).len() {
        let files = io.list_dir(Path::new(DIR)).await.unwrap();
        let numbers = files
            .iter()
            .filter_map(|file| parse_numbered_name(&file.name, "wal"));
        let next = numbers.max().unwrap() + 1;
        writer.switch(fresh(io, next).await, false).await.unwrap();
    }
    put(writer, batch).await;
}

/// What recovery from the first frame says, and the batches it applied.
async fn replayed(io: &SimIo, floor: (u64, u64)) -> Result<(Recovered, Vec<(u64, Vec<u8>)>)> {
    let batches = RefCell::new(Vec::new());
    let recovered = recover(io, Path::new(DIR), OWNER, floor.0, floor.1, |frame, batch| {
        batches.borrow_mut().push((frame, batch.to_vec()));
        Ok(())
    })
    .await?;
    Ok((recovered, batches.into_inner()))
}

fn found(disk: &SimDisk, floor: (u64, u64)) -> Result<(Recovered, Vec<Vec<u8>>)> {
    let answer = run(99, disk, 1, |machine| async move {
        replayed(&machine.core(0), floor).await
    })
    .unwrap();
    answer.map(|(recovered, batches)| (recovered, batches.into_iter().map(|(_, b)| b).collect()))
}

/// Runs `body` on one core of a machine on `disk`.
fn on<T, F: Future<Output = T>>(disk: &SimDisk, body: impl FnOnce(SimIo) -> F) -> T {
    run(7, disk, 1, |machine| body(machine.core(0))).unwrap()
}

/// What a shard does at open: replay, then a writer that goes on where the log ends, in a new segment if it must.
async fn go_on(io: &SimIo) -> Result<(Writer<SimIo>, Vec<Vec<u8>>)> {
    let (recovered, batches) = replayed(io, (1, 1)).await?;
    let segment = reopen(io, Path::new(DIR), recovered.segment).await?;
    let mut writer = Writer::at(io.clone(), segment, recovered.position, recovered.next_frame);
    if recovered.tail != TailState::Untouched {
        let next = recovered.files.iter().max().unwrap() + 1;
        let next = prepare(io, Path::new(DIR), OWNER, next, SEGMENT_BYTES, None).await?;
        writer.switch(next, false).await?;
    }
    Ok((writer, batches.into_iter().map(|(_, batch)| batch).collect()))
}

fn located(error: &Error, kind: ErrorKind, segment: u64, offset: u64) {
    assert_eq!(error.kind(), kind, "{error}");
    assert_eq!(error.file(), Some(path(segment).as_path()), "{error}");
    assert_eq!(error.offset(), Some(offset), "{error}");
}

#[test]
fn groups_come_back_in_order_over_several_segments() {
    let disk = disk();
    let expected = on(&disk, |io| async move {
        let mut writer = Writer::begin(io.clone(), fresh(&io, 1).await, 1);
        let mut expected = Vec::new();
        for number in 0..40_u32 {
            let batch = vec![u8::try_from(number).unwrap(); 3000 + number as usize * 100];
            put_on(&io, &mut writer, &batch).await;
            expected.push(batch);
        }
        assert!(writer.segment() >= 4, "the log moved on");
        writer.close().await.unwrap();
        expected
    });
    let (recovered, batches) = found(&disk, (1, 1)).unwrap();
    assert!(batches == expected);
    assert_eq!(recovered.tail, TailState::Untouched);
}

#[test]
fn a_floor_in_a_later_segment_leaves_out_what_came_before_it() {
    let disk = disk();
    on(&disk, |io| async move {
        let mut writer = Writer::begin(io.clone(), fresh(&io, 1).await, 1);
        put(&mut writer, b"1").await;
        writer.switch(fresh(&io, 2).await, false).await.unwrap();
        put(&mut writer, b"3").await;
        put(&mut writer, b"4").await;
        writer.close().await.unwrap();
    });
    disk.remove(path(1));
    assert_eq!(found(&disk, (2, 4)).unwrap().1, [b"4"]);
    assert_eq!(found(&disk, (2, 3)).unwrap().1, [b"3", b"4"]);
    let error = found(&disk, (1, 1)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corruption);
    assert_eq!(error.file(), Some(path(1).as_path()), "{error}");
}

#[test]
fn a_batch_in_parts_crosses_the_ends_of_segments() {
    let disk = disk();
    let large: Vec<u8> = (0..150_000_u32).map(|n| (n % 251) as u8).collect();
    let expected = large.clone();
    on(&disk, |io| async move {
        let mut writer = Writer::begin(io.clone(), fresh(&io, 1).await, 1);
        put(&mut writer, b"before").await;
        write_large(&io, &mut writer, &large, usize::MAX).await;
        put(&mut writer, b"behind").await;
        assert!(writer.segment() >= 3);
        writer.close().await.unwrap();
    });
    let (_, batches) = found(&disk, (1, 1)).unwrap();
    assert!(batches == [b"before".to_vec(), expected, b"behind".to_vec()]);
}

/// Writes a batch in parts and stops after `parts` of them.
async fn write_large(io: &SimIo, writer: &mut Writer<SimIo>, batch: &[u8], parts: usize) {
    let mut rest = batch;
    let mut written = 0;
    while !rest.is_empty() && written < parts {
        if writer.room() == 0 {
            let next = writer.segment() + 1;
            writer.switch(fresh(io, next).await, written > 0).await.unwrap();
        }
        let (part, after) = rest.split_at(rest.len().min(writer.room()));
        let kind = match (written, after.is_empty()) {
            (0, _) => FrameKind::First,
            (_, false) => FrameKind::Middle,
            (_, true) => FrameKind::Last,
        };
        writer.write_part(kind, part).await.unwrap();
        written += 1;
        rest = after;
    }
}

/// A crash between two parts of a large batch leaves whole frames and an untouched page behind them. Going on right
/// there put a group inside the unfinished batch, and the next open refused the log as damaged.
#[test]
fn r8_a_batch_cut_between_its_parts_is_dropped_and_the_log_goes_on_for_good() {
    for parts in 1..3 {
        let disk = disk();
        let large = vec![5; 150_000];
        on(&disk, |io| async move {
            let mut writer = Writer::begin(io.clone(), fresh(&io, 1).await, 1);
            put(&mut writer, b"before").await;
            write_large(&io, &mut writer, &large, parts).await;
        });
        for round in 0..3_u8 {
            on(&disk, |io| async move {
                let (mut writer, batches) = go_on(&io).await.unwrap();
                assert_eq!(
                    batches.len(),
                    1 + usize::from(round),
                    "{parts} parts, round {round}"
                );
                put_on(&io, &mut writer, &[round]).await;
            });
        }
        let (_, batches) = found(&disk, (1, 1)).unwrap();
        assert!(batches == [b"before".to_vec(), vec![0], vec![1], vec![2]]);
    }
}

/// A close in the midst of a large batch must not put a mark between its parts: the next open would take the mark for
/// damage.
#[test]
fn r7_a_log_closed_within_a_large_batch_opens_without_it() {
    let disk = disk();
    on(&disk, |io| async move {
        let mut writer = Writer::begin(io.clone(), fresh(&io, 1).await, 1);
        put(&mut writer, b"before").await;
        write_large(&io, &mut writer, &[5; 150_000], 2).await;
        writer.close().await.unwrap();
    });
    let (recovered, batches) = found(&disk, (1, 1)).unwrap();
    assert_eq!(batches, [b"before"]);
    assert!(
        matches!(recovered.tail, TailState::Torn { .. }),
        "it must be sealed off"
    );
}

/// A log was closed cleanly in a recycled segment, and the page behind its mark lay in the middle of an old frame: the next
/// open took it for a torn tail, reported it and sealed it off.
#[test]
fn r6_after_a_clean_close_old_bytes_of_a_recycled_segment_are_no_torn_tail() {
    let disk = disk();
    run(1, &disk, 1, |machine| async move {
        let io = machine.core(0);
        let mut writer = Writer::begin(io.clone(), fresh(&io, 1).await, 1);
        while writer.room() > 5 * PAGE_BYTES {
            put(&mut writer, &[7; 4 * PAGE_BYTES]).await;
        }
        writer.switch(fresh(&io, 2).await, false).await.unwrap();
        let next = recycled(&io, 3, 1).await;
        writer.switch(next, false).await.unwrap();
        let floor = (3, writer.next_frame());
        for life in 0..3 {
            put(&mut writer, b"new").await;
            writer.close().await.unwrap();
            let (recovered, batches) = replayed(&io, floor).await.unwrap();
            assert_eq!(recovered.tail, TailState::Untouched, "life {life}");
            assert_eq!(batches.len(), life + 1);
            let segment = reopen(&io, Path::new(DIR), recovered.segment).await.unwrap();
            writer = Writer::at(io.clone(), segment, recovered.position, recovered.next_frame);
        }
    })
    .unwrap();
}

#[test]
fn r6_a_recycled_segment_shows_none_of_its_old_frames() {
    let disk = disk();
    on(&disk, |io| async move {
        let mut writer = Writer::begin(io.clone(), fresh(&io, 1).await, 1);
        for _ in 0..10 {
            put(&mut writer, b"old").await;
        }
        writer.switch(fresh(&io, 2).await, false).await.unwrap();
        put(&mut writer, b"kept").await;
        let spare = recycled(&io, 3, 1).await;
        writer.switch(spare, false).await.unwrap();
        for _ in 0..4 {
            put(&mut writer, b"new").await;
        }
    });
    let (recovered, batches) = found(&disk, (2, 12)).unwrap();
    assert_eq!(batches.len(), 5);
    assert!(!batches.contains(&b"old".to_vec()));
    // The page behind the last frame holds a whole frame of the file's earlier life.
    assert_eq!(recovered.position, 5 * PAGE_BYTES as u64);
    assert_eq!(recovered.tail, TailState::Untouched);
    let old_frame = disk.read(path(3)).unwrap();
    assert_ne!(old_frame[usize::try_from(recovered.position).unwrap()], 0);
}

/// A segment of another size than this process was told to use, or one whose preparation a crash had cut short, was
/// recycled by its name alone: its header then named a length that the file did not have, and the next open refused the
/// log with everything acknowledged in it.
#[test]
fn r4_a_file_of_another_length_or_never_filled_is_made_anew_rather_than_recycled() {
    for length in [0, SEGMENT_BYTES / 2, SEGMENT_BYTES, 2 * SEGMENT_BYTES] {
        for with_header in [false, true] {
            let disk = disk();
            let mut bytes = vec![0xee; usize::try_from(length).unwrap()];
            if with_header && length > 0 {
                let header = Header {
                    owner: OWNER,
                    number: 1,
                    salt: 9,
                    bytes: length,
                };
                bytes[..PAGE_BYTES].copy_from_slice(&header.encode());
            }
            disk.write(path(1), &bytes);
            on(&disk, |io| async move {
                let mut writer = Writer::begin(io.clone(), recycled(&io, 2, 1).await, 1);
                put(&mut writer, b"acknowledged").await;
            });
            let case = format!("{length} bytes, header {with_header}");
            let (_, batches) = found(&disk, (2, 1)).unwrap_or_else(|error| panic!("{case}: {error}"));
            assert_eq!(batches, [b"acknowledged"], "{case}");
            let kept = disk.read(path(2)).unwrap().contains(&0xee);
            assert_eq!(kept, with_header && length == SEGMENT_BYTES, "{case}");
            assert_eq!(disk.read(path(1)), None, "{case}");
        }
    }
}

#[test]
fn r4_a_number_is_used_again_after_a_crash_in_its_preparation() {
    for seed in 0..60 {
        let disk = disk();
        on(&disk, |io| async move {
            let mut writer = Writer::begin(io.clone(), fresh(&io, 1).await, 1);
            put(&mut writer, b"before").await;
        });
        let cut = run(seed, &disk, 1, |machine| async move {
            machine.cut_power_after(1 + seed % 12);
            let io = machine.core(0);
            let (mut writer, _) = go_on(&io).await.unwrap();
            writer.switch(fresh(&io, 2).await, false).await.unwrap();
            put(&mut writer, b"behind").await;
            std::future::pending::<()>().await;
        });
        assert_eq!(cut, None);
        disk.crash(seed);
        run(seed, &disk, 1, |machine| async move {
            let io = machine.core(0);
            let (mut writer, batches) = go_on(&io).await.unwrap();
            assert_eq!(batches[0], b"before", "seed {seed}");
            let next = writer.segment() + 1;
            if io.open(&path(next), OpenOptions::READ).await.is_ok() {
                io.remove(&path(next)).await.unwrap();
            }
            writer.switch(fresh(&io, next).await, false).await.unwrap();
            put(&mut writer, b"after").await;
        })
        .unwrap();
        let (_, batches) = found(&disk, (1, 1)).unwrap();
        assert_eq!(batches.last().unwrap(), b"after", "seed {seed}");
    }
}

#[test]
fn r8_a_crash_in_recovery_and_one_in_that_recovery_lose_nothing() {
    for seed in 0..200 {
        let disk = disk();
        let acknowledged = Rc::new(RefCell::new(Vec::new()));
        for life in 0..4_u64 {
            let (seed, acked) = (seed * 4 + life, Rc::clone(&acknowledged));
            let answer = run(seed, &disk, 1, |machine| async move {
                let io = machine.core(0);
                let mut writer = if life == 0 {
                    Writer::begin(io.clone(), fresh(&io, 1).await, 1)
                } else {
                    machine.cut_power_after(1 + seed % 40);
                    let (writer, batches) = go_on(&io).await.unwrap();
                    check_prefix(&acked.borrow(), &batches, seed);
                    *acked.borrow_mut() = batches;
                    writer
                };
                if life == 0 {
                    machine.cut_power_after(1 + seed % 30);
                }
                for number in 0..20_usize {
                    let batch = vec![u8::try_from(number).unwrap(); 1 + number * 900];
                    put_on(&io, &mut writer, &batch).await;
                    acked.borrow_mut().push(batch);
                }
                std::future::pending::<()>().await;
            });
            assert_eq!(answer, None);
            disk.crash(seed);
        }
        let (_, batches) = found(&disk, (1, 1)).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        check_prefix(&acknowledged.borrow(), &batches, seed);
    }
}

/// Everything acknowledged is there, in order, and at most one batch more: the one whose write was cut.
fn check_prefix(acknowledged: &[Vec<u8>], batches: &[Vec<u8>], seed: u64) {
    assert!(batches.starts_with(acknowledged), "seed {seed}");
    assert!(batches.len() <= acknowledged.len() + 1, "seed {seed}");
}

#[test]
fn r7_a_torn_seal_is_sealed_again_and_what_follows_is_kept() {
    let disk = disk();
    on(&disk, |io| async move {
        let mut writer = Writer::begin(io.clone(), fresh(&io, 1).await, 1);
        put(&mut writer, b"before").await;
        writer.switch(fresh(&io, 2).await, false).await.unwrap();
    });
    let seal = 2 * PAGE_BYTES;
    disk.corrupt(path(1), |bytes| bytes[seal + 70..seal + 4096].fill(0xaa));
    on(&disk, |io| async move {
        let (mut writer, batches) = go_on(&io).await.unwrap();
        assert_eq!(batches, [b"before"]);
        assert_eq!(writer.segment(), 3, "the spare is not trusted under another salt");
        put(&mut writer, b"after").await;
    });
    assert_eq!(found(&disk, (1, 1)).unwrap().1, [b"before".as_slice(), b"after"]);
}

#[test]
fn r7_damage_before_a_later_segment_is_corruption_even_in_the_seal() {
    let disk = disk();
    on(&disk, |io| async move {
        let mut writer = Writer::begin(io.clone(), fresh(&io, 1).await, 1);
        put(&mut writer, b"before").await;
        writer.switch(fresh(&io, 2).await, false).await.unwrap();
        put(&mut writer, b"behind").await;
    });
    for page in 1..3_u64 {
        let bad = disk.fork();
        let at = page * PAGE_BYTES as u64;
        bad.corrupt(path(1), |bytes| bytes[usize::try_from(at).unwrap() + 64] ^= 1);
        located(&found(&bad, (1, 1)).unwrap_err(), ErrorKind::Corruption, 1, at);
    }
}

/// The floor says that everything before it was durable. A log that ends before it has lost frames; going on there gave
/// out frame numbers that the next replay skipped as already in tables, and with them acknowledged writes.
#[test]
fn r7_a_log_that_ends_before_its_floor_is_damaged() {
    let disk = disk();
    on(&disk, |io| async move {
        let mut writer = Writer::begin(io.clone(), fresh(&io, 1).await, 1);
        for _ in 0..3 {
            put(&mut writer, b"in a table").await;
        }
    });
    disk.corrupt(path(1), |bytes| bytes[3 * PAGE_BYTES + 64] ^= 1);
    located(
        &found(&disk, (1, 4)).unwrap_err(),
        ErrorKind::Corruption,
        1,
        3 * PAGE_BYTES as u64,
    );
}

/// The number of the first frame of the floor's segment is not known before it is read. Taking it for the floor's own
/// number made a damaged first frame look like the tail, with acknowledged frames whole behind it.
#[test]
fn r7_a_damaged_first_frame_with_whole_frames_behind_it_is_corruption() {
    for zeroed in [false, true] {
        let disk = disk();
        on(&disk, |io| async move {
            let mut writer = Writer::begin(io.clone(), fresh(&io, 1).await, 1);
            put(&mut writer, b"in a table").await;
            put(&mut writer, b"acknowledged, only here").await;
        });
        disk.corrupt(path(1), |bytes| {
            if zeroed {
                bytes[PAGE_BYTES..2 * PAGE_BYTES].fill(0);
            } else {
                bytes[PAGE_BYTES + 64] ^= 1;
            }
        });
        let error = found(&disk, (1, 2)).map(|(_, batches)| batches).unwrap_err();
        located(&error, ErrorKind::Corruption, 1, FIRST_FRAME);
    }
}

fn plant(disk: &SimDisk, header: &Header, page: u64, frame: Frame<'_>) {
    let identity = Identity {
        shard: header.owner.shard,
        salt: header.salt,
    };
    let mut bytes = vec![0; framed_bytes(frame.payload.len())];
    let position = page * PAGE_BYTES as u64;
    frame::encode(&mut bytes, identity, position, frame);
    let at = usize::try_from(position).unwrap();
    disk.corrupt(path(1), |file| file[at..at + bytes.len()].copy_from_slice(&bytes));
}

/// A log of three groups and its header.
fn three_groups(disk: &SimDisk) -> Header {
    on(disk, |io| async move {
        let segment = fresh(&io, 1).await;
        let header = segment.header;
        let mut writer = Writer::begin(io.clone(), segment, 1);
        for batch in [b"1", b"2", b"3"] {
            put(&mut writer, batch).await;
        }
        header
    })
}

#[test]
fn r7_frames_out_of_order_and_frames_that_contradict_each_other_are_corruption() {
    let (three, four) = (group(&[b"3"]), group(&[b"4"]));
    let cases = [
        ("a repeated number", 4, FrameKind::Group, 3, three.as_slice()),
        ("a gap", 4, FrameKind::Group, 5, four.as_slice()),
        ("a part without its first", 4, FrameKind::Last, 4, b"x"),
        ("an edit in a WAL", 4, FrameKind::Edit, 4, b""),
        ("a seal that is none", 4, FrameKind::Seal, 4, b"short"),
        ("a cut group", 4, FrameKind::Group, 4, &[200, 1, 1]),
    ];
    for (what, page, kind, number, payload) in cases {
        let disk = disk();
        let header = three_groups(&disk);
        let frame = Frame {
            kind,
            number,
            durable: number - 1,
            payload,
        };
        plant(&disk, &header, page, frame);
        let error = found(&disk, (1, 1)).map(|(_, b)| b).expect_err(what);
        located(&error, ErrorKind::Corruption, 1, page * PAGE_BYTES as u64);
    }
}

/// A frame whose checksum holds was written whole. One of an unknown kind at the end of the log is what a newer version
/// acknowledged; it was dropped as a torn tail.
#[test]
fn r13_a_whole_frame_of_an_unknown_kind_is_refused_and_not_dropped() {
    let disk = disk();
    let header = three_groups(&disk);
    let frame = Frame {
        kind: FrameKind::Group,
        number: 4,
        durable: 3,
        payload: b"",
    };
    plant(&disk, &header, 4, frame);
    disk.corrupt(path(1), |file| {
        let page = &mut file[4 * PAGE_BYTES..][..64];
        page[8] = 9;
        let crc = crc32fast::hash(&page[8..64]);
        page[4..8].copy_from_slice(&crc.to_le_bytes());
    });
    located(
        &found(&disk, (1, 1)).map(|(_, b)| b).unwrap_err(),
        ErrorKind::Incompatible,
        1,
        4 * PAGE_BYTES as u64,
    );
}

#[test]
fn r7_a_torn_tail_is_reported_with_its_length() {
    let disk = disk();
    on(&disk, |io| async move {
        let mut writer = Writer::begin(io.clone(), fresh(&io, 1).await, 1);
        put(&mut writer, b"whole").await;
        put(&mut writer, &[7; 10_000]).await;
    });
    disk.corrupt(path(1), |bytes| {
        bytes[3 * PAGE_BYTES + 512..4 * PAGE_BYTES].fill(0)
    });
    let (recovered, batches) = found(&disk, (1, 1)).unwrap();
    assert_eq!(batches, [b"whole"]);
    assert_eq!(
        recovered.tail,
        TailState::Torn {
            bytes: 3 * PAGE_BYTES as u64
        }
    );
    assert_eq!(recovered.position, 2 * PAGE_BYTES as u64);
}

#[test]
fn r3_after_a_failed_write_nothing_more_is_written_and_every_caller_is_told() {
    for failure in [Failure::Eio, Failure::Enospc, Failure::Short] {
        let disk = disk();
        let observer = disk.clone();
        on(&disk, |io| async move {
            let mut writer = Writer::begin(io.clone(), fresh(&io, 1).await, 1);
            put(&mut writer, b"whole").await;
            observer.inject(Fault::nth(0, failure).on(OpKind::Write));
            let error = writer.write_group(&group(&[&[1; 9000]])).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Io, "{error}");
            let writes = observer.count(Some("wal"), OpKind::Write).ops;
            for _ in 0..3 {
                let error = writer.write_group(&group(&[b"more"])).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Poisoned);
            }
            writer.close().await.unwrap();
            assert_eq!(observer.count(Some("wal"), OpKind::Write).ops, writes);
        });
        disk.clear_faults();
        // What a failed write left may be whole by chance: its outcome was unknown. Nothing of what followed is there.
        let (_, batches) = found(&disk, (1, 1)).unwrap();
        assert_eq!(batches[0], b"whole");
        assert!(batches.len() <= 2 && !batches.contains(&b"more".to_vec()));
    }
}

#[test]
fn a_write_given_up_before_it_completed_poisons_the_log() {
    let disk = disk();
    on(&disk, |io| async move {
        let mut writer = Writer::begin(io.clone(), fresh(&io, 1).await, 1);
        let payload = group(&[&[1; 9000]]);
        {
            let write = std::pin::pin!(writer.write_group(&payload));
            let soon = std::pin::pin!(io.sleep(Duration::from_nanos(1)));
            let first = futures_util::future::select(soon, write).await;
            assert!(
                matches!(first, futures_util::future::Either::Left(_)),
                "the write takes longer"
            );
        }
        let error = writer.write_group(&payload).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Poisoned);
    });
}

#[test]
fn a_failed_preparation_leaves_no_file_and_a_later_one_succeeds() {
    for n in 0..30 {
        let disk = disk();
        let observer = disk.clone();
        let failed = on(&disk, |io| async move {
            observer.inject(Fault::nth(n, Failure::Enospc));
            let made = prepare(&io, Path::new(DIR), OWNER, 1, SEGMENT_BYTES, None).await;
            observer.clear_faults();
            let failed = made.is_err();
            if let Err(error) = made {
                assert_eq!(error.kind(), ErrorKind::NoSpace, "operation {n}: {error}");
                assert!(observer.read(path(1)).is_none(), "operation {n} left a file");
            }
            let mut writer = Writer::begin(io.clone(), fresh(&io, 2).await, 1);
            put(&mut writer, b"x").await;
            failed
        });
        assert_eq!(found(&disk, (2, 1)).unwrap().1, [b"x"]);
        if !failed {
            assert!(n > 5, "the preparation has several operations");
            return;
        }
    }
    panic!("every operation failed");
}
