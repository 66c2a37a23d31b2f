//! What was measured, and the table of it.

use std::time::Duration;

/// The times that operations took, and how long all of them took together.
#[derive(Default)]
pub struct Latencies {
    /// In nanoseconds.
    pub each: Vec<u32>,
    pub took: Duration,
    /// Processor time of the threads at work.
    pub cpu: Duration,
}

impl Latencies {
    /// Operations a second.
    pub fn rate(&self) -> f64 {
        self.each.len() as f64 / self.took.as_secs_f64()
    }

    pub fn add(&mut self, other: Self) {
        self.each.extend(other.each);
        self.took += other.took;
        self.cpu += other.cpu;
    }

    fn us(&mut self, per_mille: usize) -> f64 {
        self.each.sort_unstable();
        f64::from(self.each[(self.each.len() - 1) * per_mille / 1000]) / 1000.0
    }
}

/// Prints a table; the first row is what the others are compared with.
pub fn table(title: &str, rows: &[(String, f64, Latencies)]) {
    println!("\n{title}\n");
    println!(
        "| | /s | of the first | p50 us | p99 us | p99.9 us | CPU us each |\n|---|---|---|---|---|---|---|"
    );
    let first = rows[0].1;
    for (name, rate, latencies) in rows {
        let mut all = Latencies::default();
        all.each.clone_from(&latencies.each);
        let cpu = latencies.cpu.as_secs_f64() * 1e6 / latencies.each.len() as f64;
        let percent = rate / first * 100.0;
        let [p50, p99, p999] = [500, 990, 999].map(|per_mille| all.us(per_mille));
        println!("| {name} | {rate:.0} | {percent:.1} % | {p50:.1} | {p99:.1} | {p999:.1} | {cpu:.2} |");
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
