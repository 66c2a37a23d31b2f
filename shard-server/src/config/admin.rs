//! `[admin]`: the HTTP plane: REST, metrics, health.

use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

/// The admin plane's port where none is set.
pub const DEFAULT_PORT: u16 = 7380;

/// Where the HTTP plane listens, and what its clients may cost. Bytes are bytes, `_ms` milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    /// Whether it is there at all.
    pub enabled: bool,
    /// The address.
    pub bind: IpAddr,
    /// The port; 0 lets the kernel choose. Where it is not set: [`DEFAULT_PORT`], or, where somebody else has that, none at
    /// all and a warning: a second server on a machine shall not fail over a port that nobody asked for.
    pub port: Option<u16>,
    /// Whether it speaks TLS, with the certificate of `[tls]`.
    pub tls: bool,
    /// Names by which clients may call it, besides its address and `localhost`.
    pub hosts: Vec<String>,
    /// Origins whose pages may call it from a browser; none where empty.
    pub cors_origins: Vec<String>,
    /// Longest body of a request.
    pub body_bytes: usize,
    /// How long a request may take, its body's arrival included.
    pub request_ms: u64,
    /// Most requests that are answered at once; more wait their turn.
    pub requests: usize,
    /// Requests a second that one peer address may make in the long run; 0 for as many as it likes.
    pub rate_per_s: u32,
    /// Requests that it may make at once.
    pub rate_burst: u32,
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            enabled: true,
            bind: Ipv4Addr::LOCALHOST.into(),
            port: None,
            tls: false,
            hosts: Vec::new(),
            cors_origins: Vec::new(),
            body_bytes: 8 << 20,
            request_ms: 30_000,
            requests: 64,
            rate_per_s: 1000,
            rate_burst: 2000,
        }
    }
}
