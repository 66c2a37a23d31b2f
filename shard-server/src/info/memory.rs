//! What is held in memory, for `INFO` and `MEMORY STATS`.

use corelane::api::Stats;

use super::page::Page;
use super::{Facts, human};
use crate::server::Server;

pub(super) fn memory(page: &mut Page, facts: &Facts<'_>) {
    let memtables = facts.stats.total(|s| s.memtable_bytes + s.immutable_bytes);
    let cache = facts.stats.total(|s| s.cache_bytes);
    let resident = resident_bytes().unwrap_or(0);
    page.heading("Memory");
    page.line("used_memory", memtables + cache);
    page.line("used_memory_human", human(memtables + cache));
    page.line("used_memory_rss", resident);
    page.line("used_memory_rss_human", human(resident));
    page.line("memtable_bytes", memtables);
    page.line("cache_bytes", cache);
    page.line("total_system_memory", system_bytes().unwrap_or(0));
    page.line("maxmemory", 0);
    page.line("maxmemory_human", "0B");
    page.line("maxmemory_policy", "noeviction");
    page.line("mem_allocator", "libc");
}

/// What holds memory, in bytes (and counts where the name says so), for `MEMORY STATS`.
pub fn facts(stats: &Stats, server: &Server) -> Vec<(&'static str, u64)> {
    let memtables = stats.total(|s| s.memtable_bytes + s.immutable_bytes);
    let cache = stats.total(|s| s.cache_bytes);
    vec![
        ("total.allocated", memtables + cache),
        ("process.resident", resident_bytes().unwrap_or(0)),
        ("memtables", memtables),
        ("block.cache", cache),
        ("clients.count", server.clients() as u64),
    ]
}

/// Memory that the process holds, in bytes, from the kernel's `/proc/self/statm` (proc(5)): a file of the kernel's, not
/// of the device's, and so not behind the seam.
fn resident_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages * corelane::types::PAGE_BYTES as u64)
}

/// Memory of the machine, in bytes, from the kernel's `/proc/meminfo`, whose first line tells it in KiB.
fn system_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
    let kib: u64 = line.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_how_much_memory_there_is() {
        let (resident, system) = (resident_bytes().unwrap(), system_bytes().unwrap());
        assert!(resident > 0 && resident < system, "{resident} of {system}");
    }
}
