//! Scans backwards are scans forwards, reversed: over random puts and deletes in memtables, immutables and every level,
//! as of now and of snapshots, for any range, page by page with every kind of limit, of one shard and of all.
//!
//! `CORELANE_SEED=n` replays exactly one seed, `CORELANE_SEEDS=n` runs so many.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::ops::{Bound, RangeBounds};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use corelane::api::{Answer, Batch, Core, Db, Durability, Op, Page, ScanRange, Service, Snapshot, launch};
use corelane::io::sim::{OpKind, Rng, SimDisk, run};
use corelane::io::{Class, Io};
use corelane_testing::{DIR, each_seed, small};

const SEEDS: u64 = 30;
/// Snapshots held at once.
const SNAPSHOTS: usize = 5;

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

/// Writes and compares on the core that owns the shards, so that requests with snapshots of their own can be sent.
#[derive(Clone)]
struct Compares {
    seed: u64,
    db: Arc<OnceLock<Db>>,
}

struct Comparing<I: Io> {
    core: Core<I>,
    db: Db,
    rng: Rng,
    now: Model,
    snapshots: Vec<(Snapshot, Model)>,
}

impl Service for Compares {
    async fn run<I: Io>(self, core: Core<I>) {
        while self.db.get().is_none() {
            core.io().sleep(Duration::from_millis(1)).await;
        }
        let mut comparing = Comparing {
            db: self.db.get().unwrap().clone(),
            core,
            rng: Rng::new(self.seed),
            now: Model::new(),
            snapshots: Vec::new(),
        };
        for _ in 0..40 {
            comparing.change().await;
            comparing.compare().await;
        }
    }
}

impl<I: Io> Comparing<I> {
    /// Few keys, so that versions abound; some share long prefixes, are prefixes of each other, or take a page.
    fn key(&mut self) -> Vec<u8> {
        let n = self.rng.below(40);
        match self.rng.below(6) {
            0 => vec![b'k'; usize::try_from(n).unwrap()],
            1 => [&[b'p'; 200][..], &n.to_be_bytes()].concat(),
            2 if n < 4 => [&vec![0xff; 5000][..], &n.to_be_bytes()].concat(),
            _ => format!("key{n:03}").into_bytes(),
        }
    }

    async fn change(&mut self) {
        for _ in 0..self.rng.between(1, 30) {
            let key = self.key();
            let mut batch = Batch::new();
            if self.rng.chance(1, 4) {
                batch.delete(&key).unwrap();
                self.now.remove(&key);
            } else {
                let most = *self.rng.pick(&[1, 300, 9000]);
                let mut value = vec![0; usize::try_from(self.rng.below(most)).unwrap()];
                self.rng.fill(&mut value);
                batch.put(&key, &value).unwrap();
                self.now.insert(key.clone(), value);
            }
            let durability = *self.rng.pick(&[Durability::Sync, Durability::None]);
            self.db.write(batch, durability).await.unwrap();
        }
        match self.rng.below(8) {
            0 | 1 => self.db.flush().await.unwrap(),
            2 => self.db.compact().await.unwrap(),
            3 | 4 => {
                let taken = (self.db.snapshot().unwrap(), self.now.clone());
                self.snapshots.push(taken);
                if self.snapshots.len() > SNAPSHOTS {
                    let oldest = self.rng.index(SNAPSHOTS);
                    self.snapshots.remove(oldest);
                }
            }
            // From then on a write takes the place of what it replaces, until the next snapshot.
            5 => self.snapshots.clear(),
            _ => {}
        }
    }

    fn bound(&mut self) -> Bound<Vec<u8>> {
        match self.rng.below(3) {
            0 => Bound::Unbounded,
            1 => Bound::Included(self.key()),
            _ => Bound::Excluded(self.key()),
        }
    }

    /// A random range, which may end before it starts.
    fn range(&mut self) -> ScanRange {
        ScanRange {
            start: self.bound(),
            end: self.bound(),
            reverse: self.rng.coin(),
            limit: *self.rng.pick(&[1, 2, 7, 1000]),
            bytes_limit: *self.rng.pick(&[1, 2000, usize::MAX]),
            keys_only: self.rng.chance(1, 4),
            at: None,
        }
    }

    async fn compare(&mut self) {
        for _ in 0..6 {
            let mut range = self.range();
            let mut model = &self.now;
            if let Some((snapshot, then)) = self.snapshots.get(self.rng.index(SNAPSHOTS + 1)) {
                range.at = Some(snapshot.sequence());
                model = then;
            }
            let whole = expected(model, &range);
            let mut together = Vec::new();
            for shard in 0..u16::try_from(self.core.shards()).unwrap() {
                let own = async |range| match self.core.execute_one(shard, Op::Scan(range)).await {
                    Ok(Answer::Page(page)) => page,
                    other => panic!("{other:?}"),
                };
                let found = pages(range.clone(), own).await;
                let of_shard = |entry: &&(Vec<u8>, _)| self.core.shard_of(&entry.0) == shard;
                assert!(found.iter().eq(whole.iter().filter(of_shard)), "{range:?}");
                together.extend(found);
            }
            assert_eq!(together.len(), whole.len());
            // Without a snapshot of the caller's, all shards are read as of one moment: now, when nobody writes.
            let now = expected(&self.now, &range);
            let all = async |range| self.core.scan(range).await.unwrap();
            assert!(pages(range.clone(), all).await == now, "{range:?}");
        }
        self.write_under_a_scan().await;
    }

    /// A page of one shard without a snapshot is as of when it was begun, whatever is written while it waits for the device.
    /// A key that is written again must not be missing from it because its older version was forgotten.
    async fn write_under_a_scan(&mut self) {
        let range = ScanRange {
            limit: 1000,
            bytes_limit: usize::MAX,
            ..self.range()
        };
        let (core, shard) = (self.core.clone(), 0);
        let mut page = Box::pin(core.execute_one(shard, Op::Scan(range.clone())));
        let begun = futures_lite::future::poll_once(page.as_mut()).await;
        let mut expected = expected(&self.now, &range);
        expected.retain(|(key, _)| self.core.shard_of(key) == shard);
        let page = match begun {
            Some(page) => page,
            None => {
                for (key, _) in expected.iter().step_by(3) {
                    self.db.put_with(key, b"again", Durability::None).await.unwrap();
                    self.now.insert(key.clone(), b"again".to_vec());
                }
                page.await
            }
        };
        match page {
            Ok(Answer::Page(page)) => assert!(page.entries.into_iter().eq(expected), "{range:?}"),
            other => panic!("{other:?}"),
        }
    }
}

fn expected(model: &Model, range: &ScanRange) -> Vec<(Vec<u8>, Vec<u8>)> {
    let bounds = (range.start.clone(), range.end.clone());
    let within = model.iter().filter(|(key, _)| bounds.contains(*key));
    let mut found: Vec<_> = within
        .map(|(key, value)| {
            (
                key.clone(),
                if range.keys_only {
                    Vec::new()
                } else {
                    value.clone()
                },
            )
        })
        .collect();
    if range.reverse {
        found.reverse();
    }
    found
}

/// A whole range, page by page, each within its limits.
async fn pages(mut range: ScanRange, read: impl AsyncFn(ScanRange) -> Page) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut found = Vec::new();
    loop {
        let page = read(range.clone()).await;
        assert!(page.entries.len() <= range.limit);
        found.extend(page.entries);
        match page.resume {
            Some(key) => {
                assert_eq!(found.last().map(|(last, _)| last), Some(&key));
                range.go_on_after(key);
            }
            None => return found,
        }
    }
}

fn compare(seed: u64) {
    let mut rng = Rng::new(seed ^ 0x7265_7665_7273_6500);
    let mut options = small(1, u16::try_from(rng.between(1, 4)).unwrap());
    options.cache_bytes = *rng.pick(&[0, 40_000, 4 << 20]);
    options.tuning.auto_compact = rng.chance(2, 3);
    run(seed, &SimDisk::new(), 1, |machine| async move {
        machine.set_step_limit(u64::MAX);
        let (db, mut seats) = launch(Path::new(DIR), options).unwrap();
        let handle = Arc::new(OnceLock::new());
        let service = Compares {
            seed,
            db: Arc::clone(&handle),
        };
        let (io, seat) = (machine.core(0), seats.pop().unwrap());
        let (end, ended) = oneshot::async_channel();
        io.clone().spawn(Class::Foreground, async move {
            seat.run(io, service).await;
            let _gone = end.send(());
        });
        db.ready().await.unwrap();
        assert!(handle.set(db.clone()).is_ok());
        // The service ends by itself; closing meanwhile would cut its writes off.
        while Arc::strong_count(&handle) > 1 {
            machine.core(0).sleep(Duration::from_millis(10)).await;
        }
        drop(handle);
        db.close().await.unwrap();
        ended.await.unwrap();
    })
    .expect("nothing cuts it");
}

#[test]
fn a_scan_backwards_is_the_same_scan_forwards_reversed() {
    each_seed(SEEDS, compare);
}

#[test]
fn a_scan_backwards_reads_only_tables_of_its_range_and_little_at_first() {
    run(3, &SimDisk::new(), 1, |machine| async move {
        machine.set_step_limit(u64::MAX);
        let mut options = small(1, 1);
        options.cache_bytes = 4 << 20;
        let db = corelane_testing::open(&machine, options).await.unwrap();
        let mut rng = Rng::new(3);
        let key = |n: u32| format!("key{n:05}").into_bytes();
        for n in 0..2000 {
            let mut value = vec![0; 500];
            rng.fill(&mut value);
            db.put_with(&key(n), &value, Durability::None).await.unwrap();
        }
        db.compact().await.unwrap();
        let reads = || machine.disk().count(Some("sst"), OpKind::Read);
        machine.disk().reset_counts();
        let end = key(1000);
        let page = |limit| db.scan_back(Bound::Unbounded, Bound::Excluded(&end), limit);
        assert_eq!(page(1).await.unwrap().entries.last().unwrap().0, key(999));
        // The block of the range's end may hold nothing below it; then two come before it.
        assert!((1..=2).contains(&reads().ops));
        assert!(reads().bytes <= 3 * 4096, "{} bytes", reads().bytes);
        machine.disk().reset_counts();
        let long = page(500).await.unwrap();
        assert!(
            long.entries
                .iter()
                .map(|(key, _)| key.to_vec())
                .eq((500..1000).rev().map(key))
        );
        let read = reads();
        assert!(
            read.ops < 30,
            "read-ahead: {} reads of {} bytes",
            read.ops,
            read.bytes
        );
        machine.disk().reset_counts();
        assert_eq!(page(500).await.unwrap(), long);
        assert_eq!(reads().ops, 0, "the blocks are in the cache");
        db.close().await.unwrap();
    })
    .expect("nothing cuts it");
}
