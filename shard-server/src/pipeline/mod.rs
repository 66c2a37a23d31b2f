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
//!
//! However long the values are, the answers of a round take bounded memory ([`room`]):
//!
//! - A read whose answer has no room is **put off**. What comes before it is sent, then it and the reads behind it are
//!   asked again, as many at a time as there is room for; no more input is read before they are answered.
//! - A read must not see a write that follows it, and a client that reads and then writes (gives a lock back, say) has read
//!   before it wrote. So a read with a write behind it in its round is not put off: it is **owed** its answer. A write that
//!   answers what was there is **firm**: where its answer has no room it is not run and says so. Few of either share a
//!   round, of the latter the fewer the longer they were; where there are too many, the round ends before the write.

mod asked;
mod begin;
mod exec;
mod keys;
mod replies;
mod room;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use crate::command::Spec;
use crate::command::table::{self, Number};
use crate::output::Output;
use crate::query::{self, Flow, Query};
use crate::resp::guard::Bounds;
use crate::resp::request::{Found, Reader};
use crate::server::Server;
use crate::session::Session;
use crate::store::Store;
use crate::telemetry::cause::{self, Spent};
use crate::telemetry::slow::{self, SlowEntry};
use crate::transaction::Transaction;
use asked::Asked;
use replies::Replies;
use room::Budget;

/// Most commands of a round.
const MAX_COMMANDS: u64 = 1024;

/// A round ends once its commands have this many bytes.
const MAX_REQUEST_BYTES: usize = 1 << 20;

/// A round ends once this many bytes of answers wait: they are sent before more are made, and others come between. Making and
/// sending so much takes some 40 µs; a buffer of its size is not yet one that the allocator maps (`allocator.rs`).
pub const FLUSH_BYTES: usize = 64 * 1024;

/// Most requests of a round.
const MAX_OPS: usize = 1024;

/// Requests of a connection's first round, before the size of its answers is known.
const FIRST_OPS: usize = 128;

/// Answers of a round above this many bytes make the next one smaller.
const WIDE_BYTES: usize = 4 << 20;

/// How much more firm answers the next round may have while they are short. Answers of one length never take more than the
/// room for them then: so many times [`WIDE_BYTES`] fit in the 32 MiB there are, unless somebody sets them lower.
const FIRM_GROWTH: usize = 4;

/// Most reads of a round with a write behind them: enough for a device write to be shared by many commands, few enough that
/// their memory is bounded even where each is as long as a value may be.
const MOST_OWED: usize = 16;

/// Most writes of a round that answer what was there: so many that answers were short for long must be 512 KiB each, all of a
/// sudden, for any to be refused.
const MOST_FIRM: usize = 64;

/// Room for the numbers of a round's commands that stays from one round to the next.
const ENDED_KEPT: usize = 1024;

/// Commands and keys taken between two looks at whether the core has something more urgent to do.
const STEPS_A_SLICE: usize = 64;

/// Steps that a round counts for beside its commands: the clock is not read for each round of one short command.
const STEPS_A_ROUND: usize = 8;

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
    /// The round ends before it.
    Wait,
    Last(Number, Last),
    Close,
}

/// What is done at the end of a round, once everything before it was answered.
enum Last {
    Query(Query),
    Watch(Vec<Vec<u8>>),
    Exec,
}

/// Why no more commands are taken in a round, what was taken of the last one, and what is done behind them.
struct End {
    ended: Ended,
    bytes: usize,
    last: Option<(Number, Last)>,
}

impl End {
    /// With nothing to be done behind them.
    fn of(ended: Ended, bytes: usize) -> ControlFlow<Self, usize> {
        ControlFlow::Break(Self {
            ended,
            bytes,
            last: None,
        })
    }
}

/// What is left to be done once the reads that were put off are answered.
struct Rest {
    last: Option<(Number, Last)>,
    closing: bool,
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
    asked: Vec<Asked>,
    /// How many of `asked` write.
    writes: usize,
    ops_limit: usize,
    /// So many of `asked` are firm, each of them.
    firm_up_to: usize,
    /// How many of `asked` cannot be put off, of those whose answers may be long; and how many may be.
    firm: usize,
    firm_limit: usize,
    /// How many of its reads have a write behind them, of those whose answers may be long.
    owed: usize,
    /// Whether this round ended for that.
    firm_met: bool,
    /// What the answers of a round may take.
    budget: Budget,
    /// What comes behind the reads that were put off.
    rest: Option<Rest>,
    /// Commands begun in this round.
    commands: u64,
    /// Steps taken since the core was last asked whether it has something more urgent to do.
    steps: usize,
    /// How long this round has made way for what is more urgent.
    gave_way: Duration,
    /// What the rounds took that the reads which were put off have been through. That its client was sent what is before them
    /// is no part of it.
    put_off: Duration,
    /// The last one that the table knows, and the one that `CLIENT LIST` shows.
    last: Option<Number>,
    shown: Option<Number>,
    shown_queued: Option<usize>,
    /// When the last round ended: the next one did not begin before. Where its answers were sent without a wait, that is counted
    /// as the next one's.
    ended_at: Duration,
    /// The commands of a round, on their way to the counts.
    ended: Vec<(Number, bool)>,
    replies: Replies,
}

impl<S: Store> Pipeline<S> {
    /// For a client that has just connected.
    pub fn new(store: S, server: Arc<Server>, session: Session) -> Self {
        Self {
            budget: Budget::of(server.limits().output_hard_bytes),
            store,
            server,
            session,
            reader: Reader::default(),
            running: None,
            asked: Vec::new(),
            writes: 0,
            ops_limit: FIRST_OPS,
            firm_up_to: 0,
            firm: 0,
            firm_limit: 1,
            owed: 0,
            firm_met: false,
            rest: None,
            commands: 0,
            steps: 0,
            gave_way: Duration::ZERO,
            put_off: Duration::ZERO,
            last: None,
            shown: None,
            shown_queued: None,
            ended_at: Duration::ZERO,
            ended: Vec::new(),
            replies: Replies::default(),
        }
    }

    /// The answers of the rounds so far that were not taken yet.
    pub fn output(&mut self) -> &mut Output {
        &mut self.replies.output
    }

    /// Bytes held for the client from one round to the next: its transaction, what it watches, and the answers behind reads
    /// that were put off.
    pub fn held_bytes(&self) -> usize {
        self.session.held_bytes() + self.replies.held_bytes()
    }

    /// Gives the answers of a round other room: `reads_bytes` those of reads, `firm_bytes` those that are firm.
    #[cfg(test)]
    pub(crate) fn with_room(mut self, reads_bytes: usize, firm_bytes: usize, small_bytes: usize) -> Self {
        self.budget = Budget {
            reads_bytes,
            firm_bytes,
            small_bytes,
        };
        self
    }

    /// Runs one round over the start of `input`; its answers are then in [`Pipeline::output`], and every write among
    /// them has reached its durability. Between two rounds the consumed bytes are taken off the front of `input`;
    /// otherwise it only grows. With [`FLUSH_BYTES`] or more in the output a round does nothing: send them first.
    pub async fn round(&mut self, input: &[u8]) -> Round {
        if self.slice_is_over(STEPS_A_ROUND) {
            self.give_way().await;
        }
        self.gave_way = Duration::ZERO;
        let began = self.store.polled_at().max(self.ended_at);
        if self.replies.has_later() {
            return self.go_on(began).await;
        }
        let (mut consumed, mut last) = (0, None);
        self.reader.bounds = Bounds::of(self.server.limits(), self.session.authenticated);
        let ended = loop {
            if self.slice_is_over(1) {
                self.give_way().await;
            }
            let full = self.commands >= MAX_COMMANDS || consumed >= MAX_REQUEST_BYTES;
            if full || self.asked.len() >= self.ops_limit || self.replies.bytes() >= FLUSH_BYTES {
                break Ended::Full;
            }
            match self.take(&input[consumed..]) {
                ControlFlow::Continue(bytes) => consumed += bytes,
                ControlFlow::Break(end) => {
                    consumed += end.bytes;
                    last = end.last;
                    break end.ended;
                }
            }
        };
        let asked = if self.asked.is_empty() {
            self.none_asked()
        } else {
            self.settle().await
        };
        let answered = self.store.now();
        let finished = last.as_ref().map(|(number, _)| *number);
        let closing = ended == Ended::Closing;
        let ended = if closing || last.is_some() || self.replies.has_later() {
            match self.wind_up(Rest { last, closing }).await {
                Ended::Starved => ended,
                other => other,
            }
        } else {
            ended
        };
        let (finished, ended_at) = self.finished_at(finished, answered);
        self.ended_at = ended_at;
        self.report(input, asked, finished, ended_at.saturating_sub(began));
        Round { consumed, ended }
    }

    /// Takes the next command off the start of `input`, or the next key of the one under way, and tells how many bytes are done
    /// with; or why the round ends.
    fn take(&mut self, input: &[u8]) -> ControlFlow<End, usize> {
        if self.running.is_some() {
            return match self.next_key(input) {
                Some(bytes) => ControlFlow::Continue(bytes),
                None => End::of(Ended::Full, 0),
            };
        }
        let bytes = match self.reader.next(input) {
            Ok(Found::Partial) => return End::of(Ended::Starved, 0),
            Ok(Found::Nothing { bytes }) => return ControlFlow::Continue(bytes),
            Ok(Found::Request { bytes }) => bytes,
            Err(error) => {
                self.replies.reject(&error.into());
                return End::of(Ended::Closing, 0);
            }
        };
        match self.begin(input, bytes) {
            Step::Running => ControlFlow::Continue(0),
            Step::Next => ControlFlow::Continue(bytes),
            Step::Wait => End::of(Ended::Full, 0),
            Step::Close => End::of(Ended::Closing, bytes),
            Step::Last(number, asked) => ControlFlow::Break(End {
                ended: Ended::Full,
                bytes,
                last: Some((number, asked)),
            }),
        }
    }

    /// The command that ran behind all others, with what it took, and when the round ended; the clock is read only where one
    /// may have run.
    fn finished_at(
        &self,
        last: Option<Number>,
        answered: Duration,
    ) -> (Option<(Number, Duration)>, Duration) {
        let ran = last.filter(|_| self.rest.is_none());
        let ended_at = if ran.is_some() { self.store.now() } else { answered };
        let took = ended_at.saturating_sub(answered);
        (ran.map(|number| (number, took)), ended_at)
    }

    /// Asks for reads that were put off, as many as there is room for, before anything else is begun.
    async fn go_on(&mut self, began: Duration) -> Round {
        let mut ended = Ended::Full;
        if self.replies.output.bytes() < FLUSH_BYTES {
            let store = &self.store;
            let shard_of = |key: &[u8]| store.shard_of(key);
            let most_bytes = self.budget.reads_bytes.min(WIDE_BYTES);
            self.asked = self.replies.ask_again(MAX_OPS, most_bytes, shard_of);
            let asked = self.settle().await;
            let answered = self.store.now();
            let mut finished = None;
            if let Some(rest) = self.rest.take() {
                finished = rest.last.as_ref().map(|(number, _)| *number);
                if self.wind_up(rest).await == Ended::Closing {
                    ended = Ended::Closing;
                }
            }
            let (finished, ended_at) = self.finished_at(finished, answered);
            self.ended_at = ended_at;
            self.report(&[], asked, finished, ended_at.saturating_sub(began));
        }
        Round { consumed: 0, ended }
    }

    /// Does what comes behind the answers; later where some were put off. `Starved` where nothing keeps the input from being
    /// gone on with.
    async fn wind_up(&mut self, rest: Rest) -> Ended {
        if self.replies.has_later() {
            self.rest = Some(rest);
            return Ended::Full;
        }
        let flow = match rest.last {
            Some((number, last)) => self.finish(number, last).await,
            None => Flow::Continue,
        };
        if rest.closing || flow == Flow::Close {
            Ended::Closing
        } else {
            Ended::Starved
        }
    }

    /// Takes so many steps. Whether they are [`STEPS_A_SLICE`] now, and [`Pipeline::give_way`] is to follow.
    fn slice_is_over(&mut self, steps: usize) -> bool {
        self.steps += steps;
        self.steps >= STEPS_A_SLICE
    }

    /// Lets the core do what is more urgent, if there is anything.
    async fn give_way(&mut self) {
        self.steps = 0;
        if self.store.should_yield() {
            let began = self.store.now();
            self.store.yield_now().await;
            self.gave_way += self.store.now().saturating_sub(began);
        }
    }

    /// What a round asked that had everything at hand.
    fn none_asked(&self) -> cause::Asked {
        let of_those_asked = (self.writes, self.owed, self.firm);
        assert_eq!(of_those_asked, (0, 0, 0), "they are counted as they are asked");
        cause::Asked::default()
    }

    /// Sends the round's requests to the store and makes its answers of their outcomes. Returns what they were, and took.
    async fn settle(&mut self) -> cause::Asked {
        assert!(!self.asked.is_empty(), "there is something to ask for");
        let before = self.replies.output.bytes();
        let asked = std::mem::take(&mut self.asked);
        self.firm_up_to = 0;
        self.owed = 0;
        let mut told = cause::Asked {
            requests: asked.len(),
            writes: std::mem::take(&mut self.writes),
            shard: asked.first().map(Asked::shard),
            took: Duration::ZERO,
        };
        let (ops, room) = asked::to_ops(asked, self.budget, self.server.settings.durability);
        let began = self.store.now();
        let outcomes = self.store.execute(ops).await;
        told.took = self.store.now().saturating_sub(began);
        assert_eq!(outcomes.len(), told.requests, "the store answers every request");
        let room = room.as_deref();
        self.replies.settle(outcomes, room, self.session.protocol);
        // Those that are asked again have been looked at before.
        if self.rest.is_none() {
            let bytes = self.replies.output.bytes() - before + self.replies.later_bytes();
            self.widen_or_narrow(told.requests, bytes, room.map_or(0, room::Room::firm_wanted));
        }
        told
    }

    /// Fits the next round to what the answers of this one took, those that were put off included.
    fn widen_or_narrow(&mut self, ops: usize, bytes: usize, firm_bytes: usize) {
        if bytes > WIDE_BYTES {
            self.ops_limit = (ops * WIDE_BYTES / bytes).max(1);
        } else if ops >= self.ops_limit {
            self.ops_limit = (self.ops_limit * 2).min(MAX_OPS);
        }
        let firm = std::mem::take(&mut self.firm);
        let met = std::mem::take(&mut self.firm_met) || firm >= self.firm_limit;
        // Where so many answers of one length fit, the next round's do.
        let wide_bytes = WIDE_BYTES.min(self.budget.firm_bytes / FIRM_GROWTH);
        if firm_bytes > wide_bytes {
            self.firm_limit = (firm * wide_bytes / firm_bytes).max(1);
        } else if met && bytes <= WIDE_BYTES {
            self.firm_limit = (self.firm_limit * FIRM_GROWTH).min(MOST_FIRM);
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
    fn report(
        &mut self,
        input: &[u8],
        asked: cause::Asked,
        last: Option<(Number, Duration)>,
        latency: Duration,
    ) {
        self.show_last();
        let counts = std::mem::take(&mut self.replies.counts);
        self.replies.take_commands(&mut self.ended);
        let before = std::mem::take(&mut self.put_off);
        let latency = before + latency;
        if self.replies.has_later() {
            self.put_off = latency;
        }
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
                total.add(n);
            }
        }
        if !self.ended.is_empty() && telemetry.slow().is_slow(latency) {
            telemetry
                .slow()
                .offer(self.slow_entry(input, asked, last, (before, latency)));
        }
        // A transaction of many commands has filled it.
        self.ended.truncate(ENDED_KEPT);
        self.ended.shrink_to(ENDED_KEPT);
    }

    /// The slow log's entry for a round: computed only for slow ones.
    fn slow_entry(
        &self,
        input: &[u8],
        asked: cause::Asked,
        last: Option<(Number, Duration)>,
        (put_off, latency): (Duration, Duration),
    ) -> SlowEntry {
        let spent = Spent {
            total: latency,
            put_off,
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
            at_ms: self.store.wall_clock_ms(),
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
