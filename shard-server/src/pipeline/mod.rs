//! Runs many commands of one connection as one batch.
//!
//! A **round** reads commands off the input, one by one, until the input holds no whole one or a bound is met:
//!
//! 1. A command that needs no store, and a lookup whose key is of this core and in memory, are answered at once.
//! 2. Any other becomes requests to shards, and notes of how its answer is made of their outcomes ([`replies`]). From
//!    then on answers given at once wait behind it, so that the order of answers is that of the commands.
//! 3. At the end of the round all requests go to the store together, one message per core; their outcomes, which come
//!    only once they are durable, fill the answers in order.
//! 4. A command that must see everything before it done (a scan, `HELLO`) ends its round and runs behind it.
//!
//! A lookup is answered from memory only while no write of its round waits: it must see that write. A command of many
//! keys is taken key by key and may go on over several rounds, so that its memory is bounded as that of many commands.
//! The number of requests in a round follows the size of the answers: it doubles while they are small and falls when
//! they are large.

mod replies;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use corelane::api::{Decision, Op};
use corelane::types::MAX_KEY_BYTES;

use crate::auth::permit;
use crate::command::{Action, Call, Failure, Keys, Spec, table};
use crate::output::Output;
use crate::query::{self, Flow, Query};
use crate::resp::guard::Bounds;
use crate::resp::reply;
use crate::resp::request::{Found, Reader};
use crate::server::Server;
use crate::session::Session;
use crate::store::Store;
use replies::{Piece, Replies};

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

/// Commands and keys taken between two looks at whether the core has something more urgent to do.
const STEPS_A_SLICE: usize = 64;

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

/// What beginning a command leads to.
enum Step {
    Next,
    Query(Query),
    Close,
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
    /// The last one that the table knows, and the one that `CLIENT LIST` shows.
    last: Option<&'static Spec>,
    shown: Option<&'static Spec>,
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
            last: None,
            shown: None,
            replies: Replies::default(),
        }
    }

    /// The answers of the rounds so far that were not taken yet.
    pub fn output(&mut self) -> &mut Output {
        &mut self.replies.output
    }

    /// Runs one round over the start of `input`; its answers are then in [`Pipeline::output`], and every write among
    /// them has reached its durability. Between two rounds the consumed bytes are taken off the front of `input`;
    /// otherwise it only grows. With [`FLUSH_BYTES`] or more in the output a round does nothing: send them first.
    pub async fn round(&mut self, input: &[u8]) -> Round {
        let (mut consumed, mut steps) = (0, 0_usize);
        let mut query = None;
        self.reader.bounds = Bounds::of(self.server.limits(), self.session.authenticated);
        let ended = loop {
            steps += 1;
            if steps.is_multiple_of(STEPS_A_SLICE) && self.store.should_yield() {
                self.store.yield_now().await;
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
                    self.replies.fail(&error.into());
                    break Ended::Closing;
                }
            };
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

    /// Begins the request of `bytes` bytes at the start of `input`.
    fn begin(&mut self, input: &[u8], bytes: usize) -> Step {
        self.commands += 1;
        let each = match self.plan(input) {
            Ok(Action::Replied) => return Step::Next,
            Ok(Action::Close) => return Step::Close,
            Ok(Action::Query(query)) => return Step::Query(query),
            Ok(Action::Value) => {
                self.look_up(input, 1);
                return Step::Next;
            }
            Ok(Action::Write(op, shape)) => {
                let shard = self.store.shard_of(self.reader.arguments(input).at(1));
                self.push_write(shard, op, Piece::Shaped(shape));
                return Step::Next;
            }
            Err(failure) => {
                self.replies.fail(&failure);
                return Step::Next;
            }
            Ok(Action::Values) => {
                let keys = self.reader.arguments(input).count() - 1;
                self.replies.write(|out| reply::array(out, keys));
                Each::Value
            }
            Ok(Action::Present) => Each::Present,
            Ok(Action::Delete) => Each::Delete,
        };
        self.running = Some(Running {
            each,
            next: 1,
            known: 0,
            request_bytes: bytes,
        });
        Step::Next
    }

    /// Finds the command, checks what the table says of it, and lets its handler answer or ask.
    fn plan(&mut self, input: &[u8]) -> Result<Action, Failure> {
        let arguments = self.reader.arguments(input);
        let spec = table::find(arguments.at(0)).ok_or_else(|| Failure::unknown_command(arguments))?;
        self.last = Some(spec);
        if !spec.takes(arguments.count()) {
            return Err(Failure::arity(spec.name));
        }
        permit(&self.session, spec, arguments, self.server.limits())?;
        if self.session.own_core
            && let Some(topology) = self.server.topology()
        {
            topology.route(self.store.core(), spec, arguments)?;
        }
        for place in spec.keys.places(arguments.count()) {
            if arguments.at(place).len() > MAX_KEY_BYTES {
                return Err(Failure::KEY_TOO_LONG);
            }
        }
        let (session, server) = (&mut self.session, &*self.server);
        let action = self.replies.write(|out| {
            let before = out.len();
            let action = (spec.run)(&mut Call {
                arguments,
                session,
                server,
                out,
            });
            if action.is_err() {
                out.truncate(before);
            }
            action
        })?;
        if matches!(action, Action::Write(..)) {
            self.one_shard(spec, input)?;
        }
        Ok(action)
    }

    /// Refuses a write whose keys are not of one shard: it would not be atomic.
    fn one_shard(&self, spec: &Spec, input: &[u8]) -> Result<(), Failure> {
        if spec.keys == Keys::ONE {
            return Ok(());
        }
        let arguments = self.reader.arguments(input);
        let places = spec.keys.places(arguments.count());
        let mut shards = places.map(|place| self.store.shard_of(arguments.at(place)));
        let first = shards.next();
        if shards.all(|shard| Some(shard) == first) {
            Ok(())
        } else {
            Err(Failure::CROSS_SHARD)
        }
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
                    self.replies.counts.lookup(present);
                }
                None => {
                    self.ops.push(get(&self.store, key));
                    self.replies.wait(Piece::Counted);
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
        if running.each != Each::Value {
            self.replies.end_tally(running.known);
        }
        running.request_bytes
    }

    /// Answers with the value of the key at `place`, now if memory holds it.
    fn look_up(&mut self, input: &[u8], place: usize) {
        let key = self.reader.arguments(input).at(place);
        let (store, protocol) = (&self.store, self.session.protocol);
        let resident = if self.writes > 0 {
            None
        } else {
            self.replies.write(|out| {
                store.read_resident(key, |value| {
                    match value {
                        Some(value) => reply::bulk(out, value),
                        None => reply::null(out, protocol),
                    }
                    value.is_some()
                })
            })
        };
        match resident {
            Some(present) => self.replies.counts.lookup(present),
            None => {
                self.ops.push(get(store, key));
                self.replies.wait(Piece::Value);
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
        self.replies.wait(piece);
    }

    /// Sends the round's requests to the store and makes its answers of their outcomes.
    async fn settle(&mut self) {
        let before = self.replies.output.bytes();
        let ops = std::mem::take(&mut self.ops);
        self.writes = 0;
        let asked = ops.len();
        let outcomes = if asked == 0 {
            Vec::new()
        } else {
            self.store.execute(ops).await
        };
        assert_eq!(outcomes.len(), asked, "the store answers every request");
        self.replies.settle(outcomes, self.session.protocol);
        self.widen_or_narrow(asked, self.replies.output.bytes() - before);
    }

    fn widen_or_narrow(&mut self, ops: usize, bytes: usize) {
        if bytes > WIDE_BYTES {
            self.ops_limit = (ops * WIDE_BYTES / bytes).max(1);
        } else if ops >= self.ops_limit {
            self.ops_limit = (self.ops_limit * 2).min(MAX_OPS);
        }
    }

    async fn ask(&mut self, query: Query) -> Flow {
        let output = &mut self.replies.output;
        let answered = query::answer(query, &self.store, &self.server, &mut self.session, output).await;
        answered.unwrap_or_else(|failure| {
            self.replies.fail(&failure);
            Flow::Continue
        })
    }

    /// Says to `CLIENT LIST` what ran last; looked up only where it is another command than before.
    fn show_last(&mut self) {
        if self.last.map(|spec| spec.name) != self.shown.map(|spec| spec.name) {
            self.shown = self.last;
            let place = self.last.and_then(|spec| table::place(spec.name));
            self.session.client.set_command(place.unwrap_or(u16::MAX));
        }
    }

    /// Adds what was counted to the core's counts.
    fn report(&mut self) {
        self.show_last();
        let counts = std::mem::take(&mut self.replies.counts);
        let core = self.server.counts(self.store.core());
        let commands = std::mem::take(&mut self.commands);
        for (total, n) in [
            (&core.commands, commands),
            (&core.errors, counts.errors),
            (&core.hits, counts.hits),
            (&core.misses, counts.misses),
        ] {
            if n > 0 {
                total.fetch_add(n, Ordering::Relaxed);
            }
        }
    }
}

fn get<S: Store>(store: &S, key: &[u8]) -> (u16, Op) {
    let op = Op::Get {
        key: key.to_vec(),
        at: None,
    };
    (store.shard_of(key), op)
}

/// Deletes a key if it is there.
fn delete(key: Vec<u8>, server: &Server) -> Op {
    let apply = Box::new(|found: corelane::api::Found<'_>| match found.value {
        Some(_) => Decision::Delete,
        None => Decision::Keep,
    });
    Op::Update {
        key,
        apply,
        durability: server.settings.durability,
    }
}
