//! The steps between a record and the rows that it becomes.

use std::borrow::Cow;
use std::fmt;
use std::io::Read;
use std::sync::Arc;

use flate2::read::MultiGzDecoder;

use super::error_output::{self, Failure, Source};
use super::part::{ErrorKind, Part, Row};
use super::plan::Rules;
use super::prefix::KeySource;
use crate::aggregate::deaggregate;
use crate::{Headers, Record, SequenceNumber, ShardId, Timestamp, extend};

/// A record on its way into an object.
#[derive(Debug, Clone, Copy)]
pub struct DeliveryRecord<'a> {
    shard: ShardId,
    sequence: SequenceNumber,
    sub_sequence: u64,
    arrival: Timestamp,
    partition_key: &'a [u8],
    headers: Headers<'a>,
    data: &'a [u8],
}

impl<'a> DeliveryRecord<'a> {
    /// Returns the record's shard.
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    /// Returns the sequence number.
    pub fn sequence(&self) -> SequenceNumber {
        self.sequence
    }

    /// Returns the index in the record's aggregate, or 0.
    pub fn sub_sequence(&self) -> u64 {
        self.sub_sequence
    }

    /// Returns when the record arrived.
    pub fn timestamp(&self) -> Timestamp {
        self.arrival
    }

    /// Returns the partition key.
    pub fn partition_key(&self) -> &'a [u8] {
        self.partition_key
    }

    /// Returns the headers.
    pub fn headers(&self) -> Headers<'a> {
        self.headers
    }

    /// Returns the data, as the steps before have left it.
    pub fn data(&self) -> &'a [u8] {
        self.data
    }
}

/// What a function makes of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Transformed(Outcome);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    Rows(Vec<(Vec<u8>, Vec<String>)>),
    Failed(String),
}

impl Transformed {
    /// One row with this data.
    pub fn row(data: impl Into<Vec<u8>>) -> Self {
        Self(Outcome::Rows(vec![(data.into(), vec![])]))
    }

    /// One more row. A record that has failed stays so.
    pub fn and_row(self, data: impl Into<Vec<u8>>) -> Self {
        self.and_row_in(data, [])
    }

    /// One row with this data, and with the values of the partition keys that the [delivery](super::DeliveryOptions::partition_keys) has, in their
    /// order.
    pub fn row_in<const N: usize>(data: impl Into<Vec<u8>>, partition: [&str; N]) -> Self {
        Self::dropped().and_row_in(data, partition)
    }

    /// One more row with values of the partition keys.
    pub fn and_row_in<const N: usize>(self, data: impl Into<Vec<u8>>, partition: [&str; N]) -> Self {
        let Outcome::Rows(mut rows) = self.0 else { return self };
        rows.push((data.into(), partition.map(str::to_owned).to_vec()));
        Self(Outcome::Rows(rows))
    }

    /// No row: the record is not delivered, and that is no error.
    pub fn dropped() -> Self {
        Self(Outcome::Rows(vec![]))
    }

    /// The record goes to the error output, with this reason.
    pub fn failed(reason: impl fmt::Display) -> Self {
        Self(Outcome::Failed(reason.to_string()))
    }
}

type Function = dyn Fn(&DeliveryRecord<'_>) -> Transformed + Send + Sync;

/// The steps of a delivery that are functions, and the limits of the others.
#[derive(Clone, Default)]
pub(super) struct Steps {
    pub(super) transform: Option<Arc<Function>>,
}

impl fmt::Debug for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Steps").field("transforms", &self.transform.is_some()).finish()
    }
}

/// The largest record after decompression.
const DECOMPRESSED_MAX: u64 = 64 << 20;

impl Steps {
    /// Returns the rows that a record of the log becomes.
    pub(super) fn rows<'a>(
        &self,
        rules: &Rules,
        shard: ShardId,
        record: &Record<'a>,
        now: Timestamp,
    ) -> Vec<Row<'a>> {
        let mut rows = vec![];
        if rules.backup_prefix.is_some() {
            let (data, key) = (Cow::Borrowed(record.data()), record.partition_key());
            rows.push(Row { part: Part::Backup, data, key });
        }
        let whole = DeliveryRecord {
            shard,
            sequence: record.sequence(),
            sub_sequence: 0,
            arrival: record.timestamp(),
            partition_key: record.partition_key(),
            headers: record.headers(),
            data: record.data(),
        };
        let decompressed = if rules.plan.decompresses { decompress(record.data()) } else { Ok(None) };
        match decompressed {
            Err(reason) => rows.push(failed(&whole, now, Failure::transform(reason))),
            Ok(Some(data)) => {
                let mut made = vec![];
                self.push_sub_records(rules, &DeliveryRecord { data: &data, ..whole }, now, &mut made);
                let key = record.partition_key();
                let own = |Row { part, data, .. }: Row<'_>| Row { part, data: data.into_owned().into(), key };
                rows.extend(made.into_iter().map(own));
            }
            Ok(None) if rules.plan.deaggregates => {
                for user_record in deaggregate(*record) {
                    let record = DeliveryRecord {
                        sub_sequence: user_record.sub_sequence(),
                        partition_key: user_record.partition_key(),
                        data: user_record.data(),
                        ..whole
                    };
                    self.push_sub_records(rules, &record, now, &mut rows);
                }
            }
            Ok(None) => self.push_sub_records(rules, &whole, now, &mut rows),
        }
        rows
    }

    fn push_sub_records<'a>(
        &self,
        rules: &Rules,
        record: &DeliveryRecord<'a>,
        now: Timestamp,
        rows: &mut Vec<Row<'a>>,
    ) {
        let Some(sub_records) = &rules.plan.sub_records else {
            return self.push_rows(rules, record, now, rows);
        };
        match sub_records.split(record.data) {
            Ok(records) => {
                for data in records {
                    self.push_rows(rules, &DeliveryRecord { data, ..*record }, now, rows);
                }
            }
            Err(reason) => rows.push(failed(record, now, Failure::transform(reason))),
        }
    }

    fn push_rows<'a>(
        &self,
        rules: &Rules,
        record: &DeliveryRecord<'a>,
        now: Timestamp,
        rows: &mut Vec<Row<'a>>,
    ) {
        let Some(transform) = &self.transform else {
            rows.push(row(rules, record, record.data.into(), vec![], now));
            return;
        };
        let transformed = extend::run_callback(|| transform(record));
        match transformed.unwrap_or_else(|| Transformed::failed("the function has panicked")).0 {
            Outcome::Rows(made) => {
                let row = |(data, partition): (Vec<u8>, _)| row(rules, record, data.into(), partition, now);
                rows.extend(made.into_iter().map(row));
            }
            Outcome::Failed(reason) => rows.push(failed(record, now, Failure::transform(reason))),
        }
    }
}

fn row<'a>(
    rules: &Rules,
    record: &DeliveryRecord<'a>,
    data: Cow<'a, [u8]>,
    partition: Vec<String>,
    now: Timestamp,
) -> Row<'a> {
    match keys_of(rules, partition, &data) {
        Ok(keys) => Row { part: Part::Records(keys), data, key: record.partition_key },
        Err(reason) => failed(record, now, Failure::partition(reason)),
    }
}

/// Returns the values of the partition keys of a row.
fn keys_of(rules: &Rules, partition: Vec<String>, data: &[u8]) -> Result<Vec<String>, String> {
    let keys = &rules.plan.keys;
    let of_function = keys.iter().filter(|(source, _)| *source == KeySource::Lambda).count();
    if partition.len() != of_function {
        return Err(format!("{} values of partition keys instead of {of_function}", partition.len()));
    }
    let document = match rules.queries.is_empty() {
        true => serde_json::Value::Null,
        false => serde_json::from_slice(data).map_err(|error| format!("it is no JSON: {error}"))?,
    };
    let (mut partition, mut queries) = (partition.into_iter(), rules.queries.iter());
    let mut values = vec![];
    for (source, name) in keys {
        let value = match source {
            KeySource::Lambda => {
                partition.next().filter(|value| !value.is_empty()).ok_or_else(|| "it is an empty text".into())
            }
            KeySource::Query => {
                queries.next().map_or_else(|| Err("it has no query".into()), |query| query.text(&document))
            }
        };
        values.push(value.map_err(|reason| format!("the partition key {name:?} has no value: {reason}"))?);
    }
    if !rules.prefix.has_room_for(&values) {
        return Err("the values of the partition keys are too long".into());
    }
    Ok(values)
}

fn failed<'a>(record: &DeliveryRecord<'a>, now: Timestamp, failure: Failure) -> Row<'a> {
    let source = Source {
        shard: record.shard,
        sequence: record.sequence,
        arrival: record.arrival,
        data: record.data,
        now,
    };
    let data = error_output::line(&source, &failure).into();
    Row { part: Part::Errors(ErrorKind::Processing), data, key: record.partition_key }
}

/// Returns what was compressed with GZIP, or `None` for data that does not begin as GZIP does.
fn decompress(data: &[u8]) -> Result<Option<Vec<u8>>, String> {
    if !data.starts_with(&[0x1f, 0x8b]) {
        return Ok(None);
    }
    let mut decompressed = vec![];
    let mut decoder = MultiGzDecoder::new(data).take(DECOMPRESSED_MAX + 1);
    decoder.read_to_end(&mut decompressed).map_err(|error| format!("it cannot be decompressed: {error}"))?;
    if decompressed.len() as u64 > DECOMPRESSED_MAX {
        return Err(format!("it has more than {DECOMPRESSED_MAX} bytes after decompression"));
    }
    Ok(Some(decompressed))
}
