//! How long a core without work looks for more before it sleeps.
//!
//! Looking answers another thread's message in a few microseconds where waking from sleep takes tens, and costs the whole core
//! while it lasts. So it is done only while it pays: a message that came within the longest time of looking, and what a sleep
//! costs beside that, says that looking would have met it; each idle time that was longer halves the next look, down to none. A
//! core that waits for a timer ten times a second, or for nothing, soon sleeps at once; one that is asked every few
//! microseconds does not sleep at all. In the worst case, messages that come just too late each time, looking takes a quarter of
//! an idle core.
//!
//! What the kernel completes is no reason to look. A server whose requests came every few microseconds looked for them all the
//! time: that took a tenth more of the core for each, and they came no sooner (50 clients over loopback, 2 cores of an AMD EPYC,
//! Linux 6.18, 2026-11-22), because while a core goes to sleep and wakes more of them come, and go on together.
//!
//! A look that was not met is not held against the next as long as the message comes soon after it. Two cores that message each
//! other and both sleep miss each other's first looks, for each takes longer to wake than the other looks; only by looking on
//! do they come to meet.

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

    /// Work came after the core was idle for so long, looking and asleep; and whether another thread rang for it.
    pub(super) fn idled(&mut self, idle: Duration, rung: bool) {
        if rung && idle <= self.longest + SLEEP_COST {
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

    const fn us(us: u64) -> Duration {
        Duration::from_micros(us)
    }

    #[test]
    fn long_idle_times_end_the_looking_and_a_short_one_begins_it_again() {
        let mut spin = Spin::new(us(20));
        assert_eq!(spin.look(), us(20));
        let mut looked = Duration::ZERO;
        for _ in 0..1000 {
            looked += spin.look();
            spin.idled(us(100_000), true);
        }
        assert!(
            looked <= us(40),
            "a core that is idle for long looks no more: {looked:?}"
        );
        spin.idled(us(70), true);
        assert_eq!(
            spin.look(),
            us(20),
            "a message that looking would have met, but for the sleep"
        );
    }

    /// A server looked for its requests, which come from the kernel, and had a tenth more to do for each.
    #[test]
    fn what_the_kernel_completes_is_no_reason_to_look() {
        let mut spin = Spin::new(us(20));
        for _ in 0..10 {
            spin.idled(us(5), false);
        }
        assert_eq!(spin.look(), Duration::ZERO);
    }

    /// Each answer comes from a core that has to wake first, which takes longer than the other looks. A rule that asked for looks
    /// that are met never began to look again.
    #[test]
    fn two_cores_that_sleep_look_on_until_they_meet() {
        let (mut spin, wakes_in) = (Spin::new(us(20)), us(35));
        (0..10).for_each(|_| spin.idled(us(100_000), true));
        for _ in 0..10 {
            spin.idled(2 * wakes_in, true);
            assert_eq!(spin.look(), us(20));
        }
    }

    #[test]
    fn without_a_longest_there_is_no_looking() {
        let mut spin = Spin::new(Duration::ZERO);
        spin.idled(Duration::ZERO, true);
        assert_eq!(spin.look(), Duration::ZERO);
    }
}
