//! `corelane-bench servers`: our server beside Redis, by `redis-benchmark`.

use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;
use comfy_table::{Table, presets};
use corelane::api::Runtime;
use serde::{Deserialize, Serialize};

use crate::device::command::progress;
use crate::device::stop::Stop;
use crate::error::{BenchError, Kind};
use crate::servers::client::{self, Ask, Told};
use crate::servers::peer::{Peer, Programs};
use crate::servers::plan::{self, Server, Work};

/// Requests that tell how many a measured run needs.
const PROBE_REQUESTS: u64 = 20_000;

/// Measures our server beside Redis with Redis's own client: rate, latency, processor time per operation.
#[derive(Debug, Clone, Args)]
pub struct ServersArgs {
    /// A directory on the device; each server's data is written below it and removed.
    #[arg(long)]
    pub dir: PathBuf,
    /// Our server's binary, of a release build.
    #[arg(long, default_value = "target/release/corelane")]
    pub corelane: PathBuf,
    /// What carries our server's cores: auto, uring, glommio.
    #[arg(long, default_value_t = Runtime::Auto)]
    pub runtime: Runtime,
    /// Redis's server.
    #[arg(long, default_value = "redis-server")]
    pub redis: PathBuf,
    /// Cores that the servers get, run after run.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2])]
    pub cores: Vec<usize>,
    /// Clients at once.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub clients: u32,
    /// Keys to choose from.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub keys: u64,
    /// Bytes of each value.
    #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    pub value_bytes: u32,
    /// Seconds of each run, about.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=600))]
    pub seconds: u32,
    /// Runs of each row and server; the median is shown.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,
    /// Where to store the figures as JSON.
    #[arg(long)]
    pub out: Option<PathBuf>,
}

/// What one server came to in one run of one row.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// Which server.
    pub server: Server,
    /// What it did.
    pub work: Work,
    /// Requests a second.
    pub rate: f64,
    /// Median latency in µs.
    pub p50_us: f64,
    /// 99th percentile in µs.
    pub p99_us: f64,
    /// 99.9th percentile in µs.
    pub p999_us: f64,
    /// Processor seconds that the server took for a million requests.
    pub cpu_s_per_million: f64,
}

/// Runs all and gives the table.
///
/// # Errors
/// A program is missing or fails; `--out` cannot be written.
pub fn command(args: &ServersArgs, stop: &Stop) -> Result<String, BenchError> {
    let work = tempfile::Builder::new()
        .prefix("corelane-servers-")
        .tempdir_in(&args.dir)
        .map_err(|e| BenchError::file("making a directory in", &args.dir, e))?;
    let runs: usize = args
        .cores
        .iter()
        .map(|&cores| plan::servers(cores).len() * plan::works(cores).len())
        .sum();
    let bar = progress(runs * args.rounds as usize, "starting");
    let mut figures = Vec::new();
    for round in 0..args.rounds {
        for &cores in &args.cores {
            for server in plan::servers(cores) {
                bar.set_message(format!("round {}, {} on {cores}", round + 1, server.name()));
                let dir = work.path().join(format!("{round}-{cores}-{server:?}"));
                figures.extend(measure(args, server, cores, &dir, stop, &mut || bar.inc(1))?);
            }
        }
    }
    bar.finish_and_clear();
    if let Some(out) = &args.out {
        store(out, &figures)?;
    }
    Ok(show(args, &figures, stop.asked()))
}

/// One server, its rows in turn over the data of the first of them.
fn measure(
    args: &ServersArgs,
    server: Server,
    cores: usize,
    dir: &Path,
    stop: &Stop,
    done: &mut dyn FnMut(),
) -> Result<Vec<Figure>, BenchError> {
    std::fs::create_dir(dir).map_err(|e| BenchError::file("making", dir, e))?;
    let programs = Programs {
        corelane: &args.corelane,
        runtime: args.runtime,
        redis: &args.redis,
    };
    let peer = Peer::start(server, programs, dir, cores)?;
    let mut figures = Vec::new();
    for work in plan::works(cores) {
        if stop.asked() {
            break;
        }
        let mut ask = Ask {
            port: peer.port,
            cluster: server == Server::CorelanePortPerCore,
            test: work.test(),
            clients: args.clients,
            pipeline: work.pipeline,
            requests: PROBE_REQUESTS,
            keys: args.keys,
            value_bytes: args.value_bytes,
        };
        let probed = drive(&ask, cores)?;
        ask.requests = requests(probed.rate, args.seconds, args.keys);
        let before = peer.cpu_seconds()?;
        let told = drive(&ask, cores)?;
        let cpu_seconds = peer.cpu_seconds()? - before;
        figures.push(figure(server, work, told, cpu_seconds, ask.requests));
        done();
    }
    drop(peer);
    std::fs::remove_dir_all(dir).map_err(|e| BenchError::file("removing", dir, e))?;
    Ok(figures)
}

/// As many as take about so long, and enough that nearly every key was written before it is read.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate is positive and far below the range"
)]
fn requests(rate: f64, seconds: u32, keys: u64) -> u64 {
    ((rate * f64::from(seconds)) as u64).max(2 * keys)
}

#[expect(clippy::cast_precision_loss, reason = "a count of requests far below 2^52")]
fn figure(server: Server, work: Work, told: Told, cpu_seconds: f64, requests: u64) -> Figure {
    Figure {
        server,
        work,
        rate: told.rate,
        p50_us: told.p50_us,
        p99_us: told.p99_us,
        p999_us: told.p999_us,
        cpu_s_per_million: cpu_seconds / requests as f64 * 1e6,
    }
}

/// Runs redis-benchmark on the cores that the server left, or on all where it left none.
fn drive(ask: &Ask<'_>, server_cores: usize) -> Result<Told, BenchError> {
    let all = core_affinity::get_core_ids().unwrap_or_default().len();
    let mut command = Command::new("taskset");
    let first = if server_cores < all { server_cores } else { 0 };
    command.args(["-c", &format!("{first}-{}", all.saturating_sub(1))]);
    let ran = command
        .arg("redis-benchmark")
        .args(ask.arguments())
        .output()
        .map_err(|e| BenchError::new(Kind::Machine, format!("starting taskset (util-linux): {e}")))?;
    let mut said = String::from_utf8_lossy(&ran.stdout).into_owned();
    if !ran.status.success() {
        said += &String::from_utf8_lossy(&ran.stderr);
    }
    client::read(&said)
}

fn store(out: &Path, figures: &[Figure]) -> Result<(), BenchError> {
    let text = serde_json::to_string_pretty(figures)
        .map_err(|e| BenchError::bug(format!("figures do not become JSON: {e}")))?;
    std::fs::write(out, text + "\n").map_err(|e| BenchError::file("writing", out, e))
}

fn show(args: &ServersArgs, figures: &[Figure], interrupted: bool) -> String {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header([
        "work",
        "server",
        "/s",
        "p50 µs",
        "p99 µs",
        "p99.9 µs",
        "CPU s per million",
    ]);
    for (work, server) in rows(figures) {
        let of = |value: fn(&Figure) -> f64| {
            let runs = figures.iter().filter(|f| f.work == work && f.server == server);
            median(runs.map(value).collect())
        };
        table.add_row([
            work.name(),
            server.name().to_owned(),
            format!("{:.0}", of(|f| f.rate)),
            format!("{:.0}", of(|f| f.p50_us)),
            format!("{:.0}", of(|f| f.p99_us)),
            format!("{:.0}", of(|f| f.p999_us)),
            format!("{:.2}", of(|f| f.cpu_s_per_million)),
        ]);
    }
    let mut text = format!(
        "{} clients, {} keys, values of {} bytes, medians of {} rounds; on all cores the client shares them\n{table}\n",
        args.clients, args.keys, args.value_bytes, args.rounds
    );
    if interrupted {
        text += "interrupted: not every row was measured in every round\n";
    }
    text
}

/// Every row once, in the order of its first figure.
fn rows(figures: &[Figure]) -> Vec<(Work, Server)> {
    let mut rows: Vec<(Work, Server)> = Vec::new();
    for figure in figures {
        let row = (figure.work, figure.server);
        if !rows.contains(&row) {
            rows.push(row);
        }
    }
    // Work by work, so that what is compared stands together; the sort keeps the servers' order.
    rows.sort_by_key(|(work, _)| (work.cores, !work.set, work.pipeline));
    rows
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure_of(server: Server, rate: f64) -> Figure {
        let [work, ..] = plan::works(1)[..] else {
            unreachable!("there are rows")
        };
        let told = Told {
            rate,
            p50_us: 1.0,
            p99_us: 2.0,
            p999_us: 3.0,
        };
        figure(server, work, told, 2.0, 500_000)
    }

    #[test]
    fn processor_time_is_told_for_a_million_requests() {
        assert_eq!(figure_of(Server::Redis, 1.0).cpu_s_per_million, 4.0);
    }

    #[test]
    fn a_row_is_the_median_of_its_rounds_and_servers_stand_together() {
        let figures: Vec<_> = [5.0, 1.0, 3.0]
            .into_iter()
            .flat_map(|rate| {
                [
                    figure_of(Server::Redis, rate),
                    figure_of(Server::Corelane, 10.0 * rate),
                ]
            })
            .collect();
        assert_eq!(rows(&figures).len(), 2);
        let rates = figures
            .iter()
            .filter(|f| f.server == Server::Corelane)
            .map(|f| f.rate);
        assert_eq!(median(rates.collect()), 30.0);
    }

    #[test]
    fn a_run_is_long_enough_to_have_met_the_keys() {
        assert_eq!(requests(100.0, 4, 1000), 2000);
        assert_eq!(requests(1000.0, 4, 1000), 4000);
    }
}
