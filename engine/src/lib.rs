//! Corelane: an embeddable key-value storage engine for Linux and NVMe.
//!
//! One shard per core, nothing shared: a key belongs to one shard, a shard to one pinned executor, and every byte of
//! that shard's memtable, WAL, SSTables and cache is touched by that core alone. A write is durable after one
//! group-committed device write; compaction runs in the gaps of the same core's scheduler.
//!
//! The modules, from the top down (a module may name those below it, never above; `tests/architecture.rs` checks):
//!
//! ```text
//! api          open, handle, batch, scan                     Send, any thread
//!  └─ shard    one core's state: write, read, flush, recover !Send
//!      ├─ memtable  wal  sstable  version  compaction  cache
//!      │    └─ merge (pure k-way merge)   └─ codec, types (pure)
//!      └─ io       the one seam to the machine: two runtimes, and a simulator
//! ```
//!
//! `ARCHITECTURE.md` walks a write and a read through these; `FORMATS.md` draws every byte on disk.

pub mod api;
pub mod cache;
pub mod codec;
pub mod compaction;
pub mod error;
pub mod io;
pub mod memtable;
pub mod merge;
pub mod shard;
pub mod sstable;
pub mod types;
pub mod version;
pub mod wal;

pub use error::{Error, ErrorKind, Result};
