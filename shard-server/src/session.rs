//! What the server remembers of one client between its commands.

use std::sync::Arc;

use crate::clients::Client;
use crate::resp::Protocol;

/// One client's state.
#[derive(Debug, Clone)]
pub struct Session {
    /// Its number, never used again while the process lives.
    pub id: u64,
    /// What it speaks.
    pub protocol: Protocol,
    /// What everybody may know of it, its names among it.
    pub client: Arc<Client>,
}

impl Session {
    /// A client that has just connected.
    pub fn new(client: Arc<Client>) -> Self {
        Self {
            id: client.id,
            protocol: Protocol::default(),
            client,
        }
    }

    /// Makes it as new: `RESET`.
    pub fn reset(&mut self) {
        self.speak(Protocol::default());
        self.client.names().name = Vec::new();
        self.client.set_no_evict(false);
        self.client.set_no_touch(false);
        self.client.set_queued(None);
    }

    /// Speaks another protocol from here on.
    pub fn speak(&mut self, protocol: Protocol) {
        self.protocol = protocol;
        self.client.set_protocol(protocol);
    }
}
