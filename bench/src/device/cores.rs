//! Threads pinned on cores, begun together once every one of them is ready.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::cost::proc::Usage;
use crate::error::{BenchError, Kind};

/// Runs `threads` threads, thread `n` pinned on the `n`-th core that this process may run on, from the first again after
/// the last. Each makes its tools by `make`; when all have, each runs them by `run`. Gives what each found, in order,
/// and the processor seconds of the whole process from the common begin to the last's end.
///
/// # Errors
/// The first that a thread met; if one cannot be made ready, none runs.
///
/// # Panics
/// Without threads.
pub fn on_cores<Tools, Found: Send>(
    threads: usize,
    make: impl Fn(usize) -> Result<Tools, BenchError> + Sync,
    run: impl Fn(&mut Tools) -> Result<Found, BenchError> + Sync,
) -> Result<(Vec<Found>, f64), BenchError> {
    assert!(threads > 0, "there is work");
    let machine = |words: &str| BenchError::new(Kind::Machine, words);
    let cores = core_affinity::get_core_ids()
        .filter(|cores| !cores.is_empty())
        .ok_or_else(|| machine("the cores that this process may run on are not known"))?;
    let (ready, failed) = (Barrier::new(threads + 1), AtomicBool::new(false));
    // `None`: another thread could not be made ready. That one waits at the barrier too, or the others would for ever.
    let one = |thread: usize| -> Result<Option<Found>, BenchError> {
        let tools = if core_affinity::set_for_current(cores[thread % cores.len()]) {
            make(thread)
        } else {
            Err(machine("a thread could not be pinned on its core"))
        };
        failed.fetch_or(tools.is_err(), Ordering::Relaxed);
        ready.wait();
        let mut tools = tools?;
        if failed.load(Ordering::Relaxed) {
            return Ok(None);
        }
        run(&mut tools).map(Some)
    };
    std::thread::scope(|scope| {
        let one = &one;
        let handles: Vec<_> = (0..threads)
            .map(|thread| scope.spawn(move || one(thread)))
            .collect();
        ready.wait();
        let before = Usage::now();
        let panicked = || Err(BenchError::bug("a thread of the raw loop panicked"));
        let found: Vec<_> = handles
            .into_iter()
            .map(|handle| handle.join().unwrap_or_else(|_| panicked()))
            .collect();
        let cpu_seconds = Usage::now().since(&before).cpu_seconds;
        let found: Result<Vec<_>, BenchError> = found.into_iter().filter_map(Result::transpose).collect();
        Ok((found?, cpu_seconds))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_threads_than_cores_all_run_and_keep_their_order() {
        let (found, _) = on_cores(7, Ok, |thread| Ok(*thread * 2)).unwrap();
        assert_eq!(found, [0, 2, 4, 6, 8, 10, 12]);
    }

    #[test]
    fn one_that_cannot_be_made_ready_stops_all_and_is_named() {
        let make = |thread| {
            if thread == 1 {
                Err(BenchError::bug("no tools"))
            } else {
                Ok(thread)
            }
        };
        let ran = AtomicBool::new(false);
        let run = |_: &mut usize| {
            ran.store(true, Ordering::Relaxed);
            Ok(())
        };
        assert_eq!(on_cores(3, make, run).unwrap_err(), BenchError::bug("no tools"));
        assert!(!ran.into_inner());
    }

    #[test]
    fn a_thread_that_panics_is_an_error() {
        let run = |thread: &mut usize| -> Result<(), BenchError> { panic!("thread {thread}") };
        assert!(on_cores(1, Ok, run).unwrap_err().to_string().contains("panicked"));
    }
}
