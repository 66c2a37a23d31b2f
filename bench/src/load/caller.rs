//! The loop of one caller: take the next operation, begin it when the load says, check its answer, record its times.
//!
//! **Closed.** The next operation begins when the last has ended; its time runs from there and so contains making the
//! key and checking the value, for every engine alike, and one clock read is enough.
//!
//! **Open.** Each stream has a schedule of intended starts. A caller that is free sleeps until the next; one that is still
//! busy begins late, and the wait counts in the response time, so that a stall is seen by every operation that it held up
//! (G. Tene, "How NOT to Measure Latency": coordinated omission; the method of wrk2). How late a *free* caller woke is the
//! generator's own fault, and is recorded apart as lag.

use std::time::{Duration, Instant};

use crate::engines::Client;
use crate::error::BenchError;
use crate::load::check::{self, Scan};
use crate::load::job::{Caller, Job};
use crate::load::recorder::Local;
use crate::load::turns::{Turn, Turns};
use crate::spec::Load;
use crate::workload::{Op, OpKind};

/// A stop is seen so soon also by a caller whose schedule is sparse.
const LONGEST_SLEEP: Duration = Duration::from_millis(100);

/// Runs a caller to its end, and tells the job.
///
/// # Errors
/// The engine's, or a wrong answer.
pub async fn run<C: Client>(client: &C, job: &Job, who: Caller) -> Result<(), BenchError> {
    let mut hands = Hands::new(client, job, who);
    let mut turns = Turns::new(job, who);
    let mut local = Local::new(job, who);
    let result = match job.group(who.group).load {
        Load::Closed { .. } => closed(&mut hands, &mut turns, &mut local).await,
        Load::Open { .. } => open(&mut hands, &mut turns, &mut local).await,
    };
    local.finish();
    job.left(who, &result);
    result
}

async fn closed<C: Client>(
    hands: &mut Hands<'_, C>,
    turns: &mut Turns,
    local: &mut Local<'_>,
) -> Result<(), BenchError> {
    let deadline = hands.job.deadline();
    let mut last = Instant::now();
    while let Some(turn) = hands.next_owned(turns) {
        hands.execute(turn.op, local).await?;
        let now = Instant::now();
        local.closed(turn.op.kind, last, now);
        last = now;
        if deadline.is_some_and(|deadline| now >= deadline) || hands.job.stopped() {
            break;
        }
        hands.client.breathe().await;
    }
    Ok(())
}

async fn open<C: Client>(
    hands: &mut Hands<'_, C>,
    turns: &mut Turns,
    local: &mut Local<'_>,
) -> Result<(), BenchError> {
    let (begun, deadline) = (hands.job.begun(), hands.job.deadline());
    let mut free_since = begun;
    // The schedule runs on for operations that another core owns: the cores together keep it.
    while let Some(turn) = hands.next_owned(turns) {
        let intended = begun + turn.start;
        if deadline.is_some_and(|deadline| intended >= deadline) {
            break;
        }
        hands.sleep_until(intended).await;
        if hands.job.stopped() {
            break;
        }
        let start = Instant::now();
        if free_since <= intended {
            local.lag(intended, start.saturating_duration_since(intended));
        }
        hands.execute(turn.op, local).await?;
        free_since = Instant::now();
        local.open(turn.op.kind, intended, start, free_since);
        hands.client.breathe().await;
    }
    Ok(())
}

/// What a caller works with: buffers that it reuses.
struct Hands<'a, C> {
    client: &'a C,
    job: &'a Job,
    who: Caller,
    key: Vec<u8>,
    value: Vec<u8>,
}

impl<'a, C: Client> Hands<'a, C> {
    fn new(client: &'a C, job: &'a Job, who: Caller) -> Self {
        Self {
            client,
            job,
            who,
            key: Vec::new(),
            value: Vec::new(),
        }
    }

    /// The next operation whose key this caller owns; its key is made.
    #[inline]
    fn next_owned(&mut self, turns: &mut Turns) -> Option<Turn> {
        loop {
            let turn = turns.next()?;
            self.job.keys().make(turn.op.index, &mut self.key);
            if self.client.owns(&self.key) {
                return Some(turn);
            }
        }
    }

    async fn sleep_until(&self, intended: Instant) {
        loop {
            let left = intended.saturating_duration_since(Instant::now());
            if left.is_zero() || self.job.stopped() {
                return;
            }
            self.client.sleep(left.min(LONGEST_SLEEP)).await;
        }
    }

    async fn execute(&mut self, op: Op, local: &mut Local<'_>) -> Result<(), BenchError> {
        match op.kind {
            OpKind::Read | OpKind::ReadMissing => self.read(op).await,
            OpKind::Insert => {
                self.write(op).await?;
                local.inserted(self.value.len());
                Ok(())
            }
            OpKind::Update => self.write(op).await,
            OpKind::ReadModifyWrite => {
                self.read(op).await?;
                self.write(op).await
            }
            OpKind::Delete => {
                let durability = self.job.group(self.who.group).durability;
                self.client.delete(&self.key, durability).await
            }
            OpKind::Scan => self.scan(op).await,
        }
    }

    async fn read(&mut self, op: Op) -> Result<(), BenchError> {
        let values = self.job.values();
        self.client
            .get(&self.key, |value| check::read(values, op, value))
            .await?
            .map_err(|wrong| check::at(&self.key, op, &wrong))
    }

    async fn write(&mut self, op: Op) -> Result<(), BenchError> {
        self.job.values().make(op.index, op.version, &mut self.value);
        let durability = self.job.group(self.who.group).durability;
        self.client.put(&self.key, &self.value, durability).await
    }

    async fn scan(&mut self, op: Op) -> Result<(), BenchError> {
        let mut scan = Scan::new(self.job.keys(), self.job.values(), &self.key, op);
        self.client
            .scan(&self.key, op.entries as usize, |key, value| {
                scan.visit(key, value)
            })
            .await?;
        // An engine that ends its scans early would look fast: a short one must be at the end of all keys. Where keys come
        // and go meanwhile, the two scans could differ rightly.
        if let Some(last) = scan.ended_early().filter(|_| !self.job.keys_change()) {
            let mut beyond = false;
            self.client
                .scan(&last, 2, |key, _value| {
                    beyond |= key > &last[..];
                    !beyond
                })
                .await?;
            if beyond {
                scan.is_short();
            }
        }
        scan.finish().map_err(|wrong| check::at(&self.key, op, &wrong))
    }
}
