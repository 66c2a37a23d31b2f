//! Who may call the admin plane by which name: pure.
//!
//! A page of a stranger can make a browser that reaches us call us, in two ways:
//!
//! - Under a name of the stranger's that resolves to our address (DNS rebinding). The browser then takes our answers for the
//!   stranger's own. Such a call carries that name in `Host`: names must be ours, or configured. An address needs no
//!   resolving, so that no stranger can have had a hand in it. Where we listen on one address it must be that one; where on
//!   all (0.0.0.0, `::`), any may be ours, those that a router or a container's host translates included, which no look
//!   at our own interfaces would tell.
//! - Under our own address, from a page of another place (a forged request). The browser does not show the page our answer,
//!   but a write would have been done. Such a call carries the page's place in `Origin`: it must be configured, or a name of
//!   ours, or the very address that is called. Any address will not do here: a stranger's page can have one for a place.

use std::net::IpAddr;

/// The names under which the admin plane may be called.
#[derive(Debug, Clone)]
pub struct Hosts {
    bind: IpAddr,
    names: Vec<String>,
    origins: Vec<String>,
}

impl Hosts {
    /// Its own address, `localhost`, `names`; and pages of `origins`.
    pub fn new(bind: IpAddr, names: &[String], origins: &[String]) -> Self {
        let lower = |texts: &[String]| texts.iter().map(|text| text.to_ascii_lowercase()).collect();
        Self {
            bind,
            names: lower(names),
            origins: lower(origins),
        }
    }

    /// Whether a `Host` header (or an `:authority`) is one of ours.
    pub fn takes_host(&self, authority: &str) -> bool {
        let host = host_of(authority);
        self.is_ours(&host) || (self.bind.is_unspecified() && address_of(&host).is_some())
    }

    /// Whether a page of `origin` may make a call to `authority`, which was taken: one of a place that we were told of, of a
    /// name of ours, or of what is called.
    pub fn takes_origin(&self, origin: &str, authority: &str) -> bool {
        let origin = origin.to_ascii_lowercase();
        let place = origin
            .strip_prefix("http://")
            .or_else(|| origin.strip_prefix("https://"));
        let ours = place.map(host_of).is_some_and(|place| {
            self.is_ours(&place) || (self.takes_host(authority) && is_same(&place, &host_of(authority)))
        });
        ours || self.origins.contains(&origin)
    }

    /// Whether a host is one by which we are known, whoever calls it.
    fn is_ours(&self, host: &str) -> bool {
        let known = self.names.iter().any(|name| is_same(name, host));
        let own = match address_of(host) {
            Some(address) => {
                address == self.bind.to_canonical() || (self.bind.is_loopback() && address.is_loopback())
            }
            None => host == "localhost",
        };
        own || known
    }
}

/// The host of an authority, in lower case; the brackets of an IPv6 address stay.
fn host_of(authority: &str) -> String {
    without_port(authority).to_ascii_lowercase()
}

/// The address that a host is; `None` for names.
fn address_of(host: &str) -> Option<IpAddr> {
    let inside = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let address: IpAddr = inside.unwrap_or(host).parse().ok()?;
    Some(address.to_canonical())
}

/// Whether two hosts are the same name or the same address, however it is written.
fn is_same(one: &str, other: &str) -> bool {
    match (address_of(one), address_of(other)) {
        (Some(one), Some(other)) => one == other,
        _ => one == other,
    }
}

/// An authority without its port; the brackets of an IPv6 address stay.
fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !host.ends_with(':') => {
            // `::1` without brackets is an address and no port.
            if host.contains(':') && !host.ends_with(']') {
                authority
            } else {
                host
            }
        }
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(bind: &str) -> Hosts {
        let names = ["Db.Example", "192.0.2.7", "[2001:db8::7]"].map(str::to_owned);
        Hosts::new(bind.parse().unwrap(), &names, &["https://ops.example".to_owned()])
    }

    #[test]
    fn only_our_own_names_are_taken() {
        for (bind, host, taken) in [
            ("127.0.0.1", "127.0.0.1:7380", true),
            ("127.0.0.1", "127.0.0.1", true),
            ("127.0.0.1", "LOCALHOST:1", true),
            ("127.0.0.1", "[::1]:7380", true),
            ("127.0.0.1", "db.example:7380", true),
            ("127.0.0.1", "rebound.attacker.example:7380", false),
            ("127.0.0.1", "127.0.0.1.attacker.example", false),
            ("127.0.0.1", "10.0.0.5", false),
            ("127.0.0.1", "", false),
            ("10.0.0.5", "10.0.0.5:7380", true),
            ("10.0.0.5", "10.0.0.6:7380", false),
            ("10.0.0.5", "[::ffff:10.0.0.5]:7380", true),
            ("10.0.0.5", "192.0.2.7", true),
            ("10.0.0.5", "[2001:DB8::7]:7380", true),
            ("0.0.0.0", "10.0.0.6:7380", true),
            ("0.0.0.0", "127.0.0.1:7380", true),
            ("0.0.0.0", "[fe80::1]:7380", true),
            ("0.0.0.0", "localhost", true),
            ("0.0.0.0", "db.example", true),
            ("0.0.0.0", "attacker.example", false),
            ("0.0.0.0", "10.0.0.6.attacker.example", false),
            ("0.0.0.0", "0x0a000006", false),
            ("0.0.0.0", "10.0.0.6@attacker.example", false),
            ("0.0.0.0", "", false),
            ("::", "[2001:db8::1]:7380", true),
            ("::", "10.0.0.6", true),
            ("::", "attacker.example:7380", false),
            ("::1", "::1", true),
        ] {
            assert_eq!(hosts(bind).takes_host(host), taken, "{host} at {bind}");
        }
    }

    #[test]
    fn pages_of_strangers_are_not_taken() {
        for (origin, taken) in [
            ("http://127.0.0.1:7380", true),
            ("http://localhost:3000", true),
            ("https://ops.example", true),
            ("https://ops.example.attacker.example", false),
            ("http://attacker.example", false),
            ("null", false),
            ("file://localhost", false),
            ("httpx://localhost", false),
        ] {
            assert_eq!(
                hosts("127.0.0.1").takes_origin(origin, "127.0.0.1:7380"),
                taken,
                "{origin}"
            );
        }
    }

    /// Where the plane listened on all addresses any address was taken for the place of a page of ours: a stranger's page,
    /// called by its address, could have this server flush, compact and write.
    #[test]
    fn a_page_of_an_address_is_not_ours_unless_it_is_the_one_that_is_called() {
        for bind in ["0.0.0.0", "::"] {
            for (origin, host, taken) in [
                ("http://10.0.0.6:7380", "10.0.0.6:7380", true),
                ("https://10.0.0.6", "10.0.0.6:7380", true),
                ("http://[2001:db8:0::1]:7380", "[2001:db8::1]:7380", true),
                ("http://localhost:3000", "10.0.0.6:7380", true),
                ("http://db.example", "10.0.0.6:7380", true),
                ("http://192.0.2.7", "10.0.0.6:7380", true),
                ("https://ops.example", "10.0.0.6:7380", true),
                ("http://203.0.113.9", "10.0.0.6:7380", false),
                ("http://203.0.113.9", "localhost:7380", false),
                ("http://attacker.example", "10.0.0.6:7380", false),
                ("http://attacker.example", "attacker.example", false),
                ("http://", "", false),
            ] {
                let at = hosts(bind);
                assert_eq!(
                    at.takes_origin(origin, host),
                    taken,
                    "{origin} to {host} at {bind}"
                );
            }
        }
    }
}
