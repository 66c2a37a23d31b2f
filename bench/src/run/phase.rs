//! One phase of one engine, from settling to the raw device after it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::cost::disk::Disk;
use crate::cost::occupied_bytes;
use crate::cost::proc::reset_peak;
use crate::engines::Engine;
use crate::error::BenchError;
use crate::load::job::Job;
use crate::load::recorder::GroupRecord;
use crate::load::schedule;
use crate::result::{Cost, GroupResult, PhaseResult};
use crate::run::Watch;
use crate::run::beside::Device;
use crate::run::sampler::{Reading, Sampler, between, windows};
use crate::run::verify::Verifier;
use crate::spec::{Group, Spec};
use crate::stats::steady;

/// What goes with every phase of a repeat.
#[derive(Clone, Copy)]
pub struct Conditions<'a> {
    /// The database's directory.
    pub dir: &'a Path,
    /// The raw device, where it is wanted.
    pub device: Option<&'a Device>,
    /// Who watches.
    pub watch: &'a Watch,
    /// Which repeat, from 0.
    pub repeat: u32,
}

/// Runs a phase.
///
/// # Errors
/// The engine's, a wrong answer's, or the machine's.
pub fn measure(
    engine: &dyn Engine,
    spec: &Spec,
    number: usize,
    with: &Conditions<'_>,
    verifier: &mut Verifier,
) -> Result<PhaseResult, BenchError> {
    let phase = &spec.phases[number];
    if phase.settle_first {
        engine.settle()?;
    }
    let before = with
        .device
        .map(|device| device.before(phase, &with.watch.stop))
        .transpose()?
        .flatten();
    reset_peak(None);
    let disk = Disk::under(with.dir).ok();
    let job = Arc::new(Job::new(spec, number, with.repeat));
    job.begin();
    let sampler = Sampler::new(engine, disk.as_ref(), &job, with.watch);
    let (ran, readings) = run_sampled(engine, &job, &sampler);
    job.failure().map_or(ran, Err)?;

    let seconds = job.measured_seconds();
    let (first, last) = (readings[0], readings[readings.len() - 1]);
    let length = job.recorder().window();
    let windows = windows(&readings, job.recorder().windows(), length, phase.groups.len());
    let groups: Vec<GroupResult> = phase
        .groups
        .iter()
        .enumerate()
        .map(|(place, group)| {
            let record = job.recorder().group(place);
            verifier.wrote(&record);
            group_result(group, record, seconds)
        })
        .collect();
    let cost = cost(&first, &last, seconds, with.dir, verifier)?;
    let device = match before {
        Some(before) => before.after(&groups[0], &cost.counters, &with.watch.stop)?,
        None => None,
    };
    let planned = phase.until.seconds.unwrap_or(seconds) + phase.warmup_seconds;
    with.watch
        .bar
        .inc(std::time::Duration::from_secs_f64(planned).as_secs());
    Ok(PhaseResult {
        name: phase.name.clone(),
        seconds,
        groups,
        steady: steady::judge(&windows),
        windows,
        cost,
        device,
    })
}

fn run_sampled(
    engine: &dyn Engine,
    job: &Arc<Job>,
    sampler: &Sampler<'_>,
) -> (Result<(), BenchError>, Vec<Reading>) {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // It ends the sampling also where running panics, or the scope would wait for ever.
        let _end = EndOnDrop(&done);
        let sampling = scope.spawn(|| sampler.run(&done));
        let ran = engine.run(job);
        done.store(true, Ordering::Release);
        let readings = sampling.join().unwrap_or_else(|_| vec![sampler.read()]);
        (ran, readings)
    })
}

struct EndOnDrop<'a>(&'a AtomicBool);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

fn group_result(group: &Group, record: GroupRecord, seconds: f64) -> GroupResult {
    let operations = record.operations;
    let lag = record.lag.clone();
    let kinds = record.kinds(group.load);
    GroupResult {
        name: group.name.clone(),
        operations,
        rate: if seconds > 0.0 {
            operations as f64 / seconds
        } else {
            0.0
        },
        schedule: schedule::judge(group.load, operations, seconds, lag, &kinds),
        kinds,
    }
}

fn cost(
    first: &Reading,
    last: &Reading,
    seconds: f64,
    dir: &Path,
    verifier: &Verifier,
) -> Result<Cost, BenchError> {
    let usage = last.usage.since(&first.usage);
    let disk = last.disk.zip(first.disk).map(|(last, first)| last.since(&first));
    let occupied = occupied_bytes(dir).map_err(|e| BenchError::file("looking at the size of", dir, e))?;
    Ok(Cost {
        cpu_seconds: usage.cpu_seconds,
        peak_bytes: usage.peak_bytes,
        counters: between(&first.counters, &last.counters),
        process_written_bytes: usage.written_bytes,
        process_read_bytes: usage.read_bytes,
        device_written_bytes: disk.map(|disk| disk.written_bytes),
        device_read_bytes: disk.map(|disk| disk.read_bytes),
        device_utilisation: disk.map(|disk| disk.utilisation(seconds)),
        occupied_bytes: occupied,
        live_bytes: verifier.live_bytes(),
    })
}
