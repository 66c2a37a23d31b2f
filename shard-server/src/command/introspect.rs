//! `COMMAND`: what clients and their libraries ask about the commands.

use super::facts::{categories, key_flags};
use super::subcommand::{self, Container, Subcommand, keyless};
use super::table::{STALE, spec};
use super::{Action, Call, Failure, Keys, Spec, table, takes};
use crate::glob::{Budget, matches};
use crate::resp::request::Arguments;
use crate::resp::{Protocol, reply};

/// The commands of this file.
pub static COMMANDS: &[Spec] = &[spec(
    "command",
    -1,
    STALE,
    Keys::NONE,
    "server",
    "Describes the commands.",
    command,
)];

/// `COMMAND` and its parts.
pub const CONTAINER: Container = Container {
    name: "command",
    subcommands: &[
        keyless(
            STALE,
            "count",
            2,
            "COUNT",
            "Returns how many commands there are.",
            count,
        ),
        keyless(
            STALE,
            "docs",
            -2,
            "DOCS [<command> ...]",
            "Returns what commands are for.",
            docs,
        ),
        keyless(
            STALE,
            "getkeys",
            -4,
            "GETKEYS <command> <arg> [<arg> ...]",
            "Returns the keys of a whole command.",
            |call| keys(call, false),
        ),
        keyless(
            STALE,
            "getkeysandflags",
            -4,
            "GETKEYSANDFLAGS <command> <arg> [<arg> ...]",
            "Returns the keys of a whole command, each with what is done to it.",
            |call| keys(call, true),
        ),
        keyless(
            STALE,
            "info",
            -2,
            "INFO [<command> ...]",
            "Returns the shape of commands: arguments, flags, keys.",
            infos,
        ),
        keyless(
            STALE,
            "list",
            -2,
            "LIST [FILTERBY (ACLCAT <category> | MODULE <module> | PATTERN <pattern>)]",
            "Returns the commands' names.",
            list,
        ),
    ],
};

/// Steps that the pattern of one `COMMAND LIST` may take.
const PATTERN_STEPS: u64 = 1_000_000;

/// `COMMAND [subcommand]`.
pub fn command(call: &mut Call<'_>) -> Result<Action, Failure> {
    if call.arguments.count() > 1 {
        return CONTAINER.run(call);
    }
    all(call);
    Ok(Action::Replied)
}

fn all(call: &mut Call<'_>) {
    reply::array(call.out, table::ALL.len());
    for spec in table::ALL.iter() {
        describe(call.out, spec, call.session.protocol);
    }
}

fn count(call: &mut Call<'_>) -> Result<Action, Failure> {
    reply::integer(call.out, i64::try_from(table::ALL.len()).unwrap_or(i64::MAX));
    Ok(Action::Replied)
}

/// `COMMAND LIST`; a filter looks at subcommands, too.
fn list(call: &mut Call<'_>) -> Result<Action, Failure> {
    let mut names: Vec<String> = Vec::new();
    match call.arguments.count() {
        2 => names.extend(table::ALL.iter().map(|spec| spec.name.to_owned())),
        5 if call.arguments.at(2).eq_ignore_ascii_case(b"FILTERBY") => {
            let filter = call.arguments.at(3).to_ascii_uppercase();
            let value = call.arguments.at(4);
            match filter.as_slice() {
                // No command here comes from a module.
                b"MODULE" => {}
                b"ACLCAT" => names.extend(in_category(value)),
                b"PATTERN" => names = alike(value)?,
                _ => return Err(Failure::SYNTAX),
            }
        }
        _ => return Err(Failure::SYNTAX),
    }
    reply::array(call.out, names.len());
    names
        .iter()
        .for_each(|name| reply::bulk(call.out, name.as_bytes()));
    Ok(Action::Replied)
}

/// Every command and subcommand: its name, flags and family.
fn everything() -> impl Iterator<Item = (String, &'static [&'static str], &'static str)> {
    table::ALL.iter().flat_map(|spec| {
        let parts = subcommand::of(spec.name).iter();
        let parts = parts.map(|part| (format!("{}|{}", spec.name, part.name), part.flags, spec.group));
        std::iter::once((spec.name.to_owned(), spec.flags, spec.group)).chain(parts)
    })
}

fn in_category(category: &[u8]) -> impl Iterator<Item = String> {
    let wanted = String::from_utf8_lossy(category).to_ascii_lowercase();
    everything().filter_map(move |(name, flags, group)| {
        let found = categories(&name, flags, group)
            .iter()
            .any(|category| category.strip_prefix('@') == Some(wanted.as_str()));
        found.then_some(name)
    })
}

fn alike(pattern: &[u8]) -> Result<Vec<String>, Failure> {
    let pattern = pattern.to_ascii_lowercase();
    let mut budget = Budget::new(PATTERN_STEPS);
    let mut names = Vec::new();
    for (name, ..) in everything() {
        let hit = matches(&pattern, name.as_bytes(), &mut budget)
            .map_err(|_| Failure::fixed("ERR the pattern takes too many steps"))?;
        if hit {
            names.push(name);
        }
    }
    Ok(names)
}

fn infos(call: &mut Call<'_>) -> Result<Action, Failure> {
    let protocol = call.session.protocol;
    if call.arguments.count() == 2 {
        all(call);
        return Ok(Action::Replied);
    }
    reply::array(call.out, call.arguments.count() - 2);
    for name in call.arguments.from(2) {
        match (table::find(name), subcommand::named(name)) {
            (Some(spec), _) => describe(call.out, spec, protocol),
            (None, Some((command, part))) => describe_part(call.out, command, part, protocol),
            (None, None) => reply::null(call.out, protocol),
        }
    }
    Ok(Action::Replied)
}

/// One entry of `COMMAND INFO`: name, arity, flags, first key, last key, step, access categories, tips, key
/// specifications, subcommands.
fn describe(out: &mut Vec<u8>, spec: &Spec, protocol: Protocol) {
    head(
        out,
        (spec.name, spec.arity, spec.flags, spec.keys, spec.group),
        protocol,
    );
    let parts = subcommand::of(spec.name);
    reply::array(out, parts.len());
    for part in parts {
        describe_part(out, spec.name, part, protocol);
    }
}

fn describe_part(out: &mut Vec<u8>, command: &str, part: &Subcommand, protocol: Protocol) {
    let name = format!("{command}|{}", part.name);
    let group = table::find(command.as_bytes()).map_or("", |spec| spec.group);
    head(out, (&name, part.arity, part.flags, part.keys, group), protocol);
    reply::array(out, 0);
}

type Head<'a> = (&'a str, i32, &'static [&'static str], Keys, &'a str);

fn head(out: &mut Vec<u8>, (name, arity, flags, keys, group): Head<'_>, protocol: Protocol) {
    reply::array(out, 10);
    reply::bulk(out, name.as_bytes());
    reply::integer(out, i64::from(arity));
    simples(out, flags, protocol);
    reply::integer(out, i64::try_from(keys.first).unwrap_or(0));
    reply::integer(out, i64::from(keys.last));
    reply::integer(out, i64::try_from(keys.step).unwrap_or(0));
    simples(out, &categories(name, flags, group), protocol);
    reply::array(out, 0);
    if keys.first == 0 {
        reply::array(out, 0);
    } else {
        reply::array(out, 1);
        specification(out, name, flags, keys, protocol);
    }
}

fn simples(out: &mut Vec<u8>, words: &[&str], protocol: Protocol) {
    reply::set(out, words.len(), protocol);
    words.iter().for_each(|word| reply::simple(out, word));
}

/// Where the keys are in the form of Redis 7: where they begin, and how the others follow.
fn specification(out: &mut Vec<u8>, name: &str, flags: &[&str], keys: Keys, protocol: Protocol) {
    let first = i64::try_from(keys.first).unwrap_or(0);
    let last = if keys.last < 0 {
        i64::from(keys.last)
    } else {
        i64::from(keys.last) - first
    };
    reply::map(out, 3, protocol);
    reply::bulk(out, b"flags");
    simples(out, key_flags(name, flags, 0), protocol);
    search(out, "begin_search", "index", &[("index", first)], protocol);
    let step = i64::try_from(keys.step).unwrap_or(0);
    let range = [("lastkey", last), ("keystep", step), ("limit", 0)];
    search(out, "find_keys", "range", &range, protocol);
}

fn search(out: &mut Vec<u8>, what: &str, kind: &str, numbers: &[(&str, i64)], protocol: Protocol) {
    reply::bulk(out, what.as_bytes());
    reply::map(out, 2, protocol);
    reply::bulk(out, b"type");
    reply::bulk(out, kind.as_bytes());
    reply::bulk(out, b"spec");
    reply::map(out, numbers.len(), protocol);
    for (name, n) in numbers {
        reply::bulk(out, name.as_bytes());
        reply::integer(out, *n);
    }
}

fn docs(call: &mut Call<'_>) -> Result<Action, Failure> {
    let protocol = call.session.protocol;
    let of = |spec: &'static Spec| (spec.name.to_owned(), spec.summary, spec.group);
    let mut described: Vec<(String, &'static str, &'static str)> = Vec::new();
    if call.arguments.count() == 2 {
        described.extend(table::ALL.iter().copied().map(of));
    }
    for name in call.arguments.from(2) {
        match (table::find(name), subcommand::named(name)) {
            (Some(spec), _) => described.push(of(spec)),
            (None, Some((command, part))) => {
                let group = table::find(command.as_bytes()).map_or("", |spec| spec.group);
                described.push((format!("{command}|{}", part.name), part.summary, group));
            }
            (None, None) => {}
        }
    }
    reply::map(call.out, described.len(), protocol);
    for (name, summary, group) in described {
        let parts = subcommand::of(&name);
        reply::bulk(call.out, name.as_bytes());
        reply::map(call.out, 2 + usize::from(!parts.is_empty()), protocol);
        doc(call.out, summary, group);
        if !parts.is_empty() {
            reply::bulk(call.out, b"subcommands");
            reply::map(call.out, parts.len(), protocol);
            for part in parts {
                reply::bulk(call.out, format!("{name}|{}", part.name).as_bytes());
                reply::map(call.out, 2, protocol);
                doc(call.out, part.summary, group);
            }
        }
    }
    Ok(Action::Replied)
}

fn doc(out: &mut Vec<u8>, summary: &str, group: &str) {
    reply::text_entry(out, "summary", summary);
    reply::text_entry(out, "group", group);
}

/// The keys of the command that stands behind `COMMAND GETKEYS`.
fn keys(call: &mut Call<'_>, with_flags: bool) -> Result<Action, Failure> {
    let arguments = call.arguments;
    let count = arguments.count() - 2;
    let (name, flags, arity, keys) = shape_of(arguments)?;
    if keys == Keys::NONE {
        return Err(Failure::fixed("ERR The command has no key arguments"));
    }
    if !takes(arity, count) {
        return Err(Failure::fixed(
            "ERR Invalid number of arguments specified for command",
        ));
    }
    let places: Vec<usize> = keys.places(count).collect();
    reply::array(call.out, places.len());
    for (number, place) in places.into_iter().enumerate() {
        if with_flags {
            reply::array(call.out, 2);
        }
        reply::bulk(call.out, arguments.at(2 + place));
        if with_flags {
            let reads = name == "set"
                && arguments
                    .from(5)
                    .any(|option| option.eq_ignore_ascii_case(b"GET"));
            let flags = key_flags(if reads { "getset" } else { &name }, flags, number);
            simples(call.out, flags, call.session.protocol);
        }
    }
    Ok(Action::Replied)
}

type Shape = (String, &'static [&'static str], i32, Keys);

fn shape_of(arguments: Arguments<'_>) -> Result<Shape, Failure> {
    let invalid = Failure::fixed("ERR Invalid command specified");
    let spec = table::find(arguments.at(2)).ok_or_else(|| invalid.clone())?;
    let parts = subcommand::of(spec.name);
    if parts.is_empty() || spec.name == "command" && arguments.count() == 3 {
        return Ok((spec.name.to_owned(), spec.flags, spec.arity, spec.keys));
    }
    let part = subcommand::find(parts, arguments.at(3)).ok_or(invalid)?;
    Ok((
        format!("{}|{}", spec.name, part.name),
        part.flags,
        part.arity,
        part.keys,
    ))
}
