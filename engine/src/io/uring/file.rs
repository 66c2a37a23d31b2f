//! Files for direct I/O.
//!
//! A transfer is one operation, however long: without polling for completions the block layer may split it, and it completes
//! when its last part has. So a buffer comes from the core's memory, goes to the kernel and comes back, and is never copied.
//! How much was done is reported as the kernel says it.
//!
//! Stable storage is by the descriptor's `O_DSYNC`, set when the file is opened.

use std::ffi::CString;
use std::io;
use std::ops::{Deref, DerefMut};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;

use super::super::{File, OpenMode, OpenOptions};
use super::descriptor::Descriptor;
use super::memory::{Arena, Buf};
use super::operation::Operation;
use super::reactor::Reactor;
use crate::types::PAGE_BYTES;

/// The longest transfer: the kernel moves no 2 GiB at once, and nobody here needs more than this.
const MAX_TRANSFER_BYTES: usize = 1 << 30;

/// A path as the kernel reads it.
pub(super) fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| {
        let what = format!("the path {} has a zero byte in it", path.display());
        io::Error::new(io::ErrorKind::InvalidInput, what)
    })
}

/// Opens a file for direct I/O.
pub(super) async fn open(
    reactor: Rc<Reactor>,
    path: io::Result<CString>,
    options: OpenOptions,
) -> io::Result<UringFile> {
    let flags = libc::O_DIRECT
        | libc::O_CLOEXEC
        | if options.dsync { libc::O_DSYNC } else { 0 }
        | match options.mode {
            OpenMode::Read => libc::O_RDONLY,
            OpenMode::Write => libc::O_RDWR,
            OpenMode::Create => libc::O_RDWR | libc::O_CREAT | libc::O_EXCL,
        };
    let (_operation, completion) = reactor.run(Operation::Open { path: path?, flags }).await;
    let fd = completion.into_opened()?;
    Ok(UringFile(Rc::new(Descriptor::new(reactor, fd, true))))
}

/// An open file. Clones share the descriptor; the last one closes it.
#[derive(Clone)]
pub struct UringFile(Rc<Descriptor>);

/// Bytes read from a file. They keep their share of the core's memory: copy out what is to stay in a cache.
pub struct ReadBuf {
    /// `None` for nothing.
    buf: Option<Buf>,
    bytes: usize,
}

impl Deref for ReadBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.buf.as_ref().map_or(&[], |buf| &buf[..self.bytes])
    }
}

/// A buffer for one write, aligned for direct I/O.
pub struct WriteBuf(Buf);

impl WriteBuf {
    /// Panics if `bytes` is not a positive multiple of the page.
    pub(super) fn new(arena: &Arena, bytes: usize) -> Self {
        Self(arena.take(bytes))
    }
}

impl Deref for WriteBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for WriteBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

fn assert_whole_pages(position: u64, bytes: usize) {
    assert!(
        position.is_multiple_of(PAGE_BYTES as u64) && bytes.is_multiple_of(PAGE_BYTES),
        "direct I/O of {bytes} bytes at {position} is not in whole pages"
    );
}

fn check_length(bytes: usize) -> io::Result<()> {
    if bytes <= MAX_TRANSFER_BYTES {
        return Ok(());
    }
    let what =
        format!("a transfer of {bytes} bytes is longer than the {MAX_TRANSFER_BYTES} that one may have");
    Err(io::Error::new(io::ErrorKind::InvalidInput, what))
}

impl File for UringFile {
    type ReadBuf = ReadBuf;
    type WriteBuf = WriteBuf;

    fn read_at(&self, position: u64, bytes: usize) -> impl Future<Output = io::Result<ReadBuf>> + 'static {
        assert_whole_pages(position, bytes);
        let file = Rc::clone(&self.0);
        async move {
            check_length(bytes)?;
            if bytes == 0 {
                return Ok(ReadBuf { buf: None, bytes });
            }
            let reactor = file.reactor();
            let buf = reactor.arena().take(bytes);
            let (operation, completion) = reactor.run(Operation::Read { file, buf, position }).await;
            let bytes = completion.result?;
            let Operation::Read { buf, .. } = operation else {
                unreachable!("an operation comes back as it went")
            };
            Ok(ReadBuf {
                buf: Some(buf),
                bytes,
            })
        }
    }

    fn write_at(
        &self,
        buf: WriteBuf,
        position: u64,
    ) -> impl Future<Output = (io::Result<usize>, WriteBuf)> + 'static {
        assert_whole_pages(position, buf.len());
        let file = Rc::clone(&self.0);
        async move {
            if let Err(error) = check_length(buf.len()) {
                return (Err(error), buf);
            }
            let (reactor, buf) = (file.reactor(), buf.0);
            let (operation, completion) = reactor.run(Operation::Write { file, buf, position }).await;
            let Operation::Write { buf, .. } = operation else {
                unreachable!("an operation comes back as it went")
            };
            (completion.result, WriteBuf(buf))
        }
    }

    fn sync_data(&self) -> impl Future<Output = io::Result<()>> + 'static {
        let file = Rc::clone(&self.0);
        async move {
            let (_file, completion) = file.reactor().run(Operation::SyncData(file)).await;
            completion.result.map(drop)
        }
    }

    fn allocate(&self, bytes: u64) -> impl Future<Output = io::Result<()>> + 'static {
        let file = Rc::clone(&self.0);
        async move {
            let (_file, completion) = file.reactor().run(Operation::Allocate(file, bytes)).await;
            completion.result.map(drop)
        }
    }

    /// Asked of the descriptor, and answered from the inode in memory without waiting for the device.
    fn bytes(&self) -> impl Future<Output = io::Result<u64>> + 'static {
        let file = Rc::clone(&self.0);
        async move {
            let stat = rustix::fs::fstat(&*file)?;
            Ok(u64::try_from(stat.st_size).expect("a file is not shorter than nothing"))
        }
    }

    async fn close(self) -> io::Result<()> {
        match Rc::into_inner(self.0) {
            Some(descriptor) => descriptor.close().await,
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "whole pages")]
    fn an_unaligned_position_is_a_bug() {
        assert_whole_pages(512, PAGE_BYTES);
    }

    #[test]
    fn a_transfer_that_the_kernel_would_cut_is_refused() {
        assert!(check_length(MAX_TRANSFER_BYTES).is_ok());
        let error = check_length(MAX_TRANSFER_BYTES + PAGE_BYTES).expect_err("too long");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn a_path_with_a_zero_byte_is_refused() {
        assert!(c_path(Path::new("a\0b")).is_err());
    }
}
