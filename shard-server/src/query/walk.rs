//! `SCAN` and `KEYS`: keys that match a pattern, page by page.

use std::ops::Bound;

use corelane::api::{Entries, ScanRange};
use corelane::types::MAX_KEY_BYTES;

use crate::command::Failure;
use crate::glob::{Budget, literal_prefix, matches};
use crate::output::Output;
use crate::resp::reply;
use crate::server::Server;
use crate::store::Store;

/// Steps that a pattern may take for the keys of one page: some milliseconds at most.
const PATTERN_STEPS: u64 = 1_000_000;

/// Keys of one page stop at this many bytes.
const PAGE_BYTES: usize = 1 << 20;

/// Keys of one page of `KEYS`.
const PAGE: usize = 1024;

/// Longest answer to `KEYS` in bytes: its length comes first, so that it is held until it is whole.
const ANSWER_BYTES: usize = 32 << 20;

/// One step through the keys.
#[derive(Debug)]
pub struct ScanQuery {
    /// Where to go on; 0 for the start.
    pub cursor: u64,
    /// Which keys to answer with; `None` for all.
    pub pattern: Option<Vec<u8>>,
    /// How many keys to look at.
    pub count: usize,
    /// A type was asked for that no key has: the walk goes on, and answers with nothing.
    pub no_type: bool,
}

/// Answers one step.
pub(super) async fn scan<S: Store>(
    query: ScanQuery,
    store: &S,
    server: &Server,
    output: &mut Output,
) -> Result<(), Failure> {
    let ScanQuery {
        cursor,
        pattern,
        count,
        no_type,
    } = query;
    let after = match cursor {
        0 => None,
        cursor => Some(server.cursors().resume(cursor).ok_or_else(|| {
            Failure::err(format_args!(
                "cursor {cursor} is not known, or no longer; start again with SCAN 0"
            ))
        })?),
    };
    let prefix = pattern.as_deref().map(literal_prefix).unwrap_or_default();
    let (mut keys, mut resume) = (Entries::default(), None);
    if prefix.len() <= MAX_KEY_BYTES {
        let (start, end) = bounds(prefix, after);
        let page = store.scan(keys_of(start, end, count)).await?;
        keys = page.entries;
        resume = page.resume;
    }
    if no_type {
        keys = Entries::default();
    }
    if let Some(pattern) = &pattern {
        keys = matching(pattern, &keys)?;
    }
    let before = (cursor != 0).then_some(cursor);
    let next = resume.map_or(0, |key| server.cursors().store(key, before));
    let out = output.tail();
    reply::array(out, 2);
    reply::bulk(out, next.to_string().as_bytes());
    reply::array(out, keys.len());
    keys.iter().for_each(|(key, _)| reply::bulk(out, key));
    Ok(())
}

/// Answers with all keys that match. Other work of the core goes on between two pages, so that keys written meanwhile may
/// be there or not; one that is there throughout is.
pub(super) async fn keys<S: Store>(pattern: &[u8], store: &S, output: &mut Output) -> Result<(), Failure> {
    let prefix = literal_prefix(pattern);
    let (mut found, mut count) = (Output::default(), 0);
    let (mut start, end) = bounds(prefix.clone(), None);
    while prefix.len() <= MAX_KEY_BYTES {
        let page = store.scan(keys_of(start, end.clone(), PAGE)).await?;
        let keys = matching(pattern, &page.entries)?;
        count += keys.len();
        keys.iter().for_each(|(key, _)| reply::bulk(found.tail(), key));
        if found.bytes() > ANSWER_BYTES {
            return Err(Failure::err(format_args!(
                "the answer is longer than {ANSWER_BYTES} bytes; use SCAN, or a narrower pattern"
            )));
        }
        let Some(resume) = page.resume else { break };
        start = Bound::Excluded(resume);
        if store.should_yield() {
            store.yield_now().await;
        }
    }
    reply::array(output.tail(), count);
    output.append(found);
    Ok(())
}

fn keys_of(start: Bound<Vec<u8>>, end: Bound<Vec<u8>>, limit: usize) -> ScanRange {
    ScanRange {
        start,
        end,
        reverse: false,
        limit,
        bytes_limit: PAGE_BYTES,
        keys_only: true,
        at: None,
    }
}

fn matching(pattern: &[u8], keys: &Entries) -> Result<Entries, Failure> {
    let mut budget = Budget::new(PATTERN_STEPS);
    let mut matching = Entries::default();
    for (key, _) in keys.iter() {
        let hit = matches(pattern, key, &mut budget).map_err(|_| {
            Failure::fixed("ERR the pattern takes too many steps; make it simpler or COUNT smaller")
        })?;
        if hit {
            matching.push(key, &[]);
        }
    }
    Ok(matching)
}

/// Where the keys with `prefix` that come after `after` are.
fn bounds(prefix: Vec<u8>, after: Option<Vec<u8>>) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    let end = beyond(&prefix).map_or(Bound::Unbounded, Bound::Excluded);
    let start = match after {
        // A client may change the pattern under way; what lies before its prefix is skipped.
        Some(after) if after >= prefix => Bound::Excluded(after),
        _ => Bound::Included(prefix),
    };
    (start, end)
}

/// The first key behind all that start with `prefix`; `None` where there is none.
pub(super) fn beyond(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut beyond = prefix.to_vec();
    while beyond.last() == Some(&u8::MAX) {
        beyond.pop();
    }
    *beyond.last_mut()? += 1;
    Some(beyond)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_bounds_the_scan_on_both_sides() {
        let key = |text: &[u8]| text.to_vec();
        assert_eq!(
            bounds(key(b""), None),
            (Bound::Included(key(b"")), Bound::Unbounded)
        );
        assert_eq!(
            bounds(key(b"ab"), None),
            (Bound::Included(key(b"ab")), Bound::Excluded(key(b"ac")))
        );
        assert_eq!(bounds(key(b"a\xff"), None).1, Bound::Excluded(key(b"b")));
        assert_eq!(bounds(key(b"\xff"), None).1, Bound::Unbounded);
        assert_eq!(bounds(key(b"b"), Some(key(b"a"))).0, Bound::Included(key(b"b")));
        assert_eq!(bounds(key(b"b"), Some(key(b"bb"))).0, Bound::Excluded(key(b"bb")));
    }
}
