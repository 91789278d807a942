//! Kills a process with the workers of a group at random moments, while shards split and merge: P1, P4, P6.

use crate::common;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use streamlog::{
    Batch, Durability, HOUR, Maintenance, Position, ShardFilter, ShardId, Stream, StreamOptions, Worker,
};

const GROUP: &str = "killed";
const KEYS_PER_WRITER: u64 = 20;
/// How many records the writers may be ahead of the workers.
const AHEAD_MAX: u64 = 2_000;

/// A place in the stream: shard and sequence number.
type Place = (u64, u64);

/// The records of a key, in the order of the stream.
#[derive(Default)]
struct OfKey {
    places: Vec<Place>,
    /// For each record, the child that put it and that child's count.
    numbers: Vec<[u64; 2]>,
}

fn worker(stream: &Stream) -> streamlog::Result<Worker> {
    // No lease ends by time, however slow the machine is, so only uncommitted records are delivered twice.
    stream.group(GROUP).worker().lease_timeout(HOUR).batch_records(20).open()
}

/// Prints an error and aborts, because the child cannot return it to anyone.
fn told<T, E: Display>(outcome: Result<T, E>) -> T {
    outcome.unwrap_or_else(|error| {
        println!("error {error}");
        std::process::abort()
    })
}

/// Not a test: the child that the kill test kills.
#[test]
fn child() {
    let Ok(path) = std::env::var("STREAMLOG_CONSUMER_KILL_TEST") else { return };
    let round: u64 = std::env::var("STREAMLOG_ROUND").unwrap().parse().unwrap();
    let durability = if round.is_multiple_of(2) { Durability::Process } else { Durability::Power };
    let stream =
        told(StreamOptions::new().shards(2).segment_bytes(256 << 10).durability(durability).open(path));
    let (put_count, handled_count) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for writer in 0..2 {
            let (stream, put_count, handled_count) = (&stream, &put_count, &handled_count);
            scope.spawn(move || {
                for number in 0u64.. {
                    while put_count.load(Ordering::Relaxed)
                        > handled_count.load(Ordering::Relaxed) + AHEAD_MAX
                    {
                        std::thread::yield_now();
                    }
                    let key = writer * KEYS_PER_WRITER + number % KEYS_PER_WRITER;
                    let mut data = [round.to_le_bytes(), number.to_le_bytes()].concat();
                    data.resize(16 + (number * 37 % 200) as usize, 7);
                    told(stream.put(key.to_le_bytes(), data));
                    put_count.fetch_add(1, Ordering::Relaxed);
                    if writer == 0 && number % 400 == 200 {
                        reshard(stream, number / 400 + round);
                    }
                }
            });
        }
        for thread in 0..4 {
            let (stream, handled_count) = (&stream, &handled_count);
            scope.spawn(move || consume(stream, handled_count, round * 4 + thread));
        }
    });
}

fn reshard(stream: &Stream, pick: u64) {
    let mut open = stream.list_shards(ShardFilter::AtLatest);
    open.sort_by_key(|shard| shard.hash_key_range.start);
    let at = (pick * 7) as usize % open.len();
    if open.len() < 3 || (open.len() < 7 && pick.is_multiple_of(2)) {
        told(stream.split_shard_evenly(open[at].id));
    } else {
        let at = at.min(open.len() - 2);
        told(stream.merge_shards(open[at].id, open[at + 1].id));
    }
}

/// Polls and commits in all possible ways. Prints handled batches, and then commits.
fn consume(stream: &Stream, handled_count: &AtomicU64, seed: u64) -> ! {
    let mut worker = told(worker(stream));
    let mut outstanding: Vec<Batch> = vec![];
    let mut dice = seed;
    loop {
        dice = dice.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        let throw = dice >> 33;
        if let Some(batch) = told(worker.poll(Duration::from_millis(10))) {
            let (first, last) = (batch.first_sequence().unwrap(), batch.last_sequence().unwrap());
            println!("handled {} {first} {last}", batch.shard().get());
            handled_count.fetch_add(batch.len() as u64, Ordering::Relaxed);
            outstanding.push(batch);
        }
        match throw % 16 {
            // Continues without a commit.
            0..=3 if outstanding.len() < 4 => {}
            4 => {
                // Commits a part of each batch. The shard may belong to another worker right after that.
                for batch in outstanding.iter().filter(|batch| batch.len() > 1) {
                    let first = batch.first_sequence().unwrap();
                    told(worker.commit_to(batch.shard(), first));
                    println!("committed {} {first}", batch.shard().get());
                }
            }
            // Leaves. Its uncommitted batches go to other workers.
            5 if throw.is_multiple_of(5) => {
                outstanding.clear();
                drop(worker);
                worker = told(self::worker(stream));
            }
            _ => {
                for batch in outstanding.drain(..) {
                    told(worker.commit(&batch));
                    println!("committed {} {}", batch.shard().get(), batch.last_sequence().unwrap());
                }
            }
        }
    }
}

fn spawn_child(path: &Path, round: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(common::child_test(module_path!()))
        .env("STREAMLOG_CONSUMER_KILL_TEST", path)
        .env("STREAMLOG_ROUND", round.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// The children's output.
#[derive(Default)]
struct Told {
    /// The handled records, in the order of their first delivery.
    handled: Vec<Place>,
    known: BTreeSet<Place>,
    /// The last committed record of each shard.
    committed: BTreeMap<u64, u64>,
    handled_again_count: u64,
}

impl Told {
    /// Processes a line. Returns whether it is a report.
    fn take(&mut self, line: &str, round: u64) -> bool {
        assert!(!line.starts_with("error"), "round {round}: {line}");
        let mut words = line.split(' ');
        let what = words.next();
        let numbers: Vec<u64> = words.filter_map(|word| word.parse().ok()).collect();
        match (what, &numbers[..]) {
            (Some("handled"), &[shard, first, last]) => self.handle(shard, first, last, round),
            (Some("committed"), &[shard, last]) => {
                let committed = self.committed.entry(shard).or_default();
                *committed = last.max(*committed);
            }
            _ => return false,
        }
        true
    }

    fn handle(&mut self, shard: u64, first: u64, last: u64, round: u64) {
        let committed = self.committed.get(&shard);
        assert!(
            committed.is_none_or(|&committed| first > committed),
            "P6: round {round}: {first} of shard {shard} is delivered again after a commit of {committed:?}"
        );
        for sequence in first..=last {
            if self.known.insert((shard, sequence)) {
                self.handled.push((shard, sequence));
            } else {
                self.handled_again_count += 1;
            }
        }
    }

    /// Checks that every record was handled, and those of each key in the order of their puts.
    fn check(&self, stream: &Stream) {
        let mut keys: BTreeMap<Place, Vec<u8>> = BTreeMap::new();
        let mut of_keys: BTreeMap<Vec<u8>, OfKey> = BTreeMap::new();
        // In the order of creation, so that a key's records come in the order of their puts.
        for shard in stream.shards() {
            let mut iterator = stream.iterator(shard.id, Position::TrimHorizon).unwrap();
            for record in iterator.records() {
                let record = record.unwrap();
                let place = (shard.id.get().into(), record.sequence.get());
                let number = |at: usize| u64::from_le_bytes(record.data[at..at + 8].try_into().unwrap());
                let of_key = of_keys.entry(record.partition_key.to_vec()).or_default();
                of_key.places.push(place);
                of_key.numbers.push([number(0), number(8)]);
                keys.insert(place, record.partition_key.to_vec());
            }
        }
        let mut handled: BTreeMap<&[u8], Vec<Place>> = BTreeMap::new();
        for place in &self.handled {
            let key = keys.get(place).unwrap_or_else(|| panic!("P1: {place:?} was handled, but is gone"));
            handled.entry(key).or_default().push(*place);
        }
        for (key, OfKey { places, numbers }) in &of_keys {
            assert!(numbers.is_sorted(), "P4: the records of {key:?} are in the order of their puts");
            let handled = handled.remove(&key[..]).unwrap_or_default();
            let differs = handled.iter().zip(places).position(|(handled, put)| handled != put);
            let at = differs.unwrap_or(handled.len().min(places.len()));
            assert!(
                handled == *places,
                "P4 P6: {key:?}: {:?} came where {:?} was next; {} of {} were handled",
                handled.get(at),
                places.get(at),
                handled.len(),
                places.len()
            );
        }
    }
}

/// Handles the remaining records as the children do.
fn handle_the_rest(stream: &Stream, told: &mut Told, round: u64) {
    let mut worker = worker(stream).unwrap();
    while let Some(batch) = worker.poll(Duration::ZERO).unwrap() {
        let (first, last) = (batch.first_sequence().unwrap(), batch.last_sequence().unwrap());
        told.handle(batch.shard().get().into(), first.get(), last.get(), round);
        worker.commit(&batch).unwrap();
    }
    assert_eq!(worker.group().describe().unwrap().lag().record_count, 0, "P6");
}

fn kill_rounds(rounds: u64) {
    let scratch = common::scratch();
    let path = scratch.path().join("stream");
    let mut told = Told::default();
    for round in 0..rounds {
        let mut child = spawn_child(&path, round);
        // The moment of the kill is counted in lines, so that it does not depend on the machine's speed.
        let until = 1 + round.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 1_500;
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let (mut line, mut count) = (String::new(), 0);
        // A last line without its end was cut off. A whole one counts, because its records may be committed by now.
        while output.read_line(&mut line).unwrap() > 0 && line.ends_with('\n') {
            count += u64::from(told.take(line.trim_end(), round));
            if count == until {
                child.kill().unwrap();
            }
            line.clear();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(count >= until, "round {round}: the child ended by itself");

        let stream =
            StreamOptions::new().maintenance(Maintenance::Manual).open(&path).expect("the stream opens");
        if !stream.groups().unwrap().is_empty() {
            for shard in stream.group(GROUP).describe().expect("P1: the group opens too").shards {
                let committed = told.committed.get(&shard.shard.get().into());
                assert!(
                    committed.is_none_or(|&last| shard.next_sequence.get() > last),
                    "P1: round {round}: a commit of {committed:?} returned, but {shard:?} is behind it"
                );
            }
        }
        // Otherwise the next child continues where this one was killed.
        if round % 4 == 3 || round + 1 == rounds {
            handle_the_rest(&stream, &mut told, round);
            told.check(&stream);
        }
    }
    let shard_count =
        told.known.iter().map(|(shard, _)| ShardId::new(*shard as u32)).collect::<BTreeSet<_>>().len();
    println!(
        "{rounds} kills, {} records of {shard_count} shards, {} deliveries repeated",
        told.known.len(),
        told.handled_again_count
    );
}

#[test]
fn p1_p4_p6_a_group_goes_on_behind_its_commits_after_kill_9() {
    let rounds = std::env::var("STREAMLOG_KILLS").ok().and_then(|rounds| rounds.parse().ok());
    kill_rounds(rounds.unwrap_or(10));
}
