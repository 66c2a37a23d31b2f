//! Who may call the admin plane by which name: pure.
//!
//! A page of a stranger can make a browser on this machine call us, under a name of the stranger's that resolves to our
//! address (DNS rebinding). Such a call carries that name in `Host`, and the page's place in `Origin`: both are checked.
//! An address in `Host` needs no resolving, so that no stranger can have had a hand in it; it must still be ours.

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
        let host = without_port(authority).to_ascii_lowercase();
        if let Ok(address) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
            let own = self.bind.is_unspecified() || address == self.bind;
            return own || (self.bind.is_loopback() && address.is_loopback());
        }
        host == "localhost" || self.names.contains(&host)
    }

    /// Whether a page of `origin` may call us: one that we were told of, or one of a name of ours.
    pub fn takes_origin(&self, origin: &str) -> bool {
        let origin = origin.to_ascii_lowercase();
        let ours = origin
            .split_once("://")
            .is_some_and(|(scheme, authority)| scheme.starts_with("http") && self.takes_host(authority));
        ours || self.origins.contains(&origin)
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
        let names = ["Db.Example".to_owned()];
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
            ("0.0.0.0", "10.0.0.6:7380", true),
            ("0.0.0.0", "attacker.example", false),
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
        ] {
            assert_eq!(hosts("127.0.0.1").takes_origin(origin), taken, "{origin}");
        }
    }
}
