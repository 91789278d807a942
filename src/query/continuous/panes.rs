//! Windows that are the same for all keys: tumbling, hopping, cumulating.
//!
//! The rows are kept in **panes**: stretches of time that no window divides. A window is a sequence of panes, so a row is kept once, however many
//! windows it is in. No two windows end at the same time.

use std::collections::{BTreeMap, HashMap};

use datafusion::arrow::array::{RecordBatch, UInt32Array};
use datafusion::arrow::datatypes::SchemaRef;

use super::columns::{Bounds, Micros, Result, micros, take, times, windowed_schema, with_window};
use super::operator::{Held, Released};
use super::pile::Pile;
use crate::query::statement::plan::Window;

/// How windows lie in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Grid {
    /// A window of `size` begins at each `slide`, moved by `offset`. If `slide` is `size`, they tumble.
    Hop { size: Micros, slide: Micros, offset: Micros },
    /// Within each `max`, windows of one, two, three … `step`s begin where it begins.
    Cumulate { max: Micros, step: Micros },
}

impl Grid {
    /// Returns the grid of windows that do not depend on keys.
    pub(super) fn of(window: &Window) -> Option<Self> {
        match *window {
            Window::Tumble { size, offset } => {
                let size = micros(size).max(1);
                Some(Self::Hop { size, slide: size, offset: micros(offset) })
            }
            Window::Hop { size, slide, offset } => Some(Self::Hop {
                size: micros(size).max(1),
                slide: micros(slide).max(1),
                offset: micros(offset),
            }),
            Window::Cumulate { max, step } => {
                Some(Self::Cumulate { max: micros(max).max(1), step: micros(step).max(1) })
            }
            Window::Session { .. } | Window::Stagger { .. } => None,
        }
    }

    /// Returns the length of a pane, and where one of them begins.
    fn panes(self) -> (Micros, Micros) {
        match self {
            Self::Hop { size, slide, offset } => (gcd(size, slide), offset),
            Self::Cumulate { step, .. } => (step, 0),
        }
    }

    /// Returns the first window that ends after a time and contains the pane that begins at `pane`.
    fn first_window(self, pane: Micros, after: Micros) -> Option<Bounds> {
        let (length, _) = self.panes();
        let least = (pane + length).max(after.saturating_add(1));
        match self {
            Self::Hop { size, slide, offset } => {
                // Windows end at `offset + size + n * slide`.
                let base = offset + size;
                let end = base + (least - base + slide - 1).div_euclid(slide) * slide;
                (end <= pane + size).then_some((end - size, end))
            }
            Self::Cumulate { max, step } => {
                let start = pane.div_euclid(max) * max;
                let end = start + (least - start + step - 1).div_euclid(step) * step;
                (end <= start + max).then_some((start, end))
            }
        }
    }

    /// Returns the end of the last window that contains the pane that begins at `pane`. `None` if no window does.
    fn last_end(self, pane: Micros) -> Option<Micros> {
        match self {
            Self::Hop { size, slide, offset } => {
                let start = offset + (pane - offset).div_euclid(slide) * slide;
                (start + size > pane).then_some(start + size)
            }
            Self::Cumulate { max, .. } => Some(pane.div_euclid(max) * max + max),
        }
    }
}

fn gcd(a: Micros, b: Micros) -> Micros {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The rows of each pane, for each input.
#[derive(Debug)]
pub(super) struct Panes {
    grid: Grid,
    length: Micros,
    origin: Micros,
    /// By the beginning of the pane.
    panes: BTreeMap<Micros, Vec<Pile>>,
    schemas: Vec<SchemaRef>,
    /// All windows that end by then are released.
    released: Micros,
}

impl Panes {
    /// Holds rows for windows. `schemas` are those of the inputs.
    pub(super) fn new(grid: Grid, schemas: &[SchemaRef]) -> Self {
        let (length, origin) = grid.panes();
        let schemas = schemas.iter().map(|schema| windowed_schema(schema)).collect();
        Self { grid, length, origin, panes: BTreeMap::new(), schemas, released: Micros::MIN / 2 }
    }

    fn pane_of(&self, time: Micros) -> Micros {
        self.origin + (time - self.origin).div_euclid(self.length) * self.length
    }

    /// Returns the end of the last window that contains a time, if all such windows have ended.
    pub(super) fn late_end(&self, time: Micros, watermark: Micros) -> Option<Micros> {
        self.grid.last_end(self.pane_of(time)).filter(|&end| end <= watermark)
    }

    pub(super) fn push(&mut self, input: usize, rows: RecordBatch) -> Result<()> {
        let times = times(&rows)?;
        let (Some(&first), Some(&last)) = (times.iter().min(), times.iter().max()) else { return Ok(()) };
        let (first, last) = (self.pane_of(first), self.pane_of(last));
        if first == last {
            return self.push_into(first, input, rows);
        }
        let mut by_pane: Vec<(Micros, Vec<u32>)> = vec![];
        let mut index_of = HashMap::new();
        let (mut pane, mut index) = (Micros::MIN, 0);
        for (row, &time) in (0..).zip(times) {
            // Rows come nearly in order, so the next one is usually in the same pane.
            if !(pane..pane.saturating_add(self.length)).contains(&time) || by_pane.is_empty() {
                pane = self.pane_of(time);
                index = *index_of.entry(pane).or_insert_with(|| {
                    by_pane.push((pane, vec![]));
                    by_pane.len() - 1
                });
            }
            by_pane[index].1.push(row);
        }
        for (pane, taken) in by_pane {
            let taken = take(&rows, &UInt32Array::from(taken))?;
            self.push_into(pane, input, taken)?;
        }
        Ok(())
    }

    fn push_into(&mut self, pane: Micros, input: usize, rows: RecordBatch) -> Result<()> {
        // Between windows with gaps.
        if self.grid.last_end(pane).is_none_or(|end| end <= self.released) {
            return Ok(());
        }
        let count = self.schemas.len();
        let piles = self.panes.entry(pane).or_insert_with(|| (0..count).map(|_| Pile::default()).collect());
        piles[input].push(rows)
    }

    /// Returns the window that ends next.
    fn next_window(&self) -> Option<Bounds> {
        // A pane that begins later has no window that ends sooner.
        self.panes.keys().find_map(|&pane| self.grid.first_window(pane, self.released))
    }

    pub(super) fn due(&self) -> Option<Micros> {
        self.next_window().map(|(_, end)| end)
    }

    /// Releases windows that end by the watermark, until they have more than `rows_max` rows.
    pub(super) fn advance(&mut self, watermark: Micros, rows_max: usize) -> Result<Released> {
        let mut tables = vec![vec![]; self.schemas.len()];
        let mut row_count = 0;
        while let Some((start, end)) = self.next_window().filter(|&(_, end)| end <= watermark) {
            if row_count >= rows_max {
                return Ok(Released { tables, reached: self.released });
            }
            for piles in self.panes.range(start..end).map(|(_, piles)| piles) {
                for ((pile, table), schema) in piles.iter().zip(&mut tables).zip(&self.schemas) {
                    row_count += pile.row_count;
                    for batch in pile.batches() {
                        table.push(with_window(batch, schema, (start, end))?);
                    }
                }
            }
            self.release_to(end);
        }
        self.release_to(watermark);
        Ok(Released { tables, reached: watermark })
    }

    fn release_to(&mut self, end: Micros) {
        self.released = self.released.max(end);
        while let Some(first) = self.panes.first_entry()
            && self.grid.last_end(*first.key()).is_none_or(|last| last <= self.released)
        {
            first.remove();
        }
    }

    pub(super) fn held(&self) -> Held {
        let piles = self.panes.values().flatten();
        let add = |held: Held, pile: &Pile| Held {
            rows: held.rows + pile.row_count,
            bytes: held.bytes + pile.bytes,
        };
        piles.fold(Held::default(), add)
    }

    /// Returns the rows that are held, each batch with its input. Pushing them again after an advance to the same watermark restores the state.
    pub(super) fn snapshot(&self) -> Vec<(usize, RecordBatch)> {
        let piles = self.panes.values().flat_map(|piles| piles.iter().enumerate());
        piles
            .flat_map(|(input, pile)| pile.batches().iter().map(move |batch| (input, batch.clone())))
            .collect()
    }
}
