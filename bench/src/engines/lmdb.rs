//! LMDB, the memory-mapped B-tree, through the crate heed. Built only with the feature `lmdb`.
//!
//! One write transaction at a time, copy on write, no log: callers take turns. The environment is opened without syncs of
//! its own; a `sync` write is a commit and then a sync of the whole environment, a `buffered` one a commit alone. Keys have
//! at most 511 bytes.

use std::path::Path;
use std::sync::Arc;

use heed::types::Bytes;
use heed::{Database, Env, EnvFlags, EnvOpenOptions, RwTxn};

use crate::engines::{Client, Counters, Engine, Fairness, Visit, on_threads};
use crate::error::{BenchError, Kind};
use crate::load::job::Job;
use crate::spec::{Durability, EngineOptions};

/// Address space for the map; the file grows as it is used.
const MAP_BYTES: usize = 1 << 40;
/// As many callers as a group may have, and the walk.
const READERS: u32 = 4200;

/// An open database.
pub struct Lmdb {
    env: Env,
    db: Database<Bytes, Bytes>,
    fairness: Fairness,
}

impl Lmdb {
    /// Creates a database in `dir`.
    ///
    /// # Errors
    /// LMDB's.
    pub fn open(dir: &Path, _options: &EngineOptions) -> Result<Self, BenchError> {
        let create = || -> heed::Result<(Env, Database<Bytes, Bytes>)> {
            let env = open(dir)?;
            let mut transaction = env.write_txn()?;
            let db = env.create_database(&mut transaction, None)?;
            transaction.commit()?;
            Ok((env, db))
        };
        let (env, db) = create().map_err(|e| BenchError::new(Kind::Open, format!("opening LMDB: {e}")))?;
        Ok(Self {
            env,
            db,
            fairness: fairness(),
        })
    }

    fn change(
        &self,
        durability: Durability,
        change: impl Fn(&mut RwTxn<'_>) -> heed::Result<()>,
    ) -> heed::Result<()> {
        let mut transaction = self.env.write_txn()?;
        change(&mut transaction)?;
        transaction.commit()?;
        match durability {
            Durability::Sync => self.env.force_sync(),
            Durability::Buffered => Ok(()),
        }
    }
}

#[expect(
    unsafe_code,
    reason = "heed leaves it to its caller that nobody else changes the file"
)]
fn open(dir: &Path) -> heed::Result<Env> {
    let mut options = EnvOpenOptions::new();
    options.map_size(MAP_BYTES).max_readers(READERS);
    // SAFETY: the directory was made for this run, and nobody else opens, cuts or changes the file that is mapped. Without
    // syncs of its own a crash of the machine can lose the database, which is removed at the end of the run anyway.
    unsafe { options.flags(EnvFlags::NO_SYNC).open(dir) }
}

fn fairness() -> Fairness {
    Fairness {
        engine: "LMDB (crate heed)".to_owned(),
        durability: "sync: a commit and mdb_env_sync; buffered: a commit with MDB_NOSYNC".to_owned(),
        io: "memory map (page cache)".to_owned(),
        cache_bytes: None,
        memtable_bytes: None,
        compression: "none".to_owned(),
        threads: "none of its own, callers on threads of their own".to_owned(),
        cores: "as the callers".to_owned(),
        choices: vec![
            "MDB_NOSYNC, so that a write is durable exactly when it is asked to be (lmdb.h)".to_owned(),
        ],
    }
}

impl Engine for Lmdb {
    fn fairness(&self) -> &Fairness {
        &self.fairness
    }

    fn run(&self, job: &Arc<Job>) -> Result<(), BenchError> {
        on_threads(job, || Ok(self))
    }

    fn counters(&self) -> Counters {
        Counters::default()
    }

    fn settle(&self) -> Result<(), BenchError> {
        let synced = self.env.force_sync();
        synced.map_err(|e| BenchError::engine("making LMDB durable", e))
    }

    fn walk(&self, visit: &mut Visit<'_>) -> Result<(), BenchError> {
        let failed = |e| BenchError::engine("walking LMDB", e);
        let transaction = self.env.read_txn().map_err(failed)?;
        for entry in self.db.iter(&transaction).map_err(failed)? {
            let (key, value) = entry.map_err(failed)?;
            visit(key, value)?;
        }
        Ok(())
    }
}

impl Client for &Lmdb {
    async fn put(&self, key: &[u8], value: &[u8], durability: Durability) -> Result<(), BenchError> {
        let done = self.change(durability, |transaction| self.db.put(transaction, key, value));
        done.map_err(|e| BenchError::engine("putting into LMDB", e))
    }

    async fn get<R>(&self, key: &[u8], mut check: impl FnMut(Option<&[u8]>) -> R) -> Result<R, BenchError> {
        let failed = |e| BenchError::engine("getting from LMDB", e);
        let transaction = self.env.read_txn().map_err(failed)?;
        Ok(check(self.db.get(&transaction, key).map_err(failed)?))
    }

    async fn delete(&self, key: &[u8], durability: Durability) -> Result<(), BenchError> {
        let done = self.change(durability, |transaction| {
            self.db.delete(transaction, key).map(|_| ())
        });
        done.map_err(|e| BenchError::engine("deleting from LMDB", e))
    }

    async fn scan(
        &self,
        start: &[u8],
        limit: usize,
        mut visit: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), BenchError> {
        let failed = |e| BenchError::engine("scanning LMDB", e);
        let transaction = self.env.read_txn().map_err(failed)?;
        let range = (std::ops::Bound::Included(start), std::ops::Bound::Unbounded);
        for entry in self.db.range(&transaction, &range).map_err(failed)?.take(limit) {
            let (key, value) = entry.map_err(failed)?;
            if !visit(key, value) {
                break;
            }
        }
        Ok(())
    }
}
