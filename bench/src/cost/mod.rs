//! What a run costs beside time, by the kernel's own counts, so that no engine is asked about itself.
//!
//! - [`proc`]: processor time, memory and bytes of a process, this one or a server beside it.
//! - [`disk`]: what the device under a directory did, whoever asked for it.
//! - [`space`]: what a directory occupies.
//! - [`cgroup`]: puts this process under a memory limit, page cache included.

pub mod cgroup;
pub mod clock;
pub mod disk;
pub mod proc;
pub mod space;

pub use cgroup::MemoryLimit;
pub use disk::DiskUsage;
pub use proc::Usage;
pub use space::occupied_bytes;
