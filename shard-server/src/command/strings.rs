//! Commands on one string value: `GET`, `SET`, `MGET`, `MSET`, `INCR` and its kin.

use corelane::api::{Batch, Decision, Op, UpdateFn};

use super::table::{READ, WRITE, WRITE_FAST, spec};
use super::{Action, Call, Failure, Keys, Shape, Spec, durability, update};
use crate::resp::number::parse_i64;

/// The commands of this file.
pub static COMMANDS: &[Spec] = &[
    spec(
        "decr",
        2,
        WRITE_FAST,
        Keys::ONE,
        "string",
        "Takes one from the number of a key.",
        decr,
    ),
    spec(
        "decrby",
        3,
        WRITE_FAST,
        Keys::ONE,
        "string",
        "Takes from the number of a key.",
        decrby,
    ),
    spec(
        "get",
        2,
        READ,
        Keys::ONE,
        "string",
        "Returns the value of a key.",
        get,
    ),
    spec(
        "incr",
        2,
        WRITE_FAST,
        Keys::ONE,
        "string",
        "Adds one to the number of a key.",
        incr,
    ),
    spec(
        "incrby",
        3,
        WRITE_FAST,
        Keys::ONE,
        "string",
        "Adds to the number of a key.",
        incrby,
    ),
    spec(
        "mget",
        -2,
        READ,
        Keys::ALL,
        "string",
        "Returns the values of keys.",
        mget,
    ),
    spec(
        "mset",
        -3,
        WRITE,
        Keys::PAIRS,
        "string",
        "Sets keys of one shard at once.",
        mset,
    ),
    spec(
        "set",
        -3,
        WRITE,
        Keys::ONE,
        "string",
        "Sets the value of a key.",
        set,
    ),
];

/// `GET key`.
pub fn get(_: &mut Call<'_>) -> Result<Action, Failure> {
    Ok(Action::Value)
}

/// `MGET key [key …]`.
pub fn mget(_: &mut Call<'_>) -> Result<Action, Failure> {
    Ok(Action::Values)
}

/// When `SET` writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition {
    Always,
    IfAbsent,
    IfPresent,
}

/// `SET key value [NX | XX] [GET] [KEEPTTL]`. Expiry options are refused by name until the engine keeps times;
/// `KEEPTTL` keeps what no key has yet.
pub fn set(call: &mut Call<'_>) -> Result<Action, Failure> {
    let (mut condition, mut previous) = (Condition::Always, false);
    for option in call.arguments.from(3) {
        let wanted = match option.to_ascii_uppercase().as_slice() {
            b"NX" => Condition::IfAbsent,
            b"XX" => Condition::IfPresent,
            b"GET" => {
                previous = true;
                continue;
            }
            b"KEEPTTL" => continue,
            b"EX" | b"PX" | b"EXAT" | b"PXAT" => {
                let option = String::from_utf8_lossy(option);
                return Err(Failure::err(format_args!(
                    "SET with {option} is not supported yet: keys do not expire"
                )));
            }
            _ => return Err(Failure::SYNTAX),
        };
        if condition != Condition::Always && condition != wanted {
            return Err(Failure::SYNTAX);
        }
        condition = wanted;
    }
    let (key, value) = (call.arguments.at(1), call.arguments.at(2));
    if condition == Condition::Always && !previous {
        let mut batch = Batch::new();
        batch.put(key, value)?;
        return Ok(write(call, batch));
    }
    let value = value.to_vec();
    let decide = move |present: bool| match condition {
        Condition::IfAbsent if present => Decision::Keep,
        Condition::IfPresent if !present => Decision::Keep,
        _ => Decision::Put(value),
    };
    if !previous {
        let apply: UpdateFn = Box::new(move |now| decide(now.value.is_some()));
        return Ok(update(call, apply, Shape::OkIfWritten));
    }
    let (report, found) = oneshot::channel();
    let apply: UpdateFn = Box::new(move |now| {
        // A client that went away does not wait for it.
        let _ = report.send(now.value.map(<[u8]>::to_vec));
        decide(now.value.is_some())
    });
    Ok(update(call, apply, Shape::Previous(found)))
}

/// `MSET key value [key value …]`: all or nothing, so its keys must be of one shard.
pub fn mset(call: &mut Call<'_>) -> Result<Action, Failure> {
    if call.arguments.count().is_multiple_of(2) {
        return Err(Failure::arity("mset"));
    }
    let mut batch = Batch::new();
    for place in (1..call.arguments.count()).step_by(2) {
        batch.put(call.arguments.at(place), call.arguments.at(place + 1))?;
    }
    Ok(write(call, batch))
}

fn write(call: &Call<'_>, batch: Batch) -> Action {
    let op = Op::Write {
        batch,
        durability: durability(call),
    };
    Action::Write(op, Shape::Ok)
}

/// `INCR key`.
pub fn incr(call: &mut Call<'_>) -> Result<Action, Failure> {
    Ok(add(call, 1))
}

/// `DECR key`.
pub fn decr(call: &mut Call<'_>) -> Result<Action, Failure> {
    Ok(add(call, -1))
}

/// `INCRBY key n`.
pub fn incrby(call: &mut Call<'_>) -> Result<Action, Failure> {
    let by = parse_i64(call.arguments.at(2)).ok_or(Failure::NOT_AN_INTEGER)?;
    Ok(add(call, by))
}

/// `DECRBY key n`.
pub fn decrby(call: &mut Call<'_>) -> Result<Action, Failure> {
    let by = parse_i64(call.arguments.at(2)).ok_or(Failure::NOT_AN_INTEGER)?;
    let by = by.checked_neg().ok_or(Failure::DECREMENT_OVERFLOW)?;
    Ok(add(call, by))
}

/// Adds to the number in the first key, on the core that owns it.
fn add(call: &Call<'_>, by: i64) -> Action {
    let (report, sum) = oneshot::channel();
    let apply: UpdateFn = Box::new(move |now| {
        let result = sum_of(now.value, by);
        let decision = match &result {
            Ok(n) => Decision::Put(n.to_string().into_bytes()),
            Err(_) => Decision::Keep,
        };
        // A client that went away does not wait for it.
        let _ = report.send(result);
        decision
    });
    update(call, apply, Shape::Number(sum))
}

/// What an absent or present number becomes when `by` is added.
fn sum_of(present: Option<&[u8]>, by: i64) -> Result<i64, Failure> {
    let now = present
        .map_or(Some(0), parse_i64)
        .ok_or(Failure::NOT_AN_INTEGER)?;
    now.checked_add(by).ok_or(Failure::OVERFLOW)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_redis() {
        assert_eq!(sum_of(None, 5), Ok(5));
        assert_eq!(sum_of(Some(b"-3"), 1), Ok(-2));
        assert_eq!(sum_of(Some(b"9223372036854775807"), 1), Err(Failure::OVERFLOW));
        assert_eq!(sum_of(Some(b" 3"), 1), Err(Failure::NOT_AN_INTEGER));
        assert_eq!(sum_of(Some(b""), 1), Err(Failure::NOT_AN_INTEGER));
    }
}
