//! The service's answers to errors of video.

use crate::gateway::catalogue::internal;
use crate::gateway::fault::{Answered, Fault};
use crate::video::VideoError;

/// Returns the answer to an error.
pub(in crate::gateway) fn fault(error: &VideoError) -> Fault {
    let text = error.to_string();
    match error {
        VideoError::NotFound(_) => Fault::not_found(text),
        VideoError::NoDataRetention => Fault::no_data_retention(text),
        VideoError::MissingCodecPrivateData(_) => Fault::missing_codec_data(text),
        VideoError::InvalidCodecPrivateData(_) => Fault::invalid_codec_data(text),
        VideoError::UnsupportedMedia(_) => Fault::unsupported_media(text),
        VideoError::InvalidMedia(_) => Fault::invalid_frame(text),
        VideoError::InvalidArgument(_) => Fault::invalid(text),
        VideoError::LimitExceeded(_) => Fault::client_limit(text),
        VideoError::SessionExpired(_) => Fault::not_authorized(text),
        VideoError::IngestInProgress => Fault::connection_limit(text),
        VideoError::Rejected { .. } => Fault::invalid(text),
        VideoError::Write(_) => {
            tracing::error!(%error, "video cannot be written");
            Fault::internal()
        }
        VideoError::Stream(crate::Error::Closed) => {
            Fault::not_found("The stream was deleted, or the server ends.")
        }
        VideoError::Stream(error) => internal(error),
    }
}

/// Returns a result as the service answers it.
pub(in crate::gateway) fn answered<T>(result: Result<T, VideoError>) -> Answered<T> {
    result.map_err(|error| fault(&error))
}
