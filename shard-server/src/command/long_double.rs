//! The 80-bit numbers that `INCRBYFLOAT` adds, read and written exactly as Redis does on x86-64.
//!
//! Redis keeps the sum in a C `long double`, which there has a significand of 64 bits. A sum of 64-bit floats would give
//! other digits (0.1 + 0.2 is 0.3 there), so the same arithmetic is done here in software, on every machine.
//!
//! ```text
//! text := ['+'|'-'] ( digits ['.' digits] [('e'|'E') ['+'|'-'] digits]            decimal
//!                   | '0x' hex ['.' hex] [('p'|'P') ['+'|'-'] digits]             hexadecimal
//!                   | 'inf' | 'infinity' )                                        in any case
//! ```
//!
//! A number that is not zero and too small to be kept, or too large, is no number; neither is NaN. The result is shown
//! with 17 digits behind the point, rounded half to even, and without the zeros at its end.

use num_bigint::BigUint;
use rustc_apfloat::ieee::X87DoubleExtended;
use rustc_apfloat::{Float, Round, Status};

/// Longest text of a number in bytes (Redis: `MAX_LONG_DOUBLE_CHARS`, its end included).
const MAX_TEXT_BYTES: usize = 5 * 1024 - 1;

/// No text of [`MAX_TEXT_BYTES`] is a finite number other than zero with an exponent beyond this.
const MAX_EXPONENT: i64 = 100_000;

/// Digits behind the point.
const DECIMALS: usize = 17;

/// Ten to the power of [`DECIMALS`].
const DECIMAL_UNIT: u128 = 100_000_000_000_000_000;

/// What the format adds to the exponent.
const BIAS: i32 = 16_383;

/// Bits of the significand behind its first.
const FRACTION_BITS: i32 = 63;

/// A number of the x87's format.
pub type LongDouble = X87DoubleExtended;

/// Nothing.
pub const ZERO: LongDouble = LongDouble::ZERO;

/// The number that `text` spells; `None` where it is none.
pub fn parse(text: &[u8]) -> Option<LongDouble> {
    if text.len() > MAX_TEXT_BYTES {
        return None;
    }
    let text = std::str::from_utf8(text).ok()?;
    let (negative, magnitude) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = magnitude.to_ascii_lowercase();
    let value = if lower == "inf" || lower == "infinity" {
        LongDouble::INFINITY
    } else {
        finite(&lower)?
    };
    Some(if negative { -value } else { value })
}

/// A number without a sign, in lower case.
fn finite(text: &str) -> Option<LongDouble> {
    let (prefix, digits, mark) = match text.strip_prefix("0x") {
        Some(rest) => ("0x", rest, 'p'),
        None => ("", text, 'e'),
    };
    let (digits, exponent) = match digits.split_once(mark) {
        Some((digits, exponent)) => (digits, checked_exponent(exponent)?),
        None => (digits, 0),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let is_digit = |byte: u8| {
        if mark == 'p' {
            byte.is_ascii_hexdigit()
        } else {
            byte.is_ascii_digit()
        }
    };
    if whole.len() + fraction.len() == 0 || !whole.bytes().chain(fraction.bytes()).all(is_digit) {
        return None;
    }
    if whole.bytes().chain(fraction.bytes()).all(|byte| byte == b'0') {
        return Some(LongDouble::ZERO);
    }
    // The parser's own grammar is narrower: it wants digits on both sides of the point, and an exponent after hex.
    let plain = format!("{prefix}0{whole}.{fraction}0{mark}{exponent}");
    let read = LongDouble::from_str_r(&plain, Round::NearestTiesToEven).ok()?;
    let lost = read.status.contains(Status::OVERFLOW) || read.value.is_zero();
    (!lost && read.value.is_finite()).then_some(read.value)
}

/// An exponent, cut to what can matter.
fn checked_exponent(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let size = digits.bytes().fold(0, |size: i64, byte| {
        (size * 10 + i64::from(byte - b'0')).min(MAX_EXPONENT)
    });
    Some(if negative { -size } else { size })
}

/// The sum, rounded as the x87 does; `None` where it is infinite or no number.
pub fn add(a: LongDouble, b: LongDouble) -> Option<LongDouble> {
    let sum = a.add_r(b, Round::NearestTiesToEven).value;
    sum.is_finite().then_some(sum)
}

/// A finite number as Redis shows it.
pub fn show(value: LongDouble) -> String {
    let bits = value.to_bits();
    let significand = bits & u128::from(u64::MAX);
    let biased = i32::try_from(bits >> 64 & 0x7fff).expect("15 bits");
    // A number is significand * 2^exponent; the smallest ones share their exponent with the least normal one.
    let exponent = biased.max(1) - BIAS - FRACTION_BITS;
    let text = match u32::try_from(exponent) {
        Ok(left) => (BigUint::from(significand) << left).to_string(),
        Err(_) => fraction(significand, exponent.unsigned_abs()),
    };
    if value.is_negative() && text != "0" {
        format!("-{text}")
    } else {
        text
    }
}

/// `significand / 2^right` with all its digits up to [`DECIMALS`].
fn fraction(significand: u128, right: u32) -> String {
    // 64 bits times 57 bits: it fits.
    let scaled = significand * DECIMAL_UNIT;
    let rounded = match right {
        0 => scaled,
        1..=127 => {
            let (floor, rest) = (scaled >> right, scaled & ((1 << right) - 1));
            let half = 1 << (right - 1);
            floor + u128::from(rest > half || (rest == half && floor & 1 == 1))
        }
        // Below half a unit of the last digit: 2^121 / 2^128.
        _ => 0,
    };
    let digits = format!("{rounded:0width$}", width = DECIMALS + 1);
    let (whole, fraction) = digits.split_at(digits.len() - DECIMALS);
    let fraction = fraction.trim_end_matches('0');
    if fraction.is_empty() {
        whole.to_owned()
    } else {
        format!("{whole}.{fraction}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sum(a: &str, b: &str) -> Option<String> {
        Some(show(add(parse(a.as_bytes())?, parse(b.as_bytes())?)?))
    }

    #[test]
    fn sums_have_the_digits_of_redis_7() {
        // Left, right, and what redis-server 7.0.15 answered on x86-64.
        for (a, b, expected) in [
            ("0.1", "0.2", "0.3"),
            ("10.5", "0.1", "10.6"),
            ("5.0e3", "2.0e2", "5200"),
            ("3", "-3", "0"),
            ("-0", "0", "0"),
            ("-1", "1e-30", "-1"),
            ("1e-17", "0", "0.00000000000000001"),
            ("0x10", "0x1p-1", "16.5"),
            ("0x.8", ".5", "1"),
            ("9007199254740993", "0", "9007199254740993"),
            ("1e22", "1", "10000000000000000000000"),
            ("17179869184.123456789", "0", "17179869184.12345678918063641"),
            ("+5.", "1", "6"),
        ] {
            assert_eq!(sum(a, b).as_deref(), Some(expected), "{a} + {b}");
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in [
            "",
            " 1",
            "1 ",
            "a",
            "1a",
            "1e",
            "1e+",
            ".",
            "+",
            "-",
            "--1",
            "0x",
            "0xg",
            "nan",
            "-nan",
            "1e5000",
            "-1e5000",
            "1e-5000",
            "0x1p99999",
            "1_0",
            "infin",
            "1\0",
            "٣",
        ] {
            assert!(parse(text.as_bytes()).is_none(), "{text:?}");
        }
        assert!(parse(&[b'1'; MAX_TEXT_BYTES + 1]).is_none());
        assert!(parse(b"\xff").is_none());
        assert!(parse(b"0e99999999999999999999").is_some_and(|zero| zero.is_zero()));
    }

    #[test]
    fn infinity_is_a_number_that_no_sum_may_be() {
        let infinite = parse(b"-InFinity").unwrap();
        assert!(infinite.is_infinite() && add(infinite, LongDouble::ZERO).is_none());
        let most = parse(b"1.1e4932").unwrap();
        assert!(add(most, most).is_none());
        assert_eq!(show(most).len(), 4933);
    }

    proptest! {
        #[test]
        fn integers_of_64_bits_are_exact(a: i64, b: i64) {
            let expected = i128::from(a) + i128::from(b);
            // A sum of 65 bits is rounded to 64.
            if expected.unsigned_abs() <= u128::from(u64::MAX) {
                prop_assert_eq!(sum(&a.to_string(), &b.to_string()), Some(expected.to_string()));
            }
        }

        #[test]
        fn what_is_shown_of_17_digits_reads_back_as_it_was(whole in 0_u32..1000, fraction in 0_u64..10_u64.pow(16)) {
            let text = format!("{whole}.{fraction:016}");
            let shown = show(parse(text.as_bytes()).unwrap());
            let again = show(parse(shown.as_bytes()).unwrap());
            prop_assert_eq!(shown, again);
        }

        #[test]
        fn random_text_never_panics(text in "[-+0-9a-fxpein. ]{0,30}") {
            if let Some(value) = parse(text.as_bytes()).filter(|value| value.is_finite()) {
                let _ = show(value);
            }
        }
    }
}
