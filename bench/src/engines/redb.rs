//! redb, the B-tree in Rust: one write transaction at a time, copy on write, no log.
//!
//! A `sync` write is a transaction of its own with `Durability::Immediate`: redb has no group commit, so callers take turns.
//! A `buffered` one is a transaction with `Durability::None`, and every thousandth (about the 512 KiB that our own buffer
//! holds) an `Immediate` one, without which redb could not reuse the pages it has freed.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use redb::{Database, Durability as RedbDurability, ReadableDatabase, TableDefinition, WriteTransaction};

use crate::engines::{Client, Counters, Engine, Fairness, Visit, on_threads};
use crate::error::{BenchError, Kind};
use crate::load::job::Job;
use crate::spec::{Durability, EngineOptions};

const TABLE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("bench");
/// Buffered writes between two that are made durable.
const DURABLE_EVERY: u64 = 1000;

/// An open database with its one table.
pub struct Redb {
    db: Database,
    buffered: AtomicU64,
    fairness: Fairness,
}

impl Redb {
    /// Creates a database in `dir`.
    ///
    /// # Errors
    /// redb's.
    pub fn open(dir: &Path, options: &EngineOptions) -> Result<Self, BenchError> {
        // It has no memtable; what the others spend on theirs goes to its cache.
        let cache_bytes = options.cache_bytes + options.memtable_bytes;
        let open = || -> Result<Database, redb::Error> {
            let bytes = usize::try_from(cache_bytes).unwrap_or(usize::MAX);
            let db = Database::builder()
                .set_cache_size(bytes)
                .create(dir.join("bench.redb"))?;
            let create = db.begin_write()?;
            create.open_table(TABLE)?;
            create.commit()?;
            Ok(db)
        };
        let db = open().map_err(|e| BenchError::new(Kind::Open, format!("opening redb: {e}")))?;
        Ok(Self {
            db,
            buffered: AtomicU64::new(0),
            fairness: fairness(cache_bytes),
        })
    }

    fn change(
        &self,
        durability: Durability,
        change: impl Fn(&WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<(), redb::Error> {
        let due = |count: u64| count % DURABLE_EVERY == DURABLE_EVERY - 1;
        let durable = durability == Durability::Sync || due(self.buffered.fetch_add(1, Ordering::Relaxed));
        let mut transaction = self.db.begin_write()?;
        transaction.set_durability(if durable {
            RedbDurability::Immediate
        } else {
            RedbDurability::None
        })?;
        change(&transaction)?;
        transaction.commit()?;
        Ok(())
    }
}

fn fairness(cache_bytes: u64) -> Fairness {
    Fairness {
        engine: "redb 4".to_owned(),
        durability: "sync: a transaction with Durability::Immediate; buffered: Durability::None, each 1,000th Immediate"
            .to_owned(),
        io: "buffered (page cache)".to_owned(),
        cache_bytes: Some(cache_bytes),
        memtable_bytes: None,
        compression: "none".to_owned(),
        threads: "none of its own, callers on threads of their own".to_owned(),
        cores: "as the callers".to_owned(),
        choices: vec![
            "cache = cache + memtables of the others: it has no memtable (docs.rs/redb, Builder::set_cache_size)".to_owned(),
        ],
    }
}

impl Engine for Redb {
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
        self.change(Durability::Sync, |_nothing| Ok(()))
            .map_err(|e| BenchError::engine("making redb durable", e))
    }

    fn walk(&self, visit: &mut Visit<'_>) -> Result<(), BenchError> {
        let words = |e: redb::Error| BenchError::engine("walking redb", e);
        let table = self.db.begin_read().map_err(|e| words(e.into()))?;
        let table = table.open_table(TABLE).map_err(|e| words(e.into()))?;
        for entry in table.range::<&[u8]>(..).map_err(|e| words(e.into()))? {
            let (key, value) = entry.map_err(|e| words(e.into()))?;
            visit(key.value(), value.value())?;
        }
        Ok(())
    }
}

impl Client for &Redb {
    async fn put(&self, key: &[u8], value: &[u8], durability: Durability) -> Result<(), BenchError> {
        let done = self.change(durability, |transaction| {
            transaction.open_table(TABLE)?.insert(key, value)?;
            Ok(())
        });
        done.map_err(|e| BenchError::engine("putting into redb", e))
    }

    async fn get<R>(&self, key: &[u8], mut check: impl FnMut(Option<&[u8]>) -> R) -> Result<R, BenchError> {
        let get = || -> Result<R, redb::Error> {
            let table = self.db.begin_read()?.open_table(TABLE)?;
            let value = table.get(key)?;
            Ok(check(value.as_ref().map(|value| value.value())))
        };
        let mut get = get;
        get().map_err(|e| BenchError::engine("getting from redb", e))
    }

    async fn delete(&self, key: &[u8], durability: Durability) -> Result<(), BenchError> {
        let done = self.change(durability, |transaction| {
            transaction.open_table(TABLE)?.remove(key)?;
            Ok(())
        });
        done.map_err(|e| BenchError::engine("deleting from redb", e))
    }

    async fn scan(
        &self,
        start: &[u8],
        limit: usize,
        mut visit: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), BenchError> {
        let mut scan = || -> Result<(), redb::Error> {
            let table = self.db.begin_read()?.open_table(TABLE)?;
            for entry in table.range(start..)?.take(limit) {
                let (key, value) = entry?;
                if !visit(key.value(), value.value()) {
                    break;
                }
            }
            Ok(())
        };
        scan().map_err(|e| BenchError::engine("scanning redb", e))
    }
}
