//! The same programs against Redis and against this server: every reply must be the same, byte for byte, but for the
//! differences that `compare` lists.
//!
//! A seed makes a program: commands on few keys with few values and many edge numbers, wrong options and wrong numbers of
//! arguments among them, spread over two connections, in RESP2 or RESP3. Both servers run it in lock step, each command on
//! both before the next. A program that finds a difference is cut behind it, then every command is left out that the
//! difference does not need, and what remains is printed.
//!
//! Needs `redis-server` 7; without it the test says so and passes, unless `CORELANE_REQUIRE_REDIS` is set.
//! `CORELANE_SEED` runs one seed, `CORELANE_PROGRAMS` another number of them.

#[path = "../common/mod.rs"]
mod common;
mod compare;
mod peers;
mod programs;

use std::collections::BTreeSet;

use common::Server;
use peers::{Peer, Redis};
use programs::{Program, Shape};

/// Programs of one test.
const PROGRAMS: u64 = 300;

/// Runs that shrinking a program may take.
const SHRINKING: usize = 400;

/// What both said to the last command, where it differs.
struct Difference {
    /// The command's place in the program.
    at: usize,
    ours: Vec<u8>,
    theirs: Vec<u8>,
}

struct Pair<'a> {
    ours: &'a Server,
    theirs: &'a Redis,
}

impl Pair<'_> {
    /// Runs a program on both, from empty databases, until they differ.
    fn run(&self, program: &Program) -> Option<Difference> {
        let connect = || -> Vec<(Peer, Peer)> {
            let both = |_| (Peer::tcp(self.ours.address), self.theirs.client());
            (0..programs::CONNECTIONS).map(both).collect()
        };
        let mut connections = connect();
        for (ours, theirs) in &mut connections {
            for arguments in [["FLUSHALL", ""], ["HELLO", program.protocol]] {
                let arguments: Vec<&[u8]> = arguments
                    .iter()
                    .filter(|text| !text.is_empty())
                    .map(|text| text.as_bytes())
                    .collect();
                ours.call(&arguments);
                theirs.call(&arguments);
            }
        }
        for (at, step) in program.steps.iter().enumerate() {
            let (ours, theirs) = &mut connections[step.connection];
            let arguments: Vec<&[u8]> = step.arguments.iter().map(Vec::as_slice).collect();
            let (our_reply, their_reply) = (ours.call(&arguments), theirs.call(&arguments));
            if compare::parts(&our_reply) {
                return None;
            }
            let same = compare::same(
                &arguments,
                (&our_reply, |more| ours.call(more)),
                (&their_reply, |more| theirs.call(more)),
            );
            if !same {
                return Some(Difference {
                    at,
                    ours: our_reply,
                    theirs: their_reply,
                });
            }
        }
        None
    }

    /// The shortest program found that still differs, and how.
    fn shrink(&self, mut program: Program, mut difference: Difference) -> (Program, Difference) {
        program.steps.truncate(difference.at + 1);
        let (mut at, mut runs) = (program.steps.len() - 1, 0);
        while at > 0 && runs < SHRINKING {
            at -= 1;
            runs += 1;
            let mut shorter = program.clone();
            shorter.steps.remove(at);
            if let Some(still) = self.run(&shorter) {
                shorter.steps.truncate(still.at + 1);
                at = at.min(shorter.steps.len() - 1);
                (program, difference) = (shorter, still);
            }
        }
        (program, difference)
    }
}

/// The names of the commands that the server knows.
fn known(server: &Server) -> BTreeSet<String> {
    let reply = Peer::tcp(server.address).call(&[b"COMMAND", b"LIST"]);
    let text = String::from_utf8(reply).expect("names are text");
    let names = text.split("\r\n").filter(|part| !part.starts_with(['*', '$']));
    names
        .filter(|name| !name.is_empty())
        .map(str::to_uppercase)
        .collect()
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|text| text.parse().expect("a seed or a number of programs is a number"))
}

fn compare_with_redis(shape: Shape, flags: &[&str]) {
    let Some(redis) = Redis::start() else {
        assert!(
            std::env::var_os("CORELANE_REQUIRE_REDIS").is_none(),
            "redis-server is not installed"
        );
        eprintln!("skipped: redis-server 7 is not installed");
        return;
    };
    let dir = tempfile::tempdir().expect("a directory for the test");
    let server = Server::start(&dir.path().join("data"), flags);
    let missing = programs::missing(&known(&server));
    assert!(missing.is_empty(), "not there: {}", missing.join(" "));
    let pair = Pair {
        ours: &server,
        theirs: &redis,
    };
    let first = number("CORELANE_SEED");
    let count = number("CORELANE_PROGRAMS").unwrap_or(if first.is_some() { 1 } else { PROGRAMS });
    let (mut found, mut told) = (Vec::new(), BTreeSet::new());
    for seed in (first.unwrap_or(0)..).take(usize::try_from(count).expect("a number of programs")) {
        let program = programs::program(seed, shape);
        if let Some(difference) = pair.run(&program) {
            let (program, difference) = pair.shrink(program, difference);
            let last = program.steps.last().expect("a difference is behind a command");
            // One difference is told once, however many programs meet it.
            if !told.insert((last.arguments[0].to_ascii_lowercase(), difference.ours.clone())) {
                continue;
            }
            found.push(format!(
                "seed {seed}, HELLO {}:\n{program}  redis:    {}\n  corelane: {}\n",
                program.protocol,
                difference.theirs.escape_ascii(),
                difference.ours.escape_ascii()
            ));
            if found.len() >= 12 {
                break;
            }
        }
    }
    assert!(
        found.is_empty(),
        "{} programs differ:\n{}",
        found.len(),
        found.join("\n")
    );
    server.stop();
}

#[test]
fn one_shard_answers_as_redis_does() {
    compare_with_redis(
        Shape::AnyKeys,
        &["--shards", "1", "--cores", "0", "--durability", "none"],
    );
}

#[test]
fn two_shards_answer_as_redis_does_where_keys_share_a_tag() {
    compare_with_redis(Shape::TaggedKeys, &["--shards", "2", "--durability", "none"]);
}
