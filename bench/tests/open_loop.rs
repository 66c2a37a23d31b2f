//! The open loop finds what the closed loop hides, and a schedule that was not kept makes its figures invalid.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::time::Duration;

use common::{Manner, OpenFake, READS, plan, spec};
use corelane_bench::result::{GroupResult, Latency};
use corelane_bench::run::{Watch, run};
use corelane_bench::spec::{Arrival, Load};

/// What the timed phase's callers did.
fn timed(load: Load, seconds: f64, manner: Manner) -> GroupResult {
    let (plan, _dir) = plan(spec(READS, load, seconds), OpenFake(manner));
    let run = run(&plan, &Watch::none()).unwrap();
    run.engines[0].repeats[0].phases[1].groups[0].clone()
}

fn p99_ms(latency: &Latency) -> f64 {
    latency.percentile_ns(0.99).unwrap() as f64 / 1e6
}

/// A closed loop with four callers has four operations under way when a stall begins, and counts four slow ones. Users do
/// not stop arriving: an open loop counts all that were to begin meanwhile.
#[test]
fn a_stall_that_a_closed_loop_hides_is_seen_in_an_open_one() {
    let manner = Manner {
        service: Duration::from_millis(1),
        stall: Duration::from_millis(100),
        ..Manner::default()
    };
    let closed = timed(Load::Closed { callers: 4 }, 4.0, manner.clone());
    let open = Load::Open {
        callers: 4,
        rate: 1000.0,
        arrival: Arrival::Poisson,
    };
    let open = timed(open, 4.0, manner);
    let (closed, service, response) = (
        p99_ms(&closed.kinds[0].response),
        p99_ms(&open.kinds[0].service),
        p99_ms(&open.kinds[0].response),
    );
    assert!(closed < 90.0, "the closed loop's p99 was {closed} ms");
    assert!(
        service < 90.0,
        "service times of an open loop hide it too: {service} ms"
    );
    assert!(response >= 90.0, "the open loop's p99 was {response} ms");
}

#[test]
fn a_rate_beyond_the_engine_is_told_to_be_invalid() {
    let manner = Manner {
        service: Duration::from_millis(10),
        ..Manner::default()
    };
    let load = Load::Open {
        callers: 2,
        rate: 1000.0,
        arrival: Arrival::Fixed,
    };
    let schedule = timed(load, 1.0, manner).schedule.unwrap();
    let why = schedule.invalid.unwrap();
    assert!(why.contains("of the 1000 that were asked for"), "{why}");
}

/// The generator, not the engine, is late here: callers are free and wake 30 ms after they should.
#[test]
fn a_generator_that_is_late_by_its_own_fault_makes_the_run_invalid() {
    let manner = Manner {
        oversleep: Duration::from_millis(30),
        ..Manner::default()
    };
    let load = Load::Open {
        callers: 4,
        rate: 40.0,
        arrival: Arrival::Fixed,
    };
    let schedule = timed(load, 3.0, manner).schedule.unwrap();
    let why = schedule.invalid.unwrap();
    assert!(why.contains("the generator itself"), "{why}");
    assert!(schedule.lag.median_ns().unwrap() >= 25_000_000);
}

#[test]
fn a_schedule_that_is_kept_is_valid_and_its_count_is_that_of_the_rate() {
    let load = Load::Open {
        callers: 4,
        rate: 500.0,
        arrival: Arrival::Fixed,
    };
    let found = timed(load, 2.0, Manner::default());
    let timed = &found.kinds[0].response;
    assert!((998..=1000).contains(&timed.count()), "{}", timed.count());
    // A machine that is busy with other work may wake the generator late, which it must then say.
    let schedule = found.schedule.unwrap();
    let why = schedule
        .invalid
        .unwrap_or_else(|| "the generator itself".to_owned());
    assert!(why.contains("the generator itself"), "{why}");
}
