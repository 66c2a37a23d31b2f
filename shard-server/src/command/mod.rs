//! What each command asks for: its shape ([`Spec`]), and from its arguments an [`Action`].
//!
//! A handler is pure: it looks at the arguments and at the client's own state, and either writes its answer or says
//! what the store has to do. The pipeline does it, together with what the neighbours asked for.

pub mod auth;
pub mod client;
pub mod cluster;
pub mod config;
pub mod connection;
pub mod debug;
pub mod facts;
pub mod failure;
pub mod flush;
pub mod introspect;
pub mod keyspace;
pub mod latency;
pub mod long_double;
pub mod memory;
pub mod object;
pub mod scan;
pub mod server;
pub mod slowlog;
pub mod strings;
pub mod subcommand;
pub mod table;

use corelane::api::Durability;
use corelane::api::{Op, UpdateFn};

use crate::query::Query;
use crate::resp::request::Arguments;
use crate::server::Server;
use crate::session::Session;

pub use failure::Failure;

/// What a handler sees.
#[derive(Debug)]
pub struct Call<'a> {
    /// The arguments, the command's name first; their number fits the arity.
    pub arguments: Arguments<'a>,
    /// The client.
    pub session: &'a mut Session,
    /// The process.
    pub server: &'a Server,
    /// Where an answer that needs no store is appended.
    pub out: &'a mut Vec<u8>,
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
    /// Send this to the one shard that owns all the keys, and answer in this shape.
    Write(Op, Shape),
    /// Ask once everything before it was answered.
    Query(Query),
}

/// How the outcome of a write becomes an answer.
#[derive(Debug)]
pub enum Shape {
    /// `OK`.
    Ok,
    /// `OK` if something was written, else null.
    OkIfWritten,
    /// The number that the update reports.
    Number(oneshot::Receiver<Result<i64, Failure>>),
    /// The value that the update found.
    Previous(oneshot::Receiver<Option<Vec<u8>>>),
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
    /// What it asks for.
    pub run: fn(&mut Call<'_>) -> Result<Action, Failure>,
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

/// An update of the first key.
fn update(call: &Call<'_>, apply: UpdateFn, shape: Shape) -> Action {
    let key = call.arguments.at(1).to_vec();
    Action::Write(
        Op::Update {
            key,
            apply,
            durability: durability(call),
        },
        shape,
    )
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
        assert_eq!(places(Keys::ALL, 4), [1, 2, 3]);
        assert_eq!(places(Keys::PAIRS, 5), [1, 3]);
    }

    #[test]
    fn arity_is_exact_or_a_minimum() {
        assert!(takes(2, 2) && !takes(2, 3) && !takes(2, 1));
        assert!(takes(-2, 2) && takes(-2, 9) && !takes(-2, 1));
    }
}
