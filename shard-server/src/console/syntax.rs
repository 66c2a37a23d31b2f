//! What follows each command's name, for hints and `help`. The command table has the names, arities and summaries; how
//! the arguments are called is for people alone, and so it is here.

/// The arguments of a command, or of a subcommand such as `config get`, sorted by name. `[…]` may be left out, `|`
/// separates alternatives, `…` repeats what stands before it.
pub const ARGUMENTS: &[(&str, &str)] = &[
    ("append", "key value"),
    ("auth", "[username] password"),
    ("bitcount", "key [start end [BYTE|BIT]]"),
    ("bitpos", "key bit [start [end [BYTE|BIT]]]"),
    ("client getname", ""),
    ("client id", ""),
    ("client info", ""),
    (
        "client kill",
        "ip:port|[ID client-id] [TYPE normal] [USER username] [ADDR ip:port] [LADDR ip:port] [SKIPME yes|no]",
    ),
    ("client list", "[TYPE normal] [ID client-id …]"),
    ("client no-evict", "ON|OFF"),
    ("client setinfo", "LIB-NAME|LIB-VER value"),
    ("client setname", "connection-name"),
    ("cluster info", ""),
    ("cluster keyslot", "key"),
    ("cluster myid", ""),
    ("cluster nodes", ""),
    ("cluster shards", ""),
    ("cluster slots", ""),
    ("command count", ""),
    ("command docs", "[command-name …]"),
    ("command getkeys", "command [arg …]"),
    ("command info", "[command-name …]"),
    ("command list", "[FILTERBY PATTERN pattern]"),
    ("config get", "parameter …"),
    ("config resetstat", ""),
    ("config set", "parameter value …"),
    ("copy", "source destination [DB 0] [REPLACE]"),
    ("dbsize", ""),
    ("debug sleep", "seconds"),
    ("decr", "key"),
    ("decrby", "key decrement"),
    ("del", "key …"),
    ("discard", ""),
    ("echo", "message"),
    ("exec", ""),
    ("exists", "key …"),
    ("expire", "key seconds [NX|XX|GT|LT]"),
    ("expireat", "key unix-time-seconds [NX|XX|GT|LT]"),
    ("expiretime", "key"),
    ("flushall", "[ASYNC|SYNC]"),
    ("flushdb", "[ASYNC|SYNC]"),
    ("get", "key"),
    ("getbit", "key offset"),
    ("getdel", "key"),
    (
        "getex",
        "key [EX seconds|PX milliseconds|EXAT unix-time-seconds|PXAT unix-time-milliseconds|PERSIST]",
    ),
    ("getrange", "key start end"),
    ("getset", "key value"),
    (
        "hello",
        "[protover [AUTH username password] [SETNAME clientname]]",
    ),
    ("incr", "key"),
    ("incrby", "key increment"),
    ("incrbyfloat", "key increment"),
    ("info", "[section …]"),
    ("keys", "pattern"),
    ("kv.scan", "start end [LIMIT n] [REV] [CURSOR c]"),
    ("lastsave", ""),
    ("latency doctor", ""),
    ("latency histogram", "[command …]"),
    ("latency reset", "[event …]"),
    ("memory usage", "key [SAMPLES count]"),
    ("mget", "key …"),
    ("mset", "key value …"),
    ("msetnx", "key value …"),
    ("multi", ""),
    ("persist", "key"),
    ("pexpire", "key milliseconds [NX|XX|GT|LT]"),
    ("pexpireat", "key unix-time-milliseconds [NX|XX|GT|LT]"),
    ("pexpiretime", "key"),
    ("ping", "[message]"),
    ("psetex", "key milliseconds value"),
    ("pttl", "key"),
    ("quit", ""),
    ("randomkey", ""),
    ("rename", "key newkey"),
    ("renamenx", "key newkey"),
    ("reset", ""),
    ("scan", "cursor [MATCH pattern] [COUNT count] [TYPE type]"),
    ("select", "index"),
    (
        "set",
        "key value [NX|XX] [GET] [EX seconds|PX milliseconds|EXAT unix-time-seconds|PXAT unix-time-milliseconds|KEEPTTL]",
    ),
    ("setbit", "key offset value"),
    ("setex", "key seconds value"),
    ("setnx", "key value"),
    ("setrange", "key offset value"),
    ("shutdown", "[NOSAVE|SAVE] [NOW] [FORCE]"),
    ("slowlog get", "[count]"),
    ("slowlog len", ""),
    ("slowlog reset", ""),
    ("strlen", "key"),
    ("substr", "key start end"),
    ("time", ""),
    ("touch", "key …"),
    ("ttl", "key"),
    ("type", "key"),
    ("unlink", "key …"),
    ("unwatch", ""),
    ("wait", "numreplicas timeout"),
    ("watch", "key …"),
];

/// The arguments of this command, in lower case, its subcommand behind a space.
pub fn arguments(name: &str) -> Option<&'static str> {
    let place = ARGUMENTS.binary_search_by(|(row, _)| (*row).cmp(name)).ok()?;
    Some(ARGUMENTS[place].1)
}

/// The subcommands of a command.
pub fn subcommands(name: &str) -> impl Iterator<Item = &'static str> {
    ARGUMENTS
        .iter()
        .filter_map(move |(row, _)| row.strip_prefix(name)?.strip_prefix(' '))
}

/// The arguments one by one; what stands in brackets is one.
pub fn parts(arguments: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0_usize, 0);
    for (place, sign) in arguments.char_indices() {
        match sign {
            '[' => depth += 1,
            ']' => depth = depth.saturating_sub(1),
            ' ' if depth == 0 => {
                parts.push(&arguments[start..place]);
                start = place + 1;
            }
            _ => {}
        }
    }
    if start < arguments.len() {
        parts.push(&arguments[start..]);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::table;

    #[test]
    fn rows_are_sorted_and_their_brackets_close() {
        for pair in ARGUMENTS.windows(2) {
            assert!(pair[0].0 < pair[1].0, "{} before {}", pair[0].0, pair[1].0);
        }
        for (name, arguments) in ARGUMENTS {
            let count = |sign| arguments.chars().filter(|&c| c == sign).count();
            assert_eq!(count('['), count(']'), "{name}");
            assert_eq!(parts(arguments).join(" "), *arguments, "{name}");
        }
    }

    #[test]
    fn what_must_be_given_fits_the_command_tables_arity() {
        for (name, arguments) in ARGUMENTS {
            let words = name.split(' ').count();
            let Some(spec) = table::find(name.as_bytes()).filter(|_| words == 1) else {
                continue;
            };
            let parts = parts(arguments);
            let must = parts
                .iter()
                .filter(|part| !part.starts_with('[') && **part != "…")
                .count();
            assert!(
                spec.takes(1 + must),
                "{name} {arguments} against arity {}",
                spec.arity
            );
        }
    }

    #[test]
    fn subcommands_are_found_behind_their_command() {
        assert_eq!(
            subcommands("config").collect::<Vec<_>>(),
            ["get", "resetstat", "set"]
        );
        assert_eq!(subcommands("get").count(), 0);
        assert_eq!(arguments("config get"), Some("parameter …"));
        assert_eq!(arguments("nonsense"), None);
    }
}
