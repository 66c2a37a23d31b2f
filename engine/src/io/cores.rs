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

/// The end of an executor by a panic, or with file operations under way.
#[derive(Debug)]
pub struct CoreFailure {
    /// What the panic said, or what is under way.
    pub text: String,
    /// Whether every file operation it had begun has ended. If not, one may still reach the disk.
    pub settled: bool,
}

impl CoreThread {
    /// Whether the caller runs on it.
    pub fn is_current(&self) -> bool {
        self.thread.thread().id() == std::thread::current().id()
    }

    /// Waits until the executor's `main` has ended, and what was begun there with it.
    ///
    /// # Errors
    /// The panic that ended a task of this executor, and with it the executor; or that file operations did not end.
    pub fn join(self) -> Result<(), CoreFailure> {
        let joined = self.thread.join();
        let settled = self.settled.load(Ordering::SeqCst);
        let text = match joined {
            Ok(()) if settled => return Ok(()),
            Ok(()) => "file operations that it had begun were still under way long after its end".to_owned(),
            Err(panic) => format!("it panicked: {}", panic_text(panic)),
        };
        Err(CoreFailure { text, settled })
    }
}

/// What a panic said.
fn panic_text(panic: Box<dyn Any + Send>) -> String {
    match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => panic
            .downcast_ref::<&str>()
            .map_or("a panic without text".to_owned(), |text| (*text).to_owned()),
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
/// are made, `run` runs each, given its index in `cores`. When one has ended without a panic, `ended` is told there which, and
/// whether all that it had begun has ended.
pub(in crate::io) fn start_threads<E: 'static>(
    cores: &[usize],
    make: impl Fn(usize) -> io::Result<E> + Send + Sync + 'static,
    run: impl Fn(usize, E) -> Ended + Send + Sync + 'static,
    ended: impl Fn(usize, bool) + Send + Sync + 'static,
) -> io::Result<Vec<CoreThread>> {
    let memlock = raise_memlock_limit();
    let calls = Arc::new((make, run, ended));
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

fn begin<E, M, R, T>(index: usize, core: usize, calls: Arc<(M, R, T)>) -> io::Result<Starting>
where
    M: Fn(usize) -> io::Result<E> + Send + Sync + 'static,
    R: Fn(usize, E) -> Ended + Send + Sync + 'static,
    T: Fn(usize, bool) + Send + Sync + 'static,
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
                match ended.panic {
                    Some(panic) => resume_unwind(panic),
                    None => (calls.2)(index, ended.settled),
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// An executor that ended with operations under way, and without a panic, was joined as if nothing were left: whoever had
    /// waited for it gave the database's lock back.
    #[test]
    fn whoever_waits_for_an_executor_learns_that_it_left_something_under_way() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let tells = Arc::clone(&told);
        let threads = start_threads(
            &[0, 1],
            |_| Ok(()),
            |index, ()| Ended {
                settled: index == 0,
                panic: None,
            },
            move |index, settled| tells.lock().unwrap().push((index, settled)),
        );
        let ends: Vec<_> = threads.unwrap().into_iter().map(CoreThread::join).collect();
        assert!(ends[0].is_ok(), "{ends:?}");
        let failure = ends[1].as_ref().expect_err("something is under way");
        assert!(
            !failure.settled && failure.text.contains("under way"),
            "{failure:?}"
        );
        let mut told = told.lock().unwrap();
        told.sort_unstable();
        assert_eq!(*told, [(0, true), (1, false)]);
    }
}
