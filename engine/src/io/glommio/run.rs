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
//!
//! Every thread first makes its executor (which is where a kernel, a limit or a missing core says no) and reports; only
//! when all have one does any of them run. So a start that fails leaves nothing behind.

use std::future::{Future, poll_fn};
use std::io;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::Duration;

use futures_util::FutureExt;
use glommio::timer::Timer;
use glommio::{
    GlommioError, LocalExecutor, LocalExecutorBuilder, Placement, PoolPlacement, ReactorErrorKind,
};
use rustix::process::{Resource, Rlimit};

use super::super::scheduler::Scheduler;
use super::{GlommioIo, process_start};

/// How executors are started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StartOptions {
    /// How long an executor without work looks for more before it sleeps, in microseconds. A message to a sleeping core
    /// takes some 60 µs there and back, to one that looks 8 µs, and looking takes the whole core. 0 sleeps at once.
    pub spin_before_park_us: u64,
    /// Memory registered with the kernel for file buffers, in bytes for each executor.
    pub io_memory_bytes: usize,
    /// Operations that each ring of an executor takes at once.
    pub ring_depth: usize,
    /// How long a task may run before [`should_yield`](super::Io::should_yield) asks it to stop, in microseconds; also
    /// how long completions may wait while tasks are ready. Looking at the rings takes some 4 µs each time.
    pub slice_us: u64,
}

impl Default for StartOptions {
    fn default() -> Self {
        Self {
            spin_before_park_us: 0,
            io_memory_bytes: 10 << 20,
            ring_depth: 128,
            slice_us: 100,
        }
    }
}

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

/// The cores that this process may run on.
pub fn available_cores() -> Vec<usize> {
    core_affinity::get_core_ids()
        .unwrap_or_default()
        .into_iter()
        .map(|core| core.id)
        .collect()
}

/// Raises the soft limit on locked memory to the hard one, and returns what it is now in bytes, `None` for no limit.
/// Each executor needs 512 KiB of it, and more to register its file buffers; without that it works, slower.
pub fn raise_memlock_limit() -> Option<u64> {
    let maximum = rustix::process::getrlimit(Resource::Memlock).maximum;
    // A refusal leaves the limit as it was, and the result says so.
    let _raised = rustix::process::setrlimit(
        Resource::Memlock,
        Rlimit {
            current: maximum,
            maximum,
        },
    )
    .is_ok();
    rustix::process::getrlimit(Resource::Memlock).current
}

/// The thread of one executor.
#[derive(Debug)]
pub struct CoreThread {
    thread: JoinHandle<()>,
    /// Whether every file operation had ended when the executor went.
    settled: Arc<AtomicBool>,
}

/// The end of an executor by a panic.
#[derive(Debug)]
pub struct CorePanic {
    /// What the panic said.
    pub text: String,
    /// Whether every file operation it had begun has ended. If not, one may still reach the disk.
    pub settled: bool,
}

impl CoreThread {
    /// Whether the caller runs on it.
    pub fn is_current(&self) -> bool {
        self.thread.thread().id() == std::thread::current().id()
    }

    /// Waits until the executor's `main` has ended.
    ///
    /// # Errors
    /// The panic that ended a task of this executor, and with it the executor.
    pub fn join(self) -> Result<(), CorePanic> {
        self.thread.join().map_err(|panic| CorePanic {
            text: match panic.downcast::<String>() {
                Ok(text) => *text,
                Err(panic) => panic
                    .downcast_ref::<&str>()
                    .map_or("a panic without text".to_owned(), |t| (*t).to_owned()),
            },
            settled: self.settled.load(Ordering::SeqCst),
        })
    }
}

/// Starts one executor pinned to each of `cores`, in a thread named `corelane-<core>`, and runs `main` on it with its
/// index in `cores`, under [`Class::Foreground`](super::Class::Foreground). The executor ends when its `main` does; tasks still waiting then
/// never run again, and file operations under way are waited for.
///
/// # Errors
/// That an executor could not be made: what stopped it. None is left running then.
pub fn start<F, M>(cores: &[usize], options: StartOptions, main: F) -> io::Result<Vec<CoreThread>>
where
    F: Fn(usize, GlommioIo) -> M + Send + Sync + 'static,
    M: Future<Output = ()> + 'static,
{
    let memlock = raise_memlock_limit();
    let main = Arc::new(main);
    let mut starting = Vec::new();
    let mut failure = None;
    for (index, &core) in cores.iter().enumerate() {
        match begin(index, core, options, Arc::clone(&main)) {
            Ok(begun) => starting.push((core, begun)),
            Err(error) => {
                failure = Some(start_error(core, memlock, &error));
                break;
            }
        }
    }
    for (core, begun) in &starting {
        // A thread that panicked has dropped its end.
        let made = begun
            .made
            .recv()
            .unwrap_or_else(|_| Err(io::Error::other("its thread panicked")));
        if let Err(error) = made {
            failure.get_or_insert_with(|| start_error(*core, memlock, &error));
        }
    }
    if let Some(error) = failure {
        for (_, begun) in starting {
            drop(begun.go);
            // How it ended is in `error` already, if it matters.
            let _ended = begun.thread.join().is_ok();
        }
        return Err(error);
    }
    let run = |(_, begun): (usize, Starting)| {
        // A thread can only be gone here if it has panicked, which `join` will tell.
        let _gone = begun.go.send(()).is_err();
        CoreThread {
            thread: begun.thread,
            settled: begun.settled,
        }
    };
    Ok(starting.into_iter().map(run).collect())
}

/// A thread that makes its executor, says whether it could, and waits for the word to run.
struct Starting {
    thread: JoinHandle<()>,
    made: mpsc::Receiver<io::Result<()>>,
    go: mpsc::Sender<()>,
    settled: Arc<AtomicBool>,
}

fn begin<F, M>(index: usize, core: usize, options: StartOptions, main: Arc<F>) -> io::Result<Starting>
where
    F: Fn(usize, GlommioIo) -> M + Send + Sync + 'static,
    M: Future<Output = ()> + 'static,
{
    let (say_made, made) = mpsc::channel();
    let (go, wait_go) = mpsc::channel();
    let settled = Arc::new(AtomicBool::new(false));
    let settles = Arc::clone(&settled);
    let thread = std::thread::Builder::new()
        .name(format!("corelane-{core}"))
        .spawn(move || {
            let executor = match make(core, options) {
                Ok(executor) => executor,
                Err(error) => return drop(say_made.send(Err(error))),
            };
            if say_made.send(Ok(())).is_ok() && wait_go.recv().is_ok() {
                executor.run(async move {
                    // Cancelled when it is dropped, at the end.
                    let _heartbeat = glommio::spawn_local(async {
                        loop {
                            glommio::timer::sleep(HEARTBEAT).await;
                        }
                    });
                    let scheduler = Scheduler::new(Duration::from_micros(options.slice_us));
                    let io = GlommioIo::new(scheduler.clone());
                    let main = main(index, io.clone());
                    let ran = AssertUnwindSafe(scheduler.run(main, visit_ring))
                        .catch_unwind()
                        .await;
                    // The tasks dropped last may have left file operations under way, and closes for the ring.
                    settles.store(quiesce(&io).await, Ordering::SeqCst);
                    glommio::timer::sleep(SETTLE).await;
                    if let Err(panic) = ran {
                        resume_unwind(panic);
                    }
                });
            }
        })?;
    Ok(Starting {
        thread,
        made,
        go,
        settled,
    })
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

fn start_error(core: usize, memlock: Option<u64>, error: &io::Error) -> io::Error {
    let limit = memlock.map_or("unlimited".to_owned(), |bytes| format!("{bytes} bytes"));
    io::Error::new(
        error.kind(),
        format!("starting an executor on core {core} (locked memory: {limit}): {error}"),
    )
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
            let due = process_start().elapsed() + VISIT_DELAY;
            if Pin::new(&mut timer).poll(cx).is_pending() {
                visit = Some(timer);
                // Were it not yet due when glommio gets there, glommio would sleep for it, which takes far longer.
                while process_start().elapsed() <= due {
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
