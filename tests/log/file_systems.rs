//! Power loss on real file systems: only what the disk holds at that moment survives. P2, P3, P4, P7.
//!
//! The image of a file system is a file on an xfs. It is mounted, and a child process puts to a stream there. At random moments the test
//! clones the image. The clone holds every block that the inner file system has written by then, and nothing that is still in its page
//! cache, as after power loss. The test mounts the clone, which replays the journal, and expects every record whose receipt was known
//! before the clone began.

use crate::common;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use common::mounts::{self, Kind, Mount};
use streamlog::{
    Durability, Maintenance, OwnedRecord, Position, PutRecord, Retention, ShardId, Stream, StreamOptions,
};

const WRITERS: u64 = 8;
const SEGMENT_BYTES: u64 = 128 << 10;
/// Small enough that the oldest records expire while the child runs, and large enough that most promised records remain to be checked.
const RETENTION_BYTES: u64 = 24 << 20;
/// A writer with `Durability::Process` syncs once in this many records, and prints their receipts only then.
const RECORDS_A_SYNC: usize = 40;

/// The content of a record: its writer, the number of the put, and its place in that put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Content {
    writer: u64,
    number: u64,
    /// The number of the key within the put. The records of one key go to one shard, and survive together or not at all.
    group: u64,
    index: u64,
    /// How many records the group has.
    count: u64,
}

impl Content {
    fn key(&self) -> Vec<u8> {
        format!("{}-{}", self.writer, self.number % 5 + self.group * 10).into_bytes()
    }

    fn data(&self) -> Vec<u8> {
        let words = [self.writer, self.number, self.group, self.index, self.count];
        let mut data: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let len = (self.number * 37 + self.index * 11) % 900;
        let filler = (0..len).map(|at| (self.number.wrapping_mul(31) + at * 7) as u8);
        data.extend(filler);
        data
    }

    fn of(record: &OwnedRecord) -> Self {
        let words: Vec<u64> =
            record.data.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word)).collect();
        let content =
            Self { writer: words[0], number: words[1], group: words[2], index: words[3], count: words[4] };
        assert_eq!(record.partition_key, content.key(), "the record is whole");
        assert_eq!(record.data, content.data(), "the record is whole");
        content
    }
}

// ---- The child ----

/// Not a test: the child that puts. It prints each receipt as soon as its promise holds, and never ends by itself.
#[test]
fn child() {
    let Ok(path) = std::env::var("STREAMLOG_FILE_SYSTEMS_TEST") else { return };
    let durability = match std::env::var("STREAMLOG_FILE_SYSTEMS_TEST_SYNCS").is_ok() {
        true => Durability::Process,
        false => Durability::Power,
    };
    let stream = StreamOptions::new()
        .shards(3)
        .segment_bytes(SEGMENT_BYTES)
        .retention(Retention::forever().bytes_max(RETENTION_BYTES))
        .durability(durability)
        .sync_interval(None)
        .open(path)
        .unwrap();
    let first = std::env::var("STREAMLOG_FILE_SYSTEMS_TEST_FIRST").unwrap().parse().unwrap();
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let stream = &stream;
            scope.spawn(move || write(stream, writer, first, durability));
        }
        scope.spawn(|| reshard(&stream));
    });
}

fn write(stream: &Stream, writer: u64, first: u64, durability: Durability) {
    let mut printed_later = vec![];
    for number in first.. {
        let (groups, count) = if number.is_multiple_of(4) { (3, 4) } else { (1, 1) };
        let contents: Vec<_> = (0..groups)
            .flat_map(|group| (0..count).map(move |index| Content { writer, number, group, index, count }))
            .collect();
        let records: Vec<_> = contents.iter().map(|content| (content.key(), content.data())).collect();
        let receipts = match &records[..] {
            [(key, data)] => vec![stream.put(key, data)],
            records => {
                let batch: Vec<_> = records.iter().map(|(key, data)| PutRecord::new(key, data)).collect();
                stream.put_batch(&batch).unwrap()
            }
        };
        let lines = contents.iter().zip(receipts).map(|(content, receipt)| {
            let receipt = receipt.unwrap();
            let Content { writer, number, group, index, count } = content;
            format!(
                "{} {} {writer} {number} {group} {index} {count} .\n",
                receipt.shard.get(),
                receipt.sequence
            )
        });
        printed_later.extend(lines);
        if durability == Durability::Process {
            if printed_later.len() < RECORDS_A_SYNC {
                continue;
            }
            stream.sync().unwrap();
        }
        print!("{}", printed_later.concat());
        printed_later.clear();
    }
}

/// Splits and merges shards, between 2 and 6 of them.
fn reshard(stream: &Stream) {
    for round in 0u64.. {
        thread::sleep(Duration::from_millis(20 + round * 13 % 50));
        let mut open: Vec<_> = stream.shards().into_iter().filter(|shard| shard.is_open()).collect();
        open.sort_by_key(|shard| shard.hash_key_range.start);
        let at = (round.wrapping_mul(0x9e37_79b9) >> 7) as usize % (open.len() - 1);
        if open.len() < 3 || (open.len() < 6 && round % 2 == 0) {
            stream.split_shard_evenly(open[at].id).unwrap();
        } else {
            stream.merge_shards(open[at].id, open[at + 1].id).unwrap();
        }
    }
}

// ---- The parent ----

/// The child's promises so far.
#[derive(Default)]
struct Promises {
    known: Mutex<BTreeMap<(ShardId, u64), Content>>,
    came: Condvar,
}

/// A running child that does not outlive the test.
struct Running {
    child: Child,
    reader: Option<thread::JoinHandle<()>>,
    is_killed: Arc<AtomicBool>,
}

impl Running {
    /// Starts a child that counts its puts from `first` on, so that no two puts of a stream are alike.
    fn start(stream: &Path, durability: Durability, first: u64, promises: &Arc<Promises>) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(common::child_test(module_path!())).env("STREAMLOG_FILE_SYSTEMS_TEST", stream);
        command.env("STREAMLOG_FILE_SYSTEMS_TEST_FIRST", first.to_string());
        if durability == Durability::Process {
            command.env("STREAMLOG_FILE_SYSTEMS_TEST_SYNCS", "1");
        }
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (promises, is_killed) = (Arc::clone(promises), Arc::new(AtomicBool::new(false)));
        let is_over = Arc::clone(&is_killed);
        let reader = thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let fields: Vec<u64> = line.split(' ').filter_map(|field| field.parse().ok()).collect();
                // The last line may be cut in the middle, and the harness prints lines of its own.
                let [shard, sequence, writer, number, group, index, count] = fields[..] else { continue };
                if !line.ends_with(" .") {
                    continue;
                }
                let content = Content { writer, number, group, index, count };
                let place = (ShardId::new(shard as u32), sequence);
                let known = promises.known.lock().unwrap().insert(place, content);
                assert_eq!(known, None, "P5: two puts got the same place");
                promises.came.notify_all();
            }
            assert!(is_over.load(Ordering::Acquire), "the child ended by itself: see what it printed");
        });
        Self { child, reader: Some(reader), is_killed }
    }

    fn kill(mut self) {
        self.stop().expect("the child ran until it was killed");
    }

    fn stop(&mut self) -> thread::Result<()> {
        self.is_killed.store(true, Ordering::Release);
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.reader.take().map_or(Ok(()), |reader| reader.join())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}

/// Checks a stream after power loss against the promises made before. Returns how many promised records it checked.
fn check(path: &Path, promised: &BTreeMap<(ShardId, u64), Content>, what: &str) -> usize {
    let stream = StreamOptions::new()
        .must_exist()
        .maintenance(Maintenance::Manual)
        .open(path)
        .unwrap_or_else(|error| panic!("{what}: {error}"));
    let found = stream.verify(|_| ControlFlow::Continue(())).unwrap();
    assert!(found.is_complete && found.damage.is_empty(), "P9: {what}: {:?}", found.damage);

    let mut ends = BTreeMap::new();
    let mut records: BTreeMap<(ShardId, u64), Content> = BTreeMap::new();
    for shard in stream.stats().unwrap().shards {
        ends.insert(shard.shard, shard.horizon.get()..shard.next_sequence.get());
        let mut iterator = stream.iterator(shard.shard, Position::TrimHorizon).unwrap();
        let mut groups: BTreeMap<(u64, u64, u64), u64> = BTreeMap::new();
        let mut expected = shard.horizon.get();
        for record in iterator.records() {
            let record = record.unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(record.sequence.get(), expected, "P3: {what}: gap-free");
            let content = Content::of(&record);
            records.insert((shard.shard, expected), content);
            expected += 1;
            // Segments expire as a whole and hold whole frames, so the first group is whole too.
            let seen = groups.entry((content.writer, content.number, content.group)).or_default();
            assert_eq!(content.index, *seen, "P7: {what}: {content:?}");
            *seen += 1;
        }
        assert_eq!(expected, shard.next_sequence.get(), "{what}");
        let partial = records.values().find(|content| {
            groups.get(&(content.writer, content.number, content.group)).is_some_and(|&n| n != content.count)
        });
        assert_eq!(partial, None, "P7: {what}: a part of a batch");
    }

    let (mut checked, mut missing) = (0, vec![]);
    for (&(shard, sequence), content) in promised {
        let Some(there) = ends.get(&shard) else {
            // The shard has expired and left children.
            assert!(ends.keys().any(|&other| other > shard), "P2: {what}: {shard} is gone");
            continue;
        };
        if sequence < there.start {
            continue;
        }
        match records.get(&(shard, sequence)) {
            Some(found) => assert_eq!(found, content, "{what}: {shard}, {sequence}"),
            None => missing.push((shard, sequence)),
        }
        checked += 1;
    }
    assert!(
        missing.is_empty(),
        "P2: {what}: {} of {checked} promised records are gone, from {:?} on; the shards hold {ends:?}",
        missing.len(),
        missing[0],
    );

    let mut last: BTreeMap<Vec<u8>, (u64, u64)> = BTreeMap::new();
    let mut iterator = stream.lineage_iterator(Position::TrimHorizon).unwrap();
    loop {
        let batch = iterator.next_batch(1_000).unwrap();
        if batch.is_empty() {
            break;
        }
        for record in &batch {
            let content = Content::of(&record.into_owned());
            let place = (content.number, content.index);
            let before = last.insert(record.partition_key().to_owned(), place);
            assert!(before.is_none_or(|before| before < place), "P4: {what}: {before:?} and {content:?}");
        }
    }
    // The stream still works.
    stream.put("key", "data").unwrap();
    stream.close().unwrap();
    checked
}

/// Mounts the file system for the images: an xfs, which can clone them.
fn outer() -> Option<Mount> {
    mounts::told(Kind::Xfs, Mount::try_new(Kind::Xfs, 4 << 30))
}

/// Simulates power loss again and again while a child puts.
fn lose_power(kind: Kind, durability: Durability, clone_count: u64) {
    const CLONES_A_CHILD: u64 = 5;
    // If both kinds can be mounted, nothing after that may fail.
    let (Some(_), Some(outer)) = (Mount::new(kind), outer()) else { return };
    let image = outer.path().join("image");
    mounts::make(kind, &image, kind.bytes().max(128 << 20)).unwrap();
    let inner = Mount::of_image(kind, &image).unwrap();
    // Whatever reaches the disk from here on comes from the stream, not from mkfs.
    mounts::run("sync", [OsStr::new("--file-system"), inner.path().as_os_str()]).unwrap();

    let mut running = None;
    let mut promises = Arc::<Promises>::default();
    let mut name = String::new();
    let (mut checked, mut promised_count) = (0, 0);
    for round in 0..clone_count {
        let random = (round + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
        if round.is_multiple_of(CLONES_A_CHILD) {
            // Another child, alternately with a new stream, so that young streams are cloned too, and with the stream of the last child.
            if let Some(running) = running.take() {
                Running::kill(running);
            }
            if (round / CLONES_A_CHILD).is_multiple_of(2) {
                name = format!("stream-{round}");
                promises = Arc::default();
            }
            running = Some(Running::start(&inner.path().join(&name), durability, round << 32, &promises));
        }
        // Wait for a number of receipts, so that something has happened however fast the machine is, and then a little longer.
        let mut known = promises.known.lock().unwrap();
        let until = known.len() + 1 + if round == 0 { 0 } else { (random % 3_000) as usize };
        while known.len() < until {
            let (more, waited) = promises.came.wait_timeout(known, Duration::from_secs(60)).unwrap();
            assert!(!waited.timed_out(), "no receipt for a minute");
            known = more;
        }
        drop(known);
        thread::sleep(Duration::from_micros(random % 7_919));

        // As little as possible happens between the last receipt and the clone, so that a receipt printed too early is caught.
        let clone = outer.path().join("clone");
        let (from, to) = (File::open(&image).unwrap(), File::create(&clone).unwrap());
        let promised = promises.known.lock().unwrap().clone();
        rustix::fs::ioctl_ficlone(&to, &from).unwrap();
        drop((from, to));
        let what = format!("{kind:?}, {durability:?}, clone {round}, {} receipts", promised.len());
        let mounted = Mount::of_image(kind, &clone).unwrap_or_else(|error| panic!("{what}: {error}"));
        checked += check(&mounted.path().join(&name), &promised, &what);
        promised_count += promised.len();
        drop(mounted);
        std::fs::remove_file(&clone).unwrap();
    }
    if let Some(running) = running {
        running.kill();
    }
    println!(
        "{kind:?}, {durability:?}: {clone_count} clones, {promised_count} receipts, {checked} of them not expired"
    );
    assert!(checked > 0, "{checked} of {promised_count}");
}

#[test]
fn p2_p3_p7_power_loss_on_ext4_costs_no_promised_record() {
    lose_power(Kind::Ext4, Durability::Power, 2);
    lose_power(Kind::Ext4, Durability::Process, 2);
}

#[test]
fn p2_p3_p7_power_loss_on_xfs_costs_no_promised_record() {
    lose_power(Kind::Xfs, Durability::Power, 2);
    lose_power(Kind::Xfs, Durability::Process, 2);
}

#[test]
#[ignore = "a longer run of the tests above: see docs/TESTING.md"]
fn p2_p3_p7_power_loss_costs_no_promised_record_long() {
    let count = std::env::var("STREAMLOG_CLONES").map_or(30, |count| count.parse().unwrap());
    for kind in [Kind::Ext4, Kind::Xfs] {
        for durability in [Durability::Power, Durability::Process] {
            lose_power(kind, durability, count);
        }
    }
}
