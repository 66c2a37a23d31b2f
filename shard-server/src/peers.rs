//! Whom an address is counted under, where peers are counted in a table of bounded length: pure.

use std::net::{IpAddr, Ipv6Addr};

/// Under which the peers that find no place in the table are counted together.
pub const EVERYBODY_ELSE: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

/// Whom an address is counted under: itself, or in IPv6 its network of 64 bits, within which one peer may choose
/// addresses as it likes. This machine's own is no network's: the one it is in is that of [`EVERYBODY_ELSE`].
pub fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) if !address.is_loopback() => {
            Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into()
        }
        itself => itself,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_not_everybody_else() {
        let own = "::1".parse().unwrap();
        assert_eq!(network(own), own);
        assert_ne!(network(own), EVERYBODY_ELSE);
    }

    #[test]
    fn one_network_of_ipv6_is_one_peer() {
        assert_eq!(
            network("2001:db8::1".parse().unwrap()),
            network("2001:db8::2".parse().unwrap())
        );
        assert_ne!(
            network("2001:db8::1".parse().unwrap()),
            network("2001:db8:1::1".parse().unwrap())
        );
        assert_eq!(
            network("::ffff:10.0.0.1".parse().unwrap()),
            "10.0.0.1".parse::<IpAddr>().unwrap()
        );
    }
}
