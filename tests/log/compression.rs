//! Compressed frames: they are read like plain ones, also mixed with plain ones, and keep every promise.

use std::fs;
use std::ops::ControlFlow;

use streamlog::{
    Compression, Durability, Error, OwnedRecord, Position, PutRecord, Retention, SECOND, ShardId, Stream,
    StreamReader,
};

use crate::common;

use common::{clock, small};

const ALL: [Compression; 2] = [Compression::Lz4, Compression::None];

fn click(number: u64) -> String {
    format!(
        r#"{{"number":{number},"user":"user-{}","page":"/checkout/{}","referrer":"/cart","agent":"Mozilla/5.0 (X11; Linux x86_64)"}}"#,
        number % 97,
        number % 13
    )
}

fn put_batch(stream: &Stream, numbers: std::ops::Range<u64>) {
    let clicks: Vec<_> = numbers.map(|number| (format!("user-{}", number % 97), click(number))).collect();
    let records: Vec<_> =
        clicks.iter().map(|(key, data)| PutRecord::new(key, data).header("trace", "4bf92f35")).collect();
    stream.put_batch(&records).unwrap().into_iter().for_each(|receipt| _ = receipt.unwrap());
}

fn read_all(reader: &StreamReader, records_max: usize, bytes_max: usize) -> Vec<OwnedRecord> {
    let mut iterator = reader.iterator(ShardId::new(0), Position::TrimHorizon).unwrap();
    let mut read = vec![];
    loop {
        let batch = iterator.next_batch_within(records_max, bytes_max).unwrap();
        if batch.is_empty() {
            return read;
        }
        assert!(batch.len() <= records_max);
        read.extend(batch.iter().map(|record| record.into_owned()));
    }
}

fn assert_clicks(read: &[OwnedRecord], count: u64) {
    assert_eq!(read.len() as u64, count);
    for (number, record) in (0..).zip(read) {
        assert_eq!((record.sequence.get(), &*record.data), (number, click(number).as_bytes()));
        assert_eq!(record.headers().get("trace"), Some(&b"4bf92f35"[..]));
    }
}

#[test]
fn compressed_and_plain_frames_lie_side_by_side_and_are_read_in_any_portions() {
    let (scratch, clock) = (common::scratch(), clock());
    let mut count = 0;
    for round in 0..12 {
        let compression = [Compression::Lz4, Compression::zstd(), Compression::None][round % 3];
        let stream = small(&clock).compression(compression).open(scratch.path()).unwrap();
        assert_eq!(stream.describe().compression, compression);
        for size in [1, 3, 100, 1_000, 2] {
            put_batch(&stream, count..count + size);
            count += size;
        }
        stream.close().unwrap();
    }
    let stream = small(&clock).open(scratch.path()).unwrap();
    assert_eq!(stream.describe().compression, Compression::None, "as it was last");
    for (records_max, bytes_max) in
        [(usize::MAX, usize::MAX), (1, usize::MAX), (7, usize::MAX), (1_000, 500), (150, 9_000)]
    {
        assert_clicks(&read_all(&stream, records_max, bytes_max), count);
    }
    let outside = StreamReader::open(scratch.path()).unwrap();
    assert_clicks(&read_all(&outside, 33, usize::MAX), count);
    for sequence in (0..count).step_by(37) {
        let mut iterator = stream.iterator(ShardId::new(0), Position::At(sequence.into())).unwrap();
        let batch = iterator.next_batch(3).unwrap();
        assert_eq!(batch.first_sequence(), Some(sequence.into()));
        assert_eq!(batch.iter().next().unwrap().data(), click(sequence).as_bytes());
    }
    let verified = stream.verify(|_| ControlFlow::Continue(())).unwrap();
    assert_eq!((verified.record_count, verified.damage.len()), (count, 0));
}

#[test]
fn both_sizes_are_counted_and_single_small_puts_stay_plain() {
    for durability in [Durability::Process, Durability::Power] {
        let scratch = common::scratch();
        let options = small(&clock()).compression(Compression::Lz4).durability(durability);
        let stream = options.open(scratch.path()).unwrap();
        let reader = StreamReader::open(scratch.path()).unwrap();
        for number in 0..50 {
            stream.put("user-17", click(number)).unwrap();
        }
        let plain = stream.stats().unwrap().traffic();
        assert_eq!(plain.incoming_bytes, plain.incoming_stored_bytes);
        put_batch(&stream, 50..1_050);
        stream.put("user-17", "a large record ".repeat(2_000)).unwrap();
        let traffic = stream.stats().unwrap().traffic();
        let (put, stored) = (
            traffic.incoming_bytes - plain.incoming_bytes,
            traffic.incoming_stored_bytes - plain.incoming_stored_bytes,
        );
        assert!(put > 150_000 && stored < put / 4, "{stored} of {put}");
        let outside = reader.stats().unwrap().traffic();
        assert_eq!(
            (outside.incoming_bytes, outside.incoming_stored_bytes),
            (traffic.incoming_bytes, traffic.incoming_stored_bytes)
        );
    }
}

#[test]
fn p9_damage_in_a_compressed_frame_is_found_salvaged_and_counted() {
    for compression in [Compression::Lz4, Compression::zstd()] {
        let (scratch, clock) = (common::scratch(), clock());
        let options = small(&clock).compression(compression);
        let stream = options.clone().open(scratch.path()).unwrap();
        (0..100).for_each(|batch| put_batch(&stream, batch * 100..batch * 100 + 100));
        stream.close().unwrap();
        let file = common::segment_files(scratch.path(), 0).remove(0);
        let mut bytes = fs::read(&file).unwrap();
        bytes[20_000] ^= 1;
        fs::write(&file, bytes).unwrap();
        let stream = options.clone().open(scratch.path()).unwrap();
        let found = stream.verify(|_| ControlFlow::Continue(())).unwrap();
        assert_eq!(found.damage.len(), 1);
        assert_eq!(found.record_count, 10_000 - 100);
        stream.close().unwrap();
        let stream = options.salvage(true).open(scratch.path()).unwrap();
        let lost = &stream.recovery().shards[0].lost[0];
        assert_eq!(lost.sequences.end.get() - lost.sequences.start.get(), 100);
        assert_eq!(stream.verify(|_| ControlFlow::Continue(())).unwrap().lost.len(), 1);
    }
}

#[test]
fn p1_p12_recovery_retention_and_groups_work_as_with_plain_frames() {
    let (scratch, clock) = (common::scratch(), clock());
    let options =
        small(&clock).compression(Compression::zstd_level(3)).retention(Retention::age(10 * SECOND));
    let stream = options.clone().open(scratch.path().join("stream")).unwrap();
    let mut worker = stream.group("billing").worker().open().unwrap();
    let (mut count, mut handled) = (0, 0);
    for round in 0..20 {
        put_batch(&stream, count..count + 500);
        count += 500;
        while let Some(batch) = worker.poll(std::time::Duration::ZERO).unwrap() {
            handled += batch.len() as u64;
            worker.commit(&batch).unwrap();
        }
        clock.advance(SECOND);
        stream.maintain().unwrap();
        if round == 9 {
            let copy = scratch.path().join("copy");
            common::copy_dir(&scratch.path().join("stream"), &copy);
            let copy = options.clone().open(copy).unwrap();
            assert_clicks(&read_all(&copy, 1_000, usize::MAX), count);
        }
    }
    assert_eq!(handled, count);
    let left = stream.stats().unwrap().record_count();
    assert!((4_000..=6_000).contains(&left), "{left}");
}

#[test]
fn what_this_build_cannot_do_or_no_stream_can_have_is_refused() {
    let scratch = common::scratch();
    let refused = small(&clock()).compression(Compression::zstd_level(23)).open(scratch.path());
    assert!(matches!(refused, Err(Error::InvalidArgument(_))));
    assert_eq!(ALL.map(|compression| compression.to_string()), ["lz4", "none"]);
}
