//! The command line: which of the binary's tools is wanted, with its flags as typed.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::config::flags::{ServeFlags, environment};
use crate::config::{Loaded, show};
use crate::tools::Tool;

/// A key-value server over the Corelane engine that speaks the Redis protocol.
#[derive(Debug, Parser)]
#[command(name = "corelane", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: ServeFlags,
}

/// One of the binary's tools.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the server (what happens without a subcommand, too).
    Serve(Box<ServeFlags>),
    /// Look at the configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// A tool that needs no server of its own.
    #[command(flatten)]
    Tool(Tool),
}

/// What can be done with the configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Say whether a file, together with the environment, is one the server would start with.
    Check {
        /// The file.
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Print what the server would run with, and which layer each value comes from. Takes the flags of `serve`.
    Show(Box<ServeFlags>),
    /// Print a file with every key at its default, explained.
    Default,
}

impl Cli {
    /// Which tool is wanted.
    pub fn command(self) -> Command {
        self.command
            .unwrap_or_else(|| Command::Serve(Box::new(self.serve)))
    }

    /// The flags of `serve` out of a command line without the program's name.
    ///
    /// # Errors
    /// What is wrong with them, in words; or that another tool is wanted.
    pub fn serve_flags(flags: &[&str]) -> Result<ServeFlags, String> {
        let cli =
            Self::try_parse_from(["corelane"].iter().chain(flags)).map_err(|error| error.to_string())?;
        match cli.command() {
            Command::Serve(flags) => Ok(*flags),
            Command::Config(_) | Command::Tool(_) => Err("another tool is wanted".to_owned()),
        }
    }
}

impl ConfigCommand {
    /// What it prints.
    ///
    /// # Errors
    /// Everything that is wrong with the configuration.
    pub fn run(&self) -> Result<String, String> {
        match self {
            Self::Check { file } => {
                Loaded::load(file.as_deref(), environment(), Vec::new())?;
                Ok("the configuration is sound\n".to_owned())
            }
            Self::Show(flags) => Ok(show::effective(&flags.load()?)),
            Self::Default => Ok(show::manual()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_subcommand_means_serve() {
        let settings = |flags: &[&str]| Cli::serve_flags(flags).map(|flags| flags.settings());
        assert_eq!(settings(&[]), Ok(Vec::new()));
        assert_eq!(settings(&["serve"]), Ok(Vec::new()));
        let flags = ["--port", "1", "--durability", "buffered", "--shards", "4"];
        let typed = settings(&flags).unwrap();
        assert_eq!(Ok(typed), settings(&[&["serve"], flags.as_slice()].concat()));
        assert!(settings(&["--durability", "often"]).is_err());
    }
}
