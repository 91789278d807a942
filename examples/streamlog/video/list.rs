//! `video list`: lists fragments.

use std::time::Duration;

use indicatif::HumanBytes;
use serde_json::{Value, json};
use streamlog::video::{FragmentInfo, VideoStream};

use super::VideoListArgs;
use crate::failure::Outcome;
use crate::output::{print_json, print_text};
use crate::table::Align::{Left, Right};
use crate::table::{span, table};

/// Prints the fragments in a range, or the last of them.
pub(super) fn list(stream: &VideoStream, args: &VideoListArgs) -> Outcome {
    let mut fragments = stream.fragments(&args.range.selector())?;
    if let Some(count) = args.count {
        fragments.drain(..fragments.len().saturating_sub(count));
    }
    if args.json {
        let fragments: Vec<_> = fragments.iter().map(as_json).collect();
        return print_json(&json!({ "fragments": fragments }));
    }
    let rows = fragments.iter().map(|info| {
        [
            info.number.to_string(),
            info.producer_time.to_string(),
            info.server_time.to_string(),
            span(info.length),
            HumanBytes(info.bytes).to_string(),
        ]
    });
    let columns =
        [("fragment", Left), ("begins", Left), ("arrived", Left), ("length", Right), ("size", Right)];
    print_text(&table(columns, rows.collect()))
}

fn as_json(info: &FragmentInfo) -> Value {
    json!({
        "number": info.number.to_string(),
        "producer_time": info.producer_time.to_string(),
        "producer_time_micros": info.producer_time.as_micros(),
        "server_time": info.server_time.to_string(),
        "server_time_micros": info.server_time.as_micros(),
        "length_seconds": info.length.as_secs_f64(),
        "bytes": info.bytes,
    })
}

/// Returns the time from the beginning of the first fragment to the end of the last one, by the producer's clock.
pub(super) fn extent(fragments: &[FragmentInfo]) -> Duration {
    let begin = fragments.iter().map(|info| info.producer_time).min();
    let end = fragments.iter().map(FragmentInfo::producer_end).max();
    begin.zip(end).map_or(Duration::ZERO, |(begin, end)| end.since(begin))
}
