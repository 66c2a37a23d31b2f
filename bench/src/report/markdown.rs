//! The README's table: engines side by side, a few rows a phase, the machine under it. Made from a stored run, so that the
//! README's figures are never typed.

use crate::report::figures::{self, Row};
use crate::report::table::{machine, over_repeats};
use crate::report::words::{NOTHING, micros, percent, short, thousands};
use crate::result::Run;

/// A run as a markdown table.
pub fn markdown(run: &Run) -> String {
    let rows = figures::rows(std::slice::from_ref(run));
    let mut notes: Vec<String> = Vec::new();
    let mut out = String::new();
    if run.interrupted {
        out.push_str("**INTERRUPTED: what is shown was measured, the rest was not.**\n\n");
    }
    let heads: Vec<String> = run
        .engines
        .iter()
        .map(|engine| escape(&engine.fairness.engine))
        .collect();
    out.push_str(&format!(
        "| work | {} |\n|---|{}\n",
        heads.join(" | "),
        "---:|".repeat(heads.len())
    ));
    let mut told: Vec<(&str, &str)> = Vec::new();
    for row in &rows {
        let work = (row.phase.as_str(), row.group.as_str());
        if told.contains(&work) {
            continue;
        }
        told.push(work);
        let beside: Vec<&Row> = rows
            .iter()
            .filter(|other| (other.phase.as_str(), other.group.as_str()) == work)
            .collect();
        for line in lines(&beside, run.engines.len(), &mut notes) {
            out.push_str(&line);
        }
    }
    out.push_str(&format!(
        "\n`{}`\n\n{}.",
        run.environment.command.replace('`', "'"),
        escape(&machine(&run.environment))
    ));
    if run.spec.repeats > 1 {
        out.push_str(&format!(
            " Rates are medians of {} repeats, with the least and the most.",
            run.spec.repeats
        ));
    }
    out.push('\n');
    for note in &notes {
        out.push_str(&format!("\n- {}", escape(note)));
    }
    if !notes.is_empty() {
        out.push('\n');
    }
    out
}

type Figure = (&'static str, fn(&Row) -> Option<String>);

/// Rows of a phase, in order; one that no engine has is left out.
const FIGURES: [Figure; 7] = [
    ("/s", |row| Some(over_repeats(&row.rate, row.repeats, thousands))),
    ("p99, µs", |row| Some(micros(row.response.p99))),
    ("p99.9, µs", |row| row.response.p999.map(|ns| micros(Some(ns)))),
    ("CPU s for a million", |row| {
        Some(short(row.cost?.cpu_per_million?))
    }),
    // Two rows: an engine's own count, which leaves out what it does not know of, is no match for the kernel's.
    ("write amplification, by its own count", |row| {
        Some(short(row.cost?.write_amp?))
    }),
    ("write amplification, by the kernel's count", |row| {
        Some(short(row.cost?.write_amp_process?))
    }),
    ("÷ device", |row| {
        let device = row.device.as_ref()?;
        Some(format!(
            "{} (drift {})",
            percent(device.ratio.median),
            percent(device.drift)
        ))
    }),
];

fn lines(beside: &[&Row], engines: usize, notes: &mut Vec<String>) -> Vec<String> {
    let first = beside[0];
    let work = if first.main {
        first.phase.clone()
    } else {
        format!("{}: {}", first.phase, first.group)
    };
    let load = if first.load.is_empty() {
        String::new()
    } else {
        format!(" ({})", escape(&first.load))
    };
    let mut lines = Vec::new();
    for (place, (name, figure)) in FIGURES.into_iter().enumerate() {
        if !beside.iter().any(|row| figure(row).is_some()) {
            continue;
        }
        let cells = (0..engines).map(|engine| {
            let row = beside.iter().find(|row| row.series == engine);
            row.map_or(NOTHING.to_owned(), |row| {
                cell(row, figure(row), place == 0, notes)
            })
        });
        let cells: Vec<String> = cells.collect();
        let begin = if place == 0 {
            format!("{}{load}, {name}", escape(&work))
        } else {
            format!("… {name}")
        };
        lines.push(format!("| {begin} | {} |\n", cells.join(" | ")));
    }
    lines
}

fn cell(row: &Row, figure: Option<String>, first: bool, notes: &mut Vec<String>) -> String {
    let mut tell = |word: &str, why: &str| {
        let note = format!("{word}: {}, {}: {why}", row.engine, row.phase);
        if !notes.contains(&note) {
            notes.push(note);
        }
    };
    if !row.invalid.is_empty() {
        row.invalid.iter().for_each(|why| tell("INVALID", why));
        return "INVALID".to_owned();
    }
    let figure = figure.unwrap_or(NOTHING.to_owned());
    match row.partial.as_ref().filter(|_| first) {
        Some(why) => {
            tell("PARTIAL", why);
            format!("PARTIAL {figure}")
        }
        None => figure,
    }
}

/// Text from a file, so that it neither ends a cell nor becomes markup.
fn escape(text: &str) -> String {
    let mut out = String::new();
    for letter in text.chars() {
        match letter {
            '|' | '\\' | '`' | '*' | '_' | '[' | ']' => out.extend(['\\', letter]),
            '<' => out.push_str("&lt;"),
            '&' => out.push_str("&amp;"),
            control if control.is_control() => out.push(' '),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn every_line_of_the_table_has_a_cell_for_each_engine() {
        let mut run = sample::run();
        run.engines[0].fairness.engine = "a|b".to_owned();
        let text = markdown(&run);
        let lines: Vec<_> = text.lines().filter(|line| line.starts_with('|')).collect();
        assert!(lines.len() > 10, "{text}");
        for line in lines {
            let bars = line.matches('|').count() - line.matches("\\|").count();
            assert_eq!(bars, run.engines.len() + 2, "{line}");
        }
    }

    #[test]
    fn an_invalid_phase_has_no_figure_in_any_row() {
        let text = markdown(&sample::run());
        let lines = text.lines().skip_while(|line| !line.starts_with("| a (open"));
        let lines: Vec<_> = lines
            .take_while(|line| !line.starts_with("| readwhilewriting"))
            .collect();
        assert!(lines.len() >= 4, "{text}");
        assert!(
            lines
                .iter()
                .all(|line| line.split('|').nth(3).unwrap().trim() == "INVALID"),
            "{lines:#?}"
        );
        assert_eq!(text.matches("- INVALID: fjall, a: group users:").count(), 1);
    }

    #[test]
    fn an_engine_that_does_not_count_its_writes_is_not_set_beside_those_that_do() {
        let text = markdown(&sample::run());
        let own = text.lines().find(|line| line.contains("own count")).unwrap();
        assert!(own.ends_with("| – |") && own.contains("| 2.63 |"), "{own}");
        let kernel = text.lines().find(|line| line.contains("kernel's count")).unwrap();
        assert!(!kernel.contains('–'), "{kernel}");
    }

    #[test]
    fn the_machine_and_the_interruption_are_told_and_nothing_becomes_markup() {
        let text = markdown(&sample::run());
        assert!(text.starts_with("**INTERRUPTED"));
        assert!(text.contains("AMD EPYC, 2 cores, 24000 MiB, Linux 6.18.5, ext4"));
        assert!(
            text.contains("&lt;script>alert(1)") && !text.replace("/tmp/</script>", "").contains("<script")
        );
        assert!(text.contains("| PARTIAL "));
    }
}
