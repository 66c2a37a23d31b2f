//! Preparing: while the device writes a group, its operations are copied into the memtable's arena.
//!
//! A group enters the memtable after its device write, all at once (ADR 0002), and everybody who waits for it waits for that
//! too. Most of the cost needs no sequences: copying the entries, and the cache misses on the way down the index. While the
//! device writes, the core often has nothing else to do, so it is done then:
//!
//! 1. The commit loop begins a group's device write, having said so here ([`Shard::begin_preparing`]).
//! 2. The prepare loop, of a class less urgent than the foreground, runs once the write was handed over: the scheduler looks
//!    at its ring before a less urgent class runs. It prepares one operation after the other, in the group's order.
//! 3. Whoever applies the group takes what is prepared ([`Shard::take_prepared`]): those operations get their sequences and
//!    are put into the index; those that the loop has not come to are inserted whole.
//!
//! Nothing waits for the loop, and nothing is visible earlier than without it. Invariants:
//!
//! - What is prepared is of the group in flight, and of its first unapplied operations, in order and without a gap. It is
//!   taken away, with no await in between, when the group is applied, when it failed, and when a part of it is refused; what
//!   is not used then is forgotten, and its bytes count as used until the memtable is rotated.
//! - It is in the memtable that the group is applied to: that is rotated only when a group is sealed, before its device write.
//! - Between two steps the loop holds nothing, neither a borrow nor the group, and looks anew at what there is to prepare.

use std::cell::RefCell;
use std::rc::{Rc, Weak};

use crate::codec::batch;
use crate::io::Io;
use crate::memtable::Prepared;
use crate::shard::Shard;
use crate::shard::gate::Gate;
use crate::shard::group::Group;
use crate::shard::memory::SharedMemtable;

/// A group with fewer batches to apply is not prepared: waking the loop, and entering the ring once more before it runs,
/// would cost as much as it saves.
const MIN_BATCHES: usize = 4;

/// The loop looks whether its slice is over after having copied so much.
const STEP_BYTES: usize = 32 << 10;

/// What an operation counts for in a step beside its own bytes: finding its way takes as long as copying so much.
const OPERATION_BYTES: usize = 2 << 10;

/// An operation with more bytes is left to [`Shard::apply`], and all behind it: copying it would take a large part of a slice,
/// and what the device writes meanwhile would wait for that.
const MAX_OPERATION_BYTES: usize = 128 << 10;

/// What is prepared of a group: its first unapplied operations, in order.
pub(crate) type PreparedOps = std::vec::IntoIter<Prepared>;

/// What there is to prepare, if anything.
#[derive(Debug, Default)]
pub struct Preparing {
    ahead: RefCell<Option<Ahead>>,
    /// Opened for: a group that is worth preparing goes to the device.
    work: Gate,
}

impl Preparing {
    /// Where the prepare loop waits.
    pub(crate) fn work(&self) -> &Gate {
        &self.work
    }
}

/// How far the group in flight is prepared.
#[derive(Debug)]
struct Ahead {
    /// Weak, so that the commit loop gets the group's room back.
    group: Weak<Group>,
    memtable: SharedMemtable,
    /// Bytes with which the memtable is full. More is left to the apply, so that writers who gather meanwhile, and look at how full
    /// it is, wait no sooner than without us.
    full_bytes: usize,
    prepared: Vec<Prepared>,
    /// Batches of which every operation is prepared.
    batches: usize,
    /// Bytes of the next batch whose operations are.
    batch_bytes: usize,
}

impl Ahead {
    fn new(group: &Rc<Group>, memtable: SharedMemtable, full_bytes: usize) -> Self {
        Self {
            group: Rc::downgrade(group),
            memtable,
            full_bytes,
            prepared: Vec::new(),
            batches: 0,
            batch_bytes: 0,
        }
    }

    /// Prepares a few operations more; whether there are perhaps others.
    fn step(&mut self) -> bool {
        let Some(group) = self.group.upgrade() else {
            return false;
        };
        let mut memtable = self.memtable.borrow_mut();
        let mut bytes = 0;
        for batch in group.unapplied_from(self.batches) {
            let mut ops = batch::ops(&batch[self.batch_bytes..]);
            while let Some(op) = ops.next() {
                let op = op.expect("a batch is checked before it is staged");
                let operation_bytes = op.key.len() + op.value.len();
                if operation_bytes > MAX_OPERATION_BYTES || memtable.used_bytes() >= self.full_bytes {
                    return false;
                }
                self.prepared.push(memtable.prepare(op.key, op.kind, op.value));
                self.batch_bytes = batch.len() - ops.rest().len();
                bytes += OPERATION_BYTES + operation_bytes;
                if bytes >= STEP_BYTES {
                    return true;
                }
            }
            self.batches += 1;
            self.batch_bytes = 0;
        }
        false
    }
}

impl<I: Io> Shard<I> {
    /// Says that the device write of this group begins.
    pub(crate) fn begin_preparing(&self, group: &Rc<Group>) {
        if group.unapplied().take(MIN_BATCHES).count() < MIN_BATCHES {
            return;
        }
        let ahead = Ahead::new(group, self.memory.active(), self.tuning().memtable_bytes);
        let before = self.preparing.ahead.replace(Some(ahead));
        assert!(before.is_none(), "one group is in flight at a time");
        self.preparing.work.open();
    }

    /// Takes what is prepared of the group in flight, which is applied or given up now: no more of it is prepared.
    pub(crate) fn take_prepared(&self, group: &Group) -> PreparedOps {
        let Some(ahead) = self.preparing.ahead.take() else {
            return PreparedOps::default();
        };
        assert!(
            std::ptr::eq(ahead.group.as_ptr(), group),
            "what is prepared is of the group in flight"
        );
        assert!(
            Rc::ptr_eq(&ahead.memtable, &self.memory.active()),
            "the memtable is rotated only when a group is sealed"
        );
        ahead.prepared.into_iter()
    }

    /// The task that prepares the groups in flight. When the shard closes it ends: what is written after that is applied
    /// without it.
    pub(crate) async fn prepare_loop(self: Rc<Self>) {
        loop {
            let next = self.preparing.work.wait();
            while self.prepare_some() {
                self.make_way().await;
            }
            if self.closing.get() {
                return;
            }
            next.await;
        }
    }

    /// Prepares a few operations more of the group in flight; whether there are perhaps others.
    fn prepare_some(&self) -> bool {
        let mut ahead = self.preparing.ahead.borrow_mut();
        ahead.as_mut().is_some_and(Ahead::step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Durability, Kind};

    const FULL_BYTES: usize = 64 << 20;

    /// A group with an applied batch and then these, every third in no log.
    fn group_of(batches: &[Vec<u8>]) -> Rc<Group> {
        let mut group = Group::default();
        let mut applied = Vec::new();
        batch::push_put(&mut applied, b"applied", b"already");
        group.log_applied(&applied);
        for (number, batch) in batches.iter().enumerate() {
            let durability = if number % 3 == 0 {
                Durability::None
            } else {
                Durability::Sync
            };
            group.stage(batch, durability, None);
        }
        Rc::new(group)
    }

    /// Every kind of operation, `count` of them, with values of so many bytes.
    fn batch_of(count: usize, value_bytes: usize) -> Vec<u8> {
        let (mut bytes, value) = (Vec::new(), vec![7; value_bytes]);
        for number in 0..count {
            match number % 3 {
                0 => batch::push_put(&mut bytes, &number.to_be_bytes(), &value),
                1 => batch::push_put_until(&mut bytes, &number.to_be_bytes(), &value, 9),
                _ => batch::push_tombstone(&mut bytes, &number.to_be_bytes()),
            }
        }
        bytes
    }

    /// Steps until nothing is left; how many steps that took.
    fn run(ahead: &mut Ahead) -> usize {
        let mut steps = 1;
        while ahead.step() {
            steps += 1;
        }
        steps
    }

    /// Inserts all that is prepared; the keys and kinds in that order.
    fn inserted(ahead: Ahead) -> Vec<(Vec<u8>, Kind)> {
        let mut memtable = ahead.memtable.borrow_mut();
        let mut entries = Vec::new();
        for (sequence, prepared) in (1..).zip(ahead.prepared) {
            let key = memtable.prepared_key(&prepared).to_vec();
            memtable.insert_prepared(prepared, sequence, false);
            let entry = memtable.get(&key, sequence).unwrap();
            assert_eq!((entry.key, entry.sequence), (&*key, sequence));
            entries.push((key, entry.kind));
        }
        entries
    }

    #[test]
    fn operations_are_prepared_in_their_order_over_batches_in_bounded_steps() {
        let batches = [
            batch_of(1, 10),
            batch_of(100, 100),
            Vec::new(),
            batch_of(2, 90_000),
            batch_of(5, 0),
        ];
        let group = group_of(&batches);
        let mut ahead = Ahead::new(&group, SharedMemtable::default(), FULL_BYTES);
        let steps = run(&mut ahead);
        assert!(
            (7..12).contains(&steps),
            "{steps} steps for 108 operations, two of them large"
        );
        assert!(!ahead.step(), "there is nothing more");
        assert!(ahead.memtable.borrow().is_empty());
        let ops = batches.iter().flat_map(|batch| batch::ops(batch));
        let expected: Vec<_> = ops
            .map(|op| op.unwrap())
            .map(|op| (op.key.to_vec(), op.kind))
            .collect();
        assert!(inserted(ahead) == expected);
    }

    #[test]
    fn a_large_operation_and_what_is_behind_it_are_left() {
        let group = group_of(&[batch_of(5, 10), batch_of(1, MAX_OPERATION_BYTES), batch_of(5, 10)]);
        let mut ahead = Ahead::new(&group, SharedMemtable::default(), FULL_BYTES);
        run(&mut ahead);
        run(&mut ahead);
        assert_eq!(inserted(ahead).len(), 5);
    }

    #[test]
    fn no_more_is_prepared_than_the_memtable_has_room_for() {
        let group = group_of(&vec![batch_of(1, 1000); 50]);
        let mut ahead = Ahead::new(&group, SharedMemtable::default(), 30_000);
        run(&mut ahead);
        assert!(!ahead.step());
        let (found, bytes) = (ahead.prepared.len(), ahead.memtable.borrow().used_bytes());
        assert!(
            (10..30).contains(&found) && (30_000..32_000).contains(&bytes),
            "{found} with {bytes} bytes"
        );
    }

    #[test]
    fn what_was_refused_or_is_gone_is_not_prepared() {
        let group = group_of(&vec![batch_of(1, 10); 8]);
        let mut ahead = Ahead::new(&group, SharedMemtable::default(), FULL_BYTES);
        group.refuse_unlogged();
        run(&mut ahead);
        assert_eq!(ahead.prepared.len(), 1, "the first is in no log, and goes on");
        let mut ahead = Ahead::new(&group, SharedMemtable::default(), FULL_BYTES);
        drop(group);
        assert!(!ahead.step() && ahead.prepared.is_empty());
    }
}
