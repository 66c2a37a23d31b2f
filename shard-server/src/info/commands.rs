//! The sections that go command by command. Commands that nobody called are left out.

use super::Facts;
use super::page::Page;
use crate::command::{Spec, table};
use crate::telemetry::CommandTotals;

/// The percentiles that are told, as Redis tells them where nobody asks for others.
const PERCENTILES: [(&str, f64); 3] = [("p50", 50.0), ("p99", 99.0), ("p99.9", 99.9)];

pub(super) fn calls(page: &mut Page, facts: &Facts<'_>) {
    page.heading("Commandstats");
    for (spec, total) in called(facts) {
        page.line(format_args!("cmdstat_{}", spec.name), calls_of(&total));
    }
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people to read")]
fn calls_of(total: &CommandTotals) -> String {
    let CommandTotals {
        calls,
        failed,
        rejected,
        latency_us,
        ..
    } = total;
    let each = *latency_us as f64 / (*calls).max(1) as f64;
    format!(
        "calls={calls},usec={latency_us},usec_per_call={each:.2},rejected_calls={rejected},failed_calls={failed}"
    )
}

pub(super) fn errors(page: &mut Page, facts: &Facts<'_>) {
    page.heading("Errorstats");
    for (code, count) in facts.server.telemetry().since_reset().errors.seen() {
        page.line(format_args!("errorstat_{code}"), format_args!("count={count}"));
    }
}

pub(super) fn latencies(page: &mut Page, facts: &Facts<'_>) {
    page.heading("Latencystats");
    if !facts.server.telemetry().shows_latencies() {
        return;
    }
    for (spec, total) in called(facts).into_iter().filter(|(_, total)| total.calls > 0) {
        let parts = PERCENTILES.map(|(name, percent)| {
            let us = total.latencies.percentile_us(percent);
            format!("{name}={us}.000")
        });
        page.line(
            format_args!("latency_percentiles_usec_{}", spec.name),
            parts.join(","),
        );
    }
}

/// Commands that were called or refused.
fn called(facts: &Facts<'_>) -> Vec<(&'static Spec, CommandTotals)> {
    let totals = facts.server.telemetry().since_reset().by_command;
    let all = table::ALL.iter().copied().zip(totals);
    all.filter(|(_, total)| total.calls + total.rejected > 0)
        .collect()
}
