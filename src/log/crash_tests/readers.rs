//! A reader in another process, at each step of a writer, and a writer at each step of such a reader: L8.
//!
//! A reader that is opened by its path shares nothing with the stream of the same process, so both run here. A step is what one of them does
//! between two calls to the operating system; the reader has a few more points where only words in memory are loaded.

use std::cell::RefCell;
use std::collections::BTreeMap;

use std::path::{Path, PathBuf};

use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::steps::scratch;
use crate::log::sys::fault::set_hook;
use crate::{
    Batch, Error, LineageIterator, Maintenance, ManualClock, Position, Retention, ShardFilter, ShardId,
    ShardIterator, Stream, StreamOptions, StreamReader, Timestamp,
};

const AGE: Duration = Duration::from_secs(100);
/// About seven of them fill a segment.
const DATA_BYTES: usize = 8_000;

/// The stream, and what was put to it.
struct World {
    path: PathBuf,
    clock: Arc<ManualClock>,
    stream: Option<Stream>,
    put_count: u64,
    /// The numbers of the puts that returned, by their places.
    acknowledged: BTreeMap<(ShardId, u64), u64>,
    /// Whether puts are printed once they return.
    prints: bool,
}

/// What the writer does.
type Act = fn(&mut World);

const ACTS: [(&str, Act); 13] = [
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
    fn new(path: &Path) -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_700_000_000_000)));
        let mut world = Self {
            path: path.to_owned(),
            clock,
            stream: None,
            put_count: 0,
            acknowledged: BTreeMap::new(),
            prints: false,
        };
        world.stream = Some(world.open());
        world
    }

    /// Returns a stream whose segments have all been begun by this opening, or one that was opened again since.
    fn begun(path: &Path, is_reopened: bool) -> Self {
        let mut world = Self::new(path);
        world.put(30);
        world.clock.advance(Duration::from_secs(1));
        if is_reopened {
            world.reopen();
        }
        world
    }

    fn open(&self) -> Stream {
        let options = StreamOptions::new().segment_bytes(64 << 10).retention(Retention::age(AGE));
        let options = options.maintenance(Maintenance::Manual).clock(self.clock.clone());
        options.open(&self.path).unwrap()
    }

    fn stream(&self) -> &Stream {
        self.stream.as_ref().unwrap()
    }

    fn reopen(&mut self) {
        self.stream.take().unwrap().close().unwrap();
        self.stream = Some(self.open());
    }

    fn put(&mut self, count: u32) {
        for _ in 0..count {
            self.put_count += 1;
            let mut data = self.put_count.to_le_bytes().to_vec();
            data.resize(DATA_BYTES, self.put_count as u8);
            let receipt = self.stream().put([self.put_count as u8], &data).unwrap();
            self.acknowledged.insert((receipt.shard, receipt.sequence.get()), self.put_count);
            if self.prints {
                println!("put {} {} {}", receipt.shard.get(), receipt.sequence, self.put_count);
            }
        }
    }

    fn trim(&self, kept: u64) {
        for shard in self.stream().stats().unwrap().shards {
            let horizon = shard.next_sequence.get().saturating_sub(kept);
            self.stream().trim_before(shard.shard, horizon.into()).unwrap();
        }
        self.stream().maintain().unwrap();
        self.stream().maintain().unwrap();
    }

    fn split(&self) {
        let open = self.stream().list_shards(ShardFilter::AtLatest);
        self.stream().split_shard_evenly(open[0].id).unwrap();
    }

    fn merge(&self) {
        let mut open = self.stream().list_shards(ShardFilter::AtLatest);
        open.sort_by_key(|shard| shard.hash_key_range.start);
        self.stream().merge_shards(open[0].id, open[1].id).unwrap();
    }

    fn end_of(&self, shard: ShardId) -> u64 {
        let last = self.acknowledged.range((shard, 0)..=(shard, u64::MAX)).next_back();
        last.map_or(0, |((_, sequence), _)| sequence + 1)
    }
}

/// Checks what a batch holds, as far as it was acknowledged.
fn check(batch: &Batch, acknowledged: &BTreeMap<(ShardId, u64), u64>) -> Vec<u64> {
    let mut read = vec![];
    for record in batch {
        let number = u64::from_le_bytes(*record.data().first_chunk().unwrap());
        let expected = acknowledged.get(&(batch.shard(), record.sequence().get()));
        assert!(expected.is_none_or(|&expected| expected == number), "{record:?}");
        assert!(record.data()[8..].iter().all(|&byte| byte == number as u8), "the bytes have changed");
        read.push(number);
    }
    read
}

/// A reader of one shard that checks what it reads.
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
    fn read(&mut self, world: &Mutex<World>, end: u64) {
        loop {
            let (shard, next) = (self.iterator.shard(), self.iterator.next_sequence().get());
            match self.iterator.next_batch(5) {
                Ok(batch) if batch.is_empty() => {
                    assert!(next >= end, "L8: {next} of {end} were read, and no more is there");
                    return;
                }
                Ok(batch) => {
                    assert_eq!(batch.first_sequence().unwrap().get(), next);
                    check(&batch, &world.lock().unwrap().acknowledged);
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

/// A reader of the whole stream that checks what it reads.
struct CheckedLineage {
    iterator: LineageIterator,
    read: Vec<u64>,
    has_gaps: bool,
}

impl CheckedLineage {
    fn new(iterator: LineageIterator) -> Self {
        Self { iterator, read: vec![], has_gaps: false }
    }

    fn read(&mut self, world: &Mutex<World>) {
        loop {
            match self.iterator.next_batch(5) {
                Ok(batch) if batch.is_empty() => return,
                Ok(batch) => {
                    let read = check(&batch, &world.lock().unwrap().acknowledged);
                    assert!(read.iter().all(|number| !self.read.contains(number)), "L8: read twice");
                    self.read.extend(read);
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
    fn finish(mut self, world: &Mutex<World>) {
        self.read(world);
        let world = world.lock().unwrap();
        let readable = world.stream().lineage_iterator(Position::TrimHorizon).unwrap();
        let mut own = Self::new(readable);
        drop(world);
        let world = own.read_unlocked();
        let missing: Vec<_> = world.iter().filter(|number| !self.read.contains(number)).collect();
        assert!(missing.is_empty(), "L8: {missing:?} were skipped");
        let mut all: Vec<u64> = self.read.clone();
        all.sort_unstable();
        assert!(self.has_gaps || all.windows(2).all(|pair| pair[0] + 1 == pair[1]), "L8: {all:?}");
    }

    fn read_unlocked(&mut self) -> Vec<u64> {
        let mut read = vec![];
        loop {
            match self.iterator.next_batch(100) {
                Ok(batch) if batch.is_empty() => return read,
                Ok(batch) => read.extend(check(&batch, &BTreeMap::new())),
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// The readers of a stream in another process.
struct Readers {
    reader: StreamReader,
    tail: Checked,
    slow: Checked,
    lineage: CheckedLineage,
}

impl Readers {
    fn new(world: &Mutex<World>) -> Self {
        let (path, clock) = {
            let world = world.lock().unwrap();
            (world.path.clone(), world.clock.clone())
        };
        let reader = StreamReader::open_with_clock(path, clock).unwrap();
        let shard = reader.shards()[0].id;
        let iterator = |position| Checked::new(reader.iterator(shard, position).unwrap());
        let mut tail = iterator(Position::TrimHorizon);
        tail.read(world, 0);
        let mut slow = iterator(Position::TrimHorizon);
        slow.held.push(slow.iterator.next_batch(2).unwrap());
        let mut lineage = CheckedLineage::new(reader.lineage_iterator(Position::TrimHorizon).unwrap());
        lineage.read.extend(check(&lineage.iterator.next_batch(2).unwrap(), &BTreeMap::new()));
        Self { reader, tail, slow, lineage }
    }

    /// Reads up to the end, and checks everything again.
    fn finish(mut self, world: &Mutex<World>) {
        let shard = self.tail.iterator.shard();
        let end = world.lock().unwrap().end_of(shard);
        self.tail.read(world, end);
        self.slow.read(world, end);
        self.lineage.finish(world);
        {
            let world = world.lock().unwrap();
            assert_eq!(self.reader.shards(), world.stream().shards());
            let (own, read) = (world.stream().stats().unwrap(), self.reader.stats().unwrap());
            let of = |stats: &crate::StreamStats| -> Vec<_> {
                let of = stats.shards.iter();
                of.map(|of| (of.shard, of.horizon, of.next_sequence, of.traffic.incoming_bytes)).collect()
            };
            assert_eq!(of(&own), of(&read));
        }
        for batch in self.tail.held.iter().chain(&self.slow.held) {
            check(batch, &world.lock().unwrap().acknowledged);
        }
        let verified = self.reader.verify(|_| std::ops::ControlFlow::Continue(())).unwrap();
        assert_eq!(verified.damage, vec![]);
    }
}

/// What a reader does. `end` is where the first shard ended when that began.
type Look = fn(&mut Readers, &Mutex<World>, u64);

const LOOKS: [(&str, Look); 9] = [
    ("reads at the end", |readers, world, end| readers.tail.read(world, end)),
    ("reads behind", |readers, world, end| readers.slow.read(world, end)),
    ("reads all shards", |readers, world, _| readers.lineage.read(world)),
    ("begins at the horizon", |readers, world, end| {
        if let Some(mut begun) = begin(readers, Position::TrimHorizon) {
            begun.read(world, end);
        }
    }),
    ("begins at the latest", |readers, world, end| {
        if let Some(mut begun) = begin(readers, Position::Latest) {
            assert!(begun.iterator.next_sequence().get() >= end, "L8");
            begun.read(world, end);
        }
    }),
    ("begins at a time", |readers, world, end| {
        if let Some(mut begun) = begin(readers, Position::AtTimestamp(Timestamp::from_millis(1_000))) {
            begun.read(world, end);
        }
    }),
    ("lists", |readers, _, _| {
        let shards = readers.reader.list_shards(ShardFilter::AtLatest);
        let mut ranges: Vec<_> = shards.iter().map(|shard| shard.hash_key_range).collect();
        ranges.sort_by_key(|range| range.start);
        assert!(ranges.windows(2).all(|pair| pair[0].is_followed_by(&pair[1])), "L8: {shards:?}");
        assert_eq!(ranges.first().unwrap().start, crate::HashKey::MIN, "L8: {shards:?}");
        assert_eq!(ranges.last().unwrap().end, crate::HashKey::MAX, "L8: {shards:?}");
        readers.reader.stats().unwrap();
        readers.tail.iterator.lag().unwrap();
    }),
    ("begins with all shards", |readers, world, _| {
        let mut latest = CheckedLineage::new(readers.reader.lineage_iterator(Position::Latest).unwrap());
        latest.read(world);
        let mut all = CheckedLineage::new(readers.reader.lineage_iterator(Position::TrimHorizon).unwrap());
        all.read(world);
    }),
    ("opens", |_, world, end| {
        let (path, clock) = {
            let world = world.lock().unwrap();
            (world.path.clone(), world.clock.clone())
        };
        let reader = StreamReader::open_with_clock(path, clock).unwrap();
        match reader.iterator(ShardId::new(0), Position::TrimHorizon) {
            Ok(iterator) => Checked::new(iterator).read(world, end),
            Err(Error::ShardNotFound(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }),
];

fn begin(readers: &Readers, position: Position) -> Option<Checked> {
    match readers.reader.iterator(readers.tail.iterator.shard(), position) {
        Ok(iterator) => Some(Checked::new(iterator)),
        Err(Error::ShardNotFound(_)) => None,
        Err(error) => panic!("{position:?}: {error}"),
    }
}

/// Runs `work`, and `other` in another thread in the middle of it, before the call to the operating system with this number. Returns whether
/// there was such a call.
fn interrupted(at: usize, work: impl FnOnce(), other: impl FnOnce() + Send + 'static) -> bool {
    let (count, other) = (Rc::new(RefCell::new(0)), RefCell::new(Some(other)));
    let counted = Rc::clone(&count);
    set_hook(Some(Box::new(move |_, _| {
        let number = *counted.borrow();
        *counted.borrow_mut() += 1;
        if number == at
            && let Some(other) = other.borrow_mut().take()
        {
            std::thread::spawn(other).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
        Ok(())
    })));
    work();
    set_hook(None);
    *count.borrow() > at
}

fn named(is_reopened: bool, act: &str, look: &str, at: usize) -> impl Drop {
    struct Named(String);
    impl Drop for Named {
        fn drop(&mut self) {
            set_hook(None);
            if std::thread::panicking() {
                eprintln!("{}", self.0);
            }
        }
    }
    let opened = if is_reopened { "opened again" } else { "open" };
    Named(format!("a stream that is {opened}; the writer {act}, the reader {look}, at step {at}"))
}

#[test]
fn l8_whatever_a_writer_does_in_the_middle_of_a_read_the_read_is_right() {
    let mut count = 0;
    for (is_reopened, (act_name, act), (look_name, look)) in cases() {
        for at in 0.. {
            let _named = named(is_reopened, act_name, look_name, at);
            let scratch = scratch();
            let world = Arc::new(Mutex::new(World::begun(scratch.path(), is_reopened)));
            let mut readers = Readers::new(&world);
            // So that there is something new to look at.
            world.lock().unwrap().put(2);
            let end = world.lock().unwrap().end_of(ShardId::new(0));
            let other = Arc::clone(&world);
            let reached =
                interrupted(at, || look(&mut readers, &world, end), move || act(&mut other.lock().unwrap()));
            if !reached {
                break;
            }
            count += 1;
            readers.finish(&world);
        }
    }
    assert!(count > 1_000, "{count}");
}

fn cases() -> impl Iterator<Item = (bool, (&'static str, Act), (&'static str, Look))> {
    let with_looks = |(is_reopened, act)| LOOKS.iter().map(move |&look| (is_reopened, act, look));
    let acts = ACTS.iter().flat_map(|&act| [(false, act), (true, act)]);
    acts.flat_map(with_looks)
}
