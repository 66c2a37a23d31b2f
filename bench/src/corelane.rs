//! The engine, in two ways: callers as tasks on the shards' own cores (a [`Service`]), and threads through the handle.
//!
//! Callers on a core ask for keys of that core's shards alone, as the connections of a server that routes by slot do;
//! scans cross all shards. Threads ask for any key.

use std::ops::Bound;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use corelane::api::{Answer, Batch, Core, Db, Durability, Op, ScanRange, Service, Stats};
use corelane::io::mailbox::{Receiver, Sender, mailbox};
use corelane::io::{Class, Io};

use crate::options::Setup;
use crate::workload::{Caller, Client, Key, Phase, Sweep, Tally, Values, Work, fresh_seed, run_caller};

/// One core's part of a phase.
struct Command {
    work: Work,
    callers: u64,
    seed: u64,
    values: Values,
    limit: Duration,
    reply: mpsc::Sender<Result<Tally, String>>,
}

/// Runs callers on each core, as it is told through that core's mailbox.
#[derive(Clone)]
struct Callers(Arc<Mutex<Vec<Option<Receiver<Command>>>>>);

impl Service for Callers {
    async fn run<I: Io>(self, core: Core<I>) {
        let own = self.0.lock().unwrap_or_else(PoisonError::into_inner)[core.index()].take();
        let mut commands = own.expect("each core runs the service once");
        let mut batch = Vec::new();
        // It ends when the bench drops its senders.
        while commands.recv_batch(&mut batch, 1).await > 0 {
            for command in batch.drain(..) {
                begin(&core, &command);
            }
        }
    }
}

fn begin<I: Io>(core: &Core<I>, command: &Command) {
    for number in 0..command.callers {
        let caller = Caller {
            number,
            of: command.callers,
            seed: command.seed + number,
        };
        let (work, values, limit) = (command.work.clone(), command.values, command.limit);
        let (client, reply) = (OnCore(core.clone()), command.reply.clone());
        core.io().spawn(Class::Foreground, async move {
            let tally = run_caller(&client, &work, caller, values, limit).await;
            // The bench waits for every caller; where it has given up on an error, this one is not missed.
            let _gone = reply.send(tally);
        });
    }
}

/// The engine as a caller on one of its cores sees it.
struct OnCore<I: Io>(Core<I>);

impl<I: Io> OnCore<I> {
    async fn ask(&self, key: &Key, op: Op) -> Result<Answer, String> {
        let outcomes = self.0.execute(vec![(self.0.shard_of(key), op)]).await;
        let outcome = outcomes.into_iter().next().expect("one request has one outcome");
        outcome.map_err(|e| e.to_string())
    }
}

impl<I: Io> Client for OnCore<I> {
    fn owns(&self, key: &Key) -> bool {
        self.0.core_of(self.0.shard_of(key)) == self.0.index()
    }

    async fn put(&self, key: &Key, value: &[u8], durable: bool) -> Result<(), String> {
        let mut batch = Batch::new();
        batch.put(key, value).map_err(|e| e.to_string())?;
        let op = Op::Write {
            batch,
            durability: durability(durable),
        };
        self.ask(key, op).await.map(|_| ())
    }

    async fn get(&self, key: &Key, mut check: impl FnMut(Option<&[u8]>) -> bool) -> Result<bool, String> {
        if let Some(right) = self.0.get_resident(key, &mut check) {
            return Ok(right);
        }
        match self
            .ask(
                key,
                Op::Get {
                    key: key.to_vec(),
                    at: None,
                },
            )
            .await?
        {
            Answer::Value(value) => Ok(check(value.as_deref())),
            other => Err(format!("a get was answered by {other:?}")),
        }
    }

    async fn scan(
        &self,
        start: &Key,
        limit: usize,
        mut visit: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<bool, String> {
        let range = ScanRange {
            start: Bound::Included(start.to_vec()),
            end: Bound::Unbounded,
            limit,
            bytes_limit: usize::MAX,
            keys_only: false,
            at: None,
        };
        let page = self.0.scan(range).await.map_err(|e| e.to_string())?;
        Ok(page.entries.iter().all(|(key, value)| visit(key, value)))
    }

    async fn breathe(&self) {
        if self.0.io().should_yield() {
            self.0.io().yield_now().await;
        }
    }
}

fn durability(durable: bool) -> Durability {
    if durable {
        Durability::Sync
    } else {
        Durability::Buffered
    }
}

/// The engine as a thread sees it.
pub struct Handle(Db);

impl Client for Handle {
    fn owns(&self, _key: &Key) -> bool {
        true
    }

    async fn put(&self, key: &Key, value: &[u8], durable: bool) -> Result<(), String> {
        let batch = || -> corelane::Result<Batch> {
            let mut batch = Batch::new();
            batch.put(key, value)?;
            Ok(batch)
        };
        batch()
            .and_then(|batch| self.0.blocking().write(batch, durability(durable)))
            .map_err(|e| e.to_string())
    }

    async fn get(&self, key: &Key, mut check: impl FnMut(Option<&[u8]>) -> bool) -> Result<bool, String> {
        self.0
            .blocking()
            .get(key)
            .map(|value| check(value.as_deref()))
            .map_err(|e| e.to_string())
    }

    async fn scan(
        &self,
        start: &Key,
        limit: usize,
        mut visit: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<bool, String> {
        let page = self
            .0
            .blocking()
            .scan(Bound::Included(start), Bound::Unbounded, limit);
        let page = page.map_err(|e| e.to_string())?;
        Ok(page.entries.iter().all(|(key, value)| visit(key, value)))
    }

    async fn breathe(&self) {}
}

/// An open database with callers on its cores.
pub struct Corelane {
    db: Db,
    cores: Vec<Sender<Command>>,
    values: Values,
}

/// Commands that may wait for one core; the bench sends one and waits.
const COMMANDS: usize = 4;
/// The tree is at rest once nothing was flushed or merged for so long.
const REST: Duration = Duration::from_millis(500);
/// A tree that is not at rest by then never will be.
const REST_LIMIT: Duration = Duration::from_secs(600);
/// Callers end so soon after their time, or something has hung.
const GRACE: Duration = Duration::from_secs(60);
/// No phase takes longer, also one that is bound by its work.
const PHASE_LIMIT: Duration = Duration::from_secs(1800);

impl Corelane {
    /// Creates a database in `dir` with a shard on each of the first `shards` cores.
    ///
    /// # Errors
    /// The engine's.
    pub fn open(dir: &Path, shards: u16, setup: &Setup) -> Result<Self, String> {
        let (cores, receivers): (Vec<_>, Vec<_>) = (0..shards)
            .map(|_| mailbox(COMMANDS))
            .map(|(sender, receiver)| (sender, Some(receiver)))
            .unzip();
        let db = Db::builder(dir.join("db"))
            .cores((0..usize::from(shards)).collect())
            .shards(shards)
            .cache_bytes(setup.cache_bytes)
            .memtable_bytes(setup.memtable_bytes)
            .spin(setup.spin)
            .service(Callers(Arc::new(Mutex::new(receivers))))
            .open_blocking();
        Ok(Self {
            db: db.map_err(|e| e.to_string())?,
            cores,
            values: setup.values,
        })
    }

    /// Runs `callers` as tasks, spread evenly over the cores.
    ///
    /// # Errors
    /// The first caller's, or that some never ended.
    pub fn run(&self, work: &Work, callers: usize, limit: Duration) -> Result<Phase, String> {
        let (reply, replies) = mpsc::channel();
        let cores = self.cores.len();
        let first_seed = fresh_seed();
        let start = Instant::now();
        for (number, core) in self.cores.iter().enumerate() {
            let command = Command {
                work: work.clone(),
                callers: (callers / cores + usize::from(number < callers % cores)) as u64,
                seed: first_seed + ((number as u64) << 16),
                values: self.values,
                limit,
                reply: reply.clone(),
            };
            core.send_blocking(command)
                .map_err(|_| "a core has ended".to_owned())?;
        }
        drop(reply);
        let mut tally = Tally::new();
        let mut heard = 0;
        while heard < callers {
            let left = limit
                .saturating_add(GRACE)
                .min(PHASE_LIMIT)
                .saturating_sub(start.elapsed());
            let part = replies.recv_timeout(left);
            tally.merge(&part.map_err(|e| format!("{heard} of {callers} callers ended, then: {e}"))??);
            heard += 1;
        }
        Ok(Phase {
            tally,
            elapsed: start.elapsed(),
        })
    }

    /// The database as threads see it.
    pub fn handle(&self) -> Handle {
        Handle(self.db.clone())
    }

    /// Counters and gauges of every shard.
    ///
    /// # Errors
    /// The engine's.
    pub fn stats(&self) -> Result<Stats, String> {
        self.db.blocking().stats().map_err(|e| e.to_string())
    }

    /// Flushes, then waits until nothing is left to compact.
    ///
    /// # Errors
    /// The engine's, or that it never came to rest.
    pub fn settle(&self) -> Result<(), String> {
        self.db.blocking().flush().map_err(|e| e.to_string())?;
        let start = Instant::now();
        let (mut last, mut since) = ((0, 0), start);
        while start.elapsed() < REST_LIMIT {
            let stats = self.stats()?;
            let sum = |of: fn(&corelane::api::ShardStats) -> u64| stats.shards.iter().map(of).sum::<u64>();
            let jobs = (
                sum(|s| s.flushes + s.compactions + s.moves),
                sum(|s| s.job_failures),
            );
            if sum(|s| s.compaction_debt_bytes + s.immutables) > 0 || jobs != last {
                (last, since) = (jobs, Instant::now());
            } else if since.elapsed() >= REST {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err("compaction has not come to rest in ten minutes".to_owned())
    }

    /// Walks the whole database and checks every entry, and that there are `written` of them.
    ///
    /// # Errors
    /// The engine's, or what is wrong.
    pub fn sweep(&self, written: u64) -> Result<(), String> {
        let mut sweep = Sweep::new(self.values);
        let mut resume: Option<Vec<u8>> = None;
        loop {
            let start = resume.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
            let page = self
                .db
                .blocking()
                .scan(start, Bound::Unbounded, 1000)
                .map_err(|e| e.to_string())?;
            for (key, value) in &page.entries {
                sweep.visit(key, value)?;
            }
            resume = page.resume;
            if resume.is_none() {
                return sweep.finish(written);
            }
        }
    }

    /// Ends the callers' service and closes the database.
    ///
    /// # Errors
    /// The engine's.
    pub fn close(self) -> Result<(), String> {
        drop(self.cores);
        self.db.blocking().close().map_err(|e| e.to_string())
    }
}
