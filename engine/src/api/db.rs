//! The handle: cloneable, `Send + Sync`, usable from any thread and any executor.
//!
//! An operation becomes one message to the core that owns its key; the answer comes back through a one-shot channel
//! that any executor can await, and that a plain thread can block on ([`Blocking`]).

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::api::builder::{Builder, Options};
use crate::api::check;
use crate::api::core::{Service, scan_all};
use crate::api::launch::{Job, Launch, Routes, launch};
use crate::api::ops::Routed;
use crate::api::start::start;
use crate::error::{Error, ErrorKind, Result};
use crate::io::cores::{CoreThread, StartOptions};
use crate::io::runtime::Choice;
use crate::io::{ClassTimes, Held};
use crate::shard::batch::{Batch, check_key};
use crate::shard::health::{closed, gone};
use crate::shard::page::Page;
use crate::shard::request::{Answer, Decision, Found, Op, Outcome, ScanRange};
use crate::shard::sequence::Snapshot;
use crate::shard::stats::ShardStats;
use crate::types::Durability;

/// An open database. Clones share it; it closes when [`Db::close`] is called or the last clone is dropped.
#[derive(Clone)]
pub struct Db(Arc<Inner>);

struct Inner {
    launch: Arc<Launch>,
    /// Each core's word that it has opened its shards; taken by [`Db::ready`].
    readies: Mutex<Vec<oneshot::Receiver<Result<()>>>>,
    /// Each answers by going away once its core has closed.
    closes: Mutex<Vec<oneshot::Receiver<()>>>,
    /// The cores' threads, where this process started them.
    threads: Mutex<Vec<CoreThread>>,
    /// What carries them.
    runtime: OnceLock<Choice>,
}

/// Entries of one page when the caller names no limit.
const DEFAULT_PAGE: usize = 1000;
/// A page is cut at this many bytes of keys and values, so that its memory is bounded whatever the values' size.
const PAGE_BYTES_LIMIT: usize = 16 << 20;

impl Db {
    /// Starts describing how to open the database in directory `path`.
    pub fn builder(path: impl AsRef<Path>) -> Builder {
        Builder::new(path.as_ref())
    }

    pub(super) fn over(
        launch: Arc<Launch>,
        readies: Vec<oneshot::Receiver<Result<()>>>,
        closes: Vec<oneshot::Receiver<()>>,
    ) -> Self {
        Self(Arc::new(Inner {
            launch,
            readies: Mutex::new(readies),
            closes: Mutex::new(closes),
            threads: Mutex::new(Vec::new()),
            runtime: OnceLock::new(),
        }))
    }

    /// Opens on the runtime that the options choose: one pinned thread a core.
    pub(super) async fn open<S: Service>(path: PathBuf, options: Options, service: S) -> Result<Self> {
        let cores = options.cores.clone();
        let spin_before_park_us = u64::try_from(options.spin.as_micros()).unwrap_or(u64::MAX);
        let start_options = StartOptions {
            spin_before_park_us,
            ..StartOptions::default()
        };
        let asked = options.runtime;
        let (db, seats) = launch(&path, options)?;
        let choice = db.0.runtime.get_or_init(|| asked.choose());
        let started = start(choice.runtime, &cores, start_options, seats, &service);
        let threads =
            started.map_err(|e| Error::io("starting the executors", db.0.launch.path(), None, &e))?;
        *db.0.threads.lock().unwrap_or_else(PoisonError::into_inner) = threads;
        db.ready().await?;
        Ok(db)
    }

    /// Waits until every core has opened its shards. Called once, by whoever launched the seats.
    ///
    /// # Errors
    /// The first core's error; the others are closed then.
    pub async fn ready(&self) -> Result<()> {
        let readies = std::mem::take(&mut *self.0.readies.lock().unwrap_or_else(PoisonError::into_inner));
        let mut failed = None;
        for ready in readies {
            if let Err(error) = ready.await.unwrap_or_else(|_| Err(closed())) {
                failed = failed.or(Some(error));
            }
        }
        match failed {
            None => Ok(()),
            Some(error) => {
                // The error that kept it from opening is the one to tell.
                let _second = self.close().await;
                Err(error)
            }
        }
    }

    /// What carries the database's cores and why; `None` where somebody else started them ([`launch`]).
    pub fn runtime(&self) -> Option<&Choice> {
        self.0.runtime.get()
    }

    /// Sets `key` to `value` at the default durability.
    ///
    /// # Errors
    /// `TooLarge`, `NoSpace`, `Poisoned`, `OutcomeUnknown`, `Closed`; `Busy` where the writers that wait on this key's core
    /// are more than 131,072, or more than 4,096 that hold over 64 MiB: nothing was written.
    pub async fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.put_with(key, value, self.0.launch.options().durability)
            .await
    }

    /// Sets `key` to `value`, acknowledged at `durability`.
    ///
    /// # Errors
    /// As for [`Db::put`].
    pub async fn put_with(&self, key: &[u8], value: &[u8], durability: Durability) -> Result<()> {
        let mut batch = Batch::new();
        batch.put(key, value)?;
        self.write_to(self.routes()?.slots.shard_of_key(key), batch, durability)
            .await
    }

    /// Removes `key` at the default durability; it is no error if it is not there.
    ///
    /// # Errors
    /// As for [`Db::put`].
    pub async fn delete(&self, key: &[u8]) -> Result<()> {
        self.delete_with(key, self.0.launch.options().durability).await
    }

    /// Sets `key` to `value` up to `expires_ms` (ms since the Unix epoch) at the default durability. It is still there in the
    /// millisecond that it ends in; a time that has passed leaves the key absent.
    ///
    /// # Errors
    /// As for [`Db::put`].
    pub async fn put_until(&self, key: &[u8], value: &[u8], expires_ms: u64) -> Result<()> {
        let mut batch = Batch::new();
        batch.put_until(key, value, expires_ms)?;
        let shard = self.routes()?.slots.shard_of_key(key);
        self.write_to(shard, batch, self.0.launch.options().durability)
            .await
    }

    /// Removes `key`, acknowledged at `durability`.
    ///
    /// # Errors
    /// As for [`Db::put`].
    pub async fn delete_with(&self, key: &[u8], durability: Durability) -> Result<()> {
        let mut batch = Batch::new();
        batch.delete(key)?;
        self.write_to(self.routes()?.slots.shard_of_key(key), batch, durability)
            .await
    }

    /// Applies a batch atomically; all its keys must belong to one shard.
    ///
    /// # Errors
    /// `CrossShard` where they do not; else as for [`Db::put`], `Busy` included.
    pub async fn write(&self, batch: Batch, durability: Durability) -> Result<()> {
        let slots = &self.routes()?.slots;
        let Some(shard) = batch.keys().next().map(|key| slots.shard_of_key(key)) else {
            return Ok(());
        };
        if let Some(key) = batch.keys().find(|key| slots.shard_of_key(key) != shard) {
            let other = slots.shard_of_key(key);
            return Err(Error::new(
                ErrorKind::CrossShard,
                "writing a batch",
                format!("its keys belong to shards {shard} and {other}"),
            ));
        }
        self.write_to(shard, batch, durability).await
    }

    async fn write_to(&self, shard: u16, batch: Batch, durability: Durability) -> Result<()> {
        self.ask(shard, Op::Write { batch, durability }).await.map(|_| ())
    }

    /// The value of `key`.
    ///
    /// # Errors
    /// `Io` or `Corruption` naming the table and offset; `Closed`.
    pub async fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.get_at(key, None).await
    }

    /// The value of `key` as of a snapshot.
    ///
    /// # Errors
    /// As for [`Db::get`].
    pub async fn get_as_of(&self, key: &[u8], snapshot: &Snapshot) -> Result<Option<Vec<u8>>> {
        self.get_at(key, Some(snapshot.sequence())).await
    }

    async fn get_at(&self, key: &[u8], at: Option<u64>) -> Result<Option<Vec<u8>>> {
        check_key(key)?;
        let shard = self.routes()?.slots.shard_of_key(key);
        match self
            .ask(
                shard,
                Op::Get {
                    key: key.to_vec(),
                    at,
                },
            )
            .await?
        {
            Answer::Value(value) => Ok(value),
            other => unreachable!("a get is answered by Value, not {other:?}"),
        }
    }

    /// A snapshot over all shards: what it sees stays readable until it is dropped. Keep it short: it holds back the
    /// space of overwritten versions.
    ///
    /// # Errors
    /// `Busy` when 1,024 are live.
    pub fn snapshot(&self) -> Result<Snapshot> {
        Snapshot::take(self.0.launch.commits())
    }

    /// The values of several keys, in their order. One message a core; the reads go to the device together. Writes may come
    /// between two of them: what shall be of one moment is a [snapshot](Db::snapshot)'s.
    ///
    /// # Errors
    /// As for [`Db::get`]; the first error wins.
    pub async fn multi_get<K: AsRef<[u8]>>(&self, keys: &[K]) -> Result<Vec<Option<Vec<u8>>>> {
        let routes = self.routes()?;
        let mut ops = Vec::with_capacity(keys.len());
        for key in keys {
            let key = key.as_ref();
            check_key(key)?;
            ops.push((
                routes.slots.shard_of_key(key),
                Op::Get {
                    key: key.to_vec(),
                    at: None,
                },
            ));
        }
        let mut values = Vec::with_capacity(keys.len());
        for outcome in self.ask_many(ops).await {
            match outcome? {
                Answer::Value(value) => values.push(value),
                other => unreachable!("a get is answered by Value, not {other:?}"),
            }
        }
        Ok(values)
    }

    /// Reads, decides and writes one key on the core that owns it, with nothing in between; returns what `apply`
    /// returned beside its decision, once the decision is acknowledged at the default durability.
    ///
    /// # Errors
    /// As for [`Db::put`] and [`Db::get`]; `Busy` also where flushes kept moving the key while it was read.
    pub async fn update<R: Send + 'static>(
        &self,
        key: &[u8],
        apply: impl FnOnce(Option<&[u8]>) -> (Decision, R) + Send + 'static,
    ) -> Result<R> {
        self.update_found(key, move |found| apply(found.value)).await
    }

    /// As [`Db::update`], with the key's expiry, version and the shard's clock beside its value.
    ///
    /// # Errors
    /// As for [`Db::update`].
    pub async fn update_found<R: Send + 'static>(
        &self,
        key: &[u8],
        apply: impl FnOnce(Found<'_>) -> (Decision, R) + Send + 'static,
    ) -> Result<R> {
        check_key(key)?;
        let shard = self.routes()?.slots.shard_of_key(key);
        let (sender, result) = oneshot::channel();
        let apply = Box::new(move |found: Found<'_>| {
            let (decision, result) = apply(found);
            let _gone = sender.send(result);
            decision
        });
        let durability = self.0.launch.options().durability;
        self.ask(
            shard,
            Op::Update {
                key: key.to_vec(),
                apply,
                durability,
            },
        )
        .await?;
        result.try_recv().map_err(|_| closed())
    }

    /// Reads several keys, decides and writes one batch, on the core that owns them and with nothing in between; returns
    /// what `apply` returned beside the batch, once that is acknowledged at the default durability. All keys, read and
    /// written, belong to one shard: give them one `{hash tag}`. `apply` sees the keys in the order of `keys`.
    ///
    /// # Errors
    /// `CrossShard` where the keys belong to several shards; else as for [`Db::update`].
    pub async fn transact<K: AsRef<[u8]>, R: Send + 'static>(
        &self,
        keys: &[K],
        apply: impl FnOnce(&[Found<'_>]) -> (Batch, R) + Send + 'static,
    ) -> Result<R> {
        let slots = &self.routes()?.slots;
        let shard = keys.first().map_or(0, |key| slots.shard_of_key(key.as_ref()));
        let (sender, result) = oneshot::channel();
        let op = Op::Transact {
            keys: keys.iter().map(|key| key.as_ref().to_vec()).collect(),
            apply: Box::new(move |found: &[Found<'_>]| {
                let (batch, result) = apply(found);
                let _gone = sender.send(result);
                batch
            }),
            writes: true,
            durability: self.0.launch.options().durability,
        };
        check::check(slots, shard, &op)?;
        self.ask(shard, op).await?;
        result.try_recv().map_err(|_| closed())
    }

    /// Looks at `key` on the core that owns it, with its expiry, version and the shard's clock; returns what `look` did.
    ///
    /// # Errors
    /// As for [`Db::get`].
    pub async fn look<R: Send + 'static>(
        &self,
        key: &[u8],
        look: impl FnOnce(Found<'_>) -> R + Send + 'static,
    ) -> Result<R> {
        check_key(key)?;
        let shard = self.routes()?.slots.shard_of_key(key);
        let (sender, looked) = oneshot::channel();
        let look = Box::new(move |found: Found<'_>| {
            let _gone = sender.send(look(found));
        });
        let key = key.to_vec();
        self.ask(shard, Op::Look { key, look }).await?;
        looked.try_recv().map_err(|_| closed())
    }

    /// When `key` ends: `None` where it is not there, `Some(None)` where it never does, else the time in ms since the Unix
    /// epoch.
    ///
    /// # Errors
    /// As for [`Db::get`].
    pub async fn expiry(&self, key: &[u8]) -> Result<Option<Option<u64>>> {
        self.look(key, |found| found.value.map(|_| found.expires_ms))
            .await
    }

    /// One page of a range in key order over all shards, as of one moment: at most `limit` entries (0: a default of
    /// 1,000) and 16 MiB. [`Page::resume`] is where the next page starts: pass it as `Bound::Excluded`.
    ///
    /// # Errors
    /// As for [`Db::get`]; `Busy` when too many snapshots are live.
    pub async fn scan(&self, start: Bound<&[u8]>, end: Bound<&[u8]>, limit: usize) -> Result<Page> {
        self.scan_page(start, end, limit, false).await
    }

    /// The same in the reverse of key order, from the end of the range back to its start. Pass [`Page::resume`] as the
    /// `Bound::Excluded` end of the next page.
    ///
    /// # Errors
    /// As for [`Db::scan`].
    pub async fn scan_back(&self, start: Bound<&[u8]>, end: Bound<&[u8]>, limit: usize) -> Result<Page> {
        self.scan_page(start, end, limit, true).await
    }

    async fn scan_page(
        &self,
        start: Bound<&[u8]>,
        end: Bound<&[u8]>,
        limit: usize,
        reverse: bool,
    ) -> Result<Page> {
        let snapshot = self.snapshot()?;
        let range = ScanRange {
            start: start.map(<[u8]>::to_vec),
            end: end.map(<[u8]>::to_vec),
            reverse,
            limit: if limit == 0 { DEFAULT_PAGE } else { limit },
            bytes_limit: PAGE_BYTES_LIMIT,
            keys_only: false,
            at: None,
        };
        let shards = usize::from(self.routes()?.slots.shards());
        scan_all(range, snapshot.sequence(), shards, |ops| self.ask_many(ops)).await
    }

    /// Writes every memtable out as tables and waits for it.
    ///
    /// # Errors
    /// What kept a shard from flushing.
    pub async fn flush(&self) -> Result<()> {
        self.ask_all(|| Op::Flush).await
    }

    /// Merges every shard until each key has one place, and waits for it.
    ///
    /// # Errors
    /// What kept a shard from compacting.
    pub async fn compact(&self) -> Result<()> {
        self.ask_all(|| Op::Compact).await
    }

    /// Counters and gauges of every shard.
    ///
    /// # Errors
    /// `Closed`.
    pub async fn stats(&self) -> Result<Stats> {
        Stats::collect(self.ask_many(self.to_all(|| Op::Stats)?).await)
    }

    /// Stops taking requests, makes everything acknowledged durable, closes every file and gives the lock back. A second
    /// call, also on a clone, waits for the first and then does nothing.
    ///
    /// # Errors
    /// What kept a shard from closing cleanly; every acknowledged `Sync` write is safe even then.
    pub async fn close(&self) -> Result<()> {
        self.0.launch.request_close();
        let closes = std::mem::take(&mut *self.0.closes.lock().unwrap_or_else(PoisonError::into_inner));
        for closed in closes {
            // It answers by going away.
            let _gone = closed.await;
        }
        self.0.join()
    }

    /// The same operations, blocking the calling thread. Not for use on a core of the database: it would wait for
    /// itself.
    pub fn blocking(&self) -> Blocking<'_> {
        Blocking(self)
    }

    fn routes(&self) -> Result<&Arc<Routes>> {
        self.0.launch.routes().ok_or_else(closed)
    }

    fn to_all(&self, op: impl Fn() -> Op) -> Result<Vec<(u16, Op)>> {
        Ok((0..self.routes()?.slots.shards())
            .map(|shard| (shard, op()))
            .collect())
    }

    async fn ask_all(&self, op: impl Fn() -> Op) -> Result<()> {
        self.ask_many(self.to_all(op)?)
            .await
            .into_iter()
            .try_for_each(|outcome| outcome.map(|_| ()))
    }

    async fn ask(&self, shard: u16, op: Op) -> Outcome {
        let core = self.routes()?.core_of(shard);
        let (answer, receiver) = oneshot::async_channel();
        let writes = op.writes();
        let job = Job::One { shard, op, answer };
        self.0.launch.sender(core).send(job).await.map_err(|_| closed())?;
        receiver.await.unwrap_or_else(|_| Err(gone(writes)))
    }

    /// One message a core, all under way at once; answers in the order of `ops`.
    async fn ask_many(&self, ops: Vec<(u16, Op)>) -> Vec<Outcome> {
        let total = ops.len();
        let Ok(routes) = self.routes() else {
            return (0..total).map(|_| Err(closed())).collect();
        };
        let mut by_core: Vec<Routed> = Vec::new();
        by_core.resize_with(self.0.launch.cores(), Default::default);
        for (number, (shard, op)) in ops.into_iter().enumerate() {
            let (numbers, ops) = &mut by_core[routes.core_of(shard)];
            numbers.push(number);
            ops.push((shard, op));
        }
        let mut answers: Vec<Outcome> = (0..total).map(|_| Err(closed())).collect();
        let mut asked = Vec::new();
        for (core, (numbers, ops)) in by_core
            .into_iter()
            .enumerate()
            .filter(|(_, (_, ops))| !ops.is_empty())
        {
            let (sender, receiver) = oneshot::async_channel();
            if self
                .0
                .launch
                .sender(core)
                .send(Job::Many { ops, answers: sender })
                .await
                .is_ok()
            {
                asked.push((numbers, receiver));
            }
        }
        for (numbers, receiver) in asked {
            for (number, outcome) in numbers.into_iter().zip(receiver.await.unwrap_or_default()) {
                answers[number] = outcome;
            }
        }
        answers
    }
}

impl Inner {
    /// Waits for the cores' threads to end and tells what went wrong while closing. On one of these threads it does not
    /// wait, for it would for itself: the database then closes behind the caller, once its core's tasks have ended.
    fn join(&self) -> Result<()> {
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        if threads.iter().any(CoreThread::is_current) {
            self.launch.leave_alone();
            return Ok(());
        }
        let mut failed = None;
        for (core, thread) in threads.into_iter().enumerate() {
            if let Err(failure) = thread.join() {
                self.launch.core_ended(core, failure.settled);
                failed = failed.or(Some(failure.text));
            }
        }
        if let Some(text) = failed {
            return Err(Error::new(
                ErrorKind::Poisoned,
                "closing the database",
                format!("a core failed: {text}"),
            ));
        }
        self.launch.take_close_error().map_or(Ok(()), Err)
    }
}

impl Drop for Inner {
    /// Closes and does not tell the outcome: whoever wants to know it calls [`Db::close`].
    fn drop(&mut self) {
        self.launch.request_close();
        let _untold = self.join();
    }
}

/// [`Db`]'s operations, blocking the calling thread; each is its namesake with `.await` done here.
#[derive(Clone, Copy)]
pub struct Blocking<'a>(&'a Db);

use futures_lite::future::block_on;

impl Blocking<'_> {
    /// [`Db::put`].
    ///
    /// # Errors
    /// As there.
    pub fn put(self, key: &[u8], value: &[u8]) -> Result<()> {
        block_on(self.0.put(key, value))
    }

    /// [`Db::put_with`].
    ///
    /// # Errors
    /// As there.
    pub fn put_with(self, key: &[u8], value: &[u8], durability: Durability) -> Result<()> {
        block_on(self.0.put_with(key, value, durability))
    }

    /// [`Db::delete`].
    ///
    /// # Errors
    /// As there.
    pub fn delete(self, key: &[u8]) -> Result<()> {
        block_on(self.0.delete(key))
    }

    /// [`Db::write`].
    ///
    /// # Errors
    /// As there.
    pub fn write(self, batch: Batch, durability: Durability) -> Result<()> {
        block_on(self.0.write(batch, durability))
    }

    /// [`Db::get`].
    ///
    /// # Errors
    /// As there.
    pub fn get(self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        block_on(self.0.get(key))
    }

    /// [`Db::multi_get`].
    ///
    /// # Errors
    /// As there.
    pub fn multi_get<K: AsRef<[u8]>>(self, keys: &[K]) -> Result<Vec<Option<Vec<u8>>>> {
        block_on(self.0.multi_get(keys))
    }

    /// [`Db::update`].
    ///
    /// # Errors
    /// As there.
    pub fn update<R: Send + 'static>(
        self,
        key: &[u8],
        apply: impl FnOnce(Option<&[u8]>) -> (Decision, R) + Send + 'static,
    ) -> Result<R> {
        block_on(self.0.update(key, apply))
    }

    /// [`Db::put_until`].
    ///
    /// # Errors
    /// As there.
    pub fn put_until(self, key: &[u8], value: &[u8], expires_ms: u64) -> Result<()> {
        block_on(self.0.put_until(key, value, expires_ms))
    }

    /// [`Db::expiry`].
    ///
    /// # Errors
    /// As there.
    pub fn expiry(self, key: &[u8]) -> Result<Option<Option<u64>>> {
        block_on(self.0.expiry(key))
    }

    /// [`Db::update_found`].
    ///
    /// # Errors
    /// As there.
    pub fn update_found<R: Send + 'static>(
        self,
        key: &[u8],
        apply: impl FnOnce(Found<'_>) -> (Decision, R) + Send + 'static,
    ) -> Result<R> {
        block_on(self.0.update_found(key, apply))
    }

    /// [`Db::transact`].
    ///
    /// # Errors
    /// As there.
    pub fn transact<K: AsRef<[u8]>, R: Send + 'static>(
        self,
        keys: &[K],
        apply: impl FnOnce(&[Found<'_>]) -> (Batch, R) + Send + 'static,
    ) -> Result<R> {
        block_on(self.0.transact(keys, apply))
    }

    /// [`Db::scan`].
    ///
    /// # Errors
    /// As there.
    pub fn scan(self, start: Bound<&[u8]>, end: Bound<&[u8]>, limit: usize) -> Result<Page> {
        block_on(self.0.scan(start, end, limit))
    }

    /// [`Db::scan_back`].
    ///
    /// # Errors
    /// As there.
    pub fn scan_back(self, start: Bound<&[u8]>, end: Bound<&[u8]>, limit: usize) -> Result<Page> {
        block_on(self.0.scan_back(start, end, limit))
    }

    /// [`Db::flush`].
    ///
    /// # Errors
    /// As there.
    pub fn flush(self) -> Result<()> {
        block_on(self.0.flush())
    }

    /// [`Db::compact`].
    ///
    /// # Errors
    /// As there.
    pub fn compact(self) -> Result<()> {
        block_on(self.0.compact())
    }

    /// [`Db::stats`].
    ///
    /// # Errors
    /// As there.
    pub fn stats(self) -> Result<Stats> {
        block_on(self.0.stats())
    }

    /// [`Db::close`].
    ///
    /// # Errors
    /// As there.
    pub fn close(self) -> Result<()> {
        block_on(self.0.close())
    }
}

/// What every shard reports.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stats {
    /// One report a shard, in their order.
    pub shards: Vec<ShardStats>,
}

impl Stats {
    pub(super) fn collect(outcomes: Vec<Outcome>) -> Result<Self> {
        let mut shards = Vec::with_capacity(outcomes.len());
        for outcome in outcomes {
            match outcome? {
                Answer::Stats(stats) => shards.push(*stats),
                other => unreachable!("stats are answered by Stats, not {other:?}"),
            }
        }
        Ok(Self { shards })
    }

    /// The sum of one field over all shards.
    pub fn total(&self, field: impl Fn(&ShardStats) -> u64) -> u64 {
        self.shards.iter().map(field).sum()
    }

    /// What each core holds, by its index; cores whose runtime does not count it are left out.
    pub fn held(&self) -> BTreeMap<usize, Held> {
        let shards = self.shards.iter();
        shards
            .filter_map(|shard| Some((shard.core, shard.held?)))
            .collect()
    }

    /// What each class of tasks has had of each core, by its index; cores whose runtime does not count it, and those that host no
    /// shard, are left out.
    pub fn class_times(&self) -> BTreeMap<usize, ClassTimes> {
        let shards = self.shards.iter();
        shards
            .filter_map(|shard| Some((shard.core, shard.class_times?)))
            .collect()
    }

    /// Bytes written to the device for each byte the user wrote, over all shards; 0 before the first write.
    #[expect(clippy::cast_precision_loss, reason = "a ratio for people to read")]
    pub fn write_amplification(&self) -> f64 {
        let written = self.total(|s| s.wal_bytes + s.flush_bytes + s.compaction_written_bytes);
        match self.total(|s| s.user_bytes) {
            0 => 0.0,
            by_user => written as f64 / by_user as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spawnable<F: Future + Send>(_: impl FnOnce(Db) -> F) {}

    /// The future of a scan borrowed its own closure, which no compiler can prove to be `Send`: a handler on a runtime that
    /// spawns its tasks could call everything of the handle but a scan. It fails by not compiling.
    #[test]
    fn every_future_of_the_handle_can_be_spawned() {
        spawnable(|db| async move { db.scan(Bound::Unbounded, Bound::Unbounded, 0).await });
        spawnable(|db| async move { db.look(b"k", |found| found.version).await });
        spawnable(|db| async move { db.update(b"k", |_| (Decision::Keep, ())).await });
        spawnable(|db| async move { db.write(Batch::new(), Durability::Sync).await });
        spawnable(|db| async move { db.stats().await });
    }
}
