//! The one seam to the machine: files, sockets, clock, tasks, messages between cores, randomness.
//!
//! Engine and server reach the machine only through [`Io`], a type parameter of the shard, so the same code runs on
//! glommio ([`glommio`]), on a runtime of our own ([`uring`]) and in the seeded simulator ([`sim`]). The shape is completion, not readiness: owned buffers
//! go in and come back, `recv` yields a filled buffer, `send` takes a batch. A ring with registered buffers, multishot
//! receive and registered files fits the same shape without a copy.
//!
//! What every implementation keeps, and the conformance tests check:
//! - Positions and lengths of file I/O are multiples of [`crate::types::PAGE_BYTES`]; anything else is a caller's bug
//!   and panics.
//! - `write_at` reports how many bytes were written. Fewer than asked is the caller's to treat as a failure (R2).
//! - A future dropped before it completes may or may not have taken effect; its buffers stay owned until the machine
//!   is done with them.
//! - Nothing is durable but by `sync_data`, `sync_dir`, or a write to a file opened with `dsync`.
//! - Tasks are `!Send` and run on the core that spawned them.

use std::future::Future;
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::time::Duration;

mod account;
pub mod checks;
mod clock;
#[doc(hidden)]
pub mod conformance;
pub mod cores;
pub mod glommio;
mod held;
pub mod mailbox;
mod names;
mod nap;
pub mod runtime;
mod scheduler;
pub mod sim;
pub mod uring;
mod waker_slot;

pub use account::{ClassTime, ClassTimes, STALL};
pub use held::Held;

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenOptions {
    /// What is done with the file.
    pub mode: OpenMode,
    /// Every completed write is on stable storage (`O_DSYNC`), together with the metadata needed to read it back.
    pub dsync: bool,
}

/// What is done with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// Read an existing file.
    Read,
    /// Read and write an existing file.
    Write,
    /// Create a file that must not exist yet, then read and write it.
    Create,
}

impl OpenOptions {
    /// To read an existing file.
    pub const READ: Self = Self {
        mode: OpenMode::Read,
        dsync: false,
    };
    /// To read and write an existing file.
    pub const WRITE: Self = Self {
        mode: OpenMode::Write,
        dsync: false,
    };
    /// To create a new file and write it.
    pub const CREATE: Self = Self {
        mode: OpenMode::Create,
        dsync: false,
    };

    /// The same, every write on stable storage when it completes.
    #[must_use]
    pub const fn dsync(self) -> Self {
        Self { dsync: true, ..self }
    }
}

/// One name in a directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirEntry {
    /// The name, without its directory. Names that are not UTF-8 are none of ours and are left out.
    pub name: String,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// Length in bytes, 0 for a directory.
    pub bytes: u64,
}

/// Which share of a core a task runs under. Priority is by shares, not strict: no class starves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// Requests, the WAL, connections: latency matters.
    Foreground,
    /// Writing immutables out as tables.
    Flush,
    /// Merging L0 into the levels.
    Level0,
    /// Every other compaction.
    Compaction,
    /// Preparing segments, deleting files, statistics.
    Maintenance,
}

impl Class {
    /// All classes, most urgent first.
    pub const ALL: [Self; 5] = [
        Self::Foreground,
        Self::Flush,
        Self::Level0,
        Self::Compaction,
        Self::Maintenance,
    ];

    /// Its name in figures and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Foreground => "foreground",
            Self::Flush => "flush",
            Self::Level0 => "level0",
            Self::Compaction => "compaction",
            Self::Maintenance => "maintenance",
        }
    }
}

/// The machine as one core sees it. Cheap to clone.
pub trait Io: Clone + 'static {
    /// An open file.
    type File: File;
    /// A listening socket.
    type Listener: Listener<Stream = Self::Stream>;
    /// A connected socket.
    type Stream: Stream;
    /// Keeps other openers of the same lock file out, in this process and others, until dropped or the process dies. All
    /// cores of a database share one, so that the last of them gives it back, whichever that is.
    type Lock: Send + Sync + 'static;

    /// Opens a file for direct I/O.
    fn open(
        &self,
        path: &Path,
        options: OpenOptions,
    ) -> impl Future<Output = std::io::Result<Self::File>> + 'static;
    /// Renames within one filesystem, replacing `to`. Durable only after [`Io::sync_dir`] of its directory.
    fn rename(&self, from: &Path, to: &Path) -> impl Future<Output = std::io::Result<()>> + 'static;
    /// Removes a file's name. Durable only after [`Io::sync_dir`].
    fn remove(&self, path: &Path) -> impl Future<Output = std::io::Result<()>> + 'static;
    /// Creates one directory; it is no error if it exists. Durable only after [`Io::sync_dir`] of its parent.
    fn create_dir(&self, path: &Path) -> impl Future<Output = std::io::Result<()>> + 'static;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, path: &Path) -> impl Future<Output = std::io::Result<()>> + 'static;
    /// What is in a directory, sorted by name.
    fn list_dir(&self, path: &Path) -> impl Future<Output = std::io::Result<Vec<DirEntry>>> + 'static;
    /// Bytes that an unprivileged writer can still allocate on the filesystem of `path`.
    fn free_bytes(&self, path: &Path) -> impl Future<Output = std::io::Result<u64>> + 'static;
    /// Takes the lock file at `path`, creating it if need be. A lock held elsewhere is `ErrorKind::WouldBlock`, its
    /// message naming the holder's process where it is known.
    fn lock(&self, path: &Path) -> impl Future<Output = std::io::Result<Self::Lock>> + 'static;
    /// A buffer for one write, `bytes` long (a multiple of the page), aligned for direct I/O. In it is whatever its memory
    /// was used for before: who writes it fills all of it, for what is left would be on the disk for good.
    fn alloc(&self, bytes: usize) -> <Self::File as File>::WriteBuf;

    /// Time since an arbitrary start; never goes back.
    fn now(&self) -> Duration;
    /// When the running task was polled: the time as it was a moment ago, for no more than it takes to remember it.
    fn polled_at(&self) -> Duration {
        self.now()
    }
    /// Milliseconds since the Unix epoch; may jump both ways.
    fn wall_clock_ms(&self) -> u64;
    /// Completes once `duration` has passed.
    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + 'static;
    /// Runs a task on this core under `class`. It runs to its end unless the runtime is torn down.
    fn spawn(&self, class: Class, task: impl Future<Output = ()> + 'static);
    /// Gives a class another weight against the others, 1 to 1000.
    fn set_shares(&self, class: Class, shares: u32);
    /// Whether something more urgent waits for this core. Cheap enough for inner loops.
    fn should_yield(&self) -> bool;
    /// Lets the other tasks of this core run.
    fn yield_now(&self) -> impl Future<Output = ()> + 'static;
    /// Unpredictable in production, seeded in the simulator.
    fn random_u64(&self) -> u64;
    /// What this core holds now, where the runtime counts it.
    fn held(&self) -> Option<Held> {
        None
    }
    /// What each class has had of this core, where the runtime counts it.
    fn class_times(&self) -> Option<ClassTimes> {
        None
    }

    /// Listens on `address`; several cores may listen on one (`SO_REUSEPORT`) and the kernel spreads connections.
    fn listen(&self, address: SocketAddr) -> impl Future<Output = std::io::Result<Self::Listener>> + 'static;
    /// Connects to `address`.
    fn connect(&self, address: SocketAddr) -> impl Future<Output = std::io::Result<Self::Stream>> + 'static;
}

/// An open file, read and written in whole pages past the page cache. Clones share the descriptor.
pub trait File: Clone + 'static {
    /// What a read yields.
    type ReadBuf: Deref<Target = [u8]> + 'static;
    /// What a write takes and gives back.
    type WriteBuf: DerefMut<Target = [u8]> + 'static;

    /// Reads up to `bytes` at `position`; fewer at the end of the file.
    fn read_at(
        &self,
        position: u64,
        bytes: usize,
    ) -> impl Future<Output = std::io::Result<Self::ReadBuf>> + 'static;
    /// Writes `buf` at `position` and gives it back with the number of bytes written.
    fn write_at(
        &self,
        buf: Self::WriteBuf,
        position: u64,
    ) -> impl Future<Output = (std::io::Result<usize>, Self::WriteBuf)> + 'static;
    /// Makes every completed write durable, with the metadata needed to read it back.
    fn sync_data(&self) -> impl Future<Output = std::io::Result<()>> + 'static;
    /// Reserves room for the first `bytes` bytes and makes the file at least so long. Unwritten room reads as zeros.
    fn allocate(&self, bytes: u64) -> impl Future<Output = std::io::Result<()>> + 'static;
    /// Length in bytes.
    fn bytes(&self) -> impl Future<Output = std::io::Result<u64>> + 'static;
    /// Closes this clone; the descriptor goes with the last one. Dropping does the same without waiting.
    fn close(self) -> impl Future<Output = std::io::Result<()>> + 'static;
}

/// A listening socket.
pub trait Listener: 'static {
    /// What accepting yields.
    type Stream: Stream;
    /// Waits for the next connection.
    fn accept(&self) -> impl Future<Output = std::io::Result<Self::Stream>>;
    /// The address in use, with the port chosen where 0 was asked for.
    fn local_addr(&self) -> std::io::Result<SocketAddr>;
}

/// A connected socket. Clones share it, so that one task may receive while another sends.
pub trait Stream: Clone + 'static {
    /// A filled buffer.
    type RecvBuf: Deref<Target = [u8]> + 'static;
    /// Waits for bytes; an empty buffer means that the peer has finished sending.
    fn recv(&self) -> impl Future<Output = std::io::Result<Self::RecvBuf>>;
    /// Sends the whole batch in order and gives its buffers back for reuse.
    fn send(&self, batch: Vec<Vec<u8>>) -> impl Future<Output = (std::io::Result<()>, Vec<Vec<u8>>)>;
    /// Ends both directions; a pending `recv` then completes.
    fn shutdown(&self) -> impl Future<Output = std::io::Result<()>>;
    /// Who is at the other end.
    fn peer_addr(&self) -> std::io::Result<SocketAddr>;
}
