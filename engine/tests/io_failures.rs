//! Every single disk operation of a short workload fails in turn, in every way (R2, R3, R14): each caller gets success or
//! a clear error, nothing hangs, reads go on, and after a reopen everything acknowledged is there.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and looks at files itself"
)]

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;
use std::pin::pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use corelane::api::{Batch, Core, Db, Decision, Durability, Found, Op, Options, Service, launch};
use corelane::io::sim::{Failure, Fault, OpKind, SimDisk, SimMachine, run};
use corelane::io::{Class, Io};
use corelane::{Error, ErrorKind, Result};
use corelane_testing::{DIR, open, small};
use futures_util::future::{Either, select};

fn options() -> Options {
    let mut options = small(1, 1);
    options.tuning.manifest_bytes = 16 << 10;
    options
}

/// How sure it is that an attempt is found after a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Durable,
    /// In the log soon.
    Buffered,
    /// In no log: a flush makes it durable.
    Unlogged,
    /// Its device write failed.
    Unknown,
}

/// What was tried on a key, in order: a value or a removal, and what became of it.
type Attempts = Vec<(Option<Vec<u8>>, Fate)>;

/// What was tried on each key, in order; attempts that were refused are not in it, and must not be in the database.
#[derive(Default)]
struct Oracle {
    keys: BTreeMap<Vec<u8>, Attempts>,
    poisoned: bool,
}

impl Oracle {
    /// Notes one write of several keys and how it ended.
    fn note(&mut self, writes: &[(&[u8], Option<&[u8]>)], durability: Durability, outcome: &Result<()>) {
        let fate = match (outcome, durability) {
            (Ok(()), _) if self.poisoned => panic!("a write succeeded after the log had failed"),
            (Ok(()), Durability::Sync) => Fate::Durable,
            (Ok(()), Durability::Buffered) => Fate::Buffered,
            (Ok(()), Durability::None) => Fate::Unlogged,
            (Err(error), _) => match error.kind() {
                ErrorKind::OutcomeUnknown => {
                    self.poisoned = true;
                    Fate::Unknown
                }
                ErrorKind::Io | ErrorKind::NoSpace | ErrorKind::Poisoned | ErrorKind::Closed => return,
                _ => panic!("{error}"),
            },
        };
        if fate == Fate::Durable {
            self.settle(|fate| fate == Fate::Buffered);
        }
        for (key, value) in writes {
            let attempts = self.keys.entry(key.to_vec()).or_default();
            attempts.push((value.map(<[u8]>::to_vec), fate));
        }
    }

    fn settle(&mut self, which: impl Fn(Fate) -> bool) {
        for (_, fate) in self.keys.values_mut().flatten() {
            if which(*fate) {
                *fate = Fate::Durable;
            }
        }
    }

    /// A flush or a close succeeded: everything acknowledged is durable.
    fn settle_acknowledged(&mut self) {
        self.settle(|fate| fate != Fate::Unknown);
    }

    /// What a read may give now.
    fn visible(&self, key: &[u8]) -> Option<Vec<u8>> {
        let attempts = self.keys.get(key)?;
        let acknowledged = attempts.iter().rev().find(|(_, fate)| *fate != Fate::Unknown);
        acknowledged.and_then(|(value, _)| value.clone())
    }

    /// Whether this may be found after a crash.
    fn allows(&self, key: &[u8], found: Option<&Vec<u8>>) -> bool {
        let Some(attempts) = self.keys.get(key) else {
            return found.is_none();
        };
        let durable = attempts.iter().rposition(|(_, fate)| *fate == Fate::Durable);
        let open = &attempts[durable.unwrap_or(0)..];
        (durable.is_none() && found.is_none()) || open.iter().any(|(value, _)| value.as_ref() == found)
    }
}

fn all_keys() -> Vec<Vec<u8>> {
    (0..60_u32).map(|n| format!("key{n:03}").into_bytes()).collect()
}

async fn put(db: &Db, oracle: &RefCell<Oracle>, key: u32, bytes: usize, durability: Durability) {
    let (key, value) = (format!("key{key:03}").into_bytes(), vec![key as u8; bytes]);
    let outcome = db.put_with(&key, &value, durability).await;
    oracle
        .borrow_mut()
        .note(&[(&key, Some(&value))], durability, &outcome);
}

/// Reads everything; returns how many reads failed.
async fn read_all(db: &Db, oracle: &RefCell<Oracle>) -> u64 {
    let mut failed = 0;
    for key in all_keys() {
        match db.get(&key).await {
            Ok(found) => assert!(found == oracle.borrow().visible(&key), "a wrong value of {key:?}"),
            Err(error) => {
                // A transfer that ends early looks like a file that does.
                let short = error.kind() == ErrorKind::Corruption && error.to_string().contains("ends early");
                assert!(
                    short || matches!(error.kind(), ErrorKind::Io | ErrorKind::NoSpace),
                    "{error}"
                );
                assert!(error.file().is_some(), "{error}");
                failed += 1;
            }
        }
    }
    match db.scan(Bound::Unbounded, Bound::Unbounded, 1000).await {
        Ok(page) => {
            for (key, value) in page.entries {
                assert!(
                    oracle.borrow().visible(&key) == Some(value),
                    "a wrong value of {key:?}"
                );
            }
        }
        Err(_) => failed += 1,
    }
    failed
}

/// Opens, writes in every durability, rotates, flushes, merges, switches segments and manifests, reads, closes.
async fn workload(machine: &SimMachine, oracle: &RefCell<Oracle>) -> Result<()> {
    use Durability::{Buffered, None, Sync};
    let db = open(machine, options()).await?;
    let mut failed_reads = 0;
    for round in 0..5_u32 {
        let base = round * 10;
        put(&db, oracle, base, 100, Sync).await;
        put(&db, oracle, base + 1, 200, Buffered).await;
        put(&db, oracle, base + 2, 300, None).await;
        let several = (3..7).map(|n| {
            put(
                &db,
                oracle,
                base + n,
                2000,
                [Sync, Buffered, None, Sync][n as usize % 4],
            )
        });
        futures_util::future::join_all(several).await;
        let mut batch = Batch::new();
        let both = [base + 1, base + 7].map(|key| format!("key{key:03}").into_bytes());
        batch.delete(&both[0]).unwrap().put(&both[1], &[9; 50]).unwrap();
        let outcome = db.write(batch, Sync).await;
        let writes = [
            (both[0].as_slice(), Option::None),
            (both[1].as_slice(), Some([9; 50].as_slice())),
        ];
        oracle.borrow_mut().note(&writes, Sync, &outcome);
        if round % 2 == 0 {
            put(&db, oracle, base + 8, 58_000, Sync).await;
        }
        let key = format!("key{:03}", base + 9).into_bytes();
        let updated = db.update(&key, |old| (Decision::Put(vec![old.map_or(1, |o| o[0] + 1)]), ()));
        let outcome = updated.await;
        oracle.borrow_mut().note(&[(&key, Some(&[1]))], Sync, &outcome);
        failed_reads += read_all(&db, oracle).await;
        if db.flush().await.is_ok() {
            oracle.borrow_mut().settle_acknowledged();
        }
        if round == 3 {
            let _outcome = db.compact().await;
        }
    }
    failed_reads += read_all(&db, oracle).await;
    let multi = db.multi_get(&all_keys()).await;
    failed_reads += u64::from(multi.is_err());
    assert!(
        failed_reads <= 2,
        "one operation failed, and {failed_reads} reads"
    );
    let closed = db.close().await;
    if closed.is_ok() {
        oracle.borrow_mut().settle_acknowledged();
    }
    closed
}

/// Opens the disk and compares everything with the oracle.
fn verify(disk: &SimDisk, oracle: &RefCell<Oracle>, case: &str) {
    run(77, disk, 1, |machine| async move {
        let db = open(&machine, options())
            .await
            .unwrap_or_else(|error| panic!("{case}: {error}"));
        for key in all_keys() {
            let found = db
                .get(&key)
                .await
                .unwrap_or_else(|error| panic!("{case}: {error}"));
            let summary = found.as_ref().map(|value| (value.first().copied(), value.len()));
            assert!(
                oracle.borrow().allows(&key, found.as_ref()),
                "{case}: {} holds {summary:?}",
                String::from_utf8_lossy(&key)
            );
        }
        db.put(b"after", b"it goes on")
            .await
            .unwrap_or_else(|error| panic!("{case}: {error}"));
        db.close().await.unwrap_or_else(|error| panic!("{case}: {error}"));
    })
    .unwrap();
}

/// Runs the workload with this fault; the number of disk operations it did.
fn faulty(fault: Option<Fault>, crash: Option<u64>, case: &str) -> u64 {
    let disk = SimDisk::new();
    let oracle = Rc::new(RefCell::new(Oracle::default()));
    if let Some(fault) = fault {
        disk.inject(fault);
    }
    let (watched, ops) = (Rc::clone(&oracle), Cell::new(0));
    run(5, &disk, 1, |machine| {
        let (oracle, ops) = (&watched, &ops);
        async move {
            machine.set_step_limit(400_000);
            if let Err(error) = workload(&machine, oracle).await {
                let text = error.to_string();
                assert!(text.contains(error.advice()), "{text}");
            }
            ops.set(machine.disk_ops());
        }
    })
    .unwrap_or_else(|| panic!("{case}: the workload ends"));
    disk.clear_faults();
    if let Some(seed) = crash {
        disk.crash(seed);
    }
    verify(&disk, &oracle, case);
    ops.get()
}

fn every_operation_fails(failure: Failure) {
    let ops = faulty(None, None, "no fault");
    assert!(ops > 200, "the workload does {ops} operations");
    for n in 0..ops {
        for crash in [None, Some(n)] {
            let case = format!("{failure:?} at operation {n}, crash {crash:?}");
            faulty(Some(Fault::nth(n, failure)), crash, &case);
        }
    }
}

#[test]
fn r3_every_single_operation_fails_with_eio() {
    every_operation_fails(Failure::Eio);
}

#[test]
fn r14_every_single_operation_fails_with_enospc() {
    every_operation_fails(Failure::Enospc);
}

#[test]
fn r2_every_single_transfer_is_short() {
    every_operation_fails(Failure::Short);
}

/// A device that goes bad and stays so: a flush that was asked for tried again for ever and its caller waited with it.
#[test]
fn r3_a_device_that_stays_bad_keeps_nobody_waiting() {
    let ops = faulty(None, None, "no fault");
    for kinds in [
        vec![OpKind::Write],
        vec![OpKind::Sync, OpKind::SyncDir],
        vec![OpKind::Create],
    ] {
        for n in (0..ops / 8).step_by(9) {
            let disk = SimDisk::new();
            let oracle = RefCell::new(Oracle::default());
            let fault = kinds
                .iter()
                .fold(Fault::new(Failure::Eio).skip(n), |fault, kind| fault.on(*kind));
            disk.inject(fault);
            run(5, &disk, 1, |machine| {
                let oracle = &oracle;
                async move {
                    machine.set_step_limit(400_000);
                    let _outcome = workload(&machine, oracle).await;
                }
            })
            .unwrap();
            disk.clear_faults();
            verify(&disk, &oracle, &format!("{kinds:?} bad from {n} on"));
        }
    }
}

/// After the log has failed, the shard takes no writes, says why, and reads what it had.
#[test]
fn r3_a_failed_log_write_poisons_for_writes_and_reads_go_on() {
    for failure in [Failure::Eio, Failure::Enospc, Failure::Short] {
        let disk = SimDisk::new();
        let plant = disk.clone();
        run(1, &disk, 1, |machine| async move {
            let db = open(&machine, options()).await.unwrap();
            db.put(b"before", b"1").await.unwrap();
            plant.inject(Fault::nth(0, failure).on(OpKind::Write).extension("wal"));
            let error = db.put(b"during", b"2").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{error}");
            assert!(error.file().is_some() && error.offset().is_some(), "{error}");
            let error = db.put(b"later", b"3").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Poisoned, "{error}");
            let error = db.put_with(b"later", b"3", Durability::None).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Poisoned, "{error}");
            assert_eq!(db.get(b"before").await.unwrap(), Some(b"1".to_vec()));
            assert_eq!(db.get(b"later").await.unwrap(), None);
            assert!(db.stats().await.unwrap().shards[0].health.starts_with("poisoned"));
            let _outcome = db.close().await;
        })
        .unwrap();
        disk.crash(1);
        run(2, &disk, 1, |machine| async move {
            let db = open(&machine, options()).await.unwrap();
            assert_eq!(db.get(b"before").await.unwrap(), Some(b"1".to_vec()));
            assert_eq!(db.get(b"later").await.unwrap(), None);
            db.put(b"later", b"4").await.unwrap();
            db.close().await.unwrap();
        })
        .unwrap();
    }
}

/// Once its turn has come, reads a key in a transaction that says that it only reads, and in one that says so and writes;
/// tells how both ended.
#[derive(Clone)]
struct ReadsInTransactions(Arc<Mutex<Option<Turn>>>);

/// What tells that the turn has come, and who is told how both ended.
type Turn = (oneshot::AsyncReceiver<()>, oneshot::Sender<[Result<()>; 2]>);

impl Service for ReadsInTransactions {
    async fn run<I: Io>(self, core: Core<I>) {
        let (turn, ended) = self.0.lock().unwrap().take().unwrap();
        turn.await.unwrap();
        let transact = async |batch: Batch| {
            let apply = Box::new(|found: &[Found<'_>]| {
                assert_eq!(found[0].value, Some(b"1".as_slice()));
                batch
            });
            let op = Op::Transact {
                keys: vec![b"before".to_vec()],
                apply,
                writes: false,
                durability: Durability::Sync,
            };
            core.execute_one(0, op).await.map(|_| ())
        };
        let reads = transact(Batch::new()).await;
        let mut batch = Batch::new();
        batch.put(b"before", b"2").unwrap();
        let writes = transact(batch).await;
        ended.send([reads, writes]).unwrap();
    }
}

/// A transaction of reads alone was refused by a shard that takes no writes, though each of its reads was answered there.
#[test]
fn r3_a_transaction_that_only_reads_is_answered_by_a_poisoned_shard() {
    let disk = SimDisk::new();
    let plant = disk.clone();
    run(1, &disk, 1, |machine| async move {
        let (db, mut seats) = launch(Path::new(DIR), options()).unwrap();
        let (start, turn) = oneshot::async_channel();
        let (ended, told) = oneshot::async_channel();
        let io = machine.core(0);
        let service = ReadsInTransactions(Arc::new(Mutex::new(Some((turn, ended)))));
        let seat = seats.pop().unwrap();
        io.clone().spawn(Class::Foreground, seat.run(io, service));
        db.ready().await.unwrap();
        db.put(b"before", b"1").await.unwrap();
        plant.inject(Fault::nth(0, Failure::Eio).on(OpKind::Write).extension("wal"));
        let error = db.put(b"before", b"lost").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{error}");
        let refused = db.transact(&[b"before"], |_| (Batch::new(), ())).await;
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Poisoned, "it could write");
        start.send(()).unwrap();
        let [reads, writes] = told.await.unwrap();
        reads.unwrap();
        assert_eq!(writes.unwrap_err().kind(), ErrorKind::InvalidOptions);
        assert_eq!(db.get(b"before").await.unwrap(), Some(b"1".to_vec()));
        let _outcome = db.close().await;
    })
    .unwrap();
}

/// A segment that was taken out of the pool to be used again was forgotten when its preparation failed, and its file stayed
/// until the next open.
#[test]
fn a_segment_whose_recycling_fails_is_not_forgotten() {
    for failure in [Failure::Eio, Failure::Enospc] {
        let disk = SimDisk::new();
        let plant = disk.clone();
        run(1, &disk, 1, |machine| async move {
            let db = open(&machine, options()).await.unwrap();
            plant.inject(Fault::new(failure).times(2).on(OpKind::Rename).extension("wal"));
            let mut number = 0_u32;
            for _ in 0..4 {
                for _ in 0..40 {
                    // While a preparation fails the shard is read-only for a moment.
                    while db.put(&number.to_be_bytes(), &value(number)).await.is_err() {
                        machine.core(0).sleep(Duration::from_millis(50)).await;
                    }
                    number += 1;
                }
                db.flush().await.unwrap();
                machine.core(0).sleep(Duration::from_secs(1)).await;
            }
            assert!(
                plant.count(Some("wal"), OpKind::Rename).ops > 2,
                "some are recycled"
            );
            let files = plant.list_dir(Path::new(DIR).join("shard-0000"));
            let files = files.iter().filter(|file| file.name.ends_with(".wal")).count();
            let known = db.stats().await.unwrap().shards[0].wal_segments;
            assert_eq!(files as u64, known, "{failure:?}");
            db.close().await.unwrap();
        })
        .unwrap();
    }
}

/// The manifest failed and the log was sound: what was staged at that moment was dropped, `Buffered` writes that had been
/// acknowledged with it, and those who waited heard that the database is closed.
#[test]
fn r3_a_failed_manifest_takes_nothing_with_it_that_the_log_can_hold() {
    let is_manifest = |path: &Path| path.file_name().is_some_and(|name| name == "manifest");
    let (mut kept, mut refused) = (0, 0);
    for pause in 0..150_u64 {
        let disk = SimDisk::new();
        let plant = disk.clone();
        let acknowledged = run(pause, &disk, 1, |machine| async move {
            let db = open(&machine, options()).await.unwrap();
            machine.core(0).sleep(Duration::from_secs(1)).await;
            db.put(b"before", b"1").await.unwrap();
            plant.inject(
                Fault::nth(0, Failure::Eio)
                    .on(OpKind::Write)
                    .matching(is_manifest),
            );
            let writing = async {
                machine
                    .core(0)
                    .sleep(Duration::from_micros(700 + 15 * pause))
                    .await;
                let buffered = db.put_with(b"buffered", b"2", Durability::Buffered).await;
                let waits = db.put(b"waits", b"3").await;
                (buffered, waits)
            };
            let second = async {
                machine
                    .core(0)
                    .sleep(Duration::from_micros(710 + 15 * pause))
                    .await;
                db.put_with(b"second", b"4", Durability::Buffered).await
            };
            let (flushed, (buffered, waits), second) =
                futures_util::future::join3(db.flush(), writing, second).await;
            assert!(flushed.is_err());
            let mut acknowledged = Vec::new();
            for (key, outcome) in [
                (b"buffered".as_slice(), buffered),
                (b"waits", waits),
                (b"second", second),
            ] {
                match outcome {
                    Ok(()) => acknowledged.push(key),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Poisoned, "{pause}: {error}"),
                }
            }
            machine.core(0).sleep(Duration::from_millis(100)).await;
            assert!(db.stats().await.unwrap().shards[0].health.starts_with("poisoned"));
            acknowledged
        })
        .unwrap();
        disk.crash(pause);
        kept += acknowledged.len();
        refused += 3 - acknowledged.len();
        run(2, &disk, 1, |machine| async move {
            let db = open(&machine, options()).await.unwrap();
            assert_eq!(db.get(b"before").await.unwrap(), Some(b"1".to_vec()));
            for key in acknowledged {
                assert!(
                    db.get(key).await.unwrap().is_some(),
                    "{pause}: {}",
                    String::from_utf8_lossy(key)
                );
            }
            db.close().await.unwrap();
        })
        .unwrap();
    }
    assert!(
        kept > 50 && refused > 50,
        "{kept} kept, {refused} refused: both sides of the failure are met"
    );
}

/// The room of a simulated disk that was given none.
const ROOM_BYTES: u64 = 1 << 40;

fn fill_up(disk: &SimDisk) {
    disk.set_capacity(ROOM_BYTES - disk.free_bytes());
    assert_eq!(disk.free_bytes(), 0);
}

fn give_room(disk: &SimDisk) {
    disk.set_capacity(ROOM_BYTES);
}

fn value(number: u32) -> Vec<u8> {
    vec![number as u8; 1500]
}

/// Every try to install a flushed table on a full device left its file behind until the next open, so the device got
/// fuller twice a second. Only a table that the manifest may name after all is kept.
#[test]
fn r14_a_table_that_could_not_be_installed_gives_its_room_back() {
    for in_doubt in [false, true] {
        let disk = SimDisk::new();
        let plant = disk.clone();
        run(1, &disk, 1, |machine| async move {
            let mut options = options();
            options.tuning.auto_compact = false;
            let db = open(&machine, options).await.unwrap();
            let tables = || {
                let files = plant.list_dir(Path::new(DIR).join("shard-0000"));
                files.iter().filter(|file| file.name.ends_with(".sst")).count()
            };
            let is_manifest = |path: &Path| path.file_name().is_some_and(|name| name == "manifest");
            plant.inject(Fault::new(Failure::Enospc).extension("new").on(OpKind::Create));
            if in_doubt {
                let fault = Fault::nth(0, Failure::Short).on(OpKind::Write);
                plant.inject(fault.matching(is_manifest));
            }
            // Until the manifest has to be written anew.
            let mut flushed = 0;
            let error = loop {
                db.put(b"k", &[flushed]).await.unwrap();
                match db.flush().await {
                    Ok(()) => flushed += 1,
                    Err(error) => break error,
                }
            };
            assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
            machine.core(0).sleep(Duration::from_secs(10)).await;
            let shard = db.stats().await.unwrap().shards.remove(0);
            assert!(
                shard.job_failures > 10 && shard.health.starts_with("read-only"),
                "{shard:?}"
            );
            assert_eq!(
                tables(),
                usize::from(flushed) + usize::from(in_doubt),
                "in doubt: {in_doubt}"
            );
            plant.clear_faults();
            machine.core(0).sleep(Duration::from_secs(2)).await;
            assert_eq!(db.stats().await.unwrap().shards[0].health, "healthy");
            assert_eq!(db.get(b"k").await.unwrap(), Some(vec![flushed]));
            db.close().await.unwrap();
        })
        .unwrap();
        disk.crash(1);
        run(2, &disk, 1, |machine| async move {
            let db = open(&machine, options()).await.unwrap();
            assert!(db.get(b"k").await.unwrap().is_some());
            db.close().await.unwrap();
        })
        .unwrap();
    }
}

/// Writers are refused while there is no room, and go on by themselves once there is.
#[test]
fn r14_a_full_device_refuses_writes_and_is_forgiven_without_a_reopen() {
    let disk = SimDisk::new();
    let plant = disk.clone();
    let there = run(1, &disk, 1, |machine| async move {
        let db = open(&machine, options()).await.unwrap();
        let mut there = Vec::new();
        let mut number = 0_u32;
        for spell in 0..3 {
            fill_up(&plant);
            let refused = loop {
                number += 1;
                match db.put(&number.to_be_bytes(), &value(number)).await {
                    Ok(()) => there.push(number),
                    Err(error) => break error,
                }
                assert!(there.len() < 10_000, "the device is full");
            };
            assert_eq!(refused.kind(), ErrorKind::NoSpace, "{refused}");
            assert!(refused.to_string().contains("free space"), "{refused}");
            assert!(
                db.stats().await.unwrap().shards[0]
                    .health
                    .starts_with("read-only")
            );
            for durability in [Durability::Sync, Durability::Buffered, Durability::None] {
                let error = db.put_with(b"refused", b"x", durability).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
            }
            for number in &there {
                assert_eq!(db.get(&number.to_be_bytes()).await.unwrap(), Some(value(*number)));
            }
            give_room(&plant);
            machine.core(0).sleep(Duration::from_secs(3)).await;
            for _ in 0..20 {
                number += 1;
                db.put(&number.to_be_bytes(), &value(number)).await.unwrap();
                there.push(number);
            }
            assert_eq!(
                db.stats().await.unwrap().shards[0].health,
                "healthy",
                "spell {spell}"
            );
        }
        assert_eq!(db.get(b"refused").await.unwrap(), None);
        // The process dies without a close.
        there
    })
    .unwrap();
    disk.crash(3);
    expect_exactly(&disk, &there);
}

/// These numbers are there and nothing else.
fn expect_exactly(disk: &SimDisk, there: &[u32]) {
    run(2, disk, 1, |machine| async move {
        let db = open(&machine, options()).await.unwrap();
        for number in there {
            assert_eq!(
                db.get(&number.to_be_bytes()).await.unwrap(),
                Some(value(*number)),
                "{number}"
            );
        }
        let page = db.scan(Bound::Unbounded, Bound::Unbounded, 20_000).await.unwrap();
        let keys: Vec<_> = page.entries.into_iter().map(|(key, _)| key).collect();
        let mut expected: Vec<_> = there.iter().map(|number| number.to_be_bytes().to_vec()).collect();
        expected.sort();
        assert!(
            keys == expected,
            "{} keys, expected {}",
            keys.len(),
            expected.len()
        );
        db.close().await.unwrap();
    })
    .unwrap();
}

/// Puts a page that no writer wrote behind the last page that somebody did: a torn tail.
fn tear(disk: &SimDisk, path: &Path) {
    disk.corrupt(path, |bytes| {
        let last = bytes.iter().rposition(|byte| *byte != 0).unwrap();
        let behind = (last / 4096 + 1) * 4096;
        bytes[behind..behind + 4096].fill(0x55);
    });
}

/// A database that died with torn tails and without a spare segment, on a device that is full.
fn torn_and_full(torn: &[&str]) -> SimDisk {
    let disk = torn_with_spare(torn);
    disk.remove(Path::new(DIR).join("shard-0000").join("00000002.wal"));
    fill_up(&disk);
    disk
}

/// A database that died with torn tails.
fn torn_with_spare(torn: &[&str]) -> SimDisk {
    let disk = SimDisk::new();
    run(1, &disk, 1, |machine| async move {
        let db = open(&machine, options()).await.unwrap();
        for number in 0..10_u32 {
            db.put(&number.to_be_bytes(), &value(number)).await.unwrap();
        }
        machine.core(0).sleep(Duration::from_secs(1)).await;
        // No close.
    })
    .unwrap();
    disk.crash(1);
    let dir = Path::new(DIR).join("shard-0000");
    for name in torn {
        tear(&disk, &dir.join(name));
    }
    disk
}

/// A full device kept a database with a torn tail from opening, even to read: cutting the tail off needs room. It starts
/// read-only instead, and mends once there is room.
#[test]
fn r14_a_torn_tail_on_a_full_device_opens_for_reading_and_is_mended_when_room_returns() {
    for torn in [
        ["00000001.wal"].as_slice(),
        &["manifest"],
        &["00000001.wal", "manifest"],
    ] {
        for ending in ["room", "close", "crash"] {
            let disk = torn_and_full(torn);
            // Twice while it is full, so that nothing is made worse.
            let lives = if ending == "room" { 1 } else { 2 };
            for life in 0..lives {
                let plant = disk.clone();
                run(life, &disk, 1, |machine| async move {
                    let db = open(&machine, options()).await.unwrap();
                    for number in 0..10_u32 {
                        assert_eq!(db.get(&number.to_be_bytes()).await.unwrap(), Some(value(number)));
                    }
                    let stats = db.stats().await.unwrap();
                    assert!(
                        stats.shards[0].health.starts_with("read-only"),
                        "{:?}",
                        stats.shards[0]
                    );
                    for durability in [Durability::Sync, Durability::Buffered, Durability::None] {
                        let error = db.put_with(b"refused", b"x", durability).await.unwrap_err();
                        assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
                    }
                    machine.core(0).sleep(Duration::from_secs(2)).await;
                    assert_eq!(plant.free_bytes(), 0, "nothing was begun and left lying about");
                    match ending {
                        "room" => {
                            give_room(&plant);
                            machine.core(0).sleep(Duration::from_secs(1)).await;
                            assert_eq!(db.stats().await.unwrap().shards[0].health, "healthy");
                            db.put(&10_u32.to_be_bytes(), &value(10)).await.unwrap();
                        }
                        "close" => db.close().await.unwrap(),
                        _ => machine.cut_power(),
                    }
                });
                disk.crash(life);
            }
            give_room(&disk);
            let there: Vec<u32> = (0..if ending == "room" { 11 } else { 10 }).collect();
            expect_exactly(&disk, &there);
        }
    }
}

/// A flush that found room lifted the read-only state of a shard whose log still ended in a torn tail: `Buffered` writes were
/// acknowledged that no group could carry, and the close ended the core over them.
#[test]
fn r14_room_for_a_table_is_not_room_for_the_log() {
    let disk = SimDisk::new();
    let large = || {
        let mut options = options();
        options.tuning.memtable_bytes = 1 << 20;
        options.tuning.segment_bytes = 1 << 20;
        options
    };
    run(1, &disk, 1, |machine| async move {
        let db = open(&machine, large()).await.unwrap();
        for number in 0..80_u32 {
            db.put(&number.to_be_bytes(), &value(number)).await.unwrap();
        }
        machine.core(0).sleep(Duration::from_secs(1)).await;
        // No close.
    })
    .unwrap();
    disk.crash(1);
    let dir = Path::new(DIR).join("shard-0000");
    tear(&disk, &dir.join("00000001.wal"));
    disk.remove(dir.join("00000002.wal"));
    // Room for tables, but not for a segment.
    disk.set_capacity(ROOM_BYTES - disk.free_bytes() + (512 << 10));
    run(2, &disk, 1, |machine| async move {
        let mut options = large();
        options.tuning.memtable_bytes = 64 << 10;
        let db = open(&machine, options).await.unwrap();
        machine.core(0).sleep(Duration::from_secs(2)).await;
        let stats = db.stats().await.unwrap();
        assert!(stats.shards[0].flushes > 0, "{:?}", stats.shards[0]);
        assert!(
            stats.shards[0].health.starts_with("read-only"),
            "{:?}",
            stats.shards[0]
        );
        for durability in [Durability::Sync, Durability::Buffered] {
            let error = db.put_with(b"refused", b"x", durability).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
        }
        db.close().await.unwrap();
    })
    .unwrap();
    give_room(&disk);
    expect_exactly(&disk, &(0..80).collect::<Vec<_>>());
}

/// A recycled segment that turned out to be of no use was removed, and on a full device put back among those to be recycled:
/// it was tried again and again before the good one behind it.
#[test]
fn r14_a_segment_that_has_gone_does_not_stand_before_a_good_one() {
    let disk = torn_with_spare(&["00000001.wal"]);
    let dir = Path::new(DIR).join("shard-0000");
    disk.write(dir.join("00000000.wal"), &[1; 4096]);
    fill_up(&disk);
    run(2, &disk, 1, |machine| async move {
        let db = open(&machine, options()).await.unwrap();
        machine.core(0).sleep(Duration::from_secs(2)).await;
        assert_eq!(db.stats().await.unwrap().shards[0].health, "healthy");
        db.put(&10_u32.to_be_bytes(), &value(10)).await.unwrap();
        db.close().await.unwrap();
    })
    .unwrap();
    give_room(&disk);
    expect_exactly(&disk, &(0..11).collect::<Vec<_>>());
}

/// A flush whose rotation was given up because the log had failed found nothing rotated out, and said that all was flushed.
#[test]
fn r3_a_flush_that_a_failed_log_cuts_off_says_so() {
    let disk = SimDisk::new();
    let plant = disk.clone();
    run(1, &disk, 1, |machine| async move {
        let db = open(&machine, options()).await.unwrap();
        db.put(b"before", b"1").await.unwrap();
        plant.inject(Fault::nth(0, Failure::Eio).on(OpKind::Write).extension("wal"));
        let (put, flush) = futures_util::future::join(db.put(b"during", b"2"), db.flush()).await;
        assert_eq!(put.unwrap_err().kind(), ErrorKind::OutcomeUnknown);
        assert_eq!(flush.unwrap_err().kind(), ErrorKind::Poisoned);
        let stats = db.stats().await.unwrap();
        assert_eq!(stats.shards[0].flushes, 0, "the memtable is where it was");
        let _outcome = db.close().await;
    })
    .unwrap();
}

/// A crash at any moment of the mending, and another in the recovery after it, lose nothing (R8).
#[test]
fn r8_a_crash_while_a_full_device_is_being_mended_loses_nothing() {
    for seed in 0..150_u64 {
        let disk = torn_and_full(&["00000001.wal", "manifest"]);
        let mut there: Vec<u32> = (0..10).collect();
        for life in 0..3 {
            let plant = disk.clone();
            let next = 100 + life as u32;
            let wrote = Rc::new(Cell::new(false));
            let (written, ops) = (Rc::clone(&wrote), seed / 3 + life * 7);
            run(seed, &disk, 1, |machine| async move {
                let db = open(&machine, options()).await.unwrap();
                machine.cut_power_after(1 + ops % 50);
                machine.core(0).sleep(Duration::from_secs(1)).await;
                give_room(&plant);
                machine.core(0).sleep(Duration::from_secs(1)).await;
                db.put(&next.to_be_bytes(), &value(next)).await.unwrap();
                written.set(true);
                machine.cut_power();
            });
            disk.crash(seed);
            if wrote.get() {
                there.push(next);
            }
            let lost = run(seed, &disk, 1, |machine| async move {
                let db = open(&machine, options()).await.unwrap();
                db.get(&next.to_be_bytes()).await.unwrap()
            });
            if !wrote.get() && lost.unwrap().is_some() {
                // It was on the device when the power went, and nobody had been told.
                there.push(next);
            }
            disk.crash(seed);
            give_room(&disk);
            fill_up(&disk);
        }
        give_room(&disk);
        expect_exactly(&disk, &there);
    }
}

/// Batches of one group that had been logged before the room ran out were refused together with those that had not: their
/// callers were told that nothing was written, reads did not show them, and the next open brought them back.
#[test]
fn r14_of_a_group_cut_by_a_full_device_what_was_logged_is_acknowledged() {
    for close in [false, true] {
        let disk = SimDisk::new();
        let plant = disk.clone();
        let there = run(1, &disk, 1, |machine| async move {
            let db = open(&machine, options()).await.unwrap();
            fill_up(&plant);
            let mut there = Vec::new();
            let mut refused = 0;
            for wave in 0..8_u32 {
                let puts = (0..30_u32).map(|n| {
                    let (db, number) = (db.clone(), wave * 100 + n);
                    async move { (number, db.put(&number.to_be_bytes(), &value(number)).await) }
                });
                let outcomes = futures_util::future::join_all(puts).await;
                for (number, outcome) in outcomes {
                    match outcome {
                        Ok(()) => there.push(number),
                        Err(error) => {
                            assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
                            refused += 1;
                        }
                    }
                }
            }
            assert!(refused > 0 && !there.is_empty());
            for number in &there {
                assert_eq!(db.get(&number.to_be_bytes()).await.unwrap(), Some(value(*number)));
            }
            give_room(&plant);
            machine.core(0).sleep(Duration::from_secs(3)).await;
            db.put(&9999_u32.to_be_bytes(), &value(9999)).await.unwrap();
            there.push(9999);
            if close {
                db.close().await.unwrap();
            }
            there
        })
        .unwrap();
        disk.crash(3);
        expect_exactly(&disk, &there);
    }
}

/// A batch too large for a frame whose caller was told that there is no room was written to its end once there was, and
/// appeared at the next open.
#[test]
fn r14_a_large_batch_refused_for_lack_of_room_does_not_come_back() {
    for ending in ["room", "close", "death"] {
        let disk = SimDisk::new();
        let plant = disk.clone();
        run(1, &disk, 1, |machine| async move {
            let db = open(&machine, options()).await.unwrap();
            db.put(b"first", b"1").await.unwrap();
            machine.core(0).sleep(Duration::from_secs(1)).await;
            fill_up(&plant);
            // One spare is ready; this needs more than one.
            let error = db.put(b"large", &vec![1; 200_000]).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
            if ending == "room" {
                give_room(&plant);
                machine.core(0).sleep(Duration::from_secs(3)).await;
                db.put(b"second", b"2").await.unwrap();
                assert_eq!(db.get(b"large").await.unwrap(), None);
            }
            if ending != "death" {
                let _outcome = db.close().await;
            }
        })
        .unwrap();
        disk.crash(1);
        give_room(&disk);
        for life in 0..3_u8 {
            run(2, &disk, 1, |machine| async move {
                let db = open(&machine, options())
                    .await
                    .unwrap_or_else(|e| panic!("{ending}: {e}"));
                assert_eq!(db.get(b"first").await.unwrap(), Some(b"1".to_vec()));
                assert_eq!(db.get(b"large").await.unwrap(), None, "{ending}");
                let second = (ending == "room").then(|| b"2".to_vec());
                assert_eq!(db.get(b"second").await.unwrap(), second);
                db.put(&[life], b"more").await.unwrap();
                // No close.
            })
            .unwrap();
        }
    }
}

#[test]
fn r14_merges_are_put_off_while_room_is_short_and_done_when_it_is_back() {
    let disk = SimDisk::new();
    let plant = disk.clone();
    run(1, &disk, 1, |machine| async move {
        let mut options = options();
        options.tuning.auto_compact = false;
        let db = open(&machine, options).await.unwrap();
        for round in 0..6_u8 {
            for n in 0..30_u8 {
                db.put(&[n], &vec![round; 1000]).await.unwrap();
            }
            db.flush().await.unwrap();
        }
        db.close().await.unwrap();
    })
    .unwrap();
    run(2, &disk, 1, |machine| async move {
        let free = plant.free_bytes();
        plant.set_capacity(ROOM_BYTES - free + (200 << 10));
        let db = open(&machine, options()).await.unwrap();
        machine.core(0).sleep(Duration::from_secs(10)).await;
        let stats = db.stats().await.unwrap();
        let shard = &stats.shards[0];
        assert_eq!(shard.compactions, 0, "{shard:?}");
        assert!(
            shard.job_failures > 0 && shard.last_job_error.contains("free"),
            "{shard:?}"
        );
        assert_eq!(shard.failing_job, shard.last_job_error);
        assert_eq!(shard.health, "healthy", "a merge that is put off hurts no writer");
        db.put(b"x", b"y").await.unwrap();
        for n in 0..30_u8 {
            assert_eq!(db.get(&[n]).await.unwrap(), Some(vec![5; 1000]));
        }
        give_room(&plant);
        machine.core(0).sleep(Duration::from_secs(130)).await;
        let shard = &db.stats().await.unwrap().shards[0];
        assert!(shard.compactions > 0);
        assert!(
            shard.failing_job.is_empty() && !shard.last_job_error.is_empty(),
            "{shard:?}"
        );
        for n in 0..30_u8 {
            assert_eq!(db.get(&[n]).await.unwrap(), Some(vec![5; 1000]));
        }
        db.close().await.unwrap();
    })
    .unwrap();
}

/// L0 was at its limit and merges could not run, for lack of room or because an input was damaged: writers waited without
/// an answer for as long as the database was open.
#[test]
fn r14_r16_writers_who_would_wait_for_merges_that_fail_are_told_why() {
    for kind in [ErrorKind::NoSpace, ErrorKind::Corruption] {
        let disk = SimDisk::new();
        run(1, &disk, 1, |machine| async move {
            let mut options = options();
            options.tuning.auto_compact = false;
            let db = open(&machine, options).await.unwrap();
            // More tables than L0 may have.
            for round in 0..40_u8 {
                db.put(&[0], &vec![round; 1000]).await.unwrap();
                db.put(&[1, round], &vec![round; 5000]).await.unwrap();
                db.flush().await.unwrap();
            }
            db.close().await.unwrap();
        })
        .unwrap();
        let bad = Path::new(DIR).join("shard-0000/00000001.sst");
        let sound = disk.read(&bad).unwrap();
        if kind == ErrorKind::Corruption {
            disk.corrupt(&bad, |bytes| bytes[100] ^= 1);
        } else {
            fill_up(&disk);
        }
        let plant = disk.clone();
        run(2, &disk, 1, |machine| async move {
            let db = open(&machine, options()).await.unwrap();
            let told = {
                let (put, patience) = (db.put(b"x", b"y"), machine.core(0).sleep(Duration::from_secs(60)));
                match select(pin!(put), pin!(patience)).await {
                    Either::Left((outcome, _)) => outcome.unwrap_err(),
                    Either::Right(_) => panic!("{kind:?}: a writer waits without an answer"),
                }
            };
            assert_eq!(told.kind(), kind, "{told}");
            assert_eq!(db.get(&[1, 9]).await.unwrap(), Some(vec![9; 5000]), "reads go on");
            // The operator sees to it, and writes come back by themselves.
            give_room(&plant);
            plant.write(&bad, &sound);
            machine.core(0).sleep(Duration::from_secs(130)).await;
            db.put(b"x", b"y").await.unwrap();
            assert!(db.stats().await.unwrap().shards[0].compactions > 0);
            assert_eq!(db.get(&[0]).await.unwrap(), Some(vec![39; 1000]));
            db.close().await.unwrap();
        })
        .unwrap();
    }
}

#[test]
fn r16_a_merge_that_meets_a_corrupt_input_keeps_its_inputs_and_says_so() {
    let disk = SimDisk::new();
    run(1, &disk, 1, |machine| async move {
        let mut options = options();
        options.tuning.auto_compact = false;
        let db = open(&machine, options).await.unwrap();
        for round in 0..6_u8 {
            for n in 0..20_u8 {
                db.put(&[round, n], &vec![round; 1000]).await.unwrap();
            }
            // So that the tables overlap and must be merged.
            db.put(&[255], &[round]).await.unwrap();
            db.put(&[0], &[round]).await.unwrap();
            db.flush().await.unwrap();
        }
        db.close().await.unwrap();
    })
    .unwrap();
    let dir = Path::new(DIR).join("shard-0000");
    let is_table = |path: &std::path::PathBuf| path.extension().is_some_and(|e| e == "sst");
    let tables: Vec<_> = disk.files().into_iter().filter(is_table).collect();
    assert_eq!(tables.len(), 6);
    let bad = tables[2].clone();
    disk.corrupt(&bad, |bytes| bytes[2 * 4096 + 100] ^= 1);
    run(2, &disk, 1, |machine| async move {
        let db = open(&machine, options()).await.unwrap();
        machine.core(0).sleep(Duration::from_secs(5)).await;
        let error = db.compact().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corruption, "{error}");
        assert_eq!(error.file(), Some(bad.as_path()), "{error}");
        let stats = db.stats().await.unwrap();
        let shard = &stats.shards[0];
        assert_eq!(shard.compactions, 0);
        assert!(shard.job_failures > 0, "{shard:?}");
        assert!(
            shard.last_job_error.contains(bad.to_str().unwrap()),
            "{}",
            shard.last_job_error
        );
        assert_eq!(shard.health, "healthy");
        let mut damaged = 0;
        for round in 0..6_u8 {
            for n in 0..20_u8 {
                match db.get(&[round, n]).await {
                    Ok(found) => assert_eq!(found, Some(vec![round; 1000]), "{round} {n}"),
                    Err(error) => {
                        assert_eq!((round, error.kind()), (2, ErrorKind::Corruption), "{error}");
                        assert_eq!(error.offset(), Some(2 * 4096));
                        damaged += 1;
                    }
                }
            }
        }
        assert!(
            (1..10).contains(&damaged),
            "one block of keys is damaged, not {damaged}"
        );
        db.put(b"x", b"writes go on").await.unwrap();
        db.close().await.unwrap();
    })
    .unwrap();
    let left: Vec<_> = disk.files().into_iter().filter(is_table).collect();
    assert_eq!(
        left,
        tables,
        "the inputs are kept and nothing half made stays in {}",
        dir.display()
    );
}

/// Writes without a log live in memory until a flush. A close whose flush failed said that all was well.
#[test]
fn a_close_that_could_not_keep_what_was_acknowledged_says_so() {
    for (durability, extension) in [(Durability::None, "sst"), (Durability::Buffered, "wal")] {
        let disk = SimDisk::new();
        let plant = disk.clone();
        let closed = run(1, &disk, 1, |machine| async move {
            let db = open(&machine, options()).await.unwrap();
            machine.core(0).sleep(Duration::from_secs(1)).await;
            db.put_with(b"k", b"v", durability).await.unwrap();
            plant.inject(Fault::new(Failure::Eio).on(OpKind::Write).extension(extension));
            db.close().await
        })
        .unwrap();
        let error: Error = closed.expect_err("what was acknowledged is not durable");
        assert!(error.to_string().contains(extension), "{error}");
    }
}
