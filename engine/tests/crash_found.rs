//! Bugs that the crash test has found, each as the shortest story that shows it.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking"
)]

use corelane::Result;
use corelane::api::{Db, Durability, Options};
use corelane::io::Io;
use corelane::io::sim::{OpKind, SimDisk, SimMachine, run};
use futures_util::future::{Either, join, select};
use std::future::{Future, pending};
use std::pin::pin;
use std::time::Duration;

use corelane_testing::{DIR, open, small};

/// Ways in which each moment is crashed.
const WAYS: u64 = 40;

fn options() -> Options {
    let mut options = small(1, 1);
    options.tuning.manifest_bytes = 16 << 10;
    // Not full at once, so that nothing is flushed unless a story asks for it.
    options.tuning.memtable_bytes = 1 << 20;
    options
}

/// A database that was created in a directory that was there before, and closed cleanly.
fn created() -> SimDisk {
    let disk = SimDisk::new();
    disk.create_dir_all(DIR);
    run(1, &disk, 1, |machine| async move {
        let db = open(&machine, options()).await.unwrap();
        db.close().await.unwrap();
    })
    .unwrap();
    disk
}

/// Opens, does `work`, and cuts the power at once.
fn work_and_cut<F: Future<Output = ()>>(seed: u64, disk: &SimDisk, work: impl FnOnce(Db, SimMachine) -> F) {
    let ended = run(seed, disk, 1, |machine| async move {
        let db = open(&machine, options()).await.unwrap();
        work(db, machine.clone()).await;
        machine.cut_power();
        pending::<()>().await;
    });
    assert!(ended.is_none());
}

/// Opens an existing database and closes it again; what `check` says of it.
fn reopened<T, F: Future<Output = T>>(seed: u64, disk: &SimDisk, check: impl FnOnce(Db) -> F) -> Result<T> {
    let mut options = options();
    options.create = false;
    run(seed, disk, 1, |machine| async move {
        let db = open(&machine, options).await?;
        let found = check(db.clone()).await;
        db.close().await?;
        Ok(found)
    })
    .unwrap()
}

/// Kills the process while the `nth` file whose name ends in `.new` is being renamed: the rename happens, and nothing
/// after it.
fn killed_while_renaming<F: Future<Output = ()>>(
    nth: u64,
    disk: &SimDisk,
    work: impl FnOnce(SimMachine) -> F,
) {
    disk.reset_counts();
    run(3, disk, 1, |machine| async move {
        let renaming = async {
            while machine.disk().count(Some("new"), OpKind::Rename).ops < nth {
                machine.core(0).sleep(Duration::from_micros(2)).await;
            }
        };
        let (working, renaming) = (pin!(work(machine.clone())), pin!(renaming));
        let renamed = matches!(select(working, renaming).await, Either::Right(_));
        assert!(renamed, "nothing was renamed");
        machine.kill();
        pending::<()>().await;
    });
}

/// The database's directory was created and its own name never synced: after a power cut the whole database could be
/// gone, acknowledged writes and all.
#[test]
fn r9_the_name_of_the_databases_directory_is_durable_before_anything_is_acknowledged() {
    for seed in 0..WAYS {
        let disk = SimDisk::new();
        work_and_cut(
            seed,
            &disk,
            |db, _| async move { db.put(b"k", b"v").await.unwrap() },
        );
        disk.crash(seed);
        let found = reopened(seed, &disk, |db| async move { db.get(b"k").await.unwrap() });
        assert_eq!(found.unwrap(), Some(b"v".to_vec()), "seed {seed}");
    }
}

/// A crash while a segment was being filled left a file shorter than a segment. It was recycled unseen under a header
/// that says the full length, and the next recovery took that for damage.
#[test]
fn r4_a_segment_whose_preparation_was_cut_short_is_not_recycled_as_it_is() {
    let created = created();
    for seed in 0..200 {
        let disk = created.fork();
        run(seed, &disk, 1, |machine| async move {
            machine.cut_power_after(15 + seed % 40);
            let db = open(&machine, options()).await.unwrap();
            for i in 0..60_u32 {
                db.put(&i.to_be_bytes(), &[1; 3000]).await.unwrap();
            }
        });
        disk.crash(seed);
        work_and_cut(seed, &disk, |db, _| async move {
            for i in 0..60_u32 {
                db.put(&i.to_be_bytes(), &[2; 3000]).await.unwrap();
            }
        });
        disk.crash(seed);
        let found = reopened(seed, &disk, |db| async move {
            db.get(&59_u32.to_be_bytes()).await.unwrap()
        });
        assert_eq!(found.unwrap(), Some(vec![2; 3000]), "seed {seed}");
    }
}

/// A batch too large for a frame was cut off between two parts. Nothing was torn, so the log went on right behind the
/// first part, and the next recovery took what followed for an interruption that cannot be.
#[test]
fn r8_a_batch_cut_off_between_its_parts_is_sealed_off() {
    let created = created();
    for seed in 0..200 {
        let disk = created.fork();
        let written = run(seed, &disk, 1, |machine| async move {
            machine.cut_power_after(15 + seed % 40);
            let db = open(&machine, options()).await.unwrap();
            db.put(b"large", &[1; 150_000]).await.unwrap();
        });
        if written.is_none() {
            disk.crash(seed);
        }
        work_and_cut(seed, &disk, |db, _| async move {
            db.put(b"small", b"v").await.unwrap()
        });
        disk.crash(seed);
        let found = reopened(seed, &disk, |db| async move {
            (db.get(b"small").await.unwrap(), db.get(b"large").await.unwrap())
        });
        let (small, large) = found.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert_eq!(small, Some(b"v".to_vec()), "seed {seed}");
        assert!(large.is_none_or(|value| value == [1; 150_000]), "seed {seed}");
    }
}

/// A process was killed between the rename that names a superblock and the directory's sync. The next one read it, took
/// the mark of creation away and acknowledged writes; then the power went, the rename was lost, and creation began again
/// over those writes.
#[test]
fn r9_a_superblock_whose_creator_was_killed_is_durable_before_anything_relies_on_it() {
    let killed = SimDisk::new();
    killed.create_dir_all(DIR);
    // The shard's manifest is the first that is renamed; the superblock the second.
    killed_while_renaming(2, &killed, |machine| async move {
        open(&machine, options()).await.unwrap();
    });
    assert!(killed.read("/db/superblock").is_some());
    for seed in 0..WAYS {
        let disk = killed.fork();
        work_and_cut(
            seed,
            &disk,
            |db, _| async move { db.put(b"k", b"v").await.unwrap() },
        );
        disk.crash(seed);
        let found = reopened(seed, &disk, |db| async move { db.get(b"k").await.unwrap() });
        let found = found.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert_eq!(found, Some(b"v".to_vec()), "seed {seed}");
    }
}

/// A process was killed between the rename of a new manifest and the directory's sync. The next one read the new one and
/// recycled a segment that only the old one needs; then the power went, and the old one was back.
#[test]
fn r10_a_manifest_whose_writer_was_killed_is_durable_before_what_it_drops_is_used_again() {
    // Small flushes until the next one rolls the manifest over; without merges their number is always the same.
    let no_merges = || {
        let mut options = options();
        options.tuning.auto_compact = false;
        options
    };
    let small_flushes = async |db: &Db, most: u64, machine: &SimMachine| {
        let renames = || machine.disk().count(Some("new"), OpKind::Rename).ops;
        let (before, mut done) = (renames(), 0);
        while done < most && renames() == before {
            db.put(b"small", b"v").await.unwrap();
            db.flush().await.unwrap();
            done += 1;
        }
        done
    };
    let before_rollover = run(2, &created(), 1, |machine| async move {
        let db = open(&machine, no_merges()).await.unwrap();
        small_flushes(&db, 100, &machine).await - 1
    })
    .unwrap();
    let killed = created();
    killed_while_renaming(1, &killed, |machine| async move {
        let db = open(&machine, no_merges()).await.unwrap();
        small_flushes(&db, before_rollover, &machine).await;
        // Into the next segment, so that the new manifest no longer needs the first.
        for i in 0..20_u32 {
            db.put(&i.to_be_bytes(), &[1; 3000]).await.unwrap();
        }
        db.flush().await.unwrap();
    });
    for seed in 0..200 {
        let disk = killed.fork();
        run(seed, &disk, 1, |machine| async move {
            machine.cut_power_after(20 + seed % 100);
            let db = open(&machine, options()).await.unwrap();
            db.put(b"k", b"v").await.unwrap();
            machine.core(0).sleep(Duration::from_millis(100)).await;
            machine.cut_power();
            pending::<()>().await;
        });
        disk.crash(seed);
        let first = 0_u32.to_be_bytes();
        let found = reopened(seed, &disk, |db| async move { db.get(&first).await.unwrap() });
        let found = found.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert_eq!(found, Some(vec![1; 3000]), "seed {seed}");
    }
}

/// A flush was asked for when all that there was to flush still waited for its device write. The next seal found an empty
/// memtable, forgot the request and told nobody: the flush waited for ever.
#[test]
fn a_flush_beside_other_writers_ends() {
    let created = created();
    for seed in 0..WAYS {
        let disk = created.fork();
        run(seed, &disk, 1, |machine| async move {
            let db = open(&machine, options()).await.unwrap();
            for round in 0..4_u64 {
                let (put, flush) = join(db.put(&[1], b"v"), db.flush()).await;
                put.unwrap();
                flush.unwrap();
                db.flush().await.unwrap();
                let stats = db.stats().await.unwrap();
                assert_eq!(stats.total(|s| s.flushes), round + 1, "seed {seed}");
            }
        })
        .unwrap();
    }
}

/// A batch that fits one frame without its length and does not with it was taken for large, found to have one part only,
/// and the core panicked.
#[test]
fn a_batch_of_any_size_around_that_of_a_frame_is_logged_and_replayed() {
    let disk = created();
    // A segment of 64 KiB has room for one frame of 13 pages.
    let sizes = 13 * 4096 - 120..13 * 4096_usize;
    let all = sizes.clone();
    work_and_cut(1, &disk, |db, _| async move {
        for bytes in all {
            db.put(&bytes.to_be_bytes(), &vec![7; bytes]).await.unwrap();
        }
    });
    disk.crash(1);
    let found = reopened(2, &disk, |db| async move {
        for bytes in sizes {
            let value = db.get(&bytes.to_be_bytes()).await.unwrap();
            assert_eq!(value.map(|value| value.len()), Some(bytes));
        }
    });
    found.unwrap();
}

/// A `None` write that had to wait behind a `Sync` one was not remembered as unlogged when it entered the memtable, so a
/// clean close did not flush and lost it.
#[test]
fn a_clean_close_keeps_an_unlogged_write_that_waited_its_turn() {
    let created = created();
    for seed in 0..WAYS {
        let disk = created.fork();
        run(seed, &disk, 1, |machine| async move {
            let db = open(&machine, options()).await.unwrap();
            let logged = db.put(b"logged", b"1");
            let unlogged = db.put_with(b"unlogged", b"2", Durability::None);
            let (logged, unlogged) = join(logged, unlogged).await;
            logged.unwrap();
            unlogged.unwrap();
            db.close().await.unwrap();
        })
        .unwrap();
        let found = reopened(
            seed,
            &disk,
            |db| async move { db.get(b"unlogged").await.unwrap() },
        );
        assert_eq!(found.unwrap(), Some(b"2".to_vec()), "seed {seed}");
    }
}

/// Writes that wait for no device write, beside one that is under way, entered the memtable without any bound: it is
/// rotated only when a group is sealed, and none is while the device hangs.
#[test]
fn a_memtable_stays_bounded_while_a_device_write_is_under_way() {
    const MEMTABLE_BYTES: u64 = 256 << 10;
    run(1, &created(), 1, |machine| async move {
        let mut options = options();
        options.tuning.memtable_bytes = MEMTABLE_BYTES as usize;
        let db = open(&machine, options).await.unwrap();
        db.flush().await.unwrap();
        // Enough for a group that nobody waits for; all that follows comes before time has passed.
        db.put_with(b"buffered", &[1; 5000], Durability::Buffered)
            .await
            .unwrap();
        let puts = (0..400_u32).map(|n| {
            let db = db.clone();
            async move {
                db.put_with(&n.to_be_bytes(), &[2; 5000], Durability::None)
                    .await
                    .unwrap();
                if n.is_multiple_of(10) {
                    let held = db.stats().await.unwrap().shards[0].memtable_bytes;
                    assert!(held < 3 * MEMTABLE_BYTES, "after {n} writes it has {held} bytes");
                }
            }
        });
        futures_util::future::join_all(puts).await;
        db.close().await.unwrap();
    })
    .unwrap();
}

/// Recovery filled a memtable, and the next batch lay in several frames. The floor of the flush that followed was that
/// batch's last frame instead of its first, so the recovery after that found a batch without its beginning.
#[test]
fn r10_a_floor_never_lies_within_a_batch() {
    let created = created();
    for seed in 0..WAYS {
        let disk = created.fork();
        work_and_cut(seed, &disk, |db, _| async move {
            db.put(b"first", &[1; 40_000]).await.unwrap();
            db.put(b"second", &[1; 40_000]).await.unwrap();
            db.put(b"large", &[1; 150_000]).await.unwrap();
        });
        disk.crash(seed);
        // A memtable of the least size is full after the second batch, and so is flushed by itself.
        run(seed, &disk, 1, |machine| async move {
            let mut options = options();
            options.tuning.memtable_bytes = 64 << 10;
            let _db = open(&machine, options).await.unwrap();
            machine
                .core(0)
                .sleep(Duration::from_millis(u64::min(seed, 20)))
                .await;
            machine.cut_power();
            pending::<()>().await;
        });
        disk.crash(seed);
        let found = reopened(seed, &disk, |db| async move { db.get(b"large").await.unwrap() });
        let found = found.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert_eq!(found, Some(vec![1; 150_000]), "seed {seed}");
    }
}
