//! What a delivery has done, by Firehose's names.

use std::time::Duration;

use serde::Serialize;

use crate::{Metric, MetricValue};

/// What a delivery has done since its start, and what it does now. [`Delivery::stats`](super::Delivery::stats) returns it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DeliveryStats {
    /// Records that were read.
    pub read_records: u64,
    /// Rows that were delivered: one for each record, unless a step makes several or none.
    pub records: u64,
    /// Objects that were delivered, including those of the error output and of the backup.
    pub objects: u64,
    /// The bytes of these objects.
    pub bytes: u64,
    /// Rows that went to the error output.
    pub failed_records: u64,
    /// Records that were lost before they were read, because retention dropped them or they were damaged.
    pub skipped: u64,
    /// Calls of the function.
    pub function_calls: u64,
    /// How many of these calls failed as a whole.
    pub failed_function_calls: u64,
    /// Objects that were decided before a restart and differ afterwards: the function has returned other results for their records, or retention has
    /// dropped some of them.
    pub changed_objects: u64,
    /// Failed attempts to deliver an object.
    pub errors: u64,
    /// The last error: of an attempt, of the function, or the one that ended the delivery.
    pub last_error: Option<String>,
    /// The memory of buffered rows and of objects in delivery, in bytes.
    pub buffered_bytes: u64,
    /// Objects in delivery.
    pub pending_objects: u64,
    /// Partitions with buffered rows.
    pub active_partitions: u64,
    /// The age of the oldest record that was read and is not delivered, or zero if there is none.
    pub data_freshness: Duration,
}

impl DeliveryStats {
    /// Returns the counts as metrics, with Firehose's names where Firehose has them. Where Firehose has a name for each kind of destination, this
    /// uses one that begins with `Delivery`.
    ///
    /// ```
    /// # use streamlog::{MetricValue, Stream};
    /// # use streamlog::delivery::Directory;
    /// # let directory = tempfile::tempdir()?;
    /// # let stream = Stream::open(directory.path().join("clicks"))?;
    /// let delivery = stream.delivery("archive").to(Directory::new(directory.path().join("archive"))).start()?;
    /// let stats = delivery.stats();
    /// let records = stats.metrics().find(|metric| metric.name == "Delivery.Records").expect("it is there");
    /// assert_eq!(records.value, MetricValue::Total(0));
    /// delivery.close()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn metrics(&self) -> impl Iterator<Item = Metric<'_>> {
        let totals = [
            ("DataReadFromKinesisStream.Records", "Count", self.read_records),
            ("Delivery.Records", "Count", self.records),
            ("Delivery.Objects", "Count", self.objects),
            ("Delivery.Bytes", "Bytes", self.bytes),
            ("Delivery.FailedAttempts", "Count", self.errors),
            ("FailedProcessing.Records", "Count", self.failed_records),
            ("ExecuteProcessing.Calls", "Count", self.function_calls),
            ("ExecuteProcessing.FailedCalls", "Count", self.failed_function_calls),
            ("ChangedObjects", "Count", self.changed_objects),
            ("SkippedRecords", "Count", self.skipped),
        ];
        let freshness = u64::try_from(self.data_freshness.as_millis()).unwrap_or(u64::MAX);
        let levels = [
            ("Delivery.DataFreshness", "Milliseconds", freshness),
            ("Delivery.PendingObjects", "Count", self.pending_objects),
            ("Delivery.BufferedBytes", "Bytes", self.buffered_bytes),
            ("PartitionCount", "Count", self.active_partitions),
        ];
        let totals = totals.into_iter().map(|(name, unit, total)| (name, unit, MetricValue::Total(total)));
        let levels =
            levels.into_iter().map(|(name, unit, level)| (name, unit, MetricValue::Level(Some(level))));
        totals.chain(levels).map(|(name, unit, value)| Metric { name, unit, shard: None, value })
    }
}
