//! The merge: a loser tree over sorted sources.
//!
//! Each inner node of the tree remembers the source that lost there, and the root the winner, so taking the next entry
//! costs one comparison per level of the tree (Knuth, *The Art of Computer Programming* 3, 5.4.1). The first eight
//! bytes of every source's current key are kept beside the tree as a big-endian number: most comparisons never touch
//! the key itself.
//!
//! Over sources that run backwards the same tree gives the reverse order: the numbers are complemented, and whole keys
//! compared the other way round. "First" below means first in the direction of the merge.
//!
//! Invariants:
//! - `tree[0]` is the source with the first current entry; `tree[n]`, n ≥ 1, the loser of the match at node n. The
//!   leaf of source i hangs below node (i + k) / 2.
//! - While a source waits for a block, no entry is current: nothing may pass before its next key is known. The tree
//!   then still has that source as its winner, and its match is played again once it is refilled.
//! - Two sources never hold the same key with the same sequence and kind; if they do nonetheless, the source with the
//!   smaller index comes first, and what reads the stream sees the two as not ascending.

use super::{Source, Step};
use crate::types::{Direction, Entry, internal_order};

/// What stepping the merge came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// There is a current entry.
    Ready,
    /// The source with this index needs its next block; load it and call [`Merge::refilled`].
    Blocked(usize),
    /// Every source is at its end.
    End,
}

/// A source as the tree compares it.
#[derive(Debug, Clone, Copy)]
struct Head {
    /// The first eight bytes of the current key, padded with zeros, big-endian, complemented in a merge backwards: its
    /// order never contradicts that of the merge.
    prefix: u64,
    /// Whether there is a current entry; those without come last.
    live: bool,
}

impl Head {
    const ENDED: Self = Self {
        prefix: u64::MAX,
        live: false,
    };
}

/// The merged stream of its sources.
#[derive(Debug)]
pub struct Merge<S> {
    direction: Direction,
    sources: Vec<S>,
    heads: Vec<Head>,
    tree: Vec<usize>,
    blocked: Option<usize>,
}

impl<S: Source> Merge<S> {
    /// A merge of positioned sources that run forwards. Those that wait for their first block are asked for one by one: look at
    /// [`Merge::progress`] before the first entry.
    pub fn new(sources: Vec<S>) -> Self {
        Self::towards(Direction::Forwards, sources)
    }

    /// A merge of positioned sources that all run in `direction`, as [`Merge::new`].
    pub fn towards(direction: Direction, sources: Vec<S>) -> Self {
        let heads = vec![Head::ENDED; sources.len()];
        let mut merge = Self {
            direction,
            sources,
            heads,
            tree: Vec::new(),
            blocked: None,
        };
        merge.rebuild();
        merge
    }

    /// Looks at every source afresh, after they were repositioned.
    pub fn rebuild(&mut self) -> Progress {
        self.tree.clear();
        self.blocked = None;
        if !(0..self.sources.len()).all(|source| self.look_at(source)) {
            // Without all first keys no match can be played; the tree stays empty until then.
            return self.progress();
        }
        self.play_all();
        self.progress()
    }

    /// Plays every match once, from the leaves up: nodes `count..2 * count` are the sources themselves.
    fn play_all(&mut self) {
        let count = self.sources.len();
        let mut winners: Vec<usize> = vec![0; count];
        winners.extend(0..count);
        self.tree.resize(count, 0);
        for node in (1..count).rev() {
            let (left, right) = (winners[2 * node], winners[2 * node + 1]);
            let left_wins = self.before(left, right);
            winners[node] = if left_wins { left } else { right };
            self.tree[node] = if left_wins { right } else { left };
        }
        if let Some(root) = self.tree.first_mut() {
            // With one source node 1 is its leaf, so this holds for every count.
            *root = winners[1];
        }
    }

    /// Takes the head of a source's current entry; `false` where the source waits for a block first.
    fn look_at(&mut self, source: usize) -> bool {
        // A source without a current entry has ended or waits, and says which when it is asked to go on.
        if self.sources[source].current().is_none() && self.sources[source].advance() == Step::NeedBlock {
            self.blocked = Some(source);
            return false;
        }
        self.heads[source] = match self.sources[source].current() {
            Some(entry) => Head {
                prefix: self.rank_of(entry.key),
                live: true,
            },
            None => Head::ENDED,
        };
        true
    }

    /// What stands for `key` in comparisons: smaller for a key that comes earlier.
    #[inline]
    fn rank_of(&self, key: &[u8]) -> u64 {
        match self.direction {
            Direction::Forwards => prefix_of(key),
            Direction::Backwards => !prefix_of(key),
        }
    }

    /// The first entry of all sources; `None` at the end and while a source waits for a block.
    pub fn current(&self) -> Option<Entry<'_>> {
        self.sources[self.current_source()?].current()
    }

    /// Which source the current entry comes from.
    pub fn current_source(&self) -> Option<usize> {
        let &winner = self.tree.first()?;
        (self.blocked.is_none() && self.heads[winner].live).then_some(winner)
    }

    /// Where the merge stands.
    pub fn progress(&self) -> Progress {
        match (self.blocked, self.current_source()) {
            (Some(source), _) => Progress::Blocked(source),
            (None, Some(_)) => Progress::Ready,
            (None, None) => Progress::End,
        }
    }

    /// Goes to the next entry. At the end and while blocked it stays there and says so again.
    pub fn advance(&mut self) -> Progress {
        let Some(winner) = self.current_source() else {
            return self.progress();
        };
        if self.sources[winner].advance() == Step::NeedBlock {
            self.blocked = Some(winner);
            return Progress::Blocked(winner);
        }
        self.replay(winner);
        self.progress()
    }

    /// Goes on after the source that was waiting has its block, or turned out to be at its end.
    ///
    /// # Panics
    /// If it was not this source that was waiting.
    pub fn refilled(&mut self, source: usize) -> Progress {
        assert_eq!(
            self.blocked,
            Some(source),
            "only the source that waits is refilled"
        );
        self.blocked = None;
        if self.tree.is_empty() {
            return self.rebuild();
        }
        self.replay(source);
        self.progress()
    }

    /// The sources, in the order given.
    pub fn sources(&self) -> &[S] {
        &self.sources
    }

    /// The sources, to load blocks into. One that is moved to another entry calls for [`Merge::rebuild`].
    pub fn sources_mut(&mut self) -> &mut [S] {
        &mut self.sources
    }

    /// Plays the matches from the leaf of `source`, whose entry changed, up to the root.
    fn replay(&mut self, source: usize) {
        if !self.look_at(source) {
            return;
        }
        let mut winner = source;
        let mut node = usize::midpoint(source, self.sources.len());
        while node > 0 {
            let rival = self.tree[node];
            if self.before(rival, winner) {
                self.tree[node] = winner;
                winner = rival;
            }
            node /= 2;
        }
        self.tree[0] = winner;
    }

    /// Whether the entry of source `a` comes before that of source `b`.
    #[inline]
    fn before(&self, a: usize, b: usize) -> bool {
        let (x, y) = (self.heads[a], self.heads[b]);
        if x.live && y.live && x.prefix != y.prefix {
            return x.prefix < y.prefix;
        }
        self.before_in_full(a, b)
    }

    fn before_in_full(&self, a: usize, b: usize) -> bool {
        match (self.sources[a].current(), self.sources[b].current()) {
            (Some(x), Some(y)) => {
                let order = internal_order((x.key, x.trailer()), (y.key, y.trailer()));
                self.direction.order(order).then(a.cmp(&b)).is_lt()
            }
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (None, None) => a < b,
        }
    }
}

#[inline]
fn prefix_of(key: &[u8]) -> u64 {
    if let Some(first) = key.first_chunk::<8>() {
        return u64::from_be_bytes(*first);
    }
    let mut padded = [0; 8];
    padded[..key.len()].copy_from_slice(key);
    u64::from_be_bytes(padded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Kind, Sequence};

    /// A source over entries in memory that pretends to load them in blocks of random lengths.
    struct Blocks {
        entries: Vec<(Vec<u8>, Sequence)>,
        /// Where blocks begin, behind the first.
        starts: Vec<usize>,
        at: usize,
        waits: bool,
    }

    impl Blocks {
        fn load(&mut self) {
            assert!(self.waits, "only a source that waits is loaded");
            self.waits = false;
        }
    }

    impl Source for Blocks {
        fn current(&self) -> Option<Entry<'_>> {
            let (key, sequence) = self.entries.get(self.at).filter(|_| !self.waits)?;
            Some(Entry {
                key,
                sequence: *sequence,
                kind: Kind::Put,
                value: b"v",
            })
        }

        fn advance(&mut self) -> Step {
            if self.waits {
                return Step::NeedBlock;
            }
            self.at = (self.at + 1).min(self.entries.len());
            if self.at == self.entries.len() {
                return Step::End;
            }
            self.waits = self.starts.contains(&self.at);
            if self.waits { Step::NeedBlock } else { Step::Ready }
        }
    }

    fn drain(merge: &mut Merge<Blocks>) -> Vec<(Vec<u8>, Sequence)> {
        let mut out = Vec::new();
        loop {
            match merge.progress() {
                Progress::Ready => {
                    let entry = merge.current().unwrap();
                    out.push((entry.key.to_vec(), entry.sequence));
                    merge.advance();
                }
                Progress::Blocked(source) => {
                    assert_eq!(merge.current(), None, "nothing may pass a source that waits");
                    assert_eq!(merge.advance(), Progress::Blocked(source));
                    merge.sources_mut()[source].load();
                    merge.refilled(source);
                }
                Progress::End => return out,
            }
        }
    }

    /// A small seeded generator (splitmix64).
    fn random(seed: &mut u64, below: u64) -> u64 {
        *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below
    }

    #[test]
    fn any_number_of_sources_with_any_blocks_comes_out_sorted_and_whole() {
        for case in 0..1000 {
            let mut seed = case;
            let direction = [Direction::Forwards, Direction::Backwards][usize::from(case >= 500)];
            let order = |a: &(Vec<u8>, Sequence), b: &(Vec<u8>, Sequence)| {
                direction.order(a.0.cmp(&b.0).then(b.1.cmp(&a.1)))
            };
            let count = usize::try_from(random(&mut seed, 12)).unwrap();
            let mut all = Vec::new();
            let mut sources = Vec::new();
            for source in 0..count {
                let mut entries = Vec::new();
                for at in 0..random(&mut seed, 60) {
                    // Short keys with many zeros, so that the cached prefixes often tie.
                    let len = usize::try_from(random(&mut seed, 12)).unwrap();
                    let key: Vec<u8> = (0..len).map(|_| u8::from(random(&mut seed, 4) == 0)).collect();
                    entries.push((key, at * 16 + source as u64 + 1));
                }
                entries.sort_by(order);
                all.extend(entries.iter().cloned());
                let starts = (0..entries.len())
                    .filter(|_| random(&mut seed, 4) == 0)
                    .collect::<Vec<_>>();
                let waits = !entries.is_empty() && random(&mut seed, 2) == 0;
                sources.push(Blocks {
                    entries,
                    starts,
                    at: 0,
                    waits,
                });
            }
            all.sort_by(order);
            let mut merge = Merge::towards(direction, sources);
            assert_eq!(drain(&mut merge), all, "case {case}");
        }
    }

    #[test]
    fn no_sources_is_an_end() {
        let mut merge = Merge::<Blocks>::new(Vec::new());
        assert_eq!(merge.progress(), Progress::End);
        assert_eq!(merge.advance(), Progress::End);
        assert_eq!(merge.current(), None);
    }

    #[test]
    fn equal_entries_come_from_the_first_source_first() {
        let source = || Blocks {
            entries: vec![(b"k".to_vec(), 7)],
            starts: Vec::new(),
            at: 0,
            waits: false,
        };
        let mut merge = Merge::new(vec![source(), source(), source()]);
        for expected in 0..3 {
            assert_eq!(merge.current_source(), Some(expected));
            merge.advance();
        }
        assert_eq!(merge.progress(), Progress::End);
    }

    #[test]
    fn sources_that_were_moved_are_looked_at_afresh() {
        let source = |key: &[u8]| Blocks {
            entries: vec![(key.to_vec(), 7), (b"z".to_vec(), key.len() as u64)],
            starts: Vec::new(),
            at: 0,
            waits: false,
        };
        let mut merge = Merge::new(vec![source(b"a"), source(b"bb")]);
        while merge.advance() != Progress::End {}
        for source in merge.sources_mut() {
            source.at = 0;
        }
        assert_eq!(merge.rebuild(), Progress::Ready);
        assert_eq!(merge.current().unwrap().key, b"a");
    }
}
