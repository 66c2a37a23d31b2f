//! Merging the pages of several shards into one, in key order or in the reverse of it: pure.

use crate::shard::page::{Entries, Page};
use crate::types::Direction;

/// Merges one page per shard, each in `direction`, into one of at most `limit` entries.
///
/// A shard whose page was cut short may hold keys right behind its last one, so nothing beyond the first such
/// frontier may be given out yet; it is read again from the resume key.
pub(super) fn merge(pages: Vec<Page>, limit: usize, direction: Direction) -> Page {
    let resumes = pages.iter().filter_map(|page| page.resume.clone());
    let frontier = resumes.min_by(|a, b| direction.order(a.cmp(b)));
    let (mut entries, runs) = (Entries::default(), pages.len());
    for page in pages {
        entries.append(page.entries);
    }
    if runs > 1 {
        entries.sort(direction);
    }
    if let Some(frontier) = &frontier {
        entries.truncate(entries.count_up_to(frontier, direction));
    }
    let cut = entries.len() > limit;
    entries.truncate(limit);
    let resume = if cut {
        entries.last().map(|(key, _)| key.to_vec())
    } else {
        frontier
    };
    Page { entries, resume }
}

/// How many entries to ask of each shard so that one round likely fills `limit`: its even part, and nearly three standard
/// deviations more of what hashing deals to one shard (a binomial distribution). What is asked in vain is read in vain; what
/// is missing is another message to each shard.
pub(super) fn share(limit: usize, shards: usize) -> usize {
    let even = limit.div_ceil(shards.max(1));
    let variance = even - even / shards.max(1);
    let beyond = variance.saturating_mul(8).isqrt() + 1;
    even.saturating_add(beyond).min(limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(keys: &[&str], resume: Option<&str>) -> Page {
        let entries = keys.iter().map(|k| (k, "")).collect();
        Page {
            entries,
            resume: resume.map(|k| k.as_bytes().to_vec()),
        }
    }

    fn merge(pages: Vec<Page>, limit: usize) -> Page {
        super::merge(pages, limit, Direction::Forwards)
    }

    #[test]
    fn pages_of_a_reverse_scan_merge_downwards_to_the_highest_frontier() {
        let merge = |pages, limit| super::merge(pages, limit, Direction::Backwards);
        let (low, high) = (page(&["d", "a"], None), page(&["e", "c", "b"], Some("b")));
        assert_eq!(
            merge(vec![low.clone(), high.clone()], 10),
            page(&["e", "d", "c", "b"], Some("b"))
        );
        assert_eq!(merge(vec![high, low], 2), page(&["e", "d"], Some("d")));
    }

    #[test]
    fn whole_pages_merge_in_key_order() {
        let merged = merge(vec![page(&["a", "d"], None), page(&["b", "c"], None)], 10);
        assert_eq!(merged, page(&["a", "b", "c", "d"], None));
    }

    #[test]
    fn nothing_behind_a_cut_shards_frontier_is_given_out() {
        let merged = merge(vec![page(&["a", "c"], Some("c")), page(&["b", "x"], None)], 10);
        assert_eq!(merged, page(&["a", "b", "c"], Some("c")));
    }

    #[test]
    fn the_limit_cuts_and_resumes_behind_the_last_key_given() {
        let merged = merge(vec![page(&["a", "c"], Some("c")), page(&["b"], None)], 2);
        assert_eq!(merged, page(&["a", "b"], Some("b")));
    }

    #[test]
    fn one_round_fills_nearly_every_page_and_little_is_asked_in_vain() {
        let mut rng = crate::io::sim::rng::Rng::new(1);
        for (limit, shards) in [
            (100, 2),
            (1000, 2),
            (100, 3),
            (100, 8),
            (1000, 8),
            (10, 2),
            (100, 64),
        ] {
            let rounds = 1000;
            let again = (0..rounds).filter(|_| {
                let mut dealt = vec![0; shards];
                (0..limit).for_each(|_| dealt[rng.index(shards)] += 1);
                dealt.into_iter().any(|entries| entries > share(limit, shards))
            });
            let again = again.count();
            assert!(again <= rounds / 25, "{again} of {rounds}: {limit} over {shards}");
        }
        assert_eq!(share(100, 1), 100);
        assert!(share(100, 2) <= 66);
        assert_eq!(share(1, 8), 1);
        assert_eq!(share(usize::MAX, 1), usize::MAX);
    }

    #[test]
    fn a_limit_met_exactly_at_the_end_is_the_end() {
        assert_eq!(
            merge(vec![page(&["a"], None), page(&["b"], None)], 2),
            page(&["a", "b"], None)
        );
    }
}
