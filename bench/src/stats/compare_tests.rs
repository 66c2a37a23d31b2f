//! Comparisons of runs whose truth is known: what is equal is not called different, what differs is found, and what cannot
//! be told is not told.

use super::*;
use crate::result::{Latency, Schedule};
use crate::stats::synthetic::{self, Shape};
use crate::workload::OpKind;

/// Share of comparisons in which `wanted` holds, over seeds.
fn share(seed: u64, pairs: u32, a: Shape, b: Shape, wanted: impl Fn(&Comparison) -> bool) -> f64 {
    let mut rng = Rng::new(seed);
    let mut found = 0;
    for _ in 0..pairs {
        let (a, b) = (synthetic::run(a, &mut rng), synthetic::run(b, &mut rng));
        found += u32::from(wanted(&compare(&a, &b)));
    }
    f64::from(found) / f64::from(pairs)
}

fn any_difference(comparison: &Comparison) -> bool {
    comparison.differences().next().is_some()
}

fn verdict(comparison: &Comparison, figure: Figure) -> &Verdict {
    &comparison
        .lines
        .iter()
        .find(|line| line.figure == figure)
        .unwrap()
        .verdict
}

const P99: Figure = Figure::Response {
    kind: OpKind::Update,
    percentile: 0.99,
};
const P999: Figure = Figure::Response {
    kind: OpKind::Update,
    percentile: 0.999,
};

#[test]
fn equal_runs_are_called_different_in_at_most_one_comparison_of_twenty() {
    let plain = Shape::default();
    let wide = Shape {
        between: 0.04,
        ..plain
    };
    let machines = [
        (
            "plain, with latencies",
            Shape {
                samples: 1000,
                ..plain
            },
            400,
        ),
        ("repeats vary by 4 %", wide, 400),
        (
            "windows hang together",
            Shape {
                rho: 0.9,
                within: 0.1,
                ..plain
            },
            200,
        ),
        (
            "repeats do not vary",
            Shape {
                between: 0.0001,
                ..plain
            },
            200,
        ),
        ("two repeats", Shape { repeats: 2, ..wide }, 200),
        ("three repeats", Shape { repeats: 3, ..wide }, 200),
    ];
    let (mut different, mut all) = (0.0, 0.0);
    for (name, shape, pairs) in machines {
        let share = share(7, pairs, shape, shape, any_difference);
        println!("{name}: {share:.4} of {pairs} equal pairs are called different");
        // Where nothing is given away, 5 % are due: of one machine they may be 5 % and twice the error of 200 pairs.
        assert!(share <= 0.08, "{name}: {share} of equal pairs");
        (different, all) = (different + share * f64::from(pairs), all + f64::from(pairs));
    }
    assert!(different / all <= 0.05, "{} of all equal pairs", different / all);
}

#[test]
fn a_shift_of_five_percent_is_found_in_nine_pairs_of_ten() {
    // With latencies, so that the rate is one figure of a full family.
    let a = Shape {
        samples: 1000,
        ..Shape::default()
    };
    let b = Shape {
        rate: a.rate * 1.05,
        ..a
    };
    let faster = share(8, 400, a, b, |c| *verdict(c, Figure::Rate) == Verdict::Faster);
    let slower = share(9, 200, b, a, |c| *verdict(c, Figure::Rate) == Verdict::Slower);
    println!("a true 5 %: faster found in {faster:.3}, slower found in {slower:.3}");
    assert!(faster >= 0.90 && slower >= 0.90, "{faster}, {slower}");
}

#[test]
fn a_slower_tail_is_found_and_the_median_left_alone() {
    let a = Shape {
        samples: 4000,
        ..Shape::default()
    };
    let b = Shape { tail: 1.2, ..a };
    let p50 = Figure::Response {
        kind: OpKind::Update,
        percentile: 0.5,
    };
    let differs = std::cell::Cell::new(0);
    let found = share(10, 200, a, b, |c| {
        differs.set(differs.get() + u32::from(*verdict(c, p50) != Verdict::NoDetectableDifference));
        *verdict(c, P99) == Verdict::Slower
    });
    let median = f64::from(differs.get()) / 200.0;
    println!("a p99 slower by 20 %: found in {found:.3}; the median is called different in {median:.3}");
    assert!(found >= 0.90, "{found}");
    assert!(median <= 0.05, "{median}");
}

#[test]
fn a_sure_difference_below_the_smallest_effect_is_none() {
    let mut rng = Rng::new(11);
    let a = Shape {
        between: 0.001,
        within: 0.005,
        repeats: 10,
        ..Shape::default()
    };
    let (first, second) = (
        synthetic::run(a, &mut rng),
        synthetic::run(
            Shape {
                rate: a.rate * 1.01,
                ..a
            },
            &mut rng,
        ),
    );
    let comparison = compare(&first, &second);
    let line = comparison
        .lines
        .iter()
        .find(|line| line.figure == Figure::Rate)
        .unwrap();
    assert!(
        line.p.unwrap() < 1e-6 && line.interval.unwrap()[0] > 1.0,
        "it is sure: {line}"
    );
    assert_eq!(line.verdict, Verdict::NoDetectableDifference);
    let sharp = Limits {
        smallest_effect: 0.0,
        ..Limits::default()
    };
    assert_eq!(
        *verdict(&compare_within(&first, &second, sharp), Figure::Rate),
        Verdict::Faster
    );
}

#[test]
fn one_repeat_is_never_enough() {
    let mut rng = Rng::new(12);
    let one = Shape {
        repeats: 1,
        ..Shape::default()
    };
    let twice = Shape {
        rate: 2.0 * one.rate,
        ..one
    };
    for b in [twice, Shape { repeats: 5, ..twice }] {
        let comparison = compare(&synthetic::run(one, &mut rng), &synthetic::run(b, &mut rng));
        let line = comparison
            .lines
            .iter()
            .find(|line| line.figure == Figure::Rate)
            .unwrap();
        let Verdict::CannotTell(why) = &line.verdict else {
            panic!("{line}")
        };
        assert!(why.contains("--repeats 5"), "{why}");
        assert!(line.interval.is_some(), "what windows show is shown");
        assert_eq!((comparison.family, comparison.differences().count()), (0, 0));
    }
}

#[test]
fn different_work_is_refused_by_the_field() {
    let mut rng = Rng::new(13);
    let a = synthetic::run(Shape::default(), &mut rng);
    let mut b = a.clone();
    (b.spec.name, b.spec.repeats) = ("another name".to_owned(), 9);
    assert_eq!(compare(&a, &b).refused, None, "neither changes the work");
    b.spec.phases[0].groups[0].mix.update = 0.5;
    b.spec.seed = 3;
    let refused = compare(&a, &b).refused.unwrap();
    assert!(
        refused.contains("phases[0].groups[0].mix.update is 1.0 against 0.5"),
        "{refused}"
    );
    assert!(refused.contains("seed is 0 against 3"), "{refused}");
    b = a.clone();
    b.engines[0].engine = "other".to_owned();
    let refused = compare(&a, &b).refused.unwrap();
    assert!(
        refused.contains("the first has corelane, the second other"),
        "{refused}"
    );
    let refused = compare_engines(&a, "corelane", "fjall").refused.unwrap();
    assert!(refused.contains("no fjall"), "{refused}");
}

#[test]
fn another_machine_is_noted_and_another_commit_is_expected() {
    let mut rng = Rng::new(14);
    let a = synthetic::run(Shape::default(), &mut rng);
    let mut b = a.clone();
    b.environment.kernel = "5.4".to_owned();
    b.environment.commit = "def".to_owned();
    b.interrupted = true;
    b.engines[0].repeats[2].phases[0].steady = crate::result::Steady {
        from_s: None,
        why: "it drifts".to_owned(),
    };
    let text = compare(&a, &b).to_string();
    for part in [
        "the kernel differs: 6.18 against 5.4",
        "the second: it was interrupted",
        "the second, corelane: a was not steady in 1 of 5 repeats: it drifts",
        "commit def",
    ] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    assert!(
        !text.contains("the filesystem differs") && !text.contains("both are of commit"),
        "{text}"
    );
}

#[test]
fn a_schedule_that_was_not_kept_gives_no_verdict() {
    let mut rng = Rng::new(15);
    let a = synthetic::run(
        Shape {
            samples: 2000,
            ..Shape::default()
        },
        &mut rng,
    );
    let mut b = a.clone();
    let schedule = Schedule {
        asked_rate: 1e6,
        lag: Latency::new(),
        invalid: Some("the generator lagged".to_owned()),
    };
    b.engines[0].repeats[3].phases[0].groups[0].schedule = Some(schedule);
    let comparison = compare(&a, &b);
    assert!(comparison.lines.len() > 5);
    for line in &comparison.lines {
        let Verdict::CannotTell(why) = &line.verdict else {
            panic!("{line}")
        };
        assert!(why.contains("the generator lagged"), "{why}");
    }
}

#[test]
fn a_percentile_with_fewer_than_ten_samples_beyond_it_in_any_repeat_is_not_told() {
    let mut rng = Rng::new(16);
    let mut a = synthetic::run(
        Shape {
            samples: 1000,
            ..Shape::default()
        },
        &mut rng,
    );
    let comparison = compare(&a, &a);
    assert_eq!(
        *verdict(&comparison, P99),
        Verdict::NoDetectableDifference,
        "1000 are just enough"
    );
    let Verdict::CannotTell(why) = verdict(&comparison, P999) else {
        panic!("{comparison}")
    };
    assert!(
        why.contains("1000"),
        "five repeats of 1000 are 5000 merged, and still too few: {why}"
    );
    let few = synthetic::run(
        Shape {
            samples: 999,
            ..Shape::default()
        },
        &mut rng,
    );
    a.engines[0].repeats[4] = few.engines[0].repeats[0].clone();
    let comparison = compare(&a, &a);
    assert!(
        matches!(verdict(&comparison, P99), Verdict::CannotTell(_)),
        "{comparison}"
    );
}

#[test]
fn what_only_one_side_counts_cannot_be_told_and_what_neither_does_is_left_out() {
    let mut rng = Rng::new(17);
    let mut run = synthetic::run(Shape::default(), &mut rng);
    let mut peer = run.engines[0].clone();
    peer.engine = "peer".to_owned();
    for repeat in &mut peer.repeats {
        repeat.phases[0].cost.counters = crate::engines::Counters::default();
    }
    run.engines.push(peer.clone());
    let comparison = compare_engines(&run, "corelane", "peer");
    let Verdict::CannotTell(why) = verdict(&comparison, Figure::WriteAmplification) else {
        panic!("{comparison}")
    };
    assert!(why.contains("of the second"), "{why}");
    run.engines[0] = peer;
    let comparison = compare(&run, &run);
    assert!(
        comparison
            .lines
            .iter()
            .all(|line| line.figure != Figure::WriteAmplification)
    );
}

#[test]
fn a_comparison_made_again_is_the_same_and_is_written_as_json() {
    let mut rng = Rng::new(18);
    let shape = Shape {
        samples: 2000,
        ..Shape::default()
    };
    let (a, b) = (
        synthetic::run(shape, &mut rng),
        synthetic::run(Shape { rate: 2e5, ..shape }, &mut rng),
    );
    let (first, again) = (compare(&a, &b), compare(&a, &b));
    assert_eq!(first, again);
    let json = serde_json::to_value(&first).unwrap();
    assert_eq!(json["lines"][0]["verdict"], "faster");
    let text = first.to_string();
    assert!(text.contains("rate: ") && text.contains("faster, by "), "{text}");
    assert!(
        text.contains("processor time per million operations: ") && text.contains("less, by "),
        "{text}"
    );
}

#[test]
fn holms_steps_stop_at_the_first_that_fails() {
    let of = |ps: [(f64, bool); 4]| holm(&ps.map(|(p, main)| Test { p, main }), 0.05);
    let close = |levels: Vec<f64>, by_hand: [f64; 4]| {
        let apart = levels
            .iter()
            .zip(by_hand)
            .any(|(level, expected)| (level - expected).abs() > 1e-12);
        assert!(!apart, "{levels:?}, by hand {by_hand:?}");
    };
    // Unweighted: 0.001 passes 0.05/4, 0.02 fails 0.05/3 and stops the rest, 0.03 and 0.04, at the same.
    let plain = of([(0.04, false), (0.001, false), (0.02, false), (0.03, false)]);
    close(plain, [0.05 / 3.0, 0.05 / 4.0, 0.05 / 3.0, 0.05 / 3.0]);
    // The main one has half: 0.02 passes 0.025, then the others share all that is left, 0.05/3, and 0.017 fails it.
    let weighted = of([(0.02, true), (0.017, false), (0.5, false), (0.018, false)]);
    close(weighted, [0.025, 0.05 / 3.0, 0.05 / 3.0, 0.05 / 3.0]);
}
