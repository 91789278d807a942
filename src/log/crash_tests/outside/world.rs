//! What a writer does to a stream, and what was put.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::{
    Batch, Maintenance, ManualClock, Retention, ShardFilter, ShardId, Stream, StreamOptions, Timestamp,
};

const AGE: Duration = Duration::from_secs(100);
/// About seven of them fill a segment.
const DATA_BYTES: usize = 8_000;

/// The stream, and what was put to it.
pub(super) struct World {
    pub(super) path: PathBuf,
    pub(super) clock: Arc<ManualClock>,
    stream: Option<Stream>,
    put_count: u64,
    pub(super) puts: Arc<Puts>,
    /// How many of the last puts may not be there.
    pub(super) unsure_count: u64,
    /// Called after each put that returned.
    pub(super) note: fn(ShardId, u64, u64),
}

/// The numbers of the puts that returned, by their places.
#[derive(Default)]
pub(super) struct Puts(pub(super) Mutex<BTreeMap<(ShardId, u64), u64>>);

impl Puts {
    pub(super) fn end_of(&self, shard: ShardId) -> u64 {
        let puts = self.0.lock().unwrap();
        puts.range((shard, 0)..=(shard, u64::MAX)).next_back().map_or(0, |((_, sequence), _)| sequence + 1)
    }

    /// Checks what a batch holds, as far as its puts have returned.
    pub(super) fn check(&self, batch: &Batch) -> Vec<u64> {
        let puts = self.0.lock().unwrap();
        let mut read = vec![];
        for record in batch {
            let number = u64::from_le_bytes(*record.data().first_chunk().unwrap());
            let expected = puts.get(&(batch.shard(), record.sequence().get()));
            assert!(expected.is_none_or(|&expected| expected == number), "{number}, not {expected:?}");
            // Compared at once, not byte by byte: this is where the tests spend their time.
            assert!(record.data()[8..] == vec![number as u8; DATA_BYTES - 8], "the bytes have changed");
            read.push(number);
        }
        read
    }
}

/// What the writer does.
pub(super) type Act = fn(&mut World);

pub(super) const ACTS: [(&str, Act); 13] = [
    ("puts", |world| world.put(2)),
    ("rolls", |world| world.put(9)),
    ("rolls three times", |world| world.put(25)),
    ("seals", |world| world.stream().maintain().unwrap()),
    ("trims some and fills files again", |world| world.trim(20)),
    ("trims all", |world| {
        world.trim(0);
        world.put(1);
    }),
    ("expires all", |world| {
        world.clock.advance(AGE * 2);
        world.stream().maintain().unwrap();
    }),
    ("splits", |world| {
        world.split();
        world.put(9);
    }),
    ("splits and merges", |world| {
        world.split();
        world.put(3);
        world.merge();
        world.put(3);
    }),
    ("splits, and the parent expires", |world| {
        world.split();
        world.put(3);
        world.clock.advance(AGE * 2);
        world.stream().maintain().unwrap();
        world.put(3);
    }),
    ("splits twice, and the parents expire", |world| {
        world.split();
        world.put(3);
        world.split();
        world.clock.advance(AGE * 2);
        world.stream().maintain().unwrap();
        world.put(3);
    }),
    ("closes and opens again", |world| {
        world.reopen();
        world.put(2);
    }),
    ("closes, opens, rolls and trims", |world| {
        world.reopen();
        world.put(9);
        world.trim(3);
        world.put(9);
    }),
];

impl World {
    pub(super) fn new(path: &Path) -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_700_000_000_000)));
        let path = path.to_owned();
        let puts = Arc::default();
        let mut world =
            Self { path, clock, stream: None, put_count: 0, unsure_count: 0, puts, note: |_, _, _| {} };
        world.stream = Some(world.open());
        world
    }

    /// Returns a stream whose segments have all been begun by this opening, or one that was opened again since.
    pub(super) fn begun(path: &Path, is_reopened: bool) -> Self {
        let mut world = Self::new(path);
        world.put(30);
        world.clock.advance(Duration::from_secs(1));
        if is_reopened {
            world.reopen();
        }
        world
    }

    pub(super) fn open(&self) -> Stream {
        let options = StreamOptions::new().segment_bytes(64 << 10).retention(Retention::age(AGE));
        let options = options.maintenance(Maintenance::Manual).clock(self.clock.clone());
        options.open(&self.path).unwrap()
    }

    pub(super) fn stream(&self) -> &Stream {
        self.stream.as_ref().unwrap()
    }

    /// Returns a stream that another process has open.
    pub(super) fn of_another_process(path: &Path) -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_700_000_001_000)));
        let (puts, path) = (Arc::default(), path.to_owned());
        Self { path, clock, stream: None, put_count: 0, unsure_count: 0, puts, note: |_, _, _| {} }
    }

    /// Opens the stream after that process is gone.
    pub(super) fn open_again(&mut self) {
        let put_count = self.puts.0.lock().unwrap().len() as u64;
        // A put that did not return may be there.
        self.unsure_count = 1;
        self.put_count = put_count + 1;
        self.stream = Some(self.open());
    }

    pub(super) fn reopen(&mut self) {
        self.stream.take().unwrap().close().unwrap();
        self.stream = Some(self.open());
    }

    pub(super) fn put(&mut self, count: u32) {
        for _ in 0..count {
            self.put_count += 1;
            let mut data = self.put_count.to_le_bytes().to_vec();
            data.extend(vec![self.put_count as u8; DATA_BYTES - data.len()]);
            let receipt = self.stream().put([self.put_count as u8], &data).unwrap();
            self.puts.0.lock().unwrap().insert((receipt.shard, receipt.sequence.get()), self.put_count);
            (self.note)(receipt.shard, receipt.sequence.get(), self.put_count);
        }
    }

    pub(super) fn trim(&self, kept: u64) {
        for shard in self.stream().stats().unwrap().shards {
            let horizon = shard.next_sequence.get().saturating_sub(kept);
            self.stream().trim_before(shard.shard, horizon.into()).unwrap();
        }
        self.stream().maintain().unwrap();
        self.stream().maintain().unwrap();
    }

    pub(super) fn split(&self) {
        let open = self.stream().list_shards(ShardFilter::AtLatest);
        self.stream().split_shard_evenly(open[0].id).unwrap();
    }

    fn merge(&self) {
        let mut open = self.stream().list_shards(ShardFilter::AtLatest);
        open.sort_by_key(|shard| shard.hash_key_range.start);
        self.stream().merge_shards(open[0].id, open[1].id).unwrap();
    }
}
