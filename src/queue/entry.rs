//! The entries of a queue's journal: what they say, and their bytes.
//!
//! An entry sets one thing to its current value, so entries may be repeated, and the last one counts. A record of the journal holds any number
//! of entries. Numbers are written in groups of seven bits, lowest first, with the highest bit set in all but the last group.

use std::time::Duration;

use super::state::{Cursor, IdHash, Known, Outstanding, Place, Visibility};
use crate::{SequenceNumber, ShardId, StreamReader, Timestamp};

/// What an entry sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    /// The queue was created, and when.
    Begun { created: Timestamp, is_ordered: bool },
    /// A shard is read up to a place, or is gone.
    Cursor(ShardId, Option<Cursor>),
    /// A record is outstanding, or done.
    Record(Place, Option<Outstanding>),
    /// An id was put, or is being put, or is forgotten.
    Id(IdHash, Option<Known>),
}

const BEGUN: u64 = 1;
const CURSOR: u64 = 2;
const SHARD_GONE: u64 = 3;
const RECORD: u64 = 4;
const RECORD_DONE: u64 = 5;
const ID: u64 = 6;
const ID_FORGOTTEN: u64 = 7;

const IS_ORDERED: u64 = 1;

const IS_FINISHED: u64 = 1;
const HAS_LAST_ARRIVAL: u64 = 2;

const IS_IN_FLIGHT: u64 = 1;
const IS_DELAYED: u64 = 2;
const IS_DEAD: u64 = 4;
const HAS_FIRST_RECEIVED: u64 = 8;
const HAS_KEY: u64 = 16;

const HAS_RECEIPT: u64 = 1;

/// What one entry takes at most. Usually it is half of that.
pub(super) const ENTRY_BYTES_MAX: usize = 64;

/// The same moment by both clocks: the elapsed time, which the state uses, and the time of day, which the journal uses because it continues after
/// a restart.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub(super) elapsed: Timestamp,
    pub(super) time_of_day: Timestamp,
}

impl Moment {
    /// Returns the present moment by the clock of a stream.
    pub(super) fn of(stream: &StreamReader) -> Self {
        let clock = stream.clock();
        Self { elapsed: Timestamp::default() + clock.elapsed(), time_of_day: clock.now() }
    }

    fn to_time_of_day(self, elapsed: Timestamp) -> Timestamp {
        self.time_of_day + elapsed.since(self.elapsed)
    }

    /// Returns when a time of day will have come. A clock that was set back meanwhile makes nobody wait for longer than `delay_max`.
    pub(super) fn to_elapsed(self, time_of_day: Timestamp, delay_max: Duration) -> Timestamp {
        self.elapsed + time_of_day.since(self.time_of_day).min(delay_max)
    }
}

fn flag(is_set: bool, flag: u64) -> u64 {
    if is_set { flag } else { 0 }
}

fn write(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn write_id(bytes: &mut Vec<u8>, kind: u64, id: IdHash) {
    write(bytes, kind);
    write(bytes, (id >> 64) as u64);
    write(bytes, id as u64);
}

fn write_place(bytes: &mut Vec<u8>, kind: u64, place: Place) {
    write(bytes, kind);
    write(bytes, place.shard.get().into());
    write(bytes, place.sequence.get());
}

impl Entry {
    /// Appends the entry. Times of the state are written as times of day.
    pub(super) fn encode(&self, moment: Moment, bytes: &mut Vec<u8>) {
        match *self {
            Self::Begun { created, is_ordered } => {
                write(bytes, BEGUN);
                write(bytes, created.as_micros());
                write(bytes, flag(is_ordered, IS_ORDERED));
            }
            Self::Cursor(shard, None) => {
                write(bytes, SHARD_GONE);
                write(bytes, shard.get().into());
            }
            Self::Cursor(shard, Some(cursor)) => {
                write_place(bytes, CURSOR, Place { shard, sequence: cursor.next });
                let arrival = cursor.last_arrival;
                write(
                    bytes,
                    flag(cursor.is_finished, IS_FINISHED) | flag(arrival.is_some(), HAS_LAST_ARRIVAL),
                );
                arrival.into_iter().for_each(|arrival| write(bytes, arrival.as_micros()));
            }
            Self::Record(place, None) => write_place(bytes, RECORD_DONE, place),
            Self::Record(place, Some(record)) => {
                write_place(bytes, RECORD, place);
                let flags = match record.visibility {
                    Visibility::Visible => 0,
                    Visibility::InFlight { .. } => IS_IN_FLIGHT,
                    Visibility::Delayed { .. } => IS_DELAYED,
                };
                let flags = flags
                    | flag(record.is_dead, IS_DEAD)
                    | flag(record.first_received.is_some(), HAS_FIRST_RECEIVED)
                    | flag(record.key.is_some(), HAS_KEY);
                write(bytes, flags);
                write(bytes, record.receive_count.into());
                write(bytes, record.handle.into());
                let until = record.until().map(|until| moment.to_time_of_day(until).as_micros());
                let first_received = record.first_received.map(Timestamp::as_micros);
                let optional = [until, first_received, record.key];
                optional.into_iter().flatten().for_each(|number| write(bytes, number));
            }
            Self::Id(id, None) => write_id(bytes, ID_FORGOTTEN, id),
            Self::Id(id, Some(known)) => {
                write_id(bytes, ID, id);
                write(bytes, moment.to_time_of_day(known.until).as_micros());
                write(bytes, flag(known.receipt.is_some(), HAS_RECEIPT));
                if let Some((place, arrival)) = known.receipt {
                    write(bytes, place.shard.get().into());
                    write(bytes, place.sequence.get());
                    write(bytes, arrival.as_micros());
                }
            }
        }
    }
}

/// The entries of a record of the journal. Ends with `None` in place of an entry if the bytes are no entry.
pub(super) struct Entries<'a> {
    bytes: &'a [u8],
}

impl<'a> Entries<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.bytes.split_first()?;
            self.bytes = rest;
            let bits = u64::from(byte & 0x7f);
            // The tenth group has a single bit.
            if shift == 63 && bits > 1 {
                return None;
            }
            number |= bits << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn number_if(&mut self, is_there: bool) -> Option<Option<u64>> {
        if is_there { self.number().map(Some) } else { Some(None) }
    }

    fn short(&mut self) -> Option<u32> {
        self.number()?.try_into().ok()
    }

    fn place(&mut self) -> Option<Place> {
        Some(Place { shard: ShardId::new(self.short()?), sequence: SequenceNumber::new(self.number()?) })
    }

    fn flags(&mut self, known: u64) -> Option<u64> {
        self.number().filter(|flags| flags & !known == 0)
    }

    /// Times are returned as they are written, as times of day.
    fn entry(&mut self) -> Option<Entry> {
        Some(match self.number()? {
            BEGUN => {
                let created = Timestamp::from_micros(self.number()?);
                Entry::Begun { created, is_ordered: self.flags(IS_ORDERED)? != 0 }
            }
            SHARD_GONE => Entry::Cursor(ShardId::new(self.short()?), None),
            CURSOR => {
                let Place { shard, sequence: next } = self.place()?;
                let flags = self.flags(IS_FINISHED | HAS_LAST_ARRIVAL)?;
                let last_arrival = self.number_if(flags & HAS_LAST_ARRIVAL != 0)?.map(Timestamp::from_micros);
                Entry::Cursor(
                    shard,
                    Some(Cursor { next, last_arrival, is_finished: flags & IS_FINISHED != 0 }),
                )
            }
            RECORD_DONE => Entry::Record(self.place()?, None),
            RECORD => Entry::Record(self.place()?, Some(self.record()?)),
            ID_FORGOTTEN => Entry::Id(self.id()?, None),
            ID => {
                let (id, until) = (self.id()?, Timestamp::from_micros(self.number()?));
                let receipt = match self.flags(HAS_RECEIPT)? {
                    0 => None,
                    _ => Some((self.place()?, Timestamp::from_micros(self.number()?))),
                };
                Entry::Id(id, Some(Known { until, receipt }))
            }
            _ => return None,
        })
    }

    fn id(&mut self) -> Option<IdHash> {
        Some(IdHash::from(self.number()?) << 64 | IdHash::from(self.number()?))
    }

    fn record(&mut self) -> Option<Outstanding> {
        let flags = self.flags(IS_IN_FLIGHT | IS_DELAYED | IS_DEAD | HAS_FIRST_RECEIVED | HAS_KEY)?;
        let (receive_count, handle) = (self.short()?, self.short()?);
        let until = self.number_if(flags & (IS_IN_FLIGHT | IS_DELAYED) != 0)?.map(Timestamp::from_micros);
        let visibility = match (flags & IS_IN_FLIGHT != 0, flags & IS_DELAYED != 0, until) {
            (false, false, None) => Visibility::Visible,
            (true, false, Some(until)) => Visibility::InFlight { until },
            (false, true, Some(until)) => Visibility::Delayed { until },
            _ => return None,
        };
        let first_received = self.number_if(flags & HAS_FIRST_RECEIVED != 0)?.map(Timestamp::from_micros);
        let key = self.number_if(flags & HAS_KEY != 0)?;
        Some(Outstanding {
            visibility,
            is_dead: flags & IS_DEAD != 0,
            receive_count,
            handle,
            first_received,
            key,
        })
    }
}

impl Iterator for Entries<'_> {
    type Item = Option<Entry>;

    fn next(&mut self) -> Option<Option<Entry>> {
        if self.bytes.is_empty() {
            return None;
        }
        let entry = self.entry();
        if entry.is_none() {
            self.bytes = &[];
        }
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const MOMENT: Moment = Moment {
        elapsed: Timestamp::from_millis(5_000),
        time_of_day: Timestamp::from_millis(1_700_000_000_000),
    };

    fn place() -> impl Strategy<Value = Place> {
        (any::<u32>(), any::<u64>())
            .prop_map(|(shard, sequence)| Place { shard: shard.into(), sequence: sequence.into() })
    }

    fn time() -> impl Strategy<Value = Timestamp> {
        any::<u64>().prop_map(Timestamp::from_micros)
    }

    fn outstanding() -> impl Strategy<Value = Outstanding> {
        // A time that the state counts, and that is not over.
        let until = (5_000u64..100_000_000).prop_map(Timestamp::from_millis);
        let visibility = prop_oneof![
            Just(Visibility::Visible),
            until.clone().prop_map(|until| Visibility::InFlight { until }),
            until.prop_map(|until| Visibility::Delayed { until }),
        ];
        let counts = (any::<u32>(), any::<u32>());
        (visibility, any::<bool>(), counts, prop::option::of(time()), prop::option::of(any::<u64>()))
            .prop_map(|(visibility, is_dead, (receive_count, handle), first_received, key)| Outstanding {
                visibility,
                is_dead,
                receive_count,
                handle,
                first_received,
                key,
            })
    }

    fn cursor() -> impl Strategy<Value = Cursor> {
        (any::<u64>(), prop::option::of(time()), any::<bool>()).prop_map(
            |(next, last_arrival, is_finished)| Cursor { next: next.into(), last_arrival, is_finished },
        )
    }

    fn known() -> impl Strategy<Value = Known> {
        let until = (5_000u64..100_000_000).prop_map(Timestamp::from_millis);
        (until, prop::option::of((place(), time()))).prop_map(|(until, receipt)| Known { until, receipt })
    }

    fn entry() -> impl Strategy<Value = Entry> {
        prop_oneof![
            (time(), any::<bool>()).prop_map(|(created, is_ordered)| Entry::Begun { created, is_ordered }),
            (any::<u32>(), prop::option::of(cursor()))
                .prop_map(|(shard, cursor)| Entry::Cursor(shard.into(), cursor)),
            (place(), prop::option::of(outstanding()))
                .prop_map(|(place, record)| Entry::Record(place, record)),
            (any::<u128>(), prop::option::of(known())).prop_map(|(id, known)| Entry::Id(id, known)),
        ]
    }

    /// Returns the entry with its times counted by the time that passes.
    fn loaded(entry: Entry) -> Entry {
        let elapsed = |until| MOMENT.to_elapsed(until, Duration::MAX);
        match entry {
            Entry::Record(place, Some(record)) => {
                let visibility = match record.visibility {
                    Visibility::Visible => Visibility::Visible,
                    Visibility::InFlight { until } => Visibility::InFlight { until: elapsed(until) },
                    Visibility::Delayed { until } => Visibility::Delayed { until: elapsed(until) },
                };
                Entry::Record(place, Some(Outstanding { visibility, ..record }))
            }
            Entry::Id(id, Some(known)) => Entry::Id(id, Some(Known { until: elapsed(known.until), ..known })),
            entry => entry,
        }
    }

    proptest! {
        #[test]
        fn l1_entries_come_back_as_they_were(entries in vec(entry(), 0..20)) {
            let mut bytes = vec![];
            for entry in &entries {
                let before = bytes.len();
                entry.encode(MOMENT, &mut bytes);
                prop_assert!(bytes.len() - before <= ENTRY_BYTES_MAX);
            }
            let read: Option<Vec<Entry>> = Entries::new(&bytes).collect();
            prop_assert_eq!(read.unwrap().into_iter().map(loaded).collect::<Vec<_>>(), entries);
        }

        #[test]
        fn l6_any_bytes_are_entries_or_refused(bytes in vec(any::<u8>(), 0..60)) {
            let count = Entries::new(&bytes).count();
            prop_assert!(count <= bytes.len());
        }
    }

    #[test]
    fn a_clock_that_was_set_back_makes_nobody_wait_for_longer_than_the_bound() {
        let hour = Duration::from_secs(3_600);
        let until = MOMENT.time_of_day + 100 * hour;
        assert_eq!(MOMENT.to_elapsed(until, 12 * hour), MOMENT.elapsed + 12 * hour);
        assert_eq!(MOMENT.to_elapsed(MOMENT.time_of_day - hour, 12 * hour), MOMENT.elapsed, "over already");
    }
}
