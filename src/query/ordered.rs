//! Reading a stream from its end, so that the newest records need no sort.

use datafusion::arrow::array::{RecordBatch, UInt32Array};
use datafusion::arrow::compute::take_record_batch;
use datafusion::error::Result;
use datafusion::physical_expr::PhysicalSortExpr;
use datafusion::physical_expr::expressions::Column;

use super::prune::{ARRIVAL, SEQUENCE, SHARD};
use super::read::{BATCH_ROWS, Job, Piece, PieceReader, Step};

/// How many records the first chunk has, so that a statement that wants few records reads few.
const FIRST_CHUNK_RECORDS: u64 = 64;

/// Returns in which direction the records of one shard have the wanted order, if they have it in either: `true` means from the last to the first.
pub(super) fn direction(order: &[PhysicalSortExpr]) -> Option<bool> {
    let mut is_descending = None;
    for sort in order {
        let name = sort.expr.downcast_ref::<Column>()?.name();
        if name == SHARD {
            // All records of a shard have the same value.
            continue;
        }
        if name != SEQUENCE && name != ARRIVAL
            || is_descending.is_some_and(|known| known != sort.options.descending)
        {
            return None;
        }
        is_descending = Some(sort.options.descending);
        if name == SEQUENCE {
            // This column is unique, so the rest of the order does not matter.
            break;
        }
    }
    is_descending
}

/// Returns the pieces of each shard.
pub(super) fn by_shard<'p>(pieces: impl Iterator<Item = &'p Piece>) -> Vec<Vec<Piece>> {
    let mut shards: Vec<Vec<Piece>> = Vec::new();
    for piece in pieces {
        match shards.last_mut() {
            Some(shard) if shard[0].shard == piece.shard => shard.push(*piece),
            _ => shards.push(vec![*piece]),
        }
    }
    shards
}

/// Reads the pieces of a job from the last record to the first.
pub(super) struct BackwardReader {
    reader: PieceReader,
    /// The pieces before the current chunk.
    left: Vec<Piece>,
    /// The batches of the chunk, in the order of the log.
    chunk: Vec<RecordBatch>,
    is_reading: bool,
    chunk_records: u64,
}

impl BackwardReader {
    pub(super) fn new(mut job: Job) -> Self {
        let left = std::mem::take(&mut job.pieces);
        let chunk_records = FIRST_CHUNK_RECORDS;
        Self { reader: PieceReader::new(job), left, chunk: Vec::new(), is_reading: false, chunk_records }
    }

    pub(super) fn step(&mut self) -> Result<Step> {
        loop {
            if self.is_reading {
                match self.reader.step()? {
                    Step::Rows(batch) => self.chunk.push(batch),
                    Step::End => self.is_reading = false,
                    pause @ (Step::Wait(_) | Step::Nothing) => return Ok(pause),
                }
            } else if let Some(batch) = self.chunk.pop() {
                let rows = UInt32Array::from_iter_values((0..batch.num_rows() as u32).rev());
                return Ok(Step::Rows(take_record_batch(&batch, &rows)?));
            } else if !self.begin_chunk() {
                return Ok(Step::End);
            } else if self.chunk_records == BATCH_ROWS as u64 {
                // A query that finds little must still be able to end.
                return Ok(Step::Nothing);
            }
        }
    }

    /// Continues with the records before the last chunk. Returns whether there are any.
    fn begin_chunk(&mut self) -> bool {
        let Some(last) = self.left.last_mut() else { return false };
        let from = last.from.max(last.to.saturating_sub(self.chunk_records));
        self.reader.go_on_with(Piece { from, ..*last });
        last.to = from;
        if last.len() == 0 {
            self.left.pop();
        }
        self.is_reading = true;
        // A whole chunk is in memory, so it has few records if they are large.
        let most = self.reader.records_in_memory_max().min(BATCH_ROWS as u64);
        self.chunk_records = (self.chunk_records * 2).min(most);
        true
    }
}

/// Reads the pieces of a job in either direction.
pub(super) enum AnyReader {
    Forward(PieceReader),
    Backward(BackwardReader),
}

impl AnyReader {
    pub(super) fn new(job: Job, is_backward: bool) -> Self {
        if is_backward {
            Self::Backward(BackwardReader::new(job))
        } else {
            Self::Forward(PieceReader::new(job))
        }
    }

    pub(super) fn step(&mut self) -> Result<Step> {
        match self {
            Self::Forward(reader) => reader.step(),
            Self::Backward(reader) => reader.step(),
        }
    }
}
