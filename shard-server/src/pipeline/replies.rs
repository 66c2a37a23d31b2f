//! The answers of a round, in the order of its commands, whoever gives them and when.
//!
//! While nothing waits for the store an answer goes straight to the output. Behind an answer that waits, a part that is
//! known already is kept aside; the list of [`Piece`]s says how the parts follow each other. [`Replies::settle`] takes
//! the outcomes and puts everything in its place.

use corelane::Error;
use corelane::api::{Answer, Outcome};

use crate::command::{Failure, Shape};
use crate::output::Output;
use crate::resp::{Protocol, reply};

/// Room for parts kept aside that stays from one round to the next, in bytes.
const ASIDE_KEPT: usize = 64 * 1024;

/// How one part of an answer comes about.
#[derive(Debug)]
pub(super) enum Piece {
    /// The next bytes of those kept aside.
    Ready { bytes: usize },
    /// The outcome of one lookup.
    Value,
    /// One outcome that counts, for the integer that the next `Tally` ends.
    Counted,
    /// The integer of all that counted, and of `known` that needed no request.
    Tally { known: i64 },
    /// The outcome of one write.
    Shaped(Shape),
}

/// What the answers tell of the commands.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) errors: u64,
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
    pieces: Vec<Piece>,
    aside: Vec<u8>,
    tally: i64,
    tally_error: Option<Error>,
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
            Some(Piece::Ready { bytes }) => *bytes += written,
            _ if written > 0 => self.pieces.push(Piece::Ready { bytes: written }),
            _ => {}
        }
        result
    }

    /// An answer, or a part of one, that waits for the outcome of a request.
    pub(super) fn wait(&mut self, piece: Piece) {
        self.pieces.push(piece);
    }

    /// Ends a command that counts: the integer of what was counted since the last one, and of `known`.
    pub(super) fn end_tally(&mut self, known: i64) {
        if self.pieces.is_empty() {
            self.write_tally(known);
        } else {
            self.pieces.push(Piece::Tally { known });
        }
    }

    /// An error in the place of an answer.
    pub(super) fn fail(&mut self, failure: &Failure) {
        self.counts.errors += 1;
        self.write(|out| reply::error(out, &failure.0));
    }

    /// Makes all answers that wait of the outcomes, which are in the order of the requests.
    pub(super) fn settle(&mut self, outcomes: Vec<Outcome>, protocol: Protocol) {
        let (mut outcomes, mut aside) = (outcomes.into_iter(), 0);
        // Taken first: with no pieces left, whatever is written goes to the output.
        let kept = std::mem::take(&mut self.aside);
        for piece in std::mem::take(&mut self.pieces) {
            match piece {
                Piece::Ready { bytes } => {
                    self.output.tail().extend_from_slice(&kept[aside..aside + bytes]);
                    aside += bytes;
                }
                Piece::Value => self.write_value(next(&mut outcomes), protocol),
                Piece::Counted => self.count(next(&mut outcomes)),
                Piece::Tally { known } => self.write_tally(known),
                Piece::Shaped(shape) => {
                    if let Err(failure) = self.write_shaped(shape, next(&mut outcomes), protocol) {
                        self.fail(&failure);
                    }
                }
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
                self.write_found(value, protocol);
            }
            Err(error) => self.fail(&error.into()),
        }
    }

    fn write_found(&mut self, value: Option<Vec<u8>>, protocol: Protocol) {
        match value {
            Some(value) => self.output.bulk(value),
            None => reply::null(self.output.tail(), protocol),
        }
    }

    fn count(&mut self, outcome: Outcome) {
        match outcome {
            Ok(Answer::Value(value)) => {
                self.tally += i64::from(value.is_some());
                self.counts.lookup(value.is_some());
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
            Some(error) => self.fail(&error.into()),
        }
    }

    fn write_shaped(&mut self, shape: Shape, outcome: Outcome, protocol: Protocol) -> Result<(), Failure> {
        let answer = outcome?;
        let out = self.output.tail();
        match shape {
            Shape::Ok => reply::simple(out, "OK"),
            Shape::OkIfWritten if wrote(&answer) => reply::simple(out, "OK"),
            Shape::OkIfWritten => reply::null(out, protocol),
            Shape::Number(sum) => reply::integer(out, sum.try_recv().map_err(|_| Failure::NOT_RUN)??),
            Shape::Previous(found) => {
                let found = found.try_recv().map_err(|_| Failure::NOT_RUN)?;
                self.write_found(found, protocol);
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
