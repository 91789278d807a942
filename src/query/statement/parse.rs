//! Parses words into trees, with the parser's errors at their places.

use datafusion::sql::sqlparser::ast::{
    ColumnDef, Expr, Ident, ObjectName, ObjectNamePart, Query, SetExpr, Statement, TableObject,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::ALL_KEYWORDS;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan};

use super::dialect::{Marks, rewrite};
use super::fields::name_fields;
use super::problem::{Problem, Result, quoted};
use super::tokens::{is, is_token, lower_first, normal_text};

/// A parsed statement.
pub(super) enum Parsed {
    Stream(ParsedStream),
    Pump(Box<ParsedPump>),
}

pub(super) struct ParsedStream {
    pub(super) name: Ident,
    pub(super) columns: Vec<Ident>,
    /// The columns with their types, as text.
    pub(super) text: String,
    pub(super) replace: bool,
}

pub(super) struct ParsedPump {
    /// `None` for an `INSERT` alone.
    pub(super) name: Option<Ident>,
    pub(super) text: String,
    pub(super) stopped: bool,
    pub(super) target: Ident,
    pub(super) columns: Vec<Ident>,
    pub(super) query: Box<Query>,
    pub(super) marks: Marks,
}

/// Parses words with a function, which must use all of them.
pub(super) fn fragment<T>(
    words: &[TokenWithSpan],
    parse: impl FnOnce(&mut Parser<'_>) -> std::result::Result<T, ParserError>,
) -> Result<T> {
    let span = words.last().map_or(Span::empty(), |word| word.span);
    let end = TokenWithSpan::new(Token::EOF, Span::new(span.end, span.end));
    let tokens = words.iter().cloned().chain([end]).collect();
    let dialect = GenericDialect {};
    let mut parser = Parser::new(&dialect).with_tokens_with_locations(tokens);
    let problem = |error| match error {
        ParserError::ParserError(text) | ParserError::TokenizerError(text) => located(&text, span.start),
        ParserError::RecursionLimitExceeded => Problem::new(span, "the statement is nested too deeply")
            .hint("give the parts names: WITH part AS (SELECT …) SELECT …"),
    };
    let parsed = parse(&mut parser).map_err(problem)?;
    let rest = parser.peek_token();
    if rest.token != Token::EOF {
        let message = format!("{} is not expected here", rest.token);
        return Err(Problem::new(rest.span, message));
    }
    Ok(parsed)
}

/// The parser writes places into its texts: `Expected: x, found: y at Line: 1, Column: 8`.
fn located(text: &str, otherwise: Location) -> Problem {
    let parts = text.rsplit_once(" at Line: ").and_then(|(message, place)| {
        let (line, column) = place.split_once(", Column: ")?;
        Some((message, Location { line: line.parse().ok()?, column: column.parse().ok()? }))
    });
    let (message, place) = parts.unwrap_or((text, otherwise));
    let message = message.replace("Expected: ", "expected ").replace(", found: ", ", found ");
    let message = message.replace("found EOF", "found the end of the statement");
    Problem::new(place, lower_first(&message))
}

/// The name that an identifier stands for.
pub(super) fn name(ident: &Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() }
}

/// An identifier for a name, whatever its characters. Words of the language are quoted: a column may be called `user` or `order`.
pub(super) fn ident(name: &str) -> Ident {
    let is_word = || ALL_KEYWORDS.binary_search(&&*name.to_uppercase()).is_ok();
    if quoted(name) == name && !is_word() { Ident::new(name) } else { Ident::with_quote('"', name) }
}

/// The last part of a name that may have a catalog and a schema in front.
pub(super) fn single(object: &ObjectName) -> Result<&Ident> {
    match &object.0[..] {
        [ObjectNamePart::Identifier(ident)] => Ok(ident),
        [ObjectNamePart::Identifier(first), ..] => {
            let message = format!("{object} has several parts");
            Err(Problem::new(first, message)
                .hint("tables and columns have one name here; quote it if it has a dot"))
        }
        _ => Err(Problem::new(Location::empty(), format!("{object} is no name"))),
    }
}

/// Parses a statement.
pub(super) fn statement(words: &[TokenWithSpan]) -> Result<Parsed> {
    let first = words.first();
    if is(first, "CREATE") {
        let replace = is(words.get(1), "OR") && is(words.get(2), "REPLACE");
        let kind = if replace { 3 } else { 1 };
        return match words.get(kind) {
            word if is(word, "STREAM") => stream(words, kind, replace).map(Parsed::Stream),
            word if is(word, "PUMP") => pump(words, kind),
            word => {
                let word = word.unwrap_or(&words[kind - 1]);
                let problem = Problem::new(word.span, format!("CREATE {} is not possible", word.token));
                Err(problem.hint(
                    "write CREATE STREAM or CREATE PUMP; tables are put into the catalog by the program",
                ))
            }
        };
    }
    if is(first, "INSERT") {
        return insert(words, words, None, false);
    }
    let first = &words[0];
    let problem = Problem::new(first.span, format!("a continuous query does not begin with {}", first.token));
    Err(problem.hint("write INSERT INTO target SELECT … or CREATE PUMP name AS INSERT INTO target SELECT …"))
}

fn stream(words: &[TokenWithSpan], kind: usize, replace: bool) -> Result<ParsedStream> {
    let mut words = words.to_vec();
    if !words[kind + 1..].iter().any(|word| word.token == Token::LParen) {
        let place = words.last().expect("a statement has words").span;
        let hint = "write its columns: CREATE STREAM s (page VARCHAR, ms DOUBLE)";
        return Err(Problem::new(place, "the stream has no columns").hint(hint));
    }
    words[kind].token = Token::make_keyword("TABLE");
    let table = match fragment(&words, |parser| parser.parse_statement())? {
        Statement::CreateTable(table) if table.query.is_none() => table,
        _ => return Err(Problem::new(words[0].span, "this is no list of columns")),
    };
    if let Some(constraint) = table.constraints.first() {
        let problem = Problem::new(words[kind].span, format!("{constraint} is not kept"));
        return Err(problem.hint("streams have columns and NOT NULL, but no keys"));
    }
    let columns: Vec<Ident> = table.columns.iter().map(|column| column.name.clone()).collect();
    let names: Vec<String> = columns.iter().map(name).collect();
    for (place, column) in columns.iter().enumerate() {
        if names[..place].contains(&names[place]) {
            return Err(Problem::new(column, format!("there are two columns {column}")).hint("rename one"));
        }
        refuse_reserved(column)?;
    }
    let named =
        |(column, name): (&ColumnDef, &String)| ColumnDef { name: ident(name), ..column.clone() }.to_string();
    let text: Vec<String> = table.columns.iter().zip(&names).map(named).collect();
    Ok(ParsedStream { name: single(&table.name)?.clone(), columns, text: text.join(", "), replace })
}

/// Refuses names of system columns for other columns.
pub(super) fn refuse_reserved(ident: &Ident) -> Result<()> {
    const RESERVED: [&str; 15] = [
        "_shard",
        "_sequence",
        "_arrival",
        "_key",
        "_data",
        "_headers",
        "_time",
        "_rowtime",
        "_is_new",
        "_kept",
        "_place_shard",
        "_place_sequence",
        "_place_time",
        "window_start",
        "window_end",
    ];
    if !RESERVED.contains(&&*name(ident)) {
        return Ok(());
    }
    Err(Problem::new(ident, format!("{ident} is the name of a system column")).hint("choose another name"))
}

fn pump(words: &[TokenWithSpan], kind: usize) -> Result<Parsed> {
    let rest = &words[kind + 1..];
    let place = words[kind].span;
    let Some(TokenWithSpan { token: Token::Word(word), span }) = rest.first() else {
        return Err(
            Problem::new(place, "the pump has no name").hint("write CREATE PUMP name AS INSERT INTO …")
        );
    };
    let name = word.to_ident(*span);
    let stopped = is(rest.get(1), "STOPPED");
    let start = if stopped || is(rest.get(1), "STARTED") { 2 } else { 1 };
    if !is(rest.get(start), "AS") || !is(rest.get(start + 1), "INSERT") {
        let place = rest.get(start).map_or(*span, |word| word.span);
        let problem = Problem::new(place, "a pump is an INSERT with a name");
        return Err(problem.hint("write CREATE PUMP name AS INSERT INTO stream SELECT STREAM …"));
    }
    insert(words, &rest[start + 1..], Some(name), stopped)
}

fn insert(
    whole: &[TokenWithSpan],
    words: &[TokenWithSpan],
    name: Option<Ident>,
    stopped: bool,
) -> Result<Parsed> {
    let (words, marks) = rewrite(words)?;
    let place = words[0].span;
    if !is(words.get(1), "INTO") {
        return Err(Problem::new(place, "INTO is missing").hint("write INSERT INTO target SELECT …"));
    }
    if let Some(last) = words.last().filter(|last| is_token(Some(last), &Token::Comma)) {
        return Err(Problem::new(last.span, "the statement ends with a comma"));
    }
    let Statement::Insert(insert) = fragment(&words, |parser| parser.parse_statement())? else {
        return Err(Problem::new(place, "this is no INSERT").hint("write INSERT INTO target SELECT …"));
    };
    let TableObject::TableName(table) = &insert.table else {
        return Err(Problem::new(place, "the target is no name").hint("write INSERT INTO target SELECT …"));
    };
    let target = single(table)?.clone();
    let columns = insert.columns.iter().map(|column| single(column).cloned()).collect::<Result<_>>()?;
    let extra = insert.overwrite
        || insert.on.is_some()
        || insert.returning.is_some()
        || insert.partitioned.is_some()
        || !insert.assignments.is_empty()
        || insert.table_alias.is_some();
    if extra {
        let problem = Problem::new(&target, "this INSERT does more than to add rows");
        return Err(problem.hint("write INSERT INTO target [(columns)] SELECT …"));
    }
    let Some(query) = insert.source.filter(|query| !matches!(*query.body, SetExpr::Values(_))) else {
        let problem = Problem::new(&target, "the INSERT has no SELECT");
        return Err(problem.hint("write INSERT INTO target SELECT …; single records are put into the stream"));
    };
    let mut query = query;
    name_fields(&mut *query, self::name);
    let text = normal_text(whole);
    Ok(Parsed::Pump(Box::new(ParsedPump { name, text, stopped, target, columns, query, marks })))
}

/// Parses an expression.
pub(super) fn expr(words: &[TokenWithSpan]) -> Result<Expr> {
    fragment(words, |parser| parser.parse_expr())
}
