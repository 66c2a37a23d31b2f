//! Random reads by tasks of one core: as many tasks as reads under way.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use corelane::io::cores::available_cores;
use corelane::io::runtime::Runtime;
use corelane::io::{Class, File, Io, OpenOptions};

use crate::latencies::{Latencies, thread_cpu};
use crate::{FILE_BYTES, Job, run_on};

/// The offset of a random page.
pub fn next_page(state: &mut u64, file_bytes: u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state % (file_bytes / 4096) * 4096
}

struct Reads {
    path: PathBuf,
    depth: usize,
    length: Duration,
    measured: Arc<Mutex<Latencies>>,
}

impl Job for Reads {
    fn run<I: Io>(self: Arc<Self>, _core: usize, io: I) -> impl Future<Output = ()> + 'static {
        let (path, depth, length) = (self.path.clone(), self.depth, self.length);
        let measured = Arc::clone(&self.measured);
        async move {
            let file = io.open(&path, OpenOptions::READ).await.unwrap();
            let each = Rc::new(RefCell::new(Vec::new()));
            let (all_ended, ends) = oneshot::async_channel();
            let (running, all_ended) = (Rc::new(Cell::new(depth)), Rc::new(Cell::new(Some(all_ended))));
            let (cpu, start) = (thread_cpu(), Instant::now());
            for task in 0..depth {
                let (file, each, running) = (file.clone(), Rc::clone(&each), Rc::clone(&running));
                let all_ended = Rc::clone(&all_ended);
                io.spawn(Class::Foreground, async move {
                    let mut state = task as u64 + 1;
                    for _ in 0..10 {
                        next_page(&mut state, FILE_BYTES);
                    }
                    while start.elapsed() < length {
                        let begun = Instant::now();
                        let read = file
                            .read_at(next_page(&mut state, FILE_BYTES), 4096)
                            .await
                            .unwrap();
                        assert_eq!(read.len(), 4096);
                        each.borrow_mut().push(begun.elapsed().as_nanos() as u32);
                    }
                    running.set(running.get() - 1);
                    if running.get() == 0 {
                        all_ended.take().unwrap().send(()).unwrap();
                    }
                });
            }
            // Not by looking now and then: a timer costs the processor some microseconds at each sleep, which the plain ring has none of.
            ends.await.unwrap();
            *measured.lock().unwrap() = Latencies {
                each: each.take(),
                took: start.elapsed(),
                cpu: thread_cpu() - cpu,
                ..Latencies::default()
            };
            file.close().await.unwrap();
        }
    }
}

/// Reads random pages, `depth` at a time, for `length`.
pub fn reads(runtime: Runtime, path: &Path, depth: usize, length: Duration) -> Latencies {
    let measured = Arc::default();
    let job = Reads {
        path: path.to_owned(),
        depth,
        length,
        measured: Arc::clone(&measured),
    };
    run_on(runtime, &[available_cores()[0]], 0, job);
    std::mem::take(&mut *measured.lock().unwrap())
}
