//! Made-up runs for the tests of the report, the same each time. `tests/fixtures/*.json` are made from them.

use std::path::Path;
use std::sync::LazyLock;

use crate::engines::{Counters, Fairness};
use crate::result::{
    BesideDevice, Cost, EngineRun, Environment, FORMAT, GroupResult, KindResult, Latency, PhaseResult,
    Repeat, Run, Schedule, Steady, Window,
};
use crate::spec::Spec;
use crate::workload::OpKind;

/// An engine whose name tries to run.
pub const EVIL: &str = "<script>alert(1)</script>";

/// Windows of a phase, half a second each.
const WINDOWS: u64 = 16;
const WINDOW_S: f64 = 0.5;

/// Two engines with two repeats of a load, an open loop and a read beside writes, and a third that was interrupted. The
/// second engine's second repeat could not keep its schedule.
pub fn run() -> Run {
    static MADE: LazyLock<Run> = LazyLock::new(make_run);
    MADE.clone()
}

/// Two engines, the same reads at five rates after a load.
pub fn sweep() -> Run {
    static MADE: LazyLock<Run> = LazyLock::new(make_sweep);
    MADE.clone()
}

fn make_run() -> Run {
    let spec: Spec = toml::from_str(SPEC).expect("the sample's spec is a spec");
    let mut engines: Vec<EngineRun> = [("corelane", 1.0), ("fjall", 2.6), (EVIL, 3.7)]
        .into_iter()
        .map(|(name, slower)| engine(&spec, name, slower))
        .collect();
    engines[2].repeats.truncate(1);
    engines[2].repeats[0].phases.truncate(1);
    engines[2].repeats[0].verified_entries = None;
    let late = engines[1].repeats[1].phases[1].groups[0].schedule.as_mut();
    late.expect("phase a is an open loop").invalid =
        Some("the generator began 4.2 % of the operations more than 1 ms late".to_owned());
    Run {
        format: FORMAT,
        environment: environment(),
        spec,
        engines,
        interrupted: true,
    }
}

fn make_sweep() -> Run {
    let mut spec: Spec = toml::from_str(SPEC).expect("the sample's spec is a spec");
    spec.name = "sweep".to_owned();
    spec.repeats = 1;
    let asked = spec.phases[1].clone();
    spec.phases.truncate(1);
    for rate in [5000, 10_000, 20_000, 40_000, 80_000] {
        let mut phase = asked.clone();
        phase.name = format!("a at {rate}");
        phase.groups[0].load = crate::spec::Load::Open {
            callers: 64,
            rate: f64::from(rate),
            arrival: crate::spec::Arrival::Poisson,
        };
        spec.phases.push(phase);
    }
    let engines = [("corelane", 1.0), ("redb", 2.0)].map(|(name, slower)| engine(&spec, name, slower));
    Run {
        format: FORMAT,
        environment: environment(),
        spec,
        engines: engines.to_vec(),
        interrupted: false,
    }
}

const SPEC: &str = r#"
name = "sample"
seed = 7
repeats = 2
keys = { count = 100000 }
values = { bytes = { fixed = 400 } }

[[phases]]
name = "load"
groups = [{ mix = { insert = 1.0 }, load = { closed = { callers = 4 } } }]
until = { operations = 100000 }

[[phases]]
name = "a"
warmup_seconds = 5.0
until = { seconds = 8.0 }
[[phases.groups]]
name = "users"
mix = { read = 0.5, update = 0.5 }
distribution = { scrambled-zipfian = { theta = 0.99 } }
durability = "sync"
load = { open = { callers = 64, rate = 20000.0 } }

[[phases]]
name = "readwhilewriting"
until = { seconds = 8.0 }
[[phases.groups]]
name = "readers"
mix = { read = 1.0 }
load = { closed = { callers = 32 } }
[[phases.groups]]
name = "writers"
mix = { update = 1.0 }
load = { closed = { callers = 1 } }
"#;

fn environment() -> Environment {
    let text = str::to_owned;
    Environment {
        date: text("2026-11-21 09:30"),
        processor: text("AMD EPYC, 2 cores"),
        kernel: text("6.18.5"),
        filesystem: text("ext4 on /dev/vda"),
        memory_mib: 24_000,
        load: text("0.10 0.20 0.30"),
        commit: text("0123456789ab+"),
        command: text("corelane-bench run sample.toml --dir '/tmp/</script><b>'"),
        memory_limit: text("2048 MiB by a control group, page cache included"),
    }
}

fn engine(spec: &Spec, name: &str, slower: f64) -> EngineRun {
    let text = str::to_owned;
    let fairness = Fairness {
        engine: format!("{name} 3.1"),
        durability: text("sync: O_DSYNC a group; buffered: within 20 ms"),
        io: text(if slower > 1.0 { "buffered" } else { "direct" }),
        cache_bytes: Some(256 << 20),
        memtable_bytes: (slower < 3.0).then_some(128 << 20),
        compression: text("LZ4 below L0"),
        threads: text("2 executors"),
        cores: text("2, pinned"),
        choices: vec![text(
            "spin 20 µs (default 0): waking a parked core costs 60 µs; design.md §8",
        )],
    };
    let repeats = (0..spec.repeats).map(|repeat| {
        let slower = slower * (1.0 + f64::from(repeat) * 0.04);
        Repeat {
            phases: (0..spec.phases.len())
                .map(|phase| phase_result(spec, phase, slower))
                .collect(),
            verified_entries: Some(100_000),
        }
    });
    EngineRun {
        engine: text(name),
        fairness,
        repeats: repeats.collect(),
    }
}

fn phase_result(spec: &Spec, phase: usize, slower: f64) -> PhaseResult {
    let asked = &spec.phases[phase];
    let seconds = WINDOWS as f64 * WINDOW_S;
    let groups: Vec<GroupResult> = asked
        .groups
        .iter()
        .map(|group| group_result(group, slower, seconds))
        .collect();
    let windows = (0..WINDOWS).map(|at| window(at, &groups, slower)).collect();
    PhaseResult {
        name: asked.name.clone(),
        seconds,
        windows,
        steady: Steady {
            from_s: (slower < 2.65).then_some(1.0 + slower),
            why: "rate and write amplification of the last windows lie within 10 % of each other".to_owned(),
        },
        cost: cost(&groups, slower),
        device: (phase < 2).then(|| BesideDevice {
            what: "random O_DSYNC write, 4 KiB, depth 1".to_owned(),
            operations_per_io: 8.0,
            before: 5000.0 * (1.0 + slower / 100.0),
            after: 5200.0,
            latency: latency(2000, 190_000.0),
        }),
        groups,
    }
}

fn group_result(group: &crate::spec::Group, slower: f64, seconds: f64) -> GroupResult {
    let shares = [
        (OpKind::Read, group.mix.read),
        (OpKind::Insert, group.mix.insert),
        (OpKind::Update, group.mix.update),
    ];
    let (rate, asked) = match group.load {
        crate::spec::Load::Closed { callers } => (1100.0 * f64::from(callers) / slower, None),
        crate::spec::Load::Open { rate, .. } => ((rate * 0.998).min(60_000.0 / slower), Some(rate)),
    };
    let operations = whole(rate * seconds);
    let middle = 40_000.0 * slower * (1.0 + rate / 20_000.0);
    let kinds = shares
        .into_iter()
        .filter(|(_, share)| *share > 0.0)
        .map(|(kind, share)| {
            let count = whole(operations as f64 * share);
            let service = latency(count, middle * if kind == OpKind::Read { 1.0 } else { 2.0 });
            let response = if asked.is_some() {
                latency(count, middle * 3.1)
            } else {
                service.clone()
            };
            KindResult {
                kind,
                service,
                response,
            }
        });
    GroupResult {
        name: group.name.clone(),
        operations,
        rate: operations as f64 / seconds,
        kinds: kinds.collect(),
        schedule: asked.map(|asked_rate| Schedule {
            asked_rate,
            lag: latency(operations, 900.0),
            invalid: None,
        }),
    }
}

/// A made-up distribution with a long tail, in few buckets so that the stored file stays small.
fn latency(count: u64, middle_ns: f64) -> Latency {
    let mut latency = Latency::new();
    for at in 0..count {
        let share = (at as f64 + 0.5) / count as f64;
        let step = ((-(1.0 - share).log10()) * 12.0).floor() / 12.0;
        latency.record_ns(whole(middle_ns * (0.6 + step * 0.7 + 0.1 * step.powi(4))));
    }
    latency
}

fn window(at: u64, groups: &[GroupResult], slower: f64) -> Window {
    let compacting = at % 6 >= 4;
    let share = if compacting { 0.8 } else { 1.1 } / WINDOWS as f64;
    let user = groups.iter().map(|group| group.operations).sum::<u64>() * 416 / WINDOWS;
    let p50 = whole(40_000.0 * slower * if compacting { 1.4 } else { 1.0 });
    Window {
        start_s: at as f64 * WINDOW_S,
        length_s: WINDOW_S,
        operations: groups
            .iter()
            .map(|group| whole(group.operations as f64 * share))
            .collect(),
        response_ns: (at != 9).then_some([p50, p50 * 6, p50 * if compacting { 40 } else { 15 }]),
        counters: Counters {
            user_bytes: Some(user),
            log_bytes: Some(user + user / 10),
            flush_bytes: Some(user),
            compaction_bytes: Some(if compacting { 3 * user } else { 0 }),
            compactions: Some(u64::from(compacting)),
            debt_bytes: Some(at % 6 * (8 << 20)),
            ..Counters::default()
        },
        written_bytes: Some(user * if compacting { 5 } else { 2 }),
        cpu_seconds: 1.5,
    }
}

fn cost(groups: &[GroupResult], slower: f64) -> Cost {
    let user = groups.iter().map(|group| group.operations).sum::<u64>() * 416;
    let tells = slower < 3.0;
    Cost {
        cpu_seconds: 18.25 * slower,
        peak_bytes: 700 << 20,
        counters: Counters {
            user_bytes: tells.then_some(user),
            log_bytes: tells.then_some(user + user / 8),
            flush_bytes: tells.then_some(user),
            compaction_bytes: tells.then_some(whole(user as f64 * slower / 2.0)),
            block_reads: tells.then_some(user / 1000),
            ..Counters::default()
        },
        process_written_bytes: Some(whole(user as f64 * (2.2 + slower / 2.0))),
        process_read_bytes: Some(user),
        device_written_bytes: Some(whole(user as f64 * (2.3 + slower / 2.0))),
        device_read_bytes: Some(user * 2),
        device_utilisation: Some(0.9 / slower),
        occupied_bytes: whole(user as f64 * (0.6 + slower / 10.0)),
        live_bytes: user,
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "made-up figures are small and positive"
)]
fn whole(number: f64) -> u64 {
    number as u64
}

/// Set to write the fixtures anew after the shape of a stored run has changed.
const RENEW: &str = "CORELANE_RENEW_FIXTURES";

#[test]
fn the_stored_fixtures_are_these_runs() {
    for (name, run) in [("sample", run()), ("sweep", sweep())] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/{name}.json"));
        if std::env::var_os(RENEW).is_some() {
            run.store(&path).unwrap();
        }
        let stored = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            stored == serde_json::to_string(&run).unwrap(),
            "{name}.json is not the sample: set {RENEW}=1"
        );
    }
}
