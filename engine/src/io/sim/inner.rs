//! What the cores of a simulated machine share: the clock, the queue of completions, tasks, power.
//!
//! A disk operation is submitted (its effect is now the disk's to finish or to lose), completes after a random time, and
//! only then answers its task. A power cut falls on a submission or on a completion; from then on nothing runs. A kill
//! only ends the process: what it had submitted still completes.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::{Future, pending};
use std::panic::Location;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use super::SimDisk;
use super::completion::{Completion, Timer, completion, timer};
use super::disk::DiskState;
use super::fault::{Failure, OpKind};
use super::file::Handle;
use super::net::Net;
use super::rng::Rng;
use super::tasks::Tasks;
use crate::io::Class;

/// Steps of one `run_until` unless told otherwise; a test that needs more is most likely in a loop.
const DEFAULT_STEP_LIMIT: u64 = 5_000_000;

/// What reading the clock costs, so that a loop that waits for time to pass without an await ends.
const CLOCK_READ_NS: u64 = 100;

/// Why a machine no longer runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// The disk keeps what [`SimDisk::crash`] draws.
    PowerCut,
    /// The process died; what it had submitted completes.
    Killed,
}

/// A power cut to come.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cut {
    pub(super) op: u64,
    pub(super) at_completion: bool,
}

/// Something that happens at a given time.
pub(super) enum Event {
    Timer(Timer),
    /// The completion of a disk operation; it happens even if the process is killed.
    Disk(Box<dyn FnOnce(&Inner)>),
    /// A delivery by the network; it dies with the process.
    Net(Box<dyn FnOnce(&Inner)>),
}

/// What all cores share.
pub(super) struct Inner {
    pub(super) seed: u64,
    pub(super) disk: SimDisk,
    pub(super) rng: RefCell<Rng>,
    pub(super) net: RefCell<Net>,
    pub(super) tasks: RefCell<Tasks>,
    pub(super) events: RefCell<BTreeMap<(u64, u64), Event>>,
    pub(super) next_event: Cell<u64>,
    pub(super) clock_ns: Cell<u64>,
    pub(super) wall_start_ms: u64,
    pub(super) wall_offset_ms: Cell<i64>,
    pub(super) stop: Cell<Option<Stop>>,
    pub(super) cut: Cell<Option<Cut>>,
    pub(super) ops: Cell<u64>,
    pub(super) steps: Cell<u64>,
    pub(super) step_limit: Cell<u64>,
    pub(super) trace: Cell<u64>,
    pub(super) running: Cell<Option<(usize, Class)>>,
    pub(super) cores: usize,
}

impl Inner {
    pub(super) fn new(seed: u64, disk: &SimDisk, cores: usize) -> Self {
        Self {
            seed,
            disk: disk.clone(),
            rng: RefCell::new(Rng::new(seed)),
            net: RefCell::default(),
            tasks: RefCell::new(Tasks::new(cores)),
            events: RefCell::default(),
            next_event: Cell::new(0),
            clock_ns: Cell::new(0),
            wall_start_ms: disk.state().wall_clock_ms,
            wall_offset_ms: Cell::new(0),
            stop: Cell::new(None),
            cut: Cell::new(None),
            ops: Cell::new(0),
            steps: Cell::new(0),
            step_limit: Cell::new(DEFAULT_STEP_LIMIT),
            trace: Cell::new(seed),
            running: Cell::new(None),
            cores,
        }
    }

    /// Folds a fact into the trace.
    pub(super) fn note(&self, fact: u64) {
        let mixed = (self.trace.get() ^ fact).wrapping_mul(0x0100_0000_01b3);
        self.trace.set(mixed.rotate_left(23));
    }

    pub(super) fn now_ns(&self) -> u64 {
        self.clock_ns.get()
    }

    pub(super) fn read_clock(&self) -> Duration {
        self.clock_ns.set(self.clock_ns.get() + CLOCK_READ_NS);
        Duration::from_nanos(self.clock_ns.get())
    }

    pub(super) fn wall_clock_ms(&self) -> u64 {
        (self.wall_start_ms + self.clock_ns.get() / 1_000_000)
            .saturating_add_signed(self.wall_offset_ms.get())
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stop.get().is_some()
    }

    pub(super) fn stop(&self, why: Stop) {
        if self.is_stopped() {
            return;
        }
        self.stop.set(Some(why));
        if why == Stop::PowerCut {
            self.disk.state_mut().unpowered = true;
        }
    }

    // Time.

    pub(super) fn schedule(&self, delay_ns: u64, event: Event) {
        if self.is_stopped() {
            return;
        }
        let number = self.next_event.get();
        self.next_event.set(number + 1);
        self.events
            .borrow_mut()
            .insert((self.clock_ns.get() + delay_ns, number), event);
    }

    pub(super) fn sleep(&self, duration: Duration) -> Completion<()> {
        let (timer, completion) = timer();
        let ns = u64::try_from(duration.as_nanos())
            .unwrap_or(u64::MAX / 2)
            .min(u64::MAX / 2);
        self.schedule(ns, Event::Timer(timer));
        completion
    }

    /// Takes the next event that someone still waits for, if it is due at `horizon_ns`.
    fn next_due(&self, horizon_ns: u64) -> Option<(u64, Event)> {
        loop {
            let mut events = self.events.borrow_mut();
            let first = events.first_entry().filter(|first| first.key().0 <= horizon_ns)?;
            let ((due, _), event) = first.remove_entry();
            drop(events);
            match event {
                Event::Timer(timer) if !timer.is_live() => {}
                event => return Some((due, event)),
            }
        }
    }

    fn fire(&self, event: Event) {
        match event {
            Event::Timer(timer) => timer.fire(),
            Event::Disk(finish) | Event::Net(finish) => finish(self),
        }
    }

    pub(super) fn fire_due(&self) {
        while !self.is_stopped()
            && let Some((_, event)) = self.next_due(self.clock_ns.get())
        {
            self.fire(event);
        }
    }

    /// Jumps to the next event; false where there is none.
    pub(super) fn jump(&self) -> bool {
        let Some((due, event)) = self.next_due(u64::MAX) else {
            return false;
        };
        self.clock_ns.set(self.clock_ns.get().max(due));
        self.fire(event);
        true
    }

    /// How long an operation takes: usually its class's time, now and then much longer.
    fn latency_ns(&self, kind: OpKind) -> u64 {
        let mut rng = self.rng.borrow_mut();
        let (low, high) = match kind {
            OpKind::Read | OpKind::Write => (20_000, 200_000),
            OpKind::Sync | OpKind::SyncDir | OpKind::Allocate => (200_000, 2_000_000),
            _ => (5_000, 100_000),
        };
        let usual = rng.between(low, high);
        if rng.chance(1, 32) { usual * 20 } else { usual }
    }

    // Tasks.

    pub(super) fn spawn(
        &self,
        core: usize,
        class: Class,
        task: impl Future<Output = ()> + 'static,
        spawned_at: &'static Location<'static>,
    ) {
        if !self.is_stopped() {
            self.tasks
                .borrow_mut()
                .spawn(core, class, Box::pin(task), spawned_at);
        }
    }

    pub(super) fn set_shares(&self, core: usize, class: Class, shares: u32) {
        self.tasks.borrow_mut().set_shares(core, class, shares);
    }

    pub(super) fn should_yield(&self, core: usize) -> bool {
        let class = self.running.get().map_or(Class::Foreground, |(_, class)| class);
        // The coin stands for the preempt timer: a loop that runs until it should yield must end.
        self.tasks.borrow().more_urgent_ready(core, class) || self.rng.borrow_mut().chance(1, 16)
    }

    // The disk.

    /// Submits an operation on the disk and waits for its answer. `submit` starts it; `finish` completes it some time
    /// later, whether or not anyone still waits. `keep` stays open that long.
    pub(super) async fn disk_op<S: 'static, T: 'static>(
        self: Rc<Self>,
        (kind, path): (OpKind, &Path),
        keep: Option<Rc<Handle>>,
        submit: impl FnOnce(&mut DiskState, &mut Rng, Option<Failure>) -> S,
        finish: impl FnOnce(&mut DiskState, &mut Rng, S) -> T + 'static,
    ) -> T {
        let Some((op, failure)) = self.begin_op(kind, path) else {
            return pending().await;
        };
        let submitted = submit(&mut self.disk.state_mut(), &mut self.rng.borrow_mut(), failure);
        let (answer, completion) = completion();
        self.launch_op(
            op,
            kind,
            keep,
            move |disk, rng| finish(disk, rng, submitted),
            |done| answer.give(done),
        );
        completion.await
    }

    /// Numbers an operation; `None` once the machine has stopped.
    pub(super) fn begin_op(&self, kind: OpKind, path: &Path) -> Option<(u64, Option<Failure>)> {
        if self.is_stopped() {
            return None;
        }
        let op = self.ops.get() + 1;
        self.ops.set(op);
        self.note(op << 8 | kind as u64);
        Some((op, self.disk.state_mut().enter(kind, path)))
    }

    /// Schedules the completion of an operation that was submitted, and cuts the power if it is time.
    pub(super) fn launch_op<T: 'static>(
        &self,
        op: u64,
        kind: OpKind,
        keep: Option<Rc<Handle>>,
        finish: impl FnOnce(&mut DiskState, &mut Rng) -> T + 'static,
        answer: impl FnOnce(T) + 'static,
    ) {
        let complete = move |inner: &Self| {
            let done = finish(&mut inner.disk.state_mut(), &mut inner.rng.borrow_mut());
            inner.note(op << 8 | 0xff);
            answer(done);
            // The last handle may go here, outside of any borrow of the disk.
            drop(keep);
            inner.cut_if(op, true);
        };
        self.schedule(self.latency_ns(kind), Event::Disk(Box::new(complete)));
        self.cut_if(op, false);
    }

    fn cut_if(&self, op: u64, at_completion: bool) {
        if self
            .cut
            .get()
            .is_some_and(|cut| cut.op == op && cut.at_completion == at_completion)
        {
            self.stop(Stop::PowerCut);
        }
    }

    // The end.

    /// Drops every task, event and connection. What a killed process had submitted to the disk completes first.
    pub(super) fn shut_down(&self) {
        self.stop(Stop::Killed);
        // The clock on the wall goes on from here for the next machine, jumps included.
        self.disk.state_mut().wall_clock_ms = self.wall_clock_ms();
        loop {
            let futures = self.tasks.borrow_mut().take_all();
            let events = std::mem::take(&mut *self.events.borrow_mut());
            let net = std::mem::take(&mut *self.net.borrow_mut());
            if futures.is_empty() && events.is_empty() && net.is_empty() {
                break;
            }
            for event in events.into_values() {
                match event {
                    Event::Disk(finish) if self.stop.get() == Some(Stop::Killed) => finish(self),
                    other => drop(other),
                }
            }
            drop(futures);
            drop(net);
        }
    }
}
