//! Each command's answers, in the words of Redis 7.

use corelane::ErrorKind;

use crate::testing::{MemoryStore, answers, command, talk};

/// The answers to commands written as words, each line sent on its own.
pub(super) fn say(lines: &[&str]) -> String {
    String::from_utf8(answers(
        lines.iter().map(|line| format!("{line}\r\n").into_bytes()),
    ))
    .unwrap()
}

/// Checks dialogues of one client: what it says, what it hears.
pub(super) fn dialogue(talk: &[(&str, &str)]) {
    let said: Vec<&str> = talk.iter().map(|(said, _)| *said).collect();
    let heard: String = talk.iter().map(|(_, heard)| *heard).collect();
    assert_eq!(say(&said), heard, "{said:?}");
}

#[test]
fn connection_commands() {
    dialogue(&[
        ("PING", "+PONG\r\n"),
        ("ping hi", "$2\r\nhi\r\n"),
        (
            "PING a b",
            "-ERR wrong number of arguments for 'ping' command\r\n",
        ),
        ("ECHO 'a b'", "$3\r\na b\r\n"),
        ("ECHO", "-ERR wrong number of arguments for 'echo' command\r\n"),
        ("SELECT 0", "+OK\r\n"),
        ("SELECT 1", "-ERR DB index is out of range\r\n"),
        ("SELECT x", "-ERR value is not an integer or out of range\r\n"),
        (
            "SELECT 2147483648",
            "-ERR value is out of range, value must between -2147483648 and 2147483647\r\n",
        ),
        ("CLIENT ID", ":1\r\n"),
        ("CLIENT GETNAME", "$-1\r\n"),
        ("CLIENT SETNAME me", "+OK\r\n"),
        ("CLIENT GETNAME", "$2\r\nme\r\n"),
        (
            "CLIENT SETNAME 'a b'",
            "-ERR Client names cannot contain spaces, newlines or special characters.\r\n",
        ),
        ("CLIENT SETINFO LIB-NAME x", "+OK\r\n"),
        ("CLIENT SETINFO nope x", "-ERR Unrecognized option 'nope'\r\n"),
        (
            "CLIENT SETNAME",
            "-ERR wrong number of arguments for 'client|setname' command\r\n",
        ),
        (
            "CLIENT NOPE",
            "-ERR unknown subcommand 'NOPE'. Try CLIENT HELP.\r\n",
        ),
        (
            "CLIENT",
            "-ERR wrong number of arguments for 'client' command\r\n",
        ),
        (
            "nope a b",
            "-ERR unknown command 'nope', with args beginning with: 'a' 'b' \r\n",
        ),
        ("QUIT", "+OK\r\n"),
        ("PING", ""),
    ]);
}

#[test]
fn hello_chooses_the_protocol_from_there_on() {
    let hello2 = "*14\r\n$6\r\nserver\r\n$8\r\ncorelane\r\n$7\r\nversion\r\n$5\r\n7.0.0\r\n$5\r\nproto\r\n:2\r\n$2\r\nid\r\n:1\r\n\
        $4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n";
    let hello3 = hello2
        .replace("*14\r\n", "%7\r\n")
        .replace("proto\r\n:2", "proto\r\n:3");
    dialogue(&[
        ("GET absent", "$-1\r\n"),
        ("HELLO", hello2),
        ("HELLO 3 SETNAME me", &hello3),
        ("GET absent", "_\r\n"),
        ("MGET a b", "*2\r\n_\r\n_\r\n"),
        ("CLIENT GETNAME", "$2\r\nme\r\n"),
        ("CONFIG GET port", "%1\r\n$4\r\nport\r\n$4\r\n7379\r\n"),
        ("INFO nothing", "=4\r\ntxt:\r\n"),
        ("HELLO 4", "-NOPROTO unsupported protocol version\r\n"),
        (
            "HELLO x",
            "-ERR Protocol version is not an integer or out of range\r\n",
        ),
        ("HELLO 2 NOPE", "-ERR Syntax error in HELLO option 'NOPE'\r\n"),
        (
            "HELLO 2 AUTH a b",
            "-WRONGPASS invalid username-password pair or user is disabled.\r\n",
        ),
        ("HELLO 2", hello2),
        ("GET absent", "$-1\r\n"),
    ]);
}

#[test]
fn a_hello_inside_a_pipeline_does_not_change_the_answers_before_it() {
    // `a` is of the other shard, so that its null is written after the HELLO behind it was read.
    let heard = String::from_utf8(answers([b"GET a\r\nHELLO 3\r\nGET a\r\n".to_vec()])).unwrap();
    assert!(
        heard.starts_with("$-1\r\n%7\r\n") && heard.ends_with("\r\n_\r\n"),
        "{heard}"
    );
}

#[test]
fn get_and_set() {
    for key in ["a", "b"] {
        // One key is resident, the other is not.
        let line = |text: &str| text.replace("KEY", key);
        let said = [
            "GET KEY",
            "SET KEY 1",
            "GET KEY",
            "SET KEY 2 NX",
            "SET KEY 3 XX",
            "GET KEY",
            "SET KEY 4 GET",
            "SET KEY 5 NX GET",
            "SET KEY 6 KEEPTTL",
            "GET KEY",
            "SET other 1 XX",
            "SET new 1 NX",
            "SET neu 1 GET",
            "SET KEY 1 NX XX",
            "SET KEY 1 nope",
            "SET KEY",
            "GET",
            "GET KEY KEY",
            "SET KEY 7 EX 10",
        ];
        let said: Vec<String> = said.iter().map(|text| line(text)).collect();
        let said: Vec<&str> = said.iter().map(String::as_str).collect();
        assert_eq!(
            say(&said),
            "$-1\r\n+OK\r\n$1\r\n1\r\n$-1\r\n+OK\r\n$1\r\n3\r\n$1\r\n3\r\n\
             $1\r\n4\r\n+OK\r\n$1\r\n6\r\n$-1\r\n+OK\r\n$-1\r\n\
             -ERR syntax error\r\n-ERR syntax error\r\n-ERR wrong number of arguments for 'set' command\r\n\
             -ERR wrong number of arguments for 'get' command\r\n-ERR wrong number of arguments for 'get' command\r\n\
             +OK\r\n",
            "key {key}"
        );
    }
}

#[test]
fn counters() {
    dialogue(&[
        ("INCR n", ":1\r\n"),
        ("INCRBY n 41", ":42\r\n"),
        ("DECR n", ":41\r\n"),
        ("DECRBY n 1", ":40\r\n"),
        ("GET n", "$2\r\n40\r\n"),
        ("INCRBY n x", "-ERR value is not an integer or out of range\r\n"),
        (
            "DECRBY n -9223372036854775808",
            "-ERR decrement would overflow\r\n",
        ),
        ("SET n 9223372036854775807", "+OK\r\n"),
        ("INCR n", "-ERR increment or decrement would overflow\r\n"),
        ("GET n", "$19\r\n9223372036854775807\r\n"),
        ("SET n abc", "+OK\r\n"),
        ("INCR n", "-ERR value is not an integer or out of range\r\n"),
        ("INCR", "-ERR wrong number of arguments for 'incr' command\r\n"),
    ]);
}

#[test]
fn commands_of_many_keys() {
    dialogue(&[
        ("MSET a 1 c 3 e 5", "+OK\r\n"),
        ("MSET b 2", "+OK\r\n"),
        ("MGET a b x c", "*4\r\n$1\r\n1\r\n$1\r\n2\r\n$-1\r\n$1\r\n3\r\n"),
        ("EXISTS a b b x", ":3\r\n"),
        ("DEL a b a x", ":2\r\n"),
        ("EXISTS a b", ":0\r\n"),
        ("DBSIZE", ":2\r\n"),
        (
            "MSET a 1 b",
            "-ERR wrong number of arguments for 'mset' command\r\n",
        ),
        ("MGET", "-ERR wrong number of arguments for 'mget' command\r\n"),
        ("DEL", "-ERR wrong number of arguments for 'del' command\r\n"),
    ]);
}

#[test]
fn a_write_over_several_shards_is_refused_whole() {
    let said = say(&["MSET a 1 b 2", "MGET a b"]);
    assert!(
        said.starts_with("-CROSSSLOT Keys in request don't hash to the same shard"),
        "{said}"
    );
    assert!(
        said.ends_with("\r\n*2\r\n$-1\r\n$-1\r\n"),
        "nothing of it was written: {said}"
    );
}

#[test]
fn scan_steps_through_every_key_once() {
    let store = MemoryStore::default();
    for n in 0..25 {
        store.put(format!("key:{n:02}").as_bytes(), b"v");
    }
    store.put(b"other", b"v");
    for (extra, expected) in [
        (" MATCH key:* COUNT 10", 25),
        ("", 26),
        (" MATCH *1", 3),
        (" MATCH nope*", 0),
    ] {
        let (mut cursor, mut keys) = ("0".to_owned(), Vec::new());
        let mut lines = Vec::new();
        // Cursors are of one server: the whole scan is one conversation, whose numbers are known.
        for step in 0..3 {
            lines.push(format!("SCAN {}{extra}\r\n", if step == 0 { 0 } else { step }).into_bytes());
        }
        let heard = String::from_utf8(talk(&store, lines).answers()).unwrap();
        for answer in heard.split("*2\r\n").skip(1) {
            let mut parts = answer.split("\r\n").skip(1);
            cursor = parts.next().unwrap().to_owned();
            keys.extend(
                parts
                    .filter(|part| part.starts_with("key:") || *part == "other")
                    .map(str::to_owned),
            );
            if cursor == "0" {
                break;
            }
        }
        assert_eq!(cursor, "0", "{extra}: {heard}");
        assert_eq!(keys.len(), expected, "{extra}: {heard}");
    }
    let refused = [
        ("SCAN x", "-ERR invalid cursor\r\n"),
        ("SCAN 0 COUNT 0", "-ERR syntax error\r\n"),
        (
            "SCAN 0 COUNT x",
            "-ERR value is not an integer or out of range\r\n",
        ),
        ("SCAN 0 COUNT", "-ERR syntax error\r\n"),
        ("SCAN 0 NOPE 1", "-ERR syntax error\r\n"),
        (
            "SCAN 99",
            "-ERR cursor 99 is not known, or no longer; start again with SCAN 0\r\n",
        ),
    ];
    dialogue(&refused);
}

#[test]
fn kv_scan_reads_ranges_in_order() {
    dialogue(&[
        ("MSET a 1 c 3", "+OK\r\n"),
        ("SET b 2", "+OK\r\n"),
        (
            "KV.SCAN - +",
            "*6\r\n$1\r\na\r\n$1\r\n1\r\n$1\r\nb\r\n$1\r\n2\r\n$1\r\nc\r\n$1\r\n3\r\n",
        ),
        (
            "KV.SCAN a c",
            "*4\r\n$1\r\na\r\n$1\r\n1\r\n$1\r\nb\r\n$1\r\n2\r\n",
        ),
        ("KV.SCAN b + LIMIT 1", "*2\r\n$1\r\nb\r\n$1\r\n2\r\n"),
        ("KV.SCAN - + LIMIT 0", "*0\r\n"),
        ("KV.SCAN c a", "*0\r\n"),
        ("KV.SCAN a a", "*0\r\n"),
        (
            "KV.SCAN - + LIMIT x",
            "-ERR value is not an integer or out of range\r\n",
        ),
        ("KV.SCAN - + LIMIT -1", "-ERR LIMIT can't be negative\r\n"),
        ("KV.SCAN - + LIMIT", "-ERR syntax error\r\n"),
        ("KV.SCAN - + NOPE 1", "-ERR syntax error\r\n"),
        (
            "KV.SCAN -",
            "-ERR wrong number of arguments for 'kv.scan' command\r\n",
        ),
    ]);
}

#[test]
fn a_long_range_is_read_in_pages_and_an_overlong_one_refused() {
    let store = MemoryStore::default();
    for n in 0..5000_u32 {
        store.put(&n.to_be_bytes(), b"v");
    }
    let heard = talk(&store, [b"KV.SCAN - +\r\n".to_vec()]).answers();
    assert!(heard.starts_with(b"*10000\r\n"));
    for n in 0..70_u8 {
        store.put(&[9, n], &vec![n; 1 << 20]);
    }
    let heard = talk(&store, [b"KV.SCAN - +\r\n".to_vec(), b"PING\r\n".to_vec()]).answers();
    assert_eq!(
        String::from_utf8_lossy(&heard),
        "-ERR the answer is longer than 67108864 bytes; use LIMIT\r\n+PONG\r\n"
    );
}

#[test]
fn introspection() {
    let heard = say(&[
        "COMMAND COUNT",
        "COMMAND INFO get nope",
        "CONFIG GET save",
        "CONFIG GET sa* m*memory",
    ]);
    let mget = "*10\r\n$3\r\nget\r\n:2\r\n*2\r\n+readonly\r\n+fast\r\n:1\r\n:1\r\n:1\r\n*3\r\n+@read\r\n+@string\r\n+@fast\r\n\
         *0\r\n*1\r\n*6\r\n$5\r\nflags\r\n*2\r\n+RO\r\n+access\r\n$12\r\nbegin_search\r\n*4\r\n$4\r\ntype\r\n$5\r\nindex\r\n\
         $4\r\nspec\r\n*2\r\n$5\r\nindex\r\n:1\r\n$9\r\nfind_keys\r\n*4\r\n$4\r\ntype\r\n$5\r\nrange\r\n$4\r\nspec\r\n\
         *6\r\n$7\r\nlastkey\r\n:0\r\n$7\r\nkeystep\r\n:1\r\n$5\r\nlimit\r\n:0\r\n*0\r\n";
    assert_eq!(
        heard,
        format!(
            ":{}\r\n*2\r\n{mget}$-1\r\n*2\r\n$4\r\nsave\r\n$0\r\n\r\n\
             *4\r\n$9\r\nmaxmemory\r\n$1\r\n0\r\n$4\r\nsave\r\n$0\r\n\r\n",
            crate::command::table::ALL.len()
        )
    );
    let whole = say(&["COMMAND", "COMMAND DOCS", "COMMAND LIST", "INFO", "CONFIG GET *"]);
    for part in [
        "$7\r\nkv.scan\r\n",
        "$7\r\nsummary\r\n",
        "# Server\r\n",
        "redis_version:7.0.0\r\n",
        "appendfsync",
    ] {
        assert!(whole.contains(part), "{part:?}");
    }
    dialogue(&[
        (
            "CONFIG GET",
            "-ERR wrong number of arguments for 'config|get' command\r\n",
        ),
        (
            "COMMAND NOPE",
            "-ERR unknown subcommand 'NOPE'. Try COMMAND HELP.\r\n",
        ),
        ("SHUTDOWN nope", "-ERR syntax error\r\n"),
    ]);
}

#[test]
fn keys_beyond_the_limit_are_refused_and_the_longest_is_not() {
    let (longest, longer) = (vec![b'k'; 65_536], vec![b'k'; 65_537]);
    let pieces = [
        command(&[b"SET", &longest, b"v"]),
        command(&[b"SET", &longer, b"v"]),
        command(&[b"MGET", b"a", &longer]),
    ];
    let heard = String::from_utf8(answers(pieces)).unwrap();
    let refusal = "-ERR key is longer than 65536 bytes\r\n";
    assert_eq!(heard, format!("+OK\r\n{refusal}{refusal}"));
}

#[test]
fn an_engine_error_answers_each_command_it_concerns_and_nothing_else() {
    let store = MemoryStore::default();
    store.fail_with(ErrorKind::NoSpace);
    let lines = [
        "SET a 1",
        "PING",
        "INCR a",
        "SET a 1 GET",
        "DEL a b",
        "EXISTS a",
        "MGET a",
        "PING",
    ];
    let heard = talk(
        &store,
        lines.iter().map(|line| format!("{line}\r\n").into_bytes()),
    )
    .answers();
    let heard = String::from_utf8(heard).unwrap();
    let kinds: Vec<&str> = heard
        .split_inclusive("\r\n")
        .map(|line| line.split(' ').next().unwrap().trim())
        .collect();
    assert_eq!(
        kinds,
        [
            "-MISCONF", "+PONG", "-MISCONF", "-MISCONF", "-MISCONF", "-MISCONF", "*1", "-MISCONF", "+PONG"
        ]
    );
}
