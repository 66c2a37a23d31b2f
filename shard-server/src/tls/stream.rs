//! A stream of the seam that wears TLS.
//!
//! Received bytes are opened into plain ones, answers are sealed into records, both by rustls's own state machine, which
//! does no I/O. Whatever the state machine wants to say by itself (the handshake, alerts, key updates) goes out behind
//! the next receive. One task at a time writes to the stream below: who finds another writing leaves its records there,
//! and that one sends them too.

use std::cell::{Cell, RefCell};
use std::io::{Error, ErrorKind, Read as _, Result, Write as _};
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use corelane::io::{Io, Stream};
use futures_util::future::poll_immediate;
use rustls::{ServerConfig, ServerConnection};

use super::turns::Turns;

/// Plain bytes that are sealed before they are sent: four records.
const SEAL_BYTES: usize = 64 * 1024;

/// Plain bytes that one look at what was opened may take: a record has at most so many.
const OPEN_BYTES: usize = 16 * 1024;

/// A stream below that wears TLS. Clones share it.
pub struct TlsStream<T>(Rc<Inner<T>>);

struct Inner<T> {
    below: T,
    session: RefCell<ServerConnection>,
    /// Opened and not yet received: what came with the end of the handshake.
    opened: RefCell<Vec<u8>>,
    /// Somebody writes to the stream below.
    writing: Cell<bool>,
}

impl<T> Clone for TlsStream<T> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<T: Stream> TlsStream<T> {
    /// Shakes hands with a client that has just connected, taking turns with the others of this core. Its time is the caller's
    /// to bound.
    ///
    /// # Errors
    /// The client left, or it and this side do not agree; it was told so.
    pub async fn accept<I: Io>(io: &I, turns: &Turns, below: T, config: Arc<ServerConfig>) -> Result<Self> {
        let mut session = ServerConnection::new(config).map_err(Error::other)?;
        // What is sealed is sent at once and cut by `SEAL_BYTES`; a limit here would only lose bytes of a long send.
        session.set_buffer_limit(None);
        let stream = Self(Rc::new(Inner {
            below,
            session: RefCell::new(session),
            opened: RefCell::default(),
            writing: Cell::new(false),
        }));
        let mut has_computed = false;
        while stream.0.session.borrow().is_handshaking() {
            // Copied, so that a crowd that waits for its turns does not hold the core's buffers: a receive at most for each.
            let received = stream.0.below.recv().await?.to_vec();
            if received.is_empty() {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            let opened = if has_computed {
                // What is dear is the answer to the hello. Who has it goes through: behind a line of new ones it would be late.
                stream.open(&received)
            } else {
                let turn = turns.take().await;
                let opened = stream.open(&received);
                has_computed = stream.0.session.borrow().wants_write();
                // Who is next in the line is run behind all others who are ready. Without a line, whoever comes next must
                // find the turn taken until those have run; but for a part of a message, which costs next to nothing.
                if has_computed && !turns.has_line() {
                    io.yield_now().await;
                }
                drop(turn);
                opened
            };
            stream.answer(opened).await?;
        }
        Ok(stream)
    }

    /// Receives from below and opens it. `false` at the end.
    async fn fill(&self) -> Result<bool> {
        let received = self.0.below.recv().await?;
        if received.is_empty() {
            return Ok(false);
        }
        self.answer(self.open(&received)).await.map(|()| true)
    }

    /// Sends what there is to say to what was opened.
    async fn answer(&self, opened: Result<()>) -> Result<()> {
        // An error has words for the client, too.
        self.flush().await?;
        opened
    }

    fn open(&self, mut sealed: &[u8]) -> Result<()> {
        let mut session = self.0.session.borrow_mut();
        let mut opened = self.0.opened.borrow_mut();
        while !sealed.is_empty() {
            session.read_tls(&mut sealed)?;
            let state = session
                .process_new_packets()
                .map_err(|error| Error::new(ErrorKind::InvalidData, error))?;
            let mut left = state.plaintext_bytes_to_read();
            while left > 0 {
                let start = opened.len();
                opened.resize(start + left.min(OPEN_BYTES), 0);
                let bytes = session.reader().read(&mut opened[start..])?;
                opened.truncate(start + bytes);
                left -= bytes;
            }
            if state.peer_has_closed() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Whether the client has said that it will send no more.
    fn is_over(&self) -> bool {
        let mut session = self.0.session.borrow_mut();
        // At an empty buffer the reader tells an end (0) from a pause (an error).
        matches!(session.reader().read(&mut [0]), Ok(0))
    }

    /// Sends all records that wait.
    async fn flush(&self) -> Result<()> {
        if self.0.writing.replace(true) {
            return Ok(());
        }
        let flushed = self.flush_alone().await;
        self.0.writing.set(false);
        flushed
    }

    async fn flush_alone(&self) -> Result<()> {
        let mut records = Vec::new();
        loop {
            {
                let mut session = self.0.session.borrow_mut();
                if !session.wants_write() {
                    return Ok(());
                }
                while session.wants_write() {
                    session.write_tls(&mut records)?;
                }
            }
            let (sent, mut buffers) = self.0.below.send(vec![records]).await;
            sent?;
            records = buffers.pop().unwrap_or_default();
            records.clear();
        }
    }

    async fn send_all(&self, batch: &[Vec<u8>]) -> Result<()> {
        let mut waiting = 0;
        for part in batch.iter().flat_map(|buffer| buffer.chunks(SEAL_BYTES)) {
            if waiting + part.len() > SEAL_BYTES {
                self.flush().await?;
                waiting = 0;
            }
            self.0.session.borrow_mut().writer().write_all(part)?;
            waiting += part.len();
        }
        self.flush().await
    }
}

impl<T: Stream> Stream for TlsStream<T> {
    type RecvBuf = Vec<u8>;

    async fn recv(&self) -> Result<Vec<u8>> {
        loop {
            let opened = self.0.opened.take();
            if !opened.is_empty() || self.is_over() || !self.fill().await? {
                return Ok(opened);
            }
        }
    }

    async fn send(&self, batch: Vec<Vec<u8>>) -> (Result<()>, Vec<Vec<u8>>) {
        let sent = self.send_all(&batch).await;
        (sent, batch)
    }

    async fn shutdown(&self) -> Result<()> {
        self.0.session.borrow_mut().send_close_notify();
        // A goodbye that the client has no room for is not waited for: it may be shut because it does not read.
        let _goodbye = poll_immediate(pin!(self.flush())).await;
        self.0.below.shutdown().await
    }

    fn peer_addr(&self) -> Result<SocketAddr> {
        self.0.below.peer_addr()
    }
}
