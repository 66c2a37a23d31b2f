//! Read-modify-write on the core that owns the key, without a lock and without a device write each.
//!
//! An update sees what was staged before it: first the batches that are not in the memtable yet, then the memtables,
//! then the tables. Look, decision and staging happen without an await, so nothing comes between them; only a value
//! that lies on the device needs an await, after which memory is looked at again.
//!
//! How much an update writes is known only once it has decided. It is let in by its key, when there is room for one more,
//! so at most one value lies beyond the bound on staged bytes; in time it is paid for by the writers after it.

use std::panic::AssertUnwindSafe;

use crate::codec::batch;
use crate::error::{Error, ErrorKind, Result};
use crate::io::Io;
use crate::shard::Shard;
use crate::shard::group::StagedValue;
use crate::shard::request::{Decision, UpdateFn};
use crate::shard::write::Begun;
use crate::types::{Durability, Kind, MAX_KEY_BYTES, MAX_SEQUENCE, MAX_VALUE_BYTES};

/// How often an update may find that a flush moved its key while it read the device. One flush takes far longer than
/// one read, so a second look nearly always settles it; the bound only keeps a bug from looping for ever.
const MAX_LOOKS: usize = 64;

impl<I: Io> Shard<I> {
    /// Applies `apply` to the present value of `key` and stages the result.
    ///
    /// An update that keeps its key is acknowledged once what it saw is durable, so that no answer rests on a write
    /// that a crash can take back.
    ///
    /// # Errors
    /// As for beginning a write, and for a read; `TooLarge` where the decision is a value over the limit;
    /// `CallerPanicked`.
    pub async fn begin_update(&self, key: &[u8], apply: UpdateFn, durability: Durability) -> Result<Begun> {
        self.admitted(key.len()).await?;
        let mut stored: Option<(u64, Option<Vec<u8>>)> = None;
        let mut looks = 0;
        loop {
            // What came while the device was read may have used the room up; from here to staging nothing is awaited.
            while self.must_wait(key.len())? {
                self.admitted(key.len()).await?;
            }
            let stamp = self.installs.get();
            // A value read from the tables holds only as long as no flush has installed newer ones since.
            let from_tables = stored
                .take()
                .filter(|(seen, _)| *seen == stamp)
                .map(|(_, value)| (value, false));
            if let Some((value, saw_staged)) = self.newest_in_memory(key).or(from_tables) {
                let batch = apply_to(key, apply, value.as_deref())?;
                // It was admitted by its key: those after it pay for the value.
                self.charge(batch.len().saturating_sub(key.len()));
                return Ok(self.stage_decided(&batch, saw_staged, durability));
            }
            if looks == MAX_LOOKS {
                return Err(Error::new(
                    ErrorKind::Busy,
                    "updating a key",
                    "flushes kept moving it while it was being read",
                ));
            }
            looks += 1;
            stored = Some((stamp, self.get_from_tables(key, MAX_SEQUENCE).await?));
        }
    }

    fn stage_decided(&self, batch: &[u8], saw_staged: bool, durability: Durability) -> Begun {
        if batch.is_empty() && !saw_staged {
            return Begun::Done(0);
        }
        let (sender, receiver) = oneshot::async_channel();
        let durability = if batch.is_empty() {
            Durability::Sync
        } else {
            durability
        };
        self.stage(batch, durability, Some(sender));
        Begun::Staged(receiver)
    }

    /// The present value of `key` if memory knows it, and whether it is still waiting for its device write.
    fn newest_in_memory(&self, key: &[u8]) -> Option<(Option<Vec<u8>>, bool)> {
        let staged = self.newest_staged(key, |staged| match staged {
            StagedValue::Put(value) => Some(value.to_vec()),
            StagedValue::Tombstone => None,
        });
        if let Some(value) = staged {
            return Some((value, true));
        }
        let value = self.memory.get(key, MAX_SEQUENCE, |entry| {
            (entry.kind == Kind::Put).then(|| entry.value.to_vec())
        })?;
        Some((value, false))
    }
}

/// Runs the decision and encodes it; an empty batch keeps the key.
fn apply_to(key: &[u8], apply: UpdateFn, present: Option<&[u8]>) -> Result<Vec<u8>> {
    assert!(key.len() <= MAX_KEY_BYTES, "the caller checked the key");
    let mut out = Vec::new();
    // A panic of the caller's closure is the caller's: unwound through a core it would take every shard there with it.
    let decided = std::panic::catch_unwind(AssertUnwindSafe(|| apply(present)));
    let decision = decided.map_err(|_| {
        Error::new(
            ErrorKind::CallerPanicked,
            "updating a key",
            "the closure that decides panicked; nothing was written",
        )
    })?;
    match decision {
        Decision::Put(value) if value.len() > MAX_VALUE_BYTES => {
            return Err(Error::new(
                ErrorKind::TooLarge,
                "updating a key",
                format!(
                    "the new value has {} bytes; the limit is {MAX_VALUE_BYTES}",
                    value.len()
                ),
            ));
        }
        Decision::Put(value) => batch::push_put(&mut out, key, &value),
        Decision::Delete => batch::push_tombstone(&mut out, key),
        Decision::Keep => {}
    }
    Ok(out)
}
