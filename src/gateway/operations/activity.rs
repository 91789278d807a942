//! The console's data that Kinesis' API lacks: the input and output of streams, and how far their readers are behind.

use super::super::catalogue::{ConsumerState, Known, Status};
use super::super::names::shard_id;
use super::describe::creation_time;
use super::table::of_kinesis;
use super::{Answered, Call, Fault, Input, Reply, Subject, Value, history};
use crate::{GroupDescription, Lag, ShardDescription, ShardId, ShardStats, StreamStats, Timestamp, Traffic};

/// How many streams an answer has at most, and by default.
const STREAMS_MAX: usize = 1_000;

/// Describes the activity of all streams, page by page, or of one stream with its shards and, if asked for, its consumers.
///
/// Counts are totals since the server opened the stream, so two calls give rates. On request, the rates of the last day are included.
pub(super) fn describe_activity(call: &Call<'_>, input: Input<'_>) -> Answered<Reply> {
    let resource = call.subject(Subject::StreamOrAccount, &input)?;
    let allowed = of_kinesis().filter(|operation| (call.may)(operation, &resource));
    let allowed = allowed.map(|operation| Value::text(operation.name)).collect();
    let answer =
        Value::map([("TimeMillis", millis(call.now())), ("AllowedOperations", Value::List(allowed))]);
    if resource == "*" {
        return list(call, &input, answer);
    }
    let known = call.stream(&input)?;
    let stats = stats(&known)?;
    let described = known.shards();
    let shards = stats.shards.iter().filter_map(|stats| {
        // Both are in the order of creation. A shard that was made in between is in one of them only.
        let at = described.binary_search_by_key(&stats.shard, |shard| shard.id).ok()?;
        Some(shard_value(&described[at], stats))
    });
    let shards = Value::List(shards.collect());
    let mut answer = answer
        .with("Streams", Some(Value::List(vec![stream_value(&known, &stats)])))
        .with("Shards", Some(shards));
    let is_with_history = input.is_true("IncludeHistory");
    if is_with_history {
        answer = answer.with("History", Some(history::of_stream(&known)));
    }
    if input.is_true("IncludeShardHistory") {
        answer = answer.with("ShardHistory", Some(history::of_shards(&known)));
    }
    if input.is_true("IncludeConsumers") {
        let consumers = known.consumers()?;
        let consumers = consumers.iter().map(|consumer| consumer_value(&known, consumer)).collect();
        answer = answer
            .with("Consumers", Some(Value::List(consumers)))
            .with("Groups", Some(Value::List(groups(&known)?)))
            .with("Queues", Some(Value::List(queues(&known))))
            .with("ReaderHistory", is_with_history.then(|| history::of_readers(&known)));
    }
    call.reply(&answer)
}

fn list(call: &Call<'_>, input: &Input<'_>, answer: Value<'_>) -> Answered<Reply> {
    let limit = input.count("Limit").map_or(STREAMS_MAX, |limit| STREAMS_MAX.min(limit as usize));
    let after = input.text("ExclusiveStartStreamName");
    let names = call.service.catalogue.names()?;
    let names = names.into_iter().filter(|name| after.is_none_or(|after| name.as_str() > after));
    // One that was deleted since then is left out.
    let is_with_history = input.is_true("IncludeHistory");
    let mut found = names.filter_map(|name| {
        let known = call.service.catalogue.stream(&name).ok()?;
        let value = stream_value(&known, &stats(&known).ok()?);
        Some(value.with("History", is_with_history.then(|| history::recent(&known))))
    });
    let page = found.by_ref().take(limit).collect();
    let has_more = Value::Bool(found.next().is_some());
    // A key may create streams of some names only, which no answer about all streams shows.
    let may_create = of_kinesis().any(|it| it.name == "CreateStream" && (call.may_somewhere)(it));
    let answer = answer.with("MayCreateStreams", Some(Value::Bool(may_create)));
    let answer = answer.with("Streams", Some(Value::List(page)));
    call.reply(&answer.with("HasMoreStreams", Some(has_more)))
}

fn stats(known: &Known) -> Answered<StreamStats> {
    known.stream.stats().map_err(|error| match error {
        // The owner of the store has just closed it.
        crate::Error::Closed => Fault::not_found(format!("Stream {} not found.", known.name)),
        error => super::super::catalogue::internal(&error),
    })
}

fn count(count: u64) -> Value<'static> {
    Value::Integer(i64::try_from(count).unwrap_or(i64::MAX))
}

fn millis(time: Timestamp) -> Value<'static> {
    count(time.as_millis())
}

fn stream_value(known: &Known, stats: &StreamStats) -> Value<'static> {
    let status = known.status(known.now());
    let open_shards = if status == Status::Creating { 0 } else { known.open_shard_count() };
    let settings = known.settings();
    let value = Value::map([
        ("StreamName", Value::text(known.name.clone())),
        ("StreamStatus", Value::text(status.name())),
        ("StreamMode", Value::text(settings.mode.name())),
        ("StreamCreationTimestamp", Value::Time(creation_time(known))),
        ("RetentionPeriodHours", Value::Integer(settings.retention_hours.into())),
        ("OpenShardCount", Value::Integer(open_shards.into())),
        ("ShardCount", count(stats.shards.len() as u64)),
        ("RecordCount", count(stats.record_count())),
        ("DiskBytes", count(stats.disk_bytes())),
    ]);
    add_traffic(value, stats.traffic()).with("IteratorAgeMilliseconds", stats.iterator_age_ms().map(count))
}

fn shard_value(shard: &ShardDescription, stats: &ShardStats) -> Value<'static> {
    let value = Value::map([
        ("ShardId", Value::text(shard_id(shard.id))),
        ("CreatedMillis", millis(shard.created_at)),
        ("RecordCount", count(stats.record_count())),
        ("DiskBytes", count(stats.disk_bytes)),
    ]);
    add_traffic(value, stats.traffic)
        .with("ClosedMillis", shard.closed_at.map(millis))
        .with("IteratorAgeMilliseconds", stats.iterator_age_ms.map(count))
}

fn add_traffic(value: Value<'static>, traffic: Traffic) -> Value<'static> {
    [
        ("IncomingRecords", traffic.incoming_records),
        ("IncomingBytes", traffic.incoming_bytes),
        ("OutgoingRecords", traffic.outgoing_records),
        ("OutgoingBytes", traffic.outgoing_bytes),
        ("WriteThrottledRecords", traffic.write_throttled_records),
        ("ReadThrottledCalls", traffic.read_throttled_calls),
    ]
    .into_iter()
    .fold(value, |value, (name, total)| value.with(name, Some(count(total))))
}

fn consumer_value(known: &Known, consumer: &ConsumerState) -> Value<'static> {
    let subscriptions = known.pipes.of(&consumer.description.name).into_iter().map(|(shard, pipe)| {
        Value::map([
            ("ShardId", Value::text(shard_id(shard))),
            ("SinceMillis", millis(pipe.since)),
            ("MillisBehindLatest", count(pipe.millis_behind())),
        ])
    });
    Value::map([
        ("ConsumerName", Value::text(consumer.description.name.clone())),
        ("ConsumerARN", Value::text(known.consumer_arn(consumer))),
        ("ConsumerStatus", Value::text(consumer.status.name())),
        ("CreatedMillis", count(consumer.created_seconds() * 1_000)),
        ("Subscriptions", Value::List(subscriptions.collect())),
    ])
}

/// Returns the queues. One that is being deleted or cannot be read is shown without counts.
fn queues(known: &Known) -> Vec<Value<'static>> {
    let mut queues = known.queues();
    queues.sort_by(|a, b| a.settings.name.cmp(&b.settings.name));
    let queues = queues.into_iter().map(|queue| {
        let value = Value::map([
            ("QueueName", Value::text(queue.settings.name)),
            ("QueueARN", Value::text(known.queue_arn(&queue.id))),
            ("QueueStatus", Value::text(queue.status.name())),
        ]);
        let described = known.open_queue(&queue.id).ok().and_then(|queue| queue.describe().ok());
        let Some(described) = described else { return value };
        value
            .with(
                "VisibleRecords",
                Some(count(described.unread.record_count + described.visible_count as u64)),
            )
            .with("InFlightRecords", Some(count(described.in_flight_count as u64)))
            .with("DeadLetterRecords", Some(count(described.dead_letter_count as u64)))
    });
    queues.collect()
}

/// Returns the consumer groups of the log. One that is gone or damaged is shown without a lag.
fn groups(known: &Known) -> Answered<Vec<Value<'static>>> {
    let names = known.stream.groups().map_err(|error| super::super::catalogue::internal(&error))?;
    let groups = names.into_iter().map(|name| {
        let described = known.stream.group(&*name).describe();
        let value = Value::map([("GroupName", Value::text(name))]);
        match described {
            Ok(group) => group_value(value, &group),
            Err(error) => value.with("Problem", Some(Value::text(error.to_string()))),
        }
    });
    Ok(groups.collect())
}

fn group_value(value: Value<'static>, group: &GroupDescription) -> Value<'static> {
    let shards = group.shards.iter().map(|shard| lag_value(shard.shard, shard.worker.is_some(), shard.lag));
    let lag = group.lag();
    value
        .with("WorkerCount", Some(count(group.worker_count as u64)))
        .with("LagRecords", Some(count(lag.record_count)))
        .with("LagBytes", Some(count(lag.bytes)))
        .with("LagMillis", Some(count(lag.age.as_millis() as u64)))
        .with("Shards", Some(Value::List(shards.collect())))
}

fn lag_value(shard: ShardId, has_worker: bool, lag: Lag) -> Value<'static> {
    Value::map([
        ("ShardId", Value::text(shard_id(shard))),
        ("HasWorker", Value::Bool(has_worker)),
        ("LagRecords", count(lag.record_count)),
        ("LagMillis", count(lag.age.as_millis() as u64)),
    ])
}
