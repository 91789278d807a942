//! What the function of a processor gets, and what it answers.

use std::fmt;
use std::sync::Arc;

use super::slice::{Slice, count};
use crate::{Record, SequenceNumber, ShardId, Timestamp};

/// A batch of records for the function of a processor. All of its records are from one shard and, with windows, from one window.
///
/// ```
/// # use streamlog::Stream;
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path())?;
/// # stream.put("user-17", "clicked")?;
/// # let (sender, receiver) = std::sync::mpsc::channel();
/// let processor = stream.processor("audit").start(move |invocation| {
///     for record in invocation.records() {
///         sender.send((invocation.shard(), record.sequence(), record.data().to_vec())).expect("somebody listens");
///     }
/// })?;
/// assert_eq!(receiver.recv()?.2, b"clicked");
/// processor.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Invocation {
    pub(super) shard: ShardId,
    pub(super) slices: Vec<Slice>,
    pub(super) attempt: u32,
    pub(super) window: Option<Window>,
    pub(super) state: Arc<[u8]>,
}

/// A tumbling window, as the function of a processor sees it.
///
/// ```
/// # use std::time::Duration;
/// # use streamlog::{MINUTE, Stream};
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path())?;
/// # stream.put("user-17", "clicked")?;
/// # let (sender, receiver) = std::sync::mpsc::channel();
/// let processor = stream.processor("count").tumbling_window(MINUTE).start_with_state(move |invocation, count: &mut u64| {
///     *count += invocation.len() as u64;
///     let window = invocation.window().expect("this processor has windows");
///     sender.send((window.end.since(window.start), window.is_final)).expect("somebody listens");
/// })?;
/// assert_eq!(receiver.recv()?, (MINUTE, false));
/// processor.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Window {
    /// When the window begins. Windows are aligned to the epoch.
    pub start: Timestamp,
    /// When it ends: the first moment that does not belong to it.
    pub end: Timestamp,
    /// Whether this is the last call for the window. It has no records, and the state is deleted afterwards.
    pub is_final: bool,
    /// Whether the window ends early because its state has become too large.
    pub is_terminated_early: bool,
}

impl Invocation {
    /// Returns the records in order. The records of a key come in the order in which they were put.
    pub fn records(&self) -> impl Iterator<Item = Record<'_>> + Clone {
        self.slices.iter().flat_map(Slice::records)
    }

    /// Returns the number of records.
    pub fn len(&self) -> usize {
        count(&self.slices)
    }

    /// Returns whether there are no records, as in the last call for a window.
    pub fn is_empty(&self) -> bool {
        self.slices.is_empty()
    }

    /// Returns the shard that the records come from.
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    /// Returns how often the function has been called for these records, including this call: 1 for the first attempt.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Returns the window that the records belong to, if the processor has [windows](super::ProcessorOptions::tumbling_window).
    pub fn window(&self) -> Option<Window> {
        self.window
    }

    /// Returns the state of the window, as the function last returned it. It is empty in the first call for a window.
    pub fn state(&self) -> &[u8] {
        &self.state
    }
}

/// The result of a processor's function: whether all records are done or which of them failed, and the state of the window.
///
/// A function may return `()` if it always succeeds, a `Result`, or a `Response`.
///
/// ```
/// # use streamlog::{Response, Stream};
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path())?;
/// let processor = stream.processor("audit").maximum_retry_attempts(3).start(|invocation| {
///     let failed = invocation.records().find(|record| record.data().is_empty());
///     match failed {
///         // The records before it are done. This one and those behind it come again.
///         Some(record) => Response::failed_from(record.sequence()),
///         None => Response::done(),
///     }
/// })?;
/// processor.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Response {
    pub(super) failure: Option<Failure>,
    pub(super) state: Option<Vec<u8>>,
}

/// What failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// Everything, for this reason.
    All(String),
    /// The lowest of these, and everything behind it.
    Items(Vec<SequenceNumber>),
}

impl Response {
    /// All records are done.
    pub fn done() -> Self {
        Self { failure: None, state: None }
    }

    /// No record is done, for this reason. All of them are retried, as the settings say.
    pub fn failed(reason: impl fmt::Display) -> Self {
        Self { failure: Some(Failure::All(reason.to_string())), state: None }
    }

    /// The records before this one are done. This one and those behind it are retried.
    pub fn failed_from(first: SequenceNumber) -> Self {
        Self::item_failures([first])
    }

    /// These records have failed, as with Lambda's `batchItemFailures`: the lowest of them is the checkpoint. Records before it are done. It and
    /// *everything behind it* are retried, whether they are in the list or not. If the list is empty, all records are done. If it contains a number
    /// that is not in the batch, all records have failed.
    pub fn item_failures(failed: impl IntoIterator<Item = SequenceNumber>) -> Self {
        let failed: Vec<_> = failed.into_iter().collect();
        Self { failure: (!failed.is_empty()).then_some(Failure::Items(failed)), state: None }
    }

    /// Adds the state of the window, which the next call gets.
    pub fn with_state(mut self, state: impl Into<Vec<u8>>) -> Self {
        self.state = Some(state.into());
        self
    }
}

impl From<()> for Response {
    fn from((): ()) -> Self {
        Self::done()
    }
}

impl<T: Into<Self>, E: fmt::Display> From<Result<T, E>> for Response {
    fn from(result: Result<T, E>) -> Self {
        result.map_or_else(Self::failed, Into::into)
    }
}
