//! What a waiting task and the machine share: a slot for the answer and the task's waker.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};

#[derive(Debug)]
struct Slot<T> {
    answer: Option<T>,
    waker: Option<Waker>,
}

/// A future of one answer. Dropping it does not stop the operation.
#[derive(Debug)]
pub(super) struct Completion<T>(Rc<RefCell<Slot<T>>>);

/// The machine's end of a [`Completion`].
#[derive(Debug)]
pub(super) struct Answer<T>(Rc<RefCell<Slot<T>>>);

/// The machine's end of a timer, which dies with the future that waits for it.
#[derive(Debug)]
pub(super) struct Timer(Weak<RefCell<Slot<()>>>);

/// A fresh pair.
pub(super) fn completion<T>() -> (Answer<T>, Completion<T>) {
    let slot = Rc::new(RefCell::new(Slot {
        answer: None,
        waker: None,
    }));
    (Answer(Rc::clone(&slot)), Completion(slot))
}

/// A fresh timer.
pub(super) fn timer() -> (Timer, Completion<()>) {
    let slot = Rc::new(RefCell::new(Slot {
        answer: None,
        waker: None,
    }));
    (Timer(Rc::downgrade(&slot)), Completion(slot))
}

fn fill<T>(slot: &RefCell<Slot<T>>, answer: T) {
    let waker = {
        let mut slot = slot.borrow_mut();
        slot.answer = Some(answer);
        slot.waker.take()
    };
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl<T> Answer<T> {
    pub(super) fn give(self, answer: T) {
        fill(&self.0, answer);
    }
}

impl Timer {
    /// Whether anyone still waits.
    pub(super) fn is_live(&self) -> bool {
        self.0.strong_count() > 0
    }

    pub(super) fn fire(self) {
        if let Some(slot) = self.0.upgrade() {
            fill(&slot, ());
        }
    }
}

impl<T> Future for Completion<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let mut slot = self.0.borrow_mut();
        match slot.answer.take() {
            Some(answer) => Poll::Ready(answer),
            None => {
                slot.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}
