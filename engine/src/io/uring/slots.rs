//! The operations under way, each in a slot until the kernel has told its last completion.
//!
//! A slot's number and generation are the operation's user data, by which its completions find it; a slot is used again only
//! after the last one, and then under another generation, so that a cancellation that comes late hits nobody else.
//!
//! Whoever waits for an operation may go away: its slot is then an orphan, and lives on until the completion as if somebody
//! waited. Nothing here knows the kernel; `in_flight.rs` connects the two.

use std::task::{Context, Poll, Waker};

use super::super::Class;
use super::completion::Completion;
use super::operation::Operation;

/// Names an operation under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key {
    index: u32,
    generation: u32,
}

/// No slot has this number.
const NO_SLOT: u32 = u32::MAX;

impl Key {
    /// What the kernel carries for a completion that belongs to no operation.
    pub(super) const NONE: u64 = NO_SLOT as u64;

    /// As the kernel carries it.
    pub(super) fn user_data(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    /// The inverse of [`Key::user_data`].
    pub(super) fn from_user_data(user_data: u64) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "the two halves")]
        Self {
            index: user_data as u32,
            generation: (user_data >> 32) as u32,
        }
    }
}

enum State {
    /// Its future waits, or is not polled yet.
    Waiting(Option<Waker>),
    /// Completed, to be taken by its future.
    Done(Completion),
    /// Nobody waits.
    Orphan,
}

struct Held {
    operation: Operation,
    state: State,
    /// The class whose room at the device it counts against.
    class: Option<Class>,
}

#[derive(Default)]
struct Slot {
    generation: u32,
    held: Option<Held>,
}

/// What is to be done about a completion.
pub(super) enum Told {
    /// Wake whoever waits; its completion is kept for it.
    Wake(Option<Waker>),
    /// Drop both, outside of any borrow: their drops may begin operations.
    Orphan(Operation, Completion),
}

/// What a future that goes away leaves.
pub(super) enum Left {
    /// It was done, and both are to be dropped outside of any borrow.
    Done(Operation, Completion),
    /// The kernel never had it, and it is to be dropped outside of any borrow.
    NotBegun(Operation),
    /// It goes on, and may be cancelled.
    UnderWay {
        /// It would wait for others.
        endless: bool,
    },
}

/// See the module's head.
#[derive(Default)]
pub(super) struct Slots {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

impl Slots {
    /// Puts an operation into a slot: one that is polled for, or one that nobody waits for; with the class that it counts
    /// against.
    pub(super) fn insert(&mut self, operation: Operation, awaited: bool, class: Option<Class>) -> Key {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            let index = u32::try_from(self.slots.len() - 1).ok();
            let index = index.filter(|&index| index != NO_SLOT);
            index.expect("memory ends before the numbers do")
        });
        let slot = &mut self.slots[index as usize];
        assert!(slot.held.is_none(), "a free slot is empty");
        slot.held = Some(Held {
            operation,
            state: if awaited {
                State::Waiting(None)
            } else {
                State::Orphan
            },
            class,
        });
        Key {
            index,
            generation: slot.generation,
        }
    }

    /// The operation in a slot.
    pub(super) fn operation(&mut self, key: Key) -> &mut Operation {
        &mut self.held(key).operation
    }

    /// The class that an operation counts against.
    pub(super) fn class(&mut self, key: Key) -> Option<Class> {
        self.held(key).class
    }

    /// Whether an operation is still under way: not over, and not completed and to be taken.
    pub(super) fn is_under_way(&self, key: Key) -> bool {
        let slot = self.slots.get(key.index as usize);
        let slot = slot.filter(|slot| slot.generation == key.generation);
        let held = slot.and_then(|slot| slot.held.as_ref());
        held.is_some_and(|held| !matches!(held.state, State::Done(_)))
    }

    /// The last completion of an operation that has no sink.
    pub(super) fn complete(&mut self, key: Key, completion: Completion) -> Told {
        let held = self.held(key);
        match &mut held.state {
            State::Waiting(waker) => {
                let waker = waker.take();
                held.state = State::Done(completion);
                Told::Wake(waker)
            }
            State::Orphan => Told::Orphan(self.remove(key).operation, completion),
            State::Done(_) => unreachable!("an operation without a sink completes once"),
        }
    }

    /// The operation and its completion, once that has come; until then `cx` is to be woken.
    pub(super) fn poll(&mut self, key: Key, cx: &Context<'_>) -> Poll<(Operation, Completion)> {
        if let State::Waiting(waker) = &mut self.held(key).state {
            match waker {
                Some(waker) => waker.clone_from(cx.waker()),
                None => *waker = Some(cx.waker().clone()),
            }
            return Poll::Pending;
        }
        let held = self.remove(key);
        let State::Done(completion) = held.state else {
            unreachable!("a future polls its own operation, which is no orphan")
        };
        Poll::Ready((held.operation, completion))
    }

    /// The future of an operation goes away.
    pub(super) fn abandon(&mut self, key: Key) -> Left {
        let held = self.held(key);
        if let State::Done(_) = held.state {
            let held = self.remove(key);
            let State::Done(completion) = held.state else {
                unreachable!("it was just looked at")
            };
            return Left::Done(held.operation, completion);
        }
        held.state = State::Orphan;
        Left::UnderWay {
            endless: held.operation.waits_for_others(),
        }
    }

    /// Takes the operation out after its last completion.
    pub(super) fn end(&mut self, key: Key) -> Operation {
        self.remove(key).operation
    }

    /// Operations under way that wait for others.
    pub(super) fn endless(&self) -> Vec<Key> {
        let held = self.slots.iter().zip(0..);
        held.filter(|(slot, _)| {
            let held = slot.held.as_ref();
            held.is_some_and(|held| held.operation.waits_for_others())
        })
        .map(|(slot, index)| Key {
            index,
            generation: slot.generation,
        })
        .collect()
    }

    /// Operations that hold a slot.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    fn held(&mut self, key: Key) -> &mut Held {
        let slot = &mut self.slots[key.index as usize];
        assert_eq!(
            slot.generation, key.generation,
            "an operation is named while it is there"
        );
        slot.held
            .as_mut()
            .expect("an operation is named while it is there")
    }

    fn remove(&mut self, key: Key) -> Held {
        self.held(key);
        let slot = &mut self.slots[key.index as usize];
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(key.index);
        slot.held.take().expect("looked at above")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done() -> Completion {
        Completion {
            result: Ok(7),
            opened: None,
            lent: None,
        }
    }

    #[test]
    fn a_slot_is_used_again_under_another_name() {
        let mut slots = Slots::default();
        let first = slots.insert(Operation::Cancel(1), true, None);
        assert!(matches!(slots.complete(first, done()), Told::Wake(None)));
        assert_eq!(slots.len(), 1, "kept until it is taken");
        assert!(!slots.is_under_way(first), "there is nothing left to cancel");
        let cx = Context::from_waker(Waker::noop());
        assert!(slots.poll(first, &cx).is_ready());
        let second = slots.insert(Operation::Cancel(2), true, None);
        assert_eq!((first.index, second.generation), (second.index, 1));
        assert!(!slots.is_under_way(first) && slots.is_under_way(second));
        assert_eq!(Key::from_user_data(second.user_data()), second);
    }

    #[test]
    fn an_operation_outlives_whoever_waited_for_it() {
        let mut slots = Slots::default();
        let key = slots.insert(Operation::Cancel(1), true, None);
        assert!(matches!(slots.abandon(key), Left::UnderWay { endless: false }));
        assert_eq!(slots.len(), 1, "the kernel is not done with it");
        assert!(matches!(
            slots.complete(key, done()),
            Told::Orphan(Operation::Cancel(1), _)
        ));
        assert_eq!(slots.len(), 0);
    }

    #[test]
    fn a_completion_that_is_not_taken_is_dropped_with_its_future() {
        let mut slots = Slots::default();
        let key = slots.insert(Operation::Cancel(1), true, None);
        let _nobody = slots.complete(key, done());
        assert!(matches!(slots.abandon(key), Left::Done(..)));
        assert_eq!(slots.len(), 0);
    }
}
