//! The driver of a processor: reads from its worker into the lanes, and commits what the lanes have done.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use parking_lot::Mutex;

use super::core::{Commit, Core};
use super::event_time::Input;
use super::ledger::{Entry, Ledger};
use super::progress::Progress;
use super::rules::{BATCHES_AHEAD, Rules};
use super::seen::{Clocks, Now};
use crate::{Batch, Error, Position, Result, SequenceNumber, ShardId, StreamReader, Term, Worker, extend};

/// The worker of a processor, and the stream that it reads.
#[derive(Debug)]
pub(super) struct Driver {
    worker: Worker,
    clocks: Clocks,
    /// Records each commit elsewhere before it is made.
    ledger: Option<Box<dyn Ledger>>,
    /// The processor ends: what is committed now is the last.
    is_finishing: bool,
    /// The leases under which shards were taken over.
    terms: BTreeMap<ShardId, Term>,
    skipped_before: u64,
    reads_since_look: u32,
}

impl Driver {
    pub(super) fn new(worker: Worker, stream: StreamReader) -> Self {
        let clocks = Clocks { stream, day: None };
        Self {
            worker,
            clocks,
            ledger: None,
            is_finishing: false,
            terms: BTreeMap::new(),
            skipped_before: 0,
            reads_since_look: 0,
        }
    }

    /// Makes it use these clocks.
    pub(super) fn clocks(mut self, clocks: Clocks) -> Self {
        self.clocks = clocks;
        self
    }

    /// Sets the ledger that records each commit before it is made.
    pub(super) fn ledger(mut self, ledger: Option<Box<dyn Ledger>>) -> Self {
        self.ledger = ledger;
        self
    }

    pub(super) fn now(&self) -> Now {
        self.clocks.now()
    }

    /// Reads the next batches into their lanes. Returns false if there is none; then `wait` has run, which a new record ends.
    pub(super) fn read(
        &mut self,
        core: &Mutex<Core>,
        context: &mut Context<'_>,
        wait: impl FnOnce(),
    ) -> Result<bool> {
        let before = self.now();
        let mut batches = vec![];
        let error = loop {
            let read = {
                let mut next = pin!(self.worker.next());
                match next.as_mut().poll(context) {
                    Poll::Ready(read) => read,
                    Poll::Pending => {
                        // The worker is on the wait lists only as long as the future exists.
                        if batches.is_empty() {
                            core.lock().note_read_until(before, |id| next.worker().looks_at(id));
                            wait();
                        }
                        break None;
                    }
                }
            };
            match read {
                Ok(batch) => batches.push((self.worker.term(batch.shard()), batch)),
                Err(error) => break Some(error),
            }
            if batches.len() == BATCHES_IN_A_ROW {
                break None;
            }
        };
        let mut has_read = !batches.is_empty();
        self.push(core, batches, before)?;
        match error {
            Some(Error::Lost { shard, .. }) => {
                let skipped = self.worker.skip_lost(shard)?;
                core.lock().counts.skipped += skipped;
                has_read = true;
            }
            Some(error) => return Err(error),
            None => {}
        }
        self.reads_since_look += 1;
        if !has_read || self.reads_since_look >= READS_BETWEEN_LOOKS {
            self.reads_since_look = 0;
            self.follow(core)?;
        }
        Ok(has_read)
    }

    /// Adds batches to the lanes, each with the lease under which it was read.
    fn push(&mut self, core: &Mutex<Core>, batches: Vec<(Option<Term>, Batch)>, now: Now) -> Result<()> {
        let rules = Arc::clone(&core.lock().rules);
        // What was read under an earlier lease comes again, if it is not done.
        let worker = &self.worker;
        let batches = batches.into_iter().filter(|(term, batch)| *term == worker.term(batch.shard()));
        let batches = batches.map(|(_, batch)| batch);
        let inputs: Vec<Input> = batches.map(|batch| Input::new(batch, &rules)).collect();
        let mut core = core.lock();
        for input in inputs {
            let id = input.batch.shard();
            let known = core.shards.get(&id).map(|shard| shard.read_to);
            // The worker also reads again from its checkpoint on if another process has opened the stream anew.
            let is_again = known.is_none_or(|read_to| input.batch.first_sequence() < Some(read_to));
            if is_again || self.has_lost(id) {
                self.take_over(&mut core, id, now)?;
            }
            if !core.push(input, now) {
                self.worker.pause(id);
            }
        }
        let skipped = self.worker.skipped_count();
        core.counts.skipped += skipped - std::mem::replace(&mut self.skipped_before, skipped);
        Ok(())
    }

    /// Takes over new shards, drops those that others have or that are finished, and notes which have ended.
    fn follow(&mut self, core: &Mutex<Core>) -> Result<()> {
        let mut core = core.lock();
        let known: Vec<ShardId> = core.shards.keys().copied().collect();
        for id in known.into_iter().filter(|&id| self.has_lost(id)) {
            core.forget(id);
        }
        for id in self.worker.shards() {
            if !core.shards.contains_key(&id) {
                self.take_over(&mut core, id, self.now())?;
            }
            if self.worker.is_at_end(id) {
                core.note_end(id);
            }
        }
        Ok(())
    }

    /// Returns whether the lease under which a shard was taken over has ended. The worker may have the shard under another lease: then what is
    /// known of it here is not what is committed.
    fn has_lost(&self, id: ShardId) -> bool {
        self.terms.get(&id).copied() != self.worker.term(id)
    }

    fn take_over(&mut self, core: &mut Core, id: ShardId, now: Now) -> Result<()> {
        let committed = self.committed(id)?;
        core.take_over(id, committed, now);
        self.terms.extend(self.worker.term(id).map(|term| (id, term)));
        Ok(())
    }

    fn committed(&self, id: ShardId) -> Result<Option<Progress>> {
        let Some(state) = self.worker.committed_state(id) else { return Ok(None) };
        let unknown = || {
            let name = self.worker.group().name();
            let reason = format!(
                "the group {name:?} has a state in {id} that is no processor's: give the processor another name"
            );
            Error::InvalidArgument(reason.into())
        };
        Progress::decode(&state).map(Some).ok_or_else(unknown)
    }

    /// Commits what is done for the last time.
    pub(super) fn finish(&mut self, core: &Mutex<Core>) -> Result<bool> {
        self.is_finishing = true;
        self.settle(core)
    }

    /// Commits what is done, reads again what lanes have missed, and resumes shards that have room. Returns whether there is more to do
    /// immediately.
    pub(super) fn settle(&mut self, core: &Mutex<Core>) -> Result<bool> {
        let changed = std::mem::take(&mut core.lock().changed);
        let mut outcome = Ok(false);
        for id in changed {
            match self.settle_shard(core, id) {
                Ok(has_more) => outcome = outcome.map(|already| already || has_more),
                Err(error) => {
                    // It is tried again at the next look. The other shards do not wait for it.
                    core.lock().changed.insert(id);
                    outcome = outcome.and(Err(error));
                }
            }
        }
        outcome
    }

    fn settle_shard(&mut self, core: &Mutex<Core>, id: ShardId) -> Result<bool> {
        if self.has_lost(id) {
            core.lock().forget(id);
            return Ok(false);
        }
        let commit = {
            let mut core = core.lock();
            let commit = core.commit_of(id);
            if commit.is_none() {
                core.go_on(id, u64::MAX);
            }
            commit
        };
        if let Some(commit) = commit {
            self.commit(core, commit)?;
        }
        let mut has_more = self.catch_up(core, id)?;
        let mut core = core.lock();
        let rules = core.rules.clone();
        if let Some(shard) = core.shards.get_mut(&id)
            && shard.is_paused
            && shard.has_room(&rules)
        {
            shard.is_paused = false;
            self.worker.resume(id);
            has_more = true;
        }
        Ok(has_more)
    }

    fn commit(&mut self, core: &Mutex<Core>, commit: Commit) -> Result<()> {
        let id = commit.shard;
        let committed = match self.enter(&commit) {
            // It is asked again at the next look.
            Ok(false) => {
                core.lock().changed.insert(id);
                return Ok(());
            }
            Ok(true) => self.worker.commit_with_state(id, commit.next, &commit.state),
            Err(error) => Err(error),
        };
        let mut core = core.lock();
        match committed {
            Ok(()) => core.note_commit(commit),
            Err(Error::GroupLeaseLost { .. }) => core.forget(id),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Enters a commit into the ledger. Returns false if it is too early for that.
    fn enter(&mut self, commit: &Commit) -> Result<bool> {
        let Some(ledger) = &mut self.ledger else { return Ok(true) };
        let is_urgent = commit.is_urgent || self.is_finishing;
        if !ledger.is_due(is_urgent) {
            return Ok(false);
        }
        let state = Progress::relative(&commit.state, commit.next);
        ledger.enter(&Entry { shard: commit.shard, next: commit.next, state: &state }).map(|()| true)
    }

    /// Rereads what came while lanes were full, for those that have nothing left. Returns whether more is left to read.
    fn catch_up(&mut self, core: &Mutex<Core>, id: ShardId) -> Result<bool> {
        let (rules, behind) = {
            let core = core.lock();
            let Some(shard) = core.shards.get(&id) else { return Ok(false) };
            let lanes = shard.lanes.iter().enumerate().filter(|(_, lane)| lane.is_empty());
            let behind: Vec<_> = lanes.filter_map(|(at, lane)| Some((at, lane.behind?.from))).collect();
            (core.rules.clone(), behind)
        };
        let mut has_more = false;
        for (lane, from) in behind {
            has_more |= self.catch_up_lane(core, &rules, (id, lane), from)?;
        }
        Ok(has_more)
    }

    fn catch_up_lane(
        &self,
        core: &Mutex<Core>,
        rules: &Rules,
        (id, lane): (ShardId, usize),
        from: SequenceNumber,
    ) -> Result<bool> {
        let stream = &self.clocks.stream;
        let mut iterator = match stream.iterator(id, Position::At(from)) {
            Err(Error::Trimmed { .. }) => stream.iterator(id, Position::TrimHorizon)?,
            // Retention has dropped the whole shard, with what was left in it.
            Err(Error::ShardNotFound(_)) => {
                let mut core = core.lock();
                if let Some(shard) = core.shards.get_mut(&id) {
                    let left = shard.drop_behind(lane);
                    core.counts.skipped += left;
                }
                return Ok(false);
            }
            iterator => iterator?,
        };
        let skipped = iterator.next_sequence().get().saturating_sub(from.get());
        core.lock().counts.skipped += skipped;
        iterator = extend::unlimited(iterator);
        for _ in 0..BATCHES_AT_ONCE {
            let batch = match iterator.next_batch_within(rules.batch_records, rules.batch_bytes) {
                Err(Error::Lost { .. }) => {
                    iterator.skip_lost()?;
                    continue;
                }
                Err(Error::Trimmed { .. }) => {
                    core.lock().counts.skipped += iterator.skip_to_horizon();
                    continue;
                }
                batch => batch?,
            };
            let input = Input::new(batch, rules);
            let now = self.now();
            let mut core = core.lock();
            let Some(shard) = core.shards.get_mut(&id) else { return Ok(false) };
            let is_enough = shard.push_again(lane, input, rules, now);
            core.schedule((id, lane));
            core.changed.insert(id);
            if is_enough {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// How many batches the worker reads before they go into their lanes.
const BATCHES_IN_A_ROW: usize = BATCHES_AHEAD / 2;
/// After this many reads in a row, the driver looks for shards that are new or have ended.
const READS_BETWEEN_LOOKS: u32 = 16;
/// How many batches are read for one lane before the others have their turn.
const BATCHES_AT_ONCE: usize = 16;
