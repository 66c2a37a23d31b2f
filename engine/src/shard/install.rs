//! Making a new version durable, then visible, and only then giving up what it replaced (R10).

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use crate::compaction::{pace, pick};
use crate::error::{Error, ErrorKind, Result};
use crate::io::{Class, Io};
use crate::shard::Shard;
use crate::shard::live::LiveVersion;
use crate::shard::recover::pick_pin;
use crate::sstable::{Table, TableIdentity};
use crate::types::Sequence;
use crate::version::{TableMeta, VersionEdit};

/// Readers let go of a table within a request; until then its file is looked at again this often.
const HELD_RETRY: Duration = Duration::from_millis(50);

impl<I: Io> Shard<I> {
    /// Makes the names of a job's tables durable and opens their readers. If that fails the tables are removed again: no
    /// version names them yet.
    pub(crate) async fn take_up(&self, metas: &[TableMeta], level: usize) -> Result<Vec<Rc<Table<I>>>> {
        let taken = self.try_take_up(metas, level).await;
        if taken.is_err() {
            for meta in metas {
                // What cannot be removed now is swept at the next open.
                let _swept_later = self.io.remove(&self.table_path(meta.number)).await;
            }
        }
        taken
    }

    async fn try_take_up(&self, metas: &[TableMeta], level: usize) -> Result<Vec<Rc<Table<I>>>> {
        if metas.is_empty() {
            return Ok(Vec::new());
        }
        let dir = &self.config.place.dir;
        self.io
            .sync_dir(dir)
            .await
            .map_err(|e| Error::io("syncing a shard's directory", dir, None, &e))?;
        let mut opened = Vec::with_capacity(metas.len());
        for meta in metas {
            opened.push(self.open_table(meta, level).await?);
        }
        Ok(opened)
    }

    /// Opens one table; see [`pick_pin`] for what of it stays in memory.
    pub(crate) async fn open_table(&self, meta: &TableMeta, level: usize) -> Result<Rc<Table<I>>> {
        let place = &self.config.place;
        let identity = TableIdentity {
            database: place.database,
            shard: place.shard,
            number: meta.number,
        };
        let held: usize = self
            .live
            .borrow()
            .all_tables()
            .map(|table| table.held_bytes())
            .sum();
        let pin = pick_pin(level, held, self.tuning().cache_bytes);
        Table::open(&self.io, self.table_path(meta.number), identity, meta.bytes, pin)
            .await
            .map(Rc::new)
    }

    /// Makes `edit` durable, then its version visible; `opened` are the tables it adds ([`Shard::take_up`]), and `at_once`
    /// runs with no await between it and the visibility.
    ///
    /// # Errors
    /// The job may be tried again. Where the edit is known not to be on disk, `opened` are removed again: else each try on
    /// a full device would leave one more. Where that is in doubt they stay, because a reopen may find the edit and need
    /// them; if it does not, it sweeps them. Such a failure, other than `NoSpace`, poisons the shard.
    pub(crate) async fn install(
        &self,
        mut edit: VersionEdit,
        opened: Vec<Rc<Table<I>>>,
        at_once: impl FnOnce(),
    ) -> Result<()> {
        // A record of the time moves no key: what was read before it still holds.
        let moves_keys = edit != VersionEdit::default();
        edit.next_file_number = Some(self.next_file.get());
        let mut manifest = self.manifest.take().await;
        // Whatever time the job went by, this is no earlier.
        edit.time_ms = self.time_to_record();
        let doubts = manifest.doubts();
        if let Err(error) = manifest.append(&edit).await {
            let in_doubt = manifest.doubts() > doubts;
            drop(manifest);
            if !in_doubt {
                for table in opened {
                    self.remove_table(table).await;
                }
            } else if error.kind() != ErrorKind::NoSpace {
                self.poison(&error);
            }
            return Err(error);
        }
        self.time.note_recorded(manifest.state().time_ms);
        let old = self.live();
        let mut tables: BTreeMap<u64, Rc<Table<I>>> = old
            .all_tables()
            .chain(&opened)
            .map(|table| (table.identity().number, Rc::clone(table)))
            .collect();
        let new = LiveVersion::new(manifest.state().version.clone(), |number| {
            tables.get(&number).cloned()
        });
        for table in new.all_tables() {
            tables.remove(&table.identity().number);
        }
        self.obsolete.borrow_mut().extend(tables.into_values());
        *self.live.borrow_mut() = Rc::new(new);
        if moves_keys {
            self.installs.set(self.installs.get() + 1);
        }
        at_once();
        drop(manifest);
        self.pressure_changed();
        self.upkeep.open();
        Ok(())
    }

    /// Says that a job has dropped the last entry of keys written up to `sequence`: what knows a version of theirs must not
    /// find the same again.
    pub(crate) fn forget(&self, sequence: Sequence) {
        self.newest_forgotten
            .set(self.newest_forgotten.get().max(sequence));
    }

    /// Sets shares and wakes whoever waits, after a version or the number of immutables has changed.
    pub(crate) fn pressure_changed(&self) {
        let live = self.live();
        self.merging
            .set_debt(pick::debt_bytes(&live.version, &self.pick_options()));
        let pressure = self.pressure();
        #[expect(clippy::cast_precision_loss, reason = "a handful of memtables")]
        let backlog = pace::Backlog {
            memtables: pressure.immutables as f64 + pressure.active_fill,
            level0_tables: pressure.level0_tables,
            debt_bytes: pressure.debt_bytes,
        };
        #[expect(clippy::cast_precision_loss, reason = "a handful of memtables")]
        let options = pace::PaceOptions {
            memtables_max: self.tuning().max_immutables as f64 + 1.0,
            ..Default::default()
        };
        let wish = pace::shares(&backlog, &options);
        let shares = self.config.host.wish(self.number(), wish);
        self.io.set_shares(Class::Flush, shares.flush);
        self.io.set_shares(Class::Level0, shares.level0);
        self.io.set_shares(Class::Compaction, shares.compaction);
        self.room.open();
        self.compact_work.open();
    }

    /// The task that deletes files nobody needs and keeps a spare WAL segment ready.
    pub(crate) async fn upkeep_loop(self: Rc<Self>) {
        loop {
            let next = self.upkeep.wait();
            self.delete_obsolete().await;
            if self.closing.get() {
                return;
            }
            self.prepare_spare().await;
            if self.obsolete.borrow().is_empty() {
                next.await;
            } else {
                self.io.sleep(HELD_RETRY).await;
            }
        }
    }

    /// Removes the files of obsolete tables that no reader holds.
    async fn delete_obsolete(&self) {
        let (free, held): (Vec<_>, Vec<_>) = self
            .obsolete
            .take()
            .into_iter()
            .partition(|table| Rc::strong_count(table) == 1);
        self.obsolete.borrow_mut().extend(held);
        for table in free {
            self.remove_table(table).await;
        }
    }

    /// Removes the file of a table that no version names and no reader holds.
    async fn remove_table(&self, table: Rc<Table<I>>) {
        self.cache.remove_table(table.identity().number);
        let path = table.path().to_owned();
        // What cannot be closed or removed now is an orphan, and the next open sweeps it.
        if let Ok(table) = Rc::try_unwrap(table) {
            let _swept_later = table.close().await;
        }
        let _swept_later = self.io.remove(&path).await;
    }
}
