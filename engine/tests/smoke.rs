//! The engine end to end: in the simulator, and on a real directory with real executors.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking"
)]

use std::ops::Bound;

use corelane::ErrorKind;
use corelane::api::{Batch, Db, Decision, Durability, Runtime};
use corelane::io::sim::{SimDisk, run};
use corelane_testing::{RUNTIMES, open, small};

#[test]
fn what_is_written_is_read_back_also_after_a_reopen() {
    let disk = SimDisk::new();
    run(1, &disk, 2, |machine| async move {
        let db = open(&machine, small(2, 3)).await.unwrap();
        for i in 0..500_u32 {
            db.put(&i.to_be_bytes(), &[7; 400]).await.unwrap();
        }
        db.delete(&3_u32.to_be_bytes()).await.unwrap();
        assert_eq!(db.get(&5_u32.to_be_bytes()).await.unwrap(), Some(vec![7; 400]));
        assert_eq!(db.get(&3_u32.to_be_bytes()).await.unwrap(), None);
        db.close().await.unwrap();
    })
    .unwrap();
    run(2, &disk, 1, |machine| async move {
        let db = open(&machine, small(1, 3)).await.unwrap();
        for i in 0..500_u32 {
            let expected = (i != 3).then(|| vec![7; 400]);
            assert_eq!(db.get(&i.to_be_bytes()).await.unwrap(), expected, "{i}");
        }
        let page = db.scan(Bound::Unbounded, Bound::Unbounded, 1000).await.unwrap();
        assert_eq!(page.entries.len(), 499);
        assert!(page.entries.iter().is_sorted());
        assert_eq!(page.resume, None);
        db.compact().await.unwrap();
        for i in 0..500_u32 {
            assert_eq!(db.get(&i.to_be_bytes()).await.unwrap().is_some(), i != 3, "{i}");
        }
        db.close().await.unwrap();
    })
    .unwrap();
}

/// A leak of the runtime's was known to its own tests alone: nobody could see of a running database what its cores hold.
#[test]
fn what_each_core_holds_is_told_where_the_runtime_counts_it() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    for (runtime, counted) in [(Runtime::Uring, 2), (Runtime::Glommio, 0)] {
        let db = Db::builder(dir.path().join("db"))
            .cores(vec![0, 1])
            .shards(3)
            .runtime(runtime)
            .open_blocking()
            .unwrap();
        let stats = db.blocking().stats().unwrap();
        let cores: Vec<usize> = stats.shards.iter().map(|shard| shard.core).collect();
        assert_eq!(cores, [0, 1, 0]);
        let held = stats.held();
        assert_eq!(held.len(), counted, "{runtime}: {held:?}");
        for held in held.values() {
            assert!(
                held.tasks > 0 && held.operations > 0 && held.files > 0,
                "{held:?}"
            );
        }
        db.blocking().close().unwrap();
    }
}

#[test]
fn a_real_directory_serves_threads_and_survives_a_reopen() {
    RUNTIMES
        .into_iter()
        .for_each(serves_threads_and_survives_a_reopen);
}

fn serves_threads_and_survives_a_reopen(runtime: Runtime) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let open = || {
        Db::builder(dir.path().join("db"))
            .cores(vec![0, 1])
            .shards(3)
            .runtime(runtime)
            .tuning(|t| {
                t.segment_bytes = 1 << 20;
                t.memtable_bytes = 256 << 10;
            })
            .open_blocking()
            .unwrap()
    };
    let db = open();
    assert_eq!(db.runtime().map(|choice| choice.runtime), Some(runtime));
    std::thread::scope(|scope| {
        for thread in 0..4_u32 {
            let db = db.clone();
            scope.spawn(move || {
                for i in 0..300_u32 {
                    let key = [thread.to_be_bytes(), i.to_be_bytes()].concat();
                    db.blocking().put(&key, &vec![thread as u8; 500]).unwrap();
                    let count = db.blocking().update(b"counter", |old| {
                        let next = old.map_or(0, |o| u64::from_be_bytes(o.try_into().unwrap())) + 1;
                        (Decision::Put(next.to_be_bytes().to_vec()), next)
                    });
                    assert!(count.unwrap() > 0);
                }
            });
        }
    });
    let second = Db::builder(dir.path().join("db"))
        .cores(vec![0])
        .runtime(runtime)
        .open_blocking();
    assert_eq!(second.err().map(|e| e.kind()), Some(ErrorKind::Locked));
    db.blocking().close().unwrap();
    assert_eq!(db.blocking().get(b"x").unwrap_err().kind(), ErrorKind::Closed);
    drop(db);
    let db = open();
    assert_eq!(
        db.blocking().get(b"counter").unwrap(),
        Some(1200_u64.to_be_bytes().to_vec())
    );
    let keys: Vec<_> = (0..4_u32)
        .map(|t| [t.to_be_bytes(), 299_u32.to_be_bytes()].concat())
        .collect();
    let values = db.blocking().multi_get(&keys).unwrap();
    assert!(values.iter().all(Option::is_some));
    let mut batch = Batch::new();
    batch.put(b"{a}1", b"x").unwrap().put(b"{a}2", b"y").unwrap();
    db.blocking().write(batch, Durability::Sync).unwrap();
    let mut batch = Batch::new();
    for i in 0..64_u8 {
        batch.put(&[i], b"").unwrap();
    }
    assert_eq!(
        db.blocking().write(batch, Durability::Sync).unwrap_err().kind(),
        ErrorKind::CrossShard
    );
    db.blocking().compact().unwrap();
    assert_eq!(db.blocking().get(b"{a}2").unwrap(), Some(b"y".to_vec()));
    db.blocking().close().unwrap();
}
