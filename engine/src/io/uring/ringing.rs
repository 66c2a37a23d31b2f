//! Wake-ups of other cores that this core has put off until it enters the kernel, where one message into each of their rings
//! does them (`IORING_OP_MSG_RING`): they cost no system call of their own.
//!
//! ```text
//! put_off   a task rings the bell of a core that sleeps       noted, once for each bell
//! queue     the core is about to enter the kernel             an entry for each
//! entered   it has                                            the kernel has them, or the eventfds are written instead
//! say       completions are taken, those of failures too      the ringer says that they are woken
//! ```
//!
//! Nobody hears before the last step that the sleeper is woken (`io/nap.rs`): whoever else rings meanwhile wakes it as well.
//!
//! **What is put off is late by what the task still does.** So only a task of the foreground may put anything off, and only
//! while it is the only one that is ready; the scheduler ends its round before it runs another. A task that rings the same
//! bell again goes on with something else: then the eventfd is written at once.
//!
//! **No wake-up is lost.** A message completes for its sender only where it failed, and then the eventfd is written; so it
//! is where the kernel has not taken all that was queued, and where a core ends with something put off. The other ring is
//! named by a descriptor of its own, which is kept until the kernel has taken the entry, and which the bell gives up when its
//! core ends. A message to a core that is awake, or over, does nothing.

use std::cell::RefCell;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Weak};

use super::super::{nap, scheduler};
use super::bell::Bell;
use super::in_flight::InFlight;

thread_local! {
    /// What the core of this thread has put off; `None` where none runs.
    static PUT_OFF: RefCell<Option<Vec<PutOff>>> = const { RefCell::new(None) };
}

/// A wake-up that is to be done.
struct PutOff {
    bell: Arc<Bell>,
    sleep: nap::Sleep,
    ring: Arc<OwnedFd>,
}

/// For as long as a core runs on this thread and sends messages.
pub(super) struct Here(());

impl Here {
    /// From now on wake-ups may be put off.
    pub(super) fn begin() -> Self {
        PUT_OFF.with(|put_off| put_off.replace(Some(Vec::new())));
        Self(())
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        // Also on the way out of a panic; nobody else does them.
        let left = PUT_OFF.with(|put_off| put_off.replace(None));
        for late in left.into_iter().flatten() {
            late.bell.write_eventfd();
            late.bell.woken(late.sleep);
        }
        nap::set_put_off(false);
    }
}

/// Puts a wake-up off; false if it is to be done at once.
pub(super) fn put_off(bell: &Arc<Bell>, sleep: nap::Sleep) -> bool {
    let noted = PUT_OFF.try_with(|put_off| {
        let mut put_off = put_off.borrow_mut();
        let Some(put_off) = &mut *put_off else {
            return false;
        };
        if let Some(place) = put_off.iter().position(|other| Arc::ptr_eq(&other.bell, bell)) {
            drop(put_off.swap_remove(place));
            nap::set_put_off(!put_off.is_empty());
            return false;
        }
        let Some(ring) = bell.ring() else { return false };
        if !scheduler::end_round_before_others() {
            return false;
        }
        put_off.push(PutOff {
            bell: Arc::clone(bell),
            sleep,
            ring,
        });
        nap::set_put_off(true);
        true
    });
    // Without a thread-local any more, this thread is ending.
    noted.unwrap_or(false)
}

/// Whether anything is put off.
pub(super) fn has_put_off() -> bool {
    PUT_OFF.with(|put_off| {
        put_off
            .borrow()
            .as_ref()
            .is_some_and(|put_off| !put_off.is_empty())
    })
}

/// The messages of one core.
#[derive(Default)]
pub(super) struct Ringing {
    /// Whom messages went to. A place is another's when its bell is gone, so there are as many as there are cores at once.
    peers: Vec<Weak<Bell>>,
    /// Queued, and not said.
    sending: Vec<PutOff>,
    /// Named by entries that the kernel has not taken.
    unsent: Vec<Arc<OwnedFd>>,
}

impl Ringing {
    /// Queues a message for each wake-up that was put off.
    pub(super) fn queue(&mut self, in_flight: &mut InFlight) {
        PUT_OFF.with(|put_off| {
            for late in put_off.borrow_mut().iter_mut().flat_map(|all| all.drain(..)) {
                in_flight.send_message(late.ring.as_raw_fd(), self.number(&late.bell));
                self.sending.push(late);
            }
        });
    }

    /// The number of a peer, by which the failure of its message is told.
    fn number(&mut self, bell: &Arc<Bell>) -> u32 {
        let this = Arc::downgrade(bell);
        let mut peers = self.peers.iter();
        let place = peers.position(|peer| peer.ptr_eq(&this)).or_else(|| {
            let mut peers = self.peers.iter();
            peers.position(|peer| peer.strong_count() == 0)
        });
        let place = place.unwrap_or_else(|| {
            self.peers.push(Weak::new());
            self.peers.len() - 1
        });
        self.peers[place] = this;
        u32::try_from(place).expect("there are fewer cores")
    }

    /// The kernel was entered, and has taken all that was queued, or not.
    pub(super) fn entered(&mut self, took_all: bool) {
        if took_all {
            self.unsent.clear();
            return;
        }
        for late in &self.sending {
            late.bell.write_eventfd();
            self.unsent.push(Arc::clone(&late.ring));
        }
    }

    /// A message to this peer has failed.
    pub(super) fn failed(&self, number: u32) {
        let peer = self.peers.get(number as usize).and_then(Weak::upgrade);
        if let Some(bell) = peer {
            bell.write_eventfd();
        }
    }

    /// Says that those are woken to whom messages were sent. Failures were told before.
    pub(super) fn say(&mut self) {
        if self.sending.is_empty() {
            return;
        }
        for late in self.sending.drain(..) {
            late.bell.woken(late.sleep);
        }
        nap::set_put_off(has_put_off());
    }
}

impl Drop for Ringing {
    fn drop(&mut self) {
        // The core has panicked in between, maybe because its ring could not be entered.
        for late in self.sending.drain(..) {
            late.bell.write_eventfd();
            late.bell.woken(late.sleep);
        }
    }
}
