//! Which engine: its name on the command line, and how it is opened.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use crate::engines::Engine;
use crate::engines::corelane::Corelane;
use crate::engines::fjall::Fjall;
use crate::engines::redb::Redb;
use crate::engines::resp::Resp;
use crate::error::BenchError;
use crate::run::Open;
use crate::spec::EngineOptions;

/// An engine that can be measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EngineChoice {
    /// The engine, callers on its cores.
    Corelane,
    /// The engine, callers on threads outside.
    Handle,
    /// fjall.
    Fjall,
    /// redb.
    Redb,
    /// RocksDB, where the bench was built with it.
    RocksDb,
    /// LMDB, where the bench was built with it.
    Lmdb,
    /// A server that speaks Redis's protocol.
    Resp {
        /// `host:port`.
        address: String,
        /// Whether it is emptied first, by `FLUSHALL`.
        flush: bool,
    },
}

impl EngineChoice {
    /// The same, where a server is emptied before each repeat.
    #[must_use]
    pub fn flushed(self) -> Self {
        match self {
            Self::Resp { address, .. } => Self::Resp { address, flush: true },
            other => other,
        }
    }
}

impl Open for EngineChoice {
    fn name(&self) -> String {
        self.to_string()
    }

    fn open(&self, dir: &Path, options: &EngineOptions) -> Result<Box<dyn Engine>, BenchError> {
        Ok(match self {
            Self::Corelane => Box::new(Corelane::open(dir, options, true)?),
            Self::Handle => Box::new(Corelane::open(dir, options, false)?),
            Self::Fjall => Box::new(Fjall::open(dir, options)?),
            Self::Redb => Box::new(Redb::open(dir, options)?),
            Self::RocksDb => return rocksdb(dir, options),
            Self::Lmdb => return lmdb(dir, options),
            Self::Resp { address, flush } => Box::new(Resp::open(address, *flush)?),
        })
    }
}

#[cfg(feature = "rocksdb")]
fn rocksdb(dir: &Path, options: &EngineOptions) -> Result<Box<dyn Engine>, BenchError> {
    Ok(Box::new(crate::engines::rocksdb::Rocks::open(dir, options)?))
}

#[cfg(not(feature = "rocksdb"))]
fn rocksdb(_dir: &Path, _options: &EngineOptions) -> Result<Box<dyn Engine>, BenchError> {
    Err(BenchError::usage(
        "this bench was built without RocksDB; build it with `--features rocksdb` (a quarter of an hour on 2 cores)",
    ))
}

#[cfg(feature = "lmdb")]
fn lmdb(dir: &Path, options: &EngineOptions) -> Result<Box<dyn Engine>, BenchError> {
    Ok(Box::new(crate::engines::lmdb::Lmdb::open(dir, options)?))
}

#[cfg(not(feature = "lmdb"))]
fn lmdb(_dir: &Path, _options: &EngineOptions) -> Result<Box<dyn Engine>, BenchError> {
    Err(BenchError::usage(
        "this bench was built without LMDB; build it with `--features lmdb`",
    ))
}

impl fmt::Display for EngineChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Corelane => f.write_str("corelane"),
            Self::Handle => f.write_str("corelane-handle"),
            Self::Fjall => f.write_str("fjall"),
            Self::Redb => f.write_str("redb"),
            Self::RocksDb => f.write_str("rocksdb"),
            Self::Lmdb => f.write_str("lmdb"),
            Self::Resp { address, .. } => write!(f, "resp={address}"),
        }
    }
}

impl FromStr for EngineChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "corelane" => Self::Corelane,
            "corelane-handle" => Self::Handle,
            "fjall" => Self::Fjall,
            "redb" => Self::Redb,
            "rocksdb" => Self::RocksDb,
            "lmdb" => Self::Lmdb,
            other => match other
                .strip_prefix("resp=")
                .filter(|address| address.contains(':'))
            {
                Some(address) => Self::Resp {
                    address: address.to_owned(),
                    flush: false,
                },
                None => {
                    return Err(format!(
                        "`{other}` is no engine; there are corelane, corelane-handle, fjall, redb, rocksdb, lmdb \
                         and resp=HOST:PORT"
                    ));
                }
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_shown() {
        for name in [
            "corelane",
            "corelane-handle",
            "fjall",
            "redb",
            "rocksdb",
            "lmdb",
            "resp=127.0.0.1:6379",
        ] {
            assert_eq!(name.parse::<EngineChoice>().unwrap().to_string(), name);
        }
        for wrong in ["", "leveldb", "resp=", "resp=nowhere"] {
            assert!(
                wrong
                    .parse::<EngineChoice>()
                    .unwrap_err()
                    .contains("is no engine"),
                "{wrong}"
            );
        }
    }

    #[cfg(not(feature = "rocksdb"))]
    #[test]
    fn an_engine_that_was_not_built_in_says_how_to_build_it() {
        let error = EngineChoice::RocksDb.open(Path::new("."), &EngineOptions::default());
        assert!(error.err().unwrap().to_string().contains("--features rocksdb"));
    }
}
