//! Two runs, or two engines of one run: faster, slower, no detectable difference, or why nobody can tell.
//!
//! Steps:
//! 1. **May they be compared?** Only where both did the same operations: any field of the spec that differs, but its name
//!    and the number of repeats, refuses. Another machine, filesystem or memory limit is noted, not refused.
//! 2. **Figures.** Every phase: of each group the rate and the response p50, p99 and p99.9 of each kind of operation; of
//!    the phase write amplification, processor time and space. What neither side has is left out, what one side lacks, or
//!    a schedule that was not kept, cannot be told.
//! 3. **Evidence.** The ratio of each, with the error that [`super::bootstrap`] finds. One repeat on a side is never
//!    enough: how repeats differ cannot be seen in one.
//! 4. **Verdicts.** All figures of a comparison are one family, and Holm's steps with weights (1979) keep the probability
//!    of *any* false "faster" or "slower" in it at [`Limits::error_rate`]. Half of the weight is for what a phase is run
//!    for: the rate of a closed loop, the response p99 of an open one, whose rate is given; half for all the rest, so that
//!    many side figures do not blunt the main one. The interval beside a figure is that of the level at which it was
//!    tested, so that it excludes 1 exactly where the figure passed. More phases in a run so demand more repeats.
//! 5. A difference too small to care about ([`Limits::smallest_effect`]) is no detectable difference, however sure.
//!
//! What no statistics can see: two files are made at two times. What changed on the machine in between looks like a
//! difference of the engines; two engines of one run, or a third run like the first, are the remedy.

use serde::Serialize;

use crate::result::{EngineRun, PhaseResult, Run};
use crate::spec::{Load, Spec};
use crate::stats::bootstrap::{Estimate, Ratio};
use crate::stats::figures::{Figure, OF_PHASE, PERCENTILES, Source};
use crate::stats::notes;
use crate::workload::rng::Rng;

/// Every comparison draws from here, so that it can be made again.
const SEED: u64 = 0x0c0_4e1a_4e57_a754;

/// What an open loop is run for.
const MAIN_PERCENTILE: f64 = 0.99;

/// What counts as a difference.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Limits {
    /// Probability that a comparison of equal things calls any figure of it faster or slower.
    pub error_rate: f64,
    /// A ratio known to be within this of 1 is no detectable difference.
    pub smallest_effect: f64,
}

impl Default for Limits {
    /// 5 % and 2 %.
    fn default() -> Self {
        Self {
            error_rate: 0.05,
            smallest_effect: 0.02,
        }
    }
}

/// What was found about one figure: of the second against the first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The second is better; of a cost: it needs less.
    Faster,
    /// The second is worse; of a cost: it needs more.
    Slower,
    /// Nothing that could be seen, or too little to matter.
    NoDetectableDifference,
    /// Why there is no verdict.
    CannotTell(String),
}

/// One figure of one engine, phase and group.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Line {
    /// The engine, or both.
    pub engine: String,
    /// The phase.
    pub phase: String,
    /// The group; `None` for figures of the whole phase.
    pub group: Option<String>,
    /// What is compared.
    pub figure: Figure,
    /// The first one's figure.
    pub a: Option<f64>,
    /// The second one's.
    pub b: Option<f64>,
    /// The second over the first.
    pub ratio: Option<f64>,
    /// Where the true ratio lies, at the level that the family left to this figure. Of one repeat: what windows show, and
    /// no more.
    pub interval: Option<[f64; 2]>,
    /// Probability of such a ratio between equal things, not corrected for the family.
    pub p: Option<f64>,
    /// What follows.
    pub verdict: Verdict,
    /// What it was made from.
    pub made_of: String,
}

/// A comparison.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// The first: what it is compared with.
    pub a: String,
    /// The second: what is judged.
    pub b: String,
    /// Why the two cannot be compared at all; then there are no lines.
    pub refused: Option<String>,
    /// What a reader must know to believe the lines.
    pub notes: Vec<String>,
    /// What counted as a difference.
    pub limits: Limits,
    /// Figures that were tested, which share the error rate.
    pub family: usize,
    /// Every figure.
    pub lines: Vec<Line>,
}

/// Compares each engine of `b` with the one of the same name in `a`.
pub fn compare(a: &Run, b: &Run) -> Comparison {
    compare_within(a, b, Limits::default())
}

/// The same with other limits.
pub fn compare_within(a: &Run, b: &Run, limits: Limits) -> Comparison {
    let mut comparison = Comparison::new(&notes::name(a), &notes::name(b), limits);
    if let Some(difference) = notes::spec_difference(&a.spec, &b.spec) {
        comparison.refused = Some(format!("they did different work: {difference}"));
        return comparison;
    }
    let pairs: Vec<(&EngineRun, &EngineRun)> = a
        .engines
        .iter()
        .filter_map(|first| {
            Some((
                first,
                b.engines.iter().find(|second| second.engine == first.engine)?,
            ))
        })
        .collect();
    if pairs.is_empty() {
        comparison.refused = Some(format!(
            "no engine is in both: the first has {}, the second {}",
            notes::engines(a),
            notes::engines(b)
        ));
        return comparison;
    }
    comparison.notes = notes::of_runs(a, b);
    let mut drafts = Vec::new();
    for (first, second) in pairs {
        comparison.notes.extend(notes::of_engines(first, second));
        drafts.extend(Pair::new(&a.spec, first, second).drafts());
    }
    comparison.judge(drafts);
    comparison
}

/// Compares engine `b` of a run with its engine `a`.
pub fn compare_engines(run: &Run, a: &str, b: &str) -> Comparison {
    let mut comparison = Comparison::new(a, b, Limits::default());
    let find = |name: &str| run.engines.iter().find(|engine| engine.engine == name);
    let (Some(first), Some(second)) = (find(a), find(b)) else {
        let missing = if find(a).is_none() { a } else { b };
        comparison.refused = Some(format!(
            "the run has no {missing}, it has {}",
            notes::engines(run)
        ));
        return comparison;
    };
    comparison.notes = notes::of_run(run);
    comparison.notes.extend(notes::of_engines(first, second));
    comparison.judge(Pair::new(&run.spec, first, second).drafts());
    comparison
}

/// A line before its verdict: either its ratio, or why there is none.
struct Draft {
    line: Line,
    main: bool,
    ratio: Result<Ratio, String>,
}

/// Two engines that did the same.
struct Pair<'a> {
    spec: &'a Spec,
    name: String,
    a: &'a EngineRun,
    b: &'a EngineRun,
}

impl<'a> Pair<'a> {
    fn new(spec: &'a Spec, a: &'a EngineRun, b: &'a EngineRun) -> Self {
        let name = if a.engine == b.engine {
            a.engine.clone()
        } else {
            format!("{} against {}", b.engine, a.engine)
        };
        Self { spec, name, a, b }
    }

    fn drafts(&self) -> Vec<Draft> {
        let mut drafts = Vec::new();
        for (place, phase) in self.spec.phases.iter().enumerate() {
            let a = notes::repeats_of(self.a, place, &phase.name);
            let b = notes::repeats_of(self.b, place, &phase.name);
            for (group, what) in phase.groups.iter().enumerate() {
                let [a, b] = [&a, &b].map(|repeats| Source { repeats, group });
                let invalid = a.invalid().or(b.invalid());
                for figure in group_figures(a, b) {
                    let draft = self.draft(&phase.name, Some(what.name.clone()), figure, [a, b], invalid);
                    let main = group == 0 && is_main(figure, what.load);
                    drafts.extend(draft.map(|draft| Draft { main, ..draft }));
                }
            }
            drafts.extend(self.phase_drafts(&phase.name, &a, &b));
        }
        drafts
    }

    fn phase_drafts(&self, phase: &str, a: &[&PhaseResult], b: &[&PhaseResult]) -> Vec<Draft> {
        let sides = [a, b].map(|repeats| Source { repeats, group: 0 });
        let groups = a
            .iter()
            .chain(b)
            .map(|phase| phase.groups.len())
            .max()
            .unwrap_or(0);
        let invalid = [a, b]
            .into_iter()
            .find_map(|repeats| (0..groups).find_map(|group| Source { repeats, group }.invalid()));
        OF_PHASE
            .into_iter()
            .filter_map(|figure| self.draft(phase, None, figure, sides, invalid))
            .collect()
    }

    /// `None` where neither side has the figure.
    fn draft(
        &self,
        phase: &str,
        group: Option<String>,
        figure: Figure,
        [a, b]: [Source<'_>; 2],
        invalid: Option<&str>,
    ) -> Option<Draft> {
        let mut rng = Rng::new(SEED);
        let (a, b) = (a.estimate(figure, &mut rng), b.estimate(figure, &mut rng));
        if a.is_err() && b.is_err() && group.is_none() {
            return None;
        }
        let value = |side: &Result<Estimate, String>| side.as_ref().ok().map(|estimate| estimate.value);
        let line = Line {
            engine: self.name.clone(),
            phase: phase.to_owned(),
            group,
            figure,
            a: value(&a),
            b: value(&b),
            ratio: None,
            interval: None,
            p: None,
            verdict: Verdict::NoDetectableDifference,
            made_of: made_of(a.as_ref().ok(), b.as_ref().ok()),
        };
        let ratio = match (a, b, invalid) {
            (_, _, Some(why)) => Err(format!("a schedule was not kept: {why}")),
            (Ok(a), Ok(b), None) => Ok(Ratio::new(&a, &b)),
            (Err(why), Err(_), None) => Err(why),
            (Err(why), Ok(_), None) => Err(format!("of the first: {why}")),
            (Ok(_), Err(why), None) => Err(format!("of the second: {why}")),
        };
        Some(Draft {
            line,
            main: false,
            ratio,
        })
    }
}

fn group_figures(a: Source<'_>, b: Source<'_>) -> Vec<Figure> {
    let mut kinds = a.kinds();
    kinds.extend(b.kinds());
    kinds.sort_unstable();
    kinds.dedup();
    let responses = kinds
        .into_iter()
        .flat_map(|kind| PERCENTILES.map(|percentile| Figure::Response { kind, percentile }));
    std::iter::once(Figure::Rate).chain(responses).collect()
}

/// Whether a figure is what a phase's first group is run for.
fn is_main(figure: Figure, load: Load) -> bool {
    match (figure, load) {
        (Figure::Rate, Load::Closed { .. }) => true,
        (Figure::Response { percentile, .. }, Load::Open { .. }) => percentile == MAIN_PERCENTILE,
        _ => false,
    }
}

fn made_of(a: Option<&Estimate>, b: Option<&Estimate>) -> String {
    let (Some(a), Some(b)) = (a, b) else {
        return String::new();
    };
    let repeats = format!("{} and {} repeats", a.repeats, b.repeats);
    match a.block.max(b.block) {
        0 => repeats,
        longest => format!(
            "{repeats}, {} and {} blocks of up to {longest} windows",
            a.blocks, b.blocks
        ),
    }
}

impl Comparison {
    fn new(a: &str, b: &str, limits: Limits) -> Self {
        Self {
            a: a.to_owned(),
            b: b.to_owned(),
            refused: None,
            notes: Vec::new(),
            limits,
            family: 0,
            lines: Vec::new(),
        }
    }

    /// Steps 3 to 5 of the module's text.
    fn judge(&mut self, drafts: Vec<Draft>) {
        let testable = |draft: &Draft| {
            draft
                .ratio
                .as_ref()
                .ok()
                .filter(|ratio| ratio.sees_repeats())?
                .p()
        };
        let ps: Vec<Option<f64>> = drafts.iter().map(testable).collect();
        let tested: Vec<Test> = drafts
            .iter()
            .zip(&ps)
            .filter_map(|(d, p)| {
                Some(Test {
                    p: (*p)?,
                    main: d.main,
                })
            })
            .collect();
        self.family = tested.len();
        let mut levels = holm(&tested, self.limits.error_rate).into_iter();
        for (draft, p) in drafts.into_iter().zip(ps) {
            let level = p.and_then(|_| levels.next()).unwrap_or(self.limits.error_rate);
            let Draft { mut line, ratio, .. } = draft;
            line.verdict = match &ratio {
                Err(why) => Verdict::CannotTell(why.clone()),
                Ok(ratio) => {
                    line.ratio = Some(ratio.value);
                    line.interval = ratio.interval(level);
                    line.p = p;
                    self.limits.verdict(line.figure, ratio, p, level)
                }
            };
            self.lines.push(line);
        }
    }

    /// Verdicts that claim a difference.
    pub fn differences(&self) -> impl Iterator<Item = &Line> {
        self.lines
            .iter()
            .filter(|line| matches!(line.verdict, Verdict::Faster | Verdict::Slower))
    }
}

impl Limits {
    fn verdict(self, figure: Figure, ratio: &Ratio, p: Option<f64>, level: f64) -> Verdict {
        let (Some(p), Some([low, high])) = (p, ratio.interval(level)) else {
            let why = "one repeat is not enough: differences between runs are not seen; run with --repeats 5";
            return Verdict::CannotTell(why.to_owned());
        };
        let negligible = low > 1.0 - self.smallest_effect && high < 1.0 + self.smallest_effect;
        if p > level || negligible {
            Verdict::NoDetectableDifference
        } else if (ratio.value > 1.0) == figure.more_is_better() {
            Verdict::Faster
        } else {
            Verdict::Slower
        }
    }
}

/// A figure's place in the family.
#[derive(Debug, Clone, Copy)]
struct Test {
    p: f64,
    main: bool,
}

/// For each test the level that Holm's weighted steps hold it against, smallest p for its weight first; what follows the
/// first failure keeps the shares of that step. Main figures share half of all weight, the others half.
fn holm(tests: &[Test], error_rate: f64) -> Vec<f64> {
    let main = tests.iter().filter(|test| test.main).count();
    let weight = |test: &Test| 1.0 / if test.main { main } else { tests.len() - main } as f64;
    let mut order: Vec<usize> = (0..tests.len()).collect();
    let key = |place: &usize| tests[*place].p / weight(&tests[*place]);
    order.sort_by(|a, b| key(a).total_cmp(&key(b)));
    let mut left: f64 = tests.iter().map(weight).sum();
    let mut failed = false;
    let mut levels = vec![error_rate; tests.len()];
    for place in order {
        let level = error_rate * weight(&tests[place]) / left;
        levels[place] = level;
        failed |= tests[place].p > level;
        if !failed {
            left -= weight(&tests[place]);
        }
    }
    levels
}

#[cfg(test)]
#[path = "compare_tests.rs"]
mod tests;
