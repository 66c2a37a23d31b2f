//! The `corelane` server binary: flags in, exit status out.

use std::process::ExitCode;

use clap::Parser as _;
use corelane_server::options::Cli;
use corelane_server::serve::serve;

fn main() -> ExitCode {
    match Cli::parse().options().and_then(serve) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("corelane: {why}");
            ExitCode::FAILURE
        }
    }
}
