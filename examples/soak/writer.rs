//! A thread of the worker that puts.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use streamlog::{Durability, Error, Position, Producer, PutRecord, Receipt, Stream};

use super::board::{Board, Outcome, unexpected};
use super::plan::{DATA_BYTES_MAX, Random};
use super::record::{Draft, KEYS_PER_WRITER, KeyIndex, Number, Part, Stamp, name_of};

/// Puts to its own keys, one call at a time, until it must stop.
pub(crate) struct Writer<'a> {
    stream: &'a Stream,
    producer: Producer,
    board: &'a Board,
    random: Random,
    noise: Vec<u8>,
    first_key: KeyIndex,
    calls: u64,
    last_receipts: HashMap<KeyIndex, Receipt>,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(stream: &'a Stream, board: &'a Board, writer: u16) -> Outcome<Self> {
        let mut random = board.random(u64::from(writer) << 8 | 1);
        let noise = (0..DATA_BYTES_MAX / 4).flat_map(|_| random.next().to_le_bytes()).collect();
        let first_key = writer * KEYS_PER_WRITER;
        let producer = stream
            .producer()
            .batch_bytes(random.between(1 << 10, 64 << 10) as usize)
            .senders(random.between(1, 3) as usize)
            .start();
        let producer = producer.map_err(unexpected("P16", "a producer does not start"))?;
        Ok(Self {
            stream,
            producer,
            board,
            random,
            noise,
            first_key,
            calls: 0,
            last_receipts: HashMap::new(),
        })
    }

    pub(crate) fn run(mut self) -> Outcome {
        let bytes_per_second = (self.board.plan.rate << 20) as f64 / f64::from(self.board.args.writers);
        // The time at which the bytes put so far are due.
        let mut due = Instant::now();
        while !self.board.must_stop() {
            let bytes = match self.random.below(8) {
                0 | 1 => self.put_batch()?,
                2 => self.put_by_producer()?,
                _ => self.put_one()?,
            };
            due += Duration::from_secs_f64(bytes as f64 / bytes_per_second);
            let now = Instant::now();
            match due.checked_duration_since(now) {
                Some(early) if early > Duration::from_millis(2) => self.board.sleep(early),
                Some(_) => {}
                // Do not catch up on bytes that were late.
                None => due = due.max(now - Duration::from_millis(100)),
            }
        }
        Ok(())
    }

    fn put_one(&mut self) -> Outcome<usize> {
        let key = self.first_key + self.random.below(KEYS_PER_WRITER.into()) as u16;
        let draft = self.drafts(&[key], Part::ALONE).remove(0);
        let began = Instant::now();
        let receipt = self.stream.put_record(&as_put(&draft));
        let receipt = receipt.map_err(unexpected("P16", "a put was refused"))?;
        let bytes = draft.partition_key.len() + draft.data.len();
        self.board.note_put(began.elapsed(), 1, bytes);
        self.acknowledge(&draft, receipt)?;
        if self.random.one_in(32) {
            self.read_back(&draft, receipt)?;
        }
        if self.board.plan.durability == Durability::Power && self.random.one_in(64) {
            self.check_synced(receipt)?;
        }
        Ok(bytes)
    }

    fn put_batch(&mut self) -> Outcome<usize> {
        let key_count = self.random.between(1, 8) as u16;
        let first = self.random.below((KEYS_PER_WRITER - key_count).into()) as u16;
        let records_per_key = self.random.between(1, 3) as u16;
        let part = Part { first_key: self.first_key + first, key_count, records_per_key };
        let keys: Vec<_> = (part.first_key..part.first_key + key_count).collect();
        let drafts = self.drafts(&keys, part);
        let records: Vec<_> = drafts.iter().map(as_put).collect();
        let began = Instant::now();
        let outcomes = self.stream.put_batch(&records);
        let outcomes = outcomes.map_err(unexpected("P16", "a batch was refused"))?;
        let bytes = drafts.iter().map(|draft| draft.partition_key.len() + draft.data.len()).sum();
        self.board.note_put(began.elapsed(), drafts.len(), bytes);
        if outcomes.len() != drafts.len() {
            return Err(format!("P1: {} receipts for a batch of {} records", outcomes.len(), drafts.len()));
        }
        for (draft, outcome) in drafts.iter().zip(outcomes) {
            let receipt = outcome.map_err(unexpected("P16", "a record of a batch was refused"))?;
            self.acknowledge(draft, receipt)?;
        }
        Ok(bytes)
    }

    /// Puts a few records one by one; their receipts come later.
    fn put_by_producer(&mut self) -> Outcome<usize> {
        let mut bytes = 0;
        let began = Instant::now();
        let mut pending = vec![];
        for _ in 0..self.random.between(1, 30) {
            let key = self.first_key + self.random.below(KEYS_PER_WRITER.into()) as u16;
            let draft = self.drafts(&[key], Part::ALONE).remove(0);
            bytes += draft.partition_key.len() + draft.data.len();
            let receipt = self.producer.put_record(&as_put(&draft));
            let receipt = receipt.map_err(unexpected("P16", "a producer refused a record"))?;
            pending.push((draft, receipt));
        }
        let count = pending.len();
        for (draft, receipt) in pending {
            let receipt = receipt.wait().map_err(unexpected("P16", "a producer gave up a record"))?;
            self.acknowledge(&draft, receipt)?;
        }
        self.board.note_put(began.elapsed(), count, bytes);
        Ok(bytes)
    }

    /// Creates the next records of some keys, and notes them as started.
    fn drafts(&mut self, keys: &[KeyIndex], part: Part) -> Vec<Draft> {
        self.calls += 1;
        let mut drafts = vec![];
        // Alternate between the keys, so that the records of a key are not adjacent.
        for _ in 0..part.records_per_key {
            for &key in keys {
                let count = self.board.key(key).started.fetch_add(1, Ordering::SeqCst);
                let number = Number { run: self.board.plan.run, count };
                let stamp = Stamp { key, number, call: self.calls, part };
                let data_bytes = self.data_bytes();
                drafts.push(Draft::new(stamp, data_bytes, &self.noise));
            }
        }
        drafts
    }

    /// Returns a size that is mostly small, sometimes 0, sometimes large.
    fn data_bytes(&mut self) -> usize {
        let (from, to) = match self.random.below(100) {
            0..5 => (0, 0),
            5..65 => (1, 300),
            65..97 => (300, 6_000),
            _ => (6_000, DATA_BYTES_MAX),
        };
        self.random.between(from, to) as usize
    }

    fn acknowledge(&mut self, draft: &Draft, receipt: Receipt) -> Outcome {
        let key = draft.stamp.key;
        let progress = self.board.key(key);
        progress.acknowledged.fetch_add(1, Ordering::SeqCst);
        if self.board.plan.durability == Durability::Power {
            progress.durable.fetch_add(1, Ordering::SeqCst);
        }
        match self.last_receipts.insert(key, receipt) {
            Some(last) if last.sequence >= receipt.sequence => {
                Err(format!("P5: {} got {last:?}, and then {receipt:?}", name_of(key)))
            }
            _ => Ok(()),
        }
    }

    /// Checks that a read after the put has returned sees the record.
    fn read_back(&self, draft: &Draft, receipt: Receipt) -> Outcome {
        let position = Position::At(receipt.sequence);
        let batch = self.stream.iterator(receipt.shard, position).and_then(|mut it| it.next_batch(1));
        let batch = match batch {
            Ok(batch) => batch,
            // Retention may have been faster: with a limit on bytes it may drop any of the oldest records.
            Err(Error::Trimmed { horizon, .. }) if horizon > receipt.sequence => return Ok(()),
            Err(Error::ShardNotFound(_)) => return Ok(()),
            Err(error) => return Err(format!("P1: {receipt:?} cannot be read: {error}")),
        };
        let record = batch.iter().next().ok_or_else(|| format!("P1: nothing is at {receipt:?}"))?;
        let found = Stamp::of(record.partition_key(), record.data()).map_err(|what| format!("P9: {what}"))?;
        if found == draft.stamp { Ok(()) } else { Err(format!("P1: {found:?} is at {receipt:?}")) }
    }

    fn check_synced(&self, receipt: Receipt) -> Outcome {
        let stats = self.stream.stats().map_err(unexpected("P2", "no counts"))?;
        let of_shard = stats.shards.iter().find(|shard| shard.shard == receipt.shard);
        match of_shard.map(|shard| shard.synced_sequence) {
            Some(synced) if synced <= receipt.sequence => {
                Err(format!("P2: {receipt:?} was returned, and only what is below {synced} was synced"))
            }
            _ => Ok(()),
        }
    }
}

fn as_put(draft: &Draft) -> PutRecord<'_> {
    let record = PutRecord::new(&draft.partition_key, &draft.data);
    match draft.explicit_hash_key {
        Some(hash_key) => record.explicit_hash_key(hash_key),
        None => record,
    }
}
