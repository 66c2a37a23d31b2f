//! The tools that come in the same binary as the server. Each runs in a process of its own and ends with a status.

use std::process::ExitCode;

use clap::Subcommand;

use crate::console::{self, ConsoleFlags};

/// Which tool, and how.
#[derive(Debug, Subcommand)]
pub enum Tool {
    /// Talk to a running server, in the manner of redis-cli.
    Cli(ConsoleFlags),
}

impl Tool {
    /// Runs it; the status to end with.
    pub fn run(self) -> ExitCode {
        match self {
            Self::Cli(flags) => console::run(flags),
        }
    }
}
