//! Commands on keys over the real engine: ends that outlive the process, transactions that happen whole or not at all.

#![expect(
    clippy::disallowed_methods,
    reason = "a test waits for the clock of the process under test"
)]

mod common;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::{Client, Server};

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    u64::try_from(now.as_millis()).expect("before the year 500,000,000")
}

#[test]
fn strings_keys_and_ends_over_the_real_engine() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &["--shards", "4"]);
    let mut client = server.client();
    for (said, heard) in [
        ("APPEND {t}a Hello", ":5\r\n"),
        ("SETRANGE {t}a 8 World", ":13\r\n"),
        ("GETRANGE {t}a 8 -1", "$5\r\nWorld\r\n"),
        ("STRLEN {t}a", ":13\r\n"),
        ("SETBIT {t}a 0 1", ":0\r\n"),
        ("BITCOUNT {t}a 0 0", ":3\r\n"),
        ("BITPOS {t}a 1", ":0\r\n"),
        ("INCRBYFLOAT {t}f 0.1", "$3\r\n0.1\r\n"),
        ("INCRBYFLOAT {t}f 0.2", "$3\r\n0.3\r\n"),
        ("EXPIRE {t}f 100", ":1\r\n"),
        ("TTL {t}f", ":100\r\n"),
        ("RENAME {t}f {t}g", "+OK\r\n"),
        ("TTL {t}g", ":100\r\n"),
        ("COPY {t}g {t}h", ":1\r\n"),
        ("PERSIST {t}h", ":1\r\n"),
        ("TTL {t}h", ":-1\r\n"),
        ("GETEX {t}h PXAT 1", "$3\r\n0.3\r\n"),
        ("EXISTS {t}h", ":0\r\n"),
        ("MSETNX {t}h 1 {t}g 2", ":0\r\n"),
        ("MSETNX {t}h 1 {t}i 2", ":1\r\n"),
        ("TYPE {t}i", "+string\r\n"),
        ("UNLINK {t}i a b c d e f", ":1\r\n"),
        ("SET x 1 EX 100", "+OK\r\n"),
        ("GETSET x 2", "$1\r\n1\r\n"),
        ("TTL x", ":-1\r\n"),
        ("GETDEL x", "$1\r\n2\r\n"),
    ] {
        assert_eq!(client.say(said), heard, "{said}");
    }
    assert!(
        client
            .say("MSETNX a 1 b 1 c 1 d 1 e 1 f 1")
            .starts_with("-CROSSSLOT ")
    );
    server.stop();
}

#[test]
fn an_end_outlives_the_process_and_so_does_what_has_ended() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let mut client = server.client();
    let soon_ms = now_ms() + 300;
    assert_eq!(client.say(&format!("SET soon 1 PXAT {soon_ms}")), "+OK\r\n");
    assert_eq!(client.say("SET later 1 PXAT 4000000000000"), "+OK\r\n");
    assert_eq!(client.say("SET never 1"), "+OK\r\n");
    assert_eq!(client.say("EXPIRE never 1000"), ":1\r\n");
    assert_eq!(client.say("PERSIST never"), ":1\r\n");
    server.kill();
    let server = Server::start(dir.path(), &[]);
    let mut client = server.client();
    while now_ms() <= soon_ms {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(
        client.say("MGET soon later never"),
        "*3\r\n$-1\r\n$1\r\n1\r\n$1\r\n1\r\n"
    );
    assert_eq!(client.say("PEXPIRETIME soon"), ":-2\r\n");
    assert_eq!(client.say("PEXPIRETIME later"), ":4000000000000\r\n");
    assert_eq!(client.say("PEXPIRETIME never"), ":-1\r\n");
    assert_eq!(client.say("SET soon 2 NX"), "+OK\r\n");
    server.stop();
}

/// Says the lines at once and returns the last reply; `None` when the server is gone.
fn transact(client: &mut Client, lines: &[&str]) -> Option<Vec<u8>> {
    let input: Vec<u8> = lines
        .iter()
        .flat_map(|line| format!("{line}\r\n").into_bytes())
        .collect();
    if !client.try_write(&input) {
        return None;
    }
    let mut last = None;
    for _ in lines {
        last = Some(client.try_reply()?);
    }
    last
}

fn pair_of(client: &mut Client) -> (u64, u64) {
    let reply = client.call(&[b"MGET", b"{t}a", b"{t}b"]);
    let text = String::from_utf8(reply).expect("numbers are text");
    let numbers: Vec<u64> = text
        .split("\r\n")
        .filter(|line| !line.starts_with(['*', '$']) && !line.is_empty())
        .map(|line| line.parse().expect("a number"))
        .collect();
    assert_eq!(numbers.len(), 2, "{text}");
    (numbers[0], numbers[1])
}

#[test]
fn a_transaction_happens_whole_or_not_at_all_whoever_looks_and_whatever_dies() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    assert_eq!(server.client().say("MSET {t}a 0 {t}b 0"), "+OK\r\n");
    let counters = (AtomicU64::new(0), AtomicBool::new(false));
    let (answered, ended) = (&counters.0, &counters.1);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let mut client = server.client();
            scope.spawn(move || {
                let lines = ["MULTI", "INCR {t}a", "PING", "INCR {t}b", "EXEC"];
                while let Some(reply) = transact(&mut client, &lines) {
                    assert!(reply.starts_with(b"*3\r\n:"), "{}", reply.escape_ascii());
                    answered.fetch_add(1, Ordering::Relaxed);
                }
                ended.store(true, Ordering::Relaxed);
            });
        }
        let mut reader = server.client();
        let lines = ["MULTI", "GET {t}a", "GET {t}b", "EXEC"];
        while answered.load(Ordering::Relaxed) < 200 {
            assert!(!ended.load(Ordering::Relaxed), "nobody has killed it yet");
            let reply = transact(&mut reader, &lines).expect("it lives");
            let parts: Vec<&[u8]> = reply.split(|&byte| byte == b'\n').collect();
            assert_eq!(parts[2], parts[4], "{}", reply.escape_ascii());
        }
        server.signal("KILL");
    });
    drop(server);
    let server = Server::start(dir.path(), &[]);
    let (a, b) = pair_of(&mut server.client());
    assert_eq!(a, b, "a crash leaves no half of a transaction");
    let answered = answered.load(Ordering::Relaxed);
    assert!(a >= answered && a <= answered + 4, "{a} after {answered} answers");
    server.stop();
}

#[test]
fn watch_makes_a_lock_free_counter_of_many_clients_exact() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let mut client = server.client();
            scope.spawn(move || {
                let mut done = 0;
                while done < 20 {
                    assert_eq!(client.say("WATCH n"), "+OK\r\n");
                    let now = client.say("GET n");
                    let now: u64 = now.split("\r\n").nth(1).and_then(|n| n.parse().ok()).unwrap_or(0);
                    assert_eq!(client.say("MULTI"), "+OK\r\n");
                    assert_eq!(client.say(&format!("SET n {}", now + 1)), "+QUEUED\r\n");
                    match client.say("EXEC").as_str() {
                        "*1\r\n+OK\r\n" => done += 1,
                        "*-1\r\n" => {}
                        other => panic!("{other}"),
                    }
                }
            });
        }
    });
    assert_eq!(server.client().say("GET n"), "$2\r\n80\r\n");
    server.stop();
}
