//! Kills a process with the receivers of two queues at random moments, while shards split and merge: each record is acknowledged once. L1, L3, P6.

use crate::common;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Display, Write};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use streamlog::{
    Clock, Durability, Error, HOUR, Maintenance, ManualClock, Position, Queue, QueueRecord, ShardFilter,
    Stream, StreamOptions, SystemClock,
};

/// The queues: without order, and ordered by key.
const QUEUES: [&str; 2] = ["any", "ordered"];
const KEY_COUNT: u64 = 200;
/// How many records the writers may be ahead of the slower queue.
const AHEAD_MAX: u64 = 5_000;

/// A record: shard and sequence number.
type Place = (u64, u64);

fn open_queue(stream: &Stream, name: &str, timeout: Duration) -> streamlog::Result<Queue> {
    let options = stream.queue(name).visibility_timeout(timeout).max_receive_count(1_000);
    if name == "ordered" { options.ordered_by_key() } else { options }.open()
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
    let Ok(path) = std::env::var("STREAMLOG_QUEUE_KILL_TEST") else { return };
    let round: u64 = std::env::var("STREAMLOG_ROUND").unwrap().parse().unwrap();
    let durability = if round % 4 == 3 { Durability::Power } else { Durability::Process };
    let stream =
        told(StreamOptions::new().shards(2).segment_bytes(1 << 20).durability(durability).open(path));
    let (put_count, done_counts) = (AtomicU64::new(0), [AtomicU64::new(0), AtomicU64::new(0)]);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0u64.. {
                let done_count =
                    || done_counts.iter().map(|count| count.load(Ordering::Relaxed)).min().unwrap();
                while put_count.load(Ordering::Relaxed) > done_count() + AHEAD_MAX {
                    std::thread::yield_now();
                }
                told(stream.put((number % KEY_COUNT).to_le_bytes(), number.to_le_bytes()));
                put_count.fetch_add(1, Ordering::Relaxed);
                if number % 4_000 == 2_000 {
                    reshard(&stream, number / 4_000 + round);
                }
            }
        });
        for (at, name) in QUEUES.iter().enumerate() {
            let queue = told(open_queue(&stream, name, Duration::from_millis(200)));
            for thread in 0..2 {
                let (queue, done_count) = (queue.clone(), &done_counts[at]);
                scope.spawn(move || consume(name, &queue, done_count, round * 4 + thread));
            }
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

fn say(what: &str, queue: &str, records: &[QueueRecord]) {
    let mut line = format!("{what} {queue}");
    for record in records {
        let key = u64::from_le_bytes((*record.record.partition_key).try_into().unwrap());
        write!(line, " {}:{}:{key}", record.shard.get(), record.record.sequence).unwrap();
    }
    println!("{line}");
}

/// Receives, and acknowledges in all possible ways. Prints received records, and records before and after they are acknowledged.
fn consume(name: &str, queue: &Queue, done_count: &AtomicU64, seed: u64) -> ! {
    let mut dice = seed;
    loop {
        dice = dice.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        let throw = dice >> 33;
        let mut records = told(queue.receive(1 + (throw / 16) as usize % 60, Duration::from_millis(10)));
        if records.is_empty() {
            continue;
        }
        say("received", name, &records);
        match throw % 16 {
            // Forgets a record, which comes again after its timeout.
            0 if throw % 128 < 16 => drop(records.pop()),
            1 | 2 => {
                let released = records.pop().unwrap();
                match queue.release(&released.handle, Duration::ZERO) {
                    Ok(()) | Err(Error::ReceiptHandleInvalid { .. }) => {}
                    Err(error) => told(Err(error)),
                }
            }
            3 => {
                for record in &records {
                    match queue.extend(&record.handle, HOUR) {
                        Ok(()) | Err(Error::ReceiptHandleInvalid { .. }) => {}
                        Err(error) => told(Err(error)),
                    }
                }
            }
            _ => {}
        }
        say("acknowledging", name, &records);
        let is_single = throw % 16 > 12;
        let outcomes = if is_single {
            records.iter().map(|record| queue.acknowledge(&record.handle)).collect()
        } else {
            told(queue.acknowledge_batch(records.iter().map(|record| &record.handle)))
        };
        let mut at = 0;
        records.retain(|_| {
            at += 1;
            match &outcomes[at - 1] {
                Ok(()) => true,
                // Its timeout was over, and another thread has it.
                Err(Error::ReceiptHandleInvalid { .. }) => false,
                Err(error) => told(Err(error)),
            }
        });
        say("acknowledged", name, &records);
        done_count.fetch_add(records.len() as u64, Ordering::Relaxed);
    }
}

fn spawn_child(path: &Path, round: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(common::child_test(module_path!()))
        .env("STREAMLOG_QUEUE_KILL_TEST", path)
        .env("STREAMLOG_ROUND", round.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// What the children printed of one queue.
#[derive(Default)]
struct Told {
    /// Records that may be acknowledged, though no line has confirmed it yet.
    in_doubt: BTreeSet<Place>,
    acknowledged: BTreeSet<Place>,
    /// The last received record of each key, in the order of the stream.
    last_of_key: BTreeMap<u64, Place>,
    received_count: u64,
}

impl Told {
    fn receive(&mut self, place: Place, key: u64, is_ordered: bool, round: u64) {
        self.received_count += 1;
        assert!(
            !self.acknowledged.contains(&place),
            "L1: round {round}: {place:?} is handed out after it was acknowledged"
        );
        if is_ordered && let Some(last) = self.last_of_key.insert(key, place) {
            assert!(last <= place, "L3: round {round}: {place:?} of key {key} came after {last:?}");
            assert!(
                last == place || self.acknowledged.contains(&last) || self.in_doubt.contains(&last),
                "L3: round {round}: {place:?} of key {key} came before {last:?} was acknowledged"
            );
        }
    }

    fn acknowledge(&mut self, place: Place, round: u64) {
        assert!(self.acknowledged.insert(place), "L1: round {round}: {place:?} was acknowledged twice");
        self.in_doubt.remove(&place);
    }
}

/// Processes a line. Returns whether it is a report.
fn take_line(told: &mut BTreeMap<&'static str, Told>, line: &str, round: u64) -> bool {
    assert!(!line.starts_with("error"), "round {round}: {line}");
    let mut words = line.split(' ');
    let (Some(what), Some(queue)) = (words.next(), words.next()) else { return false };
    let Some(name) = QUEUES.iter().find(|name| **name == queue) else { return false };
    let told = told.entry(name).or_default();
    for word in words {
        let numbers: Vec<u64> = word.split(':').map(|number| number.parse().unwrap()).collect();
        let (place, key) = ((numbers[0], numbers[1]), numbers[2]);
        match what {
            "received" => told.receive(place, key, queue == "ordered", round),
            "acknowledging" => drop(told.in_doubt.insert(place)),
            "acknowledged" => told.acknowledge(place, round),
            _ => return false,
        }
    }
    true
}

/// Returns all records of the stream.
fn records_of(stream: &Stream) -> BTreeSet<Place> {
    let mut records = BTreeSet::new();
    for shard in stream.shards() {
        let mut iterator = stream.iterator(shard.id, Position::TrimHorizon).unwrap();
        records
            .extend(iterator.records().map(|record| (shard.id.get().into(), record.unwrap().sequence.get())));
    }
    records
}

/// Handles the remaining records of both queues. All timeouts are over.
fn handle_the_rest(stream: &Stream, told: &mut BTreeMap<&'static str, Told>, round: u64) {
    let records = records_of(stream);
    for name in QUEUES {
        let queue = open_queue(stream, name, HOUR).unwrap();
        let told = told.entry(name).or_default();
        loop {
            let received = queue.receive(1_000, Duration::ZERO).unwrap();
            if received.is_empty() {
                break;
            }
            for record in received {
                let place = (record.shard.get().into(), record.record.sequence.get());
                let key = u64::from_le_bytes((*record.record.partition_key).try_into().unwrap());
                told.receive(place, key, name == "ordered", round);
                queue.acknowledge(&record.handle).unwrap();
                told.acknowledge(place, round);
            }
        }
        let described = queue.describe().unwrap();
        assert_eq!((described.unread.record_count, described.in_flight_count), (0, 0), "P6: {described:?}");
        let handled: BTreeSet<Place> = told.acknowledged.union(&told.in_doubt).copied().collect();
        assert_eq!(handled.len(), records.len(), "P6: round {round}: {name}");
        assert_eq!(handled, records, "P6: round {round}: {name}");
    }
}

fn kill_rounds(rounds: u64) {
    let scratch = common::scratch();
    let path = scratch.path().join("stream");
    let mut told = BTreeMap::new();
    for round in 0..rounds {
        let mut child = spawn_child(&path, round);
        // The moment of the kill is counted in lines, so that it does not depend on the machine's speed.
        let until = 1 + round.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 4_000;
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let (mut line, mut count) = (String::new(), 0);
        // A last line without its end was cut off. A whole one counts.
        while output.read_line(&mut line).unwrap() > 0 && line.ends_with('\n') {
            count += u64::from(take_line(&mut told, line.trim_end(), round));
            if count == until {
                child.kill().unwrap();
            }
            line.clear();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(count >= until, "round {round}: the child ended by itself");
        if round % 4 == 3 || round + 1 == rounds {
            let clock = Arc::new(ManualClock::new(SystemClock.now() + 2 * HOUR));
            let options = StreamOptions::new().maintenance(Maintenance::Manual).clock(clock);
            let stream = options.open(&path).expect("the stream opens");
            handle_the_rest(&stream, &mut told, round);
        }
    }
    for (name, told) in told {
        println!(
            "{rounds} kills, {name}: {} records, {} of them in doubt, received {} times",
            told.acknowledged.len() + told.in_doubt.len(),
            told.in_doubt.len(),
            told.received_count
        );
    }
}

#[test]
fn l1_l3_each_record_is_acknowledged_once_in_spite_of_kill_9() {
    let rounds = std::env::var("STREAMLOG_KILLS").ok().and_then(|rounds| rounds.parse().ok());
    kill_rounds(rounds.unwrap_or(10));
}
