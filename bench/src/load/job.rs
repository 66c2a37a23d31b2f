//! What the callers of one phase share: what they do, the clock, when it ends, and where they record.
//!
//! Time runs from [`Job::begin`]. The warm-up comes first and is run, not counted. The end is the first of: every caller
//! of the first group has used up its part of the operations; the seconds are over; somebody stopped it (an error, or the
//! user). The callers of the other groups are company: they go on until the first group has ended.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::error::BenchError;
use crate::load::recorder::Recorder;
use crate::spec::{Group, Phase, Spec};
use crate::workload::keys::KeyMaker;
use crate::workload::rng::mix;
use crate::workload::stream::{Place, Stream};
use crate::workload::values::ValueMaker;

/// One caller: the streams that it runs, one operation under way.
///
/// Where every caller may ask for every key, caller `n` runs stream `n`. Where callers sit on the cores that own the keys,
/// as many callers as there are cores share as many streams: each runs all of them and takes the operations whose keys
/// its core owns. So the streams of a group are done exactly once, and as many operations are under way, in both cases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// Place of its group in the phase.
    pub group: usize,
    /// The first stream that it runs.
    pub first_stream: u32,
    /// How many it runs.
    pub streams: u32,
}

/// One phase under way.
#[derive(Debug)]
pub struct Job {
    spec: Spec,
    phase: usize,
    keys: KeyMaker,
    values: ValueMaker,
    seed: u64,
    recorder: Recorder,
    begun: OnceLock<Instant>,
    ended: OnceLock<Instant>,
    main_callers: AtomicUsize,
    stop: AtomicBool,
    failure: Mutex<Option<BenchError>>,
}

impl Job {
    /// Of a phase of a checked spec; `repeat` tells repeats' random numbers apart.
    pub fn new(spec: &Spec, phase: usize, repeat: u32) -> Self {
        let window = window_length(&spec.phases[phase]);
        Self {
            keys: KeyMaker::new(&spec.keys),
            values: ValueMaker::new(&spec.values),
            seed: spec.seed.wrapping_add(u64::from(repeat) << 32),
            recorder: Recorder::new(&spec.phases[phase], window),
            spec: spec.clone(),
            phase,
            begun: OnceLock::new(),
            ended: OnceLock::new(),
            main_callers: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            failure: Mutex::new(None),
        }
    }

    /// The phase.
    pub fn phase(&self) -> &Phase {
        &self.spec.phases[self.phase]
    }

    /// A group of it.
    pub fn group(&self, group: usize) -> &Group {
        &self.phase().groups[group]
    }

    /// Every caller of every group, where each may ask for every key.
    pub fn callers(&self) -> impl Iterator<Item = Caller> + '_ {
        let groups = self.phase().groups.iter().enumerate();
        groups.flat_map(|(group, what)| {
            (0..what.load.callers()).map(move |stream| Caller {
                group,
                first_stream: stream,
                streams: 1,
            })
        })
    }

    /// The operations of a stream of a group.
    pub fn stream(&self, group: usize, stream: u32) -> Stream {
        let place = Place {
            phase: self.phase,
            group,
            stream,
        };
        Stream::new(&self.spec, place, self.seed)
    }

    /// Whether keys come or go in this phase.
    pub fn keys_change(&self) -> bool {
        let groups = &self.phase().groups;
        groups
            .iter()
            .any(|group| group.mix.insert + group.mix.delete > 0.0)
    }

    /// Makes keys.
    pub fn keys(&self) -> &KeyMaker {
        &self.keys
    }

    /// Makes and checks values.
    pub fn values(&self) -> &ValueMaker {
        &self.values
    }

    /// Where callers record.
    pub fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// Where the random starts of a stream begin: no two phases of a run share any.
    pub fn arrival_seed(&self, group: usize, stream: u32) -> u64 {
        let place = (self.phase as u64) << 40 | (group as u64) << 32 | u64::from(stream);
        mix(mix(self.seed) ^ place)
    }

    /// Starts the clock. As many callers of the first group must then run and leave as it has streams.
    ///
    /// # Panics
    /// When it has begun before.
    pub fn begin(&self) {
        let callers = self.group(0).load.callers() as usize;
        self.main_callers.store(callers, Ordering::Relaxed);
        assert!(self.begun.set(Instant::now()).is_ok(), "a job begins once");
    }

    /// When it began.
    ///
    /// # Panics
    /// When it has not.
    pub fn begun(&self) -> Instant {
        *self
            .begun
            .get()
            .expect("callers are started after the job has begun")
    }

    /// When its measured part begins: the warm-up is over.
    pub fn measured_from(&self) -> Instant {
        self.begun() + Duration::from_secs_f64(self.phase().warmup_seconds)
    }

    /// When its time is over, if it is bound by time.
    pub fn deadline(&self) -> Option<Instant> {
        let seconds = self.phase().until.seconds?;
        Some(self.measured_from() + Duration::from_secs_f64(seconds))
    }

    /// The operations that each stream of the first group generates at most: its even part of the phase's.
    pub fn operations_of(&self, group: usize, stream: u32) -> u64 {
        let Some(operations) = self.phase().until.operations.filter(|_| group == 0) else {
            return u64::MAX;
        };
        let of = u64::from(self.group(0).load.callers());
        operations / of + u64::from(u64::from(stream) < operations % of)
    }

    /// Whether callers should end now.
    #[inline]
    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Ends it: the user wants no more.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// A caller has ended; the last of the first group ends the job, and so does an error.
    pub fn left(&self, who: Caller, result: &Result<(), BenchError>) {
        if let Err(error) = result {
            let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
            failure.get_or_insert_with(|| error.clone());
            self.stop();
        }
        if who.group == 0 && self.main_callers.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.ended.get_or_init(Instant::now);
            self.stop();
        }
    }

    /// The first error of any caller.
    pub fn failure(&self) -> Option<BenchError> {
        self.failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Seconds that were measured: to the deadline where the job reached it, else to the end of its last caller.
    pub fn measured_seconds(&self) -> f64 {
        let ended = self.ended.get().copied().unwrap_or_else(Instant::now);
        let end = self.deadline().map_or(ended, |deadline| deadline.min(ended));
        end.saturating_duration_since(self.measured_from()).as_secs_f64()
    }
}

/// Windows of a second, but no fewer than twenty of them in a phase bound by time, and none below 50 ms.
fn window_length(phase: &Phase) -> Duration {
    let seconds = phase
        .until
        .seconds
        .map_or(1.0, |seconds| (seconds / 20.0).clamp(0.05, 1.0));
    Duration::from_secs_f64(seconds)
}
