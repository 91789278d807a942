//! The last steps: names of the output's columns, and the texts of a plan.

use std::collections::BTreeMap;

use datafusion::sql::sqlparser::ast::{
    Expr, Ident, OrderBy, Query, Select, SelectItem, SetExpr, TableFactor, Visit, Visitor,
};
use std::ops::ControlFlow;

use super::inline::inline;
use super::parse::{ParsedPump, ident, name};
use super::plan::{Plan, Shape};
use super::planner::{Planner, Position, Rows};
use super::problem::{Problem, Result};
use super::stage::{Stage, StageKind};
use super::tables::{Names, TableKind};
use super::tree::{change, column, order_by, select_of};

/// Plans an `INSERT`. The name of the plan is the pump's, or that of the target.
pub(super) fn plan(pump: ParsedPump, names: &Names<'_>) -> Result<Plan> {
    let ParsedPump { name: pump_name, text, stopped, target, columns, mut query, marks } = pump;
    inline(&mut query)?;
    let reads = reads(&query, names);
    let place = target.span;
    let (target_name, known) = match names.find(&name(&target), target.quote_style.is_some()) {
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
        return Err(problem.hint("run it by Catalog::query"));
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
            return Err(problem.nearest(&column.value, declared.iter().map(String::as_str)));
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
            format!("{} columns are inserted into {} of {target}", rows.columns.len(), wanted.len());
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

/// A declared column in other letters, or the name as it stands.
fn exact(column: &Ident, declared: &[String]) -> String {
    let wanted = name(column);
    if column.quote_style.is_some() || declared.contains(&wanted) {
        return wanted;
    }
    declared.iter().find(|other| other.eq_ignore_ascii_case(&wanted)).cloned().unwrap_or(wanted)
}

/// Gives the columns of the outermost `SELECT` their final names. What is ordered by old names is ordered by what these stood for.
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
    let is_column = |expr: &Expr, name: &str| matches!(expr, Expr::Identifier(ident) if ident.value == name);
    let mut replaced: Vec<String> = vec![];
    let mut replace = |expr: &mut Expr| {
        if let Expr::Identifier(used) = expr
            && let Some(meaning) = meanings.get(&name(used))
            && !is_column(meaning, &name(used))
            && !replaced.contains(&name(used))
        {
            // What is put in may name the same again.
            replaced.push(name(used));
            *expr = meaning.clone();
        }
        Ok(())
    };
    if is_alone {
        change(&mut order, &mut replace)?;
        change(&mut select.having, &mut replace)?;
        change(&mut select.qualify, &mut replace)?;
    }
    query.order_by = order;
    Ok(())
}

/// Items without a name that says nothing new.
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

fn finish(stage: Stage, mut query: Query) -> Result<(Vec<super::plan::Input>, Shape)> {
    let has_one_select = selects(&query) == 1;
    let is_ordered = query.order_by.is_some();
    if let (true, Some(select)) = (has_one_select, select_of(&mut query)) {
        let order = match &stage.kind {
            StageKind::Windows { is_aligned: true, .. } => vec!["window_end", "window_start"],
            StageKind::Over { .. } => vec!["_time", "_shard", "_sequence"],
            StageKind::Each if select.from.iter().any(|from| !from.joins.is_empty()) => {
                vec!["_place_shard", "_place_sequence"]
            }
            _ => vec![],
        };
        let of_input = |name: &&str| match (&stage.inputs[0].alias, name.starts_with("_place")) {
            (Some(alias), false) if stage.inputs.len() == 1 && select.group_by_is_empty() => {
                super::tree::column_of(alias, name)
            }
            _ => column(name),
        };
        let order: Vec<Expr> = order.iter().map(of_input).collect();
        select.projection = plain_items(std::mem::take(&mut select.projection));
        if !order.is_empty() && !is_ordered {
            query.order_by = Some(order_by(&order));
        }
    }
    let sql = query.to_string();
    let shape = match stage.kind {
        StageKind::Each => Shape::Each { sql },
        StageKind::Windows { kind, is_aligned, .. } => {
            Shape::Windows { kind, sql, separately: !(is_aligned && has_one_select) }
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

trait Grouped {
    fn group_by_is_empty(&self) -> bool;
}

impl Grouped for Select {
    fn group_by_is_empty(&self) -> bool {
        use datafusion::sql::sqlparser::ast::GroupByExpr;
        matches!(&self.group_by, GroupByExpr::Expressions(keys, _) if keys.is_empty())
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
            && let Some((exact, _)) = names.find(&name(used), used.quote_style.is_some())
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
