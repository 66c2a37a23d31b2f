//! One io_uring ring, used by the thread that made it: entries go in, completions come out.
//!
//! The ring is made for one issuer whose completions run when it looks for them (`SINGLE_ISSUER`, `DEFER_TASKRUN`), as far
//! as the kernel knows these ([`Setup`]). The completion queue is [`COMPLETIONS_PER_ENTRY`] times longer than the submission
//! queue, because an operation may stay under way long after its entry was taken and one may complete many times. What
//! does not fit even there the kernel keeps until it is looked for.
//!
//! The ring's descriptor is registered with its thread, so that an entry into the kernel need not look it up and count it: one
//! with an empty operation takes 745 ns instead of 877 at best, 1253 instead of 1302 at the median of 15 (machine busy with
//! other work, Linux 6.18, 2026-11-21). Where the kernel refuses, entries go by the descriptor.
#![expect(unsafe_code, reason = "entries hold addresses that the kernel follows")]

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::time::Duration;

use io_uring::{IoUring, Probe, Submitter, cqueue, squeue, types};

use super::ability::Setup;

/// Places in the completion queue for each one in the submission queue.
const COMPLETIONS_PER_ENTRY: u32 = 16;

/// Shortest and longest submission queue.
const ENTRIES: std::ops::RangeInclusive<u32> = 8..=4096;

/// See the module's head.
pub(super) struct Ring {
    queues: Queues,
    /// Entries that found no place in the queue; the kernel had no memory to take those before them.
    waiting: VecDeque<squeue::Entry>,
}

/// How long an entry into the kernel lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// What is queued is handed over, what has completed is told.
    Not,
    /// Until something has completed, for so long at most.
    AtMost(Duration),
    /// Until something has completed.
    Forever,
}

/// The two queues and the way into the kernel. The latter remembers the ring's registered number, and borrows the ring for as
/// long: so the ring lies at a place of its own, which is given up last.
struct Queues {
    /// From a box; freed when this is dropped.
    ring: NonNull<IoUring>,
    submitter: Submitter<'static>,
}

impl Queues {
    fn new(ring: IoUring) -> Self {
        let ring = NonNull::from(Box::leak(Box::new(ring)));
        // SAFETY: the ring is there until `drop`, and is used through shared references alone.
        let mut submitter = unsafe { ring.as_ref() }.submitter();
        // Refused where the thread has registered too many: the descriptor does as well.
        let _registered = submitter.register_ring_fd().is_ok();
        Self { ring, submitter }
    }

    /// The queue of entries.
    fn submission(&mut self) -> squeue::SubmissionQueue<'_> {
        // SAFETY: the ring is there as long as this is; there is no other such queue, for this one borrows all of it.
        unsafe { self.ring.as_ref().submission_shared() }
    }

    /// The queue of completions.
    fn completion(&mut self) -> cqueue::CompletionQueue<'_> {
        // SAFETY: as above.
        unsafe { self.ring.as_ref().completion_shared() }
    }
}

impl Drop for Queues {
    fn drop(&mut self) {
        // Before the ring: what is registered would keep it until the thread ends. It fails where nothing was.
        let _unregistered = self.submitter.unregister_ring_fd().is_ok();
        // SAFETY: leaked by `new` and given up only here. Queues borrow this, so that none is left; the submitter is not used
        // again.
        drop(unsafe { Box::from_raw(self.ring.as_ptr()) });
    }
}

impl Ring {
    /// A ring that takes `depth` entries at once.
    ///
    /// # Errors
    /// The operating system's: EINVAL where it does not know this setup, ENOMEM, EPERM, ENOSYS.
    pub(super) fn new(depth: usize, setup: Setup) -> io::Result<Self> {
        let entries = u32::try_from(depth).unwrap_or(u32::MAX);
        let entries = entries
            .clamp(*ENTRIES.start(), *ENTRIES.end())
            .next_power_of_two();
        let mut builder = IoUring::builder();
        builder
            .setup_cqsize(entries * COMPLETIONS_PER_ENTRY)
            .setup_clamp()
            .setup_submit_all()
            .setup_taskrun_flag();
        match setup {
            Setup::Deferred => builder
                .setup_single_issuer()
                .setup_defer_taskrun()
                .setup_no_sqarray(),
            Setup::DeferredWithArray => builder.setup_single_issuer().setup_defer_taskrun(),
            Setup::Cooperative => builder.setup_coop_taskrun(),
        };
        // A child after a fork must not write into our queues.
        let ring = builder.dontfork().build(entries)?;
        Ok(Self {
            queues: Queues::new(ring),
            waiting: VecDeque::new(),
        })
    }

    /// Which operations the kernel has.
    pub(super) fn probe(&self) -> io::Result<Probe> {
        let mut probe = Probe::new();
        self.submitter().register_probe(&mut probe)?;
        Ok(probe)
    }

    /// To register files and buffers.
    pub(super) fn submitter(&self) -> &Submitter<'_> {
        &self.queues.submitter
    }

    /// Queues an entry, which the next [`Ring::enter`] hands over; a full queue is handed over at once.
    ///
    /// # Safety
    /// What the entry points to must stay where it is, and be used by nobody else, until the entry's last completion was
    /// taken.
    pub(super) unsafe fn push(&mut self, entry: squeue::Entry) {
        if self.waiting.is_empty() {
            // SAFETY: the caller's promise.
            if unsafe { self.queues.submission().push(&entry) }.is_ok() {
                return;
            }
        }
        self.waiting.push_back(entry);
        let _later = self.submitter().submit();
        self.queue_waiting();
    }

    fn queue_waiting(&mut self) {
        let mut queue = self.queues.submission();
        while let Some(entry) = self.waiting.front() {
            // SAFETY: its caller promised it to `push`.
            if unsafe { queue.push(entry) }.is_err() {
                return;
            }
            self.waiting.pop_front();
        }
    }

    /// Whether there is anything for which the kernel must be entered: entries to hand over, or completions to run.
    pub(super) fn wants_enter(&mut self) -> bool {
        let queue = self.queues.submission();
        !queue.is_empty() || queue.taskrun() || queue.cq_overflow()
    }

    /// A descriptor of its own for this ring.
    ///
    /// # Errors
    /// The operating system's.
    pub(super) fn duplicate(&self) -> io::Result<OwnedFd> {
        // SAFETY: the ring is open for as long as `self` is borrowed.
        let ring = unsafe { BorrowedFd::borrow_raw(self.queues.ring.as_ref().as_raw_fd()) };
        ring.try_clone_to_owned()
    }

    /// Whether there is anything to take, or to enter for.
    pub(super) fn has_work(&mut self) -> bool {
        !self.queues.completion().is_empty() || self.wants_enter()
    }

    /// Hands over what is queued and waits.
    ///
    /// # Errors
    /// None of those that mean "later": an interrupt, a deadline, a kernel short of memory or with completions to be taken.
    pub(super) fn enter(&mut self, wait: Wait) -> io::Result<()> {
        self.queue_waiting();
        let entered = match wait {
            Wait::Not => self.submitter().submit(),
            Wait::Forever => self.submitter().submit_and_wait(1),
            Wait::AtMost(longest) => {
                let longest = types::Timespec::from(longest);
                let arguments = types::SubmitArgs::new().timespec(&longest);
                self.submitter().submit_with_args(1, &arguments)
            }
        };
        match entered {
            Ok(_) => Ok(()),
            Err(error) => match error.raw_os_error() {
                Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(()),
                _ => Err(error),
            },
        }
    }

    /// Moves what has completed to the end of `out`.
    pub(super) fn take(&mut self, out: &mut Vec<cqueue::Entry>) {
        out.extend(self.queues.completion());
    }
}

#[cfg(test)]
mod tests {
    use io_uring::opcode;

    use super::*;

    #[test]
    fn more_entries_than_the_queue_holds_all_complete() {
        for setup in Setup::ALL {
            let mut ring = match Ring::new(8, setup) {
                Ok(ring) => ring,
                // This kernel is too old for it.
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => continue,
                Err(error) => panic!("{setup:?}: {error}"),
            };
            for n in 0..1000 {
                // SAFETY: a nop points to nothing.
                unsafe { ring.push(opcode::Nop::new().build().user_data(n)) };
            }
            let mut out = Vec::new();
            while out.len() < 1000 {
                ring.enter(Wait::AtMost(Duration::from_millis(1)))
                    .expect("entering");
                ring.take(&mut out);
            }
            let mut seen: Vec<u64> = out.iter().map(cqueue::Entry::user_data).collect();
            seen.sort_unstable();
            assert!(seen.into_iter().eq(0..1000), "{setup:?}: each completes once");
            assert!(!ring.has_work());
        }
    }

    /// A ring that stayed registered would stay until its thread ends, and a thread can register sixteen.
    #[test]
    fn rings_come_and_go_on_one_thread_and_leave_nothing_registered() {
        let mut made = 0;
        for _ in 0..50 {
            let mut ring = Ring::new(8, Setup::Cooperative).expect("a ring can be made");
            made += usize::from(ring.queues.submitter.unregister_ring_fd().is_ok());
            assert!(ring.queues.submitter.register_ring_fd().is_ok());
            ring.enter(Wait::Not).expect("entering by its number");
        }
        assert_eq!(made, 50, "each was registered");
    }

    #[test]
    fn a_wait_ends_at_its_deadline() {
        let mut ring = Ring::new(8, Setup::Cooperative).expect("a ring can be made");
        ring.enter(Wait::AtMost(Duration::from_micros(100)))
            .expect("no error");
        assert!(!ring.has_work());
    }
}
