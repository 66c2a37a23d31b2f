//! The answers of a round, in the order of its commands, whoever gives them and when.
//!
//! While nothing waits for the store an answer goes straight to the output. Behind an answer that waits, a part that is
//! known already is kept aside; the list of [`Piece`]s says how the parts follow each other. [`Replies::settle`] takes
//! the outcomes and puts everything in its place, up to the first read that was put off for want of room. From there on
//! what is known is kept, and every read that can be asked again is, so that the reads of a pipeline see the store in
//! their order.

use std::ops::Range;

use corelane::api::{Answer, Outcome};

use super::asked::{Asked, Said};
use super::room::{Room, Slot};
use crate::command::table::Number;
use crate::command::{Failure, Owned, Reply};
use crate::output::Output;
use crate::resp::{Protocol, reply};
use crate::telemetry::Errors;

/// Room for parts kept aside, and for keys, that stays from one round to the next, in bytes.
const ASIDE_KEPT: usize = 64 * 1024;

/// How one part of an answer comes about.
#[derive(Debug)]
pub(super) enum Piece {
    /// The next bytes of those kept aside.
    Ready { bytes: usize },
    /// The integer of all that counted, and of `known` that needed no request.
    Tally { known: i64 },
    /// The outcome of one request.
    Asked(Wait),
    /// What that was.
    Told(Told),
    /// A read that is to be asked again.
    Later(Box<Later>),
}

/// A request that waits for its outcome.
#[derive(Debug)]
pub(super) enum Wait {
    /// A lookup of the key that lies there among the keys.
    Value(Range<usize>),
    /// The same, of whether it is there: it counts if it is, for the integer that the next `Tally` ends.
    Present(Range<usize>),
    /// One write, which counts if it wrote, for the same integer.
    Counted,
    /// One write, which is answered by `OK`.
    Done,
    /// A command on keys.
    Reply(oneshot::Receiver<Said>),
}

/// What the store said to a request.
#[derive(Debug)]
pub(super) enum Told {
    Value(Option<Vec<u8>>),
    Present(bool),
    Counted(bool),
    Done,
    Reply(Reply),
    /// The answer is an error.
    Failed(Failure),
    /// The same for a part of an integer.
    Uncounted(Failure),
}

/// A read that is to be asked again.
#[derive(Debug)]
pub(super) struct Later {
    read: Read,
    /// Length of its answer when it was last asked.
    bytes: usize,
}

#[derive(Debug)]
enum Read {
    Value(Range<usize>),
    Present(Range<usize>),
    Look(Owned),
}

/// What the answers tell of the commands.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) errors: Errors,
    pub(super) hits: u64,
    pub(super) misses: u64,
}

impl Counts {
    pub(super) fn lookup(&mut self, present: bool) {
        *(if present { &mut self.hits } else { &mut self.misses }) += 1;
    }
}

/// The answers so far.
#[derive(Debug, Default)]
pub(super) struct Replies {
    pub(super) output: Output,
    pub(super) counts: Counts,
    /// The commands that ended in this round, each with whether it failed.
    commands: Vec<(Number, bool)>,
    /// Whether the command under way has failed.
    failed: bool,
    /// What waits, each with the place of its command among `commands`.
    pieces: Vec<(usize, Piece)>,
    aside: Vec<u8>,
    /// How much of it has gone to the output.
    aside_taken: usize,
    /// The keys of the lookups that wait, in one block of memory for all.
    keys: Vec<u8>,
    tally: i64,
    tally_error: Option<Failure>,
}

impl Replies {
    /// Bytes of answers that are not sent yet.
    pub(super) fn bytes(&self) -> usize {
        self.output.bytes() + self.aside.len()
    }

    /// Whether reads were put off: nothing else is to be begun before they were [asked again](Self::ask_again).
    pub(super) fn has_later(&self) -> bool {
        !self.pieces.is_empty()
    }

    /// What the reads that were put off take, as far as is known.
    pub(super) fn later_bytes(&self) -> usize {
        let bytes = |piece: &Piece| match piece {
            Piece::Later(later) => later.bytes,
            _ => 0,
        };
        self.pieces.iter().map(|(_, piece)| bytes(piece)).sum()
    }

    /// Bytes held beside the output.
    pub(super) fn held_bytes(&self) -> usize {
        let bytes = |piece: &Piece| match piece {
            Piece::Told(Told::Value(Some(value))) => value.len(),
            Piece::Told(Told::Reply(reply)) => reply.bytes.len(),
            _ => 0,
        };
        let told: usize = self.pieces.iter().map(|(_, piece)| bytes(piece)).sum();
        told + self.aside.len() + self.keys.len() + self.pieces.len() * size_of::<(usize, Piece)>()
    }

    /// Lets `write` append what is known already, behind the answers that wait. What it appends and then takes back is
    /// not there.
    pub(super) fn write<R>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        if self.pieces.is_empty() {
            return write(self.output.tail());
        }
        let before = self.aside.len();
        let result = write(&mut self.aside);
        let written = self.aside.len() - before;
        match self.pieces.last_mut() {
            Some((_, Piece::Ready { bytes })) => *bytes += written,
            _ if written > 0 => self.push(Piece::Ready { bytes: written }),
            _ => {}
        }
        result
    }

    /// An answer, or a part of one, that waits for the outcome of a request.
    pub(super) fn wait(&mut self, wait: Wait) {
        self.push(Piece::Asked(wait));
    }

    fn push(&mut self, piece: Piece) {
        self.pieces.push((self.commands.len(), piece));
    }

    /// Keeps the key of a lookup that waits.
    pub(super) fn keep_key(&mut self, key: &[u8]) -> Range<usize> {
        let from = self.keys.len();
        self.keys.extend_from_slice(key);
        from..self.keys.len()
    }

    /// Ends a command: nothing more is to wait for it.
    pub(super) fn end_command(&mut self, number: Number) {
        let failed = std::mem::take(&mut self.failed);
        self.commands.push((number, failed));
    }

    /// The commands that were answered since this was asked last, each with whether it failed.
    pub(super) fn take_commands(&mut self, into: &mut Vec<(Number, bool)>) {
        into.clear();
        let Some(&(waits, _)) = self.pieces.first() else {
            std::mem::swap(into, &mut self.commands);
            return;
        };
        let answered = waits.min(self.commands.len());
        into.extend(self.commands.drain(..answered));
        for (place, _) in &mut self.pieces {
            *place -= answered;
        }
    }

    /// Ends a command that counts: the integer of what was counted since the last one, and of `known`.
    pub(super) fn end_tally(&mut self, known: i64) {
        if self.pieces.is_empty() {
            self.write_tally(known);
        } else {
            self.push(Piece::Tally { known });
        }
    }

    /// An error in the place of an answer.
    pub(super) fn fail(&mut self, failure: &Failure) {
        self.note_failed(&failure.0);
        self.write(|out| reply::error(out, &failure.0));
    }

    /// An error in the place of an answer of a command that was not run.
    pub(super) fn reject(&mut self, failure: &Failure) {
        self.counts.errors.note(&failure.0);
        self.write(|out| reply::error(out, &failure.0));
    }

    /// Counts an error that was answered by the command under way; `text` starts with its code.
    pub(super) fn note_failed(&mut self, text: &str) {
        self.counts.errors.note(text);
        self.failed = true;
    }

    /// As [`Replies::note_failed`], for an error that is an answer already.
    pub(super) fn note_failed_answer(&mut self, answer: &[u8]) {
        let text = std::str::from_utf8(answer.get(1..).unwrap_or_default());
        self.note_failed(text.unwrap_or_default());
    }

    /// Asks again for reads that were put off, in their order, as long as their answers take no more than `most_bytes`
    /// together and no more than `most` are asked; for the first whatever it takes.
    pub(super) fn ask_again(
        &mut self,
        most: usize,
        most_bytes: usize,
        shard_of: impl Fn(&[u8]) -> u16,
    ) -> Vec<Asked> {
        let (mut asked, mut bytes) = (Vec::new(), 0_usize);
        for (_, piece) in &mut self.pieces {
            let Piece::Later(later) = piece else { continue };
            bytes = bytes.saturating_add(later.bytes);
            if !asked.is_empty() && (bytes > most_bytes || asked.len() == most) {
                break;
            }
            let later = std::mem::replace(piece, Piece::Ready { bytes: 0 });
            let Piece::Later(later) = later else {
                unreachable!("it was one right above")
            };
            let (mut request, wait) = again(later.read, &self.keys, &shard_of);
            if asked.is_empty() {
                // However short: so every turn gets on.
                request.make_weighty();
            }
            asked.push(request);
            *piece = Piece::Asked(wait);
        }
        asked
    }

    /// Makes the answers that wait of the outcomes, which are in the order of the requests, up to the first read that was
    /// put off.
    pub(super) fn settle(&mut self, outcomes: Vec<Outcome>, room: Option<&Room>, protocol: Protocol) {
        let mut outcomes = outcomes.into_iter().enumerate();
        // Taken first: with no pieces left, whatever is written goes to the output.
        let kept = std::mem::take(&mut self.aside);
        for (place, piece) in std::mem::take(&mut self.pieces) {
            let put_off = !self.pieces.is_empty();
            let piece = match piece {
                Piece::Asked(wait) => {
                    let (number, outcome) = outcomes.next().expect("one outcome for each request");
                    let told = outcome.map_err(Failure::from);
                    resolve(wait, told, room.map(|room| (room, number)), put_off)
                }
                known => known,
            };
            if put_off || matches!(piece, Piece::Later(_)) {
                self.pieces.push((place, piece));
            } else {
                self.put_out(place, piece, &kept, protocol);
            }
        }
        assert!(outcomes.next().is_none(), "every outcome found its place");
        self.aside = kept;
        if self.pieces.is_empty() {
            assert_eq!(self.aside_taken, self.aside.len(), "every part found its place");
            self.aside_taken = 0;
            self.aside.clear();
            self.aside.shrink_to(ASIDE_KEPT);
            self.keys.clear();
            self.keys.shrink_to(ASIDE_KEPT);
        }
    }

    fn put_out(&mut self, place: usize, piece: Piece, aside: &[u8], protocol: Protocol) {
        match piece {
            Piece::Ready { bytes } => {
                let from = self.aside_taken;
                self.aside_taken += bytes;
                self.output
                    .tail()
                    .extend_from_slice(&aside[from..self.aside_taken]);
            }
            Piece::Tally { known } => self.write_tally(known),
            Piece::Told(told) => self.tell(told, protocol),
            Piece::Asked(_) | Piece::Later(_) => unreachable!("only what is known is put out"),
        }
        // A command that goes on into the next round has no place yet; what ends it there tells of it.
        let failed = std::mem::take(&mut self.failed);
        if let Some(command) = self.commands.get_mut(place) {
            command.1 |= failed;
        }
    }

    fn tell(&mut self, told: Told, protocol: Protocol) {
        match told {
            Told::Value(value) => {
                self.counts.lookup(value.is_some());
                match value {
                    Some(value) => self.output.bulk(value),
                    None => reply::null(self.output.tail(), protocol),
                }
            }
            Told::Present(present) => {
                self.tally += i64::from(present);
                self.counts.lookup(present);
            }
            Told::Counted(wrote) => self.tally += i64::from(wrote),
            Told::Done => reply::simple(self.output.tail(), "OK"),
            Told::Reply(answer) => {
                self.counts.hits += answer.hits;
                self.counts.misses += answer.misses;
                if answer.failed {
                    self.note_failed_answer(&answer.bytes);
                }
                self.output.push(answer.bytes);
            }
            Told::Failed(failure) => self.fail(&failure),
            Told::Uncounted(failure) => {
                self.tally_error.get_or_insert(failure);
            }
        }
    }

    fn write_tally(&mut self, known: i64) {
        let counted = std::mem::take(&mut self.tally);
        match self.tally_error.take() {
            None => reply::integer(self.output.tail(), known + counted),
            Some(failure) => self.fail(&failure),
        }
    }
}

/// The request of a read that was put off, and how its outcome is waited for.
fn again(read: Read, keys: &[u8], shard_of: impl Fn(&[u8]) -> u16) -> (Asked, Wait) {
    match read {
        Read::Value(at) => {
            let key = &keys[at.clone()];
            (Asked::value(shard_of(key), key), Wait::Value(at))
        }
        Read::Present(at) => {
            let key = &keys[at.clone()];
            (Asked::present(shard_of(key), key), Wait::Present(at))
        }
        Read::Look(owned) => {
            let shard = shard_of(owned.request().key());
            let (asked, answer) = Asked::command(shard, owned);
            (asked, Wait::Reply(answer))
        }
    }
}

/// What became of a request. Behind a read that was `put_off`, so is every other that can be asked again.
fn resolve(
    wait: Wait,
    outcome: Result<Answer, Failure>,
    room: Option<(&Room, usize)>,
    put_off: bool,
) -> Piece {
    let counts = matches!(wait, Wait::Present(_) | Wait::Counted);
    let answer = match outcome {
        Ok(answer) => answer,
        Err(failure) if counts => return Piece::Told(Told::Uncounted(failure)),
        Err(failure) => return Piece::Told(Told::Failed(failure)),
    };
    let later = |read, bytes| Piece::Later(Box::new(Later { read, bytes }));
    let found = || room.map_or(Slot::Empty, |(room, number)| room.found(number));
    let told = match wait {
        Wait::Done => Told::Done,
        Wait::Counted => Told::Counted(wrote(&answer)),
        Wait::Value(key) => match answered_or(answer, found) {
            Slot::Value { value, firm: false } if put_off => {
                return later(Read::Value(key), value.map_or(0, |value| value.len()));
            }
            Slot::Value { value, .. } => Told::Value(value),
            Slot::TooLong { bytes, firm: false } => return later(Read::Value(key), bytes),
            Slot::TooLong { .. } => Told::Failed(too_long(room)),
            Slot::Empty | Slot::Present { .. } => Told::Failed(Failure::NOT_RUN),
        },
        Wait::Present(key) => match found() {
            Slot::Present { firm: false, .. } if put_off => return later(Read::Present(key), 0),
            Slot::Present { present, .. } => Told::Present(present),
            Slot::TooLong { bytes, .. } => return later(Read::Present(key), bytes),
            Slot::Empty | Slot::Value { .. } => Told::Uncounted(Failure::NOT_RUN),
        },
        Wait::Reply(said) => match said.try_recv() {
            Ok(Said { reply, again }) => match (reply, again) {
                (Ok(reply), Some(owned)) if put_off => return later(Read::Look(owned), reply.bytes.len()),
                (Ok(reply), _) => Told::Reply(reply),
                (Err(bytes), Some(owned)) => return later(Read::Look(owned), bytes),
                (Err(_), None) => Told::Failed(too_long(room)),
            },
            Err(_) => Told::Failed(Failure::NOT_RUN),
        },
    };
    Piece::Told(told)
}

fn too_long(room: Option<(&Room, usize)>) -> Failure {
    Failure::pipeline_too_long(room.map_or(0, |(room, _)| room.firm_bytes()))
}

/// What a lookup found: in the answer itself where it was alone.
fn answered_or(answer: Answer, found: impl FnOnce() -> Slot) -> Slot {
    match answer {
        Answer::Value(value) => Slot::Value { value, firm: true },
        _ => found(),
    }
}

/// Whether a write wrote anything: an update that kept its key has no sequence.
fn wrote(answer: &Answer) -> bool {
    match answer {
        Answer::Written(sequence) => *sequence != 0,
        other => unreachable!("a write is answered by Written, not {other:?}"),
    }
}
