//! Putting records.

use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::task::block_in_place;

use super::super::catalogue::{Known, Settings, Strategy};
use super::super::model::Profile;
use super::super::names::shard_id;
use super::super::sequence;
use super::{Answered, Call, Fault, Input, Reply, Value};
use crate::{Error, HashKey, PutRecord, Receipt};

/// The largest request, keys included.
const REQUEST_BYTES_MAX: usize = 10 << 20;
const REQUEST_BYTES_MAX_2018: usize = 5 << 20;
/// The header that marks a record as put without a key, which the log requires.
pub(super) const NO_KEY: &str = "kinesis-no-key";
/// The partition key that such a record has in the log.
const STAND_IN: &str = "-";
/// The golden ratio, as a part of 2^128: its multiples fill the space evenly.
const GOLDEN: u128 = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835;

/// The number of records that the gateway has spread.
static SPREAD: AtomicU64 = AtomicU64::new(0);

pub(super) fn put_record(call: &Call<'_>, input: Input<'_>) -> Answered<Reply> {
    let known = call.stream(&input)?;
    known.check_readable()?;
    let settings = known.settings();
    let record = to_put(&settings, &input)?;
    check_ordering(call, &known, &input)?;
    check_size(&known, &settings, &record)?;
    let receipt =
        waiting(&known, || known.stream.put_record(&record)).map_err(|error| fault(&known, &error))?;
    let (shard, sequence) = place(&known, &receipt)?;
    let answer = Value::map([("ShardId", shard), ("SequenceNumber", sequence)]);
    call.reply(&answer.with("EncryptionType", encryption_type(&settings)))
}

pub(super) fn put_records(call: &Call<'_>, mut input: Input<'_>) -> Answered<Reply> {
    let entries = input.take_list("Records");
    let known = call.stream(&input)?;
    known.check_readable()?;
    let settings = known.settings();
    let records: Vec<_> = entries.iter().map(|entry| to_put(&settings, entry)).collect::<Answered<_>>()?;
    records.iter().try_for_each(|record| check_size(&known, &settings, record))?;
    let bytes: usize = records.iter().map(|record| record.data.len() + record.partition_key.len()).sum();
    let bytes_max = match call.service.profile {
        Profile::Today => REQUEST_BYTES_MAX,
        Profile::Year2018 => REQUEST_BYTES_MAX_2018,
    };
    if bytes > bytes_max {
        return Err(Fault::invalid(format!("Records size exceeds {} MB limit", bytes_max >> 20)));
    }
    let outcomes =
        waiting(&known, || known.stream.put_batch(&records)).map_err(|error| fault(&known, &error))?;
    // The key is the stream's, so without it no record is put.
    if let Some(error @ Error::KeyUnavailable(_)) =
        outcomes.first().and_then(|outcome| outcome.as_ref().err())
    {
        return Err(fault(&known, error));
    }
    let mut failed_count = 0;
    let mut answers = Vec::with_capacity(outcomes.len());
    for outcome in &outcomes {
        let placed = outcome.as_ref().map_err(|error| item_fault(&known, error)).and_then(|receipt| {
            let (shard, sequence) = place(&known, receipt)?;
            Ok(Value::map([("SequenceNumber", sequence), ("ShardId", shard)]))
        });
        answers.push(placed.unwrap_or_else(|fault| {
            failed_count += 1;
            let message = fault.message.unwrap_or(Cow::Borrowed("Internal Service Failure."));
            Value::map([("ErrorCode", Value::text(fault.kind)), ("ErrorMessage", Value::text(message))])
        }));
    }
    let answer =
        Value::map([("FailedRecordCount", Value::Integer(failed_count)), ("Records", Value::List(answers))]);
    call.reply(&answer.with("EncryptionType", encryption_type(&settings)))
}

/// Puts. If that waits for the disk, another thread meanwhile takes over this one's other work.
fn waiting<T>(known: &Known, put: impl FnOnce() -> T) -> T {
    if known.puts_wait { block_in_place(put) } else { put() }
}

/// Returns a request's record as the log takes it.
fn to_put<'a>(settings: &Settings, entry: &'a Input<'_>) -> Answered<PutRecord<'a>> {
    let key = entry.text("PartitionKey");
    let is_spread = settings.strategy == Strategy::Auto;
    let record = match key {
        Some(key) => PutRecord::new(key, entry.blob("Data")),
        None if is_spread => PutRecord::new(STAND_IN, entry.blob("Data")).header(NO_KEY, ""),
        None => {
            return Err(Fault::invalid(
                "PartitionKey must be provided, unless the stream distributes its records by itself.",
            ));
        }
    };
    let explicit = match entry.text("ExplicitHashKey") {
        Some(text) => Some(text.parse().map(HashKey::new).map_err(|_| {
            Fault::invalid(format!(
                "Invalid ExplicitHashKey. ExplicitHashKey must be in the range: [0, 2^128-1]. Specified value was {text}"
            ))
        })?),
        None => None,
    };
    let hash_key = match is_spread {
        true => Some(HashKey::new(u128::from(SPREAD.fetch_add(1, Ordering::Relaxed)).wrapping_mul(GOLDEN))),
        false => explicit,
    };
    Ok(match hash_key {
        Some(hash_key) => record.explicit_hash_key(hash_key),
        None => record,
    })
}

fn check_size(known: &Known, settings: &Settings, record: &PutRecord<'_>) -> Answered<()> {
    let max_kib = settings.max_record_kib;
    let bytes = record.data.len() + record.partition_key.len();
    if bytes <= max_kib as usize * 1_024 {
        return Ok(());
    }
    Err(Fault::invalid(format!(
        "The record's data and partition key have {bytes} bytes, which is more than the {max_kib} KiB that a record of stream \
         {} may have.",
        known.name
    )))
}

/// Checks the number that the record's number has to exceed. A number that the stream has issued is always lower.
fn check_ordering(call: &Call<'_>, known: &Known, input: &Input<'_>) -> Answered<()> {
    let Some(text) = input.text("SequenceNumberForOrdering") else { return Ok(()) };
    // A child shard's numbers are at first a second ahead.
    let latest = call.now().as_millis() / 1_000 + 1;
    let is_valid = match sequence::parse(text) {
        Some(sequence::Parsed::Number(number)) => number.time <= latest,
        Some(sequence::Parsed::Old { .. }) => true,
        None => false,
    };
    if is_valid {
        return Ok(());
    }
    Err(Fault::invalid(format!(
        "ExclusiveMinimumSequenceNumber {text} used in PutRecord on stream {} under account {} is invalid.",
        known.name,
        known.account_id()
    )))
}

fn place(known: &Known, receipt: &Receipt) -> Answered<(Value<'static>, Value<'static>)> {
    // A shard that has just taken a record has not expired.
    let numbers = known.numbers(receipt.shard).ok_or_else(Fault::internal)?;
    let sequence = numbers.record(receipt.sequence, receipt.timestamp);
    Ok((Value::text(shard_id(receipt.shard)), Value::text(sequence.to_string())))
}

/// Returns the error of a call that puts or reads.
pub(super) fn fault(known: &Known, error: &Error) -> Fault {
    match error {
        Error::Throttled { shard, .. } => Fault::throughput(format!(
            "Rate exceeded for shard {} in stream {} under account {}.",
            shard_id(*shard),
            known.name,
            known.account_id()
        )),
        Error::InvalidRecord { .. } => Fault::invalid(error.to_string()),
        error => known.failed(error),
    }
}

/// Returns the error of a record among others, which may fail in two ways only.
fn item_fault(known: &Known, error: &Error) -> Fault {
    match fault(known, error) {
        fault if fault.kind == "ProvisionedThroughputExceededException" => fault,
        _ => Fault::internal(),
    }
}

/// Returns how records are encrypted, if they are.
fn encryption_type(settings: &Settings) -> Option<Value<'static>> {
    settings.key_id.as_ref().map(|_| Value::text("KMS"))
}
