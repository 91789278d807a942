//! Operators, which keep rows until time has passed them: one for each kind of window.
//!
//! Operators are pure: they are given rows and a watermark, and return rows. Rows that are not late are pushed → rows that meet others immediately
//! are taken → the watermark advances, step by step, and each step releases rows. The same pushes and advances result in the same state, in any
//! process.

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;

use super::columns::{Micros, Result, marked_schema, micros, times, windowed_schema};
use super::over::Over;
use super::panes::{Grid, Panes};
use super::sessions::Sessions;
use super::sides::{Alone, Sides};
use super::stagger::Stagger;
use crate::query::statement::plan::{Shape, Window};

/// How much an operator keeps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) rows: usize,
    pub(super) bytes: usize,
}

impl Held {
    pub(super) fn plus(self, more: Self) -> Self {
        Self { rows: self.rows + more.rows, bytes: self.bytes + more.bytes }
    }
}

/// A row that comes too late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Late {
    /// Its number in the batch.
    pub(super) row: usize,
    /// When its time ended.
    pub(super) end: Micros,
}

/// The rows that an advance of the watermark has released.
#[derive(Debug)]
pub(super) struct Released {
    /// The rows for the table of each input.
    pub(super) tables: Vec<Vec<RecordBatch>>,
    /// How far the watermark has come: the rest is for the next advance.
    pub(super) reached: Micros,
}

impl Released {
    pub(super) fn row_count(&self) -> usize {
        self.tables.iter().flatten().map(RecordBatch::num_rows).sum()
    }
}

/// Keeps rows as a plan says.
#[derive(Debug)]
pub(super) enum Operator {
    Panes(Panes),
    Sessions(Sessions),
    Stagger(Stagger),
    Over(Over),
    Sides(Sides),
}

impl Operator {
    /// Returns the operator of a shape, or none if its rows go out immediately. `schemas` are those of the inputs, once they are prepared.
    pub(super) fn new(shape: &Shape, schemas: &[SchemaRef]) -> Result<Option<Self>> {
        Ok(Some(match shape {
            Shape::Each { .. } => return Ok(None),
            Shape::Windows { kind: Window::Session { gap, keys }, .. } => {
                Self::Sessions(Sessions::new(micros(*gap).max(1), keys, schemas)?)
            }
            Shape::Windows { kind: Window::Stagger { size, keys }, .. } => {
                Self::Stagger(Stagger::new(micros(*size).max(1), keys, schemas)?)
            }
            Shape::Windows { kind, .. } => match Grid::of(kind) {
                Some(grid) => Self::Panes(Panes::new(grid, schemas)),
                None => return Ok(None),
            },
            Shape::Over { keep, .. } => Self::Over(Over::new(keep, &schemas[0])?),
            Shape::Join { keep_left, keep_right, kind, .. } => {
                Self::Sides(Sides::new([*keep_left, *keep_right], *kind, schemas))
            }
        }))
    }

    /// Returns the schema of the table that the SQL of a shape reads.
    pub(super) fn table_schema(shape: &Shape, prepared: &SchemaRef) -> SchemaRef {
        match shape {
            Shape::Each { .. } => prepared.clone(),
            Shape::Windows { .. } => windowed_schema(prepared),
            Shape::Over { .. } | Shape::Join { .. } => marked_schema(prepared),
        }
    }

    /// Returns the rows of a batch that come too late.
    pub(super) fn late(&mut self, input: usize, rows: &RecordBatch, watermark: Micros) -> Result<Vec<Late>> {
        let end_of: &dyn Fn(Micros) -> Option<Micros> = match self {
            Self::Sessions(sessions) => return sessions.late(input, rows, watermark),
            Self::Panes(panes) => &|time| panes.late_end(time, watermark),
            Self::Stagger(stagger) => &|time| stagger.late_end(time, watermark),
            Self::Over(_) | Self::Sides(_) => &|time| (time < watermark).then_some(time),
        };
        let times = times(rows)?;
        // Usually none is.
        if times.iter().all(|&time| time >= watermark) {
            return Ok(vec![]);
        }
        let late = |(row, &time): (usize, &Micros)| end_of(time).map(|end| Late { row, end });
        Ok(times.iter().enumerate().filter(|(_, time)| **time < watermark).filter_map(late).collect())
    }

    /// Adds rows, none of which is late.
    pub(super) fn push(&mut self, input: usize, rows: RecordBatch) -> Result<()> {
        match self {
            Self::Panes(panes) => panes.push(input, rows),
            Self::Sessions(sessions) => sessions.push(input, rows),
            Self::Stagger(stagger) => stagger.push(input, rows),
            Self::Over(over) => over.push(rows),
            Self::Sides(sides) => sides.push(input, rows),
        }
    }

    /// Adds rows of a [snapshot](Self::snapshot), after an advance to the watermark that it was made at.
    pub(super) fn restore(&mut self, input: usize, rows: RecordBatch, watermark: Micros) -> Result<()> {
        match self {
            Self::Over(over) => over.restore(rows, watermark),
            Self::Sides(sides) => {
                sides.push(input, rows)?;
                sides.note_old()
            }
            _ => self.push(input, rows),
        }
    }

    /// Raises the watermark, and returns the released rows: about `rows_max` of them, and the rest in further calls. Rows of a join that have met
    /// none are returned separately.
    pub(super) fn advance(&mut self, watermark: Micros, rows_max: usize) -> Result<(Released, Alone)> {
        let released = match self {
            Self::Panes(panes) => panes.advance(watermark, rows_max)?,
            Self::Sessions(sessions) => sessions.advance(watermark, rows_max)?,
            Self::Stagger(stagger) => stagger.advance(watermark, rows_max)?,
            Self::Over(over) => over.advance(watermark)?,
            Self::Sides(sides) => {
                let alone = sides.advance(watermark)?;
                return Ok((Released { tables: vec![vec![], vec![]], reached: watermark }, alone));
            }
        };
        Ok((released, Alone::default()))
    }

    /// Returns the watermark at which rows will be released or dropped, if nothing comes earlier.
    pub(super) fn due(&self) -> Result<Option<Micros>> {
        Ok(match self {
            Self::Panes(panes) => panes.due(),
            Self::Sessions(sessions) => sessions.due(),
            Self::Stagger(stagger) => stagger.due(),
            Self::Over(over) => return over.due(),
            Self::Sides(sides) => sides.due(),
        })
    }

    pub(super) fn held(&self) -> Held {
        match self {
            Self::Panes(panes) => panes.held(),
            Self::Sessions(sessions) => sessions.held(),
            Self::Stagger(stagger) => stagger.held(),
            Self::Over(over) => over.held(),
            Self::Sides(sides) => sides.held(),
        }
    }

    /// Returns the rows that are held, each batch with its input.
    pub(super) fn snapshot(&self) -> Result<Vec<(usize, RecordBatch)>> {
        Ok(match self {
            Self::Panes(panes) => panes.snapshot(),
            Self::Sessions(sessions) => sessions.snapshot()?,
            Self::Stagger(stagger) => stagger.snapshot()?,
            Self::Over(over) => over.snapshot()?.into_iter().map(|rows| (0, rows)).collect(),
            Self::Sides(sides) => sides.snapshot(),
        })
    }

    /// The two sides of a join.
    pub(super) fn sides(&mut self) -> Option<&mut Sides> {
        match self {
            Self::Sides(sides) => Some(sides),
            _ => None,
        }
    }
}
