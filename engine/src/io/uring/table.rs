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
    /// Places whose file is closed and still to be taken out: the kernel had no memory for it.
    emptying: Vec<u32>,
    places: u32,
}

impl FileTable {
    /// A table of so many places.
    pub(super) fn new(places: u32) -> Self {
        Self {
            free: (0..places).rev().collect(),
            emptying: Vec::new(),
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

    /// The file of a place is closed. [`FileTable::empty`] takes it out.
    pub(super) fn closed(&mut self, place: u32) {
        self.emptying.push(place);
    }

    /// Takes out the files that are closed, by `take_out`, which says whether it could. The first that it could not ends it:
    /// there is no memory for the others either, and they are for the next time.
    pub(super) fn empty(&mut self, mut take_out: impl FnMut(u32) -> bool) {
        while let Some(place) = self.emptying.pop() {
            if !take_out(place) {
                self.emptying.push(place);
                return;
            }
            self.give_back(place);
        }
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

    /// Where the kernel had no memory to take a file out, its place was forgotten: one less for good, and it kept the file open
    /// and its blocks taken (R14).
    #[test]
    fn r14_a_place_that_could_not_be_emptied_is_emptied_later() {
        let mut table = FileTable::new(3);
        let places = [(); 3].map(|()| table.take().expect("three are free"));
        table.closed(places[0]);
        table.closed(places[1]);
        let mut asked = 0;
        table.empty(|_| {
            asked += 1;
            false
        });
        assert_eq!(
            (asked, table.in_use()),
            (1, 3),
            "what has no memory for one has none for the next"
        );
        let mut emptied = Vec::new();
        table.empty(|place| {
            emptied.push(place);
            true
        });
        emptied.sort_unstable();
        assert_eq!((emptied, table.in_use()), (places[..2].to_vec(), 1));
        table.empty(|place| unreachable!("{place} is in use"));
        assert!(table.take().is_some() && table.take().is_some() && table.take().is_none());
    }
}
