//! Where each `SCAN` goes on: numbers given to clients, and the keys they stand for.
//!
//! Redis packs a place of its hash table into the cursor. An ordered store goes on after a key, which a number cannot
//! hold, so the server keeps the key and gives out a number. The table is bounded: the oldest place goes first. A scan
//! holds at most two places, the one it goes on from and, so that a lost answer can be asked for again, the one before.

use std::collections::{BTreeMap, VecDeque};

/// Most places kept: 1,000 clients with two scans each, and as much again left behind by those that gave up.
const MAX_PLACES: usize = 8192;

/// Most bytes of their keys.
const MAX_BYTES: usize = 16 * 1024 * 1024;

#[derive(Debug)]
struct Place {
    after: Vec<u8>,
    before: Option<u64>,
}

/// The places of all scans of the process.
#[derive(Debug, Default)]
pub struct Cursors {
    places: BTreeMap<u64, Place>,
    order: VecDeque<u64>,
    bytes: usize,
    last: u64,
}

impl Cursors {
    /// The key after which the scan of this cursor goes on; `None` where the cursor was never given out or its place
    /// had to make room. The place before it is forgotten: the client has moved on.
    pub fn resume(&mut self, cursor: u64) -> Option<Vec<u8>> {
        let place = self.places.get_mut(&cursor)?;
        let after = place.after.clone();
        if let Some(before) = place.before.take() {
            self.forget(before);
        }
        Some(after)
    }

    /// A cursor that goes on after `key`, for a client that came from `before`.
    pub fn store(&mut self, key: Vec<u8>, before: Option<u64>) -> u64 {
        self.last += 1;
        let cursor = self.last;
        self.bytes += key.len();
        self.places.insert(cursor, Place { after: key, before });
        self.order.push_back(cursor);
        // `order` keeps the numbers of forgotten places until they reach its front; it is bounded like the table.
        while self.places.len() > MAX_PLACES || self.bytes > MAX_BYTES || self.order.len() > 2 * MAX_PLACES {
            let Some(oldest) = self.order.pop_front() else {
                break;
            };
            if oldest == cursor {
                self.order.push_back(cursor);
                break;
            }
            self.forget(oldest);
        }
        cursor
    }

    fn forget(&mut self, cursor: u64) {
        if let Some(place) = self.places.remove(&cursor) {
            self.bytes -= place.after.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_can_be_used_again_until_its_successor_was() {
        let mut cursors = Cursors::default();
        let first = cursors.store(b"a".to_vec(), None);
        assert_eq!(cursors.resume(first), Some(b"a".to_vec()));
        let second = cursors.store(b"b".to_vec(), Some(first));
        assert_eq!(
            cursors.resume(first),
            Some(b"a".to_vec()),
            "the answer with `second` was lost"
        );
        assert_eq!(cursors.resume(second), Some(b"b".to_vec()));
        assert_eq!(cursors.resume(first), None);
        assert_eq!(cursors.resume(77), None);
    }

    #[test]
    fn the_table_stays_within_its_bounds_and_the_newest_place_stays() {
        let mut cursors = Cursors::default();
        let mut last = 0;
        for _ in 0..3 * MAX_PLACES {
            last = cursors.store(vec![1; 10], None);
        }
        assert_eq!(cursors.places.len(), MAX_PLACES);
        for _ in 0..600 {
            last = cursors.store(vec![2; 64 * 1024], None);
        }
        assert!(cursors.bytes <= MAX_BYTES && cursors.order.len() <= 2 * MAX_PLACES);
        assert!(cursors.resume(last).is_some());
    }

    #[test]
    fn a_long_scan_holds_two_places() {
        let mut cursors = Cursors::default();
        let mut at = cursors.store(b"k".to_vec(), None);
        for _ in 0..10_000 {
            assert!(cursors.resume(at).is_some());
            at = cursors.store(b"k".to_vec(), Some(at));
            assert!(cursors.places.len() <= 2);
        }
        assert!(cursors.order.len() <= 2 * MAX_PLACES);
    }
}
