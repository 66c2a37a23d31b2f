//! The words every module shares: sequences, entry kinds, internal key order, limits, durability, file names.

use std::cmp::Ordering;

/// A commit sequence: one process-wide counter, 56 bits, 0 meaning "before everything".
pub type Sequence = u64;

/// The largest sequence; a read at it sees everything published.
pub const MAX_SEQUENCE: Sequence = (1 << 56) - 1;

/// Longest key in bytes (inclusive). The empty key is a key.
pub const MAX_KEY_BYTES: usize = 64 * 1024;

/// Longest value in bytes (inclusive). The empty value is a value.
pub const MAX_VALUE_BYTES: usize = 64 * 1024 * 1024;

/// Bytes of the time that a stored value of [`Kind::PutUntil`] begins with.
pub const EXPIRY_BYTES: usize = 8;

/// Longest encoded batch in bytes: one value of the greatest length, its key, and room beside them.
pub const MAX_BATCH_BYTES: usize = 72 * 1024 * 1024;

/// The unit in which files are laid out, written and read, in bytes.
pub const PAGE_BYTES: usize = 4096;

/// What an entry says of its key. The numbers are on disk and never change their meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// The key is not there, whatever older entries say.
    Tombstone = 0,
    /// The key has this value.
    Put = 1,
    /// The key has a value up to a time. What is stored begins with that time: [`EXPIRY_BYTES`] of milliseconds since the
    /// Unix epoch, little-endian; the value follows.
    PutUntil = 2,
}

/// Kinds reserved for what comes next, so that today's readers refuse them by name:
/// 3 a range delete, 4 a value kept in a value file, 5 a merge operand, 6 a prepared batch.
pub const RESERVED_KINDS: std::ops::RangeInclusive<u8> = 3..=6;

impl Kind {
    /// The kind of this stored byte; `None` for a byte this version does not know.
    pub fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Tombstone),
            1 => Some(Self::Put),
            2 => Some(Self::PutUntil),
            _ => None,
        }
    }

    /// Whether an entry of this kind can have a stored value of so many bytes.
    #[inline]
    pub fn admits(self, stored_bytes: usize) -> bool {
        match self {
            Self::Tombstone => stored_bytes == 0,
            Self::Put => stored_bytes <= MAX_VALUE_BYTES,
            Self::PutUntil => (EXPIRY_BYTES..=MAX_VALUE_BYTES + EXPIRY_BYTES).contains(&stored_bytes),
        }
    }
}

/// Whether what ends at `expires_ms` is over at `now_ms`, both in ms since the Unix epoch. It is still there in the
/// millisecond that it ends in, as in Redis.
#[inline]
pub fn is_expired(expires_ms: u64, now_ms: u64) -> bool {
    now_ms > expires_ms
}

/// What a put says of its key: the user's value, and when it ends (ms since the Unix epoch) if it ever does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Content<'a> {
    /// The value as the user put it.
    pub value: &'a [u8],
    /// When it ends; `None` for never.
    pub expires_ms: Option<u64>,
}

impl<'a> Content<'a> {
    /// Takes a stored value of this kind apart; `None` for a tombstone.
    ///
    /// # Panics
    /// If the kind does not [admit](Kind::admits) such a value: every reader of stored bytes has checked that.
    #[inline]
    pub fn of(kind: Kind, stored: &'a [u8]) -> Option<Self> {
        match kind {
            Kind::Tombstone => None,
            Kind::Put => Some(Self {
                value: stored,
                expires_ms: None,
            }),
            Kind::PutUntil => {
                let (expires, value) = stored
                    .split_first_chunk::<EXPIRY_BYTES>()
                    .expect("a stored value of this kind was checked to begin with its time");
                Some(Self {
                    value,
                    expires_ms: Some(u64::from_le_bytes(*expires)),
                })
            }
        }
    }
}

/// Sequence and kind packed as stored: `sequence << 8 | kind`.
pub fn pack_trailer(sequence: Sequence, kind: Kind) -> u64 {
    assert!(sequence <= MAX_SEQUENCE, "a sequence fits in 56 bits");
    (sequence << 8) | kind as u64
}

/// The parts of a packed trailer; `None` where its kind is unknown to this version.
pub fn unpack_trailer(trailer: u64) -> Option<(Sequence, Kind)> {
    #[expect(clippy::cast_possible_truncation, reason = "the low byte is the kind")]
    let kind = Kind::from_byte(trailer as u8)?;
    Some((trailer >> 8, kind))
}

/// One entry as read from a memtable or an SSTable, borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The user's key.
    pub key: &'a [u8],
    /// The commit sequence of this version of the key.
    pub sequence: Sequence,
    /// What this entry says.
    pub kind: Kind,
    /// The value as stored: empty for a tombstone, behind its time for [`Kind::PutUntil`].
    pub value: &'a [u8],
}

impl<'a> Entry<'a> {
    /// What it says of its key; `None` for a tombstone.
    #[inline]
    pub fn content(&self) -> Option<Content<'a>> {
        Content::of(self.kind, self.value)
    }

    /// What says in this entry's place that its key is not there.
    pub fn tombstone(&self) -> Self {
        Self {
            kind: Kind::Tombstone,
            value: &[],
            ..*self
        }
    }

    /// The packed trailer of this entry.
    pub fn trailer(&self) -> u64 {
        pack_trailer(self.sequence, self.kind)
    }
}

/// Internal order: keys ascending by bytes, and of one key the newest sequence first.
pub fn internal_order(a: (&[u8], u64), b: (&[u8], u64)) -> Ordering {
    a.0.cmp(b.0).then(b.1.cmp(&a.1))
}

/// Which way a stream of entries runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Direction {
    /// In internal order: keys ascending, of one key the newest sequence first.
    #[default]
    Forwards,
    /// In the reverse of it: keys descending, of one key the oldest sequence first.
    Backwards,
}

impl Direction {
    /// `order`, seen by whoever walks this way.
    #[inline]
    #[must_use]
    pub fn order(self, order: Ordering) -> Ordering {
        match self {
            Self::Forwards => order,
            Self::Backwards => order.reverse(),
        }
    }
}

/// When a write is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Durability {
    /// Only once it is on stable storage. Makes every earlier `Buffered` write of its shard durable too.
    #[default]
    Sync,
    /// Once it is staged for the WAL; it is on disk within the configured bound in bytes and milliseconds.
    Buffered,
    /// Never logged: it is durable once its memtable was flushed.
    None,
}

/// The name of the SSTable with this number, inside its shard's directory.
pub fn table_file_name(number: u64) -> String {
    format!("{number:08}.sst")
}

/// The name of the WAL segment with this number, inside its shard's directory.
pub fn segment_file_name(number: u64) -> String {
    format!("{number:08}.wal")
}

/// The number in a file name made by [`table_file_name`] (`extension` "sst") or [`segment_file_name`] ("wal").
pub fn parse_numbered_name(name: &str, extension: &str) -> Option<u64> {
    let digits = name.strip_suffix(extension)?.strip_suffix('.')?;
    if digits.len() < 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trailer_keeps_both_parts_at_their_extremes() {
        for sequence in [0, 1, MAX_SEQUENCE] {
            for kind in [Kind::Tombstone, Kind::Put, Kind::PutUntil] {
                assert_eq!(
                    unpack_trailer(pack_trailer(sequence, kind)),
                    Some((sequence, kind))
                );
            }
        }
    }

    #[test]
    fn a_reserved_kind_is_not_known_yet() {
        for byte in RESERVED_KINDS {
            assert_eq!(Kind::from_byte(byte), None);
            assert_eq!(unpack_trailer((9 << 8) | u64::from(byte)), None);
        }
    }

    #[test]
    fn a_stored_value_is_taken_apart_by_its_kind() {
        let content = |kind, stored| Content::of(kind, stored).map(|c| (c.value, c.expires_ms));
        assert_eq!(content(Kind::Tombstone, b""), None);
        assert_eq!(content(Kind::Put, b"v"), Some((b"v".as_slice(), None)));
        let stored = [&513_u64.to_le_bytes()[..], b"v"].concat();
        assert_eq!(
            content(Kind::PutUntil, &stored),
            Some((b"v".as_slice(), Some(513)))
        );
        assert!(!is_expired(513, 513) && is_expired(513, 514));
        for (kind, least, most) in [
            (Kind::Tombstone, 0, 0),
            (Kind::Put, 0, MAX_VALUE_BYTES),
            (Kind::PutUntil, EXPIRY_BYTES, MAX_VALUE_BYTES + EXPIRY_BYTES),
        ] {
            assert!(kind.admits(least) && kind.admits(most) && !kind.admits(most + 1));
            assert!(least == 0 || !kind.admits(least - 1));
        }
    }

    #[test]
    fn of_one_key_the_newest_comes_first() {
        let old = (b"k".as_slice(), pack_trailer(1, Kind::Put));
        let new = (b"k".as_slice(), pack_trailer(2, Kind::Tombstone));
        assert_eq!(internal_order(new, old), Ordering::Less);
        assert_eq!(internal_order(old, (b"kk".as_slice(), 0)), Ordering::Less);
    }

    #[test]
    fn file_names_round_trip_and_strangers_are_not_ours() {
        assert_eq!(parse_numbered_name(&table_file_name(7), "sst"), Some(7));
        assert_eq!(
            parse_numbered_name(&segment_file_name(123_456_789), "wal"),
            Some(123_456_789)
        );
        for name in [
            "7.sst",
            "0000000x.sst",
            "00000007.wal",
            "manifest",
            ".sst",
            "+0000007.sst",
        ] {
            assert_eq!(parse_numbered_name(name, "sst"), None, "{name}");
        }
    }
}
