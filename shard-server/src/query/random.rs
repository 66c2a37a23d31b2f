//! `RANDOMKEY`: a key by chance, where an ordered store knows no key's rank.
//!
//! Picking the key behind a random place would favour those behind gaps: of `user:1 … user:9999, z` it would nearly
//! always be `user:1` or `z`. Instead it goes down the tree of prefixes: from a prefix with too many keys to look at, the
//! bytes that follow it are looked up, each with some of its keys, and one is taken, as likely as it has keys among those
//! seen; the few keys below the prefix that is left are drawn from evenly. Where the thick branches are about as thick as
//! each other, every key is as likely. Where they are not, a key below a thinner one comes too often; so several descents
//! are made, each is weighed by the number of keys that its branchings tell of (Knuth, "Estimating the efficiency of
//! backtrack programs", 1975), and one is drawn by weight.
//!
//! All keys of a small database are on the first page, and each is exactly as likely. The work is bounded by
//! [`MAX_SCANS`]; a descent that has used them up draws from the page it has reached.

use std::ops::Bound;

use corelane::api::{Entries, Page, ScanRange};

use super::walk::beyond;
use crate::command::Failure;
use crate::store::Store;

/// Keys below a prefix that are drawn from rather than told apart further.
const PAGE: usize = 128;

/// A page stops at this many bytes.
const PAGE_BYTES: usize = 64 << 10;

/// Keys looked at where a branch begins: a branch of fewer keys is known to be thin.
const LOOK: usize = 32;

/// Branches looked up below one prefix: more than decimal digits have, fewer than would cost too much where keys are
/// random bytes.
const BRANCHES: usize = 20;

/// Descents of one command.
const DESCENTS: usize = 3;

/// Most scans of one command: some ten milliseconds from the device.
const MAX_SCANS: usize = 250;

/// A key that a descent came to.
struct Drawn {
    key: Vec<u8>,
    /// How many keys there are, as far as this descent can tell.
    weight: f64,
}

/// A way on from a prefix.
struct Branch {
    /// The byte that follows; `None` for the prefix itself, which is a key.
    byte: Option<u8>,
    /// Keys seen below it: all of them where they are few.
    keys: usize,
}

/// The ways on from a prefix.
struct Branches {
    list: Vec<Branch>,
    /// How many times as many there are, as far as those that were looked up tell.
    scale: f64,
}

struct Descents<'a, S> {
    store: &'a S,
    scans: usize,
}

/// A key by chance; `None` where there is none.
pub(super) async fn key<S: Store>(store: &S) -> Result<Option<Vec<u8>>, Failure> {
    let mut descents = Descents { store, scans: 0 };
    let mut drawn: Option<Drawn> = None;
    for _ in 0..DESCENTS {
        let first = drawn.is_none();
        let Some(mut next) = descents.descend().await? else {
            break;
        };
        if let Some(before) = drawn {
            // Drawn by weight, one after the other: each ends up with its share of the sum.
            let total = before.weight + next.weight;
            let take = unit(store.random_u64()) * total < next.weight;
            next = if take { next } else { before };
            next.weight = total;
        }
        drawn = Some(next);
        // One page held everything: another descent would tell nothing new.
        if first && descents.scans == 1 || descents.scans >= MAX_SCANS {
            break;
        }
    }
    Ok(drawn.map(|drawn| drawn.key))
}

impl<S: Store> Descents<'_, S> {
    async fn descend(&mut self) -> Result<Option<Drawn>, Failure> {
        let (mut prefix, mut weight) = (Vec::new(), 1.0);
        loop {
            let page = self.scan(Bound::Included(prefix.clone()), &prefix, PAGE).await?;
            if page.entries.is_empty() {
                return Ok(None);
            }
            if page.resume.is_none() || self.scans >= MAX_SCANS {
                return Ok(Some(self.drawn_from(&page, weight)));
            }
            self.pass_common(&mut prefix, &page).await?;
            let mut branches = self.branches(&prefix).await?;
            if nth(&page.entries, 0) == prefix {
                branches.list.push(Branch { byte: None, keys: 1 });
            }
            let total: usize = branches.list.iter().map(|branch| branch.keys).sum();
            let mut place = below(total, self.store.random_u64());
            let taken = branches
                .list
                .iter()
                .find(|branch| match place.checked_sub(branch.keys) {
                    Some(left) => {
                        place = left;
                        false
                    }
                    None => true,
                });
            // Nothing was found where the scans have run out, or the keys went away meanwhile: the page is there.
            let Some(taken) = taken else {
                return Ok(Some(self.drawn_from(&page, weight)));
            };
            weight *= branches.scale * count(total) / count(taken.keys);
            match taken.byte {
                Some(byte) => prefix.push(byte),
                None => return Ok(Some(Drawn { key: prefix, weight })),
            }
        }
    }

    /// One of a page's keys, each as likely.
    fn drawn_from(&self, page: &Page, weight: f64) -> Drawn {
        let place = below(page.entries.len(), self.store.random_u64());
        Drawn {
            weight: weight * count(page.entries.len()),
            key: nth(&page.entries, place),
        }
    }

    /// Makes `prefix` as long as what all keys below it start with, of which `page` has the first: a long common prefix
    /// would use up the scans byte by byte.
    async fn pass_common(&mut self, prefix: &mut Vec<u8>, page: &Page) -> Result<(), Failure> {
        let first = nth(&page.entries, 0);
        if common(&first, &nth(&page.entries, page.entries.len() - 1)) == prefix.len() {
            return Ok(());
        }
        let mut range = Self::range(Bound::Included(prefix.clone()), prefix, 1);
        range.reverse = true;
        self.scans += 1;
        let end = self.store.scan(range).await?;
        if let Some((last, _)) = end.entries.last() {
            prefix.extend_from_slice(&first[prefix.len()..common(&first, last).max(prefix.len())]);
        }
        Ok(())
    }

    /// The branches below `prefix`, from a random one on.
    async fn branches(&mut self, prefix: &[u8]) -> Result<Branches, Failure> {
        let from = u8::try_from(self.store.random_u64() >> 56).expect("one byte");
        let mut list: Vec<Branch> = Vec::new();
        // The bytes from `from` up, then those below it.
        for (first, last) in [
            (Some(from), u8::MAX),
            (from.checked_sub(1).map(|_| 0), from.wrapping_sub(1)),
        ] {
            let mut at = first;
            while let Some(byte) = at {
                if list.len() >= BRANCHES || self.scans >= MAX_SCANS {
                    let newest = list.last().and_then(|branch| branch.byte).unwrap_or(from);
                    let seen = usize::from(newest.wrapping_sub(from)) + 1;
                    let scale = 256.0 / count(seen);
                    return Ok(Branches { list, scale });
                }
                let start = Bound::Included([prefix, &[byte]].concat());
                let page = self.scan(start, prefix, LOOK).await?;
                let bytes = page.entries.iter().map(|(key, _)| key[prefix.len()]);
                for byte in bytes.filter(|&byte| byte <= last) {
                    match list.last_mut() {
                        Some(branch) if branch.byte == Some(byte) => branch.keys += 1,
                        _ => list.push(Branch {
                            byte: Some(byte),
                            keys: 1,
                        }),
                    }
                }
                let end = page.entries.last().map(|(key, _)| key[prefix.len()]);
                let more = page.resume.is_some().then_some(end).flatten();
                at = more.filter(|&end| end < last).map(|end| end + 1);
            }
        }
        Ok(Branches { list, scale: 1.0 })
    }

    /// Keys from `start` on that start with `prefix`.
    async fn scan(&mut self, start: Bound<Vec<u8>>, prefix: &[u8], limit: usize) -> Result<Page, Failure> {
        self.scans += 1;
        Ok(self.store.scan(Self::range(start, prefix, limit)).await?)
    }

    fn range(start: Bound<Vec<u8>>, prefix: &[u8], limit: usize) -> ScanRange {
        ScanRange {
            start,
            end: beyond(prefix).map_or(Bound::Unbounded, Bound::Excluded),
            reverse: false,
            limit,
            bytes_limit: PAGE_BYTES,
            keys_only: true,
            at: None,
        }
    }
}

fn nth(entries: &Entries, place: usize) -> Vec<u8> {
    let entry = entries.iter().nth(place);
    entry.expect("the place is below their number").0.to_vec()
}

/// How many bytes two keys start with in common.
fn common(one: &[u8], other: &[u8]) -> usize {
    one.iter()
        .zip(other)
        .take_while(|(one, other)| one == other)
        .count()
}

#[expect(clippy::cast_precision_loss, reason = "at most a page, or 256")]
fn count(n: usize) -> f64 {
    n as f64
}

/// A number below `n` by chance; 0 where that is 0.
fn below(n: usize, random: u64) -> usize {
    let place = (u128::from(random) * n as u128) >> 64;
    usize::try_from(place).expect("below a usize")
}

/// From 0 to before 1 by chance.
#[expect(clippy::cast_precision_loss, reason = "53 bits are kept exactly")]
fn unit(random: u64) -> f64 {
    (random >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use futures_lite::future::block_on;

    use super::*;
    use crate::testing::MemoryStore;

    /// How often each of `keys` comes up in `rounds` rounds.
    fn drawn(keys: &[Vec<u8>], rounds: usize) -> BTreeMap<Vec<u8>, usize> {
        let store = MemoryStore::default();
        keys.iter().for_each(|key| store.put(key, b""));
        let mut drawn = BTreeMap::new();
        for _ in 0..rounds {
            *drawn.entry(block_on(key(&store)).unwrap().unwrap()).or_insert(0) += 1;
        }
        drawn
    }

    #[test]
    fn there_is_none_where_there_is_none() {
        assert_eq!(block_on(key(&MemoryStore::default())).unwrap(), None);
    }

    /// 100 keys and 10,000 draws: each is expected 100 times, with a standard deviation of 10.
    #[test]
    fn of_few_keys_each_is_as_likely() {
        let keys: Vec<_> = (0..100).map(|n| format!("key:{n}").into_bytes()).collect();
        let drawn = drawn(&keys, 10_000);
        assert_eq!(drawn.len(), 100);
        assert!(drawn.values().all(|n| (50..=150).contains(n)), "{drawn:?}");
    }

    /// The first `RANDOMKEY` that was thought of took the key behind a random place: of these it would have been nearly
    /// always the first `user:` or the last key.
    #[test]
    fn of_many_keys_none_is_favoured_for_the_gap_before_it() {
        let mut keys: Vec<_> = (0..3000).map(|n| format!("user:{n:04}").into_bytes()).collect();
        keys.extend([b"a".to_vec(), b"user:".to_vec(), b"z".to_vec()]);
        let drawn = drawn(&keys, 2000);
        for odd in [b"a".as_slice(), b"user:", b"z"] {
            assert!(
                drawn.get(odd).copied().unwrap_or(0) < 40,
                "{}",
                odd.escape_ascii()
            );
        }
        let of_each_thousand: Vec<usize> = (0..3)
            .map(|digit| {
                let of = |key: &Vec<u8>| key.len() == 9 && key[5] == b'0' + digit;
                drawn.iter().filter(|(key, _)| of(key)).map(|(_, n)| n).sum()
            })
            .collect();
        assert!(
            of_each_thousand.iter().all(|n| (500..=800).contains(n)),
            "{of_each_thousand:?}"
        );
        assert!(drawn.values().all(|&n| n < 40), "{drawn:?}");
    }

    /// Each byte of a common prefix took scans: behind 60 bytes and more they ran out before a branch was seen, and the
    /// answer was nil over a full database.
    #[test]
    fn a_long_common_prefix_hides_no_key() {
        let keys: Vec<_> = (0..1000)
            .map(|n| format!("{}{n:03}", "p".repeat(200)).into_bytes())
            .collect();
        let drawn = drawn(&keys, 1000);
        assert!(drawn.len() > 400, "{}", drawn.len());
        assert!(drawn.keys().any(|key| key[200] == b'0') && drawn.keys().any(|key| key[200] == b'9'));
    }

    /// The same where the prefixes are shared by two and two, so that none can be passed at once.
    #[test]
    fn keys_that_part_at_every_byte_come_up() {
        let mut keys: Vec<_> = (0..200)
            .map(|n| format!("{}b", "a".repeat(n)).into_bytes())
            .collect();
        keys.extend((0..400).map(|n| format!("{}{n:03}", "a".repeat(200)).into_bytes()));
        assert!(!drawn(&keys, 100).is_empty());
    }

    #[test]
    fn keys_of_random_bytes_all_come_up() {
        let keys: Vec<_> = (0..2000_u32)
            .map(|n| n.wrapping_mul(0x9e37_79b1).to_be_bytes().to_vec())
            .collect();
        let drawn = drawn(&keys, 2000);
        assert!(
            drawn.len() > 800 && drawn.values().all(|&n| n < 20),
            "{}",
            drawn.len()
        );
        assert!(drawn.keys().any(|key| key[0] > 250) && drawn.keys().any(|key| key[0] < 5));
    }
}
