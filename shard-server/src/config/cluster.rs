//! `[cluster]`: one port a core, by the Redis Cluster protocol.

use serde::{Deserialize, Serialize};

/// Ports of single cores, for clients that know which slot is where.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cluster {
    /// Whether each core listens on a port of its own, too.
    pub enabled: bool,
    /// The first core's port, the others' follow; 0 for the one behind `server.port`.
    pub first_port: u16,
    /// The host that clients are told to connect to; the bind address where it is not set.
    pub announce_host: Option<String>,
}
