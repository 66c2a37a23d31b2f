//! The sections about the process: what it is, who is connected, its processor time.

use super::Facts;
use super::page::Page;
use crate::command::server::REDIS_VERSION;

pub(super) fn server(page: &mut Page, facts: &Facts<'_>) {
    let server = facts.server;
    let uptime = server.uptime(facts.now).as_secs();
    let port = server.address().unwrap_or(server.settings.address).port();
    page.heading("Server");
    page.line("redis_version", REDIS_VERSION);
    page.line("corelane_version", env!("CARGO_PKG_VERSION"));
    page.line("redis_mode", "standalone");
    page.line("os", std::env::consts::OS);
    page.line("arch_bits", usize::BITS);
    page.line("process_id", std::process::id());
    page.line("tcp_port", port);
    page.line("server_time_usec", facts.wall_clock_ms * 1000);
    page.line("uptime_in_seconds", uptime);
    page.line("uptime_in_days", uptime / 86_400);
    page.line("cores", server.settings.cores);
    page.line("shards", facts.stats.shards.len());
    page.line("data_dir", server.settings.data_dir.display());
}

pub(super) fn clients(page: &mut Page, facts: &Facts<'_>) {
    page.heading("Clients");
    page.line("connected_clients", facts.server.clients());
    page.line("maxclients", facts.server.max_clients());
}

pub(super) fn replication(page: &mut Page) {
    page.heading("Replication");
    page.line("role", "master");
    page.line("connected_slaves", 0);
}

pub(super) fn cluster(page: &mut Page, facts: &Facts<'_>) {
    page.heading("Cluster");
    page.line("cluster_enabled", u8::from(facts.server.is_cluster()));
}

pub(super) fn cpu(page: &mut Page) {
    page.heading("CPU");
    if let Some(times) = cpu_seconds() {
        let names = [
            "used_cpu_sys",
            "used_cpu_user",
            "used_cpu_sys_children",
            "used_cpu_user_children",
        ];
        for (name, seconds) in names.iter().zip(times) {
            page.line(name, format_args!("{seconds:.6}"));
        }
    }
}

/// Clock ticks a second in what the kernel tells of processes; the same on every Linux of today (`USER_HZ`).
const TICKS: f64 = 100.0;

/// Seconds of processor time in the kernel and outside it, of this process and of its children, from the kernel's
/// `/proc/self/stat` (proc(5)): a file of the kernel's, not of the device's, and so not behind the seam.
fn cpu_seconds() -> Option<[f64; 4]> {
    let text = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The process's name stands in brackets and may contain anything; the numbers follow the last one.
    let numbers = text.rsplit_once(')')?.1;
    let fields: Vec<&str> = numbers.split_ascii_whitespace().collect();
    let seconds = |field: usize| Some(fields.get(field)?.parse::<f64>().ok()? / TICKS);
    Some([seconds(12)?, seconds(11)?, seconds(14)?, seconds(13)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_processor_times() {
        let mut spent = 0_u64;
        while cpu_seconds().unwrap()[..2].iter().sum::<f64>() == 0.0 {
            spent = std::hint::black_box(spent + 1);
        }
        assert!(cpu_seconds().unwrap().iter().all(|seconds| *seconds >= 0.0));
    }
}
