//! What the kernel says of an operation: its result, and what it hands over with it.

use std::io;
use std::os::fd::OwnedFd;

use super::buffers::Lent;
use super::operation::Operation;

/// One completion. What it hands over is given back when it is dropped, so that a completion that nobody waits for any more
/// leaves nothing open and no buffer out.
pub(super) struct Completion {
    /// What the operation yields: bytes done, or nothing of meaning.
    pub(super) result: io::Result<usize>,
    /// The descriptor that it opened.
    pub(super) opened: Option<OwnedFd>,
    /// The buffer of the ring that it filled.
    pub(super) lent: Option<Lent>,
}

impl Completion {
    /// The descriptor of an operation that opens one.
    pub(super) fn into_opened(self) -> io::Result<OwnedFd> {
        self.result?;
        Ok(self.opened.expect("what opens yields a descriptor or an error"))
    }
}

/// Takes the completions of an operation that nobody polls.
pub(super) trait Sink {
    /// One completion. With the last one comes the operation, which is over.
    fn completed(&self, completion: Completion, over: Option<Operation>);
}
