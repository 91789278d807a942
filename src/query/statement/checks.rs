//! Refuses what neither streams nor the rest of planning support, with advice what to write instead.

use datafusion::sql::sqlparser::ast::{Distinct, Expr, GroupByExpr, Query, Select, SelectFlavor, Spanned};

use super::over::FOREST_WINDOW;
use super::planner::Tail;
use super::problem::{Problem, Result};
use super::tree::{find, function_name, is_aggregate};
use crate::query::functions::forest;

/// Refuses clauses that need all rows before they can return one.
pub(super) fn check_row_by_row(select: &Select, tail: &Tail<'_>) -> Result<()> {
    const WINDOW: &str = "add a window: GROUP BY …, STEP(ROWTIME BY INTERVAL '60' SECOND), or FROM TABLE(TUMBLE(TABLE s, \
                          DESCRIPTOR(ROWTIME), INTERVAL '1' MINUTE)) GROUP BY window_start, window_end";
    let start = select.select_token.0.span;
    if let Some(expr) = find(select, |expr| is_aggregate(expr).then(|| expr.clone())) {
        let problem =
            Problem::new(&expr, format!("{expr} over a stream has no result until the stream ends"));
        return Err(problem.hint(WINDOW));
    }
    let is_grouped = match &select.group_by {
        GroupByExpr::All(_) => true,
        GroupByExpr::Expressions(keys, _) => !keys.is_empty(),
    };
    if is_grouped || select.having.is_some() {
        return Err(Problem::new(start, "GROUP BY over a stream needs a window").hint(WINDOW));
    }
    if !matches!(select.distinct, None | Some(Distinct::All)) {
        return Err(Problem::new(start, "DISTINCT over a stream needs a window").hint(WINDOW));
    }
    if tail.limit.is_some() {
        let problem =
            Problem::new(start, "LIMIT over a stream needs a window: which rows are first is never settled");
        return Err(problem.hint(WINDOW));
    }
    if let Some(order) = &tail.order_by {
        let problem =
            Problem::new(start, format!("{order} over a stream needs a window: rows go out as they come"));
        return Err(problem.hint(WINDOW));
    }
    Ok(())
}

pub(super) fn check_query(query: &Query) -> Result<()> {
    let extra = if query.fetch.is_some() {
        Some(("FETCH", "write LIMIT"))
    } else if !query.locks.is_empty() {
        Some(("FOR UPDATE", "leave it out: streams are only read"))
    } else if !query.pipe_operators.is_empty() {
        Some(("|>", "write a SELECT around it"))
    } else if query.for_clause.is_some() || query.settings.is_some() || query.format_clause.is_some() {
        Some(("what follows the query", "leave it out"))
    } else {
        None
    };
    match extra {
        None => Ok(()),
        Some((what, hint)) => Err(Problem::new(query.span(), format!("{what} is not possible")).hint(hint)),
    }
}

pub(super) fn check_select(select: &Select) -> Result<()> {
    let is_forest = |expr: &Expr| match expr {
        Expr::Function(function) => function.over.is_none() && *function_name(function) == *forest::NAME,
        _ => false,
    };
    if let Some(expr) = find(select, |expr| is_forest(expr).then(|| expr.clone())) {
        let message = format!("{} compares a row with those before it", forest::NAME);
        return Err(Problem::new(&expr, message).hint(FOREST_WINDOW));
    }
    let extra = if select.into.is_some() {
        Some(("SELECT INTO", "the target is the one of INSERT INTO"))
    } else if select.top.is_some() {
        Some(("TOP", "write LIMIT"))
    } else if !select.lateral_views.is_empty() {
        Some(("LATERAL VIEW", "write unnest(column) in the list of columns"))
    } else if select.prewhere.is_some() {
        Some(("PREWHERE", "write WHERE"))
    } else if !select.connect_by.is_empty() {
        Some(("CONNECT BY", "join the tables"))
    } else if !matches!(&select.group_by, GroupByExpr::Expressions(_, modifiers) if modifiers.is_empty()) {
        Some(("GROUP BY ALL, WITH ROLLUP or WITH CUBE", "write the keys: GROUP BY a, b"))
    } else if !select.cluster_by.is_empty() || !select.distribute_by.is_empty() || !select.sort_by.is_empty()
    {
        Some(("CLUSTER BY, DISTRIBUTE BY or SORT BY", "write ORDER BY behind a window"))
    } else if select.exclude.is_some() || select.value_table_mode.is_some() {
        Some(("this form of SELECT", "write the columns one by one"))
    } else if select.flavor != SelectFlavor::Standard {
        Some(("FROM before SELECT", "write SELECT … FROM …"))
    } else {
        None
    };
    let problem = |(what, hint)| {
        Err(Problem::new(select.select_token.0.span, format!("{what} is not possible")).hint(hint))
    };
    extra.map_or(Ok(()), problem)
}
