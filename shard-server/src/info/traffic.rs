//! How writes reach the device, and the counts since the start or the last `CONFIG RESETSTAT`.

use corelane::api::{Durability, ShardStats};

use super::Facts;
use super::page::Page;

pub(super) fn persistence(page: &mut Page, facts: &Facts<'_>) {
    let (durability, stats) = (facts.server.settings.durability, facts.stats);
    let word = match durability {
        Durability::Sync => "sync",
        Durability::Buffered => "buffered",
        Durability::None => "none",
    };
    page.heading("Persistence");
    page.line("loading", 0);
    page.line("aof_enabled", u8::from(durability != Durability::None));
    page.line("durability", word);
    page.line("wal_writes", stats.total(|s| s.wal_writes));
    page.line("wal_batches", stats.total(|s| s.wal_batches));
    page.line("wal_bytes", stats.total(|s| s.wal_bytes));
    page.line("torn_tail_bytes", stats.total(|s| s.torn_tail_bytes));
    page.line("replayed_batches", stats.total(|s| s.replayed_batches));
    page.line("table_bytes", stats.total(ShardStats::table_bytes));
    page.line("tables", stats.total(|s| s.level_tables.iter().sum()));
}

pub(super) fn stats(page: &mut Page, facts: &Facts<'_>) {
    let (telemetry, stats) = (facts.server.telemetry(), facts.stats);
    let (totals, rates) = (telemetry.since_reset(), telemetry.rates());
    page.heading("Stats");
    page.line("total_connections_received", totals.connections);
    page.line("total_commands_processed", totals.commands);
    page.line("instantaneous_ops_per_sec", rates.commands);
    page.line("total_net_input_bytes", totals.received_bytes);
    page.line("total_net_output_bytes", totals.sent_bytes);
    page.line("instantaneous_input_kbps", kib(rates.received_bytes));
    page.line("instantaneous_output_kbps", kib(rates.sent_bytes));
    page.line("rejected_connections", totals.rejected_connections);
    page.line("total_error_replies", totals.failed_commands);
    page.line("keyspace_hits", totals.hits);
    page.line("keyspace_misses", totals.misses);
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
    page.line("slowlog_entries", telemetry.slow().len());
}

/// Bytes a second in KiB.
#[expect(clippy::cast_precision_loss, reason = "a figure for people to read")]
fn kib(bytes: u64) -> String {
    format!("{:.2}", bytes as f64 / 1024.0)
}
