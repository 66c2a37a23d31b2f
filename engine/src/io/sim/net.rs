//! The network inside a simulated machine: connections between its cores.
//!
//! A connection is two pipes. What is sent is cut into random segments that arrive in order after random delays; a
//! receiver gets what has arrived, again cut at random. A pipe holds a bounded number of bytes, in transit or waiting;
//! beyond that the sender waits. A connection can be reset by a test.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Deref;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};

use super::completion::completion;
use super::inner::{Event, Inner};
use crate::io::{Listener, Stream};

/// Bytes that one direction of a connection holds; small, so that every sender meets a full pipe.
const PIPE_BYTES: usize = 64 * 1024;

/// Longest segment in bytes.
const SEGMENT_BYTES: usize = 16 * 1024;

/// Connections that wait to be accepted; more are refused.
const BACKLOG: usize = 128;

/// Ports given out where none was asked for; they do not run out in a test.
const FIRST_FREE_PORT: u16 = 32_768;

/// Who waits for a change; bounded by the tasks that share one end.
#[derive(Default)]
struct Waiters(Vec<Waker>);

impl Waiters {
    fn add(&mut self, cx: &Context<'_>) {
        if !self.0.iter().any(|waker| waker.will_wake(cx.waker())) {
            self.0.push(cx.waker().clone());
        }
    }

    fn wake(&mut self) {
        for waker in self.0.drain(..) {
            waker.wake();
        }
    }
}

/// One direction of a connection.
#[derive(Default)]
struct Pipe {
    arrived: VecDeque<u8>,
    in_transit_bytes: usize,
    last_due_ns: u64,
    writer_closed: bool,
    end_arrived: bool,
    reader_closed: bool,
    reset: bool,
    waiters: Waiters,
}

impl Pipe {
    fn room(&self) -> usize {
        PIPE_BYTES - self.arrived.len() - self.in_transit_bytes
    }
}

type SharedPipe = Rc<RefCell<Pipe>>;

/// Connections to one listener that nobody has accepted yet.
#[derive(Default)]
struct Backlog {
    streams: VecDeque<SimStream>,
    waiters: Waiters,
}

/// The listeners and connections of a machine.
#[derive(Default)]
pub(super) struct Net {
    listeners: BTreeMap<SocketAddr, Vec<Rc<RefCell<Backlog>>>>,
    connections: Vec<Weak<End>>,
    ports_given: u16,
}

impl Net {
    /// Whether a machine's end must still drop something here.
    pub(super) fn is_empty(&self) -> bool {
        self.listeners.is_empty()
    }

    fn free_port(&mut self) -> u16 {
        self.ports_given += 1;
        FIRST_FREE_PORT + self.ports_given
    }

    /// Resets the connections with an end at a matching address.
    pub(super) fn reset(net: &RefCell<Self>, matches: impl Fn(SocketAddr) -> bool) {
        let mut net = net.borrow_mut();
        net.connections.retain(|end| end.strong_count() > 0);
        for end in net.connections.iter().filter_map(Weak::upgrade) {
            if matches(end.local) || matches(end.peer) {
                for pipe in [&end.outward, &end.inward] {
                    let mut pipe = pipe.borrow_mut();
                    pipe.reset = true;
                    pipe.waiters.wake();
                }
            }
        }
    }
}

/// One end of a connection.
struct End {
    inner: Rc<Inner>,
    outward: SharedPipe,
    inward: SharedPipe,
    local: SocketAddr,
    peer: SocketAddr,
}

impl End {
    /// Ends both directions. What was sent before still arrives.
    fn close(&self) {
        {
            let mut inward = self.inward.borrow_mut();
            inward.reader_closed = true;
            inward.waiters.wake();
        }
        let mut outward = self.outward.borrow_mut();
        if std::mem::replace(&mut outward.writer_closed, true) {
            return;
        }
        outward.waiters.wake();
        drop(outward);
        let pipe = Rc::clone(&self.outward);
        self.deliver_later(move || {
            let mut pipe = pipe.borrow_mut();
            pipe.end_arrived = true;
            pipe.waiters.wake();
        });
    }

    /// Does `arrive` after a random delay, behind everything sent before it.
    fn deliver_later(&self, arrive: impl FnOnce() + 'static) {
        let now = self.inner.now_ns();
        let delay = {
            let mut rng = self.inner.rng.borrow_mut();
            let usual = rng.between(1_000, 100_000);
            if rng.chance(1, 32) { usual * 50 } else { usual }
        };
        let mut outward = self.outward.borrow_mut();
        let due = (now + delay).max(outward.last_due_ns + 1);
        outward.last_due_ns = due;
        drop(outward);
        self.inner
            .schedule(due - now, Event::Net(Box::new(move |_| arrive())));
    }

    /// Takes what has arrived, or some of it.
    fn poll_recv(&self, cx: &Context<'_>) -> Poll<io::Result<RecvBuf>> {
        let mut pipe = self.inward.borrow_mut();
        if pipe.reset {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if pipe.arrived.is_empty() {
            if pipe.end_arrived || pipe.reader_closed {
                return Poll::Ready(Ok(RecvBuf(Vec::new())));
            }
            pipe.waiters.add(cx);
            return Poll::Pending;
        }
        let mut rng = self.inner.rng.borrow_mut();
        let all = pipe.arrived.len();
        let taken = if rng.coin() { all } else { 1 + rng.index(all) };
        let bytes = pipe.arrived.drain(..taken).collect();
        pipe.waiters.wake();
        Poll::Ready(Ok(RecvBuf(bytes)))
    }

    /// Sends a first part of `bytes`; how long it is.
    fn poll_send(&self, cx: &Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let segment = {
            let mut pipe = self.outward.borrow_mut();
            if pipe.reset {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            if pipe.writer_closed || pipe.reader_closed {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            let most = pipe.room().min(bytes.len()).min(SEGMENT_BYTES);
            if most == 0 {
                pipe.waiters.add(cx);
                return Poll::Pending;
            }
            let mut rng = self.inner.rng.borrow_mut();
            let len = if rng.coin() { most } else { 1 + rng.index(most) };
            pipe.in_transit_bytes += len;
            bytes[..len].to_vec()
        };
        let sent = segment.len();
        let pipe = Rc::clone(&self.outward);
        self.deliver_later(move || {
            let mut pipe = pipe.borrow_mut();
            pipe.in_transit_bytes -= segment.len();
            if !pipe.reader_closed {
                pipe.arrived.extend(segment);
            }
            pipe.waiters.wake();
        });
        Poll::Ready(Ok(sent))
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.close();
    }
}

/// Received bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecvBuf(Vec<u8>);

impl Deref for RecvBuf {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// A connected socket. Clones share it; the last one closes it.
#[derive(Clone)]
pub struct SimStream(Rc<End>);

/// A listening socket. Dropping it ends the connections that nobody has accepted.
pub struct SimListener {
    inner: Rc<Inner>,
    address: SocketAddr,
    backlog: Rc<RefCell<Backlog>>,
}

impl Drop for SimListener {
    fn drop(&mut self) {
        let mut net = self.inner.net.borrow_mut();
        if let Some(listeners) = net.listeners.get_mut(&self.address) {
            listeners.retain(|backlog| !Rc::ptr_eq(backlog, &self.backlog));
            if listeners.is_empty() {
                net.listeners.remove(&self.address);
            }
        }
    }
}

pub(super) fn listen(inner: &Rc<Inner>, mut address: SocketAddr) -> io::Result<SimListener> {
    let backlog: Rc<RefCell<Backlog>> = Rc::default();
    let mut net = inner.net.borrow_mut();
    if address.port() == 0 {
        address.set_port(net.free_port());
    }
    net.listeners
        .entry(address)
        .or_default()
        .push(Rc::clone(&backlog));
    Ok(SimListener {
        inner: Rc::clone(inner),
        address,
        backlog,
    })
}

pub(super) async fn connect(inner: Rc<Inner>, address: SocketAddr) -> io::Result<SimStream> {
    let (answer, completion) = completion();
    let delay = inner.rng.borrow_mut().between(10_000, 200_000);
    let weak = Rc::downgrade(&inner);
    let arrive = move |_: &Inner| {
        let inner = weak.upgrade().expect("a machine outlives its events");
        answer.give(establish(&inner, address));
    };
    inner.schedule(delay, Event::Net(Box::new(arrive)));
    completion.await
}

/// Makes both ends of a connection and puts one before one of the listeners at `address`.
fn establish(inner: &Rc<Inner>, address: SocketAddr) -> io::Result<SimStream> {
    let mut net = inner.net.borrow_mut();
    let mut any = address;
    any.set_ip(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let listeners = net.listeners.get(&address).or_else(|| net.listeners.get(&any));
    let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
    let listeners = listeners.ok_or_else(refused)?;
    let backlog = Rc::clone(inner.rng.borrow_mut().pick(listeners));
    if backlog.borrow().streams.len() >= BACKLOG {
        return Err(refused());
    }
    let local = SocketAddr::new(address.ip(), net.free_port());
    let (there, back) = (SharedPipe::default(), SharedPipe::default());
    let end = |outward: &SharedPipe, inward: &SharedPipe, local, peer| {
        let (outward, inward) = (Rc::clone(outward), Rc::clone(inward));
        Rc::new(End {
            inner: Rc::clone(inner),
            outward,
            inward,
            local,
            peer,
        })
    };
    let client = end(&there, &back, local, address);
    let server = end(&back, &there, address, local);
    net.connections.retain(|end| end.strong_count() > 0);
    net.connections.push(Rc::downgrade(&client));
    drop(net);
    let mut backlog = backlog.borrow_mut();
    backlog.streams.push_back(SimStream(server));
    backlog.waiters.wake();
    Ok(SimStream(client))
}

impl Listener for SimListener {
    type Stream = SimStream;

    async fn accept(&self) -> io::Result<SimStream> {
        poll_fn(|cx| {
            let mut backlog = self.backlog.borrow_mut();
            match backlog.streams.pop_front() {
                Some(stream) => Poll::Ready(Ok(stream)),
                None => {
                    backlog.waiters.add(cx);
                    Poll::Pending
                }
            }
        })
        .await
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

impl Stream for SimStream {
    type RecvBuf = RecvBuf;

    fn recv(&self) -> impl Future<Output = io::Result<RecvBuf>> {
        poll_fn(|cx| self.0.poll_recv(cx))
    }

    async fn send(&self, batch: Vec<Vec<u8>>) -> (io::Result<()>, Vec<Vec<u8>>) {
        for buffer in &batch {
            let mut rest = buffer.as_slice();
            while !rest.is_empty() {
                match poll_fn(|cx| self.0.poll_send(cx, rest)).await {
                    Ok(sent) => rest = &rest[sent..],
                    Err(error) => return (Err(error), batch),
                }
            }
        }
        (Ok(()), batch)
    }

    async fn shutdown(&self) -> io::Result<()> {
        self.0.close();
        Ok(())
    }

    fn peer_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.0.peer)
    }
}
