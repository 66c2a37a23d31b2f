//! What is prepared while the device writes a group: it is used, nobody sees it earlier, and nothing of it is ever seen
//! where the group fails or is refused.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking"
)]

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::rc::Rc;
use std::time::Duration;

use corelane::ErrorKind;
use corelane::api::{Batch, Db, Decision, Durability, Options};
use corelane::io::Io;
use corelane::io::sim::{Failure, Fault, OpKind, Rng, SimDisk, SimMachine, run};
use corelane_testing::{each_seed, open, small};
use futures_util::future::{join, join_all};

/// Writers at a time: more than a group must have to be prepared.
const CROWD: u8 = 16;
/// The room of a simulated disk that was given none.
const ROOM_BYTES: u64 = 1 << 40;

fn options() -> Options {
    let mut options = small(1, 1);
    options.tuning.manifest_bytes = 16 << 10;
    options
}

fn key(number: u8) -> Vec<u8> {
    format!("key{number:03}").into_bytes()
}

async fn prepared(db: &Db) -> u64 {
    db.stats().await.unwrap().total(|shard| shard.prepared_operations)
}

async fn memtable_bytes(db: &Db) -> u64 {
    db.stats().await.unwrap().total(|shard| shard.memtable_bytes)
}

async fn all(db: &Db) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let page = db.scan(Bound::Unbounded, Bound::Unbounded, 10_000).await.unwrap();
    assert!(page.resume.is_none());
    page.entries.into_iter().collect()
}

/// A database that is opened again has these entries.
fn assert_after_reopen(seed: u64, disk: &SimDisk, expected: &BTreeMap<Vec<u8>, Vec<u8>>) {
    run(seed, disk, 1, |machine| async move {
        let db = open(&machine, options()).await.unwrap();
        assert!(all(&db).await == *expected, "seed {seed}");
        db.close().await.unwrap();
    })
    .unwrap();
}

/// Puts `value` at all keys of the crowd in one group: another is being written while they are staged.
async fn put_in_one_group(machine: &SimMachine, db: &Db, value: &[u8]) -> Vec<corelane::Result<()>> {
    let puts = (0..CROWD).map(|number| {
        let db = db.clone();
        async move { db.put(&key(number), value).await }
    });
    let behind = async {
        machine.core(0).sleep(Duration::from_micros(10)).await;
        join_all(puts).await
    };
    let (first, outcomes) = join(db.put(b"first", value), behind).await;
    first.unwrap();
    outcomes
}

#[test]
fn operations_of_large_groups_are_prepared_and_those_of_small_ones_are_not() {
    run(1, &SimDisk::new(), 1, |machine| async move {
        machine.set_step_limit(u64::MAX);
        let db = open(&machine, options()).await.unwrap();
        for number in 0..20 {
            db.put(&key(number), b"alone").await.unwrap();
        }
        assert_eq!(prepared(&db).await, 0);
        for round in 0..20 {
            for outcome in put_in_one_group(&machine, &db, &[round; 300]).await {
                outcome.unwrap();
            }
        }
        let found = prepared(&db).await;
        let most = 20 * u64::from(CROWD);
        assert!((most / 2..=most).contains(&found), "{found} of {most}");
        for number in 0..CROWD {
            assert_eq!(db.get(&key(number)).await.unwrap(), Some(vec![19; 300]));
        }
        db.close().await.unwrap();
    })
    .unwrap();
}

/// Reads until `done`: all of the crowd's keys have the old value, or all have the new one, and never again the old.
/// Returns how often they had the old.
async fn watch(machine: &SimMachine, db: &Db, done: &Cell<bool>) -> u32 {
    let (mut before, mut seen_new) = (0, false);
    while !done.get() {
        let found = all(db).await;
        let new = (0..CROWD)
            .filter(|number| found.get(&key(*number)).is_some_and(|value| value == b"new"))
            .count();
        assert!(
            new == 0 || new == usize::from(CROWD),
            "a group appears at once, not {new} of it"
        );
        assert!(new > 0 || !seen_new, "what was seen stays");
        seen_new = new > 0;
        before += u32::from(!seen_new);
        let one = db.get(&key(CROWD / 2)).await.unwrap();
        seen_new |= one.as_deref() == Some(b"new");
        machine.core(0).sleep(Duration::from_micros(3)).await;
    }
    before
}

#[test]
fn nobody_sees_what_is_prepared_before_its_group_is_applied() {
    let (looks, used) = (Cell::new(0), Cell::new(0));
    each_seed(60, |seed| {
        run(seed, &SimDisk::new(), 1, |machine| async {
            let machine = machine;
            let db = open(&machine, options()).await.unwrap();
            for number in (0..CROWD).step_by(2) {
                db.put(&key(number), b"old").await.unwrap();
            }
            let done = Cell::new(false);
            let writing = async {
                for outcome in put_in_one_group(&machine, &db, b"new").await {
                    outcome.unwrap();
                }
                done.set(true);
            };
            let beside = async {
                // The group behind the first is staged by now, and seldom written.
                machine.core(0).sleep(Duration::from_micros(15)).await;
                let snapshot = db.snapshot().unwrap();
                let then = db.get_as_of(&key(2), &snapshot).await.unwrap();
                let updated = key(3);
                let seen = db.update(&updated, |old| (Decision::Keep, old.map(<[u8]>::to_vec)));
                assert_eq!(
                    seen.await.unwrap().as_deref(),
                    Some(b"new".as_slice()),
                    "updates see what is staged"
                );
                while !done.get() {
                    assert_eq!(
                        db.get_as_of(&key(2), &snapshot).await.unwrap(),
                        then,
                        "a snapshot stays as it is"
                    );
                    machine.core(0).sleep(Duration::from_micros(7)).await;
                }
                assert_eq!(db.get_as_of(&key(2), &snapshot).await.unwrap(), then);
            };
            let ((), (before, ())) = join(writing, join(watch(&machine, &db, &done), beside)).await;
            looks.set(looks.get() + before);
            used.set(used.get() + prepared(&db).await);
            let found = all(&db).await;
            assert!((0..CROWD).all(|number| found[&key(number)] == b"new"));
            db.close().await.unwrap();
        })
        .unwrap();
    });
    assert!(looks.get() > 200, "{} looks during the write", looks.get());
    assert!(
        used.get() > 60 * u64::from(CROWD) / 2,
        "{} were prepared",
        used.get()
    );
}

/// The write had no effect on the device, so nothing of its group may be found afterwards: not in the memtable, whose arena it
/// was copied into, and not after a reopen.
#[test]
fn what_was_prepared_of_a_group_that_failed_is_never_seen() {
    let copied = Cell::new(0);
    each_seed(30, |seed| {
        let disk = SimDisk::new();
        let plant = disk.clone();
        run(seed, &disk, 1, |machine| async {
            let (machine, plant) = (machine, plant);
            let mut options = options();
            options.tuning.flush_on_close = true;
            options.tuning.memtable_bytes = 1 << 20;
            let db = open(&machine, options).await.unwrap();
            machine.core(0).sleep(Duration::from_secs(1)).await;
            db.put(b"before", b"1").await.unwrap();
            db.put_with(b"unlogged", b"1", Durability::None).await.unwrap();
            let fault = Fault::nth(1, Failure::Enospc).on(OpKind::Write);
            plant.inject(fault.extension("wal"));
            let before = memtable_bytes(&db).await;
            // Together more than the memtable holds already, its first chunk included.
            for outcome in put_in_one_group(&machine, &db, &[1; 10_000]).await {
                assert_eq!(outcome.unwrap_err().kind(), ErrorKind::OutcomeUnknown);
            }
            let found: Vec<_> = all(&db).await.into_keys().collect();
            assert_eq!(
                found,
                [b"before".to_vec(), b"first".to_vec(), b"unlogged".to_vec()]
            );
            assert_eq!(db.get(&key(1)).await.unwrap(), None);
            assert_eq!(prepared(&db).await, 0, "none of it was used");
            copied.set(copied.get() + u32::from(memtable_bytes(&db).await > before));
            let _poisoned = db.flush().await.unwrap_err();
            let _lost = db.close().await.unwrap_err();
        })
        .unwrap();
        run(seed, &disk, 1, |machine| async move {
            let db = open(&machine, options()).await.unwrap();
            let found: Vec<_> = all(&db).await.into_keys().collect();
            assert_eq!(found, [b"before".to_vec(), b"first".to_vec()]);
            db.close().await.unwrap();
        })
        .unwrap();
    });
    assert!(copied.get() >= 15, "prepared in {} of 30 seeds", copied.get());
}

/// How many are put at once on a device that runs full.
const MANY: u32 = 40;

/// Puts so many numbers from `from` on and notes which are there; how many were refused.
async fn put_many(db: &Db, from: u32, there: &mut BTreeMap<Vec<u8>, Vec<u8>>) -> u32 {
    let puts = (from..from + MANY).map(|number| async move {
        let (key, value) = (number.to_be_bytes().to_vec(), vec![number as u8; 3000]);
        let outcome = db.put(&key, &value).await;
        (key, value, outcome)
    });
    let mut refused = 0;
    for (key, value, outcome) in join_all(puts).await {
        match outcome {
            Ok(()) => drop(there.insert(key, value)),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
                refused += 1;
            }
        }
    }
    refused
}

/// A crowd on a device that runs full, several times: a part of a group is refused, and what was prepared of it is in the
/// arena of a memtable that goes on, is flushed, and may hold nothing else.
#[test]
fn what_was_prepared_of_a_group_that_was_refused_is_never_seen_nor_flushed() {
    let refusals = Cell::new(0);
    each_seed(20, |seed| {
        let disk = SimDisk::new();
        let plant = disk.clone();
        let there = run(seed, &disk, 1, |machine| async {
            let (machine, plant) = (machine, plant);
            machine.set_step_limit(u64::MAX);
            let db = open(&machine, options()).await.unwrap();
            let (mut there, mut number) = (BTreeMap::new(), 0_u32);
            for spell in 0..3 {
                if (spell + seed) % 2 == 0 {
                    // The memtable is empty, and what is refused may be the first that is copied into it.
                    db.flush().await.unwrap();
                }
                plant.set_capacity(ROOM_BYTES - plant.free_bytes());
                let refused = loop {
                    let refused = put_many(&db, number, &mut there).await;
                    number += MANY;
                    if refused > 0 {
                        break refused;
                    }
                };
                refusals.set(refusals.get() + refused);
                assert!(all(&db).await == there, "seed {seed}, spell {spell}");
                plant.set_capacity(ROOM_BYTES);
                machine.core(0).sleep(Duration::from_secs(3)).await;
                assert!(all(&db).await == there, "seed {seed}, spell {spell}");
                db.flush().await.unwrap();
            }
            assert!(prepared(&db).await > 0);
            assert!(all(&db).await == there, "seed {seed}");
            db.close().await.unwrap();
            there
        })
        .unwrap();
        assert_after_reopen(seed, &disk, &there);
    });
    assert!(refusals.get() > 200, "{} were refused", refusals.get());
}

/// One writer's next write of keys of its own, noted in what it expects.
async fn write_something(db: &Db, name: u8, rng: &mut Rng, model: &mut BTreeMap<Vec<u8>, Vec<u8>>) {
    let mut batch = Batch::new();
    for _ in 0..*rng.pick(&[0_u64, 1, 1, 1, 2, 5, 40]) {
        let key = [&[name][..], &rng.below(12).to_be_bytes()].concat();
        let bytes = *rng.pick(&[0_usize, 5, 100, 100, 700, 3000]);
        let value = vec![rng.below(250) as u8; bytes];
        match rng.below(5) {
            0 => {
                batch.delete(&key).unwrap();
                model.remove(&key);
            }
            1 => {
                batch.put_until(&key, &value, 1).unwrap();
                model.remove(&key);
            }
            2 => {
                batch.put_until(&key, &value, u64::MAX).unwrap();
                model.insert(key, value);
            }
            _ => {
                batch.put(&key, &value).unwrap();
                model.insert(key, value);
            }
        }
    }
    if rng.chance(1, 60) {
        let (key, value) = ([name, 255].to_vec(), vec![1; 150_000]);
        batch.put(&key, &value).unwrap();
        model.insert(key, value);
    }
    let durabilities = [
        Durability::Sync,
        Durability::Sync,
        Durability::Buffered,
        Durability::None,
    ];
    db.write(batch, *rng.pick(&durabilities)).await.unwrap();
}

/// Batches of every kind and size from a crowd, through rotations, flushes and merges, with snapshots and scans under way or
/// none: afterwards, and after a reopen, everything is as each writer expects.
#[test]
fn crowds_of_batches_of_every_kind_end_up_as_if_nothing_were_prepared() {
    let used = Cell::new(0);
    each_seed(25, |seed| {
        let disk = SimDisk::new();
        let expected = run(seed, &disk, 1, |machine| async {
            let machine = machine;
            machine.set_step_limit(u64::MAX);
            let mut rng = Rng::new(seed);
            let mut options = options();
            options.tuning.memtable_bytes = *rng.pick(&[64 << 10, 256 << 10, 4 << 20]);
            let db = open(&machine, options).await.unwrap();
            let writing = Rc::new(Cell::new(CROWD));
            let writers = (0..CROWD).map(|name| {
                let (db, mut rng, writing) = (db.clone(), rng.fork(), Rc::clone(&writing));
                async move {
                    let mut model = BTreeMap::new();
                    for _ in 0..40 {
                        write_something(&db, name, &mut rng, &mut model).await;
                    }
                    writing.set(writing.get() - 1);
                    model
                }
            });
            let reading = async {
                while writing.get() > 0 {
                    let snapshot = if seed % 2 == 0 {
                        Some(db.snapshot().unwrap())
                    } else {
                        None
                    };
                    let _page = all(&db).await;
                    machine.core(0).sleep(Duration::from_micros(300)).await;
                    drop(snapshot);
                }
            };
            let (models, ()) = join(join_all(writers), reading).await;
            let expected: BTreeMap<_, _> = models.into_iter().flatten().collect();
            assert!(all(&db).await == expected, "seed {seed}");
            used.set(used.get() + prepared(&db).await);
            db.close().await.unwrap();
            expected
        })
        .unwrap();
        assert_after_reopen(seed, &disk, &expected);
    });
    assert!(used.get() > 10_000, "{} were prepared", used.get());
}
