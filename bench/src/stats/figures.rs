//! One figure of a phase, taken out of an engine's repeats together with its variance.
//!
//! Rates, processor time and write amplification are means over repeats and have windows. Percentiles come from the
//! merged histograms of all repeats, and only where every repeat has enough operations beyond them by itself: a
//! percentile that one repeat alone could not tell is not told by adding up five that could not either, since what lies
//! beyond it then comes from whichever repeat was worst. Space is a mean over repeats without windows.

use std::fmt;

use serde::Serialize;

use crate::engines::Counters;
use crate::result::{GroupResult, Latency, PhaseResult, Window};
use crate::stats::bootstrap::{Estimate, Merged, Windows};
use crate::workload::OpKind;
use crate::workload::rng::Rng;

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Figure {
    /// Operations a second of a group.
    Rate,
    /// A percentile (0 to 1) of the response times of a kind of operation, in nanoseconds.
    Response {
        /// Which kind.
        kind: OpKind,
        /// 0 to 1.
        percentile: f64,
    },
    /// Bytes that the engine says it wrote (log, flush, compaction) per byte of the user's.
    WriteAmplification,
    /// Bytes that the kernel says the process sent to the device per byte of the user's.
    DeviceWriteAmplification,
    /// Processor seconds per million operations.
    CpuPerMillion,
    /// Bytes occupied at the end per byte that lives.
    SpaceAmplification,
}

/// Percentiles that are compared.
pub const PERCENTILES: [f64; 3] = [0.5, 0.99, 0.999];

/// Figures of a whole phase, not of one of its groups.
pub const OF_PHASE: [Figure; 4] = [
    Figure::WriteAmplification,
    Figure::DeviceWriteAmplification,
    Figure::CpuPerMillion,
    Figure::SpaceAmplification,
];

impl Figure {
    /// Whether more of it is better.
    pub fn more_is_better(self) -> bool {
        matches!(self, Self::Rate)
    }

    /// Whether it is a cost, for which "faster" is not the word.
    pub fn is_cost(self) -> bool {
        !matches!(self, Self::Rate | Self::Response { .. })
    }

    /// A value of it with its unit.
    pub fn show(self, value: f64) -> String {
        match self {
            Self::Rate => format!("{value:.0} op/s"),
            Self::Response { .. } if value < 1e6 => format!("{:.1} µs", value / 1e3),
            Self::Response { .. } => format!("{:.2} ms", value / 1e6),
            Self::CpuPerMillion => format!("{value:.2} s"),
            _ => format!("{value:.2}"),
        }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rate => f.write_str("rate"),
            Self::Response { kind, percentile } => {
                write!(
                    f,
                    "{} response p{}",
                    kind.name(),
                    (percentile * 1000.0).round() / 10.0
                )
            }
            Self::WriteAmplification => f.write_str("write amplification"),
            Self::DeviceWriteAmplification => f.write_str("write amplification by the kernel's count"),
            Self::CpuPerMillion => f.write_str("processor time per million operations"),
            Self::SpaceAmplification => f.write_str("space amplification"),
        }
    }
}

/// One phase of an engine, in all repeats that reached it, and which of its groups is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// The phase, repeat by repeat.
    pub repeats: &'a [&'a PhaseResult],
    /// Place of the group.
    pub group: usize,
}

impl<'a> Source<'a> {
    fn groups(self) -> impl Iterator<Item = &'a GroupResult> {
        self.repeats
            .iter()
            .filter_map(move |phase| phase.groups.get(self.group))
    }

    /// Kinds of operations that occurred in any repeat.
    pub fn kinds(self) -> Vec<OpKind> {
        let occurred = |kind: &OpKind| self.groups().flat_map(|g| &g.kinds).any(|k| k.kind == *kind);
        OpKind::ALL.into_iter().filter(occurred).collect()
    }

    /// Why the figures must not be used: a schedule that was not kept.
    pub fn invalid(self) -> Option<&'a str> {
        let schedules = self.groups().filter_map(|group| group.schedule.as_ref());
        schedules
            .filter_map(|schedule| schedule.invalid.as_deref())
            .next()
    }

    /// A figure and its variance; why there is none otherwise.
    ///
    /// # Errors
    /// In words: nothing was measured, the engine does not count it, or there are too few samples.
    pub fn estimate(self, figure: Figure, rng: &mut Rng) -> Result<Estimate, String> {
        match figure {
            Figure::Rate => {
                let rates = self.groups().map(|group| Some(group.rate)).collect();
                let operations = |w: &Window| w.operations.get(self.group).map(|n| *n as f64);
                self.mean(rates, "nothing ended", operations, |w| Some(w.length_s), rng)
            }
            Figure::Response { kind, percentile } => self.percentile(kind, percentile, rng),
            Figure::WriteAmplification => {
                let each = self
                    .repeats
                    .iter()
                    .map(|p| share(written(&p.cost.counters), p.cost.counters.user_bytes));
                let (over, under) = (
                    |w: &Window| written(&w.counters),
                    |w: &Window| w.counters.user_bytes,
                );
                self.mean(
                    each.collect(),
                    "the engine does not count it",
                    bytes(over),
                    bytes(under),
                    rng,
                )
            }
            Figure::DeviceWriteAmplification => {
                let of = |p: &PhaseResult| share(p.cost.process_written_bytes, p.cost.counters.user_bytes);
                let each = self.repeats.iter().map(|p| of(p)).collect();
                let (over, under) = (|w: &Window| w.written_bytes, |w: &Window| w.counters.user_bytes);
                self.mean(
                    each,
                    "the kernel or the engine does not count it",
                    bytes(over),
                    bytes(under),
                    rng,
                )
            }
            Figure::CpuPerMillion => {
                let each = self.repeats.iter().map(|p| {
                    let operations: u64 = p.groups.iter().map(|group| group.operations).sum();
                    Some(p.cost.cpu_seconds / (operations as f64 / 1e6))
                });
                let millions = |w: &Window| Some(w.operations.iter().sum::<u64>() as f64 / 1e6);
                self.mean(
                    each.collect(),
                    "no processor time was counted",
                    |w| Some(w.cpu_seconds),
                    millions,
                    rng,
                )
            }
            Figure::SpaceAmplification => {
                let of = |p: &PhaseResult| share(Some(p.cost.occupied_bytes), Some(p.cost.live_bytes));
                let each = self.repeats.iter().map(|p| of(p)).collect();
                self.mean(each, "no live bytes were counted", |_| None, |_| None, rng)
            }
        }
    }

    /// A mean over repeats; windows are used where every repeat tells both sums in each.
    fn mean(
        self,
        repeats: Vec<Option<f64>>,
        otherwise: &str,
        over: impl Fn(&Window) -> Option<f64>,
        under: impl Fn(&Window) -> Option<f64>,
        rng: &mut Rng,
    ) -> Result<Estimate, String> {
        let usable = |value: &f64| value.is_finite() && *value > 0.0;
        let figures: Option<Vec<f64>> = repeats.into_iter().map(|value| value.filter(usable)).collect();
        let figures = figures.ok_or(otherwise)?;
        if figures.is_empty() {
            return Err("it was not measured".to_owned());
        }
        let windows: Option<Vec<Windows>> = self
            .repeats
            .iter()
            .map(|phase| {
                let over: Option<Vec<f64>> = phase.windows.iter().map(&over).collect();
                let under: Option<Vec<f64>> = phase.windows.iter().map(&under).collect();
                Windows::new(over?, under?)
            })
            .collect();
        Ok(Estimate::of_mean(&figures, &windows.unwrap_or_default(), rng))
    }

    fn percentile(self, kind: OpKind, percentile: f64, rng: &mut Rng) -> Result<Estimate, String> {
        let response =
            |group: &'a GroupResult| group.kinds.iter().find(|k| k.kind == kind).map(|k| &k.response);
        let latencies: Vec<Option<&Latency>> = self.groups().map(response).collect();
        if latencies.is_empty() {
            return Err("it was not measured".to_owned());
        }
        let told = |latency: &Option<&'a Latency>| latency.filter(|l| l.percentile_ns(percentile).is_some());
        if let Some(few) = latencies.iter().find(|latency| told(latency).is_none()) {
            let count = few.map_or(0, Latency::count);
            return Err(format!(
                "too few samples: a repeat has {count}, fewer than ten beyond the percentile"
            ));
        }
        let latencies: Vec<&Latency> = latencies.into_iter().flatten().collect();
        Ok(Estimate::of_percentile(&Merged::new(&latencies), percentile, rng))
    }
}

/// Bytes that an engine wrote, if it counts all three.
pub fn written(counters: &Counters) -> Option<u64> {
    Some(counters.log_bytes? + counters.flush_bytes? + counters.compaction_bytes?)
}

fn share(over: Option<u64>, under: Option<u64>) -> Option<f64> {
    let under = under.filter(|under| *under > 0)?;
    Some(over? as f64 / under as f64)
}

fn bytes(of: impl Fn(&Window) -> Option<u64>) -> impl Fn(&Window) -> Option<f64> {
    move |window| of(window).map(|bytes| bytes as f64)
}
