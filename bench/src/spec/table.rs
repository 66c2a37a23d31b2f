//! Presets of the table that the engine is held to (section 9 of its design): durable puts, the load, reads from the
//! device and from the cache, misses, scans, and reads beside a writer flat out.
//!
//! `table` is all but the durable puts over one load, the writer last, so that every engine reads the same database. The
//! durable puts insert for a time, and a faster engine would leave a larger database to the others' reads: so they have a
//! nearly empty one of their own. Each is a preset by itself, too.
//!
//! Numbers of callers are the table's, not the scale's. Keys lie in the order of their index and are loaded shuffled:
//! the hot range is a range of keys, and its tables' blocks are hot whole.

use crate::spec::scale::Scale;
use crate::spec::{Distribution, Durability, Group, KeyOrder, Mix, Phase, Spec};

/// Share of the keys in the hot range.
pub const HOT_KEYS: f64 = 0.05;

/// Entries below the durable puts: enough that the database is not a special case, too few to be compacted.
const BEFORE_DURABLE_PUTS: u64 = 1000;

const NAMES: [&str; 8] = [
    "table",
    "durable-put",
    "load",
    "point-read",
    "cache-read",
    "misses",
    "scan",
    "read-while-writing",
];

/// The presets.
pub fn names() -> &'static [&'static str] {
    &NAMES
}

/// The preset of a name.
pub fn by_name(name: &str, scale: &Scale) -> Option<Spec> {
    let phases = match name {
        "durable-put" => return Some(durable_put(scale)),
        "table" => NAMES.iter().flat_map(|family| over_load(family, scale)).collect(),
        "load" => Vec::new(),
        _ => Some(over_load(name, scale)).filter(|phases| !phases.is_empty())?,
    };
    let mut spec = scale.spec(name, KeyOrder::Shuffled, 400, 0.5);
    spec.phases = vec![scale.load()];
    spec.phases.extend(phases);
    Some(spec)
}

/// The phases of a family that runs over the load; none of the others.
fn over_load(family: &str, scale: &Scale) -> Vec<Phase> {
    let none = Mix::default();
    let read = Mix { read: 1.0, ..none };
    let hot = |name: &str, mix: Mix| {
        let distribution = Distribution::Hotspot {
            keys: HOT_KEYS,
            operations: 1.0,
        };
        let group = Group {
            distribution,
            ..scale.group("readers", mix, 2)
        };
        vec![scale.phase(name, vec![group])]
    };
    match family {
        "point-read" => [2, 32, 128]
            .map(|callers| {
                let readers = scale.group("readers", read, callers);
                scale.phase(&format!("point-read-{callers}"), vec![readers])
            })
            .to_vec(),
        "cache-read" => hot("cache-read", read),
        "misses" => {
            let missing = Mix {
                read_missing: 1.0,
                ..none
            };
            vec![scale.phase("misses", vec![scale.group("readers", missing, 2)])]
        }
        "scan" => hot("scan", Mix { scan: 1.0, ..none }),
        "read-while-writing" => [2, 32]
            .map(|callers| {
                let readers = scale.group("readers", read, callers);
                let writer = scale.group("writer", Mix { update: 1.0, ..none }, 1);
                scale.phase(&format!("read-while-writing-{callers}"), vec![readers, writer])
            })
            .to_vec(),
        _ => Vec::new(),
    }
}

fn durable_put(scale: &Scale) -> Spec {
    let small = Scale {
        entries: BEFORE_DURABLE_PUTS,
        ..scale.clone()
    };
    let mut spec = small.spec("durable-put", KeyOrder::Hashed, 400, 0.5);
    spec.phases = vec![small.load()];
    spec.phases.extend([1, 16, 64].map(|callers| {
        let insert = Mix {
            insert: 1.0,
            ..Mix::default()
        };
        let writers = Group {
            durability: Durability::Sync,
            ..scale.group("writers", insert, callers)
        };
        scale.phase(&format!("durable-put-{callers}"), vec![writers])
    }));
    spec
}
