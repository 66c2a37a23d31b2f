//! Merging the pages of several shards into one, in key order: pure.

use crate::shard::page::{Entries, Page};

/// Merges one page per shard into one of at most `limit` entries.
///
/// A shard whose page was cut short may hold keys right behind its last one, so nothing beyond the smallest such
/// frontier may be given out yet; it is read again from the resume key.
pub(super) fn merge(pages: Vec<Page>, limit: usize) -> Page {
    let frontier = pages.iter().filter_map(|page| page.resume.clone()).min();
    let (mut entries, runs) = (Entries::default(), pages.len());
    for page in pages {
        entries.append(page.entries);
    }
    if runs > 1 {
        entries.sort();
    }
    if let Some(frontier) = &frontier {
        entries.truncate(entries.count_up_to(frontier));
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

/// How many entries to ask of each shard so that together they likely fill `limit`: its even part, half as much again
/// because hashing is only even on average, and a few more for small pages.
pub(super) fn share(limit: usize, shards: usize) -> usize {
    let even = limit.div_ceil(shards.max(1));
    even.saturating_add(even / 2).saturating_add(8).min(limit)
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
    fn a_limit_met_exactly_at_the_end_is_the_end() {
        assert_eq!(
            merge(vec![page(&["a"], None), page(&["b"], None)], 2),
            page(&["a", "b"], None)
        );
    }
}
