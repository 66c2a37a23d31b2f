//! Draws sizes as a spec asks: lengths of values, entries of scans.

use crate::spec::Sizes;
use crate::workload::rng::Rng;
use crate::workload::zipf::Zipf;

/// YCSB's zipfian constant, of field lengths too.
const THETA: f64 = 0.99;

/// Draws sizes.
#[derive(Debug, Clone)]
pub struct SizeMaker {
    min: u32,
    max: u32,
    zipf: Option<Zipf>,
}

impl SizeMaker {
    /// Of a spec.
    pub fn new(sizes: Sizes) -> Self {
        let (min, max) = sizes.bounds();
        let zipf = matches!(sizes, Sizes::Zipfian { .. }).then(|| Zipf::new(u64::from(max - min) + 1, THETA));
        Self { min, max, zipf }
    }

    /// The least that is drawn.
    #[inline]
    pub fn min(&self) -> u32 {
        self.min
    }

    /// Whether there is but one.
    #[inline]
    pub fn fixed(&self) -> Option<u32> {
        (self.min == self.max).then_some(self.min)
    }

    /// Draws one; draws no random number where there is but one.
    #[inline]
    pub fn draw(&self, rng: &mut Rng) -> u32 {
        if self.min == self.max {
            return self.min;
        }
        let span = u64::from(self.max - self.min) + 1;
        let above = match &self.zipf {
            Some(zipf) => zipf.rank(rng),
            None => rng.below(span),
        };
        self.min + u32::try_from(above).expect("it lies below a span of 32 bits")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_between_the_bounds_is_drawn_and_no_other() {
        for sizes in [
            Sizes::Fixed(7),
            Sizes::Uniform { min: 3, max: 12 },
            Sizes::Zipfian { min: 3, max: 12 },
        ] {
            let maker = SizeMaker::new(sizes);
            let mut rng = Rng::new(1);
            let drawn: std::collections::BTreeSet<u32> = (0..10_000).map(|_| maker.draw(&mut rng)).collect();
            let (min, max) = sizes.bounds();
            assert!(drawn.into_iter().eq(min..=max), "{sizes:?}");
        }
    }

    #[test]
    fn small_sizes_are_the_most_frequent_of_a_zipfian() {
        let maker = SizeMaker::new(Sizes::Zipfian { min: 100, max: 1099 });
        let mut rng = Rng::new(2);
        let least = (0..100_000).filter(|_| maker.draw(&mut rng) == 100).count();
        let zeta: f64 = (1..=1000).map(|rank| f64::from(rank).powf(-THETA)).sum();
        // 13,000 expected, deviation 106.
        assert!(
            (least as f64 - 1e5 / zeta).abs() < 530.0,
            "{least} of the least size"
        );
    }
}
