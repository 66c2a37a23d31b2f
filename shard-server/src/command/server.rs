//! Commands about the server: `INFO`, `COMMAND`, `CONFIG GET`, `SHUTDOWN`.

use corelane::api::Durability;

use super::table::{ADMIN, STALE, spec};
use super::{Action, Call, Failure, Keys, Spec, table, takes};
use crate::glob::{Budget, matches};
use crate::info::Sections;
use crate::query::Query;
use crate::resp::{MAX_BULK_BYTES, Protocol, reply};

/// The commands of this file.
pub static COMMANDS: &[Spec] = &[
    spec(
        "command",
        -1,
        STALE,
        Keys::NONE,
        "server",
        "Describes the commands.",
        command,
    ),
    spec(
        "config",
        -2,
        ADMIN,
        Keys::NONE,
        "server",
        "Shows the settings in force.",
        config,
    ),
    spec(
        "info",
        -1,
        STALE,
        Keys::NONE,
        "server",
        "Tells how the server is.",
        info,
    ),
    spec(
        "shutdown",
        -1,
        ADMIN,
        Keys::NONE,
        "server",
        "Drains and ends the server.",
        shutdown,
    ),
];

/// The version of Redis whose commands and words are followed: clients decide by it what they may use.
pub const REDIS_VERSION: &str = "7.0.0";

/// Steps that the patterns of one `CONFIG GET` may take.
const PATTERN_STEPS: u64 = 1_000_000;

/// `INFO [section …]`.
pub fn info(call: &mut Call<'_>) -> Result<Action, Failure> {
    Ok(Action::Query(Query::Info(Sections::named(
        call.arguments.from(1),
    ))))
}

/// `SHUTDOWN [NOSAVE|SAVE] [NOW] [FORCE]`: every way down is the same here, clean and with nothing lost.
pub fn shutdown(call: &mut Call<'_>) -> Result<Action, Failure> {
    let known = |option: &[u8]| [b"NOSAVE".as_slice(), b"SAVE", b"NOW", b"FORCE"].contains(&option);
    if !call
        .arguments
        .from(1)
        .all(|option| known(&option.to_ascii_uppercase()))
    {
        return Err(Failure::SYNTAX);
    }
    Ok(Action::Query(Query::Shutdown))
}

/// `CONFIG GET pattern [pattern …]`.
pub fn config(call: &mut Call<'_>) -> Result<Action, Failure> {
    if !call.arguments.at(1).eq_ignore_ascii_case(b"GET") {
        return Err(Failure::unknown_subcommand("config", call.arguments.at(1)));
    }
    if call.arguments.count() < 3 {
        return Err(Failure::arity("config|get"));
    }
    let settings = settings(call);
    let mut wanted = vec![false; settings.len()];
    let mut budget = Budget::new(PATTERN_STEPS);
    for pattern in call.arguments.from(2) {
        let pattern = pattern.to_ascii_lowercase();
        for ((name, _), wanted) in settings.iter().zip(&mut wanted) {
            *wanted |= matches(&pattern, name.as_bytes(), &mut budget)
                .map_err(|_| Failure::fixed("ERR the patterns take too many steps"))?;
        }
    }
    let found: Vec<_> = settings
        .into_iter()
        .zip(wanted)
        .filter_map(|(pair, wanted)| wanted.then_some(pair))
        .collect();
    reply::map(call.out, found.len(), call.session.protocol);
    for (name, value) in found {
        reply::bulk(call.out, name.as_bytes());
        reply::bulk(call.out, value.as_bytes());
    }
    Ok(Action::Replied)
}

/// The settings under the names by which Redis's tools ask for them.
fn settings(call: &Call<'_>) -> Vec<(&'static str, String)> {
    let settings = &call.server.settings;
    let address = call.server.address().unwrap_or(settings.address);
    let (append_only, sync) = match settings.durability {
        Durability::Sync => ("yes", "always"),
        Durability::Buffered => ("yes", "everysec"),
        Durability::None => ("no", "no"),
    };
    vec![
        ("appendfsync", sync.to_owned()),
        ("appendonly", append_only.to_owned()),
        ("bind", address.ip().to_string()),
        ("databases", "1".to_owned()),
        ("dir", settings.data_dir.display().to_string()),
        ("maxclients", settings.max_clients.to_string()),
        ("maxmemory", "0".to_owned()),
        ("maxmemory-policy", "noeviction".to_owned()),
        ("port", address.port().to_string()),
        ("proto-max-bulk-len", MAX_BULK_BYTES.to_string()),
        ("save", String::new()),
        ("timeout", "0".to_owned()),
    ]
}

/// `COMMAND [COUNT | LIST | INFO [name …] | DOCS [name …]]`.
pub fn command(call: &mut Call<'_>) -> Result<Action, Failure> {
    let Some(subcommand) = call.arguments.get(1) else {
        reply::array(call.out, table::ALL.len());
        table::ALL
            .iter()
            .for_each(|spec| describe(call.out, spec, call.session.protocol));
        return Ok(Action::Replied);
    };
    let subcommand = subcommand.to_ascii_lowercase();
    let (arity, run): (i32, fn(&mut Call<'_>)) = match subcommand.as_slice() {
        b"count" => (2, |call| {
            reply::integer(call.out, i64::try_from(table::ALL.len()).unwrap_or(i64::MAX))
        }),
        b"list" => (2, list),
        b"info" => (-2, infos),
        b"docs" => (-2, docs),
        _ => return Err(Failure::unknown_subcommand("command", call.arguments.at(1))),
    };
    if !takes(arity, call.arguments.count()) {
        return Err(Failure::arity(&format!(
            "command|{}",
            String::from_utf8_lossy(&subcommand)
        )));
    }
    run(call);
    Ok(Action::Replied)
}

fn list(call: &mut Call<'_>) {
    reply::array(call.out, table::ALL.len());
    table::ALL
        .iter()
        .for_each(|spec| reply::bulk(call.out, spec.name.as_bytes()));
}

fn infos(call: &mut Call<'_>) {
    let protocol = call.session.protocol;
    if call.arguments.count() == 2 {
        reply::array(call.out, table::ALL.len());
        table::ALL
            .iter()
            .for_each(|spec| describe(call.out, spec, protocol));
        return;
    }
    reply::array(call.out, call.arguments.count() - 2);
    for name in call.arguments.from(2) {
        match table::find(name) {
            Some(spec) => describe(call.out, spec, protocol),
            None => reply::null(call.out, protocol),
        }
    }
}

/// One entry of `COMMAND INFO`: name, arity, flags, first key, last key, step, and four lists that stay empty here
/// (access categories, tips, key specifications, subcommands).
fn describe(out: &mut Vec<u8>, spec: &Spec, protocol: Protocol) {
    reply::array(out, 10);
    reply::bulk(out, spec.name.as_bytes());
    reply::integer(out, i64::from(spec.arity));
    reply::set(out, spec.flags.len(), protocol);
    spec.flags.iter().for_each(|flag| reply::simple(out, flag));
    reply::integer(out, i64::try_from(spec.keys.first).unwrap_or(0));
    reply::integer(out, i64::from(spec.keys.last));
    reply::integer(out, i64::try_from(spec.keys.step).unwrap_or(0));
    reply::set(out, 0, protocol);
    reply::array(out, 0);
    reply::array(out, 0);
    reply::array(out, 0);
}

fn docs(call: &mut Call<'_>) {
    let protocol = call.session.protocol;
    let wanted: Vec<&Spec> = match call.arguments.count() {
        2 => table::ALL.clone(),
        _ => call.arguments.from(2).filter_map(table::find).collect(),
    };
    reply::map(call.out, wanted.len(), protocol);
    for spec in wanted {
        reply::bulk(call.out, spec.name.as_bytes());
        reply::map(call.out, 2, protocol);
        for (key, value) in [("summary", spec.summary), ("group", spec.group)] {
            reply::bulk(call.out, key.as_bytes());
            reply::bulk(call.out, value.as_bytes());
        }
    }
}
