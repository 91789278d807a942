//! The body of an answer on its way to the client, and the abort of one that the client does not take.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use hyper::rt::Executor;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep, sleep_until};

use super::activity::OpenRequest;
use super::memory::Reserved;
use super::message::Body;
use super::settings::Settings;

/// A body is passed to the connection in pieces of at most this size, so that a stalled client is detected early.
pub(super) const PIECE_BYTES: usize = 64 << 10;

tokio::task_local! {
    /// The progress of the HTTP/2 stream whose task runs.
    static PROGRESS: Arc<Progress>;
}

/// Until when the client of an HTTP/2 stream must take the piece that is ready for it. While there is none, the service is at work.
#[derive(Debug, Default)]
struct Progress(Mutex<Option<Instant>>);

impl Progress {
    /// Waits until the client fails to take a piece in time. Checks at least once in each `stall_time`.
    async fn has_stalled(&self, stall_time: Duration) {
        loop {
            let deadline = *self.0.lock();
            match deadline {
                Some(deadline) if deadline <= Instant::now() => return,
                Some(deadline) => sleep_until(deadline).await,
                None => sleep(stall_time).await,
            }
        }
    }
}

/// Runs the streams of an HTTP/2 connection, each as a task, and resets those whose client takes nothing. A full socket does not show such a client:
/// flow control blocks each stream separately.
#[derive(Debug, Clone)]
pub(super) struct StreamTasks {
    /// The shortest time in which a piece must be taken.
    pub(super) stall_time: Duration,
}

impl<F: Future + Send + 'static> Executor<F> for StreamTasks {
    fn execute(&self, stream: F) {
        let stall_time = self.stall_time;
        let progress = Arc::<Progress>::default();
        tokio::spawn(async move {
            tokio::select! {
                // Most streams finish immediately, and need no timer.
                biased;
                _ = PROGRESS.scope(progress.clone(), stream) => {}
                () = progress.has_stalled(stall_time) => {
                    tracing::debug!("reset a stream whose client does not take its answer");
                }
            }
        });
    }
}

/// The body of an answer, as the connection takes it.
#[derive(Debug)]
pub(super) struct AnswerBody {
    body: Body,
    stall_time: Duration,
    progress: Option<Arc<Progress>>,
    /// The part of the memory of all bodies that this body uses.
    _reserved: Reserved,
    _open: OpenRequest,
}

impl AnswerBody {
    /// Is called by the task of the request's stream.
    pub(super) fn new(body: Body, reserved: Reserved, mut open: OpenRequest, settings: &Settings) -> Self {
        let mut stall_time = settings.stall_time;
        if matches!(body, Body::Pieces(_)) {
            open.has_pieces();
            stall_time = settings.pieces_stall_time;
        }
        let progress = PROGRESS.try_with(Arc::clone).ok();
        Self { body, stall_time, progress, _reserved: reserved, _open: open }
    }

    fn set_deadline(&self, deadline: Option<Instant>) {
        if let Some(progress) = &self.progress {
            *progress.0.lock() = deadline;
        }
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        match &mut self.body {
            Body::Whole(rest) if rest.is_empty() => Poll::Ready(None),
            Body::Whole(rest) => Poll::Ready(Some(rest.split_to(rest.len().min(PIECE_BYTES)))),
            Body::Pieces(pieces) => loop {
                let piece = ready!(pieces.poll_recv(cx));
                // An empty piece would become a frame of HTTP/2 that some clients take for an attack.
                if piece.as_ref().is_none_or(|piece| !piece.is_empty()) {
                    return Poll::Ready(piece);
                }
            },
        }
    }
}

impl hyper::body::Body for AnswerBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.set_deadline(None);
        let piece = ready!(self.poll_piece(cx));
        if piece.is_some() {
            self.set_deadline(Some(Instant::now() + self.stall_time));
        }
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(&self.body, Body::Whole(rest) if rest.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Body::Whole(rest) => SizeHint::with_exact(rest.len() as u64),
            Body::Pieces(_) => SizeHint::default(),
        }
    }
}
