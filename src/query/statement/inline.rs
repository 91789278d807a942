//! Inlines the queries of `WITH`, so that planning sees only tables and subqueries.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Cte, Ident, ObjectNamePart, Query, TableAlias, TableFactor, VisitMut, VisitorMut,
};

use super::parse::name;
use super::problem::{Problem, Result};

/// How much text the inlined queries may have in total, and how deep they may be nested.
const INLINED_BYTES_MAX: usize = 1 << 20;
const INLINED_DEPTH_MAX: usize = 16;

struct Part {
    query: Query,
    columns: TableAlias,
    bytes: usize,
    depth: usize,
}

struct Inliner {
    /// The named queries of each enclosing query, innermost last.
    scopes: Vec<BTreeMap<String, Part>>,
    bytes: usize,
    /// The depth of the queries that were inlined into the current one.
    depth: usize,
}

/// Inlines the parts of a query and of all its subqueries.
pub(super) fn inline(query: &mut Query) -> Result<()> {
    let mut inliner = Inliner { scopes: vec![], bytes: 0, depth: 0 };
    match query.visit(&mut inliner) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(problem) => Err(*problem),
    }
}

impl Inliner {
    fn part(&mut self, cte: Cte) -> Result<()> {
        let Cte { alias, mut query, .. } = cte;
        let outside = std::mem::take(&mut self.depth);
        if let ControlFlow::Break(problem) = query.visit(self) {
            return Err(*problem);
        }
        let depth = std::mem::replace(&mut self.depth, outside) + 1;
        let part = Part { bytes: query.to_string().len(), query: *query, columns: alias.clone(), depth };
        let scope = self.scopes.last_mut().expect("the query's own scope");
        if scope.insert(name(&alias.name), part).is_some() {
            let problem = Problem::new(&alias.name, format!("WITH has two parts {}", alias.name));
            return Err(problem.hint("rename one"));
        }
        Ok(())
    }

    fn replace(&mut self, factor: &mut TableFactor) -> Result<()> {
        let TableFactor::Table { name: object, alias, args: None, .. } = factor else { return Ok(()) };
        let [ObjectNamePart::Identifier(used)] = &object.0[..] else { return Ok(()) };
        let wanted = name(used);
        let Some(part) = self.scopes.iter().rev().find_map(|scope| scope.get(&wanted)) else { return Ok(()) };
        self.bytes += part.bytes;
        self.depth = self.depth.max(part.depth);
        if self.bytes > INLINED_BYTES_MAX || self.depth > INLINED_DEPTH_MAX {
            let problem = Problem::new(used, "the parts of WITH use each other too often");
            return Err(problem.hint("let a pump write a part into a stream of its own"));
        }
        // Marks of the words around the name are found by its place.
        let place = |ident: &Ident| Ident { span: used.span, ..ident.clone() };
        let alias = match alias.take() {
            None => TableAlias { explicit: true, name: place(used), ..part.columns.clone() },
            Some(alias) if alias.columns.is_empty() => {
                TableAlias { name: place(&alias.name), columns: part.columns.columns.clone(), ..alias }
            }
            Some(alias) => TableAlias { name: place(&alias.name), ..alias },
        };
        let subquery = Box::new(part.query.clone());
        *factor = TableFactor::Derived { lateral: false, subquery, alias: Some(alias), sample: None };
        Ok(())
    }
}

fn flow(result: Result<()>) -> ControlFlow<Box<Problem>> {
    result.map_or_else(|problem| ControlFlow::Break(Box::new(problem)), ControlFlow::Continue)
}

impl VisitorMut for Inliner {
    type Break = Box<Problem>;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Self::Break> {
        self.scopes.push(BTreeMap::new());
        let Some(with) = query.with.take() else { return ControlFlow::Continue(()) };
        if with.recursive {
            let problem =
                Problem::new(with.with_token.0.span, "WITH RECURSIVE is not possible in a continuous query");
            return ControlFlow::Break(Box::new(problem));
        }
        for cte in with.cte_tables {
            flow(self.part(cte))?;
        }
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<Self::Break> {
        self.scopes.pop();
        ControlFlow::Continue(())
    }

    /// After its subqueries: an inlined query has already been processed.
    fn post_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Self::Break> {
        flow(self.replace(factor))
    }
}
