//! The processes: the server that is measured, the one that controls suffer, and the hostile clients, each on its cores.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::error::{BenchError, Kind as Fault};
use crate::hostile::clients::Served;
use crate::hostile::kinds::{Kind, SECRET_HASH, USER};
use crate::servers::peer::{Peer, free_port};

/// Clients that the server takes: those that do nothing, and room for the others.
const MAX_CLIENTS: u32 = 12_000;
/// A hostile process that has not ended by then is ended.
const END: Duration = Duration::from_secs(20);
/// Between two looks at whether it has.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Which cores are whose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cores {
    /// The server's, as taskset and the server take it.
    pub server: String,
    /// Everybody else's.
    pub clients: String,
    /// The same as numbers.
    pub clients_list: Vec<usize>,
}

impl Cores {
    /// The first for the server, the others for clients.
    ///
    /// # Errors
    /// There are not two.
    pub fn split(mut all: Vec<usize>) -> Result<Self, BenchError> {
        all.sort_unstable();
        match all.split_first() {
            Some((first, rest)) if !rest.is_empty() => Ok(Self {
                server: first.to_string(),
                clients: rest.iter().map(usize::to_string).collect::<Vec<_>>().join(","),
                clients_list: rest.to_vec(),
            }),
            _ => Err(machine(
                "the server and its clients need a core each, and there is one",
            )),
        }
    }
}

/// Starts the server that is measured, alone on its core; with `decoy` the one that controls suffer, which sits on the
/// clients' cores and takes what they leave.
///
/// # Errors
/// The program is not there, ended, or does not listen.
pub fn start(
    corelane: &Path,
    dir: &Path,
    cores: &Cores,
    kind: Kind,
    decoy: bool,
) -> Result<Peer, BenchError> {
    std::fs::create_dir_all(dir).map_err(|e| BenchError::file("making", dir, e))?;
    let port = free_port()?;
    let mut command = if decoy {
        cores.of_the_rest()
    } else {
        // Of the usual policy, as any server: this thread's own would be inherited.
        let mut command = Command::new("chrt");
        command.args(["--other", "0", "taskset", "-c", &cores.server]);
        command
    };
    // The decoy needs one core as the other has.
    let on = if decoy {
        cores.clients_list[0].to_string()
    } else {
        cores.server.clone()
    };
    command
        .arg(corelane)
        .args(["serve", "--no-admin", "--port", &port.to_string()]);
    command.args(["--cores", &on, "--max-clients", &MAX_CLIENTS.to_string()]);
    command.arg("--data-dir").arg(dir.join("data"));
    if kind.has_users() {
        let file = dir.join("users.toml");
        let users =
            format!("[[users]]\nname = \"{USER}\"\nrole = \"admin\"\nsecret_hash = \"{SECRET_HASH}\"\n");
        std::fs::write(&file, users).map_err(|e| BenchError::file("writing", &file, e))?;
        command.arg("--config").arg(file);
    }
    Peer::spawn(command, "corelane", port)
}

impl Cores {
    /// Gives this thread, and those that it begins, the clients' first core, and tells whether it has it before all
    /// others there (`SCHED_FIFO`, sched(7)), which only the privileged may ask for.
    ///
    /// # Errors
    /// The kernel refuses the core.
    pub fn take(&self) -> Result<bool, BenchError> {
        let id = self.clients_list[0];
        if !core_affinity::set_for_current(core_affinity::CoreId { id }) {
            return Err(machine("the polite clients could not be pinned on their core"));
        }
        let this = rustix::thread::gettid().as_raw_nonzero().to_string();
        let asked = Command::new("chrt")
            .args(["--fifo", "--pid", "1", &this])
            .stderr(Stdio::null())
            .status()
            .map_err(|e| machine(format!("starting chrt (util-linux): {e}")))?;
        Ok(asked.success())
    }

    /// What a command line begins with that takes what polite clients leave of their cores: what runs there only when
    /// nobody else wants the core (`SCHED_IDLE`, sched(7)).
    fn of_the_rest(&self) -> Command {
        let mut command = Command::new("chrt");
        command.args(["--idle", "0", "taskset", "-c", &self.clients]);
        command
    }
}

/// A running hostile process; ended when dropped.
#[derive(Debug)]
pub struct Hostile {
    child: Child,
    stdin: Option<ChildStdin>,
    said: BufReader<ChildStdout>,
}

impl Hostile {
    /// Starts it against the server on `port`, and waits until its connections stand.
    ///
    /// # Errors
    /// It ended first.
    pub fn start(kind: Kind, port: u16, cores: &Cores) -> Result<Self, BenchError> {
        let this = std::env::current_exe().map_err(|e| machine(format!("where is this program: {e}")))?;
        let name = clap::ValueEnum::to_possible_value(&kind)
            .ok_or_else(|| BenchError::bug("every kind has a name on the command line"))?;
        let mut child = cores
            .of_the_rest()
            .arg(this)
            .args([
                "hostile-clients",
                "--kind",
                name.get_name(),
                "--port",
                &port.to_string(),
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| machine(format!("starting chrt (util-linux): {e}")))?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(BenchError::bug("both ends were asked for"));
        };
        let mut hostile = Self {
            child,
            stdin: Some(stdin),
            said: BufReader::new(stdout),
        };
        let mut line = String::new();
        hostile
            .said
            .read_line(&mut line)
            .map_err(|e| machine(format!("hearing hostile clients: {e}")))?;
        if line == "ready\n" {
            Ok(hostile)
        } else {
            Err(machine(format!(
                "hostile clients ({}) ended before they were ready",
                kind.name()
            )))
        }
    }

    /// Ends it, and tells what it did.
    ///
    /// # Errors
    /// It did not end, or failed.
    pub fn end(mut self) -> Result<Served, BenchError> {
        drop(self.stdin.take());
        let asked = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if asked.elapsed() > END {
                return Err(machine("hostile clients do not end"));
            }
            sleep(LOOK_AGAIN);
        }
        let mut line = String::new();
        self.said
            .read_to_string(&mut line)
            .map_err(|e| machine(format!("hearing hostile clients: {e}")))?;
        serde_json::from_str(&line).map_err(|e| machine(format!("hostile clients said {line:?}: {e}")))
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        // It has ended already, or what it was started for has failed.
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}

fn machine(words: impl Into<String>) -> BenchError {
    BenchError::new(Fault::Machine, words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_has_a_core_that_nobody_else_has() {
        let cores = Cores::split(vec![3, 1, 2]).unwrap();
        assert_eq!((cores.server.as_str(), cores.clients.as_str()), ("1", "2,3"));
        assert_eq!(cores.clients_list, [2, 3]);
        assert!(Cores::split(vec![0]).is_err());
    }
}
