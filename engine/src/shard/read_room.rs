//! Room for large blocks on their way from the device: what reads of one shard hold of them at once is bounded.
//!
//! A value has a block of its own where it is long, so a thousand lookups that go to the device together may ask for tens
//! of gigabytes, whatever little they want to know of each value. So a reader of a large block first takes room for it,
//! and holds that until it has looked at the block. Who finds none waits in line, first come first served, and is woken
//! alone once it has its room. A small block pays no more than a comparison.
//!
//! - A block larger than all the room is let in alone.
//! - A reader holds room for one block at a time and asks for no more meanwhile, so that nobody waits in a circle.
//! - A reader that is dropped gives back its room, or its place in the line.
//! - What a reader does about a large block that it comes to is its own choice ([`Large`]): it may also leave it unread, or hold
//!   room for it already.
//!
//! The line is as long as there are readers; these are the requests that a core has let in, which are bounded there.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// Blocks below this length need no room: a thousand of them take about as much as one value may. A block that is longer
/// holds a long value, so lookups of short ones never wait here.
const LARGE_BYTES: usize = 64 << 10;

/// What a reader does about a large block that it comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Large {
    /// It reads it once there is room.
    InLine,
    /// It reads it at once: it holds the room already.
    AtOnce,
    /// It leaves it unread.
    Unread,
}

/// The room, and who waits for it.
#[derive(Debug)]
pub struct ReadRoom {
    room_bytes: usize,
    held_bytes: Cell<usize>,
    line: RefCell<VecDeque<Rc<Waiter>>>,
}

#[derive(Debug)]
struct Waiter {
    bytes: usize,
    /// Whether it has its room.
    let_in: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// Whether a block of this length needs room.
pub fn is_large(block_bytes: usize) -> bool {
    block_bytes >= LARGE_BYTES
}

impl ReadRoom {
    /// For blocks of `room_bytes` together, as they lie on the device. While a block is being unpacked it is in memory twice;
    /// none of more than [`LARGE_BYTES`] is compressed by much, so it gets no longer.
    pub fn new(room_bytes: usize) -> Self {
        Self {
            room_bytes,
            held_bytes: Cell::new(0),
            line: RefCell::default(),
        }
    }

    /// Room to read a large block, to be kept until nobody looks at the block.
    pub async fn take(&self, bytes: usize) -> Held<'_> {
        if self.line.borrow().is_empty() && self.fits(bytes) {
            self.held_bytes.set(self.held_bytes.get() + bytes);
            return Held { room: self, bytes };
        }
        let waiter = Rc::new(Waiter {
            bytes,
            let_in: Cell::new(false),
            waker: RefCell::default(),
        });
        self.line.borrow_mut().push_back(Rc::clone(&waiter));
        Turn { room: self, waiter }.await
    }

    fn fits(&self, bytes: usize) -> bool {
        let held = self.held_bytes.get();
        held == 0 || held.saturating_add(bytes) <= self.room_bytes
    }

    fn give_back(&self, bytes: usize) {
        self.held_bytes.set(self.held_bytes.get() - bytes);
        self.let_in();
    }

    /// Gives those at the head of the line their room, as far as it goes.
    fn let_in(&self) {
        while let Some(waiter) = self.next_that_fits() {
            self.held_bytes.set(self.held_bytes.get() + waiter.bytes);
            waiter.let_in.set(true);
            if let Some(waker) = waiter.waker.take() {
                waker.wake();
            }
        }
    }

    fn next_that_fits(&self) -> Option<Rc<Waiter>> {
        let mut line = self.line.borrow_mut();
        let fits = line.front().is_some_and(|waiter| self.fits(waiter.bytes));
        if fits { line.pop_front() } else { None }
    }
}

/// Room that a reader has; given back when it is dropped.
#[derive(Debug)]
pub struct Held<'a> {
    room: &'a ReadRoom,
    bytes: usize,
}

impl Held<'_> {
    /// How much it is, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.room.give_back(self.bytes);
    }
}

/// A reader's place in the line.
struct Turn<'a> {
    room: &'a ReadRoom,
    waiter: Rc<Waiter>,
}

impl<'a> Future for Turn<'a> {
    type Output = Held<'a>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Held<'a>> {
        let waiter = &self.waiter;
        // What it was given goes on with the reader.
        if waiter.let_in.take() {
            return Poll::Ready(Held {
                room: self.room,
                bytes: waiter.bytes,
            });
        }
        match &mut *waiter.waker.borrow_mut() {
            Some(known) => known.clone_from(context.waker()),
            empty => *empty = Some(context.waker().clone()),
        }
        Poll::Pending
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if self.waiter.let_in.get() {
            // Dropped between being woken and being run.
            self.room.give_back(self.waiter.bytes);
            return;
        }
        self.room
            .line
            .borrow_mut()
            .retain(|waiter| !Rc::ptr_eq(waiter, &self.waiter));
        // It may have stood before others for whom there is room.
        self.room.let_in();
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use futures_lite::future::{block_on, poll_once};

    use super::*;

    const MIB: usize = 1 << 20;

    #[test]
    fn large_blocks_wait_in_line() {
        block_on(async {
            let room = ReadRoom::new(10 * MIB);
            assert!(!is_large(LARGE_BYTES - 1) && is_large(LARGE_BYTES));
            let first = room.take(6 * MIB).await;
            let mut second = Box::pin(room.take(6 * MIB));
            let mut third = Box::pin(room.take(MIB));
            assert!(poll_once(&mut second).await.is_none());
            assert!(poll_once(&mut third).await.is_none(), "nobody overtakes");
            drop(first);
            let second = poll_once(&mut second).await.expect("there is room");
            assert!(poll_once(&mut third).await.is_some(), "and for the next as well");
            drop((second, third));
            assert_eq!(room.held_bytes.get(), 0);
        });
    }

    #[test]
    fn a_block_larger_than_all_the_room_is_let_in_alone() {
        block_on(async {
            let room = ReadRoom::new(10 * MIB);
            let huge = room.take(64 * MIB).await;
            let mut next = Box::pin(room.take(MIB));
            assert!(poll_once(&mut next).await.is_none());
            let mut huger = Box::pin(room.take(64 * MIB));
            assert!(poll_once(&mut huger).await.is_none());
            drop(huge);
            let next = poll_once(&mut next).await.expect("there is room");
            assert!(poll_once(&mut huger).await.is_none(), "not beside another");
            drop(next);
            assert!(poll_once(&mut huger).await.is_some());
        });
    }

    #[test]
    fn readers_that_are_dropped_leave_nothing_behind() {
        block_on(async {
            let room = ReadRoom::new(10 * MIB);
            let held = room.take(8 * MIB).await;
            let mut gone = Box::pin(room.take(9 * MIB));
            let mut next = Box::pin(room.take(2 * MIB));
            assert!(poll_once(&mut gone).await.is_none() && poll_once(&mut next).await.is_none());
            drop(gone);
            let next = poll_once(&mut next).await.expect("those behind it are let in");
            let mut woken = Box::pin(room.take(9 * MIB));
            assert!(poll_once(&mut woken).await.is_none());
            drop((held, next));
            assert_eq!(room.held_bytes.get(), 9 * MIB, "it was given its room");
            drop(woken);
            assert_eq!((room.held_bytes.get(), room.line.borrow().len()), (0, 0));
        });
    }

    #[test]
    fn only_who_is_let_in_is_woken() {
        let room = ReadRoom::new(MIB);
        let mut context = Context::from_waker(Waker::noop());
        let held = block_on(room.take(MIB));
        let mut crowd: Vec<_> = (0..100).map(|_| Box::pin(room.take(MIB))).collect();
        for reader in &mut crowd {
            assert!(reader.as_mut().poll(&mut context).is_pending());
        }
        drop(held);
        let let_in = room.held_bytes.get();
        assert_eq!((let_in, room.line.borrow().len()), (MIB, 99));
    }
}
