//! What was measured, as a markdown table for people and as JSON for programs.

use crate::machine::Environment;
use crate::workload::Phase;

/// One figure.
#[derive(Debug, Clone)]
pub struct Row {
    /// Which engine, and how it was called.
    pub engine: &'static str,
    /// Its shards; 0 for an engine that has none.
    pub shards: u16,
    /// What was done.
    pub work: &'static str,
    /// Callers, each with one operation under way.
    pub callers: usize,
    /// What they did.
    pub phase: Phase,
    /// Processor seconds of the whole process meanwhile.
    pub cpu_seconds: f64,
    /// What the raw device loop did of the same, in operations a second.
    pub device_rate: Option<f64>,
    /// Anything else that was counted, by name.
    pub extra: Vec<(&'static str, f64)>,
}

/// Samples that must lie beyond a percentile before it is told.
const SAMPLES_BEYOND: f64 = 10.0;

impl Row {
    /// A percentile (0 to 1) of latency in microseconds; `None` on too few samples for it.
    pub fn percentile_us(&self, percentile: f64) -> Option<f64> {
        let samples = self.phase.tally.ops as f64;
        if samples * (1.0 - percentile) < SAMPLES_BEYOND {
            return None;
        }
        let found = self
            .phase
            .tally
            .latency_ns
            .quantile_bucket(percentile)
            .ok()
            .flatten()?;
        Some(found.end() as f64 / 1000.0)
    }

    fn cells(&self) -> Vec<String> {
        let us = |percentile| self.percentile_us(percentile).map_or("–".to_owned(), short);
        let rate = self.phase.rate();
        let ops = self.phase.tally.ops;
        let extra: Vec<_> = self
            .extra
            .iter()
            .map(|(name, value)| format!("{name} {}", short(*value)))
            .collect();
        vec![
            self.engine.to_owned(),
            if self.shards == 0 {
                "–".to_owned()
            } else {
                self.shards.to_string()
            },
            self.work.to_owned(),
            self.callers.to_string(),
            thousands(rate),
            us(0.5),
            us(0.99),
            us(0.999),
            thousands(ops as f64),
            short(self.cpu_seconds * 1e6 / ops.max(1) as f64),
            self.device_rate.map_or("–".to_owned(), thousands),
            self.device_rate.map_or("–".to_owned(), |device| {
                format!("{:.0} %", 100.0 * rate / device)
            }),
            extra.join(", "),
        ]
    }

    fn json(&self) -> Json {
        let latency = self
            .phase
            .tally
            .latency_ns
            .iter()
            .filter(|bucket| bucket.count() > 0);
        let buckets = latency.map(|bucket| {
            Json::Array(vec![
                Json::Number(bucket.start() as f64),
                Json::Number(bucket.end() as f64),
                Json::Number(bucket.count() as f64),
            ])
        });
        Json::Object(vec![
            ("engine", Json::Text(self.engine.to_owned())),
            ("shards", Json::Number(f64::from(self.shards))),
            ("work", Json::Text(self.work.to_owned())),
            ("callers", Json::Number(self.callers as f64)),
            ("operations", Json::Number(self.phase.tally.ops as f64)),
            ("seconds", Json::Number(self.phase.elapsed.as_secs_f64())),
            ("cpu_seconds", Json::Number(self.cpu_seconds)),
            (
                "device_operations_per_second",
                self.device_rate.map_or(Json::Null, Json::Number),
            ),
            (
                "extra",
                Json::Object(
                    self.extra
                        .iter()
                        .map(|(name, value)| (*name, Json::Number(*value)))
                        .collect(),
                ),
            ),
            ("latency_ns_from_to_count", Json::Array(buckets.collect())),
        ])
    }
}

const HEADS: [&str; 13] = [
    "engine",
    "shards",
    "work",
    "callers",
    "ops/s",
    "p50 µs",
    "p99 µs",
    "p99.9 µs",
    "samples",
    "CPU µs/op",
    "device ops/s",
    "÷ device",
    "also",
];

/// The whole report as markdown; `about` are lines on how it was measured.
pub fn markdown(environment: &Environment, about: &[String], rows: &[Row]) -> String {
    let mut out = format!(
        "`{}`\n\n{} UTC, commit {}; {}, {} MiB, Linux {}, {}; load averages at the start {}.\n",
        environment.command,
        environment.date,
        environment.commit,
        environment.processor,
        environment.memory_mib,
        environment.kernel,
        environment.filesystem,
        environment.load,
    );
    for line in about {
        out.push_str(&format!("\n- {line}"));
    }
    out.push_str(&format!(
        "\n\n| {} |\n|{}\n",
        HEADS.join(" | "),
        "---|".repeat(HEADS.len())
    ));
    for row in rows {
        out.push_str(&format!("| {} |\n", row.cells().join(" | ")));
    }
    out
}

/// The whole report as JSON, with every histogram's buckets.
pub fn json(environment: &Environment, about: &[String], rows: &[Row]) -> String {
    let text = |text: &String| Json::Text(text.clone());
    Json::Object(vec![
        ("date_utc", text(&environment.date)),
        ("commit", text(&environment.commit)),
        ("command", text(&environment.command)),
        ("processor", text(&environment.processor)),
        ("memory_mib", Json::Number(environment.memory_mib as f64)),
        ("kernel", text(&environment.kernel)),
        ("filesystem", text(&environment.filesystem)),
        ("load_averages", text(&environment.load)),
        ("about", Json::Array(about.iter().map(text).collect())),
        ("rows", Json::Array(rows.iter().map(Row::json).collect())),
    ])
    .to_string()
}

/// A rate or a count with its thousands apart.
fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Three figures or so.
fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 1000.0 => thousands(value),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// As much of JSON as the report needs.
enum Json {
    Null,
    Number(f64),
    Text(String),
    Array(Vec<Json>),
    Object(Vec<(&'static str, Json)>),
}

impl std::fmt::Display for Json {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            // JSON knows neither infinity nor NaN.
            Self::Number(number) if !number.is_finite() => f.write_str("null"),
            Self::Number(number) => write!(f, "{number}"),
            Self::Text(text) => write_text(f, text),
            Self::Array(items) => {
                f.write_str("[")?;
                for (at, item) in items.iter().enumerate() {
                    write!(f, "{}{item}", if at > 0 { "," } else { "" })?;
                }
                f.write_str("]")
            }
            Self::Object(members) => {
                f.write_str("{")?;
                for (at, (name, member)) in members.iter().enumerate() {
                    f.write_str(if at > 0 { ",\n" } else { "" })?;
                    write_text(f, name)?;
                    write!(f, ":{member}")?;
                }
                f.write_str("}")
            }
        }
    }
}

fn write_text(f: &mut std::fmt::Formatter<'_>, text: &str) -> std::fmt::Result {
    f.write_str("\"")?;
    for letter in text.chars() {
        match letter {
            '"' | '\\' => write!(f, "\\{letter}")?,
            control if control < ' ' => write!(f, "\\u{:04x}", u32::from(control))?,
            other => write!(f, "{other}")?,
        }
    }
    f.write_str("\"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::Tally;
    use std::time::Duration;

    fn row(ops: u64) -> Row {
        let mut tally = Tally::new();
        for number in 0..ops {
            tally.record(Duration::from_micros(100 + number % 100));
        }
        Row {
            engine: "corelane",
            shards: 2,
            work: "durable put",
            callers: 16,
            phase: Phase {
                tally,
                elapsed: Duration::from_millis(500),
            },
            cpu_seconds: 0.25,
            device_rate: Some(ops as f64 * 4.0),
            extra: vec![("puts a group", 7.25)],
        }
    }

    fn environment() -> Environment {
        Environment {
            date: "2026-11-21 07:24".to_owned(),
            processor: "P, 2 cores".to_owned(),
            kernel: "6.18".to_owned(),
            filesystem: "ext4 on /dev/vda".to_owned(),
            memory_mib: 24_000,
            load: "0.10 0.20 0.30".to_owned(),
            commit: "abc".to_owned(),
            command: "corelane-bench figures --dir \"x\"".to_owned(),
        }
    }

    #[test]
    fn a_table_says_what_was_measured() {
        let text = markdown(
            &environment(),
            &["values are random".to_owned()],
            &[row(1000), row(100_000)],
        );
        let lines: Vec<_> = text.lines().filter(|line| line.starts_with('|')).collect();
        assert_eq!(lines.len(), 4);
        assert!(
            lines
                .iter()
                .all(|line| line.matches('|').count() == HEADS.len() + 1),
            "{text}"
        );
        let first = "| corelane | 2 | durable put | 16 | 2,000 | 150 | 199 | – | 1,000 | 250 | 4,000 | 50 % | puts a group 7.25 |";
        assert_eq!(lines[2], first);
        assert!(lines[3].contains("| 100,000 |"));
        for part in [
            "2026-11-21 07:24",
            "abc",
            "6.18",
            "ext4",
            "- values are random",
            "figures --dir",
        ] {
            assert!(text.contains(part), "{part}");
        }
    }

    #[test]
    fn a_percentile_needs_samples_beyond_it() {
        assert_eq!(row(9_999).percentile_us(0.999), None);
        assert!(row(10_001).percentile_us(0.999).is_some());
        assert_eq!(row(999).percentile_us(0.99), None);
        assert_eq!(row(5).percentile_us(0.5), None);
    }

    #[test]
    fn json_holds_every_sample_and_escapes_what_it_must() {
        let text = json(&environment(), &["tab\there".to_owned()], &[row(1000)]);
        assert!(
            text.contains(r#""command":"corelane-bench figures --dir \"x\"""#),
            "{text}"
        );
        assert!(text.contains(r#""about":["tab\u0009here"]"#), "{text}");
        let (_, buckets) = text.split_once("\"latency_ns_from_to_count\":[[").unwrap();
        let counts = buckets.split("],[").map(|bucket| {
            let count = bucket.split(',').nth(2).unwrap();
            count
                .trim_end_matches(|c: char| !c.is_ascii_digit())
                .parse::<u64>()
                .unwrap()
        });
        assert_eq!(counts.sum::<u64>(), 1000);
        assert_eq!(text.matches('{').count(), text.matches('}').count());
        assert_eq!(Json::Number(f64::NAN).to_string(), "null");
    }

    #[test]
    fn numbers_are_readable() {
        assert_eq!(
            (thousands(0.4), thousands(999.0), thousands(1_234_567.0)),
            ("0".into(), "999".into(), "1,234,567".into())
        );
        assert_eq!(
            (short(1.234), short(12.34), short(123.4), short(1234.0)),
            ("1.23".into(), "12.3".into(), "123".into(), "1,234".into())
        );
    }
}
