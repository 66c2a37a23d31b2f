//! How answers look, RESP2 and RESP3.
//!
//! Each function appends to the output. What RESP3 added (null, map, set, verbatim text) falls back to its RESP2 form:
//! null bulk, flat array, array, bulk.

use super::Protocol;

/// `+text`. The text must be free of line ends; it is the server's own.
pub fn simple(out: &mut Vec<u8>, text: &str) {
    debug_assert!(!text.contains(['\r', '\n']), "a simple string is one line");
    out.push(b'+');
    out.extend_from_slice(text.as_bytes());
    end(out);
}

/// `-text`, starting with the error's code. Line ends become spaces, because the text may quote the client.
pub fn error(out: &mut Vec<u8>, text: &str) {
    out.push(b'-');
    out.extend(
        text.bytes()
            .map(|b| if b == b'\r' || b == b'\n' { b' ' } else { b }),
    );
    end(out);
}

/// `:n`.
pub fn integer(out: &mut Vec<u8>, n: i64) {
    line(out, b':', n);
}

/// `:n` of a length or a count.
pub fn length(out: &mut Vec<u8>, n: usize) {
    line(out, b':', n);
}

/// `$length` and the bytes.
pub fn bulk(out: &mut Vec<u8>, bytes: &[u8]) {
    // One reservation, so that a value is not copied while the buffer grows under it.
    out.reserve(bytes.len() + 32);
    bulk_start(out, bytes.len());
    out.extend_from_slice(bytes);
    end(out);
}

/// An entry of a map: its key, and a text.
pub fn text_entry(out: &mut Vec<u8>, key: &str, value: &str) {
    bulk(out, key.as_bytes());
    bulk(out, value.as_bytes());
}

/// An entry of a map: its key, and a number.
pub fn number_entry(out: &mut Vec<u8>, key: &str, value: i64) {
    bulk(out, key.as_bytes());
    integer(out, value);
}

/// The prefix of a bulk whose bytes and line end follow on their own.
pub fn bulk_start(out: &mut Vec<u8>, bytes: usize) {
    line(out, b'$', bytes);
}

/// Nothing there.
pub fn null(out: &mut Vec<u8>, protocol: Protocol) {
    out.extend_from_slice(match protocol {
        Protocol::Resp2 => b"$-1\r\n".as_slice(),
        Protocol::Resp3 => b"_\r\n".as_slice(),
    });
}

/// No array: a transaction that was not run because a watched key was changed.
pub fn null_array(out: &mut Vec<u8>, protocol: Protocol) {
    out.extend_from_slice(match protocol {
        Protocol::Resp2 => b"*-1\r\n".as_slice(),
        Protocol::Resp3 => b"_\r\n".as_slice(),
    });
}

/// The prefix of an array of `count` answers.
pub fn array(out: &mut Vec<u8>, count: usize) {
    line(out, b'*', count);
}

/// The prefix of a map of `pairs` keys and values.
pub fn map(out: &mut Vec<u8>, pairs: usize, protocol: Protocol) {
    match protocol {
        Protocol::Resp2 => line(out, b'*', pairs * 2),
        Protocol::Resp3 => line(out, b'%', pairs),
    }
}

/// The prefix of a set of `count` answers.
pub fn set(out: &mut Vec<u8>, count: usize, protocol: Protocol) {
    line(out, if protocol == Protocol::Resp2 { b'*' } else { b'~' }, count);
}

/// Text for people.
pub fn verbatim(out: &mut Vec<u8>, text: &str, protocol: Protocol) {
    match protocol {
        Protocol::Resp2 => bulk(out, text.as_bytes()),
        Protocol::Resp3 => {
            line(out, b'=', text.len() + 4);
            out.extend_from_slice(b"txt:");
            out.extend_from_slice(text.as_bytes());
            end(out);
        }
    }
}

fn line(out: &mut Vec<u8>, kind: u8, n: impl itoa::Integer) {
    out.push(kind);
    out.extend_from_slice(itoa::Buffer::new().format(n).as_bytes());
    end(out);
}

fn end(out: &mut Vec<u8>) {
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use redis_protocol::{resp2, resp3};

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out);
        out
    }

    #[test]
    fn each_shape_in_both_protocols() {
        use Protocol::{Resp2, Resp3};
        let cases: [(Vec<u8>, &[u8]); 12] = [
            (written(|o| simple(o, "OK")), b"+OK\r\n"),
            (written(|o| error(o, "ERR a\r\nb")), b"-ERR a  b\r\n"),
            (written(|o| integer(o, i64::MIN)), b":-9223372036854775808\r\n"),
            (written(|o| bulk(o, b"a\r\n")), b"$3\r\na\r\n\r\n"),
            (written(|o| null(o, Resp2)), b"$-1\r\n"),
            (written(|o| null(o, Resp3)), b"_\r\n"),
            (written(|o| array(o, 0)), b"*0\r\n"),
            (written(|o| map(o, 2, Resp2)), b"*4\r\n"),
            (written(|o| map(o, 2, Resp3)), b"%2\r\n"),
            (written(|o| set(o, 2, Resp3)), b"~2\r\n"),
            (written(|o| verbatim(o, "a", Resp2)), b"$1\r\na\r\n"),
            (written(|o| verbatim(o, "a", Resp3)), b"=5\r\ntxt:a\r\n"),
        ];
        for (got, expected) in cases {
            assert_eq!(got, expected, "{}", expected.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn a_library_client_reads_what_was_written(
            bytes in proptest::collection::vec(any::<u8>(), 0..50), n: i64, text: String,
        ) {
            let bulk_bytes = written(|o| bulk(o, &bytes));
            let (frame, used) = resp2::decode::decode(&bulk_bytes).unwrap().unwrap();
            prop_assert_eq!(frame, resp2::types::OwnedFrame::BulkString(bytes));
            prop_assert_eq!(used, bulk_bytes.len());
            let number = written(|o| integer(o, n));
            prop_assert_eq!(resp2::decode::decode(&number).unwrap().unwrap().0, resp2::types::OwnedFrame::Integer(n));
            let failure = written(|o| error(o, &text));
            prop_assert_eq!(resp2::decode::decode(&failure).unwrap().unwrap().1, failure.len());
            let null3 = written(|o| null(o, Protocol::Resp3));
            prop_assert_eq!(resp3::decode::complete::decode(&null3).unwrap().unwrap().1, null3.len());
        }
    }
}
