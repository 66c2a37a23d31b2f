//! LEB128 variable-length integers, least significant seven bits first, as in LevelDB's `util/coding`.
//!
//! A decoder refuses an encoding that is longer than its shortest form, so that equal values have equal bytes.

/// The longest encoding of a `u64`, in bytes.
pub const MAX_BYTES: usize = 10;

/// Appends `value` to `out` in 1 to [`MAX_BYTES`] bytes.
pub fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the low seven bits and the continuation bit"
        )]
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    #[expect(clippy::cast_possible_truncation, reason = "below 0x80")]
    out.push(value as u8);
}

/// The number of bytes that [`put`] writes for `value`.
pub fn encoded_bytes(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// Takes one integer off the front of `input`; `None` where it is truncated, overlong or too large.
#[inline]
pub fn take(input: &mut &[u8]) -> Option<u64> {
    // Most lengths of keys are below 128, most of values below 16,384: one or two compares and no loop.
    let (&first, rest) = input.split_first()?;
    if first < 0x80 {
        *input = rest;
        return Some(u64::from(first));
    }
    match rest.split_first() {
        Some((&second, rest)) if (1..0x80).contains(&second) => {
            *input = rest;
            Some(u64::from(first & 0x7f) | u64::from(second) << 7)
        }
        _ => take_long(input),
    }
}

fn take_long(input: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for (index, &byte) in input.iter().take(MAX_BYTES).enumerate() {
        let bits = u64::from(byte & 0x7f);
        if index == MAX_BYTES - 1 && byte > 1 {
            return None;
        }
        value |= bits << (7 * index);
        if byte < 0x80 {
            if byte == 0 && index > 0 {
                return None;
            }
            *input = &input[index + 1..];
            return Some(value);
        }
    }
    None
}

/// Takes one integer as a length that must not exceed what is left of `input` after it.
pub fn take_len(input: &mut &[u8]) -> Option<usize> {
    let mut rest = *input;
    let value = usize::try_from(take(&mut rest)?).ok()?;
    if value > rest.len() {
        return None;
    }
    *input = rest;
    Some(value)
}

/// Takes a length and then that many bytes.
pub fn take_bytes<'a>(input: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = take_len(input)?;
    let (bytes, rest) = input.split_at_checked(len)?;
    *input = rest;
    Some(bytes)
}

/// Appends a length and then the bytes.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_of_encoding_round_trips() {
        for shift in 0..64 {
            for value in [(1_u64 << shift) - 1, 1 << shift, u64::MAX >> shift] {
                let mut out = Vec::new();
                put(&mut out, value);
                assert_eq!(out.len(), encoded_bytes(value), "{value}");
                let mut input = out.as_slice();
                assert_eq!(take(&mut input), Some(value));
                assert!(input.is_empty());
            }
        }
    }

    #[test]
    fn truncated_overlong_and_too_large_are_refused() {
        for bad in [
            &[][..],
            &[0x80],
            &[0x80, 0x00],
            &[0xff; 9],
            &[0xff; 11],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02],
        ] {
            assert_eq!(take(&mut &*bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_length_beyond_the_input_is_refused() {
        assert_eq!(take_bytes(&mut [5, 1, 2].as_slice()), None);
        let mut input = [2, 1, 2, 9].as_slice();
        assert_eq!(take_bytes(&mut input), Some([1, 2].as_slice()));
        assert_eq!(input, [9]);
    }
}
