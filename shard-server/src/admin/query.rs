//! Keys in paths and queries: percent-encoded bytes, not necessarily UTF-8. Pure.

use percent_encoding::percent_decode;

use super::problem::Problem;

/// Most parameters of one query: more than any route takes.
const MAX_PARAMETERS: usize = 32;

/// Decodes a part of a path or of a query.
///
/// # Errors
/// A percent sign without two hexadecimal digits: half a key would be another key.
pub fn decode(name: &str, text: &[u8]) -> Result<Vec<u8>, Problem> {
    let hex = |at: usize| text.get(at).is_some_and(u8::is_ascii_hexdigit);
    let sound = text
        .iter()
        .enumerate()
        .all(|(at, &byte)| byte != b'%' || (hex(at + 1) && hex(at + 2)));
    if sound {
        Ok(percent_decode(text).collect())
    } else {
        Err(Problem::bad_request(format!(
            "{name}: a percent sign must be followed by two hexadecimal digits"
        )))
    }
}

/// The parameters of a query, decoded; each at most once, and only those that are known.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Query(Vec<(&'static str, Vec<u8>)>);

impl Query {
    /// Of a query of which `known` parameters are taken.
    ///
    /// # Errors
    /// One that is unknown, twice there, or badly encoded.
    pub fn parse(query: Option<&str>, known: &[&'static str]) -> Result<Self, Problem> {
        let mut found: Vec<(&'static str, Vec<u8>)> = Vec::new();
        for pair in query
            .unwrap_or_default()
            .split('&')
            .filter(|pair| !pair.is_empty())
        {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let Some(name) = known.iter().copied().find(|&known| known == name) else {
                return Err(Problem::bad_request(format!(
                    "unknown parameter {name:?}; known are {}",
                    known.join(", ")
                )));
            };
            if found.len() == MAX_PARAMETERS || found.iter().any(|(other, _)| *other == name) {
                return Err(Problem::bad_request(format!("{name}: it is there twice")));
            }
            found.push((name, decode(name, value.replace('+', " ").as_bytes())?));
        }
        Ok(Self(found))
    }

    /// A parameter's bytes.
    pub fn bytes(&self, name: &str) -> Option<&[u8]> {
        self.0
            .iter()
            .find(|(other, _)| *other == name)
            .map(|(_, value)| value.as_slice())
    }

    /// A parameter's text.
    ///
    /// # Errors
    /// It is no UTF-8.
    pub fn text(&self, name: &str) -> Result<Option<&str>, Problem> {
        self.bytes(name)
            .map(std::str::from_utf8)
            .transpose()
            .map_err(|_| Problem::bad_request(format!("{name}: it is no text")))
    }

    /// A parameter's number.
    ///
    /// # Errors
    /// It is none.
    pub fn number(&self, name: &str) -> Result<Option<u64>, Problem> {
        self.text(name)?
            .map(|text| {
                text.parse()
                    .map_err(|_| Problem::bad_request(format!("{name}: {text:?} is no whole number")))
            })
            .transpose()
    }

    /// A parameter that is there or not; `true` or nothing for there, `false` for not.
    ///
    /// # Errors
    /// It says something else.
    pub fn flag(&self, name: &str) -> Result<bool, Problem> {
        match self.text(name)? {
            None | Some("false") => Ok(false),
            Some("" | "true") => Ok(true),
            Some(other) => Err(Problem::bad_request(format!(
                "{name}: {other:?} is neither true nor false"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_can_be_asked_for() {
        assert_eq!(decode("key", b"a%00%fF/").unwrap(), b"a\0\xff/");
        for bad in [b"%".as_slice(), b"%4", b"%4g", b"a%%41"] {
            assert!(decode("key", bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_query_is_read_by_its_known_names() {
        let known = ["start", "limit", "reverse", "keys_only"];
        let query = Query::parse(Some("start=%ff+%2B&limit=7&reverse&keys_only=false"), &known).unwrap();
        assert_eq!(query.bytes("start"), Some(b"\xff +".as_slice()));
        assert_eq!(query.number("limit"), Ok(Some(7)));
        assert_eq!(
            (query.flag("reverse"), query.flag("keys_only")),
            (Ok(true), Ok(false))
        );
        assert!(query.text("start").is_err());
        for bad in ["strat=1", "limit=1&limit=2", "start=%"] {
            assert!(Query::parse(Some(bad), &known).is_err(), "{bad}");
        }
        let query = Query::parse(Some("limit=x&reverse=maybe"), &known).unwrap();
        assert!(query.number("limit").is_err() && query.flag("reverse").is_err());
        assert_eq!(Query::parse(None, &known), Ok(Query::default()));
    }
}
