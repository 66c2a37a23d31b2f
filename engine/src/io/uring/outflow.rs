//! How many bytes a turn of the loop hands over to be sent, and who comes next: as numbers only.
//!
//! The kernel copies what is sent while it takes the entry, and over loopback goes through its reception too: some 80 µs for
//! [`TURN_BYTES`]. A client that asks for much has much copied; 32 of them in one turn were 8 MiB and 5 to 15 ms (2 cores of
//! an AMD EPYC, Linux 6.18, 2026-11-22), which everybody else of the core waited for. So a turn hands over so much, and the rest
//! waits here, in the order of its asking. What is small neither waits nor counts: it is what the others wait for. Nor does what a
//! send has left when it finds its socket full: the kernel goes on by itself as its peer reads, an entry's length at most.

use std::collections::VecDeque;

use super::message::ENTRY_BYTES;
use super::slots::Key;

/// Bytes of long sends that one turn hands over: with the turn's one entry into the kernel they cost some thirty times what the
/// entry does, so that who sends much loses little by having to come again.
const TURN_BYTES: usize = 256 * 1024;

/// A send of so much at most is small: a pipeline of 32 answers of some 500 bytes.
const SMALL_BYTES: usize = 16 * 1024;

const _: () = assert!(SMALL_BYTES < ENTRY_BYTES && ENTRY_BYTES <= TURN_BYTES);

/// See the module's head.
#[derive(Debug)]
pub(super) struct Outflow {
    /// What this turn may still hand over.
    left_bytes: usize,
    waiting: VecDeque<(Key, usize)>,
}

impl Default for Outflow {
    fn default() -> Self {
        Self {
            left_bytes: TURN_BYTES,
            waiting: VecDeque::new(),
        }
    }
}

impl Outflow {
    /// A send of so many bytes is asked for; whether it is handed over in this turn. If not, a later [`Outflow::next`] returns
    /// it.
    pub(super) fn begin(&mut self, key: Key, bytes: usize) -> bool {
        assert!(bytes <= ENTRY_BYTES, "one entry names no more");
        if bytes <= SMALL_BYTES {
            return true;
        }
        let fits = self.waiting.is_empty() && bytes <= self.left_bytes;
        if fits {
            self.left_bytes -= bytes;
        } else {
            self.waiting.push_back((key, bytes));
        }
        fits
    }

    /// A turn has handed over what was its.
    pub(super) fn turn(&mut self) {
        self.left_bytes = TURN_BYTES;
    }

    /// The next that this turn hands over of those that waited.
    pub(super) fn next(&mut self) -> Option<Key> {
        let &(key, bytes) = self.waiting.front()?;
        self.left_bytes = self.left_bytes.checked_sub(bytes)?;
        self.waiting.pop_front();
        Some(key)
    }

    /// Whether any send waits for a turn to come: the loop must not sleep.
    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Sends that wait for a turn to come.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Nobody wants a send any more; whether it was still waiting, and is forgotten now.
    pub(super) fn leave(&mut self, key: Key) -> bool {
        let Some(at) = self.waiting.iter().position(|&(other, _)| other == key) else {
            return false;
        };
        self.waiting.remove(at);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u64) -> Key {
        Key::from_user_data(number)
    }

    #[test]
    fn a_turn_hands_over_so_much_and_the_rest_in_the_order_of_its_asking() {
        let mut outflow = Outflow::default();
        let a_turn = (TURN_BYTES / ENTRY_BYTES) as u64;
        for number in 0..5 * a_turn {
            assert_eq!(outflow.begin(key(number), ENTRY_BYTES), number < a_turn);
        }
        assert_eq!(outflow.next(), None, "this turn's are with the kernel");
        assert!(outflow.leave(key(a_turn + 1)), "given up while it waited");
        assert!(!outflow.leave(key(0)), "this one is with the kernel");
        let mut expected = (a_turn..5 * a_turn).filter(|&number| number != a_turn + 1);
        while outflow.is_waiting() {
            outflow.turn();
            let of_turn: Vec<Key> = std::iter::from_fn(|| outflow.next()).collect();
            assert!(of_turn.len() as u64 <= a_turn && !of_turn.is_empty());
            assert!(
                of_turn
                    .into_iter()
                    .eq(expected.by_ref().take(a_turn as usize).map(key))
            );
        }
        assert_eq!(expected.next(), None);
    }

    #[test]
    fn what_is_small_never_waits_and_what_is_not_waits_behind_who_came_first() {
        let mut outflow = Outflow::default();
        while outflow.begin(key(0), ENTRY_BYTES) {}
        assert!((0..1000).all(|number| outflow.begin(key(number), SMALL_BYTES)));
        outflow.turn();
        assert!(!outflow.begin(key(1), SMALL_BYTES + 1), "another waits already");
        assert_eq!((outflow.next(), outflow.next()), (Some(key(0)), Some(key(1))));
        assert!(
            outflow.begin(key(2), SMALL_BYTES + 1),
            "nobody waits, and there is room"
        );
    }
}
