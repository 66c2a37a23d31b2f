//! The runtimes side by side with what the kernel itself can do, in one run: random reads of 4 KiB at several depths
//! against a plain ring, and messages between two cores against two threads and an eventfd.
//!
//! `cargo bench -p corelane --bench runtimes`; `CORELANE_BENCH_DIR` says where the file is made (1 GiB, removed at the end),
//! `CORELANE_BENCH_SECONDS` how long each measurement takes. Contenders take turns, [`ROUNDS`] times, so that a slow moment
//! of the machine hits all of them; the median round is told, with the latencies of all.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::disallowed_methods,
    reason = "a bench fails by panicking, computes with small figures, and measures from outside the seam"
)]

#[path = "runtimes/latencies.rs"]
mod latencies;
#[path = "runtimes/messages.rs"]
mod messages;
#[path = "runtimes/raw.rs"]
mod raw;
#[path = "runtimes/reads.rs"]
mod reads;

use std::future::Future;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use corelane::io::cores::{StartOptions, available_cores};
use corelane::io::runtime::Runtime;
use corelane::io::{Io, glommio, uring};

use latencies::{Latencies, table};

const ROUNDS: usize = 3;
const FILE_BYTES: u64 = 1 << 30;

/// What runs on each core, on any runtime.
trait Job: Send + Sync + 'static {
    fn run<I: Io>(self: Arc<Self>, core: usize, io: I) -> impl Future<Output = ()> + 'static;
}

/// Runs a job on cores of a runtime, to its end.
fn run_on(runtime: Runtime, cores: &[usize], spin_us: u64, job: impl Job) {
    let options = StartOptions {
        spin_before_park_us: spin_us,
        ..StartOptions::default()
    };
    let job = Arc::new(job);
    let started = match runtime {
        Runtime::Uring => uring::start(cores, options, move |core, io| Arc::clone(&job).run(core, io)),
        _ => glommio::start(cores, options, move |core, io| Arc::clone(&job).run(core, io)),
    };
    for thread in started.expect("the runtime starts here") {
        thread.join().expect("no panic");
    }
}

/// Lets the contenders measure in turns, and tells of each its name, the median rate and all its latencies.
fn in_turns(contenders: &[(&str, &dyn Fn() -> Latencies)]) -> Vec<(String, f64, Latencies)> {
    let mut rates = vec![Vec::new(); contenders.len()];
    let mut all: Vec<Latencies> = contenders.iter().map(|_| Latencies::default()).collect();
    for _ in 0..ROUNDS {
        for (place, (_, measure)) in contenders.iter().enumerate() {
            let measured = measure();
            rates[place].push(measured.rate());
            all[place].add(measured);
        }
    }
    let names = contenders.iter().map(|(name, _)| (*name).to_owned());
    names
        .zip(rates)
        .zip(all)
        .map(|((name, mut rates), latencies)| {
            rates.sort_by(f64::total_cmp);
            (name, rates[rates.len() / 2], latencies)
        })
        .collect()
}

fn test_file() -> (tempfile::TempDir, PathBuf) {
    let dir = std::env::var("CORELANE_BENCH_DIR").unwrap_or_else(|_| env!("CARGO_TARGET_TMPDIR").to_owned());
    let dir = tempfile::tempdir_in(dir).unwrap();
    let path = dir.path().join("file");
    let mut file = std::fs::File::create(&path).unwrap();
    let mut state = 1_u64;
    let mut piece = vec![0; 1 << 20];
    for _ in 0..FILE_BYTES >> 20 {
        for word in piece.chunks_exact_mut(8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            word.copy_from_slice(&state.to_le_bytes());
        }
        file.write_all(&piece).unwrap();
    }
    file.sync_all().unwrap();
    (dir, path)
}

fn main() {
    let seconds = std::env::var("CORELANE_BENCH_SECONDS");
    let length = Duration::from_secs_f64(seconds.map_or(2.0, |text| text.parse().unwrap()));
    let cores = available_cores();
    println!(
        "{}",
        uring::probe().map_or_else(|e| e.to_string(), |ability| ability.to_string())
    );
    let (_dir, path) = test_file();
    for depth in [1, 32, 128] {
        let measured = in_turns(&[
            ("plain ring", &|| raw::reads(&path, depth, length)),
            ("uring", &|| reads::reads(Runtime::Uring, &path, depth, length)),
            ("glommio", &|| {
                reads::reads(Runtime::Glommio, &path, depth, length)
            }),
        ]);
        table(&format!("random reads of 4 KiB, depth {depth}"), &measured);
    }
    let pair = [cores[0], cores[cores.len() - 1]];
    for (spin_us, batch) in [(0, 1), (20, 1), (0, 64), (20, 64)] {
        let measured = in_turns(&[
            ("eventfd, 2 threads", &|| messages::eventfd(length)),
            ("uring", &|| {
                messages::there_and_back(Runtime::Uring, &pair, spin_us, batch, length)
            }),
            ("glommio", &|| {
                messages::there_and_back(Runtime::Glommio, &pair, spin_us, batch, length)
            }),
        ]);
        table(
            &format!("{batch} messages there and back, spin {spin_us} us"),
            &measured,
        );
    }
}
