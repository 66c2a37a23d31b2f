//! Bounds on what clients may make the server hold or do. Each is there because somebody else pays without it.

use serde::{Deserialize, Serialize};

/// Bounds on one client and on all of them. Bytes are bytes, `_ms` milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Most clients at once; more are told so and turned away.
    pub clients: usize,
    /// A client that sends nothing for so long is disconnected; 0 for never.
    pub idle_ms: u64,
    /// Before it has said who it is, where it must: arguments of one command.
    pub unknown_arguments: usize,
    /// … bytes of one argument.
    pub unknown_argument_bytes: usize,
    /// … bytes it may send in all.
    pub unknown_input_bytes: u64,
    /// … bytes of answers that may wait for it.
    pub unknown_output_bytes: usize,
    /// … and how long it may take.
    pub unknown_ms: u64,
    /// Arguments of one command, for commands that do not take many keys.
    pub arguments: usize,
    /// Arguments of one command that takes many keys.
    pub arguments_of_keys: usize,
    /// Bytes of one whole command.
    pub command_bytes: usize,
    /// Answers that wait for a client beyond this, those being sent aside, end it once it has read nothing for a second.
    pub output_hard_bytes: usize,
    /// Answers that wait for a client beyond this for [`Limits::output_soft_ms`] end it.
    pub output_soft_bytes: usize,
    /// How long they may.
    pub output_soft_ms: u64,
    /// A send that moves nothing for so long ends its client, however little waits.
    pub output_stalled_ms: u64,
    /// Bytes held for all clients together; beyond it the one that holds most is disconnected.
    pub clients_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            clients: 1000,
            idle_ms: 0,
            unknown_arguments: 10,
            unknown_argument_bytes: 16 << 10,
            unknown_input_bytes: 1 << 20,
            unknown_output_bytes: 64 << 10,
            unknown_ms: 10_000,
            arguments: 1024,
            arguments_of_keys: 65_536,
            command_bytes: 128 << 20,
            output_hard_bytes: 32 << 20,
            output_soft_bytes: 8 << 20,
            output_soft_ms: 60_000,
            output_stalled_ms: 60_000,
            clients_bytes: 1 << 30,
        }
    }
}
