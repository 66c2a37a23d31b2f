//! Presets with the names and mixes of RocksDB's db_bench (`tools/db_bench_tool.cc`, RocksDB's wiki "Benchmarking tools").
//!
//! | preset | what | keys |
//! |---|---|---|
//! | `fillseq` | inserts in key order | each once |
//! | `fillrandom` | inserts in shuffled order | each once; db_bench draws with replacement |
//! | `fillsync` | inserts, synced, a thousandth of the entries as there | each once |
//! | `overwrite` | puts of existing keys | uniform |
//! | `readrandom` | gets | uniform |
//! | `readmissing` | gets of keys that are not there | between the existing ones |
//! | `readwhilewriting` | gets, beside one writer flat out | uniform |
//! | `seekrandom` | seeks that read the entry found | uniform |
//! | `deleterandom` | deletes, until each entry had its turn on average or time is over | uniform |
//!
//! Keys of 16 bytes as there; values of 400 bytes, half compressible (db_bench: 100 bytes, half compressible), since the
//! tables that these are compared with have 400. All but the fills come after a shuffled load.

use crate::spec::scale::Scale;
use crate::spec::{Durability, Group, KeyOrder, Mix, Phase, Sizes, Spec};

const NAMES: [&str; 9] = [
    "fillseq",
    "fillrandom",
    "fillsync",
    "overwrite",
    "readrandom",
    "readmissing",
    "readwhilewriting",
    "seekrandom",
    "deleterandom",
];

/// The presets.
pub fn names() -> &'static [&'static str] {
    &NAMES
}

/// The preset of a name.
pub fn by_name(name: &str, scale: &Scale) -> Option<Spec> {
    match name {
        "fillseq" => Some(fill(name, KeyOrder::Ordered, scale)),
        "fillrandom" => Some(fill(name, KeyOrder::Shuffled, scale)),
        "fillsync" => {
            let entries = (scale.entries / 1000).max(1);
            let mut spec = fill(
                name,
                KeyOrder::Shuffled,
                &Scale {
                    entries,
                    ..scale.clone()
                },
            );
            spec.phases[0].groups[0].durability = Durability::Sync;
            Some(spec)
        }
        _ => {
            let mut spec = scale.spec(name, KeyOrder::Shuffled, 400, 0.5);
            spec.phases = vec![scale.load(), after_load(name, scale)?];
            Some(spec)
        }
    }
}

fn fill(name: &str, order: KeyOrder, scale: &Scale) -> Spec {
    let mut spec = scale.spec(name, order, 400, 0.5);
    spec.phases = vec![Phase {
        name: name.to_owned(),
        ..scale.load()
    }];
    spec
}

fn after_load(name: &str, scale: &Scale) -> Option<Phase> {
    let none = Mix::default();
    let read = Mix { read: 1.0, ..none };
    let update = Mix { update: 1.0, ..none };
    let group = |name: &str, mix: Mix| scale.group(name, mix, scale.callers);
    let groups = match name {
        "overwrite" => vec![group("writers", update)],
        "readrandom" => vec![group("readers", read)],
        "readmissing" => vec![group(
            "readers",
            Mix {
                read_missing: 1.0,
                ..none
            },
        )],
        "readwhilewriting" => vec![group("readers", read), scale.group("writer", update, 1)],
        "seekrandom" => vec![Group {
            scan_entries: Sizes::Fixed(1),
            ..group("readers", Mix { scan: 1.0, ..none })
        }],
        "deleterandom" => vec![group("writers", Mix { delete: 1.0, ..none })],
        _ => return None,
    };
    let mut phase = scale.phase(name, groups);
    if name == "deleterandom" {
        phase.until.operations = Some(scale.entries);
    }
    Some(phase)
}
