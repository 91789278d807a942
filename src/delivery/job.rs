//! An object on its way to its sink: encoded once, and tried until the sink has it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::compress::CompressionFormat;
use super::error_output::{self, Failure};
use super::name;
use super::objects::Building;
use super::part::Part;
use super::plan::Rules;
use super::sink::{Object, Sink, SinkError};
use super::state::Decided;
use crate::{ShardId, Timestamp, extend};

use super::core::Now;

/// The error output is lines of JSON.
const ERROR_CONTENT_TYPE: &str = "application/x-ndjson";

/// When a failed object is tried again, and until when.
#[derive(Debug, Clone)]
pub(super) struct Retries {
    pub(super) first_pause: Duration,
    pub(super) longest_pause: Duration,
    /// How long to retry, from the first attempt on. `None`: without limit. An object that the sink will never take is not retried.
    pub(super) duration: Option<Duration>,
    /// The word for objects that then go to the error output.
    pub(super) error_output_type: &'static str,
}

impl Retries {
    /// Returns how long to wait after this many attempts.
    pub(super) fn pause(&self, attempts: u32) -> Duration {
        let doubled = self.first_pause.saturating_mul(1 << attempts.saturating_sub(1).min(20));
        doubled.min(self.longest_pause)
    }
}

/// Where objects go.
#[derive(Clone)]
pub(super) struct Sinks {
    pub(super) records: Arc<dyn Sink>,
    pub(super) errors: Arc<dyn Sink>,
    pub(super) backup: Arc<dyn Sink>,
}

#[derive(Debug)]
pub(super) struct Job {
    shard: ShardId,
    decided: Decided,
    rules: Arc<Rules>,
    /// `None` while an attempt has it.
    content: Option<Content>,
    is_running: bool,
    attempts: u32,
    first_attempt: Option<Duration>,
    due: Duration,
    /// The sink did not take it, so it goes to the error output.
    is_given_up: bool,
}

/// The object, before and after it was encoded.
#[derive(Debug)]
enum Content {
    Building(Building),
    Encoded(Object),
}

/// One attempt to deliver an object.
#[derive(Debug)]
pub(super) struct Attempt {
    shard: ShardId,
    decided: Decided,
    rules: Arc<Rules>,
    content: Option<Content>,
    /// The sink did not take the object, so it goes to the error output.
    is_given_up: bool,
}

/// What becomes of an object after an attempt.
pub(super) enum Outcome {
    Delivered {
        is_error_output: bool,
        /// The buffer of the rows, if another object can reuse it.
        buffer: Option<Vec<u8>>,
    },
    Again,
    /// From now on it goes to the error output.
    GivenUp,
}

impl Job {
    pub(super) fn new(
        shard: ShardId,
        decided: Decided,
        rules: Arc<Rules>,
        building: Building,
        now: Duration,
    ) -> Self {
        Self {
            shard,
            decided,
            rules,
            content: Some(Content::Building(building)),
            is_running: false,
            attempts: 0,
            first_attempt: None,
            due: now,
            is_given_up: false,
        }
    }

    pub(super) fn is_due(&self, now: Duration) -> bool {
        !self.is_running && self.due <= now
    }

    pub(super) fn due(&self) -> Option<Duration> {
        (!self.is_running).then_some(self.due)
    }

    /// Returns whether records of the stream are on their way to their sink.
    pub(super) fn is_of_records(&self) -> bool {
        !self.is_given_up && matches!(self.decided.part, Part::Records(_))
    }

    pub(super) fn is_running(&self) -> bool {
        self.is_running
    }

    /// Returns whether the last attempt has failed, and none is running.
    pub(super) fn has_failed(&self) -> bool {
        self.attempts > 0 && !self.is_running
    }

    pub(super) fn begin(&mut self) -> Attempt {
        self.is_running = true;
        Attempt {
            shard: self.shard,
            decided: self.decided.clone(),
            rules: Arc::clone(&self.rules),
            content: self.content.take(),
            is_given_up: self.is_given_up,
        }
    }

    pub(super) fn finish(
        &mut self,
        outcome: Result<(), SinkError>,
        attempt: Attempt,
        retries: &Retries,
        now: Now,
    ) -> Outcome {
        self.is_running = false;
        self.content = attempt.content;
        let Err(error) = outcome else {
            let is_error_output = self.is_given_up || matches!(self.decided.part, Part::Errors(_));
            return Outcome::Delivered { is_error_output, buffer: self.take_buffer() };
        };
        self.attempts += 1;
        let since = now.elapsed.saturating_sub(*self.first_attempt.get_or_insert(now.elapsed));
        let is_over = error.is_permanent || retries.duration.is_some_and(|duration| since >= duration);
        if is_over && self.is_of_records() {
            self.give_up(&error, retries.error_output_type, now.time);
            self.due = now.elapsed;
            return Outcome::GivenUp;
        }
        self.due = now.elapsed + retries.pause(self.attempts);
        Outcome::Again
    }

    /// Takes the buffer of an object of a shard without partitions, unless the sink has kept it. There are many partitions, and each would keep one.
    fn take_buffer(&mut self) -> Option<Vec<u8>> {
        let is_whole = self.decided.part.has_all_records();
        let is_of_rows = self.rules.plan.format.has_rows()
            && self.rules.plan.compression == CompressionFormat::Uncompressed;
        let Some(Content::Encoded(object)) =
            self.content.take_if(|_| is_whole && is_of_rows && !self.is_given_up)
        else {
            return None;
        };
        drop(object.body);
        let mut buffer = object.bytes.try_into_mut().ok()?;
        buffer.clear();
        Some(buffer.into())
    }

    /// Turns the object into one of the error output.
    fn give_up(&mut self, error: &SinkError, error_output_type: &str, now: Timestamp) {
        self.is_given_up = true;
        let Some(Content::Encoded(object)) = &mut self.content else { return };
        object.name =
            name::of_failed(&self.rules, self.shard, &self.decided.span, error_output_type, &self.decided.id);
        let Some(body) = object.body.take() else { return };
        let failure = Failure::delivery(error.to_string());
        let line = |row: &[u8]| error_output::line_of_row(row, self.attempts, &failure, now);
        // A format without rows goes there as a whole.
        let whole = body.row_ends.is_empty().then_some(&body.bytes[..]);
        let is_rejected =
            |index: &usize| error.rejected.as_ref().is_none_or(|rejected| rejected.contains(index));
        let rows = body.rows().chain(whole).enumerate().filter(|(index, _)| is_rejected(index));
        let mut lines = vec![];
        for (_, row) in rows {
            lines.extend_from_slice(&line(row));
            lines.push(b'\n');
        }
        (object.bytes, object.content_encoding) = (Bytes::from(lines), None);
        object.content_type = ERROR_CONTENT_TYPE;
    }
}

impl Attempt {
    /// Encodes the object, if that was not done before, and gives it to its sink.
    pub(super) fn run(&mut self, sinks: &Sinks) -> Result<(), SinkError> {
        let sink = match self.decided.part {
            _ if self.is_given_up => &sinks.errors,
            Part::Records(_) => &sinks.records,
            Part::Errors(_) => &sinks.errors,
            Part::Backup => &sinks.backup,
        };
        let object = match self.content.take() {
            Some(Content::Encoded(object)) => object,
            Some(Content::Building(building)) => self.encode(building, sink.wants_rows())?,
            None => return Err(SinkError::permanent("there is nothing to deliver")),
        };
        let manifest = match (&self.decided.part, &self.rules.plan.manifests) {
            (Part::Records(_), Some(manifests)) if !self.is_given_up => Some(manifests.of(&object)),
            _ => None,
        };
        let put = extend::run_callback(|| {
            sink.put(&object)?;
            // Written after the object, so that a reader of the manifest finds the object.
            manifest.map_or(Ok(()), |manifest| sink.put(&manifest))
        });
        self.content = Some(Content::Encoded(object));
        put.unwrap_or_else(|| Err(SinkError::temporary("the sink has panicked")))
    }

    fn encode(&self, building: Building, wants_rows: bool) -> Result<Object, SinkError> {
        let is_of_records = matches!(self.decided.part, Part::Records(_));
        let (record_count, origins, body) = (building.row_count, building.origins, building.rows.finish()?);
        let compression =
            if is_of_records { self.rules.plan.compression } else { CompressionFormat::Uncompressed };
        let bytes = match compression {
            CompressionFormat::Uncompressed => body.bytes.clone(),
            compression => compression.compress(&body.bytes, &self.decided.name).map(Bytes::from)?,
        };
        let span = &self.decided.span;
        Ok(Object {
            name: self.decided.name.clone(),
            id: self.decided.id.clone(),
            shard: self.shard,
            first: span.first,
            last: span.last,
            oldest: span.oldest,
            record_count,
            content_type: if is_of_records {
                self.rules.plan.format.content_type()
            } else {
                ERROR_CONTENT_TYPE
            },
            content_encoding: (compression == CompressionFormat::Gzip).then_some("gzip"),
            bytes,
            body: wants_rows.then_some(body),
            origins,
        })
    }

    pub(super) fn object(&self) -> Option<&Object> {
        match &self.content {
            Some(Content::Encoded(object)) => Some(object),
            _ => None,
        }
    }
}
