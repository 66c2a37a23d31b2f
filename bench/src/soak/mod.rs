//! A server under load from clients of every sort for a long time, and at its end a count of what it still holds.
//!
//! ```text
//! act       what a rude client does next                                       (pure)
//! rude      clients that cut, hang up, do not read, send a byte at a time, are killed
//! model     what a polite client asks, and what must be answered                (pure)
//! polite    clients that check every answer, and read back what was acknowledged
//! counts    what the server and the kernel say that it holds; what of it leaked
//! command   start, load, quiet, verdict
//! ```
//!
//! Nothing is measured here: clients and the server share the cores. What is asked is whether anything is left when all
//! clients have gone. Each core of the server counts its tasks, timers, operations under way, files, sockets and buffers
//! (`INFO corelane`), and the kernel counts the process's descriptors and memory. Both are read over one connection that
//! stays, before the load and after it, when the server has had time to end what it had begun. Whatever is more than before,
//! and is not a file of the database, has leaked. So does a count lie that disagrees with the kernel's.

pub mod act;
pub mod command;
pub mod counts;
pub mod model;
pub mod polite;
pub mod rude;
