//! Numbers as people read them, the same in every table.

/// What stands where nothing is known: too few samples, or the engine does not tell.
pub const NOTHING: &str = "–";

/// A rate or a count, whole, with its thousands apart.
pub fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let sign = usize::from(digits.starts_with('-'));
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > sign && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Three figures or so.
pub fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 999.5 => thousands(value),
        size if size >= 99.95 => format!("{value:.0}"),
        size if size >= 9.995 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// [`short`], or [`NOTHING`].
pub fn short_or_nothing(value: Option<f64>) -> String {
    value.map_or(NOTHING.to_owned(), short)
}

/// Nanoseconds as microseconds, or [`NOTHING`].
pub fn micros(ns: Option<u64>) -> String {
    short_or_nothing(ns.map(|ns| ns as f64 / 1e3))
}

/// Bytes as MiB.
pub fn mib(bytes: u64) -> String {
    short(bytes as f64 / f64::from(1 << 20))
}

/// A share of 1 as a percentage.
pub fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_stand_apart() {
        let shown = [0.4, 999.0, 999.6, 1_234_567.0, -123.0, -1234.0].map(thousands);
        assert_eq!(shown, ["0", "999", "1,000", "1,234,567", "-123", "-1,234"]);
    }

    #[test]
    fn three_figures_are_kept_and_a_rounding_never_adds_one() {
        let shown = [0.0, 1.234, 9.999, 12.34, 99.99, 123.4, 999.9, 1234.0].map(short);
        assert_eq!(
            shown,
            ["0.00", "1.23", "10.0", "12.3", "100", "123", "1,000", "1,234"]
        );
    }

    #[test]
    fn what_is_unknown_is_a_dash_and_never_a_zero() {
        assert_eq!(micros(None), NOTHING);
        assert_eq!(micros(Some(0)), "0.00");
        assert_eq!(micros(Some(1500)), "1.50");
        assert_eq!(
            (mib(3 << 20), percent(0.426)),
            ("3.00".to_owned(), "43 %".to_owned())
        );
    }
}
