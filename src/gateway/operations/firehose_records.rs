//! Putting records into delivery streams.

use std::sync::atomic::Ordering;

use tokio::task::block_in_place;

use super::super::firehose::DeliveryStream;
use super::{Answered, Call, Fault, Input, Reply, Value};
use crate::{Durability, PutRecord, Receipt};

/// The largest batch.
const BATCH_BYTES_MAX: usize = 4 << 20;
/// The log requires a partition key, and Firehose has none.
const KEY: &str = "-";

pub(super) fn put_record(call: &Call<'_>, mut input: Input<'_>) -> Answered<Reply> {
    let record = input.take("Record").ok_or_else(Fault::internal)?;
    let stream = find(call, &input)?;
    let data = record.blob("Data");
    let put = waiting(&stream, || stream.stream.put_record(&PutRecord::new(KEY, data)));
    let receipt = put.map_err(|error| stream.failed(&error))?;
    count(&stream, 1, data.len());
    call.reply(&Value::map([("RecordId", id(&stream, &receipt)), ("Encrypted", encrypted(&stream))]))
}

pub(super) fn put_record_batch(call: &Call<'_>, mut input: Input<'_>) -> Answered<Reply> {
    let entries = input.take_list("Records");
    let stream = find(call, &input)?;
    let bytes: usize = entries.iter().map(|entry| entry.blob("Data").len()).sum();
    if bytes > BATCH_BYTES_MAX {
        return Err(Fault::invalid(format!("Records size exceeds {} MB limit", BATCH_BYTES_MAX >> 20)));
    }
    let records: Vec<_> = entries.iter().map(|entry| PutRecord::new(KEY, entry.blob("Data"))).collect();
    let outcomes =
        waiting(&stream, || stream.stream.put_batch(&records)).map_err(|error| stream.failed(&error))?;
    let mut failed_count = 0;
    let mut answers = Vec::with_capacity(outcomes.len());
    for (outcome, record) in outcomes.iter().zip(&records) {
        answers.push(match outcome {
            Ok(receipt) => {
                count(&stream, 1, record.data.len());
                Value::map([("RecordId", id(&stream, receipt))])
            }
            Err(error) => {
                failed_count += 1;
                let fault = stream.failed(error);
                let message = fault.message.unwrap_or("Internal Service Failure.".into());
                Value::map([("ErrorCode", Value::text(fault.kind)), ("ErrorMessage", Value::text(message))])
            }
        });
    }
    call.reply(&Value::map([
        ("FailedPutCount", Value::Integer(failed_count)),
        ("Encrypted", encrypted(&stream)),
        ("RequestResponses", Value::List(answers)),
    ]))
}

fn find(call: &Call<'_>, input: &Input<'_>) -> Answered<std::sync::Arc<DeliveryStream>> {
    let stream = call.service.firehose.get(input.required("DeliveryStreamName"))?;
    stream.check_puts()?;
    Ok(stream)
}

/// Puts. If that waits for the disk, another thread meanwhile takes over this one's other work.
fn waiting<T>(stream: &DeliveryStream, put: impl FnOnce() -> T) -> T {
    if stream.stream.describe().durability == Durability::Power { block_in_place(put) } else { put() }
}

fn count(stream: &DeliveryStream, records: u64, bytes: usize) {
    stream.put_records.fetch_add(records, Ordering::Relaxed);
    stream.put_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
}

/// Returns an id that no other record of any delivery stream has.
fn id(stream: &DeliveryStream, receipt: &Receipt) -> Value<'static> {
    Value::text(format!("{}{:020}", stream.definition().id, receipt.sequence.get()))
}

fn encrypted(stream: &DeliveryStream) -> Value<'static> {
    Value::Bool(stream.definition().encryption.key.is_some())
}
