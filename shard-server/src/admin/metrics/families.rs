//! Families of samples written one after the other: a name, what it means, and a value for each set of labels.

use std::fmt::Error;

use prometheus_client::encoding::{DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use corelane::api::Histogram as Measured;

use crate::telemetry::Histogram;

/// Names and values of one sample's labels.
pub(super) type Labels = Vec<(&'static str, String)>;

/// Writes families.
#[derive(Debug)]
pub(super) struct Families<'a> {
    encoder: DescriptorEncoder<'a>,
}

impl<'a> Families<'a> {
    /// Writes to an encoder.
    pub(super) fn new(encoder: DescriptorEncoder<'a>) -> Self {
        Self { encoder }
    }

    /// A count that only rises; its samples' names end with `_total`.
    pub(super) fn counter<V: EncodeCounterValue>(
        &mut self,
        name: &str,
        unit: Option<Unit>,
        help: &str,
        samples: impl IntoIterator<Item = (Labels, V)>,
    ) -> Result<(), Error> {
        let kind = MetricType::Counter;
        let mut family = self.encoder.encode_descriptor(name, help, unit.as_ref(), kind)?;
        for (labels, value) in samples {
            if labels.is_empty() {
                family.encode_counter::<NoLabelSet, V, u64>(&value, None)?;
            } else {
                family
                    .encode_family(&labels)?
                    .encode_counter::<NoLabelSet, V, u64>(&value, None)?;
            }
        }
        Ok(())
    }

    /// A value that rises and falls.
    pub(super) fn gauge<V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        unit: Option<Unit>,
        help: &str,
        samples: impl IntoIterator<Item = (Labels, V)>,
    ) -> Result<(), Error> {
        let kind = MetricType::Gauge;
        let mut family = self.encoder.encode_descriptor(name, help, unit.as_ref(), kind)?;
        for (labels, value) in samples {
            if labels.is_empty() {
                family.encode_gauge(&value)?;
            } else {
                family.encode_family(&labels)?.encode_gauge(&value)?;
            }
        }
        Ok(())
    }

    /// Latencies in seconds, of each set of labels: the sum in microseconds, and the counts.
    pub(super) fn latencies<'h>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels, u64, &'h Histogram)>,
    ) -> Result<(), Error> {
        let (kind, unit) = (MetricType::Histogram, Some(Unit::Seconds));
        let mut family = self.encoder.encode_descriptor(name, help, unit.as_ref(), kind)?;
        for (labels, sum_us, histogram) in samples {
            let (buckets, count) = buckets_of(histogram);
            family.encode_family(&labels)?.encode_histogram::<NoLabelSet>(
                seconds(sum_us),
                count,
                &buckets,
                None,
            )?;
        }
        Ok(())
    }

    /// What shards measured, of each set of labels. `scale` makes the unit of the name from theirs.
    pub(super) fn measured<'h>(
        &mut self,
        name: &str,
        unit: Option<Unit>,
        help: &str,
        scale: f64,
        samples: impl IntoIterator<Item = (Labels, &'h Measured)>,
    ) -> Result<(), Error> {
        let kind = MetricType::Histogram;
        let mut family = self.encoder.encode_descriptor(name, help, unit.as_ref(), kind)?;
        for (labels, measured) in samples {
            family.encode_family(&labels)?.encode_histogram::<NoLabelSet>(
                scaled(measured.sum(), scale),
                measured.count(),
                &coarse(measured, scale),
                None,
            )?;
        }
        Ok(())
    }
}

#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53, and rough beyond")]
fn scaled(value: u64, scale: f64) -> f64 {
    value as f64 * scale
}

/// The buckets of a shard's histogram, four as one: each is a line for each shard and scrape.
fn coarse(measured: &Measured, scale: f64) -> Vec<(f64, u64)> {
    let mut buckets = Vec::new();
    let mut count = 0;
    for (at, (bound, more)) in measured.buckets().enumerate() {
        count += more;
        match bound {
            // Every fourth bound is a power of four, times two.
            Some(bound) if at % 4 == 1 => buckets.push((scaled(bound, scale), std::mem::take(&mut count))),
            Some(_) => {}
            None => buckets.push((f64::INFINITY, count)),
        }
    }
    buckets
}

/// Microseconds as seconds.
#[expect(clippy::cast_precision_loss, reason = "exact up to 285 years")]
pub(super) fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

/// Each bucket's upper bound in seconds with the count between it and the one before, and the count of all. Only every
/// second power of two is told: each bucket is a line for each command and scrape.
fn buckets_of(histogram: &Histogram) -> (Vec<(f64, u64)>, u64) {
    let count = histogram.count();
    let mut before = 0;
    let mut buckets = Vec::new();
    for (us, below) in histogram.cumulative().skip(2).step_by(2) {
        buckets.push((seconds(us), below - before));
        before = below;
    }
    buckets.push((f64::INFINITY, count - before));
    (buckets, count)
}

/// One sample without labels.
pub(super) fn one<V>(value: V) -> [(Labels, V); 1] {
    [(Vec::new(), value)]
}
