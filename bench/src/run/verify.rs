//! The walk over the whole database at the end of a repeat: every entry is one that was written, none is there twice, and
//! none is missing.

use std::collections::HashSet;

use crate::engines::Engine;
use crate::error::BenchError;
use crate::load::check::hex;
use crate::load::recorder::GroupRecord;
use crate::spec::Spec;
use crate::workload::keys::KeyMaker;
use crate::workload::values::ValueMaker;

/// Knows how many entries must be there.
#[derive(Debug)]
pub struct Verifier {
    keys: KeyMaker,
    values: ValueMaker,
    loaded: u64,
    key_bytes: u64,
    inserted: u64,
    inserted_bytes: u64,
    deleted: bool,
}

impl Verifier {
    /// Of a database that is empty.
    pub fn new(spec: &Spec) -> Self {
        Self {
            keys: KeyMaker::new(&spec.keys),
            values: ValueMaker::new(&spec.values),
            loaded: spec.keys.count,
            key_bytes: u64::from(spec.keys.bytes),
            inserted: 0,
            inserted_bytes: 0,
            deleted: spec.deletes(),
        }
    }

    /// Notes what a group did.
    pub fn wrote(&mut self, record: &GroupRecord) {
        self.inserted += record.inserted;
        self.inserted_bytes += record.inserted * self.key_bytes + record.inserted_value_bytes;
    }

    /// Bytes of the keys and values that were inserted so far. Deletes are not counted: an upper bound where there were
    /// some, and with values of varying sizes an estimate once entries were overwritten.
    pub fn live_bytes(&self) -> u64 {
        self.inserted_bytes
    }

    /// Walks the database and checks every entry. Returns how many there are.
    ///
    /// # Errors
    /// The engine's, or what is wrong.
    pub fn walk(&self, engine: &dyn Engine) -> Result<u64, BenchError> {
        let mut seen = Seen::new(self.loaded);
        engine.walk(&mut |key, value| {
            let index = self.keys.index_of(key);
            let index = index.ok_or_else(|| wrong(key, "it was never made"))?;
            self.values
                .check(index, value)
                .map_err(|words| wrong(key, &words))?;
            if seen.insert(index) {
                Ok(())
            } else {
                Err(wrong(key, "it is there twice"))
            }
        })?;
        let missing = self.inserted.saturating_sub(seen.count);
        if seen.count > self.inserted || (missing > 0 && !self.deleted) {
            let words = format!(
                "the database holds {} entries at the end, {} were inserted{}",
                seen.count,
                self.inserted,
                if self.deleted { " and some deleted" } else { "" }
            );
            return Err(BenchError::wrong(words));
        }
        Ok(seen.count)
    }
}

fn wrong(key: &[u8], words: &str) -> BenchError {
    BenchError::wrong(format!(
        "a wrong entry in the database at the end, key {}: {words}",
        hex(key)
    ))
}

/// Indices that were met: a bit for each that was loaded, a set for the others.
struct Seen {
    loaded: Vec<u64>,
    others: HashSet<u64>,
    count: u64,
}

impl Seen {
    fn new(loaded: u64) -> Self {
        let words = usize::try_from(loaded.div_ceil(64)).expect("a spec's count of keys was checked");
        Self {
            loaded: vec![0; words],
            others: HashSet::new(),
            count: 0,
        }
    }

    /// Whether it was not there.
    fn insert(&mut self, index: u64) -> bool {
        let place = usize::try_from(index / 64)
            .ok()
            .and_then(|word| self.loaded.get_mut(word));
        let fresh = match place {
            Some(word) => {
                let fresh = *word & (1 << (index % 64)) == 0;
                *word |= 1 << (index % 64);
                fresh
            }
            None => self.others.insert(index),
        };
        self.count += u64::from(fresh);
        fresh
    }
}
