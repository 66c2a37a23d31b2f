//! Values that end, and decisions over several keys, in the simulator: every way to read, in memory and from tables.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use corelane::ErrorKind;
use corelane::api::{Answer, Batch, Core, Db, Decision, Durability, Found, Op, Service, launch};
use corelane::io::sim::{SimDisk, SimMachine, run};
use corelane::io::{Class, Io};
use corelane::types::MAX_SEQUENCE;
use futures_util::future::join_all;

use corelane_testing::{open, small};

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

/// The time an hour from now.
fn in_an_hour(machine: &SimMachine) -> u64 {
    machine.core(0).wall_clock_ms() + HOUR_MS.unsigned_abs()
}

/// What each way to read says of these keys, which must be the same: `true` where a key is there.
async fn seen(db: &Db, keys: &[&[u8]]) -> Vec<bool> {
    let mut by_get = Vec::new();
    for key in keys {
        by_get.push(db.get(key).await.unwrap().is_some());
        assert_eq!(
            db.expiry(key).await.unwrap().is_some(),
            *by_get.last().unwrap(),
            "expiry"
        );
        let updated = db.update(key, |old| (Decision::Keep, old.is_some())).await;
        assert_eq!(updated.unwrap(), *by_get.last().unwrap(), "update");
    }
    let multi = db.multi_get(keys).await.unwrap();
    let multi: Vec<_> = multi.iter().map(Option::is_some).collect();
    assert_eq!(multi, by_get, "multi_get");
    let scanned = db.scan(Bound::Unbounded, Bound::Unbounded, 0).await.unwrap();
    let scanned: Vec<_> = keys
        .iter()
        .map(|key| scanned.entries.iter().any(|(found, _)| found == *key))
        .collect();
    assert_eq!(scanned, by_get, "scan");
    let transacted = db.transact(keys, |found| {
        let there: Vec<_> = found.iter().map(|found| found.value.is_some()).collect();
        (Batch::new(), there)
    });
    assert_eq!(transacted.await.unwrap(), by_get, "transact");
    by_get
}

#[test]
fn an_expired_value_is_absent_to_every_read_in_memory_and_in_tables() {
    let keys: [&[u8]; 3] = [b"{t}ends", b"{t}ends later", b"{t}stays"];
    run(1, &SimDisk::new(), 1, |machine| async move {
        let db = open(&machine, small(1, 1)).await.unwrap();
        let soon = in_an_hour(&machine);
        db.put(keys[0], b"hidden").await.unwrap();
        db.put_until(keys[0], b"1", soon).await.unwrap();
        db.put_until(keys[1], b"2", soon + 1_000_000).await.unwrap();
        db.put_until(keys[2], b"-", soon).await.unwrap();
        db.put(keys[2], b"3").await.unwrap();
        assert_eq!(seen(&db, &keys).await, [true; 3]);
        assert_eq!(db.get(keys[0]).await.unwrap().unwrap(), b"1");
        assert_eq!(db.expiry(keys[0]).await.unwrap(), Some(Some(soon)));
        assert_eq!(db.expiry(keys[2]).await.unwrap(), Some(None));
        db.flush().await.unwrap();
        assert_eq!(seen(&db, &keys).await, [true; 3]);
        machine.jump_wall_clock(HOUR_MS + 60_000);
        assert_eq!(seen(&db, &keys).await, [false, true, true]);
        // In memory again.
        db.put_until(keys[1], b"2", soon).await.unwrap();
        assert_eq!(seen(&db, &keys).await, [false, false, true]);
        db.close().await.unwrap();
    });
}

/// Ends a round of work: by a close, or by pulling the plug.
async fn end(machine: &SimMachine, db: Db, clean: bool) {
    if clean {
        db.close().await.unwrap();
    } else {
        machine.cut_power();
        std::future::pending::<()>().await;
    }
}

/// A clock that stepped back by a day while the server was down brought back what it had told to be gone: sessions that had
/// ended were open again.
#[test]
fn r18_what_was_seen_to_expire_stays_so_under_a_clock_that_went_back() {
    for (seed, clean) in [(1, true), (2, false), (3, false), (4, false)] {
        let disk = SimDisk::new();
        run(seed, &disk, 1, |machine| async move {
            let db = open(&machine, small(1, 1)).await.unwrap();
            let soon = in_an_hour(&machine);
            db.put_until(b"in a table", b"v", soon).await.unwrap();
            db.flush().await.unwrap();
            db.put_until(b"in the log", b"v", soon).await.unwrap();
            db.put_until(b"later", b"v", soon + 7 * 86_400_000).await.unwrap();
            machine.jump_wall_clock(2 * HOUR_MS);
            match seed {
                // A flush has dropped it; then another value of the same age must not come back either.
                4 => db.flush().await.unwrap(),
                _ => assert_eq!(db.get(b"in the log").await.unwrap(), None),
            }
            if seed == 3 {
                let page = db.scan(Bound::Unbounded, Bound::Unbounded, 0).await.unwrap();
                assert_eq!(page.entries.len(), 1);
            }
            // Before it has come to the disk, somebody may read on under a clock that has gone back.
            machine.jump_wall_clock(-DAY_MS);
            if seed != 4 {
                assert_eq!(db.get(b"in the log").await.unwrap(), None);
            }
            machine.core(0).sleep(Duration::from_secs(3)).await;
            end(&machine, db, clean).await;
        });
        if !clean {
            disk.crash(seed);
        }
        run(seed, &disk, 1, |machine| async move {
            let db = open(&machine, small(1, 1)).await.unwrap();
            let keys: [&[u8]; 1] = [b"in a table"];
            assert_eq!(seen(&db, &keys).await, [false], "seed {seed}");
            assert_eq!(db.get(b"in the log").await.unwrap(), None, "seed {seed}");
            assert!(db.get(b"later").await.unwrap().is_some(), "seed {seed}");
            // It holds through a second life that sees nothing expire.
            end(&machine, db, clean).await;
        });
        if !clean {
            disk.crash(seed);
        }
        run(seed, &disk, 1, |machine| async move {
            let db = open(&machine, small(1, 1)).await.unwrap();
            assert_eq!(db.get(b"in the log").await.unwrap(), None, "seed {seed}");
            db.close().await.unwrap();
        });
    }
}

#[test]
fn r18_a_clock_a_day_ahead_ends_what_it_says_and_nothing_else() {
    let disk = SimDisk::new();
    run(5, &disk, 1, |machine| async move {
        let db = open(&machine, small(1, 1)).await.unwrap();
        let soon = in_an_hour(&machine);
        db.put_until(b"an hour", b"v", soon).await.unwrap();
        db.put_until(b"two days", b"v", soon + 2 * DAY_MS.unsigned_abs())
            .await
            .unwrap();
        db.put(b"for ever", b"v").await.unwrap();
        // Back, before anything has expired: it lives on.
        machine.jump_wall_clock(-DAY_MS);
        assert!(db.get(b"an hour").await.unwrap().is_some());
        machine.jump_wall_clock(2 * DAY_MS);
        let keys: [&[u8]; 1] = [b"an hour"];
        assert_eq!(seen(&db, &keys).await, [false]);
        for key in [&b"two days"[..], b"for ever"] {
            assert!(db.get(key).await.unwrap().is_some());
        }
        db.close().await.unwrap();
    });
}

/// Merges give up what has expired: wholly at the bottom, and above it they leave what hides older values.
#[test]
fn merges_drop_what_has_expired_and_bring_nothing_old_back() {
    run(6, &SimDisk::new(), 1, |machine| async move {
        let db = open(&machine, small(1, 1)).await.unwrap();
        let soon = in_an_hour(&machine);
        let key = |n: u32| n.to_be_bytes();
        for n in 0..200 {
            db.put(&key(n), &[1; 300]).await.unwrap();
        }
        db.compact().await.unwrap();
        for n in 0..150 {
            db.put_until(&key(n), &[2; 300], soon).await.unwrap();
        }
        machine.jump_wall_clock(2 * HOUR_MS);
        db.flush().await.unwrap();
        let stats = db.stats().await.unwrap();
        assert_eq!(stats.total(|shard| shard.expired_dropped), 150, "as tombstones");
        assert_eq!(
            db.scan(Bound::Unbounded, Bound::Unbounded, 0)
                .await
                .unwrap()
                .entries
                .len(),
            50
        );
        db.compact().await.unwrap();
        let stats = db.stats().await.unwrap();
        assert_eq!(stats.total(|shard| shard.table_entries), 50);
        assert_eq!(
            db.scan(Bound::Unbounded, Bound::Unbounded, 0)
                .await
                .unwrap()
                .entries
                .len(),
            50
        );
        // With nothing below they go wholly.
        for n in 1000..1010 {
            db.put_until(&key(n), b"v", soon).await.unwrap();
        }
        db.flush().await.unwrap();
        let stats = db.stats().await.unwrap();
        assert_eq!(stats.total(|shard| shard.expired_dropped), 160);
        assert_eq!(stats.total(|shard| shard.table_entries), 50);
        db.close().await.unwrap();
    });
}

#[test]
fn an_update_sees_expiry_version_and_what_is_staged() {
    run(2, &SimDisk::new(), 1, |machine| async move {
        let db = open(&machine, small(1, 1)).await.unwrap();
        let soon = in_an_hour(&machine);
        let look = |db: &Db| {
            let db = db.clone();
            async move {
                let told = |found: Found<'_>| (found.expires_ms, found.version);
                db.update_found(b"k", move |found| (Decision::Keep, told(found)))
                    .await
            }
        };
        assert_eq!(look(&db).await.unwrap(), (None, 0));
        db.put_until(b"k", b"v", soon).await.unwrap();
        let (expires_ms, first) = look(&db).await.unwrap();
        assert_eq!(expires_ms, Some(soon));
        assert!(first > 0 && first < MAX_SEQUENCE);
        assert_eq!(look(&db).await.unwrap().1, first, "nothing was written");
        db.flush().await.unwrap();
        assert_eq!(look(&db).await.unwrap().1, first, "a flush is no write");
        db.delete(b"k").await.unwrap();
        assert!(look(&db).await.unwrap().1 > first, "a deletion is one");
        db.close().await.unwrap();
    });
}

/// A key that was absent, was written and deleted, and whose last trace a flush or merge has dropped, had the version of a
/// key that was never written: a transaction conditioned on it went through.
#[test]
fn a_version_does_not_come_back_when_a_merge_forgets_the_key() {
    run(4, &SimDisk::new(), 1, |machine| async move {
        let db = open(&machine, small(1, 1)).await.unwrap();
        let version = |db: &Db| {
            let db = db.clone();
            async move {
                db.update_found(b"k", |found| (Decision::Keep, found.version))
                    .await
                    .unwrap()
            }
        };
        let before = version(&db).await;
        assert_eq!(before, 0);
        db.put(b"k", b"v").await.unwrap();
        db.flush().await.unwrap();
        db.delete(b"k").await.unwrap();
        let deleted = version(&db).await;
        db.compact().await.unwrap();
        let stats = db.stats().await.unwrap();
        assert_eq!(
            stats.total(|shard| shard.table_entries),
            0,
            "nothing is left of it"
        );
        assert!(version(&db).await >= deleted);
        db.put_until(b"k", b"v", 1).await.unwrap();
        let expired = version(&db).await;
        db.flush().await.unwrap();
        assert!(version(&db).await >= expired && expired > deleted);
        db.close().await.unwrap();
    });
}

#[test]
fn what_is_staged_is_seen_before_it_has_a_version() {
    let mut staged = 0;
    for seed in 0..16 {
        let version = run(seed, &SimDisk::new(), 1, |machine| async move {
            let db = open(&machine, small(1, 1)).await.unwrap();
            let soon = in_an_hour(&machine);
            let put = db.put_until(b"k", b"v", soon);
            let look = db.update_found(b"k", |found| (Decision::Keep, (found.expires_ms, found.version)));
            let (put, looked) = futures_util::future::join(put, look).await;
            put.unwrap();
            let (expires_ms, version) = looked.unwrap();
            assert_eq!(expires_ms, (version > 0).then_some(soon));
            db.close().await.unwrap();
            version
        });
        staged += u32::from(version == Some(MAX_SEQUENCE));
    }
    assert!(staged > 0, "some seed runs the update while the put is staged");
}

/// Moves of one unit between accounts that share a tag, some in memory and some on the device: nothing is lost or made.
#[test]
fn transactions_of_many_callers_keep_the_sum() {
    const ACCOUNTS: u64 = 12;
    let key = |n: u64| format!("{{bank}}{n}").into_bytes();
    let amount = |value: Option<&[u8]>| i64::from_le_bytes(value.unwrap().try_into().unwrap());
    for seed in 0..8 {
        run(seed, &SimDisk::new(), 2, move |machine| async move {
            let db = open(&machine, small(2, 2)).await.unwrap();
            for n in 0..ACCOUNTS {
                db.put(&key(n), &100_i64.to_le_bytes()).await.unwrap();
            }
            db.flush().await.unwrap();
            let moves = (0..60_u64).map(|n| {
                let db = db.clone();
                let (from, to) = (key(n % ACCOUNTS), key(n * 5 % ACCOUNTS + 1));
                async move {
                    if n % 20 == 7 {
                        db.flush().await.unwrap();
                    }
                    let keys = [from, to];
                    let names = keys.clone();
                    db.transact(&keys, move |found| {
                        let mut batch = Batch::new();
                        if names[0] != names[1] && found[1].value.is_some() {
                            let (a, b) = (amount(found[0].value) - 1, amount(found[1].value) + 1);
                            batch.put(&names[0], &a.to_le_bytes()).unwrap();
                            batch.put(&names[1], &b.to_le_bytes()).unwrap();
                        }
                        (batch, ())
                    })
                    .await
                    .unwrap();
                }
            });
            join_all(moves).await;
            let keys: Vec<_> = (0..ACCOUNTS).map(key).collect();
            let sum = db.transact(&keys, move |found| {
                let sum: i64 = found.iter().map(|found| amount(found.value)).sum();
                (Batch::new(), sum)
            });
            assert_eq!(sum.await.unwrap(), 1200);
            db.close().await.unwrap();
        });
    }
}

#[test]
fn a_transaction_that_cannot_run_writes_nothing() {
    run(3, &SimDisk::new(), 1, |machine| async move {
        let db = open(&machine, small(1, 4)).await.unwrap();
        let strange = db.transact(&[b"{a}1", b"{b}2"], |_| (Batch::new(), ())).await;
        assert_eq!(strange.unwrap_err().kind(), ErrorKind::CrossShard);
        let written_elsewhere = db
            .transact(&[b"{a}1"], |_| {
                let mut batch = Batch::new();
                batch.put(b"{a}1", b"x").unwrap().put(b"{b}2", b"x").unwrap();
                (batch, ())
            })
            .await;
        assert_eq!(written_elsewhere.unwrap_err().kind(), ErrorKind::CrossShard);
        let panicked = db
            .transact(&[b"{a}1"], |found| {
                assert!(found.is_empty(), "the caller's own mistake");
                (Batch::new(), ())
            })
            .await;
        assert_eq!(panicked.unwrap_err().kind(), ErrorKind::CallerPanicked);
        assert_eq!(db.get(b"{a}1").await.unwrap(), None);
        db.transact(&[b"{a}1"], |_| {
            let mut batch = Batch::new();
            batch.put(b"{a}another", b"x").unwrap();
            (batch, ())
        })
        .await
        .unwrap();
        assert!(db.get(b"{a}another").await.unwrap().is_some());
        db.close().await.unwrap();
    });
}

/// A transaction copied the values of all its keys before it looked at how much that was: 300 keys of 32 MiB, each allowed,
/// took 9.6 GiB of the machine.
#[test]
fn a_transaction_that_looks_at_too_many_bytes_is_refused_and_writes_nothing() {
    run(3, &SimDisk::new(), 1, |machine| async move {
        let db = open(&machine, small(1, 1)).await.unwrap();
        db.put(b"large", &vec![1; 52 << 20]).await.unwrap();
        for place in ["memory", "tables"] {
            let look_at = async |keys: usize| {
                let keys = vec![b"large"; keys];
                let transacted = db.transact(&keys, |found| {
                    let mut batch = Batch::new();
                    batch.put(b"written", b"x").unwrap();
                    let bytes: usize = found.iter().map(|found| found.value.unwrap().len()).sum();
                    (batch, bytes)
                });
                transacted.await
            };
            let refused = look_at(5).await.unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::TooLarge, "{place}: {refused}");
            assert_eq!(db.get(b"written").await.unwrap(), None, "{place}");
            assert_eq!(look_at(4).await.unwrap(), 208 << 20, "{place}");
            db.delete(b"written").await.unwrap();
            db.flush().await.unwrap();
        }
        db.close().await.unwrap();
    })
    .unwrap();
}

/// Looks at keys of both cores from the first, in one batch each time.
#[derive(Clone)]
struct Looks(Arc<AtomicBool>);

impl Looks {
    async fn round<I: Io>(core: &Core<I>) {
        let (mut ops, mut told) = (Vec::new(), Vec::new());
        for n in 0..40_u8 {
            let (tell, seen) = oneshot::channel();
            let look = Box::new(move |found: Found<'_>| {
                assert!(n != 7, "the caller's own mistake");
                tell.send((found.value.map(<[u8]>::to_vec), found.expires_ms))
                    .unwrap();
            });
            ops.push((core.shard_of(&[n]), Op::Look { key: vec![n], look }));
            told.push(seen);
        }
        let outcomes = core.execute(ops).await;
        for ((n, seen), outcome) in (0..40_u8).zip(told).zip(outcomes) {
            if n == 7 {
                assert_eq!(outcome.unwrap_err().kind(), ErrorKind::CallerPanicked);
                continue;
            }
            assert!(matches!(outcome, Ok(Answer::Done)));
            let (value, expires_ms) = seen.try_recv().unwrap();
            assert_eq!(value, (n % 2 == 0).then(|| vec![n]));
            assert_eq!(expires_ms, (n % 4 == 0).then_some(u64::MAX));
            let here = core.look_resident(&[n], |found| (found.value.map(<[u8]>::to_vec), found.expires_ms));
            assert!(here.is_none_or(|here| here == (value, expires_ms)));
        }
    }
}

impl Service for Looks {
    async fn run<I: Io>(self, core: Core<I>) {
        if core.index() > 0 {
            return;
        }
        for n in (0..40_u8).step_by(2) {
            let mut batch = Batch::new();
            let expires_ms = u64::MAX;
            if n % 4 == 0 {
                batch.put_until(&[n], &[n], expires_ms).unwrap();
            } else {
                batch.put(&[n], &[n]).unwrap();
            }
            let durability = Durability::Sync;
            let write = Op::Write { batch, durability };
            core.execute_one(core.shard_of(&[n]), write).await.unwrap();
        }
        Self::round(&core).await;
        for shard in 0..2 {
            core.execute_one(shard, Op::Flush).await.unwrap();
        }
        // From the device, then from the cache.
        Self::round(&core).await;
        Self::round(&core).await;
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn looks_of_one_batch_are_told_each_for_itself_wherever_the_keys_lie() {
    run(7, &SimDisk::new(), 2, |machine| async move {
        let (db, seats) = launch(Path::new(corelane_testing::DIR), small(2, 2)).unwrap();
        let done = Arc::new(AtomicBool::new(false));
        for (core, seat) in seats.into_iter().enumerate() {
            let io = machine.core(core);
            io.clone()
                .spawn(Class::Foreground, seat.run(io, Looks(Arc::clone(&done))));
        }
        db.ready().await.unwrap();
        while !done.load(Ordering::SeqCst) {
            machine.core(0).sleep(Duration::from_millis(1)).await;
        }
        db.close().await.unwrap();
    })
    .unwrap();
}
