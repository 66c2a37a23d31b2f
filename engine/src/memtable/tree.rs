//! The index: a B+tree of record addresses in internal order.
//!
//! Leaves hold every record and are linked to both sides. An inner node's slot `i` holds the least record of the
//! subtree `children[i]` as it was when that subtree split off; the arena keeps every record, so a separator is simply
//! the address of one, in the tree or [replaced](Tree::replace) meanwhile. Slot 0 stands for "everything below slot 1", so records below its own may come in there.
//! Leaf 0 is always the leftmost: a split leaves the lower half in place.

use super::arena::{Address, Arena, Target};
use super::node::{SLOTS, Slots};
use super::pool::Pool;

/// The most inner levels. Two splits of a node take more than sixteen inserts into it (see `node::RUN_INSERTS`), so a
/// level has at most an eighth of the nodes below it, and twelve reach past the 2^32 addresses of records.
const MAX_HEIGHT: usize = 12;

/// The neighbour of a leaf that has none on that side.
const NO_LEAF: u32 = u32::MAX;

// Cache lines start with it, and so do those of its heads.
#[derive(Debug)]
#[repr(C, align(64))]
struct Leaf {
    slots: Slots,
    /// The leaf to the right, or [`NO_LEAF`].
    next: u32,
    /// The leaf to the left, or [`NO_LEAF`].
    previous: u32,
    /// Goes up whenever slots move.
    changes: u32,
}

#[derive(Debug)]
#[repr(C, align(64))]
struct Inner {
    slots: Slots,
    children: [u32; SLOTS],
}

/// A slot of a leaf, with the leaf's `changes` when it was looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    leaf: u32,
    slot: usize,
    changes: u32,
}

/// The way from the root to where a target belongs.
#[derive(Debug)]
pub(super) struct Path {
    /// Inner nodes from the root down, each with the slot of the child taken.
    inner: [(u32, usize); MAX_HEIGHT],
    /// Whether they are known: a way [into a leaf](Tree::step_into) has none.
    from_root: bool,
    leaf: u32,
    /// How many records of the leaf are at or before the target.
    rank: usize,
}

impl Path {
    /// The leaf that it ends at.
    pub(super) fn leaf(&self) -> u32 {
        self.leaf
    }

    /// How many records of that leaf are at or before the target.
    #[cfg(test)]
    pub(super) fn rank(&self) -> usize {
        self.rank
    }
}

/// The tree. It does not own the records: every call gets the arena they are in.
#[derive(Debug)]
pub(super) struct Tree {
    leaves: Pool<Leaf>,
    inners: Pool<Inner>,
    /// The inner node at the top, if there is one; else leaf 0 is the root.
    root: u32,
    /// Inner levels above the leaves.
    height: usize,
}

impl Default for Tree {
    fn default() -> Self {
        let mut leaves = Pool::default();
        leaves.push(Leaf {
            slots: Slots::default(),
            next: NO_LEAF,
            previous: NO_LEAF,
            changes: 0,
        });
        Self {
            leaves,
            inners: Pool::default(),
            root: 0,
            height: 0,
        }
    }
}

impl Inner {
    /// Puts `child`, whose least record is `separator`, in slot `index`.
    fn insert(&mut self, arena: &Arena, index: usize, separator: Address, child: u32) {
        let len = self.slots.len();
        self.slots.insert(arena, index, separator);
        self.children.copy_within(index..len, index + 1);
        self.children[index] = child;
    }

    /// Moves the children from slot `at` on into a new node.
    fn split_off(&mut self, arena: &Arena, at: usize) -> Self {
        let moved = self.slots.len() - at;
        let mut children = [0; SLOTS];
        children[..moved].copy_from_slice(&self.children[at..][..moved]);
        Self {
            slots: self.slots.split_off(arena, at),
            children,
        }
    }
}

impl Tree {
    /// Bytes of the nodes there are.
    pub(super) fn used_bytes(&self) -> usize {
        self.leaves.used_bytes() + self.inners.used_bytes()
    }

    /// Memory held, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.leaves.bytes() + self.inners.bytes()
    }

    /// The way to where `target` belongs.
    pub(super) fn descend(&self, arena: &Arena, target: Target<'_>) -> Path {
        let mut path = Path {
            inner: [(0, 0); MAX_HEIGHT],
            from_root: true,
            leaf: 0,
            rank: 0,
        };
        let mut node = self.root;
        for step in &mut path.inner[..self.height] {
            let inner = &self.inners[node];
            let taken = inner.slots.rank(arena, target).saturating_sub(1);
            *step = (node, taken);
            node = inner.children[taken];
        }
        path.leaf = node;
        path.rank = self.leaves[node].slots.rank(arena, target);
        path
    }

    /// The way to where `target` belongs, if that is between two records of this leaf and the leaf has room: then no node above
    /// it is asked, neither for the way nor by the insert. Leaves keep their numbers, and a split moves only the upper part of
    /// one away, so a leaf that another way ended at is still a good guess later.
    pub(super) fn step_into(&self, arena: &Arena, leaf: u32, target: Target<'_>) -> Option<Path> {
        let slots = &self.leaves[leaf].slots;
        if slots.is_full() {
            return None;
        }
        let rank = slots.rank(arena, target);
        (0 < rank && rank < slots.len()).then_some(Path {
            inner: [(0, 0); MAX_HEIGHT],
            from_root: false,
            leaf,
            rank,
        })
    }

    /// How many leaves there are.
    #[cfg(test)]
    pub(super) fn leaves(&self) -> u32 {
        self.leaves.count()
    }

    /// Whether the way ends between two records of a leaf with room.
    #[cfg(test)]
    pub(super) fn is_within(&self, path: &Path) -> bool {
        let slots = &self.leaves[path.leaf].slots;
        !slots.is_full() && (1..slots.len()).contains(&path.rank)
    }

    /// The last record at or before the target of `path`, if it may have that key. It is in the leaf that the path
    /// ends at, for separators are records: the path goes left of one only if the target does.
    pub(super) fn before(&self, path: &Path, key: &[u8]) -> Option<Address> {
        let slot = path.rank.checked_sub(1)?;
        self.leaves[path.leaf].slots.record_if(slot, key)
    }

    /// Puts `record`, which belongs where `path` ends, in the place of the one that follows, if that is an older version of
    /// its key and in the same leaf: then every way to the one leads to the other. Whether it did.
    pub(super) fn replace(&mut self, arena: &Arena, path: &Path, record: Address) -> bool {
        let (slots, key) = (&mut self.leaves[path.leaf].slots, arena.key(record));
        let follows = path.rank < slots.len();
        let older = follows.then(|| slots.record_if(path.rank, key)).flatten();
        let same = older.is_some_and(|older| arena.key(older) == key);
        if same {
            slots.replace(path.rank, record);
        }
        same
    }

    /// Adds `record` where `path` ends. Nothing was added since the path was taken.
    pub(super) fn insert(&mut self, arena: &Arena, path: &Path, record: Address) {
        let leaf = &mut self.leaves[path.leaf];
        leaf.changes += 1;
        if !leaf.slots.is_full() {
            leaf.slots.insert(arena, path.rank, record);
            return;
        }
        assert!(path.from_root, "a way into a leaf is for one with room");
        let at = leaf.slots.split_point(path.rank);
        let mut right = Leaf {
            slots: leaf.slots.split_off(arena, at),
            next: leaf.next,
            previous: path.leaf,
            changes: 0,
        };
        if in_left_half(path.rank, at) {
            leaf.slots.insert(arena, path.rank, record);
        } else {
            right.slots.insert(arena, path.rank - at, record);
        }
        let left_least = leaf.slots.least();
        let separator = right.slots.least();
        let beyond = leaf.next;
        let number = self.leaves.push(right);
        self.leaves[path.leaf].next = number;
        if beyond != NO_LEAF {
            self.leaves[beyond].previous = number;
        }
        self.insert_child(arena, path, left_least, separator, number);
    }

    /// Enters a leaf that split off into the inner nodes on its path, splitting those that are full.
    fn insert_child(
        &mut self,
        arena: &Arena,
        path: &Path,
        mut left_least: Address,
        mut separator: Address,
        mut child: u32,
    ) {
        for &(node, taken) in path.inner[..self.height].iter().rev() {
            let inner = &mut self.inners[node];
            if taken == 0 {
                // Slot 0 covers what came in below its record, and the new separator may be of those.
                inner.slots.lower_least(arena, left_least);
            }
            if !inner.slots.is_full() {
                inner.insert(arena, taken + 1, separator, child);
                return;
            }
            let at = inner.slots.split_point(taken + 1);
            let mut right = inner.split_off(arena, at);
            if in_left_half(taken + 1, at) {
                inner.insert(arena, taken + 1, separator, child);
            } else {
                right.insert(arena, taken + 1 - at, separator, child);
            }
            left_least = inner.slots.least();
            separator = right.slots.least();
            child = self.inners.push(right);
        }
        assert!(self.height < MAX_HEIGHT, "nodes fill before they split");
        let mut root = Inner {
            slots: Slots::default(),
            children: [0; SLOTS],
        };
        root.insert(arena, 0, left_least, if self.height == 0 { 0 } else { self.root });
        root.insert(arena, 1, separator, child);
        self.root = self.inners.push(root);
        self.height += 1;
    }

    /// The place of the first record.
    pub(super) fn first(&self) -> Place {
        self.place(0, 0)
    }

    /// The place of the first record after `target`.
    pub(super) fn seek(&self, arena: &Arena, target: Target<'_>) -> Place {
        let path = self.descend(arena, target);
        self.place(path.leaf, path.rank)
    }

    /// The first record after `target`, if it may have that key: `None` is certain.
    pub(super) fn find(&self, arena: &Arena, target: Target<'_>) -> Option<Address> {
        let path = self.descend(arena, target);
        let leaf = &self.leaves[path.leaf];
        if path.rank < leaf.slots.len() {
            return leaf.slots.record_if(path.rank, target.key);
        }
        self.record(self.place(path.leaf, path.rank))
    }

    /// The place behind that of `record`, which was at `place`.
    pub(super) fn after(&self, arena: &Arena, record: Address, place: Place) -> Place {
        if self.leaves[place.leaf].changes == place.changes {
            return self.place(place.leaf, place.slot + 1);
        }
        self.seek(
            arena,
            Target {
                key: arena.key(record),
                trailer: arena.trailer(record),
            },
        )
    }

    /// The place of the last record; `None` if there is none.
    pub(super) fn last(&self) -> Option<Place> {
        let mut node = self.root;
        for _ in 0..self.height {
            let inner = &self.inners[node];
            node = inner.children[inner.slots.len() - 1];
        }
        self.place_before(node, self.leaves[node].slots.len())
    }

    /// The place of the last record at or before `target`; `None` if all are behind it.
    pub(super) fn seek_back(&self, arena: &Arena, target: Target<'_>) -> Option<Place> {
        let path = self.descend(arena, target);
        self.place_before(path.leaf, path.rank)
    }

    /// The place ahead of that of `record`, which was at `place`; `None` if it is the first.
    pub(super) fn ahead(&self, arena: &Arena, record: Address, place: Place) -> Option<Place> {
        if self.leaves[place.leaf].changes == place.changes {
            return self.place_before(place.leaf, place.slot);
        }
        let target = Target {
            key: arena.key(record),
            trailer: arena.trailer(record),
        };
        let path = self.descend(arena, target);
        // The record itself is the last of those at or before it, and in the leaf that its own path ends at.
        self.place_before(path.leaf, path.rank - 1)
    }

    /// The record at `place`, which was just looked up; `None` behind the last.
    pub(super) fn record(&self, place: Place) -> Option<Address> {
        self.leaves[place.leaf].slots.record(place.slot)
    }

    /// The place of the slot left of `slot` of a leaf, in the leaf to its left if need be.
    fn place_before(&self, leaf: u32, slot: usize) -> Option<Place> {
        let (leaf, slot) = match slot.checked_sub(1) {
            Some(slot) => (leaf, slot),
            None => match self.leaves[leaf].previous {
                NO_LEAF => return None,
                // Only the one leaf of an empty tree is empty, and it has no neighbour.
                previous => (previous, self.leaves[previous].slots.len() - 1),
            },
        };
        Some(Place {
            leaf,
            slot,
            changes: self.leaves[leaf].changes,
        })
    }

    /// The place of slot `slot` of a leaf, or of the first slot to its right if the leaf ends there.
    fn place(&self, leaf: u32, slot: usize) -> Place {
        let next = self.leaves[leaf].next;
        let ends = slot == self.leaves[leaf].slots.len() && next != NO_LEAF;
        let (leaf, slot) = if ends { (next, 0) } else { (leaf, slot) };
        Place {
            leaf,
            slot,
            changes: self.leaves[leaf].changes,
        }
    }
}

/// Whether an insert at `index` of a node that was split at `at` goes to the left half. At the border it does, unless
/// the left half is full: then the node kept its whole content.
fn in_left_half(index: usize, at: usize) -> bool {
    index <= at && at < SLOTS
}
