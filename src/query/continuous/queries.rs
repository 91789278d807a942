//! The planned SQL texts of a plan, and their evaluation over rows.

use std::collections::BTreeMap;

use datafusion::arrow::array::{AsArray, RecordBatch, UInt32Array};
use datafusion::arrow::compute::{filter_record_batch, take_record_batch};
use datafusion::arrow::datatypes::TimestampMicrosecondType;
use datafusion::error::DataFusionError;

use super::columns::{Bounds, places};
use super::errors::{Failure, Fault, text_of};
use super::evaluate::{Evaluator, Query, Table, of_rows};
use super::feed::arrow;
use super::halves;
use super::putter::Place;
use super::sides::RowId;
use crate::query::error::QueryError;

/// The columns that name the input row of an output row.
const PLACE: [&str; 2] = ["_place_shard", "_place_sequence"];
const PAIR: [&str; 4] = ["_left_shard", "_left_sequence", "_right_shard", "_right_sequence"];
const KEPT: &str = "_kept";

/// The planned statements of a shape, with the tables that they read.
pub(super) enum Queries {
    /// Reads the input itself.
    Each {
        query: Query,
    },
    Windows {
        query: Query,
        tables: Vec<Table>,
        separately: bool,
    },
    Over {
        query: Query,
        table: Table,
    },
    Join {
        query: Query,
        tables: Vec<Table>,
        alone: Option<Query>,
    },
}

/// Pairs of a join.
#[derive(Debug)]
pub(super) struct Pairs {
    pub(super) rows: RecordBatch,
    /// The rows of the left side and the right side that have met.
    pub(super) met: [Vec<RowId>; 2],
}

type Tables = Vec<Vec<RecordBatch>>;

impl Queries {
    /// Returns the query whose results go out.
    pub(super) fn query(&self) -> &Query {
        match self {
            Self::Each { query }
            | Self::Windows { query, .. }
            | Self::Over { query, .. }
            | Self::Join { query, .. } => query,
        }
    }

    /// Returns the columns that go out.
    pub(super) fn output_columns(&self) -> Vec<String> {
        let fields = self.query().schema.fields().iter();
        let is_own =
            |name: &&String| !PLACE.contains(&&***name) && !PAIR.contains(&&***name) && *name != KEPT;
        fields.map(|field| field.name()).filter(is_own).cloned().collect()
    }

    /// Returns the rows of a result without their places, and the places, each with the index of the row among those of the same place.
    pub(super) fn placed(result: &RecordBatch) -> Result<(RecordBatch, Vec<(Place, u32)>), QueryError> {
        let (shards, sequences) = places(result, PLACE[0], PLACE[1]).map_err(arrow)?;
        let mut numbers: BTreeMap<Place, u32> = BTreeMap::new();
        let numbered = shards.iter().zip(sequences).map(|(&shard, &sequence)| {
            let next = numbers.entry((shard, sequence)).or_default();
            *next += 1;
            ((shard, sequence), *next - 1)
        });
        let numbered = numbered.collect();
        Ok((without(result, &PLACE), numbered))
    }

    /// Evaluates rows that windows have released, or rows with those that they look back at.
    pub(super) fn released(
        &self,
        evaluator: &Evaluator,
        tables: Tables,
        rows: &mut Vec<RecordBatch>,
        failures: &mut Vec<Failure>,
    ) -> Result<(), QueryError> {
        match self {
            Self::Over { query, table } => {
                let released = tables.into_iter().next().unwrap_or_default();
                let mut found = vec![];
                match evaluator.run(query, vec![(table, released.clone())]) {
                    Ok(result) => found = result,
                    Err(error) => {
                        of_rows(error)?;
                        halves::over((evaluator, query), (table, &released), (&mut found, failures))?;
                    }
                }
                rows.extend(found.iter().map(|rows| without(rows, &PLACE)));
            }
            Self::Windows { query, tables: names, separately } => {
                let run = |tables: Tables| evaluator.run(query, names.iter().zip(tables).collect());
                if !separately {
                    match run(tables.clone()) {
                        Ok(result) => {
                            rows.extend(result);
                            return Ok(());
                        }
                        // It may fail for one window only.
                        Err(error) => drop(of_rows(error)?),
                    }
                }
                for (bounds, tables) in by_window(&tables)? {
                    match run(tables) {
                        Ok(result) => rows.extend(result),
                        Err(error) => failures.push(failure_of(error, bounds)?),
                    }
                }
            }
            Self::Each { .. } | Self::Join { .. } => {}
        }
        Ok(())
    }

    /// Evaluates the rows of both sides of a join, some of which are new.
    pub(super) fn meet(
        &self,
        evaluator: &Evaluator,
        left: Vec<RecordBatch>,
        right: Vec<RecordBatch>,
        failures: &mut Vec<Failure>,
    ) -> Result<Vec<Pairs>, QueryError> {
        let Self::Join { query, tables, .. } = self else { return Ok(vec![]) };
        let all = vec![(&tables[0], left.clone()), (&tables[1], right.clone())];
        let results = match evaluator.run(query, all) {
            Ok(results) => results,
            Err(error) => {
                of_rows(error)?;
                let mut found = vec![];
                halves::meet((evaluator, query), tables, [&left, &right], (&mut found, failures))?;
                found
            }
        };
        let mut found = vec![];
        for result in results {
            let mut met = [vec![], vec![]];
            for (side, met) in met.iter_mut().enumerate() {
                let (shards, sequences) =
                    places(&result, PAIR[2 * side], PAIR[2 * side + 1]).map_err(arrow)?;
                met.extend(shards.iter().copied().zip(sequences.iter().copied()));
            }
            let mut rows = result.clone();
            if let Some(kept) = result.column_by_name(KEPT) {
                rows = filter_record_batch(&rows, kept.as_boolean()).map_err(arrow)?;
            }
            found.push(Pairs { rows: without(&without(&rows, &PAIR), &[KEPT]), met });
        }
        Ok(found)
    }

    /// Evaluates the rows of both sides of a join that have met none.
    pub(super) fn alone(
        &self,
        evaluator: &Evaluator,
        sides: [Vec<RecordBatch>; 2],
        rows: &mut Vec<RecordBatch>,
        failures: &mut Vec<Failure>,
    ) -> Result<(), QueryError> {
        let Self::Join { tables, alone: Some(alone), .. } = self else { return Ok(()) };
        for (table, side) in tables.iter().zip(sides).filter(|(_, side)| !side.is_empty()) {
            match evaluator.run(alone, vec![(table, side.clone())]) {
                Ok(result) => rows.extend(result),
                Err(error) => {
                    of_rows(error)?;
                    halves::each((evaluator, alone), (table, &side), (rows, failures))?;
                }
            }
        }
        Ok(())
    }
}

/// Returns the failure of a statement for a window, unless it ends the pump.
fn failure_of(error: DataFusionError, (start, end): Bounds) -> Result<Failure, QueryError> {
    let reason = of_rows(error)?;
    let message = format!("the window from {} to {}: {reason}", text_of(start), text_of(end));
    Ok(Failure { fault: Fault::Evaluation, message, time: Some(end), data: vec![] })
}

/// Returns the rows without some columns.
fn without(rows: &RecordBatch, names: &[&str]) -> RecordBatch {
    let mut rows = rows.clone();
    for name in names {
        if let Ok(index) = rows.schema().index_of(name) {
            rows.remove_column(index);
        }
    }
    rows
}

/// Returns the rows of each window, in the order of their ends.
fn by_window(tables: &Tables) -> Result<Vec<(Bounds, Tables)>, QueryError> {
    let mut windows: BTreeMap<(i64, i64), Tables> = BTreeMap::new();
    for (input, table) in tables.iter().enumerate() {
        for batch in table {
            let bound = |name: &str| {
                let column = batch.column_by_name(name);
                column.and_then(|column| column.as_primitive_opt::<TimestampMicrosecondType>()).cloned()
            };
            let (Some(starts), Some(ends)) = (bound("window_start"), bound("window_end")) else { continue };
            let mut rows_of: BTreeMap<(i64, i64), Vec<u32>> = BTreeMap::new();
            for row in 0..batch.num_rows() {
                rows_of.entry((ends.value(row), starts.value(row))).or_default().push(row as u32);
            }
            for (window, rows) in rows_of {
                let rows = if rows.len() == batch.num_rows() {
                    batch.clone()
                } else {
                    take_record_batch(batch, &UInt32Array::from(rows)).map_err(arrow)?
                };
                let of_window = windows.entry(window).or_insert_with(|| vec![vec![]; tables.len()]);
                of_window[input].push(rows);
            }
        }
    }
    Ok(windows.into_iter().map(|((end, start), tables)| ((start, end), tables)).collect())
}
