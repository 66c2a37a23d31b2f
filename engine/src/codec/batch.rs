//! A batch of operations as staged and logged: the one encoding between a caller's `write` and the memtable.
//!
//! ```text
//! batch := op*
//! op    := kind u8 | keyspace varint | key length varint | key | value length varint | value
//! ```
//!
//! A tombstone has no value part; the value of a put with an expiry begins with its time. `keyspace` is 0 until keyspaces exist; a reader refuses any other. Kinds are those
//! of [`crate::types::Kind`]; reserved ones are refused by number. Sequences are not stored: they are taken when the
//! group enters the memtable, and again, in the same order, when the WAL is replayed.

use crate::codec::varint;
use crate::types::{EXPIRY_BYTES, Kind};

/// One operation of a batch, borrowed from its encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Op<'a> {
    /// Put, put with an expiry, or tombstone.
    pub kind: Kind,
    /// The key.
    pub key: &'a [u8],
    /// The value as stored: empty for a tombstone, behind its time for [`Kind::PutUntil`].
    pub value: &'a [u8],
}

/// Appends a put to an encoded batch.
pub fn push_put(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    out.reserve(key.len() + value.len() + 2 + 2 * varint::MAX_BYTES);
    out.push(Kind::Put as u8);
    out.push(0);
    varint::put_bytes(out, key);
    varint::put_bytes(out, value);
}

/// Appends a put of a value that ends at `expires_ms` (ms since the Unix epoch) to an encoded batch.
pub fn push_put_until(out: &mut Vec<u8>, key: &[u8], value: &[u8], expires_ms: u64) {
    let stored = value.len() + EXPIRY_BYTES;
    out.reserve(key.len() + stored + 2 + 2 * varint::MAX_BYTES);
    out.push(Kind::PutUntil as u8);
    out.push(0);
    varint::put_bytes(out, key);
    varint::put(out, stored as u64);
    out.extend_from_slice(&expires_ms.to_le_bytes());
    out.extend_from_slice(value);
}

/// Appends a tombstone to an encoded batch.
pub fn push_tombstone(out: &mut Vec<u8>, key: &[u8]) {
    out.push(Kind::Tombstone as u8);
    out.push(0);
    varint::put_bytes(out, key);
}

/// Walks the operations of an encoded batch; stops with an error at the first that is malformed.
#[derive(Debug, Clone)]
pub struct Ops<'a> {
    rest: &'a [u8],
}

/// The operations of `batch`, in order.
pub fn ops(batch: &[u8]) -> Ops<'_> {
    Ops { rest: batch }
}

/// Why an encoded batch cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchError {
    /// A length runs past the end or does not suit its kind, or a varint is malformed.
    Malformed,
    /// An operation of a kind or keyspace that this version does not know.
    Unknown(u64),
}

impl std::fmt::Display for BatchError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Malformed => write!(f, "the batch is malformed"),
            Self::Unknown(n) => write!(
                f,
                "the batch holds an operation ({n}) that this version does not know"
            ),
        }
    }
}

impl<'a> Ops<'a> {
    /// What was not walked yet: a batch of its own.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    fn decode(&mut self) -> Result<Op<'a>, BatchError> {
        let (&byte, rest) = self.rest.split_first().ok_or(BatchError::Malformed)?;
        let kind = Kind::from_byte(byte).ok_or(BatchError::Unknown(u64::from(byte)))?;
        let mut rest = rest;
        let keyspace = varint::take(&mut rest).ok_or(BatchError::Malformed)?;
        if keyspace != 0 {
            return Err(BatchError::Unknown(keyspace));
        }
        let key = varint::take_bytes(&mut rest).ok_or(BatchError::Malformed)?;
        let value = match kind {
            Kind::Put | Kind::PutUntil => varint::take_bytes(&mut rest)
                .filter(|value| kind.admits(value.len()))
                .ok_or(BatchError::Malformed)?,
            Kind::Tombstone => &[],
        };
        self.rest = rest;
        Ok(Op { kind, key, value })
    }
}

impl<'a> Iterator for Ops<'a> {
    type Item = Result<Op<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let item = self.decode();
        if item.is_err() {
            self.rest = &[];
        }
        Some(item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_reads_back_in_order() {
        let mut bytes = Vec::new();
        push_put(&mut bytes, b"", b"");
        push_tombstone(&mut bytes, b"gone");
        push_put(&mut bytes, b"key", &[7; 300]);
        push_put_until(&mut bytes, b"short", b"lived", 0x0102);
        let got: Vec<_> = ops(&bytes).collect::<Result<_, _>>().unwrap();
        assert_eq!(
            got[0],
            Op {
                kind: Kind::Put,
                key: b"",
                value: b""
            }
        );
        assert_eq!(
            got[1],
            Op {
                kind: Kind::Tombstone,
                key: b"gone",
                value: b""
            }
        );
        assert_eq!(
            got[2],
            Op {
                kind: Kind::Put,
                key: b"key",
                value: &[7; 300]
            }
        );
        assert_eq!(
            got[3],
            Op {
                kind: Kind::PutUntil,
                key: b"short",
                value: &[2, 1, 0, 0, 0, 0, 0, 0, b'l', b'i', b'v', b'e', b'd']
            }
        );
    }

    #[test]
    fn a_put_with_an_expiry_holds_at_least_its_time() {
        assert!(ops(&[2, 0, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8]).all(|op| op.is_ok()));
        assert_eq!(
            ops(&[2, 0, 0, 7, 1, 2, 3, 4, 5, 6, 7]).next(),
            Some(Err(BatchError::Malformed))
        );
    }

    #[test]
    fn every_cut_of_a_batch_is_an_error_or_a_whole_prefix() {
        let mut bytes = Vec::new();
        push_put(&mut bytes, b"ab", b"cd");
        let first = bytes.len();
        push_tombstone(&mut bytes, b"ab");
        for cut in 0..bytes.len() {
            let whole = ops(&bytes[..cut]).all(|op| op.is_ok());
            assert_eq!(whole, cut == 0 || cut == first, "cut at {cut}");
        }
    }

    #[test]
    fn unknown_kinds_and_keyspaces_are_refused_by_number() {
        assert_eq!(ops(&[3, 0, 0]).next(), Some(Err(BatchError::Unknown(3))));
        assert_eq!(ops(&[1, 9, 0, 0]).next(), Some(Err(BatchError::Unknown(9))));
    }
}
