//! A Redis of our own on a socket in a directory of its own, and connections to it and to our server.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::common::{encode, reply_bytes};

/// A reply later than this is taken for a hang.
const PATIENCE: Duration = Duration::from_secs(30);

/// Tries to reach a Redis that has just been started, and the time between two. On a machine that compiles meanwhile it took more
/// than half a second, which ten thousand tries without a pause did not.
const TRIES: usize = 10_000;
const BETWEEN_TRIES: Duration = Duration::from_millis(3);

trait Socket: Read + Write {}
impl<T: Read + Write> Socket for T {}

/// One connection.
pub struct Peer {
    socket: Box<dyn Socket>,
    received: Vec<u8>,
}

impl Peer {
    pub fn tcp(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).expect("the server listens");
        socket.set_nodelay(true).expect("a TCP socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("a TCP socket");
        Self {
            socket: Box::new(socket),
            received: Vec::new(),
        }
    }

    /// Sends one command and returns its reply.
    pub fn call(&mut self, arguments: &[&[u8]]) -> Vec<u8> {
        let sent = self.socket.write_all(&encode(arguments));
        sent.unwrap_or_else(|error| panic!("sending {}: {error}", words(arguments)));
        loop {
            if let Some(bytes) = reply_bytes(&self.received) {
                return self.received.drain(..bytes).collect();
            }
            let mut more = [0; 64 * 1024];
            match self.socket.read(&mut more) {
                Ok(0) => panic!("the connection ended at {}", words(arguments)),
                Ok(bytes) => self.received.extend_from_slice(&more[..bytes]),
                Err(error) => panic!("waiting for the reply to {}: {error}", words(arguments)),
            }
        }
    }
}

fn words(arguments: &[&[u8]]) -> String {
    let words: Vec<String> = arguments
        .iter()
        .map(|argument| argument.escape_ascii().to_string())
        .collect();
    words.join(" ")
}

/// A Redis that keeps nothing; ended when dropped.
pub struct Redis {
    child: Child,
    dir: tempfile::TempDir,
}

impl Redis {
    /// `None` where it is not installed.
    pub fn start() -> Option<Self> {
        let dir = tempfile::tempdir().expect("a directory for Redis");
        let child = Command::new("redis-server")
            .args([
                "--port",
                "0",
                "--unixsocket",
                "redis.sock",
                "--save",
                "",
                "--databases",
                "1",
            ])
            .args(["--enable-debug-command", "yes"])
            .current_dir(dir.path())
            .stdout(Stdio::null())
            .spawn()
            .ok()?;
        let mut redis = Self { child, dir };
        let listens = (0..TRIES).any(|_| {
            let answers = redis.connect().is_some();
            if !answers {
                let ended = redis.child.try_wait().expect("it is a child of ours");
                assert!(ended.is_none(), "redis-server has ended by itself: {ended:?}");
                std::thread::park_timeout(BETWEEN_TRIES);
            }
            answers
        });
        assert!(listens, "redis-server was started and does not listen");
        Some(redis)
    }

    fn connect(&self) -> Option<UnixStream> {
        UnixStream::connect(self.dir.path().join("redis.sock")).ok()
    }

    pub fn client(&self) -> Peer {
        let socket = self.connect().expect("it listens");
        socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
        Peer {
            socket: Box::new(socket),
            received: Vec::new(),
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // One that has ended already is refused, which is what is wanted.
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}
