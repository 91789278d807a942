//! Metrics of shards, and the limits and settings of the account.

use std::collections::BTreeSet;

use super::{Answered, Call, Fault, Input, Reply, Value};

/// The metrics of shards.
pub(in crate::gateway) const SHARD_METRICS: [&str; 7] = [
    "IncomingBytes",
    "IncomingRecords",
    "IteratorAgeMilliseconds",
    "OutgoingBytes",
    "OutgoingRecords",
    "ReadProvisionedThroughputExceeded",
    "WriteProvisionedThroughputExceeded",
];
const ALL: &str = "ALL";
/// How many streams on demand an account may have, and how many channels.
const ON_DEMAND_STREAMS_MAX: i64 = 50;
const CHANNELS_MAX: i64 = 0;

pub(super) fn enable(call: &Call<'_>, input: Input<'_>) -> Answered<Reply> {
    change(call, &input, |metrics, named| metrics.extend(named))
}

pub(super) fn disable(call: &Call<'_>, input: Input<'_>) -> Answered<Reply> {
    change(call, &input, |metrics, named| metrics.retain(|metric| !named.contains(metric)))
}

fn change(
    call: &Call<'_>,
    input: &Input<'_>,
    change: impl FnOnce(&mut BTreeSet<String>, BTreeSet<String>),
) -> Answered<Reply> {
    let named = named(&input.texts("ShardLevelMetrics"))?;
    let known = call.stream(input)?;
    let (before, after) = known.change_now(|changing| {
        known.check_active(changing.now)?;
        let before = known.settings().shard_metrics.clone();
        let mut after = before.clone();
        change(&mut after, named);
        if after != before {
            changing.set(|settings| settings.shard_metrics.clone_from(&after))?;
        }
        Ok((before, after))
    })?;
    let list = |metrics: BTreeSet<String>| Value::List(metrics.into_iter().map(Value::text).collect());
    call.reply(&Value::map([
        ("StreamName", Value::text(known.name.clone())),
        ("CurrentShardLevelMetrics", list(before)),
        ("DesiredShardLevelMetrics", list(after)),
        ("StreamARN", Value::text(known.arn())),
    ]))
}

fn named(texts: &[&str]) -> Answered<BTreeSet<String>> {
    if let Some(unknown) = texts.iter().find(|text| **text != ALL && !SHARD_METRICS.contains(text)) {
        let values = SHARD_METRICS.join(", ");
        return Err(Fault::validation(format!(
            "1 validation error detected: Value '[{}]' at 'shardLevelMetrics' failed to satisfy constraint: Member must \
             satisfy constraint: [Member must satisfy enum value set: [{values}, {ALL}]] ({unknown} is none of them)",
            texts.join(", ")
        )));
    }
    let all = texts.contains(&ALL);
    let metrics = SHARD_METRICS.iter().filter(|metric| all || texts.contains(*metric));
    Ok(metrics.map(|metric| (*metric).to_owned()).collect())
}

pub(super) fn describe_limits(call: &Call<'_>, _: Input<'_>) -> Answered<Reply> {
    let usage = call.service.catalogue.usage()?;
    let limit = call.service.catalogue.behaviour().shards_max;
    call.reply(&Value::map([
        ("ShardLimit", Value::Integer(limit.into())),
        ("OpenShardCount", Value::Integer(usage.open_shards.into())),
        ("OnDemandStreamCount", Value::Integer(usage.on_demand_streams.into())),
        ("OnDemandStreamCountLimit", Value::Integer(ON_DEMAND_STREAMS_MAX)),
        ("ChannelCount", Value::Integer(0)),
        ("ChannelCountLimit", Value::Integer(CHANNELS_MAX)),
    ]))
}

pub(super) fn describe_account_settings(call: &Call<'_>, _: Input<'_>) -> Answered<Reply> {
    call.reply(&commitment())
}

pub(super) fn update_account_settings(call: &Call<'_>, mut input: Input<'_>) -> Answered<Reply> {
    let wanted = input.take("MinimumThroughputBillingCommitment");
    if wanted.is_some_and(|wanted| wanted.required("Status") == "ENABLED") {
        return Err(Fault::validation(
            "Request is invalid. This server bills nothing, so there is no throughput to commit to.",
        ));
    }
    call.reply(&commitment())
}

fn commitment() -> Value<'static> {
    let status = Value::map([("Status", Value::text("DISABLED"))]);
    Value::map([("MinimumThroughputBillingCommitment", status)])
}
