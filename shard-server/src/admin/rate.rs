//! How often one peer may call, by `governor` (the generic cell rate algorithm): a bounded table of peers.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use crate::peers::{EVERYBODY_ELSE, network};

/// Peers that are remembered: some hundred bytes each. Beyond them those that were quiet long enough to be forgotten go;
/// if none was, all further peers share one allowance.
const MAX_PEERS: usize = 10_000;

/// The limiter; it lets everybody pass where there is no limit.
#[derive(Debug)]
pub struct Rate {
    limiter: Option<DefaultKeyedRateLimiter<IpAddr>>,
    clock: DefaultClock,
    peers: usize,
}

impl Rate {
    /// At most `per_s` requests a second of a peer in the long run (0 for no limit), and `burst` at once.
    pub fn new(per_s: u32, burst: u32) -> Self {
        let quota = NonZeroU32::new(per_s).map(|per_s| {
            Quota::per_second(per_s).allow_burst(NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN))
        });
        Self {
            limiter: quota.map(RateLimiter::keyed),
            clock: DefaultClock::default(),
            peers: MAX_PEERS,
        }
    }

    /// Whether a request of `peer` may pass.
    ///
    /// # Errors
    /// How long the peer must wait.
    pub fn check(&self, peer: IpAddr) -> Result<(), Duration> {
        let Some(limiter) = &self.limiter else {
            return Ok(());
        };
        if limiter.len() >= self.peers {
            limiter.retain_recent();
        }
        let peer = if limiter.len() >= self.peers {
            EVERYBODY_ELSE
        } else {
            network(peer)
        };
        limiter
            .check_key(&peer)
            .map_err(|early| early.wait_time_from(self.clock.now()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(n: u32) -> IpAddr {
        std::net::Ipv4Addr::from(n).into()
    }

    #[test]
    fn a_peer_over_its_burst_waits_and_others_do_not() {
        let rate = Rate::new(1, 2);
        assert!(rate.check(peer(1)).is_ok() && rate.check(peer(1)).is_ok());
        let wait = rate.check(peer(1)).unwrap_err();
        assert!(
            wait > Duration::ZERO && wait <= Duration::from_secs(1),
            "{wait:?}"
        );
        assert!(rate.check(peer(2)).is_ok());
        let free = Rate::new(0, 1);
        assert!((0..100).all(|_| free.check(peer(1)).is_ok()));
    }

    #[test]
    fn the_table_is_bounded_and_those_without_a_place_share_one() {
        let rate = Rate {
            peers: 3,
            ..Rate::new(1, 1)
        };
        assert!((1..=3).all(|n| rate.check(peer(n)).is_ok()));
        assert!(rate.check(peer(4)).is_ok(), "the first of the others");
        assert!(rate.check(peer(5)).is_err(), "the second shares with it");
        assert!(rate.limiter.as_ref().unwrap().len() <= 4);
    }
}
