//! Whether two runs may be compared at all, and what a reader must know to believe the comparison.

use serde_json::Value;

use crate::result::{BesideDevice, EngineRun, PhaseResult, Run};
use crate::spec::Spec;

/// Differing fields that a refusal names; the rest are counted.
const NAMED: usize = 3;

/// A device that was slower or faster by more than this is worth a note.
const DEVICE_DIFFERS: f64 = 0.05;

/// A run's name in a comparison.
pub fn name(run: &Run) -> String {
    format!(
        "{} of {}, commit {}",
        run.spec.name, run.environment.date, run.environment.commit
    )
}

/// The engines of a run.
pub fn engines(run: &Run) -> String {
    let names: Vec<&str> = run.engines.iter().map(|engine| engine.engine.as_str()).collect();
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

/// A phase in each repeat that reached it.
pub fn repeats_of<'a>(engine: &'a EngineRun, place: usize, name: &str) -> Vec<&'a PhaseResult> {
    let phases = engine
        .repeats
        .iter()
        .filter_map(|repeat| repeat.phases.get(place));
    phases.filter(|phase| phase.name == name).collect()
}

/// Names the fields in which two specs ask for different work; `None` where they do not. The name is a label, and the
/// number of repeats is evidence, not work.
pub fn spec_difference(a: &Spec, b: &Spec) -> Option<String> {
    let [a, b] = [a, b].map(|spec| {
        let spec = Spec {
            name: String::new(),
            repeats: 0,
            ..spec.clone()
        };
        serde_json::to_value(&spec).expect("a spec is plain data with text keys")
    });
    let mut found = Vec::new();
    differences("", &a, &b, &mut found);
    let more = found.len().saturating_sub(NAMED);
    found.truncate(NAMED);
    let text = found.join("; ");
    match (found.is_empty(), more) {
        (true, _) => None,
        (false, 0) => Some(text),
        (false, more) => Some(format!("{text}; and {more} more")),
    }
}

fn differences(at: &str, a: &Value, b: &Value, found: &mut Vec<String>) {
    match (a, b) {
        (Value::Object(first), Value::Object(second)) => {
            let added = second.keys().filter(|key| !first.contains_key(*key));
            for key in first.keys().chain(added) {
                let at = if at.is_empty() {
                    key.clone()
                } else {
                    format!("{at}.{key}")
                };
                let [a, b] = [first, second].map(|object| object.get(key).unwrap_or(&Value::Null));
                differences(&at, a, b, found);
            }
        }
        (Value::Array(first), Value::Array(second)) => {
            for i in 0..first.len().max(second.len()) {
                let [a, b] = [first, second].map(|array| array.get(i).unwrap_or(&Value::Null));
                differences(&format!("{at}[{i}]"), a, b, found);
            }
        }
        _ if a == b => {}
        _ => found.push(format!("{at} is {} against {}", brief(a), brief(b))),
    }
}

fn brief(value: &Value) -> String {
    match value {
        Value::Null => "not there".to_owned(),
        Value::Array(_) | Value::Object(_) => "there".to_owned(),
        _ => value.to_string(),
    }
}

/// What differs between two runs beside what is compared.
pub fn of_runs(a: &Run, b: &Run) -> Vec<String> {
    let (first, second) = (&a.environment, &b.environment);
    let fields = [
        ("processor", &first.processor, &second.processor),
        ("kernel", &first.kernel, &second.kernel),
        ("filesystem", &first.filesystem, &second.filesystem),
        ("memory limit", &first.memory_limit, &second.memory_limit),
        (
            "memory",
            &format!("{} MiB", first.memory_mib),
            &format!("{} MiB", second.memory_mib),
        ),
    ];
    let differ = fields.into_iter().filter(|(_, a, b)| a != b);
    let mut notes: Vec<String> = differ
        .map(|(what, a, b)| format!("the {what} differs: {a} against {b}"))
        .collect();
    if first.commit == second.commit {
        notes.push(format!("both are of commit {}", first.commit));
    }
    notes.push(
        "two files are of two times: what changed on the machine in between looks like a difference"
            .to_owned(),
    );
    for (which, run, other) in [("first", a, b), ("second", b, a)] {
        notes.extend(of_run(run).into_iter().map(|note| format!("the {which}: {note}")));
        let lacking = |engine: &&EngineRun| !other.engines.iter().any(|o| o.engine == engine.engine);
        let only = run.engines.iter().filter(lacking);
        notes.extend(only.map(|engine| format!("only the {which} has {}", engine.engine)));
    }
    notes
}

/// What spoils a run by itself.
pub fn of_run(run: &Run) -> Vec<String> {
    let interrupted = run
        .interrupted
        .then(|| "it was interrupted: what is missing was not measured".to_owned());
    interrupted.into_iter().collect()
}

/// What differs between two engines, or an engine's two runs, beside what is compared.
pub fn of_engines(a: &EngineRun, b: &EngineRun) -> Vec<String> {
    let mut notes = given(a, b);
    for (which, engine) in [("first", a), ("second", b)] {
        notes.extend(
            unsteady(engine)
                .into_iter()
                .map(|note| format!("the {which}, {}: {note}", engine.engine)),
        );
    }
    let names = a.repeats.first().map_or(&[][..], |repeat| &repeat.phases);
    for (place, phase) in names.iter().enumerate() {
        let [first, second] = [a, b].map(|engine| device_rate(&repeats_of(engine, place, &phase.name)));
        let (Some(first), Some(second)) = (first, second) else {
            continue;
        };
        let ratio = second / first;
        if (ratio - 1.0).abs() > DEVICE_DIFFERS {
            notes.push(format!(
                "{}, {}: the raw device beside it made {ratio:.2} times as much in the second",
                a.engine, phase.name
            ));
        }
    }
    notes
}

/// Options that were not the same.
fn given(a: &EngineRun, b: &EngineRun) -> Vec<String> {
    let (first, second) = (&a.fairness, &b.fairness);
    let bytes = |bytes: Option<u64>| bytes.map_or("none".to_owned(), |bytes| format!("{} MiB", bytes >> 20));
    let fields = [
        ("durability", first.durability.clone(), second.durability.clone()),
        ("I/O", first.io.clone(), second.io.clone()),
        ("block cache", bytes(first.cache_bytes), bytes(second.cache_bytes)),
        (
            "memtables",
            bytes(first.memtable_bytes),
            bytes(second.memtable_bytes),
        ),
        (
            "compression",
            first.compression.clone(),
            second.compression.clone(),
        ),
        ("cores", first.cores.clone(), second.cores.clone()),
    ];
    let differ = fields.into_iter().filter(|(_, a, b)| a != b);
    differ
        .map(|(what, first, second)| format!("{}: {what}: {first} against {second}", b.engine))
        .collect()
}

/// One note for each phase that was not steady in every repeat.
fn unsteady(engine: &EngineRun) -> Vec<String> {
    let names = engine.repeats.first().map_or(&[][..], |repeat| &repeat.phases);
    let note = |(place, phase): (usize, &PhaseResult)| {
        let repeats = repeats_of(engine, place, &phase.name);
        let not: Vec<_> = repeats
            .iter()
            .filter(|phase| phase.steady.from_s.is_none())
            .collect();
        let first = not.first()?;
        let (not, of) = (not.len(), repeats.len());
        Some(format!(
            "{} was not steady in {not} of {of} repeats: {}",
            phase.name, first.steady.why
        ))
    };
    names.iter().enumerate().filter_map(note).collect()
}

fn device_rate(repeats: &[&PhaseResult]) -> Option<f64> {
    let device: Vec<&BesideDevice> = repeats.iter().filter_map(|phase| phase.device.as_ref()).collect();
    let sum: f64 = device
        .iter()
        .map(|d| (d.before + d.after) * d.operations_per_io)
        .sum();
    (sum > 0.0).then(|| sum / device.len() as f64)
}
