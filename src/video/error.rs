//! The errors of video, and Kinesis' error ids for those of an ingest.

use std::fmt;

use crate::{Error, Timestamp};

/// What went wrong with video. Each variant has a different remedy, which its text states.
///
/// ```
/// # use streamlog::video::{AckErrorId, IngestOptions, VideoError, VideoStream};
/// # let directory = tempfile::tempdir()?;
/// let stream = VideoStream::open(directory.path().join("door"))?;
/// let mut ingest = stream.ingest(IngestOptions::new(), |_| {})?;
/// let refused = ingest.write(b"this is not Matroska").unwrap_err();
/// assert_eq!(refused.error_id(), Some(AckErrorId::InvalidMkvData));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum VideoError {
    /// The stream that stores the fragments failed. *Remedy:* that of the error inside.
    #[error(transparent)]
    Stream(#[from] Error),

    /// An ingest was refused and has ended. Fragments that were acknowledged as persisted are stored, and the one in progress is not. *Remedy:*
    /// correct the producer's data, and begin another ingest.
    #[error("the ingest ended with {id}: {reason}")]
    Rejected {
        /// The reason, as Kinesis' error id.
        id: AckErrorId,
        /// The reason, in words.
        reason: Box<str>,
    },

    /// Another ingest of this stream is running. A stream has one producer at a time, as in Kinesis. *Remedy:* finish or drop the other one first.
    #[error("another producer sends to this stream: end its ingest first")]
    IngestInProgress,

    /// The stream stores only what live viewers need. *Remedy:* set a data retention.
    #[error(
        "the stream has a data retention of 0 and archives nothing: set a data retention to list and play what was"
    )]
    NoDataRetention,

    /// There is no such fragment, or none in the range, or it has expired. *Remedy:* list the fragments.
    #[error("{0}: list the fragments to see what there is")]
    NotFound(Box<str>),

    /// A track lacks the codec's parameters, which every player needs. *Remedy:* have the producer send them as `CodecPrivate`.
    #[error("{0} has no codec private data: have the producer send it")]
    MissingCodecPrivateData(Box<str>),

    /// A track's codec parameters are damaged, or of an unknown version. *Remedy:* have the producer send correct ones.
    #[error("the codec private data cannot be used: {0}")]
    InvalidCodecPrivateData(Box<str>),

    /// The requested container cannot hold this codec. *Remedy:* choose another container, or read the fragments as Matroska.
    #[error("unsupported media: {0}")]
    UnsupportedMedia(Box<str>),

    /// A fragment is not valid Matroska. *Remedy:* leave it out.
    #[error("invalid Matroska: {0}")]
    InvalidMedia(Box<str>),

    /// The session has ended. *Remedy:* begin another one.
    #[error("the session ended at {0}: begin another one")]
    SessionExpired(Timestamp),

    /// The output could not be written. *Remedy:* that of the writer.
    #[error("writing failed: {0}")]
    Write(Box<str>),

    /// An argument is outside what the call accepts. *Remedy:* correct the call.
    #[error("{0}")]
    InvalidArgument(Box<str>),

    /// The response would exceed the limit. *Remedy:* ask for less.
    #[error("{0}: ask for less at a time")]
    LimitExceeded(Box<str>),
}

impl VideoError {
    /// Returns Kinesis' error id, if the error ended an ingest.
    pub fn error_id(&self) -> Option<AckErrorId> {
        match self {
            Self::Rejected { id, .. } => Some(*id),
            _ => None,
        }
    }

    pub(crate) fn rejected(id: AckErrorId, reason: impl Into<Box<str>>) -> Self {
        Self::Rejected { id, reason: reason.into() }
    }

    pub(crate) fn invalid(reason: impl Into<Box<str>>) -> Self {
        Self::InvalidArgument(reason.into())
    }
}

/// Why an ingest was refused, with the ids and codes of Kinesis' acknowledgements.
///
/// ```
/// # use streamlog::video::AckErrorId;
/// let id = AckErrorId::MaxFragmentSizeReached;
/// assert_eq!((id.id(), id.code()), (4001, "MAX_FRAGMENT_SIZE_REACHED"));
/// assert_eq!(id.to_string(), "4001 MAX_FRAGMENT_SIZE_REACHED");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AckErrorId {
    /// The data ended within an element, or could not be read.
    StreamReadError,
    /// A fragment exceeds 50 MiB, or the largest record of the stream.
    MaxFragmentSizeReached,
    /// A fragment is longer than 20 seconds.
    MaxFragmentDurationReached,
    /// The ingest lasted longer than [`IngestOptions::duration_max`](crate::video::IngestOptions::duration_max).
    MaxConnectionDurationReached,
    /// A fragment begins before the previous one.
    FragmentTimecodeLesserThanPrevious,
    /// There are more than three tracks.
    MoreThanAllowedTracksFound,
    /// The data is not Matroska, or damaged.
    InvalidMkvData,
    /// The time of a fragment cannot be expressed.
    InvalidProducerTimestamp,
    /// The stream is closed.
    StreamNotActive,
    /// A fragment has more than 10 tags, or a tag is too long.
    FragmentMetadataLimitReached,
    /// A frame belongs to a track that was not announced, or the tracks changed within a segment.
    TrackNumberMismatch,
    /// A fragment has no frame of one of the tracks.
    FramesMissingForTrack,
    /// The stream's key is not available.
    KmsKeyUnavailable,
    /// An internal error of the library.
    InternalError,
    /// The fragment could not be written.
    ArchivalError,
}

impl AckErrorId {
    /// Returns the number, such as 4006.
    pub const fn id(self) -> u32 {
        match self {
            Self::StreamReadError => 4000,
            Self::MaxFragmentSizeReached => 4001,
            Self::MaxFragmentDurationReached => 4002,
            Self::MaxConnectionDurationReached => 4003,
            Self::FragmentTimecodeLesserThanPrevious => 4004,
            Self::MoreThanAllowedTracksFound => 4005,
            Self::InvalidMkvData => 4006,
            Self::InvalidProducerTimestamp => 4007,
            Self::StreamNotActive => 4008,
            Self::FragmentMetadataLimitReached => 4009,
            Self::TrackNumberMismatch => 4010,
            Self::FramesMissingForTrack => 4011,
            Self::KmsKeyUnavailable => 4503,
            Self::InternalError => 5000,
            Self::ArchivalError => 5001,
        }
    }

    /// Returns the code, such as `INVALID_MKV_DATA`.
    pub const fn code(self) -> &'static str {
        match self {
            Self::StreamReadError => "STREAM_READ_ERROR",
            Self::MaxFragmentSizeReached => "MAX_FRAGMENT_SIZE_REACHED",
            Self::MaxFragmentDurationReached => "MAX_FRAGMENT_DURATION_REACHED",
            Self::MaxConnectionDurationReached => "MAX_CONNECTION_DURATION_REACHED",
            Self::FragmentTimecodeLesserThanPrevious => "FRAGMENT_TIMECODE_LESSER_THAN_PREVIOUS",
            Self::MoreThanAllowedTracksFound => "MORE_THAN_ALLOWED_TRACKS_FOUND",
            Self::InvalidMkvData => "INVALID_MKV_DATA",
            Self::InvalidProducerTimestamp => "INVALID_PRODUCER_TIMESTAMP",
            Self::StreamNotActive => "STREAM_NOT_ACTIVE",
            Self::FragmentMetadataLimitReached => "FRAGMENT_METADATA_LIMIT_REACHED",
            Self::TrackNumberMismatch => "TRACK_NUMBER_MISMATCH",
            Self::FramesMissingForTrack => "FRAMES_MISSING_FOR_TRACK",
            Self::KmsKeyUnavailable => "KMS_KEY_UNAVAILABLE",
            Self::InternalError => "INTERNAL_ERROR",
            Self::ArchivalError => "ARCHIVAL_ERROR",
        }
    }

    /// Returns Kinesis' error id for a failed put.
    pub(crate) fn of_put(error: &Error) -> Self {
        match error {
            Error::Closed => Self::StreamNotActive,
            Error::InvalidRecord { .. } => Self::MaxFragmentSizeReached,
            Error::KeyUnavailable(_) => Self::KmsKeyUnavailable,
            Error::StorageFull(_) | Error::Io(_) | Error::Poisoned(_) => Self::ArchivalError,
            _ => Self::InternalError,
        }
    }
}

impl fmt::Display for AckErrorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.id(), self.code())
    }
}
