//! Kills a process that writes, archives and drops at random moments: archive and stream together hold exactly what was put.
//!
//! `STREAMLOG_KILLS=100` kills it that often.

use std::collections::BTreeMap;
use std::path::Path;

use streamlog::delivery::Directory;
use streamlog::{Error, Position, Retention, ShardFilter, Stream, StreamOptions};

use super::common::killed::{child as killed_child, kill_again_and_again, note_begun, told};
use super::go_on;

const KEYS: u64 = 5;

fn rounds() -> u64 {
    std::env::var("STREAMLOG_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(8)
}

/// Reads everything, from the archive and from the stream, and checks that nothing is missing or out of order.
fn read_all(path: &Path) -> BTreeMap<u64, u64> {
    let mut next = BTreeMap::new();
    let options = StreamOptions::new().archive(Directory::new(path.join("archive")));
    let reader = told(options.open_reader(path.join("clicks")));
    let mut iterator = told(reader.lineage_iterator(Position::TrimHorizon));
    loop {
        let batch = match iterator.next_batch(1_000) {
            // A shard that came and went while no archiver ran. Missing records are detected below.
            Err(Error::Trimmed { .. }) => {
                iterator.skip_to_horizon();
                continue;
            }
            batch => told(batch),
        };
        if batch.is_empty() {
            return next;
        }
        for record in &batch {
            let (key, number): (u64, u64) =
                serde_json::from_slice(&record.data()[..record.data().len() - 2_000]).unwrap();
            let expected = next.entry(key).or_default();
            if number != *expected {
                println!("error key {key}: expected {expected}, found {number}");
                std::process::abort();
            }
            *expected += 1;
        }
    }
}

/// Not a test: `common::killed` runs it in a process of its own. In its last round, it only reads.
#[test]
fn child() {
    let Some((path, round)) = killed_child() else { return };
    let options =
        StreamOptions::new().segment_bytes(64 << 10).retention(Retention::forever().bytes_max(100 << 10));
    let stream = told(options.open(path.join("clicks")));
    let mut archiver = told(stream.archiver(Directory::new(path.join("archive"))).hold(1 << 40));
    let mut next = read_all(&path);
    if round == rounds() {
        assert!(next.values().sum::<u64>() > 100, "{next:?}");
        assert!(stream.stats().unwrap().shards.iter().any(|shard| shard.horizon > 100.into()));
        return;
    }
    note_begun();
    for number in 0u64.. {
        let (key, padding) = (number % KEYS, [b' '; 2_000]);
        let next = next.entry(key).or_default();
        let data = [&serde_json::to_vec(&(key, *next)).unwrap()[..], &padding].concat();
        told(stream.put(key.to_le_bytes(), data));
        *next += 1;
        if number % 40 == 0 {
            told(stream.maintain());
            told(archiver.run(go_on));
        }
        if number % 300 == 150 {
            reshard(&stream);
        }
    }
}

fn reshard(stream: &Stream) {
    let mut open = stream.list_shards(ShardFilter::AtLatest);
    open.sort_by_key(|shard| shard.hash_key_range.start);
    match open.len() {
        1 => drop(told(stream.split_shard_evenly(open[0].id))),
        _ => _ = told(stream.merge_shards(open[0].id, open[1].id)),
    }
}

#[test]
fn l1_the_archive_and_the_stream_have_everything_together_after_kills() {
    let directory = super::common::scratch();
    std::fs::create_dir(directory.path().join("archive")).unwrap();
    kill_again_and_again(module_path!(), directory.path(), rounds());
}
