//! Runs requests on the core that owns their shards.
//!
//! A batch of requests runs in order, but waits for the device once: its writes are staged one behind the other and
//! acknowledged together, its reads go to the device together. A read that follows a write of its key in the same
//! batch waits for that write first, because plain reads see only what is published.
//!
//! Reads of a batch are each of their own moment, not of one: what shall be is a transaction's, which is one request, or a
//! snapshot's. So the core is left to others between two, where it is time. Not while writes wait: those that are
//! staged together share a group, and what is staged is soon done.

use std::future::Future;
use std::ops::Bound;
use std::pin::Pin;
use std::rc::Rc;

use futures_util::future::join_all;

use crate::error::Error;
use crate::io::Io;
use crate::shard::read::Resident;
use crate::shard::request::{Answer, Found, LookFn, Op, Outcome, ScanRange};
use crate::shard::{Begun, Shard, caller};

/// Requests for one core: their numbers among all that were asked, and each with its shard.
pub(super) type Routed = (Vec<usize>, Vec<(u16, Op)>);

/// A read that has begun and waits for the device.
type Reading = Pin<Box<dyn Future<Output = Outcome>>>;

/// The requests of a batch that have begun and wait for the device, with their numbers.
#[derive(Default)]
struct Waiting {
    reads: Vec<(usize, Reading)>,
    writes: Vec<(usize, Begun)>,
}

/// Requests served between two looks at whether the core has something more urgent to do: some µs of work.
pub(super) const SERVED_A_SLICE: usize = 16;

/// Runs `ops`, each with its shard, and answers in their order.
pub(super) async fn run<I: Io>(ops: Vec<(Rc<Shard<I>>, Op)>) -> Vec<Outcome> {
    let mut answers: Vec<Option<Outcome>> = ops.iter().map(|_| None).collect();
    let mut waiting = Waiting::default();
    for (number, (shard, op)) in ops.into_iter().enumerate() {
        if must_settle(&shard, &op, !waiting.is_empty()) {
            waiting.settle(&mut answers).await;
        }
        if number % SERVED_A_SLICE == SERVED_A_SLICE - 1 && waiting.writes.is_empty() {
            shard.make_way().await;
        }
        match begin(&shard, op).await {
            Started::Done(outcome) => answers[number] = Some(outcome),
            Started::Read(read) => waiting.reads.push((number, read)),
            Started::Write(write) => waiting.writes.push((number, write)),
        }
    }
    waiting.settle(&mut answers).await;
    answers
        .into_iter()
        .map(|answer| answer.expect("every request was begun and settled"))
        .collect()
}

/// Runs one request to its end.
pub(super) async fn run_one<I: Io>(shard: Rc<Shard<I>>, op: Op) -> Outcome {
    match begin(&shard, op).await {
        Started::Done(outcome) => outcome,
        Started::Read(read) => read.await,
        Started::Write(write) => write.acknowledged().await.map(Answer::Written),
    }
}

enum Started {
    Done(Outcome),
    Read(Reading),
    Write(Begun),
}

async fn begin<I: Io>(shard: &Rc<Shard<I>>, op: Op) -> Started {
    match op {
        Op::Get { key, at } => begin_get(shard, key, at),
        Op::Look { key, look } => begin_look(shard, key, look),
        Op::Write { batch, durability } => begun(shard.begin_write(batch.encoded(), durability).await),
        Op::Update {
            key,
            apply,
            durability,
        } => begun(shard.begin_update(&key, apply, durability).await),
        Op::Transact {
            keys,
            apply,
            writes,
            durability,
        } => begun(shard.begin_transact(&keys, apply, writes, durability).await),
        Op::Scan(range) => Started::Done(shard.scan(range).await.map(Answer::Page)),
        Op::Count => Started::Done(count(shard).await.map(Answer::Count)),
        Op::Flush => Started::Done(shard.flush().await.map(|()| Answer::Done)),
        Op::Compact => Started::Done(shard.compact().await.map(|()| Answer::Done)),
        Op::Stats => Started::Done(Ok(Answer::Stats(Box::new(shard.stats())))),
    }
}

fn begun(begun: Result<Begun, Error>) -> Started {
    match begun {
        Ok(Begun::Done(sequence)) => Started::Done(Ok(Answer::Written(sequence))),
        Ok(staged) => Started::Write(staged),
        Err(error) => Started::Done(Err(error)),
    }
}

fn begin_get<I: Io>(shard: &Rc<Shard<I>>, key: Vec<u8>, at: Option<u64>) -> Started {
    if let Some(at) = at {
        let shard = Rc::clone(shard);
        return Started::Read(Box::pin(
            async move { shard.get(&key, at).await.map(Answer::Value) },
        ));
    }
    match shard.get_resident(&key, |value| value.map(<[u8]>::to_vec)) {
        Resident::Known(value) => Started::Done(Ok(Answer::Value(value))),
        Resident::Unknown => {
            // The tables are those of now: a write that follows in this batch is not seen.
            let (shard, live) = (Rc::clone(shard), shard.live());
            Started::Read(Box::pin(async move {
                shard
                    .get_from(live, &key, crate::types::MAX_SEQUENCE)
                    .await
                    .map(Answer::Value)
            }))
        }
    }
}

fn begin_look<I: Io>(shard: &Rc<Shard<I>>, key: Vec<u8>, look: LookFn) -> Started {
    let look = match look_at_once(shard, &key, look) {
        Ok(outcome) => return Started::Done(outcome),
        Err(look) => look,
    };
    // As for a get, the tables are those of now.
    let (shard, live) = (Rc::clone(shard), shard.live());
    Started::Read(Box::pin(async move {
        // One that does not want what has to be read is not run.
        let looked = shard.look_from(live, &key, look, run_look).await?;
        looked.unwrap_or(Ok(Answer::Done))
    }))
}

/// Runs `look` on what memory holds of `key`; gives it back where the device has to be asked.
pub(super) fn look_at_once<I: Io>(shard: &Shard<I>, key: &[u8], look: LookFn) -> Result<Outcome, LookFn> {
    let mut look = Some(look);
    let run = |found: Found<'_>| run_look(look.take().expect("one lookup answers once"), found);
    match shard.look_resident(key, run) {
        Resident::Known(outcome) => Ok(outcome),
        Resident::Unknown => Err(look.expect("a lookup that knows nothing runs nothing")),
    }
}

fn run_look(look: LookFn, found: Found<'_>) -> Outcome {
    caller::run("looking at a key", || look.run(found)).map(|()| Answer::Done)
}

/// Whether `op` must see writes of its own batch that are still waiting.
fn must_settle<I: Io>(shard: &Shard<I>, op: &Op, any_waiting: bool) -> bool {
    any_waiting
        && match op {
            Op::Get { key, .. } | Op::Look { key, .. } => shard.newest_staged(key, |_| ()).is_some(),
            Op::Write { .. } | Op::Update { .. } | Op::Transact { .. } | Op::Stats => false,
            Op::Scan(_) | Op::Count | Op::Flush | Op::Compact => true,
        }
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.reads.is_empty() && self.writes.is_empty()
    }

    /// Waits for everything that has begun: the reads are at the device together. The writes are with the commit loop and
    /// go on by themselves, so they are waited for one by one, which costs each nothing but a look.
    async fn settle(&mut self, answers: &mut [Option<Outcome>]) {
        let (numbers, reads): (Vec<_>, Vec<_>) = self.reads.drain(..).unzip();
        for (number, outcome) in numbers.into_iter().zip(join_all(reads).await) {
            answers[number] = Some(outcome);
        }
        for (number, write) in self.writes.drain(..) {
            answers[number] = Some(write.acknowledged().await.map(Answer::Written));
        }
    }
}

/// Entries looked at per step of a count: enough to spread the cost of a step, few enough to hold little.
const COUNT_STEP: usize = 4096;

/// Counts live keys by walking them, a page at a time so that other work gets its turn.
async fn count<I: Io>(shard: &Rc<Shard<I>>) -> Result<u64, Error> {
    let mut total = 0;
    let mut start = Bound::Unbounded;
    loop {
        let page = shard
            .scan(ScanRange {
                start,
                end: Bound::Unbounded,
                reverse: false,
                limit: COUNT_STEP,
                bytes_limit: usize::MAX,
                keys_only: true,
                at: None,
            })
            .await?;
        total += page.entries.len() as u64;
        match page.resume {
            Some(key) => start = Bound::Excluded(key),
            None => return Ok(total),
        }
    }
}
