//! A gate local to one core: tasks wait at it, and opening it lets all of them through once.
//!
//! Waiting is remembered by an epoch, so an opening between making a [`Wait`] and polling it is not lost. The list of
//! wakers is bounded by the tasks of the core: one waker a task, however often it asks.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// The place where tasks wait.
#[derive(Debug, Default)]
pub struct Gate {
    epoch: Cell<u64>,
    wakers: RefCell<Vec<Waker>>,
}

impl Gate {
    /// Lets every task through that waits now.
    pub fn open(&self) {
        self.epoch.set(self.epoch.get() + 1);
        let wakers = std::mem::take(&mut *self.wakers.borrow_mut());
        for waker in wakers {
            waker.wake();
        }
    }

    /// Completes at the next [`Gate::open`] after this call.
    pub fn wait(&self) -> Wait<'_> {
        Wait {
            gate: self,
            epoch: self.epoch.get(),
        }
    }
}

/// A task's turn at a [`Gate`].
#[derive(Debug)]
pub struct Wait<'a> {
    gate: &'a Gate,
    epoch: u64,
}

impl Future for Wait<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.gate.epoch.get() != self.epoch {
            return Poll::Ready(());
        }
        let mut wakers = self.gate.wakers.borrow_mut();
        if !wakers.iter().any(|waker| waker.will_wake(context.waker())) {
            wakers.push(context.waker().clone());
        }
        Poll::Pending
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

    #[test]
    fn a_task_that_asks_often_is_remembered_once() {
        block_on(async {
            let gate = Gate::default();
            for _ in 0..100 {
                assert!(poll_once(gate.wait()).await.is_none());
            }
            assert_eq!(gate.wakers.borrow().len(), 1);
        });
    }
}
