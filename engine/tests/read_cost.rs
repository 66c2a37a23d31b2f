//! What a read costs, counted at the seam: in a compacted tree a lookup that misses the cache is exactly one device read,
//! a miss none but for filter errors, and a hit in memory or cache none. And a batch's reads go out together.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and looks at files itself"
)]

use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use corelane::api::{
    Answer, Batch, Core, Db, Decision, Durability, Found, Look, LookFn, Op, Options, Service, launch,
};
use corelane::io::sim::{OpKind, SimDisk, SimMachine, run};
use corelane::io::{Class, Io};
use corelane_testing::{DIR, open, small};

const KEYS: u32 = 6000;

/// Most filter errors of a negative lookup, by the design.
const MAX_FILTER_ERRORS: f64 = 0.012;

/// A key within the range of those that are there: odd numbers are not.
fn key(number: u32) -> Vec<u8> {
    format!("key-{number:012}").into_bytes()
}

fn value(number: u32) -> Vec<u8> {
    // Not alike, so that compression does not put a hundred of them into a block.
    (0..200_u32)
        .map(|n| (n.wrapping_mul(number).wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect()
}

fn options(cache_bytes: usize) -> Options {
    let mut options = small(1, 1);
    options.cache_bytes = cache_bytes;
    options.tuning.memtable_bytes = 256 << 10;
    options.tuning.segment_bytes = 1 << 20;
    options.tuning.table_bytes = 256 << 10;
    options
}

/// A database of `KEYS` even keys, merged until each has one place.
fn compacted() -> SimDisk {
    let disk = SimDisk::new();
    run(1, &disk, 1, |machine| async move {
        machine.set_step_limit(u64::MAX);
        let db = open(&machine, options(1 << 20)).await.unwrap();
        for chunk in (0..KEYS).collect::<Vec<_>>().chunks(100) {
            let mut batch = Batch::new();
            for number in chunk {
                batch.put(&key(number * 2), &value(*number)).unwrap();
            }
            db.write(batch, Durability::Buffered).await.unwrap();
        }
        db.compact().await.unwrap();
        let stats = db.stats().await.unwrap();
        let tables = &stats.shards[0].level_tables;
        assert_eq!(
            tables.iter().filter(|&&n| n > 0).count(),
            1,
            "one level: {tables:?}"
        );
        assert!(tables.iter().sum::<u64>() > 4, "several tables: {tables:?}");
        db.close().await.unwrap();
    })
    .unwrap();
    disk
}

/// Opens the database with so much cache, waits until nothing runs in the background, and counts from there.
fn with_open<T, F: Future<Output = T>>(
    disk: &SimDisk,
    cache_bytes: usize,
    body: impl FnOnce(SimMachine, Db) -> F,
) -> T {
    run(2, disk, 1, |machine| async move {
        machine.set_step_limit(u64::MAX);
        let db = open(&machine, options(cache_bytes)).await.unwrap();
        machine.core(0).sleep(std::time::Duration::from_secs(5)).await;
        machine.disk().reset_counts();
        body(machine, db).await
    })
    .unwrap()
}

fn reads(machine: &SimMachine) -> u64 {
    machine.disk().count(Some("sst"), OpKind::Read).ops
}

/// Every device operation of any kind.
fn operations(machine: &SimMachine) -> u64 {
    machine.disk_ops()
}

#[test]
fn a_lookup_that_misses_the_cache_is_exactly_one_device_read() {
    let disk = compacted();
    with_open(&disk, 1 << 20, |machine, db| async move {
        // Far apart and each once, so that no two share a block.
        let far: Vec<u32> = (0..KEYS).step_by(100).collect();
        for (done, number) in far.iter().enumerate() {
            let before = operations(&machine);
            assert_eq!(db.get(&key(number * 2)).await.unwrap(), Some(value(*number)));
            assert_eq!(operations(&machine), before + 1, "one operation for key {number}");
            assert_eq!(
                reads(&machine),
                done as u64 + 1,
                "one read of a table for key {number}"
            );
        }
        let read = machine.disk().count(Some("sst"), OpKind::Read);
        assert_eq!(
            read.bytes,
            read.ops * 4096,
            "a read is one page where the value fits one"
        );
        // All of it again, from the cache.
        for number in &far {
            assert_eq!(db.get(&key(number * 2)).await.unwrap(), Some(value(*number)));
        }
        assert_eq!(
            reads(&machine),
            far.len() as u64,
            "a hit in the cache reads nothing"
        );
        let stats = db.stats().await.unwrap();
        assert_eq!(stats.shards[0].gets_from_device, far.len() as u64);
        assert_eq!(stats.shards[0].gets_from_cache, far.len() as u64);
    });
}

#[test]
fn a_hit_in_memory_reads_nothing() {
    let disk = compacted();
    with_open(&disk, 1 << 20, |machine, db| async move {
        for number in 0..100 {
            db.put(&key(number * 2), b"newer").await.unwrap();
            db.delete(&key(number * 2 + 1000)).await.unwrap();
        }
        machine.core(0).sleep(std::time::Duration::from_secs(1)).await;
        let before = operations(&machine);
        for number in 0..100 {
            assert_eq!(db.get(&key(number * 2)).await.unwrap(), Some(b"newer".to_vec()));
            assert_eq!(db.get(&key(number * 2 + 1000)).await.unwrap(), None);
        }
        assert_eq!(operations(&machine), before);
        assert_eq!(reads(&machine), 0);
    });
}

#[test]
fn a_negative_lookup_reads_nothing_but_for_filter_errors() {
    const MISSES: u32 = 24_000;
    let disk = compacted();
    let (device_reads, counted) = with_open(&disk, 1 << 20, |machine, db| async move {
        for n in 0..MISSES {
            // Between two keys that are there, so that only the filter can say no.
            let absent = [key((n % KEYS) * 2), format!("-{n}").into_bytes()].concat();
            assert_eq!(db.get(&absent).await.unwrap(), None);
        }
        let stats = db.stats().await.unwrap();
        (reads(&machine), stats.shards[0].filter_false_positives)
    });
    let rate = counted as f64 / f64::from(MISSES);
    assert!(
        rate <= MAX_FILTER_ERRORS,
        "{counted} filter errors in {MISSES} misses: {:.2} %",
        rate * 100.0
    );
    assert!(
        counted > 0,
        "a filter of ten bits errs now and then: it was asked"
    );
    assert!(
        device_reads <= counted,
        "{device_reads} reads for {counted} filter errors"
    );
}

#[test]
fn a_lookup_outside_every_table_reads_nothing() {
    let disk = compacted();
    with_open(&disk, 1 << 20, |machine, db| async move {
        for n in 0..500_u32 {
            assert_eq!(db.get(format!("a{n}").as_bytes()).await.unwrap(), None);
            assert_eq!(db.get(format!("z{n}").as_bytes()).await.unwrap(), None);
        }
        assert_eq!(reads(&machine), 0);
    });
}

/// Where index and filter are not held in memory, a lookup whose partition is not cached costs one read more; the next in
/// that partition costs one again.
#[test]
fn without_pinned_partitions_the_first_lookup_costs_two_reads_and_the_next_one() {
    let disk = compacted();
    // Half of the cache bounds what is pinned on the deepest level; next to none here.
    let most = with_open(&disk, 4 << 10, |machine, db| async move {
        let first_of_all = Cell::new(0);
        for number in (0..KEYS).step_by(300) {
            let before = reads(&machine);
            assert_eq!(db.get(&key(number * 2)).await.unwrap(), Some(value(number)));
            let cost = reads(&machine) - before;
            assert!((1..=2).contains(&cost), "key {number} cost {cost} reads");
            first_of_all.set(first_of_all.get().max(cost));
        }
        first_of_all.get()
    });
    assert_eq!(most, 2, "a table whose partitions are not pinned was met");
}

/// The reads of one batch are all under way before the first comes back: the batch takes about as long as one read.
#[test]
fn the_reads_of_one_batch_go_to_the_device_together() {
    let disk = compacted();
    let numbers: Vec<u32> = (0..KEYS).step_by(120).collect();
    let keys: Vec<_> = numbers.iter().map(|number| key(number * 2)).collect();
    let one_by_one = with_open(&disk, 1 << 20, |machine, db| {
        let keys = &keys;
        async move {
            let start = machine.core(0).now();
            for key in keys {
                db.get(key).await.unwrap().unwrap();
            }
            machine.core(0).now() - start
        }
    });
    let (together, cost, values) = with_open(&disk, 1 << 20, |machine, db| {
        let keys = &keys;
        async move {
            let start = machine.core(0).now();
            let values = db.multi_get(keys).await.unwrap();
            (machine.core(0).now() - start, reads(&machine), values)
        }
    });
    assert_eq!(cost, keys.len() as u64, "one read each");
    for (number, found) in numbers.iter().zip(values) {
        assert_eq!(found, Some(value(*number)));
    }
    // Virtual time: it follows from the seed alone.
    assert!(
        together * 4 < one_by_one,
        "together {together:?}, one by one {one_by_one:?}"
    );
}

/// A thousand lookups of long values on the device had all of their blocks in memory at once, however little they wanted
/// to know of each. Of these values two are more than there is room for, so each is read alone, and all are answered.
#[test]
fn huge_values_are_read_only_as_far_as_there_is_room_for_them() {
    const VALUES: u8 = 6;
    const VALUE_BYTES: usize = 33 << 20;
    let mut options = options(1 << 20);
    options.tuning.memtable_bytes = 2 * VALUE_BYTES;
    options.tuning.segment_bytes = 2 * VALUE_BYTES as u64;
    options.tuning.staged_bytes = 2 * VALUE_BYTES;
    options.tuning.table_bytes = 2 * VALUE_BYTES as u64;
    options.tuning.auto_compact = false;
    run(1, &SimDisk::new(), 1, |machine| async move {
        machine.set_step_limit(u64::MAX);
        let db = open(&machine, options).await.unwrap();
        for n in 0..VALUES {
            let (key, value) = ([n], vec![n; VALUE_BYTES]);
            db.put_with(&key, &value, Durability::Buffered).await.unwrap();
            db.flush().await.unwrap();
        }
        let start = machine.core(0).now();
        for n in 0..VALUES {
            db.look(&[n], |found| assert!(found.value.is_some()))
                .await
                .unwrap();
        }
        let one_by_one = machine.core(0).now() - start;
        machine.disk().reset_counts();
        let start = machine.core(0).now();
        let looks = (0..VALUES).map(|n| {
            let db = db.clone();
            async move { db.look(&[n], |found| found.value.map(<[u8]>::len)).await.unwrap() }
        });
        let lengths = futures_util::future::join_all(looks).await;
        let together = machine.core(0).now() - start;
        assert!(lengths.iter().all(|&length| length == Some(VALUE_BYTES)));
        assert_eq!(reads(&machine), u64::from(VALUES), "one read each");
        // Virtual time: it follows from the seed alone. All at once they took a fifth.
        assert!(
            together * 3 > one_by_one * 2,
            "together {together:?}, one by one {one_by_one:?}"
        );
        db.close().await.unwrap();
    })
    .unwrap();
}

/// An update stood in the line for huge values, and what it then read was of tables of before: every flush that was installed
/// meanwhile sent it to the end of the line again, until it gave up and was `Busy`. Now it looks into the tables that are
/// there when its turn has come.
#[test]
fn an_update_of_a_huge_value_stands_in_line_once_whatever_is_flushed_meanwhile() {
    const READERS: usize = 512;
    const VALUE_BYTES: usize = 80 << 10;
    let mut options = options(64 << 10);
    options.tuning.long_reads_bytes = 64 << 10;
    options.tuning.auto_compact = false;
    run(1, &SimDisk::new(), 1, |machine| async move {
        machine.set_step_limit(u64::MAX);
        let db = open(&machine, options).await.unwrap();
        db.put_with(b"huge", &vec![1; VALUE_BYTES], Durability::Buffered)
            .await
            .unwrap();
        db.flush().await.unwrap();
        let done = Cell::new(false);
        let (looks, before) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        // Each waits for its turn behind all others, and for so long that a flush is installed meanwhile.
        let readers = (0..READERS).map(|_| async {
            while !done.get() && looks.load(Ordering::Relaxed) < 4 * READERS {
                let looks = Arc::clone(&looks);
                let count = move |_: Found<'_>| looks.fetch_add(1, Ordering::Relaxed);
                db.look(b"huge", count).await.unwrap();
            }
        });
        let update = async {
            while looks.load(Ordering::Relaxed) == 0 {
                machine.core(0).sleep(std::time::Duration::from_micros(10)).await;
            }
            let (looks, decided) = (Arc::clone(&looks), Arc::clone(&before));
            let length = move |value: Option<&[u8]>| {
                decided.store(looks.load(Ordering::Relaxed), Ordering::Relaxed);
                (Decision::Put(b"short".to_vec()), value.map(<[u8]>::len))
            };
            assert_eq!(db.update(b"huge", length).await.unwrap(), Some(VALUE_BYTES));
            done.set(true);
        };
        let flushes = async {
            while !done.get() {
                db.put(b"other", b"value").await.unwrap();
                db.flush().await.unwrap();
            }
        };
        let readers = futures_util::future::join_all(readers);
        futures_util::future::join3(readers, update, flushes).await;
        let before = before.load(Ordering::Relaxed);
        assert!(before < READERS * 3 / 2, "{before} others were before it");
        db.close().await.unwrap();
    })
    .unwrap();
}

/// What is looked at may be far longer than what is wanted of it: a look that finds no room for a value had it read first.
#[test]
fn a_value_that_a_look_does_not_want_is_not_read() {
    const SHORT_BYTES: usize = 4 << 10;
    const LONG_BYTES: usize = 1 << 20;
    /// Looks at keys, and wants nothing that is long.
    #[derive(Clone)]
    struct Picky(Arc<AtomicUsize>);
    impl Look for Picky {
        fn wants(&mut self, block_bytes: usize) -> bool {
            assert!(
                (LONG_BYTES..LONG_BYTES + (64 << 10)).contains(&block_bytes),
                "{block_bytes}"
            );
            false
        }

        fn run(self: Box<Self>, found: Found<'_>) {
            let bytes = found.value.map_or(0, <[u8]>::len);
            self.0.fetch_add(bytes, Ordering::Relaxed);
        }
    }
    impl Service for Picky {
        async fn run<I: Io>(self, core: Core<I>) {
            let ops = [b"long", b"shrt", b"none"].map(|key| {
                let look = Box::new(self.clone());
                (
                    core.shard_of(key),
                    Op::Look {
                        key: key.to_vec(),
                        look: look as LookFn,
                    },
                )
            });
            let outcomes = core.execute(ops.into()).await;
            assert!(outcomes.iter().all(|outcome| matches!(outcome, Ok(Answer::Done))));
            core.closing().await;
        }
    }
    let mut options = options(64 << 10);
    options.tuning.memtable_bytes = 4 * LONG_BYTES;
    options.tuning.segment_bytes = 4 * LONG_BYTES as u64;
    options.tuning.staged_bytes = 4 * LONG_BYTES;
    let disk = SimDisk::new();
    let write_options = options.clone();
    run(1, &disk, 1, |machine| async move {
        machine.set_step_limit(u64::MAX);
        let db = open(&machine, write_options).await.unwrap();
        db.put(b"long", &vec![1; LONG_BYTES]).await.unwrap();
        db.put(b"shrt", &vec![1; SHORT_BYTES]).await.unwrap();
        db.flush().await.unwrap();
        db.close().await.unwrap();
    })
    .unwrap();
    run(1, &disk, 1, |machine| async move {
        machine.set_step_limit(u64::MAX);
        let (db, mut seats) = launch(Path::new(DIR), options).unwrap();
        let (io, seen) = (machine.core(0), Arc::new(AtomicUsize::new(0)));
        let seat = seats.pop().unwrap();
        io.clone()
            .spawn(Class::Foreground, seat.run(io.clone(), Picky(Arc::clone(&seen))));
        db.ready().await.unwrap();
        machine.disk().reset_counts();
        io.sleep(std::time::Duration::from_secs(1)).await;
        assert_eq!(
            seen.load(Ordering::Relaxed),
            SHORT_BYTES,
            "of the short one alone"
        );
        let read = machine.disk().count(Some("sst"), OpKind::Read);
        assert!(read.bytes < LONG_BYTES as u64, "{} bytes", read.bytes);
        db.close().await.unwrap();
    })
    .unwrap();
}

/// A batch of a thousand looks at what memory holds ran to its end before anybody else of the core had a turn, wherever it came
/// from.
#[test]
fn a_batch_of_looks_leaves_the_core_to_others_between_two() {
    const LOOKS: usize = 1000;
    /// Core after core looks at keys of the first one's shard.
    #[derive(Clone)]
    struct Looking {
        looked: Arc<AtomicUsize>,
        rounds: Arc<AtomicUsize>,
    }
    impl Service for Looking {
        async fn run<I: Io>(self, core: Core<I>) {
            while self.rounds.load(Ordering::Relaxed) != core.index() {
                core.io().sleep(std::time::Duration::from_millis(1)).await;
            }
            let keys = (0..u32::MAX).map(key).filter(|key| core.shard_of(key) == 0);
            let ops = keys.take(LOOKS).map(|key| {
                let looked = Arc::clone(&self.looked);
                let look = Box::new(move |_: Found<'_>| {
                    looked.fetch_add(1, Ordering::Relaxed);
                });
                (
                    0,
                    Op::Look {
                        key,
                        look: look as LookFn,
                    },
                )
            });
            let outcomes = core.execute(ops.collect()).await;
            assert!(outcomes.iter().all(|outcome| matches!(outcome, Ok(Answer::Done))));
            self.rounds.fetch_add(1, Ordering::Relaxed);
            core.closing().await;
        }
    }
    run(1, &SimDisk::new(), 2, |machine| async move {
        let (db, seats) = launch(Path::new(DIR), small(2, 2)).unwrap();
        let looking = Looking {
            looked: Arc::default(),
            rounds: Arc::default(),
        };
        for (core, seat) in seats.into_iter().enumerate() {
            let io = machine.core(core);
            io.clone().spawn(Class::Foreground, seat.run(io, looking.clone()));
        }
        db.ready().await.unwrap();
        // What a task of the first core sees of the looks that are done, of each round.
        let mut seen = [0, 0];
        loop {
            let looked = looking.looked.load(Ordering::Relaxed);
            if looked == 2 * LOOKS {
                break;
            }
            if !looked.is_multiple_of(LOOKS) {
                seen[looked / LOOKS] += 1;
            }
            machine.core(0).yield_now().await;
        }
        assert!(seen[0] > 0 && seen[1] > 0, "{seen:?}");
        db.close().await.unwrap();
    })
    .unwrap();
}
