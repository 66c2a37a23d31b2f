//! Turns at shaking hands: on one core, one after the other, with everybody else's turn between two.
//!
//! What a handshake computes takes a core for a few tenths of a ms, far longer than a command. Clients that come in a crowd
//! have all said their first words when the core looks, so that without turns those inside wait for the whole crowd. A
//! turn is for computing alone: nobody has one while it waits for its client, or some who say nothing would keep all others
//! out for as long as they may. Who has to wait stands in line, first come first served, within the time that a client has
//! to say who it is; the line is no longer than there are clients.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// The turns of a core.
#[derive(Debug, Default)]
pub struct Turns {
    taken: Cell<bool>,
    /// Tickets are numbers that count up; this is the next.
    next_ticket: Cell<u64>,
    /// Who waits, by ticket.
    line: RefCell<BTreeMap<u64, Waker>>,
    /// The ticket of whoever was given the turn and has not been run since.
    given: Cell<Option<u64>>,
}

impl Turns {
    /// Waits for a turn, which lasts until it is dropped.
    pub async fn take(&self) -> Turn<'_> {
        if !self.taken.replace(true) {
            return Turn(self);
        }
        let ticket = self.next_ticket.get();
        self.next_ticket.set(ticket + 1);
        let turns = self;
        Place { turns, ticket }.await
    }

    /// Whether anybody waits for a turn.
    pub fn has_line(&self) -> bool {
        !self.line.borrow().is_empty()
    }

    /// Gives the turn to whoever is next.
    fn pass_on(&self) {
        let next = self.line.borrow_mut().pop_first();
        self.given.set(next.as_ref().map(|(ticket, _)| *ticket));
        match next {
            Some((_, waker)) => waker.wake(),
            None => self.taken.set(false),
        }
    }
}

/// A turn that somebody has; it is passed on when dropped.
#[derive(Debug)]
pub struct Turn<'a>(&'a Turns);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.pass_on();
    }
}

/// A place in the line.
struct Place<'a> {
    turns: &'a Turns,
    ticket: u64,
}

impl Place<'_> {
    fn is_given(&self) -> bool {
        self.turns.given.get() == Some(self.ticket)
    }
}

impl<'a> Future for Place<'a> {
    type Output = Turn<'a>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Turn<'a>> {
        if self.is_given() {
            self.turns.given.set(None);
            return Poll::Ready(Turn(self.turns));
        }
        let waker = context.waker().clone();
        self.turns.line.borrow_mut().insert(self.ticket, waker);
        Poll::Pending
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.is_given() {
            // Whoever waited has left between being given the turn and being run.
            self.turns.pass_on();
        } else {
            let _waker = self.turns.line.borrow_mut().remove(&self.ticket);
        }
    }
}

#[cfg(test)]
mod tests {
    use corelane::io::sim::Rng;
    use futures_lite::future::{block_on, poll_once};

    use super::*;

    #[test]
    fn turns_are_taken_one_by_one_in_order_and_none_is_lost_with_who_leaves() {
        block_on(async {
            let turns = Turns::default();
            let first = turns.take().await;
            let mut line: Vec<_> = (0..4).map(|_| Box::pin(turns.take())).collect();
            for waiting in &mut line {
                assert!(poll_once(waiting).await.is_none());
            }
            drop(line.remove(1));
            drop(first);
            assert!(poll_once(&mut line[1]).await.is_none(), "nobody overtakes");
            // It was given the turn and has not been run since.
            drop(line.remove(0));
            let second = poll_once(&mut line[0]).await.expect("it was passed on");
            assert!(poll_once(&mut line[1]).await.is_none());
            // Those who were run and those who were not leave nothing.
            line.push(Box::pin(turns.take()));
            drop(second);
            drop(line);
            assert!(turns.line.borrow().is_empty() && !turns.taken.get());
            drop(turns.take().await);
            assert!(!turns.taken.get() && turns.given.get().is_none());
        });
    }

    /// However those who wait come and go, one has the turn at a time, and as long as anybody waits somebody has it or was
    /// given it.
    #[test]
    fn the_turn_is_never_lost_nor_had_twice() {
        block_on(async {
            for seed in 0..200_u64 {
                let mut rng = Rng::new(seed);
                let mut draw = |below: usize| usize::try_from(rng.between(1, below as u64)).unwrap() - 1;
                let turns = Turns::default();
                let mut waiting = Vec::new();
                let mut has_it = None;
                for _ in 0..300 {
                    match draw(4) {
                        0 => waiting.push(Box::pin(turns.take())),
                        1 if !waiting.is_empty() => drop(waiting.swap_remove(draw(waiting.len()))),
                        2 => has_it = None,
                        _ if !waiting.is_empty() => {
                            let who = draw(waiting.len());
                            if let Some(turn) = poll_once(&mut waiting[who]).await {
                                assert!(has_it.replace(turn).is_none(), "seed {seed}");
                                drop(waiting.swap_remove(who));
                            }
                        }
                        _ => {}
                    }
                    assert!(turns.line.borrow().len() <= waiting.len(), "seed {seed}");
                    assert_eq!(
                        turns.taken.get(),
                        has_it.is_some() || turns.given.get().is_some(),
                        "seed {seed}"
                    );
                }
            }
        });
    }
}
