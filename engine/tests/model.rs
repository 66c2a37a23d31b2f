//! The model test: random operations, also from many callers at once, against a `BTreeMap`; in the simulator over many
//! seeds, and on a real directory over a few. Between phases the database is closed and opened again on another number
//! of cores.
//!
//! `CORELANE_SEED=n` replays exactly one seed of the simulator, `CORELANE_SEEDS=n` runs so many.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeMap;
use std::ops::Bound;

use corelane::ErrorKind;
use corelane::api::{Batch, Db, Decision, Durability, Options, Runtime};
use corelane::io::Class;
use corelane::io::Io;
use corelane::io::sim::{Rng, SimDisk, SimMachine, run};
use futures_lite::future::block_on;
use futures_util::future::join_all;

use corelane_testing::{RUNTIMES, each_seed, open, small};

/// Seeds of the simulator in CI.
const SEEDS: u64 = 150;
const REAL_SEEDS: u64 = 2;

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

/// A caller with keys of its own, and what he expects of them.
struct Caller {
    name: u8,
    rng: Rng,
    model: Model,
}

impl Caller {
    fn new(name: u8, rng: Rng) -> Self {
        Self {
            name,
            rng,
            model: Model::new(),
        }
    }

    /// Keys that share long prefixes, are prefixes of each other, are long, or empty.
    fn key(&mut self) -> Vec<u8> {
        let (name, rng) = (self.name, &mut self.rng);
        let n = rng.below(24);
        match rng.below(8) {
            0 if name == 0 => Vec::new(),
            1 => {
                let mut key = vec![name];
                key.resize(1 + usize::try_from(n).unwrap(), 0);
                key
            }
            2 => [&[name][..], &[b'p'; 200], &n.to_be_bytes()].concat(),
            3 if n < 2 => [&[name][..], &vec![0xff; 65_535]].concat(),
            4 | 5 => self.tagged(),
            _ => [&[name][..], &n.to_be_bytes()].concat(),
        }
    }

    /// One of the keys that live on one shard together.
    fn tagged(&mut self) -> Vec<u8> {
        format!("{}{{tag}}{:03}", char::from(self.name), self.rng.below(20)).into_bytes()
    }

    fn value(&mut self) -> Vec<u8> {
        let rng = &mut self.rng;
        let bytes = match rng.below(40) {
            0..3 => 0,
            3..25 => rng.between(1, 200),
            25..38 => rng.between(200, 12_000),
            _ => rng.between(60_000, 200_000),
        };
        let mut value = vec![0; usize::try_from(bytes).unwrap()];
        rng.fill(&mut value);
        value
    }

    fn durability(&mut self) -> Durability {
        *self
            .rng
            .pick(&[Durability::Sync, Durability::Buffered, Durability::None])
    }

    async fn step(&mut self, db: &Db) {
        match self.rng.below(20) {
            0..5 => {
                let (key, value, durability) = (self.key(), self.value(), self.durability());
                db.put_with(&key, &value, durability).await.unwrap();
                self.model.insert(key, value);
            }
            5..7 => self.put_until(db).await,
            7..9 => {
                let (key, durability) = (self.key(), self.durability());
                db.delete_with(&key, durability).await.unwrap();
                self.model.remove(&key);
            }
            9..10 => self.batch(db).await,
            10..11 => self.transact(db).await,
            11..13 => self.update(db).await,
            13..15 => {
                let key = self.key();
                assert_eq!(db.get(&key).await.unwrap().as_ref(), self.model.get(&key));
            }
            15..17 => self.multi_get(db).await,
            17..19 => self.scan(db).await,
            _ if self.rng.chance(1, 3) => db.compact().await.unwrap(),
            _ => db.flush().await.unwrap(),
        }
    }

    /// A value that ends far away, or has ended.
    async fn put_until(&mut self, db: &Db) {
        let (key, value, durability) = (self.key(), self.value(), self.durability());
        let over = self.rng.chance(1, 2);
        let mut batch = Batch::new();
        let expires_ms = if over { 1 } else { u64::MAX };
        batch.put_until(&key, &value, expires_ms).unwrap();
        db.write(batch, durability).await.unwrap();
        let expected = if over {
            self.model.remove(&key);
            None
        } else {
            self.model.insert(key.clone(), value);
            Some(Some(u64::MAX))
        };
        assert_eq!(db.expiry(&key).await.unwrap(), expected);
    }

    /// Moves the value of one key to another.
    async fn transact(&mut self, db: &Db) {
        let keys = [self.tagged(), self.tagged()];
        let expected: Vec<_> = keys.iter().map(|key| self.model.get(key).cloned()).collect();
        let [from, to] = keys.clone();
        let seen = db.transact(&keys, move |found| {
            let mut batch = Batch::new();
            if let Some(value) = found[0].value {
                batch.delete(&from).unwrap().put(&to, value).unwrap();
            }
            let seen: Vec<_> = found
                .iter()
                .map(|found| found.value.map(<[u8]>::to_vec))
                .collect();
            (batch, seen)
        });
        assert_eq!(seen.await.unwrap(), expected);
        let [from, to] = keys;
        if let Some(value) = self.model.remove(&from) {
            self.model.insert(to, value);
        }
    }

    async fn batch(&mut self, db: &Db) {
        let mut batch = Batch::new();
        for _ in 0..self.rng.between(0, 8) {
            let key = self.tagged();
            if self.rng.chance(1, 4) {
                batch.delete(&key).unwrap();
                self.model.remove(&key);
            } else {
                let value = self.value();
                batch.put(&key, &value).unwrap();
                self.model.insert(key, value);
            }
        }
        let durability = self.durability();
        db.write(batch, durability).await.unwrap();
    }

    async fn update(&mut self, db: &Db) {
        let (key, value, what) = (self.key(), self.value(), self.rng.below(4));
        let next = value.clone();
        let seen = db
            .update(&key, move |old| {
                let decision = match what {
                    0 => Decision::Keep,
                    1 => Decision::Delete,
                    _ => Decision::Put(next),
                };
                (decision, old.map(<[u8]>::to_vec))
            })
            .await
            .unwrap();
        assert_eq!(seen.as_ref(), self.model.get(&key));
        match what {
            0 => {}
            1 => drop(self.model.remove(&key)),
            _ => drop(self.model.insert(key, value)),
        }
    }

    async fn multi_get(&mut self, db: &Db) {
        let keys: Vec<_> = (0..self.rng.between(0, 12)).map(|_| self.key()).collect();
        let values = db.multi_get(&keys).await.unwrap();
        let expected: Vec<_> = keys.iter().map(|key| self.model.get(key).cloned()).collect();
        assert_eq!(values, expected);
    }

    /// A range within this caller's own keys, in pages.
    async fn scan(&mut self, db: &Db) {
        let (low, high) = (vec![self.name], vec![self.name + 1]);
        let (mut start, mut end) = (Bound::Included(low), Bound::Excluded(high));
        if self.rng.coin() {
            let (a, b) = (self.key(), self.key());
            if !a.is_empty() && !b.is_empty() {
                let inclusive = self.rng.coin();
                let (a, b) = (a.clone().min(b.clone()), a.max(b));
                start = if inclusive {
                    Bound::Included(a)
                } else {
                    Bound::Excluded(a)
                };
                end = if self.rng.coin() {
                    Bound::Included(b)
                } else {
                    Bound::Excluded(b)
                };
            }
        }
        let mut expected: Vec<_> = self
            .model
            .iter()
            .filter(|(key, _)| within(key, &start, &end))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        let limit = usize::try_from(*self.rng.pick(&[1_u64, 3, 10, 0])).unwrap();
        if self.rng.coin() {
            expected.reverse();
            assert_eq!(scan_back(db, start, end, limit).await, expected);
        } else {
            assert_eq!(scan(db, start, end, limit).await, expected);
        }
    }
}

fn within(key: &[u8], start: &Bound<Vec<u8>>, end: &Bound<Vec<u8>>) -> bool {
    let after = match start {
        Bound::Included(start) => key >= &start[..],
        Bound::Excluded(start) => key > &start[..],
        Bound::Unbounded => true,
    };
    after
        && match end {
            Bound::Included(end) => key <= &end[..],
            Bound::Excluded(end) => key < &end[..],
            Bound::Unbounded => true,
        }
}

/// A whole range, resumed page by page.
async fn scan(db: &Db, start: Bound<Vec<u8>>, end: Bound<Vec<u8>>, limit: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
    let (mut found, mut start) = (Vec::new(), start);
    loop {
        let (from, to) = (start.as_ref().map(Vec::as_slice), end.as_ref().map(Vec::as_slice));
        let page = db.scan(from, to, limit).await.unwrap();
        assert!(limit == 0 || page.entries.len() <= limit);
        found.extend(page.entries);
        match page.resume {
            Some(key) => start = Bound::Excluded(key),
            None => return found,
        }
    }
}

/// The same from its end.
async fn scan_back(
    db: &Db,
    start: Bound<Vec<u8>>,
    end: Bound<Vec<u8>>,
    limit: usize,
) -> Vec<(Vec<u8>, Vec<u8>)> {
    let (mut found, mut end) = (Vec::new(), end);
    loop {
        let (from, to) = (start.as_ref().map(Vec::as_slice), end.as_ref().map(Vec::as_slice));
        let page = db.scan_back(from, to, limit).await.unwrap();
        assert!(limit == 0 || page.entries.len() <= limit);
        found.extend(page.entries);
        match page.resume {
            Some(key) => end = Bound::Excluded(key),
            None => return found,
        }
    }
}

/// Everything in the database is what the callers together expect.
async fn compare(db: &Db, callers: &[Caller]) {
    let expected: Model = callers.iter().flat_map(|caller| caller.model.clone()).collect();
    let scanned = scan(db, Bound::Unbounded, Bound::Unbounded, 100).await;
    assert!(scanned.is_sorted_by(|a, b| a.0 < b.0));
    let back = scan_back(db, Bound::Unbounded, Bound::Unbounded, 100).await;
    assert!(back.iter().rev().eq(&scanned), "backwards it is another");
    let found: Model = scanned.into_iter().collect();
    for key in expected.keys().chain(found.keys()) {
        let (expected, found) = (expected.get(key).map(Vec::len), found.get(key).map(Vec::len));
        assert_eq!(
            expected,
            found,
            "length of the value of {:?}",
            &key[..key.len().min(30)]
        );
    }
    assert!(found == expected, "a value differs");
    let keys: Vec<_> = expected.keys().collect();
    let values = db.multi_get(&keys).await.unwrap();
    assert!(values.into_iter().map(Option::unwrap).eq(expected.into_values()));
}

fn callers(rng: &mut Rng) -> Vec<Caller> {
    let count = u8::try_from(rng.between(1, 6)).unwrap();
    // Names far from each other, so that no key of one lies in another's range.
    (0..count)
        .map(|n| Caller::new(n * 10 + u8::from(n > 0) * b'A', rng.fork()))
        .collect()
}

fn draw_options(rng: &mut Rng, cores: usize, shards: u16) -> Options {
    let mut options = small(cores, shards);
    options.durability = *rng.pick(&[Durability::Sync, Durability::Buffered, Durability::None]);
    options.tuning.memtable_bytes = *rng.pick(&[64 << 10, 256 << 10, 4 << 20]);
    options.tuning.segment_bytes = *rng.pick(&[64 << 10, 256 << 10]);
    options.tuning.manifest_bytes = *rng.pick(&[16 << 10, 64 << 10]);
    options.tuning.buffered_bytes = *rng.pick(&[1, 4 << 10, 256 << 10]);
    options
}

/// One phase on a machine: every caller on a core, all at once.
async fn phase(machine: &SimMachine, db: &Db, callers: Vec<Caller>, steps: u64) -> Vec<Caller> {
    let tasks = callers.into_iter().enumerate().map(|(number, mut caller)| {
        let (end, ended) = oneshot::async_channel();
        let (db, io) = (db.clone(), machine.core(number % machine.cores()));
        io.spawn(Class::Foreground, async move {
            for _ in 0..steps {
                caller.step(&db).await;
            }
            let _ = end.send(caller);
        });
        ended
    });
    let ended = join_all(tasks.collect::<Vec<_>>()).await;
    ended
        .into_iter()
        .map(|caller| caller.expect("a caller ends"))
        .collect()
}

fn simulated(seed: u64) {
    let mut rng = Rng::new(seed);
    let shards = u16::try_from(rng.between(1, 4)).unwrap();
    let mut callers = callers(&mut rng);
    let disk = SimDisk::new();
    for _ in 0..rng.between(2, 4) {
        let cores = usize::try_from(rng.between(1, 4)).unwrap();
        let options = draw_options(&mut rng, cores, shards);
        let steps = rng.between(1, 40);
        let before = std::mem::take(&mut callers);
        callers = run(rng.next_u64(), &disk, cores, |machine| async move {
            let db = open(&machine, options).await.unwrap();
            compare(&db, &before).await;
            let callers = phase(&machine, &db, before, steps).await;
            compare(&db, &callers).await;
            db.close().await.unwrap();
            callers
        })
        .expect("nothing cuts it");
    }
}

#[test]
fn random_operations_agree_with_a_map_in_the_simulator() {
    each_seed(SEEDS, simulated);
}

#[test]
fn random_operations_agree_with_a_map_on_a_real_directory() {
    for seed in 0..REAL_SEEDS {
        println!("seed {seed}");
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let mut rng = Rng::new(seed ^ 0x7265_616c);
        let mut callers = callers(&mut rng);
        let shards = u16::try_from(rng.between(1, 4)).unwrap();
        // What one runtime has written, the other opens.
        for (cores, runtime) in [1, 2, 1, 2].into_iter().zip(RUNTIMES.into_iter().cycle()) {
            let drawn = draw_options(&mut rng, 2, shards);
            let db = Db::builder(dir.path().join("db"))
                .cores((0..cores).collect())
                .shards(shards)
                .runtime(runtime)
                .tuning(|tuning| *tuning = drawn.tuning)
                .open_blocking()
                .unwrap();
            block_on(compare(&db, &callers));
            // Each caller is a thread.
            callers = std::thread::scope(|scope| {
                let threads: Vec<_> = callers
                    .into_iter()
                    .map(|mut caller| {
                        let db = db.clone();
                        scope.spawn(move || {
                            for _ in 0..60 {
                                block_on(caller.step(&db));
                            }
                            caller
                        })
                    })
                    .collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            block_on(compare(&db, &callers));
            db.blocking().close().unwrap();
        }
    }
}

/// Adds one to a counter and returns what it made of it.
async fn increment(db: &Db) -> u64 {
    let add = |old: Option<&[u8]>| {
        let next = old.map_or(0, |old| u64::from_be_bytes(old.try_into().unwrap())) + 1;
        (Decision::Put(next.to_be_bytes().to_vec()), next)
    };
    db.update(b"counter", add).await.unwrap()
}

const CALLERS: usize = 64;
const INCREMENTS: usize = 20;

/// The values that 64 callers got, and the WAL writes it took.
async fn count_together(db: &Db) -> (Vec<u64>, u64) {
    let before = db.stats().await.unwrap().total(|shard| shard.wal_writes);
    let callers = (0..CALLERS).map(|_| async {
        let mut made = Vec::new();
        for _ in 0..INCREMENTS {
            made.push(increment(db).await);
        }
        made
    });
    let mut made: Vec<u64> = join_all(callers).await.into_iter().flatten().collect();
    made.sort_unstable();
    let after = db.stats().await.unwrap().total(|shard| shard.wal_writes);
    (made, after - before)
}

fn check_count(made: &[u64], writes: u64) {
    let total = (CALLERS * INCREMENTS) as u64;
    assert!(
        made.iter().copied().eq(1..=total),
        "an increment was lost or done twice"
    );
    assert!(
        writes > 0 && writes * 8 <= total,
        "{writes} WAL writes for {total} durable increments"
    );
}

#[test]
fn many_callers_increment_one_counter_durably_at_group_commit_rate_and_lose_none() {
    for seed in 0..5 {
        let disk = SimDisk::new();
        run(seed, &disk, 2, |machine| async move {
            let db = open(&machine, small(2, 2)).await.unwrap();
            let (made, writes) = count_together(&db).await;
            check_count(&made, writes);
            machine.cut_power();
            std::future::pending::<()>().await;
        });
        disk.crash(seed);
        run(seed, &disk, 1, |machine| async move {
            let db = open(&machine, small(1, 2)).await.unwrap();
            assert_eq!(increment(&db).await, (CALLERS * INCREMENTS) as u64 + 1);
        })
        .unwrap();
    }
}

#[test]
fn many_callers_increment_one_counter_on_a_real_directory_too() {
    RUNTIMES.into_iter().for_each(many_callers_increment_one_counter);
}

fn many_callers_increment_one_counter(runtime: Runtime) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let builder = Db::builder(dir.path().join("db")).cores(vec![0]).shards(1);
    let db = builder
        .runtime(runtime)
        .tuning(|tuning| tuning.segment_bytes = 1 << 20)
        .open_blocking()
        .unwrap();
    let (made, writes) = block_on(count_together(&db));
    check_count(&made, writes);
    db.blocking().close().unwrap();
    assert_eq!(
        db.blocking().get(b"counter").unwrap_err().kind(),
        ErrorKind::Closed
    );
}

/// Several callers write the same keys at different durabilities; whoever came last before the close must have come last
/// after the reopen too.
#[test]
fn memtable_order_is_wal_order_whatever_the_durabilities() {
    for seed in 0..60 {
        let disk = SimDisk::new();
        let content = |db: Db| async move { scan(&db, Bound::Unbounded, Bound::Unbounded, 0).await };
        let before = run(seed, &disk, 2, |machine| async move {
            let mut options = small(2, 1);
            options.tuning.memtable_bytes = 4 << 20;
            let db = open(&machine, options).await.unwrap();
            let writers = (0..8_u64).map(|writer| {
                let (db, mut rng) = (db.clone(), Rng::new(seed * 8 + writer));
                async move {
                    for i in 0..40_u64 {
                        // `None` is left out: what it wrote last would be flushed at the close, never replayed.
                        let durability = *rng.pick(&[Durability::Sync, Durability::Buffered]);
                        let key = [u8::try_from(rng.below(5)).unwrap()];
                        let value = [writer.to_be_bytes(), i.to_be_bytes()].concat();
                        db.put_with(&key, &value, durability).await.unwrap();
                    }
                }
            });
            join_all(writers).await;
            let before = content(db.clone()).await;
            db.close().await.unwrap();
            before
        })
        .unwrap();
        let after = run(seed, &disk, 1, |machine| async move {
            let db = open(&machine, small(1, 1)).await.unwrap();
            let stats = db.stats().await.unwrap();
            assert_eq!(
                stats.total(|shard| shard.table_entries),
                0,
                "the WAL is what was read"
            );
            content(db).await
        })
        .unwrap();
        assert_eq!(before, after, "seed {seed}");
    }
}
