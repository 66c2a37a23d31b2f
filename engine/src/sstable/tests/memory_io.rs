//! A machine in memory for the tests and the bench of tables: files only, every I/O completes at its second poll, and
//! the read or write of a chosen number can be made to fail. The simulator is the place for anything harder.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use crate::io::{Class, DirEntry, File, Io, Listener, OpenMode, OpenOptions, Stream};
use crate::types::PAGE_BYTES;

/// How the chosen write fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Errno(i32),
    Short,
}

#[derive(Debug, Default)]
struct Machine {
    files: RefCell<BTreeMap<PathBuf, Rc<RefCell<Vec<u8>>>>>,
    reads: Cell<u64>,
    read_fault: Cell<Option<u64>>,
    changes: Cell<u64>,
    fault: Cell<Option<(u64, Fault)>>,
    writes_running: Cell<usize>,
    most_writes_running: Cell<usize>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct MemoryIo(Rc<Machine>);

#[derive(Debug, Clone)]
pub(crate) struct MemoryFile {
    machine: Rc<Machine>,
    bytes: Rc<RefCell<Vec<u8>>>,
}

impl MemoryIo {
    pub(crate) fn put(&self, path: &Path, bytes: Vec<u8>) {
        self.0
            .files
            .borrow_mut()
            .insert(path.into(), Rc::new(RefCell::new(bytes)));
    }

    pub(crate) fn content(&self, path: &Path) -> Option<Vec<u8>> {
        self.0
            .files
            .borrow()
            .get(path)
            .map(|bytes| bytes.borrow().clone())
    }

    /// Reads so far.
    pub(crate) fn reads(&self) -> u64 {
        self.0.reads.get()
    }

    /// Writes and syncs so far.
    pub(crate) fn changes(&self) -> u64 {
        self.0.changes.get()
    }

    pub(crate) fn most_writes_running(&self) -> usize {
        self.0.most_writes_running.get()
    }

    /// Makes the read with this number, from 0, fail with EIO.
    pub(crate) fn fail_read(&self, number: u64) {
        self.0.read_fault.set(Some(number));
    }

    /// Makes the write or sync with this number, from 0, fail.
    pub(crate) fn fail(&self, number: u64, fault: Fault) {
        self.0.fault.set(Some((number, fault)));
    }
}

impl MemoryFile {
    pub(crate) fn truncate(&self, bytes: usize) {
        self.bytes.borrow_mut().truncate(bytes);
    }
}

impl Machine {
    fn next_fault(&self) -> Option<Fault> {
        let number = self.changes.replace(self.changes.get() + 1);
        self.fault
            .get()
            .filter(|fault| fault.0 == number)
            .map(|fault| fault.1)
    }
}

/// Pending once, so that whoever only polls once has not got its answer yet.
async fn later() {
    let mut polled = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut polled, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

fn check_alignment(position: u64, bytes: usize) {
    assert!(
        position.is_multiple_of(PAGE_BYTES as u64) && bytes.is_multiple_of(PAGE_BYTES),
        "whole pages only"
    );
}

impl File for MemoryFile {
    type ReadBuf = Vec<u8>;
    type WriteBuf = Vec<u8>;

    fn read_at(&self, position: u64, bytes: usize) -> impl Future<Output = Result<Vec<u8>>> + 'static {
        check_alignment(position, bytes);
        let this = self.clone();
        async move {
            let number = this.machine.reads.replace(this.machine.reads.get() + 1);
            later().await;
            if this.machine.read_fault.get() == Some(number) {
                return Err(Error::from_raw_os_error(5));
            }
            let content = this.bytes.borrow();
            let start = content.len().min(usize::try_from(position).expect("small files"));
            let end = content.len().min(start + bytes);
            Ok(content[start..end].to_vec())
        }
    }

    fn write_at(
        &self,
        buf: Vec<u8>,
        position: u64,
    ) -> impl Future<Output = (Result<usize>, Vec<u8>)> + 'static {
        check_alignment(position, buf.len());
        let this = self.clone();
        async move {
            let running = this.machine.writes_running.get() + 1;
            this.machine.writes_running.set(running);
            this.machine
                .most_writes_running
                .set(running.max(this.machine.most_writes_running.get()));
            let fault = this.machine.next_fault();
            later().await;
            this.machine
                .writes_running
                .set(this.machine.writes_running.get() - 1);
            let bytes = match fault {
                Some(Fault::Errno(code)) => return (Err(Error::from_raw_os_error(code)), buf),
                Some(Fault::Short) => buf.len() - PAGE_BYTES,
                None => buf.len(),
            };
            let start = usize::try_from(position).expect("small files");
            let mut content = this.bytes.borrow_mut();
            let length = content.len().max(start + bytes);
            content.resize(length, 0);
            content[start..start + bytes].copy_from_slice(&buf[..bytes]);
            (Ok(bytes), buf)
        }
    }

    fn sync_data(&self) -> impl Future<Output = Result<()>> + 'static {
        let machine = Rc::clone(&self.machine);
        async move {
            later().await;
            match machine.next_fault() {
                Some(Fault::Errno(code)) => Err(Error::from_raw_os_error(code)),
                _ => Ok(()),
            }
        }
    }

    fn allocate(&self, _: u64) -> impl Future<Output = Result<()>> + 'static {
        std::future::ready(Ok(()))
    }

    fn bytes(&self) -> impl Future<Output = Result<u64>> + 'static {
        std::future::ready(Ok(self.bytes.borrow().len() as u64))
    }

    fn close(self) -> impl Future<Output = Result<()>> + 'static {
        std::future::ready(Ok(()))
    }
}

impl Io for MemoryIo {
    type File = MemoryFile;
    type Listener = NoSockets;
    type Stream = NoSockets;
    type Lock = ();

    fn open(&self, path: &Path, options: OpenOptions) -> impl Future<Output = Result<MemoryFile>> + 'static {
        let mut files = self.0.files.borrow_mut();
        let found = files.get(path).cloned();
        let bytes = match (options.mode, found) {
            (OpenMode::Create, Some(_)) => Err(Error::from(ErrorKind::AlreadyExists)),
            (OpenMode::Create, None) => {
                let bytes = Rc::default();
                files.insert(path.into(), Rc::clone(&bytes));
                Ok(bytes)
            }
            (_, found) => found.ok_or(Error::from(ErrorKind::NotFound)),
        };
        let machine = Rc::clone(&self.0);
        std::future::ready(bytes.map(|bytes| MemoryFile { machine, bytes }))
    }

    fn rename(&self, _: &Path, _: &Path) -> impl Future<Output = Result<()>> + 'static {
        std::future::ready(Err(Error::from(ErrorKind::Unsupported)))
    }

    fn remove(&self, path: &Path) -> impl Future<Output = Result<()>> + 'static {
        let removed = self.0.files.borrow_mut().remove(path);
        std::future::ready(removed.map(|_| ()).ok_or(Error::from(ErrorKind::NotFound)))
    }

    fn create_dir(&self, _: &Path) -> impl Future<Output = Result<()>> + 'static {
        std::future::ready(Ok(()))
    }

    fn sync_dir(&self, _: &Path) -> impl Future<Output = Result<()>> + 'static {
        std::future::ready(Ok(()))
    }

    fn list_dir(&self, _: &Path) -> impl Future<Output = Result<Vec<DirEntry>>> + 'static {
        std::future::ready(Ok(Vec::new()))
    }

    fn free_bytes(&self, _: &Path) -> impl Future<Output = Result<u64>> + 'static {
        std::future::ready(Ok(0))
    }

    fn lock(&self, _: &Path) -> impl Future<Output = Result<()>> + 'static {
        std::future::ready(Ok(()))
    }

    fn alloc(&self, bytes: usize) -> Vec<u8> {
        // Not zeros, on which nobody may count.
        vec![0xA5; bytes]
    }

    fn now(&self) -> Duration {
        Duration::ZERO
    }

    fn wall_clock_ms(&self) -> u64 {
        0
    }

    fn sleep(&self, _: Duration) -> impl Future<Output = ()> + 'static {
        std::future::ready(())
    }

    fn spawn(&self, _: Class, _: impl Future<Output = ()> + 'static) {
        unreachable!("tables spawn nothing")
    }

    fn set_shares(&self, _: Class, _: u32) {}

    fn should_yield(&self) -> bool {
        true
    }

    fn yield_now(&self) -> impl Future<Output = ()> + 'static {
        later()
    }

    fn random_u64(&self) -> u64 {
        4
    }

    fn listen(&self, _: SocketAddr) -> impl Future<Output = Result<NoSockets>> + 'static {
        std::future::ready(Err(Error::from(ErrorKind::Unsupported)))
    }

    fn connect(&self, _: SocketAddr) -> impl Future<Output = Result<NoSockets>> + 'static {
        std::future::ready(Err(Error::from(ErrorKind::Unsupported)))
    }
}

#[derive(Debug, Clone)]
pub(crate) struct NoSockets;

impl Listener for NoSockets {
    type Stream = Self;

    fn accept(&self) -> impl Future<Output = Result<Self>> {
        std::future::ready(Err(Error::from(ErrorKind::Unsupported)))
    }

    fn local_addr(&self) -> Result<SocketAddr> {
        Err(Error::from(ErrorKind::Unsupported))
    }
}

impl Stream for NoSockets {
    type RecvBuf = Vec<u8>;

    fn recv(&self) -> impl Future<Output = Result<Vec<u8>>> {
        std::future::ready(Err(Error::from(ErrorKind::Unsupported)))
    }

    fn send(&self, batch: Vec<Vec<u8>>) -> impl Future<Output = (Result<()>, Vec<Vec<u8>>)> {
        std::future::ready((Err(Error::from(ErrorKind::Unsupported)), batch))
    }

    fn shutdown(&self) -> impl Future<Output = Result<()>> {
        std::future::ready(Ok(()))
    }

    fn peer_addr(&self) -> Result<SocketAddr> {
        Err(Error::from(ErrorKind::Unsupported))
    }
}
