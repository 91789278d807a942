//! The visitor that reads at random places, keeps batches that it has read, and inspects the whole stream.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use streamlog::{SequenceNumber, ShardFilter, ShardId, StreamReader};

use super::board::{Board, Outcome, unexpected};
use super::held::Held;
use super::keeper::check_tiles;
use super::plan::Random;
use super::reader::read_somewhere;

/// The end of each shard at the last check.
type Ends = BTreeMap<ShardId, SequenceNumber>;

pub(crate) fn seek(stream: &StreamReader, board: &Board) -> Outcome {
    let mut random = board.random(2);
    let mut held = Held::default();
    let mut ends = Ends::new();
    let mut committed: BTreeMap<String, Ends> = BTreeMap::new();
    while !board.must_stop() {
        read_somewhere(stream, board, &mut random, &mut held)?;
        match random.below(24) {
            0 => verify(stream, &mut random)?,
            1 => describe(stream)?,
            2 => count(stream, &mut ends)?,
            3 => describe_groups(stream, &mut committed)?,
            _ => continue,
        }
        board.counters().looks += 1;
    }
    Ok(())
}

/// Verifies the stream for a while, and checks that nothing is damaged as far as it gets.
fn verify(stream: &StreamReader, random: &mut Random) -> Outcome {
    let bytes_max = random.below(64 << 20);
    let found = stream.verify(|at| match at.bytes_read < bytes_max {
        true => ControlFlow::Continue(()),
        false => ControlFlow::Break(()),
    });
    let found = found.map_err(unexpected("P9 L8", "a verification from outside"))?;
    if found.damage.is_empty() {
        Ok(())
    } else {
        Err(format!("P9 L8: a verification from outside found {found:?}"))
    }
}

/// Checks that shards cover the hash-key space exactly once.
fn describe(stream: &StreamReader) -> Outcome {
    let described = stream.describe();
    let open = described.shards.iter().filter(|shard| shard.is_open()).cloned().collect();
    check_tiles("open shards, described outside,", open)?;
    check_tiles("open shards, listed outside,", stream.list_shards(ShardFilter::AtLatest))?;
    check_tiles("shards at the horizon, listed outside,", stream.list_shards(ShardFilter::AtTrimHorizon))
}

/// Checks that no shard loses records at its end.
fn count(stream: &StreamReader, ends: &mut Ends) -> Outcome {
    let stats = stream.stats().map_err(unexpected("P6", "no counts"))?;
    for shard in &stats.shards {
        let end = ends.entry(shard.shard).or_default();
        if shard.next_sequence < *end {
            return Err(format!("P1 L8: a shard that had ended before {end} is {shard:?}"));
        }
        *end = shard.next_sequence;
        let is_ordered = shard.horizon <= shard.next_sequence && shard.synced_sequence <= shard.next_sequence;
        if !is_ordered {
            return Err(format!("P6 L8: counts from outside contradict each other: {shard:?}"));
        }
    }
    ends.retain(|shard, _| stats.shards.iter().any(|known| known.shard == *shard));
    Ok(())
}

/// Checks that no group moves backwards.
fn describe_groups(stream: &StreamReader, committed: &mut BTreeMap<String, Ends>) -> Outcome {
    for name in stream.groups().map_err(unexpected("P1 L8", "no groups"))? {
        let described = stream.group(name.as_str()).describe();
        let described = described.map_err(unexpected("P1 L8", "a group that another process has open"))?;
        let known = committed.entry(name).or_default();
        for shard in &described.shards {
            let next = known.entry(shard.shard).or_default();
            if shard.next_sequence < *next {
                return Err(format!("P1 L8: a group that was to go on with {next} is at {shard:?}"));
            }
            *next = shard.next_sequence;
        }
    }
    Ok(())
}
