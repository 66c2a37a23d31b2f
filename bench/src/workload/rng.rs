//! Random numbers of our own, so that a seed means the same operations for ever: splitmix64.

/// The finisher of splitmix64 (Steele, Lea, Flood 2014): a bijection of 64 bits that looks random.
#[inline]
pub fn mix(index: u64) -> u64 {
    let mut z = index.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A sequence of random numbers.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// The sequence of a seed.
    pub fn new(seed: u64) -> Self {
        Self(mix(seed))
    }

    /// 64 random bits.
    #[inline]
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `end`.
    #[inline]
    pub fn below(&mut self, end: u64) -> u64 {
        let wide = u128::from(self.next_u64()) * u128::from(end);
        u64::try_from(wide >> 64).expect("the upper half of a product has 64 bits")
    }

    /// A number from 0 to 1, 1 excluded.
    #[inline]
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mix_gives_the_published_numbers_of_splitmix64() {
        // Seed 1234567: Rosetta Code's task "Pseudo-random numbers/Splitmix64"; seed 0: Vigna's splitmix64.c.
        let published = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
            4_593_380_528_125_082_431,
            16_408_922_859_458_223_821,
        ];
        for (step, number) in published.into_iter().enumerate() {
            let before = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(step as u64);
            assert_eq!(mix(1_234_567_u64.wrapping_add(before)), number);
        }
        assert_eq!(mix(0), 0xe220_a839_7b1d_cdaf);
    }

    #[test]
    fn a_sequence_is_splitmix64_from_a_mixed_seed() {
        let mut rng = Rng::new(42);
        for step in 1..100 {
            let state = mix(42).wrapping_add(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(step));
            assert_eq!(rng.next_u64(), mix(state));
        }
    }

    #[test]
    fn numbers_below_an_end_are_below_it_and_alike() {
        let mut rng = Rng::new(7);
        let mut counts = [0_u32; 10];
        for _ in 0..1_000_000 {
            counts[usize::try_from(rng.below(10)).unwrap()] += 1;
        }
        // 100,000 expected of each, deviation 300: five of them are 1,500.
        assert!(
            counts.iter().all(|count| count.abs_diff(100_000) < 1500),
            "{counts:?}"
        );
        assert_eq!(rng.below(1), 0);
    }

    #[test]
    fn units_are_from_0_to_below_1_with_the_mean_and_spread_of_evenness() {
        let mut rng = Rng::new(8);
        let units: Vec<f64> = (0..1_000_000).map(|_| rng.unit()).collect();
        assert!(units.iter().all(|unit| (0.0..1.0).contains(unit)));
        let mean = units.iter().sum::<f64>() / 1e6;
        let square = units.iter().map(|unit| unit * unit).sum::<f64>() / 1e6;
        // Deviations of the means: 0.289 / 1000 and 0.298 / 1000.
        assert!(
            (mean - 0.5).abs() < 0.0015 && (square - 1.0 / 3.0).abs() < 0.0015,
            "{mean} {square}"
        );
    }
}
