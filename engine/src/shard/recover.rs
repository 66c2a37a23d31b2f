//! A shard's life: created, opened, closed.
//!
//! Opening reads everything before it writes anything (R11): manifest → tables → WAL from the floor into memtables
//! ([`ReadShard::read`]). Once every shard of the database was read, each writes ([`Shard::start`]), every step safe to be
//! cut off and done again at the next open (R8): the names and the logs that were read are made durable → orphans are
//! removed → the manifest's torn tail is cut off → the WAL's torn tail is sealed off → the tasks begin.
//!
//! The last two need room. Where there is none the shard starts read-only all the same (R14): it reads everything, writes
//! no group, and the commit loop mends before its first one, as soon as there is room ([`Shard::mend_in_time`]). Until
//! then the disk holds what recovery read, so a crash in that state is the same crash again.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::codec::batch;
use crate::compaction::pick;
use crate::error::{Error, ErrorKind, Result};
use crate::io::{Class, File, Io, OpenOptions};
use crate::shard::Shard;
use crate::shard::clock::ExpiryClock;
use crate::shard::compact::Merging;
use crate::shard::config::{Place, ShardConfig, Tuning};
use crate::shard::gate::{Checkout, Gate};
use crate::shard::health::Health;
use crate::shard::live::LiveVersion;
use crate::shard::log::{ROOM_RETRY, Segments};
use crate::shard::memory::Memory;
use crate::shard::prepare::Preparing;
use crate::shard::read_room::ReadRoom;
use crate::shard::stats::Counters;
use crate::shard::write::Staging;
use crate::sstable::{BlockCache, Table, TableIdentity};
use crate::types::{parse_numbered_name, segment_file_name, table_file_name};
use crate::version::manifest::MANIFEST_NAME;
use crate::version::{self, Manifest, ManifestOptions, State, WalFloor};
use crate::wal::{self, Recovered, TailState, Writer};

/// The number of a new shard's first segment.
const FIRST_SEGMENT: u64 = 1;
/// The number of the first frame of a log.
const FIRST_FRAME: u64 = 1;

impl<I: Io> Shard<I> {
    /// Makes an empty shard in the directory of `place`, which exists; durable but for the directory's own name.
    ///
    /// # Errors
    /// `NoSpace` or `Io`.
    pub async fn create(io: &I, place: &Place, tuning: &Tuning) -> Result<()> {
        let segment = wal::prepare(
            io,
            &place.dir,
            wal_owner(place),
            FIRST_SEGMENT,
            tuning.segment_bytes,
            None,
        )
        .await?;
        let closing = segment.file.close().await;
        closing.map_err(|e| Error::io("creating a shard", &segment.path, None, &e))?;
        let floor = WalFloor {
            segment: FIRST_SEGMENT,
            frame: FIRST_FRAME,
        };
        let state = State {
            wal_floor: floor,
            ..State::default()
        };
        let manifest = Manifest::create(
            io,
            &place.dir,
            manifest_owner(place),
            manifest_options(tuning),
            state,
        )
        .await?;
        manifest.close().await
    }

    /// Mends what the read found torn, sweeps orphans and starts the shard's tasks; they run until [`Shard::close`].
    ///
    /// # Errors
    /// `Io`. A full device is none: the shard starts read-only.
    pub async fn start(read: ReadShard<I>) -> Result<Rc<Self>> {
        let ReadShard {
            io,
            config,
            manifest,
            state,
            live,
            memory,
            time,
            recovered,
            replayed_batches,
        } = read;
        // A process that died between a rename and its sync leaves a manifest that we read and a power cut may still take
        // back. What was read must stay before anything that it no longer names is deleted or used again (R9, R10).
        let dir = &config.place.dir;
        let synced = io.sync_dir(dir).await;
        synced.map_err(|e| Error::io("syncing a shard's directory", dir, None, &e))?;
        sync_files(&io, &config, &state, &recovered).await?;
        let segments = Segments::new(needed_files(&state, &recovered), free_files(&state, &recovered));
        let next_file = sweep(&io, &config, &state).await?;
        let torn_tail_bytes = match recovered.tail {
            TailState::Untouched => 0,
            TailState::Torn { bytes } => bytes,
        };
        let cache = Rc::new(BlockCache::new(config.tuning.cache_bytes as u64));
        let long_reads_bytes = config.tuning.long_reads_bytes;
        let shard = Rc::new(Self {
            io,
            config,
            health: Health::default(),
            staging: Staging::default(),
            preparing: Preparing::default(),
            time,
            clock: Cell::default(),
            memory,
            live: RefCell::new(Rc::new(live)),
            installs: Cell::new(0),
            newest_forgotten: Cell::new(0),
            cache,
            read_room: ReadRoom::new(long_reads_bytes),
            manifest: Checkout::new(manifest),
            next_file: Cell::new(next_file),
            segments,
            merging: Merging::default(),
            flush_failures: Cell::new(0),
            flush_error: RefCell::new(None),
            obsolete: RefCell::new(Vec::new()),
            counters: Counters::default(),
            torn_tail_bytes,
            replayed_batches,
            mended: Cell::new(false),
            closing: Cell::new(false),
            winding_down: Cell::new(false),
            close_error: RefCell::new(None),
            tasks: Cell::new(0),
            work: Gate::default(),
            room: Gate::default(),
            flush_work: Gate::default(),
            compact_work: Gate::default(),
            upkeep: Gate::default(),
            clock_work: Gate::default(),
            task_ended: Gate::default(),
        });
        let mut wal = shard.writer_after(&recovered).await?;
        match shard.mend(&mut wal).await {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NoSpace => shard.health.read_only(&error),
            Err(error) => return Err(error),
        }
        shard.begin_tasks(wal);
        Ok(shard)
    }

    /// A writer behind what was recovered. A tail that was never written to is gone on with; a torn one has to be sealed
    /// off, and the log goes on in a fresh segment that is wholly prepared first.
    async fn writer_after(&self, recovered: &Recovered) -> Result<Writer<I>> {
        let place = &self.config.place;
        let tail = wal::reopen(&self.io, &place.dir, recovered.segment).await?;
        let begin = match recovered.tail {
            TailState::Untouched => Writer::at,
            TailState::Torn { .. } => Writer::at_torn_tail,
        };
        Ok(begin(
            self.io.clone(),
            tail,
            recovered.position,
            recovered.next_frame,
        ))
    }

    /// Cuts off what recovery found torn: the manifest's tail, then the WAL's (R8). What is done stays done, so this may be
    /// called again after an error.
    async fn mend(&self, wal: &mut Writer<I>) -> Result<()> {
        self.manifest.take().await.repair().await?;
        if wal.is_torn() {
            self.seal_torn_tail(wal).await?;
        }
        self.mended.set(true);
        Ok(())
    }

    /// Mends what could not be mended at open for lack of room, as soon as there is some. When this returns it is mended,
    /// or the shard writes no more.
    pub(crate) async fn mend_in_time(&self, wal: &mut Writer<I>) {
        while !self.health.is_poisoned() {
            let Err(error) = self.mend(wal).await else {
                self.health.room_again();
                return;
            };
            self.refuse_staged(&error);
            // Of a write whose outcome is unknown only an open can tell what it left. Anything else is tried again.
            let in_doubt = wal.is_in_doubt() || self.manifest.take().await.is_poisoned();
            if in_doubt || self.winding_down.get() || self.closing.get() {
                self.poison(&error);
                return;
            }
            self.health.read_only(&error);
            self.io.sleep(ROOM_RETRY).await;
        }
    }

    fn begin_tasks(self: &Rc<Self>, wal: Writer<I>) {
        self.pressure_changed();
        self.spawn_task(Class::Foreground, Rc::clone(self).commit_loop(wal));
        self.spawn_task(Class::Flush, Rc::clone(self).prepare_loop());
        self.spawn_task(Class::Flush, Rc::clone(self).flush_loop());
        self.spawn_task(Class::Compaction, Rc::clone(self).compact_loop());
        self.spawn_task(Class::Maintenance, Rc::clone(self).upkeep_loop());
        self.spawn_task(Class::Maintenance, Rc::clone(self).clock_loop());
    }

    /// Takes nothing more, makes everything acknowledged durable, marks the logs as closed cleanly and closes every file.
    ///
    /// # Errors
    /// What kept it from that; every acknowledged `Sync` write is safe all the same.
    pub async fn close(&self) -> Result<()> {
        // Entries that are in no WAL become durable by a flush. Everything else is in the log already: flushing it saves
        // the next open a replay, and where there is no room for that the log is there to be replayed.
        let flushed = if self.memory.has_unlogged() {
            self.flush().await
        } else {
            if self.tuning().flush_on_close {
                let _still_in_the_log = self.flush().await;
            }
            Ok(())
        };
        let healthy = !self.health.is_poisoned();
        self.closing.set(true);
        self.health.close();
        self.open_all_gates();
        while self.tasks.get() > 0 {
            let ended = self.task_ended.wait();
            if self.tasks.get() > 0 {
                ended.await;
            }
        }
        let mut manifest = self.manifest.take().await.keep();
        let closed = if healthy {
            let recorded = self.record_time_in(&mut manifest).await;
            recorded.and(manifest.close().await)
        } else {
            Ok(())
        };
        let logged = self.close_error.take().map_or(Ok(()), Err);
        let kept = if self.memory.has_unlogged() {
            Err(lost_unlogged())
        } else {
            Ok(())
        };
        logged.and(flushed).and(closed).and(kept)
    }
}

/// Makes durable what was read of the logs. A process that was killed may leave a frame that the device holds only in its
/// cache: read here, it must not be taken back by a power cut behind frames that call it durable.
async fn sync_files<I: Io>(io: &I, config: &ShardConfig, state: &State, recovered: &Recovered) -> Result<()> {
    let dir = &config.place.dir;
    let segments = needed_files(state, recovered).into_iter().map(segment_file_name);
    for name in segments.chain([MANIFEST_NAME.to_owned()]) {
        let path = dir.join(name);
        let failed = |e: std::io::Error| Error::io("syncing a recovered log", &path, None, &e);
        let file = io.open(&path, OpenOptions::WRITE).await.map_err(failed)?;
        file.sync_data().await.map_err(failed)?;
        file.close().await.map_err(failed)?;
    }
    Ok(())
}

fn lost_unlogged() -> Error {
    let cause = "writes of durability None could not be flushed before the close and are lost";
    Error::new(ErrorKind::Io, "closing a shard", cause)
}

/// A shard of which everything needed was read and to which nothing was written yet: see [`Shard::start`].
pub struct ReadShard<I: Io> {
    io: I,
    config: ShardConfig,
    manifest: Manifest<I>,
    state: State,
    live: LiveVersion<I>,
    memory: Memory,
    time: ExpiryClock,
    recovered: Recovered,
    replayed_batches: u64,
}

impl<I: Io> ReadShard<I> {
    /// Reads a shard: manifest, tables, WAL. Writes nothing.
    ///
    /// # Errors
    /// `Corruption` or `Incompatible` naming file and offset; `Io`.
    pub async fn read(io: I, config: ShardConfig) -> Result<Self> {
        let place = &config.place;
        let options = manifest_options(&config.tuning);
        let (manifest, _) = Manifest::open(&io, &place.dir, manifest_owner(place), options).await?;
        let state = manifest.state().clone();
        config.commits.at_least(state.last_sequence);
        let live = open_version(&io, &config, &state).await?;
        let memory = Memory::default();
        let time = ExpiryClock::new(state.time_ms);
        let (recovered, replayed_batches) = replay(&io, &config, &state, (&memory, &time)).await?;
        Ok(Self {
            io,
            config,
            manifest,
            state,
            live,
            memory,
            time,
            recovered,
            replayed_batches,
        })
    }
}

/// Whose log it is, for the WAL's headers.
pub(crate) fn wal_owner(place: &Place) -> wal::Owner {
    wal::Owner {
        database: place.database,
        shard: place.shard,
    }
}

fn manifest_owner(place: &Place) -> version::Owner {
    version::Owner {
        database: place.database,
        shard: place.shard,
    }
}

fn manifest_options(tuning: &Tuning) -> ManifestOptions {
    ManifestOptions {
        room_bytes: tuning.manifest_bytes,
    }
}

/// Opens every table that the version names; one that is missing or is not what the manifest says refuses to open.
async fn open_version<I: Io>(io: &I, config: &ShardConfig, state: &State) -> Result<LiveVersion<I>> {
    let place = &config.place;
    let mut opened: BTreeMap<u64, Rc<Table<I>>> = BTreeMap::new();
    let mut held = 0;
    for (level, meta) in state.version.tables() {
        let path = place.dir.join(table_file_name(meta.number));
        let identity = TableIdentity {
            database: place.database,
            shard: place.shard,
            number: meta.number,
        };
        let pin = pick_pin(level, held, config.tuning.cache_bytes);
        let table = Table::open(io, path.clone(), identity, meta.bytes, pin).await?;
        let properties = table.properties();
        let same = properties.smallest == meta.smallest
            && properties.largest == meta.largest
            && properties.entries == meta.entries;
        if !same {
            let cause = "the table does not hold what the manifest says of it";
            return Err(Error::corruption("opening a table", &path, None, cause));
        }
        held += table.held_bytes();
        opened.insert(meta.number, Rc::new(table));
    }
    Ok(LiveVersion::new(state.version.clone(), |number| {
        opened.get(&number).cloned()
    }))
}

/// Whether a table's index and filter stay in memory: on every level but the deepest, and there too as long as all that
/// is held stays below half of the block cache. Beyond that they are cached in partitions.
pub(crate) fn pick_pin(level: usize, held_bytes: usize, cache_bytes: usize) -> bool {
    level < pick::BOTTOM || held_bytes < cache_bytes / 2
}

/// Replays the WAL into memtables, as many as it fills; each but the last becomes an immutable. Also returns how many
/// batches that were.
async fn replay<I: Io>(
    io: &I,
    config: &ShardConfig,
    state: &State,
    (memory, time): (&Memory, &ExpiryClock),
) -> Result<(Recovered, u64)> {
    let place = &config.place;
    let floor = state.wal_floor;
    let mut last_frame = 0;
    let mut batches = 0;
    let apply = |frame: u64, bytes: &[u8]| {
        // A memtable may end only where a frame does, because a floor is a frame.
        if frame != last_frame && memory.active_used_bytes() >= config.tuning.memtable_bytes {
            let immutable = memory.rotate();
            immutable.floor.set(Some(WalFloor {
                segment: floor.segment,
                frame,
            }));
        }
        last_frame = frame;
        batches += 1;
        let active = memory.active();
        let mut memtable = active.borrow_mut();
        for op in batch::ops(bytes) {
            let op = op.map_err(|error| {
                let kind = match error {
                    batch::BatchError::Malformed => ErrorKind::Corruption,
                    batch::BatchError::Unknown(_) => ErrorKind::Incompatible,
                };
                Error::located(
                    kind,
                    format!("replaying frame {frame}"),
                    &place.dir,
                    None,
                    error.to_string(),
                )
            })?;
            // Nobody reads yet.
            memtable.insert_over(op.key, config.commits.take(1), op.kind, op.value);
            time.note_kind(op.kind);
        }
        Ok(())
    };
    let owner = wal_owner(place);
    let recovered = wal::recover(io, &place.dir, owner, floor.segment, floor.frame, apply).await?;
    Ok((recovered, batches))
}

/// Segment files from the floor up to the last of the chain.
fn needed_files(state: &State, recovered: &Recovered) -> BTreeSet<u64> {
    let chain = state.wal_floor.segment..=recovered.segment.number;
    recovered
        .files
        .iter()
        .copied()
        .filter(|number| chain.contains(number))
        .collect()
}

/// Segment files before the floor or behind the chain: spares and leftovers.
fn free_files(state: &State, recovered: &Recovered) -> BTreeSet<u64> {
    let chain = state.wal_floor.segment..=recovered.segment.number;
    recovered
        .files
        .iter()
        .copied()
        .filter(|number| !chain.contains(number))
        .collect()
}

/// Removes tables that no version names, which a crash between writing and installing leaves; returns a file number
/// above all.
async fn sweep<I: Io>(io: &I, config: &ShardConfig, state: &State) -> Result<u64> {
    let dir = &config.place.dir;
    let named: BTreeSet<u64> = state.version.tables().map(|(_, table)| table.number).collect();
    let entries = io
        .list_dir(dir)
        .await
        .map_err(|e| Error::io("listing a shard's directory", dir, None, &e))?;
    let mut next = state.next_file_number;
    for entry in entries {
        let Some(number) = parse_numbered_name(&entry.name, "sst") else {
            continue;
        };
        next = next.max(number + 1);
        if !named.contains(&number) {
            let path = dir.join(&entry.name);
            io.remove(&path)
                .await
                .map_err(|e| Error::io("removing an orphan", &path, None, &e))?;
        }
    }
    Ok(next)
}
