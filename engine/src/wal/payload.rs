//! What the frames of a WAL carry.
//!
//! ```text
//! group payload := (batch length varint | batch)*          batches as codec::batch encodes them
//! first, middle, last payloads, joined := batch             one batch too large for a frame
//! seal payload, 24 bytes, little-endian:
//! offset size
//!      0    8  number of the next segment
//!      8    8  its salt
//!     16    1  1 if a batch that began before the seal goes on behind it, else 0
//!     17    7  0
//! mark payload := empty
//! ```

use crate::codec::varint;

/// Appends one batch to a group's payload.
pub fn push_batch(payload: &mut Vec<u8>, batch: &[u8]) {
    varint::put_bytes(payload, batch);
}

/// The batches of a group's payload, in order; `None` in place of one whose length does not fit, and then no more.
pub fn batches(payload: &[u8]) -> impl Iterator<Item = Option<&[u8]>> {
    let mut rest = Some(payload).filter(|payload| !payload.is_empty());
    std::iter::from_fn(move || {
        let mut input = rest?;
        let batch = varint::take_bytes(&mut input);
        rest = Some(input).filter(|left| batch.is_some() && !left.is_empty());
        Some(batch)
    })
}

/// Where the log goes on after a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seal {
    /// Number of the next segment.
    pub next_segment: u64,
    /// Its salt.
    pub next_salt: u64,
    /// Whether a large batch that began before the seal goes on behind it. A recovery that seals a torn tail says no, and
    /// so drops what it could not finish.
    pub continues: bool,
}

/// Bytes of a seal's payload.
pub const SEAL_BYTES: usize = 24;

impl Seal {
    /// The payload.
    pub fn encode(self) -> [u8; SEAL_BYTES] {
        let mut out = [0; SEAL_BYTES];
        out[..8].copy_from_slice(&self.next_segment.to_le_bytes());
        out[8..16].copy_from_slice(&self.next_salt.to_le_bytes());
        out[16] = u8::from(self.continues);
        out
    }

    /// Reads a payload; `None` if it is not one.
    pub fn decode(payload: &[u8]) -> Option<Self> {
        let payload: &[u8; SEAL_BYTES] = payload.try_into().ok()?;
        let word = |at: usize| {
            let bytes = payload[at..].first_chunk::<8>().copied();
            bytes.map(u64::from_le_bytes)
        };
        let continues = match payload[16] {
            0 => false,
            1 => true,
            _ => return None,
        };
        if payload[17..] != [0; 7] {
            return None;
        }
        Some(Self {
            next_segment: word(0)?,
            next_salt: word(8)?,
            continues,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_come_back_in_order_and_the_empty_one_too() {
        let mut payload = Vec::new();
        for batch in [b"one".as_slice(), b"", b"three"] {
            push_batch(&mut payload, batch);
        }
        let got: Vec<_> = batches(&payload).collect();
        assert_eq!(got, [Some(b"one".as_slice()), Some(b""), Some(b"three")]);
        assert_eq!(batches(&[]).count(), 0);
    }

    #[test]
    fn a_cut_payload_ends_in_none_and_stops() {
        let mut payload = Vec::new();
        push_batch(&mut payload, b"whole");
        push_batch(&mut payload, b"cut short");
        let got: Vec<_> = batches(&payload[..payload.len() - 1]).collect();
        assert_eq!(got, [Some(b"whole".as_slice()), None]);
    }

    #[test]
    fn a_seal_reads_back_and_nothing_else_is_one() {
        let seal = Seal {
            next_segment: 9,
            next_salt: u64::MAX,
            continues: true,
        };
        assert_eq!(Seal::decode(&seal.encode()), Some(seal));
        for at in 16..SEAL_BYTES {
            let mut bad = seal.encode();
            bad[at] = 7;
            assert_eq!(Seal::decode(&bad), None);
        }
        assert_eq!(Seal::decode(&[0; 23]), None);
    }
}
