//! What a relay has done.

use std::time::Duration;

use crate::{Lag, Timestamp};

/// What a relay has done since it was started, and how far it is. [`Relay::stats`](super::Relay::stats) returns it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RelayStats {
    /// Records that are on the other side. One that was sent twice counts once.
    pub records: u64,
    /// What the other side has acknowledged: records or, with aggregation, aggregates. One that was sent twice counts twice.
    pub sent: u64,
    /// The bytes of what it has acknowledged, keys and data together.
    pub bytes: u64,
    /// Requests that were sent, whatever came of them.
    pub requests: u64,
    /// Requests that failed as a whole: the network, the server, credentials, a stream that is not there.
    pub failed_requests: u64,
    /// What the other side refused because it came too fast. It is sent again.
    pub throttled: u64,
    /// What failed for another reason in a request that succeeded. It is sent again.
    pub partial_failures: u64,
    /// What was sent again, for any reason.
    pub retries: u64,
    /// Records that were given up, because the other side can never take them.
    pub discarded: u64,
    /// Records that the filter did not want.
    pub filtered: u64,
    /// Records that were gone before the relay got to them, because retention had dropped them or damage had taken them.
    pub skipped: u64,
    /// How old the last record of a batch was when the relay began with that batch.
    pub iterator_age: Duration,
    /// What is not relayed yet, or not committed. `None` if it cannot be found out, as after the stream was closed.
    pub lag: Option<Lag>,
    /// Since when no request has succeeded, by the stream's clock, although some were sent. `None` while the link is up.
    pub failing_since: Option<Timestamp>,
    /// The last error, of the other side, the destination for what is given up, or the stream. It stays after what failed has succeeded.
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
