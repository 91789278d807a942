//! Descriptions of streams and their shards.

use super::super::catalogue::{Known, Status};
use super::super::model::Profile;
use super::super::names::shard_id;
use super::super::sequence::ShardNumbers;
use super::{Answered, Call, Input, Reply, Value};
use crate::ShardDescription;

/// The largest page of shards.
const SHARDS_MAX: usize = 100;

pub(super) fn describe_stream(call: &Call<'_>, input: Input<'_>) -> Answered<Reply> {
    let known = call.stream(&input)?;
    let after =
        input.text("ExclusiveStartShardId").map(|shard| call.shard_id(shard, &known.name)).transpose()?;
    let limit = input.count("Limit").map_or(SHARDS_MAX, |limit| SHARDS_MAX.min(limit as usize));
    let shards = known.shards();
    let mut shards = shards.iter().filter(|shard| after.is_none_or(|after| shard.id > after));
    let page = shards.by_ref().take(limit).map(shard_value).collect();
    let value =
        Value::map([("Shards", Value::List(page)), ("HasMoreShards", Value::Bool(shards.next().is_some()))]);
    let description = add_state(value, call, &known);
    call.reply(&Value::map([("StreamDescription", description)]))
}

pub(super) fn describe_stream_summary(call: &Call<'_>, input: Input<'_>) -> Answered<Reply> {
    let known = call.stream(&input)?;
    let open_shards = match known.status(known.now()) {
        Status::Creating => 0,
        _ => known.open_shard_count(),
    };
    let consumers = known.consumers()?.len();
    let value = Value::map([
        ("OpenShardCount", Value::Integer(open_shards.into())),
        ("ConsumerCount", Value::Integer(consumers as i64)),
    ]);
    let mut description = add_state(value, call, &known);
    if call.service.profile == Profile::Today {
        let settings = known.settings();
        let strategy = Value::text(settings.strategy.name());
        description = description
            .with("MaxRecordSizeInKiB", Some(Value::Integer(settings.max_record_kib.into())))
            .with("ChannelCount", Some(Value::Integer(0)))
            .with("QueueCount", Some(Value::Integer(known.queues().len() as i64)))
            .with("RecordDistributionStrategy", Some(strategy));
    }
    call.reply(&Value::map([("StreamDescriptionSummary", description)]))
}

/// Adds the members that both descriptions have.
fn add_state<'a>(value: Value<'a>, call: &Call<'_>, known: &Known) -> Value<'a> {
    let settings = known.settings();
    let metrics = settings.shard_metrics.iter().cloned().map(Value::text).collect();
    let is_today = call.service.profile == Profile::Today;
    let mode = || Value::map([("StreamMode", Value::text(settings.mode.name()))]);
    let encryption = if settings.key_id.is_some() { "KMS" } else { "NONE" };
    value
        .with("StreamName", Some(Value::text(known.name.clone())))
        .with("StreamARN", Some(Value::text(known.arn())))
        .with("StreamStatus", Some(Value::text(known.status(known.now()).name())))
        .with("StreamModeDetails", is_today.then(mode))
        .with("RetentionPeriodHours", Some(Value::Integer(settings.retention_hours.into())))
        .with("StreamCreationTimestamp", Some(Value::Time(creation_time(known))))
        .with(
            "EnhancedMonitoring",
            Some(Value::List(vec![Value::map([("ShardLevelMetrics", Value::List(metrics))])])),
        )
        .with("EncryptionType", Some(Value::text(encryption)))
        .with("KeyId", settings.key_id.clone().map(Value::text))
}

/// Returns when a stream was created. Answers have whole seconds, so that clients can send the same value back.
pub(super) fn creation_time(known: &Known) -> crate::Timestamp {
    crate::Timestamp::from_millis(known.created_at.as_millis() / 1_000 * 1_000)
}

/// Returns a shard as answers have it.
pub(super) fn shard_value(shard: &ShardDescription) -> Value<'static> {
    let numbers = ShardNumbers::of(shard);
    let end = shard.closed_at.map(|closed_at| Value::text(numbers.end(closed_at).to_string()));
    let range = Value::map([("StartingSequenceNumber", Value::text(numbers.start().to_string()))]);
    let value = Value::map([("ShardId", Value::text(shard_id(shard.id)))]);
    value
        .with("ParentShardId", shard.parent.map(|parent| Value::text(shard_id(parent))))
        .with("AdjacentParentShardId", shard.adjacent_parent.map(|parent| Value::text(shard_id(parent))))
        .with("HashKeyRange", Some(hash_key_range(shard)))
        .with("SequenceNumberRange", Some(range.with("EndingSequenceNumber", end)))
}

pub(super) fn hash_key_range(shard: &ShardDescription) -> Value<'static> {
    let range = shard.hash_key_range;
    Value::map([
        ("StartingHashKey", Value::text(range.start.get().to_string())),
        ("EndingHashKey", Value::text(range.end.get().to_string())),
    ])
}
