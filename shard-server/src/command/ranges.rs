//! Commands on parts of a string value: `APPEND`, `STRLEN`, `GETRANGE`, `SETRANGE`, `SUBSTR`. What ends keeps its end, and a
//! value that would be too long is refused before anything is made of it.

use corelane::types::MAX_VALUE_BYTES;

use super::table::{READ, READ_MANY, WRITE, WRITE_FAST, keyed};
use super::{Failure, Keys, Request, Spec, View};
use crate::resp::number::parse_i64;
use crate::resp::reply;

/// The commands of this file.
pub static COMMANDS: &[Spec] = &[
    keyed(
        "append",
        3,
        WRITE_FAST,
        Keys::ONE,
        "string",
        "Appends to the value of a key.",
        append,
    ),
    keyed(
        "getrange",
        4,
        READ_MANY,
        Keys::ONE,
        "string",
        "Returns a part of the value of a key.",
        getrange,
    ),
    keyed(
        "setrange",
        4,
        WRITE,
        Keys::ONE,
        "string",
        "Overwrites a part of the value of a key.",
        setrange,
    ),
    keyed(
        "strlen",
        2,
        READ,
        Keys::ONE,
        "string",
        "Returns the length of the value of a key.",
        strlen,
    ),
    keyed(
        "substr",
        4,
        READ_MANY,
        Keys::ONE,
        "string",
        "Returns a part of the value of a key.",
        getrange,
    ),
];

/// A range as Redis reads one: both ends inclusive, negative ones counted from the end of `length` things, and what lies
/// outside cut off. `None` where nothing is left. An end before the first is cut to the first; most commands refuse a
/// range that [is backwards](is_backwards) before that.
pub fn resolve_range(start: i64, end: i64, length: usize) -> Option<(usize, usize)> {
    let length = i64::try_from(length).ok()?;
    let from_end = |place: i64| {
        if place < 0 {
            place.saturating_add(length).max(0)
        } else {
            place
        }
    };
    let (start, end) = (from_end(start), from_end(end).min(length - 1));
    if start > end {
        return None;
    }
    Some((usize::try_from(start).ok()?, usize::try_from(end).ok()?))
}

/// Whether both ends are counted from the end, and the wrong way round.
pub fn is_backwards(start: i64, end: i64) -> bool {
    start < 0 && end < 0 && start > end
}

/// `STRLEN key`.
pub fn strlen(request: &Request<'_>, view: &mut View<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
    let length = view.get(request.key()).map_or(0, |item| item.value.len());
    reply::length(out, length);
    Ok(())
}

/// `GETRANGE key start end`.
pub fn getrange(request: &Request<'_>, view: &mut View<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
    let start = parse_i64(request.arguments.at(2)).ok_or(Failure::NOT_AN_INTEGER)?;
    let end = parse_i64(request.arguments.at(3)).ok_or(Failure::NOT_AN_INTEGER)?;
    let value = view.get(request.key()).map_or(b"".as_slice(), |item| item.value);
    let range = resolve_range(start, end, value.len());
    match range.filter(|_| !is_backwards(start, end)) {
        Some((start, end)) => {
            let part = &value[start..=end];
            view.take_room(part.len())?;
            reply::bulk(out, part);
        }
        None => reply::bulk(out, b""),
    }
    Ok(())
}

/// `APPEND key value`.
pub fn append(request: &Request<'_>, view: &mut View<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
    let more = request.arguments.at(2);
    let item = view.get(request.key());
    let (there, length) = (item.is_some(), item.map_or(0, |item| item.value.len()));
    if length + more.len() > MAX_VALUE_BYTES {
        return Err(Failure::TOO_LONG);
    }
    if !there || !more.is_empty() {
        view.edit(request.key(), |value| value.extend_from_slice(more));
    }
    reply::length(out, length + more.len());
    Ok(())
}

/// `SETRANGE key offset value`: zeros fill the room before the offset; an empty value changes nothing and makes no key.
pub fn setrange(request: &Request<'_>, view: &mut View<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
    let offset = parse_i64(request.arguments.at(2)).ok_or(Failure::NOT_AN_INTEGER)?;
    let patch = request.arguments.at(3);
    if offset < 0 {
        return Err(Failure::OFFSET);
    }
    let length = view.get(request.key()).map_or(0, |item| item.value.len());
    if patch.is_empty() {
        reply::length(out, length);
        return Ok(());
    }
    let end = usize::try_from(offset)
        .ok()
        .and_then(|offset| offset.checked_add(patch.len()));
    let end = end
        .filter(|&end| end <= MAX_VALUE_BYTES)
        .ok_or(Failure::TOO_LONG)?;
    view.edit(request.key(), |value| {
        value.resize(length.max(end), 0);
        value[end - patch.len()..end].copy_from_slice(patch);
    });
    reply::length(out, length.max(end));
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_range_holds_the_places_between_its_ends(start in -12_i64..12, end in -12_i64..12, length in 0_usize..10) {
            let count = i64::try_from(length).unwrap();
            let place = |n: i64| if n < 0 { n + count } else { n };
            let inside: Vec<usize> = (0..length)
                .filter(|&at| {
                    let at = i64::try_from(at).unwrap();
                    place(start) <= at && at <= place(end)
                })
                .collect();
            // Redis cuts an end before the first place to the first place.
            let expected = match (inside.first(), inside.last()) {
                (Some(&first), Some(&last)) => Some((first, last)),
                _ if length > 0 && place(start) <= 0 && place(end) < 0 => Some((0, 0)),
                _ => None,
            };
            prop_assert_eq!(resolve_range(start, end, length), expected);
        }

        #[test]
        fn ranges_far_outside_do_not_overflow(start: i64, end: i64, length in 0_usize..10) {
            if let Some((start, end)) = resolve_range(start, end, length) {
                prop_assert!(start <= end && end < length);
            }
        }
    }
}
