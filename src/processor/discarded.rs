//! What a processor has given up, and where a record of it goes.

use std::fmt;
use std::io::Write;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;

#[cfg(any(feature = "relay-kafka", feature = "relay-kinesis"))]
use super::invocation::Invocation;
use super::origin::Origin;
use super::slice::{Slice, count};
use crate::{PutRecord, Record, Result, ShardId, Stream, Timestamp};
#[cfg(any(feature = "relay-kafka", feature = "relay-kinesis"))]
use crate::{SequenceNumber, extend};

/// Why a processor gave up records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub enum DiscardReason {
    /// The function has failed, and its [`retries`](super::ProcessorOptions::maximum_retry_attempts) are used up.
    RetryAttemptsExhausted,
    /// The records are older than [`maximum_record_age`](super::ProcessorOptions::maximum_record_age).
    RecordAgeExceeded,
    /// The records are late by more than [`allowed_lateness`](super::ProcessorOptions::allowed_lateness): their window has ended.
    AllowedLatenessExceeded,
    /// The function for the [event time](super::ProcessorOptions::event_time) failed, or returned an implausible time.
    EventTimeUnknown,
    /// The target of a relay will never accept the record. The [error](Discarded::error) says why.
    Refused,
}

/// Records that a processor has given up, in the order of their shard. If the processor has several lanes, or windows by event time, other records
/// may lie between them.
#[derive(Debug, Clone)]
pub struct Discarded {
    pub(super) shard: ShardId,
    pub(super) reason: DiscardReason,
    pub(super) error: Option<String>,
    pub(super) attempts: u32,
    pub(super) time: Timestamp,
    pub(super) window: Option<Timestamp>,
    pub(super) slices: Vec<Slice>,
    /// The records come from elsewhere, and carry the sequence numbers that they have there.
    pub(super) is_from_elsewhere: bool,
}

impl Discarded {
    /// Returns the shard of the records.
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    /// Returns why the processor gave them up.
    pub fn reason(&self) -> DiscardReason {
        self.reason
    }

    /// Returns the last error of the function. For records without an event time, returns why the first of them has none. Returns `None` for records
    /// that were too old or late.
    pub fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }

    /// Returns how often the function was called with them.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Returns when the processor gave them up.
    pub fn time(&self) -> Timestamp {
        self.time
    }

    /// Returns the beginning of the window that they belong to, if the processor has windows. For late records, that window has already ended.
    pub fn window_start(&self) -> Option<Timestamp> {
        self.window
    }

    /// Returns the records. There are none if the last call for a window failed.
    pub fn records(&self) -> impl Iterator<Item = Record<'_>> + Clone {
        self.slices.iter().flat_map(Slice::records)
    }

    /// Returns the sequence number of a record, where it comes from.
    fn number_of(&self, record: &Record<'_>) -> String {
        let elsewhere = Origin::of(record).filter(|_| self.is_from_elsewhere);
        elsewhere.map_or_else(|| record.sequence().to_string(), |origin| origin.sequence_number.to_owned())
    }

    /// Returns the invocation record that Lambda writes for a failed batch, with the error added, as JSON without whitespace. It has the position of
    /// the records and not their data.
    ///
    /// ```
    /// # use streamlog::{Destination, Stream};
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// # stream.put("user-17", "clicked")?;
    /// # let (sender, receiver) = std::sync::mpsc::channel();
    /// let processor = stream
    ///     .processor("audit")
    ///     .maximum_retry_attempts(0)
    ///     .on_failure(Destination::function(move |discarded| sender.send(discarded.to_json())))
    ///     .start(|_| Err::<(), _>("out of order"))?;
    /// let line = receiver.recv()?;
    /// assert!(line.contains(r#""condition":"RetryAttemptsExhausted","approximateInvokeCount":1"#));
    /// processor.close()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn to_json(&self) -> String {
        let (mut first, mut last) = (None, None);
        for record in self.records() {
            let place = (self.number_of(&record), record.timestamp());
            first.get_or_insert_with(|| place.clone());
            last = Some(place);
        }
        let report = Report {
            request_context: RequestContext {
                condition: self.reason,
                approximate_invoke_count: self.attempts,
            },
            response_context: self.error.as_deref().map(|error| ResponseContext { function_error: error }),
            version: "1.0",
            timestamp: self.time.to_string(),
            window_start: self.window.map(|start| start.to_string()),
            kinesis_batch_info: BatchInfo {
                shard_id: self.shard.to_string(),
                start_sequence_number: first.as_ref().map(|(number, _)| number.clone()),
                end_sequence_number: last.as_ref().map(|(number, _)| number.clone()),
                approximate_arrival_of_first_record: first.map(|(_, arrival)| arrival.to_string()),
                approximate_arrival_of_last_record: last.map(|(_, arrival)| arrival.to_string()),
                batch_size: count(&self.slices),
            },
        };
        serde_json::to_string(&report).expect("texts and numbers always serialize")
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report<'a> {
    request_context: RequestContext,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_context: Option<ResponseContext<'a>>,
    version: &'static str,
    timestamp: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    window_start: Option<String>,
    #[serde(rename = "KinesisBatchInfo")]
    kinesis_batch_info: BatchInfo,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RequestContext {
    condition: DiscardReason,
    approximate_invoke_count: u32,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResponseContext<'a> {
    function_error: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BatchInfo {
    shard_id: String,
    start_sequence_number: Option<String>,
    end_sequence_number: Option<String>,
    approximate_arrival_of_first_record: Option<String>,
    approximate_arrival_of_last_record: Option<String>,
    batch_size: usize,
}

type Send = dyn Fn(&Discarded) -> std::result::Result<(), String> + std::marker::Send + Sync;

/// Where a processor reports the records that it gives up. It gives them up only after the report is written. If writing fails, it tries again, and
/// the lane waits.
///
/// ```
/// # use std::fs::File;
/// # use streamlog::{Destination, Stream};
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path().join("clicks"))?;
/// # let path = directory.path().join("failed.jsonl");
/// let failed = File::options().append(true).create(true).open(path)?;
/// let processor = stream.processor("audit").maximum_retry_attempts(3).on_failure(Destination::lines(failed)).start(|_| ())?;
/// processor.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Destination {
    send: Arc<Send>,
}

impl fmt::Debug for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Destination")
    }
}

impl Destination {
    /// A function of the caller.
    pub fn function<E: fmt::Display>(
        send: impl Fn(&Discarded) -> std::result::Result<(), E> + std::marker::Send + Sync + 'static,
    ) -> Self {
        Self { send: Arc::new(move |discarded| send(discarded).map_err(|error| error.to_string())) }
    }

    /// A file or another writer. Each batch becomes a [line of JSON](Discarded::to_json), which is written in one piece and flushed.
    pub fn lines(writer: impl Write + std::marker::Send + 'static) -> Self {
        let writer = Mutex::new(writer);
        Self::function(move |discarded| {
            let line = discarded.to_json() + "\n";
            let mut writer = writer.lock();
            writer.write_all(line.as_bytes()).and_then(|()| writer.flush())
        })
    }

    /// Another stream. It gets the records with their keys, data and headers, and with the additional headers `discard-reason`, `discard-error`,
    /// `discard-shard` and `discard-sequence`, so that you can inspect them and put them back.
    pub fn stream(stream: &Stream) -> Self {
        let stream = stream.clone();
        Self::function(move |discarded| {
            discarded.records().try_for_each(|record| put_aside(&stream, discarded, &record))
        })
    }

    pub(super) fn send(&self, discarded: &Discarded) -> std::result::Result<(), String> {
        (self.send)(discarded)
    }

    /// Sends a record that a layer above gives up by itself, while it handles the others of the batch. The record must be in the batch.
    ///
    /// # Errors
    /// That of the destination, or that it has panicked.
    #[cfg(any(feature = "relay-kafka", feature = "relay-kinesis"))]
    pub(crate) fn send_refused(
        &self,
        invocation: &Invocation,
        sequence: SequenceNumber,
        error: &str,
        time: Timestamp,
    ) -> std::result::Result<(), String> {
        let slices = invocation.slices.iter().filter_map(|slice| slice.find(sequence)).collect();
        let discarded = Discarded {
            shard: invocation.shard,
            reason: DiscardReason::Refused,
            error: Some(error.to_owned()),
            attempts: invocation.attempt,
            time,
            window: None,
            slices,
            is_from_elsewhere: false,
        };
        let sent = extend::run_callback(|| self.send(&discarded));
        sent.unwrap_or_else(|| Err("the destination has panicked".to_owned()))
    }
}

fn put_aside(stream: &Stream, discarded: &Discarded, record: &Record<'_>) -> Result<()> {
    let reason = format!("{:?}", discarded.reason);
    let error: String =
        discarded.error.as_deref().unwrap_or_default().chars().take(ERROR_CHARS_MAX).collect();
    let (shard, sequence) = (discarded.shard.to_string(), discarded.number_of(record));
    let mut put = PutRecord::new(record.partition_key(), record.data());
    // If they have been set aside before, it is the last time that counts.
    for (name, value) in record.headers().filter(|(name, _)| !name.starts_with("discard-")) {
        put = put.header(name, value);
    }
    put = put.header("discard-reason", reason.as_bytes()).header("discard-error", error.as_bytes());
    put = put.header("discard-shard", shard.as_bytes()).header("discard-sequence", sequence.as_bytes());
    stream.put_record(&put).map(drop)
}

/// A longer text of an error is cut.
const ERROR_CHARS_MAX: usize = 500;
