//! `corelane cli`: a console to a running server, in the manner of `redis-cli`.
//!
//! ```text
//! run          a line: words, connection, answer, print
//!  ├─ words        quoting rules, `3 PING`, secrets: pure
//!  ├─ state        transaction and prompt: pure
//!  ├─ print        as people and as programs read it: pure
//!  ├─ json, table  other forms of the same answers: pure
//!  └─ interactive  the terminal
//!      ├─ hints        completion and what is still to be typed: pure
//!      └─ syntax       the arguments of each command
//! ```
//!
//! Where it gets its lines: the command line (one command), a file (`--eval`), a pipe, or a terminal.

pub mod hints;
pub mod interactive;
pub mod json;
pub mod print;
pub mod run;
pub mod state;
pub mod syntax;
pub mod table;
pub mod words;

use std::io::{self, BufRead, IsTerminal as _, Read as _};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use crate::remote::Target;
use crate::remote::flags::ConnectFlags;
use crate::resp::MAX_COMMAND_BYTES;
use run::{Console, Ended, complain};

/// The flags of `cli`, as typed: those of `redis-cli` where it has them.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub struct ConsoleFlags {
    #[command(flatten)]
    connect: ConnectFlags,
    /// Speak RESP2.
    #[arg(short = '2', conflicts_with = "resp3")]
    resp2: bool,
    /// Speak RESP3 (as --json does where -2 is not given).
    #[arg(short = '3')]
    resp3: bool,
    /// Print replies as programs read them (the default where the output is no terminal).
    #[arg(long, group = "format")]
    raw: bool,
    /// Print replies as people read them (the default at a terminal).
    #[arg(long, group = "format")]
    no_raw: bool,
    /// Print each reply as a line of JSON.
    #[arg(long, group = "format")]
    json: bool,
    /// Print replies that are tables as tables.
    #[arg(long, group = "format")]
    table: bool,
    /// End with status 1 if a command failed.
    #[arg(short = 'e')]
    fail: bool,
    /// Read the last argument of the command from standard input.
    #[arg(short = 'x', requires = "command")]
    from_stdin: bool,
    /// Run the commands of a file, one a line; stop at the first that fails, with status 1. `#` begins a comment line.
    #[arg(long, value_name = "FILE", conflicts_with = "command")]
    eval: Option<PathBuf>,
    /// Run the rest of the file, too, when a command fails; the status tells all the same.
    #[arg(long, requires = "eval")]
    keep_going: bool,
    /// File that keeps the lines typed. Default: ~/.corelane_history.
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
    /// Print help.
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
    /// A command and its arguments; without one, lines are read.
    #[arg(value_name = "COMMAND", trailing_var_arg = true)]
    command: Vec<std::ffi::OsString>,
}

/// How answers are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Standard,
    /// For programs.
    Raw,
    /// A line of JSON each.
    Json,
    /// Tables where they are tables.
    Table,
}

impl ConsoleFlags {
    fn format(&self, terminal: bool) -> Format {
        if self.json {
            Format::Json
        } else if self.table {
            Format::Table
        } else if self.raw || !(self.no_raw || terminal) {
            Format::Raw
        } else {
            Format::Standard
        }
    }

    fn target(&self) -> Result<Target, String> {
        let resp3 = match (self.resp2, self.resp3 || self.json) {
            (true, _) => Some(false),
            (false, true) => Some(true),
            (false, false) => None,
        };
        self.connect.target(resp3, None)
    }
}

/// Runs the console; its status.
pub fn run(flags: ConsoleFlags) -> ExitCode {
    match try_run(flags) {
        Ok(code) => code,
        Err(why) => {
            complain(why);
            ExitCode::FAILURE
        }
    }
}

fn try_run(flags: ConsoleFlags) -> Result<ExitCode, String> {
    let mut console = Console::new(flags.target()?, flags.format(io::stdout().is_terminal()));
    if !flags.command.is_empty() {
        let mut words: Vec<Vec<u8>> = flags.command.into_iter().map(OsStringExt::into_vec).collect();
        if flags.from_stdin {
            words.push(rest_of_stdin()?);
        }
        return Ok(status(console.command(&words), flags.fail));
    }
    if let Some(path) = flags.eval {
        let file = open(&path).map_err(|error| format!("reading {}: {error}", path.display()))?;
        return lines(
            &mut console,
            file,
            Mode::Script {
                keep_going: flags.keep_going,
            },
        );
    }
    if io::stdin().is_terminal() {
        interactive::run(console, flags.history)?;
        return Ok(ExitCode::SUCCESS);
    }
    lines(&mut console, io::stdin().lock(), Mode::Pipe { fail: flags.fail })
}

#[expect(
    clippy::disallowed_methods,
    reason = "a file of the user's, in a process that runs no shard"
)]
fn open(path: &Path) -> io::Result<impl BufRead> {
    std::fs::File::open(path).map(io::BufReader::new)
}

/// What a failure means where lines are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Pipe { fail: bool },
    Script { keep_going: bool },
}

/// Runs every line; its status.
fn lines(console: &mut Console, mut from: impl BufRead, mode: Mode) -> Result<ExitCode, String> {
    let (mut line, mut number, mut failed) = (Vec::new(), 0_u64, false);
    let script = matches!(mode, Mode::Script { .. });
    loop {
        line.clear();
        let read = from
            .by_ref()
            .take(MAX_COMMAND_BYTES as u64 + 1)
            .read_until(b'\n', &mut line);
        if read.map_err(|error| format!("reading line {}: {error}", number + 1))? == 0 {
            break;
        }
        number += 1;
        if line.len() > MAX_COMMAND_BYTES {
            return Err(format!("line {number} is longer than {MAX_COMMAND_BYTES} bytes"));
        }
        if script && line.trim_ascii_start().starts_with(b"#") {
            continue;
        }
        match console.line(&line) {
            Ended::Well => {}
            Ended::Quit => break,
            Ended::Failed if mode == (Mode::Script { keep_going: false }) => {
                return Err(format!("stopped at line {number}, which failed"));
            }
            // Without a server the lines that follow would fail alike.
            Ended::Unanswered => return Err(format!("stopped at line {number}, which was not answered")),
            Ended::Failed => failed = true,
        }
    }
    let tells = script || mode == (Mode::Pipe { fail: true });
    Ok(if failed && tells {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn status(ended: Ended, fail: bool) -> ExitCode {
    match ended {
        Ended::Unanswered => ExitCode::FAILURE,
        Ended::Failed if fail => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    }
}

/// The value for `-x`, all of standard input.
fn rest_of_stdin() -> Result<Vec<u8>, String> {
    let mut value = Vec::new();
    io::stdin()
        .lock()
        .take(MAX_COMMAND_BYTES as u64 + 1)
        .read_to_end(&mut value)
        .map_err(|error| format!("reading standard input: {error}"))?;
    if value.len() > MAX_COMMAND_BYTES {
        return Err(format!("standard input is longer than {MAX_COMMAND_BYTES} bytes"));
    }
    Ok(value)
}
