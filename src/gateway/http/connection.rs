//! One connection from its acceptance to its end.

use std::future::{Future, pending};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::activity::Activity;
use super::body::{PIECE_BYTES, StreamTasks};
use super::exchange::{Peer, Shared, exchange};
use super::preface;
use super::socket::Socket;
use super::tls::{Certificates, HTTP2_NAME};

/// The buffer of a connection for reading, and for writing, besides the bodies themselves.
const BUFFER_BYTES: usize = 128 << 10;

/// How much an HTTP/2 client may send before the server has processed it, for a request and for the connection.
const WINDOW_BYTES: u32 = 1 << 20;

/// How long an idle HTTP/2 client has to acknowledge that the connection ends.
const FAREWELL_TIME: Duration = Duration::from_secs(1);

/// Serves a connection until it ends, or until `closing` is set and the requests that are open have been answered.
pub(super) async fn serve(
    tcp: TcpStream,
    address: SocketAddr,
    shared: Arc<Shared>,
    certificates: Option<Arc<Certificates>>,
    closing: watch::Receiver<bool>,
) {
    let _open = Open::new(&shared);
    // Clients cause these failures, and can do so a thousand times a second.
    if let Err(failure) = shake_hands(tcp, address, &shared, certificates, closing).await {
        tracing::debug!(peer = %address, %failure, "a connection ended early");
    }
}

/// Performs the TLS handshake, if TLS is on, and serves the connection.
async fn shake_hands(
    tcp: TcpStream,
    address: SocketAddr,
    shared: &Arc<Shared>,
    certificates: Option<Arc<Certificates>>,
    closing: watch::Receiver<bool>,
) -> io::Result<()> {
    let settings = &shared.settings;
    let activity = Activity::new(settings.header_time, settings.idle_time);
    let is_tls = certificates.is_some();
    let peer = Arc::new(Peer { shared: shared.clone(), activity: activity.clone(), address, is_tls });
    let socket = Socket::new(tcp, shared.counts.clone(), activity, settings)?;
    let Some(certificates) = certificates else {
        return serve_http(socket, peer, None, closing).await;
    };
    let handshake = TlsAcceptor::from(certificates.config()).accept(socket);
    let socket = tokio::select! {
        outcome = timeout(settings.handshake_time, handshake) => outcome??,
        () = is_set(closing.clone()) => return Ok(()),
    };
    let agreed = socket.get_ref().1.alpn_protocol().map(|name| name == HTTP2_NAME);
    serve_http(socket, peer, agreed, closing).await
}

/// Counts a connection as open.
struct Open<'a>(&'a Shared);

impl<'a> Open<'a> {
    fn new(shared: &'a Shared) -> Self {
        shared.counts.open.fetch_add(1, Relaxed);
        Self(shared)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.counts.open.fetch_sub(1, Relaxed);
    }
}

async fn is_set(mut closing: watch::Receiver<bool>) {
    if closing.wait_for(|&is_closing| is_closing).await.is_err() {
        // The server is gone, and the runtime drops this task.
        pending::<()>().await;
    }
}

/// Serves a connection above TLS. `agreed` is whether TLS negotiated HTTP/2, if it negotiated a protocol.
async fn serve_http<S>(
    socket: S,
    peer: Arc<Peer>,
    agreed: Option<bool>,
    closing: watch::Receiver<bool>,
) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (is_http2, socket) = tokio::select! {
        outcome = preface::is_http2(socket) => outcome?,
        () = peer.activity.has_ended() => return Ok(()),
        () = is_set(closing.clone()) => return Ok(()),
    };
    let io = TokioIo::new(socket);
    let activity = peer.activity.clone();
    let settings = peer.shared.settings.clone();
    let service = service_fn(move |request| exchange(peer.clone(), request));
    if agreed.unwrap_or(is_http2) {
        activity.set_http2();
        let mut builder = http2::Builder::new(StreamTasks {
            stall_time: settings.stall_time.min(settings.pieces_stall_time),
        });
        builder
            .timer(TokioTimer::new())
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .max_concurrent_streams(settings.streams_max)
            .max_pending_accept_reset_streams(settings.early_resets_max)
            .max_local_error_reset_streams(settings.error_resets_max)
            .max_header_list_size(settings.header_bytes_max.try_into().unwrap_or(u32::MAX))
            .max_send_buf_size(4 * PIECE_BYTES)
            .keep_alive_interval(settings.ping_interval)
            .keep_alive_timeout(settings.ping_time);
        let connection = pin!(builder.serve_connection(io, service));
        drive(connection, |connection| connection.graceful_shutdown(), &activity, closing).await
    } else {
        let mut builder = http1::Builder::new();
        builder
            // `Activity` watches the time, because hyper has a single limit for headers and for idle connections.
            .header_read_timeout(None)
            .max_header_size(settings.header_bytes_max)
            .max_buf_size(BUFFER_BYTES.max(settings.header_bytes_max));
        // hyper reads 100 without an allocation for each request. `exchange` enforces a smaller bound.
        if settings.header_count_max > 100 {
            builder.max_headers(settings.header_count_max);
        }
        let connection = pin!(builder.serve_connection(io, service));
        drive(connection, |connection| connection.graceful_shutdown(), &activity, closing).await
    }
}

/// Polls a connection until it ends, its client does nothing for too long, or the server closes.
async fn drive<C>(
    mut connection: Pin<&mut C>,
    shut_down: impl Fn(Pin<&mut C>),
    activity: &Activity,
    closing: watch::Receiver<bool>,
) -> io::Result<()>
where
    C: Future<Output = hyper::Result<()>>,
{
    tokio::select! {
        outcome = connection.as_mut() => return outcome.map_err(io::Error::other),
        () = activity.has_ended() => {
            shut_down(connection.as_mut());
            let _ = timeout(FAREWELL_TIME, connection).await;
            return Ok(());
        }
        () = is_set(closing) => shut_down(connection.as_mut()),
    }
    // The server drops this task when the time for closing is over.
    connection.await.map_err(io::Error::other)
}
