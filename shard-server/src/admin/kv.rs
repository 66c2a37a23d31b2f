//! `/api/v1/kv/{key}`: one key. Conditions are looked at and the write is decided in one update on the core that owns
//! the key, with nothing in between: of many clients that write `If-Match` one and the same tag, one succeeds.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use corelane::api::{Decision, Found};
use serde::Serialize;
use utoipa::ToSchema;

use super::body::{self, Content, Shown, ValueBody};
use super::etag::{self, Conditions};
use super::guard::KV;
use super::plane::Plane;
use super::problem::{Problem, ProblemBody};
use super::query::{Query, decode};

/// The header and the parameter that tell or set after how many milliseconds a key goes away.
pub const TTL_HEADER: &str = "x-ttl-ms";
const TTL: &str = "ttl_ms";

/// A key's value as JSON.
#[derive(Debug, Serialize, ToSchema)]
pub struct ValueAnswer {
    /// The value, where it is UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// The value in base64, where it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_base64: Option<String>,
    /// After how many milliseconds it goes away; never where it is not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
    /// Its tag, as in the header `ETag`.
    pub etag: String,
}

/// The key in a path.
fn key_of(uri: &Uri) -> Result<Vec<u8>, Problem> {
    let encoded = uri.path().strip_prefix(KV).unwrap_or_default();
    decode("key", encoded.as_bytes())
}

fn not_found() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "not-found", "there is no such key")
}

/// Reads a key: its bytes, or JSON where `Accept` asks for it.
#[utoipa::path(
    get, path = "/api/v1/kv/{key}", tag = "keys",
    params(
        ("key" = String, Path, description = "The key, percent-encoded; any bytes"),
        ("If-Match" = Option<String>, Header, description = "Answer 412 unless the value has one of these tags"),
        ("If-None-Match" = Option<String>, Header, description = "Answer 304 if the value has one of these tags"),
    ),
    responses(
        (status = 200, description = "The value; ETag, and x-ttl-ms where it will go away", content(
            (Vec<u8> = "application/octet-stream"), (ValueAnswer = "application/json"))),
        (status = 304, description = "The value has a tag of If-None-Match"),
        (status = 400, description = "A bad key or header", body = ProblemBody<'_>),
        (status = 404, description = "No such key", body = ProblemBody<'_>),
        (status = 412, description = "If-Match does not hold", body = ProblemBody<'_>),
    )
)]
pub async fn get(State(plane): State<Arc<Plane>>, uri: Uri, headers: HeaderMap) -> Result<Response, Problem> {
    let key = key_of(&uri)?;
    let conditions = Conditions::of(&headers)?;
    let found = plane
        .db
        .look(&key, |found| {
            let ttl_ms = found.expires_ms.map(|at| at.saturating_sub(found.now_ms));
            found.value.map(|value| (value.to_vec(), ttl_ms))
        })
        .await?;
    let instead = conditions.instead_of(found.as_ref().map(|(value, _)| value.as_slice()));
    if instead == Some(StatusCode::PRECONDITION_FAILED) {
        return Err(etag::failed());
    }
    let (value, ttl_ms) = found.ok_or_else(not_found)?;
    let tag = etag::of(&value);
    let mut response = match instead {
        Some(status) => status.into_response(),
        None if wants_json(&headers) => {
            let (value, value_base64) = Shown::of(value).fields();
            Json(ValueAnswer {
                value,
                value_base64,
                ttl_ms,
                etag: tag.clone(),
            })
            .into_response()
        }
        None => value.into_response(),
    };
    set(&mut response, header::ETAG.as_str(), &tag);
    if let Some(ttl_ms) = ttl_ms {
        set(&mut response, TTL_HEADER, &ttl_ms.to_string());
    }
    // The value is somebody's, and may be another one the next moment.
    set(&mut response, header::CACHE_CONTROL.as_str(), "no-store");
    Ok(response)
}

fn set(response: &mut Response, name: &'static str, value: &str) {
    let value = HeaderValue::from_str(value).expect("tags, numbers and words are plain ASCII");
    response.headers_mut().insert(name, value);
}

fn wants_json(headers: &HeaderMap) -> bool {
    headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|accept| accept.contains("application/json"))
}

/// What an update did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Did {
    /// There was nothing before.
    Created,
    /// There was.
    Changed,
    /// There was nothing, and there is nothing.
    Nothing,
    /// A condition did not hold.
    Refused,
}

/// Writes a key.
#[utoipa::path(
    put, path = "/api/v1/kv/{key}", tag = "keys",
    params(
        ("key" = String, Path, description = "The key, percent-encoded; any bytes"),
        ("ttl_ms" = Option<u64>, Query, description = "After how many milliseconds the key goes away"),
        ("x-ttl-ms" = Option<u64>, Header, description = "The same, as a header"),
        ("If-Match" = Option<String>, Header, description = "Write only over a value with one of these tags"),
        ("If-None-Match" = Option<String>, Header, description = "Write only over none of these tags; * for nothing"),
    ),
    request_body(description = "The value: any bytes, or JSON", content(
        (Vec<u8> = "application/octet-stream"), (ValueBody = "application/json"))),
    responses(
        (status = 201, description = "The key was not there; ETag is the new value's"),
        (status = 204, description = "The key was there; ETag is the new value's"),
        (status = 400, description = "A bad key, header or body", body = ProblemBody<'_>),
        (status = 412, description = "A condition does not hold; nothing was written", body = ProblemBody<'_>),
        (status = 413, description = "The key or the value is too large", body = ProblemBody<'_>),
        (status = 415, description = "The body is neither raw bytes nor JSON", body = ProblemBody<'_>),
    )
)]
pub async fn put(
    State(plane): State<Arc<Plane>>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let key = key_of(&uri)?;
    let conditions = Conditions::of(&headers)?;
    let content = Content::of(&headers)?;
    let outside = outside_ttl(&uri, &headers)?;
    let bytes = body::read(body, &headers, plane.limits.body_bytes).await?;
    let (value, inside) = match content {
        Content::Raw => (bytes.to_vec(), None),
        Content::Json => {
            let described: ValueBody = body::parse(&bytes)?;
            let value = body::bytes_of("value", described.value, described.value_base64)?;
            (value, described.ttl_ms)
        }
    };
    let ttl_ms = one_ttl(&[outside.0, outside.1, inside])?;
    let tag = etag::of(&value);
    let did = plane
        .db
        .update_found(&key, move |found| {
            if !conditions.hold(found.value) {
                return (Decision::Keep, Did::Refused);
            }
            let did = if found.value.is_some() {
                Did::Changed
            } else {
                Did::Created
            };
            (decide(value, ttl_ms, &found), did)
        })
        .await?;
    let mut response = match did {
        Did::Refused => return Err(etag::failed()),
        Did::Created => StatusCode::CREATED.into_response(),
        Did::Changed | Did::Nothing => StatusCode::NO_CONTENT.into_response(),
    };
    set(&mut response, header::ETAG.as_str(), &tag);
    Ok(response)
}

fn decide(value: Vec<u8>, ttl_ms: Option<u64>, found: &Found<'_>) -> Decision {
    match ttl_ms {
        None => Decision::Put(value),
        Some(ttl_ms) => Decision::PutUntil(value, found.now_ms.saturating_add(ttl_ms)),
    }
}

/// The times to live of the query and of the header.
fn outside_ttl(uri: &Uri, headers: &HeaderMap) -> Result<(Option<u64>, Option<u64>), Problem> {
    let query = Query::parse(uri.query(), &[TTL])?;
    let header = headers
        .get(TTL_HEADER)
        .map(|value| {
            let text = value.to_str().ok();
            text.and_then(|text| text.parse().ok())
                .ok_or_else(|| Problem::bad_request(format!("{TTL_HEADER}: it is no whole number")))
        })
        .transpose()?;
    Ok((query.number(TTL)?, header))
}

/// The one time to live among those given.
fn one_ttl(given: &[Option<u64>]) -> Result<Option<u64>, Problem> {
    let mut given = given.iter().copied().flatten();
    match (given.next(), given.next()) {
        (_, Some(_)) => Err(Problem::bad_request(
            "the time to live is given twice; query, header or body: one of them",
        )),
        (Some(0), None) => Err(Problem::bad_request(
            "a time to live of 0 is none; DELETE removes a key",
        )),
        (one, None) => Ok(one),
    }
}

/// Removes a key.
#[utoipa::path(
    delete, path = "/api/v1/kv/{key}", tag = "keys",
    params(
        ("key" = String, Path, description = "The key, percent-encoded; any bytes"),
        ("If-Match" = Option<String>, Header, description = "Remove only a value with one of these tags"),
        ("If-None-Match" = Option<String>, Header, description = "Remove only a value with none of these tags"),
    ),
    responses(
        (status = 204, description = "The key is gone"),
        (status = 400, description = "A bad key or header", body = ProblemBody<'_>),
        (status = 404, description = "There was no such key", body = ProblemBody<'_>),
        (status = 412, description = "A condition does not hold; nothing was changed", body = ProblemBody<'_>),
    )
)]
pub async fn delete(
    State(plane): State<Arc<Plane>>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let key = key_of(&uri)?;
    let conditions = Conditions::of(&headers)?;
    let did = plane
        .db
        .update_found(&key, move |found| {
            if !conditions.hold(found.value) {
                (Decision::Keep, Did::Refused)
            } else if found.value.is_some() {
                (Decision::Delete, Did::Changed)
            } else {
                (Decision::Keep, Did::Nothing)
            }
        })
        .await?;
    match did {
        Did::Refused => Err(etag::failed()),
        Did::Nothing => Err(not_found()),
        Did::Changed | Did::Created => Ok(StatusCode::NO_CONTENT.into_response()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_whatever_bytes_its_path_encodes() {
        for (path, key) in [
            ("/api/v1/kv/a", b"a".as_slice()),
            ("/api/v1/kv/", b""),
            ("/api/v1/kv/a/b%2Fc", b"a/b/c"),
            ("/api/v1/kv/%FF%00+", b"\xff\0+"),
        ] {
            assert_eq!(key_of(&path.parse().unwrap()), Ok(key.to_vec()), "{path}");
        }
        assert!(key_of(&"/api/v1/kv/%4".parse().unwrap()).is_err());
    }

    #[test]
    fn one_time_to_live_is_taken_and_not_two_or_none_at_all() {
        assert_eq!(one_ttl(&[None, Some(5), None]), Ok(Some(5)));
        assert_eq!(one_ttl(&[None, None, None]), Ok(None));
        assert!(one_ttl(&[Some(5), None, Some(5)]).is_err());
        assert!(one_ttl(&[Some(0), None, None]).is_err());
    }
}
