//! Phases of chance and of known shape: what is stationary is steady, what is not is not.

use super::*;
use crate::stats::synthetic::{self, Shape, ar1};
use crate::workload::rng::Rng;

const SEEDS: u32 = 400;

/// Windows with noise of a shape about a rate that a function of the place (0 to 1) gives.
fn shaped(shape: Shape, rng: &mut Rng, factor: impl Fn(f64) -> f64) -> Vec<Window> {
    let noise = ar1(rng, shape.windows, shape.rho);
    let windows = noise.into_iter().enumerate().map(|(i, noise)| {
        let level = factor(i as f64 / shape.windows as f64);
        synthetic::window(i, shape.rate * level * (1.0 + shape.within * noise))
    });
    windows.collect()
}

/// Share of seeds for which `wanted` holds.
fn share(seed: u64, shape: Shape, factor: impl Fn(f64) -> f64, wanted: impl Fn(&Steady) -> bool) -> f64 {
    let mut rng = Rng::new(seed);
    let found = (0..SEEDS)
        .filter(|_| wanted(&judge(&shaped(shape, &mut rng, &factor))))
        .count();
    found as f64 / f64::from(SEEDS)
}

/// What a window's noise may be.
fn noises() -> [(&'static str, Shape); 5] {
    let plain = Shape::default();
    [
        ("5 %, rho 0.5, 60 windows", plain),
        (
            "5 %, rho 0, 20 windows",
            Shape {
                rho: 0.0,
                windows: 20,
                ..plain
            },
        ),
        (
            "10 %, rho 0.7, 300 windows",
            Shape {
                within: 0.1,
                rho: 0.7,
                windows: 300,
                ..plain
            },
        ),
        (
            "3 %, rho 0.9, 120 windows",
            Shape {
                within: 0.03,
                rho: 0.9,
                windows: 120,
                ..plain
            },
        ),
        (
            "20 %, rho 0.3, 600 windows",
            Shape {
                within: 0.2,
                rho: 0.3,
                windows: 600,
                ..plain
            },
        ),
    ]
}

#[test]
fn stationary_noise_is_steady_and_a_drift_of_a_fifth_is_not() {
    for (name, shape) in noises() {
        let false_alarm = share(1, shape, |_| 1.0, |steady| steady.from_s.is_none());
        let late = share(
            1,
            shape,
            |_| 1.0,
            |steady| steady.from_s.is_some_and(|from| from > 0.0),
        );
        let up = share(2, shape, |x| 0.9 + 0.2 * x, |steady| steady.from_s.is_none());
        let down = share(3, shape, |x| 1.1 - 0.2 * x, |steady| steady.from_s.is_none());
        println!("{name}: false alarms {false_alarm:.3}, late {late:.3}, drifts found {up:.3} {down:.3}");
        assert!(false_alarm + late <= 0.10, "{name}: {false_alarm}, {late}");
        assert!(up >= 0.90 && down >= 0.90, "{name}: {up}, {down}");
    }
}

#[test]
fn what_follows_a_step_or_a_warm_up_is_steady() {
    for (name, shape) in noises() {
        let end = shape.windows as f64;
        let near =
            |steady: &Steady, from: f64| steady.from_s.is_some_and(|s| (s - from * end).abs() <= 0.1 * end);
        let step = share(
            4,
            shape,
            |x| if x < 0.5 { 1.3 } else { 1.0 },
            |steady| near(steady, 0.5),
        );
        let warm_up = share(
            5,
            shape,
            |x| 1.0 - 0.7 * (-x * 20.0).exp(),
            |steady| near(steady, 0.1),
        );
        println!("{name}: steps found {step:.3}, warm-ups {warm_up:.3}");
        assert!(step >= 0.80 && warm_up >= 0.80, "{name}: {step}, {warm_up}");
    }
}

#[test]
fn a_step_near_the_end_leaves_nothing_steady() {
    let found = share(
        6,
        Shape::default(),
        |x| if x < 0.8 { 1.0 } else { 0.6 },
        |steady| steady.from_s.is_none(),
    );
    assert!(found >= 0.95, "{found}");
}

#[test]
fn a_stalled_window_is_an_event_and_stalls_from_half_way_on_are_not() {
    let mut rng = Rng::new(7);
    for _ in 0..50 {
        let mut windows = shaped(Shape::default(), &mut rng, |_| 1.0);
        let plain = judge(&windows).from_s;
        windows[5] = synthetic::window(5, 0.0);
        assert_eq!(
            judge(&windows).from_s.is_some(),
            plain.is_some(),
            "{}",
            judge(&windows).why
        );
        for place in (30..60).step_by(3) {
            windows[place] = synthetic::window(place, 0.0);
        }
        let steady = judge(&windows);
        assert!(steady.from_s.is_none_or(|from| from > 20.0), "{steady:?}");
    }
}

/// Sets what each window of a steady throughput counted: compaction bytes and debt.
fn counting(compaction: impl Fn(usize) -> u64, debt: impl Fn(usize) -> u64) -> Steady {
    let mut rng = Rng::new(8);
    let mut windows = shaped(
        Shape {
            within: 0.02,
            ..Shape::default()
        },
        &mut rng,
        |_| 1.0,
    );
    for (i, window) in windows.iter_mut().enumerate() {
        window.counters.compaction_bytes = Some(compaction(i));
        window.counters.debt_bytes = Some(debt(i));
    }
    judge(&windows)
}

const MIB: u64 = 1 << 20;

#[test]
fn a_debt_that_grows_is_work_put_off() {
    // 40 MB a second are written by flushes and 100 MiB by compaction; half as much again is put off.
    let grows = counting(|_| 100 * MIB, |i| 70 * MIB * i as u64);
    assert!(
        grows.from_s.is_none() && grows.why.contains("compaction debt drifts"),
        "{grows:?}"
    );
    let limited = counting(|_| 100 * MIB, |i| 70 * MIB * (i as u64).min(20));
    assert!(
        limited.from_s.is_some_and(|from| (8.0..25.0).contains(&from)),
        "{limited:?}"
    );
    let saw = counting(|_| 100 * MIB, |i| 100 * MIB * (i as u64 % 7));
    assert_eq!(saw.from_s, Some(0.0), "{saw:?}");
}

#[test]
fn a_write_amplification_that_grows_is_not_steady_and_bursts_are() {
    let grows = counting(|i| (50 + 2 * i as u64) * MIB, |_| 0);
    assert!(
        grows.from_s.is_none() && grows.why.contains("write amplification drifts"),
        "{grows:?}"
    );
    let bursts = counting(|i| if i % 5 == 4 { 500 * MIB } else { 0 }, |_| 0);
    assert_eq!(bursts.from_s, Some(0.0), "{bursts:?}");
}

#[test]
fn engines_that_count_nothing_are_judged_by_throughput_alone() {
    let mut windows = shaped(Shape::default(), &mut Rng::new(9), |_| 1.0);
    for window in &mut windows {
        window.counters = crate::engines::Counters::default();
    }
    let steady = judge(&windows);
    assert!(steady.from_s.is_some(), "{steady:?}");
    assert!(
        steady.why.contains("throughput level") && !steady.why.contains("debt"),
        "{steady:?}"
    );
}

#[test]
fn too_little_to_judge_is_said() {
    let mut rng = Rng::new(10);
    let windows = shaped(
        Shape {
            windows: 9,
            ..Shape::default()
        },
        &mut rng,
        |_| 1.0,
    );
    assert!(judge(&windows).why.contains("9 windows are too few"));
    assert!(judge(&[]).from_s.is_none());
    let nothing: Vec<Window> = (0..20).map(|i| synthetic::window(i, 0.0)).collect();
    assert!(judge(&nothing).why.contains("nothing ended"));
    let noisy = shaped(
        Shape {
            windows: 12,
            within: 0.5,
            rho: 0.0,
            ..Shape::default()
        },
        &mut rng,
        |_| 1.0,
    );
    assert!(
        judge(&noisy).why.contains("a longer phase is needed"),
        "{:?}",
        judge(&noisy)
    );
    let level = vec![synthetic::window(0, 1000.0); 20];
    assert_eq!(judge(&level).from_s, Some(0.0));
}

#[test]
fn a_last_window_cut_short_is_left_out() {
    let mut windows: Vec<Window> = (0..12).map(|i| synthetic::window(i, 1000.0)).collect();
    windows[11].length_s = 0.1;
    windows[11].operations = vec![0];
    assert_eq!(judge(&windows).from_s, Some(0.0));
}
