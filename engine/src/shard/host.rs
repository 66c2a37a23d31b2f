//! What the shards of one core share: the bound on writers that wait, and the core's weights.
//!
//! A shard decides for itself; here its neighbours' claims on the same core are put together. Nothing crosses cores.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use crate::compaction::pace::Shares;
use crate::error::{Error, ErrorKind, Result};
use crate::shard::gate::Gate;

/// Writers that may wait on one core for room, or for their turn while compaction is behind, whatever they hold. As many
/// as the mailbox in front of them holds, so that a burst which fits there fits here. Waiting is no work, so it does not
/// count against the tasks of a core: reads go on beside it.
pub const WAITING_WRITERS: usize = 4096;

/// Beyond those, as many as hold so many bytes in all: ten thousand callers with a small write each are no overload.
pub const WAITING_BYTES: usize = 64 << 20;

/// Beyond this no more, however small: each has a task, and all are woken when there is room.
pub const MAX_WAITING_WRITERS: usize = 1 << 17;

/// The core that hosts a few shards, as they see it.
#[derive(Debug, Default)]
pub struct Host {
    /// Which core of the database it is, from 0.
    core: usize,
    waiting_writers: Cell<usize>,
    /// Bytes of the batches that they hold.
    waiting_bytes: Cell<usize>,
    /// Opened for: a task of the core has ended, or has begun to wait as a writer.
    pub tasks_changed: Gate,
    /// What each shard last asked for.
    wishes: RefCell<BTreeMap<u16, Shares>>,
}

/// A writer's place among those that wait; given back when dropped.
#[derive(Debug)]
pub struct WaitingWriter<'a> {
    host: &'a Host,
    bytes: usize,
}

impl Drop for WaitingWriter<'_> {
    fn drop(&mut self) {
        let host = self.host;
        host.waiting_writers.set(host.waiting_writers.get() - 1);
        host.waiting_bytes.set(host.waiting_bytes.get() - self.bytes);
    }
}

impl Host {
    /// The core of this index.
    pub fn of_core(core: usize) -> Self {
        Self {
            core,
            ..Self::default()
        }
    }

    /// Which core of the database it is, from 0.
    pub fn core(&self) -> usize {
        self.core
    }

    /// A place for one more writer that must wait, with a batch of `bytes`.
    ///
    /// # Errors
    /// `Busy` at the bound.
    pub fn wait_as_writer(&self, bytes: usize) -> Result<WaitingWriter<'_>> {
        let waiting = self.waiting_writers.get();
        let held = self.waiting_bytes.get() + bytes;
        if waiting >= MAX_WAITING_WRITERS || (waiting >= WAITING_WRITERS && held > WAITING_BYTES) {
            return Err(Error::new(
                ErrorKind::Busy,
                "waiting to write",
                format!("{waiting} writers of this core with {held} bytes wait for room already"),
            ));
        }
        self.waiting_writers.set(waiting + 1);
        self.waiting_bytes.set(held);
        self.tasks_changed.open();
        Ok(WaitingWriter { host: self, bytes })
    }

    /// Writers that wait now.
    pub fn waiting_writers(&self) -> usize {
        self.waiting_writers.get()
    }

    /// Notes what `shard` asks for, and returns what the core gives: of each class the most that any of its shards asks
    /// for, because the one furthest behind must not wait for those that are not.
    pub fn wish(&self, shard: u16, shares: Shares) -> Shares {
        self.wishes.borrow_mut().insert(shard, shares);
        self.given().unwrap_or(shares)
    }

    /// What the core gives now; `None` before any shard has asked.
    pub fn given(&self) -> Option<Shares> {
        let wishes = self.wishes.borrow();
        wishes.values().copied().reduce(|most, wish| Shares {
            flush: most.flush.max(wish.flush),
            level0: most.level0.max(wish.level0),
            compaction: most.compaction.max(wish.compaction),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(flush: u32, level0: u32, compaction: u32) -> Shares {
        Shares {
            flush,
            level0,
            compaction,
        }
    }

    /// Each shard set the core's weights as it installed a version, so that one at rest took them from one far behind.
    #[test]
    fn a_shard_at_rest_takes_no_weight_from_one_that_is_behind() {
        let host = Host::default();
        assert_eq!(host.given(), None);
        assert_eq!(host.wish(0, shares(900, 30, 700)), shares(900, 30, 700));
        assert_eq!(host.wish(3, shares(100, 600, 20)), shares(900, 600, 700));
        assert_eq!(
            host.wish(0, shares(100, 30, 20)),
            shares(100, 600, 20),
            "it has caught up"
        );
        assert_eq!(host.wish(3, shares(100, 30, 20)), shares(100, 30, 20));
        assert_eq!(host.given(), Some(shares(100, 30, 20)));
    }

    /// The bound was 4,096 writers whatever they held, so that ten thousand callers of a healthy core, one small write
    /// each, were told that it is busy.
    #[test]
    fn writers_wait_up_to_a_bound_and_leave_their_places() {
        let host = Host::default();
        let mut places: Vec<_> = (0..10_000).map(|_| host.wait_as_writer(400).unwrap()).collect();
        let refused = |bytes| host.wait_as_writer(bytes).err().map(|error| error.kind());
        assert_eq!(refused(WAITING_BYTES), Some(ErrorKind::Busy), "bytes are bounded");
        places.extend((places.len()..MAX_WAITING_WRITERS).map(|_| host.wait_as_writer(0).unwrap()));
        assert_eq!(refused(0), Some(ErrorKind::Busy), "and so are writers");
        places.pop();
        assert_eq!(refused(0), None);
        places.truncate(WAITING_WRITERS - 1);
        assert_eq!(refused(2 * WAITING_BYTES), None, "a few may hold more");
        drop(places);
        assert_eq!((host.waiting_writers(), host.waiting_bytes.get()), (0, 0));
    }
}
