//! `[tls]`: certificates, and the port on which Redis clients speak TLS.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Certificates of both planes; read again at SIGHUP.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// The port for Redis clients over TLS; 0 for none.
    pub port: u16,
    /// Whether that port is there instead of the one in clear text; ports of single cores then speak TLS, too.
    pub only: bool,
    /// The certificate and its chain, PEM.
    pub cert: Option<PathBuf>,
    /// Its private key, PEM.
    pub key: Option<PathBuf>,
    /// Who must have signed the certificates of clients, PEM; clients need none where it is not set.
    pub client_ca: Option<PathBuf>,
}
