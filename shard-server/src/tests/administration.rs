//! Commands about the server and its keys as a whole, in the words of Redis 7.

use std::sync::Arc;
use std::time::Duration;

use super::commands::{dialogue, say};
use crate::testing::{MemoryStore, Script, server, talk, talk_to};

#[test]
fn config_changes_all_or_nothing() {
    let failed = |name: &str, why: &str| {
        format!("-ERR CONFIG SET failed (possibly related to argument '{name}') - {why}\r\n")
    };
    let integer = failed("timeout", "argument couldn't be parsed into an integer");
    let range = failed("maxclients", "argument must be between 1 and 1000000 inclusive");
    let word = failed(
        "loglevel",
        "argument(s) must be one of the following: debug, verbose, notice, warning",
    );
    let yes = failed("latency-tracking", "argument must be 'yes' or 'no'");
    let twice = failed("timeout", "duplicate parameter");
    let never = failed("databases", "can't set immutable config");
    dialogue(&[
        ("CONFIG SET timeout 5 maxclients 7", "+OK\r\n"),
        (
            "CONFIG GET timeout maxclients",
            "*4\r\n$10\r\nmaxclients\r\n$1\r\n7\r\n$7\r\ntimeout\r\n$1\r\n5\r\n",
        ),
        ("CONFIG SET timeout 6 maxclients 0", &range),
        ("CONFIG SET timeout x", &integer),
        ("CONFIG SET loglevel loud", &word),
        ("CONFIG SET latency-tracking maybe", &yes),
        ("CONFIG SET timeout 6 TIMEOUT 7", &twice),
        ("CONFIG SET databases 2", &never),
        (
            "CONFIG SET timeout 6 nope 1",
            "-ERR Unknown option or number of arguments for CONFIG SET - 'nope'\r\n",
        ),
        ("CONFIG SET timeout 6 nope", "-ERR syntax error\r\n"),
        (
            "CONFIG SET timeout",
            "-ERR wrong number of arguments for 'config|set' command\r\n",
        ),
        ("CONFIG GET timeout", "*2\r\n$7\r\ntimeout\r\n$1\r\n5\r\n"),
        ("CONFIG SET loglevel NOTICE slowlog-max-len 3", "+OK\r\n"),
        (
            "CONFIG GET loglevel slowlog-max-len",
            "*4\r\n$8\r\nloglevel\r\n$6\r\nnotice\r\n$15\r\nslowlog-max-len\r\n$1\r\n3\r\n",
        ),
        ("CONFIG RESETSTAT", "+OK\r\n"),
        (
            "CONFIG NOPE",
            "-ERR unknown subcommand 'NOPE'. Try CONFIG HELP.\r\n",
        ),
    ]);
    let said = say(&["CONFIG REWRITE", "CONFIG HELP"]);
    assert!(said.starts_with("-ERR CONFIG REWRITE is not supported"), "{said}");
    assert!(
        said.contains("\r\n*11\r\n+CONFIG <subcommand>") && said.contains("+RESETSTAT\r\n"),
        "{said}"
    );
}

#[test]
fn waiting_is_bounded_and_answers_as_redis_without_replicas() {
    dialogue(&[
        ("WAIT 0 0", ":0\r\n"),
        ("WAIT -1 0", ":0\r\n"),
        ("WAIT 1 10", ":0\r\n"),
        ("WAIT 1 0", ":0\r\n"),
        ("WAIT x 0", "-ERR value is not an integer or out of range\r\n"),
        ("WAIT 0 x", "-ERR timeout is not an integer or out of range\r\n"),
        ("WAIT 0 -1", "-ERR timeout is negative\r\n"),
        ("DEBUG SLEEP 0.5", "+OK\r\n"),
        ("DEBUG SLEEP x", "-ERR value is not a valid float\r\n"),
        ("DEBUG SLEEP -1", "-ERR value is not a valid float\r\n"),
        (
            "DEBUG NOPE",
            "-ERR unknown subcommand 'NOPE'. Try DEBUG HELP.\r\n",
        ),
    ]);
    let store = MemoryStore::default();
    let before = crate::store::Store::now(&store);
    talk(&store, [b"DEBUG SLEEP 2.5\r\nWAIT 1 1500\r\n".to_vec()]);
    assert_eq!(crate::store::Store::now(&store) - before, Duration::from_secs(4));
}

#[test]
fn there_is_one_database_and_no_checkpoint() {
    dialogue(&[
        ("SWAPDB 0 0", "+OK\r\n"),
        ("SWAPDB 0 1", "-ERR DB index is out of range\r\n"),
        ("SWAPDB x 0", "-ERR invalid first DB index\r\n"),
        ("SWAPDB 0 x", "-ERR invalid second DB index\r\n"),
        ("MOVE a 0", "-ERR source and destination objects are the same\r\n"),
        ("MOVE a 1", "-ERR DB index is out of range\r\n"),
        ("MOVE a x", "-ERR value is not an integer or out of range\r\n"),
        ("SHUTDOWN ABORT", "-ERR No shutdown in progress.\r\n"),
        ("SHUTDOWN SAVE NOSAVE", "-ERR syntax error\r\n"),
        ("TIME", "*2\r\n$10\r\n1700000000\r\n$6\r\n123000\r\n"),
        ("TIME x", "-ERR wrong number of arguments for 'time' command\r\n"),
    ]);
    for name in ["SAVE", "BGSAVE", "LASTSAVE", "BGREWRITEAOF"] {
        let said = say(&[name]);
        assert!(
            said.starts_with(&format!("-ERR {name} is not supported: ")),
            "{said}"
        );
    }
}

#[test]
fn flushing_deletes_every_key_of_every_page() {
    let store = MemoryStore::default();
    for n in 0..3000_u32 {
        store.put(format!("{n}").as_bytes(), b"v");
    }
    let lines = [
        "DBSIZE",
        "FLUSHDB NOPE",
        "FLUSHALL ASYNC SYNC",
        "FLUSHALL async",
        "DBSIZE",
        "FLUSHDB",
    ];
    let heard = talk(&store, lines.map(|line| format!("{line}\r\n").into_bytes())).answers();
    assert_eq!(
        String::from_utf8(heard).unwrap(),
        ":3000\r\n-ERR syntax error\r\n-ERR syntax error\r\n+OK\r\n:0\r\n+OK\r\n"
    );
}

#[test]
fn keys_and_random_keys() {
    dialogue(&[
        ("KEYS *", "*0\r\n"),
        ("RANDOMKEY", "$-1\r\n"),
        ("SET a:1 x", "+OK\r\n"),
        ("RANDOMKEY", "$3\r\na:1\r\n"),
        ("SET a:2 x", "+OK\r\n"),
        ("SET b:1 x", "+OK\r\n"),
        ("KEYS a:*", "*2\r\n$3\r\na:1\r\n$3\r\na:2\r\n"),
        ("KEYS ?:1", "*2\r\n$3\r\na:1\r\n$3\r\nb:1\r\n"),
        ("KEYS", "-ERR wrong number of arguments for 'keys' command\r\n"),
        (
            "SCAN 0 TYPE string",
            "*2\r\n$1\r\n0\r\n*3\r\n$3\r\na:1\r\n$3\r\na:2\r\n$3\r\nb:1\r\n",
        ),
        ("SCAN 0 TYPE hash", "*2\r\n$1\r\n0\r\n*0\r\n"),
    ]);
}

#[test]
fn keys_are_walked_in_pages_and_an_overlong_answer_is_refused() {
    let store = MemoryStore::default();
    for n in 0..5000_u32 {
        store.put(&[b"k".as_slice(), &n.to_be_bytes()].concat(), b"v");
    }
    let heard = talk(&store, [b"KEYS *\r\nKEYS x*\r\n".to_vec()]).answers();
    assert!(heard.starts_with(b"*5000\r\n") && heard.ends_with(b"*0\r\n"));
    for n in 0..600_u32 {
        store.put(&[vec![b'l'; 60_000], n.to_be_bytes().to_vec()].concat(), b"v");
    }
    let heard = talk(&store, [b"KEYS *\r\nPING\r\n".to_vec()]).answers();
    assert_eq!(
        String::from_utf8_lossy(&heard),
        "-ERR the answer is longer than 33554432 bytes; use SCAN, or a narrower pattern\r\n+PONG\r\n"
    );
}

#[test]
fn objects_and_memory() {
    dialogue(&[
        ("SET a 12", "+OK\r\n"),
        ("SET b hello", "+OK\r\n"),
        ("OBJECT ENCODING a", "$3\r\nint\r\n"),
        ("OBJECT ENCODING b", "$6\r\nembstr\r\n"),
        ("OBJECT ENCODING nope", "$-1\r\n"),
        ("OBJECT REFCOUNT b", ":1\r\n"),
        ("OBJECT IDLETIME b", ":0\r\n"),
        (
            "OBJECT ENCODING",
            "-ERR wrong number of arguments for 'object|encoding' command\r\n",
        ),
        (
            "OBJECT NOPE a",
            "-ERR unknown subcommand 'NOPE'. Try OBJECT HELP.\r\n",
        ),
        ("MEMORY USAGE b", ":22\r\n"),
        ("MEMORY USAGE b SAMPLES 5", ":22\r\n"),
        ("MEMORY USAGE nope", "$-1\r\n"),
        ("MEMORY USAGE b SAMPLES", "-ERR syntax error\r\n"),
        ("MEMORY USAGE b SAMPLES -1", "-ERR syntax error\r\n"),
        (
            "MEMORY USAGE b SAMPLES x",
            "-ERR value is not an integer or out of range\r\n",
        ),
        ("MEMORY PURGE", "+OK\r\n"),
    ]);
    let said = say(&[
        "MEMORY STATS",
        "MEMORY DOCTOR",
        "OBJECT FREQ a",
        "SET a 1",
        "OBJECT FREQ a",
    ]);
    assert!(said.contains("$15\r\ntotal.allocated\r\n:0\r\n"), "{said}");
    assert!(
        said.contains("$-1\r\n+OK\r\n-ERR An LFU maxmemory policy is not selected"),
        "{said}"
    );
}

#[test]
fn kv_scan_goes_on_from_a_cursor_that_the_server_does_not_remember() {
    let store = MemoryStore::default();
    for key in ["a", "b", "c", "d", "e"] {
        store.put(key.as_bytes(), key.to_uppercase().as_bytes());
    }
    let ask = |line: String| {
        let heard = talk(&store, [format!("{line}\r\n").into_bytes()]).answers();
        String::from_utf8(heard).unwrap()
    };
    assert_eq!(ask("KV.SCAN b d KEYS".into()), "*2\r\n$1\r\nb\r\n$1\r\nc\r\n");
    assert_eq!(
        ask("KV.SCAN b d REV".into()),
        "*4\r\n$1\r\nc\r\n$1\r\nC\r\n$1\r\nb\r\n$1\r\nB\r\n"
    );
    for (options, expected) in [
        ("", "a$1A$1b$1Bc$1C$1d$1D"),
        (" KEYS", "a$1bc$1d"),
        (" REV", "d$1D$1c$1Cb$1B$1a$1A"),
    ] {
        let (mut cursor, mut keys) = ("0".to_owned(), String::new());
        loop {
            let heard = ask(format!("KV.SCAN a e LIMIT 2 CURSOR {cursor}{options}"));
            let parts: Vec<&str> = heard.split("\r\n").collect();
            cursor = parts[2].to_owned();
            keys += &parts[5..].concat();
            if cursor == "0" {
                break;
            }
        }
        assert_eq!(keys, expected, "{options}");
    }
    let cursor = ask("KV.SCAN a e LIMIT 2 CURSOR 0 KEYS".into());
    let cursor = cursor.split("\r\n").nth(2).unwrap().to_owned();
    assert!(ask(format!("KV.SCAN a e CURSOR x{cursor}")).starts_with("-ERR invalid cursor"));
    assert_eq!(
        ask(format!("KV.SCAN c e CURSOR {cursor}")),
        "-ERR the cursor is not of this range\r\n"
    );
    for line in ["KV.SCAN a e CURSOR", "KV.SCAN a e LIMIT", "KV.SCAN a e NOPE"] {
        assert_eq!(ask(line.into()), "-ERR syntax error\r\n", "{line}");
    }
    assert_eq!(ask("KV.SCAN e a CURSOR 0".into()), "*2\r\n$1\r\n0\r\n*0\r\n");
}

#[test]
fn slow_log_and_latency_without_anything_slow() {
    dialogue(&[
        ("SLOWLOG GET", "*0\r\n"),
        ("SLOWLOG LEN", ":0\r\n"),
        ("SLOWLOG RESET", "+OK\r\n"),
        (
            "SLOWLOG GET x",
            "-ERR count should be greater than or equal to -1\r\n",
        ),
        (
            "SLOWLOG GET -2",
            "-ERR count should be greater than or equal to -1\r\n",
        ),
        (
            "SLOWLOG GET 1 2",
            "-ERR unknown subcommand or wrong number of arguments for 'GET'. Try SLOWLOG HELP.\r\n",
        ),
        (
            "SLOWLOG",
            "-ERR wrong number of arguments for 'slowlog' command\r\n",
        ),
        ("LATENCY LATEST", "*0\r\n"),
        ("LATENCY HISTORY x", "*0\r\n"),
        ("LATENCY RESET x y", ":0\r\n"),
        ("LATENCY GRAPH x", "-ERR No samples available for event 'x'\r\n"),
        ("LATENCY HISTOGRAM nope", "*0\r\n"),
        (
            "LATENCY NOPE",
            "-ERR unknown subcommand 'NOPE'. Try LATENCY HELP.\r\n",
        ),
    ]);
}

/// The slow log had a place for why a round took long, in its lines, over HTTP and in the process, and it was always empty:
/// a slow write and a core that was busy looked alike.
#[test]
fn a_slow_round_says_what_its_time_went_into() {
    let (store, server) = (MemoryStore::default(), Arc::new(server()));
    let ask = |line: &str| {
        let script = Script::new([format!("{line}\r\n").into_bytes()]);
        talk_to(&server, &store, script.clone());
        String::from_utf8(script.answers()).unwrap()
    };
    store.answer_after(Duration::from_millis(12));
    // 'b' is of the shard that lives here, and 'a' of the other one.
    ask("SET b 1");
    store.stall_for("level 0 is behind");
    ask("SET b 1");
    ask("SET a 1");
    ask("GET a");
    store.answer_after(Duration::ZERO);
    ask("DEBUG SLEEP 0.02");
    let causes: Vec<_> = server
        .telemetry()
        .slow()
        .latest(9)
        .into_iter()
        .map(|logged| logged.entry.cause)
        .rev()
        .collect();
    assert_eq!(
        causes,
        [
            "waiting for 1 durable write (12000 us)",
            "waiting for 1 durable write (12000 us); writers of shard 0 are held back now: level 0 is behind",
            "waiting for 1 durable write (12000 us)",
            "waiting for 1 read (12000 us)",
            "debug, behind all before it (20000 us)",
        ]
    );
    let told = ask("SLOWLOG GET 1");
    assert!(
        told.starts_with("*1\r\n*6\r\n:4\r\n:"),
        "six parts, as Redis has them: {told}"
    );
    assert!(!told.contains("behind all"), "{told}");
}

/// A round began when its task was polled, or when the round before was answered: what ran behind that round's answers was
/// counted as this one's too.
#[test]
fn what_ran_behind_a_round_is_no_part_of_the_next() {
    let (store, server) = (MemoryStore::default(), Arc::new(server()));
    store.is_polled_once();
    let script = Script::new([b"DEBUG SLEEP 0.02\r\nGET b\r\nDEBUG SLEEP 0.02\r\nGET b\r\n".to_vec()]);
    talk_to(&server, &store, script.clone());
    let slow = server.telemetry().slow().latest(9);
    let causes: Vec<&str> = slow.iter().map(|logged| logged.entry.cause.as_str()).collect();
    assert_eq!(causes, ["debug, behind all before it (20000 us)"; 2]);
}

#[test]
fn command_tells_keys_and_filters() {
    dialogue(&[
        ("COMMAND GETKEYS get a", "*1\r\n$1\r\na\r\n"),
        ("COMMAND GETKEYS mset a 1 b 2", "*2\r\n$1\r\na\r\n$1\r\nb\r\n"),
        ("COMMAND GETKEYS object encoding x", "*1\r\n$1\r\nx\r\n"),
        (
            "COMMAND GETKEYS ping x",
            "-ERR The command has no key arguments\r\n",
        ),
        ("COMMAND GETKEYS nope x", "-ERR Invalid command specified\r\n"),
        (
            "COMMAND GETKEYS get a b",
            "-ERR Invalid number of arguments specified for command\r\n",
        ),
        (
            "COMMAND GETKEYS get",
            "-ERR wrong number of arguments for 'command|getkeys' command\r\n",
        ),
        (
            "COMMAND GETKEYSANDFLAGS set a b GET",
            "*1\r\n*2\r\n$1\r\na\r\n*3\r\n+RW\r\n+access\r\n+update\r\n",
        ),
        (
            "COMMAND GETKEYSANDFLAGS set a b",
            "*1\r\n*2\r\n$1\r\na\r\n*2\r\n+OW\r\n+update\r\n",
        ),
        ("COMMAND LIST FILTERBY PATTERN SCA*", "*1\r\n$4\r\nscan\r\n"),
        ("COMMAND LIST FILTERBY MODULE x", "*0\r\n"),
        ("COMMAND LIST FILTERBY ACLCAT nope", "*0\r\n"),
        ("COMMAND LIST FILTERBY NOPE x", "-ERR syntax error\r\n"),
        ("COMMAND LIST x", "-ERR syntax error\r\n"),
        (
            "COMMAND DOCS config|get",
            "*2\r\n$10\r\nconfig|get\r\n*4\r\n$7\r\nsummary\r\n$57\r\nReturns the settings whose names match, and their \
             values.\r\n$5\r\ngroup\r\n$6\r\nserver\r\n",
        ),
    ]);
    let said = say(&["COMMAND LIST FILTERBY ACLCAT admin", "COMMAND INFO config|get"]);
    assert!(
        said.contains("\r\nconfig|set\r\n") && !said.contains("\r\nget\r\n"),
        "{said}"
    );
    assert!(said.contains("$10\r\nconfig|get\r\n:-3\r\n"), "{said}");
}
