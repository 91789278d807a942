//! Record headers: they are read as they were put, on every path of a record, whatever they contain: P1, P7, P11.

use crate::common;

use std::ops::ControlFlow;

use streamlog::{Durability, Error, OwnedRecord, Position, PutRecord, Stream, StreamOptions, limits};

const LARGE: usize = 100_000;

/// Adds headers by the record's number: none, one, or several, with a repeated name, an empty value and a value that is not text.
fn with_headers<'a>(record: PutRecord<'a>, number: u8, value: &'a [u8]) -> PutRecord<'a> {
    match number % 4 {
        0 => record,
        1 => record.header("trace", value),
        2 => record.header("a", "").header("a", value).header("käse", &[0xff, 0]),
        _ => record.header("a", value).header("large", &[7; 9_000]),
    }
}

fn data(number: u8) -> Vec<u8> {
    let len = if number.is_multiple_of(5) { LARGE } else { usize::from(number) };
    vec![number; len]
}

fn options() -> StreamOptions {
    common::small(&common::clock()).segment_bytes(1 << 20)
}

#[track_caller]
fn check(stream: &Stream, count: usize) {
    let mut found: Vec<OwnedRecord> = vec![];
    for shard in stream.shards() {
        let mut iterator = stream.iterator(shard.id, Position::TrimHorizon).unwrap();
        loop {
            let batch = iterator.next_batch(3).unwrap();
            if batch.is_empty() {
                break;
            }
            for record in &batch {
                assert!(
                    record.headers().eq(record.into_owned().headers()),
                    "an owned record keeps its headers"
                );
                found.push(record.into_owned());
            }
        }
    }
    assert_eq!(found.len(), count);
    for record in found {
        let number = record.partition_key[0];
        let (key, data) = ([number], data(number));
        assert!(record.data == data, "{number}");
        let expected = with_headers(PutRecord::new(&key, &data), number, &key);
        assert!(record.headers().eq(expected.headers()), "{number}: {:?}", record.headers());
    }
    let verified = stream.verify(|_| ControlFlow::Continue(())).unwrap();
    assert_eq!((verified.record_count as usize, verified.damage), (count, vec![]));
}

#[test]
fn p1_p7_headers_come_back_whichever_way_a_record_went() {
    for (shards, durability) in [(1, Durability::Process), (4, Durability::Process), (1, Durability::Power)] {
        let scratch = common::scratch();
        let path = scratch.path().join("stream");
        let stream = options().shards(shards).durability(durability).open(&path).unwrap();
        let keys: Vec<_> = (0..40u8).map(|number| [number]).collect();
        let all: Vec<_> = (0..40).map(data).collect();
        let records: Vec<_> = keys
            .iter()
            .zip(&all)
            .map(|(key, data)| with_headers(PutRecord::new(key, data), key[0], key))
            .collect();
        for record in &records {
            stream.put_record(record).unwrap();
        }
        for outcome in stream.put_batch(&records).unwrap() {
            outcome.unwrap();
        }
        let producer = stream.producer().start().unwrap();
        let pending: Vec<_> = records.iter().map(|record| producer.put_record(record).unwrap()).collect();
        for receipt in pending {
            receipt.wait().unwrap();
        }
        producer.close().unwrap();
        check(&stream, 120);
        let killed = scratch.path().join("killed");
        common::copy_dir(&path, &killed);
        check(&options().open(&killed).unwrap(), 120);
        stream.close().unwrap();
        check(&options().open(&path).unwrap(), 120);
    }
}

#[test]
fn p11_headers_that_no_stream_can_hold_are_refused_and_say_why() {
    let scratch = common::scratch();
    let stream = options().record_bytes_max(1_000).open(scratch.path()).unwrap();
    let long = "n".repeat(limits::HEADER_NAME_BYTES_MAX + 1);
    let put = |record: PutRecord<'_>| stream.put_record(&record);
    for (record, words) in [
        (PutRecord::new("k", "").header("", "value"), "the name of a header has 0 bytes"),
        (PutRecord::new("k", "").header(&long, "value"), "the name of a header has 256 bytes"),
        (PutRecord::new("k", "").header("name", &[0; 986]), "together have 1001 bytes, and may have 1000"),
    ] {
        match put(record) {
            Err(Error::InvalidRecord { index: 0, reason }) => assert!(reason.contains(words), "{reason}"),
            other => panic!("{other:?}"),
        }
    }
    put(PutRecord::new("k", "").header("name", &[0; 985])).unwrap();
    put(PutRecord::new("k", "").header(&long[1..], "value")).unwrap();
    let names = (0..90).fold(PutRecord::new("k", ""), |record, _| record.header("n", "v"));
    put(names).unwrap();
    assert_eq!(stream.stats().unwrap().record_count(), 3);
}

#[test]
fn the_largest_record_fits_with_its_headers() {
    let scratch = common::scratch();
    let stream = common::small(&common::clock()).open(scratch.path()).unwrap();
    let most = stream.describe().record_bytes_max as usize;
    let value = vec![7; most - 1 - 4 - 6 - 1];
    let receipt = stream.put_record(&PutRecord::new("k", "").header("n", &value)).unwrap();
    let batch = stream.iterator(receipt.shard, Position::TrimHorizon).unwrap().next_batch(1).unwrap();
    assert!(batch.iter().next().unwrap().headers().get("n") == Some(&value));
    assert!(stream.put_record(&PutRecord::new("k", "d").header("n", &value)).is_err());
}
