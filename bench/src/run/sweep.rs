//! Finds the highest rate at which an engine meets a latency target: an open loop, step by step, on one loaded database.
//!
//! A closed loop first tells where to begin. Then the rate doubles until a step fails, and what lies between the last that
//! met the target and the first that did not is halved until both are within a twentieth. A step meets the target when its
//! schedule was kept and the percentile of its response times is within the bound; one with too few samples for the
//! percentile fails, and says so.

use std::str::FromStr;

use crate::error::BenchError;
use crate::result::{Latency, PhaseResult, Run};
use crate::run::{Plan, Steps, Watch, run_steps};
use crate::spec::{Arrival, Load, Phase};

/// Steps at most: a spec has at most 16 phases, and the load and the closed loop are two.
const MAX_STEPS: usize = 13;
/// How near the two rates end.
const NEAR: f64 = 1.05;
/// The share of the closed loop's rate that is tried first.
const BEGIN: f64 = 0.4;

/// A latency target.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Target {
    /// 0 to 1.
    pub percentile: f64,
    /// The most it may be, in nanoseconds.
    pub bound_ns: u64,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no target; write it like p99.9<=1ms (units: us, ms, s)");
        let (percentile, bound) = text.split_once("<=").ok_or_else(wrong)?;
        let percentile: f64 = percentile
            .trim()
            .strip_prefix('p')
            .ok_or_else(wrong)?
            .parse()
            .map_err(|_| wrong())?;
        let bound = bound.trim();
        let units = [("us", 1e3), ("µs", 1e3), ("ms", 1e6), ("s", 1e9)];
        let (number, unit) = units
            .iter()
            .find_map(|(unit, ns)| Some((bound.strip_suffix(unit)?, ns)))
            .ok_or_else(wrong)?;
        let ns = number.trim().parse::<f64>().map_err(|_| wrong())? * unit;
        if !(0.0..100.0).contains(&percentile) || !(1.0..1e12).contains(&ns) {
            return Err(wrong());
        }
        Ok(Self {
            percentile: percentile / 100.0,
            bound_ns: whole(ns),
        })
    }
}

/// Nanoseconds without their fraction.
fn whole(ns: f64) -> u64 {
    u64::try_from(std::time::Duration::from_secs_f64(ns / 1e9).as_nanos()).expect("the bound was checked")
}

/// What a step came to.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// The target was met.
    Met,
    /// It was not, and why.
    Missed(String),
}

/// Judges a step.
pub fn judge(step: &PhaseResult, target: Target) -> Verdict {
    let group = &step.groups[0];
    if let Some(why) = group
        .schedule
        .as_ref()
        .and_then(|schedule| schedule.invalid.as_ref())
    {
        return Verdict::Missed(why.clone());
    }
    let mut response = Latency::new();
    group.kinds.iter().for_each(|kind| response.merge(&kind.response));
    match response.percentile_ns(target.percentile) {
        None => Verdict::Missed(format!(
            "{} operations are too few for p{}: make steps longer",
            response.count(),
            target.percentile * 100.0
        )),
        Some(ns) if ns <= target.bound_ns => Verdict::Met,
        Some(ns) => Verdict::Missed(format!(
            "p{} was {:.3} ms",
            target.percentile * 100.0,
            ns as f64 / 1e6
        )),
    }
}

/// Chooses rates. Pure.
#[derive(Debug, Clone, PartialEq)]
pub struct Search {
    met: Option<f64>,
    missed: Option<f64>,
    next: f64,
    steps: usize,
}

impl Search {
    /// Begins at a share of what a closed loop reached.
    pub fn new(closed_rate: f64) -> Self {
        Self {
            met: None,
            missed: None,
            next: (closed_rate * BEGIN).max(1.0),
            steps: 0,
        }
    }

    /// The next rate to try; `None` once the answer is near enough, or there were too many steps.
    pub fn next(&self) -> Option<f64> {
        let near = matches!((self.met, self.missed), (Some(met), Some(missed)) if missed <= met * NEAR);
        (!near && self.steps < MAX_STEPS).then_some(self.next)
    }

    /// Notes what the rate came to.
    pub fn note(&mut self, rate: f64, met: bool) {
        self.steps += 1;
        if met {
            self.met = Some(self.met.map_or(rate, |best| best.max(rate)));
        } else {
            self.missed = Some(self.missed.map_or(rate, |worst| worst.min(rate)));
        }
        self.next = match (self.met, self.missed) {
            (Some(met), Some(missed)) => (met * missed).sqrt(),
            (Some(met), None) => met * 2.0,
            (None, Some(missed)) => missed / 2.0,
            (None, None) => self.next,
        };
    }

    /// The highest rate that met the target.
    pub fn best(&self) -> Option<f64> {
        self.met
    }
}

/// What a sweep found for an engine.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The engine's name.
    pub engine: String,
    /// The highest rate that met the target; `None` where none did.
    pub rate: Option<f64>,
    /// Each step: its rate and verdict.
    pub steps: Vec<(f64, Verdict)>,
}

/// Sweeps each engine of a plan. The spec's last phase is the one that is swept; those before it prepare the database.
///
/// # Errors
/// As [`crate::run::run`].
pub fn sweep(plan: &Plan, target: Target, watch: &Watch) -> Result<(Run, Vec<Found>), BenchError> {
    let swept = plan
        .spec
        .phases
        .last()
        .filter(|phase| phase.until.seconds.is_some());
    let swept =
        swept.ok_or_else(|| BenchError::usage("a sweep needs a spec whose last phase is bound by time"))?;
    let mut sweeper = Sweeper {
        target,
        swept: swept.clone(),
        search: None,
        found: Vec::new(),
    };
    let run = run_steps(plan, watch, &mut sweeper)?;
    Ok((run, sweeper.found))
}

struct Sweeper {
    target: Target,
    swept: Phase,
    search: Option<(Search, f64)>,
    found: Vec<Found>,
}

impl Steps for Sweeper {
    fn begin(&mut self, engine: &str) {
        self.search = None;
        self.found.push(Found {
            engine: engine.to_owned(),
            rate: None,
            steps: Vec::new(),
        });
    }

    /// Called after each phase with its result: the spec's own phases first, the closed loop being the last of them.
    fn next(&mut self, last: &PhaseResult, own_phases_left: bool) -> Option<Phase> {
        if own_phases_left {
            return None;
        }
        let found = self.found.last_mut().expect("an engine was begun");
        let search = match &mut self.search {
            None => Search::new(last.groups[0].rate),
            Some((search, rate)) => {
                let verdict = judge(last, self.target);
                search.note(*rate, verdict == Verdict::Met);
                found.steps.push((*rate, verdict));
                found.rate = search.best();
                search.clone()
            }
        };
        let rate = search.next()?.round().max(1.0);
        self.search = Some((search, rate));
        let mut step = self.swept.clone();
        step.name = format!("rate-{rate}");
        step.settle_first = false;
        step.groups[0].load = Load::Open {
            callers: step.groups[0].load.callers(),
            rate,
            arrival: Arrival::Poisson,
        };
        Some(step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read_with_their_units() {
        let target: Target = "p99.9<=1ms".parse().unwrap();
        assert_eq!(
            (target.percentile, target.bound_ns),
            (0.9990000000000001, 1_000_000)
        );
        assert_eq!("p50 <= 250us".parse::<Target>().unwrap().bound_ns, 250_000);
        assert_eq!("p99<=2s".parse::<Target>().unwrap().bound_ns, 2_000_000_000);
        for wrong in [
            "",
            "p99",
            "p99<=1",
            "99<=1ms",
            "p100<=1ms",
            "p99<=0ms",
            "p99<=ms",
            "pp<=1ms",
        ] {
            assert!(
                wrong.parse::<Target>().unwrap_err().contains("is no target"),
                "{wrong}"
            );
        }
    }

    #[test]
    fn a_search_ends_near_the_edge_wherever_it_lies() {
        for edge in [3.0, 900.0, 40_000.0, 123_456.0, 2e6] {
            for closed in [1_000.0, 100_000.0] {
                let mut search = Search::new(closed);
                while let Some(rate) = search.next() {
                    search.note(rate, rate <= edge);
                }
                let Some(best) = search.best() else {
                    assert!(edge < closed * BEGIN / 2.0_f64.powi(12), "{edge} from {closed}");
                    continue;
                };
                assert!(best <= edge, "{best} for {edge}");
                let steps_ran_out = search.steps == MAX_STEPS;
                assert!(
                    steps_ran_out || best * NEAR >= edge,
                    "{best} for {edge} from {closed}"
                );
            }
        }
    }
}
