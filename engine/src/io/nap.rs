//! Whether somebody sleeps, and whether the wake-up from that sleep is done: one word, between one sleeper and many ringers.
//!
//! ```text
//! bit 0   asleep, or about to be
//! bit 1   woken: the wake-up of this sleep is done, not only begun
//! rest    the sleep's number
//! ```
//!
//! A ringer that finds a sleeper wakes it and **then** says so. Two that come together both wake it, which is one wake-up too
//! many; but each of them knows when it leaves that one was done. If the first said so before, and the kernel took it off its
//! core in between, the second would go its way and its message lie there until the first runs again: milliseconds.
//!
//! A ringer may be as late with saying it. So it says of which sleep it speaks, and where that is over nothing happens:
//! without the number, it would take the wake-ups of a later sleep away.
//!
//! Neither side waits for the other here. What each must have written before it reads this word, or reads after it has
//! written it, is the caller's to order (Dekker's pattern): see `mailbox.rs` and `uring/bell.rs`.

use std::sync::atomic::{AtomicU64, Ordering};

const ASLEEP: u64 = 1;
const WOKEN: u64 = 2;
const NUMBER: u64 = 4;

/// The word of the next sleep.
fn fallen_asleep(word: u64) -> u64 {
    (word & !(ASLEEP | WOKEN)).wrapping_add(NUMBER) | ASLEEP
}

/// The word when that sleep is over.
fn risen(word: u64) -> u64 {
    word & !(ASLEEP | WOKEN)
}

/// Whether a ringer that reads this word has to wake the sleeper.
fn must_be_woken(word: u64) -> bool {
    word & (ASLEEP | WOKEN) == ASLEEP
}

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Nap(AtomicU64);

/// A sleep that a ringer has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sleep(u64);

impl Nap {
    /// The sleeper says that it goes to sleep. It looks for work once more after this.
    pub(super) fn begin(&self) {
        // Only the sleeper changes the number; what a ringer says in between is of a sleep that is over.
        let word = self.0.load(Ordering::Relaxed);
        // Whoever reads that it sleeps sees the waker that it has left before.
        self.0.store(fallen_asleep(word), Ordering::Release);
    }

    /// The sleeper is awake.
    pub(super) fn end(&self) {
        let word = self.0.load(Ordering::Relaxed);
        self.0.store(risen(word), Ordering::Relaxed);
    }

    /// The sleep that the caller has to end, if there is one.
    pub(super) fn to_end(&self) -> Option<Sleep> {
        let word = self.0.load(Ordering::Acquire);
        must_be_woken(word).then_some(Sleep(word))
    }

    /// Says that the sleeper has been woken from that sleep.
    pub(super) fn woken(&self, sleep: Sleep) {
        // It fails where another has said so, or the sleeper is up already: then there is nothing to say.
        let Sleep(word) = sleep;
        let _said = self
            .0
            .compare_exchange(word, word | WOKEN, Ordering::Release, Ordering::Relaxed)
            .is_ok();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_sleep_is_ended_once_and_a_late_word_is_of_its_own_sleep() {
        let nap = Nap::default();
        assert_eq!(nap.to_end(), None, "nobody sleeps");
        nap.begin();
        let (first, together) = (nap.to_end().unwrap(), nap.to_end().unwrap());
        nap.woken(first);
        assert_eq!(nap.to_end(), None, "it is woken");
        nap.end();
        nap.begin();
        nap.woken(together);
        assert!(nap.to_end().is_some(), "what was said was of the sleep before");
    }

    /// How ringers and sleeper use the word: as here, or with a mistake that the search below must find.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Protocol {
        AsHere,
        /// Says that the sleeper is woken, and then wakes it.
        SaysItFirst,
        /// Sleeps have no numbers.
        WithoutNumbers,
        /// The sleeper does not look again after it has said that it goes to sleep.
        SleepsUnseeing,
    }

    const RINGERS: usize = 3;
    /// Each rings twice, so that one may be a sleep late.
    const RINGS: u8 = 2;

    /// Where a ringer is.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    enum Ringer {
        /// Its last ring, if there was one, is over; so many are to come.
        Idle(u8),
        /// It has left its message.
        Left(u8),
        /// It has set the flag.
        Flagged(u8),
        /// It has found this word and is to wake the sleeper.
        Wakes(u8, u64),
        /// It has woken the sleeper and is to say so.
        Says(u8, u64),
    }

    /// Where the sleeper is.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    enum Sleeper {
        /// It clears the flag.
        Clears,
        /// It takes every message.
        Takes,
        /// It says that it goes to sleep.
        Begins,
        /// It looks at the flag.
        Looks,
        /// It sleeps until it is woken.
        Sleeps,
        /// It is up, and says so.
        Ends,
    }

    /// One moment. Each step of each side is one access to what they share, in any order: a ringer may stop between any two
    /// for as long as the others like.
    #[derive(Debug, Clone, PartialEq, Eq, Hash)]
    struct Moment {
        word: u64,
        flag: bool,
        /// What the eventfd is: a wake-up that has not been taken.
        wake_up: bool,
        messages: [bool; RINGERS],
        ringers: [Ringer; RINGERS],
        sleeper: Sleeper,
    }

    impl Moment {
        fn sleeper_steps(&self, protocol: Protocol) -> Option<Self> {
            let mut next = self.clone();
            next.sleeper = match self.sleeper {
                Sleeper::Clears => {
                    next.flag = false;
                    Sleeper::Takes
                }
                Sleeper::Takes => {
                    next.messages = [false; RINGERS];
                    Sleeper::Begins
                }
                Sleeper::Begins => {
                    next.word = fallen_asleep(self.word);
                    if protocol == Protocol::WithoutNumbers {
                        next.word &= ASLEEP | WOKEN;
                    }
                    if protocol == Protocol::SleepsUnseeing {
                        Sleeper::Sleeps
                    } else {
                        Sleeper::Looks
                    }
                }
                Sleeper::Looks if self.flag => Sleeper::Ends,
                Sleeper::Looks => Sleeper::Sleeps,
                Sleeper::Sleeps if !self.wake_up => return None,
                Sleeper::Sleeps => {
                    next.wake_up = false;
                    Sleeper::Ends
                }
                Sleeper::Ends => {
                    next.word = risen(self.word);
                    Sleeper::Clears
                }
            };
            Some(next)
        }

        fn ringer_steps(&self, protocol: Protocol, who: usize) -> Option<Self> {
            let mut next = self.clone();
            next.ringers[who] = match self.ringers[who] {
                Ringer::Idle(0) => return None,
                Ringer::Idle(left) => {
                    next.messages[who] = true;
                    Ringer::Left(left - 1)
                }
                Ringer::Left(left) => {
                    next.flag = true;
                    Ringer::Flagged(left)
                }
                Ringer::Flagged(left) if !must_be_woken(self.word) => Ringer::Idle(left),
                Ringer::Flagged(left) => {
                    if protocol == Protocol::SaysItFirst {
                        next.word |= WOKEN;
                    }
                    Ringer::Wakes(left, self.word)
                }
                Ringer::Wakes(left, found) => {
                    next.wake_up = true;
                    Ringer::Says(left, found)
                }
                Ringer::Says(left, found) => {
                    if self.word == found {
                        next.word |= WOKEN;
                    }
                    Ringer::Idle(left)
                }
            };
            Some(next)
        }

        /// Somebody has rung and gone its way, and the sleeper sleeps over its message with nothing to wake it.
        fn is_slept_over(&self) -> bool {
            let asleep = self.sleeper == Sleeper::Sleeps && !self.wake_up;
            let left = |who: usize| self.messages[who] && matches!(self.ringers[who], Ringer::Idle(_));
            asleep && (0..RINGERS).any(left)
        }
    }

    /// Looks at every moment that can be, and returns one that must not be.
    fn search(protocol: Protocol) -> Option<Moment> {
        let start = Moment {
            word: 0,
            flag: false,
            wake_up: false,
            messages: [false; RINGERS],
            ringers: [Ringer::Idle(RINGS); RINGERS],
            sleeper: Sleeper::Clears,
        };
        let (mut seen, mut open) = (HashSet::from([start.clone()]), vec![start]);
        while let Some(moment) = open.pop() {
            if moment.is_slept_over() {
                return Some(moment);
            }
            let ringers = (0..RINGERS).filter_map(|who| moment.ringer_steps(protocol, who));
            for next in ringers.chain(moment.sleeper_steps(protocol)) {
                if seen.insert(next.clone()) {
                    open.push(next);
                }
            }
        }
        None
    }

    /// A ringer that was stopped after it had taken the wake-up on itself, and before it did it, let the messages of all who
    /// came after it lie. Every order of every step of three ringers and the sleeper is looked at.
    #[test]
    fn no_order_of_steps_leaves_a_message_to_somebody_else() {
        assert_eq!(search(Protocol::AsHere), None);
    }

    #[test]
    fn the_search_finds_what_it_is_for() {
        for mistake in [
            Protocol::SaysItFirst,
            Protocol::WithoutNumbers,
            Protocol::SleepsUnseeing,
        ] {
            assert!(search(mistake).is_some(), "{mistake:?}");
        }
    }
}
