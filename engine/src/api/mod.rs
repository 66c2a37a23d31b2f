//! The public interface: open a database, use it from any thread, or run code on its cores.
//!
//! ```no_run
//! # async fn example() -> corelane::Result<()> {
//! use corelane::api::{Batch, Db, Durability};
//!
//! let db = Db::builder("data").open().await?;
//! db.put(b"key", b"value").await?;
//! assert_eq!(db.get(b"key").await?, Some(b"value".to_vec()));
//!
//! let mut batch = Batch::new();
//! batch.put(b"{user}:name", b"Ada")?.put(b"{user}:born", b"1815")?;
//! db.write(batch, Durability::Sync).await?;
//! db.close().await
//! # }
//! ```
//!
//! - [`Db`] is `Send + Sync + Clone`: any thread, any executor. [`Db::blocking`] gives blocking twins.
//! - [`Core`] is `!Send`: the view of the database from one of its own cores, given to a [`Service`].

mod builder;
mod check;
mod core;
mod create;
mod db;
mod launch;
mod ops;
mod pages;
pub mod slots;
mod start;
pub mod superblock;

pub use builder::{Builder, Options};
pub use core::{Core, Service};
pub use db::{Blocking, Db, Stats};
pub use launch::{CoreSeat, launch};

pub use crate::io::runtime::Runtime;
pub use crate::io::{ClassTime, ClassTimes, Held};
pub use crate::shard::batch::{Batch, check_key, check_value};
pub use crate::shard::histogram::Histogram;
pub use crate::shard::page::{Entries, Page};
pub use crate::shard::request::{
    Answer, Decision, Found, Look, LookFn, Op, Outcome, ScanRange, TransactFn, UpdateFn,
};
pub use crate::shard::sequence::Snapshot;
pub use crate::shard::stats::{ShardStats, StallCause};
pub use crate::sstable::Compression;
pub use crate::types::Durability;
