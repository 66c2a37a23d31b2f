//! What to compact next: a pure choice from a version, the tables already in a job, and options.
//!
//! The shape is leveled compaction with dynamic level sizes (RocksDB's `level_compaction_dynamic_level_bytes`,
//! `VersionStorageInfo::CalculateBaseBytes`): sizes are counted from the bottom up. L6 is as large as it is, each level
//! above has room for a ratio less, and the topmost level whose room is at most `base_bytes` is the **base**: L0 merges
//! straight into it, and the levels between are empty. So a small shard is L0 and L6 alone, and the base moves up as
//! data grows.
//!
//! Steps of [`choose`]:
//! 1. Score: L0 by its number of tables against the trigger, each level from the base on by bytes against its room,
//!    tables already on their way down not counted.
//! 2. From the highest score ≥ 1 down, look for a job whose tables are all free.
//! 3. If L0 is due but waits for base tables in another job, start nothing more at the base, or it might wait forever.
//!
//! What every choice keeps, given that the tables in it are marked busy until its edit is applied:
//! - L0 leaves oldest first, as a run without gaps, one job at a time: no older version of a key stays above a newer one.
//! - A job takes every table of the output level that overlaps its input, so that level stays disjoint. Tables of two
//!   jobs never overlap at the level of output, because the overlapped one would be in both.
//! - One job's bytes are bounded: L0 by tables and by the base's room, the others by `job_bytes`.
//!
//! Within a level the job with the least bytes below per byte moved wins (RocksDB's `kMinOverlappingRatio`), tombstones
//! counting in a table's favour: pushing them down is what frees the space they hide.

use std::collections::BTreeSet;
use std::rc::Rc;

use crate::types::{MAX_SEQUENCE, Sequence};
use crate::version::{LEVELS, TableMeta, Version};

/// The deepest level.
pub const BOTTOM: usize = LEVELS - 1;

/// The shape to aim for.
#[derive(Debug, Clone, PartialEq)]
pub struct PickOptions {
    /// L0 tables that call for a compaction.
    pub level0_trigger: usize,
    /// Most L0 tables in one job.
    pub level0_job_tables: usize,
    /// How many times larger each level is than the one above it.
    pub ratio: u64,
    /// The largest room of the base level in bytes; with more data below, the base moves up.
    pub base_bytes: u64,
    /// The size at which the output of a compaction is cut, in bytes.
    pub table_bytes: u64,
    /// Bytes of input at which a job below L0 takes no further tables; its first table is taken whatever it needs.
    pub job_bytes: u64,
}

impl Default for PickOptions {
    fn default() -> Self {
        Self {
            level0_trigger: 4,
            level0_job_tables: 10,
            ratio: 10,
            // Four times what L0 holds at its trigger, in memtables of 64 MiB: up to there merging all of the bottom
            // level with every job writes less than a level between would. In the model's load of 832 MiB a shard,
            // 3.1 bytes are written per byte flushed, that one included; of 4 GiB 6.1, of 16 GiB 9.5 to 11.2.
            base_bytes: 1 << 30,
            table_bytes: 64 << 20,
            job_bytes: 768 << 20,
        }
    }
}

/// The tables that are inputs of a job under way.
#[derive(Debug, Clone, Default)]
pub struct Busy {
    numbers: BTreeSet<u64>,
}

impl Busy {
    /// Marks every table of `choice`.
    ///
    /// # Panics
    /// If one is marked already: two jobs must never share a table.
    pub fn take(&mut self, choice: &Choice) {
        for table in choice.tables() {
            assert!(
                self.numbers.insert(table.number),
                "table {} is in two jobs",
                table.number
            );
        }
    }

    /// Frees every table of `choice`, after its edit was applied or it was given up.
    pub fn release(&mut self, choice: &Choice) {
        for table in choice.tables() {
            self.numbers.remove(&table.number);
        }
    }

    /// Whether this table is in a job.
    pub fn contains(&self, number: u64) -> bool {
        self.numbers.contains(&number)
    }

    /// Whether no job is under way.
    pub fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    fn any(&self, tables: &[Rc<TableMeta>]) -> bool {
        tables.iter().any(|table| self.contains(table.number))
    }
}

/// A merge of tables of two neighbouring (non-empty) levels into the lower one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// The level of `upper`.
    pub from_level: usize,
    /// The level of `lower` and of the output.
    pub to_level: usize,
    /// The tables that move down: of L0 newest first, else by key. At least one.
    pub upper: Vec<Rc<TableMeta>>,
    /// Every table of the output level that they overlap, by key.
    pub lower: Vec<Rc<TableMeta>>,
    /// Whether no deeper table overlaps the job's keys, so that tombstones may go. Where one does, tombstones whose own
    /// key is in no deeper table may still go: [`Version::older_below`] has the ranges.
    pub bottom: bool,
    /// Why this job, in words.
    pub reason: String,
}

impl Job {
    /// The smallest and largest key of all inputs.
    pub fn range(&self) -> (&[u8], &[u8]) {
        range_of(self.inputs().map(Rc::as_ref)).expect("a job has at least one table")
    }

    /// Every input.
    pub fn inputs(&self) -> impl Iterator<Item = &Rc<TableMeta>> {
        self.upper.iter().chain(&self.lower)
    }

    /// Bytes of every input.
    pub fn input_bytes(&self) -> u64 {
        self.inputs().map(|table| table.bytes).sum()
    }
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// Nothing is due, or what is due waits for tables in other jobs.
    Nothing,
    /// A table goes down as it is: nothing there overlaps it. Only an edit.
    Move {
        /// The table.
        table: Rc<TableMeta>,
        /// Where it is.
        from: usize,
        /// Where it goes.
        to: usize,
        /// Why, in words.
        reason: String,
    },
    /// Tables are merged.
    Merge(Job),
}

impl Choice {
    /// The level that its tables leave; `None` of nothing.
    pub fn from_level(&self) -> Option<usize> {
        match self {
            Self::Nothing => None,
            Self::Move { from, .. } => Some(*from),
            Self::Merge(job) => Some(job.from_level),
        }
    }

    /// Every table in it.
    pub fn tables(&self) -> Vec<Rc<TableMeta>> {
        match self {
            Self::Nothing => Vec::new(),
            Self::Move { table, .. } => vec![Rc::clone(table)],
            Self::Merge(job) => job.inputs().cloned().collect(),
        }
    }
}

/// How much room each level has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// Where L0 merges to: the first level that is not empty, or above it where data has outgrown it.
    pub base: usize,
    /// Bytes of room per level; 0 for L0, and for levels above the base, which drain.
    pub room_bytes: [u64; LEVELS],
}

/// The shape that fits the data there is.
pub fn shape(version: &Version, options: &PickOptions) -> Shape {
    let bytes: Vec<u64> = (0..LEVELS).map(|level| version.level_bytes(level)).collect();
    let mut room_bytes = [0; LEVELS];
    // The largest level counts as the bottom: a shard whose deletes have not sunk yet keeps its shape.
    room_bytes[BOTTOM] = bytes[1..]
        .iter()
        .copied()
        .max()
        .unwrap_or(0)
        .max(options.base_bytes / options.ratio);
    let mut base = BOTTOM;
    while base > 1 && room_bytes[base] > options.base_bytes {
        room_bytes[base - 1] = room_bytes[base] / options.ratio;
        base -= 1;
    }
    // A base smaller than what L0 pours into it would be emptied by every job, at the full price of the level below.
    room_bytes[base] = room_bytes[base].max(options.base_bytes / 2);
    // Data above the base is left from when there was more; it must stay above what comes after it.
    let first = (1..base).find(|&level| bytes[level] > 0);
    Shape {
        base: first.unwrap_or(base),
        room_bytes,
    }
}

/// Bytes that compaction has yet to write until every level fits its room: the measure of how far it is behind.
pub fn debt_bytes(version: &Version, options: &PickOptions) -> u64 {
    let shape = shape(version, options);
    let mut debt = 0;
    let mut sinking = 0;
    if version.level(0).len() >= options.level0_trigger {
        sinking = version.level_bytes(0);
        debt += sinking + version.level_bytes(shape.base);
    }
    for level in shape.base..BOTTOM {
        let bytes = version.level_bytes(level) + sinking;
        sinking = bytes.saturating_sub(shape.room_bytes[level]);
        // Each byte that sinks rewrites its share of the level below, at most all of it.
        let below = version.level_bytes(level + 1);
        let rewritten = u128::from(below) * u128::from(sinking) / u128::from(bytes.max(1));
        debt += sinking + u64::try_from(rewritten).unwrap_or(u64::MAX);
    }
    debt
}

/// What to do next; see the [module](self) for how it is decided.
pub fn choose(version: &Version, busy: &Busy, options: &PickOptions) -> Choice {
    let shape = shape(version, options);
    let mut due: Vec<(f64, usize)> = (0..BOTTOM)
        .map(|level| (score(version, busy, options, &shape, level), level))
        .filter(|&(score, _)| score >= 1.0)
        .collect();
    // Highest score first; at a tie the upper level, which readers feel most.
    due.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let mut level0_waits = false;
    for (score, level) in due {
        let touches_base = level == shape.base || level + 1 == shape.base;
        let choice = match level {
            0 => choose_level0(version, busy, options, &shape),
            _ if level0_waits && touches_base => None,
            _ => choose_below(version, busy, options, &shape, level, score),
        };
        match choice {
            Some(choice) => return choice,
            None => level0_waits |= level == 0,
        }
    }
    Choice::Nothing
}

/// What to do next to bring everything to the deepest level; [`Choice::Nothing`] once it is there, or while what is
/// left waits for other jobs (then `busy` is not empty).
pub fn choose_full(version: &Version, busy: &Busy, options: &PickOptions) -> Choice {
    choose_full_up_to(version, busy, options, MAX_SEQUENCE)
}

/// The same for the tables that hold entries of sequence `up_to` or older, so that it comes to an end however fast newer
/// ones follow: each job brings some of the old entries down, and none ever comes up.
pub fn choose_full_up_to(version: &Version, busy: &Busy, options: &PickOptions, up_to: Sequence) -> Choice {
    let shape = shape(version, options);
    // From the top, so that each byte is written once per level it passes.
    let Some(level) = (0..BOTTOM).find(|&level| version.level(level).iter().any(|table| holds(table, up_to)))
    else {
        return Choice::Nothing;
    };
    if level == 0 {
        // The oldest leave first.
        return choose_level0(version, busy, options, &shape).unwrap_or(Choice::Nothing);
    }
    let mut busy = busy.clone();
    let newer = version.level(level).iter().filter(|table| !holds(table, up_to));
    busy.numbers.extend(newer.map(|table| table.number));
    best_run(version, &busy, options, level, u64::MAX).map_or(Choice::Nothing, |run| {
        run.into_choice(version, options, level, "a full compaction was asked for")
    })
}

/// The job of L0 that is due, whatever else is.
pub fn choose_due_level0(version: &Version, busy: &Busy, options: &PickOptions) -> Choice {
    if version.level(0).len() < options.level0_trigger {
        return Choice::Nothing;
    }
    choose_level0(version, busy, options, &shape(version, options)).unwrap_or(Choice::Nothing)
}

/// What to do next while somebody waits for a full compaction and writers go on, where `free_jobs` more jobs may begin.
///
/// 1. L0 that is due comes first: writers stop dead at its limit, and its newer tables are none of the full compaction's.
/// 2. The full compaction's next job, else what is due anyway.
/// 3. The last free place goes to a job of L0 alone, unless one is under way: a deep job takes long, and L0 that falls due
///    meanwhile must find a place. So the full compaction holds every place but one, and ends at most one job later.
pub fn choose_full_beside_writers(
    version: &Version,
    busy: &Busy,
    options: &PickOptions,
    up_to: Sequence,
    free_jobs: usize,
) -> Choice {
    let level0 = choose_due_level0(version, busy, options);
    if level0 != Choice::Nothing {
        return level0;
    }
    let choice = match choose_full_up_to(version, busy, options, up_to) {
        Choice::Nothing => choose(version, busy, options),
        choice => choice,
    };
    let kept_for_level0 = free_jobs <= 1 && !busy.any(version.level(0));
    match choice.from_level() {
        Some(1..) if kept_for_level0 => Choice::Nothing,
        _ => choice,
    }
}

/// Whether everything of sequence `up_to` or older is in the deepest level.
pub fn is_full_up_to(version: &Version, up_to: Sequence) -> bool {
    !(0..BOTTOM).any(|level| version.level(level).iter().any(|table| holds(table, up_to)))
}

fn holds(table: &TableMeta, up_to: Sequence) -> bool {
    table.smallest_sequence <= up_to
}

#[expect(clippy::cast_precision_loss, reason = "a score is a rough measure")]
fn score(version: &Version, busy: &Busy, options: &PickOptions, shape: &Shape, level: usize) -> f64 {
    if level == 0 {
        return version.level(0).len() as f64 / options.level0_trigger as f64;
    }
    let free = version
        .level(level)
        .iter()
        .filter(|table| !busy.contains(table.number));
    let bytes: u64 = free.map(|table| table.bytes).sum();
    if bytes == 0 {
        return 0.0;
    }
    match shape.room_bytes[level] {
        // Above the base: due whatever its size.
        0 => 1.0 + bytes as f64 / options.base_bytes as f64,
        room => bytes as f64 / room as f64,
    }
}

fn choose_level0(version: &Version, busy: &Busy, options: &PickOptions, shape: &Shape) -> Option<Choice> {
    let tables = version.level(0);
    if busy.any(tables) {
        return None;
    }
    let oldest = tables.last()?;
    let to = shape.base;
    let reason = format!(
        "L0 has {} tables, {} call for a compaction",
        tables.len(),
        options.level0_trigger
    );
    let clear = version.range(to, &oldest.smallest, &oldest.largest).is_empty();
    // Small tables are merged even so, or the level below would fill with crumbs.
    let large = oldest.bytes >= options.table_bytes / 4 || tables.len() == 1;
    if clear && large && !full_of_tombstones(version, to, oldest) {
        return Some(Choice::Move {
            table: Rc::clone(oldest),
            from: 0,
            to,
            reason,
        });
    }
    let upper = tables[tables.len().saturating_sub(options.level0_job_tables)..].to_vec();
    let (smallest, largest) = range_of(upper.iter().map(Rc::as_ref))?;
    let lower = version.range(to, smallest, largest).to_vec();
    (!busy.any(&lower)).then(|| merge(version, 0, to, upper, lower, reason))
}

fn choose_below(
    version: &Version,
    busy: &Busy,
    options: &PickOptions,
    shape: &Shape,
    level: usize,
    score: f64,
) -> Option<Choice> {
    let room = shape.room_bytes[level];
    let excess = version.level_bytes(level).saturating_sub(room);
    let run = best_run(version, busy, options, level, excess)?;
    let reason = if room == 0 {
        format!("L{level} lies above the base level L{} and drains", shape.base)
    } else {
        format!("L{level} holds {score:.2} times the {room} bytes it has room for")
    };
    Some(run.into_choice(version, options, level, &reason))
}

/// Neighbouring tables of a level and what they overlap below.
struct Run<'a> {
    upper: &'a [Rc<TableMeta>],
    lower: &'a [Rc<TableMeta>],
}

impl Run<'_> {
    fn into_choice(self, version: &Version, options: &PickOptions, level: usize, reason: &str) -> Choice {
        let to = level + 1;
        let first = &self.upper[0];
        let crumb = first.bytes < options.table_bytes / 4 && self.upper.len() > 1;
        if self.lower.is_empty() && !crumb && !full_of_tombstones(version, to, first) {
            return Choice::Move {
                table: Rc::clone(first),
                from: level,
                to,
                reason: reason.to_owned(),
            };
        }
        merge(
            version,
            level,
            to,
            self.upper.to_vec(),
            self.lower.to_vec(),
            reason.to_owned(),
        )
    }
}

/// The free table that is cheapest to push down, and the neighbours to its right that go with it: until `want` bytes
/// are on their way or the job is large enough. A longer run spreads the cost of the tables at its edges.
fn best_run<'a>(
    version: &'a Version,
    busy: &Busy,
    options: &PickOptions,
    level: usize,
    want: u64,
) -> Option<Run<'a>> {
    let tables = version.level(level);
    let below =
        |from: usize, until: usize| version.range(level + 1, &tables[from].smallest, &tables[until].largest);
    let free = |at: usize| !busy.contains(tables[at].number) && !busy.any(below(at, at));
    let (_, first) = (0..tables.len())
        .filter(|&at| free(at))
        .map(|at| (cost(&tables[at], below(at, at)), at))
        .min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)))?;
    let mut last = first;
    let mut upper_bytes = tables[first].bytes;
    while upper_bytes < want && last + 1 < tables.len() && free(last + 1) {
        let lower = below(first, last + 1);
        let next_bytes = upper_bytes + tables[last + 1].bytes;
        let total = next_bytes + sum_bytes(lower);
        // A free ride ends where tables below begin: what can just be moved is not rewritten.
        let mixed = below(first, last).is_empty() != lower.is_empty();
        if total > options.job_bytes || mixed || busy.any(lower) {
            break;
        }
        last += 1;
        upper_bytes = next_bytes;
    }
    Some(Run {
        upper: &tables[first..=last],
        lower: below(first, last),
    })
}

/// Bytes rewritten below per byte moved, up to half off for a table of nothing but tombstones.
#[expect(clippy::cast_precision_loss, reason = "a cost is a rough measure")]
fn cost(table: &TableMeta, lower: &[Rc<TableMeta>]) -> f64 {
    let overlap = sum_bytes(lower) as f64 / table.bytes.max(1) as f64;
    overlap * (1.0 - 0.5 * tombstone_share(table))
}

#[expect(clippy::cast_precision_loss, reason = "a share is a rough measure")]
fn tombstone_share(table: &TableMeta) -> f64 {
    table.tombstones as f64 / table.entries.max(1) as f64
}

/// Whether rewriting this table on its way to `to` would drop enough tombstones to be worth it: moved as it is to where
/// nothing lies below, it would keep them for good.
fn full_of_tombstones(version: &Version, to: usize, table: &TableMeta) -> bool {
    table.tombstones * 4 >= table.entries
        && version
            .older_below(to, &table.smallest, &table.largest)
            .is_empty()
}

fn merge(
    version: &Version,
    from_level: usize,
    to_level: usize,
    upper: Vec<Rc<TableMeta>>,
    lower: Vec<Rc<TableMeta>>,
    reason: String,
) -> Choice {
    let mut job = Job {
        from_level,
        to_level,
        upper,
        lower,
        bottom: false,
        reason,
    };
    let (smallest, largest) = job.range();
    job.bottom = version.older_below(to_level, smallest, largest).is_empty();
    Choice::Merge(job)
}

fn range_of<'a>(tables: impl Iterator<Item = &'a TableMeta>) -> Option<(&'a [u8], &'a [u8])> {
    tables
        .map(|table| (table.smallest.as_slice(), table.largest.as_slice()))
        .reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
}

fn sum_bytes(tables: &[Rc<TableMeta>]) -> u64 {
    tables.iter().map(|table| table.bytes).sum()
}

#[cfg(test)]
#[path = "pick_tests.rs"]
mod tests;
