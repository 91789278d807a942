//! Walks a query from the tables up, and finds the place where rows wait.

use std::collections::BTreeMap;

use datafusion::sql::sqlparser::ast::{
    Expr, JoinConstraint, LimitClause, OrderBy, Query, Select, SetExpr, VisitMut, VisitorMut,
};
use datafusion::sql::sqlparser::tokenizer::Location;
use std::ops::ControlFlow;

use super::buckets::translate;
use super::checks::{check_query, check_row_by_row, check_select};
use super::dialect::{Mark, Marks};
use super::items::name_items;
use super::problem::{Problem, Result};
use super::scope::{Relation, Scope, Source};
use super::stage::{Stage, StageKind};
use super::tables::Names;
use super::tree::{change, column, column_of, constraint_mut, has, has_subquery, item, over};

pub(super) struct Planner<'a> {
    pub(super) names: &'a Names<'a>,
    pub(super) marks: Marks,
    /// How often the statement reads each stream.
    pub(super) reads: BTreeMap<String, usize>,
    /// The tables of the `SELECT`s around the one at hand.
    pub(super) outer: Vec<Vec<Relation>>,
    pub(super) stage: Option<Stage>,
}

/// The position of a query in the statement.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Position {
    /// Its rows are the output.
    Root,
    /// In a `FROM`.
    Table,
    /// One of several that `UNION` or the like connects, or in brackets.
    Part,
    /// In an expression.
    Expression,
}

/// The result of a query.
#[derive(Default)]
pub(super) struct Rows {
    pub(super) columns: Vec<String>,
    /// Columns for the runner, behind the others.
    pub(super) carries: Vec<String>,
    /// The stream that it passes on, row by row, without a stage of its own. The factor is that of the query's own table.
    pub(super) source: Option<Source>,
}

/// The clauses after a `SELECT`.
pub(super) struct Tail<'a> {
    pub(super) order_by: &'a mut Option<OrderBy>,
    pub(super) limit: Option<&'a LimitClause>,
}

impl Planner<'_> {
    pub(super) fn query(&mut self, query: &mut Query, position: Position) -> Result<Rows> {
        check_query(query)?;
        match &mut *query.body {
            SetExpr::Query(inner) if query.order_by.is_none() && query.limit_clause.is_none() => {
                *query = (**inner).clone();
                self.query(query, position)
            }
            SetExpr::Select(select) => {
                let tail = Tail { order_by: &mut query.order_by, limit: query.limit_clause.as_ref() };
                self.select(select, tail, position)
            }
            body => self.part(body),
        }
    }

    /// Plans a query that can be evaluated over existing rows, but not row by row.
    fn part(&mut self, body: &mut SetExpr) -> Result<Rows> {
        match body {
            SetExpr::Select(select) => {
                let tail = Tail { order_by: &mut None, limit: None };
                self.select(select, tail, Position::Part)
            }
            SetExpr::Query(query) => self.query(query, Position::Part),
            SetExpr::SetOperation { left, right, .. } => {
                let rows = self.part(left)?;
                self.part(right)?;
                Ok(rows)
            }
            SetExpr::Values(values) => {
                let count = values.rows.first().map_or(0, |row| row.len());
                Ok(Rows { columns: (1..=count).map(|n| format!("column{n}")).collect(), ..Rows::default() })
            }
            other => {
                let problem = Problem::new(Location::empty(), format!("{other} is not possible here"));
                Err(problem.hint("write a SELECT"))
            }
        }
    }

    fn select(&mut self, select: &mut Select, mut tail: Tail<'_>, position: Position) -> Result<Rows> {
        check_select(select)?;
        let relations = self.relations(&mut select.from)?;
        let mut relations = relations;
        for relation in &mut relations {
            if let (Some(Mark::Function(_)), Some(_)) = (&relation.mark, &relation.source) {
                relation.own.extend(["window_start".to_owned(), "window_end".to_owned()]);
                relation.columns.extend(["window_start".to_owned(), "window_end".to_owned()]);
            }
        }
        let mut rows = Rows { columns: name_items(select, &relations)?, ..Rows::default() };
        self.resolve(select, &mut tail, &relations, &rows.columns)?;
        let sources = relations.iter().filter(|relation| relation.source.is_some()).count();
        if sources == 0 {
            rows.carries = self.pass_on(select, &tail, &relations)?;
            return Ok(rows);
        }
        if let Some(windows) = self.windows_of(select, &relations)? {
            self.windows(select, &mut tail, &relations, windows)?;
            return Ok(rows);
        }
        let place = select.select_token.0.span.start;
        self.check_streaming(select, &tail, &relations, position)?;
        if sources > 1 {
            rows.carries = self.join(select, &relations, position)?;
        } else if has(select, |expr| over(expr).is_some()) {
            rows.carries = self.over(select, &relations)?;
        } else if position == Position::Table && relations.len() == 1 && !has_subquery(select) {
            rows.source = Some(plain(select, &relations[0], &rows.columns)?);
        } else {
            let input = self.take_source(select, &relations)?;
            row_times(select)?;
            let mut input = input;
            self.push_conditions(select, &relations, &mut input);
            rows.carries = carry_places(select, &relations);
            self.begin(StageKind::Each, vec![input], select, place)?;
        }
        Ok(rows)
    }

    /// Replaces the columns in the expressions of a `SELECT` by their exact names, and plans its subqueries.
    fn resolve(
        &mut self,
        select: &mut Select,
        tail: &mut Tail<'_>,
        relations: &[Relation],
        aliases: &[String],
    ) -> Result<()> {
        // Tables were already processed. Conditions and the list of columns do not know the names that the list gives.
        let mut from = std::mem::take(&mut select.from);
        let mut projection = std::mem::take(&mut select.projection);
        let mut selection = select.selection.take();
        let joins = from.iter_mut().flat_map(|from| &mut from.joins);
        let mut conditions: Vec<&mut Expr> = joins
            .filter_map(|join| match constraint_mut(&mut join.join_operator) {
                Some(JoinConstraint::On(on)) => Some(on),
                _ => None,
            })
            .collect();
        let mut inner = Resolver { planner: self, relations, aliases: &[], depth: 0 };
        let mut flow = projection.visit(&mut inner);
        flow = then(flow, || selection.visit(&mut inner));
        for on in &mut conditions {
            flow = then(flow, || on.visit(&mut inner));
        }
        let mut outer = Resolver { aliases, ..inner };
        flow = then(flow, || select.visit(&mut outer));
        flow = then(flow, || tail.order_by.visit(&mut outer));
        select.from = from;
        select.projection = projection;
        select.selection = selection;
        if let ControlFlow::Break(problem) = flow {
            return Err(*problem);
        }
        let Some(stagger) = self.marks.stagger.as_mut() else { return Ok(()) };
        if stagger.select == select.select_token.0.span.start {
            let scope = Scope { relations, aliases: &[], outer: &self.outer };
            change(&mut stagger.keys, |expr| scope.resolve(expr))?;
        }
        Ok(())
    }

    fn subquery(&mut self, query: &mut Query, relations: &[Relation]) -> Result<()> {
        self.outer.push(relations.to_vec());
        let rows = self.query(query, Position::Expression);
        self.outer.pop();
        rows.map(drop)
    }

    /// A `SELECT` above the stage, or of other tables alone. Passes on the columns that a level below has for the runner.
    fn pass_on(
        &mut self,
        select: &mut Select,
        tail: &Tail<'_>,
        relations: &[Relation],
    ) -> Result<Vec<String>> {
        let carries: Vec<String> =
            relations.iter().flat_map(|relation| relation.carries.iter().cloned()).collect();
        if carries.is_empty() {
            change(select, translate)?;
            return Ok(carries);
        }
        check_row_by_row(select, tail)?;
        if let Some(expr) = super::tree::find(select, |expr| over(expr).map(|_| expr.clone())) {
            let problem = Problem::new(&expr, format!("{expr} looks back over rows of a query"));
            return Err(problem.hint("write OVER in the SELECT that reads the stream"));
        }
        change(select, translate)?;
        select.projection.extend(carries.iter().map(|carried| item(column(carried), carried)));
        Ok(carries)
    }

    /// Refuses what only windows can do.
    fn check_streaming(
        &self,
        select: &Select,
        tail: &Tail<'_>,
        relations: &[Relation],
        position: Position,
    ) -> Result<()> {
        let source = relations.iter().find(|relation| relation.source.is_some());
        let name = source.and_then(|relation| relation.source.as_ref()).map_or("", |source| &*source.stream);
        let place = source.map_or(select.select_token.0.span.start, |relation| relation.place);
        if let Some(Stage { kind: StageKind::Windows { .. }, .. }) = &self.stage {
            let problem =
                Problem::new(place, format!("{name} is read without a window beside one that has windows"));
            return Err(problem.hint("read it through the same windows: FROM TABLE(TUMBLE(TABLE …))"));
        }
        if let Some(stage) = &self.stage {
            let line = stage.place.line;
            let problem =
                Problem::new(place, format!("two queries of streams: another one is in line {line}"));
            return Err(
                problem.hint("join the streams in one FROM, or let several pumps insert into one stream")
            );
        }
        match position {
            Position::Expression => {
                let problem =
                    Problem::new(place, format!("a subquery reads all of {name}, which never ends"));
                return Err(problem.hint(format!(
                    "read it through windows: FROM TABLE(TUMBLE(TABLE {name}, …)), or join it"
                )));
            }
            Position::Part => {
                let problem = Problem::new(place, "UNION, EXCEPT and INTERSECT do not work row by row");
                return Err(problem.hint("let several pumps insert into one stream: one for each SELECT"));
            }
            Position::Root | Position::Table => {}
        }
        check_row_by_row(select, tail)
    }

    /// Adds the stage. A statement has only one.
    pub(super) fn begin(
        &mut self,
        kind: StageKind,
        mut inputs: Vec<super::stage::StageInput>,
        select: &Select,
        place: Location,
    ) -> Result<()> {
        for input in &mut inputs {
            super::tree::names_in(select, &mut input.names);
            super::relations::using_names(select, &mut input.names);
        }
        self.stage = Some(Stage { kind, inputs, place });
        Ok(())
    }
}

/// Passes a stream on in a subquery: as its columns and those that the runner needs.
fn plain(select: &mut Select, relation: &Relation, columns: &[String]) -> Result<Source> {
    row_times(select)?;
    let source = relation.source.clone().expect("the caller has asked for a source");
    let event_time = select.projection.iter().find_map(|one| match one {
        datafusion::sql::sqlparser::ast::SelectItem::ExprWithAlias { expr, alias } => {
            (relation.time(expr) == Some(super::scope::Time::Event)).then(|| super::parse::name(alias))
        }
        _ => None,
    });
    for system in ["_shard", "_sequence", "_arrival"] {
        if !columns.iter().any(|column| column == system) {
            select.projection.push(item(column(system), system));
        }
    }
    select.from[0].relation = source.factor.clone();
    Ok(Source { event_time, is_bare: false, ..source })
}

/// Replaces `ROWTIME` by the arrival everywhere, and translates functions.
pub(super) fn row_times(select: &mut Select) -> Result<()> {
    change(select, |expr| {
        row_time(expr)?;
        translate(expr)
    })
}

/// Replaces `ROWTIME` by the arrival. Windows have no name here.
pub(super) fn row_time(expr: &mut Expr) -> Result<()> {
    let ident = match expr {
        Expr::Identifier(ident) => ident,
        Expr::CompoundIdentifier(parts) if parts.len() == 2 => &mut parts[1],
        _ => return Ok(()),
    };
    match &*ident.value {
        "_rowtime" => "_arrival".clone_into(&mut ident.value),
        "window_start" | "window_end" | "_window_time" => {
            let problem = Problem::new(&*ident, "there is no window here");
            return Err(problem.hint("read the stream through one: FROM TABLE(TUMBLE(TABLE s, DESCRIPTOR(ROWTIME), INTERVAL '1' MINUTE))"));
        }
        _ => {}
    }
    Ok(())
}

/// Adds the place of the input row to the result.
pub(super) fn carry_places(select: &mut Select, relations: &[Relation]) -> Vec<String> {
    let source = relations.iter().find(|relation| relation.source.is_some());
    let of = |name: &str| match source.and_then(|source| source.alias.as_ref()) {
        Some(alias) => column_of(alias, name),
        None => column(name),
    };
    select.projection.push(item(of("_shard"), "_place_shard"));
    select.projection.push(item(of("_sequence"), "_place_sequence"));
    vec!["_place_shard".to_owned(), "_place_sequence".to_owned()]
}

fn then<B>(flow: ControlFlow<B>, next: impl FnOnce() -> ControlFlow<B>) -> ControlFlow<B> {
    if flow.is_continue() { next() } else { flow }
}

/// Resolves the expressions of one `SELECT`, and plans each subquery that it meets.
struct Resolver<'r, 'a> {
    planner: &'r mut Planner<'a>,
    relations: &'r [Relation],
    aliases: &'r [String],
    depth: usize,
}

impl VisitorMut for Resolver<'_, '_> {
    type Break = Box<Problem>;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Self::Break> {
        self.depth += 1;
        if self.depth > 1 {
            return ControlFlow::Continue(());
        }
        let planned = self.planner.subquery(query, self.relations);
        planned.map_or_else(|problem| ControlFlow::Break(Box::new(problem)), ControlFlow::Continue)
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<Self::Break> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Self::Break> {
        if self.depth > 0 {
            return ControlFlow::Continue(());
        }
        let scope = Scope { relations: self.relations, aliases: self.aliases, outer: &self.planner.outer };
        match scope.resolve(expr) {
            Err(problem) => ControlFlow::Break(Box::new(problem)),
            Ok(_) => ControlFlow::Continue(()),
        }
    }
}
