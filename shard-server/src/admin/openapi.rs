//! The description of the API for machines (OpenAPI 3.1), generated from the handlers' own types by `utoipa`.

use axum::Json;
use utoipa::OpenApi;

use super::{batch, kv, maintenance, probes, scan};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Corelane admin plane",
        description = "Keys, metrics, health and maintenance of a Corelane server. Errors are application/problem+json. Every \
                       answer carries x-request-id. Besides what each operation names, any may answer 401 and 403 (credentials, \
                       Host, Origin), 404 and 405 (no such route or method), 429 with Retry-After (rate), 500 (a bug, or the \
                       device), 503 (busy, no space, poisoned shard, closing, or too slow; with Retry-After where trying again \
                       may help).",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
    ),
    paths(
        probes::live,
        probes::ready,
        probes::health,
        probes::metrics,
        kv::get,
        kv::put,
        kv::delete,
        batch::post,
        scan::get,
        maintenance::flush,
        maintenance::compact,
        maintenance::stats,
        maintenance::slowlog,
        maintenance::log_level,
        maintenance::set_log_level,
        get,
    )
)]
struct Api;

/// The description.
pub fn document() -> utoipa::openapi::OpenApi {
    Api::openapi()
}

/// Describes this API.
#[utoipa::path(
    get, path = "/api/v1/openapi.json", tag = "server",
    responses((status = 200, description = "This page"))
)]
pub async fn get() -> Json<utoipa::openapi::OpenApi> {
    Json(document())
}
