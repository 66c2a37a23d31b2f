//! `[storage]`: where the data is and how the engine keeps it.

use std::path::PathBuf;

use corelane::api;
use serde::{Deserialize, Serialize};

/// When a write is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// Once it is on stable storage.
    #[default]
    Sync,
    /// Once it is staged for it.
    Buffered,
    /// At once; it is not logged at all.
    None,
}

impl From<Durability> for api::Durability {
    fn from(durability: Durability) -> Self {
        match durability {
            Durability::Sync => Self::Sync,
            Durability::Buffered => Self::Buffered,
            Durability::None => Self::None,
        }
    }
}

/// The engine's place and sizes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Storage {
    /// Directory of the data; created if it is not there.
    pub data_dir: PathBuf,
    /// Number of shards, fixed when the data is created; one a core where it is not set.
    pub shards: Option<u16>,
    /// When writes are acknowledged.
    pub durability: Durability,
    /// Block cache in MiB, over all shards.
    pub cache_mib: u32,
    /// Size in MiB at which a shard's memtable is written out as a table.
    pub memtable_mib: u32,
}

impl Default for Storage {
    fn default() -> Self {
        Self {
            data_dir: "./corelane-data".into(),
            shards: None,
            durability: Durability::default(),
            cache_mib: 256,
            memtable_mib: 64,
        }
    }
}

impl Storage {
    /// Block cache in bytes.
    pub fn cache_bytes(&self) -> usize {
        bytes(self.cache_mib)
    }

    /// Memtable size in bytes.
    pub fn memtable_bytes(&self) -> usize {
        bytes(self.memtable_mib)
    }
}

fn bytes(mib: u32) -> usize {
    usize::try_from(u64::from(mib) << 20).unwrap_or(usize::MAX)
}
