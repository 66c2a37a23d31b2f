//! The ring and the operations under way on it, together: what makes handing addresses to the kernel safe.
//!
//! An operation goes into its slot first, its entry is made from there, and it leaves the slot only when its last completion
//! has been taken. Between the two it may wait for its class's room at the device or its turn to go there (`depth.rs`), or a
//! long send for its turn (`outflow.rs`), when the kernel does not know of it yet. If the ring ends with operations under way,
//! they are never freed ([`InFlight`]'s drop), because the kernel may still write to what they hold.
#![expect(
    unsafe_code,
    reason = "entries hold addresses, and completions hand over descriptors and buffers by number"
)]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::rc::Rc;
use std::task::{Context, Poll};

use io_uring::cqueue;

use super::super::Class;
use super::ability::{Ability, Setup, check, has_multishot_receive, kernel};
use super::buffers::{BufferRing, RECV_BUFFERS};
use super::completion::{Completion, Sink};
use super::depth::Depth;
use super::memory::Arena;
use super::msg_ring::RingDoor;
use super::operation::{Operation, RECV_GROUP};
use super::outflow::Outflow;
use super::ring::{Ring, Wait};
use super::slots::{Key, Left, Slots, Told};

/// What a completion asks to be done, outside of any borrow.
pub(super) enum Event {
    /// As [`Told`] says.
    Told(Told),
    /// A sink takes it.
    Sink(Rc<dyn Sink>, Completion, Option<Operation>),
}

/// How a ring is made; less than the kernel offers for the tests of what older kernels lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Entries that the ring takes at once.
    pub(super) depth: usize,
    /// The best setup to try.
    pub(super) setup: Setup,
    /// Use multishot receive where it is there.
    pub(super) multishot_receive: bool,
    /// Be woken by messages where they are there.
    pub(super) messages: bool,
    /// Files to register room for.
    pub(super) files: u32,
}

/// See the module's head.
pub(super) struct InFlight {
    ring: Ring,
    slots: Slots,
    depth: Depth,
    outflow: Outflow,
    /// `None` where the kernel has no multishot receive.
    buffers: Option<BufferRing>,
    /// Kept here because the ring knows its addresses.
    arena: Arena,
}

impl InFlight {
    /// Makes a ring of the best setup that this kernel has, with what can be registered; and the door to it, if messages can be
    /// sent there.
    ///
    /// # Errors
    /// That the kernel is too old, or has no ring for us: why.
    pub(super) fn new(wanted: Wanted, arena: Arena) -> io::Result<(Self, Option<RingDoor>, Ability)> {
        let (ring, setup) = best_ring(wanted)?;
        let kernel = kernel();
        check(&kernel, &ring.probe()?)?;
        let submitter = ring.submitter();
        let registered_files = if submitter.register_files_sparse(wanted.files).is_ok() {
            wanted.files
        } else {
            0
        };
        let registered_bytes = arena.register_most(|start, bytes| {
            let vector = libc::iovec {
                iov_base: start.as_ptr().cast(),
                iov_len: bytes,
            };
            // SAFETY: the arena owns the region, and is kept beside the ring; `drop` takes it out of the ring's hands before it is
            // freed, or leaves it for ever. The ring itself may live a little longer: a message may be on its way there.
            unsafe { submitter.register_buffers(&[vector]) }
        });
        let buffers = BufferRing::new();
        let multishot_receive = wanted.multishot_receive
            && has_multishot_receive(&kernel)
            // SAFETY: the ring of buffers owns its entries, and is kept beside the ring. Once nothing is under way, which `drop`
            // makes sure of or leaves it for ever, the kernel takes no buffer; its entries' pages it holds by itself.
            && unsafe {
                submitter.register_buf_ring_with_flags(buffers.address(), RECV_BUFFERS, RECV_GROUP, 0)
            }
            .is_ok();
        let door = wanted.messages.then(|| ring.duplicate()).transpose()?;
        let door = door.and_then(RingDoor::of);
        let ability = Ability {
            kernel,
            setup,
            multishot_receive,
            messages: door.is_some(),
            registered_files,
            memory_bytes: arena.bytes(),
            registered_bytes,
            huge_pages: arena.has_huge_pages(),
        };
        let this = Self {
            ring,
            slots: Slots::default(),
            depth: Depth::default(),
            outflow: Outflow::default(),
            buffers: multishot_receive.then_some(buffers),
            arena,
        };
        Ok((this, door, ability))
    }

    /// Puts an operation into a slot, and queues its entry unless it must wait. One that loads the device is of a `class`.
    pub(super) fn begin(&mut self, operation: Operation, awaited: bool, class: Option<Class>) -> Key {
        assert_eq!(
            operation.loads_device(),
            class.is_some(),
            "the class is whose room it takes"
        );
        let bytes = operation.bytes();
        let key = self.slots.insert(operation, awaited, class);
        let goes = match class {
            Some(class) => self.depth.begin(class, key, bytes),
            None => self.outflow.begin(key, bytes),
        };
        if goes {
            self.queue(key);
        }
        key
    }

    /// Queues the entry of an operation that the kernel does not have yet.
    fn queue(&mut self, key: Key) {
        let entry = self.slots.operation(key).entry().user_data(key.user_data());
        // SAFETY: the entry points to what the operation owns behind pointers of its own, which moving the operation does not
        // move. The operation is in its slot, which hands it out only after the last completion (`take_completions`), and
        // nothing between changes it. Descriptors are kept open by what the operation holds, or are numbers that the
        // kernel looks up as it takes the entry.
        unsafe { self.ring.push(entry) };
    }

    /// Takes what has completed, and appends what is to be done about it. This ends a turn: what the next one may hand over of
    /// those that wait is queued.
    pub(super) fn take_completions(&mut self, scratch: &mut Vec<cqueue::Entry>, events: &mut Vec<Event>) {
        self.ring.take(scratch);
        let mut missed = Vec::new();
        for entry in scratch.drain(..) {
            if entry.user_data() == Key::NONE {
                // A message from another core: that it has come is all (`msg_ring.rs`).
                continue;
            }
            let key = Key::from_user_data(entry.user_data());
            let completion = self.completion(key, &entry);
            if let Operation::Cancel(target) = *self.slots.operation(key)
                && has_missed(&completion)
            {
                missed.push(Key::from_user_data(target));
            }
            let over = !cqueue::more(entry.flags());
            if let Some(class) = self.slots.class(key) {
                self.depth.end(class);
            }
            let event = match self.slots.operation(key).sink().cloned() {
                Some(sink) => {
                    let operation = over.then(|| self.slots.end(key));
                    Event::Sink(sink, completion, operation)
                }
                None => Event::Told(self.slots.complete(key, completion)),
            };
            events.push(event);
        }
        // Those of this turn have ended meanwhile, or go on and must be asked again.
        for target in missed {
            self.cancel(target);
        }
        self.outflow.turn();
        self.depth.turn();
        while let Some(key) = self.outflow.next().or_else(|| self.depth.next()) {
            self.queue(key);
        }
    }

    fn completion(&mut self, key: Key, entry: &cqueue::Entry) -> Completion {
        let result =
            usize::try_from(entry.result()).map_err(|_| io::Error::from_raw_os_error(-entry.result()));
        let opens = self.slots.operation(key).opens();
        let opened = (opens && result.is_ok()).then(|| {
            // SAFETY: the kernel has opened this descriptor for this operation, tells it once, and it is claimed only here.
            unsafe { OwnedFd::from_raw_fd(entry.result()) }
        });
        let filled = cqueue::buffer_select(entry.flags()).zip(self.buffers.as_ref());
        let lent = filled.map(|(number, buffers)| {
            let bytes = *result.as_ref().unwrap_or(&0);
            // SAFETY: this completion says that it filled the buffer, and is looked at once.
            unsafe { buffers.take(number, bytes) }
        });
        Completion { result, opened, lent }
    }

    /// Whether the kernel must be entered for anything.
    pub(super) fn wants_enter(&mut self) -> bool {
        self.ring.wants_enter()
    }

    /// Whether there is a completion to take or anything to enter for.
    pub(super) fn has_work(&mut self) -> bool {
        self.ring.has_work()
    }

    /// Hands over what is queued and waits.
    ///
    /// # Errors
    /// As [`Ring::enter`].
    pub(super) fn enter(&mut self, wait: Wait) -> io::Result<()> {
        self.ring.enter(wait)
    }

    /// Whether operations wait for a turn to come, so that this one must not sleep.
    pub(super) fn has_more_to_hand_over(&self) -> bool {
        self.outflow.is_waiting() || self.depth.is_waiting()
    }

    /// See [`Slots::poll`].
    pub(super) fn poll(&mut self, key: Key, cx: &Context<'_>) -> Poll<(Operation, Completion)> {
        self.slots.poll(key, cx)
    }

    /// See [`Slots::abandon`]. What the kernel does not have yet it never gets.
    pub(super) fn abandon(&mut self, key: Key) -> Left {
        let waited = match self.slots.class(key) {
            Some(class) => self.depth.leave(class, key),
            None => self.outflow.leave(key),
        };
        if waited {
            return Left::NotBegun(self.slots.end(key));
        }
        self.slots.abandon(key)
    }

    /// Asks that an operation end early, if it is still under way, and again until it has been found: it does end.
    pub(super) fn cancel(&mut self, key: Key) {
        if self.slots.is_under_way(key) {
            // A cancellation asks nothing of the device, so it is of no class.
            self.begin(Operation::Cancel(key.user_data()), false, None);
        }
    }

    /// Asks that every operation that waits for others end.
    pub(super) fn cancel_endless(&mut self) {
        for key in self.slots.endless() {
            self.cancel(key);
        }
    }

    /// Operations under way, or completed and not taken.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Operations that wait for their class's room at the device, or for their turn.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.depth.waiting() + self.outflow.waiting()
    }

    /// Puts a file into the table of registered ones, or takes it out (`None`).
    pub(super) fn register_file(&mut self, place: u32, fd: Option<i32>) -> io::Result<()> {
        let registered = self
            .ring
            .submitter()
            .register_files_update(place, &[fd.unwrap_or(-1)]);
        registered.map(drop)
    }

    /// Receive buffers out of the ring, `None` without one.
    pub(super) fn lent(&self) -> Option<u16> {
        self.buffers.as_ref().map(BufferRing::lent)
    }

    /// The memory for file transfers.
    pub(super) fn arena(&self) -> &Arena {
        &self.arena
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if self.slots.len() > 0 {
            // The kernel may still write to their memory, to the arena's and to the receive buffers'.
            std::mem::forget(std::mem::take(&mut self.slots));
            std::mem::forget(self.arena.clone());
            std::mem::forget(self.buffers.clone());
            return;
        }
        // At once: what a ring that is only closed has locked the kernel lets go of some time later, and the next ring, which
        // a process makes when it has found out by a first one what there is, finds that much less to lock.
        let _nothing_was_registered = self.ring.submitter().unregister_buffers();
    }
}

/// Whether a cancellation has not found its operation. EALREADY says that a thread of the kernel's is at work on it and was
/// told to stop: it ends without being asked again. What a kernel refuses for any other reason it would refuse again.
fn has_missed(cancellation: &Completion) -> bool {
    let error = cancellation.result.as_ref().err();
    error.is_some_and(|error| error.raw_os_error() == Some(libc::ENOENT))
}

fn best_ring(wanted: Wanted) -> io::Result<(Ring, Setup)> {
    let mut tried = Setup::ALL.into_iter().skip_while(|setup| *setup != wanted.setup);
    loop {
        let setup = tried
            .next()
            .expect("the last setup is returned below, whatever it says");
        match Ring::new(wanted.depth, setup) {
            Ok(ring) => return Ok((ring, setup)),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) && setup != Setup::Cooperative => {}
            Err(error) => {
                let what = format!("making an io_uring ring: {error}");
                return Err(io::Error::new(error.kind(), what));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;
    use std::time::Duration;

    use rustix::event::{EventfdFlags, eventfd};

    use super::super::operation::Stream;
    use super::*;

    struct Nobody;

    impl Sink for Nobody {
        fn completed(&self, _completion: Completion, _over: Option<Operation>) {}
    }

    /// A cancel looks among the operations that wait. One that completes many times waits in between, but not while the
    /// kernel has it in hand, and a cancel that came just then found nothing: the receive of a closed connection went on, and
    /// held its socket, for as long as its client liked. Here the cancel comes before its operation, which looks the same to it.
    #[test]
    fn a_cancel_that_missed_its_operation_is_repeated() {
        let wanted = Wanted {
            depth: 8,
            setup: Setup::ALL[0],
            multishot_receive: true,
            messages: false,
            files: 0,
        };
        let (mut in_flight, _, _) = InFlight::new(wanted, Arena::new(0)).expect("a ring can be made");
        let never = eventfd(0, EventfdFlags::CLOEXEC).expect("an eventfd can be made");
        let waits = Operation::Stream {
            what: Stream::Readable,
            fd: never.as_raw_fd(),
            sink: Rc::new(Nobody),
        };
        let key = in_flight.slots.insert(waits, true, None);
        in_flight.cancel(key);
        in_flight.queue(key);
        let (mut scratch, mut events) = (Vec::new(), Vec::new());
        for _ in 0..1000 {
            let entered = in_flight.enter(Wait::AtMost(Duration::from_millis(1)));
            entered.expect("the ring can be entered");
            in_flight.take_completions(&mut scratch, &mut events);
            events.clear();
            if in_flight.len() == 0 {
                return;
            }
        }
        panic!("{} operations go on for ever", in_flight.len());
    }
}
