//! What callers may do to an open database: wrong requests, more of them than fit, and leaving at any moment.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and some are about real threads"
)]

use std::cell::Cell;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use corelane::ErrorKind;
use corelane::api::{Answer, Batch, Core, Db, Decision, Durability, Op, Runtime, Service, launch};
use corelane::io::sim::{SimDisk, run};
use corelane::io::{Class, Io};
use corelane_testing::{DIR, on_each_runtime, open, small};
use futures_lite::future::block_on;
use futures_util::stream::{FuturesUnordered, StreamExt};

/// Sends wrong requests among right ones, and says when it is done.
#[derive(Clone)]
struct Misroutes(Arc<AtomicUsize>);

impl Service for Misroutes {
    async fn run<I: Io>(self, core: Core<I>) {
        let write = |key: &[u8]| {
            let mut batch = Batch::new();
            batch.put(key, b"value").unwrap();
            Op::Write {
                batch,
                durability: Durability::Sync,
            }
        };
        for i in 0..50_u8 {
            let key = [core.index().try_into().unwrap(), i];
            let home = core.shard_of(&key);
            let beside = (home + 1) % 3;
            let ops = vec![
                (beside, write(&key)),
                (home, write(&key)),
                (7, Op::Count),
                (home, Op::Stats),
            ];
            let outcomes = core.execute(ops).await;
            let kinds: Vec<_> = outcomes
                .iter()
                .map(|o| o.as_ref().err().map(|e| e.kind()))
                .collect();
            assert_eq!(
                kinds,
                [
                    Some(ErrorKind::CrossShard),
                    None,
                    Some(ErrorKind::InvalidOptions),
                    None
                ]
            );
            assert!(matches!(outcomes[1], Ok(Answer::Written(_))));
        }
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A request with another shard's key was staged and logged there, where no read finds it, and one that named a shard
/// that is not there ended the core. An encoded batch could also be any bytes, which the log then could not be opened
/// with; the type now says that it is whole.
#[test]
fn a_request_that_its_shard_cannot_run_is_refused_and_those_beside_it_run() {
    let disk = SimDisk::new();
    run(1, &disk, 2, |machine| async move {
        let (db, seats) = launch(Path::new(DIR), small(2, 3)).unwrap();
        let done = Arc::new(AtomicUsize::new(0));
        for (core, seat) in seats.into_iter().enumerate() {
            let io = machine.core(core);
            io.clone()
                .spawn(Class::Foreground, seat.run(io, Misroutes(Arc::clone(&done))));
        }
        db.ready().await.unwrap();
        while done.load(Ordering::SeqCst) < 2 {
            machine.core(0).sleep(Duration::from_millis(1)).await;
        }
        db.close().await.unwrap();
    })
    .unwrap();
    run(2, &disk, 1, |machine| async move {
        let db = corelane_testing::open(&machine, small(1, 3)).await.unwrap();
        for core in 0..2_u8 {
            for i in 0..50_u8 {
                assert_eq!(db.get(&[core, i]).await.unwrap(), Some(b"value".to_vec()));
            }
        }
        db.close().await.unwrap();
    })
    .unwrap();
}

/// More than the mailbox, the tasks and the waiting writers of a core together, with 3,000 bytes each.
const CROWD: u32 = 40_000;

/// What became of a crowd of writers.
#[derive(Default)]
struct Fates {
    written: AtomicUsize,
    busy: AtomicUsize,
    closed: AtomicUsize,
}

/// A crowd of writers, two of which use up the room there is, so that nearly all must wait.
fn crowd(db: &Db, fates: &Fates) {
    let puts = (0..CROWD).map(|i| async move {
        let fate = match db.put(&i.to_be_bytes(), &[7; 3000]).await {
            Ok(()) => &fates.written,
            Err(error) if error.kind() == ErrorKind::Busy => &fates.busy,
            Err(error) if error.kind() == ErrorKind::Closed => &fates.closed,
            Err(error) => panic!("{error}"),
        };
        fate.fetch_add(1, Ordering::SeqCst);
    });
    block_on(puts.collect::<FuturesUnordered<_>>().collect::<Vec<()>>());
}

/// Writers that waited for room each held one of 4,096 tasks, and with all of them held the core took nothing more from
/// its mailbox: no read was answered, and no close begun, before thousands of writes had been.
#[test]
fn reads_and_closing_get_past_any_number_of_writers_that_wait() {
    on_each_runtime(get_past_writers_that_wait);
}

fn get_past_writers_that_wait(runtime: Runtime) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let builder = Db::builder(dir.path().join("db")).cores(vec![0]).runtime(runtime);
    let db = builder.tuning(|t| {
        t.buffered_bytes = 4 << 10;
        t.staged_bytes = 8 << 10;
    });
    let db = db.open_blocking().unwrap();
    db.blocking().put(b"key", b"value").unwrap();
    let fates = Fates::default();
    std::thread::scope(|scope| {
        scope.spawn(|| crowd(&db, &fates));
        while fates.busy.load(Ordering::SeqCst) == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(db.blocking().get(b"key").unwrap(), Some(b"value".to_vec()));
        let before = fates.written.load(Ordering::SeqCst);
        assert!(before < CROWD as usize / 2, "a read waited for {before} writes");
        db.blocking().close().unwrap();
    });
    let [written, busy, closed] =
        [&fates.written, &fates.busy, &fates.closed].map(|fate| fate.load(Ordering::SeqCst));
    assert_eq!(written + busy + closed, CROWD as usize, "everybody was told");
    assert!(closed > 0, "the close waited for every writer");
}

/// Of more than 4,096 writers that waited on a healthy core, each for one group to go out, the rest were told that it is
/// busy.
#[test]
fn six_thousand_writers_of_a_healthy_core_wait_and_are_served() {
    let disk = SimDisk::new();
    run(1, &disk, 2, |machine| async move {
        let mut options = small(1, 1);
        options.tuning.buffered_bytes = 4 << 10;
        options.tuning.staged_bytes = 16 << 10;
        options.tuning.memtable_bytes = 64 << 20;
        let db = open(&machine, options).await.unwrap();
        let puts = (0..6_000_u32).map(|i| {
            let db = db.clone();
            async move { db.put(&i.to_be_bytes(), b"value").await }
        });
        let outcomes: Vec<_> = puts.collect::<FuturesUnordered<_>>().collect().await;
        for outcome in outcomes {
            outcome.unwrap();
        }
        assert!(
            db.stats().await.unwrap().total(|s| s.waits) > 0,
            "they had to wait"
        );
        db.close().await.unwrap();
    })
    .unwrap();
}

/// An update was admitted by its key alone, and all of a crowd at once: each then staged a value of any size, far beyond
/// the bound on what may be staged.
#[test]
fn updates_wait_for_room_by_what_they_write() {
    const VALUE: usize = 100 << 10;
    for seed in 0..10 {
        let disk = SimDisk::new();
        run(seed, &disk, 2, |machine| async move {
            let mut options = small(1, 1);
            options.tuning.staged_bytes = 64 << 10;
            options.tuning.memtable_bytes = 64 << 20;
            let db = open(&machine, options).await.unwrap();
            let (io, done) = (machine.core(1), Rc::new(Cell::new(0)));
            for i in 0..64_u8 {
                let (db, done) = (db.clone(), Rc::clone(&done));
                io.spawn(Class::Foreground, async move {
                    db.update(&[i], move |_| (Decision::Put(vec![i; VALUE]), ()))
                        .await
                        .unwrap();
                    done.set(done.get() + 1);
                });
            }
            while done.get() < 64 {
                io.sleep(Duration::from_millis(1)).await;
            }
            let stats = db.stats().await.unwrap();
            let (batches, writes) = (stats.total(|s| s.wal_batches), stats.total(|s| s.wal_writes));
            assert_eq!(batches, 64);
            assert!(
                writes >= 64,
                "seed {seed}: {batches} values of more than the bound in {writes} writes"
            );
            assert!(stats.total(|s| s.waits) > 0);
            for i in 0..64_u8 {
                assert_eq!(db.get(&[i]).await.unwrap(), Some(vec![i; VALUE]));
            }
            db.close().await.unwrap();
        })
        .unwrap();
    }
}

/// Two who asked for a full compaction shared one flag: the first to see its end put it out, and the second was answered
/// with its own tables still in L0.
#[test]
fn each_who_compacts_is_answered_when_its_own_is_done() {
    for seed in 0..20 {
        let disk = SimDisk::new();
        run(seed, &disk, 2, |machine| async move {
            let mut options = small(1, 1);
            options.tuning.auto_compact = false;
            let db = open(&machine, options).await.unwrap();
            let io = machine.core(1);
            let ended = Rc::new(Cell::new(0));
            for round in 0..4_u8 {
                for i in 0..40_u8 {
                    db.put(&[i, round], &[round; 2000]).await.unwrap();
                }
                let (db, ended) = (db.clone(), Rc::clone(&ended));
                io.spawn(Class::Foreground, async move {
                    db.compact().await.unwrap();
                    ended.set(ended.get() + 1);
                });
            }
            db.compact().await.unwrap();
            let levels = db.stats().await.unwrap().shards.remove(0).level_tables;
            let (bottom, above) = levels.split_last().unwrap();
            assert!(above.iter().all(|&tables| tables == 0), "seed {seed}: {levels:?}");
            assert!(*bottom > 0);
            while ended.get() < 4 {
                io.sleep(Duration::from_millis(1)).await;
            }
            db.close().await.unwrap();
        })
        .unwrap();
    }
}

/// A full compaction waited for the moment at which nothing at all lay above the deepest level, which under steady writes
/// never comes.
#[test]
fn a_full_compaction_ends_under_steady_writes() {
    for seed in 0..5 {
        let disk = SimDisk::new();
        run(seed, &disk, 2, |machine| async move {
            let db = open(&machine, small(1, 1)).await.unwrap();
            let (io, stop) = (machine.core(1), Rc::new(Cell::new(false)));
            let (writer, stopped) = (db.clone(), Rc::clone(&stop));
            let ended = Rc::new(Cell::new(false));
            let ends = Rc::clone(&ended);
            io.spawn(Class::Foreground, async move {
                let mut i = 0_u32;
                while !stopped.get() {
                    writer.put(&(i % 500).to_be_bytes(), &[7; 4000]).await.unwrap();
                    i += 1;
                }
                ends.set(true);
            });
            io.sleep(Duration::from_millis(200)).await;
            db.compact().await.unwrap();
            db.compact().await.unwrap();
            stop.set(true);
            while !ended.get() {
                io.sleep(Duration::from_millis(1)).await;
            }
            db.close().await.unwrap();
        })
        .unwrap();
    }
}
