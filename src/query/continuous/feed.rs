//! One input of a pump: its worker, and the conversion of records to prepared rows.

use std::collections::{BTreeMap, HashMap};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use datafusion::arrow::array::{Array, AsArray, BooleanArray, RecordBatch, TimestampMicrosecondArray};
use datafusion::arrow::compute::filter_record_batch;
use datafusion::arrow::datatypes::TimestampMicrosecondType;

use super::columns::{Micros, TIME, micros, places, times};
use super::errors::{Failure, Fault, text_of};
use super::evaluate::{Evaluator, Query, Table, conform, failed, of_rows};
use super::marks::Marks;
use super::positions::{Positions, add_finished};
use super::shared::Shared;
use crate::query::decode::Decoder;
use crate::query::error::QueryError;
use crate::{Batch, Error, HOUR, Result, ShardDescription, StreamReader, Worker};

/// The name of the table that `prepare` reads.
pub(super) const INPUT: &str = "input";
/// About how many records, and bytes, are handled at a time.
const RECORDS_AT_ONCE: usize = 16_384;
const BYTES_AT_ONCE: usize = 16 << 20;
/// An event time may be this much later than the arrival of its record: clocks differ. A later one is wrong, and would end every window.
const AHEAD_MAX: Duration = HOUR;

/// One input of a pump.
pub(super) struct Feed {
    pub(super) reader: StreamReader,
    pub(super) worker: Worker,
    pub(super) decoder: Decoder,
    /// The table that `prepare` reads, and `prepare`.
    pub(super) input: Table,
    pub(super) prepare: Query,
    /// Which columns of prepared rows the later SQL needs.
    pub(super) needed: Vec<usize>,
    pub(super) marks: Marks,
    pub(super) positions: Positions,
    /// Batches that were read and not handled yet.
    pub(super) batches: Vec<Batch>,
    pub(super) progress: Progress,
}

/// How the last read went.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Everything that the worker had was read at the last check.
    is_read: bool,
    /// The shards that wait for memory.
    paused: Vec<u32>,
    skipped_before: u64,
    /// Records were skipped: the group has committed this, but the positions do not include it yet.
    pub(super) has_skipped: bool,
    /// The shard of the last batch.
    pub(super) last_shard: Option<u32>,
}

/// The result of preparing a micro-batch.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    pub(super) rows: Vec<RecordBatch>,
    /// Where each failed row is in the input.
    pub(super) failures: Vec<((u32, u64), Failure)>,
}

impl Feed {
    /// Reads batches, if there are some.
    pub(super) fn read(&mut self, context: &mut Context<'_>, shared: &Shared) -> Result<()> {
        let size = |batches: &[Batch]| -> (usize, usize) {
            batches.iter().fold((0, 0), |sum, batch| (sum.0 + batch.len(), sum.1 + batch.memory_bytes()))
        };
        self.progress.is_read = false;
        loop {
            let (records, bytes) = size(&self.batches);
            if records >= RECORDS_AT_ONCE || bytes >= BYTES_AT_ONCE {
                break;
            }
            let polled = pin!(self.worker.next()).as_mut().poll(context);
            match polled {
                Poll::Ready(Ok(batch)) => self.batches.push(batch),
                Poll::Ready(Err(Error::Lost { shard, .. })) => {
                    let skipped = self.worker.skip_lost(shard)?;
                    self.progress.has_skipped = true;
                    shared.update(|counts| counts.skipped += skipped);
                }
                // Batches that were already read are handled first. The error comes again.
                Poll::Ready(Err(_)) if !self.batches.is_empty() => break,
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => {
                    self.progress.is_read = true;
                    break;
                }
            }
        }
        let skipped = self.worker.skipped_count();
        let new = skipped - std::mem::replace(&mut self.progress.skipped_before, skipped);
        if new > 0 {
            self.progress.has_skipped = true;
            shared.update(|counts| counts.skipped += new);
        }
        if let Some(batch) = self.batches.last() {
            self.progress.last_shard = Some(batch.shard().get());
        }
        Ok(())
    }

    /// Returns a future that takes the next batch. If the worker fails instead, the next call fails again.
    pub(super) fn next(&mut self) -> Pin<Box<impl Future<Output = ()> + '_>> {
        let Self { worker, batches, .. } = self;
        Box::pin(async move {
            if let Ok(batch) = worker.next().await {
                batches.push(batch);
            }
        })
    }

    /// Adds the shards that the worker has to the marks, ends those that have ended, and notes how far each is read. `now` is a time before the
    /// last read.
    pub(super) fn follow(&mut self, now: Micros, elapsed: Duration) -> std::result::Result<(), QueryError> {
        let leased: Vec<u32> = self.worker.shards().iter().map(|shard| shard.get()).collect();
        let is_new = leased.iter().any(|&shard| !self.marks.knows(shard));
        let is_gone = self.marks.shards().any(|shard| !leased.contains(&shard));
        let has_ended = leased.iter().any(|&shard| self.worker.is_at_end(shard.into()));
        if is_new || is_gone || has_ended {
            self.follow_shards(&leased, elapsed)?;
        }
        for shard in leased {
            let is_read = self.progress.is_read
                && !self.progress.paused.contains(&shard)
                && !self.worker.is_held_up(shard.into());
            self.marks.note_read(shard, is_read, now);
        }
        Ok(())
    }

    fn follow_shards(&mut self, leased: &[u32], elapsed: Duration) -> std::result::Result<(), QueryError> {
        if self.progress.has_skipped {
            add_finished(&self.positions, self.worker.group(), &self.reader, self.marks.shards())?;
        }
        let shards = self.reader.shards();
        for &shard in leased {
            self.marks.add(shard, elapsed);
        }
        // Parents come before their children. A child that was not read yet may be closed, too.
        for shard in &shards {
            let id = shard.id.get();
            let Some(closing) = shard.closing_sequence else { continue };
            let next = self.positions.lock().get(&id).copied().unwrap_or(shard.first_sequence.get());
            let is_handled = next >= closing.get() || self.worker.is_at_end(shard.id);
            if self.marks.knows(id)
                && is_handled
                && !self.batches.iter().any(|batch| batch.shard() == shard.id)
            {
                self.marks.end(id, &children_of(id, &shards), elapsed);
            }
        }
        let mut positions = self.positions.lock();
        positions.retain(|id, _| shards.iter().any(|shard| shard.id.get() == *id));
        // Retention has dropped these shards, read or not.
        let dropped: Vec<u32> =
            self.marks.shards().filter(|id| !shards.iter().any(|shard| shard.id.get() == *id)).collect();
        for id in dropped {
            self.marks.end(id, &children_of(id, &shards), elapsed);
        }
        Ok(())
    }

    /// Turns the batches that were read into rows. Also returns the end of each shard's part.
    pub(super) fn prepare(
        &mut self,
        batches: &[Batch],
        evaluator: &Evaluator,
        alone: Option<&Query>,
    ) -> std::result::Result<Prepared, QueryError> {
        let mut prepared = Prepared::default();
        for batch in batches {
            for record in batch {
                if let Err(refused) = self.decoder.push(batch.shard(), &record) {
                    let failure = Failure {
                        fault: Fault::Coercion,
                        message: refused.reason,
                        time: Some(record.timestamp().as_micros() as Micros),
                        data: record.data().to_vec(),
                    };
                    prepared.failures.push(((batch.shard().get(), record.sequence().get()), failure));
                }
            }
        }
        if self.decoder.len() == 0 {
            return Ok(prepared);
        }
        let rows = self.decoder.finish();
        let query = alone.unwrap_or(&self.prepare);
        run_each(evaluator, &self.input, query, rows, &mut |rows, outcome| {
            match outcome {
                Ok(result) => prepared.rows.extend(result),
                Err(reason) => {
                    let (shards, sequences) = places(rows, "_shard", "_sequence").map_err(arrow)?;
                    let place = (shards[0], sequences[0]);
                    let data = find(batches, place).unwrap_or_default();
                    let failure = Failure { fault: Fault::Evaluation, message: reason, time: None, data };
                    prepared.failures.push((place, failure));
                }
            }
            Ok(())
        })?;
        let has_rows = |rows: &RecordBatch| rows.num_rows() > 0;
        prepared.rows.retain(has_rows);
        if alone.is_none() {
            self.check_times(&mut prepared, batches)?;
        }
        Ok(prepared)
    }

    /// Removes rows without a time, and rows with an impossible time.
    fn check_times(&self, prepared: &mut Prepared, batches: &[Batch]) -> std::result::Result<(), QueryError> {
        for rows in &mut prepared.rows {
            *rows = conform(rows.clone(), &self.prepare.schema).map_err(arrow)?;
            let column = rows
                .column_by_name(TIME)
                .and_then(|column| column.as_primitive_opt::<TimestampMicrosecondType>());
            let arrivals = rows
                .column_by_name("_arrival")
                .and_then(|column| column.as_primitive_opt::<TimestampMicrosecondType>());
            let (Some(column), Some(arrivals)) = (column, arrivals) else {
                return Err(QueryError::Failed("the prepared rows have no times".to_owned()));
            };
            let fault = |row: usize| {
                if column.is_null(row) {
                    return Some("the event time is null".to_owned());
                }
                let ahead = column.value(row).saturating_sub(arrivals.value(row));
                (ahead > micros(AHEAD_MAX)).then(|| {
                    let time = text_of(column.value(row));
                    format!("the event time {time} is {} s after the record's arrival", ahead / 1_000_000)
                })
            };
            let faults: HashMap<usize, String> =
                (0..rows.num_rows()).filter_map(|row| fault(row).map(|fault| (row, fault))).collect();
            if faults.is_empty() {
                continue;
            }
            let (shards, sequences) = places(rows, "_shard", "_sequence").map_err(arrow)?;
            for (&row, message) in &faults {
                let place = (shards[row], sequences[row]);
                let data = find(batches, place).unwrap_or_default();
                let time = Some(arrivals.value(row));
                let failure = Failure { fault: Fault::Coercion, message: message.clone(), time, data };
                prepared.failures.push((place, failure));
            }
            let is_right: BooleanArray =
                (0..rows.num_rows()).map(|row| Some(!faults.contains_key(&row))).collect();
            *rows = filter_record_batch(rows, &is_right).map_err(arrow)?;
        }
        Ok(())
    }

    /// For arrival times, moves rows from before the watermark to the watermark: their put took long, or the clock was set back.
    pub(super) fn lift(
        &self,
        rows: RecordBatch,
        watermark: Micros,
    ) -> std::result::Result<RecordBatch, QueryError> {
        let found = times(&rows).map_err(arrow)?;
        if self.marks.is_by_event_time() || found.iter().all(|&time| time >= watermark) {
            return Ok(rows);
        }
        let lifted =
            TimestampMicrosecondArray::from_iter_values(found.iter().map(|&time| time.max(watermark)));
        let index = rows.schema().index_of(TIME).map_err(arrow)?;
        let mut columns = rows.columns().to_vec();
        columns[index] = Arc::new(lifted.with_timezone("UTC"));
        RecordBatch::try_new(rows.schema(), columns).map_err(arrow)
    }

    /// Moves the marks by arrival.
    pub(super) fn note_arrivals(&mut self, batches: &[Batch], elapsed: Duration) {
        if self.marks.is_by_event_time() {
            return;
        }
        for batch in batches {
            if let Some(last) = batch.last_timestamp() {
                self.marks.note_rows(batch.shard().get(), last.as_micros() as Micros, elapsed);
            }
        }
    }

    /// Moves the marks by event times, those of late rows too.
    pub(super) fn note_times(
        &mut self,
        rows: &RecordBatch,
        elapsed: Duration,
    ) -> std::result::Result<(), QueryError> {
        if !self.marks.is_by_event_time() {
            return Ok(());
        }
        let (shards, _) = places(rows, "_shard", "_sequence").map_err(arrow)?;
        let mut highest: BTreeMap<u32, Micros> = BTreeMap::new();
        for (&shard, &time) in shards.iter().zip(times(rows).map_err(arrow)?) {
            let known = highest.entry(shard).or_insert(time);
            *known = (*known).max(time);
        }
        for (shard, time) in highest {
            self.marks.note_rows(shard, time, elapsed);
        }
        Ok(())
    }

    /// Commits that batches are handled. A checkpoint that cannot be written now is written with a later one.
    pub(super) fn commit(&mut self, batches: &[Batch], shared: &Shared) -> Result<()> {
        for (at, batch) in batches.iter().enumerate() {
            let is_last = batches[at + 1..].iter().all(|later| later.shard() != batch.shard());
            if !is_last {
                continue;
            }
            match self.worker.commit(batch) {
                // The records are read again from the stored positions.
                Err(Error::GroupLeaseLost { .. }) => {}
                Err(error) if error.is_retryable() => shared.note_error(&error.to_string()),
                committed => committed?,
            }
        }
        Ok(())
    }

    /// Stops reading the shards that are ahead of others, or resumes all.
    pub(super) fn set_slow(&mut self, is_slow: bool) {
        let paused = if is_slow { self.marks.ahead() } else { vec![] };
        for &shard in self.progress.paused.iter().filter(|shard| !paused.contains(shard)) {
            self.worker.resume(shard.into());
        }
        for &shard in &paused {
            self.worker.pause(shard.into());
        }
        self.progress.paused = paused;
    }
}

fn children_of(id: u32, shards: &[ShardDescription]) -> Vec<u32> {
    let is_child = |child: &&ShardDescription| child.parents().any(|parent| parent.get() == id);
    shards.iter().filter(is_child).map(|child| child.id.get()).collect()
}

/// Takes the results of a query for rows, or why it fails for a row.
type Take<'a> = dyn FnMut(&RecordBatch, std::result::Result<Vec<RecordBatch>, String>) -> std::result::Result<(), QueryError>
    + 'a;

/// Runs a query over rows. If it fails, the rows are halved until the failing ones are isolated.
pub(super) fn run_each(
    evaluator: &Evaluator,
    input: &Table,
    query: &Query,
    rows: RecordBatch,
    take: &mut Take<'_>,
) -> std::result::Result<(), QueryError> {
    match evaluator.run(query, vec![(input, vec![rows.clone()])]) {
        Ok(result) => take(&rows, Ok(result)),
        Err(error) => {
            let reason = of_rows(error)?;
            if rows.num_rows() <= 1 {
                return take(&rows, Err(reason));
            }
            let half = rows.num_rows() / 2;
            run_each(evaluator, input, query, rows.slice(0, half), take)?;
            run_each(evaluator, input, query, rows.slice(half, rows.num_rows() - half), take)
        }
    }
}

/// Returns the data of the record at a place.
pub(super) fn find(batches: &[Batch], (shard, sequence): (u32, u64)) -> Option<Vec<u8>> {
    let is_in = |batch: &&Batch| {
        let first = batch.first_sequence().map(|first| first.get());
        let last = batch.last_sequence().map(|last| last.get());
        batch.shard().get() == shard && first <= Some(sequence) && Some(sequence) <= last
    };
    let batch = batches.iter().find(is_in)?;
    let index = sequence - batch.first_sequence()?.get();
    batch.iter().nth(index as usize).map(|record| record.data().to_vec())
}

pub(super) fn arrow(error: datafusion::arrow::error::ArrowError) -> QueryError {
    failed(error.into())
}
