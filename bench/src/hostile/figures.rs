//! What was measured, as it is stored, and the tables of it. Pure.

use comfy_table::{Table, presets};
use serde::{Deserialize, Serialize};

use crate::hostile::clients::Served;
use crate::hostile::kinds::Kind;
use crate::hostile::polite::Heard;
use crate::result::{Environment, Latency};

/// The most that the p99 of polite clients may rise.
pub const ALLOWED_RATIO: f64 = 2.0;

/// Everything that a run found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Found {
    /// The machine, and what else it did.
    pub environment: Environment,
    /// Reads and writes a second of all polite clients.
    pub rate: f64,
    /// Whether polite clients had their core before everybody else (real-time); without, how late they began is much of
    /// what they met.
    #[serde(default)]
    pub polite_first: bool,
    /// Each kind, round after round.
    pub figures: Vec<Figure>,
}

/// One kind in one round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// Which.
    pub kind: Kind,
    /// Load average of the machine when it began: another program's work spoils figures.
    pub load: String,
    /// Polite clients before the harm and after it, together.
    pub alone: Times,
    /// Before it.
    pub before: Times,
    /// After it.
    pub after: Times,
    /// Beside it.
    pub beside: Times,
    /// While another server had it.
    pub control: Option<Times>,
    /// What the hostile process did beside the measured clients.
    pub served: Served,
    /// What it did to the other server.
    pub control_served: Option<Served>,
    /// What the harm took of the server.
    pub server: Server,
}

/// What the server took while it was harmed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Server {
    /// Processor seconds a second.
    pub cpu_share: f64,
    /// The same while only polite clients were there.
    pub cpu_share_alone: f64,
    /// Memory resident before.
    pub before_bytes: u64,
    /// The most that was resident.
    pub peak_bytes: u64,
}

/// Response times of polite clients.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Times {
    /// Of reads.
    pub reads: Percentiles,
    /// Of writes.
    pub writes: Percentiles,
    /// p99 of how late a free client began by its own fault, in µs.
    pub lag_p99_us: f64,
    /// Why the schedule was not kept: the percentiles are then too low, if anything.
    pub not_kept: Option<String>,
}

/// Of a histogram, in µs; a percentile of too few samples is 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    /// How many were measured.
    pub count: u64,
    /// Half are no longer.
    pub p50_us: f64,
    /// 99 of a hundred.
    pub p99_us: f64,
    /// 999 of a thousand.
    pub p999_us: f64,
    /// The longest.
    pub max_us: f64,
}

impl From<&Latency> for Percentiles {
    #[expect(
        clippy::cast_precision_loss,
        reason = "nanoseconds of minutes, far below 2^52"
    )]
    fn from(latency: &Latency) -> Self {
        let us = |ns: Option<u64>| ns.map_or(0.0, |ns| ns as f64 / 1000.0);
        Self {
            count: latency.count(),
            p50_us: us(latency.median_ns()),
            p99_us: us(latency.percentile_ns(0.99)),
            p999_us: us(latency.percentile_ns(0.999)),
            max_us: us(latency.max_ns()),
        }
    }
}

impl From<&Heard> for Times {
    fn from(heard: &Heard) -> Self {
        Self {
            reads: (&heard.reads).into(),
            writes: (&heard.writes).into(),
            lag_p99_us: Percentiles::from(&heard.lag).p99_us,
            not_kept: heard.not_kept.clone(),
        }
    }
}

/// How many times longer; 0 where one of the two was not measured.
pub fn ratio(beside: f64, alone: f64) -> f64 {
    if alone > 0.0 { beside / alone } else { 0.0 }
}

/// The middle one; of an even number the upper of the two.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// Reads or writes of what was measured.
type Side = fn(&Times) -> &Percentiles;

const SIDES: [(&str, Side); 2] = [("GET", |times| &times.reads), ("SET", |times| &times.writes)];

/// Both tables, and which kinds go beyond what is allowed.
pub fn show(found: &Found) -> String {
    let mut kinds: Vec<Kind> = Vec::new();
    for figure in &found.figures {
        if !kinds.contains(&figure.kind) {
            kinds.push(figure.kind);
        }
    }
    let of = |kind: Kind| {
        found
            .figures
            .iter()
            .filter(|figure| figure.kind == kind)
            .collect::<Vec<_>>()
    };
    let (mut times, mut cost) = (times_header(), cost_header());
    let mut beyond = Vec::new();
    for kind in kinds {
        let figures = of(kind);
        for (what, side) in SIDES {
            let ratio = times_row(&mut times, kind, what, side, &figures);
            if ratio > ALLOWED_RATIO && kind != Kind::Busy {
                beyond.push(format!("{} ({what} {ratio:.1}x)", kind.name()));
            }
        }
        cost_row(&mut cost, kind, &figures);
    }
    let verdict = match beyond.as_slice() {
        [] => format!("no kind raises the p99 of polite clients beyond {ALLOWED_RATIO}x"),
        beyond => format!("beyond {ALLOWED_RATIO}x: {}", beyond.join(", ")),
    };
    format!(
        "{:.0} polite operations a second, half of them reads, in an open loop; medians of rounds; times in µs from the \
         intended start\n{times}\nhostile and polite clients share the cores that the server leaves, where the polite \
         come first; control: the same harm done to another server on those cores\n{cost}\n{verdict}\n",
        found.rate
    )
}

fn times_header() -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header([
        "harm",
        "what",
        "alone p50",
        "p99",
        "p99.9",
        "beside p50",
        "p99",
        "p99.9",
        "p99 ratio",
        "control's",
        "alone's apart",
    ]);
    table
}

/// Adds a row and gives its ratio.
fn times_row(table: &mut Table, kind: Kind, what: &str, side: Side, figures: &[&Figure]) -> f64 {
    let of = |value: &dyn Fn(&Figure) -> f64| median(figures.iter().map(|figure| value(figure)).collect());
    let p99 = |times: &Times| side(times).p99_us;
    let beside = of(&|f| ratio(p99(&f.beside), p99(&f.alone)));
    let control = of(&|f| {
        f.control
            .as_ref()
            .map_or(0.0, |control| ratio(p99(control), p99(&f.alone)))
    });
    let apart = of(&|f| {
        let (one, other) = (p99(&f.before), p99(&f.after));
        ratio(one.max(other), one.min(other))
    });
    let us = |value: f64| format!("{value:.0}");
    let kept = figures.iter().all(|figure| figure.beside.not_kept.is_none());
    table.add_row([
        kind.name().to_owned(),
        what.to_owned(),
        us(of(&|f| side(&f.alone).p50_us)),
        us(of(&|f| p99(&f.alone))),
        us(of(&|f| side(&f.alone).p999_us)),
        us(of(&|f| side(&f.beside).p50_us)),
        us(of(&|f| p99(&f.beside))),
        us(of(&|f| side(&f.beside).p999_us)),
        // An offered rate that was not reached makes every percentile depend on how long it was measured.
        format!("{beside:.2}{}", if kept { "" } else { " (rate not kept)" }),
        format!("{control:.2}"),
        format!("{apart:.2}"),
    ]);
    beside
}

fn cost_header() -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header([
        "harm",
        "server CPU",
        "alone",
        "memory before MiB",
        "peak MiB",
        "connections/s",
        "sent/s",
        "refused",
        "control's connections/s",
        "sent/s",
        "load",
    ]);
    table
}

#[expect(clippy::cast_precision_loss, reason = "counts and bytes far below 2^52")]
fn cost_row(table: &mut Table, kind: Kind, figures: &[&Figure]) {
    let of = |value: &dyn Fn(&Figure) -> f64| median(figures.iter().map(|figure| value(figure)).collect());
    let rate = |count: u64, served: &Served| ratio(count as f64, served.seconds);
    let control = |value: &dyn Fn(&Served) -> u64| {
        of(&|f| {
            f.control_served
                .as_ref()
                .map_or(0.0, |served| rate(value(served), served))
        })
    };
    let mib = |bytes: f64| format!("{:.0}", bytes / f64::from(1 << 20));
    table.add_row([
        kind.name().to_owned(),
        format!("{:.0} %", 100.0 * of(&|f| f.server.cpu_share)),
        format!("{:.0} %", 100.0 * of(&|f| f.server.cpu_share_alone)),
        mib(of(&|f| f.server.before_bytes as f64)),
        mib(of(&|f| f.server.peak_bytes as f64)),
        format!("{:.0}", of(&|f| rate(f.served.connections, &f.served))),
        format!("{:.0}", of(&|f| rate(f.served.sent, &f.served))),
        format!("{:.0}", of(&|f| f.served.refused as f64)),
        format!("{:.0}", control(&|served| served.connections)),
        format!("{:.0}", control(&|served| served.sent)),
        figures
            .iter()
            .map(|figure| figure.load.as_str())
            .collect::<Vec<_>>()
            .join(" "),
    ]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(p99_us: f64) -> Times {
        let percentiles = Percentiles {
            count: 10_000,
            p50_us: 50.0,
            p99_us,
            p999_us: 2.0 * p99_us,
            max_us: 3.0 * p99_us,
        };
        Times {
            reads: percentiles,
            writes: percentiles,
            lag_p99_us: 10.0,
            not_kept: None,
        }
    }

    fn found(kind: Kind, beside_us: &[f64]) -> Found {
        let figure = |&beside_us: &f64| Figure {
            kind,
            load: "0.10".to_owned(),
            alone: times(100.0),
            before: times(90.0),
            after: times(108.0),
            beside: times(beside_us),
            control: Some(times(110.0)),
            served: Served {
                connections: 3000,
                refused: 1,
                sent: 60_000,
                seconds: 3.0,
            },
            control_served: None,
            server: Server {
                cpu_share: 0.5,
                cpu_share_alone: 0.05,
                before_bytes: 10 << 20,
                peak_bytes: 30 << 20,
            },
        };
        let dir = crate::machine::test_dir();
        Found {
            environment: Environment::here(dir.path(), "none"),
            rate: 2000.0,
            polite_first: true,
            figures: beside_us.iter().map(figure).collect(),
        }
    }

    #[test]
    fn a_kind_beyond_what_is_allowed_is_named_with_the_median_of_its_rounds() {
        let text = show(&found(Kind::Storm, &[900.0, 150.0, 250.0]));
        assert!(
            text.contains("beyond 2x: connect and go (GET 2.5x), connect and go (SET 2.5x)"),
            "{text}"
        );
        let text = show(&found(Kind::Storm, &[900.0, 150.0, 190.0]));
        assert!(text.contains("no kind raises"), "{text}");
        for shown in ["1.90", "1.10", "1.20", "50 %", "30", "1000", "20000"] {
            assert!(text.contains(shown), "{shown}: {text}");
        }
    }

    #[test]
    fn a_busy_neighbour_is_shown_and_not_judged() {
        assert!(show(&found(Kind::Busy, &[900.0])).contains("no kind raises"));
    }

    #[test]
    fn a_rate_that_was_not_kept_is_said() {
        let mut found = found(Kind::Deaf, &[150.0]);
        found.figures[0].beside.not_kept = Some("saturated".to_owned());
        assert!(show(&found).contains("1.50 (rate not kept)"));
    }

    #[test]
    fn what_was_not_measured_has_no_ratio() {
        assert_eq!(ratio(5.0, 0.0), 0.0);
        assert_eq!(Percentiles::from(&Latency::new()), Percentiles::default());
    }
}
