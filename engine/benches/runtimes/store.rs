//! What was measured, as JSON: every latency in a histogram, so that figures nobody thought of can be taken from it later.
//!
//! Histograms are those of the `histogram` crate, sparse, in nanoseconds and of the shape that `corelane-bench` stores. No
//! path of the machine is in it.

use histogram::{Histogram, SparseHistogram};
use serde_json::{Value, json};

use crate::latencies::{Row, percentile_us};

/// Version of what is written here.
const FORMAT: u32 = 1;
/// Buckets are at most 1/128 of their value wide.
const GROUPING_POWER: u8 = 7;
/// Eighteen minutes, far above what a time of 32 bits holds.
const MAX_VALUE_POWER: u8 = 40;

/// Everything measured in one run.
pub struct Store {
    environment: Value,
    tables: Vec<Value>,
}

impl Store {
    /// An empty one, made before anything is measured: it notes what else the machine has to do.
    pub fn new(runtime: &str, seconds: f64) -> Self {
        let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = text("/proc/cpuinfo");
        let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name"));
        let since_epoch = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
        let environment = json!({
            "unix_seconds": since_epoch.as_secs(),
            "processor": model.unwrap_or_default().trim_start_matches([' ', '\t', ':']),
            "cores": corelane::io::cores::available_cores().len(),
            "load_before": text("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(" "),
            "uring": runtime,
            "seconds": seconds,
            "rounds": crate::ROUNDS,
            "optimised": !cfg!(debug_assertions),
        });
        Self {
            environment,
            tables: Vec::new(),
        }
    }

    /// Adds a table.
    pub fn add(&mut self, title: &str, rows: &[Row]) {
        let rows: Vec<Value> = rows.iter().map(row).collect();
        self.tables.push(json!({ "title": title, "rows": rows }));
    }

    /// Writes it to the file that `CORELANE_BENCH_JSON` names, if it names one.
    pub fn write(self) {
        let Ok(path) = std::env::var("CORELANE_BENCH_JSON") else {
            return;
        };
        let all = json!({ "format": FORMAT, "environment": self.environment, "tables": self.tables });
        std::fs::write(path, serde_json::to_string(&all).unwrap() + "\n").unwrap();
    }
}

fn row(row: &Row) -> Value {
    let mut histogram = Histogram::new(GROUPING_POWER, MAX_VALUE_POWER).unwrap();
    for &ns in &row.all.each {
        histogram.increment(u64::from(ns)).unwrap();
    }
    let mut sorted = row.all.each.clone();
    sorted.sort_unstable();
    json!({
        "name": row.name,
        "rate": row.rate,
        "operations": row.all.count(),
        "operations_each": row.all.operations,
        "p50_us": percentile_us(&sorted, 500),
        "p99_us": percentile_us(&sorted, 990),
        "p999_us": percentile_us(&sorted, 999),
        "max_us": percentile_us(&sorted, 1000),
        "cpu_us_each": row.all.cpu_us(),
        "background_share": row.all.background_share(),
        "latency_ns": SparseHistogram::from(&histogram),
    })
}
