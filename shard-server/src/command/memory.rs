//! `MEMORY`: what keys and the server take.

use super::subcommand::{Container, Subcommand, keyless};
use super::table::{READ_MANY, STALE, spec};
use super::{Action, Call, Failure, Keys, Spec};
use crate::query::{Aspect, Query};
use crate::resp::number::parse_i64;
use crate::resp::reply;

/// The commands of this file.
pub static COMMANDS: &[Spec] = &[spec(
    "memory",
    -2,
    &[],
    Keys::NONE,
    "server",
    "Shows what is held in memory.",
    memory,
)];

/// `MEMORY` and its parts.
pub const CONTAINER: Container = Container {
    name: "memory",
    subcommands: &[
        keyless(STALE, "doctor", 2, "DOCTOR", "Says where to look.", doctor),
        keyless(
            STALE,
            "malloc-stats",
            2,
            "MALLOC-STATS",
            "Has nothing to tell.",
            malloc_stats,
        ),
        keyless(STALE, "purge", 2, "PURGE", "Has nothing to do.", purge),
        keyless(
            STALE,
            "stats",
            2,
            "STATS",
            "Returns what is held in memory, by what holds it.",
            stats,
        ),
        Subcommand {
            name: "usage",
            arity: -3,
            flags: READ_MANY,
            keys: Keys {
                first: 2,
                last: 2,
                step: 1,
            },
            usage: "USAGE <key> [SAMPLES <count>]",
            summary: "Returns the bytes of a key, its value and what the store adds to them.",
            run: usage,
        },
    ],
};

/// `MEMORY subcommand`.
pub fn memory(call: &mut Call<'_>) -> Result<Action, Failure> {
    CONTAINER.run(call)
}

fn doctor(call: &mut Call<'_>) -> Result<Action, Failure> {
    let text = "Memory is bounded by --memtable-mib for each shard, --cache-mib for all of them, and the limits on clients. \
                MEMORY STATS and INFO memory show what is used of it.\n";
    reply::verbatim(call.out, text, call.session.protocol);
    Ok(Action::Replied)
}

fn malloc_stats(call: &mut Call<'_>) -> Result<Action, Failure> {
    reply::verbatim(
        call.out,
        "Stats not supported for the current allocator",
        call.session.protocol,
    );
    Ok(Action::Replied)
}

fn purge(call: &mut Call<'_>) -> Result<Action, Failure> {
    reply::simple(call.out, "OK");
    Ok(Action::Replied)
}

fn stats(_: &mut Call<'_>) -> Result<Action, Failure> {
    Ok(Action::Query(Query::MemoryStats))
}

/// `SAMPLES` is read and has no effect: a string is one piece.
fn usage(call: &mut Call<'_>) -> Result<Action, Failure> {
    for place in (3..call.arguments.count()).step_by(2) {
        let samples = match call.arguments.get(place + 1) {
            Some(samples) if call.arguments.at(place).eq_ignore_ascii_case(b"SAMPLES") => samples,
            _ => return Err(Failure::SYNTAX),
        };
        if parse_i64(samples).ok_or(Failure::NOT_AN_INTEGER)? < 0 {
            return Err(Failure::SYNTAX);
        }
    }
    super::object::inspect(call, Aspect::Bytes)
}
