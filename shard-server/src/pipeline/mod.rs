//! Runs many commands of one connection as one batch.
//!
//! A **round** reads commands off the input, one by one, until the input holds no whole one or a bound is met:
//!
//! 1. A command that needs no store, and a lookup whose key is of this core and in memory, are answered at once.
//! 2. Any other becomes requests to shards, and notes of how its answer is made of their outcomes ([`replies`]). From
//!    then on answers given at once wait behind it, so that the order of answers is that of the commands.
//! 3. At the end of the round all requests go to the store together, one message per core; their outcomes, which come
//!    only once they are durable, fill the answers in order.
//! 4. A command that must see everything before it done (a scan, `HELLO`, `EXEC`) ends its round and runs behind it.
//!
//! A lookup is answered from memory only while no write of its round waits: it must see that write. A command of many
//! keys is taken key by key and may go on over several rounds, so that its memory is bounded as that of many commands.
//! The number of requests in a round follows the size of the answers: it doubles while they are small and falls when
//! they are large.

mod begin;
mod exec;
mod keyed;
mod keys;
mod replies;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use corelane::api::Op;

use crate::command::Spec;
use crate::command::table::{self, Number};
use crate::output::Output;
use crate::query::{self, Flow, Query};
use crate::resp::guard::Bounds;
use crate::resp::request::{Found, Reader};
use crate::server::Server;
use crate::session::Session;
use crate::store::Store;
use crate::telemetry::cause::{Asked, Spent};
use crate::telemetry::slow::{self, SlowEntry};
use crate::transaction::Transaction;
use replies::Replies;

/// Most commands of a round.
const MAX_COMMANDS: u64 = 1024;

/// A round ends once its commands have this many bytes.
const MAX_REQUEST_BYTES: usize = 1 << 20;

/// A round ends once this many bytes of answers wait: they are sent before more are made.
pub const FLUSH_BYTES: usize = 256 * 1024;

/// Most requests of a round.
const MAX_OPS: usize = 1024;

/// Requests of a connection's first round, before the size of its answers is known.
const FIRST_OPS: usize = 128;

/// Answers of a round above this many bytes make the next one smaller.
const WIDE_BYTES: usize = 4 << 20;

/// Room for the numbers of a round's commands that stays from one round to the next.
const ENDED_KEPT: usize = 1024;

/// Commands and keys taken between two looks at whether the core has something more urgent to do.
const STEPS_A_SLICE: usize = 64;

/// Bytes of values that a command answered in place looked at and that count as one step: about what a short lookup costs.
const BYTES_A_STEP: usize = 4096;

/// What a command of many keys does with each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Each {
    Value,
    Present,
    Delete,
}

/// A command of many keys, under way.
struct Running {
    number: Number,
    each: Each,
    /// The argument that comes next.
    next: usize,
    /// Keys that counted without a request.
    known: i64,
    /// Length of the request, taken off the input when it is done.
    request_bytes: usize,
}

/// Why a round ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The input holds no further whole command.
    Starved,
    /// A bound was met; there may be more.
    Full,
    /// The connection ends once the answers are sent.
    Closing,
}

/// One round's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Round {
    /// Bytes of the input that are done with.
    pub consumed: usize,
    /// Why it ended.
    pub ended: Ended,
}

/// What beginning a command leads to.
enum Step {
    Next,
    Running,
    Last(Number, Last),
    Close,
}

/// What is done at the end of a round, once everything before it was answered.
enum Last {
    Query(Query),
    Watch(Vec<Vec<u8>>),
    Exec,
}

/// A command that the table knows, and whose arguments it allows.
#[derive(Clone, Copy)]
struct Known {
    number: Number,
    spec: &'static Spec,
}

/// The commands of one connection on their way to the store and back.
pub struct Pipeline<S> {
    store: S,
    server: Arc<Server>,
    session: Session,
    reader: Reader,
    running: Option<Running>,
    ops: Vec<(u16, Op)>,
    /// How many of `ops` write.
    writes: usize,
    ops_limit: usize,
    /// Commands begun in this round.
    commands: u64,
    /// Steps taken since the core was last asked whether it has something more urgent to do.
    steps: usize,
    /// How long this round has made way for what is more urgent.
    gave_way: Duration,
    /// The last one that the table knows, and the one that `CLIENT LIST` shows.
    last: Option<Number>,
    shown: Option<Number>,
    shown_queued: Option<usize>,
    /// The time in ms since the Unix epoch when this round began.
    now_ms: u64,
    /// The commands of a round, on their way to the counts.
    ended: Vec<(Number, bool)>,
    replies: Replies,
}

impl<S: Store> Pipeline<S> {
    /// For a client that has just connected.
    pub fn new(store: S, server: Arc<Server>, session: Session) -> Self {
        Self {
            store,
            server,
            session,
            reader: Reader::default(),
            running: None,
            ops: Vec::new(),
            writes: 0,
            ops_limit: FIRST_OPS,
            commands: 0,
            steps: 0,
            gave_way: Duration::ZERO,
            last: None,
            shown: None,
            shown_queued: None,
            now_ms: 0,
            ended: Vec::new(),
            replies: Replies::default(),
        }
    }

    /// The answers of the rounds so far that were not taken yet.
    pub fn output(&mut self) -> &mut Output {
        &mut self.replies.output
    }

    /// Bytes held for the client from one round to the next: its transaction, and what it watches.
    pub fn held_bytes(&self) -> usize {
        self.session.held_bytes()
    }

    /// Runs one round over the start of `input`; its answers are then in [`Pipeline::output`], and every write among
    /// them has reached its durability. Between two rounds the consumed bytes are taken off the front of `input`;
    /// otherwise it only grows. With [`FLUSH_BYTES`] or more in the output a round does nothing: send them first.
    pub async fn round(&mut self, input: &[u8]) -> Round {
        self.make_way().await;
        self.gave_way = Duration::ZERO;
        let began = self.store.now();
        self.now_ms = self.store.wall_clock_ms();
        let (mut consumed, mut last) = (0, None);
        self.reader.bounds = Bounds::of(self.server.limits(), self.session.authenticated);
        let ended = loop {
            self.steps += 1;
            if self.steps >= STEPS_A_SLICE {
                self.make_way().await;
            }
            let full = self.commands >= MAX_COMMANDS || consumed >= MAX_REQUEST_BYTES;
            if full || self.ops.len() >= self.ops_limit || self.replies.bytes() >= FLUSH_BYTES {
                break Ended::Full;
            }
            if self.running.is_some() {
                consumed += self.next_key(&input[consumed..]);
                continue;
            }
            let bytes = match self.reader.next(&input[consumed..]) {
                Ok(Found::Partial) => break Ended::Starved,
                Ok(Found::Nothing { bytes }) => {
                    consumed += bytes;
                    continue;
                }
                Ok(Found::Request { bytes }) => bytes,
                Err(error) => {
                    self.replies.reject(&error.into());
                    break Ended::Closing;
                }
            };
            match self.begin(&input[consumed..], bytes) {
                Step::Running => {}
                Step::Next => consumed += bytes,
                Step::Close => {
                    consumed += bytes;
                    break Ended::Closing;
                }
                Step::Last(number, asked) => {
                    consumed += bytes;
                    last = Some((number, asked));
                    break Ended::Full;
                }
            }
        };
        let asked = self.settle().await;
        let answered = self.store.now();
        let (flow, last) = match last {
            Some((number, last)) => (self.finish(number, last).await, Some(number)),
            None => (Flow::Continue, None),
        };
        let ended_at = if last.is_some() {
            self.store.now()
        } else {
            answered
        };
        let last = last.map(|number| (number, ended_at.saturating_sub(answered)));
        self.report(input, asked, last, ended_at.saturating_sub(began));
        Round {
            consumed,
            ended: if flow == Flow::Close {
                Ended::Closing
            } else {
                ended
            },
        }
    }

    /// Lets the core do what is more urgent: after so many steps, and once a round, so that many short rounds, as of clients
    /// that send one long read at a time, do not hold it.
    async fn make_way(&mut self) {
        self.steps = 0;
        if self.store.should_yield() {
            let began = self.store.now();
            self.store.yield_now().await;
            self.gave_way += self.store.now().saturating_sub(began);
        }
    }

    /// Sends the round's requests to the store and makes its answers of their outcomes. Returns what they were, and took.
    async fn settle(&mut self) -> Asked {
        let before = self.replies.output.bytes();
        let ops = std::mem::take(&mut self.ops);
        let mut asked = Asked {
            requests: ops.len(),
            writes: std::mem::take(&mut self.writes),
            shard: ops.first().map(|(shard, _)| *shard),
            took: Duration::ZERO,
        };
        let outcomes = if asked.requests == 0 {
            Vec::new()
        } else {
            let began = self.store.now();
            let outcomes = self.store.execute(ops).await;
            asked.took = self.store.now().saturating_sub(began);
            outcomes
        };
        assert_eq!(outcomes.len(), asked.requests, "the store answers every request");
        self.replies.settle(outcomes, self.session.protocol);
        self.widen_or_narrow(asked.requests, self.replies.output.bytes() - before);
        asked
    }

    fn widen_or_narrow(&mut self, ops: usize, bytes: usize) {
        if bytes > WIDE_BYTES {
            self.ops_limit = (ops * WIDE_BYTES / bytes).max(1);
        } else if ops >= self.ops_limit {
            self.ops_limit = (self.ops_limit * 2).min(MAX_OPS);
        }
    }

    /// Does what waited until everything before it was answered.
    async fn finish(&mut self, number: Number, last: Last) -> Flow {
        let answered = match last {
            Last::Query(query) => {
                let output = &mut self.replies.output;
                query::answer(query, &self.store, &self.server, &mut self.session, output).await
            }
            Last::Watch(keys) => self.watch(keys).await.map(|()| Flow::Continue),
            Last::Exec => self.exec().await.map(|()| Flow::Continue),
        };
        let flow = answered.unwrap_or_else(|failure| {
            self.replies.fail(&failure);
            Flow::Continue
        });
        self.replies.end_command(number);
        flow
    }

    /// Says to `CLIENT LIST` what ran last, and how many commands wait for `EXEC`.
    fn show_last(&mut self) {
        if self.last != self.shown {
            self.shown = self.last;
            self.session.client.set_command(self.last.unwrap_or(Number::MAX));
        }
        let queued = self.session.transaction.as_ref().map(Transaction::len);
        if queued != self.shown_queued {
            self.shown_queued = queued;
            self.session
                .client
                .set_queued(queued.and_then(|n| u32::try_from(n).ok()));
        }
    }

    /// Adds what was counted to the core's counts, and offers a slow round to the slow log.
    fn report(&mut self, input: &[u8], asked: Asked, last: Option<(Number, Duration)>, latency: Duration) {
        self.show_last();
        let counts = std::mem::take(&mut self.replies.counts);
        self.replies.take_commands(&mut self.ended);
        let telemetry = self.server.telemetry();
        let core = telemetry.core(self.store.core());
        core.round(&self.ended, latency);
        let (commands, errors) = (std::mem::take(&mut self.commands), counts.errors.total());
        if errors > 0 {
            core.errors(&counts.errors);
        }
        for (total, n) in [
            (&core.counts.commands, commands),
            (&core.counts.errors, errors),
            (&core.counts.hits, counts.hits),
            (&core.counts.misses, counts.misses),
        ] {
            if n > 0 {
                total.fetch_add(n, Ordering::Relaxed);
            }
        }
        if !self.ended.is_empty() && telemetry.slow().is_slow(latency) {
            telemetry
                .slow()
                .offer(self.slow_entry(input, asked, last, latency));
        }
        // A transaction of many commands has filled it.
        self.ended.truncate(ENDED_KEPT);
        self.ended.shrink_to(ENDED_KEPT);
    }

    /// The slow log's entry for a round: computed only for slow ones.
    fn slow_entry(
        &self,
        input: &[u8],
        asked: Asked,
        last: Option<(Number, Duration)>,
        latency: Duration,
    ) -> SlowEntry {
        let spent = Spent {
            total: latency,
            asked,
            durability: self.server.settings.durability,
            stall: asked
                .shard
                .and_then(|shard| self.store.stall_of(shard))
                .unwrap_or_default(),
            gave_way: self.gave_way,
            last: last.map(|(number, took)| (table::ALL[usize::from(number)].name, took)),
            commands: self.ended.len(),
        };
        SlowEntry {
            at_ms: self
                .now_ms
                .saturating_add(u64::try_from(latency.as_millis()).unwrap_or(0)),
            latency,
            arguments: slow::first_of(input, self.server.telemetry().slow().shows_arguments()),
            commands: self.ended.len(),
            requests: asked.requests,
            shard: asked.shard,
            cause: spent.cause(),
            client_address: self.session.client.address.to_string(),
            client_name: self.session.client.names().name.clone(),
        }
    }
}
