//! Archives: sealed segments are copied, read back once retention has dropped them, and restored to a stream.

mod kill;
mod model;

use crate::common;

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use common::place::Place;
use common::{OpenKeys, any_codec, clock, scratch, segment_files, small};
use streamlog::delivery::Directory;
use streamlog::{
    Archive, ArchiveReport, Archiver, Error, ManualClock, Position, Retention, SECOND, SequenceNumber,
    ShardFilter, ShardId, Stream, StreamOptions, StreamReader, Timestamp,
};

fn go_on<T>(_: T) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn run(archiver: &mut Archiver) -> ArchiveReport {
    archiver.run(go_on).unwrap()
}

/// Puts numbered records of about 8 KB, of which seven fill a segment.
fn put(stream: &Stream, numbers: std::ops::Range<u32>) -> ShardId {
    let mut shard = None;
    for number in numbers {
        shard = Some(stream.put(format!("key-{}", number % 7), data(number)).unwrap().shard);
    }
    shard.unwrap()
}

fn data(number: u32) -> Vec<u8> {
    let mut data = number.to_be_bytes().to_vec();
    data.resize(8_000, number as u8);
    data
}

fn number_of(data: &[u8]) -> u32 {
    assert!(data[4..].iter().all(|&byte| byte == data[3]), "the data of a record is not what was put");
    u32::from_be_bytes(*data.first_chunk().unwrap())
}

/// Reads a shard from a position on.
fn read(reader: &StreamReader, shard: ShardId, position: Position) -> Vec<u32> {
    let iterator = reader.iterator(shard, position).unwrap();
    iterator
        .flat_map(|batch| batch.unwrap().iter().map(|record| number_of(record.data())).collect::<Vec<_>>())
        .collect()
}

/// Reads all shards, children after their parents, as the tool does.
fn read_lineage(reader: &StreamReader) -> Result<Vec<u32>, Error> {
    let mut iterator = reader.lineage_iterator(Position::TrimHorizon)?;
    let mut numbers = vec![];
    loop {
        let batch = iterator.next_batch(100)?;
        if batch.is_empty() {
            return Ok(numbers);
        }
        numbers.extend(batch.iter().map(|record| number_of(record.data())));
    }
}

fn with_archive(clock: &Arc<ManualClock>, place: &Place) -> StreamOptions {
    StreamOptions::new().clock(clock.clone()).archive(place.clone())
}

/// Archives the sealed segments, and drops them from the stream.
fn archive_and_trim(stream: &Stream, archiver: &mut Archiver) {
    stream.maintain().unwrap();
    run(archiver);
    for shard in stream.shards() {
        let bases: Vec<u64> = bases_of(stream, shard.id);
        if let Some(&last) = bases.last() {
            stream.trim_before(shard.id, last.into()).unwrap();
        }
    }
    stream.maintain().unwrap();
}

fn bases_of(stream: &Stream, shard: ShardId) -> Vec<u64> {
    let files = segment_files(&stream.describe().path, shard.get());
    let base = |file: &std::path::PathBuf| file.file_stem()?.to_str()?.parse().ok();
    files.iter().filter_map(base).collect()
}

#[test]
fn what_retention_has_dropped_is_read_back_from_every_position() {
    let (directory, clock, place) = (scratch(), clock(), Place::default());
    let stream = small(&clock).retention(Retention::forever()).open(directory.path()).unwrap();
    let mut archiver = stream.archiver(place.clone());
    for number in 0..60 {
        clock.advance(SECOND);
        put(&stream, number..number + 1);
    }
    let shard = stream.shards()[0].id;
    let reader = with_archive(&clock, &place).open_reader(directory.path()).unwrap();
    let mut early = reader.iterator(shard, Position::TrimHorizon).unwrap();
    early.next_batch(3).unwrap();
    archive_and_trim(&stream, &mut archiver);
    let local = stream.stats().unwrap().shards[0].horizon.get() as u32;
    assert!(local > 40 && bases_of(&stream, shard).len() == 1);
    assert!(matches!(stream.iterator(shard, Position::At(3.into())), Err(Error::Trimmed { .. })));

    for reader in [&reader, &with_archive(&clock, &place).open_reader(directory.path()).unwrap()] {
        assert_eq!(read(reader, shard, Position::TrimHorizon), (0..60).collect::<Vec<_>>());
        assert_eq!(read_lineage(reader).unwrap(), (0..60).collect::<Vec<_>>());
        for at in [0, 1, 6, 7, 8, 30, local - 1, local, local + 1, 59] {
            let sequence = SequenceNumber::from(u64::from(at));
            assert_eq!(read(reader, shard, Position::At(sequence)), (at..60).collect::<Vec<_>>());
            assert_eq!(read(reader, shard, Position::After(sequence)), (at + 1..60).collect::<Vec<_>>());
        }
    }
    // The iterator that was in the middle continues.
    let rest: Vec<u32> = early.records().map(|record| number_of(&record.unwrap().data)).collect();
    assert_eq!(rest, (3..60).collect::<Vec<_>>());
    let lag = reader.iterator(shard, Position::TrimHorizon).unwrap().lag().unwrap();
    assert_eq!(lag.record_count, 60);
    assert!(lag.bytes > 60 * 8_000 && lag.age >= 59 * SECOND, "{lag:?}");
}

/// Makes an archive of a stream that is trimmed to its last segment. Returns the stream.
fn trimmed(path: &Path, clock: &Arc<ManualClock>, place: &Place) -> Stream {
    let stream = small(clock).retention(Retention::forever()).open(path).unwrap();
    put(&stream, 0..60);
    archive_and_trim(&stream, &mut stream.archiver(place.clone()));
    stream
}

#[test]
fn times_lead_to_archived_records_and_fetch_only_what_holds_them() {
    let (directory, clock, place) = (scratch(), clock(), Place::default());
    let stream = small(&clock).retention(Retention::forever()).open(directory.path()).unwrap();
    let times: Vec<Timestamp> = (0..60)
        .map(|number| {
            clock.advance(SECOND);
            put(&stream, number..number + 1);
            stream.now()
        })
        .collect();
    archive_and_trim(&stream, &mut stream.archiver(place.clone()));
    let shard = stream.shards()[0].id;
    for (number, &time) in (0..60).zip(&times) {
        let reader = with_archive(&clock, &place).open_reader(directory.path()).unwrap();
        let before = place.with(|place| place.fetched.len());
        let mut iterator = reader.iterator(shard, Position::AtTimestamp(time)).unwrap();
        assert_eq!(number_of(iterator.next_batch(1).unwrap().iter().next().unwrap().data()), number);
        let fetched = place.with(|place| place.fetched.len()) - before;
        assert!(fetched <= 1, "{number}: {fetched}");
    }
    let reader = with_archive(&clock, &place).open_reader(directory.path()).unwrap();
    assert_eq!(read(&reader, shard, Position::AtTimestamp(times[0] - SECOND)).len(), 60);
    assert_eq!(read(&reader, shard, Position::AtTimestamp(times[20] + Duration::from_millis(1))).len(), 39);
}

#[test]
fn shards_that_have_expired_come_back_with_their_lineage() {
    let (directory, clock, place) = (scratch(), clock(), Place::default());
    let options = small(&clock).retention(Retention::age(100 * SECOND));
    let stream = options.open(directory.path()).unwrap();
    let mut archiver = stream.archiver(place.clone()).hold(1 << 30).unwrap();
    assert!(archiver.is_held());
    let early = with_archive(&clock, &place).open_reader(directory.path()).unwrap();
    let mut follower = early.lineage_iterator(Position::TrimHorizon).unwrap();
    let mut expected = vec![];
    for round in 0..4 {
        put(&stream, round * 30..round * 30 + 30);
        expected.extend(round * 30..round * 30 + 30);
        let mut open = stream.list_shards(ShardFilter::AtLatest);
        open.sort_by_key(|shard| shard.hash_key_range.start);
        match open.len() {
            1 => drop(stream.split_shard_evenly(open[0].id).unwrap()),
            _ => _ = stream.merge_shards(open[0].id, open[1].id).unwrap(),
        }
        clock.advance(300 * SECOND);
        // Nothing is dropped before it is archived.
        stream.maintain().unwrap();
        run(&mut archiver);
        stream.maintain().unwrap();
        // Their ends are archived by now.
        run(&mut archiver);
        stream.maintain().unwrap();
    }
    let own: Vec<_> = stream.shards().iter().map(|shard| shard.id.get()).collect();
    assert!(own.len() <= 3 && own[0] >= 4, "{own:?}");

    let late = with_archive(&clock, &place).open_reader(directory.path()).unwrap();
    assert_eq!(late.shards().len(), 7);
    assert_eq!(late.list_shards(ShardFilter::AtTrimHorizon)[0].id.get(), 0);
    let mut read_by_follower = vec![];
    loop {
        let batch = follower.next_batch(3).unwrap();
        if batch.is_empty() {
            break;
        }
        read_by_follower.extend(batch.iter().map(|record| number_of(record.data())));
    }
    for mut numbers in [read_by_follower, read_lineage(&late).unwrap(), read_lineage(&early).unwrap()] {
        let by_key =
            |key: u32| numbers.iter().copied().filter(|number| number % 7 == key).collect::<Vec<_>>();
        for key in 0..7 {
            assert!(by_key(key).is_sorted(), "{key}");
        }
        numbers.sort_unstable();
        assert_eq!(numbers, expected);
    }
    // A shard by itself, and what it says of its children.
    let first = late.shards()[0].id;
    let mut iterator = late.iterator(first, Position::TrimHorizon).unwrap();
    while iterator.next_sequence() < 30.into() {
        iterator.next_batch(100).unwrap();
    }
    assert_eq!(iterator.next_batch(1).unwrap().child_shards().unwrap().len(), 2);
    assert!(matches!(stream.iterator(first, Position::TrimHorizon), Err(Error::ShardNotFound(_))));
}

#[test]
fn a_shard_does_not_expire_before_its_end_is_archived() {
    let (directory, clock, place) = (scratch(), clock(), Place::default());
    let options = || small(&clock).retention(Retention::age(100 * SECOND));
    let stream = options().open(directory.path()).unwrap();
    put(&stream, 0..14);
    // Everything is sealed.
    stream.close().unwrap();
    let stream = options().open(directory.path()).unwrap();
    let mut archiver = stream.archiver(place.clone()).hold(1 << 30).unwrap();
    assert!(run(&mut archiver).waiting.is_empty());
    stream.split_shard_evenly(stream.shards()[0].id).unwrap();
    clock.advance(300 * SECOND);
    stream.maintain().unwrap();
    assert_eq!(stream.shards().len(), 3, "all of it is archived, but not where it ended");
    run(&mut archiver);
    stream.maintain().unwrap();
    assert_eq!(stream.shards().len(), 2);
    let reader = with_archive(&clock, &place).open_reader(directory.path()).unwrap();
    assert_eq!(read_lineage(&reader).unwrap(), (0..14).collect::<Vec<_>>());
    assert_eq!(reader.shards()[0].closing_sequence, Some(14.into()));
}

#[test]
fn an_archive_out_of_reach_is_an_error_that_names_the_object_and_ends_with_it() {
    let (directory, clock, place) = (scratch(), clock(), Place::default());
    let stream = trimmed(directory.path(), &clock, &place);
    let shard = stream.shards()[0].id;
    let horizon = stream.stats().unwrap().shards[0].horizon;
    let reader = with_archive(&clock, &place).open_reader(directory.path()).unwrap();
    let mut iterator = reader.iterator(shard, Position::TrimHorizon).unwrap();
    let mut numbers: Vec<u32> =
        iterator.next_batch(3).unwrap().iter().map(|record| number_of(record.data())).collect();

    place.set_away(true);
    let failed = loop {
        match iterator.next_batch(3) {
            Ok(batch) => numbers.extend(batch.iter().map(|record| number_of(record.data()))),
            Err(error) => break error,
        }
    };
    let text = failed.to_string();
    let name = &place.segments()[1];
    assert!(text.contains(name) && text.contains("the network is gone") && failed.is_retryable(), "{text}");
    assert_eq!(iterator.skip_to_horizon(), 0, "nothing is given up");
    // Readers new and old still find what the stream has.
    let new = with_archive(&clock, &place).open_reader(directory.path()).unwrap();
    for reader in [&reader, &new] {
        assert_eq!(
            read(reader, shard, Position::At(horizon)).len(),
            60 - numbers.len().max(horizon.get() as usize)
        );
        assert!(reader.iterator(shard, Position::Latest).is_ok());
    }
    for refused in [
        new.iterator(shard, Position::TrimHorizon).map(drop),
        new.lineage_iterator(Position::TrimHorizon).map(drop),
    ] {
        assert!(matches!(refused, Err(Error::Io(_))), "not from the stream's own horizon: {refused:?}");
    }
    place.set_away(false);
    numbers.extend(iterator.records().map(|record| number_of(&record.unwrap().data)));
    assert_eq!(numbers, (0..60).collect::<Vec<_>>());
    assert_eq!(read_lineage(&new).unwrap().len(), 60);
}

#[test]
fn a_reader_at_the_end_of_an_expired_shard_waits_for_the_archive_and_is_told_so() {
    let (directory, clock, place) = (scratch(), clock(), Place::default());
    let stream = small(&clock).retention(Retention::age(100 * SECOND)).open(directory.path()).unwrap();
    put(&stream, 0..30);
    let reader = with_archive(&clock, &place).open_reader(directory.path()).unwrap();
    let shard = stream.shards()[0].id;
    let mut iterator = reader.iterator(shard, Position::TrimHorizon).unwrap();
    let mut at_end = reader.iterator(shard, Position::At(30.into())).unwrap();
    let mut archiver = stream.archiver(place.clone()).hold(1 << 30).unwrap();
    stream.split_shard_evenly(shard).unwrap();
    for _ in 0..3 {
        clock.advance(200 * SECOND);
        stream.maintain().unwrap();
        run(&mut archiver);
    }
    stream.maintain().unwrap();
    assert_eq!(stream.shards().len(), 2);
    place.set_away(true);
    assert!(matches!(iterator.next_batch(100), Err(Error::Io(_))));
    // For all that the reader knows, this may be the end of the stream, but it must not assume so.
    assert!(at_end.wait(Duration::ZERO).unwrap() && matches!(at_end.next_batch(100), Err(Error::Io(_))));
    place.set_away(false);
    let mut numbers = vec![];
    let children = loop {
        let batch = iterator.next_batch(100).unwrap();
        numbers.extend(batch.iter().map(|record| number_of(record.data())));
        if let Some(children) = batch.child_shards() {
            break children.len();
        }
    };
    assert_eq!((numbers, children), ((0..30).collect(), 2));
    assert_eq!(at_end.next_batch(1).unwrap().child_shards().map(<[_]>::len), Some(2));
}

#[test]
fn a_damaged_object_is_refused_by_its_name_and_a_missing_one_is_trimmed() {
    let (directory, clock, place) = (scratch(), clock(), Place::default());
    let stream = trimmed(directory.path(), &clock, &place);
    let shard = stream.shards()[0].id;
    let name = place.segments()[1].clone();
    let whole = place.with(|place| place.objects[&name].clone());
    let base = 7;
    type Spoil = fn(&mut Vec<u8>);
    let spoilt: [(&str, Spoil); 6] = [
        ("a flipped bit", |bytes| bytes[9_000] ^= 1),
        ("a flipped bit in the header", |bytes| bytes[40] ^= 1),
        ("cut", |bytes| bytes.truncate(20_000)),
        ("without its trailer", |bytes| bytes.truncate(bytes.len() - 1)),
        ("longer", |bytes| bytes.push(0)),
        ("empty", Vec::clear),
    ];
    for (what, spoil) in spoilt {
        let mut bytes = whole.clone();
        spoil(&mut bytes);
        place.with(|place| place.objects.insert(name.clone(), bytes));
        let reader = with_archive(&clock, &place).open_reader(directory.path()).unwrap();
        let mut iterator = reader.iterator(shard, Position::TrimHorizon).unwrap();
        let mut read = 0;
        let failed = loop {
            match iterator.next_batch(100) {
                Ok(batch) => read += batch.len(),
                Err(error) => break error,
            }
        };
        assert_eq!(read, base, "{what}");
        let Error::Corrupt(damage) = failed else { panic!("{what}: {failed}") };
        assert_eq!(damage.path, Path::new(&format!("memory://{name}")), "{what}");
        assert_eq!((damage.shard, damage.sequence), (Some(shard), Some(7.into())), "{what}");
        assert_eq!(iterator.skip_to_horizon(), 0);
        let found = reader.verify(go_on).unwrap();
        assert_eq!((found.damage.len(), found.record_count), (1, 53), "{what}");
        let restored = Stream::restore(place.clone(), directory.path().join("restored"), go_on);
        assert!(matches!(restored, Err(Error::Corrupt(_))), "{what}: {restored:?}");
        place.with(|place| place.objects.insert(name.clone(), whole.clone()));
        assert_eq!(iterator.records().filter(Result::is_ok).count(), 53, "{what}");
    }
    // Someone has removed one, before a reader listed the archive or after.
    let known = with_archive(&clock, &place).open_reader(directory.path()).unwrap();
    let begun = known.iterator(shard, Position::TrimHorizon).unwrap();
    place.with(|place| place.objects.remove(&name));
    let new = with_archive(&clock, &place).open_reader(directory.path()).unwrap();
    for mut iterator in [begun, new.iterator(shard, Position::TrimHorizon).unwrap()] {
        assert_eq!(iterator.next_batch(100).unwrap().len(), 7);
        match iterator.next_batch(100) {
            Err(Error::Trimmed { requested, horizon, .. }) => {
                assert_eq!((requested.get(), horizon.get()), (7, 14))
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(iterator.skip_to_horizon(), 7);
        assert_eq!(iterator.records().filter(Result::is_ok).count(), 46);
    }
    assert!(matches!(new.iterator(shard, Position::At(9.into())), Err(Error::Trimmed { .. })));
}

#[test]
fn the_archive_of_another_stream_or_of_another_copy_is_refused() {
    let (directory, clock, place) = (scratch(), clock(), Place::default());
    let path = directory.path().join("stream");
    let stream = trimmed(&path, &clock, &place);
    clock.advance(SECOND);
    let other = small(&clock).open(directory.path().join("other")).unwrap();
    put(&other, 0..20);
    assert!(matches!(other.archiver(place.clone()).run(go_on), Err(Error::InvalidArgument(_))));
    let opened = with_archive(&clock, &place).open_reader(directory.path().join("other"));
    assert!(matches!(opened, Err(Error::InvalidArgument(_))), "{opened:?}");
    assert!(matches!(small(&clock).archive(place.clone()).open(&path), Err(Error::InvalidArgument(_))));

    // Two copies continue independently, with segments that begin and end at the same records.
    stream.close().unwrap();
    let copy = directory.path().join("copy");
    common::copy_dir(&path, &copy);
    let [one, two] = [&path, &copy].map(|path| small(&clock).open(path).unwrap());
    put(&one, 60..90);
    put(&two, 160..190);
    run(&mut one.archiver(place.clone()));
    one.maintain().unwrap();
    two.maintain().unwrap();
    run(&mut one.archiver(place.clone()));
    let refused = two.archiver(place.clone()).run(go_on);
    assert!(matches!(refused, Err(Error::InvalidArgument(_))), "{refused:?}");
    // A second archiver of the same stream has nothing to do.
    assert_eq!(run(&mut one.archiver(place)).segment_count, 0);
}

#[test]
fn copies_that_differ_only_in_the_segment_in_which_they_went_on_are_told_apart() {
    let (directory, clock, place) = (scratch(), clock(), Place::default());
    let [path, copy] = ["stream", "copy"].map(|name| directory.path().join(name));
    let stream = small(&clock).open(&path).unwrap();
    put(&stream, 0..2);
    stream.close().unwrap();
    common::copy_dir(&path, &copy);
    for path in [&path, &copy] {
        let stream = small(&clock).open(path).unwrap();
        clock.advance(SECOND);
        put(&stream, 2..3);
        stream.close().unwrap();
    }
    run(&mut StreamReader::open(&path).unwrap().archiver(place.clone()));
    let refused = StreamReader::open(&copy).unwrap().archiver(place).run(go_on);
    assert!(matches!(refused, Err(Error::InvalidArgument(_))), "{refused:?}");
}

type Work = Box<dyn FnOnce() + Send>;

/// A place that runs a function when a segment is about to be put there.
#[derive(Clone)]
struct Meddling(Place, Arc<parking_lot::Mutex<Option<Work>>>);

impl std::fmt::Debug for Meddling {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Meddling")
    }
}

impl Archive for Meddling {
    fn locate(&self, name: &str) -> String {
        self.0.locate(name)
    }

    fn list(&self, prefix: &str) -> std::io::Result<Vec<String>> {
        self.0.list(prefix)
    }

    fn get(&self, name: &str, into: &mut dyn std::io::Write) -> std::io::Result<()> {
        self.0.get(name, into)
    }

    fn put(&self, name: &str, from: &mut dyn std::io::Read) -> std::io::Result<()> {
        if let Some(work) = self.1.lock().take_if(|_| name.starts_with("shards/")) {
            work();
        }
        self.0.put(name, from)
    }
}

#[test]
fn a_segment_that_is_resumed_or_dropped_while_it_is_copied_does_no_harm() {
    let (directory, clock, place) = (scratch(), clock(), Place::default());
    let path = directory.path().join("stream");
    let open = {
        let (path, clock) = (path.clone(), clock.clone());
        move || small(&clock).retention(Retention::forever()).open(&path).unwrap()
    };
    let stream = open();
    put(&stream, 0..2);
    stream.close().unwrap();
    // Another process resumes it.
    let resume = {
        let open = open.clone();
        move || {
            let stream = open();
            put(&stream, 2..40);
            stream.close().unwrap();
        }
    };
    let meddling = Meddling(place.clone(), Arc::new(parking_lot::Mutex::new(Some(Box::new(resume) as Work))));
    let mut archiver = StreamReader::open(&path).unwrap().archiver(meddling);
    let failed = archiver.run(go_on).unwrap_err();
    assert!(failed.to_string().contains("it has changed while it was read"), "{failed}");
    assert_eq!(place.segments().len(), 0, "half of one and half of the other");
    run(&mut archiver);

    // Retention drops it, and a busy shard wants to reuse its file.
    let stream = open();
    put(&stream, 40..60);
    stream.maintain().unwrap();
    let drop_and_refill = {
        let stream = stream.clone();
        move || {
            stream.trim_before(ShardId::new(0), 55.into()).unwrap();
            stream.maintain().unwrap();
            put(&stream, 60..100);
            stream.maintain().unwrap();
        }
    };
    let work = Arc::new(parking_lot::Mutex::new(Some(Box::new(drop_and_refill) as Work)));
    let mut archiver = stream.archiver(Meddling(place.clone(), work));
    while run(&mut archiver).segment_count > 0 {}
    stream.close().unwrap();
    run(&mut StreamReader::open(&path).unwrap().archiver(place.clone()));
    let report = Stream::restore(place, directory.path().join("restored"), go_on).unwrap();
    let stream = small(&clock).open(directory.path().join("restored")).unwrap();
    let found = stream.verify(go_on).unwrap();
    assert!(found.damage.is_empty() && found.record_count == report.record_count, "{found:?}");
    let mut iterator = stream.iterator(ShardId::new(0), Position::TrimHorizon).unwrap();
    let mut numbers = vec![];
    loop {
        match iterator.next_batch(100) {
            Ok(batch) if batch.is_empty() => break,
            Ok(batch) => numbers.extend(batch.iter().map(|record| number_of(record.data()))),
            Err(Error::Lost { .. }) => _ = iterator.skip_lost().unwrap(),
            Err(error) => panic!("{error}"),
        }
    }
    assert!(numbers.is_sorted() && numbers.ends_with(&(55..100).collect::<Vec<_>>()), "{numbers:?}");
    assert_eq!(numbers.len() as u64 + report.lost_count, 100);
}

#[test]
fn a_segment_that_is_resumed_after_a_close_is_archived_again() {
    let (directory, clock, place) = (scratch(), clock(), Place::default());
    let mut stream = small(&clock).retention(Retention::forever()).open(directory.path()).unwrap();
    for round in 0..3 {
        put(&stream, round * 2..round * 2 + 2);
        stream.close().unwrap();
        let reader = StreamReader::open(directory.path()).unwrap();
        let report = run(&mut reader.archiver(place.clone()));
        assert_eq!((report.segment_count, report.waiting.len()), (1, 0));
        assert_eq!(run(&mut reader.archiver(place.clone())).segment_count, 0);
        stream = small(&clock).open(directory.path()).unwrap();
    }
    assert_eq!(place.segments().len(), 3);
    stream.trim_before(ShardId::new(0), 6.into()).unwrap();
    let reader = with_archive(&clock, &place).open_reader(directory.path()).unwrap();
    assert_eq!(read_lineage(&reader).unwrap(), (0..6).collect::<Vec<_>>());
    let restored = directory.path().join("restored");
    let report = Stream::restore(place, &restored, go_on).unwrap();
    assert_eq!((report.segment_count, report.record_count, report.lost_count), (1, 6, 0));
}

/// Returns the bytes of the unnamed files from a directory that this process has mapped.
fn fetched_bytes(dir: &Path) -> u64 {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let of_dir =
        maps.lines().filter(|line| line.contains(dir.to_str().unwrap()) && line.contains("streamlog-"));
    of_dir
        .map(|line| {
            let (from, to) = line.split_once(' ').unwrap().0.split_once('-').unwrap();
            u64::from_str_radix(to, 16).unwrap() - u64::from_str_radix(from, 16).unwrap()
        })
        .sum()
}

#[test]
fn what_is_fetched_stays_within_the_bound_and_leaves_nothing_behind() {
    let (directory, clock, place) = (scratch(), clock(), Place::default());
    let path = directory.path().join("stream");
    let stream = small(&clock).retention(Retention::forever()).open(&path).unwrap();
    put(&stream, 0..700);
    archive_and_trim(&stream, &mut stream.archiver(place.clone()));
    let shard = stream.shards()[0].id;
    let cache = directory.path().join("cache");
    fs::create_dir(&cache).unwrap();
    let bound = 300 << 10;
    let reader = with_archive(&clock, &place).archive_cache(&cache, bound).open_reader(&path).unwrap();
    let mut most = 0;
    let mut iterator = reader.iterator(shard, Position::TrimHorizon).unwrap();
    let mut count = 0;
    while count < 700 {
        count += iterator.next_batch(5).unwrap().len();
        most = most.max(fetched_bytes(&cache));
        assert_eq!(fs::read_dir(&cache).unwrap().count(), 0, "the files have no names");
    }
    assert!(most <= bound && most > bound / 2, "{most}");
    assert_eq!(
        place.with(|place| place.fetched.iter().filter(|name| name.starts_with("shards")).count()),
        99
    );
    // What is in the cache is not fetched again.
    let before = place.with(|place| place.fetched.len());
    let last = SequenceNumber::from(690);
    for _ in 0..3 {
        assert_eq!(read(&reader, shard, Position::At(last)).len(), 10);
    }
    assert_eq!(place.with(|place| place.fetched.len()), before);
    // A batch stays readable after its segment has left the cache, and while all batches are held, nothing is evicted.
    let batches: Vec<_> =
        reader.iterator(shard, Position::TrimHorizon).unwrap().map(Result::unwrap).collect();
    let numbers: Vec<u32> = batches.iter().flatten().map(|record| number_of(record.data())).collect();
    assert_eq!(numbers, (0..700).collect::<Vec<_>>());
    drop((batches, iterator, reader));
    assert_eq!(fetched_bytes(&cache), 0);
    assert!(fetched_bytes(directory.path()) == 0 && place.segments().len() == 99);
}

#[test]
fn segments_stay_compressed_and_encrypted_in_the_archive() {
    for codec in 0..9 {
        let (directory, clock, place) = (scratch(), clock(), Place::default());
        let path = directory.path().join("stream");
        let options = any_codec(small(&clock).retention(Retention::forever()), codec);
        let stream = options.open(&path).unwrap();
        let secret = b"nobody may read this";
        for number in 0..600u32 {
            stream
                .put(format!("key-{}", number % 7), [&number.to_be_bytes()[..], &secret.repeat(20)].concat())
                .unwrap();
        }
        let mut archiver = stream.archiver(place.clone());
        archive_and_trim(&stream, &mut archiver);
        let plain = stream.describe().encryption.is_none();
        let shows = place.with(|place| {
            place.objects.values().any(|bytes| bytes.windows(secret.len()).any(|part| part == secret))
        });
        assert!(plain || !shows, "{codec}");
        assert!(bases_of(&stream, ShardId::new(0))[0] > 0, "{codec}");
        let with_keys = |options: StreamOptions| match cfg!(feature = "encryption") {
            true => options.decryption_only(OpenKeys),
            false => options,
        };
        let reader = with_keys(with_archive(&clock, &place)).open_reader(&path).unwrap();
        let numbers = |reader: &StreamReader| -> Vec<u32> {
            let iterator = reader.iterator(ShardId::new(0), Position::TrimHorizon).unwrap();
            let batches: Vec<_> = iterator.map(Result::unwrap).collect();
            batches.iter().flatten().map(|it| u32::from_be_bytes(*it.data().first_chunk().unwrap())).collect()
        };
        assert_eq!(numbers(&reader), (0..600).collect::<Vec<_>>(), "{codec}");
        if !plain {
            let locked = with_archive(&clock, &place).open_reader(&path).unwrap();
            let mut iterator = locked.iterator(ShardId::new(0), Position::TrimHorizon).unwrap();
            assert!(matches!(iterator.next_batch(1), Err(Error::KeyUnavailable(_))));
        }
        stream.close().unwrap();
        run(&mut StreamReader::open(&path).unwrap().archiver(place.clone()));
        let restored = directory.path().join("restored");
        Stream::restore(place, &restored, go_on).unwrap();
        assert_eq!(numbers(&with_keys(small(&clock)).open(&restored).unwrap()), (0..600).collect::<Vec<_>>());
    }
}

#[test]
fn retention_waits_for_the_archive_up_to_the_bound_of_its_hold() {
    let (directory, clock, place) = (scratch(), clock(), Place::default());
    let stream = small(&clock).retention(Retention::age(100 * SECOND)).open(directory.path()).unwrap();
    let mut archiver = stream.archiver(place.clone()).hold(256 << 10).unwrap();
    place.set_away(true);
    put(&stream, 0..14);
    clock.advance(200 * SECOND);
    stream.maintain().unwrap();
    assert!(archiver.run(go_on).is_err());
    stream.maintain().unwrap();
    assert_eq!(stream.stats().unwrap().shards[0].horizon, 0.into(), "it waits");
    place.set_away(false);
    run(&mut archiver);
    stream.maintain().unwrap();
    let horizon = stream.stats().unwrap().shards[0].horizon;
    assert!(horizon > 0.into(), "{horizon}");
    // Beyond the bound the oldest are evicted, and are missed by name.
    place.set_away(true);
    put(&stream, 14..140);
    clock.advance(200 * SECOND);
    stream.maintain().unwrap();
    let horizon = stream.stats().unwrap().shards[0].horizon;
    assert!(horizon > 60.into(), "{horizon}");
    place.set_away(false);
    run(&mut archiver);
    let reader = with_archive(&clock, &place).open_reader(directory.path()).unwrap();
    let mut iterator = reader.iterator(ShardId::new(0), Position::TrimHorizon).unwrap();
    let (mut read, mut skipped) = (0, 0);
    loop {
        match iterator.next_batch(100) {
            Ok(batch) if batch.is_empty() => break,
            Ok(batch) => read += batch.len() as u64,
            Err(Error::Trimmed { .. }) => skipped += iterator.skip_to_horizon(),
            Err(error) => panic!("{error}"),
        }
    }
    assert!(skipped > 40 && read > 20 && read + skipped == 140, "{read} {skipped}");
    // A restored stream reports the same.
    stream.close().unwrap();
    run(&mut StreamReader::open(directory.path()).unwrap().archiver(place.clone()));
    let restored = directory.path().join("restored");
    let report = Stream::restore(place, &restored, go_on).unwrap();
    assert_eq!((report.record_count, report.lost_count), (read, skipped));
    let stream = small(&clock).open(&restored).unwrap();
    let found = stream.verify(go_on).unwrap();
    assert!(found.damage.is_empty() && found.record_count == read);
    assert_eq!(found.lost.iter().map(|(_, it)| it.end.get() - it.start.get()).sum::<u64>(), skipped);
}

#[test]
fn a_group_reads_across_the_border_while_it_moves() {
    let (directory, clock, place) = (scratch(), clock(), Place::default());
    let stream = small(&clock).retention(Retention::age(100 * SECOND)).open(directory.path()).unwrap();
    let mut archiver = stream.archiver(place.clone()).hold(1 << 30).unwrap();
    let reader = with_archive(&clock, &place).open_reader(directory.path()).unwrap();
    let mut numbers = vec![];
    for round in 0..6u32 {
        put(&stream, round * 20..round * 20 + 20);
        if round == 2 {
            stream.split_shard_evenly(stream.shards()[0].id).unwrap();
        }
        clock.advance(200 * SECOND);
        stream.maintain().unwrap();
        run(&mut archiver);
        stream.maintain().unwrap();
        if round == 3 {
            // Days behind when it is opened for the first time.
            assert!(stream.stats().unwrap().shards.iter().all(|shard| shard.horizon > 0.into()));
        }
        if round >= 3 {
            let mut worker = reader.group("late").worker().open().unwrap();
            for _ in 0..40 {
                let Some(batch) = worker.poll(Duration::ZERO).unwrap() else { break };
                numbers.extend(batch.iter().map(|record| number_of(record.data())));
                worker.commit(&batch).unwrap();
            }
        }
    }
    for key in 0..7 {
        assert!(numbers.iter().filter(|&number| number % 7 == key).is_sorted(), "{numbers:?}");
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (0..120).collect::<Vec<_>>());
    assert_eq!(reader.group("late").describe().unwrap().lag().record_count, 0);
}

#[test]
fn a_restored_stream_goes_on_and_an_interrupted_restore_too() {
    let (directory, clock, place) = (scratch(), clock(), Place::default());
    let path = directory.path().join("stream");
    let stream = small(&clock).shards(2).property("team", "web").open(&path).unwrap();
    put(&stream, 0..100);
    stream.split_shard_evenly(stream.shards()[0].id).unwrap();
    put(&stream, 100..200);
    stream.close().unwrap();
    let reader = StreamReader::open(&path).unwrap();
    let report = run(&mut reader.archiver(place.clone()));
    assert!(report.waiting.is_empty() && report.record_count == 200);

    let restored = directory.path().join("restored");
    fs::create_dir(&restored).unwrap();
    fs::write(restored.join("notes.txt"), "mine").unwrap();
    assert!(matches!(Stream::restore(place.clone(), &restored, go_on), Err(Error::NotAStream(_))));
    fs::remove_file(restored.join("notes.txt")).unwrap();
    let mut left = 5;
    let stop = |_| {
        left -= 1;
        if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let report = Stream::restore(place.clone(), &restored, stop).unwrap();
    assert!(!report.is_complete && report.segment_count == 5);
    assert!(Stream::open(&restored).is_err() && StreamReader::open(&restored).is_err());
    let report = Stream::restore(place.clone(), &restored, go_on).unwrap();
    assert_eq!((report.segment_count, report.record_count), (place.segments().len() as u64 - 5, 200));
    assert!(matches!(Stream::restore(place.clone(), &restored, go_on), Err(Error::InvalidArgument(_))));

    clock.advance(100 * streamlog::DAY);
    let stream = small(&clock).open(&restored).unwrap();
    stream.maintain().unwrap();
    assert_eq!(stream.describe().properties["team"], "web");
    assert_eq!(stream.describe().retention, Retention::forever());
    put(&stream, 200..210);
    let mut numbers = read_lineage(&stream).unwrap();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..210).collect::<Vec<_>>());
    assert_eq!(stream.shards(), {
        let mut all = reader.shards();
        all.truncate(4);
        all
    });
    stream.close().unwrap();
    // The original is gone, and this one continues with its archive.
    run(&mut StreamReader::open(&restored).unwrap().archiver(place.clone()));
    let again = directory.path().join("again");
    assert_eq!(Stream::restore(place, &again, go_on).unwrap().record_count, 210);
    let nothing = Stream::restore(Place::default(), directory.path().join("nothing"), go_on);
    assert!(matches!(nothing, Err(Error::Corrupt(_))), "{nothing:?}");
    assert!(!directory.path().join("nothing").exists());
}

#[test]
fn damage_is_not_archived_and_stops_its_shard_until_it_is_salvaged() {
    let (directory, clock, place) = (scratch(), clock(), Place::default());
    let path = directory.path().join("stream");
    let stream = small(&clock).retention(Retention::forever()).open(&path).unwrap();
    put(&stream, 0..30);
    stream.close().unwrap();
    let file = &segment_files(&path, 0)[2];
    let mut bytes = fs::read(file).unwrap();
    bytes[20_000] ^= 1;
    fs::write(file, bytes).unwrap();
    let mut archiver = StreamReader::open(&path).unwrap().archiver(place.clone());
    match archiver.run(go_on) {
        Err(Error::Corrupt(damage)) => assert_eq!(&damage.path, file),
        other => panic!("{other:?}"),
    }
    assert_eq!(place.segments().len(), 2);
    small(&clock).salvage(true).open(&path).unwrap().close().unwrap();
    let report = run(&mut archiver);
    assert_eq!((report.segment_count, report.waiting.len()), (3, 0));
    let report = Stream::restore(place, directory.path().join("restored"), go_on).unwrap();
    assert_eq!(report.record_count, 30);
}

#[test]
fn a_directory_holds_an_archive_and_a_missing_one_is_no_empty_one() {
    let (directory, clock) = (scratch(), clock());
    let path = directory.path().join("stream");
    let archive = Directory::new(directory.path().join("archive"));
    let stream = small(&clock).retention(Retention::forever()).open(&path).unwrap();
    put(&stream, 0..60);
    stream.maintain().unwrap();
    let mut archiver = stream.archiver(archive.clone());
    assert!(archiver.run(go_on).is_err(), "it must be there, as the disk that it is on");
    fs::create_dir(archive.path()).unwrap();
    run(&mut archiver);
    stream.trim_before(ShardId::new(0), 50.into()).unwrap();
    stream.maintain().unwrap();
    let reader =
        StreamOptions::new().clock(clock.clone()).archive(archive.clone()).open_reader(&path).unwrap();
    assert_eq!(read_lineage(&reader).unwrap(), (0..60).collect::<Vec<_>>());
    // Files left by a killed process are written again, and files of others are left alone.
    let left = archive.path().join("half.partial");
    fs::write(&left, "half").unwrap();
    archive.put("half", &mut &b"whole"[..]).unwrap();
    assert_eq!(fs::read(archive.path().join("half")).unwrap(), b"whole");
    let held = fs::File::create(&left).unwrap();
    held.lock().unwrap();
    assert!(archive.put("half", &mut &b"other"[..]).is_err());
    assert_eq!(fs::read(archive.path().join("half")).unwrap(), b"whole");
    fs::rename(archive.path(), directory.path().join("elsewhere")).unwrap();
    let reader = StreamOptions::new().clock(clock).archive(archive).open_reader(&path).unwrap();
    let lost = reader.iterator(ShardId::new(0), Position::TrimHorizon);
    assert!(matches!(lost, Err(Error::Io(_))), "{lost:?}");
}
