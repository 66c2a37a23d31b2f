//! The golden files pin format version 1 byte for byte. A change that breaks this test breaks every stored table: it needs
//! a new version. `CORELANE_WRITE_GOLDEN=1` writes the files anew.

use super::*;
use crate::types::Kind;

fn golden_path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
}

fn entries() -> Vec<Owned> {
    let mut entries = vec![
        Owned::put(*b"", 1, *b"the empty key"),
        Owned::tombstone(*b"gone", 77),
    ];
    for n in 0..400_u64 {
        entries.push(Owned::put(
            format!("key{:04}", n / 2),
            1000 - n,
            format!("value {n} ").repeat(12),
        ));
    }
    let noise = Rng(1).bytes(9000);
    entries.push(Owned::put(*b"noise", 5, noise));
    in_order(entries)
}

fn options() -> TableOptions {
    TableOptions {
        compression: Compression::Lz4,
        level: 3,
        created_ms: 1_795_000_000_000,
        creator: "golden".into(),
        ..TableOptions::default()
    }
}

/// Values that end, after version 1 was first written: feature bit 0 of the footer.
fn expiring_entries() -> Vec<Owned> {
    let mut entries = entries();
    for n in 0..40_u64 {
        let stored = [&(1_795_000_000_000 + n).to_le_bytes()[..], b"ends"].concat();
        entries.push(Owned {
            kind: Kind::PutUntil,
            ..Owned::put(format!("until{n:02}"), 2000 + n, stored)
        });
    }
    in_order(entries)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the golden file belongs to the test, not to the engine"
)]
fn assert_pinned(name: &str, entries: &[Owned]) {
    let (bytes, _) = build(entries, &options());
    if std::env::var_os("CORELANE_WRITE_GOLDEN").is_some() {
        std::fs::write(golden_path(name), &bytes).unwrap();
    }
    let golden = std::fs::read(golden_path(name)).unwrap();
    assert_eq!(bytes.len(), golden.len());
    let differing = bytes.iter().zip(&golden).position(|(a, b)| a != b);
    assert_eq!(differing, None, "{name}: the first differing byte");
}

#[expect(
    clippy::disallowed_methods,
    reason = "the golden file belongs to the test, not to the engine"
)]
fn assert_read(name: &str, entries: &[Owned]) {
    let golden = std::fs::read(golden_path(name)).unwrap();
    let table = open(golden, true).unwrap();
    let mut cursor = TableCursor::sequential(Rc::clone(&table));
    cursor.seek_to_first();
    assert_eq!(drain(&mut cursor, None).unwrap(), entries);
    assert_eq!(table.properties().level, 3);
    assert_eq!(table.properties().creator, "golden");
}

#[test]
fn r13_version_1_is_written_byte_for_byte_as_ever() {
    assert_pinned("table-v1.sst", &entries());
    assert_pinned("table-v1-expiry.sst", &expiring_entries());
}

#[test]
fn r13_version_1_is_read_as_ever() {
    assert_read("table-v1.sst", &entries());
    assert_read("table-v1-expiry.sst", &expiring_entries());
}
