//! Tags of values, and the conditions that requests make with them (RFC 9110, section 13): pure.
//!
//! A tag is strong: 128 bits of xxh3 over the value, and its length. Equal bytes have equal tags, whenever they were
//! written, on whichever server.

use axum::http::{HeaderMap, StatusCode, header};
use xxhash_rust::xxh3::xxh3_128;

use super::problem::Problem;

/// The tag of a value, with its quotes.
pub fn of(value: &[u8]) -> String {
    format!("\"{:032x}-{:x}\"", xxh3_128(value), value.len())
}

/// Tags that a condition names.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Tags {
    /// `*`: whatever is there.
    Any,
    /// One of these. A weak tag never equals a strong one, and is kept as it was written.
    These(Vec<String>),
}

impl Tags {
    fn take(&self, present: Option<&[u8]>) -> bool {
        match (self, present) {
            (_, None) => false,
            (Self::Any, Some(_)) => true,
            (Self::These(tags), Some(value)) => tags.contains(&of(value)),
        }
    }
}

/// Most tags of one condition: more than anybody compares, few enough to hold.
const MAX_TAGS: usize = 64;

/// What must hold for a request to be carried out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Conditions {
    if_match: Option<Tags>,
    if_none_match: Option<Tags>,
}

impl Conditions {
    /// Those of a request.
    ///
    /// # Errors
    /// A condition that is no list of tags.
    pub fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        Ok(Self {
            if_match: tags(headers, &header::IF_MATCH)?,
            if_none_match: tags(headers, &header::IF_NONE_MATCH)?,
        })
    }

    /// Whether a write may go ahead over the present value.
    pub fn hold(&self, present: Option<&[u8]>) -> bool {
        self.if_match.as_ref().is_none_or(|tags| tags.take(present))
            && !self.if_none_match.as_ref().is_some_and(|tags| tags.take(present))
    }

    /// What a read answers instead of the value, if anything: that it failed, or that the client has the value already.
    pub fn instead_of(&self, present: Option<&[u8]>) -> Option<StatusCode> {
        if self.if_match.as_ref().is_some_and(|tags| !tags.take(present)) {
            return Some(StatusCode::PRECONDITION_FAILED);
        }
        let known = self.if_none_match.as_ref().is_some_and(|tags| tags.take(present));
        known.then_some(StatusCode::NOT_MODIFIED)
    }
}

/// The problem of a condition that does not hold.
pub fn failed() -> Problem {
    Problem::new(
        StatusCode::PRECONDITION_FAILED,
        "precondition-failed",
        "If-Match or If-None-Match does not hold for the present value; nothing was changed. Read the key again for its \
         ETag",
    )
}

fn tags(headers: &HeaderMap, name: &header::HeaderName) -> Result<Option<Tags>, Problem> {
    let mut found = Vec::new();
    for line in headers.get_all(name) {
        let text = line
            .to_str()
            .map_err(|_| Problem::bad_request(format!("{name} is no text")))?;
        for tag in text.split(',').map(str::trim) {
            if tag == "*" {
                return Ok(Some(Tags::Any));
            }
            let quoted = tag.strip_prefix("W/").unwrap_or(tag);
            if quoted.len() < 2 || !quoted.starts_with('"') || !quoted.ends_with('"') {
                return Err(Problem::bad_request(format!(
                    "{name}: {tag:?} is no tag: tags stand in double quotes, as ETag gives them"
                )));
            }
            if found.len() == MAX_TAGS {
                return Err(Problem::bad_request(format!(
                    "{name} names more than {MAX_TAGS} tags"
                )));
            }
            found.push(tag.to_owned());
        }
    }
    Ok((!found.is_empty()).then_some(Tags::These(found)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conditions(pairs: &[(header::HeaderName, &str)]) -> Result<Conditions, Problem> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name.clone(), value.parse().unwrap());
        }
        Conditions::of(&headers)
    }

    #[test]
    fn a_write_goes_ahead_only_where_its_conditions_hold() {
        let (one, two) = (of(b"1"), of(b"2"));
        let both = format!("{one}, {two}");
        for (name, tags, over_one, over_none) in [
            (header::IF_MATCH, one.as_str(), true, false),
            (header::IF_MATCH, &two, false, false),
            (header::IF_MATCH, &both, true, false),
            (header::IF_MATCH, "*", true, false),
            (header::IF_NONE_MATCH, &one, false, true),
            (header::IF_NONE_MATCH, &two, true, true),
            (header::IF_NONE_MATCH, "*", false, true),
            (header::IF_MATCH, "W/\"1\"", false, false),
        ] {
            let made = conditions(&[(name.clone(), tags)]).unwrap();
            assert_eq!(
                (made.hold(Some(b"1")), made.hold(None)),
                (over_one, over_none),
                "{name}: {tags}"
            );
        }
        assert!(conditions(&[]).unwrap().hold(None));
        for bad in ["1", "\"", "\"a\", b", ""] {
            assert!(conditions(&[(header::IF_MATCH, bad)]).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_read_of_what_the_client_has_is_answered_without_the_value() {
        let known = conditions(&[(header::IF_NONE_MATCH, &of(b"1"))]).unwrap();
        assert_eq!(known.instead_of(Some(b"1")), Some(StatusCode::NOT_MODIFIED));
        assert_eq!(known.instead_of(Some(b"2")), None);
        let must = conditions(&[(header::IF_MATCH, &of(b"1"))]).unwrap();
        assert_eq!(must.instead_of(Some(b"2")), Some(StatusCode::PRECONDITION_FAILED));
    }

    #[test]
    fn tags_tell_values_apart_and_never_change() {
        assert_ne!(of(b""), of(b"\0"));
        assert_ne!(of(b"1"), of(b"2"));
        assert_eq!(of(b""), "\"99aa06d3014798d86001c324468d497f-0\"");
    }
}
