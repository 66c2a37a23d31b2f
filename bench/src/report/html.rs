//! A report as one HTML file that opens offline: our page and styles, uPlot for the charts, and the figures as JSON.
//!
//! Invariants, held by tests and by the page's own Content-Security-Policy: nothing is fetched, and text from data never
//! becomes markup. The JSON stands in a `<script type="application/json">` with every `<` escaped, and the page puts what
//! it reads there into elements as text alone. Cells carry their unrounded number (`data-key`, `data-value`), so that a test
//! compares them with the stored run.

use std::path::Path;

use serde::Serialize;

use crate::engines::Fairness;
use crate::error::BenchError;
use crate::report::curves::{self, Curve, RateChart, Timeline};
use crate::report::figures::{self, Row};
use crate::result::{Environment, Run, write_whole};

const PAGE: &str = include_str!("../../assets/report.html");
const STYLES: &str = include_str!("../../assets/report.css");
const SCRIPT: &str = include_str!("../../assets/report.js");
const CHART_STYLES: &str = include_str!("../../assets/uplot/uPlot.min.css");
const CHART_SCRIPT: &str = include_str!("../../assets/uplot/uPlot.iife.min.js");

/// What the page is given.
#[derive(Debug, Serialize)]
struct Data<'a> {
    runs: Vec<RunHead<'a>>,
    series: Vec<Series<'a>>,
    rows: Vec<Row>,
    nines: Vec<f64>,
    curves: Vec<Curve>,
    timelines: Vec<Timeline>,
    rate_charts: Vec<RateChart>,
}

#[derive(Debug, Serialize)]
struct RunHead<'a> {
    name: &'a str,
    environment: &'a Environment,
    seed: u64,
    repeats: u32,
    interrupted: bool,
}

/// An engine of a run: a colour in every chart.
#[derive(Debug, Serialize)]
struct Series<'a> {
    label: String,
    run: usize,
    engine: &'a str,
    fairness: &'a Fairness,
    /// Entries that the closing walks checked, a repeat each.
    verified: Vec<Option<u64>>,
}

/// Writes the report of one run, or of several beside each other.
///
/// # Errors
/// There is no run; or naming the file, that it cannot be written.
pub fn write_html(runs: &[Run], path: &Path) -> Result<(), BenchError> {
    if runs.is_empty() {
        return Err(BenchError::usage("a report is made of at least one stored run"));
    }
    write_whole(path, html(runs)?.as_bytes())
}

/// The report itself.
///
/// # Errors
/// A bug of the bench: the figures cannot become JSON.
pub fn html(runs: &[Run]) -> Result<String, BenchError> {
    let rows = figures::rows(runs);
    let data = Data {
        runs: runs.iter().map(head).collect(),
        series: series(runs),
        nines: curves::nines(),
        curves: curves::curves(runs, &rows),
        timelines: curves::timelines(runs),
        rate_charts: curves::rate_charts(runs, &rows),
        rows,
    };
    let json = serde_json::to_string(&data).map_err(|e| BenchError::bug(format!("writing JSON: {e}")))?;
    // `<` cannot then end the element or open a comment in it; in JSON it stands in strings alone.
    let json = json.replace('<', "\\u003c");
    let mut page = PAGE;
    let mut out =
        String::with_capacity(json.len() + CHART_SCRIPT.len() + SCRIPT.len() + STYLES.len() + PAGE.len());
    // In the page's order, each searched behind the last: what was put in is never searched again.
    for (place, content) in [
        ("/*CHART_STYLES*/", CHART_STYLES),
        ("/*STYLES*/", STYLES),
        ("/*DATA*/", json.as_str()),
        ("/*CHART_SCRIPT*/", CHART_SCRIPT),
        ("/*SCRIPT*/", SCRIPT),
    ] {
        let (before, after) = page
            .split_once(place)
            .expect("report.html has each place, in this order");
        out.push_str(before);
        out.push_str(content);
        page = after;
    }
    out.push_str(page);
    Ok(out)
}

fn head(run: &Run) -> RunHead<'_> {
    RunHead {
        name: &run.spec.name,
        environment: &run.environment,
        seed: run.spec.seed,
        repeats: run.spec.repeats,
        interrupted: run.interrupted,
    }
}

fn series(runs: &[Run]) -> Vec<Series<'_>> {
    let engines = |run: usize| runs[run].engines.iter().map(move |engine| (run, engine));
    let all = (0..runs.len()).flat_map(engines);
    all.map(|(run, engine)| Series {
        label: match runs.len() {
            1 => engine.engine.clone(),
            _ => format!("{} #{}", engine.engine, run + 1),
        },
        run,
        engine: &engine.engine,
        fairness: &engine.fairness,
        verified: engine
            .repeats
            .iter()
            .map(|repeat| repeat.verified_entries)
            .collect(),
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn text_from_data_stands_in_the_json_alone_and_cannot_leave_it() {
        let page = html(&[sample::run()]).unwrap();
        assert!(!page.contains(sample::EVIL));
        let (before, rest) = page
            .split_once("<script type=\"application/json\" id=\"data\">")
            .unwrap();
        let (json, after) = rest.split_once("</script>").unwrap();
        assert!(!json.contains('<'));
        let data: serde_json::Value = serde_json::from_str(json).unwrap();
        assert_eq!(data["series"][2]["engine"], sample::EVIL);
        assert_eq!(
            data["runs"][0]["environment"]["command"],
            sample::run().environment.command.as_str()
        );
        for text in ["alert(1)", "EPYC", "fjall"] {
            assert!(!before.contains(text) && !after.contains(text), "{text}");
        }
    }

    #[test]
    fn the_page_refers_to_nothing_outside() {
        let page = html(&[sample::run()]).unwrap();
        for outside in [
            "<link",
            " src=",
            "url(",
            "@import",
            "fetch(",
            "XMLHttpRequest",
            "WebSocket",
            "import(",
        ] {
            assert!(!page.contains(outside), "{outside}");
        }
        assert!(page.contains("default-src 'none'"));
    }

    #[test]
    fn places_in_data_are_not_filled() {
        let mut run = sample::run();
        run.spec.name = "/*SCRIPT*/ /*CHART_SCRIPT*/".to_owned();
        let page = html(&[run]).unwrap();
        assert!(page.contains("\"name\":\"/*SCRIPT*/ /*CHART_SCRIPT*/\""));
        assert_eq!(page.matches("var uPlot=").count(), 1);
    }

    #[test]
    fn engines_of_several_files_are_told_apart() {
        let runs = [sample::sweep(), sample::sweep()];
        let labels: Vec<_> = series(&runs).into_iter().map(|series| series.label).collect();
        assert_eq!(labels, ["corelane #1", "redb #1", "corelane #2", "redb #2"]);
    }

    #[test]
    fn a_report_of_nothing_is_refused() {
        let error = write_html(&[], Path::new("/nowhere")).unwrap_err();
        assert_eq!(error.kind(), crate::error::Kind::Usage);
    }
}
