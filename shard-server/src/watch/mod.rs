//! `corelane stats`: what a running server does, from its `INFO`: once, or again and again as rates.
//!
//! [`sample`] reads one `INFO`, [`rates`] compares two, [`show`] prints; all three are pure.

pub mod rates;
pub mod sample;
pub mod show;

use std::io::{self, IsTerminal as _, Write as _};
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;

use crate::console::run::complain;
use crate::remote::flags::ConnectFlags;
use crate::remote::{Remote, Reply, Target};
use rates::Rates;
use sample::Sample;

/// A server that does not answer `INFO` for so long hangs.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is asked for: every section but the number of keys, which the server would walk all of them for. A section that a
/// server does not have it leaves out.
const QUESTION: [&str; 9] = [
    "INFO",
    "server",
    "clients",
    "memory",
    "persistence",
    "stats",
    "commandstats",
    "latencystats",
    "corelane",
];

/// The flags of `stats`, as typed.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub struct WatchFlags {
    #[command(flatten)]
    connect: ConnectFlags,
    /// Look again every so many seconds, and show what happened since the last look.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "1")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=86_400))]
    watch: Option<u32>,
    /// End after so many looks.
    #[arg(long, value_name = "N", requires = "watch")]
    count: Option<u64>,
    /// Print a line of JSON for each look.
    #[arg(long)]
    json: bool,
    /// Print help.
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
}

/// Runs it; its status.
pub fn run(flags: &WatchFlags) -> ExitCode {
    let shown = flags
        .connect
        .target(None, Some(PATIENCE))
        .and_then(|target| match flags.watch {
            None => {
                let sample = look(&mut None, &target)?;
                print(flags, &Rates::since_start(&sample)).map(|_nobody_reads| ())
            }
            Some(seconds) => watch(flags, &target, Duration::from_secs(seconds.into())),
        });
    match shown {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            complain(why);
            ExitCode::FAILURE
        }
    }
}

/// Looks again and again. The first look must succeed; a server that goes away later may come back.
#[expect(
    clippy::disallowed_methods,
    reason = "a tool's own clock and pause; no shard runs here"
)]
fn watch(flags: &WatchFlags, target: &Target, pause: Duration) -> Result<(), String> {
    let mut remote = None;
    let (mut before, mut at) = (look(&mut remote, target)?, Instant::now());
    let mut looks = 0;
    while flags.count.is_none_or(|count| looks < count) {
        std::thread::sleep(pause);
        looks += 1;
        match look(&mut remote, target) {
            Ok(after) => {
                let now = Instant::now();
                let rates = Rates::between(&before, &after, (now - at).as_secs_f64());
                if print(flags, &rates)?.is_break() {
                    return Ok(());
                }
                (before, at) = (after, now);
            }
            Err(why) => complain(why),
        }
    }
    Ok(())
}

/// One `INFO`, on a new connection where there is none.
fn look(remote: &mut Option<Remote>, target: &Target) -> Result<Sample, String> {
    let connected = match remote.take() {
        Some(remote) if !remote.ended() => Ok(remote),
        _ => Remote::connect(target),
    };
    let mut connected = connected.map_err(|why| why.to_string())?;
    let reply = connected.call(&QUESTION).map_err(|why| why.to_string())?;
    match (reply.text(), &reply) {
        (Some(text), _) => {
            *remote = Some(connected);
            Ok(Sample::parse(&String::from_utf8_lossy(text)))
        }
        (None, Reply::Error(why)) => Err(format!("INFO at {target}: {}", String::from_utf8_lossy(why))),
        (None, _) => Err(format!("INFO at {target} is no text; is it a Corelane server?")),
    }
}

/// Prints one look. A break once nobody reads any more, as behind `head`: that is an end, and no failure.
fn print(flags: &WatchFlags, rates: &Rates) -> Result<ControlFlow<()>, String> {
    let mut out = io::stdout().lock();
    let text = if flags.json {
        show::line(rates) + "\n"
    } else if flags.watch.is_some() && out.is_terminal() {
        // Home and clear, so that the figures stand still.
        format!("\x1b[H\x1b[2J{}", show::tables(rates))
    } else {
        show::tables(rates)
    };
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(ControlFlow::Continue(())),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ControlFlow::Break(())),
        Err(error) => Err(format!("printing: {error}")),
    }
}
