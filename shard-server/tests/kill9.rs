//! `kill -9` under load, thirty times over one database: whatever was acknowledged is there after each restart, and
//! nothing is there that was never written.
//!
//! Several connections write at once, each to keys of its own, in pipelines of random length, and note what they sent
//! and what was acknowledged. At a random moment the server is killed. After the restart each key must hold its last
//! acknowledged value or one that was sent after it and not acknowledged: either is right, and whichever is found must
//! stay. Pairs written by one `MSET` must agree; a counter that all share must lie between the increments acknowledged
//! and those sent.
//!
//! `CORELANE_SEED` replays the choices of a run; the moment of the kill within the work is the machine's.

mod common;

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use common::{Client, Server, encode};

const ROUNDS: usize = 30;
const CONNECTIONS: u64 = 4;
const KEYS: u64 = 150;
/// Small, so that flushes and merges are under way when the kill comes.
const FLAGS: &[&str] = &["--memtable-mib", "1", "--shards", "3"];

/// SplitMix64 (Steele, Lea, Flood 2014): enough for choices, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// A key's value, `None` for absent.
type Value = Option<Vec<u8>>;

/// What a key may hold: its last acknowledged value first, then those sent since.
type History = BTreeMap<Vec<u8>, Vec<Value>>;

/// What one connection knows.
#[derive(Default)]
struct Ledger {
    histories: History,
    increments_acknowledged: i64,
    increments_sent: i64,
    acknowledged: u64,
}

/// What one command will have done.
enum Effect {
    Writes(Vec<(Vec<u8>, Value)>),
    Increment,
}

fn next_command(connection: u64, random: &mut Random) -> (Vec<u8>, Effect) {
    let key = format!("c{connection}:{}", random.below(KEYS)).into_bytes();
    let mut value = random.next().to_string().into_bytes();
    value.resize(
        value.len() + usize::try_from(random.below(2000)).expect("small"),
        b'.',
    );
    match random.below(10) {
        0 => (encode(&[b"DEL", &key]), Effect::Writes(vec![(key, None)])),
        1 => (encode(&[b"INCR", b"shared"]), Effect::Increment),
        2 => {
            let pair = format!("{{c{connection}:{}}}", random.below(KEYS)).into_bytes();
            let (left, right) = ([&pair[..], b"left"].concat(), [&pair[..], b"right"].concat());
            let bytes = encode(&[b"MSET", &left, &value, &right, &value]);
            (
                bytes,
                Effect::Writes(vec![(left, Some(value.clone())), (right, Some(value))]),
            )
        }
        _ => (
            encode(&[b"SET", &key, &value]),
            Effect::Writes(vec![(key, Some(value))]),
        ),
    }
}

/// Writes until the server is gone.
fn load(address: SocketAddr, connection: u64, mut random: Random, ledger: &mut Ledger) {
    let mut client = Client::connect(address);
    loop {
        let commands: Vec<_> = (0..=random.below(16))
            .map(|_| next_command(connection, &mut random))
            .collect();
        let mut bytes = Vec::new();
        for (encoded, effect) in &commands {
            bytes.extend_from_slice(encoded);
            match effect {
                Effect::Increment => ledger.increments_sent += 1,
                Effect::Writes(writes) => {
                    for (key, value) in writes {
                        ledger
                            .histories
                            .entry(key.clone())
                            .or_insert_with(|| vec![None])
                            .push(value.clone());
                    }
                }
            }
        }
        if !client.try_write(&bytes) {
            return;
        }
        for (_, effect) in commands {
            let Some(reply) = client.try_reply() else { return };
            assert!(
                !reply.starts_with(b"-"),
                "a write was refused: {}",
                reply.escape_ascii()
            );
            ledger.acknowledged += 1;
            match effect {
                Effect::Increment => ledger.increments_acknowledged += 1,
                Effect::Writes(writes) => {
                    for (key, _) in writes {
                        // One more of the values sent is acknowledged, in the order of sending.
                        ledger.histories.get_mut(&key).expect("it was sent").remove(0);
                    }
                }
            }
        }
    }
}

/// Everything that is in the database, in key order.
fn everything(client: &mut Client) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let reply = client.call(&[b"KV.SCAN", b"-", b"+"]);
    let mut rest = reply.as_slice();
    let line = |rest: &mut &[u8]| {
        let end = rest.iter().position(|&byte| byte == b'\n').expect("a line");
        let number: usize = std::str::from_utf8(&rest[1..end - 1])
            .expect("a number")
            .parse()
            .expect("a number");
        *rest = &rest[end + 1..];
        number
    };
    let pairs = line(&mut rest) / 2;
    let mut bulk = || {
        let length = line(&mut rest);
        let bytes = rest[..length].to_vec();
        rest = &rest[length + 2..];
        bytes
    };
    (0..pairs).map(|_| (bulk(), bulk())).collect()
}

/// Compares what is there with what may be, and settles every doubt by what was found.
fn check(server: &Server, histories: &mut History, counter: &mut (i64, i64)) {
    let mut client = server.client();
    let mut found = everything(&mut client);
    let count = client.say("DBSIZE");
    assert_eq!(
        count,
        format!(":{}\r\n", found.len()),
        "the count agrees with the scan"
    );
    let shared = found.remove(b"shared".as_slice()).map_or(0, |text| {
        String::from_utf8_lossy(&text).parse().expect("a number")
    });
    assert!(
        (counter.0..=counter.1).contains(&shared),
        "the counter is {shared}, not within {counter:?}"
    );
    *counter = (shared, shared);
    for (key, allowed) in histories.iter_mut() {
        let value = found.remove(key);
        let name = key.escape_ascii();
        if !allowed.contains(&value) {
            let shown = |value: &Value| {
                value
                    .as_ref()
                    .map(|v| v[..v.len().min(24)].escape_ascii().to_string())
            };
            let allowed: Vec<_> = allowed.iter().map(shown).collect();
            panic!("{name} holds {:?}, which is none of {allowed:?}", shown(&value));
        }
        let again = client.call(&[b"GET", key]);
        let expected = value
            .as_ref()
            .map_or(b"$-1\r\n".to_vec(), |value| common::bulk(value));
        assert!(again == expected, "{name}: a lookup and a scan disagree");
        *allowed = vec![value];
    }
    assert!(
        found.is_empty(),
        "nobody wrote {:?}",
        found
            .keys()
            .map(|k| k.escape_ascii().to_string())
            .collect::<Vec<_>>()
    );
    for (key, value) in histories.iter() {
        if let Some(pair) = key.strip_suffix(b"left") {
            let right = [pair, b"right"].concat();
            assert!(
                histories.get(&right) == Some(value),
                "half of a pair: {}",
                key.escape_ascii()
            );
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the moment of a kill is a matter of real time"
)]
fn pause(duration: Duration) {
    std::thread::sleep(duration);
}

/// Loads the server until it is killed, a random moment from now; returns what each connection knows.
fn load_and_kill(server: Server, random: &mut Random, ledgers: &mut [Ledger]) {
    let address = server.address;
    let moment = Duration::from_millis(30 + random.below(270));
    let seeds: Vec<u64> = ledgers.iter().map(|_| random.next()).collect();
    std::thread::scope(|scope| {
        for ((connection, seed), ledger) in (0..CONNECTIONS).zip(seeds).zip(ledgers.iter_mut()) {
            scope.spawn(move || load(address, connection, Random(seed), ledger));
        }
        pause(moment);
        server.kill();
    });
}

fn run(data: &Path, random: &mut Random) {
    let mut histories = History::new();
    let mut counter = (0, 0);
    let mut acknowledged = 0;
    for round in 0..ROUNDS {
        let server = Server::start(data, FLAGS);
        check(&server, &mut histories, &mut counter);
        let mut ledgers: Vec<Ledger> = (0..CONNECTIONS).map(|_| Ledger::default()).collect();
        for (key, values) in std::mem::take(&mut histories) {
            let owner = (0..CONNECTIONS).find(|n| {
                key.starts_with(format!("c{n}:").as_bytes()) || key.starts_with(format!("{{c{n}:").as_bytes())
            });
            ledgers[usize::try_from(owner.expect("every key has its owner")).expect("small")]
                .histories
                .insert(key, values);
        }
        load_and_kill(server, random, &mut ledgers);
        for ledger in ledgers {
            histories.extend(ledger.histories);
            counter.0 += ledger.increments_acknowledged;
            counter.1 += ledger.increments_sent;
            acknowledged += ledger.acknowledged;
        }
        assert!(acknowledged > 0, "round {round}: the load reached the server");
    }
    let server = Server::start(data, FLAGS);
    check(&server, &mut histories, &mut counter);
    server.stop();
    println!(
        "{ROUNDS} kills, {acknowledged} acknowledged commands, {} keys",
        histories.len()
    );
}

#[test]
fn thirty_kills_under_load_lose_nothing_acknowledged_and_invent_nothing() {
    let seed = match std::env::var("CORELANE_SEED") {
        Ok(text) => text.parse().expect("CORELANE_SEED is a number"),
        Err(_) => RandomState::new().hash_one(ROUNDS),
    };
    println!("seed {seed}: replay with CORELANE_SEED={seed}");
    let dir = tempfile::tempdir().unwrap();
    run(&dir.path().join("data"), &mut Random(seed));
}
