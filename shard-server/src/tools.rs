//! The tools that come in the same binary as the server. Each runs in a process of its own and ends with a status.

use std::fmt::Display;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use clap_complete::Shell;

use crate::auth::hash_secret;
use crate::console::run::complain;
use crate::console::{self, ConsoleFlags};
use crate::docs;
use crate::doctor::{self, DoctorFlags};
use crate::secret;
use crate::watch::{self, WatchFlags};

/// Which tool, and how.
#[derive(Debug, Subcommand)]
pub enum Tool {
    /// Talk to a running server, in the manner of redis-cli.
    Cli(ConsoleFlags),
    /// Look at this machine and say what hurts, why, and what mends it. Takes the flags of serve.
    Doctor(Box<DoctorFlags>),
    /// Show what a running server does.
    Stats(WatchFlags),
    /// Print completions for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Print the manual page, or write a page a command into a directory.
    Man {
        /// The directory.
        #[arg(value_name = "DIR")]
        dir: Option<PathBuf>,
    },
    /// Prepare users for the configuration.
    #[command(subcommand)]
    User(UserCommand),
}

/// What can be done for users.
#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Read a secret, unseen at a terminal or from a pipe, and print the hash to put into [[users]] as secret_hash.
    Hash,
}

/// Prints a text on standard output. A reader that has gone away, as `head` does, does not matter.
pub fn print(text: impl Display) {
    let mut out = std::io::stdout().lock();
    let _gone = write!(out, "{text}").and_then(|()| out.flush());
}

impl Tool {
    /// Runs it; the status to end with.
    pub fn run(self) -> ExitCode {
        let done = match self {
            Self::Cli(flags) => return console::run(flags),
            Self::Doctor(flags) => return doctor::run(&flags),
            Self::Stats(flags) => return watch::run(&flags),
            Self::Completions { shell } => {
                docs::completions(shell);
                Ok(())
            }
            Self::Man { dir } => docs::man(dir.as_deref()),
            Self::User(UserCommand::Hash) => secret::read("Secret: ")
                .and_then(|secret| hash_secret(&secret))
                .map(|hash| print(format_args!("{hash}\n"))),
        };
        match done {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => {
                complain(why);
                ExitCode::FAILURE
            }
        }
    }
}
