//! The state a manifest records: the version and the counters beside it.
//!
//! Counters and the time never go back. The next file number and the last sequence are raised to what the added tables prove, so
//! that no writer of an edit can forget them; the WAL floor is the writer's word alone, and going back is refused.

use super::edit::{VersionEdit, WalFloor};
use super::levels::{ApplyError, Version};
use crate::types::Sequence;

/// A version with the counters recorded beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Which tables make up the shard.
    pub version: Version,
    /// Where WAL replay starts: everything before it is in tables.
    pub wal_floor: WalFloor,
    /// The smallest file number not yet given away, as far as recorded.
    pub next_file_number: u64,
    /// No table holds a larger sequence.
    pub last_sequence: Sequence,
    /// What expiry goes by is not before this, in ms since the Unix epoch; 0 as long as there were no values that end.
    pub time_ms: u64,
}

impl Default for State {
    /// An empty shard.
    fn default() -> Self {
        Self {
            version: Version::default(),
            wal_floor: WalFloor::default(),
            next_file_number: 1,
            last_sequence: 0,
            time_ms: 0,
        }
    }
}

impl State {
    /// The state after `edit`.
    ///
    /// # Errors
    /// See [`ApplyError`]; the state itself is unchanged.
    pub fn apply(&self, edit: &VersionEdit) -> Result<Self, ApplyError> {
        let wal_floor = edit.wal_floor.unwrap_or(self.wal_floor);
        if wal_floor < self.wal_floor {
            return Err(ApplyError::FloorWentBack);
        }
        let version = self.version.apply(edit)?;
        let mut next_file_number = self.next_file_number.max(edit.next_file_number.unwrap_or(0));
        let mut last_sequence = self.last_sequence.max(edit.last_sequence.unwrap_or(0));
        for (_, table) in &edit.added {
            next_file_number = next_file_number.max(table.number.saturating_add(1));
            last_sequence = last_sequence.max(table.largest_sequence);
        }
        Ok(Self {
            version,
            wal_floor,
            next_file_number,
            last_sequence,
            time_ms: self.time_ms.max(edit.time_ms.unwrap_or(0)),
        })
    }

    /// The edit that makes this state out of an empty one: what a manifest starts with.
    pub fn snapshot(&self) -> VersionEdit {
        #[expect(clippy::cast_possible_truncation, reason = "there are seven levels")]
        let added = self
            .version
            .tables()
            .map(|(level, table)| (level as u8, table.clone()))
            .collect();
        VersionEdit {
            added,
            removed: Vec::new(),
            wal_floor: Some(self.wal_floor),
            next_file_number: Some(self.next_file_number),
            last_sequence: Some(self.last_sequence),
            time_ms: (self.time_ms > 0).then_some(self.time_ms),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::version::TableMeta;

    #[test]
    fn counters_follow_added_tables_and_never_go_back() {
        let table = TableMeta {
            number: 7,
            bytes: 1,
            entries: 1,
            tombstones: 0,
            smallest: b"a".to_vec(),
            largest: b"b".to_vec(),
            smallest_sequence: 5,
            largest_sequence: 90,
            keyspace: 0,
        };
        let edit = VersionEdit {
            added: vec![(0, Rc::new(table))],
            wal_floor: Some(WalFloor { segment: 2, frame: 5 }),
            ..VersionEdit::default()
        };
        let state = State::default().apply(&edit).unwrap();
        assert_eq!((state.next_file_number, state.last_sequence), (8, 90));
        let lower = VersionEdit {
            next_file_number: Some(3),
            last_sequence: Some(4),
            ..VersionEdit::default()
        };
        let state = state.apply(&lower).unwrap();
        assert_eq!((state.next_file_number, state.last_sequence), (8, 90));
        let back = VersionEdit {
            wal_floor: Some(WalFloor { segment: 2, frame: 4 }),
            ..VersionEdit::default()
        };
        assert_eq!(state.apply(&back), Err(ApplyError::FloorWentBack));
        assert_eq!(State::default().apply(&state.snapshot()), Ok(state));
    }
}
