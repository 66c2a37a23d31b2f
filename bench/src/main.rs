//! The `corelane-bench` binary.

use std::process::ExitCode;

use clap::Parser;
use corelane_bench::cli::{self, Cli};

fn main() -> ExitCode {
    match cli::main(Cli::parse()) {
        Ok(words) => {
            println!("{words}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("corelane-bench: {error}");
            ExitCode::FAILURE
        }
    }
}
