//! Rows in the order in which they came, in batches that are neither tiny nor many.

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::concat_batches;

use super::columns::Result;

/// Batches with fewer rows are joined. Others are kept as they are.
const SMALL_ROWS: usize = 1_024;

/// Rows that are dropped together.
#[derive(Debug, Default)]
pub(super) struct Pile {
    batches: Vec<RecordBatch>,
    pub(super) row_count: usize,
    pub(super) bytes: usize,
}

impl Pile {
    /// Adds rows. A small batch is joined with preceding ones that are not much larger, so that each row is copied at most a few times.
    pub(super) fn push(&mut self, rows: RecordBatch) -> Result<()> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        self.row_count += rows.num_rows();
        self.bytes += rows.get_array_memory_size();
        let mut last = rows;
        let mut joined = vec![];
        while let Some(before) = self.batches.pop() {
            if before.num_rows() >= SMALL_ROWS || before.num_rows() > 2 * last.num_rows() {
                self.batches.push(before);
                break;
            }
            self.bytes -= before.get_array_memory_size() + last.get_array_memory_size();
            joined = vec![before, last];
            last = concat_batches(&joined[0].schema(), &joined)?;
            self.bytes += last.get_array_memory_size();
        }
        drop(joined);
        self.batches.push(last);
        Ok(())
    }

    pub(super) fn batches(&self) -> &[RecordBatch] {
        &self.batches
    }

    pub(super) fn into_batches(self) -> Vec<RecordBatch> {
        self.batches
    }
}
