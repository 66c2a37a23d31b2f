//! RocksDB, through its Rust crate: the engine that most people know. Built only with the feature `rocksdb`.
//!
//! Options follow RocksDB's own tuning guide where it names a better value than the default for an NVMe device; what is
//! given alike to all engines (cache, memtables, cores) is the run's. I/O is direct, as ours, so that memory is equal
//! without a memory limit too.

use std::path::Path;
use std::sync::Arc;

use rocksdb::{
    BlockBasedOptions, Cache, DB, DBCompressionType, IteratorMode, Options, ReadOptions,
    WaitForCompactOptions, WriteOptions,
};

use crate::engines::{Client, Counters, Engine, Fairness, Visit, on_threads};
use crate::error::{BenchError, Kind};
use crate::load::job::Job;
use crate::spec::{Durability, EngineOptions};

/// Memtables of one column family: the active one and one being flushed, as ours.
const WRITE_BUFFERS: i32 = 3;

/// An open database.
pub struct Rocks {
    db: DB,
    options: Options,
    fairness: Fairness,
}

impl Rocks {
    /// Creates a database in `dir`.
    ///
    /// # Errors
    /// RocksDB's.
    pub fn open(dir: &Path, run: &EngineOptions) -> Result<Self, BenchError> {
        let options = options(run);
        let db = DB::open(&options, dir);
        let db = db.map_err(|e| BenchError::new(Kind::Open, format!("opening RocksDB: {e}")))?;
        Ok(Self {
            db,
            options,
            fairness: fairness(run),
        })
    }

    fn property(&self, name: &str) -> Option<u64> {
        self.db.property_int_value(name).ok().flatten()
    }

    fn ticker(&self, ticker: rocksdb::statistics::Ticker) -> Option<u64> {
        Some(self.options.get_ticker_count(ticker))
    }
}

fn options(run: &EngineOptions) -> Options {
    let bytes = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(&Cache::new_lru_cache(bytes(run.cache_bytes)));
    table.set_bloom_filter(10.0, false);
    table.set_block_size(4096);
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_block_based_table_factory(&table);
    options.set_write_buffer_size(bytes(run.memtable_bytes));
    options.set_max_write_buffer_number(WRITE_BUFFERS);
    options.increase_parallelism(i32::from(run.cores));
    options.set_level_compaction_dynamic_level_bytes(true);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_use_direct_reads(true);
    options.set_use_direct_io_for_flush_and_compaction(true);
    options.set_wal_recovery_mode(rocksdb::DBRecoveryMode::PointInTime);
    options.enable_statistics();
    options.set_statistics_level(rocksdb::statistics::StatsLevel::ExceptDetailedTimers);
    options
}

fn fairness(run: &EngineOptions) -> Fairness {
    Fairness {
        engine: "RocksDB (crate rocksdb 0.25)".to_owned(),
        durability:
            "sync: WriteOptions::sync, an fdatasync a write group; buffered: its log through the page cache"
                .to_owned(),
        io: "direct reads, flushes and compactions; its log is buffered, as always".to_owned(),
        cache_bytes: Some(run.cache_bytes),
        memtable_bytes: Some(run.memtable_bytes),
        compression: "LZ4 at every level".to_owned(),
        threads: format!(
            "{} for flushes and compactions, callers on threads of their own",
            run.cores
        ),
        cores: format!("{} by number of threads", run.cores),
        choices: vec![
            "filter of 10 bits a key, as ours; off by default (wiki: RocksDB Bloom Filter)".to_owned(),
            "level_compaction_dynamic_level_bytes, less write amplification (wiki: Leveled Compaction)"
                .to_owned(),
            "direct I/O, so that the page cache is no second cache (wiki: Direct IO)".to_owned(),
            "statistics below detailed timers: counters for the amplification (wiki: Statistics)".to_owned(),
        ],
    }
}

impl Engine for Rocks {
    fn fairness(&self) -> &Fairness {
        &self.fairness
    }

    fn run(&self, job: &Arc<Job>) -> Result<(), BenchError> {
        on_threads(job, || Ok(self))
    }

    fn counters(&self) -> Counters {
        use rocksdb::statistics::Ticker;
        Counters {
            user_bytes: self.ticker(Ticker::BytesWritten),
            log_bytes: self.ticker(Ticker::WalFileBytes),
            flush_bytes: self.ticker(Ticker::FlushWriteBytes),
            compaction_bytes: self.ticker(Ticker::CompactWriteBytes),
            debt_bytes: self.property("rocksdb.estimate-pending-compaction-bytes"),
            table_bytes: self.property("rocksdb.total-sst-files-size"),
            delayed_us: self.ticker(Ticker::StallMicros),
            ..Counters::default()
        }
    }

    fn settle(&self) -> Result<(), BenchError> {
        let mut wait = WaitForCompactOptions::default();
        wait.set_flush(true);
        let settled = self.db.wait_for_compact(&wait);
        settled.map_err(|e| BenchError::engine("waiting for RocksDB", e))
    }

    fn walk(&self, visit: &mut Visit<'_>) -> Result<(), BenchError> {
        for entry in self.db.iterator(IteratorMode::Start) {
            let (key, value) = entry.map_err(|e| BenchError::engine("walking RocksDB", e))?;
            visit(&key, &value)?;
        }
        Ok(())
    }
}

fn write_options(durability: Durability) -> WriteOptions {
    let mut options = WriteOptions::default();
    options.set_sync(durability == Durability::Sync);
    options
}

impl Client for &Rocks {
    async fn put(&self, key: &[u8], value: &[u8], durability: Durability) -> Result<(), BenchError> {
        let done = self.db.put_opt(key, value, &write_options(durability));
        done.map_err(|e| BenchError::engine("putting into RocksDB", e))
    }

    async fn get<R>(&self, key: &[u8], mut check: impl FnMut(Option<&[u8]>) -> R) -> Result<R, BenchError> {
        let value = self.db.get_pinned(key);
        let value = value.map_err(|e| BenchError::engine("getting from RocksDB", e))?;
        Ok(check(value.as_deref()))
    }

    async fn delete(&self, key: &[u8], durability: Durability) -> Result<(), BenchError> {
        let done = self.db.delete_opt(key, &write_options(durability));
        done.map_err(|e| BenchError::engine("deleting from RocksDB", e))
    }

    async fn scan(
        &self,
        start: &[u8],
        limit: usize,
        mut visit: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), BenchError> {
        let mut cursor = self.db.raw_iterator_opt(ReadOptions::default());
        cursor.seek(start);
        for _ in 0..limit {
            let Some((key, value)) = cursor.item() else {
                break;
            };
            if !visit(key, value) {
                break;
            }
            cursor.next();
        }
        cursor
            .status()
            .map_err(|e| BenchError::engine("scanning RocksDB", e))
    }
}
