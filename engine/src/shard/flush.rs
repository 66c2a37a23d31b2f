//! Flush: the oldest immutable becomes a table of L0.
//!
//! Order (R10): table durable → its name durable → edit with the table and the new WAL floor durable → table visible
//! and immutable gone, in one step → segments below the floor free.

use std::rc::Rc;
use std::time::Duration;

use crate::compaction::job::{JobContext, write_tables};
use crate::error::{Error, ErrorKind, Result};
use crate::io::Io;
use crate::merge::{KeyRange, Retain};
use crate::shard::Shard;
use crate::shard::memory::Immutable;
use crate::shard::sources::MemtableSource;
use crate::sstable::{Compression, TableOptions};
use crate::types::MAX_BATCH_BYTES;
use crate::version::VersionEdit;

/// A failed flush is tried again after this long: soon enough to end a read-only spell quickly, rarely enough not to
/// load a sick device.
const RETRY: Duration = Duration::from_millis(500);

impl<I: Io> Shard<I> {
    /// Writes every entry that is in a memtable now out as tables and waits for it.
    ///
    /// # Errors
    /// The shard's health, or what kept the flush from ending; it is tried again all the same.
    pub async fn flush(&self) -> Result<()> {
        let asked = !self.memory.active_is_empty();
        let rotated_before = self.memory.rotated();
        if asked {
            self.health.check()?;
            self.request_rotation();
        }
        let failed_before = self.flush_failures.get();
        let mut target = None;
        loop {
            let next = self.flush_work.wait();
            if self.rotation_done() {
                if asked && self.memory.rotated() == rotated_before {
                    // A shard that writes no more gives a rotation up, and what is in the memtable stays there.
                    self.health.check()?;
                }
                let target = *target.get_or_insert(self.memory.rotated());
                if self.memory.retired() >= target {
                    return Ok(());
                }
            }
            self.health.check()?;
            if self.flush_failures.get() > failed_before
                && let Some(error) = self.flush_error.borrow().clone()
            {
                return Err(error);
            }
            next.await;
        }
    }

    /// The task that flushes. When the shard closes it ends once nothing is left that it can flush.
    pub(crate) async fn flush_loop(self: Rc<Self>) {
        // The manifest takes no more edits: a table could be written, but never named.
        let mut hopeless = false;
        loop {
            let next = self.flush_work.wait();
            let ready = self
                .memory
                .oldest_immutable()
                .filter(|immutable| immutable.floor.get().is_some());
            match ready {
                Some(_) if (hopeless || self.health.is_poisoned()) && self.closing.get() => return,
                Some(_) if hopeless => next.await,
                Some(immutable) => match self.flush_one(&immutable).await {
                    Ok(()) => {
                        *self.flush_error.borrow_mut() = None;
                        if self.mended.get() {
                            self.health.room_again();
                        }
                    }
                    Err(error) => {
                        self.flush_failed(&error);
                        hopeless = error.kind() == ErrorKind::Poisoned;
                        if self.closing.get() {
                            return;
                        }
                        self.io.sleep(RETRY).await;
                    }
                },
                None if self.closing.get() && self.commits_ended() => return,
                None => next.await,
            }
        }
    }

    /// Why flushes or merges fail now, in words; empty where none does.
    pub(crate) fn failing_job(&self) -> String {
        let flush = self.flush_error.borrow().clone();
        let failing = flush.or_else(|| self.merging.failing());
        failing.map(|error| error.to_string()).unwrap_or_default()
    }

    fn flush_failed(&self, error: &Error) {
        self.counters.job_failures.add(1);
        self.flush_failures.set(self.flush_failures.get() + 1);
        *self.flush_error.borrow_mut() = Some(error.clone());
        self.merging.note_error(error);
        match error.kind() {
            ErrorKind::NoSpace => self.health.read_only(error),
            ErrorKind::Poisoned => self.poison(error),
            // The immutable and its WAL are still there and nothing was lost: it is tried again. Writers who find the
            // limit of immutables reached meanwhile are told why.
            _ => {}
        }
        self.flush_work.open();
        self.room.open();
    }

    async fn flush_one(&self, immutable: &Rc<Immutable>) -> Result<()> {
        let began = self.io.now();
        let place = &self.config.place;
        let live = self.live();
        let older = live.version.tables().map(|(_, table)| KeyRange {
            smallest: table.smallest.clone(),
            largest: table.largest.clone(),
        });
        let retain = Retain::new(
            self.config.commits.live_snapshots(),
            older.collect(),
            self.now_ms(),
        );
        let entries = immutable.memtable.borrow().len() as u64;
        let context = JobContext {
            io: &self.io,
            dir: place.dir.clone(),
            database: place.database,
            shard: place.shard,
            table: TableOptions {
                compression: Compression::None,
                filter_bits_per_key: self.tuning().filter_bits_per_key,
                level: 0,
                created_ms: self.io.wall_clock_ms(),
                ..TableOptions::default()
            },
            // One memtable makes one table of L0, whatever its size: a read must look into each.
            table_bytes: u64::MAX,
            next_number: &|| self.take_file_number(),
            stop: &|| false,
        };
        let sources = vec![MemtableSource::whole(Rc::clone(&immutable.memtable))];
        let output = write_tables(&context, sources, retain, entries).await?;
        assert!(output.tables.len() <= 1, "a flush makes one table");
        let opened = self.take_up(&output.tables, 0).await?;
        let last_sequence = immutable.memtable.borrow().largest_sequence();
        let edit = VersionEdit {
            added: output.tables.into_iter().map(|meta| (0, Rc::new(meta))).collect(),
            wal_floor: immutable.floor.get(),
            last_sequence,
            ..VersionEdit::default()
        };
        let floor = immutable.floor.get();
        self.install(edit, opened, || {
            self.memory.retire(immutable);
            self.forget(output.newest_forgotten);
        })
        .await?;
        self.counters.flushes.add(1);
        self.counters.flush_ms.record(self.ms_since(began));
        self.counters.flush_bytes.add(output.written_bytes);
        self.counters.expired_dropped.add(output.expired);
        if let Some(floor) = floor {
            self.segments.release_below(floor.segment);
        }
        self.flush_work.open();
        self.room.open();
        self.work.open();
        self.upkeep.open();
        Ok(())
    }

    /// Room that must stay free for one flush, one manifest and one segment (R14), in bytes: merges that would use it
    /// are put off.
    pub(crate) fn reserved_bytes(&self) -> u64 {
        let memtable =
            (self.tuning().memtable_bytes + MAX_BATCH_BYTES.min(self.tuning().memtable_bytes)) as u64;
        memtable + memtable / 8 + self.tuning().manifest_bytes + self.tuning().segment_bytes
    }
}
