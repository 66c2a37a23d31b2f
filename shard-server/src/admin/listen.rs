//! The admin plane's thread: one runtime, one listener, a bounded number of connections, and an end in order.
//!
//! The thread is pinned to no core: the scheduler puts it where a shard's core idles.

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

use super::plane::Plane;
use super::routes::router;
use crate::config::Tls;

/// The thread's name, by which a panic on it is told from one on a core.
pub const THREAD_NAME: &str = "corelane-admin";

/// Most connections at once; further ones are closed. Each costs a few KiB while it is idle.
const MAX_CONNECTIONS: usize = 1024;
/// A client that has begun a request's head must end it within this, and send the next request's within this, too.
const HEAD_TIME: Duration = Duration::from_secs(30);
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
    runtime: tokio::runtime::Handle,
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
        let fresh = self.runtime.block_on(certificates(tls))?;
        config.reload_from_config(fresh.get_inner());
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

/// Starts the plane: binds its address, then serves it on a thread of its own.
///
/// # Errors
/// Why it cannot listen, or which certificate cannot be used.
pub fn start(plane: Arc<Plane>, address: SocketAddr, tls: &Tls) -> Result<Running, String> {
    let told = |error: io::Error| format!("the admin plane: listening on {address}: {error}");
    let listener = TcpListener::bind(address).map_err(told)?;
    listener.set_nonblocking(true).map_err(told)?;
    let address = listener.local_addr().map_err(told)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("the admin plane: starting its runtime: {error}"))?;
    let tls = if plane.limits.tls {
        // The provider may have been chosen by the data plane already; it is the same.
        let _chosen = rustls::crypto::ring::default_provider().install_default();
        Some((runtime.block_on(certificates(tls))?, tls.clone()))
    } else {
        None
    };
    let running = Running {
        address,
        handle: Handle::new(),
        tls,
        runtime: runtime.handle().clone(),
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

/// Certificate and key, read from their files, for HTTP/1.1 alone: what bounds the cost of a connection here, such as the
/// time of a request's head, is of that protocol.
async fn certificates(tls: &Tls) -> Result<RustlsConfig, String> {
    let Some((cert, key)) = tls.cert.as_deref().zip(tls.key.as_deref()) else {
        return Err("the admin plane: TLS needs tls.cert and tls.key".to_owned());
    };
    let read = RustlsConfig::from_pem_file(cert, key).await.map_err(|error| {
        format!(
            "the admin plane: using the certificate {} with the key {}: {error}",
            cert.display(),
            key.display()
        )
    })?;
    let mut config = rustls::ServerConfig::clone(&read.get_inner());
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(RustlsConfig::from_config(Arc::new(config)))
}

/// Takes connections as long as there are places for them.
#[derive(Debug, Clone)]
struct Bounded {
    places: Arc<Semaphore>,
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
                    _place: place,
                };
                Ok((placed, service))
            });
        std::future::ready(placed)
    }
}

/// A connection that gives its place back when it ends.
#[derive(Debug)]
struct Placed {
    stream: TcpStream,
    _place: OwnedSemaphorePermit,
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
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
