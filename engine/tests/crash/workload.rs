//! What is done to a database before the power goes: several tasks, each with its own keys, and counters they share.
//!
//! Memtables, segments and manifests are as small as they may be, so that a few hundred writes rotate, flush, merge,
//! switch and recycle segments and roll the manifest over. Every request is told to the [`Oracle`] before it is issued
//! and every answer at the place where it arrives.

use std::cell::RefCell;
use std::ops::Bound;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use corelane::api::{Batch, Db, Decision, Durability, Options};
use corelane::io::sim::{Rng, SimMachine};
use corelane::io::{Class, Io};
use corelane::{ErrorKind, Result};

use crate::oracle::{Content, Oracle};
use corelane_testing::small;

/// Far beyond what a seed lasts.
const YEAR_MS: u64 = 365 * 86_400_000;

/// The oracle as every task holds it.
pub type Shared = Rc<RefCell<Oracle>>;

/// How the database of one seed is made and used.
#[derive(Debug, Clone)]
pub struct Plan {
    pub shards: u16,
    pub cores: usize,
    pub tasks: usize,
    pub ops: u64,
    pub default: Durability,
    /// One operation in so many is a flush.
    pub flush_every: u64,
    /// One value in so many is larger than a segment.
    pub huge_every: u64,
    pub memtable_bytes: usize,
    pub segment_bytes: u64,
    pub buffered_bytes: usize,
}

impl Plan {
    pub fn draw(rng: &mut Rng) -> Self {
        Self {
            shards: *rng.pick(&[1, 1, 2, 3]),
            cores: *rng.pick(&[1, 2]),
            tasks: usize::try_from(rng.between(2, 5)).unwrap(),
            ops: *rng.pick(&[15, 30, 60]),
            default: *rng.pick(&[Durability::Sync, Durability::Sync, Durability::Buffered]),
            flush_every: *rng.pick(&[6, 12, 25, 1000]),
            huge_every: *rng.pick(&[15, 60, 1000]),
            memtable_bytes: *rng.pick(&[64 << 10, 128 << 10, 256 << 10, 16 << 20]),
            segment_bytes: *rng.pick(&[64 << 10, 64 << 10, 128 << 10]),
            buffered_bytes: *rng.pick(&[1, 4 << 10, 64 << 10]),
        }
    }

    pub fn options(&self, cores: usize) -> Options {
        let mut options = small(cores, self.shards);
        options.durability = self.default;
        options.tuning.memtable_bytes = self.memtable_bytes;
        options.tuning.segment_bytes = self.segment_bytes;
        options.tuning.buffered_bytes = self.buffered_bytes;
        options.tuning.manifest_bytes = 16 << 10;
        options
    }
}

/// Runs every task of the plan to its end.
pub async fn run(machine: &SimMachine, db: &Db, plan: &Plan, oracle: &Shared, rng: &mut Rng) {
    let mut ends = Vec::new();
    for number in 0..plan.tasks {
        let (end, ended) = oneshot::async_channel();
        ends.push(ended);
        let task = Task {
            number,
            db: db.clone(),
            plan: plan.clone(),
            oracle: Rc::clone(oracle),
            rng: rng.fork(),
            io: machine.core(number % machine.cores()),
        };
        let io = machine.core(number % machine.cores());
        io.spawn(Class::Foreground, async move {
            task.run().await;
            let _ = end.send(());
        });
    }
    for ended in ends {
        ended.await.expect("a task ends");
    }
}

struct Task<I> {
    number: usize,
    db: Db,
    plan: Plan,
    oracle: Shared,
    rng: Rng,
    io: I,
}

impl<I: Io> Task<I> {
    async fn run(mut self) {
        for op in 0..self.plan.ops {
            self.step(op).await.expect("nothing fails but the power");
            if self.rng.chance(1, 10) {
                let pause = Duration::from_micros(self.rng.between(1, 30_000));
                self.io.sleep(pause).await;
            }
        }
    }

    async fn step(&mut self, op: u64) -> Result<()> {
        if self.rng.chance(1, self.plan.flush_every) {
            return self.flush().await;
        }
        match self.rng.below(16) {
            0..8 => self.write_one(op).await,
            8..10 => self.batch(op).await,
            10..14 => self.increment().await,
            _ => self.read_back().await,
        }
    }

    fn key(&mut self) -> Vec<u8> {
        let (task, n) = (self.number, self.rng.below(10));
        match n {
            0 if task == 0 => Vec::new(),
            1 => format!("{}{task}", "prefix/".repeat(40)).into_bytes(),
            2..6 => format!("{{{task}}}/{n}").into_bytes(),
            _ => format!("key/{task}/{n}").into_bytes(),
        }
    }

    /// A value that no other write has, but for the few empty ones.
    fn value(&mut self, op: u64) -> Vec<u8> {
        let rng = &mut self.rng;
        let bytes = if rng.chance(1, self.plan.huge_every) {
            rng.between(60_000, 150_000)
        } else {
            match rng.below(12) {
                0 => 0,
                1..7 => rng.between(24, 500),
                7..10 => rng.between(500, 5_000),
                _ => rng.between(4_000, 16_000),
            }
        };
        let mut value = vec![0; usize::try_from(bytes).unwrap()];
        rng.fill(&mut value);
        if bytes > 0 {
            let head = format!("<{}.{op}.{:08x}>", self.number, rng.next_u64() as u32);
            value[..head.len()].copy_from_slice(head.as_bytes());
        }
        value
    }

    fn durability(&mut self) -> Durability {
        use Durability::{Buffered, None, Sync};
        *self.rng.pick(&[Sync, Sync, Buffered, Buffered, None])
    }

    async fn write_one(&mut self, op: u64) -> Result<()> {
        let (key, durability) = (self.key(), self.durability());
        let value = if self.rng.chance(1, 6) {
            None
        } else {
            Some(self.value(op))
        };
        let now_ms = self.io.wall_clock_ms();
        let mut batch = Batch::new();
        let seen = match value {
            // What has ended as it is written reads like what was deleted, and hides as much.
            Some(value) if self.rng.chance(1, 12) => {
                batch.put_until(&key, &value, now_ms - 1)?;
                None
            }
            Some(value) if self.rng.chance(1, 6) => {
                batch.put_until(&key, &value, now_ms + YEAR_MS)?;
                Some(value)
            }
            Some(value) => {
                batch.put(&key, &value)?;
                Some(value)
            }
            None => {
                batch.delete(&key)?;
                None
            }
        };
        let write = (key, seen);
        let number = self.oracle.borrow_mut().write_issued(&[write], durability);
        self.db.write(batch, durability).await?;
        self.oracle.borrow_mut().write_acked(number);
        Ok(())
    }

    async fn batch(&mut self, op: u64) -> Result<()> {
        let durability = self.durability();
        let (mut batch, mut ops) = (Batch::new(), Vec::new());
        for _ in 0..self.rng.between(2, 6) {
            let key = format!("{{{}}}/{}", self.number, self.rng.between(2, 9)).into_bytes();
            if self.rng.chance(1, 5) {
                batch.delete(&key)?;
                ops.push((key, None));
            } else {
                let value = self.value(op);
                batch.put(&key, &value)?;
                ops.push((key, Some(value)));
            }
        }
        if self.rng.chance(1, 3) {
            return self.transact(batch, ops).await;
        }
        let number = self.oracle.borrow_mut().write_issued(&ops, durability);
        self.db.write(batch, durability).await?;
        self.oracle.borrow_mut().write_acked(number);
        Ok(())
    }

    /// The same over the keys' present values, which only this task writes.
    async fn transact(&mut self, batch: Batch, ops: Vec<(Vec<u8>, Option<Vec<u8>>)>) -> Result<()> {
        let keys: Vec<_> = ops.iter().map(|(key, _)| key.clone()).collect();
        let newest = |key: &Vec<u8>| self.oracle.borrow().newest(key);
        let expected: Vec<_> = keys.iter().map(newest).collect();
        let durability = self.plan.default;
        let number = self.oracle.borrow_mut().write_issued(&ops, durability);
        let transaction = self.db.transact(&keys, move |found| {
            let values: Vec<_> = found
                .iter()
                .map(|found| found.value.map(<[u8]>::to_vec))
                .collect();
            (batch, values)
        });
        assert_eq!(
            transaction.await?,
            expected,
            "a transaction reads your own writes"
        );
        self.oracle.borrow_mut().write_acked(number);
        Ok(())
    }

    async fn increment(&mut self) -> Result<()> {
        let name = format!("counter/{}", self.rng.below(3)).into_bytes();
        let durability = self.plan.default;
        let number = self.oracle.borrow_mut().increment_issued(&name, durability);
        // The closure must be `Send`, so what it decides goes through a lock; it is read only on this thread.
        let decided = Arc::new(Mutex::new(None));
        let slot = Arc::clone(&decided);
        let increment = self.db.update(&name, move |old| {
            let next = old.map_or(0, |o| u64::from_le_bytes(o.try_into().unwrap())) + 1;
            *slot.lock().unwrap() = Some(next);
            (Decision::Put(next.to_le_bytes().to_vec()), next)
        });
        let watch = Watch {
            decided,
            oracle: &self.oracle,
            name: &name,
            number,
        };
        let made = increment.await?;
        assert_eq!(Some(made), *watch.decided.lock().unwrap());
        drop(watch);
        self.oracle.borrow_mut().increment_acked(&name, number);
        Ok(())
    }

    /// The one writer of a key reads what he wrote last.
    async fn read_back(&mut self) -> Result<()> {
        let key = self.key();
        let expected = self.oracle.borrow().newest(&key);
        assert_eq!(self.db.get(&key).await?, expected, "read your own write");
        Ok(())
    }

    async fn flush(&mut self) -> Result<()> {
        let issued = self.oracle.borrow_mut().tick();
        if self.rng.chance(1, 4) {
            self.db.compact().await?;
        } else {
            self.db.flush().await?;
        }
        self.oracle.borrow_mut().flush_acked(issued);
        Ok(())
    }
}

/// Tells the oracle what an increment decided, also when the machine ends before the answer.
struct Watch<'a> {
    decided: Arc<Mutex<Option<u64>>>,
    oracle: &'a Shared,
    name: &'a [u8],
    number: usize,
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        if let Some(value) = *self.decided.lock().unwrap() {
            self.oracle
                .borrow_mut()
                .increment_decided(self.name, self.number, value);
        }
    }
}

/// Reads everything: a scan in pages, and each key by itself, which must agree.
pub async fn read_all(db: &Db, names: &[Vec<u8>], page: usize) -> std::result::Result<Content, String> {
    let mut found = Content::new();
    let mut start = None;
    loop {
        let from = start
            .as_ref()
            .map_or(Bound::Unbounded, |key: &Vec<u8>| Bound::Excluded(&key[..]));
        let part = db
            .scan(from, Bound::Unbounded, page)
            .await
            .map_err(|e| format!("scanning: {e}"))?;
        for (key, value) in part.entries {
            if found.last_key_value().is_some_and(|(last, _)| *last >= key) {
                return Err("a scan goes backwards".to_owned());
            }
            found.insert(key, value);
        }
        match part.resume {
            Some(key) => start = Some(key),
            None => break,
        }
    }
    let values = db.multi_get(names).await.map_err(|e| format!("reading: {e}"))?;
    for (name, value) in names.iter().zip(values) {
        if value.as_ref() != found.get(name) {
            return Err(format!(
                "a get of {} differs from the scan",
                crate::oracle::show(name)
            ));
        }
    }
    Ok(found)
}

/// Whether this error may follow from nothing but a power cut; none may.
pub fn complain(doing: &str, error: &corelane::Error) -> String {
    let what = match error.kind() {
        ErrorKind::Corruption => "corruption reported",
        _ => "failed",
    };
    format!("{doing}: {what}: {error}")
}
