//! Families about the cores that host shards: what each class of tasks has had of them, with core and class as labels.

use std::fmt::Error;

use corelane::api::{ClassTime, ClassTimes, Stats};
use prometheus_client::registry::Unit;

use super::families::{Families, Labels};

pub(super) fn encode(stats: &Stats, out: &mut Families<'_>) -> Result<(), Error> {
    let times: Vec<(Labels, ClassTime)> = stats.class_times().into_iter().flat_map(of_core).collect();
    let counts = |count: fn(&ClassTime) -> u64| {
        let times = times.iter();
        times.map(move |(labels, time)| (labels.clone(), count(time)))
    };
    let seconds = |length: fn(&ClassTime) -> f64| {
        let times = times.iter();
        times.map(move |(labels, time)| (labels.clone(), length(time)))
    };
    out.counter(
        "core_class_busy",
        Some(Unit::Seconds),
        "Time that the tasks of a class had of a core.",
        seconds(|time| time.ran.as_secs_f64()),
    )?;
    out.counter(
        "core_class_polls",
        None,
        "How often a task of a class was polled.",
        counts(|time| time.polls),
    )?;
    out.counter(
        "core_class_stalls",
        None,
        "How often a task of a class kept its core for a millisecond or more.",
        counts(|time| time.stalls),
    )?;
    out.gauge(
        "core_class_longest_poll",
        Some(Unit::Seconds),
        "The longest that a task of a class kept its core, within the last minute or two.",
        seconds(|time| time.longest.as_secs_f64()),
    )
}

fn of_core((core, times): (usize, ClassTimes)) -> impl Iterator<Item = (Labels, ClassTime)> {
    let times: Vec<_> = times.iter().collect();
    times.into_iter().map(move |(class, time)| {
        let labels = vec![("core", core.to_string()), ("class", class.name().to_owned())];
        (labels, time)
    })
}
