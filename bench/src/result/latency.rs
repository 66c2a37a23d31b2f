//! A latency histogram: nanoseconds, relative error below 1 %, and no percentile from too few samples.

use std::time::Duration;

use histogram::{Histogram, SparseHistogram};
use serde::{Deserialize, Serialize};

/// Buckets are at most 1/128 of their value wide.
const GROUPING_POWER: u8 = 7;
/// Eighteen minutes and more are all counted as the longest that the histogram holds.
const MAX_VALUE_POWER: u8 = 40;
/// Samples that must lie beyond a percentile before it is told.
const SAMPLES_BEYOND: f64 = 10.0;

/// Latencies of many operations, in nanoseconds. Stored as the sparse histogram of the `histogram` crate.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "SparseHistogram", into = "SparseHistogram")]
pub struct Latency {
    histogram: Histogram,
    count: u64,
}

impl std::fmt::Debug for Latency {
    /// Its count and middle: four thousand buckets help nobody who reads a failed assertion.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Latency")
            .field("count", &self.count)
            .field("median_ns", &self.median_ns())
            .field("max_ns", &self.max_ns())
            .finish()
    }
}

impl Default for Latency {
    fn default() -> Self {
        Self::new()
    }
}

impl Latency {
    /// Of nothing yet.
    pub fn new() -> Self {
        let histogram =
            Histogram::new(GROUPING_POWER, MAX_VALUE_POWER).expect("7 < 40 <= 64, as the histogram asks");
        Self { histogram, count: 0 }
    }

    /// Counts one operation.
    #[inline]
    pub fn record(&mut self, latency: Duration) {
        let ns = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.record_ns(ns);
    }

    /// Counts one operation of so many nanoseconds.
    #[inline]
    pub fn record_ns(&mut self, ns: u64) {
        self.histogram
            .increment(ns.min((1 << MAX_VALUE_POWER) - 1))
            .expect("the value was brought into range");
        self.count += 1;
    }

    /// Adds another's.
    pub fn merge(&mut self, other: &Self) {
        self.histogram = self
            .histogram
            .checked_add(&other.histogram)
            .expect("all have one shape, and no count nears 2^64");
        self.count += other.count;
    }

    /// Operations.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// A percentile (0 to 1) in nanoseconds; `None` on too few samples for it.
    pub fn percentile_ns(&self, percentile: f64) -> Option<u64> {
        if (self.count as f64) * (1.0 - percentile) < SAMPLES_BEYOND {
            return None;
        }
        Some(self.histogram.quantile_bucket(percentile).ok()??.end())
    }

    /// The longest, in nanoseconds, to the histogram's error.
    pub fn max_ns(&self) -> Option<u64> {
        Some(self.histogram.quantile_bucket(1.0).ok()??.end())
    }

    /// The middle one, in nanoseconds, however few there are.
    pub fn median_ns(&self) -> Option<u64> {
        Some(self.histogram.quantile_bucket(0.5).ok()??.end())
    }

    /// Each bucket that counted something: its upper end in nanoseconds, and its count.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.histogram
            .iter()
            .filter(|bucket| bucket.count() > 0)
            .map(|bucket| (bucket.end(), bucket.count()))
    }
}

impl From<Latency> for SparseHistogram {
    fn from(latency: Latency) -> Self {
        Self::from(&latency.histogram)
    }
}

impl TryFrom<SparseHistogram> for Latency {
    type Error = String;

    fn try_from(sparse: SparseHistogram) -> Result<Self, String> {
        let config = sparse.config();
        let ours = Self::new().histogram.config();
        if config != ours {
            return Err(format!(
                "a latency histogram of shape {config:?} was stored, this bench reads {ours:?}"
            ));
        }
        let count = sparse.count().iter().sum();
        Ok(Self {
            histogram: Histogram::from(&sparse),
            count,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_needs_ten_samples_beyond_it() {
        let mut latency = Latency::new();
        (1..=999).for_each(|ns| latency.record_ns(ns * 1000));
        assert!(latency.percentile_ns(0.99).is_none(), "9.99 samples lie beyond");
        latency.record_ns(1_000_000);
        let p99 = latency.percentile_ns(0.99).unwrap();
        assert!((990_000..=998_000).contains(&p99), "{p99}");
        assert!(latency.percentile_ns(0.999).is_none());
    }

    #[test]
    fn stored_and_read_again_it_is_the_same() {
        let mut latency = Latency::new();
        for ns in [0, 1, 127, 128, 5000, 1 << 39, u64::MAX] {
            latency.record_ns(ns);
        }
        let text = serde_json::to_string(&latency).unwrap();
        let again: Latency = serde_json::from_str(&text).unwrap();
        assert_eq!(again, latency);
        assert_eq!(again.count(), 7);
    }

    #[test]
    fn a_histogram_of_another_shape_is_refused() {
        let other = SparseHistogram::from(&Histogram::new(5, 30).unwrap());
        let text = serde_json::to_string(&other).unwrap();
        let error = serde_json::from_str::<Latency>(&text).unwrap_err();
        assert!(error.to_string().contains("shape"), "{error}");
    }
}
