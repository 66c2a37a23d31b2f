//! What a read at a sequence sees of a merged stream: of each key the newest version not above that sequence, unless it
//! is a tombstone.

use crate::types::{Entry, Kind, Sequence};

/// What an entry is to the reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sight {
    /// It is the value of its key.
    Show,
    /// It was written after the reader's sequence.
    TooNew,
    /// A newer version that the reader sees came before it.
    Shadowed,
    /// It says that its key is not there.
    Deleted,
}

/// Entries passed over, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Passed {
    /// Written after the reader's sequence.
    pub too_new: u64,
    /// Hidden by a newer version.
    pub shadowed: u64,
    /// Tombstones.
    pub deleted: u64,
}

/// Judges a stream in internal order, entry by entry, forwards.
#[derive(Debug)]
pub struct Visible {
    sequence: Sequence,
    key: Vec<u8>,
    /// Whether `key` is settled: set by the first visible entry of all.
    settled: bool,
    passed: Passed,
}

impl Visible {
    /// For a reader that sees everything up to `sequence`, inclusive.
    pub fn new(sequence: Sequence) -> Self {
        Self {
            sequence,
            key: Vec::new(),
            settled: false,
            passed: Passed::default(),
        }
    }

    /// What `entry`, the next one of the stream, is to the reader.
    pub fn judge(&mut self, entry: &Entry<'_>) -> Sight {
        if entry.sequence > self.sequence {
            self.passed.too_new += 1;
            return Sight::TooNew;
        }
        if self.settled && self.key == entry.key {
            self.passed.shadowed += 1;
            return Sight::Shadowed;
        }
        self.key.clear();
        self.key.extend_from_slice(entry.key);
        self.settled = true;
        if entry.kind == Kind::Tombstone {
            self.passed.deleted += 1;
            return Sight::Deleted;
        }
        Sight::Show
    }

    /// Forgets where it was, before a stream that was repositioned. Counts go on.
    pub fn restart(&mut self) {
        self.settled = false;
    }

    /// What was passed over so far.
    pub fn passed(&self) -> Passed {
        self.passed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(visible: &mut Visible, key: &[u8], sequence: Sequence, kind: Kind) -> Sight {
        visible.judge(&Entry {
            key,
            sequence,
            kind,
            value: b"",
        })
    }

    #[test]
    fn a_reader_sees_the_newest_version_not_above_its_sequence() {
        let mut visible = Visible::new(7);
        assert_eq!(judge(&mut visible, b"a", 9, Kind::Put), Sight::TooNew);
        assert_eq!(judge(&mut visible, b"a", 7, Kind::Put), Sight::Show);
        assert_eq!(judge(&mut visible, b"a", 5, Kind::Put), Sight::Shadowed);
        assert_eq!(judge(&mut visible, b"b", 6, Kind::Tombstone), Sight::Deleted);
        assert_eq!(judge(&mut visible, b"b", 5, Kind::Put), Sight::Shadowed);
        assert_eq!(judge(&mut visible, b"c", 8, Kind::Tombstone), Sight::TooNew);
        assert_eq!(judge(&mut visible, b"c", 1, Kind::Put), Sight::Show);
        let passed = Passed {
            too_new: 2,
            shadowed: 2,
            deleted: 1,
        };
        assert_eq!(visible.passed(), passed);
    }

    #[test]
    fn the_empty_key_is_a_key_and_a_restart_forgets_it() {
        let mut visible = Visible::new(7);
        assert_eq!(judge(&mut visible, b"", 3, Kind::Put), Sight::Show);
        assert_eq!(judge(&mut visible, b"", 2, Kind::Put), Sight::Shadowed);
        visible.restart();
        assert_eq!(judge(&mut visible, b"", 3, Kind::Put), Sight::Show);
    }
}
