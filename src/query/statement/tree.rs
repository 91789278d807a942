//! Helpers that query the trees of statements, and build small ones.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, JoinConstraint,
    JoinOperator, ObjectName, OrderBy, OrderByExpr, OrderByKind, OrderByOptions, Query, Select, SelectItem,
    SetExpr, TableAlias, TableFactor, TableWithJoins, Visit, VisitMut, Visitor, VisitorMut, WindowType,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;

use super::parse::{ident, name};
use super::problem::{Problem, Result};

/// Visits expressions, except those of subqueries.
struct Shallow<F> {
    depth: usize,
    /// Whether inner ones come first.
    from_inside: bool,
    visit: F,
}

impl<F: FnMut(&mut Expr) -> Result<()>> Shallow<F> {
    fn visit(&mut self, expr: &mut Expr, is_before: bool) -> ControlFlow<Box<Problem>> {
        if self.depth > 0 || self.from_inside == is_before {
            return ControlFlow::Continue(());
        }
        match (self.visit)(expr) {
            Ok(()) => ControlFlow::Continue(()),
            Err(problem) => ControlFlow::Break(Box::new(problem)),
        }
    }
}

impl<F: FnMut(&mut Expr) -> Result<()>> VisitorMut for Shallow<F> {
    type Break = Box<Problem>;

    fn pre_visit_query(&mut self, _: &mut Query) -> ControlFlow<Self::Break> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<Self::Break> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Self::Break> {
        self.visit(expr, true)
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Self::Break> {
        self.visit(expr, false)
    }
}

/// Runs a function on all expressions of a tree, outer ones first, except those of its subqueries.
pub(super) fn change(tree: &mut impl VisitMut, visit: impl FnMut(&mut Expr) -> Result<()>) -> Result<()> {
    run(tree, Shallow { depth: 0, from_inside: false, visit })
}

/// The same with inner ones first, so that replacements are not visited.
pub(super) fn change_from_inside(
    tree: &mut impl VisitMut,
    visit: impl FnMut(&mut Expr) -> Result<()>,
) -> Result<()> {
    run(tree, Shallow { depth: 0, from_inside: true, visit })
}

fn run<F: FnMut(&mut Expr) -> Result<()>>(tree: &mut impl VisitMut, mut visitor: Shallow<F>) -> Result<()> {
    match tree.visit(&mut visitor) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(problem) => Err(*problem),
    }
}

struct Any<F> {
    depth: usize,
    is_wanted: F,
    into_subqueries: bool,
}

impl<F: FnMut(&Expr) -> bool> Visitor for Any<F> {
    type Break = ();

    fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        let is_skipped = self.depth > 0 && !self.into_subqueries;
        if !is_skipped && (self.is_wanted)(expr) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// Whether an expression of the tree, outside of its subqueries, is of a kind.
pub(super) fn has(tree: &impl Visit, is_wanted: impl FnMut(&Expr) -> bool) -> bool {
    tree.visit(&mut Any { depth: 0, is_wanted, into_subqueries: false }).is_break()
}

/// The function's answer for the first expression that has one, outside of subqueries.
pub(super) fn find<T>(tree: &impl Visit, mut answer: impl FnMut(&Expr) -> Option<T>) -> Option<T> {
    let mut found = None;
    has(tree, |expr| {
        found = answer(expr);
        found.is_some()
    });
    found
}

pub(super) fn has_subquery(tree: &impl Visit) -> bool {
    has(tree, |expr| matches!(expr, Expr::Subquery(_) | Expr::Exists { .. } | Expr::InSubquery { .. }))
}

/// The name of a function that is called without its schema, in lower case.
pub(super) fn function_name(function: &Function) -> String {
    function
        .name
        .0
        .last()
        .and_then(|part| part.as_ident())
        .map(|ident| ident.value.to_lowercase())
        .unwrap_or_default()
}

const AGGREGATES: [&str; 45] = [
    "any_value",
    "approx_distinct",
    "approx_median",
    "approx_percentile_cont",
    "approx_percentile_cont_with_weight",
    "array_agg",
    "avg",
    "bit_and",
    "bit_or",
    "bit_xor",
    "bool_and",
    "bool_or",
    "corr",
    "count",
    "covar",
    "covar_pop",
    "covar_samp",
    "every",
    "first_value",
    "grouping",
    "last_value",
    "max",
    "mean",
    "median",
    "min",
    "nth_value",
    "percentile_cont",
    "quantile_cont",
    "regr_avgx",
    "regr_avgy",
    "regr_count",
    "regr_intercept",
    "regr_r2",
    "regr_slope",
    "regr_sxx",
    "regr_sxy",
    "regr_syy",
    "stddev",
    "stddev_pop",
    "stddev_samp",
    "string_agg",
    "sum",
    "var",
    "var_pop",
    "var_samp",
];

pub(super) fn is_aggregate(expr: &Expr) -> bool {
    let Expr::Function(function) = expr else { return false };
    let name = function_name(function);
    function.over.is_none()
        && (AGGREGATES.contains(&&*name) || name == "var_population" || name == "var_sample")
}

pub(super) fn over(expr: &Expr) -> Option<&WindowType> {
    let Expr::Function(function) = expr else { return None };
    function.over.as_ref()
}

/// All names in a tree, also in its subqueries: of columns, of tables, of fields.
pub(super) fn names_in(tree: &impl Visit, names: &mut BTreeSet<String>) {
    let add = |expr: &Expr| {
        match expr {
            Expr::Identifier(ident) => drop(names.insert(name(ident))),
            Expr::CompoundIdentifier(parts) => names.extend(parts.iter().map(name)),
            _ => {}
        }
        false
    };
    let _ = tree.visit(&mut Any { depth: 0, is_wanted: add, into_subqueries: true });
}

/// The conditions that `AND` connects.
pub(super) fn conjuncts(expr: Expr) -> Vec<Expr> {
    let mut left = vec![expr];
    let mut found = vec![];
    while let Some(expr) = left.pop() {
        match expr {
            Expr::BinaryOp { left: first, op: BinaryOperator::And, right: second } => {
                left.extend([*second, *first])
            }
            Expr::Nested(inner) if matches!(*inner, Expr::BinaryOp { op: BinaryOperator::And, .. }) => {
                left.push(*inner)
            }
            expr => found.push(expr),
        }
    }
    found
}

pub(super) fn all_of(conditions: Vec<Expr>) -> Option<Expr> {
    conditions.into_iter().map(in_brackets).reduce(|left, right| binary(left, BinaryOperator::And, right))
}

/// In brackets if it binds more weakly than `AND`.
fn in_brackets(expr: Expr) -> Expr {
    match expr {
        Expr::BinaryOp { op: BinaryOperator::Or | BinaryOperator::Xor, .. } => Expr::Nested(Box::new(expr)),
        expr => expr,
    }
}

pub(super) fn binary(left: Expr, op: BinaryOperator, right: Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(left), op, right: Box::new(right) }
}

pub(super) fn column(name: &str) -> Expr {
    Expr::Identifier(ident(name))
}

/// A column of a table that has a name.
pub(super) fn column_of(table: &Ident, name: &str) -> Expr {
    Expr::CompoundIdentifier(vec![table.clone(), ident(name)])
}

pub(super) fn item(expr: Expr, name: &str) -> SelectItem {
    SelectItem::ExprWithAlias { expr, alias: ident(name) }
}

/// The name of an item of a list of columns, after all items have been named.
pub(super) fn item_name(item: &SelectItem) -> Option<String> {
    match item {
        SelectItem::ExprWithAlias { alias, .. } => Some(name(alias)),
        SelectItem::UnnamedExpr(Expr::Identifier(ident)) => Some(name(ident)),
        _ => None,
    }
}

pub(super) fn ascending(columns: &[Expr]) -> Vec<OrderByExpr> {
    let options = OrderByOptions { asc: None, nulls_first: None };
    columns.iter().map(|expr| OrderByExpr { expr: expr.clone(), options, with_fill: None }).collect()
}

pub(super) fn order_by(columns: &[Expr]) -> OrderBy {
    OrderBy { kind: OrderByKind::Expressions(ascending(columns)), interpolate: None }
}

/// `SELECT items FROM factor WHERE condition`
pub(super) fn query(projection: Vec<SelectItem>, from: TableFactor, selection: Option<Expr>) -> Query {
    let parser = Parser::new(&GenericDialect {}).try_with_sql("SELECT 1");
    let parsed = parser.and_then(|mut parser| parser.parse_query());
    let mut query = *parsed.expect("the text is a query");
    if let SetExpr::Select(select) = &mut *query.body {
        select.projection = projection;
        select.from = vec![TableWithJoins { relation: from, joins: vec![] }];
        select.selection = selection;
    }
    query
}

/// A table with this name, under an alias.
pub(super) fn table(of: Ident, alias: Option<&Ident>) -> TableFactor {
    let alias =
        alias.map(|name| TableAlias { explicit: true, name: name.clone(), columns: vec![], at: None });
    TableFactor::Table {
        name: ObjectName::from(vec![of]),
        alias,
        args: None,
        with_hints: vec![],
        version: None,
        with_ordinality: false,
        partitions: vec![],
        json_path: None,
        sample: None,
        index_hints: vec![],
    }
}

pub(super) fn select_of(query: &mut Query) -> Option<&mut Select> {
    match &mut *query.body {
        SetExpr::Select(select) => Some(select),
        _ => None,
    }
}

/// The plain arguments of a function.
pub(super) fn arguments(function: &Function) -> Vec<&Expr> {
    let FunctionArguments::List(list) = &function.args else { return vec![] };
    let plain = |argument| match argument {
        &FunctionArg::Unnamed(FunctionArgExpr::Expr(ref expr)) => Some(expr),
        _ => None,
    };
    list.args.iter().filter_map(plain).collect()
}

/// A call of a function.
pub(super) fn call(function: &str, arguments: Vec<Expr>) -> Expr {
    let text = format!("{function}()");
    let parser = Parser::new(&GenericDialect {}).try_with_sql(&text);
    let mut expr = parser.and_then(|mut parser| parser.parse_expr()).expect("the text is a call");
    if let Expr::Function(Function { args: FunctionArguments::List(list), .. }) = &mut expr {
        list.args =
            arguments.into_iter().map(|expr| FunctionArg::Unnamed(FunctionArgExpr::Expr(expr))).collect();
    }
    expr
}

pub(super) fn text(text: &str) -> Expr {
    Expr::Value(datafusion::sql::sqlparser::ast::Value::SingleQuotedString(text.to_owned()).into())
}

/// The part of a join that says which rows meet, if the join may have one.
macro_rules! constraint_of {
    ($operator:expr) => {{
        use JoinOperator as J;
        match $operator {
            J::Join(on)
            | J::Inner(on)
            | J::Left(on)
            | J::LeftOuter(on)
            | J::Right(on)
            | J::RightOuter(on)
            | J::FullOuter(on)
            | J::CrossJoin(on)
            | J::Semi(on)
            | J::LeftSemi(on)
            | J::Anti(on)
            | J::LeftAnti(on) => Some(on),
            _ => None,
        }
    }};
}

/// The constraint that joins a table with the previous ones.
pub(super) fn constraint(operator: &JoinOperator) -> Option<&JoinConstraint> {
    constraint_of!(operator)
}

pub(super) fn constraint_mut(operator: &mut JoinOperator) -> Option<&mut JoinConstraint> {
    constraint_of!(operator)
}
