//! Snapshots of a live stream: what they contain, and that neither stream changes the other.

use crate::common;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use common::groups::{GROUP, drain, numbers, poll, put, sorted, worker};
use common::{clock, scratch, segment_files, small};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use streamlog::{
    Error, Maintenance, ManualClock, Position, Retention, ShardId, SnapshotReport, Stream, StreamOptions,
    extend,
};
use tempfile::TempDir;

/// The readable records of each shard: the number of the first, and keys and data.
type Content = BTreeMap<ShardId, (u64, Vec<(Vec<u8>, Vec<u8>)>)>;

/// Returns a directory to work in, a clock, and the paths of a stream and of its snapshot.
fn places() -> (TempDir, Arc<ManualClock>, PathBuf, PathBuf) {
    let scratch = scratch();
    let (path, to) = (scratch.path().join("stream"), scratch.path().join("to"));
    (scratch, clock(), path, to)
}

/// Returns the same, with an open stream that holds this many records.
fn filled(count: u32) -> (TempDir, Arc<ManualClock>, PathBuf, PathBuf, Stream) {
    let (scratch, clock, path, to) = places();
    let stream = small(&clock).open(&path).unwrap();
    fill(&stream, count);
    (scratch, clock, path, to, stream)
}

fn snapshot(stream: &Stream, to: &Path) -> SnapshotReport {
    let report = stream.snapshot(to, |_| ControlFlow::Continue(())).unwrap_or_else(|error| panic!("{error}"));
    assert!(report.is_complete);
    report
}

fn content(stream: &Stream) -> Content {
    let mut content = Content::new();
    for shard in stream.shards() {
        let mut iterator = stream.iterator(shard.id, Position::TrimHorizon).unwrap();
        let first = iterator.next_sequence().get();
        let records = iterator.records().map(|record| record.unwrap());
        let records = records.map(|record| (record.partition_key.to_vec(), record.data.to_vec())).collect();
        content.insert(shard.id, (first, records));
    }
    content
}

fn open(path: &Path, clock: &Arc<ManualClock>) -> Stream {
    small(clock).must_exist().open(path).unwrap_or_else(|error| panic!("{error}"))
}

/// Opens a snapshot, checks that it is whole, and returns what it holds.
fn content_of(path: &Path, clock: &Arc<ManualClock>) -> Content {
    let stream = open(path, clock);
    assert!(stream.recovery().was_closed_cleanly(), "{:?}", stream.recovery());
    let found = stream.verify(|_| ControlFlow::Continue(())).unwrap();
    assert!(found.is_complete && found.damage.is_empty(), "{found:?}");
    let content = content(&stream);
    stream.close().unwrap();
    content
}

fn inode(path: &Path) -> u64 {
    fs::metadata(path).unwrap().ino()
}

/// Returns all segment files of a stream with their content.
fn files_of(path: &Path) -> HashMap<PathBuf, Vec<u8>> {
    let mut found = HashMap::new();
    let mut directories = vec![path.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "seg") {
                let bytes = fs::read(&path).unwrap();
                found.insert(path, bytes);
            }
        }
    }
    found
}

fn fill(stream: &Stream, count: u32) {
    for number in 0..count {
        stream.put(format!("key-{}", number % 7), vec![number as u8; 9_000]).unwrap();
    }
}

#[test]
fn p1_a_snapshot_holds_what_was_put_before_it_and_nothing_that_came_later() {
    let (_scratch, clock, path, to) = places();
    let stream = small(&clock).shards(3).open(&path).unwrap();
    fill(&stream, 50);
    let then = content(&stream);
    let report = snapshot(&stream, &to);
    fill(&stream, 50);
    assert_eq!(content_of(&to, &clock), then);
    assert!(report.copied_file_count >= 3 && report.total_bytes > 50 * 9_000, "{report:?}");
    let backup = open(&to, &clock);
    assert_eq!(backup.describe().created_at, stream.describe().created_at);
    assert_eq!(backup.shards(), stream.shards());
}

#[test]
fn a_sealed_segment_takes_no_room_and_a_second_snapshot_adds_only_what_is_new() {
    let (_scratch, clock, path, to, stream) = filled(30);
    stream.maintain().unwrap();
    let first = snapshot(&stream, &to);
    let (files, copies) = (segment_files(&path, 0), segment_files(&to, 0));
    assert_eq!((first.linked_file_count as usize, first.copied_file_count), (files.len() - 1, 1));
    assert!(files.iter().zip(&copies).take(files.len() - 1).all(|(one, other)| inode(one) == inode(other)));
    assert_ne!(inode(files.last().unwrap()), inode(copies.last().unwrap()), "the last one is written to");
    assert!(first.copied_bytes < 64 << 10 && first.total_bytes > 30 * 9_000);

    let again = snapshot(&stream, &to);
    assert_eq!((again.linked_file_count, again.copied_file_count), (0, 0), "{again:?}");
    assert_eq!(again.kept_file_count as usize, files.len());

    fill(&stream, 14);
    stream.maintain().unwrap();
    let (then, third) = (content(&stream), snapshot(&stream, &to));
    assert_eq!(third.kept_file_count as usize, files.len() - 1);
    let new_count = segment_files(&path, 0).len() - (files.len() - 1);
    assert_eq!((third.linked_file_count as usize, third.copied_file_count), (new_count - 1, 1), "{third:?}");
    assert_eq!(content_of(&to, &clock), then);
}

#[test]
fn neither_stream_changes_a_file_of_the_other() {
    let (_scratch, clock, path, to, stream) = filled(20);
    stream.close().unwrap();
    // It was closed cleanly, so either side could resume its last segment, before the snapshot and after.
    let stream = open(&path, &clock);
    let report = snapshot(&stream, &to);
    assert_eq!(report.copied_file_count, 0, "all segments are sealed: {report:?}");
    let held = files_of(&to);
    fill(&stream, 20);
    assert_eq!(files_of(&to), held, "put while the stream stays open");
    stream.close().unwrap();
    let stream = open(&path, &clock);
    fill(&stream, 20);
    stream.close().unwrap();
    assert_eq!(files_of(&to), held, "put after the stream was opened again");

    let (source, then) = (files_of(&path), content_of(&to, &clock));
    let backup = open(&to, &clock);
    fill(&backup, 20);
    backup.close().unwrap();
    let backup = open(&to, &clock);
    fill(&backup, 20);
    backup.close().unwrap();
    assert_eq!(files_of(&path), source, "put into the snapshot");
    assert_eq!(content_of(&to, &clock)[&ShardId::new(0)].1.len(), then[&ShardId::new(0)].1.len() + 40);
}

#[test]
fn a_trimmed_segment_that_a_snapshot_holds_is_not_filled_again() {
    let (_scratch, clock, path, to) = places();
    let options = || small(&clock).retention(Retention::forever().bytes_max(200 << 10));
    let stream = options().open(&path).unwrap();
    let mut is_filled_again = false;
    for _ in 0..10 {
        fill(&stream, 30);
        stream.maintain().unwrap();
        let is_trimmed = |file: &PathBuf| file.to_str().unwrap().ends_with(".seg.spare");
        is_filled_again |= segment_files(&path, 0).iter().any(is_trimmed);
    }
    assert!(is_filled_again, "without a snapshot they are");
    snapshot(&stream, &to);
    let held = files_of(&to);
    let inodes: BTreeSet<_> = held.keys().map(|file| inode(file)).collect();
    for _ in 0..10 {
        fill(&stream, 30);
        stream.maintain().unwrap();
        assert_eq!(files_of(&to), held);
    }
    assert!(segment_files(&path, 0).iter().all(|file| !inodes.contains(&inode(file))));
    content_of(&to, &clock);
    snapshot(&stream, &to);
    assert_eq!(content_of(&to, &clock), content(&stream));
    assert!(files_of(&to).keys().all(|file| !held.contains_key(file)), "what was trimmed is gone");
}

#[test]
fn l1_groups_come_along_wherever_they_are_and_are_never_ahead() {
    let (_scratch, clock, path, to) = places();
    let stream = common::groups::open(&path, &clock, 2);
    put(&stream, 0..100);
    let mut open_one = worker(&stream);
    assert_eq!(drain(&mut open_one).len(), 100);
    let mut closed_one = stream.group("closed").worker().open().unwrap();
    let batch = poll(&mut closed_one).unwrap();
    let read_by_closed = numbers(&batch);
    closed_one.commit(&batch).unwrap();
    drop((closed_one, batch));
    drop(open_one);
    stream.close().unwrap();

    let stream = common::groups::open(&path, &clock, 2);
    let mut open_one = worker(&stream);
    put(&stream, 100..150);
    let batch = poll(&mut open_one).unwrap();
    let read_since = numbers(&batch);
    open_one.commit(&batch).unwrap();
    snapshot(&stream, &to);
    drop(batch);
    drain(&mut open_one);
    put(&stream, 150..200);

    let backup = open(&to, &clock);
    assert_eq!(backup.groups().unwrap(), [GROUP, "closed"]);
    let mut expected: Vec<u32> = (100..150).collect();
    expected.retain(|number| !read_since.contains(number));
    assert_eq!(sorted(drain(&mut worker(&backup))), expected);
    let mut of_closed = backup.group("closed").worker().open().unwrap();
    let mut expected: Vec<u32> = (0..150).collect();
    expected.retain(|number| !read_by_closed.contains(number));
    assert_eq!(sorted(drain(&mut of_closed)), expected);
    drop(of_closed);
    backup.close().unwrap();

    // A deleted group disappears from the next snapshot. Commits to the snapshot's own groups are replaced.
    drop(open_one);
    stream.group("closed").delete().unwrap();
    snapshot(&stream, &to);
    let backup = open(&to, &clock);
    assert_eq!(backup.groups().unwrap(), [GROUP]);
    assert_eq!(sorted(drain(&mut worker(&backup))), (150..200).collect::<Vec<_>>());
    backup.close().unwrap();
    stream.group(GROUP).delete().unwrap();
    snapshot(&stream, &to);
    assert_eq!(open(&to, &clock).groups().unwrap(), Vec::<String>::new());
}

#[test]
fn l1_a_group_whose_checkpoints_roll_and_are_dropped_is_copied_whole() {
    let (_scratch, clock, path, to) = places();
    let stream = common::groups::open(&path, &clock, 1);
    let inside = extend::streams_inside(&stream, "audits");
    let audit = inside.open("logins", small(&clock)).unwrap();
    for round in 0..20 {
        fill(&audit, 20);
        if round % 3 == 0 {
            audit.maintain().unwrap();
        }
        if round % 4 == 0 {
            let shard = audit.shards()[0].id;
            audit.trim_before(shard, audit.stats().unwrap().shards[0].next_sequence).unwrap();
        }
        if round == 10 {
            audit.split_shard_evenly(audit.shards()[0].id).unwrap();
        }
        let then = content(&audit);
        let report = snapshot(&stream, &to);
        assert!(report.total_bytes > 0);
        let backup = open(&to, &clock);
        let copied = extend::streams_inside(&backup, "audits").open("logins", small(&clock)).unwrap();
        let copied_content = content(&copied);
        // A trim is durable with the next pass. Until then the copy may hold more at the beginning.
        for (shard, (first, records)) in then {
            let (copied_first, copied_records) = &copied_content[&shard];
            assert!(*copied_first <= first);
            assert_eq!(copied_records[(first - copied_first) as usize..], records, "{shard}");
        }
        copied.close().unwrap();
    }
}

#[test]
fn what_is_no_snapshot_of_the_stream_is_refused_and_left_alone() {
    let (scratch, clock, path, _, stream) = filled(3);
    let refusal = |to: &Path| stream.snapshot(to, |_| ControlFlow::Continue(())).unwrap_err();
    let is_invalid = |to: &Path| matches!(refusal(to), Error::InvalidArgument(_));

    assert!(is_invalid(&path), "{}", refusal(&path));
    assert!(is_invalid(&path.join("inside")));
    assert!(is_invalid(&path.join("groups/backup/daily")));
    assert!(!path.join("groups").exists());

    let other = scratch.path().join("other");
    let other_stream = small(&clock).open(&other).unwrap();
    other_stream.put("key", "data").unwrap();
    assert!(matches!(refusal(&other), Error::Locked(_)));
    other_stream.close().unwrap();
    assert!(is_invalid(&other), "{}", refusal(&other));
    assert_eq!(content_of(&other, &clock)[&ShardId::new(0)].1.len(), 1);

    let files = scratch.path().join("files");
    fs::create_dir(&files).unwrap();
    fs::write(files.join("letter"), "dear").unwrap();
    assert!(matches!(refusal(&files), Error::NotAStream(_)));
    assert!(matches!(refusal(&files.join("letter")), Error::NotAStream(_)));
    assert_eq!(fs::read_dir(&files).unwrap().count(), 1);

    let to = scratch.path().join("to");
    snapshot(&stream, &to);
    let backup = open(&to, &clock);
    assert!(matches!(refusal(&to), Error::Locked(_)));
    backup.close().unwrap();
    snapshot(&stream, &to);

    let clock_later = clock.clone();
    clock_later.advance(Duration::from_secs(1));
    let later = scratch.path().join("later");
    let later_stream = small(&clock).open(&later).unwrap();
    let outcome = later_stream.snapshot(&to, |_| ControlFlow::Continue(()));
    assert!(matches!(outcome, Err(Error::InvalidArgument(_))), "of another stream: {outcome:?}");
    stream.clone().close().unwrap();
    assert!(matches!(refusal(&to), Error::Closed));
}

#[test]
fn a_snapshot_that_was_written_to_is_refused_and_one_that_was_only_opened_is_not() {
    let (scratch, clock, path, _) = places();
    let stream =
        small(&clock).shards(2).retention(Retention::age(Duration::from_secs(100))).open(&path).unwrap();
    fill(&stream, 20);
    let refusal = |to: &Path| stream.snapshot(to, |_| ControlFlow::Continue(())).unwrap_err().to_string();
    // Opened and killed, or closed, or trimmed.
    for way in 0..3 {
        let to = scratch.path().join(format!("opened-{way}"));
        snapshot(&stream, &to);
        let backup = open(&to, &clock);
        match way {
            0 => std::mem::forget(backup),
            1 => backup.close().unwrap(),
            _ => {
                clock.advance(Duration::from_secs(200));
                backup.maintain().unwrap();
                backup.close().unwrap();
            }
        }
        fill(&stream, 5);
        // This process still has the forgotten one locked.
        if way > 0 {
            snapshot(&stream, &to);
            assert_eq!(content_of(&to, &clock).len(), 2);
        }
    }
    // Put, and closed or killed; split.
    for way in 0..4 {
        let to = scratch.path().join(format!("written-{way}"));
        snapshot(&stream, &to);
        let backup = open(&to, &clock);
        let copy = scratch.path().join(format!("killed-{way}"));
        match way {
            0 => drop(backup.put("key", "data").unwrap()),
            1 => fill(&backup, 30),
            2 => drop(backup.split_shard_evenly(backup.shards()[0].id).unwrap()),
            _ => drop(backup.put("key", vec![1; 60_000]).unwrap()),
        }
        common::copy_dir(&to, &copy);
        backup.close().unwrap();
        for written in [&to, &copy] {
            let told = refusal(written);
            assert!(told.contains("was written to"), "{way}: {told}");
            let held: usize = content_of_any(written, &clock).values().map(|shard| shard.1.len()).sum();
            assert!(held > 0, "it is left alone");
        }
    }
}

/// Like `content_of`, but of a stream that may not have been closed.
fn content_of_any(path: &Path, clock: &Arc<ManualClock>) -> Content {
    let stream = open(path, clock);
    let content = content(&stream);
    stream.close().unwrap();
    content
}

#[test]
fn a_snapshot_that_is_stopped_leaves_the_last_one_and_the_next_call_goes_on() {
    let (scratch, clock, _, to, stream) = filled(40);
    stream.maintain().unwrap();
    let stop_after = |count: u32| {
        let mut left = count;
        let report = stream
            .snapshot(&to, |progress| {
                assert!(progress.bytes_done <= progress.bytes_total);
                left -= 1;
                if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })
            .unwrap();
        assert!(!report.is_complete);
        report
    };
    assert_eq!(stop_after(3).linked_file_count, 3);
    let refused = StreamOptions::new().open(&to).unwrap_err();
    assert!(
        matches!(&refused, Error::NotAStream(_)) && refused.to_string().contains("not finished"),
        "{refused}"
    );
    let then = content(&stream);
    let report = snapshot(&stream, &to);
    assert_eq!(report.kept_file_count, 3, "{report:?}");
    assert_eq!(content_of(&to, &clock), then);

    fill(&stream, 40);
    stop_after(2);
    assert_eq!(content_of(&to, &clock), then, "the last one is as it was");
    assert!(!to.join("snapshot.unfinished").exists(), "opening removes what is left");
    let mut last = (0, 0);
    let mut calls = 0;
    stream
        .snapshot(&to, |progress| {
            calls += 1;
            assert!(progress.bytes_done >= last.0);
            last = (progress.bytes_done, progress.bytes_total);
            ControlFlow::Continue(())
        })
        .unwrap();
    assert!(calls > 5 && last.0 == last.1 && last.1 > 80 * 9_000, "{calls} {last:?}");
    assert_eq!(content_of(&to, &clock), content(&stream));

    let other = scratch.path().join("other");
    let report = stream.snapshot(&other, |_| ControlFlow::Break(())).unwrap();
    assert!(!report.is_complete);
    Stream::delete(&other).unwrap();
    assert!(!other.exists());
    Stream::delete(&to).unwrap();
}

#[test]
fn progress_may_close_the_stream() {
    let (_scratch, _, _, to, stream) = filled(20);
    let outcome = stream.snapshot(&to, |_| {
        let _ = stream.clone().close();
        ControlFlow::Continue(())
    });
    assert!(matches!(outcome, Err(Error::Closed)), "{outcome:?}");
    assert!(!to.join("manifest.json").exists());
}

#[test]
fn p9_damage_in_a_sealed_segment_is_found_in_the_snapshot_and_salvaged_there_alone() {
    let (_scratch, clock, path, to, stream) = filled(20);
    stream.close().unwrap();
    let first = segment_files(&path, 0).remove(0);
    let mut bytes = fs::read(&first).unwrap();
    bytes[10_000] ^= 1;
    fs::write(&first, &bytes).unwrap();
    let stream = open(&path, &clock);
    snapshot(&stream, &to);
    let backup = small(&clock).salvage(true).open(&to).unwrap();
    assert_eq!(backup.recovery().lost().count(), 1);
    backup.close().unwrap();
    assert_eq!(fs::read(&first).unwrap(), bytes, "the stream's own file is as it was");
    let found = stream.verify(|_| ControlFlow::Continue(())).unwrap();
    assert_eq!(found.damage.len(), 1);
    // The next snapshot takes the stream's file again.
    snapshot(&stream, &to);
    assert_eq!(inode(&segment_files(&to, 0)[0]), inode(&first));
}

#[test]
fn a_hold_comes_along_only_with_its_group() {
    let (_scratch, clock, _, to, stream) = filled(3);
    let _held = stream.group("held").worker().hold(1 << 20).open().unwrap();
    let mut late = None;
    let mut calls = 0;
    stream
        .snapshot(&to, |_| {
            calls += 1;
            // The group's files are copied by now.
            if late.is_none() {
                late = Some(stream.group("late").worker().hold(1 << 20).open().unwrap());
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    let backup = open(&to, &clock);
    assert_eq!(backup.groups().unwrap(), ["held"]);
    let holds: Vec<_> = backup.describe().holds.into_iter().map(|hold| hold.name).collect();
    assert_eq!(holds, ["held"]);
}

#[derive(Debug, Clone)]
enum Operation {
    Put { key: u8, len: usize },
    PutBatch { count: u8, len: usize },
    Maintain,
    Split { shard: usize },
    Merge { shard: usize },
    Trim { shard: usize, to: f64 },
    RetainBytes { bytes: Option<u64> },
    Commit { group: bool },
    Reopen { is_killed: bool },
    Snapshot { to: usize },
    OpenSnapshot { to: usize },
    Fork { to: usize, count: u8 },
}

fn operation() -> impl Strategy<Value = Operation> {
    let len = || prop_oneof![3 => 0usize..300, 2 => 300usize..9_000, 1 => 9_000usize..40_000];
    prop_oneof![
        20 => (any::<u8>(), len()).prop_map(|(key, len)| Operation::Put { key, len }),
        6 => (1u8..40, len()).prop_map(|(count, len)| Operation::PutBatch { count, len }),
        4 => Just(Operation::Maintain),
        2 => any::<usize>().prop_map(|shard| Operation::Split { shard }),
        2 => any::<usize>().prop_map(|shard| Operation::Merge { shard }),
        2 => (any::<usize>(), 0.0..1.1).prop_map(|(shard, to)| Operation::Trim { shard, to }),
        1 => proptest::option::of(50_000u64..500_000).prop_map(|bytes| Operation::RetainBytes { bytes }),
        3 => any::<bool>().prop_map(|group| Operation::Commit { group }),
        1 => any::<bool>().prop_map(|is_killed| Operation::Reopen { is_killed }),
        6 => (0usize..4).prop_map(|to| Operation::Snapshot { to }),
        2 => (0usize..4).prop_map(|to| Operation::OpenSnapshot { to }),
        1 => (0usize..4, 1u8..30).prop_map(|(to, count)| Operation::Fork { to, count }),
    ]
}

/// What a snapshot must hold.
#[derive(Debug, Clone, PartialEq)]
struct Then {
    content: Content,
    shards: Vec<(ShardId, bool)>,
    groups: BTreeMap<String, u64>,
}

/// A stream, and what each of its snapshots must hold.
struct Model {
    scratch: TempDir,
    generation: u32,
    clock: Arc<ManualClock>,
    stream: Option<Stream>,
    snapshots: HashMap<usize, Then>,
    /// How often a snapshot's path was abandoned because the snapshot was written to.
    moved: usize,
    put_count: u64,
}

fn group_lags(stream: &Stream) -> BTreeMap<String, u64> {
    let lag = |name: String| {
        let lag = stream.group(&name).describe().unwrap().lag().record_count;
        (name, lag)
    };
    stream.groups().unwrap().into_iter().map(lag).collect()
}

fn then(stream: &Stream) -> Then {
    let shards = stream.shards().iter().map(|shard| (shard.id, shard.is_open())).collect();
    Then { content: content(stream), shards, groups: group_lags(stream) }
}

impl Model {
    fn new() -> Self {
        let mut model = Self {
            scratch: scratch(),
            generation: 0,
            clock: clock(),
            stream: None,
            snapshots: HashMap::new(),
            moved: 0,
            put_count: 0,
        };
        let options = small(&model.clock).retention(Retention::forever()).shards(2);
        model.stream = Some(options.open(model.path()).unwrap());
        model
    }

    fn path(&self) -> PathBuf {
        self.scratch.path().join(format!("stream-{}", self.generation))
    }

    fn place(&self, to: usize) -> PathBuf {
        self.scratch.path().join(format!("to-{to}"))
    }

    fn stream(&self) -> &Stream {
        self.stream.as_ref().unwrap()
    }

    fn open_shard(&self, at: usize) -> ShardId {
        let open: Vec<_> = self.stream().shards().into_iter().filter(|shard| shard.is_open()).collect();
        open[at % open.len()].id
    }

    fn run(&mut self, operation: &Operation) {
        let stream = self.stream().clone();
        match *operation {
            Operation::Put { key, len } => {
                self.put_count += 1;
                stream.put([key], vec![self.put_count as u8; len]).unwrap();
            }
            Operation::PutBatch { count, len } => {
                let data = vec![count; len];
                let keys: Vec<_> = (0..count).map(|key| [key]).collect();
                let records: Vec<_> = keys.iter().map(|key| streamlog::PutRecord::new(key, &data)).collect();
                assert!(stream.put_batch(&records).unwrap().iter().all(Result::is_ok));
            }
            Operation::Maintain => stream.maintain().unwrap(),
            Operation::Split { shard } => {
                if stream.shards().len() < 12 {
                    let _ = stream.split_shard_evenly(self.open_shard(shard));
                }
            }
            Operation::Merge { shard } => {
                let mut open: Vec<_> = stream.shards().into_iter().filter(|shard| shard.is_open()).collect();
                open.sort_by_key(|shard| shard.hash_key_range.start);
                if open.len() > 1 && stream.shards().len() < 12 {
                    let at = shard % (open.len() - 1);
                    stream.merge_shards(open[at].id, open[at + 1].id).unwrap();
                }
            }
            Operation::Trim { shard, to } => {
                let shards = stream.stats().unwrap().shards;
                let shard = &shards[shard % shards.len()];
                let count = shard.next_sequence.get() - shard.horizon.get();
                let before = shard.horizon.plus((count as f64 * to) as u64);
                stream.trim_before(shard.shard, before).unwrap();
            }
            Operation::RetainBytes { bytes } => {
                let retention = Retention::forever();
                stream.set_retention(bytes.map_or(retention, |bytes| retention.bytes_max(bytes))).unwrap();
            }
            Operation::Commit { group } => {
                let name = if group { "one" } else { "other" };
                let options = stream.group(name).worker();
                let mut worker = options.on_trimmed(streamlog::OnTrimmed::SkipToHorizon).open().unwrap();
                for _ in 0..3 {
                    if let Some(batch) = poll(&mut worker) {
                        worker.commit(&batch).unwrap();
                    }
                }
                worker.close();
            }
            Operation::Reopen { is_killed } => {
                let from = self.path();
                if is_killed {
                    self.generation += 1;
                    common::copy_dir(&from, &self.path());
                }
                stream.clone().close().unwrap();
                drop(stream);
                self.stream = Some(open(&self.path(), &self.clock));
            }
            Operation::Snapshot { to } => {
                let expected = then(&stream);
                let report = snapshot(&stream, &self.place(to));
                assert_eq!(then(&stream), expected, "a snapshot changes nothing");
                let held = files_of(&self.place(to)).len() as u64;
                let counted = report.linked_file_count + report.copied_file_count + report.kept_file_count;
                assert_eq!(counted, held, "{report:?}");
                self.snapshots.insert(to, expected);
            }
            Operation::OpenSnapshot { to } => self.check(to),
            Operation::Fork { to, count } => {
                if self.snapshots.remove(&to).is_none() {
                    return;
                }
                // From here on, it is a separate stream that shares files with the others.
                let expected = then(&stream);
                let backup = open(&self.place(to), &self.clock);
                for number in 0..count {
                    backup.put([number], vec![number; 3_000]).unwrap();
                }
                backup.maintain().unwrap();
                backup.close().unwrap();
                let refused = stream.snapshot(self.place(to), |_| ControlFlow::Continue(()));
                assert!(matches!(refused, Err(Error::InvalidArgument(_))), "{refused:?}");
                self.moved += 1;
                fs::rename(self.place(to), self.scratch.path().join(format!("moved-{}", self.moved)))
                    .unwrap();
                assert_eq!(then(&stream), expected, "P1: what is put into a snapshot changes nothing else");
            }
        }
    }

    /// Opens a snapshot, compares it, and closes it.
    fn check(&self, to: usize) {
        let Some(expected) = self.snapshots.get(&to) else { return };
        let backup = open(&self.place(to), &self.clock);
        let found = backup.verify(|_| ControlFlow::Continue(())).unwrap();
        assert_eq!(found.damage, []);
        assert_eq!(&then(&backup), expected);
        backup.close().unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::with_cases(48)
    })]

    #[test]
    fn p1_p4_p12_p16_snapshots_hold_what_the_stream_held_whatever_either_does_later(
        operations in proptest::collection::vec(operation(), 1..120)
    ) {
        let mut model = Model::new();
        for operation in &operations {
            model.run(operation);
        }
        (0..4).for_each(|to| model.check(to));
        let expected = content(model.stream());
        model.stream.take().unwrap().close().unwrap();
        assert_eq!(content_of_any(&model.path(), &model.clock), expected);
    }
}

/// One thread puts each key, as numbers that count up. A snapshot holds every put that returned before it, and a gap-free part of each key.
#[test]
fn p1_p4_p16_snapshots_while_threads_put_and_shards_and_retention_change() {
    const WRITERS: u64 = 3;
    for syncs_each in [false, true] {
        let scratch = scratch();
        let path = scratch.path().join("stream");
        let options = || {
            StreamOptions::new()
                .shards(2)
                .segment_bytes(64 << 10)
                .retention(Retention::forever().bytes_max(if syncs_each { 1 << 20 } else { 8 << 20 }))
                .durability(if syncs_each {
                    streamlog::Durability::Power
                } else {
                    streamlog::Durability::Process
                })
        };
        let stream = options().open(&path).unwrap();
        let is_over = AtomicBool::new(false);
        let returned: Vec<AtomicU64> = (0..WRITERS).map(|_| AtomicU64::new(0)).collect();
        std::thread::scope(|threads| {
            for writer in 0..WRITERS {
                let (stream, returned, is_over) = (&stream, &returned, &is_over);
                threads.spawn(move || {
                    for number in 1.. {
                        if is_over.load(Ordering::Relaxed) {
                            return;
                        }
                        let mut data = number_bytes(number);
                        data.resize(8 + (number * 997 % 3_000) as usize, 7);
                        stream.put(format!("key-{writer}"), &data).unwrap();
                        returned[writer as usize].store(number, Ordering::Release);
                    }
                });
            }
            let (resharded, is_over_here) = (&stream, &is_over);
            threads.spawn(move || {
                for round in 0u32.. {
                    if is_over_here.load(Ordering::Relaxed) {
                        return;
                    }
                    resharded.update_shard_count(1 + round % 4).unwrap();
                    std::thread::sleep(Duration::from_millis(3));
                }
            });
            let group = stream.group(GROUP);
            let is_over_too = &is_over;
            threads.spawn(move || {
                let mut worker =
                    group.worker().on_trimmed(streamlog::OnTrimmed::SkipToHorizon).open().unwrap();
                while !is_over_too.load(Ordering::Relaxed) {
                    if let Some(batch) = worker.poll(Duration::from_millis(5)).unwrap() {
                        worker.commit(&batch).unwrap();
                    }
                }
            });
            // Ends the threads even if a check fails.
            let _ender = Ender(&is_over);
            for round in 0..12 {
                std::thread::sleep(Duration::from_millis(20));
                let before: Vec<u64> = returned.iter().map(|number| number.load(Ordering::Acquire)).collect();
                let to = scratch.path().join(format!("to-{}", round % 3));
                snapshot(&stream, &to);
                check_snapshot(&to, &before);
            }
        });
        let found = stream.verify(|_| ControlFlow::Continue(())).unwrap();
        assert_eq!(found.damage, []);
    }
}

struct Ender<'a>(&'a AtomicBool);

impl Drop for Ender<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn number_bytes(number: u64) -> Vec<u8> {
    number.to_le_bytes().to_vec()
}

fn check_snapshot(path: &Path, before: &[u64]) {
    let options = StreamOptions::new().maintenance(Maintenance::Manual).must_exist();
    let backup = options.open(path).unwrap_or_else(|error| panic!("{error}"));
    let mut read: HashMap<Vec<u8>, Vec<u64>> = HashMap::new();
    let mut iterator = backup.lineage_iterator(Position::TrimHorizon).unwrap();
    loop {
        let batch = iterator.next_batch(1_000).unwrap();
        if batch.is_empty() {
            break;
        }
        for record in &batch {
            let number = u64::from_le_bytes(*record.data().first_chunk().unwrap());
            read.entry(record.partition_key().to_vec()).or_default().push(number);
        }
    }
    for (writer, &before) in before.iter().enumerate() {
        let numbers = read.get(format!("key-{writer}").as_bytes()).cloned().unwrap_or_default();
        let is_whole = numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]);
        assert!(is_whole, "P4: key {writer} is out of order, or has a gap: {numbers:?}");
        // Retention drops the oldest first.
        assert!(numbers.last().is_none_or(|&last| last >= before), "P1: {before} returned, {numbers:?}");
    }
    let lag = backup.group(GROUP).describe();
    if let Ok(described) = lag {
        let ends: HashMap<_, _> =
            backup.stats().unwrap().shards.iter().map(|shard| (shard.shard, shard.next_sequence)).collect();
        for shard in &described.shards {
            let end = ends.get(&shard.shard).copied();
            assert!(
                end.is_none_or(|end| shard.next_sequence <= end),
                "the group is ahead: {shard:?} of {end:?}"
            );
        }
    }
    backup.close().unwrap();
}

/// Nothing can be linked on another file system. The next snapshot there copies only what is new.
#[cfg(target_os = "linux")]
#[test]
fn a_snapshot_on_another_file_system_is_copied_once() {
    use common::mounts::{Ballast, Kind, Mount};
    for kind in [Kind::Tmpfs, Kind::Ext4, Kind::Xfs] {
        let Some(mount) = Mount::new(kind) else { continue };
        let (scratch, clock) = (scratch(), clock());
        let (path, to) = (scratch.path().join("stream"), mount.path().join("to"));
        let stream = small(&clock).open(&path).unwrap();
        let _worker = worker(&stream);
        fill(&stream, 100);
        stream.maintain().unwrap();
        let first = snapshot(&stream, &to);
        assert_eq!((first.linked_file_count, first.kept_file_count), (0, 0), "{kind:?}: {first:?}");
        assert_eq!(content_of(&to, &clock), content(&stream), "{kind:?}");
        fill(&stream, 20);
        stream.maintain().unwrap();
        let second = snapshot(&stream, &to);
        assert!(second.kept_file_count >= first.copied_file_count - 2, "{kind:?}: {second:?}");
        assert!(second.copied_bytes < first.copied_bytes / 3, "{kind:?}: {second:?}");
        assert_eq!(content_of(&to, &clock), content(&stream), "{kind:?}");

        // P8: without room, the last snapshot stays, and the next call continues.
        let then = content(&stream);
        fill(&stream, 200);
        stream.maintain().unwrap();
        let mut ballast = Ballast::fill(mount.path());
        ballast.leave(512 << 10);
        let full = stream.snapshot(&to, |_| ControlFlow::Continue(()));
        assert!(matches!(full, Err(Error::StorageFull(_))), "{kind:?}: {full:?}");
        drop(ballast);
        let third = snapshot(&stream, &to);
        assert!(third.kept_file_count > second.kept_file_count, "{kind:?}: {third:?}");
        assert_eq!(content_of(&to, &clock), content(&stream), "{kind:?}");
        let _ = then;

        // From that file system to itself, with shared blocks or hard links.
        let inner = open(&to, &clock);
        let report = snapshot(&inner, &mount.path().join("again"));
        assert!(report.linked_file_count > 0, "{kind:?}: {report:?}");
    }
}

#[test]
fn l1_what_is_committed_while_files_are_copied_is_not_ahead_of_the_records() {
    let (_scratch, clock, path, to) = places();
    let stream = common::groups::open(&path, &clock, 1);
    // Copied before the other group, so that there is a call between the two.
    let _first = stream.group("a").worker().open().unwrap();
    let mut consumer = worker(&stream);
    put(&stream, 0..10);
    drain(&mut consumer);
    let mut next = 10;
    stream
        .snapshot(&to, |_| {
            put(&stream, next..next + 1);
            next += 1;
            drain(&mut consumer);
            ControlFlow::Continue(())
        })
        .unwrap();
    assert!(next > 12, "there was a call for the group's files, and one for the stream's");
    let backup = open(&to, &clock);
    let end = backup.stats().unwrap().shards[0].next_sequence;
    let described = backup.group(GROUP).describe().unwrap();
    let checkpoint = described.shards[0].next_sequence;
    assert!(checkpoint <= end && checkpoint.get() >= 10, "{checkpoint} of {end}");
    assert!(end.get() < next.into(), "records that came later are not in it");
}

#[test]
fn a_put_between_the_moment_and_the_copy_does_not_continue_a_segment_of_the_snapshot() {
    let (_scratch, clock, path, to, stream) = filled(20);
    stream.close().unwrap();
    let stream = open(&path, &clock);
    let then = content(&stream);
    let mut has_put = false;
    stream
        .snapshot(&to, |_| {
            if !std::mem::replace(&mut has_put, true) {
                fill(&stream, 1);
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    let held = files_of(&to);
    fill(&stream, 10);
    assert_eq!(files_of(&to), held);
    assert_eq!(content_of(&to, &clock), then);
}
