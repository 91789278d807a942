//! One lane of a shard: which batch its function gets next, and what its answers mean, without a disk, a clock or a thread.
//!
//! A lane has the records of some keys, in order, and one batch in work at a time. A batch is a stack of **parts**: usually one, and more once
//! it was bisected. The part on top is tried until it is done or given up.

use std::sync::Arc;
use std::time::Duration;

use super::discarded::{DiscardReason, Discarded};
use super::invocation::{Failure, Invocation, Response, Window};
use super::part::{OpenWindow, Part};
use super::queue::Queue;
use super::rules::Rules;
use super::slice::{Slice, count, split_off_front};
use super::stats::Counts;
use crate::{Record, SequenceNumber, ShardId, Timestamp};

/// Room for the states of all lanes of a shard, in what a commit can hold.
const STATES_BYTES_MAX: usize = 990_000;

/// The time, as the stream's clock has it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    /// Of the day.
    pub(super) time: Timestamp,
    /// Since some moment: what waits are measured by.
    pub(super) elapsed: Duration,
}

#[derive(Debug)]
pub(super) struct Lane {
    shard: ShardId,
    state_bytes_max: usize,
    /// What waits to become a batch.
    queue: Queue,
    /// The lane was full when this record came. It and those behind it have to be read again.
    pub(super) behind: Option<SequenceNumber>,
    /// The batch in work. The last part comes first.
    parts: Vec<Part>,
    /// What was given up and is not yet at its destination.
    report: Option<Discarded>,
    failures_in_a_row: u32,
    waits_until: Option<Duration>,
    /// The function runs, or the destination is written.
    is_running: bool,
    window: Option<OpenWindow>,
    /// A record whose time lies before this belongs to the window that begins here.
    windows_begin: Timestamp,
    /// What may be committed, while the state is too large to be.
    saved: Option<Saved>,
}

/// How far a lane is, as it may be committed.
#[derive(Debug, Clone, Default)]
pub(super) struct Saved {
    /// The first record of the lane that is not done. If there is none, all that was read is.
    pub(super) first_open: Option<SequenceNumber>,
    pub(super) window: Option<OpenWindow>,
}

/// What a lane wants next.
#[derive(Debug)]
pub(super) enum Next {
    /// A record, or the end of what runs.
    Nothing,
    /// To be asked again at this time of [`Now::elapsed`].
    Wait(Duration),
    /// To be asked again when it is known that all that has arrived by now is read.
    WaitForRead,
    /// A call of the function.
    Call(Invocation),
    /// That this is written to its destination.
    Report(Discarded),
}

impl Lane {
    /// Returns one of so many lanes of a shard.
    pub(super) fn new(shard: ShardId, lanes: usize, window: Option<OpenWindow>) -> Self {
        Self {
            shard,
            state_bytes_max: STATES_BYTES_MAX / lanes,
            queue: Queue::default(),
            behind: None,
            parts: vec![],
            report: None,
            failures_in_a_row: 0,
            waits_until: None,
            is_running: false,
            window,
            windows_begin: Timestamp::default(),
            saved: None,
        }
    }

    /// Returns whether nothing waits to become a batch.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Returns whether all records are done that came.
    pub(super) fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.behind.is_none() && self.parts.is_empty() && self.report.is_none()
    }

    pub(super) fn has_window(&self) -> bool {
        self.window.is_some()
    }

    pub(super) fn is_full(&self, rules: &Rules) -> bool {
        self.queue.is_full(rules)
    }

    /// Returns whether the lane should get more.
    pub(super) fn has_room(&self, rules: &Rules) -> bool {
        self.behind.is_none() && self.queue.has_at_most(rules, 2)
    }

    /// Returns whether the lane may soon have nothing left to do.
    pub(super) fn is_low(&self, rules: &Rules) -> bool {
        self.queue.has_at_most(rules, 4)
    }

    pub(super) fn is_running(&self) -> bool {
        self.is_running
    }

    /// Adds records. They come after all that the lane has.
    pub(super) fn push(&mut self, slice: Slice, now: Now) {
        self.queue.push(slice, now.elapsed);
    }

    /// Returns how far the lane is.
    pub(super) fn saved(&self) -> Saved {
        self.saved.clone().unwrap_or_else(|| self.present())
    }

    fn present(&self) -> Saved {
        let in_work = self.parts.iter().rev().find_map(|part| part.slices.first());
        let first = in_work.or_else(|| self.queue.front().map(|(slice, _)| slice)).map(Slice::first_sequence);
        Saved { first_open: first.or(self.behind), window: self.window.clone() }
    }

    /// Returns what to do next. If it is a call or a report, [`finish`](Self::finish) or [`finish_report`](Self::finish_report) has to follow.
    ///
    /// `read_until` is a moment up to which all records that came are in the lane; `is_last` says that no more will come.
    pub(super) fn next(
        &mut self,
        rules: &Rules,
        now: Now,
        read_until: Timestamp,
        is_last: bool,
        counts: &mut Counts,
    ) -> Next {
        if self.is_running {
            return Next::Nothing;
        }
        if let Some(until) = self.waits_until.filter(|&until| until > now.elapsed) {
            return Next::Wait(until);
        }
        loop {
            if let Some(report) = &self.report {
                self.is_running = true;
                return Next::Report(report.clone());
            }
            if self.parts.is_empty()
                && let Some(instead) = self.form(rules, now, read_until, is_last)
            {
                return instead;
            }
            self.expire(rules, now, counts);
            let (Some(part), None) = (self.parts.last_mut(), &self.report) else { continue };
            part.attempts += 1;
            let window = match part.window {
                Some((start, end)) if !part.is_final => {
                    let fresh = || OpenWindow::new(start, end, Arc::default());
                    Some(self.window.get_or_insert_with(fresh))
                }
                _ => self.window.as_mut(),
            };
            let window = window.filter(|_| part.window.is_some());
            self.is_running = true;
            return Next::Call(Invocation {
                shard: self.shard,
                slices: part.slices.clone(),
                attempt: part.attempts,
                state: window.as_ref().map_or_else(Arc::default, |window| Arc::clone(&window.state)),
                window: window.map(|window| Window {
                    start: window.start,
                    end: window.end,
                    is_final: part.is_final,
                    is_terminated_early: window.is_terminated_early,
                }),
            });
        }
    }

    /// Makes the next batch, or returns what to do instead.
    fn form(&mut self, rules: &Rules, now: Now, read_until: Timestamp, is_last: bool) -> Option<Next> {
        let Some((first, since)) = self.queue.front() else {
            let Some(window) = self.window.as_ref().filter(|_| self.behind.is_none()) else {
                return Some(Next::Nothing);
            };
            if is_last || read_until >= window.end || window.is_over {
                return self.end_window(rules);
            }
            let left = window.end.since(now.time);
            return Some(if left.is_zero() { Next::WaitForRead } else { Next::Wait(now.elapsed + left) });
        };
        let first_time = || first.records().next().map(|record| record.timestamp());
        let window =
            rules.tumbling_window.and_then(|_| first_time()).and_then(|at| self.window_of(rules, at));
        if let (Some(open), Some((start, _))) = (&self.window, window)
            && start >= open.end
        {
            return self.end_window(rules);
        }
        let flush_at = *since + rules.batching_window;
        let is_full =
            self.queue.records() >= rules.batch_records || self.behind.is_some() || self.is_full(rules);
        if !is_full && !is_last && flush_at > now.elapsed {
            return Some(Next::Wait(flush_at));
        }
        let slices = self.queue.take(rules, window.map(|(_, end)| end));
        let (attempts, retries_left) = (0, rules.retries);
        self.parts.push(Part { slices, attempts, retries_left, window, is_final: false });
        None
    }

    /// Returns the window to which a record belongs that arrived at this time.
    fn window_of(&self, rules: &Rules, time: Timestamp) -> Option<(Timestamp, Timestamp)> {
        match &self.window {
            // An open one keeps its length if the setting changes.
            Some(open) if time < open.end && !open.is_over => Some((open.start, open.end)),
            Some(open) => rules.window_of(time.max(open.end)),
            None => rules.window_of(time.max(self.windows_begin)),
        }
    }

    /// Ends the open window: first that it is over is committed, and then its last call begins. Returns what to do until then.
    fn end_window(&mut self, rules: &Rules) -> Option<Next> {
        let window = self.window.as_mut()?;
        window.is_over = true;
        if !window.is_committed {
            return Some(Next::Nothing);
        }
        self.call_finally(rules);
        None
    }

    /// Notes that it is committed that the open window is over.
    pub(super) fn note_commit(&mut self) {
        if let Some(window) = self.window.as_mut().filter(|window| window.is_over) {
            window.is_committed = true;
        }
    }

    /// Begins the last call for the open window, before what is left of the batch.
    fn call_finally(&mut self, rules: &Rules) {
        let Some(window) = &self.window else { return };
        let window = Some((window.start, window.end));
        let (attempts, retries_left) = (0, rules.retries);
        self.parts.push(Part { slices: vec![], attempts, retries_left, window, is_final: true });
    }

    /// Gives up the records of the part on top that are too old.
    fn expire(&mut self, rules: &Rules, now: Now, counts: &mut Counts) {
        let (Some(age_max), Some(part)) = (rules.record_age_max, self.parts.last()) else { return };
        let is_old = |record: &Record<'_>| now.time.since(record.timestamp()) > age_max;
        let old = part.slices.iter().flat_map(Slice::records).take_while(is_old).count();
        if old > 0 {
            self.discard(rules, now, old, DiscardReason::RecordAgeExceeded, None, counts);
        }
    }

    /// Notes what the function has answered.
    pub(super) fn finish(&mut self, rules: &Rules, now: Now, response: Response, counts: &mut Counts) {
        self.is_running = false;
        let Some(part) = self.parts.last_mut() else { return };
        let is_windowed = part.window.is_some() && !part.is_final;
        let done = match response.failure {
            Some(Failure::All(reason)) => return self.fail(rules, now, &reason, counts),
            _ if is_windowed && response.state.is_none() => {
                let reason = "the function has not answered with the state of its window";
                return self.fail(rules, now, reason, counts);
            }
            None => count(&part.slices),
            Some(Failure::Items(failed)) => {
                let sequences = part.slices.iter().flat_map(Slice::records).map(|record| record.sequence());
                let is_known = |number: &SequenceNumber| sequences.clone().any(|known| known == *number);
                if let Some(unknown) = failed.iter().find(|number| !is_known(number)) {
                    let reason = format!(
                        "the function has answered that record {unknown} failed, which it did not get"
                    );
                    return self.fail(rules, now, &reason, counts);
                }
                let lowest = failed.into_iter().min();
                sequences.take_while(|&number| Some(number) < lowest).count()
            }
        };
        if done == 0 && !part.slices.is_empty() {
            return self.fail(rules, now, "the function has answered that its first record failed", counts);
        }
        counts.records += done as u64;
        self.settle(rules, now, done, response.state, counts);
    }

    /// Takes the first records of the part on top as done.
    fn settle(&mut self, rules: &Rules, now: Now, done: usize, state: Option<Vec<u8>>, counts: &mut Counts) {
        let before = self.saved();
        let Some(mut part) = self.parts.pop() else { return };
        if part.is_final {
            self.close_window();
        } else if let (Some(window), Some(state)) = (&mut self.window, state) {
            window.is_terminated_early = state.len() > self.state_bytes_max;
            window.state = state.into();
        }
        (self.failures_in_a_row, self.waits_until) = (0, None);
        split_off_front(&mut part.slices, done);
        if !part.slices.is_empty() {
            self.parts.push(part);
            match rules.bisect {
                // The batch is split there, which is no attempt of its own.
                true => self.pause(rules, now),
                false => self.retry(rules, now, "the function has answered that this record failed", counts),
            }
        }
        if self.window.as_ref().is_some_and(|window| window.is_terminated_early) {
            self.saved.get_or_insert(before);
            self.call_finally(rules);
        }
    }

    fn close_window(&mut self) {
        // The rest of the records of a window that ends early opens it anew.
        if let Some(window) = self.window.take().filter(|window| !window.is_terminated_early) {
            self.windows_begin = self.windows_begin.max(window.end);
        }
        self.saved = None;
    }

    /// Notes that the part on top has failed as a whole.
    fn fail(&mut self, rules: &Rules, now: Now, reason: &str, counts: &mut Counts) {
        counts.errors += 1;
        counts.last_error = Some(reason.to_owned());
        let Some(part) = self.parts.last_mut() else { return };
        let records = count(&part.slices);
        if rules.bisect && records > 1 {
            let slices = split_off_front(&mut part.slices, records / 2);
            let front = Part { slices, ..*part };
            self.parts.push(front);
            self.pause(rules, now);
        } else {
            self.retry(rules, now, reason, counts);
        }
    }

    /// Tries the part on top again, or gives it up.
    fn retry(&mut self, rules: &Rules, now: Now, reason: &str, counts: &mut Counts) {
        let Some(part) = self.parts.last_mut() else { return };
        if part.retries_left == Some(0) {
            let all = count(&part.slices);
            return self.discard(
                rules,
                now,
                all,
                DiscardReason::RetryAttemptsExhausted,
                Some(reason),
                counts,
            );
        }
        part.retries_left = part.retries_left.map(|left| left - 1);
        self.pause(rules, now);
    }

    fn pause(&mut self, rules: &Rules, now: Now) {
        self.failures_in_a_row += 1;
        self.waits_until = Some(now.elapsed + rules.pause(self.failures_in_a_row));
    }

    /// Gives up the first records of the part on top, or the last call for a window.
    fn discard(
        &mut self,
        rules: &Rules,
        now: Now,
        records: usize,
        reason: DiscardReason,
        error: Option<&str>,
        counts: &mut Counts,
    ) {
        let before = self.saved();
        let Some(mut part) = self.parts.pop() else { return };
        let slices = split_off_front(&mut part.slices, records);
        counts.discarded += records as u64;
        (self.failures_in_a_row, self.waits_until) = (0, None);
        let discarded = Discarded {
            shard: self.shard,
            reason,
            error: error.map(str::to_owned),
            attempts: part.attempts,
            time: now.time,
            window: part.window.map(|(start, _)| start),
            slices,
        };
        if part.is_final {
            self.close_window();
        } else if !part.slices.is_empty() {
            self.parts.push(part);
        }
        if rules.has_destination {
            // It does not count as done before it is there.
            self.saved.get_or_insert(before);
            self.report = Some(discarded);
        }
    }

    /// Notes whether what was given up is at its destination.
    pub(super) fn finish_report(
        &mut self,
        rules: &Rules,
        now: Now,
        error: Option<String>,
        counts: &mut Counts,
    ) {
        self.is_running = false;
        match error {
            Some(error) => {
                counts.destination_errors += 1;
                counts.last_error = Some(error);
                self.pause(rules, now);
            }
            None => {
                self.report = None;
                (self.failures_in_a_row, self.waits_until) = (0, None);
                if !self.window.as_ref().is_some_and(|window| window.is_terminated_early) {
                    self.saved = None;
                }
            }
        }
    }
}
