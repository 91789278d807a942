//! All shards and lanes of a processor, which threads and tests drive: the calls that are due, and those that run.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::discarded::Discarded;
use super::event_time::Input;
use super::invocation::{Invocation, Response};
use super::lane::Next;
use super::progress::Progress;
use super::rules::Rules;
use super::seen::Now;
use super::shard::Shard;
use super::slice::Slice;
use super::stats::Counts;
use crate::{SequenceNumber, ShardId, Timestamp};

/// A lane: its shard, and its number there.
pub(super) type Address = (ShardId, usize);

/// What a thread does without the lock.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) ticket: u64,
    pub(super) work: Work,
}

#[derive(Debug)]
pub(super) enum Work {
    Call(Invocation),
    Report(Discarded),
}

/// The outcome of a job.
#[derive(Debug)]
pub(super) enum Done {
    Called { response: Response, took: Duration },
    Reported { error: Option<String> },
}

#[derive(Debug)]
struct Running {
    address: Address,
    is_call: bool,
    deadline: Option<Duration>,
}

impl Running {
    fn is_late(&self, now: Now) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now.elapsed)
    }
}

#[derive(Debug)]
pub(super) struct Core {
    pub(super) rules: Arc<Rules>,
    pub(super) shards: BTreeMap<ShardId, Shard>,
    /// The shards that have changed since the driver last looked.
    pub(super) changed: BTreeSet<ShardId>,
    ready: VecDeque<Address>,
    is_ready: BTreeSet<Address>,
    timers: BTreeSet<(Duration, Address)>,
    timer_of: BTreeMap<Address, Duration>,
    /// Lanes that wait until everything is known to be read.
    wait_for_read: BTreeSet<Address>,
    /// The jobs that count. A job whose ticket is not here has taken too long, or its shard is gone.
    running: BTreeMap<u64, Running>,
    next_ticket: u64,
    /// Lanes that continue once their work is committed, each with the number of jobs of such lanes that had finished by then.
    uncommitted: BTreeMap<Address, u64>,
    finished: u64,
    pub(super) counts: Counts,
    /// No more jobs begin.
    pub(super) is_stopping: bool,
}

/// The content of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Commit {
    pub(super) shard: ShardId,
    pub(super) next: SequenceNumber,
    pub(super) state: Vec<u8>,
    /// A window waits for it.
    pub(super) is_urgent: bool,
    /// The lanes with windows that the commit declares over, and where the last of these ends.
    over: Vec<(usize, Timestamp)>,
    /// It contains the work of this many jobs.
    finished: u64,
}

impl Core {
    pub(super) fn new(rules: Rules) -> Self {
        Self {
            rules: Arc::new(rules),
            shards: BTreeMap::new(),
            changed: BTreeSet::new(),
            ready: VecDeque::new(),
            is_ready: BTreeSet::new(),
            timers: BTreeSet::new(),
            timer_of: BTreeMap::new(),
            wait_for_read: BTreeSet::new(),
            running: BTreeMap::new(),
            next_ticket: 0,
            uncommitted: BTreeMap::new(),
            finished: 0,
            counts: Counts::default(),
            is_stopping: false,
        }
    }

    /// Takes over a shard, and discards what was known of it before.
    pub(super) fn take_over(&mut self, id: ShardId, committed: Option<Progress>, now: Now) {
        self.forget(id);
        let shard = Shard::new(id, &self.rules, committed, now);
        // A window may have ended meanwhile.
        let lanes = shard.lanes.len();
        self.shards.insert(id, shard);
        (0..lanes).for_each(|lane| self.schedule((id, lane)));
        self.changed.insert(id);
    }

    /// Drops a shard. Running calls with its records no longer count.
    pub(super) fn forget(&mut self, id: ShardId) {
        self.shards.remove(&id);
        self.running.retain(|_, running| running.address.0 != id);
        self.uncommitted.retain(|address, _| address.0 != id);
    }

    /// Adds a batch that was read. Returns whether the shard has room for more.
    pub(super) fn push(&mut self, input: Input, now: Now) -> bool {
        let id = input.batch.shard();
        let Some(shard) = self.shards.get_mut(&id) else { return true };
        let is_last = input.batch.child_shards().is_some();
        let fed = shard.push(input, &self.rules, now, &mut self.counts);
        let has_room = shard.has_room(&self.rules);
        shard.is_paused = !has_room;
        fed.into_iter().for_each(|lane| self.schedule((id, lane)));
        self.changed.insert(id);
        if is_last {
            // Lanes that got nothing also have windows that end with the shard.
            self.note_end(id);
        }
        has_room
    }

    /// Notes that a shard was read to its end.
    pub(super) fn note_end(&mut self, id: ShardId) {
        let Some(shard) = self.shards.get_mut(&id).filter(|shard| !shard.is_ended) else { return };
        shard.is_ended = true;
        let lanes = shard.lanes.len();
        (0..lanes).for_each(|lane| self.schedule((id, lane)));
        self.changed.insert(id);
    }

    /// Notes that all records of some shards that arrived before a moment are read.
    pub(super) fn note_read_until(&mut self, moment: Now, is_read: impl Fn(ShardId) -> bool) {
        for (_, shard) in self.shards.iter_mut().filter(|(id, _)| is_read(**id)) {
            shard.read_until = moment;
        }
        for address in std::mem::take(&mut self.wait_for_read) {
            self.schedule(address);
        }
    }

    /// Schedules a lane to be asked what it wants next.
    pub(super) fn schedule(&mut self, address: Address) {
        let lane = self.shards.get(&address.0).and_then(|shard| shard.lanes.get(address.1));
        // A running lane is asked when it has finished, and one that waits for a commit after the commit.
        let is_free = lane.is_some_and(|lane| !lane.is_running()) && !self.uncommitted.contains_key(&address);
        if is_free && self.is_ready.insert(address) {
            self.ready.push_back(address);
        }
    }

    pub(super) fn has_ready(&self) -> bool {
        !self.is_stopping && !self.ready.is_empty()
    }

    /// Returns the next job, if there is one.
    pub(super) fn take(&mut self, now: Now) -> Option<Job> {
        while let Some(address) = self.ready.pop_front().filter(|_| !self.is_stopping) {
            self.is_ready.remove(&address);
            let Some(shard) = self.shards.get_mut(&address.0) else { continue };
            let seen = shard.seen();
            let Some(lane) = shard.lanes.get_mut(address.1) else { continue };
            let next = lane.next(&self.rules, now, &seen, &mut self.counts);
            // Records may have been given up.
            self.changed.insert(address.0);
            let work = match next {
                Next::Nothing => continue,
                Next::Wait(until) => {
                    self.set_timer(address, until);
                    continue;
                }
                Next::WaitForRead => {
                    self.wait_for_read.insert(address);
                    continue;
                }
                Next::Call(invocation) => {
                    self.counts.invocations += 1;
                    if let Some(last) = invocation.slices.last().and_then(Slice::last_timestamp) {
                        self.counts.iterator_age = now.time.since(last);
                    }
                    Work::Call(invocation)
                }
                Next::Report(discarded) => Work::Report(discarded),
            };
            let ticket = self.next_ticket;
            self.next_ticket += 1;
            let is_call = matches!(work, Work::Call(_));
            let deadline = self.rules.time_limit.filter(|_| is_call).map(|limit| now.elapsed + limit);
            self.running.insert(ticket, Running { address, is_call, deadline });
            return Some(Job { ticket, work });
        }
        None
    }

    /// Notes the outcome of a job. Returns whether its shard needs the driver: to commit, or to read more.
    ///
    /// A call that has taken too long does not count, whether or not this was seen before it returned.
    pub(super) fn finish(&mut self, ticket: u64, done: Done, now: Now) -> bool {
        let is_late = self.running.get(&ticket).is_some_and(|running| running.is_late(now));
        let has_use = is_late && self.give_up(ticket, now);
        self.end(ticket, done, now) || has_use
    }

    /// Gives up a call that takes too long. If its thread ever returns, its ticket no longer counts.
    fn give_up(&mut self, ticket: u64, now: Now) -> bool {
        let limit = self.rules.time_limit.unwrap_or_default();
        let reason = format!("the function has not returned within {}", humantime::format_duration(limit));
        self.counts.timeouts += 1;
        let has_use = self.end(ticket, Done::Called { response: Response::failed(reason), took: limit }, now);
        self.counts.stuck += 1;
        has_use
    }

    fn end(&mut self, ticket: u64, done: Done, now: Now) -> bool {
        let Some(Running { address, .. }) = self.running.remove(&ticket) else {
            self.counts.stuck = self.counts.stuck.saturating_sub(1);
            return false;
        };
        if let Done::Called { took, .. } = done {
            self.counts.duration += took;
            self.counts.duration_max = self.counts.duration_max.max(took);
        }
        let Some(shard) = self.shards.get_mut(&address.0) else { return false };
        let Some(lane) = shard.lanes.get_mut(address.1) else { return false };
        match done {
            Done::Called { response, .. } => lane.finish(&self.rules, now, response, &mut self.counts),
            Done::Reported { error } => lane.finish_report(&self.rules, now, error, &mut self.counts),
        }
        let has_use = lane.is_empty() || shard.is_paused && lane.is_low(&self.rules);
        self.changed.insert(address.0);
        if self.rules.commits_each && self.commit_of(address.0).is_some() {
            self.finished += 1;
            self.uncommitted.insert(address, self.finished);
            return true;
        }
        self.schedule(address);
        has_use
    }

    /// Does what is due by now: asks lanes again, and gives up calls that take too long.
    pub(super) fn look_at_clock(&mut self, now: Now) {
        while let Some(&(until, address)) = self.timers.first().filter(|(until, _)| *until <= now.elapsed) {
            self.timers.remove(&(until, address));
            self.timer_of.remove(&address);
            self.schedule(address);
        }
        let late = self.running.iter().filter(|(_, running)| running.is_late(now));
        let late: Vec<u64> = late.map(|(&ticket, _)| ticket).collect();
        for ticket in late {
            self.give_up(ticket, now);
        }
    }

    fn set_timer(&mut self, address: Address, until: Duration) {
        if let Some(old) = self.timer_of.insert(address, until) {
            self.timers.remove(&(old, address));
        }
        self.timers.insert((until, address));
    }

    /// Returns when [`look_at_clock`](Self::look_at_clock) has something to do next.
    pub(super) fn due(&self) -> Option<Duration> {
        let deadline = self.running.values().filter_map(|running| running.deadline).min();
        self.timers.first().map(|&(until, _)| until).into_iter().chain(deadline).min()
    }

    /// Returns what to commit of a shard, if there is something new.
    pub(super) fn commit_of(&self, id: ShardId) -> Option<Commit> {
        let shard = self.shards.get(&id)?;
        let progress = shard.progress();
        let (next, state) = (progress.next, progress.encode());
        let is_new = shard.committed.0 != next || shard.committed.1 != state;
        let over = progress.lanes.iter().enumerate().filter_map(|(at, lane)| {
            let last = lane.windows.open().iter().rfind(|window| window.is_over)?;
            Some((at, last.span.end))
        });
        let windows = progress.lanes.iter().flat_map(|lane| lane.windows.open());
        let is_urgent =
            shard.is_ended || windows.clone().any(|window| window.is_over && !window.is_committed);
        let finished = self.finished;
        is_new.then(|| Commit { shard: id, next, state, is_urgent, over: over.collect(), finished })
    }

    /// Notes that the work of this many jobs of a shard's lanes is committed, so that the lanes that wait for this continue.
    pub(super) fn go_on(&mut self, id: ShardId, finished: u64) {
        let is_over =
            |(address, at): (&Address, &u64)| (address.0 == id && *at <= finished).then_some(*address);
        let over: Vec<_> = self.uncommitted.iter().filter_map(is_over).collect();
        for address in over {
            self.uncommitted.remove(&address);
            self.schedule(address);
        }
    }

    /// Notes that something is committed.
    pub(super) fn note_commit(&mut self, commit: Commit) {
        let id = commit.shard;
        self.go_on(id, commit.finished);
        let Some(shard) = self.shards.get_mut(&id) else { return };
        shard.committed = (commit.next, commit.state);
        for (at, end) in commit.over {
            if let Some(lane) = self.shards.get_mut(&id).and_then(|shard| shard.lanes.get_mut(at)) {
                lane.note_commit(end);
                self.schedule((id, at));
            }
        }
    }

    /// Returns whether a job is running and counts.
    #[cfg(test)]
    pub(super) fn is_running(&self, ticket: u64) -> bool {
        self.running.contains_key(&ticket)
    }

    /// Returns how many running jobs count.
    pub(super) fn running_count(&self) -> usize {
        self.running.len()
    }

    pub(super) fn stats(&self) -> Counts {
        let running = self.running.values().filter(|running| running.is_call).count();
        let watermarks = self.shards.values().map(|shard| shard.watermark);
        let watermark = watermarks.min().filter(|&lowest| lowest > Timestamp::default());
        Counts { running, watermark, shards: self.shards.len(), ..self.counts.clone() }
    }
}
