//! What the server remembers of one client between its commands.

use std::sync::Arc;

use crate::auth::{Auth, User};
use crate::clients::Client;
use crate::resp::Protocol;
use crate::transaction::{Transaction, Watched, Work};

/// One client's state.
#[derive(Debug, Clone)]
pub struct Session {
    /// Its number, never used again while the process lives.
    pub id: u64,
    /// What it speaks.
    pub protocol: Protocol,
    /// Who it is.
    pub user: Arc<User>,
    /// Whether it has said so, where it must.
    pub authenticated: bool,
    /// Whether it came to the port of its core alone, where keys of the others are answered with `MOVED`.
    pub own_core: bool,
    /// What everybody may know of it, its names among it.
    pub client: Arc<Client>,
    /// What it has said since `MULTI`; `None` outside of a transaction.
    pub transaction: Option<Transaction>,
    /// The keys that it watches.
    pub watched: Watched,
}

impl Session {
    /// A client that has just connected.
    pub fn new(client: Arc<Client>, auth: &Auth) -> Self {
        client.set_authenticated(auth.is_open());
        Self {
            id: client.id,
            protocol: Protocol::default(),
            user: Arc::clone(auth.anybody()),
            authenticated: auth.is_open(),
            own_core: client.own_core,
            client,
            transaction: None,
            watched: Watched::default(),
        }
    }

    /// Makes it as new at this moment of the process's clock: `RESET`.
    pub fn reset(&mut self, auth: &Auth, now_ms: u64) {
        self.speak(Protocol::default());
        self.identify(Arc::clone(auth.anybody()));
        self.authenticated = auth.is_open();
        if !self.authenticated {
            self.client.forget_who(now_ms);
        }
        self.forget_transaction();
        self.client.names().name = Vec::new();
        self.client.set_no_evict(false);
        self.client.set_no_touch(false);
        self.client.set_queued(None);
    }

    /// It has proved to be this user.
    pub fn identify(&mut self, user: Arc<User>) {
        self.client.names().user.clone_from(&user.name);
        self.user = user;
        self.authenticated = true;
        self.client.set_authenticated(true);
    }

    /// Speaks another protocol from here on.
    pub fn speak(&mut self, protocol: Protocol) {
        self.protocol = protocol;
        self.client.set_protocol(protocol);
    }

    /// Leaves a transaction, and what was watched for it.
    pub fn forget_transaction(&mut self) {
        self.transaction = None;
        self.watched = Watched::default();
    }

    /// Leaves a transaction to run it.
    pub fn take_work(&mut self) -> Work {
        let transaction = self.transaction.take().unwrap_or_default();
        Work::new(transaction, std::mem::take(&mut self.watched))
    }

    /// Bytes of memory that its transaction and what it watches take.
    pub fn held_bytes(&self) -> usize {
        let queued = self.transaction.as_ref().map_or(0, Transaction::held_bytes);
        queued + self.watched.held_bytes()
    }
}
