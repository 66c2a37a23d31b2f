//! All clients of the process, for whoever asks about them from any core: `CLIENT LIST`, `CLIENT KILL`, the one limit
//! on the memory of all.
//!
//! ```text
//! facts     what one client tells of itself, in atomics that its own core writes
//! registry  all of them; locked when one comes, goes, is listed or killed, never for a command
//! of_core   the clients of one core, their sockets, and the sweep that ends those who are to go
//! verdict   which limit a client breaks: pure
//! filter    whom `CLIENT KILL` and `CLIENT LIST` mean: pure
//! line      one client as a line of text: pure
//! ```
//!
//! Nobody touches a socket of another core. Who wants a client gone **dooms** it and rings its core; the sweep of that
//! core, at most [`of_core::SWEEP_EVERY`] later, shuts the socket, and the connection's own task ends by itself.

pub mod facts;
pub mod filter;
pub mod line;
pub mod of_core;
pub mod registry;
pub mod verdict;

pub use facts::Client;
pub use of_core::Clients;
pub use registry::{Arrival, Registry};
pub use verdict::Reason;
