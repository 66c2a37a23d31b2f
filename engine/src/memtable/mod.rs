//! The memtable: the newest entries of a shard, sorted, in memory.
//!
//! Entries are copied once into an append-only `arena`; a B+tree of their 32-bit addresses (`tree`, `node`) keeps
//! them in internal order: keys ascending, and of one key the newest first. Nothing is removed but a version that a newer
//! one takes the place of, where nobody reads the older any more ([`Memtable::insert_over`]): keys that are written again and
//! again do not make the tree deeper, nor a read go farther. A full memtable becomes an immutable, is written out as a
//! table, and is dropped whole.
//!
//! An entry whose sequence is not known yet may be [prepared](Memtable::prepare): copied in, and in no index until it is
//! inserted.
//!
//! One core owns it. Writing takes `&mut`, reading `&`, and there are no atomics. A [`Position`] borrows nothing, so a
//! scan may be left and resumed across later inserts.
//!
//! Chosen by measurement (`cargo bench -p corelane --bench memtable`, 2026-11-21, 2 cores of an AMD EPYC under other
//! load, so CPU time; best of two runs at 150 k, one at 1 M). Nanoseconds an operation with 400-byte values, copying
//! included: random 16-byte keys / random ids behind 17 shared bytes / the same ids ascending.
//!
//! ```text
//! entries  structure            insert              get, hit            get, miss           scan
//! 150 k    this one              500/ 269/ 178       675/ 584/ 515       250/ 228/ 247      128/121/ 24
//!          BTreeMap              829/1129/ 341       855/ 995/ 917       961/1025/ 785       27/ 34/ 28
//!          crossbeam-skiplist   2930/2525/ 480      2435/1791/1835      2123/1574/2044      210/171/ 59
//!          arena skip list       624/1783/ 312      2108/2076/2171      1431/2172/1787      159/130/ 36
//! 1 M      this one              771/ 525/ 203       964/1328/1247       493/ 729/ 703      187/188/ 29
//!          BTreeMap             2154/2127/ 395      2246/1878/1838      2217/1557/2087       58/ 43/ 34
//!          crossbeam-skiplist   6150/6827/ 424      4714/4390/3860      4615/4998/3633      368/326/ 64
//!          arena skip list      3472/5007/ 350      5020/8635/5914      5592/7723/6845      279/329/ 41
//! ```
//!
//! In quieter minutes hits of random keys at 150 k took 400 to 430 ns. A large part of what is left of an insert is
//! the first touch of fresh pages. Nodes of 32 slots were slower at both; nodes of 128 read a little faster and
//! inserted slower.

mod arena;
mod node;
mod pool;
mod prefetch;
#[cfg(test)]
mod tests;
mod tree;

use crate::types::{
    Entry, Kind, MAX_KEY_BYTES, MAX_SEQUENCE, MAX_VALUE_BYTES, Sequence, pack_trailer, unpack_trailer,
};

use arena::{Address, Arena, Target};
use tree::{Path, Place, Tree};

/// The sequence in the trailer of an entry that is prepared: one that nothing is committed at, so it tells the entry from
/// one that was inserted.
const NO_SEQUENCE: Sequence = 0;

/// The newest entries of one shard, in internal order. See the [module](self).
#[derive(Debug, Default)]
pub struct Memtable {
    arena: Arena,
    tree: Tree,
    entries: usize,
    /// Smallest and largest sequence; `None` while empty.
    sequences: Option<(Sequence, Sequence)>,
}

/// A place in a memtable: at an entry, or at the end. A walk backwards ends before the first entry, which is the end too.
///
/// It belongs to the memtable that made it: another panics at it or shows some other entry. It stays usable across
/// later inserts: it stays at its entry, and a walk from it, either way, meets every entry that lies ahead of it, those
/// inserted meanwhile included. The end stays the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The entry here; `None` at the end.
    record: Option<Address>,
    /// Where the tree held it when it was last looked up; checked before it is used.
    place: Place,
}

/// An entry that was copied into a memtable and is not in it yet: no read, scan, walk or count meets it.
///
/// It belongs to the memtable that made it, which inserts it once ([`Memtable::insert_prepared`]), so it cannot be copied.
/// One that is dropped instead is never seen; its bytes stay used until the memtable goes.
#[derive(Debug)]
pub struct Prepared {
    record: Address,
    /// The leaf of the index that it would have gone to. Others may be between by the time that it goes.
    leaf: u32,
}

impl Memtable {
    /// An empty memtable: 13 KiB of index and no chunk yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an entry, copying `key` and `value`.
    ///
    /// # Panics
    /// If there is an entry of this key and sequence already, if `key` or `sequence` exceeds its limit, if the kind does
    /// not [admit](Kind::admits) the value, or if the arena's addresses are used up (after 4 GiB at the least).
    pub fn insert(&mut self, key: &[u8], sequence: Sequence, kind: Kind, value: &[u8]) {
        self.add(key, sequence, kind, value, false);
    }

    /// As [`Memtable::insert`], and forgets the version of the key that was the newest below it, which no read may want any
    /// more. Where that is in another node of the index it stays.
    ///
    /// # Panics
    /// As there.
    pub fn insert_over(&mut self, key: &[u8], sequence: Sequence, kind: Kind, value: &[u8]) {
        self.add(key, sequence, kind, value, true);
    }

    /// Does what an insert can do before its sequence is known, and costs most: copies `key` and `value` in, and finds the
    /// leaf that [`Memtable::insert_prepared`] will nearly always go to.
    ///
    /// # Panics
    /// If `key` exceeds its limit, if the kind does not [admit](Kind::admits) the value, or if the arena's addresses are
    /// used up.
    pub fn prepare(&mut self, key: &[u8], kind: Kind, value: &[u8]) -> Prepared {
        check_limits(key, kind, value);
        // A new version goes before all others of its key.
        let path = self.tree.descend(&self.arena, seek_target(key, MAX_SEQUENCE));
        let record = self.arena.append(pack_trailer(NO_SEQUENCE, kind), key, value);
        let leaf = path.leaf();
        Prepared { record, leaf }
    }

    /// The key of an entry that is prepared.
    pub fn prepared_key(&self, prepared: &Prepared) -> &[u8] {
        self.arena.key(prepared.record)
    }

    /// Inserts what was prepared, as [`Memtable::insert_over`] does if `over`, else as [`Memtable::insert`].
    ///
    /// # Panics
    /// If there is an entry of this key and sequence already, if `sequence` is 0 or exceeds its limit, or if the entry was
    /// inserted already.
    pub fn insert_prepared(&mut self, prepared: Prepared, sequence: Sequence, over: bool) {
        let Prepared { record, leaf } = prepared;
        let (placeholder, kind) =
            unpack_trailer(self.arena.trailer(record)).expect("prepare packed a kind this version knows");
        assert!(
            placeholder == NO_SEQUENCE,
            "a prepared entry is inserted once, and this one is at {placeholder}"
        );
        assert!(sequence > NO_SEQUENCE, "nothing is committed at {NO_SEQUENCE}");
        let trailer = pack_trailer(sequence, kind);
        let path = self.way(self.arena.key(record), sequence, Some(leaf));
        self.arena.set_trailer(record, trailer);
        self.link(&path, record, sequence, over);
    }

    fn add(&mut self, key: &[u8], sequence: Sequence, kind: Kind, value: &[u8], over: bool) {
        check_limits(key, kind, value);
        let trailer = pack_trailer(sequence, kind);
        let path = self.way(key, sequence, None);
        let record = self.arena.append(trailer, key, value);
        self.link(&path, record, sequence, over);
    }

    /// The way to where an entry of this key and sequence goes, perhaps by a leaf that it is likely to go to.
    fn way(&self, key: &[u8], sequence: Sequence, leaf: Option<u32>) -> Path {
        // The least trailer of this sequence: an entry that already has it sorts at or before it, whatever its kind.
        let least = pack_trailer(sequence, Kind::Tombstone);
        let target = Target { key, trailer: least };
        let near = leaf.and_then(|leaf| self.tree.step_into(&self.arena, leaf, target));
        let path = near.unwrap_or_else(|| self.tree.descend(&self.arena, target));
        if let Some(before) = self.tree.before(&path, key) {
            let same = self.arena.trailer(before) >> 8 == sequence && self.arena.key(before) == key;
            assert!(
                !same,
                "sequence {sequence} of this key is in the memtable already"
            );
        }
        path
    }

    /// Enters a record, which has its trailer, into the index where `path` ends.
    fn link(&mut self, path: &Path, record: Address, sequence: Sequence, over: bool) {
        if !over || !self.tree.replace(&self.arena, path, record) {
            self.tree.insert(&self.arena, path, record);
            self.entries += 1;
        }
        let (low, high) = self.sequences.unwrap_or((sequence, sequence));
        self.sequences = Some((low.min(sequence), high.max(sequence)));
    }

    /// The newest entry of `key` that a read at `at` sees, a tombstone included; `None` if the memtable has none.
    pub fn get(&self, key: &[u8], at: Sequence) -> Option<Entry<'_>> {
        let record = self.tree.find(&self.arena, seek_target(key, at))?;
        let entry = self.arena.entry(record);
        (entry.key == key).then_some(entry)
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// Memory held in bytes: the arena's chunks and the index, with the room in them that is not used yet.
    pub fn bytes(&self) -> usize {
        self.arena.bytes() + self.tree.bytes()
    }

    /// Bytes of its entries, those included that are only prepared, and their index, without the room held for more: what
    /// says how full it is.
    pub fn used_bytes(&self) -> usize {
        self.arena.used_bytes() + self.tree.used_bytes()
    }

    /// The smallest sequence of any entry there was; `None` while empty.
    pub fn smallest_sequence(&self) -> Option<Sequence> {
        self.sequences.map(|(low, _)| low)
    }

    /// The largest sequence of any entry; `None` while empty.
    pub fn largest_sequence(&self) -> Option<Sequence> {
        self.sequences.map(|(_, high)| high)
    }

    /// The position of the first entry in internal order; the end if there is none.
    pub fn first(&self) -> Position {
        self.position(self.tree.first())
    }

    /// The position of the first entry at or after `(key, at)` in internal order: the newest of `key` that a read at
    /// `at` sees, else the first of the keys above.
    pub fn seek(&self, key: &[u8], at: Sequence) -> Position {
        self.position(self.tree.seek(&self.arena, seek_target(key, at)))
    }

    /// The position of the last entry in internal order; the end if there is none.
    pub fn last(&self) -> Position {
        self.position_or_end(self.tree.last())
    }

    /// The position of the last entry in internal order whose key is below `key`: the oldest version of the largest of
    /// those keys. The end if there is none.
    pub fn seek_below(&self, key: &[u8]) -> Position {
        // What sorts just before every version of `key` sorts behind every version of the keys below it.
        self.position_or_end(self.tree.seek_back(&self.arena, seek_target(key, MAX_SEQUENCE)))
    }

    /// The entry at `position`; `None` at the end.
    pub fn entry(&self, position: &Position) -> Option<Entry<'_>> {
        position.record.map(|record| self.arena.entry(record))
    }

    /// Moves `position` to the next entry in internal order. At the end it stays.
    pub fn next(&self, position: &mut Position) {
        if let Some(record) = position.record {
            *position = self.position(self.tree.after(&self.arena, record, position.place));
        }
    }

    /// Moves `position` to the entry before it in internal order: a newer version of its key, or the oldest of the key
    /// below. From the first entry it moves to the end, and there it stays.
    pub fn previous(&self, position: &mut Position) {
        if let Some(record) = position.record {
            *position = self.position_or_end(self.tree.ahead(&self.arena, record, position.place));
        }
    }

    fn position_or_end(&self, place: Option<Place>) -> Position {
        match place {
            Some(place) => self.position(place),
            None => Position {
                record: None,
                place: self.tree.first(),
            },
        }
    }

    fn position(&self, place: Place) -> Position {
        Position {
            record: self.tree.record(place),
            place,
        }
    }
}

fn check_limits(key: &[u8], kind: Kind, value: &[u8]) {
    assert!(
        key.len() <= MAX_KEY_BYTES,
        "a key has at most {MAX_KEY_BYTES} bytes"
    );
    assert!(
        kind != Kind::Tombstone || value.is_empty(),
        "a tombstone has no value"
    );
    assert!(
        kind.admits(value.len()),
        "a value has at most {MAX_VALUE_BYTES} bytes, behind its time if it ends"
    );
}

/// What sorts just before every entry of `key` that a read at `at` sees. No stored kind is 255, so nothing equals it.
fn seek_target(key: &[u8], at: Sequence) -> Target<'_> {
    Target {
        key,
        trailer: (at.min(MAX_SEQUENCE) << 8) | 0xff,
    }
}
