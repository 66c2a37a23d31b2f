//! The runtimes side by side with what the kernel itself can do, in one run:
//!
//! - `reads`: random reads of 4 KiB at several depths, against a plain ring.
//! - `groups`: durable writes of 64 callers, by a runtime with nothing but a log and by the whole engine, each against a plain
//!   ring that writes groups of the same sizes, alone and with about as many bytes to a table as the engine flushes.
//! - `messages`: messages between two cores that sleep, look or work, one and 64 at a time, against two threads with an
//!   eventfd and two plain rings.
//! - `sends`: sends over loopback from a plain ring, with and without a copy.
//! - `beside`: the foreground beside a background that wants the whole core and the device.
//!
//! `cargo bench -p corelane --bench runtimes`. `CORELANE_BENCH_ONLY` names those to measure, with commas between;
//! `CORELANE_BENCH_SECONDS` is how long each measurement takes; `CORELANE_BENCH_DIR` says where files are made (1 GiB, removed
//! at the end); `CORELANE_BENCH_JSON` names a file that everything is stored in, with its histograms. Contenders take turns,
//! [`ROUNDS`] times, so that a slow moment of the machine hits all of them; the median round is told, with the latencies of all.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::disallowed_methods,
    reason = "a bench fails by panicking, computes with small figures, and measures from outside the seam"
)]

#[path = "runtimes/beside.rs"]
mod beside;
#[path = "runtimes/callers.rs"]
mod callers;
#[path = "runtimes/groups.rs"]
mod groups;
#[path = "runtimes/latencies.rs"]
mod latencies;
#[path = "runtimes/log.rs"]
mod log;
#[path = "runtimes/messages.rs"]
mod messages;
#[path = "runtimes/pinned.rs"]
mod pinned;
#[path = "runtimes/raw.rs"]
mod raw;
#[path = "runtimes/raw_writes.rs"]
mod raw_writes;
#[path = "runtimes/reads.rs"]
mod reads;
#[path = "runtimes/rings.rs"]
mod rings;
#[path = "runtimes/sends.rs"]
mod sends;
#[path = "runtimes/store.rs"]
mod store;

use std::cell::RefCell;
use std::future::Future;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use corelane::io::cores::{StartOptions, available_cores};
use corelane::io::runtime::Runtime;
use corelane::io::{Io, glommio, uring};

use beside::Background;
use groups::Groups;
use latencies::{Latencies, Row, table};
use messages::Meanwhile;
use raw::Meanwhile::{Computes as RingComputes, Looks, Sleeps};
use raw_writes::Table;
use rings::By;
use store::Store;

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

/// Who measures, and how.
type Contender<'a> = (&'a str, &'a dyn Fn() -> Latencies);

/// The run: how long each measurement takes, where files are, and what was measured.
struct Run {
    length: Duration,
    dir: PathBuf,
    file: PathBuf,
    store: Store,
}

impl Run {
    /// Lets the contenders measure in turns, and tells of each the median rate and all its latencies.
    fn in_turns(&mut self, title: &str, contenders: &[Contender<'_>]) {
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
        let rows = names.zip(rates).zip(all).map(|((name, mut rates), all)| {
            rates.sort_by(f64::total_cmp);
            let rate = rates[rates.len() / 2];
            Row { name, rate, all }
        });
        let rows: Vec<Row> = rows.collect();
        table(title, &rows);
        self.store.add(title, &rows);
    }

    fn reads(&mut self) {
        let (path, length) = (self.file.clone(), self.length);
        for depth in [1, 32, 128] {
            let on = |runtime| reads::reads(runtime, &path, depth, length);
            self.in_turns(
                &format!("random reads of 4 KiB, depth {depth}"),
                &[
                    ("plain ring", &|| raw::reads(&path, depth, 0, Sleeps, length)),
                    ("uring", &|| on(Runtime::Uring)),
                    ("glommio", &|| on(Runtime::Glommio)),
                ],
            );
        }
    }

    fn groups(&mut self) {
        let (dir, length) = (self.dir.clone(), self.length);
        for runtime in [Runtime::Uring, Runtime::Glommio] {
            self.writes(&format!("{runtime}, log alone"), Table::None, &|| {
                log::alone(runtime, &dir, length)
            });
            self.writes(&format!("{runtime}, engine"), Table::Beside, &|| {
                groups::engine(runtime, &dir, length)
            });
        }
    }

    /// Durable writes against the plain loop that writes their groups, and a table if they come to be in one.
    fn writes(&mut self, who: &str, table: Table, measure: &dyn Fn() -> (Latencies, Groups)) {
        let (dir, length) = (self.dir.clone(), self.length);
        // The plain loop comes first, and needs groups of a run before: this once it is not measured.
        let (_, first) = measure();
        println!("\ngroups: {}", first.words());
        let sizes: RefCell<Groups> = RefCell::new(first);
        let writes = || {
            let (measured, groups) = measure();
            sizes.replace(groups);
            measured
        };
        let plain = |table| raw_writes::groups(&dir, &sizes.borrow(), table, length);
        let (alone, beside) = (|| plain(Table::None), || plain(Table::Beside));
        let mut contenders: Vec<Contender<'_>> = vec![("plain ring, same groups", &alone)];
        if table == Table::Beside {
            contenders.push(("plain ring, and a table's writes", &beside));
        }
        contenders.push(("64 callers", &writes));
        self.in_turns(&format!("durable writes of 64 callers, {who}"), &contenders);
    }

    fn messages(&mut self) {
        let (cores, length) = (available_cores(), self.length);
        let pair = [cores[0], cores[cores.len() - 1]];
        for (what, meanwhile) in [
            ("asleep", Meanwhile::Sleep),
            ("that look for 20 us", Meanwhile::Look(20)),
            ("at work", Meanwhile::Work),
        ] {
            for batch in [1, 64] {
                let on = |runtime| messages::there_and_back(runtime, &pair, meanwhile, batch, length);
                self.in_turns(
                    &format!("{batch} messages there and back, between cores {what}"),
                    &[
                        ("eventfd, 2 threads", &|| messages::eventfd(length)),
                        ("2 rings, eventfd", &|| rings::there_and_back(By::Eventfd, length)),
                        ("2 rings, message", &|| rings::there_and_back(By::Message, length)),
                        ("uring", &|| on(Runtime::Uring)),
                        ("glommio", &|| on(Runtime::Glommio)),
                    ],
                );
            }
        }
    }

    fn sends(&mut self) {
        let length = self.length;
        for kib in [16, 64, 256, 1024] {
            let by = |how| sends::sends(how, kib << 10, length);
            self.in_turns(
                &format!("sends of {kib} KiB over loopback"),
                &[
                    ("copied", &|| by(sends::Send::Copied)),
                    ("zero-copy", &|| by(sends::Send::ZeroCopy)),
                ],
            );
        }
    }

    fn beside(&mut self) {
        use Background::{Computes, ComputesAndReads, Nothing};
        let (path, length) = (self.file.clone(), self.length);
        for runtime in [Runtime::Uring, Runtime::Glommio] {
            let cached = |background| beside::cached_reads(runtime, &path, background, length);
            let device = |background| beside::device_reads(runtime, &path, background, length);
            self.in_turns(
                &format!("a read of 4 KiB from memory every 100 us, {runtime}"),
                &[
                    ("plain ring beside 4 long reads", &|| {
                        beside::plain_cached_reads(&path, length)
                    }),
                    ("alone", &|| cached(Nothing)),
                    ("beside computing", &|| cached(Computes)),
                    ("beside computing and long reads", &|| cached(ComputesAndReads)),
                ],
            );
            self.in_turns(
                &format!("reads of 4 KiB from the device, one at a time, {runtime}"),
                &[
                    ("plain ring alone", &|| raw::reads(&path, 1, 0, Sleeps, length)),
                    ("plain ring that never sleeps", &|| {
                        raw::reads(&path, 1, 0, Looks, length)
                    }),
                    ("plain ring that computes", &|| {
                        raw::reads(&path, 1, 0, RingComputes, length)
                    }),
                    ("plain ring beside 4 long reads", &|| {
                        raw::reads(&path, 1, beside::AT_DEVICE, Sleeps, length)
                    }),
                    ("alone", &|| device(Nothing)),
                    ("beside computing", &|| device(Computes)),
                    ("beside computing and long reads", &|| device(ComputesAndReads)),
                ],
            );
        }
    }
}

/// A file of random bytes in `dir`.
fn test_file(dir: &Path) -> PathBuf {
    let path = dir.join("file");
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
    path
}

fn main() {
    let seconds = std::env::var("CORELANE_BENCH_SECONDS").map_or(2.0, |text| text.parse().unwrap());
    let only = std::env::var("CORELANE_BENCH_ONLY").unwrap_or_default();
    let wanted = |what: &str| only.is_empty() || only.split(',').any(|word| word == what);
    let runtime = uring::probe().map_or_else(|e| e.to_string(), |ability| ability.to_string());
    println!("{runtime}");
    let dir = std::env::var("CORELANE_BENCH_DIR").unwrap_or_else(|_| env!("CARGO_TARGET_TMPDIR").to_owned());
    let dir = tempfile::tempdir_in(dir).unwrap();
    let needs_file = wanted("reads") || wanted("beside");
    let mut run = Run {
        length: Duration::from_secs_f64(seconds),
        file: if needs_file {
            test_file(dir.path())
        } else {
            PathBuf::new()
        },
        dir: dir.path().to_owned(),
        store: Store::new(&runtime, seconds),
    };
    if wanted("reads") {
        run.reads();
    }
    if wanted("groups") {
        run.groups();
    }
    if wanted("messages") {
        run.messages();
    }
    if wanted("sends") {
        run.sends();
    }
    if wanted("beside") {
        run.beside();
    }
    run.store.write();
}
