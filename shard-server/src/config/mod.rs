//! What the server is told before it starts, as plain data: one struct a section of the configuration file, each with
//! its defaults.
//!
//! ```text
//! flags, environment, file ─> settings ─> layers (figment) ─> Config ─> check ─> Loaded
//!                              each against manual (keys)
//! ```
//!
//! [`layers`] makes one of defaults < file < environment < flags; [`keys`] and [`manual`] say what each key is;
//! [`check`] looks at the whole; [`show`] prints it.

use serde::{Deserialize, Serialize};

pub mod admin;
pub mod check;
pub mod cluster;
pub mod file;
pub mod flags;
pub mod keys;
pub mod layers;
pub mod limits;
pub mod log;
pub mod manual;
pub mod server;
pub mod show;
pub mod storage;
#[cfg(test)]
mod tests;
pub mod tls;
pub mod users;

pub use admin::Admin;
pub use cluster::Cluster;
pub use layers::Loaded;
pub use limits::Limits;
pub use log::Log;
pub use server::Server;
pub use storage::Storage;
pub use tls::Tls;
pub use users::{Role, User, Users};

/// Everything that can be configured.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The data plane.
    pub server: Server,
    /// The engine.
    pub storage: Storage,
    /// Bounds on clients.
    pub limits: Limits,
    /// Certificates.
    pub tls: Tls,
    /// Ports of single cores.
    pub cluster: Cluster,
    /// The HTTP plane.
    pub admin: Admin,
    /// Logs.
    pub log: Log,
    /// Who may use the server.
    pub users: Users,
}
