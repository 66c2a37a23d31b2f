//! Rates of now, from samples of counts: pure.
//!
//! Somebody takes a sample now and then; a rate is what was added over the last [`WINDOW`], or between the last two
//! samples where they lie further apart.

use std::collections::VecDeque;
use std::time::Duration;

/// Samples closer together than this are not kept.
const CLOSEST: Duration = Duration::from_millis(100);

/// How far a rate looks back.
const WINDOW: Duration = Duration::from_millis(1600);

/// Counts at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sample {
    /// When, as time since an arbitrary start.
    pub at: Duration,
    /// Commands run until then.
    pub commands: u64,
    /// Bytes received until then.
    pub received_bytes: u64,
    /// Bytes sent until then.
    pub sent_bytes: u64,
}

/// Rates per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rates {
    /// Commands a second.
    pub commands: u64,
    /// Bytes received a second.
    pub received_bytes: u64,
    /// Bytes sent a second.
    pub sent_bytes: u64,
}

/// The latest samples; their number is bounded by [`WINDOW`] over [`CLOSEST`].
#[derive(Debug, Default)]
pub(super) struct Samples(VecDeque<Sample>);

impl Samples {
    /// Keeps a sample, and those that a rate still needs.
    pub(super) fn take(&mut self, sample: Sample) {
        if self.0.back().is_some_and(|last| sample.at < last.at + CLOSEST) {
            return;
        }
        self.0.push_back(sample);
        while self.0.len() > 2 && self.0[1].at + WINDOW <= sample.at {
            self.0.pop_front();
        }
    }

    /// The rates up to the latest sample; 0 before there are two.
    pub(super) fn rates(&self) -> Rates {
        let (Some(first), Some(last)) = (self.0.front(), self.0.back()) else {
            return Rates::default();
        };
        let ms = u64::try_from((last.at - first.at).as_millis()).unwrap_or(u64::MAX);
        let rate = |from: u64, to: u64| {
            to.saturating_sub(from)
                .saturating_mul(1000)
                .checked_div(ms)
                .unwrap_or(0)
        };
        Rates {
            commands: rate(first.commands, last.commands),
            received_bytes: rate(first.received_bytes, last.received_bytes),
            sent_bytes: rate(first.sent_bytes, last.sent_bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at_ms: u64, commands: u64) -> Sample {
        Sample {
            at: Duration::from_millis(at_ms),
            commands,
            ..Sample::default()
        }
    }

    #[test]
    fn a_rate_is_that_of_the_last_moments() {
        let mut samples = Samples::default();
        assert_eq!(samples.rates().commands, 0);
        samples.take(sample(0, 0));
        assert_eq!(samples.rates().commands, 0);
        samples.take(sample(10_000, 50));
        assert_eq!(
            samples.rates().commands,
            5,
            "between two samples, however far apart"
        );
        for step in 1..=100 {
            samples.take(sample(10_000 + step * 10, 50 + step * 10));
        }
        assert!(
            samples.0.len() <= 12,
            "the closest are left out: {}",
            samples.0.len()
        );
        for step in 1..=40 {
            samples.take(sample(11_000 + step * 100, 1050 + step * 100));
        }
        assert_eq!(samples.rates().commands, 1000);
        assert!(samples.0.len() <= 18, "{}", samples.0.len());
    }
}
