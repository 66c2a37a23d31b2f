//! Durable writes of many callers at once, against a plain loop that writes groups of the same sizes.
//!
//! The engine tells of its log how many groups lay in each range of sizes, and their bytes together. The plain loop draws
//! from these: so it writes as many groups of each range, and as many bytes, into a file of zeros that was synced before, one
//! at a time as the log does. What the engine has more to do is all that differs: frames, memtable, callers.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use corelane::api::{Batch, Core, Db, Durability, Op, Runtime, Service, ShardStats};
use corelane::io::Io;
use corelane::io::cores::available_cores;

use crate::callers;
use crate::latencies::Latencies;

pub const CALLERS: usize = 64;
const VALUE_BYTES: usize = 400;
const PAGE_BYTES: u64 = 4096;

/// The sizes of the groups of a log, and how many writes were in one.
#[derive(Clone, Default)]
pub struct Groups {
    /// Smallest and largest size in pages, and how many groups lay between.
    ranges: Vec<(u64, u64, u64)>,
    groups: u64,
    /// How far from the smallest to the largest size of their range groups are, so that their bytes add up.
    reach: f64,
    /// Writes of a group.
    pub writes: f64,
}

impl Groups {
    fn of(stats: &ShardStats) -> Self {
        let (mut ranges, mut below) = (Vec::new(), 0);
        for (bound, count) in stats.group_bytes.buckets() {
            let bound = bound.unwrap_or(below * 2);
            if count > 0 {
                ranges.push((below / PAGE_BYTES + 1, (bound / PAGE_BYTES).max(1), count));
            }
            below = bound;
        }
        let sum = |pages: fn(&(u64, u64, u64)) -> u64| ranges.iter().map(pages).sum::<u64>() as f64;
        let (least, most) = (sum(|r| r.0 * r.2), sum(|r| r.1 * r.2));
        let pages = (stats.group_bytes.sum() / PAGE_BYTES) as f64;
        let groups = stats.group_bytes.count();
        Self {
            reach: if most > least {
                (pages - least) / (most - least)
            } else {
                0.0
            },
            writes: stats.group_batches.sum() as f64 / groups as f64,
            ranges,
            groups,
        }
    }

    /// Those of so many writes, whose groups are counted by their pages.
    pub fn of_sizes(sizes: &BTreeMap<u64, u64>, writes: u64) -> Self {
        let groups = sizes.values().sum();
        Self {
            ranges: sizes
                .iter()
                .map(|(&pages, &count)| (pages, pages, count))
                .collect(),
            groups,
            reach: 0.0,
            writes: writes as f64 / groups as f64,
        }
    }

    /// The size of the next group in pages.
    pub fn next_pages(&self, state: &mut u64) -> u64 {
        let mut random = || {
            *state ^= *state << 13;
            *state ^= *state >> 7;
            *state ^= *state << 17;
            *state
        };
        let mut place = random() % self.groups;
        let range = self.ranges.iter().find(|(_, _, count)| {
            let inside = place < *count;
            place = place.saturating_sub(*count);
            inside
        });
        let (least, most, _) = *range.unwrap();
        let exact = (most - least) as f64 * self.reach;
        let up = (random() % 1000) as f64 / 1000.0 < exact.fract();
        (least + exact as u64 + u64::from(up)).min(most)
    }

    /// Sizes and writes of the groups, in words.
    pub fn words(&self) -> String {
        let ranges: Vec<String> = self
            .ranges
            .iter()
            .map(|(least, most, count)| format!("{count} of {least} to {most} pages"))
            .collect();
        format!("{:.1} writes a group; {}", self.writes, ranges.join(", "))
    }
}

/// The callers, as a service of the only core.
#[derive(Clone)]
struct Callers {
    length: Duration,
    measured: Arc<Mutex<Latencies>>,
    done: mpsc::Sender<()>,
}

impl Service for Callers {
    async fn run<I: Io>(self, core: Core<I>) {
        let puts = callers::run(core.io(), CALLERS, self.length, |caller| {
            let (core, mut number) = (core.clone(), 0);
            async move || {
                number += 1;
                put(&core, caller as u64, number).await;
            }
        });
        *self.measured.lock().unwrap() = puts.await;
        self.done.send(()).unwrap();
    }
}

async fn put<I: Io>(core: &Core<I>, caller: u64, number: u64) {
    // A bijection that scatters: keys come in no order, and none twice.
    let mixed = (caller << 48 | number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut key = [0; 16];
    key[..8].copy_from_slice(&mixed.to_be_bytes());
    key[8..].copy_from_slice(&number.to_be_bytes());
    let mut batch = Batch::new();
    batch.put(&key, &[7; VALUE_BYTES]).unwrap();
    let durability = Durability::Sync;
    core.execute_one(0, Op::Write { batch, durability })
        .await
        .unwrap();
}

/// Durable puts on a new database of one shard on one core; what they took, and the groups that they went out in.
pub fn engine(runtime: Runtime, dir: &Path, length: Duration) -> (Latencies, Groups) {
    let (measured, (done, wait)) = (Arc::default(), mpsc::channel());
    let callers = Callers {
        length,
        measured: Arc::clone(&measured),
        done,
    };
    let dir = tempfile::tempdir_in(dir).unwrap();
    let db = Db::builder(dir.path().join("db"))
        .cores(vec![available_cores()[0]])
        .shards(1)
        .runtime(runtime)
        .service(callers)
        .open_blocking()
        .unwrap();
    wait.recv().unwrap();
    let stats = db.blocking().stats().unwrap();
    db.blocking().close().unwrap();
    let groups = Groups::of(&stats.shards[0]);
    (std::mem::take(&mut *measured.lock().unwrap()), groups)
}
