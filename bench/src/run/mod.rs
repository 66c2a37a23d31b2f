//! A run: every engine, every repeat, every phase, each repeat on a fresh database, and the walk that checks it at the end.
//!
//! ```text
//! for each repeat
//!   for each engine                    turn by turn, so that a drift of the machine meets all alike
//!     open an empty database
//!     for each phase                   settle? -> raw device -> callers, sampled once a window -> raw device
//!     walk it all and check every entry
//!     close, remove
//! ```
//!
//! An error ends the run, and nothing of it is stored: there is no figure beside a wrong answer. An interruption ends it
//! too, and what was measured so far is kept and marked.

mod beside;
pub mod choice;
mod phase;
mod sampler;
pub mod sweep;
mod verify;

use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::ProgressBar;

use crate::cost::MemoryLimit;
use crate::device::Stop;
use crate::engines::Engine;
use crate::error::{BenchError, Kind};
use crate::result::{EngineRun, Environment, FORMAT, PhaseResult, Repeat, Run};
use crate::run::beside::Device;
use crate::run::phase::Conditions;
use crate::run::verify::Verifier;
use crate::spec::{EngineOptions, Phase, Spec};

/// Opens an engine for each repeat. [`choice::EngineChoice`] knows those of the command line; an adapter of one's own is another.
pub trait Open {
    /// The name that results go by.
    fn name(&self) -> String;

    /// Opens an empty database in `dir`, which is empty.
    ///
    /// # Errors
    /// The engine's.
    fn open(&self, dir: &Path, options: &EngineOptions) -> Result<Box<dyn Engine>, BenchError>;
}

/// What is to be run, where, and what goes with it.
pub struct Plan {
    /// What is done; it was checked.
    pub spec: Spec,
    /// To whom, in this order.
    pub engines: Vec<Box<dyn Open>>,
    /// Where databases go; each is removed when it was measured.
    pub dir: PathBuf,
    /// Whether the raw device is measured beside phases that it bounds.
    pub device: bool,
}

/// Who watches a run.
#[derive(Debug, Clone)]
pub struct Watch {
    /// Ends it early, keeping what was measured.
    pub stop: Stop,
    /// Counts planned seconds.
    pub bar: ProgressBar,
}

impl Watch {
    /// Nobody.
    pub fn none() -> Self {
        Self {
            stop: Stop::new(),
            bar: ProgressBar::hidden(),
        }
    }
}

/// Adds phases to a spec while it runs.
pub trait Steps {
    /// An engine's turn begins.
    fn begin(&mut self, engine: &str);
    /// The phase to run next, after one whose result is `last`; asked for after the spec's own phases too, which go first.
    fn next(&mut self, last: &PhaseResult, own_phases_left: bool) -> Option<Phase>;
}

/// Adds none.
struct NoSteps;

impl Steps for NoSteps {
    fn begin(&mut self, _engine: &str) {}

    fn next(&mut self, _last: &PhaseResult, _own_phases_left: bool) -> Option<Phase> {
        None
    }
}

/// Runs a plan whose spec was checked.
///
/// # Errors
/// The first thing that went wrong: no figure is given beside it.
pub fn run(plan: &Plan, watch: &Watch) -> Result<Run, BenchError> {
    run_steps(plan, watch, &mut NoSteps)
}

/// Runs a plan, with phases that are added to it on the way: each engine has its own.
///
/// # Errors
/// As [`run`].
pub fn run_steps(plan: &Plan, watch: &Watch, steps: &mut dyn Steps) -> Result<Run, BenchError> {
    if plan.engines.is_empty() {
        return Err(BenchError::usage("name at least one engine"));
    }
    let asked = plan.spec.engine.memory_limit_bytes;
    // Undone when the run ends.
    let (_limit, memory_limit) = MemoryLimit::enter_if(asked);
    let mut run = Run {
        format: FORMAT,
        environment: Environment::here(&plan.dir, memory_limit),
        spec: plan.spec.clone(),
        engines: Vec::new(),
        interrupted: false,
    };
    let device = plan
        .device
        .then(|| Device::prepare(&plan.dir, &plan.spec))
        .transpose()?;
    watch
        .bar
        .set_length(planned_seconds(&plan.spec) * plan.engines.len() as u64);
    for repeat in 0..plan.spec.repeats {
        for (place, choice) in plan.engines.iter().enumerate() {
            if watch.stop.asked() {
                run.interrupted = true;
                return Ok(run);
            }
            let turn = Turn {
                plan,
                device: device.as_ref(),
                choice: choice.as_ref(),
                repeat,
                watch,
            };
            turn.run(&mut run.engines, place, steps)
                .map_err(|e| e.while_doing(&format!("{} (repeat {})", choice.name(), repeat + 1)))?;
        }
    }
    run.interrupted = watch.stop.asked();
    Ok(run)
}

/// About how long one engine takes, for the progress bar alone.
fn planned_seconds(spec: &Spec) -> u64 {
    let phase = |phase: &Phase| {
        let by_time = phase.until.seconds.map(|seconds| seconds + phase.warmup_seconds);
        by_time.unwrap_or(phase.until.operations.unwrap_or(0) as f64 / 100_000.0)
    };
    let all: f64 = spec.phases.iter().map(phase).sum();
    // Rounded up to the second: far below 2^64.
    Duration::from_secs_f64(all.ceil()).as_secs() * u64::from(spec.repeats)
}

/// One engine, one repeat.
struct Turn<'a> {
    plan: &'a Plan,
    device: Option<&'a Device>,
    choice: &'a dyn Open,
    repeat: u32,
    watch: &'a Watch,
}

impl Turn<'_> {
    fn run(
        &self,
        engines: &mut Vec<EngineRun>,
        place: usize,
        steps: &mut dyn Steps,
    ) -> Result<(), BenchError> {
        let dir = tempfile::Builder::new()
            .prefix("corelane-bench-")
            .tempdir_in(&self.plan.dir)
            .map_err(|e| BenchError::file("making a directory for a database in", &self.plan.dir, e))?;
        let engine = self.choice.open(dir.path(), &self.plan.spec.engine)?;
        check_support(engine.as_ref(), &self.plan.spec)?;
        if engines.len() == place {
            engines.push(EngineRun {
                engine: self.choice.name(),
                fairness: engine.fairness().clone(),
                repeats: Vec::new(),
            });
        }
        steps.begin(&self.choice.name());
        let mut verifier = Verifier::new(&self.plan.spec);
        let phases = self.phases(engine.as_ref(), dir.path(), &mut verifier, steps)?;
        let interrupted = self.watch.stop.asked();
        let verified_entries = (!interrupted)
            .then(|| verifier.walk(engine.as_ref()))
            .transpose()?;
        engines[place].repeats.push(Repeat {
            phases,
            verified_entries,
        });
        engine.close()?;
        dir.close()
            .map_err(|e| BenchError::file("removing a database in", &self.plan.dir, e))
    }

    fn phases(
        &self,
        engine: &dyn Engine,
        dir: &Path,
        verifier: &mut Verifier,
        steps: &mut dyn Steps,
    ) -> Result<Vec<PhaseResult>, BenchError> {
        let conditions = Conditions {
            dir,
            device: self.device,
            watch: self.watch,
            repeat: self.repeat,
        };
        let own = self.plan.spec.phases.len();
        let mut spec = self.plan.spec.clone();
        let mut found = Vec::new();
        while found.len() < spec.phases.len() && !self.watch.stop.asked() {
            let number = found.len();
            let name = spec.phases[number].name.clone();
            self.watch
                .bar
                .set_message(format!("{} · {name}", self.choice.name()));
            let measured = phase::measure(engine, &spec, number, &conditions, verifier);
            let measured = measured.map_err(|e| e.while_doing(&name))?;
            spec.phases.extend(steps.next(&measured, number + 1 < own));
            found.push(measured);
        }
        Ok(found)
    }
}

fn check_support(engine: &dyn Engine, spec: &Spec) -> Result<(), BenchError> {
    let scans = |phase: &Phase| phase.groups.iter().any(|group| group.mix.scan > 0.0);
    match spec.phases.iter().find(|phase| scans(phase)) {
        Some(phase) if !engine.scans() => {
            let words = format!(
                "{} cannot scan keys in order, which phase {} asks for",
                engine.fairness().engine,
                phase.name
            );
            Err(BenchError::new(Kind::Usage, words))
        }
        _ => Ok(()),
    }
}
