//! What can go wrong in a run, in words that say what to do. A run that failed prints no figure.

use std::fmt;
use std::path::Path;

/// Why a run failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BenchError {
    kind: Kind,
    words: String,
}

/// What sort of failure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The command line or a spec makes no sense.
    Usage,
    /// An engine could not be opened.
    Open,
    /// An engine answered with an error.
    Engine,
    /// An engine gave a wrong answer: lost, stale or damaged data.
    Wrong,
    /// The machine: a file, a directory, a program.
    Machine,
    /// The bench itself is at fault.
    Bug,
}

impl BenchError {
    /// Of a kind, in words.
    pub fn new(kind: Kind, words: impl Into<String>) -> Self {
        Self {
            kind,
            words: words.into(),
        }
    }

    /// The command line or a spec makes no sense.
    pub fn usage(words: impl Into<String>) -> Self {
        Self::new(Kind::Usage, words)
    }

    /// An engine's own error while `doing`.
    pub fn engine(doing: &str, error: impl fmt::Display) -> Self {
        Self::new(Kind::Engine, format!("{doing}: {error}"))
    }

    /// A wrong answer.
    pub fn wrong(words: impl Into<String>) -> Self {
        Self::new(Kind::Wrong, words)
    }

    /// The operating system's error while `doing` something with a file or directory.
    pub fn file(doing: &str, path: &Path, error: impl fmt::Display) -> Self {
        Self::new(Kind::Machine, format!("{doing} {}: {error}", path.display()))
    }

    /// The bench itself is at fault.
    pub fn bug(words: impl Into<String>) -> Self {
        Self::new(Kind::Bug, words)
    }

    /// What sort of failure it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The same with what was being done in front.
    #[must_use]
    pub fn while_doing(self, doing: &str) -> Self {
        Self {
            kind: self.kind,
            words: format!("{doing}: {}", self.words),
        }
    }
}

impl fmt::Display for BenchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

impl std::error::Error for BenchError {}
