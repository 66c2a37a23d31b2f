//! Whose turn it is: the operations of a caller's streams in one order, each with its intended start.

use std::time::Duration;

use crate::load::job::{Caller, Job};
use crate::spec::Load;
use crate::workload::Op;
use crate::workload::arrivals::Arrivals;
use crate::workload::stream::Stream;

/// An operation and when it is meant to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// The operation.
    pub op: Op,
    /// Counted from the phase's begin; zero in a closed loop.
    pub start: Duration,
}

/// The streams of one caller.
#[derive(Debug)]
pub struct Turns {
    lanes: Vec<Lane>,
    next: usize,
}

/// One stream, and what is left of it.
#[derive(Debug)]
struct Lane {
    stream: Stream,
    left: u64,
    arrivals: Option<Arrivals>,
    start: Duration,
}

impl Turns {
    /// Of a caller.
    pub fn new(job: &Job, who: Caller) -> Self {
        let streams = who.first_stream..who.first_stream + who.streams;
        let lanes = streams.map(|stream| Lane::new(job, who.group, stream)).collect();
        Self { lanes, next: 0 }
    }

    /// The next operation: of an open loop the one that is meant to begin first, of a closed loop each stream's in turn.
    /// `None` once every stream has ended.
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator's adapters have no use in a caller's loop"
    )]
    #[inline]
    pub fn next(&mut self) -> Option<Turn> {
        loop {
            let lane = self.turn_of()?;
            match self.lanes[lane].take() {
                Some(turn) => return Some(turn),
                None => drop(self.lanes.remove(lane)),
            }
        }
    }

    #[inline]
    fn turn_of(&mut self) -> Option<usize> {
        if self.lanes.len() <= 1 {
            return (!self.lanes.is_empty()).then_some(0);
        }
        if self.lanes[0].arrivals.is_some() {
            let starts = self.lanes.iter().enumerate();
            return starts.min_by_key(|(_, lane)| lane.start).map(|(lane, _)| lane);
        }
        self.next = (self.next + 1) % self.lanes.len();
        Some(self.next)
    }
}

impl Lane {
    fn new(job: &Job, group: usize, stream: u32) -> Self {
        let arrivals = match job.group(group).load {
            Load::Closed { .. } => None,
            Load::Open {
                callers,
                rate,
                arrival,
            } => {
                let seed = job.arrival_seed(group, stream);
                Some(Arrivals::new(rate, arrival, stream, callers, seed))
            }
        };
        let mut lane = Self {
            stream: job.stream(group, stream),
            left: job.operations_of(group, stream),
            arrivals,
            start: Duration::ZERO,
        };
        lane.schedule();
        lane
    }

    #[inline]
    fn take(&mut self) -> Option<Turn> {
        self.left = self.left.checked_sub(1)?;
        let op = self.stream.next()?;
        let start = self.start;
        self.schedule();
        Some(Turn { op, start })
    }

    #[inline]
    fn schedule(&mut self) {
        if let Some(arrivals) = &mut self.arrivals {
            self.start = arrivals.next_start();
        }
    }
}
