//! What a shard reports: each count moves by what it counts, and those of one thing agree with each other.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::ops::Bound;

use corelane::api::{Batch, Db, Durability, Options, ShardStats, StallCause};
use corelane::io::sim::{OpKind, Rng, SimDisk, run};
use corelane_testing::{open, small};
use futures_util::stream::{FuturesUnordered, StreamExt};

fn key(n: u32) -> Vec<u8> {
    format!("key{n:06}").into_bytes()
}

/// Values that do not compress.
fn value(n: u32, bytes: usize) -> Vec<u8> {
    let mut value = vec![0; bytes];
    Rng::new(u64::from(n)).fill(&mut value);
    value
}

async fn stats(db: &Db) -> ShardStats {
    db.stats().await.unwrap().shards.remove(0)
}

/// Even keys below twice `count`, merged until each has one place.
async fn fill(db: &Db, count: u32) {
    for chunk in (0..count).collect::<Vec<_>>().chunks(50) {
        let mut batch = Batch::new();
        for n in chunk {
            batch.put(&key(n * 2), &value(*n, 400)).unwrap();
        }
        db.write(batch, Durability::Buffered).await.unwrap();
    }
    db.compact().await.unwrap();
}

#[test]
fn groups_log_writes_flushes_and_merges_are_counted_with_their_times() {
    run(1, &SimDisk::new(), 1, |machine| async move {
        machine.set_step_limit(u64::MAX);
        let options = small(1, 1);
        let segment_bytes = options.tuning.segment_bytes;
        let db = open(&machine, options).await.unwrap();
        let puts = (0..500).map(|n| {
            let db = db.clone();
            async move { db.put(&key(n), &value(n, 300)).await.unwrap() }
        });
        puts.collect::<FuturesUnordered<_>>().collect::<Vec<_>>().await;
        // One batch that is longer than a segment, and so goes out in parts.
        db.put(b"large", &value(1, 200_000)).await.unwrap();
        db.compact().await.unwrap();
        // What is there lies in the way of this one's table, so that it is merged and not moved.
        db.put(&key(7), b"again").await.unwrap();
        db.compact().await.unwrap();
        let stats = stats(&db).await;
        assert_eq!(stats.wal_batches, 502);
        assert_eq!(stats.group_batches.sum(), stats.wal_batches);
        assert_eq!(stats.group_bytes.count(), stats.group_batches.count());
        assert!(stats.group_batches.count() < 300, "many went together");
        assert!(stats.group_batches.quantile(1.0) > 1);
        assert!(
            (200_000..stats.wal_bytes).contains(&stats.group_bytes.sum()),
            "seals are no groups"
        );
        assert_eq!(stats.wal_write_us.count(), stats.wal_writes);
        assert!(stats.wal_write_us.sum() > 0, "the device takes time");
        assert_eq!(stats.wal_disk_bytes, stats.wal_segments * segment_bytes);
        assert!(stats.flushes > 0 && stats.compactions > 0);
        assert_eq!(stats.flush_ms.count(), stats.flushes);
        assert_eq!(stats.compaction_ms.count(), stats.compactions);
        assert!(stats.flush_ms.sum() + stats.compaction_ms.sum() > 0);
        for shares in [stats.flush_shares, stats.level0_shares, stats.compaction_shares] {
            assert!((1..=1000).contains(&shares), "{shares}");
        }
        db.close().await.unwrap();
    })
    .unwrap();
}

#[test]
fn every_read_of_the_device_and_of_the_cache_is_counted() {
    const KEYS: u32 = 2000;
    let disk = SimDisk::new();
    let options = || {
        let mut options = small(1, 1);
        options.cache_bytes = 128 << 10;
        options
    };
    run(1, &disk, 1, |machine| async move {
        machine.set_step_limit(u64::MAX);
        let db = open(&machine, options()).await.unwrap();
        fill(&db, KEYS).await;
        db.close().await.unwrap();
    })
    .unwrap();
    run(2, &disk, 1, |machine| async move {
        machine.set_step_limit(u64::MAX);
        let db = open(&machine, options()).await.unwrap();
        let (before, read) = (stats(&db).await, || {
            machine.disk().count(Some("sst"), OpKind::Read).ops
        });
        machine.disk().reset_counts();
        for n in 0..KEYS {
            assert!(db.get(&key(n * 2)).await.unwrap().is_some());
        }
        let gets = stats(&db).await;
        let counted = gets.device_read_us.count() - before.device_read_us.count();
        assert_eq!(counted, read(), "each read by a lookup is one");
        assert!(gets.device_read_us.sum() > before.device_read_us.sum());
        assert!(gets.cache_hits > before.cache_hits && gets.cache_misses >= counted);
        assert!(gets.cache_inserted_bytes - before.cache_inserted_bytes > counted * 2000);
        assert!(gets.cache_evictions > 0, "the cache is smaller than the data");
        assert!(gets.cache_bytes <= gets.cache_capacity_bytes);
        assert_eq!(gets.cache_capacity_bytes, 128 << 10);
        for back in [false, true] {
            machine.disk().reset_counts();
            let before = stats(&db).await.device_read_us.count();
            let all = (Bound::Unbounded, Bound::Unbounded);
            let page = if back {
                db.scan_back(all.0, all.1, 1000).await.unwrap()
            } else {
                db.scan(all.0, all.1, 1000).await.unwrap()
            };
            assert_eq!(page.entries.len(), 1000);
            let counted = stats(&db).await.device_read_us.count() - before;
            // One wait may bring a partition and then a block.
            assert!(counted > 5 && counted <= read(), "{counted} of {}", read());
        }
        db.close().await.unwrap();
    })
    .unwrap();
}

/// Blocks looked into in vain were counted only where the device was asked for one, and what filters spare not at all.
#[test]
fn a_filter_is_right_or_wrong_once_for_each_absent_key() {
    run(1, &SimDisk::new(), 1, |machine| async move {
        machine.set_step_limit(u64::MAX);
        let mut options = small(1, 1);
        options.cache_bytes = 8 << 20;
        let db = open(&machine, options).await.unwrap();
        fill(&db, 2000).await;
        let counts = async || {
            let stats = stats(&db).await;
            (stats.filter_useful, stats.filter_false_positives)
        };
        let levels = stats(&db).await.level_tables;
        assert_eq!(
            levels.iter().filter(|&&tables| tables > 0).count(),
            1,
            "{levels:?}"
        );
        // Where one table ends and the next begins, their bounds rule out the key in between.
        let asked = 3 * (1999 - (levels.iter().sum::<u64>() - 1));
        let before = counts().await;
        for round in 0..3 {
            for n in 0..1999 {
                assert_eq!(db.get(&key(n * 2 + 1)).await.unwrap(), None, "round {round}");
            }
        }
        let after = counts().await;
        let (useful, in_vain) = (after.0 - before.0, after.1 - before.1);
        assert_eq!(useful + in_vain, asked);
        assert!(in_vain < asked / 20, "{in_vain} in vain");
        assert!(
            in_vain > 0 && in_vain % 3 == 0,
            "the same keys in each round: {in_vain}"
        );
        for n in 0..2000 {
            assert!(db.get(&key(n * 2)).await.unwrap().is_some());
        }
        assert_eq!(counts().await, after, "what is there was not looked for in vain");
        db.close().await.unwrap();
    })
    .unwrap();
}

/// The time that writers lost, by cause, under these options and this durability.
fn stalled(options: Options, durability: Durability, writers: u32, bytes: usize) -> ShardStats {
    run(1, &SimDisk::new(), 1, |machine| async move {
        machine.set_step_limit(u64::MAX);
        let db = open(&machine, options).await.unwrap();
        let puts = (0..writers).map(|n| {
            let db = db.clone();
            async move { db.put_with(&key(n), &value(n, bytes), durability).await.unwrap() }
        });
        puts.collect::<FuturesUnordered<_>>().collect::<Vec<_>>().await;
        let stats = stats(&db).await;
        db.close().await.unwrap();
        stats
    })
    .unwrap()
}

#[test]
fn the_time_that_writers_lose_is_told_by_what_they_wait_for() {
    let lost = |stats: &ShardStats, cause: StallCause| stats.stalled_us[cause as usize];
    let mut options = small(1, 1);
    options.tuning.staged_bytes = 16 << 10;
    options.tuning.memtable_bytes = 64 << 20;
    let log = stalled(options, Durability::Sync, 2000, 10);
    assert!(lost(&log, StallCause::Log) > 0);
    assert_eq!(log.stalled_us.iter().sum::<u64>(), lost(&log, StallCause::Log));

    let memtables = stalled(small(1, 1), Durability::None, 3000, 1000);
    assert!(
        lost(&memtables, StallCause::Memtables) > 0,
        "{:?}",
        memtables.stalled_us
    );
    let none = stalled(small(1, 1), Durability::Sync, 3, 10);
    assert_eq!(none.stalled_us, [0; StallCause::COUNT]);
}
