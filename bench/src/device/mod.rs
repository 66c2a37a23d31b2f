//! The device itself: a plain io_uring loop over preconditioned files, as close to it as a program can get.
//!
//! ```text
//! pattern   what is done, in fio's terms                 (pure)
//! course    where each operation goes                    (pure)
//! target    the preconditioned file
//! ring      io_uring and its buffers: the only unsafe code
//! cores     pinned threads, begun together
//! drive     the loop of a thread: queue, wait, record
//! profile   a grid of patterns, stored as device.json, shown as curves of latency over throughput
//! ```

pub mod command;
pub mod cores;
pub mod course;
pub mod drive;
pub mod pattern;
pub mod profile;
pub mod ring;
pub mod stop;
pub mod target;

pub use drive::{Figure, Work, run, run_together, wal_groups};
pub use pattern::{Access, Pattern, Space, Sync};
pub use profile::DeviceProfile;
pub use stop::Stop;
pub use target::Target;
