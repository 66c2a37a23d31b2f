//! Commands on whole databases, of which there is one: `FLUSHALL`, `FLUSHDB`, `SWAPDB`, `MOVE`.

use super::table::{WRITE_FAST, spec};
use super::{Action, Call, Failure, Keys, Spec};
use crate::query::Query;
use crate::resp::number::parse_i64;
use crate::resp::reply;

/// The commands of this file.
pub static COMMANDS: &[Spec] = &[
    spec(
        "flushall",
        -1,
        &["write"],
        Keys::NONE,
        "server",
        "Deletes all keys.",
        flush,
    ),
    spec(
        "flushdb",
        -1,
        &["write"],
        Keys::NONE,
        "server",
        "Deletes all keys.",
        flush,
    ),
    spec(
        "move",
        3,
        WRITE_FAST,
        Keys::ONE,
        "generic",
        "Has no other database to move a key to.",
        move_key,
    ),
    spec(
        "swapdb",
        3,
        WRITE_FAST,
        Keys::NONE,
        "server",
        "Has no other database to swap with.",
        swap,
    ),
];

/// `FLUSHALL [ASYNC | SYNC]`, `FLUSHDB [ASYNC | SYNC]`: both wait until the keys are gone.
pub fn flush(call: &mut Call<'_>) -> Result<Action, Failure> {
    match (call.arguments.count(), call.arguments.get(1)) {
        (1, _) => {}
        (2, Some(how)) if [b"ASYNC".as_slice(), b"SYNC"].contains(&how.to_ascii_uppercase().as_slice()) => {}
        _ => return Err(Failure::SYNTAX),
    }
    Ok(Action::Query(Query::Clear))
}

/// `SWAPDB 0 0`.
pub fn swap(call: &mut Call<'_>) -> Result<Action, Failure> {
    let index =
        |place: usize| parse_i64(call.arguments.at(place)).and_then(|index| i32::try_from(index).ok());
    let first = index(1).ok_or(Failure::fixed("ERR invalid first DB index"))?;
    let second = index(2).ok_or(Failure::fixed("ERR invalid second DB index"))?;
    if (first, second) != (0, 0) {
        return Err(Failure::DB_INDEX);
    }
    reply::simple(call.out, "OK");
    Ok(Action::Replied)
}

/// `MOVE key 0`, which is where every key is.
pub fn move_key(call: &mut Call<'_>) -> Result<Action, Failure> {
    let index = parse_i64(call.arguments.at(2)).ok_or(Failure::NOT_AN_INTEGER)?;
    Err(match i32::try_from(index) {
        Ok(0) => Failure::fixed("ERR source and destination objects are the same"),
        Ok(_) => Failure::DB_INDEX,
        Err(_) => Failure::OUT_OF_INT_RANGE,
    })
}
