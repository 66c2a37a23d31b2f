//! `figures`: the same works, one after the other, on each engine, with the raw device right beside what touches it.
//!
//! 1. Durable puts into an empty database, with 1, 16 and 64 under way; after each, the raw loop overwrites a file in
//!    writes of the size that the engine's groups had. At the end every put is read back.
//! 2. A load without sync, until compaction is at rest; then random gets with 2, 32 and 128 callers beside the raw
//!    loop's page reads at the same depth, misses, gets and scans of a range that fits the cache. At the end every
//!    entry is read back.
//!
//! Any error and any wrong value ends the run: a figure exists only where everything behind it was right.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use corelane::api::Stats;
use tempfile::TempDir;

use crate::corelane::Corelane;
use crate::fjall::Fjall;
use crate::machine::{Environment, Usage, occupied_bytes, reset_peak};
use crate::options::{Part, Peer, Setup};
use crate::raw::{self, Fill, LOG_BYTES};
use crate::report::{Row, json, markdown};
use crate::workload::{ENTRY_BYTES, Phase, VALUE_BYTES, Values, Work, hot_indices, run_threads};

/// Durable puts under way at once.
const PUTS_IN_FLIGHT: [usize; 3] = [1, 16, 64];
/// Callers of reads that go to the device.
const READERS: [usize; 3] = [2, 32, 128];
/// Callers of what is answered from memory, and of a load.
const CALLERS: usize = 2;
/// For works that end by themselves.
const UNBOUND: Duration = Duration::MAX;

/// Measures everything and returns the report.
///
/// # Errors
/// The first thing that went wrong.
pub fn run(setup: &Setup) -> Result<String, String> {
    let environment = Environment::here(&setup.dir);
    let mut bench = Bench {
        setup,
        rows: Vec::new(),
        hot: hot_indices(setup.entries),
        raw: raw_files(setup)?,
    };
    for &shards in &setup.shards {
        bench.corelane(shards)?;
    }
    for &peer in &setup.peers {
        match peer {
            Peer::Fjall => bench.fjall()?,
        }
    }
    let about = about(setup);
    if let Some(path) = &setup.json {
        std::fs::write(path, json(&environment, &about, &bench.rows))
            .map_err(|e| format!("writing {}: {e}", path.display()))?;
    }
    Ok(markdown(&environment, &about, &bench.rows))
}

fn about(setup: &Setup) -> Vec<String> {
    let values = match setup.values {
        Values::HalfCompressible => "half random, half zeros",
        Values::Incompressible => "random",
    };
    let spin = match setup.spin.as_micros() {
        0 => String::new(),
        us => format!(" Idle cores poll for {us} µs."),
    };
    vec![
        format!("{} entries of 16 B + {VALUE_BYTES} B ({values}); every value checked on read, every entry once more at the end.", setup.entries),
        format!("{} MiB of block cache in all, {} MiB memtables (corelane: one a shard).", setup.cache_bytes >> 20, setup.memtable_bytes >> 20),
        format!("`corelane`: callers on the shards' cores, each asking for keys of its own core (scans cross all shards). `handle` and `fjall`: a thread a caller, any key.{spin}"),
        "corelane reads and writes with O_DIRECT; fjall through the page cache, which may hold all of its data.".to_owned(),
        "Closed loop. Latency contains making the key and checking the value; a percentile is told only with ten samples beyond it.".to_owned(),
        "device: a raw io_uring loop right after the figure. For puts: O_DIRECT|O_DSYNC overwrites in groups of the same size, depth 1, a thread a shard, times puts a group. For reads: 4 KiB at random at the same depth.".to_owned(),
    ]
}

/// The files of the raw loop, prepared once.
struct RawFiles {
    _dir: TempDir,
    logs: Vec<PathBuf>,
    data: Option<PathBuf>,
}

fn raw_files(setup: &Setup) -> Result<RawFiles, String> {
    let dir = fresh_dir(&setup.dir)?;
    let mut logs = Vec::new();
    if setup.wants(Part::Puts) {
        for number in 0..setup.shards.iter().copied().max().unwrap_or(0) {
            let path = dir.path().join(format!("log-{number}"));
            raw::precondition(&path, LOG_BYTES, Fill::Zeros)?;
            logs.push(path);
        }
    }
    let mut data = None;
    if setup.wants(Part::Tree) {
        let path = dir.path().join("data");
        raw::precondition(&path, setup.entries * ENTRY_BYTES, Fill::Random)?;
        data = Some(path);
    }
    Ok(RawFiles {
        _dir: dir,
        logs,
        data,
    })
}

fn fresh_dir(parent: &Path) -> Result<TempDir, String> {
    let made = tempfile::Builder::new()
        .prefix("corelane-bench-")
        .tempdir_in(parent);
    made.map_err(|e| format!("making a directory in {}: {e}", parent.display()))
}

/// One run of everything.
struct Bench<'a> {
    setup: &'a Setup,
    rows: Vec<Row>,
    hot: Arc<[u64]>,
    raw: RawFiles,
}

/// Who and what a row is about.
#[derive(Clone, Copy)]
struct Label {
    engine: &'static str,
    shards: u16,
    work: &'static str,
    callers: usize,
}

impl Bench<'_> {
    /// Runs a phase and makes its row; the caller of this may add to it.
    fn measure(
        &mut self,
        label: Label,
        phase: impl FnOnce() -> Result<Phase, String>,
    ) -> Result<&mut Row, String> {
        let Label {
            engine,
            shards,
            work,
            callers,
        } = label;
        eprintln!("{engine}, {shards} shards: {work}, {callers} callers");
        let before = Usage::now();
        let phase = phase().map_err(|e| format!("{engine}: {work} with {callers} callers: {e}"))?;
        let cpu_seconds = (Usage::now().cpu - before.cpu).as_secs_f64();
        self.rows.push(Row {
            engine,
            shards,
            work,
            callers,
            phase,
            cpu_seconds,
            device_rate: None,
            extra: Vec::new(),
        });
        Ok(self.rows.last_mut().expect("one was pushed"))
    }

    fn corelane(&mut self, shards: u16) -> Result<(), String> {
        if self.setup.wants(Part::Puts) {
            self.corelane_puts(shards)?;
        }
        if self.setup.wants(Part::Tree) {
            self.corelane_tree(shards)?;
        }
        Ok(())
    }

    fn corelane_puts(&mut self, shards: u16) -> Result<(), String> {
        let (limit, values) = (self.setup.limit, self.setup.values);
        let dir = fresh_dir(&self.setup.dir)?;
        let db = Corelane::open(dir.path(), shards, self.setup)?;
        let (mut run, mut written) = (0, 0);
        for callers in PUTS_IN_FLIGHT {
            for engine in ["corelane", "handle"] {
                let before = db.stats()?;
                let label = Label {
                    engine,
                    shards,
                    work: "durable put",
                    callers,
                };
                let work = Work::Put { run };
                let row = self.measure(label, || match engine {
                    "corelane" => db.run(&work, callers, limit),
                    _ => run_threads(&db.handle(), &work, callers, values, limit),
                })?;
                run += 1;
                written += row.phase.tally.ops;
                let after = db.stats()?;
                let groups = sum(&after, |s| s.wal_writes) - sum(&before, |s| s.wal_writes);
                let bytes = sum(&after, |s| s.wal_bytes) - sum(&before, |s| s.wal_bytes);
                let puts_a_group = row.phase.tally.ops as f64 / groups.max(1.0);
                row.extra = vec![
                    ("puts a group", puts_a_group),
                    ("KiB a group", bytes / groups.max(1.0) / 1024.0),
                ];
                // With fewer callers than shards only so many logs are written at once.
                let logs = callers.min(usize::from(shards));
                let raw = raw::overwrite(&self.raw.logs[..logs], bytes / groups.max(1.0), limit)?;
                self.rows.last_mut().expect("it was just measured").device_rate =
                    Some(raw.rate() * puts_a_group);
            }
        }
        db.sweep(written)?;
        db.close()
    }

    fn corelane_tree(&mut self, shards: u16) -> Result<(), String> {
        let entries = self.setup.entries;
        let dir = fresh_dir(&self.setup.dir)?;
        reset_peak();
        let before = Usage::now();
        let db = Corelane::open(dir.path(), shards, self.setup)?;
        let label = |work, callers| Label {
            engine: "corelane",
            shards,
            work,
            callers,
        };
        self.measure(label("load, no sync", usize::from(shards)), || {
            db.run(&Work::Load { entries }, usize::from(shards), UNBOUND)
        })?;
        let resting = Instant::now();
        db.settle()?;
        let stats = db.stats()?;
        let user = sum(&stats, |s| s.user_bytes);
        let tree = sum(&stats, |s| s.flush_bytes + s.compaction_written_bytes);
        let tables = sum(&stats, corelane::api::ShardStats::table_bytes);
        let row = self.rows.last_mut().expect("the load's");
        row.extra = vec![
            ("s to rest", resting.elapsed().as_secs_f64()),
            ("write amp", tree / user),
            ("with WAL", (tree + sum(&stats, |s| s.wal_bytes)) / user),
            ("delayed s", sum(&stats, |s| s.delayed_us) / 1e6),
        ];
        row.extra.extend(space(dir.path(), tables, entries, before)?);

        self.corelane_reads(&db, shards)?;
        self.note_peak();
        db.sweep(entries)?;
        db.close()
    }

    fn corelane_reads(&mut self, db: &Corelane, shards: u16) -> Result<(), String> {
        let (limit, values, entries) = (self.setup.limit, self.setup.values, self.setup.entries);
        let label = |work, callers| Label {
            engine: "corelane",
            shards,
            work,
            callers,
        };
        for callers in READERS {
            let before = db.stats()?;
            let row = self.measure(label("get, from the device", callers), || {
                db.run(&Work::Read { entries }, callers, limit)
            })?;
            let reads = sum(&db.stats()?, |s| s.block_reads) - sum(&before, |s| s.block_reads);
            row.extra = vec![("device reads an op", reads / row.phase.tally.ops as f64)];
            self.beside_raw_reads(usize::from(shards), callers)?;
        }
        for callers in [CALLERS, 32] {
            self.measure(label("miss", callers), || db.run(&Work::Miss, callers, limit))?;
        }
        db.run(
            &Work::Warm {
                hot: Arc::clone(&self.hot),
            },
            CALLERS,
            UNBOUND,
        )?;
        let (read_hot, scan) = (
            Work::ReadHot {
                hot: Arc::clone(&self.hot),
            },
            Work::Scan {
                hot: Arc::clone(&self.hot),
            },
        );
        self.measure(label("get, from cache", CALLERS), || {
            db.run(&read_hot, CALLERS, limit)
        })?;
        let handle = Label {
            engine: "handle",
            ..label("get, from cache", CALLERS)
        };
        self.measure(handle, || {
            run_threads(&db.handle(), &read_hot, CALLERS, values, limit)
        })?;
        self.measure(label("scan of 100, from cache", CALLERS), || {
            db.run(&scan, CALLERS, limit)
        })?;
        Ok(())
    }

    /// Puts the raw loop's rate at the same depth beside the last row.
    fn beside_raw_reads(&mut self, threads: usize, depth: usize) -> Result<(), String> {
        if let Some(data) = &self.raw.data {
            let raw = raw::random_reads(data, threads, depth, self.setup.limit)?;
            self.rows
                .last_mut()
                .expect("a read was just measured")
                .device_rate = Some(raw.rate());
        }
        Ok(())
    }

    fn note_peak(&mut self) {
        let peak = Usage::now().peak_bytes as f64 / f64::from(1 << 20);
        self.rows
            .last_mut()
            .expect("something was measured")
            .extra
            .push(("peak MiB", peak));
    }

    fn fjall(&mut self) -> Result<(), String> {
        let (limit, values, entries) = (self.setup.limit, self.setup.values, self.setup.entries);
        let label = |work, callers| Label {
            engine: "fjall",
            shards: 0,
            work,
            callers,
        };
        if self.setup.wants(Part::Puts) {
            let dir = fresh_dir(&self.setup.dir)?;
            let db = Fjall::open(dir.path(), self.setup)?;
            let mut written = 0;
            for (run, callers) in (0..).zip(PUTS_IN_FLIGHT) {
                let work = Work::Put { run };
                let row = self.measure(label("durable put", callers), || {
                    run_threads(&db, &work, callers, values, limit)
                })?;
                written += row.phase.tally.ops;
            }
            db.sweep(values, written)?;
        }
        if !self.setup.wants(Part::Tree) {
            return Ok(());
        }
        let dir = fresh_dir(&self.setup.dir)?;
        reset_peak();
        let before = Usage::now();
        let db = Fjall::open(dir.path(), self.setup)?;
        let load = Work::Load { entries };
        self.measure(label("load, no sync", CALLERS), || {
            run_threads(&db, &load, CALLERS, values, UNBOUND)
        })?;
        let resting = Instant::now();
        db.settle()?;
        let row = self.rows.last_mut().expect("the load's");
        row.extra = vec![("s to rest", resting.elapsed().as_secs_f64())];
        row.extra
            .extend(space(dir.path(), db.table_bytes() as f64, entries, before)?);
        self.fjall_reads(&db)?;
        db.sweep(values, entries)
    }

    fn fjall_reads(&mut self, db: &Fjall) -> Result<(), String> {
        let (limit, values, entries) = (self.setup.limit, self.setup.values, self.setup.entries);
        let hot = Arc::clone(&self.hot);
        let works = [
            ("get, page cache", READERS.to_vec(), Work::Read { entries }),
            ("miss", vec![CALLERS], Work::Miss),
            (
                "get, from cache",
                vec![CALLERS],
                Work::ReadHot {
                    hot: Arc::clone(&hot),
                },
            ),
            (
                "scan of 100, from cache",
                vec![CALLERS],
                Work::Scan {
                    hot: Arc::clone(&hot),
                },
            ),
        ];
        for (name, all_callers, work) in works {
            if name == "get, from cache" {
                run_threads(
                    db,
                    &Work::Warm {
                        hot: Arc::clone(&hot),
                    },
                    CALLERS,
                    values,
                    UNBOUND,
                )?;
            }
            for callers in all_callers {
                let label = Label {
                    engine: "fjall",
                    shards: 0,
                    work: name,
                    callers,
                };
                self.measure(label, || run_threads(db, &work, callers, values, limit))?;
            }
        }
        self.note_peak();
        Ok(())
    }
}

/// Space and device writes of a loaded database, for each byte that the user gave it.
fn space(
    dir: &Path,
    table_bytes: f64,
    entries: u64,
    before: Usage,
) -> Result<Vec<(&'static str, f64)>, String> {
    let user = (entries * ENTRY_BYTES) as f64;
    let files = occupied_bytes(dir).map_err(|e| format!("looking at {}: {e}", dir.display()))?;
    let written = (Usage::now().written_bytes - before.written_bytes) as f64;
    Ok(vec![
        ("written by the process", written / user),
        ("tables", table_bytes / user),
        ("all files", files as f64 / user),
    ])
}

fn sum(stats: &Stats, of: impl Fn(&corelane::api::ShardStats) -> u64) -> f64 {
    stats.shards.iter().map(of).sum::<u64>() as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::SCAN_ENTRIES;

    #[test]
    fn a_small_run_measures_every_engine_and_leaves_nothing_behind() {
        let dir = crate::machine::test_dir();
        let out = crate::machine::test_dir();
        let setup = Setup {
            dir: dir.path().to_owned(),
            entries: 20_000,
            shards: vec![1],
            peers: vec![Peer::Fjall],
            only: None,
            limit: Duration::from_millis(50),
            values: Values::HalfCompressible,
            cache_bytes: 4 << 20,
            memtable_bytes: 1 << 20,
            spin: Duration::ZERO,
            json: Some(out.path().join("raw.json")),
        };
        let report = run(&setup).unwrap();
        for part in [
            "| handle | 1 | durable put | 64 |",
            "| fjall | – | durable put | 64 |",
            "| corelane | 1 | scan",
        ] {
            assert!(report.contains(part), "{part} in {report}");
        }
        assert!(
            std::fs::read_to_string(out.path().join("raw.json"))
                .unwrap()
                .contains("\"load, no sync\"")
        );
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_scan_fits_the_hot_range_of_the_smallest_load() {
        assert!(hot_indices(10_000).len() > 2 * SCAN_ENTRIES);
    }
}
