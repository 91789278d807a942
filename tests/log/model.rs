//! The stream against a plain in-memory model, over random operations: P1, P4, P5, P6, P7, P12, P16.

use crate::common;

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use streamlog::{
    Batch, Clock, Error, HashKey, LineageIterator, ManualClock, Position, PutRecord, Receipt, Retention,
    SECOND, Scaling, SequenceNumber, ShardDescription, ShardFilter, ShardId, ShardIterator, Stream,
    StreamOptions, Timestamp,
};

#[derive(Debug, Clone)]
enum Operation {
    Put {
        key: u8,
        len: usize,
    },
    PutBatch(Vec<(u8, usize)>),
    NewIterator {
        shard: usize,
        position: Place,
    },
    Read {
        iterator: usize,
        records_max: usize,
        bytes_max: usize,
    },
    NewLineage,
    ReadLineage {
        iterator: usize,
        records_max: usize,
    },
    Advance {
        millis: u64,
    },
    StepBack {
        millis: u64,
    },
    /// Sets the clock, and runs maintenance so that it notices.
    Jump {
        seconds: i64,
    },
    /// Puts a record while the clock shows a time in the future.
    PutAt {
        seconds: i64,
        key: u8,
    },
    Split {
        shard: usize,
        at: Option<u128>,
    },
    Merge {
        shard: usize,
    },
    Scale {
        count: u32,
    },
    /// Turns on on-demand scaling.
    OnDemand {
        min: u32,
        more: u32,
    },
    RetainFor {
        seconds: Option<u64>,
    },
    RetainBytes {
        bytes: Option<u64>,
    },
    /// Switches to a new key, if the stream is encrypted.
    RotateKey,
    Sync,
    Maintain,
    /// Closes the stream and opens it again.
    Reopen,
    /// Continues with a copy of the directory, as a `kill -9` leaves it.
    Crash,
    /// Moves the directory of the open stream.
    Move,
}

/// A position, as a fraction of the shard's records or of the time so far.
#[derive(Debug, Clone, Copy)]
enum Place {
    TrimHorizon,
    Latest,
    At(f64),
    After(f64),
    AtTimestamp(f64),
    /// The timestamp of one of the shard's records.
    AtRecord(f64),
}

/// A jump of minutes to decades, in either direction.
fn jump() -> impl Strategy<Value = i64> {
    let seconds = prop_oneof![61i64..10_000, 10_000i64..2_000_000_000];
    (any::<bool>(), seconds).prop_map(|(is_back, seconds)| if is_back { -seconds } else { seconds })
}

fn operation() -> impl Strategy<Value = Operation> {
    let len = prop_oneof![4 => 0usize..200, 2 => 200usize..5_000, 1 => 5_000usize..40_000];
    let place = prop_oneof![
        Just(Place::TrimHorizon),
        Just(Place::Latest),
        (0.0..1.2).prop_map(Place::At),
        (0.0..1.2).prop_map(Place::After),
        (-0.1..1.0).prop_map(Place::AtTimestamp),
        (0.0..1.0).prop_map(Place::AtRecord),
    ];
    prop_oneof![
        10 => (any::<u8>(), len.clone()).prop_map(|(key, len)| Operation::Put { key, len }),
        5 => vec((any::<u8>(), len), 0..40).prop_map(Operation::PutBatch),
        3 => (any::<usize>(), place).prop_map(|(shard, position)| Operation::NewIterator { shard, position }),
        8 => (any::<usize>(), 0usize..60, prop_oneof![Just(usize::MAX), 0usize..20_000])
            .prop_map(|(iterator, records_max, bytes_max)| Operation::Read { iterator, records_max, bytes_max }),
        2 => Just(Operation::NewLineage),
        8 => (any::<usize>(), 1usize..60)
            .prop_map(|(iterator, records_max)| Operation::ReadLineage { iterator, records_max }),
        4 => (0u64..5_000).prop_map(|millis| Operation::Advance { millis }),
        1 => (0u64..1_000).prop_map(|millis| Operation::StepBack { millis }),
        2 => (any::<usize>(), proptest::option::of(any::<u128>())).prop_map(|(shard, at)| Operation::Split { shard, at }),
        2 => any::<usize>().prop_map(|shard| Operation::Merge { shard }),
        1 => (1u32..7).prop_map(|count| Operation::Scale { count }),
        1 => (1u32..4, 0u32..6).prop_map(|(min, more)| Operation::OnDemand { min, more }),
        1 => proptest::option::of(1u64..30).prop_map(|seconds| Operation::RetainFor { seconds }),
        1 => proptest::option::of(1u64..500_000).prop_map(|bytes| Operation::RetainBytes { bytes }),
        1 => Just(Operation::RotateKey),
        1 => Just(Operation::Sync),
        4 => Just(Operation::Maintain),
        1 => Just(Operation::Reopen),
        1 => Just(Operation::Crash),
        1 => Just(Operation::Move),
    ]
}

fn operation_or_jump() -> impl Strategy<Value = Operation> {
    prop_oneof![
        40 => operation(),
        1 => jump().prop_map(|seconds| Operation::Jump { seconds }),
        1 => (jump(), any::<u8>()).prop_map(|(seconds, key)| Operation::PutAt { seconds: seconds.abs(), key }),
    ]
}

/// The expected contents of a shard.
#[derive(Debug, Default)]
struct Shard {
    first: u64,
    /// Key, data and timestamp, from the first sequence number on.
    records: Vec<(Vec<u8>, Vec<u8>, Timestamp)>,
    /// The elapsed time when they were put.
    put_at: Vec<Duration>,
    /// Records below this number already existed when the stream was opened after a clock jump.
    sure_from: u64,
    created_at: Timestamp,
    horizon: u64,
    is_closed: bool,
}

impl Shard {
    fn end(&self) -> u64 {
        self.first + self.records.len() as u64
    }

    fn from(&self, sequence: u64) -> &[(Vec<u8>, Vec<u8>, Timestamp)] {
        self.records.get((sequence.max(self.first) - self.first) as usize..).unwrap_or_default()
    }

    /// The first sequence number whose record arrived at a time or later.
    fn at_or_after(&self, time: Timestamp) -> u64 {
        self.first + self.records.partition_point(|record| record.2 < time) as u64
    }
}

/// A reader of the whole stream, and how far it has read each key.
struct Lineage {
    iterator: LineageIterator,
    /// How many of a key's puts it has read or skipped.
    read: HashMap<Vec<u8>, usize>,
    /// Whether it began after the first record or retention overtook it. Then it need not see every record.
    has_gaps: bool,
}

struct Model {
    scratch: tempfile::TempDir,
    generation: u32,
    clock: Arc<ManualClock>,
    retention: Retention,
    stream: Option<Stream>,
    shards: BTreeMap<ShardId, Shard>,
    iterators: Vec<(ShardIterator, u64)>,
    lineages: Vec<Lineage>,
    /// The data of each key's puts, in order.
    puts: HashMap<Vec<u8>, Vec<Vec<u8>>>,
    put_count: u64,
    has_jumped: bool,
    /// The sum of all small backward steps of the clock.
    stepped_back: Duration,
    /// A frame larger than a segment gets a segment of its own size.
    largest_frame_bytes: u64,
}

impl Model {
    fn new(shard_count: u32) -> Self {
        let mut model = Self {
            scratch: common::scratch(),
            generation: 0,
            clock: common::clock(),
            retention: Retention::forever(),
            stream: None,
            shards: BTreeMap::new(),
            iterators: vec![],
            lineages: vec![],
            puts: HashMap::new(),
            put_count: 0,
            has_jumped: false,
            stepped_back: Duration::ZERO,
            largest_frame_bytes: 0,
        };
        let options = model.options().shards(shard_count).retention(model.retention);
        model.stream = Some(options.open(model.path()).unwrap());
        let created_at = model.clock.now();
        let new = |number| (ShardId::new(number), Shard { created_at, ..Shard::default() });
        model.shards = (0..shard_count).map(new).collect();
        model
    }

    fn options(&self) -> StreamOptions {
        common::any_codec(common::small(&self.clock), self.put_count)
    }

    fn path(&self) -> std::path::PathBuf {
        self.scratch.path().join(format!("stream-{}", self.generation))
    }

    fn stream(&self) -> &Stream {
        self.stream.as_ref().unwrap()
    }

    fn open_shards(&self) -> Vec<ShardDescription> {
        self.stream().list_shards(ShardFilter::AtLatest)
    }

    /// Returns data that identifies its put.
    fn data(&mut self, len: usize) -> Vec<u8> {
        self.put_count += 1;
        let mut data = self.put_count.to_le_bytes().to_vec();
        data.resize(len.max(8), self.put_count as u8);
        data
    }

    /// Adds puts to the model, and checks that their receipts continue the sequence numbers.
    fn note(&mut self, put: Vec<(Vec<u8>, Vec<u8>, Receipt)>) {
        let now = self.clock.now();
        let bytes = put.iter().map(|(_, data, _)| data.len() as u64 + 100).sum();
        self.largest_frame_bytes = self.largest_frame_bytes.max(bytes);
        for (key, data, receipt) in put {
            let shard = self.shards.get_mut(&receipt.shard).unwrap();
            assert!(!shard.is_closed, "P16: a put went to a closed shard");
            assert_eq!(receipt.sequence.get(), shard.end(), "P5: sequence numbers are dense");
            let last = shard.records.last().map_or(shard.created_at, |last| last.2);
            self.puts.entry(key.clone()).or_default().push(data.clone());
            shard.records.push((key, data, now.max(last)));
            shard.put_at.push(self.clock.elapsed());
        }
    }

    fn apply(&mut self, operation: Operation) {
        match operation {
            Operation::Put { key, len } => {
                let data = self.data(len);
                let receipt = self.stream().put_record(&as_put(&[key], &data)).unwrap();
                self.note(vec![(vec![key], data, receipt)]);
            }
            Operation::PutBatch(records) => {
                let records: Vec<_> =
                    records.into_iter().map(|(key, len)| (vec![key], self.data(len))).collect();
                let batch: Vec<_> = records.iter().map(|(key, data)| as_put(key, data)).collect();
                let outcomes = self.stream().put_batch(&batch).unwrap();
                let receipts = outcomes.into_iter().map(|outcome| outcome.unwrap());
                let put =
                    records.into_iter().zip(receipts).map(|((key, data), receipt)| (key, data, receipt));
                self.note(put.collect());
            }
            Operation::NewIterator { shard, position } => self.new_iterator(shard, position),
            Operation::Read { iterator, records_max, bytes_max } => {
                if let Some(at) = iterator.checked_rem(self.iterators.len()) {
                    self.read(at, records_max, bytes_max);
                }
            }
            Operation::NewLineage => {
                let iterator = self.stream().lineage_iterator(Position::TrimHorizon).unwrap();
                let has_gaps = self.shards.values().any(|shard| shard.horizon > shard.first)
                    || self.stream().shards().len() < self.shards.len();
                self.lineages.push(Lineage { iterator, read: HashMap::new(), has_gaps });
            }
            Operation::ReadLineage { iterator, records_max } => {
                if let Some(at) = iterator.checked_rem(self.lineages.len()) {
                    self.read_lineage(at, records_max);
                }
            }
            Operation::Advance { millis } => self.clock.advance(Duration::from_millis(millis)),
            Operation::StepBack { millis } => {
                self.clock.set(self.clock.now() - Duration::from_millis(millis));
                self.stepped_back += Duration::from_millis(millis);
            }
            Operation::Jump { seconds } => {
                self.jump(seconds);
                self.maintain();
            }
            Operation::PutAt { seconds, key } => {
                let right = self.clock.now();
                self.jump(seconds);
                self.apply(Operation::Put { key, len: 100 });
                self.clock.set(right);
            }
            Operation::Split { shard, at } => self.split(shard, at),
            Operation::Merge { shard } => self.merge(shard),
            Operation::Scale { count } => {
                self.stream().update_shard_count(count).unwrap();
                self.adopt_shards();
                let mut open = self.open_shards();
                open.sort_by_key(|shard| shard.hash_key_range.start);
                let width = (open[0].hash_key_range.end.get() - open[0].hash_key_range.start.get()) as f64;
                assert_eq!(open.len() as u32, count);
                assert!((width * f64::from(count) / 2f64.powi(128) - 1.0).abs() < 1e-9, "equal ranges");
            }
            Operation::OnDemand { min, more } => {
                let scaling = Scaling::on_demand(min, min + more).capacity(20_000, 10);
                let scaling = scaling.split_after(SECOND).merge_after(3 * SECOND);
                self.stream().set_scaling(scaling).unwrap();
                self.adopt_shards();
                let count = self.open_shards().len() as u32;
                assert!((min..=min + more).contains(&count), "{count} shards");
            }
            Operation::RotateKey => {
                if let Some(before) = self.stream().describe().encryption {
                    self.stream().rotate_key().unwrap();
                    let key = self.stream().describe().encryption.unwrap().data_key;
                    assert_eq!(key, before.data_key + 1);
                }
            }
            Operation::RetainFor { seconds } => {
                let retention =
                    seconds.map_or(Retention::forever(), |s| Retention::age(Duration::from_secs(s)));
                let retention =
                    self.retention.bytes_max.map_or(retention, |bytes| retention.bytes_max(bytes));
                self.set_retention(retention);
            }
            Operation::RetainBytes { bytes } => {
                let retention = self.retention.age.map_or(Retention::forever(), Retention::age);
                self.set_retention(bytes.map_or(retention, |bytes| retention.bytes_max(bytes)));
            }
            Operation::Sync => self.stream().sync().unwrap(),
            Operation::Maintain => self.maintain(),
            Operation::Reopen => self.reopen(),
            Operation::Move => {
                let before = self.path();
                self.generation += 1;
                std::fs::rename(before, self.path()).unwrap();
            }
            Operation::Crash => {
                let before = self.path();
                self.generation += 1;
                common::copy_dir(&before, &self.path());
                self.iterators.clear();
                self.lineages.clear();
                self.stream = None;
                std::fs::remove_dir_all(before).unwrap();
                self.stream = Some(self.options().open(self.path()).unwrap());
                self.forget_jumps();
                self.adopt_horizons();
            }
        }
    }

    /// Runs a maintenance pass, which may split and merge shards.
    fn maintain(&mut self) {
        self.stream().maintain().unwrap();
        self.adopt_shards();
        self.check_retention();
    }

    /// An opening trusts the clock.
    fn forget_jumps(&mut self) {
        if self.has_jumped {
            self.shards.values_mut().for_each(|shard| shard.sure_from = shard.end());
        }
    }

    fn jump(&mut self, seconds: i64) {
        let by = Duration::from_secs(seconds.unsigned_abs());
        let now = self.clock.now();
        self.clock.set(if seconds < 0 { now - by } else { now + by });
        self.has_jumped = true;
    }

    fn reopen(&mut self) {
        self.stream.take().unwrap().close().unwrap();
        // Iterators of a closed stream still read to its end.
        (0..self.iterators.len()).for_each(|at| self.read(at, usize::MAX, usize::MAX));
        self.iterators.clear();
        self.lineages.clear();
        self.stream = Some(self.options().open(self.path()).unwrap());
        self.forget_jumps();
        assert!(self.stream().recovery().was_closed_cleanly());
        assert_eq!(self.stream().describe().retention, self.retention);
        self.adopt_horizons();
    }

    fn split(&mut self, shard: usize, at: Option<u128>) {
        let open = self.open_shards();
        let parent = &open[shard % open.len()];
        let split = match at {
            None => self.stream().split_shard_evenly(parent.id),
            Some(at) => self.stream().split_shard(parent.id, HashKey::new(at)),
        };
        match split {
            Ok(children) => {
                let ids: Vec<_> = children.iter().map(|child| child.id).collect();
                let now: Vec<_> = self.open_shards().iter().map(|shard| shard.id).collect();
                assert!(ids.iter().all(|id| now.contains(id)) && !now.contains(&parent.id));
            }
            Err(Error::InvalidArgument(_)) => {
                let range = parent.hash_key_range;
                let at = at.unwrap_or(range.start.get() + (range.end.get() - range.start.get()).div_ceil(2));
                assert!(at <= range.start.get() + 1 || at >= range.end.get(), "{at} is within {range}");
            }
            Err(error) => panic!("{error}"),
        }
        self.adopt_shards();
    }

    fn merge(&mut self, shard: usize) {
        let mut open = self.open_shards();
        open.sort_by_key(|shard| shard.hash_key_range.start);
        if open.len() > 1 {
            let at = shard % (open.len() - 1);
            let child = self.stream().merge_shards(open[at].id, open[at + 1].id).unwrap();
            assert_eq!((child.parent, child.adjacent_parent), (Some(open[at].id), Some(open[at + 1].id)));
            self.adopt_shards();
        }
    }

    /// Takes over the shards after a reshard, and checks them.
    fn adopt_shards(&mut self) {
        let described = self.stream().shards();
        for shard in &described {
            let parent_ends: Vec<_> =
                shard.parents().filter_map(|id| self.shards.get(&id)).map(Shard::end).collect();
            let known = self.shards.entry(shard.id).or_insert_with(|| {
                let first = shard.first_sequence.get();
                let created_at = shard.created_at;
                Shard { first, horizon: first, created_at, ..Shard::default() }
            });
            assert!(
                parent_ends.iter().all(|&end| known.first >= end),
                "P5: a child begins above its parents' end"
            );
            known.is_closed = !shard.is_open();
            assert_eq!(shard.closing_sequence.map_or(known.end(), SequenceNumber::get), known.end());
        }
        let mut open: Vec<_> = described.iter().filter(|shard| shard.is_open()).collect();
        open.sort_by_key(|shard| shard.hash_key_range.start);
        assert!(open.windows(2).all(|pair| pair[0].hash_key_range.is_followed_by(&pair[1].hash_key_range)));
        assert_eq!(
            (open[0].hash_key_range.start, open[open.len() - 1].hash_key_range.end),
            (HashKey::MIN, HashKey::MAX)
        );
    }

    fn set_retention(&mut self, retention: Retention) {
        self.retention = retention;
        self.stream().set_retention(retention).unwrap();
        self.check_retention();
    }

    /// Checks P12 right after a retention pass.
    fn check_retention(&mut self) {
        let before: BTreeMap<_, _> = self.shards.iter().map(|(&id, shard)| (id, shard.horizon)).collect();
        self.adopt_horizons();
        let is_by_bytes = self.retention.bytes_max.is_some();
        let oldest = self.retention.age.map(|age| self.clock.now() - age);
        let stats = self.stream().stats().unwrap();
        for of_shard in &stats.shards {
            let shard = &self.shards[&of_shard.shard];
            let before = before[&of_shard.shard];
            let expired = oldest.map_or(0, |oldest| shard.at_or_after(oldest)).max(before);
            if self.has_jumped {
                // Timestamps are not reliable here. Only elapsed time counts.
                let youngest = (before.max(shard.sure_from)..shard.horizon).last().filter(|_| !is_by_bytes);
                let youngest = youngest.map(|sequence| shard.put_at[(sequence - shard.first) as usize]);
                let passed = youngest.map(|put_at| self.clock.elapsed() - put_at + self.stepped_back);
                assert!(
                    passed >= self.retention.age.filter(|_| passed.is_some()),
                    "P12: a younger record is gone"
                );
            } else {
                assert!(shard.horizon >= expired, "P12: an expired record can be read");
                assert!(is_by_bytes || shard.horizon == expired, "P12: a younger record is gone");
            }
            assert!(of_shard.disk_bytes <= common::disk_bytes(&self.path()), "more bytes than on the disk");
        }
        if let Some(bytes_max) = self.retention.bytes_max {
            let active = stats.shards.len() as u64 * ((80 << 10) + self.largest_frame_bytes);
            // The bytes that the segments hold, without blocks reserved for later records.
            let mut bytes = 0;
            let look = |at: streamlog::VerifyProgress| {
                bytes = at.bytes_total;
                ControlFlow::Break(())
            };
            self.stream().verify(look).unwrap();
            assert!(bytes <= bytes_max + active, "{bytes} bytes remain");
        }
    }

    /// Checks that everything expires eventually, whatever the clock has shown.
    fn check_that_all_expires(&mut self) {
        self.set_retention(Retention::age(Duration::from_secs(80)));
        for _ in 0..40 {
            self.stream().maintain().unwrap();
            self.check_retention();
            self.clock.advance(Duration::from_secs(10));
        }
        let stats = self.stream().stats().unwrap();
        assert_eq!(stats.record_count(), 0, "P12: records stay forever: {stats:?}");
        let is_open = |shard: &ShardDescription| shard.is_open();
        assert!(self.stream().shards().iter().all(is_open), "closed shards stay forever");
    }

    fn adopt_horizons(&mut self) {
        let stats = self.stream().stats().unwrap();
        for (id, shard) in &mut self.shards {
            match stats.shards.iter().find(|of_shard| of_shard.shard == *id) {
                Some(of_shard) => {
                    assert_eq!(of_shard.next_sequence.get(), shard.end());
                    shard.horizon = of_shard.horizon.get();
                }
                None => {
                    assert!(shard.is_closed, "an open shard has expired");
                    shard.horizon = shard.end();
                }
            }
        }
    }

    fn new_iterator(&mut self, shard: usize, place: Place) {
        let described = self.stream().shards();
        let id = described[shard % described.len()].id;
        let shard = &self.shards[&id];
        let number = |fraction: f64| shard.first + (fraction * shard.records.len() as f64) as u64;
        let now = self.clock.now();
        let (position, expected) = match place {
            Place::TrimHorizon => (Position::TrimHorizon, shard.horizon),
            Place::Latest => (Position::Latest, shard.end()),
            Place::At(fraction) => (Position::At(SequenceNumber::new(number(fraction))), number(fraction)),
            Place::After(fraction) => {
                (Position::After(SequenceNumber::new(number(fraction))), number(fraction) + 1)
            }
            Place::AtTimestamp(fraction) => {
                let start = Timestamp::from_millis(1_700_000_000_000).as_micros() as f64;
                let time =
                    Timestamp::from_micros((start + fraction * (now.as_micros() as f64 - start)) as u64);
                let time = time.min(now);
                (Position::AtTimestamp(time), shard.at_or_after(time).max(shard.horizon))
            }
            Place::AtRecord(fraction) => {
                let at = (fraction * shard.records.len() as f64) as usize;
                let time = shard.records.get(at).map_or(shard.created_at, |record| record.2);
                (Position::AtTimestamp(time), shard.at_or_after(time).max(shard.horizon))
            }
        };
        // If timestamps are known to be wrong, the search uses the start times of segments.
        let is_sure = !matches!(position, Position::AtTimestamp(_)) || !self.has_jumped;
        match self.stream().iterator(id, position) {
            Ok(iterator) => {
                let next = iterator.next_sequence().get();
                assert!(next == expected || !is_sure && next >= shard.horizon, "{next}: {position:?}");
                self.iterators.push((iterator, next));
            }
            Err(Error::Trimmed { requested, horizon, .. }) => {
                assert_eq!((requested.get(), horizon.get()), (expected, shard.horizon));
                assert!(requested < horizon);
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn read(&mut self, at: usize, records_max: usize, bytes_max: usize) {
        let (iterator, next) = &mut self.iterators[at];
        let shard = &self.shards[&iterator.shard()];
        let mut outcome = iterator.next_batch_within(records_max, bytes_max);
        if let Err(Error::Trimmed { requested, horizon, .. }) = outcome {
            assert_eq!((requested.get(), horizon.get()), (*next, shard.horizon));
            assert_eq!(iterator.skip_to_horizon(), shard.horizon - *next);
            *next = shard.horizon;
            outcome = iterator.next_batch_within(records_max, bytes_max);
        }
        let batch = outcome.unwrap();
        let expected = shard.from(*next);
        check(&batch, expected, *next);
        let headers = |record: &streamlog::Record<'_>| -> usize {
            record.headers().map(|(name, value)| name.len() + value.len()).sum()
        };
        let bytes: usize = batch
            .iter()
            .map(|record| record.partition_key().len() + record.data().len() + headers(&record))
            .sum();
        assert!(batch.len() <= records_max && (bytes <= bytes_max || batch.len() == 1));
        let is_beyond = *next > shard.end();
        assert!(
            !batch.is_empty() || expected.is_empty() || records_max == 0 || is_beyond,
            "P6: records were skipped"
        );
        if batch.len() == expected.len() {
            assert_eq!(batch.millis_behind_latest(), 0);
        } else {
            assert!(batch.millis_behind_latest() > 0, "P6: a loop that reads until 0 stops early");
        }
        *next = iterator.next_sequence().get();
        assert_eq!(batch.child_shards().is_some(), shard.is_closed && *next >= shard.end());
    }

    fn read_lineage(&mut self, at: usize, records_max: usize) -> bool {
        let lineage = &mut self.lineages[at];
        match lineage.iterator.next_batch(records_max) {
            Ok(batch) => {
                for record in &batch {
                    let puts = &self.puts[record.partition_key()];
                    let read = lineage.read.entry(record.partition_key().to_vec()).or_default();
                    let found = puts.iter().skip(*read).position(|data| data == record.data());
                    let skipped = found.expect("P4: the records of a key come in the order of their puts");
                    assert!(skipped == 0 || lineage.has_gaps, "P6: a record of the key was skipped");
                    *read += skipped + 1;
                }
                !batch.is_empty()
            }
            Err(Error::Trimmed { .. }) => {
                assert!(lineage.iterator.skip_to_horizon() > 0);
                lineage.has_gaps = true;
                true
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn check_all(&mut self) {
        let described = self.stream().shards();
        let mut record_count = 0;
        for shard in described {
            let expected = &self.shards[&shard.id];
            let mut iterator = self.stream().iterator(shard.id, Position::TrimHorizon).unwrap();
            let mut next = expected.horizon;
            loop {
                let batch = iterator.next_batch(7).unwrap();
                check(&batch, expected.from(next), next);
                next += batch.len() as u64;
                if batch.is_empty() {
                    break;
                }
            }
            assert_eq!(next, expected.end(), "P1: every put is there");
            record_count += expected.end() - expected.horizon;
        }
        let found = self.stream().verify(|_| ControlFlow::Continue(())).unwrap();
        assert_eq!((found.damage, found.record_count), (vec![], record_count));
        // Readers of the whole stream have read every record in the end.
        for at in 0..self.lineages.len() {
            while self.read_lineage(at, 100) {}
            let lineage = &self.lineages[at];
            for (key, puts) in &self.puts {
                let read = lineage.read.get(key).copied().unwrap_or_default();
                assert!(lineage.has_gaps || read == puts.len(), "P6: {read} of {} were read", puts.len());
            }
        }
    }
}

/// Returns a record to put. One in three has headers, derived from its data.
fn as_put<'a>(key: &'a [u8], data: &'a [u8]) -> PutRecord<'a> {
    let record = PutRecord::new(key, data);
    match data[0] % 3 {
        0 => record.header("put", &data[..8]).header("empty", ""),
        _ => record,
    }
}

fn check(batch: &Batch, expected: &[(Vec<u8>, Vec<u8>, Timestamp)], first: u64) {
    assert!(batch.len() <= expected.len());
    for ((record, expected), sequence) in batch.iter().zip(expected).zip(first..) {
        assert_eq!(record.sequence().get(), sequence);
        assert_eq!((record.partition_key(), record.data()), (&expected.0[..], &expected.1[..]));
        assert!(record.headers().eq(as_put(&expected.0, &expected.1).headers()));
        assert_eq!(record.timestamp(), expected.2);
    }
    assert_eq!(batch.iter().count(), batch.len());
}

fn run(shard_count: u32, operations: Vec<Operation>) {
    let mut model = Model::new(shard_count);
    for operation in operations {
        model.apply(operation);
    }
    model.check_all();
    model.apply(Operation::Reopen);
    model.check_all();
    model.apply(Operation::Crash);
    model.check_all();
    model.check_that_all_expires();
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn p1_p4_p5_p6_p7_p12_p16_a_stream_does_what_the_model_does(
        shard_count in 1u32..4, operations in vec(operation(), 1..150),
    ) {
        run(shard_count, operations);
    }

    #[test]
    fn p1_p4_p5_p6_p7_p12_p16_a_stream_does_what_the_model_does_while_the_clock_jumps(
        shard_count in 1u32..4, operations in vec(operation_or_jump(), 1..150),
    ) {
        run(shard_count, operations);
    }
}

/// Runs `PROPTEST_CASES` sequences of operations, or 80; `.ci/run` sets more. Saves failures, and retries them first in later runs.
fn config() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(80);
    let failures = FileFailurePersistence::Direct("tests/log/model.regressions");
    ProptestConfig {
        max_shrink_iters: 20_000,
        failure_persistence: Some(Box::new(failures)),
        ..ProptestConfig::with_cases(cases)
    }
}
