//! Tags of values, and the conditions that requests make with them (RFC 9110, section 13): pure.
//!
//! A tag is strong: 128 bits of xxh3 over the value, and its length. Equal bytes have equal tags, whenever they were
//! written, on whichever server.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use xxhash_rust::xxh3::xxh3_128;

use super::problem::Problem;

/// The tag of a value, with its quotes.
pub fn of(value: &[u8]) -> String {
    format!("\"{:032x}-{:x}\"", xxh3_128(value), value.len())
}

/// A tag that a condition names.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Tag {
    /// Whether it says only that the value means the same (`W/`). Ours are strong, but caches between us and the client
    /// make weak ones of them, as where they compress.
    weak: bool,
    /// With its quotes.
    opaque: Vec<u8>,
}

/// Tags that a condition names.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Tags {
    /// `*`: whatever is there.
    Any,
    /// One of these.
    These(Vec<Tag>),
}

/// How tags are compared (RFC 9110, section 8.8.3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    /// Equal, and none of them weak: for whoever builds upon the very bytes.
    Strong,
    /// Equal but for how weak they are: for whoever wants to know whether to read again.
    Weak,
}

impl Tags {
    fn take(&self, present: Option<&[u8]>, comparison: Comparison) -> bool {
        match (self, present) {
            (_, None) => false,
            (Self::Any, Some(_)) => true,
            (Self::These(tags), Some(value)) => {
                let own = of(value);
                tags.iter()
                    .any(|tag| (comparison == Comparison::Weak || !tag.weak) && tag.opaque == own.as_bytes())
            }
        }
    }
}

/// Most tags of one condition: more than anybody compares, few enough to hold.
const MAX_TAGS: usize = 64;

/// Most bytes of what is no tag that are told.
const SHOWN_BYTES: usize = 64;

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
        self.matches(present) && !self.is_known(present)
    }

    /// What a read answers instead of the value, if anything: that it failed, or that the client has the value already.
    pub fn instead_of(&self, present: Option<&[u8]>) -> Option<StatusCode> {
        if !self.matches(present) {
            return Some(StatusCode::PRECONDITION_FAILED);
        }
        self.is_known(present).then_some(StatusCode::NOT_MODIFIED)
    }

    /// Whether `If-Match` holds.
    fn matches(&self, present: Option<&[u8]>) -> bool {
        let tags = self.if_match.as_ref();
        tags.is_none_or(|tags| tags.take(present, Comparison::Strong))
    }

    /// Whether `If-None-Match` names the value.
    fn is_known(&self, present: Option<&[u8]>) -> bool {
        let tags = self.if_none_match.as_ref();
        tags.is_some_and(|tags| tags.take(present, Comparison::Weak))
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
    let lines: Vec<_> = headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
    match lines.as_slice() {
        [] => return Ok(None),
        [line] if line.trim_ascii() == b"*" => return Ok(Some(Tags::Any)),
        _ => {}
    }
    let mut found = Vec::new();
    for line in lines {
        let mut rest = line;
        // Nothing between two commas is nothing, and allowed.
        while let Some(begin) = rest.iter().position(|byte| !b", \t".contains(byte)) {
            let (tag, behind) = first(&rest[begin..]).ok_or_else(|| no_tag(name, &rest[begin..]))?;
            if found.len() == MAX_TAGS {
                return Err(Problem::bad_request(format!(
                    "{name} names more than {MAX_TAGS} tags"
                )));
            }
            found.push(tag);
            rest = behind;
        }
    }
    if found.is_empty() {
        return Err(no_tag(name, b""));
    }
    Ok(Some(Tags::These(found)))
}

/// The tag that a text begins with, and what is behind it; `None` where it begins with none.
fn first(text: &[u8]) -> Option<(Tag, &[u8])> {
    let (weak, quoted) = match text.strip_prefix(b"W/") {
        Some(quoted) => (true, quoted),
        None => (false, text),
    };
    let inside = quoted.strip_prefix(b"\"")?;
    // Commas and spaces may stand in a tag; a quote ends it, and cannot be escaped.
    let end = inside.iter().position(|&byte| byte == b'"')?;
    let (opaque, behind) = quoted.split_at(end + 2);
    let apart = behind.trim_ascii_start();
    (apart.is_empty() || apart.starts_with(b",")).then(|| {
        let opaque = opaque.to_vec();
        (Tag { weak, opaque }, behind)
    })
}

fn no_tag(name: &header::HeaderName, text: &[u8]) -> Problem {
    let shown = text[..text.len().min(SHOWN_BYTES)].escape_ascii();
    Problem::bad_request(format!(
        "{name}: no tag begins at `{shown}`: tags stand in double quotes, as ETag gives them, with commas between them; * \
         stands alone"
    ))
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
        for bad in [
            "1",
            "\"",
            "\"a\", b",
            "",
            " , ,",
            "\"a\" \"b\"",
            "\"a\"b",
            "w/\"a\"",
            "*, \"a\"",
            "\"a\", *",
        ] {
            assert!(conditions(&[(header::IF_MATCH, bad)]).is_err(), "{bad:?}");
        }
        let any = (header::IF_MATCH, "*");
        assert!(conditions(&[any.clone(), any]).is_err(), "* stands alone");
    }

    /// A cache on the way makes weak tags of ours. `If-None-Match` compared them as strong ones: a client that had the value
    /// was sent all of it again, and a write that was to happen only over another value went ahead over the same one.
    #[test]
    fn weak_tags_tell_what_is_known_and_allow_no_write() {
        let one = format!("W/{}", of(b"1"));
        let known = conditions(&[(header::IF_NONE_MATCH, &one)]).unwrap();
        assert_eq!(known.instead_of(Some(b"1")), Some(StatusCode::NOT_MODIFIED));
        assert_eq!(known.instead_of(Some(b"2")), None);
        assert!(!known.hold(Some(b"1")) && known.hold(Some(b"2")) && known.hold(None));
        let must = conditions(&[(header::IF_MATCH, &one)]).unwrap();
        assert!(!must.hold(Some(b"1")), "a weak tag is not of these very bytes");
        assert_eq!(must.instead_of(Some(b"1")), Some(StatusCode::PRECONDITION_FAILED));
        let both = format!("{one}, {}", of(b"1"));
        assert!(conditions(&[(header::IF_MATCH, &both)]).unwrap().hold(Some(b"1")));
    }

    /// A list was cut at every comma, those inside of a tag included, and empty places in it were refused.
    #[test]
    fn lists_are_read_as_they_may_be_written() {
        let (one, two) = (of(b"1"), of(b"2"));
        for list in [
            format!("{one},{two}"),
            format!("  \"a, b\" ,, W/\"\",\t{two} ,{one},"),
            format!("\"*\", {one}, {two}"),
        ] {
            let made = conditions(&[(header::IF_MATCH, &list)]).unwrap();
            assert!(
                made.hold(Some(b"1")) && made.hold(Some(b"2")) && !made.hold(Some(b"3")),
                "{list}"
            );
        }
        let lines = [(header::IF_MATCH, one.as_str()), (header::IF_MATCH, &two)];
        assert!(conditions(&lines).unwrap().hold(Some(b"2")), "over several lines");
        let many = vec!["\"a\""; MAX_TAGS + 1].join(",");
        assert!(conditions(&[(header::IF_MATCH, &many)]).is_err());
        assert!(conditions(&[(header::IF_MATCH, &many[4..])]).is_ok());
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
