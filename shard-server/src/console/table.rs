//! Answers as tables, where they are tables: pairs of keys and values, rows of equal length, maps with the same keys.
//!
//! The protocol does not say that a flat array holds pairs, but the command does.

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{ContentArrangement, Table};

use super::print;
use crate::remote::Reply;

/// Widest cell in bytes; what is cut off ends in an ellipsis. A value may have megabytes.
const CELL_BYTES: usize = 120;

/// Appends the answer to `words` as a table, or as people read it otherwise where it is none.
pub fn table(out: &mut Vec<u8>, words: &[Vec<u8>], reply: &Reply) {
    let is = |place: usize, name: &str| {
        words
            .get(place)
            .is_some_and(|word| word.eq_ignore_ascii_case(name.as_bytes()))
    };
    let keys_only = words.iter().any(|word| word.eq_ignore_ascii_case(b"keys"));
    let pairs = (is(0, "kv.scan") && !keys_only) || (is(0, "config") && is(1, "get"));
    match reply {
        // A page of a walk: where it goes on, and what was found.
        Reply::Array(page) if is(0, "scan") || is(0, "kv.scan") => match page.as_slice() {
            [cursor @ (Reply::Bulk(_) | Reply::Nil), found @ Reply::Array(_)] => {
                grid(out, found, pairs);
                out.extend_from_slice(b"cursor ");
                print::standard(out, cursor);
            }
            _ => grid(out, reply, pairs),
        },
        _ => grid(out, reply, pairs),
    }
}

fn grid(out: &mut Vec<u8>, reply: &Reply, pairs: bool) {
    let Some((head, rows)) = rows(reply, pairs) else {
        print::standard(out, reply);
        return;
    };
    let mut table = Table::new();
    table
        .load_style(UTF8_FULL_CONDENSED)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(head);
    rows.into_iter().for_each(|row| {
        table.add_row(row);
    });
    out.extend_from_slice(table.to_string().as_bytes());
    out.push(b'\n');
}

type Rows = (Vec<String>, Vec<Vec<String>>);

fn rows(reply: &Reply, pairs: bool) -> Option<Rows> {
    let head = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    match reply {
        Reply::Map(map) => {
            let rows = map.iter().map(|(key, value)| vec![cell(key), cell(value)]);
            Some((head(&["key", "value"]), rows.collect()))
        }
        Reply::Array(items) | Reply::Set(items) if !items.is_empty() => {
            if pairs && items.len().is_multiple_of(2) {
                let rows = items.chunks_exact(2).map(|pair| pair.iter().map(cell).collect());
                return Some((head(&["key", "value"]), rows.collect()));
            }
            records(items).or_else(|| columns(items)).or_else(|| {
                let rows = items
                    .iter()
                    .enumerate()
                    .map(|(place, item)| vec![(place + 1).to_string(), cell(item)]);
                Some((head(&["#", "value"]), rows.collect()))
            })
        }
        _ => None,
    }
}

/// Maps that all have the same keys in the same order: their keys are the columns.
fn records(items: &[Reply]) -> Option<Rows> {
    let names = |item: &Reply| match item {
        Reply::Map(pairs) => Some(pairs.iter().map(|(key, _)| cell(key)).collect::<Vec<_>>()),
        _ => None,
    };
    let head = names(items.first()?)?;
    let rows = items.iter().map(|item| match item {
        Reply::Map(pairs) if names(item).as_ref() == Some(&head) => {
            Some(pairs.iter().map(|(_, value)| cell(value)).collect())
        }
        _ => None,
    });
    let rows = rows.collect::<Option<Vec<_>>>()?;
    Some((head, rows))
}

/// Arrays of one length: their places are the columns.
fn columns(items: &[Reply]) -> Option<Rows> {
    let row = |item: &Reply| match item {
        Reply::Array(cells) if !cells.is_empty() => Some(cells.iter().map(cell).collect::<Vec<_>>()),
        _ => None,
    };
    let rows = items.iter().map(row).collect::<Option<Vec<_>>>()?;
    let width = rows.first()?.len();
    if rows.iter().any(|row| row.len() != width) {
        return None;
    }
    Some(((1..=width).map(|column| column.to_string()).collect(), rows))
}

/// What a cell shows: text that can be shown as it is, else quoted; one line.
fn cell(reply: &Reply) -> String {
    let mut bytes = Vec::new();
    match reply {
        Reply::Bulk(text) if text.iter().all(|byte| (b' '..=b'~').contains(byte)) => {
            bytes.extend_from_slice(text)
        }
        Reply::Integer(_) | Reply::Double(_) => print::raw(&mut bytes, reply),
        Reply::Array(items) | Reply::Set(items) | Reply::Push(items) => {
            return cut(&items.iter().map(cell).collect::<Vec<_>>().join(", "));
        }
        Reply::Map(pairs) => {
            let pairs = pairs
                .iter()
                .map(|(key, value)| format!("{}={}", cell(key), cell(value)));
            return cut(&pairs.collect::<Vec<_>>().join(", "));
        }
        _ => print::standard(&mut bytes, reply),
    }
    cut(String::from_utf8_lossy(&bytes).trim_end_matches('\n'))
}

fn cut(text: &str) -> String {
    let text = text.replace(['\r', '\n'], " ");
    match text.char_indices().nth(CELL_BYTES) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Reply {
        Reply::Bulk(text.as_bytes().to_vec())
    }

    fn shown(line: &str, reply: &Reply) -> String {
        let words: Vec<_> = line.split(' ').map(|word| word.as_bytes().to_vec()).collect();
        let mut out = Vec::new();
        table(&mut out, &words, reply);
        String::from_utf8(out).unwrap()
    }

    /// The cells of each line, without the lines between.
    fn cells(text: &str) -> Vec<Vec<&str>> {
        let rows = text
            .lines()
            .filter(|line| line.contains('│') || line.contains('┆'));
        rows.map(|line| {
            let cells = line.split(['│', '┆']).map(str::trim);
            cells.filter(|cell| !cell.is_empty()).collect()
        })
        .collect()
    }

    #[test]
    fn a_range_is_keys_and_values() {
        let flat = Reply::Array(vec![bulk("a"), bulk("1"), bulk("b"), bulk("x\ny")]);
        let expected = [vec!["key", "value"], vec!["a", "1"], vec!["b", "\"x\\ny\""]];
        assert_eq!(cells(&shown("KV.SCAN - +", &flat)), expected);
        let page = Reply::Array(vec![bulk("next"), flat]);
        let text = shown("kv.scan - + CURSOR c", &page);
        assert_eq!(cells(&text), expected);
        assert!(text.ends_with("cursor \"next\"\n"), "{text}");
    }

    #[test]
    fn what_a_plain_list_holds_is_numbered() {
        let text = shown("MGET a b", &Reply::Array(vec![bulk("1"), Reply::Nil]));
        assert_eq!(
            cells(&text),
            [vec!["#", "value"], vec!["1", "1"], vec!["2", "(nil)"]]
        );
        let keys = Reply::Array(vec![bulk("0"), Reply::Array(vec![bulk("k")])]);
        assert_eq!(
            cells(&shown("SCAN 0", &keys)),
            [vec!["#", "value"], vec!["1", "k"]]
        );
    }

    #[test]
    fn maps_and_rows_become_columns() {
        let map = |n: i64| Reply::Map(vec![(bulk("id"), Reply::Integer(n)), (bulk("x"), bulk("y"))]);
        let text = shown("X", &Reply::Array(vec![map(1), map(2)]));
        assert_eq!(cells(&text), [vec!["id", "x"], vec!["1", "y"], vec!["2", "y"]]);
        let rows = Reply::Array(vec![Reply::Array(vec![bulk("a"), bulk("b")]); 2]);
        assert_eq!(
            cells(&shown("X", &rows)),
            [vec!["1", "2"], vec!["a", "b"], vec!["a", "b"]]
        );
    }

    #[test]
    fn what_is_no_table_is_shown_as_ever_and_long_cells_are_cut() {
        assert_eq!(shown("GET k", &bulk("v")), "\"v\"\n");
        assert_eq!(shown("KEYS *", &Reply::Array(vec![])), "(empty array)\n");
        let text = shown("MGET k", &Reply::Array(vec![bulk(&"x".repeat(100_000))]));
        assert!(text.len() < 3000 && text.contains('…'));
    }
}
