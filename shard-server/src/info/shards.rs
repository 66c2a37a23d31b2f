//! How many keys there are, and the engine's shards, one line each.

use corelane::api::{ClassTimes, Held, ShardStats};

use super::Facts;
use super::page::Page;

/// `exact` is 0 where the number is that of the tables' entries, older versions and deletions included. `expires` and
/// `avg_ttl` are there because clients look for them, and always 0: tables do not count which of their entries end, and what
/// a memtable has counted would say nothing of overwritten ones.
pub(super) fn keyspace(page: &mut Page, facts: &Facts<'_>) {
    page.heading("Keyspace");
    let estimated = || (facts.stats.total(|s| s.table_entries), 0);
    let (count, exact) = facts.keys.map_or_else(estimated, |keys| (keys, 1));
    if count > 0 {
        page.line(
            "db0",
            format_args!("keys={count},expires=0,avg_ttl=0,exact={exact}"),
        );
    }
}

pub(super) fn corelane(page: &mut Page, facts: &Facts<'_>) {
    page.heading("Corelane");
    for shard in &facts.stats.shards {
        page.line(format_args!("shard{}", shard.shard), of(shard));
    }
    for (core, held) in facts.stats.held() {
        page.line(format_args!("core{core}"), held_by(&held));
    }
    for (core, times) in facts.stats.class_times() {
        page.line(format_args!("core{core}_classes"), had_by(&times));
    }
}

/// What each class of tasks has had of a core; a stall is one that kept it for a millisecond or more.
fn had_by(times: &ClassTimes) -> String {
    let classes = times.iter().map(|(class, time)| {
        let (name, ran, longest) = (class.name(), time.ran.as_micros(), time.longest.as_micros());
        let stalls = time.stalls;
        format!("{name}_us={ran},{name}_stalls={stalls},{name}_longest_us={longest}")
    });
    classes.collect::<Vec<_>>().join(",")
}

/// What a core holds of the machine. Of a server at rest, one that grows with the load and stays is a leak.
fn held_by(held: &Held) -> String {
    let fields = [
        ("tasks", held.tasks),
        ("timers", held.timers),
        ("operations", held.operations),
        ("files", held.files),
        ("registered_files", held.registered_files),
        ("sockets", held.sockets),
        ("receive_buffers", held.receive_buffers),
        ("file_buffers", held.file_buffers),
    ];
    fields.map(|(name, n)| format!("{name}={n}")).join(",")
}

/// Fields in the manner of `db0`. Words that the engine chose may contain commas; they come last.
fn of(shard: &ShardStats) -> String {
    let stall = if shard.stall.is_empty() {
        "none"
    } else {
        &shard.stall
    };
    let fields = [
        ("operations", shard.operations),
        ("memtable_bytes", shard.memtable_bytes),
        ("immutables", shard.immutables),
        ("wal_writes", shard.wal_writes),
        ("wal_bytes", shard.wal_bytes),
        ("wal_segments", shard.wal_segments),
        ("flushes", shard.flushes),
        ("compactions", shard.compactions),
        ("compaction_debt_bytes", shard.compaction_debt_bytes),
        ("tables", shard.level_tables.iter().sum()),
        ("l0_tables", shard.level_tables.first().copied().unwrap_or(0)),
        ("table_bytes", shard.table_bytes()),
        ("cache_bytes", shard.cache_bytes),
        ("delayed_us", shard.delayed_us),
        ("waits", shard.waits),
    ];
    let numbers: String = fields.map(|(name, n)| format!("{name}={n},")).concat();
    format!("health={},{numbers}stall={stall}", shard.health)
}
