//! Commands on numbers kept as text: `INCR` and its kin, and `INCRBYFLOAT`. What ends keeps its end.

use super::long_double;
use super::table::{WRITE_FAST, keyed};
use super::{Failure, Keys, Request, Spec, View};
use crate::resp::number::parse_i64;
use crate::resp::reply;

/// The commands of this file.
pub static COMMANDS: &[Spec] = &[
    keyed(
        "decr",
        2,
        WRITE_FAST,
        Keys::ONE,
        "string",
        "Takes one from the number of a key.",
        decr,
    ),
    keyed(
        "decrby",
        3,
        WRITE_FAST,
        Keys::ONE,
        "string",
        "Takes from the number of a key.",
        decrby,
    ),
    keyed(
        "incr",
        2,
        WRITE_FAST,
        Keys::ONE,
        "string",
        "Adds one to the number of a key.",
        incr,
    ),
    keyed(
        "incrby",
        3,
        WRITE_FAST,
        Keys::ONE,
        "string",
        "Adds to the number of a key.",
        incrby,
    ),
    keyed(
        "incrbyfloat",
        3,
        WRITE_FAST,
        Keys::ONE,
        "string",
        "Adds to the number with a fraction of a key.",
        incrbyfloat,
    ),
];

/// `INCR key`.
pub fn incr(request: &Request<'_>, view: &mut View<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
    add(request, 1, view, out)
}

/// `DECR key`.
pub fn decr(request: &Request<'_>, view: &mut View<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
    add(request, -1, view, out)
}

/// `INCRBY key n`.
pub fn incrby(request: &Request<'_>, view: &mut View<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
    let by = parse_i64(request.arguments.at(2)).ok_or(Failure::NOT_AN_INTEGER)?;
    add(request, by, view, out)
}

/// `DECRBY key n`.
pub fn decrby(request: &Request<'_>, view: &mut View<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
    let by = parse_i64(request.arguments.at(2)).ok_or(Failure::NOT_AN_INTEGER)?;
    let by = by.checked_neg().ok_or(Failure::DECREMENT_OVERFLOW)?;
    add(request, by, view, out)
}

fn add(request: &Request<'_>, by: i64, view: &mut View<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
    let item = view.get(request.key());
    let now = item.map_or(Some(0), |item| parse_i64(item.value));
    let now = now.ok_or(Failure::NOT_AN_INTEGER)?;
    let sum = now.checked_add(by).ok_or(Failure::OVERFLOW)?;
    let expires_ms = item.and_then(|item| item.expires_ms);
    view.put(request.key(), sum.to_string().into_bytes(), expires_ms);
    reply::integer(out, sum);
    Ok(())
}

/// `INCRBYFLOAT key n`.
pub fn incrbyfloat(request: &Request<'_>, view: &mut View<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
    let item = view.get(request.key());
    let now = item.map_or(Some(long_double::ZERO), |item| long_double::parse(item.value));
    let now = now.ok_or(Failure::NOT_A_FLOAT)?;
    let by = long_double::parse(request.arguments.at(2)).ok_or(Failure::NOT_A_FLOAT)?;
    let sum = long_double::add(now, by).ok_or(Failure::NOT_FINITE)?;
    let text = long_double::show(sum).into_bytes();
    reply::bulk(out, &text);
    let expires_ms = item.and_then(|item| item.expires_ms);
    view.put(request.key(), text, expires_ms);
    Ok(())
}
