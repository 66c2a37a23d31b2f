//! The database as seen from one of its own cores: no thread is crossed for keys that this core owns.

use std::cell::Cell;
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use futures_util::future::{Either, join_all, select};

use crate::api::db::Stats;
use crate::api::launch::{Job, Launch, Routes};
use crate::api::{check, ops, pages};
use crate::error::{Error, ErrorKind, Result};
use crate::io::{Class, Io};
use crate::shard::Shard;
use crate::shard::gate::Gate;
use crate::shard::health::{closed, gone};
use crate::shard::host::Host;
use crate::shard::page::Page;
use crate::shard::read::Resident;
use crate::shard::request::{Answer, Found, Op, Outcome, ScanRange};
use crate::shard::scan::Scan;
use crate::shard::sequence::Snapshot;

/// Code that runs on every core of a database, from open to close: a server's listener, say.
pub trait Service: Clone + Send + 'static {
    /// Runs on one core; should end soon after [`Core::closing`] completes. The database closes only then.
    fn run<I: Io>(self, core: Core<I>) -> impl Future<Output = ()> + 'static;
}

/// No service: the database is used through its handles alone.
impl Service for () {
    async fn run<I: Io>(self, _core: Core<I>) {}
}

/// Tasks begun for requests from elsewhere that may be at work on one core. Each holds a request's bytes; the mailbox in
/// front of them is bounded too, so callers beyond both wait. Writers that wait for room are not at work: they are counted
/// and bounded apart ([`crate::shard::host`]), so that however many they are, reads get past them.
const MAX_TASKS: usize = 4096;

/// A read that was begun at once and needs the device or another slice, with its shard.
enum Unfinished<I: Io> {
    Scan(Rc<Shard<I>>, Box<Scan<I>>),
    Look(Rc<Shard<I>>, Op),
}

impl<I: Io> Unfinished<I> {
    async fn finish(self) -> Outcome {
        match self {
            Self::Scan(shard, scan) => shard.finish_scan(scan).await.map(Answer::Page),
            Self::Look(shard, op) => ops::run_one(shard, op).await,
        }
    }
}

struct Inner<I: Io> {
    io: I,
    index: usize,
    launch: Arc<Launch>,
    routes: Arc<Routes>,
    /// By shard number; `None` for shards that live on another core.
    shards: Vec<Option<Rc<Shard<I>>>>,
    host: Rc<Host>,
    tasks: Cell<usize>,
    closing: Cell<bool>,
    closing_gate: Gate,
}

/// Requests that were sent to another core.
struct Asked {
    /// Which of them write.
    writes: Vec<bool>,
    /// `None` where the core had closed.
    answered: Option<oneshot::AsyncReceiver<Vec<Outcome>>>,
}

impl Asked {
    /// The answer to each of them.
    async fn outcomes(self) -> Vec<Outcome> {
        let Some(answered) = self.answered else {
            return self.writes.iter().map(|_| Err(closed())).collect();
        };
        let unanswered = |_| self.writes.iter().map(|&writes| Err(gone(writes))).collect();
        answered.await.unwrap_or_else(unanswered)
    }
}

/// The database on one of its cores. Cheap to clone; never leaves the core.
pub struct Core<I: Io>(Rc<Inner<I>>);

impl<I: Io> Clone for Core<I> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<I: Io> Core<I> {
    pub(super) fn new(
        io: I,
        index: usize,
        launch: Arc<Launch>,
        routes: Arc<Routes>,
        host: Rc<Host>,
        hosted: Vec<Rc<Shard<I>>>,
    ) -> Self {
        let mut shards: Vec<_> = (0..routes.slots.shards()).map(|_| None).collect();
        for shard in hosted {
            let number = usize::from(shard.number());
            shards[number] = Some(shard);
        }
        Self(Rc::new(Inner {
            io,
            index,
            launch,
            routes,
            shards,
            host,
            tasks: Cell::new(0),
            closing: Cell::new(false),
            closing_gate: Gate::default(),
        }))
    }

    /// The machine as this core sees it.
    pub fn io(&self) -> &I {
        &self.0.io
    }

    /// Which core this is, from 0.
    pub fn index(&self) -> usize {
        self.0.index
    }

    /// Number of cores the database is open on.
    pub fn cores(&self) -> usize {
        self.0.launch.cores()
    }

    /// Number of shards of the database.
    pub fn shards(&self) -> usize {
        self.0.shards.len()
    }

    /// The shard that a key belongs to.
    pub fn shard_of(&self, key: &[u8]) -> u16 {
        self.0.routes.slots.shard_of_key(key)
    }

    /// The core that hosts a shard.
    pub fn core_of(&self, shard: u16) -> usize {
        self.0.routes.core_of(shard)
    }

    /// All slots in ascending ranges, each with the core that hosts them.
    pub fn slot_ranges(&self) -> Vec<(std::ops::Range<u16>, usize)> {
        let mut start = 0;
        let runs = self.0.routes.slots.runs().into_iter();
        runs.map(|(slots, shard)| {
            let range = start..start + slots;
            start = range.end;
            (range, self.core_of(shard))
        })
        .collect()
    }

    /// The durability of writes that do not name one.
    pub fn default_durability(&self) -> crate::types::Durability {
        self.0.launch.options().durability
    }

    /// Whether the database is closing: start nothing new.
    pub fn is_closing(&self) -> bool {
        self.0.closing.get()
    }

    /// Completes when the database begins to close.
    pub async fn closing(&self) {
        while !self.0.closing.get() {
            self.0.closing_gate.wait().await;
        }
    }

    /// The time that decides what has ended in a shard, in ms since the Unix epoch: it never goes back, and is the machine's
    /// unless that one has. `None` for a shard of another core.
    pub fn clock_of(&self, shard: u16) -> Option<u64> {
        let shard = self.0.shards.get(usize::from(shard))?.as_ref()?;
        Some(shard.now_ms())
    }

    /// What holds a shard's writers back now, in words; empty where nothing does. `None` for a shard of another core.
    pub fn stall_of(&self, shard: u16) -> Option<String> {
        let shard = self.0.shards.get(usize::from(shard))?.as_ref()?;
        Some(shard.stall_in_words())
    }

    /// Looks a key up without awaiting. `None` when another core owns it or the device must be asked; else `f` was
    /// given the value, or `None` for a key that is not there.
    pub fn get_resident<R>(&self, key: &[u8], f: impl FnOnce(Option<&[u8]>) -> R) -> Option<R> {
        let shard = self.0.shards[usize::from(self.shard_of(key))].as_ref()?;
        shard.get_resident(key, f).known()
    }

    /// Looks at a key without awaiting, as [`Core::get_resident`] does, its expiry and version included. It asks the clock
    /// each time, which a look at the value alone does only where the value ends.
    pub fn look_resident<R>(&self, key: &[u8], f: impl FnOnce(Found<'_>) -> R) -> Option<R> {
        let shard = self.0.shards[usize::from(self.shard_of(key))].as_ref()?;
        shard.look_resident(key, f).known()
    }

    /// Runs requests, each to its shard, wherever that lives: one message a core. Requests to one core run in order;
    /// answers come in the order of `ops`. A request that cannot be run by the shard it names is answered by why, and the
    /// others run: `CrossShard` for keys of another shard, `InvalidOptions` for a shard or a sequence that cannot be,
    /// `TooLarge` for a key over the limit.
    pub async fn execute(&self, mut ops: Vec<(u16, Op)>) -> Vec<Outcome> {
        if ops.len() == 1
            && let Some((shard, op)) = ops.pop()
        {
            return vec![self.execute_one(shard, op).await];
        }
        let mut answers: Vec<Option<Outcome>> = ops.iter().map(|_| None).collect();
        let mut by_core: Vec<ops::Routed> = Vec::new();
        by_core.resize_with(self.cores(), Default::default);
        for (number, (shard, op)) in ops.into_iter().enumerate() {
            if let Err(error) = check::check(&self.0.routes.slots, shard, &op) {
                answers[number] = Some(Err(error));
                continue;
            }
            let (numbers, ops) = &mut by_core[self.core_of(shard)];
            numbers.push(number);
            ops.push((shard, op));
        }
        let (numbers_here, ops_here) = std::mem::take(&mut by_core[self.index()]);
        // The others are at work while this core does its own part.
        let mut asked = Vec::new();
        for (core, (numbers, ops)) in by_core.into_iter().enumerate() {
            if !ops.is_empty() {
                asked.push((numbers, self.ask_many(core, ops).await));
            }
        }
        for (number, outcome) in numbers_here.into_iter().zip(self.run_here(ops_here).await) {
            answers[number] = Some(outcome);
        }
        for (numbers, answered) in asked {
            for (number, outcome) in numbers.into_iter().zip(answered.outcomes().await) {
                answers[number] = Some(outcome);
            }
        }
        answers
            .into_iter()
            .map(|answer| answer.expect("each request was refused, run here, or asked of its core"))
            .collect()
    }

    /// Runs one request, as [`Core::execute`] does.
    ///
    /// # Errors
    /// As there, and those of the request.
    pub async fn execute_one(&self, shard: u16, op: Op) -> Outcome {
        check::check(&self.0.routes.slots, shard, &op)?;
        if let Some(shard) = &self.0.shards[usize::from(shard)] {
            return ops::run_one(Rc::clone(shard), op).await;
        }
        let (answer, answered) = oneshot::async_channel();
        let sender = self.0.launch.sender(self.core_of(shard));
        let writes = op.writes();
        let sent = sender.send(Job::One { shard, op, answer }).await;
        sent.map_err(|_| closed())?;
        answered.await.unwrap_or_else(|_| Err(gone(writes)))
    }

    async fn run_here(&self, ops: Vec<(u16, Op)>) -> Vec<Outcome> {
        ops::run(
            ops.into_iter()
                .map(|(shard, op)| (self.hosted(shard), op))
                .collect(),
        )
        .await
    }

    /// Sends requests to another core. Their answers are waited for apart, so that this core can work meanwhile.
    async fn ask_many(&self, core: usize, ops: Vec<(u16, Op)>) -> Asked {
        let (sender, receiver) = oneshot::async_channel();
        let writes = ops.iter().map(|(_, op)| op.writes()).collect();
        let job = Job::Many { ops, answers: sender };
        let sent = self.0.launch.sender(core).send(job).await.is_ok();
        Asked {
            writes,
            answered: sent.then_some(receiver),
        }
    }

    fn hosted(&self, shard: u16) -> Rc<Shard<I>> {
        let shard = self.0.shards.get(usize::from(shard)).and_then(Option::as_ref);
        Rc::clone(shard.expect("requests are routed to the core that hosts their shard"))
    }

    /// One page of a range over all shards, merged in key order, or in the reverse of it.
    ///
    /// # Errors
    /// As for a read of any shard; `Busy` when too many snapshots are live.
    pub async fn scan(&self, range: ScanRange) -> Result<Page> {
        let snapshot = Snapshot::take(self.0.launch.commits())?;
        scan_all(range, snapshot.sequence(), self.shards(), |ops| self.execute(ops)).await
    }

    /// The number of live keys, by walking them all.
    ///
    /// # Errors
    /// As for a read of any shard.
    pub async fn count(&self) -> Result<u64> {
        let ops = self.to_all(|| Op::Count);
        let mut total = 0;
        for outcome in self.execute(ops).await {
            match outcome? {
                Answer::Count(count) => total += count,
                other => unreachable!("a count is answered by Count, not {other:?}"),
            }
        }
        Ok(total)
    }

    /// Counters and gauges of every shard.
    ///
    /// # Errors
    /// `Closed`.
    pub async fn stats(&self) -> Result<Stats> {
        Stats::collect(self.execute(self.to_all(|| Op::Stats)).await)
    }

    fn to_all(&self, op: impl Fn() -> Op) -> Vec<(u16, Op)> {
        (0..self.0.routes.slots.shards())
            .map(|shard| (shard, op()))
            .collect()
    }

    /// Begins a request that came through the mailbox; waits only when too many are under way.
    pub(super) async fn receive(&self, job: Job) {
        match job {
            Job::One {
                shard,
                op: Op::Scan(range),
                answer,
            } if !self.0.io.should_yield() => {
                let shard = self.hosted(shard);
                match shard.scan_resident(range) {
                    Ok(page) => {
                        let _gone = answer.send(Ok(Answer::Page(page)));
                    }
                    Err(scan) => {
                        self.task(async move {
                            let _gone = answer.send(shard.finish_scan(scan).await.map(Answer::Page));
                        })
                        .await;
                    }
                }
            }
            Job::One { shard, op, answer } => {
                let shard = self.hosted(shard);
                let Some((op, answer)) = serve_at_once(&shard, op, answer) else {
                    return;
                };
                self.task(async move {
                    let _gone = answer.send(ops::run_one(shard, op).await);
                })
                .await;
            }
            Job::Many { ops, answers } => {
                let mut ops = ops.into_iter();
                let mut done = Vec::with_capacity(ops.len());
                let unfinished = self.read_at_once(&mut ops, &mut done);
                if unfinished.is_none() && ops.len() == 0 {
                    let _gone = answers.send(done);
                    return;
                }
                let core = self.clone();
                self.task(async move {
                    if let Some(unfinished) = unfinished {
                        done.push(unfinished.finish().await);
                    }
                    done.extend(core.run_here(ops.collect()).await);
                    let _gone = answers.send(done);
                })
                .await;
            }
        }
    }

    /// Serves the leading requests that are reads in memory and appends their answers to `done`; what it could not serve
    /// stays in `ops`, but for a read that was begun. Nothing of a batch that writes is served behind a write.
    fn read_at_once(
        &self,
        ops: &mut std::vec::IntoIter<(u16, Op)>,
        done: &mut Vec<Outcome>,
    ) -> Option<Unfinished<I>> {
        while let Some((shard, op)) = ops.as_slice().first() {
            // What is left goes on in a task, which makes way.
            let slice_over = done.len() % ops::SERVED_A_SLICE == ops::SERVED_A_SLICE - 1;
            if slice_over && self.0.io.should_yield() {
                return None;
            }
            match op {
                // A mailbox full of scans must leave the core to others meanwhile.
                Op::Scan(_) if !self.0.io.should_yield() => {
                    let shard = self.hosted(*shard);
                    let Some((_, Op::Scan(range))) = ops.next() else {
                        unreachable!("the first request is a scan")
                    };
                    match shard.scan_resident(range) {
                        Ok(page) => done.push(Ok(Answer::Page(page))),
                        Err(scan) => return Some(Unfinished::Scan(shard, scan)),
                    }
                }
                Op::Look { .. } => {
                    let shard = self.hosted(*shard);
                    let Some((_, Op::Look { key, look })) = ops.next() else {
                        unreachable!("the first request is a look")
                    };
                    match ops::look_at_once(&shard, &key, look) {
                        Ok(outcome) => done.push(outcome),
                        Err(look) => return Some(Unfinished::Look(shard, Op::Look { key, look })),
                    }
                }
                Op::Get { key, at: None } => {
                    let value = |value: Option<&[u8]>| value.map(<[u8]>::to_vec);
                    let Resident::Known(value) = self.hosted(*shard).get_resident(key, value) else {
                        return None;
                    };
                    done.push(Ok(Answer::Value(value)));
                    ops.next();
                }
                _ => return None,
            }
        }
        None
    }

    /// Completes when somebody has asked to close the database.
    pub(super) async fn asked_to_close(&self) {
        self.0.launch.asked_to_close(self.0.index).await;
    }

    pub(super) fn begin_closing(&self) {
        self.0.closing.set(true);
        self.0.closing_gate.open();
    }

    async fn task(&self, work: impl Future<Output = ()> + 'static) {
        while self.0.tasks.get() >= MAX_TASKS + self.0.host.waiting_writers() {
            let changed = self.0.host.tasks_changed.wait();
            if self.is_closing() {
                changed.await;
            } else if let Either::Left(_) = select(pin!(self.asked_to_close()), changed).await {
                // The service is told, and what it leaves behind is no more than the core can finish.
                self.begin_closing();
            }
        }
        let core = self.clone();
        core.0.tasks.set(core.0.tasks.get() + 1);
        self.0.io.spawn(Class::Foreground, async move {
            work.await;
            core.0.tasks.set(core.0.tasks.get() - 1);
            core.0.host.tasks_changed.open();
        });
    }

    /// Tells every shard of this core to keep nobody waiting any more.
    pub(super) fn wind_down(&self) {
        for shard in self.0.shards.iter().flatten() {
            shard.wind_down();
        }
    }

    /// Closes every shard of this core; the first error is returned once all are closed.
    pub(super) async fn close_shards(&self) -> Result<()> {
        let closing = self.0.shards.iter().flatten().map(|shard| shard.close());
        join_all(closing).await.into_iter().collect()
    }

    /// Waits until every begun task has ended.
    pub(super) async fn drained(&self) {
        while self.0.tasks.get() > 0 {
            self.0.host.tasks_changed.wait().await;
        }
    }
}

/// Serves what needs no task: a lookup in memory, or a write that may be staged now. Gives the rest back.
fn serve_at_once<I: Io>(
    shard: &Shard<I>,
    op: Op,
    answer: oneshot::Sender<Outcome>,
) -> Option<(Op, oneshot::Sender<Outcome>)> {
    match op {
        Op::Get { key, at: None } => match shard.get_resident(&key, |value| value.map(<[u8]>::to_vec)) {
            Resident::Known(value) => {
                let _gone = answer.send(Ok(Answer::Value(value)));
                None
            }
            Resident::Unknown => Some((Op::Get { key, at: None }, answer)),
        },
        Op::Look { key, look } => match ops::look_at_once(shard, &key, look) {
            Ok(outcome) => {
                let _gone = answer.send(outcome);
                None
            }
            Err(look) => Some((Op::Look { key, look }, answer)),
        },
        Op::Write { batch, durability } => match shard.admitted_now(batch.encoded().len()) {
            Ok(true) => {
                shard.stage(batch.encoded(), durability, Some(answer));
                None
            }
            Ok(false) => Some((Op::Write { batch, durability }, answer)),
            Err(error) => {
                let _gone = answer.send(Err(error));
                None
            }
        },
        other => Some((other, answer)),
    }
}

/// Reads pages from every shard at `at` until the limit is met or the range is exhausted.
pub(super) async fn scan_all<F: Future<Output = Vec<Outcome>>>(
    mut range: ScanRange,
    at: u64,
    shards: usize,
    execute: impl Fn(Vec<(u16, Op)>) -> F,
) -> Result<Page> {
    let mut whole = Page::default();
    let mut bytes = 0;
    loop {
        let left = range.limit - whole.entries.len();
        let part = ScanRange {
            limit: pages::share(left, shards),
            at: Some(at),
            ..range.clone()
        };
        let shards = u16::try_from(shards).map_err(|_| {
            Error::new(
                ErrorKind::InvalidOptions,
                "scanning",
                "a database has at most 65,535 shards",
            )
        })?;
        let ops = (0..shards).map(|shard| (shard, Op::Scan(part.clone()))).collect();
        let mut parts = Vec::with_capacity(usize::from(shards));
        for outcome in execute(ops).await {
            match outcome? {
                Answer::Page(page) => parts.push(page),
                other => unreachable!("a scan is answered by Page, not {other:?}"),
            }
        }
        let page = pages::merge(parts, left, range.direction());
        bytes += page.entries.bytes();
        whole.entries.append(page.entries);
        whole.resume = page.resume;
        match &whole.resume {
            Some(key) if whole.entries.len() < range.limit && bytes < range.bytes_limit => {
                range.go_on_after(key.clone());
            }
            _ => return Ok(whole),
        }
    }
}
