//! The memory that the answers of a round may take, shared by its requests wherever they run.
//!
//! A thousand pipelined lookups may be answered by tens of gigabytes. So a request asks for room before it copies a value
//! into its answer; where there is none it leaves the value where it is:
//!
//! - a **read** is put off: it says how long its answer is, and is asked again once what is there was sent;
//! - an answer that cannot be had later is **firm**: that of a write is refused where it does not fit, and the command
//!   answers an error and has changed nothing; that of a read with a write behind it is **owed**, for the write may be of
//!   what it reads and is on its way, so it is given whatever it takes. Few firm answers share a round.
//!
//! The first answer of each kind always fits, so that every round gets on and a value of any length can be had. An answer
//! that is small takes no room: so many of them as a round has requests are no burden, and the cores share nothing for
//! them but this.
//!
//! What a read wants of a value may be little, and what has to be read for it is all of it. So a read that can be put off
//! takes room for a long block before that is read from the device, its answer included. Where there is none it is put off
//! unread: a round reads no more than it has room for, and the reads of others get their turn before those that were put
//! off are asked again. The first read of a round has its block read however long it is.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::MAX_OPS;

/// How much the answers of a round may take, in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget {
    /// Those of reads, beside the first.
    pub(super) reads_bytes: usize,
    /// Those that are firm, beside the first.
    pub(super) firm_bytes: usize,
    /// Up to this length an answer takes no room.
    pub(super) small_bytes: usize,
}

/// Answers up to this length take no room: all of a round's take 4 MiB.
const SMALL_BYTES: usize = 4096;
const _: () = assert!(SMALL_BYTES * MAX_OPS <= 4 << 20, "small answers are no burden");

/// What the answers of a round's reads take, beside the first: enough for the device to be read in one go for many
/// values, few enough that a hundred clients that ask for much at once hold no more than a large value each and this.
const READS_BYTES: usize = 16 << 20;

impl Budget {
    /// That of a client of which so many bytes of answers may wait.
    pub(super) fn of(output_hard_bytes: usize) -> Self {
        Self {
            reads_bytes: READS_BYTES,
            firm_bytes: output_hard_bytes,
            small_bytes: SMALL_BYTES,
        }
    }
}

/// By what right an answer takes room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Claim {
    /// It cannot be had later.
    pub(super) firm: bool,
    /// It cannot be refused either.
    pub(super) owed: bool,
    /// It is the first of its kind in its round.
    pub(super) first: bool,
    /// It is the first of all reads in its round that can be put off.
    pub(super) foremost: bool,
}

/// What a lookup tells the connection that asked.
#[derive(Debug, Default)]
pub(super) enum Slot {
    /// It was not run.
    #[default]
    Empty,
    /// The value, and whether it can be asked for again.
    Value { value: Option<Vec<u8>>, firm: bool },
    /// Whether the key is there, and whether that can be asked again.
    Present { present: bool, firm: bool },
    /// The value, or the block that it is to be read with, is so long that there is no room for it.
    TooLong { bytes: usize, firm: bool },
}

/// The room of one round, and where its lookups leave what they found.
#[derive(Debug)]
pub(super) struct Room {
    small_bytes: usize,
    firm_bytes: usize,
    reads_left: AtomicUsize,
    firm_left: AtomicUsize,
    /// What firm answers took or would have taken, small ones aside.
    firm_wanted: AtomicUsize,
    /// One for each request of the round.
    slots: Box<[Mutex<Slot>]>,
}

impl Room {
    /// For so many requests.
    pub(super) fn new(budget: Budget, requests: usize) -> Self {
        Self {
            small_bytes: budget.small_bytes,
            firm_bytes: budget.firm_bytes,
            reads_left: budget.reads_bytes.into(),
            firm_left: budget.firm_bytes.into(),
            firm_wanted: AtomicUsize::new(0),
            slots: std::iter::repeat_with(Mutex::default).take(requests).collect(),
        }
    }

    /// How long an answer may be as things stand.
    pub(super) fn left(&self, claim: Claim) -> usize {
        match claim {
            Claim { first: true, .. } | Claim { owed: true, .. } => usize::MAX,
            Claim { firm: true, .. } => self.firm_left.load(Ordering::Relaxed).max(self.small_bytes),
            Claim { firm: false, .. } => self.reads_left.load(Ordering::Relaxed).max(self.small_bytes),
        }
    }

    /// Takes room for an answer; `false` where there is not so much.
    pub(super) fn take(&self, claim: Claim, bytes: usize) -> bool {
        if bytes <= self.small_bytes {
            return true;
        }
        let left = if claim.firm {
            if !claim.owed {
                self.note_firm(bytes);
            }
            &self.firm_left
        } else {
            &self.reads_left
        };
        claim.first || claim.owed || take_from(left, bytes)
    }

    /// Takes room for a block that is to be read. How much was taken; `None` where there is not so much.
    pub(super) fn reserve(&self, claim: Claim, block_bytes: usize) -> Option<usize> {
        if claim.firm || claim.first || claim.foremost {
            return Some(0);
        }
        take_from(&self.reads_left, block_bytes).then_some(block_bytes)
    }

    /// Takes room for an answer of whose bytes so many were [`reserved`](Room::reserve); `false` where there is not so much.
    pub(super) fn take_beside(&self, reserved: usize, claim: Claim, bytes: usize) -> bool {
        bytes <= reserved || self.take(claim, bytes - reserved)
    }

    /// Counts a firm answer that wants so many bytes.
    pub(super) fn note_firm(&self, bytes: usize) {
        self.firm_wanted.fetch_add(bytes, Ordering::Relaxed);
    }

    /// What firm answers may take, beside the first.
    pub(super) fn firm_bytes(&self) -> usize {
        self.firm_bytes
    }

    /// What firm answers took or would have taken, small ones aside.
    pub(super) fn firm_wanted(&self) -> usize {
        self.firm_wanted.load(Ordering::Relaxed)
    }

    /// Leaves what request `number` found.
    pub(super) fn leave(&self, number: usize, slot: Slot) {
        // Nobody panics while holding it.
        *self.slots[number].lock().unwrap_or_else(PoisonError::into_inner) = slot;
    }

    /// What request `number` left.
    pub(super) fn found(&self, number: usize) -> Slot {
        let mut slot = self.slots[number].lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut slot)
    }
}

fn take_from(left: &AtomicUsize, bytes: usize) -> bool {
    let less = |left: usize| left.checked_sub(bytes);
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
        .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_taken_by_kind_and_the_first_of_each_always_fits() {
        let budget = Budget {
            reads_bytes: 100,
            firm_bytes: 200,
            small_bytes: 10,
        };
        let room = Room::new(budget, 1);
        let claim = |firm, first| Claim {
            firm,
            owed: false,
            first,
            foremost: false,
        };
        assert!(room.take(claim(false, true), 1 << 30) && room.take(claim(true, true), 1 << 30));
        assert!(room.take(claim(false, false), 60));
        assert!(!room.take(claim(false, false), 41));
        assert!(room.take(claim(false, false), 40) && room.take(claim(false, false), 10));
        assert_eq!(room.left(claim(false, false)), 10, "a small one always fits");
        assert!(room.take(claim(true, false), 200) && !room.take(claim(true, false), 11));
        assert_eq!(room.firm_wanted(), (1 << 30) + 211);
        assert_eq!(room.left(claim(true, true)), usize::MAX);
        let owed = Claim {
            owed: true,
            ..claim(true, false)
        };
        assert!(room.left(owed) == usize::MAX && room.take(owed, 1 << 30));
    }

    #[test]
    fn room_for_reading_is_that_of_the_answers() {
        let budget = Budget {
            reads_bytes: 100,
            firm_bytes: 0,
            small_bytes: 10,
        };
        let room = Room::new(budget, 1);
        let read = Claim {
            firm: false,
            owed: false,
            first: false,
            foremost: false,
        };
        let foremost = Claim {
            foremost: true,
            ..read
        };
        assert_eq!(room.reserve(foremost, 1 << 30), Some(0));
        assert_eq!((room.reserve(read, 60), room.reserve(read, 41)), (Some(60), None));
        assert!(!room.take(read, 41), "it is taken");
        assert!(
            room.take_beside(60, read, 60),
            "an answer takes no more than its block"
        );
        assert!(room.take_beside(60, read, 100) && !room.take(read, 11));
    }

    #[test]
    fn what_was_left_is_found_once() {
        let room = Room::new(Budget::of(0), 2);
        room.leave(
            1,
            Slot::TooLong {
                bytes: 7,
                firm: false,
            },
        );
        assert!(matches!(room.found(0), Slot::Empty));
        assert!(matches!(room.found(1), Slot::TooLong { bytes: 7, .. }));
        assert!(matches!(room.found(1), Slot::Empty));
    }
}
