//! Reads a stream of Amazon Kinesis: lists its shards, and reads one of them.
//!
//! **A shard whose iterator expired** continues at the last record that was read: with that record itself, which is then left out. If the shard no
//! longer begins with it, records may have been trimmed before they were read, and the batch says so.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_sdk_kinesis::config::Builder;
use aws_sdk_kinesis::config::retry::RetryConfig;
use aws_sdk_kinesis::config::timeout::TimeoutConfig;
use aws_sdk_kinesis::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_kinesis::primitives::DateTime;
use aws_sdk_kinesis::types::{Record, Shard, ShardFilter, ShardFilterType, ShardIteratorType};
use tokio::sync::watch;

use super::client::KinesisClient;
use super::failure::{Failure, Remedy};
use crate::Timestamp;

/// Kinesis allows five reads of a shard per second.
pub(in crate::relay) const READ_INTERVAL: Duration = Duration::from_millis(200);
/// The most records that one request returns.
pub(in crate::relay) const READ_RECORDS_MAX: usize = 10_000;
/// The pause after a failure, and the longest pause after several failures in a row.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));
/// A request that takes longer has failed. A batch has up to 10 MiB.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A stream of Kinesis, to be read.
#[derive(Debug, Clone)]
pub(in crate::relay) struct RemoteStream {
    client: KinesisClient,
    name: String,
    /// Whether requests end immediately.
    is_interrupted: Arc<watch::Sender<bool>>,
}

/// A shard of a stream of Kinesis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::relay) struct RemoteShard {
    pub(in crate::relay) id: String,
    /// None, the shard that was split, or the two that were merged. They may have expired.
    pub(in crate::relay) parents: Vec<String>,
    /// The least and the greatest hash key, as decimal text.
    pub(in crate::relay) hash_range: (String, String),
    pub(in crate::relay) starting_sequence_number: String,
    /// None while the shard is open.
    pub(in crate::relay) ending_sequence_number: Option<String>,
}

impl RemoteShard {
    pub(in crate::relay) fn is_open(&self) -> bool {
        self.ending_sequence_number.is_none()
    }
}

/// The summary of a stream of Kinesis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::relay) struct RemoteSummary {
    /// How long it keeps records.
    pub(in crate::relay) retention: Duration,
    /// Distinguishes it from an earlier stream of the same name.
    pub(in crate::relay) created_at: Timestamp,
}

/// From where a shard is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::relay) enum ReadFrom {
    /// From the oldest record.
    TrimHorizon,
    /// From after the newest record at the time of the first request. If that request must be repeated before a record came, from this time on.
    Latest(Timestamp),
    /// From the first record that arrived at this time or later.
    AtTimestamp(Timestamp),
    /// From the record with this number.
    At(String),
    /// From after the record with this number, which was read before.
    After(String),
}

/// A record of a shard of Kinesis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::relay) struct RemoteRecord {
    pub(in crate::relay) partition_key: String,
    pub(in crate::relay) data: Vec<u8>,
    /// Decimal text. Numbers increase within a shard.
    pub(in crate::relay) sequence_number: String,
    pub(in crate::relay) arrived: Option<Timestamp>,
}

/// The result of one read request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::relay) struct RemoteBatch {
    /// May be empty although there are more.
    pub(in crate::relay) records: Vec<RemoteRecord>,
    /// Zero if there are no more at present.
    pub(in crate::relay) millis_behind_latest: u64,
    /// The shard was closed, and has been read to its end.
    pub(in crate::relay) is_end: bool,
    /// At its end, the ids of its children, each with its parents. Some servers leave them out: then they are in the list of shards.
    pub(in crate::relay) children: Vec<(String, Vec<String>)>,
    /// The record that was read last is no longer there, so others that came after it may have been trimmed before they were read.
    pub(in crate::relay) has_gap: bool,
}

impl RemoteStream {
    /// A stream by its name or its ARN.
    pub(in crate::relay) fn new(client: KinesisClient, name: impl Into<String>) -> Self {
        Self { client, name: name.into(), is_interrupted: Arc::new(watch::Sender::new(false)) }
    }

    /// Ends all requests of this stream and of its readers, and those that are sent later.
    pub(in crate::relay) fn interrupt(&self) {
        self.is_interrupted.send_replace(true);
    }

    fn run<T, E>(
        &self,
        operation: &str,
        send: impl Future<Output = Result<T, SdkError<E>>> + Send + 'static,
    ) -> Result<T, Failure>
    where
        T: Send + 'static,
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        let mut is_interrupted = self.is_interrupted.subscribe();
        let answer = self.client.run(async move {
            tokio::select! {
                answer = send => Some(answer),
                _ = is_interrupted.wait_for(|&is| is) => None,
            }
        });
        if let Some(None) = answer {
            return Err(Failure::new(Remedy::Retry, format!("{operation} was interrupted")));
        }
        Failure::check(operation, answer.flatten())
    }

    pub(in crate::relay) fn name(&self) -> &str {
        &self.name
    }

    fn name_and_arn(&self) -> (Option<String>, Option<String>) {
        let name = Some(self.name.clone());
        if self.name.starts_with("arn:") { (None, name) } else { (name, None) }
    }

    /// Lists all shards that have not expired, in the order of their creation, page by page.
    pub(in crate::relay) fn list_shards(&self) -> Result<Vec<RemoteShard>, Failure> {
        let (mut shards, mut token) = (vec![], None);
        loop {
            let (name, arn) = self.name_and_arn();
            let request = self.client.kinesis.list_shards();
            let request = match token.take() {
                Some(token) => request.next_token(token),
                None => request.set_stream_name(name).set_stream_arn(arn),
            };
            let send = request.customize().config_override(overrides()).send();
            let answer = self.run("ListShards", send)?;
            token = answer.next_token;
            shards.extend(answer.shards.unwrap_or_default().into_iter().map(remote_shard));
            if token.is_none() {
                return Ok(shards);
            }
        }
    }

    /// Returns the ids of the shards that were open at a time.
    pub(in crate::relay) fn shards_at(&self, time: Timestamp) -> Result<Vec<String>, Failure> {
        let filter =
            ShardFilter::builder().r#type(ShardFilterType::AtTimestamp).timestamp(date_time(time)).build();
        let filter = filter.map_err(|error| Failure::new(Remedy::Refused, error.to_string()))?;
        let (mut ids, mut token) = (vec![], None);
        loop {
            let (name, arn) = self.name_and_arn();
            let request = self.client.kinesis.list_shards();
            let request = match token.take() {
                Some(token) => request.next_token(token),
                None => request.set_stream_name(name).set_stream_arn(arn).shard_filter(filter.clone()),
            };
            let send = request.customize().config_override(overrides()).send();
            let answer = self.run("ListShards", send)?;
            token = answer.next_token;
            ids.extend(answer.shards.unwrap_or_default().into_iter().map(|shard| shard.shard_id));
            if token.is_none() {
                return Ok(ids);
            }
        }
    }

    /// Returns the summary of a stream.
    pub(in crate::relay) fn summary(&self) -> Result<RemoteSummary, Failure> {
        let (name, arn) = self.name_and_arn();
        let request = self.client.kinesis.describe_stream_summary().set_stream_name(name).set_stream_arn(arn);
        let send = request.customize().config_override(overrides()).send();
        let answer = self.run("DescribeStreamSummary", send)?;
        let summary = answer.stream_description_summary.ok_or_else(|| {
            Failure::new(Remedy::Retry, "DescribeStreamSummary failed: the answer has no description")
        })?;
        let hours = u64::from(summary.retention_period_hours.unsigned_abs());
        let created = summary.stream_creation_timestamp;
        Ok(RemoteSummary {
            retention: Duration::from_secs(hours * 60 * 60),
            created_at: Timestamp::from_millis(u64::try_from(created.to_millis().unwrap_or(0)).unwrap_or(0)),
        })
    }

    /// Returns a reader of one shard. It sends nothing yet.
    pub(in crate::relay) fn reader(&self, shard: impl Into<String>, from: ReadFrom) -> RemoteShardReader {
        RemoteShardReader {
            stream: self.clone(),
            shard: shard.into(),
            from,
            iterator: None,
            last_to_come: None,
            is_ended: false,
            next_at: Instant::now(),
            failures: 0,
            requests: 0,
        }
    }
}

/// Reads one shard. It never sleeps: [`wait`](Self::wait) says how long to wait before the next [`read`](Self::read).
#[derive(Debug)]
pub(in crate::relay) struct RemoteShardReader {
    stream: RemoteStream,
    shard: String,
    from: ReadFrom,
    iterator: Option<String>,
    /// The record that was read last, until the iterator that begins with it has passed it.
    last_to_come: Option<String>,
    is_ended: bool,
    next_at: Instant,
    failures: u32,
    requests: u64,
}

impl RemoteShardReader {
    /// Returns how many requests it has sent.
    pub(in crate::relay) fn requests(&self) -> u64 {
        self.requests
    }

    /// Returns how long to wait before the next read, for the sake of Kinesis' limits and, after failures, of the other side.
    pub(in crate::relay) fn wait(&self) -> Duration {
        self.next_at.saturating_duration_since(Instant::now())
    }

    /// Makes the next read check whether the record that was read last is still there. If not, its batch [has a gap](RemoteBatch::has_gap).
    pub(in crate::relay) fn check_for_gap(&mut self) {
        if matches!(self.from, ReadFrom::After(_)) && !self.is_ended {
            self.iterator = None;
        }
    }

    /// Reads up to this many records with one request, or with three if the iterator has expired.
    ///
    /// After a failure, the same call continues at the same place.
    pub(in crate::relay) fn read(&mut self, records_max: usize) -> Result<RemoteBatch, Failure> {
        if self.is_ended {
            return Ok(RemoteBatch { is_end: true, ..RemoteBatch::default() });
        }
        let begin = Instant::now();
        let outcome = self.request(records_max);
        match &outcome {
            Ok(_) => {
                self.failures = 0;
                self.next_at = begin + READ_INTERVAL;
            }
            Err(_) => {
                let factor = 1 << self.failures.min(10);
                self.failures += 1;
                self.next_at = Instant::now() + (BACK_OFF.0 * factor).min(BACK_OFF.1);
            }
        }
        outcome
    }

    fn request(&mut self, records_max: usize) -> Result<RemoteBatch, Failure> {
        let iterator = match &self.iterator {
            Some(iterator) => iterator.clone(),
            None => self.new_iterator()?,
        };
        match self.get_records(iterator, records_max) {
            Err(failure) if failure.remedy == Remedy::Renew => {
                let iterator = self.new_iterator()?;
                self.get_records(iterator, records_max)
            }
            outcome => outcome,
        }
    }

    fn new_iterator(&mut self) -> Result<String, Failure> {
        let (stream_name, stream_arn) = self.stream.name_and_arn();
        let request = self.stream.client.kinesis.get_shard_iterator();
        let request =
            request.set_stream_name(stream_name).set_stream_arn(stream_arn).shard_id(self.shard.clone());
        let request = match self.from.clone() {
            ReadFrom::TrimHorizon => request.shard_iterator_type(ShardIteratorType::TrimHorizon),
            ReadFrom::Latest(since) => {
                // Records count from now on, even if this iterator expires before there is one.
                self.from = ReadFrom::AtTimestamp(since);
                request.shard_iterator_type(ShardIteratorType::Latest)
            }
            ReadFrom::AtTimestamp(time) => {
                request.shard_iterator_type(ShardIteratorType::AtTimestamp).timestamp(date_time(time))
            }
            ReadFrom::At(number) | ReadFrom::After(number) => request
                .shard_iterator_type(ShardIteratorType::AtSequenceNumber)
                .starting_sequence_number(number),
        };
        self.requests += 1;
        let send = request.customize().config_override(overrides()).send();
        let answer = self.stream.run("GetShardIterator", send)?;
        let iterator = answer.shard_iterator.ok_or_else(|| {
            Failure::new(Remedy::Retry, "GetShardIterator failed: the answer has no iterator")
        })?;
        self.last_to_come = match &self.from {
            ReadFrom::After(number) => Some(number.clone()),
            _ => None,
        };
        self.iterator = Some(iterator.clone());
        Ok(iterator)
    }

    fn get_records(&mut self, iterator: String, records_max: usize) -> Result<RemoteBatch, Failure> {
        // One more, because one record is left out.
        let limit = (records_max + usize::from(self.last_to_come.is_some())).clamp(1, READ_RECORDS_MAX);
        let request = self.stream.client.kinesis.get_records().shard_iterator(iterator).limit(limit as i32);
        self.requests += 1;
        let send = request.customize().config_override(overrides()).send();
        let answer = self.stream.run("GetRecords", send)?;
        let mut batch = RemoteBatch {
            records: answer.records.into_iter().map(remote_record).collect(),
            millis_behind_latest: answer.millis_behind_latest.unwrap_or(0).unsigned_abs(),
            is_end: answer.next_shard_iterator.is_none(),
            children: answer.child_shards.unwrap_or_default().into_iter().map(child).collect(),
            has_gap: false,
        };
        self.leave_out_last(&mut batch);
        if let Some(last) = batch.records.last() {
            self.from = ReadFrom::After(last.sequence_number.clone());
        }
        self.is_ended = batch.is_end;
        self.iterator = answer.next_shard_iterator;
        Ok(batch)
    }

    /// Leaves out the record that was read last, with which a renewed iterator begins, or notes that it is gone.
    fn leave_out_last(&mut self, batch: &mut RemoteBatch) {
        let Some(last) = &self.last_to_come else {
            return;
        };
        if let Some(first) = batch.records.first() {
            if first.sequence_number == *last {
                batch.records.remove(0);
            } else {
                batch.has_gap = true;
            }
        } else if batch.is_end || batch.millis_behind_latest == 0 {
            batch.has_gap = true;
        } else {
            // There is more to come.
            return;
        }
        self.last_to_come = None;
    }
}

/// Overrides the client's settings: requests are not retried without the caller's knowledge, and have a timeout.
fn overrides() -> Builder {
    let timeout = TimeoutConfig::builder().operation_timeout(TIMEOUT).build();
    Builder::new().retry_config(RetryConfig::disabled()).timeout_config(timeout)
}

fn remote_shard(shard: Shard) -> RemoteShard {
    let (starting, ending) = shard
        .sequence_number_range
        .map(|range| (range.starting_sequence_number, range.ending_sequence_number))
        .unwrap_or_default();
    let parents = [shard.parent_shard_id, shard.adjacent_parent_shard_id];
    RemoteShard {
        id: shard.shard_id,
        parents: parents.into_iter().flatten().collect(),
        hash_range: shard
            .hash_key_range
            .map(|range| (range.starting_hash_key, range.ending_hash_key))
            .unwrap_or_default(),
        starting_sequence_number: starting,
        ending_sequence_number: ending,
    }
}

fn child(child: aws_sdk_kinesis::types::ChildShard) -> (String, Vec<String>) {
    (child.shard_id, child.parent_shards)
}

fn remote_record(record: Record) -> RemoteRecord {
    let arrived = record.approximate_arrival_timestamp.and_then(|time| u64::try_from(time.as_nanos()).ok());
    RemoteRecord {
        partition_key: record.partition_key,
        data: record.data.into_inner(),
        sequence_number: record.sequence_number,
        arrived: arrived.map(|nanos| Timestamp::from_micros(nanos / 1_000)),
    }
}

fn date_time(time: Timestamp) -> DateTime {
    // Kinesis counts in milliseconds.
    DateTime::from_millis(i64::try_from(time.as_millis()).unwrap_or(i64::MAX))
}
