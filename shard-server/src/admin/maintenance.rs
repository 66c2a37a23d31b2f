//! What an operator asks of the server as a whole: flush, compact, counts, slow operations, the level of the log.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use corelane::api::ShardStats;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::body;
use super::plane::Plane;
use super::problem::{Problem, ProblemBody};
use super::query::Query;
use crate::config::log::Level;
use crate::log;

/// Writes every memtable out as tables.
#[utoipa::path(
    post, path = "/api/v1/flush", tag = "server",
    responses(
        (status = 204, description = "Everything written before is in tables"),
        (status = 503, description = "A shard cannot write", body = ProblemBody<'_>),
    )
)]
pub async fn flush(State(plane): State<Arc<Plane>>) -> Result<StatusCode, Problem> {
    plane.db.flush().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Begins to merge every shard until each key has one place. That may take hours, so that the answer does not wait.
#[utoipa::path(
    post, path = "/api/v1/compact", tag = "server",
    responses(
        (status = 202, description = "It has begun; the log and /metrics tell how it goes"),
        (status = 409, description = "One is under way", body = ProblemBody<'_>),
    )
)]
pub async fn compact(State(plane): State<Arc<Plane>>) -> Result<StatusCode, Problem> {
    let Some(running) = Plane::begin_compaction(&plane) else {
        return Err(Problem::new(
            StatusCode::CONFLICT,
            "compacting",
            "a compaction that was asked for is under way; it covers what was written before it began",
        ));
    };
    tokio::spawn(async move {
        match running.plane().db.compact().await {
            Ok(()) => tracing::info!("the compaction that was asked for is done"),
            Err(error) => tracing::warn!(%error, "the compaction that was asked for failed"),
        }
    });
    Ok(StatusCode::ACCEPTED)
}

/// One shard's state and sizes.
#[derive(Debug, Serialize, ToSchema)]
pub struct ShardAnswer {
    /// Its number.
    pub shard: u16,
    /// Whether it takes writes, in words.
    pub health: String,
    /// Why writers are delayed, in words; empty when they are not.
    pub stall: String,
    /// Bytes in memtables, those that wait for a flush included.
    pub memtable_bytes: u64,
    /// Bytes of tables, a level each.
    pub level_bytes: Vec<u64>,
    /// Tables, a level each.
    pub level_tables: Vec<u64>,
    /// Entries in all tables, older versions and tombstones included.
    pub table_entries: u64,
    /// Bytes in the block cache.
    pub cache_bytes: u64,
    /// Bytes that merges have yet to write.
    pub compaction_debt_bytes: u64,
    /// Bytes written to the device for each byte that users wrote.
    pub write_amplification: f64,
}

/// The server's state and counts.
#[derive(Debug, Serialize, ToSchema)]
pub struct StatsAnswer {
    /// The version of the server.
    pub version: &'static str,
    /// How many clients are connected.
    pub clients: u64,
    /// Commands run since the start.
    pub commands: u64,
    /// Commands answered with an error.
    pub failed_commands: u64,
    /// Bytes free on the device of the data.
    pub disk_free_bytes: u64,
    /// Bytes of that device.
    pub disk_bytes: u64,
    /// Bytes of memory that the process holds.
    pub resident_bytes: u64,
    /// A report of each shard.
    pub shards: Vec<ShardAnswer>,
}

fn shard_answer(shard: &ShardStats) -> ShardAnswer {
    ShardAnswer {
        shard: shard.shard,
        health: shard.health.clone(),
        stall: shard.stall.clone(),
        memtable_bytes: shard.memtable_bytes + shard.immutable_bytes,
        level_bytes: shard.level_bytes.clone(),
        level_tables: shard.level_tables.clone(),
        table_entries: shard.table_entries,
        cache_bytes: shard.cache_bytes,
        compaction_debt_bytes: shard.compaction_debt_bytes,
        write_amplification: shard.write_amplification(),
    }
}

/// Tells how the server is; `/metrics` has more.
#[utoipa::path(
    get, path = "/api/v1/stats", tag = "server",
    responses(
        (status = 200, description = "State and counts", body = StatsAnswer),
        (status = 503, description = "The database is closing", body = ProblemBody<'_>),
    )
)]
pub async fn stats(State(plane): State<Arc<Plane>>) -> Result<Json<StatsAnswer>, Problem> {
    let stats = plane.db.stats().await?;
    let telemetry = plane.server.telemetry();
    let facts = plane.facts();
    Ok(Json(StatsAnswer {
        version: env!("CARGO_PKG_VERSION"),
        clients: plane.server.clients() as u64,
        commands: telemetry.total(|counts| &counts.commands),
        failed_commands: telemetry.total(|counts| &counts.errors),
        disk_free_bytes: facts.disk_free_bytes,
        disk_bytes: facts.disk_bytes,
        resident_bytes: facts.resident_bytes,
        shards: stats.shards.iter().map(shard_answer).collect(),
    }))
}

/// Entries of the slow log where the request names no limit.
const DEFAULT_SLOW: u64 = 10;
/// Most entries of the slow log in one answer.
const MAX_SLOW: u64 = 1000;

/// One slow operation.
#[derive(Debug, Serialize, ToSchema)]
pub struct SlowAnswer {
    /// Its number, rising.
    pub id: u64,
    /// When it was, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// How long it took, in microseconds.
    pub took_us: u64,
    /// The command's name, and what of its arguments may be shown.
    pub arguments: Vec<String>,
    /// The shard concerned, where it was one.
    pub shard: Option<u16>,
    /// Why, as far as it is known.
    pub cause: String,
    /// The client's address.
    pub client: String,
}

/// Tells the latest slow operations, newest first.
#[utoipa::path(
    get, path = "/api/v1/slowlog", tag = "server",
    params(("limit" = Option<u64>, Query, description = "How many: 1 to 1000, 10 if not given")),
    responses(
        (status = 200, description = "Slow operations", body = Vec<SlowAnswer>),
        (status = 400, description = "A bad parameter", body = ProblemBody<'_>),
    )
)]
pub async fn slowlog(State(plane): State<Arc<Plane>>, uri: Uri) -> Result<Json<Vec<SlowAnswer>>, Problem> {
    let limit = Query::parse(uri.query(), &["limit"])?
        .number("limit")?
        .unwrap_or(DEFAULT_SLOW);
    if !(1..=MAX_SLOW).contains(&limit) {
        return Err(Problem::bad_request(format!(
            "limit = {limit}: it must be 1 to {MAX_SLOW}"
        )));
    }
    let count = usize::try_from(limit).expect("at most a thousand");
    let latest = plane.server.telemetry().slow().latest(count);
    let answers = latest.into_iter().map(|logged| SlowAnswer {
        id: logged.id,
        at_ms: logged.entry.at_ms,
        took_us: u64::try_from(logged.entry.latency.as_micros()).unwrap_or(u64::MAX),
        arguments: logged
            .entry
            .arguments
            .iter()
            .map(|argument| argument.escape_ascii().to_string())
            .collect(),
        shard: logged.entry.shard,
        cause: logged.entry.cause,
        client: logged.entry.client_address,
    });
    Ok(Json(answers.collect()))
}

/// How much is logged.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LogLevel {
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub level: String,
}

/// Tells how much is logged.
#[utoipa::path(
    get, path = "/api/v1/log-level", tag = "server",
    responses((status = 200, description = "The level", body = LogLevel))
)]
pub async fn log_level() -> Json<LogLevel> {
    Json(LogLevel {
        level: log::level().name().to_owned(),
    })
}

/// Sets how much is logged, until the server ends.
#[utoipa::path(
    put, path = "/api/v1/log-level", tag = "server", request_body = LogLevel,
    responses(
        (status = 200, description = "The level", body = LogLevel),
        (status = 400, description = "No such level", body = ProblemBody<'_>),
        (status = 415, description = "The body is no JSON", body = ProblemBody<'_>),
    )
)]
pub async fn set_log_level(
    State(plane): State<Arc<Plane>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<LogLevel>, Problem> {
    let asked: LogLevel = body::json(body, &headers, plane.limits.body_bytes).await?;
    let level = Level::named(&asked.level).ok_or_else(|| {
        let names = Level::ALL.map(Level::name).join(", ");
        Problem::bad_request(format!("level {:?}: it must be one of {names}", asked.level))
    })?;
    log::set_level(level);
    Ok(log_level().await)
}
