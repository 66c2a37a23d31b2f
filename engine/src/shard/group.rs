//! The group that gathers while another is being written: pure staging, no I/O.
//!
//! A group holds batches in the order in which they were staged, which is the order of the WAL and of the memtable. A
//! prefix of it may be in the memtable already (`Buffered` writes with nothing unapplied before them); the rest waits
//! for the device write. `None` writes that must wait their turn sit in `unlogged` and never reach the WAL.
//!
//! ```text
//! payload   [len|batch][len|batch][len|batch][len|batch]      logged, in WAL order
//!           <-- applied_batches -> <-------------------->     already in the memtable | waiting
//! staged                           S         S     N   S      answers owed, in memtable order (N: unlogged)
//! ```

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ops::Range;

use crate::codec::{batch, varint};
use crate::shard::request::Outcome;
use crate::sstable::key_hash;
use crate::types::{Content, Durability};

/// Who waits for a write.
pub type Answerer = oneshot::Sender<Outcome>;

/// One batch that is not yet in the memtable.
#[derive(Debug)]
struct Staged {
    logged: bool,
    bytes: Range<usize>,
}

/// Room that an empty group may keep for the next: bytes of batches, logged and unlogged each, and batches. A frame holds half
/// as many bytes, and what grows by doubling has up to twice of what it needs. A shard keeps two groups, so 9 MiB at most, and
/// a few tens of KiB where it has no larger groups.
const KEPT_BYTES: usize = 2 << 20;
const KEPT_BATCHES: usize = 1 << 14;

/// A group of batches. See the module's head.
#[derive(Debug, Default)]
pub struct Group {
    payload: Vec<u8>,
    ends: Vec<usize>,
    applied_batches: usize,
    unlogged: Vec<u8>,
    staged: Vec<Staged>,
    /// Who waits for each of `staged`, in the same order.
    answers: RefCell<Vec<Option<Answerer>>>,
    /// Batches that are on stable storage already, while the group is in flight.
    durable_batches: Cell<usize>,
    /// What was not on stable storage was given up while the group was in flight: of `staged` only so many go on, the
    /// rest is neither logged nor applied.
    refused: Cell<Option<usize>>,
    wants_sync: bool,
    index: RefCell<Index>,
}

/// Where the newest staged operation on a key is; built only as far as updates ask.
#[derive(Debug, Default)]
struct Index {
    indexed: usize,
    newest: HashMap<u64, usize>,
}

/// What a staged operation says of a key.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum StagedValue<'a> {
    /// It was put.
    Put(Content<'a>),
    /// It was removed.
    Tombstone,
}

/// A run of whole batches for one frame, or one batch too large for any.
#[derive(Debug, PartialEq, Eq, Clone)]
pub struct Piece {
    /// Which batches, by index.
    pub batches: Range<usize>,
    /// Their bytes in the payload, lengths included.
    pub bytes: Range<usize>,
}

impl Group {
    /// The same with nothing in it. It keeps its room, so that the next group is not moved each time that it outgrows what it
    /// has; where that is more than a usual group needs, it is given back.
    pub fn emptied(mut self) -> Self {
        let bytes = self.payload.capacity().max(self.unlogged.capacity());
        let batches = self.ends.capacity().max(self.staged.capacity());
        if bytes > KEPT_BYTES || batches > KEPT_BATCHES {
            return Self::default();
        }
        self.payload.clear();
        self.unlogged.clear();
        self.ends.clear();
        self.staged.clear();
        Self {
            payload: self.payload,
            ends: self.ends,
            unlogged: self.unlogged,
            staged: self.staged,
            ..Self::default()
        }
    }

    /// Whether nothing was staged.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty() && self.staged.is_empty()
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.payload.len() + self.unlogged.len()
    }

    /// Bytes that wait to be logged.
    pub fn logged_bytes(&self) -> usize {
        self.payload.len()
    }

    /// Number of batches that wait to be logged.
    pub fn logged_batches(&self) -> usize {
        self.ends.len()
    }

    /// How many of the logged batches are in the memtable already.
    pub fn applied_batches(&self) -> usize {
        self.applied_batches
    }

    /// Whether a batch waits to enter the memtable, so that later ones must wait behind it.
    pub fn has_unapplied(&self) -> bool {
        self.kept() > 0
    }

    /// Whether somebody asked for this group to be on stable storage now.
    pub fn wants_sync(&self) -> bool {
        self.wants_sync
    }

    /// Asks for this group to be written without waiting for more.
    pub fn request_sync(&mut self) {
        self.wants_sync = true;
    }

    /// Adds a batch that is in the memtable already.
    ///
    /// # Panics
    /// If a batch waits: memtable order would not be WAL order.
    pub fn log_applied(&mut self, batch: &[u8]) {
        assert!(!self.has_unapplied(), "memtable order is WAL order");
        self.log(batch);
        self.applied_batches = self.ends.len();
    }

    /// Adds a batch that enters the memtable after this group was written. An empty batch only waits its turn.
    pub fn stage(&mut self, batch: &[u8], durability: Durability, answer: Option<Answerer>) {
        let logged = durability != Durability::None && !batch.is_empty();
        let bytes = if logged {
            self.log(batch)
        } else {
            let start = self.unlogged.len();
            self.unlogged.extend_from_slice(batch);
            start..self.unlogged.len()
        };
        // Whoever waits behind something unapplied must not wait for the lag of a buffered group.
        self.wants_sync = true;
        self.staged.push(Staged { logged, bytes });
        self.answers.get_mut().push(answer);
    }

    fn log(&mut self, batch: &[u8]) -> Range<usize> {
        varint::put(&mut self.payload, batch.len() as u64);
        let start = self.payload.len();
        self.payload.extend_from_slice(batch);
        self.ends.push(self.payload.len());
        start..self.payload.len()
    }

    /// The next run of batches from number `from` that fits in `limit` bytes and does not run past batch `stop`;
    /// empty when not even the first fits.
    pub fn piece(&self, from: usize, stop: usize, limit: usize) -> Piece {
        assert!(
            from <= stop && stop <= self.ends.len(),
            "batches are numbered within the group"
        );
        let start = if from == 0 { 0 } else { self.ends[from - 1] };
        let fitting = self.ends[from..stop].partition_point(|&end| end - start <= limit);
        let end = if fitting == 0 {
            start
        } else {
            self.ends[from + fitting - 1]
        };
        Piece {
            batches: from..from + fitting,
            bytes: start..end,
        }
    }

    /// The bytes of a run, as [`Group::piece`] gave it.
    pub fn piece_bytes(&self, piece: &Piece) -> &[u8] {
        &self.payload[piece.bytes.clone()]
    }

    /// One batch by number, without its length.
    pub fn batch(&self, number: usize) -> &[u8] {
        let start = if number == 0 { 0 } else { self.ends[number - 1] };
        let mut bytes = &self.payload[start..self.ends[number]];
        varint::take_bytes(&mut bytes).expect("the group wrote this length itself")
    }

    /// The batches that wait to enter the memtable, in order; after a refusal those that go on all the same.
    pub fn unapplied(&self) -> impl Iterator<Item = &[u8]> {
        self.unapplied_from(0)
    }

    /// Those of them from this number on.
    pub fn unapplied_from(&self, number: usize) -> impl Iterator<Item = &[u8]> {
        let kept = &self.staged[..self.kept()];
        let rest = kept.get(number..).unwrap_or_default();
        rest.iter().map(|staged| self.staged_bytes(staged))
    }

    fn kept(&self) -> usize {
        self.refused.get().unwrap_or(self.staged.len())
    }

    /// Whether some of them are in no WAL, so that only a flush makes them durable.
    pub fn has_unlogged(&self) -> bool {
        !self.unlogged.is_empty()
    }

    fn staged_bytes(&self, staged: &Staged) -> &[u8] {
        let source = if staged.logged {
            &self.payload
        } else {
            &self.unlogged
        };
        &source[staged.bytes.clone()]
    }

    /// Takes the answers owed, in the order of [`Group::unapplied`].
    pub fn take_answers(&self) -> Vec<Option<Answerer>> {
        std::mem::take(&mut *self.answers.borrow_mut())
    }

    /// Remembers that batches up to this number are on stable storage.
    pub fn note_durable(&self, batches: usize) {
        self.durable_batches.set(batches);
    }

    /// Gives up everything that is not in the memtable while the group is in flight; returns who waited for it.
    pub fn refuse(&self) -> Vec<Option<Answerer>> {
        self.refused.set(Some(0));
        self.take_answers()
    }

    /// Gives up what is neither in the memtable nor on stable storage while the group is in flight; returns who waited
    /// for it. What is on stable storage would come back at the next open, so it goes on, and with it whatever was
    /// staged before it.
    pub fn refuse_unlogged(&self) -> Vec<Option<Answerer>> {
        let mut number = self.applied_batches;
        let first_lost = self.staged.iter().position(|staged| {
            let lost = staged.logged && number >= self.durable_batches.get();
            number += usize::from(staged.logged);
            lost
        });
        let kept = first_lost.unwrap_or(self.staged.len()).min(self.kept());
        self.refused.set(Some(kept));
        let mut answers = self.answers.borrow_mut();
        let kept = kept.min(answers.len());
        answers.split_off(kept)
    }

    /// Remembers that what went on after a refusal is in the memtable now: nothing of the group waits any more.
    pub fn note_applied(&self) {
        assert!(
            self.is_refused(),
            "a group that was not refused is applied whole, at its end"
        );
        self.refused.set(Some(0));
    }

    /// Whether a part was given up: what is not on stable storage by now, nor in the memtable, is not to be logged.
    pub fn is_refused(&self) -> bool {
        self.refused.get().is_some()
    }

    /// Drops every batch that is not in the memtable and returns who waited for it; what is applied stays.
    pub fn drop_unapplied(&mut self) -> Vec<Option<Answerer>> {
        let answers = self.take_answers();
        self.staged.clear();
        self.unlogged.clear();
        self.ends.truncate(self.applied_batches);
        self.payload.truncate(self.ends.last().copied().unwrap_or(0));
        self.wants_sync = false;
        *self.index.borrow_mut() = Index::default();
        answers
    }

    /// What the newest unapplied operation on `key` says, if there is one.
    pub fn newest(&self, key: &[u8]) -> Option<StagedValue<'_>> {
        if !self.has_unapplied() {
            return None;
        }
        self.extend_index();
        let at = *self.index.borrow().newest.get(&key_hash(key))?;
        let at = at.min(self.kept() - 1);
        // Two keys may share a hash: then an older batch may still hold this one.
        (0..=at)
            .rev()
            .find_map(|number| newest_in_batch(self.staged_bytes(&self.staged[number]), key))
    }

    fn extend_index(&self) {
        let mut index = self.index.borrow_mut();
        for number in index.indexed..self.staged.len() {
            for op in batch::ops(self.staged_bytes(&self.staged[number])).flatten() {
                index.newest.insert(key_hash(op.key), number);
            }
        }
        index.indexed = self.staged.len();
    }
}

fn newest_in_batch<'a>(bytes: &'a [u8], key: &[u8]) -> Option<StagedValue<'a>> {
    let newest = batch::ops(bytes).flatten().filter(|op| op.key == key).last()?;
    let content = Content::of(newest.kind, newest.value);
    Some(content.map_or(StagedValue::Tombstone, StagedValue::Put))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &[u8], value: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        batch::push_put(&mut out, key, value);
        out
    }

    fn value(value: &[u8]) -> Option<StagedValue<'_>> {
        let expires_ms = None;
        Some(StagedValue::Put(Content { value, expires_ms }))
    }

    #[test]
    fn an_emptied_group_is_a_new_one_with_room() {
        let mut group = Group::default();
        for i in 0..10_u8 {
            group.stage(&put(&[i], &[i; 400]), Durability::Sync, None);
            group.stage(&put(&[i], &[i; 400]), Durability::None, None);
        }
        assert!(group.newest(&[3]).is_some());
        group.note_durable(4);
        group.refuse_unlogged();
        let room = group.payload.capacity();
        let mut group = group.emptied();
        assert!(group.is_empty() && !group.wants_sync() && !group.is_refused());
        assert!(!group.has_unlogged() && !group.has_unapplied() && group.newest(&[3]).is_none());
        assert_eq!((group.bytes(), group.applied_batches()), (0, 0));
        assert_eq!(group.payload.capacity(), room);
        group.log_applied(&put(b"k", b"v"));
        assert_eq!((group.logged_batches(), group.batch(0)), (1, &*put(b"k", b"v")));
    }

    #[test]
    fn a_group_of_unusual_size_keeps_no_room() {
        let mut group = Group::default();
        group.stage(&put(b"k", &vec![0; KEPT_BYTES + 1]), Durability::Sync, None);
        assert_eq!(group.emptied().payload.capacity(), 0);
        let mut group = Group::default();
        for _ in 0..=KEPT_BATCHES {
            group.stage(&put(b"k", b""), Durability::Sync, None);
        }
        assert_eq!(group.emptied().ends.capacity(), 0);
    }

    #[test]
    fn pieces_are_whole_batches_in_order_within_the_limit() {
        let mut group = Group::default();
        for i in 0..10_u8 {
            group.stage(&put(&[i], &[i; 40]), Durability::Sync, None);
        }
        let (mut from, mut seen) = (0, Vec::new());
        while from < group.logged_batches() {
            let piece = group.piece(from, 10, 100);
            assert!(!piece.batches.is_empty() && piece.bytes.len() <= 100);
            seen.extend_from_slice(group.piece_bytes(&piece));
            from = piece.batches.end;
        }
        assert_eq!(seen, group.payload);
        assert!(
            group.piece(0, 10, 10).batches.is_empty(),
            "a batch over the limit is not cut"
        );
        assert_eq!(group.batch(3), put(&[3], &[3; 40]));
    }

    #[test]
    fn an_update_sees_the_newest_staged_operation_on_its_key() {
        let mut group = Group::default();
        group.stage(&put(b"a", b"1"), Durability::Sync, None);
        group.stage(&put(b"b", b"2"), Durability::None, None);
        assert_eq!(group.newest(b"a"), value(b"1"));
        group.stage(&put(b"a", b"3"), Durability::Buffered, None);
        assert_eq!(group.newest(b"a"), value(b"3"));
        assert_eq!(group.newest(b"b"), value(b"2"));
        let mut gone = Vec::new();
        batch::push_tombstone(&mut gone, b"a");
        group.stage(&gone, Durability::Sync, None);
        assert_eq!(group.newest(b"a"), Some(StagedValue::Tombstone));
        assert_eq!(group.newest(b"c"), None);
    }

    /// A full device stops a group between two frames. What the first frame carried is on stable storage: it was refused
    /// with the rest, and came back at the next open although its callers had been told that it was not written.
    #[test]
    fn a_refusal_spares_what_is_on_stable_storage_and_what_was_staged_before_it() {
        let mut group = Group::default();
        group.log_applied(&put(b"applied", b"0"));
        group.stage(&put(b"logged", b"1"), Durability::Sync, None);
        group.stage(&put(b"none", b"2"), Durability::None, None);
        group.stage(&put(b"logged", b"3"), Durability::Sync, None);
        group.stage(&put(b"none", b"4"), Durability::None, None);
        group.note_durable(2);
        assert_eq!(group.newest(b"logged"), value(b"3"));
        assert_eq!(group.refuse_unlogged().len(), 2);
        assert_eq!(group.unapplied().count(), 2);
        assert_eq!(group.newest(b"logged"), value(b"1"));
        assert_eq!(group.newest(b"none"), value(b"2"));
        assert!(group.has_unapplied() && group.is_refused());
        assert!(
            group.refuse_unlogged().is_empty(),
            "a second refusal finds nobody"
        );
        assert_eq!(group.take_answers().len(), 2);
    }

    #[test]
    fn dropping_what_waits_keeps_what_is_in_the_memtable() {
        let mut group = Group::default();
        group.log_applied(&put(b"kept", b"1"));
        group.stage(&put(b"dropped", b"2"), Durability::Sync, None);
        group.stage(&put(b"dropped", b"3"), Durability::None, None);
        assert_eq!(group.drop_unapplied().len(), 2);
        assert_eq!(group.logged_batches(), 1);
        assert_eq!(group.batch(0), put(b"kept", b"1"));
        assert_eq!(group.newest(b"dropped"), None);
    }
}
