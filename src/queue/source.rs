//! Reads the records of a queue from the log: new ones from all shards, parents before their children, and outstanding ones again.

use std::collections::VecDeque;

use super::state::{Cursor, Place, State};
use crate::{
    Error, OwnedRecord, Position, Result, SequenceNumber, ShardDescription, ShardFilter, ShardId,
    ShardIterator, StreamReader, Timestamp, extend,
};

/// How much is read ahead of a shard. This stays in the log, and the queue only refers to it.
const RECORDS_AHEAD: usize = 256;
const BYTES_AHEAD: usize = 256 << 10;

/// The records of a stream, as a queue reads them.
#[derive(Debug)]
pub(super) struct Source {
    stream: StreamReader,
    readings: Vec<Reading>,
    /// The index of the shard whose turn it is.
    turn: usize,
    /// The readings have to be rebuilt from the cursors: initially, after the end of a shard, and after changes were rolled back.
    is_stale: bool,
    /// Why a shard cannot be read. The others come first.
    unreadable: Option<Error>,
    /// The iterator that read the last outstanding record again.
    again: Option<ShardIterator>,
    /// How many records retention dropped before they were done.
    pub(super) expired_count: u64,
    /// How many records damage took before they were done.
    pub(super) lost_count: u64,
}

/// A shard that is read.
#[derive(Debug)]
struct Reading {
    iterator: ShardIterator,
    /// Read, and not taken.
    ahead: VecDeque<OwnedRecord>,
    cursor: Cursor,
    /// The cursor has moved since it was last set in the state.
    has_moved: bool,
}

enum Read {
    Records,
    Nothing,
    End,
}

impl Source {
    pub(super) fn new(stream: StreamReader) -> Self {
        Self {
            stream,
            readings: vec![],
            turn: 0,
            is_stale: true,
            unreadable: None,
            again: None,
            expired_count: 0,
            lost_count: 0,
        }
    }

    /// Begins again from the cursors of the state. What was taken since they were set comes again.
    pub(super) fn reset(&mut self) {
        self.readings.clear();
        self.again = None;
        self.is_stale = true;
    }

    /// Takes the next record that was never taken. [`set_cursors`](Self::set_cursors) sets in the state how far that is.
    pub(super) fn next(&mut self, state: &mut State) -> Result<Option<(Place, OwnedRecord)>> {
        let mut quiet_count = 0;
        loop {
            if self.is_stale {
                self.make_readings(state);
                quiet_count = 0;
            }
            if quiet_count == self.readings.len() {
                let unreadable = self.unreadable.take();
                // Tried again by the next call.
                self.is_stale = unreadable.is_some();
                return unreadable.map_or(Ok(None), Err);
            }
            self.turn %= self.readings.len();
            let reading = &mut self.readings[self.turn];
            if let Some(record) = reading.ahead.pop_front() {
                let place = Place { shard: reading.iterator.shard(), sequence: record.sequence };
                let next = record.sequence.plus(1);
                reading.cursor = Cursor { next, last_arrival: Some(record.timestamp), is_finished: false };
                reading.has_moved = true;
                // The shards take turns.
                self.turn += usize::from(reading.ahead.is_empty());
                return Ok(Some((place, record)));
            }
            match self.read_ahead(state) {
                Ok(Read::Records) => {}
                Ok(Read::Nothing) => {
                    self.turn += 1;
                    quiet_count += 1;
                }
                Ok(Read::End) => self.finish(state),
                Err(error) => {
                    // The next call reads another shard first.
                    self.turn += 1;
                    return Err(error);
                }
            }
        }
    }

    fn read_ahead(&mut self, state: &mut State) -> Result<Read> {
        let reading = &mut self.readings[self.turn];
        if !extend::is_readable(&reading.iterator) {
            return Ok(Read::Nothing);
        }
        loop {
            match reading.iterator.next_batch_within(RECORDS_AHEAD, BYTES_AHEAD) {
                Ok(batch) if batch.is_empty() => {
                    return Ok(if batch.child_shards().is_some() { Read::End } else { Read::Nothing });
                }
                Ok(batch) => {
                    reading.ahead.extend(batch.iter().map(|record| record.into_owned()));
                    return Ok(Read::Records);
                }
                Err(Error::Trimmed { .. }) => {
                    self.expired_count += reading.iterator.skip_to_horizon();
                    reading.skip_to(reading.iterator.next_sequence());
                }
                Err(Error::Lost { .. }) => {
                    self.lost_count += reading.iterator.skip_lost()?;
                    reading.skip_to(reading.iterator.next_sequence());
                }
                Err(Error::Cut { .. }) => {
                    // Another process has opened the stream again. The cursor says whether the records are still there.
                    self.set_cursors(state);
                    self.reset();
                    return Ok(Read::Nothing);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Ends the shard whose turn it is. Its children come next.
    fn finish(&mut self, state: &mut State) {
        let reading = self.readings.remove(self.turn);
        state.set_cursor(reading.iterator.shard(), Some(Cursor { is_finished: true, ..reading.cursor }));
        self.is_stale = true;
    }

    /// Sets in the state how far the shards are read.
    pub(super) fn set_cursors(&mut self, state: &mut State) {
        for reading in self.readings.iter_mut().filter(|reading| reading.has_moved) {
            state.set_cursor(reading.iterator.shard(), Some(reading.cursor));
            reading.has_moved = false;
        }
    }

    /// Returns the iterators of the shards that are read, to wait for them.
    pub(super) fn iterators(&self) -> impl Iterator<Item = &ShardIterator> {
        self.readings.iter().map(|reading| &reading.iterator)
    }

    /// Finds the shards to read: those that are not finished, and whose parents are.
    fn make_readings(&mut self, state: &mut State) {
        self.set_cursors(state);
        self.unreadable = None;
        let shards = self.stream.shards();
        let is_there = |id: ShardId| shards.iter().any(|shard| shard.id == id);
        let cursors = state.cursors().iter().map(|(&id, &cursor)| (id, cursor));
        let gone: Vec<(ShardId, Cursor)> = cursors.filter(|&(id, _)| !is_there(id)).collect();
        for (id, cursor) in gone {
            if !cursor.is_finished {
                // Its end is no longer known. It is below the beginning of its children.
                let child = shards.iter().find(|shard| shard.parents().any(|parent| parent == id));
                self.expired_count +=
                    child.map_or(0, |child| child.first_sequence.get().saturating_sub(cursor.next.get()));
            }
            state.set_cursor(id, None);
        }
        let is_done =
            |id: ShardId| !is_there(id) || state.cursors().get(&id).is_some_and(|cursor| cursor.is_finished);
        let to_read: Vec<_> =
            shards.iter().filter(|shard| !is_done(shard.id) && shard.parents().all(is_done)).collect();
        let mut known = std::mem::take(&mut self.readings);
        for shard in to_read {
            match known.iter().position(|reading| reading.iterator.shard() == shard.id) {
                Some(at) => self.readings.push(known.swap_remove(at)),
                None => match self.begin(shard, state) {
                    Ok(reading) => self.readings.push(reading),
                    // It has expired since it was listed: the next call finds it gone.
                    Err(Error::ShardNotFound(_)) => {}
                    Err(error) => self.unreadable = Some(error),
                },
            }
        }
        self.is_stale = false;
    }

    /// Begins to read a shard at its cursor.
    fn begin(&mut self, shard: &ShardDescription, state: &mut State) -> Result<Reading> {
        let id = shard.id;
        let beginning = Cursor { next: shard.first_sequence, last_arrival: None, is_finished: false };
        let cursor = state.cursors().get(&id).copied().unwrap_or(beginning);
        let mut iterator = self.stream.iterator(id, Position::TrimHorizon)?;
        let mut reading_from = cursor.next;
        if iterator.next_sequence() > cursor.next {
            self.expired_count += iterator.next_sequence().get() - cursor.next.get();
            reading_from = iterator.next_sequence();
        } else if let Some(noted) = cursor.last_arrival.filter(|_| iterator.next_sequence() < cursor.next)
            && arrival_before(&self.stream, id, cursor.next) != Some(noted)
        {
            // A power loss took records that were read, and new records may have their numbers. If the clock was set back since, they may
            // seem to be older than the one that was read. Then all come again.
            let is_in_future = noted > self.stream.now();
            let position = if is_in_future { Position::TrimHorizon } else { Position::AtTimestamp(noted) };
            reading_from = self.stream.iterator(id, position)?.next_sequence().min(cursor.next);
            while state.forget(id, reading_from..SequenceNumber::new(u64::MAX)) > 0 {}
        }
        iterator.seek(Position::At(reading_from))?;
        let mut reading = Reading {
            iterator: extend::unlimited(iterator),
            ahead: VecDeque::new(),
            cursor,
            has_moved: false,
        };
        if reading_from != cursor.next {
            reading.skip_to(reading_from);
            reading.cursor.last_arrival = arrival_before(&self.stream, id, reading_from);
        }
        Ok(reading)
    }

    /// Reads an outstanding record. Returns `None` if retention has dropped it, or damage has taken it.
    pub(super) fn record(&mut self, place: Place, state: &mut State) -> Result<Option<OwnedRecord>> {
        let mut record = self.record_again(place);
        if matches!(record, Err(Error::Cut { .. })) {
            // Another process has opened the stream again. What is gone with it is forgotten.
            self.set_cursors(state);
            self.reset();
            self.make_readings(state);
            if !state.outstanding().contains_key(&place) {
                return Ok(None);
            }
            record = self.record_again(place);
        }
        match record {
            Err(Error::Trimmed { .. } | Error::ShardNotFound(_)) => {
                self.expired_count += 1;
                Ok(None)
            }
            Err(Error::Lost { .. }) => {
                self.lost_count += 1;
                Ok(None)
            }
            record => record,
        }
    }

    fn record_again(&mut self, place: Place) -> Result<Option<OwnedRecord>> {
        let at = Position::At(place.sequence);
        let mut iterator = match self.again.take().filter(|again| again.shard() == place.shard) {
            Some(mut again) => {
                if again.next_sequence() != place.sequence {
                    again.seek(at)?;
                }
                again
            }
            None => extend::unlimited(self.stream.iterator(place.shard, at)?),
        };
        let batch = iterator.next_batch(1)?;
        self.again = Some(iterator);
        Ok(batch
            .iter()
            .next()
            .filter(|record| record.sequence() == place.sequence)
            .map(|record| record.into_owned()))
    }

    /// Forgets what retention has dropped.
    pub(super) fn expire(&mut self, state: &mut State) -> Result<()> {
        for shard in self.stream.shards() {
            let horizon = match self.stream.iterator(shard.id, Position::TrimHorizon) {
                Ok(iterator) => iterator.next_sequence(),
                // It has expired since it was listed.
                Err(Error::ShardNotFound(_)) => continue,
                Err(error) => return Err(error),
            };
            self.expired_count += state.forget(shard.id, SequenceNumber::ZERO..horizon) as u64;
            let is_behind =
                |reading: &Reading| reading.ahead.front().is_some_and(|next| next.sequence < horizon);
            if self.readings.iter().any(|reading| reading.iterator.shard() == shard.id && is_behind(reading))
            {
                self.set_cursors(state);
                self.reset();
            }
        }
        let shards = self.stream.shards();
        let is_gone = |id: ShardId| shards.iter().all(|shard| shard.id != id);
        let mut gone: Vec<ShardId> =
            state.outstanding().keys().map(|place| place.shard).filter(|&id| is_gone(id)).collect();
        gone.dedup();
        for shard in gone {
            self.expired_count +=
                state.forget(shard, SequenceNumber::ZERO..SequenceNumber::new(u64::MAX)) as u64;
            self.is_stale = true;
        }
        Ok(())
    }
}

impl Reading {
    fn skip_to(&mut self, next: SequenceNumber) {
        self.cursor = Cursor { next, last_arrival: None, is_finished: false };
        self.has_moved = true;
    }
}

/// Returns when the record before a place arrived, if that record still exists.
fn arrival_before(stream: &StreamReader, shard: ShardId, next: SequenceNumber) -> Option<Timestamp> {
    let previous = next.previous()?;
    let iterator = stream.iterator(shard, Position::At(previous)).ok()?;
    let batch = extend::unlimited(iterator).next_batch(1).ok()?;
    batch.last_timestamp().filter(|_| batch.last_sequence() == Some(previous))
}

/// Sets the cursors with which a queue reads from a position on. Shards that ended before it are finished, and shards that are created after it
/// have none.
pub(super) fn begin_at(stream: &StreamReader, position: Position, state: &mut State) -> Result<()> {
    let begun = stream.list_shards(ShardFilter::try_from(position)?);
    let mut descendants = vec![];
    // Listed second, and in the order of creation, so each shard comes after its parents.
    for shard in stream.shards() {
        let is_begun = |id: ShardId| begun.iter().any(|begun| begun.id == id);
        let cursor = if is_begun(shard.id) {
            let next = stream.iterator(shard.id, position)?.next_sequence();
            Cursor { next, last_arrival: arrival_before(stream, shard.id, next), is_finished: false }
        } else if shard.parents().any(|parent| is_begun(parent) || descendants.contains(&parent)) {
            descendants.push(shard.id);
            continue;
        } else {
            let next = shard.closing_sequence.unwrap_or(shard.first_sequence);
            Cursor { next, last_arrival: None, is_finished: true }
        };
        state.set_cursor(shard.id, Some(cursor));
    }
    Ok(())
}
