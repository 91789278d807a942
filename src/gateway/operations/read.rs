//! Reading records by shard iterators.

use std::borrow::Cow;

use super::super::catalogue::Known;
use super::super::names::shard_id;
use super::super::sequence::{self, KinesisNumber, Parsed, ShardNumbers};
use super::super::token::{Place, Purpose};
use super::records::{NO_KEY, fault};
use super::{Answered, Call, Fault, Input, Reply, Value};
use crate::{
    Batch, Error, Headers, Position, Record, SequenceNumber, ShardDescription, ShardId, ShardIterator,
    Timestamp,
};

/// The largest answer, counting keys and data.
const ANSWER_BYTES_MAX: usize = 10 << 20;
const RECORDS_MAX: i64 = 10_000;

pub(super) fn get_shard_iterator(call: &Call<'_>, input: Input<'_>) -> Answered<Reply> {
    let name = call.service.stream_name(&input)?;
    let shard = call.shard_id(input.required("ShardId"), name)?;
    let missing = || shard_missing(shard, name, &call.account().id);
    let known = call.service.catalogue.stream(name).map_err(|fault| fault.or_missing(missing))?;
    // A stream that is being created has no shards yet.
    let shard = known.shard(shard).ok_or_else(missing)?;
    let asked = Asked {
        operation: "GetShardIterator",
        kind: input.required("ShardIteratorType"),
        number: input.text("StartingSequenceNumber"),
        time: input.time("Timestamp"),
    };
    let next = asked.resolve(&known, &shard)?;
    let token = iterator_token(call, &known, shard.id, next);
    call.reply(&Value::map([("ShardIterator", Value::text(token))]))
}

fn shard_missing(shard: ShardId, stream: &str, account: &str) -> Fault {
    Fault::not_found(format!(
        "Shard {} in stream {stream} under account {account} does not exist",
        shard_id(shard)
    ))
}

fn iterator_token(call: &Call<'_>, known: &Known, shard: ShardId, next: SequenceNumber) -> String {
    let place = Place {
        issued: call.now().as_millis(),
        created: known.created_at.as_micros(),
        shard: shard.get(),
        next: next.get(),
        stream: known.name.clone(),
    };
    call.service.sealer.seal(Purpose::ShardIterator, &place)
}

/// The position that a request asks for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) operation: &'static str,
    pub(super) kind: &'a str,
    pub(super) number: Option<&'a str>,
    pub(super) time: Option<Timestamp>,
}

impl Asked<'_> {
    /// Returns the number of the record with which reading begins.
    pub(super) fn resolve(&self, known: &Known, shard: &ShardDescription) -> Answered<SequenceNumber> {
        let position = match (self.kind, self.number) {
            ("AT_SEQUENCE_NUMBER" | "AFTER_SEQUENCE_NUMBER", Some(number)) => {
                return self.at_number(number, known, shard);
            }
            ("TRIM_HORIZON" | "LATEST", Some(_)) => return Err(self.mismatch("and also a")),
            ("AT_SEQUENCE_NUMBER" | "AFTER_SEQUENCE_NUMBER", None) => return Err(self.mismatch("and no")),
            ("AT_TIMESTAMP", _) => self.at_time(known)?,
            ("LATEST", None) => Position::Latest,
            _ => Position::TrimHorizon,
        };
        let iterator = known.stream.iterator(shard.id, position);
        match iterator {
            Ok(iterator) => Ok(iterator.next_sequence()),
            Err(Error::ShardNotFound(_)) => Err(shard_missing(shard.id, &known.name, known.account_id())),
            Err(error) => Err(fault(known, &error)),
        }
    }

    fn mismatch(&self, what: &str) -> Fault {
        Fault::invalid(format!(
            "Must either specify (1) AT_SEQUENCE_NUMBER or AFTER_SEQUENCE_NUMBER and StartingSequenceNumber or (2) \
             TRIM_HORIZON or LATEST and no StartingSequenceNumber. Request specified {} {what} StartingSequenceNumber.",
            self.kind
        ))
    }

    fn at_time(&self, known: &Known) -> Answered<Position> {
        let Some(time) = self.time else {
            return Err(Fault::invalid(
                "Must specify timestampInMillis parameter for iterator of type AT_TIMESTAMP. Current request has no \
                 timestamp parameter.",
            ));
        };
        let now = known.now();
        if time.as_millis() > now.as_millis() {
            return Err(Fault::invalid(format!(
                "The timestampInMillis parameter cannot be greater than the currentTimestampInMillis. timestampInMillis: {}, \
                 currentTimestampInMillis: {}",
                time.as_millis(),
                now.as_millis()
            )));
        }
        Ok(Position::AtTimestamp(time))
    }

    fn at_number(&self, text: &str, known: &Known, shard: &ShardDescription) -> Answered<SequenceNumber> {
        let id = shard_id(shard.id);
        let invalid = |why: &str| {
            Fault::invalid(format!(
                "StartingSequenceNumber {text} used in {} on shard {id} in stream {} under account {} is invalid{why}.",
                self.operation,
                known.name,
                known.account_id()
            ))
        };
        let not_ours = " because it did not come from this stream";
        let numbers = ShardNumbers::of(shard);
        let parsed = sequence::parse(text).ok_or_else(|| invalid(""))?;
        let encoded = match parsed {
            Parsed::Number(number) => number.shard,
            Parsed::Old { shard, .. } => shard,
        };
        if encoded != shard.id.get() {
            return Err(Fault::invalid(format!(
                "Invalid StartingSequenceNumber. It encodes {}, while it was used in a call to a shard with {id}",
                shard_id(ShardId::new(encoded & i32::MAX as u32))
            )));
        }
        match parsed {
            // As in Kinesis.
            Parsed::Old { is_first_version: true, .. } => Err(Fault::internal()),
            Parsed::Old { .. } => Err(invalid(not_ours)),
            Parsed::Number(number) if !numbers.gave(&number) => Err(invalid(not_ours)),
            Parsed::Number(number) if number.is_end() => Err(Fault::invalid(format!(
                "Invalid SequenceNumber for ShardIteratorType {}, SequenceNumber has reached max possible value for the shard.",
                self.kind
            ))),
            Parsed::Number(number) if self.kind == "AT_SEQUENCE_NUMBER" => {
                let at = numbers.at_or_after(&number);
                let is_behind =
                    numbers.may_be_behind(&number, at) && arrived_before(known, shard.id, at, &number);
                Ok(if is_behind { at.plus(1) } else { at })
            }
            Parsed::Number(number) => Ok(numbers.after(&number)),
        }
    }
}

/// Returns whether a record arrived before the second that a number holds.
fn arrived_before(known: &Known, shard: ShardId, record: SequenceNumber, number: &KinesisNumber) -> bool {
    let second = Position::AtTimestamp(Timestamp::from_millis(number.time * 1_000));
    known.stream.iterator(shard, second).is_ok_and(|iterator| iterator.next_sequence() > record)
}

pub(super) fn get_records(call: &Call<'_>, input: Input<'_>) -> Answered<Reply> {
    let place = call.service.sealer.open_iterator(input.required("ShardIterator"), call.now())?;
    let shard = ShardId::new(place.shard);
    let missing = || shard_missing(shard, &place.stream, &call.account().id);
    let known = call.service.catalogue.stream(&place.stream).map_err(|fault| fault.or_missing(missing))?;
    if known.created_at.as_micros() != place.created {
        return Err(missing());
    }
    if let Some(arn) = input.text("StreamARN").filter(|arn| **arn != known.arn()) {
        return Err(Fault::invalid(format!(
            "StreamARN {arn} is not that of the stream of the ShardIterator."
        )));
    }
    let records_max = input.integer("Limit").unwrap_or(RECORDS_MAX).min(RECORDS_MAX) as usize;
    let mut iterator = match open(&known, shard, SequenceNumber::new(place.next)) {
        Err(Error::ShardNotFound(_)) => return Err(missing()),
        opened => opened.map_err(|error| fault(&known, &error))?,
    };
    let batch = read(&mut iterator, records_max).map_err(|error| fault(&known, &error))?;
    let numbers = known.numbers(shard).ok_or_else(missing)?;
    let records = records_of(&batch, &numbers);
    let next = batch
        .child_shards()
        .is_none()
        .then(|| Value::text(iterator_token(call, &known, shard, iterator.next_sequence())));
    let answer = Value::map([
        ("Records", Value::List(records)),
        ("MillisBehindLatest", Value::Integer(batch.millis_behind_latest() as i64)),
    ]);
    let answer = answer.with("NextShardIterator", next);
    call.reply(&answer.with("ChildShards", child_shards(&batch)))
}

/// Opens an iterator. Records that retention has dropped are silently skipped, as in Kinesis.
fn open(known: &Known, shard: ShardId, next: SequenceNumber) -> crate::Result<ShardIterator> {
    match known.stream.iterator(shard, Position::At(next)) {
        Err(Error::Trimmed { .. }) => known.stream.iterator(shard, Position::TrimHorizon),
        iterator => iterator,
    }
}

fn read(iterator: &mut ShardIterator, records_max: usize) -> crate::Result<Batch> {
    loop {
        match iterator.next_batch_within(records_max, ANSWER_BYTES_MAX) {
            Err(Error::Trimmed { .. }) => drop(iterator.skip_to_horizon()),
            Err(error @ Error::Lost { .. }) => {
                let skipped = iterator.skip_lost()?;
                tracing::error!(%error, skipped, "records that were lost to damage are skipped");
            }
            batch => return batch,
        }
    }
}

/// Returns records as answers have them.
pub(super) fn records_of<'a>(batch: &'a Batch, numbers: &ShardNumbers) -> Vec<Value<'a>> {
    let encryption = batch.data_key().map(|_| Value::text("KMS"));
    batch.iter().map(|record| to_value(&record, numbers).with("EncryptionType", encryption.clone())).collect()
}

fn to_value<'a>(record: &Record<'a>, numbers: &ShardNumbers) -> Value<'a> {
    let number = numbers.record(record.sequence(), record.timestamp());
    // Other programs may have put keys that are not text into the stream.
    let key = || Value::Text(String::from_utf8_lossy(record.partition_key()));
    let key = record.headers().get(NO_KEY).is_none().then(key);
    let value = Value::map([
        ("SequenceNumber", Value::text(number.to_string())),
        ("ApproximateArrivalTimestamp", Value::Time(record.timestamp())),
        ("Data", Value::Blob(Cow::Borrowed(record.data()))),
    ]);
    value.with("PartitionKey", key).with("Headers", headers(record.headers()))
}

/// Returns the headers of a record, which only programs that have the stream in process can put. Kinesis has none, and its clients ignore them.
pub(super) fn headers(headers: Headers<'_>) -> Option<Value<'_>> {
    let own = headers.filter(|(name, _)| *name != NO_KEY);
    let headers: Vec<_> = own
        .map(|(name, value)| {
            let (name, value) = (Value::Text(name.into()), Value::Blob(Cow::Borrowed(value)));
            Value::map([("Name", name), ("Value", value)])
        })
        .collect();
    (!headers.is_empty()).then_some(Value::List(headers))
}

/// Returns the children of a shard that was read to its end.
pub(super) fn child_shards(batch: &Batch) -> Option<Value<'static>> {
    let children = batch.child_shards()?.iter().map(|child| {
        let parents = child.parents().map(|parent| Value::text(shard_id(parent)));
        Value::map([
            ("ShardId", Value::text(shard_id(child.id))),
            ("ParentShards", Value::List(parents.collect())),
            ("HashKeyRange", super::describe::hash_key_range(child)),
        ])
    });
    Some(Value::List(children.collect()))
}

/// Returns the stream of a shard iterator, on which policies decide.
pub(super) fn stream_of(call: &Call<'_>, input: &Input<'_>) -> Answered<String> {
    Ok(call.service.sealer.open_iterator(input.required("ShardIterator"), call.now())?.stream)
}
