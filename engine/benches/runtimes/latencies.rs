//! What was measured, and the table of it.

use std::time::Duration;

/// The times that operations took, and how long all of them took together.
pub struct Latencies {
    /// In nanoseconds.
    pub each: Vec<u32>,
    /// Operations that each of these times was for: the messages of a batch.
    pub operations: u32,
    pub took: Duration,
    /// Processor time of the threads at work.
    pub cpu: Duration,
    /// Time that the background beside them had of their core.
    pub background: Duration,
}

impl Default for Latencies {
    fn default() -> Self {
        Self {
            each: Vec::new(),
            operations: 1,
            took: Duration::ZERO,
            cpu: Duration::ZERO,
            background: Duration::ZERO,
        }
    }
}

/// A contender's name, the rate of its median round, and the latencies of all its rounds.
pub struct Row {
    pub name: String,
    pub rate: f64,
    pub all: Latencies,
}

impl Latencies {
    /// Operations in all.
    pub fn count(&self) -> u64 {
        self.each.len() as u64 * u64::from(self.operations)
    }

    /// Operations a second.
    pub fn rate(&self) -> f64 {
        self.count() as f64 / self.took.as_secs_f64()
    }

    pub fn add(&mut self, other: Self) {
        self.each.extend(other.each);
        self.operations = other.operations;
        self.took += other.took;
        self.cpu += other.cpu;
        self.background += other.background;
    }

    /// Processor time of one operation.
    pub fn cpu_us(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.count() as f64
    }

    /// The background's part of the core, from 0 to 1.
    pub fn background_share(&self) -> f64 {
        self.background.as_secs_f64() / self.took.as_secs_f64()
    }
}

/// The `per_mille`th of a thousand parts of sorted times, in microseconds.
pub fn percentile_us(sorted: &[u32], per_mille: usize) -> f64 {
    f64::from(sorted[(sorted.len() - 1) * per_mille / 1000]) / 1000.0
}

/// Prints a table; the first row is what the others are compared with. Percentiles are of what was timed, a batch where
/// there are batches; the rate and the last two columns are of single operations.
pub fn table(title: &str, rows: &[Row]) {
    println!("\n{title}\n");
    println!("| | /s | of the first | p50 us | p99 us | p99.9 us | us each | CPU us each | background |");
    println!("|---|---|---|---|---|---|---|---|---|");
    let first = rows[0].rate;
    for Row { name, rate, all } in rows {
        let mut sorted = all.each.clone();
        sorted.sort_unstable();
        let [p50, p99, p999] = [500, 990, 999].map(|per_mille| percentile_us(&sorted, per_mille));
        let (percent, each) = (rate / first * 100.0, 1e6 / rate);
        let (cpu, background) = (all.cpu_us(), all.background_share() * 100.0);
        println!(
            "| {name} | {rate:.0} | {percent:.1} % | {p50:.1} | {p99:.1} | {p999:.1} | {each:.2} | {cpu:.2} | \
             {background:.0} % |"
        );
    }
}

/// Processor time that this thread has taken so far, to ten milliseconds.
pub fn thread_cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
    let after_name = stat.rsplit_once(')').unwrap().1;
    let fields: Vec<u64> = after_name
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|field| field.parse().unwrap())
        .collect();
    Duration::from_millis((fields[0] + fields[1]) * 10)
}
