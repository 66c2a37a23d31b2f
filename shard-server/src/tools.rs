//! The tools that come in the same binary as the server. Each runs in a process of its own and ends with a status.

use std::process::ExitCode;

use clap::Subcommand;

use crate::console::{self, ConsoleFlags};
use crate::doctor::{self, DoctorFlags};

/// Which tool, and how.
#[derive(Debug, Subcommand)]
pub enum Tool {
    /// Talk to a running server, in the manner of redis-cli.
    Cli(ConsoleFlags),
    /// Look at this machine and say what hurts, why, and what mends it. Takes the flags of serve.
    Doctor(Box<DoctorFlags>),
}

impl Tool {
    /// Runs it; the status to end with.
    pub fn run(self) -> ExitCode {
        match self {
            Self::Cli(flags) => console::run(flags),
            Self::Doctor(flags) => doctor::run(&flags),
        }
    }
}
