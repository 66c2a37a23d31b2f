//! A server as a child process: started on its cores, waited for until it listens, its processor time read, ended.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use corelane::api::Runtime;

use crate::error::{BenchError, Kind};
use crate::servers::plan::Server;

/// A server that listens later than this is taken not to.
const PATIENCE: Duration = Duration::from_secs(20);

/// Between two looks at whether it listens.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Unit of the times in `/proc/PID/stat`: fixed at 100 a second for user space (proc(5), sysconf `_SC_CLK_TCK`).
const TICKS_A_SECOND: f64 = 100.0;

/// Where the programs are.
#[derive(Debug, Clone, Copy)]
pub struct Programs<'a> {
    /// Our server.
    pub corelane: &'a Path,
    /// What carries its cores.
    pub runtime: Runtime,
    /// Redis's.
    pub redis: &'a Path,
}

/// A running server; ended when dropped.
#[derive(Debug)]
pub struct Peer {
    child: Child,
    /// Where it listens on loopback.
    pub port: u16,
}

impl Peer {
    /// Starts `server` over the empty directory `dir`, on the first `cores` cores of this machine.
    ///
    /// # Errors
    /// The program is not there, ended, or does not listen.
    pub fn start(
        server: Server,
        programs: Programs<'_>,
        dir: &Path,
        cores: usize,
    ) -> Result<Self, BenchError> {
        let port = free_port()?;
        let list = format!("0-{}", cores.saturating_sub(1));
        let command = command(server, programs, dir, port, cores, &list);
        Self::spawn(command, server.name(), port)
    }

    /// Starts a command that becomes a server on `port`; `name` is for errors.
    ///
    /// # Errors
    /// The program is not there, ended, or does not listen.
    pub fn spawn(mut command: Command, name: &str, port: u16) -> Result<Self, BenchError> {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| machine(format!("starting {name}: {e}")))?;
        let mut peer = Self { child, port };
        peer.wait_until_it_listens(name)?;
        Ok(peer)
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn wait_until_it_listens(&mut self, name: &str) -> Result<(), BenchError> {
        let began = Instant::now();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        while TcpStream::connect(address).is_err() {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(machine(format!("{name} ended before it listened: {status}")));
            }
            if began.elapsed() > PATIENCE {
                return Err(machine(format!("{name} does not listen on {address}")));
            }
            sleep(LOOK_AGAIN);
        }
        Ok(())
    }

    /// Processor time that all its threads took so far, in seconds.
    ///
    /// # Errors
    /// It has ended.
    pub fn cpu_seconds(&self) -> Result<f64, BenchError> {
        let path = format!("/proc/{}/stat", self.child.id());
        let stat = std::fs::read_to_string(&path).map_err(|e| machine(format!("reading {path}: {e}")))?;
        ticks(&stat)
            .map(|ticks| ticks / TICKS_A_SECOND)
            .ok_or_else(|| machine(format!("{path} is not as proc(5) draws it")))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Its data is thrown away: there is nothing to end cleanly for.
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}

fn command(
    server: Server,
    programs: Programs<'_>,
    dir: &Path,
    port: u16,
    cores: usize,
    list: &str,
) -> Command {
    // Pinned by taskset, which is on every Linux machine, rather than by the servers' own options: both alike.
    let mut command = Command::new("taskset");
    command.args(["-c", list]);
    match server {
        Server::Redis | Server::RedisIoThreads => {
            command.arg(programs.redis).args(["--port", &port.to_string()]);
            command.args(["--appendonly", "yes", "--appendfsync", "always", "--save", ""]);
            command.arg("--dir").arg(dir);
            if server == Server::RedisIoThreads {
                command.args(["--io-threads", &cores.to_string()]);
            }
        }
        Server::Corelane | Server::CorelanePortPerCore => {
            command
                .arg(programs.corelane)
                .args(["serve", "--port", &port.to_string()]);
            command
                .args(["--runtime", &programs.runtime.to_string()])
                .args(["--cores", list])
                .arg("--data-dir")
                .arg(dir.join("data"));
            if server == Server::CorelanePortPerCore {
                command.arg("--cluster");
            }
        }
    }
    command
}

/// User and system time of `/proc/PID/stat`: fields 14 and 15, counted behind the name, which may hold anything.
fn ticks(stat: &str) -> Option<f64> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    let mut fields = behind_name.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// A port that was free a moment ago. Below those that the kernel gives to clients, so that none of them takes it.
///
/// # Errors
/// None is.
pub fn free_port() -> Result<u16, BenchError> {
    (20_000..30_000)
        .step_by(16)
        .find(|&port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok())
        .ok_or_else(|| machine("no port between 20000 and 30000 is free".to_owned()))
}

fn machine(words: String) -> BenchError {
    BenchError::new(Kind::Machine, words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_any_name() {
        let stat = "12 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0";
        assert_eq!(ticks(stat), Some(300.0));
        assert_eq!(ticks("12 no name"), None);
    }

    #[test]
    fn a_program_that_is_not_there_is_told() {
        let programs = Programs {
            corelane: Path::new("/none/corelane"),
            runtime: Runtime::Auto,
            redis: Path::new("/none/redis-server"),
        };
        let dir = crate::machine::test_dir();
        let error = Peer::start(Server::Redis, programs, dir.path(), 1)
            .unwrap_err()
            .to_string();
        assert!(error.contains("Redis ended before it listened"), "{error}");
    }
}
