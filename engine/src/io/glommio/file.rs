//! Files for direct I/O over glommio's `DmaFile`.
//!
//! A transfer longer than the device takes at once (`device.rs`) is cut into parts, [`PARTS_IN_FLIGHT`] of them under
//! way together. The seam's meaning of "fewer" stays: the result of a read or a write is what its parts did up to the
//! first one that did less than it was asked, and nothing behind that counts. A read of one part yields the device's
//! buffer itself; one of several parts is copied together, and a long write is copied apart, because glommio has no
//! way to transfer a piece of a buffer.
//!
//! Buffers come from the executor's registered memory while it lasts, then from the heap. A [`ReadBuf`] that is kept
//! keeps its share of that memory: copy out what is to stay in a cache.

use std::io;
use std::ops::{Deref, DerefMut, Range};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::rc::Rc;

use futures_util::stream::{self, StreamExt};
use glommio::io::{DmaBuffer, DmaFile, ReadResult};

use super::super::names;
use super::super::{File, OpenMode, OpenOptions};
use super::in_flight::InFlight;
use super::{blocking, os_error};
use crate::types::PAGE_BYTES;

/// Parts of one transfer under way together: enough to hide a device's latency behind its bandwidth, and at most
/// 2 MiB of memory.
const PARTS_IN_FLIGHT: usize = 4;

/// Opens a file by glommio. Never write-only, which `device.rs` explains.
pub(super) async fn open(path: &Path, options: OpenOptions) -> io::Result<DmaFile> {
    let mut open = glommio::io::OpenOptions::new();
    open.read(true);
    match options.mode {
        OpenMode::Read => {}
        OpenMode::Write => {
            open.write(true);
        }
        OpenMode::Create => {
            open.write(true).create_new(true);
        }
    }
    if options.dsync {
        open.custom_flags(libc::O_DSYNC);
    }
    open.dma_open(path).await.map_err(os_error)
}

/// An open file. Clones share the descriptor; the last one closes it.
#[derive(Clone)]
pub struct GlommioFile {
    file: Rc<DmaFile>,
    part_bytes: usize,
    in_flight: InFlight,
}

impl GlommioFile {
    pub(super) fn new(file: DmaFile, part_bytes: usize, in_flight: InFlight) -> Self {
        assert!(
            part_bytes >= PAGE_BYTES && part_bytes.is_multiple_of(PAGE_BYTES),
            "parts are whole pages"
        );
        Self {
            file: Rc::new(file),
            part_bytes,
            in_flight,
        }
    }

    /// The flags that the kernel has for this descriptor, as in `open(2)`.
    #[cfg(test)]
    pub(super) fn status_flags(&self) -> i32 {
        let path = format!("/proc/self/fdinfo/{}", self.file.as_raw_fd());
        let info = std::fs::read_to_string(path).expect("this process has a /proc");
        let octal = info
            .lines()
            .find_map(|line| line.strip_prefix("flags:"))
            .expect("it tells the flags");
        i32::from_str_radix(octal.trim(), 8).expect("in octal")
    }
}

/// Bytes read from a file.
pub struct ReadBuf(Bytes);

enum Bytes {
    /// As the device delivered them.
    Device(ReadResult),
    /// Several parts put together.
    Joined(Vec<u8>),
}

impl Deref for ReadBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Bytes::Device(bytes) => bytes,
            Bytes::Joined(bytes) => bytes,
        }
    }
}

/// A buffer for one write, aligned for direct I/O.
pub struct WriteBuf(DmaBuffer);

impl WriteBuf {
    /// Panics if `bytes` is not a positive multiple of the page. Must be called on a running executor.
    pub(super) fn new(bytes: usize) -> Self {
        assert!(
            bytes > 0 && bytes.is_multiple_of(PAGE_BYTES),
            "a write buffer of {bytes} bytes is not whole pages"
        );
        let mut buffer = glommio::allocate_dma_buffer(bytes);
        // glommio's own memory may never have been written.
        buffer.as_bytes_mut().fill(0);
        Self(buffer)
    }
}

impl Deref for WriteBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl DerefMut for WriteBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.0.as_bytes_mut()
    }
}

/// The byte ranges of the parts of a transfer of `bytes` bytes.
fn parts(bytes: usize, part_bytes: usize) -> impl Iterator<Item = Range<usize>> {
    (0..bytes)
        .step_by(part_bytes)
        .map(move |start| start..bytes.min(start + part_bytes))
}

/// What the parts of a transfer did, in order: how many bytes count from its start, and whether they go on counting.
#[derive(Default)]
struct Progress {
    bytes: usize,
    fell_short: bool,
}

impl Progress {
    /// Takes the next part, asked for `asked` bytes and done `done`; how many of those count.
    fn add(&mut self, asked: usize, done: usize) -> usize {
        assert!(done <= asked, "the device did more than it was asked");
        if self.fell_short {
            return 0;
        }
        self.bytes += done;
        self.fell_short = done < asked;
        done
    }
}

async fn read_parts(file: &DmaFile, position: u64, bytes: usize, part_bytes: usize) -> io::Result<Vec<u8>> {
    let mut reads = stream::iter(parts(bytes, part_bytes))
        .map(|part| async move {
            let read = file
                .read_at_aligned(position + part.start as u64, part.len())
                .await;
            (part.len(), read)
        })
        .buffered(PARTS_IN_FLIGHT);
    let mut joined = Vec::with_capacity(bytes);
    let mut progress = Progress::default();
    while let Some((asked, read)) = reads.next().await {
        let read = read.map_err(os_error)?;
        let counted = progress.add(asked, read.len());
        joined.extend_from_slice(&read[..counted]);
        if progress.fell_short {
            break;
        }
    }
    Ok(joined)
}

/// Waits for every part, also after one has failed, so that no write is under way when the caller learns of it.
async fn write_parts(file: &DmaFile, buf: &[u8], position: u64, part_bytes: usize) -> io::Result<usize> {
    let mut writes = stream::iter(parts(buf.len(), part_bytes))
        .map(|part| async move {
            let mut copy = file.alloc_dma_buffer(part.len());
            copy.as_bytes_mut().copy_from_slice(&buf[part.clone()]);
            (
                part.len(),
                file.write_at(copy, position + part.start as u64).await,
            )
        })
        .buffered(PARTS_IN_FLIGHT);
    let mut progress = Progress::default();
    let mut failure = None;
    while let Some((asked, written)) = writes.next().await {
        match written {
            Ok(written) => {
                progress.add(asked, written);
            }
            Err(error) => {
                progress.fell_short = true;
                failure.get_or_insert(os_error(error));
            }
        }
    }
    failure.map_or(Ok(progress.bytes), Err)
}

fn assert_whole_pages(position: u64, bytes: usize) {
    assert!(
        position.is_multiple_of(PAGE_BYTES as u64) && bytes.is_multiple_of(PAGE_BYTES),
        "direct I/O of {bytes} bytes at {position} is not in whole pages"
    );
}

impl File for GlommioFile {
    type ReadBuf = ReadBuf;
    type WriteBuf = WriteBuf;

    fn read_at(&self, position: u64, bytes: usize) -> impl Future<Output = io::Result<ReadBuf>> + 'static {
        assert_whole_pages(position, bytes);
        let this = self.clone();
        self.in_flight.to_the_end(async move {
            if bytes == 0 {
                return Ok(ReadBuf(Bytes::Joined(Vec::new())));
            }
            if bytes <= this.part_bytes {
                let read = this
                    .file
                    .read_at_aligned(position, bytes)
                    .await
                    .map_err(os_error)?;
                return Ok(ReadBuf(Bytes::Device(read)));
            }
            let joined = read_parts(&this.file, position, bytes, this.part_bytes).await?;
            Ok(ReadBuf(Bytes::Joined(joined)))
        })
    }

    fn write_at(
        &self,
        buf: WriteBuf,
        position: u64,
    ) -> impl Future<Output = (io::Result<usize>, WriteBuf)> + 'static {
        assert_whole_pages(position, buf.len());
        let this = self.clone();
        self.in_flight.to_the_end(async move {
            if buf.len() > this.part_bytes {
                let written = write_parts(&this.file, &buf, position, this.part_bytes).await;
                return (written, buf);
            }
            let shared = Rc::new(buf.0);
            let written = this
                .file
                .write_rc_at(Rc::clone(&shared), position)
                .await
                .map_err(os_error);
            // The ring gives up its reference before it reports the completion, and glommio's future is done.
            let buffer = Rc::try_unwrap(shared).expect("a completed write holds its buffer no longer");
            (written, WriteBuf(buffer))
        })
    }

    fn sync_data(&self) -> impl Future<Output = io::Result<()>> + 'static {
        let this = self.clone();
        self.in_flight
            .to_the_end(async move { this.file.fdatasync().await.map_err(os_error) })
    }

    fn allocate(&self, bytes: u64) -> impl Future<Output = io::Result<()>> + 'static {
        let this = self.clone();
        self.in_flight
            .to_the_end(async move { this.file.pre_allocate(bytes, false).await.map_err(os_error) })
    }

    /// Asks the descriptor, by its name under `/proc`: glommio would ask the path that the file was opened by, where
    /// another file may be by now, or none.
    fn bytes(&self) -> impl Future<Output = io::Result<u64>> + 'static {
        let this = self.clone();
        async move {
            let path = format!("/proc/{}/fd/{}", std::process::id(), this.file.as_raw_fd());
            let bytes =
                blocking::blocking(this.in_flight.enter(), move || names::bytes(Path::new(&path))).await;
            drop(this);
            bytes
        }
    }

    async fn close(self) -> io::Result<()> {
        self.file.close_rc().await.map(drop).map_err(os_error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_a_transfer_without_gap_or_overlap() {
        for (bytes, part_bytes) in [
            (0, 4096),
            (4096, 4096),
            (8192, 4096),
            (12288, 8192),
            (65536, 12288),
        ] {
            let mut next = 0;
            for part in parts(bytes, part_bytes) {
                assert_eq!(part.start, next);
                assert!(!part.is_empty() && part.len() <= part_bytes);
                next = part.end;
            }
            assert_eq!(next, bytes);
        }
    }

    #[test]
    fn r2_only_bytes_before_the_first_short_part_count() {
        let mut progress = Progress::default();
        assert_eq!(progress.add(8192, 8192), 8192);
        assert_eq!(progress.add(8192, 4096), 4096, "it fell short here");
        assert_eq!(
            progress.add(8192, 8192),
            0,
            "and what is behind the gap does not count"
        );
        assert_eq!(progress.bytes, 12288);
    }

    #[test]
    #[should_panic(expected = "whole pages")]
    fn an_unaligned_position_is_a_bug() {
        assert_whole_pages(512, PAGE_BYTES);
    }
}
