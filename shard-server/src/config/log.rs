//! `[log]`: what is logged, how, and where.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// How much is logged: each level includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// What went wrong and needs somebody.
    Error,
    /// What may go wrong next.
    Warn,
    /// What happened: starts, ends, failed logins, slow operations.
    #[default]
    Info,
    /// Each request of the admin plane.
    Debug,
    /// Everything.
    Trace,
}

impl Level {
    /// All of them, in their order.
    pub const ALL: [Self; 5] = [Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace];

    /// Its name in configuration and answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }

    /// The level of a name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.name() == name)
    }
}

/// The shape of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// What is logged and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// How much.
    pub level: Level,
    /// In which shape.
    pub format: Format,
    /// To which file; to standard error where it is not set.
    pub file: Option<PathBuf>,
    /// Whether keys may be named in log lines. Values never are.
    pub show_keys: bool,
    /// Operations that take longer than this many microseconds are logged; 0 for none.
    pub slow_us: u64,
    /// Lines that may wait to be written; beyond them lines are lost, and counted.
    pub lines: usize,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            level: Level::default(),
            format: Format::default(),
            file: None,
            show_keys: false,
            slow_us: 100_000,
            lines: 8192,
        }
    }
}
