//! Starting and ending pinned executors, one for each core given.
//!
//! **glommio 0.9.0 can sleep over ready tasks.** Its loop arms the preempt timer, then asks whether the latency ring has
//! a completion *before* it runs the first task, and takes "yes" for "nothing to run": it parks, with nobody left to
//! wake it (seen here within seconds; glommio/glommio pull request 53 describes it, unreleased). Two things put a
//! completion there at that moment: the preempt timer, if it is short or the thread loses its core just then, and the
//! eventfd of a wake-up from another thread, if it is written late. So the preempt timer is set far away
//! ([`PREEMPT_PERIOD`]) and time slices are kept by our own scheduler; no queue of glommio's is latency-sensitive, so
//! that the eventfd is written for sleepers only; and a heartbeat ([`HEARTBEAT`]) bounds what is left, a writer of
//! the eventfd that loses its core between claiming the sleeper and waking it.
use std::future::{Future, poll_fn};
use std::io;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt;
use glommio::timer::Timer;
use glommio::{
    GlommioError, LocalExecutor, LocalExecutorBuilder, Placement, PoolPlacement, ReactorErrorKind,
};

use super::super::clock;
use super::super::cores::{CoreThread, Ended, StartOptions, start_threads};
use super::super::scheduler::Scheduler;
use super::GlommioIo;

/// Threads for blocking calls beside each executor: with two, a directory sync does not wait for a long unlink.
const BLOCKING_THREADS: usize = 2;

/// glommio's own preempt timer, which is not used: far away, see above.
const PREEMPT_PERIOD: Duration = Duration::from_secs(3600);

/// The longest that a wake-up is lost for. Each costs some 100 µs of an idle core, all that glommio does around a sleep.
const HEARTBEAT: Duration = Duration::from_millis(50);

/// How long the rings run on after the last task, for what its drop has left them: longer than a device's read.
const SETTLE: Duration = Duration::from_millis(2);

/// How far ahead the timer of [`visit_ring`] lies: a few times what it takes to register it.
const VISIT_DELAY: Duration = Duration::from_nanos(300);

/// How long an executor whose `main` has ended waits for file operations under way: far longer than a device takes.
const QUIESCE_BOUND: Duration = Duration::from_secs(5);

/// Starts one executor pinned to each of `cores`, in a thread named `corelane-<core>`, and runs `main` on it with its
/// index in `cores`, under [`Class::Foreground`](super::Class::Foreground). The executor ends when its `main` does; tasks
/// still waiting then never run again, and file operations under way are waited for.
///
/// # Errors
/// That an executor could not be made: what stopped it. None is left running then.
pub fn start<F, M>(cores: &[usize], options: StartOptions, main: F) -> io::Result<Vec<CoreThread>>
where
    F: Fn(usize, GlommioIo) -> M + Send + Sync + 'static,
    M: Future<Output = ()> + 'static,
{
    start_told(cores, options, main, |_, _| {})
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
    F: Fn(usize, GlommioIo) -> M + Send + Sync + 'static,
    M: Future<Output = ()> + 'static,
{
    start_threads(
        cores,
        move |core| make(core, options),
        move |index, executor| executor.run(run_core(index, options, &main)),
        ended,
    )
}

/// One core's executor from its first task to the end of what its last tasks have left.
async fn run_core<F, M>(index: usize, options: StartOptions, main: &F) -> Ended
where
    F: Fn(usize, GlommioIo) -> M,
    M: Future<Output = ()> + 'static,
{
    // Cancelled when it is dropped, at the end.
    let _heartbeat = glommio::spawn_local(async {
        loop {
            glommio::timer::sleep(HEARTBEAT).await;
        }
    });
    let scheduler = Scheduler::new(Duration::from_micros(options.slice_us));
    let io = GlommioIo::new(scheduler.clone());
    // Called where a panic is caught: it is a core's own code too.
    let ran = AssertUnwindSafe(async {
        let main = main(index, io.clone());
        scheduler.run(main, visit_ring).await;
    })
    .catch_unwind()
    .await;
    // The tasks dropped last may have left file operations under way, and closes for the ring.
    let settled = quiesce(&io).await;
    glommio::timer::sleep(SETTLE).await;
    Ended {
        settled,
        panic: ran.err(),
    }
}

fn make(core: usize, options: StartOptions) -> io::Result<LocalExecutor> {
    assert!(
        options.slice_us > 0,
        "a slice of nothing would look at the ring after every task"
    );
    LocalExecutorBuilder::new(Placement::Fixed(core))
        .spin_before_park(Duration::from_micros(options.spin_before_park_us))
        .io_memory(options.io_memory_bytes)
        .ring_depth(options.ring_depth)
        .preempt_timer(PREEMPT_PERIOD)
        // Not on the pinned core, where glommio would put them: a system call there would take the core from us.
        .blocking_thread_pool_placement(PoolPlacement::Unbound(BLOCKING_THREADS))
        .make()
        .map_err(|error: GlommioError<()>| match error {
            GlommioError::ReactorError(ReactorErrorKind::MemLockLimit(has, needs)) => io::Error::other(format!(
                "the limit on locked memory is {has} bytes and {needs} are needed: raise it with `ulimit -l unlimited`"
            )),
            other => super::os_error(other),
        })
}

/// Lets glommio look at its rings, which it does only when none of its own tasks is ready: this one becomes ready
/// through a timer that is due at once, which glommio finds after the rings.
fn visit_ring() -> impl Future<Output = ()> {
    let mut visit = None;
    poll_fn(move |cx| {
        if visit.is_some() {
            // Woken, by the timer or by a completion: either way the rings were looked at.
            return Poll::Ready(());
        }
        loop {
            // A timer that is due when it is first polled is not registered: it must lie a little ahead, and it is
            // made again if the core was lost meanwhile.
            let mut timer = Timer::new(VISIT_DELAY);
            let due = clock::now() + VISIT_DELAY;
            if Pin::new(&mut timer).poll(cx).is_pending() {
                visit = Some(timer);
                // Were it not yet due when glommio gets there, glommio would sleep for it, which takes far longer.
                while clock::now() <= due {
                    std::hint::spin_loop();
                }
                return Poll::Pending;
            }
        }
    })
}

/// Waits until no file operation is under way, which it returns: the kernel writes into their buffers until then. Those
/// whose tasks were dropped go on by themselves (`in_flight.rs`).
async fn quiesce(io: &GlommioIo) -> bool {
    use super::super::Io;
    let since = io.now();
    while !io.0.in_flight.is_idle() && io.now() - since < QUIESCE_BOUND {
        io.sleep(Duration::from_millis(1)).await;
    }
    io.0.in_flight.end()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::cores::available_cores;

    #[test]
    fn a_core_that_does_not_exist_starts_nothing() {
        let real = available_cores()[0];
        let error = start(&[real, 1 << 20], StartOptions::default(), |_, _| async {
            panic!("it must not run")
        })
        .expect_err("there is no such core");
        assert!(error.to_string().contains("core 1048576"), "{error}");
    }

    #[test]
    fn a_panic_comes_back_as_text() {
        let core = available_cores()[0];
        let threads = start(&[core], StartOptions::default(), |index, _| async move {
            assert_ne!(index, 0, "the reason");
        })
        .expect("an executor starts here");
        for thread in threads {
            let panic = thread.join().expect_err("it panicked");
            assert!(panic.text.contains("the reason"), "{panic:?}");
            assert!(panic.settled, "nothing was under way");
        }
    }
}
