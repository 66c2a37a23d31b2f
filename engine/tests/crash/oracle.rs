//! What may be found after a crash, derived from what was asked and what was answered.
//!
//! Every key has one writer, who awaits each answer before he goes on, so the order of a key's writes is known. Counters
//! have many writers; there the value itself is the order. Events carry the numbers of one clock: when a request was
//! issued, when its answer came.
//!
//! Each shard's memtable order is its WAL order and flushes go in that order, so what survives is a prefix of it, but
//! for `None` writes, which the WAL lacks. Of two requests to one shard the one answered before the other was issued was
//! staged first. Hence, per shard: let *evidence* be the latest moment at which anything was issued that survived or had
//! to. Every logged write answered before it must have survived. What had to survive of itself: each acknowledged `Sync`
//! write, and whatever was answered before an acknowledged flush was issued.

use std::collections::BTreeMap;

use corelane::api::Durability;
use corelane::api::slots::SlotTable;

/// A complaint: what was found that may not be.
pub type Verdict = Result<(), String>;

/// The whole content of a database.
pub type Content = BTreeMap<Vec<u8>, Vec<u8>>;

/// One put, delete or batch.
#[derive(Debug)]
struct Write {
    shard: usize,
    issued: u64,
    acked: Option<u64>,
    durability: Durability,
    /// For each key its position among the key's writes, from 1.
    places: Vec<(Vec<u8>, usize)>,
}

/// One increment of a counter.
#[derive(Debug)]
struct Increment {
    shard: usize,
    issued: u64,
    acked: Option<u64>,
    durability: Durability,
    /// What it made of the counter; `None` until the shard has decided.
    value: Option<u64>,
}

#[derive(Debug, Default)]
struct Key {
    /// Value at the last check; everything since is in `effects`.
    base: Option<Vec<u8>>,
    /// Each with the write it belongs to.
    effects: Vec<(usize, Option<Vec<u8>>)>,
}

impl Key {
    fn at(&self, place: usize) -> Option<&[u8]> {
        match place {
            0 => self.base.as_deref(),
            n => self.effects[n - 1].1.as_deref(),
        }
    }

    /// Every place whose value is `found`, ascending.
    fn places_of(&self, found: Option<&[u8]>) -> Vec<usize> {
        (0..=self.effects.len())
            .filter(|&place| self.at(place) == found)
            .collect()
    }
}

#[derive(Debug, Default)]
struct Counter {
    base: u64,
    increments: Vec<Increment>,
}

/// Everything asked and answered since the last check.
#[derive(Debug)]
pub struct Oracle {
    slots: SlotTable,
    clock: u64,
    writes: Vec<Write>,
    keys: BTreeMap<Vec<u8>, Key>,
    counters: BTreeMap<Vec<u8>, Counter>,
    /// Issue times of acknowledged flushes.
    flushed: Option<u64>,
}

fn number(value: Option<&[u8]>) -> u64 {
    value.map_or(0, |bytes| {
        u64::from_le_bytes(bytes.try_into().expect("a counter has 8 bytes"))
    })
}

impl Oracle {
    pub fn new(shards: u16) -> Self {
        Self {
            slots: SlotTable::contiguous(shards),
            clock: 0,
            writes: Vec::new(),
            keys: BTreeMap::new(),
            counters: BTreeMap::new(),
            flushed: None,
        }
    }

    pub fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    pub fn shard_of(&self, key: &[u8]) -> usize {
        usize::from(self.slots.shard_of_key(key))
    }

    /// A write is about to be issued. A later operation of a batch on the same key is the only one that counts.
    pub fn write_issued(&mut self, ops: &[(Vec<u8>, Option<Vec<u8>>)], durability: Durability) -> usize {
        let issued = self.tick();
        let number = self.writes.len();
        let mut places = Vec::new();
        let last: BTreeMap<_, _> = ops.iter().cloned().collect();
        let shard = self.shard_of(&ops[0].0);
        for (name, value) in last {
            assert_eq!(self.shard_of(&name), shard, "a batch stays on one shard");
            let key = self.keys.entry(name.clone()).or_default();
            key.effects.push((number, value));
            places.push((name, key.effects.len()));
        }
        self.writes.push(Write {
            shard,
            issued,
            acked: None,
            durability,
            places,
        });
        number
    }

    pub fn write_acked(&mut self, number: usize) {
        let now = self.tick();
        self.writes[number].acked = Some(now);
    }

    /// What the key's own writer must read after all his writes were answered.
    pub fn newest(&self, key: &[u8]) -> Option<Vec<u8>> {
        let key = self.keys.get(key)?;
        key.at(key.effects.len()).map(<[u8]>::to_vec)
    }

    pub fn increment_issued(&mut self, name: &[u8], durability: Durability) -> usize {
        let (issued, shard) = (self.tick(), self.shard_of(name));
        let counter = self.counters.entry(name.to_vec()).or_default();
        counter.increments.push(Increment {
            shard,
            issued,
            acked: None,
            durability,
            value: None,
        });
        counter.increments.len() - 1
    }

    pub fn increment_decided(&mut self, name: &[u8], number: usize, value: u64) {
        let counter = self.counters.get_mut(name).expect("it was issued");
        counter.increments[number].value = Some(value);
    }

    pub fn increment_acked(&mut self, name: &[u8], number: usize) {
        let now = self.tick();
        let counter = self.counters.get_mut(name).expect("it was issued");
        counter.increments[number].acked = Some(now);
    }

    /// A flush that was issued at `issued` is acknowledged.
    pub fn flush_acked(&mut self, issued: u64) {
        self.flushed = self.flushed.max(Some(issued));
    }

    /// Every key that was ever named.
    pub fn names(&self) -> Vec<Vec<u8>> {
        self.keys.keys().chain(self.counters.keys()).cloned().collect()
    }

    /// Whether `found` may be what a crash at this moment has left.
    pub fn check(&self, found: &Content) -> Verdict {
        for name in found.keys() {
            if !self.keys.contains_key(name) && !self.counters.contains_key(name) {
                return Err(format!("phantom key {}", show(name)));
            }
        }
        let mut places = BTreeMap::new();
        for (name, key) in &self.keys {
            let value = found.get(name).map(Vec::as_slice);
            let of = key.places_of(value);
            if of.is_empty() {
                return Err(format!("phantom value of {}: {}", show(name), show_value(value)));
            }
            places.insert(name.as_slice(), of);
        }
        let evidence = self.evidence(&places, found);
        self.check_writes(&places, &evidence)?;
        self.check_batches(&places)?;
        self.check_counters(found, &evidence)
    }

    fn evidence(&self, places: &BTreeMap<&[u8], Vec<usize>>, found: &Content) -> Vec<u64> {
        let mut evidence = vec![0; usize::from(self.slots.shards())];
        let mut note = |shard: usize, issued: u64| evidence[shard] = evidence[shard].max(issued);
        for (name, key) in &self.keys {
            let least = places[name.as_slice()][0];
            if least > 0 {
                let write = &self.writes[key.effects[least - 1].0];
                note(write.shard, write.issued);
            }
        }
        for write in &self.writes {
            if write.acked.is_some() && write.durability == Durability::Sync {
                note(write.shard, write.issued);
            }
        }
        for (name, counter) in &self.counters {
            let value = number(found.get(name).map(Vec::as_slice));
            for increment in &counter.increments {
                let is_last = increment.value == Some(value);
                if is_last || (increment.acked.is_some() && increment.durability == Durability::Sync) {
                    note(increment.shard, increment.issued);
                }
            }
        }
        evidence
    }

    /// Why a request must have survived; `None` if it need not.
    fn why(&self, (acked, durability): (Option<u64>, Durability), evidence: u64) -> Option<&'static str> {
        let acked = acked?;
        if durability == Durability::Sync {
            return Some("it was acknowledged as durable");
        }
        if self.flushed.is_some_and(|flushed| acked < flushed) {
            return Some("a flush that came after it was acknowledged");
        }
        (durability == Durability::Buffered && acked < evidence).then_some("a write behind it survived")
    }

    fn check_writes(&self, places: &BTreeMap<&[u8], Vec<usize>>, evidence: &[u64]) -> Verdict {
        for (number, write) in self.writes.iter().enumerate() {
            let Some(why) = self.why((write.acked, write.durability), evidence[write.shard]) else {
                continue;
            };
            for (name, place) in &write.places {
                let newest = places[name.as_slice()].last().copied().unwrap_or(0);
                if newest < *place {
                    return Err(format!(
                        "lost: {:?} write {number} of {}, its {place}th, although {why}; the {newest}th was found",
                        write.durability,
                        show(name)
                    ));
                }
            }
        }
        Ok(())
    }

    /// No batch is half there.
    fn check_batches(&self, places: &BTreeMap<&[u8], Vec<usize>>) -> Verdict {
        for (number, write) in self.writes.iter().enumerate() {
            // Of an unlogged batch only its very own values are evidence: logged writes after it do not need it.
            let shows = |place: usize, of: &[usize]| match write.durability {
                Durability::None => of == [place],
                _ => of[0] >= place,
            };
            let there = write
                .places
                .iter()
                .find(|(name, place)| shows(*place, &places[name.as_slice()]));
            let lacks = |(name, place): &&(Vec<u8>, usize)| {
                places[name.as_slice()].last().is_some_and(|last| last < place)
            };
            if let (Some(there), Some(gone)) = (there, write.places.iter().find(lacks)) {
                return Err(format!(
                    "half a batch: {:?} write {number} is there in {} and not in {}",
                    write.durability,
                    show(&there.0),
                    show(&gone.0)
                ));
            }
        }
        Ok(())
    }

    fn check_counters(&self, found: &Content, evidence: &[u64]) -> Verdict {
        for (name, counter) in &self.counters {
            let value = number(found.get(name).map(Vec::as_slice));
            let mut decided: Vec<u64> = counter.increments.iter().filter_map(|i| i.value).collect();
            decided.sort_unstable();
            let expected: Vec<u64> = (counter.base + 1..).take(decided.len()).collect();
            if decided != expected {
                return Err(format!(
                    "increments of {} lost or doubled while running: {decided:?} from {}",
                    show(name),
                    counter.base
                ));
            }
            let most = counter.base + decided.len() as u64;
            if value < counter.base || value > most {
                return Err(format!(
                    "counter {} is {value}, not within {}..={most}",
                    show(name),
                    counter.base
                ));
            }
            for increment in &counter.increments {
                let why = self.why((increment.acked, increment.durability), evidence[increment.shard]);
                if let (Some(why), Some(made)) = (why, increment.value)
                    && made > value
                {
                    return Err(format!(
                        "counter {} is {value}, but the increment to {made} must be there: {why}",
                        show(name)
                    ));
                }
            }
        }
        Ok(())
    }

    /// What was found is what there is from now on: it must never change again by itself.
    pub fn rebase(&mut self, found: &Content) {
        self.writes.clear();
        self.flushed = None;
        for (name, key) in &mut self.keys {
            key.base = found.get(name).cloned();
            key.effects.clear();
        }
        for (name, counter) in &mut self.counters {
            counter.base = number(found.get(name).map(Vec::as_slice));
            counter.increments.clear();
        }
    }
}

/// A key or value, shortened.
pub fn show(bytes: &[u8]) -> String {
    let head: String = bytes.iter().take(24).map(|&b| char::from(b)).collect();
    format!("{:?} ({} bytes)", head, bytes.len())
}

fn show_value(value: Option<&[u8]>) -> String {
    value.map_or("nothing".to_owned(), show)
}
