//! Decimal integers exactly as Redis reads them (`string2ll` in its `util.c`): no sign but `-`, no leading zeros, no
//! spaces, the whole text, in the range of 64 bits.

/// The integer that `text` spells; `None` where it is not one.
pub fn parse_i64(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    match digits {
        [b'0'] if !negative => return Some(0),
        [b'1'..=b'9', ..] if digits.len() <= 19 => {}
        _ => return None,
    }
    // Summed downwards, because the range reaches one further there.
    let mut total = 0_i64;
    for &byte in digits {
        if !byte.is_ascii_digit() {
            return None;
        }
        total = total.checked_mul(10)?.checked_sub(i64::from(byte - b'0'))?;
    }
    if negative {
        Some(total)
    } else {
        total.checked_neg()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_integer_reads_back_from_its_text() {
        for n in [
            0,
            1,
            -1,
            10,
            99,
            1_234_567_890_123_456_789,
            i64::MAX,
            i64::MIN,
            i64::MIN + 1,
        ] {
            assert_eq!(parse_i64(n.to_string().as_bytes()), Some(n));
        }
    }

    #[test]
    fn what_redis_refuses_is_refused() {
        for text in [
            "",
            "-",
            "+1",
            "-0",
            "00",
            "01",
            "1 ",
            " 1",
            "1.0",
            "0x1",
            "9223372036854775808",
            "-9223372036854775809",
            "99999999999999999999",
            "1a",
        ] {
            assert_eq!(parse_i64(text.as_bytes()), None, "{text:?}");
        }
    }
}
