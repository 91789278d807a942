//! The visitor that follows all shards.

use std::collections::BTreeSet;

use streamlog::{Error, Position, ShardFilter, ShardId, ShardIterator, StreamReader, wait_any};

use super::board::{Board, Outcome, unexpected};
use super::now;
use super::order::Order;
use super::plan::Random;
use super::reader::{RECORDS_MAX, tail};

/// Follows all shards from the trim horizon, with one iterator over all of them or with one for each.
pub(crate) fn follow(stream: &StreamReader, board: &Board) -> Outcome {
    let mut random = board.random(9);
    let has_one_for_each = random.one_in(2);
    while !board.must_stop() {
        if has_one_for_each {
            follow_shards(stream, board, &mut random)?;
        } else {
            tail(stream, board)?;
        }
    }
    Ok(())
}

/// Reads each shard with an iterator of its own: a child after all its parents. Returns early if a shard has expired before it was read.
fn follow_shards(stream: &StreamReader, board: &Board, random: &mut Random) -> Outcome {
    board.report_jump();
    let mut order = Order::new(board);
    let mut finished: BTreeSet<ShardId> = BTreeSet::new();
    let mut reading = vec![];
    for shard in stream.list_shards(ShardFilter::AtTrimHorizon) {
        match stream.iterator(shard.id, Position::TrimHorizon) {
            Ok(iterator) => reading.push(iterator),
            Err(Error::ShardNotFound(_)) => return Ok(()),
            Err(error) => return Err(format!("P6 L8: an iterator over {}: {error}", shard.id)),
        }
    }
    let mut waited = None;
    while !board.must_stop() {
        let mut ended = None;
        let mut has_read = false;
        for (at, iterator) in reading.iter_mut().enumerate() {
            let (expected, oldest, began) = (iterator.next_sequence(), board.oldest_allowed(), now());
            match iterator.next_batch(random.between(1, RECORDS_MAX) as usize) {
                Ok(batch) => {
                    order.take(&batch, Some(expected))?;
                    if !batch.is_empty() {
                        board.check_wake(waited.take(), &batch)?;
                    }
                    board.check_age(&batch, began, oldest)?;
                    board.report_followed(&batch)?;
                    has_read |= !batch.is_empty();
                    if let Some(children) = batch.child_shards() {
                        ended = Some((at, children.to_vec()));
                        break;
                    }
                }
                Err(Error::Trimmed { .. }) => {
                    overtake(board, &mut order, iterator)?;
                    has_read = true;
                }
                Err(error) => return Err(format!("P6 L8: reading {}: {error}", iterator.shard())),
            }
        }
        let Some((at, children)) = ended else {
            if !has_read {
                waited = board
                    .wait(random, |time| wait_any(&reading, time).map(|ready| ready.is_some()))
                    .map_err(unexpected("P6 L8", "waiting for any shard"))?;
            }
            continue;
        };
        finished.insert(reading.swap_remove(at).shard());
        for child in children.iter().filter(|child| child.parents().all(|parent| finished.contains(&parent)))
        {
            match begin(stream, child.id, Position::At(child.first_sequence))? {
                Some(iterator) => reading.push(iterator),
                None => match begin(stream, child.id, Position::TrimHorizon)? {
                    Some(iterator) => {
                        order.allow_jump();
                        board.report_jump();
                        reading.push(iterator);
                    }
                    None => return Ok(()),
                },
            }
        }
    }
    Ok(())
}

/// Returns an iterator, unless retention dropped its position first.
fn begin(stream: &StreamReader, shard: ShardId, position: Position) -> Outcome<Option<ShardIterator>> {
    match stream.iterator(shard, position) {
        Ok(iterator) => Ok(Some(iterator)),
        Err(Error::Trimmed { .. } | Error::ShardNotFound(_)) => Ok(None),
        Err(error) => Err(format!("P6 L8: an iterator over the child {shard}: {error}")),
    }
}

fn overtake(board: &Board, order: &mut Order<'_>, iterator: &mut ShardIterator) -> Outcome {
    if iterator.skip_to_horizon() == 0 {
        return Err("P6: a reader was told that records were trimmed, and none was".into());
    }
    order.allow_jump();
    board.report_jump();
    board.counters().overtaken += 1;
    Ok(())
}
