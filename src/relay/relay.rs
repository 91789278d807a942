//! A relay that runs.

use std::fmt;
use std::sync::Arc;

use super::link::Link;
use super::options::RelayOptions;
use super::stats::RelayStats;
use crate::{Invocation, Processor, Response, Result, StreamReader};

/// What forwards the records of a stream to an engine that is distributed. [`RelayOptions`] begins the settings of one, and dropping it ends it.
///
/// Beneath it is a [`Processor`], whose function sends a batch to the other side and returns when all of it is there:
///
/// - The order of each key holds, across retries and across splits and merges of the stream.
/// - Each record is sent at least once. What is committed is not sent again. A crash repeats at most what was in work: a batch of each lane.
/// - A link that is down holds up the relay and loses nothing: it is tried again for as long as it takes. Meanwhile the records stay in the stream, for
///   its retention or the relay's [hold](RelayOptions::hold).
/// - What the other side can never take is given up to a [destination](RelayOptions::on_failure), with the reason, and holds up nothing.
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
    /// Starts a relay. `carry` sends a batch, and returns when all of it is done or the link [closes](Link::is_closing). `to` says where to, for people.
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

    /// Returns the relay's name, which is that of its consumer group.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the stream that the relay reads.
    pub fn stream(&self) -> &StreamReader {
        &self.link.stream
    }

    /// Returns where the relay sends to, as text for people.
    pub fn to(&self) -> &str {
        &self.to
    }

    /// Returns what the relay has done since it was started, and how far it is.
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

    /// Ends the relay: requests that are under way end, and what is done is committed. Of a batch that is sent in part, what follows the first record that
    /// is not sent comes again when a relay of this name is started.
    ///
    /// # Errors
    /// That of the last commit: `StorageFull`, `Poisoned`, `Io`. What it would have committed comes again.
    pub fn close(mut self) -> Result<()> {
        self.link.close();
        self.processor.take().map_or(Ok(()), Processor::close)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // The functions return before the processor is dropped, which waits for them.
        self.link.close();
    }
}
