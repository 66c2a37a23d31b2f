//! Commands that walk the keys: `SCAN`, `KEYS`, `RANDOMKEY`, and `KV.SCAN` over a range of them.

use std::ops::Bound;

use corelane::types::MAX_KEY_BYTES;

use super::table::{READ_MANY, spec};
use super::{Action, Call, Failure, Keys, Spec};
use crate::query::{Query, RangeQuery, ScanQuery};
use crate::resp::number::parse_i64;

/// The commands of this file.
pub static COMMANDS: &[Spec] = &[
    spec(
        "keys",
        2,
        READ_MANY,
        Keys::NONE,
        "generic",
        "Returns all keys that match a pattern.",
        keys,
    ),
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
        "randomkey",
        1,
        READ_MANY,
        Keys::NONE,
        "generic",
        "Returns a key by chance.",
        random_key,
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

/// `SCAN cursor [MATCH pattern] [COUNT n] [TYPE type]`.
pub fn scan(call: &mut Call<'_>) -> Result<Action, Failure> {
    let cursor = cursor(call.arguments.at(1)).ok_or(Failure::fixed("ERR invalid cursor"))?;
    let (mut pattern, mut count, mut no_type) = (None, DEFAULT_COUNT, false);
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
            b"TYPE" => no_type = !value.eq_ignore_ascii_case(b"string"),
            _ => return Err(Failure::SYNTAX),
        }
    }
    Ok(Action::Query(Query::Scan(ScanQuery {
        cursor,
        pattern,
        count,
        no_type,
    })))
}

/// A cursor as Redis reads it, which is what C's `strtoul` makes of the whole text: nothing is 0, and a sign is allowed.
fn cursor(text: &[u8]) -> Option<u64> {
    let (negative, digits) = match text {
        [] => return Some(0),
        [sign @ (b'-' | b'+'), digits @ ..] => (*sign == b'-', digits),
        digits => (false, digits),
    };
    let all_digits = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let number: u64 = all_digits.then(|| std::str::from_utf8(digits).ok()?.parse().ok())??;
    Some(if negative { number.wrapping_neg() } else { number })
}

/// `KEYS pattern`.
pub fn keys(call: &mut Call<'_>) -> Result<Action, Failure> {
    Ok(Action::Query(Query::Keys(call.arguments.at(1).to_vec())))
}

/// `RANDOMKEY`.
pub fn random_key(_: &mut Call<'_>) -> Result<Action, Failure> {
    Ok(Action::Query(Query::Random))
}

/// `KV.SCAN start end [LIMIT n] [REV] [CURSOR c] [KEYS]`: keys from `start` to before `end` in byte order, `-` and `+` for
/// no bound; with `REV` the same keys from the last to the first.
pub fn kv_scan(call: &mut Call<'_>) -> Result<Action, Failure> {
    if call
        .arguments
        .from(1)
        .take(2)
        .any(|key| key.len() > MAX_KEY_BYTES)
    {
        return Err(Failure::KEY_TOO_LONG);
    }
    let mut query = RangeQuery {
        start: match call.arguments.at(1) {
            b"-" => Bound::Unbounded,
            key => Bound::Included(key.to_vec()),
        },
        end: match call.arguments.at(2) {
            b"+" => Bound::Unbounded,
            key => Bound::Excluded(key.to_vec()),
        },
        limit: None,
        reverse: false,
        keys_only: false,
        cursor: None,
    };
    let mut place = 3;
    while let Some(option) = call.arguments.get(place) {
        place += 1;
        match option.to_ascii_uppercase().as_slice() {
            b"KEYS" => query.keys_only = true,
            b"REV" => query.reverse = true,
            b"LIMIT" => {
                let limit = call.arguments.get(place).ok_or(Failure::SYNTAX)?;
                let limit = parse_i64(limit).ok_or(Failure::NOT_AN_INTEGER)?;
                let limit =
                    usize::try_from(limit).map_err(|_| Failure::fixed("ERR LIMIT can't be negative"))?;
                query.limit = Some(limit);
                place += 1;
            }
            b"CURSOR" => {
                let cursor = call.arguments.get(place).ok_or(Failure::SYNTAX)?;
                query.cursor = Some(cursor.to_vec());
                place += 1;
            }
            _ => return Err(Failure::SYNTAX),
        }
    }
    Ok(Action::Query(Query::Range(query)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_are_read_as_redis_reads_them() {
        for zero in [b"0".as_slice(), b"", b"-0", b"+0", b"00"] {
            assert_eq!(cursor(zero), Some(0));
        }
        assert_eq!(cursor(b"-1"), Some(u64::MAX));
        assert_eq!(cursor(b"+7"), Some(7));
        assert_eq!(cursor(b"18446744073709551615"), Some(u64::MAX));
        for text in [
            b"-".as_slice(),
            b"1 ",
            b" 1",
            b"18446744073709551616",
            b"x",
            b"1x",
        ] {
            assert_eq!(cursor(text), None);
        }
    }
}
