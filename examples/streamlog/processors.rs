//! `processors`: the progress of processors, whose functions are called with the records of a stream.

use indicatif::{HumanBytes, HumanCount};
use serde_json::{Value, json};
use streamlog::{
    Error, ProcessorDescription, ProcessorLane, ProcessorShard, ProcessorWindow, StreamReader, Timestamp,
};

use crate::args::ProcessorsArgs;
use crate::failure::Outcome;
use crate::groups::lag_as_json;
use crate::output::{counted, print_json, print_text};
use crate::table::Align::{Left, Right};
use crate::table::{age, span, table};

/// Lists all processors, or prints one shard by shard.
pub(crate) fn print(stream: &StreamReader, args: &ProcessorsArgs) -> Outcome {
    if let Some(name) = &args.name {
        let described = stream.describe_processor(name)?;
        return match args.json {
            true => print_json(&as_json(&described)),
            false => print_text(&as_text(&described, stream.now())),
        };
    }
    let mut all = vec![];
    for name in stream.processors()? {
        match stream.describe_processor(&name) {
            // It has been deleted since it was listed.
            Err(Error::InvalidArgument(_)) => {}
            described => all.push(described?),
        }
    }
    if args.json {
        return print_json(&json!({ "processors": all.iter().map(summary_as_json).collect::<Vec<_>>() }));
    }
    let now = stream.now();
    let rows = all.iter().map(|processor| {
        let lag = processor.lag();
        [
            processor.name.clone(),
            HumanCount(processor.shards.len() as u64).to_string(),
            HumanCount(lag.record_count).to_string(),
            HumanBytes(lag.bytes).to_string(),
            age(lag.age),
            HumanCount(processor.windows().count() as u64).to_string(),
            ago(processor.committed_at, now),
        ]
    });
    let columns = [
        ("processor", Left),
        ("shards", Right),
        ("records", Right),
        ("bytes", Right),
        ("oldest", Right),
        ("windows", Right),
        ("last commit", Left),
    ];
    print_text(&table(columns, rows.collect()))
}

fn ago(time: Timestamp, now: Timestamp) -> String {
    format!("{} ago", span(now.since(time)))
}

fn as_text(processor: &ProcessorDescription, now: Timestamp) -> String {
    let lag = processor.lag();
    let (records, bytes) = (counted(lag.record_count, "record"), HumanBytes(lag.bytes));
    let oldest =
        if lag.record_count == 0 { String::new() } else { format!(", the oldest {}", span(lag.age)) };
    let watermark = processor
        .watermark()
        .map_or_else(String::new, |watermark| format!("watermark    {watermark}, {}\n", ago(watermark, now)));
    let head = format!(
        "processor    {}\nlast commit  {}, {}\nto do        {records}, {bytes}{oldest}\n{watermark}\n",
        processor.name,
        processor.committed_at,
        ago(processor.committed_at, now),
    );
    let columns = [
        ("shard", Left),
        ("next", Right),
        ("records", Right),
        ("bytes", Right),
        ("oldest", Right),
        ("lane", Right),
        ("next", Right),
        ("window", Left),
    ];
    head + &table(columns, processor.shards.iter().flat_map(rows_of_shard).collect())
}

/// Returns a line for each lane. Only the first one has the shard's progress.
fn rows_of_shard(shard: &ProcessorShard) -> Vec<[String; 8]> {
    let of_shard = [
        shard.shard.to_string(),
        shard.next_sequence.to_string(),
        HumanCount(shard.lag.record_count).to_string(),
        HumanBytes(shard.lag.bytes).to_string(),
        age(shard.lag.age),
    ];
    let lines = match &shard.lanes[..] {
        [] => vec![["-".to_owned(), "-".to_owned(), "-".to_owned()]],
        lanes => lanes.iter().enumerate().flat_map(|(number, lane)| rows_of_lane(number, lane)).collect(),
    };
    let lines = lines.into_iter().enumerate().map(|(at, [lane, next, window])| {
        let [shard, checkpoint, records, bytes, oldest] =
            if at == 0 { of_shard.clone() } else { Default::default() };
        [shard, checkpoint, records, bytes, oldest, lane, next, window]
    });
    lines.collect()
}

/// Returns a line for each window of a lane, or one line without windows.
fn rows_of_lane(number: usize, lane: &ProcessorLane) -> Vec<[String; 3]> {
    let mut windows: Vec<_> = lane.windows.iter().map(window_as_text).collect();
    if windows.is_empty() {
        windows.push("-".to_owned());
    }
    let row = |window| [number.to_string(), lane.next_sequence.to_string(), window];
    windows.into_iter().map(row).collect()
}

fn window_as_text(window: &ProcessorWindow) -> String {
    let over = if window.is_over { ", over" } else { "" };
    let (length, state) = (span(window.end.since(window.start)), HumanBytes(window.state_bytes as u64));
    format!("{length} from {}{over}, state of {state}", window.start)
}

fn summary_as_json(processor: &ProcessorDescription) -> Value {
    let mut value = lag_as_json(processor.lag());
    value["processor"] = json!(processor.name);
    value["committed_at"] = json!(processor.committed_at.to_string());
    value["committed_at_micros"] = json!(processor.committed_at.as_micros());
    value["shard_count"] = json!(processor.shards.len());
    value["window_count"] = json!(processor.windows().count());
    value
}

fn as_json(processor: &ProcessorDescription) -> Value {
    let shards = processor.shards.iter().map(|shard| {
        let mut value = lag_as_json(shard.lag);
        value["shard"] = json!(shard.shard.to_string());
        value["next_sequence"] = json!(shard.next_sequence.get());
        if let Some(watermark) = shard.watermark {
            value["watermark"] = json!(watermark.to_string());
            value["watermark_micros"] = json!(watermark.as_micros());
        }
        value["lanes"] = shard.lanes.iter().map(lane_as_json).collect();
        value
    });
    let mut value = summary_as_json(processor);
    value["shards"] = shards.collect();
    value
}

fn lane_as_json(lane: &ProcessorLane) -> Value {
    let window = |window: &ProcessorWindow| {
        json!({
            "start": window.start.to_string(),
            "start_micros": window.start.as_micros(),
            "end": window.end.to_string(),
            "end_micros": window.end.as_micros(),
            "is_over": window.is_over,
            "state_bytes": window.state_bytes,
        })
    };
    json!({
        "next_sequence": lane.next_sequence.get(),
        "windows": lane.windows.iter().map(window).collect::<Vec<_>>(),
    })
}
