//! Options as plain data, checked once, and the builder over them.
//!
//! What shapes stored bytes ([`Shape`]) is kept apart from what is tuned per process: the shape is written into the
//! superblock at creation and is only compared later.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::api::core::Service;
use crate::api::db::Db;
use crate::error::{Error, ErrorKind, Result};
use crate::io::runtime::Runtime;
use crate::shard::config::{MAX_MEMTABLE_BYTES, Tuning};
use crate::sstable::Compression;
use crate::types::{Durability, PAGE_BYTES};

/// How long an idle core polls before it sleeps, unless it is told otherwise: less than going to sleep and waking costs it
/// (some 60 µs here), so that cores that answer each other do it without either. Measured with scans over two shards: 1.5
/// times the rate at two thirds of the processor time.
const DEFAULT_SPIN: Duration = Duration::from_micros(20);
/// Most shards a database may have: their slot ranges fit the superblock's page.
pub(super) const MAX_SHARDS: u16 = 1000;

/// What is fixed when a database is created.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shape {
    /// Number of shards; `None`: one a core at creation, whatever it has at a later open.
    pub shards: Option<u16>,
}

/// Everything a database is opened with.
#[derive(Debug, Clone)]
pub struct Options {
    /// What shapes stored bytes.
    pub shape: Shape,
    /// The cores to run on, by the kernel's numbers.
    pub cores: Vec<usize>,
    /// The durability of writes that do not name one.
    pub durability: Durability,
    /// Create the database if it is not there.
    pub create: bool,
    /// How each shard is tuned. Its `cache_bytes` is filled from `cache_bytes` below.
    pub tuning: Tuning,
    /// Block cache of the whole database in bytes, divided evenly over its shards.
    pub cache_bytes: usize,
    /// How long an idle core polls before it sleeps. Polling answers a message from another thread in a few
    /// microseconds instead of tens, and costs that much of the core; the uring runtime polls only while such messages come.
    pub spin: Duration,
    /// What carries the cores.
    pub runtime: Runtime,
}

impl Options {
    /// The defaults on the cores this process may use.
    pub fn new(cores: Vec<usize>) -> Self {
        Self {
            shape: Shape::default(),
            cores,
            durability: Durability::Sync,
            create: true,
            tuning: Tuning::default(),
            cache_bytes: 256 << 20,
            spin: DEFAULT_SPIN,
            runtime: Runtime::default(),
        }
    }

    /// Checks every option.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidOptions`], naming the option, its value and its range.
    pub fn validate(&self) -> Result<()> {
        let mut cores = self.cores.clone();
        cores.sort_unstable();
        cores.dedup();
        require(!self.cores.is_empty(), "cores", "it is empty; name at least one")?;
        require(cores.len() == self.cores.len(), "cores", "one is named twice")?;
        if let Some(shards) = self.shape.shards {
            require(
                (1..=MAX_SHARDS).contains(&shards),
                "shards",
                "it must be 1 to 1000",
            )?;
        }
        let tuning = &self.tuning;
        let page = PAGE_BYTES as u64;
        require(
            tuning.memtable_bytes >= 64 << 10,
            "memtable_bytes",
            "it must be at least 64 KiB",
        )?;
        require(
            tuning.memtable_bytes <= MAX_MEMTABLE_BYTES,
            "memtable_bytes",
            "it must be at most 2 GiB",
        )?;
        require(
            (1..=64).contains(&tuning.max_immutables),
            "max_immutables",
            "it must be 1 to 64",
        )?;
        require(
            tuning.segment_bytes >= 16 * page,
            "segment_bytes",
            "it must be at least 64 KiB",
        )?;
        require(
            tuning.segment_bytes.is_multiple_of(page),
            "segment_bytes",
            "it must be a multiple of 4096",
        )?;
        require(
            tuning.segment_bytes <= 1 << 30,
            "segment_bytes",
            "it must be at most 1 GiB",
        )?;
        require(
            tuning.buffered_bytes > 0,
            "buffered_bytes",
            "it must be at least 1",
        )?;
        require(
            tuning.buffered_bytes <= tuning.staged_bytes,
            "buffered_bytes",
            "it must not exceed staged_bytes",
        )?;
        require(
            tuning.filter_bits_per_key <= 32,
            "filter_bits_per_key",
            "it must be at most 32",
        )?;
        require(
            tuning.table_bytes >= 64 << 10,
            "table_bytes",
            "it must be at least 64 KiB",
        )?;
        require(
            tuning.manifest_bytes >= 4 * page,
            "manifest_bytes",
            "it must be at least 16 KiB",
        )
    }
}

fn require(holds: bool, option: &str, why: &str) -> Result<()> {
    if holds {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::InvalidOptions,
        format!("checking the option {option}"),
        why,
    ))
}

/// Opens a database. Made by [`Db::builder`].
#[derive(Debug, Clone)]
pub struct Builder<S: Service = ()> {
    path: PathBuf,
    options: Options,
    service: S,
}

impl Builder {
    /// For the database in directory `path`, which is created if need be; its parent must exist.
    pub(super) fn new(path: &Path) -> Self {
        let options = Options::new(crate::io::cores::available_cores());
        Self {
            path: path.to_owned(),
            options,
            service: (),
        }
    }
}

impl<S: Service> Builder<S> {
    /// The cores to run on, by the kernel's numbers; by default all that this process may use.
    #[must_use]
    pub fn cores(mut self, cores: Vec<usize>) -> Self {
        self.options.cores = cores;
        self
    }

    /// Number of shards, fixed at creation; by default one a core. Opening with another number is refused.
    #[must_use]
    pub fn shards(mut self, shards: u16) -> Self {
        self.options.shape.shards = Some(shards);
        self
    }

    /// The durability of writes that do not name one; by default [`Durability::Sync`].
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.options.durability = durability;
        self
    }

    /// Whether to create a database that is not there; by default yes.
    #[must_use]
    pub fn create(mut self, create: bool) -> Self {
        self.options.create = create;
        self
    }

    /// Block cache of the whole database in bytes, divided evenly over its shards; by default 256 MiB.
    #[must_use]
    pub fn cache_bytes(mut self, bytes: usize) -> Self {
        self.options.cache_bytes = bytes;
        self
    }

    /// Size in bytes at which a shard's memtable is written out as a table; by default 64 MiB.
    #[must_use]
    pub fn memtable_bytes(mut self, bytes: usize) -> Self {
        self.options.tuning.memtable_bytes = bytes;
        self
    }

    /// Compression of tables below level 1; by default LZ4.
    #[must_use]
    pub fn compression(mut self, compression: Compression) -> Self {
        self.options.tuning.compression = compression;
        self
    }

    /// How long an idle core polls before it sleeps; by default 20 µs.
    #[must_use]
    pub fn spin(mut self, spin: Duration) -> Self {
        self.options.spin = spin;
        self
    }

    /// What carries the cores; by default the best that the kernel offers. [`Db::runtime`] tells what was taken, and why.
    #[must_use]
    pub fn runtime(mut self, runtime: Runtime) -> Self {
        self.options.runtime = runtime;
        self
    }

    /// Every other knob, in bytes and durations.
    #[must_use]
    pub fn tuning(mut self, change: impl FnOnce(&mut Tuning)) -> Self {
        change(&mut self.options.tuning);
        self
    }

    /// Runs `service` on every core while the database is open.
    #[must_use]
    pub fn service<T: Service>(self, service: T) -> Builder<T> {
        Builder {
            path: self.path,
            options: self.options,
            service,
        }
    }

    /// Starts one pinned executor a core, opens every shard on them, and returns when all have recovered.
    ///
    /// # Errors
    /// `InvalidOptions`; `Locked` when it is open elsewhere; `Incompatible` for a newer format; `Corruption` or `Io`
    /// naming file and offset.
    pub async fn open(self) -> Result<Db> {
        Db::open(self.path, self.options, self.service).await
    }

    /// [`Builder::open`], blocking the calling thread.
    ///
    /// # Errors
    /// As for [`Builder::open`].
    pub fn open_blocking(self) -> Result<Db> {
        futures_lite::future::block_on(self.open())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_each_bad_option_is_named() {
        assert!(Options::new(vec![0, 1]).validate().is_ok());
        type Spoil = fn(&mut Options);
        let cases: [(&str, Spoil); 7] = [
            ("cores", |o| o.cores = vec![]),
            ("cores", |o| o.cores = vec![1, 1]),
            ("shards", |o| o.shape.shards = Some(0)),
            ("memtable_bytes", |o| o.tuning.memtable_bytes = 1),
            ("memtable_bytes", |o| o.tuning.memtable_bytes = (2 << 30) + 1),
            ("segment_bytes", |o| o.tuning.segment_bytes = 70_000),
            ("buffered_bytes", |o| o.tuning.buffered_bytes = usize::MAX),
        ];
        for (name, spoil) in cases {
            let mut options = Options::new(vec![0]);
            spoil(&mut options);
            let error = options.validate().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidOptions);
            assert!(error.to_string().contains(name), "{error}");
        }
    }
}
