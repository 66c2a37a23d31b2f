//! Families about the process as a whole: clients, commands, machine, the admin plane itself.

use std::fmt::Error;

use prometheus_client::registry::Unit;

use super::Snapshot;
use super::families::{Families, Labels, one, seconds};
use crate::admin::health::State;
use crate::command::table;
use crate::telemetry::CommandTotals;

const BYTES: Option<Unit> = Some(Unit::Bytes);

/// One family that has one value: its name, unit, meaning, and the value.
type Row = (&'static str, Option<Unit>, &'static str, fn(&Snapshot) -> u64);

/// Counts that only rise.
const COUNTERS: &[Row] = &[
    (
        "log_lines_lost",
        None,
        "Log lines lost because the writer did not keep up.",
        |s| s.log_lines_lost,
    ),
    ("connections", None, "Connections accepted.", |s| {
        s.totals.connections
    }),
    (
        "connections_rejected",
        None,
        "Connections turned away at the limit.",
        |s| s.totals.rejected_connections,
    ),
    ("received", BYTES, "Bytes received from clients.", |s| {
        s.totals.received_bytes
    }),
    ("sent", BYTES, "Bytes sent to clients.", |s| s.totals.sent_bytes),
    (
        "admin_rate_limited",
        None,
        "Requests to the admin plane refused over the rate of their peer.",
        |s| s.admin_limited,
    ),
    (
        "admin_panics",
        None,
        "Requests to the admin plane that met a bug.",
        |s| s.admin_panicked,
    ),
];

/// Values that rise and fall.
const GAUGES: &[Row] = &[
    (
        "health_state",
        None,
        "0 healthy, 1 degraded, 2 unhealthy; /health tells why.",
        |s| match s.health {
            State::Healthy => 0,
            State::Degraded => 1,
            State::Unhealthy => 2,
        },
    ),
    ("clients", None, "Clients connected.", |s| s.clients),
    ("clients_limit", None, "Most clients at once.", |s| s.max_clients),
    (
        "disk_free",
        BYTES,
        "Bytes free on the file system of the data.",
        |s| s.facts.disk_free_bytes,
    ),
    ("disk_size", BYTES, "Bytes of the file system of the data.", |s| {
        s.facts.disk_bytes
    }),
    ("resident_memory", BYTES, "Memory that the process holds.", |s| {
        s.facts.resident_bytes
    }),
    ("open_files", None, "Descriptors that the process holds.", |s| {
        s.facts.open_files
    }),
    (
        "open_files_limit",
        None,
        "Descriptors that the process may hold.",
        |s| s.facts.max_open_files,
    ),
    (
        "memlock_short",
        None,
        "1 where the limit on locked memory keeps buffers from being registered.",
        |s| u64::from(s.facts.memlock_falls_short),
    ),
];

pub(super) fn encode(snapshot: &Snapshot, out: &mut Families<'_>) -> Result<(), Error> {
    out.gauge(
        "build_info",
        None,
        "Always 1; which build this is, as labels.",
        [(label("version", env!("CARGO_PKG_VERSION")), 1_u64)],
    )?;
    for (name, unit, help, value) in COUNTERS {
        out.counter(name, unit.clone(), help, one(value(snapshot)))?;
    }
    for (name, unit, help, value) in GAUGES {
        out.gauge(name, unit.clone(), help, one(value(snapshot)))?;
    }
    out.counter(
        "cpu",
        Some(Unit::Seconds),
        "Processor time used, over all cores.",
        one(seconds(snapshot.facts.cpu_ms.saturating_mul(1000))),
    )?;
    out.counter(
        "keyspace_lookups",
        None,
        "Lookups of keys by commands, by whether the key was there.",
        [
            (label("outcome", "hit"), snapshot.totals.hits),
            (label("outcome", "miss"), snapshot.totals.misses),
        ],
    )?;
    out.counter(
        "admin_responses",
        None,
        "Answers of the admin plane by class of status.",
        snapshot
            .admin_answers
            .iter()
            .map(|&(class, count)| (label("class", class), count)),
    )?;
    about_commands(snapshot, out)
}

fn label(name: &'static str, value: impl Into<String>) -> Labels {
    vec![(name, value.into())]
}

/// Commands that were asked for at all, with their names.
fn used(snapshot: &Snapshot) -> impl Iterator<Item = (&'static str, &CommandTotals)> {
    table::ALL
        .iter()
        .zip(&snapshot.totals.by_command)
        .filter(|(_, totals)| totals.calls + totals.rejected > 0)
        .map(|(spec, totals)| (spec.name, totals))
}

fn about_commands(snapshot: &Snapshot, out: &mut Families<'_>) -> Result<(), Error> {
    let outcome =
        |command: &str, outcome: &str| vec![("command", command.to_owned()), ("outcome", outcome.to_owned())];
    out.counter(
        "commands",
        None,
        "Commands by name and outcome: ok, failed (answered with an error), rejected (not run).",
        used(snapshot).flat_map(|(name, totals)| {
            [
                (outcome(name, "ok"), totals.calls.saturating_sub(totals.failed)),
                (outcome(name, "failed"), totals.failed),
                (outcome(name, "rejected"), totals.rejected),
            ]
        }),
    )?;
    out.latencies(
        "command_latency",
        "Time from a pipeline's arrival to its answers, for each command in it.",
        used(snapshot)
            .filter(|(_, totals)| totals.calls > 0)
            .map(|(name, totals)| (label("command", name), totals.latency_us, &totals.latencies)),
    )?;
    out.counter(
        "error_replies",
        None,
        "Error replies by their first word.",
        snapshot
            .totals
            .errors
            .seen()
            .map(|(code, count)| (label("code", code), count)),
    )
}
