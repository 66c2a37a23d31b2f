//! Which engine: its name on the command line, and how it is opened.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use corelane::api::Runtime;

use crate::engines::Engine;
use crate::engines::corelane::Corelane;
use crate::engines::fjall::Fjall;
use crate::engines::redb::Redb;
use crate::engines::resp::Resp;
use crate::error::BenchError;
use crate::run::Open;
use crate::spec::EngineOptions;

/// The engine's names.
const CORELANE: &str = "corelane";
const HANDLE: &str = "corelane-handle";

/// An engine that can be measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EngineChoice {
    /// The engine on this runtime, callers on its cores.
    Corelane(Runtime),
    /// The engine on this runtime, callers on threads outside.
    Handle(Runtime),
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
    /// The same, where the engine runs on `runtime` unless it was given one of its own.
    #[must_use]
    pub fn on(self, runtime: Runtime) -> Self {
        match self {
            Self::Corelane(Runtime::Auto) => Self::Corelane(runtime),
            Self::Handle(Runtime::Auto) => Self::Handle(runtime),
            other => other,
        }
    }

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
            Self::Corelane(runtime) => Box::new(Corelane::open(dir, options, *runtime, true)?),
            Self::Handle(runtime) => Box::new(Corelane::open(dir, options, *runtime, false)?),
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
            Self::Corelane(Runtime::Auto) => f.write_str(CORELANE),
            Self::Corelane(runtime) => write!(f, "{CORELANE}={runtime}"),
            Self::Handle(Runtime::Auto) => f.write_str(HANDLE),
            Self::Handle(runtime) => write!(f, "{HANDLE}={runtime}"),
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
        let (name, chosen) = text
            .split_once('=')
            .map_or((text, None), |(name, chosen)| (name, Some(chosen)));
        let runtime = || chosen.map_or(Ok(Runtime::Auto), str::parse);
        Ok(match (name, chosen) {
            (CORELANE, _) => Self::Corelane(runtime()?),
            (HANDLE, _) => Self::Handle(runtime()?),
            ("fjall", None) => Self::Fjall,
            ("redb", None) => Self::Redb,
            ("rocksdb", None) => Self::RocksDb,
            ("lmdb", None) => Self::Lmdb,
            ("resp", Some(address)) if address.contains(':') => Self::Resp {
                address: address.to_owned(),
                flush: false,
            },
            _ => {
                return Err(format!(
                    "`{text}` is no engine; there are corelane and corelane-handle (either with a runtime behind it, \
                     as in corelane=glommio), fjall, redb, rocksdb, lmdb and resp=HOST:PORT"
                ));
            }
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
            "corelane=uring",
            "corelane-handle=glommio",
            "fjall",
            "redb",
            "rocksdb",
            "lmdb",
            "resp=127.0.0.1:6379",
        ] {
            assert_eq!(name.parse::<EngineChoice>().unwrap().to_string(), name);
        }
        for wrong in ["", "leveldb", "resp=", "resp=nowhere", "fjall=uring"] {
            assert!(
                wrong
                    .parse::<EngineChoice>()
                    .unwrap_err()
                    .contains("is no engine"),
                "{wrong}"
            );
        }
        let error = "corelane=tokio".parse::<EngineChoice>().unwrap_err();
        assert!(error.contains("there is no runtime"), "{error}");
    }

    #[test]
    fn a_runtime_for_all_is_for_those_without_their_own() {
        let on_glommio = |name: &str| {
            let choice: EngineChoice = name.parse().unwrap();
            choice.on(Runtime::Glommio).to_string()
        };
        assert_eq!(on_glommio("corelane"), "corelane=glommio");
        assert_eq!(on_glommio("corelane-handle=uring"), "corelane-handle=uring");
        assert_eq!(on_glommio("fjall"), "fjall");
    }

    #[cfg(not(feature = "rocksdb"))]
    #[test]
    fn an_engine_that_was_not_built_in_says_how_to_build_it() {
        let error = EngineChoice::RocksDb.open(Path::new("."), &EngineOptions::default());
        assert!(error.err().unwrap().to_string().contains("--features rocksdb"));
    }
}
