//! The version edit: what changes from one version to the next, and its encoding.
//!
//! ```text
//! part  := field*
//! field := tag varint | body length varint | body
//!
//! tag  body
//!   1  a table added:    level, number, bytes, entries, tombstones, smallest sequence, largest sequence,
//!                        keyspace (0), smallest key length, smallest key, largest key length, largest key
//!   2  a table removed:  level, number
//!   3  WAL floor:        segment, frame
//!   4  next file number
//!   5  last sequence
//!   6  continues:        empty; the edit goes on in the next part
//!  16  time:             ms since the Unix epoch; what expiry goes by is never before it. Written only by a shard that
//!                        has had values that end, so that any other is still read by programs that know no such
//!   7..=15 reserved: 7, 8 a keyspace created or dropped, 9, 10 a batch prepared or decided, 11, 12 a value file added
//!          or removed, 13 a range of slots given away
//! ```
//!
//! Every number is a varint. One part is the payload of one manifest frame. An edit too large for a frame is cut
//! between fields into several parts, each but the last ending with `continues`; it takes effect only with its last
//! part. A tag that this version does not know is refused by number: skipping it could drop data.

use std::rc::Rc;

use super::levels::LEVELS;
use super::table::TableMeta;
use crate::codec::frame::MAX_PAYLOAD_BYTES;
use crate::codec::varint;
use crate::types::{MAX_KEY_BYTES, MAX_SEQUENCE, Sequence};

const ADDED: u64 = 1;
const REMOVED: u64 = 2;
const WAL_FLOOR: u64 = 3;
const NEXT_FILE_NUMBER: u64 = 4;
const LAST_SEQUENCE: u64 = 5;
const CONTINUES: u64 = 6;
const TIME: u64 = 16;
const RESERVED: std::ops::RangeInclusive<u64> = 7..=15;

/// Encoded bytes of `continues`: its tag and an empty body.
const CONTINUES_BYTES: usize = 2;

/// The largest single field: an added table with two keys of the greatest length, ten varints beside them.
const MAX_FIELD_BYTES: usize = 2 * MAX_KEY_BYTES + 12 * varint::MAX_BYTES;

// Any field fits a part, so cutting between fields always works.
const _: () = assert!(MAX_FIELD_BYTES + CONTINUES_BYTES <= MAX_PAYLOAD_BYTES);

/// Where WAL replay starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct WalFloor {
    /// The first segment that may hold something not yet in tables.
    pub segment: u64,
    /// The first frame of the log, by number, that does; 0 for all of the segment.
    pub frame: u64,
}

/// What changes from one version to the next. A moved table is removed from one level and added at another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VersionEdit {
    /// Tables that appear, with their level.
    pub added: Vec<(u8, Rc<TableMeta>)>,
    /// Tables that go: level and number.
    pub removed: Vec<(u8, u64)>,
    /// A new start for WAL replay.
    pub wal_floor: Option<WalFloor>,
    /// The smallest file number not yet given away.
    pub next_file_number: Option<u64>,
    /// A sequence at least as large as any in tables.
    pub last_sequence: Option<Sequence>,
    /// What expiry goes by is not before this, in ms since the Unix epoch.
    pub time_ms: Option<u64>,
}

/// Why bytes are not a part of an edit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EditError {
    /// The field named is cut short, has trailing bytes, or holds an impossible number.
    Malformed(&'static str),
    /// A field whose tag this version does not know.
    UnknownTag(u64),
    /// A table of a keyspace other than 0.
    UnknownKeyspace(u64),
}

impl std::fmt::Display for EditError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Malformed(what) => write!(f, "the version edit's {what} is malformed"),
            Self::UnknownTag(tag) if RESERVED.contains(tag) => {
                write!(f, "the version edit has tag {tag}, which a newer version writes")
            }
            Self::UnknownTag(tag) => write!(f, "the version edit has the unknown tag {tag}"),
            Self::UnknownKeyspace(keyspace) => {
                write!(
                    f,
                    "the version edit has a table of keyspace {keyspace}, which a newer version writes"
                )
            }
        }
    }
}

/// One part as decoded: its fields, and whether the edit goes on in the next part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The fields of this part.
    pub edit: VersionEdit,
    /// Whether the next part belongs to the same edit.
    pub continues: bool,
}

impl VersionEdit {
    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The parts of this edit, at least one, each at most [`MAX_PAYLOAD_BYTES`].
    ///
    /// # Panics
    /// If a key is over [`MAX_KEY_BYTES`]: such a table cannot have been written.
    pub fn encode(&self) -> Vec<Vec<u8>> {
        let mut parts = vec![Vec::new()];
        for (level, table) in &self.added {
            push_field(&mut parts, ADDED, &encode_table(*level, table));
        }
        for &(level, number) in &self.removed {
            push_field(&mut parts, REMOVED, &varints(&[u64::from(level), number]));
        }
        if let Some(floor) = self.wal_floor {
            push_field(&mut parts, WAL_FLOOR, &varints(&[floor.segment, floor.frame]));
        }
        if let Some(number) = self.next_file_number {
            push_field(&mut parts, NEXT_FILE_NUMBER, &varints(&[number]));
        }
        if let Some(sequence) = self.last_sequence {
            push_field(&mut parts, LAST_SEQUENCE, &varints(&[sequence]));
        }
        if let Some(time_ms) = self.time_ms {
            push_field(&mut parts, TIME, &varints(&[time_ms]));
        }
        parts
    }

    /// Reads one part. Never panics, and allocates only what `input` itself backs.
    ///
    /// # Errors
    /// See [`EditError`].
    pub fn decode(input: &[u8]) -> Result<Part, EditError> {
        let mut rest = input;
        let mut part = Part {
            edit: Self::default(),
            continues: false,
        };
        while !rest.is_empty() {
            if part.continues {
                return Err(EditError::Malformed("field after its continuation mark"));
            }
            let tag = varint::take(&mut rest).ok_or(EditError::Malformed("tag"))?;
            let known = (ADDED..=CONTINUES).contains(&tag) || tag == TIME;
            let body = varint::take_bytes(&mut rest);
            match (known, body) {
                (false, _) => return Err(EditError::UnknownTag(tag)),
                (true, None) => return Err(EditError::Malformed("field length")),
                (true, Some(body)) => part.take_field(tag, body)?,
            }
        }
        Ok(part)
    }

    /// Adds the fields of the next part of the same edit.
    pub fn extend(&mut self, next: Self) {
        self.added.extend(next.added);
        self.removed.extend(next.removed);
        self.wal_floor = next.wal_floor.or(self.wal_floor);
        self.next_file_number = next.next_file_number.or(self.next_file_number);
        self.last_sequence = next.last_sequence.or(self.last_sequence);
        self.time_ms = next.time_ms.or(self.time_ms);
    }
}

impl Part {
    fn take_field(&mut self, tag: u64, mut body: &[u8]) -> Result<(), EditError> {
        let input = &mut body;
        let edit = &mut self.edit;
        let name = match tag {
            ADDED => {
                let (level, table) = decode_table(input)?;
                edit.added.push((level, Rc::new(table)));
                "added table"
            }
            REMOVED => {
                let removed = take_level(input).zip(varint::take(input));
                edit.removed
                    .push(removed.ok_or(EditError::Malformed("removed table"))?);
                "removed table"
            }
            WAL_FLOOR => {
                let (segment, frame) = varint::take(input)
                    .zip(varint::take(input))
                    .ok_or(EditError::Malformed("WAL floor"))?;
                set_once(&mut edit.wal_floor, WalFloor { segment, frame }, "WAL floor")?;
                "WAL floor"
            }
            NEXT_FILE_NUMBER => {
                let number = varint::take(input).ok_or(EditError::Malformed("next file number"))?;
                set_once(&mut edit.next_file_number, number, "next file number")?;
                "next file number"
            }
            LAST_SEQUENCE => {
                let sequence = varint::take(input).filter(|&sequence| sequence <= MAX_SEQUENCE);
                let sequence = sequence.ok_or(EditError::Malformed("last sequence"))?;
                set_once(&mut edit.last_sequence, sequence, "last sequence")?;
                "last sequence"
            }
            TIME => {
                let time_ms = varint::take(input).ok_or(EditError::Malformed("time"))?;
                set_once(&mut edit.time_ms, time_ms, "time")?;
                "time"
            }
            CONTINUES => {
                self.continues = true;
                "continuation mark"
            }
            unknown => return Err(EditError::UnknownTag(unknown)),
        };
        if body.is_empty() {
            Ok(())
        } else {
            Err(EditError::Malformed(name))
        }
    }
}

fn set_once<T>(field: &mut Option<T>, value: T, name: &'static str) -> Result<(), EditError> {
    match field.replace(value) {
        None => Ok(()),
        Some(_) => Err(EditError::Malformed(name)),
    }
}

fn varints(values: &[u64]) -> Vec<u8> {
    let mut out = Vec::with_capacity(values.len() * varint::MAX_BYTES);
    for &value in values {
        varint::put(&mut out, value);
    }
    out
}

/// Appends a field to the last part, or to a new one where it would not fit beside a continuation mark.
fn push_field(parts: &mut Vec<Vec<u8>>, tag: u64, body: &[u8]) {
    let field_bytes =
        varint::encoded_bytes(tag) + varint::encoded_bytes(body.len() as u64) + body.len() + CONTINUES_BYTES;
    let last = parts.last_mut().expect("an edit has at least one part");
    let fits = last.len() + field_bytes <= MAX_PAYLOAD_BYTES;
    if !fits {
        varint::put(last, CONTINUES);
        varint::put_bytes(last, &[]);
        parts.push(Vec::new());
    }
    let last = parts.last_mut().expect("an edit has at least one part");
    varint::put(last, tag);
    varint::put_bytes(last, body);
}

fn encode_table(level: u8, table: &TableMeta) -> Vec<u8> {
    assert!(
        table.smallest.len() <= MAX_KEY_BYTES && table.largest.len() <= MAX_KEY_BYTES,
        "keys are bounded"
    );
    let mut out = varints(&[
        u64::from(level),
        table.number,
        table.bytes,
        table.entries,
        table.tombstones,
        table.smallest_sequence,
        table.largest_sequence,
        u64::from(table.keyspace),
    ]);
    varint::put_bytes(&mut out, &table.smallest);
    varint::put_bytes(&mut out, &table.largest);
    assert!(
        out.len() <= MAX_FIELD_BYTES,
        "a table's field is bounded by its keys"
    );
    out
}

fn decode_table(input: &mut &[u8]) -> Result<(u8, TableMeta), EditError> {
    const BAD: EditError = EditError::Malformed("added table");
    let take = |input: &mut &[u8]| varint::take(input).ok_or(BAD);
    let level = take_level(input).ok_or(BAD)?;
    let number = take(input)?;
    let bytes = take(input)?;
    let entries = take(input)?;
    let tombstones = take(input)?;
    let smallest_sequence = take(input)?;
    let largest_sequence = take(input)?;
    let keyspace = take(input)?;
    if keyspace != 0 {
        return Err(EditError::UnknownKeyspace(keyspace));
    }
    let smallest = varint::take_bytes(input).ok_or(BAD)?.to_vec();
    let largest = varint::take_bytes(input).ok_or(BAD)?.to_vec();
    let table = TableMeta {
        number,
        bytes,
        entries,
        tombstones,
        smallest,
        largest,
        smallest_sequence,
        largest_sequence,
        keyspace: 0,
    };
    match table.flaw() {
        Some(_) => Err(BAD),
        None => Ok((level, table)),
    }
}

fn take_level(input: &mut &[u8]) -> Option<u8> {
    let level = u8::try_from(varint::take(input)?).ok()?;
    (usize::from(level) < LEVELS).then_some(level)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_edit() -> impl Strategy<Value = VersionEdit> {
        let key = proptest::collection::vec(any::<u8>(), 0..40);
        let numbers = (
            1..u64::MAX,
            any::<u64>(),
            1..u64::MAX,
            any::<u64>(),
            0..=MAX_SEQUENCE,
            0..=MAX_SEQUENCE,
        );
        let table = (0_u8..7, numbers, key.clone(), key).prop_map(|(level, numbers, a, b)| {
            let (number, bytes, entries, tombstones, s, t) = numbers;
            let table = TableMeta {
                number,
                bytes,
                entries,
                tombstones: tombstones % entries,
                smallest: a.clone().min(b.clone()),
                largest: a.max(b),
                smallest_sequence: s.min(t),
                largest_sequence: s.max(t),
                keyspace: 0,
            };
            (level, Rc::new(table))
        });
        let floor = proptest::option::of((any::<u64>(), any::<u64>()));
        (
            proptest::collection::vec(table, 0..6),
            proptest::collection::vec((0_u8..7, any::<u64>()), 0..6),
            floor,
            proptest::option::of(any::<u64>()),
            proptest::option::of(0..=MAX_SEQUENCE),
            proptest::option::of(any::<u64>()),
        )
            .prop_map(
                |(added, removed, floor, next_file_number, last_sequence, time_ms)| VersionEdit {
                    added,
                    removed,
                    wal_floor: floor.map(|(segment, frame)| WalFloor { segment, frame }),
                    next_file_number,
                    last_sequence,
                    time_ms,
                },
            )
    }

    proptest! {
        #[test]
        fn an_edit_reads_back(edit in any_edit()) {
            let parts = edit.encode();
            prop_assert_eq!(parts.len(), 1);
            prop_assert_eq!(VersionEdit::decode(&parts[0]), Ok(Part { edit, continues: false }));
        }

        #[test]
        fn r17_no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = VersionEdit::decode(&bytes);
        }

        #[test]
        fn r17_changed_and_cut_edits_do_not_either(edit in any_edit(), at in any::<usize>(), byte in any::<u8>()) {
            let mut bytes = edit.encode().remove(0);
            if !bytes.is_empty() {
                let at = at % bytes.len();
                let _ = VersionEdit::decode(&bytes[..at]);
                bytes[at] = byte;
                let _ = VersionEdit::decode(&bytes);
            }
        }
    }

    #[test]
    fn unknown_tags_are_named_and_reserved_ones_called_newer() {
        let refused = VersionEdit::decode(&[99, 0]).unwrap_err();
        assert_eq!(refused, EditError::UnknownTag(99));
        assert_eq!(refused.to_string(), "the version edit has the unknown tag 99");
        let refused = VersionEdit::decode(&[7, 0]).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "the version edit has tag 7, which a newer version writes"
        );
    }

    #[test]
    fn fields_that_repeat_trail_or_exceed_their_limits_are_refused() {
        for (bad, name) in [
            (&[4, 1, 5, 4, 1, 6][..], "next file number"),
            (&[4, 2, 5, 5], "next file number"),
            (&[4, 0], "next file number"),
            (&[16, 1, 5, 16, 1, 5], "time"),
            (&[16, 2, 5, 5], "time"),
            (&[4, 9, 1], "field length"),
            (&[0x80], "tag"),
            (&[3, 1, 5], "WAL floor"),
            (&[2, 2, 7, 1], "removed table"),
            (&[6, 1, 0], "continuation mark"),
            (&[6, 0, 4, 1, 1], "field after its continuation mark"),
            (
                &[5, 9, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
                "last sequence",
            ),
            (&[1, 10, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0], "added table"),
            (&[1, 10, 0, 1, 1, 1, 2, 0, 0, 0, 0, 0], "added table"),
        ] {
            assert_eq!(
                VersionEdit::decode(bad),
                Err(EditError::Malformed(name)),
                "{bad:?}"
            );
        }
        let keyspace = [1, 10, 0, 1, 1, 1, 0, 0, 0, 5, 0, 0];
        assert_eq!(VersionEdit::decode(&keyspace), Err(EditError::UnknownKeyspace(5)));
    }
}
