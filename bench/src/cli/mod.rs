//! The command line: what can be asked for, and who does it.

mod args;
mod compare;
mod measure;

use clap::{Parser, Subcommand};

use crate::device::{self, Stop};
use crate::error::BenchError;
use crate::fio;
use crate::hostile;
use crate::servers;
use crate::soak;

/// Measures storage engines, the device under them, and both beside each other.
#[derive(Debug, Parser)]
#[command(name = "corelane-bench", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the bench can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Measures engines on a workload: a preset of YCSB (`a` to `f`) or db_bench, or a TOML spec of your own.
    Run(args::Run),
    /// Finds the highest rate at which an engine meets a latency target.
    Sweep(args::Sweep),
    /// Runs the collection that the README's tables are made of.
    Suite(args::Suite),
    /// Says whether one stored run is faster than another, or two engines of one run.
    Compare(args::Compare),
    /// Makes the HTML report, tables and markdown of stored runs.
    Report(args::Report),
    /// Measures the raw device with a plain io_uring loop.
    Device(device::command::DeviceArgs),
    /// Runs fio's profiles of the same patterns, and says whether fio and the plain loop agree.
    Fio(fio::command::FioArgs),
    /// Measures our server beside Redis, by redis-benchmark.
    Servers(servers::command::ServersArgs),
    /// Measures what hostile clients cost the polite ones of our server.
    Hostile(hostile::command::HostileArgs),
    /// The hostile clients themselves, a process of their own; started by `hostile`.
    #[command(hide = true)]
    HostileClients(hostile::clients::ClientsArgs),
    /// Loads our server with clients of every sort, and counts what it still holds when they have gone.
    Soak(soak::command::SoakArgs),
    /// Lists the presets.
    Presets,
}

/// Does it; what is returned goes to standard output.
///
/// # Errors
/// In words that say what to do.
pub fn main(cli: Cli) -> Result<String, BenchError> {
    let stop = Stop::on_ctrl_c()?;
    match cli.command {
        Command::Run(args) => measure::run(&args, &stop),
        Command::Sweep(args) => measure::sweep(&args, &stop),
        Command::Suite(args) => measure::suite(&args, &stop),
        Command::Compare(args) => compare::compare(&args),
        Command::Report(args) => compare::report(&args),
        Command::Device(args) => device::command::command(&args, &stop),
        Command::Fio(args) => fio::command::command(&args, &stop),
        Command::Servers(args) => servers::command::command(&args, &stop),
        Command::Hostile(args) => hostile::command::command(&args, &stop),
        Command::HostileClients(args) => hostile::clients::command(&args),
        Command::Soak(args) => soak::command::command(&args, &stop),
        Command::Presets => Ok(args::presets()),
    }
}
