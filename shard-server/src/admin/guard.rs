//! What every request passes before its handler, and every answer behind it.
//!
//! 1. The request gets its id: the caller's own where it is a plain one, else ours.
//! 2. `Host` and `Origin` must be ours, the peer within its rate, the caller known and of the needed role.
//! 3. A request of the API waits for one of a bounded number of places, which its answer keeps until it is sent; probes and metrics need none, so that a full
//!    house does not look like a dead one.
//! 4. The handler has a bounded time. A panic of it is answered as 500, and the next request goes on.
//! 5. The answer gets the id; a problem gets its body; both are counted and logged.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::body::{Body, Bytes, HttpBody as _};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures_util::StreamExt as _;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::access::{self, Credentials};
use super::plane::Plane;
use super::problem::{BUSY_AGAIN_S, Problem};
use crate::config::Role;

/// The header that carries a request's id, both ways.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest id that is taken from a caller.
const MAX_ID_BYTES: usize = 64;

/// The whole way of a request.
pub async fn guard(State(plane): State<Arc<Plane>>, request: Request, next: Next) -> Response {
    let id = own_id(request.headers()).unwrap_or_else(|| plane.next_request_id());
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let admitted = match look(&plane, &request) {
        Ok(caller) => admit(&plane, caller).await,
        Err(problem) => Err(problem),
    };
    let mut response = match admitted {
        Ok(()) => handle(&plane, request, next).await,
        Err(problem) => problem.into_response(),
    };
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        let headers = std::mem::take(response.headers_mut());
        response = problem.respond(&id);
        // What the handler or a layer said beside its problem (Allow, CORS) is kept; the body is ours.
        for (name, value) in headers
            .iter()
            .filter(|(name, _)| **name != header::CONTENT_TYPE && **name != header::CONTENT_LENGTH)
        {
            response.headers_mut().insert(name, value.clone());
        }
        if problem.status == StatusCode::UNAUTHORIZED {
            let asked = HeaderValue::from_static("Basic realm=\"corelane\", charset=\"UTF-8\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, asked);
        }
    }
    let status = response.status();
    plane.counts.answered(status);
    log(&id, &method, &path, status);
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

/// A line for a request. Keys stand in paths, so that these are cut to their route unless keys may be shown.
fn log(id: &str, method: &Method, path: &str, status: StatusCode) {
    let key = path.strip_prefix(KV).map(|key| crate::log::key(key.as_bytes()));
    let (route, key) = match key {
        Some(key) => (KV, Some(tracing::field::display(key))),
        None => (path, None),
    };
    let (method, status) = (method.as_str(), status.as_u16());
    if status >= 500 {
        tracing::warn!(request_id = id, method, route, key, status, "request failed");
    } else {
        tracing::debug!(request_id = id, method, route, key, status, "request");
    }
}

/// Where keys begin in paths.
pub const KV: &str = "/api/v1/kv/";

/// The caller's id, if it is one that can be echoed and logged as it is.
fn own_id(headers: &HeaderMap) -> Option<String> {
    let id = headers.get(&REQUEST_ID)?.to_str().ok()?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/+=".contains(&byte);
    (!id.is_empty() && id.len() <= MAX_ID_BYTES && id.bytes().all(plain)).then(|| id.to_owned())
}

/// Who makes a request, and what it needs.
struct Caller {
    peer: IpAddr,
    credentials: Option<Credentials>,
    needed: Option<Role>,
}

/// Whether the caller may make the request.
async fn admit(plane: &Plane, caller: Caller) -> Result<(), Problem> {
    if caller.needed.is_none() {
        return Ok(());
    }
    let identity = plane.authorizer.identify(caller.credentials, caller.peer).await;
    access::may(identity, caller.needed)
}

/// What a request's head tells: that it may go on, and who makes it.
fn look(plane: &Plane, request: &Request) -> Result<Caller, Problem> {
    check_names(plane, request)?;
    let peer = request
        .extensions()
        .get::<ConnectInfo<SocketAddr>>()
        .map_or(plane.limits.bind, |info| info.0.ip());
    plane.rate.check(peer).map_err(|wait| {
        plane.counts.limited.fetch_add(1, Ordering::Relaxed);
        Problem::new(
            StatusCode::TOO_MANY_REQUESTS,
            "rate-limited",
            "this address makes more requests than admin.rate_per_s and admin.rate_burst allow",
        )
        .again_after(wait.as_secs() + 1)
    })?;
    let needed = access::needed(request.method(), request.uri().path());
    let credentials = match needed {
        Some(_) => access::credentials(request.headers())?,
        None => None,
    };
    Ok(Caller {
        peer,
        credentials,
        needed,
    })
}

fn check_names(plane: &Plane, request: &Request) -> Result<(), Problem> {
    let text = |name| {
        request
            .headers()
            .get(name)
            .map(|value: &HeaderValue| value.to_str().unwrap_or_default())
    };
    if request.headers().get_all(header::HOST).iter().count() > 1 {
        return Err(Problem::bad_request("Host is there more than once"));
    }
    let authority = request.uri().authority().map(|authority| authority.as_str());
    let host = authority
        .or_else(|| text(header::HOST))
        .ok_or_else(|| Problem::bad_request("Host is missing"))?;
    if !plane.hosts.takes_host(host) {
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            "unknown-host",
            "Host is neither an address of this server, nor localhost, nor named in admin.hosts",
        ));
    }
    match text(header::ORIGIN) {
        Some(origin) if !plane.hosts.takes_origin(origin, host) => Err(Problem::new(
            StatusCode::FORBIDDEN,
            "unknown-origin",
            "pages of this origin may not call this server; admin.cors_origins names those that may",
        )),
        _ => Ok(()),
    }
}

/// Runs the handler, in one of the places where it needs one, within its time.
async fn handle(plane: &Plane, request: Request, next: Next) -> Response {
    let needs_place = request.uri().path().starts_with("/api/");
    let answered = timeout(plane.request_time(), async {
        if !needs_place {
            return next.run(request).await;
        }
        // It fails only once the semaphore is closed, which it never is.
        let place = Arc::clone(&plane.places).acquire_owned().await.ok();
        holding(place, next.run(request).await)
    });
    answered.await.unwrap_or_else(|_| {
        Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "timeout",
            "the request took longer than admin.request_ms; where it was a write, it may be there or not",
        )
        .again_after(BUSY_AGAIN_S)
        .into_response()
    })
}

/// Bytes of an answer, and the place that is given back with the last of them.
struct Held {
    bytes: Bytes,
    _place: Arc<Option<OwnedSemaphorePermit>>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// The response, whose bytes hold the place for as long as they are in memory: a body is dropped once its bytes wait to be
/// sent, and those of a slow client would be bounded by nothing.
fn holding(place: Option<OwnedSemaphorePermit>, response: Response) -> Response {
    let bytes = response.body().size_hint().exact();
    if bytes == Some(0) {
        return response;
    }
    let (mut head, body) = response.into_parts();
    if let Some(bytes) = bytes {
        // The body made below does not tell.
        head.headers.entry(header::CONTENT_LENGTH).or_insert(bytes.into());
    }
    let place = Arc::new(place);
    let frames = body.into_data_stream().map(move |frame| {
        let place = Arc::clone(&place);
        frame.map(|bytes| Bytes::from_owner(Held { bytes, _place: place }))
    });
    Response::from_parts(head, Body::from_stream(frames))
}

/// The answer to a panic of a handler, which the panic's own message has told on standard error.
pub fn panicked(plane: &Plane) -> Response {
    plane.counts.panicked.fetch_add(1, Ordering::Relaxed);
    Problem::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "internal",
        "this request met a bug of the server; the log has more under its id",
    )
    .into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A place was given back when the handler returned: any number of answers, each as large as a value, then waited in
    /// memory for clients that did not read them.
    #[test]
    fn an_answer_keeps_its_place_until_its_bytes_are_gone() {
        let places = Arc::new(tokio::sync::Semaphore::new(1));
        let place = Arc::clone(&places).try_acquire_owned().ok();
        let answer = holding(place, "value".into_response());
        assert_eq!(answer.headers()[header::CONTENT_LENGTH], "5");
        let mut frames = answer.into_body().into_data_stream();
        let bytes = futures_lite::future::block_on(frames.next()).unwrap().unwrap();
        drop(frames);
        assert_eq!(
            (bytes.as_ref(), places.available_permits()),
            (b"value".as_slice(), 0)
        );
        drop(bytes);
        assert_eq!(places.available_permits(), 1);
        let place = Arc::clone(&places).try_acquire_owned().ok();
        let _empty = holding(place, StatusCode::NO_CONTENT.into_response());
        assert_eq!(places.available_permits(), 1);
    }

    #[test]
    fn only_plain_ids_are_taken_from_callers() {
        for (id, taken) in [
            ("0af7651916cd43dd-1", true),
            ("a/b:c=d", true),
            ("", false),
            ("a b", false),
            ("a\tb", false),
            (&"x".repeat(65), false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, id.parse().unwrap());
            assert_eq!(own_id(&headers).is_some(), taken, "{id:?}");
        }
    }
}
