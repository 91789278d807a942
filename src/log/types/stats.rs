//! The counts of a stream, under their own names and under those of Amazon CloudWatch.

use std::ops::AddAssign;

use super::latency::Latency;
use super::sequence::SequenceNumber;
use super::shard_id::ShardId;

/// The stream's counts at one moment. [`StreamReader::stats`](crate::StreamReader::stats) returns it.
///
/// ```
/// # use streamlog::Stream;
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path())?;
/// stream.put("user-17", "clicked")?;
/// let stats = stream.stats()?;
/// assert_eq!(stats.record_count(), 1);
/// assert!(stats.disk_bytes() > 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct StreamStats {
    /// One entry for each shard that has not expired, in the order of creation.
    pub shards: Vec<ShardStats>,
    /// The traffic of shards that have expired since the stream was opened.
    pub expired: Traffic,
    /// The outcomes and times of puts; `None` without the cargo feature `metrics`, because timing costs each put something.
    pub puts: Option<PutStats>,
}

impl StreamStats {
    /// Returns the number of records that can be read.
    pub fn record_count(&self) -> u64 {
        self.shards.iter().map(ShardStats::record_count).sum()
    }

    /// Returns the bytes that all segment files take on disk.
    pub fn disk_bytes(&self) -> u64 {
        self.shards.iter().map(|shard| shard.disk_bytes).sum()
    }

    /// Returns the traffic of all shards since the stream was opened, including expired ones.
    pub fn traffic(&self) -> Traffic {
        let mut all = self.expired;
        self.shards.iter().for_each(|shard| all += shard.traffic);
        all
    }

    /// Returns the age, in milliseconds, of the oldest record that one of the iterators has not read yet; see
    /// [`ShardStats::iterator_age_ms`].
    pub fn iterator_age_ms(&self) -> Option<u64> {
        self.shards.iter().filter_map(|shard| shard.iterator_age_ms).max()
    }

    /// Returns every count with a CloudWatch name, under that name and in its unit: first those of the stream, then those of each shard. A
    /// loop over them can feed any metrics collector.
    ///
    /// | names | unit | of |
    /// |---|---|---|
    /// | `IncomingRecords`, `IncomingBytes` | Count, Bytes | stream, shard |
    /// | `WriteProvisionedThroughputExceeded`, `ReadProvisionedThroughputExceeded` | Count | stream, shard |
    /// | `GetRecords.Records`, `GetRecords.Bytes`, `GetRecords.IteratorAgeMilliseconds` | Count, Bytes, Milliseconds | stream |
    /// | `OutgoingRecords`, `OutgoingBytes`, `IteratorAgeMilliseconds` | the same of a shard | shard |
    /// | `PutRecord.Latency`, `PutRecords.Latency` | Milliseconds | stream, with the feature `metrics` |
    /// | `PutRecords.Success`, `.TotalRecords`, `.SuccessfulRecords`, `.FailedRecords`, `.ThrottledRecords` | Count | stream, with the feature `metrics` |
    /// | `PutRecord.FailedRecords`, which CloudWatch does not have | Count | stream, with the feature `metrics` |
    ///
    /// What the stream's [limits](crate::Limits) refuse counts as throttled, and not as failed.
    ///
    /// ```
    /// # use streamlog::{MetricValue, Stream};
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path())?;
    /// stream.put("user-17", "clicked")?;
    /// for metric in stream.stats()?.metrics() {
    ///     if let (None, MetricValue::Total(total)) = (metric.shard, metric.value) {
    ///         println!("{} {total} {}", metric.name, metric.unit);
    ///     }
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn metrics(&self) -> impl Iterator<Item = Metric<'_>> {
        let all = self.traffic();
        let of_stream = [
            ("IncomingRecords", COUNT, MetricValue::Total(all.incoming_records)),
            ("IncomingBytes", BYTES, MetricValue::Total(all.incoming_bytes)),
            (WRITE_THROTTLED, COUNT, MetricValue::Total(all.write_throttled_records)),
            (READ_THROTTLED, COUNT, MetricValue::Total(all.read_throttled_calls)),
            ("GetRecords.Records", COUNT, MetricValue::Total(all.outgoing_records)),
            ("GetRecords.Bytes", BYTES, MetricValue::Total(all.outgoing_bytes)),
            ("GetRecords.IteratorAgeMilliseconds", MILLISECONDS, MetricValue::Level(self.iterator_age_ms())),
        ];
        let of_stream = of_stream.into_iter().chain(self.puts.iter().flat_map(PutStats::metrics));
        let of_stream = of_stream.map(|(name, unit, value)| Metric { name, unit, shard: None, value });
        of_stream.chain(self.shards.iter().flat_map(ShardStats::metrics))
    }
}

/// A shard's counts at one moment.
///
/// ```
/// # use streamlog::Stream;
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path())?;
/// stream.put("user-17", "clicked")?;
/// stream.sync()?;
/// let shard = &stream.stats()?.shards[0];
/// assert_eq!(shard.synced_sequence, shard.next_sequence, "all of it survives power loss");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct ShardStats {
    /// The shard.
    pub shard: ShardId,
    /// The oldest sequence number that can be read.
    pub horizon: SequenceNumber,
    /// The number that the next record will have.
    pub next_sequence: SequenceNumber,
    /// All records below this number survive power loss.
    pub synced_sequence: SequenceNumber,
    /// The number of the shard's segment files.
    pub segment_count: usize,
    /// The bytes that its segment files take on disk.
    pub disk_bytes: u64,
    /// The records and bytes put and read since the stream was opened.
    pub traffic: Traffic,
    /// The age, in milliseconds, of the oldest record that one of the shard's iterators has not read yet: at least 1, 0 if all of them are
    /// at the end, `None` if there are no iterators or that record is damaged. CloudWatch: `IteratorAgeMilliseconds`, which is the age of
    /// the last record that was read and is missing while nobody reads. Here it also grows while an iterator is idle.
    pub iterator_age_ms: Option<u64>,
}

impl ShardStats {
    /// Returns the number of records that can be read.
    pub fn record_count(&self) -> u64 {
        self.next_sequence.get() - self.horizon.get()
    }

    fn metrics(&self) -> impl Iterator<Item = Metric<'_>> {
        let of = &self.traffic;
        let metrics = [
            ("IncomingRecords", COUNT, MetricValue::Total(of.incoming_records)),
            ("IncomingBytes", BYTES, MetricValue::Total(of.incoming_bytes)),
            ("OutgoingRecords", COUNT, MetricValue::Total(of.outgoing_records)),
            ("OutgoingBytes", BYTES, MetricValue::Total(of.outgoing_bytes)),
            (WRITE_THROTTLED, COUNT, MetricValue::Total(of.write_throttled_records)),
            (READ_THROTTLED, COUNT, MetricValue::Total(of.read_throttled_calls)),
            ("IteratorAgeMilliseconds", MILLISECONDS, MetricValue::Level(self.iterator_age_ms)),
        ];
        let shard = Some(self.shard);
        metrics.into_iter().map(move |(name, unit, value)| Metric { name, unit, shard, value })
    }
}

/// The records and bytes put and read since the stream was opened.
///
/// Bytes are those of the log: keys, data and headers, 8 more bytes for each record, and 32 to 39 more for each put or each shard's part of
/// a batch. So a reader that reads everything once has read as many bytes as were put.
///
/// ```
/// # use streamlog::Stream;
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path())?;
/// stream.put("user-17", "clicked")?;
/// let traffic = stream.stats()?.traffic();
/// assert_eq!((traffic.incoming_records, traffic.outgoing_records), (1, 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Traffic {
    /// The records put. CloudWatch: `IncomingRecords` (Count).
    pub incoming_records: u64,
    /// The bytes put, before compression. CloudWatch: `IncomingBytes` (Bytes).
    pub incoming_bytes: u64,
    /// The bytes that they take in the log. Less than `incoming_bytes` if the stream compresses.
    pub incoming_stored_bytes: u64,
    /// The records that iterators returned. CloudWatch: `OutgoingRecords`, and for the stream `GetRecords.Records` (Count).
    pub outgoing_records: u64,
    /// The bytes that iterators returned, before compression. If a frame is read in parts, its bytes count with the last part. CloudWatch:
    /// `OutgoingBytes`, and for the stream `GetRecords.Bytes` (Bytes).
    pub outgoing_bytes: u64,
    /// The records that the stream's [limits](crate::Limits) rejected: each attempt counts. CloudWatch:
    /// `WriteProvisionedThroughputExceeded` (Count).
    pub write_throttled_records: u64,
    /// The calls to read that failed because of the stream's limits. CloudWatch: `ReadProvisionedThroughputExceeded` (Count).
    pub read_throttled_calls: u64,
}

impl AddAssign for Traffic {
    fn add_assign(&mut self, more: Self) {
        self.incoming_records += more.incoming_records;
        self.incoming_bytes += more.incoming_bytes;
        self.incoming_stored_bytes += more.incoming_stored_bytes;
        self.outgoing_records += more.outgoing_records;
        self.outgoing_bytes += more.outgoing_bytes;
        self.write_throttled_records += more.write_throttled_records;
        self.read_throttled_calls += more.read_throttled_calls;
    }
}

/// The outcomes and times of calls to put since the stream was opened. A call that was refused for its arguments does not count.
///
/// ```
/// # use streamlog::Stream;
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path())?;
/// stream.put("user-17", "clicked")?;
/// // `None` without the cargo feature `metrics`.
/// if let Some(puts) = stream.stats()?.puts {
///     println!("99 % of puts took at most {:?}; {} failed", puts.put_latency.quantile(0.99), puts.put_failed);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct PutStats {
    /// How long [`put`](crate::Stream::put) took: every 64th call of each thread, or every call under
    /// [`Durability::Power`](crate::Durability::Power). CloudWatch: `PutRecord.Latency` (Milliseconds).
    pub put_latency: Latency,
    /// The calls to `put` that failed, except for throttled ones. CloudWatch has no such count; here it is `PutRecord.FailedRecords` (Count).
    pub put_failed: u64,
    /// How long [`put_batch`](crate::Stream::put_batch) took, sampled like `put_latency`. CloudWatch: `PutRecords.Latency` (Milliseconds).
    pub batch_latency: Latency,
    /// The calls to `put_batch` that put at least one record. CloudWatch: `PutRecords.Success` (Count).
    pub batch_success: u64,
    /// The records given to `put_batch` that were put. CloudWatch: `PutRecords.SuccessfulRecords` (Count).
    pub batch_records: u64,
    /// The records given to `put_batch` that were not put, except for throttled ones. CloudWatch: `PutRecords.FailedRecords` (Count).
    pub batch_records_failed: u64,
    /// The records given to `put_batch` that were throttled. CloudWatch: `PutRecords.ThrottledRecords` (Count).
    pub batch_records_throttled: u64,
}

impl PutStats {
    fn metrics(&self) -> impl Iterator<Item = (&'static str, &'static str, MetricValue<'_>)> {
        let total = self.batch_records + self.batch_records_failed + self.batch_records_throttled;
        [
            ("PutRecord.Latency", MILLISECONDS, MetricValue::Times(&self.put_latency)),
            ("PutRecord.FailedRecords", COUNT, MetricValue::Total(self.put_failed)),
            ("PutRecords.Latency", MILLISECONDS, MetricValue::Times(&self.batch_latency)),
            ("PutRecords.Success", COUNT, MetricValue::Total(self.batch_success)),
            ("PutRecords.TotalRecords", COUNT, MetricValue::Total(total)),
            ("PutRecords.SuccessfulRecords", COUNT, MetricValue::Total(self.batch_records)),
            ("PutRecords.FailedRecords", COUNT, MetricValue::Total(self.batch_records_failed)),
            ("PutRecords.ThrottledRecords", COUNT, MetricValue::Total(self.batch_records_throttled)),
        ]
        .into_iter()
    }
}

const WRITE_THROTTLED: &str = "WriteProvisionedThroughputExceeded";
const READ_THROTTLED: &str = "ReadProvisionedThroughputExceeded";

const COUNT: &str = "Count";
const BYTES: &str = "Bytes";
const MILLISECONDS: &str = "Milliseconds";

/// One count, under its CloudWatch name. [`StreamStats::metrics`] returns it.
///
/// ```
/// # use streamlog::Stream;
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path())?;
/// stream.put("user-17", "clicked")?;
/// let stats = stream.stats()?;
/// let of_stream = stats.metrics().find(|metric| metric.name == "IncomingRecords" && metric.shard.is_none());
/// assert_eq!(of_stream.expect("it is there").unit, "Count");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metric<'a> {
    /// The name, such as `IncomingRecords`.
    pub name: &'static str,
    /// The unit: `Count`, `Bytes` or `Milliseconds`.
    pub unit: &'static str,
    /// The shard, or `None` for the whole stream.
    pub shard: Option<ShardId>,
    /// The value.
    pub value: MetricValue<'a>,
}

/// A count's kind, which determines how to collect it, and its value.
///
/// ```
/// # use streamlog::{MetricValue, Stream};
/// # let directory = tempfile::tempdir()?;
/// # let stream = Stream::open(directory.path())?;
/// for metric in stream.stats()?.metrics() {
///     match metric.value {
///         MetricValue::Total(total) => println!("{} {total}", metric.name),
///         MetricValue::Level(Some(level)) => println!("{} {level}", metric.name),
///         MetricValue::Times(latency) => println!("{} {:?}", metric.name, latency.quantile(0.99)),
///         _ => {}
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum MetricValue<'a> {
    /// The total since the stream was opened. It never falls while the stream is open.
    Total(u64),
    /// The current value, if there is one now.
    Level(Option<u64>),
    /// How long calls took since the stream was opened.
    Times(&'a Latency),
}
