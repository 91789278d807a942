//! Stagger windows: each begins with the first row of its key that is in no other window, and lasts for a fixed time.
//!
//! Rows of several shards do not come in the order of their times. So the window of a row is decided only once no earlier row is expected.

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;

use super::columns::{Micros, Result};
use super::keyed::{Keyed, Waiting};
use super::operator::{Held, Released};

/// The rows of all keys.
#[derive(Debug)]
pub(super) struct Stagger {
    size: Micros,
    keyed: Keyed,
    /// By the number of the key.
    open: Vec<OfKey>,
}

#[derive(Debug, Default)]
struct OfKey {
    /// The end of the window that the first row begins, if there is a row.
    end: Option<Micros>,
    rows: Vec<Waiting>,
}

impl Stagger {
    pub(super) fn new(size: Micros, keys: &[String], schemas: &[SchemaRef]) -> Result<Self> {
        Ok(Self { size, keyed: Keyed::new(schemas, keys)?, open: vec![] })
    }

    /// Returns the end of the last window that a row at a time could be in, if that window has ended.
    pub(super) fn late_end(&self, time: Micros, watermark: Micros) -> Option<Micros> {
        Some(time + self.size).filter(|&end| end <= watermark)
    }

    pub(super) fn push(&mut self, input: usize, rows: RecordBatch) -> Result<()> {
        let added = self.keyed.add(input, rows)?;
        for row in 0..added.times.len() {
            let (key, waiting) = self.keyed.row(&added, row);
            if self.open.len() <= key as usize {
                self.open.resize_with(key as usize + 1, OfKey::default);
            }
            let of_key = &mut self.open[key as usize];
            let end = waiting.time + self.size;
            if of_key.end.is_none_or(|known| end < known) {
                of_key.end = Some(end);
                self.keyed.look_at(key, end);
            }
            of_key.rows.push(waiting);
        }
        self.tidy()
    }

    fn tidy(&mut self) -> Result<()> {
        self.keyed.tidy(self.open.iter_mut().flat_map(|of_key| &mut of_key.rows))
    }

    pub(super) fn due(&self) -> Option<Micros> {
        self.keyed.next_look().map(|(due, _)| due)
    }

    /// Releases the windows that have ended, in the order of their ends, until they have more than `rows_max` rows.
    pub(super) fn advance(&mut self, watermark: Micros, rows_max: usize) -> Result<Released> {
        let (mut ended, mut row_count, mut reached) = (vec![], 0, watermark);
        while let Some((end, key)) = self.keyed.next_look().filter(|&(due, _)| due <= watermark) {
            if row_count >= rows_max && end > reached_by(&ended) {
                reached = end - 1;
                break;
            }
            self.keyed.take_look();
            let of_key = &mut self.open[key as usize];
            // An earlier row has come since, and its window has been released.
            if of_key.end != Some(end) {
                continue;
            }
            let is_in = |row: &Waiting| row.time < end;
            let (rows, left) = std::mem::take(&mut of_key.rows).into_iter().partition(is_in);
            of_key.rows = left;
            of_key.end = of_key.rows.iter().map(|row| row.time + self.size).min();
            match of_key.end {
                Some(next) => self.keyed.look_at(key, next),
                None => self.keyed.forget(key),
            }
            row_count += rows.len();
            ended.push(((end - self.size, end), rows));
        }
        let tables = self.keyed.release(&ended)?;
        self.tidy()?;
        Ok(Released { tables, reached })
    }

    pub(super) fn held(&self) -> Held {
        self.keyed.held().plus(Held { rows: 0, bytes: self.open.len() * size_of::<OfKey>() })
    }

    pub(super) fn snapshot(&self) -> Result<Vec<(usize, RecordBatch)>> {
        self.keyed.snapshot(self.open.iter().flat_map(|of_key| &of_key.rows))
    }
}

fn reached_by(ended: &[((Micros, Micros), Vec<Waiting>)]) -> Micros {
    ended.last().map_or(Micros::MIN, |&((_, end), _)| end)
}
