//! Logarithm and exponential from additions, multiplications and divisions alone.
//!
//! The C library's differ in their last bits from version to version and from processor to processor (glibc takes other
//! code where there is a fused multiply-add), and one such bit would now and then give another key: a seed would no
//! longer mean the same operations everywhere. IEEE 754 fixes the result of every operation used here, and Rust never
//! contracts them. They are right to about 1 part in 10^14, far more than a choice of keys needs.
//!
//! Each polynomial is summed in two halves, of even and of odd powers, so that the processor works on both at once.

use std::f64::consts::{LOG2_E, SQRT_2};

/// ln 2 in two parts: the upper has zeros at its end, so that its product with a small whole number is exact.
const LN_2_HIGH: f64 = 6.931_471_803_691_238e-1;
const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10;

/// The natural logarithm of a positive, normal number.
#[inline]
pub fn ln(x: f64) -> f64 {
    debug_assert!(x >= f64::MIN_POSITIVE && x.is_finite(), "ln of {x}");
    let bits = x.to_bits();
    let exponent = (bits >> 52) as i32 - 1023;
    let mantissa = f64::from_bits((bits & ((1 << 52) - 1)) | (1023 << 52));
    let (mantissa, exponent) = if mantissa > SQRT_2 {
        (mantissa / 2.0, exponent + 1)
    } else {
        (mantissa, exponent)
    };
    let exponent = f64::from(exponent);
    exponent * LN_2_HIGH + (ln_1p_small(mantissa - 1.0) + exponent * LN_2_LOW)
}

/// `ln(1 + x) / x`, and 1 for 0; `x` is above -1.
#[inline]
pub fn ln_1p_over(x: f64) -> f64 {
    if x.abs() > 0.41 {
        return ln((1.0 + x).max(f64::MIN_POSITIVE)) / x;
    }
    let s = 1.0 / (2.0 + x);
    2.0 * s * atanh_over((x * s) * (x * s))
}

/// `e` to the `x`; what would overflow or underflow gives the largest or smallest that does not.
#[inline]
#[expect(
    clippy::cast_possible_truncation,
    reason = "the number is bounded just before"
)]
pub fn exp(x: f64) -> f64 {
    let x = x.clamp(-708.0, 709.0);
    // 2048 makes it positive, so that cutting off rounds down.
    let power = (x * LOG2_E + 2048.5) as i32 - 2048;
    let rest = (x - f64::from(power) * LN_2_HIGH) - f64::from(power) * LN_2_LOW;
    let scale = f64::from_bits(u64::from((power + 1023).unsigned_abs()) << 52);
    scale * (1.0 + rest * exp_m1_small_over(rest))
}

/// `(e^x - 1) / x`, and 1 for 0.
#[inline]
pub fn exp_m1_over(x: f64) -> f64 {
    if x.abs() > 0.36 {
        return (exp(x) - 1.0) / x;
    }
    exp_m1_small_over(x)
}

/// Taylor's series of `(e^x - 1) / x` to `x^12 / 13!`: below 2e-17 is left out where |x| is at most 0.36.
#[inline]
fn exp_m1_small_over(x: f64) -> f64 {
    const TERMS: [f64; 13] = {
        let mut terms = [1.0; 13];
        let mut at = 1;
        while at < 13 {
            terms[at] = terms[at - 1] / (at + 1) as f64;
            at += 1;
        }
        terms
    };
    halves(&TERMS, x)
}

/// `ln(1 + x)` for |x| at most 0.42.
#[inline]
fn ln_1p_small(x: f64) -> f64 {
    let s = x / (2.0 + x);
    2.0 * s * atanh_over(s * s)
}

/// The series of `atanh(s) / s` in `s`²: `ln(1 + x)` is twice `atanh(x / (2 + x))`. Its argument is at most 0.071, where
/// less than 1e-16 is left out.
#[inline]
fn atanh_over(square: f64) -> f64 {
    const TERMS: [f64; 13] = {
        let mut terms = [1.0; 13];
        let mut at = 1;
        while at < 13 {
            terms[at] = 1.0 / (2 * at + 1) as f64;
            at += 1;
        }
        terms
    };
    halves(&TERMS, square)
}

/// The polynomial with these terms, its even and odd powers summed apart.
#[inline]
fn halves(terms: &[f64; 13], x: f64) -> f64 {
    let square = x * x;
    let (mut even, mut odd) = (terms[12], terms[11]);
    let mut at = 10;
    while at >= 2 {
        even = even * square + terms[at];
        odd = odd * square + terms[at - 1];
        at -= 2;
    }
    (even * square + terms[0]) + odd * x
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::rng::Rng;

    #[test]
    fn they_agree_with_the_c_library_to_one_part_in_ten_to_the_thirteen() {
        let near = |ours: f64, theirs: f64, of: &str, x: f64| {
            let error = (ours - theirs).abs() / theirs.abs().max(1e-3);
            assert!(error < 1e-13, "{of} of {x}: {ours} instead of {theirs}");
        };
        let mut rng = Rng::new(1);
        for _ in 0..100_000 {
            let wide = (rng.unit() - 0.5) * 1400.0;
            let small = (rng.unit() - 0.5) * 1.9;
            let number = wide.exp();
            near(ln(number), number.ln(), "ln", number);
            near(ln(1.0 + small), (1.0 + small).ln(), "ln", 1.0 + small);
            near(exp(small), small.exp(), "exp", small);
            // A relative error of the argument is an absolute one of the logarithm, so it grows with it.
            assert!((exp(wide) / number - 1.0).abs() < 1e-12, "exp of {wide}");
            near(exp_m1_over(small), small.exp_m1() / small, "exp_m1", small);
            near(ln_1p_over(small), small.ln_1p() / small, "ln_1p", small);
        }
    }

    #[test]
    fn at_the_ends_they_are_finite() {
        assert_eq!(ln(1.0), 0.0);
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp_m1_over(0.0), 1.0);
        assert_eq!(ln_1p_over(0.0), 1.0);
        assert!(ln_1p_over(-1.0).is_finite());
        assert!(exp(1e300).is_finite() && exp(-1e300) > 0.0);
    }

    #[test]
    fn their_bits_are_the_same_everywhere() {
        let bits = [
            ln(3.0),
            exp(1.0),
            exp_m1_over(0.25),
            ln_1p_over(0.25),
            ln(1e9),
            exp(20.5),
        ]
        .map(f64::to_bits);
        let golden = [
            4_607_626_529_066_517_258,
            4_613_303_445_314_885_482,
            4_607_795_366_215_681_562,
            4_606_214_813_261_666_849,
            4_626_526_298_450_952_120,
            4_739_993_274_171_579_740,
        ];
        assert_eq!(bits, golden);
    }
}
