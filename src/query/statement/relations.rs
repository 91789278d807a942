//! The tables of a `FROM`: what they are, and how a stream among them becomes an input.

use std::collections::BTreeSet;

use datafusion::sql::sqlparser::ast::{
    Expr, Ident, JoinConstraint, JoinOperator, Select, Spanned, TableAlias, TableFactor, TableWithJoins,
};

use super::dialect::Mark;
use super::parse::{ident, name, single};
use super::planner::{Planner, Position};
use super::problem::{Problem, Result, quoted};
use super::scope::{Relation, Source, Time};
use super::stage::{StageInput, rows};
use super::tables::{SYSTEM, TableKind};
use super::tree::{all_of, conjuncts, constraint, has, has_subquery, table};

impl Planner<'_> {
    /// One relation for each table of a `FROM`, in their order.
    pub(super) fn relations(&mut self, from: &mut [TableWithJoins]) -> Result<Vec<Relation>> {
        let mut relations = vec![];
        for one in from {
            relations.push(self.relation(&mut one.relation)?);
            for join in &mut one.joins {
                if constraint(&join.join_operator).is_none() {
                    let problem = Problem::new(join.relation.span(), "this kind of join is not possible");
                    return Err(problem.hint("write JOIN, LEFT JOIN, RIGHT JOIN, FULL JOIN or CROSS JOIN"));
                }
                relations.push(self.relation(&mut join.relation)?);
            }
        }
        let names: Vec<_> = relations.iter().filter_map(|relation| relation.alias.as_ref()).collect();
        for (place, alias) in names.iter().enumerate() {
            if names[..place].iter().any(|other| name(other) == name(alias)) {
                let problem = Problem::new(*alias, format!("two tables are called {alias}"));
                return Err(problem.hint("give one another name: FROM s AS a JOIN s AS b"));
            }
        }
        Ok(relations)
    }

    fn relation(&mut self, factor: &mut TableFactor) -> Result<Relation> {
        let place = factor.span().start;
        match factor {
            TableFactor::Table { name: object, alias, args, version, sample, .. } => {
                let used = single(object)?.clone();
                if args.is_some() {
                    return Ok(open(alias.as_ref(), &used));
                }
                let Some((exact, found)) = self.names.find(&used) else {
                    let names = self.names.names();
                    let problem = Problem::new(&used, format!("there is no stream and no table {used}"));
                    let near = problem.nearest(&used.value, names.iter().map(String::as_str));
                    let all: Vec<String> = names.iter().take(12).map(|name| quoted(name)).collect();
                    let is_known = near.hint.is_some() || all.is_empty();
                    return Err(if is_known {
                        near
                    } else {
                        near.hint(format!("there are {}", all.join(", ")))
                    });
                };
                let called = alias
                    .as_ref()
                    .map_or_else(|| Ident { span: used.span, ..ident(&exact) }, |alias| alias.name.clone());
                let mark = self.mark(&used).or_else(|| self.mark(&called));
                let mut relation = Relation {
                    alias: Some(called.clone()),
                    own: own(&found.columns),
                    columns: found.columns,
                    is_open: false,
                    source: None,
                    mark,
                    carries: vec![],
                    place: used.span.start,
                };
                if let TableKind::Stream { event_time } = found.kind {
                    if version.is_some()
                        || sample.is_some()
                        || alias.as_ref().is_some_and(|alias| !alias.columns.is_empty())
                    {
                        let problem = Problem::new(&used, "a stream is read whole, under its own columns");
                        return Err(problem.hint("rename columns in the SELECT: SELECT page AS p"));
                    }
                    let factor = table(Ident::new("input"), Some(&called));
                    relation.source = Some(Source { stream: exact, event_time, factor, is_bare: true });
                } else {
                    rename(&mut relation, alias.as_ref());
                    *object = vec![ident(&exact)].into();
                }
                check_mark(&relation)?;
                Ok(relation)
            }
            TableFactor::Derived { lateral: true, .. } => {
                Err(Problem::new(place, "LATERAL is not possible").hint("join the table with ON"))
            }
            TableFactor::Derived { subquery, alias, .. } => {
                let rows = self.query(subquery, Position::Table)?;
                let alias = alias.clone();
                let mut columns = rows.columns.clone();
                if rows.source.is_some() {
                    let more = ["_shard", "_sequence", "_arrival"].map(str::to_owned);
                    columns.extend(more.into_iter().filter(|system| !rows.columns.contains(system)));
                }
                let source = rows.source.map(|source| Source { factor: factor.clone(), ..source });
                let mark = alias.as_ref().and_then(|alias| self.mark(&alias.name));
                let mut relation = Relation {
                    alias: alias.as_ref().map(|alias| alias.name.clone()),
                    own: rows.columns,
                    columns,
                    is_open: false,
                    source,
                    mark,
                    carries: rows.carries,
                    place,
                };
                if alias.as_ref().is_some_and(|alias| !alias.columns.is_empty()) {
                    if relation.source.is_some() || !relation.carries.is_empty() {
                        let problem =
                            Problem::new(place, "a query of a stream takes no new names for its columns");
                        return Err(problem.hint("give the names in its SELECT: SELECT page AS p"));
                    }
                    rename(&mut relation, alias.as_ref());
                }
                check_mark(&relation)?;
                Ok(relation)
            }
            TableFactor::NestedJoin { table_with_joins, alias } => {
                let relations = self.relations(std::slice::from_mut(table_with_joins))?;
                if relations.iter().any(|relation| relation.source.is_some() || !relation.carries.is_empty())
                {
                    let problem = Problem::new(place, "streams cannot stand in brackets");
                    return Err(problem.hint("write FROM a JOIN b ON … without the brackets"));
                }
                Ok(Relation { is_open: true, ..open(alias.as_ref(), &Ident::new("")) })
            }
            TableFactor::UNNEST { alias, .. } | TableFactor::Function { alias, .. } => {
                Ok(open(alias.as_ref(), &Ident::new("")))
            }
            TableFactor::TableFunction { expr, .. } => {
                let problem = Problem::new(&*expr, format!("TABLE({expr}) makes no windows"));
                Err(problem.hint("write TABLE(TUMBLE(TABLE s, DESCRIPTOR(ROWTIME), INTERVAL '1' MINUTE)); there are TUMBLE, HOP, CUMULATE and SESSION"))
            }
            other => Err(Problem::new(place, format!("{other} is not possible"))
                .hint("name a stream, a table or a subquery")),
        }
    }

    fn mark(&self, place: &Ident) -> Option<Mark> {
        self.marks.tables.get(&place.span.start).cloned()
    }

    /// Replaces the only source by the table of released rows. Returns the input.
    pub(super) fn take_source(&self, select: &mut Select, relations: &[Relation]) -> Result<StageInput> {
        let place = relations.iter().position(|relation| relation.source.is_some());
        let place = place.expect("the caller has counted the sources");
        check_preserved(select, relations, place)?;
        let input = StageInput::new(&relations[place], Time::Arrival).expect("it is a source");
        put_rows(select, place, 0, input.alias.as_ref());
        Ok(input)
    }

    /// Moves the conditions that one input can check alone, before its rows are kept.
    pub(super) fn push_conditions(
        &self,
        select: &mut Select,
        relations: &[Relation],
        input: &mut StageInput,
    ) {
        let Some(selection) = select.selection.take() else { return };
        let of = relations.iter().find(|relation| {
            relation.source.is_some() && relation.alias.as_ref().map(name) == input.alias.as_ref().map(name)
        });
        let Some(of) = of else { return };
        let (pushed, kept) =
            conjuncts(selection).into_iter().partition(|condition| is_about(condition, of, relations));
        input.conditions.extend::<Vec<_>>(pushed);
        select.selection = all_of(kept);
    }
}

fn open(alias: Option<&TableAlias>, otherwise: &Ident) -> Relation {
    let called = alias.map_or(otherwise, |alias| &alias.name);
    Relation {
        alias: (!called.value.is_empty()).then(|| called.clone()),
        columns: vec![],
        own: vec![],
        is_open: true,
        source: None,
        mark: None,
        carries: vec![],
        place: called.span.start,
    }
}

/// The `*` of a stream stands for its own columns, unless its schema has none.
fn own(columns: &[String]) -> Vec<String> {
    let own: Vec<String> = columns.iter().filter(|column| !SYSTEM.contains(&&***column)).cloned().collect();
    if own.is_empty() { columns.to_vec() } else { own }
}

fn rename(relation: &mut Relation, alias: Option<&TableAlias>) {
    let Some(alias) = alias.filter(|alias| !alias.columns.is_empty()) else { return };
    let names: Vec<String> = alias.columns.iter().map(|column| name(&column.name)).collect();
    let rest = relation.columns.iter().skip(names.len()).cloned();
    relation.columns = names.iter().cloned().chain(rest).collect();
    relation.own.clone_from(&relation.columns);
}

fn check_mark(relation: &Relation) -> Result<()> {
    if relation.mark.is_none() || relation.source.is_some() {
        return Ok(());
    }
    let problem = Problem::new(relation.place, "windows need a stream, and this is none");
    Err(problem.hint("a subquery of a stream is one as long as it has no GROUP BY, no join and no OVER"))
}

/// The factors of a `FROM`, as `relations` has them.
fn factors(select: &mut Select) -> impl Iterator<Item = &mut TableFactor> {
    select.from.iter_mut().flat_map(|one| {
        std::iter::once(&mut one.relation).chain(one.joins.iter_mut().map(|join| &mut join.relation))
    })
}

/// Replaces a source by a table of rows that the runner keeps.
pub(super) fn put_rows(select: &mut Select, place: usize, input: usize, alias: Option<&Ident>) {
    if let Some(factor) = factors(select).nth(place) {
        *factor = table(Ident::new(rows(input)), alias);
    }
}

/// Whether all columns of a condition are those of one relation.
pub(super) fn is_about(condition: &Expr, of: &Relation, relations: &[Relation]) -> bool {
    let is_window = |column: &str| matches!(column, "window_start" | "window_end" | "_window_time");
    let is_foreign = |expr: &Expr| match expr {
        Expr::Identifier(ident) => {
            let column = name(ident);
            let elsewhere = relations.iter().filter(|relation| relation.alias != of.alias);
            let mut elsewhere =
                elsewhere.filter(|relation| relation.is_open || relation.columns.contains(&column));
            is_window(&column) || !of.columns.contains(&column) || elsewhere.next().is_some()
        }
        Expr::CompoundIdentifier(parts) => {
            let is_of = of.alias.as_ref().is_some_and(|alias| name(alias) == name(&parts[0]));
            let is_field = relations.len() == 1 && of.columns.contains(&name(&parts[0]));
            !(is_of || is_field) || is_of && is_window(&name(&parts[1]))
        }
        _ => false,
    };
    let names_one = relations.len() == 1
        || has(condition, |expr| matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_)));
    names_one && !has_subquery(condition) && !has(condition, is_foreign)
}

/// Refuses joins that keep rows of a table without one of the stream: they would go out again with each micro-batch.
pub(super) fn check_preserved(select: &Select, relations: &[Relation], source: usize) -> Result<()> {
    use JoinOperator as J;
    let mut place = 0;
    for one in &select.from {
        let start = place;
        for join in &one.joins {
            place += 1;
            let (keeps_left, keeps_right) = match &join.join_operator {
                J::Join(_) | J::Inner(_) | J::CrossJoin(_) => (true, true),
                J::Left(_) | J::LeftOuter(_) | J::Semi(_) | J::LeftSemi(_) | J::Anti(_) | J::LeftAnti(_) => {
                    (true, false)
                }
                _ => (false, false),
            };
            let is_left = (start..place).contains(&source);
            if is_left && !keeps_left || source == place && !keeps_right {
                let problem = Problem::new(
                    relations[source].place,
                    "this join repeats rows of the table that no row of the stream has met",
                );
                return Err(problem.hint("put the stream first: FROM stream LEFT JOIN table ON …"));
            }
        }
        place += 1;
    }
    Ok(())
}

/// The names in `USING`, which are not expressions.
pub(super) fn using_names(select: &Select, names: &mut BTreeSet<String>) {
    for join in select.from.iter().flat_map(|one| &one.joins) {
        if let Some(JoinConstraint::Using(columns)) = constraint(&join.join_operator) {
            names.extend(columns.iter().filter_map(|column| single(column).ok()).map(name));
        }
    }
}
