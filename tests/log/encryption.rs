//! Encrypted records can be read only with their key, only at the place where they were put, and keep every promise: P17.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use streamlog::{
    DataKey, Durability, Error, KeyError, KeyFile, KeyProvider, OwnedRecord, Position, PutRecord, Retention,
    SECOND, ShardId, Stream, StreamOptions, StreamReader, WrappedKey,
};

use crate::common;

use common::{any_compression, clock, sign_frame, small};

const SHARD: ShardId = ShardId::new(0);
/// Part of each key, header and data.
const SECRET: &str = "hush-5309";

fn keys(place: &Path) -> Arc<KeyFile> {
    let path = place.join("keys");
    Arc::new(if path.exists() { KeyFile::open(path).unwrap() } else { KeyFile::create(path).unwrap() })
}

fn data(number: u64) -> String {
    format!("{SECRET} {number} of a customer").repeat(number as usize % 5 + 1)
}

fn key(number: u64) -> String {
    format!("{SECRET}-{}", number % 97)
}

fn put(stream: &Stream, numbers: std::ops::Range<u64>) {
    let records: Vec<_> = numbers.map(|number| (key(number), data(number))).collect();
    let records: Vec<_> =
        records.iter().map(|(key, data)| PutRecord::new(key, data).header("trace", SECRET)).collect();
    match &records[..] {
        [one] => _ = stream.put_record(one).unwrap(),
        many => stream.put_batch(many).unwrap().into_iter().for_each(|receipt| _ = receipt.unwrap()),
    }
}

/// Returns all records, each with the number of the key that it was encrypted with.
fn read_all(reader: &StreamReader, records_max: usize, bytes_max: usize) -> Vec<(OwnedRecord, Option<u32>)> {
    let mut iterator = reader.iterator(SHARD, Position::TrimHorizon).unwrap();
    let mut read = vec![];
    loop {
        let batch = iterator.next_batch_within(records_max, bytes_max).unwrap();
        if batch.is_empty() {
            return read;
        }
        read.extend(batch.iter().map(|record| (record.into_owned(), batch.data_key())));
    }
}

fn assert_read(read: &[(OwnedRecord, Option<u32>)], keys: &[Option<u32>]) {
    assert_eq!(read.len(), keys.len());
    for (number, ((record, key), expected)) in (0..).zip(read.iter().zip(keys)) {
        assert_eq!((record.sequence.get(), &*record.data), (number, data(number).as_bytes()));
        assert_eq!(record.headers().get("trace"), Some(SECRET.as_bytes()));
        assert_eq!(key, expected, "record {number}");
    }
}

/// Returns all files below a directory.
fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

fn holds(path: &Path, text: &str) -> bool {
    fs::read(path).unwrap().windows(text.len()).any(|bytes| bytes == text.as_bytes())
}

/// Returns the offset, the number of the key and the nonce of each encrypted frame of a file, as FORMAT.md has it.
fn encrypted_frames(bytes: &[u8]) -> Vec<(usize, u32, [u8; 12])> {
    let word = |at: usize| u32::from_le_bytes(*bytes[at..].first_chunk().unwrap());
    let (mut at, mut found) = (4096, vec![]);
    while bytes.len() >= at + 48 && word(at) > 0 && word(at + 24) > 0 && at + word(at) as usize <= bytes.len()
    {
        if bytes[at + 29] == 1 {
            found.push((at, word(at + 32), *bytes[at + 36..].first_chunk().unwrap()));
        }
        at += word(at) as usize;
    }
    found
}

#[test]
fn p17_frames_of_all_kinds_lie_side_by_side_and_are_read_in_any_portions() {
    let (scratch, clock) = (common::scratch(), clock());
    let keys = keys(scratch.path());
    let path = scratch.path().join("stream");
    let (mut expected, mut latest) = (vec![], None);
    for round in 0..16u64 {
        let options = small(&clock).compression(any_compression(round));
        let options = match round % 4 {
            0 => options.decryption_only(Arc::clone(&keys)),
            _ => options.encryption(Arc::clone(&keys)),
        };
        let stream = options.open(&path).unwrap();
        if round % 4 != 0 {
            // Encryption was off before each of these, so a new key begins.
            latest = if round % 4 == 1 { Some(latest.map_or(0, |key: u32| key + 1)) } else { latest };
        }
        for size in [1, 3, 100, 1_000, 2] {
            let from = expected.len() as u64;
            put(&stream, from..from + size);
            let key = latest.filter(|_| round % 4 != 0);
            expected.resize((from + size) as usize, key);
            if round % 4 == 3 {
                stream.rotate_key().unwrap();
                latest = latest.map(|key| key + 1);
            }
        }
        let described = stream.describe().encryption;
        assert_eq!(described.as_ref().map(|key| key.data_key), latest.filter(|_| round % 4 != 0));
        assert!(described.is_none_or(|key| key.key_id == keys.key_id()));
        stream.close().unwrap();
    }
    let stream = small(&clock).encryption(Arc::clone(&keys)).open(&path).unwrap();
    let outside = StreamOptions::new().encryption(keys).open_reader(&path).unwrap();
    for reader in [&*stream, &outside] {
        for (records_max, bytes_max) in
            [(usize::MAX, usize::MAX), (1, usize::MAX), (7, usize::MAX), (1_000, 500), (150, 9_000)]
        {
            assert_read(&read_all(reader, records_max, bytes_max), &expected);
        }
        for sequence in (0..expected.len() as u64).step_by(37) {
            let mut iterator = reader.iterator(SHARD, Position::At(sequence.into())).unwrap();
            let batch = iterator.next_batch(3).unwrap();
            assert_eq!(batch.first_sequence(), Some(sequence.into()));
            assert_eq!(batch.iter().next().unwrap().data(), data(sequence).as_bytes());
        }
        let verified = reader.verify(|_| ControlFlow::Continue(())).unwrap();
        assert_eq!((verified.record_count, verified.unread_count), (expected.len() as u64, 0));
        assert_eq!(verified.damage.len(), 0);
    }
}

#[test]
fn p17_no_file_of_the_stream_and_its_groups_shows_what_was_put() {
    for durability in [Durability::Process, Durability::Power] {
        let (scratch, clock) = (common::scratch(), clock());
        let path = scratch.path().join("stream");
        let options = small(&clock).encryption(keys(scratch.path())).durability(durability);
        let stream = options.shards(2).open(&path).unwrap();
        let mut worker = stream.group("billing").worker().open().unwrap();
        put(&stream, 0..500);
        (500..600).for_each(|number| put(&stream, number..number + 1));
        stream.put(SECRET, SECRET.repeat(5_000)).unwrap();
        stream.split_shard_evenly(SHARD).unwrap();
        put(&stream, 600..700);
        let mut count = 0;
        while let Some(batch) = worker.poll(Duration::ZERO).unwrap() {
            count += batch.len();
            worker.commit(&batch).unwrap();
        }
        assert_eq!(count, 701);
        stream.snapshot(scratch.path().join("copy"), |_| ControlFlow::Continue(())).unwrap();
        drop(worker);
        stream.close().unwrap();
        let all = files(scratch.path());
        assert!(all.iter().filter(|file| file.to_string_lossy().contains("groups")).count() > 4, "{all:?}");
        for file in all {
            assert!(!holds(&file, SECRET), "{}", file.display());
            // The checkpoints are records with the names of shards as their keys.
            let is_log = file.extension().is_some_and(|extension| extension == "seg");
            assert!(!is_log || !holds(&file, "shardId"), "{}", file.display());
        }
        // With the key, the copy holds the same, and the group's place.
        let copy = small(&clock).encryption(keys(scratch.path())).open(scratch.path().join("copy")).unwrap();
        assert_eq!(copy.stats().unwrap().record_count(), 701);
        let mut worker = copy.group("billing").worker().open().unwrap();
        assert!(worker.poll(Duration::ZERO).unwrap().is_none(), "all were handled");
    }
}

#[test]
fn p17_without_the_key_all_works_that_does_not_look_into_records() {
    let (scratch, clock) = (common::scratch(), clock());
    let (path, keys) = (scratch.path().join("stream"), keys(scratch.path()));
    let options = small(&clock).retention(Retention::age(10 * SECOND));
    let stream = options.clone().encryption(Arc::clone(&keys)).open(&path).unwrap();
    put(&stream, 0..1_000);
    clock.advance(8 * SECOND);
    stream.maintain().unwrap();
    put(&stream, 1_000..2_000);
    drop(stream);

    let stream = options.clone().open(&path).unwrap();
    let outside = StreamReader::open(&path).unwrap();
    let unavailable = |error: Error| match error {
        Error::KeyUnavailable(key) => {
            assert_eq!((key.data_key, &*key.key_id, &*key.path), (0, keys.key_id(), &*path));
            key.to_string()
        }
        other => panic!("{other:?}"),
    };
    for reader in [&*stream, &outside] {
        let encryption = reader.describe().encryption.unwrap();
        assert_eq!((encryption.data_key, &*encryption.key_id), (0, keys.key_id()));
        assert_eq!(reader.stats().unwrap().record_count(), 2_000);
        for position in [Position::TrimHorizon, Position::At(1_500.into())] {
            let mut iterator = reader.iterator(SHARD, position).unwrap();
            let said = unavailable(iterator.next_batch(10).unwrap_err());
            assert!(said.contains("StreamOptions::encryption"), "{said}");
        }
        let found = reader.verify(|_| ControlFlow::Continue(())).unwrap();
        assert_eq!((found.record_count, found.unread_count, found.damage.len()), (0, 2_000, 0));
        assert!(found.is_complete);
    }
    unavailable(stream.put("key", "data").unwrap_err());
    for outcome in stream.put_batch(&[PutRecord::new("a", "1"), PutRecord::new("b", "2")]).unwrap() {
        unavailable(outcome.unwrap_err());
    }
    assert_eq!(stream.stats().unwrap().record_count(), 2_000, "nothing was put in plain");
    unavailable(stream.rotate_key().unwrap_err());
    clock.advance(3 * SECOND);
    stream.maintain().unwrap();
    let left = stream.stats().unwrap().record_count();
    assert!((1_000..2_000).contains(&left), "retention dropped the older ones: {left}");
    let children = stream.split_shard_evenly(SHARD).unwrap();
    assert_eq!(children.len(), 2);
    stream.close().unwrap();

    // A wrong key is detected immediately, and changes nothing.
    let wrong = KeyFile::create(scratch.path().join("wrong")).unwrap();
    let said = unavailable(options.clone().encryption(wrong).open(&path).unwrap_err());
    assert!(said.contains("wrong does not have it"), "{said}");
    let stream = options.encryption(keys).open(&path).unwrap();
    let mut iterator = stream.iterator(SHARD, Position::TrimHorizon).unwrap();
    assert_eq!(iterator.records().map(Result::unwrap).count() as u64, left);
    put(&stream, 2_000..2_100);
}

/// Changes the file of a stream's first segment with `change`, and opens the stream.
fn open_changed(change: impl FnOnce(&mut Vec<u8>, &Path)) -> (tempfile::TempDir, Stream) {
    let (scratch, clock) = (common::scratch(), clock());
    let path = scratch.path().join("stream");
    let options = small(&clock).encryption(keys(scratch.path()));
    let stream = options.clone().open(&path).unwrap();
    for number in 0..20 {
        // All frames are of the same length.
        stream.put(format!("key-{number:02}"), format!("{SECRET} {number:02}")).unwrap();
    }
    stream.close().unwrap();
    let file = common::segment_files(&path, 0).remove(0);
    let mut bytes = fs::read(&file).unwrap();
    change(&mut bytes, scratch.path());
    fs::write(&file, bytes).unwrap();
    (scratch, options.open(&path).unwrap())
}

/// Returns the number of records read before the damage, and the reason of the error.
fn read_to_damage(stream: &Stream) -> (u64, String) {
    let mut iterator = stream.iterator(SHARD, Position::TrimHorizon).unwrap();
    loop {
        match iterator.next_batch(3) {
            Ok(batch) => assert!(!batch.is_empty(), "no damage was met before {}", iterator.next_sequence()),
            Err(Error::Corrupt(damage)) => return (iterator.next_sequence().get(), damage.reason),
            Err(other) => panic!("{other:?}"),
        }
    }
}

/// Returns where a frame of the file is, and the file's salt.
fn frame(bytes: &[u8], number: usize) -> (std::ops::Range<usize>, Vec<u8>) {
    let frames = encrypted_frames(bytes);
    let (at, len) = (frames[number].0, frames[1].0 - frames[0].0);
    (at..at + len, bytes[common::SALT].to_vec())
}

#[test]
fn p17_a_frame_that_was_changed_moved_swapped_or_replayed_is_refused_whatever_its_checksum_says() {
    let sequence_of = |bytes: &mut [u8], at: usize, number: u64| {
        bytes[at + 8..at + 16].copy_from_slice(&number.to_le_bytes());
    };
    // Each byte from the arrival time on, except fields whose change makes the frame invalid.
    for at in (16..24).chain(32..72) {
        let (_scratch, stream) = open_changed(|bytes, _| {
            let (place, salt) = frame(bytes, 7);
            bytes[place.start + at] ^= 1;
            sign_frame(bytes, place.start, &salt);
        });
        let mut iterator = stream.iterator(SHARD, Position::TrimHorizon).unwrap();
        assert_eq!(iterator.next_batch(100).unwrap().len(), 7, "byte {at}");
        match iterator.next_batch(100).unwrap_err() {
            Error::Corrupt(damage) => assert!(damage.reason.contains("somebody"), "byte {at}: {damage}"),
            Error::KeyUnavailable(key) => assert!((32..36).contains(&at), "byte {at}: {key}"),
            other => panic!("byte {at}: {other:?}"),
        }
    }
    // Two frames swap places, with corrected sequence numbers.
    let (_scratch, stream) = open_changed(|bytes, _| {
        let ((first, salt), (second, _)) = (frame(bytes, 3), frame(bytes, 4));
        let moved = bytes[first.clone()].to_vec();
        bytes.copy_within(second.clone(), first.start);
        bytes[second.clone()].copy_from_slice(&moved);
        sequence_of(bytes, first.start, 3);
        sequence_of(bytes, second.start, 4);
        sign_frame(bytes, first.start, &salt);
        sign_frame(bytes, second.start, &salt);
    });
    assert!(read_to_damage(&stream).1.contains("somebody"));
    // A frame replaces a later one.
    let (_scratch, stream) = open_changed(|bytes, _| {
        let ((first, salt), (second, _)) = (frame(bytes, 3), frame(bytes, 9));
        bytes.copy_within(first, second.start);
        sequence_of(bytes, second.start, 9);
        sign_frame(bytes, second.start, &salt);
    });
    let (read, reason) = read_to_damage(&stream);
    assert!(read == 9 && reason.contains("somebody"), "{read}: {reason}");
    // The frame of the same shard and number from another stream with the same key file.
    let (_scratch, stream) = open_changed(|bytes, place| {
        let path = place.join("other");
        let other = small(&clock()).encryption(keys(place)).open(&path).unwrap();
        (0..20).for_each(|number| _ = other.put(format!("key-{number:02}"), "other-900 12").unwrap());
        other.close().unwrap();
        let others = fs::read(common::segment_files(&path, 0).remove(0)).unwrap();
        let (place, salt) = frame(bytes, 5);
        bytes[place.clone()].copy_from_slice(&others[frame(&others, 5).0]);
        sign_frame(bytes, place.start, &salt);
    });
    let (read, reason) = read_to_damage(&stream);
    assert!(read == 5 && reason.contains("somebody"), "{read}: {reason}");
    // A frame is cut short.
    let (_scratch, stream) = open_changed(|bytes, _| {
        let (place, salt) = frame(bytes, 5);
        let len = u32::from_le_bytes(*bytes[place.start..].first_chunk().unwrap()) - 8;
        bytes[place.start..place.start + 4].copy_from_slice(&len.to_le_bytes());
        sign_frame(bytes, place.start, &salt);
    });
    let (read, reason) = read_to_damage(&stream);
    assert!(read == 5 && reason.contains("somebody"), "{read}: {reason}");
}

#[test]
fn p17_a_frame_that_a_segment_had_before_it_was_begun_again_is_refused() {
    let (scratch, clock) = (common::scratch(), clock());
    let options = || small(&clock).encryption(keys(scratch.path()));
    let path = scratch.path().join("stream");
    options().open(&path).unwrap().close().unwrap();
    // Two copies have the same keys, and begin the same segment with the same number, but each with its own salt.
    let read_first = |name: &str, text: &str| {
        let copy = scratch.path().join(name);
        common::copy_dir(&path, &copy);
        options().open(&copy).unwrap().put("key", text).unwrap();
        let file = common::segment_files(&copy, 0).remove(0);
        (fs::read(&file).unwrap(), file, copy)
    };
    let (earlier, ..) = read_first("earlier", "pay 100");
    let (mut bytes, file, copy) = read_first("later", "pay 200");
    let (at, ..) = encrypted_frames(&bytes)[0];
    let len = u32::from_le_bytes(*bytes[at..].first_chunk().unwrap()) as usize;
    assert_ne!(bytes[common::SALT], earlier[common::SALT]);
    bytes[at..at + len].copy_from_slice(&earlier[at..at + len]);
    let salt = bytes[common::SALT].to_vec();
    sign_frame(&mut bytes, at, &salt);
    fs::write(&file, bytes).unwrap();
    let (read, reason) = read_to_damage(&options().open(&copy).unwrap());
    assert!(read == 0 && reason.contains("somebody"), "{read}: {reason}");
}

#[test]
fn p17_no_nonce_is_used_twice_with_a_key_whatever_ends_a_segment() {
    let (scratch, clock) = (common::scratch(), clock());
    let keys = keys(scratch.path());
    let options = || small(&clock).encryption(Arc::clone(&keys));
    let mut path = scratch.path().join("stream-0");
    let mut seen: BTreeMap<(Vec<u8>, u32, [u8; 12]), Vec<u8>> = BTreeMap::new();
    let mut count = 0;
    for round in 1..60u64 {
        let stream = options().open(&path).unwrap();
        count = stream.stats().unwrap().shards[0].next_sequence.get();
        let to = count + round * 7_919 % 40;
        (count..to).for_each(|number| put(&stream, number..number + 1));
        if round % 5 == 0 {
            stream.rotate_key().unwrap();
            put(&stream, to..to + 30);
        }
        if round % 3 == 0 {
            stream.close().unwrap();
        }
        // As a process killed now would leave it, and sometimes without its last frames.
        let killed = scratch.path().join(format!("stream-{round}"));
        common::copy_dir(&path, &killed);
        let files = common::segment_files(&killed, 0);
        for file in &files {
            let bytes = fs::read(file).unwrap();
            let frames = encrypted_frames(&bytes);
            for &(at, key, nonce) in &frames {
                let len = u32::from_le_bytes(*bytes[at..].first_chunk().unwrap()) as usize;
                let frame = bytes[at..at + len].to_vec();
                let name = (bytes[common::SALT].to_vec(), key, nonce);
                let known = seen.entry(name).or_insert_with(|| frame.clone());
                assert_eq!(*known, frame, "round {round}: two frames have the same key and nonce");
            }
            if round % 3 != 0 && to > count + 2 && Some(file) == files.last() {
                let mut torn = bytes;
                torn[frames[frames.len() - 1].0..].fill(0);
                fs::write(file, torn).unwrap();
            }
        }
        path = killed;
    }
    assert!(seen.len() > 500 && count > 500, "{} frames, {count} records", seen.len());
    let nonces: BTreeSet<_> = seen.keys().map(|(.., nonce)| nonce[..8].to_vec()).collect();
    assert!(
        nonces.len() > 50,
        "each time a segment is begun or continued, the nonces begin with other bytes"
    );
}

/// Lets the putting thread run to its end even if the other one panics.
struct EndsWaits<'a>(&'a AtomicU32);

impl Drop for EndsWaits<'_> {
    fn drop(&mut self) {
        self.0.store(u32::MAX, Ordering::Relaxed);
    }
}

#[test]
fn p17_a_key_is_rotated_while_the_stream_is_put_to_and_read() {
    const ROTATIONS: u32 = 20;
    let (scratch, clock) = (common::scratch(), clock());
    let keys = keys(scratch.path());
    let path = scratch.path().join("stream");
    let stream = small(&clock).encryption(Arc::clone(&keys)).open(&path).unwrap();
    let outside = StreamOptions::new().encryption(Arc::clone(&keys)).open_reader(&path).unwrap();
    let mut iterator = outside.iterator(SHARD, Position::TrimHorizon).unwrap();
    // A little more is put than is needed for the next rotation.
    let wanted = AtomicU32::new(100);
    let count = std::thread::scope(|threads| {
        let _ends = EndsWaits(&wanted);
        let putting = threads.spawn(|| {
            let mut count = 0;
            while count < u64::from(ROTATIONS + 2) * 100 {
                while count >= u64::from(wanted.load(Ordering::Relaxed)) {
                    std::thread::yield_now();
                }
                put(&stream, count..count + 1 + count % 7);
                count += 1 + count % 7;
            }
            count
        });
        let mut read = 0;
        for rotation in 0..ROTATIONS {
            while stream.stats().unwrap().record_count() < u64::from(rotation) * 100 + 50 {}
            stream.rotate_key().unwrap();
            wanted.fetch_add(100, Ordering::Relaxed);
            let (before, key) = (stream.stats().unwrap().shards[0].next_sequence, rotation + 1);
            // Records put after the call have the new key. This reader learns of it when it reads them.
            while iterator.next_sequence() <= before {
                let batch = iterator.next_batch(100).unwrap();
                for record in &batch {
                    assert_eq!(record.data(), data(read).as_bytes());
                    assert!(record.sequence() < before || batch.data_key() >= Some(key), "{batch:?}");
                    read += 1;
                }
            }
        }
        wanted.fetch_add(100, Ordering::Relaxed);
        putting.join().unwrap()
    });
    let read = read_all(&stream, 100, usize::MAX);
    assert_eq!(read.len() as u64, count);
    let used: BTreeSet<_> = read.iter().map(|(_, key)| key.unwrap()).collect();
    assert_eq!(used, (0..=ROTATIONS).collect());
}

#[test]
fn p17_checkpoints_are_encrypted_like_the_stream_wherever_the_group_runs() {
    let (scratch, clock) = (common::scratch(), clock());
    let (path, keys) = (scratch.path().join("stream"), keys(scratch.path()));
    let stream = small(&clock).open(&path).unwrap();
    // The group is older than the stream's encryption.
    put(&stream, 0..100);
    let mut worker = stream.group("billing").worker().open().unwrap();
    let batch = worker.poll(Duration::ZERO).unwrap().unwrap();
    worker.commit(&batch).unwrap();
    drop((worker, batch));
    stream.close().unwrap();
    let key_of_group = || {
        let manifest = fs::read_to_string(path.join("groups/billing/manifest.json")).unwrap();
        let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
        manifest["stream"]["encryption"]["data_keys"].as_array().map_or(0, Vec::len)
    };
    assert_eq!(key_of_group(), 0);

    let stream = small(&clock).encryption(Arc::clone(&keys)).open(&path).unwrap();
    put(&stream, 100..200);
    let mut worker = stream.group("billing").worker().open().unwrap();
    let batch = worker.poll(Duration::ZERO).unwrap().unwrap();
    assert_eq!(batch.first_sequence(), Some(100.into()));
    stream.rotate_key().unwrap();
    worker.commit(&batch).unwrap();
    assert_eq!(key_of_group(), 2, "one from its opening, one from the rotation");
    drop((worker, batch));
    put(&stream, 200..300);

    // In another process, with the key and without it.
    let outside = StreamOptions::new().encryption(Arc::clone(&keys)).open_reader(&path).unwrap();
    let mut worker = outside.group("billing").worker().open().unwrap();
    let batch = worker.poll(Duration::ZERO).unwrap().unwrap();
    assert_eq!(batch.first_sequence(), Some(200.into()));
    worker.commit(&batch).unwrap();
    drop((worker, batch));
    let blind = StreamReader::open(&path).unwrap();
    assert!(matches!(blind.group("billing").worker().open(), Err(Error::KeyUnavailable(_))));
    assert!(matches!(blind.group("billing").describe(), Err(Error::KeyUnavailable(_))));
    assert_eq!(stream.group("billing").describe().unwrap().lag().record_count, 0);
}

#[test]
fn p9_p17_damage_in_an_encrypted_frame_is_found_salvaged_and_counted_without_the_key_too() {
    for with_key in [true, false] {
        let (scratch, clock) = (common::scratch(), clock());
        let (path, keys) = (scratch.path().join("stream"), keys(scratch.path()));
        let stream = small(&clock).encryption(Arc::clone(&keys)).open(&path).unwrap();
        (0..100).for_each(|batch| put(&stream, batch * 100..batch * 100 + 100));
        stream.close().unwrap();
        let file = common::segment_files(&path, 0).remove(0);
        let mut bytes = fs::read(&file).unwrap();
        bytes[20_000] ^= 1;
        fs::write(&file, bytes).unwrap();
        let options = || match with_key {
            true => small(&clock).encryption(Arc::clone(&keys)),
            false => small(&clock),
        };
        let checked = |stream: &Stream| {
            let found = stream.verify(|_| ControlFlow::Continue(())).unwrap();
            assert_eq!(found.record_count == 0, !with_key);
            assert_eq!(found.record_count + found.unread_count, 10_000 - 100);
            (found.damage.len(), found.lost.len())
        };
        let stream = options().open(&path).unwrap();
        assert_eq!(checked(&stream), (1, 0));
        stream.close().unwrap();
        let stream = options().salvage(true).open(&path).unwrap();
        let lost = &stream.recovery().shards[0].lost[0];
        assert_eq!(lost.sequences.end.get() - lost.sequences.start.get(), 100);
        assert_eq!(checked(&stream), (0, 1));
    }
}

/// Counts calls, and refuses them while told to.
#[derive(Debug)]
struct Strict {
    inner: Arc<KeyFile>,
    asked: AtomicU32,
    refuses: AtomicBool,
}

impl Strict {
    fn check(&self) -> Result<(), KeyError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if self.refuses.load(Ordering::Relaxed) { Err("the service is down".into()) } else { Ok(()) }
    }
}

impl KeyProvider for Strict {
    fn wrap(&self, key: &DataKey, context: &[u8]) -> Result<WrappedKey, KeyError> {
        self.check()?;
        self.inner.wrap(key, context)
    }

    fn unwrap(&self, wrapped: &WrappedKey, context: &[u8]) -> Result<DataKey, KeyError> {
        self.check()?;
        self.inner.unwrap(wrapped, context)
    }
}

#[test]
fn p17_a_provider_is_asked_once_for_each_key_and_its_refusal_is_passed_on() {
    let (scratch, clock) = (common::scratch(), clock());
    let path = scratch.path().join("stream");
    let inner = keys(scratch.path());
    let strict = Arc::new(Strict { inner, asked: AtomicU32::new(0), refuses: AtomicBool::new(true) });
    let options = || small(&clock).encryption(Arc::clone(&strict));
    let refused = options().open(&path).unwrap_err();
    assert!(refused.to_string().contains("the service is down"), "{refused}");
    assert!(matches!(refused, Error::KeyUnavailable(_)));
    strict.refuses.store(false, Ordering::Relaxed);
    let stream = options().open(&path).unwrap();
    put(&stream, 0..10);
    strict.refuses.store(true, Ordering::Relaxed);
    assert!(stream.rotate_key().unwrap_err().to_string().contains("the service is down"));
    put(&stream, 10..20);
    assert_eq!(stream.describe().encryption.unwrap().data_key, 0, "the key before goes on");
    strict.refuses.store(false, Ordering::Relaxed);
    stream.rotate_key().unwrap();
    put(&stream, 20..1_000);
    stream.close().unwrap();

    strict.asked.store(0, Ordering::Relaxed);
    let stream = options().open(&path).unwrap();
    for count in 1_000..1_003 {
        assert_eq!(read_all(&stream, 10, usize::MAX).len(), count);
        put(&stream, 0..1);
    }
    assert_eq!(strict.asked.load(Ordering::Relaxed), 2, "two keys");
}

#[test]
fn p17_encryption_is_switched_on_and_off_while_records_are_put_and_read() {
    let (scratch, clock) = (common::scratch(), clock());
    let (path, keys) = (scratch.path().join("stream"), keys(scratch.path()));
    let options = || small(&clock).encryption_keys(Arc::clone(&keys));
    let stream = options().open(&path).unwrap();
    assert!(stream.describe().encryption.is_none(), "a new stream is plain");
    let is_over = AtomicBool::new(false);
    let put_count = std::thread::scope(|scope| {
        let putting = scope.spawn(|| {
            let mut count = 0;
            while !is_over.load(Ordering::Relaxed) {
                put(&stream, count..count + 3);
                put(&stream, count + 3..count + 4);
                count += 4;
            }
            count
        });
        for round in 1..=400 {
            let is_on = round % 2 == 1;
            stream.set_encrypted(is_on).unwrap();
            // Records put after it returns follow the new setting.
            let receipt = stream.put("later", "").unwrap();
            let mut iterator = stream.iterator(SHARD, Position::At(receipt.sequence)).unwrap();
            let data_key = iterator.next_batch_within(1, usize::MAX).unwrap().data_key();
            assert_eq!(data_key, is_on.then_some(round / 2), "each time with a key of its own");
        }
        is_over.store(true, Ordering::Relaxed);
        putting.join().unwrap()
    });
    let read = read_all(&stream, 50, 1 << 20);
    let ours: Vec<_> = read.iter().filter(|(record, _)| record.partition_key != "later").collect();
    assert_eq!(ours.len() as u64, put_count);
    assert!(ours.iter().zip(0..).all(|((record, _), number)| record.data == data(number)));
    stream.close().unwrap();
    // Neither an opening nor a `set_encrypted` that changes nothing makes a new key.
    for is_on in [true, false] {
        let stream = options().open(&path).unwrap();
        stream.set_encrypted(is_on).unwrap();
        let data_key = stream.describe().encryption.map(|it| it.data_key);
        stream.set_encrypted(is_on).unwrap();
        stream.close().unwrap();
        let stream = options().open(&path).unwrap();
        assert_eq!(stream.describe().encryption.map(|it| it.data_key), data_key);
        assert_eq!(data_key.is_some(), is_on);
        stream.close().unwrap();
    }
}

#[test]
fn p17_a_stream_without_keys_cannot_be_encrypted() {
    let (scratch, clock) = (common::scratch(), clock());
    let stream = small(&clock).open(scratch.path().join("stream")).unwrap();
    let refused = stream.set_encrypted(true).unwrap_err();
    assert!(matches!(refused, Error::KeyUnavailable(_)), "{refused}");
    stream.put("a", "").unwrap();
    assert!(stream.describe().encryption.is_none());
}

/// Wraps keys, and refuses to unwrap them while told to.
#[derive(Debug)]
struct Refusing(Arc<KeyFile>, Arc<AtomicBool>);

impl KeyProvider for Refusing {
    fn wrap(&self, key: &DataKey, context: &[u8]) -> Result<WrappedKey, KeyError> {
        self.0.wrap(key, context)
    }

    fn unwrap(&self, wrapped: &WrappedKey, context: &[u8]) -> Result<DataKey, KeyError> {
        match self.1.load(Ordering::Relaxed) {
            true => Err("not now".into()),
            false => self.0.unwrap(wrapped, context),
        }
    }
}

#[test]
fn p17_a_key_that_cannot_be_had_when_encryption_is_switched_on_lets_nothing_through_in_plain() {
    let (scratch, clock) = (common::scratch(), clock());
    let refuses = Arc::new(AtomicBool::new(true));
    let keys = Refusing(keys(scratch.path()), Arc::clone(&refuses));
    let stream = small(&clock).encryption_keys(keys).open(scratch.path().join("stream")).unwrap();
    stream.put("a", "plain").unwrap();
    assert!(matches!(stream.set_encrypted(true), Err(Error::KeyUnavailable(_))));
    assert!(matches!(stream.put("a", "neither"), Err(Error::KeyUnavailable(_))));
    refuses.store(false, Ordering::Relaxed);
    stream.set_encrypted(true).unwrap();
    stream.put("a", "hidden").unwrap();
    let read = read_all(&stream, 1, 1 << 20);
    let read: Vec<_> = read.iter().map(|(record, key)| (&record.data[..], *key)).collect();
    assert_eq!(read, [(&b"plain"[..], None), (b"hidden", Some(0))]);
}
