//! The ends of a core that nobody planned: a panic is the end of that core, not of its callers, of the other cores, or of
//! the directory; and a handle may be dropped anywhere.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and these are about real threads"
)]

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use corelane::ErrorKind;
use corelane::api::{Core, Db, Runtime, Service};
use corelane::io::{Class, Io};
use corelane_testing::on_each_runtime;

/// No core panics.
const NONE: usize = usize::MAX;

/// Panics on the core that it is told.
#[derive(Clone)]
struct Panics(Arc<AtomicUsize>);

impl Service for Panics {
    async fn run<I: Io>(self, core: Core<I>) {
        while !core.is_closing() {
            assert_ne!(self.0.load(Ordering::SeqCst), core.index(), "as asked");
            core.io().sleep(Duration::from_millis(1)).await;
        }
    }
}

fn open(path: &Path, panics: &Panics, runtime: Runtime) -> Db {
    Db::builder(path)
        .cores(vec![0, 1])
        .shards(2)
        .runtime(runtime)
        .service(panics.clone())
        .open_blocking()
        .unwrap()
}

/// A key of each shard.
fn key_of(db: &Db, shard: usize) -> Vec<u8> {
    let before = db.blocking().stats().unwrap().shards[shard].operations;
    (0..100_u8)
        .map(|i| vec![i])
        .find(|key| {
            db.blocking().put(key, b"here").unwrap();
            db.blocking().stats().unwrap().shards[shard].operations > before
        })
        .expect("a hundred keys fall on both of two shards")
}

fn a_panic_on(dead: usize, runtime: Runtime) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = dir.path().join("db");
    let panics = Panics(Arc::new(AtomicUsize::new(NONE)));
    let db = open(&path, &panics, runtime);
    let keys = [key_of(&db, 0), key_of(&db, 1)];
    let alive = 1 - dead;
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|_| {
                let (db, key) = (db.clone(), &keys[dead]);
                scope.spawn(move || {
                    loop {
                        if let Err(error) = db.blocking().put(key, b"again") {
                            return error.kind();
                        }
                    }
                })
            })
            .collect();
        panics.0.store(dead, Ordering::SeqCst);
        for writer in writers {
            let kind = writer.join().unwrap();
            assert!(
                matches!(kind, ErrorKind::Closed | ErrorKind::OutcomeUnknown),
                "pending calls answer, not {kind:?}"
            );
        }
    });
    assert_eq!(
        db.blocking().get(&keys[dead]).unwrap_err().kind(),
        ErrorKind::Closed,
        "later calls answer"
    );
    db.blocking().put(&keys[alive], b"still").unwrap();
    let second = Db::builder(&path)
        .cores(vec![alive])
        .runtime(runtime)
        .open_blocking();
    assert_eq!(
        second.err().map(|e| e.kind()),
        Some(ErrorKind::Locked),
        "a core still writes"
    );
    let error = db.blocking().close().unwrap_err();
    assert!(error.to_string().contains("as asked"), "{error}");
    panics.0.store(NONE, Ordering::SeqCst);
    // The handle is still there: the lock is the cores', and they are gone.
    let again = open(&path, &panics, runtime);
    assert_eq!(
        again.blocking().get(&keys[alive]).unwrap(),
        Some(b"still".to_vec())
    );
    assert!(again.blocking().get(&keys[dead]).unwrap().is_some());
    again.blocking().close().unwrap();
}

/// A panic left that core's tasks where they were, each holding answers that somebody waits for: callers of the core
/// hung for ever, and so did closing.
#[test]
fn r12_a_core_that_panics_answers_its_callers_and_gives_its_part_of_the_lock_back() {
    on_each_runtime(|runtime| a_panic_on(1, runtime));
}

/// The lock was the first core's alone: once that one had panicked, it let a second opener in while the other core
/// still wrote, or, with its tasks never dropped, nobody ever again.
#[test]
fn r12_the_lock_outlives_a_first_core_that_panics_and_not_the_last_one() {
    on_each_runtime(|runtime| a_panic_on(0, runtime));
}

/// The panic dropped the core's part of the lock at once, while the device was still at work for it: a second opener could
/// read a log that changed under it. The lock is kept until the core's thread has been waited for.
#[test]
fn r12_a_panicked_core_keeps_the_lock_until_its_thread_has_ended() {
    on_each_runtime(|runtime| {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let path = dir.path().join("db");
        let panics = Panics(Arc::new(AtomicUsize::new(NONE)));
        let builder = || {
            let builder = Db::builder(&path).cores(vec![0]).runtime(runtime);
            builder.service(panics.clone())
        };
        let db = builder().open_blocking().unwrap();
        db.blocking().put(b"key", b"value").unwrap();
        panics.0.store(0, Ordering::SeqCst);
        while db.blocking().get(b"key").is_ok() {}
        let second = builder().open_blocking().err().map(|e| e.kind());
        assert_eq!(second, Some(ErrorKind::Locked), "nobody has waited for its end");
        let error = db.blocking().close().unwrap_err();
        assert!(error.to_string().contains("as asked"), "{error}");
        panics.0.store(NONE, Ordering::SeqCst);
        let again = builder().open_blocking().unwrap();
        assert_eq!(again.blocking().get(b"key").unwrap(), Some(b"value".to_vec()));
        again.blocking().close().unwrap();
    });
}

/// When told 1, keeps its core busy, says 2, and panics when told 3.
#[derive(Clone)]
struct PanicsInTwoSteps(Arc<AtomicUsize>);

impl Service for PanicsInTwoSteps {
    async fn run<I: Io>(self, core: Core<I>) {
        while !core.is_closing() {
            if self.0.load(Ordering::SeqCst) == 1 {
                self.0.store(2, Ordering::SeqCst);
                while self.0.load(Ordering::SeqCst) != 3 {
                    std::thread::sleep(Duration::from_millis(1));
                }
                panic!("as asked");
            }
            core.io().sleep(Duration::from_millis(1)).await;
        }
    }
}

/// A write that a core had when it panicked was answered `Closed`, which says that nothing was written; it may have been.
#[test]
fn r3_what_became_of_a_panicked_cores_writes_is_unknown() {
    on_each_runtime(|runtime| {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let step = Arc::new(AtomicUsize::new(0));
        let db = Db::builder(dir.path().join("db"))
            .cores(vec![0])
            .runtime(runtime)
            .service(PanicsInTwoSteps(Arc::clone(&step)))
            .open_blocking()
            .unwrap();
        step.store(1, Ordering::SeqCst);
        while step.load(Ordering::SeqCst) != 2 {
            std::thread::sleep(Duration::from_millis(1));
        }
        let mut put = std::pin::pin!(db.put(b"key", b"value"));
        let mut get = std::pin::pin!(db.get(b"key"));
        futures_lite::future::block_on(async {
            assert!(
                futures_lite::future::poll_once(&mut put).await.is_none(),
                "it is asked"
            );
            assert!(
                futures_lite::future::poll_once(&mut get).await.is_none(),
                "so is this"
            );
            step.store(3, Ordering::SeqCst);
            assert_eq!(put.await.unwrap_err().kind(), ErrorKind::OutcomeUnknown);
            assert_eq!(
                get.await.unwrap_err().kind(),
                ErrorKind::Closed,
                "a read has no outcome"
            );
        });
        assert!(db.blocking().close().is_err());
    });
}

/// Drops the last handle of its own database, on the first core.
#[derive(Clone, Default)]
struct DropsHandle(Arc<Mutex<Option<Db>>>);

impl Service for DropsHandle {
    async fn run<I: Io>(self, core: Core<I>) {
        while !core.is_closing() {
            if core.index() == 0 {
                drop(self.0.lock().unwrap().take());
            }
            core.io().sleep(Duration::from_millis(1)).await;
        }
    }
}

/// Dropping the last handle waits for the cores to end. On one of them it waited for itself, for ever.
#[test]
fn the_last_handle_may_be_dropped_on_a_core_of_its_own_database() {
    on_each_runtime(|runtime| {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let path = dir.path().join("db");
        let service = DropsHandle::default();
        let builder = || Db::builder(&path).cores(vec![0, 1]).runtime(runtime);
        let db = builder().service(service.clone()).open_blocking().unwrap();
        db.blocking().put(b"key", b"value").unwrap();
        *service.0.lock().unwrap() = Some(db);
        let again = loop {
            match builder().open_blocking() {
                Ok(db) => break db,
                Err(error) => assert_eq!(error.kind(), ErrorKind::Locked, "{error}"),
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        assert_eq!(again.blocking().get(b"key").unwrap(), Some(b"value".to_vec()));
        again.blocking().close().unwrap();
    });
}

/// What a look at the lock found, by a task of a core that had closed.
type Seen = Arc<Mutex<Option<Option<ErrorKind>>>>;

/// Leaves a task on its core that tries to open the database as it is dropped.
#[derive(Clone)]
struct LooksAtTheLock(std::path::PathBuf, Runtime, Seen);

impl Service for LooksAtTheLock {
    async fn run<I: Io>(self, core: Core<I>) {
        core.io().spawn(Class::Maintenance, async move {
            let _looks = LooksWhenDropped(self);
            std::future::pending::<()>().await;
        });
        core.closing().await;
    }
}

struct LooksWhenDropped(LooksAtTheLock);

impl Drop for LooksWhenDropped {
    fn drop(&mut self) {
        let LooksAtTheLock(path, runtime, seen) = self.0.clone();
        // On another thread, for this one is a core that must not wait for a database.
        let looked = std::thread::spawn(move || {
            let second = Db::builder(path).cores(vec![1]).runtime(runtime).open_blocking();
            second.err().map(|error| error.kind())
        });
        *seen.lock().unwrap() = Some(looked.join().unwrap());
    }
}

/// A core gave its part of the lock back when its shards were closed. Its last tasks were dropped after that, and what they had
/// asked of the device went on: a second opener was let in beside it.
#[test]
fn r12_the_lock_is_held_until_a_core_has_dropped_its_last_task() {
    on_each_runtime(|runtime| {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let path = dir.path().join("db");
        let seen = Seen::default();
        let service = LooksAtTheLock(path.clone(), runtime, Arc::clone(&seen));
        let builder = Db::builder(&path).cores(vec![0]).runtime(runtime);
        let db = builder.service(service).open_blocking().unwrap();
        db.blocking().put(b"key", b"value").unwrap();
        db.blocking().close().unwrap();
        assert_eq!(*seen.lock().unwrap(), Some(Some(ErrorKind::Locked)));
        let again = Db::builder(&path).cores(vec![0]).runtime(runtime);
        again.open_blocking().unwrap().blocking().close().unwrap();
    });
}
