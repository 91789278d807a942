//! The state of a pump that survives a restart: a journal of its cycles.
//!
//! A cycle is written as records with its parts, such as the rows that it added and the rows that it puts, followed by a last record with all
//! positions and the number of records that belong to the cycle. Records without such a last one are from a cycle that a crash has cut off, and are
//! ignored.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, BinaryArray, RecordBatch, UInt32Array, UInt64Array};
use datafusion::arrow::datatypes::{DataType, Field, Schema, UInt32Type, UInt64Type};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::ipc::reader::StreamReader as IpcReader;
use datafusion::arrow::ipc::writer::StreamWriter as IpcWriter;
use serde::{Deserialize, Serialize};

use super::columns::Micros;
use super::marks::KeptMarks;
use super::output::PutRow;
use super::sides::RowId;
use crate::extend::{self, StreamsInside};
use crate::{Journal, JournalOptions, PutRecord, Record, Result, StreamReader};

const SEGMENT_BYTES: u64 = 8 << 20;
/// Longer data is cut into pieces, which fit into any record.
const PIECE_BYTES: usize = 256 << 10;
/// Records are written in batches of about this size.
const BATCH_BYTES: usize = 2 << 20;
/// The journal is not rewritten before it has this many bytes.
const BYTES_MIN: u64 = 4 << 20;
/// The key of a piece that others follow.
const MORE: &[u8] = b"+";
/// The property of the journal that has the statement.
const STATEMENT: &str = "statement";
const CYCLE: &[u8] = b"cycle";
/// Distinguishes rows in the form in which they are put into a stream from those for a function.
const PUTS: &str = "puts";

/// What a record of a cycle holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Rows that an input has added to the operator.
    Added(usize),
    /// Rows of an input that the operator held when the state was written as a whole.
    Held(usize),
    /// Rows of a side that have met a row of the other one.
    Met(usize),
    /// Rows that are put into the output.
    Output,
    /// Rows that are put into the error output.
    Errors,
}

impl Part {
    fn key(self) -> String {
        match self {
            Self::Added(input) => format!("added {input}"),
            Self::Held(input) => format!("held {input}"),
            Self::Met(side) => format!("met {side}"),
            Self::Output => "output".to_owned(),
            Self::Errors => "errors".to_owned(),
        }
    }

    fn parse(key: &[u8]) -> Option<Self> {
        let key = std::str::from_utf8(key).ok()?;
        Some(match key.split_once(' ') {
            Some(("added", input)) => Self::Added(input.parse().ok()?),
            Some(("held", input)) => Self::Held(input.parse().ok()?),
            Some(("met", side)) => Self::Met(side.parse().ok()?),
            None if key == "output" => Self::Output,
            None if key == "errors" => Self::Errors,
            _ => return None,
        })
    }
}

/// All positions after a cycle.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Cycle {
    /// The number of records that hold the parts.
    pub(super) records: usize,
    /// The cycle includes everything before it: the state was written as a whole.
    pub(super) is_whole: bool,
    /// The next sequence number of each shard, for each input.
    pub(super) positions: Vec<BTreeMap<u32, u64>>,
    pub(super) marks: Vec<KeptMarks>,
    pub(super) watermark: Option<Micros>,
    /// The watermark when the rows of this cycle were added.
    #[serde(default)]
    pub(super) watermark_before: Option<Micros>,
    /// The shard and sequence number that the rows of this cycle are put under.
    pub(super) place: (u32, u64),
    /// The number of the first row that this cycle puts. Errors come first.
    pub(super) first_number: u32,
    /// The number of the next row that is put.
    pub(super) next_number: u32,
}

/// A part with its data.
pub(super) type PartData = (Part, Vec<u8>);

/// The last cycles of a journal, beginning with the last one that has the whole state.
#[derive(Debug, Default)]
pub(super) struct ReadState {
    pub(super) cycles: Vec<(Cycle, Vec<PartData>)>,
    pending: Vec<(Vec<u8>, Vec<u8>)>,
}

impl ReadState {
    fn read(&mut self, record: &Record<'_>) -> bool {
        if record.partition_key() != CYCLE {
            self.pending.push((record.partition_key().to_vec(), record.data().to_vec()));
            return true;
        }
        let Ok(cycle) = serde_json::from_slice::<Cycle>(record.data()) else { return false };
        let Some(begin) = self.pending.len().checked_sub(cycle.records) else { return false };
        let mut parts = vec![];
        let mut data = vec![];
        for (key, piece) in self.pending.drain(..).skip(begin) {
            data.extend(piece);
            if key == MORE {
                continue;
            }
            let Some(part) = Part::parse(&key) else { return false };
            parts.push((part, std::mem::take(&mut data)));
        }
        if cycle.is_whole {
            self.cycles.clear();
        }
        // The rows that earlier cycles put are there.
        if let Some((_, parts)) = self.cycles.last_mut() {
            parts.retain(|(part, _)| !matches!(part, Part::Output | Part::Errors));
        }
        self.cycles.push((cycle, parts));
        true
    }
}

/// The journal of a pump.
#[derive(Debug)]
pub(super) struct State {
    stream: StreamReader,
    journal: Journal,
    /// The bytes of the state when it was last written as a whole.
    whole_bytes: u64,
}

pub(super) fn inside(stream: &StreamReader) -> StreamsInside<'_> {
    extend::streams_inside(stream, "sql")
}

impl State {
    /// Opens the journal, or creates it. It is a companion of the stream until it is dropped.
    pub(super) fn open(stream: &StreamReader, name: &str) -> Result<(Self, ReadState)> {
        let options = JournalOptions { segment_bytes: SEGMENT_BYTES, salvage: false };
        let (journal, read) = Journal::open(stream, inside(stream), name, options, ReadState::read)?;
        extend::add_companion(stream, journal.log().clone())?;
        Ok((Self { stream: stream.clone(), journal, whole_bytes: 0 }, read))
    }

    /// Returns the statement that the state belongs to.
    pub(super) fn statement(&self) -> Option<String> {
        self.journal.log().describe().properties.get(STATEMENT).cloned()
    }

    pub(super) fn keep_statement(&self, text: &str) -> Result<()> {
        self.journal.keep(STATEMENT, text)
    }

    /// Writes a cycle.
    pub(super) fn write(&self, mut cycle: Cycle, parts: &[PartData]) -> Result<()> {
        let records = records_of(parts);
        cycle.records = records.len();
        let last = json(&cycle);
        let (mut batch, mut bytes) = (vec![], 0);
        for (key, data) in &records {
            batch.push(PutRecord::new(key, data));
            bytes += data.len();
            if bytes >= BATCH_BYTES {
                self.journal.put_batch(&batch)?;
                batch.clear();
                bytes = 0;
            }
        }
        batch.push(PutRecord::new(CYCLE, &last));
        self.journal.put_batch(&batch).map(drop)
    }

    /// Returns whether the journal has grown to twice the size of the state.
    pub(super) fn is_long(&self) -> bool {
        self.journal.bytes() >= BYTES_MIN.max(2 * self.whole_bytes)
    }

    /// Writes the state as a whole.
    pub(super) fn write_whole(&mut self, mut cycle: Cycle, parts: &[PartData]) -> Result<()> {
        let records = records_of(parts);
        cycle.records = records.len();
        cycle.is_whole = true;
        let last = json(&cycle);
        let records = records.into_iter().chain([(CYCLE.to_vec(), &last[..])]);
        self.journal.restate(records)?;
        self.whole_bytes = self.journal.bytes();
        Ok(())
    }
}

impl Drop for State {
    fn drop(&mut self) {
        extend::remove_companion(&self.stream, self.journal.log());
        let _ = self.journal.close();
    }
}

fn json(cycle: &Cycle) -> Vec<u8> {
    serde_json::to_vec(cycle).expect("numbers and texts always serialize")
}

fn records_of(parts: &[PartData]) -> Vec<(Vec<u8>, &[u8])> {
    let mut records = vec![];
    for (part, data) in parts {
        let mut pieces = data.chunks(PIECE_BYTES).peekable();
        while let Some(piece) = pieces.next() {
            let key = if pieces.peek().is_some() { MORE.to_vec() } else { part.key().into_bytes() };
            records.push((key, piece));
        }
    }
    records
}

/// Writes rows in Arrow's format.
pub(super) fn encode(rows: &RecordBatch) -> Result<Vec<u8>, ArrowError> {
    let mut writer = IpcWriter::try_new(vec![], &rows.schema())?;
    writer.write(rows)?;
    writer.into_inner()
}

pub(super) fn decode(data: &[u8]) -> Result<Vec<RecordBatch>, ArrowError> {
    IpcReader::try_new(data, None)?.collect()
}

/// Writes rows that are put: their keys and data.
pub(super) fn encode_puts(rows: &[PutRow]) -> Result<Vec<u8>, ArrowError> {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(BinaryArray::from_iter_values(rows.iter().map(|row| &row.key))),
        Arc::new(BinaryArray::from_iter_values(rows.iter().map(|row| &row.data))),
    ];
    let field = |name| Field::new(name, DataType::Binary, false);
    let is_puts = [(PUTS.to_owned(), String::new())].into();
    let schema = Arc::new(Schema::new_with_metadata(vec![field("key"), field("data")], is_puts));
    encode(&RecordBatch::try_new(schema, columns)?)
}

/// Rows that a cycle puts, as they were stored.
#[derive(Debug)]
pub(super) enum KeptRows {
    /// For a stream.
    Records(Vec<PutRow>),
    /// For a function.
    Batches(Vec<RecordBatch>),
}

/// Reads rows that are put.
pub(super) fn decode_rows(data: &[u8]) -> Result<KeptRows, ArrowError> {
    let batches = decode(data)?;
    if !batches.iter().all(|batch| batch.schema().metadata().contains_key(PUTS)) {
        return Ok(KeptRows::Batches(batches));
    }
    let mut rows = vec![];
    for batch in batches {
        let [keys, values] = [0, 1].map(|column| batch.column(column).as_binary::<i32>().clone());
        let pairs = keys.iter().flatten().zip(values.iter().flatten());
        rows.extend(pairs.map(|(key, data)| PutRow { key: key.to_vec(), data: data.to_vec() }));
    }
    Ok(KeptRows::Records(rows))
}

pub(super) fn encode_ids(ids: &[RowId]) -> Result<Vec<u8>, ArrowError> {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(UInt32Array::from_iter_values(ids.iter().map(|id| id.0))),
        Arc::new(UInt64Array::from_iter_values(ids.iter().map(|id| id.1))),
    ];
    let fields =
        vec![Field::new("shard", DataType::UInt32, false), Field::new("sequence", DataType::UInt64, false)];
    encode(&RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

pub(super) fn decode_ids(data: &[u8]) -> Result<Vec<RowId>, ArrowError> {
    let mut ids = vec![];
    for batch in decode(data)? {
        let shards = batch.column(0).as_primitive::<UInt32Type>().values();
        let sequences = batch.column(1).as_primitive::<UInt64Type>().values();
        ids.extend(shards.iter().copied().zip(sequences.iter().copied()));
    }
    Ok(ids)
}
