//! From stored runs to the points that the page's charts draw.
//!
//! - [`Curve`]: latency at each percentile, on an axis of nines (`-log10(1 - p)`: 1 is 90 %, 2 is 99 %, ...). A curve ends
//!   where too few samples lie beyond.
//! - [`Timeline`]: each repeat of a phase over time, at most [`MAX_POINTS`] windows of it.
//! - [`RateChart`]: latency at each rate, where the same work was done at two rates or more, in one run or in several.
//!
//! Invalid phases have no curve and no point at a rate; over time they are shown, for finding out why.

use serde::Serialize;

use crate::report::figures::{self, Row};
use crate::result::{KindResult, Latency, PhaseResult, Run, Window};
use crate::spec::Load;
use crate::workload::OpKind;

/// Points that a line has at most: a chart is some hundred pixels wide.
pub const MAX_POINTS: usize = 600;
/// Points on the axis of nines for each nine.
const POINTS_A_NINE: usize = 20;
/// The axis ends at 99.9999 %.
const NINES: usize = 6;

/// Latency at each percentile, of every engine that did this kind of operation in this group of this phase.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Curve {
    /// The phase's name.
    pub phase: String,
    /// The group's name.
    pub group: String,
    /// The kind of operation.
    pub kind: &'static str,
    /// Each engine's.
    pub lines: Vec<CurveLine>,
}

/// One engine's latency at each of [`nines`], in nanoseconds, as far as samples go.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CurveLine {
    /// Place of the engine among all engines of all runs.
    pub series: usize,
    /// Operations behind it.
    pub samples: u64,
    /// From the intended start.
    pub response: Vec<u64>,
    /// From the actual start; `None` in a closed loop, where it is the same.
    pub service: Option<Vec<u64>>,
}

/// One repeat of a phase on one engine over time; lists are as long as `start_s`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Timeline {
    /// The phase's name.
    pub phase: String,
    /// Place of the engine among all engines of all runs.
    pub series: usize,
    /// Which repeat, from 1.
    pub repeat: usize,
    /// Seconds to each window's begin.
    pub start_s: Vec<f64>,
    /// Lengths of the windows in seconds.
    pub length_s: Vec<f64>,
    /// Operations a second of the first group.
    pub rate: Vec<f64>,
    /// Median response in nanoseconds (the median of those that were merged).
    pub p50: Vec<Option<u64>>,
    /// 99 % (the worst of those that were merged).
    pub p99: Vec<Option<u64>>,
    /// The longest.
    pub max: Vec<Option<u64>>,
    /// MiB a second that the process sent to the device.
    pub written: Vec<Option<f64>>,
    /// Bytes the engine wrote for each byte of the user's.
    pub write_amp: Vec<Option<f64>>,
    /// MiB that waited to be compacted.
    pub debt: Vec<Option<f64>>,
    /// Whether compaction was active.
    pub compacting: Vec<bool>,
    /// Windows that were merged into one point.
    pub merged: usize,
    /// Seconds from which on it was steady.
    pub steady_from_s: Option<f64>,
    /// Seconds of warm-up before it.
    pub warmup_s: f64,
    /// Why the phase must not be used, if so.
    pub invalid: bool,
}

/// Latency at each rate of one piece of work.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RateChart {
    /// The phases that did it.
    pub phases: Vec<String>,
    /// The group that did it.
    pub group: String,
    /// Each engine's points, by rate.
    pub lines: Vec<RateLine>,
}

/// One engine's points.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RateLine {
    /// The engine's name: the same over all runs.
    pub engine: String,
    /// Place of the first of its engines, for the colour.
    pub series: usize,
    /// Points in the order of rates.
    pub points: Vec<RatePoint>,
}

/// Latency at a rate.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RatePoint {
    /// The row it is of.
    pub row: String,
    /// How operations were begun.
    pub load: String,
    /// Operations a second that were reached (median over repeats).
    pub rate: f64,
    /// Response times in nanoseconds.
    pub p50: Option<u64>,
    /// 99 %.
    pub p99: Option<u64>,
    /// 99.9 %.
    pub p999: Option<u64>,
}

/// The axis of a [`Curve`].
pub fn nines() -> Vec<f64> {
    (0..=NINES * POINTS_A_NINE)
        .map(|at| at as f64 / POINTS_A_NINE as f64)
        .collect()
}

/// Percentile curves of all runs, of valid phases alone.
pub fn curves(runs: &[Run], rows: &[Row]) -> Vec<Curve> {
    let mut curves: Vec<Curve> = Vec::new();
    for row in rows.iter().filter(|row| row.invalid.is_empty()) {
        let groups = groups_of(runs, row);
        for kind in OpKind::ALL {
            let of_kind: Vec<&KindResult> = groups
                .clone()
                .flat_map(|kinds| kinds.iter().filter(|found| found.kind == kind))
                .collect();
            let response = figures::merged(of_kind.iter().map(|found| &found.response));
            if response.count() == 0 {
                continue;
            }
            let service = figures::merged(of_kind.iter().map(|found| &found.service));
            let line = CurveLine {
                series: row.series,
                samples: response.count(),
                response: along_nines(&response),
                service: row.schedule.map(|_| along_nines(&service)),
            };
            let here = |curve: &&mut Curve| {
                curve.phase == row.phase && curve.group == row.group && curve.kind == kind.name()
            };
            match curves.iter_mut().find(here) {
                Some(curve) => curve.lines.push(line),
                None => curves.push(Curve {
                    phase: row.phase.clone(),
                    group: row.group.clone(),
                    kind: kind.name(),
                    lines: vec![line],
                }),
            }
        }
    }
    curves
}

/// Every repeat of every phase over time.
pub fn timelines(runs: &[Run]) -> Vec<Timeline> {
    let mut lines = Vec::new();
    let mut series = 0;
    for run in runs {
        for engine in &run.engines {
            for phase in 0..figures::phase_count(engine) {
                let invalid = !figures::invalid_reasons(engine, phase).is_empty();
                for (repeat, of_repeat) in engine.repeats.iter().enumerate() {
                    let Some(result) = of_repeat.phases.get(phase) else {
                        continue;
                    };
                    let of_spec = run.spec.phases.iter().find(|of_spec| of_spec.name == result.name);
                    let warmup_s = of_spec.map_or(0.0, |of_spec| of_spec.warmup_seconds);
                    lines.push(Timeline {
                        series,
                        repeat: repeat + 1,
                        warmup_s,
                        invalid,
                        ..timeline(result)
                    });
                }
            }
            series += 1;
        }
    }
    lines
}

/// Latency × rate of each piece of work that was done at two rates or more.
pub fn rate_charts(runs: &[Run], rows: &[Row]) -> Vec<RateChart> {
    let mut charts: Vec<(String, RateChart)> = Vec::new();
    for row in rows.iter().filter(|row| row.main && row.invalid.is_empty()) {
        let work = work_of(&runs[row.run], row);
        let at = charts
            .iter()
            .position(|(known, _)| *known == work)
            .unwrap_or_else(|| {
                let chart = RateChart {
                    phases: Vec::new(),
                    group: row.group.clone(),
                    lines: Vec::new(),
                };
                charts.push((work, chart));
                charts.len() - 1
            });
        let chart = &mut charts[at].1;
        if !chart.phases.contains(&row.phase) {
            chart.phases.push(row.phase.clone());
        }
        let point = RatePoint {
            row: row.id.clone(),
            load: row.load.clone(),
            rate: row.rate.median,
            p50: row.response.p50,
            p99: row.response.p99,
            p999: row.response.p999,
        };
        match chart.lines.iter_mut().find(|line| line.engine == row.engine) {
            Some(line) => line.points.push(point),
            None => chart.lines.push(RateLine {
                engine: row.engine.clone(),
                series: row.series,
                points: vec![point],
            }),
        }
    }
    let mut charts: Vec<RateChart> = charts.into_iter().map(|(_, chart)| chart).collect();
    // The same load measured again is a repeat, not another rate.
    let several = |line: &RateLine| line.points.iter().any(|point| point.load != line.points[0].load);
    charts.retain(|chart| chart.lines.iter().any(several));
    for line in charts.iter_mut().flat_map(|chart| &mut chart.lines) {
        line.points.sort_by(|a, b| a.rate.total_cmp(&b.rate));
    }
    charts
}

fn groups_of<'a>(runs: &'a [Run], row: &'a Row) -> impl Iterator<Item = &'a [KindResult]> + Clone {
    let place: Vec<usize> = row.id.split('.').filter_map(|part| part.parse().ok()).collect();
    let [run, engine, phase, group] = place[..] else {
        unreachable!("a row's id has four numbers")
    };
    let results = figures::phase_of(&runs[run].engines[engine], phase);
    results.filter_map(move |(_, result)| Some(result.groups.get(group)?.kinds.as_slice()))
}

fn along_nines(latency: &Latency) -> Vec<u64> {
    let percentiles = nines().into_iter().map(|nines| 1.0 - 10f64.powf(-nines));
    percentiles
        .map_while(|percentile| latency.percentile_ns(percentile))
        .collect()
}

/// What was done, apart from how fast it was asked for: rows of equal work lie on one line.
fn work_of(run: &Run, row: &Row) -> String {
    let phase = run.spec.phases.iter().find(|phase| phase.name == row.phase);
    let Some(phase) = phase else {
        return row.phase.clone();
    };
    let groups = phase.groups.iter().map(|group| {
        let open = matches!(group.load, Load::Open { .. });
        let company = if group.name == row.group {
            String::new()
        } else {
            format!("{:?}", group.load)
        };
        format!(
            "{:?} {:?} {:?} {:?} {open} {company}",
            group.mix, group.distribution, group.scan_entries, group.durability
        )
    });
    let groups: Vec<String> = groups.collect();
    format!(
        "{:?} {:?} {:?} {groups:?}",
        run.spec.keys, run.spec.values, run.spec.engine
    )
}

fn timeline(phase: &PhaseResult) -> Timeline {
    let merged = phase.windows.len().div_ceil(MAX_POINTS).max(1);
    let points: Vec<&[Window]> = phase.windows.chunks(merged).collect();
    let each = |figure: &dyn Fn(&[Window]) -> Option<f64>| points.iter().map(|point| figure(point)).collect();
    let length = |point: &[Window]| point.iter().map(|window| window.length_s).sum::<f64>();
    let responses = |place: usize, choose: &dyn Fn(Vec<u64>) -> Option<u64>| {
        let of = |point: &&[Window]| {
            choose(
                point
                    .iter()
                    .filter_map(|window| Some(window.response_ns?[place]))
                    .collect(),
            )
        };
        points.iter().map(of).collect::<Vec<_>>()
    };
    let worst = |values: Vec<u64>| values.into_iter().max();
    Timeline {
        phase: phase.name.clone(),
        series: 0,
        repeat: 1,
        start_s: points.iter().map(|point| point[0].start_s).collect(),
        length_s: points.iter().map(|point| length(point)).collect(),
        rate: points
            .iter()
            .map(|point| operations(point) / length(point).max(f64::MIN_POSITIVE))
            .collect(),
        p50: responses(0, &|mut values| {
            values.sort_unstable();
            values.get(values.len() / 2).copied()
        }),
        p99: responses(1, &worst),
        max: responses(2, &worst),
        written: each(&|point| {
            let bytes = sum(point, |window| window.written_bytes)?;
            Some(bytes / f64::from(1 << 20) / length(point))
        }),
        write_amp: each(&|point| {
            let user = sum(point, |window| window.counters.user_bytes).filter(|bytes| *bytes > 0.0)?;
            let written = sum(point, |window| {
                let counters = &window.counters;
                Some(counters.log_bytes? + counters.flush_bytes? + counters.compaction_bytes?)
            })?;
            Some(written / user)
        }),
        debt: each(&|point| {
            let most = point
                .iter()
                .filter_map(|window| window.counters.debt_bytes)
                .max()?;
            Some(most as f64 / f64::from(1 << 20))
        }),
        compacting: points.iter().map(|point| point.iter().any(compacting)).collect(),
        merged,
        steady_from_s: phase.steady.from_s,
        warmup_s: 0.0,
        invalid: false,
    }
}

fn operations(point: &[Window]) -> f64 {
    let of_first_group = point.iter().filter_map(|window| window.operations.first());
    of_first_group.sum::<u64>() as f64
}

fn sum(point: &[Window], bytes: impl Fn(&Window) -> Option<u64>) -> Option<f64> {
    let told: Option<Vec<u64>> = point.iter().map(bytes).collect();
    Some(told?.into_iter().sum::<u64>() as f64)
}

fn compacting(window: &Window) -> bool {
    let counted = |count: Option<u64>| count.is_some_and(|count| count > 0);
    counted(window.counters.compactions) || counted(window.counters.compaction_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn a_curve_rises_and_ends_where_too_few_samples_lie_beyond() {
        let runs = [sample::run()];
        let curves = curves(&runs, &figures::rows(&runs));
        let load = curves.iter().find(|curve| curve.phase == "load").unwrap();
        for line in &load.lines {
            assert!(line.response.is_sorted());
            let last = nines()[line.response.len() - 1];
            let beyond = line.samples as f64 * 10f64.powf(-last);
            assert!(
                (10.0..14.0).contains(&beyond) || last == 6.0,
                "{beyond} samples beyond its end"
            );
            assert_eq!(line.service, None, "a closed loop has one curve");
        }
    }

    #[test]
    fn an_invalid_phase_has_no_curve_and_no_point_at_a_rate() {
        let mut runs = [sample::sweep()];
        let count = |runs: &[Run]| {
            let rows = figures::rows(runs);
            let points: usize = rate_charts(runs, &rows)[0]
                .lines
                .iter()
                .map(|line| line.points.len())
                .sum();
            (
                curves(runs, &rows)
                    .iter()
                    .map(|curve| curve.lines.len())
                    .sum::<usize>(),
                points,
            )
        };
        let before = count(&runs);
        let group = &mut runs[0].engines[0].repeats[0].phases[1].groups[0];
        group.schedule.as_mut().unwrap().invalid = Some("late".to_owned());
        let after = count(&runs);
        assert_eq!(
            (before.0 - after.0, before.1 - after.1),
            (2, 1),
            "reads and updates have a curve each"
        );
    }

    #[test]
    fn the_same_work_at_several_rates_is_one_line_over_phases_and_over_files() {
        let one = [sample::sweep()];
        let charts = rate_charts(&one, &figures::rows(&one));
        assert_eq!(charts.len(), 1, "a load beside it is other work, at one rate");
        let two = [sample::sweep(), sample::sweep()];
        let both = rate_charts(&two, &figures::rows(&two));
        assert_eq!(
            both[0].lines.len(),
            charts[0].lines.len(),
            "an engine is one line over all files"
        );
        assert_eq!(both[0].lines[0].points.len(), 2 * charts[0].lines[0].points.len());
        assert!(both[0].lines[0].points.is_sorted_by(|a, b| a.rate <= b.rate));
        let single = [sample::run()];
        assert!(rate_charts(&single, &figures::rows(&single)).is_empty());
    }

    #[test]
    fn a_day_of_windows_becomes_a_few_hundred_points_and_loses_no_operation_and_no_worst_case() {
        let mut run = sample::run();
        let phase = &mut run.engines[0].repeats[0].phases[0];
        let some = phase.windows.clone();
        phase.windows = (0..5000)
            .map(|at| Window {
                start_s: at as f64,
                ..some[at % some.len()].clone()
            })
            .collect();
        let line = timeline(phase);
        assert!(
            line.rate.len() <= MAX_POINTS && line.merged == 9,
            "{}",
            line.merged
        );
        let shown: f64 = line
            .rate
            .iter()
            .zip(&line.length_s)
            .map(|(rate, length)| rate * length)
            .sum();
        let measured: u64 = phase.windows.iter().map(|window| window.operations[0]).sum();
        assert!((shown - measured as f64).abs() < 1.0);
        let longest = phase
            .windows
            .iter()
            .filter_map(|window| Some(window.response_ns?[2]))
            .max();
        assert_eq!(line.max.iter().max().unwrap(), &longest);
    }

    #[test]
    fn a_window_with_compactions_or_their_bytes_is_marked() {
        let mut run = sample::run();
        let window = &mut run.engines[0].repeats[0].phases[0].windows[0];
        (window.counters.compactions, window.counters.compaction_bytes) = (Some(0), None);
        assert!(!compacting(window));
        window.counters.compaction_bytes = Some(1);
        assert!(compacting(window));
    }
}
