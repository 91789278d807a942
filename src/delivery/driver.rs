//! Reads for a delivery: from its worker into the buffers, and what was decided and delivered back into commits.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use parking_lot::Mutex;

use super::core::{Core, Now};
use super::error_output::Source;
use super::state::State;
use super::steps::Steps;
use crate::{Batch, Error, Result, SequenceNumber, ShardId, StreamReader, Worker};

/// The worker of a delivery, and the stream that it reads.
#[derive(Debug)]
pub(super) struct Driver {
    worker: Worker,
    stream: StreamReader,
    steps: Steps,
    skipped_before: u64,
}

impl Driver {
    pub(super) fn new(worker: Worker, stream: StreamReader, steps: Steps) -> Self {
        Self { worker, stream, steps, skipped_before: 0 }
    }

    pub(super) fn now(&self) -> Now {
        now_of(&self.stream)
    }

    /// Reads the next batch into the buffers. Returns false if there is none; then `wait` has run, which a new record ends.
    pub(super) fn read(
        &mut self,
        core: &Mutex<Core>,
        context: &mut Context<'_>,
        wait: impl FnOnce(),
    ) -> Result<bool> {
        let polled = {
            let mut next = pin!(self.worker.next());
            let polled = next.as_mut().poll(context);
            // The worker is on the lists of those who wait only as long as the future is there.
            if polled.is_pending() {
                wait();
            }
            polled
        };
        match polled {
            Poll::Ready(Ok(batch)) => {
                self.push(core, &batch)?;
                Ok(true)
            }
            Poll::Ready(Err(Error::Lost { shard, .. })) => {
                core.lock().counts.skipped += self.worker.skip_lost(shard)?;
                Ok(true)
            }
            Poll::Ready(Err(error)) => Err(error),
            Poll::Pending => Ok(false),
        }
    }

    fn push(&mut self, core: &Mutex<Core>, batch: &Batch) -> Result<()> {
        let id = batch.shard();
        let Some(first) = batch.first_sequence() else { return Ok(()) };
        let known = core.lock().shards.get(&id).map(|held| held.shard.read_to);
        // The worker has lost the shard meanwhile, and has it again.
        if known.is_none_or(|read_to| first < read_to) {
            self.take_over(core, id, first)?;
        }
        let now = self.now();
        let Some(rules) = core.lock().shards.get(&id).map(|held| Arc::clone(held.shard.rules())) else {
            return Ok(());
        };
        // Not under the lock: a step may be a function of the caller's.
        let made = batch.iter().map(|record| (record, self.steps.rows(&rules, id, &record, now.time)));
        let made: Vec<_> = made.collect();
        let mut core = core.lock();
        for (record, rows) in made {
            let source = Source {
                shard: id,
                sequence: record.sequence(),
                arrival: record.timestamp(),
                data: record.data(),
                now: now.time,
            };
            core.push(&source, rows, now);
        }
        core.decide(now);
        let skipped = self.worker.skipped_count();
        core.counts.skipped += skipped - std::mem::replace(&mut self.skipped_before, skipped);
        Ok(())
    }

    /// Takes over a shard whose first record that was read is `first`.
    fn take_over(&self, core: &Mutex<Core>, id: ShardId, first: SequenceNumber) -> Result<()> {
        let state = self.worker.committed_state(id).map(|state| {
            let unknown = || {
                let name = self.worker.group().name();
                let reason = format!(
                    "the group {name:?} has a state in {id} that is no delivery's: give the delivery another name"
                );
                Error::InvalidArgument(reason.into())
            };
            State::decode(&state).ok_or_else(unknown)
        });
        core.lock().take_over(id, first, state.transpose()?);
        Ok(())
    }

    /// Decides what is due, commits that and what was delivered, and lets the worker read what there is room for.
    pub(super) fn settle(&mut self, core: &Mutex<Core>, commits_all: bool) -> Result<()> {
        self.follow(core);
        let now = self.now();
        core.lock().decide(now);
        let ids: Vec<ShardId> = core.lock().shards.keys().copied().collect();
        let mut outcome = Ok(());
        for id in ids {
            // The other shards do not wait for one that cannot be committed.
            outcome = outcome.and(self.settle_shard(core, id, commits_all));
        }
        outcome
    }

    /// Drops shards that others have or that are finished, and notes which have ended.
    fn follow(&self, core: &Mutex<Core>) {
        let mut core = core.lock();
        let lost: Vec<ShardId> =
            core.shards.keys().copied().filter(|&id| !self.worker.has_lease(id)).collect();
        lost.into_iter().for_each(|id| core.forget(id));
        for (&id, held) in &mut core.shards {
            if self.worker.is_at_end(id) {
                held.shard.note_end();
            }
        }
    }

    fn settle_shard(&mut self, core: &Mutex<Core>, id: ShardId, commits_all: bool) -> Result<()> {
        let commit = {
            let mut core = core.lock();
            let Some(held) = core.shards.get_mut(&id) else { return Ok(()) };
            let is_due =
                held.shard.must_commit() || commits_all && held.shard.is_changed() || held.shard.must_end();
            is_due.then(|| held.shard.take_checkpoint())
        };
        if let Some((next, state)) = commit {
            match self.worker.commit_with_state(id, next, &state) {
                Ok(()) => core.lock().note_commit(id, next, now_of(&self.stream)),
                Err(Error::GroupLeaseLost { .. }) => core.lock().forget(id),
                Err(error) => {
                    if let Some(held) = core.lock().shards.get_mut(&id) {
                        held.shard.note_failed_commit();
                    }
                    return Err(error);
                }
            }
        }
        let mut core = core.lock();
        core.deliver_again(id, now_of(&self.stream));
        let may_read = core.may_read(id);
        let Some(held) = core.shards.get_mut(&id) else { return Ok(()) };
        if held.shard.is_paused == may_read {
            held.shard.is_paused = !may_read;
            if may_read { self.worker.resume(id) } else { self.worker.pause(id) }
        }
        Ok(())
    }
}

pub(super) fn now_of(stream: &StreamReader) -> Now {
    Now { time: stream.clock().now(), elapsed: stream.clock().elapsed() }
}
