//! Tasks of one core that each do one thing after the other, and what these took.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use corelane::io::{Class, Io};

use crate::latencies::{Latencies, thread_cpu};

/// Runs so many tasks for `length`; `make` gives each what it does, by its number.
pub async fn run<I: Io, O: AsyncFnMut() + 'static>(
    io: &I,
    callers: usize,
    length: Duration,
    make: impl Fn(usize) -> O,
) -> Latencies {
    let (each, running) = (Rc::new(RefCell::new(Vec::new())), Rc::new(Cell::new(callers)));
    let (all_ended, ends) = oneshot::async_channel();
    let all_ended = Rc::new(Cell::new(Some(all_ended)));
    let (cpu, start) = (thread_cpu(), Instant::now());
    for caller in 0..callers {
        let (each, running, all_ended) = (Rc::clone(&each), Rc::clone(&running), Rc::clone(&all_ended));
        let mut operation = make(caller);
        io.spawn(Class::Foreground, async move {
            let mut begun = start;
            while begun - start < length {
                operation().await;
                // The clock is looked at once an operation: it takes as long as some of what is measured.
                let ended = Instant::now();
                each.borrow_mut().push((ended - begun).as_nanos() as u32);
                begun = ended;
            }
            running.set(running.get() - 1);
            if running.get() == 0 {
                all_ended.take().unwrap().send(()).unwrap();
            }
        });
    }
    // Not by looking now and then: a timer costs the processor some microseconds at each sleep, which the plain ring has none of.
    ends.await.unwrap();
    Latencies {
        each: each.take(),
        took: start.elapsed(),
        cpu: thread_cpu() - cpu,
        ..Latencies::default()
    }
}
