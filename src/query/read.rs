//! Reading pieces of shards as batches of rows.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::array::{BooleanArray, RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::cast::as_boolean_array;
use datafusion::error::{DataFusionError, Result};
use datafusion::physical_plan::PhysicalExpr;

use super::decode::Decoder;
use super::run::{RefusedRow, Run};
use super::table::StreamSource;
use crate::{Batch, Error, Position, Record, SequenceNumber, ShardId, ShardIterator};

/// The most rows of a batch.
pub(super) const BATCH_ROWS: usize = 8_192;
/// The rows of the first batch of a piece, so that a statement that wants few rows parses few.
const FIRST_BATCH_ROWS: usize = 1_024;
/// A batch ends once its records have this many bytes, so that large records do not fill the memory.
const BATCH_BYTES: usize = 8 << 20;

/// Consecutive records of a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) shard: ShardId,
    /// The number of the first record.
    pub(super) from: u64,
    /// The number after the last one.
    pub(super) to: u64,
}

impl Piece {
    pub(super) fn len(&self) -> u64 {
        self.to.saturating_sub(self.from)
    }
}

/// A filter on the log's own columns. It is applied before data is parsed.
#[derive(Debug, Clone)]
pub(super) struct Early {
    /// The columns that the filter needs.
    pub(super) columns: Vec<usize>,
    /// The filter, over a batch of these columns.
    pub(super) filter: Arc<dyn PhysicalExpr>,
}

/// What there is to read, for one partition of a scan.
#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) source: Arc<StreamSource>,
    pub(super) run: Arc<Run>,
    /// The columns of the result.
    pub(super) columns: Vec<usize>,
    /// Their schema.
    pub(super) schema: SchemaRef,
    pub(super) early: Option<Early>,
    pub(super) pieces: Vec<Piece>,
    pub(super) limit: Option<usize>,
}

/// What a step of reading found.
pub(super) enum Step {
    Rows(RecordBatch),
    /// The limits of the stream require a pause.
    Wait(Duration),
    /// Many records were read, and none has passed yet.
    Nothing,
    End,
}

/// Reads the pieces of a job one after the other.
pub(super) struct PieceReader {
    job: Job,
    left: VecDeque<Piece>,
    open: Option<Open>,
    decoder: Rows,
    early: Option<(Rows, Arc<dyn PhysicalExpr>)>,
    /// The most rows of the next batch.
    batch_rows: usize,
    /// The bytes of the records in the batch.
    batch_bytes: usize,
    /// The records and bytes that were read altogether.
    read_records: u64,
    read_bytes: u64,
    limit_left: usize,
}

struct Open {
    iterator: ShardIterator,
    to: u64,
}

/// Makes batches of records.
enum Rows {
    /// No column is needed, only the number of rows.
    Counted(usize),
    Decoded(Box<Decoder>),
}

impl Rows {
    fn new(job: &Job, columns: &[usize]) -> Self {
        if columns.is_empty() {
            Self::Counted(0)
        } else {
            Self::Decoded(Box::new(Decoder::new(&job.source.schema, columns)))
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Counted(count) => *count,
            Self::Decoded(decoder) => decoder.len(),
        }
    }

    #[inline]
    fn push(&mut self, job: &Job, shard: ShardId, record: &Record<'_>) {
        match self {
            Self::Counted(count) => *count += 1,
            Self::Decoded(decoder) => {
                if let Err(refused) = decoder.push(shard, record) {
                    job.run.refuse(RefusedRow {
                        table: job.source.name.clone(),
                        shard,
                        sequence: record.sequence(),
                        arrival: record.timestamp(),
                        reason: refused.reason,
                    });
                }
            }
        }
    }

    fn finish(&mut self, schema: &SchemaRef) -> Result<RecordBatch> {
        match self {
            Self::Counted(count) => {
                let options = RecordBatchOptions::new().with_row_count(Some(std::mem::take(count)));
                Ok(RecordBatch::try_new_with_options(Arc::clone(schema), vec![], &options)?)
            }
            Self::Decoded(decoder) => Ok(decoder.finish()),
        }
    }
}

impl PieceReader {
    pub(super) fn new(job: Job) -> Self {
        let early = job.early.as_ref();
        let early = early.map(|early| (Rows::new(&job, &early.columns), Arc::clone(&early.filter)));
        Self {
            left: job.pieces.iter().copied().collect(),
            open: None,
            decoder: Rows::new(&job, &job.columns),
            early,
            batch_rows: FIRST_BATCH_ROWS,
            batch_bytes: 0,
            read_records: 0,
            read_bytes: 0,
            limit_left: job.limit.unwrap_or(usize::MAX),
            job,
        }
    }

    /// Adds a piece to those that are to be read.
    pub(super) fn go_on_with(&mut self, piece: Piece) {
        self.left.push_back(piece);
    }

    /// Returns how many records fit into the bytes of a batch, judging by those that were read.
    pub(super) fn records_in_memory_max(&self) -> u64 {
        let bytes_each = self.read_bytes / self.read_records.max(1);
        (BATCH_BYTES as u64 / bytes_each.max(1)).max(1)
    }

    /// Reads until there is a batch of rows.
    pub(super) fn step(&mut self) -> Result<Step> {
        loop {
            let wanted = self.batch_rows.min(self.limit_left);
            let has_enough = self.decoder.len() >= wanted || self.batch_bytes >= BATCH_BYTES;
            let is_last = if has_enough {
                wanted == 0
            } else {
                match self.read(wanted - self.decoder.len()) {
                    Ok(Some(batch)) => {
                        self.take(&batch)?;
                        continue;
                    }
                    Ok(None) => true,
                    Err(Error::Throttled { retry_after, .. }) => return Ok(Step::Wait(retry_after)),
                    Err(error) => return Err(DataFusionError::External(Box::new(error))),
                }
            };
            self.batch_bytes = 0;
            if self.decoder.len() > 0 {
                self.batch_rows = (self.batch_rows * 2).min(BATCH_ROWS);
                self.limit_left -= self.decoder.len();
                return Ok(Step::Rows(self.decoder.finish(&self.job.schema)?));
            }
            return Ok(if is_last { Step::End } else { Step::Nothing });
        }
    }

    /// Reads up to `count` records. Returns `None` at the end of the last piece.
    fn read(&mut self, count: usize) -> crate::Result<Option<Batch>> {
        loop {
            let Some(open) = &mut self.open else {
                let Some(piece) = self.left.front().copied() else { return Ok(None) };
                self.open = self.open(piece)?;
                self.left.pop_front();
                continue;
            };
            let next = open.iterator.next_sequence().get();
            let left = open.to.saturating_sub(next).min(count as u64) as usize;
            let bytes = BATCH_BYTES.saturating_sub(self.batch_bytes).max(1);
            if left == 0 {
                self.open = None;
                continue;
            }
            match open.iterator.next_batch_within(left, bytes) {
                Ok(batch) if batch.is_empty() => self.open = None,
                Ok(batch) => {
                    self.batch_bytes += batch.memory_bytes();
                    self.read_records += batch.len() as u64;
                    self.read_bytes += batch.memory_bytes() as u64;
                    return Ok(Some(batch));
                }
                Err(Error::Trimmed { .. }) => {
                    let skipped = open.iterator.skip_to_horizon();
                    self.job.run.add_trimmed(skipped.min(open.to.saturating_sub(next)));
                }
                Err(Error::Lost { .. }) => {
                    let skipped = open.iterator.skip_lost()?;
                    self.job.run.add_lost(skipped.min(open.to.saturating_sub(next)));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Opens a piece. Returns `None` if retention has dropped all of it.
    fn open(&self, piece: Piece) -> crate::Result<Option<Open>> {
        let mut from = piece.from;
        while from < piece.to {
            let position = Position::At(SequenceNumber::new(from));
            match self.job.source.reader.iterator(piece.shard, position) {
                Ok(iterator) => return Ok(Some(Open { iterator, to: piece.to })),
                Err(Error::Trimmed { horizon, .. }) => {
                    let horizon = horizon.get().clamp(from + 1, piece.to);
                    self.job.run.add_trimmed(horizon - from);
                    from = horizon;
                }
                Err(Error::ShardNotFound(_)) => {
                    self.job.run.add_trimmed(piece.to - from);
                    return Ok(None);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Takes the records of a batch that pass the early filter.
    fn take(&mut self, batch: &Batch) -> Result<()> {
        let Self { job, decoder, early, .. } = self;
        let shard = batch.shard();
        let Some((rows, filter)) = early else {
            if let Rows::Counted(count) = decoder {
                *count += batch.len();
            } else {
                batch.iter().for_each(|record| decoder.push(job, shard, &record));
            }
            return Ok(());
        };
        batch.iter().for_each(|record| rows.push(job, shard, &record));
        let known = rows.finish(&job.schema)?;
        if known.num_rows() != batch.len() {
            let reason = "a record has system columns that cannot be decoded";
            return Err(DataFusionError::Internal(reason.to_owned()));
        }
        let passed = filter.evaluate(&known)?.into_array(known.num_rows())?;
        let passed: &BooleanArray = as_boolean_array(&passed)?;
        for (record, passes) in batch.iter().zip(passed) {
            if passes == Some(true) && decoder.len() < self.limit_left {
                decoder.push(job, shard, &record);
            }
        }
        Ok(())
    }
}
