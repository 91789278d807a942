//! Puts, rolls, splits, merges, trims, crashes and archiving passes in random order, some of which stop in the middle: readers with the archive see
//! each record once and in order, or an error that gives the reason.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::prelude::*;
use streamlog::{
    Archiver, Error, LineageIterator, ManualClock, Position, Record, Retention, SECOND, ShardFilter, Stream,
    StreamOptions, StreamReader,
};

use super::common::place::Place;
use super::common::{any_codec, clock, copy_dir, scratch, small};
use super::{go_on, with_archive};

const KEYS: u32 = 5;
const AGE: std::time::Duration = std::time::Duration::from_secs(100);

#[derive(Debug, Clone)]
enum Step {
    Put(u8),
    Maintain,
    /// An archiving pass. The place fails after this many changes, which ends the archiver.
    Archive {
        puts_left: Option<u32>,
        fails_once: bool,
    },
    /// A second archiver, in another process.
    ArchiveElsewhere,
    Advance(u8),
    Split(u8),
    Merge(u8),
    Reopen,
    /// Written data stays, and nothing is closed.
    Kill,
    Away(bool),
    /// Makes a stream of the archive so far.
    Restore,
    NewReader,
    Read {
        reader: u8,
        records: u8,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (1..12u8).prop_map(Step::Put),
        4 => Just(Step::Maintain),
        3 => Just(Step::Archive { puts_left: None, fails_once: false }),
        3 => (0..4u32, any::<bool>()).prop_map(|(left, fails_once)| Step::Archive { puts_left: Some(left), fails_once }),
        1 => Just(Step::ArchiveElsewhere),
        4 => (1..=255u8).prop_map(Step::Advance),
        2 => any::<u8>().prop_map(Step::Split),
        2 => any::<u8>().prop_map(Step::Merge),
        1 => Just(Step::Reopen),
        1 => Just(Step::Kill),
        2 => any::<bool>().prop_map(Step::Away),
        1 => Just(Step::Restore),
        2 => Just(Step::NewReader),
        6 => (any::<u8>(), 1..20u8).prop_map(|(reader, records)| Step::Read { reader, records }),
    ]
}

/// A reader that continues across operations.
struct Reading {
    iterator: LineageIterator,
    /// The next number of each key.
    next: BTreeMap<u32, u32>,
}

struct World {
    directory: PathBuf,
    lives: u32,
    clock: Arc<ManualClock>,
    codec: u64,
    place: Place,
    is_held: bool,
    stream: Option<Stream>,
    archiver: Option<Archiver>,
    next: [u32; KEYS as usize],
    readings: Vec<Reading>,
}

impl World {
    fn path(&self) -> PathBuf {
        self.directory.join(format!("life-{}", self.lives))
    }

    fn open(&mut self) {
        let options = any_codec(small(&self.clock), self.codec).retention(Retention::age(AGE));
        let stream = options.open(self.path()).unwrap();
        if self.is_held {
            drop(stream.archiver(self.place.clone()).hold(1 << 40).unwrap());
        }
        self.stream = Some(stream);
        self.archiver = None;
    }

    fn stream(&self) -> &Stream {
        self.stream.as_ref().expect("it is open between steps")
    }

    fn reader(&self) -> StreamReader {
        with_keys(with_archive(&self.clock, &self.place)).open_reader(self.path()).unwrap()
    }

    fn put(&mut self, count: u8) {
        for at in 0..u32::from(count) {
            let key = (at + u32::from(count)) % KEYS;
            let mut data = self.next[key as usize].to_be_bytes().to_vec();
            data.resize(6_000, 0);
            self.stream().put(format!("key-{key}"), data).unwrap();
            self.next[key as usize] += 1;
        }
    }

    fn archive(&mut self, puts_left: Option<u32>, fails_once: bool) {
        let mut archiver = self.archiver.take().unwrap_or_else(|| self.stream().archiver(self.place.clone()));
        self.place.with(|place| (place.puts_left, place.fails_once) = (puts_left, fails_once));
        let outcome = archiver.run(go_on);
        self.place.with(|place| place.puts_left = None);
        match outcome {
            Ok(_) => self.archiver = Some(archiver),
            // The place is away, or the connection is lost. Another reader starts over.
            Err(Error::Io(failure)) => assert!(failure.path.starts_with("memory:"), "{failure}"),
            Err(error) => panic!("{error}"),
        }
    }

    fn reshard(&mut self, pick: u8, split: bool) {
        let stream = self.stream();
        let mut open = stream.list_shards(ShardFilter::AtLatest);
        open.sort_by_key(|shard| shard.hash_key_range.start);
        let pick = usize::from(pick) % open.len();
        match (split, open.len()) {
            (true, ..4) => drop(stream.split_shard_evenly(open[pick].id).unwrap()),
            (false, 2..) => {
                let pick = pick.min(open.len() - 2);
                stream.merge_shards(open[pick].id, open[pick + 1].id).unwrap();
            }
            _ => {}
        }
    }

    fn begin_reading(&mut self) {
        match self.reader().lineage_iterator(Position::TrimHorizon) {
            Ok(iterator) => self.readings.push(Reading { iterator, next: BTreeMap::new() }),
            Err(error) => self.check_away(&error),
        }
    }

    fn check_away(&self, error: &Error) {
        let is_away = self.place.with(|place| place.is_away);
        assert!(is_away && matches!(error, Error::Io(_)) && error.is_retryable(), "{error:?}");
    }

    /// Reads a batch. Returns `false` if there was none.
    fn read(&mut self, at: usize, records: usize) -> bool {
        let mut reading = self.readings.swap_remove(at);
        let goes_on = match reading.iterator.next_batch(records) {
            Ok(batch) => {
                for record in &batch {
                    let (key, number) = key_and_number(&record);
                    let next = reading.next.entry(key).or_default();
                    let is_next = if self.is_held { number == *next } else { number >= *next };
                    assert!(is_next, "key {key}: expected {next}, found {number}");
                    *next = number + 1;
                }
                !batch.is_empty()
            }
            Err(Error::Trimmed { .. }) => {
                // With a hold, no record is missing. But nobody knows the end of a shard that came and went, without a record, while no archiver ran.
                reading.iterator.skip_to_horizon() > 0
            }
            Err(error) => {
                self.check_away(&error);
                false
            }
        };
        self.readings.push(reading);
        goes_on
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Put(count) => self.put(count),
            Step::Maintain => self.stream().maintain().unwrap(),
            Step::Archive { puts_left, fails_once } => self.archive(puts_left, fails_once),
            Step::ArchiveElsewhere => {
                let reader = with_keys(StreamOptions::new().clock(self.clock.clone()))
                    .open_reader(self.path())
                    .unwrap();
                if let Err(error) = reader.archiver(self.place.clone()).run(go_on) {
                    self.check_away(&error);
                }
            }
            Step::Advance(seconds) => self.clock.advance(u32::from(seconds) * SECOND),
            Step::Split(pick) => self.reshard(pick, true),
            Step::Merge(pick) => self.reshard(pick, false),
            Step::Reopen => {
                self.archiver = None;
                self.stream.take().unwrap().close().unwrap();
                self.open();
            }
            Step::Kill => {
                // The readers of the old process end with it: they follow a directory.
                self.finish_readings();
                let from = self.path();
                self.lives += 1;
                copy_dir(&from, &self.path());
                self.archiver = None;
                self.stream.take().unwrap().close().unwrap();
                self.open();
            }
            Step::Away(is_away) => self.place.set_away(is_away),
            Step::Restore => self.restore_now(),
            Step::NewReader => self.begin_reading(),
            Step::Read { reader, records } => {
                if !self.readings.is_empty() {
                    self.read(usize::from(reader) % self.readings.len(), records.into());
                }
            }
        }
    }

    /// Reads everything up to a last record of each key.
    fn finish_readings(&mut self) {
        self.put(KEYS as u8);
        let was_away = self.place.with(|place| std::mem::take(&mut place.is_away));
        self.begin_reading();
        while let Some(last) = self.readings.len().checked_sub(1) {
            while self.read(last, 50) {}
            let reading = self.readings.pop().unwrap();
            for (key, &count) in (0..).zip(&self.next) {
                let read = reading.next.get(&key).copied().unwrap_or_default();
                assert_eq!(read, count, "key {key}");
            }
        }
        self.place.set_away(was_away);
    }

    /// At each moment, if nothing was dropped before it was archived, the archive has no gaps before its newest records.
    fn restore_now(&mut self) {
        let was_away = self.place.with(|place| std::mem::take(&mut place.is_away));
        if self.place.with(|place| place.objects.contains_key("stream.json")) {
            let path = self.directory.join("restored-early");
            Stream::restore(self.place.clone(), &path, go_on).unwrap();
            let stream = with_keys(small(&self.clock)).open(&path).unwrap();
            let mut iterator = stream.lineage_iterator(Position::TrimHorizon).unwrap();
            let mut next = [0; KEYS as usize];
            loop {
                let batch = match iterator.next_batch(100) {
                    Err(Error::Lost { .. }) => {
                        iterator.skip_lost().unwrap();
                        continue;
                    }
                    batch => batch.unwrap(),
                };
                if batch.is_empty() {
                    break;
                }
                for record in &batch {
                    let (key, number) = key_and_number(&record);
                    let is_next = if self.is_held {
                        number == next[key as usize]
                    } else {
                        number >= next[key as usize]
                    };
                    assert!(is_next, "key {key}: expected {}, found {number}", next[key as usize]);
                    next[key as usize] = number + 1;
                }
            }
            stream.close().unwrap();
            std::fs::remove_dir_all(&path).unwrap();
        }
        self.place.set_away(was_away);
    }

    /// Archives all, and makes a stream of it.
    fn restore(mut self) {
        self.finish_readings();
        self.place.set_away(false);
        self.stream.take().unwrap().close().unwrap();
        let report = self.reader().archiver(self.place.clone()).run(go_on).unwrap();
        assert!(report.waiting.is_empty(), "{report:?}");
        let path = self.directory.join("restored");
        let report = Stream::restore(self.place.clone(), &path, go_on).unwrap();
        let stream = with_keys(small(&self.clock)).open(&path).unwrap();
        let found = stream.verify(go_on).unwrap();
        assert!(found.damage.is_empty(), "{:?}", found.damage);
        assert_eq!(found.record_count, report.record_count);
        if self.is_held {
            assert_eq!(report.lost_count, 0);
            assert_eq!(found.record_count, self.next.iter().copied().map(u64::from).sum::<u64>());
        }
    }
}

fn key_and_number(record: &Record<'_>) -> (u32, u32) {
    let key = std::str::from_utf8(record.partition_key()).unwrap()[4..].parse().unwrap();
    (key, u32::from_be_bytes(*record.data().first_chunk().unwrap()))
}

fn with_keys(options: StreamOptions) -> StreamOptions {
    match cfg!(feature = "encryption") {
        true => options.encryption_keys(super::common::OpenKeys),
        false => options,
    }
}

fn check(path: &Path, codec: u64, is_held: bool, steps: Vec<Step>) {
    let mut world = World {
        directory: path.to_owned(),
        lives: 0,
        clock: clock(),
        codec,
        place: Place::default(),
        is_held,
        stream: None,
        archiver: None,
        next: [0; KEYS as usize],
        readings: vec![],
    };
    world.open();
    steps.into_iter().for_each(|step| world.apply(step));
    world.restore();
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn l8_readers_with_an_archive_see_each_record_once_or_an_error(
        codec in 0..9u64, is_held in prop::bool::weighted(0.7), steps in prop::collection::vec(step(), 1..60),
    ) {
        check(scratch().path(), codec, is_held, steps);
    }
}

#[test]
fn a_reader_that_has_not_read_the_archive_lately_does_not_take_some_children_for_all() {
    let steps = vec![
        Step::Archive { puts_left: None, fails_once: false },
        Step::NewReader,
        Step::Split(0),
        Step::Put(2),
        Step::Reopen,
        Step::Split(32),
        Step::Archive { puts_left: None, fails_once: false },
        Step::Advance(101),
        Step::Maintain,
    ];
    check(scratch().path(), 0, true, steps);
}
