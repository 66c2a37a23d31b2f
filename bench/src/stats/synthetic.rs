//! Runs made of chance alone, for tests: what differs in them is known.
//!
//! The model, and why: a repeat has a level of its own (files lie elsewhere on the device, compaction falls differently,
//! the machine's neighbours changed), by default of 1 % standard deviation; windows of a second vary about it by 5 % and
//! hang together (AR(1) of 0.5), because a flush or a compaction outlasts a window and slows its neighbours too. These are
//! assumptions, not measurements; tests therefore also take machines that are several times worse.

use crate::engines::{Counters, Fairness};
use crate::result::{
    Cost, EngineRun, Environment, FORMAT, GroupResult, KindResult, Latency, PhaseResult, Repeat, Run, Steady,
    Window,
};
use crate::spec::Spec;
use crate::workload::OpKind;
use crate::workload::rng::Rng;

/// A normal deviate of variance 1 (Box and Muller).
pub fn normal(rng: &mut Rng) -> f64 {
    let radius = (-2.0 * (1.0 - rng.unit()).ln()).sqrt();
    radius * (std::f64::consts::TAU * rng.unit()).cos()
}

/// A stationary AR(1) of mean 0 and variance 1.
pub fn ar1(rng: &mut Rng, count: usize, rho: f64) -> Vec<f64> {
    let fresh = (1.0 - rho * rho).sqrt();
    let mut last = normal(rng);
    let next = std::iter::repeat_with(|| {
        last = rho * last + fresh * normal(rng);
        last
    });
    next.take(count).collect()
}

/// What a synthetic engine is like.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub repeats: usize,
    pub windows: usize,
    /// Standard deviation of repeats' levels, as a share.
    pub between: f64,
    /// Standard deviation of windows, as a share.
    pub within: f64,
    /// Autocorrelation of neighbouring windows.
    pub rho: f64,
    /// Mean operations a second.
    pub rate: f64,
    /// Operations with a latency in each repeat.
    pub samples: u32,
    /// Factor on the slowest operations, those from the 90th percentile on.
    pub tail: f64,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            repeats: 5,
            windows: 60,
            between: 0.01,
            within: 0.05,
            rho: 0.5,
            rate: 100_000.0,
            samples: 0,
            tail: 1.0,
        }
    }
}

/// Windows of one repeat of a given rate.
pub fn windows(shape: Shape, rate: f64, rng: &mut Rng) -> Vec<Window> {
    let noise = ar1(rng, shape.windows, shape.rho);
    let window = |(i, noise): (usize, f64)| window(i, rate * (1.0 + shape.within * noise));
    noise.into_iter().enumerate().map(window).collect()
}

/// A second with so many operations, of an engine that counts everything and has nothing to compact.
pub fn window(place: usize, rate: f64) -> Window {
    let operations = count(rate);
    Window {
        start_s: place as f64,
        length_s: 1.0,
        operations: vec![operations],
        response_ns: None,
        counters: Counters {
            user_bytes: Some(operations * 400),
            log_bytes: Some(operations * 410),
            flush_bytes: Some(operations * 400),
            compaction_bytes: Some(operations * 1000),
            debt_bytes: Some(0),
            ..Counters::default()
        },
        written_bytes: Some(operations * 1900),
        cpu_seconds: 1.2,
    }
}

/// A number of operations that is not negative.
#[expect(
    clippy::cast_possible_truncation,
    reason = "casts of floats saturate, and tests keep far below 2^63"
)]
pub fn count(rate: f64) -> u64 {
    rate.max(0.0).round() as i64 as u64
}

fn latency(shape: Shape, slow: f64, rng: &mut Rng) -> Latency {
    let mut latency = Latency::new();
    for _ in 0..shape.samples {
        let deviate = normal(rng);
        // 1.2816 is the normal's 90th percentile.
        let tail = if deviate > 1.2816 { shape.tail } else { 1.0 };
        latency.record_ns(count(100_000.0 * slow * tail * (0.5 * deviate).exp()));
    }
    latency
}

fn repeat(shape: Shape, rng: &mut Rng) -> Repeat {
    let level = 1.0 + shape.between * normal(rng);
    let windows = windows(shape, shape.rate * level, rng);
    let operations: u64 = windows.iter().map(|w| w.operations[0]).sum();
    let total = |of: fn(&Window) -> Option<u64>| windows.iter().map(of).sum();
    let spread = |rng: &mut Rng| 1.0 + shape.between * normal(rng);
    let response = latency(shape, spread(rng) / level, rng);
    let phase = PhaseResult {
        name: "a".to_owned(),
        seconds: shape.windows as f64,
        groups: vec![GroupResult {
            name: "callers".to_owned(),
            operations,
            rate: operations as f64 / shape.windows as f64,
            kinds: vec![KindResult {
                kind: OpKind::Update,
                service: response.clone(),
                response,
            }],
            schedule: None,
        }],
        steady: Steady {
            from_s: Some(0.0),
            why: "made so".to_owned(),
        },
        cost: Cost {
            cpu_seconds: 1.2 * shape.windows as f64 * spread(rng),
            counters: Counters {
                user_bytes: total(|w| w.counters.user_bytes),
                log_bytes: total(|w| w.counters.log_bytes),
                flush_bytes: total(|w| w.counters.flush_bytes),
                compaction_bytes: Some(count(operations as f64 * 1000.0 * spread(rng))),
                ..Counters::default()
            },
            process_written_bytes: Some(count(operations as f64 * 1900.0 * spread(rng))),
            occupied_bytes: count(1.1e9 * spread(rng)),
            live_bytes: 1_000_000_000,
            ..Cost::default()
        },
        windows,
        device: None,
    };
    Repeat {
        phases: vec![phase],
        verified_entries: Some(1),
    }
}

/// A run of one engine called `corelane`.
pub fn run(shape: Shape, rng: &mut Rng) -> Run {
    let text = "name = 'made'\nkeys = { count = 1000 }\nvalues = { bytes = { fixed = 400 } }\n[[phases]]\nname = 'a'\n\
                until = { seconds = 60.0 }\n[[phases.groups]]\nmix = { update = 1.0 }\nload = { closed = { callers = 1 } }";
    let spec: Spec = toml::from_str(text).unwrap();
    let text = |text: &str| text.to_owned();
    Run {
        format: FORMAT,
        environment: Environment {
            date: text("2026-11-21 10:00"),
            processor: text("made, 2 cores"),
            kernel: text("6.18"),
            filesystem: text("ext4 on made"),
            memory_mib: 8192,
            load: text("0.0"),
            commit: text("abc"),
            command: text("none"),
            memory_limit: text("none"),
        },
        spec,
        engines: vec![EngineRun {
            engine: text("corelane"),
            fairness: Fairness {
                engine: text("corelane 0.1"),
                durability: text("none"),
                io: text("direct"),
                cache_bytes: None,
                memtable_bytes: None,
                compression: text("none"),
                threads: text("2"),
                cores: text("2"),
                choices: Vec::new(),
            },
            repeats: (0..shape.repeats).map(|_| repeat(shape, rng)).collect(),
        }],
        interrupted: false,
    }
}
