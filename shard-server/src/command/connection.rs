//! Commands about the connection that need nothing else: `PING`, `ECHO`, `SELECT`, `RESET`, `QUIT`, and what ends a browser.

use super::table::{FAST, NO_AUTH, spec};
use super::{Action, Call, Failure, Keys, Spec};
use crate::query::Query;
use crate::resp::number::parse_i64;
use crate::resp::reply;

/// The commands of this file.
pub static COMMANDS: &[Spec] = &[
    spec(
        "echo",
        2,
        FAST,
        Keys::NONE,
        "connection",
        "Returns its argument.",
        echo,
    ),
    spec(
        "host:",
        -1,
        NO_AUTH,
        Keys::NONE,
        "connection",
        "Ends an HTTP request.",
        http,
    ),
    spec("ping", -1, &["fast"], Keys::NONE, "connection", "Answers.", ping),
    spec(
        "post",
        -1,
        NO_AUTH,
        Keys::NONE,
        "connection",
        "Ends an HTTP request.",
        http,
    ),
    spec(
        "quit",
        -1,
        NO_AUTH,
        Keys::NONE,
        "connection",
        "Ends the connection.",
        quit,
    ),
    spec(
        "reset",
        1,
        NO_AUTH,
        Keys::NONE,
        "connection",
        "Makes the connection as new.",
        reset,
    ),
    spec(
        "select",
        2,
        FAST,
        Keys::NONE,
        "connection",
        "Accepts database 0.",
        select,
    ),
];

/// `PING [message]`.
pub fn ping(call: &mut Call<'_>) -> Result<Action, Failure> {
    match call.arguments.count() {
        1 => reply::simple(call.out, "PONG"),
        2 => reply::bulk(call.out, call.arguments.at(1)),
        _ => return Err(Failure::arity("ping")),
    }
    Ok(Action::Replied)
}

/// `ECHO message`.
pub fn echo(call: &mut Call<'_>) -> Result<Action, Failure> {
    reply::bulk(call.out, call.arguments.at(1));
    Ok(Action::Replied)
}

/// `QUIT`.
pub fn quit(call: &mut Call<'_>) -> Result<Action, Failure> {
    reply::simple(call.out, "OK");
    Ok(Action::Close)
}

/// What browsers send to a port that is not theirs. The connection ends at once, so that a page cannot smuggle
/// commands in the body of its request (Redis does the same).
pub fn http(_: &mut Call<'_>) -> Result<Action, Failure> {
    Ok(Action::Close)
}

/// `SELECT 0`.
pub fn select(call: &mut Call<'_>) -> Result<Action, Failure> {
    let index = parse_i64(call.arguments.at(1)).ok_or(Failure::NOT_AN_INTEGER)?;
    match i32::try_from(index).map_err(|_| Failure::OUT_OF_INT_RANGE)? {
        0 => reply::simple(call.out, "OK"),
        _ if call.session.own_core => return Err(Failure::CLUSTER_SELECT),
        _ => return Err(Failure::DB_INDEX),
    }
    Ok(Action::Replied)
}

/// `RESET`: done once everything before it was answered, because it changes the protocol.
pub fn reset(_: &mut Call<'_>) -> Result<Action, Failure> {
    Ok(Action::Query(Query::Reset))
}
