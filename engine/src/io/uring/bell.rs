//! How a core that may sleep is told that it has work: a flag, and an eventfd that its ring watches.
//!
//! A core that is awake looks at the flag each turn, so ringing it costs no system call. The eventfd is written only for a
//! core that is asleep or about to be, and only until somebody has done it. No ring is lost (Dekker's pattern, as in
//! `io/mailbox.rs`):
//!
//! ```text
//! ringer  set `rung`       SeqCst fence    read `asleep`   (and write the eventfd if it was set and nobody has)
//! core    set `asleep`     SeqCst fence    read `rung`     (and stay awake if it was set)
//! ```
//!
//! A ringer says that the core is woken after it has written, never before (`io/nap.rs`): else whoever came after it would
//! rely on a write that the kernel may let wait for milliseconds.
//!
//! The ring watches the eventfd by a poll that completes at each write; nobody reads it, and its counter reaches its end in
//! centuries.
//!
//! **By a message into the ring** (`IORING_OP_MSG_RING`) where a core rings that has nothing else to do, and both have messages:
//! see `ringing.rs`. Foreign threads, and cores that go on with something, write the eventfd.
//!
//! What that gains depends on how busy the machine is. Two cores that wake each other there and back, asleep in between, medians
//! of the medians of rounds of 250 ms in turns (2 cores of an AMD EPYC, Linux 6.18, 2026-11-21):
//!
//! ```text
//!                                            two plain rings        this runtime           its processor time
//!                                            eventfd   message      eventfd   message      eventfd   message
//! nothing else runs (7 to 11 rounds each)    92 µs     71 µs        98 µs     76 µs        32.6 µs   24.9 µs
//! compilers want both cores (60 rounds)      49 µs     51 µs        53 µs     60 µs        37.3 µs   38.7 µs
//! ```
//!
//! A processor that is never idle is woken cheaply either way, and there the ringer is late by what it does until it sleeps.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, PoisonError, RwLock};
use std::task::Wake;

use rustix::event::EventfdFlags;

use super::super::nap::{Nap, Sleep};
use super::ringing;

/// The bell of one core; it is that core's waker.
pub(super) struct Bell {
    /// There is work since the core looked last.
    rung: AtomicBool,
    /// The core sleeps, or is about to.
    asleep: Nap,
    eventfd: OwnedFd,
    /// Where messages are sent. Given up with the core: wakers may outlive it for as long as they like.
    ring: RwLock<Option<Arc<OwnedFd>>>,
}

impl Bell {
    /// A bell that nobody has rung.
    ///
    /// # Errors
    /// The operating system's.
    pub(super) fn new() -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            rung: AtomicBool::new(false),
            asleep: Nap::default(),
            eventfd: rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            ring: RwLock::default(),
        }))
    }

    /// What the ring watches.
    pub(super) fn fd(&self) -> RawFd {
        self.eventfd.as_raw_fd()
    }

    /// A descriptor of the core's ring, if messages may be sent there.
    pub(super) fn ring(&self) -> Option<Arc<OwnedFd>> {
        self.ring.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on messages may be sent to this ring, a descriptor of its own; or to none, because the core ends.
    pub(super) fn set_ring(&self, ring: Option<OwnedFd>) {
        *self.ring.write().unwrap_or_else(PoisonError::into_inner) = ring.map(Arc::new);
    }

    /// Ends the core's sleep by the eventfd.
    pub(super) fn write_eventfd(&self) {
        // It fails only where the counter is at its end, and then the core has been woken.
        let _woken = rustix::io::write(&self.eventfd, &1_u64.to_ne_bytes()).is_ok();
    }

    /// Says that this sleep has been ended.
    pub(super) fn woken(&self, sleep: Sleep) {
        self.asleep.woken(sleep);
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

    /// How often the eventfd was written since this was asked.
    #[cfg(test)]
    pub(super) fn eventfd_writes(&self) -> u64 {
        let mut count = [0; 8];
        match rustix::io::read(&self.eventfd, &mut count) {
            Ok(_) => u64::from_ne_bytes(count),
            Err(_) => 0,
        }
    }

    /// Says that the core is about to sleep. If this returns false, it must not: it was rung.
    pub(super) fn may_sleep(&self) -> bool {
        self.asleep.begin();
        fence(Ordering::SeqCst);
        !self.rung.load(Ordering::Relaxed)
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
        if let Some(sleep) = self.asleep.to_end()
            && !ringing::put_off(self, sleep)
        {
            self.write_eventfd();
            self.woken(sleep);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_eventfd_is_written_once_and_only_for_a_sleeper() {
        let bell = Bell::new().expect("an eventfd can be made");
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
