//! What the shards of one core share: the bound on writers that wait.
//!
//! A shard decides for itself; here its neighbours' claims on the same core are put together. Nothing crosses cores.

use std::cell::Cell;

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
}

#[cfg(test)]
mod tests {
    use super::*;

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
