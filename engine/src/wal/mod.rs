//! The write-ahead log of one shard: segments of frames, written by one task, replayed at open.
//!
//! - [`segment`]: a file of fixed size, filled with zeros once and then only overwritten, so that a group is one FUA
//!   write and no journal commit. Its header names it and salts its frames.
//! - [`payload`]: what frames carry: batches, and the seal that leads from one segment to the next.
//! - [`writer`]: one aligned device write per group, and the switch to the next segment.
//! - [`replay`]: reads the chain from the manifest's floor to its end, and tells a torn tail from damage.
//!
//! ```text
//! 00000007.wal  | header | group | group | group | ... | seal: next is 8, salt S8 |
//! 00000008.wal  | header (salt S8) | group | ...| tail: zeros, old bytes, or a torn group
//! 00000009.wal  | header (salt S9) | a spare, prepared ahead; no seal names it, so it holds nothing
//! ```
//!
//! A segment is part of the log only if it is the one the manifest's floor names, or if the seal before it names its
//! number and salt. Segment N+1 is wholly prepared, its header and its name durable, before the seal of N is written,
//! and the seal is durable before anything in N+1 is acknowledged (R4). Models: SQLite's WAL (salts, validity rule),
//! LevelDB's `db/log_format.h` (first, middle, last).

pub mod payload;
pub mod replay;
pub mod segment;
pub mod writer;

#[cfg(test)]
mod tests;

pub use replay::{Recovered, TailState, recover};
pub use segment::{Owner, Prepared, prepare, reopen};
pub use writer::Writer;
