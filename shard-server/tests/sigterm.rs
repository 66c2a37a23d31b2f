//! SIGTERM while clients write: the server ends within a bound and with status 0, nothing that it acknowledged is lost,
//! and the next start has nothing to replay.

mod common;

use std::collections::BTreeMap;
use std::process::{Command, ExitStatus};
use std::sync::mpsc;
use std::time::Duration;

use common::{Client, Server, bulk, encode};

/// An end later than this is taken for a hang. systemd waits for 90 s before it kills.
const BOUND: Duration = Duration::from_secs(60);

const WRITERS: u32 = 4;
/// Commands that each writer sends before it reads their answers.
const PIPELINE: u32 = 16;
/// Keys of each writer, more than a pipeline has.
const KEYS: u32 = 1000;

#[expect(
    clippy::disallowed_methods,
    reason = "the moment of a signal is a matter of real time"
)]
fn pause(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

fn key(writer: u32, number: u32) -> String {
    format!("{writer}:{}", number % KEYS)
}

/// Writes rising numbers to keys of its own until the server says goodbye; returns what was acknowledged last.
fn write_to_the_end(mut client: Client, writer: u32) -> BTreeMap<String, u32> {
    let mut acknowledged = BTreeMap::new();
    let mut first = 0;
    loop {
        let numbers = first..first + PIPELINE;
        let bytes: Vec<_> = numbers
            .clone()
            .flat_map(|n| encode(&[b"SET", key(writer, n).as_bytes(), n.to_string().as_bytes()]))
            .collect();
        if !client.try_write(&bytes) {
            return acknowledged;
        }
        for n in numbers {
            match client.try_reply() {
                Some(reply) if reply == b"+OK\r\n" => drop(acknowledged.insert(key(writer, n), n)),
                Some(reply) => panic!("a server that drains refuses nothing: {}", reply.escape_ascii()),
                None => return acknowledged,
            }
        }
        first += PIPELINE;
    }
}

/// Ends the server by SIGTERM, and at the bound by SIGKILL; tells how it ended and what it said.
fn end(server: Server) -> (ExitStatus, String) {
    let pid = server.pid().to_string();
    server.signal("TERM");
    let (ended, end) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            if end.recv_timeout(BOUND) == Err(mpsc::RecvTimeoutError::Timeout) {
                let _killed = Command::new("kill").args(["-KILL", &pid]).status();
            }
        });
        let status = server.wait();
        drop(ended);
        status
    })
}

/// A figure of `INFO persistence`.
fn figure(client: &mut Client, name: &str) -> u64 {
    let info = client.say("INFO persistence");
    let line = info
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("{name} is not in {info}"))
        .parse()
        .expect("a number")
}

/// A server stopped cleanly replayed its whole log at the next start: memtables were left to the log at every close.
#[test]
fn sigterm_under_load_loses_nothing_and_the_next_start_replays_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Server::start(&data, &["--shards", "2"]);
    let address = server.address;
    let acknowledged: BTreeMap<_, _> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| scope.spawn(move || write_to_the_end(Client::connect(address), writer)))
            .collect();
        pause(500);
        let (status, said) = end(server);
        assert!(
            status.code() == Some(0) && said.ends_with("closed\n"),
            "{status}: {said}"
        );
        writers
            .into_iter()
            .flat_map(|writer| writer.join().unwrap())
            .collect()
    });
    assert!(
        acknowledged.len() >= usize::try_from(WRITERS * PIPELINE).unwrap(),
        "the load reached the server: {}",
        acknowledged.len()
    );

    let server = Server::start(&data, &["--shards", "2"]);
    let mut client = server.client();
    assert_eq!(figure(&mut client, "replayed_batches"), 0);
    assert_eq!(figure(&mut client, "torn_tail_bytes"), 0);
    assert!(
        figure(&mut client, "tables") > 0,
        "what was in memory went into tables"
    );
    for (key, number) in &acknowledged {
        let found = client.call(&[b"GET", key.as_bytes()]);
        // One more round of the keys may have been under way.
        let allowed = [number.to_string(), (number + KEYS).to_string()];
        assert!(
            allowed.iter().any(|value| found == bulk(value.as_bytes())),
            "{key}: {allowed:?} is wanted, found {}",
            found.escape_ascii()
        );
    }

    // The figure tells of a replay where there is one.
    assert_eq!(client.say("SET late 1"), "+OK\r\n");
    server.kill();
    let server = Server::start(&data, &["--shards", "2"]);
    let mut client = server.client();
    assert_eq!(figure(&mut client, "replayed_batches"), 1);
    assert_eq!(client.say("GET late"), "$1\r\n1\r\n");
    server.stop();
}
