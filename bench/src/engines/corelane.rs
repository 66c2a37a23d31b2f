//! The engine itself, in two ways: `corelane`, callers as tasks on the shards' own cores, as a server's connections are;
//! and `corelane-handle`, callers as threads outside, as an embedder's are.
//!
//! On the cores, as many callers as there are cores share as many streams, and each takes the operations whose keys its
//! core owns: the routing that a cluster-aware client does. Callers left over (one caller on two cores) ask for every key,
//! over a message to the other core where need be. Scans cross all shards either way.

use std::ops::Bound;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use corelane::api::{Answer, Batch, Core, Db, Op, Runtime, ScanRange, Service, ShardStats, Stats};
use corelane::io::mailbox::{Receiver, Sender, mailbox};
use corelane::io::{Class, Io};

use crate::engines::rest::Rest;
use crate::engines::{Client, Counters, Engine, Fairness, Visit, on_threads};
use crate::error::{BenchError, Kind};
use crate::load::caller;
use crate::load::job::{Caller, Job};
use crate::spec::{Durability, EngineOptions};

/// Commands that may wait for one core; the bench sends a phase's callers and waits.
const COMMANDS: usize = 4;
/// Callers end so soon after their time, or something has hung.
const GRACE: Duration = Duration::from_secs(120);
/// No phase takes longer, also one that is bound by its operations.
const PHASE_LIMIT: Duration = Duration::from_secs(24 * 3600);
/// Entries of a page when the whole database is walked.
const PAGE_ENTRIES: usize = 1000;

/// One core's callers of a phase.
struct Command {
    job: Arc<Job>,
    callers: Vec<(Caller, bool)>,
    reply: mpsc::Sender<Result<(), BenchError>>,
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
                begin(&core, command);
            }
        }
    }
}

fn begin<I: Io>(core: &Core<I>, command: Command) {
    for (who, owned_only) in command.callers {
        let client = OnCore {
            core: core.clone(),
            owned_only,
        };
        let (job, reply) = (Arc::clone(&command.job), command.reply.clone());
        core.io().spawn(Class::Foreground, async move {
            let result = caller::run(&client, &job, who).await;
            // The bench waits for every caller; where it has given up on an error, this one is not missed.
            let _gone = reply.send(result);
        });
    }
}

/// An open database.
pub struct Corelane {
    // Dropped first: a database whose last handle is dropped waits for its services, and they for these.
    cores: Vec<Sender<Command>>,
    db: Db,
    on_shard: bool,
    fairness: Fairness,
}

impl Corelane {
    /// Creates a database in `dir`, with a shard on each of the first cores, which `runtime` carries; `on_shard`: callers run on
    /// them.
    ///
    /// # Errors
    /// The engine's.
    pub fn open(
        dir: &Path,
        options: &EngineOptions,
        runtime: Runtime,
        on_shard: bool,
    ) -> Result<Self, BenchError> {
        let shards = options.cores;
        let (cores, receivers): (Vec<_>, Vec<_>) = (0..shards)
            .map(|_| mailbox(COMMANDS))
            .map(|(sender, receiver)| (sender, Some(receiver)))
            .unzip();
        let bytes = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        let db = Db::builder(dir)
            .cores((0..usize::from(shards)).collect())
            .shards(shards)
            .runtime(runtime)
            .cache_bytes(bytes(options.cache_bytes))
            .memtable_bytes(bytes(options.memtable_bytes / u64::from(shards)))
            .service(Callers(Arc::new(Mutex::new(receivers))))
            .open_blocking()
            .map_err(|e| BenchError::new(Kind::Open, format!("opening corelane: {e}")))?;
        // What was taken, not what was asked for.
        let taken = db.runtime().map_or(runtime, |choice| choice.runtime);
        Ok(Self {
            cores,
            db,
            on_shard,
            fairness: fairness(options, taken, on_shard),
        })
    }

    fn stats(&self) -> Result<Stats, BenchError> {
        let stats = self.db.blocking().stats();
        stats.map_err(|e| BenchError::engine("asking corelane for its statistics", e))
    }

    fn run_on_cores(&self, job: &Arc<Job>) -> Result<(), BenchError> {
        let (reply, replies) = mpsc::channel();
        let mut waiting = 0;
        for (number, callers) in place(job, self.cores.len()).into_iter().enumerate() {
            waiting += callers.len();
            let command = Command {
                job: Arc::clone(job),
                callers,
                reply: reply.clone(),
            };
            let sent = self.cores[number].send_blocking(command);
            sent.map_err(|_| BenchError::engine("running callers", "a core of corelane has ended"))?;
        }
        drop(reply);
        let start = Instant::now();
        let limit = job.deadline().map_or(PHASE_LIMIT, |deadline| {
            deadline.saturating_duration_since(start) + GRACE
        });
        let mut result = Ok(());
        for heard in 0..waiting {
            let left = limit.saturating_sub(start.elapsed());
            let ended = replies.recv_timeout(left).map_err(|e| {
                let words = format!("{heard} of {waiting} callers ended, then none for {limit:?}: {e}");
                BenchError::engine("waiting for callers", words)
            })?;
            result = result.and(ended);
        }
        result
    }
}

/// The callers of each core, and whether they take their own core's keys alone.
fn place(job: &Job, cores: usize) -> Vec<Vec<(Caller, bool)>> {
    let mut placed: Vec<Vec<(Caller, bool)>> = (0..cores).map(|_| Vec::new()).collect();
    let width = u32::try_from(cores).expect("a machine has few cores");
    for (group, what) in job.phase().groups.iter().enumerate() {
        let streams = what.load.callers();
        let whole = streams / width * width;
        for first_stream in (0..whole).step_by(cores) {
            let who = Caller {
                group,
                first_stream,
                streams: width,
            };
            placed.iter_mut().for_each(|core| core.push((who, true)));
        }
        for (core, stream) in (whole..streams).enumerate() {
            let who = Caller {
                group,
                first_stream: stream,
                streams: 1,
            };
            placed[core].push((who, false));
        }
    }
    placed
}

impl Engine for Corelane {
    fn fairness(&self) -> &Fairness {
        &self.fairness
    }

    fn run(&self, job: &Arc<Job>) -> Result<(), BenchError> {
        if self.on_shard {
            self.run_on_cores(job)
        } else {
            on_threads(job, || Ok(Handle(self.db.clone())))
        }
    }

    fn counters(&self) -> Counters {
        let Ok(stats) = self.stats() else {
            return Counters::default();
        };
        let sum = |of: fn(&ShardStats) -> u64| Some(stats.shards.iter().map(of).sum::<u64>());
        Counters {
            user_bytes: sum(|s| s.user_bytes),
            log_bytes: sum(|s| s.wal_bytes),
            log_writes: sum(|s| s.wal_writes),
            log_batches: sum(|s| s.wal_batches),
            flush_bytes: sum(|s| s.flush_bytes),
            compaction_bytes: sum(|s| s.compaction_written_bytes),
            compactions: sum(|s| s.compactions),
            debt_bytes: sum(|s| s.compaction_debt_bytes),
            table_bytes: sum(ShardStats::table_bytes),
            block_reads: sum(|s| s.block_reads),
            delayed_us: sum(|s| s.delayed_us),
        }
    }

    fn settle(&self) -> Result<(), BenchError> {
        let flushed = self.db.blocking().flush();
        flushed.map_err(|e| BenchError::engine("flushing corelane", e))?;
        let mut rest = Rest::new("corelane");
        loop {
            let stats = self.stats()?;
            let sum = |of: fn(&ShardStats) -> u64| stats.shards.iter().map(of).sum::<u64>();
            let done = sum(|s| s.flushes + s.compactions + s.moves + s.job_failures);
            if rest.reached(sum(|s| s.compaction_debt_bytes + s.immutables) > 0, done)? {
                return Ok(());
            }
        }
    }

    fn walk(&self, visit: &mut Visit<'_>) -> Result<(), BenchError> {
        let mut resume: Option<Vec<u8>> = None;
        loop {
            let start = resume.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
            let page = self.db.blocking().scan(start, Bound::Unbounded, PAGE_ENTRIES);
            let page = page.map_err(|e| BenchError::engine("walking corelane", e))?;
            for (key, value) in page.entries.iter() {
                visit(key, value)?;
            }
            resume = page.resume;
            if resume.is_none() {
                return Ok(());
            }
        }
    }

    fn close(self: Box<Self>) -> Result<(), BenchError> {
        drop(self.cores);
        let closed = self.db.blocking().close();
        closed.map_err(|e| BenchError::engine("closing corelane", e))
    }
}

fn fairness(options: &EngineOptions, runtime: Runtime, on_shard: bool) -> Fairness {
    let callers = if on_shard {
        "callers on the cores"
    } else {
        "callers on threads of their own"
    };
    Fairness {
        engine: format!("corelane {}", env!("CARGO_PKG_VERSION")),
        durability: "sync: one O_DSYNC write a group; buffered: on disk within 20 ms or 512 KiB".to_owned(),
        io: "direct".to_owned(),
        cache_bytes: Some(options.cache_bytes),
        memtable_bytes: Some(options.memtable_bytes),
        compression: "none in level 0, LZ4 below".to_owned(),
        threads: format!("{} pinned executors of {runtime}, {callers}", options.cores),
        cores: format!("{}, pinned", options.cores),
        choices: vec!["none: the defaults, with the run's cache, memtables and cores".to_owned()],
    }
}

fn durability(durability: Durability) -> corelane::api::Durability {
    match durability {
        Durability::Sync => corelane::api::Durability::Sync,
        Durability::Buffered => corelane::api::Durability::Buffered,
    }
}

fn put_batch(key: &[u8], value: &[u8]) -> Result<Batch, BenchError> {
    let mut batch = Batch::new();
    batch
        .put(key, value)
        .map_err(|e| BenchError::engine("putting", e))?;
    Ok(batch)
}

fn delete_batch(key: &[u8]) -> Result<Batch, BenchError> {
    let mut batch = Batch::new();
    batch.delete(key).map_err(|e| BenchError::engine("deleting", e))?;
    Ok(batch)
}

/// The engine as a caller on one of its cores sees it.
struct OnCore<I: Io> {
    core: Core<I>,
    owned_only: bool,
}

impl<I: Io> OnCore<I> {
    async fn ask(&self, key: &[u8], op: Op) -> corelane::Result<Answer> {
        self.core.execute_one(self.core.shard_of(key), op).await
    }

    async fn write(&self, key: &[u8], batch: Batch, wanted: Durability) -> corelane::Result<()> {
        let op = Op::Write {
            batch,
            durability: durability(wanted),
        };
        self.ask(key, op).await.map(|_answer| ())
    }
}

impl<I: Io> Client for OnCore<I> {
    #[inline]
    fn owns(&self, key: &[u8]) -> bool {
        !self.owned_only || self.core.core_of(self.core.shard_of(key)) == self.core.index()
    }

    async fn put(&self, key: &[u8], value: &[u8], durability: Durability) -> Result<(), BenchError> {
        let done = self.write(key, put_batch(key, value)?, durability).await;
        done.map_err(|e| BenchError::engine("putting into corelane", e))
    }

    async fn get<R>(&self, key: &[u8], mut check: impl FnMut(Option<&[u8]>) -> R) -> Result<R, BenchError> {
        if let Some(answer) = self.core.get_resident(key, &mut check) {
            return Ok(answer);
        }
        let op = Op::Get {
            key: key.to_vec(),
            at: None,
        };
        match self.ask(key, op).await {
            Ok(Answer::Value(value)) => Ok(check(value.as_deref())),
            Ok(other) => Err(BenchError::wrong(format!("a get was answered by {other:?}"))),
            Err(e) => Err(BenchError::engine("getting from corelane", e)),
        }
    }

    async fn delete(&self, key: &[u8], durability: Durability) -> Result<(), BenchError> {
        let done = self.write(key, delete_batch(key)?, durability).await;
        done.map_err(|e| BenchError::engine("deleting from corelane", e))
    }

    async fn scan(
        &self,
        start: &[u8],
        limit: usize,
        mut visit: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), BenchError> {
        let range = ScanRange {
            start: Bound::Included(start.to_vec()),
            end: Bound::Unbounded,
            reverse: false,
            limit,
            bytes_limit: usize::MAX,
            keys_only: false,
            at: None,
        };
        let page = self.core.scan(range).await;
        let page = page.map_err(|e| BenchError::engine("scanning corelane", e))?;
        let _all = page.entries.iter().all(|(key, value)| visit(key, value));
        Ok(())
    }

    async fn sleep(&self, time: Duration) {
        self.core.io().sleep(time).await;
    }

    #[inline]
    async fn breathe(&self) {
        if self.core.io().should_yield() {
            self.core.io().yield_now().await;
        }
    }
}

/// The engine as a thread sees it.
struct Handle(Db);

impl Client for Handle {
    async fn put(&self, key: &[u8], value: &[u8], wanted: Durability) -> Result<(), BenchError> {
        let done = self
            .0
            .blocking()
            .write(put_batch(key, value)?, durability(wanted));
        done.map_err(|e| BenchError::engine("putting into corelane", e))
    }

    async fn get<R>(&self, key: &[u8], mut check: impl FnMut(Option<&[u8]>) -> R) -> Result<R, BenchError> {
        let value = self.0.blocking().get(key);
        let value = value.map_err(|e| BenchError::engine("getting from corelane", e))?;
        Ok(check(value.as_deref()))
    }

    async fn delete(&self, key: &[u8], wanted: Durability) -> Result<(), BenchError> {
        let done = self.0.blocking().write(delete_batch(key)?, durability(wanted));
        done.map_err(|e| BenchError::engine("deleting from corelane", e))
    }

    async fn scan(
        &self,
        start: &[u8],
        limit: usize,
        mut visit: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), BenchError> {
        let page = self
            .0
            .blocking()
            .scan(Bound::Included(start), Bound::Unbounded, limit);
        let page = page.map_err(|e| BenchError::engine("scanning corelane", e))?;
        let _all = page.entries.iter().all(|(key, value)| visit(key, value));
        Ok(())
    }
}
