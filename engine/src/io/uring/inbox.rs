//! What a connection has received and nobody has read yet.
//!
//! A multishot receive stays armed as long as it is read from: each completion brings a buffer of the core's ring. It is
//! armed by the first reader who finds nothing, and again by a reader after it ended, which it does
//!
//! - when a buffer was filled. Of such a sender the kernel would copy a mebibyte at once while everybody else waits; it is
//!   received from a buffer at a time, in the order of all who ask, until it is brief again. So is who has just come;
//! - at [`MAX_UNREAD`] buffers, by our cancelling it: a connection that nobody reads must not take the core's buffers, and
//!   its sender must feel that it is not read;
//! - when the core has no buffers left. The next receive then brings memory of its own, so that whoever waits for bytes gets
//!   them however many buffers others hold. To keep it from that, what is small is copied while few are left;
//! - for the kernel's own reasons, which are nobody's business.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::ops::Deref;
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;
use std::task::{Context, Poll};

use super::armed::Armed;
use super::buffers::{Lent, RECV_BUFFERS, RECV_BYTES};
use super::completion::{Completion, Sink};
use super::operation::{Operation, Stream};
use super::reactor::Reactor;
use super::socket::Socket;

/// Buffers that a connection may hold unread: 256 KiB, what a fast sender has on its way.
const MAX_UNREAD: usize = 8;

/// Memory of a receive that brings its own. Each waiting connection may hold so much where the ring has nothing to offer.
const OWN_BYTES: usize = 8 * 1024;

/// A receive of so many bytes at most is copied out of its buffer when few are left. The copy costs a small part of what the
/// receive did, and gives back a buffer of at least 32 times its length.
const SMALL_BYTES: usize = 1024;

/// Buffers that are out from when on few are left: with so many nearly all are held by whoever waits, and with fewer a copy
/// would be made for nothing.
const FEW_LEFT_FROM: u16 = RECV_BUFFERS / 4 * 3;

/// Whether a receive is to be copied, so that its buffer goes back to the ring at once. `out` are out of it, this one included.
fn is_to_be_copied(bytes: usize, out: u16) -> bool {
    bytes <= SMALL_BYTES && out >= FEW_LEFT_FROM
}

/// Bytes received. Their memory goes back to the core when they are dropped.
pub struct RecvBuf(Bytes);

enum Bytes {
    Lent(Lent),
    Own(Vec<u8>),
}

impl RecvBuf {
    fn nothing() -> Self {
        Self(Bytes::Own(Vec::new()))
    }
}

impl Deref for RecvBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Bytes::Lent(bytes) => bytes,
            Bytes::Own(bytes) => bytes,
        }
    }
}

#[derive(Default)]
struct State {
    unread: VecDeque<RecvBuf>,
    /// What a reader is told when nothing is unread: the end, once as the error that it was.
    end: Option<Option<io::Error>>,
    /// The receive.
    armed: Armed,
    /// The last receive left room in its buffer: there was no more.
    is_brief: bool,
    /// The ring of buffers had nothing to offer.
    starved: bool,
}

/// See the module's head.
pub(super) struct Inbox {
    reactor: Rc<Reactor>,
    socket: RawFd,
    state: RefCell<State>,
}

impl Inbox {
    /// Of a connection that nothing was received from.
    pub(super) fn new(socket: &Socket) -> Rc<Self> {
        Rc::new(Self {
            reactor: Rc::clone(socket.reactor()),
            socket: socket.as_raw_fd(),
            state: RefCell::default(),
        })
    }

    /// The next bytes; none at the end.
    pub(super) fn poll(self: &Rc<Self>, cx: &Context<'_>) -> Poll<io::Result<RecvBuf>> {
        let mut state = self.state.borrow_mut();
        if let Some(bytes) = state.unread.pop_front() {
            return Poll::Ready(Ok(bytes));
        }
        if let Some(end) = &mut state.end {
            return Poll::Ready(end.take().map_or_else(|| Ok(RecvBuf::nothing()), Err));
        }
        if state.armed.wait(cx) {
            let operation = self.receive(&mut state);
            state.armed.begun(self.reactor.begin_stream(operation));
        }
        Poll::Pending
    }

    /// The receive that suits.
    fn receive(self: &Rc<Self>, state: &mut State) -> Operation {
        let starved = std::mem::take(&mut state.starved);
        let (socket, sink) = (self.socket, Rc::clone(self) as Rc<dyn Sink>);
        match self.reactor.lent_buffers() {
            Some(lent) if lent < RECV_BUFFERS && !starved => Operation::Stream {
                what: if state.is_brief {
                    Stream::Receive
                } else {
                    Stream::ReceiveOnce
                },
                fd: socket,
                sink,
            },
            _ => Operation::Receive {
                socket,
                buffer: vec![0; OWN_BYTES],
                sink,
            },
        }
    }

    /// Nobody will read any more.
    pub(super) fn close(&self) {
        let mut state = self.state.borrow_mut();
        let (next, unread) = (state.armed.close(), std::mem::take(&mut state.unread));
        drop(state);
        drop(unread);
        next.follow(&self.reactor);
    }
}

impl State {
    /// Keeps what has come; `out` buffers are out of the ring.
    fn take_in(&mut self, completion: Completion, over: Option<Operation>, out: u16) {
        let room = match &over {
            Some(Operation::Receive { buffer, .. }) => buffer.len(),
            _ => RECV_BYTES,
        };
        self.is_brief = completion.result.as_ref().is_ok_and(|&bytes| bytes < room);
        match completion.result {
            Ok(0) => self.end = Some(None),
            Ok(bytes) => match (completion.lent, over) {
                (Some(lent), _) => self.unread.push_back(RecvBuf(if is_to_be_copied(bytes, out) {
                    Bytes::Own(lent.to_vec())
                } else {
                    Bytes::Lent(lent)
                })),
                (None, Some(Operation::Receive { mut buffer, .. })) => {
                    buffer.truncate(bytes);
                    self.unread.push_back(RecvBuf(Bytes::Own(buffer)));
                }
                _ => unreachable!("bytes come in a buffer of the ring or of the operation"),
            },
            Err(error) => match error.raw_os_error() {
                // Ours, or the kernel wants to be asked again.
                Some(libc::ECANCELED | libc::EAGAIN | libc::EINTR) => {}
                Some(libc::ENOBUFS) => self.starved = true,
                _ => self.end = Some(Some(error)),
            },
        }
    }
}

impl Sink for Inbox {
    fn completed(&self, completion: Completion, over: Option<Operation>) {
        let mut state = self.state.borrow_mut();
        if !state.armed.completed(over.is_some()) {
            return;
        }
        let out = self.reactor.lent_buffers().unwrap_or(0);
        state.take_in(completion, over, out);
        let enough = state.unread.len() >= MAX_UNREAD || !state.is_brief;
        let next = state.armed.next(enough);
        drop(state);
        next.follow(&self.reactor);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_small_is_copied_and_only_while_few_are_left() {
        assert!(is_to_be_copied(1, FEW_LEFT_FROM) && is_to_be_copied(SMALL_BYTES, RECV_BUFFERS));
        assert!(!is_to_be_copied(1, FEW_LEFT_FROM - 1) && !is_to_be_copied(1, 1));
        assert!(!is_to_be_copied(SMALL_BYTES + 1, RECV_BUFFERS));
    }
}
