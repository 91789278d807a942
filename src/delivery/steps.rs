//! The steps between a record and the rows that it becomes.

use std::borrow::Cow;
use std::sync::Arc;

use super::error_output::{self, Failure, Source};
use super::function::{CallError, DeliveryRecord, Function, Outcome, Partition, Transformed};
use super::part::{ErrorKind, Part, Row};
use super::plan::Rules;
use super::prefix::KeySource;
use super::unit::{Unit, for_each_unit};
use crate::{Batch, Record, SequenceNumber, ShardId, Timestamp};

/// Records of a shard that follow each other, for one call of the function.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) shard: ShardId,
    pub(super) batches: Vec<Batch>,
    /// The first record of the call, and the one after the last.
    pub(super) first: SequenceNumber,
    pub(super) end: SequenceNumber,
    pub(super) rules: Arc<Rules>,
    /// Records whose call failed before a crash: they are not in this one.
    pub(super) failed: Vec<SequenceNumber>,
    pub(super) now: Timestamp,
}

/// The rows that a record has become.
#[derive(Debug)]
pub(super) struct Made<'a> {
    pub(super) rows: Vec<Row<'a>>,
    /// Whether its call has failed.
    pub(super) has_failed: bool,
}

impl Made<'_> {
    pub(super) fn into_owned(self) -> Made<'static> {
        let own = |Row { part, data, key }: Row<'_>| Row {
            part,
            data: Cow::Owned(data.into_owned()),
            key: Cow::Owned(key.into_owned()),
        };
        Made { rows: self.rows.into_iter().map(own).collect(), has_failed: self.has_failed }
    }
}

impl Call {
    pub(super) fn records(&self) -> impl Iterator<Item = Record<'_>> {
        let records = self.batches.iter().flat_map(Batch::iter);
        records.filter(|record| (self.first..self.end).contains(&record.sequence()))
    }

    fn input<'a>(&self, record: &Record<'a>, unit: &'a Unit<'_>) -> DeliveryRecord<'a> {
        input(self.shard, record, unit)
    }

    /// Returns the rows of each record, given those of its units.
    fn make(
        &self,
        units: &[(Record<'_>, Units<'_>)],
        mut rows_of: impl FnMut(&Record<'_>, &Unit<'_>, &mut Vec<Row<'static>>) -> bool,
    ) -> Vec<Made<'static>> {
        let made = units.iter().map(|(record, Units { units, error })| {
            let (mut rows, mut has_failed) = (vec![], false);
            if self.rules.backup_prefix.is_some() {
                let (data, key) = (record.data().to_vec().into(), record.partition_key().to_vec().into());
                rows.push(Row { part: Part::Backup, data, key });
            }
            for unit in units {
                has_failed |= rows_of(record, unit, &mut rows);
            }
            rows.extend(error.iter().map(|reason| undone(self.shard, record, self.now, reason)));
            Made { rows, has_failed }
        });
        made.collect()
    }

    fn units(&self) -> Vec<(Record<'_>, Units<'_>)> {
        self.records().map(|record| (record, Units::of(&self.rules, &record))).collect()
    }
}

/// The units that the steps before the function made of a record, and why there are no more.
struct Units<'a> {
    units: Vec<Unit<'a>>,
    error: Option<String>,
}

impl<'a> Units<'a> {
    fn of(rules: &Rules, record: &Record<'a>) -> Self {
        let mut units = vec![];
        let error = for_each_unit(&rules.plan, record, |unit| units.push(unit)).err();
        Self { units, error }
    }
}

/// Adds the rows that a record becomes without a function.
pub(super) fn push_rows<'a>(
    rules: &Rules,
    shard: ShardId,
    record: &Record<'a>,
    now: Timestamp,
    rows: &mut Vec<Row<'a>>,
) {
    if rules.backup_prefix.is_some() {
        let (data, key) = (record.data().into(), record.partition_key().into());
        rows.push(Row { part: Part::Backup, data, key });
    }
    // Most deliveries do only this, and for them it is a large part of the work.
    if rules.plan.takes_whole_records() {
        let (data, key) = (record.data().into(), record.partition_key().into());
        rows.push(Row { part: Part::Records(vec![]), data, key });
        return;
    }
    let read = for_each_unit(&rules.plan, record, |unit| {
        rows.push(match keys_of(rules, &Partition::InOrder(vec![]), &unit.data) {
            Ok(keys) => Row { part: Part::Records(keys), data: unit.data, key: unit.partition_key.into() },
            Err(reason) => failed(&input(shard, record, &unit), now, &Failure::partition(reason)),
        });
    });
    rows.extend(read.err().map(|reason| undone(shard, record, now, &reason)));
}

/// Calls the function, and returns what becomes of the records of a call, in their order.
pub(super) fn call(function: &Function, call: &Call) -> Result<Vec<Made<'static>>, CallError> {
    let units = call.units();
    let is_called = |record: &Record<'_>| call.failed.binary_search(&record.sequence()).is_err();
    let called = units.iter().filter(|(record, _)| is_called(record));
    let inputs: Vec<_> =
        called.flat_map(|(record, of)| of.units.iter().map(|unit| call.input(record, unit))).collect();
    let outcomes = if inputs.is_empty() { vec![] } else { function.call(&inputs)? };
    let mut outcomes = outcomes.into_iter().peekable();
    let before = CallError::permanent("the call for it failed before the delivery was started again");
    let before = failure(function, &before, 1);
    Ok(call.make(&units, |record, unit, rows| {
        let (input, has_failed) = (call.input(record, unit), !is_called(record));
        match outcomes.next_if(|_| !has_failed) {
            None => rows.push(failed(&input, call.now, &before)),
            Some(Transformed(Outcome::Failed(reason))) => {
                rows.push(failed(&input, call.now, &failure_of_record(function, reason)));
            }
            Some(Transformed(Outcome::Rows(made))) => {
                rows.extend(made.into_iter().map(|(data, partition)| {
                    match keys_of(&call.rules, &partition, &data) {
                        Ok(keys) => Row {
                            part: Part::Records(keys),
                            data: data.into(),
                            key: unit.partition_key.to_vec().into(),
                        },
                        Err(reason) => failed(&input, call.now, &Failure::partition(reason)),
                    }
                }));
            }
        }
        has_failed
    }))
}

/// Returns what becomes of the records of a call that has failed for the last time.
pub(super) fn failed_call(
    function: &Function,
    call: &Call,
    error: &CallError,
    attempts: u32,
) -> Vec<Made<'static>> {
    let failure = failure(function, error, attempts);
    call.make(&call.units(), |record, unit, rows| {
        rows.push(failed(&call.input(record, unit), call.now, &failure));
        true
    })
}

fn failure(function: &Function, error: &CallError, attempts: u32) -> Failure {
    let function = function.name().map(str::to_owned);
    Failure { code: error.code, message: error.message.clone(), attempts, function }
}

fn failure_of_record(function: &Function, reason: String) -> Failure {
    match function.name() {
        None => Failure::transform(reason),
        Some(name) => Failure {
            code: "Lambda.ProcessingFailedStatus",
            function: Some(name.to_owned()),
            ..Failure::transform(reason)
        },
    }
}

fn input<'a>(shard: ShardId, record: &Record<'a>, unit: &'a Unit<'_>) -> DeliveryRecord<'a> {
    DeliveryRecord {
        shard,
        sequence: record.sequence(),
        sub_sequence: unit.sub_sequence,
        arrival: record.timestamp(),
        partition_key: unit.partition_key,
        headers: record.headers(),
        data: &unit.data,
    }
}

/// Returns the values of the partition keys of a row.
fn keys_of(rules: &Rules, partition: &Partition, data: &[u8]) -> Result<Vec<String>, String> {
    let keys = &rules.plan.keys;
    let of_function = keys.iter().filter(|(source, _)| *source == KeySource::Lambda).count();
    if let Partition::InOrder(values) = partition
        && values.len() != of_function
    {
        return Err(format!("{} values of partition keys instead of {of_function}", values.len()));
    }
    if keys.is_empty() {
        return Ok(vec![]);
    }
    let document = match rules.queries.is_empty() {
        true => serde_json::Value::Null,
        false => serde_json::from_slice(data).map_err(|error| format!("it is no JSON: {error}"))?,
    };
    let (mut places, mut queries) = (0.., rules.queries.iter());
    let mut values = vec![];
    for (source, name) in keys {
        let value = match (source, partition) {
            (KeySource::Lambda, Partition::InOrder(values)) => {
                given(places.next().and_then(|at: usize| values.get(at)))
            }
            (KeySource::Lambda, Partition::ByName(values)) => given(values.get(name)),
            (KeySource::Query, _) => {
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

fn given(value: Option<&String>) -> Result<String, String> {
    let value = value.ok_or("the function has given none")?;
    if value.is_empty() { Err("it is an empty text".into()) } else { Ok(value.clone()) }
}

fn failed(record: &DeliveryRecord<'_>, now: Timestamp, failure: &Failure) -> Row<'static> {
    let source = Source {
        shard: record.shard,
        sequence: record.sequence,
        arrival: record.arrival,
        data: record.data,
        now,
    };
    let data = error_output::line(&source, failure).into();
    Row { part: Part::Errors(ErrorKind::Processing), data, key: record.partition_key.to_vec().into() }
}

/// Returns the row for a record whose steps before the function have failed.
fn undone(shard: ShardId, record: &Record<'_>, now: Timestamp, reason: &str) -> Row<'static> {
    let data = Cow::Borrowed(record.data());
    let whole = Unit { sub_sequence: 0, partition_key: record.partition_key(), data };
    failed(&input(shard, record, &whole), now, &Failure::transform(reason.to_owned()))
}
