//! What the shards of one core share: the bound on writers that wait, and the core's weights.
//!
//! A shard decides for itself; here its neighbours' claims on the same core are put together. Nothing crosses cores.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use crate::compaction::pace::Shares;
use crate::error::{Error, ErrorKind, Result};
use crate::shard::gate::Gate;

/// Writers that may wait on one core for room, or for their turn while compaction is behind. As many as the mailbox in
/// front of them holds, so that a burst which fits there fits here; bounded because each holds its batch's bytes. Waiting
/// is no work, so it does not count against the tasks of a core: reads go on beside it.
pub const MAX_WAITING_WRITERS: usize = 4096;

/// The core that hosts a few shards, as they see it.
#[derive(Debug, Default)]
pub struct Host {
    waiting_writers: Cell<usize>,
    /// Opened for: a task of the core has ended, or has begun to wait as a writer.
    pub tasks_changed: Gate,
    /// What each shard last asked for.
    wishes: RefCell<BTreeMap<u16, Shares>>,
}

/// A writer's place among those that wait; given back when dropped.
#[derive(Debug)]
pub struct WaitingWriter<'a>(&'a Host);

impl Drop for WaitingWriter<'_> {
    fn drop(&mut self) {
        self.0.waiting_writers.set(self.0.waiting_writers.get() - 1);
    }
}

impl Host {
    /// A place for one more writer that must wait.
    ///
    /// # Errors
    /// `Busy` at the bound.
    pub fn wait_as_writer(&self) -> Result<WaitingWriter<'_>> {
        let waiting = self.waiting_writers.get();
        if waiting >= MAX_WAITING_WRITERS {
            return Err(Error::new(
                ErrorKind::Busy,
                "waiting to write",
                format!("{waiting} writers of this core wait for room already"),
            ));
        }
        self.waiting_writers.set(waiting + 1);
        self.tasks_changed.open();
        Ok(WaitingWriter(self))
    }

    /// Writers that wait now.
    pub fn waiting_writers(&self) -> usize {
        self.waiting_writers.get()
    }

    /// Notes what `shard` asks for, and returns what the core gives: of each class the most that any of its shards asks
    /// for, because the one furthest behind must not wait for those that are not.
    pub fn wish(&self, shard: u16, shares: Shares) -> Shares {
        let mut wishes = self.wishes.borrow_mut();
        wishes.insert(shard, shares);
        wishes.values().fold(shares, |most, wish| Shares {
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
        assert_eq!(host.wish(0, shares(900, 30, 700)), shares(900, 30, 700));
        assert_eq!(host.wish(3, shares(100, 600, 20)), shares(900, 600, 700));
        assert_eq!(
            host.wish(0, shares(100, 30, 20)),
            shares(100, 600, 20),
            "it has caught up"
        );
        assert_eq!(host.wish(3, shares(100, 30, 20)), shares(100, 30, 20));
    }

    #[test]
    fn writers_wait_up_to_a_bound_and_leave_their_places() {
        let host = Host::default();
        let mut places: Vec<_> = (0..MAX_WAITING_WRITERS)
            .map(|_| host.wait_as_writer().unwrap())
            .collect();
        assert_eq!(host.wait_as_writer().unwrap_err().kind(), ErrorKind::Busy);
        places.pop();
        assert!(host.wait_as_writer().is_ok());
        drop(places);
        assert_eq!(host.waiting_writers(), 0);
    }
}
