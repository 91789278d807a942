//! `split`, `merge`, `scale` and `retention`: commands that change a stream without putting records.

use serde_json::{Value, json};
use streamlog::{Retention, ShardDescription, ShardFilter, Stream, StreamReader};

use crate::args::{MergeArgs, RetentionArgs, ScaleArgs, SplitArgs};
use crate::failure::Outcome;
use crate::output::{print_json, print_text};
use crate::report::retention_as_text;
use crate::shards::{parents, print_shards_as_json, range};

/// Splits a shard, and prints its children.
pub(crate) fn split(stream: &Stream, args: &SplitArgs) -> Outcome {
    let children = match args.at {
        Some(hash_key) => stream.split_shard(args.shard, hash_key)?,
        None => stream.split_shard_evenly(args.shard)?,
    };
    print_new(stream, children, args.json)
}

/// Merges two shards, and prints their child.
pub(crate) fn merge(stream: &Stream, args: &MergeArgs) -> Outcome {
    let child = stream.merge_shards(args.shard, args.adjacent)?;
    print_new(stream, vec![child], args.json)
}

/// Scales the stream, and prints the open shards in the order of their hash keys.
pub(crate) fn scale(stream: &Stream, args: &ScaleArgs) -> Outcome {
    stream.update_shard_count(args.count)?;
    let mut open = stream.list_shards(ShardFilter::AtLatest);
    open.sort_by_key(|shard| shard.hash_key_range.start);
    print_new(stream, open, args.json)
}

fn print_new(stream: &Stream, shards: Vec<ShardDescription>, is_json: bool) -> Outcome {
    if is_json {
        return print_shards_as_json(stream, shards);
    }
    let lines = shards.iter().map(|shard| {
        let from = parents(shard, " and ");
        let from = if from.is_empty() { from } else { format!(", from {from}") };
        format!("{}  {}{from}\n", shard.id, range(shard.hash_key_range))
    });
    print_text(&lines.collect::<String>())
}

/// Prints how long records are kept.
pub(crate) fn print_retention(stream: &StreamReader, is_json: bool) -> Outcome {
    let retention = stream.describe().retention;
    if is_json { print_json(&as_json(retention)) } else { print_text(&(retention_as_text(retention) + "\n")) }
}

/// Changes the given settings, and prints how long records are kept afterwards.
pub(crate) fn retention(stream: &Stream, args: &RetentionArgs) -> Outcome {
    stream.set_retention(changed(stream.describe().retention, args))?;
    print_retention(stream, args.json)
}

fn changed(retention: Retention, args: &RetentionArgs) -> Retention {
    let age = args.age.map_or(retention.age, |age| age.0);
    let bytes_max = args.bytes.map_or(retention.bytes_max, |bytes| bytes.0);
    let retention = age.map_or(Retention::forever(), Retention::age);
    bytes_max.map_or(retention, |bytes| retention.bytes_max(bytes))
}

fn as_json(retention: Retention) -> Value {
    json!({
        "retention_age_seconds": retention.age.map(|age| age.as_secs_f64()),
        "retention_bytes_max": retention.bytes_max,
    })
}
