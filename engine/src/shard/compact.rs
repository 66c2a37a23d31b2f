//! Merges of tables, run beside everything else: chosen by [`pick`], written by [`write_tables`], installed like a
//! flush. Up to [`MAX_JOBS`] at once, on disjoint tables, so that L0 never waits behind a deep merge.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use crate::compaction::job::{JobContext, JobOutput, write_tables};
use crate::compaction::pick::{self, Busy, Choice, Job, PickOptions};
use crate::compaction::run::{Reading, Run};
use crate::error::{Error, ErrorKind, Result};
use crate::io::{Class, Io};
use crate::merge::{KeyRange, Retain};
use crate::shard::Shard;
use crate::sstable::{Compression, Table, TableOptions};
use crate::types::Sequence;
use crate::version::{TableMeta, VersionEdit};

/// Merges at once: one out of L0 and one below it.
const MAX_JOBS: usize = 2;

/// After a failed merge none is begun for this long, doubled with each further failure up to the limit: a full or sick
/// device is not helped by trying at once.
const BACKOFF: Duration = Duration::from_millis(500);
const MAX_BACKOFF: Duration = Duration::from_secs(60);

/// The state of merging in a shard.
#[derive(Debug, Default)]
pub struct Merging {
    busy: RefCell<Busy>,
    jobs: Cell<usize>,
    /// Those who wait for everything to be merged down, each by the last sequence that was there when it asked.
    full: RefCell<Vec<Sequence>>,
    /// Jobs given up since open.
    given_up: Cell<u64>,
    debt_bytes: Cell<u64>,
    /// Of jobs out of L0, and of the deep ones: a deep table that cannot be read must hold back neither L0 nor writers.
    trouble: [Trouble; 2],
    last_error: RefCell<Option<Error>>,
}

/// How jobs of one kind have failed of late.
#[derive(Debug, Default)]
struct Trouble {
    failures: Cell<u32>,
    not_before: Cell<Duration>,
    /// Why they fail now; `None` once one succeeded.
    failing: RefCell<Option<Error>>,
}

impl Merging {
    /// Bytes that merges have yet to write.
    pub fn debt_bytes(&self) -> u64 {
        self.debt_bytes.get()
    }

    /// Remembers how far merging is behind.
    pub fn set_debt(&self, bytes: u64) {
        self.debt_bytes.set(bytes);
    }

    /// Why jobs out of L0 fail now, where they do.
    pub fn failing_level0(&self) -> Option<Error> {
        self.trouble(0).failing.borrow().clone()
    }

    /// Why jobs of any kind fail now, where they do.
    pub fn failing(&self) -> Option<Error> {
        self.trouble
            .iter()
            .find_map(|trouble| trouble.failing.borrow().clone())
    }

    fn trouble(&self, from_level: usize) -> &Trouble {
        &self.trouble[from_level.min(1)]
    }

    /// Why the last job was given up; empty when none was.
    pub fn last_error(&self) -> String {
        self.last_error
            .borrow()
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default()
    }

    /// Remembers why a job was given up.
    pub fn note_error(&self, error: &Error) {
        *self.last_error.borrow_mut() = Some(error.clone());
    }

    /// Up to where somebody wants everything merged down.
    fn full_up_to(&self) -> Option<Sequence> {
        self.full.borrow().iter().max().copied()
    }
}

/// Somebody waits for everything to be merged down, until this is dropped.
struct FullAsked<'a> {
    merging: &'a Merging,
    up_to: Sequence,
}

impl<'a> FullAsked<'a> {
    fn new(merging: &'a Merging, up_to: Sequence) -> Self {
        merging.full.borrow_mut().push(up_to);
        Self { merging, up_to }
    }
}

impl Drop for FullAsked<'_> {
    fn drop(&mut self) {
        let mut full = self.merging.full.borrow_mut();
        let own = full.iter().position(|&up_to| up_to == self.up_to);
        full.swap_remove(own.expect("it is there from new to drop"));
    }
}

impl<I: Io> Shard<I> {
    pub(crate) fn pick_options(&self) -> PickOptions {
        PickOptions {
            table_bytes: self.tuning().table_bytes,
            ..PickOptions::default()
        }
    }

    /// Flushes, then merges until every key that is there now has one place, and waits for it. What is written meanwhile may
    /// come along and is not waited for, so that it ends also under steady writes.
    ///
    /// # Errors
    /// What kept the flush or a merge from ending.
    pub async fn compact(&self) -> Result<()> {
        let up_to = self.config.commits.last();
        self.flush().await?;
        let _asked = FullAsked::new(&self.merging, up_to);
        let given_up_before = self.merging.given_up.get();
        self.compact_work.open();
        loop {
            let next = self.compact_work.wait();
            if pick::is_full_up_to(&self.live().version, up_to) {
                return Ok(());
            }
            self.check_open()?;
            self.health.check()?;
            if self.merging.given_up.get() > given_up_before {
                let error = self.merging.last_error.borrow().clone();
                return Err(error.expect("a failure notes its error"));
            }
            next.await;
        }
    }

    /// The task that begins merges as they fall due.
    pub(crate) async fn compact_loop(self: Rc<Self>) {
        loop {
            let next = self.compact_work.wait();
            if self.closing.get() {
                return;
            }
            while self.may_begin() {
                let choice = self.next_choice();
                if choice == Choice::Nothing {
                    break;
                }
                self.begin(choice);
            }
            next.await;
        }
    }

    fn may_begin(&self) -> bool {
        let wanted = self.tuning().auto_compact || self.merging.full_up_to().is_some();
        wanted && self.merging.jobs.get() < MAX_JOBS && !self.health.is_poisoned()
    }

    /// What to begin now. Where the jobs of its kind have failed of late it waits; of L0 then nothing deeper is begun, and
    /// before a deep job L0 goes on.
    fn next_choice(&self) -> Choice {
        let choice = self.wanted_choice();
        if self.may_try(&choice) {
            return choice;
        }
        let (live, busy, options) = (self.live(), self.merging.busy.borrow(), self.pick_options());
        let level0 = pick::choose_due_level0(&live.version, &busy, &options);
        if self.tuning().auto_compact && self.may_try(&level0) {
            return level0;
        }
        Choice::Nothing
    }

    fn may_try(&self, choice: &Choice) -> bool {
        choice
            .from_level()
            .is_none_or(|level| self.io.now() >= self.merging.trouble(level).not_before.get())
    }

    fn wanted_choice(&self) -> Choice {
        let (live, busy, options) = (self.live(), self.merging.busy.borrow(), self.pick_options());
        match self.merging.full_up_to() {
            Some(up_to) if self.tuning().auto_compact => {
                let free_jobs = MAX_JOBS - self.merging.jobs.get();
                pick::choose_full_beside_writers(&live.version, &busy, &options, up_to, free_jobs)
            }
            Some(up_to) => pick::choose_full_up_to(&live.version, &busy, &options, up_to),
            None => pick::choose(&live.version, &busy, &options),
        }
    }

    fn begin(self: &Rc<Self>, choice: Choice) {
        self.merging.busy.borrow_mut().take(&choice);
        self.merging.jobs.set(self.merging.jobs.get() + 1);
        let from_level = choice.from_level().expect("there is something to begin");
        let class = match &choice {
            Choice::Merge(job) if job.from_level > 0 => Class::Compaction,
            _ => Class::Level0,
        };
        let shard = Rc::clone(self);
        self.spawn_task(class, async move {
            let outcome = match &choice {
                Choice::Nothing => Ok(()),
                Choice::Move { table, from, to, .. } => shard.move_down(table, *from, *to).await,
                Choice::Merge(job) => shard.merge(job).await,
            };
            shard.merging.busy.borrow_mut().release(&choice);
            shard.merging.jobs.set(shard.merging.jobs.get() - 1);
            match outcome {
                Ok(()) => {
                    let trouble = shard.merging.trouble(from_level);
                    trouble.failures.set(0);
                    trouble.failing.take();
                }
                Err(error) => shard.merge_failed(from_level, &error),
            }
            shard.compact_work.open();
        });
    }

    fn merge_failed(self: &Rc<Self>, from_level: usize, error: &Error) {
        if error.kind() == ErrorKind::Closed {
            return;
        }
        self.counters.job_failures.add(1);
        self.merging.given_up.set(self.merging.given_up.get() + 1);
        self.merging.note_error(error);
        let trouble = self.merging.trouble(from_level);
        *trouble.failing.borrow_mut() = Some(error.clone());
        // Writers who wait for merges are told why there are none.
        self.room.open();
        let failures = trouble.failures.get() + 1;
        trouble.failures.set(failures);
        let backoff = BACKOFF.saturating_mul(1 << failures.min(16)).min(MAX_BACKOFF);
        trouble.not_before.set(self.io.now() + backoff);
        let shard = Rc::clone(self);
        // Not counted as a task: closing need not wait for it, and it holds nothing but the shard.
        self.io.spawn(Class::Maintenance, async move {
            shard.io.sleep(backoff).await;
            shard.compact_work.open();
        });
    }

    async fn move_down(&self, table: &Rc<TableMeta>, from: usize, to: usize) -> Result<()> {
        let edit = VersionEdit {
            added: vec![(level_byte(to), Rc::clone(table))],
            removed: vec![(level_byte(from), table.number)],
            ..VersionEdit::default()
        };
        self.install(edit, Vec::new(), || ()).await?;
        self.counters.moves.add(1);
        Ok(())
    }

    async fn merge(&self, job: &Job) -> Result<()> {
        let began = self.io.now();
        self.check_room(job).await?;
        let live = self.live();
        let find = |meta: &Rc<TableMeta>| {
            let found = live
                .all_tables()
                .find(|table| table.identity().number == meta.number);
            Rc::clone(found.expect("inputs of a job are busy, so they stay in the version"))
        };
        let mut sources = Vec::new();
        if job.from_level == 0 {
            sources.extend(
                job.upper
                    .iter()
                    .map(|meta| Run::whole(vec![find(meta)], Reading::Sequential)),
            );
        } else {
            sources.push(Run::whole(
                job.upper.iter().map(find).collect(),
                Reading::Sequential,
            ));
        }
        sources.push(Run::whole(
            job.lower.iter().map(find).collect(),
            Reading::Sequential,
        ));
        let (smallest, largest) = job.range();
        let older = live.version.older_below(job.to_level, smallest, largest);
        let older = older.into_iter().map(|table| KeyRange {
            smallest: table.smallest.clone(),
            largest: table.largest.clone(),
        });
        let retain = Retain::new(
            self.config.commits.live_snapshots(),
            older.collect(),
            self.now_ms(),
        );
        let entries = job.inputs().map(|table| table.entries).sum();
        let output = self.write_merged(job, sources, retain, entries).await?;
        self.install_merged(job, output).await?;
        self.counters.compaction_ms.record(self.ms_since(began));
        Ok(())
    }

    async fn write_merged(
        &self,
        job: &Job,
        sources: Vec<Run<I>>,
        retain: Retain,
        entries: u64,
    ) -> Result<JobOutput> {
        let place = &self.config.place;
        let deep = job.to_level > 1;
        let context = JobContext {
            io: &self.io,
            dir: place.dir.clone(),
            database: place.database,
            shard: place.shard,
            table: TableOptions {
                compression: if deep {
                    self.tuning().compression
                } else {
                    Compression::None
                },
                filter_bits_per_key: self.tuning().filter_bits_per_key,
                level: level_byte(job.to_level),
                created_ms: self.io.wall_clock_ms(),
                ..TableOptions::default()
            },
            table_bytes: self.tuning().table_bytes,
            next_number: &|| self.take_file_number(),
            stop: &|| self.closing.get(),
        };
        write_tables(&context, sources, retain, entries).await
    }

    async fn install_merged(&self, job: &Job, output: JobOutput) -> Result<()> {
        let opened: Vec<Rc<Table<I>>> = self.take_up(&output.tables, job.to_level).await?;
        let upper = job
            .upper
            .iter()
            .map(|table| (level_byte(job.from_level), table.number));
        let lower = job
            .lower
            .iter()
            .map(|table| (level_byte(job.to_level), table.number));
        let edit = VersionEdit {
            added: output
                .tables
                .into_iter()
                .map(|meta| (level_byte(job.to_level), Rc::new(meta)))
                .collect(),
            removed: upper.chain(lower).collect(),
            ..VersionEdit::default()
        };
        self.install(edit, opened, || self.forget(output.newest_forgotten))
            .await?;
        self.counters.compactions.add(1);
        self.counters.compaction_read_bytes.add(job.input_bytes());
        self.counters.compaction_written_bytes.add(output.written_bytes);
        self.counters.expired_dropped.add(output.expired);
        Ok(())
    }

    /// Refuses a merge that would eat into the room that flush, manifest and WAL need.
    async fn check_room(&self, job: &Job) -> Result<()> {
        let dir = &self.config.place.dir;
        let free = self
            .io
            .free_bytes(dir)
            .await
            .map_err(|e| Error::io("asking for free space", dir, None, &e))?;
        let needed = job.input_bytes() + self.reserved_bytes();
        if free >= needed {
            return Ok(());
        }
        Err(Error::located(
            ErrorKind::NoSpace,
            "merging tables",
            dir,
            None,
            format!("{free} bytes are free; the merge and the room kept for flushes need {needed}"),
        ))
    }
}

fn level_byte(level: usize) -> u8 {
    u8::try_from(level).expect("there are seven levels")
}
