//! A connection to a running server, for the tools: one command out, its answer in.
//!
//! It blocks, and runs in a process of its own: nothing here is on a shard's core.

pub mod flags;
pub mod reply;

use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use redis::{Parser, Value};

use crate::resp::reply as wire;
pub use reply::Reply;

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(5);

/// Longest answer that is taken: a server that sends more without end must not take all memory with it.
const MAX_REPLY_BYTES: u64 = 1 << 30;

/// Whom to talk to, and as whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Name or address of the machine.
    pub host: String,
    /// Port of the server.
    pub port: u16,
    /// The user; `None` for the default one.
    pub user: Option<String>,
    /// The secret; `None` for not saying who one is.
    pub secret: Option<String>,
    /// Whether to ask for RESP3; `None` for saying nothing about it.
    pub resp3: Option<bool>,
    /// How long an answer may take; `None` for as long as it likes.
    pub patience: Option<Duration>,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RemoteError {
    /// No connection was made; nothing was sent.
    Unreachable(String),
    /// The server refuses us, in its own words; no command was sent.
    Refused(String),
    /// The connection ended while a command was under way: it may have run, or not.
    Lost(String),
}

impl fmt::Display for RemoteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(why) | Self::Refused(why) | Self::Lost(why) => f.write_str(why),
        }
    }
}

/// One connection.
pub struct Remote {
    stream: TcpStream,
    parser: Parser,
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote")
            .field("stream", &self.stream)
            .finish_non_exhaustive()
    }
}

impl Remote {
    /// Connects, and says who we are and which protocol we want where `target` has it.
    ///
    /// # Errors
    /// [`RemoteError::Unreachable`] or [`RemoteError::Refused`], naming the server and what to try.
    pub fn connect(target: &Target) -> Result<Self, RemoteError> {
        let stream = reach(target).map_err(|error| {
            RemoteError::Unreachable(format!(
                "Could not connect to {target}: {error}; is the server running (corelane serve), and is this its \
                 address (-h HOST -p PORT)?"
            ))
        })?;
        let mut remote = Self {
            stream,
            parser: Parser::new(),
        };
        if let Some(secret) = &target.secret {
            let user = target.user.iter().map(String::as_str);
            let words: Vec<&str> = ["AUTH"]
                .into_iter()
                .chain(user)
                .chain([secret.as_str()])
                .collect();
            remote.introduce(target, &words)?;
        }
        match target.resp3 {
            Some(true) => remote.introduce(target, &["HELLO", "3"])?,
            Some(false) => remote.introduce(target, &["HELLO", "2"])?,
            None => {}
        }
        Ok(remote)
    }

    fn introduce(&mut self, target: &Target, words: &[&str]) -> Result<(), RemoteError> {
        match self.call(words)? {
            Reply::Error(why) => Err(RemoteError::Refused(format!(
                "{} at {target} was refused: {}",
                words[0],
                String::from_utf8_lossy(&why)
            ))),
            _ => Ok(()),
        }
    }

    /// Sends one command and waits for its answer. What the server sends unasked meanwhile is left out.
    ///
    /// # Errors
    /// [`RemoteError::Lost`]: the connection cannot be used any more.
    pub fn call<W: AsRef<[u8]>>(&mut self, words: &[W]) -> Result<Reply, RemoteError> {
        let mut request = Vec::new();
        wire::array(&mut request, words.len());
        words
            .iter()
            .for_each(|word| wire::bulk(&mut request, word.as_ref()));
        let sent = self.stream.write_all(&request);
        // A server that turns a client away says why before it closes, so that its words come before the error.
        let answer = self.answer();
        match (sent, answer) {
            (_, Ok(reply)) => Ok(reply),
            (Err(error), Err(_)) => Err(lost(error)),
            (Ok(()), Err(why)) => Err(why),
        }
    }

    /// Whether the server has closed the connection since the last answer.
    pub fn ended(&self) -> bool {
        let seen = self
            .stream
            .set_nonblocking(true)
            .and_then(|()| self.stream.peek(&mut [0]));
        let blocking = self.stream.set_nonblocking(false);
        let alive = match seen {
            Ok(bytes) => bytes > 0,
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        };
        !alive || blocking.is_err()
    }

    fn answer(&mut self) -> Result<Reply, RemoteError> {
        loop {
            let mut bounded = (&self.stream).take(MAX_REPLY_BYTES);
            match self.parser.parse_value(&mut bounded) {
                Ok(Value::Push { .. }) => {}
                Ok(value) => return Ok(value.into()),
                Err(_) if bounded.limit() == 0 => {
                    return Err(RemoteError::Lost(format!(
                        "The answer is longer than {MAX_REPLY_BYTES} bytes; ask for less at once"
                    )));
                }
                Err(error) if error.is_timeout() => {
                    return Err(lost("the server does not answer"));
                }
                Err(error) if error.is_io_error() => return Err(lost(&error)),
                Err(error) => {
                    return Err(RemoteError::Lost(format!(
                        "What the server sent is not the Redis protocol: {error}"
                    )));
                }
            }
        }
    }
}

fn lost(why: impl fmt::Display) -> RemoteError {
    RemoteError::Lost(format!(
        "The connection ended before the answer came, and it is not known whether the command ran: {why}"
    ))
}

/// Tries the addresses that the name has, one after the other.
fn reach(target: &Target) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in (target.host.as_str(), target.port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                stream.set_read_timeout(target.patience)?;
                stream.set_write_timeout(target.patience)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// A server of one connection that reads a command and sends `pieces`, one packet each.
    fn scripted(pieces: &'static [&'static [u8]]) -> (Target, std::thread::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        #[expect(clippy::disallowed_methods, reason = "the other end of a socket of this test")]
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_nodelay(true).unwrap();
            let mut command = [0; 1024];
            let _bytes = stream.read(&mut command).unwrap();
            for piece in pieces {
                stream.write_all(piece).unwrap();
            }
        });
        let target = Target {
            host: "127.0.0.1".to_owned(),
            port,
            user: None,
            secret: None,
            resp3: None,
            patience: Some(Duration::from_secs(30)),
        };
        (target, server)
    }

    #[test]
    fn an_answer_in_pieces_that_end_like_a_whole_one_is_put_together() {
        let (target, server) = scripted(&[b"*2\r\n$4\r\n", b"a\r\n", b"b\r\n", b":1\r\n"]);
        let mut remote = Remote::connect(&target).unwrap();
        assert_eq!(
            remote.call(&["PING"]).unwrap(),
            Reply::Array(vec![Reply::Bulk(b"a\r\nb".to_vec()), Reply::Integer(1)])
        );
        server.join().unwrap();
        assert!(remote.ended());
    }

    #[test]
    fn what_is_sent_unasked_is_left_out() {
        let (target, server) = scripted(&[b">1\r\n+x\r\n+PONG\r\n"]);
        let mut remote = Remote::connect(&target).unwrap();
        assert_eq!(remote.call(&["PING"]).unwrap(), Reply::Status(b"PONG".to_vec()));
        server.join().unwrap();
    }

    #[test]
    fn a_server_that_closes_or_speaks_otherwise_is_an_error_in_words() {
        let (target, server) = scripted(&[b"$10\r\nabc"]);
        let why = Remote::connect(&target).unwrap().call(&["PING"]).unwrap_err();
        assert!(why.to_string().contains("not known whether"), "{why}");
        server.join().unwrap();
        let (target, server) = scripted(&[b"220 mail.example ESMTP\r\n"]);
        let why = Remote::connect(&target).unwrap().call(&["PING"]).unwrap_err();
        assert!(why.to_string().contains("not the Redis protocol"), "{why}");
        server.join().unwrap();
    }

    #[test]
    fn nobody_there_is_told_with_what_to_try() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let target = Target {
            host: "127.0.0.1".to_owned(),
            port,
            user: None,
            secret: None,
            resp3: Some(true),
            patience: None,
        };
        let why = Remote::connect(&target).unwrap_err().to_string();
        assert!(
            why.contains(&format!("127.0.0.1:{port}")) && why.contains("corelane serve"),
            "{why}"
        );
    }
}
