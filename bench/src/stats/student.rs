//! Student's t: how far a mean of few repeats may stray by chance.
//!
//! The tail is the regularised incomplete beta function, by its continued fraction (DLMF 8.17.22) evaluated with Lentz's
//! method; the quantile inverts the tail by bisection, which is slow and cannot fail.

/// Probability that a t of so many degrees of freedom lies as far from 0 as `t`, or farther, on either side.
///
/// # Panics
/// When `freedom` is not above 0.
pub fn two_sided_p(t: f64, freedom: f64) -> f64 {
    assert!(freedom > 0.0, "a t needs degrees of freedom");
    if t.is_infinite() {
        return 0.0;
    }
    incomplete_beta(freedom / (freedom + t * t), freedom / 2.0, 0.5)
}

/// The t that is exceeded, on either side, with probability `p`: 2.306 for 5 % and 8 degrees of freedom.
///
/// # Panics
/// When `p` is not within 0 to 1, both excluded.
pub fn two_sided_t(p: f64, freedom: f64) -> f64 {
    assert!(0.0 < p && p < 1.0, "a probability between 0 and 1");
    let (mut low, mut high) = (0.0_f64, 1.0_f64);
    // At one degree of freedom t grows as 1/p: 2^200 is beyond any probability that a double tells from 0.
    for _ in 0..200 {
        if two_sided_p(high, freedom) <= p {
            break;
        }
        high *= 2.0;
    }
    for _ in 0..100 {
        let middle = low.midpoint(high);
        if two_sided_p(middle, freedom) > p {
            low = middle;
        } else {
            high = middle;
        }
    }
    low.midpoint(high)
}

/// I_x(a, b).
fn incomplete_beta(x: f64, a: f64, b: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    if x >= 1.0 {
        return 1.0;
    }
    let front = (ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) + a * x.ln() + b * (1.0 - x).ln()).exp();
    // The fraction converges fast below the mean of the distribution; above it, the other tail's does.
    if x < (a + 1.0) / (a + b + 2.0) {
        front * fraction(x, a, b) / a
    } else {
        1.0 - front * fraction(1.0 - x, b, a) / b
    }
}

fn fraction(x: f64, a: f64, b: f64) -> f64 {
    let apart = |v: f64| if v.abs() < 1e-300 { 1e-300 } else { v };
    let mut c = 1.0;
    let mut d = 1.0 / apart(1.0 - (a + b) * x / (a + 1.0));
    let mut whole = d;
    // Far more steps than it takes: their number grows as the square root of the degrees of freedom.
    for step in 1..10_000 {
        let m = f64::from(step);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        d = 1.0 / apart(1.0 + even * d);
        c = apart(1.0 + even / c);
        whole *= c * d;
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        d = 1.0 / apart(1.0 + odd * d);
        c = apart(1.0 + odd / c);
        whole *= c * d;
        if (c * d - 1.0).abs() < 1e-14 {
            break;
        }
    }
    whole
}

/// ln Γ(x) for x > 0: Stirling's series from 12 up, reached by Γ(x+1) = xΓ(x).
fn ln_gamma(x: f64) -> f64 {
    let (mut x, mut below) = (x, 0.0);
    while x < 12.0 {
        below += x.ln();
        x += 1.0;
    }
    let square = x * x;
    let series = (1.0 / 12.0 - (1.0 / 360.0 - 1.0 / (1260.0 * square)) / square) / x;
    (x - 0.5) * x.ln() - x + 0.5 * std::f64::consts::TAU.ln() + series - below
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_printed_tables() {
        // Two-sided, from any table of Student's distribution.
        let table = [
            (0.05, 1.0, 12.706),
            (0.05, 4.0, 2.776),
            (0.05, 8.0, 2.306),
            (0.01, 8.0, 3.355),
            (0.001, 8.0, 5.041),
            (0.05, 30.0, 2.042),
            (0.05, 1e6, 1.960),
        ];
        for (p, freedom, t) in table {
            let got = two_sided_t(p, freedom);
            assert!(
                (got - t).abs() < 6e-4,
                "p {p}, {freedom} degrees: {got}, the table says {t}"
            );
            assert!((two_sided_p(got, freedom) - p).abs() < 1e-9);
        }
    }

    #[test]
    fn of_one_degree_it_is_cauchys() {
        for t in [0.0, 0.3, 1.0, 7.0, 1e4] {
            let cauchy = 1.0 - 2.0 / std::f64::consts::PI * f64::atan(t);
            assert!((two_sided_p(t, 1.0) - cauchy).abs() < 1e-10, "{t}");
            assert!((two_sided_p(-t, 1.0) - cauchy).abs() < 1e-10, "-{t}");
        }
        assert!(two_sided_p(f64::INFINITY, 8.0) == 0.0);
    }
}
