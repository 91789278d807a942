//! Readers in other processes while a writer puts, rolls, trims and reshards as fast as it can, and is killed: L8.
//!
//! There is no model here, only checks that every reader can make by itself, and as much interleaving of the processes as possible.
//! `STREAMLOG_SECONDS=300` lets it run that long.

use crate::common;

use std::collections::{BTreeMap, VecDeque};
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use streamlog::{
    Batch, Error, Position, PutRecord, Retention, ShardFilter, Stream, StreamOptions, StreamReader, wait_any,
};

const CHILD: &str = "STREAMLOG_READER_STRESS";
const KEYS: u64 = 4;

/// The contents of a record: its key, the round of its writer, and its number among those of the key in that round.
fn data_of(key: u64, round: u64, number: u64) -> Vec<u8> {
    let mut data = [key, round, number].map(u64::to_le_bytes).concat();
    data.resize(24 + (number * 37 % 2_000) as usize, (key ^ round ^ number) as u8);
    data
}

fn check_record(record: &streamlog::Record<'_>) -> [u64; 3] {
    let mut words = record.data().chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap()));
    let [key, round, number] = [(); 3].map(|()| words.next().expect("L8: other data"));
    assert_eq!(record.data(), data_of(key, round, number), "L8: other data");
    assert_eq!(record.partition_key(), key.to_le_bytes());
    [key, round, number]
}

/// Not a test: the writers and the readers.
#[test]
fn child() {
    let Ok(orders) = std::env::var(CHILD) else { return };
    let words: Vec<_> = orders.split(' ').collect();
    match words[1] {
        "write" => write(Path::new(words[0]), words[2].parse().unwrap()),
        _ => read(Path::new(words[0]), words[2].parse().unwrap()),
    }
}

fn write(path: &Path, round: u64) {
    let options = StreamOptions::new().shards(2).segment_bytes(64 << 10);
    let stream = options.retention(Retention::forever().bytes_max(2 << 20)).open(path).unwrap();
    println!("open");
    std::thread::scope(|threads| {
        for thread in 0..2 {
            let stream = &stream;
            threads.spawn(move || put_all(stream, thread * KEYS..(thread + 1) * KEYS, round));
        }
        let mut seed = round;
        loop {
            seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            stream.maintain().unwrap();
            std::thread::sleep(Duration::from_micros(seed >> 52));
            if (seed >> 40).is_multiple_of(8) {
                let count = 1 + (seed >> 32) % 4;
                stream.update_shard_count(count as u32).unwrap();
            }
        }
    });
}

fn put_all(stream: &Stream, keys: std::ops::Range<u64>, round: u64) {
    for number in 0.. {
        let data: Vec<_> = keys.clone().map(|key| (key.to_le_bytes(), data_of(key, round, number))).collect();
        if number % 3 == 0 {
            let batch: Vec<_> = data.iter().map(|(key, data)| PutRecord::new(key, data)).collect();
            stream.put_batch(&batch).unwrap().into_iter().for_each(|outcome| _ = outcome.unwrap());
        } else {
            data.iter().for_each(|(key, data)| _ = stream.put(key, data).unwrap());
        }
        if number % 64 == 0 {
            // So that readers are not always overtaken.
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// What the readers of a process share.
struct Shared {
    is_over: AtomicBool,
    read: [AtomicU64; 3],
}

fn read(path: &Path, seed: u64) {
    let reader = StreamReader::open(path).unwrap();
    let shared = Shared { is_over: AtomicBool::new(false), read: [const { AtomicU64::new(0) }; 3] };
    std::thread::scope(|threads| {
        let readers: [fn(&StreamReader, &Shared, u64); 3] = [tail, seek, wait];
        let readers = readers.map(|work| {
            let (reader, shared) = (reader.clone(), &shared);
            threads.spawn(move || work(&reader, shared, seed))
        });
        // Until the parent closes it.
        while !readers.iter().any(|reader| reader.is_finished()) && !is_stdin_closed() {}
        shared.is_over.store(true, Ordering::Relaxed);
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
    let counts = shared.read.map(AtomicU64::into_inner);
    println!("read {} {} {}", counts[0], counts[1], counts[2]);
}

/// Waits a moment for a message of the parent.
fn is_stdin_closed() -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let stdin = std::io::stdin();
    let mut fds = [PollFd::new(&stdin, PollFlags::IN)];
    let time = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
    poll(&mut fds, Some(&time)).unwrap() > 0
}

/// Batches that stay readable, whatever happens to their files.
#[derive(Default)]
struct Held(VecDeque<(u32, Batch)>);

impl Held {
    fn keep(&mut self, batch: Batch) {
        self.0.push_back((Self::hash(&batch), batch));
        if self.0.len() > 100 {
            self.0.drain(..50).for_each(|(hash, batch)| {
                assert_eq!(Self::hash(&batch), hash, "L8: the bytes of a batch have changed");
            });
        }
    }

    fn hash(batch: &Batch) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        batch.iter().for_each(|record| hasher.update(record.data()));
        hasher.finalize()
    }
}

/// Reads the whole stream in order.
fn tail(reader: &StreamReader, shared: &Shared, _: u64) {
    let mut iterator = reader.lineage_iterator(Position::TrimHorizon).unwrap();
    let (mut held, mut last) = (Held::default(), BTreeMap::<u64, [u64; 2]>::new());
    let mut has_gap = true;
    while !shared.is_over.load(Ordering::Relaxed) {
        match iterator.next_batch(50) {
            Ok(batch) => {
                for record in &batch {
                    let [key, round, number] = check_record(&record);
                    if let Some(last) = last.insert(key, [round, number]) {
                        assert!(last < [round, number], "P4: {last:?} of {key} before {round} {number}");
                        let follows =
                            last == [round, number.wrapping_sub(1)] || last[0] < round && number == 0;
                        assert!(follows || has_gap, "L8: {last:?} of {key}, then {round} {number}");
                    }
                }
                shared.read[0].fetch_add(batch.len() as u64, Ordering::Relaxed);
                if !batch.is_empty() {
                    held.keep(batch);
                }
            }
            Err(Error::Trimmed { .. }) => {
                iterator.skip_to_horizon();
                // From here on, each key may have one.
                (has_gap, _) = (true, last.clear());
            }
            Err(error) => panic!("L8: {error}"),
        }
        has_gap &= last.len() < 2 * KEYS as usize;
    }
}

/// Reads at random places.
fn seek(reader: &StreamReader, shared: &Shared, mut seed: u64) {
    let mut held = Held::default();
    while !shared.is_over.load(Ordering::Relaxed) {
        seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        let shards = reader.shards();
        let shard = &shards[(seed >> 33) as usize % shards.len()];
        let position = match (seed >> 20) % 4 {
            0 => Position::TrimHorizon,
            1 => Position::Latest,
            2 => Position::AtTimestamp(reader.now() - Duration::from_millis(seed % 300)),
            _ => {
                let stats = reader.stats().unwrap();
                let Some(of) = stats.shards.iter().find(|of| of.shard == shard.id) else { continue };
                let (horizon, next) = (of.horizon.get(), of.next_sequence.get());
                Position::At((horizon + (seed >> 13) % (next - horizon).max(1)).into())
            }
        };
        let mut iterator = match reader.iterator(shard.id, position) {
            Ok(iterator) => iterator,
            Err(Error::ShardNotFound(_) | Error::Trimmed { .. }) => continue,
            Err(error) => panic!("L8: {position:?}: {error}"),
        };
        for _ in 0..1 + seed % 4 {
            let next = iterator.next_sequence();
            match iterator.next_batch(20) {
                Ok(batch) => {
                    for (record, sequence) in batch.iter().zip(next.get()..) {
                        assert_eq!(record.sequence().get(), sequence, "L8: not dense");
                        check_record(&record);
                    }
                    shared.read[1].fetch_add(batch.len() as u64, Ordering::Relaxed);
                    if !batch.is_empty() {
                        held.keep(batch);
                    }
                }
                Err(Error::Trimmed { .. }) => _ = iterator.skip_to_horizon(),
                Err(error) => panic!("L8: {position:?}: {error}"),
            }
        }
    }
}

/// Waits at the end of all shards.
fn wait(reader: &StreamReader, shared: &Shared, _: u64) {
    let mut idle_count = 0;
    while !shared.is_over.load(Ordering::Relaxed) {
        let shards = reader.list_shards(ShardFilter::AtLatest);
        let iterators = shards.iter().map(|shard| reader.iterator(shard.id, Position::Latest));
        let Ok(mut iterators) = iterators.collect::<streamlog::Result<Vec<_>>>() else { continue };
        for _ in 0..20 {
            let Some(at) = wait_any(&iterators, Duration::from_millis(500)).unwrap() else {
                // Nothing comes while no writer is there.
                idle_count += 1;
                assert!(idle_count < 60, "L8: nothing comes");
                break;
            };
            idle_count = 0;
            match iterators[at].next_batch(100) {
                Ok(batch) if batch.is_empty() => {
                    assert!(batch.child_shards().is_some(), "L8: nothing to read");
                    break;
                }
                Ok(batch) => _ = shared.read[2].fetch_add(batch.len() as u64, Ordering::Relaxed),
                Err(Error::Trimmed { .. }) => _ = iterators[at].skip_to_horizon(),
                Err(error) => panic!("L8: {error}"),
            }
            if shared.is_over.load(Ordering::Relaxed) {
                return;
            }
        }
    }
}

fn spawn(path: &Path, role: &str, number: u64) -> Child {
    let orders = format!("{} {role} {number}", path.display());
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(common::child_test(module_path!())).env(CHILD, orders);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
}

#[test]
fn l8_many_readers_follow_a_fast_writer_that_is_killed() {
    if std::env::var(CHILD).is_ok() {
        return;
    }
    let seconds = std::env::var("STREAMLOG_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(4);
    let scratch = common::scratch();
    let path = scratch.path().join("stream");
    StreamOptions::new().shards(2).segment_bytes(64 << 10).open(&path).unwrap().close().unwrap();
    let readers: Vec<_> = (0..2).map(|number| spawn(&path, "read", number)).collect();
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut round = 0;
    while Instant::now() < until {
        let mut writer = spawn(&path, "write", round);
        std::thread::sleep(Duration::from_millis(200 + round * 7919 % 700));
        assert_eq!(writer.try_wait().unwrap(), None, "the writer has failed");
        writer.kill().unwrap();
        writer.wait().unwrap();
        round += 1;
    }
    for mut reader in readers {
        drop(reader.stdin.take());
        let mut said = String::new();
        reader.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(reader.wait().unwrap().success(), "L8: a reader has failed");
        let counts = said.lines().find_map(|line| line.strip_prefix("read ")).expect("it has read");
        let counts: Vec<u64> = counts.split(' ').map(|count| count.parse().unwrap()).collect();
        assert!(counts.iter().all(|&count| count > 100), "{round} rounds: {counts:?}");
    }
}
