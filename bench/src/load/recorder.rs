//! Where callers put what they measured: each into its own [`Local`], merged into the shared [`Recorder`] when a window is
//! over and at the end, so that no two cores write one cache line while operations run.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::load::job::{Caller, Job};
use crate::result::{KindResult, Latency};
use crate::spec::{Load, Phase};
use crate::workload::OpKind;

/// The most windows that are kept: a phase of a day in seconds. What is later counts in the last.
const MAX_WINDOWS: usize = 86_400;

/// What all callers of a phase recorded.
#[derive(Debug)]
pub struct Recorder {
    window: Duration,
    groups: Vec<Mutex<GroupRecord>>,
    windows: Mutex<Vec<WindowRecord>>,
}

/// What a group recorded.
#[derive(Debug, Default)]
pub struct GroupRecord {
    /// Service and response times of each kind of operation; response is empty in a closed loop.
    kinds: [Option<Box<(Latency, Latency)>>; OpKind::ALL.len()],
    /// How late the generator was by its own fault.
    pub lag: Latency,
    /// Operations that had ended when the measured time was over: what a rate is made of.
    pub operations: u64,
    /// Entries that were inserted, those of the warm-up included.
    pub inserted: u64,
    /// Bytes of their values.
    pub inserted_value_bytes: u64,
}

/// What ended in a window.
#[derive(Debug, Clone, Default)]
pub struct WindowRecord {
    /// Operations of each group.
    pub operations: Vec<u64>,
    /// Response times of the first group.
    pub response: Latency,
}

impl Recorder {
    /// For a phase, in windows of this length.
    pub fn new(phase: &Phase, window: Duration) -> Self {
        let groups = phase.groups.iter().map(|_| Mutex::default()).collect();
        Self {
            window,
            groups,
            windows: Mutex::default(),
        }
    }

    /// Length of a window.
    pub fn window(&self) -> Duration {
        self.window
    }

    /// Hands out what a group recorded, once all its callers have ended.
    pub fn group(&self, group: usize) -> GroupRecord {
        std::mem::take(&mut *self.groups[group].lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Hands out the windows, once all callers have ended.
    pub fn windows(&self) -> Vec<WindowRecord> {
        std::mem::take(&mut *self.windows.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl GroupRecord {
    fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.kinds.iter_mut().zip(&other.kinds) {
            let Some(theirs) = theirs else { continue };
            let mine = mine.get_or_insert_with(Box::default);
            mine.0.merge(&theirs.0);
            mine.1.merge(&theirs.1);
        }
        self.lag.merge(&other.lag);
        self.operations += other.operations;
        self.inserted += other.inserted;
        self.inserted_value_bytes += other.inserted_value_bytes;
    }

    /// Each kind that occurred; of a closed loop the response is the service.
    pub fn kinds(self, load: Load) -> Vec<KindResult> {
        let all = OpKind::ALL.into_iter().zip(self.kinds);
        all.filter_map(|(kind, times)| {
            let (service, response) = *times?;
            let response = match load {
                Load::Closed { .. } => service.clone(),
                Load::Open { .. } => response,
            };
            Some(KindResult {
                kind,
                service,
                response,
            })
        })
        .collect()
    }
}

/// One caller's own record.
#[derive(Debug)]
pub struct Local<'a> {
    job: &'a Job,
    who: Caller,
    from: Instant,
    to: Option<Instant>,
    record: GroupRecord,
    window: usize,
    window_ends: Instant,
    in_window: u64,
    response: Latency,
}

impl<'a> Local<'a> {
    /// For a caller of a job that has begun.
    pub fn new(job: &'a Job, who: Caller) -> Self {
        let from = job.measured_from();
        Self {
            job,
            who,
            from,
            to: job.deadline(),
            record: GroupRecord::default(),
            window: 0,
            window_ends: from + job.recorder().window,
            in_window: 0,
            response: Latency::new(),
        }
    }

    /// Records an operation of a closed loop.
    #[inline]
    pub fn closed(&mut self, kind: OpKind, start: Instant, end: Instant) {
        // One that began in the warm-up waited there; one that ends after the deadline is cut off by the clock, not by
        // the engine: the next of a closed loop would not have begun.
        if start < self.from || self.to.is_some_and(|to| end > to) {
            return;
        }
        self.times(kind).0.record(end - start);
        self.count(end, end - start);
    }

    /// Records an operation of an open loop. One that was to begin in the measured time counts however late it ends: it is
    /// those that a stall at the end would hide.
    #[inline]
    pub fn open(&mut self, kind: OpKind, intended: Instant, start: Instant, end: Instant) {
        if intended < self.from || self.to.is_some_and(|to| intended >= to) {
            return;
        }
        let times = self.times(kind);
        times.0.record(end - start);
        times.1.record(end - intended);
        if self.to.is_none_or(|to| end <= to) {
            self.count(end, end - intended);
        }
    }

    /// Records how late the generator began an operation while its caller was free.
    #[inline]
    pub fn lag(&mut self, intended: Instant, late: Duration) {
        if intended >= self.from {
            self.record.lag.record(late);
        }
    }

    /// Notes that an entry was inserted, measured or not.
    #[inline]
    pub fn inserted(&mut self, value_bytes: usize) {
        self.record.inserted += 1;
        self.record.inserted_value_bytes += value_bytes as u64;
    }

    fn times(&mut self, kind: OpKind) -> &mut (Latency, Latency) {
        self.record.kinds[kind.place()].get_or_insert_with(Box::default)
    }

    #[inline]
    fn count(&mut self, end: Instant, response: Duration) {
        self.record.operations += 1;
        if end >= self.window_ends {
            self.next_window(end);
        }
        self.in_window += 1;
        if self.who.group == 0 {
            self.response.record(response);
        }
    }

    #[cold]
    fn next_window(&mut self, now: Instant) {
        self.flush_window();
        let length = self.job.recorder().window;
        let number = (now - self.from).as_nanos() / length.as_nanos();
        self.window = usize::try_from(number)
            .unwrap_or(MAX_WINDOWS)
            .min(MAX_WINDOWS - 1);
        let ends = length * u32::try_from(self.window + 1).expect("MAX_WINDOWS is far below 2^32");
        // Beyond the last window every operation comes here; none is lost, and none that matters is slow.
        self.window_ends = self.from + ends;
    }

    fn flush_window(&mut self) {
        if self.in_window == 0 {
            return;
        }
        let mut windows = self
            .job
            .recorder()
            .windows
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if windows.len() <= self.window {
            windows.resize_with(self.window + 1, WindowRecord::default);
        }
        let window = &mut windows[self.window];
        window.operations.resize(self.job.recorder().groups.len(), 0);
        window.operations[self.who.group] += self.in_window;
        if self.who.group == 0 {
            window.response.merge(&self.response);
            self.response = Latency::new();
        }
        self.in_window = 0;
    }

    /// Adds everything to the shared record.
    pub fn finish(mut self) {
        self.flush_window();
        let mut shared = self.job.recorder().groups[self.who.group]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        shared.merge(&self.record);
    }
}
