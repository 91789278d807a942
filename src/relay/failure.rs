//! Why a request to the other side failed, and what to do about it.

use std::fmt;

/// What to do about a request that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::relay) enum Remedy {
    /// It was one too many, or asked for too much: send it again, later each time.
    SlowDown,
    /// The other side or the way there has a fault that may pass: send it again, later each time.
    Retry,
    /// What it carried is no longer valid: the iterator or the token of a page. Ask for a new one.
    #[cfg(feature = "relay-kinesis")]
    Renew,
    /// What it asks for does not exist, or no longer: a stream, a topic, a shard.
    Missing,
    /// It is refused as it is. Sending it again helps only once somebody has changed something, such as a policy.
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
