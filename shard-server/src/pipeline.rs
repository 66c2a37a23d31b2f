//! Runs many commands of one connection as one batch.
//!
//! A **round** reads commands off the input, one by one, until the input holds no whole one or a bound is met:
//!
//! 1. A command that needs no store, and a lookup whose key is of this core and in memory, are answered at once.
//! 2. Any other becomes requests to shards, and a note (a [`Piece`]) of how its answer is made of their outcomes. From
//!    then on answers given at once wait behind it, so that the order of answers is that of the commands.
//! 3. At the end of the round all requests go to the store together, one message per core; their outcomes, which come
//!    only once they are durable, fill the pieces in order.
//! 4. A command that must see everything before it done (a scan, `HELLO`) ends its round and runs behind it.
//!
//! A lookup is answered from memory only while no write of its round waits: it must see that write. A command of many
//! keys is taken key by key and may go on over several rounds, so that its memory is bounded as that of many commands.
//! The number of requests in a round follows the size of the answers: it doubles while they are small and falls when
//! they are large.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use corelane::api::{Answer, Decision, Op, Outcome};
use corelane::types::MAX_KEY_BYTES;
use corelane::{Error, Result as EngineResult};

use crate::command::{Action, Call, Failure, Keys, Shape, Spec, table};
use crate::output::Output;
use crate::query::{self, Flow, Query};
use crate::resp::reply;
use crate::resp::request::{Found, Reader};
use crate::server::Server;
use crate::session::Session;
use crate::store::Store;

/// Most commands of a round.
const MAX_COMMANDS: usize = 1024;

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

/// Commands and keys taken between two looks at whether the core has something more urgent to do.
const STEPS_A_SLICE: usize = 64;

/// How one part of an answer comes about.
enum Piece {
    /// The next bytes of those kept aside.
    Ready { bytes: usize },
    /// The outcome of one lookup.
    Value,
    /// One outcome that counts, for the integer at the next `Tally`'s end.
    Counted,
    /// The integer of all that counted, and of `known` that needed no request.
    Tally { known: i64 },
    /// The outcome of one write.
    Shaped(Shape),
}

/// What a command of many keys does with each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Each {
    Value,
    Present,
    Delete,
}

/// A command of many keys, under way.
struct Running {
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

/// What a step of a round leads to.
enum Step {
    Next,
    Query(Query),
    Close,
}

#[derive(Default)]
struct Counts {
    commands: u64,
    errors: u64,
    hits: u64,
    misses: u64,
}

/// The commands of one connection on their way to the store and back.
pub struct Pipeline<S> {
    store: S,
    server: Arc<Server>,
    session: Session,
    reader: Reader,
    running: Option<Running>,
    ops: Vec<(u16, Op)>,
    writes: usize,
    pieces: Vec<Piece>,
    aside: Vec<u8>,
    tally: i64,
    tally_error: Option<Error>,
    ops_limit: usize,
    counts: Counts,
    /// The answers so far.
    pub output: Output,
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
            pieces: Vec::new(),
            aside: Vec::new(),
            tally: 0,
            tally_error: None,
            ops_limit: FIRST_OPS,
            counts: Counts::default(),
            output: Output::default(),
        }
    }

    /// Runs one round over the start of `input`; its answers are in [`Pipeline::output`], and every write among them
    /// has reached its durability. Between two rounds the consumed bytes are taken off the front of `input`; otherwise
    /// it only grows.
    pub async fn round(&mut self, input: &[u8]) -> Round {
        let (mut consumed, mut commands, mut steps) = (0, 0_usize, 0_usize);
        let mut query = None;
        let ended = loop {
            steps += 1;
            if steps.is_multiple_of(STEPS_A_SLICE) && self.store.should_yield() {
                self.store.yield_now().await;
            }
            let full = commands >= MAX_COMMANDS || consumed >= MAX_REQUEST_BYTES;
            if full || self.ops.len() >= self.ops_limit || self.waiting_bytes() >= FLUSH_BYTES {
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
                    self.fail(&error.into());
                    break Ended::Closing;
                }
            };
            commands += 1;
            let step = self.begin(&input[consumed..], bytes);
            if self.running.is_none() {
                consumed += bytes;
            }
            match step {
                Step::Next => {}
                Step::Close => break Ended::Closing,
                Step::Query(asked) => {
                    query = Some(asked);
                    break Ended::Full;
                }
            }
        };
        self.settle().await;
        let flow = match query {
            Some(query) => self.ask(query).await,
            None => Flow::Continue,
        };
        self.report();
        Round {
            consumed,
            ended: if flow == Flow::Close {
                Ended::Closing
            } else {
                ended
            },
        }
    }

    fn waiting_bytes(&self) -> usize {
        self.output.bytes() + self.aside.len()
    }

    /// Begins the request of `bytes` bytes at the start of `input`.
    fn begin(&mut self, input: &[u8], bytes: usize) -> Step {
        self.counts.commands += 1;
        match self.plan(input) {
            Ok(Action::Replied) => Step::Next,
            Ok(Action::RepliedAndClose | Action::Close) => Step::Close,
            Ok(Action::Value) => {
                self.look_up(input, 1);
                Step::Next
            }
            Ok(Action::Values) => {
                let keys = self.reader.arguments(input).count() - 1;
                self.write_at_once(|out| reply::array(out, keys));
                self.run_each(Each::Value, bytes)
            }
            Ok(Action::Present) => self.run_each(Each::Present, bytes),
            Ok(Action::Delete) => self.run_each(Each::Delete, bytes),
            Ok(Action::Write(op, shape)) => {
                let shard = self.store.shard_of(self.reader.arguments(input).at(1));
                self.push_write(shard, op, Piece::Shaped(shape));
                Step::Next
            }
            Ok(Action::Query(query)) => Step::Query(query),
            Err(failure) => {
                self.fail(&failure);
                Step::Next
            }
        }
    }

    /// Finds the command, checks what the table says of it, and lets its handler answer or ask.
    fn plan(&mut self, input: &[u8]) -> Result<Action, Failure> {
        let arguments = self.reader.arguments(input);
        let spec = table::find(arguments.at(0)).ok_or_else(|| Failure::unknown_command(arguments))?;
        if !spec.takes(arguments.count()) {
            return Err(Failure::arity(spec.name));
        }
        for place in spec.keys.places(arguments.count()) {
            if arguments.at(place).len() > MAX_KEY_BYTES {
                return Err(Failure::KEY_TOO_LONG);
            }
        }
        let direct = self.pieces.is_empty();
        let out = if direct {
            self.output.tail()
        } else {
            &mut self.aside
        };
        let before = out.len();
        let mut call = Call {
            arguments,
            session: &mut self.session,
            server: &self.server,
            out: &mut *out,
        };
        let action = (spec.run)(&mut call);
        if action.is_err() {
            out.truncate(before);
        }
        let written = out.len() - before;
        if !direct {
            self.note_aside(written);
        }
        if let Ok(Action::Write(..)) = &action {
            self.one_shard(spec, input)?;
        }
        action
    }

    /// Refuses a write whose keys are not of one shard: it would not be atomic.
    fn one_shard(&self, spec: &Spec, input: &[u8]) -> Result<(), Failure> {
        if spec.keys == Keys::ONE {
            return Ok(());
        }
        let arguments = self.reader.arguments(input);
        let mut shards = spec
            .keys
            .places(arguments.count())
            .map(|place| self.store.shard_of(arguments.at(place)));
        let first = shards.next();
        if shards.all(|shard| Some(shard) == first) {
            Ok(())
        } else {
            Err(Failure::CROSS_SHARD)
        }
    }

    fn run_each(&mut self, each: Each, request_bytes: usize) -> Step {
        self.running = Some(Running {
            each,
            next: 1,
            known: 0,
            request_bytes,
        });
        Step::Next
    }

    /// Takes the next key of the command under way. Returns the bytes of its request once the last key was taken.
    fn next_key(&mut self, input: &[u8]) -> usize {
        let mut running = self.running.take().expect("called while a command is under way");
        let arguments = self.reader.arguments(input);
        let (place, count) = (running.next, arguments.count());
        let key = arguments.at(place);
        match running.each {
            Each::Value => self.look_up(input, place),
            Each::Present => match self.resident(key, |value| value.is_some()) {
                Some(present) => {
                    running.known += i64::from(present);
                    self.count_lookup(present);
                }
                None => {
                    self.ops.push((
                        self.store.shard_of(key),
                        Op::Get {
                            key: key.to_vec(),
                            at: None,
                        },
                    ));
                    self.pieces.push(Piece::Counted);
                }
            },
            Each::Delete => {
                let op = delete(key.to_vec(), &self.server);
                self.push_write(self.store.shard_of(key), op, Piece::Counted);
            }
        }
        running.next += 1;
        if running.next < count {
            self.running = Some(running);
            return 0;
        }
        match (running.each, self.pieces.is_empty()) {
            (Each::Value, _) => {}
            (_, true) => self.write_tally(running.known),
            (_, false) => self.pieces.push(Piece::Tally { known: running.known }),
        }
        running.request_bytes
    }

    /// Answers with the value of the key at `place`, now if memory holds it.
    fn look_up(&mut self, input: &[u8], place: usize) {
        let arguments = self.reader.arguments(input);
        let key = arguments.at(place);
        let direct = self.pieces.is_empty();
        let protocol = self.session.protocol;
        let mut written = None;
        if self.writes == 0 {
            let out = if direct {
                self.output.tail()
            } else {
                &mut self.aside
            };
            let before = out.len();
            written = self.store.read_resident(key, |value| {
                match value {
                    Some(value) => reply::bulk(out, value),
                    None => reply::null(out, protocol),
                }
                (out.len() - before, value.is_some())
            });
        }
        match written {
            Some((bytes, present)) => {
                self.count_lookup(present);
                if !direct {
                    self.note_aside(bytes);
                }
            }
            None => {
                self.ops.push((
                    self.store.shard_of(key),
                    Op::Get {
                        key: key.to_vec(),
                        at: None,
                    },
                ));
                self.pieces.push(Piece::Value);
            }
        }
    }

    fn resident<R>(&self, key: &[u8], look: impl FnOnce(Option<&[u8]>) -> R) -> Option<R> {
        if self.writes > 0 {
            None
        } else {
            self.store.read_resident(key, look)
        }
    }

    fn push_write(&mut self, shard: u16, op: Op, piece: Piece) {
        self.ops.push((shard, op));
        self.writes += 1;
        self.pieces.push(piece);
    }

    /// Writes an answer that needs nothing, behind those that wait.
    fn write_at_once(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        if self.pieces.is_empty() {
            write(self.output.tail());
            return;
        }
        let before = self.aside.len();
        write(&mut self.aside);
        self.note_aside(self.aside.len() - before);
    }

    fn note_aside(&mut self, written: usize) {
        match self.pieces.last_mut() {
            Some(Piece::Ready { bytes }) => *bytes += written,
            _ if written > 0 => self.pieces.push(Piece::Ready { bytes: written }),
            _ => {}
        }
    }

    fn fail(&mut self, failure: &Failure) {
        self.counts.errors += 1;
        self.write_at_once(|out| reply::error(out, &failure.0));
    }

    fn count_lookup(&mut self, present: bool) {
        if present {
            self.counts.hits += 1;
        } else {
            self.counts.misses += 1;
        }
    }

    /// Sends the round's requests to the store and makes its answers of their outcomes.
    async fn settle(&mut self) {
        if self.pieces.is_empty() {
            return;
        }
        let before = self.output.bytes();
        let ops = std::mem::take(&mut self.ops);
        self.writes = 0;
        let asked = ops.len();
        let outcomes = if asked == 0 {
            Vec::new()
        } else {
            self.store.execute(ops).await
        };
        assert_eq!(outcomes.len(), asked, "the store answers every request");
        let (mut outcomes, mut aside) = (outcomes.into_iter(), 0);
        let pieces = std::mem::take(&mut self.pieces);
        for piece in pieces {
            match piece {
                Piece::Ready { bytes } => {
                    self.output
                        .tail()
                        .extend_from_slice(&self.aside[aside..aside + bytes]);
                    aside += bytes;
                }
                Piece::Value => self.write_value(next(&mut outcomes)),
                Piece::Counted => self.count(next(&mut outcomes)),
                Piece::Tally { known } => self.write_tally(known),
                Piece::Shaped(shape) => self.write_shaped(shape, next(&mut outcomes)),
            }
        }
        assert!(
            aside == self.aside.len() && outcomes.next().is_none(),
            "every part found its place"
        );
        self.aside.clear();
        self.aside.shrink_to(FLUSH_BYTES);
        self.widen_or_narrow(asked, self.output.bytes() - before);
    }

    fn widen_or_narrow(&mut self, ops: usize, bytes: usize) {
        if bytes > WIDE_BYTES {
            self.ops_limit = (ops * WIDE_BYTES / bytes).max(1);
        } else if ops >= self.ops_limit {
            self.ops_limit = (self.ops_limit * 2).min(MAX_OPS);
        }
    }

    fn write_value(&mut self, outcome: Outcome) {
        match outcome.map(value) {
            Ok(value) => {
                self.count_lookup(value.is_some());
                self.write_found(value);
            }
            Err(error) => self.write_error(&Failure::from(&error)),
        }
    }

    fn write_found(&mut self, value: Option<Vec<u8>>) {
        match value {
            Some(value) => self.output.bulk(value),
            None => reply::null(self.output.tail(), self.session.protocol),
        }
    }

    fn count(&mut self, outcome: Outcome) {
        match outcome {
            Ok(Answer::Value(value)) => {
                self.tally += i64::from(value.is_some());
                self.count_lookup(value.is_some());
            }
            Ok(answer) => self.tally += i64::from(wrote(&answer)),
            Err(error) => {
                self.tally_error.get_or_insert(error);
            }
        }
    }

    fn write_tally(&mut self, known: i64) {
        let counted = std::mem::take(&mut self.tally);
        match self.tally_error.take() {
            None => reply::integer(self.output.tail(), known + counted),
            Some(error) => self.write_error(&Failure::from(&error)),
        }
    }

    fn write_shaped(&mut self, shape: Shape, outcome: Outcome) {
        if let Err(failure) = self.try_shaped(shape, &outcome) {
            self.write_error(&failure);
        }
    }

    fn try_shaped(&mut self, shape: Shape, outcome: &EngineResult<Answer>) -> Result<(), Failure> {
        let answer = outcome.as_ref().map_err(Failure::from)?;
        let (out, protocol) = (self.output.tail(), self.session.protocol);
        match shape {
            Shape::Ok => reply::simple(out, "OK"),
            Shape::OkIfWritten if wrote(answer) => reply::simple(out, "OK"),
            Shape::OkIfWritten => reply::null(out, protocol),
            Shape::Number(sum) => reply::integer(out, sum.try_recv().map_err(|_| Failure::NOT_RUN)??),
            Shape::Previous(found) => {
                let found = found.try_recv().map_err(|_| Failure::NOT_RUN)?;
                self.write_found(found);
            }
        }
        Ok(())
    }

    fn write_error(&mut self, failure: &Failure) {
        self.counts.errors += 1;
        reply::error(self.output.tail(), &failure.0);
    }

    async fn ask(&mut self, query: Query) -> Flow {
        let answered = query::answer(
            query,
            &self.store,
            &self.server,
            &mut self.session,
            &mut self.output,
        )
        .await;
        answered.unwrap_or_else(|failure| {
            self.write_error(&failure);
            Flow::Continue
        })
    }

    /// Adds what was counted to the core's counts.
    fn report(&mut self) {
        let Counts {
            commands,
            errors,
            hits,
            misses,
        } = std::mem::take(&mut self.counts);
        let core = self.server.counts(self.store.core());
        for (total, n) in [
            (&core.commands, commands),
            (&core.errors, errors),
            (&core.hits, hits),
            (&core.misses, misses),
        ] {
            add(total, n);
        }
    }
}

fn add(total: &AtomicU64, n: u64) {
    if n > 0 {
        total.fetch_add(n, Ordering::Relaxed);
    }
}

fn next(outcomes: &mut impl Iterator<Item = Outcome>) -> Outcome {
    outcomes.next().expect("one outcome for each request")
}

/// Deletes a key if it is there.
fn delete(key: Vec<u8>, server: &Server) -> Op {
    let apply = Box::new(|present: Option<&[u8]>| match present {
        Some(_) => Decision::Delete,
        None => Decision::Keep,
    });
    Op::Update {
        key,
        apply,
        durability: server.settings.durability,
    }
}

fn value(answer: Answer) -> Option<Vec<u8>> {
    match answer {
        Answer::Value(value) => value,
        other => unreachable!("a lookup is answered by Value, not {other:?}"),
    }
}

/// Whether a write wrote anything: an update that kept its key has no sequence.
fn wrote(answer: &Answer) -> bool {
    match answer {
        Answer::Written(sequence) => *sequence != 0,
        other => unreachable!("a write is answered by Written, not {other:?}"),
    }
}
