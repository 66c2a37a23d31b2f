//! What the server remembers of one client between its commands.

use crate::resp::Protocol;

/// One client's state.
#[derive(Debug, Clone, Default)]
pub struct Session {
    /// Its number, never used again while the process lives.
    pub id: u64,
    /// What it speaks.
    pub protocol: Protocol,
    /// The name it gave itself; empty where it gave none.
    pub name: Vec<u8>,
    /// The name of its client library.
    pub library_name: Vec<u8>,
    /// The version of its client library.
    pub library_version: Vec<u8>,
}

impl Session {
    /// A client that has just connected.
    pub fn new(id: u64) -> Self {
        Self {
            id,
            ..Self::default()
        }
    }
}
