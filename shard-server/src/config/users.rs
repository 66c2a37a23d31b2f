//! `[[users]]`: who may use the server, and for what. Without any user everybody on this machine may do everything.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a user may do; each role may do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Look at keys.
    Read,
    /// Change them.
    Write,
    /// Change the server.
    Admin,
}

/// One user.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// The name.
    pub name: String,
    /// What the user may do.
    pub role: Role,
    /// The secret as an argon2id PHC string, as `corelane user hash` prints it.
    pub secret_hash: String,
}

impl fmt::Debug for User {
    /// Without the hash: whoever reads logs shall not begin to guess.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User")
            .field("name", &self.name)
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}

/// All users.
pub type Users = Vec<User>;
