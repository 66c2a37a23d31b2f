//! How a core that may sleep is told that it has work: a flag, and a message into its ring.
//!
//! A core that is awake looks at the flag each turn, so ringing it costs no system call. The message is sent only to a core that
//! is asleep or about to be, and only until somebody has done it. No ring is lost (Dekker's pattern, as in `io/mailbox.rs`):
//!
//! ```text
//! ringer  set `rung`       SeqCst fence    read `asleep`   (and send the message if it was set and nobody has)
//! core    set `asleep`     SeqCst fence    read `rung`     (and stay awake if it was set)
//! ```
//!
//! A ringer says that the core is woken after it has sent the message, never before (`io/nap.rs`): else whoever came after it
//! would rely on one that the kernel may let wait for milliseconds.
//!
//! **Sent at once, by a system call of its own** (`msg_ring.rs`). To put the message among the ringer's entries, which costs no
//! call, was built and measured: it goes out when the ringer is done with everything else, so that two cores that look for
//! 20 us before they sleep had 12 to 366 k messages/s instead of 312 to 763 k/s (2 cores of an AMD EPYC, Linux 6.18,
//! 2026-11-21); and never, where what runs there blocks its thread until the other core has answered.
//!
//! **An eventfd** where the kernel takes no such message, or not this one. The ring watches it by a poll that completes at each
//! write; nobody reads it, and its counter reaches its end in centuries.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, Weak};
use std::task::Wake;

use rustix::event::EventfdFlags;

use super::super::nap::Nap;
use super::msg_ring::RingDoor;

/// The bell of one core; it is that core's waker.
pub(super) struct Bell {
    /// There is work since the core looked last.
    rung: AtomicBool,
    /// The core sleeps, or is about to.
    asleep: Nap,
    /// Where messages are sent. Not kept open from here: wakers may outlive their core for as long as they like.
    door: Weak<RingDoor>,
    eventfd: OwnedFd,
}

impl Bell {
    /// A bell that nobody has rung, of the core whose door this is, or of one that has none.
    ///
    /// # Errors
    /// The operating system's.
    pub(super) fn new(door: Weak<RingDoor>) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            rung: AtomicBool::new(false),
            asleep: Nap::default(),
            door,
            eventfd: rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        }))
    }

    /// What the ring watches.
    pub(super) fn fd(&self) -> RawFd {
        self.eventfd.as_raw_fd()
    }

    /// Forgets earlier rings; what they were for must be looked at after this.
    pub(super) fn clear(&self) {
        // A swap, so that it reads the last ringer's store and with it sees what that has done before.
        self.rung.swap(false, Ordering::AcqRel);
    }

    /// Whether it was rung since it was cleared.
    pub(super) fn is_rung(&self) -> bool {
        self.rung.load(Ordering::Acquire)
    }

    /// Says that the core is about to sleep. If this returns false, it must not: it was rung.
    pub(super) fn may_sleep(&self) -> bool {
        self.asleep.begin();
        fence(Ordering::SeqCst);
        !self.rung.load(Ordering::Relaxed)
    }

    fn end_sleep(&self) {
        if self.door.upgrade().is_none_or(|door| door.send().is_err()) {
            // It fails only where the counter is at its end, and then the core has been woken.
            let _woken = rustix::io::write(&self.eventfd, &1_u64.to_ne_bytes()).is_ok();
        }
    }

    /// How often the eventfd was written since this was asked.
    #[cfg(test)]
    pub(super) fn eventfd_writes(&self) -> u64 {
        let mut count = [0; 8];
        match rustix::io::read(&self.eventfd, &mut count) {
            Ok(_) => u64::from_ne_bytes(count),
            Err(_) => 0,
        }
    }

    /// Whether messages can be sent.
    #[cfg(test)]
    pub(super) fn has_door(&self) -> bool {
        self.door.upgrade().is_some()
    }

    /// Says that the core is awake again.
    pub(super) fn is_awake(&self) {
        self.asleep.end();
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        Self::wake_by_ref(&self);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.swap(true, Ordering::AcqRel);
        fence(Ordering::SeqCst);
        if let Some(sleep) = self.asleep.to_end() {
            self.end_sleep();
            self.asleep.woken(sleep);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_eventfd_is_written_once_and_only_for_a_sleeper() {
        let bell = Bell::new(Weak::new()).expect("an eventfd can be made");
        bell.wake_by_ref();
        assert!(bell.is_rung() && bell.eventfd_writes() == 0, "the core is awake");
        assert!(!bell.may_sleep(), "it was rung");
        bell.is_awake();
        bell.clear();
        assert!(bell.may_sleep());
        bell.wake_by_ref();
        bell.wake_by_ref();
        assert_eq!(bell.eventfd_writes(), 1);
        bell.is_awake();
        bell.clear();
        assert!(!bell.is_rung());
    }
}
