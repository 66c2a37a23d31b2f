//! Zipf's distribution, exactly, without a table: rank `k` of `n` with a probability proportional to 1/k^theta.
//!
//! YCSB and db_bench take the method of Gray et al. ("Quickly Generating Billion-Record Synthetic Databases", SIGMOD
//! 1994), which needs the sum of all n terms, is exact for the first two ranks alone (the third comes a tenth too often)
//! and works for theta below 1 only. Here it is rejection-inversion (Hörmann, Derflinger: "Rejection-Inversion to Generate
//! Variates from Monotone Discrete Distributions", ACM TOMACS 1996): exact for every theta above 0, 1 included; no sum, so
//! that 4,096 streams over a thousand million keys are ready at once and the number of ranks may grow with each insert;
//! about 1.1 random numbers a rank.
//!
//! The method: `area` is the integral of x^-theta. A point drawn evenly between the areas at both ends is taken back to x,
//! which is rounded to a rank k; k is accepted where the point lies in the last k^-theta of k's part of the area. Where k
//! lies less than `sure` above x it always does, and nothing more is computed.

use crate::workload::math::{exp, exp_m1_over, ln, ln_1p_over};
use crate::workload::rng::Rng;

/// Draws ranks.
#[derive(Debug, Clone)]
pub struct Zipf {
    ranks: f64,
    theta: f64,
    first: f64,
    last: f64,
    sure: f64,
}

impl Zipf {
    /// Over `ranks` ranks.
    ///
    /// # Panics
    /// When there is no rank, or `theta` is not above 0.
    pub fn new(ranks: u64, theta: f64) -> Self {
        assert!(
            ranks > 0 && theta > 0.0 && theta.is_finite(),
            "a checked spec has both"
        );
        let mut zipf = Self {
            ranks: 0.0,
            theta,
            first: 0.0,
            last: 0.0,
            sure: 0.0,
        };
        zipf.first = zipf.area(1.5) - 1.0;
        zipf.sure = 2.0 - zipf.place(zipf.area(2.5) - zipf.height(2.0));
        zipf.set_ranks(ranks);
        zipf
    }

    /// Goes on over another number of ranks, not 0.
    #[inline]
    pub fn set_ranks(&mut self, ranks: u64) {
        self.ranks = ranks as f64;
        self.last = self.area(self.ranks + 0.5);
    }

    /// Draws a rank, counted from 0.
    #[inline]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "it lies between 1 and the number of ranks"
    )]
    pub fn rank(&self, rng: &mut Rng) -> u64 {
        // Bounded in probability: a round fails with one in five at most (the paper's section 3), so that 100 rounds in
        // a row are never seen.
        loop {
            let point = self.last + rng.unit() * (self.first - self.last);
            let x = self.place(point);
            let rank = ((x + 0.5) as u64 as f64).clamp(1.0, self.ranks);
            if rank - x <= self.sure || point >= self.area(rank + 0.5) - self.height(rank) {
                return rank as u64 - 1;
            }
        }
    }

    /// The integral of `x^-theta` from 1 to x.
    #[inline]
    fn area(&self, x: f64) -> f64 {
        let log = ln(x);
        exp_m1_over((1.0 - self.theta) * log) * log
    }

    /// Where the area is so large: the inverse of [`Zipf::area`].
    #[inline]
    fn place(&self, area: f64) -> f64 {
        exp(ln_1p_over(((1.0 - self.theta) * area).max(-1.0)) * area)
    }

    #[inline]
    fn height(&self, x: f64) -> f64 {
        exp(-self.theta * ln(x))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Chi-square of drawn ranks against 1/k^theta, in standard deviations above its mean. Ranks expected less than 20
    /// times are put together with their neighbours, as the test demands.
    fn deviations(ranks: u64, theta: f64, draws: u32, zipf: &Zipf, seed: u64) -> f64 {
        let mut rng = Rng::new(seed);
        let mut counts = vec![0_u64; usize::try_from(ranks).unwrap()];
        for _ in 0..draws {
            counts[usize::try_from(zipf.rank(&mut rng)).unwrap()] += 1;
        }
        let weight = |rank: usize| ((rank + 1) as f64).powf(-theta);
        let total: f64 = (0..counts.len()).map(weight).sum();
        let (mut chi, mut cells, mut seen, mut expected) = (0.0, 0.0, 0.0, 0.0);
        for (rank, &count) in counts.iter().enumerate() {
            seen += count as f64;
            expected += weight(rank) / total * f64::from(draws);
            if expected >= 20.0 || rank + 1 == counts.len() {
                chi += (seen - expected).powi(2) / f64::max(expected, 1.0);
                cells += 1.0;
                (seen, expected) = (0.0, 0.0);
            }
        }
        let freedom = f64::max(cells - 1.0, 1.0);
        (chi - freedom) / (2.0 * freedom).sqrt()
    }

    #[test]
    fn ranks_are_as_frequent_as_zipf_says() {
        // Chi-square over many cells is nearly normal: 5 deviations are a chance of 1 in 3 million, a little more with
        // few cells, where its tail is fatter. The seeds are fixed, so it fails always or never.
        for (at, theta) in [0.2, 0.5, 0.8, 0.99, 1.0, 1.000_001, 1.2, 2.0, 4.0]
            .into_iter()
            .enumerate()
        {
            for ranks in [1, 2, 3, 10, 1000, 100_000] {
                let zipf = Zipf::new(ranks, theta);
                let off = deviations(ranks, theta, 400_000, &zipf, at as u64 * 100 + ranks);
                assert!(off < 6.0, "theta {theta}, {ranks} ranks: {off} deviations off");
            }
        }
    }

    #[test]
    fn the_method_of_gray_and_others_would_be_found_out() {
        // The test above can fail: their method, which YCSB takes, is off at the third rank already.
        let (ranks, theta, draws) = (1000_u32, 0.99_f64, 400_000_u32);
        let zeta: f64 = (1..=ranks).map(|rank| f64::from(rank).powf(-theta)).sum();
        let half = 1.0 + 0.5_f64.powf(theta);
        let eta = (1.0 - (2.0 / f64::from(ranks)).powf(1.0 - theta)) / (1.0 - half / zeta);
        let mut rng = Rng::new(3);
        let third = (0..draws).filter(|_| {
            let unit = rng.unit();
            let tail = f64::from(ranks) * (eta * unit - eta + 1.0).powf(1.0 / (1.0 - theta));
            unit * zeta >= half && (2.0..3.0).contains(&tail)
        });
        let expected = 3.0_f64.powf(-theta) / zeta * f64::from(draws);
        let off = (third.count() as f64 - expected) / expected.sqrt();
        assert!(off.abs() > 6.0, "{off} deviations");
    }

    #[test]
    fn over_more_ranks_than_can_be_counted_the_head_has_its_share() {
        // Sum of 1/k^theta up to n by Euler and Maclaurin: exact to 1e-9 from the hundredth term on.
        let zeta = |n: f64, theta: f64| {
            let head: f64 = (1..100).map(|k| f64::from(k).powf(-theta)).sum();
            let integral = (n.powf(1.0 - theta) - 100_f64.powf(1.0 - theta)) / (1.0 - theta);
            let ends = (100_f64.powf(-theta) + n.powf(-theta)) / 2.0;
            head + integral + ends + theta * 100_f64.powf(-theta - 1.0) / 12.0
        };
        let draws = 1_000_000_u32;
        for ranks in [100_000_000_u64, 1 << 40] {
            let zipf = Zipf::new(ranks, 0.99);
            for limit in [1_u64, 3, 100, 10_000, 1_000_000, ranks / 2] {
                let share = zeta(limit as f64, 0.99) / zeta(ranks as f64, 0.99);
                let share = if limit < 100 {
                    (1..=limit).map(|k| (k as f64).powf(-0.99)).sum::<f64>() / zeta(ranks as f64, 0.99)
                } else {
                    share
                };
                let mut rng = Rng::new(limit);
                let head = (0..draws).filter(|_| zipf.rank(&mut rng) < limit).count() as f64;
                // Binomial: 5 deviations are a chance of 1 in 2 million.
                let (mean, variance) = (share * f64::from(draws), share * (1.0 - share) * f64::from(draws));
                let off = (head - mean) / variance.sqrt();
                assert!(
                    off.abs() < 5.0,
                    "the first {limit} of {ranks}: {off} deviations off"
                );
            }
        }
    }

    #[test]
    fn more_ranks_later_are_the_same_as_more_from_the_begin() {
        let mut grown = Zipf::new(3, 0.99);
        grown.set_ranks(5000);
        let (mut one, mut other) = (Rng::new(5), Rng::new(5));
        let whole = Zipf::new(5000, 0.99);
        for _ in 0..10_000 {
            assert_eq!(grown.rank(&mut one), whole.rank(&mut other));
        }
    }

    #[test]
    fn the_ends_of_the_drawn_numbers_give_ranks() {
        // Extreme thetas and sizes: no rank beyond the end, no endless round.
        for theta in [0.01, 0.99, 1.0, 4.0] {
            for ranks in [1, 2, 7, 1 << 41] {
                let zipf = Zipf::new(ranks, theta);
                let mut rng = Rng::new(ranks);
                assert!(
                    (0..10_000).all(|_| zipf.rank(&mut rng) < ranks),
                    "{theta} {ranks}"
                );
            }
        }
    }
}
