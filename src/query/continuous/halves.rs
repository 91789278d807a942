//! Evaluates a statement that fails for some rows: the rows are halved until the failing ones are isolated.

use std::ops::Range;

use datafusion::arrow::array::{AsArray, BooleanArray, RecordBatch};
use datafusion::error::DataFusionError;

use super::columns::{IS_NEW, Result as ArrowResult, filter, places};
use super::errors::{Failure, Fault};
use super::evaluate::{Evaluator, Query, Table, of_rows};
use super::feed::arrow;
use crate::query::error::QueryError;

/// Rows as an operator releases them, some of them new.
type Marked = [RecordBatch];

/// The results of a statement, and the rows for which it fails.
type Outcome<'a> = (&'a mut Vec<RecordBatch>, &'a mut Vec<Failure>);

/// Evaluates new rows with those that they look back at.
pub(super) fn over(
    (evaluator, query): (&Evaluator, &Query),
    (table, rows): (&Table, &Marked),
    outcome: Outcome<'_>,
) -> Result<(), QueryError> {
    let evaluate = |of: &Range<usize>| {
        let marked = marked(rows, |_, new| Some(new.is_some_and(|new| of.contains(&new))));
        may_fail(evaluator.run(query, vec![(table, marked.map_err(arrow)?)]))
    };
    let count = new_count(rows);
    let all = 0..count;
    // If it fails even without new rows, it fails for a row that is looked back at.
    let nothing = evaluate(&(0..0))?;
    let mut left = match nothing {
        Ok(_) => vec![all],
        Err(_) => (0..count).rev().map(|row| row..row + 1).collect(),
    };
    while let Some(of) = left.pop() {
        let found = match &nothing {
            Ok(_) => evaluate(&of)?,
            Err(reason) => Err(reason.clone()),
        };
        match found {
            Ok(found) => outcome.0.extend(found),
            Err(reason) if of.len() <= 1 => outcome.1.push(failure(&name_of_new(rows, of.start)?, &reason)),
            Err(_) => left.extend(halves(of)),
        }
    }
    Ok(())
}

/// Joins new rows of both sides with the existing rows, and with each other.
pub(super) fn meet(
    (evaluator, query): (&Evaluator, &Query),
    tables: &[Table],
    sides: [&Marked; 2],
    outcome: Outcome<'_>,
) -> Result<(), QueryError> {
    for (side, rows) in sides.into_iter().enumerate() {
        let other = 1 - side;
        let run = |own: Vec<RecordBatch>, others: Vec<RecordBatch>| {
            may_fail(evaluator.run(query, vec![(&tables[side], own), (&tables[other], others)]))
        };
        // The new rows of the left side meet the old ones of the right side, and those of the right side meet all of the left side.
        let others = marked(sides[other], |_, new| (side == 1 || new.is_none()).then_some(false));
        let others = others.map_err(arrow)?;
        let all = 0..new_count(rows);
        let mut left = vec![all];
        while let Some(of) = left.pop().filter(|of| !of.is_empty()) {
            let own = marked(rows, |_, new| new.is_some_and(|new| of.contains(&new)).then_some(true));
            let own = own.map_err(arrow)?;
            match run(own.clone(), others.clone())? {
                Ok(found) => outcome.0.extend(found),
                Err(_) if of.len() > 1 => left.extend(halves(of)),
                Err(_) => {
                    let name = name_of_new(rows, of.start)?;
                    let all = 0..others.iter().map(RecordBatch::num_rows).sum();
                    let mut left = vec![all];
                    while let Some(of) = left.pop().filter(|of| !of.is_empty()) {
                        let some = marked(&others, |row, _| of.contains(&row).then_some(false));
                        match run(own.clone(), some.map_err(arrow)?)? {
                            Ok(found) => outcome.0.extend(found),
                            Err(_) if of.len() > 1 => left.extend(halves(of)),
                            Err(reason) => {
                                let pair = format!("{name} with {}", name_of(&others, of.start)?);
                                outcome.1.push(failure(&pair, &reason));
                            }
                        }
                    }
                }
            }
        }
    }
    Ok(())
}

/// Evaluates rows that do not depend on each other.
pub(super) fn each(
    (evaluator, query): (&Evaluator, &Query),
    (table, rows): (&Table, &Marked),
    outcome: Outcome<'_>,
) -> Result<(), QueryError> {
    let mut left: Vec<RecordBatch> = rows.iter().rev().cloned().collect();
    while let Some(rows) = left.pop() {
        match may_fail(evaluator.run(query, vec![(table, vec![rows.clone()])]))? {
            Ok(found) => outcome.0.extend(found),
            Err(reason) if rows.num_rows() <= 1 => {
                outcome.1.push(failure(&name_of(std::slice::from_ref(&rows), 0)?, &reason));
            }
            Err(_) => left.extend(halves(0..rows.num_rows()).map(|half| rows.slice(half.start, half.len()))),
        }
    }
    Ok(())
}

/// Returns both halves, the second one first.
fn halves(of: Range<usize>) -> [Range<usize>; 2] {
    let middle = of.start + of.len() / 2;
    [middle..of.end, of.start..middle]
}

/// Returns why a statement fails, unless that ends the pump.
fn may_fail(
    result: Result<Vec<RecordBatch>, DataFusionError>,
) -> Result<Result<Vec<RecordBatch>, String>, QueryError> {
    match result {
        Ok(found) => Ok(Ok(found)),
        Err(error) => Ok(Err(of_rows(error)?)),
    }
}

fn failure(of: &str, reason: &str) -> Failure {
    Failure { fault: Fault::Evaluation, message: format!("{of}: {reason}"), time: None, data: vec![] }
}

/// Returns some of the rows, with new marks. `mark` is called with the number of each row, and the number that it has among the new ones if it is
/// one.
fn marked(
    rows: &Marked,
    mut mark: impl FnMut(usize, Option<usize>) -> Option<bool>,
) -> ArrowResult<Vec<RecordBatch>> {
    let (mut row, mut new) = (0, 0);
    let mut found = vec![];
    for batch in rows {
        let mut marks = vec![];
        for is_new in marks_of(batch) {
            marks.push(mark(row, is_new.then_some(new)));
            row += 1;
            new += usize::from(is_new);
        }
        let mut columns = batch.columns().to_vec();
        let new_marks: BooleanArray = marks.iter().map(|mark| Some(mark.unwrap_or_default())).collect();
        columns[batch.schema().index_of(IS_NEW)?] = std::sync::Arc::new(new_marks);
        let is_taken: BooleanArray = marks.iter().map(|mark| Some(mark.is_some())).collect();
        found.push(filter(&RecordBatch::try_new(batch.schema(), columns)?, &is_taken)?);
    }
    Ok(found)
}

fn marks_of(batch: &RecordBatch) -> Vec<bool> {
    let marks = batch.column_by_name(IS_NEW).and_then(|column| column.as_boolean_opt());
    marks.map(|marks| marks.values().iter().collect()).unwrap_or_default()
}

fn new_count(rows: &Marked) -> usize {
    rows.iter().flat_map(marks_of).filter(|is_new| *is_new).count()
}

fn name_of_new(rows: &Marked, number: usize) -> Result<String, QueryError> {
    let marks = rows.iter().flat_map(marks_of).enumerate();
    let row = marks.filter(|(_, is_new)| *is_new).nth(number).map_or(0, |(row, _)| row);
    name_of(rows, row)
}

fn name_of(rows: &Marked, mut row: usize) -> Result<String, QueryError> {
    for batch in rows {
        if row < batch.num_rows() {
            let (shards, sequences) = places(batch, "_shard", "_sequence").map_err(arrow)?;
            return Ok(format!("record {} of shard {}", sequences[row], shards[row]));
        }
        row -= batch.num_rows();
    }
    Ok("a record".to_owned())
}
