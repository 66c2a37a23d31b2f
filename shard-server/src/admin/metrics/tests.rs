//! What is exported: names, units and lines, and that the dashboards and alerts that ship with us use no other names.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use corelane::api::{ClassTimes, ShardStats};
use corelane::io::Class;
use serde_json::Value;

use super::shards::MAX_REASON_CHARS;
use super::*;
use crate::command::table;
use crate::telemetry::CommandTotals;
use crate::telemetry::histogram::bucket_of;

/// A snapshot in which everything has happened.
fn snapshot() -> Snapshot {
    let shard = ShardStats {
        health: "poisoned: writing".to_owned(),
        gets_from_memory: 3,
        gets_from_device: 1,
        block_reads: 2,
        delayed_us: 1_500_000,
        replayed_batches: 12,
        expired_dropped: 6,
        failing_job: "merging: \"7.sst\"\nis damaged".to_owned(),
        level_tables: vec![4, 5],
        level_bytes: vec![400, 500],
        ..ShardStats::default()
    };
    let mut shard = shard;
    for us in [1, 2, 3, 5_000, u64::MAX / 4] {
        shard.wal_write_us.record(us);
    }
    shard.stalled_us[1] = 2_000_000;
    let mut times = ClassTimes::default();
    times.add(Class::Compaction, Duration::from_millis(250), Duration::ZERO);
    times.add(Class::Compaction, Duration::from_micros(250), Duration::ZERO);
    shard.class_times = Some(times);
    let mut totals = Totals {
        hits: 7,
        by_command: vec![CommandTotals::default(); table::ALL.len()],
        ..Totals::default()
    };
    let get = table::ALL.iter().position(|spec| spec.name == "get").unwrap();
    let command = &mut totals.by_command[get];
    (command.calls, command.failed, command.latency_us) = (3, 1, 5_000);
    for us in [3, 900, 1_000_000_000] {
        command.latencies.add(bucket_of(us), 1);
    }
    totals.errors.note("WRONGTYPE no");
    Snapshot {
        stats: Stats {
            shards: vec![shard.clone(), ShardStats { shard: 1, ..shard }],
        },
        facts: Facts::default(),
        health: State::Degraded,
        clients: 2,
        max_clients: 10,
        totals,
        log_lines_lost: 0,
        admin_answers: vec![("2xx", 1)],
        admin_limited: 0,
        admin_panicked: 0,
    }
}

/// The names of all samples in a text, without their labels.
fn names(text: &str) -> BTreeSet<&str> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split(['{', ' ']).next().unwrap())
        .collect()
}

#[test]
fn counts_arrive_under_their_names_and_labels() {
    let text = encode(snapshot());
    for line in [
        "corelane_build_info{version=\"0.1.0\"} 1",
        "corelane_health_state 1",
        "corelane_lookups_total{shard=\"1\",source=\"memory\"} 3",
        "corelane_write_delay_seconds_total{shard=\"0\"} 1.5",
        "corelane_stall_seconds_total{shard=\"0\",reason=\"level0\"} 2.0",
        "corelane_wal_write_seconds_bucket{le=\"0.000002\",shard=\"0\"} 2",
        "corelane_wal_write_seconds_bucket{le=\"0.000008\",shard=\"0\"} 3",
        "corelane_wal_write_seconds_bucket{le=\"+Inf\",shard=\"0\"} 5",
        "corelane_wal_write_seconds_count{shard=\"0\"} 5",
        "corelane_read_amplification_ratios{shard=\"0\"} 0.5",
        "corelane_level_bytes{shard=\"0\",level=\"1\"} 500",
        "corelane_replayed_batches{shard=\"0\"} 12",
        "corelane_core_class_busy_seconds_total{core=\"0\",class=\"compaction\"} 0.25025",
        "corelane_core_class_polls_total{core=\"0\",class=\"compaction\"} 2",
        "corelane_core_class_stalls_total{core=\"0\",class=\"compaction\"} 1",
        "corelane_core_class_stalls_total{core=\"0\",class=\"foreground\"} 0",
        "corelane_core_class_longest_poll_seconds{core=\"0\",class=\"compaction\"} 0.25",
        "corelane_expired_dropped_total{shard=\"1\"} 6",
        "corelane_failing_job{shard=\"0\",reason=\"merging: \\\"7.sst\\\"\\nis damaged\"} 1",
        "corelane_shard_state{shard=\"0\",state=\"poisoned\"} 1",
        "corelane_shard_state{shard=\"0\",state=\"healthy\"} 0",
        "corelane_commands_total{command=\"get\",outcome=\"ok\"} 2",
        "corelane_commands_total{command=\"get\",outcome=\"failed\"} 1",
        "corelane_keyspace_lookups_total{outcome=\"hit\"} 7",
        "corelane_error_replies_total{code=\"WRONGTYPE\"} 1",
        "corelane_admin_responses_total{class=\"2xx\"} 1",
    ] {
        assert!(
            text.lines().any(|other| other == line),
            "{line} is not in\n{text}"
        );
    }
    assert!(text.ends_with("# EOF\n"));
}

/// A shard whose merges had failed for an hour looked as well as any other, but for a counter that rose: why they failed
/// was to be had from `/api/v1/stats` alone.
#[test]
fn a_job_that_fails_is_told_with_its_reason_and_one_that_does_not_by_no_line() {
    let mut snapshot = snapshot();
    snapshot.stats.shards[0].failing_job = "x".repeat(5000);
    snapshot.stats.shards[1].failing_job = String::new();
    let text = encode(snapshot);
    let lines: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with("corelane_failing_job{"))
        .collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains(&format!("\"{}\"", "x".repeat(MAX_REASON_CHARS))));
}

#[test]
fn a_histogram_counts_up_to_its_end() {
    let text = encode(snapshot());
    let of_get = |name: &str| {
        let begin = format!("corelane_command_latency_seconds_{name}{{");
        let lines = text
            .lines()
            .filter(|line| line.starts_with(&begin) && line.contains("\"get\""));
        let values = lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap());
        values.collect::<Vec<_>>()
    };
    assert_eq!((of_get("count"), of_get("sum")), (vec![3.0], vec![0.005]));
    let buckets = of_get("bucket");
    assert!(buckets.is_sorted() && buckets[0] == 1.0, "{buckets:?}");
    assert_eq!(
        &buckets[buckets.len() - 2..],
        [2.0, 3.0],
        "the slowest is in +Inf alone"
    );
}

#[test]
fn every_family_is_explained_and_commands_that_nobody_used_cost_no_line() {
    let text = encode(snapshot());
    let count = |begin: &str| text.lines().filter(|line| line.starts_with(begin)).count();
    assert_eq!(count("# HELP "), count("# TYPE "));
    for line in text.lines().filter(|line| line.starts_with("# HELP ")) {
        assert!(line.ends_with('.') && line.split(' ').count() > 4, "{line}");
    }
    assert!(!text.contains("command=\"set\""));
}

/// Names of ours in an expression.
fn used(expression: &str) -> impl Iterator<Item = &str> {
    expression
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| word.starts_with("corelane_"))
}

/// The texts under the key `expr`, wherever they are.
fn expressions<'a>(value: &'a Value, into: &mut Vec<&'a str>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value.as_str() {
                    Some(text) if name == "expr" => into.push(text),
                    _ => expressions(value, into),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| expressions(item, into)),
        _ => {}
    }
}

fn packaged(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn dashboards_and_alerts_use_only_names_that_are_exported() {
    let text = encode(snapshot());
    let exported = names(&text);
    let dashboard: Value = serde_json::from_str(&packaged("grafana-dashboard.json")).unwrap();
    let mut found = Vec::new();
    expressions(&dashboard, &mut found);
    assert!(found.len() >= 20, "{} panels' expressions", found.len());
    let rules = packaged("prometheus-rules.yml");
    let of_rules: Vec<_> = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("expr: "))
        .collect();
    assert_eq!(
        of_rules.len(),
        rules.matches("- alert: ").count(),
        "each rule has its expression in a line"
    );
    for expression in found.into_iter().chain(of_rules) {
        let mut any = false;
        for name in used(expression) {
            any = true;
            assert!(
                exported.contains(name),
                "{name} of {expression:?} is not exported"
            );
        }
        assert!(
            any || expression.starts_with("up"),
            "{expression:?} uses nothing of ours"
        );
    }
}
