//! The state that the threads of a delivery share: the shards, and the objects in delivery.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::error_output::Source;
use super::job::{Attempt, Job, Outcome, Retries};
use super::objects::Ready;
use super::part::Row;
use super::plan::Rules;
use super::shard::{Limits, Shard};
use super::sink::SinkError;
use super::state::State;
use super::stats::DeliveryStats;
use crate::{SequenceNumber, ShardId, Timestamp};

/// The limits of a delivery.
#[derive(Debug, Clone)]
pub(super) struct Bounds {
    pub(super) limits: Limits,
    pub(super) memory_bytes_max: usize,
    pub(super) partitions_max: usize,
    pub(super) retries: Retries,
    /// Whether the objects of a shard are delivered one after the other, and keep the origins of their rows.
    pub(super) is_to_stream: bool,
    /// Whether a function makes the rows.
    pub(super) has_function: bool,
}

/// The present, by the clock and as elapsed time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    pub(super) time: Timestamp,
    pub(super) elapsed: Duration,
}

/// Identifies an object in delivery. If the shard was lost and came back, its objects have other tickets.
pub(super) type Ticket = (ShardId, u64, u64);

#[derive(Debug)]
pub(super) struct Core {
    /// The rules that the delivery was started with.
    pub(super) rules: Arc<Rules>,
    pub(super) bounds: Bounds,
    pub(super) shards: BTreeMap<ShardId, Held>,
    jobs: BTreeMap<Ticket, Job>,
    taken_count: u64,
    pub(super) counts: DeliveryStats,
    pub(super) flush: Flush,
    /// Whether records wait for calls of the function, or for the schema, and when to act on it.
    pub(super) has_calls: bool,
    pub(super) has_sample: bool,
    pub(super) waiting_due: Option<Duration>,
    /// Whether the schema must be decided from the records read so far.
    pub(super) must_decide_schema: bool,
    /// Whether failed attempts are no longer retried.
    is_ending: bool,
}

/// Whether everything is to be delivered now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flush {
    No,
    /// As soon as everything available is read.
    OnceRead,
    /// What was read.
    Now,
}

/// A shard, and how often one was taken over before it.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) shard: Shard,
    term: u64,
}

/// Work for a thread that delivers.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) ticket: Ticket,
    pub(super) attempt: Attempt,
}

impl Core {
    pub(super) fn new(rules: Arc<Rules>, bounds: Bounds) -> Self {
        Self {
            rules,
            bounds,
            shards: BTreeMap::new(),
            jobs: BTreeMap::new(),
            taken_count: 0,
            counts: DeliveryStats::default(),
            flush: Flush::No,
            has_calls: false,
            has_sample: false,
            waiting_due: None,
            must_decide_schema: false,
            is_ending: false,
        }
    }

    /// Takes over a shard, with the state that was committed with its checkpoint. The error says why that is impossible, as the end of a sentence
    /// about the state.
    pub(super) fn take_over(
        &mut self,
        id: ShardId,
        next: SequenceNumber,
        state: Option<State>,
    ) -> Result<(), String> {
        self.forget(id);
        self.taken_count += 1;
        let mut shard = Shard::new(id, next, Arc::clone(&self.rules), state)?;
        shard.keeps_origins = self.bounds.is_to_stream;
        shard.is_of_function = self.bounds.has_function;
        self.shards.insert(id, Held { shard, term: self.taken_count });
        Ok(())
    }

    /// Continues with these rules, which complete the current ones: only their schema was undecided.
    pub(super) fn decide_rules(&mut self, decided: &Arc<Rules>) {
        for held in self.shards.values_mut() {
            held.shard.replace_rules(&self.rules, decided);
        }
        self.rules = Arc::clone(decided);
        self.must_decide_schema = false;
    }

    /// Forgets a shard. Its objects in delivery may still be delivered: the next owner of the shard gives them the same names.
    pub(super) fn forget(&mut self, id: ShardId) {
        self.shards.remove(&id);
        self.jobs.retain(|(of, ..), _| *of != id);
    }

    /// Returns the memory of the buffers.
    pub(super) fn memory_bytes(&self) -> usize {
        self.shards.values().map(|held| held.shard.memory_bytes).sum()
    }

    /// Returns whether memory is full.
    pub(super) fn is_full(&self) -> bool {
        self.memory_bytes() >= self.bounds.memory_bytes_max
    }

    /// Returns how many parts with partition keys are built.
    pub(super) fn active_parts(&self) -> usize {
        self.shards.values().map(|held| held.shard.active_parts()).sum()
    }

    /// Returns whether records of a shard may be read. When memory is full, only records that were read before may be read, and only of one shard.
    /// `may_adopt` says whether the shard may switch to new rules, because everything that was read is added.
    pub(super) fn may_read(&mut self, id: ShardId, may_adopt: bool) -> bool {
        let is_full = self.is_full();
        let first = self.shards.iter().find(|(_, held)| held.shard.is_replaying()).map(|(&id, _)| id);
        let rules = Arc::clone(&self.rules);
        let Some(held) = self.shards.get_mut(&id) else { return false };
        let may_read =
            if is_full { first == Some(id) } else { self.flush != Flush::Now || held.shard.is_replaying() };
        // Called in any case, so that objects decided under the last rules are delivered.
        (if may_adopt { held.shard.adopt(&rules) } else { held.shard.has_adopted(&rules) }) && may_read
    }

    /// Adds what a record became. `has_failed` says that the function's call for it failed, so that the call is not repeated after a crash.
    pub(super) fn push(&mut self, source: &Source<'_>, rows: &[Row<'_>], has_failed: bool, now: Now) {
        let room = match self.rules.plan.keys.is_empty() {
            true => usize::MAX,
            false => self.bounds.partitions_max.saturating_sub(self.active_parts()),
        };
        let Some(held) = self.shards.get_mut(&source.shard) else { return };
        let mut left = room;
        let may_begin = || {
            let has_room = left > 0;
            left = left.saturating_sub(1);
            has_room
        };
        if has_failed {
            held.shard.noted.fail(source.sequence);
        }
        self.counts.failed_records += held.shard.push(source, rows, now.elapsed, may_begin);
        self.counts.read_records += 1;
        for name in held.shard.take_changed() {
            self.counts.changed_objects += 1;
            self.counts.last_error = Some(format!(
                "{name} is not the same again after a restart: the function has made something else of its records, or retention has dropped some"
            ));
        }
        held.shard.decide_full(self.bounds.limits);
    }

    /// Decides what is due.
    pub(super) fn decide(&mut self, now: Now) {
        let limits = self.bounds.limits;
        for held in self.shards.values_mut() {
            if self.flush == Flush::Now || held.shard.is_at_end {
                if !held.shard.is_replaying() {
                    held.shard.decide_all();
                }
            } else {
                held.shard.decide_due(limits, now.elapsed);
            }
        }
        if self.is_full() {
            self.shards.values_mut().for_each(|held| held.shard.drop_spare());
        }
        if self.is_full() {
            // The largest ones, so that the others grow to a decent size.
            let largest = self.shards.values().map(|held| held.shard.largest()).max().unwrap_or_default();
            for held in self.shards.values_mut().filter(|_| largest > 0) {
                held.shard.decide_large(largest / 2 + 1);
            }
        }
    }

    /// Notes a commit, and begins to deliver the objects that it contains.
    pub(super) fn note_commit(&mut self, id: ShardId, next: SequenceNumber, now: Now) {
        let Some(held) = self.shards.get_mut(&id) else { return };
        let (term, ready) = (held.term, held.shard.note_commit(next));
        self.add_jobs(id, term, ready, now);
    }

    /// Begins to deliver the objects whose records were read again.
    pub(super) fn deliver_again(&mut self, id: ShardId, now: Now) {
        let Some(held) = self.shards.get_mut(&id) else { return };
        let (term, ready) = (held.term, held.shard.take_ready());
        self.add_jobs(id, term, ready, now);
    }

    fn add_jobs(&mut self, id: ShardId, term: u64, ready: Vec<Ready>, now: Now) {
        for Ready { object, decided, rules, building } in ready {
            self.jobs.insert((id, term, object), Job::new(id, decided, rules, building, now.elapsed));
        }
    }

    /// Returns the objects in delivery that do not wait for an earlier one.
    fn first_jobs(&self) -> impl Iterator<Item = (Ticket, &Job)> {
        let mut before = None;
        let is_first = move |shard, job: &Job| {
            !self.bounds.is_to_stream || !job.is_of_records() || before.replace(shard) != Some(shard)
        };
        let mut first = is_first;
        self.jobs.iter().filter(move |(ticket, job)| first(ticket.0, job)).map(|(&ticket, job)| (ticket, job))
    }

    /// Returns the next object to deliver, if one is due.
    pub(super) fn take(&mut self, now: Now) -> Option<Work> {
        let may_begin = |job: &Job| job.is_due(now.elapsed) && !(self.is_ending && job.has_failed());
        let (ticket, _) = self.first_jobs().find(|(_, job)| may_begin(job))?;
        let attempt = self.jobs.get_mut(&ticket)?.begin();
        Some(Work { ticket, attempt })
    }

    pub(super) fn has_due(&self, now: Now) -> bool {
        self.first_jobs().any(|(_, job)| job.is_due(now.elapsed))
    }

    pub(super) fn has_running(&self) -> bool {
        self.jobs.values().any(Job::is_running)
    }

    /// Notes the outcome of an attempt.
    pub(super) fn finish(
        &mut self,
        ticket: Ticket,
        outcome: Result<(), SinkError>,
        attempt: Attempt,
        now: Now,
    ) {
        let Some(job) = self.jobs.get_mut(&ticket) else { return };
        let (bytes, rows) = (attempt.bytes_len(), attempt.row_count());
        let mut rejected = rows;
        if let Err(error) = &outcome {
            self.counts.errors += 1;
            self.counts.last_error = Some(error.to_string());
            rejected = error.rejected.as_ref().map_or(rows, |rejected| rejected.len() as u64);
        }
        match job.finish(outcome, attempt, &self.bounds.retries, now) {
            Outcome::Again => {}
            Outcome::GivenUp => {
                self.counts.failed_records += rejected;
                self.counts.records += rows - rejected.min(rows);
            }
            Outcome::Delivered { is_error_output, buffer } => {
                // When memory is scarce, an object that has just begun must not be the largest one.
                let buffer = buffer.filter(|_| self.memory_bytes() <= self.bounds.memory_bytes_max / 2);
                self.counts.objects += 1;
                self.counts.bytes += bytes;
                if !is_error_output {
                    self.counts.records += rows;
                }
                self.jobs.remove(&ticket);
                if let Some(held) = self.shards.get_mut(&ticket.0) {
                    held.shard.note_delivered(ticket.2, buffer);
                }
            }
        }
    }

    /// Starts to deliver everything that was read, with at most one more attempt for each object.
    pub(super) fn begin_to_end(&mut self) {
        (self.flush, self.is_ending) = (Flush::Now, true);
    }

    /// Returns whether the schema must be decided now, and whether it must be decided if possible, because the delivery ends.
    pub(super) fn asks_for_schema(&self) -> (bool, bool) {
        (self.must_decide_schema, self.is_ending)
    }

    /// Notes that nothing more can be read. Returns whether a flush continues because of it.
    pub(super) fn note_all_read(&mut self) -> bool {
        let is_held_up = self.has_calls || self.shards.values().any(|held| held.shard.is_paused);
        self.must_decide_schema |= self.flush == Flush::OnceRead && !is_held_up && self.has_sample;
        let goes_on = self.flush == Flush::OnceRead && !is_held_up && !self.has_sample;
        if goes_on {
            self.flush = Flush::Now;
        }
        goes_on
    }

    /// Returns whether no attempt is running, and none will start.
    pub(super) fn has_ended(&self) -> bool {
        self.first_jobs().all(|(_, job)| job.has_failed())
    }

    /// Returns whether a commit would differ from the last one.
    pub(super) fn is_changed(&self) -> bool {
        self.shards.values().any(|held| held.shard.is_changed())
    }

    /// Returns whether everything that was read is delivered.
    pub(super) fn is_clear(&self) -> bool {
        let is_clear = |held: &Held| held.shard.is_clear() && !held.shard.is_replaying();
        !self.has_calls && !self.has_sample && self.shards.values().all(is_clear)
    }

    /// Returns when something is due next.
    pub(super) fn due(&self) -> Option<Duration> {
        let objects = self.shards.values().filter_map(|held| held.shard.next_due(self.bounds.limits));
        let waiting = if self.must_decide_schema { Some(Duration::ZERO) } else { self.waiting_due };
        objects.chain(self.first_jobs().filter_map(|(_, job)| job.due())).chain(waiting).min()
    }

    pub(super) fn stats(&self, now: Timestamp) -> DeliveryStats {
        let parts = self.active_parts();
        let oldest = self.shards.values().filter_map(|held| held.shard.oldest()).min();
        DeliveryStats {
            buffered_bytes: self.memory_bytes() as u64,
            pending_objects: self.jobs.len() as u64,
            active_partitions: parts as u64,
            data_freshness: oldest.map(|oldest| now.since(oldest)).unwrap_or_default(),
            ..self.counts.clone()
        }
    }
}

impl Attempt {
    fn bytes_len(&self) -> u64 {
        self.object().map_or(0, |object| object.bytes.len() as u64)
    }

    fn row_count(&self) -> u64 {
        self.object().map_or(0, |object| object.record_count)
    }
}
