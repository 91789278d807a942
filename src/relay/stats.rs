//! What a relay has done.

use std::time::Duration;

use crate::{Lag, Timestamp};

/// What a relay has done since its start, and how far it is. [`Relay::stats`](super::Relay::stats) returns it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RelayStats {
    /// Records that have arrived at the target. A record that was sent twice counts once.
    pub records: u64,
    /// What the target has acknowledged: records or, with aggregation, aggregates. One that was sent twice counts twice.
    pub sent: u64,
    /// The acknowledged bytes, keys and data together.
    pub bytes: u64,
    /// Requests that were sent, successful or not.
    pub requests: u64,
    /// Requests that failed as a whole, because of the network, the server, credentials, or a missing stream.
    pub failed_requests: u64,
    /// What the target throttled. It is sent again.
    pub throttled: u64,
    /// What failed for another reason in a request that succeeded. It is sent again.
    pub partial_failures: u64,
    /// What was sent again, for any reason.
    pub retries: u64,
    /// Records that were given up because the target can never accept them.
    pub discarded: u64,
    /// Records that the filter dropped.
    pub filtered: u64,
    /// Records that were lost before the relay read them, because retention dropped them or they were damaged.
    pub skipped: u64,
    /// The age of the last record of a batch when the relay began with that batch.
    pub iterator_age: Duration,
    /// What is not relayed or not committed yet. `None` if it cannot be determined, as after the stream was closed.
    pub lag: Option<Lag>,
    /// Since when no request has succeeded, by the stream's clock, although some were sent. `None` while the link is up.
    pub failing_since: Option<Timestamp>,
    /// The last error, of the target, the destination for discarded records, or the stream. It remains after a retry has succeeded.
    pub last_error: Option<String>,
}

/// What a relay counts itself, beside its processor.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) sent: u64,
    pub(super) bytes: u64,
    pub(super) requests: u64,
    pub(super) failed_requests: u64,
    pub(super) throttled: u64,
    pub(super) partial_failures: u64,
    pub(super) retries: u64,
    pub(super) discarded: u64,
    pub(super) failing_since: Option<Timestamp>,
    pub(super) last_error: Option<String>,
}
