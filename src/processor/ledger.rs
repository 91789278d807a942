//! A ledger: what a processor has done, for a place elsewhere that relies on it.
#![cfg_attr(
    not(any(feature = "relay-kafka", feature = "relay-kinesis")),
    allow(dead_code, reason = "only relays have one")
)]

use std::fmt;

use crate::{Result, SequenceNumber, ShardId};

/// How far a processor is in a shard.
#[derive(Debug)]
pub(crate) struct Entry<'a> {
    pub(crate) shard: ShardId,
    /// Everything below is done.
    pub(crate) next: SequenceNumber,
    /// The state that goes with it, such as that of windows: a processor continues with it in a shard that begins with that record. May be empty.
    pub(crate) state: &'a [u8],
}

/// Keeps how far a processor is, outside its group. It is asked before each commit, so it knows of everything that is committed.
pub(crate) trait Ledger: fmt::Debug + Send {
    /// Returns whether an entry may be made now. Otherwise this is asked again soon, and entries in between are left out. An entry is urgent if the
    /// last call for a window waits for it, and if it may be the last one.
    fn is_due(&mut self, is_urgent: bool) -> bool;

    /// Keeps an entry.
    ///
    /// # Errors
    /// `GroupLeaseLost` if the shard is somebody else's by now: then the processor forgets it. After another error it tries again.
    fn enter(&mut self, entry: &Entry<'_>) -> Result<()>;
}
