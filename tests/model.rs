//! The stream against a plain in-memory model, over random operations: P1, P4 within a shard, P5, P6, P7.

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use streamlog::{
    Batch, ManualClock, Position, PutRecord, Receipt, SequenceNumber, ShardId, ShardIterator, Stream,
    StreamOptions, Timestamp,
};

#[derive(Debug, Clone)]
enum Operation {
    Put {
        key: u8,
        len: usize,
    },
    PutBatch(Vec<(u8, usize)>),
    NewIterator {
        shard: usize,
        position: Place,
    },
    Read {
        iterator: usize,
        records_max: usize,
        bytes_max: usize,
    },
    Advance {
        millis: u64,
    },
    StepBack {
        millis: u64,
    },
    Sync,
    Maintain,
    /// Closes the stream and opens it again.
    Reopen,
    /// Goes on with a copy of the directory as a `kill -9` leaves it.
    Crash,
}

/// A position, told by fractions of what there is.
#[derive(Debug, Clone, Copy)]
enum Place {
    TrimHorizon,
    Latest,
    At(f64),
    After(f64),
    AtTimestamp(f64),
}

fn operation() -> impl Strategy<Value = Operation> {
    let len = prop_oneof![4 => 0usize..200, 2 => 200usize..5_000, 1 => 5_000usize..40_000];
    let place = prop_oneof![
        Just(Place::TrimHorizon),
        Just(Place::Latest),
        (0.0..1.2).prop_map(Place::At),
        (0.0..1.2).prop_map(Place::After),
        (-0.1..1.0).prop_map(Place::AtTimestamp),
    ];
    prop_oneof![
        8 => (any::<u8>(), len.clone()).prop_map(|(key, len)| Operation::Put { key, len }),
        4 => vec((any::<u8>(), len), 0..40).prop_map(Operation::PutBatch),
        4 => (any::<usize>(), place).prop_map(|(shard, position)| Operation::NewIterator { shard, position }),
        10 => (any::<usize>(), 0usize..60, prop_oneof![Just(usize::MAX), 0usize..20_000])
            .prop_map(|(iterator, records_max, bytes_max)| Operation::Read { iterator, records_max, bytes_max }),
        3 => (0u64..5_000).prop_map(|millis| Operation::Advance { millis }),
        1 => (0u64..1_000).prop_map(|millis| Operation::StepBack { millis }),
        1 => Just(Operation::Sync),
        1 => Just(Operation::Maintain),
        1 => Just(Operation::Reopen),
        1 => Just(Operation::Crash),
    ]
}

/// What a shard should hold: key, data and timestamp, by sequence number.
type Shard = Vec<(Vec<u8>, Vec<u8>, Timestamp)>;

struct Model {
    scratch: tempfile::TempDir,
    generation: u32,
    clock: Arc<ManualClock>,
    stream: Option<Stream>,
    shards: BTreeMap<ShardId, Shard>,
    iterators: Vec<(ShardIterator, u64)>,
    put_count: u64,
}

impl Model {
    fn new(shard_count: u32) -> Self {
        let mut model = Self {
            scratch: common::scratch(),
            generation: 0,
            clock: common::clock(),
            stream: None,
            shards: (0..shard_count).map(|number| (ShardId::new(number), vec![])).collect(),
            iterators: vec![],
            put_count: 0,
        };
        model.stream = Some(model.options().shards(shard_count).open(model.path()).unwrap());
        model
    }

    fn options(&self) -> StreamOptions {
        common::small(&self.clock)
    }

    fn path(&self) -> std::path::PathBuf {
        self.scratch.path().join(format!("stream-{}", self.generation))
    }

    fn stream(&self) -> &Stream {
        self.stream.as_ref().unwrap()
    }

    /// Data that tells which put it came from.
    fn data(&mut self, len: usize) -> Vec<u8> {
        self.put_count += 1;
        let mut data = self.put_count.to_le_bytes().to_vec();
        data.resize(len.max(8), self.put_count as u8);
        data
    }

    /// Notes what was put, in the order of the sequence numbers that the receipts tell.
    fn note(&mut self, put: Vec<(Vec<u8>, Vec<u8>, Receipt)>) {
        let now = streamlog::Clock::now(&*self.clock);
        for (key, data, receipt) in put {
            let shard = self.shards.get_mut(&receipt.shard).unwrap();
            assert_eq!(receipt.sequence.get(), shard.len() as u64, "P5: sequence numbers are dense");
            let timestamp = shard.last().map_or(now, |last| now.max(last.2));
            shard.push((key, data, timestamp));
        }
    }

    fn apply(&mut self, operation: Operation) {
        match operation {
            Operation::Put { key, len } => {
                let data = self.data(len);
                let receipt = self.stream().put([key], &data).unwrap();
                self.note(vec![(vec![key], data, receipt)]);
            }
            Operation::PutBatch(records) => {
                let records: Vec<_> =
                    records.into_iter().map(|(key, len)| (vec![key], self.data(len))).collect();
                let batch: Vec<_> = records.iter().map(|(key, data)| PutRecord::new(key, data)).collect();
                let outcomes = self.stream().put_batch(&batch).unwrap();
                let receipts = outcomes.into_iter().map(|outcome| outcome.unwrap());
                let put =
                    records.into_iter().zip(receipts).map(|((key, data), receipt)| (key, data, receipt));
                self.note(put.collect());
            }
            Operation::NewIterator { shard, position } => self.new_iterator(shard, position),
            Operation::Read { iterator, records_max, bytes_max } => {
                if !self.iterators.is_empty() {
                    let at = iterator % self.iterators.len();
                    self.read(at, records_max, bytes_max);
                }
            }
            Operation::Advance { millis } => self.clock.advance(Duration::from_millis(millis)),
            Operation::StepBack { millis } => {
                let now = streamlog::Clock::now(&*self.clock);
                self.clock.set(now.minus(Duration::from_millis(millis)));
            }
            Operation::Sync => self.stream().sync().unwrap(),
            Operation::Maintain => self.stream().maintain().unwrap(),
            Operation::Reopen => {
                self.stream.take().unwrap().close().unwrap();
                // Iterators of the closed stream read to the end.
                (0..self.iterators.len()).for_each(|at| self.read(at, usize::MAX, usize::MAX));
                self.iterators.clear();
                self.stream = Some(self.options().open(self.path()).unwrap());
                assert!(self.stream().recovery().was_closed_cleanly());
            }
            Operation::Crash => {
                let before = self.path();
                self.generation += 1;
                common::copy_dir(&before, &self.path());
                self.iterators.clear();
                self.stream = None;
                std::fs::remove_dir_all(before).unwrap();
                self.stream = Some(self.options().open(self.path()).unwrap());
            }
        }
    }

    fn new_iterator(&mut self, shard: usize, place: Place) {
        let id = ShardId::new((shard % self.shards.len()) as u32);
        let records = &self.shards[&id];
        let number = |fraction: f64| (fraction * records.len() as f64) as u64;
        let now = streamlog::Clock::now(&*self.clock);
        let (position, expected) = match place {
            Place::TrimHorizon => (Position::TrimHorizon, 0),
            Place::Latest => (Position::Latest, records.len() as u64),
            Place::At(fraction) => (Position::At(SequenceNumber::new(number(fraction))), number(fraction)),
            Place::After(fraction) => {
                (Position::After(SequenceNumber::new(number(fraction))), number(fraction) + 1)
            }
            Place::AtTimestamp(fraction) => {
                let start = Timestamp::from_millis(1_700_000_000_000).as_micros() as f64;
                let time =
                    Timestamp::from_micros((start + fraction * (now.as_micros() as f64 - start)) as u64);
                let time = time.min(now);
                (Position::AtTimestamp(time), records.partition_point(|record| record.2 < time) as u64)
            }
        };
        let iterator = self.stream().iterator(id, position).unwrap();
        assert_eq!(iterator.next_sequence().get(), expected, "{position:?}");
        self.iterators.push((iterator, expected));
    }

    fn read(&mut self, at: usize, records_max: usize, bytes_max: usize) {
        let (iterator, next) = &mut self.iterators[at];
        let records = &self.shards[&iterator.shard()];
        let batch = iterator.next_batch_within(records_max, bytes_max).unwrap();
        let expected = records.get(*next as usize..).unwrap_or_default();
        check(&batch, expected, *next);
        let bytes: usize =
            batch.iter().map(|record| record.partition_key().len() + record.data().len()).sum();
        assert!(batch.len() <= records_max && (bytes <= bytes_max || batch.len() == 1));
        assert!(!batch.is_empty() || expected.is_empty() || records_max == 0, "P6: records were skipped");
        if batch.len() == expected.len() {
            assert_eq!(batch.millis_behind_latest(), 0);
        }
        *next += batch.len() as u64;
    }

    fn check_all(&mut self) {
        for (&id, records) in &self.shards {
            let mut iterator = self.stream().iterator(id, Position::TrimHorizon).unwrap();
            let mut next = 0;
            loop {
                let batch = iterator.next_batch(7).unwrap();
                if batch.is_empty() {
                    break;
                }
                check(&batch, &records[next as usize..], next);
                next += batch.len() as u64;
            }
            assert_eq!(next, records.len() as u64, "P1: all that was put is there");
        }
        let found = self.stream().verify(|_| {}).unwrap();
        assert_eq!(found.damage, vec![]);
        assert_eq!(found.record_count, self.shards.values().map(|records| records.len() as u64).sum::<u64>());
    }
}

fn check(batch: &Batch, expected: &[(Vec<u8>, Vec<u8>, Timestamp)], first: u64) {
    assert!(batch.len() <= expected.len());
    for ((record, expected), sequence) in batch.iter().zip(expected).zip(first..) {
        assert_eq!(record.sequence().get(), sequence);
        assert_eq!((record.partition_key(), record.data()), (&expected.0[..], &expected.1[..]));
        assert_eq!(record.timestamp(), expected.2);
    }
    assert_eq!(batch.iter().count(), batch.len());
}

fn run(shard_count: u32, operations: Vec<Operation>) {
    let mut model = Model::new(shard_count);
    for operation in operations {
        model.apply(operation);
    }
    model.check_all();
    model.apply(Operation::Reopen);
    model.check_all();
    model.apply(Operation::Crash);
    model.check_all();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn p1_p5_p6_p7_a_stream_does_what_the_model_does(
        shard_count in 1u32..4, operations in vec(operation(), 1..120),
    ) {
        run(shard_count, operations);
    }
}
