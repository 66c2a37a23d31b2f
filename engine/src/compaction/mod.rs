//! Compaction: choosing, running and pacing merges of tables.
//!
//! - [`pick`]: what to compact next, decided from table metadata alone.
//! - [`pace`]: how much of the core flush and compaction get, from how far behind they are.
//! - [`stall`]: how much writers are slowed, from the same, with the reason in words.

pub mod pace;
pub mod pick;
pub mod stall;
