//! The read path: memtable → immutables → L0 newest first → one table a level, and at most one device read for each
//! table that its filter does not rule out.
//!
//! What is in memory is answered without awaiting, spawning or allocating. What large blocks take while they are read and
//! looked at is bounded ([`read_room`](crate::shard::read_room)).

use std::rc::Rc;

use crate::error::Result;
use crate::io::Io;
use crate::shard::live::{LiveVersion, Next, Search};
use crate::shard::read_room::{Large, is_large};
use crate::shard::request::{Found, LookFn};
use crate::shard::{Shard, caller};
use crate::types::{Entry, Kind, MAX_SEQUENCE, Sequence};

/// What looking a key up in memory gave.
pub enum Resident<R> {
    /// The answer, whether the key is there or not.
    Known(R),
    /// The device has to be asked.
    Unknown,
}

impl<R> Resident<R> {
    /// The answer; `None` where the device has to be asked.
    pub fn known(self) -> Option<R> {
        match self {
            Self::Known(answer) => Some(answer),
            Self::Unknown => None,
        }
    }
}

impl<I: Io> Shard<I> {
    /// Looks `key` up without touching the device. `f` gets the value, or `None` for a key that is not there.
    pub fn get_resident<R>(&self, key: &[u8], f: impl FnOnce(Option<&[u8]>) -> R) -> Resident<R> {
        self.find_resident(key, |entry| f(entry.and_then(|entry| self.value_of(&entry))))
    }

    /// Looks at `key` without touching the device.
    pub fn look_resident<R>(&self, key: &[u8], f: impl FnOnce(Found<'_>) -> R) -> Resident<R> {
        self.find_resident(key, |entry| f(self.found(entry)))
    }

    fn find_resident<R>(&self, key: &[u8], f: impl FnOnce(Option<Entry<'_>>) -> R) -> Resident<R> {
        let mut f = Some(f);
        let mut answer = |entry: Option<Entry<'_>>| {
            let f = f.take().expect("one lookup answers once");
            f(entry)
        };
        if let Some(answer) = self.memory.get(key, MAX_SEQUENCE, |entry| answer(Some(entry))) {
            self.counters.gets_from_memory.add(1);
            return Resident::Known(answer);
        }
        let mut search = Search::new(self.live(), key, MAX_SEQUENCE);
        loop {
            match search.step(key, &self.cache) {
                Next::Look(block) => {
                    if let Some(entry) = block.get(key, MAX_SEQUENCE) {
                        self.counters.gets_from_cache.add(1);
                        search.count_into(&self.counters, true);
                        return Resident::Known(answer(Some(entry)));
                    }
                }
                Next::Read(..) | Next::ReadPartition(..) => return Resident::Unknown,
                Next::Nowhere => {
                    self.counters.gets_absent.add(1);
                    search.count_into(&self.counters, false);
                    return Resident::Known(answer(None));
                }
            }
        }
    }

    /// The value of `key` as of `at`.
    ///
    /// # Errors
    /// `Io` or `Corruption`, naming the table and the offset.
    pub async fn get(&self, key: &[u8], at: Sequence) -> Result<Option<Vec<u8>>> {
        let owned = |entry: Entry<'_>| self.value_of(&entry).map(<[u8]>::to_vec);
        if let Some(found) = self.memory.get(key, at, owned) {
            self.counters.gets_from_memory.add(1);
            return Ok(found);
        }
        self.get_from(self.live(), key, at).await
    }

    /// The value of `key` in the tables of a version.
    pub(crate) async fn get_from(
        &self,
        live: Rc<LiveVersion<I>>,
        key: &[u8],
        at: Sequence,
    ) -> Result<Option<Vec<u8>>> {
        self.find_in(live, key, at, |entry| {
            let value = entry.and_then(|entry| self.value_of(&entry));
            value.map(<[u8]>::to_vec)
        })
        .await
    }

    /// Runs `look` by `run` on what the tables of a version hold of `key`, now; `None` where it does not want what has to
    /// be read.
    ///
    /// # Errors
    /// As for [`Shard::get`]; `CallerPanicked`.
    pub(crate) async fn look_from<R>(
        &self,
        live: Rc<LiveVersion<I>>,
        key: &[u8],
        look: LookFn,
        run: impl FnOnce(LookFn, Found<'_>) -> R,
    ) -> Result<Option<R>> {
        let choose = |look: &mut LookFn, bytes| {
            let wants = caller::run("looking at a key", || look.wants(bytes))?;
            Ok(if wants { Large::InLine } else { Large::Unread })
        };
        let run = |look, entry: Option<Entry<'_>>| run(look, self.found(entry));
        self.seek_in(live, key, MAX_SEQUENCE, look, choose, run).await
    }

    /// The entry of `key` that a read at `at` finds in the tables of a version.
    async fn find_in<R>(
        &self,
        live: Rc<LiveVersion<I>>,
        key: &[u8],
        at: Sequence,
        f: impl FnOnce(Option<Entry<'_>>) -> R,
    ) -> Result<R> {
        let choose = |(): &mut (), _| Ok(Large::InLine);
        let found = self.seek_in(live, key, at, (), choose, |(), entry| f(entry));
        Ok(found.await?.expect("no block was left unread"))
    }

    /// As [`Shard::find_in`], for a `seeker` that chooses what to do about each large block; `None` where it left one unread.
    pub(crate) async fn seek_in<S, R>(
        &self,
        live: Rc<LiveVersion<I>>,
        key: &[u8],
        at: Sequence,
        mut seeker: S,
        choose: impl Fn(&mut S, usize) -> Result<Large>,
        f: impl FnOnce(S, Option<Entry<'_>>) -> R,
    ) -> Result<Option<R>> {
        let mut search = Search::new(live, key, at);
        let mut reads = 0;
        loop {
            // The room is held until `f` is done with the block.
            let (_room, block) = match search.step(key, &self.cache) {
                Next::Look(block) => (None, block),
                Next::Read(table, handle) => {
                    let chosen = if is_large(handle.bytes()) {
                        choose(&mut seeker, handle.bytes())?
                    } else {
                        Large::AtOnce
                    };
                    let room = match chosen {
                        Large::InLine => Some(self.read_room.take(handle.bytes()).await),
                        Large::AtOnce => None,
                        Large::Unread => return Ok(None),
                    };
                    reads += 1;
                    self.counters.block_reads.add(1);
                    let read = self.timed_read(table.block(handle, &self.cache)).await;
                    (room, read.inspect_err(|_| self.counters.read_errors.add(1))?)
                }
                Next::ReadPartition(table, handle) => {
                    let partition = self.timed_read(table.load_partition(handle, &self.cache)).await;
                    search.supply(partition.inspect_err(|_| self.counters.read_errors.add(1))?);
                    continue;
                }
                Next::Nowhere => {
                    self.counters.gets_absent.add(1);
                    search.count_into(&self.counters, false);
                    return Ok(Some(f(seeker, None)));
                }
            };
            if let Some(entry) = block.get(key, at) {
                let counter = if reads > 0 {
                    &self.counters.gets_from_device
                } else {
                    &self.counters.gets_from_cache
                };
                counter.add(1);
                search.count_into(&self.counters, true);
                return Ok(Some(f(seeker, Some(entry))));
            }
        }
    }

    /// What an entry says of its key now. The clock is asked only where the entry ends at all.
    fn value_of<'a>(&self, entry: &Entry<'a>) -> Option<&'a [u8]> {
        match entry.kind {
            Kind::Put => Some(entry.value),
            Kind::Tombstone => None,
            Kind::PutUntil => self.found(Some(*entry)).value,
        }
    }

    /// What there is to tell of a key whose newest entry is this.
    fn found<'a>(&self, entry: Option<Entry<'a>>) -> Found<'a> {
        let version = entry.map_or(0, |entry| entry.sequence);
        self.judge(self.now_ms(), version, entry.and_then(|entry| entry.content()))
    }
}
