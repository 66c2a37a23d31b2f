//! The version: an immutable picture of which tables are at which level.
//!
//! What holds of every [`Version`], because [`Version::apply`] refuses anything else:
//! - No table number occurs twice, and no table's own numbers contradict each other.
//! - L0 is ordered newest first, by largest sequence and then number. Two L0 tables that overlap in keys do not overlap
//!   in sequences, so the first hit of a key, newest table first, is the newest version.
//! - From L1 on, tables are sorted by key and disjoint in user keys, so at most one table per level holds a key, and
//!   all versions of a key at one level are in one table.

use std::collections::BTreeSet;
use std::fmt;
use std::rc::Rc;

use super::edit::VersionEdit;
use super::table::TableMeta;

/// Levels of a shard, L0 included.
pub const LEVELS: usize = 7;

/// Which tables are at which level. See the [module](self) for what always holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Version {
    levels: [Vec<Rc<TableMeta>>; LEVELS],
}

/// Why an edit does not fit the version it was applied to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApplyError {
    /// A level that does not exist.
    NoSuchLevel(u8),
    /// A table that is to go is not at this level.
    NotThere {
        /// The level it was to be removed from.
        level: u8,
        /// Its number.
        number: u64,
    },
    /// A table number occurs twice.
    Duplicate(u64),
    /// A table's own numbers contradict each other.
    Flawed {
        /// Its number.
        number: u64,
        /// Which rule it breaks.
        flaw: &'static str,
    },
    /// Two tables of one level from L1 on share keys, or two of L0 share keys and sequences.
    Overlap {
        /// The level.
        level: u8,
        /// One table.
        left: u64,
        /// The other.
        right: u64,
    },
    /// The WAL floor would go back, which would replay what tables already hold.
    FloorWentBack,
}

impl fmt::Display for ApplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchLevel(level) => write!(f, "there is no level {level}"),
            Self::NotThere { level, number } => write!(f, "table {number} is not at level {level}"),
            Self::Duplicate(number) => write!(f, "table {number} occurs twice"),
            Self::Flawed { number, flaw } => write!(f, "table {number} cannot exist: {flaw}"),
            Self::Overlap { level, left, right } => {
                write!(f, "tables {left} and {right} overlap at level {level}")
            }
            Self::FloorWentBack => write!(f, "the WAL floor goes back"),
        }
    }
}

impl Version {
    /// The version after `edit`: removals first, then additions, then every rule is checked on what changed.
    ///
    /// # Errors
    /// See [`ApplyError`]; the version itself is unchanged.
    pub fn apply(&self, edit: &VersionEdit) -> Result<Self, ApplyError> {
        let mut next = self.clone();
        let mut changed = [false; LEVELS];
        for &(level, number) in &edit.removed {
            let tables = next
                .levels
                .get_mut(usize::from(level))
                .ok_or(ApplyError::NoSuchLevel(level))?;
            let at = tables
                .iter()
                .position(|table| table.number == number)
                .ok_or(ApplyError::NotThere { level, number })?;
            tables.remove(at);
        }
        next.check_new_numbers(edit)?;
        for (level, table) in &edit.added {
            let tables = next
                .levels
                .get_mut(usize::from(*level))
                .ok_or(ApplyError::NoSuchLevel(*level))?;
            if let Some(flaw) = table.flaw() {
                return Err(ApplyError::Flawed {
                    number: table.number,
                    flaw,
                });
            }
            tables.push(Rc::clone(table));
            changed[usize::from(*level)] = true;
        }
        for level in (0..LEVELS).filter(|&level| changed[level]) {
            next.sort_and_check(level)?;
        }
        Ok(next)
    }

    fn check_new_numbers(&self, edit: &VersionEdit) -> Result<(), ApplyError> {
        let mut fresh = BTreeSet::new();
        for (_, table) in &edit.added {
            if !fresh.insert(table.number) {
                return Err(ApplyError::Duplicate(table.number));
            }
        }
        if fresh.is_empty() {
            return Ok(());
        }
        match self.tables().find(|(_, table)| fresh.contains(&table.number)) {
            Some((_, table)) => Err(ApplyError::Duplicate(table.number)),
            None => Ok(()),
        }
    }

    fn sort_and_check(&mut self, level: usize) -> Result<(), ApplyError> {
        #[expect(clippy::cast_possible_truncation, reason = "there are seven levels")]
        let overlap = |left: &TableMeta, right: &TableMeta| ApplyError::Overlap {
            level: level as u8,
            left: left.number,
            right: right.number,
        };
        let tables = &mut self.levels[level];
        if level > 0 {
            tables.sort_by(|a, b| a.smallest.cmp(&b.smallest));
            return match tables.windows(2).find(|pair| pair[0].largest >= pair[1].smallest) {
                Some(pair) => Err(overlap(&pair[0], &pair[1])),
                None => Ok(()),
            };
        }
        tables.sort_by_key(|table| std::cmp::Reverse((table.largest_sequence, table.number)));
        // L0 is bounded by the stall limit (tens of tables), so every pair can be looked at.
        for (at, newer) in tables.iter().enumerate() {
            let clash = tables[at + 1..].iter().find(|older| {
                newer.smallest_sequence <= older.largest_sequence
                    && newer.overlaps(&older.smallest, &older.largest)
            });
            if let Some(older) = clash {
                return Err(overlap(newer, older));
            }
        }
        Ok(())
    }

    /// The tables of `level`: L0 newest first, the others by key.
    ///
    /// # Panics
    /// If there is no such level.
    pub fn level(&self, level: usize) -> &[Rc<TableMeta>] {
        &self.levels[level]
    }

    /// Every table with its level, from the top.
    pub fn tables(&self) -> impl Iterator<Item = (usize, &Rc<TableMeta>)> {
        self.levels
            .iter()
            .enumerate()
            .flat_map(|(level, tables)| tables.iter().map(move |table| (level, table)))
    }

    /// The tables of `level` that may hold a key of `smallest..=largest`, in the level's order.
    pub fn overlapping(&self, level: usize, smallest: &[u8], largest: &[u8]) -> Vec<Rc<TableMeta>> {
        if level == 0 {
            let hit = |table: &&Rc<TableMeta>| table.overlaps(smallest, largest);
            return self.levels[0].iter().filter(hit).cloned().collect();
        }
        self.range(level, smallest, largest).to_vec()
    }

    /// As [`Version::overlapping`] for a level from L1 on, borrowed: there the tables hit are neighbours.
    ///
    /// # Panics
    /// On L0, whose tables are not in key order.
    pub fn range(&self, level: usize, smallest: &[u8], largest: &[u8]) -> &[Rc<TableMeta>] {
        assert!(level > 0, "L0 is not in key order");
        let tables = &self.levels[level];
        let from = tables.partition_point(|table| table.largest.as_slice() < smallest);
        let until = tables.partition_point(|table| table.smallest.as_slice() <= largest);
        // A reversed range hits nothing, rather than slicing backwards.
        &tables[from..until.max(from)]
    }

    /// The only table of `level` (from L1 on) that may hold `key`.
    ///
    /// # Panics
    /// On L0, where there may be several.
    pub fn table_for(&self, level: usize, key: &[u8]) -> Option<&Rc<TableMeta>> {
        assert!(level > 0, "L0 may have several tables for one key");
        let tables = &self.levels[level];
        let at = tables.partition_point(|table| table.largest.as_slice() < key);
        tables.get(at).filter(|table| table.smallest.as_slice() <= key)
    }

    /// The tables deeper than `level` that may hold a key of `smallest..=largest`: what a tombstone written to `level`
    /// may still have to hide.
    pub fn older_below(&self, level: usize, smallest: &[u8], largest: &[u8]) -> Vec<Rc<TableMeta>> {
        (level + 1..LEVELS)
            .flat_map(|deeper| self.range(deeper, smallest, largest).iter().cloned())
            .collect()
    }

    /// Bytes of the tables at `level`.
    pub fn level_bytes(&self, level: usize) -> u64 {
        self.levels[level].iter().map(|table| table.bytes).sum()
    }

    /// Bytes of all tables.
    pub fn total_bytes(&self) -> u64 {
        self.tables().map(|(_, table)| table.bytes).sum()
    }

    /// Entries of all tables, older versions and tombstones included.
    pub fn total_entries(&self) -> u64 {
        self.tables().map(|(_, table)| table.entries).sum()
    }

    /// How many tables there are.
    pub fn table_count(&self) -> usize {
        self.levels.iter().map(Vec::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(
        number: u64,
        smallest: &str,
        largest: &str,
        sequences: std::ops::RangeInclusive<u64>,
    ) -> TableMeta {
        TableMeta {
            number,
            bytes: 100,
            entries: 10,
            tombstones: 0,
            smallest: smallest.into(),
            largest: largest.into(),
            smallest_sequence: *sequences.start(),
            largest_sequence: *sequences.end(),
            keyspace: 0,
        }
    }

    fn add(tables: &[(u8, TableMeta)]) -> VersionEdit {
        VersionEdit {
            added: tables
                .iter()
                .map(|(level, table)| (*level, Rc::new(table.clone())))
                .collect(),
            ..VersionEdit::default()
        }
    }

    fn remove(tables: &[(u8, u64)]) -> VersionEdit {
        VersionEdit {
            removed: tables.to_vec(),
            ..VersionEdit::default()
        }
    }

    fn numbers(tables: &[Rc<TableMeta>]) -> Vec<u64> {
        tables.iter().map(|table| table.number).collect()
    }

    fn sample() -> Version {
        let tables = [
            (0, table(1, "a", "z", 1..=9)),
            (0, table(3, "c", "d", 20..=29)),
            (0, table(2, "b", "y", 10..=19)),
            (2, table(5, "m", "p", 1..=1)),
            (2, table(4, "c", "f", 1..=1)),
            (2, table(6, "q", "q", 1..=1)),
        ];
        Version::default().apply(&add(&tables)).unwrap()
    }

    #[test]
    fn level_0_is_newest_first_and_the_others_by_key() {
        let version = sample();
        assert_eq!(numbers(version.level(0)), [3, 2, 1]);
        assert_eq!(numbers(version.level(2)), [4, 5, 6]);
        assert_eq!(
            (
                version.table_count(),
                version.total_bytes(),
                version.total_entries()
            ),
            (6, 600, 60)
        );
        assert_eq!(version.level_bytes(2), 300);
    }

    #[test]
    fn a_key_finds_its_only_table_and_bounds_are_inclusive() {
        let version = sample();
        let find = |key: &str| version.table_for(2, key.as_bytes()).map(|table| table.number);
        let found: Vec<_> = ["", "b", "c", "f", "g", "m", "pp", "q", "qq", "z"]
            .into_iter()
            .map(find)
            .collect();
        assert_eq!(
            found,
            [
                None,
                None,
                Some(4),
                Some(4),
                None,
                Some(5),
                None,
                Some(6),
                None,
                None
            ]
        );
        let hit = |level, a: &str, b: &str| numbers(&version.overlapping(level, a.as_bytes(), b.as_bytes()));
        assert_eq!(hit(2, "f", "m"), [4, 5]);
        assert_eq!(hit(2, "g", "l"), []);
        assert_eq!(hit(2, "z", "a"), [], "a reversed range is empty");
        assert_eq!(hit(0, "z", "zz"), [1]);
        assert_eq!(numbers(&version.older_below(0, b"d", b"n")), [4, 5]);
        assert!(version.older_below(2, b"a", b"z").is_empty());
    }

    #[test]
    fn what_would_mislead_a_reader_is_refused() {
        let version = sample();
        let refused = |edit: VersionEdit| version.apply(&edit).unwrap_err();
        let overlap = |level, left, right| ApplyError::Overlap { level, left, right };
        assert_eq!(refused(add(&[(2, table(9, "p", "pp", 1..=1))])), overlap(2, 5, 9));
        assert_eq!(
            refused(add(&[(0, table(9, "x", "x", 19..=40))])),
            overlap(0, 9, 2)
        );
        assert!(
            version.apply(&add(&[(0, table(9, "zz", "zz", 19..=40))])).is_ok(),
            "keys apart may share sequences"
        );
        assert_eq!(
            refused(add(&[(3, table(4, "a", "b", 1..=1))])),
            ApplyError::Duplicate(4)
        );
        let twice = [(3, table(9, "a", "b", 1..=1)), (4, table(9, "a", "b", 1..=1))];
        assert_eq!(refused(add(&twice)), ApplyError::Duplicate(9));
        assert_eq!(
            refused(remove(&[(2, 1)])),
            ApplyError::NotThere { level: 2, number: 1 }
        );
        assert_eq!(
            refused(remove(&[(0, 1), (0, 1)])),
            ApplyError::NotThere { level: 0, number: 1 }
        );
        assert_eq!(refused(remove(&[(7, 1)])), ApplyError::NoSuchLevel(7));
        assert_eq!(
            refused(add(&[(7, table(9, "a", "b", 1..=1))])),
            ApplyError::NoSuchLevel(7)
        );
        assert!(matches!(
            refused(add(&[(3, table(9, "b", "a", 1..=1))])),
            ApplyError::Flawed { number: 9, .. }
        ));
        assert!(matches!(
            refused(add(&[(3, table(0, "a", "b", 1..=1))])),
            ApplyError::Flawed { number: 0, .. }
        ));
    }

    #[test]
    fn a_move_is_a_removal_and_an_addition_of_one_table() {
        let version = sample();
        let edit = VersionEdit {
            added: vec![(4, Rc::clone(&version.level(2)[0]))],
            removed: vec![(2, 4)],
            ..VersionEdit::default()
        };
        let next = version.apply(&edit).unwrap();
        assert_eq!(numbers(next.level(4)), [4]);
        assert_eq!(numbers(next.level(2)), [5, 6]);
        assert_eq!(
            numbers(version.level(2)),
            [4, 5, 6],
            "the version before is what it was"
        );
    }
}
