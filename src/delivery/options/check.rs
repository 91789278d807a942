//! The settings of a delivery, checked, and what is opened with them.

use std::sync::Arc;
use std::time::Duration;

use super::{DELIVERY_FAILED, DeliveryOptions, TRANSFORM_TIMEOUT_MAX, To, invalid};
use crate::delivery::core::Bounds;
use crate::delivery::function::Function;
use crate::delivery::job::Sinks;
use crate::delivery::lane::Gathering;
use crate::delivery::plan::{Plan, Rules};
use crate::delivery::sink::Sink;
use crate::delivery::stream_sink;
use crate::extend::check_range;
use crate::{Group, MINUTE, OnTrimmed, Result, StreamReader, WorkerOptions};

const BUFFER_BYTES_MAX: usize = 128 << 20;
const BUFFER_INTERVAL_MAX: Duration = Duration::from_secs(900);
const CONCURRENCY_MAX: usize = 64;
const PARTITIONS_MAX: usize = 10_000;
const BATCH_BYTES: usize = 1 << 20;
/// Decompressed records may be a thousand times as large.
const BATCH_BYTES_COMPRESSED: usize = 64 << 10;
/// Lambda's bounds, and Firehose's defaults.
const TRANSFORM_BYTES_MAX: usize = 3 << 20;
const TRANSFORM_BYTES: usize = 1 << 20;
const TRANSFORM_INTERVAL: Duration = MINUTE;
/// Firehose's default for endpoints.
const ENDPOINT_RETRY_DURATION: Duration = Duration::from_secs(300);

impl DeliveryOptions {
    /// Checks the settings.
    pub(in crate::delivery) fn check(&self) -> Result<(Arc<Rules>, Bounds)> {
        let limits = self.bounds.limits;
        check_range("buffer_bytes", limits.buffer_bytes, 1..=BUFFER_BYTES_MAX)?;
        check_range("active_partitions_max", self.bounds.partitions_max, 1..=PARTITIONS_MAX)?;
        check_range("concurrency", self.concurrency, 1..=CONCURRENCY_MAX)?;
        if limits.buffer_interval > BUFFER_INTERVAL_MAX {
            return Err(invalid("buffer_interval is out of range: up to 15 minutes"));
        }
        let gathering = self.gathering();
        check_range("the bytes of transform_buffer", gathering.bytes, 1..=TRANSFORM_BYTES_MAX)?;
        if gathering.interval > BUFFER_INTERVAL_MAX {
            return Err(invalid("the interval of transform_buffer is out of range: up to 15 minutes"));
        }
        if self.transform_timeout.is_zero() || self.transform_timeout > TRANSFORM_TIMEOUT_MAX {
            return Err(invalid("transform_timeout is out of range: more than nothing, up to 5 minutes"));
        }
        let rules = Rules::new(self.plan.clone()).map_err(invalid)?;
        let mut bounds = self.bounds.clone();
        bounds.has_function = self.function.is_some();
        let (wants_rows, error_type) = match &self.sink {
            None => return Err(invalid("a delivery needs a sink: call to()")),
            Some(To::Sink(sink)) => (sink.wants_rows(), sink.error_output_type()),
            Some(To::Stream(_)) if !self.plan.keys.is_empty() => {
                return Err(invalid("a stream takes no partitions: leave the partition keys out"));
            }
            Some(To::Stream(_)) => {
                bounds.is_to_stream = true;
                (true, Some(stream_sink::FAILED))
            }
        };
        if wants_rows && !self.plan.format.has_rows() {
            return Err(invalid(
                "an endpoint takes rows one by one, which Parquet does not have: choose another format",
            ));
        }
        if error_type.is_some() && self.error_sink.is_none() {
            return Err(invalid("an endpoint needs a sink for what it does not take: call errors_to()"));
        }
        if error_type.is_some() && self.plan.manifests.is_some() {
            return Err(invalid("manifests are for objects that stay, and an endpoint has none"));
        }
        bounds.retries.duration = match self.retry_duration {
            Some(duration) => duration,
            None => error_type.filter(|_| !bounds.is_to_stream).map(|_| ENDPOINT_RETRY_DURATION),
        };
        bounds.retries.error_output_type = error_type.unwrap_or(DELIVERY_FAILED);
        Ok((Arc::new(rules), bounds))
    }

    /// Returns the rules with a schema that was taken from the first records.
    pub(in crate::delivery) fn check_with_schema(&self, schema: &str) -> Result<Arc<Rules>> {
        let format = self.plan.format.with_schema(schema).map_err(invalid)?;
        Ok(Arc::new(Rules::new(Plan { format, ..self.plan.clone() }).map_err(invalid)?))
    }

    /// Returns when a call of the function is due.
    pub(in crate::delivery) fn gathering(&self) -> Gathering {
        let is_remote = matches!(self.function, Some(Function::Http(_)));
        let interval = if is_remote { TRANSFORM_INTERVAL } else { Duration::ZERO };
        self.transform_buffer.unwrap_or(Gathering { bytes: TRANSFORM_BYTES, interval })
    }

    /// Opens the sinks that are not open yet.
    pub(in crate::delivery) fn open_sinks(&self, stream: &StreamReader, group: &Group) -> Result<Sinks> {
        let records: Arc<dyn Sink> = match &self.sink {
            None => return Err(invalid("a delivery needs a sink: call to()")),
            Some(To::Sink(sink)) => Arc::clone(sink),
            Some(To::Stream(output)) => Arc::new(output.open(stream, group)?),
        };
        let errors = self.error_sink.clone().unwrap_or_else(|| Arc::clone(&records));
        let backup = self.backup_sink.clone().unwrap_or_else(|| Arc::clone(&errors));
        Ok(Sinks { records, errors, backup })
    }

    /// Returns what is delivered.
    pub(in crate::delivery) fn source(&self) -> Result<(Group, StreamReader)> {
        self.source.clone().ok_or_else(|| invalid("a delivery needs a stream"))
    }

    pub(in crate::delivery) fn worker(&self, group: Group) -> WorkerOptions {
        let batch_bytes = if self.plan.decompresses { BATCH_BYTES_COMPRESSED } else { BATCH_BYTES };
        let worker = group
            .worker()
            .start_at(self.start)
            .batch_records(1_000)
            .batch_bytes(batch_bytes)
            .on_trimmed(OnTrimmed::SkipToHorizon);
        match self.hold {
            Some(bytes_max) => worker.hold(bytes_max),
            None => worker,
        }
    }
}
