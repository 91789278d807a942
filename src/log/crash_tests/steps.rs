//! Crashes and failures at each step of a script of puts, rolls, syncs, splits, merges, scaling and retention: P1, P4, P12, P16.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::OpenKeys;
use crate::log::sys::fault::set_hook;
use crate::{
    Clock, Durability, Error, Maintenance, ManualClock, Position, PutRecord, Result, Retention, Stream,
    StreamOptions, Timestamp,
};

const AGE: Duration = Duration::from_secs(100);
const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// The numbers of the puts that returned, with their times, by key.
type Acknowledged = BTreeMap<u8, Vec<(u64, Timestamp)>>;

/// A script, and what was acknowledged while it ran.
struct Script {
    path: PathBuf,
    clock: Arc<ManualClock>,
    durability: Durability,
    acknowledged: Rc<RefCell<Acknowledged>>,
    /// Puts that failed, each with whether it may be there nevertheless.
    failed: BTreeMap<u64, bool>,
    put_count: u64,
}

impl Script {
    fn new(path: &Path, durability: Durability) -> Self {
        Self {
            path: path.to_owned(),
            clock: Arc::new(ManualClock::new(Timestamp::from_millis(1_700_000_000_000))),
            durability,
            acknowledged: Rc::default(),
            failed: BTreeMap::new(),
            put_count: 0,
        }
    }

    fn options(&self) -> StreamOptions {
        let options = StreamOptions::new()
            .shards(2)
            .segment_bytes(64 << 10)
            .retention(Retention::age(AGE))
            .maintenance(Maintenance::Manual)
            .durability(self.durability)
            .clock(Arc::clone(&self.clock) as Arc<dyn Clock>);
        if self.is_encrypted() { options.encryption(OpenKeys) } else { options }
    }

    fn is_encrypted(&self) -> bool {
        cfg!(feature = "encryption") && self.durability == Durability::Power
    }

    fn put_some(&mut self, stream: &Stream, count: u8) {
        for key in 0..count {
            self.put_count += 1;
            let number = self.put_count;
            if number.is_multiple_of(5) {
                // In a stream with threads, a thread does this. If it fails, the puts do without it.
                let _ = stream.prepare_ahead();
            }
            let mut data = number.to_le_bytes().to_vec();
            data.extend(vec![key; 92 + (number * 997 % 9_000) as usize]);
            let record = PutRecord::new(std::slice::from_ref(&key), &data);
            let outcome = if number.is_multiple_of(3) {
                stream.put_batch(&[record]).and_then(|mut outcomes| outcomes.remove(0))
            } else {
                stream.put_record(&record)
            };
            match outcome {
                Ok(_) => {
                    let mut acknowledged = self.acknowledged.borrow_mut();
                    acknowledged.entry(key).or_default().push((number, self.clock.now()));
                }
                // After a failed sync, what is on disk is unknown.
                Err(_) => drop(self.failed.insert(number, self.durability == Durability::Power)),
            }
        }
    }

    /// Runs the script. Records each failure and continues with the next step.
    fn run(&mut self) -> Vec<Error> {
        let mut errors = vec![];
        let stream = match self.options().open(&self.path) {
            Ok(stream) => stream,
            Err(error) => return vec![error],
        };
        let mut note = |outcome: Result<()>| errors.extend(outcome.err());
        self.put_some(&stream, 20);
        note(stream.sync());
        let first = stream.shards()[0].id;
        note(stream.split_shard_evenly(first).map(drop));
        self.put_some(&stream, 20);
        note(stream.maintain());
        let open: Vec<_> = stream.shards().into_iter().filter(|shard| shard.is_open()).collect();
        let upper =
            open.iter().find(|shard| shard.hash_key_range.start.get() == 1 << 127).map(|shard| shard.id);
        let below =
            open.iter().find(|shard| shard.hash_key_range.end.get() == (1 << 127) - 1).map(|shard| shard.id);
        if let Some((below, upper)) = below.zip(upper) {
            note(stream.merge_shards(below, upper).map(drop));
        }
        self.put_some(&stream, 20);
        if self.is_encrypted() {
            note(stream.rotate_key());
            self.put_some(&stream, 5);
        }
        note(stream.update_shard_count(3).map(drop));
        self.put_some(&stream, 20);
        self.clock.advance(AGE / 2);
        self.put_some(&stream, 10);
        note(stream.maintain());
        self.clock.advance(AGE / 2 + Duration::from_secs(1));
        note(stream.maintain());
        self.put_some(&stream, 10);
        note(stream.set_retention(Retention::age(AGE * 2)));
        note(stream.close());
        match self.options().retention(Retention::age(AGE * 2)).open(&self.path) {
            Ok(stream) => {
                self.put_some(&stream, 10);
                note(stream.close());
            }
            Err(error) => errors.push(error),
        }
        errors
    }
}

/// Opens a stream that a crash or a failure left, and checks the promises.
fn check(path: &Path, script: &Script, acknowledged: &Acknowledged, what: &str) {
    if !path.join("manifest.json").exists() {
        assert!(acknowledged.is_empty(), "{what}: there is no stream, and yet puts were acknowledged");
    }
    let stream = script.options().open(path).unwrap_or_else(|error| panic!("{what}: {error}"));
    let mut read: BTreeMap<u8, Vec<u64>> = BTreeMap::new();
    let mut iterator = stream.lineage_iterator(Position::TrimHorizon).unwrap();
    loop {
        let batch = iterator.next_batch(7).unwrap_or_else(|error| panic!("{what}: {error}"));
        if batch.is_empty() {
            break;
        }
        for record in &batch {
            let number = u64::from_le_bytes(*record.data().first_chunk().unwrap());
            read.entry(record.partition_key()[0]).or_default().push(number);
            assert_ne!(script.failed.get(&number), Some(&false), "{what}: a put that failed is there");
        }
    }
    let oldest = script.clock.now() - AGE;
    for (key, puts) in acknowledged {
        let found = read.get(key).cloned().unwrap_or_default();
        assert!(found.is_sorted_by(|a, b| a < b), "{what}: P4: key {key} is out of order: {found:?}");
        for (number, time) in puts {
            let is_there = found.binary_search(number).is_ok();
            assert!(
                is_there || *time < oldest,
                "{what}: put {number} of key {key} was acknowledged, and is gone"
            );
        }
    }
    for entry in std::fs::read_dir(path.join("shards")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let is_known = stream.shards().iter().any(|shard| name == format!("{:012}", shard.id.get()));
        assert!(is_known, "{what}: P16: litter: {name}");
    }
    assert!(!path.join("manifest.new").exists() || !what.contains("fails"), "{what}: litter");
    // The stream still works.
    stream.put("key", "data").unwrap_or_else(|error| panic!("{what}: {error}"));
    stream.update_shard_count(2).unwrap_or_else(|error| panic!("{what}: {error}"));
    stream.close().unwrap_or_else(|error| panic!("{what}: {error}"));
    let found = script.options().open(path).unwrap().verify(|_| ControlFlow::Continue(())).unwrap();
    assert_eq!(found.damage, [], "{what}");
}

pub(super) fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

pub(crate) fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// Crashes before each step. `outcome` returns what the step does when it did not crash. Returns the script's errors.
fn crash_before_each_step(
    mut outcome: impl FnMut(&'static str, &Path) -> io::Result<()> + 'static,
) -> Vec<Error> {
    let scratch = scratch();
    let path = scratch.path().join("stream");
    let image = scratch.path().join("image");
    let mut script = Script::new(&path, Durability::Process);
    let (acknowledged, clock) = (Rc::clone(&script.acknowledged), Arc::clone(&script.clock));
    let step_count = Rc::new(RefCell::new(0));
    set_hook(Some(Box::new({
        let (path, step_count) = (path.clone(), Rc::clone(&step_count));
        let mut is_busy = false;
        move |action, file| {
            // The checks make calls of their own.
            if is_busy || !path.exists() {
                return Ok(());
            }
            is_busy = true;
            *step_count.borrow_mut() += 1;
            copy_dir(&path, &image);
            let what = format!("a crash before step {}, {action} {}", step_count.borrow(), file.display());
            let mut checker = Script::new(&image, Durability::Process);
            checker.clock = Arc::clone(&clock);
            let acknowledged = acknowledged.borrow().clone();
            // In another thread, where no hook is set.
            std::thread::scope(|scope| {
                let image = &image;
                let checker = SendChecker(clock.now(), acknowledged);
                let checked = scope.spawn(move || {
                    let SendChecker(now, acknowledged) = checker;
                    let script = Script {
                        clock: Arc::new(ManualClock::new(now)),
                        ..Script::new(image, Durability::Process)
                    };
                    check(image, &script, &acknowledged, &what);
                });
                checked.join().unwrap();
            });
            std::fs::remove_dir_all(&image).unwrap();
            is_busy = false;
            outcome(action, file)
        }
    })));
    let errors = script.run();
    set_hook(None);
    assert!(*step_count.borrow() > 200, "{} steps", step_count.borrow());
    errors
}

#[test]
fn p1_p16_a_crash_before_each_step_leaves_the_old_or_the_new_and_all_that_was_acknowledged() {
    let errors = crash_before_each_step(|_, _| Ok(()));
    assert!(errors.is_empty(), "{errors:?}");
}

#[test]
fn p8_p12_a_crash_while_retention_makes_room_for_the_manifest_loses_nothing() {
    let mut count = 0;
    let errors = crash_before_each_step(move |action, file| {
        count += usize::from(action == "create" && file.ends_with("manifest.new"));
        // The first one creates the stream. From then on the disk has no room for it each time, until something was removed.
        let is_full = action == "create" && file.ends_with("manifest.new") && count.is_multiple_of(2);
        if is_full { Err(io::Error::from_raw_os_error(ENOSPC)) } else { Ok(()) }
    });
    assert!(errors.iter().all(|error| matches!(error, Error::StorageFull(_))), "{errors:?}");
}

/// The part of a check's input that may move to another thread.
struct SendChecker(Timestamp, Acknowledged);

fn fail_each_step(durability: Durability, errno: i32) {
    for step in 1.. {
        let scratch = scratch();
        let path = scratch.path().join("stream");
        let mut script = Script::new(&path, durability);
        let seen = Rc::new(RefCell::new((0, String::new())));
        set_hook(Some(Box::new({
            let seen = Rc::clone(&seen);
            move |action, file| {
                let (count, what) = &mut *seen.borrow_mut();
                *count += 1;
                if *count != step {
                    return Ok(());
                }
                *what = format!("step {step} fails, {action} {}", file.display());
                Err(io::Error::from_raw_os_error(errno))
            }
        })));
        let errors = script.run();
        set_hook(None);
        let (count, what) = seen.take();
        if count < step {
            assert!(step > 200, "{step} steps");
            break;
        }
        for error in &errors {
            let names_path = error.to_string().contains(scratch.path().to_str().unwrap());
            assert!(
                names_path || matches!(error, Error::Poisoned(_)),
                "{what}: {error} does not name the path"
            );
        }
        let acknowledged = script.acknowledged.borrow().clone();
        check(&path, &script, &acknowledged, &what);
    }
}

#[test]
fn p16_a_failure_at_each_step_loses_nothing_and_opens_again() {
    fail_each_step(Durability::Process, EIO);
}

#[test]
fn p2_p10_a_failure_at_each_step_with_power_durability_loses_nothing_and_opens_again() {
    fail_each_step(Durability::Power, EIO);
}

#[test]
fn p8_no_room_at_each_step_loses_nothing_and_opens_again() {
    fail_each_step(Durability::Process, ENOSPC);
}

#[test]
fn p5_p8_retention_that_has_no_room_for_the_manifest_removes_all_that_does_not_need_one() {
    let scratch = scratch();
    let script = Script::new(&scratch.path().join("stream"), Durability::Process);
    let stream = script.options().shards(1).open(&script.path).unwrap();
    for _ in 0..30 {
        stream.put("key", vec![7; 10_000]).unwrap();
    }
    script.clock.advance(AGE + Duration::from_secs(1));
    set_hook(Some(Box::new(|_, file| match file.ends_with("manifest.new") {
        true => Err(io::Error::from_raw_os_error(ENOSPC)),
        false => Ok(()),
    })));
    let outcome = stream.maintain();
    set_hook(None);
    assert!(matches!(outcome, Err(Error::StorageFull(_))), "{outcome:?}");
    assert_eq!(stream.stats().unwrap().shards[0].segment_count, 1);
    let image = scratch.path().join("image");
    copy_dir(&script.path, &image);
    let crashed = script.options().open(&image).unwrap();
    for stream in [stream, crashed] {
        assert_eq!(stream.put("key", "data").unwrap().sequence, 30.into(), "P5: no number is given twice");
        stream.maintain().unwrap();
        assert_eq!(stream.stats().unwrap().record_count(), 1);
        let found = stream.verify(|_| ControlFlow::Continue(())).unwrap();
        assert_eq!((found.record_count, found.damage), (1, vec![]));
    }
}

#[test]
fn p10_a_sync_that_fails_for_lack_of_room_poisons_like_any_other() {
    let scratch = scratch();
    let script = Script::new(&scratch.path().join("stream"), Durability::Process);
    let stream = script.options().shards(1).open(&script.path).unwrap();
    // Blocks that were promised but do not exist: a thin disk, a network file system.
    set_hook(Some(Box::new(|action, _| match action {
        "sync" => Err(io::Error::from_raw_os_error(ENOSPC)),
        _ => Ok(()),
    })));
    // Enough puts that one of them has to seal a segment.
    let failed = (0..100).find_map(|_| stream.put("key", vec![7; 10_000]).err());
    set_hook(None);
    assert!(matches!(&failed, Some(Error::Io(failure)) if failure.action == "sync"), "{failed:?}");
    let later = stream.put("key", "data");
    assert!(matches!(later, Err(Error::Poisoned(_))), "what the kernel dropped may be gone: {later:?}");
}

#[test]
fn p10_what_a_failed_sync_may_have_lost_is_vouched_for_by_no_later_one() {
    for closes in [false, true] {
        let scratch = scratch();
        let script = Script::new(&scratch.path().join("stream"), Durability::Process);
        let stream = script.options().shards(1).open(&script.path).unwrap();
        (0..10).for_each(|_| assert!(stream.put("key", vec![7; 10_000]).is_ok()));
        let mut is_first = true;
        set_hook(Some(Box::new(move |action, _| match action {
            "sync" if std::mem::take(&mut is_first) => Err(io::Error::from_raw_os_error(EIO)),
            _ => Ok(()),
        })));
        let (synced, later) =
            (stream.sync(), if closes { stream.clone().close() } else { stream.maintain() });
        set_hook(None);
        assert!(synced.is_err() && later.is_err(), "{synced:?}, {later:?}");
        drop(stream);
        let stream = script.options().shards(1).open(&script.path).unwrap();
        assert!(stream.recovery().shards[0].scanned_bytes > 100_000, "nothing was sealed");
    }
}

#[test]
fn p9_p13_what_a_closed_stream_had_no_room_to_seal_it_leaves_to_those_who_open_it_next() {
    let scratch = scratch();
    let script = Script::new(&scratch.path().join("stream"), Durability::Process);
    let open = || script.options().shards(1).open(&script.path).unwrap();
    let stream = open();
    assert!(stream.put("key", vec![7; 10_000]).is_ok());
    let late = stream.clone();
    set_hook(Some(Box::new(|action, file| {
        match action == "write to" && file.extension().is_some_and(|it| it == "seg") {
            true => Err(io::Error::from_raw_os_error(ENOSPC)),
            false => Ok(()),
        }
    })));
    let closed = stream.close();
    set_hook(None);
    assert!(closed.is_ok(), "a segment without a trailer can be read: {closed:?}");
    open().close().unwrap();
    // Continues in the file that the first one has not sealed.
    let stream = open();
    assert_eq!(stream.put("key", vec![8; 10_000]).unwrap().sequence, 1.into());
    let _ = late.maintain();
    let verified = stream.verify(|_| ControlFlow::Continue(())).unwrap();
    assert_eq!((verified.record_count, verified.damage), (2, vec![]));
    drop(stream);
    assert_eq!(open().verify(|_| ControlFlow::Continue(())).unwrap().record_count, 2);
}

#[test]
fn p10_names_that_could_not_be_synced_while_a_trimmed_file_is_made_ready_poison_the_shard() {
    let scratch = scratch();
    let script = Script::new(&scratch.path().join("stream"), Durability::Process);
    let stream = script.options().shards(1).open(&script.path).unwrap();
    (0..20).for_each(|_| assert!(stream.put("key", vec![7; 10_000]).is_ok()));
    script.clock.advance(AGE + Duration::from_secs(1));
    (0..10).for_each(|_| assert!(stream.put("key", vec![7; 10_000]).is_ok()));
    let mut is_renamed = false;
    set_hook(Some(Box::new(move |action, file| {
        is_renamed |= action == "replace" && file.extension().is_some_and(|it| it == "spare");
        // Only once: the next sync would succeed, and prove nothing.
        match action == "sync the directory" && std::mem::take(&mut is_renamed) {
            true => Err(io::Error::from_raw_os_error(EIO)),
            false => Ok(()),
        }
    })));
    let maintained = stream.maintain();
    set_hook(None);
    assert!(matches!(&maintained, Err(Error::Io(failure)) if failure.action == "sync the directory"));
    assert!(maintained.unwrap_err().to_string().contains("shards/000000000000"));
    assert!(matches!(stream.put("key", "data"), Err(Error::Poisoned(_))));
}

/// A failed write leaves an empty segment. Retention leaves it too, and the next put resumes it.
#[test]
fn p8_puts_go_on_in_the_segment_of_a_failed_put_after_everything_has_expired() {
    let scratch = scratch();
    let mut script = Script::new(scratch.path(), Durability::Power);
    let stream = script.options().open(&script.path).unwrap();
    let mut is_first = true;
    set_hook(Some(Box::new(move |action, file| {
        let is_segment = file.extension().is_some_and(|extension| extension == "seg");
        if action == "write to" && is_segment && !std::mem::take(&mut is_first) {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        Ok(())
    })));
    let refused = stream.put("key", "data");
    set_hook(None);
    assert!(matches!(refused, Err(Error::Io(_))), "{refused:?}");
    script.clock.advance(2 * AGE);
    stream.maintain().unwrap();
    let shard_dirs = (0..2).map(|shard| script.path.join(format!("shards/{shard:012}")));
    let file_count = shard_dirs.map(|dir| std::fs::read_dir(dir).unwrap().count()).sum::<usize>();
    assert_eq!(file_count, 1, "P1: a file whose name the next roll may use is not removed");
    script.put_some(&stream, 1);
    assert_eq!(script.failed.len(), 0);
}
