//! A stream inside an axum service: async handlers around a synchronous stream, and a shutdown that loses nothing.
//!
//! A put that waits for the disk would block all other requests on its thread. So handlers give their records to a producer and await the
//! receipts: the producer's thread puts all waiting records as one batch, which needs only one disk sync. If it falls behind, its buffer
//! fills up, and clients are told to try again. Reads may also wait for the disk, so they run on tokio's threads for blocking work.
//!
//! A client may also follow a shard: its clicks are sent as server-sent events as they arrive. Such a client costs a task, not a thread.
//!
//! On SIGTERM or Ctrl-C: no new connections, and no more events → requests in progress get their answers → the producer and the stream are
//! closed.
//!
//! ```text
//! cargo run -p http_service                            # tries itself out, and ends
//! cargo run -p http_service -- ./clicks 127.0.0.1:8080 # serves
//! curl --data /checkout http://127.0.0.1:8080/clicks/user-17                            # shardId-000000000000 0
//! curl http://127.0.0.1:8080/shards/0/from/0                                            # 0 user-17 /checkout
//! curl --no-buffer http://127.0.0.1:8080/shards/0/live                                  # what comes from now on
//! ```

mod tryout;

use std::error::Error;
use std::fmt::Write;
use std::net::TcpListener;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::routing::{get, post};
use futures_util::{Stream as Events, StreamExt, stream};
use streamlog::{
    Batch, Durability, Error as StreamError, Position, Producer, SequenceNumber, ShardId, Stream,
    StreamOptions,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;
type Response = Result<(StatusCode, String), (StatusCode, String)>;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    match args.next() {
        Some(directory) => {
            let address = args.next().unwrap_or_else(|| "127.0.0.1:8080".into());
            let listener = TcpListener::bind(address)?;
            println!("listening on {}", listener.local_addr()?);
            serve(listener, open(directory.as_ref())?)
        }
        None => tryout::run(),
    }
}

fn open(directory: &std::path::Path) -> streamlog::Result<Stream> {
    StreamOptions::new().shards(4).durability(Durability::Power).open(directory)
}

/// Serves until a signal ends it. Then the stream contains everything that was answered, and is closed.
#[tokio::main]
async fn serve(listener: TcpListener, stream: Stream) -> Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let producer = stream.producer().start()?;
    let (stop, is_stopping) = watch::channel(false);
    let router = Router::new()
        .route("/clicks/{user}", post(put))
        .route("/shards/{shard}/from/{sequence}", get(read))
        .route("/shards/{shard}/live", get(follow))
        .with_state(Service { stream: stream.clone(), producer: producer.clone(), is_stopping });

    // From here on the signals stop the service instead of the process.
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let must_stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.send_replace(true);
    };
    // Stop accepting, and wait for requests in progress. A client that never finishes its request delays this. A service manager kills the
    // service after a while, which loses nothing that was answered.
    axum::serve(listener, router).with_graceful_shutdown(must_stop).await?;
    // Every request has its answer, so the producer has nothing left to write.
    tokio::task::spawn_blocking(move || {
        producer.close()?;
        Ok(stream.close()?)
    })
    .await?
}

#[derive(Clone)]
struct Service {
    stream: Stream,
    producer: Producer,
    is_stopping: watch::Receiver<bool>,
}

/// `POST /clicks/{user}`: puts a click. The answer confirms that the click is on disk.
async fn put(State(service): State<Service>, Path(user): Path<String>, page: Bytes) -> Response {
    let pending = service.producer.try_put(user, page).map_err(refusal)?;
    let receipt = pending.await.map_err(refusal)?;
    Ok((StatusCode::CREATED, format!("{} {}\n", receipt.shard, receipt.sequence)))
}

/// `GET /shards/{shard}/from/{sequence}`: returns up to 1,000 clicks of a shard, starting at a sequence number.
async fn read(State(service): State<Service>, Path((shard, sequence)): Path<(u32, u64)>) -> Response {
    let read = move || {
        let position = Position::At(SequenceNumber::new(sequence));
        let batch = service.stream.iterator(ShardId::new(shard), position)?.next_batch(1_000)?;
        let mut lines = String::new();
        for click in &batch {
            let (user, page) =
                (String::from_utf8_lossy(click.partition_key()), String::from_utf8_lossy(click.data()));
            let _ = writeln!(lines, "{} {user} {page}", click.sequence());
        }
        Ok(lines)
    };
    match tokio::task::spawn_blocking(read).await {
        Ok(lines) => Ok((StatusCode::OK, lines.map_err(refusal)?)),
        Err(died) => Err((StatusCode::INTERNAL_SERVER_ERROR, format!("{died}\n"))),
    }
}

/// `GET /shards/{shard}/live`: sends the clicks of a shard as they arrive, as server-sent events. A browser that reconnects sends the id of
/// the last event that it has seen, and resumes after it.
async fn follow(
    State(mut service): State<Service>,
    Path(shard): Path<u32>,
    headers: HeaderMap,
) -> Result<Sse<impl Events<Item = streamlog::Result<Event>>>, (StatusCode, String)> {
    let position = match headers.get("last-event-id").map(|id| id.to_str()) {
        None => Position::Latest,
        Some(id) => {
            let seen: Option<SequenceNumber> = id.ok().and_then(|id| id.parse().ok());
            Position::After(seen.ok_or((StatusCode::BAD_REQUEST, "an unknown event id\n".into()))?)
        }
    };
    let batches = service.stream.iterator(ShardId::new(shard), position).map_err(refusal)?.into_batches(100);
    let end = async move { _ = service.is_stopping.wait_for(|&is_stopping| is_stopping).await };
    // An error ends the connection.
    let events = batches.take_until(Box::pin(end)).flat_map(|batch| {
        stream::iter(batch.map_or_else(|error| vec![Err(error)], |batch| events_of(&batch)))
    });
    // Without keep-alives, a connection whose client is gone would stay forever.
    Ok(Sse::new(events).keep_alive(KeepAlive::default()))
}

fn events_of(batch: &Batch) -> Vec<streamlog::Result<Event>> {
    let event = |click: streamlog::Record<'_>| {
        let (user, page) =
            (String::from_utf8_lossy(click.partition_key()), String::from_utf8_lossy(click.data()));
        Ok(Event::default().id(click.sequence().to_string()).data(format!("{user} {page}")))
    };
    batch.iter().map(event).collect()
}

/// Maps an error to an HTTP response. The status says whether the request is at fault or the client should retry.
fn refusal(error: StreamError) -> (StatusCode, String) {
    let status = match error {
        StreamError::InvalidRecord { .. } | StreamError::InvalidArgument(_) => StatusCode::BAD_REQUEST,
        StreamError::ShardNotFound(_) => StatusCode::NOT_FOUND,
        StreamError::Trimmed { .. } => StatusCode::GONE,
        StreamError::StorageFull(_) => StatusCode::INSUFFICIENT_STORAGE,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, format!("{error}\n"))
}
