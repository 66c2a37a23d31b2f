//! Sockets as descriptors: made, bound, asked who is at the other end, closed.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::rc::Rc;

use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt};

use super::operation::Operation;
use super::reactor::Reactor;

/// Connections that may wait to be accepted; the kernel allows fewer where `net.core.somaxconn` is lower.
const BACKLOG: i32 = 1024;

/// A socket. Dropping it closes it; operations under way hold it, so that its descriptor names nothing else meanwhile.
pub(super) struct Socket {
    reactor: Rc<Reactor>,
    /// `None` only in `drop`.
    fd: Option<OwnedFd>,
}

impl Socket {
    /// Takes a descriptor over.
    pub(super) fn new(reactor: Rc<Reactor>, fd: OwnedFd) -> Rc<Self> {
        reactor.open_sockets.set(reactor.open_sockets.get() + 1);
        Rc::new(Self {
            reactor,
            fd: Some(fd),
        })
    }

    /// The core that it lives on.
    pub(super) fn reactor(&self) -> &Rc<Reactor> {
        &self.reactor
    }

    /// Who is at the other end.
    pub(super) fn peer_addr(&self) -> io::Result<SocketAddr> {
        as_internet(rustix::net::getpeername(self)?.ok_or(rustix::io::Errno::NOTCONN)?)
    }

    /// Its own address.
    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        as_internet(rustix::net::getsockname(self)?)
    }
}

fn as_internet(address: rustix::net::SocketAddrAny) -> io::Result<SocketAddr> {
    Ok(SocketAddr::try_from(address)?)
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_ref().expect("it is open until it is dropped").as_fd()
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Some(fd) = self.fd.take() {
            let open = &self.reactor.open_sockets;
            open.set(open.get() - 1);
            self.reactor.begin_alone(Operation::CloseSocket(fd.into_raw_fd()));
        }
    }
}

/// A stream socket that sends at once: a reply must not wait for the peer to acknowledge the one before it.
pub(super) fn stream_socket(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let (kind, flags) = (SocketType::STREAM, SocketFlags::CLOEXEC);
    let fd = rustix::net::socket_with(family, kind, flags, Some(ipproto::TCP))?;
    sockopt::set_tcp_nodelay(&fd, true)?;
    Ok(fd)
}

/// A listening socket; others may listen on the same address. What it accepts sends at once too, as Linux hands that on.
pub(super) fn listening_socket(address: SocketAddr) -> io::Result<OwnedFd> {
    let fd = stream_socket(address)?;
    sockopt::set_socket_reuseaddr(&fd, true)?;
    sockopt::set_socket_reuseport(&fd, true)?;
    rustix::net::bind(&fd, &address)?;
    rustix::net::listen(&fd, BACKLOG)?;
    Ok(fd)
}
