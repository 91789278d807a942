//! Lists of streams and of shards, page by page.

use serde::{Deserialize, Serialize};

use super::super::catalogue::{Known, Status};
use super::super::model::Profile;
use super::super::names::parse_shard_id;
use super::super::token::Purpose;
use super::describe::{creation_time, shard_value};
use super::{Answered, Call, Fault, Input, Reply, Value};
use crate::{ShardDescription, ShardFilter, ShardId, Timestamp};

/// How many streams a page has by default.
const STREAMS_DEFAULT: usize = 100;
const STREAMS_DEFAULT_2018: usize = 10;
/// The largest page of shards.
const SHARDS_MAX: usize = 1_000;

pub(super) fn list_streams(call: &Call<'_>, input: Input<'_>) -> Answered<Reply> {
    let is_today = call.service.profile == Profile::Today;
    let default = if is_today { STREAMS_DEFAULT } else { STREAMS_DEFAULT_2018 };
    let limit = input.count("Limit").map_or(default, |limit| limit as usize);
    let after = match input.text("NextToken") {
        Some(token) => Some(call.service.sealer.open_page(Purpose::Streams, token, call.now())?),
        None => input.text("ExclusiveStartStreamName").map(str::to_owned),
    };
    let names = call.service.catalogue.names()?;
    let mut names = names.into_iter().filter(|name| after.as_ref().is_none_or(|after| name > after));
    // One that was deleted since then is left out.
    let mut found = names.by_ref().filter_map(|name| call.service.catalogue.stream(&name).ok());
    let page: Vec<_> = found.by_ref().take(limit).collect();
    let has_more = found.next().is_some();
    let last = page.last().filter(|_| has_more && is_today).map(|known| known.name.clone());
    let next =
        last.map(|last| Value::text(call.service.sealer.seal_page(Purpose::Streams, last, call.now())));
    let names = page.iter().map(|known| Value::text(known.name.clone())).collect();
    let summaries = is_today.then(|| Value::List(page.iter().map(|known| summary(known)).collect()));
    let answer = Value::map([("StreamNames", Value::List(names)), ("HasMoreStreams", Value::Bool(has_more))]);
    call.reply(&answer.with("NextToken", next).with("StreamSummaries", summaries))
}

fn summary(known: &Known) -> Value<'static> {
    let mode = Value::text(known.settings().mode.name());
    Value::map([
        ("StreamName", Value::text(known.name.clone())),
        ("StreamARN", Value::text(known.arn())),
        ("StreamStatus", Value::text(known.status(known.now()).name())),
        ("StreamModeDetails", Value::map([("StreamMode", mode)])),
        ("StreamCreationTimestamp", Value::Time(creation_time(known))),
    ])
}

/// The contents of a page token of shards: which list it belongs to, and after which shard it continues.
#[derive(Debug, Serialize, Deserialize)]
struct ShardPage {
    stream: String,
    /// When the stream was created, in microseconds.
    created: u64,
    filter: Filter,
    after: Option<u32>,
}

/// A filter of shards. Times are in milliseconds.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum Filter {
    AfterShard(u32),
    AtTrimHorizon,
    FromTrimHorizon,
    AtLatest,
    AtTimestamp(u64),
    FromTimestamp(u64),
}

pub(super) fn list_shards(call: &Call<'_>, mut input: Input<'_>) -> Answered<Reply> {
    let filter = input.take("ShardFilter");
    let limit = input.count("MaxResults").map_or(SHARDS_MAX, |limit| SHARDS_MAX.min(limit as usize));
    let (known, page) = match input.text("NextToken") {
        Some(token) => next_page(call, &input, token, filter.is_some())?,
        None => first_page(call, &input, filter)?,
    };
    let shards = filtered(&known, page.filter);
    let after = page.after.map(ShardId::new);
    let mut shards = shards.iter().filter(|shard| after.is_none_or(|after| shard.id > after));
    let taken: Vec<_> = shards.by_ref().take(limit).collect();
    let last = taken.last().filter(|_| shards.next().is_some()).map(|shard| shard.id.get());
    let next = last.map(|last| {
        let page = ShardPage { after: Some(last), ..page };
        Value::text(call.service.sealer.seal_page(Purpose::Shards, page, call.now()))
    });
    let answer = Value::map([("Shards", Value::List(taken.into_iter().map(shard_value).collect()))]);
    call.reply(&answer.with("NextToken", next))
}

type Page = (std::sync::Arc<Known>, ShardPage);

fn first_page(call: &Call<'_>, input: &Input<'_>, filter: Option<Input<'_>>) -> Answered<Page> {
    if !input.has("StreamName") && !input.has("StreamARN") {
        return Err(Fault::invalid("Either NextToken or StreamName should be provided."));
    }
    let known = call.stream(input)?;
    check_creation(&known, input.time("StreamCreationTimestamp"))?;
    let after =
        input.text("ExclusiveStartShardId").map(|shard| call.shard_id(shard, &known.name)).transpose()?;
    let filter = filter.map_or(Ok(Filter::FromTrimHorizon), |filter| parse_filter(&filter))?;
    let page = ShardPage {
        stream: known.name.clone(),
        created: known.created_at.as_micros(),
        filter,
        after: after.map(ShardId::get),
    };
    Ok((known, page))
}

fn next_page(call: &Call<'_>, input: &Input<'_>, token: &str, has_filter: bool) -> Answered<Page> {
    for name in ["StreamName", "ExclusiveStartShardId", "StreamCreationTimestamp"] {
        if input.has(name) {
            return Err(Fault::invalid(format!("NextToken and {name} cannot be provided together.")));
        }
    }
    if has_filter {
        return Err(Fault::invalid("NextToken and ShardFilter cannot be provided together."));
    }
    let page: ShardPage = call.service.sealer.open_page(Purpose::Shards, token, call.now())?;
    let known = call.service.catalogue.stream(&page.stream)?;
    if known.created_at.as_micros() != page.created {
        return Err(call.service.catalogue.missing(&page.stream));
    }
    // Policies were asked about the stream of the ARN.
    if input.text("StreamARN").is_some_and(|arn| arn != known.arn()) {
        return Err(Fault::invalid("NextToken is that of another stream than StreamARN."));
    }
    Ok((known, page))
}

/// Returns the stream of a token of a page of shards, on which policies decide.
pub(super) fn stream_of(call: &Call<'_>, input: &Input<'_>) -> Answered<String> {
    let token = input.text("NextToken").unwrap_or_default();
    let page: ShardPage = call.service.sealer.open_page(Purpose::Shards, token, call.now())?;
    Ok(page.stream)
}

/// Fails if the given time is not that of the stream's creation: the caller then means another stream of that name.
pub(super) fn check_creation(known: &Known, time: Option<Timestamp>) -> Answered<()> {
    match time {
        Some(time) if time.as_millis() / 1_000 != known.created_at.as_millis() / 1_000 => {
            Err(Fault::not_found(format!(
                "Stream {} under account {} with the given creation time not found.",
                known.name,
                known.account_id()
            )))
        }
        _ => Ok(()),
    }
}

fn parse_filter(input: &Input<'_>) -> Answered<Filter> {
    let kind = input.required("Type");
    let time = || {
        input.time("Timestamp").map(Timestamp::as_millis).ok_or_else(|| {
            Fault::invalid(format!("Timestamp must be provided for the ShardFilter type {kind}."))
        })
    };
    match kind {
        "AFTER_SHARD_ID" => {
            let shard = input.text("ShardId").and_then(parse_shard_id).ok_or_else(|| {
                Fault::invalid("A valid ShardId must be provided for the ShardFilter type AFTER_SHARD_ID.")
            })?;
            Ok(Filter::AfterShard(shard.get()))
        }
        "AT_TRIM_HORIZON" => Ok(Filter::AtTrimHorizon),
        "AT_LATEST" => Ok(Filter::AtLatest),
        "AT_TIMESTAMP" => Ok(Filter::AtTimestamp(time()?)),
        "FROM_TIMESTAMP" => Ok(Filter::FromTimestamp(time()?)),
        _ => Ok(Filter::FromTrimHorizon),
    }
}

/// Returns the shards that pass a filter. A time before the listed shards existed means the first of them.
fn filtered(known: &Known, filter: Filter) -> Vec<ShardDescription> {
    if known.status(known.now()) == Status::Creating {
        return vec![];
    }
    let filter = match filter {
        Filter::AfterShard(shard) => ShardFilter::AfterShard(ShardId::new(shard)),
        Filter::AtTrimHorizon => ShardFilter::AtTrimHorizon,
        Filter::FromTrimHorizon => ShardFilter::FromTrimHorizon,
        Filter::AtLatest => ShardFilter::AtLatest,
        Filter::AtTimestamp(millis) => ShardFilter::AtTimestamp(Timestamp::from_millis(millis)),
        Filter::FromTimestamp(millis) => ShardFilter::FromTimestamp(Timestamp::from_millis(millis)),
    };
    known.stream.list_shards(filter)
}
