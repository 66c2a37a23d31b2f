//! Clients that mean harm, over real sockets to the real server: they do not read, send a byte at a time, promise what
//! they never send, nest, break off, speak HTTP, or are simply many. Each time the server's memory stays bounded and
//! another client is answered.
//!
//! What each of them is told is tested beside the code; here it is the process that must hold.

mod common;

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use common::{Client, Server, bulk, command, encode};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const MIB: u64 = 1 << 20;

/// Looks, a tenth of a second apart, after which something that should happen is taken never to happen.
const LOOKS: usize = 600;

#[expect(clippy::disallowed_methods, reason = "a test on threads")]
fn pause() {
    std::thread::sleep(Duration::from_millis(100));
}

/// A server with a bystander: somebody who has done no harm, and must be answered whatever others do.
struct House {
    _dir: tempfile::TempDir,
    server: Server,
    bystander: Client,
    calls: u32,
}

impl House {
    /// With these limits, by their names in the environment.
    fn start(flags: &[&str], limits: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().expect("a directory for the test");
        let mut command = command(&dir.path().join("data"), flags);
        for (name, value) in limits {
            command.env(format!("CORELANE_LIMITS__{name}"), value);
        }
        let server = Server::spawn(command);
        let bystander = server.client();
        let mut house = Self {
            _dir: dir,
            server,
            bystander,
            calls: 0,
        };
        house.bystander_is_served();
        house
    }

    /// The bystander writes and reads on every shard.
    fn bystander_is_served(&mut self) {
        for key in ["a", "b", "c", "d"] {
            self.calls += 1;
            let value = self.calls.to_string();
            let set = self.bystander.call(&[b"SET", key.as_bytes(), value.as_bytes()]);
            assert_eq!(set, b"+OK\r\n");
            assert_eq!(
                self.bystander.call(&[b"GET", key.as_bytes()]),
                bulk(value.as_bytes())
            );
        }
    }

    fn clients(&mut self) -> usize {
        let list = self.bystander.say("CLIENT LIST");
        list.lines().filter(|line| line.starts_with("id=")).count()
    }

    /// Waits until only the bystander is left.
    fn alone(&mut self) {
        let alone = (0..LOOKS).any(|_| {
            let alone = self.clients() == 1;
            if !alone {
                pause();
            }
            alone
        });
        assert!(alone, "still there: {}", self.bystander.say("CLIENT LIST"));
    }

    /// Memory that the server holds, in bytes.
    fn resident_bytes(&self) -> u64 {
        let path = format!("/proc/{}/status", self.server.pid());
        let status = std::fs::read_to_string(path).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.expect("Linux tells it").trim().trim_end_matches(" kB");
        kib.parse::<u64>().expect("a number") << 10
    }

    /// The server holds at most so much more than `before`.
    fn held_at_most(&self, before: u64, most: u64) {
        let more = self.resident_bytes().saturating_sub(before);
        assert!(
            more <= most,
            "{} MiB more are held, over {} MiB",
            more / MIB,
            most / MIB
        );
    }
}

/// A connection whose reads and writes do not wait for ever.
fn raw(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.address).expect("the server listens");
    stream.set_nodelay(true).expect("a TCP socket");
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .expect("a TCP socket");
    stream
        .set_write_timeout(Some(Duration::from_millis(500)))
        .expect("a TCP socket");
    stream
}

/// How sending ended.
#[derive(Debug, PartialEq, Eq)]
enum Sent {
    /// The server took no more.
    Slowed,
    /// It closed the connection.
    Closed,
}

/// Sends `bytes` over and over, never reading, until the server takes no more or closes.
fn send_for_ever(stream: &mut TcpStream, bytes: &[u8]) -> Sent {
    // Far more than all buffers between the two hold.
    for _ in 0..(256 << 20) / bytes.len() {
        match stream.write(bytes) {
            Ok(0) => return Sent::Closed,
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Sent::Slowed;
            }
            Err(_) => return Sent::Closed,
        }
    }
    panic!("the server took 256 MiB of commands whose answers nobody reads");
}

const DEAF: usize = 8;

#[test]
fn who_does_not_read_is_slowed_and_holds_no_more_than_its_share() {
    let mut house = House::start(&[], &[]);
    // A round of answers stays below the limits on output, so that only the time could end a client.
    let big = vec![b'x'; 16 << 10];
    assert_eq!(house.bystander.call(&[b"SET", b"big", &big]), b"+OK\r\n");
    let before = house.resident_bytes();
    let gets = b"GET big\r\n".repeat(4096);
    let mut deaf: Vec<_> = (0..DEAF).map(|_| raw(&house.server)).collect();
    std::thread::scope(|scope| {
        let sending: Vec<_> = deaf
            .iter_mut()
            .map(|stream| scope.spawn(|| send_for_ever(stream, &gets)))
            .collect();
        house.bystander_is_served();
        for sent in sending {
            assert_eq!(sent.join().unwrap(), Sent::Slowed);
        }
    });
    house.bystander_is_served();
    // Each asked for hundreds of megabytes at least. One round of answers may wait for each: a few MiB.
    house.held_at_most(before, DEAF as u64 * 16 * MIB);
    assert_eq!(
        house.clients(),
        1 + DEAF,
        "nobody is sent away before the time is over"
    );
    drop(deaf);
    house.alone();
}

#[test]
fn who_does_not_read_is_closed_by_the_limits() {
    let limits = [
        ("OUTPUT_HARD_BYTES", "65536"),
        ("OUTPUT_SOFT_BYTES", "65536"),
        ("OUTPUT_SOFT_MS", "1000"),
        ("OUTPUT_STALLED_MS", "1000"),
    ];
    let mut house = House::start(&[], &limits);
    let big = vec![b'x'; 1 << 20];
    assert_eq!(house.bystander.call(&[b"SET", b"big", &big]), b"+OK\r\n");
    let mut deaf: Vec<_> = (0..DEAF).map(|_| raw(&house.server)).collect();
    for stream in &mut deaf {
        stream.write_all(&b"GET big\r\n".repeat(64)).unwrap();
    }
    house.bystander_is_served();
    house.alone();
    for mut stream in deaf {
        let mut heard = Vec::new();
        // What the kernel had taken can still be read, or the connection was reset.
        let _reset = stream.read_to_end(&mut heard);
        assert!(heard.len() < 64 << 20, "it was not answered in full");
    }
    house.bystander_is_served();
}

#[test]
fn many_who_send_a_byte_at_a_time_are_answered_like_everybody() {
    let mut house = House::start(&[], &[]);
    let commands: Vec<_> = (0..50)
        .map(|n: u32| encode(&[b"SET", format!("slow{n}").as_bytes(), &n.to_le_bytes()]))
        .collect();
    let mut slow: Vec<_> = commands.iter().map(|_| house.server.client()).collect();
    let longest = commands.iter().map(Vec::len).max().unwrap();
    for at in 0..longest {
        for (client, bytes) in slow.iter_mut().zip(&commands) {
            client.write(bytes.get(at..at + 1).unwrap_or_default());
        }
        if at % 10 == 0 {
            house.bystander_is_served();
        }
    }
    for client in &mut slow {
        assert_eq!(client.reply(), b"+OK\r\n");
    }
    for n in 0..50_u32 {
        let key = format!("slow{n}");
        assert_eq!(
            house.bystander.call(&[b"GET", key.as_bytes()]),
            bulk(&n.to_le_bytes())
        );
    }
}

#[test]
fn nothing_is_held_for_a_length_that_was_only_declared() {
    let mut house = House::start(&[], &[]);
    let before = house.resident_bytes();
    let mut waiting: Vec<_> = (0..200).map(|_| house.server.client()).collect();
    for (n, client) in waiting.iter_mut().enumerate() {
        match n % 3 {
            0 => client.write(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$67108864\r\nonly this"),
            1 => client.write(b"*1024\r\n$3\r\nSET\r\n"),
            _ => client.write(b"*65536\r\n$4\r\nMGET\r\n"),
        }
    }
    house.bystander_is_served();
    assert_eq!(house.clients(), 201);
    // 67 of them declared 64 MiB each.
    house.held_at_most(before, 32 * MIB);
    drop(waiting);
    house.alone();
    assert_eq!(
        house.bystander.say("EXISTS k"),
        ":0\r\n",
        "half a command does nothing"
    );
}

#[test]
fn broken_bytes_end_their_own_connection_and_no_other() {
    let mut house = House::start(&[], &[]);
    let nested = b"*1\r\n".repeat(200_000);
    let endless_line = vec![b'a'; 1 << 20];
    let endings: [(&[u8], &[u8]); 9] = [
        (
            b"*1048577\r\n",
            b"-ERR Protocol error: invalid multibulk length\r\n",
        ),
        (
            b"*99999999999999999999\r\n",
            b"-ERR Protocol error: invalid multibulk length\r\n",
        ),
        (
            b"*2\r\n$3\r\nGET\r\n$67108865\r\n",
            b"-ERR Protocol error: invalid bulk length\r\n",
        ),
        (
            b"*2\r\n$3\r\nGET\r\n$-7\r\n",
            b"-ERR Protocol error: invalid bulk length\r\n",
        ),
        (&nested, b"-ERR Protocol error: expected '$', got '*'\r\n"),
        (&endless_line, b"-ERR Protocol error: too big inline request\r\n"),
        (b"POST / HTTP/1.1\r\nHost: a\r\n\r\nSET http 1\r\n", b""),
        (
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\nSET http 1\r\n",
            b"-ERR wrong number of arguments for 'get' command\r\n",
        ),
        (
            b"\"unbalanced\r\n",
            b"-ERR Protocol error: unbalanced quotes in request\r\n",
        ),
    ];
    let before = house.resident_bytes();
    for _ in 0..20 {
        for (bytes, heard) in &endings {
            let mut client = house.server.client();
            // The server may close before it has read everything.
            client.try_write(bytes);
            let rest = client.rest();
            // A close with bytes unread is a reset, which may overtake the answer.
            assert!(
                rest == *heard || (rest.is_empty() && bytes.len() > 64 << 10),
                "{}: {}",
                bytes[..bytes.len().min(40)].escape_ascii(),
                rest.escape_ascii()
            );
        }
        house.bystander_is_served();
    }
    house.held_at_most(before, 32 * MIB);
    assert_eq!(house.bystander.say("EXISTS http"), ":0\r\n");
    house.alone();
}

#[test]
fn a_client_that_breaks_off_anywhere_leaves_nothing_behind() {
    let mut house = House::start(&[], &[]);
    let whole = encode(&[b"SET", b"broken-off", b"value"]);
    for end in 0..whole.len() {
        house.server.client().write(&whole[..end]);
    }
    house.alone();
    assert_eq!(house.bystander.say("EXISTS broken-off"), ":0\r\n");
    house.bystander_is_served();
}

/// A check of a secret works over 19 MiB. The allocator kept some twenty of those once they were free: strangers without
/// a password made the server hold 400 MiB for good, of 45 before, by failing to log in for three seconds.
#[expect(clippy::disallowed_methods, reason = "the operator's own file, in a test")]
#[test]
fn wrong_passwords_make_the_server_hold_no_more_than_its_threads_check_at_a_time() {
    let dir = tempfile::tempdir().expect("a directory for the test");
    let config = dir.path().join("corelane.toml");
    let hash = corelane_server::auth::hash_secret("right").expect("the system has randomness");
    let text = format!("[[users]]\nname = \"root\"\nrole = \"admin\"\nsecret_hash = \"{hash}\"\n");
    std::fs::write(&config, text).expect("room for a file");
    let config = config.to_str().expect("a path in UTF-8");
    let server = Server::spawn(command(&dir.path().join("data"), &["--config", config]));
    let mut bystander = server.client();
    assert_eq!(bystander.say("AUTH root right"), "+OK\r\n");
    let mut house = House {
        _dir: dir,
        server,
        bystander,
        calls: 0,
    };
    house.bystander_is_served();
    let before = house.resident_bytes();
    // As many as the queue holds, so that nearly all are looked at.
    let mut strangers: Vec<_> = (0..64).map(|_| house.server.client()).collect();
    for (n, stranger) in strangers.iter_mut().enumerate() {
        stranger.write(format!("AUTH root wrong-{n}\r\n").as_bytes());
    }
    house.bystander_is_served();
    for stranger in &mut strangers {
        assert!(stranger.reply().starts_with(b"-"));
    }
    house.held_at_most(before, 64 * MIB);
    drop(strangers);
    house.alone();
    house.bystander_is_served();
}

/// So many connections that do nothing; returns how many bytes of memory each costs.
fn idle(count: u32, most_bytes_each: u64) -> u64 {
    let flags = ["--max-clients", &(count + 10).to_string()].map(str::to_owned);
    let mut house = House::start(&flags.each_ref().map(String::as_str), &[]);
    let before = house.resident_bytes();
    let mut idle: Vec<_> = (0..count).map(|_| house.server.client()).collect();
    // Each has been answered once, so that none is still on its way in.
    for client in &mut idle {
        assert_eq!(client.say("PING"), "+PONG\r\n");
    }
    house.bystander_is_served();
    assert!(
        house
            .bystander
            .say("INFO clients")
            .contains(&format!("connected_clients:{}\r\n", count + 1))
    );
    house.held_at_most(before, u64::from(count) * most_bytes_each);
    let each = house.resident_bytes().saturating_sub(before) / u64::from(count);
    for client in &mut idle {
        assert_eq!(client.say("PING"), "+PONG\r\n");
    }
    drop(idle);
    house.alone();
    house.bystander_is_served();
    each
}

#[test]
fn five_hundred_idle_connections_cost_little_and_are_all_alive() {
    println!("{} bytes of memory a connection", idle(500, 64 << 10));
}

#[test]
#[ignore = "needs 10,000 descriptors here and as many in the server"]
fn ten_thousand_idle_connections_cost_little_and_are_all_alive() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, raised).expect("up to the hard limit it may be raised");
    println!("{} bytes of memory a connection", idle(10_000, 32 << 10));
}
