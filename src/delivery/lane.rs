//! The records of a shard on their way to the function: gathered until a call is due, with one call at a time to keep their order.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::steps::Call;
use crate::{Batch, SequenceNumber};

/// Records that wait for a call, and the call that runs.
#[derive(Debug)]
pub(super) struct Lane {
    batches: VecDeque<Batch>,
    /// The first record that is in no call yet.
    first: SequenceNumber,
    /// The record after the last one that was read.
    pub(super) next: SequenceNumber,
    /// The bytes of the records that are in no call yet, and since when the first of them waits.
    bytes: usize,
    since: Duration,
    pub(super) running: Option<Running>,
}

/// A call that runs, or waits to be repeated.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) call: Arc<Call>,
    pub(super) attempts: u32,
    pub(super) stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// A thread has the call, under this number.
    Called(u64),
    /// It has failed, and is due again at this time.
    Failed(Duration),
}

/// When a call is due.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gathering {
    pub(super) bytes: usize,
    pub(super) interval: Duration,
}

impl Lane {
    /// Begins at a record.
    pub(super) fn new(first: SequenceNumber) -> Self {
        Self { batches: VecDeque::new(), first, next: first, bytes: 0, since: Duration::ZERO, running: None }
    }

    /// Adds records that follow those before.
    pub(super) fn add(&mut self, batch: Batch, now: Duration) {
        let Some(last) = batch.last_sequence() else { return };
        if self.bytes == 0 {
            self.since = now;
        }
        self.bytes += batch.iter().map(|record| bytes_of(&record)).sum::<usize>();
        if self.batches.is_empty()
            && let Some(first) = batch.first_sequence()
        {
            self.first = first;
        }
        self.next = last.plus(1);
        self.batches.push_back(batch);
    }

    /// Returns whether no record waits and no call runs.
    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Returns whether the next call needs no more records.
    pub(super) fn is_full(&self, gathering: Gathering) -> bool {
        self.bytes >= gathering.bytes
    }

    /// Returns when the next call is due, if one may begin.
    pub(super) fn due(&self, gathering: Gathering) -> Option<Duration> {
        match &self.running {
            Some(Running { stage: Stage::Failed(due), .. }) => Some(*due),
            Some(_) => None,
            None if self.bytes == 0 => None,
            None if self.is_full(gathering) => Some(Duration::ZERO),
            None => Some(self.since + gathering.interval),
        }
    }

    /// Takes the records of the next call: the batches that they are in, the first of them, and the one after the last. A call never mixes records
    /// before `replayed_to` with others.
    pub(super) fn take(
        &mut self,
        gathering: Gathering,
        replayed_to: SequenceNumber,
    ) -> (Vec<Batch>, SequenceNumber, SequenceNumber) {
        let first = self.first;
        let border = if first < replayed_to { replayed_to.min(self.next) } else { self.next };
        let (mut end, mut bytes) = (first, 0);
        let records = self.batches.iter().flat_map(Batch::iter);
        for record in records.filter(|record| record.sequence() >= first) {
            let more = bytes_of(&record);
            let is_too_much = end > first && bytes + more > gathering.bytes;
            if is_too_much || record.sequence() >= border {
                break;
            }
            bytes += more;
            end = record.sequence().plus(1);
        }
        self.bytes -= bytes;
        self.first = end;
        let of_call =
            self.batches.iter().take_while(|batch| batch.first_sequence().is_some_and(|at| at < end));
        (of_call.cloned().collect(), first, end)
    }

    /// Ends the running call, and forgets its records.
    pub(super) fn finish(&mut self) -> Option<Running> {
        let running = self.running.take()?;
        let end = running.call.end;
        while self.batches.front().is_some_and(|batch| batch.last_sequence().is_none_or(|last| last < end)) {
            self.batches.pop_front();
        }
        Some(running)
    }
}

/// What a record counts for besides its data and its key, so that the number of small records in a call is bounded, too.
const RECORD_BYTES: usize = 200;

fn bytes_of(record: &crate::Record<'_>) -> usize {
    record.data().len() + record.partition_key().len() + RECORD_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Position, Stream};

    #[test]
    fn a_call_has_as_many_records_as_fit_and_none_from_both_sides_of_a_crash() {
        let directory = tempfile::tempdir().unwrap();
        let stream = Stream::open(directory.path()).unwrap();
        let mut lane = Lane::new(SequenceNumber::ZERO);
        let gathering = Gathering { bytes: 3 * (9 + RECORD_BYTES), interval: Duration::from_secs(60) };
        let mut iterator = stream.iterator(stream.shards()[0].id, Position::TrimHorizon).unwrap();
        // 9 bytes each, in batches of 3.
        for number in 0..9 {
            stream.put("key", format!("{number:06}")).unwrap();
        }
        stream.put("key", "x".repeat(1_000)).unwrap();
        let now = Duration::from_secs(7);
        lane.add(iterator.next_batch(2).unwrap(), now);
        assert_eq!((lane.due(gathering), lane.is_full(gathering)), (Some(Duration::from_secs(67)), false));
        while lane.next < 10.into() {
            lane.add(iterator.next_batch(3).unwrap(), now);
        }
        assert_eq!((lane.due(gathering), lane.next), (Some(Duration::ZERO), 10.into()));
        let mut take = || {
            let (batches, first, end) = lane.take(gathering, 5.into());
            let held = batches.iter().flat_map(Batch::iter).map(|record| record.sequence());
            let (least, most) = (held.clone().min().unwrap(), held.max().unwrap());
            assert!(least <= first && end.get() <= most.get() + 1);
            (first.get(), end.get())
        };
        // Up to the border, by bytes, and the large one alone.
        let calls: Vec<_> = (0..5).map(|_| take()).collect();
        assert_eq!(calls, [(0, 3), (3, 5), (5, 8), (8, 9), (9, 10)]);
        assert_eq!((lane.bytes, lane.due(gathering)), (0, None));
    }
}
