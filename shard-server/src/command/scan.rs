//! `SCAN` over all keys and `KV.SCAN` over a range of them.

use std::ops::Bound;

use corelane::types::MAX_KEY_BYTES;

use super::table::{READ_MANY, spec};
use super::{Action, Call, Failure, Keys, Spec};
use crate::query::{Query, RangeQuery, ScanQuery};
use crate::resp::number::parse_i64;

/// The commands of this file.
pub static COMMANDS: &[Spec] = &[
    spec(
        "kv.scan",
        -3,
        READ_MANY,
        Keys::NONE,
        "generic",
        "Reads a range in key order.",
        kv_scan,
    ),
    spec(
        "scan",
        -2,
        READ_MANY,
        Keys::NONE,
        "generic",
        "Goes through the keys in steps.",
        scan,
    ),
];

/// Keys looked at by one `SCAN` where the client does not say (as in Redis).
const DEFAULT_COUNT: usize = 10;

/// Most keys looked at by one `SCAN`. `COUNT` is a wish, so that a larger one is cut rather than refused.
const MAX_COUNT: usize = 10_000;

/// `SCAN cursor [MATCH pattern] [COUNT n]`.
pub fn scan(call: &mut Call<'_>) -> Result<Action, Failure> {
    let cursor = cursor(call.arguments.at(1)).ok_or(Failure::fixed("ERR invalid cursor"))?;
    let (mut pattern, mut count) = (None, DEFAULT_COUNT);
    for place in (2..call.arguments.count()).step_by(2) {
        let value = call.arguments.get(place + 1).ok_or(Failure::SYNTAX)?;
        match call.arguments.at(place).to_ascii_uppercase().as_slice() {
            b"MATCH" => pattern = Some(value.to_vec()),
            b"COUNT" => {
                let wanted = parse_i64(value).ok_or(Failure::NOT_AN_INTEGER)?;
                let wanted = usize::try_from(wanted)
                    .ok()
                    .filter(|&n| n > 0)
                    .ok_or(Failure::SYNTAX)?;
                count = wanted.min(MAX_COUNT);
            }
            _ => return Err(Failure::SYNTAX),
        }
    }
    Ok(Action::Query(Query::Scan(ScanQuery {
        cursor,
        pattern,
        count,
    })))
}

fn cursor(text: &[u8]) -> Option<u64> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    digits.then(|| std::str::from_utf8(text).ok()?.parse().ok())?
}

/// `KV.SCAN start end [LIMIT n]`: keys from `start` to before `end` in byte order, `-` and `+` for no bound.
pub fn kv_scan(call: &mut Call<'_>) -> Result<Action, Failure> {
    let limit = match call.arguments.count() {
        3 => None,
        5 if call.arguments.at(3).eq_ignore_ascii_case(b"LIMIT") => {
            let limit = parse_i64(call.arguments.at(4)).ok_or(Failure::NOT_AN_INTEGER)?;
            Some(usize::try_from(limit).map_err(|_| Failure::fixed("ERR LIMIT can't be negative"))?)
        }
        _ => return Err(Failure::SYNTAX),
    };
    if call
        .arguments
        .from(1)
        .take(2)
        .any(|key| key.len() > MAX_KEY_BYTES)
    {
        return Err(Failure::KEY_TOO_LONG);
    }
    let start = match call.arguments.at(1) {
        b"-" => Bound::Unbounded,
        key => Bound::Included(key.to_vec()),
    };
    let end = match call.arguments.at(2) {
        b"+" => Bound::Unbounded,
        key => Bound::Excluded(key.to_vec()),
    };
    Ok(Action::Query(Query::Range(RangeQuery { start, end, limit })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_are_plain_numbers() {
        assert_eq!(cursor(b"0"), Some(0));
        assert_eq!(cursor(b"18446744073709551615"), Some(u64::MAX));
        for text in [b"".as_slice(), b"-1", b"+1", b"1 ", b"18446744073709551616", b"x"] {
            assert_eq!(cursor(text), None);
        }
    }
}
