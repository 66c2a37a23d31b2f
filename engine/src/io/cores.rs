//! The threads that executors run on, one for each core given: how they are started, together, and how they end.
//!
//! Every thread first makes its executor (which is where a kernel, a limit or a missing core says no) and reports; only
//! when all have one does any of them run. So a start that fails leaves nothing behind. What an executor is, and which
//! runtime it is of, is for the caller to say.

use std::any::Any;
use std::io;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use rustix::process::{Resource, Rlimit};

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

/// How an executor ended.
pub(in crate::io) struct Ended {
    /// Whether every operation that it had begun has ended too.
    pub(in crate::io) settled: bool,
    /// The panic that ended it.
    pub(in crate::io) panic: Option<Box<dyn Any + Send>>,
}

/// Starts a thread named `corelane-<core>` for each of `cores`. `make` makes its executor there, given the core; when all
/// are made, `run` runs each, given its index in `cores`.
pub(in crate::io) fn start_threads<E: 'static>(
    cores: &[usize],
    make: impl Fn(usize) -> io::Result<E> + Send + Sync + 'static,
    run: impl Fn(usize, E) -> Ended + Send + Sync + 'static,
) -> io::Result<Vec<CoreThread>> {
    let memlock = raise_memlock_limit();
    let calls = Arc::new((make, run));
    let mut starting = Vec::new();
    let mut failure = None;
    for (index, &core) in cores.iter().enumerate() {
        match begin(index, core, Arc::clone(&calls)) {
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

fn begin<E, M, R>(index: usize, core: usize, calls: Arc<(M, R)>) -> io::Result<Starting>
where
    M: Fn(usize) -> io::Result<E> + Send + Sync + 'static,
    R: Fn(usize, E) -> Ended + Send + Sync + 'static,
{
    let (say_made, made) = mpsc::channel();
    let (go, wait_go) = mpsc::channel();
    let settled = Arc::new(AtomicBool::new(false));
    let settles = Arc::clone(&settled);
    let thread = std::thread::Builder::new()
        .name(format!("corelane-{core}"))
        .spawn(move || {
            let executor = match (calls.0)(core) {
                Ok(executor) => executor,
                Err(error) => return drop(say_made.send(Err(error))),
            };
            if say_made.send(Ok(())).is_ok() && wait_go.recv().is_ok() {
                let ended = (calls.1)(index, executor);
                settles.store(ended.settled, Ordering::SeqCst);
                if let Some(panic) = ended.panic {
                    resume_unwind(panic);
                }
            }
        })?;
    Ok(Starting {
        thread,
        made,
        go,
        settled,
    })
}

fn start_error(core: usize, memlock: Option<u64>, error: &io::Error) -> io::Error {
    let limit = memlock.map_or("unlimited".to_owned(), |bytes| format!("{bytes} bytes"));
    io::Error::new(
        error.kind(),
        format!("starting an executor on core {core} (locked memory: {limit}): {error}"),
    )
}
