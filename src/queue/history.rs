//! The state of a queue as its journal records it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::entry::{ENTRY_BYTES_MAX, Entries, Entry, Moment};
use super::put::ID_KNOWN_FOR;
use super::state::{Before, Cursor, IdHash, Known, Outstanding, Place, State, Visibility};

use crate::{Journal, PutRecord, Record, Result, SequenceNumber, ShardId, Timestamp};

/// The key of all records of the journal.
const KEY: &[u8] = b"q";
/// A record of the journal is not longer than this.
const RECORD_BYTES_MAX: usize = 128 << 10;

/// The content of a journal, with times as times of day.
#[derive(Debug, Default)]
pub(super) struct History {
    /// When the queue was created, and whether it is ordered by key.
    pub(super) begun: Option<(Timestamp, bool)>,
    /// Damage took records of the journal. Later ones do not count: a record that the lost ones declared outstanding would be taken for one that
    /// is done.
    pub(super) is_cut: bool,
    cursors: BTreeMap<ShardId, Cursor>,
    outstanding: BTreeMap<Place, Outstanding>,
    ids: BTreeMap<IdHash, Known>,
    next: Option<SequenceNumber>,
}

impl History {
    /// Adds a record of the journal. Returns false if it is not one.
    pub(super) fn read(&mut self, record: &Record<'_>) -> bool {
        let sequence = record.sequence();
        self.is_cut |= self.next.is_some_and(|next| next != sequence);
        self.next = Some(sequence.plus(1));
        if record.partition_key() != KEY {
            return false;
        }
        for entry in Entries::new(record.data()) {
            let Some(entry) = entry else { return false };
            if !self.is_cut {
                self.apply(entry);
            }
        }
        // The oldest record says how the queue was created.
        self.is_cut |= self.begun.is_none();
        true
    }

    pub(super) fn apply(&mut self, entry: Entry) {
        match entry {
            Entry::Begun { created, is_ordered } => self.begun = Some((created, is_ordered)),
            Entry::Cursor(shard, Some(cursor)) => drop(self.cursors.insert(shard, cursor)),
            Entry::Cursor(shard, None) => drop(self.cursors.remove(&shard)),
            Entry::Record(place, Some(record)) => drop(self.outstanding.insert(place, record)),
            Entry::Record(place, None) => drop(self.outstanding.remove(&place)),
            Entry::Id(id, Some(known)) => drop(self.ids.insert(id, known)),
            Entry::Id(id, None) => drop(self.ids.remove(&id)),
        }
    }

    /// Moves everything to the state of an open queue. Returns whether a time was later than it can be, because the clock was set back.
    pub(super) fn load(self, moment: Moment, delay_max: Duration, state: &mut State) -> bool {
        if self.begun.is_none() {
            return false;
        }
        for (shard, cursor) in self.cursors {
            state.set_cursor(shard, Some(cursor));
        }
        let mut is_late = false;
        let mut elapsed = |until: Timestamp| {
            is_late |= until.since(moment.time_of_day) > delay_max;
            moment.to_elapsed(until, delay_max)
        };
        for (place, record) in self.outstanding {
            let visibility = match record.visibility {
                Visibility::Visible => Visibility::Visible,
                Visibility::InFlight { until } => Visibility::InFlight { until: elapsed(until) },
                Visibility::Delayed { until } => Visibility::Delayed { until: elapsed(until) },
            };
            state.set(place, Some(Outstanding { visibility, ..record }));
        }
        for (id, known) in self.ids {
            is_late |= known.until.since(moment.time_of_day) > ID_KNOWN_FOR;
            let until = moment.to_elapsed(known.until, ID_KNOWN_FOR);
            state.set_id(id, Some(Known { until, ..known }));
        }
        is_late
    }
}

/// Writes the changes of a state to its journal, as one batch. `bytes` is room to write them in.
pub(super) fn write_changes(
    state: &State,
    moment: Moment,
    bytes: &mut Vec<u8>,
    journal: &Journal,
) -> Result<()> {
    bytes.clear();
    let mut ends = vec![];
    let changes = state.changes();
    for (at, change) in changes.iter().enumerate() {
        if ends.last().map_or(0, |&end| end) + RECORD_BYTES_MAX < bytes.len() + ENTRY_BYTES_MAX {
            ends.push(bytes.len());
        }
        if !is_superseded(change, changes.get(at + 1)) {
            entry_of(state, change).encode(moment, bytes);
        }
    }
    if ends.is_empty() {
        return journal.put(KEY, &*bytes);
    }
    ends.push(bytes.len());
    let begins = std::iter::once(0).chain(ends.iter().copied());
    let records: Vec<_> =
        begins.zip(&ends).map(|(begin, &end)| PutRecord::new(KEY, &bytes[begin..end])).collect();
    journal.put_batch(&records).map(drop)
}

/// Returns whether the next change is to the same record, and supersedes this one.
fn is_superseded(change: &Before, next: Option<&Before>) -> bool {
    match (change, next) {
        (Before::Record(place, _), Some(Before::Record(next, _))) => place == next,
        _ => false,
    }
}

/// Returns the current value of what was changed.
pub(super) fn entry_of(state: &State, change: &Before) -> Entry {
    match *change {
        Before::Record(place, _) => Entry::Record(place, state.outstanding().get(&place).copied()),
        Before::Cursor(shard, _) => Entry::Cursor(shard, state.cursors().get(&shard).copied()),
        Before::Id(id, _) => Entry::Id(id, state.ids().get(&id).copied()),
    }
}

/// Returns records of the journal that contain the whole state.
pub(super) fn restated(
    state: &State,
    created: Timestamp,
    is_ordered: bool,
    moment: Moment,
) -> impl Iterator<Item = (&'static [u8], Vec<u8>)> {
    let begun = std::iter::once(Entry::Begun { created, is_ordered });
    let cursors = state.cursors().iter().map(|(&shard, &cursor)| Entry::Cursor(shard, Some(cursor)));
    let outstanding = state.outstanding().iter().map(|(&place, &record)| Entry::Record(place, Some(record)));
    let ids = state.ids().iter().map(|(&id, &known)| Entry::Id(id, Some(known)));
    let mut entries = begun.chain(cursors).chain(outstanding).chain(ids).peekable();
    std::iter::from_fn(move || {
        entries.peek()?;
        let mut bytes = vec![];
        while bytes.len() + ENTRY_BYTES_MAX <= RECORD_BYTES_MAX
            && let Some(entry) = entries.next()
        {
            entry.encode(moment, &mut bytes);
        }
        Some((KEY, bytes))
    })
}
