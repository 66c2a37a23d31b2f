//! A comparison as lines of text.

use std::fmt;

use crate::stats::compare::{Comparison, Line, Verdict};

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n  against {}", self.b, self.a)?;
        if let Some(refused) = &self.refused {
            return writeln!(f, "not compared: {refused}");
        }
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        let mut place = String::new();
        for line in &self.lines {
            let now = line.place();
            if now != place {
                writeln!(f, "{now}")?;
                place = now;
            }
            writeln!(f, "  {line}")?;
        }
        writeln!(
            f,
            "Ratios are second over first. In {:.0} % of comparisons of equal things one or more of the {} figures tested here \
             would wrongly be called different (Holm); intervals are of the level at which each was tested. Within {:.0} % is \
             no difference.",
            self.limits.error_rate * 100.0,
            self.family,
            self.limits.smallest_effect * 100.0
        )
    }
}

impl Line {
    /// Engine, phase and group.
    fn place(&self) -> String {
        match &self.group {
            Some(group) => format!("{}, {}, {group}", self.engine, self.phase),
            None => format!("{}, {}, the whole phase", self.engine, self.phase),
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.figure)?;
        if let (Some(a), Some(b), Some(ratio)) = (self.a, self.b, self.ratio) {
            write!(
                f,
                "{} to {}, ratio {ratio:.3}",
                self.figure.show(a),
                self.figure.show(b)
            )?;
            if let Some([low, high]) = self.interval {
                write!(f, " ({low:.3} to {high:.3})")?;
            }
            write!(f, ": ")?;
        }
        let percent = self.ratio.map_or(0.0, |ratio| (ratio - 1.0).abs() * 100.0);
        match &self.verdict {
            Verdict::Faster if self.figure.is_cost() => write!(f, "less, by {percent:.1} %")?,
            Verdict::Slower if self.figure.is_cost() => write!(f, "more, by {percent:.1} %")?,
            Verdict::Faster => write!(f, "faster, by {percent:.1} %")?,
            Verdict::Slower => write!(f, "slower, by {percent:.1} %")?,
            Verdict::NoDetectableDifference => f.write_str("no detectable difference")?,
            Verdict::CannotTell(why) => write!(f, "cannot tell: {why}")?,
        }
        if self.made_of.is_empty() {
            Ok(())
        } else {
            write!(f, " [{}]", self.made_of)
        }
    }
}
