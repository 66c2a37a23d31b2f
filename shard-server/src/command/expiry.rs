//! Commands on when a key ends: `EXPIRE` and its kin, `TTL` and its kin, `PERSIST`.

use super::options::{Clause, MILLISECONDS, SECONDS, moment_ms};
use super::table::{READ, keyed};
use super::{Failure, Keys, Request, Spec, View};
use crate::resp::number::parse_i64;
use crate::resp::reply;

/// What commands that only change an end are.
const CHANGE: &[&str] = &["write", "fast"];

/// The commands of this file.
pub static COMMANDS: &[Spec] = &[
    keyed(
        "expire",
        -3,
        CHANGE,
        Keys::ONE,
        "generic",
        "Has a key end in so many seconds.",
        |request, view, out| expire(request, SECONDS, view, out),
    ),
    keyed(
        "expireat",
        -3,
        CHANGE,
        Keys::ONE,
        "generic",
        "Has a key end at a Unix time in seconds.",
        |request, view, out| expire(request, SECONDS.absolute(), view, out),
    ),
    keyed(
        "expiretime",
        2,
        READ,
        Keys::ONE,
        "generic",
        "Returns the Unix time in seconds at which a key ends.",
        |request, view, out| tell(request, SECONDS.absolute(), view, out),
    ),
    keyed(
        "persist",
        2,
        CHANGE,
        Keys::ONE,
        "generic",
        "Has a key never end.",
        persist,
    ),
    keyed(
        "pexpire",
        -3,
        CHANGE,
        Keys::ONE,
        "generic",
        "Has a key end in so many milliseconds.",
        |request, view, out| expire(request, MILLISECONDS, view, out),
    ),
    keyed(
        "pexpireat",
        -3,
        CHANGE,
        Keys::ONE,
        "generic",
        "Has a key end at a Unix time in milliseconds.",
        |request, view, out| expire(request, MILLISECONDS.absolute(), view, out),
    ),
    keyed(
        "pexpiretime",
        2,
        READ,
        Keys::ONE,
        "generic",
        "Returns the Unix time in milliseconds at which a key ends.",
        |request, view, out| tell(request, MILLISECONDS.absolute(), view, out),
    ),
    keyed(
        "pttl",
        2,
        READ,
        Keys::ONE,
        "generic",
        "Returns in how many milliseconds a key ends.",
        |request, view, out| tell(request, MILLISECONDS, view, out),
    ),
    keyed(
        "ttl",
        2,
        READ,
        Keys::ONE,
        "generic",
        "Returns in how many seconds a key ends.",
        |request, view, out| tell(request, SECONDS, view, out),
    ),
];

/// Which ends may be replaced.
#[derive(Debug, Clone, Copy, Default)]
struct Only {
    /// None.
    absent: bool,
    /// Any but none.
    present: bool,
    /// An earlier one.
    later: bool,
    /// A later one; none is the latest.
    earlier: bool,
}

impl Only {
    fn parse<'a>(options: impl Iterator<Item = &'a [u8]>) -> Result<Self, Failure> {
        let mut only = Self::default();
        for option in options {
            match option.to_ascii_uppercase().as_slice() {
                b"NX" => only.absent = true,
                b"XX" => only.present = true,
                b"GT" => only.later = true,
                b"LT" => only.earlier = true,
                _ => return Err(Failure::unsupported_option(option)),
            }
        }
        if only.absent && (only.present || only.later || only.earlier) {
            return Err(Failure::fixed(
                "ERR NX and XX, GT or LT options at the same time are not compatible",
            ));
        }
        if only.later && only.earlier {
            return Err(Failure::fixed(
                "ERR GT and LT options at the same time are not compatible",
            ));
        }
        Ok(only)
    }

    /// Whether an end at `at` may take the place of `now`; both in ms since the Unix epoch.
    fn allows(self, now: Option<u64>, at: i64) -> bool {
        // Later than what never ends is nothing.
        let now = now.and_then(|now| i64::try_from(now).ok());
        !(self.absent && now.is_some()
            || self.present && now.is_none()
            || self.later && now.is_none_or(|now| at <= now)
            || self.earlier && now.is_some_and(|now| at >= now))
    }
}

/// `EXPIRE key n [NX | XX | GT | LT]` and its kin. A time that has passed deletes the key.
fn expire(
    request: &Request<'_>,
    clause: Clause,
    view: &mut View<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Failure> {
    let only = Only::parse(request.arguments.from(3))?;
    let n = parse_i64(request.arguments.at(2)).ok_or(Failure::NOT_AN_INTEGER)?;
    let at = moment_ms(n, clause, view.now_ms()).ok_or_else(|| Failure::expire_time(request.spec.name))?;
    let Some(item) = view
        .get(request.key())
        .filter(|item| only.allows(item.expires_ms, at))
    else {
        reply::integer(out, 0);
        return Ok(());
    };
    match u64::try_from(at) {
        Ok(at) if at > view.now_ms() => {
            if item.expires_ms != Some(at) {
                view.set_expiry(request.key(), Some(at));
            }
        }
        _ => view.remove(request.key()),
    }
    reply::integer(out, 1);
    Ok(())
}

/// `PERSIST key`.
fn persist(request: &Request<'_>, view: &mut View<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
    let ends = view
        .get(request.key())
        .is_some_and(|item| item.expires_ms.is_some());
    if ends {
        view.set_expiry(request.key(), None);
    }
    reply::integer(out, i64::from(ends));
    Ok(())
}

/// `TTL key` and its kin: -2 where the key is not there, -1 where it never ends. Seconds are rounded to the nearest.
fn tell(
    request: &Request<'_>,
    clause: Clause,
    view: &mut View<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Failure> {
    let answer = match view.get(request.key()).map(|item| item.expires_ms) {
        None => -2,
        Some(None) => -1,
        Some(Some(at)) => {
            let from = if clause.absolute { 0 } else { view.now_ms() };
            let ms = at.saturating_sub(from);
            let n = if clause.seconds {
                ms.saturating_add(500) / 1000
            } else {
                ms
            };
            i64::try_from(n).unwrap_or(i64::MAX)
        }
    };
    reply::integer(out, answer);
    Ok(())
}
