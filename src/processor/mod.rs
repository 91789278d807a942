//! Processors: a function that is called with batches of records, as AWS Lambda does for a Kinesis stream.

mod core;
mod describe;
mod discarded;
mod driver;
mod dry_run;
mod event_time;
mod invocation;
mod lane;
mod ledger;
mod options;
mod origin;
mod part;
mod pool;
mod progress;
mod queue;
mod rules;
mod seen;
mod shard;
mod sink;
mod slice;
mod source;
mod stats;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_of_sources;
mod windows;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};

pub use describe::{ProcessorDescription, ProcessorLane, ProcessorShard, ProcessorWindow};
pub use discarded::{Destination, DiscardReason, Discarded};
pub use invocation::{Invocation, Response, Window};
pub use options::ProcessorOptions;
pub use sink::Sink;
pub use source::Source;
pub(crate) use source::{PartProcessor, Running};
pub use stats::ProcessorStats;
#[cfg(any(feature = "relay-kafka", feature = "relay-kinesis"))]
pub(crate) use {
    ledger::{Entry, Ledger},
    origin::Origin,
    source::{Elsewhere, Spool},
};

use self::core::Core;
use driver::Driver;
use pool::{Caller, Function, Shared};
use seen::Clocks;
use source::{Kind, On};

use crate::{IoFailure, Result, StreamReader, extend};

/// Calls a function with the records of a stream, in batches. It is a consumer group with retries, lanes, windows, filters and a destination for
/// failed records. [`ProcessorOptions::start`] returns it, and dropping it ends it.
///
/// - The function gets a shard's records in order, a batch at a time. With several [lanes](ProcessorOptions::parallelization_factor), several
///   batches of a shard are in work at the same time, and the records of each key stay in order.
/// - A batch that fails is retried after a pause. It may be [split into halves](ProcessorOptions::bisect_batch_on_function_error), and finally
///   [given up](ProcessorOptions::maximum_retry_attempts) and reported to a [destination](ProcessorOptions::on_failure). Until then, it blocks only
///   its own lane.
/// - A shard that was split or merged is finished, with all retries, before its children begin.
/// - Several processors with the same name share the shards, like the workers of a group.
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
    name: String,
    runs: Runs,
}

/// Where a processor runs.
enum Runs {
    Here { shared: Arc<Shared>, stream: StreamReader, thread: Option<JoinHandle<Result<()>>> },
    Elsewhere(Box<dyn Running>),
}

impl fmt::Debug for Processor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut fields = f.debug_struct("Processor");
        fields.field("name", &self.name).field("is_over", &self.is_over());
        if let Runs::Elsewhere(running) = &self.runs {
            fields.field("reads", &running.place());
        }
        fields.finish_non_exhaustive()
    }
}

impl Processor {
    fn start(options: ProcessorOptions, function: Arc<Function>) -> Result<Self> {
        let here = |stream: StreamReader, group| On { stream, group, day: None, ledger: None };
        match options.kind.clone() {
            Kind::Stream(stream) => {
                let group = stream.group(&*options.name);
                Self::start_on(options, function, here((*stream).clone(), group))
            }
            Kind::Reader(reader) => {
                let group = reader.group(&*options.name);
                Self::start_on(options, function, here(reader, group))
            }
            Kind::Elsewhere(elsewhere) => {
                let name = options.name.clone();
                let running = elsewhere.start(PartProcessor { options, function })?;
                Ok(Self { name, runs: Runs::Elsewhere(running) })
            }
        }
    }

    fn start_on(options: ProcessorOptions, function: Arc<Function>, on: On) -> Result<Self> {
        let On { stream, group, day, ledger } = on;
        let worker = options.worker(&group).open()?;
        worker.note_reader(describe::LAYER)?;
        let core = Core::new(options.rules());
        let clocks = Clocks { stream: stream.clone(), day };
        let caller = Caller { clocks: clocks.clone(), function, destination: options.destination.clone() };
        let shared = Arc::new(Shared::new(core, options.concurrency, caller));
        let driver = Driver::new(worker, stream.clone()).clocks(clocks).ledger(ledger);
        let driven = Arc::clone(&shared);
        let spawned =
            thread::Builder::new().name("streamlog-read".into()).spawn(move || driven.drive(driver));
        let failed =
            |source| IoFailure::new("start a thread of a processor for", stream.describe().path, source);
        let thread = Some(spawned.map_err(failed)?);
        Ok(Self { name: options.name, runs: Runs::Here { shared, stream, thread } })
    }

    /// Returns the name of the processor and of its consumer group.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the stream that the processor reads, if the stream is on this machine.
    pub fn stream(&self) -> Option<&StreamReader> {
        match &self.runs {
            Runs::Here { stream, .. } => Some(stream),
            Runs::Elsewhere(_) => None,
        }
    }

    /// Returns where the stream is, or its name elsewhere.
    #[cfg(feature = "metrics")]
    pub(crate) fn place(&self) -> std::path::PathBuf {
        match &self.runs {
            Runs::Here { stream, .. } => stream.describe().path,
            Runs::Elsewhere(running) => running.place().into(),
        }
    }

    /// Returns what the processor has done since its start, and what it does now.
    pub fn stats(&self) -> ProcessorStats {
        match &self.runs {
            Runs::Here { shared, .. } => shared.core.lock().stats(),
            Runs::Elsewhere(running) => running.stats(),
        }
    }

    /// Returns whether the processor has ended by itself, as it does when its stream is closed.
    pub fn is_over(&self) -> bool {
        match &self.runs {
            Runs::Here { shared, .. } => shared.is_over.load(Ordering::Acquire),
            Runs::Elsewhere(running) => running.is_over(),
        }
    }

    /// Ends the processor: starts no more calls, lets running calls finish or reach their time limit, and commits what is done. Inside a function
    /// that the library calls, it does not wait for this.
    ///
    /// # Errors
    /// The error of the last commit: `StorageFull`, `Poisoned`, `Io`. The records that it would have committed are processed again.
    pub fn close(mut self) -> Result<()> {
        self.end()
    }

    /// Asks the processor to end, without waiting for it: no further call begins.
    #[cfg(any(feature = "relay-kafka", feature = "relay-kinesis"))]
    pub(crate) fn stop(&self) {
        if let Runs::Here { shared, .. } = &self.runs {
            shared.close();
        }
    }

    fn end(&mut self) -> Result<()> {
        let (shared, stream, thread) = match &mut self.runs {
            Runs::Here { shared, stream, thread } => (shared, stream, thread),
            Runs::Elsewhere(running) => return running.close(),
        };
        let Some(thread) = thread.take() else { return Ok(()) };
        if extend::check_process(stream).is_err() {
            // A child made by fork does not have the thread.
            std::mem::forget(thread);
            return Ok(());
        }
        shared.close();
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
