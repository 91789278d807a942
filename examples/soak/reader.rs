//! The threads that read, in the worker and in visitors.

use std::time::{Duration, Instant};

use streamlog::{Error, LineageIterator, Position, ShardIterator, StreamReader};

use super::board::{Board, Outcome, unexpected};
use super::held::Held;
use super::now;
use super::order::Order;
use super::plan::Random;

/// The maximum number of records in a read.
pub(crate) const RECORDS_MAX: u64 = 2_000;

/// Follows all shards from the trim horizon, for as long as the process lives.
pub(crate) fn tail(stream: &StreamReader, board: &Board) -> Outcome {
    follow_lineage(stream, board, &mut board.random(2), Position::TrimHorizon, Duration::MAX)
}

/// Follows all shards from a random position for a while, again and again.
pub(crate) fn wander_over_lineage(stream: &StreamReader, board: &Board) -> Outcome {
    let mut random = board.random(3);
    while !board.must_stop() {
        let position = match random.below(3) {
            0 => Position::TrimHorizon,
            1 => Position::Latest,
            _ => Position::AtTimestamp(now() - Duration::from_millis(random.below(12_000))),
        };
        let life = Duration::from_millis(random.between(100, 6_000));
        follow_lineage(stream, board, &mut random, position, life)?;
    }
    Ok(())
}

fn follow_lineage(
    stream: &StreamReader,
    board: &Board,
    random: &mut Random,
    position: Position,
    life: Duration,
) -> Outcome {
    let began = Instant::now();
    let iterator = stream.lineage_iterator(position);
    let mut iterator: LineageIterator = match iterator {
        Ok(iterator) => iterator,
        // A shard expired after the call had checked its horizon and before it looked for its records.
        Err(Error::Trimmed { .. }) => return Ok(()),
        Err(error) => return Err(format!("P6: a lineage iterator at {position:?}: {error}")),
    };
    board.report_jump();
    let mut order = Order::new(board);
    let mut waited = None;
    while !board.must_stop() && began.elapsed() < life {
        let (acknowledged, oldest, at) = (board.acknowledged(), board.oldest_allowed(), now());
        match iterator.next_batch(random.between(1, RECORDS_MAX) as usize) {
            Ok(batch) if batch.is_empty() => {
                order.check_end(&acknowledged)?;
                waited = board
                    .wait(random, |time| iterator.wait(time))
                    .map_err(unexpected("P6", "waiting for all shards"))?;
            }
            Ok(batch) => {
                board.check_wake(waited.take(), &batch)?;
                order.take(&batch, None)?;
                board.check_age(&batch, at, oldest)?;
                board.report_followed(&batch)?;
            }
            Err(Error::Trimmed { .. }) => {
                if iterator.skip_to_horizon() == 0 {
                    return Err("P6: a reader was told that records were trimmed, and none was".into());
                }
                order.allow_jump();
                board.report_jump();
                board.counters().overtaken += 1;
            }
            Err(error) => return Err(format!("P6: reading all shards: {error}")),
        }
    }
    Ok(())
}

/// Reads a random shard from a random position, again and again.
pub(crate) fn wander_over_shards(stream: &StreamReader, board: &Board) -> Outcome {
    let mut random = board.random(4);
    let mut held = Held::default();
    while !board.must_stop() {
        read_somewhere(stream, board, &mut random, &mut held)?;
    }
    Ok(())
}

/// Reads a random shard from a random position.
pub(crate) fn read_somewhere(
    stream: &StreamReader,
    board: &Board,
    random: &mut Random,
    held: &mut Held,
) -> Outcome {
    let stats = stream.stats().map_err(unexpected("P6", "no counts"))?;
    let shard = random.pick(&stats.shards);
    let (horizon, next) = (shard.horizon.get(), shard.next_sequence.get());
    // Up to the next record, but not after it, because a read after the next record would skip it.
    let inside = random.between(horizon, next.max(horizon)).into();
    let position = match random.below(5) {
        0 => Position::TrimHorizon,
        1 => Position::Latest,
        2 => Position::At(inside),
        3 if inside < shard.next_sequence => Position::After(inside),
        _ => Position::AtTimestamp(now() - Duration::from_millis(random.below(12_000))),
    };
    match stream.iterator(shard.shard, position) {
        Ok(iterator) => read_shard(board, random, iterator, position, held),
        // Retention overtook the position.
        Err(Error::Trimmed { .. } | Error::ShardNotFound(_)) => Ok(()),
        Err(error) => Err(format!("P6: an iterator over {} at {position:?}: {error}", shard.shard)),
    }
}

/// Reads a shard for a while, or to its end.
fn read_shard(
    board: &Board,
    random: &mut Random,
    mut iterator: ShardIterator,
    position: Position,
    held: &mut Held,
) -> Outcome {
    let mut order = Order::new(board);
    let mut is_first = true;
    for _ in 0..random.between(1, 60) {
        if board.must_stop() {
            return Ok(());
        }
        held.check(board)?;
        let (expected, oldest, at) = (iterator.next_sequence(), board.oldest_allowed(), now());
        let records_max = random.between(1, RECORDS_MAX) as usize;
        let bytes_max = if random.one_in(2) { usize::MAX } else { random.between(0, 300_000) as usize };
        let batch = match iterator.next_batch_within(records_max, bytes_max) {
            Ok(batch) => batch,
            Err(Error::Trimmed { requested, horizon, .. }) => {
                if requested != expected || horizon <= requested || iterator.skip_to_horizon() == 0 {
                    return Err(format!(
                        "P6: at {expected} a reader was told of a trim from {requested} to {horizon}"
                    ));
                }
                order.allow_jump();
                board.counters().overtaken += 1;
                continue;
            }
            Err(error) => return Err(format!("P6: reading {}: {error}", iterator.shard())),
        };
        order.take(&batch, Some(expected))?;
        board.check_age(&batch, at, oldest)?;
        held.keep(random, &batch);
        if let (true, Position::AtTimestamp(time), Some(record)) = (is_first, position, batch.iter().next())
            && record.timestamp() < time
        {
            return Err(format!(
                "P6: asked for records since {time}, a reader got one of {}",
                record.timestamp()
            ));
        }
        is_first = false;
        if let Some(children) = batch.child_shards() {
            let end = iterator.next_sequence();
            return match children.iter().find(|child| child.first_sequence < end) {
                Some(child) => Err(format!("P5: {} begins below {end}, where its parent ends", child.id)),
                None => Ok(()),
            };
        }
        if batch.is_empty() {
            let wait = Duration::from_millis(random.below(50));
            iterator.wait(wait).map_err(unexpected("P6", "waiting for a shard"))?;
        }
    }
    Ok(())
}
