//! Read-modify-write on the core that owns the keys, without a lock and without a device write each: of one key
//! ([`Shard::begin_update`]), or of several with one atomic batch ([`Shard::begin_transact`]).
//!
//! It sees what was staged before it: first the batches that are not in the memtable yet, then the memtables, then the
//! tables. Look, decision and staging happen without an await, so nothing comes between them; only values that lie on the
//! device need an await, after which memory is looked at again, for every key. The values are copied to be shown
//! together, so what all of them take is bounded ([`MAX_KNOWN_BYTES`]).
//!
//! How much is written is known only once it was decided. It is let in by its keys, when there is room for one more, so at
//! most one batch lies beyond the bound on staged bytes; in time it is paid for by the writers after it.

use std::cell::Cell;

use futures_util::future::join_all;

use crate::codec::batch;
use crate::error::{Error, ErrorKind, Result};
use crate::io::Io;
use crate::shard::batch::check_value;
use crate::shard::group::StagedValue;
use crate::shard::read_room::{Held, Large};
use crate::shard::request::{Decision, Found, TransactFn, UpdateFn};
use crate::shard::write::Begun;
use crate::shard::{Shard, caller};
use crate::types::{Content, Durability, Entry, MAX_KEY_BYTES, MAX_SEQUENCE, MAX_VALUE_BYTES, Sequence};

/// How often a decision may find that a flush moved its keys while it read the device. One flush takes far longer than
/// one read, so a second look nearly always settles it; the bound only keeps a bug from looping for ever.
const MAX_LOOKS: usize = 64;

/// What the values that one decision sees may take, because they are copied to be shown together. Several values of the
/// greatest length fit, and one alone always does.
const MAX_KNOWN_BYTES: usize = 256 << 20;
const _: () = assert!(MAX_KNOWN_BYTES >= 2 * MAX_VALUE_BYTES, "several values fit");

/// So many keys are read from the device at a time: enough to keep it busy, few enough that the blocks being read, which lie
/// beside the copies, stay within a few times [`MAX_KNOWN_BYTES`] even for values of the greatest length.
const READS_AT_A_TIME: usize = 16;

/// How many flushes and merges were installed when tables were looked into.
type Stamp = u64;

/// What the values of one decision may still take.
#[derive(Debug)]
struct Room(Cell<usize>);

impl Room {
    fn new() -> Self {
        Self(Cell::new(MAX_KNOWN_BYTES))
    }

    /// Takes what a value needs, before it is copied.
    fn take(&self, value_bytes: usize) -> Result<()> {
        let Some(left) = self.0.get().checked_sub(value_bytes) else {
            return Err(Error::new(
                ErrorKind::TooLarge,
                "updating keys",
                format!(
                    "a transaction looks at more than {MAX_KNOWN_BYTES} bytes of values; nothing was written, \
                     use fewer keys"
                ),
            ));
        };
        self.0.set(left);
        Ok(())
    }
}

/// What is known of a key, copied out of where it lies.
#[derive(Debug)]
struct Known {
    version: Sequence,
    value: Option<Vec<u8>>,
    expires_ms: Option<u64>,
}

impl Known {
    fn new(version: Sequence, content: Option<Content<'_>>, room: &Room) -> Result<Self> {
        room.take(content.map_or(0, |content| content.value.len()))?;
        Ok(Self {
            version,
            value: content.map(|content| content.value.to_vec()),
            expires_ms: content.and_then(|content| content.expires_ms),
        })
    }

    fn of_entry(entry: Option<Entry<'_>>, room: &Room) -> Result<Self> {
        let version = entry.map_or(0, |entry| entry.sequence);
        Self::new(version, entry.and_then(|entry| entry.content()), room)
    }

    fn content(&self) -> Option<Content<'_>> {
        self.value.as_deref().map(|value| Content {
            value,
            expires_ms: self.expires_ms,
        })
    }

    fn value_bytes(&self) -> usize {
        self.value.as_ref().map_or(0, Vec::len)
    }

    fn is_staged(&self) -> bool {
        self.version == MAX_SEQUENCE
    }
}

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
        assert!(key.len() <= MAX_KEY_BYTES, "the caller checked the key");
        let decide = |found: &[Found<'_>]| {
            let found = found[0];
            encode(key, caller::run("updating a key", || apply(found))?)
        };
        self.decide_and_stage(&[key], decide, true, durability).await
    }

    /// Applies `apply` to the present values of `keys` and stages the batch that it returns; an empty one is acknowledged
    /// as an update that keeps its key. One that does not write needs no admission.
    ///
    /// # Errors
    /// As for [`Shard::begin_update`]; `CrossShard` where the batch has a key of another shard; `TooLarge` where the
    /// present values take too much together; `InvalidOptions` where one that does not write returns a batch.
    pub async fn begin_transact(
        &self,
        keys: &[Vec<u8>],
        apply: TransactFn,
        writes: bool,
        durability: Durability,
    ) -> Result<Begun> {
        let keys: Vec<_> = keys.iter().map(Vec::as_slice).collect();
        let decide = |found: &[Found<'_>]| {
            let batch = caller::run("running a transaction", || apply(found))?;
            if !writes && !batch.encoded().is_empty() {
                return Err(Error::new(
                    ErrorKind::InvalidOptions,
                    "running a transaction",
                    "it was said to only read and writes; nothing was written, say that it writes",
                ));
            }
            self.check_owned(batch.keys())?;
            Ok(batch.encoded().to_vec())
        };
        self.decide_and_stage(&keys, decide, writes, durability).await
    }

    async fn decide_and_stage(
        &self,
        keys: &[&[u8]],
        decide: impl FnOnce(&[Found<'_>]) -> Result<Vec<u8>>,
        writes: bool,
        durability: Durability,
    ) -> Result<Begun> {
        let known_bytes = keys.iter().map(|key| key.len()).sum();
        // What only reads goes on where no write is let in (R3, R14).
        if writes {
            self.admitted(known_bytes).await?;
        }
        let mut read = Vec::new();
        for _ in 0..=MAX_LOOKS {
            // What came while the device was read may have used the room up; from here to staging nothing is awaited.
            while writes && self.must_wait(known_bytes)? {
                self.admitted(known_bytes).await?;
            }
            let room = Room::new();
            let mut known = self.look_again(keys, &mut read, &room)?;
            if known.iter().all(Option::is_some) {
                let now_ms = self.now_ms();
                let known = || known.iter().flatten();
                let found: Vec<_> = known()
                    .map(|known| self.judge(now_ms, known.version, known.content()))
                    .collect();
                let batch = decide(&found)?;
                // It was admitted by its keys: those after it pay for the rest.
                self.charge(batch.len().saturating_sub(known_bytes));
                return Ok(self.stage_decided(&batch, known().any(Known::is_staged), durability));
            }
            let stamp = self.installs.get();
            let mut stamps = vec![stamp; keys.len()];
            self.read_missing(keys, &mut known, &mut stamps, &room).await?;
            // What is in a memtable stays there until a flush is installed; what is only staged may yet be refused.
            let known = known
                .into_iter()
                .map(|known| known.filter(|known| !known.is_staged()));
            read = known
                .zip(stamps)
                .map(|(known, stamp)| Some((stamp, known?)))
                .collect();
        }
        Err(Error::new(
            ErrorKind::Busy,
            "updating keys",
            "flushes kept moving them while they were being read",
        ))
    }

    /// The newest of each key: what memory knows now, else what was read before; `None` where the tables have to be asked.
    fn look_again(
        &self,
        keys: &[&[u8]],
        read: &mut [Option<(Stamp, Known)>],
        room: &Room,
    ) -> Result<Vec<Option<Known>>> {
        let now = self.installs.get();
        let mut read = read.iter_mut();
        keys.iter()
            .map(|key| {
                let read = read.next().and_then(Option::take);
                // A value read from the tables holds only as long as no flush has installed newer ones since.
                let read = read.and_then(|(stamp, known)| (stamp == now).then_some(known));
                if let Some(known) = self.newest_in_memory(key, room) {
                    return known.map(Some);
                }
                room.take(read.as_ref().map_or(0, Known::value_bytes))?;
                Ok(read)
            })
            .collect()
    }

    /// Asks the tables for each key of which nothing is known, and notes of when they were.
    async fn read_missing(
        &self,
        keys: &[&[u8]],
        known: &mut [Option<Known>],
        stamps: &mut [Stamp],
        room: &Room,
    ) -> Result<()> {
        let places = known.iter_mut().zip(stamps);
        let missing = keys.iter().zip(places).filter(|(_, (known, _))| known.is_none());
        let mut missing: Vec<_> = missing.collect();
        for some in missing.chunks_mut(READS_AT_A_TIME) {
            let reads = some.iter_mut().map(|(key, (known, stamp))| async move {
                let (of, read) = self.read_newest(key, room).await?;
                (**known, **stamp) = (Some(read), of);
                Ok(())
            });
            join_all(reads).await.into_iter().collect::<Result<()>>()?;
        }
        Ok(())
    }

    /// What the tables hold of `key`, and of when they are. Those that are looked into are the ones there are once there is
    /// room for a large block: while it stands in line flushes are installed, and what it then read of tables of before would
    /// not hold.
    async fn read_newest(&self, key: &[u8], room: &Room) -> Result<(Stamp, Known)> {
        let mut held: Option<Held<'_>> = None;
        loop {
            let (stamp, held_bytes) = (self.installs.get(), held.as_ref().map_or(0, Held::bytes));
            let needed_bytes = Cell::new(0);
            let choose = |(): &mut (), bytes| {
                if bytes <= held_bytes {
                    return Ok(Large::AtOnce);
                }
                needed_bytes.set(bytes);
                Ok(Large::Unread)
            };
            let known = |(), entry: Option<Entry<'_>>| Known::of_entry(entry, room);
            let sought = self.seek_in(self.live(), key, MAX_SEQUENCE, (), choose, known);
            if let Some(known) = sought.await? {
                return Ok((stamp, known?));
            }
            // Given back first: who holds room asks for no more. Each time it is more, so this ends.
            drop(held.take());
            held = Some(self.read_room.take(needed_bytes.get()).await);
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

    /// The newest that memory knows of `key`: what is staged, else what is in a memtable.
    fn newest_in_memory(&self, key: &[u8], room: &Room) -> Option<Result<Known>> {
        let staged = self.newest_staged(key, |staged| {
            let content = match staged {
                StagedValue::Put(content) => Some(content),
                StagedValue::Tombstone => None,
            };
            Known::new(MAX_SEQUENCE, content, room)
        });
        staged.or_else(|| {
            self.memory
                .get(key, MAX_SEQUENCE, |entry| Known::of_entry(Some(entry), room))
        })
    }

    fn check_owned<'a>(&self, keys: impl Iterator<Item = &'a [u8]>) -> Result<()> {
        let shard = self.number();
        let stranger = keys
            .map(|key| self.config.owner.of(key))
            .find(|&owner| owner != shard);
        let Some(owner) = stranger else {
            return Ok(());
        };
        Err(Error::new(
            ErrorKind::CrossShard,
            "running a transaction",
            format!(
                "it ran on shard {shard} and writes a key that belongs to shard {owner}; nothing was written"
            ),
        ))
    }
}

/// The batch that a decision comes to; an empty one keeps the key.
fn encode(key: &[u8], decision: Decision) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    match decision {
        Decision::Put(value) => {
            check_value(&value)?;
            batch::push_put(&mut out, key, &value);
        }
        Decision::PutUntil(value, expires_ms) => {
            check_value(&value)?;
            batch::push_put_until(&mut out, key, &value, expires_ms);
        }
        Decision::Delete => batch::push_tombstone(&mut out, key),
        Decision::Keep => {}
    }
    Ok(out)
}
