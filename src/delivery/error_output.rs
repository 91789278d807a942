//! The lines of the error output about records that could not be delivered.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use crate::{SequenceNumber, ShardId, Timestamp};

/// A record, as the error output names it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) shard: ShardId,
    pub(super) sequence: SequenceNumber,
    pub(super) arrival: Timestamp,
    pub(super) data: &'a [u8],
    pub(super) now: Timestamp,
}

/// The code of a step that fails.
pub(super) const PROCESSING_FAILED: &str = "Transform.ProcessingFailed";

/// Why a record could not be delivered.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub(super) code: &'static str,
    pub(super) message: String,
    pub(super) attempts: u32,
    /// The name of the function, if it is one that the error output names.
    pub(super) function: Option<String>,
}

impl Failure {
    pub(super) fn too_many_parts() -> Self {
        Self::of(
            "DynamicPartitioning.ActivePartitionLimitExceeded",
            "there are as many active partitions as there may be".into(),
        )
    }

    pub(super) fn partition(message: String) -> Self {
        Self::of("DynamicPartitioning.MetadataExtractionFailed", message)
    }

    pub(super) fn transform(message: String) -> Self {
        Self::of(PROCESSING_FAILED, message)
    }

    pub(super) fn format(message: String) -> Self {
        Self::of("DataFormatConversion.MalformedData", message)
    }

    pub(super) fn delivery(message: String) -> Self {
        Self::of("Delivery.RetriesExhausted", message)
    }

    fn of(code: &'static str, message: String) -> Self {
        Self { code, message, attempts: 1, function: None }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    attempts_made: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    arrival_timestamp: Option<u64>,
    error_code: &'a str,
    error_message: &'a str,
    attempt_ending_timestamp: u64,
    raw_data: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    shard_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sequence_number: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lambda_arn: Option<&'a str>,
}

/// Returns a line of JSON, without its end.
pub(super) fn line(source: &Source<'_>, failure: &Failure) -> Vec<u8> {
    let line = Line {
        attempts_made: failure.attempts,
        arrival_timestamp: Some(source.arrival.as_millis()),
        error_code: failure.code,
        error_message: &failure.message,
        attempt_ending_timestamp: source.now.as_millis(),
        raw_data: STANDARD.encode(source.data),
        shard_id: Some(source.shard.to_string()),
        sequence_number: Some(source.sequence.to_string()),
        lambda_arn: failure.function.as_deref(),
    };
    serde_json::to_vec(&line).expect("texts and numbers always serialize")
}

/// Returns the line for a row of an object that could not be delivered, without its end.
pub(super) fn line_of_row(row: &[u8], attempts: u32, failure: &Failure, now: Timestamp) -> Vec<u8> {
    let line = Line {
        attempts_made: attempts,
        arrival_timestamp: None,
        error_code: failure.code,
        error_message: &failure.message,
        attempt_ending_timestamp: now.as_millis(),
        raw_data: STANDARD.encode(row),
        shard_id: None,
        sequence_number: None,
        lambda_arn: None,
    };
    serde_json::to_vec(&line).expect("texts and numbers always serialize")
}
