//! The acknowledgements of an ingest.

use std::fmt;

use crate::video::error::AckErrorId;
use crate::video::number::FragmentNumber;

/// The event that an acknowledgement reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AckEvent {
    /// A fragment has begun to arrive.
    Buffering,
    /// All bytes of a fragment have arrived.
    Received,
    /// A fragment is stored, with the stream's [`Durability`](crate::Durability). Not sent by a stream with a data retention of 0.
    Persisted,
    /// The ingest has failed and has ended.
    Error,
    /// Nothing has arrived for a while; see [`Ingest::check`](crate::video::Ingest::check).
    Idle,
}

impl AckEvent {
    /// Returns Kinesis' name of the event, such as `PERSISTED`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Buffering => "BUFFERING",
            Self::Received => "RECEIVED",
            Self::Persisted => "PERSISTED",
            Self::Error => "ERROR",
            Self::Idle => "IDLE",
        }
    }
}

/// An acknowledgement of an ingest. It prints as the JSON that Kinesis sends.
///
/// For each fragment, the order is buffering, received, persisted.
///
/// ```
/// # use streamlog::video::{Ack, AckErrorId, AckEvent};
/// let ack = Ack { event: AckEvent::Error, timecode_ms: Some(2_000), number: None, error: Some(AckErrorId::InvalidMkvData) };
/// assert_eq!(
///     ack.to_string(),
///     r#"{"EventType":"ERROR","FragmentTimecode":2000,"ErrorId":4006,"ErrorCode":"INVALID_MKV_DATA"}"#
/// );
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ack {
    /// The event that it reports.
    pub event: AckEvent,
    /// The fragment's timecode as the producer sent it, in milliseconds, rounded down.
    pub timecode_ms: Option<u64>,
    /// The fragment's number.
    pub number: Option<FragmentNumber>,
    /// Why the ingest failed.
    pub error: Option<AckErrorId>,
}

impl fmt::Display for Ack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, r#"{{"EventType":"{}""#, self.event.name())?;
        if let Some(timecode) = self.timecode_ms {
            write!(f, r#","FragmentTimecode":{timecode}"#)?;
        }
        if let Some(number) = self.number {
            write!(f, r#","FragmentNumber":"{number}""#)?;
        }
        if let Some(error) = self.error {
            write!(f, r#","ErrorId":{},"ErrorCode":"{}""#, error.id(), error.code())?;
        }
        f.write_str("}")
    }
}
