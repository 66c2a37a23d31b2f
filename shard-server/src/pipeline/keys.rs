//! Lookups and deletions key by key, in place where memory holds the key, and the commands of many keys made of them.

use corelane::api::{Decision, Found, Op};

use super::replies::Piece;
use super::{Each, Pipeline};
use crate::resp::reply;
use crate::server::Server;
use crate::store::Store;

impl<S: Store> Pipeline<S> {
    /// Takes the next key of the command under way. Returns the bytes of its request once the last key was taken.
    pub(super) fn next_key(&mut self, input: &[u8]) -> usize {
        let mut running = self.running.take().expect("called while a command is under way");
        let arguments = self.reader.arguments(input);
        let (place, count) = (running.next, arguments.count());
        let key = arguments.at(place);
        match running.each {
            Each::Value => self.look_up(input, place),
            Each::Present => match self.resident(key, |found| found.value.is_some()) {
                Some(present) => {
                    running.known += i64::from(present);
                    self.replies.counts.lookup(present);
                }
                None => self.ask_present(key.to_vec()),
            },
            Each::Delete => {
                let (shard, op) = (self.store.shard_of(key), delete(key.to_vec(), &self.server));
                self.push_write(shard, op, Piece::Counted);
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
        self.replies.end_command(running.number);
        running.request_bytes
    }

    /// Asks the shard of `key` whether it is there; the value stays where it is.
    fn ask_present(&mut self, key: Vec<u8>) {
        let (sender, present) = oneshot::channel();
        let look = Box::new(move |found: Found<'_>| {
            // A client that went away does not wait for it.
            let _gone = sender.send(found.value.is_some());
        });
        self.ops.push((self.store.shard_of(&key), Op::Look { key, look }));
        self.replies.wait(Piece::Present(present));
    }

    /// Answers with the value of the key at `place`, now if memory holds it.
    pub(super) fn look_up(&mut self, input: &[u8], place: usize) {
        let key = self.reader.arguments(input).at(place);
        let (store, protocol) = (&self.store, self.session.protocol);
        let resident = if self.writes > 0 {
            None
        } else {
            self.replies.write(|out| {
                store.look_resident(key, |found| {
                    match found.value {
                        Some(value) => reply::bulk(out, value),
                        None => reply::null(out, protocol),
                    }
                    found.value.is_some()
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

    fn resident<R>(&self, key: &[u8], look: impl FnOnce(Found<'_>) -> R) -> Option<R> {
        if self.writes > 0 {
            None
        } else {
            self.store.look_resident(key, look)
        }
    }

    pub(super) fn push_write(&mut self, shard: u16, op: Op, piece: Piece) {
        self.ops.push((shard, op));
        self.writes += 1;
        self.replies.wait(piece);
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
