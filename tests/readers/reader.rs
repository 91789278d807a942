//! Readers in other processes: they read the same records as one inside, in the same order, or fail with an error that says why not (L8).
//!
//! A reader that is opened by its path shares nothing with the stream of the same process: it has files and mappings of its own. So most of
//! these tests need no second process. `tests/readers/model.rs` has some.

use std::fs;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use streamlog::{
    Durability, Error, LineageIterator, Position, Retention, SECOND, ShardFilter, Stream, StreamOptions,
    StreamReader, wait_any,
};

use crate::common;

use common::{clock, small};

fn read_on(iterator: &mut LineageIterator) -> Vec<u64> {
    let mut read = vec![];
    loop {
        let batch = iterator.next_batch(7).unwrap();
        if batch.is_empty() {
            return read;
        }
        read.extend(batch.iter().map(|record| number_in(record.data())));
    }
}

fn read_all(reader: &StreamReader) -> Vec<u64> {
    read_on(&mut reader.lineage_iterator(Position::TrimHorizon).unwrap())
}

fn data(number: u64) -> Vec<u8> {
    let mut data = number.to_le_bytes().to_vec();
    data.resize(200, 7);
    data
}

fn number_in(data: &[u8]) -> u64 {
    u64::from_le_bytes(*data.first_chunk().unwrap())
}

fn put(stream: &Stream, numbers: std::ops::Range<u64>) {
    for number in numbers {
        stream.put("key", data(number)).unwrap();
    }
}

#[test]
fn l8_a_put_that_returned_is_visible_at_once_across_rolls_and_seals() {
    for durability in [Durability::Process, Durability::Power] {
        let scratch = common::scratch();
        let stream = small(&clock()).durability(durability).open(scratch.path()).unwrap();
        let reader = StreamReader::open(scratch.path()).unwrap();
        assert_eq!(reader.describe().durability, durability);
        let shard = stream.shards()[0].id;
        let mut iterator = reader.iterator(shard, Position::TrimHorizon).unwrap();
        let mut early = None;
        for number in 0..2_000u64 {
            let receipt = stream.put("key", data(number)).unwrap();
            let batch = iterator.next_batch(10).unwrap();
            assert_eq!(batch.first_sequence(), Some(receipt.sequence));
            assert_eq!(number_in(batch.iter().next().unwrap().data()), number);
            assert!(iterator.next_batch(10).unwrap().is_empty());
            match number {
                500 => early = Some(reader.iterator(shard, Position::TrimHorizon).unwrap()),
                n if n % 300 == 0 => stream.maintain().unwrap(),
                _ => {}
            }
        }
        let read: usize = early.unwrap().map(|batch| batch.unwrap().len()).sum();
        assert_eq!(read, 2_000);
        let (own, followed) = (stream.stats().unwrap(), reader.stats().unwrap());
        assert_eq!((own.record_count(), own.disk_bytes()), (followed.record_count(), followed.disk_bytes()));
        assert_eq!(own.shards[0].synced_sequence, followed.shards[0].synced_sequence);
        assert_eq!(own.traffic().incoming_records, followed.traffic().incoming_records);
        assert_eq!(own.traffic().incoming_bytes, followed.traffic().incoming_bytes);
        let verified = reader.verify(|_| std::ops::ControlFlow::Continue(())).unwrap();
        assert_eq!((verified.record_count, verified.damage), (2_000, vec![]));
    }
}

#[test]
fn l8_a_frame_larger_than_a_segment_and_a_batch_are_read_like_any_other() {
    let scratch = common::scratch();
    let stream = small(&clock()).open(scratch.path()).unwrap();
    let reader = StreamReader::open(scratch.path()).unwrap();
    let mut iterator = reader.lineage_iterator(Position::TrimHorizon).unwrap();
    put(&stream, 0..10);
    assert_eq!(read_on(&mut iterator).len(), 10);
    let records: Vec<Vec<u8>> = (10..2_000).map(data).collect();
    let batch: Vec<_> = records.iter().map(|data| streamlog::PutRecord::new("key", data)).collect();
    stream.put_batch(&batch).unwrap();
    assert_eq!(read_on(&mut iterator), (10..2_000).collect::<Vec<_>>());
    put(&stream, 2_000..2_300);
    assert_eq!(read_on(&mut iterator), (2_000..2_300).collect::<Vec<_>>());
}

#[test]
fn l8_splits_merges_and_expired_shards_are_followed() {
    let (scratch, clock) = (common::scratch(), clock());
    let stream = small(&clock).retention(Retention::age(10 * SECOND)).open(scratch.path()).unwrap();
    let reader = StreamOptions::new().clock(clock.clone()).open_reader(scratch.path()).unwrap();
    let mut iterator = reader.lineage_iterator(Position::TrimHorizon).unwrap();
    let (mut number, mut read) = (0, vec![]);
    for round in 0..20 {
        put(&stream, number..number + 50);
        number += 50;
        let open = stream.list_shards(ShardFilter::AtLatest);
        match round % 3 {
            0 => _ = stream.split_shard_evenly(open[0].id).unwrap(),
            1 => {
                let mut open = open;
                open.sort_by_key(|shard| shard.hash_key_range.start);
                stream.merge_shards(open[0].id, open[1].id).unwrap();
            }
            _ => {}
        }
        if round % 2 == 0 {
            read.extend(read_on(&mut iterator));
        }
        assert_eq!(reader.shards(), stream.shards(), "round {round}");
        clock.advance(SECOND);
        stream.maintain().unwrap();
    }
    read.extend(read_on(&mut iterator));
    assert_eq!(read, (0..number).collect::<Vec<_>>());
    assert_eq!(read_all(&reader), read_all(&stream));
    clock.advance(20 * SECOND);
    stream.maintain().unwrap();
    assert_eq!(reader.shards(), stream.shards());
    assert!(read_on(&mut iterator).is_empty() && read_all(&reader).is_empty());
}

#[test]
fn l8_a_reader_that_retention_overtakes_is_told_and_its_files_are_not_filled_again() {
    let (scratch, clock) = (common::scratch(), clock());
    let options = small(&clock).retention(Retention::age(10 * SECOND));
    let stream = options.open(scratch.path()).unwrap();
    let reader = StreamOptions::new().clock(clock.clone()).open_reader(scratch.path()).unwrap();
    let shard = stream.shards()[0].id;
    let mut slow = reader.iterator(shard, Position::TrimHorizon).unwrap();
    let mut held = vec![];
    let mut number = 0;
    for _ in 0..50 {
        put(&stream, number..number + 300);
        let mut iterator = reader.iterator(shard, Position::Latest).unwrap();
        iterator.seek(Position::At((number + 7).into())).unwrap();
        held.push((number + 7, iterator.next_batch(100).unwrap()));
        number += 300;
        clock.advance(3 * SECOND);
        stream.maintain().unwrap();
    }
    for (first, batch) in &held {
        let numbers: Vec<u64> = batch.iter().map(|record| number_in(record.data())).collect();
        assert_eq!(numbers, (*first..*first + numbers.len() as u64).collect::<Vec<_>>());
    }
    let horizon = stream.stats().unwrap().shards[0].horizon;
    match slow.next_batch(10) {
        Err(Error::Trimmed { horizon: told, .. }) => assert_eq!(told, horizon),
        other => panic!("{other:?}"),
    }
    slow.skip_to_horizon();
    assert_eq!(slow.next_batch(1).unwrap().first_sequence(), Some(horizon));
    // Without a reader, trimmed files are filled again; the names of prepared segments show it.
    assert_eq!(read_all(&reader), read_all(&stream));
}

#[test]
fn l8_a_stream_that_is_closed_and_opened_again_is_followed() {
    let (scratch, clock) = (common::scratch(), clock());
    let mut stream = small(&clock).open(scratch.path()).unwrap();
    let reader = StreamReader::open(scratch.path()).unwrap();
    let mut iterator = reader.lineage_iterator(Position::TrimHorizon).unwrap();
    let mut read = vec![];
    for round in 0..10 {
        put(&stream, round * 100..round * 100 + 100);
        if round % 2 == 0 {
            read.extend(read_on(&mut iterator));
        }
        stream.close().unwrap();
        if round % 3 == 0 {
            read.extend(read_on(&mut iterator));
            assert_eq!(
                read_all(&StreamReader::open(scratch.path()).unwrap()).len() as u64,
                round * 100 + 100
            );
        }
        stream = small(&clock).open(scratch.path()).unwrap();
    }
    read.extend(read_on(&mut iterator));
    assert_eq!(read, (0..1_000).collect::<Vec<_>>());
}

#[test]
fn l8_a_copy_without_a_writer_is_read_as_the_next_opening_will_find_it() {
    let (scratch, clock) = (common::scratch(), clock());
    let stream = small(&clock).open(scratch.path().join("stream")).unwrap();
    put(&stream, 0..1_000);
    let copy = scratch.path().join("copy");
    common::copy_dir(&scratch.path().join("stream"), &copy);
    // Power loss: the last frame is torn, and the words in `live` claim more than there is.
    let last = common::segment_files(&copy, 0).pop().unwrap();
    let bytes = fs::read(&last).unwrap();
    let end = bytes.iter().rposition(|&byte| byte != 0).unwrap();
    fs::OpenOptions::new().write(true).open(&last).unwrap().write_all_at(&[0], end as u64).unwrap();

    let before: Vec<_> = common::segment_files(&copy, 0);
    let reader = StreamReader::open(&copy).unwrap();
    let mut iterator = reader.lineage_iterator(Position::TrimHorizon).unwrap();
    let read = read_on(&mut iterator);
    assert_eq!(read, (0..999).collect::<Vec<_>>());
    assert_eq!(before, common::segment_files(&copy, 0), "nothing is changed");

    let again = small(&clock).open(&copy).unwrap();
    again.put("key", data(4_711)).unwrap();
    assert_eq!(read_on(&mut iterator), [4_711]);
}

#[test]
fn p4_a_shard_that_expires_unseen_is_followed_by_its_children_and_not_by_theirs() {
    let (scratch, clock) = (common::scratch(), clock());
    let stream = small(&clock).retention(Retention::age(100 * SECOND)).open(scratch.path()).unwrap();
    put(&stream, 0..1);
    let reader = StreamOptions::new().clock(clock.clone()).open_reader(scratch.path()).unwrap();
    let parent = stream.shards()[0].id;
    let mut iterator = reader.iterator(parent, Position::TrimHorizon).unwrap();
    assert_eq!(iterator.next_batch(10).unwrap().len(), 1);
    let children = stream.split_shard_evenly(parent).unwrap();
    clock.advance(60 * SECOND);
    put(&stream, 1..2);
    for child in &children {
        stream.split_shard_evenly(child.id).unwrap();
    }
    clock.advance(50 * SECOND);
    stream.maintain().unwrap();
    assert_eq!(stream.shards().len(), 6, "only the parent has expired");

    assert!(matches!(iterator.next_batch(10), Err(Error::Trimmed { .. })), "it may have had more records");
    assert!(iterator.skip_to_horizon() > 0);
    let end = iterator.next_batch(10).unwrap();
    let followers = end.child_shards().expect("it is closed").iter().map(|child| child.id);
    assert_eq!(followers.collect::<Vec<_>>(), children.iter().map(|child| child.id).collect::<Vec<_>>());
}

#[test]
fn l8_words_of_the_writer_that_cannot_be_are_an_error_that_names_their_file() {
    let (scratch, clock) = (common::scratch(), clock());
    let stream = small(&clock).open(scratch.path()).unwrap();
    put(&stream, 0..10);
    stream.close().unwrap();
    let stream = small(&clock).open(scratch.path()).unwrap();
    let reader = StreamReader::open(scratch.path()).unwrap();
    let mut iterator = reader.lineage_iterator(Position::TrimHorizon).unwrap();
    assert_eq!(read_on(&mut iterator), (0..10).collect::<Vec<_>>());

    // See `docs/FORMAT.md`: the slot of the shard has the number of the opening in word 15, and the end of the shard in word 1.
    let path = scratch.path().join("live");
    let bytes = fs::read(&path).unwrap();
    let words: Vec<u64> =
        bytes.chunks_exact(8).map(|word| u64::from_ne_bytes(*word.first_chunk().unwrap())).collect();
    let mut slots = (512..words.len()).step_by(32);
    let slot = slots.find(|&slot| words[slot] == 1 && words[slot + 15] == words[5]).unwrap();
    let live = fs::OpenOptions::new().write(true).open(&path).unwrap();
    live.write_all_at(&99u64.to_ne_bytes(), 8 * (slot as u64 + 1)).unwrap();

    for refused in [iterator.next_batch(1).map(drop), StreamReader::open(scratch.path()).map(drop)] {
        let error = refused.unwrap_err();
        let Error::Corrupt(damage) = &error else { panic!("{error}") };
        assert_eq!((&damage.path, damage.offset), (&path, 8 * slot as u64));
        assert!(error.to_string().ends_with("open it again: that writes the file anew"), "{error}");
    }
    stream.close().unwrap();
    let stream = small(&clock).open(scratch.path()).unwrap();
    put(&stream, 10..12);
    assert_eq!(read_on(&mut iterator), [10, 11]);
    assert_eq!(read_all(&StreamReader::open(scratch.path()).unwrap()), (0..12).collect::<Vec<_>>());
}

#[test]
fn l8_a_reader_is_told_that_what_it_has_read_was_cut() {
    let (scratch, clock) = (common::scratch(), clock());
    let path = scratch.path().join("stream");
    let stream = small(&clock).open(&path).unwrap();
    put(&stream, 0..100);
    stream.close().unwrap();
    let old = scratch.path().join("old");
    common::copy_dir(&path, &old);
    let stream = small(&clock).open(&path).unwrap();
    clock.advance(SECOND);
    put(&stream, 100..200);
    let reader = StreamReader::open(&path).unwrap();
    let shard = stream.shards()[0].id;
    let mut ahead = reader.iterator(shard, Position::TrimHorizon).unwrap();
    while !ahead.next_batch(1_000).unwrap().is_empty() {}
    let mut latest = reader.iterator(shard, Position::Latest).unwrap();
    let mut behind = reader.iterator(shard, Position::At(50.into())).unwrap();
    stream.close().unwrap();
    // Someone puts the old files back in the place of the new ones.
    for file in common::segment_files(&path, 0) {
        fs::remove_file(file).unwrap();
    }
    for name in ["manifest.json", "shards/000000000000/00000000000000000000.seg"] {
        fs::copy(old.join(name), path.join(name)).unwrap();
    }
    let stream = small(&clock).open(&path).unwrap();
    for iterator in [&mut ahead, &mut latest] {
        for _ in 0..2 {
            match iterator.next_batch(10) {
                Err(Error::Cut { next, end, .. }) => assert_eq!((next.get(), end.get()), (200, 100)),
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(behind.next_batch(1_000).unwrap().len(), 50);
    // Others take their numbers.
    clock.advance(SECOND);
    put(&stream, 1_000..1_200);
    let outcome = ahead.next_batch(10);
    assert!(matches!(outcome, Err(Error::Cut { .. })), "{outcome:?}");
    assert!(matches!(latest.next_batch(10), Err(Error::Cut { .. })));
    assert_eq!(number_in(behind.next_batch(1).unwrap().iter().next().unwrap().data()), 1_000);
    ahead.seek(Position::At(100.into())).unwrap();
    assert_eq!(number_in(ahead.next_batch(1).unwrap().iter().next().unwrap().data()), 1_000);
}

#[test]
fn l8_what_salvage_gave_up_under_a_reader_is_an_error() {
    let (scratch, clock) = (common::scratch(), clock());
    let stream = small(&clock).open(scratch.path()).unwrap();
    put(&stream, 0..1_000);
    let reader = StreamReader::open(scratch.path()).unwrap();
    let mut iterator = reader.iterator(stream.shards()[0].id, Position::TrimHorizon).unwrap();
    assert_eq!(iterator.next_batch(10).unwrap().len(), 10);
    stream.close().unwrap();
    let file = common::segment_files(scratch.path(), 0).remove(0);
    let file = fs::OpenOptions::new().write(true).open(file).unwrap();
    file.write_all_at(&[0xff; 300], 4096 + 240 * 20).unwrap();
    drop(file);
    let stream = small(&clock).salvage(true).open(scratch.path()).unwrap();
    let lost = stream.recovery().shards[0].lost[0].clone();
    let mut numbers = vec![];
    let error = loop {
        match iterator.next_batch(1_000) {
            Ok(batch) => numbers.extend(batch.iter().map(|record| number_in(record.data()))),
            Err(error) => break error,
        }
    };
    assert_eq!(numbers, (10..lost.sequences.start.get()).collect::<Vec<_>>());
    assert!(matches!(error, Error::Lost { first, .. } if first == lost.sequences.start), "{error}");
    iterator.skip_lost().unwrap();
    let rest: usize = iterator.map(|batch| batch.unwrap().len()).sum();
    assert_eq!(rest as u64, 1_000 - lost.sequences.end.get());
}

#[test]
fn l8_a_waiting_thread_is_woken_by_a_put_a_roll_a_reshard_and_a_trim() {
    let scratch = common::scratch();
    let stream = small(&clock()).shards(4).open(scratch.path()).unwrap();
    let reader = StreamReader::open(scratch.path()).unwrap();
    let minute = Duration::from_secs(60);
    std::thread::scope(|threads| {
        let (ready, begun) = std::sync::mpsc::channel();
        let waiting = threads.spawn({
            let reader = reader.clone();
            move || {
                let mut iterators: Vec<_> = reader
                    .shards()
                    .iter()
                    .map(|shard| reader.iterator(shard.id, Position::Latest).unwrap())
                    .collect();
                ready.send(()).unwrap();
                let mut count = 0;
                while count < 1_000 {
                    let at = wait_any(&iterators, minute).unwrap().expect("a put wakes");
                    count += iterators[at].next_batch(100).unwrap().len();
                }
            }
        });
        begun.recv().unwrap();
        let started = Instant::now();
        for number in 0..1_000u64 {
            stream.put(number.to_le_bytes(), data(number)).unwrap();
            if number % 10 == 0 {
                // Gives the thread time to wait again, at least now and then.
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        waiting.join().unwrap();
        assert!(started.elapsed() < minute / 2);
    });

    let shard = stream.shards()[0].id;
    let end = reader.iterator(shard, Position::Latest).unwrap();
    assert!(!end.wait(Duration::from_millis(20)).unwrap());
    std::thread::scope(|threads| {
        let waiting = threads.spawn(|| end.wait(minute));
        std::thread::sleep(Duration::from_millis(20));
        stream.split_shard_evenly(shard).unwrap();
        assert!(waiting.join().unwrap().unwrap(), "the shard has ended");
    });
    let children = stream.list_shards(ShardFilter::AfterShard(shard));
    let child = reader.iterator(children.last().unwrap().id, Position::Latest).unwrap();
    stream.close().unwrap();
    assert!(!child.wait(Duration::from_millis(20)).unwrap(), "another process may open the stream again");
}

/// Shards 0 and 63 share one mark in the bell.
#[test]
fn l8_a_put_to_another_shard_takes_no_mark_from_those_who_wait() {
    let scratch = common::scratch();
    let stream = small(&clock()).shards(64).open(scratch.path()).unwrap();
    let reader = StreamReader::open(scratch.path()).unwrap();
    let shards = stream.shards();
    let put = |shard: usize| {
        let record = streamlog::PutRecord::new("key", "data");
        stream.put_record(&record.explicit_hash_key(shards[shard].hash_key_range.start)).unwrap();
    };
    let quickest = (0..5).map(|_| {
        let [first, last] = [0, 63].map(|shard| reader.iterator(shards[shard].id, Position::Latest).unwrap());
        std::thread::scope(|threads| {
            let waiting = threads.spawn(|| last.wait(Duration::from_secs(60)));
            let other = threads.spawn(|| first.wait(Duration::from_secs(60)));
            std::thread::sleep(Duration::from_millis(50));
            put(0);
            assert!(other.join().unwrap().unwrap());
            std::thread::sleep(Duration::from_millis(50));
            let started = Instant::now();
            put(63);
            assert!(waiting.join().unwrap().unwrap());
            started.elapsed()
        })
    });
    let quickest = quickest.min().unwrap();
    assert!(
        quickest < Duration::from_millis(300),
        "nobody was woken; the look of each second found it: {quickest:?}"
    );
}

#[test]
fn l8_every_put_wakes_the_thread_that_waits_for_it() {
    let scratch = common::scratch();
    let stream = small(&clock()).open(scratch.path()).unwrap();
    let reader = StreamReader::open(scratch.path()).unwrap();
    let mut iterator = reader.iterator(stream.shards()[0].id, Position::Latest).unwrap();
    let (ready, asked) = std::sync::mpsc::channel();
    // Without being woken, a thread looks again after a second.
    let started = Instant::now();
    const ROUNDS: u64 = 200;
    std::thread::scope(|threads| {
        threads.spawn(move || {
            for _ in 0..ROUNDS {
                ready.send(()).unwrap();
                while !iterator.wait(Duration::from_secs(60)).unwrap() {}
                assert_eq!(iterator.next_batch(10).unwrap().len(), 1);
            }
        });
        for (number, ()) in (0..ROUNDS).zip(asked) {
            // Before, while and after the thread goes to sleep.
            std::thread::sleep(Duration::from_micros(number * 7));
            put(&stream, number..number + 1);
        }
    });
    assert!(started.elapsed() < Duration::from_secs(ROUNDS / 4), "{:?}", started.elapsed());
}

#[test]
fn l8_an_iterator_follows_its_stream_without_the_reader_that_it_came_from() {
    let scratch = common::scratch();
    let stream = small(&clock()).open(scratch.path()).unwrap();
    let reader = StreamReader::open(scratch.path()).unwrap();
    let mut iterator = reader.lineage_iterator(Position::TrimHorizon).unwrap();
    drop(reader);
    put(&stream, 0..10);
    stream.split_shard_evenly(stream.shards()[0].id).unwrap();
    put(&stream, 10..20);
    assert_eq!(read_on(&mut iterator), (0..20).collect::<Vec<_>>());
    stream.close().unwrap();
    let stream = small(&clock()).open(scratch.path()).unwrap();
    put(&stream, 20..30);
    assert!(iterator.wait(Duration::from_secs(10)).unwrap());
    assert_eq!(read_on(&mut iterator), (20..30).collect::<Vec<_>>());
}

#[test]
fn l8_who_waits_for_a_number_that_is_not_there_yet_is_not_cut_by_an_opening() {
    let scratch = common::scratch();
    let mut stream = small(&clock()).open(scratch.path()).unwrap();
    put(&stream, 0..10);
    let reader = StreamReader::open(scratch.path()).unwrap();
    let mut iterator = reader.iterator(stream.shards()[0].id, Position::At(15.into())).unwrap();
    for round in 1..3 {
        stream.close().unwrap();
        stream = small(&clock()).open(scratch.path()).unwrap();
        assert!(iterator.next_batch(10).unwrap().is_empty());
        assert!(!iterator.wait(Duration::ZERO).unwrap(), "nothing has come");
        put(&stream, round * 10..round * 10 + 2);
    }
    put(&stream, 100..102);
    assert_eq!(number_in(iterator.next_batch(10).unwrap().iter().next().unwrap().data()), 101);
}

#[test]
fn l8_the_lag_counts_no_blocks_that_are_reserved() {
    let scratch = common::scratch();
    let stream = small(&clock()).open(scratch.path()).unwrap();
    put(&stream, 0..300);
    let reader = StreamReader::open(scratch.path()).unwrap();
    let shard = stream.shards()[0].id;
    let lag = |reader: &StreamReader| reader.iterator(shard, Position::TrimHorizon).unwrap().lag().unwrap();
    assert_eq!((lag(&reader).bytes, lag(&reader).record_count), (lag(&stream).bytes, 300));
}

#[test]
fn l8_a_task_waits_for_another_process_like_for_this_one() {
    let scratch = common::scratch();
    let stream = small(&clock()).open(scratch.path()).unwrap();
    let reader = StreamReader::open(scratch.path()).unwrap();
    let mut iterator = reader.iterator(stream.shards()[0].id, Position::Latest).unwrap();
    std::thread::scope(|threads| {
        let task = threads.spawn(move || {
            pollster::block_on(async {
                iterator.readable().await.unwrap();
                iterator.next_batch(10).unwrap().len()
            })
        });
        std::thread::sleep(Duration::from_millis(20));
        put(&stream, 0..1);
        assert_eq!(task.join().unwrap(), 1);
    });
}

#[test]
fn l8_a_reader_changes_nothing_and_needs_no_permission_to_write() {
    let scratch = common::scratch();
    let clock = clock();
    let stream = small(&clock).shards(2).open(scratch.path()).unwrap();
    put(&stream, 0..1_000);
    stream.maintain().unwrap();
    put(&stream, 1_000..1_100);
    let files = |path: &std::path::Path| {
        let mut found = vec![];
        let mut left = vec![path.to_owned()];
        while let Some(path) = left.pop() {
            if path.is_dir() {
                left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            } else if !path.ends_with("bell") {
                found.push((
                    path.clone(),
                    fs::read(&path).unwrap(),
                    fs::metadata(&path).unwrap().modified().unwrap(),
                ));
            }
        }
        found.sort();
        found
    };
    let before = files(scratch.path());
    let reader = StreamReader::open(scratch.path()).unwrap();
    assert_eq!(read_all(&reader), (0..1_100).collect::<Vec<_>>());
    let iterator = reader.iterator(reader.shards()[0].id, Position::Latest).unwrap();
    iterator.wait(Duration::from_millis(5)).unwrap();
    drop((reader.stats().unwrap(), reader.describe(), iterator));
    assert!(before == files(scratch.path()));
}

#[test]
fn l8_a_snapshot_is_read_as_it_is_after_it_was_opened_and_renewed() {
    let scratch = common::scratch();
    let stream = small(&clock()).open(scratch.path().join("stream")).unwrap();
    let target = scratch.path().join("snapshot");
    for round in 0..4 {
        put(&stream, round * 500..round * 500 + 500);
        stream.snapshot(&target, |_| std::ops::ControlFlow::Continue(())).unwrap();
        let expected: Vec<_> = (0..round * 500 + 500).collect();
        assert_eq!(read_all(&StreamReader::open(&target).unwrap()), expected);
        if round % 2 == 0 {
            // From now on it has words of its own, which invalidate the next snapshot.
            small(&clock()).open(&target).unwrap().close().unwrap();
            assert_eq!(read_all(&StreamReader::open(&target).unwrap()), expected);
        }
    }
}

#[test]
fn l8_another_process_takes_a_snapshot_of_a_stream_that_is_written_split_and_trimmed_meanwhile() {
    let scratch = common::scratch();
    let options = small(&clock()).shards(2).retention(Retention::forever().bytes_max(1 << 20));
    let stream = options.open(scratch.path().join("stream")).unwrap();
    let reader = StreamReader::open(scratch.path().join("stream")).unwrap();
    let target = scratch.path().join("snapshot");
    let is_over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            let mut count = [0u64; 7];
            for round in 0.. {
                for key in 0..7u8 {
                    // The number of each key's put is its data, and dense.
                    stream.put([key], data(count[usize::from(key)])).unwrap();
                    count[usize::from(key)] += 1;
                }
                if round % 500 == 0 {
                    stream.maintain().unwrap();
                }
                if round % 3_000 == 0 {
                    let open = stream.list_shards(ShardFilter::AtLatest);
                    stream.split_shard_evenly(open[round / 3_000 % open.len()].id).unwrap();
                }
                if is_over.load(std::sync::atomic::Ordering::Relaxed) {
                    return;
                }
            }
        });
        for round in 0..8 {
            std::thread::sleep(Duration::from_millis(30));
            let before = reader.stats().unwrap();
            let report = reader.snapshot(&target, |_| std::ops::ControlFlow::Continue(())).unwrap();
            assert!(report.is_complete);
            let snapshot = StreamReader::open(&target).unwrap();
            let ends = snapshot.stats().unwrap();
            for shard in &before.shards {
                let there = ends.shards.iter().find(|there| there.shard == shard.shard);
                assert!(
                    there.is_none_or(|there| there.next_sequence >= shard.next_sequence),
                    "round {round}"
                );
            }
            let mut next: [Option<u64>; 7] = [None; 7];
            let mut iterator = snapshot.lineage_iterator(Position::TrimHorizon).unwrap();
            loop {
                let batch = iterator.next_batch(1_000).unwrap();
                if batch.is_empty() {
                    break;
                }
                for record in &batch {
                    let next = &mut next[usize::from(record.partition_key()[0])];
                    let number = number_in(record.data());
                    assert!(next.is_none_or(|next| next == number), "round {round}: a key lacks a record");
                    *next = Some(number + 1);
                }
            }
            if round % 3 == 2 {
                small(&clock()).open(&target).unwrap().close().unwrap();
            }
        }
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn what_is_no_stream_or_no_longer_one_is_refused() {
    let scratch = common::scratch();
    let refused = |path: &std::path::Path| match StreamReader::open(path) {
        Err(Error::NotAStream(found)) => found.reason,
        other => panic!("{other:?}"),
    };
    refused(&scratch.path().join("nothing"));
    refused(scratch.path());
    let path = scratch.path().join("stream");
    small(&clock()).open(&path).unwrap().close().unwrap();
    let reader = StreamReader::open(&path).unwrap();
    let before = reader.shards();
    let mut iterator = reader.iterator(before[0].id, Position::TrimHorizon).unwrap();
    let waiting = std::thread::spawn({
        let iterator = reader.iterator(before[0].id, Position::Latest).unwrap();
        move || iterator.wait(Duration::from_secs(60))
    });
    Stream::delete(&path).unwrap();
    assert_eq!(reader.shards(), before, "the last that was known");
    assert!(waiting.join().unwrap().unwrap(), "there is an error to read");
    match iterator.next_batch(1) {
        Err(Error::NotAStream(found)) => assert_eq!(found.reason, "it was deleted"),
        other => panic!("{other:?}"),
    }
    match reader.stats() {
        Err(Error::NotAStream(_)) => {}
        other => panic!("{other:?}"),
    }
    assert!(matches!(iterator.next_batch(10), Err(Error::NotAStream(_))));
}
