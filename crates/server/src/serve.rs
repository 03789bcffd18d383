//! From a listener to requests, and back down in good order.
//!
//! Invariants: a connection costs a bounded amount of memory and time before it has sent a
//! request, and after, if it takes no answer ([`crate::pace`]); on shutdown no new request is taken, streams end, and those in flight get
//! `shutdown_ms` to finish.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

use crate::caller::Peer;
use crate::pace::Paced;
use crate::routes::router;
use crate::state::Server;
use crate::tls::{self, TlsError};

/// Largest head of a request in bytes: a token, a path, and what proxies add.
const HEAD_BYTES_MAX: usize = 32 << 10;
/// Most header lines of a request.
const HEADERS_MAX: usize = 64;
/// Pause after the system refused a connection (out of file descriptors), in milliseconds.
const ACCEPT_PAUSE_MS: u64 = 100;

/// Why a server does not run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The TLS files.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Answers requests until `shutdown` is ready and those in flight are done.
///
/// # Errors
/// [`ServeError`] before the first connection is taken; never after.
pub async fn serve(
    listener: TcpListener,
    server: Arc<Server>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let tls = server.config().tls.as_ref().map(tls::acceptor).transpose()?;
    let shell = Shell { app: router(Arc::clone(&server)), server: Arc::clone(&server), tls };
    if let Err(error) = crate::live::resume(&server).await {
        // Everything else works; what is in crdt.db stays there.
        tracing::error!(message = error.message, "the live sessions were not taken up");
    }
    let mut shutdown = pin!(shutdown);
    let mut connections = JoinSet::new();
    let room = Arc::new(Semaphore::new(server.limits().connections_max));
    loop {
        let permit = tokio::select! {
            () = &mut shutdown => break,
            permit = Arc::clone(&room).acquire_owned() => permit,
        };
        let permit = permit.expect("the semaphore is never closed");
        let (stream, peer) = tokio::select! {
            () = &mut shutdown => break,
            accepted = accept(&listener) => accepted,
        };
        let shell = shell.clone();
        connections.spawn(async move {
            let _permit = permit;
            shell.connection(stream, peer).await;
        });
        // Those that ended are forgotten; the set holds at most `connections_max`.
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    crate::live::settle(&server).await;
    server.close();
    let all = async { while connections.join_next().await.is_some() {} };
    let grace = Duration::from_millis(server.limits().shutdown_ms);
    if timeout(grace, all).await.is_err() {
        tracing::warn!(cut = connections.len(), "requests were still running at shutdown");
        connections.shutdown().await;
    }
    Ok(())
}

async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            // The client was gone before we looked.
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot take a connection");
                tokio::time::sleep(Duration::from_millis(ACCEPT_PAUSE_MS)).await;
            }
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

#[derive(Clone)]
struct Shell {
    app: Router,
    server: Arc<Server>,
    tls: Option<TlsAcceptor>,
}

impl Shell {
    async fn connection(self, stream: TcpStream, peer: SocketAddr) {
        let server = Arc::clone(&self.server);
        let _present = server.metrics().connections.enter();
        // Answers are written whole: waiting to fill a packet only delays them.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "the client is gone");
            return;
        }
        let Some(acceptor) = self.tls.clone() else {
            return self.requests(TokioIo::new(stream), peer).await;
        };
        let patience = Duration::from_millis(server.limits().handshake_ms);
        match timeout(patience, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => self.requests(TokioIo::new(stream), peer).await,
            Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
            Err(_) => tracing::debug!("a TLS handshake took too long"),
        }
    }

    async fn requests<I>(self, io: I, peer: SocketAddr)
    where
        I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    {
        let mut closing = self.server.closing();
        let io = Paced::new(io, self.server.limits().body_silence_ms);
        let head = Duration::from_millis(self.server.limits().head_ms);
        let app = self.app;
        let service = service_fn(move |mut request: hyper::Request<Incoming>| {
            request.extensions_mut().insert(Peer(peer));
            app.clone().oneshot(request.map(Body::new))
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(head)
            .max_headers(HEADERS_MAX)
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(io, service)
            .with_upgrades();
        let mut connection = pin!(connection);
        let closed = async { drop(closing.wait_for(|closing| *closing).await) };
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = closed => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection ended early");
        }
    }
}
