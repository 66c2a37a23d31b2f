//! fjall, the peer: blocking calls from threads.
//!
//! Options are chosen to be as good to it as to ours under like durability and memory: the same cache and memtable
//! bytes; one memtable in all, as it has one tree; two worker threads, its default here. Its journal is persisted by
//! hand: a durable put is an insert and then `PersistMode::SyncData`; a load leaves its buffer to fill, as our
//! `Buffered` does. It reads through the page cache, which no option of its own turns off, so its reads from "the
//! device" are from memory where the data fits that.

use std::path::Path;
use std::time::{Duration, Instant};

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use crate::options::Setup;
use crate::workload::{Client, Key, Sweep, Values};

/// An open database with its one keyspace.
pub struct Fjall {
    db: Database,
    keyspace: Keyspace,
}

/// It is at rest once nothing was flushed or merged for so long.
const REST: Duration = Duration::from_millis(500);
/// A tree that is not at rest by then never will be.
const REST_LIMIT: Duration = Duration::from_secs(600);

impl Fjall {
    /// Creates a database in `dir`.
    ///
    /// # Errors
    /// fjall's.
    pub fn open(dir: &Path, setup: &Setup) -> Result<Self, String> {
        let open = || -> fjall::Result<Self> {
            let db = Database::builder(dir.join("db"))
                .cache_size(setup.cache_bytes as u64)
                .open()?;
            let keyspace = db.keyspace("bench", || {
                KeyspaceCreateOptions::default()
                    .manual_journal_persist(true)
                    .max_memtable_size(setup.memtable_bytes as u64)
            })?;
            Ok(Self { db, keyspace })
        };
        open().map_err(|e| e.to_string())
    }

    /// Flushes, then waits until nothing is left to compact.
    ///
    /// # Errors
    /// fjall's, or that it never came to rest.
    pub fn settle(&self) -> Result<(), String> {
        self.keyspace
            .rotate_memtable_and_wait()
            .map_err(|e| e.to_string())?;
        let start = Instant::now();
        let (mut last, mut since) = (0, start);
        while start.elapsed() < REST_LIMIT {
            let done = self.db.compactions_completed();
            let busy = self.db.outstanding_flushes() + self.db.active_compactions();
            if busy > 0 || done != last {
                (last, since) = (done, Instant::now());
            } else if since.elapsed() >= REST {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err("fjall's compaction has not come to rest in ten minutes".to_owned())
    }

    /// Walks the whole database and checks every entry, and that there are `written` of them.
    ///
    /// # Errors
    /// fjall's, or what is wrong.
    pub fn sweep(&self, values: Values, written: u64) -> Result<(), String> {
        let mut sweep = Sweep::new(values);
        for entry in self.keyspace.iter() {
            let (key, value) = entry.into_inner().map_err(|e| e.to_string())?;
            sweep.visit(&key, &value)?;
        }
        sweep.finish(written)
    }

    /// Bytes of its tables on disk.
    pub fn table_bytes(&self) -> u64 {
        self.keyspace.disk_space()
    }
}

impl Client for Fjall {
    fn owns(&self, _key: &Key) -> bool {
        true
    }

    async fn put(&self, key: &Key, value: &[u8], durable: bool) -> Result<(), String> {
        let put = || {
            self.keyspace.insert(key.as_slice(), value)?;
            if durable {
                self.db.persist(PersistMode::SyncData)
            } else {
                Ok(())
            }
        };
        put().map_err(|e: fjall::Error| e.to_string())
    }

    async fn get(&self, key: &Key, mut check: impl FnMut(Option<&[u8]>) -> bool) -> Result<bool, String> {
        self.keyspace
            .get(key)
            .map(|value| check(value.as_deref()))
            .map_err(|e| e.to_string())
    }

    async fn scan(
        &self,
        start: &Key,
        limit: usize,
        mut visit: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<bool, String> {
        for entry in self.keyspace.range(start.as_slice()..).take(limit) {
            let (key, value) = entry.into_inner().map_err(|e| e.to_string())?;
            if !visit(&key, &value) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn breathe(&self) {}
}
