//! The real server as a child process on a port of its own, and a client that speaks in raw bytes.

#![allow(dead_code, reason = "each test binary uses its own part of this")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

/// A reply later than this is taken for a hang.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running server; killed when dropped.
pub struct Server {
    child: Child,
    stdout: BufReader<ChildStdout>,
    pub address: SocketAddr,
}

impl Server {
    /// Starts the server over `data_dir` and waits until it listens.
    pub fn start(data_dir: &Path, flags: &[&str]) -> Self {
        Self::spawn(command(data_dir, flags))
    }

    /// Starts this command line of the server and waits until it listens.
    pub fn spawn(mut command: Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary was built");
        let mut stdout = BufReader::new(child.stdout.take().expect("it was piped"));
        let mut said = String::new();
        let address = loop {
            let mut line = String::new();
            if stdout.read_line(&mut line).expect("output is text") == 0 {
                panic!(
                    "the server ended before it listened ({:?}):\n{said}",
                    child.wait()
                );
            }
            if let Some((_, address)) = line.split_once(" listens on ") {
                break address.trim().parse().expect("an address");
            }
            said += &line;
        };
        Self {
            child,
            stdout,
            address,
        }
    }

    /// What follows `words` in a line that the server has yet to say, or has said after its address.
    pub fn told(&mut self, words: &str) -> String {
        loop {
            let mut line = String::new();
            let bytes = self.stdout.read_line(&mut line).expect("output is text");
            assert!(bytes > 0, "the server ended without a word of {words:?}");
            if let Some((_, rest)) = line.split_once(words) {
                return rest.trim().to_owned();
            }
        }
    }

    pub fn client(&self) -> Client {
        Client::connect(self.address)
    }

    /// The number of its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL, as a power button for processes.
    pub fn kill(mut self) {
        self.child.kill().expect("it is ours");
        self.child.wait().expect("it is ours");
    }

    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill")
            .args([&format!("-{name}"), &pid])
            .status()
            .expect("kill is everywhere");
        assert!(status.success());
    }

    /// Waits for its end; returns its status and what it still said.
    pub fn wait(mut self) -> (ExitStatus, String) {
        let mut said = String::new();
        self.stdout.read_to_string(&mut said).expect("output is text");
        (self.child.wait().expect("it is ours"), said)
    }

    /// SIGTERM, and its clean end.
    pub fn stop(self) {
        self.signal("TERM");
        let (status, said) = self.wait();
        assert!(status.success() && said.ends_with("closed\n"), "{status}: {said}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // After `wait` both are refused, which is what is wanted.
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}

/// The server's command line over `data_dir`, on a free port.
pub fn command(data_dir: &Path, flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
    command.arg("serve").arg("--data-dir").arg(data_dir).args(flags);
    if !flags.contains(&"--port") {
        command.args(["--port", "0"]);
    }
    if !flags.contains(&"--admin-port") && !flags.contains(&"--no-admin") {
        command.arg("--no-admin");
    }
    command
}

/// The place in the list of ports behind those that this process has given out.
static NEXT_PORTS: AtomicU16 = AtomicU16::new(0);

/// A port on which nobody listens at the moment, and the `more` behind it; never the same ones twice. Two servers of one
/// user can share a port, so that a test that got the ports of another spoke with both servers: keys were missing that it
/// had set.
pub fn free_port(more: u16) -> u16 {
    assert!(more < PORTS_A_TEST, "a test has so many ports");
    let free = |port| TcpListener::bind(("127.0.0.1", port)).ok();
    // Below the range from which the kernel gives ports to others; the process's number keeps test binaries apart.
    let spread = u16::try_from(std::process::id() % 100).expect("below 100");
    (0..1000)
        .map(|_| NEXT_PORTS.fetch_add(1, Ordering::Relaxed))
        .map(|next| 10_000 + (spread * 100 + next) % 1250 * PORTS_A_TEST)
        .find(|&first| (first..=first + more).all(|port| free(port).is_some()))
        .expect("some ports are free")
}

/// Ports that a test may have behind each other.
const PORTS_A_TEST: u16 = 16;

/// One connection.
pub struct Client {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the server listens");
        stream.set_nodelay(true).expect("a TCP socket");
        stream.set_read_timeout(Some(PATIENCE)).expect("a TCP socket");
        stream.set_write_timeout(Some(PATIENCE)).expect("a TCP socket");
        Self {
            stream,
            received: Vec::new(),
        }
    }

    /// A second handle on the connection, for writing while this one reads.
    pub fn writer(&self) -> TcpStream {
        self.stream.try_clone().expect("a TCP socket")
    }

    pub fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the server reads");
    }

    /// Sends a command; `false` when the server is gone.
    pub fn try_write(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// The next reply as raw bytes; `None` when the connection ended before it was whole.
    pub fn try_reply(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(bytes) = reply_bytes(&self.received) {
                return Some(self.received.drain(..bytes).collect());
            }
            let mut more = [0; 64 * 1024];
            match self.stream.read(&mut more) {
                Ok(0) => return None,
                Ok(bytes) => self.received.extend_from_slice(&more[..bytes]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("no reply: {error}; so far {}", self.received.escape_ascii()),
            }
        }
    }

    pub fn reply(&mut self) -> Vec<u8> {
        self.try_reply().expect("a reply before the end")
    }

    /// Sends one command and returns its reply.
    pub fn call(&mut self, arguments: &[&[u8]]) -> Vec<u8> {
        self.write(&encode(arguments));
        self.reply()
    }

    /// Sends a line of words, and returns the reply as text.
    pub fn say(&mut self, line: &str) -> String {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        String::from_utf8_lossy(&self.call(&words)).into_owned()
    }

    /// What the server still sends until it closes.
    pub fn rest(mut self) -> Vec<u8> {
        let mut rest = std::mem::take(&mut self.received);
        // A reset is an end, too: it comes when the server closes with bytes unread.
        let _reset = self.stream.read_to_end(&mut rest);
        rest
    }
}

/// A command as clients send it.
pub fn encode(arguments: &[&[u8]]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", arguments.len()).into_bytes();
    for argument in arguments {
        out.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
        out.extend_from_slice(argument);
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// A bulk reply.
pub fn bulk(value: &[u8]) -> Vec<u8> {
    encode(&[value])[4..].to_vec()
}

/// The length of the reply at the start of `bytes`, once it is whole.
pub fn reply_bytes(bytes: &[u8]) -> Option<usize> {
    let line = bytes.windows(2).position(|pair| pair == b"\r\n")? + 2;
    let number = || {
        std::str::from_utf8(&bytes[1..line - 2])
            .expect("a number")
            .parse::<i64>()
            .expect("a number")
    };
    let items = match bytes[0] {
        b'+' | b'-' | b':' | b'_' => return Some(line),
        b'$' | b'=' => {
            let end = usize::try_from(number()).map_or(line, |length| line + length + 2);
            return (bytes.len() >= end).then_some(end);
        }
        b'*' | b'~' => number(),
        b'%' => number() * 2,
        other => panic!("a reply does not start with {:?}", char::from(other)),
    };
    let mut end = line;
    for _ in 0..items {
        end += reply_bytes(&bytes[end..])?;
    }
    Some(end)
}
