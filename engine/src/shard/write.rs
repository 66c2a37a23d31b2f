//! The write path, in durability order: stage → seal the group → one aligned device write → apply to the memtable →
//! publish the sequence → acknowledge.
//!
//! While one group is being written the next gathers; nobody waits on a timer when the device is idle. One task per
//! shard ([`Shard::commit_loop`]) owns the WAL, so the order of groups needs no lock:
//!
//! - A `Sync` batch waits in the group until it is on stable storage.
//! - A `Buffered` or `None` batch with nothing unapplied before it enters the memtable at once; otherwise it waits its
//!   turn, because memtable order is WAL order whatever the mix of durabilities.
//! - While the device writes a group, what of entering it into the memtable needs no sequences is done ahead (see
//!   [`prepare`](crate::shard::prepare)); nothing is visible earlier, and nothing waits for it.
//! - The memtable is rotated only when a group is sealed. At that moment everything in it lies in earlier groups or in
//!   the sealed group's applied prefix, so the frame after that prefix is the first one the next memtable needs.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::{Either, select};

use crate::codec::batch;
use crate::compaction::stall::Reason;
use crate::error::{Error, ErrorKind, Result};
use crate::io::Io;
use crate::shard::Shard;
use crate::shard::group::{Answerer, Group};
use crate::shard::health;
use crate::shard::memory::Immutable;
use crate::shard::prepare::PreparedOps;
use crate::shard::request::{Answer, Outcome};
use crate::types::{Durability, Sequence};
use crate::wal::Writer;

/// The group that gathers and the one being written.
#[derive(Debug, Default)]
pub struct Staging {
    open: RefCell<Group>,
    in_flight: RefCell<Rc<Group>>,
    /// An empty one, with room for the next.
    spare: RefCell<Group>,
    /// The commit loop has ended.
    ended: std::cell::Cell<bool>,
    /// When the oldest `Buffered` batch of the open group was staged.
    oldest: std::cell::Cell<Option<Duration>>,
    /// A flush was asked for: rotate at the next seal, however small the memtable is.
    rotate: std::cell::Cell<bool>,
    /// A batch found no room in the open group.
    is_full: std::cell::Cell<bool>,
}

/// A write that has begun.
#[derive(Debug)]
pub enum Begun {
    /// Nothing had to be written.
    Done(Sequence),
    /// It is staged; the answer comes once it is acknowledged.
    Staged(oneshot::AsyncReceiver<Outcome>),
}

impl Begun {
    /// Waits for the acknowledgement.
    ///
    /// # Errors
    /// `OutcomeUnknown`, `NoSpace`, `Poisoned`, `Closed`.
    pub async fn acknowledged(self) -> Result<Sequence> {
        match self {
            Self::Done(sequence) => Ok(sequence),
            Self::Staged(receiver) => match receiver.await {
                Ok(Ok(Answer::Written(sequence))) => Ok(sequence),
                Ok(Ok(other)) => unreachable!("a write is answered by Written, not {other:?}"),
                Ok(Err(error)) => Err(error),
                // The task that owed the answer is gone, which only a panic does to it.
                Err(_) => Err(health::gone(true)),
            },
        }
    }
}

impl<I: Io> Shard<I> {
    /// Waits until an encoded batch may be staged, and stages it.
    ///
    /// # Errors
    /// The shard's health, where it takes no writes.
    pub async fn begin_write(&self, batch: &[u8], durability: Durability) -> Result<Begun> {
        self.admitted(batch.len()).await?;
        let (sender, receiver) = oneshot::async_channel();
        self.stage(batch, durability, Some(sender));
        Ok(Begun::Staged(receiver))
    }

    /// Whether a batch of this size fits beside what is staged; one larger than the whole bound is let in alone.
    pub(crate) fn fits_staging(&self, batch_bytes: usize) -> bool {
        let open = self.staging.open.borrow().bytes();
        let fits = open == 0 || open + batch_bytes <= self.tuning().staged_bytes;
        if !fits {
            self.staging.is_full.set(true);
        }
        fits
    }

    /// Whether writers wait for the group in flight, because no more fit into the one behind it.
    pub(crate) fn staging_is_full(&self) -> bool {
        self.staging.is_full.get()
    }

    /// What keeps that from ending which writers wait for, where it is more than a lack of time.
    pub(crate) fn why_it_lasts(&self, reason: Reason) -> Option<Error> {
        let flush = self.flush_error.borrow().clone();
        match reason {
            Reason::Level0 { .. } => flush.or_else(|| self.merging.failing_level0()),
            Reason::Memtables { .. } | Reason::Debt { .. } => flush,
        }
    }

    /// Stages a batch; `answer` is told once it is acknowledged. The caller was admitted.
    pub fn stage(&self, batch: &[u8], durability: Durability, answer: Option<Answerer>) {
        let mut open = self.staging.open.borrow_mut();
        let must_wait = durability == Durability::Sync
            || open.has_unapplied()
            || self.staging.in_flight.borrow().has_unapplied();
        if must_wait {
            open.stage(batch, durability, answer);
        } else {
            if durability == Durability::Buffered {
                open.log_applied(batch);
                if self.staging.oldest.get().is_none() {
                    self.staging.oldest.set(Some(self.io.now()));
                    self.work.open();
                }
            } else {
                self.memory.note_unlogged();
            }
            let sequence = self.apply(batch, &mut PreparedOps::default());
            answer_with(answer, Ok(Answer::Written(sequence)));
        }
        if open.wants_sync() || open.logged_bytes() >= self.tuning().buffered_bytes || self.memtable_is_full()
        {
            self.work.open();
        }
    }

    /// Enters a batch into the memtable under fresh sequences; no await between the two. Returns the last of them. Its
    /// operations are the next of `prepared`, as far as those go.
    fn apply(&self, bytes: &[u8], prepared: &mut PreparedOps) -> Sequence {
        let count = batch::ops(bytes).count() as u64;
        if count == 0 {
            return 0;
        }
        let first = self.config.commits.take(count);
        // Asked once the numbers are taken: see `sequence`. A scan under way reads as of when it began, snapshot or not.
        let only_newest = !self.config.commits.has_live_snapshots() && self.memory.scans() == 0;
        let memtable = self.memory.active();
        let mut memtable = memtable.borrow_mut();
        let (mut user_bytes, prepared_before) = (0, prepared.len());
        for (sequence, op) in (first..).zip(batch::ops(bytes)) {
            let op = op.expect("a batch is checked before it is staged");
            if let Some(entry) = prepared.next() {
                assert!(
                    memtable.prepared_key(&entry) == op.key,
                    "operations are prepared in their order"
                );
                memtable.insert_prepared(entry, sequence, only_newest);
            } else if only_newest {
                memtable.insert_over(op.key, sequence, op.kind, op.value);
            } else {
                memtable.insert(op.key, sequence, op.kind, op.value);
            }
            self.time.note_kind(op.kind);
            user_bytes += op.key.len() + op.value.len();
        }
        self.counters.operations.add(count);
        let prepared_count = prepared_before - prepared.len();
        self.counters.prepared_operations.add(prepared_count as u64);
        self.counters.user_bytes.add(user_bytes as u64);
        first + count - 1
    }

    /// The one task that writes the WAL. Ends when the shard closes and nothing is left to write; then the log is marked
    /// as closed cleanly. What recovery found torn comes first, unless it is mended already.
    pub(crate) async fn commit_loop(self: Rc<Self>, mut wal: Writer<I>) {
        if !self.mended.get() {
            self.mend_in_time(&mut wal).await;
        }
        while self.group_is_due(&wal).await {
            let rotated = self.seal();
            self.commit(&mut wal, rotated).await;
            self.room.open();
        }
        self.close_log(wal).await;
        self.staging.ended.set(true);
        self.flush_work.open();
    }

    /// Whether the commit loop has ended.
    pub(crate) fn commits_ended(&self) -> bool {
        self.staging.ended.get()
    }

    /// Whether no rotation is outstanding.
    pub(crate) fn rotation_done(&self) -> bool {
        !self.staging.rotate.get()
    }

    /// Waits until the open group should be written; false once the shard is closing and nothing waits.
    async fn group_is_due(&self, wal: &Writer<I>) -> bool {
        loop {
            let next = self.work.wait();
            // A log that takes no groups is as good as poisoned, whatever else was made of the health meanwhile.
            if self.health.is_poisoned() || !wal.is_sound() {
                if self.last_group_is_due(wal) {
                    return true;
                }
                if self.closing.get() {
                    return false;
                }
                next.await;
                continue;
            }
            let (wants_sync, logged_bytes, empty) = {
                let open = self.staging.open.borrow();
                (open.wants_sync(), open.logged_bytes(), open.is_empty())
            };
            let closing = self.closing.get();
            let full = self.memtable_is_full() || self.staging.rotate.get();
            if wants_sync || full || logged_bytes >= self.tuning().buffered_bytes || (closing && !empty) {
                return true;
            }
            if closing {
                return false;
            }
            match self.buffered_time_left() {
                Some(Duration::ZERO) => return true,
                Some(left) => {
                    let sleep = std::pin::pin!(self.io.sleep(left));
                    if let Either::Right(_) = select(std::pin::pin!(next), sleep).await {
                        return true;
                    }
                }
                None => next.await,
            }
        }
    }

    /// Whether a poisoned shard has yet to write what was staged before it was poisoned.
    ///
    /// Where the manifest has failed and the log has not, the group goes out: its pages are new ones of another file, and
    /// nothing that failed is tried again (R3). Some of it was acknowledged as `Buffered`, and replay starts at a floor
    /// that lies before it whichever state the manifest is found in. After the log itself has failed nothing may follow.
    fn last_group_is_due(&self, wal: &Writer<I>) -> bool {
        self.staging.rotate.set(false);
        if wal.is_sound() && !self.staging.open.borrow().is_empty() {
            return true;
        }
        self.refuse_staged(&self.health.check().err().unwrap_or_else(health::closed));
        if self.staging.open.take().applied_batches() > 0 {
            self.close_error.borrow_mut().get_or_insert_with(lost_buffered);
        }
        false
    }

    fn buffered_time_left(&self) -> Option<Duration> {
        let due = self.staging.oldest.get()? + self.tuning().buffered_lag;
        Some(due.saturating_sub(self.io.now()))
    }

    fn memtable_is_full(&self) -> bool {
        self.memory.active_used_bytes() >= self.tuning().memtable_bytes
            && self.memory.immutables() < self.tuning().max_immutables
    }

    /// Closes the open group and rotates the memtable if it is full or a flush was asked for.
    fn seal(&self) -> Option<Rc<Immutable>> {
        let group = self.staging.open.replace(self.staging.spare.take());
        let waits = group.has_unapplied();
        *self.staging.in_flight.borrow_mut() = Rc::new(group);
        self.staging.oldest.set(None);
        self.staging.is_full.set(false);
        let asked = self.staging.rotate.replace(false);
        if asked && self.memory.active_is_empty() {
            // What waits in this group enters the memtable behind its seal, so the rotation comes with the next one. If
            // nothing waits there is nothing to flush, and whoever asked is told so.
            self.staging.rotate.set(waits);
            self.flush_work.open();
            return None;
        }
        let rotated = (asked || self.memtable_is_full()).then(|| self.memory.rotate());
        if rotated.is_some() {
            self.room.open();
        }
        rotated
    }

    /// Writes the sealed group, applies what waited, and acknowledges it.
    async fn commit(&self, wal: &mut Writer<I>, rotated: Option<Rc<Immutable>>) {
        let group = Rc::clone(&self.staging.in_flight.borrow());
        self.begin_preparing(&group);
        let outcome = self.log_group(wal, &group, rotated).await;
        // From here to the acknowledgements nothing is awaited.
        self.staging.in_flight.take();
        match outcome {
            Ok(()) => self.apply_and_acknowledge(&group),
            Err(error) => self.fail(&group, &error),
        }
        if let Ok(group) = Rc::try_unwrap(group) {
            self.staging.spare.replace(group.emptied());
        }
    }

    /// Enters what waited in the group into the memtable, which publishes it, and tells everyone.
    fn apply_and_acknowledge(&self, group: &Group) {
        if group.has_unlogged() {
            self.memory.note_unlogged();
        }
        let mut prepared = self.take_prepared(group);
        let batches = group.unapplied();
        let sequences: Vec<_> = batches.map(|batch| self.apply(batch, &mut prepared)).collect();
        for (answer, sequence) in group.take_answers().into_iter().zip(sequences) {
            answer_with(answer, Ok(Answer::Written(sequence)));
        }
    }

    async fn log_group(
        &self,
        wal: &mut Writer<I>,
        group: &Rc<Group>,
        rotated: Option<Rc<Immutable>>,
    ) -> Result<()> {
        let (prefix, end) = (group.applied_batches(), group.logged_batches());
        let Some(immutable) = rotated else {
            return self.log_batches(wal, group, 0..end).await;
        };
        // The cut behind the applied prefix costs a frame, so it is made only where a rotation needs it.
        self.log_batches(wal, group, 0..prefix).await?;
        immutable.floor.set(Some(Self::floor_of(wal)));
        self.pressure_changed();
        self.flush_work.open();
        self.log_batches(wal, group, prefix..end).await
    }

    /// The device write of these batches failed with an unknown outcome: nothing is retried (R3), every waiter of this
    /// group is told so, and the shard takes no more writes. Those who wait in the open group were never written.
    fn fail(&self, group: &Group, error: &Error) {
        self.poison(error);
        self.take_prepared(group);
        // What was acknowledged as `Buffered` may be lost with it: a close says so.
        self.close_error.borrow_mut().get_or_insert_with(|| error.clone());
        for answer in group.refuse() {
            answer_with(answer, Err(error.with_kind(ErrorKind::OutcomeUnknown)));
        }
        self.refuse_staged(&error.with_kind(ErrorKind::Poisoned));
    }

    /// Gives up what the group in flight has not logged; the caller is the commit loop, so nothing of it is under way.
    pub(crate) fn refuse_in_flight(&self, error: &Error) {
        let group = Rc::clone(&self.staging.in_flight.borrow());
        for answer in group.refuse_unlogged() {
            answer_with(answer, Err(error.clone()));
        }
        // What is on stable storage already must not wait for room that may never come.
        self.apply_and_acknowledge(&group);
        group.note_applied();
    }

    /// Answers everybody who waits in the open group with `error`; nothing of theirs was written.
    pub(crate) fn refuse_staged(&self, error: &Error) {
        let answers = self.staging.open.borrow_mut().drop_unapplied();
        for answer in answers {
            answer_with(answer, Err(error.clone()));
        }
        self.room.open();
    }

    /// Asks the commit loop to rotate the memtable at the next seal.
    pub(crate) fn request_rotation(&self) {
        self.staging.rotate.set(true);
        self.work.open();
    }

    /// Looks `key` up among the batches that are not in the memtable yet. `None`: no such batch names it.
    pub(crate) fn newest_staged<R>(
        &self,
        key: &[u8],
        f: impl FnOnce(crate::shard::group::StagedValue<'_>) -> R,
    ) -> Option<R> {
        let open = self.staging.open.borrow();
        if let Some(staged) = open.newest(key) {
            return Some(f(staged));
        }
        let in_flight = self.staging.in_flight.borrow();
        in_flight.newest(key).map(f)
    }
}

fn lost_buffered() -> Error {
    let cause = "writes acknowledged as Buffered could not be logged and are lost";
    Error::new(ErrorKind::Io, "closing a shard", cause)
}

/// Tells whoever waits; a caller that has gone away no longer wants to know.
pub(crate) fn answer_with(answer: Option<Answerer>, outcome: Result<Answer>) {
    if let Some(answer) = answer {
        let _gone = answer.send(outcome);
    }
}
