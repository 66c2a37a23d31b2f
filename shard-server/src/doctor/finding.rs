//! One line of the doctor's report, and how the report looks.

use std::fmt::{self, Write as _};

use corelane::io::checks::Check;
use serde::Serialize;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It costs speed, comfort, or safety in some cases.
    Warn,
    /// The server cannot run, or acknowledged writes can be lost.
    Fail,
}

impl Verdict {
    /// The status to end with.
    pub fn status(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Warn => 1,
            Self::Fail => 2,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
        })
    }
}

/// What was looked at, what was found, what it means, and what mends it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub name: &'static str,
    /// How bad it is.
    pub verdict: Verdict,
    /// What was found.
    pub cause: String,
    /// What that means; empty where it is as it should be.
    pub effect: String,
    /// The command that mends it, or what else does; empty where nothing has to be mended.
    pub mend: String,
}

impl Finding {
    /// As it should be.
    pub fn ok(name: &'static str, cause: impl Into<String>) -> Self {
        Self {
            name,
            verdict: Verdict::Ok,
            cause: cause.into(),
            effect: String::new(),
            mend: String::new(),
        }
    }

    /// It could be better.
    pub fn warn(
        name: &'static str,
        cause: impl Into<String>,
        effect: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        Self {
            name,
            verdict: Verdict::Warn,
            cause: cause.into(),
            effect: effect.into(),
            mend: mend.into(),
        }
    }

    /// It will not do.
    pub fn fail(
        name: &'static str,
        cause: impl Into<String>,
        effect: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        Self {
            verdict: Verdict::Fail,
            ..Self::warn(name, cause, effect, mend)
        }
    }

    /// What the server itself checks when it starts; `needed` says whether it refuses to start over it.
    pub fn of_start(check: Check, needed: bool) -> Self {
        if check.ok {
            Self::ok(check.name, check.cause)
        } else if needed {
            Self::fail(check.name, check.cause, check.effect, check.remedy)
        } else {
            Self::warn(check.name, check.cause, check.effect, check.remedy)
        }
    }
}

/// The worst verdict.
pub fn worst(findings: &[Finding]) -> Verdict {
    findings
        .iter()
        .map(|finding| finding.verdict)
        .max()
        .unwrap_or(Verdict::Ok)
}

/// The report for people.
pub fn report(findings: &[Finding]) -> String {
    let width = findings
        .iter()
        .map(|finding| finding.name.len())
        .max()
        .unwrap_or(0);
    let mut text = String::new();
    for finding in findings {
        let Finding {
            name,
            verdict,
            cause,
            effect,
            mend,
        } = finding;
        // Writing to a string does not fail.
        let _ = writeln!(text, "{verdict:<4}  {name:<width$}  {cause}");
        for (label, words) in [("effect", effect), ("mend", mend)] {
            if !words.is_empty() {
                let _ = writeln!(text, "      {:<width$}    {label}: {words}", "");
            }
        }
    }
    let count = |verdict| findings.iter().filter(|f| f.verdict == verdict).count();
    let _ = writeln!(
        text,
        "{} ok, {} warnings, {} failures",
        count(Verdict::Ok),
        count(Verdict::Warn),
        count(Verdict::Fail)
    );
    text
}

/// Only what mends, as a script to be read before it is run.
pub fn hints(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings.iter().filter(|finding| !finding.mend.is_empty()) {
        let _ = writeln!(text, "# {}: {}\n{}\n", finding.name, finding.cause, finding.mend);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_tells_everything_and_its_status_the_worst() {
        let findings = [
            Finding::ok("kernel", "Linux 6.1"),
            Finding::warn("scheduler", "mq-deadline", "slower", "echo none"),
        ];
        let text = report(&findings);
        for part in [
            "ok    kernel",
            "warn  scheduler  mq-deadline",
            "effect: slower",
            "mend: echo none",
            "1 warnings",
        ] {
            assert!(text.contains(part), "{part:?} in {text}");
        }
        assert_eq!(worst(&findings).status(), 1);
        assert_eq!(worst(&[]).status(), 0);
        assert_eq!(
            worst(&[Finding::fail("x", "", "", ""), Finding::ok("y", "")]).status(),
            2
        );
        assert_eq!(hints(&findings), "# scheduler: mq-deadline\necho none\n\n");
        let json = serde_json::to_value(&findings[1]).unwrap();
        assert_eq!(json["verdict"], "warn");
        assert_eq!(json["mend"], "echo none");
    }
}
