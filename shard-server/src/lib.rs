//! The Redis-protocol server over the `corelane` engine.
//!
//! ```text
//! serve        opens the database, waits for a signal, drains, closes
//!  └─ service      one core: its listeners, its connections, their end
//!      ├─ tls          certificates, and streams that wear them
//!      ├─ cluster      which core has which slots, for clients that send each key where it lives
//!      ├─ auth         who clients are, and what they may do
//!      ├─ clients      who is connected, which limits they keep, who is sent away
//!      └─ connection   one client: receive, run what is there, send once
//!          └─ pipeline     many commands as one batch to the engine, answers in order
//!              ├─ command      what each command asks of the store, or does to its keys: pure
//!              ├─ transaction  what runs as one step on the core that owns its keys: pure
//!              ├─ query        what needs more than one round to the store: scans, counts, INFO
//!              ├─ resp         bytes to arguments, answers to bytes: pure
//!              └─ store        what the engine is asked for, so that tests can answer in memory
//! ```
//!
//! Each connection lives on the core that accepted it. A command for a key of another core travels there together with
//! its neighbours, one message per core and pipeline; a key of this core that memory holds is answered in place.

pub mod accept;
pub mod admin;
pub mod allocator;
pub mod auth;
pub mod clients;
pub mod cluster;
pub mod command;
pub mod config;
pub mod connection;
pub mod console;
pub mod cursors;
pub mod descriptors;
pub mod docs;
pub mod doctor;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod glob;
pub mod info;
pub mod log;
pub mod options;
pub mod output;
pub mod pace;
pub mod panics;
pub mod peers;
pub mod pipeline;
pub mod query;
pub mod remote;
pub mod resp;
pub mod secret;
pub mod serve;
pub mod server;
pub mod service;
pub mod session;
pub mod store;
pub mod telemetry;
#[cfg(any(test, feature = "fuzzing"))]
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "fuzzing needs a part of what tests do")
)]
mod testing;
#[cfg(test)]
mod tests;
pub mod tls;
pub mod tools;
pub mod transaction;
pub mod watch;
pub mod watchdog;
