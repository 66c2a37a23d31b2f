//! Writes a table: hands the builder's finished pages to the file, with at most two writes in flight.
//!
//! `add` is synchronous and touches only memory; call `pump` whenever `needs_pump` says so, and the memory held stays
//! at a chunk, two writes and one entry. Every write's length is checked (R2). [`TableWriter::finish`] returns once the
//! data is on stable storage; the file's NAME is durable only when the caller has synced the directory (R10).

use std::collections::VecDeque;
use std::path::PathBuf;

use super::builder::{TableBuilder, TableOptions, TableSummary};
use super::format::TableIdentity;
use super::started::Started;
use crate::error::{Error, ErrorKind, Result};
use crate::io::{File, Io, OpenOptions};
use crate::types::{Entry, PAGE_BYTES};

/// Length of one write in bytes: long enough that the device streams, short enough to share it with the foreground.
const CHUNK_BYTES: usize = 512 * 1024;

/// Writes in flight: one runs while the next is queued behind it, so the device never waits for this core.
const WRITES_IN_FLIGHT: usize = 2;

type WriteBuf<I> = <<I as Io>::File as File>::WriteBuf;

struct InFlight<I: Io> {
    offset: u64,
    bytes: usize,
    write: Started<(std::io::Result<usize>, WriteBuf<I>)>,
}

/// Writes one table to a file: `add`, `pump` when `needs_pump`, then `finish` or `abandon`.
pub struct TableWriter<I: Io> {
    io: I,
    file: I::File,
    path: PathBuf,
    builder: TableBuilder,
    offset: u64,
    in_flight: VecDeque<InFlight<I>>,
    spare: Vec<WriteBuf<I>>,
    /// The first write that failed: nothing is written after it, and the table is never finished.
    failed: Option<Error>,
}

impl<I: Io> std::fmt::Debug for TableWriter<I> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TableWriter")
            .field("path", &self.path)
            .field("builder", &self.builder)
            .field("offset", &self.offset)
            .finish_non_exhaustive()
    }
}

impl<I: Io> TableWriter<I> {
    /// Creates the file, which must not exist.
    ///
    /// # Errors
    /// `Io` or `NoSpace`, naming the file.
    ///
    /// # Panics
    /// As [`TableBuilder::new`].
    pub async fn create(
        io: &I,
        path: PathBuf,
        identity: TableIdentity,
        options: &TableOptions,
    ) -> Result<Self> {
        let builder = TableBuilder::new(identity, options);
        let file = io
            .open(&path, OpenOptions::CREATE)
            .await
            .map_err(|e| Error::io("creating a table", &path, None, &e))?;
        Ok(Self {
            io: io.clone(),
            file,
            path,
            builder,
            offset: 0,
            in_flight: VecDeque::with_capacity(WRITES_IN_FLIGHT),
            spare: Vec::with_capacity(WRITES_IN_FLIGHT),
            failed: None,
        })
    }

    /// Adds the next entry, in memory.
    ///
    /// # Panics
    /// As [`TableBuilder::add`].
    #[inline]
    pub fn add(&mut self, entry: Entry<'_>) {
        self.builder.add(entry);
    }

    /// Whether a chunk is ready to be written.
    #[inline]
    pub fn needs_pump(&self) -> bool {
        self.builder.ready_bytes() >= CHUNK_BYTES
    }

    /// What was added so far.
    pub fn builder(&self) -> &TableBuilder {
        &self.builder
    }

    /// Starts the writes of all full chunks; waits only while two are in flight already.
    ///
    /// # Errors
    /// `Io` or `NoSpace` of a write that ended. The table cannot be finished after that: abandon it.
    pub async fn pump(&mut self) -> Result<()> {
        while self.needs_pump() {
            self.start_write().await?;
        }
        Ok(())
    }

    async fn start_write(&mut self) -> Result<()> {
        self.check_failed()?;
        while self.in_flight.len() >= WRITES_IN_FLIGHT {
            self.end_write().await?;
        }
        let bytes = self.builder.ready_bytes().min(CHUNK_BYTES);
        let reusable = self.spare.pop().filter(|buf| buf.len() == bytes);
        let mut buf = reusable.unwrap_or_else(|| self.io.alloc(bytes));
        assert_eq!(self.builder.take(&mut buf), bytes, "so many bytes were ready");
        let offset = self.offset;
        self.offset += bytes as u64;
        let write = Started::new(self.file.write_at(buf, offset)).await;
        self.in_flight.push_back(InFlight { offset, bytes, write });
        Ok(())
    }

    /// Waits for the oldest write and checks it. A caller who drops this half-way loses no outcome, and a failure stays.
    async fn end_write(&mut self) -> Result<()> {
        const DOING: &str = "writing a table";
        let Some(oldest) = self.in_flight.front_mut() else {
            return Ok(());
        };
        oldest.write.settle().await;
        let Some(InFlight {
            offset,
            bytes,
            write: Started::Done((outcome, buf)),
        }) = self.in_flight.pop_front()
        else {
            unreachable!("the oldest write has just ended")
        };
        let was_short = outcome.is_ok();
        let error = match outcome {
            Ok(written) if written == bytes => {
                if self.spare.len() < WRITES_IN_FLIGHT {
                    self.spare.push(buf);
                }
                return Ok(());
            }
            Ok(written) => {
                let cause = format!("a short write: {written} of {bytes} bytes");
                Error::located(ErrorKind::Io, DOING, &self.path, Some(offset), cause)
            }
            Err(source) => Error::io(DOING, &self.path, Some(offset), &source),
        };
        self.failed = Some(error);
        if was_short
            && self
                .io
                .free_bytes(&self.path)
                .await
                .is_ok_and(|free| free < bytes as u64)
        {
            // A full filesystem can show itself as a short write, and only the write after it would say ENOSPC.
            self.failed = self
                .failed
                .take()
                .map(|error| error.with_kind(ErrorKind::NoSpace));
        }
        self.check_failed()
    }

    fn check_failed(&self) -> Result<()> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    /// Writes the rest and makes the data durable. After an error the file is closed and removed.
    ///
    /// # Errors
    /// `Io` or `NoSpace`, naming file and offset.
    ///
    /// # Panics
    /// If nothing was added.
    pub async fn finish(mut self) -> Result<TableSummary> {
        let summary = self.builder.finish();
        match self.write_rest(&summary).await {
            Ok(()) => {
                let Self { file, path, .. } = self;
                file.close()
                    .await
                    .map_err(|e| Error::io("closing a table", &path, None, &e))?;
                Ok(summary)
            }
            Err(error) => {
                // The first failure is what the caller must know; an orphan that stays is swept at the next open.
                let _ = self.abandon().await;
                Err(error)
            }
        }
    }

    async fn write_rest(&mut self, summary: &TableSummary) -> Result<()> {
        while self.builder.ready_bytes() > 0 {
            self.start_write().await?;
        }
        while !self.in_flight.is_empty() {
            self.end_write().await?;
        }
        self.check_failed()?;
        assert_eq!(self.offset, summary.bytes, "every page was written, once");
        assert_eq!(self.offset % PAGE_BYTES as u64, 0, "a table is whole pages");
        self.file
            .sync_data()
            .await
            .map_err(|e| Error::io("syncing a table", &self.path, None, &e))
    }

    /// Gives up: waits for the writes in flight, closes the file and removes it.
    ///
    /// # Errors
    /// `Io` where the file cannot be removed. It is an orphan then, which the next open sweeps.
    pub async fn abandon(mut self) -> Result<()> {
        while let Some(in_flight) = self.in_flight.pop_front() {
            // Whatever became of it, the file goes.
            let _ = in_flight.write.wait().await;
        }
        let Self { io, file, path, .. } = self;
        let _ = file.close().await;
        io.remove(&path)
            .await
            .map_err(|e| Error::io("removing an unfinished table", &path, None, &e))
    }
}
