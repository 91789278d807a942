//! How a fragment is stored as a record: its data is the Matroska file, and its headers have the metadata for lists.

use std::time::Duration;

use super::fragment::FragmentInfo;
use super::index::summary;
use crate::video::error::VideoError;
use crate::video::number::FragmentNumber;
use crate::{Headers, OwnedRecord, PutRecord, SequenceNumber, Timestamp};

/// The partition key of all fragments.
pub(super) const KEY: &str = "fragment";
/// When the fragment begins by the producer's clock: microseconds since 1970, in decimal.
const PRODUCER_TIME: &str = "video-producer-time-us";
/// How long it plays: nanoseconds, in decimal.
const LENGTH: &str = "video-length-ns";
/// Equal for fragments whose decoder setup is the same, in decimal.
const SETUP: &str = "video-setup";
/// Where the cluster begins in the data: bytes, in decimal.
const CLUSTER_AT: &str = "video-cluster-at";
/// The metadata of preceding records, on some records: see `summarized_by`.
const SUMMARY: &str = "video-summary";

/// A fragment to store.
#[derive(Debug, Clone, Copy)]
pub(super) struct NewFragment<'a> {
    pub(super) data: &'a [u8],
    pub(super) cluster_at: usize,
    pub(super) producer_time: Timestamp,
    pub(super) length: Duration,
    pub(super) setup: u32,
}

/// The headers of a record.
#[derive(Debug)]
pub(super) struct Fields {
    producer_time: String,
    length: String,
    setup: String,
    cluster_at: String,
    summary: Option<Vec<u8>>,
}

impl Fields {
    pub(super) fn of(fragment: &NewFragment<'_>, summary: Option<Vec<u8>>) -> Self {
        Self {
            producer_time: fragment.producer_time.as_micros().to_string(),
            length: fragment.length.as_nanos().to_string(),
            setup: fragment.setup.to_string(),
            cluster_at: fragment.cluster_at.to_string(),
            summary,
        }
    }

    pub(super) fn add_to<'a>(&'a self, record: PutRecord<'a>) -> PutRecord<'a> {
        let record = record
            .header(PRODUCER_TIME, &self.producer_time)
            .header(LENGTH, &self.length)
            .header(SETUP, &self.setup)
            .header(CLUSTER_AT, &self.cluster_at);
        match &self.summary {
            Some(summary) => record.header(SUMMARY, summary),
            None => record,
        }
    }
}

/// Returns the metadata of a record's fragment, and where the cluster begins in its data.
pub(super) fn read(record: &OwnedRecord) -> Result<(FragmentInfo, usize), VideoError> {
    read_parts(record.sequence, record.timestamp, record.headers(), record.data.len())
}

fn read_parts(
    sequence: SequenceNumber,
    server_time: Timestamp,
    headers: Headers<'_>,
    bytes: usize,
) -> Result<(FragmentInfo, usize), VideoError> {
    let number = |name: &str| -> Result<u64, VideoError> {
        let text = headers.get(name).and_then(|value| std::str::from_utf8(value).ok());
        text.and_then(|text| text.parse().ok()).ok_or_else(|| {
            VideoError::InvalidMedia(
                format!("the record {sequence} of the stream is not a fragment: it has no {name}").into(),
            )
        })
    };
    let info = FragmentInfo {
        number: FragmentNumber::new(sequence),
        producer_time: Timestamp::from_micros(number(PRODUCER_TIME)?),
        server_time,
        length: Duration::from_nanos(number(LENGTH)?),
        bytes: bytes as u64,
        setup: u32::try_from(number(SETUP)?).unwrap_or(u32::MAX),
    };
    let cluster_at = usize::try_from(number(CLUSTER_AT)?).unwrap_or(usize::MAX).min(bytes);
    Ok((info, cluster_at))
}

/// Returns the fragments before this one that the record repeats.
pub(super) fn read_summary(record: &OwnedRecord) -> Option<Vec<FragmentInfo>> {
    record.headers().get(SUMMARY).and_then(summary::decode)
}
