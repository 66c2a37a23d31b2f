//! Random reads by tasks of one core: as many tasks as reads under way.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use corelane::io::cores::available_cores;
use corelane::io::runtime::Runtime;
use corelane::io::{File, Io, OpenOptions};

use crate::latencies::Latencies;
use crate::{FILE_BYTES, Job, callers, run_on};

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
            let latencies = callers::run(&io, depth, length, |task| {
                let (file, mut state) = (file.clone(), task as u64 + 1);
                for _ in 0..10 {
                    next_page(&mut state, FILE_BYTES);
                }
                async move || {
                    let position = next_page(&mut state, FILE_BYTES);
                    assert_eq!(file.read_at(position, 4096).await.unwrap().len(), 4096);
                }
            });
            *measured.lock().unwrap() = latencies.await;
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
