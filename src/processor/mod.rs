//! Processors: a function that is called with batches of records, as AWS Lambda does it for a stream of Kinesis.

mod core;
mod describe;
mod discarded;
mod driver;
mod dry_run;
mod invocation;
mod lane;
mod options;
mod part;
mod pool;
mod progress;
mod queue;
mod rules;
mod shard;
mod sink;
mod slice;
mod stats;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};

pub use describe::{ProcessorDescription, ProcessorLane, ProcessorShard, ProcessorWindow};
pub use discarded::{Destination, DiscardReason, Discarded};
pub use invocation::{Invocation, Response, Window};
pub use options::ProcessorOptions;
pub use sink::Sink;
pub use stats::ProcessorStats;

use self::core::Core;
use driver::Driver;
use pool::{Caller, Function, Shared};

use crate::{IoFailure, Result, StreamReader, extend};

/// A function that is called with the records of a stream, in batches: a consumer group, with retries, lanes, windows, filters and a place for
/// what failed. [`ProcessorOptions::start`] returns it, and dropping it ends it.
///
/// - The function gets a shard's records in order, a batch at a time. With several
///   [lanes](ProcessorOptions::parallelization_factor), several batches of a shard are in work at a time, and the order of each key holds.
/// - A batch that fails is tried again, after a pause; it may be [cut in halves](ProcessorOptions::bisect_batch_on_function_error), and
///   [given up](ProcessorOptions::maximum_retry_attempts), which a [destination](ProcessorOptions::on_failure) gets to know. Until then, it holds
///   up its lane, and nothing else.
/// - A shard that was split or merged is finished, with all retries, before its children begin.
/// - Several processors with one name share the shards, like the workers of a group.
///
/// ```
/// # use streamlog::Stream;
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path())?;
/// # let (sender, receiver) = std::sync::mpsc::channel();
/// let processor = stream.processor("audit").start(move |invocation| {
///     for record in invocation.records() {
///         sender.send(record.into_owned())?;
///     }
///     Ok::<_, Box<dyn std::error::Error>>(())
/// })?;
/// stream.put("user-17", "clicked")?;
/// assert_eq!(receiver.recv()?.data, "clicked");
/// processor.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Processor {
    shared: Arc<Shared>,
    stream: StreamReader,
    name: String,
    thread: Option<JoinHandle<Result<()>>>,
}

impl fmt::Debug for Processor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Processor")
            .field("name", &self.name)
            .field("is_over", &self.is_over())
            .finish_non_exhaustive()
    }
}

impl Processor {
    fn start(options: ProcessorOptions, function: Box<Function>) -> Result<Self> {
        let (stream, name) = (options.stream.clone(), options.group.name().to_owned());
        let worker = options.worker().open()?;
        worker.note_reader(describe::LAYER)?;
        let core = Core::new(options.rules());
        let caller = Caller { stream: stream.clone(), function, destination: options.destination.clone() };
        let shared = Arc::new(Shared::new(core, options.concurrency, caller));
        let driver = Driver::new(worker, stream.clone());
        let driven = Arc::clone(&shared);
        let spawned =
            thread::Builder::new().name("streamlog-read".into()).spawn(move || driven.drive(driver));
        let failed =
            |source| IoFailure::new("start a thread of a processor for", stream.describe().path, source);
        let thread = Some(spawned.map_err(failed)?);
        Ok(Self { shared, stream, name, thread })
    }

    /// Returns the name, which is that of the processor's consumer group.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the stream that the processor reads.
    pub fn stream(&self) -> &StreamReader {
        &self.stream
    }

    /// Returns what the processor has done since it was started, and what it does.
    pub fn stats(&self) -> ProcessorStats {
        self.shared.core.lock().stats()
    }

    /// Returns whether the processor has ended by itself, as it does when its stream is closed.
    pub fn is_over(&self) -> bool {
        self.shared.is_over.load(Ordering::Acquire)
    }

    /// Ends the processor: no call begins any more, those that run end or reach their time limit, and what is done is committed. Within a
    /// function that the library runs, it does not wait for that.
    ///
    /// # Errors
    /// That of the last commit: `StorageFull`, `Poisoned`, `Io`. What it would have committed comes again.
    pub fn close(mut self) -> Result<()> {
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        let Some(thread) = self.thread.take() else { return Ok(()) };
        if extend::check_process(&self.stream).is_err() {
            // A child made by fork does not have the thread.
            std::mem::forget(thread);
            return Ok(());
        }
        self.shared.close();
        if extend::is_in_callback() {
            return Ok(());
        }
        // The thread does not panic: foreign code runs as a callback, on others.
        thread.join().unwrap_or(Ok(()))
    }
}

impl Drop for Processor {
    fn drop(&mut self) {
        let _ = self.end();
    }
}
