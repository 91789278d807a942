//! Decides which record of a queue is handed out when, without a disk or a clock.
//!
//! The state knows how far each shard is read, and which of the records below are **outstanding**: those that are not done. A record that is
//! read and not listed is done. So the state is as large as what is outstanding, however many records were handled.
//!
//! **Changes.** All changes go through [`State::set`] and [`State::set_cursor`], which note what was there before. The caller then either writes
//! the changes to the journal and calls [`State::commit`], or calls [`State::roll_back`].

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::keys::KeyOrder;
use crate::{SequenceNumber, ShardId, Timestamp};

/// The most changes between two commits that are not asked for one by one, such as records whose time is over.
pub(super) const CHANGES_MAX: usize = 10_000;

/// Where a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) shard: ShardId,
    pub(super) sequence: SequenceNumber,
}

/// How far a shard is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cursor {
    /// The number of the next record to read.
    pub(super) next: SequenceNumber,
    /// When the record before arrived, if there is one. After a power loss, new records get the numbers of the lost ones. This time
    /// distinguishes a new record from the old one.
    pub(super) last_arrival: Option<Timestamp>,
    /// The shard is read to its end.
    pub(super) is_finished: bool,
}

/// Whether a record can be handed out. Times are measured by the time that passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Visibility {
    Visible,
    /// Somebody was handed the record.
    InFlight {
        until: Timestamp,
    },
    Delayed {
        until: Timestamp,
    },
}

/// A record that is read and not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Outstanding {
    pub(super) visibility: Visibility,
    /// It was handed out too often, and is a dead letter.
    pub(super) is_dead: bool,
    /// How often it was handed out since it was put or restored.
    pub(super) receive_count: u32,
    /// The number of the receipt handle that is valid. It is raised whenever the record is handed out, released, buried or restored, so no
    /// handle from before matches.
    pub(super) handle: u32,
    /// When it was first handed out since it was put or restored, by the time of day.
    pub(super) first_received: Option<Timestamp>,
    /// The hash of its partition key, in a queue that is ordered by key.
    pub(super) key: Option<u64>,
}

impl Outstanding {
    /// Returns a record that was just read.
    pub(super) fn new(key: Option<u64>, delayed_until: Option<Timestamp>) -> Self {
        let visibility = delayed_until.map_or(Visibility::Visible, |until| Visibility::Delayed { until });
        Self { visibility, is_dead: false, receive_count: 0, handle: 0, first_received: None, key }
    }

    /// Returns when the record becomes visible, if it is not.
    pub(super) fn until(&self) -> Option<Timestamp> {
        match self.visibility {
            Visibility::Visible => None,
            Visibility::InFlight { until } | Visibility::Delayed { until } => Some(until),
        }
    }

    fn is_in_flight(&self) -> bool {
        matches!(self.visibility, Visibility::InFlight { .. })
    }

    /// Returns the record as it is once it is handed out.
    pub(super) fn handed_out(self, until: Timestamp, time_of_day: Timestamp) -> Self {
        Self {
            visibility: Visibility::InFlight { until },
            receive_count: self.receive_count.saturating_add(1),
            handle: self.handle.wrapping_add(1),
            first_received: self.first_received.or(Some(time_of_day)),
            ..self
        }
    }
}

/// The hash of an id that a record was put with. Two ids with the same hash are not expected.
pub(super) type IdHash = u128;

/// A record that was put with an id, or is being put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Known {
    /// Until then the id is known.
    pub(super) until: Timestamp,
    /// Where the record is and when it arrived, once it is put.
    pub(super) receipt: Option<(Place, Timestamp)>,
}

/// What a record that was handed out too often becomes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    /// `None`: it is handed out until it is done.
    pub(super) receives_max: Option<u32>,
    pub(super) keeps_dead_letters: bool,
}

/// How many records are in which state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counts {
    pub(super) in_flight: usize,
    pub(super) delayed: usize,
    /// Dead letters, in flight or not.
    pub(super) dead: usize,
}

/// What was there before a change.
#[derive(Debug, Clone, Copy)]
pub(super) enum Before {
    Record(Place, Option<Outstanding>),
    Cursor(ShardId, Option<Cursor>),
    Id(IdHash, Option<Known>),
}

/// How far a queue is.
#[derive(Debug)]
pub(super) struct State {
    rules: Rules,
    cursors: BTreeMap<ShardId, Cursor>,
    outstanding: BTreeMap<Place, Outstanding>,
    /// The records that can be handed out.
    visible: BTreeSet<Place>,
    /// The dead letters that can be handed out.
    visible_dead: BTreeSet<Place>,
    /// The records that are not visible, by when they will be.
    hidden: BTreeSet<(Timestamp, Place)>,
    keys: KeyOrder,
    counts: Counts,
    ids: BTreeMap<IdHash, Known>,
    /// The ids by when they are forgotten.
    ids_by_time: BTreeSet<(Timestamp, IdHash)>,
    changes: Vec<Before>,
}

impl State {
    pub(super) fn new(rules: Rules) -> Self {
        Self {
            rules,
            cursors: BTreeMap::new(),
            outstanding: BTreeMap::new(),
            visible: BTreeSet::new(),
            visible_dead: BTreeSet::new(),
            hidden: BTreeSet::new(),
            keys: KeyOrder::default(),
            counts: Counts::default(),
            ids: BTreeMap::new(),
            ids_by_time: BTreeSet::new(),
            changes: vec![],
        }
    }

    /// Returns how often a record is handed out, at most.
    pub(super) fn receives_max(&self) -> Option<u32> {
        self.rules.receives_max
    }

    /// Changes how often a record is handed out. [`bury_spent`](Self::bury_spent) buries those that were handed out that often.
    pub(super) fn set_receives_max(&mut self, receives_max: Option<u32>) {
        self.rules.receives_max = receives_max;
    }

    pub(super) fn cursors(&self) -> &BTreeMap<ShardId, Cursor> {
        &self.cursors
    }

    pub(super) fn outstanding(&self) -> &BTreeMap<Place, Outstanding> {
        &self.outstanding
    }

    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    /// Returns the ids that records were put with.
    pub(super) fn ids(&self) -> &BTreeMap<IdHash, Known> {
        &self.ids
    }

    /// Returns the changes since the last commit, by what was there before.
    pub(super) fn changes(&self) -> &[Before] {
        &self.changes
    }

    /// Keeps the changes.
    pub(super) fn commit(&mut self) {
        self.changes.clear();
    }

    /// Undoes the changes since the last commit.
    pub(super) fn roll_back(&mut self) {
        let mut changes = std::mem::take(&mut self.changes);
        for change in changes.drain(..).rev() {
            match change {
                Before::Record(place, before) => drop(self.put(place, before)),
                Before::Cursor(shard, Some(before)) => drop(self.cursors.insert(shard, before)),
                Before::Cursor(shard, None) => drop(self.cursors.remove(&shard)),
                Before::Id(id, before) => drop(self.put_id(id, before)),
            }
        }
        self.changes = changes;
    }

    /// Sets how far a shard is read, or forgets a shard that is gone.
    pub(super) fn set_cursor(&mut self, shard: ShardId, cursor: Option<Cursor>) {
        let before = match cursor {
            Some(cursor) => self.cursors.insert(shard, cursor),
            None => self.cursors.remove(&shard),
        };
        self.changes.push(Before::Cursor(shard, before));
    }

    /// Sets what is known of a record. `None`: it is done.
    pub(super) fn set(&mut self, place: Place, record: Option<Outstanding>) {
        let before = self.put(place, record);
        self.changes.push(Before::Record(place, before));
    }

    /// Sets what is known of an id. `None`: it is forgotten.
    pub(super) fn set_id(&mut self, id: IdHash, known: Option<Known>) {
        let before = self.put_id(id, known);
        self.changes.push(Before::Id(id, before));
    }

    fn put_id(&mut self, id: IdHash, known: Option<Known>) -> Option<Known> {
        let before = match known {
            Some(known) => self.ids.insert(id, known),
            None => self.ids.remove(&id),
        };
        if let Some(before) = before {
            self.ids_by_time.remove(&(before.until, id));
        }
        if let Some(known) = known {
            self.ids_by_time.insert((known.until, id));
        }
        before
    }

    fn put(&mut self, place: Place, record: Option<Outstanding>) -> Option<Outstanding> {
        let before = match record {
            Some(record) => self.outstanding.insert(place, record),
            None => self.outstanding.remove(&place),
        };
        if let Some(before) = &before {
            self.leave(place, before);
        }
        if let Some(record) = &record {
            self.enter(place, record);
        }
        before
    }

    fn enter(&mut self, place: Place, record: &Outstanding) {
        if let Some(until) = record.until() {
            self.hidden.insert((until, place));
        }
        self.counts.dead += usize::from(record.is_dead);
        match record.visibility {
            Visibility::InFlight { .. } => self.counts.in_flight += usize::from(!record.is_dead),
            Visibility::Delayed { .. } => self.counts.delayed += usize::from(!record.is_dead),
            Visibility::Visible if record.is_dead => drop(self.visible_dead.insert(place)),
            Visibility::Visible if record.key.is_none() => drop(self.visible.insert(place)),
            Visibility::Visible => {}
        }
        if let Some(key) = record.key.filter(|_| !record.is_dead) {
            self.keys.enter(key, place, record.is_in_flight(), record.visibility == Visibility::Visible);
            self.offer_first_of(key);
        }
    }

    fn leave(&mut self, place: Place, record: &Outstanding) {
        if let Some(until) = record.until() {
            self.hidden.remove(&(until, place));
        }
        self.counts.dead -= usize::from(record.is_dead);
        match record.visibility {
            Visibility::InFlight { .. } => self.counts.in_flight -= usize::from(!record.is_dead),
            Visibility::Delayed { .. } => self.counts.delayed -= usize::from(!record.is_dead),
            Visibility::Visible if record.is_dead => drop(self.visible_dead.remove(&place)),
            Visibility::Visible if record.key.is_none() => drop(self.visible.remove(&place)),
            Visibility::Visible => {}
        }
        if let Some(key) = record.key.filter(|_| !record.is_dead) {
            self.keys.leave(key, place, record.is_in_flight());
            self.offer_first_of(key);
        }
    }

    /// Makes the first record of a key the one that can be handed out, unless one of the key is in flight or the first one is delayed.
    fn offer_first_of(&mut self, key: u64) {
        let (withdrawn, offered) = self.keys.offer(key);
        if let Some(withdrawn) = withdrawn {
            self.visible.remove(&withdrawn);
        }
        if let Some(offered) = offered {
            self.visible.insert(offered);
        }
    }

    /// Returns the first record that can be handed out, or the first dead letter that can.
    pub(super) fn first_visible(&self, is_dead: bool) -> Option<Place> {
        if is_dead { self.visible_dead.first() } else { self.visible.first() }.copied()
    }

    /// Returns when the next record becomes visible.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.hidden.first().map(|&(until, _)| until)
    }

    /// Makes the records visible whose time is over, and forgets the ids whose time is. Records that were handed out too often are buried
    /// instead. Does up to [`CHANGES_MAX`] of each, and returns whether that was all.
    pub(super) fn settle(&mut self, now: Timestamp) -> bool {
        for _ in 0..CHANGES_MAX {
            let record = self.hidden.first().copied().filter(|&(until, _)| until <= now);
            let id = self.ids_by_time.first().copied().filter(|&(until, _)| until <= now);
            if record.is_none() && id.is_none() {
                return true;
            }
            if let Some((_, place)) = record {
                self.give_back(place);
            }
            if let Some((_, id)) = id {
                self.set_id(id, None);
            }
        }
        false
    }

    /// Makes a record visible. If it was handed out too often, it is buried instead.
    fn give_back(&mut self, place: Place) {
        let Some(&record) = self.outstanding.get(&place) else { return };
        if self.is_spent(&record) {
            self.bury(place, record);
        } else {
            self.set(place, Some(Outstanding { visibility: Visibility::Visible, ..record }));
        }
    }

    /// Returns whether a record was handed out too often to be handed out again.
    pub(super) fn is_spent(&self, record: &Outstanding) -> bool {
        !record.is_dead && self.rules.receives_max.is_some_and(|max| record.receive_count >= max)
    }

    /// Makes a record a dead letter, or drops it if the queue keeps none.
    pub(super) fn bury(&mut self, place: Place, record: Outstanding) {
        let dead = Outstanding {
            is_dead: true,
            visibility: Visibility::Visible,
            handle: record.handle.wrapping_add(1),
            ..record
        };
        self.set(place, self.rules.keeps_dead_letters.then_some(dead));
    }

    /// Buries visible records that were handed out too often, up to [`CHANGES_MAX`] of them. Returns how many.
    pub(super) fn bury_spent(&mut self) -> usize {
        let is_due = |record: &Outstanding| record.until().is_none() && self.is_spent(record);
        let spent = self.outstanding.iter().filter(|(_, record)| is_due(record));
        let spent: Vec<_> = spent.map(|(&place, &record)| (place, record)).take(CHANGES_MAX).collect();
        spent.iter().for_each(|&(place, record)| self.bury(place, record));
        spent.len()
    }

    /// Returns the record of a receipt handle, if the handle is still valid.
    pub(super) fn held(&self, place: Place, handle: u32) -> Option<Outstanding> {
        self.outstanding.get(&place).copied().filter(|record| record.handle == handle)
    }

    /// Notes that a record is done. Returns whether the handle was valid.
    pub(super) fn acknowledge(&mut self, place: Place, handle: u32) -> bool {
        let is_valid = self.held(place, handle).is_some();
        if is_valid {
            self.set(place, None);
        }
        is_valid
    }

    /// Gives a record back, to be handed out again after a delay. Returns whether the handle was valid.
    pub(super) fn release(&mut self, place: Place, handle: u32, now: Timestamp, delay: Duration) -> bool {
        let Some(record) = self.held(place, handle).filter(Outstanding::is_in_flight) else { return false };
        if self.is_spent(&record) {
            self.bury(place, record);
        } else {
            let visibility = match delay {
                Duration::ZERO => Visibility::Visible,
                delay => Visibility::Delayed { until: now + delay },
            };
            let handle = record.handle.wrapping_add(1);
            self.set(place, Some(Outstanding { visibility, handle, ..record }));
        }
        true
    }

    /// Keeps a record in flight until another time. Returns whether the handle was valid and the record in flight.
    pub(super) fn extend(&mut self, place: Place, handle: u32, until: Timestamp) -> bool {
        let Some(record) = self.held(place, handle).filter(Outstanding::is_in_flight) else { return false };
        self.set(place, Some(Outstanding { visibility: Visibility::InFlight { until }, ..record }));
        true
    }

    /// Puts a dead letter back among the other records, as if it had never been handed out. Returns whether the handle was valid and that of
    /// a dead letter.
    pub(super) fn restore(&mut self, place: Place, handle: u32) -> bool {
        let Some(dead) = self.held(place, handle).filter(|record| record.is_dead) else { return false };
        let handle = dead.handle.wrapping_add(1);
        self.set(place, Some(Outstanding { handle, ..Outstanding::new(dead.key, None) }));
        true
    }

    /// Forgets outstanding records of a shard in a range, up to [`CHANGES_MAX`] of them. Returns how many.
    pub(super) fn forget(&mut self, shard: ShardId, range: std::ops::Range<SequenceNumber>) -> usize {
        let place = |sequence| Place { shard, sequence };
        let in_range = self.outstanding.range(place(range.start)..place(range.end.max(range.start)));
        let gone: Vec<Place> = in_range.map(|(&place, _)| place).take(CHANGES_MAX).collect();
        gone.iter().for_each(|&place| self.set(place, None));
        gone.len()
    }

    /// Forgets all outstanding records that are not dead letters, up to [`CHANGES_MAX`] of them. Returns how many.
    pub(super) fn purge(&mut self) -> usize {
        let alive = self.outstanding.iter().filter(|(_, record)| !record.is_dead);
        let gone: Vec<Place> = alive.map(|(&place, _)| place).take(CHANGES_MAX).collect();
        gone.iter().for_each(|&place| self.set(place, None));
        gone.len()
    }

    /// Returns the first outstanding record of a shard from a place on that is not a dead letter.
    pub(super) fn first_outstanding(&self, shard: ShardId, from: SequenceNumber) -> Option<SequenceNumber> {
        let place = |sequence| Place { shard, sequence };
        let mut records = self.outstanding.range(place(from)..=place(SequenceNumber::new(u64::MAX)));
        records.find(|(_, record)| !record.is_dead).map(|(place, _)| place.sequence)
    }

    /// Returns the first record of a shard that is not done.
    pub(super) fn first_not_done(&self, shard: ShardId) -> Option<SequenceNumber> {
        let cursor = self.cursors.get(&shard)?;
        let place = |sequence| Place { shard, sequence };
        let mut below = self.outstanding.range(place(SequenceNumber::ZERO)..place(cursor.next));
        Some(below.next().map_or(cursor.next, |(first, _)| first.sequence))
    }
}
