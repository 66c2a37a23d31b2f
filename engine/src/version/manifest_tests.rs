//! The manifest in the simulator: crashes, failures, damage, and the golden file.

use std::cell::RefCell;
use std::rc::Rc;

use super::*;
use crate::io::sim::{self, Failure, Fault, Mutant, OpKind, SimDisk, SimIo};
use crate::types::MAX_KEY_BYTES;
use crate::version::{TableMeta, WalFloor};

const OWNER: Owner = Owner {
    database: 0x0123_4567_89ab_cdef,
    shard: 3,
};

/// As small as rooms get, so that a short workload rolls over.
const SMALL: ManifestOptions = ManifestOptions { room_bytes: 0 };

fn dir() -> &'static Path {
    Path::new("/")
}

fn path() -> &'static Path {
    Path::new("/manifest")
}

fn table(number: u64) -> TableMeta {
    TableMeta {
        number,
        bytes: 4096 * number,
        entries: 10 + number,
        tombstones: number % 3,
        smallest: format!("a{number:06}").into_bytes(),
        largest: format!("z{number:06}").into_bytes(),
        smallest_sequence: number * 100,
        largest_sequence: number * 100 + 99,
        keyspace: 0,
    }
}

/// The edit of step `step`: a flush of table `step`; every fourth moves what is in L0 to a level of its own instead.
fn edit(state: &State, step: u64) -> VersionEdit {
    let floor = WalFloor {
        segment: step,
        frame: step * 2,
    };
    let mut edit = VersionEdit {
        wal_floor: Some(floor),
        ..VersionEdit::default()
    };
    if step.is_multiple_of(4) {
        edit.removed = state
            .version
            .level(0)
            .iter()
            .map(|table| (0, table.number))
            .collect();
        edit.removed
            .extend(state.version.level(6).iter().map(|table| (6, table.number)));
        edit.added.push((6, Rc::new(table(step))));
        return edit;
    }
    edit.added.push((0, Rc::new(table(step))));
    edit
}

/// The state after the edits of steps 1 to `steps`.
fn state_after(steps: u64) -> State {
    (1..=steps).fold(State::default(), |state, step| {
        state.apply(&edit(&state, step)).unwrap()
    })
}

async fn create(io: &SimIo) -> Result<Manifest<SimIo>> {
    Manifest::create(io, dir(), OWNER, SMALL, State::default()).await
}

async fn open(io: &SimIo) -> Result<(Manifest<SimIo>, Opened)> {
    Manifest::open(io, dir(), OWNER, SMALL).await
}

/// Appends the edits up to step `until`, telling `acked` after each.
async fn extend(manifest: &mut Manifest<SimIo>, until: u64, acked: &RefCell<u64>) -> Result<()> {
    while *acked.borrow() < until {
        let step = *acked.borrow() + 1;
        manifest.append(&edit(&manifest.state().clone(), step)).await?;
        *acked.borrow_mut() = step;
    }
    Ok(())
}

/// A disk with a manifest after `steps` steps, closed or just left.
fn disk_after(steps: u64, close: bool) -> SimDisk {
    let disk = SimDisk::new();
    sim::run(1, &disk, 1, |machine| async move {
        let mut manifest = create(&machine.core(0)).await.unwrap();
        extend(&mut manifest, steps, &RefCell::new(0)).await.unwrap();
        if close {
            manifest.close().await.unwrap();
        }
    });
    disk
}

fn reopened(disk: &SimDisk) -> Result<(State, Opened)> {
    sim::run(2, disk, 1, |machine| async move {
        let (manifest, opened) = open(&machine.core(0)).await?;
        Ok((manifest.state().clone(), opened))
    })
    .expect("nobody cuts the power")
}

#[test]
fn a_header_leaves_nothing_of_what_its_page_held_before() {
    let header = Header {
        database: 1,
        shard: 2,
        salt: 3,
        room_bytes: PAGE_BYTES as u64,
    };
    let [clean, used] = [0, 0xee].map(|before| {
        let mut page = vec![before; PAGE_BYTES];
        format::encode_header(&mut page, &header);
        page
    });
    assert_eq!(clean, used);
}

#[test]
fn what_was_appended_is_there_after_a_reopen_over_rollovers() {
    for steps in [0, 1, 2, 9, 40] {
        for close in [false, true] {
            let disk = disk_after(steps, close);
            let (state, opened) = reopened(&disk).unwrap();
            assert_eq!(state, state_after(steps), "after {steps} steps");
            assert_eq!(opened.torn, None);
            assert_eq!(opened.closed_cleanly, close);
            assert_eq!(disk.files(), [path()]);
        }
    }
    assert!(state_after(40).next_file_number == 41 && state_after(40).last_sequence == 4099);
}

#[test]
fn a_manifest_goes_on_after_a_clean_close() {
    let disk = disk_after(3, true);
    for step in 4..30 {
        sim::run(step, &disk, 1, |machine| async move {
            let (mut manifest, _) = open(&machine.core(0)).await.unwrap();
            manifest
                .append(&edit(&manifest.state().clone(), step))
                .await
                .unwrap();
            manifest.close().await.unwrap();
        });
    }
    assert_eq!(reopened(&disk).unwrap().0, state_after(29));
}

#[test]
fn an_edit_and_a_snapshot_too_large_for_a_frame_span_several() {
    let disk = SimDisk::new();
    let many = |from: u64| {
        let added = (from..from + 30).map(|number| {
            let mut table = table(number);
            table.smallest = vec![u8::try_from(number).unwrap(); MAX_KEY_BYTES];
            table.largest = table.smallest.clone();
            (5, Rc::new(table))
        });
        VersionEdit {
            added: added.collect(),
            ..VersionEdit::default()
        }
    };
    let state = sim::run(1, &disk, 1, |machine| async move {
        let mut manifest = create(&machine.core(0)).await.unwrap();
        assert!(many(1).encode().len() > 2);
        manifest.append(&many(1)).await.unwrap();
        manifest.append(&many(31)).await.unwrap();
        manifest.append(&many(61)).await.unwrap();
        manifest.state().clone()
    });
    let (found, _) = reopened(&disk).unwrap();
    assert_eq!(Some(&found), state.as_ref());
    assert_eq!(found.version.table_count(), 90);
}

#[test]
fn r11_open_writes_nothing_and_repair_removes_a_leftover() {
    let disk = disk_after(5, false);
    disk.write("/manifest.new", &[7; PAGE_BYTES]);
    disk.corrupt(path(), |bytes| bytes[7 * PAGE_BYTES + 9] ^= 1);
    let before = disk.read(path());
    disk.reset_counts();
    let (state, opened) = reopened(&disk).unwrap();
    for kind in [
        OpKind::Write,
        OpKind::Create,
        OpKind::Rename,
        OpKind::Remove,
        OpKind::Allocate,
        OpKind::SyncDir,
    ] {
        assert_eq!(disk.count(None, kind).ops, 0, "{kind:?}");
    }
    assert_eq!(disk.read(path()), before);
    // Pages: header, snapshot, steps 1 to 5 at pages 2 to 6; page 7 is behind the end, so its noise is a torn tail.
    assert_eq!(state, state_after(5));
    assert_eq!(opened.torn.unwrap().offset, 7 * PAGE_BYTES as u64);
    sim::run(3, &disk, 1, |machine| async move {
        let (mut manifest, _) = open(&machine.core(0)).await.unwrap();
        assert!(manifest.needs_repair());
        manifest.repair().await.unwrap();
        assert!(!manifest.needs_repair());
    });
    assert_eq!(disk.files(), [path()]);
    assert_eq!(
        reopened(&disk).unwrap(),
        (
            state_after(5),
            Opened {
                torn: None,
                closed_cleanly: false
            }
        )
    );
}

#[test]
fn a_second_manifest_is_not_made_over_the_first() {
    let disk = disk_after(2, true);
    sim::run(3, &disk, 1, |machine| async move {
        let error = create(&machine.core(0)).await.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::InvalidOptions);
    });
    assert_eq!(reopened(&disk).unwrap().0, state_after(2));
}

#[test]
fn a_manifest_of_another_shard_or_database_is_refused() {
    let disk = disk_after(2, true);
    for owner in [Owner { shard: 4, ..OWNER }, Owner { database: 1, ..OWNER }] {
        let refused = sim::run(3, &disk, 1, |machine| async move {
            Manifest::open(&machine.core(0), dir(), owner, SMALL)
                .await
                .err()
                .unwrap()
        });
        let refused = refused.unwrap();
        assert_eq!(
            (refused.kind(), refused.file()),
            (ErrorKind::Corruption, Some(path()))
        );
    }
}

/// Runs the workload up to `steps` with the power cut at disk operation `cut`, crashes, reopens, and goes on; then
/// cuts again during that. Panics where an acknowledged step is gone or a state is none of the possible ones.
fn crash_case(seed: u64, cut: u64, mutant: Option<Mutant>) {
    let disk = SimDisk::new();
    disk.set_mutant(mutant);
    let acked = Rc::new(RefCell::new(0));
    let created = Rc::new(RefCell::new(false));
    for round in 0..3 {
        let (acked, created) = (Rc::clone(&acked), Rc::clone(&created));
        let (before, until) = (*acked.borrow(), 8 * (round + 1));
        let finished = sim::run(seed * 10 + round, &disk, 1, |machine| async move {
            machine.cut_power_after(1 + (cut >> round));
            let io = machine.core(0);
            let mut manifest = match open(&io).await {
                Ok((manifest, _)) => manifest,
                Err(error) => {
                    assert!(!*created.borrow(), "round {round}: {error}");
                    create(&io).await.unwrap()
                }
            };
            *created.borrow_mut() = true;
            let found = manifest.state().wal_floor.segment;
            assert!(
                found == before || found == before + 1,
                "round {round}: step {before} was acknowledged, step {found} is there"
            );
            assert_eq!(*manifest.state(), state_after(found), "round {round}");
            *acked.borrow_mut() = found;
            manifest.repair().await.unwrap();
            extend(&mut manifest, until, &acked).await.unwrap();
        });
        if finished.is_none() {
            disk.crash(seed * 1000 + round);
        }
    }
}

#[test]
fn r8_r9_r10_every_acknowledged_edit_survives_a_crash_anywhere_and_one_in_recovery() {
    for cut in 0..90 {
        for seed in 0..12 {
            crash_case(seed * 97 + cut, cut, None);
        }
    }
}

#[test]
fn r9_the_crash_test_notices_each_missing_sync() {
    for mutant in [Mutant::SkipSync, Mutant::AckEarly, Mutant::SkipDirSync] {
        let noticed = (0..90).any(|cut| {
            (0..12).any(|seed| {
                std::panic::catch_unwind(|| crash_case(seed * 97 + cut, cut, Some(mutant))).is_err()
            })
        });
        assert!(noticed, "{mutant:?} went unnoticed");
    }
}

#[test]
fn each_failing_operation_in_turn_loses_nothing_and_says_what_to_do() {
    let mut outcomes = [0; 3];
    for failure in [Failure::Eio, Failure::Enospc, Failure::Short] {
        for n in 0..60 {
            let disk = disk_after(0, false);
            let acked = Rc::new(RefCell::new(0));
            let seen = Rc::clone(&acked);
            let how = sim::run(n, &disk, 1, |machine| async move {
                let (mut manifest, _) = open(&machine.core(0)).await.unwrap();
                machine.disk().inject(Fault::nth(n, failure));
                let Err(error) = extend(&mut manifest, 14, &seen).await else {
                    return 0;
                };
                machine.disk().clear_faults();
                assert_eq!(
                    *manifest.state(),
                    state_after(*seen.borrow()),
                    "an edit that failed is not visible"
                );
                match (error.kind(), manifest.repair().await) {
                    (ErrorKind::NoSpace, repaired) => {
                        repaired.unwrap();
                        let here = manifest.state().clone();
                        let (again, opened) = open(&machine.core(0)).await.unwrap();
                        assert_eq!(
                            (again.state(), opened.torn),
                            (&here, None),
                            "repaired means settled on disk"
                        );
                        extend(&mut manifest, 14, &seen).await.unwrap();
                        1
                    }
                    (ErrorKind::Io, Ok(())) => {
                        // It failed before anything was in doubt.
                        extend(&mut manifest, 14, &seen).await.unwrap();
                        1
                    }
                    (ErrorKind::Io, Err(error)) => {
                        assert_eq!(error.kind(), ErrorKind::Poisoned);
                        let refused = extend(&mut manifest, 14, &seen).await.unwrap_err();
                        assert_eq!(refused.kind(), ErrorKind::Poisoned);
                        2
                    }
                    (kind, _) => panic!("{kind:?}: {error}"),
                }
            });
            // A short run never got to the nth operation.
            disk.clear_faults();
            outcomes[how.unwrap()] += 1;
            let (state, _) = reopened(&disk).unwrap();
            let (acked, found) = (*acked.borrow(), state.wal_floor.segment);
            assert!(
                found == acked || found == acked + 1,
                "{failure:?} at {n}: {acked} acknowledged, {found} there"
            );
            assert_eq!(state, state_after(found));
        }
    }
    assert!(
        outcomes.iter().all(|&count| count > 0),
        "every course was taken: {outcomes:?}"
    );
}

#[test]
fn a_read_that_fails_at_open_is_not_taken_for_damage() {
    for failure in [Failure::Eio, Failure::Short] {
        for n in 0..3 {
            let disk = disk_after(5, true);
            disk.inject(Fault::nth(n, failure));
            let error = reopened(&disk).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Io, "{failure:?} at {n}: {error}");
            assert_eq!(error.file(), Some(path()));
            disk.clear_faults();
            assert_eq!(reopened(&disk).unwrap().0, state_after(5));
        }
    }
}

#[test]
fn r14_a_full_disk_refuses_a_rollover_and_edits_go_on_when_space_returns() {
    let disk = disk_after(0, false);
    disk.set_capacity(0);
    let acked = Rc::new(RefCell::new(0));
    let seen = Rc::clone(&acked);
    sim::run(5, &disk, 1, |machine| async move {
        let (mut manifest, _) = open(&machine.core(0)).await.unwrap();
        let error = extend(&mut manifest, 40, &seen).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoSpace);
        assert!(
            *seen.borrow() >= 8,
            "the room was there: {} edits went in",
            seen.borrow()
        );
        assert!(!manifest.needs_repair(), "the old manifest is as good as before");
        assert_eq!(
            extend(&mut manifest, 40, &seen).await.unwrap_err().kind(),
            ErrorKind::NoSpace
        );
        machine.disk().set_capacity(1 << 30);
        extend(&mut manifest, 40, &seen).await.unwrap();
    });
    assert_eq!(reopened(&disk).unwrap().0, state_after(40));
}

/// Header, snapshot, two edits and the mark of a clean close, as this version writes them.
fn golden() -> Vec<u8> {
    let header = Header {
        database: OWNER.database,
        shard: OWNER.shard,
        salt: 0xfeed_f00d_dead_beef,
        room_bytes: 8 * PAGE_BYTES as u64,
    };
    let mut file = vec![0; 8 * PAGE_BYTES];
    format::encode_header(&mut file[..PAGE_BYTES], &header);
    let start = state_after(4);
    let edits = [start.snapshot(), edit(&start, 5), edit(&start, 6)];
    let mut parts: Vec<_> = edits
        .iter()
        .map(|edit| (FrameKind::Edit, edit.encode().remove(0)))
        .collect();
    parts.push((FrameKind::Mark, Vec::new()));
    let mut position = PAGE_BYTES;
    for (number, (kind, payload)) in (1..).zip(parts) {
        let end = position + framed_bytes(payload.len());
        format::encode_frame(
            &mut file[position..end],
            &header,
            position as u64,
            number,
            kind,
            &payload,
        );
        position = end;
    }
    file
}

fn parsed(file: &[u8]) -> std::result::Result<Replayed, Damage> {
    format::replay(file, &format::parse_header(file)?)
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "the golden file is in the source tree, not in a database"
)]
fn r13_the_format_is_pinned_byte_for_byte() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/manifest-v1");
    if std::env::var_os("CORELANE_WRITE_GOLDEN").is_some() {
        std::fs::write(path, golden()).unwrap();
    }
    let stored = std::fs::read(path).unwrap();
    assert!(
        stored == golden(),
        "the manifest's bytes changed: that takes a new format version"
    );
    let replayed = parsed(&stored).unwrap();
    assert_eq!(replayed.state, state_after(6));
    assert!(replayed.marked && replayed.torn.is_none());
    assert_eq!((replayed.end, replayed.next_number), (5 * PAGE_BYTES as u64, 5));
}

#[test]
fn r7_every_flipped_byte_of_a_closed_manifest_is_found_or_harmless() {
    let good = golden();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        match parsed(&bad) {
            Ok(replayed) => assert_eq!(replayed.state, state_after(6), "byte {at}"),
            Err(damage) => {
                assert!(damage.offset < 5 * PAGE_BYTES as u64, "byte {at}: {damage:?}");
                assert_eq!(
                    damage.offset,
                    (at - at % PAGE_BYTES) as u64,
                    "byte {at}: {damage:?}"
                );
            }
        }
    }
}

#[test]
fn r7_cut_zeroed_and_swapped_pages_of_a_closed_manifest_are_found_or_harmless() {
    let good = golden();
    for page in 0..8 {
        assert!(parsed(&good[..page * PAGE_BYTES]).is_err(), "cut at page {page}");
        let mut zeroed = good.clone();
        zeroed[page * PAGE_BYTES..(page + 1) * PAGE_BYTES].fill(0);
        check(parsed(&zeroed), &format!("page {page} zeroed"));
        for other in 0..page {
            let mut swapped = good.clone();
            let (left, right) = swapped.split_at_mut(page * PAGE_BYTES);
            left[other * PAGE_BYTES..(other + 1) * PAGE_BYTES].swap_with_slice(&mut right[..PAGE_BYTES]);
            check(parsed(&swapped), &format!("pages {other} and {page} swapped"));
            swapped.copy_from_slice(&good);
            swapped.copy_within(other * PAGE_BYTES..(other + 1) * PAGE_BYTES, page * PAGE_BYTES);
            check(parsed(&swapped), &format!("page {other} copied over {page}"));
        }
    }
    fn check(result: std::result::Result<Replayed, Damage>, case: &str) {
        if let Ok(replayed) = result {
            assert_eq!(replayed.state, state_after(6), "{case}");
        }
    }
}

#[test]
fn r7_a_torn_last_edit_is_cut_off_and_a_torn_earlier_one_is_damage() {
    let mut file = golden();
    file[4 * PAGE_BYTES..].fill(0);
    for torn in (3 * PAGE_BYTES..4 * PAGE_BYTES).step_by(512) {
        let mut file = file.clone();
        file[torn..4 * PAGE_BYTES].fill(0);
        let replayed = parsed(&file).unwrap();
        let whole = torn > 3 * PAGE_BYTES;
        assert_eq!(
            replayed.state,
            state_after(if whole { 6 } else { 5 }),
            "torn at {torn}"
        );
    }
    file[3 * PAGE_BYTES + 70] ^= 1;
    let replayed = parsed(&file).unwrap();
    assert_eq!(replayed.state, state_after(5));
    assert_eq!(replayed.torn.unwrap().offset, 3 * PAGE_BYTES as u64);
    file[2 * PAGE_BYTES + 70] ^= 1;
    file[3 * PAGE_BYTES + 70] ^= 1;
    let damage = parsed(&file).unwrap_err();
    assert_eq!(
        (damage.kind, damage.offset),
        (ErrorKind::Corruption, 2 * PAGE_BYTES as u64)
    );
    assert!(
        damage.cause.contains("frame 2 is bad") && damage.cause.contains("offset 12288"),
        "{}",
        damage.cause
    );
}

#[test]
fn an_edit_without_its_last_part_never_happened() {
    let header = format::parse_header(&golden()).unwrap();
    let mut file = golden();
    let mut payload = edit(&state_after(6), 7).encode().remove(0);
    payload.extend([6, 0]);
    let at = 5 * PAGE_BYTES;
    format::encode_frame(
        &mut file[at..at + PAGE_BYTES],
        &header,
        at as u64,
        5,
        FrameKind::Edit,
        &payload,
    );
    let replayed = parsed(&file).unwrap();
    assert_eq!(replayed.state, state_after(6));
    assert_eq!(replayed.torn.unwrap().offset, at as u64);
}

#[test]
fn r13_a_newer_format_version_and_unknown_features_and_tags_are_refused_by_name() {
    let reseal = |file: &mut [u8]| {
        let mut crc = crc32fast::Hasher::new();
        crc.update(&file[..12]);
        crc.update(&file[16..64]);
        file[12..16].copy_from_slice(&crc.finalize().to_le_bytes());
    };
    let mut file = golden();
    file[8] = 2;
    reseal(&mut file);
    let damage = parsed(&file).unwrap_err();
    assert_eq!(damage.kind, ErrorKind::Incompatible);
    assert!(
        damage.cause.contains("version 2") && damage.cause.contains("version 1"),
        "{}",
        damage.cause
    );
    let mut file = golden();
    file[17] = 1;
    reseal(&mut file);
    assert_eq!(parsed(&file).unwrap_err().kind, ErrorKind::Incompatible);
    let header = format::parse_header(&golden()).unwrap();
    let mut file = golden();
    let at = 5 * PAGE_BYTES;
    format::encode_frame(
        &mut file[at..at + PAGE_BYTES],
        &header,
        at as u64,
        5,
        FrameKind::Edit,
        &[9, 0],
    );
    let damage = parsed(&file).unwrap_err();
    assert_eq!((damage.kind, damage.offset), (ErrorKind::Incompatible, at as u64));
    assert!(damage.cause.contains("tag 9"), "{}", damage.cause);
}

#[test]
#[should_panic(expected = "an edit must fit the state")]
fn an_edit_that_does_not_fit_never_becomes_durable() {
    let disk = disk_after(1, true);
    sim::run(3, &disk, 1, |machine| async move {
        let (mut manifest, _) = open(&machine.core(0)).await.unwrap();
        let edit = VersionEdit {
            removed: vec![(2, 99)],
            ..VersionEdit::default()
        };
        let _ = manifest.append(&edit).await;
    });
}
