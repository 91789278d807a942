//! Splitting, merging and scaling.

use std::sync::Arc;

use super::super::catalogue::{Known, Mode};
use super::super::names::shard_id;
use super::lifecycle::{check_shard_limit, in_last_day, with_now};
use super::{Answered, Call, Fault, Input, Reply, Value};
use crate::{Error, HashKey, ShardDescription, ShardId, limits};

/// How often the number of shards may be changed in a day.
const COUNT_CHANGES_MAX: usize = 10;

pub(super) fn split_shard(call: &Call<'_>, input: Input<'_>) -> Answered<Reply> {
    let (known, [shard]) = named(call, &input, ["ShardToSplit"])?;
    known.change(|_| {
        let shard = listed(call, &known, shard)?;
        check_provisioned(&known)?;
        check_shard_limit(call, call.service.catalogue.usage()?.open_shards, 1)?;
        check_stream_limit(known.open_shard_count() + 1)?;
        let text = input.required("NewStartingHashKey");
        let range = shard.hash_key_range;
        let (start, end) = (range.start.get(), range.end.get());
        let at = text.parse().ok().filter(|at: &u128| start.saturating_add(1) < *at && *at < end);
        let Some(at) = at else {
            return Err(Fault::invalid(format!(
                "NewStartingHashKey {text} used in SplitShard() on shard {} in stream {} under account {} is not both greater \
                 than one plus the shard's StartingHashKey {start} and less than the shard's EndingHashKey {end}.",
                shard_id(shard.id),
                known.name,
                known.account_id()
            )));
        };
        check_open(&known, &shard)?;
        known.stream.split_shard(shard.id, HashKey::new(at)).map_err(|error| refused(&known, &error))
    })?;
    Ok(Reply::Empty)
}

pub(super) fn merge_shards(call: &Call<'_>, input: Input<'_>) -> Answered<Reply> {
    let (known, shards) = named(call, &input, ["ShardToMerge", "AdjacentShardToMerge"])?;
    known.change(|_| {
        let [shard, adjacent] = [listed(call, &known, shards[0])?, listed(call, &known, shards[1])?];
        check_provisioned(&known)?;
        if !shard.hash_key_range.is_followed_by(&adjacent.hash_key_range) {
            return Err(Fault::invalid(format!(
                "Shards {} and {} in stream {} under account {} are not an adjacent pair of shards eligible for merging",
                shard_id(shard.id),
                shard_id(adjacent.id),
                known.name,
                known.account_id()
            )));
        }
        check_open(&known, &shard)?;
        check_open(&known, &adjacent)?;
        known.stream.merge_shards(shard.id, adjacent.id).map_err(|error| refused(&known, &error))
    })?;
    Ok(Reply::Empty)
}

/// Returns the stream and the ids of the shards that a request names.
fn named<const COUNT: usize>(
    call: &Call<'_>,
    input: &Input<'_>,
    members: [&str; COUNT],
) -> Answered<(Arc<Known>, [ShardId; COUNT])> {
    let name = call.service.stream_name(input)?;
    let mut shards = [ShardId::new(0); COUNT];
    for (shard, member) in shards.iter_mut().zip(members) {
        *shard = call.shard_id(input.required(member), name)?;
    }
    let known = call.service.catalogue.stream(name)?;
    known.check_active(known.now())?;
    Ok((known, shards))
}

fn listed(call: &Call<'_>, known: &Known, shard: ShardId) -> Answered<ShardDescription> {
    known.shard(shard).ok_or_else(|| call.no_shard(&shard_id(shard), &known.name))
}

fn check_open(known: &Known, shard: &ShardDescription) -> Answered<()> {
    if shard.is_open() {
        return Ok(());
    }
    Err(Fault::invalid(format!(
        "Shard {} in stream {} under account {} is closed.",
        shard_id(shard.id),
        known.name,
        known.account_id()
    )))
}

/// Fails for a stream on demand, whose shards are decided by the load.
fn check_provisioned(known: &Known) -> Answered<()> {
    if known.settings().mode == Mode::Provisioned {
        return Ok(());
    }
    Err(Fault::validation(format!(
        "Request is invalid. Stream {} under account {} is in On-Demand mode.",
        known.name,
        known.account_id()
    )))
}

fn check_stream_limit(count: u32) -> Answered<()> {
    if count <= limits::SHARD_COUNT_MAX {
        return Ok(());
    }
    Err(Fault::limit(format!("A stream of this server may have {} open shards.", limits::SHARD_COUNT_MAX)))
}

fn refused(known: &Known, error: &Error) -> Fault {
    match error {
        Error::InvalidArgument(reason) => Fault::invalid(reason.to_string()),
        error => known.failed(error),
    }
}

pub(super) fn update_shard_count(call: &Call<'_>, input: Input<'_>) -> Answered<Reply> {
    let known = call.stream(&input)?;
    let target = input.count("TargetShardCount").unwrap_or_default();
    let has_quotas = call.service.catalogue.behaviour().has_quotas();
    let before = known.change(|changing| {
        check_provisioned(&known)?;
        let count = known.open_shard_count();
        let changes = in_last_day(&known.settings().shard_count_changes, changing.now);
        if has_quotas && changes.len() >= COUNT_CHANGES_MAX {
            return Err(Fault::limit(format!(
                "The number of shards of stream {} may be changed {COUNT_CHANGES_MAX} times in 24 hours.",
                known.name
            )));
        }
        if target > count.saturating_mul(2) || target.saturating_mul(2) < count {
            return Err(Fault::invalid(format!(
                "UpdateShardCount cannot scale to more than double or less than half of the current open shard count. Current \
                 open shard count: {count}. Target: {target}."
            )));
        }
        check_stream_limit(target)?;
        check_shard_limit(call, call.service.catalogue.usage()?.open_shards, target.saturating_sub(count))?;
        // A crash in between leaves a change that does not count towards the quota.
        known.stream.update_shard_count(target).map_err(|error| refused(&known, &error))?;
        changing.set(|settings| settings.shard_count_changes = with_now(changes, changing.now))?;
        Ok(count)
    })?;
    call.reply(&Value::map([
        ("StreamName", Value::text(known.name.clone())),
        ("CurrentShardCount", Value::Integer(before.into())),
        ("TargetShardCount", Value::Integer(target.into())),
        ("StreamARN", Value::text(known.arn())),
    ]))
}
