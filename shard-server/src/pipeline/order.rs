//! Which reads of a round wait for which key.
//!
//! A read that may be put off must not see a write that follows it in its round. So such a write first makes the reads of
//! its key firm, and where these would be too many the round ends before it. Rounds without writes pay nothing: the reads
//! are noted only once a write comes.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use super::asked::Asked;

/// Noted reads by the hash of their key: two keys of one hash only make a read firm in vain.
#[derive(Debug, Default)]
pub(super) struct Order {
    newest: HashMap<u64, usize>,
    /// Of each request so far, the read of the same key before it.
    before: Vec<Option<usize>>,
}

impl Order {
    /// A new round begins.
    pub(super) fn clear(&mut self) {
        if !self.before.is_empty() {
            self.newest.clear();
            self.before.clear();
        }
    }

    /// How many reads of `key` wait whose answers may be long.
    pub(super) fn weighty(&mut self, asked: &[Asked], key: &[u8]) -> usize {
        self.note(asked);
        self.reads(key)
            .filter(|&number| asked[number].is_weighty())
            .count()
    }

    /// Makes the reads of `key` firm.
    pub(super) fn make_firm(&mut self, asked: &mut [Asked], key: &[u8]) {
        self.note(asked);
        let mut reads = self.reads(key).peekable();
        if reads.peek().is_none() {
            return;
        }
        for number in reads {
            asked[number].make_firm();
        }
        self.newest.remove(&hash(key));
    }

    fn reads(&self, key: &[u8]) -> impl Iterator<Item = usize> {
        // A round of writes alone hashes no key.
        let newest = (!self.newest.is_empty()).then(|| self.newest.get(&hash(key)).copied());
        let newest = newest.flatten();
        std::iter::successors(newest, |&number| self.before[number])
    }

    fn note(&mut self, asked: &[Asked]) {
        for (number, asked) in asked.iter().enumerate().skip(self.before.len()) {
            let before = asked
                .read_key()
                .and_then(|key| self.newest.insert(hash(key), number));
            self.before.push(before);
        }
    }
}

fn hash(key: &[u8]) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(key)
}

#[cfg(test)]
mod tests {
    use corelane::api::{Batch, Durability, Op};

    use super::*;

    fn write() -> Asked {
        let op = Op::Write {
            batch: Batch::new(),
            durability: Durability::Sync,
        };
        Asked::plain(0, op)
    }

    #[test]
    fn a_write_finds_the_reads_of_its_key_that_came_before_it_once() {
        let mut order = Order::default();
        let mut asked = vec![
            Asked::value(0, b"a"),
            Asked::value(0, b"b"),
            Asked::present(0, b"a"),
            Asked::value(0, b"a"),
        ];
        assert_eq!(order.weighty(&asked, b"a"), 2, "whether it is there is short");
        assert_eq!(order.weighty(&asked, b"c"), 0);
        order.make_firm(&mut asked, b"a");
        assert_eq!(order.weighty(&asked, b"a"), 0, "they are firm already");
        asked.extend([write(), Asked::value(0, b"a")]);
        assert_eq!((order.weighty(&asked, b"a"), order.weighty(&asked, b"b")), (1, 1));
        order.clear();
        assert_eq!(order.weighty(&[], b"a"), 0);
    }
}
