//! Commands on keys whatever they hold: `DEL`, `EXISTS`, `TYPE`, `RENAME`, `COPY` and their kin.

use super::table::{READ, READ_MANY, keyed, spec};
use super::{Action, Call, Failure, Keys, Request, Spec, View};
use crate::query::Query;
use crate::resp::number::parse_i64;
use crate::resp::reply;

/// The commands of this file.
pub static COMMANDS: &[Spec] = &[
    keyed(
        "copy",
        -3,
        &["write", "denyoom"],
        Keys::TWO,
        "generic",
        "Copies a key to another of its shard.",
        copy,
    ),
    spec(
        "dbsize",
        1,
        READ_MANY,
        Keys::NONE,
        "server",
        "Counts the keys by walking them.",
        dbsize,
    ),
    keyed("del", -2, &["write"], Keys::ALL, "generic", "Deletes keys.", del)
        .or_faster(|_| Ok(Action::Delete)),
    keyed(
        "exists",
        -2,
        READ,
        Keys::ALL,
        "generic",
        "Counts which of the keys are there.",
        exists,
    )
    .or_faster(|_| Ok(Action::Present)),
    keyed(
        "rename",
        3,
        &["write"],
        Keys::TWO,
        "generic",
        "Renames a key to another of its shard.",
        rename,
    ),
    keyed(
        "renamenx",
        3,
        &["write", "fast"],
        Keys::TWO,
        "generic",
        "Renames a key to another of its shard that is not there.",
        renamenx,
    ),
    keyed(
        "touch",
        -2,
        READ,
        Keys::ALL,
        "generic",
        "Counts which of the keys are there.",
        exists,
    )
    .or_faster(|_| Ok(Action::Present)),
    keyed(
        "type",
        2,
        READ,
        Keys::ONE,
        "generic",
        "Tells what a key holds.",
        kind,
    ),
    keyed(
        "unlink",
        -2,
        &["write", "fast"],
        Keys::ALL,
        "generic",
        "Deletes keys.",
        del,
    )
    .or_faster(|_| Ok(Action::Delete)),
];

/// `DEL key [key …]` and `UNLINK`. Outside of a transaction each key goes on its own, so that they may be of several
/// shards: only a crash can leave some of them behind.
pub fn del(request: &Request<'_>, view: &mut View<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
    let mut deleted = 0;
    for key in request.keys() {
        if view.get(key).is_some() {
            view.remove(key);
            deleted += 1;
        }
    }
    reply::integer(out, deleted);
    Ok(())
}

/// `EXISTS key [key …]` and `TOUCH`.
pub fn exists(request: &Request<'_>, view: &mut View<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
    reply::length(out, request.keys().filter(|key| view.get(key).is_some()).count());
    Ok(())
}

/// `TYPE key`.
pub fn kind(request: &Request<'_>, view: &mut View<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
    let there = view.get(request.key()).is_some();
    reply::simple(out, if there { "string" } else { "none" });
    Ok(())
}

/// `RENAME key newkey`.
pub fn rename(request: &Request<'_>, view: &mut View<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
    let (from, to) = (request.key(), request.arguments.at(2));
    let item = view.get(from).ok_or(Failure::NO_SUCH_KEY)?;
    if from != to {
        let (value, expires_ms) = (item.value.to_vec(), item.expires_ms);
        view.put(to, value, expires_ms);
        view.remove(from);
    }
    reply::simple(out, "OK");
    Ok(())
}

/// `RENAMENX key newkey`.
pub fn renamenx(request: &Request<'_>, view: &mut View<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
    let (from, to) = (request.key(), request.arguments.at(2));
    let item = view.get(from).ok_or(Failure::NO_SUCH_KEY)?;
    let free = view.get(to).is_none();
    if free {
        let (value, expires_ms) = (item.value.to_vec(), item.expires_ms);
        view.put(to, value, expires_ms);
        view.remove(from);
    }
    reply::integer(out, i64::from(free));
    Ok(())
}

/// `COPY source destination [DB 0] [REPLACE]`.
pub fn copy(request: &Request<'_>, view: &mut View<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
    let arguments = request.arguments;
    let (mut replace, mut place) = (false, 3);
    while let Some(option) = arguments.get(place) {
        match (option.to_ascii_uppercase().as_slice(), arguments.get(place + 1)) {
            (b"REPLACE", _) => replace = true,
            (b"DB", Some(index)) => {
                let index = parse_i64(index).ok_or(Failure::NOT_AN_INTEGER)?;
                match i32::try_from(index).map_err(|_| Failure::OUT_OF_INT_RANGE)? {
                    0 => place += 1,
                    _ => return Err(Failure::DB_INDEX),
                }
            }
            _ => return Err(Failure::SYNTAX),
        }
        place += 1;
    }
    let (from, to) = (request.key(), arguments.at(2));
    if from == to {
        return Err(Failure::SAME_OBJECT);
    }
    let item = view.get(from).filter(|_| replace || view.get(to).is_none());
    reply::integer(out, i64::from(item.is_some()));
    if let Some(item) = item {
        let (value, expires_ms) = (item.value.to_vec(), item.expires_ms);
        view.put(to, value, expires_ms);
    }
    Ok(())
}

/// `DBSIZE`: exact, by walking all keys.
pub fn dbsize(_: &mut Call<'_>) -> Result<Action, Failure> {
    Ok(Action::Query(Query::Count))
}
