//! Transactions: what a client gathers between `MULTI` and `EXEC`, and how it runs as one step on the core that owns its
//! keys.
//!
//! 1. After `MULTI` commands are checked as far as that goes without running them, and queued. One that is refused breaks
//!    the transaction: `EXEC` then discards it.
//! 2. `EXEC` takes the keys of all its commands and those that are watched; they must be of one shard. There, with nothing
//!    in between, the versions of the watched keys are compared, every command on keys runs over one view of them all, and
//!    what they changed becomes one batch: all of it is written, or nothing.
//! 3. The commands of the connection itself (`PING`, `CLIENT SETNAME`) run once that is done, in their places among the
//!    answers.
//!
//! Everything here is pure. A transaction is bounded in what it holds before it runs, and in what it reads, writes and
//! answers while it runs, because the core serves nobody else meanwhile; beyond a bound it is discarded as a whole.

use std::collections::BTreeSet;
use std::collections::btree_map::{BTreeMap, Entry};

use corelane::api::{Batch, Found};
use corelane::types::MAX_BATCH_BYTES;

use crate::command::request::sorted_keys;
use crate::command::{Failure, Keys, Owned, Request, Spec, View};

/// Most commands of a transaction: some milliseconds of work on the core that runs them.
pub const MAX_COMMANDS: usize = 16_384;

/// Most keys that its commands name, one named twice counting twice: they are sorted and looked at in one step.
pub const MAX_KEYS: usize = 65_536;

/// Most bytes that its commands take while they wait: what they write must fit in one batch.
pub const MAX_HELD_BYTES: usize = MAX_BATCH_BYTES;

/// Most keys that a client watches: each is looked at on `EXEC`.
pub const MAX_WATCHED: usize = 16_384;

/// Longest answer to `EXEC` in bytes, held until it is whole.
pub const MAX_ANSWER_BYTES: usize = 64 << 20;

/// Bytes of values that the commands of a transaction may look at: about a tenth of a second where they count bits.
pub const MAX_LOOKED_BYTES: usize = 1 << 30;

/// Commands that are not queued between `MULTI` and `EXEC` but run, sorted. The last two are the first words of HTTP.
const AT_ONCE: &[&str] = &[
    "discard", "exec", "host:", "multi", "post", "quit", "reset", "watch",
];

/// Commands that ask the store in ways of their own or change what the answers around them look like, sorted. Redis queues
/// them.
const REFUSED: &[&str] = &[
    "auth",
    "dbsize",
    "debug",
    "flushall",
    "flushdb",
    "hello",
    "info",
    "keys",
    "kv.scan",
    "memory",
    "object",
    "randomkey",
    "scan",
    "shutdown",
    "time",
    "wait",
];

/// What becomes of a command between `MULTI` and `EXEC`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// It waits for `EXEC`.
    Queue,
    /// It runs.
    AtOnce,
    /// It is refused, and the transaction with it.
    Refused,
}

/// What becomes of `spec` between `MULTI` and `EXEC`.
pub fn place(spec: &Spec) -> Place {
    if AT_ONCE.binary_search(&spec.name).is_ok() {
        Place::AtOnce
    } else if REFUSED.binary_search(&spec.name).is_ok() {
        Place::Refused
    } else {
        Place::Queue
    }
}

/// What a client has said since `MULTI`.
#[derive(Debug, Clone, Default)]
pub struct Transaction {
    queue: Vec<Owned>,
    held_bytes: usize,
    keys: usize,
    broken: bool,
}

impl Transaction {
    /// Queues a command.
    ///
    /// # Errors
    /// It would be one too many; the transaction is broken then.
    pub fn push(&mut self, request: &Request<'_>) -> Result<(), Failure> {
        if self.broken {
            return Ok(());
        }
        let owned = Owned::new(request);
        self.held_bytes += owned.held_bytes();
        if self.queue.len() == MAX_COMMANDS || self.held_bytes > MAX_HELD_BYTES {
            self.break_off();
            return Err(Failure::err(format_args!(
                "a transaction has at most {MAX_COMMANDS} commands and {MAX_HELD_BYTES} bytes"
            )));
        }
        self.keys += request.keys().count();
        if self.keys > MAX_KEYS {
            self.break_off();
            return Err(Failure::err(format_args!(
                "the commands of a transaction name at most {MAX_KEYS} keys"
            )));
        }
        self.queue.push(owned);
        Ok(())
    }

    /// Has `EXEC` refuse the transaction; what was queued is given back now.
    pub fn break_off(&mut self) {
        *self = Self {
            broken: true,
            ..Self::default()
        };
    }

    /// Whether `EXEC` is going to refuse it.
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// Bytes of memory that it takes.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// How many commands it has.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

/// What is remembered of a key that must not change before the next `EXEC`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watch {
    /// Its version when it was first watched.
    version: u64,
    /// Whether it was there then.
    present: bool,
}

impl Watch {
    /// What is to be remembered of a key.
    pub fn new(found: &Found<'_>) -> Self {
        Self {
            version: found.version,
            present: found.value.is_some(),
        }
    }

    /// Whether the key has been written since, or has ended.
    fn has_changed(&self, found: &Found<'_>) -> bool {
        self.version != found.version || (self.present && found.value.is_none())
    }
}

/// The keys that a client watches. Whether one is among them is quickly seen, however many there are, because a client may
/// watch thousands one by one.
#[derive(Debug, Clone, Default)]
pub struct Watched {
    keys: BTreeMap<Vec<u8>, Watch>,
    held_bytes: usize,
}

impl Watched {
    /// Those of `keys` that are not watched yet, each once.
    ///
    /// # Errors
    /// They would be too many; nothing was changed.
    pub fn new_among(&self, keys: Vec<Vec<u8>>) -> Result<BTreeSet<Vec<u8>>, Failure> {
        let new = keys.into_iter().filter(|key| !self.keys.contains_key(key));
        let new: BTreeSet<_> = new.collect();
        if self.keys.len() + new.len() > MAX_WATCHED {
            return Err(Failure::err(format_args!(
                "a client watches at most {MAX_WATCHED} keys"
            )));
        }
        Ok(new)
    }

    /// Watches `key`, unless it is watched already: the first look at it counts.
    pub fn add(&mut self, key: Vec<u8>, watch: Watch) {
        let bytes = size_of::<(Vec<u8>, Watch)>() + key.len();
        if let Entry::Vacant(place) = self.keys.entry(key) {
            place.insert(watch);
            self.held_bytes += bytes;
        }
    }

    /// Bytes of memory that they take.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }
}

/// A transaction on its way to the core that runs it.
#[derive(Debug)]
pub struct Work {
    /// The commands, those of the connection included.
    pub queue: Vec<Owned>,
    watched: Watched,
}

/// What became of a transaction.
#[derive(Debug, PartialEq, Eq)]
pub enum Executed {
    /// A watched key was changed: nothing was run.
    Changed,
    /// It met a bound: nothing was written.
    Refused(Failure),
    /// All its commands on keys ran.
    Done(Answers),
}

/// The answers of the commands on keys of a transaction.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// One behind the other.
    pub bytes: Vec<u8>,
    /// Where each ends, and whether it is an error.
    pub ends: Vec<(usize, bool)>,
    /// Looks that found their key.
    pub hits: u64,
    /// Looks that did not.
    pub misses: u64,
}

impl Work {
    /// What the client has gathered.
    pub fn new(transaction: Transaction, watched: Watched) -> Self {
        Self {
            queue: transaction.queue,
            watched,
        }
    }

    /// Every key that matters, sorted, each once.
    pub fn keys(&self) -> Vec<&[u8]> {
        let watched = self.watched.keys.keys().map(Vec::as_slice);
        let keyed = self.queue.iter().map(Owned::request);
        let keyed = keyed.filter(|request| request.spec.keyed().is_some() && request.spec.keys != Keys::NONE);
        sorted_keys(keyed.flat_map(|request| request.keys()).chain(watched))
    }

    /// Runs the commands on keys over what the shard holds of [`Work::keys`]. What comes with the outcome is to be written,
    /// all at once.
    pub fn run(&self, found: &[Found<'_>]) -> (Executed, Batch) {
        let keys = self.keys();
        let mut view = View::new(&keys, found);
        let changed = |(key, watch): (&Vec<u8>, &Watch)| {
            let place = keys.binary_search(&key.as_slice());
            place.map_or(true, |place| watch.has_changed(&found[place]))
        };
        if self.watched.keys.iter().any(changed) {
            return (Executed::Changed, Batch::new());
        }
        let mut answers = Answers::default();
        for request in self.queue.iter().map(Owned::request) {
            let Some(run) = request.spec.keyed() else { continue };
            view.set_answer_room(MAX_ANSWER_BYTES - answers.bytes.len());
            let went_well = request.answer(run, &mut view, &mut answers.bytes);
            answers.ends.push((answers.bytes.len(), !went_well));
            if let Err(failure) = within_bounds(&view, &answers) {
                return (Executed::Refused(failure), Batch::new());
            }
        }
        (answers.hits, answers.misses) = view.lookups();
        match view.into_batch() {
            Ok(batch) => (Executed::Done(answers), batch),
            Err(failure) => (Executed::Refused(failure), Batch::new()),
        }
    }
}

fn within_bounds(view: &View<'_>, answers: &Answers) -> Result<(), Failure> {
    let too_long = view.refused_bytes().is_some() || answers.bytes.len() > MAX_ANSWER_BYTES;
    for (what, beyond, most) in [
        ("answers", too_long, MAX_ANSWER_BYTES),
        ("changes", view.written_bytes() > MAX_BATCH_BYTES, MAX_BATCH_BYTES),
        ("looks", view.looked_bytes() > MAX_LOOKED_BYTES, MAX_LOOKED_BYTES),
    ] {
        if beyond {
            let why = format!("Transaction discarded because of: its {what} take more than {most} bytes");
            return Err(Failure(format!("EXECABORT {why}").into()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::table;

    #[test]
    fn names_are_sorted_and_those_of_local_commands() {
        for names in [AT_ONCE, REFUSED] {
            assert!(names.is_sorted_by(|a, b| a < b));
            for name in names {
                let spec = table::find(name.as_bytes()).expect("a command");
                assert!(spec.keyed().is_none(), "{name}");
                assert_ne!(place(spec), Place::Queue);
            }
        }
        let get = table::find(b"get").expect("a command");
        assert_eq!(place(get), Place::Queue);
    }
}
