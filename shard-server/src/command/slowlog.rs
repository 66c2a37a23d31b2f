//! `SLOWLOG`: the latest rounds that took long (see `telemetry::slow`).

use super::subcommand::{Container, Subcommand};
use super::table::{ADMIN, spec};
use super::{Action, Call, Failure, Keys, Spec};
use crate::resp::number::parse_i64;
use crate::resp::reply;
use crate::telemetry::slow::Logged;

/// The commands of this file.
pub static COMMANDS: &[Spec] = &[spec(
    "slowlog",
    -2,
    ADMIN,
    Keys::NONE,
    "server",
    "Shows which commands took long.",
    slowlog,
)];

/// `SLOWLOG` and its parts.
pub const CONTAINER: Container = Container {
    name: "slowlog",
    subcommands: &[
        Subcommand {
            name: "get",
            arity: -2,
            flags: ADMIN,
            keys: Keys::NONE,
            usage: "GET [<count>]",
            summary: "Returns the latest entries: number, time, microseconds, arguments, client's address and name.",
            run: get,
        },
        Subcommand {
            name: "len",
            arity: 2,
            flags: ADMIN,
            keys: Keys::NONE,
            usage: "LEN",
            summary: "Returns how many entries there are.",
            run: len,
        },
        Subcommand {
            name: "reset",
            arity: 2,
            flags: ADMIN,
            keys: Keys::NONE,
            usage: "RESET",
            summary: "Forgets all entries.",
            run: reset,
        },
    ],
};

/// Entries that `SLOWLOG GET` returns where the client does not say (as in Redis).
const DEFAULT_COUNT: usize = 10;

/// `SLOWLOG subcommand`.
pub fn slowlog(call: &mut Call<'_>) -> Result<Action, Failure> {
    CONTAINER.run(call)
}

fn get(call: &mut Call<'_>) -> Result<Action, Failure> {
    if call.arguments.count() > 3 {
        return Err(Failure::subcommand_syntax("slowlog", call.arguments.at(1)));
    }
    let count = match call.arguments.get(2).map(parse_i64) {
        None => DEFAULT_COUNT,
        Some(Some(-1)) => usize::MAX,
        Some(count) => count
            .and_then(|count| usize::try_from(count).ok())
            .ok_or(Failure::fixed("ERR count should be greater than or equal to -1"))?,
    };
    let entries = call.server.telemetry().slow().latest(count);
    reply::array(call.out, entries.len());
    entries.iter().for_each(|logged| describe(call.out, logged));
    Ok(Action::Replied)
}

fn describe(out: &mut Vec<u8>, logged: &Logged) {
    let integer = |out: &mut Vec<u8>, n: u128| reply::integer(out, i64::try_from(n).unwrap_or(i64::MAX));
    let entry = &logged.entry;
    reply::array(out, 6);
    integer(out, logged.id.into());
    integer(out, (entry.at_ms / 1000).into());
    integer(out, entry.latency.as_micros());
    let more = (entry.commands > 1)
        .then(|| format!("... ({} more commands of the same pipeline)", entry.commands - 1));
    reply::array(out, entry.arguments.len() + more.iter().len());
    entry
        .arguments
        .iter()
        .for_each(|argument| reply::bulk(out, argument));
    more.iter().for_each(|more| reply::bulk(out, more.as_bytes()));
    reply::bulk(out, entry.client_address.as_bytes());
    reply::bulk(out, &entry.client_name);
}

fn len(call: &mut Call<'_>) -> Result<Action, Failure> {
    let length = call.server.telemetry().slow().len();
    reply::integer(call.out, i64::try_from(length).unwrap_or(i64::MAX));
    Ok(Action::Replied)
}

fn reset(call: &mut Call<'_>) -> Result<Action, Failure> {
    call.server.telemetry().slow().reset();
    reply::simple(call.out, "OK");
    Ok(Action::Replied)
}
