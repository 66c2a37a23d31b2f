//! Series of windows: their line, their autocorrelation, and how long a block must be to hold it.
//!
//! The block length is Politis and White's (2004, "Automatic Block-Length Selection for the Dependent Bootstrap", with the
//! correction of Patton, Politis and White, 2009) for the circular block bootstrap: (2 G² / D · n)^(1/3), with G and D from
//! autocovariances under a flat-top window that reaches twice as far as the last one that is told from 0.

/// The arithmetic mean; 0 of nothing.
pub fn mean(values: &[f64]) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    values.iter().sum::<f64>() / values.len() as f64
}

/// The middle value, the upper of two; 0 of nothing.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

/// The variance of one value, with n − 1 in its denominator; 0 below two values.
pub fn variance(values: &[f64]) -> f64 {
    if values.len() < 2 {
        return 0.0;
    }
    let mean = mean(values);
    values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (values.len() - 1) as f64
}

/// Autocovariance at a lag, with n in its denominator so that the sequence is positive definite.
pub fn autocovariance(values: &[f64], lag: usize) -> f64 {
    if lag >= values.len() {
        return 0.0;
    }
    let mean = mean(values);
    let pairs = values.iter().zip(&values[lag..]);
    pairs.map(|(a, b)| (a - mean) * (b - mean)).sum::<f64>() / values.len() as f64
}

/// The straight line of least squares: by how much it rises from the first value's place to one past the last's.
pub fn rise(values: &[f64]) -> f64 {
    let n = values.len() as f64;
    let (middle, mean) = ((n - 1.0) / 2.0, mean(values));
    let (mut across, mut along) = (0.0, 0.0);
    for (place, value) in values.iter().enumerate() {
        let x = place as f64 - middle;
        across += x * (value - mean);
        along += x * x;
    }
    if along == 0.0 { 0.0 } else { n * across / along }
}

/// How many neighbouring values a block must hold for blocks to vary as the series does; 1 where values are independent,
/// at most a third of them and at most 3 √n, beyond which there are too few blocks to draw from.
pub fn block_length(values: &[f64]) -> usize {
    let count = values.len();
    let n = count as f64;
    let zero = autocovariance(values, 0);
    if count < 4 || zero <= 0.0 {
        return 1;
    }
    let longest = (3.0 * n.sqrt()).min(n / 3.0).ceil().max(1.0);
    let reach = 2 * last_correlated(values, zero);
    let (mut g, mut spectrum) = (0.0, zero);
    for lag in 1..=reach.min(count - 1) {
        let share = lag as f64 / reach as f64;
        let weight = if share <= 0.5 { 1.0 } else { 2.0 * (1.0 - share) };
        let covariance = weight * autocovariance(values, lag);
        g += 2.0 * lag as f64 * covariance;
        spectrum += 2.0 * covariance;
    }
    // A spectrum at 0 that is estimated as nothing or less is a series that takes back what it gave: any block holds it.
    if spectrum <= 0.0 {
        return 1;
    }
    let d = 4.0 / 3.0 * spectrum * spectrum;
    whole((2.0 * g * g / d * n).cbrt().ceil().clamp(1.0, longest))
}

/// The last lag before five (or √log10 n) in a row that cannot be told from 0.
fn last_correlated(values: &[f64], zero: f64) -> usize {
    let n = values.len() as f64;
    let bound = 2.0 * (n.log10() / n).sqrt() * zero;
    let in_a_row = whole(n.log10().sqrt().ceil().max(5.0));
    // Beyond √n + 5 autocovariances are made of too few pairs to be looked at.
    let farthest = whole(n.sqrt().ceil()) + in_a_row;
    let (mut last, mut quiet) = (0, 0);
    for lag in 1..=farthest.min(values.len() - 1) {
        if autocovariance(values, lag).abs() > bound {
            (last, quiet) = (lag, 0);
        } else {
            quiet += 1;
        }
        if quiet == in_a_row {
            break;
        }
    }
    last.max(1)
}

/// A float that is known to be small, whole and not negative.
#[expect(
    clippy::cast_possible_truncation,
    reason = "callers clamp it first, and a cast of floats saturates"
)]
fn whole(value: f64) -> usize {
    value as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::synthetic::ar1;
    use crate::workload::rng::Rng;

    #[test]
    fn a_line_rises_by_what_it_rises() {
        let line: Vec<f64> = (0..50).map(|i| 7.0 + f64::from(i) / 50.0).collect();
        assert!((rise(&line) - 1.0).abs() < 1e-12);
        assert!(rise(&[3.0]).abs() < 1e-12);
    }

    #[test]
    fn blocks_are_longer_where_windows_hang_together() {
        let mut rng = Rng::new(11);
        let mut average = |rho: f64| {
            let lengths = (0..40).map(|_| block_length(&ar1(&mut rng, 400, rho)) as f64);
            lengths.sum::<f64>() / 40.0
        };
        let (none, some, much) = (average(0.0), average(0.5), average(0.9));
        // In theory (2 g²n/d)^(1/3): for AR(1) of 0.5 and n = 400 about 9, of 0.9 about 50 (the cap is 60).
        assert!(none < 5.0, "{none}");
        assert!((6.0..14.0).contains(&some), "{some}");
        assert!(much > 25.0, "{much}");
    }

    #[test]
    fn series_of_nothing_or_of_one_value_have_blocks_of_one() {
        assert_eq!(block_length(&[]), 1);
        assert_eq!(block_length(&[5.0; 100]), 1);
        assert_eq!(block_length(&[1.0, 2.0, 3.0]), 1);
    }
}
