//! Transactions, in the words of redis-server 7.0.15: each answer was seen there, but for what this server refuses.

use super::commands::{dialogue, say};
use crate::testing::{MemoryStore, answers, command, talk};

#[test]
fn a_transaction_answers_as_redis_does() {
    dialogue(&[
        ("EXEC", "-ERR EXEC without MULTI\r\n"),
        ("DISCARD", "-ERR DISCARD without MULTI\r\n"),
        ("MULTI", "+OK\r\n"),
        ("EXEC", "*0\r\n"),
        ("MULTI", "+OK\r\n"),
        ("SET a 1", "+QUEUED\r\n"),
        ("INCR a", "+QUEUED\r\n"),
        ("PING", "+QUEUED\r\n"),
        ("GET a", "+QUEUED\r\n"),
        ("ECHO hi", "+QUEUED\r\n"),
        ("SET c x", "+QUEUED\r\n"),
        ("INCR c", "+QUEUED\r\n"),
        ("GET c", "+QUEUED\r\n"),
        ("CLIENT SETNAME me", "+QUEUED\r\n"),
        ("CLIENT GETNAME", "+QUEUED\r\n"),
        (
            "EXEC",
            "*10\r\n+OK\r\n:2\r\n+PONG\r\n$1\r\n2\r\n$2\r\nhi\r\n+OK\r\n-ERR value is not an integer or out of range\r\n$1\r\nx\r\n+OK\r\n$2\r\nme\r\n",
        ),
        ("MULTI", "+OK\r\n"),
        ("MULTI", "-ERR MULTI calls can not be nested\r\n"),
        ("WATCH a", "-ERR WATCH inside MULTI is not allowed\r\n"),
        ("SET a 9", "+QUEUED\r\n"),
        ("DISCARD", "+OK\r\n"),
        ("GET a", "$1\r\n2\r\n"),
        ("UNWATCH", "+OK\r\n"),
        ("MULTI", "+OK\r\n"),
        (
            "NOPE a",
            "-ERR unknown command 'NOPE', with args beginning with: 'a' \r\n",
        ),
        ("SET a 9", "+QUEUED\r\n"),
        (
            "EXEC",
            "-EXECABORT Transaction discarded because of previous errors.\r\n",
        ),
        ("MULTI", "+OK\r\n"),
        ("GET", "-ERR wrong number of arguments for 'get' command\r\n"),
        (
            "EXEC",
            "-EXECABORT Transaction discarded because of previous errors.\r\n",
        ),
        ("MULTI", "+OK\r\n"),
        (
            "EXEC x",
            "-EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command\r\n",
        ),
        ("EXEC", "-ERR EXEC without MULTI\r\n"),
        ("MULTI", "+OK\r\n"),
        (
            "DISCARD x",
            "-ERR wrong number of arguments for 'discard' command\r\n",
        ),
        (
            "EXEC",
            "-EXECABORT Transaction discarded because of previous errors.\r\n",
        ),
    ]);
}

#[test]
fn commands_of_many_keys_run_inside_a_transaction() {
    dialogue(&[
        ("MSET a 2 c x", "+OK\r\n"),
        ("MULTI", "+OK\r\n"),
        ("MGET a c missing", "+QUEUED\r\n"),
        ("EXISTS a c missing", "+QUEUED\r\n"),
        ("DEL a c", "+QUEUED\r\n"),
        ("MSET a 1 c 2", "+QUEUED\r\n"),
        ("MGET a c", "+QUEUED\r\n"),
        ("APPEND c 3", "+QUEUED\r\n"),
        ("RENAME c e", "+QUEUED\r\n"),
        ("GET e", "+QUEUED\r\n"),
        ("SETEX a 100 z", "+QUEUED\r\n"),
        ("TTL a", "+QUEUED\r\n"),
        ("GETDEL a", "+QUEUED\r\n"),
        ("UNWATCH", "+QUEUED\r\n"),
        ("SELECT 0", "+QUEUED\r\n"),
        (
            "EXEC",
            "*13\r\n*3\r\n$1\r\n2\r\n$1\r\nx\r\n$-1\r\n:2\r\n:2\r\n+OK\r\n*2\r\n$1\r\n1\r\n$1\r\n2\r\n:2\r\n+OK\r\n$2\r\n23\r\n+OK\r\n:100\r\n$1\r\nz\r\n+OK\r\n+OK\r\n",
        ),
        ("MGET a c e", "*3\r\n$-1\r\n$-1\r\n$2\r\n23\r\n"),
    ]);
}

#[test]
fn a_watched_key_that_changed_keeps_the_transaction_from_running() {
    dialogue(&[
        ("WATCH a", "+OK\r\n"),
        ("MULTI", "+OK\r\n"),
        ("SET a 1", "+QUEUED\r\n"),
        ("EXEC", "*1\r\n+OK\r\n"),
        ("WATCH a c", "+OK\r\n"),
        ("SET c 1", "+OK\r\n"),
        ("MULTI", "+OK\r\n"),
        ("SET a 2", "+QUEUED\r\n"),
        ("EXEC", "*-1\r\n"),
        ("GET a", "$1\r\n1\r\n"),
        ("MULTI", "+OK\r\n"),
        ("SET a 3", "+QUEUED\r\n"),
        ("EXEC", "*1\r\n+OK\r\n"),
        ("WATCH a", "+OK\r\n"),
        ("DEL a", ":1\r\n"),
        ("MULTI", "+OK\r\n"),
        ("EXEC", "*-1\r\n"),
        ("WATCH a", "+OK\r\n"),
        ("SET a 4", "+OK\r\n"),
        ("UNWATCH", "+OK\r\n"),
        ("MULTI", "+OK\r\n"),
        ("GET a", "+QUEUED\r\n"),
        ("EXEC", "*1\r\n$1\r\n4\r\n"),
        ("WATCH a", "+OK\r\n"),
        ("SET a 5", "+OK\r\n"),
        ("DISCARD", "-ERR DISCARD without MULTI\r\n"),
        ("MULTI", "+OK\r\n"),
        ("DISCARD", "+OK\r\n"),
        ("MULTI", "+OK\r\n"),
        ("GET a", "+QUEUED\r\n"),
        ("EXEC", "*1\r\n$1\r\n5\r\n"),
        ("WATCH missing", "+OK\r\n"),
        ("DEL missing", ":0\r\n"),
        ("MULTI", "+OK\r\n"),
        ("PING", "+QUEUED\r\n"),
        ("EXEC", "*1\r\n+PONG\r\n"),
        ("WATCH a", "+OK\r\n"),
        ("SET a 6", "+OK\r\n"),
        ("MULTI", "+OK\r\n"),
        ("PING", "+QUEUED\r\n"),
        ("EXEC", "*-1\r\n"),
        ("WATCH", "-ERR wrong number of arguments for 'watch' command\r\n"),
        (
            "UNWATCH x",
            "-ERR wrong number of arguments for 'unwatch' command\r\n",
        ),
    ]);
}

/// What several clients of one store say in turn, and hear.
struct Clients {
    store: MemoryStore,
    pipelines: Vec<crate::pipeline::Pipeline<MemoryStore>>,
}

impl Clients {
    fn new(count: u64) -> Self {
        let store = MemoryStore::default();
        let server = std::sync::Arc::new(crate::testing::server());
        let pipeline =
            |id| crate::pipeline::Pipeline::new(store.clone(), server.clone(), crate::testing::session(id));
        let pipelines = (1..=count).map(pipeline).collect();
        Self { store, pipelines }
    }

    fn say(&mut self, client: usize, line: &str) -> String {
        self.send(client, format!("{line}\r\n").as_bytes())
    }

    fn send(&mut self, client: usize, mut input: &[u8]) -> String {
        let pipeline = &mut self.pipelines[client];
        let mut heard = Vec::new();
        while !input.is_empty() {
            let round = futures_lite::future::block_on(pipeline.round(input));
            input = &input[round.consumed..];
            heard.extend(pipeline.output().take().concat());
        }
        String::from_utf8(heard).unwrap()
    }
}

#[test]
fn what_another_client_did_to_a_watched_key_is_seen_whatever_it_was() {
    for (before, deed) in [
        ("SET a 1", "SET a 1"),
        ("SET a 1", "DEL a"),
        ("SET a 1", "EXPIRE a 100"),
        ("SET a 1", "APPEND a x"),
        ("DEL a", "SET a 1"),
        ("DEL a", "MSET a 1 c 2"),
        ("SET c 1", "RENAME c a"),
    ] {
        let mut clients = Clients::new(2);
        clients.say(0, before);
        assert_eq!(clients.say(0, "WATCH a"), "+OK\r\n");
        clients.say(1, deed);
        assert_eq!(clients.say(0, "MULTI"), "+OK\r\n");
        assert_eq!(clients.say(0, "SET e 1"), "+QUEUED\r\n");
        assert_eq!(clients.say(0, "EXEC"), "*-1\r\n", "{before}, then {deed}");
        assert_eq!(clients.say(0, "EXISTS e"), ":0\r\n");
    }
    for (before, deed) in [
        ("SET a 1", "GET a"),
        ("SET a 1", "SET a 2 NX"),
        ("SET a 1", "INCRBY a x"),
        ("SET a 1", "PERSIST a"),
        ("DEL a", "DEL a"),
        ("DEL a", "SET c 1"),
        ("SETBIT a 0 1", "SETBIT a 0 1"),
    ] {
        let mut clients = Clients::new(2);
        clients.say(0, before);
        clients.say(0, "WATCH a");
        clients.say(1, deed);
        clients.say(0, "MULTI");
        clients.say(0, "SET e 1");
        assert_eq!(clients.say(0, "EXEC"), "*1\r\n+OK\r\n", "{before}, then {deed}");
    }
}

#[test]
fn a_watched_key_that_ends_keeps_the_transaction_from_running_unless_it_had_ended_before() {
    let mut clients = Clients::new(1);
    clients.say(0, "SET a 1 PX 100");
    clients.say(0, "WATCH a");
    clients.store.set_clock(1_700_000_001_000);
    assert_eq!(clients.say(0, "MULTI"), "+OK\r\n");
    assert_eq!(clients.say(0, "EXEC"), "*-1\r\n");
    clients.say(0, "WATCH a");
    assert_eq!(clients.say(0, "MULTI"), "+OK\r\n");
    assert_eq!(clients.say(0, "EXEC"), "*0\r\n");
}

#[test]
fn a_transaction_is_one_message_and_its_watch_sees_the_writes_before_it() {
    let store = MemoryStore::default();
    let input = b"SET a 1\r\nWATCH a\r\nMULTI\r\nINCR a\r\nGET a\r\nEXEC\r\nGET a\r\n".to_vec();
    let heard = talk(&store, [input]).answers();
    assert_eq!(
        String::from_utf8(heard).unwrap(),
        "+OK\r\n+OK\r\n+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n:2\r\n$1\r\n2\r\n$1\r\n2\r\n"
    );
    assert_eq!(store.batches(), [1, 1, 1, 1], "SET, WATCH, EXEC, GET");
}

#[test]
fn keys_of_several_shards_are_refused_and_nothing_is_done() {
    let heard = say(&["MULTI", "SET a 1", "SET b 2", "CLIENT SETNAME me", "EXEC"]);
    assert!(heard.contains("-CROSSSLOT Keys in request"), "{heard}");
    let store = MemoryStore::default();
    let lines = [
        "WATCH b\r\n",
        "MULTI\r\n",
        "SET a 1\r\n",
        "EXEC\r\n",
        "MGET a b\r\n",
        "EXEC\r\n",
    ];
    let heard = talk(&store, lines.map(|line| line.as_bytes().to_vec())).answers();
    let heard = String::from_utf8(heard).unwrap();
    assert!(heard.contains("-CROSSSLOT"), "{heard}");
    assert!(
        heard.ends_with("*2\r\n$-1\r\n$-1\r\n-ERR EXEC without MULTI\r\n"),
        "{heard}"
    );
}

#[test]
fn commands_that_walk_the_store_break_a_transaction() {
    for line in [
        "SCAN 0",
        "DBSIZE",
        "INFO",
        "HELLO 3",
        "KV.SCAN - +",
        "SHUTDOWN",
        "TIME",
        "KEYS *",
    ] {
        let name = line.split(' ').next().unwrap().to_lowercase();
        assert_eq!(
            say(&["MULTI", line, "SET a 1", "EXEC", "GET a"]),
            format!(
                "+OK\r\n-ERR '{name}' is not supported between MULTI and EXEC\r\n+QUEUED\r\n\
                 -EXECABORT Transaction discarded because of previous errors.\r\n$-1\r\n"
            )
        );
    }
    let unsupported = say(&["MULTI", "HSET a b c", "EXEC"]);
    assert!(unsupported.contains("-EXECABORT "), "{unsupported}");
}

#[test]
fn browsers_are_shown_the_door_inside_a_transaction_too() {
    assert_eq!(say(&["MULTI", "Host: localhost", "SET a 1"]), "+OK\r\n");
    assert_eq!(say(&["MULTI", "QUIT", "PING"]), "+OK\r\n+OK\r\n");
}

#[test]
fn a_transaction_has_bounds_in_commands_and_bytes() {
    let mut input = command(&[b"MULTI"]);
    input.extend(command(&[b"PING"]).repeat(crate::transaction::MAX_COMMANDS));
    let whole = [input.clone(), command(&[b"EXEC"])].concat();
    let heard = answers([whole]);
    assert!(heard.ends_with(b"+QUEUED\r\n*16384\r\n+PONG\r\n") || heard.ends_with(b"+PONG\r\n+PONG\r\n"));
    let beyond = [
        input,
        command(&[b"PING"]),
        command(&[b"PING"]),
        command(&[b"EXEC"]),
    ]
    .concat();
    let heard = String::from_utf8(answers([beyond])).unwrap();
    assert!(
        heard.ends_with(
            "+QUEUED\r\n-ERR a transaction has at most 16384 commands and 75497472 bytes\r\n+QUEUED\r\n\
             -EXECABORT Transaction discarded because of previous errors.\r\n"
        ),
        "{}",
        &heard[heard.len() - 200..]
    );
}

#[test]
fn what_a_transaction_holds_is_told_and_given_back() {
    let mut clients = Clients::new(1);
    clients.say(0, "WATCH a");
    assert!(clients.pipelines[0].held_bytes() > 0);
    clients.say(0, "MULTI");
    clients.send(0, &command(&[b"SET", b"a", &[b'x'; 100_000]]));
    assert!(clients.pipelines[0].held_bytes() > 100_000);
    clients.say(0, "EXEC");
    assert_eq!(clients.pipelines[0].held_bytes(), 0);
    for end in ["DISCARD", "RESET", "EXEC x"] {
        clients.say(0, "WATCH a");
        clients.say(0, "MULTI");
        clients.say(0, "SET a 1");
        clients.say(0, end);
        assert_eq!(clients.pipelines[0].held_bytes(), 0, "{end}");
    }
}

#[test]
fn a_transaction_that_would_answer_or_write_too_much_is_discarded_whole() {
    let mut clients = Clients::new(1);
    clients.say(0, "SETRANGE a 40000000 x");
    for line in ["MULTI", "SET c 1", "GET a", "GET a"] {
        clients.say(0, line);
    }
    let heard = clients.say(0, "EXEC");
    assert_eq!(
        heard,
        "-EXECABORT Transaction discarded because of: its answers take more than 67108864 bytes\r\n"
    );
    for line in ["MULTI", "SET c 1", "COPY a e", "COPY a g"] {
        clients.say(0, line);
    }
    let heard = clients.say(0, "EXEC");
    assert_eq!(
        heard,
        "-EXECABORT Transaction discarded because of: its changes take more than 75497472 bytes\r\n"
    );
    assert_eq!(clients.say(0, "EXISTS c e g"), ":0\r\n");
}

/// One `MGET` that named a key of 1 MiB 65,535 times made an answer of 64 GiB before its bound was looked at: any client that
/// may read could end the process with it.
#[test]
fn one_command_of_a_transaction_is_bounded_in_its_answer_while_it_makes_it() {
    let mut clients = Clients::new(1);
    clients.send(0, &command(&[b"SET", b"a", &vec![b'x'; 1 << 20]]));
    let mget = format!("MGET{}", " a".repeat(20_000));
    for line in ["MULTI", "SET c 1", &mget] {
        clients.say(0, line);
    }
    assert_eq!(
        clients.say(0, "EXEC"),
        "-EXECABORT Transaction discarded because of: its answers take more than 67108864 bytes\r\n"
    );
    assert_eq!(clients.say(0, "EXISTS c"), ":0\r\n");
    for line in ["MULTI", "MGET a a", "GET a"] {
        clients.say(0, line);
    }
    let heard = clients.say(0, "EXEC");
    assert!(heard.starts_with("*2\r\n*2\r\n$1048576\r\n"));
    assert_eq!(heard.matches("$1048576\r\n").count(), 3);
}

/// The answers of the connection's own commands had no bound: 16,384 times `COMMAND` between `MULTI` and `EXEC` took gigabytes,
/// and the core served nobody else meanwhile.
#[test]
fn commands_of_the_connection_are_not_run_once_the_answers_are_too_long() {
    let mut clients = Clients::new(1);
    clients.say(0, "MULTI");
    clients.say(0, "SET a 1");
    let between = crate::transaction::MAX_COMMANDS - 2;
    clients.send(0, &command(&[b"COMMAND"]).repeat(between));
    clients.say(0, "CLIENT SETNAME me");
    let heard = clients.say(0, "EXEC");
    let refused = "-ERR the answers of the transaction take too many bytes\r\n";
    assert!(heard.starts_with("*16384\r\n+OK\r\n*"), "the write stands");
    assert!(heard.ends_with(&refused.repeat(2)));
    assert!(
        heard.len() < crate::transaction::MAX_ANSWER_BYTES + (8 << 20),
        "{}",
        heard.len()
    );
    assert_eq!(clients.say(0, "CLIENT GETNAME"), "$-1\r\n", "it was not run");
    assert_eq!(clients.say(0, "GET a"), "$1\r\n1\r\n");
}

/// Only commands and bytes were bounded, so that a transaction could name millions of short keys, which the core sorted and
/// looked up in one step while everybody else waited.
#[test]
fn a_transaction_has_a_bound_in_keys() {
    let many = format!("EXISTS{}", " a".repeat(30_000));
    let few = format!("EXISTS{}", " a".repeat(5_536));
    let mut clients = Clients::new(1);
    for line in ["MULTI", &many, &many, &few] {
        clients.say(0, line);
    }
    assert_eq!(clients.say(0, "EXEC"), "*3\r\n:0\r\n:0\r\n:0\r\n");
    for line in ["MULTI", &many, &many, &few] {
        clients.say(0, line);
    }
    assert_eq!(
        clients.say(0, "GET a"),
        "-ERR the commands of a transaction name at most 65536 keys\r\n"
    );
    assert_eq!(
        clients.say(0, "EXEC"),
        "-EXECABORT Transaction discarded because of previous errors.\r\n"
    );
}

/// A `WATCH` compared each key with each before it looked at the limit, and each look at what a client holds walked all the
/// keys that it watches: one client could have a core count to billions.
#[test]
fn watched_keys_are_counted_once_each_and_their_bytes_told() {
    let most = crate::transaction::MAX_WATCHED;
    let many: String = (0..most).map(|n| format!(" a{n:05}")).collect();
    let mut clients = Clients::new(1);
    let input = format!("WATCH{}\r\n", " a".repeat(30_000));
    assert_eq!(
        clients.send(0, input.as_bytes()),
        "+OK\r\n",
        "one key, however often it is named"
    );
    let one = clients.pipelines[0].held_bytes();
    clients.say(0, "WATCH a");
    assert_eq!(clients.pipelines[0].held_bytes(), one);
    let keys: Vec<_> = many.split_whitespace().map(str::as_bytes).collect();
    let watch = |keys: &[&[u8]]| command(&[&[b"WATCH".as_slice()], keys].concat());
    assert_eq!(
        clients.send(0, &watch(&keys)),
        "-ERR a client watches at most 16384 keys\r\n"
    );
    assert_eq!(clients.pipelines[0].held_bytes(), one, "nothing was changed");
    assert_eq!(clients.send(0, &watch(&keys[1..])), "+OK\r\n");
    assert_eq!(clients.pipelines[0].held_bytes(), one * most + 5 * (most - 1));
    assert_eq!(clients.say(0, "UNWATCH"), "+OK\r\n");
    assert_eq!(clients.pipelines[0].held_bytes(), 0);
}
