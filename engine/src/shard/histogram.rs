//! A histogram of fixed size, for what a shard measures: how many values lay in each of 64 ranges, and their sum. Pure.
//!
//! ```text
//! bucket   0  1  2  3  4  5  6   7   8   9 ...   2k           2k + 1    ... 62         63
//! up to    1  2  3  4  6  8  12  16  24  32     3 * 2^(k-1)  2^(k+1)       3 * 2^30   any value
//! ```
//!
//! A bucket counts the values above the bound of the one before it and up to its own, inclusive, as Prometheus has it; from
//! 2 on two buckets halve each doubling, so a value is known to within half of itself. Microseconds reach over 53 minutes,
//! bytes over 3 GiB. Recording is a few instructions and never allocates.

use std::cell::RefCell;

/// How many buckets there are. See the [module](self).
pub const BUCKETS: usize = 64;

/// Values counted by size. See the [module](self).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Histogram {
    counts: [u64; BUCKETS],
    sum: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            counts: [0; BUCKETS],
            sum: 0,
        }
    }
}

/// The bucket that counts `value`.
fn bucket_of(value: u64) -> usize {
    // Bounds are inclusive, so it is the value less one whose leading bits tell.
    let below = value.saturating_sub(1);
    let Some(doublings) = below.checked_ilog2() else {
        return 0;
    };
    let upper_half = match doublings {
        0 => 1,
        _ => usize::from((below >> (doublings - 1)) & 1 == 1),
    };
    (2 * doublings as usize + upper_half).min(BUCKETS - 1)
}

/// The largest value that bucket `index` counts; `None` for the last, which has no bound.
fn bound_of(index: usize) -> Option<u64> {
    match index {
        0 => Some(1),
        _ if index + 1 >= BUCKETS => None,
        _ if index % 2 == 1 => Some(2 << (index / 2)),
        _ => Some(3 << (index / 2 - 1)),
    }
}

impl Histogram {
    /// Counts `value`.
    pub fn record(&mut self, value: u64) {
        self.counts[bucket_of(value)] += 1;
        self.sum = self.sum.saturating_add(value);
    }

    /// How many values were counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Their sum.
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// Every bucket from the smallest: the largest value it counts (`None` for the last, which has no bound), and how many
    /// values it has counted, those of the buckets before it not included.
    pub fn buckets(&self) -> impl ExactSizeIterator<Item = (Option<u64>, u64)> + '_ {
        let counts = self.counts.iter().enumerate();
        counts.map(|(index, &count)| (bound_of(index), count))
    }

    /// The bound below or at which the given share of the values lies, 0 to 1; the bound of the last bucket but one where
    /// it has none, and 0 where nothing was counted.
    pub fn quantile(&self, share: f64) -> u64 {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a quantile of a histogram is rough, and at most the count"
        )]
        let rank = (self.count() as f64 * share.clamp(0.0, 1.0)).ceil() as u64;
        let (mut seen, mut bound) = (0, 0);
        for (upper, count) in self.buckets() {
            seen += count;
            bound = upper.unwrap_or(bound);
            if seen > 0 && seen >= rank {
                return bound;
            }
        }
        0
    }

    /// Adds what `other` has counted.
    pub fn merge(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
        self.sum = self.sum.saturating_add(other.sum);
    }
}

/// A histogram that one core records into: no atomics, because nobody else touches it.
#[derive(Debug, Default)]
pub struct Recorder(RefCell<Histogram>);

impl Recorder {
    /// Counts `value`.
    pub fn record(&self, value: u64) {
        self.0.borrow_mut().record(value);
    }

    /// What was counted so far.
    pub fn get(&self) -> Histogram {
        *self.0.borrow()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_in_the_first_bucket_that_reaches_it() {
        let near = |value: u64| value.saturating_sub(2)..=value.saturating_add(2);
        let powers = (0..64).flat_map(|bit| near(1 << bit).chain(near(3 << bit.min(62))));
        for value in powers.chain(0..5000).chain([u64::MAX]) {
            let mut histogram = Histogram::default();
            histogram.record(value);
            let first = histogram
                .buckets()
                .position(|(bound, _)| bound.is_none_or(|bound| value <= bound));
            let counted = histogram.buckets().position(|(_, count)| count == 1);
            assert_eq!(counted, first, "{value}");
            assert_eq!((histogram.count(), histogram.sum()), (1, value));
        }
    }

    #[test]
    fn bounds_ascend_by_half_at_the_most_and_only_the_last_is_open() {
        let histogram = Histogram::default();
        let bounds: Vec<_> = histogram.buckets().map(|(bound, _)| bound).collect();
        assert_eq!(bounds.len(), BUCKETS);
        assert_eq!(
            bounds[..10],
            [1, 2, 3, 4, 6, 8, 12, 16, 24, 32].map(Some),
            "as the module head has it"
        );
        assert_eq!(bounds[62..], [Some(3 << 30), None]);
        for pair in bounds[1..63].windows(2) {
            assert!(pair[0] < pair[1] && pair[1].unwrap() * 2 <= pair[0].unwrap() * 3);
        }
    }

    #[test]
    fn a_quantile_is_the_bound_that_so_many_values_lie_below() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), 0, "of nothing");
        (1..=100).for_each(|value| histogram.record(value));
        assert_eq!(histogram.quantile(0.0), 1);
        assert_eq!(histogram.quantile(0.5), 64);
        assert_eq!(histogram.quantile(0.24), 24);
        assert_eq!(histogram.quantile(1.0), 128);
        histogram.record(u64::MAX);
        assert_eq!(histogram.quantile(1.0), 3 << 30, "the last bound there is");
    }

    #[test]
    fn merged_histograms_are_one_of_all_their_values() {
        let (mut a, mut b, mut all) = (Histogram::default(), Histogram::default(), Histogram::default());
        for value in 0..1000 {
            if value % 3 == 0 { &mut a } else { &mut b }.record(value);
            all.record(value);
        }
        a.merge(&b);
        assert_eq!(a, all);
    }
}
