//! Plans the statements of a pump, with tables that have only the columns that are needed.

use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;

use super::columns::TIME;
use super::evaluate::{Evaluator, Query, Table};
use super::feed::{INPUT, arrow};
use super::operator::Operator;
use super::queries::Queries;
use super::start::Source;
use crate::query::decode::Decoder;
use crate::query::error::QueryError;
use crate::query::statement::plan::{Input, Lookback, Plan, Shape, Window};

/// One input, once its statement is planned.
pub(super) struct Planned {
    pub(super) source: Source,
    pub(super) input: Table,
    pub(super) prepare: Query,
    pub(super) decoder: Decoder,
    pub(super) needed: Vec<usize>,
    pub(super) kept: SchemaRef,
}

/// Plans all statements of a plan.
pub(super) fn plan_all(
    plan: &Plan,
    sources: Vec<Source>,
    evaluator: &Evaluator,
) -> Result<(Vec<Planned>, Queries), QueryError> {
    let mut planned = vec![];
    let mut tables = vec![];
    for (input, source) in plan.inputs.iter().zip(sources) {
        let columns = source.schema.columns();
        evaluator.table(INPUT, &columns)?;
        let whole = evaluator.plan(&input.prepare)?;
        let needed = evaluator.needs(&whole, INPUT, columns.fields().len())?;
        let narrow = Arc::new(columns.project(&needed).map_err(arrow)?);
        let table = evaluator.table(INPUT, &narrow)?;
        let prepare = evaluator.plan(&input.prepare)?;
        let decoder = Decoder::new(&source.schema, &needed);
        let kept = prepare.schema.clone();
        if let Shape::Each { .. } = plan.shape {
            evaluator.view(&input.alias, &prepare);
        } else {
            let schema = Operator::table_schema(&plan.shape, &kept);
            tables.push(evaluator.table(&input.alias, &schema)?);
        }
        let all = (0..kept.fields().len()).collect();
        planned.push(Planned { source, input: table, prepare, decoder, needed: all, kept });
    }
    let queries = match &plan.shape {
        Shape::Each { sql } => return Ok((planned, Queries::Each { query: evaluator.plan(sql)? })),
        Shape::Windows { sql, .. } | Shape::Over { sql, .. } | Shape::Join { sql, .. } => {
            evaluator.plan(sql)?
        }
    };
    // Columns that the later SQL does not need are not kept.
    tables.clear();
    for (input, planned) in plan.inputs.iter().zip(&mut planned) {
        let needs = needs(plan, input, planned, &queries, evaluator)?;
        planned.kept = Arc::new(planned.kept.project(&needs).map_err(arrow)?);
        planned.needed = needs;
        let schema = Operator::table_schema(&plan.shape, &planned.kept);
        tables.push(evaluator.table(&input.alias, &schema)?);
    }
    let queries = match &plan.shape {
        Shape::Each { .. } => unreachable!("returned above"),
        Shape::Windows { sql, separately, .. } => {
            Queries::Windows { query: evaluator.plan(sql)?, tables, separately: *separately }
        }
        Shape::Over { sql, .. } => Queries::Over { query: evaluator.plan(sql)?, table: tables.remove(0) },
        Shape::Join { sql, alone, .. } => {
            let alone = alone.as_ref().map(|alone| evaluator.plan(alone)).transpose()?;
            Queries::Join { query: evaluator.plan(sql)?, tables, alone }
        }
    };
    Ok((planned, queries))
}

/// Returns which columns of prepared rows are kept.
fn needs(
    plan: &Plan,
    input: &Input,
    planned: &Planned,
    query: &Query,
    evaluator: &Evaluator,
) -> Result<Vec<usize>, QueryError> {
    let fields = planned.kept.fields();
    let schema = Operator::table_schema(&plan.shape, &planned.kept);
    let mut needed = evaluator.needs(query, &input.alias, schema.fields().len())?;
    let mut names: Vec<&str> = vec![TIME];
    match &plan.shape {
        Shape::Windows { kind: Window::Session { keys, .. } | Window::Stagger { keys, .. }, .. } => {
            names.extend(keys.iter().map(String::as_str));
        }
        Shape::Over { keep, .. } => {
            names.extend(["_shard", "_sequence"]);
            for lookback in keep {
                if let Lookback::Rows { per, .. } = lookback {
                    names.extend(per.iter().map(String::as_str));
                }
            }
        }
        // Rows that go out alone may need other columns.
        Shape::Join { alone: Some(_), .. } => needed = (0..fields.len()).collect(),
        Shape::Join { .. } => names.extend(["_shard", "_sequence"]),
        _ => {}
    }
    for name in names {
        needed.push(planned.kept.index_of(name).map_err(arrow)?);
    }
    needed.retain(|&column| column < fields.len());
    needed.sort_unstable();
    needed.dedup();
    Ok(needed)
}
