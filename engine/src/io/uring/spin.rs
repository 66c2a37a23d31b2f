//! How long a core without work looks for more before it sleeps.
//!
//! Looking answers a message in a few microseconds where waking from sleep takes tens, and costs the whole core while it
//! lasts. So it is done only while it pays: work that came within the longest time of looking, and what a sleep costs beside
//! that, says that looking would have met it; each idle time that was longer halves the next look, down to none. A core that
//! waits for a timer ten times a second, or for nothing, soon sleeps at once; one that is asked every few microseconds does
//! not sleep at all. In the worst case, work that comes just too late each time, looking takes a quarter of an idle core.

use std::time::Duration;

/// Looks shorter than this meet nothing that a sleep would not: the next one is none at all.
const SHORTEST: Duration = Duration::from_micros(2);

/// What going to sleep and waking takes here: an idle time seen by one that slept is longer by so much than the work took
/// to come.
const SLEEP_COST: Duration = Duration::from_micros(60);

/// The next look of one core.
#[derive(Debug)]
pub(super) struct Spin {
    longest: Duration,
    next: Duration,
}

impl Spin {
    /// Looks of up to `longest`; zero never looks.
    pub(super) fn new(longest: Duration) -> Self {
        Self {
            longest,
            next: longest,
        }
    }

    /// How long to look before the next sleep.
    pub(super) fn look(&self) -> Duration {
        self.next
    }

    /// Work came after the core was idle for so long, looking and asleep.
    pub(super) fn idled(&mut self, idle: Duration) {
        if idle <= self.longest + SLEEP_COST {
            self.next = self.longest;
            return;
        }
        self.next /= 2;
        if self.next < SHORTEST {
            self.next = Duration::ZERO;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_idle_times_end_the_looking_and_a_short_one_begins_it_again() {
        let us = Duration::from_micros;
        let mut spin = Spin::new(us(20));
        assert_eq!(spin.look(), us(20));
        let mut looked = Duration::ZERO;
        for _ in 0..1000 {
            looked += spin.look();
            spin.idled(us(100_000));
        }
        assert!(
            looked <= us(40),
            "a core that is idle for long looks no more: {looked:?}"
        );
        spin.idled(us(70));
        assert_eq!(
            spin.look(),
            us(20),
            "work that looking would have met, but for the sleep"
        );
    }

    #[test]
    fn without_a_longest_there_is_no_looking() {
        let mut spin = Spin::new(Duration::ZERO);
        spin.idled(Duration::ZERO);
        assert_eq!(spin.look(), Duration::ZERO);
    }
}
