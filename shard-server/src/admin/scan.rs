//! `GET /api/v1/scan`: a range of keys in their order, page by page. A page holds a bounded number of entries and bytes;
//! where more follow it ends with a cursor, which the next request passes back.

use std::ops::Bound;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use serde::Serialize;
use utoipa::ToSchema;

use super::body::Shown;
use super::cursor;
use super::plane::Plane;
use super::problem::{Problem, ProblemBody};
use super::query::Query;

/// Entries of a page where the request names no limit.
const DEFAULT_LIMIT: u64 = 100;
/// Most entries of a page.
const MAX_LIMIT: u64 = 1000;

/// One entry.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Entry {
    /// The key, where it is UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The key in base64, where it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_base64: Option<String>,
    /// The value, where it is UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// The value in base64, where it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_base64: Option<String>,
}

/// A page of entries.
#[derive(Debug, Serialize, ToSchema)]
pub struct ScanAnswer {
    /// The entries, in the order of their keys.
    pub entries: Vec<Entry>,
    /// Where the next page begins; the end was reached where it is not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    start: Bound<Vec<u8>>,
    end: Bound<Vec<u8>>,
    limit: usize,
    keys_only: bool,
    reverse: bool,
    /// What a cursor is bound to: start, end, direction.
    range: [Vec<u8>; 3],
}

impl Asked {
    /// From `start`, included, to `end`, not included, within those that begin with `prefix`; behind the cursor's key in
    /// the direction of the scan.
    fn of(query: Option<&str>) -> Result<Self, Problem> {
        let query = Query::parse(
            query,
            &[
                "start",
                "end",
                "prefix",
                "limit",
                "cursor",
                "reverse",
                "keys_only",
            ],
        )?;
        let prefix = query.bytes("prefix").unwrap_or_default();
        let given = query.bytes("start").unwrap_or_default();
        let start = given.max(prefix).to_vec();
        let end = [query.bytes("end").map(<[u8]>::to_vec), behind_prefix(prefix)]
            .into_iter()
            .flatten()
            .min();
        let limit = query.number("limit")?.unwrap_or(DEFAULT_LIMIT);
        if !(1..=MAX_LIMIT).contains(&limit) {
            return Err(Problem::bad_request(format!(
                "limit = {limit}: it must be 1 to {MAX_LIMIT}"
            )));
        }
        let reverse = query.flag("reverse")?;
        let range = [
            start.clone(),
            end.clone().unwrap_or_default(),
            vec![u8::from(reverse)],
        ];
        let mut start = Bound::Included(start);
        let mut end = end.map_or(Bound::Unbounded, Bound::Excluded);
        if let Some(text) = query.text("cursor")? {
            let last = cursor::decode(&range.each_ref().map(Vec::as_slice), text)?;
            let behind = if reverse { &mut end } else { &mut start };
            *behind = Bound::Excluded(last);
        }
        Ok(Self {
            start,
            end,
            limit: usize::try_from(limit).expect("at most a thousand"),
            keys_only: query.flag("keys_only")?,
            reverse,
            range,
        })
    }

    /// Whether no key can be in it: the engine's ranges begin before they end.
    fn is_empty(&self) -> bool {
        match (&self.start, &self.end) {
            (Bound::Included(start) | Bound::Excluded(start), Bound::Excluded(end)) => start >= end,
            _ => false,
        }
    }
}

/// The first key behind all that begin with `prefix`; `None` where there is none.
fn behind_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|&byte| byte != u8::MAX)?;
    let mut behind = prefix[..=last].to_vec();
    behind[last] += 1;
    Some(behind)
}

/// Reads a page of keys in their order.
#[utoipa::path(
    get, path = "/api/v1/scan", tag = "keys",
    params(
        ("start" = Option<String>, Query, description = "The first key, percent-encoded"),
        ("end" = Option<String>, Query, description = "The key before which to stop, percent-encoded"),
        ("prefix" = Option<String>, Query, description = "What keys must begin with, percent-encoded"),
        ("limit" = Option<u64>, Query, description = "Most entries of the page: 1 to 1000, 100 if not given"),
        ("cursor" = Option<String>, Query, description = "The cursor of the page before, with the same range"),
        ("reverse" = Option<bool>, Query, description = "In the reverse of key order, from the end back to the start"),
        ("keys_only" = Option<bool>, Query, description = "Leave the values out"),
    ),
    responses(
        (status = 200, description = "A page", body = ScanAnswer),
        (status = 400, description = "A bad parameter or a cursor of another range", body = ProblemBody<'_>),
    )
)]
pub async fn get(State(plane): State<Arc<Plane>>, uri: Uri) -> Result<Json<ScanAnswer>, Problem> {
    let asked = Asked::of(uri.query())?;
    if asked.is_empty() {
        return Ok(Json(ScanAnswer {
            entries: Vec::new(),
            cursor: None,
        }));
    }
    let start = asked.start.as_ref().map(Vec::as_slice);
    let end = asked.end.as_ref().map(Vec::as_slice);
    let page = if asked.reverse {
        plane.db.scan_back(start, end, asked.limit).await?
    } else {
        plane.db.scan(start, end, asked.limit).await?
    };
    let entries = page
        .entries
        .iter()
        .map(|(key, value)| {
            let (key, key_base64) = Shown::of(key.to_vec()).fields();
            let shown = (!asked.keys_only).then(|| Shown::of(value.to_vec()).fields());
            let (value, value_base64) = shown.unwrap_or_default();
            Entry {
                key,
                key_base64,
                value,
                value_base64,
            }
        })
        .collect();
    let cursor = page
        .resume
        .map(|last| cursor::encode(&asked.range.each_ref().map(Vec::as_slice), &last));
    Ok(Json(ScanAnswer { entries, cursor }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(query: &str) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
        let asked = Asked::of(Some(query)).unwrap();
        (asked.start, asked.end)
    }

    #[test]
    fn a_prefix_narrows_what_start_and_end_say() {
        let from = |key: &[u8]| Bound::Included(key.to_vec());
        let to = |key: &[u8]| Bound::Excluded(key.to_vec());
        assert_eq!(range(""), (from(b""), Bound::Unbounded));
        assert_eq!(range("start=b&end=d"), (from(b"b"), to(b"d")));
        assert_eq!(range("prefix=a%ff"), (from(b"a\xff"), to(b"b")));
        assert_eq!(range("prefix=%ff"), (from(b"\xff"), Bound::Unbounded));
        assert_eq!(range("prefix=b&start=a&end=z"), (from(b"b"), to(b"c")));
        assert_eq!(range("prefix=b&start=ba&end=bb"), (from(b"ba"), to(b"bb")));
        assert!(Asked::of(Some("prefix=b&start=x")).unwrap().is_empty());
        assert!(!Asked::of(Some("prefix=b&start=bx")).unwrap().is_empty());
    }

    #[test]
    fn a_cursor_goes_on_behind_its_key_in_its_own_range() {
        let text = cursor::encode(&[b"b", b"c", &[0]], b"b7");
        let (start, end) = range(&format!("prefix=b&cursor={text}"));
        assert_eq!(
            (start, end),
            (Bound::Excluded(b"b7".to_vec()), Bound::Excluded(b"c".to_vec()))
        );
        for other in ["prefix=a", "prefix=b&reverse"] {
            assert!(
                Asked::of(Some(&format!("{other}&cursor={text}"))).is_err(),
                "{other}"
            );
        }
        let text = cursor::encode(&[b"b", b"c", &[1]], b"b7");
        let (start, end) = range(&format!("prefix=b&reverse&cursor={text}"));
        assert_eq!(
            (start, end),
            (Bound::Included(b"b".to_vec()), Bound::Excluded(b"b7".to_vec()))
        );
    }

    #[test]
    fn bounds_on_pages_hold() {
        for bad in [
            "limit=0",
            "limit=1001",
            "limit=x",
            "cursor=x",
            "keys_only=maybe",
            "more=1",
        ] {
            assert!(Asked::of(Some(bad)).is_err(), "{bad}");
        }
        assert_eq!(Asked::of(Some("limit=1000&keys_only")).unwrap().limit, 1000);
    }
}
