//! The body of an answer on its way to the client, and the end of one that the client does not take.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use hyper::rt::Executor;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep, sleep_until};

use super::activity::OpenRequest;
use super::message::Body;

/// A body is handed to the connection in pieces of at most this size, so that one which the client does not take is noticed early.
pub(super) const PIECE_BYTES: usize = 64 << 10;

tokio::task_local! {
    /// The progress of the HTTP/2 stream whose task runs.
    static PROGRESS: Arc<Progress>;
}

/// Since when an HTTP/2 stream has had a piece that flow control keeps from the client. While it has none, the service is at work.
#[derive(Debug, Default)]
struct Progress(Mutex<Option<Instant>>);

impl Progress {
    /// Waits until a piece has been held up for `stall_time`.
    async fn has_stalled(&self, stall_time: Duration) {
        loop {
            let since = *self.0.lock();
            match since {
                Some(since) if since.elapsed() >= stall_time => return,
                Some(since) => sleep_until(since + stall_time).await,
                None => sleep(stall_time).await,
            }
        }
    }
}

/// Runs the streams of an HTTP/2 connection, each as a task, and resets those whose client takes nothing. A socket that is full says
/// nothing about such a client: flow control holds up each stream by itself.
#[derive(Debug, Clone)]
pub(super) struct StreamTasks {
    pub(super) stall_time: Duration,
}

impl<F: Future + Send + 'static> Executor<F> for StreamTasks {
    fn execute(&self, stream: F) {
        let stall_time = self.stall_time;
        let progress = Arc::<Progress>::default();
        tokio::spawn(async move {
            tokio::select! {
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
    progress: Option<Arc<Progress>>,
    _open: OpenRequest,
}

impl AnswerBody {
    /// Is called by the task of the request's stream.
    pub(super) fn new(body: Body, open: OpenRequest) -> Self {
        Self { body, progress: PROGRESS.try_with(Arc::clone).ok(), _open: open }
    }

    fn set_progress(&self, since: Option<Instant>) {
        if let Some(progress) = &self.progress {
            *progress.0.lock() = since;
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
        self.set_progress(None);
        let piece = match &mut self.body {
            Body::Whole(rest) if rest.is_empty() => None,
            Body::Whole(rest) => Some(rest.split_to(rest.len().min(PIECE_BYTES))),
            Body::Pieces(pieces) => std::task::ready!(pieces.poll_recv(cx)),
        };
        if piece.is_some() {
            self.set_progress(Some(Instant::now()));
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
