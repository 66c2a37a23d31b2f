//! How fast a core takes new connections of a listener while those that come are of no use to anybody. Pure.
//!
//! A connection that is not served a command is **futile**: it is refused, does not say who it is, does not shake hands, or just
//! goes. One costs the core tens of µs, most of it in the kernel, and nothing that the server does later makes that less; a
//! client that connects anew for each of them takes half of the core from those inside. What helps is not to take them: they
//! wait in the kernel's queue, which is bounded, and the kernel tells those beyond to come again.
//!
//! Each connection adds [`COST`] to what this core is **owed** when it is taken, and gives it back when it is served its first
//! command; time pays off the rest. So nobody has to wait for its end to know that it was futile, which comes late where many
//! are kept open or where a wrong password is answered after a delay. [`COST`] is what passes unnoticed for ever, and
//! [`STORM`] of it at once: clients that look whether the port is open, a pool that opens connections for later. Where more
//! than that is owed there is a storm, and the core takes [`A_TURN`] connections each [`TURN`], good ones and bad ones alike,
//! because they look alike at the door. The storm is over once no more than [`CALM`] is owed, which does not happen while more
//! of those taken are futile than pay for themselves.
//!
//! Good ones are owed for only until they are served. Where ten thousand a second come and each says its first command 30 ms
//! later, from far away or after a handshake, that is a storm now and then, in which some of them wait some ms; they are let in
//! at 4,000 a second at the least.

use std::cell::Cell;
use std::time::Duration;

/// Connections taken before other tasks get their turn: some tenths of a ms of work, which a client that is here already
/// waits for at most.
pub const A_TURN: usize = 4;

/// Between two turns in a storm. Ten thousand clients who come back in one are in within 2.5 s.
const TURN: Duration = Duration::from_millis(1);

/// Connections a second in a storm.
pub const STORM_RATE: u128 = A_TURN as u128 * 1000 / TURN.as_millis();

/// What a connection adds to what is owed until it is served: a thousand futile ones a second pay for themselves.
const COST: Duration = Duration::from_millis(1);

/// A storm begins above this: two hundred and fifty connections more than what pays for itself that were not served yet.
/// Somebody who connects as fast as he can has so many within some tens of ms; clients who come back at once and speak at once
/// do not.
const STORM: Duration = Duration::from_millis(250);

/// A storm is over from this on. Less than [`STORM`], so that one that goes on is not let in at full speed now and then.
const CALM: Duration = Duration::from_millis(125);

/// Most that is ever owed: a storm is felt so long after it at most.
const MOST_OWED: Duration = Duration::from_secs(10);

/// The pace of one listener of a core: a storm at one door does not slow another. Times are on the process's clock.
#[derive(Debug, Default)]
pub struct Pace {
    /// When nothing will be owed any more.
    paid: Cell<Duration>,
    storm: Cell<bool>,
    /// When the next turn may begin in a storm.
    next: Cell<Duration>,
}

impl Pace {
    /// A connection was taken.
    pub fn taken(&self, now: Duration) {
        let paid = self.paid.get().max(now) + COST;
        self.paid.set(paid.min(now + MOST_OWED));
    }

    /// One of those was served its first command, or is owed nothing for another reason.
    pub fn served(&self) {
        self.paid.set(self.paid.get().saturating_sub(COST));
    }

    /// Whether there was a storm when this was last asked how long to wait.
    pub fn is_storm(&self) -> bool {
        self.storm.get()
    }

    /// A turn of [`A_TURN`] connections was taken: how long to wait before the next one, 0 where nobody has to.
    pub fn pause(&self, now: Duration) -> Duration {
        let owed = self.paid.get().saturating_sub(now);
        let bound = if self.storm.get() { CALM } else { STORM };
        self.storm.set(owed > bound);
        if !self.storm.get() {
            return Duration::ZERO;
        }
        // Counted from when the last turn was due, so that the rate does not depend on how late timers are; whoever was later
        // than a whole turn does not make up for it.
        let next = (self.next.get() + TURN).max(now);
        self.next.set(next);
        next - now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Whether those who come have to wait.
    fn has_storm(pace: &Pace, now: Duration) -> bool {
        pace.pause(now);
        pace.pause(now) > Duration::ZERO
    }

    /// Connections that come without end, all of them futile or none, are taken for so long. How many were.
    fn taken(pace: &Pace, now: &mut Duration, length: Duration, futile: bool) -> usize {
        /// What a turn of connections takes at full speed: 20,000 of them a second.
        const WORK: Duration = Duration::from_micros(200);
        let end = *now + length;
        let mut taken = 0;
        while *now < end {
            for _ in 0..A_TURN {
                taken += 1;
                pace.taken(*now);
                if !futile {
                    pace.served();
                }
            }
            *now += WORK + pace.pause(*now + WORK);
        }
        taken
    }

    #[test]
    fn who_is_served_is_let_in_at_full_speed() {
        let (pace, mut now) = (Pace::default(), MS);
        assert_eq!(taken(&pace, &mut now, 1000 * MS, false), 20_000);
    }

    #[test]
    fn a_storm_is_taken_at_a_steady_rate_for_as_long_as_it_blows() {
        let (pace, mut now) = (Pace::default(), MS);
        let first = taken(&pace, &mut now, 1000 * MS, true);
        assert!((4_150..4_450).contains(&first), "{first}");
        for _ in 0..30 {
            let more = taken(&pace, &mut now, 1000 * MS, true);
            assert!((3_990..=4_010).contains(&more), "{more}");
        }
        let behind = taken(&pace, &mut now, MOST_OWED, false);
        let after = taken(&pace, &mut now, 1000 * MS, false);
        assert!(
            (36_000..60_000).contains(&behind) && after == 20_000,
            "{behind} {after}"
        );
    }

    /// Somebody looks every few ms whether the port is open; a pool opens connections for later.
    #[test]
    fn a_few_futile_ones_all_the_time_and_hundreds_at_once_pass_unnoticed() {
        let pace = Pace::default();
        for ms in 0..100_000 {
            pace.taken(ms * MS);
            assert_eq!(pace.pause(ms * MS), Duration::ZERO);
        }
        let now = 200_000 * MS;
        (0..250).for_each(|_| pace.taken(now));
        assert_eq!(pace.pause(now), Duration::ZERO);
        pace.taken(now);
        pace.pause(now);
        assert_eq!(pace.pause(now), TURN);
    }

    /// Those whose password was wrong were told so seconds later, and only then did anybody know how many had come: ten thousand
    /// a second were taken until then.
    #[test]
    fn a_storm_is_known_by_those_who_came_and_not_by_those_who_left() {
        let (pace, now) = (Pace::default(), MS);
        (0..251).for_each(|_| pace.taken(now));
        assert!(has_storm(&pace, now));
        (0..126).for_each(|_| pace.served());
        assert!(!has_storm(&pace, now), "they were good ones");
    }

    #[test]
    fn a_storm_is_not_felt_for_ever() {
        let (pace, now) = (Pace::default(), MS);
        (0..100_000).for_each(|_| pace.taken(now));
        assert!(has_storm(&pace, now) && has_storm(&pace, now + 9_000 * MS));
        assert!(!has_storm(&pace, now + MOST_OWED - CALM));
    }

    /// A late timer neither lowers the rate nor makes for a crowd.
    #[test]
    fn the_rate_counts_from_when_turns_were_due() {
        let (pace, now) = (Pace::default(), 5_000 * MS);
        (0..5_000).for_each(|_| pace.taken(now));
        pace.pause(now);
        assert_eq!((pace.pause(now), pace.pause(now)), (MS, 2 * MS));
        let late = now + 2 * MS + MS / 4;
        assert_eq!(pace.pause(late), MS * 3 / 4);
        let far_too_late = late + 100 * MS;
        assert_eq!(pace.pause(far_too_late), Duration::ZERO);
        assert_eq!(pace.pause(far_too_late), MS);
    }
}
