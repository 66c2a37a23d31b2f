//! The hostile process: connects and sends until its standard input ends, then prints what it did as a line of JSON.
//!
//! It says `ready` once its connections stand. It never waits for ever: each read, write and connect has an end.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};

use crate::error::{BenchError, Kind as Fault};
use crate::hostile::bytes;
use crate::hostile::kinds::{Kind, SECRET, USER};

/// A server that lets a connect wait longer has refused it.
const CONNECT: Duration = Duration::from_secs(2);
/// A server that has not answered by then is not waited for.
const ANSWER: Duration = Duration::from_secs(1);
/// Connections that each thread keeps open behind it, unread: so many lengths were declared and not filled, so many
/// passwords wait to be checked.
const KEPT: usize = 50;
/// Clients that send a byte at a time.
const SLOW: usize = 500;
/// Between two bytes of each of them.
const SLOW_PAUSE: Duration = Duration::from_millis(50);
/// They take turns in so many parts.
const SLOW_PARTS: u32 = 10;
/// Clients that do not read.
const DEAF: usize = 32;
/// How long each of them is deaf before it comes anew.
const DEAF_TIME: Duration = Duration::from_secs(1);
/// Commands that it sends at a time.
const DEAF_PIPELINE: usize = 1024;
/// Bytes of the value that they ask for.
const BIG_BYTES: usize = 16 << 10;
/// Connections that do nothing.
const IDLE: usize = 10_000;
/// Commands that a busy client sends together.
const PIPELINE: usize = 32;
/// Bytes of the value that a busy client reads.
const SMALL_BYTES: usize = 100;

/// What the hostile process is told; it is started by `hostile`.
#[derive(Debug, Clone, Args)]
pub struct ClientsArgs {
    /// What it does.
    #[arg(long)]
    pub kind: Kind,
    /// Where the server listens on loopback.
    #[arg(long)]
    pub port: u16,
}

/// What it came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Served {
    /// Connections that the server took.
    pub connections: u64,
    /// Connections that it did not take in time.
    pub refused: u64,
    /// Messages sent: commands, parts of them, bytes of the slow ones; the kernel has taken them, the server may not have.
    pub sent: u64,
    /// Seconds from when it was ready to its end.
    pub seconds: f64,
}

/// What all its threads share.
#[derive(Debug, Default)]
struct Shared {
    port: u16,
    stop: AtomicBool,
    connections: AtomicU64,
    refused: AtomicU64,
    sent: AtomicU64,
}

/// Does its harm until standard input ends.
///
/// # Errors
/// The server is not there, or this process may not hold so many connections.
pub fn command(args: &ClientsArgs) -> Result<String, BenchError> {
    raise_descriptors()?;
    let shared = Shared {
        port: args.port,
        ..Shared::default()
    };
    prepare(&shared, args.kind)?;
    let held = match args.kind {
        Kind::Idle => idle(&shared)?,
        _ => Vec::new(),
    };
    println!("ready");
    let began = Instant::now();
    std::thread::scope(|scope| {
        for number in 0..args.kind.threads() {
            let shared = &shared;
            scope.spawn(move || work(shared, args.kind, number));
        }
        // Nothing is said there: it ends when whoever started this process wants its end, or has gone.
        let _ended = std::io::stdin().read_to_end(&mut Vec::new());
        shared.stop.store(true, Ordering::Relaxed);
    });
    drop(held);
    let count = |of: &AtomicU64| of.load(Ordering::Relaxed);
    let served = Served {
        connections: count(&shared.connections),
        refused: count(&shared.refused),
        sent: count(&shared.sent),
        seconds: began.elapsed().as_secs_f64(),
    };
    serde_json::to_string(&served).map_err(|e| BenchError::bug(format!("counts do not become JSON: {e}")))
}

fn raise_descriptors() -> Result<(), BenchError> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, raised).map_err(|e| machine(format!("raising the limit on open files: {e}")))
}

/// Writes the values that are asked for, as the honest user.
fn prepare(shared: &Shared, kind: Kind) -> Result<(), BenchError> {
    let mut stream = shared
        .connect()
        .ok_or_else(|| machine("the server takes no connection".to_owned()))?;
    let mut commands = Vec::new();
    if kind.has_users() {
        commands.push(bytes::command(&[b"AUTH", USER.as_bytes(), SECRET.as_bytes()]));
    }
    commands.push(bytes::command(&[b"SET", b"hostile-big", &vec![b'x'; BIG_BYTES]]));
    commands.push(bytes::command(&[b"SET", b"hostile-small", &[b'x'; SMALL_BYTES]]));
    for command in commands {
        let mut answer = [0; 5];
        stream
            .write_all(&command)
            .and_then(|()| stream.read_exact(&mut answer))
            .map_err(|e| machine(format!("preparing the server for hostile clients: {e}")))?;
        if &answer != b"+OK\r\n" {
            let words = format!(
                "the server answered {} to what prepares it",
                answer.escape_ascii()
            );
            return Err(machine(words));
        }
    }
    Ok(())
}

fn work(shared: &Shared, kind: Kind, number: usize) {
    match kind {
        Kind::Idle => {}
        Kind::Slow => slow(shared),
        Kind::Deaf => deaf(shared),
        Kind::Busy => busy(shared),
        Kind::Oversized | Kind::Truncated | Kind::Garbage | Kind::Storm | Kind::WrongPassword => {
            anew(shared, kind, number);
        }
    }
}

impl Shared {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn connect(&self) -> Option<TcpStream> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let connected = TcpStream::connect_timeout(&address, CONNECT).and_then(|stream| {
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(ANSWER))?;
            stream.set_write_timeout(Some(ANSWER))?;
            Ok(stream)
        });
        let count = if connected.is_ok() {
            &self.connections
        } else {
            &self.refused
        };
        count.fetch_add(1, Ordering::Relaxed);
        connected.ok()
    }

    fn note_sent(&self, messages: usize) {
        self.sent.fetch_add(messages as u64, Ordering::Relaxed);
    }
}

/// One message a connection, the threads at different places of the list.
fn anew(shared: &Shared, kind: Kind, number: usize) {
    let messages = bytes::messages(kind);
    let start = number * messages.len() / kind.threads();
    let mut kept = VecDeque::with_capacity(KEPT + 1);
    for message in messages.iter().cycle().skip(start) {
        if shared.stopped() {
            return;
        }
        let Some(mut stream) = shared.connect() else {
            continue;
        };
        if kind == Kind::Storm {
            continue;
        }
        // The server may close before it has read everything.
        let _closed = stream.write_all(message);
        shared.note_sent(1);
        match kind {
            Kind::Oversized | Kind::WrongPassword => {
                kept.push_back(stream);
                if kept.len() > KEPT {
                    kept.pop_front();
                }
            }
            Kind::Garbage => hear_to_the_end(&mut stream),
            // Gone as soon as it has sent.
            _ => {}
        }
    }
}

fn hear_to_the_end(stream: &mut TcpStream) {
    let mut buffer = [0; 4096];
    while stream.read(&mut buffer).is_ok_and(|bytes| bytes > 0) {}
}

/// Many connections whose commands come a byte at a time; a part of them after each short pause, not all at once.
fn slow(shared: &Shared) {
    let whole = bytes::command(&[b"SET", b"hostile-slow", &[b'x'; SMALL_BYTES]]);
    let mut clients: Vec<(Option<TcpStream>, usize)> =
        (0..SLOW).map(|_| (never_waiting(shared), 0)).collect();
    while !shared.stopped() {
        for part in clients.chunks_mut(SLOW / SLOW_PARTS as usize) {
            let began = Instant::now();
            for (stream, at) in part {
                if slow_step(stream.as_mut(), &whole, at).is_ok() {
                    shared.note_sent(1);
                } else {
                    (*stream, *at) = (never_waiting(shared), 0);
                }
            }
            std::thread::sleep((SLOW_PAUSE / SLOW_PARTS).saturating_sub(began.elapsed()));
        }
    }
}

fn slow_step(stream: Option<&mut TcpStream>, whole: &[u8], at: &mut usize) -> std::io::Result<()> {
    let stream = stream.ok_or(ErrorKind::NotConnected)?;
    stream.write_all(&whole[*at..=*at])?;
    *at = (*at + 1) % whole.len();
    if *at == 0 {
        // Answers are read late, and all of them in the end.
        let _none_yet = stream.read(&mut [0; 64]);
    }
    Ok(())
}

/// A connection whose reads and writes take or give what there is room for.
fn never_waiting(shared: &Shared) -> Option<TcpStream> {
    let stream = shared.connect()?;
    stream.set_nonblocking(true).ok()?;
    Some(stream)
}

/// Connections that ask for far more than they will ever read.
fn deaf(shared: &Shared) {
    let asks = bytes::command(&[b"GET", b"hostile-big"]).repeat(DEAF_PIPELINE);
    let mut clients: Vec<Deaf> = (0..DEAF).map(|_| Deaf::new(shared)).collect();
    while !shared.stopped() {
        let mut wrote = false;
        for client in &mut clients {
            match client.ask(&asks) {
                Ok(0) => {}
                Ok(_) => wrote = true,
                Err(_) => *client = Deaf::new(shared),
            }
            if client.at >= asks.len() {
                client.at = 0;
                shared.note_sent(DEAF_PIPELINE);
            }
        }
        if !wrote {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

struct Deaf {
    stream: Option<TcpStream>,
    since: Instant,
    /// Bytes of its commands that the server has taken.
    at: usize,
}

impl Deaf {
    fn new(shared: &Shared) -> Self {
        Self {
            stream: never_waiting(shared),
            since: Instant::now(),
            at: 0,
        }
    }

    /// Sends what the server takes; an error when it is over.
    fn ask(&mut self, asks: &[u8]) -> std::io::Result<usize> {
        let stream = self.stream.as_mut().ok_or(ErrorKind::NotConnected)?;
        if self.since.elapsed() >= DEAF_TIME {
            return Err(ErrorKind::TimedOut.into());
        }
        match stream.write(&asks[self.at..]) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
            wrote => wrote.inspect(|bytes| self.at += bytes),
        }
    }
}

/// An honest client in a hurry.
fn busy(shared: &Shared) {
    let asks = bytes::command(&[b"GET", b"hostile-small"]).repeat(PIPELINE);
    let one = format!("${SMALL_BYTES}\r\n").len() + SMALL_BYTES + 2;
    let mut answers = vec![0; one * PIPELINE];
    while !shared.stopped() {
        let Some(mut stream) = shared.connect() else {
            continue;
        };
        while !shared.stopped() {
            let answered = stream
                .write_all(&asks)
                .and_then(|()| stream.read_exact(&mut answers));
            if answered.is_err() {
                break;
            }
            shared.note_sent(PIPELINE);
        }
    }
}

/// Connections that have been answered once, so that none is still on its way in.
fn idle(shared: &Shared) -> Result<Vec<TcpStream>, BenchError> {
    let mut streams = Vec::with_capacity(IDLE);
    for number in 0..IDLE {
        let mut stream = shared.connect().ok_or_else(|| {
            machine(format!(
                "connection {number} of {IDLE} was not taken; see `ulimit -n`"
            ))
        })?;
        stream
            .write_all(b"PING\r\n")
            .and_then(|()| stream.read_exact(&mut [0; 7]))
            .map_err(|e| machine(format!("the first answer to connection {number} of {IDLE}: {e}")))?;
        shared.note_sent(1);
        streams.push(stream);
    }
    Ok(streams)
}

fn machine(words: String) -> BenchError {
    BenchError::new(Fault::Machine, words)
}
