//! `/metrics`: every family made from one snapshot, in the exposition format of OpenMetrics by `prometheus-client`.
//!
//! Nothing is registered ahead and nothing is kept: what is exported is what the snapshot holds. The number of lines is
//! bounded by cores, shards, levels and the command table, none of which a client can make grow.

mod cores;
mod families;
mod process;
mod shards;
#[cfg(test)]
mod tests;

use corelane::api::Stats;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, text};
use prometheus_client::registry::Registry;

use self::families::Families;
use super::facts::Facts;
use super::health::State;
use crate::telemetry::Totals;

/// What the answer is, for whoever reads it.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What all names begin with.
const PREFIX: &str = "corelane";

/// Everything that is exported, at one moment.
#[derive(Debug)]
pub struct Snapshot {
    /// The engine's counts; empty where it does not answer.
    pub stats: Stats,
    /// The machine's.
    pub facts: Facts,
    /// How the server is.
    pub health: State,
    /// Clients connected.
    pub clients: u64,
    /// Most clients at once.
    pub max_clients: u64,
    /// The data plane's counts.
    pub totals: Totals,
    /// Log lines for which there was no room.
    pub log_lines_lost: u64,
    /// Answers of the admin plane, by class of status.
    pub admin_answers: Vec<(&'static str, u64)>,
    /// Requests refused over their peer's rate.
    pub admin_limited: u64,
    /// Requests whose handler panicked.
    pub admin_panicked: u64,
}

impl Collector for Snapshot {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let mut families = Families::new(encoder);
        process::encode(self, &mut families)?;
        cores::encode(&self.stats, &mut families)?;
        shards::encode(&self.stats.shards, &mut families)
    }
}

/// A snapshot as text.
pub fn encode(snapshot: Snapshot) -> String {
    let mut registry = Registry::with_prefix(PREFIX);
    registry.register_collector(Box::new(snapshot));
    let mut out = String::new();
    text::encode(&mut out, &registry).expect("writing to a string never fails");
    out
}
