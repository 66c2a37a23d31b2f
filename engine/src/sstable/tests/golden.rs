//! The golden file pins format version 1 byte for byte. A change that breaks this test breaks every stored table: it needs
//! a new version. `CORELANE_WRITE_GOLDEN=1` writes the file anew.

use super::*;

fn golden_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/table-v1.sst")
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

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "the golden file belongs to the test, not to the engine"
)]
fn r13_version_1_is_written_byte_for_byte_as_ever() {
    let (bytes, _) = build(&entries(), &options());
    if std::env::var_os("CORELANE_WRITE_GOLDEN").is_some() {
        std::fs::write(golden_path(), &bytes).unwrap();
    }
    let golden = std::fs::read(golden_path()).unwrap();
    assert_eq!(bytes.len(), golden.len());
    let differing = bytes.iter().zip(&golden).position(|(a, b)| a != b);
    assert_eq!(differing, None, "the first differing byte");
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "the golden file belongs to the test, not to the engine"
)]
fn r13_version_1_is_read_as_ever() {
    let golden = std::fs::read(golden_path()).unwrap();
    let table = open(golden, true).unwrap();
    let mut cursor = TableCursor::sequential(Rc::clone(&table));
    cursor.seek_to_first();
    assert_eq!(drain(&mut cursor, None).unwrap(), entries());
    assert_eq!(table.properties().level, 3);
    assert_eq!(table.properties().creator, "golden");
}
