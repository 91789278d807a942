//! A disk that is full at every possible moment: P8.
//!
//! The streams run in the test's own process. If a page of a mapping were ever written without a disk block, SIGBUS would kill the
//! process and the test with it. The file systems that the test mounted would stay mounted.

use crate::common;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use common::mounts::{Ballast, Kind, Mount};
use streamlog::{
    Clock, Durability, Error, HashKey, Maintenance, ManualClock, Position, PutRecord, Result, Retention,
    ShardId, Stream, StreamOptions, Timestamp,
};

const AGE: Duration = Duration::from_secs(100);
const PAGE_BYTES: u64 = 4096;

/// The puts and their outcomes, by the number that each record carries.
#[derive(Debug, Default)]
struct Ledger {
    next: u64,
    acknowledged: BTreeMap<u64, (ShardId, u64, Timestamp)>,
    refused: BTreeSet<u64>,
}

impl Ledger {
    /// Returns data that holds its number, and shows whether it is whole.
    fn data(number: u64, len: usize) -> Vec<u8> {
        let mut data = vec![number as u8; 8 + len];
        data[..8].copy_from_slice(&number.to_le_bytes());
        data
    }

    fn put(&mut self, stream: &Stream, key: u8, len: usize, now: Timestamp) -> Result<()> {
        self.next += 1;
        let outcome = stream.put([key], Self::data(self.next, len));
        self.note(self.next, outcome, now)
    }

    fn note(&mut self, number: u64, outcome: Result<streamlog::Receipt>, now: Timestamp) -> Result<()> {
        match outcome {
            Ok(receipt) => {
                self.acknowledged.insert(number, (receipt.shard, receipt.sequence.get(), now));
                Ok(())
            }
            Err(error) => {
                self.refused.insert(number);
                Err(error)
            }
        }
    }

    /// Checks that every record acknowledged since `oldest` is where its receipt says, and that no refused record is there.
    #[track_caller]
    fn check(&self, stream: &Stream, oldest: Timestamp, what: &str) {
        let mut found = BTreeMap::new();
        for shard in stream.shards() {
            let mut iterator = stream.iterator(shard.id, Position::TrimHorizon).unwrap();
            for record in iterator.records() {
                let record = record.unwrap_or_else(|error| panic!("{what}: {error}"));
                let number = u64::from_le_bytes(*record.data.first_chunk().unwrap());
                assert_eq!(record.data, Self::data(number, record.data.len() - 8), "{what}");
                assert!(!self.refused.contains(&number), "{what}: {number} was refused, but is there");
                let known = found.insert(number, (shard.id, record.sequence.get()));
                assert_eq!(known, None, "{what}: {number} is there twice");
            }
        }
        for (number, &(shard, sequence, time)) in &self.acknowledged {
            match found.get(number) {
                Some(&place) => assert_eq!(place, (shard, sequence), "{what}"),
                None => assert!(time < oldest, "{what}: {number} was acknowledged, but is gone"),
            }
        }
    }
}

#[track_caller]
fn assert_no_damage(stream: &Stream, what: &str) {
    let found = stream.verify(|_| ControlFlow::Continue(())).unwrap_or_else(|e| panic!("{what}: {e}"));
    assert!(found.is_complete && found.damage.is_empty(), "{what}: {:?}", found.damage);
}

/// Checks that the error is a full disk, and names a path below `root`.
#[track_caller]
fn assert_full(error: &Error, root: &Path, what: &str) {
    match error {
        Error::StorageFull(path) => assert!(path.starts_with(root), "{what}: {error}"),
        other => panic!("{what}: {other:?}: {other}"),
    }
}

fn options(clock: &Arc<ManualClock>, durability: Durability) -> StreamOptions {
    common::small(clock).shards(2).retention(Retention::age(AGE)).durability(durability)
}

/// Puts until no shard takes even a small record.
fn fill_by_putting(stream: &Stream, ledger: &mut Ledger, root: &Path, now: Timestamp) {
    for len in [1_000, 100, 0] {
        let mut refusals = 0;
        while refusals < 64 {
            match ledger.put(stream, ledger.next as u8, len, now) {
                Ok(()) => refusals = 0,
                Err(error) => {
                    assert_full(&error, root, "P8: a put");
                    refusals += 1;
                }
            }
        }
    }
}

#[test]
fn p8_a_group_reads_while_the_disk_is_full_and_commits_once_there_is_room() {
    let Some(mount) = Mount::new(Kind::Tmpfs) else { return };
    let root = mount.path();
    let clock = common::clock();
    let open = |name: &str| options(&clock, Durability::Process).open(root.join(name)).unwrap();
    let stream = open("stream");
    for number in 0..100u64 {
        stream.put(number.to_le_bytes(), "data").unwrap();
    }
    let worker = |stream: &Stream| stream.group("group").worker().batch_records(10).open();
    let mut first = worker(&stream).unwrap();
    let batch = first.poll(Duration::ZERO).unwrap().unwrap();
    first.commit(&batch).unwrap();
    // After a kill the next commit needs a new file.
    common::copy_dir(&root.join("stream"), &root.join("killed"));
    drop(first);
    stream.close().unwrap();
    let ballast = Ballast::fill(root);
    let stream = open("killed");
    let mut second = worker(&stream).expect("P8: a group is opened while the disk is full");
    let mut batches = vec![];
    while let Some(batch) = second.poll(Duration::ZERO).expect("P8: reads continue") {
        let refused = second.commit(&batch).expect_err("the disk has no room for a commit");
        assert_full(&refused, root, "P8");
        batches.push(batch);
    }
    assert_eq!(batches.iter().map(|batch| batch.len()).sum::<usize>(), 90);
    drop(ballast);
    for batch in batches {
        second.commit(&batch).expect("P8: the disk has room again");
    }
    assert_eq!(stream.group("group").describe().unwrap().lag().record_count, 0);
}

#[test]
fn p8_a_queue_hands_nothing_out_while_the_disk_is_full_and_goes_on_once_there_is_room() {
    let Some(mount) = Mount::new(Kind::Tmpfs) else { return };
    let root = mount.path();
    let clock = common::clock();
    let open = |name: &str| common::small(&clock).open(root.join(name)).unwrap();
    for is_ordered in [false, true] {
        let (name, killed) = (format!("stream-{is_ordered}"), format!("killed-{is_ordered}"));
        let queue = |stream: &Stream| {
            let options = stream.queue("queue").visibility_timeout(Duration::from_secs(3_600));
            if is_ordered { options.ordered_by_key() } else { options }.open().unwrap()
        };
        let stream = open(&name);
        for number in 0..100u64 {
            stream.put((number % 50).to_le_bytes(), number.to_le_bytes()).unwrap();
        }
        let first = queue(&stream);
        let held = first.receive(10, Duration::ZERO).unwrap();
        // After a kill the next change needs a new file.
        common::copy_dir(&root.join(&name), &root.join(&killed));
        drop((first, stream));
        let ballast = Ballast::fill(root);
        let stream = open(&killed);
        let second = queue(&stream);
        for _ in 0..3 {
            let refused = second.receive(20, Duration::ZERO).expect_err("there is no room for a delivery");
            assert_full(&refused, root, "P8");
            let refused = second.acknowledge(&held[0].handle).expect_err("there is no room to acknowledge");
            assert_full(&refused, root, "P8");
            let refused = second.release(&held[1].handle, Duration::ZERO).expect_err("nor to release");
            assert_full(&refused, root, "P8");
        }
        drop(ballast);
        second.acknowledge_batch(held.iter().map(|record| &record.handle)).unwrap();
        let mut numbers: Vec<_> = held.iter().map(|record| record.record.data.clone()).collect();
        loop {
            let records = second.receive(7, Duration::ZERO).expect("P8: the disk has room again");
            if records.is_empty() {
                break;
            }
            assert!(records.iter().all(|record| record.receive_count == 1), "nothing was handed out before");
            for record in records {
                second.acknowledge(&record.handle).unwrap();
                numbers.push(record.record.data);
            }
        }
        numbers.sort_unstable();
        let all: Vec<_> = (0..100u64).map(|number| number.to_le_bytes().to_vec()).collect();
        assert_eq!(numbers, all, "P6");
    }
}

fn fill_and_go_on(kind: Kind, durability: Durability) {
    let Some(mount) = Mount::new(kind) else { return };
    let root = mount.path();
    let clock = common::clock();
    let open = || options(&clock, durability).segment_bytes(256 << 10).open(root.join("stream"));
    let mut ledger = Ledger::default();
    let stream = open().unwrap();
    let mut ballast = Ballast::fill(root);
    ballast.leave(3 << 20);
    fill_by_putting(&stream, &mut ledger, root, clock.now());
    assert!(ledger.acknowledged.len() > 1_000, "{}", ledger.acknowledged.len());

    for round in 0..1_000 {
        let refused = ledger.put(&stream, round as u8, 10, clock.now()).unwrap_err();
        assert_full(&refused, root, "P8: again and again");
        let record = vec![PutRecord::new(b"key", b"data"); 3];
        for outcome in stream.put_batch(&record).unwrap() {
            assert_full(&outcome.unwrap_err(), root, "P8: a batch");
        }
    }
    ledger.check(&stream, Timestamp::default(), "P8: reads continue");
    stream.sync().unwrap();
    assert_eq!(stream.describe().shards.len(), 2);
    assert_eq!(stream.stats().unwrap().record_count() as usize, ledger.acknowledged.len());
    assert_no_damage(&stream, "P8: while it is full");
    stream.maintain().unwrap();
    fill_by_putting(&stream, &mut ledger, root, clock.now());

    // Close and open while the disk is full.
    stream.close().unwrap();
    let stream = open().unwrap();
    ledger.check(&stream, Timestamp::default(), "P8: opened while full");
    fill_by_putting(&stream, &mut ledger, root, clock.now());

    drop(ballast);
    for key in 0..100 {
        ledger
            .put(&stream, key, 1_000, clock.now())
            .expect("P8: the disk has room again, for the same handle");
    }
    ledger.check(&stream, Timestamp::default(), "P8: with room again");
    stream.close().unwrap();
    let stream = open().unwrap();
    ledger.check(&stream, Timestamp::default(), "P8: opened again");
    assert_no_damage(&stream, "P8: opened again");
}

#[test]
fn p8_a_full_tmpfs_refuses_puts_and_all_else_goes_on() {
    fill_and_go_on(Kind::Tmpfs, Durability::Process);
}

#[test]
fn p8_a_full_ext4_refuses_puts_and_all_else_goes_on() {
    fill_and_go_on(Kind::Ext4, Durability::Process);
    fill_and_go_on(Kind::Ext4, Durability::Power);
}

#[test]
fn p8_a_full_xfs_refuses_puts_and_all_else_goes_on() {
    fill_and_go_on(Kind::Xfs, Durability::Process);
    fill_and_go_on(Kind::Xfs, Durability::Power);
}

#[test]
fn p8_p13_a_full_disk_has_no_room_to_say_who_has_a_stream_open_and_opens_it_nevertheless() {
    for kind in [Kind::Tmpfs, Kind::Ext4, Kind::Xfs] {
        let Some(mount) = Mount::new(kind) else { continue };
        let path = mount.path().join("stream");
        let open = || options(&common::clock(), Durability::Process).open(&path);
        open().unwrap().close().unwrap();
        let mut ballast = Ballast::fill(mount.path());
        let stream = open().unwrap();
        let told = || open().unwrap_err().to_string();
        assert!(told().contains("in this process or in another one"), "{kind:?}: {}", told());
        // Remains of a killed process there are not trusted either.
        stream.close().unwrap();
        ballast.leave(64 << 10);
        std::fs::write(path.join("LOCK"), "4711 clickd\n").unwrap();
        drop(ballast);
        let ballast = Ballast::fill(mount.path());
        let _stream = open().unwrap();
        assert!(told().contains("in this process"), "{kind:?}: {}", told());
        drop(ballast);
    }
}

/// If a put were refused while a prepared segment held disk space, later puts would have room for a whole segment. Sealing also frees
/// space, but less than a record for each segment.
#[test]
fn p8_a_put_is_refused_only_when_no_prepared_segment_has_room_for_it() {
    const SEGMENT_BYTES: u64 = 4 << 20;
    let Some(mount) = Mount::new(Kind::Ext4) else { return };
    let path = mount.path().join("stream");
    for round in 0..30 {
        let options = StreamOptions::new().shards(1 + round % 2).segment_bytes(SEGMENT_BYTES);
        let stream = options.retention(Retention::forever()).open(&path).unwrap();
        let data = vec![7; 10_000 + 300 * round as usize];
        let mut put_count = 0_u64;
        let mut fill = || {
            let before = put_count;
            let error = loop {
                match stream.put(put_count.to_le_bytes(), &data) {
                    Ok(_) => put_count += 1,
                    Err(error) => break error,
                }
            };
            assert_full(&error, mount.path(), "P8");
            (put_count - before) * data.len() as u64
        };
        assert!(fill() > 4 * SEGMENT_BYTES);
        let mut late_bytes = 0;
        loop {
            let bytes = fill();
            late_bytes += bytes;
            stream.maintain().unwrap();
            if bytes == 0 {
                break;
            }
        }
        assert!(late_bytes < SEGMENT_BYTES / 2, "P8: round {round}: room for {late_bytes} bytes was refused");
        drop(stream);
        Stream::delete(&path).unwrap();
    }
}

/// Retention frees a full disk, so it must not need space itself.
fn retention_makes_room(kind: Kind) {
    let Some(mount) = Mount::new(kind) else { return };
    let root = mount.path();
    let clock = common::clock();
    let open = || options(&clock, Durability::Process).segment_bytes(256 << 10).open(root.join("stream"));
    let mut ledger = Ledger::default();
    let stream = open().unwrap();
    let mut ballast = Ballast::fill(root);
    ballast.leave(3 << 20);

    // By age: the first half expires.
    for _ in 0..1_000 {
        ledger.put(&stream, ledger.next as u8, 1_000, clock.now()).unwrap();
    }
    clock.advance(AGE / 2);
    fill_by_putting(&stream, &mut ledger, root, clock.now());
    clock.advance(AGE / 2 + Duration::from_secs(1));
    stream.maintain().expect("P8: expired records leave a full disk");
    for key in 0..100 {
        ledger.put(&stream, key, 1_000, clock.now()).expect("P8: retention made room, for the same handle");
    }
    ledger.check(&stream, clock.now() - AGE, "P8: after retention by age");

    // By bytes, set while the disk is full.
    fill_by_putting(&stream, &mut ledger, root, clock.now());
    let known = ledger.acknowledged.len();
    stream.set_retention(Retention::age(AGE).bytes_max(1 << 20)).expect("P8: retention can be shortened");
    for key in 0..100 {
        ledger.put(&stream, key, 1_000, clock.now()).expect("P8: retention made room, for the same handle");
    }

    // And shorter still when the stream is opened, on a disk without a free block.
    fill_by_putting(&stream, &mut ledger, root, clock.now());
    stream.close().unwrap();
    drop(ballast);
    let _ballast = Ballast::fill(root);
    let retention = Retention::age(AGE).bytes_max(700 << 10);
    let options = options(&clock, Durability::Process).segment_bytes(256 << 10).retention(retention);
    let stream = options.open(root.join("stream")).expect("P8: retention can be shortened by opening");
    assert_eq!(stream.describe().retention, retention);
    for key in 0..100 {
        ledger.put(&stream, key, 1_000, clock.now()).expect("P8: opening made room");
    }
    stream.close().unwrap();
    let stream = open().unwrap();
    assert_no_damage(&stream, "P8: after retention by bytes");
    let left = stream.stats().unwrap().record_count() as usize;
    assert!((100..known).contains(&left), "{left} of {known}");
    for shard in stream.stats().unwrap().shards {
        let horizon = shard.horizon.get();
        ledger.acknowledged.retain(|_, (of, sequence, _)| *of != shard.shard || *sequence >= horizon);
    }
    ledger.check(&stream, clock.now() - AGE, "P8: after retention by bytes");
}

#[test]
fn p8_retention_makes_room_on_a_full_tmpfs() {
    retention_makes_room(Kind::Tmpfs);
}

#[test]
fn p8_retention_makes_room_on_a_full_ext4() {
    retention_makes_room(Kind::Ext4);
}

#[test]
fn p8_retention_makes_room_on_a_full_xfs() {
    retention_makes_room(Kind::Xfs);
}

/// Not a test: the child that the test below kills. It fills the disk, prints each receipt, and waits.
#[test]
fn child() {
    let Ok(path) = std::env::var("STREAMLOG_FULL_DISK_TEST") else { return };
    let stream = StreamOptions::new().must_exist().maintenance(Maintenance::Manual).open(path).unwrap();
    let mut refusals = 0;
    for number in 0u64.. {
        match stream.put([number as u8], Ledger::data(number, (number * 37 % 3_000) as usize)) {
            Ok(receipt) => {
                refusals = 0;
                println!("{number} {} {}", receipt.shard.get(), receipt.sequence);
            }
            Err(Error::StorageFull(_)) => {
                refusals += 1;
                println!("refused {number}");
            }
            Err(error) => panic!("{error}"),
        }
        if refusals == 1_000 {
            println!("full");
            std::thread::sleep(Duration::from_secs(600));
        }
    }
}

/// A child process that does not outlive the test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn killed_on_a_full_disk(kind: Kind) {
    let Some(mount) = Mount::new(kind) else { return };
    let root = mount.path();
    let clock = common::clock();
    let open =
        || options(&clock, Durability::Process).retention(Retention::forever()).open(root.join("stream"));
    open().unwrap().close().unwrap();
    let mut ballast = Ballast::fill(root);
    ballast.leave(2 << 20);
    let mut ledger = Ledger::default();
    let mut child = Killed(
        Command::new(std::env::current_exe().unwrap())
            .args(common::child_test(module_path!()))
            .env("STREAMLOG_FULL_DISK_TEST", root.join("stream"))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    for line in BufReader::new(child.0.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        if line == "full" {
            break;
        }
        let fields: Vec<u64> = line.split(' ').filter_map(|field| field.parse().ok()).collect();
        match fields[..] {
            [number, shard, sequence] => {
                let place = (ShardId::new(shard as u32), sequence, Timestamp::default());
                ledger.acknowledged.insert(number, place);
            }
            [number] if line.starts_with("refused") => drop(ledger.refused.insert(number)),
            _ => {}
        }
        ledger.next = ledger.next.max(fields.first().copied().unwrap_or_default());
    }
    drop(child);
    assert!(ledger.acknowledged.len() > 500, "{}", ledger.acknowledged.len());

    let stream = open().expect("P8: it opens on a full disk, after a kill");
    ledger.check(&stream, Timestamp::default(), "P8: after a kill");
    fill_by_putting(&stream, &mut ledger, root, clock.now());
    stream.maintain().unwrap();
    fill_by_putting(&stream, &mut ledger, root, clock.now());
    drop(ballast);
    for key in 0..100 {
        ledger.put(&stream, key, 1_000, clock.now()).expect("P8: the disk has room again");
    }
    stream.close().unwrap();
    let stream = open().unwrap();
    assert!(stream.recovery().was_closed_cleanly());
    ledger.check(&stream, Timestamp::default(), "P8: opened again");
    assert_no_damage(&stream, "P8: opened again");
}

#[test]
fn p1_p8_a_process_killed_on_a_full_disk_loses_nothing() {
    for kind in [Kind::Tmpfs, Kind::Ext4, Kind::Xfs] {
        killed_on_a_full_disk(kind);
    }
}

/// A script that runs with little room, and its outcome.
struct Script {
    root: PathBuf,
    durability: Durability,
    clock: Arc<ManualClock>,
    stream: Option<Stream>,
    ledger: Ledger,
    errors: Vec<(&'static str, Error)>,
}

/// One step of the script. Its failure is recorded, and the next step runs.
type Step = (&'static str, fn(&mut Script, &Stream) -> Result<()>);

const STEPS: [Step; 15] = [
    ("puts", |script, stream| script.put_some(stream, 30)),
    ("a sync", |_, stream| stream.sync()),
    ("a split", |_, stream| {
        let first = stream.shards()[0].id;
        stream.split_shard_evenly(first).map(drop)
    }),
    ("puts after a split", |script, stream| script.put_some(stream, 20)),
    ("sealing", |_, stream| stream.maintain()),
    ("a merge", |_, stream| {
        let open: Vec<_> = stream.shards().into_iter().filter(|shard| shard.is_open()).collect();
        let at = |hash_key: u128| {
            open.iter().find(|shard| shard.hash_key_range.contains(HashKey::new(hash_key))).unwrap().id
        };
        stream.merge_shards(at((1 << 127) - 1), at(1 << 127)).map(drop)
    }),
    ("puts after a merge", |script, stream| script.put_some(stream, 20)),
    ("scaling", |_, stream| stream.update_shard_count(3).map(drop)),
    ("puts after scaling", |script, stream| script.put_some(stream, 20)),
    ("another retention", |_, stream| stream.set_retention(Retention::age(AGE).bytes_max(1 << 30))),
    ("a large batch", |script, stream| script.put_large(stream)),
    ("expiry", |script, stream| {
        script.clock.advance(AGE / 2);
        let put = script.put_some(stream, 10);
        script.clock.advance(AGE / 2 + Duration::from_secs(1));
        stream.maintain().and(put)
    }),
    ("puts after expiry", |script, stream| script.put_some(stream, 10)),
    ("closing", |script, stream| {
        script.stream = None;
        let closed = stream.clone().close();
        let opened = script.open().expect("P8: an existing stream opens on a full disk");
        script.stream = Some(opened);
        closed
    }),
    ("puts after opening", |script, stream| script.put_some(stream, 10)),
];

impl Script {
    fn open(&self) -> Result<Stream> {
        let path = self.root.join("stream");
        let options = common::small(&self.clock).durability(self.durability).shards(2);
        // Opening with the stored settings writes nothing, so it needs no room.
        let is_there = path.join("manifest.json").exists();
        if is_there { options.open(path) } else { options.retention(Retention::age(AGE)).open(path) }
    }

    fn put_some(&mut self, stream: &Stream, count: u8) -> Result<()> {
        let mut outcome = Ok(());
        for key in 0..count {
            let len = 100 + (u64::from(key) * 997 % 9_000) as usize;
            let now = self.clock.now();
            let put = if key % 3 == 0 {
                let numbers = [self.ledger.next + 1, self.ledger.next + 2];
                self.ledger.next += 2;
                let data = numbers.map(|number| Ledger::data(number, len / 2));
                let keys = [[key], [key + 100]];
                let records = [0, 1].map(|at| PutRecord::new(&keys[at], &data[at]));
                let outcomes = stream.put_batch(&records).unwrap();
                let noted = numbers.into_iter().zip(outcomes);
                noted
                    .map(|(number, outcome)| self.ledger.note(number, outcome, now))
                    .fold(Ok(()), Result::and)
            } else {
                self.ledger.put(stream, key, len, now)
            };
            outcome = outcome.and(put);
        }
        outcome
    }

    /// Puts a batch whose frame is larger than a segment. It is written completely or not at all.
    fn put_large(&mut self, stream: &Stream) -> Result<()> {
        let numbers: Vec<_> = (0..20).map(|more| self.ledger.next + 1 + more).collect();
        self.ledger.next += 20;
        let data: Vec<_> = numbers.iter().map(|&number| Ledger::data(number, 5_000)).collect();
        let records: Vec<_> = data.iter().map(|data| PutRecord::new(b"large", data)).collect();
        let outcomes = stream.put_batch(&records).unwrap();
        let count = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        assert!(count == 0 || count == 20, "P7: {count} of a batch");
        let now = self.clock.now();
        let noted = numbers.into_iter().zip(outcomes);
        noted.map(|(number, outcome)| self.ledger.note(number, outcome, now)).fold(Ok(()), Result::and)
    }

    /// Runs the script with only `room` bytes left from the step `from` on. Returns whether that was enough for the remaining steps.
    ///
    /// Step 0 is the creation of the stream.
    fn run(root: &Path, durability: Durability, from: usize, room: u64) -> bool {
        let (root, clock) = (root.to_owned(), common::clock());
        let (ledger, errors) = (Ledger::default(), vec![]);
        let mut script = Self { root, durability, clock, stream: None, ledger, errors };
        let leave_room = |script: &Self| {
            let mut ballast = Ballast::fill(&script.root);
            ballast.leave(room);
            ballast
        };
        let mut ballast = (from == 0).then(|| leave_room(&script));
        match script.open() {
            Ok(stream) => script.stream = Some(stream),
            Err(error) => script.errors.push(("creation", error)),
        }
        for (at, (name, step)) in STEPS.into_iter().enumerate() {
            if at + 1 == from {
                ballast = Some(leave_room(&script));
            }
            let Some(stream) = script.stream.clone() else { continue };
            if let Err(error) = step(&mut script, &stream) {
                script.errors.push((name, error));
            }
        }
        let from = from.checked_sub(1).map_or("creation", |at| STEPS[at].0);
        let what = format!("{durability:?}, {} pages left from {from} on", room / PAGE_BYTES);
        for (name, error) in &script.errors {
            assert_full(error, &script.root, &format!("P8: {what}: {name}"));
        }
        script.check_while_full(&what);
        drop(ballast);
        script.check_with_room(&what);
        let was_enough = script.errors.is_empty();
        std::fs::remove_dir_all(script.root.join("stream")).unwrap();
        was_enough
    }

    fn oldest(&self) -> Timestamp {
        self.clock.now() - AGE
    }

    fn check_while_full(&self, what: &str) {
        let Some(stream) = &self.stream else { return };
        self.ledger.check(stream, self.oldest(), &format!("P8: {what}, while full"));
        stream.sync().unwrap_or_else(|error| panic!("{what}: {error}"));
        stream.stats().unwrap();
        assert_no_damage(stream, what);
    }

    /// Checks that the same handle works again: nothing is poisoned, and nothing is left behind.
    fn check_with_room(&mut self, what: &str) {
        let fine = |outcome: Result<()>| outcome.unwrap_or_else(|error| panic!("P8: {what}, then: {error}"));
        let stream = match self.stream.take() {
            Some(stream) => stream,
            None => self.open().unwrap_or_else(|error| panic!("P8: {what}, then: {error}")),
        };
        fine(self.put_some(&stream, 100));
        fine(stream.maintain());
        fine(stream.update_shard_count(4).map(drop));
        fine(self.put_some(&stream, 100));
        self.ledger.check(&stream, self.oldest(), what);
        fine(stream.close());
        let stream = self.open().unwrap();
        assert!(stream.recovery().was_closed_cleanly(), "{what}");
        self.ledger.check(&stream, self.oldest(), what);
        assert_no_damage(&stream, what);
        fine(stream.close());
        let path = self.root.join("stream");
        assert!(!path.join("manifest.new").exists(), "{what}: a file is left behind");
    }
}

/// Runs the script with more and more room from each of its steps on until it is enough. Prints how many runs that took.
///
/// `next` returns how many pages to try after a number that was not enough.
fn sweep(kind: Kind, durability: Durability, next: impl Fn(u64) -> u64) {
    let Some(mount) = Mount::new(kind) else { return };
    let mut count = 0;
    for from in 0..=STEPS.len() {
        let mut pages = 0;
        count += 1;
        while !Script::run(mount.path(), durability, from, pages * PAGE_BYTES) {
            pages = next(pages);
            count += 1;
            assert!(pages < 2_048, "the script needs more than 8 MiB");
        }
    }
    println!("{kind:?}, {durability:?}: the script ran {count} times");
}

#[test]
fn p8_a_tmpfs_that_fills_at_each_step_loses_nothing() {
    sweep(Kind::Tmpfs, Durability::Process, |pages| pages + 1 + pages / 4);
}

#[test]
fn p8_an_ext4_that_fills_at_each_step_loses_nothing() {
    sweep(Kind::Ext4, Durability::Process, |pages| pages * 3 + 1);
}

#[test]
fn p8_an_xfs_that_fills_at_each_step_loses_nothing() {
    sweep(Kind::Xfs, Durability::Power, |pages| pages * 3 + 1);
}

#[test]
#[ignore = "a longer run of the tests above: see docs/TESTING.md"]
fn p8_a_disk_that_fills_at_each_step_loses_nothing_long() {
    for durability in [Durability::Process, Durability::Power] {
        sweep(Kind::Tmpfs, durability, |pages| pages + 1);
        sweep(Kind::Ext4, durability, |pages| pages + 1 + pages / 8);
        sweep(Kind::Xfs, durability, |pages| pages + 1 + pages / 8);
    }
}
