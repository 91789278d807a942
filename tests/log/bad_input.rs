//! Mistakes of callers, and files changed by others: each has its own error, which says what, where and what to do.

use crate::common;

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use streamlog::{Durability, Error, KeyHash, Position, PutRecord, Retention, ShardId, Stream, StreamOptions};

const SHARD: ShardId = ShardId::new(0);

/// Returns the error of opening a stream.
fn open_error(path: &Path) -> Error {
    match common::small(&common::clock()).open(path) {
        Err(error) => error,
        Ok(_) => panic!("{} opened", path.display()),
    }
}

/// Makes a closed stream with several sealed segments.
fn some_segments(path: &Path) {
    let stream = common::small(&common::clock()).open(path).unwrap();
    for number in 0..20u8 {
        stream.put("key", vec![number; 10_000]).unwrap();
    }
    stream.close().unwrap();
    assert!(common::segment_files(path, 0).len() >= 3);
}

#[test]
fn keys_and_records_out_of_bounds_are_refused_with_their_place() {
    let scratch = common::scratch();
    let stream = StreamOptions::new().record_bytes_max(2_000).open(scratch.path()).unwrap();
    stream.put([b'k'; 1_024], [0; 976]).unwrap();
    stream.put("k", "").unwrap();
    for (key, data, words) in [
        (vec![], vec![1], "partition key is empty"),
        (vec![0; 1_025], vec![], "may have 1024"),
        (vec![0; 10], vec![0; 1_991], "may have 2000"),
    ] {
        let error = stream.put(&key, &data).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
        let good = PutRecord::new("k", "");
        let outcome = stream.put_batch(&[good.clone(), good.clone(), PutRecord::new(&key, &data), good]);
        assert!(matches!(outcome, Err(Error::InvalidRecord { index: 2, .. })), "{outcome:?}");
    }
    assert_eq!(stream.stats().unwrap().record_count(), 2, "a refused batch writes nothing");
}

#[test]
fn absurd_options_are_refused() {
    let scratch = common::scratch();
    let path = scratch.path().join("stream");
    let options = StreamOptions::new;
    for (options, words) in [
        (options().shards(0), "shard count"),
        (options().shards(1_025), "1 to 1024"),
        (options().segment_bytes(1), "segment_bytes"),
        (options().segment_bytes(u64::MAX), "segment_bytes"),
        (options().record_bytes_max(0), "record_bytes_max"),
        (options().record_bytes_max(u64::MAX), "record_bytes_max"),
        (options().segment_bytes(64 << 10).record_bytes_max(64 << 10), "record_bytes_max"),
        (options().retention(Retention::age(std::time::Duration::ZERO)), "too short"),
        (options().sync_interval(std::time::Duration::ZERO), "sync_interval"),
        (options().file_mode(0o660), "0o660"),
        (options().file_mode(0o602), "could truncate it"),
        (options().file_mode(0o700), "file_mode"),
        (options().file_mode(0o440), "use 0o600, 0o640, 0o604 or 0o644"),
        (options().file_mode(0o4644), "file_mode"),
        (options().file_mode(u32::MAX), "file_mode"),
    ] {
        let error = options.open(&path).unwrap_err();
        assert!(matches!(&error, Error::InvalidArgument(_)), "{error:?}");
        assert!(error.to_string().contains(words), "{error}");
        assert!(!path.join("manifest.json").exists(), "nothing is created");
    }
}

#[test]
fn a_directory_or_file_that_is_no_stream_is_left_alone() {
    let scratch = common::scratch();
    let file = scratch.path().join("file");
    fs::write(&file, "text").unwrap();
    assert!(matches!(open_error(&file), Error::NotAStream(_)));
    assert!(matches!(open_error(&file.join("below")), Error::Io(_)));

    let other = scratch.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("notes.txt"), "text").unwrap();
    let error = open_error(&other);
    assert!(error.to_string().contains("notes.txt"), "{error}");
    assert_eq!(fs::read_dir(&other).unwrap().count(), 1, "nothing is added to it");

    let nothing = StreamOptions::new().must_exist().open(scratch.path().join("nothing"));
    assert!(matches!(nothing, Err(Error::NotAStream(_))));
    assert!(!scratch.path().join("nothing").exists());
}

#[test]
fn a_stream_that_exists_is_not_created_again() {
    let scratch = common::scratch();
    Stream::open(scratch.path()).unwrap();
    assert!(matches!(
        StreamOptions::new().must_be_new().open(scratch.path()),
        Err(Error::InvalidArgument(_))
    ));
    let other_hash = StreamOptions::new().key_hash(KeyHash::Md5).open(scratch.path());
    assert!(matches!(other_hash, Err(Error::InvalidArgument(_))));
}

#[test]
fn settings_are_kept_and_changed_by_opening() {
    let scratch = common::scratch();
    let path = scratch.path().join("stream");
    let retention = Retention::age(streamlog::HOUR).bytes_max(1 << 30);
    let options =
        StreamOptions::new().shards(3).key_hash(KeyHash::Md5).retention(retention).segment_bytes(1 << 20);
    options.record_bytes_max(500).durability(Durability::Power).open(&path).unwrap();
    let described = StreamOptions::new().shards(8).open(&path).unwrap().describe();
    assert_eq!((described.shards.len(), described.key_hash), (3, KeyHash::Md5));
    assert_eq!(
        (described.retention, described.segment_bytes, described.record_bytes_max),
        (retention, 1 << 20, 500)
    );
    StreamOptions::new().retention(Retention::forever()).open(&path).unwrap();
    assert_eq!(Stream::open(&path).unwrap().describe().retention, Retention::forever());
}

#[test]
fn a_bound_on_records_that_nobody_has_set_goes_with_the_segments() {
    let scratch = common::scratch();
    let open = |segment_bytes| StreamOptions::new().segment_bytes(segment_bytes).open(scratch.path());
    let record_bytes_max = |segment_bytes| open(segment_bytes).unwrap().describe().record_bytes_max;
    assert_eq!(record_bytes_max(64 << 20), 1 << 20);
    let of_small = record_bytes_max(64 << 10);
    assert!((60_000..64 << 10).contains(&of_small), "{of_small}");
    assert_eq!(Stream::open(scratch.path()).unwrap().describe().record_bytes_max, of_small);
    assert_eq!(record_bytes_max(64 << 20), 1 << 20, "and comes back with them");

    let options = StreamOptions::new().record_bytes_max(500_000);
    drop(options.open(scratch.path()).unwrap());
    assert_eq!(record_bytes_max(1 << 20), 500_000, "one that was set stays");
    let error = open(64 << 10).unwrap_err();
    assert!(error.to_string().contains("record_bytes_max of 500000"), "{error}");
    assert_eq!(Stream::open(scratch.path()).unwrap().describe().segment_bytes, 1 << 20, "nothing is changed");
}

#[test]
fn p13_a_second_opener_is_told_at_once() {
    let scratch = common::scratch();
    let stream = Stream::open(scratch.path()).unwrap();
    assert!(matches!(Stream::open(scratch.path()), Err(Error::Locked(_))));
    let clone = stream.clone();
    stream.close().unwrap();
    let again = Stream::open(scratch.path()).expect("closing releases the lock, even if clones are left");
    assert!(matches!(clone.put("key", ""), Err(Error::Closed)));
    assert!(matches!(clone.split_shard_evenly(SHARD), Err(Error::Closed)));
    assert!(matches!(clone.update_shard_count(3), Err(Error::Closed)));
    assert!(matches!(clone.set_retention(Retention::forever()), Err(Error::Closed)));
    assert!(matches!(clone.maintain(), Err(Error::Closed)));
    drop(clone);
    assert!(
        matches!(Stream::open(scratch.path()), Err(Error::Locked(_))),
        "dropping a clone of a closed stream does not release the new handle's lock"
    );
    drop(again);
    Stream::open(scratch.path()).unwrap();
}

#[test]
fn p14_a_manifest_of_a_newer_version_is_told_from_damage() {
    let scratch = common::scratch();
    drop(Stream::open(scratch.path()).unwrap());
    let manifest = scratch.path().join("manifest.json");
    let text = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, text.replace("\"version\": 1", "\"version\": 7")).unwrap();
    let error = open_error(scratch.path());
    assert!(
        matches!(error, Error::UnsupportedFormat(_)) && error.to_string().contains("version 7"),
        "{error}"
    );
    fs::write(&manifest, text.replace("xxh3", "md5")).unwrap();
    let error = open_error(scratch.path());
    assert!(matches!(error, Error::Corrupt(_)) && error.to_string().contains("checksum"), "{error}");
}

#[test]
fn p9_segments_without_their_manifest_are_not_taken_for_nothing() {
    let scratch = common::scratch();
    some_segments(scratch.path());
    fs::remove_file(scratch.path().join("manifest.json")).unwrap();
    assert!(matches!(open_error(scratch.path()), Error::Corrupt(_)));
}

#[test]
fn p14_a_segment_of_a_newer_version_is_told_from_damage() {
    let scratch = common::scratch();
    some_segments(scratch.path());
    let last = common::segment_files(scratch.path(), 0).pop().unwrap();
    let mut bytes = fs::read(&last).unwrap();
    bytes[8] = 2;
    // That version's checksum, whatever it is, differs from ours.
    bytes[60] ^= 1;
    fs::write(&last, bytes).unwrap();
    let error = open_error(scratch.path());
    assert!(
        matches!(error, Error::UnsupportedFormat(_)) && error.to_string().contains("version 2"),
        "{error}"
    );
}

#[test]
fn p6_a_missing_segment_in_the_middle_is_an_error_where_it_was() {
    let scratch = common::scratch();
    some_segments(scratch.path());
    let missing = common::segment_files(scratch.path(), 0).remove(1);
    fs::remove_file(&missing).unwrap();
    let stream = common::small(&common::clock()).open(scratch.path()).unwrap();
    let mut iterator = stream.iterator(SHARD, Position::TrimHorizon).unwrap();
    let first: Vec<_> = iterator.records().collect();
    let (last, before) = first.split_last().unwrap();
    assert!(!before.is_empty() && before.iter().all(Result::is_ok), "the records before it can be read");
    let error = last.as_ref().unwrap_err();
    assert!(
        matches!(error, Error::Corrupt(damage) if damage.sequence == Some((before.len() as u64).into())),
        "{error}"
    );
    assert!(error.to_string().contains("missing"), "{error}");
    assert!(iterator.next_batch(1).is_err(), "the error stays");

    let found = stream.verify(|_| ControlFlow::Continue(())).unwrap();
    assert_eq!(found.damage.len(), 1);
    assert!(
        found.record_count < 20 && found.record_count > before.len() as u64,
        "the records after it can be read"
    );
}

#[test]
fn a_segment_of_another_shard_or_another_place_is_refused() {
    let scratch = common::scratch();
    let path = scratch.path().join("stream");
    let stream = common::small(&common::clock()).shards(2).open(&path).unwrap();
    for number in 0..10u8 {
        stream.put([number], [number; 100]).unwrap();
    }
    stream.close().unwrap();
    let (of_0, of_1) = (common::segment_files(&path, 0).remove(0), common::segment_files(&path, 1).remove(0));
    let original = fs::read(&of_0).unwrap();
    fs::copy(&of_1, &of_0).unwrap();
    let error = open_error(&path);
    assert!(error.to_string().contains("expected a segment of shardId-000000000000"), "{error}");
    fs::remove_file(&of_0).unwrap();
    fs::write(of_0.with_file_name("00000000000000000005.seg"), original).unwrap();
    let error = open_error(&path);
    assert!(error.to_string().contains("begins with sequence number 5, found 0"), "{error}");
}

#[test]
fn p9_damage_in_a_sealed_segment_is_met_where_it_is() {
    let scratch = common::scratch();
    some_segments(scratch.path());
    let file = common::segment_files(scratch.path(), 0).remove(0);
    let mut bytes = fs::read(&file).unwrap();
    bytes[30_000] ^= 4;
    fs::write(&file, bytes).unwrap();
    let stream = common::small(&common::clock()).open(scratch.path()).unwrap();
    let found = stream.verify(|_| ControlFlow::Continue(())).unwrap();
    let [damage] = &found.damage[..] else { panic!("{found:?}") };
    assert_eq!((&damage.path, damage.shard), (&file, Some(SHARD)));
    assert!(damage.offset <= 30_000 && damage.offset + 10_100 > 30_000, "{damage}");
    let mut iterator = stream.iterator(SHARD, Position::TrimHorizon).unwrap();
    let read: Vec<_> = iterator.records().collect();
    let error = read.last().unwrap().as_ref().unwrap_err();
    assert!(matches!(error, Error::Corrupt(told) if **told == *damage), "{error}");
}

#[test]
fn p9_a_damaged_index_or_trailer_costs_no_record() {
    for from_end in [1, 60, 100] {
        let scratch = common::scratch();
        some_segments(scratch.path());
        for file in common::segment_files(scratch.path(), 0) {
            let mut bytes = fs::read(&file).unwrap();
            let at = bytes.len() - from_end;
            bytes[at] ^= 4;
            fs::write(&file, bytes).unwrap();
        }
        let stream = common::small(&common::clock()).open(scratch.path()).unwrap();
        assert_eq!(common::read_all(&stream, SHARD).len(), 20);
        for number in 0..20u8 {
            let mut iterator = stream.iterator(SHARD, Position::At(u64::from(number).into())).unwrap();
            assert_eq!(iterator.next_batch(1).unwrap().iter().next().unwrap().data()[0], number);
        }
        assert_eq!(stream.verify(|_| ControlFlow::Continue(())).unwrap().damage, vec![]);
    }
}

#[test]
fn p11_a_truncated_or_flipped_file_gives_the_right_records_or_an_error() {
    let scratch = common::scratch();
    let pristine = scratch.path().join("pristine");
    let stream = common::small(&common::clock()).open(&pristine).unwrap();
    let expected: Vec<_> = (0..6u8).map(|number| (b"key".to_vec(), vec![number; 50])).collect();
    for (key, data) in &expected {
        stream.put(key, data).unwrap();
    }
    stream.close().unwrap();
    let file = common::segment_files(&pristine, 0).remove(0);
    let bytes = fs::read(&file).unwrap();
    let check = |changed: &[u8], what: &str| {
        let path = scratch.path().join("changed");
        common::copy_dir(&pristine, &path);
        fs::write(common::segment_files(&path, 0).remove(0), changed).unwrap();
        if let Ok(stream) = common::small(&common::clock()).open(&path) {
            let mut iterator = stream.iterator(SHARD, Position::TrimHorizon).unwrap();
            let read: Vec<_> = iterator.records().collect();
            let whole = read.iter().take_while(|record| record.is_ok()).count();
            for (record, expected) in read.iter().flatten().zip(&expected) {
                assert_eq!(record.data, expected.1, "{what}");
            }
            assert!(whole == expected.len() || read.len() > whole, "{what}: records are gone silently");
        }
        fs::remove_dir_all(&path).unwrap();
    };
    for len in (0..bytes.len()).step_by(13) {
        check(&bytes[..len], &format!("cut to {len} bytes"));
    }
    for at in (0..bytes.len()).step_by(7) {
        let mut changed = bytes.clone();
        changed[at] ^= 1 << (at % 8);
        check(&changed, &format!("a bit of byte {at} flipped"));
    }
}
