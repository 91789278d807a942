//! Puts the rows of cycles into the output and the error output.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::error::ArrowError;

use super::errors::{Failure, Fault, batch_of};
use super::output::{Output, PutRow, Target};
use super::shared::Shared;
use super::state::{KeptRows, Part, PartData, decode_rows, encode, encode_puts};
use crate::query::error::QueryError;
use crate::{Error, Group, PutRecord, Sink, Stream, StreamReader, extend};

/// A function that fails is called again after these pauses.
const PAUSES: [Duration; 3] = [Duration::from_millis(100), Duration::from_secs(1), Duration::from_secs(10)];
/// A put that may succeed later is tried again after this pause.
const PAUSE: Duration = Duration::from_millis(200);

/// The outputs of a pump.
pub(super) struct Putter {
    pump: String,
    stream: StreamReader,
    output: Output,
    sink: Option<Arc<Sink>>,
    record_bytes_max: usize,
    errors: Option<Output>,
    error_sink: Option<Arc<Sink>>,
}

/// A place of the input that the group has not committed: rows are put under it, each with a number.
pub(super) type Place = (u32, u64);

/// Rows in the form in which they are put, kept until they are there.
#[derive(Debug)]
pub(super) enum Rows {
    Records(Vec<PutRow>),
    Batches(Vec<RecordBatch>),
}

impl Default for Rows {
    fn default() -> Self {
        Self::Batches(vec![])
    }
}

impl Rows {
    /// Returns how many numbers the rows take.
    fn len(&self) -> usize {
        match self {
            Self::Records(records) => records.len(),
            Self::Batches(batches) => batches.len(),
        }
    }

    fn encode(&self, part: Part) -> Result<Vec<PartData>, ArrowError> {
        match self {
            Self::Records(records) if records.is_empty() => Ok(vec![]),
            Self::Records(records) => Ok(vec![(part, encode_puts(records)?)]),
            Self::Batches(batches) => {
                batches.iter().map(|batch| encode(batch).map(|data| (part, data))).collect()
            }
        }
    }

    fn decode(&mut self, data: &[u8]) -> Result<(), ArrowError> {
        match (decode_rows(data)?, self) {
            (KeptRows::Records(rows), Self::Records(known)) => known.extend(rows),
            (KeptRows::Records(rows), all) => *all = Self::Records(rows),
            (KeptRows::Batches(batches), Self::Batches(known)) => known.extend(batches),
            (KeptRows::Batches(batches), all) => *all = Self::Batches(batches),
        }
        Ok(())
    }
}

/// What a cycle puts.
#[derive(Debug, Default)]
pub(super) struct Puts {
    output: Rows,
    errors: Rows,
}

impl Puts {
    pub(super) fn count(&self) -> u32 {
        (self.errors.len() + self.output.len()) as u32
    }

    pub(super) fn encode(&self) -> Result<Vec<PartData>, ArrowError> {
        let mut parts = self.errors.encode(Part::Errors)?;
        parts.extend(self.output.encode(Part::Output)?);
        Ok(parts)
    }
}

impl Putter {
    pub(super) fn open(
        pump: &str,
        group: &Group,
        stream: &StreamReader,
        output: Output,
        errors: Option<Output>,
    ) -> crate::Result<Self> {
        let stream_of = |output: &Output| match &output.target {
            Target::Stream(stream) => Some(stream.clone()),
            Target::Function(_) => None,
        };
        let open = |output: &Stream| Sink::open(output, group).map(Arc::new);
        let target = stream_of(&output);
        let sink = target.as_ref().map(open).transpose()?;
        let path = |stream: &Stream| stream.describe().path;
        let error_sink = match errors.as_ref().and_then(stream_of) {
            Some(stream) if target.as_ref().is_some_and(|target| path(target) == path(&stream)) => {
                sink.clone()
            }
            stream => stream.as_ref().map(open).transpose()?,
        };
        let record_bytes_max =
            target.map_or(usize::MAX, |target| target.describe().record_bytes_max as usize);
        Ok(Self {
            pump: pump.to_owned(),
            stream: stream.clone(),
            output,
            sink,
            record_bytes_max,
            errors,
            error_sink,
        })
    }

    /// Converts rows to the form in which they are put. `number` is that of the first one.
    pub(super) fn puts(
        &self,
        rows: Vec<RecordBatch>,
        mut failures: Vec<Failure>,
        number: u32,
        shared: &Shared,
    ) -> Result<Puts, QueryError> {
        let output = match &self.output.target {
            Target::Function(_) => Rows::Batches(rows),
            Target::Stream(_) => {
                let mut records = vec![];
                for batch in rows {
                    let next = number.wrapping_add(records.len() as u32);
                    let found = self.output.rows_of(&batch, next)?;
                    let (fit, too_large): (Vec<_>, Vec<_>) =
                        found.into_iter().partition(|row| self.fits(row));
                    records.extend(fit);
                    failures.extend(too_large.into_iter().map(|row| self.too_large(row)));
                }
                Rows::Records(records)
            }
        };
        Ok(Puts { output, errors: self.errors_of(failures, shared) })
    }

    fn fits(&self, row: &PutRow) -> bool {
        // The header that names the row's origin counts as well.
        row.key.len() + row.data.len() + HEADER_BYTES_MAX <= self.record_bytes_max
    }

    fn too_large(&self, row: PutRow) -> Failure {
        let message = format!("a row of {} bytes is too large for a record of the output", row.data.len());
        Failure { fault: Fault::Output, message, time: None, data: row.data }
    }

    fn errors_of(&self, failures: Vec<Failure>, shared: &Shared) -> Rows {
        if let Some(last) = failures.last() {
            shared.note_failures(&failures, &last.message);
        }
        let now = self.stream.clock().now();
        match &self.errors {
            None => Rows::default(),
            Some(_) if failures.is_empty() => Rows::default(),
            Some(Output { target: Target::Stream(_), .. }) => {
                Rows::Records(failures.iter().map(|failure| failure.put_row(&self.pump, now)).collect())
            }
            Some(_) => Rows::Batches(vec![batch_of(&failures, &self.pump, now)]),
        }
    }

    /// Decodes the stored rows that a cycle was to put.
    pub(super) fn decode(&self, parts: &[PartData]) -> Result<Puts, ArrowError> {
        let mut puts = Puts::default();
        for (part, data) in parts {
            match part {
                Part::Output => puts.output.decode(data)?,
                // They take their numbers, wherever errors now go.
                Part::Errors => puts.errors.decode(data)?,
                _ => {}
            }
        }
        let kind = |is_stream: bool| if is_stream { "a stream" } else { "a function" };
        let was_stream = matches!(puts.output, Rows::Records(_));
        if puts.output.len() > 0 && was_stream != self.sink.is_some() {
            let (was, is) = (kind(was_stream), kind(!was_stream));
            return Err(ArrowError::SchemaError(format!("it was {was}, and is {is}")));
        }
        Ok(puts)
    }

    /// Puts rows under a place, each with a number, the errors first. Returns false if the pump is closed meanwhile.
    pub(super) fn put(
        &self,
        place: Place,
        number: u32,
        puts: &Puts,
        shared: &Shared,
    ) -> Result<bool, QueryError> {
        let numbered = |rows: &[PutRow], number: u32| -> Vec<u32> {
            (0..rows.len() as u32).map(|at| number.wrapping_add(at)).collect()
        };
        let is_whole = match (&puts.errors, &self.error_sink) {
            (Rows::Records(rows), Some(sink)) => {
                let numbers = numbered(rows, number);
                self.put_records(
                    sink,
                    rows.iter().zip(numbers).map(|(row, at)| (place, at, row)),
                    false,
                    shared,
                )?
            }
            (Rows::Batches(batches), _) => {
                self.call_with_errors(batches, shared);
                true
            }
            _ => true,
        };
        Ok(is_whole && self.put_output(place, number.wrapping_add(puts.errors.len() as u32), puts, shared)?)
    }

    /// Calls the error output. Rows that it refuses are counted and shown, and go nowhere else.
    fn call_with_errors(&self, batches: &[RecordBatch], shared: &Shared) {
        let Some(errors) = &self.errors else { return };
        for batch in batches {
            if let Err(reason) = self.call(errors, batch, shared) {
                shared.note_error(&reason);
            }
        }
    }

    fn put_output(
        &self,
        place: Place,
        number: u32,
        puts: &Puts,
        shared: &Shared,
    ) -> Result<bool, QueryError> {
        match (&puts.output, &self.sink) {
            (Rows::Records(rows), Some(sink)) => {
                let rows = rows.iter().enumerate();
                let rows = rows.map(|(at, row)| (place, number.wrapping_add(at as u32), row));
                self.put_records(sink, rows, true, shared)
            }
            (Rows::Batches(batches), _) => {
                for (at, batch) in batches.iter().enumerate() {
                    if let Err(reason) = self.call(&self.output, batch, shared) {
                        if shared.is_closing() {
                            return Ok(false);
                        }
                        self.give_up(place, number.wrapping_add(at as u32), reason, shared)?;
                    }
                    shared.note_out(batch.num_rows());
                }
                Ok(true)
            }
            _ => Ok(true),
        }
    }

    /// Puts rows that each have a place. Returns false if the pump is closed meanwhile.
    pub(super) fn put_placed(
        &self,
        rows: Vec<(Place, u32, PutRow)>,
        failures: Vec<(Place, Failure)>,
        shared: &Shared,
    ) -> Result<bool, QueryError> {
        let (places, failures): (Vec<_>, Vec<_>) = failures.into_iter().unzip();
        match (self.errors_of(failures, shared), &self.error_sink) {
            (Rows::Records(records), Some(sink)) => {
                // After all rows of the place, in case both outputs are the same stream.
                let mut counts: BTreeMap<Place, u32> = BTreeMap::new();
                let records = records.iter().zip(places).map(|(row, place)| {
                    let count = counts.entry(place).or_default();
                    *count += 1;
                    (place, u32::MAX - *count, row)
                });
                if !self.put_records(sink, records, false, shared)? {
                    return Ok(false);
                }
            }
            (Rows::Batches(batches), _) => self.call_with_errors(&batches, shared),
            _ => {}
        }
        let Some(sink) = &self.sink else { return Ok(true) };
        self.put_records(sink, rows.iter().map(|(place, number, row)| (*place, *number, row)), true, shared)
    }

    /// Calls the output with rows, if it is a function. Rows that it refuses go to the error output.
    pub(super) fn call_placed(
        &self,
        place: Place,
        batch: &RecordBatch,
        shared: &Shared,
    ) -> Result<bool, QueryError> {
        if let Err(reason) = self.call(&self.output, batch, shared) {
            if shared.is_closing() {
                return Ok(false);
            }
            self.give_up(place, u32::MAX, reason, shared)?;
        }
        shared.note_out(batch.num_rows());
        Ok(true)
    }

    pub(super) fn is_stream(&self) -> bool {
        self.sink.is_some()
    }

    /// Returns the records of rows that each have a place, and the rows that are too large.
    pub(super) fn placed(
        &self,
        batch: &RecordBatch,
        places: &[(Place, u32)],
    ) -> Result<PlacedRows, QueryError> {
        let mut placed = PlacedRows::default();
        let rows = self.output.rows_of(batch, places.first().map_or(0, |(place, _)| place.1 as u32));
        for (row, &(place, number)) in rows?.into_iter().zip(places) {
            if self.fits(&row) {
                placed.0.push((place, number, row));
            } else {
                placed.1.push((place, self.too_large(row)));
            }
        }
        Ok(placed)
    }

    fn give_up(&self, place: Place, number: u32, reason: String, shared: &Shared) -> Result<(), QueryError> {
        let message = format!("the function of the output has failed {} times: {reason}", PAUSES.len() + 1);
        let failure = Failure { fault: Fault::Output, message, time: None, data: vec![] };
        let errors = self.errors_of(vec![failure], shared);
        let puts = Puts { output: Rows::default(), errors };
        self.put(place, number, &puts, shared).map(drop)
    }

    fn put_records<'a>(
        &self,
        sink: &Sink,
        rows: impl Iterator<Item = (Place, u32, &'a PutRow)>,
        is_output: bool,
        shared: &Shared,
    ) -> Result<bool, QueryError> {
        for ((shard, sequence), number, row) in rows {
            let record = PutRecord::new(&row.key, &row.data);
            loop {
                let put = sink.put(shard.into(), sequence.into(), number, &record);
                let pause = match put {
                    Ok(_) => break,
                    Err(Error::Throttled { retry_after, .. }) => retry_after,
                    Err(error) if error.is_retryable() => {
                        shared.note_error(&error.to_string());
                        PAUSE
                    }
                    // An error row that the error output refuses is counted and shown, and goes nowhere else.
                    Err(error @ Error::InvalidRecord { .. }) if !is_output => {
                        shared.note_error(&error.to_string());
                        break;
                    }
                    Err(error) => return Err(error.into()),
                };
                if !shared.pause(self.stream.clock(), pause) {
                    return Ok(false);
                }
            }
            if is_output {
                shared.note_out(1);
            }
        }
        Ok(true)
    }

    /// Calls a function with rows until it accepts them.
    fn call(&self, output: &Output, batch: &RecordBatch, shared: &Shared) -> Result<(), String> {
        let Target::Function(function) = &output.target else { return Ok(()) };
        let mut pauses = PAUSES.into_iter();
        loop {
            let called = extend::run_callback(|| function(batch));
            let Err(reason) = called.unwrap_or_else(|| Err("the function has panicked".to_owned())) else {
                return Ok(());
            };
            shared.note_error(&reason);
            match pauses.next() {
                Some(pause) if shared.pause(self.stream.clock(), pause) => {}
                _ => return Err(reason),
            }
        }
    }
}

/// Rows with their places and numbers, and those that are too large.
#[derive(Debug, Default)]
pub(super) struct PlacedRows(pub(super) Vec<(Place, u32, PutRow)>, pub(super) Vec<(Place, Failure)>);

/// The header that a sink adds: the name of the group, of up to 128 bytes, and three numbers.
const HEADER_BYTES_MAX: usize = 256;
