//! A client's socket, in clear text or in TLS, so that everything above is written once.

use std::io::Result;
use std::net::SocketAddr;
use std::ops::Deref;

use corelane::io::Stream;

use super::stream::TlsStream;

/// Either kind of socket. Clones share it.
pub enum Socket<T> {
    /// In clear text.
    Plain(T),
    /// In TLS.
    Tls(TlsStream<T>),
}

impl<T: Clone> Clone for Socket<T> {
    fn clone(&self) -> Self {
        match self {
            Self::Plain(stream) => Self::Plain(stream.clone()),
            Self::Tls(stream) => Self::Tls(stream.clone()),
        }
    }
}

/// What either kind yields.
pub enum Received<B> {
    /// As it came.
    Plain(B),
    /// Opened.
    Tls(Vec<u8>),
}

impl<B: Deref<Target = [u8]>> Deref for Received<B> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Plain(bytes) => bytes,
            Self::Tls(bytes) => bytes,
        }
    }
}

impl<T: Stream> Stream for Socket<T> {
    type RecvBuf = Received<T::RecvBuf>;

    async fn recv(&self) -> Result<Self::RecvBuf> {
        match self {
            Self::Plain(stream) => stream.recv().await.map(Received::Plain),
            Self::Tls(stream) => stream.recv().await.map(Received::Tls),
        }
    }

    async fn send(&self, batch: Vec<Vec<u8>>) -> (Result<()>, Vec<Vec<u8>>) {
        match self {
            Self::Plain(stream) => stream.send(batch).await,
            Self::Tls(stream) => stream.send(batch).await,
        }
    }

    async fn shutdown(&self) -> Result<()> {
        match self {
            Self::Plain(stream) => stream.shutdown().await,
            Self::Tls(stream) => stream.shutdown().await,
        }
    }

    fn peer_addr(&self) -> Result<SocketAddr> {
        match self {
            Self::Plain(stream) => stream.peer_addr(),
            Self::Tls(stream) => stream.peer_addr(),
        }
    }
}
