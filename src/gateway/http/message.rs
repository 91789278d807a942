//! The messages between the server and the service.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use hyper::{HeaderMap, Method, StatusCode, Uri};
use tokio::sync::mpsc;

/// The answer to a batch of puts is smaller.
const LARGE_BYTES: usize = 256 << 10;

/// A request whose body has arrived.
#[derive(Debug)]
pub(in crate::gateway) struct Request {
    pub(in crate::gateway) method: Method,
    pub(in crate::gateway) uri: Uri,
    pub(in crate::gateway) headers: HeaderMap,
    pub(in crate::gateway) body: Bytes,
    pub(in crate::gateway) peer: SocketAddr,
    pub(in crate::gateway) is_tls: bool,
}

/// The answer to a request. The server adds `Content-Length` or its replacement.
#[derive(Debug)]
pub(in crate::gateway) struct Answer {
    pub(in crate::gateway) status: StatusCode,
    pub(in crate::gateway) headers: HeaderMap,
    pub(in crate::gateway) body: Body,
}

impl Answer {
    /// Returns the size of the body, or 0 if it is small. The answer to a put must not be refused for lack of memory.
    pub(super) fn large_bytes(&self) -> usize {
        match &self.body {
            Body::Whole(bytes) if bytes.len() > LARGE_BYTES => bytes.len(),
            _ => 0,
        }
    }
}

/// The body of an answer.
#[derive(Debug)]
pub(in crate::gateway) enum Body {
    Whole(Bytes),
    /// Pieces as they come, until the sender is dropped. A client that is slow to take them holds up the sender.
    Pieces(mpsc::Receiver<Bytes>),
}

/// What a service returns for a request.
pub(in crate::gateway) enum Answering {
    Now(Answer),
    /// The answer comes later, and holds no thread until then. It is dropped if the client goes away.
    Later(Pin<Box<dyn Future<Output = Answer> + Send>>),
}

/// A part of a streamed request body. Without an [`End`](Self::End), the client aborted.
#[derive(Debug)]
#[cfg_attr(not(any(test, feature = "video")), expect(dead_code, reason = "only video comes in pieces"))]
pub(in crate::gateway) enum Piece {
    Data(Bytes),
    /// Nothing has come for a second.
    Silence,
    End,
}

/// The body of a request as it comes. A service that is slow to take it holds up the client.
pub(in crate::gateway) type Pieces = mpsc::Receiver<Piece>;

/// Answers the requests of all connections. It is called inside the runtime.
pub(in crate::gateway) trait Service: Send + Sync + 'static {
    /// Returns whether answering takes at most a few milliseconds and waits for nothing, so that it may run on a thread of the runtime.
    fn is_quick(&self, request: &Request) -> bool;

    /// Answers a request.
    fn answer(self: Arc<Self>, request: Request) -> Answering;

    /// Returns whether the service takes the body of a request while it arrives, and may answer before it has ended.
    fn takes_pieces(&self, _method: &Method, _uri: &Uri) -> bool {
        false
    }

    /// Answers a request whose body comes in pieces. The request itself has none.
    fn answer_pieces(self: Arc<Self>, request: Request, _pieces: Pieces) -> Answering {
        self.answer(request)
    }
}
