//! The handle of a mirror.

use std::fmt;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::core::{Core, CoreOptions};
use super::driver::Shared;
use super::origin::Origin;
use super::refused::OnRefused;
use super::stats::MirrorStats;
use crate::{IoFailure, Result, Stream, extend};

/// A mirror: threads that copy a remote stream or topic into a stream, each record exactly once.
/// [`MirrorOptions::start`](super::MirrorOptions::start) returns it, and dropping it ends it.
///
/// - A record keeps its partition key and its data. It gets the headers `mirrored-from`, which identifies the original, and `arrived-at`, the time
///   when the original arrived. [`MirroredFrom`](super::MirroredFrom) reads them. An aggregate stays one record.
/// - The records of each key stay in order. A shard that was split or merged is read to its end before its children.
/// - Failures of the source are retried without limit, with pauses. So are failed puts, except for errors that require reopening the stream: they
///   end the mirror.
/// - Records that a Kinesis stream drops before they are read are missing. [`MirrorStats::skipped`] counts such gaps.
///
/// # Durability
/// Exactly once holds whatever happens to the process, and through power loss. The mirror syncs the stream before it writes a checkpoint.
pub struct Mirror {
    shared: Arc<Shared>,
    stream: Stream,
    name: String,
    threads: Vec<JoinHandle<()>>,
}

impl fmt::Debug for Mirror {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mirror")
            .field("name", &self.name)
            .field("origin", &self.shared.origin.name())
            .field("is_over", &self.is_over())
            .finish_non_exhaustive()
    }
}

impl Mirror {
    pub(super) fn start(
        stream: &Stream,
        options: CoreOptions,
        on_refused: Option<OnRefused>,
        origin: Arc<dyn Origin>,
        threads: usize,
        records_max: usize,
        poll_interval: Duration,
    ) -> Result<Self> {
        let name = options.name.clone();
        let core = Core::open(stream, options, on_refused)?;
        let shared = Arc::new(Shared::new(core, origin, records_max, poll_interval));
        // Dropping it ends the threads that were started.
        let mut mirror = Self { shared, stream: stream.clone(), name, threads: vec![] };
        for _ in 0..threads {
            let shared = Arc::clone(&mirror.shared);
            let spawned = thread::Builder::new().name("streamlog-mirror".into()).spawn(move || shared.run());
            let failed =
                |source| IoFailure::new("start a thread of a mirror for", stream.describe().path, source);
            mirror.threads.push(spawned.map_err(failed)?);
        }
        Ok(mirror)
    }

    /// Returns the name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the stream into which the mirror puts.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Returns what the mirror has done since its start, and how far it is.
    pub fn stats(&self) -> MirrorStats {
        self.shared.stats()
    }

    /// Returns whether everything is mirrored that existed when each shard was last read. While the source gets more records, this changes back and
    /// forth.
    pub fn is_caught_up(&self) -> bool {
        self.shared.is_caught_up()
    }

    /// Returns whether the mirror has ended by itself, as it does when its stream is closed.
    pub fn is_over(&self) -> bool {
        self.shared.is_over()
    }

    /// Ends the mirror and writes a checkpoint. It does not wait for the source.
    ///
    /// # Errors
    /// The error that ended the mirror, if it has ended by itself; `StorageFull`, `Poisoned`, `Io` if the checkpoint cannot be written: the mirror
    /// then determines its position again at the next start.
    pub fn close(mut self) -> Result<()> {
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        let threads = std::mem::take(&mut self.threads);
        if threads.is_empty() {
            return Ok(());
        }
        if extend::check_process(&self.stream).is_err() {
            // A child made by fork does not have the threads.
            std::mem::forget(threads);
            return Ok(());
        }
        let error = self.shared.error();
        self.shared.stop();
        if extend::is_in_callback() {
            // This may be a callback on a thread that would be waited for. Without a checkpoint, the position is found again by reading back.
            return error.map_or(Ok(()), Err);
        }
        for thread in threads {
            // It does not panic: foreign code runs as a callback.
            let _ = thread.join();
        }
        match error.or_else(|| self.shared.error()) {
            Some(error) => Err(error),
            None => self.shared.core.close(),
        }
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        let _ = self.end();
    }
}
