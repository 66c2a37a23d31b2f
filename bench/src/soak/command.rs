//! `corelane-bench soak`: start, load, quiet, verdict.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::Ordering;
use std::thread::sleep;
use std::time::{Duration, Instant};

use clap::Args;
use redis::Connection;
use serde::{Deserialize, Serialize};

use crate::cost::proc::Usage;
use crate::device::command::progress;
use crate::device::stop::Stop;
use crate::error::BenchError;
use crate::result::Environment;
use crate::servers::peer::{Peer, free_port};
use crate::soak::act::{BIG_BYTES, BIG_KEY, Manner};
use crate::soak::counts::{Counts, grown};
use crate::soak::model::Model;
use crate::soak::polite::{Polite, connect};
use crate::soak::rude::Rude;

/// Between two looks at the clock, and at what the server holds.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// So many looks in a row at which nothing changes say that the server has come to rest after its start.
const LOOKS_AT_REST: u32 = 5;
/// A server that has not come to rest by then has no rest: after its start it writes segments of its logs, after a load merges
/// may have to catch up, and the machine may have other work.
const REST: Duration = Duration::from_secs(120);
/// Seconds of load before all clients go and the server must come to rest, at most.
const ROUND_SECONDS: u32 = 60;
/// Small, so that memtables are flushed and tables merged all the time.
const MEMTABLE_MIB: &str = "4";
/// Smaller than the data, so that blocks are read.
const CACHE_MIB: &str = "16";

/// Loads a server with clients of every sort, and counts what it still holds when they have gone.
#[derive(Debug, Clone, Args)]
pub struct SoakArgs {
    /// A directory on the device; the server's data is written below it and removed.
    #[arg(long)]
    pub dir: PathBuf,
    /// Our server's binary.
    #[arg(long, default_value = "target/release/corelane")]
    pub corelane: PathBuf,
    /// What carries the server's cores: `uring` counts what it holds; of `glommio` only the kernel's counts are looked at.
    #[arg(long, default_value = "uring", value_parser = ["uring", "glommio"])]
    pub runtime: String,
    /// Seconds of load.
    #[arg(long, default_value_t = 1200, value_parser = clap::value_parser!(u32).range(1..=604_800))]
    pub seconds: u32,
    /// Says what each client does.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Clients that check every answer.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub polite: u64,
    /// Clients that hang up, do not read, are killed; each keeps some forty connections.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(0..=100))]
    pub rude: u64,
    /// Memory that the server may have resident, in MiB.
    #[arg(long, default_value_t = 1024)]
    pub memory_mib: u64,
    /// Where to store what was found as JSON.
    #[arg(long)]
    pub out: Option<PathBuf>,
}

/// What a soak came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Found {
    /// The machine, and what else it did.
    pub environment: Environment,
    /// What carried the server's cores.
    pub runtime: String,
    /// Commands whose answers were as they should be.
    pub answered: u64,
    /// Times that a polite client has read everything back.
    pub read_back: u64,
    /// Rude connections, by manner.
    pub rude: BTreeMap<Manner, u64>,
    /// The most memory that was resident.
    pub peak_bytes: u64,
    /// What was held before the load.
    pub before: Counts,
    /// Each round of load.
    pub rounds: Vec<Round>,
    /// What has leaked, in words; empty as it should be.
    pub leaks: Vec<String>,
}

/// A round of load, and the rest after it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Round {
    /// Seconds of load.
    pub seconds: f64,
    /// What was held at its end, while clients were there.
    pub under_load: Counts,
    /// What was held when they had gone.
    pub after: Counts,
    /// Seconds that it took until that was no more than before, or was given up.
    pub quiet_seconds: f64,
}

/// Runs it and says what was found.
///
/// # Errors
/// A wrong answer, a leak, a program that is missing or fails, `--out` that cannot be written.
pub fn command(args: &SoakArgs, stop: &Stop) -> Result<String, BenchError> {
    let work = tempfile::Builder::new()
        .prefix("corelane-soak-")
        .tempdir_in(&args.dir)
        .map_err(|e| BenchError::file("making a directory in", &args.dir, e))?;
    // As the kernel names it, in the links of its descriptors.
    let dir = work
        .path()
        .canonicalize()
        .map_err(|e| BenchError::file("resolving", work.path(), e))?;
    let found = soak(args, &dir.join("data"), stop)?;
    let text = serde_json::to_string_pretty(&found)
        .map_err(|e| BenchError::bug(format!("what was found does not become JSON: {e}")))?;
    if let Some(out) = &args.out {
        std::fs::write(out, text.clone() + "\n").map_err(|e| BenchError::file("writing", out, e))?;
    }
    if found.leaks.is_empty() {
        Ok(text)
    } else {
        eprintln!("{text}");
        Err(BenchError::wrong(format!("leaked: {}", found.leaks.join("; "))))
    }
}

fn soak(args: &SoakArgs, data: &Path, stop: &Stop) -> Result<Found, BenchError> {
    let port = free_port()?;
    let mut server = Command::new(&args.corelane);
    server
        .args(["serve", "--no-admin", "--port", &port.to_string()])
        .args(["--runtime", &args.runtime])
        .args(["--memtable-mib", MEMTABLE_MIB, "--cache-mib", CACHE_MIB])
        .arg("--data-dir")
        .arg(data);
    let peer = Peer::spawn(server, "corelane", port)?;
    let mut looks = Looks {
        connection: connect(port)?,
        pid: peer.pid(),
        data,
    };
    redis::cmd("SET")
        .arg(BIG_KEY)
        .arg(vec![b'x'; BIG_BYTES])
        .exec(&mut looks.connection)
        .map_err(|e| BenchError::engine("writing what is asked for and not read", e))?;
    let before = looks.at_rest()?;
    let (mut clients, mut rounds) = (Clients::new(args, port), Vec::new());
    let (mut leaks, mut left) = (Vec::new(), args.seconds);
    let count = args.seconds.div_ceil(ROUND_SECONDS);
    let bar = progress(count as usize, "under load");
    while left > 0 && leaks.is_empty() && !stop.asked() {
        let seconds = left.min(ROUND_SECONDS);
        let (round, leaked) = clients.round(&mut looks, &before, seconds, stop)?;
        rounds.push(round);
        leaks = leaked;
        left -= seconds;
        bar.inc(1);
    }
    bar.finish_and_clear();
    let peak_bytes = Usage::of(peer.pid())?.peak_bytes;
    leaks.extend(memory(peak_bytes, args.memory_mib, &rounds));
    Ok(Found {
        environment: Environment::here(&args.dir, "none"),
        runtime: args.runtime.clone(),
        answered: clients.polite.answered.load(Ordering::Relaxed),
        read_back: clients.polite.read_back.load(Ordering::Relaxed),
        rude: clients.done(),
        peak_bytes,
        before,
        rounds,
        leaks,
    })
}

/// What is wrong with the server's memory, in words.
fn memory(peak_bytes: u64, allowed_mib: u64, rounds: &[Round]) -> Vec<String> {
    let at_rest: Vec<u64> = rounds.iter().map(|round| round.after.resident_bytes).collect();
    let too_much = (peak_bytes > allowed_mib << 20).then(|| {
        format!(
            "memory: {} MiB were resident, and {allowed_mib} are allowed",
            peak_bytes >> 20
        )
    });
    too_much.into_iter().chain(grown(&at_rest)).collect()
}

/// All clients. They go after each round, and know in the next one what they have written.
struct Clients {
    port: u16,
    polite: Polite,
    models: Vec<Model>,
    rude: Vec<Rude>,
}

impl Clients {
    fn new(args: &SoakArgs, port: u16) -> Self {
        let seed = |client| args.seed.wrapping_mul(1000).wrapping_add(client);
        Self {
            port,
            polite: Polite::default(),
            models: (0..args.polite).map(|n| Model::new(n, seed(n))).collect(),
            rude: (0..args.rude).map(|n| Rude::new(port, seed(n))).collect(),
        }
    }

    /// Loads the server for a while, or until a polite client fails or somebody stops it; then waits until it is at rest.
    /// What has leaked since `before` comes with it, in words.
    fn round(
        &mut self,
        looks: &mut Looks<'_>,
        before: &Counts,
        seconds: u32,
        stop: &Stop,
    ) -> Result<(Round, Vec<String>), BenchError> {
        let began = Instant::now();
        let under_load = self.load(looks, began + Duration::from_secs(u64::from(seconds)), stop);
        let seconds = began.elapsed().as_secs_f64();
        // What a polite client has found says why the server may not answer any more.
        self.polite.failure().map_or(Ok(()), Err)?;
        let (under_load, gone) = (under_load?, Instant::now());
        let (after, leaks) = looks.quiet(before)?;
        let round = Round {
            seconds,
            under_load,
            after,
            quiet_seconds: gone.elapsed().as_secs_f64(),
        };
        Ok((round, leaks))
    }

    /// No client is left when it returns what the server held at the end.
    fn load(&mut self, looks: &mut Looks<'_>, end: Instant, stop: &Stop) -> Result<Counts, BenchError> {
        let (over, port, polite) = (Stop::new(), self.port, &self.polite);
        std::thread::scope(|scope| {
            let over = &over;
            for model in &mut self.models {
                scope.spawn(move || polite.run(port, model, over));
            }
            for rude in &mut self.rude {
                scope.spawn(move || rude.run(over));
            }
            while Instant::now() < end && !stop.asked() && !over.asked() {
                sleep(LOOK_AGAIN);
            }
            let under_load = looks.now();
            over.ask();
            under_load
        })
    }

    /// Rude connections, by manner.
    fn done(&self) -> BTreeMap<Manner, u64> {
        let mut all = BTreeMap::new();
        for (manner, count) in self.rude.iter().flat_map(Rude::done) {
            *all.entry(*manner).or_default() += count;
        }
        all
    }
}

/// Looks at what the server holds, over a connection that is held from before the load to after it.
struct Looks<'a> {
    connection: Connection,
    pid: u32,
    data: &'a Path,
}

impl Looks<'_> {
    fn now(&mut self) -> Result<Counts, BenchError> {
        Counts::read(&mut self.connection, self.pid, self.data)
    }

    /// What is held once nothing changes any more.
    fn at_rest(&mut self) -> Result<Counts, BenchError> {
        let (began, mut last, mut same) = (Instant::now(), self.now()?, 0);
        while same < LOOKS_AT_REST {
            if began.elapsed() > REST {
                return Err(BenchError::wrong(
                    "the server does not come to rest after its start",
                ));
            }
            sleep(LOOK_AGAIN);
            let now = self.now()?;
            let unchanged = Counts {
                resident_bytes: last.resident_bytes,
                ..now.clone()
            } == last;
            same = if unchanged && !now.transfers() {
                same + 1
            } else {
                0
            };
            last = now;
        }
        Ok(last)
    }

    /// What is held once that is no more than `before`, or [`REST`] is over; and what has leaked.
    fn quiet(&mut self, before: &Counts) -> Result<(Counts, Vec<String>), BenchError> {
        let began = Instant::now();
        loop {
            let now = self.now()?;
            let leaks = now.leaked_since(before);
            if leaks.is_empty() || began.elapsed() > REST {
                return Ok((now, leaks));
            }
            sleep(LOOK_AGAIN);
        }
    }
}
