//! `KV.SCAN`: the entries of a range in key order.
//!
//! Without a cursor the whole range is one answer, read page by page and each page of one moment. With one, an answer is
//! one page and the cursor of the next; nothing is kept between them.

use std::ops::Bound;

use corelane::api::{Entries, ScanRange};

use super::place::Place;
use crate::command::Failure;
use crate::output::Output;
use crate::resp::reply;
use crate::store::Store;

/// Entries of a range read from the store at once.
const PAGE: usize = 1024;

/// Bytes of a range read from the store at once.
const PAGE_BYTES: usize = 1 << 20;

/// Longest answer in bytes: it is an array whose length comes first, so that it is held until it is whole.
const ANSWER_BYTES: usize = 64 << 20;

/// The cursor of the start, and of the end.
const NO_CURSOR: &[u8] = b"0";

/// A range to read.
#[derive(Debug)]
pub struct RangeQuery {
    /// From here.
    pub start: Bound<Vec<u8>>,
    /// To here.
    pub end: Bound<Vec<u8>>,
    /// At most so many entries; `None` for all, or for a page where there is a cursor.
    pub limit: Option<usize>,
    /// From the end to the start.
    pub reverse: bool,
    /// Keys without their values.
    pub keys_only: bool,
    /// Where to go on; `None` for the whole range in one answer.
    pub cursor: Option<Vec<u8>>,
}

/// Answers with the entries.
///
/// # Errors
/// The cursor is none of this range's, the answer grows too long, or the store fails.
pub(super) async fn range<S: Store>(
    query: RangeQuery,
    store: &S,
    output: &mut Output,
) -> Result<(), Failure> {
    let RangeQuery {
        start,
        end,
        limit,
        reverse,
        keys_only,
        cursor,
    } = query;
    let mut range = ScanRange {
        start,
        end,
        reverse,
        limit: limit.map_or(PAGE, |limit| limit.min(PAGE)),
        bytes_limit: PAGE_BYTES,
        keys_only,
        at: None,
    };
    if let Some(cursor) = cursor {
        return page(&cursor, range, store, output).await;
    }
    let (mut entries, mut count) = (Output::default(), 0_usize);
    while !is_empty(&range) {
        let page = store.scan(range.clone()).await?;
        count += page.entries.len();
        append(&mut entries, &page.entries, keys_only);
        let Some(resume) = page.resume else { break };
        range.go_on_after(resume);
        range.limit = limit.map_or(PAGE, |limit| (limit - count).min(PAGE));
        if entries.bytes() > ANSWER_BYTES && !is_empty(&range) {
            return Err(Failure::err(format_args!(
                "the answer is longer than {ANSWER_BYTES} bytes; use LIMIT"
            )));
        }
        if store.should_yield() {
            store.yield_now().await;
        }
    }
    reply::array(output.tail(), replies(count, keys_only));
    output.append(entries);
    Ok(())
}

/// One page, and the cursor of the next.
async fn page<S: Store>(
    cursor: &[u8],
    mut range: ScanRange,
    store: &S,
    output: &mut Output,
) -> Result<(), Failure> {
    let (descending, keys_only) = (range.reverse, range.keys_only);
    if cursor != NO_CURSOR {
        let place = Place::decode(cursor).filter(|place| place.descending == descending);
        let place = place.ok_or(Failure::fixed("ERR invalid cursor"))?;
        if !is_inside(&place.last, &range.start, &range.end) {
            return Err(Failure::fixed("ERR the cursor is not of this range"));
        }
        range.go_on_after(place.last);
    }
    let (mut next, mut entries) = (None, Entries::default());
    if !is_empty(&range) {
        let page = store.scan(range).await?;
        (next, entries) = (page.resume, page.entries);
    }
    let next = next.map(|last| Place { last, descending }.encode());
    let out = output.tail();
    reply::array(out, 2);
    reply::bulk(out, next.as_deref().map_or(NO_CURSOR, str::as_bytes));
    reply::array(out, replies(entries.len(), keys_only));
    append(output, &entries, keys_only);
    Ok(())
}

fn replies(entries: usize, keys_only: bool) -> usize {
    if keys_only { entries } else { entries * 2 }
}

fn append(output: &mut Output, entries: &Entries, keys_only: bool) {
    for (key, value) in entries.iter() {
        reply::bulk(output.tail(), key);
        if !keys_only {
            output.bulk(value.to_vec());
        }
    }
}

/// Whether nothing can be in it: the bounds meet, or nothing is asked for.
fn is_empty(range: &ScanRange) -> bool {
    let meet = match (&range.start, &range.end) {
        (Bound::Included(start) | Bound::Excluded(start), Bound::Excluded(end)) => start >= end,
        _ => false,
    };
    meet || range.limit == 0
}

fn is_inside(key: &[u8], start: &Bound<Vec<u8>>, end: &Bound<Vec<u8>>) -> bool {
    let behind_start = match start {
        Bound::Included(start) => key >= start.as_slice(),
        Bound::Excluded(start) => key > start.as_slice(),
        Bound::Unbounded => true,
    };
    let before_end = match end {
        Bound::Included(end) => key <= end.as_slice(),
        Bound::Excluded(end) => key < end.as_slice(),
        Bound::Unbounded => true,
    };
    behind_start && before_end
}
