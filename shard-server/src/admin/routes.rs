//! Every route of the admin plane, in one list: the router is made of it, and a test holds the OpenAPI page against it.

use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodRouter, get, post, put};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowOrigin, CorsLayer};

use super::guard::{REQUEST_ID, guard, panicked};
use super::plane::Plane;
use super::problem::Problem;
use super::{batch, kv, maintenance, openapi, probes, scan};

type Route = MethodRouter<Arc<Plane>>;

/// One place: its path as it is documented, its methods, and what answers.
pub type Place = (&'static str, &'static [&'static str], Route);

/// All places. A key may hold slashes, and may be empty: see [`paths`].
pub fn places() -> Vec<Place> {
    vec![
        ("/livez", &["get"], get(probes::live)),
        ("/readyz", &["get"], get(probes::ready)),
        ("/health", &["get"], get(probes::health)),
        ("/metrics", &["get"], get(probes::metrics)),
        (
            "/api/v1/kv/{key}",
            &["get", "put", "delete"],
            get(kv::get).put(kv::put).delete(kv::delete),
        ),
        ("/api/v1/batch", &["post"], post(batch::post)),
        ("/api/v1/scan", &["get"], get(scan::get)),
        ("/api/v1/flush", &["post"], post(maintenance::flush)),
        ("/api/v1/compact", &["post"], post(maintenance::compact)),
        ("/api/v1/stats", &["get"], get(maintenance::stats)),
        ("/api/v1/slowlog", &["get"], get(maintenance::slowlog)),
        (
            "/api/v1/log-level",
            &["get", "put"],
            put(maintenance::set_log_level).get(maintenance::log_level),
        ),
        ("/api/v1/openapi.json", &["get"], get(openapi::get)),
    ]
}

/// The router's patterns for a documented path: a key is all the rest of its path, and nothing is a key, too.
fn paths(path: &'static str) -> Vec<&'static str> {
    match path {
        "/api/v1/kv/{key}" => vec!["/api/v1/kv/{*key}", "/api/v1/kv/"],
        path => vec![path],
    }
}

async fn no_such_place() -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "no-such-route",
        "there is no such route; /api/v1/openapi.json lists them",
    )
}

async fn no_such_method() -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method-not-allowed",
        "this route takes other methods; the header Allow names them",
    )
}

/// Pages of the configured origins may call us, with credentials that the page itself adds.
fn cors(plane: &Plane) -> Option<CorsLayer> {
    let origins: Vec<HeaderValue> = plane
        .limits
        .cors_origins
        .iter()
        .filter_map(|origin| origin.parse().ok())
        .collect();
    if origins.is_empty() {
        return None;
    }
    let headers: [HeaderName; 6] = [
        header::AUTHORIZATION,
        header::CONTENT_TYPE,
        header::IF_MATCH,
        header::IF_NONE_MATCH,
        HeaderName::from_static(kv::TTL_HEADER),
        REQUEST_ID,
    ];
    let layer = CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_methods([Method::GET, Method::PUT, Method::DELETE, Method::POST])
        .allow_headers(headers)
        .expose_headers([header::ETAG, header::RETRY_AFTER, REQUEST_ID]);
    Some(layer)
}

/// The router over a plane.
pub fn router(plane: &Arc<Plane>) -> Router {
    let mut router = Router::new();
    for (path, _, route) in places() {
        for pattern in paths(path) {
            router = router.route(pattern, route.clone());
        }
    }
    around(router, plane)
}

/// Puts what every request passes around some routes.
pub(super) fn around(router: Router<Arc<Plane>>, plane: &Arc<Plane>) -> Router {
    let counting = Arc::clone(plane);
    let router = router
        .method_not_allowed_fallback(no_such_method)
        .fallback(no_such_place)
        .with_state(Arc::clone(plane))
        .layer(CatchPanicLayer::custom(move |_| -> Response {
            panicked(&counting).into_response()
        }));
    let guarded = router.layer(from_fn_with_state(Arc::clone(plane), guard));
    // Outermost: a page must be able to read a refusal, too, and asks without credentials whether it may send them.
    match cors(plane) {
        Some(cors) => guarded.layer(cors),
        None => guarded,
    }
}
