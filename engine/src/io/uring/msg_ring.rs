//! A message into a core's ring, which ends its sleep: sent at once, by any thread, with one system call and no ring of its own
//! (`IORING_REGISTER_SEND_MSG_RING` with an entry of `IORING_OP_MSG_RING`, Linux 6.13; `io_uring/msg_ring.c` and
//! `io_uring/register.c` of the kernel).
//!
//! The message is a completion of the receiving ring like any other, and carries nothing but the number of no slot. So the core
//! that sleeps in its ring is woken directly: by an eventfd the kernel wakes the poll that watches it, has that complete, and
//! begins it anew.
#![expect(unsafe_code, reason = "a system call that no library has yet")]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use io_uring::opcode::MsgRingData;
use io_uring::squeue::Entry;
use io_uring::types::Fd;

use super::slots::Key;

/// The system call's number for it, from the kernel's `include/uapi/linux/io_uring.h`.
const REGISTER_SEND_MSG_RING: libc::c_uint = 31;

/// In place of the sender's ring.
const NO_RING: libc::c_int = -1;

/// A descriptor of its own for a core's ring, to send messages there. As long as there is one, the ring is there.
#[derive(Debug)]
pub(super) struct RingDoor(OwnedFd);

impl RingDoor {
    /// The door of this ring; `None` where the kernel takes no such messages. It takes one more from here, to be seen to.
    pub(super) fn of(ring: OwnedFd) -> Option<Self> {
        let this = Self(ring);
        this.send().is_ok().then_some(this)
    }

    /// One that no message gets through.
    #[cfg(test)]
    pub(super) fn to_nowhere() -> Self {
        let no_ring = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC);
        Self(no_ring.expect("an eventfd can be made"))
    }

    /// Sends a message, which ends the core's sleep or its next one.
    ///
    /// # Errors
    /// The operating system's, and then it was not sent: EINVAL where the kernel is too old, EPERM where it is forbidden,
    /// ENOMEM. To a core that has ended it may succeed, and nobody takes it.
    pub(super) fn send(&self) -> io::Result<()> {
        let entry: Entry = MsgRingData::new(Fd(self.0.as_raw_fd()), 0, Key::NONE, None).build();
        // SAFETY: the kernel reads one entry from the address, which lies on this stack until the call is over, and keeps
        // nothing of it; the entry points to nothing itself. The descriptor is open as long as `self` is.
        let result = unsafe {
            libc::syscall(
                libc::SYS_io_uring_register,
                NO_RING,
                REGISTER_SEND_MSG_RING,
                std::ptr::from_ref(&entry),
                1,
            )
        };
        match result {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_ring_has_no_door() {
        assert!(RingDoor::of(RingDoor::to_nowhere().0).is_none());
    }
}
