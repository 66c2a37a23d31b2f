//! Of a stream that runs backwards, each key's newest version that a reader can see.
//!
//! Backwards the versions of a key come oldest first, so which of them the reader sees is known only when the next key
//! comes. Until then the newest one met is held, as a copy: its source has gone on by then. It is handed out once per key,
//! and what it says (a value, a tombstone) is judged as in a stream that runs forwards ([`super::Visible`]). LevelDB's
//! `DBIter::FindPrevUserEntry` keeps a saved entry in the same way.

use crate::types::{Entry, Kind, Sequence};

/// What became of an entry that was offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// It is held now, or was written after the reader's sequence; the next one may come.
    Taken,
    /// It is of another key than the one held: [`Latest::held`] is settled. Deal with that, [`Latest::release`] it, and
    /// offer the entry again.
    Settled,
}

/// Finds the newest visible version of each key. See the [module](self).
#[derive(Debug)]
pub struct Latest {
    sequence: Sequence,
    holds: bool,
    key: Vec<u8>,
    value: Vec<u8>,
    held_sequence: Sequence,
    kind: Kind,
}

impl Latest {
    /// For a reader that sees everything up to `sequence`, inclusive.
    pub fn new(sequence: Sequence) -> Self {
        Self {
            sequence,
            holds: false,
            key: Vec::new(),
            value: Vec::new(),
            held_sequence: 0,
            kind: Kind::Tombstone,
        }
    }

    /// Looks at the next entry of the stream.
    pub fn offer(&mut self, entry: &Entry<'_>) -> Offer {
        if self.holds && self.key != entry.key {
            return Offer::Settled;
        }
        if entry.sequence <= self.sequence {
            if !self.holds {
                self.key.clear();
                self.key.extend_from_slice(entry.key);
                self.holds = true;
            }
            self.value.clear();
            self.value.extend_from_slice(entry.value);
            (self.held_sequence, self.kind) = (entry.sequence, entry.kind);
        }
        Offer::Taken
    }

    /// The newest visible version, so far, of the key that the stream is at; settled once another key was offered or the
    /// stream has ended.
    pub fn held(&self) -> Option<Entry<'_>> {
        self.holds.then_some(Entry {
            key: &self.key,
            sequence: self.held_sequence,
            kind: self.kind,
            value: &self.value,
        })
    }

    /// Lets go of what is held.
    pub fn release(&mut self) {
        self.holds = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a reader at `at` is left with of a stream that runs backwards.
    fn settled(at: Sequence, stream: &[(&[u8], Sequence, Kind)]) -> Vec<(Vec<u8>, Sequence, Kind)> {
        let mut latest = Latest::new(at);
        let mut out = Vec::new();
        let mut take = |latest: &mut Latest| {
            out.extend(latest.held().map(|e| (e.key.to_vec(), e.sequence, e.kind)));
            latest.release();
        };
        for &(key, sequence, kind) in stream {
            let value = sequence.to_be_bytes();
            let value: &[u8] = if kind == Kind::Put { &value } else { &[] };
            let entry = Entry {
                key,
                sequence,
                kind,
                value,
            };
            if latest.offer(&entry) == Offer::Settled {
                take(&mut latest);
                assert_eq!(latest.offer(&entry), Offer::Taken);
            }
            if sequence <= at {
                assert_eq!(latest.held(), Some(entry), "the newest so far, whole");
            }
        }
        take(&mut latest);
        out
    }

    #[test]
    fn of_each_key_the_newest_version_not_above_the_reader_is_left() {
        use Kind::{Put, Tombstone};
        let stream: &[(&[u8], Sequence, Kind)] = &[
            (b"c", 1, Put),
            (b"c", 8, Tombstone),
            (b"b", 5, Put),
            (b"b", 6, Tombstone),
            (b"a", 5, Put),
            (b"a", 7, Put),
            (b"a", 9, Put),
            (b"", 3, Put),
        ];
        let expected = [
            (b"c".to_vec(), 1, Put),
            (b"b".to_vec(), 6, Tombstone),
            (b"a".to_vec(), 7, Put),
            (Vec::new(), 3, Put),
        ];
        assert_eq!(settled(7, stream), expected);
        assert_eq!(settled(0, stream), []);
        assert_eq!(settled(9, stream)[0], (b"c".to_vec(), 8, Tombstone));
    }

    #[test]
    fn a_key_that_is_all_too_new_leaves_nothing_and_hides_nothing() {
        let stream: &[(&[u8], Sequence, Kind)] =
            &[(b"b", 8, Kind::Put), (b"a", 2, Kind::Put), (b"", 9, Kind::Put)];
        assert_eq!(settled(5, stream), [(b"a".to_vec(), 2, Kind::Put)]);
    }
}
