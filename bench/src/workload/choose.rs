//! Which existing key is chosen next.
//!
//! Candidates are numbered: the loaded entries by their index, then the stream's own inserts in the order made, from the
//! number of loaded ones on. Only `latest` chooses own inserts; the others choose among the loaded entries, which every
//! stream knows, whatever was inserted since.

use crate::spec::Distribution;
use crate::workload::rng::Rng;
use crate::workload::zipf::Zipf;

/// Chooses.
#[derive(Debug, Clone)]
pub struct Chooser {
    loaded: u64,
    how: How,
}

#[derive(Debug, Clone)]
enum How {
    Uniform,
    Zipfian(Zipf),
    Scrambled(Zipf, Scatter),
    Latest { zipf: Zipf, candidates: u64 },
    Hotspot { hot: u64, operations: f64 },
    Sequential { next: u64, first: u64, end: u64 },
}

impl Chooser {
    /// Of stream `stream` of `of`, over `loaded` entries.
    ///
    /// # Panics
    /// When there is no entry.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a share of the entries lies below them"
    )]
    pub fn new(distribution: Distribution, loaded: u64, stream: u32, of: u32) -> Self {
        assert!(loaded > 0, "a checked spec has entries");
        let how = match distribution {
            Distribution::Uniform => How::Uniform,
            Distribution::Zipfian { theta } => How::Zipfian(Zipf::new(loaded, theta)),
            Distribution::ScrambledZipfian { theta } => {
                How::Scrambled(Zipf::new(loaded, theta), Scatter::new(loaded))
            }
            Distribution::Latest { theta } => How::Latest {
                zipf: Zipf::new(loaded, theta),
                candidates: loaded,
            },
            Distribution::Hotspot { keys, operations } => How::Hotspot {
                hot: ((keys * loaded as f64) as u64).clamp(1, loaded),
                operations,
            },
            Distribution::Sequential => sequential(loaded, stream, of),
        };
        Self { loaded, how }
    }

    /// Chooses the next candidate.
    #[inline]
    pub fn choose(&mut self, rng: &mut Rng) -> u64 {
        match &mut self.how {
            How::Uniform => rng.below(self.loaded),
            How::Zipfian(zipf) => zipf.rank(rng),
            How::Scrambled(zipf, scatter) => scatter.of(zipf.rank(rng)),
            How::Latest { zipf, candidates } => *candidates - 1 - zipf.rank(rng),
            How::Hotspot { hot, operations } => {
                if rng.unit() < *operations || *hot == self.loaded {
                    rng.below(*hot)
                } else {
                    *hot + rng.below(self.loaded - *hot)
                }
            }
            How::Sequential { next, first, end } => {
                let chosen = *next;
                *next = if chosen + 1 == *end { *first } else { chosen + 1 };
                chosen
            }
        }
    }

    /// Tells it of one more own insert, the newest candidate from now on.
    #[inline]
    pub fn inserted(&mut self) {
        if let How::Latest { zipf, candidates } = &mut self.how {
            *candidates += 1;
            zipf.set_ranks(*candidates);
        }
    }
}

/// Each stream its own part, as even as can be; where there are fewer entries than streams, a part is one entry.
fn sequential(loaded: u64, stream: u32, of: u32) -> How {
    let cut = |part: u32| {
        let at = u128::from(loaded) * u128::from(part) / u128::from(of);
        u64::try_from(at).expect("a part of the entries lies below them")
    };
    let first = cut(stream).min(loaded - 1);
    let end = cut(stream + 1).max(first + 1);
    How::Sequential {
        next: first,
        first,
        end,
    }
}

/// A permutation of the numbers below an end that looks random and is the same for all streams: popular ranks become keys
/// anywhere, and no two the same key.
///
/// YCSB takes a hash modulo the number of keys instead, where about a third of the keys gets no rank and others several.
/// Here rounds of odd multiplication and shift permute the numbers below the next power of two, and a number that lands
/// beyond the end goes round again ("cycle walking"; Black, Rogaway: "Ciphers with Arbitrary Finite Domains", 2002): fewer
/// than two walks on average, since more than half lies below the end.
#[derive(Debug, Clone)]
pub struct Scatter {
    end: u64,
    mask: u64,
    shift: u32,
}

impl Scatter {
    /// Of the numbers below `end`, which is not 0 and at most 2^63.
    pub fn new(end: u64) -> Self {
        let size = end.next_power_of_two();
        Self {
            end,
            mask: size - 1,
            shift: size.trailing_zeros().div_ceil(2).max(1),
        }
    }

    /// Where a number goes.
    #[inline]
    pub fn of(&self, number: u64) -> u64 {
        debug_assert!(number < self.end, "{number} is not below {}", self.end);
        let mut at = number;
        // Ends: the walk follows a cycle of a permutation, and `number` itself, below the end, is on it.
        loop {
            at = self.round(at.wrapping_add(0x9e37_79b9_7f4a_7c15), 0xbf58_476d_1ce4_e5b9);
            at = self.round(at, 0x94d0_49bb_1331_11eb);
            at = self.round(at, 0xff51_afd7_ed55_8ccd);
            if at < self.end {
                return at;
            }
        }
    }

    #[inline]
    fn round(&self, number: u64, odd: u64) -> u64 {
        let number = number.wrapping_mul(odd) & self.mask;
        number ^ (number >> self.shift)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(chooser: &mut Chooser, candidates: usize, draws: u32, seed: u64) -> Vec<f64> {
        let mut rng = Rng::new(seed);
        let mut counts = vec![0.0; candidates];
        for _ in 0..draws {
            counts[usize::try_from(chooser.choose(&mut rng)).unwrap()] += 1.0;
        }
        counts
    }

    /// The largest distance of a count from what is expected, in deviations of a binomial.
    fn worst(counts: &[f64], share: impl Fn(usize) -> f64) -> f64 {
        let draws: f64 = counts.iter().sum();
        let off = counts.iter().enumerate().map(|(at, count)| {
            let (mean, variance) = (draws * share(at), draws * share(at) * (1.0 - share(at)));
            (count - mean).abs() / variance.sqrt().max(1.0)
        });
        off.fold(0.0, f64::max)
    }

    // Of a few hundred counts the worst lies beyond 5 deviations once in some 5,000 seeds; the seeds are fixed.

    #[test]
    fn uniform_choices_are_alike() {
        let counts = counted(
            &mut Chooser::new(Distribution::Uniform, 300, 0, 1),
            300,
            300_000,
            1,
        );
        assert!(worst(&counts, |_| 1.0 / 300.0) < 5.0);
    }

    #[test]
    fn scrambled_zipfian_is_zipfian_and_its_popular_keys_lie_anywhere() {
        let theta = 0.99;
        let loaded = 300;
        let zeta: f64 = (1..=300_u32).map(|rank| f64::from(rank).powf(-theta)).sum();
        let zipf = |rank: usize| ((rank + 1) as f64).powf(-theta) / zeta;
        let mut plain = Chooser::new(Distribution::Zipfian { theta }, loaded, 0, 1);
        assert!(worst(&counted(&mut plain, 300, 300_000, 2), zipf) < 5.0);
        let mut scrambled = Chooser::new(Distribution::ScrambledZipfian { theta }, loaded, 0, 1);
        let counts = counted(&mut scrambled, 300, 300_000, 3);
        let scatter = Scatter::new(loaded);
        let by_rank: Vec<f64> = (0..loaded)
            .map(|rank| counts[usize::try_from(scatter.of(rank)).unwrap()])
            .collect();
        assert!(worst(&by_rank, zipf) < 5.0);
        let halves = (0..100).filter(|&rank| scatter.of(rank) < loaded / 2).count();
        assert!(
            (30..=70).contains(&halves),
            "{halves} of the 100 most popular lie in the lower half"
        );
    }

    #[test]
    fn latest_is_zipfian_backwards_from_the_newest_insert() {
        let theta = 0.99;
        let mut latest = Chooser::new(Distribution::Latest { theta }, 100, 0, 1);
        let mut rng = Rng::new(9);
        assert!(
            (0..10_000).all(|_| latest.choose(&mut rng) < 100),
            "nothing is inserted yet"
        );
        (0..200).for_each(|_| latest.inserted());
        let zeta: f64 = (1..=300_u32).map(|rank| f64::from(rank).powf(-theta)).sum();
        let counts = counted(&mut latest, 300, 300_000, 4);
        assert!(
            worst(&counts, |at| f64::from(300 - u32::try_from(at).unwrap())
                .powf(-theta)
                / zeta)
                < 5.0
        );
    }

    #[test]
    fn hotspot_gives_the_hot_keys_their_share_and_each_side_is_even() {
        let hotspot = |keys, operations| Distribution::Hotspot { keys, operations };
        let mut chooser = Chooser::new(hotspot(0.2, 0.8), 300, 0, 1);
        let counts = counted(&mut chooser, 300, 300_000, 5);
        assert!(worst(&counts, |at| if at < 60 { 0.8 / 60.0 } else { 0.2 / 240.0 }) < 5.0);
        let mut all = Chooser::new(hotspot(0.05, 1.0), 300, 0, 1);
        assert!(counted(&mut all, 15, 10_000, 6).iter().all(|&count| count > 0.0));
        let mut whole = Chooser::new(hotspot(1.0, 0.0), 3, 0, 1);
        assert!(counted(&mut whole, 3, 100, 7).iter().all(|&count| count > 0.0));
    }

    #[test]
    fn sequential_streams_take_every_entry_once_a_round() {
        for (loaded, streams) in [(10, 1), (10, 3), (10, 10), (1000, 7)] {
            let mut seen = vec![0; loaded];
            for stream in 0..streams {
                let mut chooser = Chooser::new(Distribution::Sequential, loaded as u64, stream, streams);
                let mut rng = Rng::new(1);
                let first = chooser.choose(&mut rng);
                let mut at = first;
                loop {
                    seen[usize::try_from(at).unwrap()] += 1;
                    let next = chooser.choose(&mut rng);
                    if next == first {
                        break;
                    }
                    assert_eq!(next, at + 1);
                    at = next;
                }
            }
            assert!(
                seen.iter().all(|&times| times == 1),
                "{loaded} by {streams}: {seen:?}"
            );
        }
        let mut few = Chooser::new(Distribution::Sequential, 2, 7, 8);
        assert!(few.choose(&mut Rng::new(1)) < 2, "more streams than entries");
    }

    #[test]
    fn a_scatter_is_a_permutation_of_any_length() {
        for end in (1..70).chain([255, 256, 257, 1000, 4096, 10_007]) {
            let scatter = Scatter::new(end);
            let mut places: Vec<u64> = (0..end).map(|number| scatter.of(number)).collect();
            places.sort_unstable();
            assert!(places.into_iter().eq(0..end), "{end}");
        }
        let wide = Scatter::new(1 << 40);
        assert!((0..1000).all(|number| wide.of(number) < 1 << 40));
    }
}
