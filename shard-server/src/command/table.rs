//! Every command the server knows, in order of name.

use super::{Action, Failure};
use super::{Call, Keys, Spec, client, keyspace, scan, server, strings};

type Run = fn(&mut Call<'_>) -> Result<Action, Failure>;

const fn spec(
    name: &'static str,
    arity: i32,
    flags: &'static [&'static str],
    keys: Keys,
    group: &'static str,
    summary: &'static str,
    run: Run,
) -> Spec {
    Spec {
        name,
        arity,
        flags,
        keys,
        group,
        summary,
        run,
    }
}

const READ: &[&str] = &["readonly", "fast"];
const READ_MANY: &[&str] = &["readonly"];
const WRITE: &[&str] = &["write", "denyoom"];
const WRITE_FAST: &[&str] = &["write", "denyoom", "fast"];
const FAST: &[&str] = &["loading", "stale", "fast"];
const ADMIN: &[&str] = &["admin", "loading", "stale"];
const STALE: &[&str] = &["loading", "stale"];

/// All commands, sorted by name.
pub static COMMANDS: &[Spec] = &[
    spec(
        "client",
        -2,
        STALE,
        Keys::NONE,
        "connection",
        "Names and numbers this connection.",
        client::client,
    ),
    spec(
        "command",
        -1,
        STALE,
        Keys::NONE,
        "server",
        "Describes the commands.",
        server::command,
    ),
    spec(
        "config",
        -2,
        ADMIN,
        Keys::NONE,
        "server",
        "Shows the settings in force.",
        server::config,
    ),
    spec(
        "dbsize",
        1,
        READ_MANY,
        Keys::NONE,
        "server",
        "Counts the keys by walking them.",
        keyspace::dbsize,
    ),
    spec(
        "decr",
        2,
        WRITE_FAST,
        Keys::ONE,
        "string",
        "Takes one from the number of a key.",
        strings::decr,
    ),
    spec(
        "decrby",
        3,
        WRITE_FAST,
        Keys::ONE,
        "string",
        "Takes from the number of a key.",
        strings::decrby,
    ),
    spec(
        "del",
        -2,
        &["write"],
        Keys::ALL,
        "generic",
        "Deletes keys.",
        keyspace::del,
    ),
    spec(
        "echo",
        2,
        FAST,
        Keys::NONE,
        "connection",
        "Returns its argument.",
        client::echo,
    ),
    spec(
        "exists",
        -2,
        READ,
        Keys::ALL,
        "generic",
        "Counts which of the keys are there.",
        keyspace::exists,
    ),
    spec(
        "get",
        2,
        READ,
        Keys::ONE,
        "string",
        "Returns the value of a key.",
        strings::get,
    ),
    spec(
        "hello",
        -1,
        FAST,
        Keys::NONE,
        "connection",
        "Chooses the protocol.",
        client::hello,
    ),
    spec(
        "host:",
        -1,
        STALE,
        Keys::NONE,
        "connection",
        "Ends an HTTP request.",
        client::http,
    ),
    spec(
        "incr",
        2,
        WRITE_FAST,
        Keys::ONE,
        "string",
        "Adds one to the number of a key.",
        strings::incr,
    ),
    spec(
        "incrby",
        3,
        WRITE_FAST,
        Keys::ONE,
        "string",
        "Adds to the number of a key.",
        strings::incrby,
    ),
    spec(
        "info",
        -1,
        STALE,
        Keys::NONE,
        "server",
        "Tells how the server is.",
        server::info,
    ),
    spec(
        "kv.scan",
        -3,
        READ_MANY,
        Keys::NONE,
        "generic",
        "Reads a range in key order.",
        scan::kv_scan,
    ),
    spec(
        "mget",
        -2,
        READ,
        Keys::ALL,
        "string",
        "Returns the values of keys.",
        strings::mget,
    ),
    spec(
        "mset",
        -3,
        WRITE,
        Keys::PAIRS,
        "string",
        "Sets keys of one shard at once.",
        strings::mset,
    ),
    spec(
        "ping",
        -1,
        &["fast"],
        Keys::NONE,
        "connection",
        "Answers.",
        client::ping,
    ),
    spec(
        "post",
        -1,
        STALE,
        Keys::NONE,
        "connection",
        "Ends an HTTP request.",
        client::http,
    ),
    spec(
        "quit",
        -1,
        FAST,
        Keys::NONE,
        "connection",
        "Ends the connection.",
        client::quit,
    ),
    spec(
        "scan",
        -2,
        READ_MANY,
        Keys::NONE,
        "generic",
        "Goes through the keys in steps.",
        scan::scan,
    ),
    spec(
        "select",
        2,
        FAST,
        Keys::NONE,
        "connection",
        "Accepts database 0.",
        client::select,
    ),
    spec(
        "set",
        -3,
        WRITE,
        Keys::ONE,
        "string",
        "Sets the value of a key.",
        strings::set,
    ),
    spec(
        "shutdown",
        -1,
        ADMIN,
        Keys::NONE,
        "server",
        "Drains and ends the server.",
        server::shutdown,
    ),
];

/// The longest name, in bytes.
const LONGEST: usize = 16;

/// The command of this name, in whatever case.
pub fn find(name: &[u8]) -> Option<&'static Spec> {
    let mut lower = [0; LONGEST];
    let lower = lower.get_mut(..name.len())?;
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    let place = COMMANDS
        .binary_search_by(|spec| spec.name.as_bytes().cmp(lower))
        .ok()?;
    Some(&COMMANDS[place])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_each_name_is_found_in_any_case() {
        for pair in COMMANDS.windows(2) {
            assert!(
                pair[0].name < pair[1].name,
                "{} before {}",
                pair[0].name,
                pair[1].name
            );
        }
        for spec in COMMANDS {
            assert!(spec.name.len() <= LONGEST && spec.arity != 0);
            assert_eq!(find(spec.name.to_uppercase().as_bytes()).unwrap().name, spec.name);
        }
        assert!(find(b"").is_none() && find(b"getx").is_none() && find(&[b'a'; 1000]).is_none());
    }
}
