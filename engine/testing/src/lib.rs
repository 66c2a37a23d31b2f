//! What the tests of the engine, and of what stands on it, share: a database on the simulator, small enough that every mechanism is met in seconds.
//!
//! It is a package, not a module of each test, so that the engine is compiled for the simulator once, here, and not anew in
//! every test: a test finds what it needs of the engine's generic code in this library.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use corelane::Result;
use corelane::api::{Db, Options, Runtime, launch};
use corelane::io::sim::SimMachine;
use corelane::io::{Class, Io};

/// What a real database runs on.
pub const RUNTIMES: [Runtime; 2] = [Runtime::Glommio, Runtime::Uring];

/// Where a simulated database lives.
pub const DIR: &str = "/db";

/// Options under which memtables, segments and tables are so small that a few hundred writes rotate, flush and merge.
pub fn small(cores: usize, shards: u16) -> Options {
    let mut options = Options::new((0..cores).collect());
    options.shape.shards = Some(shards);
    options.cache_bytes = 1 << 20;
    options.tuning.memtable_bytes = 64 << 10;
    options.tuning.segment_bytes = 64 << 10;
    options.tuning.buffered_bytes = 4 << 10;
    options.tuning.staged_bytes = 256 << 10;
    options.tuning.table_bytes = 64 << 10;
    options.tuning.manifest_bytes = 64 << 10;
    options
}

/// Runs each of the first `seeds` seeds, or as many as `CORELANE_SEEDS` says, or the one that `CORELANE_SEED` names. One that
/// panics is named, so that it can be replayed.
pub fn each_seed(seeds: u64, run: impl Fn(u64)) {
    let env = |name| {
        std::env::var(name)
            .ok()
            .map(|text| text.parse::<u64>().expect("a number"))
    };
    let seeds = match env("CORELANE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..env("CORELANE_SEEDS").unwrap_or(seeds),
    };
    for seed in seeds {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(seed))) {
            eprintln!("replay with CORELANE_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

/// Opens a database on a simulated machine's cores. This is where the engine is compiled for the simulator.
///
/// # Errors
/// The engine's.
pub async fn open(machine: &SimMachine, options: Options) -> Result<Db> {
    let (db, seats) = launch(Path::new(DIR), options)?;
    for (core, seat) in seats.into_iter().enumerate() {
        let io = machine.core(core);
        io.clone().spawn(Class::Foreground, seat.run(io, ()));
    }
    db.ready().await?;
    Ok(db)
}

/// Runs `work` on one runtime after the other; one that hangs fails its test.
pub fn on_each_runtime(work: fn(Runtime)) {
    for runtime in RUNTIMES {
        println!("on {runtime}");
        within_a_minute(move || work(runtime));
    }
}

/// Fails a test that hangs instead of hanging with it; the bound is far beyond what the work takes.
#[expect(clippy::disallowed_methods, reason = "it is for tests about real threads")]
pub fn within_a_minute(work: impl FnOnce() + Send + 'static) {
    let (done, wait) = mpsc::channel();
    let worker = std::thread::spawn(move || {
        let outcome = catch_unwind(AssertUnwindSafe(work));
        done.send(()).expect("the test waits");
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
    });
    wait.recv_timeout(Duration::from_secs(60))
        .expect("somebody still waits after a minute");
    if let Err(panic) = worker.join() {
        std::panic::resume_unwind(panic);
    }
}
