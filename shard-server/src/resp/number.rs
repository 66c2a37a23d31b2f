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

/// Most digits of a number that [`short_line`] reads.
const SHORT_DIGITS: usize = 9;

/// The number in the line at `at`, behind its type byte, and where the next line begins; `None` unless it is as nearly all are:
/// there to its end, not negative, of at most [`SHORT_DIGITS`] digits. Where it is one, [`parse_i64`] would read the same.
pub fn short_line(input: &[u8], at: usize) -> Option<(usize, usize)> {
    let text = input.get(at + 1..)?;
    let digit = |byte: u8| usize::from(byte - b'0');
    // Names of commands, keys and most counts have lengths of one or two.
    match *text {
        [one @ b'0'..=b'9', b'\r', b'\n', ..] => return Some((digit(one), at + 4)),
        [ten @ b'1'..=b'9', one @ b'0'..=b'9', b'\r', b'\n', ..] => {
            return Some((10 * digit(ten) + digit(one), at + 5));
        }
        _ => {}
    }
    let mut number = 0;
    for (place, &byte) in text.iter().take(SHORT_DIGITS + 1).enumerate() {
        if byte == b'\r' {
            let whole = place > 0 && text.get(place + 1) == Some(&b'\n');
            let canonical = text[0] != b'0' || place == 1;
            return (whole && canonical).then_some((number, at + 1 + place + 2));
        }
        if !byte.is_ascii_digit() {
            return None;
        }
        number = number * 10 + digit(byte);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn short_lines_are_those_that_are_whole_and_plain() {
        let cases: [(&str, Option<(usize, usize)>); 12] = [
            ("*0\r\n", Some((0, 4))),
            ("$16\r\nkey", Some((16, 5))),
            ("$123456789\r\n", Some((123_456_789, 12))),
            ("$1234567890\r\n", None),
            ("$00\r\n", None),
            ("$01\r\n", None),
            ("$\r\n", None),
            ("$-1\r\n", None),
            ("$1\r", None),
            ("$1\rx", None),
            ("$1", None),
            ("", None),
        ];
        for (line, expected) in cases {
            assert_eq!(short_line(line.as_bytes(), 0), expected, "{line:?}");
        }
        assert_eq!(short_line(b"*1\r\n$7\r\n", 4), Some((7, 8)));
    }

    proptest! {
        #[test]
        fn a_short_line_is_the_number_that_its_text_spells(text in "[0-9a-]{0,11}", end in "\r\n|\n|\r|") {
            let line = format!("${text}{end}");
            let spelt = parse_i64(text.as_bytes()).filter(|&n| n >= 0 && text.len() <= SHORT_DIGITS && end == "\r\n");
            let spelt = spelt.map(|n| (usize::try_from(n).unwrap(), line.len()));
            prop_assert_eq!(short_line(line.as_bytes(), 0), spelt);
        }
    }

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
