//! Commands that need more of the store than one request per key: scans, counts, `INFO`; and those that must wait until
//! everything before them was answered: `HELLO` changes the protocol, `AUTH` what the client may, `SHUTDOWN` ends the process.
//!
//! ```text
//! walk     SCAN and KEYS: keys that match a pattern, page by page
//! range    KV.SCAN: entries of a range in order;  place: its cursors (pure)
//! random   RANDOMKEY
//! clear    FLUSHALL
//! inspect  what OBJECT and MEMORY USAGE tell of one value (pure)
//! ```

mod clear;
mod inspect;
mod place;
mod random;
mod range;
mod walk;

use std::time::Duration;

use corelane::api::{Answer, Op};

use crate::command::Failure;
use crate::command::auth::{self, Credentials, Hello};
use crate::info::{self, Section, Sections};
use crate::output::Output;
use crate::resp::{Protocol, reply};
use crate::server::Server;
use crate::session::Session;
use crate::store::Store;

pub use inspect::Aspect;
pub use range::RangeQuery;
pub use walk::ScanQuery;

/// Bytes of data up to which `INFO` counts the keys rather than estimating them.
const COUNTED_BYTES: u64 = 64 << 20;

/// While a connection waits it looks this often whether the server is closing: seldom enough that thousands that wait cost
/// nothing, often enough that nobody notices at the end.
const WAIT_STEP: Duration = Duration::from_millis(100);

/// What is asked.
#[derive(Debug)]
pub enum Query {
    /// `SCAN`.
    Scan(ScanQuery),
    /// `KV.SCAN`.
    Range(RangeQuery),
    /// `KEYS` with this pattern.
    Keys(Vec<u8>),
    /// `RANDOMKEY`.
    Random,
    /// `DBSIZE`.
    Count,
    /// `FLUSHALL`.
    Clear,
    /// Something about a key's value.
    Inspect {
        /// The key.
        key: Vec<u8>,
        /// What about it.
        aspect: Aspect,
    },
    /// `MEMORY STATS`.
    MemoryStats,
    /// `TIME`.
    Time,
    /// Only to wait, as `DEBUG SLEEP` does.
    Wait {
        /// How long.
        length: Duration,
        /// What is answered then.
        answer: &'static [u8],
    },
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
        Query::Scan(query) => walk::scan(query, store, server, output).await?,
        Query::Range(query) => range::range(query, store, output).await?,
        Query::Keys(pattern) => walk::keys(&pattern, store, output).await?,
        Query::Random => match random::key(store).await? {
            Some(key) => output.bulk(key),
            None => reply::null(output.tail(), session.protocol),
        },
        Query::Count => {
            let count = store.count().await?;
            reply::integer(output.tail(), i64::try_from(count).unwrap_or(i64::MAX));
        }
        Query::Clear => {
            clear::clear(store, server.settings.durability).await?;
            reply::simple(output.tail(), "OK");
        }
        Query::Inspect { key, aspect } => inspect(key, aspect, store, session.protocol, output).await?,
        Query::MemoryStats => memory_stats(store, server, session.protocol, output).await?,
        Query::Time => time(store.wall_clock_ms(), output.tail()),
        Query::Wait { length, answer } => {
            wait(store, length).await;
            output.tail().extend_from_slice(answer);
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
            session.reset(server.auth(), server.now_ms());
            reply::simple(output.tail(), "RESET");
        }
        Query::Shutdown => {
            server.stop();
            return Ok(Flow::Close);
        }
    }
    Ok(Flow::Continue)
}

async fn inspect<S: Store>(
    key: Vec<u8>,
    aspect: Aspect,
    store: &S,
    protocol: Protocol,
    output: &mut Output,
) -> Result<(), Failure> {
    let (shard, key_bytes) = (store.shard_of(&key), key.len());
    let mut outcomes = store.execute(vec![(shard, Op::Get { key, at: None })]).await;
    let outcome = outcomes.pop().expect("one outcome for each request");
    match outcome? {
        Answer::Value(Some(value)) => inspect::tell(aspect, key_bytes, &value, output.tail()),
        Answer::Value(None) => {
            reply::null(output.tail(), protocol);
            Ok(())
        }
        other => unreachable!("a lookup is answered by Value, not {other:?}"),
    }
}

/// Seconds and microseconds. The clock has milliseconds.
fn time(wall_clock_ms: u64, out: &mut Vec<u8>) {
    reply::array(out, 2);
    reply::bulk(out, (wall_clock_ms / 1000).to_string().as_bytes());
    reply::bulk(out, (wall_clock_ms % 1000 * 1000).to_string().as_bytes());
}

/// Waits, and no longer than the server lives.
async fn wait<S: Store>(store: &S, length: Duration) {
    let until = store.now() + length;
    while !store.is_closing() {
        let left = until.saturating_sub(store.now());
        if left.is_zero() {
            return;
        }
        store.sleep(left.min(WAIT_STEP)).await;
    }
}

async fn memory_stats<S: Store>(
    store: &S,
    server: &Server,
    protocol: Protocol,
    output: &mut Output,
) -> Result<(), Failure> {
    let stats = store.stats().await?;
    let facts = info::memory::facts(&stats, server);
    reply::map(output.tail(), facts.len(), protocol);
    for (name, bytes) in facts {
        reply::bulk(output.tail(), name.as_bytes());
        reply::integer(output.tail(), i64::try_from(bytes).unwrap_or(i64::MAX));
    }
    Ok(())
}

async fn describe<S: Store>(sections: Sections, store: &S, server: &Server) -> Result<String, Failure> {
    let stats = store.stats().await?;
    let bytes = stats.total(|s| s.memtable_bytes + s.immutable_bytes + s.table_bytes());
    let keys = if sections.has(Section::Keyspace) && bytes <= COUNTED_BYTES {
        Some(store.count().await?)
    } else {
        None
    };
    server.telemetry().sample(store.now());
    Ok(info::render(
        sections,
        &info::Facts {
            server,
            stats: &stats,
            keys,
            now: store.now(),
            wall_clock_ms: store.wall_clock_ms(),
        },
    ))
}
