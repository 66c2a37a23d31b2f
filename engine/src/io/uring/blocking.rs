//! A thread beside each core for calls that block and that a ring has no operation for: listing a directory, asking for
//! room, taking the lock.
//!
//! It is started before its core's thread is pinned, so that the kernel runs it anywhere else. What it is given is done to
//! its end, whether somebody still waits for it or not, and counted until then. One is enough: each call is short, and rare.

use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};

type Job = Box<dyn FnOnce() + Send>;

/// The thread of one core; it ends when this is dropped and its work is done.
pub(super) struct Blocking {
    jobs: mpsc::Sender<Job>,
    under_way: Arc<AtomicUsize>,
}

/// One job under way, on whatever thread.
struct UnderWay(Arc<AtomicUsize>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Blocking {
    /// Starts the thread for `core`.
    ///
    /// # Errors
    /// The operating system's.
    pub(super) fn start(core: usize) -> io::Result<Self> {
        let (jobs, todo) = mpsc::channel::<Job>();
        std::thread::Builder::new()
            .name(format!("corelane-{core}-b"))
            .spawn(move || todo.iter().for_each(|job| job()))?;
        Ok(Self {
            jobs,
            under_way: Arc::default(),
        })
    }

    /// Runs `work` on the thread. Dropped before its end, it is done all the same and its result dropped there.
    pub(super) fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> impl Future<Output = io::Result<T>> + 'static {
        let (jobs, under_way) = (self.jobs.clone(), Arc::clone(&self.under_way));
        async move {
            let (answer, answered) = oneshot::async_channel();
            under_way.fetch_add(1, Ordering::SeqCst);
            let counted = UnderWay(under_way);
            let job = Box::new(move || {
                // A future that is gone hands the result back, to be dropped here.
                let _untaken = answer.send(work());
                drop(counted);
            });
            let gone = || io::Error::other("the thread for blocking calls has ended by a panic");
            jobs.send(job).map_err(|_| gone())?;
            answered.await.unwrap_or_else(|_| Err(gone()))
        }
    }

    /// Whether nothing is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.under_way.load(Ordering::SeqCst) == 0
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::block_on;

    use super::*;

    #[test]
    fn work_is_done_to_its_end_and_counted_until_then() {
        let blocking = Blocking::start(0).expect("a thread starts");
        assert_eq!(block_on(blocking.run(|| Ok(7))).expect("done"), 7);
        let (go, wait) = mpsc::channel::<()>();
        let mut dropped = Box::pin(blocking.run(move || wait.recv().map_err(io::Error::other)));
        assert!(block_on(futures_lite::future::poll_once(&mut dropped)).is_none());
        drop(dropped);
        assert!(!blocking.is_idle(), "it goes on");
        go.send(()).expect("the work waits");
        assert_eq!(
            block_on(blocking.run(|| Ok(8))).expect("done"),
            8,
            "after the first"
        );
        wait_until_idle(&blocking);
    }

    /// The count follows the answer by a moment, and does so also where the work has panicked.
    fn wait_until_idle(blocking: &Blocking) {
        while !blocking.is_idle() {
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_panic_there_is_an_error_here() {
        let blocking = Blocking::start(0).expect("a thread starts");
        let outcome: io::Result<()> = block_on(blocking.run(|| panic!("on purpose")));
        assert!(outcome.expect_err("it panicked").to_string().contains("panic"));
        assert!(block_on(blocking.run(|| Ok(()))).is_err());
        wait_until_idle(&blocking);
    }
}
