//! The engines that are measured: one adapter a file, all behind two small traits.
//!
//! - [`Engine`]: an open database, as the run sees it: it places callers, settles, counts and is walked.
//! - [`Client`]: the database as one caller sees it. The loop that a caller runs (`load::caller`) is generic over it, so
//!   the same code, compiled for each engine, measures them all.
//!
//! An adapter that calls a blocking library runs its callers as threads ([`on_threads`]); its client's futures never
//! pend. The engine itself runs callers as tasks on its cores.

pub mod corelane;
pub mod fjall;
#[cfg(feature = "lmdb")]
pub mod lmdb;
pub mod redb;
pub mod resp;
mod rest;
#[cfg(feature = "rocksdb")]
pub mod rocksdb;

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use serde::{Deserialize, Serialize};

use crate::error::BenchError;
use crate::load::caller;
use crate::load::job::{Caller, Job};
use crate::spec::Durability;

/// Takes an entry's key and value.
pub type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> Result<(), BenchError> + 'a;

/// An open database.
pub trait Engine: Send + Sync {
    /// What it was given, for the fairness table.
    fn fairness(&self) -> &Fairness;

    /// Runs all callers of a job to their end. What they measured goes to the job's recorder.
    ///
    /// # Errors
    /// The first caller's: the engine's own error, or a wrong answer.
    fn run(&self, job: &Arc<Job>) -> Result<(), BenchError>;

    /// What it has counted since it was opened. Cheap; called once a window while a job runs.
    fn counters(&self) -> Counters;

    /// Flushes, and waits until compaction is at rest.
    ///
    /// # Errors
    /// The engine's, or that it did not come to rest in time.
    fn settle(&self) -> Result<(), BenchError>;

    /// Hands every entry, in key order, to `visit`, until that fails.
    ///
    /// # Errors
    /// The engine's or `visit`'s.
    fn walk(&self, visit: &mut Visit<'_>) -> Result<(), BenchError>;

    /// The process that it runs in, where that is another than ours: what it costs is counted too.
    fn server(&self) -> Option<u32> {
        None
    }

    /// Whether it can scan keys in order.
    fn scans(&self) -> bool {
        true
    }

    /// Closes it cleanly.
    ///
    /// # Errors
    /// The engine's.
    fn close(self: Box<Self>) -> Result<(), BenchError> {
        Ok(())
    }
}

/// A database as one caller sees it. Errors are the engine's, naming what was done.
#[expect(
    async_fn_in_trait,
    reason = "callers are generic over it and need no Send bound"
)]
pub trait Client {
    /// Whether this caller takes operations on this key; callers on a shard's core take its keys alone, threads take all.
    fn owns(&self, _key: &[u8]) -> bool {
        true
    }
    /// Sets a key.
    async fn put(&self, key: &[u8], value: &[u8], durability: Durability) -> Result<(), BenchError>;
    /// Hands a key's value to `check` and gives its answer back.
    async fn get<R>(&self, key: &[u8], check: impl FnMut(Option<&[u8]>) -> R) -> Result<R, BenchError>;
    /// Removes a key, there or not.
    async fn delete(&self, key: &[u8], durability: Durability) -> Result<(), BenchError>;
    /// Hands up to `limit` entries from `start` on, in key order, to `visit` until that says no.
    async fn scan(
        &self,
        start: &[u8],
        limit: usize,
        visit: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), BenchError>;
    /// Waits, exactly or a little longer.
    async fn sleep(&self, time: Duration) {
        sleep_exactly(time);
    }
    /// Lets others run where that is cooperative; threads need not.
    async fn breathe(&self) {}
}

/// What an engine was given, stored and printed with every result, so that a reader can judge the comparison.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fairness {
    /// Name and version.
    pub engine: String,
    /// What `sync` and `buffered` come to here.
    pub durability: String,
    /// Direct or buffered I/O.
    pub io: String,
    /// Bytes of its block cache; `None` where it uses the page cache alone.
    pub cache_bytes: Option<u64>,
    /// Bytes of its active memtables; `None` where it has none.
    pub memtable_bytes: Option<u64>,
    /// How tables are compressed.
    pub compression: String,
    /// Threads of its own.
    pub threads: String,
    /// Cores it runs on, and how they are kept.
    pub cores: String,
    /// Options that were chosen against their default: what, why, and the source.
    pub choices: Vec<String>,
}

/// What an engine counts. `None`: it does not tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Bytes of keys and values that were written by the user.
    pub user_bytes: Option<u64>,
    /// Bytes written to its log.
    pub log_bytes: Option<u64>,
    /// Device writes of the log: groups.
    pub log_writes: Option<u64>,
    /// Writes of the user that those carried.
    pub log_batches: Option<u64>,
    /// Bytes written by flushes.
    pub flush_bytes: Option<u64>,
    /// Bytes written by compaction.
    pub compaction_bytes: Option<u64>,
    /// Compactions that have ended.
    pub compactions: Option<u64>,
    /// Bytes that wait to be compacted.
    pub debt_bytes: Option<u64>,
    /// Bytes of its tables.
    pub table_bytes: Option<u64>,
    /// Device reads of blocks.
    pub block_reads: Option<u64>,
    /// Microseconds that writers were delayed, summed.
    pub delayed_us: Option<u64>,
}

/// Runs a job's callers as threads, each with a client of its own, for engines whose calls block.
///
/// # Errors
/// The first caller's.
pub fn on_threads<C: Client>(
    job: &Arc<Job>,
    client: impl Fn() -> Result<C, BenchError> + Sync,
) -> Result<(), BenchError> {
    std::thread::scope(|scope| {
        let client = &client;
        let threads: Vec<_> = job
            .callers()
            .map(|who| scope.spawn(move || one_thread(client, job, who)))
            .collect();
        threads
            .into_iter()
            .map(|thread| {
                let ended = thread.join();
                ended.unwrap_or_else(|_| Err(BenchError::bug("a caller panicked")))
            })
            .fold(Ok(()), Result::and)
    })
}

fn one_thread<C: Client>(
    client: impl Fn() -> Result<C, BenchError>,
    job: &Arc<Job>,
    who: Caller,
) -> Result<(), BenchError> {
    let client = client().inspect_err(|error| job.left(who, &Err(error.clone())))?;
    caller::run(&client, job, who)
        .now_or_never()
        .expect("a client of threads blocks and never pends")
}

/// Sleeps as a thread does, to some 10 µs: the kernel may wake a thread 50 µs late to save power, unless it is told not to.
pub fn sleep_exactly(time: Duration) {
    thread_local! {
        static TOLD: Result<(), String> = precise::ask();
    }
    // Where the kernel refuses, the lag shows it.
    TOLD.with(|_told| std::thread::sleep(time));
}

/// Asks the kernel to wake this thread on time (`PR_SET_TIMERSLACK`, prctl(2)).
mod precise {
    #[expect(unsafe_code, reason = "prctl has no safe wrapper for this")]
    pub fn ask() -> Result<(), String> {
        // SAFETY: it takes plain numbers and touches no memory of ours.
        let answer = unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1_u64) };
        if answer == 0 {
            Ok(())
        } else {
            Err(std::io::Error::last_os_error().to_string())
        }
    }
}
