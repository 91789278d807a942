//! The list of columns of a `SELECT`: `*` written out, and a name for each item.

use datafusion::sql::sqlparser::ast::{
    Expr, Ident, JoinConstraint, Select, SelectItem, SelectItemQualifiedWildcardKind,
    WildcardAdditionalOptions,
};

use super::parse::{name, refuse_reserved, single};
use super::problem::{Problem, Result};
use super::scope::Relation;
use super::tree::{column, column_of, constraint, item};

/// Writes out and names all items. Returns their names.
pub(super) fn name_items(select: &mut Select, relations: &[Relation]) -> Result<Vec<String>> {
    if select.projection.is_empty() {
        let problem = Problem::new(select.select_token.0.span, "the SELECT has no columns");
        return Err(problem.hint("write them, or *"));
    }
    let mut items = vec![];
    let joined_by: Vec<String> = using(select);
    for one in std::mem::take(&mut select.projection) {
        match one {
            SelectItem::ExprWithAlias { expr, alias } => {
                if name(&alias).starts_with('_') {
                    refuse_reserved(&alias)?;
                }
                items.push(item(expr, &name(&alias)));
            }
            SelectItem::UnnamedExpr(expr) => {
                let name = expr_name(&expr);
                items.push(item(expr, &name));
            }
            SelectItem::Wildcard(options) => {
                refuse_options(&options)?;
                let place = options.wildcard_token.0.span;
                if relations.is_empty() {
                    return Err(Problem::new(place, "* needs a table").hint("write FROM and the stream"));
                }
                for (place_in_from, relation) in relations.iter().enumerate() {
                    let is_shared = |column: &String| place_in_from > 0 && joined_by.contains(column);
                    write_out(&mut items, relation, is_shared).ok_or_else(|| unknown(place))?;
                }
            }
            SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(object), options) => {
                refuse_options(&options)?;
                let table = single(&object)?;
                let is_called = |relation: &&Relation| {
                    relation
                        .alias
                        .as_ref()
                        .is_some_and(|alias| name(alias).eq_ignore_ascii_case(&name(table)))
                };
                let Some(relation) = relations.iter().find(is_called) else {
                    let names = relations.iter().filter_map(|relation| relation.alias.as_ref());
                    let problem = Problem::new(table, format!("there is no table {table} here"));
                    return Err(problem.nearest(&table.value, names.map(|alias| &*alias.value)));
                };
                write_out(&mut items, relation, |_| false).ok_or_else(|| unknown(table.span))?;
            }
            other => {
                let problem = Problem::new(select.select_token.0.span, format!("{other} is not possible"));
                return Err(problem.hint("write the columns one by one"));
            }
        }
    }
    let names =
        items.iter().map(|item| super::tree::item_name(item).expect("all items have just been named"));
    let names = names.collect();
    select.projection = items;
    Ok(names)
}

fn unknown(place: impl Into<super::problem::Place>) -> Problem {
    Problem::new(place, "the columns that * stands for are not known here")
        .hint("write the columns one by one")
}

fn refuse_options(options: &WildcardAdditionalOptions) -> Result<()> {
    let plain =
        WildcardAdditionalOptions { wildcard_token: options.wildcard_token.clone(), ..Default::default() };
    if *options == plain {
        return Ok(());
    }
    Err(Problem::new(options.wildcard_token.0.span, format!("*{options} is not possible"))
        .hint("write the columns one by one"))
}

/// The columns that `USING` merges.
fn using(select: &Select) -> Vec<String> {
    let joins = select.from.iter().flat_map(|from| &from.joins);
    let names = joins.filter_map(|join| match constraint(&join.join_operator) {
        Some(JoinConstraint::Using(columns)) => Some(columns),
        _ => None,
    });
    names.flatten().filter_map(|column| single(column).ok().map(name)).collect()
}

fn write_out(
    items: &mut Vec<SelectItem>,
    relation: &Relation,
    is_left_out: impl Fn(&String) -> bool,
) -> Option<()> {
    if relation.is_open {
        return None;
    }
    for own in relation.own.iter().filter(|own| !is_left_out(own)) {
        let expr = relation.alias.as_ref().map_or_else(|| column(own), |alias| column_of(alias, own));
        items.push(item(expr, own));
    }
    Some(())
}

/// The column name of an expression: its text, in lower case if nothing in it is quoted.
fn expr_name(expr: &Expr) -> String {
    let last = |parts: &[Ident]| parts.last().map(name);
    match expr {
        Expr::Identifier(ident) => name(ident),
        Expr::CompoundIdentifier(parts) => last(parts).unwrap_or_default(),
        Expr::Nested(inner) => expr_name(inner),
        expr => {
            let text = expr.to_string();
            if text.contains(['"', '\'', '`']) { text } else { text.to_lowercase() }
        }
    }
}
