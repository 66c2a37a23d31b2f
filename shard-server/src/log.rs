//! Logs: structured events by `tracing`, written by a thread of their own.
//!
//! - The level can be changed while running ([`set_level`]).
//! - The way to the writer is a bounded queue: a core that logs never waits for a disk or a terminal. Lines for which
//!   there is no room are lost and counted ([`lost_lines`]).
//! - Keys are named only where `log.show_keys` is on ([`key`]); values never are.
//!
//! What the process says when it starts and ends stays on standard output; events go to standard error or a file.

use std::fmt;
use std::io::Write;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::{Registry, fmt as lines, reload};

use crate::config::Log;
use crate::config::log::{Format, Level};

/// The logs of the process, once they have been started.
static LOGS: OnceLock<Logs> = OnceLock::new();
/// Whether keys may be named. Apart from [`LOGS`], because whoever formats a key needs nothing else.
static SHOW_KEYS: AtomicBool = AtomicBool::new(false);
/// From how many microseconds on an operation is slow; 0 for never.
static SLOW_US: AtomicU64 = AtomicU64::new(0);

struct Logs {
    level: AtomicU8,
    filter: reload::Handle<LevelFilter, Registry>,
    lost: ErrorCounter,
}

/// Keeps the writer; what still waits is written when this is dropped.
#[must_use]
#[derive(Debug)]
pub struct Writing(#[expect(dead_code, reason = "it writes the rest when dropped")] WorkerGuard);

/// Starts the logs of this process, once.
///
/// # Errors
/// The file cannot be opened, or logs were started before.
pub fn start(config: &Log) -> Result<Writing, String> {
    let to: Box<dyn Write + Send> = match &config.file {
        Some(path) => Box::new(open(path)?),
        None => Box::new(std::io::stderr()),
    };
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(config.lines)
        .thread_name("corelane-log")
        .finish(to);
    let lost = writer.error_counter();
    let (subscriber, filter) = subscriber(config, writer);
    let again = |_| "starting the logs: they were started before".to_owned();
    tracing::subscriber::set_global_default(subscriber).map_err(|error| again(error.to_string()))?;
    SHOW_KEYS.store(config.show_keys, Ordering::Relaxed);
    SLOW_US.store(config.slow_us, Ordering::Relaxed);
    let logs = Logs {
        level: AtomicU8::new(number(config.level)),
        filter,
        lost,
    };
    LOGS.set(logs).map_err(|_| again(String::new()))?;
    Ok(Writing(guard))
}

#[expect(
    clippy::disallowed_methods,
    reason = "a log is not the engine's file, and is written by a thread of its own"
)]
fn open(path: &Path) -> Result<std::fs::File, String> {
    std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .map_err(|error| format!("opening the log {}: {error}", path.display()))
}

/// What turns events into lines, and the handle on its level.
fn subscriber(
    config: &Log,
    writer: NonBlocking,
) -> (
    Box<dyn Subscriber + Send + Sync>,
    reload::Handle<LevelFilter, Registry>,
) {
    let (filter, handle) = reload::Layer::new(filter_of(config.level));
    let registry = tracing_subscriber::registry().with(filter);
    let layer = lines::layer().with_writer(writer).with_ansi(false);
    let subscriber: Box<dyn Subscriber + Send + Sync> = match config.format {
        Format::Text => Box::new(registry.with(layer)),
        Format::Json => Box::new(registry.with(layer.json().flatten_event(true))),
    };
    (subscriber, handle)
}

fn filter_of(level: Level) -> LevelFilter {
    match level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    }
}

/// The place of a level among [`Level::ALL`].
fn number(level: Level) -> u8 {
    level as u8
}

/// How much is logged now; the default before the logs have been started.
pub fn level() -> Level {
    let number = LOGS.get().map_or(number(Level::default()), |logs| {
        logs.level.load(Ordering::Relaxed)
    });
    Level::ALL
        .into_iter()
        .find(|&level| level as u8 == number)
        .unwrap_or_default()
}

/// Logs so much from now on. Nothing happens before the logs have been started.
pub fn set_level(level: Level) {
    if let Some(logs) = LOGS.get() {
        // It fails only where the subscriber is gone, which the process keeps to its end.
        let _gone = logs.filter.modify(|filter| *filter = filter_of(level));
        logs.level.store(number(level), Ordering::Relaxed);
        tracing::info!(level = level.name(), "log level changed");
    }
}

/// Lines that were lost because the writer did not keep up.
pub fn lost_lines() -> u64 {
    LOGS.get().map_or(0, |logs| logs.lost.dropped_lines() as u64)
}

/// A key for a log line: itself, escaped, where keys may be shown; its length otherwise.
pub fn key(key: &[u8]) -> impl fmt::Display + '_ {
    ShownKey {
        key,
        shown: SHOW_KEYS.load(Ordering::Relaxed),
    }
}

/// Bytes of a key that are shown: enough to know it by.
const SHOWN_KEY_BYTES: usize = 128;

struct ShownKey<'a> {
    key: &'a [u8],
    shown: bool,
}

impl fmt::Display for ShownKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.key.len();
        if !self.shown {
            return write!(f, "({bytes} bytes, hidden)");
        }
        write!(f, "{}", self.key[..bytes.min(SHOWN_KEY_BYTES)].escape_ascii())?;
        if bytes > SHOWN_KEY_BYTES {
            write!(f, "... ({bytes} bytes)")?;
        }
        Ok(())
    }
}

/// An operation that took long.
#[derive(Debug, Clone, Copy)]
pub struct Slow<'a> {
    /// What was done, such as a command's name.
    pub what: &'a str,
    /// How long it took.
    pub took: Duration,
    /// The shard concerned, where it was one.
    pub shard: Option<u16>,
    /// Why, in words, as far as it is known.
    pub cause: &'a str,
    /// The key concerned, where it was one.
    pub key: Option<&'a [u8]>,
}

/// Whether an operation that took so long is to be told by [`slow`]: one load and one comparison.
pub fn is_slow(took: Duration) -> bool {
    let least = SLOW_US.load(Ordering::Relaxed);
    least != 0 && took.as_micros() > u128::from(least)
}

/// Logs an operation if it was slow, with its shard and cause.
pub fn slow(slow: Slow<'_>) {
    if !is_slow(slow.took) {
        return;
    }
    let shard = slow.shard.map(tracing::field::display);
    let key = slow.key.map(|bytes| tracing::field::display(self::key(bytes)));
    let took_us = u64::try_from(slow.took.as_micros()).unwrap_or(u64::MAX);
    tracing::warn!(
        what = slow.what,
        took_us,
        shard,
        cause = slow.cause,
        key,
        "slow operation"
    );
}

#[cfg(test)]
mod tests {
    use std::io::BufRead as _;

    use super::*;

    /// The lines that events become, with the level raised to debug half way.
    fn logged(format: Format, events: impl Fn()) -> Vec<String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        let config = Log {
            format,
            ..Log::default()
        };
        let (writer, guard) = NonBlockingBuilder::default().finish(open(file.path()).unwrap());
        let (subscriber, filter) = subscriber(&config, writer);
        tracing::subscriber::with_default(subscriber, || {
            events();
            filter.modify(|filter| *filter = filter_of(Level::Debug)).unwrap();
            events();
        });
        drop(guard);
        std::io::BufReader::new(file.reopen().unwrap())
            .lines()
            .map(Result::unwrap)
            .collect()
    }

    #[test]
    fn the_level_changes_while_running_and_json_is_an_object_a_line() {
        let lines = logged(Format::Json, || {
            tracing::debug!("below");
            tracing::warn!(shard = 3, "above");
        });
        let lines: Vec<serde_json::Value> = lines
            .iter()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let said: Vec<_> = lines
            .iter()
            .map(|line| line["message"].as_str().unwrap())
            .collect();
        assert_eq!(said, ["above", "below", "above"]);
        assert_eq!(
            (&lines[0]["shard"], &lines[0]["level"]),
            (&3.into(), &"WARN".into())
        );
        let text = logged(Format::Text, || tracing::warn!(shard = 3, "above"));
        assert!(
            text[0].contains("WARN") && text[0].ends_with("above shard=3"),
            "{text:?}"
        );
    }

    #[test]
    fn a_slow_operation_names_its_shard_and_cause_and_no_key_unless_asked_for() {
        let told = |shown: bool| {
            SLOW_US.store(1000, Ordering::Relaxed);
            SHOW_KEYS.store(shown, Ordering::Relaxed);
            logged(Format::Json, || {
                for took_us in [1000, 1001] {
                    slow(Slow {
                        what: "get",
                        took: Duration::from_micros(took_us),
                        shard: Some(7),
                        cause: "device",
                        key: Some(b"private\n"),
                    });
                }
            })
        };
        let hidden = told(false);
        assert_eq!(hidden.len(), 2, "only what is over the bound: {hidden:?}");
        for part in ["\"shard\":\"7\"", "\"cause\":\"device\"", "\"took_us\":1001"] {
            assert!(hidden[0].contains(part), "{hidden:?}");
        }
        assert!(!hidden[0].contains("private"));
        assert!(told(true)[0].contains(r"private\\n"));
    }

    #[test]
    fn a_writer_that_does_not_keep_up_loses_lines_and_counts_them() {
        struct Stuck(std::sync::mpsc::Receiver<()>);
        impl Write for Stuck {
            fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
                // An error means that the test is over.
                let _over = self.0.recv();
                Ok(line.len())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let (go_on, stuck) = std::sync::mpsc::channel();
        let (writer, guard) = NonBlockingBuilder::default()
            .buffered_lines_limit(2)
            .finish(Stuck(stuck));
        let lost = writer.error_counter();
        let (subscriber, _) = subscriber(&Log::default(), writer);
        tracing::subscriber::with_default(subscriber, || {
            for n in 0..10 {
                tracing::info!(n);
            }
        });
        assert!(
            (7..=8).contains(&lost.dropped_lines()),
            "{}",
            lost.dropped_lines()
        );
        drop(go_on);
        drop(guard);
    }
}
