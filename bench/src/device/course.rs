//! Where the next operation of a thread goes, and how large it is. Pure.

use crate::device::ring::ALIGNMENT;
use crate::workload::rng::Rng;

/// The places of one thread's operations.
#[derive(Debug, Clone)]
pub struct Course {
    from: u64,
    to: u64,
    at: u64,
    order: Order,
    sizes: Sizes,
}

/// In which order places come.
#[derive(Debug, Clone)]
pub enum Order {
    /// Uniformly at random, in multiples of the size.
    Random(Rng),
    /// One after the other, from the first again after the last.
    Round,
    /// One after the other, and then no more.
    Once,
}

/// How large operations are.
#[derive(Debug, Clone, Copy)]
pub enum Sizes {
    /// All of these bytes.
    Fixed(u32),
    /// Whole pages, alternating around a mean: the groups of a write-ahead log.
    Groups {
        /// Their mean in pages, 1 at least.
        mean_pages: f64,
        /// How many came so far.
        number: u64,
    },
}

impl Sizes {
    /// Groups of pages whose mean size is `mean_bytes`, but a page at least.
    pub fn groups(mean_bytes: f64) -> Self {
        Self::Groups {
            mean_pages: (mean_bytes / ALIGNMENT as f64).max(1.0),
            number: 0,
        }
    }

    /// The most bytes of one operation.
    pub fn most(self) -> u32 {
        match self {
            Self::Fixed(bytes) => bytes,
            Self::Groups { mean_pages, .. } => pages_to_bytes(mean_pages.ceil()),
        }
    }

    fn next(&mut self) -> u32 {
        match self {
            Self::Fixed(bytes) => *bytes,
            Self::Groups { mean_pages, number } => {
                let upto = |n: u64| (n as f64 * *mean_pages).floor();
                let pages = upto(*number + 1) - upto(*number);
                *number += 1;
                // Rounding makes a difference of a page at most, and never one above the largest.
                pages_to_bytes(pages.clamp(1.0, mean_pages.ceil()))
            }
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the float is whole, positive, and far below 2^32 pages"
)]
fn pages_to_bytes(pages: f64) -> u32 {
    pages as u32 * ALIGNMENT as u32
}

impl Course {
    /// Over bytes `from..to` of a file.
    ///
    /// # Panics
    /// When not one operation fits.
    pub fn new(from: u64, to: u64, order: Order, sizes: Sizes) -> Self {
        assert!(from + u64::from(sizes.most()) <= to, "an operation fits");
        Self {
            from,
            to,
            at: from,
            order,
            sizes,
        }
    }

    /// The next operation's offset and bytes; `None` when there are no more.
    pub fn next_place(&mut self) -> Option<(u64, u32)> {
        let bytes = self.sizes.next();
        let wide = u64::from(bytes);
        match &mut self.order {
            Order::Random(random) => {
                let blocks = (self.to - self.from) / wide;
                return Some((self.from + random.below(blocks) * wide, bytes));
            }
            Order::Round if self.at + wide > self.to => self.at = self.from,
            Order::Once if self.at + wide > self.to => return None,
            Order::Round | Order::Once => {}
        }
        self.at += wide;
        Some((self.at - wide, bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn group_sizes_keep_to_their_mean() {
        for mean in [1.0, 4096.0, 5000.0, 28_672.0, 30_001.5] {
            let mut sizes = Sizes::groups(mean);
            let most = sizes.most();
            let all: Vec<u32> = (0..1000).map(|_| sizes.next()).collect();
            assert!(all.iter().all(|bytes| *bytes <= most && bytes % 4096 == 0));
            let pages: u32 = all.iter().map(|bytes| bytes / 4096).sum();
            let expected = (mean / 4096.0).max(1.0) * 1000.0;
            assert!((f64::from(pages) - expected).abs() <= 1.0, "{mean}: {pages}");
        }
    }

    #[test]
    fn in_order_places_touch_and_begin_again_or_end() {
        let mut round = Course::new(4096, 4096 + 10_000, Order::Round, Sizes::Fixed(4096));
        let places: Vec<_> = (0..5).map(|_| round.next_place().unwrap().0).collect();
        assert_eq!(places, [4096, 8192, 4096, 8192, 4096]);
        let mut once = Course::new(0, 3 * 512, Order::Once, Sizes::Fixed(512));
        assert_eq!((0..4).filter_map(|_| once.next_place()).count(), 3);
    }

    #[test]
    fn random_places_are_whole_blocks_and_reach_all_of_them() {
        let sizes = Sizes::Fixed(28 << 10);
        let (from, to) = (1 << 20, (1 << 20) + 10 * (28 << 10) + 5000);
        let mut course = Course::new(from, to, Order::Random(Rng::new(1)), sizes);
        let mut seen = [0_u32; 10];
        for _ in 0..1000 {
            let (offset, bytes) = course.next_place().unwrap();
            assert!((offset - from).is_multiple_of(u64::from(bytes)) && offset + u64::from(bytes) <= to);
            seen[usize::try_from((offset - from) / u64::from(bytes)).unwrap()] += 1;
        }
        assert!(seen.iter().all(|count| (50..200).contains(count)), "{seen:?}");
    }
}
