//! Why a request to the other side failed, and what to do about it.

use std::fmt;

/// What to do about a request that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::relay) enum Remedy {
    /// There were too many requests, or it asked for too much: retry, later each time.
    SlowDown,
    /// The other side or the network has a temporary fault: retry, later each time.
    Retry,
    /// Its iterator or page token is no longer valid: request a new one.
    #[cfg(feature = "relay-kinesis")]
    Renew,
    /// The stream, topic or shard does not exist, or no longer exists.
    Missing,
    /// It is refused. A retry helps only after somebody has changed something, such as a policy.
    Refused,
}

/// A request to the other side that failed.
#[derive(Debug, Clone)]
pub(in crate::relay) struct Failure {
    pub(in crate::relay) remedy: Remedy,
    text: Box<str>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Failure {
    pub(in crate::relay) fn new(remedy: Remedy, text: impl Into<Box<str>>) -> Self {
        Self { remedy, text: text.into() }
    }
}
