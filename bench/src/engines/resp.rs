//! Any server that speaks Redis's protocol: ours, Redis, Kvrocks, Dragonfly. One connection a caller.
//!
//! The server is started and configured by whoever measures it; what it says of itself (`INFO`, `CONFIG GET`) goes into the
//! fairness table, and so does the fact that a write is answered as *it* was configured, not as the run asks. Its
//! database must be empty: nothing is ever deleted here that the bench did not write, so each repeat needs a fresh server
//! or `--resp-flush`, which sends `FLUSHALL`. Scans need `KV.SCAN`, which the Corelane server has.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use redis::{Connection, ConnectionLike, RedisResult, Value, cmd};

use crate::engines::{Client, Counters, Engine, Fairness, Visit, on_threads};
use crate::error::{BenchError, Kind};
use crate::load::job::Job;
use crate::spec::Durability;

/// Entries of a page when the whole database is walked.
const PAGE_ENTRIES: usize = 1000;
/// A server that does not answer for so long has hung.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A server, and what it says of itself.
pub struct Resp {
    client: redis::Client,
    address: String,
    has_scan: bool,
    server: Option<u32>,
    fairness: Fairness,
}

impl Resp {
    /// Connects to `host:port`; `flush` empties the server first, else it must be empty.
    ///
    /// # Errors
    /// The connection's or the server's, or that it is not empty.
    pub fn open(address: &str, flush: bool) -> Result<Self, BenchError> {
        let opening = |e: &dyn std::fmt::Display| {
            BenchError::new(Kind::Open, format!("connecting to the server at {address}: {e}"))
        };
        let client = redis::Client::open(format!("redis://{address}/")).map_err(|e| opening(&e))?;
        let mut connection = connect(&client).map_err(|e| opening(&e))?;
        if flush {
            cmd("FLUSHALL").exec(&mut connection).map_err(|e| opening(&e))?;
        }
        let size: u64 = cmd("DBSIZE").query(&mut connection).map_err(|e| opening(&e))?;
        if size > 0 {
            let words =
                format!("it holds {size} keys; start an empty one, or let --resp-flush delete them all");
            return Err(opening(&words));
        }
        let info: String = cmd("INFO").query(&mut connection).map_err(|e| opening(&e))?;
        let info = lines_of(&info);
        let local =
            address.starts_with("127.") || address.starts_with("localhost") || address.starts_with("[::1]");
        Ok(Self {
            has_scan: knows(&mut connection, "KV.SCAN"),
            server: info
                .get("process_id")
                .filter(|_| local)
                .and_then(|id| id.parse().ok()),
            fairness: fairness(&mut connection, &info, address),
            client,
            address: address.to_owned(),
        })
    }

    /// A caller with a connection of its own.
    ///
    /// # Errors
    /// The connection's.
    pub fn caller(&self) -> Result<Caller, BenchError> {
        Ok(Caller(RefCell::new(self.connection()?)))
    }

    fn connection(&self) -> Result<Connection, BenchError> {
        connect(&self.client).map_err(|e| BenchError::engine(&format!("connecting to {}", self.address), e))
    }
}

fn connect(client: &redis::Client) -> RedisResult<Connection> {
    let connection = client.get_connection_with_timeout(TIMEOUT)?;
    connection.set_read_timeout(Some(TIMEOUT))?;
    connection.set_write_timeout(Some(TIMEOUT))?;
    Ok(connection)
}

/// Whether a server has a command.
fn knows(connection: &mut Connection, name: &str) -> bool {
    let info = cmd("COMMAND")
        .arg("INFO")
        .arg(name)
        .query::<Vec<Value>>(connection);
    info.is_ok_and(|found| found.first().is_some_and(|command| *command != Value::Nil))
}

/// `name:value` lines of `INFO`.
fn lines_of(info: &str) -> HashMap<String, String> {
    let pairs = info.lines().filter_map(|line| line.trim().split_once(':'));
    pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

fn fairness(connection: &mut Connection, info: &HashMap<String, String>, address: &str) -> Fairness {
    let mut config = |name: &str| {
        let pairs = cmd("CONFIG")
            .arg("GET")
            .arg(name)
            .query::<Vec<String>>(connection);
        pairs.ok().and_then(|pairs| pairs.get(1).cloned())
    };
    let settings: Vec<String> = ["appendonly", "appendfsync", "save", "durability", "maxmemory"]
        .into_iter()
        .filter_map(|name| Some(format!("{name}={}", config(name)?)))
        .collect();
    let said = |names: &[&str]| {
        let found = names.iter().find_map(|name| info.get(*name));
        found.cloned().unwrap_or_else(|| "not said".to_owned())
    };
    let name = if info.contains_key("corelane_version") {
        "corelane server"
    } else {
        "server"
    };
    Fairness {
        engine: format!(
            "{name} {} at {address}",
            said(&["corelane_version", "redis_version"])
        ),
        durability: format!(
            "as the server is configured, whatever the run asks: {}",
            settings.join(" ")
        ),
        io: "as the server".to_owned(),
        cache_bytes: None,
        memtable_bytes: None,
        compression: "as the server".to_owned(),
        threads: "one connection and one thread a caller, no pipelining".to_owned(),
        cores: "as the server; it shares the machine with the callers".to_owned(),
        choices: vec![
            "cache, memtables and cores are the server's own settings: give it the run's".to_owned(),
        ],
    }
}

impl Engine for Resp {
    fn fairness(&self) -> &Fairness {
        &self.fairness
    }

    fn run(&self, job: &Arc<Job>) -> Result<(), BenchError> {
        on_threads(job, || self.caller())
    }

    fn counters(&self) -> Counters {
        Counters::default()
    }

    fn settle(&self) -> Result<(), BenchError> {
        Ok(())
    }

    fn server(&self) -> Option<u32> {
        self.server
    }

    fn scans(&self) -> bool {
        self.has_scan
    }

    fn walk(&self, visit: &mut Visit<'_>) -> Result<(), BenchError> {
        let mut connection = self.connection()?;
        let failed = |e| BenchError::engine("walking the server", e);
        let mut cursor = "0".to_owned();
        loop {
            let page = cmd("SCAN")
                .arg(&cursor)
                .arg("COUNT")
                .arg(PAGE_ENTRIES)
                .query(&mut connection);
            let (next, keys): (String, Vec<Vec<u8>>) = page.map_err(failed)?;
            if !keys.is_empty() {
                let mut gets = redis::pipe();
                for key in &keys {
                    gets.get(key);
                }
                let values: Vec<Option<Vec<u8>>> = gets.query(&mut connection).map_err(failed)?;
                for (key, value) in keys.iter().zip(&values) {
                    let value = value.as_deref();
                    visit(
                        key,
                        value.ok_or_else(|| BenchError::wrong("a key of SCAN has no value"))?,
                    )?;
                }
            }
            cursor = next;
            if cursor == "0" {
                return Ok(());
            }
        }
    }
}

/// The server as one connection sees it.
pub struct Caller(RefCell<Connection>);

impl Caller {
    fn ask<T: redis::FromRedisValue>(&self, command: &redis::Cmd, doing: &str) -> Result<T, BenchError> {
        let mut connection = self.0.borrow_mut();
        let answer = connection
            .req_command(command)
            .and_then(|value| Ok(redis::from_redis_value(value)?));
        answer.map_err(|e| BenchError::engine(doing, e))
    }
}

impl Client for Caller {
    async fn put(&self, key: &[u8], value: &[u8], _as_configured: Durability) -> Result<(), BenchError> {
        self.ask(cmd("SET").arg(key).arg(value), "SET")
    }

    async fn get<R>(&self, key: &[u8], mut check: impl FnMut(Option<&[u8]>) -> R) -> Result<R, BenchError> {
        let value: Option<Vec<u8>> = self.ask(cmd("GET").arg(key), "GET")?;
        Ok(check(value.as_deref()))
    }

    async fn delete(&self, key: &[u8], _as_configured: Durability) -> Result<(), BenchError> {
        self.ask(cmd("DEL").arg(key), "DEL")
    }

    async fn scan(
        &self,
        start: &[u8],
        limit: usize,
        mut visit: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), BenchError> {
        let command = cmd("KV.SCAN").arg(start).arg("+").arg("LIMIT").arg(limit).clone();
        let flat: Vec<Vec<u8>> = self.ask(&command, "KV.SCAN")?;
        let _all = flat.chunks_exact(2).all(|entry| visit(&entry[0], &entry[1]));
        Ok(())
    }
}
