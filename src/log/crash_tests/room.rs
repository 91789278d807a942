//! Puts are refused only where neither free blocks nor prepared segments have room: P8.

use std::cell::Cell;
use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use super::steps::scratch;
use crate::log::sys::fault::set_hook;
use crate::{
    Clock, Error, HashKey, Maintenance, ManualClock, PutRecord, Result, Retention, Stream, StreamOptions,
    Timestamp,
};

const ENOSPC: i32 = 28;

/// A disk with room for at most one more segment.
#[derive(Debug, Default)]
struct Disk {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    has_room: bool,
    refusals: usize,
}

fn is_prepared(file: &Path) -> bool {
    file.file_name().is_some_and(|name| name == "spare")
}

fn no_room() -> io::Error {
    io::Error::from_raw_os_error(ENOSPC)
}

impl Disk {
    /// Takes all the room, if there is any.
    fn allocate(&self) -> io::Result<()> {
        self.take_room(false)
    }

    /// Takes a small part of the room, if there is any. The rest is enough for all that a test allocates later.
    fn allocate_part(&self) -> io::Result<()> {
        self.take_room(true)
    }

    fn take_room(&self, leaves_some: bool) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        self.changed.notify_all();
        if !state.has_room {
            state.refusals += 1;
            return Err(no_room());
        }
        state.has_room = leaves_some;
        Ok(())
    }

    fn give_back(&self) {
        self.state.lock().unwrap().has_room = true;
        self.changed.notify_all();
    }

    fn wait_until(&self, is_so: impl Fn(&State) -> bool) {
        let state = self.state.lock().unwrap();
        let waited = self.changed.wait_timeout_while(state, Duration::from_secs(20), |state| !is_so(state));
        assert!(!waited.unwrap().1.timed_out(), "it never came to that");
    }
}

fn options(shards: u32) -> StreamOptions {
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(Timestamp::from_millis(1_700_000_000_000)));
    let options = StreamOptions::new().shards(shards).segment_bytes(64 << 10).clock(clock);
    options.maintenance(Maintenance::Manual)
}

fn open(path: &Path, shards: u32) -> Stream {
    options(shards).open(path).unwrap()
}

fn put(stream: &Stream, hash_key: HashKey) -> Result<()> {
    let data = vec![7; 20_000];
    stream.put_record(&PutRecord::new("key", &data).explicit_hash_key(hash_key)).map(drop)
}

#[test]
fn p8_a_put_waits_for_a_segment_in_the_making_that_holds_the_last_room_and_does_not_get_all_it_needs() {
    let scratch = scratch();
    let stream = open(&scratch.path().join("stream"), 1);
    // Half a segment: from here on the next one is prepared.
    (0..2).for_each(|_| put(&stream, HashKey::MIN).unwrap());
    let disk = Arc::new(Disk::default());
    disk.give_back();
    std::thread::scope(|threads| {
        let preparing = threads.spawn(|| {
            let disk = Arc::clone(&disk);
            set_hook(Some(Box::new(move |action, file| {
                if action != "allocate blocks for" || !is_prepared(file) {
                    return Ok(());
                }
                // It gets part of what it wants, and then the disk has no more, so it gives that part back.
                disk.allocate()?;
                // A put first asks for more than it needs, then for what it needs.
                disk.wait_until(|state| state.refusals == 2);
                disk.give_back();
                Err(no_room())
            })));
            let prepared = stream.prepare_ahead();
            set_hook(None);
            prepared
        });
        disk.wait_until(|state| !state.has_room);
        let hooked = Arc::clone(&disk);
        set_hook(Some(Box::new(move |action, _| match action {
            "allocate blocks for" => hooked.allocate_part(),
            _ => Ok(()),
        })));
        // Enough puts that the last one needs another segment.
        let puts: Vec<_> = (0..3).map(|_| put(&stream, HashKey::MIN)).collect();
        set_hook(None);
        assert!(puts.iter().all(Result::is_ok), "P8: there was room for it, and it is refused: {puts:?}");
        assert!(matches!(preparing.join().unwrap(), Err(Error::StorageFull(_))));
    });
}

#[test]
fn p8_a_shorter_retention_that_comes_with_opening_makes_its_own_room() {
    for bytes_max in [1 << 20, 100 << 10] {
        let scratch = scratch();
        let stream = open(scratch.path(), 2);
        (0..30).for_each(|_| put(&stream, HashKey::MIN).unwrap());
        stream.close().unwrap();
        let has_room = Cell::new(false);
        set_hook(Some(Box::new(move |action, file: &Path| {
            let is_segment = file.extension().is_some_and(|extension| extension == "seg");
            has_room.set(has_room.get() || (action == "remove" && is_segment));
            let needs_room = file.ends_with("manifest.new") && action != "remove";
            if needs_room && !has_room.get() { Err(no_room()) } else { Ok(()) }
        })));
        let retention = Retention::forever().bytes_max(bytes_max);
        let opened = options(2).retention(retention).open(scratch.path());
        set_hook(None);
        if bytes_max == 1 << 20 {
            assert!(matches!(opened, Err(Error::StorageFull(_))), "nothing expires: {opened:?}");
            let stream = open(scratch.path(), 2);
            assert_eq!(stream.describe().retention, Retention::default());
            assert_eq!(stream.stats().unwrap().record_count(), 30);
        } else {
            let stream = opened.unwrap();
            assert_eq!(stream.describe().retention, retention);
            stream.close().unwrap();
            let stream = open(scratch.path(), 2);
            assert_eq!(stream.describe().retention, retention);
            assert!((1..10).contains(&stream.stats().unwrap().record_count()));
        }
    }
}

#[test]
fn p8_a_segment_that_is_prepared_for_one_shard_makes_room_for_another() {
    let scratch = scratch();
    let path = scratch.path().join("stream");
    let stream = open(&path, 2);
    for shard in [HashKey::MIN, HashKey::MIN, HashKey::MAX, HashKey::MAX] {
        put(&stream, shard).unwrap();
    }
    let disk = Arc::new(Disk::default());
    disk.give_back();
    let (hooked, mut holder) = (Arc::clone(&disk), None);
    set_hook(Some(Box::new(move |action, file| {
        match action {
            "allocate blocks for" => {
                hooked.allocate()?;
                holder = Some(file.to_owned());
            }
            "remove" if holder.as_deref() == Some(file) => hooked.give_back(),
            _ => {}
        }
        Ok(())
    })));
    // One of the two shards gets the last room, and the other finds none.
    assert!(matches!(stream.prepare_ahead(), Err(Error::StorageFull(_))));
    let spare = |shard: u32| path.join(format!("shards/{shard:012}/spare")).exists();
    let [first, second] = if spare(0) { [HashKey::MIN, HashKey::MAX] } else { [HashKey::MAX, HashKey::MIN] };
    assert!(spare(0) != spare(1));
    let puts: Vec<_> = (0..3).map(|_| put(&stream, second)).collect();
    assert!(puts.iter().all(Result::is_ok), "P8: there was room for it, and it is refused: {puts:?}");
    assert!(!spare(0) && !spare(1));
    let full: Vec<_> = (0..3).map(|_| put(&stream, first)).collect();
    set_hook(None);
    assert!(
        matches!(full.last(), Some(Err(Error::StorageFull(_)))),
        "nothing is left to be given up: {full:?}"
    );
    put(&stream, first).expect("there is room again");
}
