//! fjall, the Rust peer: an LSM tree with blocking calls from threads.
//!
//! Its journal is persisted by hand, as our durabilities ask: a `sync` put is an insert and then `PersistMode::SyncData`; a
//! `buffered` one leaves the journal's buffer to fill. It reads through the page cache, which no option of its own turns
//! off: only a memory limit makes its reads come from the device.

use std::path::Path;
use std::sync::Arc;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use crate::engines::rest::Rest;
use crate::engines::{Client, Counters, Engine, Fairness, Visit, on_threads};
use crate::error::{BenchError, Kind};
use crate::load::job::Job;
use crate::spec::{Durability, EngineOptions};

/// An open database with its one keyspace.
pub struct Fjall {
    db: Database,
    keyspace: Keyspace,
    fairness: Fairness,
}

impl Fjall {
    /// Creates a database in `dir`.
    ///
    /// # Errors
    /// fjall's.
    pub fn open(dir: &Path, options: &EngineOptions) -> Result<Self, BenchError> {
        let workers = usize::from(options.cores);
        let open = || -> fjall::Result<(Database, Keyspace)> {
            let db = Database::builder(dir)
                .cache_size(options.cache_bytes)
                .worker_threads(workers)
                .open()?;
            let keyspace = db.keyspace("bench", || {
                KeyspaceCreateOptions::default()
                    .manual_journal_persist(true)
                    .max_memtable_size(options.memtable_bytes)
            })?;
            Ok((db, keyspace))
        };
        let (db, keyspace) =
            open().map_err(|e| BenchError::new(Kind::Open, format!("opening fjall: {e}")))?;
        Ok(Self {
            db,
            keyspace,
            fairness: fairness(options),
        })
    }
}

fn fairness(options: &EngineOptions) -> Fairness {
    Fairness {
        engine: "fjall 3.1".to_owned(),
        durability: "sync: persist(SyncData), an fdatasync, after each write; buffered: its journal's buffer".to_owned(),
        io: "buffered (page cache)".to_owned(),
        cache_bytes: Some(options.cache_bytes),
        memtable_bytes: Some(options.memtable_bytes),
        compression: "LZ4 by its defaults: none in the first levels, LZ4 below".to_owned(),
        threads: format!("{} workers, callers on threads of their own", options.cores),
        cores: format!("{} by number of workers", options.cores),
        choices: vec![
            "manual_journal_persist(true): so that a write is durable exactly when it is asked to be (docs.rs/fjall, \
             KeyspaceCreateOptions)"
                .to_owned(),
            "worker_threads = the run's cores, not its default of up to 4".to_owned(),
        ],
    }
}

impl Engine for Fjall {
    fn fairness(&self) -> &Fairness {
        &self.fairness
    }

    fn run(&self, job: &Arc<Job>) -> Result<(), BenchError> {
        on_threads(job, || Ok(self))
    }

    fn counters(&self) -> Counters {
        Counters {
            compactions: u64::try_from(self.db.compactions_completed()).ok(),
            table_bytes: Some(self.keyspace.disk_space()),
            ..Counters::default()
        }
    }

    fn settle(&self) -> Result<(), BenchError> {
        let rotated = self.keyspace.rotate_memtable_and_wait();
        rotated.map_err(|e| BenchError::engine("flushing fjall", e))?;
        let mut rest = Rest::new("fjall");
        loop {
            let waiting = self.db.outstanding_flushes() + self.db.active_compactions();
            if rest.reached(waiting > 0, self.db.compactions_completed() as u64)? {
                return Ok(());
            }
        }
    }

    fn walk(&self, visit: &mut Visit<'_>) -> Result<(), BenchError> {
        for entry in self.keyspace.iter() {
            let (key, value) = entry
                .into_inner()
                .map_err(|e| BenchError::engine("walking fjall", e))?;
            visit(&key, &value)?;
        }
        Ok(())
    }
}

impl Fjall {
    fn persisted(&self, durability: Durability) -> fjall::Result<()> {
        match durability {
            Durability::Sync => self.db.persist(PersistMode::SyncData),
            Durability::Buffered => Ok(()),
        }
    }
}

impl Client for &Fjall {
    async fn put(&self, key: &[u8], value: &[u8], durability: Durability) -> Result<(), BenchError> {
        let done = self
            .keyspace
            .insert(key, value)
            .and_then(|()| self.persisted(durability));
        done.map_err(|e| BenchError::engine("putting into fjall", e))
    }

    async fn get<R>(&self, key: &[u8], mut check: impl FnMut(Option<&[u8]>) -> R) -> Result<R, BenchError> {
        let value = self.keyspace.get(key);
        let value = value.map_err(|e| BenchError::engine("getting from fjall", e))?;
        Ok(check(value.as_deref()))
    }

    async fn delete(&self, key: &[u8], durability: Durability) -> Result<(), BenchError> {
        let done = self
            .keyspace
            .remove(key)
            .and_then(|()| self.persisted(durability));
        done.map_err(|e| BenchError::engine("deleting from fjall", e))
    }

    async fn scan(
        &self,
        start: &[u8],
        limit: usize,
        mut visit: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), BenchError> {
        for entry in self.keyspace.range(start..).take(limit) {
            let entry = entry.into_inner();
            let (key, value) = entry.map_err(|e| BenchError::engine("scanning fjall", e))?;
            if !visit(&key, &value) {
                break;
            }
        }
        Ok(())
    }
}
