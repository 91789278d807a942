//! Archives: what is sealed is copied, read back once retention has dropped it, and made a stream again.
#![cfg(feature = "delivery")]

mod common;
#[path = "archive_place/mod.rs"]
mod place;

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use common::{clock, scratch, segment_files, small};
use place::Place;
use streamlog::delivery::Directory;
use streamlog::{
    Archive, ArchiveReport, Archiver, Error, ManualClock, Position, Retention, SECOND, SequenceNumber, ShardFilter,
    ShardId, Stream, StreamOptions, StreamReader, extend,
};

fn go_on<T>(_: T) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn run(archiver: &mut Archiver) -> ArchiveReport {
    archiver.run(go_on).unwrap()
}

/// Puts numbered records of about 8 KB, of which seven fill a segment.
fn put(stream: &Stream, numbers: std::ops::Range<u32>) -> ShardId {
    let mut shard = None;
    for number in numbers {
        shard = Some(stream.put(format!("key-{}", number % 7), data(number)).unwrap().shard);
    }
    shard.unwrap()
}

fn data(number: u32) -> Vec<u8> {
    let mut data = number.to_be_bytes().to_vec();
    data.resize(8_000, number as u8);
    data
}

fn number_of(data: &[u8]) -> u32 {
    assert!(data[4..].iter().all(|&byte| byte == data[3]), "the data of a record is not what was put");
    u32::from_be_bytes(*data.first_chunk().unwrap())
}

/// Reads a shard from a position on.
fn read(reader: &StreamReader, shard: ShardId, position: Position) -> Vec<u32> {
    let iterator = reader.iterator(shard, position).unwrap();
    iterator.flat_map(|batch| batch.unwrap().iter().map(|record| number_of(record.data())).collect::<Vec<_>>()).collect()
}

/// Reads all shards, children after their parents, as the tool does.
fn read_lineage(reader: &StreamReader) -> Result<Vec<u32>, Error> {
    let mut iterator = reader.lineage_iterator(Position::TrimHorizon)?;
    let mut numbers = vec![];
    loop {
        let batch = iterator.next_batch(100)?;
        if batch.is_empty() {
            return Ok(numbers);
        }
        numbers.extend(batch.iter().map(|record| number_of(record.data())));
    }
}

fn with_archive(clock: &Arc<ManualClock>, place: &Place) -> StreamOptions {
    StreamOptions::new().clock(clock.clone()).archive(place.clone())
}

/// Archives what is sealed, and drops it from the stream.
fn archive_and_trim(stream: &Stream, archiver: &mut Archiver) {
    stream.maintain().unwrap();
    run(archiver);
    for shard in stream.shards() {
        let bases: Vec<u64> = bases_of(stream, shard.id);
        if let Some(&last) = bases.last() {
            stream.trim_before(shard.id, last.into()).unwrap();
        }
    }
    stream.maintain().unwrap();
}

fn bases_of(stream: &Stream, shard: ShardId) -> Vec<u64> {
    let files = segment_files(&stream.describe().path, shard.get());
    let base = |file: &std::path::PathBuf| file.file_stem()?.to_str()?.parse().ok();
    files.iter().filter_map(base).collect()
}

#[test]
fn what_retention_has_dropped_is_read_back_from_every_position() {
    let (directory, clock, place) = (scratch(), clock(), Place::default());
    let stream = small(&clock).retention(Retention::forever()).open(directory.path()).unwrap();
    let mut archiver = stream.archiver(place.clone());
    let mut times = vec![];
    for number in 0..60 {
        times.push(clock.advance(SECOND));
        put(&stream, number..number + 1);
    }
    let shard = stream.shards()[0].id;
    let reader = with_archive(&clock, &place).open_reader(directory.path()).unwrap();
    let mut early = reader.iterator(shard, Position::TrimHorizon).unwrap();
    early.next_batch(3).unwrap();
    archive_and_trim(&stream, &mut archiver);
    let local = stream.stats().unwrap().shards[0].horizon.get() as u32;
    assert!(local > 40 && bases_of(&stream, shard).len() == 1);
    assert!(matches!(stream.iterator(shard, Position::At(3.into())), Err(Error::Trimmed { .. })));

    for reader in [&reader, &with_archive(&clock, &place).open_reader(directory.path()).unwrap()] {
        assert_eq!(read(reader, shard, Position::TrimHorizon), (0..60).collect::<Vec<_>>());
        assert_eq!(read_lineage(reader).unwrap(), (0..60).collect::<Vec<_>>());
        for at in [0, 1, 6, 7, 8, 30, local - 1, local, local + 1, 59] {
            let sequence = SequenceNumber::from(u64::from(at));
            assert_eq!(read(reader, shard, Position::At(sequence)), (at..60).collect::<Vec<_>>());
            assert_eq!(read(reader, shard, Position::After(sequence)), (at + 1..60).collect::<Vec<_>>());
        }
    }
    // The one that was in the middle goes on.
    let rest: Vec<u32> = early.records().map(|record| number_of(&record.unwrap().data)).collect();
    assert_eq!(rest, (3..60).collect::<Vec<_>>());
    let lag = reader.iterator(shard, Position::TrimHorizon).unwrap().lag().unwrap();
    assert_eq!(lag.record_count, 60);
    assert!(lag.bytes > 60 * 8_000 && lag.age >= 59 * SECOND, "{lag:?}");
}
