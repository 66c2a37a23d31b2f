//! `/livez`, `/readyz`, `/health` and `/metrics`: what machines ask.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use corelane::api::Stats;
use tokio::time::timeout;

use super::health::{self, Health};
use super::metrics::{self, Snapshot};
use super::plane::Plane;
use super::problem::{Problem, ProblemBody};

/// How long the database may take to tell its counts before it counts as not answering: probes have timeouts, too.
const STATS_TIME: Duration = Duration::from_secs(2);

/// The counts; `None` where the database does not tell them in time.
async fn stats(plane: &Plane) -> Option<Stats> {
    timeout(STATS_TIME, plane.db.stats()).await.ok()?.ok()
}

/// Tells that the process answers.
#[utoipa::path(get, path = "/livez", tag = "probes", responses((status = 200, description = "It lives")))]
pub async fn live() -> &'static str {
    "alive\n"
}

/// Tells whether clients are served: not before the start is done, nor while the server drains.
#[utoipa::path(
    get, path = "/readyz", tag = "probes",
    responses(
        (status = 200, description = "Clients are served"),
        (status = 503, description = "It starts, or drains", body = ProblemBody<'_>),
    )
)]
pub async fn ready(State(plane): State<Arc<Plane>>) -> Result<&'static str, Problem> {
    if plane.is_ready() {
        return Ok("ready\n");
    }
    Err(Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "not-ready",
        "the server does not take clients: it starts, or drains",
    ))
}

/// Tells how the server is, with a reason in words for each check.
#[utoipa::path(
    get, path = "/health", tag = "probes",
    responses(
        (status = 200, description = "Healthy, or degraded: it works and needs somebody", body = Health),
        (status = 503, description = "Unhealthy", body = Health),
    )
)]
pub async fn health(State(plane): State<Arc<Plane>>) -> Response {
    let stats = stats(&plane).await;
    let health = health::judge(plane.is_ready(), stats.as_ref(), &plane.facts());
    let status = match health.state {
        health::State::Unhealthy => StatusCode::SERVICE_UNAVAILABLE,
        health::State::Healthy | health::State::Degraded => StatusCode::OK,
    };
    (status, Json(health)).into_response()
}

/// Tells all counts, in the exposition format of OpenMetrics.
#[utoipa::path(
    get, path = "/metrics", tag = "probes",
    responses((status = 200, description = "Counts", content_type = "application/openmetrics-text", body = String))
)]
pub async fn metrics(State(plane): State<Arc<Plane>>) -> Response {
    let stats = stats(&plane).await;
    let facts = plane.facts();
    let health = health::judge(plane.is_ready(), stats.as_ref(), &facts);
    let snapshot = Snapshot {
        stats: stats.unwrap_or_default(),
        facts,
        health: health.state,
        clients: plane.server.clients() as u64,
        max_clients: plane.server.settings.max_clients as u64,
        totals: plane.server.telemetry().totals(),
        log_lines_lost: crate::log::lost_lines(),
        admin_answers: plane.counts.by_class().collect(),
        admin_limited: plane.counts.limited.load(Ordering::Relaxed),
        admin_panicked: plane.counts.panicked.load(Ordering::Relaxed),
    };
    let content = [(header::CONTENT_TYPE, metrics::CONTENT_TYPE)];
    (content, metrics::encode(snapshot)).into_response()
}
