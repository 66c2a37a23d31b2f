//! The admin plane's thread: one runtime, one listener, a bounded number of connections, and an end in order.
//!
//! The thread is pinned to no core: the scheduler puts it where a shard's core idles.

use std::future::Future as _;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::Duration;

use axum_server::Handle;
use axum_server::accept::Accept;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use hyper_util::rt::TokioTimer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};

use super::plane::Plane;
use super::routes::router;
use crate::config::Tls;

/// The thread's name, by which a panic on it is told from one on a core.
pub const THREAD_NAME: &str = "corelane-admin";

/// Most connections at once; further ones are closed. Each costs a few KiB while it is idle.
pub const MAX_CONNECTIONS: usize = 1024;
/// A client that has begun a request's head must end it within this, and send the next request's within this, too.
const HEAD_TIME: Duration = Duration::from_secs(30);
/// A client that takes no byte of its answer for this long is gone: kept, it would hold its place and its answer for ever.
const STALL_TIME: Duration = Duration::from_secs(30);
/// How long requests under way may take once the plane ends.
const DRAIN_TIME: Duration = Duration::from_secs(5);

/// The running plane.
#[derive(Debug)]
pub struct Running {
    /// Where it listens.
    pub address: SocketAddr,
    plane: Arc<Plane>,
    handle: Handle<SocketAddr>,
    tls: Option<(RustlsConfig, Tls)>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    /// What the handlers share.
    pub fn plane(&self) -> &Arc<Plane> {
        &self.plane
    }

    /// Reads certificate and key again, where there are any; new connections use them.
    ///
    /// # Errors
    /// Why they cannot be used; those of before stay in use then.
    pub fn reload(&self) -> Result<(), String> {
        let Some((config, tls)) = &self.tls else {
            return Ok(());
        };
        config.reload_from_config(certificates(tls)?);
        Ok(())
    }

    /// Lets requests under way finish, within a bound, and ends the thread.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.handle.graceful_shutdown(Some(DRAIN_TIME));
        if let Some(thread) = self.thread.take() {
            // A panic of it has told its story on standard error.
            let _panicked = thread.join();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

/// Starts the plane: serves what comes to `listener` on a thread of its own.
///
/// # Errors
/// Why the thread cannot be started, or which certificate cannot be used.
pub fn start(plane: Arc<Plane>, listener: TcpListener, tls: &Tls) -> Result<Running, String> {
    let told = |error: io::Error| format!("the admin plane: making its listener ready: {error}");
    listener.set_nonblocking(true).map_err(told)?;
    let address = listener.local_addr().map_err(told)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("the admin plane: starting its runtime: {error}"))?;
    let tls = if plane.limits.tls {
        Some((RustlsConfig::from_config(certificates(tls)?), tls.clone()))
    } else {
        None
    };
    let running = Running {
        address,
        handle: Handle::new(),
        tls,
        thread: None,
        plane,
    };
    run(running, runtime, listener)
}

/// Serves on the thread.
fn run(
    mut running: Running,
    runtime: tokio::runtime::Runtime,
    listener: TcpListener,
) -> Result<Running, String> {
    let app = router(&running.plane).into_make_service_with_connect_info::<SocketAddr>();
    let connections = Bounded {
        places: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
        stall_time: STALL_TIME,
    };
    let (handle, tls) = (running.handle.clone(), running.tls.clone());
    let serve = async move {
        // Registering the listener needs the runtime, and so happens on it.
        let server = axum_server::from_tcp(listener)?.handle(handle);
        match tls {
            Some((config, _)) => {
                let acceptor = RustlsAcceptor::new(config).acceptor(connections);
                tuned(server.acceptor(acceptor)).serve(app).await
            }
            None => tuned(server.acceptor(connections)).serve(app).await,
        }
    };
    let thread = std::thread::Builder::new()
        .name(THREAD_NAME.to_owned())
        .spawn(move || {
            if let Err(error) = runtime.block_on(serve) {
                tracing::error!(%error, "the admin plane ended");
            }
        })
        .map_err(|error| format!("the admin plane: starting its thread: {error}"))?;
    running.thread = Some(thread);
    Ok(running)
}

/// HTTP/1.1 alone, with a bounded time for heads. After the acceptor is chosen: choosing one forgets the protocol.
fn tuned<A>(server: axum_server::Server<SocketAddr, A>) -> axum_server::Server<SocketAddr, A> {
    let mut server = server.http1_only();
    server
        .http_builder()
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME);
    server
}

/// What the data plane's files say, client_ca among them, for HTTP/1.1 alone: what bounds the cost of a connection here,
/// such as the time of a request's head, is of that protocol.
fn certificates(tls: &Tls) -> Result<Arc<rustls::ServerConfig>, String> {
    let read = crate::tls::Tls::load(tls.clone()).map_err(|why| format!("the admin plane: {why}"))?;
    let mut config = rustls::ServerConfig::clone(&read.current());
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Takes connections as long as there are places for them.
#[derive(Debug, Clone)]
struct Bounded {
    places: Arc<Semaphore>,
    stall_time: Duration,
}

impl<S> Accept<TcpStream, S> for Bounded {
    type Stream = Placed;
    type Service = S;
    type Future = std::future::Ready<io::Result<(Placed, S)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let place = Arc::clone(&self.places).try_acquire_owned();
        let placed = place
            .map_err(|_| io::Error::other("too many connections to the admin plane"))
            .and_then(|place| {
                stream.set_nodelay(true)?;
                let placed = Placed {
                    stream,
                    stall_time: self.stall_time,
                    stalled: None,
                    _place: place,
                };
                Ok((placed, service))
            });
        std::future::ready(placed)
    }
}

/// A connection that gives its place back when it ends, and ends when its client takes nothing for too long.
#[derive(Debug)]
struct Placed {
    stream: TcpStream,
    stall_time: Duration,
    /// Runs out when the client has taken nothing for `stall_time`; there only while bytes wait for it.
    stalled: Option<Pin<Box<Sleep>>>,
    _place: OwnedSemaphorePermit,
}

impl Placed {
    /// What came of sending, or that it has waited for too long.
    fn in_time<T>(&mut self, cx: &mut Context<'_>, sent: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if sent.is_ready() {
            self.stalled = None;
            return sent;
        }
        let stall_time = self.stall_time;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(stall_time)));
        stalled.as_mut().poll(cx).map(|()| {
            Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the client of the admin plane takes nothing of its answer",
            ))
        })
    }
}

impl AsyncRead for Placed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Placed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let sent = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.in_time(cx, sent)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let sent = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.in_time(cx, sent)
    }

    /// As the socket: without it answers would be copied together before they are sent.
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let sent = Pin::new(&mut self.stream).poll_flush(cx);
        // A flush that needs nothing says nothing of the client: it must not end the wait for one that takes nothing.
        if sent.is_ready() {
            sent
        } else {
            self.in_time(cx, sent)
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use rustls::pki_types::pem::PemObject as _;

    use super::*;

    /// A client that asked for a large answer and read none of it held the answer's memory and a place among the
    /// connections for as long as it liked, and a thousand such clients shut everybody else out.
    #[test]
    fn a_client_that_never_reads_is_given_up() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let _never_reads = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (stream, _) = listener.accept().await.unwrap();
            let connections = Bounded {
                places: Arc::new(Semaphore::new(1)),
                stall_time: Duration::from_millis(20),
            };
            let (mut placed, ()) = connections.accept(stream, ()).await.unwrap();
            let bytes = vec![0; 1 << 20];
            let given_up = async {
                loop {
                    let sent = poll_fn(|cx| Pin::new(&mut placed).poll_write(cx, &bytes)).await;
                    if let Err(error) = sent {
                        break error.kind();
                    }
                }
            };
            let ended = tokio::time::timeout(Duration::from_secs(30), given_up).await;
            assert_eq!(ended, Ok(io::ErrorKind::TimedOut));
            assert_eq!(connections.places.available_permits(), 0);
            drop(placed);
            assert_eq!(connections.places.available_permits(), 1);
        });
    }

    /// What a client that shows no certificate comes to with these files.
    fn handshake(tls: &Tls) -> Result<(), rustls::Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        let cert = rustls::pki_types::CertificateDer::from_pem_file(tls.cert.as_ref().unwrap()).unwrap();
        roots.add(cert).unwrap();
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = "localhost".try_into().unwrap();
        let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
        let mut server = rustls::ServerConnection::new(certificates(tls).unwrap()).unwrap();
        while client.is_handshaking() || server.is_handshaking() {
            let mut sent = Vec::new();
            client.write_tls(&mut sent).unwrap();
            server.read_tls(&mut sent.as_slice()).unwrap();
            server.process_new_packets()?;
            let mut sent = Vec::new();
            server.write_tls(&mut sent).unwrap();
            client.read_tls(&mut sent.as_slice()).unwrap();
            client.process_new_packets()?;
        }
        Ok(())
    }

    /// With `tls.client_ca` the data plane asked clients for a certificate and the admin plane, of the same files, took
    /// anybody.
    #[test]
    fn a_client_without_a_certificate_is_refused_where_one_is_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let (cert, key) = crate::tls::tests::made();
        let place = |name: &str, text: &str| {
            let path = dir.path().join(name);
            #[expect(clippy::disallowed_methods, reason = "the operator's own files, in a test")]
            std::fs::write(&path, text).unwrap();
            Some(path)
        };
        let mut tls = Tls {
            cert: place("cert.pem", &cert),
            key: place("key.pem", &key),
            ..Tls::default()
        };
        assert_eq!(handshake(&tls), Ok(()));
        tls.client_ca.clone_from(&tls.cert);
        assert_eq!(handshake(&tls), Err(rustls::Error::NoCertificatesPresented));
    }
}
