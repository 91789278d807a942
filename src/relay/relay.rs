//! A running relay.

use std::fmt;
use std::sync::Arc;

use super::link::Link;
use super::options::RelayOptions;
use super::stats::RelayStats;
use crate::{Invocation, Processor, Response, Result, StreamReader, extend};

/// Forwards the records of a stream to a distributed engine. [`RelayOptions`] has its settings, and dropping it ends it.
///
/// It is built on a [`Processor`], whose function sends a batch to the target and returns when all of it has arrived:
///
/// - The records of each key stay in order, across retries and across splits and merges of the stream.
/// - Each record is sent at least once. Committed records are not sent again. A crash repeats at most one batch of each lane.
/// - If the link is down, the relay waits and loses nothing: it retries without limit. Meanwhile the records stay in the stream, for its retention
///   or the relay's [hold](RelayOptions::hold).
/// - Records that the target can never accept are given up to a [destination](RelayOptions::on_failure), with the reason, and block nothing.
#[must_use = "dropping a relay ends it"]
pub struct Relay {
    processor: Option<Processor>,
    link: Arc<Link>,
    name: String,
    to: String,
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay")
            .field("name", &self.name)
            .field("to", &self.to)
            .field("is_over", &self.is_over())
            .finish_non_exhaustive()
    }
}

impl Relay {
    /// Starts a relay. `carry` sends a batch, and returns when all of it is done or the link [closes](Link::is_closing). `to` is a human-readable
    /// description of the target.
    pub(super) fn start(
        options: RelayOptions,
        to: String,
        carry: impl Fn(&Invocation, &Link) -> Response + Send + Sync + 'static,
    ) -> Result<Self> {
        let RelayOptions { stream, name, processor, destination, pauses } = options;
        let link = Arc::new(Link::new(stream, destination, pauses));
        let carried = Arc::clone(&link);
        let processor = processor.start(move |invocation| carry(invocation, &carried))?;
        Ok(Self { processor: Some(processor), link, name, to })
    }

    /// Returns the name of the relay and of its consumer group.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the stream that the relay reads.
    pub fn stream(&self) -> &StreamReader {
        &self.link.stream
    }

    /// Returns a human-readable description of the target.
    pub fn to(&self) -> &str {
        &self.to
    }

    /// Returns what the relay has done since its start, and how far it is.
    pub fn stats(&self) -> RelayStats {
        let processor = self.processor.as_ref().map(Processor::stats).unwrap_or_default();
        let lag = self.link.stream.group(&self.name).describe().ok().map(|group| group.lag());
        let counts = self.link.counts.lock();
        RelayStats {
            records: processor.records.saturating_sub(counts.discarded),
            sent: counts.sent,
            bytes: counts.bytes,
            requests: counts.requests,
            failed_requests: counts.failed_requests,
            throttled: counts.throttled,
            partial_failures: counts.partial_failures,
            retries: counts.retries,
            discarded: processor.discarded + counts.discarded,
            filtered: processor.filtered,
            skipped: processor.skipped,
            iterator_age: processor.iterator_age,
            lag,
            failing_since: counts.failing_since,
            last_error: counts.last_error.clone().or(processor.last_error),
        }
    }

    /// Returns whether the relay has ended by itself, as it does when its stream is closed.
    pub fn is_over(&self) -> bool {
        self.processor.as_ref().is_none_or(Processor::is_over)
    }

    /// Ends the relay: ends requests in progress, and commits what is done. If a batch is partly sent, the records from the first unsent one on are
    /// sent again when a relay of this name is started.
    ///
    /// # Errors
    /// The error of the last commit: `StorageFull`, `Poisoned`, `Io`. The records that it would have committed are sent again.
    pub fn close(mut self) -> Result<()> {
        self.end_calls();
        self.processor.take().map_or(Ok(()), Processor::close)
    }

    /// Makes the functions that wait for the other side return.
    fn end_calls(&self) {
        // In a child made by fork, nothing runs, and a missing thread may hold a lock.
        if extend::check_process(&self.link.stream).is_ok() {
            self.link.close();
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // The processor, which is dropped next, waits for them.
        self.end_calls();
    }
}
