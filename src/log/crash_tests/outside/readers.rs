//! Readers of a stream that share nothing with its writer, and that check what they read.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use super::world::{Puts, World};
use crate::{
    Batch, Error, HashKey, LineageIterator, ManualClock, Position, ShardFilter, ShardId, ShardIterator,
    StreamOptions, StreamReader, StreamStats, Timestamp,
};

/// A reader of one shard.
struct Checked {
    iterator: ShardIterator,
    /// What was read, kept to see whether it changes.
    held: Vec<Batch>,
}

impl Checked {
    fn new(iterator: ShardIterator) -> Self {
        Self { iterator, held: vec![] }
    }

    /// Reads up to the end. All records that were put to the shard before `end` must be there, or trimmed.
    fn read(&mut self, puts: &Puts, end: u64) {
        loop {
            let (shard, next) = (self.iterator.shard(), self.iterator.next_sequence().get());
            match self.iterator.next_batch(5) {
                Ok(batch) if batch.is_empty() => {
                    assert!(next >= end, "L8: {next} of {end} were read, and no more is there");
                    return;
                }
                Ok(batch) => {
                    assert_eq!(batch.first_sequence().unwrap().get(), next);
                    puts.check(&batch);
                    self.held.push(batch);
                }
                Err(Error::Trimmed { requested, horizon, .. }) => {
                    assert!(requested.get() == next && next < horizon.get());
                    assert!(self.iterator.skip_to_horizon() > 0);
                }
                Err(error) => panic!("{shard} at {next}: {error}"),
            }
        }
    }
}

/// A reader of the whole stream.
struct CheckedLineage {
    iterator: LineageIterator,
    read: BTreeSet<u64>,
    has_gaps: bool,
}

impl CheckedLineage {
    fn new(iterator: LineageIterator) -> Self {
        Self { iterator, read: BTreeSet::new(), has_gaps: false }
    }

    fn read(&mut self, puts: &Puts) {
        loop {
            match self.iterator.next_batch(5) {
                Ok(batch) if batch.is_empty() => return,
                Ok(batch) => {
                    for number in puts.check(&batch) {
                        assert!(self.read.insert(number), "L8: {number} was read twice");
                    }
                }
                Err(Error::Trimmed { .. }) => {
                    self.has_gaps = true;
                    assert!(self.iterator.skip_to_horizon() > 0);
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Reads all that is left, and checks that nothing was skipped without an error.
    fn finish(mut self, world: &World) {
        self.read(&world.puts);
        let mut own = Self::new(world.stream().lineage_iterator(Position::TrimHorizon).unwrap());
        own.read(&world.puts);
        let missing: Vec<_> = own.read.difference(&self.read).collect();
        // A writer that was killed may not have stored the horizon that it had shown.
        let may_be_back = self.has_gaps && world.unsure_count > 0;
        assert!(missing.is_empty() || may_be_back, "L8: {missing:?} were skipped");
        let lacking_count = self.read.last().map_or(0, |last| last - self.read.len() as u64);
        assert!(self.has_gaps || lacking_count <= world.unsure_count, "L8: only {:?} were read", self.read);
    }
}

/// Readers that were opened before the writer does something.
pub(super) struct Readers {
    path: PathBuf,
    clock: Arc<ManualClock>,
    puts: Arc<Puts>,
    reader: StreamReader,
    tail: Checked,
    slow: Checked,
    lineage: CheckedLineage,
}

impl Readers {
    pub(super) fn new(world: &World) -> Self {
        let (path, clock, puts) = (world.path.clone(), world.clock.clone(), Arc::clone(&world.puts));
        let reader = StreamOptions::new().clock(clock.clone()).open_reader(&path).unwrap();
        let shard = reader.shards()[0].id;
        let iterator = |position| Checked::new(reader.iterator(shard, position).unwrap());
        let mut tail = iterator(Position::TrimHorizon);
        tail.read(&puts, 0);
        let mut slow = iterator(Position::TrimHorizon);
        slow.held.push(slow.iterator.next_batch(2).unwrap());
        let mut lineage = CheckedLineage::new(reader.lineage_iterator(Position::TrimHorizon).unwrap());
        lineage.read.extend(puts.check(&lineage.iterator.next_batch(2).unwrap()));
        Self { path, clock, puts, reader, tail, slow, lineage }
    }

    fn begin(&self, position: Position) -> Option<Checked> {
        match self.reader.iterator(self.tail.iterator.shard(), position) {
            Ok(iterator) => Some(Checked::new(iterator)),
            Err(Error::ShardNotFound(_)) => None,
            Err(error) => panic!("{position:?}: {error}"),
        }
    }

    fn begin_and_read(&self, position: Position, end: u64) {
        if let Some(mut begun) = self.begin(position) {
            begun.read(&self.puts, end);
        }
    }

    /// Does everything that a reader can do, except that `slow` stays behind.
    pub(super) fn look_at_all(&mut self) {
        let end = self.puts.end_of(ShardId::new(0));
        for (_, look) in LOOKS.iter().filter(|(name, _)| *name != READS_BEHIND) {
            look(self, end);
        }
    }

    /// Reads up to the end, and checks everything again.
    pub(super) fn finish(mut self, world: &World) {
        let end = self.puts.end_of(self.tail.iterator.shard());
        self.tail.read(&self.puts, end);
        self.slow.read(&self.puts, end);
        self.lineage.finish(world);
        assert_eq!(self.reader.shards(), world.stream().shards());
        let (own, read) = (world.stream().stats().unwrap(), self.reader.stats().unwrap());
        let of = |stats: &StreamStats| -> Vec<_> {
            let of = stats.shards.iter();
            of.map(|of| (of.shard, of.horizon, of.next_sequence, of.traffic.incoming_bytes)).collect()
        };
        assert_eq!(of(&own), of(&read));
        for batch in self.tail.held.iter().chain(&self.slow.held) {
            self.puts.check(batch);
            check_that_it_stays(batch, world);
        }
        let verified = self.reader.verify(|_| ControlFlow::Continue(())).unwrap();
        assert_eq!(verified.damage, vec![]);
    }
}

/// Checks that the shards which are open own all hash keys.
pub(super) fn check_ranges(reader: &StreamReader) {
    let shards = reader.list_shards(ShardFilter::AtLatest);
    let mut ranges: Vec<_> = shards.iter().map(|shard| shard.hash_key_range).collect();
    ranges.sort_by_key(|range| range.start);
    assert!(ranges.windows(2).all(|pair| pair[0].is_followed_by(&pair[1])), "L8: {shards:?}");
    assert_eq!((ranges[0].start, ranges[ranges.len() - 1].end), (HashKey::MIN, HashKey::MAX));
}

/// Checks that the stream still has what was read, unless it is trimmed.
fn check_that_it_stays(batch: &Batch, world: &World) {
    let Ok(iterator) = world.stream().iterator(batch.shard(), Position::TrimHorizon) else { return };
    let mut iterator = iterator;
    let Some(first) = batch.first_sequence().map(|first| first.max(iterator.next_sequence())) else { return };
    let read: Vec<_> = batch.iter().filter(|record| record.sequence() >= first).collect();
    iterator.seek(Position::At(first)).unwrap();
    while let Some(record) = read.get(iterator.next_sequence().get() as usize - first.get() as usize) {
        let there = iterator.next_batch(1).unwrap();
        let there = there.iter().next().expect("L8: what was read is there").data().to_vec();
        assert!(there == record.data(), "L8: what was read has changed");
    }
}

/// What a reader does. `end` is where the first shard ended when that began.
pub(super) type Look = fn(&mut Readers, u64);

const READS_BEHIND: &str = "reads behind";

pub(super) const LOOKS: [(&str, Look); 9] = [
    ("reads at the end", |readers, end| readers.tail.read(&readers.puts, end)),
    (READS_BEHIND, |readers, end| readers.slow.read(&readers.puts, end)),
    ("reads all shards", |readers, _| readers.lineage.read(&readers.puts)),
    ("begins at the horizon", |readers, end| readers.begin_and_read(Position::TrimHorizon, end)),
    ("begins at the latest", |readers, end| {
        if let Some(begun) = readers.begin(Position::Latest) {
            assert!(begun.iterator.next_sequence().get() >= end, "L8");
        }
        readers.begin_and_read(Position::Latest, end);
    }),
    ("begins at a time", |readers, end| {
        for millis in [1_000, 1_700_000_000_000, 1_700_000_000_500] {
            readers.begin_and_read(Position::AtTimestamp(Timestamp::from_millis(millis)), end);
        }
    }),
    ("lists", |readers, _| {
        check_ranges(&readers.reader);
        readers.reader.stats().unwrap();
        readers.tail.iterator.lag().unwrap();
    }),
    ("begins with all shards", |readers, _| {
        for position in [Position::Latest, Position::TrimHorizon] {
            CheckedLineage::new(readers.reader.lineage_iterator(position).unwrap()).read(&readers.puts);
        }
    }),
    ("opens", |readers, end| {
        let reader = StreamOptions::new().clock(readers.clock.clone()).open_reader(&readers.path).unwrap();
        match reader.iterator(ShardId::new(0), Position::TrimHorizon) {
            Ok(iterator) => Checked::new(iterator).read(&readers.puts, end),
            Err(Error::ShardNotFound(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }),
];
