//! Open files of the simulator.

use std::future::Future;
use std::io;
use std::ops::{Deref, DerefMut};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use super::completion::completion;
use super::disk::{WriteRequest, WriteTicket};
use super::fault::{Failure, OpKind};
use super::inner::Inner;
use super::names::{EBADF, EIO, ENOSPC, Ino, errno};
use crate::io::{File, OpenMode, OpenOptions};
use crate::types::PAGE_BYTES;

/// How soon [`super::Mutant::AckEarly`] answers: long before the data has landed.
const EARLY_ACK: Duration = Duration::from_micros(1);

/// What a read yields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadBuf(Vec<u8>);

impl Deref for ReadBuf {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// What lies in a buffer before it is filled, so that whoever counts on zeros there is found.
const STALE: u8 = 0xA5;

/// What a write takes and gives back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteBuf(Vec<u8>);

impl WriteBuf {
    pub(super) fn new(bytes: usize) -> Self {
        Self(vec![STALE; bytes])
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

/// One open descriptor.
pub(super) struct Handle {
    inner: Rc<Inner>,
    path: PathBuf,
    ino: Ino,
    options: OpenOptions,
    epoch: u64,
}

impl Drop for Handle {
    fn drop(&mut self) {
        let mut disk = self.inner.disk.state_mut();
        // After a crash there are no open files, and this number may even be another file's.
        if disk.epoch == self.epoch
            && let Some(file) = disk.files.get_mut(&self.ino)
        {
            file.open -= 1;
        }
    }
}

/// An open file. Clones share the descriptor.
#[derive(Clone)]
pub struct SimFile(Rc<Handle>);

impl SimFile {
    /// Takes over an opening that the disk has counted.
    pub(super) fn new(inner: Rc<Inner>, path: PathBuf, ino: Ino, options: OpenOptions, epoch: u64) -> Self {
        Self(Rc::new(Handle {
            inner,
            path,
            ino,
            options,
            epoch,
        }))
    }

    fn start(&self) -> (Rc<Inner>, Rc<Handle>) {
        (Rc::clone(&self.0.inner), Rc::clone(&self.0))
    }
}

/// # Panics
/// If `position` or `bytes` is not a whole number of pages: on a real machine direct I/O refuses it.
fn assert_aligned(position: u64, bytes: usize) {
    assert_eq!(position % PAGE_BYTES as u64, 0, "file I/O starts on a page");
    assert_eq!(bytes % PAGE_BYTES, 0, "file I/O covers whole pages");
}

/// The error of an operation that transfers nothing and so cannot be short.
pub(super) fn failed(failure: Option<Failure>) -> io::Result<()> {
    match failure {
        None => Ok(()),
        Some(Failure::Enospc) => Err(errno(ENOSPC)),
        Some(Failure::Eio | Failure::Short) => Err(errno(EIO)),
    }
}

impl File for SimFile {
    type ReadBuf = ReadBuf;
    type WriteBuf = WriteBuf;

    fn read_at(&self, position: u64, bytes: usize) -> impl Future<Output = io::Result<ReadBuf>> + 'static {
        assert_aligned(position, bytes);
        let (inner, handle) = self.start();
        async move {
            let ino = handle.ino;
            let path = handle.path.clone();
            let keep = Some(Rc::clone(&handle));
            let finish_path = path.clone();
            inner
                .disk_op(
                    (OpKind::Read, &path),
                    keep,
                    |_, _, failure| failure,
                    move |disk, rng, failure| {
                        if matches!(failure, Some(Failure::Eio | Failure::Enospc)) {
                            return Err(errno(EIO));
                        }
                        let mut data = disk.file(ino).read(position, bytes, rng);
                        if failure == Some(Failure::Short) && !data.is_empty() {
                            let sectors = data.len().div_ceil(super::content::SECTOR_BYTES);
                            data.truncate(rng.index(sectors) * super::content::SECTOR_BYTES);
                        }
                        disk.counts.add(&finish_path, OpKind::Read, 0, data.len() as u64);
                        Ok(ReadBuf(data))
                    },
                )
                .await
        }
    }

    fn write_at(
        &self,
        buf: WriteBuf,
        position: u64,
    ) -> impl Future<Output = (io::Result<usize>, WriteBuf)> + 'static {
        assert_aligned(position, buf.len());
        let (inner, handle) = self.start();
        async move {
            if handle.options.mode == OpenMode::Read {
                return (Err(errno(EBADF)), buf);
            }
            let Some((op, failure)) = inner.begin_op(OpKind::Write, &handle.path) else {
                return std::future::pending().await;
            };
            let request = WriteRequest {
                ino: handle.ino,
                path: &handle.path,
                position,
                data: &buf,
                dsync: handle.options.dsync,
            };
            let ticket = inner
                .disk
                .state_mut()
                .submit_write(&request, failure, &mut inner.rng.borrow_mut());
            let early = ticket.early;
            let bytes = buf.len();
            let (answer, completion) = completion();
            let (ino, path) = (handle.ino, handle.path.clone());
            let finish = move |disk: &mut super::disk::DiskState| {
                disk.finish_write(ino, &ticket);
                let WriteTicket { answer, .. } = ticket;
                disk.counts
                    .add(&path, OpKind::Write, 0, answer.as_ref().map_or(0, |n| *n as u64));
                answer
            };
            if early {
                inner.launch_op(
                    op,
                    OpKind::Write,
                    Some(handle),
                    |disk, _| drop(finish(disk)),
                    |()| {},
                );
                // A moment passes, or a loop of such writes would never give the core away.
                inner.sleep(EARLY_ACK).await;
                return (Ok(bytes), buf);
            }
            inner.launch_op(
                op,
                OpKind::Write,
                Some(handle),
                |disk, _| (finish(disk), buf),
                |done| answer.give(done),
            );
            completion.await
        }
    }

    fn sync_data(&self) -> impl Future<Output = io::Result<()>> + 'static {
        let (inner, handle) = self.start();
        async move {
            let ino = handle.ino;
            let path = handle.path.clone();
            inner
                .disk_op(
                    (OpKind::Sync, &path),
                    Some(handle),
                    |disk, _, failure| (disk.sync_mark(), failed(failure)),
                    move |disk, _, (mark, outcome)| disk.finish_sync(ino, mark, outcome),
                )
                .await
        }
    }

    fn allocate(&self, bytes: u64) -> impl Future<Output = io::Result<()>> + 'static {
        assert_aligned(bytes, 0);
        let (inner, handle) = self.start();
        async move {
            if handle.options.mode == OpenMode::Read {
                return Err(errno(EBADF));
            }
            let ino = handle.ino;
            let path = handle.path.clone();
            inner
                .disk_op(
                    (OpKind::Allocate, &path),
                    Some(handle),
                    |disk, _, failure| failed(failure).and_then(|()| disk.reserve(ino, bytes)),
                    move |disk, _, reserved| reserved.map(|()| disk.finish_allocate(ino, bytes)),
                )
                .await
        }
    }

    fn bytes(&self) -> impl Future<Output = io::Result<u64>> + 'static {
        let (inner, handle) = self.start();
        async move {
            let ino = handle.ino;
            let path = handle.path.clone();
            inner
                .disk_op(
                    (OpKind::Length, &path),
                    Some(handle),
                    |_, _, failure| failed(failure),
                    move |disk, _, result| result.map(|()| disk.file(ino).current.bytes),
                )
                .await
        }
    }

    async fn close(self) -> io::Result<()> {
        drop(self);
        Ok(())
    }
}
