//! Families about the cores that host shards: what each class of tasks has had of them, with core and class as labels.

use std::fmt::Error;

use corelane::api::{ClassTime, ClassTimes, Stats};
use prometheus_client::registry::Unit;

use super::families::{Families, Labels};

pub(super) fn encode(stats: &Stats, out: &mut Families<'_>) -> Result<(), Error> {
    let times: Vec<(Labels, ClassTime)> = stats.class_times().into_iter().flat_map(of_core).collect();
    out.counter(
        "core_class_busy",
        Some(Unit::Seconds),
        "Time that the tasks of a class had of a core.",
        samples(&times, |time| time.ran.as_secs_f64()),
    )?;
    out.counter(
        "core_class_polls",
        None,
        "How often a task of a class was polled.",
        samples(&times, |time| time.polls),
    )?;
    out.counter(
        "core_class_stalls",
        None,
        "How often a task of a class kept its core for a millisecond or more.",
        samples(&times, |time| time.stalls),
    )?;
    out.gauge(
        "core_class_longest_poll",
        Some(Unit::Seconds),
        "The longest that a task of a class kept its core, within the last minute or two.",
        samples(&times, |time| time.longest.as_secs_f64()),
    )
}

/// One value of each class of each core.
fn samples<V: 'static>(
    times: &[(Labels, ClassTime)],
    value: fn(&ClassTime) -> V,
) -> impl Iterator<Item = (Labels, V)> + '_ {
    times
        .iter()
        .map(move |(labels, time)| (labels.clone(), value(time)))
}

fn of_core((core, times): (usize, ClassTimes)) -> impl Iterator<Item = (Labels, ClassTime)> {
    times.iter().map(move |(class, time)| {
        let labels = vec![("core", core.to_string()), ("class", class.name().to_owned())];
        (labels, time)
    })
}
