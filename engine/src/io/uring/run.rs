//! Starting and ending the cores' threads, and the loop that each runs.
//!
//! A thread is pinned, then makes its ring, which belongs to the thread that made it. Its loop polls the scheduler and takes a
//! turn of the reactor, until the core's `main` has ended or a task has panicked. Then every task is dropped; what they had
//! begun is waited for, [`SETTLE_BOUND`] at most; and only then does the thread end. What even then is not over is never
//! freed, because the kernel may still write to it.

use std::any::Any;
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::super::cores::{CoreThread, Ended, StartOptions, raise_memlock_limit, start_threads};
use super::super::scheduler::Scheduler;
use super::UringIo;
use super::ability::{Ability, Setup};
use super::blocking::Blocking;
use super::in_flight::{InFlight, Wanted};
use super::memory::Arena;
use super::reactor::{Reactor, visit_ring};
use super::table::REGISTERED_FILES;

/// How long a core whose `main` has ended waits for what is under way: far longer than a device takes.
const SETTLE_BOUND: Duration = Duration::from_secs(5);

/// Cores that the C library's set has a place for; it is not asked for others.
const MAX_CORES: usize = libc::CPU_SETSIZE.unsigned_abs() as usize;

/// Starts one core's thread pinned to each of `cores`, named `corelane-<core>`, and runs `main` on it with its index in
/// `cores`, under [`Class::Foreground`](super::Class::Foreground). It ends when its `main` does; tasks still waiting then
/// never run again, and operations under way are waited for.
///
/// # Errors
/// That a core could not be pinned or its ring could not be made: what stopped it. None is left running then.
pub fn start<F, M>(cores: &[usize], options: StartOptions, main: F) -> io::Result<Vec<CoreThread>>
where
    F: Fn(usize, UringIo) -> M + Send + Sync + 'static,
    M: Future<Output = ()> + 'static,
{
    start_wanted(cores, options, best(options.ring_depth), main, |_, _| {})
}

/// As [`start`]; and when a core's `main` has ended without a panic, its tasks were dropped and what they had begun was waited
/// for, `ended` is called on its thread with its index and whether all of it has ended.
///
/// # Errors
/// As there.
pub(crate) fn start_told<F, M>(
    cores: &[usize],
    options: StartOptions,
    main: F,
    ended: impl Fn(usize, bool) + Send + Sync + 'static,
) -> io::Result<Vec<CoreThread>>
where
    F: Fn(usize, UringIo) -> M + Send + Sync + 'static,
    M: Future<Output = ()> + 'static,
{
    start_wanted(cores, options, best(options.ring_depth), main, ended)
}

fn best(depth: usize) -> Wanted {
    Wanted {
        depth,
        setup: Setup::ALL[0],
        multishot_receive: true,
        messages: true,
        files: REGISTERED_FILES,
    }
}

/// What this kernel offers to a core, found by making a small ring, with the memory that a core has by default, and giving it
/// back.
///
/// # Errors
/// Why no core can run here: the kernel is too old, or keeps rings from this process.
pub fn probe() -> io::Result<Ability> {
    const DEPTH: usize = 8;
    // As the cores will, so that what is said of locked memory is what the first of them gets.
    raise_memlock_limit();
    let arena = Arena::new(StartOptions::default().io_memory_bytes);
    let (_ring, _door, ability) = InFlight::new(best(DEPTH), arena)?;
    Ok(ability)
}

/// The same with a ring that is made as `wanted`.
pub(super) fn start_wanted<F, M>(
    cores: &[usize],
    options: StartOptions,
    wanted: Wanted,
    main: F,
    ended: impl Fn(usize, bool) + Send + Sync + 'static,
) -> io::Result<Vec<CoreThread>>
where
    F: Fn(usize, UringIo) -> M + Send + Sync + 'static,
    M: Future<Output = ()> + 'static,
{
    start_threads(
        cores,
        move |core| make(core, options, wanted),
        move |index, reactor| run_core(index, options, reactor, &main),
        ended,
    )
}

fn make(core: usize, options: StartOptions, wanted: Wanted) -> io::Result<Rc<Reactor>> {
    assert!(
        options.slice_us > 0,
        "a slice of nothing would look at the ring after every task"
    );
    // Before this thread is pinned, so that its helper is not.
    let blocking = Blocking::start(core)?;
    let numbered = core < MAX_CORES;
    if !numbered || !core_affinity::set_for_current(core_affinity::CoreId { id: core }) {
        let what = "the thread could not be pinned: the core is not there, or this process may not use it";
        return Err(io::Error::other(what));
    }
    let spin = Duration::from_micros(options.spin_before_park_us);
    Reactor::new(wanted, options.io_memory_bytes, spin, blocking)
}

fn run_core<F, M>(index: usize, options: StartOptions, reactor: Rc<Reactor>, main: &F) -> Ended
where
    F: Fn(usize, UringIo) -> M,
    M: Future<Output = ()> + 'static,
{
    let waker = Waker::from(Arc::clone(reactor.bell()));
    let scheduler = Scheduler::with_waker(Duration::from_micros(options.slice_us), waker);
    let io = UringIo::new(scheduler.clone(), Rc::clone(&reactor));
    reactor.watch_bell();
    // The first panic is the one to tell; what it leaves is dropped where a second one does no harm.
    let panic = catch(|| {
        let main = main(index, io.clone());
        drive(&reactor, Box::pin(scheduler.run(main, visit_ring)));
    });
    let panic_of_settling = catch(|| {
        drop((io, scheduler));
        reactor.settle(SETTLE_BOUND)
    });
    let (settled, panic) = match (panic_of_settling, panic) {
        (Ok(settled), Ok(())) => (settled, None),
        (Ok(settled), Err(panic)) => (settled, Some(panic)),
        (Err(later), Ok(())) => (false, Some(later)),
        (Err(_later), Err(panic)) => (false, Some(panic)),
    };
    Ended { settled, panic }
}

fn catch<T>(work: impl FnOnce() -> T) -> Result<T, Box<dyn Any + Send>> {
    catch_unwind(AssertUnwindSafe(work))
}

/// Runs the scheduler's future to its end, with turns of the reactor between its polls.
fn drive(reactor: &Reactor, mut tasks: Pin<Box<dyn Future<Output = ()> + '_>>) {
    let waker = Waker::from(Arc::clone(reactor.bell()));
    let mut cx = Context::from_waker(&waker);
    loop {
        // Before the tasks are looked at: what rings from now on is for the next turn.
        reactor.bell().clear();
        match tasks.as_mut().poll(&mut cx) {
            Poll::Ready(()) => return,
            Poll::Pending => reactor.turn(),
        }
    }
}
