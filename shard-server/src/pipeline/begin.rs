//! Begins a command: finds it, checks what the table says of it, and has it queued, answered, or asked of the store.
//!
//! ```text
//! admit ─> refused: the answer is an error, a transaction under way is broken
//!   └─> queue         between MULTI and EXEC
//!   └─> plan ─> act   outside: the handler says what is to be done
//! ```

use corelane::types::MAX_KEY_BYTES;

use super::asked::Asked;
use super::replies::Wait;
use super::{BYTES_A_STEP, Each, Known, Last, Pipeline, Running, Step};
use crate::auth::permit;
use crate::command::table::{self, Number};
use crate::command::{Action, Call, Failure, Keys, Owned, Request, Run, Spec, View, facts, unsupported};
use crate::resp::reply;
use crate::server::Server;
use crate::store::Store;
use crate::transaction::{self, Place};

impl<S: Store> Pipeline<S> {
    /// Begins the request of `bytes` bytes at the start of `input`.
    pub(super) fn begin(&mut self, input: &[u8], bytes: usize) -> Step {
        self.commands += 1;
        let known = match self.admit(input) {
            Ok(known) => known,
            Err(failure) => {
                self.replies.reject(&failure);
                return Step::Next;
            }
        };
        if self.session.transaction.is_some() && transaction::place(known.spec) == Place::Queue {
            self.queue(known.spec, input);
            return Step::Next;
        }
        let step = match self.plan(known, input) {
            Ok(action) => self.act(action, known, input, bytes),
            Err(failure) => {
                self.replies.fail(&failure);
                Step::Next
            }
        };
        match step {
            Step::Next | Step::Close => self.replies.end_command(known.number),
            // These end when they are done.
            Step::Running | Step::Last(..) => {}
            // It is begun anew in the next round.
            Step::Wait => self.commands -= 1,
        }
        step
    }

    /// Keeps a command for `EXEC`.
    fn queue(&mut self, spec: &'static Spec, input: &[u8]) {
        let request = Request {
            spec,
            arguments: self.reader.arguments(input),
            protocol: self.session.protocol,
        };
        let transaction = self.session.transaction.as_mut();
        match transaction.map_or(Ok(()), |transaction| transaction.push(&request)) {
            Ok(()) => self.replies.write(|out| reply::simple(out, "QUEUED")),
            Err(failure) => self.replies.reject(&failure),
        }
    }

    /// Finds the command and checks what the table says of it. What is refused here breaks the client's transaction.
    fn admit(&mut self, input: &[u8]) -> Result<Known, Failure> {
        let name = self.reader.arguments(input).at(0);
        // Pipelines repeat themselves: the table is searched where the name is not that of the command before.
        let again = self.last.map(|number| (number, table::ALL[usize::from(number)]));
        let again = again.filter(|(_, spec)| spec.name.as_bytes().eq_ignore_ascii_case(name));
        let found = again.or_else(|| table::find_numbered(name));
        self.last = found.map(|(number, _)| number).or(self.last);
        let checked = self.check(found, input);
        checked.map_err(|failure| {
            if let Some((number, spec)) = found {
                self.server.telemetry().core(self.store.core()).rejected(number);
                if spec.name == "exec" {
                    self.session.forget_transaction();
                    return failure.exec_abort();
                }
            }
            if let Some(transaction) = &mut self.session.transaction {
                transaction.break_off();
            }
            failure
        })
    }

    fn check(&self, found: Option<(Number, &'static Spec)>, input: &[u8]) -> Result<Known, Failure> {
        let arguments = self.reader.arguments(input);
        let (number, spec) = found.ok_or_else(|| match unsupported::find(arguments.at(0)) {
            Some(name) => Failure::unsupported(name),
            None => Failure::unknown_command(arguments),
        })?;
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
        let in_transaction = self.session.transaction.is_some();
        if in_transaction && transaction::place(spec) == Place::Refused {
            return Err(Failure::not_in_transaction(spec.name));
        }
        Ok(Known { number, spec })
    }

    /// Lets the command's handler answer or ask.
    fn plan(&mut self, known: Known, input: &[u8]) -> Result<Action, Failure> {
        let (arguments, spec) = (self.reader.arguments(input), known.spec);
        let run = match spec.run {
            Run::Keyed(_) => return Ok(Action::Keyed),
            Run::Local(run) | Run::Faster(run, _) => run,
        };
        let (session, server, store) = (&mut self.session, &*self.server, &self.store);
        let clock = || time_of(store, server, store.shard_of(arguments.at(1)));
        let action = self.replies.write(|out| {
            let before = out.len();
            let action = run(&mut Call {
                spec,
                arguments,
                session,
                server,
                clock: &clock,
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

    /// Does what a handler asked for.
    fn act(&mut self, action: Action, known: Known, input: &[u8], bytes: usize) -> Step {
        let each = match action {
            Action::Replied => return Step::Next,
            Action::Close => return Step::Close,
            Action::Query(query) => return Step::Last(known.number, Last::Query(query)),
            Action::Exec => return Step::Last(known.number, Last::Exec),
            Action::Watch => {
                let keys = self.reader.arguments(input).from(1);
                return Step::Last(known.number, Last::Watch(keys.map(<[u8]>::to_vec).collect()));
            }
            Action::Value => {
                self.look_up(input, 1);
                return Step::Next;
            }
            Action::Write(op) => {
                let shard = self.store.shard_of(self.reader.arguments(input).at(1));
                if !self.may_write(false) {
                    return Step::Wait;
                }
                self.push_write(Asked::plain(shard, op), Wait::Done);
                return Step::Next;
            }
            Action::Keyed => {
                return self.run_keyed(known.spec, input).unwrap_or_else(|failure| {
                    self.replies.fail(&failure);
                    Step::Next
                });
            }
            Action::Values => {
                let keys = self.reader.arguments(input).count() - 1;
                self.replies.write(|out| reply::array(out, keys));
                Each::Value
            }
            Action::Present => Each::Present,
            Action::Delete => Each::Delete,
        };
        self.running = Some(Running {
            number: known.number,
            each,
            next: 1,
            known: 0,
            request_bytes: bytes,
        });
        Step::Running
    }

    /// Runs a command's function over its keys: in place where memory holds the one key of a read, else where the shard is.
    fn run_keyed(&mut self, spec: &'static Spec, input: &[u8]) -> Result<Step, Failure> {
        let run = spec.keyed().expect("only a command on keys asks for it");
        let request = Request {
            spec,
            arguments: self.reader.arguments(input),
            protocol: self.session.protocol,
        };
        let key = request.key();
        if !spec.writes() && self.writes == 0 {
            let store = &self.store;
            let answered = self.replies.write(|out| {
                let before = out.len();
                store.look_resident(key, |held| {
                    let (keys, held) = ([key], [held]);
                    let mut view = View::new(&keys, &held);
                    let went_well = request.answer(run, &mut view, out);
                    let error = (!went_well).then(|| out[before..].to_vec());
                    (view.lookups(), view.looked_bytes(), error)
                })
            });
            if let Some(((hits, misses), looked_bytes, error)) = answered {
                self.steps += looked_bytes / BYTES_A_STEP;
                self.replies.counts.hits += hits;
                self.replies.counts.misses += misses;
                if let Some(error) = error {
                    self.replies.note_failed_answer(&error);
                }
                return Ok(Step::Next);
            }
        }
        if spec.keys == Keys::PAIRS && request.arguments.count().is_multiple_of(2) {
            return Err(Failure::arity(spec.name));
        }
        self.one_shard(spec, input)?;
        let (shard, writes) = (self.store.shard_of(key), spec.writes());
        let answers_value = facts::answers_value(&request);
        if writes && !self.may_write(answers_value) {
            return Ok(Step::Wait);
        }
        let request = Request {
            spec,
            arguments: self.reader.arguments(input),
            protocol: self.session.protocol,
        };
        let (asked, answer) = Asked::command(shard, Owned::new(&request));
        if writes {
            self.push_write(asked, Wait::Reply(answer));
        } else {
            self.asked.push(asked);
            self.replies.wait(Wait::Reply(answer));
        }
        Ok(Step::Next)
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
}

/// The time that a shard's ends are counted from: its own, or, from another core, what it last told or the machine's where that
/// is later.
fn time_of(store: &impl Store, server: &Server, shard: u16) -> u64 {
    let own = store.clock_of(shard);
    own.unwrap_or_else(|| server.shard_ms(shard, store.wall_clock_ms()))
}
