//! Connections and listeners.
//!
//! Bytes are received in advance (`inbox.rs`); a batch is sent by one operation that names its buffers. Both ends of a
//! connection are clones of one [`UringStream`]; when the last goes, the receive is cancelled and the socket closed.
//!
//! Connections are accepted one by one, each when somebody asks for it. A multishot accept takes all that wait, a thousand
//! at once, before it can be told that this is enough: some ms for which everybody else of the core would wait.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use std::task::{Context, Poll};

use rustix::net::Shutdown;

use super::super::{Listener, Stream};
use super::armed::Armed;
use super::completion::{Completion, Sink};
use super::inbox::{Inbox, RecvBuf};
use super::message::{Address, Message};
use super::operation::{self, Operation};
use super::reactor::Reactor;
use super::socket::{Socket, listening_socket, stream_socket};

/// A connected socket. Clones share it: one task may receive and another one send, but no two may do the same.
#[derive(Clone)]
pub struct UringStream(Rc<Connection>);

struct Connection {
    socket: Rc<Socket>,
    inbox: Rc<Inbox>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        // Before the socket, which stays open as long as something is received from it.
        self.inbox.close();
    }
}

impl UringStream {
    fn new(socket: Rc<Socket>) -> Self {
        let inbox = Inbox::new(&socket);
        Self(Rc::new(Connection { socket, inbox }))
    }

    /// Connects to `address`.
    pub(super) async fn connect(reactor: Rc<Reactor>, address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Rc::clone(&reactor), stream_socket(address)?);
        let connect = Operation::Connect(Rc::clone(&socket), Address::new(address));
        let (_operation, completion) = reactor.run(connect).await;
        completion.result?;
        Ok(Self::new(socket))
    }
}

impl Stream for UringStream {
    type RecvBuf = RecvBuf;

    async fn recv(&self) -> io::Result<RecvBuf> {
        poll_fn(|cx| self.0.inbox.poll(cx)).await
    }

    async fn send(&self, batch: Vec<Vec<u8>>) -> (io::Result<()>, Vec<Vec<u8>>) {
        let socket = &self.0.socket;
        let mut message = Message::new(batch);
        while !message.is_sent() {
            let send = Operation::Send(Rc::clone(socket), message);
            let (operation, completion) = socket.reactor().run(send).await;
            let Operation::Send(_, back) = operation else {
                unreachable!("an operation comes back as it went")
            };
            message = back;
            match completion.result {
                Ok(0) => return (Err(io::ErrorKind::WriteZero.into()), message.into_batch()),
                Ok(bytes) => message.advance(bytes),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return (Err(error), message.into_batch()),
            }
        }
        (Ok(()), message.into_batch())
    }

    async fn shutdown(&self) -> io::Result<()> {
        let socket = &self.0.socket;
        let shutdown = Operation::Shutdown(Rc::clone(socket));
        let (_operation, completion) = socket.reactor().run(shutdown).await;
        completion.result.map(drop)
    }

    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.0.socket.peer_addr()
    }
}

/// A listening socket of one core; others may listen on the same address (`SO_REUSEPORT`).
pub struct UringListener {
    socket: Rc<Socket>,
    arrivals: Rc<Arrivals>,
}

/// The connection that the kernel accepts for us.
struct Arrivals {
    reactor: Rc<Reactor>,
    state: RefCell<Accepting>,
}

#[derive(Default)]
struct Accepting {
    /// What has come and nobody has taken yet.
    arrived: Option<io::Result<OwnedFd>>,
    /// The accept.
    armed: Armed,
}

impl UringListener {
    /// Listens on `address`.
    pub(super) fn bind(reactor: Rc<Reactor>, address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Rc::clone(&reactor), listening_socket(address)?);
        let arrivals = Rc::new(Arrivals {
            reactor,
            state: RefCell::default(),
        });
        Ok(Self { socket, arrivals })
    }

    fn poll_accept(&self, cx: &Context<'_>) -> Poll<io::Result<OwnedFd>> {
        let mut state = self.arrivals.state.borrow_mut();
        if let Some(arrival) = state.arrived.take() {
            return Poll::Ready(arrival);
        }
        if state.armed.wait(cx) {
            let accept = Operation::Stream {
                what: operation::Stream::Accept,
                fd: self.socket.as_raw_fd(),
                sink: Rc::clone(&self.arrivals) as Rc<dyn Sink>,
            };
            state.armed.begun(self.arrivals.reactor.begin_stream(accept));
        }
        Poll::Pending
    }
}

impl Sink for Arrivals {
    fn completed(&self, completion: Completion, over: Option<Operation>) {
        let mut state = self.state.borrow_mut();
        if !state.armed.completed(over.is_some()) {
            return;
        }
        let arrival = completion.into_opened();
        let code = arrival.as_ref().err().and_then(io::Error::raw_os_error);
        // Those are ours, or say that the next is to be asked for.
        if !matches!(code, Some(libc::ECANCELED | libc::EAGAIN | libc::EINTR)) {
            state.arrived = Some(arrival);
        }
        let next = state.armed.next(false);
        drop(state);
        next.follow(&self.reactor);
    }
}

impl Listener for UringListener {
    type Stream = UringStream;

    async fn accept(&self) -> io::Result<UringStream> {
        let fd = poll_fn(|cx| self.poll_accept(cx)).await?;
        Ok(UringStream::new(Socket::new(
            Rc::clone(&self.arrivals.reactor),
            fd,
        )))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

impl Drop for UringListener {
    fn drop(&mut self) {
        // At once, so that nobody is accepted who connects from now on: the accept under way holds the socket open until
        // the ring has been entered.
        let _ends_anyhow = rustix::net::shutdown(&*self.socket, Shutdown::Both).is_ok();
        let mut state = self.arrivals.state.borrow_mut();
        let (next, arrived) = (state.armed.close(), state.arrived.take());
        drop(state);
        drop(arrived);
        next.follow(&self.arrivals.reactor);
    }
}
