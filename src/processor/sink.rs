//! A sink: puts what a processor makes of its records into another stream, each exactly once.
//!
//! Each record that a sink puts carries the place of the record that it was made of, in a header. Puts for records that the processor has not
//! committed may be repeated, after a failure or a crash. So the sink remembers their places, and after a crash it reads them back from the
//! output, from a **floor** on.
//!
//! **Raising the floor:** the group's commits are looked up → places below them are forgotten → the floor becomes, in each shard of the output, the
//! first record whose place is still remembered, or the end → it is written to a journal. A crash anywhere leaves the old floor or the new one,
//! and nothing that may be asked for again lies below either.

use std::collections::{BTreeMap, HashMap};

use parking_lot::{Condvar, Mutex, RwLock};

use crate::extend::{self, StreamsInside};
use crate::{
    Error, Group, Journal, JournalOptions, Position, PutRecord, Receipt, Record, Result, SequenceNumber,
    ShardId, Stream, StreamReader,
};

/// The header that says what a record was made of.
const ORIGIN: &str = "origin";
/// The floor is raised after this many puts, or when the places have doubled since.
const PUTS_BETWEEN_FLOORS: usize = 1_000;
/// The floor is written anew after this many bytes.
const JOURNAL_BYTES_MAX: u64 = 64 << 10;
const SEGMENT_BYTES: u64 = 1 << 20;

/// The origin of an output record: a record of the input, and a number that distinguishes several that were made of it.
type Origin = (ShardId, SequenceNumber, u32);
type Positions = BTreeMap<ShardId, SequenceNumber>;

/// Puts the results of a processor into another stream, each exactly once, even if the function is called again after a failure, or the process dies
/// at any moment.
///
/// The function must be repeatable: for the same record, it must make the same records with the same indexes. Open the sink before you start the
/// processor, and do not use its name for any other puts.
///
/// ```
/// # use std::sync::Arc;
/// # use streamlog::{Position, PutRecord, Sink, Stream};
/// # let directory = tempfile::tempdir()?;
/// # let orders = Stream::open(directory.path().join("orders"))?;
/// # let invoices = Stream::open(directory.path().join("invoices"))?;
/// # orders.put("user-17", "17.00")?;
/// let sink = Arc::new(Sink::open(&invoices, &orders.group("invoices"))?);
/// let function = Arc::clone(&sink);
/// let processor = orders.processor("invoices").start(move |invocation| {
///     for order in invocation.records() {
///         let invoice = format!("to be paid: {}", String::from_utf8_lossy(order.data()));
///         function.put(invocation.shard(), order.sequence(), 0, &PutRecord::new(order.partition_key(), &invoice))?;
///     }
///     Ok::<_, streamlog::Error>(())
/// })?;
/// # while processor.stats().records < 1 { std::thread::yield_now(); }
/// processor.close()?;
/// # let batch = invoices.iterator(invoices.shards()[0].id, Position::TrimHorizon)?.next_batch(10)?;
/// # assert_eq!(batch.iter().next().expect("an invoice").data(), b"to be paid: 17.00");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Durability
/// Exactly once holds whatever happens to the process. Power loss may lose unsynced records of one stream and not of the other. To be exactly once
/// after power loss, both streams need [`Durability::Power`](crate::Durability::Power).
#[derive(Debug)]
pub struct Sink {
    output: Stream,
    group: Group,
    journal: Journal,
    /// A put locks it for reading. Raising the floor locks it for writing, because it looks at the ends of the shards.
    gate: RwLock<()>,
    places: Mutex<Places>,
    /// Notified when a put ends.
    ended: Condvar,
}

#[derive(Debug, Default)]
struct Places {
    /// What was put, or is being put, for records that the group has not committed.
    known: HashMap<Origin, Option<Receipt>>,
    /// How far the group was in each shard that it had not finished.
    committed: Positions,
    /// Raise the floor once this many are known.
    raise_at: usize,
}

impl Places {
    /// Returns whether the group has committed a record.
    fn is_committed(&self, shard: ShardId, sequence: SequenceNumber) -> bool {
        match self.committed.get(&shard) {
            Some(&committed) => sequence < committed,
            // The newest shard of a stream is open, so it is not finished. A shard that is older and not listed is.
            None => self.committed.last_key_value().is_some_and(|(&newest, _)| shard < newest),
        }
    }

    fn forget_committed(&mut self) {
        let known = std::mem::take(&mut self.known);
        let is_open = |&((shard, sequence, _), receipt): &(Origin, Option<Receipt>)| {
            receipt.is_none() || !self.is_committed(shard, sequence)
        };
        self.known = known.into_iter().filter(is_open).collect();
    }
}

/// Returns the journals of a stream's sinks.
fn sinks_of(output: &StreamReader) -> StreamsInside<'_> {
    extend::streams_inside(output, "sinks")
}

impl Sink {
    /// Opens the sink of a processor into a stream, under the name of the processor's group. It reads back what was put for records that the group
    /// has not committed: about a thousand records, or as many as are in work.
    ///
    /// # Errors
    /// `Locked` if another process has it open; `Corrupt`, `Closed`, `StorageFull`, `Io`.
    pub fn open(output: &Stream, group: &Group) -> Result<Self> {
        extend::check_name("a sink", group.name())?;
        let options = JournalOptions { segment_bytes: SEGMENT_BYTES, salvage: false };
        let read = |floor: &mut Option<Positions>, record: &Record<'_>| {
            *floor = decode(record.data());
            floor.is_some()
        };
        let (journal, floor) = Journal::open(output, sinks_of(output), group.name(), options, read)?;
        extend::add_companion(output, journal.log().clone())?;
        let sink = Self {
            output: output.clone(),
            group: group.clone(),
            journal,
            gate: RwLock::default(),
            places: Mutex::default(),
            ended: Condvar::new(),
        };
        match floor {
            Some(floor) => sink.read_back(&floor)?,
            // It is new: existing records are not its own.
            None => sink.write(&sink.ends()?)?,
        }
        sink.raise_floor()?;
        Ok(sink)
    }

    /// Puts a result for the record of the input at `sequence` in `shard`, unless this was done before. `index` distinguishes several results of one
    /// record. Returns where the result is.
    ///
    /// The result gets a header `origin`.
    ///
    /// # Errors
    /// Same as [`Stream::put_record`]; `InvalidArgument` if the group has already committed the record of the input, as can happen when this call
    /// exceeds the processor's time limit.
    pub fn put(
        &self,
        shard: ShardId,
        sequence: SequenceNumber,
        index: u32,
        record: &PutRecord<'_>,
    ) -> Result<Receipt> {
        let origin = (shard, sequence, index);
        if let Some(receipt) = self.claim(origin)? {
            return Ok(receipt);
        }
        let header = format!("{} {shard} {sequence} {index}", self.group.name());
        let gate = self.gate.read();
        let put = self.output.put_record(&record.clone().header(ORIGIN, header.as_bytes()));
        let mut places = self.places.lock();
        match &put {
            Ok(receipt) => places.known.insert(origin, Some(*receipt)),
            Err(_) => places.known.remove(&origin),
        };
        let is_due = places.known.len() >= places.raise_at;
        drop((places, gate));
        self.ended.notify_all();
        if is_due {
            self.raise_floor()?;
        }
        put
    }

    /// Claims a put for the caller. Returns its receipt if it was put before. If another call is putting it, waits for that call.
    fn claim(&self, origin: Origin) -> Result<Option<Receipt>> {
        let (shard, sequence, _) = origin;
        let mut places = self.places.lock();
        loop {
            if places.is_committed(shard, sequence) {
                let reason = format!(
                    "record {sequence} of {shard} is done: the group {:?} has committed it",
                    self.group.name()
                );
                return Err(Error::InvalidArgument(reason.into()));
            }
            match places.known.get(&origin) {
                Some(Some(receipt)) => return Ok(Some(*receipt)),
                Some(None) => self.ended.wait(&mut places),
                None => {
                    places.known.insert(origin, None);
                    return Ok(None);
                }
            }
        }
    }

    /// Reads back what was put, from the floor on.
    fn read_back(&self, floor: &Positions) -> Result<()> {
        let mut places = self.places.lock();
        for shard in self.output.shards() {
            let from = floor.get(&shard.id).map_or(Position::TrimHorizon, |&from| Position::At(from));
            let iterator = match self.output.iterator(shard.id, from) {
                Err(Error::Trimmed { .. }) => self.output.iterator(shard.id, Position::TrimHorizon),
                iterator => iterator,
            };
            let mut iterator = extend::unlimited(iterator?);
            loop {
                let batch = match iterator.next_batch(1_000) {
                    Err(Error::Trimmed { .. }) => {
                        iterator.skip_to_horizon();
                        continue;
                    }
                    batch => batch?,
                };
                if batch.is_empty() {
                    break;
                }
                for record in &batch {
                    if let Some(origin) = self.origin_of(&record) {
                        let (sequence, timestamp) = (record.sequence(), record.timestamp());
                        places.known.insert(origin, Some(Receipt { shard: shard.id, sequence, timestamp }));
                    }
                }
            }
        }
        Ok(())
    }

    fn origin_of(&self, record: &Record<'_>) -> Option<Origin> {
        // A function may have passed on the headers of a record that another sink had put.
        let mut origins = record.headers().filter(|(name, _)| *name == ORIGIN);
        origins.find_map(|(_, origin)| self.read_origin(origin))
    }

    fn read_origin(&self, origin: &[u8]) -> Option<Origin> {
        let mut words = std::str::from_utf8(origin).ok()?.split(' ');
        if words.next()? != self.group.name() {
            return None;
        }
        let shard = words.next()?.parse().ok()?;
        let sequence: u64 = words.next()?.parse().ok()?;
        let index = words.next()?.parse().ok()?;
        Some((shard, sequence.into(), index))
    }

    /// Forgets what the group has committed, and writes the place from which the rest has to be read back.
    fn raise_floor(&self) -> Result<()> {
        let _gate = self.gate.write();
        let committed = self.committed()?;
        let mut floor = self.ends()?;
        let mut places = self.places.lock();
        places.committed = committed;
        places.forget_committed();
        for receipt in places.known.values().flatten() {
            let floor = floor.entry(receipt.shard).or_insert(receipt.sequence);
            *floor = (*floor).min(receipt.sequence);
        }
        places.raise_at = (2 * places.known.len()).max(PUTS_BETWEEN_FLOORS);
        drop(places);
        self.write(&floor)
    }

    /// Returns how far the group is in each shard that it has not finished. If it is new, there is none.
    fn committed(&self) -> Result<Positions> {
        match self.group.describe() {
            Ok(group) => Ok(group.shards.iter().map(|shard| (shard.shard, shard.next_sequence)).collect()),
            Err(Error::InvalidArgument(_)) => Ok(Positions::new()),
            Err(error) => Err(error),
        }
    }

    /// Returns where each shard of the output ends.
    fn ends(&self) -> Result<Positions> {
        let end =
            |shard: ShardId| Ok((shard, self.output.iterator(shard, Position::Latest)?.next_sequence()));
        self.output.shards().into_iter().map(|shard| end(shard.id)).collect()
    }

    fn write(&self, floor: &Positions) -> Result<()> {
        let data = encode(floor);
        if self.journal.bytes() >= JOURNAL_BYTES_MAX.max(4 * data.len() as u64) {
            return self.journal.restate([("floor", data)]);
        }
        self.journal.put("floor", data)
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        extend::remove_companion(&self.output, self.journal.log());
        let _ = self.journal.close();
    }
}

fn encode(floor: &Positions) -> Vec<u8> {
    let floor: BTreeMap<String, u64> =
        floor.iter().map(|(shard, sequence)| (shard.to_string(), sequence.get())).collect();
    serde_json::to_vec(&floor).expect("texts and numbers always serialize")
}

fn decode(data: &[u8]) -> Option<Positions> {
    let floor: BTreeMap<String, u64> = serde_json::from_slice(data).ok()?;
    floor.into_iter().map(|(shard, sequence)| Some((shard.parse().ok()?, sequence.into()))).collect()
}
