//! The answers of a round, in the order of its commands, whoever gives them and when.
//!
//! While nothing waits for the store an answer goes straight to the output. Behind an answer that waits, a part that is
//! known already is kept aside; the list of [`Piece`]s says how the parts follow each other. [`Replies::settle`] takes
//! the outcomes and puts everything in its place.

use corelane::api::{Answer, Outcome};

use crate::command::table::Number;
use crate::command::{Failure, Reply, Shape};
use crate::output::Output;
use crate::resp::{Protocol, reply};
use crate::telemetry::Errors;

/// Room for parts kept aside that stays from one round to the next, in bytes.
const ASIDE_KEPT: usize = 64 * 1024;

/// How one part of an answer comes about.
#[derive(Debug)]
pub(super) enum Piece {
    /// The next bytes of those kept aside.
    Ready { bytes: usize },
    /// The outcome of one lookup.
    Value,
    /// One write, which counts if it wrote, for the integer that the next `Tally` ends.
    Counted,
    /// One look, which counts if it found its key, for the same integer.
    Present(oneshot::Receiver<bool>),
    /// The integer of all that counted, and of `known` that needed no request.
    Tally { known: i64 },
    /// The outcome of one write.
    Shaped(Shape),
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
    tally: i64,
    tally_error: Option<Failure>,
}

impl Replies {
    /// Bytes of answers that are not sent yet.
    pub(super) fn bytes(&self) -> usize {
        self.output.bytes() + self.aside.len()
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
            _ if written > 0 => self.wait(Piece::Ready { bytes: written }),
            _ => {}
        }
        result
    }

    /// An answer, or a part of one, that waits for the outcome of a request.
    pub(super) fn wait(&mut self, piece: Piece) {
        self.pieces.push((self.commands.len(), piece));
    }

    /// Ends a command: nothing more is to wait for it.
    pub(super) fn end_command(&mut self, number: Number) {
        let failed = std::mem::take(&mut self.failed);
        self.commands.push((number, failed));
    }

    /// The commands that ended since this was asked last, each with whether it failed.
    pub(super) fn take_commands(&mut self, into: &mut Vec<(Number, bool)>) {
        into.clear();
        std::mem::swap(into, &mut self.commands);
    }

    /// Ends a command that counts: the integer of what was counted since the last one, and of `known`.
    pub(super) fn end_tally(&mut self, known: i64) {
        if self.pieces.is_empty() {
            self.write_tally(known);
        } else {
            self.wait(Piece::Tally { known });
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

    /// Makes all answers that wait of the outcomes, which are in the order of the requests.
    pub(super) fn settle(&mut self, outcomes: Vec<Outcome>, protocol: Protocol) {
        let (mut outcomes, mut aside) = (outcomes.into_iter(), 0);
        // Taken first: with no pieces left, whatever is written goes to the output.
        let kept = std::mem::take(&mut self.aside);
        for (place, piece) in std::mem::take(&mut self.pieces) {
            match piece {
                Piece::Ready { bytes } => {
                    self.output.tail().extend_from_slice(&kept[aside..aside + bytes]);
                    aside += bytes;
                }
                Piece::Value => self.write_value(next(&mut outcomes), protocol),
                Piece::Counted => self.count(next(&mut outcomes)),
                Piece::Present(found) => self.count_present(next(&mut outcomes), found),
                Piece::Tally { known } => self.write_tally(known),
                Piece::Shaped(shape) => {
                    if let Err(failure) = self.write_shaped(shape, next(&mut outcomes)) {
                        self.fail(&failure);
                    }
                }
            }
            // A command that goes on into the next round has no place yet; what ends it there tells of it.
            let failed = std::mem::take(&mut self.failed);
            if let Some(command) = self.commands.get_mut(place) {
                command.1 |= failed;
            }
        }
        assert!(
            aside == kept.len() && outcomes.next().is_none(),
            "every part found its place"
        );
        self.aside = kept;
        self.aside.clear();
        self.aside.shrink_to(ASIDE_KEPT);
    }

    fn write_value(&mut self, outcome: Outcome, protocol: Protocol) {
        match outcome.map(value) {
            Ok(value) => {
                self.counts.lookup(value.is_some());
                match value {
                    Some(value) => self.output.bulk(value),
                    None => reply::null(self.output.tail(), protocol),
                }
            }
            Err(error) => self.fail(&error.into()),
        }
    }

    fn count(&mut self, outcome: Outcome) {
        match outcome {
            Ok(answer) => self.tally += i64::from(wrote(&answer)),
            Err(error) => {
                self.tally_error.get_or_insert(error.into());
            }
        }
    }

    fn count_present(&mut self, outcome: Outcome, found: oneshot::Receiver<bool>) {
        let found = match outcome {
            Ok(_) => found.try_recv().map_err(|_| Failure::NOT_RUN),
            Err(error) => Err(error.into()),
        };
        match found {
            Ok(present) => {
                self.tally += i64::from(present);
                self.counts.lookup(present);
            }
            Err(failure) => {
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

    fn write_shaped(&mut self, shape: Shape, outcome: Outcome) -> Result<(), Failure> {
        outcome?;
        match shape {
            Shape::Ok => reply::simple(self.output.tail(), "OK"),
            Shape::Reply(answer) => {
                let answer: Reply = answer.try_recv().map_err(|_| Failure::NOT_RUN)?;
                self.counts.hits += answer.hits;
                self.counts.misses += answer.misses;
                if answer.failed {
                    self.note_failed_answer(&answer.bytes);
                }
                self.output.push(answer.bytes);
            }
        }
        Ok(())
    }
}

fn next(outcomes: &mut impl Iterator<Item = Outcome>) -> Outcome {
    outcomes.next().expect("one outcome for each request")
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
