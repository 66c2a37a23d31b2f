//! The Redis-protocol server over the `corelane` engine: the wire and what needs no store.

pub mod cursors;
pub mod glob;
pub mod output;
pub mod resp;
pub mod session;
