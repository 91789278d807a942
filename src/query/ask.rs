//! What a statement asks for.

use std::collections::HashMap;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Ident, ObjectName, Query, ShowStatementFilter, Spanned, Statement, Visit, Visitor, visit_relations,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use super::error::{Place, StatementError};
use super::headings;
use super::statement::fields::name_fields;
use super::words::{self, Names};

/// How deep a statement may be nested.
const DEPTH_MAX: usize = 50;
/// The most tables that a statement may name, where a name that stands for a query counts as the tables of that query, each time.
const TABLES_MAX: usize = 200;

/// A statement that only reads.
pub(super) enum Asked {
    /// A query, or the explanation of one.
    Query(Box<Statement>),
    /// `SHOW TABLES`
    Tables,
    /// `SHOW FUNCTIONS`
    Functions,
    /// `DESCRIBE t`
    Describe(Ident),
}

/// Parses a statement.
pub(super) fn parse(text: &str, names: &Names) -> Result<Asked, StatementError> {
    let mut tokens = words::split(text)?;
    names.resolve(&mut tokens);
    if tokens.is_empty() {
        return Err(StatementError::new(text, None, "the statement is empty").hint("write SELECT … FROM …"));
    }
    let first = tokens[0].clone();
    let parsed = parse_one(text, tokens);
    // A statement of another kind is refused as such, even if it has other faults.
    if let Some(refused) = refuse(text, &first, parsed.as_ref().ok()) {
        return Err(refused);
    }
    let asked = asked(text, parsed?)?;
    if let Asked::Query(statement) = &asked {
        check_tables(text, statement)?;
    }
    Ok(asked)
}

fn parse_one(text: &str, tokens: Vec<TokenWithSpan>) -> Result<Statement, StatementError> {
    if let Some(error) = continuous(text, &tokens) {
        return Err(error);
    }
    let known = tokens.clone();
    let mut parser =
        Parser::new(&GenericDialect {}).with_recursion_limit(DEPTH_MAX).with_tokens_with_locations(tokens);
    let mut statement = match parser.parse_statement() {
        Ok(statement) => statement,
        Err(error) => return Err(fault(text, &known, error)),
    };
    while parser.consume_token(&Token::SemiColon) {}
    let rest = parser.peek_token();
    if rest.token == Token::EOF {
        // Their words are resolved.
        name_fields(&mut statement, |field| field.value.clone());
        headings::write(&mut statement);
        return Ok(statement);
    }
    let place = Place::of(rest.span);
    let before = parser.get_current_token().clone();
    if before.token == Token::SemiColon {
        let error = StatementError::new(text, place, "there is more than one statement");
        return Err(error.hint("run them one by one"));
    }
    let found = place.and_then(|place| written(text, place)).unwrap_or_default();
    let error = StatementError::new(text, place, format!("expected the end of the statement, found {found}"));
    Err(match Place::of(before.span).and_then(|place| written(text, place)) {
        Some(word) => misspelt(error, &word, &["FROM", "WHERE", "GROUP", "ORDER", "HAVING", "LIMIT", "JOIN"]),
        None => error,
    })
}

/// Adds a hint if a word is almost a keyword.
fn misspelt(error: StatementError, word: &str, keywords: &[&str]) -> StatementError {
    match words::nearest(word, keywords.iter().copied()).filter(|keyword| !keyword.eq_ignore_ascii_case(word))
    {
        Some(keyword) => error.hint(format!("did you mean {keyword} instead of {word}?")),
        None => error,
    }
}

/// Returns the text at a place of a statement.
fn written(text: &str, place: Place) -> Option<String> {
    let line = text.lines().nth(place.line.checked_sub(1)?)?;
    let found: String = line.chars().skip(place.column.checked_sub(1)?).take(place.width).collect();
    (!found.is_empty()).then_some(found)
}

/// Refuses syntax that only continuous queries have, and syntax that would be misunderstood or not understood at all.
fn continuous(text: &str, tokens: &[TokenWithSpan]) -> Option<StatementError> {
    let is_word = |token: &TokenWithSpan, words: &[&str]| match &token.token {
        Token::Word(word) => {
            word.quote_style.is_none() && words.iter().any(|other| word.value.eq_ignore_ascii_case(other))
        }
        _ => false,
    };
    let (at, windows) = tokens.windows(3).find_map(|three| {
        let [one, two, three] = three else { return None };
        let is_stream = is_word(one, &["select"])
            && is_word(two, &["stream"])
            && (matches!(three.token, Token::Word(_)) && !is_word(three, &["from", "as"])
                || three.token == Token::Mul);
        let is_window = is_word(one, &["tumble", "hop", "cumulate", "session"])
            && two.token == Token::LParen
            && is_word(three, &["table"]);
        let is_step = is_word(one, &["step"])
            && two.token == Token::LParen
            && tokens
                .iter()
                .skip_while(|token| token.span.start < two.span.start)
                .take(32)
                .any(|token| is_word(token, &["by"]));
        let is_stagger = is_word(one, &["windowed"]) && is_word(two, &["by"]);
        match (is_stream, is_window || is_stagger || is_step) {
            (true, _) => Some((two.span, false)),
            (_, true) => Some((one.span, true)),
            _ => None,
        }
    })?;
    let place = Place::of(at);
    Some(match windows {
        true => StatementError::new(text, place, "windows that end by themselves are for continuous queries")
            .hint("in a query, group by date_bin(INTERVAL '1 minute', _arrival)"),
        false => StatementError::new(text, place, "SELECT STREAM is for continuous queries")
            .hint("leave out STREAM to read what is there"),
    })
}

/// Says in plain words what the parser did not understand.
pub(super) fn fault(text: &str, tokens: &[TokenWithSpan], error: ParserError) -> StatementError {
    let message = match error {
        ParserError::RecursionLimitExceeded => {
            let message = format!("the statement is nested more than {DEPTH_MAX} levels deep");
            return StatementError::new(text, None, message)
                .hint("write inner queries as WITH name AS (…), one after the other");
        }
        ParserError::TokenizerError(message) | ParserError::ParserError(message) => message,
    };
    // The parser appends the place to its message.
    let (message, place) = match message.rsplit_once(" at Line: ") {
        Some((message, place)) => (message.to_owned(), parse_place(place)),
        None => (message, None),
    };
    let is_there = |place: &Place| {
        let mut places = tokens.iter().filter_map(|token| Place::of(token.span));
        places.find(|token| (token.line, token.column) == (place.line, place.column))
    };
    let end = tokens.last().and_then(|token| Place::at(token.span.end));
    let place = place.map(|place| is_there(&place).unwrap_or(place)).or(end);
    let Some((expected, found)) = message.split_once(", found: ") else {
        return StatementError::new(text, place, message);
    };
    let expected = expected.trim_start_matches("Expected").trim_start_matches([':', ' ']);
    let expected = match expected {
        "an SQL statement" => "SELECT",
        "end of statement" => "the end of the statement",
        expected => expected,
    };
    if found == "EOF" {
        return StatementError::new(text, place, format!("expected {expected}, but the statement ends"));
    }
    let found = place.and_then(|place| written(text, place)).unwrap_or_else(|| found.to_owned());
    let error = StatementError::new(text, place, format!("expected {expected}, found {found}"));
    match expected {
        "SELECT" => misspelt(error, &found, &["SELECT", "WITH", "EXPLAIN", "SHOW", "DESCRIBE", "VALUES"]),
        _ => error,
    }
}

fn parse_place(text: &str) -> Option<Place> {
    let (line, column) = text.split_once(", Column: ")?;
    Some(Place { line: line.trim().parse().ok()?, column: column.trim().parse().ok()?, width: 1 })
}

/// Returns why a statement that does not only read is refused.
fn refuse(text: &str, first: &TokenWithSpan, parsed: Option<&Statement>) -> Option<StatementError> {
    let word = match &first.token {
        Token::Word(word) => word.value.to_uppercase(),
        _ => return None,
    };
    let (message, hint) = match word.as_str() {
        "INSERT" => ("a query only reads", "INSERT INTO begins a continuous query: start it as one"),
        "CREATE" | "DROP" | "ALTER" => (
            "a query only reads, and the tables are those of the catalog",
            "add the table to the catalog; CREATE STREAM and CREATE PUMP belong to continuous queries: start them as such",
        ),
        "UPDATE" | "DELETE" | "MERGE" | "TRUNCATE" => {
            ("the records of a stream never change", "retention drops them by age or size")
        }
        "COPY" | "UNLOAD" | "EXPORT" => {
            ("a query writes no files", "read its rows, and write them as CSV or JSON")
        }
        "SET" | "RESET" | "USE" => {
            ("a query has no settings", "how much memory it may use is a setting of the catalog")
        }
        "BEGIN" | "START" | "COMMIT" | "ROLLBACK" => {
            ("there are no transactions", "each query sees the streams as they were when it began")
        }
        "PREPARE" | "EXECUTE" | "DEALLOCATE" => {
            ("there are no prepared statements", "run the query itself; it is planned in about a millisecond")
        }
        _ => {
            let parsed = parsed?;
            let reads = matches!(
                parsed,
                Statement::Query(_)
                    | Statement::Explain { .. }
                    | Statement::ExplainTable { .. }
                    | Statement::ShowTables { .. }
                    | Statement::ShowFunctions { .. }
                    | Statement::ShowColumns { .. }
            );
            if reads {
                return None;
            }
            ("this is no query", "write SELECT, EXPLAIN, SHOW TABLES, SHOW FUNCTIONS or DESCRIBE")
        }
    };
    Some(StatementError::new(text, Place::of(first.span), message).hint(hint))
}

fn asked(text: &str, statement: Statement) -> Result<Asked, StatementError> {
    match statement {
        Statement::Explain { ref statement, .. } if !matches!(**statement, Statement::Query(_)) => {
            Err(StatementError::new(text, None, "only a query can be explained")
                .hint("write EXPLAIN SELECT …"))
        }
        Statement::ShowTables { ref show_options, .. } | Statement::ShowColumns { ref show_options, .. }
            if show_options.filter_position.is_some() =>
        {
            Err(StatementError::new(text, None, "SHOW takes no filter")
                .hint("write SHOW TABLES or DESCRIBE table"))
        }
        Statement::ShowTables { .. } => Ok(Asked::Tables),
        Statement::ShowFunctions { filter: None::<ShowStatementFilter> } => Ok(Asked::Functions),
        Statement::ShowFunctions { .. } => {
            Err(StatementError::new(text, None, "SHOW FUNCTIONS takes no filter")
                .hint("write SHOW FUNCTIONS"))
        }
        Statement::ExplainTable { table_name, .. } => Ok(Asked::Describe(only(text, &table_name)?)),
        Statement::ShowColumns { show_options, .. } => {
            let table = show_options.show_in.and_then(|within| within.parent_name);
            let table = table.ok_or_else(|| {
                StatementError::new(text, None, "SHOW COLUMNS needs a table").hint("write DESCRIBE table")
            })?;
            Ok(Asked::Describe(only(text, &table)?))
        }
        statement => Ok(Asked::Query(Box::new(statement))),
    }
}

/// Returns the name of a table, which has one part only.
fn only(text: &str, name: &ObjectName) -> Result<Ident, StatementError> {
    match &name.0[..] {
        [part] if part.as_ident().is_some() => Ok(part.as_ident().cloned().unwrap_or_else(|| Ident::new(""))),
        _ => {
            let place = Place::of(name.span());
            Err(StatementError::new(text, place, "the name of a table has one part")
                .hint("quote it if it has a dot in it: \"a.b\""))
        }
    }
}

/// Refuses a statement that would grow without bound while it is planned, because each of its queries names another one twice.
fn check_tables(text: &str, statement: &Statement) -> Result<(), StatementError> {
    let mut weights = Weights { totals: vec![0], ..Weights::default() };
    let _ = statement.visit(&mut weights);
    if weights.totals[0] <= TABLES_MAX {
        return Ok(());
    }
    let message =
        format!("the statement reads more than {TABLES_MAX} tables, counting those of each named query");
    Err(StatementError::new(text, None, message))
}

/// Counts the tables that queries read.
#[derive(Default)]
struct Weights {
    /// How many tables the visited query and the ones around it read so far; the statement itself first.
    totals: Vec<usize>,
    /// How many tables a name stands for.
    known: HashMap<String, usize>,
    /// The names of the named queries that were not visited yet, by where they are in memory.
    names: HashMap<*const Query, String>,
}

impl Visitor for Weights {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        for named in query.with.iter().flat_map(|with| &with.cte_tables) {
            self.names.insert(&raw const *named.query, named.alias.name.value.clone());
        }
        self.totals.push(0);
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<()> {
        let name = relation.0.last().and_then(|part| part.as_ident());
        let tables = name.and_then(|name| self.known.get(&name.value)).copied().unwrap_or(1);
        self.add(tables);
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let total = self.totals.pop().unwrap_or_default();
        if let Some(name) = self.names.remove(&(&raw const *query)) {
            self.known.insert(name, total.max(1));
        }
        self.add(total);
        ControlFlow::Continue(())
    }
}

impl Weights {
    fn add(&mut self, tables: usize) {
        if let Some(total) = self.totals.last_mut() {
            *total = total.saturating_add(tables);
        }
    }
}

/// Returns the names of all tables in a statement, also of those that stand for its own queries.
pub(super) fn tables_of(statement: &Statement) -> Vec<String> {
    let mut names = Vec::new();
    let _ = visit_relations(statement, |relation: &ObjectName| {
        names.extend(relation.0.last().and_then(|part| part.as_ident()).map(|name| name.value.clone()));
        ControlFlow::<()>::Continue(())
    });
    names
}
