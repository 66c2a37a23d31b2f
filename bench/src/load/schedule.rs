//! Whether an open loop kept its schedule: a generator that could not is no measure of the engine.
//!
//! Two faults are told apart. *The generator was late*: a caller that was free began an operation long after its intended
//! start, because the machine did not run it. *The offered rate was not reached*: fewer operations ended than the schedule
//! holds, because all callers were busy: the engine is saturated at this rate, and its response times grow with the length
//! of the run, so they say nothing either.

use crate::result::{KindResult, Latency, Schedule};
use crate::spec::Load;

/// The share of the asked rate that must be reached.
const REACHED: f64 = 0.98;
/// A generator may be late at its p99 by one part in so many of the response's p99…
const LAG_PART: u64 = 10;
/// … and always by so much, in nanoseconds: on an idle virtual machine of two cores the p99 of a timed wake-up was 0.2 to
/// 0.9 ms at most rates. It is part of the response times, so it can only make an engine look slower than it is.
const LAG_FLOOR_NS: u64 = 1_000_000;

/// Judges an open loop; `None` for a closed one.
pub fn judge(
    load: Load,
    operations: u64,
    seconds: f64,
    lag: Latency,
    kinds: &[KindResult],
) -> Option<Schedule> {
    let Load::Open { rate, .. } = load else {
        return None;
    };
    let invalid = late(&lag, kinds).or_else(|| saturated(rate, operations, seconds));
    Some(Schedule {
        asked_rate: rate,
        lag,
        invalid,
    })
}

fn late(lag: &Latency, kinds: &[KindResult]) -> Option<String> {
    let mut response = Latency::new();
    kinds.iter().for_each(|kind| response.merge(&kind.response));
    let worst = |latency: &Latency| latency.percentile_ns(0.99).or(latency.max_ns());
    let (lag, response) = (worst(lag)?, worst(&response)?);
    let allowed = LAG_FLOOR_NS.max(response / LAG_PART);
    (lag > allowed).then(|| {
        format!(
            "the generator itself began operations {:.2} ms late (p99), more than {:.2} ms, while callers were free: use \
             fewer callers, a lower rate, or more cores for it",
            lag as f64 / 1e6,
            allowed as f64 / 1e6
        )
    })
}

fn saturated(rate: f64, operations: u64, seconds: f64) -> Option<String> {
    let reached = operations as f64 / seconds.max(f64::MIN_POSITIVE);
    // Of a Poisson process the number of arrivals itself varies: three standard deviations are no fault.
    let expected = rate * seconds;
    let least = expected * REACHED - 3.0 * expected.sqrt();
    ((operations as f64) < least).then(|| {
        format!(
            "{reached:.0} operations a second ended of the {rate:.0} that were asked for: all callers were busy, the rate \
             is more than the engine bears with so many"
        )
    })
}
