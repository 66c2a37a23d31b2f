//! Cursors of scans: where a page ended, as a text that clients hand back without looking into it. Pure.
//!
//! ```text
//! base64url without padding of
//! offset size
//!      0    1  version, 1
//!      1    8  xxh3-64 over the scan's own range and the key below, little-endian
//!      9    n  the last key given
//! ```
//!
//! The sum is over the range, too, so that a cursor is refused by a scan that it did not come from. It is no secret and
//! guards against mistakes only: whoever may scan may scan everything.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use corelane::types::MAX_KEY_BYTES;
use xxhash_rust::xxh3::Xxh3;

use super::problem::Problem;

const VERSION: u8 = 1;
const HEAD_BYTES: usize = 9;

/// The cursor of a scan over `range` that has given `key` last.
pub fn encode(range: &[&[u8]], key: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(HEAD_BYTES + key.len());
    bytes.push(VERSION);
    bytes.extend_from_slice(&sum(range, key).to_le_bytes());
    bytes.extend_from_slice(key);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The key that a cursor over `range` has given last.
///
/// # Errors
/// It is none of ours, or not of this range.
pub fn decode(range: &[&[u8]], cursor: &str) -> Result<Vec<u8>, Problem> {
    let not_ours = || {
        Problem::bad_request(
            "cursor: it is not one that a scan of this range gave; pass it unchanged, with the same parameters",
        )
    };
    // Four characters carry three bytes: nothing longer can hold a key.
    if cursor.len() > (HEAD_BYTES + MAX_KEY_BYTES).div_ceil(3) * 4 {
        return Err(not_ours());
    }
    let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| not_ours())?;
    let (head, key) = bytes.split_at_checked(HEAD_BYTES).ok_or_else(not_ours)?;
    if head[0] == VERSION && head[1..] == sum(range, key).to_le_bytes() {
        Ok(key.to_vec())
    } else {
        Err(not_ours())
    }
}

fn sum(range: &[&[u8]], key: &[u8]) -> u64 {
    let mut hasher = Xxh3::new();
    for part in range.iter().copied().chain([key]) {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.digest()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_for_its_own_range_only() {
        for key in [b"".as_slice(), b"k", b"\xff\0", &[7; MAX_KEY_BYTES]] {
            let cursor = encode(&[b"a", b"b"], key);
            assert_eq!(decode(&[b"a", b"b"], &cursor).unwrap(), key);
            assert!(decode(&[b"ab", b""], &cursor).is_err());
            assert!(decode(&[b"a"], &cursor).is_err());
        }
    }

    #[test]
    fn what_is_no_cursor_is_refused() {
        let sound = encode(&[], b"key");
        for at in 0..sound.len() {
            let mut bad = sound.clone().into_bytes();
            bad[at] = if bad[at] == b'A' { b'B' } else { b'A' };
            assert!(
                decode(&[], &String::from_utf8(bad).unwrap()).is_err(),
                "byte {at}"
            );
        }
        for bad in ["", "A", "!!!!", &"A".repeat(100_000)] {
            assert!(decode(&[], bad).is_err());
        }
    }
}
