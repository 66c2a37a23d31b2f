//! Whether fio and the raw loop agree: within 10 %, each by the median of its runs, and no less than the raw loop agrees
//! with itself. Pure.
//!
//! Runs are interleaved (raw, fio, raw, …, fio, raw), so that both meet the same drift of the device. Where the raw loop's
//! own runs lie further apart than fio is from their median, the difference cannot be told from drift, and that is said
//! instead of a verdict.

/// The share by which the two may differ.
pub const TOLERANCE: f64 = 0.10;

/// One measure of a job: operations a second, or a percentile of its times.
#[derive(Debug, Clone, PartialEq)]
pub struct Measure {
    /// Its name in tables.
    pub name: &'static str,
    /// Each run of fio.
    pub fio: Vec<f64>,
    /// Each run of the raw loop, one more than fio's.
    pub raw: Vec<f64>,
}

/// What can be said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The two are within 10 % of each other.
    Agree,
    /// They are not, but the raw loop's own runs lie further apart than that.
    Drift,
    /// They are not.
    Differ,
}

impl Measure {
    /// How far fio's median lies from the raw loop's, as a share of it: 0.05 is 5 % more.
    pub fn difference(&self) -> f64 {
        median(&self.fio) / median(&self.raw) - 1.0
    }

    /// How far the raw loop's own runs lie apart, as a share of their median.
    pub fn drift(&self) -> f64 {
        let most = self.raw.iter().copied().fold(f64::MIN, f64::max);
        let least = self.raw.iter().copied().fold(f64::MAX, f64::min);
        (most - least) / median(&self.raw)
    }

    /// What can be said of it.
    pub fn verdict(&self) -> Verdict {
        let difference = self.difference().abs();
        if difference <= TOLERANCE {
            Verdict::Agree
        } else if difference <= self.drift() {
            Verdict::Drift
        } else {
            Verdict::Differ
        }
    }
}

/// Of several measures the worst verdict, with the measures that it is about.
pub fn worst(measures: &[Measure]) -> (Verdict, Vec<&Measure>) {
    for verdict in [Verdict::Differ, Verdict::Drift] {
        let about: Vec<&Measure> = measures
            .iter()
            .filter(|measure| measure.verdict() == verdict)
            .collect();
        if !about.is_empty() {
            return (verdict, about);
        }
    }
    (Verdict::Agree, Vec::new())
}

/// In words, for the table.
pub fn words(measures: &[Measure]) -> String {
    let (verdict, about) = worst(measures);
    let list =
        |each: &dyn Fn(&Measure) -> String| about.iter().map(|m| each(m)).collect::<Vec<_>>().join(", ");
    match verdict {
        Verdict::Agree => "agree".to_owned(),
        Verdict::Drift => {
            let each = |m: &Measure| {
                let (off, drift) = (100.0 * m.difference(), 100.0 * m.drift());
                format!("{} off by {off:+.0} %, raw drifted by {drift:.0} %", m.name)
            };
            format!("cannot tell: {}", list(&each))
        }
        Verdict::Differ => {
            let each = |m: &Measure| format!("{} {:+.0} %", m.name, 100.0 * m.difference());
            format!("differ: fio's {}", list(&each))
        }
    }
}

/// The middle one; of an even number the mean of the two in the middle.
///
/// # Panics
/// Of nothing.
pub fn median(values: &[f64]) -> f64 {
    assert!(!values.is_empty(), "a median is of something");
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    if sorted.len().is_multiple_of(2) {
        f64::midpoint(sorted[half - 1], sorted[half])
    } else {
        sorted[half]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measure(fio: &[f64], raw: &[f64]) -> Measure {
        Measure {
            name: "IOPS",
            fio: fio.to_vec(),
            raw: raw.to_vec(),
        }
    }

    #[test]
    fn within_ten_per_cent_they_agree_whatever_the_drift() {
        let close = measure(&[105.0, 109.0, 40.0], &[100.0, 101.0, 99.0, 100.0]);
        assert_eq!(close.verdict(), Verdict::Agree);
        assert_eq!(words(&[close]), "agree");
    }

    #[test]
    fn a_difference_beyond_the_raw_loops_own_spread_is_told_with_its_sign() {
        let far = measure(&[80.0], &[100.0, 102.0]);
        assert_eq!(far.verdict(), Verdict::Differ);
        assert_eq!(words(&[measure(&[1.0], &[1.0]), far]), "differ: fio's IOPS -21 %");
    }

    #[test]
    fn a_difference_that_drift_explains_is_no_verdict() {
        let drifting = measure(&[120.0], &[100.0, 130.0, 90.0]);
        assert_eq!(drifting.verdict(), Verdict::Drift);
        let told = words(&[drifting]);
        assert!(
            told.contains("cannot tell") && told.contains("drifted by 40 %"),
            "{told}"
        );
    }

    #[test]
    fn medians_are_of_odd_and_even_numbers() {
        assert_eq!(median(&[3.0, 1.0, 2.0]).to_bits(), 2.0_f64.to_bits());
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]).to_bits(), 2.5_f64.to_bits());
    }
}
