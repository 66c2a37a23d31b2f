//! Which pieces of one region are in use: a buddy allocator over pages, as numbers only.
//!
//! A piece is `2^order` pages at a multiple of its own size. A free piece is halved until it fits; a piece given back joins
//! its buddy, the other half of what both were cut from, as long as that is free too. Every step is a bit of a map: there are
//! at most [`ORDERS`] maps, and finding a free piece looks at words of 64.

/// Orders of pieces: the longest is 256 pages, 1 MiB, beyond which a transfer gains nothing from registered memory.
const ORDERS: usize = 9;

/// Pages of the longest piece.
pub(super) const LONGEST_PAGES: usize = 1 << (ORDERS - 1);

/// The free pieces of one region.
#[derive(Debug)]
pub(super) struct Buddy {
    /// By order, a bit for each piece of that order: set where it is free as a whole.
    free: [Vec<u64>; ORDERS],
    /// By order, how many bits are set.
    count: [usize; ORDERS],
}

/// The order of the smallest piece that holds so many pages; `None` where none does.
fn order_of(pages: usize) -> Option<usize> {
    let order = pages.max(1).next_power_of_two().trailing_zeros() as usize;
    (order < ORDERS).then_some(order)
}

impl Buddy {
    /// A region of `pages` pages, rounded down to whole longest pieces, all free.
    pub(super) fn new(pages: usize) -> Self {
        let longest = pages / LONGEST_PAGES;
        let mut this = Self {
            free: std::array::from_fn(|order| {
                let pieces = longest << (ORDERS - 1 - order);
                vec![0; pieces.div_ceil(64)]
            }),
            count: [0; ORDERS],
        };
        (0..longest).for_each(|piece| this.set(ORDERS - 1, piece));
        this
    }

    /// Takes a piece of at least `pages` pages and returns its first page; `None` where there is none.
    pub(super) fn take(&mut self, pages: usize) -> Option<usize> {
        let order = order_of(pages)?;
        let from = (order..ORDERS).find(|&o| self.count[o] > 0)?;
        let word = self.free[from].iter().position(|&word| word != 0);
        let word = word.expect("the count says that a piece is free");
        let mut piece = word * 64 + self.free[from][word].trailing_zeros() as usize;
        self.clear(from, piece);
        for smaller in (order..from).rev() {
            piece *= 2;
            self.set(smaller, piece + 1);
        }
        Some(piece << order)
    }

    /// Gives back the piece of `pages` pages that starts at page `first`.
    pub(super) fn give_back(&mut self, first: usize, pages: usize) {
        let mut order = order_of(pages).expect("it was taken");
        let mut piece = first >> order;
        assert!(
            first.is_multiple_of(1 << order) && !self.is_set(order, piece),
            "page {first} was not taken"
        );
        while order < ORDERS - 1 && self.is_set(order, piece ^ 1) {
            self.clear(order, piece ^ 1);
            piece /= 2;
            order += 1;
        }
        self.set(order, piece);
    }

    /// Pages that are free.
    #[cfg(test)]
    pub(super) fn free_pages(&self) -> usize {
        (0..ORDERS).map(|order| self.count[order] << order).sum()
    }

    fn is_set(&self, order: usize, piece: usize) -> bool {
        let word = self.free[order].get(piece / 64);
        word.is_some_and(|word| word >> (piece % 64) & 1 == 1)
    }

    fn set(&mut self, order: usize, piece: usize) {
        self.free[order][piece / 64] |= 1 << (piece % 64);
        self.count[order] += 1;
    }

    fn clear(&mut self, order: usize, piece: usize) {
        self.free[order][piece / 64] &= !(1 << (piece % 64));
        self.count[order] -= 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pieces_never_overlap_and_all_of_them_join_again(
            steps in prop::collection::vec((1_usize..=LONGEST_PAGES, any::<bool>(), any::<prop::sample::Index>()), 1..200),
        ) {
            const PAGES: usize = 3 * LONGEST_PAGES;
            let mut buddy = Buddy::new(PAGES + 17);
            let mut taken: Vec<(usize, usize)> = Vec::new();
            for (pages, take, which) in steps {
                if take || taken.is_empty() {
                    // Mostly small ones, so that the region does not fill at once.
                    let pages = if pages % 4 == 0 { pages } else { pages % 8 + 1 };
                    let Some(first) = buddy.take(pages) else { continue };
                    prop_assert!(first + pages <= PAGES);
                    for &(other, length) in &taken {
                        prop_assert!(first + pages <= other || other + length <= first);
                    }
                    taken.push((first, pages));
                } else {
                    let (first, pages) = taken.swap_remove(which.index(taken.len()));
                    buddy.give_back(first, pages);
                }
            }
            for (first, pages) in taken {
                buddy.give_back(first, pages);
            }
            prop_assert_eq!(buddy.free_pages(), PAGES);
            for _ in 0..3 {
                prop_assert!(buddy.take(LONGEST_PAGES).is_some(), "in one piece again");
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let mut buddy = Buddy::new(LONGEST_PAGES);
        assert_eq!(buddy.take(LONGEST_PAGES + 1), None);
        assert_eq!(buddy.take(LONGEST_PAGES), Some(0));
        assert_eq!(buddy.take(1), None);
        assert_eq!(Buddy::new(LONGEST_PAGES - 1).take(1), None, "no whole piece");
    }

    #[test]
    #[should_panic(expected = "was not taken")]
    fn a_piece_is_given_back_once() {
        let mut buddy = Buddy::new(LONGEST_PAGES);
        buddy.take(1);
        buddy.give_back(1, 1);
    }
}
