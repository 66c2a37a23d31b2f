//! What `OBJECT` and `MEMORY USAGE` tell of one value: pure.

use crate::command::Failure;
use crate::resp::number::parse_i64;
use crate::resp::reply;

/// Bytes that the store adds to a key and its value: a sequence, and what it is with both lengths.
const ENTRY_BYTES: usize = 16;

/// Longest value that Redis keeps in one piece with its header, in bytes.
const EMBEDDED_BYTES: usize = 44;

/// What is asked about a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aspect {
    /// `MEMORY USAGE`.
    Bytes,
    /// `OBJECT ENCODING`.
    Encoding,
    /// `OBJECT FREQ`.
    Frequency,
    /// `OBJECT IDLETIME`.
    Idle,
    /// `OBJECT REFCOUNT`.
    References,
}

/// Answers for the value of a key of `key_bytes` bytes.
///
/// # Errors
/// What is not kept of it.
pub(super) fn tell(aspect: Aspect, key_bytes: usize, value: &[u8], out: &mut Vec<u8>) -> Result<(), Failure> {
    match aspect {
        Aspect::Bytes => {
            let bytes = key_bytes + value.len() + ENTRY_BYTES;
            reply::integer(out, i64::try_from(bytes).unwrap_or(i64::MAX));
        }
        Aspect::Encoding => reply::bulk(out, encoding(value).as_bytes()),
        Aspect::Frequency => {
            return Err(Failure::fixed(
                "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when \
                 switching between policies at runtime LRU and LFU data will take some time to adjust.",
            ));
        }
        Aspect::Idle => reply::integer(out, 0),
        Aspect::References => reply::integer(out, 1),
    }
    Ok(())
}

/// How Redis would keep a string that `SET` wrote.
fn encoding(value: &[u8]) -> &'static str {
    if parse_i64(value).is_some() {
        "int"
    } else if value.len() <= EMBEDDED_BYTES {
        "embstr"
    } else {
        "raw"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings_are_those_of_redis() {
        for (value, expected) in [
            ("12", "int"),
            ("-9223372036854775808", "int"),
            ("9223372036854775808", "embstr"),
            ("01", "embstr"),
            ("", "embstr"),
            (&"x".repeat(44), "embstr"),
            (&"x".repeat(45), "raw"),
        ] {
            assert_eq!(encoding(value.as_bytes()), expected, "{value:?}");
        }
    }

    #[test]
    fn what_is_not_kept_is_refused() {
        let mut out = Vec::new();
        assert!(tell(Aspect::Frequency, 1, b"v", &mut out).is_err() && out.is_empty());
        tell(Aspect::Bytes, 3, b"value", &mut out).unwrap();
        assert_eq!(out, b":24\r\n");
    }
}
