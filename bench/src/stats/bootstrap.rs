//! How much a figure varies, by the bootstrap: between repeats, and within them over blocks of windows.
//!
//! Steps, for one side of a comparison:
//! 1. **Between.** Repeats are drawn with replacement and the figure is made from each draw (Davison and Hinkley 1997,
//!    §3.8: with few groups, draw groups and leave them whole). Its variance is scaled by n/(n−1), because a draw of n
//!    repeats varies about a mean that was fitted to the same n.
//! 2. **Within.** Where a figure has windows: circular blocks of windows are drawn inside each repeat (Politis and Romano
//!    1992), of [`series::block_length`], so that neighbours that hang together stay together.
//! 3. The variance is the larger of the two. What varies within repeats also varies between them, so the between part
//!    holds both; but of five repeats it is a rough estimate, and five that agree by luck must not pass for certainty.
//!
//! The interval of a ratio is then Student's, on the logarithm, with Welch's degrees of freedom from the numbers of
//! repeats. Percentiles of the draws themselves would be too narrow: of five repeats a nominal 95 % interval misses in
//! more than one case of ten (Hesterberg 2015, "What Teachers Should Know About the Bootstrap", §4), a test here shows it;
//! and the far levels that many figures at once demand lie outside of what draws of five repeats can reach at all.
//!
//! Windows are never pooled over repeats: that would count each window as evidence about a run to run difference that no
//! window can see.

use crate::result::Latency;
use crate::stats::{series, student};
use crate::workload::rng::Rng;

/// Draws of each bootstrap: a standard error from so many is itself known to 3 %, far better than repeats know it.
const DRAWS: usize = 500;

/// Variance of ln(percentile) by the histogram's rounding: a bucket is 1/128 wide, and the place in it uniform.
const ROUNDING_VARIANCE: f64 = 1.0 / (128.0 * 128.0 * 12.0);

/// One repeat's windows of a figure that is a fraction of two sums: operations over seconds, bytes over bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Windows {
    over: Vec<f64>,
    under: Vec<f64>,
}

impl Windows {
    /// Of what is summed above and below the line, window by window; `None` where the sums make no positive fraction.
    ///
    /// # Panics
    /// When one is longer than the other.
    pub fn new(over: Vec<f64>, under: Vec<f64>) -> Option<Self> {
        assert_eq!(over.len(), under.len(), "each window has both");
        let positive = over.iter().sum::<f64>() > 0.0 && under.iter().sum::<f64>() > 0.0;
        positive.then_some(Self { over, under })
    }

    /// Windows.
    pub fn count(&self) -> usize {
        self.over.len()
    }

    /// The figure of the whole repeat.
    pub fn fraction(&self) -> f64 {
        self.over.iter().sum::<f64>() / self.under.iter().sum::<f64>()
    }

    /// What each window adds to the fraction's error, to first order: blocks are chosen by how this hangs together.
    fn influence(&self) -> Vec<f64> {
        let fraction = self.fraction();
        let windows = self.over.iter().zip(&self.under);
        windows.map(|(over, under)| over - fraction * under).collect()
    }

    /// How long blocks of these windows must be.
    pub fn block_length(&self) -> usize {
        series::block_length(&self.influence())
    }
}

/// A figure of one side, and how much it varies by chance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The figure.
    pub value: f64,
    /// Repeats that it was made from.
    pub repeats: usize,
    /// Relative variance between repeats, of the figure of all; `None` of one repeat.
    pub between: Option<f64>,
    /// Relative variance that windows show, of the figure of all; `None` where the figure has no windows.
    pub within: Option<f64>,
    /// Blocks of windows in all repeats, 0 where there are none.
    pub blocks: usize,
    /// Windows of the longest block.
    pub block: usize,
}

impl Estimate {
    /// A mean over repeats, each with its figure and, where they are all known, its windows.
    ///
    /// # Panics
    /// When there is no repeat, or a figure is not above 0.
    pub fn of_mean(figures: &[f64], windows: &[Windows], rng: &mut Rng) -> Self {
        let lengths: Vec<usize> = windows.iter().map(Windows::block_length).collect();
        Self::of_mean_in_blocks(figures, windows, &lengths, rng)
    }

    /// The same with blocks of given lengths, one a repeat.
    fn of_mean_in_blocks(figures: &[f64], windows: &[Windows], lengths: &[usize], rng: &mut Rng) -> Self {
        assert!(!figures.is_empty(), "a figure is made from at least one repeat");
        assert!(
            figures.iter().all(|figure| *figure > 0.0),
            "a ratio needs figures above 0"
        );
        let value = series::mean(figures);
        let draw = |drawn: &[usize]| drawn.iter().map(|&i| figures[i]).sum::<f64>() / figures.len() as f64;
        let blocks = windows.iter().zip(lengths);
        Self {
            value,
            repeats: figures.len(),
            between: between(figures.len(), value, draw, rng),
            within: (!windows.is_empty()).then(|| within(windows, lengths, rng)),
            blocks: blocks.map(|(windows, length)| windows.count() / length).sum(),
            block: lengths.iter().copied().max().unwrap_or(0),
        }
    }

    /// A percentile (0 to 1) over the merged latencies of all repeats.
    ///
    /// # Panics
    /// When there is no repeat, or none of them has an operation.
    pub fn of_percentile(latencies: &Merged, percentile: f64, rng: &mut Rng) -> Self {
        let repeats = latencies.cumulative.len();
        let all: Vec<usize> = (0..repeats).collect();
        let value = latencies.percentile(&all, percentile);
        assert!(value > 0.0, "a ratio needs figures above 0");
        let draw = |drawn: &[usize]| latencies.percentile(drawn, percentile);
        let between = between(repeats, value, draw, rng).map(|variance| variance + ROUNDING_VARIANCE);
        Self {
            value,
            repeats,
            between,
            within: None,
            blocks: 0,
            block: 0,
        }
    }

    /// The relative variance of the figure; `None` where nothing shows it.
    fn variance(&self) -> Option<f64> {
        match (self.between, self.within) {
            (Some(between), Some(within)) => Some(between.max(within)),
            (between, within) => between.or(within),
        }
    }

    /// Degrees of freedom of that variance.
    fn freedom(&self) -> f64 {
        let independent = if self.between.is_some() {
            self.repeats
        } else {
            self.blocks
        };
        (independent as f64 - 1.0).max(1.0)
    }
}

/// Relative variance of a figure over draws of `count` repeats; `None` of one.
fn between(count: usize, value: f64, figure: impl Fn(&[usize]) -> f64, rng: &mut Rng) -> Option<f64> {
    if count < 2 {
        return None;
    }
    let mut drawn = vec![0; count];
    let mut draws = Vec::with_capacity(DRAWS);
    for _ in 0..DRAWS {
        drawn.fill_with(|| below(count, rng));
        draws.push(figure(&drawn) / value);
    }
    Some(series::variance(&draws) * count as f64 / (count - 1) as f64)
}

/// Relative variance of the mean over all repeats when blocks of windows are drawn inside each.
fn within(repeats: &[Windows], lengths: &[usize], rng: &mut Rng) -> f64 {
    let sums: Vec<Sums> = repeats.iter().map(Sums::new).collect();
    let value = repeats.iter().map(Windows::fraction).sum::<f64>();
    let mut draws = Vec::with_capacity(DRAWS);
    for _ in 0..DRAWS {
        let drawn = sums
            .iter()
            .zip(lengths)
            .map(|(sums, length)| sums.draw(*length, rng));
        draws.push(drawn.sum::<f64>() / value);
    }
    series::variance(&draws)
}

/// Running sums of a repeat's windows, twice around, so that any circular block is two look-ups.
struct Sums {
    over: Vec<f64>,
    under: Vec<f64>,
    count: usize,
    fraction: f64,
}

impl Sums {
    fn new(windows: &Windows) -> Self {
        Self {
            over: running(&windows.over),
            under: running(&windows.under),
            count: windows.count(),
            fraction: windows.fraction(),
        }
    }

    /// The fraction of as many windows as there are, drawn in blocks; the last block is cut to fit.
    fn draw(&self, length: usize, rng: &mut Rng) -> f64 {
        let (mut over, mut under, mut left) = (0.0, 0.0, self.count);
        while left > 0 {
            let begin = below(self.count, rng);
            let end = begin + length.min(left);
            over += self.over[end] - self.over[begin];
            under += self.under[end] - self.under[begin];
            left -= end - begin;
        }
        // A draw of windows in which nothing was written says nothing about a figure per byte written.
        if under > 0.0 { over / under } else { self.fraction }
    }
}

fn running(values: &[f64]) -> Vec<f64> {
    let mut sum = 0.0;
    let around = values.iter().chain(values).map(|value| {
        sum += value;
        sum
    });
    std::iter::once(0.0).chain(around).collect()
}

fn below(count: usize, rng: &mut Rng) -> usize {
    usize::try_from(rng.below(count as u64)).expect("it is below a usize")
}

/// Latencies of several repeats, laid out so that a percentile of any of them merged is a binary search.
#[derive(Debug, Clone)]
pub struct Merged {
    /// Upper ends of all buckets that counted something in any repeat, in nanoseconds, rising.
    ends: Vec<u64>,
    /// For each repeat: operations up to and with each of those buckets.
    cumulative: Vec<Vec<u64>>,
}

impl Merged {
    /// Of one histogram a repeat.
    ///
    /// # Panics
    /// When no histogram counted anything.
    pub fn new(latencies: &[&Latency]) -> Self {
        let mut ends: Vec<u64> = latencies
            .iter()
            .flat_map(|l| l.buckets())
            .map(|(end, _)| end)
            .collect();
        ends.sort_unstable();
        ends.dedup();
        assert!(!ends.is_empty(), "a percentile of nothing");
        let cumulative = latencies.iter().map(|latency| up_to(&ends, latency)).collect();
        Self { ends, cumulative }
    }

    /// The percentile (0 to 1) of these repeats merged, in nanoseconds: the one of [`Latency::percentile_ns`]. A repeat
    /// may be named several times.
    fn percentile(&self, repeats: &[usize], percentile: f64) -> f64 {
        let upto = |bucket: usize| repeats.iter().map(|&i| self.cumulative[i][bucket]).sum::<u64>();
        let rank = (percentile * upto(self.ends.len() - 1) as f64).ceil().max(1.0);
        let (mut low, mut high) = (0, self.ends.len() - 1);
        while low < high {
            let middle = low.midpoint(high);
            if (upto(middle) as f64) < rank {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        // What took less than the clock's one nanosecond took at most one: a ratio needs figures above 0.
        self.ends[low].max(1) as f64
    }
}

fn up_to(ends: &[u64], latency: &Latency) -> Vec<u64> {
    let mut buckets = latency.buckets().peekable();
    let mut sum = 0;
    let each = ends.iter().map(|&end| {
        if let Some((_, count)) = buckets.next_if(|&(own, _)| own == end) {
            sum += count;
        }
        sum
    });
    each.collect()
}

/// The ratio of two figures, with what is known about its error.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ratio {
    /// The second figure over the first.
    pub value: f64,
    /// Standard error of its logarithm; `None` where nothing shows it.
    error: Option<f64>,
    freedom: f64,
    sees_repeats: bool,
}

impl Ratio {
    /// Of `b` over `a`.
    pub fn new(a: &Estimate, b: &Estimate) -> Self {
        let variances = a.variance().zip(b.variance());
        let freedom = match variances {
            // Welch and Satterthwaite: the side that varies more decides.
            Some((va, vb)) if va + vb > 0.0 => {
                (va + vb).powi(2) / (va.powi(2) / a.freedom() + vb.powi(2) / b.freedom())
            }
            _ => a.freedom().min(b.freedom()),
        };
        Self {
            value: b.value / a.value,
            error: variances.map(|(va, vb)| (va + vb).sqrt()),
            freedom,
            sees_repeats: a.between.is_some() && b.between.is_some(),
        }
    }

    /// Whether each side has several repeats: without, the error holds only what windows within a run show.
    pub fn sees_repeats(&self) -> bool {
        self.sees_repeats
    }

    /// Probability of a ratio as far from 1, or farther, when nothing differs; `None` where no error is known.
    pub fn p(&self) -> Option<f64> {
        let far = self.value.ln();
        // Figures that never vary, such as bytes of the same files: any difference is one.
        let error = self.error?;
        if far == 0.0 {
            return Some(1.0);
        }
        Some(student::two_sided_p(far / error, self.freedom))
    }

    /// The interval that misses the true ratio with probability `level`; `None` where no error is known.
    pub fn interval(&self, level: f64) -> Option<[f64; 2]> {
        let half = student::two_sided_t(level, self.freedom) * self.error?;
        Some([self.value * (-half).exp(), self.value * half.exp()])
    }
}

#[cfg(test)]
#[path = "bootstrap_tests.rs"]
mod tests;
