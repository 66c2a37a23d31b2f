//! An answer as one line of JSON, so that other programs need no parser of their own.
//!
//! Text is a string; bytes that are not UTF-8 are `{"base64": "…"}`, so that nothing is lost; an error is
//! `{"error": "…"}`; a map is an object in the order sent, its keys as text.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::ser::{Serialize, SerializeMap as _, Serializer};

use super::print;
use crate::remote::Reply;

/// The line, with its end.
pub fn json(out: &mut Vec<u8>, reply: &Reply) {
    serde_json::to_writer(&mut *out, &Json(reply)).expect("strings, numbers and lists can always be written");
    out.push(b'\n');
}

struct Json<'a>(&'a Reply);

impl Serialize for Json<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Reply::Nil => to.serialize_none(),
            Reply::Status(bytes) | Reply::Bulk(bytes) | Reply::Verbatim(bytes) => text(bytes, to),
            Reply::Error(why) => single("error", &String::from_utf8_lossy(why), to),
            Reply::Integer(number) => to.serialize_i64(*number),
            Reply::Double(number) if number.is_finite() => to.serialize_f64(*number),
            Reply::Double(number) => to.serialize_str(&print::double(*number)),
            Reply::Boolean(yes) => to.serialize_bool(*yes),
            Reply::BigNumber(digits) => text(digits, to),
            Reply::Array(items) | Reply::Set(items) | Reply::Push(items) => {
                to.collect_seq(items.iter().map(Json))
            }
            Reply::Map(pairs) => {
                let mut map = to.serialize_map(Some(pairs.len()))?;
                for (key, value) in pairs {
                    map.serialize_entry(&name(key), &Json(value))?;
                }
                map.end()
            }
        }
    }
}

fn text<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
    match std::str::from_utf8(bytes) {
        Ok(text) => to.serialize_str(text),
        Err(_) => single("base64", &STANDARD.encode(bytes), to),
    }
}

fn single<S: Serializer>(key: &str, value: &str, to: S) -> Result<S::Ok, S::Error> {
    let mut map = to.serialize_map(Some(1))?;
    map.serialize_entry(key, value)?;
    map.end()
}

/// A key: its text where it is text, else what programs would read.
fn name(key: &Reply) -> String {
    let mut bytes = Vec::new();
    print::raw(&mut bytes, key);
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(reply: &Reply) -> String {
        let mut out = Vec::new();
        json(&mut out, reply);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn each_type_has_its_form() {
        let bulk = |bytes: &[u8]| Reply::Bulk(bytes.to_vec());
        let cases = [
            (Reply::Nil, "null\n"),
            (Reply::Status(b"OK".to_vec()), "\"OK\"\n"),
            (Reply::Integer(-1), "-1\n"),
            (Reply::Double(1.5), "1.5\n"),
            (Reply::Double(f64::INFINITY), "\"inf\"\n"),
            (bulk("é\n\"".as_bytes()), "\"é\\n\\\"\"\n"),
            (bulk(b"\xff"), "{\"base64\":\"/w==\"}\n"),
            (Reply::Error(b"ERR no".to_vec()), "{\"error\":\"ERR no\"}\n"),
            (
                Reply::Array(vec![Reply::Boolean(true), Reply::Set(vec![])]),
                "[true,[]]\n",
            ),
            (
                Reply::Map(vec![(bulk(b"b"), Reply::Nil), (Reply::Integer(1), bulk(b"x"))]),
                "{\"b\":null,\"1\":\"x\"}\n",
            ),
        ];
        for (reply, expected) in cases {
            assert_eq!(line(&reply), expected);
        }
    }
}
