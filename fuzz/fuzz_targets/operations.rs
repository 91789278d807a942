//! Any sequence of calls, against a model: a list of records for each shard.
#![no_main]

use std::fs;
use std::path::Path;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use streamlog::{HashKey, Maintenance, Position, PutRecord, ShardId, Stream, StreamOptions};

#[derive(Debug, Arbitrary)]
enum Operation {
    Put {
        place: u8,
        key_len: u8,
        data_len: u16,
    },
    PutBatch {
        places: Vec<u8>,
        data_len: u8,
    },
    Sync,
    Maintain,
    /// Closes the stream and opens it again.
    Reopen,
    /// Continues with a copy of the files as they are now, as if the process had died.
    Crash,
    Read {
        shard: u8,
        from: u16,
        records_max: u8,
        bytes_max: u16,
    },
    ReadAfter {
        shard: u8,
        from: u16,
    },
}

#[derive(Debug, Arbitrary)]
struct Input {
    shard_count: u8,
    operations: Vec<Operation>,
}

type Record = (Vec<u8>, Vec<u8>);

fn open(path: &Path, shard_count: u32) -> Stream {
    let options = StreamOptions::new().shards(shard_count).segment_bytes(64 << 10);
    options.maintenance(Maintenance::Manual).sync_interval(None).open(path).unwrap()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(|entry| entry.unwrap()) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Returns a record whose bytes depend on its number.
fn record(number: usize, key_len: usize, data_len: usize) -> Record {
    let filled = |len: usize| (0..len).map(|at| (number >> (at % 4 * 8)) as u8).collect();
    (filled(key_len), filled(data_len))
}

fn hash_key(place: u8) -> HashKey {
    HashKey::new(u128::from(place) << 120)
}

/// Checks a read from `from` on against the model.
fn check_read(
    stream: &Stream,
    model: &[Vec<Record>],
    shard: usize,
    position: Position,
    from: usize,
    max: (usize, usize),
) {
    let records = &model[shard];
    let mut iterator = stream.iterator(ShardId::new(shard as u32), position).unwrap();
    let batch = iterator.next_batch_within(max.0, max.1).unwrap();
    let expected = records.get(from..).unwrap_or_default();
    assert_eq!(batch.is_empty(), expected.is_empty() || max.0 == 0);
    for (found, (expected, at)) in batch.iter().zip(expected.iter().zip(from..)) {
        assert_eq!((found.partition_key(), found.data()), (&expected.0[..], &expected.1[..]));
        assert_eq!(found.sequence().get(), at as u64);
    }
    assert_eq!(batch.iter().count(), batch.len());
}

fn check_all(stream: &Stream, model: &[Vec<Record>]) {
    for (records, shard) in model.iter().zip(0..) {
        let mut iterator = stream.iterator(ShardId::new(shard), Position::TrimHorizon).unwrap();
        let found: Vec<_> = iterator.records().map(|record| record.unwrap()).collect();
        let found: Vec<_> =
            found.iter().map(|record| (&record.partition_key[..], &record.data[..])).collect();
        assert!(found.iter().copied().eq(records.iter().map(|(key, data)| (&key[..], &data[..]))));
    }
}

fuzz_target!(|input: Input| {
    let directory = tempfile::tempdir().unwrap();
    let (mut path, mut life) = (directory.path().join("0"), 0);
    let shard_count = u32::from(input.shard_count % 3) + 1;
    let mut stream = open(&path, shard_count);
    let mut model: Vec<Vec<Record>> = vec![vec![]; shard_count as usize];
    for (operation, number) in input.operations.into_iter().take(64).zip(0..) {
        match operation {
            Operation::Put { place, key_len, data_len } => {
                let record = record(number, usize::from(key_len).max(1), usize::from(data_len) % 20_000);
                let put = PutRecord::new(&record.0, &record.1).explicit_hash_key(hash_key(place));
                let receipt = stream.put_record(&put).unwrap();
                let shard = &mut model[receipt.shard.get() as usize];
                assert_eq!(receipt.sequence.get(), shard.len() as u64);
                shard.push(record);
            }
            Operation::PutBatch { places, data_len } => {
                let records: Vec<_> =
                    (0..places.len()).map(|at| record(number + at, 3, data_len.into())).collect();
                let puts = records.iter().zip(&places);
                let puts = puts.map(|((key, data), &place)| {
                    PutRecord::new(key, data).explicit_hash_key(hash_key(place))
                });
                let outcomes = stream.put_batch(&puts.collect::<Vec<_>>()).unwrap();
                for (outcome, record) in outcomes.into_iter().zip(records) {
                    let receipt = outcome.unwrap();
                    let shard = &mut model[receipt.shard.get() as usize];
                    assert_eq!(receipt.sequence.get(), shard.len() as u64);
                    shard.push(record);
                }
            }
            Operation::Sync => stream.sync().unwrap(),
            Operation::Maintain => stream.maintain().unwrap(),
            Operation::Reopen => {
                stream.close().unwrap();
                stream = open(&path, shard_count);
                assert!(stream.recovery().was_closed_cleanly());
            }
            Operation::Crash => {
                life += 1;
                let next = directory.path().join(life.to_string());
                copy(&path, &next);
                stream = open(&next, shard_count);
                path = next;
                assert!(stream.recovery().shards.iter().all(|shard| shard.torn_tail.is_none()));
            }
            Operation::Read { shard, from, records_max, bytes_max } => {
                let (shard, from) = (usize::from(shard) % model.len(), usize::from(from));
                let from = from % (model[shard].len() + 2);
                let position = Position::At((from as u64).into());
                check_read(&stream, &model, shard, position, from, (records_max.into(), bytes_max.into()));
            }
            Operation::ReadAfter { shard, from } => {
                let (shard, from) = (usize::from(shard) % model.len(), usize::from(from));
                let from = from % (model[shard].len() + 1);
                let position = Position::After((from as u64).into());
                check_read(&stream, &model, shard, position, from + 1, (1_000, usize::MAX));
            }
        }
    }
    check_all(&stream, &model);
    stream.close().unwrap();
    check_all(&open(&path, shard_count), &model);
});
