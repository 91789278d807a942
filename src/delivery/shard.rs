//! One shard of a delivery: its records become rows, the rows become objects, and the decisions about objects become the shard's checkpoint.
//!
//! An object goes through four stages:
//! 1. It is **built**: rows of one part are added. A crash forgets it, and its records are read again.
//! 2. Its borders are **decided**: from here on it has a name, and no row is added.
//! 3. The decision is **committed** with the checkpoint. Only then may the object be delivered. After a crash, its records are read again, and it is
//!    built once more: the same rows under the same name.
//! 4. It is **delivered**, and forgotten. The next commit says so. A crash before that delivers it again.
//!
//! The checkpoint is before the first record of every undelivered object. Parts that are further ahead are noted beside it. So each row is in exactly
//! one object, whatever the other parts do.

mod checkpoint;
mod spare;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::error_output::{self, Failure, Source};
use super::format::{Encode, Format};
use super::name::{self, random_uuid};
use super::noted::Noted;
use super::objects::{Building, Objects, Ready};
use super::part::{ErrorKind, Origin, Part, Row, Span};
use super::plan::Rules;
use super::state::{Decided, State, part_bytes};
use crate::{SequenceNumber, ShardId, Timestamp};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// While the state to be committed has this many bytes or more, by estimate, nothing is read and hardly anything is decided. A commit takes 1 MB.
const STATE_BYTES: usize = 400 << 10;

#[derive(Debug)]
pub(super) struct Shard {
    id: ShardId,
    rules: Arc<Rules>,
    /// The number of the next record.
    pub(super) read_to: SequenceNumber,
    /// Records before this one are read again, because their objects were decided before a crash.
    replayed_to: SequenceNumber,
    parts: BTreeMap<Part, PartState>,
    objects: Objects,
    pub(super) noted: Noted,
    /// Checks whether records that are read again fit into the format. It holds no rows.
    judge: Option<Box<dyn Encode>>,
    /// The names of objects whose rows differ from before a crash.
    changed: Vec<String>,
    /// The memory of the buffers.
    pub(super) memory_bytes: usize,
    /// The buffer of an object that was delivered, for the next one without partition keys. Its pages are there already, and it does not have to grow.
    spare: Option<Vec<u8>>,
    /// The bytes of the largest object to which the last record was added.
    largest_input_bytes: usize,
    pub(super) is_at_end: bool,
    pub(super) is_paused: bool,
    /// Whether objects keep the origins of their rows.
    pub(super) keeps_origins: bool,
    /// Whether rows may differ after a crash, because a function makes them.
    pub(super) is_of_function: bool,
    pub(super) state_bytes_max: usize,
    /// Whether objects were decided or delivered since the last checkpoint was taken.
    is_changed: bool,
    /// The last checkpoint that was committed.
    committed: SequenceNumber,
}

#[derive(Debug, Default)]
struct PartState {
    building: Option<Building>,
    /// All rows of earlier records are in decided objects.
    decided: SequenceNumber,
}

/// When objects are decided.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) buffer_bytes: usize,
    pub(super) buffer_interval: Duration,
}

impl Shard {
    /// Continues from a checkpoint: at `next`, with the state that was committed beside it.
    ///
    /// The error says why that is impossible, as the end of a sentence about the state.
    pub(super) fn new(
        id: ShardId,
        next: SequenceNumber,
        rules: Arc<Rules>,
        state: Option<State>,
    ) -> Result<Self, String> {
        let mut shard = Self {
            id,
            rules,
            read_to: next,
            replayed_to: next,
            parts: BTreeMap::new(),
            objects: Objects::default(),
            noted: Noted::default(),
            judge: None,
            changed: vec![],
            memory_bytes: 0,
            spare: None,
            largest_input_bytes: 0,
            is_at_end: false,
            is_paused: false,
            keeps_origins: false,
            is_of_function: true,
            state_bytes_max: STATE_BYTES,
            is_changed: false,
            committed: next,
        };
        if let Some(state) = state {
            shard.take_up(state)?;
        }
        Ok(shard)
    }

    fn take_up(&mut self, state: State) -> Result<(), String> {
        for (part, decided) in state.decided {
            self.replayed_to = self.replayed_to.max(decided);
            self.parts.insert(part, PartState { building: None, decided });
        }
        for decided in state.objects {
            self.replayed_to = self.replayed_to.max(decided.span.last.plus(1));
            self.objects.add_again(decided);
        }
        self.noted = state.noted;
        if state.plan != self.rules.plan {
            // They were valid when they were committed, but this may be another machine.
            let invalid = |reason: String| {
                format!(
                    "has settings that are not valid here: {reason}. Change that until all is delivered, or delete the group to start anew"
                )
            };
            self.rules = Arc::new(Rules::new(state.plan).map_err(invalid)?);
        }
        Ok(())
    }

    pub(super) fn rules(&self) -> &Arc<Rules> {
        &self.rules
    }

    /// Returns whether records are read again whose objects were decided before a crash.
    pub(super) fn is_replaying(&self) -> bool {
        self.read_to < self.replayed_to
    }

    /// Returns the record before which all records are read again.
    pub(super) fn replayed_to(&self) -> SequenceNumber {
        self.replayed_to
    }

    /// Takes the names of objects whose rows differ from before a crash.
    pub(super) fn take_changed(&mut self) -> Vec<String> {
        std::mem::take(&mut self.changed)
    }

    /// Switches to rules that have replaced others, if the shard has the replaced ones. Only the schema may differ, and no row was added under it.
    pub(super) fn replace_rules(&mut self, replaced: &Rules, by: &Arc<Rules>) {
        if self.rules.plan == replaced.plan {
            self.rules = Arc::clone(by);
        }
    }

    /// Returns whether the shard has these rules, or still reads records again that were decided under others.
    pub(super) fn has_adopted(&self, rules: &Rules) -> bool {
        self.rules.plan == rules.plan || self.is_replaying()
    }

    /// Switches to other rules once nothing is left that was decided under the last ones. Returns whether records may be read: not before that, and
    /// not while the state is full, because each record may add to it.
    pub(super) fn adopt(&mut self, rules: &Arc<Rules>) -> bool {
        if self.is_replaying() {
            return true;
        }
        if self.rules.plan == rules.plan {
            return self.is_clear() || self.state_bytes() < self.state_bytes_max;
        }
        self.decide_all();
        let is_clear = self.is_clear() && !self.is_changed;
        if is_clear {
            (self.rules, self.judge) = (Arc::clone(rules), None);
        }
        is_clear
    }

    /// Returns how many parts with partition keys are built.
    pub(super) fn active_parts(&self) -> usize {
        self.parts.iter().filter(|(part, state)| is_keyed(part) && state.building.is_some()).count()
    }

    /// Adds what a record became. `may_begin` says whether one more part may be built. Returns how many rows went to the error output.
    pub(super) fn push(
        &mut self,
        source: &Source<'_>,
        rows: &[Row<'_>],
        now: Duration,
        mut may_begin: impl FnMut() -> bool,
    ) -> u64 {
        let mut failed_count = 0;
        for (row, index) in rows.iter().zip(0..) {
            let place = (source.sequence, index);
            // Rows that are read again had room, unless they were noted: the error output of these records may be decided.
            let must_have_room = !self.is_replaying() && is_keyed(&row.part);
            let is_over = self.noted.has_overflowed(place)
                || must_have_room && !self.is_building(&row.part) && !may_begin();
            let error = |kind, failure: &Failure| Row {
                part: Part::Errors(kind),
                data: error_output::line(source, failure).into(),
                key: Cow::Borrowed(&*row.key),
            };
            let added = if is_over {
                self.noted.overflow(place.0, place.1);
                failed_count += 1;
                self.add(&error(ErrorKind::Processing, &Failure::too_many_parts()), place, source, now)
            } else {
                failed_count += u64::from(matches!(row.part, Part::Errors(_)));
                self.add(row, place, source, now)
            };
            if let Err(reason) = added {
                failed_count += 1;
                let line = error(ErrorKind::FormatConversion, &Failure::format(reason));
                let added = self.add(&line, place, source, now);
                debug_assert!(added.is_ok(), "a line of error output is a row");
            }
        }
        self.note_read_to(source.sequence.plus(1));
        if self.noted.is_full() {
            self.decide_all();
        }
        failed_count
    }

    fn is_building(&self, part: &Part) -> bool {
        self.parts.get(part).is_some_and(|state| state.building.is_some())
    }

    /// Notes that all records before a number were added, or are gone.
    pub(super) fn note_read_to(&mut self, read_to: SequenceNumber) {
        let was_replaying = self.is_replaying();
        self.read_to = self.read_to.max(read_to);
        if was_replaying {
            let (has_gone, changed) = self.objects.note_read_to(self.read_to);
            self.is_changed |= has_gone;
            self.changed.extend(changed);
            if self.is_clear() {
                self.drop_spare();
            }
        }
    }

    /// Notes that the shard was read to its end. Records behind it that were to be read again are gone.
    pub(super) fn note_end(&mut self) {
        self.is_at_end = true;
        if self.is_replaying() {
            let end = self.read_to;
            self.note_read_to(self.replayed_to);
            (self.read_to, self.replayed_to) = (end, end);
        }
    }

    fn add(
        &mut self,
        Row { part, data, key }: &Row<'_>,
        (sequence, index): (SequenceNumber, u32),
        source: &Source<'_>,
        now: Duration,
    ) -> Result<(), String> {
        let format = format_of(part, &self.rules);
        let is_replaying = self.is_replaying();
        let spare = if part.has_all_records() { &mut self.spare } else { &mut None };
        let memory_bytes = &mut self.memory_bytes;
        let begin = || Building {
            span: Span { first: sequence, first_index: index, last: sequence, oldest: source.arrival },
            rows: format.begin(spare::take(spare, memory_bytes)),
            row_count: 0,
            origins: vec![],
            origin_bytes: 0,
            input_bytes: 0,
            begun: now,
            checksum: 0,
        };
        let is_hashed = self.is_of_function && !matches!(part, Part::Errors(_));
        let hashed = if is_hashed { &data[..] } else { &[] };
        let again = if is_replaying { self.objects.again(part, sequence) } else { None };
        let (building, object_bytes) = match again {
            Some((building, memory_bytes)) => (building, Some(memory_bytes)),
            None => {
                let is_of_records = matches!(part, Part::Records(_));
                let state = match self.parts.get_mut(part) {
                    Some(state) => state,
                    None => self.parts.entry(part.clone()).or_default(),
                };
                if sequence < state.decided {
                    // It is in an object that is there, unless it did not fit: then the error output may still lack it.
                    let judge = is_of_records.then(|| self.judge.get_or_insert_with(|| format.begin(vec![])));
                    return judge.map_or(Ok(()), |judge| judge.check(data));
                }
                (&mut state.building, None)
            }
        };
        let is_new = building.is_none();
        let to = building.get_or_insert_with(begin);
        let before = if is_new { 0 } else { to.memory_bytes() };
        if let Err(reason) = to.rows.push(data) {
            if is_new {
                *building = None;
            }
            return Err(reason);
        }
        to.span.last = sequence;
        to.row_count += 1;
        to.input_bytes += data.len();
        let seed = to.checksum.rotate_left(1) ^ sequence.get() ^ u64::from(index) << 48;
        to.checksum = xxh3_64_with_seed(hashed, seed);
        self.largest_input_bytes = self.largest_input_bytes.max(to.input_bytes);
        if self.keeps_origins {
            let origin = Origin { sequence, index, key: (**key).into() };
            to.origin_bytes += origin.memory_bytes();
            to.origins.push(origin);
        }
        let grown = to.memory_bytes() - before;
        self.memory_bytes += grown;
        object_bytes.into_iter().for_each(|bytes| *bytes += grown);
        Ok(())
    }

    /// Decides the objects that are large enough, after a record was added.
    pub(super) fn decide_full(&mut self, limits: Limits) {
        if std::mem::take(&mut self.largest_input_bytes) >= limits.buffer_bytes {
            self.decide_where(|building| building.input_bytes >= limits.buffer_bytes);
        }
    }

    /// Decides the objects that are large or old enough.
    pub(super) fn decide_due(&mut self, limits: Limits, now: Duration) {
        self.decide_where(|building| {
            building.input_bytes >= limits.buffer_bytes
                || now.saturating_sub(building.begun) >= limits.buffer_interval
        });
    }

    /// Decides all objects that are built.
    pub(super) fn decide_all(&mut self) {
        self.decide_where(|_| true);
    }

    /// Returns when the next object is old enough.
    pub(super) fn next_due(&self, limits: Limits) -> Option<Duration> {
        let begun =
            self.parts.values().filter_map(|state| state.building.as_ref()).map(|building| building.begun);
        begun.min().map(|begun| begun + limits.buffer_interval)
    }

    /// Returns the memory of the largest object that is built.
    pub(super) fn largest(&self) -> usize {
        let built = self.parts.values().filter_map(|state| state.building.as_ref());
        built.map(Building::memory_bytes).max().unwrap_or_default()
    }

    /// Decides the objects that are being built and take at least this much memory.
    pub(super) fn decide_large(&mut self, memory_bytes: usize) {
        self.decide_where(|building| building.memory_bytes() >= memory_bytes);
    }

    /// Decides the objects that are due, as long as the state has room for them.
    fn decide_where(&mut self, is_due: impl Fn(&Building) -> bool) {
        let mut state_bytes = self.state_bytes();
        // When nothing is in delivery, only the oldest object keeps the state from shrinking.
        let mut oldest = if self.objects.is_empty() { self.first_built() } else { None };
        for (part, state) in &mut self.parts {
            let may_decide = |building: &mut Building| match state_bytes < self.state_bytes_max {
                true => is_due(building),
                false => oldest.take_if(|oldest| *oldest == building.span.first).is_some(),
            };
            let Some(building) = state.building.take_if(may_decide) else { continue };
            state.decided = building.span.last.plus(1);
            let decided = Decided {
                name: name::name(&self.rules, part, self.id, &building.span),
                id: random_uuid(),
                part: part.clone(),
                span: building.span,
                checksum: building.checksum,
            };
            state_bytes += decided.state_bytes() + part_bytes(part);
            self.objects.add_decided(decided, building);
            self.is_changed = true;
        }
    }

    /// Returns the first record of the objects that are built.
    fn first_built(&self) -> Option<SequenceNumber> {
        self.parts.values().filter_map(|state| Some(state.building.as_ref()?.span.first)).min()
    }

    /// Returns the arrival time of the oldest record that was read and is not delivered.
    pub(super) fn oldest(&self) -> Option<Timestamp> {
        let built = self.parts.values().filter_map(|state| Some(state.building.as_ref()?.span.oldest));
        built.chain(self.objects.decided().map(|decided| decided.span.oldest)).min()
    }

    /// Returns whether nothing is built or on its way.
    pub(super) fn is_clear(&self) -> bool {
        self.objects.is_empty() && self.parts.values().all(|state| state.building.is_none())
    }

    /// Returns the objects that can be delivered now.
    pub(super) fn take_ready(&mut self) -> Vec<Ready> {
        self.objects.take_ready(&self.rules)
    }
}

fn is_keyed(part: &Part) -> bool {
    matches!(part, Part::Records(keys) if !keys.is_empty())
}

fn format_of<'a>(part: &Part, rules: &'a Rules) -> Cow<'a, Format> {
    match part {
        Part::Records(_) => Cow::Borrowed(&rules.plan.format),
        Part::Errors(_) => Cow::Owned(Format::lines()),
        Part::Backup => Cow::Owned(Format::raw()),
    }
}
