//! The `corelane-bench` binary: honest figures of the engine, the device under it and its peers.

#![expect(
    clippy::disallowed_methods,
    reason = "the bench stands outside the engine and measures it: its own files, clock and threads go past the seam"
)]

mod corelane;
mod figures;
mod fjall;
mod machine;
mod options;
mod raw;
mod report;
mod workload;

use std::process::ExitCode;

use clap::Parser;

use crate::options::{Cli, Command};

fn main() -> ExitCode {
    let Command::Figures(flags) = Cli::parse().command;
    match flags.setup().and_then(|setup| figures::run(&setup)) {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("corelane-bench: {error}");
            ExitCode::FAILURE
        }
    }
}
