//! The socket of a connection, which counts bytes and fails when the client takes nothing.

use std::future::Future;
use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use super::activity::Activity;
use super::body::PIECE_BYTES;
use super::counts::Counts;
use super::settings::Settings;

/// A socket, below TLS if there is any.
pub(super) struct Socket {
    tcp: TcpStream,
    counts: Arc<Counts>,
    activity: Arc<Activity>,
    stall_time: Duration,
    pieces_stall_time: Duration,
    /// Runs while the system's buffer is full, until the client has read enough to make room.
    stall: Option<Pin<Box<Sleep>>>,
}

impl Socket {
    pub(super) fn new(
        tcp: TcpStream,
        counts: Arc<Counts>,
        activity: Arc<Activity>,
        settings: &Settings,
    ) -> io::Result<Self> {
        tcp.set_nodelay(true)?;
        // The system takes more as soon as the client has taken `PIECE_BYTES`. By default, it buffers megabytes, and then waits until a third of them
        // is gone.
        SockRef::from(&tcp).set_tcp_notsent_lowat(2 * PIECE_BYTES as u32)?;
        let &Settings { stall_time, pieces_stall_time, .. } = settings;
        Ok(Self { tcp, counts, activity, stall_time, pieces_stall_time, stall: None })
    }

    /// Handles the outcome of a write.
    fn wrote(&mut self, cx: &mut Context<'_>, outcome: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(outcome) = outcome {
            let written = outcome?;
            self.counts.bytes_out.fetch_add(written as u64, Relaxed);
            self.stall = None;
            return Poll::Ready(Ok(written));
        }
        let stall = self.stall.get_or_insert_with(|| {
            let has_pieces = self.activity.has_pieces();
            Box::pin(sleep(if has_pieces { self.pieces_stall_time } else { self.stall_time }))
        });
        ready!(stall.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(ErrorKind::TimedOut, "the client does not take its answer")))
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let filled = buffer.filled().len();
        ready!(Pin::new(&mut self.tcp).poll_read(cx, buffer))?;
        let read = buffer.filled().len() - filled;
        if read > 0 {
            self.counts.bytes_in.fetch_add(read as u64, Relaxed);
            self.activity.bytes_arrived();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.tcp).poll_write(cx, bytes);
        self.wrote(cx, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.tcp).poll_write_vectored(cx, slices);
        self.wrote(cx, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}
