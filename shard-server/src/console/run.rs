//! Runs commands on a connection that is made when it is needed, and prints what comes back.

use std::io::{self, Write as _};

use super::state::State;
use super::words::{self, Line};
use super::{Format, json, print, table};
use crate::remote::{Remote, RemoteError, Reply, Target};

/// How a line ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It was answered, or said nothing.
    Well,
    /// It was answered by an error.
    Failed,
    /// There was no answer.
    Unanswered,
    /// It asks for the end of the session.
    Quit,
}

/// A console: whom it talks to, and how it shows answers.
#[derive(Debug)]
pub struct Console {
    target: Target,
    format: Format,
    remote: Option<Remote>,
    state: State,
}

impl Console {
    /// Not connected yet.
    pub fn new(target: Target, format: Format) -> Self {
        Self {
            target,
            format,
            remote: None,
            state: State::default(),
        }
    }

    /// Connects where there is no connection.
    ///
    /// # Errors
    /// Why there is none.
    pub fn connect(&mut self) -> Result<&mut Remote, RemoteError> {
        // A connection that the server has closed meanwhile can be replaced: nothing is under way on it.
        if self.remote.as_ref().is_some_and(Remote::ended) {
            self.disconnect();
        }
        match &mut self.remote {
            Some(remote) => Ok(remote),
            none => Ok(none.insert(Remote::connect(&self.target)?)),
        }
    }

    /// Talks to another server from now on.
    pub fn retarget(&mut self, host: String, port: u16) {
        self.target.host = host;
        self.target.port = port;
        self.disconnect();
    }

    fn disconnect(&mut self) {
        self.remote = None;
        if std::mem::take(&mut self.state).in_transaction {
            complain("the connection ended, and the transaction with it: nothing of it was run");
        }
    }

    /// What stands before the line to be typed.
    pub fn prompt(&self) -> String {
        let address = self.remote.as_ref().map(|_| self.target.to_string());
        self.state.prompt(address.as_deref())
    }

    /// Runs what a line says, as often as it says.
    pub fn line(&mut self, line: &[u8]) -> Ended {
        let Line { times, words } = match words::read(line) {
            Ok(None) => return Ended::Well,
            Ok(Some(line)) => line,
            Err(why) => {
                complain(why);
                return Ended::Failed;
            }
        };
        if words.len() == 1 && [b"quit".as_slice(), b"exit"].contains(&&*words[0].to_ascii_lowercase()) {
            return Ended::Quit;
        }
        let mut ended = Ended::Well;
        for _ in 0..times {
            ended = self.command(&words);
            if ended == Ended::Unanswered {
                break;
            }
        }
        ended
    }

    /// Runs one command and prints its answer.
    pub fn command(&mut self, words: &[Vec<u8>]) -> Ended {
        match self.connect().and_then(|remote| remote.call(words)) {
            Ok(reply) => {
                self.state.after(words, &reply);
                self.show(words, &reply);
                if reply.failed() {
                    Ended::Failed
                } else {
                    Ended::Well
                }
            }
            Err(why) => {
                complain(why);
                self.disconnect();
                Ended::Unanswered
            }
        }
    }

    fn show(&self, words: &[Vec<u8>], reply: &Reply) {
        let mut out = Vec::new();
        match self.format {
            Format::Json => json::json(&mut out, reply),
            _ if print::is_laid_out(words) => print::raw(&mut out, reply),
            Format::Standard => print::standard(&mut out, reply),
            Format::Table => table::table(&mut out, words, reply),
            Format::Raw => {
                print::raw(&mut out, reply);
                out.push(b'\n');
            }
        }
        let mut stdout = io::stdout().lock();
        // A reader that has gone away, such as `head`, wants no more.
        let _gone = stdout.write_all(&out).and_then(|()| stdout.flush());
    }
}

/// One line on standard error.
pub fn complain(why: impl std::fmt::Display) {
    let _gone = writeln!(io::stderr(), "{why}");
}
