//! The seam as one simulated core sees it.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::panic::Location;
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::fault::OpKind;
use super::file::{SimFile, WriteBuf, failed};
use super::inner::Inner;
use super::net::{self, SimListener, SimStream};
use crate::io::{Class, DirEntry, Io, OpenMode, OpenOptions};
use crate::types::PAGE_BYTES;

/// One core of a [`super::SimMachine`]. Clones are the same core.
#[derive(Clone)]
pub struct SimIo {
    inner: Rc<Inner>,
    core: usize,
}

/// A held lock file; dropping it, on whatever thread, lets the next one in, and so does a crash.
pub struct SimLock {
    _held: Arc<()>,
}

/// Lets the others run once.
struct Yield(bool);

impl Future for Yield {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.0, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl SimIo {
    pub(super) fn new(inner: Rc<Inner>, core: usize) -> Self {
        Self { inner, core }
    }

    /// Which core this is.
    pub fn core_index(&self) -> usize {
        self.core
    }

    /// One change of names: submitted with `change`, marked as done when it completes.
    fn name_op(
        &self,
        kind: OpKind,
        path: &Path,
        change: impl FnOnce(&mut super::disk::DiskState) -> io::Result<Option<u64>> + 'static,
    ) -> impl Future<Output = io::Result<()>> + 'static {
        let (inner, path) = (Rc::clone(&self.inner), path.to_owned());
        async move {
            inner
                .disk_op(
                    (kind, &path),
                    None,
                    |disk, _, failure| failed(failure).and_then(|()| change(disk)),
                    |disk, _, change| {
                        change.map(|id| {
                            if let Some(id) = id {
                                disk.change_done(id);
                            }
                        })
                    },
                )
                .await
        }
    }
}

impl Io for SimIo {
    type File = SimFile;
    type Listener = SimListener;
    type Stream = SimStream;
    type Lock = SimLock;

    fn open(&self, path: &Path, options: OpenOptions) -> impl Future<Output = io::Result<SimFile>> + 'static {
        let (inner, path) = (Rc::clone(&self.inner), path.to_owned());
        async move {
            let creating = options.mode == OpenMode::Create;
            let kind = if creating { OpKind::Create } else { OpKind::Open };
            let opener = Rc::clone(&inner);
            inner
                .disk_op(
                    (kind, &path),
                    None,
                    |disk, _, failure| {
                        failed(failure)?;
                        let (ino, change) = if creating {
                            let (ino, change) = disk.create(&path)?;
                            (ino, Some(change))
                        } else {
                            (disk.open(&path)?, None)
                        };
                        Ok((
                            SimFile::new(opener, path.clone(), ino, options, disk.epoch),
                            change,
                        ))
                    },
                    |disk, _, opened: io::Result<(SimFile, Option<u64>)>| {
                        opened.map(|(file, change)| {
                            if let Some(id) = change {
                                disk.change_done(id);
                            }
                            file
                        })
                    },
                )
                .await
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> impl Future<Output = io::Result<()>> + 'static {
        let (old, new) = (from.to_owned(), to.to_owned());
        self.name_op(OpKind::Rename, from, move |disk| {
            disk.rename(&old, &new).map(Some)
        })
    }

    fn remove(&self, path: &Path) -> impl Future<Output = io::Result<()>> + 'static {
        let name = path.to_owned();
        self.name_op(OpKind::Remove, path, move |disk| disk.remove(&name).map(Some))
    }

    fn create_dir(&self, path: &Path) -> impl Future<Output = io::Result<()>> + 'static {
        let name = path.to_owned();
        self.name_op(OpKind::CreateDir, path, move |disk| disk.create_dir(&name))
    }

    fn sync_dir(&self, path: &Path) -> impl Future<Output = io::Result<()>> + 'static {
        let (inner, path) = (Rc::clone(&self.inner), path.to_owned());
        async move {
            inner
                .disk_op(
                    (OpKind::SyncDir, &path),
                    None,
                    |disk, _, failure| {
                        failed(failure)?;
                        let dir = disk.resolve_dir(&path)?;
                        Ok(disk.sync_dir_covers(dir))
                    },
                    |disk, _, covered: io::Result<Vec<u64>>| {
                        covered.map(|covered| disk.finish_sync_dir(&covered))
                    },
                )
                .await
        }
    }

    fn list_dir(&self, path: &Path) -> impl Future<Output = io::Result<Vec<DirEntry>>> + 'static {
        let (inner, path) = (Rc::clone(&self.inner), path.to_owned());
        async move {
            inner
                .disk_op(
                    (OpKind::ListDir, &path),
                    None,
                    |disk, _, failure| failed(failure).and_then(|()| disk.resolve_dir(&path)),
                    |disk, _, dir| dir.map(|dir| disk.list_dir(dir)),
                )
                .await
        }
    }

    fn free_bytes(&self, path: &Path) -> impl Future<Output = io::Result<u64>> + 'static {
        let (inner, path) = (Rc::clone(&self.inner), path.to_owned());
        async move {
            inner
                .disk_op(
                    (OpKind::FreeBytes, &path),
                    None,
                    |disk, _, failure| failed(failure).and_then(|()| disk.resolve(&path)),
                    |disk, _, found| found.map(|_| disk.free_bytes()),
                )
                .await
        }
    }

    fn lock(&self, path: &Path) -> impl Future<Output = io::Result<SimLock>> + 'static {
        let (inner, path) = (Rc::clone(&self.inner), path.to_owned());
        async move {
            inner
                .disk_op(
                    (OpKind::Lock, &path),
                    None,
                    |disk, _, failure| {
                        failed(failure)?;
                        let (held, change) = disk.lock(&path)?;
                        Ok((SimLock { _held: held }, change))
                    },
                    |disk, _, locked: io::Result<(SimLock, Option<u64>)>| {
                        locked.map(|(lock, change)| {
                            if let Some(id) = change {
                                disk.change_done(id);
                            }
                            lock
                        })
                    },
                )
                .await
        }
    }

    fn alloc(&self, bytes: usize) -> WriteBuf {
        assert_eq!(bytes % PAGE_BYTES, 0, "a write buffer covers whole pages");
        WriteBuf::new(bytes)
    }

    fn now(&self) -> Duration {
        self.inner.read_clock()
    }

    fn wall_clock_ms(&self) -> u64 {
        self.inner.wall_clock_ms()
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + 'static {
        let inner = Rc::clone(&self.inner);
        async move { inner.sleep(duration).await }
    }

    #[track_caller]
    fn spawn(&self, class: Class, task: impl Future<Output = ()> + 'static) {
        self.inner.spawn(self.core, class, task, Location::caller());
    }

    fn set_shares(&self, class: Class, shares: u32) {
        assert!((1..=1000).contains(&shares), "shares are 1 to 1000, not {shares}");
        self.inner.set_shares(self.core, class, shares);
    }

    fn should_yield(&self) -> bool {
        self.inner.should_yield(self.core)
    }

    fn yield_now(&self) -> impl Future<Output = ()> + 'static {
        Yield(false)
    }

    fn random_u64(&self) -> u64 {
        self.inner.rng.borrow_mut().next_u64()
    }

    fn listen(&self, address: SocketAddr) -> impl Future<Output = io::Result<SimListener>> + 'static {
        let inner = Rc::clone(&self.inner);
        async move { net::listen(&inner, address) }
    }

    fn connect(&self, address: SocketAddr) -> impl Future<Output = io::Result<SimStream>> + 'static {
        let inner = Rc::clone(&self.inner);
        async move { net::connect(inner, address).await }
    }
}
