//! The input of the function and of the format for a record: the record itself, or the records that are packed into it.

use std::borrow::Cow;
use std::io::Read;

use flate2::read::MultiGzDecoder;
use serde::Deserialize;

use super::plan::Plan;
use super::sub_records::SubRecords;
use crate::Record;
use crate::aggregate::deaggregate;

/// The largest record after decompression.
const DECOMPRESSED_MAX: u64 = 64 << 20;

/// A record, or one of those that were packed into it.
#[derive(Debug, Clone)]
pub(super) struct Unit<'a> {
    pub(super) sub_sequence: u64,
    pub(super) partition_key: &'a [u8],
    pub(super) data: Cow<'a, [u8]>,
}

/// Unpacks a record as the plan says. If that fails, the error says why, and there are no units.
pub(super) fn for_each_unit<'a>(
    plan: &Plan,
    record: &Record<'a>,
    each: impl FnMut(Unit<'a>),
) -> Result<(), String> {
    let Some(sub_records) = &plan.sub_records else { return for_each_packed(plan, record, each) };
    let mut units = vec![];
    let mut outcome = Ok(());
    for_each_packed(plan, record, |unit| {
        if outcome.is_ok() {
            outcome = split(sub_records, unit, &mut units);
        }
    })?;
    outcome?;
    units.into_iter().for_each(each);
    Ok(())
}

/// Adds the records that a unit holds, each with a number of its own.
fn split<'a>(sub_records: &SubRecords, unit: Unit<'a>, to: &mut Vec<Unit<'a>>) -> Result<(), String> {
    let Unit { partition_key, data, .. } = unit;
    let mut push = |data| to.push(Unit { sub_sequence: to.len() as u64, partition_key, data });
    match data {
        Cow::Borrowed(data) => sub_records.split(data)?.into_iter().for_each(|data| push(data.into())),
        Cow::Owned(data) => sub_records.split(&data)?.into_iter().for_each(|data| push(data.to_vec().into())),
    }
    Ok(())
}

/// Unpacks what is packed as the plan says, up to records that hold several ones.
fn for_each_packed<'a>(
    plan: &Plan,
    record: &Record<'a>,
    mut each: impl FnMut(Unit<'a>),
) -> Result<(), String> {
    let partition_key = record.partition_key();
    let decompressed = if plan.decompresses { decompress(record.data())? } else { None };
    let is_plain = decompressed.is_none();
    let data = decompressed.map_or(Cow::Borrowed(record.data()), Cow::Owned);
    if plan.extracts_messages {
        for (message, sub_sequence) in messages(&data)?.into_iter().zip(0..) {
            each(Unit { sub_sequence, partition_key, data: Cow::Owned(message.into_bytes()) });
        }
    } else if plan.deaggregates && is_plain {
        for user_record in deaggregate(*record) {
            each(Unit {
                sub_sequence: user_record.sub_sequence(),
                partition_key: user_record.partition_key(),
                data: Cow::Borrowed(user_record.data()),
            });
        }
    } else {
        each(Unit { sub_sequence: 0, partition_key, data });
    }
    Ok(())
}

/// Decompresses GZIP data. Returns `None` for data that does not begin like GZIP.
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

/// What a subscription filter of CloudWatch Logs sends.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LogData {
    message_type: String,
    #[serde(default)]
    log_events: Vec<LogEvent>,
}

#[derive(Deserialize)]
struct LogEvent {
    message: String,
}

/// Returns the messages of the log events in data from CloudWatch Logs, and none for its control message that checks the destination.
fn messages(data: &[u8]) -> Result<Vec<String>, String> {
    let read: LogData =
        serde_json::from_slice(data).map_err(|error| format!("it is not from CloudWatch Logs: {error}"))?;
    match &*read.message_type {
        "DATA_MESSAGE" => Ok(read.log_events.into_iter().map(|event| event.message).collect()),
        "CONTROL_MESSAGE" => Ok(vec![]),
        other => Err(format!("it is not from CloudWatch Logs: the messageType {other:?} is unknown")),
    }
}

#[cfg(test)]
mod tests {
    use super::messages;

    #[test]
    fn messages_of_log_events_are_taken_and_control_messages_dropped() {
        let data = r#"{"messageType":"DATA_MESSAGE","owner":"123456789012","logGroup":"CloudTrail","logStream":"s","subscriptionFilters":["f"],
            "logEvents":[{"id":"1","timestamp":1432826855000,"message":"one\n\u00fc"},{"id":"2","timestamp":1432826855001,"message":""}]}"#;
        assert_eq!(messages(data.as_bytes()).unwrap(), ["one\nü", ""]);
        let control = r#"{"messageType":"CONTROL_MESSAGE","logEvents":[{"id":"","timestamp":1,"message":"CWL CONTROL MESSAGE: Checking health"}]}"#;
        assert!(messages(control.as_bytes()).unwrap().is_empty());
        for wrong in [
            "",
            "no JSON",
            "{}",
            "[]",
            r#"{"messageType":"OTHER"}"#,
            r#"{"messageType":"DATA_MESSAGE","logEvents":[{}]}"#,
        ] {
            assert!(
                messages(wrong.as_bytes()).unwrap_err().starts_with("it is not from CloudWatch Logs: "),
                "{wrong}"
            );
        }
    }
}
