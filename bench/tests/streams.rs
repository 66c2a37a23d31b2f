//! The same seed does the same operations, byte for byte, whether callers are threads or share streams by the keys that
//! their cores own.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{Manner, OpenFake, READS, Trace, plan, spec};
use corelane_bench::run::{Watch, run};
use corelane_bench::spec::{Distribution, Load, Mix, Until};

/// Everything that was asked of an engine by a mix of reads and writes, sorted: callers run side by side.
fn operations(cores: u32, seed: u64) -> Vec<(Vec<u8>, Vec<u8>)> {
    let trace = Trace::default();
    let mix = Mix {
        read: 0.4,
        read_missing: 0.1,
        insert: 0.1,
        update: 0.3,
        read_modify_write: 0.1,
        ..READS
    };
    let mut spec = spec(mix, Load::Closed { callers: 6 }, 1.0);
    spec.seed = seed;
    spec.phases[0].groups[0].load = Load::Closed { callers: 6 };
    spec.phases[1].groups[0].distribution = Distribution::ScrambledZipfian { theta: 0.99 };
    spec.phases[1].until = Until {
        operations: Some(5_003),
        seconds: None,
    };
    let manner = Manner {
        trace: Some(trace.clone()),
        cores,
        ..Manner::default()
    };
    let (plan, _dir) = plan(spec, OpenFake(manner));
    let run = run(&plan, &Watch::none()).unwrap();
    let phase = &run.engines[0].repeats[0].phases[1];
    assert_eq!(
        phase.groups[0].operations, 5_003,
        "a phase bound by operations does exactly these"
    );
    let mut operations = trace.lock().unwrap().clone();
    operations.sort();
    operations
}

#[test]
fn callers_on_cores_do_what_callers_on_threads_do() {
    let threads = operations(0, 3);
    assert!(threads.len() > 6_000);
    assert_eq!(operations(2, 3), threads, "on two cores");
    assert_eq!(operations(3, 3), threads, "on three cores");
    assert_ne!(operations(0, 4), threads, "another seed");
}
