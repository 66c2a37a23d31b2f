//! What each command asks for: its shape ([`Spec`]), and what runs it ([`Run`]).
//!
//! A command **on keys** is one pure function over a [`View`] of its keys: it runs on the core that owns them, alone or
//! in a transaction, and writes its answer there. A **local** command looks at the arguments and at the client's own
//! state, and either writes its answer or says what is to be done ([`Action`]); the pipeline does it, together with what
//! the neighbours asked for.
//!
//! ```text
//! bytes ─> arguments ─> Spec ─┬─ Local: Call ──────────> Action            this core, at once
//!                             ├─ Keyed: Request + View ─> reply + changes  the core that owns the keys
//!                             └─ Faster: Call ──────────> Action, or Keyed  outside of transactions
//! ```

pub mod auth;
pub mod bits;
pub mod client;
pub mod cluster;
pub mod config;
pub mod connection;
pub mod debug;
pub mod expiry;
pub mod facts;
pub mod failure;
pub mod flush;
pub mod introspect;
pub mod keyspace;
pub mod latency;
pub mod long_double;
pub mod memory;
pub mod numbers;
pub mod object;
pub mod options;
pub mod ranges;
pub mod request;
pub mod scan;
pub mod server;
pub mod slowlog;
pub mod strings;
pub mod subcommand;
pub mod table;
pub mod transaction;
pub mod unsupported;
pub mod view;

use corelane::api::{Durability, Op};

use crate::query::Query;
use crate::resp::request::Arguments;
use crate::server::Server;
use crate::session::Session;

pub use failure::Failure;
pub use request::{Owned, Request};
pub use view::View;

/// What the handler of a local command sees.
pub struct Call<'a> {
    /// The command.
    pub spec: &'static Spec,
    /// The arguments, the command's name first; their number fits the arity.
    pub arguments: Arguments<'a>,
    /// The client.
    pub session: &'a mut Session,
    /// The process.
    pub server: &'a Server,
    /// Tells the time in ms since the Unix epoch, for those who set when a value ends: by the shard of the first argument behind
    /// the name, which is a key then.
    pub clock: &'a dyn Fn() -> u64,
    /// Where an answer that needs no store is appended.
    pub out: &'a mut Vec<u8>,
}

impl<'a> Call<'a> {
    /// The command line alone.
    pub fn request(&self) -> Request<'a> {
        Request {
            spec: self.spec,
            arguments: self.arguments,
            protocol: self.session.protocol,
        }
    }
}

/// What is to be done for a command.
#[derive(Debug)]
pub enum Action {
    /// Nothing more: the answer is in `out`.
    Replied,
    /// The connection ends, behind what is in `out` if anything.
    Close,
    /// Answer with the value of the first key.
    Value,
    /// Answer with an array of the values of all keys.
    Values,
    /// Answer with how many of the keys are there, a key named twice counting twice.
    Present,
    /// Delete the keys and answer with how many were there.
    Delete,
    /// Send this to the one shard that owns all the keys, and answer `OK`.
    Write(Op),
    /// Run the command's function over its keys.
    Keyed,
    /// Ask once everything before it was answered.
    Query(Query),
    /// Remember the versions of the keys, once everything before it was answered.
    Watch,
    /// Run the transaction that the client has gathered, once everything before it was answered.
    Exec,
}

/// What a command's function answered.
#[derive(Debug, Default)]
pub struct Reply {
    /// The answer, as it goes to the client.
    pub bytes: Vec<u8>,
    /// Whether it is an error.
    pub failed: bool,
    /// Looks that found their key.
    pub hits: u64,
    /// Looks that did not.
    pub misses: u64,
}

impl Reply {
    /// An error.
    pub fn failed(failure: &Failure) -> Self {
        let mut reply = Self {
            failed: true,
            ..Self::default()
        };
        crate::resp::reply::error(&mut reply.bytes, &failure.0);
        reply
    }
}

/// The function of a local command.
pub type Local = fn(&mut Call<'_>) -> Result<Action, Failure>;

/// The function of a command on keys. It appends its answer; where it fails it has changed nothing.
pub type Keyed = fn(&Request<'_>, &mut View<'_>, &mut Vec<u8>) -> Result<(), Failure>;

/// What runs a command.
#[derive(Debug, Clone, Copy)]
pub enum Run {
    /// On this core.
    Local(Local),
    /// On the core that owns the keys.
    Keyed(Keyed),
    /// As [`Run::Keyed`], with a shorter way for outside of transactions. The shorter way answers [`Action::Keyed`] where
    /// there is none for these arguments.
    Faster(Local, Keyed),
}

/// One command as clients know it.
#[derive(Debug, Clone, Copy)]
pub struct Spec {
    /// Its name in lower case.
    pub name: &'static str,
    /// How many arguments it takes, its name included; negative where more are fine (as in `COMMAND INFO`).
    pub arity: i32,
    /// What it does, in Redis's words.
    pub flags: &'static [&'static str],
    /// Where its keys are.
    pub keys: Keys,
    /// Its family in the documentation.
    pub group: &'static str,
    /// What it is for, in one line.
    pub summary: &'static str,
    /// What runs it.
    pub run: Run,
}

/// Where the keys of a command are among its arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keys {
    /// The first key's place; 0 where there is none.
    pub first: usize,
    /// The last key's place; -1 for the last argument.
    pub last: i32,
    /// From one key to the next.
    pub step: usize,
}

impl Keys {
    /// No keys.
    pub const NONE: Self = Self {
        first: 0,
        last: 0,
        step: 0,
    };
    /// One key, the first argument.
    pub const ONE: Self = Self {
        first: 1,
        last: 1,
        step: 1,
    };
    /// Two keys, the first two arguments.
    pub const TWO: Self = Self {
        first: 1,
        last: 2,
        step: 1,
    };
    /// Every argument is a key.
    pub const ALL: Self = Self {
        first: 1,
        last: -1,
        step: 1,
    };
    /// Keys and values in turn.
    pub const PAIRS: Self = Self {
        first: 1,
        last: -1,
        step: 2,
    };

    /// The places of the keys among `count` arguments.
    pub fn places(self, count: usize) -> impl Iterator<Item = usize> {
        let end = if self.last < 0 {
            count
        } else {
            count.min(usize::try_from(self.last).unwrap_or(0) + 1)
        };
        let end = if self.first == 0 { 0 } else { end };
        (self.first..end).step_by(self.step.max(1))
    }
}

impl Spec {
    /// The same command with a shorter way for outside of transactions.
    ///
    /// # Panics
    /// For a command that is not on keys.
    pub const fn or_faster(self, shorter: Local) -> Self {
        match self.run {
            Run::Keyed(run) => Self {
                run: Run::Faster(shorter, run),
                ..self
            },
            _ => panic!("only a command on keys can be run in two ways"),
        }
    }

    /// The command's function over its keys; `None` for a local command.
    pub fn keyed(&self) -> Option<Keyed> {
        match self.run {
            Run::Local(_) => None,
            Run::Keyed(run) | Run::Faster(_, run) => Some(run),
        }
    }

    /// Whether it may write.
    pub fn writes(&self) -> bool {
        self.flags.contains(&"write")
    }

    /// Whether a command line of `count` arguments, the name included, has the right length.
    pub fn takes(&self, count: usize) -> bool {
        takes(self.arity, count)
    }
}

/// Whether `count` arguments fit an arity in Redis's notation.
pub fn takes(arity: i32, count: usize) -> bool {
    let named = usize::try_from(arity.unsigned_abs()).unwrap_or(usize::MAX);
    if arity < 0 { count >= named } else { count == named }
}

fn durability(call: &Call<'_>) -> Durability {
    call.server.settings.durability
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_where_the_table_says() {
        let places = |keys: Keys, count| keys.places(count).collect::<Vec<_>>();
        assert_eq!(places(Keys::NONE, 5), Vec::<usize>::new());
        assert_eq!(places(Keys::ONE, 3), [1]);
        assert_eq!(places(Keys::TWO, 5), [1, 2]);
        assert_eq!(places(Keys::ALL, 4), [1, 2, 3]);
        assert_eq!(places(Keys::PAIRS, 5), [1, 3]);
    }

    #[test]
    fn arity_is_exact_or_a_minimum() {
        assert!(takes(2, 2) && !takes(2, 3) && !takes(2, 1));
        assert!(takes(-2, 2) && takes(-2, 9) && !takes(-2, 1));
    }
}
