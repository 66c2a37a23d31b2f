//! The device-write step of the write path, and the WAL segments behind it.
//!
//! A group goes out as whole batches in as few frames as hold them; a batch too large for a frame goes out in parts.
//! When a segment is full the log moves on to a spare that was prepared ahead. If there is no spare and no room to make
//! one, the shard turns read-only: whoever waits is told, nothing of theirs was written, and what is in the memtable
//! already keeps waiting for its frame until room is found.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use crate::codec::frame::{FrameKind, framed_bytes};
use crate::error::{Error, ErrorKind, Result};
use crate::io::{File, Io, OpenOptions};
use crate::shard::Shard;
use crate::shard::gate::Checkout;
use crate::shard::group::{Group, Piece};
use crate::shard::recover::wal_owner;
use crate::types::segment_file_name;
use crate::version::WalFloor;
use crate::wal::{Prepared, Writer, prepare};

/// While the device is full, room is looked for this often.
pub(crate) const ROOM_RETRY: Duration = Duration::from_millis(200);

/// Obsolete segments kept to be used again; with the spare this covers the segments that one flush sets free.
const KEEP_OBSOLETE: usize = 2;

/// The segment files of a shard.
pub struct Segments<I: Io> {
    /// Files that may hold frames that are still needed, the one in use included.
    needed: RefCell<BTreeSet<u64>>,
    /// Files that nobody needs, to be used again or deleted.
    obsolete: RefCell<BTreeSet<u64>>,
    spare: RefCell<Option<Prepared<I>>>,
    next_number: Cell<u64>,
    /// One preparation at a time, so that two tasks never fill two spares.
    preparing: Checkout<()>,
}

impl<I: Io> Segments<I> {
    /// The segments found at open: `needed` from the floor on, and others that are free.
    pub fn new(needed: BTreeSet<u64>, obsolete: BTreeSet<u64>) -> Self {
        let last = needed.last().max(obsolete.last()).copied().unwrap_or(0);
        Self {
            needed: RefCell::new(needed),
            obsolete: RefCell::new(obsolete),
            spare: RefCell::new(None),
            next_number: Cell::new(last + 1),
            preparing: Checkout::new(()),
        }
    }

    /// Segment files on disk.
    pub fn counts(&self) -> u64 {
        let spare = usize::from(self.spare.borrow().is_some());
        (self.needed.borrow().len() + self.obsolete.borrow().len() + spare) as u64
    }

    /// Says that frames before segment `floor` are in tables, durably.
    pub fn release_below(&self, floor: u64) {
        let mut needed = self.needed.borrow_mut();
        let kept = needed.split_off(&floor);
        self.obsolete.borrow_mut().append(&mut needed);
        *needed = kept;
    }

    fn take_spare(&self) -> Option<Prepared<I>> {
        let spare = self.spare.borrow_mut().take()?;
        self.needed.borrow_mut().insert(spare.header.number);
        Some(spare)
    }
}

impl<I: Io> Shard<I> {
    /// Writes these batches of the group in flight; when this returns they are on stable storage.
    ///
    /// Stops early, without an error, at the first batch that was refused meanwhile: those are not to be written.
    ///
    /// # Errors
    /// A failed write, its outcome unknown; `Closed` where the shard closes while the device is full.
    pub(crate) async fn log_batches(
        &self,
        wal: &mut Writer<I>,
        group: &Rc<Group>,
        batches: Range<usize>,
    ) -> Result<()> {
        let mut from = batches.start;
        while from < batches.end {
            if group.is_refused() && from >= group.applied_batches() {
                return Ok(());
            }
            let piece = group.piece(from, batches.end, wal.room());
            if !piece.batches.is_empty() {
                self.log_piece(wal, group, &piece).await?;
                from = piece.batches.end;
                group.note_durable(from);
            } else if group
                .piece(from, batches.end, wal.fresh_room())
                .batches
                .is_empty()
            {
                self.log_large(wal, group, from).await?;
                if group.is_refused() && from >= group.applied_batches() {
                    return Ok(());
                }
                from += 1;
                group.note_durable(from);
            } else {
                self.next_segment(wal).await?;
            }
        }
        Ok(())
    }

    async fn log_piece(&self, wal: &mut Writer<I>, group: &Group, piece: &Piece) -> Result<()> {
        let bytes = self
            .timed_write(wal.write_group(group.piece_bytes(piece)))
            .await?;
        self.count_group(piece.batches.len() as u64, bytes);
        Ok(())
    }

    /// Writes one batch in parts; it exists once the last is on disk.
    async fn log_large(&self, wal: &mut Writer<I>, group: &Group, number: usize) -> Result<()> {
        let mut rest = group.batch(number);
        let (mut first, mut written) = (true, 0);
        while !rest.is_empty() {
            // A part smaller than a page would be mostly header; the end of a segment is left empty instead.
            if wal.room() < wal.fresh_room().min(framed_bytes(1)) / 2 {
                let next = self.spare_segment().await?;
                // Its caller may have been told meanwhile that there was no room: then it must not come back at replay.
                let given_up = group.is_refused() && number >= group.applied_batches();
                self.move_on(wal, next, !first && !given_up).await?;
                if given_up {
                    return Ok(());
                }
                continue;
            }
            // A batch is large with its length before it; without, as it is written here, it may just fit one frame. It
            // has two parts even so, because a first one calls for a last.
            let most = if first { rest.len() - 1 } else { rest.len() };
            let (part, after) = rest.split_at(most.min(wal.room()));
            let kind = match (first, after.is_empty()) {
                (true, _) => FrameKind::First,
                (false, false) => FrameKind::Middle,
                (false, true) => FrameKind::Last,
            };
            written += self.timed_write(wal.write_part(kind, part)).await?;
            (rest, first) = (after, false);
        }
        self.count_group(1, written);
        Ok(())
    }

    fn count_group(&self, batches: u64, bytes: u64) {
        self.counters.wal_batches.add(batches);
        self.counters.group_batches.record(batches);
        self.counters.group_bytes.record(bytes);
    }

    /// Moves the log on to the next segment, waiting for room if there is none.
    async fn next_segment(&self, wal: &mut Writer<I>) -> Result<()> {
        let next = self.spare_segment().await?;
        self.move_on(wal, next, false).await
    }

    /// A segment that is ready, waiting for room if there is none.
    async fn spare_segment(&self) -> Result<Prepared<I>> {
        loop {
            if let Some(spare) = self.segments.take_spare() {
                return Ok(spare);
            }
            // Nothing of the log was tried yet, so whatever failed, nothing is in doubt: those who wait are told, and room
            // or descriptors are looked for until they are there.
            match self.make_spare().await {
                Ok(()) => self.health.room_again(),
                Err(error) => {
                    self.health.read_only(&error);
                    self.refuse_waiting(&error);
                    if self.winding_down.get() || self.closing.get() {
                        self.close_error.borrow_mut().get_or_insert(error.clone());
                        return Err(error);
                    }
                    self.io.sleep(ROOM_RETRY).await;
                }
            }
        }
    }

    async fn move_on(&self, wal: &mut Writer<I>, next: Prepared<I>, continues: bool) -> Result<()> {
        self.timed_write(wal.switch(next, continues)).await?;
        self.upkeep.open();
        Ok(())
    }

    /// Prepares a spare segment if there is none, out of an obsolete one where possible.
    async fn make_spare(&self) -> Result<()> {
        let preparing = self.segments.preparing.take().await;
        if self.segments.spare.borrow().is_some() {
            return Ok(());
        }
        let number = self.segments.next_number.get();
        self.segments.next_number.set(number + 1);
        let recycle = self.segments.obsolete.borrow_mut().pop_first();
        let place = &self.config.place;
        let bytes = self.tuning().segment_bytes;
        let spare = match prepare(&self.io, &place.dir, wal_owner(place), number, bytes, recycle).await {
            Ok(spare) => spare,
            Err(error) => {
                if let Some(old) = recycle {
                    self.give_back_segment(old, &error).await;
                }
                return Err(error);
            }
        };
        *self.segments.spare.borrow_mut() = Some(spare);
        drop(preparing);
        Ok(())
    }

    /// Takes care of an obsolete segment whose recycling has failed. On a full device it is kept, since it is room that
    /// cannot be had anew; after any other failure it goes, so that the next try does not meet the same one.
    async fn give_back_segment(&self, old: u64, error: &Error) {
        let path = self.config.place.dir.join(segment_file_name(old));
        if error.kind() != ErrorKind::NoSpace {
            // What cannot be removed now, or has gone already, is no concern before the next open.
            let _swept_later = self.io.remove(&path).await;
        } else if let Ok(file) = self.io.open(&path, OpenOptions::READ).await {
            let _closed = file.close().await;
            self.segments.obsolete.borrow_mut().insert(old);
        }
        // One that has gone, because it was of no use or was renamed already, must not stand before those that are there.
    }

    /// Keeps a spare ready and deletes obsolete segments beyond those worth keeping. A failure here hurts nobody yet: the
    /// log asks again when it needs the segment, and reports then.
    pub(crate) async fn prepare_spare(&self) {
        let _asked_again = self.make_spare().await;
        loop {
            let surplus = {
                let mut obsolete = self.segments.obsolete.borrow_mut();
                if obsolete.len() > KEEP_OBSOLETE {
                    obsolete.pop_first()
                } else {
                    None
                }
            };
            let Some(number) = surplus else { return };
            let path = self.config.place.dir.join(segment_file_name(number));
            // What cannot be removed now is swept at the next open.
            let _swept_later = self.io.remove(&path).await;
        }
    }

    /// Seals off a torn tail and goes on in a fresh segment (R8).
    pub(crate) async fn seal_torn_tail(&self, wal: &mut Writer<I>) -> Result<()> {
        self.make_spare().await?;
        let next = self.segments.take_spare();
        let next = next.expect("a spare was just made, and only the task that writes the log takes one");
        wal.switch(next, false).await.map(|_| ())
    }

    /// Marks the log as closed cleanly. A log that could not be written is closed as it is.
    pub(crate) async fn close_log(&self, wal: Writer<I>) {
        if let Err(error) = wal.close().await {
            self.close_error.borrow_mut().get_or_insert(error);
        }
        let spare = self.segments.spare.borrow_mut().take();
        if let Some(spare) = spare {
            // It holds nothing.
            let _closed = spare.file.close().await;
        }
    }

    /// Where replay must start for what is written from now on.
    pub(crate) fn floor_of(wal: &Writer<I>) -> WalFloor {
        WalFloor {
            segment: wal.segment(),
            frame: wal.next_frame(),
        }
    }

    /// Tells everybody whose batch is neither written nor in the memtable that it will not be.
    fn refuse_waiting(&self, error: &Error) {
        self.refuse_in_flight(error);
        self.refuse_staged(error);
    }
}
