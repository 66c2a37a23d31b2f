//! How many guesses of each peer are under way: secrets that wait to be checked or are, and wrong ones whose client waits to
//! be told.
//!
//! Without a bound one peer fills the queue of checks, and everybody else's secrets wait behind its; and delays hold up one
//! connection each, so that whoever guesses over many at once guesses on. The table has an entry only for who has guesses
//! under way, and each of those is a client that was let in or a check in the pool, of which there are bounded numbers.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::peers::network;

/// Guesses of one peer under way at once: a quarter of the pool's queue, so that one peer's flood leaves the rest to others.
/// A dozen clients of one machine that were given a wrong secret do not keep those with a right one out.
pub(super) const PLACES: usize = super::pool::QUEUED / 4;

/// Guesses of one peer that nobody has been told of yet: those, and such as were wrong by what is remembered of their user's
/// secret, which is found out without the pool. With so many, no secret of that peer is looked at, remembered or not: else
/// whoever guesses over a thousand connections guesses a thousand times in the time of one delay. Room for those that honest
/// clients of one machine send at once.
pub(super) const UNTOLD: usize = 4 * PLACES;

/// The places of all peers.
#[derive(Debug, Default)]
pub(super) struct Places(Mutex<HashMap<IpAddr, usize>>);

/// A guess that is under way until all who hold this have dropped it.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    peer: IpAddr,
}

impl Places {
    /// Whether `peer` has so many guesses that nothing of it is looked at.
    pub(super) fn are_full(&self, peer: IpAddr) -> bool {
        let taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        taken.get(&network(peer)).is_some_and(|&count| count >= UNTOLD)
    }

    /// A place for a guess of `peer`; `None` where it has `most` or more.
    pub(super) fn take(self: &Arc<Self>, peer: IpAddr, most: usize) -> Option<Arc<Place>> {
        let peer = network(peer);
        // A panic while it was held leaves whole counts; so below.
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(peer).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        let places = Arc::clone(self);
        Some(Arc::new(Place { places, peer }))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_has_so_many_places_and_what_it_gives_back_leaves_nothing_behind() {
        let places = Arc::new(Places::default());
        let take = |peer: &str| places.take(peer.parse().unwrap(), PLACES);
        let mut held: Vec<_> = (0..PLACES).map(|_| take("2001:db8::1").unwrap()).collect();
        assert!(take("2001:db8::2").is_none(), "one network is one peer");
        let other = take("10.0.0.1").expect("another one's are its own");
        let shared = held.pop().map(|place| (Arc::clone(&place), place));
        drop(shared);
        held.push(take("2001:db8::1").expect("one was given back"));
        drop((held, other));
        assert!(places.0.lock().unwrap().is_empty());
    }
}
