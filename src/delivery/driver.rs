//! Reads for a delivery: moves records from its worker into the buffers, and commits what was decided and delivered.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use parking_lot::Mutex;

use super::core::{Core, Flush, Now};
use super::error_output::Source;
use super::plan::{Plan, Rules};
use super::sample::Sample;
use super::state::State;
use super::steps::{self, Call, Made};
use super::transform::{Finished, Transform};
use crate::{Batch, Error, Record, Result, SequenceNumber, ShardId, StreamReader, Term, Worker};

/// The name under which a group keeps the schema that was taken from the first records.
pub(super) const SCHEMA: &str = "schema";

/// How many records become rows before the rows are added to the buffers.
const RECORDS_IN_A_ROW: usize = 64;

/// The worker of a delivery, and the stream that it reads.
#[derive(Debug)]
pub(super) struct Driver {
    worker: Worker,
    stream: StreamReader,
    transform: Option<Transform>,
    sample: Sample,
    /// Whether the last look at all shards found nothing more.
    has_read_all: bool,
    /// The shards that were taken over: the lease, and the number of the next record.
    next: BTreeMap<ShardId, (Option<Term>, SequenceNumber)>,
    skipped_before: u64,
}

impl Driver {
    pub(super) fn new(worker: Worker, stream: StreamReader, transform: Option<Transform>) -> Self {
        Self {
            worker,
            stream,
            transform,
            sample: Sample::default(),
            has_read_all: false,
            next: BTreeMap::new(),
            skipped_before: 0,
        }
    }

    pub(super) fn now(&self) -> Now {
        now_of(&self.stream)
    }

    /// Reads the next batch into the buffers. Returns false if there is none, after it has run `wait`, which a new record ends. The argument of
    /// `wait` says whether no shard has more.
    pub(super) fn read(
        &mut self,
        core: &Mutex<Core>,
        context: &mut Context<'_>,
        wait: impl FnOnce(bool),
    ) -> Result<bool> {
        let (polled, has_read_all) = {
            let mut next = pin!(self.worker.next());
            let polled = next.as_mut().poll(context);
            let worker = next.worker();
            let has_read_all =
                polled.is_pending() && worker.shards().into_iter().all(|id| worker.looks_at(id));
            // The worker is registered as waiting only while the future exists.
            if polled.is_pending() {
                wait(has_read_all);
            }
            (polled, has_read_all)
        };
        self.has_read_all = has_read_all;
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
        let (Some(first), Some(last)) = (batch.first_sequence(), batch.last_sequence()) else {
            return Ok(());
        };
        // The worker also restarts from its checkpoint if another process has reopened the stream.
        if self.has_lost(id) || self.next.get(&id).is_none_or(|&(_, next)| first < next) {
            self.take_over(core, id, first)?;
        }
        self.next.insert(id, (self.worker.term(id), last.plus(1)));
        let skipped = self.worker.skipped_count();
        core.lock().counts.skipped += skipped - std::mem::replace(&mut self.skipped_before, skipped);
        let now = self.now();
        if let Some(transform) = &mut self.transform {
            transform.add(id, batch.clone(), now);
            if transform.is_full(id) {
                self.worker.pause(id);
                core.lock().shards.entry(id).and_modify(|held| held.shard.is_paused = true);
            }
            return self.advance(core);
        }
        let Some(rules) = core.lock().shards.get(&id).map(|held| Arc::clone(held.shard.rules())) else {
            return Ok(());
        };
        if rules.plan.format.is_undecided() {
            let made = batch.iter().map(|record| {
                let mut rows = vec![];
                steps::push_rows(&rules, id, &record, now.time, &mut rows);
                Made { rows, has_failed: false }.into_owned()
            });
            let made = made.collect();
            let (batches, end, now) = (vec![batch.clone()], last.plus(1), now.time);
            let call =
                Call { shard: id, batches, first, end, rules: Arc::clone(&rules), failed: vec![], now };
            self.take(core, Finished { call: Arc::new(call), made });
            return self.advance(core);
        }
        let mut records = batch.iter().peekable();
        let (mut rows, mut made) = (vec![], Vec::with_capacity(RECORDS_IN_A_ROW));
        while records.peek().is_some() {
            // Not under the lock: it takes a while.
            for record in records.by_ref().take(RECORDS_IN_A_ROW) {
                let before = rows.len();
                steps::push_rows(&rules, id, &record, now.time, &mut rows);
                made.push((record, rows.len() - before));
            }
            let now = self.now();
            let mut core = core.lock();
            let mut left = &rows[..];
            for (record, count) in made.drain(..) {
                let (of_record, others) = left.split_at(count);
                core.push(&source_of(id, &record, now), of_record, false, now);
                left = others;
            }
            rows.clear();
        }
        core.lock().decide(self.now());
        Ok(())
    }

    /// Adds the rows of records to the buffers, unless their schema is not decided yet.
    fn take(&mut self, core: &Mutex<Core>, finished: Finished) {
        if finished.call.rules.plan.format.is_undecided() && core.lock().rules.plan.format.is_undecided() {
            self.sample.add(finished, self.now().elapsed);
        } else {
            self.add(core, finished.call.shard, finished.call.records().zip(finished.made));
        }
    }

    fn add<'a>(
        &self,
        core: &Mutex<Core>,
        shard: ShardId,
        made: impl IntoIterator<Item = (Record<'a>, Made<'a>)>,
    ) {
        let now = self.now();
        let mut core = core.lock();
        for (record, Made { rows, has_failed }) in made {
            core.push(&source_of(shard, &record, now), &rows, has_failed, now);
        }
        core.decide(now);
    }

    /// Infers the schema from the waiting records, unless it is known by now, and continues with them.
    fn decide_schema(&mut self, core: &Mutex<Core>) -> Result<()> {
        let undecided = Arc::clone(&core.lock().rules);
        let invalid = |reason: String| Error::InvalidArgument(reason.into());
        let of_sample = || {
            undecided.plan.format.schema_of(self.sample.rows()).map_err(|reason| {
                invalid(format!(
                    "the delivery {:?} cannot take a schema from its first {} records: {reason}. Give it a schema",
                    self.worker.group().name(),
                    self.sample.records()
                ))
            })
        };
        let schema = match self.worker.kept(SCHEMA) {
            Some(schema) => schema,
            None => self.worker.keep_first(SCHEMA, &of_sample()?)?,
        };
        let format = undecided.plan.format.with_schema(&schema).map_err(invalid)?;
        let decided = Rules::new(Plan { format, ..undecided.plan.clone() }).map_err(invalid)?;
        core.lock().decide_rules(&Arc::new(decided));
        self.sample.take().into_iter().for_each(|finished| self.take(core, finished));
        Ok(())
    }

    /// Returns whether a schema can be inferred from the waiting records.
    fn has_schema(&self, core: &Mutex<Core>) -> bool {
        core.lock().rules.plan.format.schema_of(self.sample.rows()).is_ok()
    }

    /// Takes over a shard whose first record that was read is `first`.
    fn take_over(&mut self, core: &Mutex<Core>, id: ShardId, first: SequenceNumber) -> Result<()> {
        self.forget(id);
        let unusable = |reason: String| {
            let name = self.worker.group().name();
            Error::InvalidArgument(
                format!("the delivery {name:?} cannot go on in {id}: the state in its checkpoint {reason}")
                    .into(),
            )
        };
        let state = self.worker.committed_state(id).map(|state| State::decode(&state));
        let state = state.transpose().map_err(unusable)?;
        core.lock().take_over(id, first, state).map_err(unusable)?;
        if let Some(transform) = &mut self.transform {
            transform.take_over(id, first);
        }
        Ok(())
    }

    fn forget(&mut self, id: ShardId) {
        self.next.remove(&id);
        self.sample.forget(id);
        if let Some(transform) = &mut self.transform {
            transform.forget(id);
        }
    }

    /// Ends all calls of the function. Their records are read again when the delivery is restarted.
    pub(super) fn stop_calls(&mut self) {
        self.transform = None;
    }

    /// Takes the results of calls of the function, begins the calls that are due, and decides the schema if it is time.
    fn advance(&mut self, core: &Mutex<Core>) -> Result<()> {
        let now = self.now();
        if let Some(transform) = &mut self.transform {
            let finished = transform.take_finished(&mut core.lock(), now);
            finished.into_iter().for_each(|finished| self.take(core, finished));
        }
        let sample_due = self.sample.due(core.lock().bounds.limits.buffer_interval);
        // Records that are already there are included, however long earlier ones have waited.
        let is_old = self.has_read_all && sample_due.is_some_and(|due| due <= now.elapsed);
        if !self.sample.is_empty() {
            let (must_decide, is_ending) = core.lock().asks_for_schema();
            if must_decide || self.sample.is_full() || (is_old || is_ending) && self.has_schema(core) {
                self.decide_schema(core)?;
            }
        }
        let mut core = core.lock();
        if let Some(transform) = &mut self.transform {
            let has_hurry = core.flush != Flush::No;
            transform.begin_due(&core, now, has_hurry, |id| self.worker.is_at_end(id));
        }
        core.has_calls = self.transform.as_ref().is_some_and(|transform| !transform.is_all_clear());
        core.has_sample = !self.sample.is_empty();
        let calls = self.transform.as_ref().and_then(|transform| transform.due(now));
        // Old records from which no schema can be inferred wait for others, not for a time.
        let sample_due = sample_due.filter(|_| core.has_sample && !is_old);
        core.waiting_due = calls.into_iter().chain(sample_due).min();
        Ok(())
    }

    /// Decides what is due, commits the decisions and deliveries, and lets the worker read as much as there is room for.
    pub(super) fn settle(&mut self, core: &Mutex<Core>, commits_all: bool) -> Result<()> {
        self.follow(core);
        self.advance(core)?;
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

    /// Drops shards that others own or that are finished, and notes which have ended.
    fn follow(&mut self, core: &Mutex<Core>) {
        let mut core = core.lock();
        let lost: Vec<ShardId> = core.shards.keys().copied().filter(|&id| self.has_lost(id)).collect();
        for id in lost {
            core.forget(id);
            self.forget(id);
        }
        for (&id, held) in &mut core.shards {
            if self.worker.is_at_end(id) && self.has_passed(id) {
                held.shard.note_end();
            }
        }
    }

    /// Returns whether the lease under which a shard was taken over has ended. The worker may hold the shard under a new lease: then the state here
    /// is not the committed one.
    fn has_lost(&self, id: ShardId) -> bool {
        self.next.get(&id).and_then(|&(term, _)| term) != self.worker.term(id)
    }

    /// Returns whether everything that was read from a shard is in the buffers.
    fn has_passed(&self, id: ShardId) -> bool {
        self.transform.as_ref().is_none_or(|transform| transform.is_clear(id)) && !self.sample.holds(id)
    }

    fn settle_shard(&mut self, core: &Mutex<Core>, id: ShardId, commits_all: bool) -> Result<()> {
        if self.has_lost(id) {
            core.lock().forget(id);
            self.forget(id);
            return Ok(());
        }
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
                Err(Error::GroupLeaseLost { .. }) => {
                    core.lock().forget(id);
                    self.forget(id);
                }
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
        let is_full = self.transform.as_ref().is_some_and(|transform| transform.is_full(id));
        let may_read = core.may_read(id, self.has_passed(id)) && !is_full;
        let Some(held) = core.shards.get_mut(&id) else { return Ok(()) };
        if held.shard.is_paused == may_read {
            held.shard.is_paused = !may_read;
            if may_read { self.worker.resume(id) } else { self.worker.pause(id) }
        }
        Ok(())
    }
}

fn source_of<'a>(shard: ShardId, record: &Record<'a>, now: Now) -> Source<'a> {
    let (sequence, arrival, data) = (record.sequence(), record.timestamp(), record.data());
    Source { shard, sequence, arrival, data, now: now.time }
}

pub(super) fn now_of(stream: &StreamReader) -> Now {
    Now { time: stream.clock().now(), elapsed: stream.clock().elapsed() }
}
