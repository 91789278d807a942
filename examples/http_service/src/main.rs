//! A stream inside an axum service: async handlers around a synchronous stream, and a shutdown that loses nothing.
//!
//! A put that waits for the disk would block all other requests on its thread, so handlers do not put. They send their records to one
//! thread over a bounded channel, and wait for the answer. That thread puts all waiting records as one batch, which needs only one disk
//! sync. If the thread falls behind, the channel fills up and clients wait. Reads may also wait for the disk, so they run on tokio's
//! threads for blocking work.
//!
//! On SIGTERM or Ctrl-C: no new connections → requests in progress get their answers → the thread puts what is left in the channel →
//! the stream is closed.
//!
//! ```text
//! cargo run -p http_service                            # tries itself out, and ends
//! cargo run -p http_service -- ./clicks 127.0.0.1:8080 # serves
//! curl --data /checkout http://127.0.0.1:8080/clicks/user-17                            # shardId-000000000000 0
//! curl http://127.0.0.1:8080/shards/0/from/0                                            # 0 user-17 /checkout
//! ```

mod tryout;

use std::error::Error;
use std::fmt::Write;
use std::net::TcpListener;
use std::thread;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use streamlog::{
    Durability, Error as StreamError, Position, PutRecord, Receipt, SequenceNumber, ShardId, Stream,
    StreamOptions,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;
type Response = Result<(StatusCode, String), (StatusCode, String)>;

/// How many records may wait for the writer before clients have to wait.
const WAITING_MAX: usize = 1_024;
const BATCH_MAX: usize = 256;

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
    let (puts, waiting) = mpsc::channel(WAITING_MAX);
    let writer = thread::Builder::new().name("writer".into()).spawn({
        let stream = stream.clone();
        move || write(&stream, waiting)
    })?;
    let router = Router::new()
        .route("/clicks/{user}", post(put))
        .route("/shards/{shard}/from/{sequence}", get(read))
        .with_state(Service { stream: stream.clone(), puts });

    // From here on the signals stop the service instead of the process.
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let must_stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    // Stop accepting, and wait for requests in progress. A client that never finishes its request delays this. A service manager kills the
    // service after a while, which loses nothing that was answered.
    axum::serve(listener, router).with_graceful_shutdown(must_stop).await?;
    // The handlers held all senders of the channel. So the channel is closed now, and the writer ends after it has put what is left in it.
    tokio::task::spawn_blocking(move || {
        writer.join().map_err(|_| "the writer has died")?;
        Ok(stream.close()?)
    })
    .await?
}

#[derive(Clone)]
struct Service {
    stream: Stream,
    puts: mpsc::Sender<Put>,
}

/// A record on its way to the writer.
struct Put {
    user: String,
    page: Bytes,
    answer: oneshot::Sender<streamlog::Result<Receipt>>,
}

/// `POST /clicks/{user}`: puts a click. The answer confirms that the click is on disk.
async fn put(State(service): State<Service>, Path(user): Path<String>, page: Bytes) -> Response {
    let (answer, answered) = oneshot::channel();
    // Waits while the channel is full, and so does the client.
    service.puts.send(Put { user, page, answer }).await.map_err(without_writer)?;
    let receipt = answered.await.map_err(without_writer)?.map_err(refusal)?;
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

fn without_writer<E>(_: E) -> (StatusCode, String) {
    (StatusCode::SERVICE_UNAVAILABLE, "the writer has died\n".to_owned())
}

/// Returns the client's answer to an error. The status says whether the request is at fault or the client should try again.
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

/// Runs the writer: puts what arrives on the channel until the channel is closed and empty.
fn write(stream: &Stream, mut waiting: mpsc::Receiver<Put>) {
    let mut puts = Vec::with_capacity(BATCH_MAX);
    while waiting.blocking_recv_many(&mut puts, BATCH_MAX) > 0 {
        while !puts.is_empty() {
            let records: Vec<_> = puts.iter().map(|put| PutRecord::new(&put.user, &put.page)).collect();
            // A client that has disconnected in the meantime gets no answer.
            match stream.put_batch(&records) {
                Ok(outcomes) => {
                    for (put, outcome) in puts.drain(..).zip(outcomes) {
                        let _ = put.answer.send(outcome);
                    }
                }
                // One invalid record fails the whole call. Answer its sender, and put the other records again.
                Err(error @ StreamError::InvalidRecord { index, .. }) => {
                    let _ = puts.remove(index as usize).answer.send(Err(error));
                }
                Err(error) => {
                    for put in puts.drain(..) {
                        let _ = put.answer.send(Err(error.clone()));
                    }
                }
            }
        }
    }
}
