//! Brings the data blocks of a table to a cursor in file order, reading ahead of it.
//!
//! Blocks lie side by side and each says in its header how long it is, so walking them needs no index. Two habits:
//!
//! - **sequential**, for compaction: chunks of 256 KiB, one more always in flight while the last is consumed.
//! - **growing**, for scans: the first read brings one block, and each further read twice as much, up to 64 KiB; a short
//!   scan reads little that it does not need and a long one few times.
//!
//! A block that straddles the end of a chunk (only blocks of several pages can) is put together in `straddling`.

use std::path::Path;

use super::format::{BlockHandle, FormatError, claimed_bytes};
use super::started::Started;
use super::table::{Table, Window, damaged, whole_read};
use crate::error::Result;
use crate::io::{File, Io};
use crate::types::PAGE_BYTES;

const DOING: &str = "reading blocks in order";

/// One read of a sequential walk, in bytes. See the module head.
pub(crate) const SEQUENTIAL_BYTES: usize = 256 * 1024;

/// The longest read ahead of a scan, in bytes. An idle cursor may hold so much.
pub(crate) const SCAN_BYTES_MAX: usize = 64 * 1024;

struct Ahead<F: File> {
    start: u64,
    bytes: usize,
    read: Started<std::io::Result<F::ReadBuf>>,
}

/// Where a cursor's blocks come from. See the [module](self).
pub(crate) struct Feed<I: Io> {
    sequential: bool,
    next_read_bytes: usize,
    window: Option<Window<I::File>>,
    ahead: Option<Ahead<I::File>>,
    straddling: Vec<u8>,
    straddling_start: u64,
}

impl<I: Io> Feed<I> {
    pub(crate) fn sequential() -> Self {
        Self::new(true, SEQUENTIAL_BYTES)
    }

    pub(crate) fn growing() -> Self {
        Self::new(false, 0)
    }

    fn new(sequential: bool, next_read_bytes: usize) -> Self {
        Self {
            sequential,
            next_read_bytes,
            window: None,
            ahead: None,
            straddling: Vec::new(),
            straddling_start: 0,
        }
    }

    /// Forgets the reading habit grown so far; the next read is a random one.
    pub(crate) fn restart(&mut self) {
        if !self.sequential {
            self.next_read_bytes = 0;
        }
    }

    /// The whole block at `offset` and its bytes, if they are here.
    #[inline]
    pub(crate) fn block_at(&self, offset: u64) -> Option<(BlockHandle, &[u8])> {
        let held = match &self.window {
            Some(window) if offset >= window.start => window.from(offset),
            _ => None,
        };
        let held = match held {
            Some(bytes) if claimed_bytes(bytes).is_some_and(|claimed| claimed <= bytes.len()) => bytes,
            _ if offset == self.straddling_start && !self.straddling.is_empty() => &self.straddling,
            _ => return None,
        };
        let bytes = held.get(..claimed_bytes(held)?)?;
        let page = u32::try_from(offset / PAGE_BYTES as u64).ok()?;
        let pages = u32::try_from(bytes.len() / PAGE_BYTES).ok()?;
        Some((BlockHandle { page, pages }, bytes))
    }

    /// Reads until [`Feed::block_at`] has the block at `offset`, which lies below the end of the data.
    /// `known_bytes` is its length where the caller knows it from the index.
    pub(crate) async fn fill(
        &mut self,
        table: &Table<I>,
        offset: u64,
        known_bytes: Option<usize>,
    ) -> Result<()> {
        assert!(offset < table.data_end(), "a block is asked for within the data");
        let has_page = self
            .window
            .as_ref()
            .and_then(|window| window.from(offset))
            .is_some_and(|b| !b.is_empty());
        if !has_page {
            self.window = None;
            self.read_next(table, offset, known_bytes.unwrap_or(PAGE_BYTES))
                .await?;
        }
        let start = self
            .window
            .as_ref()
            .and_then(|window| window.from(offset))
            .expect("just read");
        let claimed = checked_claim(start, offset, table.data_end(), table.path())?;
        if claimed <= start.len() {
            return Ok(());
        }
        self.straddling.clear();
        self.straddling.extend_from_slice(start);
        self.straddling_start = offset;
        while self.straddling.len() < claimed {
            let missing = claimed - self.straddling.len();
            let at = offset + self.straddling.len() as u64;
            self.read_next(table, at, missing).await?;
            let bytes = self
                .window
                .as_ref()
                .and_then(|window| window.from(at))
                .expect("just read");
            self.straddling
                .extend_from_slice(&bytes[..missing.min(bytes.len())]);
        }
        Ok(())
    }

    /// Makes the window start at `offset`: from the read in flight if it is that one, or else by a read of at least
    /// `least_bytes`, if the data reach so far.
    async fn read_next(&mut self, table: &Table<I>, offset: u64, least_bytes: usize) -> Result<()> {
        let ahead = match self.ahead.take().filter(|ahead| ahead.start == offset) {
            Some(ahead) => ahead,
            None => self.start_read(table, offset, least_bytes).await,
        };
        let outcome = ahead.read.wait().await;
        let window: Window<I::File> = whole_read(table.path(), DOING, offset, ahead.bytes, outcome)?;
        let end = offset + window.bytes.len() as u64;
        self.window = Some(window);
        if self.sequential && end < table.data_end() {
            self.ahead = Some(self.start_read(table, end, 0).await);
        }
        Ok(())
    }

    async fn start_read(&mut self, table: &Table<I>, start: u64, least_bytes: usize) -> Ahead<I::File> {
        let left = usize::try_from(table.data_end() - start).expect("a table is far below the address space");
        let wanted = if self.sequential {
            SEQUENTIAL_BYTES
        } else {
            let wanted = self.next_read_bytes.max(least_bytes);
            self.next_read_bytes = (wanted * 2).min(SCAN_BYTES_MAX);
            wanted
        };
        let bytes = wanted.min(left);
        Ahead {
            start,
            bytes,
            read: Started::new(table.file().read_at(start, bytes)).await,
        }
    }
}

/// The length that the block at the start of `bytes` claims, if the data have room for it (R17).
fn checked_claim(bytes: &[u8], offset: u64, data_end: u64, path: &Path) -> Result<usize> {
    let claimed = claimed_bytes(bytes).filter(|&claimed| claimed as u64 <= data_end - offset);
    claimed.ok_or_else(|| {
        let cause = FormatError::Malformed("the block claims to be longer than the data");
        damaged(DOING.into(), path, offset, &cause)
    })
}
