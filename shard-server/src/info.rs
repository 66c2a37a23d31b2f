//! The text of `INFO`, under the names that Redis's tools look for and beside them the engine's own.

use std::fmt::{Display, Write as _};
use std::time::Duration;

use corelane::api::{Durability, ShardStats, Stats};

use crate::command::server::REDIS_VERSION;
use crate::server::Server;

/// Which sections are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sections {
    /// The process.
    pub server: bool,
    /// Who is connected.
    pub clients: bool,
    /// What is held in memory.
    pub memory: bool,
    /// How writes reach the device.
    pub persistence: bool,
    /// Counts since the start.
    pub stats: bool,
    /// How many keys there are.
    pub keyspace: bool,
}

impl Sections {
    const ALL: Self = Self {
        server: true,
        clients: true,
        memory: true,
        persistence: true,
        stats: true,
        keyspace: true,
    };

    /// Those that a command line names; all where it names none. Unknown names ask for nothing.
    pub fn named<'a>(names: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut wanted = Self::default();
        let mut any = false;
        for name in names {
            any = true;
            match name.to_ascii_lowercase().as_slice() {
                b"server" => wanted.server = true,
                b"clients" => wanted.clients = true,
                b"memory" => wanted.memory = true,
                b"persistence" => wanted.persistence = true,
                b"stats" => wanted.stats = true,
                b"keyspace" => wanted.keyspace = true,
                b"all" | b"default" | b"everything" => wanted = Self::ALL,
                _ => {}
            }
        }
        if any { wanted } else { Self::ALL }
    }
}

/// Lines under headings.
#[derive(Default)]
struct Page(String);

impl Page {
    fn heading(&mut self, name: &str) {
        let gap = if self.0.is_empty() { "" } else { "\r\n" };
        let _ = write!(self.0, "{gap}# {name}\r\n");
    }

    fn line(&mut self, name: &str, value: impl Display) {
        let _ = write!(self.0, "{name}:{value}\r\n");
    }
}

/// The text. `keys` is their exact number where it was counted; else it is estimated from the tables' entries.
pub fn render(wanted: Sections, server: &Server, stats: &Stats, keys: Option<u64>, now: Duration) -> String {
    let mut page = Page::default();
    if wanted.server {
        about_server(&mut page, server, stats, now);
    }
    if wanted.clients {
        page.heading("Clients");
        page.line("connected_clients", server.clients());
        page.line("maxclients", server.settings.max_clients);
    }
    if wanted.memory {
        about_memory(&mut page, stats);
    }
    if wanted.persistence {
        about_persistence(&mut page, server, stats);
    }
    if wanted.stats {
        about_traffic(&mut page, server, stats);
    }
    if wanted.keyspace {
        page.heading("Keyspace");
        let (count, exact) = keys.map_or((stats.total(|s| s.table_entries), 0), |keys| (keys, 1));
        if count > 0 {
            page.line(
                "db0",
                format_args!("keys={count},expires=0,avg_ttl=0,exact={exact}"),
            );
        }
    }
    page.0
}

fn about_server(page: &mut Page, server: &Server, stats: &Stats, now: Duration) {
    let uptime = server.uptime(now).as_secs();
    let port = server.address().unwrap_or(server.settings.address).port();
    page.heading("Server");
    page.line("redis_version", REDIS_VERSION);
    page.line("corelane_version", env!("CARGO_PKG_VERSION"));
    page.line("redis_mode", "standalone");
    page.line("os", std::env::consts::OS);
    page.line("arch_bits", usize::BITS);
    page.line("process_id", std::process::id());
    page.line("tcp_port", port);
    page.line("uptime_in_seconds", uptime);
    page.line("uptime_in_days", uptime / 86_400);
    page.line("cores", server.settings.cores);
    page.line("shards", stats.shards.len());
    page.line("data_dir", server.settings.data_dir.display());
}

fn about_memory(page: &mut Page, stats: &Stats) {
    let memtables = stats.total(|s| s.memtable_bytes + s.immutable_bytes);
    let cache = stats.total(|s| s.cache_bytes);
    page.heading("Memory");
    page.line("used_memory", memtables + cache);
    page.line("used_memory_rss", resident_bytes().unwrap_or(0));
    page.line("memtable_bytes", memtables);
    page.line("cache_bytes", cache);
    page.line("maxmemory", 0);
    page.line("maxmemory_policy", "noeviction");
}

fn about_persistence(page: &mut Page, server: &Server, stats: &Stats) {
    let durability = match server.settings.durability {
        Durability::Sync => "sync",
        Durability::Buffered => "buffered",
        Durability::None => "none",
    };
    page.heading("Persistence");
    page.line("loading", 0);
    page.line(
        "aof_enabled",
        u8::from(server.settings.durability != Durability::None),
    );
    page.line("durability", durability);
    page.line("wal_writes", stats.total(|s| s.wal_writes));
    page.line("wal_batches", stats.total(|s| s.wal_batches));
    page.line("wal_bytes", stats.total(|s| s.wal_bytes));
    page.line("torn_tail_bytes", stats.total(|s| s.torn_tail_bytes));
    page.line("table_bytes", stats.total(ShardStats::table_bytes));
    page.line("tables", stats.total(|s| s.level_tables.iter().sum()));
    for shard in &stats.shards {
        let stall = if shard.stall.is_empty() {
            "none"
        } else {
            &shard.stall
        };
        page.line(
            &format!("shard{}", shard.shard),
            format_args!("health={},stall={stall}", shard.health),
        );
    }
}

fn about_traffic(page: &mut Page, server: &Server, stats: &Stats) {
    page.heading("Stats");
    page.line(
        "total_connections_received",
        server.telemetry().total(|c| &c.connections),
    );
    page.line("rejected_connections", server.telemetry().total(|c| &c.rejected));
    page.line(
        "total_commands_processed",
        server.telemetry().total(|c| &c.commands),
    );
    page.line("total_error_replies", server.telemetry().total(|c| &c.errors));
    page.line(
        "total_net_input_bytes",
        server.telemetry().total(|c| &c.received_bytes),
    );
    page.line(
        "total_net_output_bytes",
        server.telemetry().total(|c| &c.sent_bytes),
    );
    page.line("keyspace_hits", server.telemetry().total(|c| &c.hits));
    page.line("keyspace_misses", server.telemetry().total(|c| &c.misses));
    page.line("expired_keys", 0);
    page.line("evicted_keys", 0);
    page.line("reads_from_memory", stats.total(|s| s.gets_from_memory));
    page.line("reads_from_cache", stats.total(|s| s.gets_from_cache));
    page.line("reads_from_device", stats.total(|s| s.gets_from_device));
    page.line("read_errors", stats.total(|s| s.read_errors));
    page.line("flushes", stats.total(|s| s.flushes));
    page.line("compactions", stats.total(|s| s.compactions));
    page.line("job_failures", stats.total(|s| s.job_failures));
    page.line("write_delay_us", stats.total(|s| s.delayed_us));
    page.line(
        "write_amplification",
        format_args!("{:.2}", stats.write_amplification()),
    );
}

/// Memory that the process holds, in bytes, from the kernel's `/proc/self/statm` (proc(5)): a file of the kernel's, not
/// of the device's, and so not behind the seam.
fn resident_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages * corelane::types::PAGE_BYTES as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::server;

    #[test]
    fn sections_are_chosen_by_name() {
        let named = |names: &[&str]| Sections::named(names.iter().map(|name| name.as_bytes()));
        assert_eq!(named(&[]), Sections::ALL);
        assert_eq!(named(&["EVERYTHING"]), Sections::ALL);
        assert_eq!(
            named(&["Server"]),
            Sections {
                server: true,
                ..Sections::default()
            }
        );
        assert_eq!(named(&["replication"]), Sections::default());
    }

    #[test]
    fn every_line_is_a_heading_a_gap_or_a_pair() {
        let stats = Stats {
            shards: vec![ShardStats {
                table_entries: 9,
                ..ShardStats::default()
            }],
        };
        let text = render(Sections::ALL, &server(), &stats, None, Duration::from_secs(1));
        for line in text.split("\r\n") {
            assert!(
                line.is_empty() || line.starts_with("# ") || line.contains(':'),
                "{line:?}"
            );
        }
        for part in [
            "# Server",
            "# Clients",
            "# Memory",
            "# Persistence",
            "# Stats",
            "db0:keys=9,",
            "exact=0",
        ] {
            assert!(text.contains(part), "{part}");
        }
        let none = render(Sections::default(), &server(), &stats, Some(3), Duration::ZERO);
        assert_eq!(none, "");
    }
}
