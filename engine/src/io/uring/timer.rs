//! Timers of one core: who is to be woken, and when the next of them is due.
//!
//! A binary heap of deadlines over a slab of timers; each timer knows its place in the heap, so that one whose sleeper goes
//! away is taken out at once and ten thousand timeouts that never fire leave nothing behind. Once both have grown to what
//! a core needs, setting, cancelling and firing allocate nothing.
//!
//! Equal deadlines fire in the order in which they were set.

use std::task::Waker;
use std::time::Duration;

/// Names a timer that has been set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TimerId {
    slot: usize,
    /// Which of all timers it is, so that a name outlives its timer without naming another.
    serial: u64,
}

struct Timer {
    deadline: Duration,
    serial: u64,
    place: usize,
    waker: Waker,
}

/// See the module's head.
#[derive(Default)]
pub(super) struct Timers {
    timers: Vec<Option<Timer>>,
    free: Vec<usize>,
    /// Slots of `timers`, each due no later than the two that stand at twice its place.
    heap: Vec<usize>,
    next_serial: u64,
}

impl Timers {
    /// Sets a timer: `waker` is woken at the first look at or after `deadline`.
    pub(super) fn set(&mut self, deadline: Duration, waker: Waker) -> TimerId {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.timers.push(None);
            self.timers.len() - 1
        });
        let serial = self.next_serial;
        self.next_serial += 1;
        let place = self.heap.len();
        self.timers[slot] = Some(Timer {
            deadline,
            serial,
            place,
            waker,
        });
        self.heap.push(slot);
        self.rise(place);
        TimerId { slot, serial }
    }

    /// Has the timer wake somebody else; whether it is still set.
    pub(super) fn update(&mut self, id: TimerId, waker: &Waker) -> bool {
        let Some(timer) = self.find(id) else { return false };
        timer.waker.clone_from(waker);
        true
    }

    /// Takes the timer out, if it has not fired.
    pub(super) fn cancel(&mut self, id: TimerId) {
        if let Some(place) = self.find(id).map(|timer| timer.place) {
            self.take(place);
        }
    }

    /// When the next timer is due.
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        self.heap.first().map(|&slot| self.key(slot).0)
    }

    /// Takes out the next timer that is due at `now`.
    pub(super) fn pop_due(&mut self, now: Duration) -> Option<Waker> {
        if self.next_deadline()? > now {
            return None;
        }
        Some(self.take(0).waker)
    }

    /// Timers set.
    pub(super) fn len(&self) -> usize {
        self.heap.len()
    }

    fn find(&mut self, id: TimerId) -> Option<&mut Timer> {
        self.timers[id.slot]
            .as_mut()
            .filter(|timer| timer.serial == id.serial)
    }

    fn at(&self, slot: usize) -> &Timer {
        self.timers[slot]
            .as_ref()
            .expect("the heap names timers that are set")
    }

    fn key(&self, slot: usize) -> (Duration, u64) {
        let timer = self.at(slot);
        (timer.deadline, timer.serial)
    }

    /// Takes out the timer at a place of the heap.
    fn take(&mut self, place: usize) -> Timer {
        let slot = self.heap.swap_remove(place);
        if place < self.heap.len() {
            self.put(place, self.heap[place]);
            self.rise(place);
            self.sink(place);
        }
        self.free.push(slot);
        self.timers[slot]
            .take()
            .expect("the heap names timers that are set")
    }

    fn put(&mut self, place: usize, slot: usize) {
        self.heap[place] = slot;
        let timer = self.timers[slot].as_mut();
        timer.expect("the heap names timers that are set").place = place;
    }

    fn swap(&mut self, one: usize, other: usize) {
        let (first, second) = (self.heap[one], self.heap[other]);
        self.put(one, second);
        self.put(other, first);
    }

    fn rise(&mut self, mut place: usize) {
        while place > 0 {
            let above = (place - 1) / 2;
            if self.key(self.heap[above]) <= self.key(self.heap[place]) {
                break;
            }
            self.swap(place, above);
            place = above;
        }
    }

    fn sink(&mut self, mut place: usize) {
        loop {
            let below = [2 * place + 1, 2 * place + 2].into_iter();
            let sooner = below
                .filter(|&child| child < self.heap.len())
                .min_by_key(|&child| self.key(self.heap[child]));
            match sooner {
                Some(child) if self.key(self.heap[child]) < self.key(self.heap[place]) => {
                    self.swap(place, child);
                    place = child;
                }
                _ => break,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::task::Wake;

    use proptest::prelude::*;

    use super::*;

    /// Says when it is woken by leaving its number.
    struct Says(u64, Arc<AtomicU64>);

    impl Wake for Says {
        fn wake(self: Arc<Self>) {
            self.1.store(self.0, Ordering::SeqCst);
        }
    }

    proptest! {
        #[test]
        fn timers_fire_in_order_and_cancelled_ones_never(
            steps in prop::collection::vec((0_u8..4, 0_u64..50, any::<prop::sample::Index>()), 1..300),
        ) {
            let said = Arc::new(AtomicU64::new(0));
            let mut timers = Timers::default();
            let mut model = BTreeMap::new();
            let (mut names, mut gone, mut now) = (BTreeMap::new(), Vec::new(), 0_u64);
            for (number, (step, ms, which)) in (1_u64..).zip(steps) {
                match step {
                    0 | 1 => {
                        let deadline = Duration::from_millis(now + ms);
                        let waker = Waker::from(Arc::new(Says(number, Arc::clone(&said))));
                        names.insert(number, timers.set(deadline, waker));
                        model.insert((deadline, number), ());
                    }
                    2 if !model.is_empty() => {
                        let key = *which.get(&model.keys().copied().collect::<Vec<_>>());
                        model.remove(&key);
                        timers.cancel(names[&key.1]);
                        gone.push(names[&key.1]);
                    }
                    _ => {
                        now += ms;
                        while let Some(waker) = timers.pop_due(Duration::from_millis(now)) {
                            waker.wake();
                            let ((deadline, first), ()) = model.pop_first().expect("one is due");
                            prop_assert!(deadline <= Duration::from_millis(now));
                            prop_assert_eq!(said.load(Ordering::SeqCst), first);
                            gone.push(names[&first]);
                        }
                    }
                }
                prop_assert_eq!(timers.next_deadline(), model.keys().next().map(|key| key.0));
                prop_assert_eq!(timers.len(), model.len());
            }
            for id in gone {
                prop_assert!(!timers.update(id, Waker::noop()), "a name of the past names nothing");
            }
        }
    }

    #[test]
    fn ten_thousand_timeouts_that_never_fire_leave_nothing_behind() {
        let mut timers = Timers::default();
        for ms in 0..10_000 {
            let id = timers.set(Duration::from_millis(ms), Waker::noop().clone());
            timers.cancel(id);
        }
        assert_eq!((timers.len(), timers.timers.len()), (0, 1));
    }
}
