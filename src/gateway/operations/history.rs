//! The history that the console shows from before it was opened.

use super::super::catalogue::{Activity, Behind, Known, Line, Reader};
use super::super::names::shard_id;
use super::super::wire::Map;
use super::Value;

type Column<T> = (&'static str, fn(&T) -> Option<f32>);

const ACTIVITY: [Column<Activity>; 7] = [
    ("IncomingRecords", |activity| Some(activity.incoming_records)),
    ("IncomingBytes", |activity| Some(activity.incoming_bytes)),
    ("OutgoingRecords", |activity| Some(activity.outgoing_records)),
    ("OutgoingBytes", |activity| Some(activity.outgoing_bytes)),
    ("WriteThrottledRecords", |activity| Some(activity.write_throttled_records)),
    ("ReadThrottledCalls", |activity| Some(activity.read_throttled_calls)),
    ("IteratorAgeMilliseconds", |activity| activity.iterator_age_ms),
];
const CONSUMER: [Column<Option<Behind>>; 1] = [("MillisBehindLatest", |behind| behind.map(|it| it.millis))];
const GROUP: [Column<Option<Behind>>; 2] = [
    ("LagMillis", |behind| behind.map(|it| it.millis)),
    ("LagRecords", |behind| behind.and_then(|it| it.records)),
];

/// How many of the finest steps come with a list of streams.
const RECENT: usize = 24;

/// Returns the lines of a stream, finest first. Counts are per second.
pub(super) fn of_stream(known: &Known) -> Value<'static> {
    let history = known.history.lock();
    Value::List(history.lines().map(|line| line_value(line, &ACTIVITY, usize::MAX)).collect())
}

/// Returns the input and output of a stream in the last two minutes, in the finest steps.
pub(super) fn recent(known: &Known) -> Value<'static> {
    let history = known.history.lock();
    let in_and_out = &ACTIVITY[..4];
    Value::List(history.lines().take(1).map(|line| line_value(line, in_and_out, RECENT)).collect())
}

/// Returns the lines of its readers.
pub(super) fn of_readers(known: &Known) -> Value<'static> {
    let history = known.history.lock();
    let readers = history.readers().map(|(reader, lines)| {
        let (kind, name, columns): (_, _, &[_]) = match reader {
            Reader::Consumer(name) => ("ConsumerName", name, &CONSUMER),
            Reader::Group(name) => ("GroupName", name, &GROUP),
        };
        let lines = lines.map(|line| line_value(line, columns, usize::MAX)).collect();
        Value::map([(kind, Value::text(name.clone())), ("Lines", Value::List(lines))])
    });
    Value::List(readers.collect())
}

/// Returns how busy the shards were, in one byte for each step: one line of all shards for each length of steps.
pub(super) fn of_shards(known: &Known) -> Value<'static> {
    let history = known.history.lock();
    let mut lines: Vec<(_, _, Map<'static>)> = vec![];
    for (shard, of_shard) in history.shards() {
        for (at, line) in of_shard.enumerate() {
            if lines.len() == at {
                lines.push((line.step(), line.end(), vec![]));
            }
            let levels = Value::Blob(line.values().collect::<Vec<_>>().into());
            lines[at].2.push((shard_id(shard).into(), levels));
        }
    }
    let lines = lines.into_iter().map(|(step, end, shards)| {
        Value::map([
            ("StepMillis", Value::Integer(step.as_millis() as i64)),
            ("EndMillis", Value::Integer(end.as_millis() as i64)),
            ("Levels", Value::Map(shards)),
        ])
    });
    Value::List(lines.collect())
}

/// Returns a line with up to the wanted number of its last values.
fn line_value<T: Copy + PartialEq>(line: &Line<T>, columns: &[Column<T>], wanted: usize) -> Value<'static> {
    let skipped = line.len().saturating_sub(wanted);
    let value = Value::map([
        ("StepMillis", Value::Integer(line.step().as_millis() as i64)),
        ("EndMillis", Value::Integer(line.end().as_millis() as i64)),
    ]);
    columns.iter().fold(value, |value, (name, of)| {
        let numbers = line.values().skip(skipped).map(|point| of(&point).map_or(Value::Null, rounded));
        value.with(name, Some(Value::List(numbers.collect())))
    })
}

/// Returns a number with three decimals at most, which is enough for a chart.
fn rounded(number: f32) -> Value<'static> {
    Value::Float((f64::from(number) * 1_000.0).round() / 1_000.0)
}
