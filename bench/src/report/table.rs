//! Tables for the terminal: what each engine was given, how fast it was, what it cost; loud where a figure must not be used.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use crate::engines::Fairness;
use crate::report::figures::{self, Percentiles, Row, Spread};
use crate::report::words::{NOTHING, mib, micros, percent, short, short_or_nothing, thousands};
use crate::result::{Environment, Run};

/// What stands in place of every figure of an invalid phase.
const INVALID: &str = "INVALID";
/// Columns of the table of text; the tables of numbers are as wide as they must be.
const TEXT_WIDTH: u16 = 140;

/// Everything about a run, for a terminal.
pub fn terminal(run: &Run) -> String {
    let rows = figures::rows(std::slice::from_ref(run));
    let mut notes = Notes::default();
    let mut out = head(run);
    let mut section = |title: &str, body: Option<String>| {
        if let Some(body) = body {
            out.push_str(&format!("\n{title}\n{body}\n"));
        }
    };
    section("What each engine was given", Some(fairness(run, &mut notes)));
    section(
        "Speed (response time from the intended start, µs)",
        Some(speed(&rows, &mut notes)),
    );
    section("Open loops (µs)", open_loops(&rows, &mut notes));
    section("Cost", Some(cost(&rows, &mut notes)));
    section("Beside the raw device", device(&rows, &mut notes));
    out.push_str(&notes.text());
    if run.interrupted {
        out.push_str(&interrupted(run));
    }
    // Once more over everything: notes and the command line come from a file too.
    out.chars()
        .map(|letter| {
            if letter.is_control() && letter != '\n' {
                ' '
            } else {
                letter
            }
        })
        .collect()
}

/// Where and when, in one line for each sort of thing.
pub fn machine(environment: &Environment) -> String {
    format!(
        "{} UTC, commit {}; {}, {} MiB, Linux {}, {}; load averages at the start {}; memory limit: {}",
        environment.date,
        environment.commit,
        environment.processor,
        environment.memory_mib,
        environment.kernel,
        environment.filesystem,
        environment.load,
        environment.memory_limit,
    )
}

/// Footnotes, numbered as they come; equal ones share a number.
#[derive(Debug, Default)]
struct Notes(Vec<String>);

impl Notes {
    /// Takes a note; what is put behind the word it belongs to.
    fn add(&mut self, note: &str) -> String {
        let at = self.0.iter().position(|known| known == note).unwrap_or_else(|| {
            self.0.push(note.to_owned());
            self.0.len() - 1
        });
        format!("[{}]", at + 1)
    }

    fn text(&self) -> String {
        let lines = self
            .0
            .iter()
            .enumerate()
            .map(|(at, note)| format!("[{}] {note}\n", at + 1));
        let text: String = lines.collect();
        if text.is_empty() {
            text
        } else {
            format!("\n{text}")
        }
    }
}

fn head(run: &Run) -> String {
    let environment = &run.environment;
    let warning = if run.interrupted {
        interrupted(run)
    } else {
        String::new()
    };
    format!(
        "{warning}{}: {}\n{}\n",
        run.spec.name,
        environment.command,
        machine(environment)
    )
}

fn interrupted(run: &Run) -> String {
    let name = &run.spec.name;
    format!(
        "\n*** INTERRUPTED: {name} was stopped before its end. What is shown was measured, the rest was not. ***\n\n"
    )
}

fn table(heads: &[&str], words: usize) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_header(heads);
    table.set_content_arrangement(ContentArrangement::Disabled);
    for column in table.column_iter_mut().skip(words) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn fairness(run: &Run, notes: &mut Notes) -> String {
    let given: Vec<&Fairness> = run.engines.iter().map(|engine| &engine.fairness).collect();
    let mut heads = vec![String::new()];
    for of_engine in &given {
        let marks: Vec<String> = of_engine.choices.iter().map(|choice| notes.add(choice)).collect();
        heads.push(
            format!("{} {}", clean(&of_engine.engine), marks.join(""))
                .trim_end()
                .to_owned(),
        );
    }
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_header(heads);
    table
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(TEXT_WIDTH);
    for (name, value) in FAIRNESS {
        let values = given.iter().map(|of_engine| clean(&value(of_engine)));
        table.add_row(std::iter::once(name.to_owned()).chain(values));
    }
    table.to_string()
}

type Value = fn(&Fairness) -> String;

/// The rows of the fairness table.
const FAIRNESS: [(&str, Value); 8] = [
    ("durability", |given| given.durability.clone()),
    ("I/O", |given| given.io.clone()),
    ("cache, MiB", |given| {
        given.cache_bytes.map_or("page cache".to_owned(), mib)
    }),
    ("memtables, MiB", |given| {
        given.memtable_bytes.map_or("none".to_owned(), mib)
    }),
    ("compression", |given| given.compression.clone()),
    ("threads", |given| given.threads.clone()),
    ("cores", |given| given.cores.clone()),
    ("options chosen", |given| given.choices.len().to_string()),
];

fn speed(rows: &[Row], notes: &mut Notes) -> String {
    let heads = [
        "phase",
        "group",
        "engine",
        "load",
        "operations",
        "/s",
        "p50",
        "p99",
        "p99.9",
        "p99.99",
        "max",
        "steady from",
    ];
    let mut table = table(&heads, 4);
    for row in rows {
        let mut cells = named(row);
        cells.push(row.load.clone());
        cells.push(figure(row, thousands(row.operations as f64)));
        cells.push(rate(row, notes));
        let [p50, p99, p999, p9999, max] = times(&row.response);
        cells.extend([p50, p99, p999, p9999, max].map(|time| figure(row, time)));
        let steady = row.steady_from_s.map_or_else(
            || format!("never {}", notes.add(&format!("not steady: {}", row.steady_why))),
            |from| format!("{from:.1} s"),
        );
        cells.push(figure(row, steady));
        table.add_row(cells);
    }
    table.to_string()
}

fn open_loops(rows: &[Row], notes: &mut Notes) -> Option<String> {
    let heads = [
        "phase",
        "group",
        "engine",
        "asked /s",
        "reached /s",
        "service p50",
        "service p99",
        "service p99.9",
        "lag p99",
        "lag max",
        "schedule",
    ];
    let mut table = table(&heads, 3);
    for row in rows {
        let (Some(schedule), Some(service)) = (&row.schedule, &row.service) else {
            continue;
        };
        let mut cells = named(row);
        cells.push(thousands(schedule.asked_rate));
        cells.push(rate(row, notes));
        let [p50, p99, p999, ..] = times(service);
        cells.extend([p50, p99, p999].map(|time| figure(row, time)));
        cells.extend([schedule.lag_p99, schedule.lag_max].map(micros));
        cells.push(if row.invalid.is_empty() {
            "kept".to_owned()
        } else {
            "NOT KEPT".to_owned()
        });
        table.add_row(cells);
    }
    (!table.is_empty()).then(|| table.to_string())
}

fn cost(rows: &[Row], notes: &mut Notes) -> String {
    let heads = [
        "phase",
        "engine",
        "CPU s/M ops",
        "write amp",
        "process",
        "device",
        "reads/op",
        "KiB read/op",
        "space amp",
        "peak MiB",
        "device busy",
    ];
    let mut table = table(&heads, 2);
    let write = notes.add(
        "write amp: bytes written for each byte of the user's, by the engine's own counters (log, flush, compaction), by \
         /proc/self/io (process) and by /proc/diskstats (device); reads/op and KiB read/op: for each get or scan",
    );
    table.set_header(heads.map(|head| {
        if head == "write amp" {
            format!("{head} {write}")
        } else {
            head.to_owned()
        }
    }));
    for row in rows {
        let Some(cost) = &row.cost else { continue };
        let numbers = [
            cost.cpu_per_million,
            cost.write_amp,
            cost.write_amp_process,
            cost.write_amp_device,
            cost.reads_per_op,
            cost.read_kib_per_op,
            cost.space_amp,
            Some(cost.peak_mib),
        ];
        let mut cells = vec![clean(&row.phase), clean(&row.engine)];
        cells.extend(numbers.map(|number| figure(row, short_or_nothing(number))));
        let busy = cost.device_utilisation.map_or(NOTHING.to_owned(), percent);
        cells.push(figure(row, busy));
        table.add_row(cells);
    }
    table.to_string()
}

fn device(rows: &[Row], notes: &mut Notes) -> Option<String> {
    let heads = [
        "phase",
        "engine",
        "raw loop",
        "device /s",
        "engine ÷ device",
        "drift",
    ];
    let mut table = table(&heads, 3);
    for row in rows {
        let Some(device) = &row.device else { continue };
        let ratio = figure(row, over_repeats(&device.ratio, row.repeats, percent));
        let loud = if device.drift > DRIFT {
            notes.add(
                "the device itself drifted by more than 10 % between before and after: distrust the ratio",
            )
        } else {
            String::new()
        };
        let drift = format!("{} {loud}", percent(device.drift));
        let mut cells = vec![clean(&row.phase), clean(&row.engine), clean(&device.what)];
        cells.extend([thousands(device.rate), ratio, drift.trim_end().to_owned()]);
        table.add_row(cells);
    }
    (!table.is_empty()).then(|| table.to_string())
}

/// A device that is this much slower or faster afterwards makes no yardstick.
const DRIFT: f64 = 0.1;

fn named(row: &Row) -> Vec<String> {
    vec![clean(&row.phase), clean(&row.group), clean(&row.engine)]
}

/// The figure, unless it must not be used.
fn figure(row: &Row, figure: String) -> String {
    if row.invalid.is_empty() {
        figure
    } else {
        INVALID.to_owned()
    }
}

fn rate(row: &Row, notes: &mut Notes) -> String {
    if !row.invalid.is_empty() {
        let marks = row
            .invalid
            .iter()
            .map(|why| notes.add(&format!("INVALID: {}: {why}", clean(&row.engine))));
        return format!("{INVALID} {}", marks.collect::<String>());
    }
    let shown = over_repeats(&row.rate, row.repeats, thousands);
    match &row.partial {
        Some(why) => format!(
            "PARTIAL {shown} {}",
            notes.add(&format!("PARTIAL: {}: {why}", clean(&row.engine)))
        ),
        None => shown,
    }
}

/// The median, and with several repeats the least and the most.
pub fn over_repeats(spread: &Spread, repeats: usize, words: impl Fn(f64) -> String) -> String {
    let median = words(spread.median);
    if repeats < 2 {
        return median;
    }
    format!("{median} ({}–{})", words(spread.min), words(spread.max))
}

fn times(of: &Percentiles) -> [String; 5] {
    [of.p50, of.p99, of.p999, of.p9999, of.max]
        .map(|time| time.map_or(NOTHING.to_owned(), |ns| short(ns as f64 / 1e3)))
}

/// Text from a file, without what would move a terminal's cursor.
fn clean(text: &str) -> String {
    text.chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    /// The line of a table that has all these words.
    fn line<'a>(text: &'a str, words: &[&str]) -> &'a str {
        let mut lines = text
            .lines()
            .filter(|line| words.iter().all(|word| line.contains(word)));
        lines
            .next()
            .unwrap_or_else(|| panic!("no line has {words:?} in\n{text}"))
    }

    #[test]
    fn an_invalid_phase_shows_no_figure_but_the_reason() {
        let run = sample::run();
        let text = terminal(&run);
        let rows = figures::rows(std::slice::from_ref(&run));
        let row = rows.iter().find(|row| row.id == "0.1.1.0").unwrap();
        for hidden in [
            thousands(row.rate.median),
            thousands(row.operations as f64),
            micros(row.response.p99),
        ] {
            let shown = text
                .lines()
                .any(|line| line.contains("fjall") && line.contains(&format!(" {hidden} ")));
            assert!(!shown, "{hidden} is shown in\n{text}");
        }
        let speed = line(&text, &["│ a ", "fjall", "open, Poisson"]);
        assert_eq!(speed.matches(INVALID).count(), 8, "{speed}");
        assert!(line(&text, &["INVALID: fjall: group users:"]).contains("4.2 % of the operations"));
        assert!(line(&text, &["NOT KEPT"]).contains("fjall"));
    }

    #[test]
    fn an_interrupted_run_says_so_at_both_ends() {
        let mut run = sample::run();
        assert_eq!(terminal(&run).matches("*** INTERRUPTED").count(), 2);
        assert!(line(&terminal(&run), &["PARTIAL", sample::EVIL]).contains("load"));
        run.interrupted = false;
        assert!(!terminal(&run).contains("*** INTERRUPTED"));
    }

    #[test]
    fn rates_show_their_spread_only_where_there_are_repeats() {
        let found = Spread {
            median: 1200.0,
            min: 1000.0,
            max: 1300.0,
        };
        assert_eq!(over_repeats(&found, 3, thousands), "1,200 (1,000–1,300)");
        assert_eq!(over_repeats(&found, 1, thousands), "1,200");
    }

    #[test]
    fn a_percentile_of_too_few_samples_is_a_dash() {
        let mut run = sample::run();
        run.engines[0].repeats.truncate(1);
        let kind = &mut run.engines[0].repeats[0].phases[0].groups[0].kinds[0];
        kind.response = crate::result::Latency::new();
        (0..500).for_each(|_| kind.response.record_ns(1_000_000));
        let text = terminal(&run);
        let cells: Vec<_> = line(&text, &["load", "corelane", "closed"])
            .split('┆')
            .map(str::trim)
            .collect();
        assert_eq!(cells[6..10], ["1,004", NOTHING, NOTHING, NOTHING], "{cells:?}");
    }

    #[test]
    fn a_drifting_device_is_called_out_and_a_steady_one_is_not() {
        let mut run = sample::run();
        let drifting = |run: &Run| terminal(run).contains("the device itself drifted");
        assert!(!drifting(&run));
        run.engines[0].repeats[0].phases[0]
            .device
            .as_mut()
            .unwrap()
            .before = 9000.0;
        assert!(drifting(&run));
    }

    #[test]
    fn choices_stand_as_footnotes_told_once() {
        let text = terminal(&sample::run());
        assert_eq!(
            text.matches("spin 20 µs").count(),
            1,
            "three engines share the choice"
        );
        assert!(line(&text, &["corelane 3.1 [1]"]).contains("fjall 3.1 [1]"));
    }

    #[test]
    fn a_name_cannot_move_the_cursor() {
        let mut run = sample::run();
        run.engines[0].engine = "a\u{1b}[2Jb".to_owned();
        run.environment.command = "c\u{1b}[2J\rd".to_owned();
        run.engines[0].fairness.choices.push("e\u{1b}[2J".to_owned());
        assert!(!terminal(&run).contains(['\u{1b}', '\r']));
    }
}
