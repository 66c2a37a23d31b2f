//! `compare` and `report`: what stored runs say.

use crate::cli::args::{Compare, Report};
use crate::error::BenchError;
use crate::report;
use crate::result::Run;
use crate::stats;

/// Compares two runs, or two engines of one.
///
/// # Errors
/// A run cannot be read, or the two cannot be compared.
pub fn compare(args: &Compare) -> Result<String, BenchError> {
    let a = Run::load(&args.a)?;
    let comparison = match (&args.b, &args.engines[..]) {
        (Some(b), []) => stats::compare(&a, &Run::load(b)?),
        (None, [first, second]) => stats::compare_engines(&a, first, second),
        _ => {
            let words = "name two stored runs, or one and two of its engines: --engines fjall,corelane";
            return Err(BenchError::usage(words));
        }
    };
    Ok(comparison.to_string())
}

/// Shows runs.
///
/// # Errors
/// A run cannot be read, or the report cannot be written.
pub fn report(args: &Report) -> Result<String, BenchError> {
    let runs = args
        .runs
        .iter()
        .map(|path| Run::load(path))
        .collect::<Result<Vec<_>, _>>()?;
    if let Some(html) = &args.html {
        report::write_html(&runs, html)?;
    }
    let show = if args.markdown {
        report::markdown
    } else {
        report::terminal
    };
    Ok(runs.iter().map(show).collect::<Vec<_>>().join("\n"))
}
