//! Writing a merged stream out as tables: the driver under flush and compaction.
//!
//! Steps: merge the sources → decide for each entry whether it is kept → fill tables, cut at the target size between
//! user keys → each table durable before the job reports it. Nothing is installed here: the caller makes the edit, so
//! that a job given up half-way leaves only files that no version names.
//!
//! The core is held for at most [`SLICE`] between yields; reads and writes each have a bounded number in flight. What
//! went in must equal what came out and what was dropped, by reason, or the job fails and its inputs stay (R16).

use std::path::PathBuf;
use std::time::Duration;

use crate::compaction::run::LoadSource;
use crate::error::{Error, ErrorKind, Result};
use crate::io::Io;
use crate::merge::{Decision, Merge, Progress, Retain};
use crate::sstable::{TableIdentity, TableOptions, TableSummary, TableWriter};
use crate::types::{Sequence, table_file_name};
use crate::version::TableMeta;

/// The longest a job holds its core between yields.
const SLICE: Duration = Duration::from_micros(200);

/// Entries between looks at the clock: at some 0.3 µs an entry the slice is overrun by a few percent at most.
const ENTRIES_PER_LOOK: u32 = 32;

/// What a job needs beside its sources.
pub struct JobContext<'a, I: Io> {
    /// The machine.
    pub io: &'a I,
    /// The shard's directory.
    pub dir: PathBuf,
    /// The database's identity.
    pub database: u64,
    /// The shard.
    pub shard: u16,
    /// How its tables are made.
    pub table: TableOptions,
    /// A table is cut once it has about so many bytes.
    pub table_bytes: u64,
    /// Gives away file numbers.
    pub next_number: &'a dyn Fn() -> u64,
    /// Whether the job should give up, because the shard is closing.
    pub stop: &'a dyn Fn() -> bool,
}

/// What a job made.
#[derive(Debug, Default)]
pub struct JobOutput {
    /// The tables, in key order, each durable but for its name.
    pub tables: Vec<TableMeta>,
    /// Entries read.
    pub entries_in: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Values given up because their time had passed.
    pub expired: u64,
    /// The newest sequence of a key that the job may have left no entry of; 0 for none.
    pub newest_forgotten: Sequence,
}

/// Merges `sources` into tables. `expected_entries` is what the inputs say they hold.
///
/// On any error the tables begun are removed as far as the disk lets them be; what is left is an orphan that the next
/// open sweeps.
///
/// # Errors
/// `Io`, `NoSpace`, `Corruption`; `Closed` when told to stop.
pub async fn write_tables<I: Io, S: LoadSource>(
    context: &JobContext<'_, I>,
    sources: Vec<S>,
    retain: Retain,
    expected_entries: u64,
) -> Result<JobOutput> {
    let mut job = Job {
        context,
        retain,
        writer: None,
        output: JobOutput::default(),
        begun: Vec::new(),
    };
    match job.run(sources, expected_entries).await {
        Ok(()) => Ok(job.output),
        Err(error) => {
            job.clean_up().await;
            Err(error)
        }
    }
}

struct Job<'a, 'c, I: Io> {
    context: &'a JobContext<'c, I>,
    retain: Retain,
    writer: Option<(u64, TableWriter<I>)>,
    output: JobOutput,
    /// Every file created, to be removed if the job fails.
    begun: Vec<PathBuf>,
}

impl<I: Io> Job<'_, '_, I> {
    async fn run<S: LoadSource>(&mut self, sources: Vec<S>, expected_entries: u64) -> Result<()> {
        let io = self.context.io;
        let mut merge = Merge::new(sources);
        let mut slice_began = io.now();
        let mut looks = 0;
        loop {
            match merge.progress() {
                Progress::Ready => {}
                Progress::Blocked(source) => {
                    self.check_stop()?;
                    merge.sources_mut()[source].load().await?;
                    merge.refilled(source);
                    slice_began = io.now();
                    continue;
                }
                Progress::End => break,
            }
            let entry = merge.current().expect("a ready merge has an entry");
            self.output.entries_in += 1;
            let kept = match self.retain.decide(&entry) {
                Decision::Keep => Some(entry),
                Decision::Bury => Some(entry.tombstone()),
                Decision::Drop(_) => None,
            };
            if let Some(entry) = kept {
                if self.must_cut(entry.key) {
                    self.finish_table().await?;
                }
                if self.writer.is_none() {
                    self.begin_table().await?;
                }
                let (_, writer) = self.writer.as_mut().expect("a table was just begun");
                writer.add(entry);
                if writer.needs_pump() {
                    writer.pump().await?;
                }
            }
            merge.advance();
            looks += 1;
            if looks >= ENTRIES_PER_LOOK {
                looks = 0;
                if io.now().saturating_sub(slice_began) >= SLICE {
                    self.check_stop()?;
                    io.yield_now().await;
                    slice_began = io.now();
                }
            }
        }
        self.finish_table().await?;
        self.check_counts(expected_entries)
    }

    /// A table ends once it is full, but never between two versions of one key: lookups expect them in one place.
    fn must_cut(&self, next_key: &[u8]) -> bool {
        self.writer.as_ref().is_some_and(|(_, writer)| {
            writer.builder().estimated_bytes() >= self.context.table_bytes
                && writer.builder().last_key() != next_key
        })
    }

    async fn begin_table(&mut self) -> Result<()> {
        let number = (self.context.next_number)();
        let path = self.context.dir.join(table_file_name(number));
        let identity = TableIdentity {
            database: self.context.database,
            shard: self.context.shard,
            number,
        };
        self.begun.push(path.clone());
        let writer = TableWriter::create(self.context.io, path, identity, &self.context.table).await?;
        self.writer = Some((number, writer));
        Ok(())
    }

    async fn finish_table(&mut self) -> Result<()> {
        let Some((number, writer)) = self.writer.take() else {
            return Ok(());
        };
        let summary = writer.finish().await?;
        self.output.written_bytes += summary.bytes;
        self.output.tables.push(meta_of(number, summary));
        Ok(())
    }

    fn check_stop(&self) -> Result<()> {
        if (self.context.stop)() {
            return Err(Error::new(
                ErrorKind::Closed,
                "merging tables",
                "the database is closing",
            ));
        }
        Ok(())
    }

    fn check_counts(&mut self, expected_entries: u64) -> Result<()> {
        let tally = self.retain.tally();
        self.output.expired = tally.expired + tally.buried;
        self.output.newest_forgotten = tally.newest_forgotten;
        let written: u64 = self.output.tables.iter().map(|table| table.entries).sum();
        let holds = self.output.entries_in == expected_entries
            && tally.total() == self.output.entries_in
            && tally.kept == written;
        if holds {
            return Ok(());
        }
        Err(Error::located(
            ErrorKind::Corruption,
            "merging tables",
            &self.context.dir,
            None,
            format!(
                "the inputs should hold {expected_entries} entries; {} were read, {written} written, {} dropped as \
                 shadowed, {} as tombstones and {} as expired",
                self.output.entries_in, tally.shadowed, tally.tombstones_at_bottom, tally.expired
            ),
        ))
    }

    async fn clean_up(&mut self) {
        if let Some((_, writer)) = self.writer.take() {
            // The job has failed with the error that matters; what cannot be removed now is swept at the next open.
            let _swept_later = writer.abandon().await;
        }
        for path in self.begun.drain(..) {
            let _swept_later = self.context.io.remove(&path).await;
        }
    }
}

fn meta_of(number: u64, summary: TableSummary) -> TableMeta {
    TableMeta {
        number,
        bytes: summary.bytes,
        entries: summary.entries,
        tombstones: summary.tombstones,
        smallest: summary.smallest,
        largest: summary.largest,
        smallest_sequence: summary.smallest_sequence,
        largest_sequence: summary.largest_sequence,
        keyspace: 0,
    }
}
