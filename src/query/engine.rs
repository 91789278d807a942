//! The threads that queries run on.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use datafusion::arrow::array::RecordBatch;
use datafusion::execution::SendableRecordBatchStream;
use futures_core::Stream;
use parking_lot::Mutex;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinError, unconstrained};

use super::error::QueryError;
use super::interrupt::Stop;

/// How many batches may wait for the reader of a query's rows.
const BATCHES_AHEAD_MAX: usize = 2;

/// The stack of each thread. Recursive functions process statements, as deep as the bounds of `words` allow; only the used part takes memory.
const STACK_BYTES: usize = 32 << 20;

/// The engine that all catalogs share while one of them exists.
static SHARED: Mutex<Weak<Engine>> = Mutex::new(Weak::new());

/// Separate threads, so that queries work from any thread, even one of the caller's runtime.
pub(super) struct Engine {
    /// `None` if the operating system refused the threads. The reason is in `refused`.
    runtime: Option<Runtime>,
    refused: String,
    process: u32,
}

impl Engine {
    /// Returns the engine of this process, and starts it if nothing uses it yet. Its threads end once the last user drops it.
    pub(super) fn shared() -> Arc<Self> {
        let mut shared = SHARED.lock();
        // The threads of a parent process do not exist in its child.
        if let Some(engine) = shared.upgrade().filter(|engine| engine.process == std::process::id()) {
            return engine;
        }
        let engine = Arc::new(Self::start());
        *shared = Arc::downgrade(&engine);
        engine
    }

    fn start() -> Self {
        let started = Builder::new_multi_thread()
            .worker_threads(Self::width())
            .thread_name("streamlog-sql")
            .thread_stack_size(STACK_BYTES)
            .enable_time()
            .build();
        let process = std::process::id();
        match started {
            Ok(runtime) => Self { runtime: Some(runtime), refused: String::new(), process },
            Err(error) => Self { runtime: None, refused: error.to_string(), process },
        }
    }

    /// Returns how many threads work at a time: one for each processor that this process may use.
    pub(super) fn width() -> usize {
        thread::available_parallelism().map_or(1, |count| count.get())
    }

    fn handle(&self) -> Result<&Handle, QueryError> {
        if self.process != std::process::id() {
            return Err(QueryError::Failed(
                "the catalog belongs to the parent process: make another one in this process".to_owned(),
            ));
        }
        let refused = || QueryError::Failed(format!("cannot start the threads of queries: {}", self.refused));
        self.runtime.as_ref().map(Runtime::handle).ok_or_else(refused)
    }

    /// Runs a future on the engine's threads, and waits for its result.
    ///
    /// # Errors
    /// Those of the future; `Failed` if it panics, or if there are no threads.
    pub(super) fn run<T: Send + 'static>(
        &self,
        future: impl Future<Output = Result<T, QueryError>> + Send + 'static,
    ) -> Result<T, QueryError> {
        wait(self.handle()?.spawn(future)).unwrap_or_else(|error| Err(failed(error)))
    }

    /// Reads the batches of a stream on the engine's threads, as far ahead as the bound of the channel allows. Dropping the result ends the running
    /// plan, which heeds `stop`.
    ///
    /// # Errors
    /// `Failed` if there are no threads.
    pub(super) fn stream(
        self: &Arc<Self>,
        batches: SendableRecordBatchStream,
        explain: impl Fn(datafusion::error::DataFusionError) -> QueryError + Send + 'static,
        stop: Stop,
    ) -> Result<Batches, QueryError> {
        let (sender, receiver) = mpsc::channel(BATCHES_AHEAD_MAX);
        let reading = self.handle()?.spawn(read(batches, explain, sender.clone()));
        let task = reading.abort_handle();
        self.handle()?.spawn(async move {
            if let Err(error) = reading.await {
                // If the receiver is gone, nobody needs it.
                let _ = sender.send(Err(failed(error))).await;
            }
        });
        Ok(Batches { receiver, task, stop, engine: Arc::clone(self) })
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // The last user may be a thread of the engine, or of the caller's runtime, which must not wait.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// The batches of a running query. Dropping it ends the query.
pub(super) struct Batches {
    receiver: mpsc::Receiver<Result<RecordBatch, QueryError>>,
    task: AbortHandle,
    stop: Stop,
    /// Keeps the threads.
    #[expect(dead_code, reason = "it is there to be dropped")]
    engine: Arc<Engine>,
}

impl Batches {
    /// Waits for the next batch. Returns `None` at the end.
    pub(super) fn next(&mut self) -> Option<Result<RecordBatch, QueryError>> {
        wait(self.receiver.recv())
    }

    /// Returns what ends the query from another thread.
    pub(super) fn task(&self) -> AbortHandle {
        self.task.clone()
    }
}

impl Drop for Batches {
    fn drop(&mut self) {
        self.stop.set();
        self.task.abort();
    }
}

async fn read(
    batches: SendableRecordBatchStream,
    explain: impl Fn(datafusion::error::DataFusionError) -> QueryError,
    sender: mpsc::Sender<Result<RecordBatch, QueryError>>,
) {
    let mut batches = pin!(batches);
    while let Some(batch) = poll_fn(|context| batches.as_mut().poll_next(context)).await {
        let is_last = batch.is_err();
        if sender.send(batch.map_err(&explain)).await.is_err() || is_last {
            return;
        }
    }
}

fn failed(error: JoinError) -> QueryError {
    if !error.is_panic() {
        return QueryError::Stopped;
    }
    let panic = error.into_panic();
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason given");
    QueryError::Failed(format!("the query ended with a panic, which is an error of this library: {text}"))
}

/// Wakes a thread that waits.
struct Waiting {
    thread: Thread,
    is_woken: AtomicBool,
}

impl Wake for Waiting {
    fn wake(self: Arc<Self>) {
        self.is_woken.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

/// Waits for a future on this thread, whatever runtime the thread may belong to.
pub(super) fn wait<F: Future>(future: F) -> F::Output {
    // On a thread of the caller's runtime, the budget of the caller's task would end without ever being renewed.
    let mut future = pin!(unconstrained(future));
    let waiting = Arc::new(Waiting { thread: thread::current(), is_woken: AtomicBool::new(false) });
    let waker = Waker::from(Arc::clone(&waiting));
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        while !waiting.is_woken.swap(false, Ordering::AcqRel) {
            thread::park();
        }
    }
}
