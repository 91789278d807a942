//! Which columns the names of a `SELECT` stand for.

use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArguments, Ident, ObjectNamePart, TableFactor,
};
use datafusion::sql::sqlparser::tokenizer::Location;

use super::dialect::Mark;
use super::parse::{ident, name};
use super::problem::{Problem, Result, quoted};
use super::tables::SYSTEM;

/// A table that a `SELECT` reads.
#[derive(Clone, Debug)]
pub(super) struct Relation {
    /// The qualifier of its columns.
    pub(super) alias: Option<Ident>,
    /// All columns that can be named.
    pub(super) columns: Vec<String>,
    /// The columns that `*` stands for.
    pub(super) own: Vec<String>,
    /// Whether it has columns that are unknown here.
    pub(super) is_open: bool,
    /// The stream that it is, with or without some conditions, whose rows come as time passes.
    pub(super) source: Option<Source>,
    pub(super) mark: Option<Mark>,
    /// Columns that a level below has for the runner.
    pub(super) carries: Vec<String>,
    pub(super) place: Location,
}

/// Rows of a stream, as they come.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) stream: String,
    pub(super) event_time: Option<String>,
    /// Reads the table `input`.
    pub(super) factor: TableFactor,
    /// Whether this is the stream itself, and no query over it.
    pub(super) is_bare: bool,
}

/// The kinds of time columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Time {
    Arrival,
    Event,
}

impl Relation {
    /// The relation's column that a name stands for, if it has one.
    fn find(&self, ident: &Ident) -> Option<String> {
        find_in(&self.columns, ident).map(str::to_owned)
    }

    pub(super) fn is_called(&self, qualifier: &Ident) -> bool {
        self.alias.as_ref().is_some_and(|alias| find_in(&[name(alias)], qualifier).is_some())
    }

    /// Which time a column of the relation is, if it is one that windows can go by.
    pub(super) fn time(&self, expr: &Expr) -> Option<Time> {
        let source = self.source.as_ref()?;
        let column = match expr {
            Expr::Nested(inner) => return self.time(inner),
            Expr::Identifier(column) => column,
            Expr::CompoundIdentifier(parts) => match &parts[..] {
                [qualifier, column] if self.is_called(qualifier) => column,
                _ => return None,
            },
            _ => return None,
        };
        match &*name(column) {
            "_rowtime" | "_arrival" => Some(Time::Arrival),
            column => (source.event_time.as_deref() == Some(column)).then_some(Time::Event),
        }
    }
}

/// The name that an identifier stands for: the exact one, or else the only one that differs just in case.
///
/// A quoted identifier is exact, except in statements from Kinesis, where unquoted names are in upper case: `"PAGE"` is `page` there.
pub(super) fn find_in<'a>(names: &'a [String], ident: &Ident) -> Option<&'a str> {
    let wanted = name(ident);
    if let Some(exact) = names.iter().find(|name| **name == wanted) {
        return Some(exact);
    }
    let is_same = |other: &&String| match ident.quote_style {
        None => other.eq_ignore_ascii_case(&wanted),
        Some(_) => other.to_uppercase() == wanted && other.to_lowercase() == **other,
    };
    let mut same = names.iter().filter(is_same);
    match (same.next(), same.next()) {
        (Some(only), None) => Some(only),
        _ => None,
    }
}

/// The tables of a `SELECT`, and its surroundings.
pub(super) struct Scope<'a> {
    pub(super) relations: &'a [Relation],
    /// The names that the list of columns gives.
    pub(super) aliases: &'a [String],
    /// The tables of the `SELECT`s around this one, innermost last, for subqueries that use their columns.
    pub(super) outer: &'a [Vec<Relation>],
}

/// The names of times in Kinesis and Flink.
fn pseudo(ident: &Ident) -> Option<&'static str> {
    match &*ident.value.to_uppercase() {
        "ROWTIME" | "PROCTIME" => Some("_rowtime"),
        "APPROXIMATE_ARRIVAL_TIME" => Some("_arrival"),
        "WINDOW_TIME" => Some("_window_time"),
        "WINDOW_START" => Some("window_start"),
        "WINDOW_END" => Some("window_end"),
        _ => None,
    }
}

impl Scope<'_> {
    /// Replaces a column by its exact name. Times become `_rowtime`, `_arrival`, `_window_time`.
    pub(super) fn resolve(&self, expr: &mut Expr) -> Result<()> {
        match expr {
            Expr::Identifier(column) => self.unqualified(column),
            Expr::CompoundIdentifier(parts) => self.qualified(parts),
            // The parser takes columns with these names for function calls.
            Expr::Function(Function { name, args: FunctionArguments::None, .. }) => {
                let [ObjectNamePart::Identifier(column)] = &name.0[..] else { return Ok(()) };
                let mut column = column.clone();
                let is_column = self.everyone().any(|relation| relation.find(&column).is_some());
                if is_column
                    || matches!(&*column.value.to_uppercase(), "USER" | "CURRENT_USER" | "SESSION_USER")
                {
                    self.unqualified(&mut column)?;
                    *expr = Expr::Identifier(column);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn everyone(&self) -> impl Iterator<Item = &Relation> {
        self.relations.iter().chain(self.outer.iter().rev().flatten())
    }

    fn unqualified(&self, column: &mut Ident) -> Result<()> {
        let wanted = name(column);
        if let Some(found) = self.everyone().find_map(|relation| relation.find(column)) {
            replace(column, &found);
            return Ok(());
        }
        if let Some(time) = self.pseudo(self.relations, column)? {
            replace(column, time);
            return Ok(());
        }
        let is_alias = self.aliases.contains(&wanted);
        if is_alias || self.everyone().any(|relation| relation.is_open) {
            return Ok(());
        }
        if let Some(alias) = find_in(self.aliases, column) {
            replace(column, alias);
            return Ok(());
        }
        let columns = self.everyone().flat_map(|relation| &relation.columns).map(String::as_str);
        Err(missing(column, &columns.collect::<Vec<_>>()))
    }

    fn pseudo(&self, relations: &[Relation], column: &Ident) -> Result<Option<&'static str>> {
        let Some(time) = pseudo(column) else { return Ok(None) };
        if relations.iter().any(|relation| relation.source.is_some()) {
            return Ok(Some(time));
        }
        if relations.iter().all(|relation| relation.is_open) {
            return Ok(None);
        }
        let problem = Problem::new(column, format!("there is no {} here", column.value));
        let hint = format!("give it a name in the SELECT that reads the stream: {} AS t", column.value);
        Err(problem.hint(hint))
    }

    fn qualified(&self, parts: &mut [Ident]) -> Result<()> {
        let [first, second, ..] = parts else { return Ok(()) };
        if let Some(relation) = self.everyone().find(|relation| relation.is_called(first)) {
            let alias = relation.alias.clone().unwrap_or_else(|| first.clone());
            let found = relation.find(second);
            let time = || self.pseudo(std::slice::from_ref(relation), second);
            let found = match found {
                Some(found) => Some(found),
                None => time()?.map(str::to_owned),
            };
            let Some(found) = found else {
                if relation.is_open {
                    return Ok(());
                }
                let columns = relation.columns.iter().map(String::as_str);
                let problem = missing(second, &columns.collect::<Vec<_>>());
                return Err(Problem {
                    message: format!("{} has no column {second}", alias.value),
                    ..problem
                });
            };
            replace(first, &name(&alias));
            replace(second, &found);
            return Ok(());
        }
        if let Some(found) = self.everyone().find_map(|relation| relation.find(first)) {
            replace(first, &found);
            return Ok(());
        }
        if self.everyone().any(|relation| relation.is_open) {
            return Ok(());
        }
        let aliases =
            self.everyone().filter_map(|relation| relation.alias.as_ref()).map(|alias| &*alias.value);
        let columns = self.everyone().flat_map(|relation| &relation.columns).map(String::as_str);
        let names: Vec<&str> = aliases.chain(columns).collect();
        let problem = Problem::new(&*first, format!("there is no table and no column {first} here"));
        let tables =
            self.everyone().filter_map(|relation| relation.alias.as_ref()).map(|alias| quoted(&name(alias)));
        let tables = tables.collect::<Vec<_>>().join(", ");
        Err(problem.nearest(&first.value, names).or_hint(&format!("the tables here are {tables}")))
    }
}

fn missing(column: &Ident, columns: &[&str]) -> Problem {
    let problem = Problem::new(column, format!("there is no column {column}"));
    let otherwise = columns.iter().find(|other| other.eq_ignore_ascii_case(&column.value));
    if let Some(otherwise) = otherwise.filter(|_| column.quote_style.is_some()) {
        return problem.hint(format!("quoted names are exact: write {}", quoted(otherwise)));
    }
    let near = problem.nearest(&column.value, columns.iter().copied());
    if near.hint.is_some() {
        return near;
    }
    let own: Vec<_> =
        columns.iter().filter(|column| !SYSTEM.contains(column)).take(12).map(|own| quoted(own)).collect();
    if own.is_empty() { near } else { near.hint(format!("there are {}", own.join(", "))) }
}

/// Gives an identifier another name at the same place.
fn replace(of: &mut Ident, by: &str) {
    *of = Ident { span: of.span, ..ident(by) };
}
