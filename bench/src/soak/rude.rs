//! Clients that leave in every rude manner, one connection after the other.

use std::collections::{BTreeMap, VecDeque};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use crate::device::stop::Stop;
use crate::hostile::bytes::command;
use crate::soak::act::{Act, Manner};
use crate::workload::rng::Rng;

/// A server that has not taken or given a byte by then is not waited for.
const PATIENCE: Duration = Duration::from_secs(2);
/// Connections that each client leaves open behind it, deaf or in the middle of something.
const LEFT_OPEN: u64 = 40;
/// Between two bytes that a slow one sends, and two times that one reads.
const SLOW_PAUSE: Duration = Duration::from_millis(1);
/// Bytes that are read at once, by one that is not slow.
const READ_BYTES: usize = 4096;
/// And by one that is.
const SLOW_READ_BYTES: usize = 512;
/// Bytes that a slow one sends at most.
const SLOW_BYTES: usize = 200;

/// A client that is never content with one connection.
pub struct Rude {
    port: u16,
    rng: Rng,
    left_open: VecDeque<TcpStream>,
    /// How often each manner was to the end that it wants.
    done: BTreeMap<Manner, u64>,
}

impl Rude {
    /// Of a seed, against the server on `port`.
    pub fn new(port: u16, seed: u64) -> Self {
        Self {
            port,
            rng: Rng::new(seed),
            left_open: VecDeque::new(),
            done: BTreeMap::new(),
        }
    }

    /// Acts until `stop`. All its connections are closed then.
    pub fn run(&mut self, stop: &Stop) {
        while !stop.asked() {
            let act = Act::draw(&mut self.rng);
            // The server may end it first, which is its right.
            if self.act(&act).is_ok() {
                *self.done.entry(act.manner).or_default() += 1;
            }
        }
        self.left_open.clear();
    }

    /// How often it has acted in which manner.
    pub fn done(&self) -> &BTreeMap<Manner, u64> {
        &self.done
    }

    fn act(&mut self, act: &Act) -> std::io::Result<()> {
        let mut stream = self.connect()?;
        match act.manner {
            Manner::Storm => return Ok(()),
            Manner::Slow => slowly(&mut stream, &act.bytes)?,
            Manner::Deaf => {
                stream.set_nonblocking(true)?;
                match stream.write(&act.bytes) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    wrote => drop(wrote?),
                }
            }
            Manner::Killed => return self.killed(stream, &act.bytes),
            _ => stream.write_all(&act.bytes)?,
        }
        read(&mut stream, act)?;
        // Half of them go at once, the others stay for a while.
        if self.rng.below(2) == 0 || act.manner == Manner::Deaf {
            self.left_open.push_back(stream);
            if self.left_open.len() as u64 > LEFT_OPEN {
                let gone = self.rng.below(LEFT_OPEN);
                self.left_open.remove(usize::try_from(gone).unwrap_or(0));
            }
        }
        Ok(())
    }

    /// Begins to write, and is ended by the server at the word of another client.
    fn killed(&self, mut stream: TcpStream, bytes: &[u8]) -> std::io::Result<()> {
        stream.write_all(&command(&[b"CLIENT", b"ID"]))?;
        let mut answer = [0; 32];
        let bytes_read = stream.read(&mut answer)?;
        let id: Vec<u8> = answer[..bytes_read]
            .iter()
            .copied()
            .filter(u8::is_ascii_digit)
            .collect();
        let mut killer = self.connect()?;
        stream.write_all(bytes)?;
        killer.write_all(&command(&[b"CLIENT", b"KILL", b"ID", &id]))?;
        let _told = killer.read(&mut answer)?;
        Ok(())
    }

    fn connect(&self) -> std::io::Result<TcpStream> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(stream)
    }
}

/// Reads as much of the answers as the act wants, and as there is.
fn read(stream: &mut TcpStream, act: &Act) -> std::io::Result<()> {
    let (at_once, pause) = match act.manner {
        Manner::SlowReads => (SLOW_READ_BYTES, SLOW_PAUSE),
        _ => (READ_BYTES, Duration::ZERO),
    };
    let (mut left, mut buffer) = (act.reads, [0; READ_BYTES]);
    while left > 0 {
        let bytes = stream.read(&mut buffer[..left.min(at_once)])?;
        if bytes == 0 {
            return Ok(());
        }
        left -= bytes;
        std::thread::sleep(pause);
    }
    Ok(())
}

fn slowly(stream: &mut TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    for byte in bytes.iter().take(SLOW_BYTES) {
        stream.write_all(&[*byte])?;
        std::thread::sleep(SLOW_PAUSE);
    }
    Ok(())
}
