//! Where a `KV.SCAN` goes on, as text that a client gives back: pure, and nothing is remembered for it.
//!
//! ```text
//! base64url, unpadded, of
//!   0      1   version: 1
//!   1      1   bit 0: descending
//!   2      n   the last key given
//!   2 + n  4   FNV-1a of the bytes before, little-endian: a text cut or mistyped is refused, not followed
//! ```

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use corelane::types::MAX_KEY_BYTES;

const VERSION: u8 = 1;

/// Bytes around the key.
const FRAME_BYTES: usize = 6;

/// Longest text: the longest key in its frame, four characters for three bytes.
const MAX_TEXT_BYTES: usize = (MAX_KEY_BYTES + FRAME_BYTES).div_ceil(3) * 4;

/// The last key that was given, and in which order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) last: Vec<u8>,
    pub(super) descending: bool,
}

impl Place {
    pub(super) fn encode(&self) -> String {
        let mut bytes = vec![VERSION, u8::from(self.descending)];
        bytes.extend_from_slice(&self.last);
        let check = fnv1a(&bytes);
        bytes.extend_from_slice(&check.to_le_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// `None` where the text is none that [`Place::encode`] made.
    pub(super) fn decode(text: &[u8]) -> Option<Self> {
        if text.len() > MAX_TEXT_BYTES {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (framed, check) = bytes.split_last_chunk::<4>()?;
        match framed {
            [VERSION, flags @ (0 | 1), last @ ..] if u32::from_le_bytes(*check) == fnv1a(framed) => {
                Some(Self {
                    last: last.to_vec(),
                    descending: *flags == 1,
                })
            }
            _ => None,
        }
    }
}

/// FNV-1a, 32 bits (<http://www.isthe.com/chongo/tech/comp/fnv/>).
fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, &byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_text_stays_what_it_is() {
        let place = Place {
            last: b"key:1".to_vec(),
            descending: true,
        };
        assert_eq!(place.encode(), "AQFrZXk6MfekvRU");
        assert_eq!(Place::decode(b"AQFrZXk6MfekvRU"), Some(place));
    }

    proptest! {
        #[test]
        fn it_comes_back_whole_or_not_at_all(
            last in proptest::collection::vec(any::<u8>(), 0..40), descending: bool, at in 0_usize..60, byte: u8,
        ) {
            let place = Place { last, descending };
            let mut text = place.encode().into_bytes();
            prop_assert_eq!(Place::decode(&text), Some(place));
            let at = at % text.len();
            let changed = text[at] != byte;
            text[at] = byte;
            prop_assert_eq!(Place::decode(&text).is_none(), changed);
            prop_assert_eq!(Place::decode(&text[..text.len() - 1]), None);
        }

        #[test]
        fn any_text_is_read_or_refused(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Place::decode(&text);
        }
    }
}
