//! Commands that need more of the store than one request per key: scans, counts, `INFO`; and those that must wait until
//! everything before them was answered: `HELLO` changes the protocol, `AUTH` what the client may, `SHUTDOWN` ends the process.

use std::ops::Bound;

use corelane::api::{Entries, ScanRange};
use corelane::types::MAX_KEY_BYTES;

use crate::command::Failure;
use crate::command::auth::{self, Credentials, Hello};
use crate::glob::{Budget, literal_prefix, matches};
use crate::info::{self, Sections};
use crate::output::Output;
use crate::resp::reply;
use crate::server::Server;
use crate::session::Session;
use crate::store::Store;

/// Steps that the pattern of one `SCAN` may take: some milliseconds at most.
const PATTERN_STEPS: u64 = 1_000_000;

/// Keys of one `SCAN` stop at this many bytes.
const SCAN_BYTES: usize = 1 << 20;

/// Entries of a range read from the store at once.
const RANGE_PAGE: usize = 1024;

/// Bytes of a range read from the store at once.
const RANGE_PAGE_BYTES: usize = 1 << 20;

/// Longest answer to `KV.SCAN` in bytes: it is an array whose length comes first, so that it is held until it is whole.
const RANGE_BYTES: usize = 64 << 20;

/// Bytes of data up to which `INFO` counts the keys rather than estimating them.
const COUNTED_BYTES: u64 = 64 << 20;

/// What is asked.
#[derive(Debug)]
pub enum Query {
    /// `SCAN`.
    Scan(ScanQuery),
    /// `KV.SCAN`.
    Range(RangeQuery),
    /// `DBSIZE`.
    Count,
    /// `INFO`.
    Info(Sections),
    /// `AUTH`.
    Auth(Credentials),
    /// `HELLO`.
    Hello(Hello),
    /// `RESET`.
    Reset,
    /// `SHUTDOWN`.
    Shutdown,
}

/// One step through the keys.
#[derive(Debug)]
pub struct ScanQuery {
    /// Where to go on; 0 for the start.
    pub cursor: u64,
    /// Which keys to answer with; `None` for all.
    pub pattern: Option<Vec<u8>>,
    /// How many keys to look at.
    pub count: usize,
}

/// A range to read.
#[derive(Debug)]
pub struct RangeQuery {
    /// From here.
    pub start: Bound<Vec<u8>>,
    /// To here.
    pub end: Bound<Vec<u8>>,
    /// At most so many entries; `None` for all.
    pub limit: Option<usize>,
}

/// What becomes of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// It goes on.
    Continue,
    /// It ends.
    Close,
}

/// Answers `query`.
///
/// # Errors
/// The error to answer with; nothing was appended then.
pub async fn answer<S: Store>(
    query: Query,
    store: &S,
    server: &Server,
    session: &mut Session,
    output: &mut Output,
) -> Result<Flow, Failure> {
    match query {
        Query::Scan(query) => scan(query, store, server, output).await?,
        Query::Range(query) => range(query, store, output).await?,
        Query::Count => {
            let count = store.count().await?;
            reply::integer(output.tail(), i64::try_from(count).unwrap_or(i64::MAX));
        }
        Query::Info(sections) => {
            let text = describe(sections, store, server).await?;
            reply::verbatim(output.tail(), &text, session.protocol);
        }
        Query::Auth(credentials) => {
            auth::identify(credentials, store, server, session).await?;
            reply::simple(output.tail(), "OK");
        }
        Query::Hello(hello) => auth::hello_done(hello, store, server, session, output.tail()).await?,
        Query::Reset => {
            session.reset(server.auth());
            reply::simple(output.tail(), "RESET");
        }
        Query::Shutdown => {
            server.stop();
            return Ok(Flow::Close);
        }
    }
    Ok(Flow::Continue)
}

async fn scan<S: Store>(
    query: ScanQuery,
    store: &S,
    server: &Server,
    output: &mut Output,
) -> Result<(), Failure> {
    let ScanQuery {
        cursor,
        pattern,
        count,
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
        let range = ScanRange {
            start,
            end,
            reverse: false,
            limit: count,
            bytes_limit: SCAN_BYTES,
            keys_only: true,
            at: None,
        };
        let page = store.scan(range).await?;
        keys = page.entries;
        resume = page.resume;
    }
    if let Some(pattern) = &pattern {
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
        keys = matching;
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

/// Where the keys with `prefix` that come after `after` are.
fn bounds(prefix: Vec<u8>, after: Option<Vec<u8>>) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    let mut beyond = prefix.clone();
    while beyond.last() == Some(&u8::MAX) {
        beyond.pop();
    }
    let end = match beyond.last_mut() {
        Some(last) => {
            *last += 1;
            Bound::Excluded(beyond)
        }
        None => Bound::Unbounded,
    };
    let start = match after {
        // A client may change the pattern under way; what lies before its prefix is skipped.
        Some(after) if after >= prefix => Bound::Excluded(after),
        _ => Bound::Included(prefix),
    };
    (start, end)
}

async fn range<S: Store>(query: RangeQuery, store: &S, output: &mut Output) -> Result<(), Failure> {
    let RangeQuery {
        mut start,
        end,
        limit,
    } = query;
    let (mut entries, mut count) = (Output::default(), 0_usize);
    while !is_empty(&start, &end) && limit.is_none_or(|limit| count < limit) {
        let left = limit.map_or(RANGE_PAGE, |limit| RANGE_PAGE.min(limit - count));
        let range = ScanRange {
            start,
            end: end.clone(),
            reverse: false,
            limit: left,
            bytes_limit: RANGE_PAGE_BYTES,
            keys_only: false,
            at: None,
        };
        let page = store.scan(range).await?;
        for (key, value) in page.entries.iter() {
            reply::bulk(entries.tail(), key);
            entries.bulk(value.to_vec());
            count += 1;
        }
        let Some(resume) = page.resume else { break };
        if entries.bytes() > RANGE_BYTES && limit.is_none_or(|limit| count < limit) {
            return Err(Failure::err(format_args!(
                "the answer is longer than {RANGE_BYTES} bytes; use LIMIT"
            )));
        }
        start = Bound::Excluded(resume);
    }
    reply::array(output.tail(), count * 2);
    output.append(entries);
    Ok(())
}

fn is_empty(start: &Bound<Vec<u8>>, end: &Bound<Vec<u8>>) -> bool {
    match (start, end) {
        (Bound::Included(start) | Bound::Excluded(start), Bound::Excluded(end)) => start >= end,
        _ => false,
    }
}

async fn describe<S: Store>(sections: Sections, store: &S, server: &Server) -> Result<String, Failure> {
    let stats = store.stats().await?;
    let bytes = stats.total(|s| s.memtable_bytes + s.immutable_bytes + s.table_bytes());
    let keys = if sections.keyspace && bytes <= COUNTED_BYTES {
        Some(store.count().await?)
    } else {
        None
    };
    Ok(info::render(sections, server, &stats, keys, store.now()))
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
