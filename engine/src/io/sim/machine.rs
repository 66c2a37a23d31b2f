//! The simulated machine: a scheduler, a virtual clock and a queue of completions, all driven by one seed.
//!
//! A step is: complete what is due; draw a ready task; let it run to its next await; let a little time pass. Where no
//! task is ready, time jumps to the next completion or timer. Where there is none, the program waits for ever, and the
//! machine panics with a list of who waits.

use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::SimDisk;
use super::inner::{Cut, Inner, Stop};
use super::net::Net;
use super::sim_io::SimIo;
use super::tasks::{Drawn, MAIN};

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
        Self(Rc::new(Owner(Rc::new(Inner::new(seed, disk, cores)))))
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
