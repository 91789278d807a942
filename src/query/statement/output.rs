//! The last steps: names of the output's columns, and the texts of a plan.

use std::collections::BTreeMap;

use datafusion::sql::sqlparser::ast::{
    Expr, GroupByExpr, Ident, OrderBy, Query, Select, SelectItem, SetExpr, TableFactor, TableWithJoins,
    Visit, VisitMut, Visitor, VisitorMut, WindowType,
};
use std::ops::ControlFlow;

use super::inline::inline;
use super::parse::{ParsedPump, ident, name};
use super::plan::{Plan, Shape};
use super::planner::{Planner, Position, Rows};
use super::problem::{Problem, Result};
use super::scope::find_in;
use super::stage::{Stage, StageKind};
use super::tables::{Names, TableKind};
use super::tree::{change_from_inside, column, has, has_subquery, is_aggregate, order_by, over, select_of};

/// Plans an `INSERT`. The name of the plan is the pump's, or that of the target.
pub(super) fn plan(pump: ParsedPump, names: &Names<'_>) -> Result<Plan> {
    let ParsedPump { name: pump_name, text, stopped, target, columns, mut query, marks } = pump;
    inline(&mut query)?;
    let reads = reads(&query, names);
    let place = target.span;
    let (target_name, known) = match names.find(&target) {
        Some((exact, table)) => (exact, Some(table)),
        None => (name(&target), None),
    };
    if known.is_some_and(|table| table.kind == TableKind::Fixed) {
        let problem = Problem::new(&target, format!("{target} is a file, which is only read"));
        return Err(problem.hint("insert into a stream, a delivery or a function"));
    }
    if let Some(stagger) = &marks.stagger
        && query.order_by.is_some()
    {
        let problem =
            Problem::new(stagger.place, "stagger windows end one by one, so there is nothing to order");
        return Err(problem.hint("leave ORDER BY out"));
    }
    let mut planner = Planner { names, marks, reads, outer: vec![], stage: None };
    let rows = planner.query(&mut query, Position::Root)?;
    let Some(stage) = planner.stage else {
        let problem = Problem::new(place, "the statement reads no stream, so that it would end");
        return Err(problem.hint("run it as a query of what is there"));
    };
    if reads_again(&stage, &target_name) {
        let problem = Problem::new(place, format!("{target} would be written into itself for ever"));
        return Err(problem.hint("insert into another stream"));
    }
    let declared = names.declared.get(&target_name);
    let columns = output_names(&target, &columns, declared, &rows)?;
    rename(&mut query, &columns)?;
    let (inputs, shape) = finish(stage, *query)?;
    let name = pump_name.map_or_else(|| target_name.clone(), |pump| name(&pump));
    Ok(Plan { name, text, target: target_name, columns, stopped, inputs, shape })
}

/// Whether the target is an input.
fn reads_again(stage: &Stage, target: &str) -> bool {
    stage.inputs.iter().any(|input| input.stream == target)
}

/// The columns of the output: those that `INSERT` names, or the target's, or the query's.
fn output_names(
    target: &Ident,
    listed: &[Ident],
    declared: Option<&Vec<String>>,
    rows: &Rows,
) -> Result<Vec<String>> {
    for (place, column) in listed.iter().enumerate() {
        if let Some(declared) = declared
            && !declared.contains(&exact(column, declared))
        {
            let problem = Problem::new(column, format!("{target} has no column {column}"));
            let all: Vec<_> = declared.iter().map(|name| super::problem::quoted(name)).collect();
            let near = problem.nearest(&column.value, declared.iter().map(String::as_str));
            return Err(near.or_hint(&format!("there are {}", all.join(", "))));
        }
        if listed[..place].iter().any(|other| name(other) == name(column)) {
            return Err(Problem::new(column, format!("{column} is listed twice")).hint("leave one out"));
        }
    }
    let wanted: Option<Vec<String>> = match (listed, declared) {
        ([], None) => None,
        ([], Some(declared)) => Some(declared.clone()),
        (listed, declared) => {
            let exact =
                |column: &Ident| declared.map_or_else(|| name(column), |declared| exact(column, declared));
            Some(listed.iter().map(exact).collect())
        }
    };
    if let Some(wanted) = wanted {
        if wanted.len() == rows.columns.len() {
            return Ok(wanted);
        }
        let message =
            format!("the SELECT has {}, and {target} takes {}", columns(rows.columns.len()), wanted.len());
        let hint = format!(
            "select as many: {}",
            wanted.iter().map(|name| super::problem::quoted(name)).collect::<Vec<_>>().join(", ")
        );
        return Err(Problem::new(target, message).hint(hint));
    }
    for (place, column) in rows.columns.iter().enumerate() {
        if rows.columns[..place].contains(column) {
            let problem = Problem::new(target, format!("two columns of the output are called {column}"));
            return Err(problem.hint("give one another name with AS"));
        }
    }
    Ok(rows.columns.clone())
}

fn columns(count: usize) -> String {
    if count == 1 { "1 column".to_owned() } else { format!("{count} columns") }
}

/// The declared column with this name in another case, or the name as it is written.
fn exact(column: &Ident, declared: &[String]) -> String {
    find_in(declared, column).map_or_else(|| name(column), str::to_owned)
}

/// Gives the columns of the outermost `SELECT` their final names. An `ORDER BY` with old names is rewritten to what they stood for.
fn rename(query: &mut Query, names: &[String]) -> Result<()> {
    let mut order: Option<OrderBy> = query.order_by.take();
    let mut body = &mut *query.body;
    let mut is_alone = true;
    let select = loop {
        match body {
            SetExpr::Select(select) => break select,
            SetExpr::SetOperation { left, .. } => body = left,
            SetExpr::Query(inner) => body = &mut inner.body,
            _ => return Ok(()),
        }
        is_alone = false;
    };
    let mut meanings = BTreeMap::new();
    for (one, new) in select.projection.iter_mut().zip(names) {
        let SelectItem::ExprWithAlias { expr, alias } = one else { continue };
        let old = name(alias);
        if old != *new {
            meanings.insert(old, expr.clone());
            *alias = ident(new);
        }
    }
    let replace = |expr: &mut Expr| {
        let meaning = match expr {
            Expr::Identifier(used) => meanings.get(&name(used)),
            _ => None,
        };
        *expr = meaning.unwrap_or(expr).clone();
        Ok(())
    };
    if is_alone && !meanings.is_empty() {
        change_from_inside(&mut order, replace)?;
        change_from_inside(&mut select.having, replace)?;
        change_from_inside(&mut select.qualify, replace)?;
    }
    query.order_by = order;
    Ok(())
}

/// Items without redundant names.
pub(super) fn plain_items(items: Vec<SelectItem>) -> Vec<SelectItem> {
    let plain = |item| match item {
        SelectItem::ExprWithAlias { expr: Expr::Identifier(ident), alias }
            if name(&ident) == name(&alias) =>
        {
            SelectItem::UnnamedExpr(Expr::Identifier(ident))
        }
        item => item,
    };
    items.into_iter().map(plain).collect()
}

/// Makes the texts of a plan.
fn finish(stage: Stage, mut query: Query) -> Result<(Vec<super::plan::Input>, Shape)> {
    let has_one_select = selects(&query) == 1;
    let of_input = |name: &&str| match &stage.inputs[0].alias {
        Some(alias) => super::tree::column_of(alias, name),
        None => column(name),
    };
    let order: Vec<Expr> = match &stage.kind {
        StageKind::Windows { is_aligned: true, .. } if has_one_select && stage.inputs.len() == 1 => {
            let ends = ["window_end", "window_start"];
            let is_grouped = select_of(&mut query).is_some_and(|select| has_keys(select));
            if is_grouped {
                ends.iter().map(|name| column(name)).collect()
            } else {
                ends.iter().map(of_input).collect()
            }
        }
        // The inner one has OVER, the outer one leaves out rows that are not new.
        StageKind::Over { .. } if selects(&query) == 2 => {
            ["_time", "_place_shard", "_place_sequence"].iter().map(|name| column(name)).collect()
        }
        StageKind::Each => {
            let is_joined = select_of(&mut query)
                .is_some_and(|select| select.from.iter().any(|from| !from.joins.is_empty()));
            let places = ["_place_shard", "_place_sequence"];
            if is_joined { places.iter().map(|name| column(name)).collect() } else { vec![] }
        }
        _ => vec![],
    };
    if !order.is_empty() && query.order_by.is_none() {
        query.order_by = Some(order_by(&order));
    }
    let _ = VisitMut::visit(&mut query, &mut Tidier);
    let is_spread = is_spread(&query.body);
    let sql = query.to_string();
    let shape = match stage.kind {
        StageKind::Each => Shape::Each { sql },
        StageKind::Windows { kind, is_aligned, .. } => {
            Shape::Windows { kind, sql, separately: !(is_aligned && is_spread && stage.inputs.len() == 1) }
        }
        StageKind::Over { keep } => Shape::Over { keep, sql },
        StageKind::Join { keep_left, keep_right, kind, alone } => {
            Shape::Join { keep_left, keep_right, kind, sql, alone }
        }
    };
    let inputs =
        stage.inputs.into_iter().enumerate().map(|(number, input)| input.into_input(number)).collect();
    Ok((inputs, shape))
}

/// Whether the levels above the one that reads released rows process each row separately, or together with those of its window.
fn is_spread(body: &SetExpr) -> bool {
    let SetExpr::Select(select) = body else { return false };
    let [TableWithJoins { relation, joins }] = &select.from[..] else { return false };
    let TableFactor::Derived { subquery, .. } = relation else { return true };
    let is_of_window = |expr: &Expr| match over(expr) {
        Some(WindowType::WindowSpec(spec)) => {
            ["window_start", "window_end"].iter().all(|end| spec.partition_by.contains(&column(end)))
        }
        Some(WindowType::NamedWindow(_)) => false,
        None => !is_aggregate(expr),
    };
    joins.is_empty()
        && !has_keys(select)
        && select.having.is_none()
        && select.distinct.is_none()
        && subquery.order_by.is_none()
        && subquery.limit_clause.is_none()
        && !has_subquery(&**select)
        && !has(&**select, |expr| !is_of_window(expr))
        && is_spread(&subquery.body)
}

fn has_keys(select: &Select) -> bool {
    !matches!(&select.group_by, GroupByExpr::Expressions(keys, _) if keys.is_empty())
}

/// Removes redundant names.
struct Tidier;

impl VisitorMut for Tidier {
    type Break = ();

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        select.projection = plain_items(std::mem::take(&mut select.projection));
        ControlFlow::Continue(())
    }
}

struct Counter<'a> {
    names: Option<&'a Names<'a>>,
    reads: BTreeMap<String, usize>,
    selects: usize,
}

impl Visitor for Counter<'_> {
    type Break = ();

    fn pre_visit_select(&mut self, _: &Select) -> ControlFlow<()> {
        self.selects += 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        if let (TableFactor::Table { name: object, .. }, Some(names)) = (factor, self.names)
            && let Ok(used) = super::parse::single(object)
            && let Some((exact, _)) = names.find(used)
        {
            *self.reads.entry(exact).or_default() += 1;
        }
        ControlFlow::Continue(())
    }
}

/// How often a query reads each table.
fn reads(query: &Query, names: &Names<'_>) -> BTreeMap<String, usize> {
    let mut counter = Counter { names: Some(names), reads: BTreeMap::new(), selects: 0 };
    let _ = query.visit(&mut counter);
    counter.reads
}

fn selects(query: &Query) -> usize {
    let mut counter = Counter { names: None, reads: BTreeMap::new(), selects: 0 };
    let _ = query.visit(&mut counter);
    counter.selects
}
