//! The step of the function: the lanes of all shards, and the calls that run for them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::calls::Calls;
use super::core::{Core, Now};
use super::function::CallError;
use super::lane::{Gathering, Lane, Running, Stage};
use super::steps::{self, Call, Made};
use crate::{Batch, SequenceNumber, ShardId};

#[derive(Debug)]
pub(super) struct Transform {
    calls: Calls,
    gathering: Gathering,
    time_max: Duration,
    lanes: BTreeMap<ShardId, Lane>,
}

/// The outcome of the records of a call.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) call: Arc<Call>,
    pub(super) made: Vec<Made<'static>>,
}

impl Transform {
    pub(super) fn new(calls: Calls, gathering: Gathering, time_max: Duration) -> Self {
        Self { calls, gathering, time_max, lanes: BTreeMap::new() }
    }

    /// Begins the lane of a shard that was taken over, at a record.
    pub(super) fn take_over(&mut self, id: ShardId, first: SequenceNumber) {
        // The end of a call whose lane is gone is ignored.
        self.lanes.insert(id, Lane::new(first));
    }

    pub(super) fn forget(&mut self, id: ShardId) {
        self.lanes.remove(&id);
    }

    pub(super) fn add(&mut self, id: ShardId, batch: Batch, now: Now) {
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.add(batch, now.elapsed);
        }
    }

    /// Returns whether nothing of a shard waits.
    pub(super) fn is_clear(&self, id: ShardId) -> bool {
        self.lanes.get(&id).is_none_or(Lane::is_empty)
    }

    /// Returns whether nothing waits.
    pub(super) fn is_all_clear(&self) -> bool {
        self.lanes.values().all(Lane::is_empty)
    }

    /// Returns whether enough records of a shard wait.
    pub(super) fn is_full(&self, id: ShardId) -> bool {
        self.lanes.get(&id).is_some_and(|lane| lane.is_full(self.gathering))
    }

    /// Returns when the next call is due, or when one has taken too long.
    pub(super) fn due(&self, now: Now) -> Option<Duration> {
        let due = self.lanes.values().filter_map(|lane| lane.due(self.gathering)).min();
        // A hanging function is detected when the clock is checked, and an injected clock may jump at any time.
        if self.is_all_clear() { None } else { Some(due.unwrap_or(now.elapsed + self.time_max)) }
    }

    /// Begins the calls that are due; all of them if `has_hurry`, as before a flush, and those of shards at their end.
    pub(super) fn begin_due(
        &mut self,
        core: &Core,
        now: Now,
        has_hurry: bool,
        is_at_end: impl Fn(ShardId) -> bool,
    ) {
        for (&id, lane) in &mut self.lanes {
            let Some(due) = lane.due(self.gathering) else { continue };
            let is_due = due <= now.elapsed || lane.running.is_none() && (has_hurry || is_at_end(id));
            if !is_due {
                continue;
            }
            let running = match lane.running.take() {
                Some(running) => running,
                None => {
                    let Some(held) = core.shards.get(&id) else { continue };
                    let shard = &held.shard;
                    let (batches, first, end) = lane.take(self.gathering, shard.replayed_to());
                    let call = Call {
                        shard: id,
                        batches,
                        first,
                        end,
                        rules: Arc::clone(shard.rules()),
                        failed: shard.noted.failed(first..end),
                        now: now.time,
                    };
                    Running { call: Arc::new(call), attempts: 0, stage: Stage::Failed(Duration::ZERO) }
                }
            };
            let number = self.calls.begin(Arc::clone(&running.call));
            let attempts = running.attempts + 1;
            lane.running = Some(Running { attempts, stage: Stage::Called(number), ..running });
        }
    }

    /// Returns the calls that are done, successful or not. A failed call is retried after a pause.
    pub(super) fn take_finished(&mut self, core: &mut Core, now: Now) -> Vec<Finished> {
        let mut finished = vec![];
        for (number, called) in self.calls.take_done(self.time_max) {
            let of_call = |lane: &&mut Lane| {
                lane.running.as_ref().is_some_and(|running| running.stage == Stage::Called(number))
            };
            let Some(lane) = self.lanes.values_mut().find(of_call) else { continue };
            core.counts.function_calls += 1;
            let made = match called {
                Ok(made) => made,
                Err(error) => {
                    core.counts.failed_function_calls += 1;
                    core.counts.last_error = Some(error.message.clone());
                    let Some(running) = &mut lane.running else { continue };
                    if must_repeat(core, running, &error, self.calls.function().retries()) {
                        let pause = core.bounds.retries.pause(running.attempts);
                        running.stage = Stage::Failed(now.elapsed + pause);
                        continue;
                    }
                    steps::failed_call(self.calls.function(), &running.call, &error, running.attempts)
                }
            };
            if let Some(Running { call, .. }) = lane.finish() {
                finished.push(Finished { call, made });
            }
        }
        finished
    }
}

/// Returns whether a failed call is retried. A call for records that were in objects before a crash is retried without limit: without an answer,
/// these objects cannot be built again.
fn must_repeat(core: &Core, running: &Running, error: &CallError, retries: u32) -> bool {
    let held = core.shards.get(&running.call.shard);
    let is_replay = held.is_some_and(|held| running.call.first < held.shard.replayed_to());
    is_replay || error.is_worth_repeating && running.attempts <= retries
}
