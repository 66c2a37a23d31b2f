//! Places in the kernel's table of registered files.
//!
//! A file in the table is named by its place there, and the kernel need not look its descriptor up, count it and let go of it
//! again for each transfer. Only files are registered: a place that is emptied may stay in use until what was begun on any
//! place before has ended (on kernels before 6.13), which takes a receive on a quiet connection for ever.

/// Files that are registered at once on a core: the tables and segments of a database of ordinary size. Those beyond are
/// used by their descriptors.
pub(super) const REGISTERED_FILES: u32 = 1024;

/// Which places are free.
#[derive(Debug)]
pub(super) struct FileTable {
    free: Vec<u32>,
    places: u32,
}

impl FileTable {
    /// A table of so many places.
    pub(super) fn new(places: u32) -> Self {
        Self {
            free: (0..places).rev().collect(),
            places,
        }
    }

    /// A free place.
    pub(super) fn take(&mut self) -> Option<u32> {
        self.free.pop()
    }

    /// The place is free again.
    pub(super) fn give_back(&mut self, place: u32) {
        assert!(
            place < self.places && self.free.len() < self.places as usize,
            "it was taken"
        );
        self.free.push(place);
    }

    /// Places in use.
    pub(super) fn in_use(&self) -> usize {
        self.places as usize - self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_given_out_once_until_they_come_back() {
        let mut table = FileTable::new(2);
        assert_eq!(
            (table.take(), table.take(), table.take()),
            (Some(0), Some(1), None)
        );
        table.give_back(1);
        assert_eq!((table.in_use(), table.take()), (1, Some(1)));
    }
}
