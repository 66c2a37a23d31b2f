//! `EXEC` and `WATCH` at the end of a round, once everything before them was answered.

use corelane::api::{Found, Op};

use super::{Pipeline, STEPS_A_SLICE};
use crate::command::table;
use crate::command::{Action, Call, Failure, Owned, Run};
use crate::resp::reply;
use crate::store::Store;
use crate::transaction::{Answers, Executed, MAX_ANSWER_BYTES, Watch, Work};

impl<S: Store> Pipeline<S> {
    /// Watches `keys`: from now on each is remembered as it is, unless it was watched before.
    pub(super) async fn watch(&mut self, keys: Vec<Vec<u8>>) -> Result<(), Failure> {
        let new = self.session.watched.new_among(keys)?;
        let (mut ops, mut answers) = (Vec::new(), Vec::new());
        for key in new {
            let (sender, answer) = oneshot::channel();
            let (shard, watched) = (self.store.shard_of(&key), key.clone());
            let look = Box::new(move |found: Found<'_>| {
                // A client that went away does not wait for it.
                let _gone = sender.send((watched, Watch::new(&found)));
            });
            ops.push((shard, Op::Look { key, look }));
            answers.push(answer);
        }
        let outcomes = if ops.is_empty() {
            Vec::new()
        } else {
            self.store.execute(ops).await
        };
        let mut watched = Vec::new();
        for (outcome, answer) in outcomes.into_iter().zip(answers) {
            outcome?;
            watched.push(answer.try_recv().map_err(|_| Failure::NOT_RUN)?);
        }
        for (key, watch) in watched {
            self.session.watched.add(key, watch);
        }
        self.replies.write(|out| reply::simple(out, "OK"));
        Ok(())
    }

    /// Runs the transaction that the client has gathered.
    pub(super) async fn exec(&mut self) -> Result<(), Failure> {
        let work = self.session.take_work();
        let (work, executed) = self.run_on_shard(work).await?;
        match executed {
            Executed::Changed => {
                let protocol = self.session.protocol;
                self.replies.write(|out| reply::null_array(out, protocol));
            }
            Executed::Refused(failure) => return Err(failure),
            Executed::Done(answers) => self.answer_all(&work.queue, &answers).await,
        }
        Ok(())
    }

    /// Has the shard that owns its keys run a transaction; one without keys is done.
    async fn run_on_shard(&self, work: Work) -> Result<(Work, Executed), Failure> {
        let keys = work.keys();
        let mut shards = keys.iter().map(|key| self.store.shard_of(key));
        let Some(shard) = shards.next() else {
            drop(keys);
            return Ok((work, Executed::Done(Answers::default())));
        };
        if !shards.all(|other| other == shard) {
            return Err(Failure::CROSS_SHARD);
        }
        let keys = keys.into_iter().map(<[u8]>::to_vec).collect();
        // What only reads is answered where the shard takes no writes.
        let writes = work.queue.iter().any(|owned| owned.request().spec.writes());
        let (sender, answer) = oneshot::channel();
        let apply = Box::new(move |found: &[Found<'_>]| {
            let (executed, batch) = work.run(found);
            // A client that went away does not wait for it.
            let _gone = sender.send((work, executed));
            batch
        });
        let op = Op::Transact {
            keys,
            apply,
            writes,
            durability: self.server.settings.durability,
        };
        for outcome in self.store.execute(vec![(shard, op)]).await {
            outcome?;
        }
        answer.try_recv().map_err(|_| Failure::NOT_RUN)
    }

    /// Puts the answers in the order of the commands, and runs those of the connection in their places. What was to be
    /// written is written by then: where the answers get too long, a command of the connection is not run and says so.
    async fn answer_all(&mut self, queue: &[Owned], answers: &Answers) {
        self.replies.write(|out| reply::array(out, queue.len()));
        self.replies.counts.hits += answers.hits;
        self.replies.counts.misses += answers.misses;
        let before = self.replies.output.bytes();
        let (mut from, mut ends) = (0, answers.ends.iter());
        for (place, owned) in queue.iter().enumerate() {
            if place % STEPS_A_SLICE == STEPS_A_SLICE - 1 && self.store.should_yield() {
                self.store.yield_now().await;
            }
            let request = owned.request();
            match request.spec.run {
                Run::Local(_) if self.replies.output.bytes() - before > MAX_ANSWER_BYTES => {
                    self.replies.fail(&Failure::ANSWER_TOO_LONG);
                }
                Run::Local(run) => self.answer_local(owned, run),
                Run::Keyed(_) | Run::Faster(..) => {
                    let &(to, failed) = ends.next().expect("one answer for each command on keys");
                    let answer = &answers.bytes[from..to];
                    if failed {
                        self.replies.note_failed_answer(answer);
                    }
                    self.replies.output.push(answer.to_vec());
                    from = to;
                }
            }
            if let Some((number, _)) = table::find_numbered(request.spec.name.as_bytes()) {
                self.replies.end_command(number);
            }
        }
    }

    fn answer_local(&mut self, owned: &Owned, run: crate::command::Local) {
        let request = owned.request();
        let (session, server, store) = (&mut self.session, &*self.server, &self.store);
        let done = self.replies.write(|out| {
            let before = out.len();
            let action = run(&mut Call {
                spec: request.spec,
                arguments: request.arguments,
                session,
                server,
                clock: &|| store.wall_clock_ms(),
                out,
            });
            let done = match action {
                Ok(Action::Replied) => Ok(()),
                Ok(_) => Err(Failure::not_in_transaction(request.spec.name)),
                Err(failure) => Err(failure),
            };
            if done.is_err() {
                out.truncate(before);
            }
            done
        });
        if let Err(failure) = done {
            self.replies.fail(&failure);
        }
    }
}
