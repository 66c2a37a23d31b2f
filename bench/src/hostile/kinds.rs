//! Which kinds of hostile clients there are.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// A kind of harm, done by one process of clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// No harm: four clients that send 32 reads at a time and read the answers, as fast as they can.
    Busy,
    /// Connects, declares lengths beyond every limit or far beyond what it sends, and connects again.
    Oversized,
    /// Sends a command up to any byte, and hangs up.
    Truncated,
    /// Sends nested arrays, random bytes, a line without end, HTTP.
    Garbage,
    /// Five hundred clients that send a byte at a time.
    Slow,
    /// Clients that ask for many large values and read none.
    Deaf,
    /// Ten thousand connections that do nothing.
    Idle,
    /// Connects and hangs up, as fast as it can.
    Storm,
    /// Connects, gives a wrong password, and connects again.
    WrongPassword,
}

/// The user whom polite clients are where there are users.
pub const USER: &str = "bench";
/// Their secret.
pub const SECRET: &str = "bench-secret";
/// Its hash, by `corelane user hash`, with the parameters that the server itself chooses.
pub const SECRET_HASH: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$qm/fvjF6MTjjXrkk3JLjBA$MhXLZW5jPtSaIEUb3Iuf+WB5r8+xSbyPQlaiK7QiwLA";

impl Kind {
    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Busy => "busy, not hostile",
            Self::Oversized => "oversized lengths",
            Self::Truncated => "cut off and gone",
            Self::Garbage => "nested, garbage",
            Self::Slow => "500 a byte at a time",
            Self::Deaf => "32 that never read",
            Self::Idle => "10,000 idle",
            Self::Storm => "connect and go",
            Self::WrongPassword => "wrong passwords",
        }
    }

    /// Whether the server has users, so that polite clients say who they are.
    pub fn has_users(self) -> bool {
        self == Self::WrongPassword
    }

    /// Threads of the hostile process.
    pub fn threads(self) -> usize {
        match self {
            // One loop serves all its connections.
            Self::Slow | Self::Deaf | Self::Idle => 1,
            Self::Busy
            | Self::Oversized
            | Self::Truncated
            | Self::Garbage
            | Self::Storm
            | Self::WrongPassword => 4,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_name_and_threads_of_its_own() {
        let mut names: Vec<_> = Kind::value_variants().iter().map(|kind| kind.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Kind::value_variants().len());
        assert!(Kind::value_variants().iter().all(|kind| kind.threads() > 0));
    }
}
