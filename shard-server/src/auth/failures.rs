//! How often each peer was lately wrong about who it is, on either plane: a bounded table, pure but for what it keeps.
//!
//! A connection says little: whoever guesses opens another. So failures are counted by address. A success forgets nothing,
//! or somebody with one account would guess the others' secrets at leisure; only time does.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::peers::{EVERYBODY_ELSE, network};

/// Peers that are remembered, some fifty bytes each. Beyond them those that were quiet for long go; if none was, all
/// further peers share one count.
const MAX_PEERS: usize = 10_000;

/// A peer that was not wrong for so long begins anew.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(600);

#[derive(Debug, Clone, Copy)]
struct Count {
    failures: u32,
    latest: Duration,
}

impl Count {
    fn is_recent(&self, now: Duration) -> bool {
        now.saturating_sub(self.latest) < FORGOTTEN_AFTER
    }
}

/// The table.
#[derive(Debug)]
pub struct Failures {
    counts: Mutex<HashMap<IpAddr, Count>>,
    peers: usize,
}

impl Default for Failures {
    fn default() -> Self {
        Self {
            counts: Mutex::default(),
            peers: MAX_PEERS,
        }
    }
}

impl Failures {
    /// Notes a failure of `peer` at `now` of a clock that only goes forward; how many there were, this one included.
    pub fn note(&self, peer: IpAddr, now: Duration) -> u32 {
        // A panic while it was held leaves whole counts.
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let mut peer = network(peer);
        if !counts.contains_key(&peer) && counts.len() >= self.peers {
            counts.retain(|_, count| count.is_recent(now));
            if counts.len() >= self.peers {
                peer = EVERYBODY_ELSE;
            }
        }
        let before = counts.get(&peer).copied().filter(|count| count.is_recent(now));
        let failures = before.map_or(0, |count| count.failures).saturating_add(1);
        counts.insert(
            peer,
            Count {
                failures,
                latest: now,
            },
        );
        failures
    }

    /// How many failures of `peer` there were lately.
    pub fn of(&self, peer: IpAddr, now: Duration) -> u32 {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let own = counts.get(&network(peer));
        let count = own.or_else(|| counts.get(&EVERYBODY_ELSE).filter(|_| counts.len() >= self.peers));
        count
            .filter(|count| count.is_recent(now))
            .map_or(0, |count| count.failures)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(n: u32) -> IpAddr {
        std::net::Ipv4Addr::from(n).into()
    }

    #[test]
    fn failures_of_a_peer_add_up_until_it_was_quiet_for_long() {
        let failures = Failures::default();
        let at = Duration::from_secs;
        assert_eq!((1..=3).map(|s| failures.note(peer(1), at(s))).last(), Some(3));
        assert_eq!(failures.note(peer(2), at(3)), 1, "another one's are its own");
        let quiet = at(3) + FORGOTTEN_AFTER;
        assert_eq!(failures.note(peer(1), quiet - at(1)), 4);
        assert_eq!((failures.of(peer(1), quiet), failures.of(peer(2), quiet)), (4, 0));
        assert_eq!(failures.note(peer(2), quiet), 1);
    }

    #[test]
    fn the_table_is_bounded_and_those_without_a_place_share_one() {
        let failures = Failures {
            peers: 3,
            ..Failures::default()
        };
        let note = |n, now| failures.note(peer(n), now);
        assert!((1..=3).all(|n| note(n, Duration::ZERO) == 1));
        assert_eq!((note(4, Duration::ZERO), note(5, Duration::ZERO)), (1, 2));
        assert_eq!(failures.of(peer(6), Duration::ZERO), 2);
        assert_eq!(note(1, Duration::ZERO), 2, "who has a place keeps it");
        assert!(failures.counts.lock().unwrap().len() <= 4);
        assert_eq!(note(6, FORGOTTEN_AFTER), 1, "the quiet ones have made room");
        assert_eq!(failures.counts.lock().unwrap().len(), 1);
    }
}
