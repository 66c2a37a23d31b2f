//! What went wrong, as `application/problem+json` (RFC 9457), and which failure of the engine is which status: pure.
//!
//! A handler's [`Problem`] travels in its response's extensions; the guard, who knows the request's id, writes the body.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use corelane::{Error, ErrorKind};
use serde::Serialize;
use utoipa::ToSchema;

/// The content type of problems.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// Seconds after which a client may try again where a bound on concurrent work was met.
pub const BUSY_AGAIN_S: u64 = 1;
/// … where the device is full, which somebody must mend first.
pub const FULL_AGAIN_S: u64 = 30;

/// A failed request: its status, and why in a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The status.
    pub status: StatusCode,
    /// A word for programs, stable over versions.
    pub kind: &'static str,
    /// What happened and what to do, for people.
    pub detail: String,
    /// When to try again, in seconds, where that may help.
    pub retry_after_s: Option<u64>,
}

/// The body of a problem.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProblemBody<'a> {
    /// `about:corelane#` and a word for programs.
    pub r#type: String,
    /// The status in words.
    pub title: &'a str,
    /// The status.
    pub status: u16,
    /// What happened and what to do.
    pub detail: &'a str,
    /// The request's id, as in the header `x-request-id` and in the log.
    pub request_id: &'a str,
}

impl Problem {
    /// A problem that trying again does not mend.
    pub fn new(status: StatusCode, kind: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            kind,
            detail: detail.into(),
            retry_after_s: None,
        }
    }

    /// A request that makes no sense.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-request", detail)
    }

    /// The same, to be tried again after so many seconds.
    #[must_use]
    pub fn again_after(self, seconds: u64) -> Self {
        Self {
            retry_after_s: Some(seconds),
            ..self
        }
    }

    /// Its response, for the request of that id.
    pub fn respond(&self, request_id: &str) -> Response {
        let body = ProblemBody {
            r#type: format!("about:corelane#{}", self.kind),
            title: self.status.canonical_reason().unwrap_or("unknown"),
            status: self.status.as_u16(),
            detail: &self.detail,
            request_id,
        };
        let text = serde_json::to_string(&body).expect("texts and numbers have their JSON");
        let content = [(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON))];
        let mut response = (self.status, content, text).into_response();
        if let Some(seconds) = self.retry_after_s {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let (status, kind, again) = status_of(error.kind());
        Self {
            status,
            kind,
            detail: error.to_string(),
            retry_after_s: again,
        }
    }
}

/// The status of an engine's failure, its word, and the seconds after which to try again.
pub fn status_of(kind: ErrorKind) -> (StatusCode, &'static str, Option<u64>) {
    match kind {
        ErrorKind::Busy => (StatusCode::SERVICE_UNAVAILABLE, "busy", Some(BUSY_AGAIN_S)),
        ErrorKind::NoSpace => (StatusCode::SERVICE_UNAVAILABLE, "no-space", Some(FULL_AGAIN_S)),
        ErrorKind::Poisoned => (StatusCode::SERVICE_UNAVAILABLE, "poisoned", None),
        ErrorKind::Closed => (StatusCode::SERVICE_UNAVAILABLE, "closing", Some(BUSY_AGAIN_S)),
        ErrorKind::OutcomeUnknown => (StatusCode::SERVICE_UNAVAILABLE, "outcome-unknown", None),
        ErrorKind::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too-large", None),
        ErrorKind::CrossShard => (StatusCode::CONFLICT, "cross-shard", None),
        ErrorKind::InvalidOptions => (StatusCode::BAD_REQUEST, "bad-request", None),
        ErrorKind::Io => (StatusCode::INTERNAL_SERVER_ERROR, "io", None),
        ErrorKind::Corruption => (StatusCode::INTERNAL_SERVER_ERROR, "corruption", None),
        ErrorKind::Locked | ErrorKind::Incompatible | ErrorKind::CallerPanicked => {
            (StatusCode::INTERNAL_SERVER_ERROR, "internal", None)
        }
        // The engine may learn new kinds; until they have a row here they are ours to explain.
        _ => (StatusCode::INTERNAL_SERVER_ERROR, "internal", None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_of_the_engine_has_its_status() {
        for (kind, status, word, again) in [
            (ErrorKind::Busy, 503, "busy", true),
            (ErrorKind::NoSpace, 503, "no-space", true),
            (ErrorKind::Poisoned, 503, "poisoned", false),
            (ErrorKind::Closed, 503, "closing", true),
            (ErrorKind::OutcomeUnknown, 503, "outcome-unknown", false),
            (ErrorKind::TooLarge, 413, "too-large", false),
            (ErrorKind::CrossShard, 409, "cross-shard", false),
            (ErrorKind::InvalidOptions, 400, "bad-request", false),
            (ErrorKind::Io, 500, "io", false),
            (ErrorKind::Corruption, 500, "corruption", false),
            (ErrorKind::CallerPanicked, 500, "internal", false),
        ] {
            let problem = Problem::from(Error::new(kind, "doing", "why"));
            assert_eq!(
                (problem.status.as_u16(), problem.kind),
                (status, word),
                "{kind:?}"
            );
            assert_eq!(problem.retry_after_s.is_some(), again, "{kind:?}");
            assert!(problem.detail.starts_with("doing: why ("), "{}", problem.detail);
        }
    }

    #[test]
    fn a_problem_says_when_to_try_again() {
        let response = Problem::bad_request("x").again_after(7).respond("id");
        assert_eq!(response.headers()["retry-after"], "7");
        assert_eq!(response.headers()["content-type"], PROBLEM_JSON);
    }
}
