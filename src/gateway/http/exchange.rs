//! One request and its answer: reads the body within its bounds, and calls the service.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONNECTION, CONTENT_TYPE, EXPECT, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{Method, Response, StatusCode, Version};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, timeout, timeout_at};

use super::activity::{Activity, OpenRequest};
use super::body::AnswerBody;
use super::counts::Counts;
use super::memory::{Memory, Reserved};
use super::message::{Answer, Answering, Body, Piece, Pieces, Request, Service};
use super::settings::Settings;

/// How many parts of a streamed body may be queued between the client and the service.
const PIECES_AHEAD: usize = 4;

/// After this long without data, the service is notified that there is none.
const SILENCE: Duration = Duration::from_secs(1);

/// The state that all connections of a server share.
pub(super) struct Shared {
    pub(super) service: Arc<dyn Service>,
    pub(super) settings: Settings,
    pub(super) counts: Arc<Counts>,
    pub(super) memory: Arc<Memory>,
    /// A permit for each thread that gives answers that take time. Requests wait here, where the request of a client that leaves is dropped, and not
    /// in the runtime's unbounded queue.
    pub(super) threads: Arc<Semaphore>,
}

/// The state that the exchanges of a connection share.
pub(super) struct Peer {
    pub(super) shared: Arc<Shared>,
    pub(super) activity: Arc<Activity>,
    pub(super) address: SocketAddr,
    pub(super) is_tls: bool,
}

/// Why the server answers a request itself.
enum Refusal {
    TooLarge,
    TooSlow,
    NoMemory,
    Malformed,
    TooManyHeaders,
    Connect,
    Panicked,
}

/// Answers a request.
pub(super) async fn exchange(
    peer: Arc<Peer>,
    request: hyper::Request<Incoming>,
) -> Result<Response<AnswerBody>, Infallible> {
    let is_http2 = request.version() == Version::HTTP_2;
    let open = OpenRequest::new(&peer.activity, &peer.shared.counts, is_http2);
    let mut reserved = peer.shared.memory.reserve_nothing();
    let answer = match answer(&peer, request).await {
        // A client may read a large answer slowly, or request many of them.
        Ok(answer) if !reserved.grow(answer.large_bytes()) => Err(Refusal::NoMemory),
        answer => answer,
    };
    let answer = answer.unwrap_or_else(|refusal| refusal.answer(is_http2));
    let mut response = Response::new(AnswerBody::new(answer.body, reserved, open, &peer.shared.settings));
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    Ok(response)
}

async fn answer(peer: &Peer, request: hyper::Request<Incoming>) -> Result<Answer, Refusal> {
    let settings = &peer.shared.settings;
    let (head, body) = request.into_parts();
    if head.method == Method::CONNECT {
        return Err(Refusal::Connect);
    }
    if head.headers.len() > settings.header_count_max {
        return Err(Refusal::TooManyHeaders);
    }
    let mut reserved = peer.shared.memory.reserve_nothing();
    let mut request = Request {
        method: head.method,
        uri: head.uri,
        headers: head.headers,
        body: Bytes::new(),
        peer: peer.address,
        is_tls: peer.is_tls,
    };
    if peer.shared.service.takes_pieces(&request.method, &request.uri) {
        let (to, pieces) = mpsc::channel(PIECES_AHEAD);
        tokio::spawn(hand_over(body, settings.pieces_stall_time, to));
        return serve(&peer.shared, request, Some(pieces), reserved).await;
    }
    let is_expecting = request.headers.contains_key(EXPECT);
    let deadline = Instant::now() + settings.body_time;
    let collected = collect(body, settings, &mut reserved, is_expecting);
    request.body = timeout_at(deadline, collected).await.map_err(|_| Refusal::TooSlow)??;
    serve(&peer.shared, request, None, reserved).await
}

/// Passes on a body as it arrives, until it ends, the client aborts or is silent for too long, or the service no longer takes it.
async fn hand_over(mut body: Incoming, pause_time: Duration, to: mpsc::Sender<Piece>) {
    let mut silent_since = Instant::now();
    loop {
        let next = tokio::select! {
            // The service is gone and takes no more of the body.
            () = to.closed() => return,
            next = timeout(SILENCE, next_part(&mut body, pause_time)) => next,
        };
        let piece = match next {
            Ok(Ok(Some(part))) => {
                silent_since = Instant::now();
                Piece::Data(part)
            }
            Ok(Ok(None)) => Piece::End,
            Err(_) if silent_since.elapsed() < pause_time => Piece::Silence,
            Err(_) | Ok(Err(_)) => return,
        };
        let is_last = matches!(piece, Piece::End);
        if to.send(piece).await.is_err() || is_last {
            return;
        }
    }
}

/// Returns the next part of a body, or nothing at its end.
async fn next_part(body: &mut Incoming, pause_time: Duration) -> Result<Option<Bytes>, Refusal> {
    loop {
        let next = std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx));
        match timeout(pause_time, next).await.map_err(|_| Refusal::TooSlow)? {
            None => return Ok(None),
            // The service does not need the trailers of a body.
            Some(Ok(frame)) => match frame.into_data() {
                Ok(part) => return Ok(Some(part)),
                Err(_) => continue,
            },
            Some(Err(_)) => return Err(Refusal::Malformed),
        }
    }
}

/// Reads a body.
async fn collect(
    mut body: Incoming,
    settings: &Settings,
    reserved: &mut Reserved,
    is_expecting: bool,
) -> Result<Bytes, Refusal> {
    let declared = body.size_hint();
    let bytes_max = settings.body_bytes_max;
    if declared.lower() > bytes_max as u64 {
        // A client that waits for `100 Continue` has not sent the body yet, and one this large is not worth reading.
        let is_worth_it = !is_expecting && declared.lower() / 2 <= bytes_max as u64;
        if is_worth_it {
            discard(body, settings, bytes_max).await?;
        }
        return Err(Refusal::TooLarge);
    }
    let Some(first) = next_part(&mut body, settings.body_pause_time).await? else { return Ok(Bytes::new()) };
    if declared.exact() == Some(first.len() as u64) {
        if !reserved.grow(first.len()) {
            return Err(Refusal::NoMemory);
        }
        // Reads the end of the body, so that the connection can be reused.
        next_part(&mut body, settings.body_pause_time).await?;
        return Ok(first);
    }
    // The parts are copied together. A single kept byte would keep the whole buffer of the connection that it is in.
    let mut whole = BytesMut::new();
    let mut part = first;
    loop {
        let len = whole.len() + part.len();
        if len > bytes_max {
            drop(whole);
            discard(body, settings, bytes_max).await?;
            return Err(Refusal::TooLarge);
        }
        if len > whole.capacity() {
            let declared = declared.exact().map_or(bytes_max, |declared| declared as usize);
            let capacity = (2 * len).min(declared).max(len);
            if !reserved.grow(capacity - whole.capacity()) {
                drop(whole);
                discard(body, settings, bytes_max).await?;
                return Err(Refusal::NoMemory);
            }
            whole.reserve(capacity - whole.len());
        }
        whole.extend_from_slice(&part);
        match next_part(&mut body, settings.body_pause_time).await? {
            Some(next) => part = next,
            None => return Ok(whole.freeze()),
        }
    }
}

/// Reads the rest of a body that is refused, up to `bytes_max`: many clients read an answer only after they have sent everything, and would get a
/// broken connection instead.
async fn discard(mut body: Incoming, settings: &Settings, bytes_max: usize) -> Result<(), Refusal> {
    let mut left = bytes_max;
    while let Some(part) = next_part(&mut body, settings.body_pause_time).await? {
        left = left.saturating_sub(part.len());
        if left == 0 {
            break;
        }
    }
    Ok(())
}

/// Calls the service on a suitable thread for the time that it takes. `reserved` is the memory of the body.
async fn serve(
    shared: &Shared,
    request: Request,
    pieces: Option<Pieces>,
    reserved: Reserved,
) -> Result<Answer, Refusal> {
    let service = shared.service.clone();
    let peer = request.peer;
    let is_whole = pieces.is_none();
    let answering = if is_whole
        && catch_unwind(AssertUnwindSafe(|| service.is_quick(&request))).unwrap_or(false)
    {
        catch_unwind(AssertUnwindSafe(|| service.answer(request))).ok()
    } else {
        let permit = shared.threads.clone().acquire_owned().await.expect("the server closes no semaphore");
        let job = move || {
            let _held = (permit, reserved);
            match pieces {
                Some(pieces) => service.answer_pieces(request, pieces),
                None => service.answer(request),
            }
        };
        tokio::task::spawn_blocking(job).await.ok()
    };
    let answer = match answering {
        Some(Answering::Now(answer)) => Some(answer),
        Some(Answering::Later(mut later)) => {
            let poll = |context: &mut Context<'_>| match catch_unwind(AssertUnwindSafe(|| {
                later.as_mut().poll(context)
            })) {
                Ok(answer) => answer.map(Some),
                Err(_) => Poll::Ready(None),
            };
            std::future::poll_fn(poll).await
        }
        None => None,
    };
    answer.ok_or_else(|| {
        // The panic message may contain data of the client.
        tracing::error!(%peer, "a request made the service panic, and was answered with InternalFailure");
        Refusal::Panicked
    })
}

impl Refusal {
    fn answer(self, is_http2: bool) -> Answer {
        let (status, text) = match self {
            Self::TooLarge => {
                (StatusCode::PAYLOAD_TOO_LARGE, r#"{"__type":"RequestEntityTooLargeException"}"#)
            }
            Self::TooSlow => (StatusCode::REQUEST_TIMEOUT, r#"{"__type":"RequestTimeoutException"}"#),
            Self::NoMemory => {
                (StatusCode::SERVICE_UNAVAILABLE, r#"{"__type":"ServiceUnavailableException"}"#)
            }
            Self::Malformed => (StatusCode::BAD_REQUEST, r#"{"__type":"SerializationException"}"#),
            Self::TooManyHeaders => (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, ""),
            Self::Connect => (StatusCode::METHOD_NOT_ALLOWED, ""),
            Self::Panicked => (StatusCode::INTERNAL_SERVER_ERROR, r#"{"__type":"InternalFailure"}"#),
        };
        let mut headers = HeaderMap::new();
        let mut set = |name: HeaderName, value| {
            headers.insert(name, HeaderValue::from_static(value));
        };
        if !text.is_empty() {
            set(CONTENT_TYPE, "application/x-amz-json-1.1");
        }
        match self {
            Self::NoMemory => set(RETRY_AFTER, "1"),
            // The following bytes on the connection are not a request.
            Self::TooSlow | Self::Malformed | Self::Connect if !is_http2 => set(CONNECTION, "close"),
            _ => {}
        }
        Answer { status, headers, body: Body::Whole(Bytes::from_static(text.as_bytes())) }
    }
}
