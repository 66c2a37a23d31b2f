//! An open file's descriptor, and its place among the registered files.
//!
//! It is closed by an operation, which runs on a thread of the kernel's: the last close of a removed file frees its blocks,
//! which takes milliseconds. The place in the table goes first, for it keeps the file open as well.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::rc::Rc;

use io_uring::squeue::Flags;
use io_uring::types::Fd;

use super::operation::Operation;
use super::reactor::Reactor;

/// An open file or directory. Dropping it closes it without waiting.
pub(super) struct Descriptor {
    reactor: Rc<Reactor>,
    /// `None` once it is being closed.
    fd: Option<OwnedFd>,
    /// Its place in the table of registered files.
    place: Option<u32>,
}

impl Descriptor {
    /// Takes a descriptor over, and registers it where `registered` and there is room.
    pub(super) fn new(reactor: Rc<Reactor>, fd: OwnedFd, registered: bool) -> Self {
        reactor.empty_places();
        let mut place = registered.then(|| reactor.files.borrow_mut().take()).flatten();
        if let Some(taken) = place
            && reactor.register_file(taken, fd.as_raw_fd()).is_err()
        {
            // Short of memory: it works by its descriptor too.
            reactor.files.borrow_mut().give_back(taken);
            place = None;
        }
        reactor.open_files.set(reactor.open_files.get() + 1);
        Self {
            reactor,
            fd: Some(fd),
            place,
        }
    }

    /// The core that it was opened on.
    pub(super) fn reactor(&self) -> Rc<Reactor> {
        Rc::clone(&self.reactor)
    }

    /// How an entry names it.
    pub(super) fn target(&self) -> (Fd, Flags) {
        match self.place.and_then(|place| i32::try_from(place).ok()) {
            Some(place) => (Fd(place), Flags::FIXED_FILE),
            None => (Fd(self.as_fd().as_raw_fd()), Flags::empty()),
        }
    }

    /// Closes it.
    ///
    /// # Errors
    /// The operating system's; it is closed all the same.
    pub(super) async fn close(mut self) -> io::Result<()> {
        let Some(close) = self.take_out() else {
            return Ok(());
        };
        let (_operation, completion) = self.reactor.run(close).await;
        completion.result.map(drop)
    }

    /// The operation that closes it.
    fn take_out(&mut self) -> Option<Operation> {
        let fd = self.fd.take()?;
        let open = &self.reactor.open_files;
        open.set(open.get() - 1);
        if let Some(place) = self.place.take() {
            self.reactor.files.borrow_mut().closed(place);
        }
        self.reactor.empty_places();
        Some(Operation::CloseFile(fd.into_raw_fd()))
    }
}

impl AsFd for Descriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        let fd = self.fd.as_ref();
        fd.expect("it is open until it is dropped or closed, which takes it")
            .as_fd()
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        if let Some(close) = self.take_out() {
            self.reactor.begin_alone(close);
        }
    }
}
