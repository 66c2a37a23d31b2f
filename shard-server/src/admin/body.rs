//! The bodies of requests and the bytes in them: raw, or JSON with texts and base64. Pure but for [`read`].

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, StatusCode, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::StreamExt as _;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::problem::Problem;

/// Bytes in JSON: as `text` where they are UTF-8, as base64 otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    /// UTF-8.
    Text(String),
    /// Anything else.
    Base64(String),
}

impl Shown {
    /// Of some bytes.
    pub fn of(bytes: Vec<u8>) -> Self {
        match String::from_utf8(bytes) {
            Ok(text) => Self::Text(text),
            Err(other) => Self::Base64(STANDARD.encode(other.as_bytes())),
        }
    }

    /// The text and the base64, of which one is there: the two fields of an answer.
    pub fn fields(self) -> (Option<String>, Option<String>) {
        match self {
            Self::Text(text) => (Some(text), None),
            Self::Base64(text) => (None, Some(text)),
        }
    }
}

/// The bytes of a request's two fields, of which exactly one must be there.
///
/// # Errors
/// None is there, or both are, or it is no base64.
pub fn bytes_of(name: &str, text: Option<String>, base64: Option<String>) -> Result<Vec<u8>, Problem> {
    match (text, base64) {
        (Some(text), None) => Ok(text.into_bytes()),
        (None, Some(base64)) => STANDARD
            .decode(base64)
            .map_err(|error| Problem::bad_request(format!("{name}_base64: {error}"))),
        _ => Err(Problem::bad_request(format!(
            "exactly one of {name} and {name}_base64 must be there"
        ))),
    }
}

/// A value to write, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ValueBody {
    /// The value, where it is UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// The value in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_base64: Option<String>,
    /// After how many milliseconds it goes away; never where it is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
}

/// What a body is, by its content type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// The value's bytes themselves.
    Raw,
    /// JSON that describes it.
    Json,
}

impl Content {
    /// By the content type; raw where there is none.
    ///
    /// # Errors
    /// 415: a type that wraps the value in something that is neither.
    pub fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let Some(value) = headers.get(header::CONTENT_TYPE) else {
            return Ok(Self::Raw);
        };
        let text = value.to_str().unwrap_or_default().to_ascii_lowercase();
        match text.split(';').next().unwrap_or_default().trim() {
            "application/json" => Ok(Self::Json),
            wrapped if wrapped.starts_with("multipart/") || !wrapped.contains('/') => {
                Err(unsupported(wrapped, "raw bytes or application/json"))
            }
            _ => Ok(Self::Raw),
        }
    }
}

fn unsupported(found: &str, wanted: &str) -> Problem {
    Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "unsupported-media-type",
        format!("content type {found:?}: send {wanted}"),
    )
}

/// Reads a body to its end.
///
/// # Errors
/// 413 where it is longer than `limit`, 400 where it breaks off.
pub async fn read(body: Body, headers: &HeaderMap, limit: usize) -> Result<Bytes, Problem> {
    let too_large = || {
        Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too-large",
            format!("the body is longer than admin.body_bytes = {limit}"),
        )
    };
    let declared = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|declared| declared > limit as u64) {
        return Err(too_large());
    }
    let mut frames = body.into_data_stream();
    let mut whole = Vec::new();
    while let Some(frame) = frames.next().await {
        let frame = frame.map_err(|error| Problem::bad_request(format!("the body broke off: {error}")))?;
        if whole.len() + frame.len() > limit {
            return Err(too_large());
        }
        whole.extend_from_slice(&frame);
    }
    Ok(whole.into())
}

/// Reads a body that must be JSON.
///
/// # Errors
/// As for [`read`]; 415 where it says that it is something else, 400 where it is not what is wanted.
pub async fn json<T: DeserializeOwned>(body: Body, headers: &HeaderMap, limit: usize) -> Result<T, Problem> {
    if Content::of(headers)? != Content::Json {
        let found = headers.get(header::CONTENT_TYPE);
        let found = found.and_then(|value| value.to_str().ok()).unwrap_or_default();
        return Err(unsupported(found, "application/json"));
    }
    parse(&read(body, headers, limit).await?)
}

/// JSON as what is wanted.
///
/// # Errors
/// 400, with the line and what is wrong there.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(bytes).map_err(|error| Problem::bad_request(format!("the body: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shown_as_text_or_base64_and_read_back() {
        for bytes in [b"".as_slice(), "gr\u{fc}n".as_bytes(), b"\xff\0"] {
            let (text, base64) = Shown::of(bytes.to_vec()).fields();
            assert_eq!(bytes_of("value", text, base64), Ok(bytes.to_vec()));
        }
        assert!(bytes_of("value", None, None).is_err());
        assert!(bytes_of("value", Some(String::new()), Some(String::new())).is_err());
        assert!(bytes_of("value", None, Some("?".to_owned())).is_err());
    }

    #[test]
    fn the_content_type_decides() {
        let of = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, text.parse().unwrap());
            Content::of(&headers).map_err(|problem| problem.status.as_u16())
        };
        assert_eq!(of("Application/JSON; charset=utf-8"), Ok(Content::Json));
        assert_eq!(of("image/png"), Ok(Content::Raw));
        assert_eq!(of("multipart/form-data; boundary=x"), Err(415));
        assert_eq!(of("what"), Err(415));
        assert_eq!(Content::of(&HeaderMap::new()), Ok(Content::Raw));
    }

    #[test]
    fn unknown_fields_and_broken_json_are_told() {
        let value: ValueBody = parse(br#"{"value":"a","ttl_ms":5}"#).unwrap();
        assert_eq!((value.value.as_deref(), value.ttl_ms), (Some("a"), Some(5)));
        assert!(
            parse::<ValueBody>(br#"{"vlaue":"a"}"#)
                .unwrap_err()
                .detail
                .contains("vlaue")
        );
        assert!(parse::<ValueBody>(b"{").is_err());
    }
}
