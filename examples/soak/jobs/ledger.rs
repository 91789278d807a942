//! The supervisor's record of the jobs: which were put, what each processor has counted, and what each queue has delivered.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use streamlog::ShardId;

use super::note::Note;
use super::record::{Job, good_from, is_bad};
use super::windows::Tally;
use super::{QueueId, Side, WindowsId};
use crate::record::Number;

/// Windows that began this long before the newest one are forgotten. Nobody reports them again.
const KNOWN_FOR_MICROS: u64 = 120_000_000;

/// How many acknowledged records are remembered: more than the slowest receiver can be behind.
const RECENT_MAX: usize = 100_000;

/// A set of numbers that is dense except near its upper end.
#[derive(Debug, Default)]
struct Numbers {
    /// All numbers below this one are in the set.
    below: u64,
    above: BTreeSet<u64>,
}

impl Numbers {
    fn contains(&self, number: u64) -> bool {
        number < self.below || self.above.contains(&number)
    }

    /// Returns whether the number is new.
    fn insert(&mut self, number: u64) -> bool {
        if self.contains(number) {
            return false;
        }
        self.above.insert(number);
        while self.above.remove(&self.below) {
            self.below += 1;
        }
        true
    }

    fn remove(&mut self, number: u64) {
        if number < self.below {
            self.above.extend(number + 1..self.below);
            self.below = number;
        }
        self.above.remove(&number);
    }
}

/// The number of records of each key that were put and acknowledged in each run.
#[derive(Debug, Default)]
struct Put(BTreeMap<u32, Vec<u64>>);

impl Put {
    fn count(&self, run: u32, key: u16) -> u64 {
        self.0.get(&run).and_then(|counts| counts.get(usize::from(key))).copied().unwrap_or_default()
    }

    /// Returns a good record of a key that was put after `last` and before `next`, where there must be none.
    fn between(&self, key: u16, last: Option<Number>, next: Number) -> Option<Job> {
        let first_run = last.map_or(0, |last| last.run);
        self.0.range(first_run..=next.run.max(first_run)).find_map(|(&run, _)| {
            let begin = last.filter(|last| last.run == run).map_or(0, |last| last.count + 1);
            let end = if run == next.run { next.count } else { self.count(run, key) };
            let count = good_from(begin);
            (count < end).then_some(Job { key, number: Number { run, count } })
        })
    }

    /// Returns all records that were put in a run.
    fn of_run(run: u32, counts: &[u64]) -> impl Iterator<Item = Job> {
        (0..).zip(counts).flat_map(move |(key, &count)| {
            (0..count).map(move |count| Job { key, number: Number { run, count } })
        })
    }
}

/// The reports of a processor.
#[derive(Debug, Default)]
struct Windows {
    /// The last good record of each key that was counted.
    lasts: BTreeMap<u16, Number>,
    /// The most recent last calls by window start, with their shards and keys.
    finals: BTreeMap<(u64, ShardId, u64), Vec<Tally>>,
    given_up: BTreeSet<Job>,
    given_up_count: usize,
    counted: u64,
    window_count: u64,
    again_count: u64,
}

impl Windows {
    fn note_final(
        &mut self,
        put: &Put,
        start_micros: u64,
        shard: ShardId,
        tallies: Vec<Tally>,
    ) -> Result<(), String> {
        self.window_count += 1;
        let mut by_key: BTreeMap<u64, Vec<Tally>> = BTreeMap::new();
        tallies.into_iter().for_each(|tally| by_key.entry(tally[0]).or_default().push(tally));
        for (key, tallies) in by_key {
            if let Some(known) = self.finals.get(&(start_micros, shard, key)) {
                if *known != tallies {
                    return Err(format!(
                        "L2: the last call for a window of {shard} has counted {tallies:?}, and before a crash {known:?}"
                    ));
                }
                self.again_count += 1;
                continue;
            }
            for &tally in &tallies {
                self.note_tally(put, tally)?;
            }
            self.finals.insert((start_micros, shard, key), tallies);
        }
        let forgotten = start_micros.saturating_sub(KNOWN_FOR_MICROS);
        self.finals = self.finals.split_off(&(forgotten, ShardId::new(0), 0));
        Ok(())
    }

    /// Checks that the records of a key follow those that were counted before.
    fn note_tally(&mut self, put: &Put, [key, run, first, last, count]: Tally) -> Result<(), String> {
        let (key, run) = (key as u16, run as u32);
        let number = Number { run, count: first };
        let job = Job { key, number };
        let before = self.lasts.insert(key, Number { run, count: last });
        let is_in_order = match before {
            Some(before) if before.run == run => first == good_from(before.count + 1),
            Some(before) => before.run < run && first == good_from(0),
            None => first == good_from(0),
        };
        if !is_in_order {
            return Err(format!("L2 L3: a processor has counted {job:?} after {before:?}"));
        }
        if let Some(missing) = put.between(key, before, number) {
            return Err(format!(
                "L2: a processor has not counted {missing:?}: {job:?} comes after {before:?}"
            ));
        }
        let good = (first..=last).filter(|&count| !is_bad(count)).count() as u64;
        if count != good {
            return Err(format!(
                "L2: a window has counted {count} records from {job:?} to {last}, which are {good}"
            ));
        }
        self.counted += count;
        Ok(())
    }

    fn note_given_up(&mut self, jobs: Vec<Job>) -> Result<(), String> {
        if let Some(good) = jobs.iter().find(|job| !job.is_bad()) {
            return Err(format!("L2: a processor gives up {good:?}, which is a good record"));
        }
        self.given_up.extend(jobs);
        Ok(())
    }

    fn forget(&mut self, run: u32) {
        let before = self.given_up.len();
        self.given_up.retain(|job| job.number.run != run);
        self.given_up_count += before - self.given_up.len();
    }

    fn is_done(&self, job: Job) -> bool {
        if job.is_bad() {
            self.given_up.contains(&job)
        } else {
            self.lasts.get(&job.key) >= Some(&job.number)
        }
    }
}

/// The reports of a queue about one key of one run.
#[derive(Debug, Default)]
struct OfKey {
    acknowledged: Numbers,
    /// Records that no longer block others: they are being acknowledged, or they are bad and may be dead letters.
    passed: Numbers,
    /// The number of calls that try to acknowledge a record, or were killed while trying.
    tries: BTreeMap<u64, u32>,
}

/// The reports of a queue.
#[derive(Debug, Default)]
struct Queue {
    keys: BTreeMap<(u16, u32), OfKey>,
    /// The last run of which a record of each key was delivered.
    runs: BTreeMap<u16, u32>,
    /// Good records that were dead letters, and so arrive later than others of their key.
    restored: BTreeSet<Job>,
    /// The receive counts of the most recently acknowledged records.
    recent: BTreeMap<Job, u32>,
    recent_by_age: VecDeque<Job>,
    taken_count: u64,
    acknowledged_count: u64,
    refused_count: u64,
    bad_count: u64,
}

impl Queue {
    fn of_key(&mut self, job: Job) -> &mut OfKey {
        self.keys.entry((job.key, job.number.run)).or_default()
    }

    fn note_taken(&mut self, put: &Put, is_ordered: bool, jobs: Vec<(Job, u32)>) -> Result<(), String> {
        self.taken_count += jobs.len() as u64;
        for (job, receives) in jobs {
            let count = job.number.count;
            if self.of_key(job).acknowledged.contains(count) {
                // An earlier receiver of the record may report only now.
                if self.recent.get(&job).is_some_and(|&last| receives < last) {
                    continue;
                }
                return Err(format!("L1: {job:?} is handed out after it was acknowledged"));
            }
            if is_ordered && !self.restored.contains(&job) {
                self.check_order(put, job)?;
            }
            if job.is_bad() {
                self.of_key(job).passed.insert(count);
            }
        }
        Ok(())
    }

    /// Checks that all earlier records of a key are done.
    fn check_order(&mut self, put: &Put, job: Job) -> Result<(), String> {
        let Job { key, number } = job;
        let passed = self.of_key(job).passed.below;
        if passed < number.count {
            return Err(format!(
                "L3: {job:?} is handed out, and number {passed} of the same run is not done"
            ));
        }
        let last_run = self.runs.insert(key, number.run).unwrap_or_default();
        if last_run > number.run {
            return Err(format!("L3: {job:?} is handed out after a record of run {last_run}"));
        }
        for run in last_run..number.run {
            let (put, passed) =
                (put.count(run, key), self.keys.get(&(key, run)).map_or(0, |known| known.passed.below));
            if passed < put {
                return Err(format!(
                    "L3: {job:?} is handed out, and of run {run} only {passed} of {put} are done"
                ));
            }
        }
        Ok(())
    }

    fn note_try(&mut self, job: Job) {
        let of_key = self.of_key(job);
        of_key.passed.insert(job.number.count);
        *of_key.tries.entry(job.number.count).or_default() += 1;
    }

    fn note_acknowledged(&mut self, jobs: Vec<(Job, u32)>) -> Result<(), String> {
        for (job, receives) in jobs {
            if !self.of_key(job).acknowledged.insert(job.number.count) {
                return Err(format!("L1: {job:?} was acknowledged twice"));
            }
            self.of_key(job).tries.remove(&job.number.count);
            self.recent.insert(job, receives);
            self.recent_by_age.push_back(job);
            if self.recent_by_age.len() > RECENT_MAX {
                self.recent_by_age.pop_front().map(|job| self.recent.remove(&job));
            }
            self.acknowledged_count += 1;
            self.bad_count += u64::from(job.is_bad());
        }
        Ok(())
    }

    /// Notes that records were not acknowledged after all.
    fn note_refused(&mut self, jobs: Vec<Job>) {
        self.refused_count += jobs.len() as u64;
        for job in jobs.into_iter().filter(|job| !job.is_bad()) {
            let (count, of_key) = (job.number.count, self.of_key(job));
            let tries = of_key.tries.entry(count).or_default();
            *tries = tries.saturating_sub(1);
            // Another receiver may have acknowledged it meanwhile, or is about to.
            if *tries == 0 && !of_key.acknowledged.contains(count) {
                of_key.passed.remove(count);
            }
        }
    }

    /// Returns whether the record is acknowledged, or may be: a process was killed meanwhile.
    fn is_done(&self, job: Job) -> bool {
        let count = job.number.count;
        let is_tried = |of_key: &OfKey| of_key.tries.get(&count).is_some_and(|&tries| tries > 0);
        let of_key = self.keys.get(&(job.key, job.number.run));
        of_key.is_some_and(|of_key| of_key.acknowledged.contains(count) || is_tried(of_key))
    }
}

/// All reports about the jobs.
#[derive(Debug, Default)]
pub(crate) struct JobLedger {
    put: Put,
    windows: BTreeMap<WindowsId, Windows>,
    queues: BTreeMap<QueueId, Queue>,
    /// The records of runs that were dropped.
    done_count: u64,
    trimmed_count: u64,
}

impl JobLedger {
    /// Adds a note, and checks that it agrees with those before.
    pub(crate) fn note(&mut self, note: Note) -> Result<(), String> {
        match note {
            Note::Put { run, counts } => drop(self.put.0.insert(run, counts)),
            Note::Trimmed { count } => self.trimmed_count += count,
            Note::Window { id, shard, start_micros, tallies } => {
                let windows = self.windows.entry(id).or_default();
                windows
                    .note_final(&self.put, start_micros, shard, tallies)
                    .map_err(|what| format!("{what} [{}]", id.name()))?;
            }
            Note::GivenUp { id, jobs } => self.windows.entry(id).or_default().note_given_up(jobs)?,
            Note::Taken { id, jobs } => {
                let queue = self.queues.entry(id).or_default();
                queue
                    .note_taken(&self.put, id.is_ordered, jobs)
                    .map_err(|what| format!("{what} [{}]", id.name()))?;
            }
            Note::Acknowledging { id, jobs } => {
                let queue = self.queues.entry(id).or_default();
                jobs.into_iter().for_each(|job| queue.note_try(job));
            }
            Note::Acknowledged { id, jobs } => {
                let queue = self.queues.entry(id).or_default();
                queue.note_acknowledged(jobs).map_err(|what| format!("{what} [{}]", id.name()))?;
            }
            Note::Refused { id, jobs } => self.queues.entry(id).or_default().note_refused(jobs),
            Note::Restored { id, jobs } => self.queues.entry(id).or_default().restored.extend(jobs),
        }
        Ok(())
    }

    /// Returns which processors and queues of a side have not handled a record.
    fn who_misses(&self, side: Side, job: Job) -> Option<&'static str> {
        let id = WindowsId(side);
        if !self.windows.get(&id).is_some_and(|windows| windows.is_done(job)) {
            return Some(id.name());
        }
        let misses = |id: &QueueId| !self.queues.get(id).is_some_and(|queue| queue.is_done(job));
        QueueId::of(side).find(misses).map(QueueId::name)
    }

    /// Describes the remaining work of the processor and the queues of a side.
    pub(super) fn missing(&self, side: Side) -> Option<String> {
        let mut jobs = self.put.0.iter().flat_map(|(&run, counts)| Put::of_run(run, counts));
        jobs.find_map(|job| Some(format!("{job:?} in {}", self.who_misses(side, job)?)))
    }

    /// Drops the runs before this one whose records are all done everywhere.
    pub(super) fn forget_done(&mut self, before: u32) {
        while let Some((&run, counts)) = self.put.0.first_key_value() {
            let is_left =
                |job| [Side::Inside, Side::Outside].iter().any(|&side| self.who_misses(side, job).is_some());
            if run >= before || Put::of_run(run, counts).any(is_left) {
                return;
            }
            self.done_count += counts.iter().sum::<u64>();
            self.put.0.remove(&run);
            self.windows.values_mut().for_each(|windows| windows.forget(run));
        }
    }

    /// Describes the remaining work outside of the worker.
    pub(crate) fn missing_outside(&self) -> Option<String> {
        self.missing(Side::Outside)
    }

    /// Returns lines for the summary.
    pub(crate) fn summary(&self) -> Vec<String> {
        let put = self.done_count + self.put.0.values().flatten().sum::<u64>();
        let mut lines = vec![format!("jobs: {put} put, {} trimmed at work", self.trimmed_count)];
        for (id, windows) in &self.windows {
            let Windows { counted, window_count, again_count, .. } = windows;
            let given_up = windows.given_up_count + windows.given_up.len();
            lines.push(format!(
                "{}: {counted} counted once in {window_count} windows, {given_up} bad ones given up, {again_count} tallies again",
                id.name(),
            ));
        }
        for (id, queue) in &self.queues {
            let Queue { taken_count, acknowledged_count, refused_count, bad_count, .. } = queue;
            lines.push(format!(
                "{}: handed out {taken_count} times, {acknowledged_count} acknowledged, {bad_count} of them dead letters, {refused_count} too late",
                id.name()
            ));
        }
        lines
    }
}
