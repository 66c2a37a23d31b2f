//! Compaction: choosing, running and pacing merges of tables.
//!
//! - [`pick`]: what to compact next, decided from table metadata alone.
//! - [`run`] and [`job`]: reading tables and writing a merged stream out as tables, in slices.
//! - [`pace`]: how much of the core flush and compaction get, from how far behind they are.
//! - [`stall`]: how much writers are slowed, from the same, with the reason in words.

pub mod job;
pub mod pace;
pub mod pick;
pub mod run;
pub mod stall;
