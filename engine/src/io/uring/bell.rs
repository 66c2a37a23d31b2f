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
//! **No message into the ring** (`IORING_OP_MSG_RING`), which would do without the eventfd. It saves time only where it goes out
//! with the ringer's next entry into the kernel, and that was built and measured (2 cores of an AMD EPYC, Linux 6.18, 2026-11-21;
//! `benches/runtimes`, rounds of 0.4 s, three to five of each in turns):
//!
//! ```text
//!                                                     by eventfd        by message
//! there and back, both cores asleep                   80 to 92 us       56 to 70 us
//! there and back, both look for 20 us and may sleep   312 to 763 k/s    12 to 366 k/s
//! ```
//!
//! Who looks first has to hand the message over, and then the other is not back within the time of looking. And a wake-up that is
//! put off until its core enters the kernel never comes where what runs there blocks its thread until the other core has
//! answered, as a call of another database's blocking handle does.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::task::Wake;

use rustix::event::EventfdFlags;

use super::super::nap::Nap;

/// The bell of one core; it is that core's waker.
pub(super) struct Bell {
    /// There is work since the core looked last.
    rung: AtomicBool,
    /// The core sleeps, or is about to.
    asleep: Nap,
    eventfd: OwnedFd,
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
            // It fails only where the counter is at its end, and then the core has been woken.
            let _woken = rustix::io::write(&self.eventfd, &1_u64.to_ne_bytes()).is_ok();
            self.asleep.woken(sleep);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rings(bell: &Bell) -> u64 {
        let mut count = [0; 8];
        match rustix::io::read(&bell.eventfd, &mut count) {
            Ok(_) => u64::from_ne_bytes(count),
            Err(_) => 0,
        }
    }

    #[test]
    fn the_eventfd_is_written_once_and_only_for_a_sleeper() {
        let bell = Bell::new().expect("an eventfd can be made");
        bell.wake_by_ref();
        assert!(bell.is_rung() && rings(&bell) == 0, "the core is awake");
        assert!(!bell.may_sleep(), "it was rung");
        bell.is_awake();
        bell.clear();
        assert!(bell.may_sleep());
        bell.wake_by_ref();
        bell.wake_by_ref();
        assert_eq!(rings(&bell), 1);
        bell.is_awake();
        bell.clear();
        assert!(!bell.is_rung());
    }
}
