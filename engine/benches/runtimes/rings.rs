//! Two plain rings on two cores that wake each other and sleep in their own: what waking costs without any runtime, by the
//! two ways that a ring can be woken.
#![allow(unsafe_code, reason = "the kernel is given descriptors by number")]

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use io_uring::squeue::Flags;
use io_uring::{IoUring, opcode, types};

use crate::latencies::{Latencies, thread_cpu};
use crate::pinned;

/// How the other side is woken.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// A write to an eventfd, which the other ring watches by a poll of many completions.
    Eventfd,
    /// A message into the other ring, handed over with the next sleep.
    Message,
}

/// User data of a wake-up, and of the last one.
const WOKEN: u64 = 1;
const LAST: u64 = 2;
/// User data of whatever else completes: a message that was sent.
const SENT: u64 = 3;

struct Side {
    ring: IoUring,
    by: By,
    own: OwnedFd,
    other_eventfd: OwnedFd,
    other_ring: RawFd,
}

impl Side {
    fn new(by: By, own: OwnedFd, other_eventfd: OwnedFd) -> Self {
        let ring: IoUring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .build(8)
            .unwrap();
        let mut this = Self {
            ring,
            by,
            own,
            other_eventfd,
            other_ring: -1,
        };
        if by == By::Eventfd {
            let readable = u32::from(libc::POLLIN.unsigned_abs());
            let poll = opcode::PollAdd::new(types::Fd(this.own.as_raw_fd()), readable);
            this.push(&poll.multi(true).build().user_data(WOKEN));
        }
        this
    }

    fn push(&mut self, entry: &io_uring::squeue::Entry) {
        // SAFETY: these entries point to no memory.
        unsafe { self.ring.submission().push(entry) }.unwrap();
    }

    /// Wakes the other side; the last time it is told so.
    fn wake(&mut self, last: bool) {
        if self.by == By::Message || last {
            let data = if last { LAST } else { WOKEN };
            let message = opcode::MsgRingData::new(types::Fd(self.other_ring), 0, data, None);
            self.push(&message.build().user_data(SENT).flags(Flags::SKIP_SUCCESS));
        } else {
            rustix::io::write(&self.other_eventfd, &1_u64.to_ne_bytes()).unwrap();
        }
    }

    /// Sleeps until the other side has woken this one; whether it was for the last time.
    fn sleep(&mut self) -> bool {
        loop {
            self.ring.submit_and_wait(1).unwrap();
            let mut woken = None;
            for completion in self.ring.completion() {
                assert!(completion.result() >= 0, "{completion:?}");
                match completion.user_data() {
                    WOKEN => woken = Some(false),
                    LAST => return true,
                    _ => {}
                }
            }
            if let Some(last) = woken {
                return last;
            }
        }
    }
}

/// There and back, one at a time, for `length`.
pub fn there_and_back(by: By, length: Duration) -> Latencies {
    let cores = corelane::io::cores::available_cores();
    let (first, last) = (cores[0], cores[cores.len() - 1]);
    let eventfd = || rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).unwrap();
    let (here, there) = (eventfd(), eventfd());
    let (to_here, to_there) = (here.try_clone().unwrap(), there.try_clone().unwrap());
    let ((tell_there, told_there), (tell_here, told_here)) = (mpsc::channel(), mpsc::channel());
    let (over, wait_over) = mpsc::channel::<()>();
    let other = pinned::on(last, move || {
        let mut side = Side::new(by, there, to_here);
        tell_here.send(side.ring.as_raw_fd()).unwrap();
        side.other_ring = told_there.recv().unwrap();
        while !side.sleep() {
            side.wake(false);
        }
        // The ring stays until nobody sends to it any more.
        let _dropped = wait_over.recv();
    });
    let measuring = pinned::on(first, move || {
        let mut side = Side::new(by, here, to_there);
        tell_there.send(side.ring.as_raw_fd()).unwrap();
        side.other_ring = told_here.recv().unwrap();
        let (cpu, start, mut each) = (thread_cpu(), Instant::now(), Vec::new());
        while start.elapsed() < length {
            let begun = Instant::now();
            side.wake(false);
            side.sleep();
            each.push(begun.elapsed().as_nanos() as u32);
        }
        let measured = Latencies {
            each,
            took: start.elapsed(),
            cpu: thread_cpu() - cpu,
            ..Latencies::default()
        };
        side.wake(true);
        side.ring.submit().unwrap();
        drop(over);
        measured
    });
    let measured = measuring.join().unwrap();
    other.join().unwrap();
    measured
}
