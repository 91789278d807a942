//! Checks what a reader of a running worker receives against what the writers have put.

use streamlog::{Batch, Record, SequenceNumber};

use super::board::{Board, Outcome};
use super::record::{Number, Stamp, name_of};

/// What a reader knows about each key.
pub(crate) struct Order<'b> {
    board: &'b Board,
    keys: Vec<Seen>,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    last: Option<Number>,
    /// The next record need not follow the last one, because the reader has just started or retention overtook it.
    may_jump: bool,
    /// The number of records started in this run at that time: a jump cannot go further.
    started: u64,
}

impl<'b> Order<'b> {
    /// Creates the state of a new iterator.
    pub(crate) fn new(board: &'b Board) -> Self {
        let seen = |started| Seen { last: None, may_jump: true, started };
        Self { board, keys: board.started().into_iter().map(seen).collect() }
    }

    /// Notes that the iterator has just skipped to the trim horizon.
    pub(crate) fn allow_jump(&mut self) {
        for (key, started) in self.keys.iter_mut().zip(self.board.started()) {
            (key.may_jump, key.started) = (true, started);
        }
    }

    /// Checks a batch that starts with `first`: each record must be intact, at its place, and the next one of its key.
    pub(crate) fn take(&mut self, batch: &Batch, first: Option<SequenceNumber>) -> Outcome {
        let oldest = batch.iter().next().map(|record| record.timestamp());
        let mut expected = first.or(batch.first_sequence()).unwrap_or_default();
        let mut timestamp = oldest.unwrap_or_default();
        let mut bytes = 0;
        for record in batch {
            let place = || format!("sequence number {} of {}", record.sequence(), batch.shard());
            if record.sequence() != expected {
                return Err(format!("P5 P6: {} came where {expected} was expected", place()));
            }
            if record.timestamp() < timestamp {
                return Err(format!("P5: {} is older than the record before it", place()));
            }
            self.see(&record).map_err(|what| format!("{what} ({})", place()))?;
            (expected, timestamp) = (expected.plus(1), record.timestamp());
            bytes += (record.partition_key().len() + record.data().len()) as u64;
        }
        let mut counters = self.board.counters();
        counters.read_records += batch.len() as u64;
        counters.read_bytes += bytes;
        Ok(())
    }

    fn see(&mut self, record: &Record<'_>) -> Outcome {
        let stamp = Stamp::of(record.partition_key(), record.data()).map_err(|what| format!("P9: {what}"))?;
        let Some(seen) = self.keys.get_mut(usize::from(stamp.key)) else {
            return Err(format!("P9: there is no key {}", stamp.key));
        };
        let number = stamp.number;
        let is_next = match seen.last {
            Some(last) if !seen.may_jump => number.may_follow(last),
            last => {
                let is_later = last.is_none_or(|last| last < number);
                is_later && (number.run != self.board.plan.run || number.count <= seen.started)
            }
        };
        if !is_next {
            let last = seen.last.map_or("nothing".to_owned(), |last| format!("number {last}"));
            let jump =
                if seen.may_jump { format!(", jumping up to {}", seen.started) } else { String::new() };
            return Err(format!("P4 P6: {} read number {number} after {last}{jump}", name_of(stamp.key)));
        }
        (seen.last, seen.may_jump) = (Some(number), false);
        Ok(())
    }

    /// Checks a reader that was at the end of all shards: it must have read everything acknowledged before it looked.
    pub(crate) fn check_end(&self, acknowledged: &[u64]) -> Outcome {
        for ((key, seen), &acknowledged) in (0..).zip(&self.keys).zip(acknowledged) {
            let last = seen.last.filter(|last| last.run == self.board.plan.run);
            let is_there = last.map_or(0, |last| last.count + 1) >= acknowledged;
            let may_be_trimmed = seen.may_jump && acknowledged <= seen.started;
            if !is_there && !may_be_trimmed {
                let last = last.map_or("none".to_owned(), |last| last.to_string());
                return Err(format!(
                    "P1 P6: a reader at the end of all shards has seen numbers of {} up to {last}, and {acknowledged} puts \
                     of this run had returned before it looked",
                    name_of(key)
                ));
            }
        }
        Ok(())
    }
}
