//! The server on the simulator: its listeners, connections and commands over virtual sockets and a virtual disk.
//!
//! Each seed chooses a conversation, how its bytes are cut and when they arrive, how long every I/O takes and which
//! ready task runs. A map tells what each reply must be. Then either the database closes while clients are connected,
//! or the power fails in the middle; after a reopen everything acknowledged must be there.

mod common;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use common::{bulk, encode, reply_bytes};
use corelane::api::{Db, Durability, Options, launch};
use corelane::io::sim::{self, Rng, SimDisk, SimIo, SimMachine, SimStream};
use corelane::io::{Class, Io, Stream};
use corelane_server::server::{Server, Settings};
use corelane_server::service::RespService;

const SEEDS: u64 = 150;
const CORES: usize = 2;
const KEYS: u64 = 12;

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

/// Opens the database with the server on it, as the process does, and returns where it listens.
async fn start(machine: &SimMachine) -> (Db, SocketAddr) {
    start_with(machine, |_| {}).await
}

async fn start_with(machine: &SimMachine, change: impl FnOnce(&mut Options)) -> (Db, SocketAddr) {
    let mut options = corelane_testing::small(CORES, 3);
    change(&mut options);
    let settings = Settings {
        address: SocketAddr::from(([127, 0, 0, 1], 0)),
        data_dir: PathBuf::from("/db"),
        durability: Durability::Sync,
        max_clients: 10,
        cores: CORES,
    };
    let server = Arc::new(Server::new(settings, || {}));
    let (started, starts) = mpsc::channel();
    let service = RespService::new(Arc::clone(&server), started);
    let (db, seats) = launch(Path::new("/db"), options).expect("the options are valid");
    for (core, seat) in seats.into_iter().enumerate() {
        let io = machine.core(core);
        io.clone().spawn(Class::Foreground, seat.run(io, service.clone()));
    }
    db.ready().await.expect("the database opens");
    let mut listening = Vec::new();
    while listening.len() < CORES {
        listening.extend(
            starts
                .try_iter()
                .map(|started| started.expect("the cores listen")),
        );
        machine.core(0).sleep(Duration::from_millis(1)).await;
    }
    assert!(
        listening.iter().all(|address| *address == listening[0]),
        "one address for all cores"
    );
    (db, listening[0])
}

struct Client {
    stream: SimStream,
    io: SimIo,
    received: Vec<u8>,
}

impl Client {
    async fn connect(io: SimIo, address: SocketAddr) -> Self {
        let stream = io.connect(address).await.expect("the server listens");
        Self {
            stream,
            io,
            received: Vec::new(),
        }
    }

    /// Sends bytes in random pieces at random moments.
    async fn write(&self, mut bytes: &[u8], rng: &mut Rng) -> bool {
        while !bytes.is_empty() {
            let piece = usize::try_from(rng.between(1, bytes.len() as u64 + 1))
                .expect("small")
                .min(bytes.len());
            if self.stream.send(vec![bytes[..piece].to_vec()]).await.0.is_err() {
                return false;
            }
            bytes = &bytes[piece..];
            if rng.between(0, 2) == 0 {
                self.io.sleep(Duration::from_micros(rng.between(1, 300))).await;
            }
        }
        true
    }

    /// Sends a command and returns its reply.
    async fn ask(&mut self, command: &[&[u8]]) -> Vec<u8> {
        assert!(self.stream.send(vec![encode(command)]).await.0.is_ok());
        self.reply().await.expect("a reply")
    }

    async fn reply(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(bytes) = reply_bytes(&self.received) {
                return Some(self.received.drain(..bytes).collect());
            }
            let more = self.stream.recv().await.ok().filter(|more| !more.is_empty())?;
            self.received.extend_from_slice(&more);
        }
    }
}

fn key(rng: &mut Rng) -> Vec<u8> {
    format!("key:{}", rng.between(0, KEYS)).into_bytes()
}

/// A command, what it makes of the model, and the reply it must get.
fn next_command(rng: &mut Rng, model: &mut Model) -> (Vec<u8>, Vec<u8>) {
    let key = key(rng);
    let integer = |n: usize| format!(":{n}\r\n").into_bytes();
    match rng.between(0, 8) {
        0 => {
            let mut reply = b"*2\r\n".to_vec();
            for key in [&key, &b"key:0".to_vec()] {
                reply.extend(model.get(key).map_or(b"$-1\r\n".to_vec(), |value| bulk(value)));
            }
            (encode(&[b"MGET", &key, b"key:0"]), reply)
        }
        1 => (
            encode(&[b"DEL", &key]),
            integer(usize::from(model.remove(&key).is_some())),
        ),
        2 => {
            let value = model.get(&key).map_or(Some(0), |text| {
                std::str::from_utf8(text).ok()?.parse::<i64>().ok()
            });
            let reply = match value {
                Some(n) => {
                    model.insert(key.clone(), (n + 1).to_string().into_bytes());
                    format!(":{}\r\n", n + 1).into_bytes()
                }
                None => b"-ERR value is not an integer or out of range\r\n".to_vec(),
            };
            (encode(&[b"INCR", &key]), reply)
        }
        3 => (b"DBSIZE\r\n".to_vec(), integer(model.len())),
        4 => {
            let mut reply = format!("*{}\r\n", model.len() * 2).into_bytes();
            model
                .iter()
                .for_each(|(key, value)| reply.extend([bulk(key), bulk(value)].concat()));
            (b"KV.SCAN - +\r\n".to_vec(), reply)
        }
        5 => (
            encode(&[b"GET", &key]),
            model.get(&key).map_or(b"$-1\r\n".to_vec(), |value| bulk(value)),
        ),
        _ => {
            let mut value = rng.between(0, 100).to_string().into_bytes();
            if rng.between(0, 3) == 0 {
                value.resize(usize::try_from(rng.between(100, 6000)).expect("small"), b'.');
            }
            let command = encode(&[b"SET", &key, &value]);
            model.insert(key, value);
            (command, b"+OK\r\n".to_vec())
        }
    }
}

/// Pipelines of random commands; every reply is checked. `settled` follows what was acknowledged, `sent` what was sent.
async fn converse(
    client: &mut Client,
    rng: &mut Rng,
    settled: &RefCell<Model>,
    sent: &RefCell<Vec<Model>>,
) -> bool {
    for _ in 0..12 {
        let mut model = settled.borrow().clone();
        let (mut bytes, mut replies) = (Vec::new(), Vec::new());
        for _ in 0..rng.between(1, 20) {
            let (command, reply) = next_command(rng, &mut model);
            bytes.extend(command);
            replies.push((reply, model.clone()));
        }
        sent.replace(replies.iter().map(|(_, model)| model.clone()).collect());
        if !client.write(&bytes, rng).await {
            return false;
        }
        for (expected, model) in replies {
            let Some(reply) = client.reply().await else {
                return false;
            };
            assert_eq!(
                reply.escape_ascii().to_string(),
                expected.escape_ascii().to_string()
            );
            settled.replace(model);
        }
    }
    true
}

/// Length of a value of which some dozens do not fit in one round of answers.
const LONG_BYTES: usize = 900_000;

/// A command on one of a few keys with values of nearly a mebibyte, what it makes of the model, and its reply.
fn next_long_command(rng: &mut Rng, model: &mut Model) -> (Vec<u8>, Vec<u8>) {
    let key = format!("key:{}", rng.between(0, 40)).into_bytes();
    let shown = |value: Option<&Vec<u8>>| value.map_or(b"$-1\r\n".to_vec(), |value| bulk(value));
    let integer = |n: usize| format!(":{n}\r\n").into_bytes();
    let letter = u8::try_from(rng.between(0, 26)).expect("small") + b'a';
    match rng.between(0, 12) {
        0 => (encode(&[b"GETDEL", &key]), shown(model.remove(&key).as_ref())),
        // A short command that makes a long value, so that the whole pipeline arrives at once.
        1 | 2 => {
            let value = model.entry(key.clone()).or_default();
            value.resize(LONG_BYTES, 0);
            value[LONG_BYTES - 1] = letter;
            let last = (LONG_BYTES - 1).to_string();
            let command = encode(&[b"SETRANGE", &key, last.as_bytes(), &[letter]]);
            (command, integer(LONG_BYTES))
        }
        3 => {
            let command = encode(&[b"SET", &key, b"short"]);
            model.insert(key, b"short".to_vec());
            (command, b"+OK\r\n".to_vec())
        }
        4 => {
            let found = model.get(&key).map_or(0, Vec::len);
            (encode(&[b"STRLEN", &key]), integer(found))
        }
        5 => {
            let both = usize::from(model.contains_key(&key)) + usize::from(model.contains_key(&b"key:0"[..]));
            (encode(&[b"EXISTS", &key, b"key:0"]), integer(both))
        }
        6 => {
            let reply = [shown(model.get(&key)), shown(model.get(&b"key:0"[..]))].concat();
            let command = encode(&[b"MGET", &key, b"key:0"]);
            (command, [b"*2\r\n".to_vec(), reply].concat())
        }
        _ => (encode(&[b"GET", &key]), shown(model.get(&key))),
    }
}

/// The answers of a pipeline were all made before the first was sent. Now those that have no room are made later, and must
/// be those of their place in the pipeline all the same, on the device or in memory, on this core or another.
#[test]
fn answers_that_are_put_off_are_those_of_their_place_in_the_pipeline() {
    for seed in 0..6 {
        println!("seed {seed}");
        sim::run(seed, &SimDisk::new(), CORES, async |machine| {
            machine.set_step_limit(u64::MAX);
            let (db, address) = start_with(&machine, |options| {
                options.tuning.memtable_bytes = 4 << 20;
                options.tuning.segment_bytes = 4 << 20;
                options.tuning.staged_bytes = 4 << 20;
                options.tuning.table_bytes = 4 << 20;
            })
            .await;
            let mut client = Client::connect(machine.core(1), address).await;
            let (mut rng, mut model) = (Rng::new(seed), Model::new());
            let mut fill = Vec::new();
            for n in 0..40 {
                let (key, value) = (format!("key:{n}").into_bytes(), vec![b'0'; LONG_BYTES]);
                fill.extend(encode(&[b"SET", &key, &value]));
                model.insert(key, value);
            }
            assert!(client.stream.send(vec![fill]).await.0.is_ok());
            for _ in 0..40 {
                assert_eq!(client.reply().await.expect("a reply"), b"+OK\r\n");
            }
            db.flush().await.expect("there is room");
            for _ in 0..3 {
                let mut expected = Vec::new();
                let mut commands = Vec::new();
                for _ in 0..80 {
                    let (command, reply) = next_long_command(&mut rng, &mut model);
                    commands.extend(command);
                    expected.push(reply);
                }
                assert!(client.stream.send(vec![commands]).await.0.is_ok());
                for (place, expected) in expected.into_iter().enumerate() {
                    let reply = client.reply().await.expect("a reply");
                    let short = |bytes: &[u8]| bytes[..bytes.len().min(80)].escape_ascii().to_string();
                    assert!(
                        reply == expected,
                        "{place}: {} for {}",
                        short(&reply),
                        short(&expected)
                    );
                }
            }
            db.close().await.expect("a clean close");
        })
        .expect("the power stays on");
    }
}

/// Everything in the database, as a client sees it.
async fn everything(machine: &SimMachine, address: SocketAddr) -> Vec<u8> {
    let mut client = Client::connect(machine.core(1), address).await;
    assert!(
        client
            .stream
            .send(vec![b"KV.SCAN - +\r\n".to_vec()])
            .await
            .0
            .is_ok()
    );
    client.reply().await.expect("a reply")
}

fn shown(model: &Model) -> Vec<u8> {
    let mut reply = format!("*{}\r\n", model.len() * 2).into_bytes();
    model
        .iter()
        .for_each(|(key, value)| reply.extend([bulk(key), bulk(value)].concat()));
    reply
}

#[test]
fn conversations_are_answered_as_the_model_says_and_survive_a_close() {
    for seed in 0..SEEDS {
        println!("seed {seed}");
        let disk = SimDisk::new();
        let settled = RefCell::default();
        sim::run(seed, &disk, CORES, async |machine| {
            let (db, address) = start(&machine).await;
            let mut client = Client::connect(machine.core(1), address).await;
            let idle = Client::connect(machine.core(0), address).await;
            let mut rng = Rng::new(seed);
            assert!(
                converse(&mut client, &mut rng, &settled, &RefCell::default()).await,
                "nothing ends it"
            );
            db.close().await.expect("a clean close");
            assert!(
                idle.stream.recv().await.map_or(true, |bytes| bytes.is_empty()),
                "the server said goodbye"
            );
        })
        .expect("the power stays on");
        sim::run(seed + 1, &disk, CORES, async |machine| {
            let (db, address) = start(&machine).await;
            assert_eq!(everything(&machine, address).await, shown(&settled.borrow()));
            db.close().await.expect("a clean close");
        })
        .expect("the power stays on");
    }
}

#[test]
fn r1_what_the_server_acknowledged_outlives_a_power_cut() {
    let mut cuts = 0;
    for seed in 0..SEEDS {
        println!("seed {seed}");
        let disk = SimDisk::new();
        let (settled, sent) = (Rc::new(RefCell::default()), Rc::new(RefCell::default()));
        let (settled_inside, sent_inside) = (Rc::clone(&settled), Rc::clone(&sent));
        let ended = sim::run(seed, &disk, CORES, async move |machine| {
            let (db, address) = start(&machine).await;
            let mut client = Client::connect(machine.core(1), address).await;
            let mut rng = Rng::new(seed);
            machine.cut_power_after(rng.between(1, 150));
            converse(&mut client, &mut rng, &settled_inside, &sent_inside).await;
            db.close().await.expect("a clean close");
        });
        cuts += usize::from(ended.is_none());
        disk.crash(seed);
        sim::run(seed + 1, &disk, CORES, async |machine| {
            let (db, address) = start(&machine).await;
            let found = everything(&machine, address).await;
            // Keys of several shards: each shard may have kept more or less of what was not acknowledged, so only a
            // client with one command under way could expect one of the models whole. Key by key it must fit.
            let allowed = |key: &Vec<u8>| -> Vec<Option<Vec<u8>>> {
                let settled = std::iter::once(settled.borrow().get(key).cloned());
                settled
                    .chain(sent.borrow().iter().map(|model: &Model| model.get(key).cloned()))
                    .collect()
            };
            let mut client = Client::connect(machine.core(0), address).await;
            for n in 0..KEYS {
                let key = format!("key:{n}").into_bytes();
                assert!(client.stream.send(vec![encode(&[b"GET", &key])]).await.0.is_ok());
                let reply = client.reply().await.expect("a reply");
                let fits = allowed(&key)
                    .iter()
                    .any(|value| reply == value.as_ref().map_or(b"$-1\r\n".to_vec(), |value| bulk(value)));
                assert!(fits, "key {n} holds {}", reply.escape_ascii());
            }
            if ended.is_some() {
                assert_eq!(found, shown(&settled.borrow()));
            }
            db.close().await.expect("a clean close");
        })
        .expect("the power stays on");
    }
    assert!(cuts > 50, "only {cuts} conversations met the cut");
}

/// What was written with a time to live ended at once after a restart under a clock that had been set back: its end was
/// counted from the machine's clock, and whether it was over told by the shard's, which does not go back.
#[test]
fn r18_times_to_live_are_counted_from_the_clock_that_ends_them() {
    const DAY_MS: i64 = 24 * 60 * 60 * 1000;
    // Of all shards, so that some are of the core that the client is on, and others are not.
    let keys: Vec<Vec<u8>> = (0..KEYS).map(|n| format!("key:{n}").into_bytes()).collect();
    for seed in 0..8 {
        let disk = SimDisk::new();
        sim::run(seed, &disk, CORES, async |machine| {
            let (db, address) = start(&machine).await;
            let mut client = Client::connect(machine.core(0), address).await;
            for key in &keys {
                // Only a shard that has had values that end keeps the time.
                let reply = client.ask(&[b"SET", key, b"old", b"EX", b"1"]).await;
                assert_eq!(reply, b"+OK\r\n");
            }
            db.close().await.expect("a clean close");
            machine.jump_wall_clock(-DAY_MS);
        })
        .expect("the power stays on");
        sim::run(seed + 1, &disk, CORES, async |machine| {
            let (db, address) = start(&machine).await;
            for core in 0..CORES {
                let mut client = Client::connect(machine.core(core), address).await;
                for key in &keys {
                    for command in [
                        &[b"SET".as_slice(), key, b"new", b"EX", b"100"][..],
                        &[b"SETEX", key, b"100", b"new"],
                        &[b"PSETEX", key, b"100000", b"new"],
                        &[b"SET", key, b"new", b"EX", b"100", b"GET"],
                    ] {
                        let reply = client.ask(command).await;
                        assert!(!reply.starts_with(b"-"), "{}", reply.escape_ascii());
                        assert_eq!(client.ask(&[b"GET", key]).await, bulk(b"new"));
                        let left = client.ask(&[b"PTTL", key]).await;
                        let left: u64 = std::str::from_utf8(&left[1..left.len() - 2])
                            .expect("a number")
                            .parse()
                            .expect("it ends, and is there");
                        assert!((90_000..=100_000).contains(&left), "{left} ms");
                    }
                }
            }
            db.close().await.expect("a clean close");
        })
        .expect("the power stays on");
    }
}

/// Connects again and again until `end`, says something each time, and hears what is answered to it. How many heard an answer.
async fn anew(io: SimIo, address: SocketAddr, says: &[u8], end: Duration) -> usize {
    let mut heard = 0;
    while io.now() < end {
        let Ok(stream) = io.connect(address).await else {
            io.sleep(Duration::from_millis(1)).await;
            continue;
        };
        // One that is turned away may be gone before it has said anything.
        let _gone = stream.send(vec![says.to_vec()]).await;
        heard += usize::from(stream.recv().await.is_ok_and(|answer| !answer.is_empty()));
    }
    heard
}

/// Who connected anew for each thing that the server refuses was taken as fast as he came, and had half of the core.
#[test]
fn who_is_refused_again_and_again_is_taken_at_a_bounded_rate_and_who_is_served_is_not() {
    const CLIENTS: usize = 6;
    let heard_in_1_s = |says: &'static [u8]| {
        let heard = Rc::new(RefCell::new(0));
        let sum = Rc::clone(&heard);
        sim::run(7, &SimDisk::new(), CORES, async move |machine| {
            let (db, address) = start(&machine).await;
            let end = machine.core(0).now() + Duration::from_secs(1);
            let crowd = (0..CLIENTS).map(|number| anew(machine.core(number % CORES), address, says, end));
            *sum.borrow_mut() = futures_util::future::join_all(crowd).await.iter().sum();
            db.close().await.expect("a clean close");
        })
        .expect("the power stays on");
        heard.take()
    };
    let refused: usize = heard_in_1_s(b"*1048577\r\n");
    let served = heard_in_1_s(b"PING\r\n");
    // On each core a thousand, and as many a second, go unnoticed; then it is 4,000 a second.
    assert!(refused < CORES * (4_000 + 1_500), "{refused}");
    assert!(served > refused + refused / 2, "{served} and {refused}");
}
