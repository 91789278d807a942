//! The names of result columns that the statement does not name.

use std::collections::BTreeSet;

use datafusion::sql::sqlparser::ast::{
    Expr, Ident, Query, Select, SelectFlavor, SelectItem, SetExpr, Statement, TableFactor,
    WildcardAdditionalOptions,
};

/// Names each column of the result after its text in the statement, if the planner would otherwise make up a name.
pub(super) fn write(statement: &mut Statement) {
    match statement {
        Statement::Query(query) => write_query(query),
        Statement::Explain { statement, .. } => write(statement),
        _ => {}
    }
}

fn write_query(query: &mut Query) {
    match &mut *query.body {
        SetExpr::Select(select) => write_select(select),
        SetExpr::Query(query) => write_query(query),
        _ => {}
    }
}

fn write_select(select: &mut Select) {
    if select.projection.is_empty() && select.flavor == SelectFlavor::FromFirstNoSelect {
        select.projection.push(SelectItem::Wildcard(WildcardAdditionalOptions::default()));
        return;
    }
    let tables = tables(select);
    let mut taken: BTreeSet<String> = select.projection.iter().filter_map(name_of).collect();
    for item in &mut select.projection {
        let SelectItem::UnnamedExpr(expr) = item else { continue };
        let Some(name) = heading(expr, &tables) else { continue };
        let mut numbered = (1..).map(|number| match number {
            1 => name.clone(),
            number => format!("{name} ({number})"),
        });
        let name = numbered.find(|name| !taken.contains(name)).unwrap_or(name);
        taken.insert(name.clone());
        let expr = std::mem::replace(expr, Expr::Identifier(Ident::new("")));
        *item = SelectItem::ExprWithAlias { expr, alias: Ident::with_quote('"', name) };
    }
}

/// Returns the names under which a query knows its tables.
fn tables(select: &Select) -> BTreeSet<String> {
    let factors = select.from.iter().flat_map(|table| {
        std::iter::once(&table.relation).chain(table.joins.iter().map(|join| &join.relation))
    });
    let name = |factor: &TableFactor| match factor {
        TableFactor::Table { alias: Some(alias), .. } | TableFactor::Derived { alias: Some(alias), .. } => {
            Some(alias.name.value.clone())
        }
        TableFactor::Table { name, .. } => Some(name.0.last()?.as_ident()?.value.clone()),
        _ => None,
    };
    factors.filter_map(name).collect()
}

/// Returns the name that a column has by itself.
fn name_of(item: &SelectItem) -> Option<String> {
    match item {
        SelectItem::ExprWithAlias { alias, .. } => Some(alias.value.clone()),
        SelectItem::UnnamedExpr(Expr::Identifier(name)) => Some(name.value.clone()),
        _ => None,
    }
}

/// Returns the name for a column that has none by itself.
fn heading(expr: &Expr, tables: &BTreeSet<String>) -> Option<String> {
    match expr {
        Expr::Identifier(_) => None,
        // A column of a table has its own name, and the planner distinguishes columns of different tables.
        Expr::CompoundIdentifier(parts)
            if parts.first().is_some_and(|first| tables.contains(&first.value)) && parts.len() == 2 =>
        {
            None
        }
        Expr::CompoundIdentifier(parts) => Some(parts.last()?.value.clone()),
        // It makes several columns.
        Expr::Function(function) if function.name.to_string().eq_ignore_ascii_case("unnest") => None,
        expr => Some(expr.to_string()),
    }
}
