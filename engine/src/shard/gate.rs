//! A gate local to one core: tasks wait at it, and opening it lets all of them through once.
//!
//! Waiting is remembered by an epoch, so an opening between making a [`Wait`] and polling it is not lost. A wait has one
//! place, which it gives back when it is dropped: so the places are bounded by the waits there are, and a crowd of
//! thousands comes and goes without anybody looking through it.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// The place where tasks wait.
#[derive(Debug, Default)]
pub struct Gate {
    epoch: Cell<u64>,
    waiting: RefCell<Waiting>,
}

/// The wakers of one epoch.
#[derive(Debug, Default)]
struct Waiting {
    /// By place; `None` for one given back.
    wakers: Vec<Option<Waker>>,
    free: Vec<usize>,
}

impl Gate {
    /// Lets every task through that waits now.
    pub fn open(&self) {
        self.epoch.set(self.epoch.get() + 1);
        let waiting = self.waiting.take();
        waiting.wakers.into_iter().flatten().for_each(Waker::wake);
    }

    /// Completes at the next [`Gate::open`] after this call.
    pub fn wait(&self) -> Wait<'_> {
        Wait {
            gate: self,
            epoch: self.epoch.get(),
            place: None,
        }
    }
}

/// A task's turn at a [`Gate`].
#[derive(Debug)]
pub struct Wait<'a> {
    gate: &'a Gate,
    epoch: u64,
    /// Where its waker is, until the gate is opened.
    place: Option<usize>,
}

impl Future for Wait<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.gate.epoch.get() != self.epoch {
            return Poll::Ready(());
        }
        let mut waiting = self.gate.waiting.borrow_mut();
        let place = self.place.or_else(|| waiting.free.pop()).unwrap_or_else(|| {
            waiting.wakers.push(None);
            waiting.wakers.len() - 1
        });
        match &mut waiting.wakers[place] {
            Some(known) => known.clone_from(context.waker()),
            empty => *empty = Some(context.waker().clone()),
        }
        drop(waiting);
        self.place = Some(place);
        Poll::Pending
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        if let Some(place) = self.place
            && self.gate.epoch.get() == self.epoch
        {
            let mut waiting = self.gate.waiting.borrow_mut();
            waiting.wakers[place] = None;
            waiting.free.push(place);
        }
    }
}

/// A thing that one task at a time may have, across awaits; the others wait.
#[derive(Debug)]
pub struct Checkout<T> {
    thing: RefCell<Option<T>>,
    returned: Gate,
}

impl<T> Checkout<T> {
    /// Puts a thing up for checkout.
    pub fn new(thing: T) -> Self {
        Self {
            thing: RefCell::new(Some(thing)),
            returned: Gate::default(),
        }
    }

    /// Waits until the thing is there and takes it; it goes back when the guard is dropped.
    pub async fn take(&self) -> CheckedOut<'_, T> {
        loop {
            let returned = self.returned.wait();
            if let Some(thing) = self.thing.borrow_mut().take() {
                return CheckedOut {
                    checkout: self,
                    thing: Some(thing),
                };
            }
            returned.await;
        }
    }
}

/// A thing taken from a [`Checkout`].
#[derive(Debug)]
pub struct CheckedOut<'a, T> {
    checkout: &'a Checkout<T>,
    thing: Option<T>,
}

impl<T> CheckedOut<'_, T> {
    /// Keeps the thing for good: nobody can take it any more.
    pub fn keep(mut self) -> T {
        self.thing
            .take()
            .expect("a guard holds its thing until it is dropped")
    }
}

impl<T> std::ops::Deref for CheckedOut<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.thing
            .as_ref()
            .expect("a guard holds its thing until it is dropped")
    }
}

impl<T> std::ops::DerefMut for CheckedOut<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.thing
            .as_mut()
            .expect("a guard holds its thing until it is dropped")
    }
}

impl<T> Drop for CheckedOut<'_, T> {
    fn drop(&mut self) {
        if let Some(thing) = self.thing.take() {
            *self.checkout.thing.borrow_mut() = Some(thing);
            self.checkout.returned.open();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::{block_on, poll_once};

    #[test]
    fn opening_lets_through_those_who_waited_and_not_those_who_come_later() {
        block_on(async {
            let gate = Gate::default();
            let mut early = Box::pin(gate.wait());
            assert!(poll_once(&mut early).await.is_none());
            let unpolled = gate.wait();
            gate.open();
            assert!(poll_once(&mut early).await.is_some());
            assert!(
                poll_once(unpolled).await.is_some(),
                "an opening before the first poll is not lost"
            );
            assert!(poll_once(gate.wait()).await.is_none());
        });
    }

    #[test]
    fn a_checkout_serves_one_at_a_time_also_when_a_holder_is_dropped() {
        block_on(async {
            let checkout = Checkout::new(1);
            let mut held = checkout.take().await;
            let mut waiting = Box::pin(checkout.take());
            assert!(poll_once(&mut waiting).await.is_none());
            *held = 2;
            drop(held);
            assert_eq!(*waiting.await, 2);
            assert_eq!(checkout.take().await.keep(), 2);
            assert!(
                poll_once(checkout.take()).await.is_none(),
                "what was kept is gone"
            );
        });
    }

    /// Each task that came looked through all that waited already, so that a crowd of thousands, woken by every group that
    /// was written, cost the core more than its work.
    #[test]
    fn waits_that_are_given_up_leave_their_places_to_others() {
        block_on(async {
            let gate = Gate::default();
            let mut stays = Box::pin(gate.wait());
            assert!(poll_once(&mut stays).await.is_none());
            for _ in 0..100 {
                assert!(poll_once(gate.wait()).await.is_none());
                assert!(poll_once(&mut stays).await.is_none());
            }
            assert_eq!(gate.waiting.borrow().wakers.len(), 2);
            let late = {
                let mut late = Box::pin(gate.wait());
                assert!(poll_once(&mut late).await.is_none());
                late
            };
            gate.open();
            drop(late);
            assert!(
                gate.waiting.borrow().wakers.is_empty(),
                "the places are the old epoch's"
            );
            assert!(poll_once(&mut stays).await.is_some());
        });
    }
}
