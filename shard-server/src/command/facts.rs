//! What `COMMAND` tells beside the table: the access categories of a command, and what it does to its keys. Pure.

use super::Request;

/// Commands that Redis calls dangerous though they are not for operators alone: they touch all keys, or tell much.
const DANGEROUS: [&str; 5] = ["flushall", "flushdb", "info", "keys", "swapdb"];

/// Commands of the server that Redis counts among those on keys.
const ON_KEYS: [&str; 4] = ["dbsize", "flushall", "flushdb", "swapdb"];

/// Whether a command on keys may answer with a value or a part of one, which may be long. What others answer is short.
pub fn answers_value(request: &Request<'_>) -> bool {
    match request.spec.name {
        "get" | "getdel" | "getex" | "getrange" | "getset" | "mget" | "substr" => true,
        "set" => request
            .arguments
            .from(3)
            .any(|option| option.eq_ignore_ascii_case(b"get")),
        _ => false,
    }
}

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
    use corelane::api::Found;

    use super::*;
    use crate::command::table;
    use crate::command::{Owned, View, request::sorted_keys};
    use crate::resp::Protocol;
    use crate::resp::request::Reader;
    use crate::testing::command;

    /// A command that answers with much and does not say so would be answered by an error in a pipeline of long values.
    #[test]
    fn what_is_not_said_to_answer_with_values_answers_shortly() {
        let value = [b'7'; 100_000];
        let of = |words: &[&[u8]]| {
            let spec = table::find(words[0]).expect("a command");
            let bytes = command(words);
            let mut reader = Reader::default();
            reader.next(&bytes).expect("it is whole");
            let request = Request {
                spec,
                arguments: reader.arguments(&bytes),
                protocol: Protocol::Resp2,
            };
            let owned = Owned::new(&request);
            let request = owned.request();
            let keys = sorted_keys(request.keys());
            let found = Found {
                value: Some(&value),
                expires_ms: None,
                version: 1,
                now_ms: 1,
            };
            let found = vec![found; keys.len()];
            let (mut view, mut out) = (View::new(&keys, &found), Vec::new());
            request.answer(spec.keyed().expect("on keys"), &mut view, &mut out);
            (out.len(), answers_value(&request))
        };
        let words: [&[u8]; 4] = [b"k", b"0", b"90000", b"GET"];
        let mut long = 0;
        for spec in table::ALL.iter().filter(|spec| spec.keyed().is_some()) {
            for count in 1..=words.len() {
                if spec.takes(count + 1) {
                    let line: Vec<&[u8]> = [spec.name.as_bytes()]
                        .into_iter()
                        .chain(words[..count].iter().copied())
                        .collect();
                    let (bytes, said) = of(&line);
                    assert!(bytes < 4096 || said, "{} answers {bytes} bytes", spec.name);
                    long += usize::from(bytes > 4096);
                }
            }
        }
        assert!(long >= 6, "{long} long answers");
        assert_eq!(of(&[b"set", b"k", b"v", b"get"]), (100_011, true));
    }

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
