//! The stream that is written is the one that was opened, even if its path changes: P1, P10, P13.

use crate::common;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use streamlog::{Durability, Error, Maintenance, Position, SECOND, ShardId, Stream, StreamOptions};

const SHARD: ShardId = ShardId::new(0);

fn open(path: &Path) -> Stream {
    common::small(&common::clock()).open(path).unwrap()
}

fn put(stream: &Stream, count: usize, data: &str) {
    for _ in 0..count {
        stream.put("key", data).unwrap();
    }
}

fn data_of(stream: &Stream) -> Vec<String> {
    let records = common::read_all(stream, SHARD).into_iter();
    records.map(|(_, data)| String::from_utf8(data[..1].to_vec()).unwrap()).collect()
}

/// Puts enough records to roll to another segment.
fn roll(stream: &Stream, letter: &str) -> usize {
    let data = letter.repeat(10_000);
    put(stream, 10, &data);
    10
}

#[test]
fn p1_a_stream_that_is_moved_goes_on_in_its_new_place() {
    let scratch = common::scratch();
    let (path, moved) = (scratch.path().join("clicks"), scratch.path().join("moved"));
    let stream = open(&path);
    put(&stream, 5, "a");
    fs::rename(&path, &moved).unwrap();
    let other = open(&path);
    put(&other, 1, "b");

    let mut count = 5 + roll(&stream, "a");
    stream.sync().unwrap();
    stream.split_shard_evenly(SHARD).unwrap();
    let mut worker = stream.group("readers").worker().start_at(Position::TrimHorizon).open().unwrap();
    let batch = worker.poll(std::time::Duration::ZERO).unwrap().unwrap();
    worker.commit(&batch).unwrap();
    drop(worker);
    stream.set_retention(streamlog::Retention::forever()).unwrap();
    stream.maintain().unwrap();
    stream.close().unwrap();
    other.close().unwrap();

    let stream = open(&moved);
    assert_eq!(data_of(&stream), vec!["a"; count], "P1");
    assert_eq!((stream.shards().len(), stream.groups().unwrap()), (3, vec!["readers".to_owned()]));
    let other = open(&path);
    assert_eq!((data_of(&other), other.shards().len()), (vec!["b".to_owned()], 1), "P1");
    assert!(other.groups().unwrap().is_empty());

    // It also resumes after a kill.
    drop(stream);
    let stream = open(&moved);
    fs::rename(&moved, scratch.path().join("again")).unwrap();
    let open_shard = stream.list_shards(streamlog::ShardFilter::AtLatest).remove(0).id;
    count = common::read_all(&stream, open_shard).len();
    put(&stream, 3, "c");
    common::copy_dir(&scratch.path().join("again"), &scratch.path().join("killed"));
    let killed = open(&scratch.path().join("killed"));
    let there: usize = killed.shards().iter().map(|shard| common::read_all(&killed, shard.id).len()).sum();
    assert_eq!(there, 15 + count + 3, "P1");
}

#[test]
fn a_relative_path_leads_to_the_directory_that_was_opened() {
    let scratch = common::scratch();
    if std::env::var("STREAMLOG_PATHS_TEST").is_ok() {
        return;
    }
    // The working directory belongs to the whole process, so a child changes its own.
    let status = Command::new(std::env::current_exe().unwrap())
        .args(common::child_test(module_path!()))
        .current_dir(scratch.path())
        .env("STREAMLOG_PATHS_TEST", "1")
        .output()
        .unwrap();
    assert!(status.status.success(), "{status:?}");
    let names = |path: &Path| fs::read_dir(path).unwrap().count();
    assert_eq!(names(&scratch.path().join("elsewhere")), 0, "nothing appears in the new working directory");
    assert_eq!(common::read_all(&open(&scratch.path().join("clicks")), SHARD).len(), 12);
}

/// Not a test: the child that changes its working directory.
#[test]
fn child() {
    if std::env::var("STREAMLOG_PATHS_TEST").is_err() {
        return;
    }
    let stream = open(Path::new("clicks"));
    put(&stream, 1, "a");
    fs::create_dir("elsewhere").unwrap();
    std::env::set_current_dir("elsewhere").unwrap();
    let rolled = roll(&stream, "a");
    put(&stream, 11 - rolled, "a");
    stream.group("readers").worker().open().unwrap().close();
    stream.set_retention(streamlog::Retention::forever()).unwrap();
    stream.close().unwrap();
}

#[test]
fn p10_a_stream_whose_directory_is_removed_says_so() {
    for durability in [Durability::Process, Durability::Power] {
        let scratch = common::scratch();
        let path = scratch.path().join("clicks");
        let stream = common::small(&common::clock()).durability(durability).open(&path).unwrap();
        assert!(stream.sync().is_ok());
        put(&stream, 5, "a");
        fs::remove_dir_all(&path).unwrap();
        let removed = |error: Error| {
            assert!(error.to_string().contains("removed"), "{error}");
            assert!(!error.is_retryable());
        };
        match durability {
            Durability::Power => removed(stream.put("key", "b").unwrap_err()),
            _ => {
                stream.put("key", "b").unwrap();
                removed(stream.sync().unwrap_err());
            }
        }
        assert!(matches!(stream.put("key", "c"), Err(Error::Poisoned(_))));
        assert!(stream.close().is_err());
        assert!(!path.exists(), "nothing is created anew");
    }
}

#[test]
fn p10_an_idle_stream_whose_directory_is_removed_says_so() {
    let scratch = common::scratch();
    let path = scratch.path().join("clicks");
    let stream = open(&path);
    fs::remove_dir_all(&path).unwrap();
    assert!(stream.sync().unwrap_err().to_string().contains("removed"));
    let error = stream.put("key", "a").unwrap_err();
    assert!(matches!(&error, Error::Io(_)) && error.to_string().contains("No such file"), "{error}");
}

#[test]
fn p13_a_second_opener_is_refused_although_the_lock_file_was_removed() {
    let scratch = common::scratch();
    let stream = open(scratch.path());
    fs::remove_file(scratch.path().join("LOCK")).unwrap();
    assert!(matches!(Stream::open(scratch.path()), Err(Error::Locked(_))));
    drop(stream);
    Stream::open(scratch.path()).unwrap();
}

#[test]
fn a_stream_is_deleted_by_whatever_path_leads_to_it() {
    let scratch = common::scratch();
    let path = scratch.path().join("clicks");
    let fresh = || drop(Stream::open(&path).unwrap());

    fresh();
    Stream::delete(scratch.path().join("clicks/")).unwrap();
    assert!(!path.exists(), "by a path that ends with a slash");

    let link = scratch.path().join("link");
    for by in [&link, &scratch.path().join("link/")] {
        fresh();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        Stream::delete(by).unwrap();
        assert!(!path.exists() && !link.is_symlink(), "by a link");
    }
    fresh();
    Stream::delete(scratch.path().join("clicks/.")).unwrap();
    assert!(!path.exists());
    assert!(matches!(Stream::delete(&path), Err(Error::NotAStream(_))));
}

#[test]
fn p1_no_stream_is_touched_when_another_one_is_deleted() {
    let scratch = common::scratch();
    let [path, other] = ["clicks", "clicks.deleted"].map(|name| scratch.path().join(name));
    drop(open(&path));
    let stream = open(&other);
    put(&stream, 3, "a");
    assert_eq!(Stream::list(scratch.path()).unwrap(), [path.clone(), other.clone()]);
    Stream::delete(&path).unwrap();
    put(&stream, 1, "a");
    stream.close().unwrap();
    assert_eq!(Stream::list(scratch.path()).unwrap(), std::slice::from_ref(&other));
    assert_eq!(data_of(&open(&other)), ["a"; 4], "P1");
}

#[test]
fn an_interrupted_deletion_is_finished_and_leaves_no_stream() {
    let scratch = common::scratch();
    let path = scratch.path().join("clicks");
    let interrupt = || {
        let stream = open(&path);
        put(&stream, 3, "a");
        stream.close().unwrap();
        fs::rename(path.join("manifest.json"), path.join("manifest.deleted")).unwrap();
    };
    interrupt();
    assert!(Stream::list(scratch.path()).unwrap().is_empty());
    assert!(matches!(StreamOptions::new().must_exist().open(&path), Err(Error::NotAStream(_))));
    assert!(data_of(&open(&path)).is_empty(), "a new stream");
    for already_gone in ["shards/000000000000", "shards"] {
        interrupt();
        fs::remove_dir_all(path.join(already_gone)).unwrap();
        assert!(data_of(&open(&path)).is_empty(), "a new stream, {already_gone} was gone");
    }
    interrupt();
    Stream::delete(&path).unwrap();
    assert!(!path.exists());
}

#[test]
fn p13_opening_and_deleting_at_once_leaves_one_owner_and_no_contradiction() {
    let scratch = common::scratch();
    let path = scratch.path().join("clicks");
    let (owners, opened) = (AtomicU64::new(0), AtomicU64::new(0));
    let is_expected = |error: &Error| matches!(error, Error::Locked(_));
    std::thread::scope(|threads| {
        for thread in 0..4 {
            let (path, owners, opened) = (&path, &owners, &opened);
            threads.spawn(move || {
                for _ in 0..300 {
                    if thread == 0 {
                        match Stream::delete(path) {
                            Ok(()) | Err(Error::NotAStream(_)) => {}
                            Err(error) => assert!(is_expected(&error), "{error}"),
                        }
                        continue;
                    }
                    match StreamOptions::new()
                        .maintenance(Maintenance::Manual)
                        .sync_interval(SECOND)
                        .open(path)
                    {
                        Ok(stream) => {
                            assert_eq!(owners.fetch_add(1, Ordering::SeqCst), 0, "P13: two owners");
                            opened.fetch_add(1, Ordering::SeqCst);
                            stream.put("key", "a").unwrap();
                            owners.fetch_sub(1, Ordering::SeqCst);
                            stream.close().unwrap();
                        }
                        Err(error) => assert!(is_expected(&error), "{error}"),
                    }
                }
            });
        }
    });
    assert!(opened.into_inner() > 0);
}

#[test]
fn p10_a_removed_file_is_missed_although_another_one_is_written_to_by_now() {
    for durability in [Durability::Process, Durability::Power] {
        for closes in [false, true] {
            let scratch = common::scratch();
            let stream = common::small(&common::clock()).durability(durability).open(scratch.path()).unwrap();
            put(&stream, 2, "a");
            let segment = common::segment_files(scratch.path(), 0).remove(0);
            fs::remove_file(segment).unwrap();
            if !closes && durability == Durability::Process {
                roll(&stream, "a");
                let error = stream.sync().unwrap_err();
                assert!(error.to_string().contains("removed"), "P10: {error}");
                assert!(matches!(stream.put("key", "b"), Err(Error::Poisoned(_))));
            }
            assert!(stream.close().is_err(), "P10: {durability:?}");
        }
    }
}

#[test]
fn p1_a_group_that_is_a_link_is_refused_and_what_it_leads_to_stays() {
    let scratch = common::scratch();
    let (path, other) = (scratch.path().join("clicks"), scratch.path().join("other"));
    fs::create_dir(&other).unwrap();
    let precious = open(&other.join("precious"));
    put(&precious, 3, "a");
    precious.close().unwrap();
    let stream = open(&path);
    std::os::unix::fs::symlink(&other, path.join("groups")).unwrap();
    assert!(stream.group("precious").delete().is_err());
    assert!(stream.group("precious").worker().open().is_err());
    assert!(stream.group("new").worker().open().is_err());
    assert_eq!(data_of(&open(&other.join("precious"))), ["a"; 3], "P1");
    assert!(!other.join("new").exists());
}

#[test]
fn a_stream_with_a_foreign_name_in_it_is_deleted_whole() {
    use std::os::unix::ffi::OsStrExt;
    let scratch = common::scratch();
    let path = scratch.path().join("clicks");
    open(&path).close().unwrap();
    fs::write(path.join(std::ffi::OsStr::from_bytes(b"not \xff UTF-8")), "text").unwrap();
    Stream::delete(&path).unwrap();
    assert!(!path.exists());
}

#[test]
fn listing_passes_over_streams_that_are_deleted_meanwhile() {
    let scratch = common::scratch();
    let kept = scratch.path().join("kept");
    drop(open(&kept));
    std::thread::scope(|threads| {
        let deleting = threads.spawn(|| {
            for _ in 0..100 {
                let path = scratch.path().join("other");
                drop(open(&path));
                Stream::delete(&path).unwrap();
            }
        });
        while !deleting.is_finished() {
            assert!(Stream::list(scratch.path()).unwrap().contains(&kept));
        }
    });
}

#[test]
fn streams_inside_a_stream_are_created_by_many_threads_at_once() {
    let scratch = common::scratch();
    let stream = open(scratch.path());
    std::thread::scope(|threads| {
        for thread in 0..8 {
            let inside = streamlog::extend::streams_inside(&stream, "audits");
            threads.spawn(move || {
                let options = StreamOptions::new().maintenance(Maintenance::Manual);
                inside.open(&format!("audit-{thread}"), options).unwrap().close().unwrap();
            });
        }
    });
    assert_eq!(streamlog::extend::streams_inside(&stream, "audits").names().unwrap().len(), 8);
}

#[test]
fn p10_p16_a_shard_whose_file_was_removed_is_not_split() {
    let scratch = common::scratch();
    let stream = open(scratch.path());
    put(&stream, 2, "a");
    fs::remove_file(common::segment_files(scratch.path(), 0).remove(0)).unwrap();
    let error = stream.split_shard_evenly(SHARD).unwrap_err();
    assert!(error.to_string().contains("removed") && error.to_string().contains(".seg"), "P10: {error}");
    assert_eq!(stream.shards().len(), 1, "P16");
    assert!(stream.close().is_err());
}
