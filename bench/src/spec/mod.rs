//! What a run does, as plain data: the entries, the engines' options, and phases of operation mixes under a load.
//!
//! A [`Spec`] is read from TOML ([`Spec::parse`]) or made by a preset (`ycsb`, `db_bench`), checked once by
//! [`Spec::check`], stored with every result, and never changed afterwards: two results with equal specs and seeds did
//! the same operations, whatever the engine.

mod check;
pub mod db_bench;
pub mod scale;
pub mod table;
pub mod ycsb;

use serde::{Deserialize, Serialize};

use crate::workload::OpKind;

pub use check::SpecError;
pub use scale::Scale;

/// A whole run: what is stored, and what is done to it, phase after phase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// A name for tables and reports.
    pub name: String,
    /// Where all random numbers of the run begin.
    #[serde(default)]
    pub seed: u64,
    /// How many times each engine does the whole run, each time on a fresh database; comparisons need several.
    #[serde(default = "one")]
    pub repeats: u32,
    /// The keys.
    pub keys: Keys,
    /// The values.
    pub values: Values,
    /// What every engine is given alike.
    #[serde(default)]
    pub engine: EngineOptions,
    /// What is done, in order. The first is usually the load.
    pub phases: Vec<Phase>,
}

/// The keys: a key is made from its index, and tells it back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keys {
    /// Entries that are loaded first: indices below it exist once the load has run.
    pub count: u64,
    /// Bytes of a key, 16 to 1024.
    #[serde(default = "sixteen")]
    pub bytes: u32,
    /// Whether neighbouring indices are neighbours in key order.
    #[serde(default)]
    pub order: KeyOrder,
}

/// Where an index lies in key order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyOrder {
    /// Anywhere, by a bijective hash of it: YCSB's `insertorder=hashed`.
    #[default]
    Hashed,
    /// In order of the index, and loaded in that order: db_bench's `fillseq`.
    Ordered,
    /// In order of the index, but loaded in a shuffled order, so that a range of indices is a range of keys and the load
    /// is not sorted: db_bench's `fillrandom`.
    Shuffled,
}

/// The values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Values {
    /// Bytes of a value.
    pub bytes: Sizes,
    /// The share of a value that compresses to almost nothing, 0 to 1; the rest is random.
    #[serde(default)]
    pub compressible: f64,
}

/// How sizes are drawn; bounds are inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Sizes {
    /// Always this.
    Fixed(u32),
    /// Each in the range as likely as any other.
    Uniform {
        /// Least.
        min: u32,
        /// Most.
        max: u32,
    },
    /// Small ones much more often than large ones: zipfian with YCSB's constant 0.99 from `min` up.
    Zipfian {
        /// Least, and most often.
        min: u32,
        /// Most.
        max: u32,
    },
}

impl Sizes {
    /// The least and the most.
    pub fn bounds(self) -> (u32, u32) {
        match self {
            Self::Fixed(size) => (size, size),
            Self::Uniform { min, max } | Self::Zipfian { min, max } => (min, max),
        }
    }
}

/// What every engine is given alike, in the same run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EngineOptions {
    /// Block cache of the whole database, in bytes.
    pub cache_bytes: u64,
    /// Memtables of the whole database, in bytes, the active ones.
    pub memtable_bytes: u64,
    /// Cores that an engine may use (by pinning where it can, by its number of threads otherwise).
    pub cores: u16,
    /// Memory limit of a control group around the whole run, page cache included, in bytes.
    pub memory_limit_bytes: Option<u64>,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            cache_bytes: 256 << 20,
            memtable_bytes: 128 << 20,
            cores: 2,
            memory_limit_bytes: None,
        }
    }
}

/// One phase: groups of callers that run side by side until the phase ends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Phase {
    /// A name for tables, such as `load` or `a`.
    pub name: String,
    /// Groups of callers; each is measured by itself. The first is the phase's figure, the others its company.
    pub groups: Vec<Group>,
    /// When it ends.
    pub until: Until,
    /// Seconds at its begin that are run and not counted.
    #[serde(default)]
    pub warmup_seconds: f64,
    /// Whether the engine is first waited for until its compaction is at rest.
    #[serde(default)]
    pub settle_first: bool,
}

/// When a phase ends: whichever comes first of those that are given; at least one is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Until {
    /// Operations of the first group, over all its callers.
    pub operations: Option<u64>,
    /// Seconds after the warm-up.
    pub seconds: Option<f64>,
}

/// Callers that do the same kind of work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// A name for tables, such as `readers`.
    #[serde(default = "callers")]
    pub name: String,
    /// What they do.
    pub mix: Mix,
    /// Which existing keys they choose.
    #[serde(default)]
    pub distribution: Distribution,
    /// Entries of a scan.
    #[serde(default = "hundred")]
    pub scan_entries: Sizes,
    /// When a write is answered.
    #[serde(default)]
    pub durability: Durability,
    /// How operations are begun.
    pub load: Load,
}

/// Shares of operations; they sum to 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mix {
    /// Gets of keys that exist.
    pub read: f64,
    /// Gets of keys that were never written.
    pub read_missing: f64,
    /// Puts of new keys, in order of their index: the load, and YCSB's inserts.
    pub insert: f64,
    /// Puts of keys that exist.
    pub update: f64,
    /// A get, then a put of the same key.
    pub read_modify_write: f64,
    /// Deletes of keys that exist.
    pub delete: f64,
    /// Scans from a key that exists.
    pub scan: f64,
}

impl Mix {
    /// The share of a kind.
    pub fn share(&self, kind: OpKind) -> f64 {
        match kind {
            OpKind::Read => self.read,
            OpKind::ReadMissing => self.read_missing,
            OpKind::Insert => self.insert,
            OpKind::Update => self.update,
            OpKind::ReadModifyWrite => self.read_modify_write,
            OpKind::Delete => self.delete,
            OpKind::Scan => self.scan,
        }
    }
}

/// Which existing keys are chosen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Distribution {
    /// Each as likely as any other.
    #[default]
    Uniform,
    /// Index 0 most often: the k-th with a probability proportional to 1/k^theta.
    Zipfian {
        /// YCSB's `zipfian_constant`.
        theta: f64,
    },
    /// Zipfian popularity, scattered over all indices by a hash: YCSB's default.
    ScrambledZipfian {
        /// YCSB's `zipfian_constant`.
        theta: f64,
    },
    /// Zipfian from the newest insert backwards.
    Latest {
        /// YCSB's `zipfian_constant`.
        theta: f64,
    },
    /// `operations` of them go to the first `keys` of the keys, both uniformly.
    Hotspot {
        /// Share of keys that are hot, 0 to 1.
        keys: f64,
        /// Share of operations that go to them, 0 to 1.
        operations: f64,
    },
    /// One after the other, each caller its own part, from the first again after the last.
    Sequential,
}

/// When a write is answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Durability {
    /// On stable storage.
    Sync,
    /// Accepted; the engine's log takes it to the device soon, without being asked to.
    #[default]
    Buffered,
}

/// How operations are begun.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Load {
    /// Each caller begins its next operation when its last has ended.
    Closed {
        /// How many.
        callers: u32,
    },
    /// Operations begin when the schedule says, whether or not earlier ones have ended; at most `callers` are under way,
    /// and what waits for one of them is late from its intended start on.
    Open {
        /// The most that are under way at once.
        callers: u32,
        /// Operations a second, of all callers together.
        rate: f64,
        /// How their starts are spaced.
        #[serde(default)]
        arrival: Arrival,
    },
}

/// How the starts of an open loop are spaced.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Arrival {
    /// Evenly.
    Fixed,
    /// As independent users arrive: exponentially distributed gaps.
    #[default]
    Poisson,
}

impl Spec {
    /// Whether any phase deletes.
    pub fn deletes(&self) -> bool {
        let mut groups = self.phases.iter().flat_map(|phase| &phase.groups);
        groups.any(|group| group.mix.delete > 0.0)
    }
}

impl Load {
    /// The most operations that are under way at once.
    pub fn callers(self) -> u32 {
        match self {
            Self::Closed { callers } | Self::Open { callers, .. } => callers,
        }
    }
}

/// The names of all presets: YCSB's, db_bench's, and the table's.
pub fn preset_names() -> impl Iterator<Item = &'static str> {
    let families = [ycsb::names(), db_bench::names(), table::names()];
    families.into_iter().flatten().copied()
}

/// The preset of a name.
pub fn preset(name: &str, scale: &Scale) -> Option<Spec> {
    ycsb::by_name(name, scale)
        .or_else(|| db_bench::by_name(name, scale))
        .or_else(|| table::by_name(name, scale))
}

fn one() -> u32 {
    1
}

fn sixteen() -> u32 {
    16
}

fn hundred() -> Sizes {
    Sizes::Fixed(100)
}

fn callers() -> String {
    "callers".to_owned()
}

#[cfg(test)]
mod tests;
