//! What is measured: which servers, on how many cores, with which commands.

use serde::{Deserialize, Serialize};

/// A server and how it is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Server {
    /// `redis-server` with `appendonly yes`, `appendfsync always`: a write is answered once it was synced.
    Redis,
    /// The same with as many I/O threads as cores.
    RedisIoThreads,
    /// Ours, every key through the common port.
    Corelane,
    /// Ours, each key sent to the port of the core that owns it.
    CorelanePortPerCore,
}

impl Server {
    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Redis => "Redis",
            Self::RedisIoThreads => "Redis, I/O threads",
            Self::Corelane => "corelane",
            Self::CorelanePortPerCore => "corelane, port a core",
        }
    }

    /// Whether its way of working differs from the plain one on so many cores.
    fn makes_sense_on(self, cores: usize) -> bool {
        match self {
            Self::Redis | Self::Corelane => true,
            Self::RedisIoThreads | Self::CorelanePortPerCore => cores > 1,
        }
    }
}

/// One row of the table: what all servers do in turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// Cores that the server has.
    pub cores: usize,
    /// `set` or `get`.
    pub set: bool,
    /// Commands sent together by each client.
    pub pipeline: u32,
}

impl Work {
    /// The test as redis-benchmark calls it.
    pub fn test(self) -> &'static str {
        if self.set { "set" } else { "get" }
    }

    /// Its name in tables.
    pub fn name(self) -> String {
        let cores = match self.cores {
            1 => "1 core".to_owned(),
            n => format!("{n} cores"),
        };
        let pipeline = match self.pipeline {
            1 => String::new(),
            n => format!(", pipeline {n}"),
        };
        format!("{} {cores}{pipeline}", self.test().to_uppercase())
    }
}

/// The servers to compare on so many cores.
pub fn servers(cores: usize) -> Vec<Server> {
    [
        Server::Redis,
        Server::RedisIoThreads,
        Server::Corelane,
        Server::CorelanePortPerCore,
    ]
    .into_iter()
    .filter(|server| server.makes_sense_on(cores))
    .collect()
}

/// The rows for so many cores. Writes come first: they fill in what is read then.
pub fn works(cores: usize) -> Vec<Work> {
    let mut works = Vec::new();
    for set in [true, false] {
        for pipeline in [1, 32] {
            works.push(Work { cores, set, pipeline });
        }
    }
    works
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_core_has_neither_io_threads_nor_ports_a_core() {
        assert_eq!(servers(1), [Server::Redis, Server::Corelane]);
        assert_eq!(servers(2).len(), 4);
    }

    #[test]
    fn reads_come_behind_the_writes_that_fill_in_their_keys() {
        let names: Vec<_> = works(2).into_iter().map(Work::name).collect();
        assert_eq!(
            names,
            [
                "SET 2 cores",
                "SET 2 cores, pipeline 32",
                "GET 2 cores",
                "GET 2 cores, pipeline 32"
            ]
        );
    }
}
