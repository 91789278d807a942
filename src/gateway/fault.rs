//! The errors of the service.

use std::borrow::Cow;

use hyper::StatusCode;

use super::wire::Value;

/// An error of the service: its name and its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) kind: &'static str,
    pub(super) message: Option<Cow<'static, str>>,
}

macro_rules! faults {
    ($($name:ident $kind:literal;)+) => {
        impl Fault {
            $(
                pub(super) fn $name(message: impl Into<Cow<'static, str>>) -> Self {
                    Self { kind: $kind, message: Some(message.into()) }
                }
            )+
        }
    };
}

faults! {
    access_denied "AccessDeniedException";
    dry_run "DryRunOperationException";
    expired_iterator "ExpiredIteratorException";
    expired_token "ExpiredNextTokenException";
    in_use "ResourceInUseException";
    invalid "InvalidArgumentException";
    key_not_found "KMSNotFoundException";
    key_unavailable "KMSInvalidStateException";
    limit "LimitExceededException";
    not_found "ResourceNotFoundException";
    serialization "SerializationException";
    throughput "ProvisionedThroughputExceededException";
    validation "ValidationException";
}

#[cfg(feature = "delivery")]
faults! {
    concurrent "ConcurrentModificationException";
    invalid_key "InvalidKMSResourceException";
    invalid_source "InvalidSourceException";
    unavailable "ServiceUnavailableException";
}

#[cfg(feature = "video")]
faults! {
    client_limit "ClientLimitExceededException";
    connection_limit "ConnectionLimitExceededException";
    invalid_codec_data "InvalidCodecPrivateDataException";
    invalid_frame "InvalidMediaFrameException";
    missing_codec_data "MissingCodecPrivateDataException";
    no_data_retention "NoDataRetentionException";
    not_authorized "NotAuthorizedException";
    stream_limit "AccountStreamLimitExceededException";
    too_many_tags "TagsPerResourceExceededLimitException";
    unsupported_media "UnsupportedStreamMediaTypeException";
    version_mismatch "VersionMismatchException";
}

#[cfg(feature = "sql")]
faults! {
    statement "InvalidStatementException";
}

/// The error whose text clients look for under another name.
const SERIALIZATION: &str = "SerializationException";
const INTERNAL: &str = "InternalFailure";
/// The error of Firehose for a temporary failure.
const UNAVAILABLE: &str = "ServiceUnavailableException";
const NOT_FOUND: &str = "ResourceNotFoundException";

impl Fault {
    /// Returns an error that consists only of its name.
    pub(super) fn bare(kind: &'static str) -> Self {
        Self { kind, message: None }
    }

    /// Returns the error for an internal failure. The cause is logged, and not in the answer.
    pub(super) fn internal() -> Self {
        Self::bare(INTERNAL)
    }

    pub(super) fn is_not_found(&self) -> bool {
        self.kind == NOT_FOUND
    }

    /// Replaces the error for a missing stream, for a caller that did not ask for the stream itself.
    pub(super) fn or_missing(self, missing: impl FnOnce() -> Self) -> Self {
        if self.is_not_found() { missing() } else { self }
    }

    pub(super) fn is_internal(&self) -> bool {
        self.kind == INTERNAL
    }

    pub(super) fn status(&self) -> StatusCode {
        let is_ours = self.is_internal() || self.kind == UNAVAILABLE;
        if is_ours { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::BAD_REQUEST }
    }

    /// Returns the body of the answer.
    pub(super) fn to_value(&self) -> Value<'_> {
        // Only this error spells it like this.
        let message_name = if self.kind == SERIALIZATION { "Message" } else { "message" };
        let message = self.message.as_deref().map(Value::text);
        Value::map([("__type", Value::text(self.kind))]).with(message_name, message)
    }
}

/// The result of a service call.
pub(super) type Answered<T> = Result<T, Fault>;
