//! Lookups and deletions key by key, in place where memory holds the key, and the commands of many keys made of them.

use corelane::api::{Decision, Found, Op};

use super::asked::Asked;
use super::replies::Wait;
use super::{BYTES_A_STEP, Each, MOST_OWED, Pipeline};
use crate::resp::reply;
use crate::server::Server;
use crate::store::Store;

impl<S: Store> Pipeline<S> {
    /// Takes the next key of the command under way. Returns the bytes of its request once the last key was taken; `None`
    /// where the round is to end before this key.
    pub(super) fn next_key(&mut self, input: &[u8]) -> Option<usize> {
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
                    self.asked.push(Asked::present(self.store.shard_of(key), key));
                    let key = self.replies.keep_key(key);
                    self.replies.wait(Wait::Present(key));
                }
            },
            Each::Delete => {
                if !self.may_write(false) {
                    self.running = Some(running);
                    return None;
                }
                let key = self.reader.arguments(input).at(place);
                let (shard, op) = (self.store.shard_of(key), delete(key.to_vec(), &self.server));
                self.push_write(Asked::plain(shard, op), Wait::Counted);
            }
        }
        running.next += 1;
        if running.next < count {
            self.running = Some(running);
            return Some(0);
        }
        if running.each != Each::Value {
            self.replies.end_tally(running.known);
        }
        self.replies.end_command(running.number);
        Some(running.request_bytes)
    }

    /// Answers with the value of the key at `place`, now if memory holds it.
    pub(super) fn look_up(&mut self, input: &[u8], place: usize) {
        let key = self.reader.arguments(input).at(place);
        let (store, protocol) = (&self.store, self.session.protocol);
        let resident = if self.writes > 0 {
            None
        } else {
            self.replies.write(|out| {
                store.get_resident(key, |value| {
                    match value {
                        Some(value) => reply::bulk(out, value),
                        None => reply::null(out, protocol),
                    }
                    value.map(<[u8]>::len)
                })
            })
        };
        match resident {
            Some(bytes) => {
                self.steps += bytes.unwrap_or(0) / BYTES_A_STEP;
                self.replies.counts.lookup(bytes.is_some());
            }
            None => {
                self.asked.push(Asked::value(store.shard_of(key), key));
                let key = self.replies.keep_key(key);
                self.replies.wait(Wait::Value(key));
            }
        }
    }

    fn resident<R>(&self, key: &[u8], look: impl FnOnce(Option<&[u8]>) -> R) -> Option<R> {
        if self.writes > 0 {
            None
        } else {
            self.store.get_resident(key, look)
        }
    }

    /// Whether a write may go with this round; `answers_value` where it answers what was there. Then none of the reads before
    /// it is put off: a client that reads, and writes behind it, has read before it wrote.
    pub(super) fn may_write(&mut self, answers_value: bool) -> bool {
        let reads = self.asked[self.firm_up_to..].iter();
        let reads = reads.filter(|asked| asked.may_be_put_off()).count();
        let full = answers_value && self.firm > 0 && self.firm >= self.firm_limit;
        self.firm_met |= full;
        // Without a read or a firm answer before it, a write goes with any round: every round gets on.
        if full || (reads > 0 && self.owed + reads > MOST_OWED) {
            return false;
        }
        for asked in &mut self.asked[self.firm_up_to..] {
            asked.make_firm();
        }
        self.firm_up_to = self.asked.len();
        self.owed += reads;
        self.firm += usize::from(answers_value);
        true
    }

    pub(super) fn push_write(&mut self, asked: Asked, wait: Wait) {
        self.asked.push(asked);
        self.writes += 1;
        self.replies.wait(wait);
    }
}

/// Deletes a key if it is there.
fn delete(key: Vec<u8>, server: &Server) -> Op {
    let apply = Box::new(|found: Found<'_>| match found.value {
        Some(_) => Decision::Delete,
        None => Decision::Keep,
    });
    Op::Update {
        key,
        apply,
        durability: server.settings.durability,
    }
}
