//! Families about the shards: what is written, read, held, merged and delayed, with the shard as a label.

use std::fmt::Error;

use corelane::api::{Histogram, ShardStats, StallCause};
use corelane::io::Class;
use prometheus_client::registry::Unit;

use super::families::{Families, Labels, seconds};

const BYTES: Option<Unit> = Some(Unit::Bytes);

/// One family that has one value a shard: its name, unit, meaning, and the value.
type Row = (&'static str, Option<Unit>, &'static str, fn(&ShardStats) -> u64);

/// Counts that only rise.
#[rustfmt::skip]
const COUNTERS: &[Row] = &[
    ("operations", None, "Operations that entered a memtable.", |s| s.operations),
    ("prepared_operations", None, "Operations copied into a memtable while the device wrote their group.", |s| s.prepared_operations),
    ("user_written", BYTES, "Bytes of keys and values that users wrote.", |s| s.user_bytes),
    ("wal_writes", None, "Device writes of the log: groups.", |s| s.wal_writes),
    ("wal_batches", None, "Batches that those writes carried.", |s| s.wal_batches),
    ("wal_written", BYTES, "Bytes written to the log, padding included.", |s| s.wal_bytes),
    ("flushes", None, "Memtables written out as tables.", |s| s.flushes),
    ("flush_written", BYTES, "Bytes of those tables.", |s| s.flush_bytes),
    ("compactions", None, "Merges done.", |s| s.compactions),
    ("compaction_moves", None, "Tables moved down without being rewritten.", |s| s.moves),
    ("compaction_read", BYTES, "Bytes that merges read.", |s| s.compaction_read_bytes),
    ("compaction_written", BYTES, "Bytes that merges wrote.", |s| s.compaction_written_bytes),
    ("job_failures", None, "Flushes and merges given up and tried again later.", |s| s.job_failures),
    ("block_reads", None, "Blocks read from the device for lookups.", |s| s.block_reads),
    ("filter_false_positives", None, "Blocks looked into in vain: the filter had said maybe.",
        |s| s.filter_false_positives),
    ("filter_useful", None, "Tables that a lookup did not look into: their filter had said no.", |s| s.filter_useful),
    ("cache_hits", None, "Lookups of blocks that the cache held.", |s| s.cache_hits),
    ("cache_misses", None, "Lookups of blocks that it did not hold.", |s| s.cache_misses),
    ("cache_evictions", None, "Blocks pushed out of the cache by others.", |s| s.cache_evictions),
    ("cache_inserted", BYTES, "Bytes of blocks put into the cache.", |s| s.cache_inserted_bytes),
    ("read_errors", None, "Reads that failed.", |s| s.read_errors),
    ("expired_dropped", None, "Values that flushes and merges gave up because their time had passed.",
        |s| s.expired_dropped),
    ("write_waits", None, "Writes that waited for a hard limit.", |s| s.waits),
];

/// Values that rise and fall.
#[rustfmt::skip]
const GAUGES: &[Row] = &[
    ("immutables", None, "Memtables that wait for a flush.", |s| s.immutables),
    ("wal_segments", None, "Segments of the log on disk, spares included.", |s| s.wal_segments),
    ("table_entries", None, "Entries in tables, older versions and tombstones included.", |s| s.table_entries),
    ("cache", BYTES, "Bytes in the block cache.", |s| s.cache_bytes),
    ("cache_capacity", BYTES, "The bound on the block cache.", |s| s.cache_capacity_bytes),
    ("wal_disk", BYTES, "Bytes of the log's segments on disk.", |s| s.wal_disk_bytes),
    ("compaction_backlog", BYTES, "Bytes that merges have yet to write.", |s| s.compaction_debt_bytes),
    ("wal_torn_tail", BYTES, "Bytes dropped behind the last whole group at the start.", |s| s.torn_tail_bytes),
    ("replayed_batches", None, "Batches put back into memtables from the log at the start; 0 after a close that flushed.",
        |s| s.replayed_batches),
    ("stalled", None, "1 where writers are delayed now.", |s| u64::from(!s.stall.is_empty())),
];

/// Values that are ratios.
type Ratio = (&'static str, &'static str, fn(&ShardStats) -> f64);

#[rustfmt::skip]
const RATIOS: &[Ratio] = &[
    ("write_amplification", "Bytes written to the device for each byte written by users, the log included.",
        ShardStats::write_amplification),
    ("tree_write_amplification", "The same without the log.", ShardStats::tree_write_amplification),
    ("read_amplification", "Blocks read from the device for each lookup.", read_amplification),
];

/// What shards measure: its name, unit, meaning, what makes the unit from theirs, and the histogram.
type Measure = (
    &'static str,
    Option<Unit>,
    &'static str,
    f64,
    fn(&ShardStats) -> &Histogram,
);

const MICROSECONDS: f64 = 1e-6;
const MILLISECONDS: f64 = 1e-3;

#[rustfmt::skip]
const MEASURES: &[Measure] = &[
    ("group_batches", None, "Batches that went to the device as one group.", 1.0, |s| &s.group_batches),
    ("group_size", BYTES, "Bytes of groups as written, padding included.", 1.0, |s| &s.group_bytes),
    ("wal_write", Some(Unit::Seconds), "Each device write of the log.", MICROSECONDS, |s| &s.wal_write_us),
    ("device_read", Some(Unit::Seconds), "Each device read that a lookup or a scan waited for.", MICROSECONDS,
        |s| &s.device_read_us),
    ("flush_duration", Some(Unit::Seconds), "Each flush, up to its table being visible.", MILLISECONDS, |s| &s.flush_ms),
    ("compaction_duration", Some(Unit::Seconds), "Each merge.", MILLISECONDS, |s| &s.compaction_ms),
];

#[expect(clippy::cast_precision_loss, reason = "a ratio for people to read")]
fn read_amplification(shard: &ShardStats) -> f64 {
    let lookups = shard.gets_from_memory + shard.gets_from_cache + shard.gets_from_device + shard.gets_absent;
    if lookups == 0 {
        0.0
    } else {
        shard.block_reads as f64 / lookups as f64
    }
}

/// Characters of a reason that a label holds: each reason is a series of its own, and it names a file and its place first.
pub(super) const MAX_REASON_CHARS: usize = 256;

fn cut(text: &str, chars: usize) -> String {
    text.chars().take(chars).collect()
}

fn labels(shard: &ShardStats) -> Labels {
    vec![("shard", shard.shard.to_string())]
}

fn labels_and(shard: &ShardStats, name: &'static str, value: impl Into<String>) -> Labels {
    let mut labels = labels(shard);
    labels.push((name, value.into()));
    labels
}

pub(super) fn encode(shards: &[ShardStats], out: &mut Families<'_>) -> Result<(), Error> {
    for (name, unit, help, value) in COUNTERS {
        let samples = shards.iter().map(|shard| (labels(shard), value(shard)));
        out.counter(name, unit.clone(), help, samples)?;
    }
    for (name, unit, help, value) in GAUGES {
        let samples = shards.iter().map(|shard| (labels(shard), value(shard)));
        out.gauge(name, unit.clone(), help, samples)?;
    }
    for (name, help, value) in RATIOS {
        let samples = shards.iter().map(|shard| (labels(shard), value(shard)));
        out.gauge(name, Some(Unit::Ratios), help, samples)?;
    }
    for (name, unit, help, scale, measured) in MEASURES {
        let samples = shards.iter().map(|shard| (labels(shard), measured(shard)));
        out.measured(name, unit.clone(), help, *scale, samples)?;
    }
    out.counter(
        "write_delay",
        Some(Unit::Seconds),
        "Time that writers were delayed because merges did not keep up.",
        shards
            .iter()
            .map(|shard| (labels(shard), seconds(shard.delayed_us))),
    )?;
    by_kind(shards, out)?;
    by_level(shards, out)
}

/// Families whose second label is a kind.
fn by_kind(shards: &[ShardStats], out: &mut Families<'_>) -> Result<(), Error> {
    out.counter(
        "lookups",
        None,
        "Lookups by what answered them: memory (a memtable), cache, device, absent (no table holds the key).",
        shards.iter().flat_map(|shard| {
            [
                ("memory", shard.gets_from_memory),
                ("cache", shard.gets_from_cache),
                ("device", shard.gets_from_device),
                ("absent", shard.gets_absent),
            ]
            .map(|(source, count)| (labels_and(shard, "source", source), count))
        }),
    )?;
    out.counter(
        "stall",
        Some(Unit::Seconds),
        "Time that writers waited for a hard limit or their turn, by what held them back; each writer's own time.",
        shards.iter().flat_map(|shard| {
            StallCause::ALL
                .into_iter()
                .zip(shard.stalled_us)
                .map(|(cause, us)| (labels_and(shard, "reason", cause.word()), seconds(us)))
        }),
    )?;
    out.gauge(
        "background_shares",
        None,
        "Weight of background work on the shard's core, 1 to 1000: flushes, merges out of level 0, merges below.",
        shards.iter().flat_map(|shard| {
            [
                (Class::Flush, shard.flush_shares),
                (Class::Level0, shard.level0_shares),
                (Class::Compaction, shard.compaction_shares),
            ]
            .map(|(class, shares)| (labels_and(shard, "work", class.name()), u64::from(shares)))
        }),
    )?;
    out.gauge(
        "memtable",
        BYTES,
        "Bytes in memtables: active, or immutable and waiting for a flush.",
        shards.iter().flat_map(|shard| {
            [
                ("active", shard.memtable_bytes),
                ("immutable", shard.immutable_bytes),
            ]
            .map(|(kind, bytes)| (labels_and(shard, "kind", kind), bytes))
        }),
    )?;
    states(shards, out)
}

/// How shards are, in words.
fn states(shards: &[ShardStats], out: &mut Families<'_>) -> Result<(), Error> {
    out.gauge(
        "failing_job",
        None,
        "1 for why flushes or merges of a shard fail now; no line where none does.",
        shards
            .iter()
            .filter(|shard| !shard.failing_job.is_empty())
            .map(|shard| {
                let reason = cut(&shard.failing_job, MAX_REASON_CHARS);
                (labels_and(shard, "reason", reason), 1_u64)
            }),
    )?;
    out.gauge(
        "shard_state",
        None,
        "1 for the state that a shard is in, 0 for the others.",
        shards.iter().flat_map(|shard| {
            ["healthy", "read-only", "poisoned", "closed"].map(|state| {
                let is = shard.health.starts_with(state);
                (labels_and(shard, "state", state), u64::from(is))
            })
        }),
    )
}

/// Families whose second label is a level.
fn by_level(shards: &[ShardStats], out: &mut Families<'_>) -> Result<(), Error> {
    let levels = |values: fn(&ShardStats) -> &Vec<u64>| {
        shards.iter().flat_map(move |shard| {
            let values = values(shard).iter().enumerate();
            values.map(move |(level, &value)| (labels_and(shard, "level", level.to_string()), value))
        })
    };
    let tables = levels(|shard| &shard.level_tables);
    out.gauge("level_tables", None, "Tables of each level.", tables)?;
    let bytes = levels(|shard| &shard.level_bytes);
    out.gauge("level", BYTES, "Bytes of the tables of each level.", bytes)
}
