//! Explains in plain words, with the place and a remedy, why a statement cannot be run.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion::arrow::error::ArrowError;
use datafusion::common::{Column, Diagnostic, SchemaError};
use datafusion::error::DataFusionError;
use datafusion::execution::SessionState;
use datafusion::sql::sqlparser::ast::{
    self, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName, Query, Spanned,
    TableFactor, Value, ValueWithSpan, Visit, Visitor,
};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use super::bounded::no_table;
use super::catalog::Catalog;
use super::error::{Place, QueryError, StatementError};
use super::plain;
use super::words::{self, Names};
use crate::Error;

/// The functions of a session, with their kinds.
pub(super) fn functions(state: &SessionState) -> BTreeMap<String, &'static str> {
    let mut functions = BTreeMap::new();
    let mut add =
        |names: Vec<&String>, kind| functions.extend(names.into_iter().map(|name| (name.clone(), kind)));
    add(state.table_functions().keys().collect(), "table");
    add(state.scalar_functions().keys().collect(), "scalar");
    add(state.higher_order_functions().keys().collect(), "scalar");
    add(state.window_functions().keys().collect(), "window");
    add(state.aggregate_functions().keys().collect(), "aggregate");
    functions
}

/// Functions of a table that only continuous queries have.
const WINDOWS: [&str; 5] = ["tumble", "hop", "session", "cumulate", "stagger"];

/// What is known about a statement and its catalog when it fails.
pub(super) struct Explainer {
    text: Arc<str>,
    tables: Vec<String>,
    /// The names of all tables, columns and fields.
    names: Names,
    functions: BTreeMap<String, &'static str>,
    table_functions: BTreeSet<String>,
}

impl Explainer {
    pub(super) fn new(catalog: &Catalog, text: Arc<str>, state: &SessionState) -> Self {
        Self {
            text,
            tables: catalog.tables(),
            names: catalog.names(),
            functions: functions(state),
            table_functions: state.table_functions().keys().cloned().collect(),
        }
    }

    fn error(&self, place: Option<Place>, message: impl Into<String>) -> StatementError {
        StatementError::new(&self.text, place, message)
    }

    /// Refuses a statement that names a table or a function that does not exist.
    pub(super) fn check(&self, statement: &ast::Statement) -> Result<(), StatementError> {
        let mut names = CheckNames { explainer: self, queries: BTreeSet::new() };
        match statement.visit(&mut names) {
            ControlFlow::Break(error) => Err(*error),
            ControlFlow::Continue(()) => Ok(()),
        }
    }

    /// Returns the error that a caller sees.
    pub(super) fn explain(&self, error: DataFusionError) -> QueryError {
        self.explain_with(error, None)
    }

    fn explain_with(&self, error: DataFusionError, diagnostic: Option<&Diagnostic>) -> QueryError {
        match error {
            DataFusionError::Context(_, error) => self.explain_with(*error, diagnostic),
            DataFusionError::Diagnostic(diagnostic, error) => self.explain_with(*error, Some(&diagnostic)),
            DataFusionError::Shared(error) => match Arc::try_unwrap(error) {
                Ok(error) => self.explain_with(error, diagnostic),
                Err(shared) => match own_error(&shared) {
                    Some(error) => error,
                    None => QueryError::Failed(plain::run(&shared.to_string())),
                },
            },
            DataFusionError::Collection(errors) => match errors.into_iter().next() {
                Some(error) => self.explain_with(error, diagnostic),
                None => QueryError::Failed("no reason was given".to_owned()),
            },
            DataFusionError::ResourcesExhausted(reason) => QueryError::Memory(plain::text(&reason)),
            DataFusionError::SchemaError(error, _) => self.explain_schema(*error, diagnostic).into(),
            DataFusionError::Plan(message)
            | DataFusionError::NotImplemented(message)
            | DataFusionError::Configuration(message) => self.explain_plan(&message, diagnostic).into(),
            DataFusionError::SQL(error, _) => self.error(None, plain::text(&error.to_string())).into(),
            error => match own_error(&error) {
                Some(error) => error,
                None => self.explain_failed(&error.strip_backtrace(), diagnostic),
            },
        }
    }

    fn explain_schema(&self, error: SchemaError, diagnostic: Option<&Diagnostic>) -> StatementError {
        match error {
            SchemaError::FieldNotFound { field, valid_fields } => {
                self.no_column(&field, &valid_fields, diagnostic)
            }
            SchemaError::AmbiguousReference { field } => {
                let name = &field.name;
                self.error(
                    self.place(name, diagnostic),
                    format!("the column \"{name}\" is in more than one table"),
                )
                .hint(format!("write the name of the table before it: table.{}", quoted(name)))
            }
            SchemaError::DuplicateQualifiedField { qualifier, .. } => {
                let name = qualifier.table();
                self.error(self.place(name, diagnostic), format!("two tables have the name \"{name}\""))
                    .hint("give one of them another name: table AS name")
            }
            SchemaError::DuplicateUnqualifiedField { name } => self
                .error(self.place(&name, diagnostic), format!("two columns have the name \"{name}\""))
                .hint("give one of them another name with AS"),
        }
    }

    fn no_column(&self, field: &Column, valid: &[Column], diagnostic: Option<&Diagnostic>) -> StatementError {
        let name = &field.name;
        let place = self.place(name, diagnostic);
        if let Some(keyword) = plain::keyword(name).filter(|_| !self.text.contains(&format!("\"{name}\""))) {
            return self.error(place, format!("expected an expression, found {keyword}"));
        }
        let table = field.relation.as_ref().map(|relation| relation.table());
        let tables: BTreeSet<_> = valid
            .iter()
            .filter_map(|column| column.relation.as_ref())
            .map(|relation| relation.table())
            .collect();
        if let Some(table) = table.filter(|table| !tables.is_empty() && !tables.contains(table)) {
            let error = self.error(
                self.place(table, None).or(place),
                format!("the statement reads no table \"{table}\""),
            );
            return match words::nearest(table, tables.iter().copied()) {
                Some(nearest) => error.hint(format!("did you mean {}?", quoted(nearest))),
                None => error.hint(format!("it reads {}", tables.into_iter().collect::<Vec<_>>().join(", "))),
            };
        }
        let of = table.or_else(|| tables.first().copied().filter(|_| tables.len() == 1));
        let message = match of {
            Some(table) => format!("there is no column \"{name}\" in {}", quoted(table)),
            None => format!("there is no column \"{name}\""),
        };
        let error = self.error(place, message);
        let columns = valid.iter().filter(|column| match (table, &column.relation) {
            (Some(table), Some(relation)) => relation.table() == table,
            _ => true,
        });
        let columns: Vec<&str> = columns.map(|column| column.name.as_str()).collect();
        match words::nearest(name, columns.iter().copied()) {
            Some(nearest) => error.hint(format!("did you mean \"{nearest}\"?")),
            None if self.text.contains(&format!("\"{name}\"")) => {
                error.hint(format!("a text stands between single quotes: '{name}'"))
            }
            None if columns.is_empty() => error.hint("no column can be named here"),
            None if columns.len() > 20 => error.hint("DESCRIBE lists the columns of a table"),
            None => error.hint(format!("the columns are {}", columns.join(", "))),
        }
    }

    /// Explains what failed while constants were computed, or while the query ran.
    fn explain_failed(&self, message: &str, diagnostic: Option<&Diagnostic>) -> QueryError {
        // Some faults of a statement are only found here, or look like faults of the engine.
        match message.contains("failed to match any signature") || message.contains("Unsupported SQL type") {
            true => self.explain_plan(message, diagnostic).into(),
            false => QueryError::Failed(plain::run(message)),
        }
    }

    fn explain_plan(&self, message: &str, diagnostic: Option<&Diagnostic>) -> StatementError {
        let explained = plain::planned(message);
        let place = diagnostic
            .and_then(place_of)
            .or_else(|| explained.names.iter().find_map(|name| self.place(name, None)));
        let error = self.error(place, explained.message);
        let nearest = explained.sought.and_then(|name| words::nearest(&name, self.names.all()));
        match explained.hint.or_else(|| Some(format!("did you mean \"{}\"?", nearest?))) {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }

    /// Returns the place that an error is about: the one that came with it, or the first occurrence of a name.
    fn place(&self, name: &str, diagnostic: Option<&Diagnostic>) -> Option<Place> {
        if let Some(place) = diagnostic.and_then(place_of) {
            return Some(place);
        }
        let tokens = words::split(&self.text).ok()?;
        let is_name = |token: &&TokenWithSpan| match &token.token {
            Token::Word(word) => word.value.eq_ignore_ascii_case(name),
            _ => false,
        };
        tokens.iter().find(is_name).and_then(|token| Place::of(token.span))
    }
}

fn place_of(diagnostic: &Diagnostic) -> Option<Place> {
    let span = diagnostic.span?;
    let (start, end) = (span.start, span.end);
    let width = if start.line == end.line { end.column.saturating_sub(start.column).max(1) } else { 1 };
    Some(Place { line: start.line as usize, column: start.column as usize, width: width as usize })
}

/// Returns a name as a statement has to write it.
fn quoted(name: &str) -> String {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if name.chars().all(is_plain) { name.to_owned() } else { format!("\"{name}\"") }
}

/// Returns the error of this library that is inside another error.
fn own_error(error: &DataFusionError) -> Option<QueryError> {
    match error {
        DataFusionError::External(inner) => inside(inner.as_ref()),
        DataFusionError::ArrowError(error, _) => match &**error {
            ArrowError::ExternalError(inner) => inside(inner.as_ref()),
            _ => None,
        },
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => own_error(inner),
        DataFusionError::Shared(inner) => own_error(inner),
        _ => None,
    }
}

fn inside(error: &(dyn std::error::Error + Send + Sync + 'static)) -> Option<QueryError> {
    let of_stream = error.downcast_ref::<Error>().map(|error| QueryError::Stream(error.clone()));
    let of_query = || error.downcast_ref::<QueryError>().cloned();
    of_stream.or_else(of_query).or_else(|| own_error(error.downcast_ref::<DataFusionError>()?))
}

/// Looks at the names of all tables and functions of a statement.
struct CheckNames<'e> {
    explainer: &'e Explainer,
    /// The names of the statement's own queries.
    queries: BTreeSet<String>,
}

impl Visitor for CheckNames<'_> {
    type Break = Box<StatementError>;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Self::Break> {
        let named = query.with.iter().flat_map(|with| &with.cte_tables);
        self.queries.extend(named.map(|named| named.alias.name.value.clone()));
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<Self::Break> {
        let TableFactor::Table { name, args, sample, version, .. } = factor else {
            return ControlFlow::Continue(());
        };
        let explainer = self.explainer;
        if sample.is_some() {
            let error = explainer.error(Place::of(name.span()), "TABLESAMPLE is not supported");
            return ControlFlow::Break(Box::new(error.hint("write WHERE random() < 0.1")));
        }
        if version.is_some() {
            let error = explainer.error(Place::of(name.span()), "a table has no versions");
            return ControlFlow::Break(Box::new(error.hint("write WHERE _arrival < …")));
        }
        let Some(ident) = only_part(name) else {
            let error = explainer.error(Place::of(name.span()), "the name of a table has one part");
            return ControlFlow::Break(Box::new(error.hint("quote it if it has a dot in it: \"a.b\"")));
        };
        let name = &ident.value;
        let place = Place::of(ident.span);
        if args.is_none() {
            if self.queries.contains(name) || explainer.tables.contains(name) {
                return ControlFlow::Continue(());
            }
            return ControlFlow::Break(Box::new(no_table(&explainer.text, place, name, &explainer.tables)));
        }
        let lower = name.to_lowercase();
        if explainer.table_functions.contains(&lower) {
            return ControlFlow::Continue(());
        }
        let error = explainer.error(place, format!("there is no table function \"{name}\""));
        ControlFlow::Break(Box::new(match WINDOWS.contains(&lower.as_str()) {
            true => error.hint(
                "windows that end by themselves are for continuous queries; in a query, group by date_bin(INTERVAL '1 minute', _arrival)",
            ),
            false => error.hint(format!(
                "the table functions are {}",
                explainer.table_functions.iter().cloned().collect::<Vec<_>>().join(", ")
            )),
        }))
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Self::Break> {
        if let Expr::Value(ValueWithSpan { value: Value::Placeholder(_), span }) = expr {
            let error = self.explainer.error(Place::of(*span), "there are no parameters");
            return ControlFlow::Break(Box::new(error.hint("write the value")));
        }
        let Expr::Function(function) = expr else { return ControlFlow::Continue(()) };
        let Some(ident) = only_part(&function.name) else { return ControlFlow::Continue(()) };
        let (explainer, name) = (self.explainer, ident.value.to_lowercase());
        match explainer.functions.get(&name) {
            Some(&"window") if function.over.is_none() => {
                let error = explainer.error(Place::of(ident.span), format!("{name} looks at other rows"));
                return ControlFlow::Break(Box::new(
                    error.hint(format!("write {name}(…) OVER (ORDER BY …)")),
                ));
            }
            Some(_) if name != "count" && takes_all(&function.args) => {
                let error = explainer.error(Place::of(ident.span), format!("{name} takes no *"));
                return ControlFlow::Break(Box::new(error.hint("name a column; only count takes *")));
            }
            Some(_) => return ControlFlow::Continue(()),
            None if SPECIAL.contains(&name.as_str()) => return ControlFlow::Continue(()),
            None => {}
        }
        let error = explainer.error(Place::of(ident.span), format!("there is no function \"{name}\""));
        ControlFlow::Break(Box::new(match name.as_str() {
            "step" => error.hint("in a query, group by date_bin(INTERVAL '1 minute', _arrival)"),
            name => match plain::function_instead(name) {
                Some(instead) => error.hint(instead),
                None => match words::nearest(name, explainer.functions.keys().map(String::as_str)) {
                    Some(nearest) => error.hint(format!("did you mean \"{nearest}\"?")),
                    None => error.hint("SHOW FUNCTIONS lists all of them"),
                },
            },
        }))
    }
}

/// Functions that are part of the language and in no list.
const SPECIAL: [&str; 4] = ["grouping", "unnest", "struct", "row"];

fn takes_all(arguments: &FunctionArguments) -> bool {
    match arguments {
        FunctionArguments::List(list) => {
            list.args.iter().any(|arg| matches!(arg, FunctionArg::Unnamed(FunctionArgExpr::Wildcard)))
        }
        _ => false,
    }
}

fn only_part(name: &ObjectName) -> Option<&Ident> {
    match &name.0[..] {
        [part] => part.as_ident(),
        _ => None,
    }
}
