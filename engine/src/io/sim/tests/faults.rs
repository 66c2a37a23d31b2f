//! Planted failures, room, counters, and files changed at rest.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::*;
use crate::io::sim::{Count, Failure, Fault, OpKind};

/// Runs `body` on core 0 of a fresh machine.
fn run_on<T, F: Future<Output = T>>(seed: u64, disk: &SimDisk, body: impl FnOnce(SimIo) -> F) -> T {
    run(seed, disk, 1, |machine| body(machine.core(0))).expect("the power stays on")
}

async fn try_write(io: &SimIo, file: &SimFile, page: u64, pages: usize) -> Result<usize, ErrorKind> {
    let mut buf = io.alloc(pages * PAGE_BYTES);
    buf.fill(0xbb);
    file.write_at(buf, page * PAGE)
        .await
        .0
        .map_err(|error| error.kind())
}

#[test]
fn r14_room_is_taken_by_files_and_pages_and_comes_back_with_the_last_handle() {
    // The root, and 7 pages beside it.
    let disk = SimDisk::with_capacity(8 * PAGE);
    run_on(1, &disk, |io| async move {
        let room = || async { io.free_bytes(Path::new("/")).await.unwrap() / PAGE };
        assert_eq!(room().await, 7);
        let file = open(&io, "/a", OpenOptions::CREATE).await;
        assert_eq!(room().await, 6, "a file takes a page");
        assert_eq!(try_write(&io, &file, 0, 2).await, Ok(2 * PAGE_BYTES));
        assert_eq!(try_write(&io, &file, 1, 1).await, Ok(PAGE_BYTES));
        assert_eq!(room().await, 4, "an overwrite takes none");
        file.allocate(4 * PAGE).await.unwrap();
        assert_eq!(room().await, 2);
        assert_eq!(
            file.allocate(7 * PAGE).await.unwrap_err().kind(),
            ErrorKind::StorageFull
        );
        assert_eq!(
            (room().await, file.bytes().await.unwrap()),
            (2, 4 * PAGE),
            "all or nothing"
        );
        assert_eq!(
            try_write(&io, &file, 4, 3).await,
            Ok(2 * PAGE_BYTES),
            "what fits is written"
        );
        assert_eq!(try_write(&io, &file, 6, 1).await, Err(ErrorKind::StorageFull));
        assert_eq!(room().await, 0);
        assert_eq!(
            try_write(&io, &file, 0, 6).await,
            Ok(6 * PAGE_BYTES),
            "written pages can be overwritten"
        );
        let refused = io.open(Path::new("/b"), OpenOptions::CREATE).await;
        assert_eq!(
            refused.err().map(|error| error.kind()),
            Some(ErrorKind::StorageFull)
        );
        let refused = io.create_dir(Path::new("/d")).await;
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::StorageFull);

        let clone = file.clone();
        io.remove(Path::new("/a")).await.unwrap();
        file.close().await.unwrap();
        assert_eq!(room().await, 0, "a removed file keeps its room while it is open");
        clone.close().await.unwrap();
        assert_eq!(room().await, 7);
    });
    disk.crash(1);
    disk.set_capacity(0);
    assert_eq!(disk.free_bytes(), 0);
}

#[test]
fn a_fault_strikes_the_operations_it_names_and_no_others() {
    let disk = disk_with_file(4);
    disk.write("/f.wal", &[1; PAGE_BYTES]);
    disk.inject(
        Fault::new(Failure::Eio)
            .on(OpKind::Read)
            .extension("wal")
            .skip(1)
            .times(2),
    );
    disk.inject(Fault::new(Failure::Enospc).on(OpKind::Create).on(OpKind::Rename));
    run_on(1, &disk, |io| async move {
        let (plain, log) = (
            open(&io, "/f", OpenOptions::READ).await,
            open(&io, "/f.wal", OpenOptions::READ).await,
        );
        let mut failed = Vec::new();
        for _ in 0..4 {
            assert!(plain.read_at(0, PAGE_BYTES).await.is_ok());
            failed.push(log.read_at(0, PAGE_BYTES).await.is_err());
        }
        assert_eq!(failed, [false, true, true, false]);
        let kind = io
            .open(Path::new("/x"), OpenOptions::CREATE)
            .await
            .err()
            .map(|error| error.kind());
        assert_eq!(kind, Some(ErrorKind::StorageFull));
        let renamed = io.rename(Path::new("/f"), Path::new("/g")).await;
        assert_eq!(renamed.unwrap_err().kind(), ErrorKind::StorageFull);
    });
    assert!(
        disk.read("/f").is_some() && disk.read("/x").is_none(),
        "what failed for lack of room did nothing"
    );
    disk.clear_faults();
    run_on(2, &disk, |io| async move {
        drop(open(&io, "/x", OpenOptions::CREATE).await)
    });
}

#[test]
fn every_operation_of_a_workload_can_be_failed_in_turn() {
    let workload = |io: SimIo| async move {
        io.create_dir(Path::new("/d")).await?;
        let file = io.open(Path::new("/d/a"), OpenOptions::CREATE).await?;
        file.allocate(PAGE).await?;
        file.write_at(io.alloc(PAGE_BYTES), 0).await.0?;
        file.sync_data().await?;
        file.read_at(0, PAGE_BYTES).await?;
        file.bytes().await?;
        io.rename(Path::new("/d/a"), Path::new("/d/b")).await?;
        io.sync_dir(Path::new("/d")).await?;
        io.list_dir(Path::new("/d")).await?;
        io.free_bytes(Path::new("/d")).await?;
        drop(io.lock(Path::new("/d/LOCK")).await?);
        io.remove(Path::new("/d/b")).await
    };
    for failed in 0..13 {
        let disk = SimDisk::new();
        disk.inject(Fault::nth(failed, Failure::Eio));
        let error = run_on(failed, &disk, workload).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(5), "operation {failed}");
    }
    let disk = SimDisk::new();
    disk.inject(Fault::nth(13, Failure::Eio));
    run_on(13, &disk, workload).unwrap();
}

#[test]
fn r2_a_short_transfer_says_how_short_and_moves_no_more() {
    for seed in 0..SEEDS {
        let disk = disk_with_file(2);
        disk.inject(Fault::new(Failure::Short).on(OpKind::Write).times(1));
        disk.inject(Fault::new(Failure::Short).on(OpKind::Read).times(1));
        run_on(seed, &disk, |io| async move {
            let file = open(&io, "/f", OpenOptions::WRITE).await;
            let written = try_write(&io, &file, 0, 2).await.unwrap();
            assert!(
                written < 2 * PAGE_BYTES && written % 512 == 0,
                "seed {seed}: {written}"
            );
            let read = file.read_at(0, 2 * PAGE_BYTES).await.unwrap();
            assert!(read.len() < 2 * PAGE_BYTES, "seed {seed}");
            let all = file.read_at(0, 2 * PAGE_BYTES).await.unwrap();
            assert!(all[..written].iter().all(|b| *b == 0xbb), "seed {seed}");
            assert!(all[written..].iter().all(|b| *b == 0xaa), "seed {seed}");
        });
    }
}

#[test]
fn r3_a_failed_write_may_have_reached_the_disk_in_part() {
    let found = outcomes(|seed| {
        let disk = disk_with_file(1);
        disk.inject(Fault::new(Failure::Eio).on(OpKind::Write));
        run_and_crash(seed, &disk, |io| async move {
            let file = open(&io, "/f", OpenOptions::WRITE.dsync()).await;
            assert_eq!(
                try_write(&io, &file, 0, 1).await.unwrap_err(),
                std::io::Error::from_raw_os_error(5).kind()
            );
        });
        page(&disk, "/f", 0)
    });
    assert!(
        found.contains(&Page::Old) && found.contains(&Page::Torn),
        "{found:?}"
    );
}

#[test]
fn operations_are_counted_by_extension_and_kind() {
    let disk = disk_with_file(4);
    disk.write("/1.sst", &[1; 4 * PAGE_BYTES]);
    run_on(1, &disk, |io| async move {
        let file = open(&io, "/1.sst", OpenOptions::WRITE).await;
        file.read_at(0, 2 * PAGE_BYTES).await.unwrap();
        file.read_at(3 * PAGE, 2 * PAGE_BYTES).await.unwrap();
        write_page(&io, &file, 0, 1).await;
        open(&io, "/f", OpenOptions::READ)
            .await
            .read_at(0, PAGE_BYTES)
            .await
            .unwrap();
    });
    assert_eq!(
        disk.count(Some("sst"), OpKind::Read),
        Count {
            ops: 2,
            bytes: 3 * PAGE
        }
    );
    assert_eq!(
        disk.count(Some("sst"), OpKind::Write),
        Count { ops: 1, bytes: PAGE }
    );
    assert_eq!(disk.count(Some(""), OpKind::Read).ops, 1);
    assert_eq!(
        disk.count(None, OpKind::Read),
        Count {
            ops: 3,
            bytes: 4 * PAGE
        }
    );
    assert_eq!(disk.count(None, OpKind::Sync).ops, 0);
    disk.reset_counts();
    assert_eq!(disk.count(None, OpKind::Read), Count::default());
}

#[test]
fn files_are_changed_at_rest_and_the_change_is_what_is_read() {
    let disk = SimDisk::new();
    disk.write("/d/e/a", &[1; 2 * PAGE_BYTES]);
    disk.write("/b", b"short");
    assert_eq!(disk.files(), [PathBuf::from("/b"), PathBuf::from("/d/e/a")]);
    disk.corrupt("/d/e/a", |bytes| {
        bytes[4097] ^= 0x80;
        bytes.truncate(5000);
    });
    run_on(1, &disk, |io| async move {
        let file = open(&io, "/d/e/a", OpenOptions::READ).await;
        assert_eq!(file.bytes().await.unwrap(), 5000);
        let read = file.read_at(PAGE, PAGE_BYTES).await.unwrap();
        assert_eq!((read.len(), read[1], read[2]), (904, 0x81, 1));
    });
    disk.remove("/b");
    disk.crash(1);
    assert_eq!(
        disk.files(),
        [PathBuf::from("/d/e/a")],
        "changes at rest are durable"
    );
    assert_eq!(disk.read("/d/e/a").unwrap().len(), 5000);
}
