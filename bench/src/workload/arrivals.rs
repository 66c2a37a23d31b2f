//! When operations of an open loop are meant to begin.
//!
//! The streams of a group share its rate evenly. Fixed starts are staggered: the streams together begin an operation
//! every 1/rate seconds, taking turns. Poisson streams are independent, so that together they are a Poisson process again
//! (superposition); what a user sees as bursts is meant. The first start is a gap after the phase's begin.

use std::time::Duration;

use crate::spec::Arrival;
use crate::workload::math::ln;
use crate::workload::rng::Rng;

/// The intended starts of one stream, counted from the phase's begin.
#[derive(Debug, Clone)]
pub struct Arrivals {
    /// Of all streams together.
    rate: f64,
    streams: u32,
    arrival: Arrival,
    rng: Rng,
    /// Fixed: the number of the next start among those of all streams. Counted, not added up in seconds, so that no
    /// rounding adds up either.
    number: u64,
    seconds: f64,
}

impl Arrivals {
    /// Of stream `stream` of `streams` that together begin `rate` operations a second.
    ///
    /// # Panics
    /// When the rate is not above 0, or there is no such stream.
    pub fn new(rate: f64, arrival: Arrival, stream: u32, streams: u32, seed: u64) -> Self {
        assert!(
            rate > 0.0 && rate.is_finite() && stream < streams,
            "a checked spec has a rate"
        );
        Self {
            rate,
            streams,
            arrival,
            rng: Rng::new(seed),
            number: u64::from(stream) + 1,
            seconds: 0.0,
        }
    }

    /// The next start.
    #[inline]
    pub fn next_start(&mut self) -> Duration {
        match self.arrival {
            Arrival::Fixed => {
                self.seconds = self.number as f64 / self.rate;
                self.number += u64::from(self.streams);
            }
            Arrival::Poisson => {
                let gap = -ln(1.0 - self.rng.unit());
                self.seconds += gap * f64::from(self.streams) / self.rate;
            }
        }
        Duration::from_secs_f64(self.seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_streams_together_begin_evenly() {
        for streams in [1, 3, 64] {
            let mut starts: Vec<Duration> = (0..streams)
                .flat_map(|stream| {
                    let mut arrivals = Arrivals::new(5000.0, Arrival::Fixed, stream, streams, 1);
                    (0..1000).map(move |_| arrivals.next_start()).collect::<Vec<_>>()
                })
                .collect();
            starts.sort_unstable();
            for (at, start) in starts.iter().enumerate() {
                let even = Duration::from_secs_f64((at + 1) as f64 / 5000.0);
                assert_eq!(*start, even, "start {at} of {streams} streams");
            }
        }
    }

    #[test]
    fn fixed_starts_do_not_drift_in_a_day() {
        let mut arrivals = Arrivals::new(3.0, Arrival::Fixed, 0, 1, 1);
        let last = (0..3 * 86_400).map(|_| arrivals.next_start()).last();
        assert_eq!(last, Some(Duration::from_secs(86_400)));
    }

    #[test]
    fn poisson_gaps_are_exponential() {
        let (rate, streams, count) = (8000.0, 4, 100_000_usize);
        let mut arrivals = Arrivals::new(rate, Arrival::Poisson, 2, streams, 11);
        let starts: Vec<f64> = (0..count).map(|_| arrivals.next_start().as_secs_f64()).collect();
        let mean = rate / f64::from(streams);
        let mut gaps: Vec<f64> = starts.windows(2).map(|pair| pair[1] - pair[0]).collect();
        gaps.push(starts[0]);
        gaps.sort_by(f64::total_cmp);
        let distance = gaps.iter().enumerate().map(|(at, gap)| {
            let theory = 1.0 - (-mean * gap).exp();
            (theory - at as f64 / count as f64)
                .abs()
                .max((theory - (at + 1) as f64 / count as f64).abs())
        });
        // Kolmogorov and Smirnov: the largest distance is above 2.2 / sqrt(n) with a chance of 2 * e^(-2 * 2.2^2), 1 in
        // 8,000. The seed is fixed, so it fails always or never.
        let distance = distance.fold(0.0, f64::max);
        assert!(distance < 2.2 / (count as f64).sqrt(), "distance {distance}");
    }

    #[test]
    fn poisson_streams_together_keep_the_rate_and_are_poisson_again() {
        let (rate, streams, seconds) = (10_000.0, 16, 20_u32);
        let mut counts = vec![0_f64; 100 * seconds as usize];
        for stream in 0..streams {
            let mut arrivals =
                Arrivals::new(rate, Arrival::Poisson, stream, streams, 1000 + u64::from(stream));
            loop {
                let bin = usize::try_from(arrivals.next_start().as_millis() / 10).unwrap();
                let Some(count) = counts.get_mut(bin) else { break };
                *count += 1.0;
            }
        }
        // 100 expected in each of 2,000 bins of 10 ms. The mean of all has a deviation of 0.22; a Poisson variance
        // equals its mean, and its estimate from 2,000 bins deviates by 100 * sqrt(2 / 2000), 3.2. Five deviations each.
        let mean = counts.iter().sum::<f64>() / counts.len() as f64;
        let variance = counts.iter().map(|count| (count - mean).powi(2)).sum::<f64>() / counts.len() as f64;
        assert!((mean - 100.0).abs() < 1.1, "mean {mean}");
        assert!((variance - 100.0).abs() < 16.0, "variance {variance}");
    }

    #[test]
    fn a_seed_is_the_same_starts_again_and_another_seed_is_not() {
        let starts = |seed| {
            let mut arrivals = Arrivals::new(100.0, Arrival::Poisson, 0, 1, seed);
            (0..100)
                .map(|_| arrivals.next_start().as_nanos())
                .collect::<Vec<_>>()
        };
        assert_eq!(starts(5), starts(5));
        assert_ne!(starts(5), starts(6));
    }
}
