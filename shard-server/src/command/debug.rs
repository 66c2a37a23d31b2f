//! Commands that only wait: `DEBUG SLEEP` and `WAIT`. Their own connection waits; the core serves others meanwhile.

use std::time::Duration;

use super::subcommand::{Container, Subcommand};
use super::table::{ADMIN, spec};
use super::{Action, Call, Failure, Keys, Spec};
use crate::query::Query;
use crate::resp::number::parse_i64;
use crate::resp::reply;

/// The commands of this file.
pub static COMMANDS: &[Spec] = &[
    spec(
        "debug",
        -2,
        ADMIN,
        Keys::NONE,
        "server",
        "Waits, for tests.",
        debug,
    ),
    spec(
        "wait",
        3,
        &[],
        Keys::NONE,
        "generic",
        "Waits for replicas, of which there are none.",
        wait,
    ),
];

/// `DEBUG` and its parts.
pub const CONTAINER: Container = Container {
    name: "debug",
    subcommands: &[Subcommand {
        name: "sleep",
        arity: 3,
        flags: ADMIN,
        keys: Keys::NONE,
        usage: "SLEEP <seconds>",
        summary: "Answers this connection after so many seconds; decimals are allowed.",
        run: sleep,
    }],
};

/// Longest wait. Nobody looks at the client while it waits, so that one that has left would keep its place for as long.
const LONGEST: Duration = Duration::from_secs(60);

/// `DEBUG subcommand`.
pub fn debug(call: &mut Call<'_>) -> Result<Action, Failure> {
    CONTAINER.run(call)
}

fn sleep(call: &mut Call<'_>) -> Result<Action, Failure> {
    let text = std::str::from_utf8(call.arguments.at(2)).ok();
    let seconds = text.and_then(|text| text.parse::<f64>().ok());
    let length = seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or(Failure::fixed("ERR value is not a valid float"))?;
    Ok(Action::Query(Query::Wait {
        length: length.min(LONGEST),
        answer: b"+OK\r\n",
    }))
}

/// `WAIT numreplicas timeout`: with replicas asked for it waits the timeout, at most a minute (0 means that), and there is
/// none.
pub fn wait(call: &mut Call<'_>) -> Result<Action, Failure> {
    let replicas = parse_i64(call.arguments.at(1)).ok_or(Failure::NOT_AN_INTEGER)?;
    let timeout = parse_i64(call.arguments.at(2))
        .ok_or(Failure::fixed("ERR timeout is not an integer or out of range"))?;
    let timeout_ms = u64::try_from(timeout).map_err(|_| Failure::fixed("ERR timeout is negative"))?;
    if replicas <= 0 {
        reply::integer(call.out, 0);
        return Ok(Action::Replied);
    }
    let length = match timeout_ms {
        0 => LONGEST,
        ms => Duration::from_millis(ms).min(LONGEST),
    };
    Ok(Action::Query(Query::Wait {
        length,
        answer: b":0\r\n",
    }))
}
