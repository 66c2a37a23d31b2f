//! When a device fails a shard, everything that tells of it tells the same: `/health`, `/metrics`, the answers to Redis
//! clients and the statuses of REST. Reads go on, and so does what does not need that device.
//!
//! Both troubles are real ones: a filesystem that runs full and gets its space back, and one that the kernel makes
//! read-only over an error. They take root to set up; where it is not allowed a test says so and passes.

mod common;
#[path = "common/mounted.rs"]
mod mounted;

use std::path::Path;
use std::time::Duration;

use common::{Client, Server, command};
use mounted::{Mounted, run, text};
use serde_json::Value;
use ureq::Agent;

const PATIENCE: Duration = Duration::from_secs(30);

/// Looks, [`LOOK_AGAIN`] apart, after which something that should happen by itself is taken never to happen.
const LOOKS: usize = 600;
const LOOK_AGAIN: Duration = Duration::from_millis(100);

#[expect(clippy::disallowed_methods, reason = "a test on threads")]
fn pause() {
    std::thread::sleep(LOOK_AGAIN);
}

/// A server with its admin plane, and both ways to talk to it.
struct House {
    server: Server,
    admin: String,
    agent: Agent,
    client: Client,
}

/// What the admin plane answered.
struct Answer {
    status: u16,
    content_type: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// Holds it against a problem of that status and word.
    fn is_problem(&self, status: u16, word: &str) {
        let told = (self.status, self.content_type.as_str(), self.json());
        assert_eq!(
            (told.0, told.1),
            (status, "application/problem+json"),
            "{}",
            self.body
        );
        assert_eq!(told.2["type"], format!("about:corelane#{word}"), "{}", self.body);
        assert_eq!(told.2["status"], status, "{}", self.body);
    }
}

impl House {
    fn start(data: &Path, flags: &[&str]) -> Self {
        let mut command = command(data, &[&["--admin-port", "0"], flags].concat());
        // All requests of these tests come from one peer.
        command.env("CORELANE_ADMIN__RATE_PER_S", "0");
        let mut server = Server::spawn(command);
        let admin = server.told("admin       ");
        let agent: Agent = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE))
            .build()
            .into();
        let client = server.client();
        Self {
            server,
            admin,
            agent,
            client,
        }
    }

    fn answer(response: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Answer {
        let mut response = response.expect("an answer");
        let content_type = response.headers().get("content-type");
        Answer {
            status: response.status().as_u16(),
            content_type: content_type
                .map_or(String::new(), |value| value.to_str().expect("ASCII").to_owned()),
            body: response.body_mut().read_to_string().expect("text"),
        }
    }

    fn get(&self, path: &str) -> Answer {
        Self::answer(self.agent.get(format!("{}{path}", self.admin)).call())
    }

    fn put(&self, key: &str, value: &str) -> Answer {
        let url = format!("{}/api/v1/kv/{key}", self.admin);
        Self::answer(self.agent.put(url).send(value))
    }

    /// `SET` over the Redis protocol.
    fn set(&mut self, key: &str, value: &[u8]) -> String {
        let reply = self.client.call(&[b"SET", key.as_bytes(), value]);
        String::from_utf8_lossy(&reply).into_owned()
    }

    /// The state that `/health` tells, and those of its checks that are not as they should be; the status must fit it.
    fn health(&self) -> (String, Vec<(String, String)>) {
        let answer = self.get("/health");
        let body = answer.json();
        let state = body["state"].as_str().expect("a state").to_owned();
        assert_eq!(
            answer.status,
            if state == "unhealthy" { 503 } else { 200 },
            "{body}"
        );
        let checks = body["checks"].as_array().expect("checks").iter();
        let bad = checks.filter(|check| check["state"] != "healthy");
        let word = |check: &Value, field: &str| check[field].as_str().expect("a text").to_owned();
        let mut bad: Vec<_> = bad
            .map(|check| (word(check, "name"), word(check, "reason")))
            .collect();
        // The limit on locked memory is this machine's, not the server's.
        bad.retain(|(name, _)| name != "memlock");
        (state, bad)
    }

    /// The value of one line of `/metrics`.
    fn metric(&self, name: &str) -> String {
        let answer = self.get("/metrics");
        assert_eq!(answer.status, 200);
        let line = answer
            .body
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name} is not in\n{}", answer.body))
            .to_owned()
    }

    /// In which of its states `/metrics` and `INFO` see a shard.
    fn shard_state(&mut self, shard: u16) -> String {
        let states = ["healthy", "read-only", "poisoned", "closed"];
        // One page: between two the shard may pass from one state to the next.
        let page = self.get("/metrics").body;
        let told: Vec<_> = states
            .into_iter()
            .filter(|state| {
                let line = format!("corelane_shard_state{{shard=\"{shard}\",state=\"{state}\"}} 1");
                page.lines().any(|other| other == line)
            })
            .collect();
        assert_eq!(told.len(), 1, "one state at a time: {told:?}");
        let info = self.client.say("INFO corelane");
        assert!(
            info.contains(&format!("shard{shard}:health={}", told[0])),
            "{}: {info}",
            told[0]
        );
        told[0].to_owned()
    }
}

/// Bytes that are not alike, so that compression gives no room back.
fn value(number: u32) -> Vec<u8> {
    let mut state = number.wrapping_mul(2_654_435_761).wrapping_add(1);
    (0..16 << 10)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state.to_le_bytes()[1]
        })
        .collect()
}

fn key(number: u32) -> String {
    format!("key{number:06}")
}

/// Writes until the device is full: the error of the first write that is refused.
fn write_until_refused(house: &mut House, written: &mut Vec<u32>) -> String {
    // More than the reserve, the log's segments and the memtable hold together.
    for number in 1000..40_000 {
        match house.set(&key(number), &value(number)).as_str() {
            "+OK\r\n" => written.push(number),
            refused => return refused.to_owned(),
        }
    }
    panic!("a full filesystem took {} writes", written.len());
}

#[test]
fn r14_a_full_disk_is_told_alike_everywhere_and_forgotten_alike() {
    let mounted = match Mounted::ext4(512 << 20) {
        Ok(mounted) => mounted,
        Err(why) => return println!("skipped: no small filesystem can be mounted here: {why}"),
    };
    let data = mounted.at.join("data");
    let mut house = House::start(&data, &["--shards", "1", "--memtable-mib", "1"]);
    assert_eq!(house.set("before", b"here"), "+OK\r\n");
    let (state, bad) = house.health();
    assert!(state != "unhealthy" && bad.is_empty(), "{bad:?}");
    assert_eq!(house.shard_state(0), "healthy");

    let ballast = mounted.fill();
    let mut written = Vec::new();
    let refused = write_until_refused(&mut house, &mut written);
    assert!(
        refused.starts_with("-MISCONF ") && refused.contains("free space"),
        "{refused}"
    );
    house.put("by-rest", "x").is_problem(503, "no-space");
    let (state, bad) = house.health();
    let names: Vec<_> = bad.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(state, "unhealthy");
    assert!(
        names.contains(&"disk space") && names.contains(&"read-only"),
        "{bad:?}"
    );
    assert_eq!(house.metric("corelane_health_state"), "2");
    assert_eq!(house.shard_state(0), "read-only");
    // Clients that only read are served on: the server stays in its balancer.
    assert_eq!(house.get("/readyz").status, 200);
    assert_eq!(house.client.say("GET before"), "$4\r\nhere\r\n");
    let read = house.get("/api/v1/kv/before");
    assert_eq!((read.status, read.body.as_str()), (200, "here"));
    let transaction = [
        house.client.say("MULTI"),
        house.client.say("SET before changed"),
        house.client.say("EXEC"),
    ]
    .concat();
    assert!(transaction.contains("-MISCONF "), "{transaction}");
    assert!(house.client.say("INCR counter").starts_with("-MISCONF "));

    drop(ballast);
    let back = (0..LOOKS).any(|_| {
        pause();
        house.shard_state(0) == "healthy"
    });
    assert!(back, "the shard stays read-only: {:?}", house.health());
    assert_eq!(house.set("after", b"there"), "+OK\r\n");
    assert_eq!(house.put("by-rest", "x").status, 201);
    let (state, bad) = house.health();
    assert!(
        state != "unhealthy" && bad.is_empty(),
        "after the space came back: {state}, {bad:?}"
    );
    assert_ne!(house.metric("corelane_health_state"), "2");
    for number in written.iter().step_by(11) {
        let reply = house.client.call(&[b"GET", key(*number).as_bytes()]);
        assert!(
            reply == common::bulk(&value(*number)),
            "{number} was acknowledged"
        );
    }
    assert_eq!(house.client.say("GET before"), "$4\r\nhere\r\n");
    assert_eq!(house.client.say("GET counter"), "$-1\r\n");
    house.server.stop();
}

/// A key of each of two shards: slots below the middle are the first's.
const KEY_OF_FIRST: &str = "b";
const KEY_OF_SECOND: &str = "a";

#[test]
fn r3_one_poisoned_shard_is_told_alike_everywhere_and_the_other_goes_on() {
    let (sound, mounted) = match (Mounted::ext4(512 << 20), Mounted::ext4(512 << 20)) {
        (Ok(sound), Ok(mounted)) => (sound, mounted),
        (Err(why), _) | (_, Err(why)) => {
            return println!("skipped: no small filesystem can be mounted here: {why}");
        }
    };
    let data = sound.at.join("data");
    let made = House::start(&data, &["--shards", "2"]);
    made.server.stop();
    // The second shard moves to a filesystem of its own, as to a disk of its own.
    let (place, moved) = (data.join("shard-0001"), mounted.at.join("shard"));
    run("cp", &["-a", text(&place), text(&moved)]).unwrap();
    run("rm", &["-r", text(&place)]).unwrap();
    std::os::unix::fs::symlink(&moved, &place).unwrap();

    let mut house = House::start(&data, &["--shards", "2"]);
    for key in [KEY_OF_FIRST, KEY_OF_SECOND] {
        assert_eq!(house.set(key, b"before"), "+OK\r\n");
    }
    let (state, bad) = house.health();
    assert!(state != "unhealthy" && bad.is_empty(), "{bad:?}");
    if let Err(why) = mounted.fails() {
        return println!("skipped: no filesystem can be made to fail here: {why}");
    }

    // What reached the device of the first write that failed nobody knows; from then on it is refused.
    let unknown = house.set(KEY_OF_SECOND, b"in doubt");
    assert!(unknown.starts_with("-ERR "), "{unknown}");
    for _ in 0..2 {
        let refused = house.set(KEY_OF_SECOND, b"after");
        assert!(refused.starts_with("-MISCONF "), "{refused}");
    }
    house.put(KEY_OF_SECOND, "after").is_problem(503, "poisoned");
    let (state, bad) = house.health();
    assert_eq!(state, "unhealthy");
    let [(name, reason)] = bad.as_slice() else {
        panic!("{bad:?}")
    };
    assert_eq!(name, "poisoned");
    assert!(
        reason.contains("shard 1:") && !reason.contains("shard 0:"),
        "{reason}"
    );
    assert_eq!(house.metric("corelane_health_state"), "2");
    assert_eq!(
        (house.shard_state(0), house.shard_state(1)),
        ("healthy".to_owned(), "poisoned".to_owned())
    );
    assert_eq!(house.get("/readyz").status, 200);

    // Reads go on, and so does the other shard.
    assert_eq!(
        house.client.say(&format!("GET {KEY_OF_SECOND}")),
        "$6\r\nbefore\r\n"
    );
    let read = house.get(&format!("/api/v1/kv/{KEY_OF_SECOND}"));
    assert_eq!((read.status, read.body.as_str()), (200, "before"));
    assert_eq!(house.set(KEY_OF_FIRST, b"after"), "+OK\r\n");
    assert_eq!(house.put(KEY_OF_FIRST, "by rest").status, 204);
    assert_eq!(
        house.client.say(&format!("MGET {KEY_OF_FIRST} {KEY_OF_SECOND}")),
        "*2\r\n$7\r\nby rest\r\n$6\r\nbefore\r\n"
    );
    // A pipeline that writes to both shards is answered for each of its commands.
    house
        .client
        .write(format!("SET {KEY_OF_SECOND} x\r\nSET {KEY_OF_FIRST} y\r\n").as_bytes());
    assert!(house.client.reply().starts_with(b"-MISCONF "));
    assert_eq!(house.client.reply(), b"+OK\r\n");
    // A poisoned shard keeps nobody from the end, and the end tells of it or not; what was acknowledged is there.
    house.server.signal("TERM");
    house.server.wait();
}
