//! The worker's threads that change shards, sync, and trim.

use std::collections::BTreeMap;
use std::time::Duration;

use streamlog::{HashKey, ShardDescription, ShardFilter, ShardId, Stream};

use super::board::{Board, Outcome, unexpected};
use super::now;
use super::plan::{Random, SHARD_COUNT_MAX};

/// Splits, merges and scales, with pauses in between.
pub(crate) fn reshard(stream: &Stream, board: &Board) -> Outcome {
    let mut random = board.random(5);
    loop {
        board.sleep(Duration::from_millis(random.between(0, 1_200)));
        if board.must_stop() {
            return Ok(());
        }
        let change = reshard_once(stream, &mut random);
        change.map_err(unexpected("P16", "a change of shards failed"))?;
        check_tiles("open shards", stream.list_shards(ShardFilter::AtLatest))?;
        check_tiles("shards at the horizon", stream.list_shards(ShardFilter::AtTrimHorizon))?;
        board.counters().reshards += 1;
    }
}

fn reshard_once(stream: &Stream, random: &mut Random) -> streamlog::Result<()> {
    let mut open = stream.list_shards(ShardFilter::AtLatest);
    open.sort_by_key(|shard| shard.hash_key_range.start);
    let at = random.below(open.len() as u64) as usize;
    let can_grow = open.len() < SHARD_COUNT_MAX as usize;
    match random.below(8) {
        0 => drop(stream.update_shard_count(random.between(1, SHARD_COUNT_MAX.into()) as u32)?),
        1 if can_grow => drop(stream.split_shard(open[at].id, point_in(&open[at], random))?),
        2..=4 if can_grow => drop(stream.split_shard_evenly(open[at].id)?),
        _ if open.len() > 1 => {
            let at = at.min(open.len() - 2);
            stream.merge_shards(open[at].id, open[at + 1].id)?;
        }
        _ => {}
    }
    Ok(())
}

/// Returns a random point in the middle half of a shard's hash-key range, so that every shard stays large enough to split.
fn point_in(shard: &ShardDescription, random: &mut Random) -> HashKey {
    let (start, end) = (shard.hash_key_range.start.get(), shard.hash_key_range.end.get());
    let quarter = (end - start) / 4;
    HashKey::new(start + quarter + quarter / 128 * u128::from(random.below(256)))
}

/// Checks that shards cover the hash-key space exactly once.
pub(crate) fn check_tiles(which: &str, mut shards: Vec<ShardDescription>) -> Outcome {
    shards.sort_by_key(|shard| shard.hash_key_range.start);
    let begins = shards.first().is_some_and(|first| first.hash_key_range.start == HashKey::MIN);
    let ends = shards.last().is_some_and(|last| last.hash_key_range.end == HashKey::MAX);
    let mut pairs = shards.windows(2);
    if begins && ends && pairs.all(|pair| pair[0].hash_key_range.is_followed_by(&pair[1].hash_key_range)) {
        return Ok(());
    }
    let ranges: Vec<_> =
        shards.iter().map(|shard| format!("{} {}", shard.id, shard.hash_key_range)).collect();
    Err(format!("P16: the {which} do not cover the hash keys once: {}", ranges.join(", ")))
}

/// Syncs and trims in addition to the stream's own maintenance, and checks the synced records.
pub(crate) fn maintain(stream: &Stream, board: &Board) -> Outcome {
    let mut random = board.random(6);
    let mut horizons: BTreeMap<ShardId, u64> = BTreeMap::new();
    while !board.must_stop() {
        let before = stream.stats().map_err(unexpected("P2", "no counts"))?;
        let (began, acknowledged) = (now(), board.acknowledged());
        let may_trim = random.one_in(2);
        if may_trim {
            stream.maintain().map_err(unexpected("P10", "a pass of the maintenance failed"))?;
            board.note_sweep(began);
        } else {
            stream.sync().map_err(unexpected("P10", "a sync failed"))?;
        }
        board.note_durable(&acknowledged);
        let after = stream.stats().map_err(unexpected("P2", "no counts"))?;
        for shard in &after.shards {
            let known = before.shards.iter().find(|known| known.shard == shard.shard);
            if known.is_some_and(|known| shard.synced_sequence < known.next_sequence) {
                return Err(format!("P2: a sync returned, and left {shard:?} behind {known:?}"));
            }
            if known.is_some_and(|known| shard.horizon < known.horizon) {
                return Err(format!("P12: a horizon went back from {known:?} to {shard:?}"));
            }
            let horizon = shard.horizon.get();
            let trimmed = horizon - horizons.insert(shard.shard, horizon).unwrap_or(horizon);
            board.counters().trimmed_records += trimmed;
        }
        horizons.retain(|shard, _| after.shards.iter().any(|known| known.shard == *shard));
        let mut counters = board.counters();
        counters.open_shards = stream.list_shards(ShardFilter::AtLatest).len() as u64;
        counters.disk_bytes = after.disk_bytes();
        drop(counters);
        board.sleep(Duration::from_millis(random.between(20, 600)));
    }
    Ok(())
}
