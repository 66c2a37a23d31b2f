//! From stored runs to the figures that every table and page shows: one [`Row`] for each engine, phase and group of callers.
//!
//! 1. Repeats become one figure: the median of rates and costs (with the least and the most), one histogram of all
//!    repeats' latencies for percentiles, the worst of drift, peak memory and steady state.
//! 2. A phase in which any group's generator could not keep its schedule is **invalid**, whatever repeat it was: its rows
//!    carry the reasons, and whoever shows them prints no figure of them.
//! 3. Figures of a repeat that was interrupted, and so not verified by the closing walk, are **partial**.
//!
//! Pure. Costs and the device's share belong to a phase and stand in the row of its first group alone.

use serde::Serialize;

use crate::report::cost::{self, CostFigures};
use crate::report::words;
use crate::result::{EngineRun, GroupResult, Latency, PhaseResult, Repeat, Run};
use crate::spec::{Arrival, Load};

/// What one group of callers did on one engine in one phase, all repeats together.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// Places of run, engine, phase and group in what was stored, such as `0.1.2.0`.
    pub id: String,
    /// Place of the run.
    pub run: usize,
    /// Place of the engine among all engines of all runs.
    pub series: usize,
    /// The engine's name.
    pub engine: String,
    /// The phase's name.
    pub phase: String,
    /// The group's name.
    pub group: String,
    /// Whether it is the phase's first group, whose rate is the phase's figure.
    pub main: bool,
    /// How operations were begun, in words.
    pub load: String,
    /// Repeats behind the figures.
    pub repeats: usize,
    /// Operations of all repeats.
    pub operations: u64,
    /// Operations a second.
    pub rate: Spread,
    /// Response times of all kinds together.
    pub response: Percentiles,
    /// Service times of all kinds together, of an open loop; in a closed one they are the response times.
    pub service: Option<Percentiles>,
    /// Of an open loop: how the schedule was kept.
    pub schedule: Option<ScheduleFigures>,
    /// Why the figures must not be used; empty where they stand.
    pub invalid: Vec<String>,
    /// Why the figures are of a part only, where they are.
    pub partial: Option<String>,
    /// What the phase cost.
    pub cost: Option<CostFigures>,
    /// The device beside the phase.
    pub device: Option<DeviceFigures>,
    /// Seconds from which on every repeat was steady; `None` where one never was.
    pub steady_from_s: Option<f64>,
    /// Why it is held to be steady or not.
    pub steady_why: String,
}

/// A figure over repeats.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// The middle one, or the mean of the two in the middle.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The most.
    pub max: f64,
}

/// Percentiles in nanoseconds; `None` on too few samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Percentiles {
    /// Operations behind them.
    pub samples: u64,
    /// 50 %.
    pub p50: Option<u64>,
    /// 99 %.
    pub p99: Option<u64>,
    /// 99.9 %.
    pub p999: Option<u64>,
    /// 99.99 %.
    pub p9999: Option<u64>,
    /// The longest.
    pub max: Option<u64>,
}

/// How an open loop kept its schedule.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ScheduleFigures {
    /// Operations a second that were asked for.
    pub asked_rate: f64,
    /// 99 % of the generator's lag, in nanoseconds.
    pub lag_p99: Option<u64>,
    /// The longest lag, in nanoseconds.
    pub lag_max: Option<u64>,
}

/// The device beside a phase.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DeviceFigures {
    /// What the raw loop did.
    pub what: String,
    /// Its operations a second, before and after together.
    pub rate: f64,
    /// The engine's rate as a share of it.
    pub ratio: Spread,
    /// The largest drift between before and after.
    pub drift: f64,
}

/// Of at least one number.
///
/// # Panics
/// On none.
pub fn spread(mut numbers: Vec<f64>) -> Spread {
    assert!(!numbers.is_empty(), "a figure is made of at least one repeat");
    numbers.sort_by(f64::total_cmp);
    let middle = numbers.len() / 2;
    let median = if numbers.len() % 2 == 1 {
        numbers[middle]
    } else {
        f64::midpoint(numbers[middle - 1], numbers[middle])
    };
    Spread {
        median,
        min: numbers[0],
        max: numbers[numbers.len() - 1],
    }
}

/// Of a histogram.
pub fn percentiles(latency: &Latency) -> Percentiles {
    Percentiles {
        samples: latency.count(),
        p50: latency.percentile_ns(0.5),
        p99: latency.percentile_ns(0.99),
        p999: latency.percentile_ns(0.999),
        p9999: latency.percentile_ns(0.9999),
        max: latency.max_ns(),
    }
}

/// Every row of every run: phase by phase in the spec's order, group by group, engine by engine.
pub fn rows(runs: &[Run]) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut first_series = 0;
    for (number, run) in runs.iter().enumerate() {
        let phases = run.engines.iter().map(phase_count).max().unwrap_or(0);
        for phase in 0..phases {
            let groups = run.engines.iter().map(|engine| group_count(engine, phase)).max();
            for group in 0..groups.unwrap_or(0) {
                for engine in 0..run.engines.len() {
                    let place = Place {
                        number,
                        engine,
                        phase,
                        group,
                        series: first_series + engine,
                    };
                    rows.extend(row(run, place));
                }
            }
        }
        first_series += run.engines.len();
    }
    rows
}

/// An engine's results of a phase, one a repeat that got so far.
pub fn phase_of(engine: &EngineRun, phase: usize) -> impl Iterator<Item = (&Repeat, &PhaseResult)> + Clone {
    let repeats = engine.repeats.iter();
    repeats.filter_map(move |repeat| Some((repeat, repeat.phases.get(phase)?)))
}

/// The most phases that a repeat of the engine has.
pub fn phase_count(engine: &EngineRun) -> usize {
    let counts = engine.repeats.iter().map(|repeat| repeat.phases.len());
    counts.max().unwrap_or(0)
}

/// Why a phase must not be used: a schedule that was not kept, in any group of any repeat.
pub fn invalid_reasons(engine: &EngineRun, phase: usize) -> Vec<String> {
    let mut reasons = Vec::new();
    for (_, result) in phase_of(engine, phase) {
        for group in &result.groups {
            let Some(why) = group
                .schedule
                .as_ref()
                .and_then(|schedule| schedule.invalid.as_ref())
            else {
                continue;
            };
            let reason = format!("group {}: {why}", group.name);
            if !reasons.contains(&reason) {
                reasons.push(reason);
            }
        }
    }
    reasons
}

/// Latencies of a group, all repeats and the chosen histogram of each kind together.
pub fn merged<'a>(latencies: impl Iterator<Item = &'a Latency>) -> Latency {
    latencies.fold(Latency::new(), |mut all, latency| {
        all.merge(latency);
        all
    })
}

#[derive(Clone, Copy)]
struct Place {
    number: usize,
    engine: usize,
    phase: usize,
    group: usize,
    series: usize,
}

fn group_count(engine: &EngineRun, phase: usize) -> usize {
    let counts = phase_of(engine, phase).map(|(_, result)| result.groups.len());
    counts.max().unwrap_or(0)
}

fn row(run: &Run, place: Place) -> Option<Row> {
    let engine = &run.engines[place.engine];
    let with_group = phase_of(engine, place.phase).filter(|(_, result)| result.groups.len() > place.group);
    let results: Vec<(&Repeat, &PhaseResult)> = with_group.collect();
    let (_, phase) = results.first()?;
    let groups: Vec<&GroupResult> = results
        .iter()
        .map(|(_, result)| &result.groups[place.group])
        .collect();
    let kinds = || groups.iter().flat_map(|group| &group.kinds);
    let mut schedules = groups.iter().filter_map(|group| group.schedule.as_ref());
    let lag = merged(schedules.clone().map(|schedule| &schedule.lag));
    let schedule = schedules.next().map(|schedule| ScheduleFigures {
        asked_rate: schedule.asked_rate,
        lag_p99: lag.percentile_ns(0.99),
        lag_max: lag.max_ns(),
    });
    let main = place.group == 0;
    let phases: Vec<&PhaseResult> = results.iter().map(|(_, result)| *result).collect();
    let (steady_from_s, steady_why) = steady(&phases);
    Some(Row {
        id: format!(
            "{}.{}.{}.{}",
            place.number, place.engine, place.phase, place.group
        ),
        run: place.number,
        series: place.series,
        engine: engine.engine.clone(),
        phase: phase.name.clone(),
        group: groups[0].name.clone(),
        main,
        load: load_words(run, &phase.name, place.group),
        repeats: results.len(),
        operations: groups.iter().map(|group| group.operations).sum(),
        rate: spread(groups.iter().map(|group| group.rate).collect()),
        response: percentiles(&merged(kinds().map(|kind| &kind.response))),
        service: schedule.map(|_| percentiles(&merged(kinds().map(|kind| &kind.service)))),
        schedule,
        invalid: invalid_reasons(engine, place.phase),
        partial: partial(run, &results),
        cost: main.then(|| cost::figures(run, &phases)),
        device: main.then(|| device(&phases)).flatten(),
        steady_from_s,
        steady_why,
    })
}

fn steady(phases: &[&PhaseResult]) -> (Option<f64>, String) {
    if let Some(never) = phases.iter().find(|phase| phase.steady.from_s.is_none()) {
        return (None, never.steady.why.clone());
    }
    let seconds = |phase: &&&PhaseResult| phase.steady.from_s.unwrap_or(0.0);
    let latest = phases.iter().max_by(|a, b| seconds(a).total_cmp(&seconds(b)));
    let latest = latest.expect("a row has at least one repeat");
    (latest.steady.from_s, latest.steady.why.clone())
}

fn device(phases: &[&PhaseResult]) -> Option<DeviceFigures> {
    let beside = || {
        let with = phases
            .iter()
            .filter_map(|phase| Some((phase.device.as_ref()?, phase.groups.first()?.rate)));
        // A loop that did nothing is no yardstick, and nothing is a share of it.
        with.filter(|(device, _)| device.before + device.after > 0.0)
    };
    let (first, _) = beside().next()?;
    Some(DeviceFigures {
        what: first.what.clone(),
        rate: spread(
            beside()
                .map(|(device, _)| f64::midpoint(device.before, device.after))
                .collect(),
        )
        .median,
        ratio: spread(beside().map(|(device, rate)| device.ratio(rate)).collect()),
        drift: beside().map(|(device, _)| device.drift()).fold(0.0, f64::max),
    })
}

fn partial(run: &Run, results: &[(&Repeat, &PhaseResult)]) -> Option<String> {
    let unverified = results
        .iter()
        .filter(|(repeat, _)| repeat.verified_entries.is_none())
        .count();
    let asked = run.spec.repeats as usize;
    if unverified > 0 {
        let words = "interrupted before the closing walk had verified the database";
        return Some(format!("{unverified} of {} repeats: {words}", results.len()));
    }
    (results.len() < asked).then(|| format!("interrupted after {} of {asked} repeats", results.len()))
}

fn load_words(run: &Run, phase: &str, group: usize) -> String {
    let phase = run.spec.phases.iter().find(|of_spec| of_spec.name == phase);
    let Some(group) = phase.and_then(|phase| phase.groups.get(group)) else {
        return String::new();
    };
    match group.load {
        Load::Closed { callers: 1 } => "closed, 1 caller".to_owned(),
        Load::Closed { callers } => format!("closed, {callers} callers"),
        Load::Open {
            callers,
            rate,
            arrival,
        } => {
            let arrival = match arrival {
                Arrival::Fixed => "fixed",
                Arrival::Poisson => "Poisson",
            };
            format!(
                "open, {arrival} {}/s, ≤ {callers} callers",
                words::thousands(rate)
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn the_median_of_an_even_number_lies_between_the_two_in_the_middle() {
        let found = spread(vec![4.0, 1.0, 3.0, 2.0]);
        assert_eq!((found.median, found.min, found.max), (2.5, 1.0, 4.0));
        assert_eq!(spread(vec![3.0, 1.0, 2.0]).median, 2.0);
    }

    #[test]
    fn rows_come_phase_by_phase_so_that_engines_stand_side_by_side() {
        let rows = rows(&[sample::run()]);
        let places: Vec<_> = rows.iter().map(|row| row.id.as_str()).collect();
        assert_eq!(
            places,
            [
                "0.0.0.0", "0.1.0.0", "0.2.0.0", "0.0.1.0", "0.1.1.0", "0.0.2.0", "0.1.2.0", "0.0.2.1",
                "0.1.2.1"
            ],
            "the third engine was interrupted after its first phase"
        );
    }

    #[test]
    fn one_repeat_that_could_not_keep_its_schedule_spoils_the_phase() {
        let rows = rows(&[sample::run()]);
        let invalid: Vec<_> = rows
            .iter()
            .filter(|row| !row.invalid.is_empty())
            .map(|row| &row.id[..])
            .collect();
        assert_eq!(invalid, ["0.1.1.0"]);
        let reasons = &rows.iter().find(|row| row.id == "0.1.1.0").unwrap().invalid;
        assert_eq!(reasons.len(), 1, "only its second repeat was late: {reasons:?}");
    }

    #[test]
    fn a_company_that_missed_its_schedule_spoils_the_first_group_too() {
        let mut run = sample::run();
        let late = run.engines[1].repeats[1].phases[1].groups[0].schedule.clone();
        run.engines[0].repeats[0].phases[2].groups[1].schedule = late;
        let rows = rows(&[run]);
        let first = rows.iter().find(|row| row.id == "0.0.2.0").unwrap();
        assert!(
            first.invalid[0].starts_with("group writers: "),
            "{:?}",
            first.invalid
        );
    }

    #[test]
    fn an_unverified_repeat_makes_its_figures_partial_and_so_does_a_missing_one() {
        let mut run = sample::run();
        let of = |run: &Run, id: &str| {
            let found = rows(std::slice::from_ref(run))
                .into_iter()
                .find(|row| row.id == id);
            found.unwrap().partial
        };
        assert_eq!(of(&run, "0.0.0.0"), None);
        assert!(
            of(&run, "0.2.0.0")
                .unwrap()
                .starts_with("1 of 1 repeats: interrupted")
        );
        run.engines[0].repeats.pop();
        assert_eq!(of(&run, "0.0.0.0").unwrap(), "interrupted after 1 of 2 repeats");
    }

    #[test]
    fn percentiles_are_of_all_repeats_together() {
        let run = sample::run();
        let repeats = &run.engines[0].repeats;
        let each = repeats
            .iter()
            .map(|repeat| repeat.phases[0].groups[0].kinds[0].response.count());
        let row = &rows(std::slice::from_ref(&run))[0];
        assert_eq!(row.response.samples, each.sum::<u64>());
        assert_eq!(
            row.service, None,
            "a closed loop's service times are its response times"
        );
    }

    #[test]
    fn one_repeat_that_never_was_steady_is_enough() {
        let mut run = sample::run();
        assert!(rows(std::slice::from_ref(&run))[0].steady_from_s.is_some());
        run.engines[0].repeats[1].phases[0].steady.from_s = None;
        assert_eq!(rows(&[run])[0].steady_from_s, None);
    }

    #[test]
    fn a_device_loop_that_did_nothing_is_no_yardstick() {
        let mut run = sample::run();
        for repeat in &mut run.engines[0].repeats {
            let device = repeat.phases[0].device.as_mut().unwrap();
            (device.before, device.after) = (0.0, 0.0);
        }
        assert_eq!(rows(&[run])[0].device, None);
    }

    #[test]
    fn the_share_of_the_device_is_the_first_groups_and_the_drift_the_worst() {
        let run = sample::run();
        let rows = rows(std::slice::from_ref(&run));
        let found = rows[0].device.as_ref().unwrap();
        let beside = |repeat: usize| {
            let phase = &run.engines[0].repeats[repeat].phases[0];
            let device = phase.device.as_ref().unwrap();
            (device.ratio(phase.groups[0].rate), device.drift())
        };
        let (first, second) = (beside(0), beside(1));
        assert_eq!(found.ratio.median, f64::midpoint(first.0, second.0));
        assert_eq!(found.drift, first.1.max(second.1));
        let company = rows.iter().find(|row| row.id == "0.0.2.1").unwrap();
        assert!(
            company.device.is_none() && company.cost.is_none(),
            "costs are the phase's, told once"
        );
    }
}
