//! The glommio runtime behind the seam: the only place that names glommio.
//!
//! One pinned executor per core ([`start`]). Files are `DmaFile`s (`file.rs`), names and directories go to a blocking
//! thread (`blocking.rs`), sockets are polled through the ring (`net.rs`), and `device.rs` knows what must be known of a
//! device before its first file is opened. The tasks are ours (`io/scheduler.rs`); glommio runs them as one of its
//! own and does what it does best, the rings. glommio 0.9.0 is the last release on crates.io; what it needs to be
//! handled with care is written beside the code that handles it:
//!
//! - It goes to sleep over tasks that are ready to run, if its preempt timer or a message's eventfd fires at the wrong
//!   moment; and while only background queues run, it looks at the ring no sooner than that timer fires (`run.rs`).
//! - It learns whether a device can be polled by reading the first file opened there, and an empty file teaches it
//!   the wrong answer (`device.rs`).
//! - Its error type loses the operating system's code on the way into `std::io::Error`; `os_error` keeps it.
//! - Asking a `DmaFile` for its size asks its *path*, which is another file after a rename (`file.rs`).

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use glommio::GlommioError;

use super::clock;
use super::names::{self, FileLock};
use super::scheduler::{self, Scheduler};
use super::{Class, ClassTimes, DirEntry, Io, OpenOptions};
use blocking::blocking;
use in_flight::InFlight;

mod blocking;
mod device;
mod file;
mod in_flight;
mod net;
mod run;
#[cfg(test)]
mod tests;

pub(in crate::io) use device::unnamed_file;
pub use file::{GlommioFile, ReadBuf, WriteBuf};
pub use net::{GlommioListener, GlommioStream, RecvBuf};
pub use run::start;
pub(crate) use run::start_told;

/// The machine as one glommio executor sees it. Made by [`start`], one for each core; `!Send`.
#[derive(Clone)]
pub struct GlommioIo(Rc<Core>);

/// What all clones of one core's [`GlommioIo`] share.
struct Core {
    scheduler: Scheduler,
    /// Directories whose device is known to be primed, so that opening a file costs no further look at it.
    primed_dirs: RefCell<HashSet<PathBuf>>,
    /// Devices (`st_dev`) whose poll support this executor has learned from a file with bytes in it.
    primed_devices: RefCell<HashSet<u64>>,
    /// The longest single transfer for each device, by major and minor number.
    part_bytes: RefCell<HashMap<(u32, u32), usize>>,
    recv_pool: net::RecvPool,
    in_flight: InFlight,
}

/// Most directories remembered as primed: a process has one for each shard, and forgetting them costs one `stat`.
const PRIMED_DIRS: usize = 1024;

/// The operating system's error inside a glommio error, with its code, so that a full device stays `StorageFull`.
/// The file is named by the caller, who knows it better.
fn os_error<T>(error: GlommioError<T>) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => error.into(),
    }
}

impl GlommioIo {
    fn new(scheduler: Scheduler) -> Self {
        Self(Rc::new(Core {
            scheduler,
            primed_dirs: RefCell::default(),
            primed_devices: RefCell::default(),
            part_bytes: RefCell::default(),
            recv_pool: net::RecvPool::default(),
            in_flight: InFlight::default(),
        }))
    }

    /// Teaches this executor whether the device under `dir` can be polled, from a block that is there to be read.
    ///
    /// [`Io::open`] does it before the first file of a directory, so calling it is only ever useful to do it early.
    /// It makes an unnamed file, or where the filesystem has none a `.corelane-probe` that it removes at once;
    /// nothing stays behind.
    ///
    /// # Errors
    /// What stopped it: a missing directory, a read-only or full filesystem. [`Io::open`] goes on without.
    pub async fn prime(&self, dir: &Path) -> io::Result<()> {
        let dir = dir.to_owned();
        if self.0.primed_dirs.borrow().contains(&dir) {
            return Ok(());
        }
        let of = dir.clone();
        let device = blocking(self.0.in_flight.enter(), move || device::device_of(&of)).await?;
        if !self.0.primed_devices.borrow().contains(&device) {
            device::probe_polling(&dir, self.0.in_flight.enter()).await?;
            self.0.primed_devices.borrow_mut().insert(device);
        }
        let mut dirs = self.0.primed_dirs.borrow_mut();
        if dirs.len() >= PRIMED_DIRS {
            dirs.clear();
        }
        dirs.insert(dir);
        Ok(())
    }

    /// The longest single transfer to or from the device of `file`.
    fn part_bytes(&self, file: &glommio::io::DmaFile) -> usize {
        let device = (file.dev_major(), file.dev_minor());
        *self
            .0
            .part_bytes
            .borrow_mut()
            .entry(device)
            .or_insert_with(|| device::part_bytes(device.0, device.1))
    }
}

impl Io for GlommioIo {
    type File = GlommioFile;
    type Listener = GlommioListener;
    type Stream = GlommioStream;
    type Lock = FileLock;

    fn open(
        &self,
        path: &Path,
        options: OpenOptions,
    ) -> impl Future<Output = io::Result<Self::File>> + 'static {
        let (io, path) = (self.clone(), path.to_owned());
        let in_flight = self.0.in_flight.clone();
        in_flight.to_the_end(async move {
            let dir = match path.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => parent,
                _ => Path::new("."),
            };
            // Without room or permission for a probe no file can be made here either, and a file that is there
            // already and holds a block is as good a probe.
            let _unprimed = io.prime(dir).await.is_err();
            let file = file::open(&path, options).await?;
            let part_bytes = io.part_bytes(&file);
            Ok(GlommioFile::new(file, part_bytes, io.0.in_flight.clone()))
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> impl Future<Output = io::Result<()>> + 'static {
        let (from, to) = (from.to_owned(), to.to_owned());
        blocking(self.0.in_flight.enter(), move || names::rename(&from, &to))
    }

    fn remove(&self, path: &Path) -> impl Future<Output = io::Result<()>> + 'static {
        let path = path.to_owned();
        blocking(self.0.in_flight.enter(), move || names::remove(&path))
    }

    fn create_dir(&self, path: &Path) -> impl Future<Output = io::Result<()>> + 'static {
        let path = path.to_owned();
        blocking(self.0.in_flight.enter(), move || names::create_dir(&path))
    }

    fn sync_dir(&self, path: &Path) -> impl Future<Output = io::Result<()>> + 'static {
        let path = path.to_owned();
        blocking(self.0.in_flight.enter(), move || names::sync_dir(&path))
    }

    fn list_dir(&self, path: &Path) -> impl Future<Output = io::Result<Vec<DirEntry>>> + 'static {
        let path = path.to_owned();
        blocking(self.0.in_flight.enter(), move || names::list_dir(&path))
    }

    fn free_bytes(&self, path: &Path) -> impl Future<Output = io::Result<u64>> + 'static {
        let path = path.to_owned();
        blocking(self.0.in_flight.enter(), move || names::free_bytes(&path))
    }

    fn lock(&self, path: &Path) -> impl Future<Output = io::Result<Self::Lock>> + 'static {
        let path = path.to_owned();
        blocking(self.0.in_flight.enter(), move || names::lock(&path))
    }

    fn alloc(&self, bytes: usize) -> WriteBuf {
        WriteBuf::new(bytes)
    }

    fn now(&self) -> Duration {
        clock::now()
    }

    fn polled_at(&self) -> Duration {
        self.0.scheduler.polled_at()
    }

    fn wall_clock_ms(&self) -> u64 {
        clock::wall_clock_ms()
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + 'static {
        glommio::timer::sleep(duration)
    }

    fn spawn(&self, class: Class, task: impl Future<Output = ()> + 'static) {
        self.0.scheduler.spawn(class, task);
    }

    fn set_shares(&self, class: Class, shares: u32) {
        self.0.scheduler.set_shares(class, shares);
    }

    fn should_yield(&self) -> bool {
        self.0.scheduler.should_yield()
    }

    fn yield_now(&self) -> impl Future<Output = ()> + 'static {
        scheduler::yield_now()
    }

    fn random_u64(&self) -> u64 {
        clock::random_u64()
    }

    fn class_times(&self) -> Option<ClassTimes> {
        Some(self.0.scheduler.class_times())
    }

    fn listen(&self, address: SocketAddr) -> impl Future<Output = io::Result<Self::Listener>> + 'static {
        let pool = self.0.recv_pool.clone();
        async move { GlommioListener::bind(address, pool) }
    }

    fn connect(&self, address: SocketAddr) -> impl Future<Output = io::Result<Self::Stream>> + 'static {
        let pool = self.0.recv_pool.clone();
        async move { GlommioStream::connect(address, pool).await }
    }
}
