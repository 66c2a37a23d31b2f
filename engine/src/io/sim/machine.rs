//! The simulated machine: a scheduler, a virtual clock and a queue of completions, all driven by one seed.
//!
//! A step is: complete what is due; draw a ready task; let it run to its next await; let a little time pass. Where no
//! task is ready, time jumps to the next completion or timer. Where there is none, the program waits for ever, and the
//! machine panics with a list of who waits.
//!
//! A disk operation is submitted (its effect is now the disk's to finish or to lose), completes after a random time,
//! and only then answers its task. A power cut falls on a submission or on a completion; from then on nothing runs.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::{Future, pending};
use std::panic::Location;
use std::path::Path;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::SimDisk;
use super::completion::{Completion, Timer, completion, timer};
use super::disk::DiskState;
use super::fault::{Failure, OpKind};
use super::file::Handle;
use super::net::Net;
use super::rng::Rng;
use super::sim_io::SimIo;
use super::tasks::{Drawn, MAIN, Tasks};
use crate::io::Class;

/// Steps of one `run_until` unless told otherwise; a test that needs more is most likely in a loop.
const DEFAULT_STEP_LIMIT: u64 = 5_000_000;

/// What reading the clock costs, so that a loop that waits for time to pass without an await ends.
const CLOCK_READ_NS: u64 = 100;

/// Why a machine no longer runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// The disk keeps what [`SimDisk::crash`] draws.
    PowerCut,
    /// The process died; what it had submitted completes.
    Killed,
}

/// A power cut to come.
#[derive(Debug, Clone, Copy)]
struct Cut {
    op: u64,
    at_completion: bool,
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
    tasks: RefCell<Tasks>,
    events: RefCell<BTreeMap<(u64, u64), Event>>,
    next_event: Cell<u64>,
    clock_ns: Cell<u64>,
    wall_start_ms: u64,
    wall_offset_ms: Cell<i64>,
    stop: Cell<Option<Stop>>,
    cut: Cell<Option<Cut>>,
    ops: Cell<u64>,
    steps: Cell<u64>,
    step_limit: Cell<u64>,
    trace: Cell<u64>,
    running: Cell<Option<(usize, Class)>>,
    cores: usize,
}

impl Inner {
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

    fn stop(&self, why: Stop) {
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

    fn fire_due(&self) {
        while !self.is_stopped()
            && let Some((_, event)) = self.next_due(self.clock_ns.get())
        {
            self.fire(event);
        }
    }

    /// Jumps to the next event; false where there is none.
    fn jump(&self) -> bool {
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
    fn shut_down(&self) {
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

/// Shuts the machine down when its last owner goes; tasks hold [`Inner`], not this.
struct Owner(Rc<Inner>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.shut_down();
    }
}

/// A simulated machine with some cores, on one disk. Clones are the same machine; it ends with the last of them.
///
/// Spawned tasks should hold a [`SimIo`], not a `SimMachine`: a task that owns its machine keeps it from ending.
#[derive(Clone)]
pub struct SimMachine(Rc<Owner>);

impl SimMachine {
    /// Starts a machine with `cores` cores on `disk`. Everything that happens follows from `seed`.
    ///
    /// # Panics
    /// If `cores` is 0, or the disk lost power and [`SimDisk::crash`] has not said what is left.
    pub fn new(seed: u64, disk: &SimDisk, cores: usize) -> Self {
        assert!(cores > 0, "a machine has a core");
        assert!(
            !disk.state().unpowered,
            "the disk lost power: call SimDisk::crash first"
        );
        let inner = Inner {
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
        };
        Self(Rc::new(Owner(Rc::new(inner))))
    }

    fn inner(&self) -> &Rc<Inner> {
        &self.0.0
    }

    /// The seam as core `core` sees it.
    ///
    /// # Panics
    /// If there is no such core.
    pub fn core(&self, core: usize) -> SimIo {
        assert!(core < self.inner().cores, "core {core} of {}", self.inner().cores);
        SimIo::new(Rc::clone(self.inner()), core)
    }

    /// How many cores there are.
    pub fn cores(&self) -> usize {
        self.inner().cores
    }

    /// The disk.
    pub fn disk(&self) -> &SimDisk {
        &self.inner().disk
    }

    /// Runs `future` on core 0 beside every task until it is done; `None` if the power was cut or the process killed.
    ///
    /// # Panics
    /// With "deadlock" if nothing can ever run again, at the step limit, and with whatever a task panics with.
    pub fn run_until<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        let inner = self.inner();
        let mut future = pin!(future);
        inner.tasks.borrow_mut().enter_main();
        inner.steps.set(0);
        let answer = loop {
            inner.fire_due();
            if inner.is_stopped() {
                break None;
            }
            self.count_step();
            let drawn = inner.tasks.borrow_mut().draw(&mut inner.rng.borrow_mut());
            match drawn {
                Some(drawn) if drawn.id == MAIN => {
                    inner.running.set(Some((drawn.core, drawn.class)));
                    let polled = future.as_mut().poll(&mut Context::from_waker(&drawn.waker));
                    self.after_step(MAIN);
                    if let Poll::Ready(answer) = polled {
                        break (!inner.is_stopped()).then_some(answer);
                    }
                }
                Some(drawn) => self.run_task(drawn),
                None if inner.jump() => {}
                None => self.deadlock(),
            }
        };
        inner.tasks.borrow_mut().leave_main();
        if inner.is_stopped() {
            inner.shut_down();
        }
        answer
    }

    fn run_task(&self, drawn: Drawn) {
        let inner = self.inner();
        let mut future = drawn.future.expect("a ready task is not being polled");
        inner.running.set(Some((drawn.core, drawn.class)));
        let polled = future.as_mut().poll(&mut Context::from_waker(&drawn.waker));
        self.after_step(drawn.id);
        match polled {
            Poll::Ready(()) => inner.tasks.borrow_mut().finished(drawn.id),
            Poll::Pending => inner.tasks.borrow_mut().put_back(drawn.id, future),
        }
    }

    fn after_step(&self, task: u64) {
        let inner = self.inner();
        inner.running.set(None);
        let ns = inner.rng.borrow_mut().between(100, 2_000);
        inner.clock_ns.set(inner.clock_ns.get() + ns);
        inner.note(inner.clock_ns.get());
        inner.note(task);
    }

    fn count_step(&self) {
        let inner = self.inner();
        inner.steps.set(inner.steps.get() + 1);
        assert!(
            inner.steps.get() <= inner.step_limit.get(),
            "seed {}: no end after {} steps; the tasks are:{}",
            inner.seed,
            inner.step_limit.get(),
            inner.tasks.borrow().describe()
        );
    }

    fn deadlock(&self) -> ! {
        let inner = self.inner();
        panic!(
            "seed {}: deadlock: nothing is ready, and no timer or I/O is under way; the tasks are:{}",
            inner.seed,
            inner.tasks.borrow().describe()
        )
    }

    /// Lets everything run for this long.
    pub fn run_for(&self, duration: Duration) -> Option<()> {
        self.run_until(self.inner().sleep(duration))
    }

    /// Cuts the power at once: nothing runs after the current await, and [`SimMachine::run_until`] gives `None`.
    pub fn cut_power(&self) {
        self.inner().stop(Stop::PowerCut);
    }

    /// Cuts the power at the `n`th disk operation from now, 1 the next: when it is submitted or when it completes, as
    /// the seed will have it. A program that does fewer operations runs to its end.
    ///
    /// # Panics
    /// If `n` is 0.
    pub fn cut_power_after(&self, n: u64) {
        assert!(n > 0, "the next operation is the first");
        let inner = self.inner();
        let at_completion = inner.rng.borrow_mut().coin();
        inner.cut.set(Some(Cut {
            op: inner.ops.get() + n,
            at_completion,
        }));
    }

    /// Kills the process and leaves the machine powered, like `kill -9`: submitted I/O completes, nothing else runs.
    pub fn kill(&self) {
        self.inner().stop(Stop::Killed);
    }

    /// Disk operations submitted on this machine so far.
    pub fn disk_ops(&self) -> u64 {
        self.inner().ops.get()
    }

    /// A digest of every choice made so far: equal seeds and programs give equal digests.
    pub fn trace_hash(&self) -> u64 {
        self.inner().trace.get()
    }

    /// Moves the wall clock, and only it, by so many milliseconds either way.
    pub fn jump_wall_clock(&self, by_ms: i64) {
        let offset = &self.inner().wall_offset_ms;
        offset.set(offset.get().saturating_add(by_ms));
    }

    /// Sets how many steps one `run_until` may take.
    pub fn set_step_limit(&self, steps: u64) {
        self.inner().step_limit.set(steps);
    }

    /// Resets every connection whose either end has an address for which `matches` is true.
    pub fn reset_connections(&self, matches: impl Fn(std::net::SocketAddr) -> bool) {
        Net::reset(&self.inner().net, matches);
    }

    /// Ends the machine as if its process had exited; later calls of `run_until` give `None`.
    pub fn shut_down(&self) {
        self.inner().shut_down();
    }
}
