//! What `COMMAND` tells beside the table: the access categories of a command, and what it does to its keys. Pure.

/// Commands that Redis calls dangerous though they are not for operators alone: they touch all keys, or tell much.
const DANGEROUS: [&str; 5] = ["flushall", "flushdb", "info", "keys", "swapdb"];

/// Commands of the server that Redis counts among those on keys.
const ON_KEYS: [&str; 4] = ["dbsize", "flushall", "flushdb", "swapdb"];

/// The access categories of a command, in the order in which Redis names them.
pub fn categories(name: &str, flags: &[&str], group: &str) -> Vec<&'static str> {
    let flag = |wanted| flags.contains(&wanted);
    let admin = flag("admin");
    [
        (
            "@keyspace",
            group == "generic" && name != "wait" || ON_KEYS.contains(&name),
        ),
        ("@read", flag("readonly")),
        ("@write", flag("write")),
        ("@string", group == "string"),
        ("@bitmap", group == "bitmap"),
        ("@admin", admin),
        ("@fast", flag("fast")),
        ("@slow", !flag("fast")),
        ("@blocking", flag("blocking") || name == "wait"),
        ("@dangerous", admin || DANGEROUS.contains(&name)),
        (
            "@connection",
            group == "connection" || name == "wait" || name == "command",
        ),
        ("@transaction", group == "transactions"),
    ]
    .into_iter()
    .filter_map(|(category, of)| of.then_some(category))
    .collect()
}

/// What a command does to its `number`th key, in Redis's words: reads it (`RO`), changes it (`RW`), overwrites it whatever
/// it was (`OW`) or removes it (`RM`); and whether it returns its value, changes it, adds or deletes data.
pub fn key_flags(name: &str, flags: &[&str], number: usize) -> &'static [&'static str] {
    const READS: &[&str] = &["RO", "access"];
    const LOOKS: &[&str] = &["RO"];
    const SETS: &[&str] = &["OW", "update"];
    const ADDS: &[&str] = &["OW", "insert"];
    const CHANGES: &[&str] = &["RW", "update"];
    const READS_AND_CHANGES: &[&str] = &["RW", "access", "update"];
    const READS_AND_DELETES: &[&str] = &["RW", "access", "delete"];
    match name {
        "exists" | "type" | "ttl" | "pttl" | "expiretime" | "pexpiretime" | "touch" | "strlen" | "watch"
        | "memory|usage" | "object|encoding" | "object|freq" | "object|idletime" | "object|refcount" => LOOKS,
        "set" | "mset" | "setex" | "psetex" => SETS,
        "setnx" | "msetnx" => ADDS,
        "rename" | "renamenx" if number == 0 => READS_AND_DELETES,
        "rename" | "copy" if number == 1 => SETS,
        "renamenx" => ADDS,
        "copy" => READS,
        "del" | "unlink" => &["RM", "delete"],
        "getdel" | "move" => READS_AND_DELETES,
        "append" => &["RW", "insert"],
        "setrange" | "persist" | "expire" | "pexpire" | "expireat" | "pexpireat" => CHANGES,
        _ if flags.contains(&"write") => READS_AND_CHANGES,
        _ => READS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn categories_are_those_of_redis() {
        for (name, flags, group, expected) in [
            (
                "get",
                &["readonly", "fast"] as &[&str],
                "string",
                "@read @string @fast",
            ),
            ("mset", &["write", "denyoom"], "string", "@write @string @slow"),
            ("del", &["write"], "generic", "@keyspace @write @slow"),
            ("config|get", &["admin"], "server", "@admin @slow @dangerous"),
            ("ping", &["fast"], "connection", "@fast @connection"),
        ] {
            assert_eq!(categories(name, flags, group).join(" "), expected, "{name}");
        }
    }

    #[test]
    fn key_flags_are_those_of_redis() {
        for (name, flags, number, expected) in [
            ("get", &["readonly"] as &[&str], 0, "RO access"),
            ("set", &["write"], 0, "OW update"),
            ("incr", &["write"], 0, "RW access update"),
            ("rename", &["write"], 0, "RW access delete"),
            ("rename", &["write"], 1, "OW update"),
            ("copy", &["write"], 0, "RO access"),
        ] {
            assert_eq!(
                key_flags(name, flags, number).join(" "),
                expected,
                "{name} {number}"
            );
        }
    }
}
