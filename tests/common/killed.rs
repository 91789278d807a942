//! Shared by tests that kill a process with processors: a child that puts numbered records for each key, and the parent that kills it.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use streamlog::{Position, Record, ShardDescription, ShardFilter, ShardId, Stream, StreamOptions};

const KEYS: u64 = 20;

/// A record: its key, and its number among those of the key.
pub type Id = (u64, u64);

/// Prints an error and aborts, because a child cannot return it to anyone.
pub fn told<T, E: Display>(outcome: Result<T, E>) -> T {
    outcome.unwrap_or_else(|error| {
        println!("error {error}");
        std::process::abort()
    })
}

pub fn open(path: &Path, name: &str) -> Stream {
    told(StreamOptions::new().shards(2).segment_bytes(256 << 10).open(path.join(name)))
}

/// Calls a function with all records, parents before their children.
pub fn for_each(stream: &Stream, mut call: impl FnMut(ShardId, Record<'_>)) {
    for shard in stream.shards() {
        let mut iterator = told(stream.iterator(shard.id, Position::TrimHorizon));
        loop {
            let batch = told(iterator.next_batch(1_000));
            if batch.is_empty() {
                break;
            }
            batch.iter().for_each(|record| call(shard.id, record));
        }
    }
}

/// Returns the data of all records, parents before their children.
pub fn data(stream: &Stream) -> Vec<Vec<u8>> {
    let mut data = vec![];
    for_each(stream, |_, record| data.push(record.data().to_vec()));
    data
}

pub fn ids(stream: &Stream) -> Vec<Id> {
    data(stream).iter().map(|data| serde_json::from_slice(data).unwrap()).collect()
}

/// The line that a child prints once it works.
const BEGUN: &str = "the child works";

/// Signals in a child that everything has started: most kill times count from this moment, so that they do not depend
/// on the speed of the machine.
pub fn note_begun() {
    println!("{BEGUN}");
}

/// Puts the next numbers of all keys until the process is killed, and splits or merges a shard of these streams in turn now and then.
pub fn put_until_killed(to: &Stream, reshard: &[&Stream], round: u64) -> ! {
    put_with_pauses_until_killed(to, reshard, round, Duration::from_millis(1))
}

/// Does the same, and pauses this long after every 50 records.
pub fn put_with_pauses_until_killed(to: &Stream, reshard: &[&Stream], round: u64, pause: Duration) -> ! {
    let mut next: BTreeMap<u64, u64> = BTreeMap::new();
    for (key, _) in ids(to) {
        *next.entry(key).or_default() += 1;
    }
    note_begun();
    for number in 0u64.. {
        let key = number % KEYS;
        let next = next.entry(key).or_default();
        told(to.put(key.to_le_bytes(), serde_json::to_vec(&(key, *next)).unwrap()));
        *next += 1;
        if number % 200 == 100 {
            let pick = number / 200 + round;
            split_or_merge(reshard[pick as usize % reshard.len()], pick);
        }
        if number % 50 == 0 {
            thread::sleep(pause);
        }
    }
    unreachable!("it is killed before")
}

/// Splits the widest open shard, or merges two if there are three or more. The number decides which, if there is a choice.
pub fn split_or_merge(stream: &Stream, pick: u64) {
    let mut open = stream.list_shards(ShardFilter::AtLatest);
    open.sort_by_key(|shard| shard.hash_key_range.start);
    if open.len() < 3 {
        // Always one that is wide enough, however often that was done before.
        let width =
            |shard: &ShardDescription| shard.hash_key_range.end.get() - shard.hash_key_range.start.get();
        open.rotate_left(pick as usize % 2);
        told(stream.split_shard_evenly(open.into_iter().max_by_key(width).expect("one is open").id));
    } else {
        told(stream.merge_shards(open[0].id, open[1].id));
    }
}

/// Returns the directory and the round of a child that [`kill_again_and_again`] has started.
pub fn child() -> Option<(std::path::PathBuf, u64)> {
    let path = std::env::var_os("STREAMLOG_KILL_TEST")?;
    Some((path.into(), std::env::var("STREAMLOG_ROUND").unwrap().parse().unwrap()))
}

/// Runs the test `child` of a module (`module_path!()`) this many times, and kills it a while after it called [`note_begun`]; in every fourth round,
/// a while after it was started. In the round after the last kill, it must end by itself.
pub fn kill_again_and_again(module: &str, path: &Path, rounds: u64) {
    kill_each_after(module, path, rounds, |round| Duration::from_millis(10 + round * 173 % 200));
}

/// Does the same, and kills each child after a time that depends on its round.
pub fn kill_each_after(module: &str, path: &Path, rounds: u64, time: impl Fn(u64) -> Duration) {
    kill_each_with(module, path, rounds, &[], time);
}

/// Does the same, with variables of the environment for the children.
pub fn kill_each_with(
    module: &str,
    path: &Path,
    rounds: u64,
    variables: &[(&str, String)],
    time: impl Fn(u64) -> Duration,
) {
    for round in 0..=rounds {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(super::child_test(module))
            .env("STREAMLOG_KILL_TEST", path)
            .env("STREAMLOG_ROUND", round.to_string())
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut text = String::new();
        if round < rounds {
            // In some rounds it dies while it opens.
            let must_have_begun = round % 4 != 3;
            while must_have_begun && !text.contains(BEGUN) && output.read_line(&mut text).unwrap() > 0 {}
            assert!(!must_have_begun || text.contains(BEGUN), "round {round}: it ended by itself: {text}");
            thread::sleep(time(round));
            child.kill().unwrap();
        }
        output.read_to_string(&mut text).unwrap();
        let status = child.wait().unwrap();
        assert!(!text.contains("error"), "round {round}: {text}");
        assert!(round < rounds || status.success(), "{text}");
    }
}
