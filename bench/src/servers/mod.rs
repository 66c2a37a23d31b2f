//! Servers beside each other: ours and Redis, driven by Redis's own `redis-benchmark`, so that neither the client nor its
//! clock is ours.
//!
//! ```text
//! plan      what is measured: servers × cores × commands × pipelines   (pure)
//! client    redis-benchmark's arguments, and what it prints            (pure)
//! peer      one server as a child process, and the processor time it took
//! command   runs them in turn, prints and stores the table
//! ```
//!
//! Every server of a row is measured in every round, one behind the other, so that a drift of the machine meets all. What
//! is shown is the median of the rounds. On one core the server has that core alone and the client the others; on all
//! cores the client has to share them, as it says above the table.

pub mod client;
pub mod command;
pub mod peer;
pub mod plan;
