//! What retention drops, and when: P6, P12.

use crate::common;

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use streamlog::{
    DAY, Durability, Error, HOUR, MINUTE, ManualClock, Position, PutRecord, Retention, SECOND, ShardFilter,
    ShardId, Stream, StreamOptions,
};

const SHARD: ShardId = ShardId::new(0);

fn open(path: &Path, clock: &Arc<ManualClock>, retention: Retention) -> Stream {
    common::small(clock).retention(retention).open(path).unwrap()
}

fn numbers(stream: &Stream) -> Vec<u8> {
    common::read_all(stream, SHARD).into_iter().map(|(_, data)| data[0]).collect()
}

#[test]
fn p12_records_expire_one_by_one_and_not_before_their_time() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, Retention::age(10 * SECOND));
    for number in 0..10 {
        stream.put("key", [number]).unwrap();
        clock.advance(SECOND);
    }
    stream.maintain().unwrap();
    assert_eq!(numbers(&stream).len(), 10, "the first record is exactly 10 s old");
    for gone in 1..=9 {
        clock.advance(SECOND);
        stream.maintain().unwrap();
        assert_eq!(numbers(&stream), (gone..10).collect::<Vec<u8>>());
    }
}

#[test]
fn p12_a_quiet_shard_expires_and_gives_back_its_disk() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, Retention::age(MINUTE));
    stream.put("key", vec![1; 20_000]).unwrap();
    clock.advance(MINUTE + SECOND);
    stream.maintain().unwrap();
    stream.maintain().unwrap();
    assert_eq!((numbers(&stream), common::segment_files(scratch.path(), 0).len()), (vec![], 0));
    assert_eq!(stream.put("key", [2]).unwrap().sequence, 1.into(), "P5: the numbers continue");
    clock.advance(MINUTE + SECOND);
    stream.maintain().unwrap();
    stream.maintain().unwrap();
    stream.close().unwrap();
    let stream = open(scratch.path(), &clock, Retention::age(MINUTE));
    assert_eq!(stream.put("key", [3]).unwrap().sequence, 2.into(), "also after opening again");
}

#[test]
fn p12_expired_records_are_hidden_as_soon_as_the_stream_is_opened() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, Retention::age(MINUTE));
    stream.put("key", [1]).unwrap();
    clock.advance(30 * SECOND);
    stream.put("key", [2]).unwrap();
    stream.close().unwrap();
    clock.advance(40 * SECOND);
    assert_eq!(numbers(&open(scratch.path(), &clock, Retention::age(MINUTE))), [2]);
}

#[test]
fn p6_an_iterator_that_is_overtaken_is_told_and_goes_on_by_its_own_word() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, Retention::age(10 * SECOND));
    for number in 0..10 {
        stream.put("key", [number]).unwrap();
        clock.advance(SECOND);
    }
    let mut iterator = stream.iterator(SHARD, Position::TrimHorizon).unwrap();
    let kept = iterator.next_batch(2).unwrap();
    clock.advance(5 * SECOND);
    stream.maintain().unwrap();
    for _ in 0..2 {
        match iterator.next_batch(10) {
            Err(Error::Trimmed { shard, requested, horizon }) => {
                assert_eq!((shard, requested, horizon), (SHARD, 2.into(), 5.into()));
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(iterator.wait(Duration::ZERO).unwrap(), "an error counts as something to read");
    assert_eq!(iterator.skip_to_horizon(), 3, "the skipped records");
    assert_eq!(iterator.next_batch(10).unwrap().first_sequence(), Some(5.into()));
    assert_eq!(iterator.skip_to_horizon(), 0);
    assert_eq!(
        kept.iter().map(|record| record.data()[0]).collect::<Vec<_>>(),
        [0, 1],
        "a batch stays readable"
    );
}

#[test]
fn p12_a_batch_stays_readable_after_its_file_is_gone() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, Retention::age(MINUTE));
    for number in 0..40u8 {
        stream.put("key", vec![number; 10_000]).unwrap();
    }
    let batch = stream.iterator(SHARD, Position::TrimHorizon).unwrap().next_batch(5).unwrap();
    let record = batch.iter().nth(4).unwrap().into_owned();
    clock.advance(HOUR);
    stream.maintain().unwrap();
    stream.maintain().unwrap();
    assert_eq!(common::segment_files(scratch.path(), 0).len(), 0);
    assert!(batch.iter().zip(0u8..).all(|(record, number)| record.data().iter().all(|&byte| byte == number)));
    drop((batch, stream));
    assert_eq!(record.data, vec![4; 10_000]);
}

#[test]
fn p12_a_longer_retention_does_not_bring_expired_records_back() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, Retention::age(MINUTE));
    stream.put("key", [1]).unwrap();
    clock.advance(40 * SECOND);
    stream.put("key", [2]).unwrap();
    clock.advance(40 * SECOND);
    stream.set_retention(Retention::age(DAY)).unwrap();
    assert_eq!(numbers(&stream), [1, 2], "nothing expires before a pass");
    stream.set_retention(Retention::age(MINUTE)).unwrap();
    assert_eq!(numbers(&stream), [2], "a shorter retention applies at once");
    stream.set_retention(Retention::age(DAY)).unwrap();
    assert_eq!(numbers(&stream), [2]);
    stream.close().unwrap();
    let stream = StreamOptions::new().clock(clock).open(scratch.path()).unwrap();
    assert_eq!((numbers(&stream), stream.describe().retention), (vec![2], Retention::age(DAY)));
    assert!(matches!(stream.set_retention(Retention::age(SECOND / 2)), Err(Error::InvalidArgument(_))));
}

#[test]
fn p12_closed_shards_expire_and_leave_the_manifest_and_their_children_keep_their_id() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, Retention::age(MINUTE));
    stream.put("key", [1]).unwrap();
    let mut iterator = stream.lineage_iterator(Position::TrimHorizon).unwrap();
    let children = stream.split_shard_evenly(SHARD).unwrap();
    clock.advance(MINUTE);
    stream.maintain().unwrap();
    assert_eq!(stream.shards().len(), 3, "closed for exactly as long as records are kept");
    clock.advance(SECOND);
    stream.maintain().unwrap();
    assert_eq!(stream.shards(), children);
    assert_eq!(children[0].parent, Some(SHARD));
    assert!(!scratch.path().join("shards/000000000000").exists());
    assert!(matches!(stream.iterator(SHARD, Position::TrimHorizon), Err(Error::ShardNotFound(SHARD))));
    assert_eq!(stream.list_shards(ShardFilter::AtTrimHorizon), children);
    // A reader of the expired shard gets an error, and continues with the children.
    stream.put("key", [2]).unwrap();
    assert!(matches!(iterator.next_batch(1), Err(Error::Trimmed { .. })));
    assert_eq!(iterator.skip_to_horizon(), 1);
    assert_eq!(iterator.next_batch(10).unwrap().iter().next().unwrap().data(), [2]);
    drop(stream);
    assert_eq!(open(scratch.path(), &clock, Retention::age(MINUTE)).shards(), children);
}

#[test]
fn retention_by_bytes_drops_the_oldest_segments_of_all_shards() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let options = common::small(&clock).shards(2).retention(Retention::forever().bytes_max(400 << 10));
    let stream = options.open(scratch.path()).unwrap();
    for number in 0..200u32 {
        stream.put(number.to_le_bytes(), vec![7; 10_000]).unwrap();
        clock.advance(SECOND);
        if number % 10 == 0 {
            stream.maintain().unwrap();
            let bytes = common::disk_bytes(&scratch.path().join("shards"));
            assert!(bytes < (400 << 10) + 2 * (64 << 10) + (64 << 10), "{bytes}");
        }
    }
    let stats = stream.stats().unwrap();
    assert!(
        stats.shards.iter().all(|shard| shard.horizon > 0.into() && shard.record_count() > 5),
        "{stats:?}"
    );
    assert!(stats.disk_bytes() > 300 << 10, "it drops no more than necessary");
}

/// Puts a record of 8 KiB that begins with a number.
fn put_number(stream: &Stream, number: u8) {
    stream.put("key", [&[number][..], &[7; 8_000]].concat()).unwrap();
}

#[test]
fn p12_blocks_that_killed_processes_have_reserved_drop_no_record() {
    const KILLS: u8 = 15;
    let (scratch, clock) = (common::scratch(), common::clock());
    let place = |number: u8| scratch.path().join(number.to_string());
    let options = common::small(&clock).segment_bytes(16 << 20).retention(Retention::forever());
    for number in 0..KILLS {
        let stream = options.clone().open(place(number)).unwrap();
        put_number(&stream, number);
        common::copy_dir(&place(number), &place(number + 1));
        drop(stream);
        std::fs::remove_dir_all(place(number)).unwrap();
    }
    let bytes_max = 8 << 20;
    let stream = options.retention(Retention::forever().bytes_max(bytes_max)).open(place(KILLS)).unwrap();
    assert!(stream.stats().unwrap().disk_bytes() > bytes_max, "the test needs reserved blocks");
    for number in KILLS..2 * KILLS {
        put_number(&stream, number);
        stream.maintain().unwrap();
    }
    assert_eq!(numbers(&stream), (0..2 * KILLS).collect::<Vec<_>>(), "P12: the log has 240 KiB");
    assert!(stream.stats().unwrap().disk_bytes() < bytes_max, "sealing frees what was reserved");
}

#[test]
fn p12_blocks_that_the_writer_has_reserved_for_itself_drop_no_record() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let retention = Retention::forever().bytes_max(4 << 20);
    let options = common::small(&clock).shards(2).segment_bytes(16 << 20).retention(retention);
    let stream = options.open(scratch.path()).unwrap();
    let put = |hash_key: u128| {
        let record = PutRecord::new("key", &[7; 100_000]).explicit_hash_key(hash_key.into());
        stream.put_record(&record).unwrap();
    };
    (0..5).for_each(|_| put(0));
    // Its segment ends, and is sealed.
    let children = stream.split_shard_evenly(SHARD).unwrap();
    // 2.1 MB in a segment that has 4 MiB of blocks by then.
    (0..21).for_each(|_| put(u128::MAX));
    stream.maintain().unwrap();
    let stats = stream.stats().unwrap();
    assert!(stats.disk_bytes() > 4 << 20, "the test needs reserved blocks: {stats:?}");
    assert_eq!((stats.record_count(), children.len()), (26, 2), "P12: there are 2.6 MB in all");
}

/// Flips a bit in the header page of a segment file.
fn damage_header(file: &Path) {
    let mut bytes = std::fs::read(file).unwrap();
    bytes[20] ^= 1;
    std::fs::write(file, bytes).unwrap();
}

/// Makes two shards with ten full segments each, which take turns, and closes the stream.
fn two_full_shards(path: &Path, clock: &Arc<ManualClock>) {
    let stream = common::small(clock).shards(2).retention(Retention::forever()).open(path).unwrap();
    for _ in 0..60 {
        put_to_both(&stream);
        clock.advance(SECOND);
    }
    stream.close().unwrap();
}

fn put_to_both(stream: &Stream) {
    for hash_key in [0, u128::MAX] {
        let record = PutRecord::new("key", &[7; 10_000]).explicit_hash_key(hash_key.into());
        stream.put_record(&record).unwrap();
    }
}

/// Returns the horizon of each shard.
fn horizons(stream: &Stream) -> Vec<u64> {
    let horizon = |shard| stream.iterator(shard, Position::TrimHorizon).unwrap().next_sequence().get();
    stream.shards().into_iter().map(|shard| horizon(shard.id)).collect()
}

#[test]
fn p12_a_segment_with_a_damaged_header_leaves_in_its_turn() {
    for damaged in [0, 3] {
        let (scratch, clock) = (common::scratch(), common::clock());
        two_full_shards(scratch.path(), &clock);
        damage_header(&common::segment_files(scratch.path(), 0)[damaged]);
        let bytes_max = 600 << 10;
        let retention = Retention::forever().bytes_max(bytes_max);
        let stream = common::small(&clock).retention(retention).open(scratch.path()).unwrap();
        stream.maintain().unwrap();
        let of_both = horizons(&stream);
        assert!(of_both[0].abs_diff(of_both[1]) <= 6, "the oldest go first, of both: {of_both:?}");
        assert!(of_both[0] > 24, "and the damaged one with them: {of_both:?}");
        for _ in 0..60 {
            put_to_both(&stream);
            stream.maintain().unwrap();
        }
        let disk_bytes = stream.stats().unwrap().disk_bytes();
        assert!(disk_bytes < bytes_max + 4 * (64 << 10), "{disk_bytes}");
    }
}

#[test]
fn p12_a_damaged_segment_that_has_expired_keeps_nothing_that_has_expired_after_it() {
    for damaged in 0..9 {
        let (scratch, clock) = (common::scratch(), common::clock());
        two_full_shards(scratch.path(), &clock);
        damage_header(&common::segment_files(scratch.path(), 0)[damaged]);
        // The newest record is a second old. All but the last three segments of each shard have expired.
        let age = Retention::age(15 * SECOND);
        let stream = common::small(&clock).retention(age).open(scratch.path()).unwrap();
        let outcome = stream.maintain();
        let of_both = horizons(&stream);
        assert_eq!(of_both[1], 45, "the other shard is not concerned");
        // The record at the horizon is in segment 7. Damage there or in the next one may hide it.
        if damaged < 7 {
            outcome.unwrap();
            assert_eq!(of_both[0], 45, "segment {damaged}");
        } else {
            assert!(matches!(outcome, Err(Error::Corrupt(_))), "segment {damaged}: {outcome:?}");
            clock.advance(12 * SECOND);
            stream.maintain().unwrap();
            assert_eq!(horizons(&stream), [57, 57], "segment {damaged}");
        }
    }
}

#[test]
fn p12_a_shard_that_cannot_be_looked_at_does_not_keep_the_others_from_their_limit() {
    let (scratch, clock) = (common::scratch(), common::clock());
    two_full_shards(scratch.path(), &clock);
    let retention = Retention::forever().bytes_max(300 << 10);
    let stream = common::small(&clock).retention(Retention::forever()).open(scratch.path()).unwrap();
    let file = &common::segment_files(scratch.path(), 0)[0];
    std::fs::remove_file(file).unwrap();
    std::fs::create_dir(file).unwrap();
    stream.set_retention(retention).expect("the retention is stored");
    assert!(matches!(stream.maintain(), Err(Error::Io(_))), "a pass reports the first shard");
    assert_eq!(stream.describe().retention, retention);
    let of_both = horizons(&stream);
    assert_eq!(of_both[0], 0);
    assert!((30..=36).contains(&of_both[1]), "as much as is too much by itself: {of_both:?}");
}

/// Days of traffic on a simulated clock: the disk holds what retention keeps, and at most two more segments a shard.
#[test]
fn p12_disk_use_stays_within_retention_and_two_segments_a_shard_for_days() {
    const SHARD_COUNT: u32 = 3;
    const RECORD_BYTES: usize = 1_000;
    const SEGMENT_BYTES: u64 = 64 << 10;
    let (scratch, clock) = (common::scratch(), common::clock());
    let options = common::small(&clock).shards(SHARD_COUNT).retention(Retention::age(DAY));
    let stream = options.open(scratch.path()).unwrap();
    let mut put = std::collections::VecDeque::new();
    let mut elapsed = Duration::ZERO;
    let mut highest = 0;
    for number in 0u64..6_000 {
        stream.put(number.to_le_bytes(), vec![1; RECORD_BYTES]).unwrap();
        // Busy and quiet times.
        let step = if number % 1_000 < 900 { 2 * MINUTE } else { 20 * MINUTE };
        put.push_back(elapsed);
        clock.advance(step);
        elapsed += step;
        if number % 20 == 0 {
            stream.maintain().unwrap();
            stream.maintain().unwrap();
            put.retain(|&time| time + DAY >= elapsed);
            // The records with their frames, and each segment's header page, index and trailer.
            let retained = put.len() as u64 * (RECORD_BYTES as u64 + 56);
            let overhead = (retained / SEGMENT_BYTES + 2 * u64::from(SHARD_COUNT)) * (12 << 10);
            let on_disk = common::disk_bytes(&scratch.path().join("shards"));
            let bound = retained + overhead + u64::from(SHARD_COUNT) * 2 * SEGMENT_BYTES;
            assert!(on_disk <= bound, "{on_disk} bytes on the disk, {} records retained", put.len());
            assert_eq!(stream.stats().unwrap().record_count(), put.len() as u64);
            highest = highest.max(on_disk);
        }
    }
    assert!(elapsed > 9 * DAY, "{elapsed:?}");
    clock.advance(2 * DAY);
    stream.maintain().unwrap();
    stream.maintain().unwrap();
    let left = common::disk_bytes(&scratch.path().join("shards"));
    assert!(left < highest / 10, "{left} of {highest}");
}

#[test]
fn timestamps_do_not_run_backwards_when_nothing_is_left_and_the_clock_is_set_back() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, Retention::age(MINUTE));
    clock.advance(HOUR);
    stream.put("key", [1]).unwrap();
    let last = streamlog::Clock::now(&*clock);
    clock.advance(MINUTE + SECOND);
    stream.maintain().unwrap();
    stream.maintain().unwrap();
    assert_eq!(common::segment_files(scratch.path(), 0).len(), 0);
    stream.close().unwrap();
    clock.set(last - 30 * SECOND);
    let stream = open(scratch.path(), &clock, Retention::forever());
    stream.put("key", [2]).unwrap();
    let mut iterator = stream.iterator(SHARD, Position::TrimHorizon).unwrap();
    assert_eq!(iterator.next_batch(1).unwrap().iter().next().unwrap().timestamp(), last);
}

#[test]
fn p5_power_loss_after_a_trim_does_not_bring_sequence_numbers_back() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let path = scratch.path().join("stream");
    let stream = open(&path, &clock, Retention::forever());
    for number in 0..10u8 {
        stream.put("key", vec![number; 20_000]).unwrap();
    }
    clock.advance(HOUR);
    stream.put("key", [10]).unwrap();
    // A pass without a sync: the remaining segment was never synced, and power loss takes its file.
    stream.set_retention(Retention::age(MINUTE)).unwrap();
    let horizon = stream.stats().unwrap().shards[0].horizon;
    assert_eq!((horizon, common::segment_files(&path, 0).len()), (10.into(), 1));
    let lost = scratch.path().join("lost");
    common::copy_dir(&path, &lost);
    std::fs::remove_file(&common::segment_files(&lost, 0)[0]).unwrap();
    let stream = open(&lost, &clock, Retention::age(MINUTE));
    assert!(stream.put("key", [11]).unwrap().sequence >= horizon);
}

/// Returns the inodes of the first shard's segment files, and of its prepared files.
fn inodes(stream_dir: &Path) -> (Vec<u64>, Vec<u64>) {
    let inode = |path: &PathBuf| path.metadata().unwrap().ino();
    let directory = stream_dir.join("shards/000000000000");
    let all: Vec<_> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    let (segments, spares): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|path| path.extension().is_some_and(|it| it == "seg"));
    (segments.iter().map(inode).collect(), spares.iter().map(inode).collect())
}

/// Puts a minute's worth of records, enough to begin segments, and trims the expired ones.
fn put_and_trim(stream: &Stream, clock: &ManualClock, minute: u8) {
    clock.advance(MINUTE);
    for number in 0..30u8 {
        // Lengths that put frames at new offsets.
        stream.put("key", vec![minute; 8_000 + usize::from(number) * 37 + usize::from(minute) * 11]).unwrap();
    }
    stream.maintain().unwrap();
}

#[test]
fn p1_p3_p12_files_of_trimmed_segments_are_filled_again_and_nothing_that_was_trimmed_is_read_from_them() {
    for durability in [Durability::Process, Durability::Power] {
        let (scratch, clock) = (common::scratch(), common::clock());
        let path = scratch.path().join("stream");
        let options = || common::small(&clock).retention(Retention::age(2 * MINUTE)).durability(durability);
        let stream = options().open(&path).unwrap();
        let (mut seen, mut begun) = (BTreeSet::new(), 0);
        for minute in 1..40 {
            put_and_trim(&stream, &clock, minute);
            let kept: Vec<u8> =
                (minute.saturating_sub(2).max(1)..=minute).flat_map(|minute| [minute; 30]).collect();
            assert_eq!(numbers(&stream), kept, "minute {minute}");
            let (segments, spares) = inodes(&path);
            begun += segments.iter().chain(&spares).filter(|&&inode| seen.insert(inode)).count();
            assert!(spares.len() <= 6, "minute {minute}: {} prepared", spares.len());

            let killed = scratch.path().join("killed");
            common::copy_dir(&path, &killed);
            let again = options().open(&killed).unwrap();
            assert_eq!(again.recovery().shards[0].torn_tail, None, "minute {minute}");
            assert_eq!(numbers(&again), kept, "minute {minute}, after a kill");
            assert!(inodes(&killed).1.is_empty(), "minute {minute}: prepared files are given up");
            drop(again);
            std::fs::remove_dir_all(&killed).unwrap();
        }
        let found = stream.verify(|_| ControlFlow::Continue(())).unwrap();
        assert_eq!(found.damage, [], "{durability:?}");
        assert!(begun < 40, "{durability:?}: 40 minutes of 5 segments took {begun} files");
    }
}

#[test]
fn p6_p12_a_file_that_somebody_reads_or_has_linked_is_not_written_to_again() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let path = scratch.path().join("stream");
    let stream = open(&path, &clock, Retention::age(2 * MINUTE));
    put_and_trim(&stream, &clock, 1);
    let kept = stream.iterator(SHARD, Position::TrimHorizon).unwrap().next_batch(3).unwrap();
    // Passes that would find the file unused without the batch.
    stream.maintain().unwrap();
    stream.maintain().unwrap();
    put_and_trim(&stream, &clock, 2);
    let files = common::segment_files(&path, 0);
    let second_name = scratch.path().join("second");
    std::fs::hard_link(&files[files.len() - 2], &second_name).unwrap();
    let linked = std::fs::read(&second_name).unwrap();
    (3..10).for_each(|minute| put_and_trim(&stream, &clock, minute));
    assert!(kept.iter().all(|record| record.data().iter().all(|&byte| byte == 1)));
    assert_eq!(kept.len(), 3);
    assert!(std::fs::read(&second_name).unwrap() == linked, "the file has changed under its second name");
}

#[test]
fn p6_p12_bytes_of_a_segment_that_was_written_to_again_after_opening_stay_as_they_are() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let open = || open(scratch.path(), &clock, Retention::age(2 * MINUTE));
    open().put("key", vec![1; 40_000]).unwrap();
    let stream = open();
    let kept = stream.iterator(SHARD, Position::TrimHorizon).unwrap().next_batch(3).unwrap();
    (2..10).for_each(|minute| put_and_trim(&stream, &clock, minute));
    assert!(kept.iter().all(|record| record.data().iter().all(|&byte| byte == 1)));
}

#[test]
fn p6_p12_bytes_that_are_held_of_a_stream_that_was_closed_stay_when_it_is_opened_again() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let open = || open(scratch.path(), &clock, Retention::age(2 * MINUTE));
    let stream = open();
    put_and_trim(&stream, &clock, 1);
    let mut iterator = stream.iterator(SHARD, Position::TrimHorizon).unwrap();
    let kept = iterator.next_batch(3).unwrap();
    stream.close().unwrap();
    let stream = open();
    (2..10).for_each(|minute| put_and_trim(&stream, &clock, minute));
    assert!(kept.iter().all(|record| record.data().iter().all(|&byte| byte == 1)));
}

/// Puts and trims until the file with this inode is the last segment again, with one record.
fn put_until_refilled(stream: &Stream, path: &Path, clock: &ManualClock, inode: u64) -> PathBuf {
    for minute in 1..10 {
        clock.advance(MINUTE);
        for _ in 0..30 {
            stream.put("key", vec![minute; 8_000]).unwrap();
            let mut files = common::segment_files(path, 0).into_iter();
            let last = files.rfind(|file| file.extension().is_some_and(|it| it == "seg")).unwrap();
            if minute > 1 && last.metadata().unwrap().ino() == inode {
                return last;
            }
        }
        stream.maintain().unwrap();
    }
    panic!("the file is not refilled");
}

#[test]
fn p9_what_a_trimmed_record_held_passes_for_nothing_in_the_file_that_is_filled_again() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let [path, killed, trial] = ["stream", "killed", "trial"].map(|name| scratch.path().join(name));
    let stream = open(&path, &clock, Retention::age(2 * MINUTE));
    // More than a segment, so that old records lie where a trailer is looked for later.
    let records: Vec<_> = (0..10).map(|_| PutRecord::new("key", &[1; 6_800])).collect();
    assert!(stream.put_batch(&records).unwrap().iter().all(Result::is_ok));
    let first = common::segment_files(&path, 0).remove(0);
    let (inode, old) = (first.metadata().unwrap().ino(), std::fs::read(&first).unwrap());
    let file = put_until_refilled(&stream, &path, &clock, inode);
    let file = file.strip_prefix(&path).unwrap();
    common::copy_dir(&path, &killed);
    let bytes = std::fs::read(killed.join(file)).unwrap();
    let [old_salt, new_salt] = [&old, &bytes].map(|bytes| bytes[common::SALT].to_vec());
    let word = |at: usize| u64::from_le_bytes(*bytes[at..].first_chunk().unwrap());
    let (base, end, timestamp) = (word(16), word(1024) as usize, word(4096 + 16));

    let count_with = |change: &dyn Fn(&mut Vec<u8>)| {
        let _ = std::fs::remove_dir_all(&trial);
        common::copy_dir(&killed, &trial);
        let mut changed = bytes.clone();
        change(&mut changed);
        std::fs::write(trial.join(file), changed).unwrap();
        let stream = open(&trial, &clock, Retention::forever());
        (numbers(&stream).len(), stream.recovery().has_torn_tail())
    };
    let (count, _) = count_with(&|_| ());
    // The author of the file's earlier records may know its old salt, and predict number and place, but not the new salt.
    let with_frame = |salt: &[u8]| {
        count_with(&|bytes| {
            let words = [48, base + 1, timestamp, 1].map(u64::to_le_bytes).concat();
            let record = [&[3, 0, 0, 0, 5, 0, 0, 0][..], b"key", b"bogus"].concat();
            bytes[end..end + 48].copy_from_slice(&[words, record].concat());
            common::sign_frame(bytes, end, salt);
        })
    };
    assert_eq!(with_frame(&old_salt), (count, true), "the old salt");
    assert_eq!(with_frame(&[]), (count, true), "no salt");
    assert_eq!(
        with_frame(&new_salt).0,
        count + 1,
        "with the new salt it must count, or the test proves nothing"
    );
    // A forged trailer would end the records too early.
    let with_trailer = |salt: &[u8]| {
        count_with(&|bytes| {
            let at = bytes.len() - 88;
            let words = [at as u64, 0, base, base + 7, 0, 0].map(u64::to_le_bytes).concat();
            let trailer = [b"slogend\0", &words[..], salt, &[0; 12]].concat();
            let checksum = crc32fast::hash(&trailer).to_le_bytes();
            bytes[at..].copy_from_slice(&[&trailer[..], &checksum[..]].concat());
        })
    };
    assert_eq!(with_trailer(&old_salt).0, count);
    let believed = catch_unwind(AssertUnwindSafe(|| with_trailer(&new_salt)));
    assert!(
        believed.is_err(),
        "with the new salt it must be believed, and its records missed, or the test proves nothing"
    );
}

#[test]
fn p12_a_shard_that_rests_keeps_no_file_to_be_filled_again() {
    let (scratch, clock) = (common::scratch(), common::clock());
    let stream = open(scratch.path(), &clock, Retention::age(2 * MINUTE));
    (1..6).for_each(|minute| put_and_trim(&stream, &clock, minute));
    assert!(!inodes(scratch.path()).1.is_empty());
    for _ in 0..11 {
        clock.advance(SECOND);
        stream.maintain().unwrap();
    }
    assert!(inodes(scratch.path()).1.is_empty());
}
