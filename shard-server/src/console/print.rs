//! An answer as text, in the two ways of `redis-cli`: for people ([`standard`]) and for programs ([`raw`]).
//!
//! For people every type looks different, strings are quoted, and the elements of an aggregate are numbered and indented
//! below each other: `)` behind the number of an array's element, `~` of a set's, `#` of a map's pair. For programs
//! there is the text alone, one line an element.

use std::io::Write as _;

use crate::remote::Reply;

/// The commands whose answer is text that was laid out by the server, as long as they have this many words.
/// Name, second word if any, and the number of words it takes, 0 for any.
const LAID_OUT: &[(&str, &str, usize)] = &[
    ("info", "", 0),
    ("lolwut", "", 0),
    ("memory", "malloc-stats", 0),
    ("memory", "doctor", 0),
    ("cluster", "nodes", 2),
    ("cluster", "info", 2),
    ("client", "list", 0),
    ("client", "info", 0),
    ("latency", "graph", 3),
    ("latency", "doctor", 2),
];

/// Whether the answer to this command is shown as it is, wherever it goes.
pub fn is_laid_out(words: &[Vec<u8>]) -> bool {
    let is = |place: usize, name: &str| {
        words
            .get(place)
            .is_some_and(|word| word.eq_ignore_ascii_case(name.as_bytes()))
    };
    LAID_OUT.iter().any(|&(name, second, count)| {
        is(0, name) && (second.is_empty() || is(1, second)) && (count == 0 || words.len() == count)
    })
}

/// Appends the answer as people read it; it ends with a line end.
pub fn standard(out: &mut Vec<u8>, reply: &Reply) {
    indented(out, reply, 0);
}

fn indented(out: &mut Vec<u8>, reply: &Reply, indent: usize) {
    match reply {
        Reply::Nil => out.extend_from_slice(b"(nil)\n"),
        Reply::Status(text) | Reply::Verbatim(text) => line(out, b"", text),
        Reply::Error(text) => line(out, b"(error) ", text),
        Reply::Integer(number) => line(out, b"(integer) ", number.to_string().as_bytes()),
        Reply::Double(number) => line(out, b"(double) ", double(*number).as_bytes()),
        Reply::Boolean(true) => out.extend_from_slice(b"(true)\n"),
        Reply::Boolean(false) => out.extend_from_slice(b"(false)\n"),
        Reply::BigNumber(digits) => line(out, b"(big number) ", digits),
        Reply::Bulk(bytes) => {
            quote(out, bytes);
            out.push(b'\n');
        }
        Reply::Array(items) => numbered(out, items, ("array", ')'), indent),
        Reply::Push(items) => numbered(out, items, ("push", ')'), indent),
        Reply::Set(items) => numbered(out, items, ("set", '~'), indent),
        Reply::Map(pairs) => {
            let width = digits(pairs.len());
            empty(out, pairs.is_empty(), "hash");
            for (place, (key, value)) in pairs.iter().enumerate() {
                number(out, place, width, '#', indent);
                indented(out, key, indent + width + 2);
                out.pop();
                out.extend_from_slice(b" => ");
                if has_elements(value) {
                    // Not behind a key, however short: below it.
                    write!(out, "\n{:1$}", "", indent + width + 2)
                        .expect("writing to a vector does not fail");
                }
                indented(out, value, indent + width + 2);
            }
        }
    }
}

fn has_elements(reply: &Reply) -> bool {
    match reply {
        Reply::Array(items) | Reply::Set(items) | Reply::Push(items) => !items.is_empty(),
        Reply::Map(pairs) => !pairs.is_empty(),
        _ => false,
    }
}

fn numbered(out: &mut Vec<u8>, items: &[Reply], (name, mark): (&str, char), indent: usize) {
    let width = digits(items.len());
    empty(out, items.is_empty(), name);
    for (place, item) in items.iter().enumerate() {
        number(out, place, width, mark, indent);
        indented(out, item, indent + width + 2);
    }
}

fn empty(out: &mut Vec<u8>, is_empty: bool, name: &str) {
    if is_empty {
        line(out, b"", format!("(empty {name})").as_bytes());
    }
}

/// The number of an element; the first one stands behind its parent's, where the indent is already.
fn number(out: &mut Vec<u8>, place: usize, width: usize, mark: char, indent: usize) {
    let indent = if place == 0 { 0 } else { indent };
    write!(out, "{:indent$}{:>width$}{mark} ", "", place + 1).expect("writing to a vector does not fail");
}

fn digits(count: usize) -> usize {
    count.to_string().len()
}

fn line(out: &mut Vec<u8>, prefix: &[u8], text: &[u8]) {
    out.extend_from_slice(prefix);
    out.extend_from_slice(text);
    out.push(b'\n');
}

/// A number with a fraction as C prints it with 17 digits at most: short, and with an exponent far from one.
pub fn double(number: f64) -> String {
    let magnitude = number.abs();
    if number.is_nan() {
        "nan".to_owned()
    } else if number.is_infinite() {
        if number > 0.0 { "inf" } else { "-inf" }.to_owned()
    } else if magnitude != 0.0 && !(1e-4..1e17).contains(&magnitude) {
        let text = format!("{number:e}");
        match text.split_once('e') {
            Some((digits, exponent)) => {
                let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |e| ('-', e));
                format!("{digits}e{sign}{exponent:0>2}")
            }
            None => text,
        }
    } else {
        number.to_string()
    }
}

/// Appends bytes in double quotes, so that a terminal shows each of them.
pub fn quote(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    for &byte in bytes {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            7 => out.extend_from_slice(b"\\a"),
            8 => out.extend_from_slice(b"\\b"),
            b' '..=b'~' => out.push(byte),
            _ => write!(out, "\\x{byte:02x}").expect("writing to a vector does not fail"),
        }
    }
    out.push(b'"');
}

/// Appends the answer as programs read it: its text alone, elements a line each, a map's value behind its key. Only an
/// error brings its own line end.
pub fn raw(out: &mut Vec<u8>, reply: &Reply) {
    match reply {
        Reply::Nil => {}
        Reply::Error(text) => line(out, b"", text),
        Reply::Status(text) | Reply::Bulk(text) | Reply::Verbatim(text) | Reply::BigNumber(text) => {
            out.extend_from_slice(text);
        }
        Reply::Integer(number) => out.extend_from_slice(number.to_string().as_bytes()),
        Reply::Double(number) => out.extend_from_slice(double(*number).as_bytes()),
        Reply::Boolean(true) => out.extend_from_slice(b"(true)"),
        Reply::Boolean(false) => out.extend_from_slice(b"(false)"),
        Reply::Array(items) | Reply::Set(items) | Reply::Push(items) => {
            for (place, item) in items.iter().enumerate() {
                out.extend_from_slice(if place == 0 { b"" } else { b"\n" });
                raw(out, item);
            }
        }
        Reply::Map(pairs) => {
            for (place, (key, value)) in pairs.iter().enumerate() {
                out.extend_from_slice(if place == 0 { b"" } else { b"\n" });
                raw(out, key);
                out.push(b' ');
                raw(out, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Reply {
        Reply::Bulk(text.as_bytes().to_vec())
    }

    fn shown(reply: &Reply) -> String {
        let mut out = Vec::new();
        standard(&mut out, reply);
        String::from_utf8(out).unwrap()
    }

    fn bare(reply: &Reply) -> String {
        let mut out = Vec::new();
        raw(&mut out, reply);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn nested_elements_stand_below_each_other() {
        let inner = Reply::Array(vec![bulk("b"), Reply::Array(vec![]), Reply::Nil]);
        let reply = Reply::Array(vec![bulk("a"), inner, Reply::Integer(3)]);
        assert_eq!(
            shown(&reply),
            "1) \"a\"\n2) 1) \"b\"\n   2) (empty array)\n   3) (nil)\n3) (integer) 3\n"
        );
        assert_eq!(bare(&reply), "a\nb\n\n\n3");
    }

    #[test]
    fn numbers_are_as_wide_as_the_last_one() {
        let text = shown(&Reply::Array(vec![Reply::Integer(0); 10]));
        assert!(
            text.starts_with(" 1) (integer) 0\n 2) ") && text.ends_with("\n10) (integer) 0\n"),
            "{text}"
        );
    }

    #[test]
    fn a_map_shows_pairs() {
        let map = Reply::Map(vec![
            (bulk("a"), Reply::Integer(1)),
            (bulk("b"), Reply::Map(vec![(bulk("c"), Reply::Boolean(true))])),
        ]);
        assert_eq!(
            shown(&map),
            "1# \"a\" => (integer) 1\n2# \"b\" => \n   1# \"c\" => (true)\n"
        );
        assert_eq!(bare(&map), "a 1\nb c (true)");
    }

    #[test]
    fn every_byte_can_be_seen() {
        let mut out = Vec::new();
        quote(&mut out, b"a\"\\\n\r\t\x07\x08\x00\xff ~");
        assert_eq!(out, br#""a\"\\\n\r\t\a\b\x00\xff ~""#);
    }

    #[test]
    fn doubles_look_as_in_c() {
        let cases = [
            (0.0, "0"),
            (1.5, "1.5"),
            (3.0, "3"),
            (1e17, "1e+17"),
            (1e-5, "1e-05"),
            (-2.5e300, "-2.5e+300"),
        ];
        for (number, text) in cases {
            assert_eq!(double(number), text);
        }
        assert_eq!(double(f64::NEG_INFINITY), "-inf");
    }

    #[test]
    fn text_that_the_server_laid_out_is_known_by_its_command() {
        let laid_out =
            |line: &str| is_laid_out(&line.split(' ').map(|w| w.as_bytes().to_vec()).collect::<Vec<_>>());
        assert!(
            laid_out("INFO")
                && laid_out("info stats")
                && laid_out("CLIENT LIST")
                && laid_out("cluster nodes")
        );
        assert!(
            !laid_out("GET info")
                && !laid_out("client")
                && !laid_out("cluster nodes x")
                && !laid_out("client id")
        );
    }
}
