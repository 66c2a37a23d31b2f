//! What a read at a sequence sees of a merged stream: of each key the newest version not above that sequence, unless it
//! is a tombstone or has expired. Expiry goes by the clock, not by the sequence: a snapshot keeps no value beyond its time.

use crate::types::{Entry, Sequence, is_expired};

/// What an entry is to the reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sight<'a> {
    /// It is the value of its key: this one.
    Show(&'a [u8]),
    /// It was written after the reader's sequence.
    TooNew,
    /// A newer version that the reader sees came before it.
    Shadowed,
    /// It says that its key is not there.
    Deleted,
    /// Its key was there up to a time that has passed.
    Expired,
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
    /// Values whose time has passed.
    pub expired: u64,
}

/// Judges a stream in internal order, entry by entry, forwards.
#[derive(Debug)]
pub struct Visible {
    sequence: Sequence,
    now_ms: u64,
    key: Vec<u8>,
    /// Whether `key` is settled: set by the first visible entry of all.
    settled: bool,
    passed: Passed,
    latest_expired_ms: Option<u64>,
}

impl Visible {
    /// For a reader that sees everything up to `sequence`, inclusive, at `now_ms` (since the Unix epoch).
    pub fn new(sequence: Sequence, now_ms: u64) -> Self {
        Self {
            sequence,
            now_ms,
            key: Vec::new(),
            settled: false,
            passed: Passed::default(),
            latest_expired_ms: None,
        }
    }

    /// What `entry`, the next one of the stream, is to the reader.
    pub fn judge<'a>(&mut self, entry: &Entry<'a>) -> Sight<'a> {
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
        let Some(content) = entry.content() else {
            self.passed.deleted += 1;
            return Sight::Deleted;
        };
        if let Some(expires_ms) = content.expires_ms
            && is_expired(expires_ms, self.now_ms)
        {
            self.passed.expired += 1;
            self.latest_expired_ms = self.latest_expired_ms.max(Some(expires_ms));
            return Sight::Expired;
        }
        Sight::Show(content.value)
    }

    /// Forgets where it was, before a stream that was repositioned. Counts go on.
    pub fn restart(&mut self) {
        self.settled = false;
    }

    /// The latest end of a value that was passed over because it had ended, in ms since the Unix epoch.
    pub fn latest_expired_ms(&self) -> Option<u64> {
        self.latest_expired_ms
    }

    /// What was passed over so far.
    pub fn passed(&self) -> Passed {
        self.passed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Kind;

    fn judge<'a>(visible: &mut Visible, key: &'a [u8], sequence: Sequence, kind: Kind) -> Sight<'a> {
        visible.judge(&Entry {
            key,
            sequence,
            kind,
            value: b"",
        })
    }

    #[test]
    fn a_reader_sees_the_newest_version_not_above_its_sequence() {
        let mut visible = Visible::new(7, 100);
        assert_eq!(judge(&mut visible, b"a", 9, Kind::Put), Sight::TooNew);
        assert_eq!(judge(&mut visible, b"a", 7, Kind::Put), Sight::Show(b""));
        assert_eq!(judge(&mut visible, b"a", 5, Kind::Put), Sight::Shadowed);
        assert_eq!(judge(&mut visible, b"b", 6, Kind::Tombstone), Sight::Deleted);
        assert_eq!(judge(&mut visible, b"b", 5, Kind::Put), Sight::Shadowed);
        assert_eq!(judge(&mut visible, b"c", 8, Kind::Tombstone), Sight::TooNew);
        assert_eq!(judge(&mut visible, b"c", 1, Kind::Put), Sight::Show(b""));
        let passed = Passed {
            too_new: 2,
            shadowed: 2,
            deleted: 1,
            expired: 0,
        };
        assert_eq!(visible.passed(), passed);
    }

    #[test]
    fn a_value_beyond_its_time_is_not_there_and_hides_what_is_older() {
        let mut visible = Visible::new(7, 100);
        for (key, expires_ms, sight) in [
            (b"a", 99, Sight::Expired),
            (b"b", 100, Sight::Show(b"v")),
            (b"c", u64::MAX, Sight::Show(b"v")),
        ] {
            let stored = [&u64::to_le_bytes(expires_ms)[..], b"v"].concat();
            let entry = Entry {
                key,
                sequence: 5,
                kind: Kind::PutUntil,
                value: &stored,
            };
            assert_eq!(visible.judge(&entry), sight);
            assert_eq!(judge(&mut visible, key, 4, Kind::Put), Sight::Shadowed);
        }
        assert_eq!(visible.passed().expired, 1);
        assert_eq!(visible.latest_expired_ms(), Some(99));
    }

    #[test]
    fn the_empty_key_is_a_key_and_a_restart_forgets_it() {
        let mut visible = Visible::new(7, 100);
        assert_eq!(judge(&mut visible, b"", 3, Kind::Put), Sight::Show(b""));
        assert_eq!(judge(&mut visible, b"", 2, Kind::Put), Sight::Shadowed);
        visible.restart();
        assert_eq!(judge(&mut visible, b"", 3, Kind::Put), Sight::Show(b""));
    }
}
