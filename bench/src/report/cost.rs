//! What a phase cost: amplification, processor time, memory, the device's share of time.
//!
//! **Write amplification** is bytes written for each byte of keys and values that the user wrote: by the engine's own
//! counters, by the process (`/proc/self/io`) and by the whole device (`/proc/diskstats`). Where an engine does not count
//! the user's bytes, they follow from the writes and the spec's sizes, unless a warm-up hides some of the writes.
//! **Read amplification** is device reads, and KiB read from the device, for each get or scan. **Space amplification** is
//! bytes on disk for each byte of keys and values in the database.

use serde::Serialize;

use crate::report::figures::spread;
use crate::result::{PhaseResult, Run};
use crate::spec::{Sizes, Spec};
use crate::workload::OpKind;

/// What a phase cost: medians over repeats, `None` where nobody could tell.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct CostFigures {
    /// Processor seconds for a million operations, of all groups.
    pub cpu_per_million: Option<f64>,
    /// Bytes that the engine says it wrote, for each byte of the user's.
    pub write_amp: Option<f64>,
    /// Of these, to the log.
    pub write_amp_log: Option<f64>,
    /// Of these, by flushes.
    pub write_amp_flush: Option<f64>,
    /// Of these, by compaction.
    pub write_amp_compaction: Option<f64>,
    /// Bytes that the process sent to the device, for each byte of the user's.
    pub write_amp_process: Option<f64>,
    /// Bytes that the device was written, for each byte of the user's.
    pub write_amp_device: Option<f64>,
    /// Device reads of blocks for each get or scan.
    pub reads_per_op: Option<f64>,
    /// KiB read from the device for each get or scan.
    pub read_kib_per_op: Option<f64>,
    /// Bytes on disk for each byte in the database.
    pub space_amp: Option<f64>,
    /// The most memory in MiB, of any repeat.
    pub peak_mib: f64,
    /// Share of the time that the device had work, 0 to 1.
    pub device_utilisation: Option<f64>,
}

/// Of the repeats of one phase.
pub fn figures(run: &Run, phases: &[&PhaseResult]) -> CostFigures {
    let median = |figure: &dyn Fn(&PhaseResult) -> Option<f64>| {
        let told: Vec<f64> = phases.iter().filter_map(|phase| figure(phase)).collect();
        (!told.is_empty()).then(|| spread(told).median)
    };
    let per_user_byte = |bytes: &dyn Fn(&PhaseResult) -> Option<u64>| {
        median(&|phase| ratio(bytes(phase)? as f64, user_bytes(&run.spec, phase)?))
    };
    let per_read = |count: &dyn Fn(&PhaseResult) -> Option<u64>, unit: f64| {
        median(&|phase| ratio(count(phase)? as f64 / unit, reads(phase)))
    };
    CostFigures {
        cpu_per_million: median(&|phase| ratio(phase.cost.cpu_seconds * 1e6, operations(phase))),
        write_amp: per_user_byte(&|phase| {
            let counters = &phase.cost.counters;
            Some(counters.log_bytes? + counters.flush_bytes? + counters.compaction_bytes?)
        }),
        write_amp_log: per_user_byte(&|phase| phase.cost.counters.log_bytes),
        write_amp_flush: per_user_byte(&|phase| phase.cost.counters.flush_bytes),
        write_amp_compaction: per_user_byte(&|phase| phase.cost.counters.compaction_bytes),
        write_amp_process: per_user_byte(&|phase| phase.cost.process_written_bytes),
        write_amp_device: per_user_byte(&|phase| phase.cost.device_written_bytes),
        reads_per_op: per_read(&|phase| phase.cost.counters.block_reads, 1.0),
        read_kib_per_op: per_read(
            &|phase| phase.cost.device_read_bytes.or(phase.cost.process_read_bytes),
            1024.0,
        ),
        space_amp: median(&|phase| ratio(phase.cost.occupied_bytes as f64, phase.cost.live_bytes as f64)),
        peak_mib: phases
            .iter()
            .map(|phase| phase.cost.peak_bytes)
            .max()
            .unwrap_or(0) as f64
            / f64::from(1 << 20),
        device_utilisation: median(&|phase| phase.cost.device_utilisation),
    }
}

fn ratio(of: f64, to: f64) -> Option<f64> {
    (to > 0.0).then(|| of / to)
}

fn operations(phase: &PhaseResult) -> f64 {
    phase.groups.iter().map(|group| group.operations).sum::<u64>() as f64
}

fn count_of(phase: &PhaseResult, wanted: impl Fn(OpKind) -> bool) -> f64 {
    let kinds = phase.groups.iter().flat_map(|group| &group.kinds);
    let counts = kinds
        .filter(|kind| wanted(kind.kind))
        .map(|kind| kind.service.count());
    counts.sum::<u64>() as f64
}

fn reads(phase: &PhaseResult) -> f64 {
    count_of(phase, |kind| {
        matches!(
            kind,
            OpKind::Read | OpKind::ReadMissing | OpKind::ReadModifyWrite | OpKind::Scan
        )
    })
}

fn user_bytes(spec: &Spec, phase: &PhaseResult) -> Option<f64> {
    if let Some(bytes) = phase.cost.counters.user_bytes {
        return Some(bytes as f64);
    }
    // Costs run from the phase's begin, operations from the end of the warm-up.
    let warm = |of_spec: &&crate::spec::Phase| of_spec.name == phase.name && of_spec.warmup_seconds > 0.0;
    if spec.phases.iter().any(|of_spec| warm(&of_spec)) {
        return None;
    }
    let value = match spec.values.bytes {
        Sizes::Fixed(bytes) => f64::from(bytes),
        Sizes::Uniform { min, max } => f64::midpoint(f64::from(min), f64::from(max)),
        Sizes::Zipfian { .. } => return None,
    };
    let writes = count_of(phase, |kind| {
        matches!(kind, OpKind::Insert | OpKind::Update | OpKind::ReadModifyWrite)
    });
    let deletes = count_of(phase, |kind| kind == OpKind::Delete);
    let key = f64::from(spec.keys.bytes);
    Some(writes * (key + value) + deletes * key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    fn first(run: &Run) -> CostFigures {
        figures(run, &[&run.engines[0].repeats[0].phases[0]])
    }

    #[test]
    fn write_amplification_is_the_sum_of_log_flush_and_compaction() {
        let mut run = sample::run();
        let counters = &mut run.engines[0].repeats[0].phases[0].cost.counters;
        counters.user_bytes = Some(1000);
        (
            counters.log_bytes,
            counters.flush_bytes,
            counters.compaction_bytes,
        ) = (Some(1100), Some(900), Some(500));
        let found = first(&run);
        assert_eq!(found.write_amp, Some(2.5));
        let parts = [
            found.write_amp_log,
            found.write_amp_flush,
            found.write_amp_compaction,
        ];
        assert_eq!(parts, [Some(1.1), Some(0.9), Some(0.5)]);
    }

    #[test]
    fn an_engine_that_does_not_tell_has_no_amplification_rather_than_a_small_one() {
        let mut run = sample::run();
        run.engines[0].repeats[0].phases[0].cost.counters.flush_bytes = None;
        assert_eq!(first(&run).write_amp, None);
        assert!(first(&run).write_amp_log.is_some());
    }

    #[test]
    fn user_bytes_follow_from_the_writes_unless_a_warm_up_hides_some() {
        let mut run = sample::run();
        let phase = &mut run.engines[0].repeats[0].phases[0];
        let writes = phase.groups[0].kinds[0].service.count();
        phase.cost.counters.user_bytes = None;
        phase.cost.device_written_bytes = Some(writes * 416 * 3);
        assert_eq!(first(&run).write_amp_device, Some(3.0));
        run.spec.phases[0].warmup_seconds = 1.0;
        assert_eq!(first(&run).write_amp_device, None);
    }

    #[test]
    fn a_phase_without_operations_has_no_cost_an_operation() {
        let mut run = sample::run();
        let phase = &mut run.engines[0].repeats[0].phases[0];
        phase.groups[0].operations = 0;
        phase.cost.live_bytes = 0;
        let found = first(&run);
        assert_eq!((found.cpu_per_million, found.space_amp), (None, None));
        assert_eq!(found.reads_per_op, None, "a load reads nothing");
    }
}
