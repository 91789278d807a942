//! Readers and a consumer group in other processes than the writer, compared with a model, over random operations and kills: L8, L1.
//!
//! The writer is a child process. It gets its orders line by line, prints each receipt, and is killed in the middle of some of them. Two readers
//! run here: one keeps up, one lags. Each has an iterator of every shard and one of the whole stream. The group runs in a third process, which is
//! killed too, or closes the group and opens it again. At times the writer's process has the group meanwhile.
//!
//! `STREAMLOG_SEQUENCES=2000` runs that many sequences of orders; `STREAMLOG_SEED=7` runs the sequence that a failure names.

mod group;

use crate::common;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write as _};
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use streamlog::{
    Batch, Clock, Durability, Error, LineageIterator, LockedBy, ManualClock, Position, PutRecord, Retention,
    ShardFilter, ShardId, ShardIterator, Stream, StreamOptions, StreamReader, Timestamp, extend,
};

use group::{GROUP, GroupModel, Workers};

const CHILD: &str = "STREAMLOG_READER_MODEL";
const KEY_COUNT: u64 = 20;
/// More than a sequence puts.
const HOLD_BYTES: u64 = 1 << 30;

/// A place in the stream: shard and sequence number.
type Place = (u32, u64);

/// Reproducible random numbers.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }
}

/// The key and the data of a put, which follow from its number.
fn put_of(number: u64) -> (Vec<u8>, Vec<u8>) {
    let mut random = Random(number);
    let len = match random.below(40) {
        0 => random.below(61_000),
        1..10 => random.below(9_000),
        _ => random.below(300),
    };
    let mut data = number.to_le_bytes().to_vec();
    data.resize(8 + len as usize, number as u8);
    (vec![b'k', random.below(KEY_COUNT) as u8], data)
}

// The children.

/// Not a test: the process of the writer or of the group, which the model kills.
#[test]
fn child() {
    let Ok(orders) = std::env::var(CHILD) else { return };
    let words: Vec<_> = orders.split(' ').collect();
    let numbers: Vec<u64> = words[2..].iter().map(|word| word.parse().unwrap()).collect();
    let (path, clock) =
        (PathBuf::from(words[1]), Arc::new(ManualClock::new(Timestamp::from_micros(numbers[0]))));
    match words[0] {
        "writer" => {
            let settings = numbers[1..].to_vec();
            let mut writer = Writer { path, clock, settings, stream: None };
            writer.open(true);
            say("open");
            carry_out_orders(|order, numbers| writer.carry_out(order, numbers));
            writer.stream.take().unwrap().close().unwrap();
        }
        _ => {
            let reader = StreamOptions::new().clock(clock.clone()).open_reader(&path).unwrap();
            let mut workers = open_group(|| Workers::open(reader.group(GROUP), numbers[1]));
            carry_out_orders(|order, numbers| match order {
                "advance" => clock.advance(Duration::from_millis(numbers[0])),
                order => workers.carry_out(order, numbers),
            });
        }
    }
}

/// Carries out orders until it must quit, or the model is gone.
fn carry_out_orders(mut carry_out: impl FnMut(&str, &[u64])) {
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        let (order, rest) = line.split_once(' ').unwrap_or((&line, ""));
        let numbers: Vec<u64> = rest.split_whitespace().map(|word| word.parse().unwrap()).collect();
        if order == "quit" {
            break;
        }
        carry_out(order, &numbers);
        say("done");
    }
}

/// Opens the group once no other process has it.
fn open_group(open: impl Fn() -> Result<Workers, Error>) -> Workers {
    loop {
        match open() {
            Ok(workers) => return workers,
            Err(Error::Locked(by)) => say_who(&by),
            Err(error) => panic!("{error}"),
        }
        std::thread::sleep(Duration::from_micros(500));
    }
}

/// Prints which process has the group.
fn say_who(by: &LockedBy) {
    assert!(by.path.ends_with(format!("groups/{GROUP}")) && !by.is_this_process, "{by:?}");
    // It is unknown while a process takes or leaves the group.
    if let Some(id) = by.process_id {
        say(&format!("locked {id}"));
    }
}

/// Prints a line immediately and as a whole, so that a kill leaves no part of one.
fn say(line: &str) {
    std::io::stdout().write_all(format!("{line}\n").as_bytes()).unwrap();
}

struct Writer {
    path: PathBuf,
    clock: Arc<ManualClock>,
    /// The number of shards, the retention by age in seconds and by bytes, or 0, and whether each put is synced, the group holds retention
    /// back, and damage is salvaged.
    settings: Vec<u64>,
    stream: Option<Stream>,
}

impl Writer {
    fn open(&mut self, may_salvage: bool) {
        let [shards, age, bytes_max, power, hold, salvage] = self.settings[..] else { panic!() };
        let retention =
            if age == 0 { Retention::forever() } else { Retention::age(Duration::from_secs(age)) };
        let retention = if bytes_max == 0 { retention } else { retention.bytes_max(bytes_max) };
        let durability = if power == 1 { Durability::Power } else { Durability::Process };
        let options = common::small(&self.clock).shards(shards as u32).retention(retention);
        let options = options.durability(durability).salvage(may_salvage && salvage == 1);
        let stream = options.open(&self.path).unwrap_or_else(|error| panic!("{error}"));
        for shard in &stream.recovery().shards {
            for lost in &shard.lost {
                let (shard, lost) = (shard.shard.get(), &lost.sequences);
                say(&format!("lost {shard} {} {}", lost.start, lost.end));
            }
        }
        if hold == 1 {
            extend::hold(&stream, GROUP).set(HOLD_BYTES).unwrap();
        }
        self.stream = Some(stream);
    }

    fn carry_out(&mut self, order: &str, numbers: &[u64]) {
        if order == "reopen" {
            self.stream.take().unwrap().close().unwrap();
            self.open(false);
            return;
        }
        let stream = self.stream.as_ref().unwrap();
        let mut open = stream.list_shards(ShardFilter::AtLatest);
        open.sort_by_key(|shard| shard.hash_key_range.start);
        match (order, numbers) {
            ("put", &[number]) => {
                let (key, data) = put_of(number);
                let receipt = stream.put(&key, &data).unwrap();
                say(&format!("put {number} {} {}", receipt.shard.get(), receipt.sequence));
            }
            ("batch", &[from, to]) => {
                let puts: Vec<_> = (from..to).map(put_of).collect();
                let records: Vec<_> = puts.iter().map(|(key, data)| PutRecord::new(key, data)).collect();
                let mut line = String::new();
                for (number, receipt) in (from..to).zip(stream.put_batch(&records).unwrap()) {
                    let receipt = receipt.unwrap();
                    let at = (receipt.shard.get(), receipt.sequence);
                    writeln!(line, "put {number} {} {}", at.0, at.1).unwrap();
                }
                say(line.trim_end());
            }
            ("sync", _) => stream.sync().unwrap(),
            ("maintain", _) => stream.maintain().unwrap(),
            ("advance", &[millis]) => self.clock.advance(Duration::from_millis(millis)),
            // A range may be too narrow.
            ("split", &[at]) => drop(stream.split_shard_evenly(open[at as usize % open.len()].id)),
            ("merge", &[at]) if open.len() > 1 => {
                let at = at as usize % (open.len() - 1);
                stream.merge_shards(open[at].id, open[at + 1].id).unwrap();
            }
            ("scale", &[count]) => drop(stream.update_shard_count(count as u32).unwrap()),
            ("trim", &[at, percent]) => {
                let stats = stream.stats().unwrap();
                let shard = &stats.shards[at as usize % stats.shards.len()];
                let count = shard.next_sequence.get() - shard.horizon.get();
                let first = shard.horizon.get() + count * percent / 100;
                stream.trim_before(shard.shard, first.into()).unwrap();
            }
            // Its process has the group for a moment, unless another one does.
            ("borrow", &[seed]) => match Workers::open(stream.group(GROUP), seed) {
                Ok(mut workers) => workers.carry_out("work", &[seed % 10]),
                Err(Error::Locked(by)) => say_who(&by),
                Err(error) => panic!("{error}"),
            },
            ("state", _) => {
                for shard in stream.stats().unwrap().shards {
                    let (id, horizon, next) = (shard.shard.get(), shard.horizon, shard.next_sequence);
                    say(&format!("shard {id} {horizon} {next}"));
                }
                for shard in stream.shards() {
                    for parent in shard.parents() {
                        say(&format!("parent {} {}", shard.id.get(), parent.get()));
                    }
                }
                if !stream.groups().unwrap().is_empty() {
                    for shard in stream.group(GROUP).describe().unwrap().shards {
                        let (next, lag) = (shard.next_sequence, shard.lag.record_count);
                        say(&format!("lag {} {next} {lag}", shard.shard.get()));
                    }
                }
            }
            _ => {}
        }
    }
}

// The model.

/// A child process.
struct Process {
    child: Child,
    orders: ChildStdin,
    lines: Receiver<String>,
}

impl Process {
    fn start(orders: String) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(common::child_test(module_path!()))
            .env(CHILD, orders)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = channel();
        let stdout = child.stdout.take().unwrap();
        std::thread::spawn(move || {
            // The receiver may be gone already.
            BufReader::new(stdout).lines().map_while(Result::ok).for_each(|line| _ = sender.send(line));
        });
        let orders = child.stdin.take().unwrap();
        Self { child, orders, lines }
    }

    fn order(&mut self, order: &str) {
        // A process that has failed is noticed when it says nothing more.
        let _ = writeln!(self.orders, "{order}");
    }

    /// Returns the next line, if one arrives in time.
    fn next_line(&self, time: Duration) -> Option<String> {
        match self.lines.recv_timeout(time) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => panic!("a process has failed"),
        }
    }

    /// Kills the process. Returns its output before that.
    fn kill(mut self) -> Vec<String> {
        self.child.kill().unwrap();
        drop(self.orders);
        let lines = self.lines.iter().collect();
        self.child.wait().unwrap();
        lines
    }

    /// Lets the process end by itself. Returns its output before that.
    fn quit(mut self) -> Vec<String> {
        self.order("quit");
        drop(self.orders);
        let lines = self.lines.iter().collect();
        assert!(self.child.wait().unwrap().success());
        lines
    }
}

/// What is known about the stream.
#[derive(Default)]
struct Truth {
    /// The numbers of the puts that returned, or that a reader has seen.
    puts: BTreeMap<Place, u64>,
    /// Their arrival times, once they were read.
    arrived: BTreeMap<Place, Timestamp>,
    /// The places of the numbers.
    places: BTreeMap<u64, Place>,
    /// The number after the last put that returned.
    ends: BTreeMap<u32, u64>,
    /// The highest horizons seen so far.
    horizons: BTreeMap<u32, u64>,
    /// Given up by salvage.
    lost: BTreeSet<Place>,
    /// Numbers that were sent to the writer, and not reported since.
    sent: BTreeSet<u64>,
    /// Numbers that a killed writer was putting, and that were not reported since.
    unsure: BTreeSet<u64>,
}

impl Truth {
    /// Records that a record is at a position.
    fn note(&mut self, place: Place, number: u64) {
        if let Some(known) = self.puts.insert(place, number) {
            assert_eq!(known, number, "L8: another record is at {place:?}");
            return;
        }
        let was_put = self.sent.remove(&number) || self.unsure.remove(&number);
        assert!(was_put, "L8: {number} at {place:?} was never put, or is elsewhere");
        assert_eq!(self.places.insert(number, place), None);
    }

    /// Checks that records were lost to damage.
    fn check_lost(&self, shard: u32, first: u64, end: u64) {
        let is_lost = |sequence| self.lost.contains(&(shard, sequence));
        assert!((first..end).all(is_lost), "L8: {first} to before {end} of {shard} were not lost");
    }

    fn raise_horizon(&mut self, shard: u32, horizon: u64) {
        let known = self.horizons.entry(shard).or_default();
        *known = horizon.max(*known);
    }
}

/// A reader of the stream.
struct Outside {
    reader: StreamReader,
    shards: BTreeMap<u32, ShardIterator>,
    lineage: LineageIterator,
    /// The numbers that `lineage` has read, and the last one of each key.
    read: BTreeSet<u64>,
    last_of_key: BTreeMap<Vec<u8>, u64>,
    /// Batches that stay readable, whatever happens to their files.
    held: VecDeque<(u64, Batch)>,
}

struct Model {
    scratch: tempfile::TempDir,
    random: Random,
    clock: Arc<ManualClock>,
    settings: [u64; 5],
    writer: Option<Process>,
    /// The process of the group, and how many orders it has not carried out yet.
    group: Option<(Process, usize)>,
    /// All processes that have had the group so far.
    group_ids: BTreeSet<u32>,
    group_model: GroupModel,
    truth: Truth,
    put_count: u64,
    /// The orders that the writer has not carried out yet, each with the numbers of its puts.
    open_orders: VecDeque<std::ops::Range<u64>>,
    /// Horizons and ends, as last reported by the writer.
    state: BTreeMap<u32, (u64, u64)>,
    /// The group's position and lag in each shard, as last reported by the writer.
    lag: BTreeMap<u32, (u64, u64)>,
    parents: BTreeMap<u32, Vec<u32>>,
}

/// The hash of the data that a batch holds, which must not change.
fn hash(batch: &Batch) -> u64 {
    let bytes = batch.iter().flat_map(|record| record.data().to_vec());
    bytes.fold(17, |hash: u64, byte| hash.wrapping_mul(31).wrapping_add(byte.into()))
}

fn check_record(record: &streamlog::Record<'_>) -> u64 {
    let number = u64::from_le_bytes(*record.data().first_chunk().expect("L8: other data"));
    let (key, data) = put_of(number);
    assert!(
        record.partition_key() == key && record.data() == data,
        "L8: other bytes at {}",
        record.sequence()
    );
    number
}

impl Outside {
    fn new(path: &Path, clock: &Arc<ManualClock>) -> Self {
        let reader = StreamOptions::new().clock(clock.clone()).open_reader(path).unwrap();
        let lineage = reader.lineage_iterator(Position::TrimHorizon).unwrap();
        let (read, last_of_key) = (BTreeSet::new(), BTreeMap::new());
        Self { reader, shards: BTreeMap::new(), lineage, read, last_of_key, held: VecDeque::new() }
    }

    /// Processes an error, which must be an allowed one. Returns whether there is more to read.
    fn note_error(error: &Error, truth: &mut Truth) {
        match error {
            Error::Trimmed { shard, requested, horizon } => {
                assert!(requested < horizon);
                truth.raise_horizon(shard.get(), horizon.get());
            }
            Error::Lost { shard, first, end } => {
                truth.check_lost(shard.get(), first.get(), end.get());
            }
            error => panic!("L8: {error}"),
        }
    }

    /// Reads shards, up to `batches_max` batches of each.
    fn read_shards(&mut self, truth: &mut Truth, random: &mut Random, batches_max: u64) {
        for shard in self.reader.shards() {
            if let std::collections::btree_map::Entry::Vacant(entry) = self.shards.entry(shard.id.get()) {
                match self.reader.iterator(shard.id, Position::TrimHorizon) {
                    Ok(iterator) => _ = entry.insert(iterator),
                    Err(Error::ShardNotFound(_)) => {}
                    Err(error) => panic!("L8: {error}"),
                }
            }
        }
        let mut finished = vec![];
        for (&shard, iterator) in &mut self.shards {
            for _ in 0..batches_max {
                let next = iterator.next_sequence();
                let end = truth.ends.get(&shard).copied().unwrap_or_default();
                match iterator.next_batch(1 + random.below(40) as usize) {
                    Ok(batch) if batch.is_empty() => {
                        assert!(next.get() >= end, "L8: {shard} has records up to {end}, not {next}");
                        if batch.child_shards().is_some() {
                            finished.push(shard);
                        }
                        break;
                    }
                    Ok(batch) => {
                        assert_eq!(batch.first_sequence(), Some(next), "L8: not dense");
                        for (record, sequence) in batch.iter().zip(next.get()..) {
                            assert_eq!(record.sequence().get(), sequence, "L8: not dense");
                            truth.note((shard, sequence), check_record(&record));
                            truth.arrived.insert((shard, sequence), record.timestamp());
                        }
                        if random.one_in(20) {
                            self.held.push_back((hash(&batch), batch));
                        }
                    }
                    Err(error) => {
                        Self::note_error(&error, truth);
                        let skipped = match error {
                            Error::Trimmed { .. } => iterator.skip_to_horizon(),
                            _ => iterator.skip_lost().unwrap(),
                        };
                        assert!(skipped > 0);
                        truth.raise_horizon_of(iterator);
                    }
                }
            }
        }
        if self.held.len() > 30 {
            self.check_held();
            self.held.drain(..10);
        }
    }

    fn check_held(&self) {
        for (known, batch) in &self.held {
            assert_eq!(hash(batch), *known, "L8: the bytes of a batch have changed");
        }
    }

    /// Reads the whole stream, up to `batches_max` batches.
    fn read_lineage(&mut self, truth: &mut Truth, random: &mut Random, batches_max: u64) {
        for _ in 0..batches_max {
            match self.lineage.next_batch(1 + random.below(60) as usize) {
                Ok(batch) if batch.is_empty() => break,
                Ok(batch) => {
                    for record in &batch {
                        let (number, place) =
                            (check_record(&record), (batch.shard().get(), record.sequence().get()));
                        truth.note(place, number);
                        truth.arrived.insert(place, record.timestamp());
                        assert!(self.read.insert(number), "L8: {number} was read twice");
                        let last = self.last_of_key.insert(record.partition_key().to_vec(), number);
                        assert!(last.is_none_or(|last| last < number), "P4: {last:?} before {number}");
                    }
                }
                Err(error) => {
                    Self::note_error(&error, truth);
                    match error {
                        Error::Trimmed { .. } => assert!(self.lineage.skip_to_horizon() > 0),
                        _ => assert!(self.lineage.skip_lost().unwrap() > 0),
                    }
                    self.note_horizons(truth);
                }
            }
        }
    }

    /// Processes the horizons, to which an iterator may have skipped.
    fn note_horizons(&self, truth: &mut Truth) {
        let stats = self.reader.stats().unwrap();
        for shard in &stats.shards {
            truth.raise_horizon(shard.shard.get(), shard.horizon.get());
        }
        // A shard that has only puts of a killed writer is known from reads.
        let read = truth.puts.keys().map(|place| place.0);
        let shards: BTreeSet<u32> = truth.ends.keys().copied().chain(read).collect();
        for shard in
            shards.into_iter().filter(|shard| !stats.shards.iter().any(|of| of.shard.get() == *shard))
        {
            truth.raise_horizon(shard, u64::MAX);
        }
    }
}

impl Truth {
    fn raise_horizon_of(&mut self, iterator: &ShardIterator) {
        let (shard, next) = (iterator.shard().get(), iterator.next_sequence().get());
        if !self.lost.contains(&(shard, next.saturating_sub(1))) {
            self.raise_horizon(shard, next);
        }
    }
}

impl Model {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let settings = [
            1 + random.below(3),
            [0, 0, 5, 20][random.below(4) as usize],
            [0, 0, 300_000][random.below(3) as usize],
            u64::from(random.one_in(4)),
            u64::from(random.one_in(3)),
        ];
        let mut model = Self {
            scratch: common::scratch(),
            random,
            clock: common::clock(),
            settings,
            writer: None,
            group: None,
            group_ids: BTreeSet::new(),
            group_model: GroupModel::default(),
            truth: Truth::default(),
            put_count: 0,
            open_orders: VecDeque::new(),
            state: BTreeMap::new(),
            lag: BTreeMap::new(),
            parents: BTreeMap::new(),
        };
        model.start(false);
        model.wait_until_open(&mut []);
        model
    }

    fn path(&self) -> PathBuf {
        self.scratch.path().join("stream")
    }

    fn start(&mut self, must_salvage: bool) {
        let mut orders = format!("writer {} {}", self.path().display(), self.clock.now().as_micros());
        for setting in self.settings.into_iter().chain([u64::from(must_salvage)]) {
            write!(orders, " {setting}").unwrap();
        }
        let writer = Process::start(orders);
        self.group_ids.insert(writer.child.id());
        self.writer = Some(writer);
    }

    fn wait_until_open(&mut self, readers: &mut [&mut Outside]) {
        // While the stream is being opened, readers keep their last state.
        loop {
            match self.next_line(Duration::from_micros(200)) {
                Some(line) if line == "open" => return,
                Some(_) => {}
                None => {
                    for reader in readers.iter_mut() {
                        reader.read_shards(&mut self.truth, &mut self.random, 3);
                        reader.read_lineage(&mut self.truth, &mut self.random, 3);
                    }
                }
            }
        }
    }

    /// Processes the next line of the writer, if one arrives in time.
    fn next_line(&mut self, time: Duration) -> Option<String> {
        let line = self.writer.as_ref().unwrap().next_line(time)?;
        self.take_line(&line);
        Some(line)
    }

    fn take_line(&mut self, line: &str) {
        let words: Vec<_> = line.split(' ').collect();
        let number = |at: usize| words[at].parse::<u64>().unwrap();
        match words[0] {
            "put" => {
                let (shard, sequence) = (number(2) as u32, number(3));
                self.truth.note((shard, sequence), number(1));
                let end = self.truth.ends.entry(shard).or_default();
                *end = sequence + 1;
            }
            "done" => _ = self.open_orders.pop_front(),
            "shard" => _ = self.state.insert(number(1) as u32, (number(2), number(3))),
            "lost" => {
                let shard = number(1) as u32;
                self.truth.lost.extend((number(2)..number(3)).map(|sequence| (shard, sequence)));
            }
            "lag" => _ = self.lag.insert(number(1) as u32, (number(2), number(3))),
            "parent" => {
                let parents = self.parents.entry(number(1) as u32).or_default();
                if !parents.contains(&(number(2) as u32)) {
                    parents.push(number(2) as u32);
                }
            }
            "locked" => assert!(self.group_ids.contains(&(number(1) as u32)), "{line}"),
            _ => _ = self.group_model.take(line, self.is_held(), &mut self.truth),
        }
    }

    fn order(&mut self, order: &str, puts: std::ops::Range<u64>) {
        self.truth.sent.extend(puts.clone());
        self.open_orders.push_back(puts);
        self.writer.as_mut().unwrap().order(order);
    }

    /// Processes all lines of the writer so far.
    fn hear(&mut self) {
        while self.next_line(Duration::ZERO).is_some() {}
    }

    fn wait(&mut self) {
        while !self.open_orders.is_empty() {
            assert!(self.next_line(Duration::from_secs(60)).is_some(), "the writer hangs");
        }
    }

    fn random_order(&mut self) {
        let random = self.random.below(1_000);
        let from = self.put_count + 1;
        match self.random.below(100) {
            0..45 => {
                self.put_count += 1;
                self.order(&format!("put {from}"), from..from + 1);
            }
            45..67 => {
                let to = from + 1 + self.random.below(60);
                self.put_count = to - 1;
                self.order(&format!("batch {from} {to}"), from..to);
            }
            67..77 => self.order("maintain", 0..0),
            77..79 => self.order("sync", 0..0),
            79..83 => self.order(&format!("split {random}"), 0..0),
            83..86 => self.order(&format!("merge {random}"), 0..0),
            86..87 => self.order(&format!("scale {}", 1 + random % 4), 0..0),
            // A hold does not keep the owner from trimming.
            87..92 if !self.is_held() => self.order(&format!("trim {random} {}", random % 101), 0..0),
            87..92 => self.order("maintain", 0..0),
            92..98 => {
                let millis = random * 3;
                self.clock.advance(Duration::from_millis(millis));
                self.order(&format!("advance {millis}"), 0..0);
                self.order_group(&format!("advance {millis}"));
            }
            _ => self.order("reopen", 0..0),
        }
    }

    /// Kills the writer at some moment of its orders.
    fn kill(&mut self, readers: &mut [&mut Outside]) {
        for _ in 0..5 + self.random.below(40) {
            self.random_order();
            if self.random.one_in(5) {
                self.group_turn();
            }
        }
        let lines_max = self.random.below(60);
        for _ in 0..lines_max {
            if self.next_line(Duration::from_millis(5)).is_none() && self.open_orders.is_empty() {
                break;
            }
            if self.random.one_in(10) {
                let at = self.random.below(readers.len() as u64) as usize;
                readers[at].read_shards(&mut self.truth, &mut self.random, 5);
                readers[at].read_lineage(&mut self.truth, &mut self.random, 5);
            }
        }
        if self.random.one_in(2) {
            std::thread::sleep(Duration::from_micros(self.random.below(1_500)));
        }
        let lines = self.writer.take().unwrap().kill();
        lines.iter().for_each(|line| self.take_line(line));
        self.group_model.note_kill_of_writer();
        // Only the order in progress may have had an effect.
        let began = self.open_orders.pop_front().unwrap_or_default();
        let sent = std::mem::take(&mut self.truth.sent);
        self.truth.unsure.extend(began.filter(|number| sent.contains(number)));
        self.open_orders.clear();
        // Puts are there before any process opens the stream again.
        for reader in readers.iter_mut() {
            if self.random.one_in(2) {
                reader.read_shards(&mut self.truth, &mut self.random, u64::MAX);
            }
        }
    }

    fn close(&mut self) {
        let lines = self.writer.take().unwrap().quit();
        lines.iter().for_each(|line| self.take_line(line));
    }

    // The group.

    fn is_held(&self) -> bool {
        self.settings[4] == 1
    }

    fn group_turn(&mut self) {
        let random = self.random.below(1_000);
        match self.random.below(16) {
            0..8 => self.order_group(&format!("work {}", 1 + random % 20)),
            8 => self.order_group("leave"),
            9 => self.kill_group(),
            10 => self.close_group(),
            11..14 => self.start_group(),
            _ => self.order(&format!("borrow {random}"), 0..0),
        }
        self.hear_group();
    }

    /// Starts the group's process, and waits until it has the group. The writer's process may have had it before.
    fn start_group(&mut self) {
        if self.group.is_some() {
            return;
        }
        let (path, now, seed) = (self.path(), self.clock.now().as_micros(), self.random.below(u64::MAX));
        let process = Process::start(format!("group {} {now} {seed}", path.display()));
        self.group_ids.insert(process.child.id());
        // The writer reported all its actions with the group before this process had it.
        let mut lines = vec![];
        while lines.last().is_none_or(|line| line != "opened") {
            lines.push(process.next_line(Duration::from_secs(60)).expect("the group does not open"));
        }
        self.wait();
        lines.iter().for_each(|line| self.take_line(line));
        self.group = Some((process, 0));
    }

    fn order_group(&mut self, order: &str) {
        if let Some((process, open_count)) = &mut self.group {
            process.order(order);
            *open_count += 1;
        }
    }

    /// Processes all lines of the group so far.
    fn hear_group(&mut self) {
        while self.next_line_of_group(Duration::ZERO) {}
    }

    fn next_line_of_group(&mut self, time: Duration) -> bool {
        let Some((process, open_count)) = &mut self.group else { return false };
        let Some(line) = process.next_line(time) else { return false };
        *open_count -= usize::from(line == "done");
        self.take_line_of_group(&line);
        true
    }

    fn take_line_of_group(&mut self, line: &str) {
        let is_known = self.group_model.take(line, self.is_held(), &mut self.truth);
        // The child's harness prints how its test went.
        assert!(is_known || ["", "done"].contains(&line) || line.starts_with("test "), "{line}");
    }

    fn wait_for_group(&mut self) {
        while self.group.as_ref().is_some_and(|(_, open_count)| *open_count > 0) {
            assert!(self.next_line_of_group(Duration::from_secs(60)), "the group hangs");
        }
    }

    fn kill_group(&mut self) {
        if self.random.one_in(2) {
            std::thread::sleep(Duration::from_micros(self.random.below(1_500)));
        }
        if let Some((process, _)) = self.group.take() {
            process.kill().iter().for_each(|line| self.take_line_of_group(line));
        }
    }

    fn close_group(&mut self) {
        if let Some((process, _)) = self.group.take() {
            process.quit().iter().for_each(|line| self.take_line_of_group(line));
        }
    }

    /// Compares what all processes report about the group, while it is idle.
    fn check_group(&mut self, outside: &Outside) {
        self.group_model.check(&self.state, &self.lag, self.is_held(), &mut self.truth);
        if let Some((process, _)) = &self.group {
            match outside.reader.group(GROUP).worker().open() {
                Err(Error::Locked(by)) => assert_eq!(by.process_id, Some(process.child.id()), "{by:?}"),
                other => panic!("two processes have the group: {other:?}"),
            }
        }
        if !self.lag.is_empty() {
            let described = outside.reader.group(GROUP).describe().unwrap();
            let of = |shard: &streamlog::GroupShard| {
                (shard.shard.get(), (shard.next_sequence.get(), shard.lag.record_count))
            };
            assert_eq!(described.shards.iter().map(of).collect::<BTreeMap<_, _>>(), self.lag);
        }
    }

    /// Lets the group handle everything left, and checks that it received everything. The handled records are then released.
    fn finish_group(&mut self, outside: &mut Outside) {
        self.start_group();
        self.order_group("drain");
        self.rest(outside);
        assert!(self.lag.values().all(|&(_, record_count)| record_count == 0), "{:?}", self.lag);
        outside.note_horizons(&mut self.truth);
        self.group_model.finish(&self.parents, self.is_held(), &self.truth);
        if self.is_held() && self.settings[1] > 0 {
            let millis = 1_000 * (self.settings[1] + 1);
            self.clock.advance(Duration::from_millis(millis));
            self.order(&format!("advance {millis}"), 0..0);
            self.order_group(&format!("advance {millis}"));
            self.order("maintain", 0..0);
            self.rest(outside);
            let is_released = self.state.values().all(|&(horizon, next)| horizon == next);
            assert!(is_released, "P12: {:?}", self.state);
        }
    }

    /// Damages a segment of the closed stream. Returns whether there was one.
    fn damage(&mut self) -> bool {
        let shards: Vec<_> = self.state.keys().copied().collect();
        let shard = shards[self.random.below(shards.len() as u64) as usize];
        let files: Vec<_> = common::segment_files(&self.path(), shard)
            .into_iter()
            .filter(|file| file.extension().is_some_and(|extension| extension == "seg"))
            .collect();
        let Some(file) = files.get(self.random.below(files.len().max(1) as u64) as usize) else {
            return false;
        };
        let len = file.metadata().unwrap().len();
        if len < 4096 + 400 {
            return false;
        }
        let at = 4096 + self.random.below(len - 4096 - 300);
        let file = std::fs::OpenOptions::new().write(true).open(file).unwrap();
        file.write_all_at(&[0xa5; 200], at).unwrap();
        true
    }

    /// Checks a reader against the writer's report, while the writer is idle.
    fn check(&mut self, outside: &mut Outside) {
        outside.check_held();
        for shard in outside.reader.shards() {
            let (id, known) = (shard.id.get(), self.state.get(&shard.id.get()));
            let &(horizon, next) = known.unwrap_or_else(|| panic!("L8: {id} has expired: {:?}", self.state));
            let latest = outside.reader.iterator(shard.id, Position::Latest).unwrap();
            assert_eq!(latest.next_sequence().get(), next);
            let mut begun = outside.reader.iterator(shard.id, Position::TrimHorizon).unwrap();
            assert_eq!(begun.next_sequence().get(), horizon);
            assert_eq!(begun.lag().unwrap().record_count, next - horizon);
            if horizon < next {
                let at = horizon + self.random.below(next - horizon);
                begun.seek(Position::At(at.into())).unwrap();
                match begun.next_batch(1) {
                    Ok(batch) => {
                        let record = batch.iter().next().expect("L8: it is there");
                        assert_eq!(self.truth.puts.get(&(id, at)), Some(&check_record(&record)));
                        self.check_time(outside, shard.id, record.timestamp());
                    }
                    Err(error) => Outside::note_error(&error, &mut self.truth),
                }
            }
        }
        let stats = outside.reader.stats().unwrap();
        let stats =
            stats.shards.iter().map(|of| (of.shard.get(), (of.horizon.get(), of.next_sequence.get())));
        assert_eq!(stats.collect::<BTreeMap<_, _>>(), self.state);
    }

    fn check_time(&self, outside: &Outside, shard: ShardId, time: Timestamp) {
        let id = shard.get();
        let (horizon, next) = self.state[&id];
        let places = self.truth.arrived.range((id, horizon)..(id, next));
        // Not all were read if a killed writer had not stored a horizon that it had shown.
        let is_lost = |place: &Place| self.truth.lost.contains(place);
        if places.clone().count() as u64 != next - horizon || places.clone().any(|(place, _)| is_lost(place))
        {
            return;
        }
        let expected = places.filter(|&(_, &arrived)| arrived >= time).map(|(place, _)| place.1).next();
        let found = outside.reader.iterator(shard, Position::AtTimestamp(time)).unwrap().next_sequence();
        assert_eq!(Some(found.get()), expected, "L8: {time}");
    }

    /// Lets the writer rest, and compares.
    fn rest(&mut self, keeping_up: &mut Outside) {
        self.wait_for_group();
        self.wait();
        self.state.clear();
        self.lag.clear();
        self.order("state", 0..0);
        self.wait();
        self.check_group(keeping_up);
        keeping_up.read_shards(&mut self.truth, &mut self.random, u64::MAX);
        keeping_up.read_lineage(&mut self.truth, &mut self.random, u64::MAX);
        self.check(keeping_up);
    }

    /// Reads everything left, and checks that nothing was skipped without an error.
    fn finish(&mut self, mut outside: Outside) {
        outside.read_shards(&mut self.truth, &mut self.random, u64::MAX);
        outside.read_lineage(&mut self.truth, &mut self.random, u64::MAX);
        self.check(&mut outside);
        outside.note_horizons(&mut self.truth);
        for (place, number) in &self.truth.puts {
            let is_trimmed = self.truth.horizons.get(&place.0).is_some_and(|&horizon| place.1 < horizon);
            assert!(
                outside.read.contains(number) || is_trimmed || self.truth.lost.contains(place),
                "L8: {number} at {place:?} was skipped: {:?}",
                self.truth.horizons
            );
        }
        let verified = outside.reader.verify(|_| ControlFlow::Continue(())).unwrap();
        assert_eq!(verified.damage, vec![]);
        let lost: u64 = verified.lost.iter().map(|(_, lost)| lost.end.get() - lost.start.get()).sum();
        let expected: u64 = self.state.values().map(|&(horizon, next)| next - horizon).sum();
        assert_eq!(verified.record_count + lost, expected);
    }
}

fn run(seed: u64) {
    let mut model = Model::new(seed);
    let mut keeping_up = Outside::new(&model.path(), &model.clock);
    let mut lagging = Outside::new(&model.path(), &model.clock);
    for _ in 0..4 {
        for _ in 0..8 {
            for _ in 0..model.random.below(8) {
                model.random_order();
            }
            model.group_turn();
            if model.random.one_in(3) {
                model.hear();
                keeping_up.read_shards(&mut model.truth, &mut model.random, 10);
                keeping_up.read_lineage(&mut model.truth, &mut model.random, 10);
            }
            if model.random.one_in(4) {
                lagging.read_shards(&mut model.truth, &mut model.random, 1);
                lagging.read_lineage(&mut model.truth, &mut model.random, 1);
            }
            if model.random.one_in(3) {
                model.rest(&mut keeping_up);
            }
        }
        let must_salvage = model.random.one_in(4);
        if must_salvage {
            model.rest(&mut keeping_up);
            model.close();
            // The damage is also in the bytes of these.
            keeping_up.held.clear();
            lagging.held.clear();
            model.order_group("drop");
            model.wait_for_group();
            model.damage();
        } else {
            model.kill(&mut [&mut keeping_up, &mut lagging]);
        }
        model.start(must_salvage);
        let mut readers = [&mut keeping_up, &mut lagging];
        let readers = if must_salvage { &mut readers[..0] } else { &mut readers[..] };
        model.wait_until_open(readers);
        if model.random.one_in(2) {
            model.rest(&mut keeping_up);
        }
    }
    model.rest(&mut keeping_up);
    model.finish_group(&mut keeping_up);
    model.finish(keeping_up);
    model.finish(lagging);
    model.close_group();
    model.close();
}

fn number_in(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn l8_readers_and_a_group_in_other_processes_see_what_the_model_does() {
    if std::env::var(CHILD).is_ok() {
        return;
    }
    let count = number_in("STREAMLOG_SEQUENCES").unwrap_or(14);
    let seeds = match number_in("STREAMLOG_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..count,
    };
    for seed in seeds {
        let sequence = std::panic::catch_unwind(|| run(seed));
        if let Err(panic) = sequence {
            eprintln!("repeat it with STREAMLOG_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}
