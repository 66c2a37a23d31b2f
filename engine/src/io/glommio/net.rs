//! Sockets over glommio's TCP: filled buffers come out of `recv`, batches go into `send`.
//!
//! glommio's stream is read and written through `&mut`, but keeps the two directions apart inside. So the clones of a
//! [`GlommioStream`] share it in a cell that is borrowed during a poll and never across one, and one task may receive
//! while another sends. Receive buffers come from a pool of the core and are taken only when there are bytes to be
//! had: a thousand idle connections hold none.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::ops::{Deref, Range};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Poll, ready};

use futures_util::io::{AsyncRead, AsyncWrite};
use glommio::net::{TcpListener, TcpStream};

use super::super::{Listener, Stream};
use super::os_error;

/// Room for one receive: a pipeline of 32 requests of some 500 bytes fits twice.
const RECV_BYTES: usize = 32 * 1024;

/// Receive buffers kept for reuse, 2 MiB a core; those beyond go back to the heap.
const POOLED: usize = 64;

/// Buffers of a batch are gathered into writes of up to this many bytes: a copy of so much costs less than the system
/// call that it saves, and a longer one no longer does.
const GATHER_BYTES: usize = 64 * 1024;

/// Buffers in which batches are gathered that are kept for reuse, 1 MiB a core: one send is seldom under way when the next
/// begins.
const GATHERS_POOLED: usize = 16;

/// Buffers of a core that wait for use. Clones share them, so that a connection at rest holds none.
#[derive(Clone, Default)]
pub(super) struct RecvPool(Rc<Pools>);

#[derive(Default)]
struct Pools {
    /// To receive into, all [`RECV_BYTES`] long.
    receive: RefCell<Vec<Vec<u8>>>,
    /// To gather small buffers of a batch in, empty, of up to [`GATHER_BYTES`].
    gather: RefCell<Vec<Vec<u8>>>,
}

impl RecvPool {
    fn take(&self) -> Vec<u8> {
        let waiting = self.0.receive.borrow_mut().pop();
        waiting.unwrap_or_else(|| vec![0; RECV_BYTES])
    }

    fn give_back(&self, buffer: Vec<u8>) {
        let mut pool = self.0.receive.borrow_mut();
        if pool.len() < POOLED {
            pool.push(buffer);
        }
    }

    fn take_gather(&self) -> Vec<u8> {
        self.0.gather.borrow_mut().pop().unwrap_or_default()
    }

    fn give_back_gather(&self, mut buffer: Vec<u8>) {
        let mut pool = self.0.gather.borrow_mut();
        if pool.len() < GATHERS_POOLED {
            buffer.clear();
            pool.push(buffer);
        }
    }
}

/// Bytes received. Its memory goes back to the core's pool when it is dropped.
pub struct RecvBuf {
    buffer: Vec<u8>,
    bytes: usize,
    pool: RecvPool,
}

impl Deref for RecvBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.buffer[..self.bytes]
    }
}

impl Drop for RecvBuf {
    fn drop(&mut self) {
        self.pool.give_back(std::mem::take(&mut self.buffer));
    }
}

/// A listening socket of one core; others may listen on the same address (`SO_REUSEPORT`).
pub struct GlommioListener {
    listener: TcpListener,
    pool: RecvPool,
}

impl GlommioListener {
    pub(super) fn bind(address: SocketAddr, pool: RecvPool) -> io::Result<Self> {
        let listener = TcpListener::bind(address).map_err(os_error)?;
        Ok(Self { listener, pool })
    }
}

impl Listener for GlommioListener {
    type Stream = GlommioStream;

    async fn accept(&self) -> io::Result<GlommioStream> {
        let stream = self.listener.accept().await.map_err(os_error)?;
        GlommioStream::new(stream, self.pool.clone())
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr().map_err(os_error)
    }
}

/// A connected socket. Clones share it: one task may receive and another one send, but no two may do the same.
#[derive(Clone)]
pub struct GlommioStream(Rc<Connection>);

struct Connection {
    stream: RefCell<TcpStream>,
    pool: RecvPool,
}

impl GlommioStream {
    fn new(stream: TcpStream, pool: RecvPool) -> io::Result<Self> {
        // A reply must not wait for the peer to acknowledge the one before it.
        stream.set_nodelay(true).map_err(os_error)?;
        Ok(Self(Rc::new(Connection {
            stream: RefCell::new(stream),
            pool,
        })))
    }

    pub(super) async fn connect(address: SocketAddr, pool: RecvPool) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await.map_err(os_error)?;
        Self::new(stream, pool)
    }

    async fn write_all(&self, bytes: &[u8]) -> io::Result<()> {
        let mut written = 0;
        while written < bytes.len() {
            let more = poll_fn(|cx| {
                let mut stream = self.0.stream.borrow_mut();
                Pin::new(&mut *stream).poll_write(cx, &bytes[written..])
            })
            .await?;
            if more == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            written += more;
        }
        Ok(())
    }

    async fn send_all(&self, batch: &[Vec<u8>]) -> io::Result<()> {
        let mut from = 0;
        while from < batch.len() {
            let run = run_from(batch, from);
            from = run.end;
            if let [single] = &batch[run.clone()] {
                self.write_all(single).await?;
                continue;
            }
            let mut gathered = self.0.pool.take_gather();
            batch[run]
                .iter()
                .for_each(|buffer| gathered.extend_from_slice(buffer));
            let sent = self.write_all(&gathered).await;
            self.0.pool.give_back_gather(gathered);
            sent?;
        }
        Ok(())
    }
}

/// The buffers from `from` on that go out in one write: as many as fit in [`GATHER_BYTES`] together, at least one.
fn run_from(batch: &[Vec<u8>], from: usize) -> Range<usize> {
    let mut bytes = batch[from].len();
    let mut end = from + 1;
    while end < batch.len() && bytes + batch[end].len() <= GATHER_BYTES {
        bytes += batch[end].len();
        end += 1;
    }
    from..end
}

impl Stream for GlommioStream {
    type RecvBuf = RecvBuf;

    async fn recv(&self) -> io::Result<RecvBuf> {
        poll_fn(|cx| {
            // Returned to the pool by its drop if nothing came.
            let mut received = RecvBuf {
                buffer: self.0.pool.take(),
                bytes: 0,
                pool: self.0.pool.clone(),
            };
            let mut stream = self.0.stream.borrow_mut();
            received.bytes = ready!(Pin::new(&mut *stream).poll_read(cx, &mut received.buffer))?;
            Poll::Ready(Ok(received))
        })
        .await
    }

    async fn send(&self, batch: Vec<Vec<u8>>) -> (io::Result<()>, Vec<Vec<u8>>) {
        let sent = self.send_all(&batch).await;
        (sent, batch)
    }

    async fn shutdown(&self) -> io::Result<()> {
        // glommio does it by a system call in the first poll, so the stream is not borrowed across a wait.
        poll_fn(|cx| {
            let stream = self.0.stream.borrow();
            pin!(stream.shutdown(Shutdown::Both)).poll(cx)
        })
        .await
        .map_err(os_error)
    }

    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.0.stream.borrow().peer_addr().map_err(os_error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_buffers_go_out_together_and_long_ones_alone() {
        let batch = |lengths: &[usize]| lengths.iter().map(|&n| vec![0; n]).collect::<Vec<_>>();
        let runs = |lengths: &[usize]| {
            let batch = batch(lengths);
            let mut runs = Vec::new();
            let mut from = 0;
            while from < batch.len() {
                let run = run_from(&batch, from);
                from = run.end;
                runs.push(run.len());
            }
            runs
        };
        assert!(runs(&[]).is_empty());
        assert_eq!(runs(&[10, 20, 30]), [3]);
        assert_eq!(
            runs(&[0, GATHER_BYTES, 0, 1]),
            [3, 1],
            "empty buffers cost nothing"
        );
        assert_eq!(runs(&[GATHER_BYTES * 4, 1, 1]), [1, 2]);
        assert_eq!(runs(&[1, GATHER_BYTES, 1]), [1, 1, 1]);
    }

    #[test]
    fn the_pool_keeps_no_more_than_its_bound() {
        let pool = RecvPool::default();
        let taken: Vec<_> = (0..POOLED + 10).map(|_| pool.take()).collect();
        for buffer in taken {
            pool.give_back(buffer);
        }
        assert_eq!(pool.0.receive.borrow().len(), POOLED);
        (0..GATHERS_POOLED + 10).for_each(|_| pool.give_back_gather(vec![1]));
        assert_eq!(pool.0.gather.borrow().len(), GATHERS_POOLED);
        assert_eq!(pool.take_gather(), b"", "it waits empty");
    }
}
