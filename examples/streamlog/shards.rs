//! `shards`: current and former shards as a table, a picture, a graph or JSON.

use std::collections::HashMap;

use indicatif::{HumanBytes, HumanCount};
use serde_json::{Value, json};
use streamlog::{HashKeyRange, ShardDescription, ShardStats, StreamReader};

use crate::args::ShardsArgs;
use crate::failure::{Failure, Outcome};
use crate::output::{print_json, print_text, terminal_columns};
use crate::{dot, picture};

/// A shard and its counts.
pub(crate) type Counted = (ShardDescription, ShardStats);

/// The width without a terminal.
const COLUMNS: usize = 80;

/// Prints the shards that match a filter.
pub(crate) fn list(stream: &StreamReader, args: &ShardsArgs) -> Outcome {
    let shards = stream.list_shards(args.filter);
    if args.json {
        return print_shards_as_json(stream, shards);
    }
    if args.dot {
        return print_text(&dot::graph(&with_counts(stream, shards)?));
    }
    if shards.is_empty() {
        return print_text("no such shards\n");
    }
    let picture = picture::lineage(&shards, terminal_columns().unwrap_or(COLUMNS));
    print_text(&format!("{}\n{picture}", table(&with_counts(stream, shards)?)))
}

/// Returns each shard with its counts.
pub(crate) fn with_counts(
    stream: &StreamReader,
    shards: Vec<ShardDescription>,
) -> Result<Vec<Counted>, Failure> {
    let stats = stream.stats()?.shards.into_iter();
    let mut stats: HashMap<_, _> = stats.map(|counts| (counts.shard, counts)).collect();
    let counted =
        shards.into_iter().filter_map(|shard| stats.remove(&shard.id).map(|counts| (shard, counts)));
    Ok(counted.collect())
}

fn table(shards: &[Counted]) -> String {
    let head = ["shard", "state", "parents", "hash keys", "sequence", "records", "disk"].map(str::to_owned);
    let rows: Vec<_> = std::iter::once(head).chain(shards.iter().map(row)).collect();
    let width_of = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or_default();
    let widths: [usize; 7] = std::array::from_fn(width_of);
    let line = |row: &[String; 7]| {
        let [id, state, parents, range, sequence, records, disk] = row;
        let [id_width, state_width, parents_width, range_width, sequence_width, records_width, disk_width] =
            widths;
        format!(
            "{id:>id_width$}  {state:state_width$}  {parents:parents_width$}  {range:range_width$}  \
             {sequence:sequence_width$}  {records:>records_width$}  {disk:>disk_width$}\n"
        )
    };
    rows.iter().map(line).collect()
}

fn row((shard, counts): &Counted) -> [String; 7] {
    [
        shard.id.get().to_string(),
        state(shard).into(),
        parents(shard, ", "),
        range(shard.hash_key_range),
        sequence(shard),
        HumanCount(counts.record_count()).to_string(),
        HumanBytes(counts.disk_bytes).to_string(),
    ]
}

/// Returns `open` or `closed`.
pub(crate) fn state(shard: &ShardDescription) -> &'static str {
    if shard.is_open() { "open" } else { "closed" }
}

/// Returns the numbers of the shards from which a shard was split or merged.
pub(crate) fn parents(shard: &ShardDescription, between: &str) -> String {
    shard.parents().map(|parent| parent.get().to_string()).collect::<Vec<_>>().join(between)
}

/// Returns the range of sequence numbers. The end is exclusive, and missing for an open shard.
pub(crate) fn sequence(shard: &ShardDescription) -> String {
    let closing = shard.closing_sequence.map(|closing| closing.to_string()).unwrap_or_default();
    format!("{}..{closing}", shard.first_sequence)
}

/// Returns a range of the hash-key space in percent.
pub(crate) fn range(range: HashKeyRange) -> String {
    let per_cent = |hash_key: u128| hash_key as f64 / 2f64.powi(128) * 100.0;
    let short = |per_cent: f64| {
        let digits = format!("{per_cent:.3}");
        digits.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    let [start, end] = [range.start, range.end].map(|hash_key| short(per_cent(hash_key.get())));
    if start == end { format!("at {start}%") } else { format!("{start}% - {end}%") }
}

/// Prints shards as one JSON object.
pub(crate) fn print_shards_as_json(stream: &StreamReader, shards: Vec<ShardDescription>) -> Outcome {
    let shards = with_counts(stream, shards)?;
    let shards: Vec<_> = shards.iter().map(|(shard, counts)| shard_as_json(shard, counts)).collect();
    print_json(&json!({ "shards": shards }))
}

/// Returns everything known about a shard.
pub(crate) fn shard_as_json(shard: &ShardDescription, counts: &ShardStats) -> Value {
    json!({
        "shard": shard.id.to_string(),
        "is_open": shard.is_open(),
        "parents": shard.parents().map(|parent| parent.to_string()).collect::<Vec<_>>(),
        // As text, because most JSON readers store numbers with 53 bits.
        "hash_key_start": shard.hash_key_range.start.to_string(),
        "hash_key_end": shard.hash_key_range.end.to_string(),
        "first_sequence": shard.first_sequence.get(),
        "closing_sequence": shard.closing_sequence.map(|sequence| sequence.get()),
        "created_at_micros": shard.created_at.as_micros(),
        "closed_at_micros": shard.closed_at.map(|time| time.as_micros()),
        "horizon": counts.horizon.get(),
        "next_sequence": counts.next_sequence.get(),
        "synced_sequence": counts.synced_sequence.get(),
        "record_count": counts.record_count(),
        "segment_count": counts.segment_count,
        "disk_bytes": counts.disk_bytes,
    })
}
