//! A runtime of our own behind the seam, on the `io-uring` crate: one thread and one ring a core, and disk, sockets, timers
//! and messages that complete in one place.
//!
//! ```text
//! run.rs          start and end of the cores' threads
//!  └─ reactor.rs  one core: a turn of its loop
//!      ├─ in_flight.rs   the ring and what is under way on it
//!      │    ├─ ring.rs         entries in, completions out          ability.rs  what the kernel offers
//!      │    ├─ slots.rs        operations until their last completion
//!      │    ├─ depth.rs        how much the device has of it        outflow.rs  how much is sent of it in a turn
//!      │    ├─ operation.rs    what is asked of the kernel          message.rs  a batch to send
//!      │    ├─ memory.rs       memory for files, over buddy.rs
//!      │    └─ buffers.rs      memory for receives
//!      ├─ timer.rs  spin.rs  bell.rs (wake-ups, over msg_ring.rs)  blocking.rs  table.rs (registered files)
//! file.rs (over descriptor.rs)   net.rs (over socket.rs, inbox.rs, armed.rs)
//! ```
//!
//! **The kernel never holds an address in memory that somebody may free.** Everything that an operation names is owned by the
//! operation, which lies in a slot until the kernel has told its last completion, whether somebody waits for it or not. The
//! modules with unsafe code are `ring.rs`, `in_flight.rs`, `memory.rs`, `buffers.rs` and `msg_ring.rs`; all others are safe.
//!
//! **Whatever has begun ends.** A future dropped before its end leaves its operation to complete by itself; one that waits
//! for others (a send, a connect) is cancelled, and one that the kernel does not have yet never begins. A core that ends waits for all of them, and counts what is left.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use super::names::{self, FileLock};
use super::scheduler::{self, Scheduler};
use super::{Class, ClassTimes, DirEntry, Held, Io, OpenOptions, clock};
use descriptor::Descriptor;
use operation::Operation;
use reactor::Reactor;

mod ability;
mod armed;
mod bell;
mod blocking;
mod buddy;
mod buffers;
mod completion;
mod depth;
mod descriptor;
mod file;
mod in_flight;
mod inbox;
mod memory;
mod message;
mod msg_ring;
mod net;
mod operation;
mod outflow;
mod reactor;
mod ring;
mod run;
mod slots;
mod socket;
mod spin;
mod table;
#[cfg(test)]
mod tests;
mod timer;

pub use ability::{Ability, Setup};
pub use file::{ReadBuf, UringFile, WriteBuf};
pub use inbox::RecvBuf;
pub use net::{UringListener, UringStream};
pub(crate) use run::start_told;
pub use run::{probe, start};

/// The machine as one core sees it. Made by [`start`], one for each core; `!Send`.
#[derive(Clone)]
pub struct UringIo(Rc<Core>);

/// What all clones of one core's [`UringIo`] share.
struct Core {
    scheduler: Scheduler,
    reactor: Rc<Reactor>,
}

impl UringIo {
    fn new(scheduler: Scheduler, reactor: Rc<Reactor>) -> Self {
        Self(Rc::new(Core { scheduler, reactor }))
    }

    /// What this core's ring has taken of what the kernel offers.
    pub fn ability(&self) -> &Ability {
        &self.0.reactor.ability
    }

    /// Runs an operation on a name, and tells only how it went.
    fn run(&self, operation: io::Result<Operation>) -> impl Future<Output = io::Result<()>> + 'static {
        let reactor = Rc::clone(&self.0.reactor);
        async move {
            let (_operation, completion) = reactor.run(operation?).await;
            completion.result.map(drop)
        }
    }
}

impl Io for UringIo {
    type File = UringFile;
    type Listener = UringListener;
    type Stream = UringStream;
    type Lock = FileLock;

    fn open(
        &self,
        path: &Path,
        options: OpenOptions,
    ) -> impl Future<Output = io::Result<Self::File>> + 'static {
        file::open(Rc::clone(&self.0.reactor), file::c_path(path), options)
    }

    fn rename(&self, from: &Path, to: &Path) -> impl Future<Output = io::Result<()>> + 'static {
        let paths = file::c_path(from).and_then(|from| Ok((from, file::c_path(to)?)));
        self.run(paths.map(|(from, to)| Operation::Rename(from, to)))
    }

    fn remove(&self, path: &Path) -> impl Future<Output = io::Result<()>> + 'static {
        self.run(file::c_path(path).map(Operation::Remove))
    }

    fn create_dir(&self, path: &Path) -> impl Future<Output = io::Result<()>> + 'static {
        let created = self.run(file::c_path(path).map(Operation::CreateDir));
        let (io, path) = (self.clone(), path.to_owned());
        async move {
            match created.await {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    // Fine if it is a directory that is there, which opening it as one tells.
                    let dir = io.open_dir(&path).await.map_err(|_| error)?;
                    dir.close().await
                }
                other => other,
            }
        }
    }

    fn sync_dir(&self, path: &Path) -> impl Future<Output = io::Result<()>> + 'static {
        let opened = self.open_dir(path);
        async move {
            let dir = Rc::new(opened.await?);
            let reactor = dir.reactor();
            let (operation, completion) = reactor.run(Operation::SyncDir(dir)).await;
            if let Operation::SyncDir(dir) = operation
                && let Some(dir) = Rc::into_inner(dir)
            {
                // It was not written to, so that there is nothing for closing it to fail at.
                let _closed = dir.close().await.is_ok();
            }
            completion.result.map(drop)
        }
    }

    fn list_dir(&self, path: &Path) -> impl Future<Output = io::Result<Vec<DirEntry>>> + 'static {
        let path = path.to_owned();
        self.0.reactor.blocking.run(move || names::list_dir(&path))
    }

    fn free_bytes(&self, path: &Path) -> impl Future<Output = io::Result<u64>> + 'static {
        let path = path.to_owned();
        self.0.reactor.blocking.run(move || names::free_bytes(&path))
    }

    fn lock(&self, path: &Path) -> impl Future<Output = io::Result<Self::Lock>> + 'static {
        let path = path.to_owned();
        self.0.reactor.blocking.run(move || names::lock(&path))
    }

    fn alloc(&self, bytes: usize) -> WriteBuf {
        WriteBuf::new(&self.0.reactor.arena(), bytes)
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
        self.0.reactor.sleep(duration)
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

    fn held(&self) -> Option<Held> {
        let core = &*self.0;
        Some(Held {
            tasks: core.scheduler.tasks() as u64,
            ..core.reactor.held()
        })
    }

    fn class_times(&self) -> Option<ClassTimes> {
        Some(self.0.scheduler.class_times())
    }

    fn listen(&self, address: SocketAddr) -> impl Future<Output = io::Result<Self::Listener>> + 'static {
        let reactor = Rc::clone(&self.0.reactor);
        async move { UringListener::bind(reactor, address) }
    }

    fn connect(&self, address: SocketAddr) -> impl Future<Output = io::Result<Self::Stream>> + 'static {
        UringStream::connect(Rc::clone(&self.0.reactor), address)
    }
}

impl UringIo {
    /// Opens a directory, to be synced or only to know that it is one.
    fn open_dir(&self, path: &Path) -> impl Future<Output = io::Result<Descriptor>> + 'static {
        let (reactor, path) = (Rc::clone(&self.0.reactor), file::c_path(path));
        async move {
            let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC;
            let (_operation, completion) = reactor.run(Operation::Open { path: path?, flags }).await;
            Ok(Descriptor::new(reactor, completion.into_opened()?, false))
        }
    }
}
