//! Versions: which tables make up a shard, and the manifest that says so durably.
//!
//! - [`TableMeta`] describes one SSTable; it is immutable and shared by `Rc`.
//! - [`Version`] is an immutable picture of all levels. Applying a [`VersionEdit`] makes the next one and checks every
//!   rule a reader relies on; a `Version` that exists is therefore sound.
//! - [`State`] is a `Version` with the counters recorded beside it: where WAL replay starts, the next file number, the
//!   last sequence. It is what a manifest holds.
//! - [`manifest`] keeps a `State` on disk as a log of edits; [`manifest_format`] is that log's pure half.
//!
//! The model is LevelDB's `db/version_set` and `db/version_edit`, without its mutable builder: a shard has thousands of
//! tables at most, so the next version is simply built anew.

pub mod edit;
pub mod levels;
pub mod manifest;
pub mod manifest_format;
pub mod state;
pub mod table;

pub use edit::{VersionEdit, WalFloor};
pub use levels::{LEVELS, Version};
pub use manifest::{Manifest, ManifestOptions, Owner};
pub use state::State;
pub use table::TableMeta;
