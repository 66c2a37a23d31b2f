//! The in-memory part of a shard: one active memtable and the immutables that wait to be flushed.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use crate::memtable::Memtable;
use crate::types::{Entry, Sequence};
use crate::version::WalFloor;

/// A memtable that several readers may look into; nobody holds a borrow across an await.
pub type SharedMemtable = Rc<RefCell<Memtable>>;

/// A full memtable that takes no more writes.
#[derive(Debug)]
pub struct Immutable {
    /// Its entries.
    pub memtable: SharedMemtable,
    /// The first frame that is still needed once this memtable is a table. Unknown until the group that was gathering
    /// at the rotation has been logged as far as this memtable's entries go.
    pub floor: Cell<Option<WalFloor>>,
    /// Whether it holds entries that are in no WAL, so that only its flush makes them durable.
    pub unlogged: bool,
}

/// The memtables of a shard.
#[derive(Debug, Default)]
pub struct Memory {
    active: RefCell<SharedMemtable>,
    /// Newest first.
    immutables: RefCell<VecDeque<Rc<Immutable>>>,
    /// Whether the active memtable holds entries that are in no WAL.
    unlogged: Cell<bool>,
    /// Rotations and retirements so far: a flush waits until the second has reached what the first was.
    rotated: Cell<u64>,
    retired: Cell<u64>,
    /// How many scans are under way.
    scans: Rc<Cell<usize>>,
}

/// A scan of the memtables, as long as it is under way: what was there when it began is not forgotten meanwhile.
#[derive(Debug)]
pub struct Scanning(Rc<Cell<usize>>);

impl Drop for Scanning {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Memory {
    /// The memtable that takes writes.
    pub fn active(&self) -> SharedMemtable {
        Rc::clone(&self.active.borrow())
    }

    /// How full the memtable that takes writes is, in bytes. What it holds is more: its first chunk alone may be larger
    /// than all that is in it.
    pub fn active_used_bytes(&self) -> usize {
        self.active.borrow().borrow().used_bytes()
    }

    /// Bytes held by the memtable that takes writes.
    pub fn active_bytes(&self) -> usize {
        self.active.borrow().borrow().bytes()
    }

    /// Whether the memtable that takes writes is empty.
    pub fn active_is_empty(&self) -> bool {
        self.active.borrow().borrow().is_empty()
    }

    /// Every memtable, newest first.
    pub fn newest_first(&self) -> Vec<SharedMemtable> {
        let mut all = vec![self.active()];
        all.extend(
            self.immutables
                .borrow()
                .iter()
                .map(|immutable| Rc::clone(&immutable.memtable)),
        );
        all
    }

    /// Says that a scan begins.
    pub fn scan(&self) -> Scanning {
        self.scans.set(self.scans.get() + 1);
        Scanning(Rc::clone(&self.scans))
    }

    /// How many scans are under way.
    pub fn scans(&self) -> usize {
        self.scans.get()
    }

    /// Number of immutables.
    pub fn immutables(&self) -> usize {
        self.immutables.borrow().len()
    }

    /// Bytes held by immutables.
    pub fn immutable_bytes(&self) -> usize {
        self.immutables
            .borrow()
            .iter()
            .map(|immutable| immutable.memtable.borrow().bytes())
            .sum()
    }

    /// The immutable to flush next.
    pub fn oldest_immutable(&self) -> Option<Rc<Immutable>> {
        self.immutables.borrow().back().map(Rc::clone)
    }

    /// Turns the active memtable into the newest immutable and starts an empty one.
    pub fn rotate(&self) -> Rc<Immutable> {
        let full = std::mem::take(&mut *self.active.borrow_mut());
        let unlogged = self.unlogged.replace(false);
        let immutable = Rc::new(Immutable {
            memtable: full,
            floor: Cell::new(None),
            unlogged,
        });
        self.immutables.borrow_mut().push_front(Rc::clone(&immutable));
        self.rotated.set(self.rotated.get() + 1);
        immutable
    }

    /// Forgets an immutable that is a table now.
    ///
    /// # Panics
    /// If it is not the oldest: tables are made in the order of the memtables.
    pub fn retire(&self, flushed: &Rc<Immutable>) {
        let oldest = self.immutables.borrow_mut().pop_back();
        assert!(
            oldest.is_some_and(|o| Rc::ptr_eq(&o, flushed)),
            "the oldest immutable is flushed first"
        );
        self.retired.set(self.retired.get() + 1);
    }

    /// Says that the active memtable holds entries that only a flush makes durable.
    pub fn note_unlogged(&self) {
        self.unlogged.set(true);
    }

    /// Whether any memtable does.
    pub fn has_unlogged(&self) -> bool {
        self.unlogged.get()
            || self
                .immutables
                .borrow()
                .iter()
                .any(|immutable| immutable.unlogged)
    }

    /// Memtables rotated out so far.
    pub fn rotated(&self) -> u64 {
        self.rotated.get()
    }

    /// Of those, how many are tables now.
    pub fn retired(&self) -> u64 {
        self.retired.get()
    }

    /// Looks a key up in every memtable, newest first, and hands what it finds to `f`; `None` if none knows the key.
    pub fn get<R>(&self, key: &[u8], at: Sequence, f: impl FnOnce(Entry<'_>) -> R) -> Option<R> {
        {
            let active = self.active.borrow();
            let active = active.borrow();
            if let Some(entry) = active.get(key, at) {
                return Some(f(entry));
            }
        }
        for immutable in &*self.immutables.borrow() {
            let memtable = immutable.memtable.borrow();
            if let Some(entry) = memtable.get(key, at) {
                return Some(f(entry));
            }
        }
        None
    }
}
