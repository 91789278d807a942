//! Damage of every kind, everywhere in every file: P9 and P11.
//!
//! A stream has two small segments, each in a state that a disk can hold: sealed and not last, sealed and last, rolled but not sealed,
//! and active. Everything was synced. The table lists what a single damage may do:
//!
//! | damaged | the stream |
//! |---|---|
//! | the manifest | does not open: every byte of it matters |
//! | header page, outside the live words | is refused, on opening or on reading, with an error that names the file |
//! | the whole second copy of the header | has all its records |
//! | a live word, a synced slot | has all its records: no frame is damaged |
//! | a frame | is refused where that frame begins; the records before and after it can be read |
//! | index, trailer | has all its records: the frames hold the same information |
//! | unused bytes after the frames | has all its records |
//!
//! Synced records are cut, and reported in the recovery report, only if the damage also takes the proof that they were synced: a segment
//! without a trailer loses its synced slots together with frames, or its file is emptied. The files then look as if power loss had taken
//! bytes that were never synced, unless the manifest or a later segment proves otherwise. A wrong record is never returned, and no
//! record goes missing silently.

use crate::common;

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::ops::{ControlFlow, Range};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use streamlog::{Error, Position, PutRecord, RecoveryReport, ShardId, Stream, Timestamp};
use tempfile::TempDir;

const SHARD: ShardId = ShardId::new(0);
const HEADER_PAGE_BYTES: usize = 4096;
/// The first sequence number of the second segment, and the number of records in both.
const SECOND_FROM: usize = 6;
const RECORD_COUNT: usize = 11;
/// The time limit of a trial, whatever is damaged. The files have a few KiB.
const TRIAL_MAX: Duration = Duration::from_secs(10);

struct Expected {
    key: &'static str,
    data: Vec<u8>,
    timestamp: Timestamp,
}

/// The states of a stream's segments on disk, oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Closed: sealed, sealed.
    Closed,
    /// Killed in the second segment: sealed, active.
    Running,
    /// Killed before the first segment was sealed: rolled, active.
    Rolled,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    First,
    Second,
    Manifest,
}

/// The outcome of a damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// All records are there.
    Right,
    /// An error that names the file.
    Refused,
    /// Records are gone, and the recovery report says so.
    Cut,
}

/// The allowed outcomes of a damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Allowed {
    Right,
    Refused,
    /// Refused at this byte of the file, where this record is missing.
    RefusedAt {
        offset: usize,
        sequence: usize,
    },
    RefusedOrCut,
}

/// A stream that is damaged again and again.
struct Patient {
    _scratch: TempDir,
    path: PathBuf,
    state: State,
    /// All files, undamaged.
    files: Vec<(PathBuf, Vec<u8>)>,
    records: Vec<Expected>,
    trials: usize,
}

#[derive(Debug, Default)]
struct Tally {
    right: usize,
    refused: usize,
    cut: usize,
}

impl Patient {
    fn in_state(state: State) -> Self {
        let scratch = common::scratch();
        let path = scratch.path().join("stream");
        let records = make(&scratch.path().join("made"), &path, state);
        assert_eq!(records.len(), RECORD_COUNT);
        let second = path.join("shards/000000000000").join(format!("{SECOND_FROM:020}.seg"));
        if state != State::Closed {
            // Most of the preallocated bytes are alike. A shorter file is what a nearly full disk would have given.
            let file = fs::File::options().write(true).open(&second).unwrap();
            file.set_len(HEADER_PAGE_BYTES as u64 + 1024).unwrap();
        }
        let [first, last] = &common::segment_files(&path, 0)[..] else { panic!("two segments") };
        assert_eq!(*last, second);
        if state == State::Rolled {
            fs::File::options().write(true).open(first).unwrap().set_len(10 << 10).unwrap();
        }
        let files = [first.clone(), second, path.join("manifest.json")];
        let files = files.map(|file| (file.clone(), fs::read(file).unwrap())).into();
        let mut patient = Self { _scratch: scratch, path, state, files, records, trials: 0 };
        patient.try_out(
            Target::Manifest,
            patient.bytes(Target::Manifest).to_vec(),
            Allowed::Right,
            "nothing damaged",
        );
        // With frames of one length, a damaged length or count could skip a frame and still end where the next frame or the file does.
        let lens: Vec<_> = patient.frames(Target::Second).into_iter().map(|(range, _)| range.len()).collect();
        assert_eq!(lens, [64, 64, 64]);
        patient
    }

    fn file(&self, target: Target) -> &Path {
        &self.files[target as usize].0
    }

    fn bytes(&self, target: Target) -> &[u8] {
        &self.files[target as usize].1
    }

    fn is_sealed(&self, target: Target) -> bool {
        match self.state {
            State::Closed => true,
            State::Running => target == Target::First,
            State::Rolled => false,
        }
    }

    /// Returns the places of a segment's frames, with their first sequence numbers.
    fn frames(&self, target: Target) -> Vec<(Range<usize>, usize)> {
        let bytes = self.bytes(target);
        let (mut at, mut next, end) = match target {
            Target::First => (HEADER_PAGE_BYTES, 0, SECOND_FROM),
            Target::Second => (HEADER_PAGE_BYTES, SECOND_FROM, RECORD_COUNT),
            Target::Manifest => return vec![],
        };
        let mut frames = vec![];
        while next < end {
            let field = |from: usize| u32::from_le_bytes(*bytes[at + from..].first_chunk().unwrap()) as usize;
            frames.push((at..at + field(0), next));
            (at, next) = (at + field(0), next + field(24));
        }
        assert_eq!(next, end);
        frames
    }

    fn frames_end(&self, target: Target) -> usize {
        self.frames(target).last().map_or(0, |(range, _)| range.end)
    }

    fn options(&self) -> streamlog::StreamOptions {
        let clock = common::clock();
        clock.advance(Duration::from_secs(3_600));
        common::small(&clock)
    }

    /// Replaces a file by a damaged one, and checks the outcome.
    fn try_out(&mut self, target: Target, damaged: Vec<u8>, allowed: Allowed, what: &str) -> Outcome {
        let what = format!("{:?}, {target:?}: {what}", self.state);
        self.trials += 1;
        let (mut outcome, took) = self.try_once(target, &damaged, allowed, &what);
        if took > TRIAL_MAX {
            // The machine may have stalled, but hardly twice.
            let again: Duration;
            (outcome, again) = self.try_once(target, &damaged, allowed, &what);
            assert!(again < TRIAL_MAX, "P11: {what}: took {took:?}, and then {again:?}");
        }
        let is_allowed = match allowed {
            Allowed::Right => outcome == Outcome::Right,
            Allowed::Refused | Allowed::RefusedAt { .. } => outcome == Outcome::Refused,
            Allowed::RefusedOrCut => outcome != Outcome::Right,
        };
        assert!(is_allowed, "P9: {what}: the outcome is {outcome:?}, allowed is {allowed:?}");
        outcome
    }

    fn try_once(&self, target: Target, damaged: &[u8], allowed: Allowed, what: &str) -> (Outcome, Duration) {
        fs::write(self.file(target), damaged).unwrap();
        let started = Instant::now();
        let (outcome, is_open) = catch_unwind(AssertUnwindSafe(|| self.look(target, damaged, allowed, what)))
            .unwrap_or_else(|_| panic!("P11: {what}: it caused the panic above"));
        let took = started.elapsed();
        // A stream that was refused on opening is unchanged.
        for (file, bytes) in &self.files {
            if is_open || file == self.file(target) {
                fs::write(file, bytes).unwrap();
            }
        }
        (outcome, took)
    }

    /// Returns the outcome, and whether the stream opened.
    fn look(&self, target: Target, damaged: &[u8], allowed: Allowed, what: &str) -> (Outcome, bool) {
        let stream = match self.options().open(&self.path) {
            Ok(stream) => stream,
            Err(error) => {
                self.check_error(&error, target, allowed, what);
                for (file, bytes) in &self.files {
                    let expected = if file == self.file(target) { damaged } else { bytes };
                    assert!(fs::read(file).unwrap() == expected, "{what}: {} was changed", file.display());
                }
                return (Outcome::Refused, false);
            }
        };
        let outcome = self.read_everything(&stream, target, allowed, what);
        drop(stream);
        if outcome == Outcome::Right {
            // Closing sealed what opening found. It must read the same.
            let stream = self.options().open(&self.path).unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(self.read_everything(&stream, target, allowed, what), Outcome::Right, "{what}: again");
        }
        (outcome, true)
    }

    fn read_everything(&self, stream: &Stream, target: Target, allowed: Allowed, what: &str) -> Outcome {
        let names = |error: &Error, allowed| self.check_error(error, target, allowed, what);
        let (count, failed) = self.read(stream, Position::TrimHorizon, 0, 1_000, what);
        let outcome = match failed {
            None if count == RECORD_COUNT => Outcome::Right,
            Some(error) => {
                if let Allowed::RefusedAt { sequence, .. } = allowed {
                    assert_eq!(count, sequence, "{what}: the records before it can be read");
                }
                names(&error, allowed);
                Outcome::Refused
            }
            None => {
                self.check_report(stream.recovery(), count, what);
                Outcome::Cut
            }
        };
        let there = if outcome == Outcome::Cut { count } else { RECORD_COUNT };
        let check = |position: Position, from: usize| {
            let from = from.min(there);
            let (count, failed) = self.read(stream, position, from, 2, what);
            match failed {
                Some(error) => {
                    assert_eq!(outcome, Outcome::Refused, "{what}: from {position:?}: {error}");
                    names(&error, Allowed::Refused);
                }
                None => assert_eq!(count, there - from, "P6: {what}: records are missing from {position:?}"),
            }
        };
        // A damaged header page is refused at every position, so one position is enough, and a fourth of them elsewhere: others in each trial.
        let is_header = allowed == Allowed::Refused && target != Target::Manifest;
        let spacing = if is_header { RECORD_COUNT } else { 4 };
        for (sequence, record) in self.records.iter().enumerate().skip(self.trials % spacing).step_by(spacing)
        {
            check(Position::At((sequence as u64).into()), sequence);
            for timestamp in [record.timestamp, record.timestamp + Duration::from_micros(1)] {
                let from = self.records.partition_point(|record| record.timestamp < timestamp);
                check(Position::AtTimestamp(timestamp), from);
            }
        }
        match stream.verify(|_| ControlFlow::Continue(())) {
            Ok(found) if outcome == Outcome::Refused => {
                assert!(!found.damage.is_empty(), "{what}: verify found nothing");
                assert!((found.record_count as usize) < RECORD_COUNT, "{what}: {found:?}");
                found.damage.iter().for_each(|damage| {
                    names(&Error::Corrupt(Box::new(damage.clone())), Allowed::Refused);
                });
            }
            Ok(found) => {
                assert_eq!(
                    (found.damage.len(), found.record_count as usize),
                    (0, there),
                    "{what}: {found:?}"
                );
                assert!(found.is_complete);
            }
            Err(error) => {
                assert_eq!(outcome, Outcome::Refused, "{what}: verify: {error}");
                names(&error, Allowed::Refused);
            }
        }
        outcome
    }

    /// Reads from a position to the end, and compares each record with what was put. Returns the number of records, and the error that
    /// ended the read, if any.
    fn read(
        &self,
        stream: &Stream,
        position: Position,
        from: usize,
        at_a_time: usize,
        what: &str,
    ) -> (usize, Option<Error>) {
        let mut iterator = match stream.iterator(SHARD, position) {
            Ok(iterator) => iterator,
            Err(error) => return (0, Some(error)),
        };
        let mut count = 0;
        loop {
            let batch = match iterator.next_batch(at_a_time) {
                Ok(batch) if batch.is_empty() => return (count, None),
                Ok(batch) => batch,
                Err(error) => return (count, Some(error)),
            };
            for record in &batch {
                let place = from + count;
                assert_eq!(record.sequence().get() as usize, place, "P9: {what}: from {position:?}");
                let expected = self
                    .records
                    .get(place)
                    .unwrap_or_else(|| panic!("P9: {what}: a record that was never put at {place}"));
                assert!(
                    (record.partition_key(), record.data(), record.timestamp())
                        == (expected.key.as_bytes(), &expected.data[..], expected.timestamp),
                    "P9: {what}: from {position:?}: a wrong record at {place}"
                );
                count += 1;
            }
        }
    }

    fn check_error(&self, error: &Error, target: Target, allowed: Allowed, what: &str) {
        let (path, offset) = match error {
            Error::Corrupt(damage) => (&damage.path, Some(damage.offset as usize)),
            Error::UnsupportedFormat(located) => (&located.path, None),
            other => panic!("P9: {what}: {other:?}"),
        };
        assert_eq!(path, self.file(target), "{what}: {error}");
        if let Some(offset) = offset {
            assert!(offset <= self.bytes(target).len(), "{what}: {error}");
        }
        if let (Allowed::RefusedAt { offset, sequence }, Error::Corrupt(damage)) = (allowed, error) {
            assert_eq!(damage.offset as usize, offset, "{what}: {error}");
            assert_eq!(damage.sequence, Some((sequence as u64).into()), "{what}: {error}");
        } else {
            assert!(!matches!(allowed, Allowed::RefusedAt { .. }), "{what}: {error}");
        }
    }

    /// Checks that the report names the loss, which is in the second and last segment.
    fn check_report(&self, report: &RecoveryReport, count: usize, what: &str) {
        assert!(
            report.has_torn_tail(),
            "P9: {what}: {count} records, and the loss of the others is not reported: {report:?}"
        );
        let shard = &report.shards[0];
        assert_eq!(shard.next_sequence.get() as usize, count, "{what}: {report:?}");
        let tail = shard.torn_tail.as_ref().unwrap();
        assert_eq!(tail.path, self.file(Target::Second), "{what}: {report:?}");
        let frames = self.frames(Target::Second);
        let cut = frames.iter().find(|(_, sequence)| *sequence == count).unwrap();
        // If the header page is gone too, the whole file is the tail.
        assert!([0, cut.0.start].contains(&(tail.offset as usize)), "{what}: {report:?}");
    }

    /// Returns the allowed outcome of damage to one byte.
    fn allowed_for(&self, target: Target, at: usize) -> Allowed {
        let frames = self.frames(target);
        match frames.iter().find(|(range, _)| range.contains(&at)) {
            _ if target == Target::Manifest => Allowed::Refused,
            Some((range, sequence)) => Allowed::RefusedAt { offset: range.start, sequence: *sequence },
            None if at < HEADER_PAGE_BYTES && !is_live(at) => Allowed::Refused,
            None => Allowed::Right,
        }
    }

    /// Returns the allowed outcome of zeros over a part of a segment.
    fn allowed_for_zeros(&self, target: Target, zeros: Range<usize>) -> Allowed {
        let bytes = self.bytes(target);
        let hits = |part: Range<usize>| {
            let both = zeros.start.max(part.start)..zeros.end.min(part.end);
            !both.is_empty() && bytes[both].iter().any(|&byte| byte != 0)
        };
        let hits_frame = hits(HEADER_PAGE_BYTES..self.frames_end(target));
        // Zeros over a slot and a frame also hit the first frame. The lower watermark covers that one, so only losing both slots hides it.
        let hits_watermarks = SYNCED_SLOTS.iter().all(|slot| hits(slot.clone()));
        let is_last_and_unsealed = target == Target::Second && !self.is_sealed(target);
        // Without the header, frames cannot be told from other bytes.
        let hits_header = hits(0..64);
        // Power loss also takes the whole copy or none of it, so only a partial loss is damage.
        let hits_part_of_copy = hits(COPY) && COPY.filter(|at| !zeros.contains(at)).any(|at| bytes[at] != 0);
        match () {
            () if (hits_frame || hits_header) && hits_watermarks && is_last_and_unsealed => {
                Allowed::RefusedOrCut
            }
            () if hits_frame || hits_header || hits_part_of_copy => Allowed::Refused,
            () => Allowed::Right,
        }
    }

    fn allowed_for_length(&self, target: Target, len: usize) -> Allowed {
        match target {
            Target::Manifest if len + 1 == self.bytes(target).len() => Allowed::Right,
            Target::Manifest => Allowed::Refused,
            _ if len >= self.frames_end(target) => Allowed::Right,
            // Nothing is left that proves a sync.
            Target::Second if len == 0 && !self.is_sealed(target) => Allowed::RefusedOrCut,
            _ => Allowed::Refused,
        }
    }

    fn flip(&mut self, target: Target, bit: usize, tally: &mut Tally) {
        let mut damaged = self.bytes(target).to_vec();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let allowed = self.allowed_for(target, bit / 8);
        let what = format!("bit {} of byte {} flipped", bit % 8, bit / 8);
        tally.add(self.try_out(target, damaged, allowed, &what));
    }
}

impl Tally {
    fn add(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Right => self.right += 1,
            Outcome::Refused => self.refused += 1,
            Outcome::Cut => self.cut += 1,
        }
    }

    fn tell(&self, what: &str) {
        let count = self.right + self.refused + self.cut;
        println!(
            "{what}: {count} trials: {} right, {} refused, {} cut and reported",
            self.right, self.refused, self.cut
        );
    }
}

const SYNCED_SLOTS: [Range<usize>; 2] = [2048..2064, 3072..3088];
/// The place of the second copy of the header.
const COPY: Range<usize> = 3584..3648;

/// Whether a byte of the header page changes while the segment is written to.
fn is_live(at: usize) -> bool {
    (1024..1536).contains(&at)
        || (1536..1544).contains(&at)
        || SYNCED_SLOTS.iter().any(|slot| slot.contains(&at))
}

/// Makes a stream in `made`, and leaves it at `path` in the given state. Returns its records.
fn make(made: &Path, path: &Path, state: State) -> Vec<Expected> {
    let clock = common::clock();
    let mut records = vec![];
    let mut put = |stream: &Stream, seconds: u64, batch: &[(&'static str, usize)]| {
        clock.advance(Duration::from_secs(seconds));
        let from = records.len();
        for &(key, len) in batch {
            let data = (0..len).map(|at| (at * 7 + records.len() * 31 + 1) as u8).collect();
            records.push(Expected { key, data, timestamp: streamlog::Clock::now(&*clock) });
        }
        let batch: Vec<_> =
            records[from..].iter().map(|record| PutRecord::new(record.key, &record.data)).collect();
        stream.put_batch(&batch).unwrap();
    };
    let first = made.join("first");
    let stream = common::small(&clock).open(&first).unwrap();
    put(&stream, 0, &[("key", 21)]);
    // So long that the next frame has an index entry, and so far in time from the frames around it that a damaged entry would lead past it.
    put(&stream, 12, &[("k", 3_991)]);
    stream.sync().unwrap();
    put(&stream, 5, &[("key", 21)]);
    put(&stream, 3, &[("a", 1), ("b", 1), ("c", 2)]);
    stream.sync().unwrap();
    // After a kill a segment takes no more frames: the next put begins a new one.
    let killed = made.join("killed");
    common::copy_dir(&first, &killed);
    let stream = common::small(&clock).open(&killed).unwrap();
    put(&stream, 2, &[("key", 21)]);
    stream.sync().unwrap();
    put(&stream, 2, &[("key", 21)]);
    put(&stream, 2, &[("a", 1), ("b", 1), ("c", 2)]);
    stream.sync().unwrap();
    if state != State::Rolled {
        stream.maintain().unwrap();
    }
    match state {
        State::Closed => {
            stream.close().unwrap();
            fs::rename(&killed, path).unwrap();
        }
        _ => common::copy_dir(&killed, path),
    }
    records
}

/// Of bytes that are alike, the trials damage one in this many. The longer run damages all.
const CLOSELY: usize = 1;
const OFTEN: usize = 4;
const LOOSELY: usize = 12;

/// Whether a byte is like its neighbours: within long data, reserved, or after the frames.
fn is_dull(patient: &Patient, target: Target, at: usize) -> bool {
    let is_data =
        |range: &Range<usize>| range.len() > 1_000 && (range.start + 64..range.end - 16).contains(&at);
    target != Target::Manifest
        && (patient.frames(target).iter().any(|(range, _)| is_data(range))
            || (!patient.is_sealed(target) && at >= patient.frames_end(target) + 64)
            || (1032..1536).contains(&at)
            || ((64..HEADER_PAGE_BYTES).contains(&at) && !is_live(at)))
}

/// Flips every second bit of the bytes that matter, and elsewhere one bit of one byte in `dull_step`.
fn flip_bits(state: State, target: Target, dull_step: usize) {
    let mut patient = Patient::in_state(state);
    let seed = RandomState::new().hash_one(0);
    let mut random = seed;
    let mut tally = Tally::default();
    for at in 0..patient.bytes(target).len() {
        if !is_dull(&patient, target, at) {
            (at % 2..8).step_by(2).for_each(|bit| patient.flip(target, at * 8 + bit, &mut tally));
        } else if at.is_multiple_of(dull_step) {
            random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            patient.flip(target, at * 8 + (random >> 61) as usize, &mut tally);
        }
    }
    tally.tell(&format!("flipped bits, {state:?}, {target:?}, seed {seed:#x}"));
    assert!(tally.refused > 0);
}

#[test]
fn p9_a_flipped_bit_of_a_sealed_segment() {
    flip_bits(State::Closed, Target::First, OFTEN);
}

#[test]
fn p9_a_flipped_bit_of_the_last_segment_after_a_clean_close() {
    flip_bits(State::Closed, Target::Second, LOOSELY);
}

#[test]
fn p9_a_flipped_bit_of_an_active_segment() {
    flip_bits(State::Running, Target::Second, OFTEN);
}

#[test]
fn p9_a_flipped_bit_of_a_rolled_segment() {
    flip_bits(State::Rolled, Target::First, LOOSELY);
}

#[test]
fn p9_a_flipped_bit_of_the_manifest() {
    flip_bits(State::Closed, Target::Manifest, OFTEN);
}

fn cut_short(state: State, target: Target, dull_step: usize) {
    let mut patient = Patient::in_state(state);
    let mut tally = Tally::default();
    for len in 0..patient.bytes(target).len() {
        if is_dull(&patient, target, len) && !len.is_multiple_of(dull_step) {
            continue;
        }
        let allowed = patient.allowed_for_length(target, len);
        let damaged = patient.bytes(target)[..len].to_vec();
        tally.add(patient.try_out(target, damaged, allowed, &format!("cut to {len} bytes")));
    }
    tally.tell(&format!("cut short, {state:?}, {target:?}"));
    assert!(tally.refused > 0);
}

#[test]
fn p9_a_file_that_is_cut_short_after_a_clean_close() {
    for target in [Target::First, Target::Second, Target::Manifest] {
        cut_short(State::Closed, target, LOOSELY);
    }
}

#[test]
fn p9_a_file_that_is_cut_short_before_it_was_sealed() {
    cut_short(State::Running, Target::First, LOOSELY);
    cut_short(State::Running, Target::Second, LOOSELY);
    cut_short(State::Rolled, Target::First, LOOSELY);
}

#[test]
#[ignore = "a longer run of the tests above: see docs/TESTING.md"]
fn p9_every_bit_of_every_file_flipped_and_each_cut_to_every_length() {
    let states = [State::Closed, State::Running, State::Rolled];
    let targets = [Target::First, Target::Second, Target::Manifest];
    std::thread::scope(|scope| {
        for state in states {
            scope.spawn(move || {
                for target in targets {
                    let mut patient = Patient::in_state(state);
                    let mut tally = Tally::default();
                    for bit in 0..patient.bytes(target).len() * 8 {
                        patient.flip(target, bit, &mut tally);
                    }
                    tally.tell(&format!("every bit flipped, {state:?}, {target:?}"));
                    cut_short(state, target, CLOSELY);
                    overwrite_with_zeros(state, target, 8);
                }
            });
        }
    });
}

/// The distance between two places that zeros overwrite, in bytes. The long test takes each word.
const ZEROS_STEP: usize = 40;

fn overwrite_with_zeros(state: State, target: Target, step: usize) {
    let mut patient = Patient::in_state(state);
    let mut tally = Tally::default();
    let len = patient.bytes(target).len();
    let runs = [8, 64, 512, 4096]
        .into_iter()
        .flat_map(|run| (0..len).step_by(step).map(move |from| from..(from + run).min(len)));
    let pages = (0..len)
        .step_by(4096)
        .flat_map(|from| (from..len).step_by(4096).map(move |to| from..(to + 4096).min(len)));
    for zeros in runs.chain(pages) {
        if patient.bytes(target)[zeros.clone()].iter().all(|&byte| byte == 0) {
            continue;
        }
        let allowed = match target {
            Target::Manifest => Allowed::Refused,
            _ => patient.allowed_for_zeros(target, zeros.clone()),
        };
        let mut damaged = patient.bytes(target).to_vec();
        damaged[zeros.clone()].fill(0);
        tally.add(patient.try_out(target, damaged, allowed, &format!("zeros over {zeros:?}")));
    }
    tally.tell(&format!("zeros over every place, {state:?}, {target:?}"));
    assert!(tally.refused > 0);
}

#[test]
fn p9_zeros_over_a_part_of_a_file_after_a_clean_close() {
    for target in [Target::First, Target::Second, Target::Manifest] {
        overwrite_with_zeros(State::Closed, target, ZEROS_STEP);
    }
}

#[test]
fn p9_zeros_over_a_part_of_a_segment_that_is_not_sealed() {
    overwrite_with_zeros(State::Running, Target::Second, ZEROS_STEP);
    overwrite_with_zeros(State::Rolled, Target::First, ZEROS_STEP);
}

/// Damages a watermark and a frame at once.
///
/// The active segment alone cannot tell this from bytes that were never synced, so they are cut and reported. After a clean close, or if
/// a later segment was synced, another file proves the sync, and it is an error.
#[test]
fn p9_a_damaged_watermark_together_with_a_damaged_frame() {
    let mut tally = Tally::default();
    for (state, target, is_known) in [
        (State::Running, Target::Second, false),
        (State::Rolled, Target::First, true),
        (State::Closed, Target::Second, true),
    ] {
        let mut patient = Patient::in_state(state);
        for slot_byte in SYNCED_SLOTS.iter().cloned().flatten() {
            for (range, sequence) in patient.frames(target) {
                for at in range.clone().step_by(if range.len() > 1_000 { 801 } else { 9 }) {
                    let mut damaged = patient.bytes(target).to_vec();
                    damaged[at] ^= 1 << (at % 8);
                    // One slot, and half of the time both: the lower watermark may also cover the frame.
                    damaged[slot_byte] ^= 1 << (slot_byte % 8);
                    if slot_byte.is_multiple_of(2) {
                        SYNCED_SLOTS.iter().for_each(|slot| damaged[slot.start + 3] ^= 0x10);
                    }
                    if state == State::Closed {
                        // Without the trailer, only the manifest proves the sync.
                        *damaged.last_mut().unwrap() ^= 1;
                    }
                    let allowed = if is_known { Allowed::Refused } else { Allowed::RefusedOrCut };
                    let what = format!("bytes {slot_byte} and {at} (record {sequence}) flipped");
                    tally.add(patient.try_out(target, damaged, allowed, &what));
                }
            }
        }
    }
    tally.tell("watermark and frame");
    assert!(tally.refused > 0 && tally.cut > 0);
}

/// A disk wrote something whole to the wrong place: every checksum in it is right.
#[test]
fn p9_whole_pieces_in_the_wrong_place() {
    const TRAILER_BYTES: usize = 88;
    let mut tally = Tally::default();
    let sealed = Patient::in_state(State::Closed);
    for (state, target) in [
        (State::Closed, Target::First),
        (State::Closed, Target::Second),
        (State::Running, Target::Second),
        (State::Rolled, Target::First),
    ] {
        let mut patient = Patient::in_state(state);
        let both = [Target::First, Target::Second];
        let frames: Vec<_> =
            both.iter().flat_map(|&of| patient.frames(of).into_iter().map(move |it| (of, it))).collect();
        for (of, (from, moved)) in frames.iter().filter(|(_, (range, _))| range.len() == 64) {
            for (range, sequence) in patient.frames(target) {
                if sequence == *moved || range.len() < 64 {
                    continue;
                }
                let mut damaged = patient.bytes(target).to_vec();
                damaged[range.start..range.start + 64].copy_from_slice(&patient.bytes(*of)[from.clone()]);
                let allowed = Allowed::RefusedAt { offset: range.start, sequence };
                let what = format!("the frame of {moved} over that of {sequence}");
                tally.add(patient.try_out(target, damaged, allowed, &what));
            }
        }
        // A trailer that belongs elsewhere seals nothing, and the frames show where they end.
        for of in both {
            let trailer = sealed.bytes(of).last_chunk::<TRAILER_BYTES>().unwrap();
            assert!(trailer.starts_with(b"slogend\0"), "a whole one");
            let mut over_the_end = patient.bytes(target).to_vec();
            over_the_end.last_chunk_mut::<TRAILER_BYTES>().unwrap().copy_from_slice(trailer);
            let behind_the_end = [patient.bytes(target), &[0; 4096], trailer].concat();
            for damaged in [over_the_end, behind_the_end] {
                let what = format!("the trailer of {of:?} at byte {}", damaged.len() - TRAILER_BYTES);
                tally.add(patient.try_out(target, damaged, Allowed::Right, &what));
            }
        }
        let other = both.into_iter().find(|&of| of != target).unwrap();
        let mut damaged = patient.bytes(target).to_vec();
        damaged[..HEADER_PAGE_BYTES].copy_from_slice(&patient.bytes(other)[..HEADER_PAGE_BYTES]);
        tally.add(patient.try_out(target, damaged, Allowed::Refused, "the header page of the other segment"));
    }
    tally.tell("whole pieces in the wrong place");
}

/// A file changes under an open stream before anyone has read it.
#[test]
fn p9_damage_under_an_open_stream_is_met_by_its_readers_and_by_nobody_else() {
    let scratch = common::scratch();
    let path = scratch.path().join("stream");
    let options = || common::small(&common::clock()).shards(2);
    let stream = options().open(&path).unwrap();
    for number in 0..200u8 {
        stream.put([number], [number; 1_000]).unwrap();
    }
    stream.close().unwrap();
    let file = common::segment_files(&path, 0).remove(0);
    let whole = fs::read(&file).unwrap();
    for is_window_open in [false, true] {
        let stream = options().open(&path).unwrap();
        let mut iterator = stream.iterator(SHARD, Position::TrimHorizon).unwrap();
        let mut kept = vec![];
        if is_window_open {
            kept.push(iterator.next_batch(3).unwrap());
        }
        let read_before = kept.iter().map(|batch| batch.len() as u64).sum::<u64>();
        let at = 30_000;
        let file_to_damage = fs::File::options().write(true).open(&file).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file_to_damage, &[whole[at] ^ 0x20], at as u64).unwrap();
        let mut count = read_before;
        let error = loop {
            match iterator.next_batch(7) {
                Ok(batch) => {
                    assert!(!batch.is_empty(), "the read must meet the damage");
                    for record in &batch {
                        assert_eq!(record.sequence().get(), count);
                        let number = record.partition_key()[0];
                        assert!(record.data() == [number; 1_000], "P9: wrong data");
                        count += 1;
                    }
                }
                Err(error) => break error,
            }
        };
        let Error::Corrupt(damage) = &error else { panic!("{error:?}") };
        assert_eq!((&damage.path, damage.shard, damage.sequence), (&file, Some(SHARD), Some(count.into())));
        assert!(damage.offset as usize <= at && at < damage.offset as usize + 1_100, "{error}");
        assert!(iterator.next_batch(1).is_err(), "the iterator stays before it");

        // The records after it, the other shard, and puts to both still work.
        iterator.seek(Position::After(count.into())).unwrap();
        let behind = iterator.records().map(|record| record.unwrap().sequence.get()).collect::<Vec<_>>();
        assert_eq!(
            behind,
            (count + 1..stream.stats().unwrap().shards[0].next_sequence.get()).collect::<Vec<_>>()
        );
        let other = common::read_all(&stream, ShardId::new(1));
        assert_eq!(other.len() as u64, stream.stats().unwrap().shards[1].record_count());
        for number in 0..20u8 {
            stream.put([number], [number; 1_000]).unwrap();
        }
        let found = stream.verify(|_| ControlFlow::Continue(())).unwrap();
        assert_eq!(found.damage.len(), 1, "{found:?}");
        assert_eq!(found.damage[0], **damage);
        stream.close().unwrap();
        fs::write(&file, &whole).unwrap();
    }
}
