//! The flags by which a tool is told whom to talk to, and as whom.

use std::time::Duration;

use clap::Args;

use super::Target;
use crate::secret;

/// The flags, as typed: those of `redis-cli`. A command that takes them has `-h` for the host, and so no short flag for
/// its help.
#[derive(Debug, Args)]
pub struct ConnectFlags {
    /// Machine of the server.
    #[arg(short = 'h', long, value_name = "HOST", default_value = "127.0.0.1")]
    host: String,
    /// Port of the server.
    #[arg(short = 'p', long, default_value_t = 7379)]
    port: u16,
    /// User to log in as.
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Secret to log in with. Others on this machine can read it here: put it into the environment as REDISCLI_AUTH, or
    /// let --askpass ask for it.
    #[arg(short = 'a', long, value_name = "SECRET", alias = "pass")]
    secret: Option<String>,
    /// Ask for the secret at the terminal.
    #[arg(long, conflicts_with = "secret")]
    askpass: bool,
}

impl ConnectFlags {
    /// Whom they name; asks for the secret where they say so.
    ///
    /// # Errors
    /// The secret cannot be read.
    pub fn target(&self, resp3: Option<bool>, patience: Option<Duration>) -> Result<Target, String> {
        let secret = match &self.secret {
            Some(secret) => Some(secret.clone()),
            None if self.askpass => Some(secret::read("Secret: ")?),
            None => std::env::var("REDISCLI_AUTH")
                .ok()
                .filter(|secret| !secret.is_empty()),
        };
        Ok(Target {
            host: self.host.clone(),
            port: self.port,
            user: self.user.clone(),
            secret,
            resp3,
            patience,
        })
    }
}
