//! A broker with transactions as Kafka has them: epochs that fence, records that only committed transactions show, and offsets that go with them.
//!
//! librdkafka's own test cluster answers transaction requests, but stores nothing of them. This one speaks old versions of the protocol, from
//! before it became flexible, which clients fall back to. It has one node, keeps everything in memory, and can lose requests and answers.

use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

/// A running broker. It runs until the process ends.
#[derive(Clone)]
pub struct Broker {
    shared: Arc<Shared>,
    port: u16,
}

struct Shared {
    state: Mutex<State>,
    appended: Condvar,
    /// One in this many requests breaks its connection: before it is handled, or before it is answered.
    breaks_every: AtomicU32,
}

#[derive(Default)]
struct State {
    topics: BTreeMap<String, Vec<Vec<Stored>>>,
    producers: HashMap<i64, Producer>,
    /// The producer of each transactional id.
    ids: HashMap<String, i64>,
    offsets: HashMap<(String, String, i32), (i64, String)>,
    refused_bytes: Option<usize>,
    refuses_times: bool,
    dice: u64,
}

/// A topic, and the number of a partition of it.
type Partition = (String, i32);
/// A group, and a partition.
type GroupPartition = (String, String, i32);
/// The next expected sequence number, and those of the batches before it, with their offsets.
type Sequences = (i32, Vec<(i32, i64)>);

#[derive(Default)]
struct Producer {
    epoch: i16,
    sequences: HashMap<Partition, Sequences>,
    open: Option<Transaction>,
}

#[derive(Default)]
struct Transaction {
    partitions: Vec<Partition>,
    /// By group, topic and partition: offsets with their metadata.
    offsets: Vec<(GroupPartition, (i64, String))>,
}

/// A batch of records.
struct Stored {
    base: i64,
    next: i64,
    bytes: Vec<u8>,
    producer: i64,
    status: Status,
}

impl Stored {
    /// Returns the time and the offset of each record. The records must not be compressed.
    fn times(&self) -> Vec<(i64, i64)> {
        let mut header = Reader(&self.bytes[21..]);
        assert_eq!(header.i16() & 7, 0, "the records are compressed");
        let (_last_delta, first_time) = (header.i32(), header.i64());
        let mut records = Reader(&self.bytes[57..]);
        let count = records.i32();
        let record = |_| {
            let length = records.varint();
            let mut record = Reader(records.slice(length as usize));
            let _attributes = record.i8();
            (first_time + record.varint(), self.base + record.varint())
        };
        (0..count).map(record).collect()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Status {
    Open,
    Committed,
    Aborted,
}

const OFFSET_OUT_OF_RANGE: i16 = 1;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const MESSAGE_TOO_LARGE: i16 = 10;
const UNSUPPORTED_FOR_MESSAGE_FORMAT: i16 = 43;
const OUT_OF_ORDER_SEQUENCE_NUMBER: i16 = 45;
const INVALID_PRODUCER_EPOCH: i16 = 47;
const INVALID_TXN_STATE: i16 = 48;

impl Broker {
    pub fn new(topics: &[(&str, usize)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut state = State::default();
        for (topic, partitions) in topics {
            state.topics.insert((*topic).to_owned(), (0..*partitions).map(|_| vec![]).collect());
        }
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            appended: Condvar::new(),
            breaks_every: AtomicU32::new(0),
        });
        let broker = Self { shared, port };
        let serving = broker.clone();
        thread::spawn(move || {
            for connection in listener.incoming() {
                let (broker, connection) = (serving.clone(), connection.unwrap());
                thread::spawn(move || broker.serve(connection));
            }
        });
        broker
    }

    pub fn servers(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Breaks a connection at one in this many requests, at random. Zero: at none.
    pub fn break_connections(&self, every: u32) {
        self.shared.breaks_every.store(every, Ordering::Relaxed);
    }

    /// Refuses a request to a partition if it has a byte sequence of this length in a row that is all `x`.
    pub fn refuse_rows_of_x(&self, bytes: usize) {
        self.state().refused_bytes = Some(bytes);
    }

    /// Refuses to find offsets by time, as for messages of a format without timestamps.
    pub fn refuse_times(&self, refuse: bool) {
        self.state().refuses_times = refuse;
    }

    /// Drops the oldest batches of a partition, as retention does, and leaves this many.
    pub fn trim(&self, topic: &str, partition: usize, left: usize) {
        let mut state = self.state();
        let batches = &mut state.topics.get_mut(topic).unwrap()[partition];
        let dropped = batches.len() - left;
        batches.drain(..dropped);
    }

    /// Deletes a topic, and creates it again.
    pub fn create_again(&self, topic: &str) {
        self.state().topics.get_mut(topic).unwrap().iter_mut().for_each(Vec::clear);
    }

    /// Forgets the offsets of all groups.
    pub fn forget_offsets(&self) {
        self.state().offsets.clear();
    }

    /// Returns the offset that a group, or a transaction for it, has committed.
    pub fn committed_offset(&self, group: &str, topic: &str, partition: i32) -> Option<i64> {
        let place = (group.to_owned(), topic.to_owned(), partition);
        self.state().offsets.get(&place).map(|(offset, _)| *offset)
    }

    /// Returns how many records committed transactions and plain producers have put into a topic.
    pub fn committed_records(&self, topic: &str) -> i64 {
        let state = self.state();
        let batches = state.topics[topic].iter().flatten();
        batches.filter(|batch| batch.status == Status::Committed).map(|batch| batch.next - batch.base).sum()
    }

    /// Returns how many records of aborted transactions a topic has.
    pub fn aborted_records(&self, topic: &str) -> i64 {
        let state = self.state();
        let batches = state.topics[topic].iter().flatten();
        batches.filter(|batch| batch.status == Status::Aborted).map(|batch| batch.next - batch.base).sum()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap()
    }

    /// Answers the requests of a connection, until it ends.
    fn serve(&self, mut connection: TcpStream) -> Option<()> {
        connection.set_nodelay(true).ok()?;
        loop {
            let mut length = [0; 4];
            connection.read_exact(&mut length).ok()?;
            let mut request = vec![0; u32::from_be_bytes(length) as usize];
            connection.read_exact(&mut request).ok()?;
            let mut request = Reader(&request);
            let (key, version, correlation) = (request.i16(), request.i16(), request.i32());
            request.string();
            let is_broken = self.is_broken();
            if is_broken == Some(true) {
                return None;
            }
            let mut answer = Writer(vec![0; 4]);
            answer.i32(correlation);
            self.answer(key, version, &mut request, &mut answer);
            if is_broken.is_some() {
                return None;
            }
            let length = (answer.0.len() - 4) as u32;
            answer.0[..4].copy_from_slice(&length.to_be_bytes());
            connection.write_all(&answer.0).ok()?;
        }
    }

    /// Returns whether the connection breaks at this request, and whether before it is handled.
    fn is_broken(&self) -> Option<bool> {
        let every = self.shared.breaks_every.load(Ordering::Relaxed);
        let mut state = self.state();
        state.dice = state.dice.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        let throw = (state.dice >> 33) as u32;
        (every > 0 && throw.is_multiple_of(every)).then(|| (throw / every).is_multiple_of(2))
    }

    fn answer(&self, key: i16, version: i16, request: &mut Reader<'_>, answer: &mut Writer) {
        match key {
            0 => self.produce(request, answer),
            1 => self.fetch(request, answer),
            2 => self.list_offsets(version, request, answer),
            3 => self.metadata(request, answer),
            8 => self.commit_offsets(request, answer),
            9 => self.fetch_offsets(request, answer),
            10 => {
                answer.i32(0);
                answer.i16(0);
                answer.nullable(None);
                answer.i32(1);
                answer.string("127.0.0.1");
                answer.i32(self.port.into());
            }
            18 => {
                // Unknown versions are answered in the first version's format.
                answer.i16(if version > 0 { 35 } else { 0 });
                answer.list(&API_VERSIONS, |answer, &(key, version)| {
                    answer.i16(key);
                    answer.i16(0);
                    answer.i16(version);
                });
            }
            22 => self.init_producer(request, answer),
            24 => self.add_partitions(request, answer),
            25 => {
                let (id, producer, epoch) = (request.string(), request.i64(), request.i16());
                answer.i32(0);
                answer.i16(self.state().check(&id, producer, epoch));
            }
            26 => {
                let (id, producer, epoch) = (request.string(), request.i64(), request.i16());
                let is_commit = request.i8() != 0;
                let mut state = self.state();
                let error = state.check(&id, producer, epoch);
                if error == 0 {
                    state.end(producer, is_commit);
                    self.shared.appended.notify_all();
                }
                answer.i32(0);
                answer.i16(error);
            }
            28 => self.add_offsets(request, answer),
            _ => panic!("nothing here sends request {key}"),
        }
    }

    fn produce(&self, request: &mut Reader<'_>, answer: &mut Writer) {
        let (id, _acks, _timeout) = (request.nullable(), request.i16(), request.i32());
        let mut state = self.state();
        request.answer_partitions(answer, |request, answer, topic, partition| {
            let batch = request.bytes();
            let outcome = state.append(id.as_deref(), topic, partition, batch);
            let (error, offset) = outcome.map_or_else(|error| (error, -1), |offset| (0, offset));
            answer.i16(error);
            answer.i64(offset);
            answer.i64(-1);
        });
        answer.i32(0);
        self.shared.appended.notify_all();
    }

    fn fetch(&self, request: &mut Reader<'_>, answer: &mut Writer) {
        let (_replica, wait, _min, _max) = (request.i32(), request.i32(), request.i32(), request.i32());
        let is_committed_only = request.i8() == 1;
        let until = Instant::now() + Duration::from_millis(wait as u64);
        let mut state = self.state();
        loop {
            let (mut again, mut body) = (Reader(request.0), Writer(vec![]));
            let mut found = 0;
            again.answer_partitions(&mut body, |request, answer, topic, partition| {
                let (from, bytes_max) = (request.i64(), request.i32() as usize);
                let batches = state.partition(topic, partition);
                let known = batches.map_or(&[][..], |batches| batches);
                let is_inside = (start(known)..=end(known)).contains(&from);
                answer.i16(match (batches, is_inside) {
                    (None, _) => UNKNOWN_TOPIC_OR_PARTITION,
                    (_, false) => OFFSET_OUT_OF_RANGE,
                    _ => 0,
                });
                let batches = known;
                answer.i64(end(batches));
                answer.i64(stable_end(batches));
                answer.i32(0);
                let mut bytes = vec![];
                for batch in batches.iter().filter(|batch| batch.next > from) {
                    if is_committed_only && batch.base >= stable_end(batches) || bytes.len() > bytes_max {
                        break;
                    }
                    if !is_committed_only || batch.status == Status::Committed {
                        bytes.extend_from_slice(&batch.bytes);
                    }
                }
                found += bytes.len();
                answer.bytes(&bytes);
            });
            let left = until.saturating_duration_since(Instant::now());
            if found > 0 || left.is_zero() {
                answer.i32(0);
                answer.0.extend_from_slice(&body.0);
                return;
            }
            state = self.shared.appended.wait_timeout(state, left).unwrap().0;
        }
    }

    fn list_offsets(&self, version: i16, request: &mut Reader<'_>, answer: &mut Writer) {
        let _replica = request.i32();
        if version >= 2 {
            let _isolation = request.i8();
            answer.i32(0);
        }
        let state = self.state();
        request.answer_partitions(answer, |request, answer, topic, partition| {
            let time = request.i64();
            let batches = state.partition(topic, partition);
            answer.i16(match batches {
                None => UNKNOWN_TOPIC_OR_PARTITION,
                Some(_) if time >= 0 && state.refuses_times => UNSUPPORTED_FOR_MESSAGE_FORMAT,
                Some(_) => 0,
            });
            let batches = batches.map_or(&[][..], Vec::as_slice);
            let (found_time, offset) = match time {
                _ if time >= 0 && state.refuses_times => (-1, -1),
                -2 => (-1, start(batches)),
                -1 => (-1, stable_end(batches)),
                _ => batches.iter().flat_map(Stored::times).find(|found| found.0 >= time).unwrap_or((-1, -1)),
            };
            answer.i64(found_time);
            answer.i64(offset);
        });
    }

    fn metadata(&self, request: &mut Reader<'_>, answer: &mut Writer) {
        let state = self.state();
        let asked = match request.i32() {
            -1 => state.topics.keys().cloned().collect(),
            count => (0..count).map(|_| request.string()).collect::<Vec<_>>(),
        };
        answer.i32(0);
        answer.list(&[()], |answer, ()| {
            answer.i32(1);
            answer.string("127.0.0.1");
            answer.i32(self.port.into());
            answer.nullable(None);
        });
        answer.nullable(Some("of-tests"));
        answer.i32(1);
        answer.list(&asked, |answer, topic| {
            let partitions = state.topics.get(topic).map_or(0, Vec::len);
            answer.i16(if partitions == 0 { UNKNOWN_TOPIC_OR_PARTITION } else { 0 });
            answer.string(topic);
            answer.i8(0);
            answer.list(&(0..partitions as i32).collect::<Vec<_>>(), |answer, &partition| {
                answer.i16(0);
                answer.i32(partition);
                answer.i32(1);
                answer.list(&[1], |answer, &node| answer.i32(node));
                answer.list(&[1], |answer, &node| answer.i32(node));
            });
        });
    }

    fn commit_offsets(&self, request: &mut Reader<'_>, answer: &mut Writer) {
        let (group, _generation, _member) = (request.string(), request.i32(), request.string());
        let _retention = request.i64();
        let mut state = self.state();
        request.answer_partitions(answer, |request, answer, topic, partition| {
            let (offset, metadata) = (request.i64(), request.nullable().unwrap_or_default());
            state.offsets.insert((group.clone(), topic.to_owned(), partition), (offset, metadata));
            answer.i16(0);
        });
    }

    fn fetch_offsets(&self, request: &mut Reader<'_>, answer: &mut Writer) {
        let group = request.string();
        let state = self.state();
        request.answer_partitions(answer, |_, answer, topic, partition| {
            let found = state.offsets.get(&(group.clone(), topic.to_owned(), partition));
            answer.i64(found.map_or(-1, |(offset, _)| *offset));
            answer.string(found.map_or("", |(_, metadata)| metadata));
            answer.i16(0);
        });
    }

    fn init_producer(&self, request: &mut Reader<'_>, answer: &mut Writer) {
        let id = request.nullable();
        let mut state = self.state();
        let known = id.as_ref().and_then(|id| state.ids.get(id).copied());
        let producer = known.unwrap_or(1_000 + state.producers.len() as i64);
        // The predecessor's transaction is aborted, and its later requests are refused.
        state.end(producer, false);
        let entry =
            state.producers.entry(producer).or_insert_with(|| Producer { epoch: -1, ..Producer::default() });
        entry.epoch += 1;
        entry.sequences.clear();
        let epoch = entry.epoch;
        if let Some(id) = id {
            state.ids.insert(id, producer);
        }
        self.shared.appended.notify_all();
        answer.i32(0);
        answer.i16(0);
        answer.i64(producer);
        answer.i16(epoch);
    }

    fn add_partitions(&self, request: &mut Reader<'_>, answer: &mut Writer) {
        let (id, producer, epoch) = (request.string(), request.i64(), request.i16());
        let mut state = self.state();
        let error = state.check(&id, producer, epoch);
        answer.i32(0);
        request.answer_partitions(answer, |_, answer, topic, partition| {
            if error == 0 {
                let open = &mut state.producers.get_mut(&producer).unwrap().open;
                open.get_or_insert_default().partitions.push((topic.to_owned(), partition));
            }
            answer.i16(error);
        });
    }

    fn add_offsets(&self, request: &mut Reader<'_>, answer: &mut Writer) {
        let (id, group) = (request.string(), request.string());
        let (producer, epoch) = (request.i64(), request.i16());
        let mut state = self.state();
        let error = state.check(&id, producer, epoch);
        answer.i32(0);
        request.answer_partitions(answer, |request, answer, topic, partition| {
            let (offset, metadata) = (request.i64(), request.nullable().unwrap_or_default());
            if error == 0 {
                let open = &mut state.producers.get_mut(&producer).unwrap().open;
                let place = (group.clone(), topic.to_owned(), partition);
                open.get_or_insert_default().offsets.push((place, (offset, metadata)));
            }
            answer.i16(error);
        });
    }
}

/// The requests that this broker knows, each with the highest version. Group requests are included because clients ask for them.
const API_VERSIONS: [(i16, i16); 17] = [
    (0, 3),
    (1, 4),
    (2, 2),
    (3, 4),
    (8, 2),
    (9, 1),
    (10, 1),
    (11, 0),
    (12, 0),
    (13, 0),
    (14, 0),
    (18, 0),
    (22, 0),
    (24, 0),
    (25, 0),
    (26, 0),
    (28, 0),
];

fn start(batches: &[Stored]) -> i64 {
    batches.first().map_or(0, |batch| batch.base)
}

fn end(batches: &[Stored]) -> i64 {
    batches.last().map_or(0, |batch| batch.next)
}

/// Returns where the first open transaction begins.
fn stable_end(batches: &[Stored]) -> i64 {
    let open = batches.iter().find(|batch| batch.status == Status::Open);
    open.map_or_else(|| end(batches), |batch| batch.base)
}

impl State {
    fn partition(&self, topic: &str, partition: i32) -> Option<&Vec<Stored>> {
        self.topics.get(topic)?.get(partition as usize)
    }

    /// Returns an error if a producer is not the newest with its transactional id.
    fn check(&self, id: &str, producer: i64, epoch: i16) -> i16 {
        let is_current = self.ids.get(id) == Some(&producer)
            && self.producers.get(&producer).is_some_and(|producer| producer.epoch == epoch);
        if is_current { 0 } else { INVALID_PRODUCER_EPOCH }
    }

    fn append(&mut self, id: Option<&str>, topic: &str, partition: i32, bytes: &[u8]) -> Result<i64, i16> {
        let mut header = Reader(&bytes[23..]);
        let last_delta = header.i32();
        let (_first, _max) = (header.i64(), header.i64());
        let (producer, epoch, sequence) = (header.i64(), header.i16(), header.i32());
        let batches = self.topics.get_mut(topic).and_then(|topic| topic.get_mut(partition as usize));
        let batches = batches.ok_or(UNKNOWN_TOPIC_OR_PARTITION)?;
        if let Some(row) = self.refused_bytes
            && bytes.windows(row).any(|window| window.iter().all(|&byte| byte == b'x'))
        {
            return Err(MESSAGE_TOO_LARGE);
        }
        let base = end(batches);
        let mut status = Status::Committed;
        if let Some(known) = self.producers.get_mut(&producer) {
            if id.is_none() && epoch > known.epoch {
                // A producer without transactions raises its epoch itself, after a failure that leaves a gap.
                known.epoch = epoch;
                known.sequences.clear();
            }
            if known.epoch != epoch {
                return Err(INVALID_PRODUCER_EPOCH);
            }
            if id.is_some() {
                let place = (topic.to_owned(), partition);
                if known.open.as_ref().is_none_or(|open| !open.partitions.contains(&place)) {
                    return Err(INVALID_TXN_STATE);
                }
                status = Status::Open;
            }
            let place = known.sequences.entry((topic.to_owned(), partition)).or_default();
            if let Some(&(_, offset)) = place.1.iter().rev().take(5).find(|(known, _)| *known == sequence) {
                return Ok(offset);
            }
            if sequence != place.0 {
                return Err(OUT_OF_ORDER_SEQUENCE_NUMBER);
            }
            place.0 = sequence + last_delta + 1;
            place.1.push((sequence, base));
        }
        let mut bytes = bytes.to_vec();
        bytes[..8].copy_from_slice(&base.to_be_bytes());
        batches.push(Stored { base, next: base + i64::from(last_delta) + 1, bytes, producer, status });
        Ok(base)
    }

    /// Ends the transaction of a producer, if it has one.
    fn end(&mut self, producer: i64, is_commit: bool) {
        let Some(open) = self.producers.get_mut(&producer).and_then(|producer| producer.open.take()) else {
            return;
        };
        let status = if is_commit { Status::Committed } else { Status::Aborted };
        let batches = self.topics.values_mut().flatten().flatten();
        for batch in batches.filter(|batch| batch.producer == producer && batch.status == Status::Open) {
            batch.status = status;
        }
        if is_commit {
            self.offsets.extend(open.offsets);
        }
    }
}

/// Reads a request.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (taken, rest) = self.0.split_first_chunk().expect("the request is whole");
        self.0 = rest;
        *taken
    }

    fn i8(&mut self) -> i8 {
        i8::from_be_bytes(self.take())
    }

    fn i16(&mut self) -> i16 {
        i16::from_be_bytes(self.take())
    }

    fn i32(&mut self) -> i32 {
        i32::from_be_bytes(self.take())
    }

    fn i64(&mut self) -> i64 {
        i64::from_be_bytes(self.take())
    }

    /// Seven bits in each byte, the lowest first; the sign is the lowest bit of all.
    fn varint(&mut self) -> i64 {
        let (mut value, mut shift) = (0, 0);
        loop {
            let byte = self.i8();
            value |= i64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte >= 0 {
                return (value >> 1) ^ -(value & 1);
            }
        }
    }

    fn slice(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length);
        self.0 = rest;
        taken
    }

    fn nullable(&mut self) -> Option<String> {
        let length = usize::try_from(self.i16()).ok()?;
        Some(String::from_utf8(self.slice(length).to_vec()).expect("texts are UTF-8"))
    }

    fn string(&mut self) -> String {
        self.nullable().unwrap_or_default()
    }

    fn bytes(&mut self) -> &'a [u8] {
        let length = self.i32();
        self.slice(usize::try_from(length).unwrap_or_default())
    }

    /// Reads topics with partitions, and answers each of them.
    fn answer_partitions(
        &mut self,
        answer: &mut Writer,
        mut partition: impl FnMut(&mut Self, &mut Writer, &str, i32),
    ) {
        let topics = self.i32();
        answer.i32(topics);
        for _ in 0..topics {
            let topic = self.string();
            answer.string(&topic);
            let partitions = self.i32();
            answer.i32(partitions);
            for _ in 0..partitions {
                let number = self.i32();
                answer.i32(number);
                partition(self, answer, &topic, number);
            }
        }
    }
}

/// Writes an answer.
struct Writer(Vec<u8>);

impl Writer {
    fn i8(&mut self, value: i8) {
        self.0.extend(value.to_be_bytes());
    }

    fn i16(&mut self, value: i16) {
        self.0.extend(value.to_be_bytes());
    }

    fn i32(&mut self, value: i32) {
        self.0.extend(value.to_be_bytes());
    }

    fn i64(&mut self, value: i64) {
        self.0.extend(value.to_be_bytes());
    }

    fn nullable(&mut self, text: Option<&str>) {
        self.i16(text.map_or(-1, |text| text.len() as i16));
        self.0.extend(text.unwrap_or_default().as_bytes());
    }

    fn string(&mut self, text: &str) {
        self.nullable(Some(text));
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.i32(bytes.len() as i32);
        self.0.extend(bytes);
    }

    fn list<T>(&mut self, items: &[T], mut item: impl FnMut(&mut Self, &T)) {
        self.i32(items.len() as i32);
        items.iter().for_each(|one| item(self, one));
    }
}
