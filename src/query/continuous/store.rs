//! Rows that are dropped one by one, each identified by its place.

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::interleave_record_batch;
use datafusion::arrow::datatypes::SchemaRef;

use super::columns::{Result, compact};
use super::operator::Held;

/// The place of a row: the number of its batch, and its number in that.
pub(super) type Place = (u32, u32);

/// Compacted batches have this many rows.
const BATCH_ROWS: usize = 8_192;
/// Compacting fewer batches is not worthwhile.
const BATCHES_MIN: usize = 256;

/// Rows in batches, of which some are dropped.
#[derive(Debug)]
pub(super) struct Store {
    schema: SchemaRef,
    batches: Vec<Option<Part>>,
    live: usize,
    /// Dropped rows in batches that are kept for their other rows.
    dead: usize,
    bytes: usize,
    /// The rows are compacted when there are this many batches.
    batches_max: usize,
}

#[derive(Debug)]
struct Part {
    rows: RecordBatch,
    live: usize,
    bytes: usize,
}

impl Store {
    pub(super) fn new(schema: SchemaRef) -> Self {
        Self { schema, batches: vec![], live: 0, dead: 0, bytes: 0, batches_max: BATCHES_MIN }
    }

    /// Adds a batch. Returns its number.
    pub(super) fn add(&mut self, rows: RecordBatch) -> u32 {
        let (live, bytes) = (rows.num_rows(), rows.get_array_memory_size());
        self.live += live;
        self.bytes += bytes;
        self.batches.push(Some(Part { rows, live, bytes }));
        (self.batches.len() - 1) as u32
    }

    /// Returns the rows at these places, in this order.
    pub(super) fn gather(&self, places: &[Place]) -> Result<RecordBatch> {
        if places.is_empty() {
            return Ok(RecordBatch::new_empty(self.schema.clone()));
        }
        // Only the batches that are needed, under numbers of their own.
        let mut number_of = vec![u32::MAX; self.batches.len()];
        let mut used = vec![];
        let indices: Vec<(usize, usize)> = places
            .iter()
            .map(|&(batch, row)| {
                let number = &mut number_of[batch as usize];
                if *number == u32::MAX {
                    *number = used.len() as u32;
                    used.push(&self.batches[batch as usize].as_ref().expect("a row keeps its batch").rows);
                }
                (*number as usize, row as usize)
            })
            .collect();
        interleave_record_batch(&used, &indices).map(compact)
    }

    /// Drops the rows at these places.
    pub(super) fn drop_rows(&mut self, places: &[Place]) {
        for &(batch, _) in places {
            let slot = &mut self.batches[batch as usize];
            let part = slot.as_mut().expect("a row keeps its batch");
            part.live -= 1;
            self.live -= 1;
            self.dead += 1;
            if part.live == 0 {
                self.bytes -= part.bytes;
                self.dead -= part.rows.num_rows();
                *slot = None;
            }
        }
    }

    /// Returns whether compacting the rows frees enough.
    pub(super) fn is_scattered(&self) -> bool {
        self.batches.len() >= self.batches_max || self.dead > self.live + BATCH_ROWS
    }

    /// Compacts the rows. `places` are those of all rows, and are replaced by the new ones.
    pub(super) fn put_together(&mut self, places: &mut [&mut Place]) -> Result<()> {
        let mut batches = vec![];
        for places in places.chunks(BATCH_ROWS) {
            let places: Vec<Place> = places.iter().map(|place| **place).collect();
            batches.push(self.gather(&places)?);
        }
        *self = Self::new(self.schema.clone());
        for (batch, places) in batches.into_iter().zip(places.chunks_mut(BATCH_ROWS)) {
            let number = self.add(batch);
            for (row, place) in (0..).zip(places) {
                **place = (number, row);
            }
        }
        self.batches_max = (2 * self.batches.len()).max(BATCHES_MIN);
        Ok(())
    }

    pub(super) fn held(&self) -> Held {
        Held { rows: self.live, bytes: self.bytes }
    }
}
