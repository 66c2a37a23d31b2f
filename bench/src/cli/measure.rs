//! `run`, `sweep` and `suite`: what is measured, stored and shown.

use std::fmt::Write as _;
use std::path::Path;

use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::args;
use crate::device::Stop;
use crate::error::BenchError;
use crate::report;
use crate::result::{Run, can_store};
use crate::run::sweep::{self, Found, Verdict};
use crate::run::{self, Plan, Watch};
use crate::suite;

/// Measures engines on one workload.
///
/// # Errors
/// As [`run::run`].
pub fn run(args: &args::Run, stop: &Stop) -> Result<String, BenchError> {
    let plan = plan(args.spec()?, &args.place);
    args.out.as_deref().map_or(Ok(()), can_store)?;
    let run = run::run(&plan, &watch(stop))?;
    store(&run, args.out.as_deref())?;
    Ok(report::terminal(&run))
}

/// Finds the highest rate that meets a target.
///
/// # Errors
/// As [`sweep::sweep`].
pub fn sweep(args: &args::Sweep, stop: &Stop) -> Result<String, BenchError> {
    let plan = plan(args.workload.spec()?, &args.place);
    args.out.as_deref().map_or(Ok(()), can_store)?;
    let (run, found) = sweep::sweep(&plan, args.target, &watch(stop))?;
    store(&run, args.out.as_deref())?;
    Ok(format!("{}\n{}", report::terminal(&run), words(&found)))
}

fn words(found: &[Found]) -> String {
    let mut words = String::new();
    for engine in found {
        for (rate, verdict) in &engine.steps {
            let verdict = match verdict {
                Verdict::Met => "met",
                Verdict::Missed(why) => why,
            };
            writeln!(words, "{}: {rate:.0}/s: {verdict}", engine.engine).expect("a string takes all");
        }
        match engine.rate {
            Some(rate) => writeln!(words, "{}: the target is met up to {rate:.0}/s", engine.engine),
            None => writeln!(
                words,
                "{}: the target was met at no rate that was tried",
                engine.engine
            ),
        }
        .expect("a string takes all");
    }
    words
}

/// Runs a suite.
///
/// # Errors
/// As [`run::run`].
pub fn suite(args: &args::Suite, stop: &Stop) -> Result<String, BenchError> {
    std::fs::create_dir_all(&args.out).map_err(|e| BenchError::file("making the directory", &args.out, e))?;
    let scale = suite::Scale {
        full: args.which == args::Which::Full,
        entries: args.entries,
        seconds: args.seconds,
        repeats: args.repeats,
        engine: args::engine(),
    };
    let mut runs = Vec::new();
    for spec in suite::specs(&scale)? {
        let path = args.out.join(format!("{}.json", spec.name));
        can_store(&path)?;
        let run = run::run(&plan(spec, &args.place), &watch(stop))?;
        run.store(&path)?;
        runs.push(run);
        if stop.asked() {
            break;
        }
    }
    let html = args.out.join("report.html");
    report::write_html(&runs, &html)?;
    let markdown: Vec<String> = runs.iter().map(report::markdown).collect();
    crate::result::write_whole(&args.out.join("tables.md"), markdown.join("\n").as_bytes())?;
    let tables: Vec<String> = runs.iter().map(report::terminal).collect();
    Ok(format!(
        "{}\nThe report is in {}.",
        tables.join("\n"),
        html.display()
    ))
}

fn plan(spec: crate::spec::Spec, place: &args::Place) -> Plan {
    Plan {
        spec,
        engines: place.engines(),
        dir: place.dir.clone(),
        device: !place.no_device,
    }
}

fn watch(stop: &Stop) -> Watch {
    let style = ProgressStyle::with_template("{bar:30} {elapsed} gone, about {eta} left  {msg}")
        .expect("the template is a constant, and a test makes it")
        .progress_chars("=> ");
    Watch {
        stop: stop.clone(),
        bar: ProgressBar::new(0).with_style(style),
    }
}

fn store(run: &Run, out: Option<&Path>) -> Result<(), BenchError> {
    let Some(out) = out else {
        return Ok(());
    };
    run.store(out)?;
    report::write_html(std::slice::from_ref(run), &out.with_extension("html"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_progress_template_is_one() {
        watch(&Stop::new()).bar.finish_and_clear();
    }
}
