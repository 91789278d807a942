//! Joins of two streams: the rows of each side are kept as long as rows of the other side can come that are near in time.

use std::collections::HashSet;

use datafusion::arrow::array::{BooleanArray, RecordBatch};
use datafusion::arrow::datatypes::SchemaRef;

use super::columns::{Micros, Result, filter, marked_schema, micros, places, times, with_mark};
use super::operator::Held;
use super::pile::Pile;
use crate::query::statement::plan::JoinKind;

/// The shard and the sequence number of a row.
pub(super) type RowId = (u32, u64);

/// The rows of both sides.
#[derive(Debug)]
pub(super) struct Sides {
    sides: [Side; 2],
}

#[derive(Debug)]
struct Side {
    marked: SchemaRef,
    keep: Micros,
    /// Rows that have met none go out alone.
    goes_alone: bool,
    /// Rows that have met all existing rows of the other side.
    old: Pile,
    new: Pile,
    /// The rows that have met another, if that is of interest.
    met: HashSet<RowId>,
    /// The earliest time of all rows.
    first: Micros,
}

/// Rows that are dropped and have met none.
#[derive(Debug, Default)]
pub(super) struct Alone {
    /// For the left side and the right side.
    pub(super) tables: [Vec<RecordBatch>; 2],
}

impl Sides {
    pub(super) fn new(keep: [std::time::Duration; 2], kind: JoinKind, schemas: &[SchemaRef]) -> Self {
        let alone = [
            matches!(kind, JoinKind::Left | JoinKind::Full),
            matches!(kind, JoinKind::Right | JoinKind::Full),
        ];
        let side = |at: usize| Side {
            marked: marked_schema(&schemas[at]),
            keep: micros(keep[at]),
            goes_alone: alone[at],
            old: Pile::default(),
            new: Pile::default(),
            met: HashSet::new(),
            first: Micros::MAX,
        };
        Self { sides: [side(0), side(1)] }
    }

    pub(super) fn push(&mut self, input: usize, rows: RecordBatch) -> Result<()> {
        let side = &mut self.sides[input];
        side.first = side.first.min(times(&rows)?.iter().copied().min().unwrap_or(Micros::MAX));
        side.new.push(rows)
    }

    /// Returns the rows of both sides, with the new ones marked, if there are any. They are no longer new afterwards.
    pub(super) fn meet(&mut self) -> Result<Option<[Vec<RecordBatch>; 2]>> {
        if self.sides.iter().all(|side| side.new.row_count == 0) {
            return Ok(None);
        }
        let [left, right] = &mut self.sides;
        Ok(Some([left.take_in()?, right.take_in()?]))
    }

    /// Notes that rows of a side have met rows of the other one. Returns those for which this is new and of interest.
    pub(super) fn note_met(&mut self, input: usize, rows: impl IntoIterator<Item = RowId>) -> Vec<RowId> {
        let side = &mut self.sides[input];
        if !side.goes_alone {
            return vec![];
        }
        rows.into_iter().filter(|&row| side.met.insert(row)).collect()
    }

    pub(super) fn due(&self) -> Option<Micros> {
        let due = |side: &Side| (side.first < Micros::MAX).then(|| side.first + side.keep + 1);
        self.sides.iter().filter_map(due).min()
    }

    /// Drops rows that can no longer meet any. Returns those that have met none.
    pub(super) fn advance(&mut self, watermark: Micros) -> Result<Alone> {
        let [left, right] = &mut self.sides;
        Ok(Alone { tables: [left.advance(watermark)?, right.advance(watermark)?] })
    }

    pub(super) fn held(&self) -> Held {
        let held = |side: &Side| Held {
            rows: side.old.row_count + side.new.row_count,
            bytes: side.old.bytes + side.new.bytes + 32 * side.met.len(),
        };
        held(&self.sides[0]).plus(held(&self.sides[1]))
    }

    /// Returns the rows that are kept, each batch with its input.
    pub(super) fn snapshot(&self) -> Vec<(usize, RecordBatch)> {
        let batches = |input: usize| {
            let side = &self.sides[input];
            side.old.batches().iter().chain(side.new.batches()).map(move |batch| (input, batch.clone()))
        };
        batches(0).chain(batches(1)).collect()
    }

    /// Returns the rows that have met another.
    pub(super) fn met(&self, input: usize) -> Vec<RowId> {
        self.sides[input].met.iter().copied().collect()
    }

    /// Treats pushed rows as having met all others.
    pub(super) fn note_old(&mut self) -> Result<()> {
        for side in &mut self.sides {
            for batch in std::mem::take(&mut side.new).into_batches() {
                side.old.push(batch)?;
            }
        }
        Ok(())
    }
}

impl Side {
    fn take_in(&mut self) -> Result<Vec<RecordBatch>> {
        let mut table = vec![];
        for batch in self.old.batches() {
            table.push(with_mark(batch, &self.marked, false)?);
        }
        for batch in std::mem::take(&mut self.new).into_batches() {
            table.push(with_mark(&batch, &self.marked, true)?);
            self.old.push(batch)?;
        }
        Ok(table)
    }

    fn advance(&mut self, watermark: Micros) -> Result<Vec<RecordBatch>> {
        let before = watermark.saturating_sub(self.keep);
        if self.first >= before {
            return Ok(vec![]);
        }
        let mut alone = vec![];
        let mut left = Pile::default();
        self.first = Micros::MAX;
        for batch in std::mem::take(&mut self.old).into_batches() {
            let times = times(&batch)?;
            if times.iter().any(|&time| time < before) {
                let (shards, sequences) = places(&batch, "_shard", "_sequence")?;
                let mut is_alone = vec![false; times.len()];
                for row in (0..times.len()).filter(|&row| times[row] < before) {
                    is_alone[row] = !self.met.remove(&(shards[row], sequences[row])) && self.goes_alone;
                }
                let is_alone = BooleanArray::from(is_alone);
                let is_left: BooleanArray = times.iter().map(|&time| Some(time >= before)).collect();
                if is_alone.true_count() > 0 {
                    alone.push(filter(&batch, &is_alone)?);
                }
                left.push(filter(&batch, &is_left)?)?;
            } else {
                left.push(batch)?;
            }
        }
        for batch in left.batches() {
            self.first = self.first.min(times(batch)?.iter().copied().min().unwrap_or(Micros::MAX));
        }
        self.old = left;
        let marked = |batch: &RecordBatch| with_mark(batch, &self.marked, true);
        alone.iter().map(marked).collect()
    }
}
