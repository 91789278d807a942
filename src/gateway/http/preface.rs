//! Detects from its first bytes which version of HTTP a client speaks.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// The first bytes of an HTTP/2 client.
const HTTP2: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A socket whose first bytes have already been read.
pub(super) struct Unread<S> {
    socket: S,
    first: [u8; HTTP2.len()],
    /// The part of `first` that is still to be read.
    unread: std::ops::Range<usize>,
}

/// Reads until it is clear whether the client speaks HTTP/2. Returns that and the socket with all its bytes. It has no timeout, so the caller must
/// set one.
pub(super) async fn is_http2<S: AsyncRead + Unpin>(mut socket: S) -> io::Result<(bool, Unread<S>)> {
    let mut first = [0; HTTP2.len()];
    let mut read = 0;
    while read < HTTP2.len() && first[..read] == HTTP2[..read] {
        match socket.read(&mut first[read..]).await? {
            0 => break,
            bytes => read += bytes,
        }
    }
    Ok((first == *HTTP2, Unread { socket, first, unread: 0..read }))
}

impl<S: AsyncRead + Unpin> AsyncRead for Unread<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.unread.is_empty() {
            return Pin::new(&mut self.socket).poll_read(cx, buffer);
        }
        let bytes = self.unread.len().min(buffer.remaining());
        buffer.put_slice(&self.first[self.unread.clone()][..bytes]);
        self.unread.start += bytes;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Unread<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
