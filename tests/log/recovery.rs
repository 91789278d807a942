//! Opening again after kills, torn tails, damage and interrupted work: P1, P3, P7, P9, P15.

use crate::common;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use streamlog::{Error, Maintenance, Position, PutRecord, ShardId, Stream, StreamOptions};

const SHARD: ShardId = ShardId::new(0);
const HEADER_PAGE_BYTES: usize = 4096;

/// Makes a stream with some records in one segment, as a `kill -9` leaves it. Returns the bytes of its frames.
fn killed(pristine: &Path, record_count: u8, sync_after: Option<u8>) -> usize {
    let path = pristine.with_extension("running");
    let stream = common::small(&common::clock()).open(&path).unwrap();
    let mut frame_bytes = 0;
    for number in 0..record_count {
        stream.put("key", vec![number; 93]).unwrap();
        // A frame header, a record header, key and data, up to a multiple of 8.
        frame_bytes += 136;
        if sync_after == Some(number) {
            stream.sync().unwrap();
        }
    }
    common::copy_dir(&path, pristine);
    frame_bytes
}

fn open(path: &Path) -> streamlog::Result<Stream> {
    common::small(&common::clock()).open(path)
}

#[test]
fn p1_all_that_was_put_is_there_after_a_kill() {
    let scratch = common::scratch();
    let path = scratch.path().join("killed");
    let frame_bytes = killed(&path, 100, None);
    let stream = open(&path).unwrap();
    assert_eq!(common::read_all(&stream, SHARD).len(), 100);
    let report = &stream.recovery().shards[0];
    assert!(
        !report.was_closed_cleanly && report.torn_tail.is_none() && report.removed_files.is_empty(),
        "{report:?}"
    );
    assert_eq!(report.scanned_bytes as usize, HEADER_PAGE_BYTES + frame_bytes);
    assert_eq!(report.next_sequence, 100.into());
}

#[test]
fn the_put_after_a_kill_begins_a_new_segment_and_one_after_a_clean_close_does_not() {
    let scratch = common::scratch();
    let path = scratch.path().join("killed");
    killed(&path, 3, None);
    let stream = open(&path).unwrap();
    assert_eq!(stream.put("key", "").unwrap().sequence, 3.into());
    assert_eq!(common::segment_files(&path, 0).len(), 2);
    stream.close().unwrap();
    for number in 4..10 {
        let stream = open(&path).unwrap();
        assert_eq!(stream.put("key", "").unwrap().sequence, number.into());
        stream.close().unwrap();
        assert_eq!(common::segment_files(&path, 0).len(), 2, "opening and closing again adds no files");
    }
    assert_eq!(common::read_all(&open(&path).unwrap(), SHARD).len(), 10);
}

#[test]
fn opening_without_a_put_changes_no_file() {
    let scratch = common::scratch();
    let path = scratch.path().join("stream");
    open(&path).unwrap().put("key", "data").unwrap();
    let before = fs::read(&common::segment_files(&path, 0)[0]).unwrap();
    let manifest = fs::read(path.join("manifest.json")).unwrap();
    for _ in 0..3 {
        open(&path).unwrap().close().unwrap();
    }
    assert_eq!(fs::read(&common::segment_files(&path, 0)[0]).unwrap(), before);
    assert_eq!(fs::read(path.join("manifest.json")).unwrap(), manifest);
}

#[test]
fn p3_p7_a_torn_tail_is_cut_at_the_last_whole_frame_wherever_it_tears() {
    let scratch = common::scratch();
    let pristine = scratch.path().join("pristine");
    let running = common::small(&common::clock()).open(scratch.path().join("running")).unwrap();
    running.put("first", "record").unwrap();
    let batch: Vec<_> = (0..5).map(|_| PutRecord::new("of a", "batch of five")).collect();
    running.put_batch(&batch).unwrap();
    common::copy_dir(&scratch.path().join("running"), &pristine);
    let file = common::segment_files(&pristine, 0).remove(0);
    let bytes = fs::read(&file).unwrap();
    let end = bytes.iter().rposition(|&byte| byte != 0).unwrap() + 1;
    for tear in HEADER_PAGE_BYTES..end {
        let path = scratch.path().join("torn");
        common::copy_dir(&pristine, &path);
        let mut torn = bytes.clone();
        torn[tear..].fill(0);
        fs::write(common::segment_files(&path, 0).remove(0), torn).unwrap();
        let stream = open(&path).unwrap();
        let count = common::read_all(&stream, SHARD).len();
        assert!(
            count == 0 || count == 1,
            "P7: a batch is there or not: {count} records with zeros from {tear} on"
        );
        if count == 1 && tear > HEADER_PAGE_BYTES + 56 {
            let tail = stream.recovery().shards[0].torn_tail.as_ref().expect("a torn tail is reported");
            assert_eq!(tail.offset as usize, HEADER_PAGE_BYTES + 56);
        }
        stream.put("another", "record").unwrap();
        drop(stream);
        assert_eq!(
            common::read_all(&open(&path).unwrap(), SHARD).len(),
            count + 1,
            "torn records do not come back"
        );
        fs::remove_dir_all(path).unwrap();
    }
}

#[test]
fn p9_damage_below_the_synced_watermark_is_told_and_nothing_is_changed() {
    let scratch = common::scratch();
    let path = scratch.path().join("killed");
    killed(&path, 20, Some(9));
    let file = common::segment_files(&path, 0).remove(0);
    let mut bytes = fs::read(&file).unwrap();
    bytes[HEADER_PAGE_BYTES + 5 * 136 + 60] ^= 1;
    fs::write(&file, &bytes).unwrap();
    match open(&path) {
        Err(Error::Corrupt(damage)) => {
            assert_eq!((&damage.path, damage.offset), (&file, (HEADER_PAGE_BYTES + 5 * 136) as u64));
            assert_eq!((damage.shard, damage.sequence), (Some(SHARD), Some(5.into())));
            assert!(damage.reason.contains("was synced"), "{damage}");
        }
        other => panic!("{other:?}"),
    }
    assert!(fs::read(&file).unwrap() == bytes, "the file is unchanged");

    bytes[HEADER_PAGE_BYTES + 5 * 136 + 60] ^= 1;
    bytes[HEADER_PAGE_BYTES + 15 * 136 + 60] ^= 1;
    fs::write(&file, &bytes).unwrap();
    let stream = open(&path).expect("above the watermark it is a torn tail");
    assert_eq!(common::read_all(&stream, SHARD).len(), 15);
}

#[test]
fn p9_a_segment_that_is_lost_after_a_clean_close_is_missed() {
    let scratch = common::scratch();
    let path = scratch.path().join("stream");
    let stream = open(&path).unwrap();
    for _ in 0..20 {
        stream.put("key", vec![7; 10_000]).unwrap();
    }
    stream.close().unwrap();
    let last = common::segment_files(&path, 0).pop().unwrap();
    for lose in [|file: &Path| fs::remove_file(file).unwrap(), |file: &Path| fs::write(file, "").unwrap()] {
        let path = scratch.path().join("lost");
        common::copy_dir(&scratch.path().join("stream"), &path);
        lose(&path.join("shards/000000000000").join(last.file_name().unwrap()));
        let error = open(&path).unwrap_err();
        assert!(
            matches!(&error, Error::Corrupt(_)) && error.to_string().contains("up to sequence number 20"),
            "{error}"
        );
        fs::remove_dir_all(path).unwrap();
    }
}

#[test]
fn p3_p9_frames_without_their_header_page_are_a_torn_tail_if_nothing_of_them_was_synced() {
    let scratch = common::scratch();
    let path = scratch.path().join("killed");
    killed(&path, 10, None);
    let file = common::segment_files(&path, 0).remove(0);
    let whole = fs::read(&file).unwrap();
    let mut bytes = whole.clone();
    bytes[..HEADER_PAGE_BYTES].fill(0);
    fs::write(&file, &bytes).unwrap();
    let stream = open(&path).unwrap();
    let torn = stream.recovery().shards[0].torn_tail.as_ref().expect("P9: the torn tail is reported");
    assert_eq!((torn.offset, torn.bytes), (0, whole.len() as u64));
    assert_eq!(stream.put("key", "data").unwrap().sequence, 0.into());
    drop(stream);
    assert_eq!(common::read_all(&open(&path).unwrap(), SHARD).len(), 1);

    // If a synced slot of the page is left, it is damage.
    killed(&path, 10, None);
    bytes[2048..2064].copy_from_slice(&synced_slot(whole.len() as u64));
    fs::write(&file, bytes).unwrap();
    assert!(matches!(open(&path), Err(Error::Corrupt(_))));
}

/// Returns a slot that says how far a segment is synced: see `docs/FORMAT.md`.
fn synced_slot(bytes: u64) -> [u8; 16] {
    let mut slot = [0; 16];
    slot[..8].copy_from_slice(&bytes.to_le_bytes());
    let checksum = crc32fast::hash(&slot[..12]);
    slot[12..].copy_from_slice(&checksum.to_le_bytes());
    slot
}

#[test]
fn an_interrupted_creation_is_finished() {
    let scratch = common::scratch();
    let path = scratch.path().join("stream");
    drop(open(&path).unwrap());
    fs::rename(path.join("manifest.json"), path.join("manifest.new")).unwrap();
    open(&path).unwrap().put("key", "data").unwrap();
    // An interrupted roll leaves a file without a header: empty, or all zeros.
    let next = path.join("shards/000000000000/00000000000000000001.seg");
    fs::write(&next, "").unwrap();
    assert_eq!(open(&path).unwrap().put("key", "data").unwrap().sequence, 1.into());
    for (sequence, len) in [(2, 1 << 20), (3, 1), (4, 4_095), (5, 4_096)] {
        let next = path.join(format!("shards/000000000000/{sequence:020}.seg"));
        fs::write(next, vec![0; len]).unwrap();
        assert_eq!(open(&path).unwrap().put("key", "data").unwrap().sequence, sequence.into());
    }
    assert_eq!(common::read_all(&open(&path).unwrap(), SHARD).len(), 6);
}

#[test]
fn an_empty_directory_that_a_copy_left_out_is_made_again() {
    let scratch = common::scratch();
    let path = scratch.path().join("stream");
    drop(open(&path).unwrap());
    fs::remove_dir(path.join("shards/000000000000")).unwrap();
    open(&path).unwrap().put("key", "data").unwrap();
    drop(open(&path).unwrap());
    fs::remove_dir_all(path.join("shards/000000000000")).unwrap();
    assert!(matches!(open(&path), Err(Error::Corrupt(_))), "a directory with records is missed");
}

#[test]
fn an_idle_stream_takes_little_and_a_closed_one_only_what_it_holds() {
    let scratch = common::scratch();
    let path = scratch.path().join("stream");
    let stream = StreamOptions::new().shards(16).open(&path).unwrap();
    assert!(common::disk_bytes(&path) < 1 << 20, "a stream without a record has no segment");
    for key in 0..1_000u32 {
        stream.put(key.to_le_bytes(), "data").unwrap();
    }
    let idle = common::disk_bytes(&path);
    assert!((8 << 20..=17 << 20).contains(&idle), "{idle}");
    stream.close().unwrap();
    let closed = common::disk_bytes(&path);
    assert!(closed < 1 << 20, "{closed}");
}

#[test]
fn p15_opening_many_sealed_segments_takes_no_longer_than_listing_them() {
    const SEGMENT_COUNT: usize = 10_000;
    let scratch = common::scratch();
    let path = scratch.path().join("killed");
    let running = open(&scratch.path().join("running")).unwrap();
    running.put_batch(&vec![PutRecord::new("key", ""); SEGMENT_COUNT]).unwrap();
    common::copy_dir(&scratch.path().join("running"), &path);
    let stream = open(&path).unwrap();
    stream.put("key", "the first record of the next segment").unwrap();
    stream.close().unwrap();
    let files = common::segment_files(&path, 0);
    assert_eq!(files.len(), 2);
    // All but the last become files that would fail to open if anything read them.
    for number in 0..SEGMENT_COUNT {
        fs::write(files[0].with_file_name(format!("{number:020}.seg")), "").unwrap();
    }
    let started = Instant::now();
    let listed = fs::read_dir(files[0].parent().unwrap()).unwrap().count();
    let listing = started.elapsed();
    assert_eq!(listed, SEGMENT_COUNT + 1);
    let stream = open(&path).expect("only the last segment is read");
    let opening = stream.recovery().duration;
    assert!(opening < listing * 20 + Duration::from_millis(250), "{opening:?} to open, {listing:?} to list");
    assert_eq!(stream.put("key", "").unwrap().sequence, (SEGMENT_COUNT as u64 + 1).into());
}

/// Copies a stream again and again while it is written to, and opens the copies. Returns how many were refused as damaged.
fn copies_of_a_running_stream(segment_bytes: u64) -> usize {
    const COPY_COUNT: usize = 12;
    let scratch = common::scratch();
    let path = scratch.path().join("running");
    let options = || {
        StreamOptions::new().shards(2).segment_bytes(segment_bytes).sync_interval(Duration::from_millis(5))
    };
    let stream = options().open(&path).unwrap();
    let is_over = AtomicBool::new(false);
    let mut refused = 0;
    std::thread::scope(|scope| {
        for writer in 0..2u64 {
            let (stream, is_over) = (&stream, &is_over);
            scope.spawn(move || {
                for number in 0u64.. {
                    if is_over.load(Ordering::Relaxed) {
                        break;
                    }
                    let mut data = number.to_le_bytes().to_vec();
                    data.resize(8 + (number * 37 % 900) as usize, number as u8);
                    stream.put(writer.to_le_bytes(), data).unwrap();
                    if number.is_multiple_of(8) {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                }
            });
        }
        for number in 0..COPY_COUNT {
            // Each copy has something new, however fast the machine is.
            while stream.stats().unwrap().record_count() < (number as u64 + 1) * 500 {
                std::thread::yield_now();
            }
            let copy = scratch.path().join(format!("copy-{number}"));
            common::copy_dir(&path, &copy);
            match options().open(&copy) {
                Ok(copied) => {
                    let mut next = BTreeMap::new();
                    for shard in copied.shards() {
                        let mut iterator = copied.iterator(shard.id, Position::TrimHorizon).unwrap();
                        for record in iterator.records() {
                            match record {
                                Ok(record) => {
                                    let number = u64::from_le_bytes(*record.data.first_chunk().unwrap());
                                    let expected: &mut u64 =
                                        next.entry(record.partition_key.clone()).or_default();
                                    assert_eq!(number, *expected, "P3: a prefix of what was put");
                                    assert!(record.data[8..].iter().all(|&byte| byte == number as u8));
                                    *expected += 1;
                                }
                                Err(Error::Corrupt(_)) => refused += 1,
                                Err(error) => panic!("{error}"),
                            }
                        }
                    }
                }
                Err(Error::Corrupt(_)) => refused += 1,
                Err(error) => panic!("{error}"),
            }
            fs::remove_dir_all(copy).unwrap();
        }
        is_over.store(true, Ordering::Relaxed);
    });
    refused
}

#[test]
fn p3_p9_a_copy_made_while_the_stream_is_written_to_holds_a_prefix() {
    assert_eq!(copies_of_a_running_stream(64 << 20), 0, "within a segment it always opens");
    // Segments that came and went during the copy may be missing from it. Then an error reports that.
    copies_of_a_running_stream(64 << 10);
}

/// Not a test: the child that the kill test kills. Puts from several threads and prints each receipt.
#[test]
fn child() {
    let Ok(path) = std::env::var("STREAMLOG_KILL_TEST") else { return };
    let stream = StreamOptions::new().shards(2).segment_bytes(256 << 10).open(path).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let stream = &stream;
            scope.spawn(move || {
                for number in 0u64.. {
                    let data = vec![number as u8; (number * 37 % 3_000) as usize];
                    if number % 3 == 0 {
                        let keys = [thread.to_le_bytes(), (thread + 4).to_le_bytes()];
                        let records = [PutRecord::new(&keys[0], &data), PutRecord::new(&keys[1], &data)];
                        for outcome in stream.put_batch(&records).unwrap() {
                            let receipt = outcome.unwrap();
                            println!("{} {} {}", receipt.shard.get(), receipt.sequence, data.len());
                        }
                    } else {
                        let receipt = stream.put(thread.to_le_bytes(), &data).unwrap();
                        println!("{} {} {}", receipt.shard.get(), receipt.sequence, data.len());
                    }
                }
            });
        }
    });
}

fn spawn_child(path: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(common::child_test(module_path!()))
        .env("STREAMLOG_KILL_TEST", path)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn kill_rounds(rounds: u64) {
    let scratch = common::scratch();
    let path = scratch.path().join("stream");
    let mut receipts: BTreeMap<(u64, u64), u64> = BTreeMap::new();
    for round in 0..rounds {
        let mut child = spawn_child(&path);
        // The moment of the kill is counted in receipts, so that it does not depend on the machine's speed.
        let until = 1 + round.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 5_000;
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut printed = 0;
        let mut take = |line: String| {
            let fields: Vec<u64> = line.split(' ').filter_map(|field| field.parse().ok()).collect();
            if let [shard, sequence, len] = fields[..] {
                let known = receipts.insert((shard, sequence), len);
                assert_eq!(known, None, "P5: two puts got the same place");
                printed += 1;
            }
            printed
        };
        for line in lines.by_ref() {
            if take(line.unwrap()) >= until {
                break;
            }
        }
        child.kill().unwrap();
        // The last line may be cut in the middle; only whole ones are receipts.
        let rest: Vec<_> = lines.map_while(Result::ok).collect();
        if let Some((_, whole)) = rest.split_last() {
            for line in whole {
                take(line.clone());
            }
        }
        child.wait().unwrap();

        let stream =
            StreamOptions::new().maintenance(Maintenance::Manual).open(&path).expect("the stream opens");
        for shard in stream.shards() {
            let mut iterator = stream.iterator(shard.id, Position::TrimHorizon).unwrap();
            for (record, expected) in iterator.records().zip(0u64..) {
                let record = record.unwrap();
                assert_eq!(record.sequence.get(), expected, "gap-free");
                let promised = receipts.get(&(shard.id.get().into(), expected));
                assert!(promised.is_none_or(|&len| len == record.data.len() as u64));
            }
            let end = iterator.next_sequence().get();
            let of_shard = receipts.keys().filter(|(of, _)| *of == u64::from(shard.id.get()));
            let last = of_shard.map(|(_, sequence)| *sequence).max();
            assert!(
                last.is_none_or(|last| last < end),
                "P1: round {round}: receipt {last:?} is gone, the end is {end}"
            );
        }
    }
}

#[test]
fn p1_p13_every_printed_receipt_survives_kill_9() {
    kill_rounds(10);
}

#[test]
#[ignore = "a longer run of the test above: see docs/TESTING.md"]
fn p1_p13_every_printed_receipt_survives_kill_9_long() {
    kill_rounds(200);
}
