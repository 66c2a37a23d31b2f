//! Presets of the YCSB core workloads A to F (Cooper et al., "Benchmarking Cloud Serving Systems with YCSB", SoCC 2010;
//! the files `workloads/workloada` to `workloadf` of YCSB).
//!
//! | | mix | keys |
//! |---|---|---|
//! | A | 50 % read, 50 % update | scrambled zipfian |
//! | B | 95 % read, 5 % update | scrambled zipfian |
//! | C | 100 % read | scrambled zipfian |
//! | D | 95 % read, 5 % insert | latest |
//! | E | 95 % scan of 1 to 100, 5 % insert | scrambled zipfian |
//! | F | 50 % read, 50 % read-modify-write | scrambled zipfian |
//!
//! What is another than YCSB's: a record's 10 fields of 100 bytes are one value of 1,000, written whole by an update; and
//! zipfian popularity goes over the loaded keys, where YCSB takes 10^10 items and folds them, so that here the popular
//! keys are more popular. Values are random, as YCSB's printable ones nearly are: nothing is compressible.

use crate::spec::scale::Scale;
use crate::spec::{Distribution, Group, KeyOrder, Mix, Phase, Sizes, Spec};

/// YCSB's `zipfian_constant`.
pub const THETA: f64 = 0.99;

/// The letters, in the order in which YCSB advises to run them over one load: D and E insert, so they come last.
const ORDER: [char; 6] = ['a', 'b', 'c', 'f', 'd', 'e'];

const NAMES: [&str; 7] = ["ycsb", "ycsb-a", "ycsb-b", "ycsb-c", "ycsb-d", "ycsb-e", "ycsb-f"];

/// The presets: `ycsb` is all six over one load.
pub fn names() -> &'static [&'static str] {
    &NAMES
}

/// The preset of a name.
pub fn by_name(name: &str, scale: &Scale) -> Option<Spec> {
    match name.strip_prefix("ycsb")? {
        "" => {
            let phases = ORDER.iter().filter_map(|&letter| phase(letter, scale));
            Some(over_load("ycsb", scale, phases.collect()))
        }
        rest => {
            let mut letters = rest.strip_prefix('-')?.chars();
            let letter = letters.next().filter(|_| letters.as_str().is_empty())?;
            ycsb(letter, scale)
        }
    }
}

/// The core workload of a letter, `a` to `f`, after its load.
pub fn ycsb(letter: char, scale: &Scale) -> Option<Spec> {
    let phase = phase(letter, scale)?;
    Some(over_load(&format!("ycsb-{letter}"), scale, vec![phase]))
}

fn over_load(name: &str, scale: &Scale, phases: Vec<Phase>) -> Spec {
    let mut spec = scale.spec(name, KeyOrder::Hashed, 1000, 0.0);
    spec.phases = vec![scale.load()];
    spec.phases.extend(phases);
    spec
}

fn phase(letter: char, scale: &Scale) -> Option<Phase> {
    let none = Mix::default();
    let (mix, distribution) = match letter {
        'a' => (
            Mix {
                read: 0.5,
                update: 0.5,
                ..none
            },
            scrambled(),
        ),
        'b' => (
            Mix {
                read: 0.95,
                update: 0.05,
                ..none
            },
            scrambled(),
        ),
        'c' => (Mix { read: 1.0, ..none }, scrambled()),
        'd' => (
            Mix {
                read: 0.95,
                insert: 0.05,
                ..none
            },
            Distribution::Latest { theta: THETA },
        ),
        'e' => (
            Mix {
                scan: 0.95,
                insert: 0.05,
                ..none
            },
            scrambled(),
        ),
        'f' => (
            Mix {
                read: 0.5,
                read_modify_write: 0.5,
                ..none
            },
            scrambled(),
        ),
        _ => return None,
    };
    let group = Group {
        distribution,
        scan_entries: Sizes::Uniform { min: 1, max: 100 },
        ..scale.group("callers", mix, scale.callers)
    };
    Some(scale.phase(&letter.to_string(), vec![group]))
}

fn scrambled() -> Distribution {
    Distribution::ScrambledZipfian { theta: THETA }
}
