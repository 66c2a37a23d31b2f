//! Commands on whole string values: `GET`, `SET` and their kin, of one key or of many.
//!
//! Each is a function over the view of its keys. `GET`, `MGET`, `MSET` and `SET` without a condition also have a shorter
//! way for outside of transactions: one lookup a key, or one write that reads nothing first.

use corelane::api::{Batch, Op};

use super::options::{Clause, Condition, Grammar, MILLISECONDS, Options, SECONDS, Time};
use super::table::{READ, WRITE, WRITE_FAST, keyed};
use super::{Action, Call, Failure, Keys, Request, Spec, View, durability};
use crate::resp::reply;

/// The commands of this file.
pub static COMMANDS: &[Spec] = &[
    keyed(
        "get",
        2,
        READ,
        Keys::ONE,
        "string",
        "Returns the value of a key.",
        get,
    )
    .or_faster(|_| Ok(Action::Value)),
    keyed(
        "getdel",
        2,
        &["write", "fast"],
        Keys::ONE,
        "string",
        "Returns the value of a key and deletes it.",
        getdel,
    ),
    keyed(
        "getex",
        -2,
        &["write", "fast"],
        Keys::ONE,
        "string",
        "Returns the value of a key and sets when it ends.",
        getex,
    ),
    keyed(
        "getset",
        3,
        WRITE_FAST,
        Keys::ONE,
        "string",
        "Sets the value of a key and returns the one before.",
        getset,
    ),
    keyed(
        "mget",
        -2,
        READ,
        Keys::ALL,
        "string",
        "Returns the values of keys.",
        mget,
    )
    .or_faster(|_| Ok(Action::Values)),
    keyed(
        "mset",
        -3,
        WRITE,
        Keys::PAIRS,
        "string",
        "Sets keys of one shard at once.",
        mset,
    )
    .or_faster(mset_unread),
    keyed(
        "msetnx",
        -3,
        WRITE,
        Keys::PAIRS,
        "string",
        "Sets keys of one shard at once where none of them is there.",
        msetnx,
    ),
    keyed(
        "psetex",
        4,
        WRITE,
        Keys::ONE,
        "string",
        "Sets the value of a key and its end in milliseconds.",
        psetex,
    )
    .or_faster(psetex_unread),
    keyed(
        "set",
        -3,
        WRITE,
        Keys::ONE,
        "string",
        "Sets the value of a key.",
        set,
    )
    .or_faster(set_unread),
    keyed(
        "setex",
        4,
        WRITE,
        Keys::ONE,
        "string",
        "Sets the value of a key and its end in seconds.",
        setex,
    )
    .or_faster(setex_unread),
    keyed(
        "setnx",
        3,
        WRITE_FAST,
        Keys::ONE,
        "string",
        "Sets the value of a key that is not there.",
        setnx,
    ),
];

/// Appends the value of `key` as an answer, null where it is not there.
fn answer_value(
    request: &Request<'_>,
    key: &[u8],
    view: &View<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Failure> {
    match view.get(key) {
        Some(item) => {
            view.take_room(item.value.len())?;
            reply::bulk(out, item.value);
        }
        None => reply::null(out, request.protocol),
    }
    Ok(())
}

/// `GET key`.
pub fn get(request: &Request<'_>, view: &mut View<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
    answer_value(request, request.key(), view, out)
}

/// `MGET key [key …]`: the one command whose answer may be much longer than any value, where it names a key many times.
pub fn mget(request: &Request<'_>, view: &mut View<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
    reply::array(out, request.arguments.count() - 1);
    for key in request.keys() {
        answer_value(request, key, view, out)?;
    }
    Ok(())
}

/// `GETDEL key`.
pub fn getdel(request: &Request<'_>, view: &mut View<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
    answer_value(request, request.key(), view, out)?;
    view.remove(request.key());
    Ok(())
}

/// `GETEX key [PERSIST | EX s | PX ms | EXAT s | PXAT ms]`.
pub fn getex(request: &Request<'_>, view: &mut View<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
    let options = Options::parse(request.arguments, 2, Grammar::GetEx)?;
    let Some(item) = view.get(request.key()) else {
        reply::null(out, request.protocol);
        return Ok(());
    };
    // Redis looks at the time only where there is a key for it.
    let until = options
        .time
        .map(|time| time.resolve(view.now_ms(), request.spec.name));
    let until = until.transpose()?;
    view.take_room(item.value.len())?;
    reply::bulk(out, item.value);
    let ends = item.expires_ms.is_some();
    if until.is_some() || (options.persist && ends) {
        view.set_expiry(request.key(), until);
    }
    Ok(())
}

/// `GETSET key value`.
pub fn getset(request: &Request<'_>, view: &mut View<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
    answer_value(request, request.key(), view, out)?;
    view.put(request.key(), request.arguments.at(2).to_vec(), None);
    Ok(())
}

/// `SET key value [NX | XX] [GET] [KEEPTTL | EX s | PX ms | EXAT s | PXAT ms]`.
pub fn set(request: &Request<'_>, view: &mut View<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
    let options = Options::parse(request.arguments, 3, Grammar::Set)?;
    let key = request.key();
    let until = options
        .time
        .map(|time| time.resolve(view.now_ms(), request.spec.name));
    let until = until.transpose()?;
    let needs_look = options.previous || options.keep || options.condition != Condition::Always;
    let before = if needs_look { view.get(key) } else { None };
    let writes = match options.condition {
        Condition::Always => true,
        Condition::IfAbsent => before.is_none(),
        Condition::IfPresent => before.is_some(),
    };
    match (options.previous, before) {
        (true, Some(item)) => {
            view.take_room(item.value.len())?;
            reply::bulk(out, item.value);
        }
        (true, None) => reply::null(out, request.protocol),
        (false, _) if writes => reply::simple(out, "OK"),
        (false, _) => reply::null(out, request.protocol),
    }
    if writes {
        let kept = before.filter(|_| options.keep).and_then(|item| item.expires_ms);
        view.put(key, request.arguments.at(2).to_vec(), until.or(kept));
    }
    Ok(())
}

/// `SET` as one write that reads nothing, where its answer does not depend on what is there.
fn set_unread(call: &mut Call<'_>) -> Result<Action, Failure> {
    let options = Options::parse(call.arguments, 3, Grammar::Set)?;
    if options.previous || options.keep || options.condition != Condition::Always {
        return Ok(Action::Keyed);
    }
    let until = options
        .time
        .map(|time| time.resolve((call.clock)(), call.spec.name));
    write_one(call, 2, until.transpose()?)
}

/// A write of the argument at `value` to the first key.
fn write_one(call: &Call<'_>, value: usize, until: Option<u64>) -> Result<Action, Failure> {
    let (key, value) = (call.arguments.at(1), call.arguments.at(value));
    let mut batch = Batch::new();
    match until {
        Some(at) => batch.put_until(key, value, at)?,
        None => batch.put(key, value)?,
    };
    Ok(write(call, batch))
}

fn write(call: &Call<'_>, batch: Batch) -> Action {
    let op = Op::Write {
        batch,
        durability: durability(call),
    };
    Action::Write(op)
}

/// `SETEX key seconds value`.
pub fn setex(request: &Request<'_>, view: &mut View<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
    set_for(request, SECONDS, view, out)
}

/// `PSETEX key milliseconds value`.
pub fn psetex(request: &Request<'_>, view: &mut View<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
    set_for(request, MILLISECONDS, view, out)
}

fn set_for(
    request: &Request<'_>,
    clause: Clause,
    view: &mut View<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Failure> {
    let text = request.arguments.at(2);
    let time = Time { clause, text };
    let until = time.resolve(view.now_ms(), request.spec.name)?;
    view.put(request.key(), request.arguments.at(3).to_vec(), Some(until));
    reply::simple(out, "OK");
    Ok(())
}

fn setex_unread(call: &mut Call<'_>) -> Result<Action, Failure> {
    set_for_unread(call, SECONDS)
}

fn psetex_unread(call: &mut Call<'_>) -> Result<Action, Failure> {
    set_for_unread(call, MILLISECONDS)
}

fn set_for_unread(call: &Call<'_>, clause: Clause) -> Result<Action, Failure> {
    let text = call.arguments.at(2);
    let until = Time { clause, text }.resolve((call.clock)(), call.spec.name)?;
    write_one(call, 3, Some(until))
}

/// `SETNX key value`.
pub fn setnx(request: &Request<'_>, view: &mut View<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
    let absent = view.get(request.key()).is_none();
    if absent {
        view.put(request.key(), request.arguments.at(2).to_vec(), None);
    }
    reply::integer(out, i64::from(absent));
    Ok(())
}

/// The keys of `MSET` and `MSETNX`, each with its value.
fn pairs<'a>(request: &Request<'a>) -> Result<impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a>, Failure> {
    let arguments = request.arguments;
    if arguments.count().is_multiple_of(2) {
        return Err(Failure::arity(request.spec.name));
    }
    let places = (1..arguments.count()).step_by(2);
    Ok(places.map(move |place| (arguments.at(place), arguments.at(place + 1))))
}

/// `MSET key value [key value …]`: all or nothing, so its keys must be of one shard.
pub fn mset(request: &Request<'_>, view: &mut View<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
    for (key, value) in pairs(request)? {
        view.put(key, value.to_vec(), None);
    }
    reply::simple(out, "OK");
    Ok(())
}

/// `MSET` as one write that reads nothing.
fn mset_unread(call: &mut Call<'_>) -> Result<Action, Failure> {
    let mut batch = Batch::new();
    for (key, value) in pairs(&call.request())? {
        batch.put(key, value)?;
    }
    Ok(write(call, batch))
}

/// `MSETNX key value [key value …]`.
pub fn msetnx(request: &Request<'_>, view: &mut View<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
    let free = pairs(request)?.all(|(key, _)| view.get(key).is_none());
    if free {
        for (key, value) in pairs(request)? {
            view.put(key, value.to_vec(), None);
        }
    }
    reply::integer(out, i64::from(free));
    Ok(())
}
