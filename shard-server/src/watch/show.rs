//! Rates as tables for people, and as a line of JSON for programs.

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use serde_json::{Map, Value, json};

use super::rates::Rates;

/// Commands that are shown; the rest is in the JSON.
const COMMANDS: usize = 12;

/// A shard of which there is nothing to say, in the engine's word.
const HEALTHY: &str = "healthy";

/// Units of bytes, each 1024 of the one before.
const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];

/// The tables.
pub fn tables(rates: &Rates) -> String {
    let mut text = figures(rates);
    if !rates.commands.is_empty() {
        text += &commands(rates);
    }
    for shard in rates
        .shards
        .iter()
        .filter(|shard| shard.health != HEALTHY || shard.stall != "none")
    {
        text += &format!(
            "shard {}: {}, writes wait for: {}\n",
            shard.shard, shard.health, shard.stall
        );
    }
    text
}

/// Figures in two columns, those that the server does not tell left out.
fn figures(rates: &Rates) -> String {
    let told: Vec<_> = rates
        .figures
        .iter()
        .filter_map(|(name, figure)| Some((*name, (*figure)?)))
        .map(|(name, figure)| (label(name), amount(name, figure)))
        .collect();
    let mut table = plain();
    let rows = told.len().div_ceil(2);
    for row in 0..rows {
        let mut cells = Vec::new();
        for (label, amount) in [told.get(row), told.get(row + rows)].into_iter().flatten() {
            cells.extend([label.clone(), amount.clone()]);
        }
        table.add_row(cells);
    }
    right(&mut table, &[1, 3]);
    format!("{table}\n")
}

fn commands(rates: &Rates) -> String {
    let mut table = plain();
    table.set_header(["command", "/s", "mean µs", "p50 µs", "p99 µs", "p99.9 µs"]);
    let cell = |figure: Option<f64>| figure.map_or_else(String::new, number);
    for command in rates.commands.iter().take(COMMANDS) {
        table.add_row([
            command.command.clone(),
            number(command.per_s),
            cell(command.mean_us),
            cell(command.p50_us),
            cell(command.p99_us),
            cell(command.p999_us),
        ]);
    }
    right(&mut table, &[1, 2, 3, 4, 5]);
    format!("\n{table}\n(percentiles since the server began)\n")
}

fn plain() -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table
}

fn right(table: &mut Table, columns: &[usize]) {
    for &column in columns {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

/// A figure's name for people: `wal_bytes_per_s` is "wal bytes/s".
fn label(name: &str) -> String {
    let name = name.replace("_per_s", "/s").replace("_percent", " %");
    name.replace('_', " ")
}

fn amount(name: &str, figure: f64) -> String {
    if name.contains("_bytes") {
        return bytes(figure);
    }
    number(figure)
}

/// Three digits that mean something, and thousands apart.
fn number(figure: f64) -> String {
    if figure < 10.0 && figure.fract() != 0.0 {
        return format!("{figure:.2}");
    }
    if figure < 100.0 && figure.fract() != 0.0 {
        return format!("{figure:.1}");
    }
    let digits = format!("{figure:.0}");
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) && !text.ends_with('-') {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn bytes(mut figure: f64) -> String {
    let mut unit = UNITS[0];
    for next in &UNITS[1..] {
        if figure < 1024.0 {
            break;
        }
        figure /= 1024.0;
        unit = next;
    }
    format!("{} {unit}", number(figure))
}

/// One line of JSON, without its end.
pub fn line(rates: &Rates) -> String {
    let mut fields = Map::new();
    fields.insert("seconds".to_owned(), json!(rates.seconds));
    for (name, figure) in &rates.figures {
        fields.insert((*name).to_owned(), json!(figure));
    }
    fields.insert("commands".to_owned(), json!(rates.commands));
    fields.insert("shards".to_owned(), json!(rates.shards));
    Value::Object(fields).to_string()
}

#[cfg(test)]
mod tests {
    use super::super::sample::Sample;
    use super::*;

    fn rates() -> Rates {
        let now = Sample::parse(
            "uptime_in_seconds:10\ntotal_commands_processed:12345678\nmemtable_bytes:1572864\n\
             cmdstat_get:calls=100,usec=250\nshard0:health=healthy,stall=none\nshard1:health=read-only,stall=no space\n",
        );
        Rates::since_start(&now)
    }

    #[test]
    fn people_read_tables() {
        let text = tables(&rates());
        for part in [
            "commands/s",
            "1,234,568",
            "memtable",
            "1.50 MiB",
            "get",
            "shard 1: read-only",
        ] {
            assert!(text.contains(part), "{part:?} in\n{text}");
        }
        assert!(
            !text.contains("shard 0") && !text.contains(" table bytes"),
            "{text}"
        );
    }

    #[test]
    fn programs_read_json_with_every_figure() {
        let line = line(&rates());
        assert!(!line.contains('\n'));
        let read: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(read["commands"][0]["mean_us"], 2.5);
        assert_eq!(read["tables"], Value::Null);
        assert_eq!(read["shards"][1]["stall"], "no space");
    }

    #[test]
    fn numbers_are_short() {
        let cases = [
            (0.0, "0"),
            (1.234, "1.23"),
            (12.34, "12.3"),
            (123.4, "123"),
            (1000.0, "1,000"),
            (7.0, "7"),
        ];
        for (figure, text) in cases {
            assert_eq!(number(figure), text);
        }
        assert_eq!(bytes(1023.0), "1,023 B");
        assert_eq!(bytes(1024.0), "1 KiB");
    }
}
