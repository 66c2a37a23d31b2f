//! A histogram of latencies in microseconds, with fixed buckets: pure.
//!
//! ```text
//! bucket   0  1  2  3 |  4  5  6  7 |  8   9  10  11 |  12 …       …  103 | 104
//! from µs  0  1  2  3 |  4  5  6  7 |  8  10  12  14 |  16  20  24  28  … | 2^27
//! ```
//!
//! Below 4 µs each microsecond has its own bucket; from there on each doubling is cut into four even parts, so that a
//! percentile is at most a quarter off. Everything from 2^27 µs (134 s) on is in the last bucket. A bucket never crosses
//! a power of two, so that counts up to a power of two, as `LATENCY HISTOGRAM` and Prometheus want them, are exact.

/// Doublings with four buckets each: from 4 µs to 2^27 µs.
const DOUBLINGS: usize = 25;

/// Number of buckets.
pub const BUCKETS: usize = 4 + 4 * DOUBLINGS + 1;

/// Powers of two at which [`Histogram::cumulative`] counts: 1 µs to 2^27 µs.
pub const POWERS: usize = DOUBLINGS + 3;

/// The bucket of a latency.
pub fn bucket_of(us: u64) -> usize {
    if us < 4 {
        return usize::try_from(us).expect("below four");
    }
    let doubling = us.ilog2() as usize;
    let quarter = usize::try_from((us >> (doubling - 2)) & 3).expect("two bits");
    ((doubling - 1) * 4 + quarter).min(BUCKETS - 1)
}

/// The least latency of a bucket, in microseconds.
pub fn bucket_start_us(bucket: usize) -> u64 {
    if bucket < 4 {
        return bucket as u64;
    }
    let (doubling, quarter) = (bucket / 4 + 1, (bucket % 4) as u64);
    (4 + quarter) << (doubling - 2)
}

/// Counts per bucket at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram([u64; BUCKETS]);

impl Default for Histogram {
    fn default() -> Self {
        Self([0; BUCKETS])
    }
}

impl Histogram {
    /// Counts `n` in one bucket (see [`bucket_of`]).
    pub fn add(&mut self, bucket: usize, n: u64) {
        self.0[bucket] += n;
    }

    /// Counts all that another one has counted.
    pub fn merge(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(sum, n)| *sum += n);
    }

    /// Takes away what an earlier state of this one had counted.
    pub fn subtract(&mut self, earlier: &Self) {
        self.0
            .iter_mut()
            .zip(earlier.0)
            .for_each(|(count, then)| *count = count.saturating_sub(then));
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.0.iter().sum()
    }

    /// For each power of two from 1 µs on: the power in microseconds, and how many latencies were below it. The last
    /// bucket is in none of them: what is missing from [`Histogram::count`] took longer.
    pub fn cumulative(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let (mut bucket, mut below) = (0, 0);
        (0..POWERS).map(move |power| {
            let bound = 1_u64 << power;
            while bucket < BUCKETS - 1 && bucket_start_us(bucket) < bound {
                below += self.0[bucket];
                bucket += 1;
            }
            (bound, below)
        })
    }

    /// A latency, in microseconds, that `percent` of those counted do not exceed: the largest of its bucket. 0 where
    /// nothing was counted.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rank among counts that are far below 2^53; a percentage is not negative"
    )]
    pub fn percentile_us(&self, percent: f64) -> u64 {
        let count = self.count();
        if count == 0 {
            return 0;
        }
        let rank = ((percent / 100.0 * count as f64).ceil() as u64).clamp(1, count);
        let mut below = 0;
        for (bucket, n) in self.0.iter().enumerate() {
            below += n;
            if below >= rank {
                // The last bucket has no end; its start is what is known of it.
                let end = if bucket + 1 < BUCKETS {
                    bucket_start_us(bucket + 1) - 1
                } else {
                    0
                };
                return end.max(bucket_start_us(bucket));
            }
        }
        unreachable!("the counts add up to their sum")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn buckets_follow_each_other_without_gaps() {
        for bucket in 0..BUCKETS {
            assert_eq!(bucket_of(bucket_start_us(bucket)), bucket);
            if bucket > 0 {
                assert_eq!(bucket_of(bucket_start_us(bucket) - 1), bucket - 1);
            }
        }
        assert_eq!(bucket_start_us(BUCKETS - 1), 1 << (POWERS - 1));
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn percentiles_of_known_counts() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.percentile_us(50.0), 0);
        (0..98).for_each(|_| histogram.add(bucket_of(3), 1));
        histogram.add(bucket_of(100), 1);
        histogram.add(bucket_of(u64::MAX), 1);
        assert_eq!(histogram.percentile_us(50.0), 3);
        assert_eq!(histogram.percentile_us(99.0), 111, "the last of 96..112");
        assert_eq!(histogram.percentile_us(100.0), 1 << 27);
    }

    proptest! {
        #[test]
        fn counts_below_powers_of_two_are_exact(latencies in proptest::collection::vec(0..1_u64 << 28, 0..200)) {
            let mut histogram = Histogram::default();
            latencies.iter().for_each(|&us| histogram.add(bucket_of(us), 1));
            prop_assert_eq!(histogram.count(), latencies.len() as u64);
            for (bound, below) in histogram.cumulative() {
                prop_assert_eq!(below, latencies.iter().filter(|&&us| us < bound).count() as u64, "below {}", bound);
            }
            let mut twice = histogram.clone();
            twice.merge(&histogram);
            prop_assert_eq!(twice.count(), 2 * histogram.count());
            twice.subtract(&histogram);
            prop_assert_eq!(twice, histogram);
        }
    }
}
