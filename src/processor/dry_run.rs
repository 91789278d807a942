//! A processor's function on a part of the log, without a commit and without a thread.

use std::time::Duration;

use super::core::{Core, Work};
use super::event_time::Input;
use super::pool::Caller;
use super::rules::Rules;
use super::seen::Now;
use super::shard::Shard;
use super::stats::ProcessorStats;
use crate::{Error, Position, Result, SequenceNumber, ShardId, StreamReader, Timestamp, extend};

/// Calls the function with all records from a position on that arrived before `until`, or that exist now.
pub(super) fn run(
    caller: &Caller,
    rules: Rules,
    from: Position,
    until: Option<Timestamp>,
) -> Result<ProcessorStats> {
    let rules = Rules {
        // A permanent failure must not be retried forever here.
        retries: Some(rules.retries.unwrap_or(0)),
        batching_window: Duration::ZERO,
        record_age_max: None,
        time_limit: None,
        ..rules
    };
    let stream = caller.clocks.stream.clone();
    let mut run = Run { caller, core: Core::new(rules), elapsed: Duration::ZERO };
    // As they are listed, parents come before their children.
    for shard in stream.shards() {
        let Some(end) = end_of(&stream, shard.id, until)? else { continue };
        run.shard(&stream, shard.id, from, end)?;
    }
    Ok(run.core.stats())
}

/// Returns where the requested part of a shard ends, or `None` if the shard has expired by now.
fn end_of(stream: &StreamReader, shard: ShardId, until: Option<Timestamp>) -> Result<Option<SequenceNumber>> {
    let position =
        until.filter(|&until| until < stream.now()).map_or(Position::Latest, Position::AtTimestamp);
    match stream.iterator(shard, position) {
        Ok(iterator) => Ok(Some(iterator.next_sequence())),
        Err(Error::ShardNotFound(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

struct Run<'a> {
    caller: &'a Caller,
    core: Core,
    /// Advances instead of waiting between attempts.
    elapsed: Duration,
}

impl Run<'_> {
    fn shard(
        &mut self,
        stream: &StreamReader,
        id: ShardId,
        from: Position,
        end: SequenceNumber,
    ) -> Result<()> {
        let mut iterator = extend::unlimited(stream.iterator(id, from)?);
        self.core.take_over(id, None, self.now());
        let (records_max, bytes_max) = (self.core.rules.records_of_a_read(), self.core.rules.batch_bytes);
        while iterator.next_sequence() < end {
            let left = end.get() - iterator.next_sequence().get();
            let records_max = records_max.min(usize::try_from(left).unwrap_or(usize::MAX));
            let batch = match iterator.next_batch_within(records_max, bytes_max) {
                Err(Error::Trimmed { .. }) => {
                    self.core.counts.skipped += iterator.skip_to_horizon();
                    continue;
                }
                batch => batch?,
            };
            if batch.is_empty() {
                break;
            }
            let input = Input::new(batch, &self.core.rules);
            self.core.push(input, self.now());
            self.work(id);
        }
        self.core.note_end(id);
        self.work(id);
        self.core.forget(id);
        Ok(())
    }

    /// Makes calls until everything that was read is done.
    fn work(&mut self, id: ShardId) {
        loop {
            while let Some(job) = self.core.take(self.now()) {
                let done = match job.work {
                    Work::Call(invocation) => self.caller.call(&invocation),
                    Work::Report(discarded) => self.caller.report(&discarded),
                };
                self.core.finish(job.ticket, done, self.now());
            }
            if let Some(commit) = self.core.commit_of(id) {
                // Nothing is written, but a window that is over waits for it.
                self.core.note_commit(commit);
                continue;
            }
            let is_idle = |shard: &Shard| shard.lanes.iter().all(|lane| lane.is_idle());
            if self.core.shards.get(&id).is_none_or(is_idle) {
                return;
            }
            self.elapsed = self.core.due().unwrap_or(self.elapsed);
            self.core.look_at_clock(self.now());
        }
    }

    fn now(&self) -> Now {
        Now { elapsed: self.elapsed, ..self.caller.clocks.now() }
    }
}
