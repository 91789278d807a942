//! Crashes and failures at each step of a snapshot, of a first one and of one that follows another.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::steps::{copy_dir, scratch};
use crate::log::sys::fault::set_hook;
use crate::{
    Clock, Error, Maintenance, ManualClock, Position, Retention, ShardId, Stream, StreamOptions, Timestamp,
};

const EIO: i32 = 5;
const EXDEV: i32 = 18;
const ENOSPC: i32 = 28;

/// The records of each shard, and the lag of the group.
pub(super) type Content = (BTreeMap<ShardId, (u64, Vec<Vec<u8>>)>, u64);

pub(super) fn options() -> StreamOptions {
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(Timestamp::from_millis(1_700_000_000_000)));
    let options = StreamOptions::new().segment_bytes(64 << 10).retention(Retention::forever());
    options.maintenance(Maintenance::Manual).clock(clock)
}

pub(super) fn content(stream: &Stream) -> Content {
    let read = |id: ShardId| {
        let mut iterator = stream.iterator(id, Position::TrimHorizon).unwrap();
        let first = iterator.next_sequence().get();
        (id, (first, iterator.records().map(|record| record.unwrap().data.to_vec()).collect()))
    };
    let records = stream.shards().iter().map(|shard| read(shard.id)).collect();
    (records, stream.group("billing").describe().unwrap().lag().record_count)
}

pub(super) fn put(stream: &Stream, count: u8) {
    for number in 0..count {
        stream.put([number % 5], vec![number; 5_000 + usize::from(number) * 100]).unwrap();
    }
}

pub(super) fn commit(stream: &Stream) {
    let mut worker = stream.group("billing").worker().open().unwrap();
    let batch = worker.poll(Duration::ZERO).unwrap().unwrap();
    worker.commit(&batch).unwrap();
}

/// A stream, an earlier snapshot of it if the case has one, and what each of the two holds.
struct Case {
    scratch: tempfile::TempDir,
    stream: Stream,
    old: Option<Content>,
    new: Content,
}

impl Case {
    fn new(has_old: bool) -> Self {
        let scratch = scratch();
        let stream = options().shards(2).open(scratch.path().join("stream")).unwrap();
        put(&stream, 30);
        commit(&stream);
        stream.maintain().unwrap();
        let to = scratch.path().join("to");
        let mut old = None;
        if has_old {
            take(&stream, &to).unwrap();
            old = Some(content(&stream));
            put(&stream, 20);
            let shards = stream.stats().unwrap().shards;
            stream.trim_before(shards[0].shard, shards[0].horizon.plus(9)).unwrap();
            stream.maintain().unwrap();
            stream.split_shard_evenly(shards[1].shard).unwrap();
            put(&stream, 10);
            commit(&stream);
        }
        let new = content(&stream);
        Self { scratch, stream, old, new }
    }

    fn to(&self) -> PathBuf {
        self.scratch.path().join("to")
    }
}

pub(super) fn take(stream: &Stream, to: &Path) -> Result<(), Error> {
    stream.snapshot(to, |_| ControlFlow::Continue(())).map(|report| assert!(report.is_complete))
}

/// Checks what a crash or a failure leaves: the earlier snapshot or the new one, and none that opens only if there was none. From there on,
/// another snapshot is complete.
fn check(stream: &Stream, to: &Path, old: Option<&Content>, new: &Content, what: &str) {
    match options().must_exist().open(to) {
        Ok(backup) => {
            let found = backup.verify(|_| ControlFlow::Continue(())).unwrap();
            assert_eq!(found.damage, [], "{what}");
            let held = content(&backup);
            assert!(held == *new || old == Some(&held), "{what}: neither the old one nor the new one");
            backup.close().unwrap();
        }
        Err(Error::NotAStream(_)) => assert!(old.is_none(), "{what}: the old one is gone"),
        Err(error) => panic!("{what}: {error}"),
    }
    take(stream, to).unwrap_or_else(|error| panic!("{what}: {error}"));
    let backup = options().must_exist().open(to).unwrap();
    assert_eq!(content(&backup), *new, "{what}, and another snapshot");
    backup.close().unwrap();
    let left = std::fs::read_dir(to).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(left.into_iter().all(|name| name != "snapshot.unfinished"), "{what}: litter");
}

/// Refuses second names, like a file system that has none.
pub(super) fn refuse_links(has_no_links: bool, action: &str) -> io::Result<()> {
    if has_no_links && action == "link" { Err(io::Error::from_raw_os_error(EXDEV)) } else { Ok(()) }
}

#[test]
fn p16_a_crash_before_each_step_of_a_snapshot_leaves_the_old_one_or_the_new() {
    for (has_old, has_no_links) in [(false, false), (true, false), (true, true)] {
        let case = Case::new(has_old);
        let (to, image) = (case.to(), case.scratch.path().join("image"));
        let step_count = Rc::new(RefCell::new(0));
        set_hook(Some(Box::new({
            let (stream, old, new) = (case.stream.clone(), case.old.clone(), case.new.clone());
            let (to, step_count) = (to.clone(), Rc::clone(&step_count));
            move |action, file| {
                if to.exists() {
                    *step_count.borrow_mut() += 1;
                    let step = step_count.borrow();
                    let what = format!("a crash before step {step}, {action} {}", file.display());
                    copy_dir(&to, &image);
                    // In another thread, where no hook is set.
                    std::thread::scope(|threads| {
                        let check = || check(&stream, &image, old.as_ref(), &new, &what);
                        threads.spawn(check).join().unwrap();
                    });
                    std::fs::remove_dir_all(&image).unwrap();
                }
                refuse_links(has_no_links, action)
            }
        })));
        let taken = take(&case.stream, &to);
        set_hook(None);
        taken.unwrap();
        assert!(*step_count.borrow() > 60, "{} steps", step_count.borrow());
        check(&case.stream, &to, None, &case.new, "no crash");
    }
}

#[test]
fn p8_p16_a_failure_at_each_step_of_a_snapshot_leaves_the_old_one_or_the_new() {
    for (has_old, has_no_links, errno) in [(false, false, EIO), (true, false, EIO), (true, true, ENOSPC)] {
        for step in 1.. {
            let case = Case::new(has_old);
            let seen = Rc::new(RefCell::new((0, String::new())));
            set_hook(Some(Box::new({
                let seen = Rc::clone(&seen);
                move |action, file| {
                    let (count, what) = &mut *seen.borrow_mut();
                    *count += 1;
                    if *count == step {
                        *what = format!("step {step} fails, {action} {}", file.display());
                        return Err(io::Error::from_raw_os_error(errno));
                    }
                    refuse_links(has_no_links, action)
                }
            })));
            let taken = take(&case.stream, &case.to());
            set_hook(None);
            let (count, what) = seen.take();
            if count < step {
                assert!(step > 60, "{step} steps");
                break;
            }
            if let Err(error) = taken {
                let names_path = error.to_string().contains(case.scratch.path().to_str().unwrap());
                assert!(names_path, "{what}: {error} does not name the path");
            }
            if case.to().exists() {
                check(&case.stream, &case.to(), case.old.as_ref(), &case.new, &what);
            }
            // The stream itself is as before.
            assert_eq!(content(&case.stream), case.new, "{what}");
            assert!(case.stream.put("key", "data").is_ok(), "{what}");
        }
    }
}

/// A segment is trimmed, and its file made ready for the next one, just before the snapshot reads it.
#[test]
fn p12_what_retention_drops_while_files_are_copied_is_left_out() {
    for (is_sealed, has_no_links, at_read, trimmed) in
        [(false, false, 1, 58), (true, false, 3, 45), (true, true, 3, 45)]
    {
        let scratch = scratch();
        let (path, to) = (scratch.path().join("stream"), scratch.path().join("to"));
        let stream = options().open(&path).unwrap();
        put(&stream, 60);
        if is_sealed {
            stream.maintain().unwrap();
        }
        let end = stream.stats().unwrap().shards[0].next_sequence;
        let mut reads = 0;
        let hooked = stream.clone();
        set_hook(Some(Box::new(move |action, _| {
            let read = if is_sealed && !has_no_links { "link" } else { "copy to" };
            reads += usize::from(action == read);
            if reads == at_read {
                reads += 1;
                std::thread::scope(|threads| {
                    let trim = || {
                        let shard = hooked.stats().unwrap().shards.remove(0);
                        hooked.trim_before(shard.shard, shard.horizon.plus(trimmed)).unwrap();
                        put(&hooked, 1);
                        hooked.maintain().unwrap();
                        put(&hooked, 40);
                    };
                    threads.spawn(trim).join().unwrap();
                });
            }
            refuse_links(has_no_links, action)
        })));
        let taken = take(&stream, &to);
        set_hook(None);
        taken.unwrap();
        let backup = options().must_exist().open(&to).unwrap();
        assert_eq!(backup.verify(|_| ControlFlow::Continue(())).unwrap().damage, []);
        let shard = backup.stats().unwrap().shards.remove(0);
        assert_eq!(shard.next_sequence, end);
        assert!(shard.horizon.get() > 25 && shard.horizon.get() <= trimmed, "{shard:?}");
        let mut iterator = backup.iterator(shard.shard, Position::TrimHorizon).unwrap();
        let numbers: Vec<u8> = iterator.records().map(|record| record.unwrap().data[0]).collect();
        assert_eq!(numbers, (shard.horizon.get() as u8..60).collect::<Vec<_>>());
    }
}

#[test]
fn p9_a_segment_that_goes_missing_is_no_trimmed_one() {
    let scratch = scratch();
    let (path, to) = (scratch.path().join("stream"), scratch.path().join("to"));
    let stream = options().open(&path).unwrap();
    put(&stream, 60);
    stream.maintain().unwrap();
    std::fs::remove_file(path.join("shards/000000000000/00000000000000000000.seg")).unwrap();
    let refused = take(&stream, &to);
    assert!(
        matches!(&refused, Err(Error::Io(failure)) if failure.path.ends_with("00000000000000000000.seg"))
    );
}

#[test]
fn p10_nothing_vouches_for_a_snapshot_of_a_poisoned_shard() {
    let scratch = scratch();
    let (path, to) = (scratch.path().join("stream"), scratch.path().join("to"));
    let stream = options().open(&path).unwrap();
    put(&stream, 3);
    set_hook(Some(Box::new(|action, _| match action {
        "sync" => Err(io::Error::from_raw_os_error(EIO)),
        _ => Ok(()),
    })));
    let synced = stream.sync();
    set_hook(None);
    assert!(synced.is_err());
    assert!(matches!(take(&stream, &to), Err(Error::Poisoned(_))));
    assert!(!to.join("manifest.json").exists());
}
